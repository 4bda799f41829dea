//! The ingest takes what real publishers send, and survives what others do.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jamcast::driver::ingest::Config;
use jamcast::driver::ingest::Counters;
use jamcast::driver::ingest::Ingest;
use jamcast::driver::publish;
use jamcast::model::media::MediaKind;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

use crate::publish::fixture;
use crate::publish::fixture::Programme;

struct Started {
    address: SocketAddr,
    counters: Arc<Counters>,
    _shutdown: DropGuard,
}

async fn start(config: Config, folder: &Path) -> Started {
    let config = Config { listen: (Ipv4Addr::LOCALHOST, 0).into(), folder: folder.to_owned(), ..config };
    let ingest = Ingest::bind(config).await.expect("an ingest");
    let shutdown = CancellationToken::new();
    let (address, counters) = (ingest.address(), ingest.counters());
    tokio::spawn(ingest.run(shutdown.clone()));
    Started { address, counters, _shutdown: shutdown.drop_guard() }
}

async fn wait_for_files(counters: &Counters, count: u64) {
    for _ in 0..200 {
        if counters.finished.load(Ordering::Acquire) >= count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("no file was completed: {counters:?}");
}

/// Lets ffmpeg publish with this key and says whether it was content.
async fn ffmpeg(address: SocketAddr, key: &str) -> bool {
    let url = format!("rtmp://{address}/live/{key}");
    let run = move || {
        Command::new("ffmpeg")
            .args(["-v", "error"])
            .args(fixture::SOURCES)
            .args(fixture::ENCODERS)
            .arg(url)
            .output()
            .expect("ffmpeg is installed")
    };
    tokio::task::spawn_blocking(run).await.expect("it ends").status.success()
}

#[tokio::test]
async fn what_ffmpeg_publishes_is_a_clean_file_that_does_not_bear_the_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let ingest = start(Config::default(), folder.path()).await;
    assert!(ffmpeg(ingest.address, fixture::CANARY).await);
    wait_for_files(&ingest.counters, 1).await;
    let files = fixture::files(folder.path());
    assert!(!files[0].display().to_string().contains(fixture::CANARY));
    let (pictures, sounds) = fixture::probe(&files[0]);
    assert_eq!(pictures, 120);
    assert!((186..=190).contains(&sounds), "{sounds}");
}

#[tokio::test]
async fn what_we_publish_is_a_clean_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let ingest = start(Config::default(), folder.path()).await;
    let programme = Programme::encode();
    let endpoint = fixture::endpoint(false, "127.0.0.1", ingest.address.port());
    programme.publish_to(endpoint, publish::Config::default()).await;
    wait_for_files(&ingest.counters, 1).await;
    let expected = (programme.count(MediaKind::Video), programme.count(MediaKind::Audio));
    assert_eq!(fixture::probe(&fixture::files(folder.path())[0]), expected);
}

#[tokio::test]
async fn a_wrong_key_is_turned_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config { key: Some("the-right-key".into()), ..Config::default() };
    let ingest = start(config, folder.path()).await;
    assert!(!ffmpeg(ingest.address, "a-wrong-key").await);
    assert!(fixture::files(folder.path()).is_empty());
    assert!(ffmpeg(ingest.address, "the-right-key").await);
    wait_for_files(&ingest.counters, 1).await;
}

#[tokio::test]
async fn nonsense_is_cut_off_and_the_next_publisher_is_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config { max_connections: 2, idle_timeout_ms: 300, ..Config::default() };
    let ingest = start(config, folder.path()).await;
    for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[3; 4000], &[0xff; 9000], b""] {
        let mut stream = TcpStream::connect(ingest.address).await.expect("a connection");
        let _ = stream.write_all(nonsense).await;
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "the connection was kept");
    }
    assert_eq!(ingest.counters.refused.load(Ordering::Relaxed), 4);
    assert!(ffmpeg(ingest.address, "key").await);
    wait_for_files(&ingest.counters, 1).await;
}
