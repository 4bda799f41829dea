//! Why a conversation ended.

/// Why a conversation ended; told as the WebSocket's close code and reason (RFC 6455 section 7.4, 4000 to 4999 are ours).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Farewell {
    /// The participant said `leave`.
    Left,
    /// The gateway is going down; another one may take the participant.
    ShuttingDown,
    /// A binary frame came.
    NotText,
    TooBig,
    /// No successful `join` in time.
    JoinTimeout,
    /// Nothing heard for too long.
    Silent,
    /// The room took the participant out.
    Removed,
    /// The participant goes on over another socket.
    Resumed,
    /// The participant does not read what it is sent.
    SlowReceiver,
    RateLimited,
}

impl Farewell {
    /// The close code.
    pub const fn code(self) -> u16 {
        match self {
            Self::Left => 1000,
            Self::ShuttingDown => 1001,
            Self::NotText => 1003,
            Self::TooBig => 1009,
            Self::JoinTimeout => 4401,
            Self::Silent => 4408,
            Self::Resumed => 4409,
            Self::Removed => 4410,
            Self::SlowReceiver => 4413,
            Self::RateLimited => 4429,
        }
    }

    /// The close reason: a stable name, also a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::ShuttingDown => "shutting_down",
            Self::NotText => "not_text",
            Self::TooBig => "message_too_big",
            Self::JoinTimeout => "join_timeout",
            Self::Silent => "silent",
            Self::Resumed => "resumed_elsewhere",
            Self::Removed => "removed",
            Self::SlowReceiver => "slow_receiver",
            Self::RateLimited => "rate_limited",
        }
    }

    /// Whether the participant may come back to its place: its line broke, it broke no rule.
    pub const fn is_mishap(self) -> bool {
        matches!(self, Self::Silent | Self::SlowReceiver)
    }
}
