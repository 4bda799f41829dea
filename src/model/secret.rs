//! Types that cannot print themselves: stream keys and the like.

use std::fmt;

use zeroize::Zeroize;
use zeroize::ZeroizeOnDrop;

/// The longest stream key taken, in bytes; platforms' keys have under 200, and RTMP's AMF0 short strings end at 65 535.
pub const MAX_STREAM_KEY: usize = 1024;

/// A platform's stream key. Debug and Display print dots, memory is wiped on drop, and it has no `Serialize`.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct StreamKey(String);

impl StreamKey {
    /// # Errors
    /// A key must have 1 to [`MAX_STREAM_KEY`] characters without spaces or control characters.
    pub fn new(text: String) -> Result<Self, InvalidStreamKey> {
        let well_formed =
            (1..=MAX_STREAM_KEY).contains(&text.len()) && !text.chars().any(|c| c.is_control() || c.is_whitespace());
        let key = Self(text);
        if well_formed { Ok(key) } else { Err(InvalidStreamKey) }
    }

    /// The key itself. Every call of this is a place to review: sealing it, and sending it to its platform.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The last two characters behind dots, enough to tell keys apart; only dots for keys under 8 characters.
    pub fn hint(&self) -> String {
        let tail: String = if self.0.chars().count() < 8 {
            String::new()
        } else {
            self.0.chars().rev().take(2).collect::<Vec<_>>().into_iter().rev().collect()
        };
        format!("••••{tail}")
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamKey(••••)")
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("••••")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stream key has 1 to {MAX_STREAM_KEY} characters without spaces; copy it again from the platform's page")]
pub struct InvalidStreamKey;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_never_prints_itself() {
        let key = StreamKey::new("live_canary_7f3a".to_owned()).expect("well formed");
        assert!(!format!("{key} {key:?}").contains("canary"));
        assert_eq!(key.hint(), "••••3a");
        assert_eq!(StreamKey::new("short".into()).expect("well formed").hint(), "••••");
        assert!(StreamKey::new("a b".into()).is_err());
    }
}
