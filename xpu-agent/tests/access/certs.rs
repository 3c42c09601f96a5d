//! Certificates as a test needs them, by rcgen.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

/// A certification authority.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

/// How a certificate differs from a good one.
pub struct Leaf<'a> {
    /// `URI:…` or `DNS:…`.
    pub names: &'a [&'a str],
    /// Seconds from now.
    pub from: i64,
    /// Seconds from now.
    pub until: i64,
    pub serial: u64,
    pub usage: ExtendedKeyUsagePurpose,
}

impl Leaf<'_> {
    /// A client's.
    pub fn good() -> Self {
        Self {
            names: &[],
            from: -3_600,
            until: 3_600,
            serial: 1,
            usage: ExtendedKeyUsagePurpose::ClientAuth,
        }
    }
}

impl Ca {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Who looks for the list of a CA goes by its name (RFC 5280, 6.3.3).
        let name = format!("CA {}", OffsetDateTime::now_utc().unix_timestamp_nanos());
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Certificate and key, PEM.
    pub fn issue(&self, leaf: &Leaf<'_>) -> (String, String) {
        let mut params = CertificateParams::default();
        let now = OffsetDateTime::now_utc();
        params.not_before = now + Duration::seconds(leaf.from);
        params.not_after = now + Duration::seconds(leaf.until);
        params.serial_number = Some(SerialNumber::from(leaf.serial));
        params.extended_key_usages = vec![leaf.usage.clone()];
        params.subject_alt_names = leaf
            .names
            .iter()
            .map(|name| match name.split_once(':').unwrap() {
                ("URI", uri) => SanType::URI(uri.try_into().unwrap()),
                ("DNS", dns) => SanType::DnsName(dns.try_into().unwrap()),
                other => panic!("{other:?}"),
            })
            .collect();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// What the agent shows, valid for `localhost`.
    pub fn issue_server(&self, serial: u64) -> (String, String) {
        self.issue(&Leaf {
            names: &["DNS:localhost"],
            serial,
            usage: ExtendedKeyUsagePurpose::ServerAuth,
            ..Leaf::good()
        })
    }

    /// A list that revokes these serial numbers.
    pub fn revoke(&self, serials: &[u64]) -> String {
        let now = OffsetDateTime::now_utc();
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now - Duration::hours(1),
            next_update: now + Duration::hours(1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

/// A client's files.
pub struct Identity {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Identity {
    pub fn write(directory: &Path, name: &str, (cert, key): (String, String)) -> Self {
        let identity = Self {
            cert: directory.join(format!("{name}.crt")),
            key: directory.join(format!("{name}.key")),
        };
        std::fs::write(&identity.cert, cert).unwrap();
        std::fs::write(&identity.key, key).unwrap();
        identity
    }
}

/// Puts a new file in the place of an old one, as who renews certificates does.
pub fn replace(path: &Path, content: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::rename(&new, path).unwrap();
}
