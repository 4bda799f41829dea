//! The publishing end: from handshake to frames on air, and a clean end.

use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;

use crate::model::fault::Fault;
use crate::model::fault::Faulty;
use crate::model::media::CodecConfig;
use crate::model::media::EncodedFrame;
use crate::model::media::MediaKind;
use crate::model::secret::StreamKey;
use crate::model::spec::ProgrammeSpec;
use crate::model::spec::RtmpEndpoint;
use crate::proto::amf::Value;
use crate::proto::flv;
use crate::proto::rtmp::kind;
use crate::proto::rtmp::link::Acknowledged;
use crate::proto::rtmp::link::Command;
use crate::proto::rtmp::link::Link;

/// A server answers each step in well under a second; longer than this is a dead one.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Servers send short answers to a publisher; anything larger is not an answer.
const MAX_MESSAGE: usize = 64 * 1024;
/// Servers are asked to acknowledge by so many bytes; nginx-rtmp does so only when asked. Flash Media Live Encoder asks for 2.5 MB, which is 8 s
/// of a programme. This is 2 s of sound beside a black picture, so that a server that takes no more is known in time whatever the kernels
/// between hold, and 23 short answers a second at 6 Mbit/s.
pub const WINDOW_ACK_SIZE: u32 = 32 * 1024;
/// Some servers take publishers only from encoders they know by this name.
const FLASH_VERSION: &str = "FMLE/3.0 (compatible; Jamcast)";

/// Transaction numbers of our requests, each used once.
const CONNECT: u32 = 1;
const RELEASE_STREAM: u32 = 2;
const FC_PUBLISH: u32 = 3;
const CREATE_STREAM: u32 = 4;
const PUBLISH: u32 = 5;
const FC_UNPUBLISH: u32 = 6;
const DELETE_STREAM: u32 = 7;

/// What the machine is told.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    /// Bytes of the server, split anywhere.
    Received(&'a [u8]),
    /// What decoders must know; before the first frame and whenever it changes, then followed by a keyframe.
    Config(&'a CodecConfig),
    /// A frame of the programme. Frames before [`Event::Accepted`] and before the first keyframe go nowhere.
    Frame(&'a EncodedFrame),
    /// The time of [`Publisher::poll_timeout`] has come.
    Timeout,
    /// Say goodbye; afterwards all output is to be sent and the connection closed.
    Close,
}

/// What the machine wants done, in this order.
pub enum Output {
    /// Bytes for the server. They may hold the stream key, therefore this type has no `Debug`.
    Send(Bytes),
    Event(Event),
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The handshake is done.
    Greeted,
    /// The server said `NetStream.Publish.Start`: frames may come.
    Accepted,
    /// It is over; nothing more comes out of this machine.
    Failed(PublishError),
}

/// Which answer was awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Handshake,
    Connect,
    CreateStream,
    Publish,
}

impl Step {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Handshake => "the handshake",
            Self::Connect => "connect",
            Self::CreateStream => "createStream",
            Self::Publish => "publish",
        }
    }
}

/// Why a server refused. Its own words are never shown: some echo the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `NetStream.Publish.BadName`: the key is wrong, or somebody publishes with it already.
    BadName,
    /// The application in the URL, or publishing at all, is not allowed.
    Denied,
    /// Any other reason.
    Other,
}

/// Why publishing ended or never began. Messages are shown to people; they hold nothing the server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    #[error("the server does not speak RTMP; check scheme, host and port of the server URL")]
    NotRtmp,
    #[error("the server did not answer {}; check host and port of the server URL", .0.as_str())]
    NoAnswer(Step),
    #[error("the server refuses this application; check the path of the server URL")]
    ConnectRefused(Refusal),
    #[error(
        "the server refuses this stream key; copy it again from the platform's page, and check that nobody else uses it"
    )]
    PublishRefused(Refusal),
    #[error("the server ended the stream; check the broadcast on the platform's page")]
    Ended,
}

impl Faulty for PublishError {
    fn fault(&self) -> Fault {
        Fault::Destination
    }
}

