//! The files that `--ca`, `--cert` and `--key` name: whether they can be read and are in date, and
//! whether nobody else can read the key.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustls::pki_types::CertificateDer;
use x509_parser::parse_x509_certificate;
use x509_parser::time::ASN1Time;

use super::Finding;
use crate::connect::{certificates, private_key};
use crate::failure::chain;
use crate::settings::TlsFiles;

/// What the findings are about.
pub const WHAT: &str = "certificates";

/// Sooner than this a certificate should be renewed. Days.
const SOON: i64 = 30;

/// What mends a certificate of this side.
const RENEW: &str =
    "get a new certificate from your CA and put it there; xpuctl reads it anew each time";

/// Looks at the three files.
pub fn findings(files: &TlsFiles) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (flag, file) in [("ca", &files.ca), ("cert", &files.cert)] {
        match file {
            None => findings.push(missing(flag)),
            Some(path) => findings.extend(certificate(flag, path, ASN1Time::now())),
        }
    }
    match &files.key {
        None => findings.push(missing("key")),
        Some(path) => findings.push(key(path)),
    }
    findings
}

fn missing(flag: &str) -> Finding {
    Finding::wrong(
        WHAT,
        format!("no --{flag} is given, and https:// needs one"),
        format!(
            "give --{flag} FILE, or set `{flag}` in the context of ~/.config/xpuctl/config.toml"
        ),
    )
}

fn certificate(flag: &'static str, path: &Path, now: ASN1Time) -> Vec<Finding> {
    let shown = path.display();
    match certificates(flag, path) {
        Err(error) => vec![Finding::wrong(
            WHAT,
            chain(&error),
            format!("put a PEM certificate there, or name another file with --{flag}"),
        )],
        Ok(found) => found
            .iter()
            .map(|der| dated(&format!("--{flag} {shown}"), der, now, RENEW))
            .collect(),
    }
}

/// Judges until when a certificate is good; `renew` is what mends it after that.
pub fn dated(file: &str, der: &CertificateDer<'_>, now: ASN1Time, renew: &str) -> Finding {
    let certificate = match parse_x509_certificate(der) {
        Ok((_, certificate)) => certificate,
        Err(error) => {
            let seen = format!("{file} can't be understood: {error}");
            return Finding::wrong(WHAT, seen, "put an X.509 certificate there");
        }
    };
    let subject = certificate.subject();
    let validity = certificate.validity();
    let days = (validity.not_after.timestamp() - now.timestamp()) / (24 * 60 * 60);
    if now > validity.not_after {
        let seen = format!("{file} ({subject}) expired on {}", validity.not_after);
        Finding::wrong(WHAT, seen, renew)
    } else if now < validity.not_before {
        let seen = format!("{file} ({subject}) begins only {}", validity.not_before);
        let mend = format!("see that the clock is right: timedatectl\nif it is: {renew}");
        Finding::wrong(WHAT, seen, mend)
    } else if days < SOON {
        let seen = format!("{file} ({subject}) expires in {days} days");
        Finding::notice(WHAT, seen, renew)
    } else {
        let seen = format!("{file} ({subject}) is good for {days} days");
        Finding::fine(WHAT, seen)
    }
}

fn key(path: &Path) -> Finding {
    let shown = path.display();
    if let Err(error) = private_key(path) {
        let mend = "put the certificate's PEM key there, or name another file with --key";
        return Finding::wrong(WHAT, chain(&error), mend);
    }
    // Bits for group and others.
    match fs::metadata(path) {
        Ok(file) if file.mode() & 0o077 != 0 => Finding::notice(
            WHAT,
            format!(
                "--key {shown} may be read by others (mode {:04o})",
                file.mode() & 0o7777
            ),
            format!("chmod 600 {shown}"),
        ),
        _ => Finding::fine(WHAT, format!("--key {shown} has a private key")),
    }
}
