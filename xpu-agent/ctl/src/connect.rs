//! The connection to the agent: a unix socket, plain TCP, or TLS 1.3 with certificates on
//! both sides.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::http::uri::Scheme;
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, version};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::args::{Address, Way, bare};
use crate::failure::Failure;
use crate::presented::{Presented, RecordingVerifier};
use crate::settings::{Settings, TlsFiles};

/// Why there can be no TLS: nothing has been sent yet.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is needed and not named.
    #[error("{endpoint} needs --{flag} (or the context's `{flag}`): {what}, a PEM file")]
    Missing {
        /// As given.
        endpoint: String,
        /// The flag that names it.
        flag: &'static str,
        /// What is in it.
        what: &'static str,
    },
    /// A file can't be read, or there is nothing of the kind in it.
    #[error("--{flag} {path} has no {what}")]
    File {
        /// The flag that names it.
        flag: &'static str,
        /// Which.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
        /// Why not.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Certificate and key don't belong together, or are of an unknown kind.
    #[error("--cert and --key can't be used")]
    Pair(#[source] rustls::Error),
    /// The host is no name that a certificate can have.
    #[error("`{host}` is neither a DNS name nor an address")]
    Host {
        /// As given.
        host: String,
        /// Why.
        source: InvalidDnsNameError,
    },
}

/// When the connection is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At once: that an agent is away is reported before anything is done.
    Now,
    /// With the first call: for commands that wait for an agent that may be starting.
    Needed,
}

/// Connects.
///
/// # Errors
/// Where the agent can't be reached, or the certificates can't be used.
pub async fn connect(
    settings: &Settings,
    patience: Duration,
    when: When,
) -> Result<Channel, Failure> {
    let Address { text, way } = &settings.address;
    let unreachable = |source: Box<dyn Error + Send + Sync>| Failure::Unreachable {
        endpoint: text.clone(),
        source,
    };
    let endpoint = match way {
        Way::Plain(endpoint) | Way::Unix(endpoint) => endpoint.clone(),
        Way::Tls(uri) => Endpoint::from(without_tls(uri)),
    };
    let endpoint = endpoint.connect_timeout(patience);
    let channel = match (way, when) {
        (Way::Plain(_) | Way::Unix(_), When::Now) => endpoint.connect().await,
        (Way::Plain(_) | Way::Unix(_), When::Needed) => Ok(endpoint.connect_lazy()),
        (Way::Tls(uri), when) => {
            let Tls { config, name, .. } =
                Tls::new(text, uri, &settings.tls).map_err(Failure::Tls)?;
            let connector = TlsConnector::from(Arc::new(config));
            let endpoint = endpoint.origin(uri.clone());
            let connector =
                service_fn(move |uri: Uri| secured(connector.clone(), name.clone(), uri));
            match when {
                When::Now => endpoint.connect_with_connector(connector).await,
                When::Needed => Ok(endpoint.connect_with_connector_lazy(connector)),
            }
        }
    };
    channel.map_err(|error| unreachable(error.into()))
}

