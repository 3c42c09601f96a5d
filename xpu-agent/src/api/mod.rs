//! The API's edge: OPI's four services over the store and the board.
//!
//! **Does:** translate messages into the domain and back ([`convert`]), refuse what is wrong with
//! the field named ([`error`]), commit to the store, and wait until the machine has followed or
//! the deadline passes.
//!
//! **Never:** touches kernel or FRR, or lets a proto type out of this module.

mod convert;
mod deadline;
mod error;
pub mod page;
mod resource;
pub mod service;
mod wait;

use std::{future::Future, time::Duration};

use futures::TryFutureExt;
use tokio::time::{Instant, timeout_at};
use xpu_model::{FieldViolation, Id, ObjectKey};
use xpu_proto::FieldMask;

use crate::{
    reconcile::Board,
    store::{Missing, Share, Store, UpdateError},
};
use error::ApiError;
use page::Page;
pub use resource::{Field, Resource};

/// What all services share; cheap to clone.
#[derive(Clone)]
pub struct Api {
    store: Store,
    board: Board,
    /// The longest a change waits, for the store and for the machine.
    deadline: Duration,
}

impl Api {
    /// Serves this store and board.
    #[must_use]
    pub const fn new(store: Store, board: Board, deadline: Duration) -> Self {
        Self {
            store,
            board,
            deadline,
        }
    }

    /// The same for the caller of a request. One that comes without a share, as in tests, has all
    /// of the store's queue.
    fn of_caller(&self, extensions: &tonic::Extensions) -> Self {
        let share = extensions.get::<Share>().cloned();
        Self {
            store: share.map_or_else(|| self.store.clone(), |share| self.store.shared(share)),
            ..self.clone()
        }
    }

    async fn create<R: Resource>(
        &self,
        id: &str,
        message: Option<R::Message>,
        end: Instant,
    ) -> Result<R::Message, ApiError> {
        let id = match id {
            "" => Id::server(uuid::Uuid::new_v4()),
            text => Id::user(text).map_err(|error| invalid(R::ID_FIELD, &error))?,
        };
        let message = message.ok_or_else(|| missing(R::MESSAGE_FIELD))?;
        // The message goes with this: what it takes in memory is not to wait for the machine.
        let spec = parse_spec::<R>(R::given(message).1.as_ref())?;
        let create = self.store.create(id.clone(), spec);
        stored::<R, _>(&id, end, create.map_err(ApiError::store::<R>)).await?;
        self.answer::<R>(&id, end).await
    }

    fn get<R: Resource>(&self, name: &str) -> Result<R::Message, ApiError> {
        let key = parse_name::<R>("name", name)?;
        let said = self.board.said();
        let intent = self.store.intent();
        // A tombstone is shown until it is gone: its deletion is the news.
        match R::objects(&intent).get(&key.id) {
            Some(object) => Ok(wait::message(object, &said)),
            None => Err(ApiError::not_found::<R>(key)),
        }
    }

    fn list<R: Resource>(
        &self,
        size: i32,
        token: &str,
    ) -> Result<(Vec<R::Message>, String), ApiError> {
        let page = Page::parse(R::KIND, size, token)?;
        let said = self.board.said();
        let intent = self.store.intent();
        Ok(page.cut(R::objects(&intent), |object| wait::message(object, &said)))
    }

