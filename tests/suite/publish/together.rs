//! Several destinations at once, outages and their ends: what one of them does costs the others nothing.

use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jamcast::driver::publish;
use jamcast::driver::publish::Dialer;
use jamcast::live::destination::Config;
use jamcast::live::destination::Destination;
use jamcast::live::fanout::Fanout;
use jamcast::live::port::Connection;
use jamcast::live::port::Dial;
use jamcast::live::port::DialError;
use jamcast::live::snapshot::DestinationState;
use jamcast::model::media::CodecConfig;
use jamcast::model::media::EncodedFrame;
use jamcast::model::media::MediaKind;
use jamcast::model::secret::StreamKey;
use jamcast::model::spec::DestinationSpec;
use jamcast::model::spec::Ingest;
use jamcast::model::spec::ProgrammeSpec;
use jamcast::model::spec::RtmpEndpoint;
use jamcast::proto::flv::TagKind;
use jamcast::proto::rtmp::receiver::Event;
use jamcast::proto::rtmp::receiver::Output;
use jamcast::proto::rtmp::receiver::Receiver;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::publish::fixture;
use crate::publish::fixture::CANARY;
use crate::publish::misbehaving;
use crate::publish::misbehaving::Manner;
use crate::publish::misbehaving::Stage;

fn programme() -> Fanout {
    let fanout = Fanout::new();
    fanout.set_config(CodecConfig { avc: Bytes::from_static(&[1, 0x64]), aac: Bytes::from_static(&[0x11, 0x90]) });
    fanout
}

/// A frame that carries its own time, milliseconds, in its first bytes.
fn frame(kind: MediaKind, ms: u64, key: bool, size: usize) -> EncodedFrame {
    let mut data = vec![0; size];
    data[..8].copy_from_slice(&ms.to_be_bytes());
    EncodedFrame { kind, pts_us: ms * 1000, dts_us: ms * 1000, key, data: Bytes::from(data) }
}

/// Plays 30 pictures and 50 sounds a second from `from_ms` to `to_ms`, with a keyframe each second; gives the number of frames.
async fn play(
    fanout: &Fanout,
    begun: Instant,
    from_ms: u64,
    to_ms: u64,
    picture: usize,
    mut look: impl FnMut(u64),
) -> u64 {
    let mut pushed = 0;
    for ms in (from_ms..to_ms).step_by(10) {
        tokio::time::sleep_until(begun + Duration::from_millis(ms)).await;
        if ms % 30 == 0 {
            fanout.push(&frame(MediaKind::Video, ms, ms % 990 == 0, picture));
            pushed += 1;
        }
        if ms % 20 == 0 {
            fanout.push(&frame(MediaKind::Audio, ms, true, 300));
            pushed += 1;
        }
        look(ms);
    }
    pushed
}