/// tonic refuses `https` without its own TLS, which can't be held to version 1.3. The agent gets
/// the right scheme all the same: requests have that of the `origin`.
fn without_tls(uri: &Uri) -> Uri {
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(Scheme::HTTP);
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

/// How long a server may be silent after the handshake. One of HTTP/2 begins with its settings.
const FIRST_WORD: Duration = Duration::from_secs(2);

/// In TLS 1.3 the client is done with the handshake before the server has looked at its
/// certificate. So the first bytes are waited for: a refusal arrives here, where it has a
/// reason, and not as a connection that breaks in the first call.
async fn secured(
    connector: TlsConnector,
    name: ServerName<'static>,
    uri: Uri,
) -> io::Result<TokioIo<BufReader<TlsStream<TcpStream>>>> {
    let stream = handshake(&connector, name, &uri).await?;
    let mut stream = BufReader::new(stream);
    if let Ok(first) = timeout(FIRST_WORD, stream.fill_buf()).await {
        first?;
    }
    Ok(TokioIo::new(stream))
}

async fn handshake(
    connector: &TlsConnector,
    name: ServerName<'static>,
    uri: &Uri,
) -> io::Result<TlsStream<TcpStream>> {
    let host = bare(uri.host().unwrap_or_default());
    let port = uri.port_u16().unwrap_or(443);
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    connector.connect(name, stream).await
}

/// A connection for HTTP/1.1 over TLS, to `https://HOST[:PORT]`.
///
/// # Errors
/// Where nobody is there, or the certificates can't be used, or don't hold.
pub async fn https(
    uri: &Uri,
    files: &TlsFiles,
) -> Result<TlsStream<TcpStream>, Box<dyn Error + Send + Sync>> {
    let mut tls = Tls::new(&uri.to_string(), uri, files)?;
    tls.config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = TlsConnector::from(Arc::new(tls.config));
    Ok(handshake(&connector, tls.name, uri).await?)
}

/// The certificates that the agent presents. None where there is no TLS, or no connection; why not,
/// [`connect`] reports.
pub async fn presented(settings: &Settings, patience: Duration) -> Option<Presented> {
    let Way::Tls(uri) = &settings.address.way else {
        return None;
    };
    let mut tls = Tls::new(&settings.address.text, uri, &settings.tls).ok()?;
    let verifier = Arc::new(RecordingVerifier::of(tls.verifier));
    let mut config = tls.config.dangerous();
    config.set_certificate_verifier(verifier.clone());
    let connector = TlsConnector::from(Arc::new(tls.config));
    // It fails where the certificates are refused; the verifier has recorded why.
    let _ = timeout(patience, handshake(&connector, tls.name, uri)).await;
    verifier.presented()
}

/// What a TLS connection is made of.
struct Tls {
    config: ClientConfig,
    /// The one that is in `config`.
    verifier: Arc<WebPkiServerVerifier>,
    /// The name that the agent's certificate must be for.
    name: ServerName<'static>,
}

impl Tls {
    fn new(endpoint: &str, uri: &Uri, files: &TlsFiles) -> Result<Self, TlsError> {
        let named = |file: &Option<PathBuf>, flag, what| {
            file.clone().ok_or_else(|| TlsError::Missing {
                endpoint: endpoint.to_owned(),
                flag,
                what,
            })
        };
        let ca = named(&files.ca, "ca", "the CA of the agents' certificates")?;
        let cert = named(&files.cert, "cert", "the client certificate")?;
        let key = named(
            &files.key,
            "key",
            "the private key of the client certificate",
        )?;

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = verifier(&ca, provider.clone())?;
        let pair = (certificates("cert", &cert)?, private_key(&key)?);
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .map_err(TlsError::Pair)?
            .with_webpki_verifier(verifier.clone())
            .with_client_auth_cert(pair.0, pair.1)
            .map_err(TlsError::Pair)?;
        config.alpn_protocols = vec![b"h2".to_vec()];

        let host = uri.host().unwrap_or_default();
        let name =
            ServerName::try_from(bare(host).to_owned()).map_err(|source| TlsError::Host {
                host: host.to_owned(),
                source,
            })?;
        Ok(Self {
            config,
            verifier,
            name,
        })
    }
}

/// What checks an agent's certificate by the CAs of a PEM file.
fn verifier(
    ca: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let unusable = |source| TlsError::File {
        flag: "ca",
        path: ca.to_owned(),
        what: "usable certificate",
        source,
    };
    let mut roots = RootCertStore::empty();
    for root in certificates("ca", ca)? {
        roots.add(root).map_err(|error| unusable(error.into()))?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| unusable(error.into()))
}

/// The certificates of a PEM file, at least one.
///
/// # Errors
/// Where there is none.
pub fn certificates(
    flag: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |source| TlsError::File {
        flag,
        path: path.to_owned(),
        what: "certificate",
        source,
    };
    let found = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.into()))?;
    let found: Vec<_> = found
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(error.into()))?;
    match found.is_empty() {
        true => Err(wrong("there is no BEGIN CERTIFICATE in it".into())),
        false => Ok(found),
    }
}

/// The private key of a PEM file.
///
/// # Errors
/// Where there is none.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| TlsError::File {
        flag: "key",
        path: path.to_owned(),
        what: "private key",
        source: error.into(),
    })
}
