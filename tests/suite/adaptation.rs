//! The programme's bitrate follows a narrow link: a real nginx-rtmp behind it, and what it recorded is decoded.

mod ladder;
mod narrow;

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use jamcast::driver::publish;
use jamcast::driver::publish::Dialer;
use jamcast::driver::store::Db;
use jamcast::live::canvas::Canvases;
use jamcast::live::hls::Shelves;
use jamcast::live::port::DestinationRow;
use jamcast::live::port::MixerError;
use jamcast::live::port::MixerLink;
use jamcast::live::port::Mixers;
use jamcast::live::port::Ports;
use jamcast::live::port::RoomRow;
use jamcast::live::port::SealedKey;
use jamcast::live::port::Store;
use jamcast::live::recordings::Folder;
use jamcast::live::registry::Config;
use jamcast::live::registry::NewStream;
use jamcast::live::registry::Registry;
use jamcast::live::rooms::Roster;
use jamcast::live::snapshot::DestinationState;
use jamcast::live::snapshot::StreamSnapshot;
use jamcast::live::snapshot::StreamState;
use jamcast::model::id::DestinationId;
use jamcast::model::id::RoomId;
use jamcast::model::id::StreamId;
use jamcast::model::id::UserId;
use jamcast::model::media::MediaKind;
use jamcast::model::spec::ProgrammeSpec;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::adaptation::ladder::Ladder;
use crate::adaptation::narrow::Narrow;
use crate::api::world::rooms_of;
use crate::publish::fixture;
use crate::publish::fixture::Programme;
use crate::publish::peers;
use crate::stream::memory::OpenVault;

const VIDEO_KBPS: u32 = 2500;
const AUDIO_KBPS: u32 = 128;

/// Mixers that play from the ladder at the rate they are told, and note when they were told; all die when `killed` says so.
struct Players {
    ladder: Arc<Ladder>,
    told: Arc<Mutex<Vec<(Instant, u32)>>>,
    killed: Arc<Notify>,
}

#[async_trait]
impl Mixers for Players {
    async fn start(&self, _: StreamId) -> Result<MixerLink, MixerError> {
        let (commands, heard) = mpsc::channel(256);
        let (says, events) = mpsc::channel(256);
        let playing = ladder::play(Arc::clone(&self.ladder), heard, says, Arc::clone(&self.told));
        let killed = Arc::clone(&self.killed);
        tokio::spawn(async move {
            tokio::select! {
                _ended = playing => {}
                () = killed.notified() => {}
            }
        });
        Ok(MixerLink { pid: 1, commands, events })
    }
}

/// A stream on its way through a narrow link to nginx.
struct World {
    registry: Registry,
    stream: StreamId,
    watch: watch::Receiver<StreamSnapshot>,
    narrow: Narrow,
    told: Arc<Mutex<Vec<(Instant, u32)>>>,
    killed: Arc<Notify>,
    folder: tempfile::TempDir,
    _nginx: peers::Running,
}

async fn world() -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let port = peers::free_port();
    let nginx = peers::start_nginx(folder.path(), port);
    peers::wait_for_port(port).await;
    let narrow = Narrow::open(port);

    let anna: UserId = "anna".parse().expect("a name");
    let room: RoomId = "jam".parse().expect("a slug");
    let db = Db::open(&format!("sqlite://{}", folder.path().join("jamcast.db").display())).await.expect("opens");
    db.create_room(&RoomRow { id: room.clone(), owner: anna.clone(), title: "Jam".into(), created_at_ms: 1 })
        .await
        .expect("created");
    let destination = DestinationId::generate();
    db.create_destination(&DestinationRow {
        id: destination,
        owner: anna.clone(),
        room: None,
        name: "nginx".into(),
        platform: "custom".into(),
        endpoint: fixture::endpoint(false, &Ipv4Addr::LOCALHOST.to_string(), narrow.port()),
        primary: true,
        sealed_key: SealedKey(b"jam".to_vec()),
        key_hint: String::new(),
        backup: None,
        created_at_ms: 1,
    })
    .await
    .expect("created");

    let ladder = Arc::new(tokio::task::spawn_blocking(Ladder::encode).await.expect("no panic"));
    let told: Arc<Mutex<Vec<(Instant, u32)>>> = Arc::default();
    let killed: Arc<Notify> = Arc::default();
    let ports = Ports {
        rooms: rooms_of(Roster::default()),
        canvases: Canvases::default(),
        shelves: Shelves::default(),
        mixers: Arc::new(Players { ladder, told: Arc::clone(&told), killed: Arc::clone(&killed) }),
        dial: Arc::new(Dialer::new(publish::Config::default(), Arc::new(|_, _| true)).expect("a dialler")),
        vault: Arc::new(OpenVault),
        store: Arc::new(db),
        recordings: Folder::without_limit(folder.path().to_owned()),
    };
    let registry = Registry::new(ports, Config::default(), CancellationToken::new(), TaskTracker::new());
    let asked = NewStream {
        room,
        title: "Jam".into(),
        programme: ProgrammeSpec {
            width: 320,
            height: 180,
            video_kbps: VIDEO_KBPS,
            audio_kbps: AUDIO_KBPS,
            ..ProgrammeSpec::default()
        },
        destinations: vec![destination],
        record: false,
        stems: false,
        hls: false,
        idempotency_key: None,
    };
    let stream = registry.create(&anna, asked).await.expect("created").id;
    let watch = registry.watch(stream).expect("can be watched");
    registry.start(stream).await.expect("starts");
    World { registry, stream, watch, narrow, told, killed, folder, _nginx: nginx }
}

