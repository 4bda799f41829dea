//! Whose fault an error is: the one answer that decides status code, log level, retry and metric label.

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The caller sent something wrong: 4xx, logged at DEBUG, never retried by us.
    Client,
    /// A streaming platform or its network misbehaved: shown in the destination's state, WARN once.
    Destination,
    /// It may work in a moment: retried by the one owner of that retry.
    Transient,
    /// Our bug or our machine: 500, ERROR.
    Internal,
}

impl Fault {
    /// Stable name for metric labels and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Destination => "destination",
            Self::Transient => "transient",
            Self::Internal => "internal",
        }
    }
}

/// Every error that crosses a floor answers this.
pub trait Faulty {
    fn fault(&self) -> Fault;
}
