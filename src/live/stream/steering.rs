//! The programme's bitrate on air: looks at the destinations several times a second and keeps what was decided.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;
use tracing::info;

use crate::domain::abr::Abr;
use crate::domain::abr::Limits;
use crate::domain::abr::Reason;
use crate::domain::abr::Report;
use crate::live::destination::Destination;
use crate::live::snapshot::DestinationSnapshot;
use crate::model::spec::ProgrammeSpec;

/// Five looks a second: a link that breaks in is found within one.
const EVERY: Duration = Duration::from_millis(200);

/// Whether and how far a programme's bitrate follows its destinations.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `false` keeps the bitrate that was asked for; slow destinations then lose pictures instead.
    pub enabled: bool,
    /// The video bitrate is never lowered below this, kbit/s.
    pub floor_kbps: u32,
}

impl Default for Config {
    fn default() -> Self {
        // 720p of people who play shows who plays at this rate, and not much more.
        Self { enabled: true, floor_kbps: 300 }
    }
}

pub(super) struct Steering {
    abr: Abr,
    enabled: bool,
    next: Instant,
}

impl Steering {
    pub(super) fn new(now: Instant, config: &Config, programme: &ProgrammeSpec) -> Self {
        let limits = Limits {
            floor_kbps: config.floor_kbps.max(1),
            ceiling_kbps: programme.video_kbps,
            audio_kbps: programme.audio_kbps,
        };
        Self { abr: Abr::new(now.into_std(), limits), enabled: config.enabled, next: now + EVERY }
    }

    /// When the next look is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.enabled.then_some(self.next)
    }

    /// Looks, if it is time to; the new bitrate, if it has changed.
    pub(super) fn look(&mut self, now: Instant, destinations: &[Destination]) -> Option<u32> {
        if self.due().is_none_or(|due| now < due) {
            return None;
        }
        self.next = now + EVERY;
        let before = self.abr.target_kbps();
        let reports: Vec<Report> = destinations.iter().map(Destination::report).collect();
        self.abr.handle(now.into_std(), &reports);
        let after = self.abr.target_kbps();
        if after == before {
            return None;
        }
        let direction = if after < before { "down" } else { "up" };
        metrics::counter!("jamcast_bitrate_changes_total", "direction" => direction).increment(1);
        info!(video_kbps = after, before, reason = ?self.abr.reason(), "the programme's bitrate changes");
        Some(after)
    }

    /// Video, kbit/s.
    pub(super) fn video_kbps(&self) -> u32 {
        self.abr.target_kbps()
    }

    /// Why it is not what was asked for, in one sentence for people.
    pub(super) fn reason(&self, destinations: &[DestinationSnapshot]) -> Option<String> {
        match self.abr.reason() {
            Reason::Asked => None,
            Reason::Follows(id) => {
                let followed = destinations.iter().find(|destination| destination.id == id);
                let name = followed.map_or("a destination", |destination| destination.name.as_str());
                Some(format!("the connection to {name} takes no more"))
            }
            Reason::Recovering => Some("the connections take more again; it rises step by step".to_owned()),
        }
    }
}
