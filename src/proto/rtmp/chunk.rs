//! RTMP chunks: messages out of bytes, within bounds, and messages into bytes (section 5.3).

use std::collections::BTreeMap;

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;
use rml_rtmp::chunk_io::ChunkSerializer;
use rml_rtmp::messages::MessagePayload;
use rml_rtmp::time::RtmpTimestamp;

use crate::proto::rtmp::kind;

/// Chunk size before anybody says otherwise (section 5.4.1).
const INITIAL_CHUNK_SIZE: usize = 128;
/// A timestamp field of this value announces four more bytes (section 5.3.1.3).
const EXTENDED: u32 = 0x00ff_ffff;
/// Chunk streams remembered per connection; peers use under ten.
const MAX_CHUNK_STREAMS: usize = 64;
/// The longest header: 3 bytes basic, 11 message header, 4 extended timestamp.
const MAX_HEADER: usize = 18;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) stream: u32,
    pub(super) timestamp_ms: u32,
    pub(super) payload: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChunkError {
    #[error("a chunk continues a stream that never began")]
    NoHeader,
    #[error("a message is larger than the limit")]
    TooLarge,
    #[error("too many chunk streams")]
    TooManyStreams,
    #[error("a chunk size that is not allowed")]
    ChunkSize,
    #[error("a new message begins inside another on the same chunk stream")]
    Overlap,
}

/// Reassembles messages. Chunk size and abort messages are obeyed here; all others are handed on.
pub(super) struct ChunkReader {
    buffer: BytesMut,
    chunk_size: usize,
    max_message: usize,
    streams: BTreeMap<u32, ChunkStream>,
    /// Bytes of unfinished messages, over all streams.
    held: usize,
    /// The chunk whose payload is being read: its stream and the bytes still to come.
    open: Option<(u32, usize)>,
}

#[derive(Default)]
struct ChunkStream {
    timestamp_ms: u32,
    /// The last timestamp field, which a header without one repeats.
    field: u32,
    length: usize,
    kind: u8,
    stream: u32,
    payload: BytesMut,
    in_message: bool,
}

impl ChunkReader {
    /// A reader that refuses messages over `max_message` bytes.
    pub(super) fn new(max_message: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            chunk_size: INITIAL_CHUNK_SIZE,
            max_message,
            streams: BTreeMap::new(),
            held: 0,
            open: None,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, or `None` until more bytes come.
    ///
    /// # Errors
    /// [`ChunkError`]: the stream cannot be understood from here on.
    pub(super) fn next(&mut self) -> Result<Option<Message>, ChunkError> {
        loop {
            let (id, missing) = match self.open {
                Some(open) => open,
                None => match self.read_header()? {
                    Some(open) => open,
                    None => return Ok(None),
                },
            };
            let taken = missing.min(self.buffer.len());
            let stream = self.streams.get_mut(&id).ok_or(ChunkError::NoHeader)?;
            stream.payload.extend_from_slice(&self.buffer[..taken]);
            self.buffer.advance(taken);
            self.held += taken;
            if self.held > self.max_message.saturating_mul(2) {
                return Err(ChunkError::TooLarge);
            }
            self.open = (taken < missing).then_some((id, missing - taken));
            if self.open.is_some() {
                return Ok(None);
            }
            if stream.payload.len() < stream.length {
                continue;
            }
            stream.in_message = false;
            self.held -= stream.length;
            let message = Message {
                kind: stream.kind,
                stream: stream.stream,
                timestamp_ms: stream.timestamp_ms,
                payload: stream.payload.split().freeze(),
            };
            if !self.obey(&message)? {
                return Ok(Some(message));
            }
        }
    }

    fn obey(&mut self, message: &Message) -> Result<bool, ChunkError> {
        if message.kind != kind::SET_CHUNK_SIZE && message.kind != kind::ABORT {
            return Ok(false);
        }
        let Some(value) = message.payload.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes)) else {
            return Ok(true);
        };
        if message.kind == kind::SET_CHUNK_SIZE {
            // The first bit must be zero and the size at least one (section 5.4.1).
            self.chunk_size = usize::try_from(value)
                .ok()
                .filter(|size| (1..=0x7fff_ffff).contains(size))
                .ok_or(ChunkError::ChunkSize)?;
        } else if let Some(stream) = self.streams.get_mut(&value) {
            self.held -= stream.payload.len();
            stream.payload.clear();
            stream.in_message = false;
        }
        Ok(true)
    }

    /// Reads one chunk header if all of it is there, and says how many payload bytes follow it.
    fn read_header(&mut self) -> Result<Option<(u32, usize)>, ChunkError> {
        let mut header = &self.buffer[..self.buffer.len().min(MAX_HEADER)];
        let before = header.len();
        let Some(basic) = take(&mut header, 1) else { return Ok(None) };
        let format = basic >> 6;
        let id = match basic & 0x3f {
            0 => take(&mut header, 1).map(|low| low + 64),
            // The two bytes of the long form are little-endian (section 5.3.1.1).
            1 => take(&mut header, 2).map(|both| (both & 0xff) * 256 + (both >> 8) + 64),
            id => Some(id),
        };
        let Some(id) = id else { return Ok(None) };
        if !self.streams.contains_key(&id) && format != 0 {
            return Err(ChunkError::NoHeader);
        }
        if !self.streams.contains_key(&id) && self.streams.len() >= MAX_CHUNK_STREAMS {
            return Err(ChunkError::TooManyStreams);
        }
        let known = self.streams.get(&id);
        let in_message = known.is_some_and(|stream| stream.in_message);
        if in_message && format != 3 {
            return Err(ChunkError::Overlap);
        }

        let field = if format < 3 { take(&mut header, 3) } else { known.map(|stream| stream.field) };
        let length = if format < 2 { take(&mut header, 3) } else { Some(0) };
        let message_kind = if format < 2 { take(&mut header, 1) } else { Some(0) };
        let stream_id = if format < 1 { take(&mut header, 4) } else { Some(0) };
        let (Some(field), Some(length), Some(message_kind), Some(stream_id)) = (field, length, message_kind, stream_id)
        else {
            return Ok(None);
        };
        let time = if field >= EXTENDED {
            let Some(extended) = take(&mut header, 4) else { return Ok(None) };
            extended
        } else {
            field
        };

        let used = before - header.len();
        let stream = self.streams.entry(id).or_default();
        if format < 2 {
            stream.length = usize::try_from(length).map_err(|_| ChunkError::TooLarge)?;
            stream.kind = (message_kind & 0xff) as u8;
        }
        if format == 0 {
            stream.stream = stream_id.swap_bytes();
            stream.timestamp_ms = time;
        } else if !in_message {
            stream.timestamp_ms = stream.timestamp_ms.wrapping_add(time);
        }
        stream.field = field;
        stream.in_message = true;
        if stream.length > self.max_message {
            return Err(ChunkError::TooLarge);
        }
        let missing = (stream.length - stream.payload.len()).min(self.chunk_size);
        self.buffer.advance(used);
        self.open = Some((id, missing));
        Ok(self.open)
    }
}

