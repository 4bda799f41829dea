//! Servers that refuse, vanish, stop reading or talk nonsense, in virtual time, each beside one that behaves.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jamcast::live::destination::Config;
use jamcast::live::destination::Destination;
use jamcast::live::fanout::Fanout;
use jamcast::live::port::Connection;
use jamcast::live::port::Dial;
use jamcast::live::port::DialError;
use jamcast::live::snapshot::DestinationSnapshot;
use jamcast::live::snapshot::DestinationState;
use jamcast::model::media::CodecConfig;
use jamcast::model::media::EncodedFrame;
use jamcast::model::media::MediaKind;
use jamcast::model::secret::StreamKey;
use jamcast::model::spec::ProgrammeSpec;
use jamcast::model::spec::RtmpEndpoint;
use jamcast::proto::flv::TagKind;
use jamcast::proto::rtmp::receiver::Event;
use jamcast::proto::rtmp::receiver::Output;
use jamcast::proto::rtmp::receiver::Receiver;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::DuplexStream;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::publish::fixture;
use crate::publish::fixture::CANARY;

/// As much as a kernel would hold for one connection.
const WIRE: usize = 128 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Behaves,
    RefusesKey,
    /// Closes so long after publishing began.
    ClosesAfter(Duration),
    /// Does not even read the handshake.
    NeverAnswers,
    /// Takes nothing any more after a second of media.
    StopsReading,
    /// Speaks HTTP.
    Garbage,
    /// Random-looking bytes once on air.
    GarbageOnAir,
    /// Commands of one and two values all the time.
    ShortCommands,
    /// Goes on reading and does nothing with it any more, after three seconds of media.
    Forgets,
    /// Takes about half of what the programme needs.
    SlowReader,
    RefusesConnections,
    HasNoAddress,
}

/// Dials servers of one manner, which count the media they get.
pub(super) struct Stage {
    manner: Manner,
    pub(super) media: Arc<AtomicU64>,
    pub(super) dials: AtomicU64,
}

impl Stage {
    pub(super) fn new(manner: Manner) -> Arc<Self> {
        Arc::new(Self { manner, media: Arc::default(), dials: AtomicU64::new(0) })
    }
}

#[async_trait]
impl Dial for Stage {
    async fn dial(&self, endpoint: &RtmpEndpoint) -> Result<Box<dyn Connection>, DialError> {
        self.dials.fetch_add(1, Ordering::Relaxed);
        if self.manner == Manner::RefusesConnections {
            let source = io::ErrorKind::ConnectionRefused.into();
            return Err(DialError::Connect { host: endpoint.host.clone(), port: endpoint.port, source });
        }
        if self.manner == Manner::HasNoAddress {
            return Err(DialError::Resolve { host: endpoint.host.clone() });
        }
        // One that never reads has room for less than a handshake, as if its window were closed.
        let (ours, theirs) = tokio::io::duplex(if self.manner == Manner::NeverAnswers { 512 } else { WIRE });
        tokio::spawn(serve(theirs, self.manner, Arc::clone(&self.media)));
        Ok(Box::new(ours))
    }

    async fn check(&self, _: &RtmpEndpoint) -> Result<Vec<SocketAddr>, DialError> {
        Ok(Vec::new())
    }
}

