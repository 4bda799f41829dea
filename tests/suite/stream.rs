//! A stream's life with fake mixers and destinations.

mod canvas;
mod direction;
mod hls;
mod life;
mod loss;
pub(crate) mod memory;
mod mixers;
mod reach;
mod recording;
mod registry;
mod room;
mod servers;
mod standby;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jamcast::live::canvas::Canvases;
use jamcast::live::hls::Shelves;
use jamcast::live::port::DestinationRow;
use jamcast::live::port::Dial;
use jamcast::live::port::Ports;
use jamcast::live::port::RoomRow;
use jamcast::live::port::SealedKey;
use jamcast::live::port::StreamRow;
use jamcast::live::recordings::Folder;
use jamcast::live::registry::Config;
use jamcast::live::registry::NewStream;
use jamcast::live::registry::Registry;
use jamcast::live::rooms::Command;
use jamcast::live::rooms::ParticipantInfo;
use jamcast::live::rooms::ProgrammeFrame;
use jamcast::live::rooms::Request;
use jamcast::live::rooms::Rooms;
use jamcast::live::rooms::Roster;
use jamcast::live::rooms::Tap;
use jamcast::live::rooms::TapMedia;
use jamcast::live::rooms::TapTrack;
use jamcast::live::rooms::TrackSource;
use jamcast::live::snapshot::StreamSnapshot;
use jamcast::live::snapshot::StreamState;
use jamcast::model::id::DestinationId;
use jamcast::model::id::ParticipantId;
use jamcast::model::id::ProducerId;
use jamcast::model::id::RoomId;
use jamcast::model::id::StreamId;
use jamcast::model::id::TrackId;
use jamcast::model::id::UserId;
use jamcast::model::media::Codec;
use jamcast::model::role::RoomRole;
use jamcast::model::spec::ProgrammeSpec;
use jamcast::model::spec::RtmpEndpoint;
use jamcast::proto::mixer::TappedPacket;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::stream::memory::Memory;
use crate::stream::memory::OpenVault;
use crate::stream::mixers::FakeMixer;
use crate::stream::mixers::FakeMixers;
use crate::stream::mixers::MixerStart;
use crate::stream::servers::SilentServer;

/// What the links of all rooms lose comes again after so long.
const REPAIR: Duration = Duration::from_millis(340);

/// The stream's tap, seen from the room.
struct FakeTap {
    roster: watch::Sender<Roster>,
    media: mpsc::Sender<TapMedia>,
}

struct World {
    registry: Registry,
    canvases: Canvases,
    store: Arc<Memory>,
    server: Arc<SilentServer>,
    born: mpsc::Receiver<FakeMixer>,
    taps: mpsc::Receiver<FakeTap>,
    keyframes: mpsc::Receiver<TrackId>,
    screened: mpsc::Receiver<ProgrammeFrame>,
    /// Who leads where the room is asked for it, and how late the others are.
    lateness: watch::Sender<(ParticipantId, Vec<(ParticipantId, Duration)>)>,
    shutdown: CancellationToken,
    folder: tempfile::TempDir,
    /// Bytes left on the disk.
    free: watch::Sender<Option<u64>>,
}

fn anna() -> UserId {
    "anna".parse().expect("a user's name")
}

fn room(name: &str) -> RoomId {
    name.parse().expect("a room's name")
}

fn world() -> World {
    world_with(Config::default(), 256, MixerStart::Works)
}

fn world_with(config: Config, queue: usize, start: MixerStart) -> World {
    let server = Arc::new(SilentServer::default());
    World { server: server.clone(), ..world_before(server, config, queue, start) }
}

fn world_before(dial: Arc<dyn Dial>, config: Config, queue: usize, start: MixerStart) -> World {
    let (born_in, born) = mpsc::channel(16);
    let (tap_in, taps) = mpsc::channel(16);
    let (keyframe_in, keyframes) = mpsc::channel(64);
    let (screen_in, screened) = mpsc::channel(64);
    let (lateness, measured) = watch::channel((ParticipantId::generate(), Vec::new()));
    let (commands, mut worker) = mpsc::channel::<Command>(64);
    tokio::spawn(async move {
        while let Some(command) = worker.recv().await {
            if let Request::Tap { reply } = command.request {
                let (roster, roster_out) = watch::channel(Roster::default());
                let (media, media_out) = mpsc::channel(1024);
                let _gone = reply.send(Ok(Tap { roster: roster_out, media: media_out, repair: REPAIR }));
                tap_in.send(FakeTap { roster, media }).await.expect("the test takes taps");
            } else if let Request::Keyframe { track } = command.request {
                keyframe_in.send(track).await.expect("the test takes keyframe pleas");
            } else if let Request::Screen { frame } = command.request {
                // Like a host who may watch or not.
                let _not_looked_at = screen_in.try_send(frame);
            } else if let Request::Lateness { leader, reply } = command.request {
                let (leads, late) = measured.borrow().clone();
                let _gone = reply.send(Ok(if leads == leader { late } else { Vec::new() }));
            }
        }
    });
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (free, free_bytes) = watch::channel(None);
    let store = Arc::new(Memory::default());
    for name in ["jam", "gig", "den"] {
        let row = RoomRow { id: room(name), owner: anna(), title: name.to_owned(), created_at_ms: 1 };
        store.rows().rooms.insert(row.id.clone(), row);
    }
    let (canvases, shutdown) = (Canvases::default(), CancellationToken::new());
    let ports = Ports {
        rooms: Rooms::new(vec![commands]),
        canvases: canvases.clone(),
        shelves: Shelves::default(),
        mixers: Arc::new(FakeMixers { born: born_in, queue, start }),
        dial,
        vault: Arc::new(OpenVault),
        store: store.clone(),
        recordings: Folder { path: folder.path().to_owned(), free_bytes, min_free_bytes: 1_000_000 },
    };
    let registry = Registry::new(ports, config, shutdown.clone(), TaskTracker::new());
    let server = Arc::default();
    World { registry, canvases, store, server, born, taps, keyframes, screened, lateness, shutdown, folder, free }
}

