//! What both ends of an RTMP connection share: handshake, chunks, acknowledgements and pings.

use std::collections::VecDeque;

use bytes::Bytes;
use rml_rtmp::handshake::Handshake;
use rml_rtmp::handshake::HandshakeProcessResult;
use rml_rtmp::handshake::PeerType;

use crate::proto::amf;
use crate::proto::amf::Value;
use crate::proto::rtmp::CHUNK_SIZE;
use crate::proto::rtmp::chunk::ChunkReader;
use crate::proto::rtmp::chunk::ChunkWriter;
use crate::proto::rtmp::chunk::Message;
use crate::proto::rtmp::kind;

/// Event types of a user control message (section 7.1.7).
const PING_REQUEST: u16 = 6;
const PING_RESPONSE: [u8; 2] = [0, 7];

/// Replies wait for the peer to read. One that pings without reading gets no further answers beyond these bytes.
const MAX_WAITING_REPLIES: usize = 64 * 1024;

/// What the peer says it has received (section 5.4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// Bytes since the connection began, as far as its numbers can be believed.
    pub bytes: u64,
    /// Bytes that were on their way to it when it said so.
    pub lag_bytes: u64,
}

/// The peer's bytes are not RTMP, or break its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

pub(super) struct Link {
    phase: Phase,
    reader: ChunkReader,
    writer: ChunkWriter,
    output: VecDeque<Bytes>,
    output_bytes: usize,
    /// Bytes of chunks received; acknowledgements carry this total (section 5.4.3).
    received: u64,
    acknowledged: u64,
    /// Set when the peer wants acknowledgements, in bytes.
    window: Option<u32>,
    /// Bytes queued for the peer so far.
    sent: u64,
    peer: Option<Acknowledged>,
}

enum Phase {
    Handshaking(Box<Handshake>),
    Open,
    Broken,
}

impl Link {
    /// The dialling end. It speaks first.
    pub(super) fn dialled(max_message: usize) -> Self {
        let mut handshake = Handshake::new(PeerType::Client);
        let hello = handshake.generate_outbound_p0_and_p1();
        let mut link = Self::new(handshake, max_message);
        match hello {
            Ok(bytes) => link.queue(bytes.into()),
            Err(_) => link.phase = Phase::Broken,
        }
        link
    }

    /// The listening end.
    pub(super) fn accepted(max_message: usize) -> Self {
        Self::new(Handshake::new(PeerType::Server), max_message)
    }

    fn new(handshake: Handshake, max_message: usize) -> Self {
        Self {
            phase: Phase::Handshaking(Box::new(handshake)),
            reader: ChunkReader::new(max_message),
            writer: ChunkWriter::new(),
            output: VecDeque::new(),
            output_bytes: 0,
            received: 0,
            acknowledged: 0,
            window: None,
            sent: 0,
            peer: None,
        }
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Takes bytes of the peer; whole messages come out of [`Self::next`].
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        match &mut self.phase {
            Phase::Broken => Err(Malformed),
            Phase::Open => {
                self.receive_chunks(bytes);
                Ok(())
            }
            Phase::Handshaking(handshake) => match handshake.process_bytes(bytes) {
                Ok(HandshakeProcessResult::InProgress { response_bytes }) => {
                    self.queue(response_bytes.into());
                    Ok(())
                }
                Ok(HandshakeProcessResult::Completed { response_bytes, remaining_bytes }) => {
                    self.phase = Phase::Open;
                    self.queue(response_bytes.into());
                    self.receive_chunks(&remaining_bytes);
                    Ok(())
                }
                Err(_) => {
                    self.phase = Phase::Broken;
                    Err(Malformed)
                }
            },
        }
    }

    fn receive_chunks(&mut self, bytes: &[u8]) {
        self.received += bytes.len() as u64;
        self.reader.push(bytes);
        let Some(window) = self.window else { return };
        if self.received - self.acknowledged >= u64::from(window) && self.output_bytes < MAX_WAITING_REPLIES {
            self.acknowledged = self.received;
            // The total wraps like every 32-bit number of RTMP.
            let total = (self.received & 0xffff_ffff) as u32;
            self.send_control(kind::ACKNOWLEDGEMENT, &total.to_be_bytes());
        }
    }

    /// The next message that is not the link's own affair.
    pub(super) fn next(&mut self) -> Result<Option<Message>, Malformed> {
        loop {
            match self.reader.next() {
                Ok(None) => return Ok(None),
                Ok(Some(message)) if !self.obey(&message) => return Ok(Some(message)),
                Ok(Some(_)) => {}
                Err(_) => {
                    self.phase = Phase::Broken;
                    return Err(Malformed);
                }
            }
        }
    }