impl World {
    async fn until(&mut self, what: &str, seconds: u64, wanted: impl Fn(&StreamSnapshot) -> bool) -> StreamSnapshot {
        let waited = tokio::time::timeout(Duration::from_secs(seconds), self.watch.wait_for(wanted)).await;
        match waited.map(|seen| seen.expect("the stream runs").clone()) {
            Ok(seen) => seen,
            Err(_) => panic!("never {what}: {:?} {:?}", self.watch.borrow(), self.told.lock()),
        }
    }

    /// Seconds from `since` until the mixer was told a rate of at most this.
    fn followed_after(&self, since: Instant, kbps: u32) -> f64 {
        let told = self.told.lock().expect("no panic");
        let followed = told.iter().find(|(at, told)| *at >= since && *told <= kbps);
        followed.map_or(f64::INFINITY, |(at, _)| (*at - since).as_secs_f64())
    }

    async fn stop(&mut self) {
        self.registry.stop(self.stream).await.expect("stops");
        self.until("ended", 10, |seen| seen.state == StreamState::Ended).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Where the pictures of a recording are further apart than a frame: seconds.
fn gaps(file: &Path) -> Vec<f64> {
    let programme = Programme::read(&std::fs::read(file).expect("a recording"));
    let times: Vec<u64> =
        programme.frames.iter().filter(|frame| frame.kind == MediaKind::Video).map(|frame| frame.dts_us).collect();
    assert!(times.len() > 100, "{} pictures", times.len());
    times.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e6).filter(|step| *step > 0.05).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mixer_that_takes_over_begins_with_the_bitrate_that_was_found() {
    let mut world = world().await;
    world.until("live", 15, |seen| seen.destinations[0].state == DestinationState::Live).await;
    world.narrow.set_kbps((VIDEO_KBPS + AUDIO_KBPS) / 2);
    world.until("lowered", 5, |seen| seen.stats.target_video_kbps < VIDEO_KBPS / 2).await;
    let told = world.told.lock().expect("no panic").len();
    world.killed.notify_waiters();
    world.until("restarted", 5, |seen| seen.stats.mixer_restarts == 1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let told: Vec<u32> = world.told.lock().expect("no panic")[told..].iter().map(|(_, kbps)| *kbps).collect();
    assert!(!told.is_empty() && told.iter().all(|kbps| *kbps < VIDEO_KBPS * 6 / 10), "{told:?}");
    world.stop().await;
}

/// Narrows the link to a part of the stream's rate, sees it followed, widens it, sees it recover; gives the recording's gaps.
async fn narrow_to(percent: u32) -> Vec<f64> {
    let mut world = world().await;
    world.until("live", 15, |seen| seen.destinations[0].state == DestinationState::Live).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(world.watch.borrow().stats.target_video_kbps, VIDEO_KBPS, "a wide link is not adapted to");
    let link = (VIDEO_KBPS + AUDIO_KBPS) * percent / 100;
    let narrowed = Instant::now();
    world.narrow.set_kbps(link);
    // The kernel's and the router's buffers make the first measurement a little too good.
    let near = link * 105 / 100 - AUDIO_KBPS;
    let low = world.until("lowered", 5, |seen| seen.stats.target_video_kbps <= near).await;
    let reaction = world.followed_after(narrowed, near);
    assert!(reaction <= 2.0, "after {reaction} s");
    let reason = low.stats.target_reason.expect("a reason");
    assert!(reason.contains("nginx"), "{reason}");
    // The backlog of the reaction drains, and what is encoded now goes through.
    world.until("drained", 20, |seen| seen.destinations[0].queue_ms < 300).await;
    let dropped = world.watch.borrow().destinations[0].dropped_frames;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(world.watch.borrow().destinations[0].dropped_frames, dropped, "what is followed loses nothing");
    let before = world.watch.borrow().stats.target_video_kbps;
    world.narrow.set_kbps(100_000);
    let step = VIDEO_KBPS / 10;
    world.until("recovered", 60, |seen| seen.stats.target_video_kbps >= before + step).await;
    let seen = world.watch.borrow().clone();
    assert_eq!(seen.destinations[0].reconnects, 0);
    assert_eq!(seen.destinations[0].dropped_frames, dropped);
    assert!(seen.destinations[0].bytes_acknowledged.is_some_and(|bytes| bytes > 500_000), "nginx acknowledges");
    world.stop().await;
    let files = fixture::files(world.folder.path());
    assert_eq!(files.len(), 1, "one connection, one recording");
    fixture::probe(&files[0]);
    gaps(&files[0])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_of_half_the_rate_is_followed_without_a_lost_picture() {
    assert_eq!(narrow_to(50).await, [] as [f64; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_of_a_fifth_of_the_rate_costs_one_gap_that_ends_at_a_keyframe() {
    let gaps = narrow_to(20).await;
    assert!(gaps.len() <= 1 && gaps.iter().all(|gap| *gap <= 4.0), "{gaps:?}");
}