fn ask(name: &str) -> NewStream {
    NewStream {
        room: room(name),
        title: "Jam night".to_owned(),
        programme: ProgrammeSpec::default(),
        destinations: Vec::new(),
        record: false,
        stems: false,
        hls: false,
        idempotency_key: None,
    }
}

async fn until(
    watch: &mut watch::Receiver<StreamSnapshot>,
    wanted: impl Fn(&StreamSnapshot) -> bool,
) -> StreamSnapshot {
    let wanted = watch.wait_for(|seen| wanted(seen));
    timeout(Duration::from_secs(400), wanted).await.expect("in time").expect("not closed before").clone()
}

/// What is looked for, as soon as it is there.
async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), found).await.expect("in time")
}

async fn state(watch: &mut watch::Receiver<StreamSnapshot>, state: StreamState) -> StreamSnapshot {
    until(watch, |seen| seen.state == state).await
}

impl World {
    fn destination(&self, owner: &str) -> DestinationId {
        let id = DestinationId::generate();
        let row = DestinationRow {
            id,
            owner: owner.parse().expect("a user's name"),
            room: None,
            name: "X".to_owned(),
            platform: "x".to_owned(),
            endpoint: RtmpEndpoint { tls: true, host: "x.example".to_owned(), port: 443, app: "live".to_owned() },
            primary: false,
            sealed_key: SealedKey(b"canary".to_vec()),
            key_hint: "••••".to_owned(),
            backup: None,
            created_at_ms: 1,
        };
        self.store.rows().destinations.insert(id, row);
        id
    }

    /// Creates and starts a stream.
    async fn start(&self, new: NewStream) -> (StreamId, watch::Receiver<StreamSnapshot>) {
        let created = self.registry.create(&anna(), new).await.expect("a stream is created");
        assert_eq!(created.state, StreamState::Created);
        let watch = self.registry.watch(created.id).expect("a created stream can be watched");
        assert_eq!(self.registry.start(created.id).await.expect("it starts").state, StreamState::Starting);
        (created.id, watch)
    }

    async fn mixer(&mut self) -> FakeMixer {
        timeout(Duration::from_secs(30), self.born.recv())
            .await
            .expect("a mixer in time")
            .expect("the stream starts mixers")
    }

    async fn tap(&mut self) -> FakeTap {
        timeout(Duration::from_secs(5), self.taps.recv()).await.expect("a tap in time").expect("the room gives taps")
    }

    fn row(&self, id: StreamId) -> StreamRow {
        self.store.rows().streams.iter().find(|row| row.id == id).expect("a stored stream").clone()
    }
}

fn musician(name: &str, first_track: u32) -> (ParticipantInfo, Vec<TapTrack>) {
    let who = ParticipantInfo::new(ParticipantId::generate(), name.to_owned(), RoomRole::Musician);
    let track = |number, source, codec, payload_type| TapTrack {
        track: TrackId(number),
        producer: ProducerId::generate(),
        participant: who.id,
        source,
        codec,
        payload_type,
        paused: false,
    };
    let tracks = vec![
        track(first_track, TrackSource::Microphone, Codec::Opus, 111),
        track(first_track + 1, TrackSource::Camera, Codec::Vp8, 96),
    ];
    (who, tracks)
}

pub(crate) fn band(names: &[&str]) -> Roster {
    let mut roster = Roster::default();
    for (index, name) in names.iter().enumerate() {
        let (who, tracks) = musician(name, u32::try_from(index).expect("few musicians") * 2 + 1);
        roster.participants.push(who);
        roster.tracks.extend(tracks);
    }
    roster
}

fn packet(track: u32) -> TappedPacket {
    TappedPacket { track: TrackId(track), arrival_us: 1, packet: Bytes::from_static(b"rtp") }
}
