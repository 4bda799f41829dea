//! The composition root: introduces everybody to each other, and is the only place that starts top-level tasks.

use std::io::Write;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use anyhow::Context;
use anyhow::Result;
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;
use tracing::warn;

use crate::config::Config;
use crate::domain::policy::Policy;
use crate::domain::policy::Verdict;
use crate::driver::identity::Tokens;
use crate::driver::ingest;
use crate::driver::mixer::MixerProcesses;
use crate::driver::publish;
use crate::driver::publish::Dialer;
use crate::driver::rtc;
use crate::driver::store::Db;
use crate::driver::vault::Keyring;
use crate::live::port::DestinationRow;
use crate::live::port::Identity;
use crate::live::port::Page;
use crate::live::port::Ports;
use crate::live::port::RoomRow;
use crate::live::port::Store;
use crate::live::port::Vault;
use crate::live::registry::Registry;
use crate::model::id::DestinationId;
use crate::model::id::RoomId;
use crate::model::id::UserId;
use crate::model::role::ApiRole;
use crate::model::role::RoomGrant;
use crate::model::role::RoomRole;
use crate::model::secret::StreamKey;
use crate::model::spec::RtmpEndpoint;
use crate::telemetry;
use crate::web;
use crate::web::Gateway;
use crate::web::limits::Limits;

/// From SIGTERM to the end of the process. Container runtimes kill after 30 s by default in our compose file; recordings and
/// destinations are closed well within.
const DRAIN: Duration = Duration::from_secs(20);

/// The demo's host can rehearse and play a whole day on one link.
const DEMO_TOKEN_S: u64 = 24 * 3600;

/// The user who owns what a first run finds.
const DEMO_USER: &str = "demo";
const DEMO_ROOM: &str = "demo";
const DEMO_DESTINATION: &str = "Ingest on this machine";

