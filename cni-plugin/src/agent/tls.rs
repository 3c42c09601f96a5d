//! The connection to an agent of another machine: TLS 1.3, certificates on both sides.

use std::{
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, CertificateError, ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{
            CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName,
            pem::{self, PemObject},
        },
        version::TLS13,
    },
};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::TlsFiles;
use crate::budget::TCP_LIMIT;

/// Why a file of the certificates can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It can't be read, or holds none of what it should.
    #[error("`{key}`: {} {what}", path.display())]
    File {
        /// The configuration's key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Certificate and key don't go together, or are of a kind that isn't known.
    #[error(
        "`tls.cert` {} and `tls.key` {} can't be used together; give the certificate's own key",
        cert.display(), key.display()
    )]
    Identity {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The compiled-in cryptography has no TLS 1.3.
    #[error("this program can't do TLS 1.3; install one that can")]
    Version(#[source] rustls::Error),
}

/// What connections are made with.
#[derive(Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    files: TlsFiles,
    ended: Ended,
}

/// Why a connection ended, where it did by an error. TLS 1.3 lets a client talk before its own
/// certificate is looked at: that this isn't taken comes late, as an alert, and HTTP/2 makes a
/// mere "connection closed" of it.
#[derive(Debug, Clone, Default)]
pub struct Ended(Arc<OnceLock<String>>);

impl Ended {
    /// In words.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    fn note(&self, error: &io::Error) {
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let words = match inner {
            Some(rustls::Error::AlertReceived(alert)) => {
                format!("it doesn't take our certificate ({alert:?})")
            }
            _ => error.to_string(),
        };
        self.know(words);
    }

    fn know(&self, words: String) {
        // The first one is the cause of those that follow.
        let _known = self.0.set(words);
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] for a file that can't be read or used, by its key in the configuration.
    pub fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let [(ca_at, ca), (cert_at, cert), (key_at, key)] = files.each();
        let mut roots = RootCertStore::empty();
        for root in certificates(ca_at, ca)? {
            roots
                .add(root)
                .map_err(|error| file(ca_at, ca, format!("holds a bad one: {error}")))?;
        }
        let chain = certificates(cert_at, cert)?;
        let private = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| file(key_at, key, words(&error, "key")))?;
        let mut config = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_protocol_versions(&[&TLS13])
            .map_err(TlsError::Version)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, private)
            .map_err(|source| TlsError::Identity {
                cert: cert.clone(),
                key: key.clone(),
                source,
            })?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            config: Arc::new(config),
            files: files.clone(),
            ended: Ended::default(),
        })
    }

    /// Tells why the connection ended, from then on.
    #[must_use]
    pub fn ended(&self) -> Ended {
        self.ended.clone()
    }

    /// Connects.
    ///
    /// # Errors
    /// The transport's, with one in words at its end where a side doesn't trust the other.
    pub async fn connect(self, endpoint: &Endpoint) -> Result<Channel, tonic::transport::Error> {
        let tls = Arc::new(self);
        let connector = service_fn(move |uri: Uri| {
            let tls = Arc::clone(&tls);
            async move { Ok::<_, io::Error>(TokioIo::new(tls.open(&uri).await?)) }
        });
        // What this connects is a secure stream already. Where another crate of the same build has
        // tonic's own TLS, tonic would take an https:// address for one that it is to secure.
        let origin = endpoint.uri().clone();
        let authority = origin
            .authority()
            .map_or("", |authority| authority.as_str());
        let endpoint = Endpoint::from_shared(format!("http://{authority}"))?.origin(origin.clone());
        endpoint.connect_with_connector(connector).await
    }

    async fn open(&self, uri: &Uri) -> io::Result<Watched> {
        // An IPv6 address is bracketed in a URI, and in no certificate.
        let host = uri.host().unwrap_or_default();
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(name.to_owned())
            .map_err(|error: InvalidDnsNameError| io::Error::other(error))?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let found: Vec<_> = lookup_host(authority).await?.collect();
        let tcp = timeout(TCP_LIMIT, TcpStream::connect(&*found)).await??;
        tcp.set_nodelay(true)?;
        let connected = TlsConnector::from(Arc::clone(&self.config))
            .connect(name, tcp)
            .await;
        Ok(Watched {
            stream: connected.map_err(|error| {
                let error = self.explain(host, error);
                self.ended.know(error.to_string());
                error
            })?,
            ended: self.ended(),
        })
    }

    /// The peer as we found it, in words that say where to look.
    fn explain(&self, host: &str, error: io::Error) -> io::Error {
        use CertificateError as Bad;

        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let Some(rustls::Error::InvalidCertificate(bad)) = inner else {
            return error;
        };
        let words = match bad {
            Bad::UnknownIssuer | Bad::BadSignature => {
                format!(
                    "no CA of {} has signed its certificate",
                    self.files.ca.display()
                )
            }
            Bad::Expired | Bad::ExpiredContext { .. } => "its certificate has expired".to_owned(),
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                format!("its certificate is not for {host}")
            }
            other => format!("its certificate is not accepted: {other}"),
        };
        io::Error::other(words)
    }
}

/// A connection that notes the error it ends by.
struct Watched {
    stream: TlsStream<TcpStream>,
    ended: Ended,
}

impl Watched {
    /// Who closes says why before: that is still to be read when writing fails, though the
    /// runtime, which has seen the socket writable only, wouldn't read it yet.
    fn hear(&mut self, error: &io::Error) {
        let (tcp, session) = self.stream.get_mut();
        let socket = tcp.as_fd().try_clone_to_owned();
        let said = socket.map(std::net::TcpStream::from).and_then(|mut tcp| {
            session.read_tls(&mut tcp)?;
            session.process_new_packets().map_err(io::Error::other)
        });
        match said {
            Err(said) if said.kind() != io::ErrorKind::WouldBlock => self.ended.note(&said),
            Err(_) | Ok(_) => self.ended.note(error),
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        Poll::Ready(read.inspect_err(|error| self.ended.note(error)))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        Poll::Ready(wrote.inspect_err(|error| self.hear(error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        Poll::Ready(flushed.inspect_err(|error| self.hear(error)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if found.is_empty() => Err(file(key, path, "holds no certificate".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(file(key, path, words(&error, "certificate"))),
    }
}

fn words(error: &pem::Error, what: &str) -> String {
    match error {
        pem::Error::Io(error) => format!("can't be read: {error}"),
        pem::Error::NoItemsFound => format!("holds no {what}"),
        other => format!("is no PEM file: {other}"),
    }
}

fn file(key: &'static str, path: &Path, what: String) -> TlsError {
    TlsError::File {
        key,
        path: path.to_owned(),
        what,
    }
}