    /// Handles what concerns the connection alone. Malformed control messages are ignored, as nothing depends on them.
    fn obey(&mut self, message: &Message) -> bool {
        let payload = &message.payload;
        match message.kind {
            kind::WINDOW_ACK_SIZE | kind::SET_PEER_BANDWIDTH => {
                if let Some(size) = payload.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes)) {
                    if message.kind == kind::WINDOW_ACK_SIZE {
                        self.window = Some(size.max(1));
                    } else {
                        self.send_control(kind::WINDOW_ACK_SIZE, &size.to_be_bytes());
                    }
                }
                true
            }
            kind::USER_CONTROL => {
                if let Some((event, rest)) = payload.split_first_chunk::<2>()
                    && u16::from_be_bytes(*event) == PING_REQUEST
                {
                    let echo = rest.get(..4).unwrap_or(&[0; 4]);
                    self.send_control(kind::USER_CONTROL, &[&PING_RESPONSE[..], echo].concat());
                }
                true
            }
            kind::ACKNOWLEDGEMENT => {
                if let Some(total) = payload.first_chunk::<4>() {
                    self.note_acknowledged(u32::from_be_bytes(*total));
                }
                true
            }
            _ => false,
        }
    }

    /// Takes a total that wraps. Some servers tell instead what came since their last acknowledgement, and any of them may lie: what
    /// goes back or beyond what was sent is not believed.
    fn note_acknowledged(&mut self, total: u32) {
        let before = self.peer.map_or(0, |peer| peer.bytes);
        let step = u64::from(total.wrapping_sub((before & 0xffff_ffff) as u32));
        let bytes = if step > 0 && before + step <= self.sent { before + step } else { before + u64::from(total) };
        if bytes > before && bytes <= self.sent {
            self.peer = Some(Acknowledged { bytes, lag_bytes: self.sent - bytes });
        }
    }

    /// The newest acknowledgement.
    pub(super) const fn acknowledged(&self) -> Option<Acknowledged> {
        self.peer
    }

    /// Queues a control message, unless the peer has stopped reading.
    pub(super) fn send_control(&mut self, kind: u8, payload: &[u8]) {
        if self.output_bytes < MAX_WAITING_REPLIES {
            self.send(kind, 0, 0, Bytes::copy_from_slice(payload));
        }
    }

    pub(super) fn send_command(&mut self, stream: u32, values: &[Value]) {
        self.send(kind::COMMAND, stream, 0, amf::encode(values));
    }

    pub(super) fn send(&mut self, kind: u8, stream: u32, timestamp_ms: u32, payload: Bytes) {
        let bytes = self.writer.write(Message { kind, stream, timestamp_ms, payload });
        self.queue(bytes);
    }

    pub(super) fn announce_chunk_size(&mut self) {
        let bytes = self.writer.set_chunk_size(CHUNK_SIZE);
        self.queue(bytes);
    }

    fn queue(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.output_bytes += bytes.len();
            self.sent += bytes.len() as u64;
            self.output.push_back(bytes);
        }
    }

    pub(super) fn poll_output(&mut self) -> Option<Bytes> {
        let bytes = self.output.pop_front()?;
        self.output_bytes -= bytes.len();
        Some(bytes)
    }
}

/// A command out of a message: its name, its transaction and the values behind. `None` for anything that is no command.
pub(super) struct Command {
    pub(super) name: String,
    pub(super) transaction: f64,
    /// The command object and the arguments.
    pub(super) values: Vec<Value>,
}

impl Command {
    /// Commands shorter than their definition are taken as far as they go: `ffmpeg` answers `FCPublish` with a name alone.
    pub(super) fn parse(message: &Message) -> Option<Self> {
        let payload = match message.kind {
            kind::COMMAND => &message.payload[..],
            kind::COMMAND_AMF3 => message.payload.get(1..)?,
            _ => return None,
        };
        let mut values = amf::decode(payload).ok()?.into_iter();
        let name = values.next()?.as_str()?.to_owned();
        let transaction = values.next().and_then(|value| value.as_number()).unwrap_or(0.0);
        Some(Self { name, transaction, values: values.collect() })
    }

    /// Whether this answers the request of that number.
    pub(super) fn answers(&self, transaction: u32) -> bool {
        (self.transaction - f64::from(transaction)).abs() < 0.5
    }
}
