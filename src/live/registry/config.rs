//! How many streams run, and how long each phase of one may take.

use std::time::Duration;

use serde::Deserialize;

use crate::domain::lifecycle::Limits;
use crate::live::destination;
use crate::live::stream::Adaptation;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `false` refuses to start streams; they can still be created (`STREAMING_ENABLED`).
    pub streaming_enabled: bool,
    /// Streams that may run at once, 1 to 1000 (`MAX_CONCURRENT_STREAMS`).
    pub max_concurrent_streams: usize,
    /// A stream without any participant's media for this long is stopped; 0 never does (`STREAM_TIMEOUT`).
    pub stream_timeout_ms: u64,
    /// From the start of a stream to its first picture.
    pub start_timeout_ms: u64,
    /// For the mixer to finish its recording, and again for the destinations to close.
    pub stop_timeout_ms: u64,
    /// How destinations connect, queue and come back.
    pub destination: destination::Config,
    /// How the bitrate follows them.
    pub adaptation: Adaptation,
}

impl Default for Config {
    fn default() -> Self {
        let limits = Limits::default();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            streaming_enabled: true,
            // A 720p30 mix costs most of a core, and ten cores are what a dedicated machine has.
            max_concurrent_streams: 10,
            stream_timeout_ms: millis(limits.abandoned),
            start_timeout_ms: millis(limits.start),
            stop_timeout_ms: millis(limits.stop),
            destination: destination::Config::default(),
            adaptation: Adaptation::default(),
        }
    }
}
