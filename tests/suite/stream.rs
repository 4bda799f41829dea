//! A stream's life with fake mixers and destinations.

mod canvas;
mod direction;
mod hls;
mod reach;
mod recording;
mod standby;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jamcast::domain::layout;
use jamcast::live::canvas::Canvases;
use jamcast::live::hls::Shelves;
use jamcast::live::port::Connection;
use jamcast::live::port::DestinationRow;
use jamcast::live::port::Dial;
use jamcast::live::port::DialError;
use jamcast::live::port::MarkerRow;
use jamcast::live::port::MixerError;
use jamcast::live::port::MixerLink;
use jamcast::live::port::Mixers;
use jamcast::live::port::Page;
use jamcast::live::port::Ports;
use jamcast::live::port::RecordingRow;
use jamcast::live::port::RoomRow;
use jamcast::live::port::SealedKey;
use jamcast::live::port::StateChange;
use jamcast::live::port::Store;
use jamcast::live::port::StoreError;
use jamcast::live::port::StreamRow;
use jamcast::live::port::UploadRow;
use jamcast::live::port::Vault;
use jamcast::live::port::VaultError;
use jamcast::live::recordings::Folder;
use jamcast::live::registry::Config;
use jamcast::live::registry::NewStream;
use jamcast::live::registry::Registry;
use jamcast::live::registry::StreamError;
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
use jamcast::live::snapshot::Outcome;
use jamcast::live::snapshot::StreamSnapshot;
use jamcast::live::snapshot::StreamState;
use jamcast::model::id::DestinationId;
use jamcast::model::id::MarkerId;
use jamcast::model::id::ParticipantId;
use jamcast::model::id::ProducerId;
use jamcast::model::id::RecordingId;
use jamcast::model::id::RoomId;
use jamcast::model::id::StreamId;
use jamcast::model::id::TrackId;
use jamcast::model::id::UserId;
use jamcast::model::media::Codec;
use jamcast::model::media::CodecConfig;
use jamcast::model::media::EncodedFrame;
use jamcast::model::media::MediaKind;
use jamcast::model::media::OpusPacket;
use jamcast::model::role::RoomRole;
use jamcast::model::scene::Scene;
use jamcast::model::secret::StreamKey;
use jamcast::model::spec::ProgrammeSpec;
use jamcast::model::spec::RtmpEndpoint;
use jamcast::proto::flv::TagKind;
use jamcast::proto::mixer::Control;
use jamcast::proto::mixer::FromMixer;
use jamcast::proto::mixer::MixerStats;
use jamcast::proto::mixer::Report;
use jamcast::proto::mixer::TappedPacket;
use jamcast::proto::mixer::ToMixer;
use jamcast::proto::rtmp::receiver::Event;
use jamcast::proto::rtmp::receiver::Output;
use jamcast::proto::rtmp::receiver::Receiver;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[derive(Default)]
struct Rows {
    rooms: HashMap<RoomId, RoomRow>,
    destinations: HashMap<DestinationId, DestinationRow>,
    streams: Vec<StreamRow>,
    recordings: Vec<RecordingRow>,
}

#[derive(Default)]
struct Memory(Mutex<Rows>);

impl Memory {
    fn rows(&self) -> std::sync::MutexGuard<'_, Rows> {
        self.0.lock().expect("no test panics while it holds the rows")
    }
}

fn page<T: Clone>(rows: impl DoubleEndedIterator<Item = T>, page: &Page, key: impl Fn(&T) -> (i64, String)) -> Vec<T> {
    let mut rows: Vec<T> = rows.filter(|row| page.before.as_ref().is_none_or(|before| key(row) < *before)).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(key(row)));
    rows.truncate(page.limit as usize);
    rows
}

