//! The guard: a layer around the API's routes that lets through what the policy allows.
//!
//! It goes by the request's [`Caller`] extension. A request without one is nobody's: whoever
//! passes requests on in process (the HTTP gateway) must pass their extensions on too.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::{Either, Ready, ok};
use http::{Request, Response};
use tonic::{Status, service::Routes};
use tower::{Layer, Service};
use tracing::info;
use xpu_model::shown::shown;

use super::{
    Caller, Refusal,
    log_throttle::LogThrottle,
    policy::{self, Method},
};

/// Decides about one request.
///
/// # Errors
/// [`Refusal`] when nobody is known to be the caller, none of its roles may call the method, or no
/// rule has the path.
pub fn check(caller: Option<&Caller>, path: &str) -> Result<(), Refusal> {
    let unauthenticated = |least| Refusal::Unauthenticated {
        method: shown(path),
        caller: caller.cloned(),
        least,
    };
    let parsed = path.parse::<Method>();
    let least = parsed.map_or(policy::Role::Admin, policy::least);
    let Some(known) = caller.filter(|it| it.is_authenticated() || !it.roles().is_empty()) else {
        return Err(unauthenticated(least));
    };
    let forbidden = Refusal::Forbidden {
        method: shown(path),
        caller: known.clone(),
        least,
    };
    match parsed {
        _ if known.roles().is_empty() => Err(forbidden),
        Err(policy::Unknown) => Err(Refusal::NoRule {
            method: shown(path),
        }),
        Ok(method)
            if known
                .roles()
                .iter()
                .any(|role| policy::allowed(*role, method)) =>
        {
            Ok(())
        }
        Ok(_) => Err(forbidden),
    }
}

/// Puts a [`Guard`] around a service.
#[derive(Clone, Debug, Default)]
pub struct GuardLayer {
    refusals: Arc<LogThrottle>,
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        let refusals = self.refusals.clone();
        Guard { inner, refusals }
    }
}

/// A service that only allowed requests reach.
#[derive(Clone, Debug)]
pub struct Guard<S> {
    inner: S,
    refusals: Arc<LogThrottle>,
}

impl<S, B, R> Service<Request<B>> for Guard<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response<R>, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match check(request.extensions().get(), request.uri().path()) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(refusal) => {
                if let Some(more) = self.refusals.tell() {
                    info!(%refusal, more, "refused");
                }
                Either::Right(ok(Status::from(refusal).into_http()))
            }
        }
    }
}

/// The routes of the API behind a guard. A request needs its [`Caller`] as an extension,
/// whichever way it comes.
#[must_use]
pub fn around(routes: Routes) -> Routes {
    Routes::from(routes.into_axum_router().layer(GuardLayer::default())).prepare()
}

#[cfg(test)]
#[path = "tests/guard.rs"]
mod tests;
