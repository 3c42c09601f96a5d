//! TLS 1.3 with client certificates, and certificates that change while the agent runs.
//!
//! What the files hold is [`Material`], whole or not at all. Only where the agent's own certificate
//! has not begun or has expired does the old one stay in use, and whom to trust is new all the same.
//! A connection keeps what it was made with; a new one gets what is newest. A client whose
//! certificate expires, is revoked, or is of a CA that is no longer trusted is asked to end its
//! connection when that happens ([`Session::until_untrusted`]): its calls under way are answered
//! first. A new certificate of our own ends nothing.
//!
//! Sessions are not resumed: a resumed one would skip the check of the client's certificate.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime, pem::PemObject,
    },
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{info, warn};
use x509_parser::{extensions::GeneralName, parse_x509_certificate, prelude::X509Certificate};

use super::Protocol;
use crate::config::TlsConfig;

/// How long before its end a certificate of ours is warned about.
const RENEW: Duration = Duration::from_secs(14 * 24 * 3600);
/// How long a wait for a certificate's end may sleep, since the clock may be set meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// Why the files of `[tls]` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{key}: cannot read {}", path.display())]
    Read {
        /// The key in the configuration.
        key: &'static str,
        /// Its value.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{key}: {} {problem}", path.display())]
    Content {
        /// The key in the configuration.
        key: &'static str,
        /// Its value.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// The certificates in use, and how they change. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    files: TlsConfig,
    current: watch::Sender<Arc<Material>>,
    reloads: AtomicU64,
    failures: AtomicU64,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] when a file cannot be read, does not hold what its key says, or does not go with
    /// the others.
    pub fn open(files: TlsConfig) -> Result<Self, TlsError> {
        let material = Material::read(&files)?;
        material.warn(&files.cert);
        Ok(Self(Arc::new(Inner {
            files,
            current: watch::Sender::new(Arc::new(material)),
            reloads: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        })))
    }

    /// Where the certificates come from.
    #[must_use]
    pub fn files(&self) -> &TlsConfig {
        &self.0.files
    }

    /// How often changed files were taken over, and how often they could not be. Both count where of
    /// the files only the agent's certificate, which has expired, could not be.
    #[must_use]
    pub fn reloads(&self) -> (u64, u64) {
        (self.0.reloads.load(Relaxed), self.0.failures.load(Relaxed))
    }

    /// When the certificate in use ends.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.0.current.borrow().not_after
    }

    /// Warns of the certificate in use if it ends soon or is not valid now.
    pub(super) fn remind(&self) {
        self.0.current.borrow().warn(&self.0.files.cert);
    }

    /// Reads the files again. Files that cannot be used change nothing, and are warned about. While
    /// our own certificate has not begun, or has expired, only the clients' CAs and revocation lists
    /// are taken over. Of one that begins later, this returns when: the files are to be read again
    /// then.
    pub fn reload(&self) -> Option<SystemTime> {
        let files = &self.0.files;
        let current = self.0.current.borrow().clone();
        match Material::read(files) {
            Ok(new) if new.own == current.own && new.trusted == current.trusted => {}
            Ok(new) if new.is_to_come() && current.is_valid() => {
                let begins = new.not_before;
                warn!(
                    file = %files.cert.display(), not_before = seconds(begins),
                    "the new certificate is not valid yet; the old one stays in use, and the new \
                     one is taken over when it begins. If it should be valid now, look at the clock"
                );
                self.trust(new, &current);
                return Some(begins);
            }
            Ok(new) if !new.is_valid() && current.is_valid() => {
                self.0.failures.fetch_add(1, Relaxed);
                warn!(
                    file = %files.cert.display(), not_after = seconds(new.not_after),
                    "the new certificate has expired; the old one stays in use. Look at the \
                     clock, then issue it anew"
                );
                self.trust(new, &current);
            }
            Ok(new) => {
                self.0.reloads.fetch_add(1, Relaxed);
                info!(
                    not_after = seconds(new.not_after),
                    "certificates were taken over"
                );
                new.warn(&files.cert);
                self.0.current.send_replace(Arc::new(new));
            }
            Err(error) => {
                self.0.failures.fetch_add(1, Relaxed);
                let error = anyhow::Error::from(error);
                warn!(
                    error = format!("{error:#}"),
                    "the certificates cannot be taken over; the old ones stay in use. Mend the \
                     file; it is read again when it changes, or on SIGHUP"
                );
            }
        }
        None
    }

    /// Takes over whom to trust, and leaves the agent's own certificate as it is.
    fn trust(&self, new: Material, current: &Material) {
        if new.trusted == current.trusted {
            return;
        }
        self.0.reloads.fetch_add(1, Relaxed);
        info!("the clients' CAs and revocation lists were taken over");
        let new = new.with_certificate_of(current);
        self.0.current.send_replace(Arc::new(new));
    }

    /// The server's side of a handshake.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
        protocol: Protocol,
    ) -> io::Result<(TlsStream<TcpStream>, Session)> {
        let mut material = self.0.current.subscribe();
        let newest = material.borrow_and_update().clone();
        let config = match protocol {
            Protocol::Grpc => newest.grpc.clone(),
            Protocol::Http => newest.http.clone(),
        };
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let session = Session::new(chain, material).map_err(io::Error::other)?;
        Ok((stream, session))
    }
}

