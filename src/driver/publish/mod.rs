//! Connections to RTMP servers: resolving, TCP, TLS, and the address policy at the moment of dialling.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use socket2::SockRef;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::live::port::Connection;
use crate::live::port::Dial;
use crate::live::port::DialError;
use crate::model::fault::Fault;
use crate::model::fault::Faulty;
use crate::model::spec::RtmpEndpoint;

/// Half a second of a 4 Mbit/s programme. A larger one would hide seconds of backlog in the kernel, where nothing can be dropped.
const SEND_BUFFER: u32 = 256 * 1024;
/// Bytes that the kernel may hold unsent: a frame of a fast programme. What a link does not take waits in our own queue, where its age is known and
/// where it can be dropped; a full send buffer hides half a second of it.
const UNSENT: u32 = 16 * 1024;
/// Unacknowledged bytes for this long end the connection, so that a server that vanished without a word is noticed.
const USER_TIMEOUT: Duration = Duration::from_secs(10);
/// More addresses of one name are not tried.
const MAX_ADDRESSES: usize = 8;

/// How servers are reached.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// PEM file of certificate authorities trusted besides those of the web.
    pub extra_ca_file: Option<PathBuf>,
    /// Milliseconds for one address to accept the connection.
    pub connect_timeout_ms: u64,
    /// Milliseconds for resolving a name, and for the TLS handshake.
    pub tls_timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { extra_ca_file: None, connect_timeout_ms: 5000, tls_timeout_ms: 5000 }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum DialerError {
    #[error("the certificate file {path} cannot be read; it must be PEM with at least one certificate")]
    ExtraCa { path: PathBuf },
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

impl Faulty for DialerError {
    fn fault(&self) -> Fault {
        Fault::Internal
    }
}

/// Decides whether the gateway may dial this address for this host.
pub type Policy = Arc<dyn Fn(&str, SocketAddr) -> bool + Send + Sync>;

/// Dials RTMP servers.
pub struct Dialer {
    config: Config,
    policy: Policy,
    tls: TlsConnector,
}

impl Dialer {
    /// # Errors
    /// When the extra certificate file cannot be read.
    pub fn new(config: Config, policy: Policy) -> Result<Self, DialerError> {
        let mut roots: RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
        if let Some(path) = &config.extra_ca_file {
            let unreadable = || DialerError::ExtraCa { path: path.clone() };
            let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<_, _>>)
                .map_err(|_| unreadable())?;
            if roots.add_parsable_certificates(certificates).0 == 0 {
                return Err(unreadable());
            }
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { config, policy, tls: TlsConnector::from(Arc::new(tls)) })
    }

    fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.config.connect_timeout_ms)
    }

    fn tls_timeout(&self) -> Duration {
        Duration::from_millis(self.config.tls_timeout_ms)
    }

    /// Connects to the first address that answers.
    async fn connect(&self, endpoint: &RtmpEndpoint) -> Result<TcpStream, DialError> {
        let mut last = timed_out(endpoint);
        for address in self.check(endpoint).await? {
            match timeout(self.connect_timeout(), connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(source)) => {
                    last = DialError::Connect { host: endpoint.host.clone(), port: endpoint.port, source };
                }
                Err(_) => last = timed_out(endpoint),
            }
        }
        Err(last)
    }
}

#[async_trait]
impl Dial for Dialer {
    async fn dial(&self, endpoint: &RtmpEndpoint) -> Result<Box<dyn Connection>, DialError> {
        let stream = self.connect(endpoint).await?;
        if !endpoint.tls {
            return Ok(Box::new(stream));
        }
        let failed = |reason: String| DialError::Tls { host: endpoint.host.clone(), reason };
        let name = ServerName::try_from(endpoint.host.clone())
            .map_err(|_| failed("the host is not a name that certificates can hold".to_owned()))?;
        match timeout(self.tls_timeout(), self.tls.connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => Err(failed(tls_reason(&error))),
            Err(_) => Err(timed_out(endpoint)),
        }
    }

    async fn check(&self, endpoint: &RtmpEndpoint) -> Result<Vec<SocketAddr>, DialError> {
        let unresolved = || DialError::Resolve { host: endpoint.host.clone() };
        let resolving = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port));
        let resolved: Vec<SocketAddr> = match timeout(self.tls_timeout(), resolving).await {
            Ok(Ok(addresses)) => addresses.take(MAX_ADDRESSES).collect(),
            Ok(Err(_)) => return Err(unresolved()),
            Err(_) => return Err(timed_out(endpoint)),
        };
        let first = *resolved.first().ok_or_else(unresolved)?;
        // One forbidden address makes the name suspect, but the connection goes to an address that passed, so it may be dialled.
        let allowed: Vec<_> = resolved.into_iter().filter(|address| (self.policy)(&endpoint.host, *address)).collect();
        if allowed.is_empty() {
            return Err(DialError::Forbidden { host: endpoint.host.clone(), address: first.ip().to_string() });
        }
        Ok(allowed)
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_send_buffer_size(SEND_BUFFER)?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_notsent_lowat(UNSENT)?;
    Ok(stream)
}

fn timed_out(endpoint: &RtmpEndpoint) -> DialError {
    DialError::TimedOut { host: endpoint.host.clone(), port: endpoint.port }
}

/// What TLS says, without the words of a server that may not even speak it.
fn tls_reason(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(_)) => {
            "its certificate is not trusted, or is for another name".to_owned()
        }
        Some(rustls::Error::InvalidMessage(_)) => "it does not speak TLS there; is it rtmp:// on this port?".to_owned(),
        Some(_) => "the TLS handshake failed".to_owned(),
        None => "it closed the connection during the TLS handshake".to_owned(),
    }
}
