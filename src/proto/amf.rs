//! AMF0, the value encoding of RTMP commands and FLV script data ("Action Message Format -- AMF 0", Adobe 2007).
//!
//! Our own because `rml_amf0` recurses as deep as the peer asks, which overflows the stack, and keeps objects in hash maps, while
//! some servers want `app` first.

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;

/// Deeper nesting than any server sends; it bounds the recursion of the decoder.
const MAX_DEPTH: usize = 16;

/// More values than any command has, and than the keyframe index that some encoders put into an hour's metadata. A member of three
/// bytes takes 56 in memory, so that without this a message of 4 MB could cost us 75 MB.
const MAX_VALUES: usize = 10_000;

/// More bytes than any command or metadata has; the media of an RTMP stream is never decoded here.
const MAX_BYTES: usize = 256 * 1024;

const NUMBER: u8 = 0x00;
const BOOLEAN: u8 = 0x01;
const STRING: u8 = 0x02;
const OBJECT: u8 = 0x03;
const NULL: u8 = 0x05;
const UNDEFINED: u8 = 0x06;
const ECMA_ARRAY: u8 = 0x08;
const OBJECT_END: u8 = 0x09;
const STRICT_ARRAY: u8 = 0x0a;
const DATE: u8 = 0x0b;
const LONG_STRING: u8 = 0x0c;
const UNSUPPORTED: u8 = 0x0d;

/// One AMF0 value. Members keep their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Number(f64),
    Boolean(bool),
    String(String),
    Object(Vec<(String, Self)>),
    EcmaArray(Vec<(String, Self)>),
    Array(Vec<Self>),
    Null,
    Undefined,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmfError {
    #[error("an AMF0 value ends too early")]
    Truncated,
    #[error("AMF0 values are nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    #[error("a message holds more than {MAX_VALUES} AMF0 values")]
    TooMany,
    #[error("AMF0 data of more than {MAX_BYTES} bytes is not decoded")]
    TooLarge,
    #[error("AMF0 marker {0:#04x} is not known")]
    UnknownMarker(u8),
}