/// The next `count` bytes as a big-endian number.
fn take(rest: &mut &[u8], count: usize) -> Option<u32> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    Some(head.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
}

/// Splits messages into chunks.
///
/// Every message is written as one that may be dropped, which makes `rml_rtmp` begin each with a full header: its compressed
/// headers encode a timestamp that steps back as a leap of 49 days.
pub(super) struct ChunkWriter(ChunkSerializer);

impl ChunkWriter {
    pub(super) fn new() -> Self {
        Self(ChunkSerializer::new())
    }

    /// The chunks of a message; empty for one over 16 MiB, which the format cannot hold, and for an empty one.
    pub(super) fn write(&mut self, message: Message) -> Bytes {
        let payload = MessagePayload {
            timestamp: RtmpTimestamp::new(message.timestamp_ms),
            type_id: message.kind,
            message_stream_id: message.stream,
            data: message.payload,
        };
        self.0.serialize(&payload, false, true).map_or_else(|_| Bytes::new(), |packet| Bytes::from(packet.bytes))
    }

    /// Announces a chunk size and uses it from here on.
    pub(super) fn set_chunk_size(&mut self, size: u32) -> Bytes {
        self.0
            .set_max_chunk_size(size, RtmpTimestamp::new(0))
            .map_or_else(|_| Bytes::new(), |packet| Bytes::from(packet.bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u8, timestamp_ms: u32, length: usize) -> Message {
        let payload = (0..length).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
        Message { kind, stream: 1, timestamp_ms, payload }
    }

    fn read_all(reader: &mut ChunkReader, bytes: &[u8]) -> Vec<Message> {
        reader.push(bytes);
        std::iter::from_fn(|| reader.next().expect("well formed")).collect()
    }

    #[test]
    fn what_is_written_is_read_beyond_24_bits_of_time_too() {
        let mut writer = ChunkWriter::new();
        let mut reader = ChunkReader::new(1 << 20);
        let messages = [message(9, 0x00ff_fff0, 300), message(8, 0x0100_0000, 7), message(9, 0xffff_ffff, 500)];
        let bytes: Vec<u8> = messages.iter().flat_map(|message| writer.write(message.clone())).collect();
        assert_eq!(read_all(&mut reader, &bytes), messages);
    }

    #[test]
    fn a_message_may_come_between_the_chunks_of_another() {
        let mut bytes = vec![0x04, 0, 0, 1, 0, 0, 200, 9, 1, 0, 0, 0];
        bytes.extend([7; 128]);
        bytes.extend([0x02, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0, 0, 9]);
        bytes.push(0xc4);
        bytes.extend([7; 72]);
        let kinds: Vec<(u8, usize)> =
            read_all(&mut ChunkReader::new(4096), &bytes).iter().map(|m| (m.kind, m.payload.len())).collect();
        assert_eq!(kinds, [(3, 4), (9, 200)]);
    }

    #[test]
    fn a_header_without_time_repeats_the_delta() {
        let bytes = [0x04, 0, 0, 100, 0, 0, 1, 9, 1, 0, 0, 0, 1, 0x84, 0, 0, 33, 2, 0xc4, 3];
        let times: Vec<u32> =
            read_all(&mut ChunkReader::new(4096), &bytes).iter().map(|message| message.timestamp_ms).collect();
        assert_eq!(times, [100, 133, 166]);
    }

    #[test]
    fn a_peer_cannot_make_us_hold_more_than_the_limit() {
        let mut reader = ChunkReader::new(1000);
        reader.push(&[0x04, 0, 0, 0, 0, 4, 0, 9, 1, 0, 0, 0]);
        assert_eq!(reader.next(), Err(ChunkError::TooLarge));

        let mut reader = ChunkReader::new(1000);
        for id in 2..60 {
            reader.push(&[id, 0, 0, 0, 0, 3, 0, 9, 1, 0, 0, 0]);
            reader.push(&[0; 128]);
        }
        assert_eq!(reader.next(), Err(ChunkError::TooLarge));
    }

    proptest! {
        #[test]
        fn garbage_never_panics_and_memory_stays_bounded(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..40)
        ) {
            let mut reader = ChunkReader::new(4096);
            'all: for piece in pieces {
                reader.push(&piece);
                loop {
                    match reader.next() {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => break 'all,
                    }
                }
                prop_assert!(reader.held <= 2 * 4096 && reader.buffer.len() < MAX_HEADER);
            }
        }
    }
}