/// One attempt to publish over one connection.
pub struct Publisher {
    link: Link,
    state: State,
    endpoint: RtmpEndpoint,
    key: StreamKey,
    programme: ProgrammeSpec,
    config: Option<CodecConfig>,
    events: VecDeque<Event>,
    frames: u64,
}

/// Where the conversation stands. Deadlines are those of the awaited answer.
enum State {
    Handshaking {
        deadline: Instant,
    },
    Connecting {
        deadline: Instant,
    },
    Creating {
        deadline: Instant,
    },
    Publishing {
        stream: u32,
        deadline: Instant,
    },
    OnAir {
        stream: u32,
        timeline: Option<Timeline>,
    },
    /// Over: by a failure, or by our goodbye.
    Closed {
        failure: Option<PublishError>,
    },
}

/// The time of one connection: it begins at 0 with the first keyframe and never steps back.
struct Timeline {
    origin_us: u64,
    video_ms: u32,
    audio_ms: u32,
}

impl Publisher {
    /// A machine for a fresh connection; its first output is the handshake.
    pub fn new(now: Instant, endpoint: RtmpEndpoint, key: StreamKey, programme: ProgrammeSpec) -> Self {
        Self {
            link: Link::dialled(MAX_MESSAGE),
            state: State::Handshaking { deadline: now + STEP_TIMEOUT },
            endpoint,
            key,
            programme,
            config: None,
            events: VecDeque::new(),
            frames: 0,
        }
    }

    /// Frames written so far.
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    /// What the server says it has received; `None` if it never speaks of it.
    pub const fn acknowledged(&self) -> Option<Acknowledged> {
        self.link.acknowledged()
    }

    /// What it failed with, if it has: known at once, while [`Event::Failed`] waits behind bytes that the server may never take.
    pub const fn failure(&self) -> Option<PublishError> {
        match &self.state {
            State::Closed { failure } => *failure,
            State::Handshaking { .. }
            | State::Connecting { .. }
            | State::Creating { .. }
            | State::Publishing { .. }
            | State::OnAir { .. } => None,
        }
    }