#[async_trait]
impl Store for Memory {
    async fn create_room(&self, room: &RoomRow) -> Result<(), StoreError> {
        self.rows().rooms.insert(room.id.clone(), room.clone());
        Ok(())
    }
    async fn room(&self, id: &RoomId) -> Result<Option<RoomRow>, StoreError> {
        Ok(self.rows().rooms.get(id).cloned())
    }
    async fn rooms(&self, _: Option<&UserId>, _: Page) -> Result<Vec<RoomRow>, StoreError> {
        Ok(Vec::new())
    }
    async fn create_destination(&self, row: &DestinationRow) -> Result<(), StoreError> {
        self.rows().destinations.insert(row.id, row.clone());
        Ok(())
    }
    async fn destination(&self, id: DestinationId) -> Result<Option<DestinationRow>, StoreError> {
        Ok(self.rows().destinations.get(&id).cloned())
    }
    async fn destinations(&self, _: Option<&UserId>, _: Page) -> Result<Vec<DestinationRow>, StoreError> {
        Ok(Vec::new())
    }
    async fn rotate_key(&self, _: DestinationId, _: &SealedKey, _: &str) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn set_primary(&self, _: DestinationId, _: bool) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn delete_destination(&self, id: DestinationId) -> Result<bool, StoreError> {
        Ok(self.rows().destinations.remove(&id).is_some())
    }
    async fn create_stream(&self, row: &StreamRow) -> Result<(), StoreError> {
        self.rows().streams.push(row.clone());
        Ok(())
    }
    async fn stream(&self, id: StreamId) -> Result<Option<StreamRow>, StoreError> {
        Ok(self.rows().streams.iter().find(|row| row.id == id).cloned())
    }
    async fn stream_by_idempotency_key(&self, owner: &UserId, key: &str) -> Result<Option<StreamRow>, StoreError> {
        let rows = self.rows();
        Ok(rows.streams.iter().find(|r| r.owner == *owner && r.idempotency_key.as_deref() == Some(key)).cloned())
    }
    async fn streams(&self, owner: Option<&UserId>, wanted: Page) -> Result<Vec<StreamRow>, StoreError> {
        let rows = self.rows().streams.clone();
        let rows = rows.into_iter().filter(|row| owner.is_none_or(|owner| row.owner == *owner));
        Ok(page(rows, &wanted, |row| (row.created_at_ms, row.id.to_string())))
    }
    async fn set_stream_state(&self, id: StreamId, change: &StateChange) -> Result<(), StoreError> {
        if let Some(row) = self.rows().streams.iter_mut().find(|row| row.id == id) {
            row.state = change.state;
            row.reason = change.reason.clone();
            row.started_at_ms = change.started_at_ms.or(row.started_at_ms);
            row.ended_at_ms = change.ended_at_ms.or(row.ended_at_ms);
        }
        Ok(())
    }
    async fn set_stream_outcome(&self, id: StreamId, outcome: &Outcome) -> Result<(), StoreError> {
        if let Some(row) = self.rows().streams.iter_mut().find(|row| row.id == id) {
            row.outcome = Some(outcome.clone());
        }
        Ok(())
    }
    async fn set_stream_destinations(&self, id: StreamId, destinations: &[DestinationId]) -> Result<(), StoreError> {
        if let Some(row) = self.rows().streams.iter_mut().find(|row| row.id == id) {
            row.destinations = destinations.to_vec();
        }
        Ok(())
    }
    async fn delete_stream(&self, id: StreamId) -> Result<bool, StoreError> {
        let mut rows = self.rows();
        let before = rows.streams.len();
        rows.streams.retain(|row| row.id != id);
        Ok(rows.streams.len() < before)
    }
    async fn create_recording(&self, row: &RecordingRow) -> Result<(), StoreError> {
        self.rows().recordings.push(row.clone());
        Ok(())
    }
    async fn set_recording_zero(&self, id: RecordingId, zero_at_ms: i64) -> Result<(), StoreError> {
        let mut rows = self.rows();
        let row = rows.recordings.iter_mut().find(|row| row.id == id).expect("a recording that was begun");
        row.zero_at_ms = Some(zero_at_ms);
        Ok(())
    }
    async fn finish_recording(
        &self,
        id: RecordingId,
        ended_at_ms: i64,
        size_bytes: i64,
        failure: Option<&str>,
    ) -> Result<(), StoreError> {
        let mut rows = self.rows();
        let row = rows.recordings.iter_mut().find(|row| row.id == id).expect("a recording that was begun");
        assert_eq!(row.ended_at_ms, None, "finished twice");
        row.ended_at_ms = Some(ended_at_ms);
        row.size_bytes = Some(size_bytes);
        row.failure = failure.map(str::to_owned);
        Ok(())
    }
    async fn set_recording_kept(&self, _: RecordingId, _: bool) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn delete_recording(&self, id: RecordingId) -> Result<bool, StoreError> {
        let mut rows = self.rows();
        let before = rows.recordings.len();
        rows.recordings.retain(|row| row.id != id);
        Ok(rows.recordings.len() < before)
    }
    async fn recordings_to_upload(&self, _: u32) -> Result<Vec<RecordingRow>, StoreError> {
        Ok(Vec::new())
    }
    async fn set_upload(&self, _: &UploadRow) -> Result<(), StoreError> {
        Ok(())
    }
    async fn upload(&self, _: RecordingId) -> Result<Option<UploadRow>, StoreError> {
        Ok(None)
    }
    async fn next_upload(&self, _: i64) -> Result<Option<UploadRow>, StoreError> {
        Ok(None)
    }
    async fn unfinished_uploads(&self) -> Result<Vec<RecordingId>, StoreError> {
        Ok(Vec::new())
    }
    async fn delete_upload(&self, _: RecordingId) -> Result<(), StoreError> {
        Ok(())
    }
    async fn create_marker(&self, _: &MarkerRow) -> Result<(), StoreError> {
        Ok(())
    }
    async fn markers(&self, _: StreamId) -> Result<Vec<MarkerRow>, StoreError> {
        Ok(Vec::new())
    }
    async fn delete_marker(&self, _: StreamId, _: MarkerId) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn recording(&self, _: RecordingId) -> Result<Option<RecordingRow>, StoreError> {
        Ok(None)
    }
    async fn recordings(&self, _: Option<&UserId>, wanted: Page) -> Result<Vec<RecordingRow>, StoreError> {
        Ok(page(self.rows().recordings.clone().into_iter(), &wanted, |row| (row.created_at_ms, row.id.to_string())))
    }
    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

struct OpenVault;

impl Vault for OpenVault {
    fn seal(&self, _: DestinationId, key: &StreamKey) -> SealedKey {
        SealedKey(key.expose().as_bytes().to_vec())
    }
    fn open(&self, _: DestinationId, sealed: &SealedKey) -> Result<StreamKey, VaultError> {
        StreamKey::new(String::from_utf8(sealed.0.clone()).map_err(|_| VaultError)?).map_err(|_| VaultError)
    }
}

/// A server that never answers; counts who calls.
#[derive(Default)]
struct SilentServer(AtomicUsize);

#[async_trait]
impl Dial for SilentServer {
    async fn dial(&self, _: &RtmpEndpoint) -> Result<Box<dyn Connection>, DialError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }
    async fn check(&self, _: &RtmpEndpoint) -> Result<Vec<SocketAddr>, DialError> {
        Ok(Vec::new())
    }
}