/// One connection to a server. The errors of a torn wire end it, as they should.
async fn serve(mut wire: DuplexStream, manner: Manner, media: Arc<AtomicU64>) -> Option<()> {
    let mut receiver = Receiver::new("live".into(), 1 << 20);
    let mut accepted_at: Option<Instant> = None;
    let mut buffer = vec![0; 4096];
    if manner == Manner::NeverAnswers {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    if manner == Manner::Garbage {
        wire.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.ok()?;
        return None;
    }
    loop {
        let on_air = accepted_at.map(|at| at.elapsed());
        match (manner, on_air) {
            (Manner::ClosesAfter(limit), Some(elapsed)) if elapsed >= limit => return None,
            (Manner::StopsReading, Some(elapsed)) if elapsed >= Duration::from_secs(1) => {
                tokio::time::sleep(Duration::from_secs(3600)).await;
            }
            (Manner::GarbageOnAir, Some(_)) => wire.write_all(&[0xa5; 300]).await.ok()?,
            // onFCPublish with its name alone, on a chunk stream of its own.
            (Manner::ShortCommands, Some(_)) => {
                wire.write_all(b"\x03\0\0\0\0\0\x0e\x14\0\0\0\0\x02\0\x0bonFCPublish").await.ok()?;
            }
            (Manner::SlowReader, Some(_)) => tokio::time::sleep(Duration::from_millis(40)).await,
            _ => {}
        }
        let length = wire.read(&mut buffer).await.ok()?;
        if length == 0 {
            return None;
        }
        if manner == Manner::Forgets && on_air.is_some_and(|elapsed| elapsed >= Duration::from_secs(3)) {
            continue;
        }
        receiver.handle(&buffer[..length]).ok()?;
        while let Some(output) = receiver.poll_output() {
            match output {
                Output::Send(bytes) => wire.write_all(&bytes).await.ok()?,
                Output::Event(Event::Publish { .. }) if manner == Manner::RefusesKey => receiver.refuse(),
                Output::Event(Event::Publish { .. }) => {
                    accepted_at = Some(Instant::now());
                    receiver.accept();
                }
                Output::Event(Event::Tag(tag)) => {
                    // Sequence headers have 0 in their second byte.
                    if tag.kind != TagKind::Script && tag.body.get(1) == Some(&1) {
                        media.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Output::Event(Event::Finished) => return None,
            }
        }
    }
}

/// What was seen of a destination while a programme played.
struct Seen {
    states: Vec<DestinationState>,
    hints: String,
    last: DestinationSnapshot,
    dials: u64,
}

pub(super) fn start(stage: &Arc<Stage>, fanout: &Fanout, tracker: &TaskTracker) -> Destination {
    Destination::start(
        fixture::spec(fixture::endpoint(true, "ingest.example", 443)),
        StreamKey::new(CANARY.to_owned()).expect("well formed"),
        &Config::default(),
        ProgrammeSpec::default(),
        Arc::clone(stage) as Arc<dyn Dial>,
        fanout.subscribe(),
        tracker,
    )
}

/// Everything that is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic while logging").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Plays 30 pictures and 50 sounds a second to a server of this manner and to one that behaves, which must miss nothing.
async fn play(manner: Manner, seconds: u64) -> Seen {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let fanout = Fanout::new();
    fanout.set_config(CodecConfig { avc: Bytes::from_static(&[1, 0x64]), aac: Bytes::from_static(&[0x11, 0x90]) });
    let tracker = TaskTracker::new();
    let (bad, good) = (Stage::new(manner), Stage::new(Manner::Behaves));
    let healthy = start(&good, &fanout, &tracker);
    let watched = start(&bad, &fanout, &tracker);
    let mut healthy_state = healthy.snapshot();
    healthy_state.wait_for(|seen| seen.state == DestinationState::Publishing).await.expect("published");

    let mut seen =
        Seen { states: Vec::new(), hints: String::new(), last: watched.snapshot().borrow().clone(), dials: 0 };
    let mut pushed = 0;
    let begun = Instant::now();
    for ms in (0..seconds * 1000).step_by(10) {
        tokio::time::sleep_until(begun + Duration::from_millis(ms)).await;
        let frame = |kind, key, size: usize| EncodedFrame {
            kind,
            pts_us: ms * 1000,
            dts_us: ms * 1000,
            key,
            data: Bytes::from(vec![0; size]),
        };
        if ms % 30 == 0 {
            fanout.push(&frame(MediaKind::Video, ms % 990 == 0, 6000));
            pushed += 1;
        }
        if ms % 20 == 0 {
            fanout.push(&frame(MediaKind::Audio, true, 300));
            pushed += 1;
        }
        let snapshot = watched.snapshot().borrow().clone();
        if seen.states.last() != Some(&snapshot.state) {
            seen.states.push(snapshot.state);
        }
        seen.hints += snapshot.hint.as_deref().unwrap_or_default();
        seen.last = snapshot;
    }
    seen.dials = bad.dials.load(Ordering::Relaxed);
    watched.stop().await;
    let healthy_end = healthy.snapshot();
    healthy.stop().await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    assert_eq!(good.media.load(Ordering::Relaxed), pushed, "the healthy destination missed frames");
    let healthy_end = healthy_end.borrow().clone();
    assert_eq!((healthy_end.dropped_frames, healthy_end.reconnects), (0, 0));
    let logged = String::from_utf8_lossy(&log.0.lock().expect("no panic while logging")).into_owned();
    assert!(logged.contains("destination changed"), "nothing was logged, so the look for the key means nothing");
    let visible = format!("{logged} {} {:?} {healthy_end:?}", seen.hints, seen.last);
    assert!(!visible.contains(CANARY), "the stream key is visible");
    seen
}

#[tokio::test(start_paused = true)]
async fn a_server_that_behaves_is_live_after_three_seconds() {
    let seen = play(Manner::Behaves, 5).await;
    assert_eq!(seen.states.last(), Some(&DestinationState::Live));
    assert_eq!((seen.last.hint, seen.last.dropped_frames, seen.dials), (None, 0, 1));
    assert!(seen.last.bytes_sent > 800_000);
}

#[tokio::test(start_paused = true)]
async fn a_refused_key_is_rejected_and_tried_again_slowly() {
    let seen = play(Manner::RefusesKey, 25).await;
    assert_eq!(seen.states.last(), Some(&DestinationState::Rejected));
    assert!(seen.hints.contains("copy it again"), "{}", seen.hints);
    assert_eq!(seen.dials, 1);
}

#[tokio::test(start_paused = true)]
async fn closing_after_four_seconds_three_times_is_a_rejection_as_x_does_it() {
    let seen = play(Manner::ClosesAfter(Duration::from_secs(4)), 30).await;
    assert_eq!(seen.states.last(), Some(&DestinationState::Rejected), "{:?}", seen.states);
    assert!(seen.states.contains(&DestinationState::Backoff));
    assert!(seen.last.hint.is_some_and(|hint| hint.contains("X.com")));
    assert_eq!(seen.dials, 3);
}

#[tokio::test(start_paused = true)]
async fn closing_after_a_while_is_a_reconnect_within_a_second() {
    let seen = play(Manner::ClosesAfter(Duration::from_secs(12)), 20).await;
    assert_eq!(seen.states.last(), Some(&DestinationState::Live));
    assert_eq!((seen.dials, seen.last.reconnects), (2, 1));
    // Of 83 frames a second at most two seconds are lost: the wait, and the way to the next keyframe.
    assert!(seen.last.frames_sent > 17 * 83, "{}", seen.last.frames_sent);
}

#[tokio::test(start_paused = true)]
async fn silence_is_a_backoff_that_says_so() {
    let seen = play(Manner::NeverAnswers, 15).await;
    assert!(seen.states.starts_with(&[DestinationState::Handshaking, DestinationState::Backoff]), "{:?}", seen.states);
    assert!(seen.hints.contains("did not answer the handshake"), "{}", seen.hints);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_reading_is_stalled_then_left_then_dialled_again() {
    let seen = play(Manner::StopsReading, 20).await;
    let at = |state| seen.states.iter().position(|seen| *seen == state).expect("seen");
    assert!(at(DestinationState::Stalled) < at(DestinationState::Backoff), "{:?}", seen.states);
    assert!(seen.dials >= 2 && seen.last.dropped_frames > 0);
    assert!(seen.hints.contains("takes nothing"));
}

#[tokio::test(start_paused = true)]
async fn another_protocol_is_named_as_such() {
    let seen = play(Manner::Garbage, 5).await;
    assert!(seen.hints.contains("does not speak RTMP"), "{}", seen.hints);
    assert!(seen.dials > 2);
}

#[tokio::test(start_paused = true)]
async fn garbage_on_air_ends_that_connection_only() {
    let seen = play(Manner::GarbageOnAir, 5).await;
    assert!(seen.states.contains(&DestinationState::Backoff), "{:?}", seen.states);
    assert!(seen.hints.contains("does not speak RTMP"), "{}", seen.hints);
}

#[tokio::test(start_paused = true)]
async fn short_commands_do_no_harm() {
    let seen = play(Manner::ShortCommands, 5).await;
    assert_eq!(seen.states.last(), Some(&DestinationState::Live));
    assert_eq!((seen.dials, seen.last.dropped_frames), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_loses_its_own_frames_and_stays_connected() {
    let seen = play(Manner::SlowReader, 20).await;
    assert!(seen.last.dropped_frames > 50, "{:?}", seen.last);
    assert!(seen.last.queue_ms <= 3000);
    assert_eq!((seen.dials, seen.states.last()), (1, Some(&DestinationState::Live)));
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_is_tried_again_soon_and_for_long() {
    let seen = play(Manner::RefusesConnections, 60).await;
    assert_eq!(seen.states.last(), Some(&DestinationState::Backoff));
    assert!(seen.last.hint.is_some_and(|hint| hint.contains("ingest.example:443 does not accept connections")));
    assert!((6..=15).contains(&seen.dials), "{}", seen.dials);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_does_not_resolve_any_more_is_named_and_tried_again() {
    let seen = play(Manner::HasNoAddress, 60).await;
    assert_eq!(seen.states.last(), Some(&DestinationState::Backoff));
    assert!(seen.last.hint.is_some_and(|hint| hint.contains("the host ingest.example does not resolve")));
    assert!((6..=15).contains(&seen.dials), "{}", seen.dials);
}