    /// Bytes first, then events: what the server must hear before we act on what it said.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.link.poll_output().map(Output::Send).or_else(|| self.events.pop_front().map(Output::Event))
    }

    /// When [`Input::Timeout`] is due.
    pub const fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Handshaking { deadline }
            | State::Connecting { deadline }
            | State::Creating { deadline }
            | State::Publishing { deadline, .. } => Some(*deadline),
            State::OnAir { .. } | State::Closed { .. } => None,
        }
    }

    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        if matches!(self.state, State::Closed { .. }) {
            return;
        }
        match input {
            Input::Received(bytes) => self.receive(now, bytes),
            Input::Config(config) => self.set_config(config),
            Input::Frame(frame) => self.write_frame(frame),
            Input::Timeout => self.check_deadline(now),
            Input::Close => self.close(),
        }
    }

    fn fail(&mut self, error: PublishError) {
        self.state = State::Closed { failure: Some(error) };
        self.events.push_back(Event::Failed(error));
    }

    fn check_deadline(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|deadline| now < deadline) {
            return;
        }
        match self.state {
            State::Handshaking { .. } => self.fail(PublishError::NoAnswer(Step::Handshake)),
            State::Connecting { .. } => self.fail(PublishError::NoAnswer(Step::Connect)),
            State::Creating { .. } => self.fail(PublishError::NoAnswer(Step::CreateStream)),
            State::Publishing { .. } => self.fail(PublishError::NoAnswer(Step::Publish)),
            State::OnAir { .. } | State::Closed { .. } => {}
        }
    }

    fn receive(&mut self, now: Instant, bytes: &[u8]) {
        if self.link.receive(bytes).is_err() {
            self.fail(PublishError::NotRtmp);
            return;
        }
        if matches!(self.state, State::Handshaking { .. }) && self.link.is_open() {
            self.events.push_back(Event::Greeted);
            self.connect(now);
        }
        while !matches!(self.state, State::Closed { .. }) {
            match self.link.next() {
                Ok(Some(message)) => {
                    if let Some(command) = Command::parse(&message) {
                        self.obey(now, &command);
                    }
                }
                Ok(None) => return,
                Err(_) => self.fail(PublishError::NotRtmp),
            }
        }
    }

    fn obey(&mut self, now: Instant, command: &Command) {
        match (command.name.as_str(), &self.state) {
            ("_result", State::Connecting { .. }) if command.answers(CONNECT) => self.create_stream(now),
            ("_error", State::Connecting { .. }) if command.answers(CONNECT) => {
                self.fail(PublishError::ConnectRefused(refusal(command)));
            }
            ("_result", State::Creating { .. }) if command.answers(CREATE_STREAM) => {
                match command.values.get(1).and_then(Value::as_number) {
                    Some(id) if (0.0..=f64::from(u32::MAX)).contains(&id) => self.publish(now, id as u32),
                    Some(_) | None => self.fail(PublishError::NotRtmp),
                }
            }
            ("_error", State::Creating { .. }) if command.answers(CREATE_STREAM) => {
                self.fail(PublishError::PublishRefused(Refusal::Other));
            }
            ("_error", State::Publishing { .. }) if command.answers(PUBLISH) => {
                self.fail(PublishError::PublishRefused(refusal(command)));
            }
            ("onStatus", _) => self.take_status(command),
            ("close", _) => self.fail(PublishError::Ended),
            // Answers to releaseStream and FCPublish, onBWDone, onFCPublish and whatever else servers say: nothing depends on it.
            _ => {}
        }
    }

    fn take_status(&mut self, command: &Command) {
        let status = status(command);
        match (&self.state, status) {
            (State::Publishing { stream, .. }, Some(("NetStream.Publish.Start", _))) => {
                let stream = *stream;
                self.begin(stream);
            }
            (State::Publishing { .. }, Some((code, level))) if level == "error" || is_refusal(code) => {
                self.fail(PublishError::PublishRefused(refusal(command)));
            }
            (State::Connecting { .. } | State::Creating { .. }, Some((_, "error"))) => {
                self.fail(PublishError::ConnectRefused(refusal(command)));
            }
            (State::OnAir { .. }, Some((code, level))) if level == "error" || is_end(code) => {
                self.fail(PublishError::Ended);
            }
            _ => {}
        }
    }

    fn connect(&mut self, now: Instant) {
        let url = self.endpoint.url();
        let members = [
            ("app", self.endpoint.app.as_str()),
            ("type", "nonprivate"),
            ("flashVer", FLASH_VERSION),
            ("swfUrl", &url),
            ("tcUrl", &url),
        ];
        let object = members.map(|(name, value)| (name.to_owned(), Value::string(value))).into();
        self.link.send_command(0, &[Value::string("connect"), number(CONNECT), Value::Object(object)]);
        self.state = State::Connecting { deadline: now + STEP_TIMEOUT };
    }

    fn create_stream(&mut self, now: Instant) {
        self.link.announce_chunk_size();
        let key = Value::string(self.key.expose());
        self.link.send_command(0, &[Value::string("releaseStream"), number(RELEASE_STREAM), Value::Null, key.clone()]);
        self.link.send_command(0, &[Value::string("FCPublish"), number(FC_PUBLISH), Value::Null, key]);
        self.link.send_command(0, &[Value::string("createStream"), number(CREATE_STREAM), Value::Null]);
        self.state = State::Creating { deadline: now + STEP_TIMEOUT };
    }

    fn publish(&mut self, now: Instant, stream: u32) {
        self.link.send_command(
            stream,
            &[
                Value::string("publish"),
                number(PUBLISH),
                Value::Null,
                Value::string(self.key.expose()),
                Value::string("live"),
            ],
        );
        self.state = State::Publishing { stream, deadline: now + STEP_TIMEOUT };
    }

    fn begin(&mut self, stream: u32) {
        self.link.send(kind::WINDOW_ACK_SIZE, 0, 0, Bytes::copy_from_slice(&WINDOW_ACK_SIZE.to_be_bytes()));
        let mut values = vec![Value::string("@setDataFrame")];
        values.extend(flv::metadata(&self.programme));
        self.link.send(kind::DATA, stream, 0, flv::script(&values));
        self.state = State::OnAir { stream, timeline: None };
        self.events.push_back(Event::Accepted);
    }

    fn set_config(&mut self, config: &CodecConfig) {
        if self.config.as_ref() == Some(config) {
            return;
        }
        if let State::OnAir { stream, timeline: Some(timeline) } = &self.state {
            send_config(&mut self.link, *stream, config, timeline);
        }
        self.config = Some(config.clone());
    }

    fn write_frame(&mut self, frame: &EncodedFrame) {
        let State::OnAir { stream, timeline } = &mut self.state else { return };
        let Some(config) = &self.config else { return };
        if timeline.is_none() {
            if frame.kind != MediaKind::Video || !frame.key {
                return;
            }
            let begun = timeline.insert(Timeline { origin_us: frame.dts_us, video_ms: 0, audio_ms: 0 });
            send_config(&mut self.link, *stream, config, begun);
        }
        let Some(timeline) = timeline else { return };
        // Sound from before the first picture would need a negative time.
        let Some(elapsed_us) = frame.dts_us.checked_sub(timeline.origin_us) else { return };
        // RTMP's milliseconds wrap after 49.7 days.
        let at = ((elapsed_us / 1000) & 0xffff_ffff) as u32;
        let (kind, last) = match frame.kind {
            MediaKind::Audio => (kind::AUDIO, &mut timeline.audio_ms),
            MediaKind::Video => (kind::VIDEO, &mut timeline.video_ms),
        };
        // A step back stays at the last time; after the wrap "back" is a step of more than half the range.
        if at.wrapping_sub(*last) < u32::MAX / 2 {
            *last = at;
        }
        let timestamp_ms = *last;
        self.link.send(kind, *stream, timestamp_ms, flv::frame(frame));
        self.frames += 1;
    }

    fn close(&mut self) {
        if let State::Publishing { stream, .. } | State::OnAir { stream, .. } = self.state {
            let key = Value::string(self.key.expose());
            self.link.send_command(0, &[Value::string("FCUnpublish"), number(FC_UNPUBLISH), Value::Null, key]);
            self.link
                .send_command(0, &[Value::string("deleteStream"), number(DELETE_STREAM), Value::Null, number(stream)]);
        }
        self.state = State::Closed { failure: None };
    }
}

