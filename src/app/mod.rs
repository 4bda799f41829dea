//! The composition root: introduces everybody to each other, and is the only place that starts top-level tasks.

mod demo;
mod doctor;

use std::io::Write;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use futures::future::OptionFuture;
use metrics_exporter_prometheus::PrometheusHandle;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::getrlimit;
use rustix::process::setrlimit;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;
use tracing::warn;

pub use crate::app::doctor::doctor;
use crate::config::Config;
use crate::domain::policy::Policy;
use crate::domain::policy::Verdict;
use crate::driver::disk;
use crate::driver::identity::Tokens;
use crate::driver::ingest;
use crate::driver::objects::ObjectStore;
use crate::driver::publish;
use crate::driver::publish::Dialer;
use crate::driver::rtc;
use crate::driver::store::Db;
use crate::driver::vault::Keyring;
use crate::live::canvas::Canvases;
use crate::live::hls::Shelves;
use crate::live::port::Identity;
use crate::live::port::Ports;
use crate::live::recordings::Folder;
use crate::live::registry::Registry;
use crate::live::retention;
use crate::live::upload::Uploader;
use crate::model::id::UserId;
use crate::model::role::ApiRole;
use crate::telemetry;
use crate::web;
use crate::web::Gateway;
use crate::web::limits::Limits;

/// From SIGTERM to the end of the process. Container runtimes kill after 30 s by default in our compose file; recordings and
/// destinations are closed well within.
const DRAIN: Duration = Duration::from_secs(20);

/// Runs the gateway until SIGTERM or Ctrl-C, then drains it.
///
/// # Errors
/// When something that the gateway cannot be without does not start; the message says what.
pub async fn serve(mut config: Config) -> Result<()> {
    raise_descriptor_limit();
    if let Some(path) = &config.tools.ffmpeg_path {
        info!(path = %path.display(), "FFMPEG_PATH is taken and not used: this gateway mixes with GStreamer");
    }
    let shutdown = CancellationToken::new();
    let tracker = TaskTracker::new();
    private_folder(&config.data.folder)?;
    let recordings = config.data.folder.join("recordings");
    private_folder(&recordings)?;

    let metrics = telemetry::start_metrics();
    web::ops::describe();
    if let Some(handle) = metrics.clone() {
        tracker.spawn(shutdown.clone().run_until_cancelled_owned(upkeep(handle)));
    }
    let identity = Arc::new(identity(&config)?);
    let vault = Arc::new(
        Keyring::load(exposed(config.auth.master_keys.as_ref()), &config.data.folder.join("master-key"))
            .context("the vault cannot be opened")?,
    );
    let store =
        Arc::new(Db::open(config.database_url().expose_secret()).await.context("the database cannot be opened")?);
    let demo_ingest = demo::start_ingest(&mut config, &shutdown, &tracker).await?;
    let policy = Policy { allowed_hosts: config.publish.allowed_hosts.clone() };
    let dial =
        Arc::new(Dialer::new(config.publish.dial.clone(), policy_check(policy)).context("RTMPS cannot be set up")?);
    let (rooms, workers) = rtc::start(&config.rtc, &shutdown).context("the SFU cannot start")?;
    let canvases = Canvases::default();
    let mixers = doctor::mixers(&config, &recordings, &tracker).await?;
    let tiers = Arc::new(doctor::tiers(config.mixer.pipelines.as_deref())?);
    let ports = Ports {
        rooms: rooms.clone(),
        canvases: canvases.clone(),
        shelves: Shelves::default(),
        mixers: Arc::new(mixers),
        dial: dial.clone(),
        vault: vault.clone(),
        store: store.clone(),
        recordings: watched(&recordings, &config, &shutdown, &tracker),
    };
    look_after(&recordings, &config, &store, &shutdown, &tracker)?;
    let registry = Registry::new(ports, config.streams.clone(), shutdown.clone(), tracker.clone());
    registry.recover().await.context("the streams of the last run cannot be closed")?;

    let listener = listen(config.server.listen, "; set server.listen").await?;
    let address = listener.local_addr()?;
    if config.http.public_url == web::config::Config::default().public_url {
        config.http.public_url = format!("http://{}", reachable(address)).parse().context("an address makes a URL")?;
    }
    if let Some(ingest) = demo_ingest {
        demo::seed(&store, &vault, ingest).await.context("the demo's room cannot be created")?;
    }

    let metrics_listener = OptionFuture::from(config.http.metrics_listen.map(|at| listen(at, ""))).await.transpose()?;
    let web_config = Arc::new(config.http.clone());
    let gateway = Gateway {
        registry,
        rooms,
        canvases,
        store: store.clone(),
        vault,
        dial,
        tiers,
        identity: identity.clone(),
        limits: Arc::new(Limits::new(&config.http.limits)),
        metrics,
        config: web_config.clone(),
        recordings: recordings.into(),
        draining: shutdown.child_token(),
        shutdown: shutdown.clone(),
    };
    announce(&config, &identity, metrics_listener.as_ref())?;
    if let Some(listener) = metrics_listener {
        let router = web::ops::ops_router(&gateway);
        let (config, shutdown) = (web_config.clone(), shutdown.clone());
        tracker.spawn(async move { web::listener::serve(listener, router, &config, shutdown).await });
    }
    let router = web::router(&gateway);
    let until = shutdown.clone();
    tracker.spawn(async move { web::listener::serve(listener, router, &web_config, until).await });

    stop_signal().await?;
    info!("stopping: streams are drained");
    let left = gateway.drain(DRAIN).await;
    if left > 0 {
        warn!(streams = left, "these streams did not end in time");
    }
    shutdown.cancel();
    end_tasks(&tracker).await;
    workers.join();
    store.close().await;
    Ok(())
}