impl Value {
    pub fn string(text: &str) -> Self {
        Self::String(text.to_owned())
    }

    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    pub fn as_number(&self) -> Option<f64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    /// The member of an object or ECMA array with this name.
    pub fn member(&self, name: &str) -> Option<&Self> {
        let (Self::Object(members) | Self::EcmaArray(members)) = self else { return None };
        members.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

/// The bytes of these values, one after the other.
pub fn encode(values: &[Value]) -> Bytes {
    let mut out = BytesMut::new();
    values.iter().for_each(|value| put_value(&mut out, value));
    out.freeze()
}

fn put_value(out: &mut BytesMut, value: &Value) {
    match value {
        Value::Number(number) => {
            out.put_u8(NUMBER);
            out.put_f64(*number);
        }
        Value::Boolean(flag) => out.put_slice(&[BOOLEAN, u8::from(*flag)]),
        Value::String(text) => match u16::try_from(text.len()) {
            Ok(length) => {
                out.put_u8(STRING);
                out.put_u16(length);
                out.put_slice(text.as_bytes());
            }
            Err(_) => {
                out.put_u8(LONG_STRING);
                out.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
                out.put_slice(text.as_bytes());
            }
        },
        Value::Object(members) => {
            out.put_u8(OBJECT);
            put_members(out, members);
        }
        Value::EcmaArray(members) => {
            out.put_u8(ECMA_ARRAY);
            out.put_u32(u32::try_from(members.len()).unwrap_or(u32::MAX));
            put_members(out, members);
        }
        Value::Array(values) => {
            out.put_u8(STRICT_ARRAY);
            out.put_u32(u32::try_from(values.len()).unwrap_or(u32::MAX));
            values.iter().for_each(|value| put_value(out, value));
        }
        Value::Null => out.put_u8(NULL),
        Value::Undefined => out.put_u8(UNDEFINED),
    }
}

fn put_members(out: &mut BytesMut, members: &[(String, Value)]) {
    for (name, value) in members {
        out.put_u16(u16::try_from(name.len()).unwrap_or(u16::MAX));
        out.put_slice(&name.as_bytes()[..name.len().min(usize::from(u16::MAX))]);
        put_value(out, value);
    }
    out.put_slice(&[0, 0, OBJECT_END]);
}

/// All values of a message.
///
/// # Errors
/// [`AmfError`]; nothing of a broken message is returned, because RTMP has no use for half a command.
pub fn decode(bytes: &[u8]) -> Result<Vec<Value>, AmfError> {
    if bytes.len() > MAX_BYTES {
        return Err(AmfError::TooLarge);
    }
    let mut cursor = Cursor { rest: bytes, values_left: MAX_VALUES };
    let mut values = Vec::new();
    while !cursor.rest.is_empty() {
        values.push(cursor.value(0)?);
    }
    Ok(values)
}

struct Cursor<'a> {
    rest: &'a [u8],
    /// Values that this message may still hold.
    values_left: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], AmfError> {
        let (head, tail) = self.rest.split_at_checked(length).ok_or(AmfError::Truncated)?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], AmfError> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(AmfError::Truncated)?;
        self.rest = tail;
        Ok(*head)
    }

    fn short_string(&mut self) -> Result<String, AmfError> {
        let length = u16::from_be_bytes(self.array()?);
        Ok(String::from_utf8_lossy(self.take(usize::from(length))?).into_owned())
    }

    fn value(&mut self, depth: usize) -> Result<Value, AmfError> {
        if depth >= MAX_DEPTH {
            return Err(AmfError::TooDeep);
        }
        self.values_left = self.values_left.checked_sub(1).ok_or(AmfError::TooMany)?;
        let [marker] = self.array()?;
        Ok(match marker {
            NUMBER => Value::Number(f64::from_be_bytes(self.array()?)),
            BOOLEAN => Value::Boolean(self.array::<1>()? != [0]),
            STRING => Value::String(self.short_string()?),
            LONG_STRING => {
                let length = u32::from_be_bytes(self.array()?);
                let length = usize::try_from(length).map_err(|_| AmfError::Truncated)?;
                Value::String(String::from_utf8_lossy(self.take(length)?).into_owned())
            }
            OBJECT => Value::Object(self.members(depth)?),
            ECMA_ARRAY => {
                // The count is a hint that encoders get wrong; the end marker decides.
                self.array::<4>()?;
                Value::EcmaArray(self.members(depth)?)
            }
            STRICT_ARRAY => {
                let count = u32::from_be_bytes(self.array()?);
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(self.value(depth + 1)?);
                }
                Value::Array(values)
            }
            DATE => {
                let milliseconds = f64::from_be_bytes(self.array()?);
                // The time zone is reserved and zero (section 2.13).
                self.array::<2>()?;
                Value::Number(milliseconds)
            }
            NULL | UNSUPPORTED => Value::Null,
            UNDEFINED => Value::Undefined,
            unknown => return Err(AmfError::UnknownMarker(unknown)),
        })
    }

    fn members(&mut self, depth: usize) -> Result<Vec<(String, Value)>, AmfError> {
        let mut members = Vec::new();
        loop {
            let name = self.short_string()?;
            if name.is_empty() && self.rest.first() == Some(&OBJECT_END) {
                self.take(1)?;
                return Ok(members);
            }
            members.push((name, self.value(depth + 1)?));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_command_has_the_bytes_of_the_specification() {
        let bytes = encode(&[
            Value::string("connect"),
            Value::Number(1.0),
            Value::Object(vec![("app".to_owned(), Value::string("x")), ("ok".to_owned(), Value::Boolean(true))]),
            Value::Null,
        ]);
        assert_eq!(
            bytes,
            &b"\x02\x00\x07connect\x00\x3f\xf0\0\0\0\0\0\0\x03\0\x03app\x02\0\x01x\0\x02ok\x01\x01\0\0\x09\x05"[..]
        );
    }

    #[test]
    fn every_value_survives_the_round_trip() {
        let values = vec![
            Value::Number(-0.5),
            Value::String("ä".repeat(40_000)),
            Value::EcmaArray(vec![("width".to_owned(), Value::Number(1280.0))]),
            Value::Array(vec![Value::Undefined, Value::Object(Vec::new())]),
        ];
        assert_eq!(decode(&encode(&values)), Ok(values));
    }

    #[test]
    fn nesting_ends_before_the_stack_does() {
        let hostile = [OBJECT, 0, 1, b'a'].repeat(MAX_BYTES / 4);
        assert_eq!(decode(&hostile), Err(AmfError::TooDeep));
        let arrays = [STRICT_ARRAY, 0xff, 0xff, 0xff, 0xff].repeat(MAX_BYTES / 5);
        assert_eq!(decode(&arrays), Err(AmfError::TooDeep));
    }

    /// Values in here, and bytes that they take in memory.
    fn cost(value: &Value) -> (usize, usize) {
        let own = match value {
            Value::String(text) => text.capacity(),
            Value::Object(members) | Value::EcmaArray(members) => {
                members.capacity() * size_of::<(String, Value)>()
                    + members.iter().map(|(name, _)| name.capacity()).sum::<usize>()
            }
            Value::Array(values) => values.capacity() * size_of::<Value>(),
            Value::Number(_) | Value::Boolean(_) | Value::Null | Value::Undefined => 0,
        };
        let inner: Vec<&Value> = match value {
            Value::Object(members) | Value::EcmaArray(members) => members.iter().map(|(_, value)| value).collect(),
            Value::Array(values) => values.iter().collect(),
            Value::Number(_) | Value::Boolean(_) | Value::String(_) | Value::Null | Value::Undefined => Vec::new(),
        };
        inner.into_iter().map(cost).fold((1, own), |(count, bytes), (more, its)| (count + more, bytes + its))
    }

    #[test]
    fn breadth_ends_before_the_memory_does() {
        let flat = vec![NULL; MAX_VALUES];
        assert_eq!(decode(&flat).map(|values| values.len()), Ok(MAX_VALUES));
        assert_eq!(decode(&[flat.as_slice(), &[NULL]].concat()), Err(AmfError::TooMany));
        let mut array = vec![STRICT_ARRAY, 0xff, 0xff, 0xff, 0xff];
        array.resize(MAX_BYTES, NULL);
        assert_eq!(decode(&array), Err(AmfError::TooMany));
        let mut object = vec![OBJECT];
        object.extend([0, 0, NULL].repeat(MAX_BYTES / 3 - 1));
        assert_eq!(decode(&object), Err(AmfError::TooMany));
        assert_eq!(decode(&vec![NULL; MAX_BYTES + 1]), Err(AmfError::TooLarge));
    }

    /// Long runs of what is short on the wire: the most that a hostile publisher gets out of its bytes.
    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(vec![NULL]),
            Just(vec![OBJECT]),
            Just(vec![0, 0, NULL]),
            Just(vec![0, 0, OBJECT_END]),
            Just(vec![STRICT_ARRAY, 0, 1, 0, 0]),
            Just(vec![0, 1, b'a', OBJECT]),
            Just(vec![STRING, 0, 3, 0xff, 0xff, 0xff]),
        ];
        let runs = proptest::collection::vec((piece, 1_usize..9_000), 1..8);
        runs.prop_map(|runs| runs.into_iter().flat_map(|(piece, times)| piece.repeat(times)).collect())
    }

    proptest! {
        #[test]
        fn no_message_costs_more_than_its_bounds(bytes in hostile()) {
            if let Ok(values) = decode(&bytes) {
                let (count, memory) = values.iter().map(cost).fold((0, 0), |(n, m), (more, its)| (n + more, m + its));
                prop_assert!(count <= MAX_VALUES);
                // Vectors grow by doubling, and each broken byte of a text becomes the three of U+FFFD.
                prop_assert!(memory <= 2 * MAX_VALUES * size_of::<(String, Value)>() + 4 * bytes.len() + 4 * 56 * count, "{memory} bytes");
            }
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
        }
    }
}
