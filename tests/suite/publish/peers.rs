//! Servers of other makes, and RTMPS: what arrives is looked at with `ffprobe`.

use std::net::Ipv4Addr;
use std::net::TcpListener;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jamcast::driver::ingest;
use jamcast::driver::ingest::Ingest;
use jamcast::driver::publish;
use jamcast::driver::publish::Dialer;
use jamcast::live::destination::Config;
use jamcast::live::destination::Destination;
use jamcast::live::fanout::Fanout;
use jamcast::live::port::Dial;
use jamcast::live::port::DialError;
use jamcast::live::snapshot::DestinationState;
use jamcast::model::media::MediaKind;
use jamcast::model::secret::StreamKey;
use jamcast::model::spec::ProgrammeSpec;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use tokio::io::AsyncReadExt;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::publish::fixture;
use crate::publish::fixture::Programme;

/// Ends the process when the test does, however it does.
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

pub(crate) fn start_nginx(folder: &Path, port: u16) -> Running {
    let folder = folder.display();
    let text = format!(
        "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
        daemon off; master_process off; user root; pid {folder}/pid; error_log {folder}/error.log;
        events {{ worker_connections 64; }}
        rtmp {{ server {{ listen 127.0.0.1:{port}; application live {{ live on; record all; record_path {folder}; }} }} }}"
    );
    let file = format!("{folder}/nginx.conf");
    std::fs::write(&file, text).expect("a configuration");
    let child = Command::new("nginx").args(["-c", &file]).stderr(Stdio::null()).spawn().expect("nginx is installed");
    Running(child)
}

pub(crate) async fn wait_for_port(port: u16) {
    for _ in 0..100 {
        if tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nothing listens on port {port}");
}

#[tokio::test]
async fn nginx_records_every_frame() {
    let folder = tempfile::tempdir().expect("a folder");
    let port = free_port();
    let _nginx = start_nginx(folder.path(), port);
    wait_for_port(port).await;
    let programme = Programme::encode();
    programme.publish_to(fixture::endpoint(false, "127.0.0.1", port), publish::Config::default()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let files = fixture::files(folder.path());
    assert_eq!(files.len(), 1);
    let expected = (programme.count(MediaKind::Video), programme.count(MediaKind::Audio));
    assert_eq!(fixture::probe(&files[0]), expected);
}

/// A certificate authority of our own, and a TLS front for `localhost` that passes everything on to `port`.
async fn start_tls_front(ca_file: &Path, port: u16) -> u16 {
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::new(Vec::new()).expect("parameters");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(ca_file, ca.self_signed(&ca_key).expect("a certificate").pem()).expect("written");
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    let leaf = leaf.signed_by(&key, &issuer).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        )
        .expect("a server");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut secure = acceptor.accept(stream).await?;
                let mut plain = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
                tokio::io::copy_bidirectional(&mut secure, &mut plain).await
            });
        }
    });
    address.port()
}

#[tokio::test]
async fn rtmps_arrives_whole_and_only_with_a_trusted_certificate() {
    let folder = tempfile::tempdir().expect("a folder");
    let ca_file = folder.path().join("ca.pem");
    let ingest = Ingest::bind(ingest::Config {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        folder: folder.path().to_owned(),
        ..ingest::Config::default()
    })
    .await
    .expect("an ingest");
    let port = start_tls_front(&ca_file, ingest.address().port()).await;
    let (counters, shutdown) = (ingest.counters(), CancellationToken::new());
    let running = tokio::spawn(ingest.run(shutdown.clone()));

    let endpoint = fixture::endpoint(true, "localhost", port);
    let stranger = Dialer::new(publish::Config::default(), Arc::new(|_, _| true)).expect("a dialler");
    let refused = stranger.dial(&endpoint).await.err().expect("an unknown authority");
    assert!(matches!(refused, DialError::Tls { .. }) && refused.to_string().contains("not trusted"), "{refused}");

    let programme = Programme::encode();
    let config = publish::Config { extra_ca_file: Some(ca_file), ..publish::Config::default() };
    programme.publish_to(endpoint, config).await;
    shutdown.cancel();
    running.await.expect("it ends");
    assert_eq!(counters.publishes.load(Ordering::Relaxed), 1);
    let expected = (programme.count(MediaKind::Video), programme.count(MediaKind::Audio));
    assert_eq!(fixture::probe(&fixture::files(folder.path())[0]), expected);
}

/// Accepts connections, reads the greeting of each and resets it.
async fn start_resetting_server() -> u16 {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read_exact(&mut [0; 1000]).await;
            // Closing without lingering sends RST instead of FIN.
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    });
    port
}

#[tokio::test]
async fn a_reset_connection_is_dialled_again() {
    let port = start_resetting_server().await;
    let dialer = Dialer::new(publish::Config::default(), Arc::new(|_, _| true)).expect("a dialler");
    let fanout = Fanout::new();
    let destination = Destination::start(
        fixture::spec(fixture::endpoint(false, "127.0.0.1", port)),
        StreamKey::new(fixture::CANARY.to_owned()).expect("well formed"),
        &Config { first_retry_ms: 50, ..Config::default() },
        ProgrammeSpec::default(),
        Arc::new(dialer),
        fanout.subscribe(),
        &TaskTracker::new(),
    );
    let mut snapshot = destination.snapshot();
    let twice = snapshot.wait_for(|seen| seen.reconnects >= 2 && seen.state == DestinationState::Backoff);
    let seen = tokio::time::timeout(Duration::from_secs(10), twice).await.expect("in time").expect("running").clone();
    assert_eq!(seen.hint.as_deref(), Some("the server closed the connection"));
    destination.stop().await;
}

#[tokio::test]
async fn forbidden_addresses_are_not_dialled() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let careful =
        Dialer::new(publish::Config::default(), Arc::new(|_, address| !address.ip().is_loopback())).expect("a dialler");
    for host in ["127.0.0.1", "localhost"] {
        let refused = careful.dial(&fixture::endpoint(false, host, port)).await.err().expect("refused");
        assert!(matches!(refused, DialError::Forbidden { .. }), "{refused}");
    }
    let accepted = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
    assert!(accepted.is_err(), "a forbidden address was dialled");
}