#[tokio::test(start_paused = true)]
async fn five_at_once_of_which_four_misbehave_cost_the_fifth_nothing() {
    let fanout = programme();
    let tracker = TaskTracker::new();
    let bad = [Manner::StopsReading, Manner::ClosesAfter(Duration::from_secs(7)), Manner::SlowReader, Manner::Forgets]
        .map(Stage::new);
    let good = Stage::new(Manner::Behaves);
    let troubled: Vec<Destination> = bad.iter().map(|stage| misbehaving::start(stage, &fanout, &tracker)).collect();
    let healthy = misbehaving::start(&good, &fanout, &tracker);
    let mut healthy_state = healthy.snapshot();
    healthy_state.wait_for(|seen| seen.state == DestinationState::Publishing).await.expect("published");

    let mut worst_ms = 0;
    let mut first_lost = [None; 4];
    let begun = Instant::now();
    let pushed = play(&fanout, begun, 0, 59_400, 8000, |ms| {
        let seen = healthy.snapshot().borrow().clone();
        worst_ms = worst_ms.max(seen.queue_ms);
        for (lost, destination) in first_lost.iter_mut().zip(&troubled) {
            if destination.snapshot().borrow().state == DestinationState::Backoff {
                lost.get_or_insert(ms);
            }
        }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(good.media.load(Ordering::Relaxed), pushed, "the healthy destination missed frames");
    let seen = healthy.snapshot().borrow().clone();
    assert_eq!((seen.state, seen.dropped_frames, seen.reconnects), (DestinationState::Live, 0, 0));
    assert!(worst_ms <= 100, "{worst_ms} ms behind");
    // One second of media, and at most ten until it is known to be dead though connected; one that forgets does so after three.
    assert!(first_lost[0].is_some_and(|ms| ms <= 11_000), "{first_lost:?}");
    assert!(first_lost[3].is_some_and(|ms| ms <= 13_000), "{first_lost:?}");
    assert!(bad[1].dials.load(Ordering::Relaxed) >= 5);
    assert!(troubled[2].snapshot().borrow().dropped_frames > 100);
    for destination in troubled {
        destination.stop().await;
    }
    healthy.stop().await;
}

/// What a server got: when, at which time of its connection, and from which time of the programme.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    at: Instant,
    connection: usize,
    timestamp_ms: u32,
    programme_ms: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Outage {
    /// The process is gone: connections end, new ones are refused.
    Gone,
    /// The network is: connections hang, new ones get no answer.
    Silent,
}

/// A server that is away for a while.
struct Away {
    how: Outage,
    from: Instant,
    until: Instant,
    connections: Mutex<usize>,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
}

#[async_trait]
impl Dial for Away {
    async fn dial(&self, endpoint: &RtmpEndpoint) -> Result<Box<dyn Connection>, DialError> {
        if (self.from..self.until).contains(&Instant::now()) {
            if self.how == Outage::Silent {
                std::future::pending::<()>().await;
            }
            let source = io::ErrorKind::ConnectionRefused.into();
            return Err(DialError::Connect { host: endpoint.host.clone(), port: endpoint.port, source });
        }
        let connection = {
            let mut connections = self.connections.lock().expect("no panic");
            *connections += 1;
            *connections
        };
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        let (how, from, until, arrivals) = (self.how, self.from, self.until, Arc::clone(&self.arrivals));
        tokio::spawn(async move {
            let mut receiver = Receiver::new("live".into(), 1 << 20);
            let mut buffer = vec![0; 4096];
            loop {
                if (from..until).contains(&Instant::now()) {
                    if how == Outage::Gone {
                        return;
                    }
                    tokio::time::sleep_until(until).await;
                }
                let length = tokio::select! {
                    read = theirs.read(&mut buffer) => match read {
                        Ok(length @ 1..) => length,
                        Ok(_) | Err(_) => return,
                    },
                    () = tokio::time::sleep_until(from), if Instant::now() < from => continue,
                };
                receiver.handle(&buffer[..length]).expect("we speak RTMP");
                while let Some(output) = receiver.poll_output() {
                    match output {
                        Output::Send(bytes) => {
                            if theirs.write_all(&bytes).await.is_err() {
                                return;
                            }
                        }
                        Output::Event(Event::Publish { .. }) => receiver.accept(),
                        Output::Event(Event::Tag(tag)) if tag.kind == TagKind::Video && tag.body[1] == 1 => {
                            let own = tag.body[5..13].try_into().expect("eight bytes");
                            arrivals.lock().expect("no panic").push(Arrival {
                                at: Instant::now(),
                                connection,
                                timestamp_ms: tag.timestamp_ms,
                                programme_ms: u64::from_be_bytes(own),
                            });
                        }
                        Output::Event(Event::Tag(_)) => {}
                        Output::Event(Event::Finished) => return,
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

fn start(dial: Arc<dyn Dial>, spec: DestinationSpec, fanout: &Fanout, tracker: &TaskTracker) -> Destination {
    let key = StreamKey::new(CANARY.to_owned()).expect("well formed");
    Destination::start(spec, key, &Config::default(), ProgrammeSpec::default(), dial, fanout.subscribe(), tracker)
}

/// Twenty seconds on air, ten of an outage that begins at any moment of a second, fifteen more.
async fn survive(how: Outage, shift_ms: u64) {
    let fanout = programme();
    let tracker = TaskTracker::new();
    let begun = Instant::now();
    let from = begun + Duration::from_millis(20_000 + shift_ms);
    let until = from + Duration::from_secs(10);
    let arrivals = Arc::<Mutex<Vec<Arrival>>>::default();
    let away = Away { how, from, until, connections: Mutex::default(), arrivals: Arc::clone(&arrivals) };
    let spec = fixture::spec(fixture::endpoint(true, "ingest.example", 443));
    let destination = start(Arc::new(away), spec, &fanout, &tracker);
    // The encoder is asked for a keyframe by whoever comes back, and makes one with its next picture.
    let wanted = fanout.keyframe_wanted();
    for ms in (0..45_000 + shift_ms).step_by(10) {
        tokio::time::sleep_until(begun + Duration::from_millis(ms)).await;
        if ms % 30 == 0 {
            let asked = futures::FutureExt::now_or_never(wanted.notified()).is_some();
            fanout.push(&frame(MediaKind::Video, ms, asked || ms % 1980 == 0, 8000));
        }
        if ms % 20 == 0 {
            fanout.push(&frame(MediaKind::Audio, ms, true, 300));
        }
    }
    assert_eq!(destination.snapshot().borrow().state, DestinationState::Live);
    destination.stop().await;
    let arrivals = arrivals.lock().expect("no panic").clone();
    let last = arrivals.iter().map(|arrival| arrival.connection).max().expect("pictures");
    assert!(last > 1, "it was dialled again");
    let back: Vec<Arrival> = arrivals.iter().filter(|arrival| arrival.connection == last).copied().collect();
    let after = back[0].at - until;
    assert!(
        after <= Duration::from_millis(1500),
        "the first picture came {after:?} after the return, shifted by {shift_ms}"
    );
    // At the live edge: nothing from before the return, and nothing late.
    for arrival in &back {
        let late = arrival.at - (begun + Duration::from_millis(arrival.programme_ms));
        assert!(late <= Duration::from_millis(200), "{late:?} late");
        // Its time on the wire is the programme's, from the first picture on.
        assert_eq!(u64::from(arrival.timestamp_ms), arrival.programme_ms - back[0].programme_ms);
    }
    assert!(back.windows(2).all(|pair| pair[1].programme_ms - pair[0].programme_ms == 30), "no picture is missing");
}

#[tokio::test(start_paused = true)]
async fn after_ten_seconds_without_a_server_it_is_back_within_a_second_and_a_half_at_the_live_edge() {
    for shift_ms in (0..1000).step_by(130) {
        survive(Outage::Gone, shift_ms).await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_ten_seconds_without_a_network_it_is_back_within_a_second_and_a_half_at_the_live_edge() {
    for shift_ms in (0..1000).step_by(130) {
        survive(Outage::Silent, shift_ms).await;
    }
}

/// Two servers, of which the first is gone for good after a while.
struct Two {
    first: Away,
    second: Away,
}

#[async_trait]
impl Dial for Two {
    async fn dial(&self, endpoint: &RtmpEndpoint) -> Result<Box<dyn Connection>, DialError> {
        if endpoint.host == "a.example" { self.first.dial(endpoint).await } else { self.second.dial(endpoint).await }
    }

    async fn check(&self, _: &RtmpEndpoint) -> Result<Vec<SocketAddr>, DialError> {
        Ok(Vec::new())
    }
}

#[tokio::test(start_paused = true)]
async fn the_backup_ingest_takes_over_within_a_second_and_keeps_the_programme() {
    let fanout = programme();
    let tracker = TaskTracker::new();
    let begun = Instant::now();
    let gone_at = begun + Duration::from_secs(6);
    let hour = Duration::from_secs(3600);
    let arrivals = Arc::<Mutex<Vec<Arrival>>>::default();
    let first = Away {
        how: Outage::Gone,
        from: gone_at,
        until: gone_at + hour,
        connections: Mutex::default(),
        arrivals: Arc::default(),
    };
    let second = Away {
        how: Outage::Gone,
        from: begun + hour,
        until: begun + hour,
        connections: Mutex::default(),
        arrivals: Arc::clone(&arrivals),
    };
    let endpoint = |host| fixture::endpoint(true, host, 443);
    let backup =
        Ingest { endpoint: endpoint("b.example"), key: StreamKey::new(CANARY.to_owned()).expect("well formed") };
    let spec = DestinationSpec { backup: Some(backup), ..fixture::spec(endpoint("a.example")) };
    let destination = start(Arc::new(Two { first, second }), spec, &fanout, &tracker);
    play(&fanout, begun, 0, 20_000, 8000, |ms| {
        let seen = destination.snapshot().borrow().clone();
        assert_eq!(seen.on_backup, ms > 6000 && seen.on_backup, "not before the first is lost");
    })
    .await;
    let seen = destination.snapshot().borrow().clone();
    assert_eq!((seen.state, seen.on_backup), (DestinationState::Live, true));
    assert!(seen.url.contains("b.example"), "{}", seen.url);
    destination.stop().await;
    let arrivals = arrivals.lock().expect("no panic").clone();
    // A keyframe comes each second here, wanted or not.
    let after = arrivals[0].at - gone_at;
    assert!(after <= Duration::from_millis(1500), "{after:?}");
    assert!(arrivals.windows(2).all(|pair| pair[1].programme_ms - pair[0].programme_ms == 30), "no picture is missing");
}

/// A server that takes a publisher, and nothing more after some seconds; it stays connected.
fn start_dying_server(after: Duration) -> u16 {
    let socket = TcpSocket::new_v4().expect("a socket");
    // A kernel takes what its server does not read, here more than the whole programme.
    socket.set_recv_buffer_size(4 << 20).expect("a buffer");
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
    let listener = socket.listen(1).expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a publisher");
        let mut receiver = Receiver::new("live".into(), 1 << 20);
        let mut buffer = vec![0; 4096];
        let begun = Instant::now();
        while begun.elapsed() < after {
            let length = stream.read(&mut buffer).await.expect("bytes");
            receiver.handle(&buffer[..length]).expect("we speak RTMP");
            while let Some(output) = receiver.poll_output() {
                match output {
                    Output::Send(bytes) => stream.write_all(&bytes).await.expect("the publisher reads"),
                    Output::Event(Event::Publish { .. }) => receiver.accept(),
                    Output::Event(Event::Tag(_) | Event::Finished) => {}
                }
            }
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop((stream, listener));
    });
    port
}

#[tokio::test]
async fn a_server_that_stops_reading_is_found_dead_within_ten_seconds_even_at_a_low_rate() {
    let after = Duration::from_secs(4);
    let port = start_dying_server(after);
    let fanout = programme();
    let tracker = TaskTracker::new();
    let dialer = Dialer::new(publish::Config::default(), Arc::new(|_, _| true)).expect("a dialler");
    let spec = fixture::spec(fixture::endpoint(false, "127.0.0.1", port));
    let destination = start(Arc::new(dialer), spec, &fanout, &tracker);
    let mut left_after = None;
    let begun = Instant::now();
    // 240 kbit/s of picture and 120 of sound: the kernels would hold a minute of it.
    play(&fanout, begun, 0, 15_000, 1000, |ms| {
        if destination.snapshot().borrow().state == DestinationState::Backoff {
            left_after.get_or_insert(ms - 4000);
        }
    })
    .await;
    destination.stop().await;
    assert!(left_after.is_some_and(|ms| ms <= 10_000), "{left_after:?} ms");
}

#[tokio::test(start_paused = true)]
async fn who_publishes_before_the_platform_shows_it_is_told_what_is_missing() {
    let fanout = programme();
    let tracker = TaskTracker::new();
    let stage = Stage::new(Manner::Behaves);
    let spec = DestinationSpec {
        platform: "youtube".into(),
        ..fixture::spec(fixture::endpoint(true, "a.rtmps.youtube.com", 443))
    };
    let destination = start(Arc::clone(&stage) as Arc<dyn Dial>, spec, &fanout, &tracker);
    let begun = Instant::now();
    play(&fanout, begun, 0, 5000, 8000, |_| {}).await;
    let seen = destination.snapshot().borrow().clone();
    assert_eq!(seen.state, DestinationState::Live);
    assert!(seen.hint.is_some_and(|hint| hint.contains("Live Control Room")));
    destination.stop().await;
}
