//! A track coming into a room and the consumers it goes out to.

use std::time::Instant;

use crate::domain::room::KeyframeRequest;
use crate::domain::room::Release;
use crate::domain::room::flood::Allowance;
use crate::domain::room::forwarder::Forwarder;
use crate::domain::room::forwarder::Incoming;
use crate::domain::room::forwarder::Outgoing;
use crate::domain::room::keyframe::Plea;
use crate::domain::room::keyframe::Throttle;
use crate::domain::room::keyframe::pleas_of_one;
use crate::domain::room::level::Loudness;
use crate::domain::room::window::Arrival;
use crate::domain::room::window::Window;
use crate::domain::room::words::ProducerInfo;
use crate::domain::room::words::TapTrack;
use crate::model::id::ConsumerId;
use crate::model::id::ParticipantId;
use crate::model::id::TrackId;
use crate::model::media::Codec;

/// What a consumer matters unless its participant says otherwise.
pub const USUAL_PRIORITY: u8 = 128;

/// How a source's packets are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    pub codec: Codec,
    pub payload_type: u8,
}

/// Where a consumer's packets leave: a transport of the driver, and an m-line of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Outlet {
    pub peer: u64,
    pub lane: usize,
}

/// A track coming into a room.
#[derive(Debug)]
pub struct Producer {
    pub info: ProducerInfo,
    pub track: TrackId,
    pub encoding: Encoding,
    pub consumers: Vec<Consumer>,
    /// A host has silenced it.
    pub(super) muted: bool,
    /// Only hosts get it, and no tap.
    pub(super) isolated: bool,
    pub(super) loudness: Loudness,
    pub(super) mid: String,
    pub(super) ssrc: Option<u32>,
    window: Window,
    throttle: Throttle,
    /// Somebody needs a keyframe, and the source is not known yet.
    owes_keyframe: bool,
    /// When its encoding changed last.
    pub(super) recoded_at: Option<Instant>,
    /// NTP and RTP time of its last sender report, for taps that come later.
    pub last_report: Option<(u64, u32)>,
}

/// A track going out of a room to one participant.
#[derive(Debug)]
pub struct Consumer {
    pub id: ConsumerId,
    pub participant: ParticipantId,
    pub outlet: Outlet,
    /// How much it matters to its participant, 0 to 255.
    pub(super) priority: u8,
    pub(super) paused: bool,
    /// Its producer is isolated, and its participant no host.
    pub(super) withheld: bool,
    pub(super) forwarder: Forwarder,
    pub(super) pleas: Allowance,
}

impl Producer {
    pub(super) fn new(info: ProducerInfo, mid: String, track: TrackId, encoding: Encoding) -> Self {
        Self {
            info,
            track,
            encoding,
            consumers: Vec::new(),
            muted: false,
            isolated: false,
            loudness: Loudness::default(),
            mid,
            ssrc: None,
            window: Window::default(),
            throttle: Throttle::default(),
            owes_keyframe: false,
            recoded_at: None,
            last_report: None,
        }
    }

    /// Whether nothing goes out to anybody, by its owner's wish or the host's.
    pub const fn is_held(&self) -> bool {
        self.info.paused || self.muted
    }

    /// Whether taps get it.
    pub const fn is_in_programme(&self) -> bool {
        !self.isolated
    }

    /// Notes how loud a packet says it is, as RFC 6464 writes it: dB below overload, 127 for silence.
    pub const fn note_loudness(&mut self, below_overload: u8) {
        self.loudness.note(below_overload);
    }

    pub(super) fn bind(&mut self, ssrc: u32) {
        if self.ssrc != Some(ssrc) {
            self.ssrc = Some(ssrc);
            self.window = Window::default();
        }
    }

    /// Notes a packet of this source; only a fresh one is for the consumers.
    pub fn accept(&mut self, packet: &Incoming) -> Arrival {
        let arrival = self.window.note(packet.seq);
        if arrival == Arrival::Fresh && packet.key {
            self.throttle.keyframe();
        }
        arrival
    }

    pub(super) fn plead(&mut self, now: Instant) -> (Plea, Option<KeyframeRequest>) {
        let Some(request) = self.request() else {
            self.owes_keyframe = true;
            return (Plea::Coalesced, None);
        };
        match self.throttle.plead(now) {
            Plea::Send => (Plea::Send, Some(request)),
            plea @ (Plea::Coalesced | Plea::Refused) => (plea, None),
        }
    }

    pub(super) fn request_due(&mut self, now: Instant, is_open: impl Fn(Outlet) -> bool) -> Option<KeyframeRequest> {
        let request = self.request()?;
        let waits = |c: &Consumer| !c.is_held() && c.forwarder.is_waiting() && is_open(c.outlet);
        let unasked = matches!(self.throttle, Throttle::Idle | Throttle::Resting { .. });
        let needed = std::mem::take(&mut self.owes_keyframe) || (unasked && self.consumers.iter().any(waits));
        let asked = needed && self.throttle.plead(now) == Plea::Send;
        (asked || self.throttle.is_due(now)).then_some(request)
    }

    pub(super) fn tap_track(&self) -> TapTrack {
        TapTrack {
            track: self.track,
            producer: self.info.id,
            participant: self.info.participant,
            source: self.info.source,
            codec: self.encoding.codec,
            payload_type: self.encoding.payload_type,
            paused: self.is_held(),
        }
    }

    fn request(&self) -> Option<KeyframeRequest> {
        let is_video = self.encoding.codec != Codec::Opus;
        self.ssrc.filter(|_| is_video).map(|ssrc| KeyframeRequest { participant: self.info.participant, ssrc })
    }
}

impl Consumer {
    /// A consumer whose packets go on with the numbers of `forwarder`.
    pub fn new(id: ConsumerId, participant: ParticipantId, outlet: Outlet, forwarder: Forwarder) -> Self {
        Self {
            id,
            participant,
            outlet,
            priority: USUAL_PRIORITY,
            paused: false,
            withheld: false,
            forwarder,
            pleas: pleas_of_one(),
        }
    }

    /// The numbers a packet leaves with; `None` keeps it back.
    pub fn forward(&mut self, now: Instant, packet: &Incoming) -> Option<Outgoing> {
        if self.is_held() { None } else { self.forwarder.forward(now, packet) }
    }

    /// Whether nothing goes out, by its participant's wish or the host's.
    pub(super) const fn is_held(&self) -> bool {
        self.paused || self.withheld
    }

    pub(super) fn release(self, codec: Codec) -> Release {
        let mut forwarder = self.forwarder;
        forwarder.interrupt();
        Release { participant: self.participant, codec, outlet: self.outlet, forwarder }
    }
}