    async fn update<R: Resource>(
        &self,
        message: Option<R::Message>,
        mask: Option<FieldMask>,
        allow_missing: bool,
        end: Instant,
    ) -> Result<R::Message, ApiError> {
        let message = message.ok_or_else(|| missing(R::MESSAGE_FIELD))?;
        let field = format!("{}.name", R::MESSAGE_FIELD);
        let (name, change) = R::given(message);
        let id = parse_name::<R>(&field, &name)?.id;
        let change = change.unwrap_or_default();
        let fields = resource::selected::<R>(mask, &change)?;
        let new_id = id.clone();
        let edit = move |current: Option<&R>| match current {
            // AIP-134: an upsert takes the whole resource, whatever the mask; its id is a user's.
            None => {
                Id::user(new_id.as_str()).map_err(|error| invalid(&field, &error))?;
                parse_spec::<R>(Some(&change))
            }
            Some(current) => {
                let mut spec = current.print();
                for field in fields {
                    (field.copy)(&change, &mut spec);
                }
                parse_spec::<R>(Some(&spec))
            }
        };
        let missing = if allow_missing {
            Missing::Create
        } else {
            Missing::Refuse
        };
        let update = self.store.update(id.clone(), missing, edit);
        let update = update.map_err(|error| match error {
            UpdateError::Store(error) => ApiError::store::<R>(error),
            UpdateError::Edit(error) => error,
        });
        stored::<R, _>(&id, end, update).await?;
        self.answer::<R>(&id, end).await
    }

    async fn delete<R: Resource>(
        &self,
        name: &str,
        allow_missing: bool,
        end: Instant,
    ) -> Result<(), ApiError> {
        let key = parse_name::<R>("name", name)?;
        let delete = self.store.delete::<R>(key.id.clone());
        let delete = delete.map_err(ApiError::store::<R>);
        let generation = match stored::<R, _>(&key.id, end, delete).await {
            Ok(tombstone) => tombstone,
            Err(error) if error.is_not_found() => {
                let intent = self.store.intent();
                match R::objects(&intent).get(&key.id) {
                    // A tombstone: deleted already, which is what a retry of Delete finds. One
                    // that lives was created since, by a call that comes after this one.
                    Some(object) if object.deleting => object.generation,
                    _ if allow_missing => return Ok(()),
                    _ => return Err(ApiError::not_found::<R>(key)),
                }
            }
            Err(error) => return Err(error),
        };
        self.wait_gone::<R>(&key, generation, end).await;
        Ok(())
    }

    /// Runs a change until the time its caller gives it is over, the agent's own bound at most.
    /// The time runs from here: what the store takes of it is not there for the machine.
    async fn within<T, F: Future<Output = Result<T, ApiError>>>(
        &self,
        metadata: &tonic::metadata::MetadataMap,
        change: impl FnOnce(Instant) -> F,
    ) -> Result<tonic::Response<T>, tonic::Status> {
        let end = Instant::now() + deadline::of(metadata, self.deadline);
        Ok(tonic::Response::new(change(end).await?))
    }
}

/// Waits until the store has made a change of an `R`, or `end`: the store has the request by then
/// and makes the change all the same.
async fn stored<R: Resource, T>(
    id: &Id,
    end: Instant,
    change: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let late = |_| Err(ApiError::Late { key: R::key(id) });
    timeout_at(end, change).await.unwrap_or_else(late)
}

/// Reads a spec; violations name their fields by the paths in the request.
fn parse_spec<R: Resource>(spec: Option<&R::SpecMessage>) -> Result<R, ApiError> {
    let spec = spec.ok_or_else(|| missing(&format!("{}.spec", R::MESSAGE_FIELD)))?;
    R::parse(spec).map_err(|mut violations| {
        for violation in &mut violations {
            violation.field = format!("{}.{}", R::MESSAGE_FIELD, violation.field);
        }
        ApiError::Invalid(violations)
    })
}

fn parse_name<R: Resource>(field: &str, name: &str) -> Result<ObjectKey, ApiError> {
    if name.is_empty() {
        return Err(missing(field));
    }
    ObjectKey::parse(R::KIND, name).map_err(|error| invalid(field, &error))
}

fn invalid(field: &str, error: &impl ToString) -> ApiError {
    ApiError::Invalid(vec![FieldViolation {
        field: field.to_owned(),
        description: error.to_string(),
    }])
}

fn missing(field: &str) -> ApiError {
    invalid(field, &"is required")
}

#[cfg(test)]
mod tests;