fn number(value: u32) -> Value {
    Value::Number(f64::from(value))
}

fn send_config(link: &mut Link, stream: u32, config: &CodecConfig, timeline: &Timeline) {
    link.send(kind::VIDEO, stream, timeline.video_ms, flv::avc_config(&config.avc));
    link.send(kind::AUDIO, stream, timeline.audio_ms, flv::aac_config(&config.aac));
}

/// Code and level of a status object, wherever among the values it stands.
fn status(command: &Command) -> Option<(&str, &str)> {
    let object = command.values.iter().find(|value| value.member("code").is_some())?;
    let code = object.member("code")?.as_str()?;
    Some((code, object.member("level").and_then(Value::as_str).unwrap_or("status")))
}

fn is_refusal(code: &str) -> bool {
    matches!(code, "NetStream.Publish.BadName" | "NetStream.Publish.Denied" | "NetStream.Publish.Rejected")
        || code.ends_with(".Failed")
}

fn is_end(code: &str) -> bool {
    is_refusal(code) || matches!(code, "NetStream.Unpublish.Success" | "NetConnection.Connect.Closed")
}

fn refusal(command: &Command) -> Refusal {
    match status(command).map(|(code, _)| code) {
        Some("NetStream.Publish.BadName") => Refusal::BadName,
        Some(
            "NetConnection.Connect.Rejected"
            | "NetConnection.Connect.InvalidApp"
            | "NetStream.Publish.Denied"
            | "NetStream.Publish.Rejected",
        ) => Refusal::Denied,
        Some(_) | None => Refusal::Other,
    }
}

#[cfg(test)]
mod tests;
