//! The publisher against our receiver and against `rml_rtmp`'s server, with every split of the byte stream.

use proptest::prelude::*;
use rml_rtmp::handshake::Handshake;
use rml_rtmp::handshake::HandshakeProcessResult;
use rml_rtmp::handshake::PeerType;
use rml_rtmp::sessions::ServerSession;
use rml_rtmp::sessions::ServerSessionConfig;
use rml_rtmp::sessions::ServerSessionEvent;
use rml_rtmp::sessions::ServerSessionResult;

use super::*;
use crate::proto::flv::Tag;
use crate::proto::rtmp::receiver;
use crate::proto::rtmp::receiver::Receiver;

fn publisher(now: Instant) -> Publisher {
    let endpoint = RtmpEndpoint { tls: false, host: "localhost".into(), port: 1935, app: "live".into() };
    let key = StreamKey::new("canary-key-1234".into()).expect("well formed");
    Publisher::new(now, endpoint, key, ProgrammeSpec::default())
}

fn config() -> CodecConfig {
    CodecConfig { avc: Bytes::from_static(&[1, 0x64, 0, 0x1f]), aac: Bytes::from_static(&[0x11, 0x90]) }
}

fn frame(kind: MediaKind, dts_us: u64, key: bool) -> EncodedFrame {
    EncodedFrame { kind, pts_us: dts_us, dts_us, key, data: Bytes::from(vec![7; 9000]) }
}

/// A publisher and a receiver with a wire between them that is cut into pieces of the given sizes, in turn.
struct Pair {
    now: Instant,
    publisher: Publisher,
    receiver: Receiver,
    cuts: Vec<usize>,
    turn: usize,
    accept: bool,
    events: Vec<Event>,
    tags: Vec<Tag>,
    finished: bool,
}

impl Pair {
    fn new(cuts: Vec<usize>, accept: bool) -> Self {
        let now = Instant::now();
        Self {
            now,
            publisher: publisher(now),
            receiver: Receiver::new("live".into(), 1 << 20),
            cuts,
            turn: 0,
            accept,
            events: Vec::new(),
            tags: Vec::new(),
            finished: false,
        }
    }