/// Runs the gateway until SIGTERM or Ctrl-C, then drains it.
///
/// # Errors
/// When something that the gateway cannot be without does not start; the message says what.
pub async fn serve(mut config: Config) -> Result<()> {
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
    let demo_ingest = start_demo_ingest(&mut config, &shutdown, &tracker).await?;
    let policy = Policy { allowed_hosts: config.publish.allowed_hosts.clone() };
    let dial =
        Arc::new(Dialer::new(config.publish.dial.clone(), policy_check(policy)).context("RTMPS cannot be set up")?);
    let (rooms, workers) = rtc::start(&config.rtc, &shutdown).context("the SFU cannot start")?;
    let ports = Ports {
        rooms: rooms.clone(),
        mixers: Arc::new(MixerProcesses::new(config.mixer.clone(), tracker.clone())),
        dial: dial.clone(),
        vault: vault.clone(),
        store: store.clone(),
        recordings: recordings.clone(),
    };
    let registry = Registry::new(ports, config.streams.clone(), shutdown.clone(), tracker.clone());
    registry.recover().await.context("the streams of the last run cannot be closed")?;

    let listener = TcpListener::bind(config.server.listen)
        .await
        .with_context(|| format!("{} cannot be listened at; set server.listen", config.server.listen))?;
    let address = listener.local_addr()?;
    if config.http.public_url == web::config::Config::default().public_url {
        config.http.public_url = format!("http://{}", reachable(address)).parse().context("an address makes a URL")?;
    }
    if let Some(ingest) = demo_ingest {
        seed(&store, &vault, ingest).await.context("the demo's room cannot be created")?;
    }

    let metrics_listener = match config.http.metrics_listen {
        Some(at) => Some(TcpListener::bind(at).await.with_context(|| format!("{at} cannot be listened at"))?),
        None => None,
    };
    let web_config = Arc::new(config.http.clone());
    let gateway = Gateway {
        registry: registry.clone(),
        rooms,
        store: store.clone(),
        vault,
        dial,
        identity: identity.clone(),
        limits: Arc::new(Limits::new(&config.http.limits)),
        metrics,
        config: web_config.clone(),
        recordings: recordings.into(),
        drain: shutdown.clone(),
    };
    announce(&config, &identity, &web_config, metrics_listener.as_ref())?;
    if let Some(listener) = metrics_listener {
        let router = web::ops::ops_router(&gateway);
        tracker.spawn(serve_http(listener, router, shutdown.clone()));
    }
    tracker.spawn(serve_http(listener, web::router(&gateway), shutdown.clone()));

    stop_signal().await?;
    info!("stopping: streams are drained");
    let left = registry.drain(DRAIN).await;
    if left > 0 {
        warn!(streams = left, "these streams did not end in time");
    }
    shutdown.cancel();
    tracker.close();
    if tokio::time::timeout(Duration::from_secs(5), tracker.wait()).await.is_err() {
        warn!("some tasks did not end in time");
    }
    workers.join();
    store.close().await;
    Ok(())
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

/// The ingest of a first run, and the leave to dial it.
async fn start_demo_ingest(
    config: &mut Config,
    shutdown: &CancellationToken,
    tracker: &TaskTracker,
) -> Result<Option<SocketAddr>> {
    if !config.demo.enabled {
        return Ok(None);
    }
    let folder = config.data.folder.join("ingest");
    private_folder(&folder)?;
    let receiver =
        ingest::Ingest::bind(ingest::Config { listen: config.demo.ingest_listen, folder, ..config.ingest.clone() })
            .await
            .with_context(|| {
                format!("the demo's ingest cannot listen at {}; set demo.ingest_listen", config.demo.ingest_listen)
            })?;
    let address = receiver.address();
    config.publish.allowed_hosts.push(address.to_string().parse().context("an address is a host rule")?);
    tracker.spawn(receiver.run(shutdown.clone()));
    Ok(Some(address))
}

/// The demo's room and its destination, unless they are there from an earlier run.
async fn seed(store: &Db, vault: &Keyring, ingest: SocketAddr) -> Result<()> {
    let owner: UserId = DEMO_USER.parse().context("a user")?;
    let room: RoomId = DEMO_ROOM.parse().context("a room")?;
    if store.room(&room).await?.is_none() {
        let title = "Demo room".to_owned();
        store.create_room(&RoomRow { id: room, owner: owner.clone(), title, created_at_ms: now_ms() }).await?;
    }
    let endpoint =
        RtmpEndpoint { tls: false, host: ingest.ip().to_string(), port: ingest.port(), app: "live".to_owned() };
    // The port may be another than in the last run, and then the old row leads nowhere.
    for old in store.destinations(Some(&owner), Page { limit: 200, before: None }).await? {
        if old.name == DEMO_DESTINATION {
            if old.endpoint == endpoint {
                return Ok(());
            }
            store.delete_destination(old.id).await?;
        }
    }
    let id = DestinationId::generate();
    let key = StreamKey::new("demo-stream".to_owned()).context("a key")?;
    let row = DestinationRow {
        id,
        owner,
        name: DEMO_DESTINATION.to_owned(),
        platform: "custom".to_owned(),
        endpoint,
        sealed_key: vault.seal(id, &key),
        key_hint: key.hint(),
        created_at_ms: now_ms(),
    };
    store.create_destination(&row).await?;
    Ok(())
}

/// Tells the person at the terminal where to go.
fn announce(
    config: &Config,
    identity: &Tokens,
    web: &web::config::Config,
    metrics: Option<&TcpListener>,
) -> Result<()> {
    let mut text = String::new();
    if config.demo.enabled {
        let host = RoomGrant {
            room: DEMO_ROOM.parse().context("a room")?,
            user: DEMO_USER.parse().context("a user")?,
            role: RoomRole::Host,
            name: "Host".to_owned(),
        };
        let token = identity.mint_room(&host, DEMO_TOKEN_S);
        text += &format!(
            "\nThe studio is open:\n\n  {}\n\n\
             1. Open this link in a browser and allow camera and microphone.\n\
             2. Press Invite and open that link in a second window: that is your fellow musician.\n\
             3. Press Go live. What the world would see is written to {}.\n\
             4. Press Stop. The recording is in the studio and in {}.\n\n\
             Ctrl-C ends everything.\n",
            web.studio_url(&token),
            config.data.folder.join("ingest").display(),
            config.data.folder.join("recordings").display(),
        );
    } else {
        text += &format!("The gateway runs at {}\n", web.public_url);
    }
    let metrics_at = match metrics {
        Some(listener) => format!("http://{}/metrics", reachable(listener.local_addr()?)),
        None => format!("{}/metrics", web.public_url.as_str().trim_end_matches('/')),
    };
    text += &format!("Metrics: {metrics_at}\n");
    print(&text)
}

/// An address that a browser on this machine can open.
fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() { SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()) } else { address }
}

async fn serve_http(listener: TcpListener, router: axum::Router, shutdown: CancellationToken) {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    if let Err(error) = axum::serve(listener, service).with_graceful_shutdown(shutdown.cancelled_owned()).await {
        tracing::error!(%error, "the HTTP listener ended");
    }
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

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("standard output cannot be written")
}