struct FakeMixers {
    born: mpsc::Sender<FakeMixer>,
    /// Room in a mixer's command queue.
    queue: usize,
    start: MixerStart,
}

#[derive(Clone, Copy, PartialEq)]
enum MixerStart {
    Works,
    /// Each stream has a second one that stands by.
    InPairs,
    Fails,
    Panics,
}

#[async_trait]
impl Mixers for FakeMixers {
    async fn start(&self, _: StreamId) -> Result<MixerLink, MixerError> {
        assert!(self.start != MixerStart::Panics, "a bug of the gateway");
        if self.start == MixerStart::Fails {
            return Err(MixerError::Spawn(std::io::Error::other("no such executable")));
        }
        let (commands, heard) = mpsc::channel(self.queue);
        let (says, events) = mpsc::channel(64);
        self.born.send(FakeMixer { heard, says }).await.expect("the test takes mixers");
        Ok(MixerLink { pid: 1, commands, events })
    }

    fn has_standby(&self) -> bool {
        self.start == MixerStart::InPairs
    }
}

struct FakeMixer {
    heard: mpsc::Receiver<ToMixer>,
    says: mpsc::Sender<FromMixer>,
}

impl FakeMixer {
    async fn hear(&mut self) -> ToMixer {
        timeout(Duration::from_secs(2), self.heard.recv()).await.expect("in time").expect("not dropped")
    }

    /// The next scene that matches, passing over everything before it.
    async fn scene(&mut self, wanted: impl Fn(&Scene) -> bool) -> Scene {
        loop {
            if let ToMixer::Control(Control::Scene { scene }) = self.hear().await
                && wanted(&scene)
            {
                return *scene;
            }
        }
    }

    async fn control(&mut self, wanted: &Control) {
        while self.hear().await != ToMixer::Control(wanted.clone()) {}
    }

    async fn say(&self, message: FromMixer) {
        self.says.send(message).await.expect("the stream listens");
    }

    async fn video(&self, dts_ms: u64, key: bool) {
        let frame = EncodedFrame {
            kind: MediaKind::Video,
            pts_us: dts_ms * 1000,
            dts_us: dts_ms * 1000,
            key,
            data: Bytes::from_static(b"picture"),
        };
        self.say(FromMixer::Frame(frame)).await;
    }

    /// What a mixer says first.
    async fn begin(&self, dts_ms: u64) {
        let config = CodecConfig { avc: Bytes::from_static(b"avc"), aac: Bytes::from_static(b"aac") };
        self.say(FromMixer::Report(Report::Playing)).await;
        self.say(FromMixer::Config(config)).await;
        self.video(dts_ms, true).await;
    }
}

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
                let _gone = reply.send(Ok(Tap { roster: roster_out, media: media_out }));
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

