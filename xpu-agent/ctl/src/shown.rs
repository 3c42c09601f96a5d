//! What an agent shows of itself in a TLS handshake, kept whether it is accepted or not.

use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

/// An agent's certificates.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its own, and those between it and the CA.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Why they are refused, if they are.
    pub refused: Option<Error>,
}

/// Sees what a verifier is asked, and what it answers. It has no say in that.
#[derive(Debug)]
pub struct Witness {
    verifier: Arc<WebPkiServerVerifier>,
    shown: OnceLock<Shown>,
}

impl Witness {
    /// One beside this verifier, for one handshake.
    pub const fn of(verifier: Arc<WebPkiServerVerifier>) -> Self {
        Self {
            verifier,
            shown: OnceLock::new(),
        }
    }

    /// What has been shown, if the handshake came that far.
    pub fn shown(&self) -> Option<Shown> {
        self.shown.get().cloned()
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self
            .verifier
            .verify_server_cert(own, others, name, ocsp, now);
        let certificates = std::iter::once(own).chain(others);
        self.shown.get_or_init(|| Shown {
            certificates: certificates.map(|it| it.clone().into_owned()).collect(),
            refused: verdict.as_ref().err().cloned(),
        });
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