    fn pieces<'a>(&mut self, bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let mut rest = bytes;
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            self.turn += 1;
            let (head, tail) = rest.split_at(self.cuts[self.turn % self.cuts.len()].min(rest.len()));
            pieces.push(head);
            rest = tail;
        }
        pieces
    }

    /// Carries bytes both ways until nobody has anything to say.
    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(output) = self.publisher.poll_output() {
                quiet = false;
                match output {
                    Output::Event(event) => self.events.push(event),
                    Output::Send(bytes) => {
                        for piece in self.pieces(&bytes) {
                            self.receiver.handle(piece).expect("our own bytes are RTMP");
                        }
                    }
                }
            }
            while let Some(output) = self.receiver.poll_output() {
                quiet = false;
                match output {
                    receiver::Output::Send(bytes) => {
                        for piece in self.pieces(&bytes) {
                            self.publisher.handle(self.now, Input::Received(piece));
                        }
                    }
                    receiver::Output::Event(receiver::Event::Publish { key }) => {
                        assert_eq!(key, "canary-key-1234");
                        if self.accept { self.receiver.accept() } else { self.receiver.refuse() }
                    }
                    receiver::Output::Event(receiver::Event::Tag(tag)) => self.tags.push(tag),
                    receiver::Output::Event(receiver::Event::Finished) => self.finished = true,
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn give(&mut self, input: Input<'_>) {
        self.publisher.handle(self.now, input);
        self.settle();
    }
}

proptest! {
    #[test]
    fn a_programme_arrives_whole_however_the_bytes_are_split(cuts in proptest::collection::vec(1_usize..4000, 1..12)) {
        let mut pair = Pair::new(cuts, true);
        pair.settle();
        prop_assert_eq!(&pair.events, &[Event::Greeted, Event::Accepted]);
        pair.give(Input::Config(&config()));
        // Sound and inter frames before the first keyframe, and sound older than it, go nowhere.
        pair.give(Input::Frame(&frame(MediaKind::Audio, 1_000_000, true)));
        pair.give(Input::Frame(&frame(MediaKind::Video, 1_000_000, false)));
        pair.give(Input::Frame(&frame(MediaKind::Video, 1_033_000, true)));
        pair.give(Input::Frame(&frame(MediaKind::Audio, 1_020_000, true)));
        pair.give(Input::Frame(&frame(MediaKind::Audio, 1_040_000, true)));
        pair.give(Input::Frame(&frame(MediaKind::Video, 1_066_000, false)));
        // A step back in time is held at the last time.
        pair.give(Input::Frame(&frame(MediaKind::Video, 1_050_000, false)));
        pair.give(Input::Close);
        let seen: Vec<(u8, u32, usize)> =
            pair.tags.iter().map(|tag| (tag.kind as u8, tag.timestamp_ms, tag.body.len())).collect();
        prop_assert_eq!(seen[0].0, 18);
        prop_assert_eq!(
            &seen[1..],
            &[(9, 0, 9), (8, 0, 4), (9, 0, 9005), (8, 7, 9002), (9, 33, 9005), (9, 33, 9005)]
        );
        prop_assert_eq!(pair.publisher.frames(), 4);
        prop_assert!(pair.finished);
    }

    #[test]
    fn garbage_after_any_prefix_never_panics(
        prefix in 0_usize..4000,
        garbage in proptest::collection::vec(any::<u8>(), 1..3000),
    ) {
        let mut server = Receiver::new("live".into(), 1 << 20);
        let now = Instant::now();
        let mut publisher = publisher(now);
        let mut budget = prefix;
        while let Some(output) = publisher.poll_output() {
            let Output::Send(bytes) = output else { continue };
            server.handle(&bytes).expect("our own bytes are RTMP");
            while let Some(answer) = server.poll_output() {
                match answer {
                    receiver::Output::Send(bytes) => {
                        let length = bytes.len().min(budget);
                        budget -= length;
                        publisher.handle(now, Input::Received(&bytes[..length]));
                    }
                    receiver::Output::Event(_) => server.accept(),
                }
            }
        }
        publisher.handle(now, Input::Received(&garbage));
        while publisher.poll_output().is_some() {}
    }
}

#[test]
fn a_refused_key_is_told_apart_from_a_refused_application() {
    let mut pair = Pair::new(vec![100], false);
    pair.settle();
    assert_eq!(pair.events, [Event::Greeted, Event::Failed(PublishError::PublishRefused(Refusal::BadName))]);

    let mut pair = Pair::new(vec![100], true);
    pair.receiver = Receiver::new("another".into(), 1 << 20);
    pair.settle();
    assert_eq!(pair.events, [Event::Greeted, Event::Failed(PublishError::ConnectRefused(Refusal::Denied))]);
}

#[test]
fn a_server_that_says_nothing_is_given_up_at_the_deadline() {
    let now = Instant::now();
    let mut publisher = publisher(now);
    assert!(matches!(publisher.poll_output(), Some(Output::Send(hello)) if hello.len() == 1537));
    let deadline = publisher.poll_timeout().expect("the handshake has a deadline");
    publisher.handle(deadline - Duration::from_millis(1), Input::Timeout);
    assert!(publisher.poll_output().is_none());
    publisher.handle(deadline, Input::Timeout);
    assert!(matches!(
        publisher.poll_output(),
        Some(Output::Event(Event::Failed(PublishError::NoAnswer(Step::Handshake))))
    ));
}

#[test]
fn a_changed_configuration_is_sent_before_the_frames_that_need_it() {
    let mut pair = Pair::new(vec![1000], true);
    pair.settle();
    pair.give(Input::Config(&config()));
    pair.give(Input::Frame(&frame(MediaKind::Video, 0, true)));
    let changed = CodecConfig { avc: Bytes::from_static(&[1, 0x4d, 0, 0x1f]), ..config() };
    pair.give(Input::Config(&changed));
    pair.give(Input::Config(&changed));
    pair.give(Input::Frame(&frame(MediaKind::Video, 40_000, true)));
    let headers = pair.tags.iter().filter(|tag| tag.body[..2] == [0x17, 0]).count();
    assert_eq!(headers, 2);
    assert_eq!(pair.tags.last().map(|tag| tag.timestamp_ms), Some(40));
}

/// Short commands, unknown control events and interleaved chunks are what real servers send; each once broke a publisher.
#[test]
fn odd_but_real_server_messages_change_nothing() {
    let mut pair = Pair::new(vec![1000], true);
    pair.settle();
    pair.events.clear();
    for bytes in [
        // A command with its name alone.
        &b"\x03\0\0\0\0\0\x0e\x14\0\0\0\0\x02\0\x0bonFCPublish"[..],
        // User control event 26, SWF verification, and one of a single byte.
        b"\x02\0\0\0\0\0\x03\x04\0\0\0\0\0\x1a\0",
        b"\x02\0\0\0\0\0\x01\x04\0\0\0\0\0",
        // An acknowledgement window of nothing.
        b"\x02\0\0\0\0\0\0\x05\0\0\0\0",
    ] {
        pair.give(Input::Received(bytes));
    }
    assert!(pair.events.is_empty());
    // A ping is answered with its own time.
    pair.publisher.handle(pair.now, Input::Received(b"\x02\0\0\0\0\0\x06\x04\0\0\0\0\0\x06\0\0\x12\x34"));
    let Some(Output::Send(pong)) = pair.publisher.poll_output() else { panic!("a pong is due") };
    assert_eq!(pong[12..], [0, 7, 0, 0, 0x12, 0x34]);
}

#[test]
fn a_server_of_another_make_hears_every_frame() {
    let now = Instant::now();
    let mut publisher = publisher(now);
    let mut handshake = Handshake::new(PeerType::Server);
    let (mut server, mut greeting) = ServerSession::new(ServerSessionConfig::new()).expect("a server");
    let mut open = false;
    let (mut videos, mut audios, mut metadata, mut finished) = (0, 0, 0, false);
    for step in 0..60 {
        if step == 20 {
            publisher.handle(now, Input::Config(&config()));
        }
        if (20..30).contains(&step) {
            publisher.handle(now, Input::Frame(&frame(MediaKind::Video, step * 33_000, step == 20)));
            publisher.handle(now, Input::Frame(&frame(MediaKind::Audio, step * 33_000, true)));
        }
        if step == 40 {
            publisher.handle(now, Input::Close);
        }
        let mut results = Vec::new();
        while let Some(output) = publisher.poll_output() {
            let Output::Send(bytes) = output else { continue };
            if open {
                results.extend(server.handle_input(&bytes).expect("understood"));
                continue;
            }
            match handshake.process_bytes(&bytes).expect("a handshake") {
                HandshakeProcessResult::InProgress { response_bytes } => {
                    publisher.handle(now, Input::Received(&response_bytes));
                }
                HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
                    open = true;
                    publisher.handle(now, Input::Received(&response_bytes));
                    results.append(&mut greeting);
                    results.extend(server.handle_input(&remaining_bytes).expect("understood"));
                }
            }
        }
        while !results.is_empty() {
            match results.remove(0) {
                ServerSessionResult::OutboundResponse(packet) => {
                    publisher.handle(now, Input::Received(&packet.bytes));
                }
                ServerSessionResult::RaisedEvent(
                    ServerSessionEvent::ConnectionRequested { request_id, .. }
                    | ServerSessionEvent::PublishStreamRequested { request_id, .. }
                    | ServerSessionEvent::ReleaseStreamRequested { request_id, .. },
                ) => results.extend(server.accept_request(request_id).expect("accepted")),
                ServerSessionResult::RaisedEvent(ServerSessionEvent::VideoDataReceived { .. }) => videos += 1,
                ServerSessionResult::RaisedEvent(ServerSessionEvent::AudioDataReceived { .. }) => audios += 1,
                ServerSessionResult::RaisedEvent(ServerSessionEvent::StreamMetadataChanged { .. }) => metadata += 1,
                ServerSessionResult::RaisedEvent(ServerSessionEvent::PublishStreamFinished { .. }) => finished = true,
                ServerSessionResult::RaisedEvent(_) => {}
                ServerSessionResult::UnhandleableMessageReceived(_) => {}
            }
        }
    }
    assert_eq!((videos, audios, metadata, finished), (11, 11, 1, true));
}