fn band(names: &[&str]) -> Roster {
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

fn labels(scene: &Scene) -> Vec<&str> {
    scene.sources.iter().map(|source| source.label.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_live_with_the_first_picture_and_nobody_in_the_room() {
    let mut world = world();
    let destination = world.destination("anna");
    let (id, mut watch) = world.start(NewStream { destinations: vec![destination], ..ask("jam") }).await;
    let mut mixer = world.mixer().await;
    let scene = mixer.scene(|_| true).await;
    assert_eq!((scene.sources, scene.recording, scene.programme), (Vec::new(), None, ProgrammeSpec::default()));
    mixer.begin(1000).await;
    let live = state(&mut watch, StreamState::Live).await;
    assert_eq!((live.destinations.len(), live.destinations[0].id), (1, destination));
    let seen = until(&mut watch, |seen| seen.stats.video_frames == 1).await;
    assert!(seen.started_at_ms.is_some());
    assert_eq!(world.row(id).state, StreamState::Live);
    assert_eq!(world.row(id).started_at_ms, seen.started_at_ms);
    assert_eq!(world.registry.active(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_scene_follows_the_room() {
    let mut world = world();
    let (_, mut watch) = world.start(ask("jam")).await;
    let mut mixer = world.mixer().await;
    let tap = world.tap().await;
    let mut roster = band(&["Ann", "Bob"]);
    tap.roster.send_replace(roster.clone());
    let scene = mixer.scene(|scene| scene.sources.len() == 2).await;
    assert_eq!(labels(&scene), ["Ann", "Bob"]);
    let placements: Vec<_> = scene.sources.iter().filter_map(|source| source.placement).collect();
    assert_eq!(placements, layout::place(2, 1280, 720));
    assert_eq!([world.keyframes.recv().await, world.keyframes.recv().await], [Some(TrackId(2)), Some(TrackId(4))]);

    tap.media.send(TapMedia::SenderReport { track: TrackId(1), ntp: 7, rtp: 8 }).await.unwrap();
    tap.media.send(TapMedia::Packet(packet(1))).await.unwrap();
    assert_eq!(mixer.hear().await, ToMixer::Control(Control::SenderReport { track: TrackId(1), ntp: 7, rtp: 8 }));
    assert_eq!(mixer.hear().await, ToMixer::Rtp(packet(1)));

    roster.tracks[3].paused = true;
    tap.roster.send_replace(roster.clone());
    let paused = mixer.scene(|_| true).await;
    assert_eq!(paused.sources[1].placement, None);
    assert_eq!(paused.sources[0].id, scene.sources[0].id);
    mixer.begin(1).await;
    until(&mut watch, |seen| seen.stats.musicians == 2).await;

    mixer.say(FromMixer::Report(Report::KeyframeWanted { track: TrackId(2) })).await;
    assert_eq!(world.keyframes.recv().await, Some(TrackId(2)));

    tap.roster.send_replace(Roster::default());
    assert_eq!(labels(&mixer.scene(|_| true).await), Vec::<&str>::new());
}

#[tokio::test(start_paused = true)]
async fn the_programmes_sound_is_made_for_whoever_hears_it_in_the_room_and_never_steps_back() {
    let mut world = world();
    world.start(ask("jam")).await;
    let mut first = world.mixer().await;
    let tap = world.tap().await;
    assert!(!first.scene(|_| true).await.preview);
    tap.roster.send_replace(Roster { previewed: true, ..band(&["Ann"]) });
    first.scene(|scene| scene.preview).await;
    let sound = |ms: u64| OpusPacket { pts_us: ms * 1000, data: Bytes::from_static(b"sound") };
    for ms in [1000, 1020] {
        first.say(FromMixer::Preview(sound(ms))).await;
    }
    drop(first);
    let mut second = world.mixer().await;
    assert!(second.scene(|_| true).await.preview, "the next mixer makes it from its beginning");
    for ms in [1010, 1030] {
        second.say(FromMixer::Preview(sound(ms))).await;
    }
    for ms in [1000, 1020, 1030] {
        let frame = timeout(Duration::from_secs(1), world.screened.recv()).await.expect("in time").expect("a frame");
        assert!(matches!(&frame, ProgrammeFrame::Sound(heard) if *heard == sound(ms)), "{frame:?} for {ms} ms");
    }
    tap.roster.send_replace(band(&["Ann"]));
    second.scene(|scene| !scene.preview).await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_mixer_is_replaced_within_a_second_and_destinations_do_not_notice() {
    let mut world = world();
    let destination = world.destination("anna");
    let (id, mut watch) = world.start(NewStream { destinations: vec![destination], record: true, ..ask("jam") }).await;
    let mut first = world.mixer().await;
    let tap = world.tap().await;
    tap.roster.send_replace(band(&["Ann", "Bob"]));
    let before = first.scene(|scene| scene.sources.len() == 2).await;
    tap.media.send(TapMedia::SenderReport { track: TrackId(3), ntp: 7, rtp: 8 }).await.unwrap();
    first.begin(1000).await;
    first.video(1033, false).await;
    until(&mut watch, |seen| seen.stats.video_frames == 2).await;
    while world.keyframes.try_recv().is_ok() {}
    let dials = world.server.0.load(Ordering::SeqCst);

    drop(first);
    let died = Instant::now();
    let mut second = world.mixer().await;
    let after = second.scene(|_| true).await;
    assert!(died.elapsed() < Duration::from_secs(1), "{:?}", died.elapsed());
    assert_eq!(after.sources, before.sources);
    assert_eq!(before.recording, Some(world.folder.path().join(format!("{id}-1.mp4")).display().to_string()));
    assert_eq!(after.recording, Some(world.folder.path().join(format!("{id}-2.mp4")).display().to_string()));
    second.control(&Control::SenderReport { track: TrackId(3), ntp: 7, rtp: 8 }).await;
    assert_eq!([world.keyframes.recv().await, world.keyframes.recv().await], [Some(TrackId(2)), Some(TrackId(4))]);

    // The past and pictures that cannot be decoded yet do not reach anybody.
    second.video(1066, false).await;
    second.begin(1033).await;
    second.begin(1100).await;
    second.video(1133, false).await;
    let seen = until(&mut watch, |seen| seen.stats.video_frames == 4).await;
    assert_eq!((seen.state, seen.stats.mixer_restarts, seen.stats.dropped_frames), (StreamState::Live, 1, 2));
    assert_eq!(seen.reason, None);
    assert_eq!(world.server.0.load(Ordering::SeqCst), dials);
    assert_eq!(seen.destinations[0].reconnects, 0);
    let recordings = world.store.rows().recordings.clone();
    assert_eq!(recordings.iter().map(|row| row.part).collect::<Vec<_>>(), [1, 2]);
    assert!(recordings[0].failure.is_some() && recordings[1].ended_at_ms.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_mixer_that_dies_again_and_again_fails_the_stream() {
    let mut world = world();
    let (id, mut watch) = world.start(NewStream { record: true, ..ask("jam") }).await;
    for generation in 0..6 {
        let mixer = world.mixer().await;
        mixer.begin(1000 + generation * 100).await;
        mixer.say(FromMixer::Report(Report::Failed { reason: "the encoder is on fire".to_owned() })).await;
    }
    let failed = state(&mut watch, StreamState::Failed).await;
    let reason = failed.reason.expect("a reason");
    assert!(reason.contains("6 times") && reason.contains("the encoder is on fire"), "{reason}");
    let row = world.row(id);
    assert_eq!((row.state, row.reason), (StreamState::Failed, Some(reason)));
    let recordings = world.store.rows().recordings.clone();
    assert_eq!(recordings.len(), 6);
    assert!(recordings.iter().all(|part| part.ended_at_ms.is_some() && part.failure.is_some()));
    assert!(watch.changed().await.is_err(), "nothing follows the end");
    assert_eq!(world.registry.active(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_mixer_that_cannot_be_started_fails_the_stream_with_the_cause() {
    let world = world_with(Config::default(), 16, MixerStart::Fails);
    let (_, mut watch) = world.start(ask("jam")).await;
    let failed = state(&mut watch, StreamState::Failed).await;
    assert!(failed.reason.is_some_and(|reason| reason.contains("no such executable")));
}

#[tokio::test(start_paused = true)]
async fn a_mixer_that_encodes_nothing_is_replaced() {
    let mut world = world();
    let (_, mut watch) = world.start(ask("jam")).await;
    let wedged = world.mixer().await;
    wedged.begin(1000).await;
    let second = world.mixer().await;
    assert!(wedged.says.is_closed(), "the wedged mixer is dropped, that is killed");
    second.begin(9000).await;
    until(&mut watch, |seen| seen.stats.video_frames == 2 && seen.stats.mixer_restarts == 1).await;
}

#[tokio::test(start_paused = true)]
async fn stopping_finishes_the_recording_and_the_destinations() {
    let mut world = world();
    let destination = world.destination("anna");
    let (id, mut watch) = world.start(NewStream { destinations: vec![destination], record: true, ..ask("jam") }).await;
    let mut mixer = world.mixer().await;
    let path = mixer.scene(|_| true).await.recording.expect("a recording");
    mixer.begin(1000).await;
    state(&mut watch, StreamState::Live).await;
    world.registry.stop(id).await.unwrap();
    mixer.control(&Control::Finish).await;
    assert_eq!(world.registry.get(id).await.unwrap().unwrap().state, StreamState::Stopping);
    std::fs::write(&path, [0; 4096]).unwrap();
    mixer.video(1033, false).await;
    mixer.say(FromMixer::Report(Report::RecordingFinished { path })).await;
    mixer.say(FromMixer::Report(Report::Finished)).await;
    let ended = state(&mut watch, StreamState::Ended).await;
    assert_eq!((&ended.reason, ended.stats.video_frames), (&None, 2));
    let recording = world.store.rows().recordings[0].clone();
    assert_eq!((recording.size_bytes, recording.failure), (Some(4096), None));
    assert_eq!(world.row(id).state, StreamState::Ended);
    assert_eq!(ended.destinations[0].state, jamcast::live::snapshot::DestinationState::Stopped);
    // The last numbers stay when the stream's task is gone, and when its destination is deleted.
    while world.registry.watch(id).is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.store.delete_destination(destination).await.unwrap();
    let kept = world.registry.get(id).await.unwrap().unwrap();
    assert_eq!((&kept.stats, &kept.destinations), (&ended.stats, &ended.destinations));
    // Stopping what has ended is no error, starting it again is one.
    assert_eq!(world.registry.stop(id).await.unwrap().state, StreamState::Ended);
    let again = world.registry.start(id).await;
    assert!(matches!(again, Err(StreamError::WrongState(StreamState::Ended))), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn a_mixer_that_does_not_finish_is_not_waited_for_for_ever() {
    let mut world = world();
    let (id, mut watch) = world.start(NewStream { record: true, ..ask("jam") }).await;
    let mixer = world.mixer().await;
    mixer.begin(1000).await;
    state(&mut watch, StreamState::Live).await;
    world.registry.stop(id).await.unwrap();
    let asked = Instant::now();
    state(&mut watch, StreamState::Ended).await;
    assert!(asked.elapsed() <= Duration::from_secs(11), "{:?}", asked.elapsed());
    assert!(world.store.rows().recordings[0].failure.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_stream_stops_by_itself() {
    let mut world = world_with(Config { stream_timeout_ms: 3_000, ..Config::default() }, 256, MixerStart::Works);
    let (_, mut watch) = world.start(ask("jam")).await;
    let mixer = world.mixer().await;
    let tap = world.tap().await;
    tap.roster.send_replace(band(&["Ann"]));
    mixer.begin(1).await;
    for second in 1..10 {
        tap.media.send(TapMedia::Packet(packet(1))).await.unwrap();
        mixer.video(second * 1000, true).await;
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(watch.borrow().state, StreamState::Live);
    drop(mixer);
    let ended = state(&mut watch, StreamState::Ended).await;
    assert!(ended.reason.is_some_and(|reason| reason.contains("nobody")), "a reason people understand");
}

#[tokio::test(start_paused = true)]
async fn a_mixer_that_does_not_read_loses_packets_and_never_a_scene() {
    let mut world = world_with(Config::default(), 4, MixerStart::Works);
    let (_, _watch) = world.start(ask("jam")).await;
    let mut mixer = world.mixer().await;
    let tap = world.tap().await;
    tap.roster.send_replace(band(&["Ann"]));
    mixer.scene(|scene| scene.sources.len() == 1).await;
    let flood = async || {
        for _ in 0..500 {
            tap.media.send(TapMedia::Packet(packet(1))).await.unwrap();
        }
        while tap.media.capacity() < tap.media.max_capacity() {
            tokio::task::yield_now().await;
        }
    };
    flood().await;
    tap.roster.send_replace(band(&["Ann", "Bob", "Eve"]));
    flood().await;
    let mut packets = 0;
    let scene = loop {
        match mixer.hear().await {
            ToMixer::Rtp(_) => packets += 1,
            ToMixer::Control(Control::Scene { scene }) => break scene,
            other @ (ToMixer::Canvas(_) | ToMixer::Control(_)) => panic!("{other:?}"),
        }
    };
    assert_eq!((packets, scene.sources.len()), (4, 3));
}

#[tokio::test(start_paused = true)]
async fn a_lost_tap_is_asked_for_again() {
    let mut world = world();
    let (_, _watch) = world.start(ask("jam")).await;
    let mut mixer = world.mixer().await;
    let tap = world.tap().await;
    tap.roster.send_replace(band(&["Ann"]));
    mixer.scene(|scene| scene.sources.len() == 1).await;
    drop(tap);
    assert_eq!(mixer.scene(|_| true).await.sources, []);
    let tap = world.tap().await;
    tap.roster.send_replace(band(&["Ann", "Bob"]));
    mixer.scene(|scene| scene.sources.len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn limits_hold() {
    let mut world = world_with(Config { max_concurrent_streams: 2, ..Config::default() }, 256, MixerStart::Works);
    let (first, mut watch) = world.start(ask("jam")).await;
    let registry = world.registry.clone();
    let create = |name: &'static str| {
        let registry = registry.clone();
        async move { registry.create(&anna(), ask(name)).await.unwrap().id }
    };
    let (same_room, other, third) = (create("jam").await, create("gig").await, create("den").await);
    assert!(matches!(registry.start(same_room).await, Err(StreamError::RoomBusy(busy)) if busy == first));
    assert!(matches!(registry.start(first).await, Err(StreamError::WrongState(_))));
    assert!(matches!(registry.delete(first).await, Err(StreamError::WrongState(_))));
    registry.start(other).await.unwrap();
    assert!(matches!(registry.start(third).await, Err(StreamError::TooMany(2))));

    registry.stop(first).await.unwrap();
    drop(world.mixer().await);
    state(&mut watch, StreamState::Ended).await;
    registry.start(same_room).await.expect("its room is free again");
    registry.delete(first).await.unwrap();
    assert!(matches!(registry.delete(first).await, Err(StreamError::NotFound)));
    assert_eq!(registry.get(first).await.unwrap(), None);

    assert!(matches!(registry.create(&anna(), ask("nowhere")).await, Err(StreamError::UnknownRoom(_))));
    let foreign = world.destination("bob");
    let theft = registry.create(&anna(), NewStream { destinations: vec![foreign], ..ask("den") }).await;
    assert!(matches!(theft, Err(StreamError::UnknownDestination(id)) if id == foreign));
    assert_eq!(registry.stop(third).await.unwrap().state, StreamState::Ended);
}

#[tokio::test(start_paused = true)]
async fn streaming_can_be_switched_off() {
    let world = world_with(Config { streaming_enabled: false, ..Config::default() }, 256, MixerStart::Works);
    let id = world.registry.create(&anna(), ask("jam")).await.unwrap().id;
    let refused = world.registry.start(id).await;
    assert!(matches!(&refused, Err(error) if error.code() == "streaming_disabled"), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn an_idempotency_key_creates_one_stream() {
    let world = world();
    let new = NewStream { idempotency_key: Some("k1".to_owned()), ..ask("jam") };
    let first = world.registry.create(&anna(), new.clone()).await.unwrap();
    let second = world.registry.create(&anna(), new.clone()).await.unwrap();
    assert_eq!(first, second);
    let other = world.registry.create(&anna(), NewStream { title: "Other".to_owned(), ..new.clone() }).await;
    assert!(matches!(other, Err(StreamError::KeyReused)));
    world.registry.create(&"bob".parse().unwrap(), new).await.expect("keys are per owner");
    assert_eq!(world.registry.list(None, Page { limit: 10, before: None }).await.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_gateway_left_open_is_closed() {
    let world = world();
    let created = world.registry.create(&anna(), ask("jam")).await.unwrap().id;
    let live = world.registry.create(&anna(), ask("gig")).await.unwrap().id;
    {
        let mut rows = world.store.rows();
        rows.streams.iter_mut().find(|row| row.id == live).unwrap().state = StreamState::Live;
        rows.recordings.push(RecordingRow {
            id: RecordingId::generate(),
            stream: live,
            owner: anna(),
            room: room("gig"),
            title: "Jam night".to_owned(),
            part: 1,
            file: "left.mp4".to_owned(),
            created_at_ms: 1,
            ended_at_ms: None,
            size_bytes: None,
            failure: None,
            stem: None,
            zero_at_ms: None,
            kept: false,
        });
    }
    std::fs::write(world.folder.path().join("left.mp4"), [0; 100]).unwrap();
    world.registry.recover().await.unwrap();
    assert_eq!(world.row(created).state, StreamState::Created);
    let row = world.row(live);
    assert_eq!((row.state, row.reason.as_deref()), (StreamState::Failed, Some("the gateway was restarted")));
    let recording = world.store.rows().recordings[0].clone();
    assert_eq!((recording.size_bytes, recording.failure.is_some()), (Some(100), true));
}

#[tokio::test(start_paused = true)]
async fn draining_stops_every_stream_and_takes_no_new_one() {
    let mut world = world();
    let (_, mut watch) = world.start(ask("jam")).await;
    let waiting = world.registry.create(&anna(), ask("gig")).await.unwrap().id;
    let mut mixer = world.mixer().await;
    mixer.begin(1).await;
    state(&mut watch, StreamState::Live).await;
    let registry = world.registry.clone();
    let draining = tokio::spawn(async move { registry.drain(Duration::from_secs(30)).await });
    mixer.control(&Control::Finish).await;
    assert!(matches!(world.registry.start(waiting).await, Err(StreamError::ShuttingDown)));
    drop(mixer);
    assert_eq!(draining.await.unwrap(), 0);
    assert_eq!(watch.borrow().state, StreamState::Ended);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_a_stream_and_says_so() {
    let mut world = world();
    let (_, mut watch) = world.start(ask("jam")).await;
    let mixer = world.mixer().await;
    mixer.begin(1).await;
    state(&mut watch, StreamState::Live).await;
    world.shutdown.cancel();
    drop(mixer);
    let ended = state(&mut watch, StreamState::Ended).await;
    assert_eq!(ended.reason.as_deref(), Some("the gateway was shut down"));
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_one_stream_only() {
    let world = world_with(Config::default(), 16, MixerStart::Panics);
    let (id, mut watch) = world.start(ask("jam")).await;
    state(&mut watch, StreamState::Failed).await;
    assert_eq!(world.row(id).state, StreamState::Failed);
    assert_eq!(world.registry.active(), 0);
    world.start(ask("jam")).await;
}

#[tokio::test(start_paused = true)]
async fn snapshots_come_twice_a_second_at_most() {
    let mut world = world();
    let (_, mut watch) = world.start(ask("jam")).await;
    let mixer = world.mixer().await;
    mixer.begin(1).await;
    state(&mut watch, StreamState::Live).await;
    let mut seen = 0;
    for frame in 1..=150 {
        mixer.video(1 + frame * 33, frame % 60 == 0).await;
        tokio::time::sleep(Duration::from_millis(33)).await;
        seen += usize::from(watch.has_changed().expect("it is live"));
        watch.mark_unchanged();
    }
    assert!((8..=11).contains(&seen), "{seen} in five seconds");
    let fps = watch.borrow().stats.fps;
    assert!((29.0..=31.0).contains(&fps), "{fps}");
}

/// A server in memory that takes every publisher and passes on the times of the pictures it gets, in milliseconds.
struct TakingServer {
    dials: AtomicUsize,
    pictures: mpsc::Sender<u32>,
}

#[async_trait]
impl Dial for TakingServer {
    async fn dial(&self, _: &RtmpEndpoint) -> Result<Box<dyn Connection>, DialError> {
        self.dials.fetch_add(1, Ordering::SeqCst);
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let pictures = self.pictures.clone();
        tokio::spawn(async move {
            let mut receiver = Receiver::new("live".to_owned(), 1 << 20);
            let mut bytes = vec![0; 64 << 10];
            while let Ok(length @ 1..) = theirs.read(&mut bytes).await {
                receiver.handle(&bytes[..length]).expect("we speak RTMP");
                while let Some(output) = receiver.poll_output() {
                    match output {
                        Output::Send(answer) => theirs.write_all(&answer).await.expect("the publisher reads"),
                        Output::Event(Event::Publish { .. }) => receiver.accept(),
                        // The second byte of a picture is 1, that of a decoder configuration 0.
                        Output::Event(Event::Tag(tag)) if tag.kind == TagKind::Video && tag.body[1] == 1 => {
                            pictures.send(tag.timestamp_ms).await.expect("the test listens");
                        }
                        Output::Event(Event::Tag(_) | Event::Finished) => {}
                    }
                }
            }
        });
        Ok(Box::new(ours))
    }
    async fn check(&self, _: &RtmpEndpoint) -> Result<Vec<SocketAddr>, DialError> {
        Ok(Vec::new())
    }
}

#[tokio::test(start_paused = true)]
async fn a_destination_gets_the_programme_on_one_connection_whatever_happens_to_the_mixer() {
    let (pictures, mut got) = mpsc::channel(64);
    let server = Arc::new(TakingServer { dials: AtomicUsize::new(0), pictures });
    let mut world = world_before(server.clone(), Config::default(), 256, MixerStart::Works);
    let destination = world.destination("anna");
    let (id, mut watch) = world.start(NewStream { destinations: vec![destination], ..ask("jam") }).await;
    let mut mixer = world.mixer().await;
    // The destination begins at a keyframe, which it asks for.
    mixer.control(&Control::ForceKeyframe).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    mixer.begin(1000).await;
    mixer.video(1033, false).await;
    let mut times = vec![got.recv().await.expect("a picture"), got.recv().await.expect("a picture")];
    drop(mixer);
    let mixer = world.mixer().await;
    mixer.begin(1500).await;
    mixer.video(1533, false).await;
    times.extend([got.recv().await.expect("a picture"), got.recv().await.expect("a picture")]);
    let after: Vec<u32> = times.iter().map(|time| time - times[0]).collect();
    assert_eq!(after, [0, 33, 500, 533], "a gap as long as the real one");
    let seen = until(&mut watch, |seen| seen.stats.mixer_restarts == 1).await;
    let first = seen.stats.first_video_ms.expect("it was sent");
    assert!((700..1000).contains(&first), "{first} ms, of which the mixer took 700");
    assert_eq!((seen.destinations[0].reconnects, server.dials.load(Ordering::SeqCst)), (0, 1));
    world.registry.stop(id).await.expect("it stops");
    drop(mixer);
    state(&mut watch, StreamState::Ended).await;
}