/// Finished recordings are deleted as the retention says, and go to the object store if there is one.
fn look_after(
    folder: &Path,
    config: &Config,
    store: &Arc<Db>,
    shutdown: &CancellationToken,
    tracker: &TaskTracker,
) -> Result<()> {
    if let Some(uploader) = uploader(config, store, folder)? {
        tracker.spawn(shutdown.clone().run_until_cancelled_owned(uploader.run()));
    }
    let keeping = retention::keep(store.clone(), folder.into(), config.recordings.rule());
    tracker.spawn(shutdown.clone().run_until_cancelled_owned(keeping));
    Ok(())
}

/// Who carries recordings to the object store, if there is one. The operator chose it, so it may stand in a private network.
fn uploader(config: &Config, store: &Arc<Db>, folder: &Path) -> Result<Option<Uploader>> {
    let dial = Dialer::new(config.publish.dial.clone(), Arc::new(|_, _| true)).context("TLS cannot be set up")?;
    let objects = ObjectStore::new(&config.uploads, Arc::new(dial)).context("recordings cannot be uploaded")?;
    let (store, folder, prefix) = (store.clone(), folder.into(), config.uploads.prefix.clone());
    Ok(objects.map(|objects| Uploader { store, objects: Arc::new(objects), folder, prefix }))
}

/// The folder of the recordings with an eye on its free space.
fn watched(folder: &Path, config: &Config, shutdown: &CancellationToken, tracker: &TaskTracker) -> Folder {
    let (free, free_bytes) = watch::channel(disk::free_bytes(folder));
    tracker.spawn(shutdown.clone().run_until_cancelled_owned(disk::watch(folder.to_owned(), free)));
    Folder { path: folder.to_owned(), free_bytes, min_free_bytes: config.recordings.min_free_bytes }
}

async fn end_tasks(tracker: &TaskTracker) {
    tracker.close();
    if tokio::time::timeout(Duration::from_secs(5), tracker.wait()).await.is_err() {
        warn!("some tasks did not end in time");
    }
}

async fn listen(at: SocketAddr, remedy: &str) -> Result<TcpListener> {
    TcpListener::bind(at).await.with_context(|| format!("{at} cannot be listened at{remedy}"))
}

/// Runs the RTMP receiver alone until SIGTERM or Ctrl-C.
///
/// # Errors
/// When its address cannot be listened at.
pub async fn ingest(config: Config) -> Result<()> {
    let shutdown = CancellationToken::new();
    let receiver = ingest::Ingest::bind(config.ingest).await.context("the ingest cannot start")?;
    print(&format!("Send to rtmp://{}/live with any stream key.\n", receiver.address()))?;
    tokio::select! {
        () = receiver.run(shutdown.clone()) => Ok(()),
        stopped = stop_signal() => stopped,
    }
}

/// An API token of this installation.
///
/// # Errors
/// When the secret it is signed with cannot be read or made.
pub fn mint(config: &Config, user: &UserId, role: ApiRole, ttl_s: u64) -> Result<String> {
    private_folder(&config.data.folder)?;
    Ok(identity(config)?.mint_api(user, role, ttl_s))
}

fn identity(config: &Config) -> Result<Tokens> {
    let secret = exposed(config.auth.jwt_secret.as_ref());
    let previous = exposed(config.auth.jwt_secret_previous.as_ref());
    Tokens::load(secret, previous, &config.data.folder.join("jwt-secret")).context("tokens cannot be signed")
}

fn exposed(secret: Option<&SecretString>) -> Option<&str> {
    secret.map(ExposeSecret::expose_secret)
}

/// Every socket, recording and mixer is a descriptor. Shells allow 1024 at first and usually far more to whoever asks.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!(%error, "the limit of open files stays as it is");
    }
}

/// A folder that only this user can look into: it holds keys, recordings and the database.
fn private_folder(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("the folder {} cannot be created; set data.folder", folder.display()))
}

fn policy_check(policy: Policy) -> publish::Policy {
    Arc::new(move |host, address| policy.check(host, address.ip(), address.port()) == Verdict::Allowed)
}

/// Tells the person at the terminal where to go.
fn announce(config: &Config, identity: &Tokens, metrics: Option<&TcpListener>) -> Result<()> {
    let mut text = if config.demo.enabled {
        demo::invitation(config, identity)?
    } else {
        format!("The gateway runs at {}\n", config.http.public_url)
    };
    let metrics_at = match metrics {
        Some(listener) => format!("http://{}/metrics", reachable(listener.local_addr()?)),
        None => format!("{}/metrics", config.http.public_url.as_str().trim_end_matches('/')),
    };
    if config.http.metrics_enabled {
        text += &format!("Metrics: {metrics_at}\n");
    }
    print(&text)
}

/// An address that a browser on this machine can open.
fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() { SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()) } else { address }
}

/// Histograms keep every sample until they are drained; without this, a gateway that nobody scrapes would grow.
async fn upkeep(metrics: PrometheusHandle) {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}

async fn stop_signal() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be received")?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted.context("signals cannot be received")?,
    }
    Ok(())
}

fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("standard output cannot be written")
}