/// What the files hold.
struct Material {
    grpc: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
    not_before: SystemTime,
    not_after: SystemTime,
    /// The texts of certificate and key.
    own: (Vec<u8>, Vec<u8>),
    /// Those of the clients' CAs and of the revocation lists.
    trusted: (Vec<u8>, Option<Vec<u8>>),
}

impl std::fmt::Debug for Material {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Material {
    fn read(files: &TlsConfig) -> Result<Self, TlsError> {
        let cert = File::read("tls.cert", &files.cert)?;
        let key = File::read("tls.key", &files.key)?;
        let ca = File::read("tls.client_ca", &files.client_ca)?;
        let crl = files.client_crl.as_deref();
        let crl = crl
            .map(|path| File::read("tls.client_crl", path))
            .transpose()?;

        let provider = Arc::new(ring::default_provider());
        let chain = cert.certificates()?;
        let (not_before, not_after) = cert.validity(&chain)?;
        let verifier = verifier(&ca, crl.as_ref(), &provider)?;
        let private = PrivateKeyDer::from_pem_slice(&key.content)
            .map_err(|error| key.wrong(format!("holds no PEM private key: {error}")))?;
        let mut grpc = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| cert.wrong(error.to_string()))?
            .with_client_cert_verifier(verifier.clone())
            .with_single_cert(chain, private)
            .map_err(|error| key.wrong(format!("does not go with tls.cert: {error}")))?;
        grpc.session_storage = Arc::new(NoServerSessionStorage {});
        grpc.send_tls13_tickets = 0;
        grpc.alpn_protocols = vec![b"h2".to_vec()];
        let mut http = grpc.clone();
        http.alpn_protocols.push(b"http/1.1".to_vec());
        Ok(Self {
            grpc: Arc::new(grpc),
            http: Arc::new(http),
            verifier,
            not_before,
            not_after,
            own: (cert.content, key.content),
            trusted: (ca.content, crl.map(|it| it.content)),
        })
    }

    /// With the other's certificate and key; whom to trust stays.
    fn with_certificate_of(self, other: &Self) -> Self {
        let shown = |config: Arc<ServerConfig>| {
            let mut config = Arc::unwrap_or_clone(config);
            config.cert_resolver = other.grpc.cert_resolver.clone();
            Arc::new(config)
        };
        Self {
            grpc: shown(self.grpc),
            http: shown(self.http),
            not_before: other.not_before,
            not_after: other.not_after,
            own: other.own.clone(),
            ..self
        }
    }

    fn is_valid(&self) -> bool {
        (self.not_before..self.not_after).contains(&SystemTime::now())
    }

    fn is_to_come(&self) -> bool {
        SystemTime::now() < self.not_before
    }

    /// Warns the operator of what clients will refuse the certificate for, soon or now.
    fn warn(&self, file: &Path) {
        let file = file.display();
        let now = SystemTime::now();
        if now < self.not_before {
            let from = seconds(self.not_before);
            warn!(%file, not_before = from, "the agent's certificate is not valid yet, clients \
                   will refuse it; look at the clock");
        } else if now >= self.not_after {
            let until = seconds(self.not_after);
            warn!(%file, not_after = until, "the agent's certificate has expired, clients will \
                   refuse it; issue a new one, it is taken over at once");
        } else if now + RENEW >= self.not_after {
            let until = seconds(self.not_after);
            warn!(%file, not_after = until, "the agent's certificate expires soon; issue a new \
                   one, it is taken over at once");
        }
    }
}

fn verifier(
    ca: &File<'_>,
    crl: Option<&File<'_>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in ca.certificates()? {
        let added = roots.add(certificate);
        added.map_err(|error| ca.wrong(format!("holds no usable CA certificate: {error}")))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let Some(crl) = crl else {
        return builder.build().map_err(|error| ca.wrong(error.to_string()));
    };
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(&crl.content)
        .collect::<Result<_, _>>()
        .map_err(|error| crl.wrong(format!("is no PEM: {error}")))?;
    if lists.is_empty() {
        return Err(crl.wrong("holds no PEM revocation list".to_owned()));
    }
    builder
        .with_crls(lists)
        .allow_unknown_revocation_status()
        .build()
        .map_err(|error| crl.wrong(format!("cannot be used: {error}")))
}

