//! The certificates that an agent presents in a TLS handshake, kept whether they are accepted or
//! not.

use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

/// An agent's certificates.
#[derive(Clone, Debug)]
pub struct Presented {
    /// Its own, and those between it and the CA.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Why they are refused, if they are.
    pub refused: Option<Error>,
}

/// Records what a verifier is asked and what it answers, and answers the same.
#[derive(Debug)]
pub struct RecordingVerifier {
    verifier: Arc<WebPkiServerVerifier>,
    presented: OnceLock<Presented>,
}

impl RecordingVerifier {
    /// One beside this verifier, for one handshake.
    pub const fn of(verifier: Arc<WebPkiServerVerifier>) -> Self {
        Self {
            verifier,
            presented: OnceLock::new(),
        }
    }

    /// What has been presented, if the handshake came that far.
    pub fn presented(&self) -> Option<Presented> {
        self.presented.get().cloned()
    }
}

impl ServerCertVerifier for RecordingVerifier {
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
        self.presented.get_or_init(|| Presented {
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
