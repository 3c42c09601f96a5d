//! What the agent's certificate says, and why it is not believed where it is not.
//!
//! Names in it are the agent's words, or those of whoever answers in its place: they are seen,
//! and never part of what mends.

use std::net::IpAddr;
use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;
use x509_parser::time::ASN1Time;

use super::certificates::{WHAT, dated};
use super::{Finding, Level};
use crate::connect::certificates;
use crate::presented::Presented;

/// Where the agent has it.
const THERE: &str = "put it in the place of the old one (tls.cert in the agent's configuration); \
                     the agent takes it over without a restart";

/// Judges what the agent at `host` has presented to a client that trusts the CAs of a file.
pub fn findings(presented: &Presented, host: &str, ca: Option<&Path>) -> Vec<Finding> {
    let now = ASN1Time::now();
    let renew = format!("get a new certificate from the agent's CA and {THERE}");
    let judge = |der| dated("the agent's certificate", der, now, &renew);
    let mut findings: Vec<_> = presented.certificates.iter().map(judge).collect();
    let out_of_date = findings.iter().any(|it| it.level == Level::Wrong);
    if let (Some(error), Some(own)) = (&presented.refused, presented.certificates.first()) {
        findings.extend(refused(error, own, host, ca, out_of_date));
    }
    findings
}

/// Why a certificate is refused; none where the findings about its dates say it.
fn refused(
    error: &Error,
    own: &CertificateDer<'_>,
    host: &str,
    ca: Option<&Path>,
    out_of_date: bool,
) -> Option<Finding> {
    let Ok((_, own)) = parse_x509_certificate(own) else {
        return None;
    };
    let certificate = format!("the agent's certificate ({})", own.subject());
    let wrong = |seen: String, mend: String| Some(Finding::wrong(WHAT, seen, mend));
    match error {
        Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) if out_of_date => None,
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => wrong(
            format!(
                "{certificate} is signed by {}, and by none of --ca: {}",
                own.issuer(),
                ca.map(subjects).unwrap_or_default()
            ),
            format!(
                "give --ca the certificate of who signed it, if you trust that CA\n\
                 else get one from a CA of --ca and {THERE}, with those between it and the CA \
                 behind it"
            ),
        ),
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => wrong(
            format!("{certificate} is for {}, not for {host}", names(&own)),
            format!(
                "give --endpoint one of these names, if it is the agent that you mean\n\
                 else get a certificate with subjectAltName={} and {THERE}",
                name(host)
            ),
        ),
        Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => wrong(
            format!("{certificate} is not for servers"),
            format!("get one with extendedKeyUsage=serverAuth and {THERE}"),
        ),
        other => wrong(
            format!("{certificate} is refused: {other}"),
            format!("get a new one from the agent's CA and {THERE}"),
        ),
    }
}

/// Whose certificates a file has.
fn subjects(ca: &Path) -> String {
    let found = certificates("ca", ca).unwrap_or_default();
    let subject = |der| Some(parse_x509_certificate(der).ok()?.1.subject().to_string());
    listed(found.iter().filter_map(|der| subject(der)))
}

/// The names that a certificate is for, as openssl writes them.
fn names(certificate: &X509Certificate<'_>) -> String {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let names = extension.map(|it| it.value.general_names.as_slice());
    listed(names.unwrap_or_default().iter().map(|name| match name {
        GeneralName::DNSName(dns) => format!("DNS:{dns}"),
        GeneralName::URI(uri) => format!("URI:{uri}"),
        GeneralName::IPAddress(bytes) => address(bytes).map_or_else(
            || format!("{bytes:02x?}"),
            |address| format!("IP:{address}"),
        ),
        other => other.to_string(),
    }))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// A host as a name of a certificate.
fn name(host: &str) -> String {
    let kind = match host.parse::<IpAddr>() {
        Ok(_) => "IP",
        Err(_) => "DNS",
    };
    format!("{kind}:{host}")
}

fn listed(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    match items.is_empty() {
        true => "nobody".to_owned(),
        false => items.join(", "),
    }
}
