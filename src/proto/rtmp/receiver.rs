//! The receiving end: takes one publisher's stream and hands on its tags. Small on purpose: no play, no shared objects.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::model::fault::Fault;
use crate::model::fault::Faulty;
use crate::proto::amf;
use crate::proto::amf::Value;
use crate::proto::flv::Tag;
use crate::proto::flv::TagKind;
use crate::proto::rtmp::chunk::Message;
use crate::proto::rtmp::kind;
use crate::proto::rtmp::link::Command;
use crate::proto::rtmp::link::Link;

/// Asked of publishers, so that they hear now and then that bytes arrive.
const WINDOW_ACK_SIZE: u32 = 2_500_000;
/// "Dynamic": the publisher decides whether the limit binds it (section 5.4.5).
const DYNAMIC: u8 = 2;
/// The one message stream a connection gets.
const STREAM: u32 = 1;

/// What has happened. No `Debug`, because `Publish` holds a stream key.
pub enum Event {
    /// Somebody wants to publish with this key: answer with [`Receiver::accept`] or [`Receiver::refuse`].
    Publish {
        key: String,
    },
    Tag(Tag),
    /// The publisher is done; the connection may be closed when all output is sent.
    Finished,
}

/// What the machine wants done.
pub enum Output {
    Send(Bytes),
    Event(Event),
}

/// The publisher broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the publisher does not speak RTMP, or sends a message over the limit")]
pub struct NotRtmp;

impl Faulty for NotRtmp {
    fn fault(&self) -> Fault {
        Fault::Client
    }
}

/// One publisher's connection.
pub struct Receiver {
    link: Link,
    state: State,
    app: String,
    events: VecDeque<Event>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Greeting,
    Connected,
    /// The owner decides about the key.
    Asking,
    Publishing,
    Closed,
}

impl Receiver {
    /// A machine for an accepted connection, publishing to `app`, with messages of at most `max_message` bytes.
    pub fn new(app: String, max_message: usize) -> Self {
        Self { link: Link::accepted(max_message), state: State::Greeting, app, events: VecDeque::new() }
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.link.poll_output().map(Output::Send).or_else(|| self.events.pop_front().map(Output::Event))
    }

    /// Takes bytes of the publisher, split anywhere.
    ///
    /// # Errors
    /// [`NotRtmp`]: nothing more can be understood; close the connection.
    pub fn handle(&mut self, bytes: &[u8]) -> Result<(), NotRtmp> {
        if self.state == State::Closed {
            return Ok(());
        }
        self.link.receive(bytes).map_err(|_| NotRtmp)?;
        while let Some(message) = self.link.next().map_err(|_| NotRtmp)? {
            if self.state == State::Closed {
                return Ok(());
            }
            match Command::parse(&message) {
                Some(command) => self.obey(&command),
                None => self.take_media(message),
            }
        }
        Ok(())
    }

    /// Lets the publisher begin.
    pub fn accept(&mut self) {
        if self.state == State::Asking {
            self.state = State::Publishing;
            // User control event 0, StreamBegin (section 7.1.7).
            self.link.send_control(kind::USER_CONTROL, &[0, 0, 0, 0, 0, 1]);
            self.send_status("status", "NetStream.Publish.Start", "publishing");
        }
    }

    /// Turns the publisher away.
    pub fn refuse(&mut self) {
        if self.state == State::Asking {
            self.send_status("error", "NetStream.Publish.BadName", "this stream key is not taken here");
            self.finish();
        }
    }

    fn finish(&mut self) {
        self.state = State::Closed;
        self.events.push_back(Event::Finished);
    }

    fn obey(&mut self, command: &Command) {
        match (command.name.as_str(), self.state) {
            ("connect", State::Greeting) => self.connect(command),
            ("createStream", State::Connected) => {
                self.answer(command.transaction, Value::Null, Value::Number(f64::from(STREAM)));
            }
            ("publish", State::Connected) => {
                let key = command.values.get(1).and_then(Value::as_str).unwrap_or_default().to_owned();
                self.state = State::Asking;
                self.events.push_back(Event::Publish { key });
            }
            ("FCUnpublish" | "deleteStream" | "closeStream", State::Publishing | State::Asking) => self.finish(),
            ("releaseStream" | "FCPublish", State::Connected) => {
                self.answer(command.transaction, Value::Null, Value::Undefined);
            }
            _ => {}
        }
    }

    fn connect(&mut self, command: &Command) {
        let app = command.values.first().and_then(|object| object.member("app")).and_then(Value::as_str);
        // Some publishers write the application with slashes around it.
        if app.map(|app| app.trim_matches('/')) == Some(self.app.as_str()) {
            self.link.send_control(kind::WINDOW_ACK_SIZE, &WINDOW_ACK_SIZE.to_be_bytes());
            let mut bandwidth = WINDOW_ACK_SIZE.to_be_bytes().to_vec();
            bandwidth.push(DYNAMIC);
            self.link.send_control(kind::SET_PEER_BANDWIDTH, &bandwidth);
            self.link.announce_chunk_size();
            let server = object(&[("fmsVer", "FMS/3,0,1,123")]);
            let info = status_object("status", "NetConnection.Connect.Success", "connected");
            self.answer(command.transaction, server, info);
            self.state = State::Connected;
        } else {
            let info = status_object("error", "NetConnection.Connect.Rejected", "there is no such application here");
            let number = Value::Number(command.transaction);
            self.link.send_command(0, &[Value::string("_error"), number, Value::Null, info]);
            self.finish();
        }
    }

    fn answer(&mut self, transaction: f64, object: Value, info: Value) {
        self.link.send_command(0, &[Value::string("_result"), Value::Number(transaction), object, info]);
    }

    fn send_status(&mut self, level: &str, code: &str, description: &str) {
        let info = status_object(level, code, description);
        self.link.send_command(STREAM, &[Value::string("onStatus"), Value::Number(0.0), Value::Null, info]);
    }

    fn take_media(&mut self, message: Message) {
        if self.state != State::Publishing || message.payload.is_empty() {
            return;
        }
        let (kind, body) = match message.kind {
            kind::AUDIO => (TagKind::Audio, message.payload),
            kind::VIDEO => (TagKind::Video, message.payload),
            kind::DATA => {
                let Some(body) = metadata(&message.payload) else { return };
                (TagKind::Script, body)
            }
            _ => return,
        };
        self.events.push_back(Event::Tag(Tag { kind, timestamp_ms: message.timestamp_ms, body }));
    }
}

/// `onMetaData` without the `@setDataFrame` that only servers are meant to see.
fn metadata(payload: &[u8]) -> Option<Bytes> {
    let mut values = amf::decode(payload).ok()?;
    if values.first().and_then(Value::as_str) == Some("@setDataFrame") {
        values.remove(0);
    }
    (values.first().and_then(Value::as_str) == Some("onMetaData")).then(|| amf::encode(&values))
}

fn object(members: &[(&str, &str)]) -> Value {
    Value::Object(members.iter().map(|(name, value)| ((*name).to_owned(), Value::string(value))).collect())
}

fn status_object(level: &str, code: &str, description: &str) -> Value {
    object(&[("level", level), ("code", code), ("description", description)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn garbage_never_panics(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..2000), 0..8)) {
            let mut receiver = Receiver::new("live".to_owned(), 4096);
            for piece in pieces {
                if receiver.handle(&piece).is_err() {
                    break;
                }
                while receiver.poll_output().is_some() {}
            }
        }
    }
}
