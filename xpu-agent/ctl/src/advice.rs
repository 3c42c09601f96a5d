//! What an operator can do next, after a refusal or without a connection.

use std::error::Error;
use std::io;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use xpu_model::Kind;

use crate::commands::Session;

/// The kind as it is typed.
pub const fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Vrf => "vrf",
        Kind::LogicalBridge => "logical-bridge",
        Kind::BridgePort => "bridge-port",
        Kind::Svi => "svi",
    }
}

/// After the agent's word on `verb`.
pub fn refused(session: &Session, kind: Kind, verb: &str, status: &Status) -> String {
    let kind = word(kind);
    match status.code() {
        Code::InvalidArgument => {
            format!("correct what is named above; `xpuctl {verb} {kind} --help` lists the flags")
        }
        Code::AlreadyExists => format!(
            "`xpuctl describe {kind} NAME` shows the one there is; `xpuctl update {kind}` changes \
             it, or choose another id"
        ),
        Code::NotFound => format!("`xpuctl list {kind}` shows what there is"),
        Code::FailedPrecondition => "change what is named above first, then try again".to_owned(),
        Code::DeadlineExceeded | Code::Cancelled => format!(
            "the agent may still be at it: `xpuctl list {kind}` shows how far it is; --timeout \
             waits longer than {:?}",
            session.agent.timeout
        ),
        // What is used up comes back by itself only where the agent says when.
        Code::ResourceExhausted => {
            let info = status.get_details_retry_info();
            match info.and_then(|info| info.retry_delay) {
                Some(delay) => format!("try again in {delay:?}"),
                None => "change what is named above; the same would be refused again".to_owned(),
            }
        }
        Code::Unavailable | Code::Aborted => {
            "try again in a moment; the agent's log says what it is busy with".to_owned()
        }
        Code::PermissionDenied | Code::Unauthenticated => {
            "ask as a user, or with a certificate, whom the agent's configuration lets do this"
                .to_owned()
        }
        Code::Unimplemented => format!(
            "see that {} is an xpu-agent, and one as new as xpuctl",
            session.endpoint
        ),
        _ => "the agent's log says more".to_owned(),
    }
}

/// Without a connection: the one thing that is most likely wrong.
pub fn unreachable(endpoint: &str, error: &(dyn Error + Send + Sync + 'static)) -> String {
    let start = "see that xpu-agent runs (`systemctl status xpu-agent`)";
    let secured = endpoint.starts_with("https://");
    if let Some(error) = find::<rustls::Error>(error) {
        return handshake(error);
    }
    match find::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::PermissionDenied) => {
            "only the agent's user may open its socket: use sudo".to_owned()
        }
        Some(io::ErrorKind::NotFound) => {
            format!("{start} and that its `api.unix` is this path; --endpoint names another")
        }
        Some(io::ErrorKind::ConnectionRefused) => {
            format!("{start} and listens there; --endpoint names another address")
        }
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof) if secured => {
            "the agent hung up: see that it speaks TLS there, and its log for what it has \
             against the certificate"
                .to_owned()
        }
        _ => format!("{start} and that this user may open its socket; --endpoint names another"),
    }
}

fn handshake(error: &rustls::Error) -> String {
    use rustls::{AlertDescription, CertificateError, Error};
    match error {
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => {
            "--ca is not who signed the agent's certificate: take the CA that did (`xpuctl \
             doctor` shows who that is)"
        }
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => {
            "the agent's certificate has expired: put a new one in its place (`xpuctl doctor` shows \
             since when)"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => {
            "the agent's certificate is not good yet: see that the clock is right (timedatectl); \
             `xpuctl doctor` shows from when it is"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "the agent's certificate is for another name: use that name as the host (`xpuctl \
             doctor` shows its names)"
        }
        Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            "that server has no TLS 1.3; see that it is an xpu-agent"
        }
        Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "--cert has expired: get a new one (`xpuctl doctor` shows until when it is good)"
        }
        Error::AlertReceived(_) => {
            "the agent refuses --cert: it must be signed by the CA of the agent's \
             configuration; `xpuctl doctor` shows what it says"
        }
        Error::InvalidMessage(_) => "no TLS is spoken there: is it http://?",
        _ => "see the certificates on both sides; `xpuctl doctor` checks these",
    }
    .to_owned()
}

/// The first cause of a type. An [`io::Error`] hides what it was made of, so that is looked at
/// too.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<E>() {
            return Some(found);
        }
        let inner = cause.downcast_ref::<io::Error>();
        let inner = inner.and_then(|error| error.get_ref());
        next = match inner {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    None
}