/// A file of `[tls]`.
struct File<'a> {
    key: &'static str,
    path: &'a Path,
    content: Vec<u8>,
}

impl<'a> File<'a> {
    fn read(key: &'static str, path: &'a Path) -> Result<Self, TlsError> {
        let content = fs::read(path).map_err(|source| TlsError::Read {
            key,
            path: path.to_owned(),
            source,
        })?;
        Ok(Self { key, path, content })
    }

    fn wrong(&self, problem: String) -> TlsError {
        TlsError::Content {
            key: self.key,
            path: self.path.to_owned(),
            problem,
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&self.content)
            .collect::<Result<_, _>>()
            .map_err(|error| self.wrong(format!("is no PEM: {error}")))?;
        if certificates.is_empty() {
            return Err(self.wrong("holds no PEM certificate".to_owned()));
        }
        Ok(certificates)
    }

    fn validity(&self, chain: &[CertificateDer<'_>]) -> Result<(SystemTime, SystemTime), TlsError> {
        let first = chain.first().map(AsRef::as_ref).unwrap_or_default();
        let (_, certificate) = parse_x509_certificate(first)
            .map_err(|error| self.wrong(format!("holds no X.509 certificate: {error}")))?;
        Ok(validity(&certificate))
    }
}

fn validity(certificate: &X509Certificate<'_>) -> (SystemTime, SystemTime) {
    // A time before 1970 is taken for 1970, which makes no difference to any check.
    let time = |seconds: i64| UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or(0));
    let validity = certificate.validity();
    (
        time(validity.not_before.timestamp()),
        time(validity.not_after.timestamp()),
    )
}

/// Seconds since 1970, for logs.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs())
}

/// A client that has proven to have a certificate.
pub(super) struct Session {
    chain: Vec<CertificateDer<'static>>,
    names: Vec<String>,
    ends: SystemTime,
    material: watch::Receiver<Arc<Material>>,
}

impl Session {
    fn new(
        chain: &[CertificateDer<'_>],
        material: watch::Receiver<Arc<Material>>,
    ) -> Result<Self, String> {
        let first = chain.first().ok_or("the client has no certificate")?;
        let (_, certificate) = parse_x509_certificate(first).map_err(|error| error.to_string())?;
        Ok(Self {
            names: names(&certificate)?,
            // The last second is one of those in which it is good (RFC 5280, 4.1.2.5).
            ends: validity(&certificate).1 + Duration::from_secs(1),
            chain: chain.iter().map(|it| it.clone().into_owned()).collect(),
            material,
        })
    }

    /// The certificate's names as `URI:…` and `DNS:…`.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Waits until the certificate is no longer good, and says why.
    pub(super) async fn until_untrusted(mut self) -> String {
        loop {
            let now = SystemTime::now();
            let Ok(left) = self.ends.duration_since(now) else {
                return "its certificate has expired".to_owned();
            };
            // Both arms are cancel-safe.
            tokio::select! {
                changed = self.material.changed() => {
                    if changed.is_err() {
                        // Nobody changes them any more: the agent ends.
                        return std::future::pending().await;
                    }
                    let newest = self.material.borrow_and_update().clone();
                    if let Err(error) = self.check(&newest) {
                        return format!("its certificate is no longer accepted: {error}");
                    }
                }
                () = sleep_until(Instant::now() + left.min(LOOK_AGAIN)) => {}
            }
        }
    }

    fn check(&self, material: &Material) -> Result<(), rustls::Error> {
        let Some((first, rest)) = self.chain.split_first() else {
            return Err(rustls::Error::NoCertificatesPresented);
        };
        let now = UnixTime::now();
        material.verifier.verify_client_cert(first, rest, now)?;
        Ok(())
    }
}

fn names(certificate: &X509Certificate<'_>) -> Result<Vec<String>, String> {
    let extension = certificate
        .subject_alternative_name()
        .map_err(|error| format!("the certificate's names cannot be read: {error}"))?;
    let general = extension.map(|it| it.value.general_names.as_slice());
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some(format!("URI:{uri}")),
        GeneralName::DNSName(dns) => Some(format!("DNS:{dns}")),
        _ => None,
    };
    Ok(general
        .unwrap_or_default()
        .iter()
        .filter_map(name)
        .collect())
}
