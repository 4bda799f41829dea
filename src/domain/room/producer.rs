//! A track coming into a room and the consumers it goes out to.

use std::time::Duration;
use std::time::Instant;

use crate::domain::room::KeyframeRequest;
use crate::domain::room::Release;
use crate::domain::room::flood::Allowance;
use crate::domain::room::forwarder::Aim;
use crate::domain::room::forwarder::Forwarder;
use crate::domain::room::forwarder::Incoming;
use crate::domain::room::forwarder::MAX_SOURCES;
use crate::domain::room::forwarder::Outgoing;
use crate::domain::room::keyframe::Plea;
use crate::domain::room::keyframe::Throttle;
use crate::domain::room::keyframe::begins_keyframe;
use crate::domain::room::keyframe::pleas_of_one;
use crate::domain::room::layers::Ladder;
use crate::domain::room::layers::Layer;
use crate::domain::room::layers::MAX_RUNGS;
use crate::domain::room::level::Loudness;
use crate::domain::room::picture::Numbers;
use crate::domain::room::picture::Shift;
use crate::domain::room::picture::Size;
use crate::domain::room::picture::frame;
use crate::domain::room::picture::size;
use crate::domain::room::picture::sizes;
use crate::domain::room::red::Repeater;
use crate::domain::room::selector::Layers;
use crate::domain::room::selector::Part;
use crate::domain::room::source::Source;
use crate::domain::room::variation::DelayVariation;
use crate::domain::room::voices::Presence;
use crate::domain::room::window::Arrival;
use crate::domain::room::words::ProducerInfo;
use crate::domain::room::words::TapTrack;
use crate::domain::room::words::TrackSource;
use crate::model::id::ConsumerId;
use crate::model::id::ParticipantId;
use crate::model::id::TrackId;
use crate::model::media::Codec;
use crate::model::opus;

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

/// A track coming into a room: one RTP source, or a few of which each carries the same picture in another size.
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
    pub(super) presence: Presence,
    /// Of sound: how long a packet of it sounds.
    pub(super) piece: Option<Duration>,
    pub(super) variation: DelayVariation,
    pub(super) mid: String,
    pub(super) sources: Vec<Source>,
    /// What goes to the taps, while there are any.
    pub(super) tap: Option<Tapped>,
    /// Of sound: what goes with the next packet to those whose links lose some.
    pub repeater: Repeater,
    /// Somebody needs a keyframe, and the source is not known yet.
    owes_keyframe: bool,
    /// When its encoding changed last.
    pub(super) recoded_at: Option<Instant>,
}

/// One layer of a producer as all taps of the room get it.
#[derive(Debug)]
pub(super) struct Tapped {
    pub(super) forwarder: Forwarder,
    pub(super) tile: Option<Size>,
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
    /// How large it is shown, if the participant said so.
    pub(super) tile: Option<Size>,
    pub(super) forwarder: Forwarder,
    pub(super) pleas: Allowance,
}

/// A layer of a producer: one of its sources, and what of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) ssrc: u32,
    pub(super) layers: Layers,
}

/// What of a packet goes to the taps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tap {
    pub out: Outgoing,
    /// NTP time and time of the outgoing stream, told when a layer begins.
    pub report: Option<(u64, u32)>,
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
            presence: Presence::default(),
            piece: None,
            variation: DelayVariation::default(),
            mid,
            sources: Vec::new(),
            tap: None,
            repeater: Repeater::default(),
            owes_keyframe: false,
            recoded_at: None,
        }
    }

    /// Whether nothing goes out to anybody, by its owner's wish or the host's.
    pub const fn is_held(&self) -> bool {
        self.info.paused || self.muted
    }

    /// Whether listeners go without it, because others are louder.
    pub const fn rests(&self) -> bool {
        self.presence.rests()
    }

    /// Whether it is the room's own broadcast.
    pub(super) fn is_programme(&self) -> bool {
        self.info.source == TrackSource::Programme
    }

    /// Whether taps get it.
    pub const fn is_in_programme(&self) -> bool {
        !self.isolated
    }

    /// Notes how loud a packet says it is, as RFC 6464 writes it: dB below overload, 127 for silence.
    pub const fn note_loudness(&mut self, below_overload: u8) {
        self.loudness.note(below_overload);
    }

    /// Notes that it is sent as `ssrc`, or that its layer `rid` is. A new SSRC of what is known takes the old one's place.
    pub(super) fn bind(&mut self, rid: Option<&str>, ssrc: u32) {
        if self.has_source(ssrc) {
            return;
        }
        let source = Source::new(rid, ssrc);
        match self.sources.iter().position(|source| source.rid.as_deref() == rid) {
            Some(known) => self.sources[known] = source,
            None if self.sources.len() < MAX_SOURCES => self.sources.push(source),
            None => return,
        }
        if self.sources.len() > 1 {
            let first = Aim::Only(self.sources[0].ssrc);
            for forwarder in self.forwarders().filter(|forwarder| forwarder.is_aimless()) {
                forwarder.aim(first);
            }
        }
    }

    /// Whether consumers get a part of what comes, each another.
    pub(super) fn is_layered(&self) -> bool {
        self.sources.len() > 1 || self.encoding.codec.is_scalable()
    }

    /// What comes next has nothing to do with what came before.
    pub(super) fn begin_anew(&mut self) {
        self.sources.iter_mut().for_each(|source| source.rungs = None);
        self.forwarders().for_each(Forwarder::interrupt);
    }

    pub(super) fn has_source(&self, ssrc: u32) -> bool {
        self.sources.iter().any(|source| source.ssrc == ssrc)
    }

    /// What the room needs to know of a packet.
    pub fn read(&mut self, ssrc: u32, seq: u16, timestamp: u32, payload: &[u8]) -> Incoming {
        let codec = self.encoding.codec;
        let key = begins_keyframe(codec, payload);
        let of_it = self.sources.iter_mut().find(|source| source.ssrc == ssrc);
        let frame = of_it.and_then(|source| frame(codec, &mut source.layering, seq, payload));
        let mut elsewhere = [None; MAX_SOURCES - 1];
        if key && self.sources.len() > 1 {
            let own = self.sources.iter().find(|source| source.ssrc == ssrc);
            let others = self.sources.iter().filter(|source| source.ssrc != ssrc);
            for (place, other) in elsewhere.iter_mut().zip(others) {
                *place = own
                    .and_then(|own| other.twin(own, timestamp, codec.clock_rate()))
                    .map(|timestamp| (other.ssrc, timestamp));
            }
        }
        Incoming { ssrc, seq, timestamp, key, numbers: Numbers::of(codec, payload), frame, elsewhere }
    }

    /// Notes a packet; only a fresh one is for the consumers.
    pub fn accept(&mut self, now: Instant, packet: &Incoming, payload: &[u8]) -> Arrival {
        let codec = self.encoding.codec;
        let Some(source) = self.sources.iter_mut().find(|source| source.ssrc == packet.ssrc) else {
            return Arrival::Stale;
        };
        let arrival = source.accept(now, packet, payload.len());
        if codec == Codec::Opus {
            self.piece = opus::duration(payload).or(self.piece);
            self.variation.note(now, packet.timestamp);
        }
        if arrival == Arrival::Fresh
            && packet.key
            && let Some(size) = size(codec, payload)
        {
            source.size = Some(size);
            if let Some(rungs) = &mut source.rungs {
                rungs.resize(sizes(codec, payload));
            }
        }
        arrival
    }

    /// What of a packet goes to the taps: everything of a producer without layers, the layers of another that they have use for.
    pub fn tap(&mut self, now: Instant, packet: &Incoming) -> Option<Tap> {
        if !self.is_layered() {
            let Incoming { seq, timestamp, .. } = *packet;
            let out = Outgoing { seq, timestamp, shift: Shift::default(), part: Part::Whole };
            return Some(Tap { out, report: None });
        }
        let forwarder = &mut self.tap.as_mut()?.forwarder;
        let before = forwarder.flowing();
        let out = forwarder.forward(now, packet)?;
        let begins = before != forwarder.flowing();
        Some(Tap { out, report: if begins { self.tapped_report() } else { None } })
    }

    /// Which share of its packets does not come before it is asked for, of the worst of its sources.
    pub(super) fn lost(&self) -> f64 {
        self.sources.iter().map(|source| source.losses.share()).fold(0.0, f64::max)
    }

    /// Takes a sender report. Gives the one for the taps, if it is of what they get.
    pub fn report(&mut self, ssrc: u32, ntp: u64, rtp: u32) -> Option<(u64, u32)> {
        let is_layered = self.is_layered();
        let source = self.sources.iter_mut().find(|source| source.ssrc == ssrc)?;
        source.report = Some((ntp, rtp));
        if !is_layered {
            return Some((ntp, rtp));
        }
        let out = self.tap.as_ref()?.forwarder.timestamp(ssrc, rtp)?;
        Some((ntp, out))
    }

    /// The clock of what the taps get, as far as its sender told it.
    pub(super) fn tapped_report(&self) -> Option<(u64, u32)> {
        if !self.is_layered() {
            return self.sources.first()?.report;
        }
        let forwarder = &self.tap.as_ref()?.forwarder;
        let flowing = forwarder.flowing()?;
        let (ntp, rtp) = self.sources.iter().find(|source| source.ssrc == flowing)?.report?;
        Some((ntp, forwarder.timestamp(flowing, rtp)?))
    }

    /// The source that the taps get, if they do not get everything.
    pub(super) fn tapped_source(&self) -> Option<u32> {
        if self.is_layered() { self.tap.as_ref().and_then(|tap| tap.forwarder.source()) } else { None }
    }

    pub(super) fn forget_reports(&mut self) {
        self.sources.iter_mut().for_each(|source| source.report = None);
    }

    /// The layers that are sent now, and how to choose each.
    pub(super) fn ladder(&self, now: Instant) -> (Ladder, [Choice; MAX_RUNGS]) {
        if let [Source { ssrc, rungs: Some(rungs), .. }] = &self.sources[..] {
            return Ladder::new(rungs.active(now).map(|(layer, layers)| (layer, Choice { ssrc: *ssrc, layers })));
        }
        let active = self.sources.iter().filter(|source| source.meter.is_active(now));
        Ladder::new(active.map(|source| {
            let layer = Layer { rate: source.meter.rate(now), size: source.size };
            (layer, Choice { ssrc: source.ssrc, layers: Layers::ALL })
        }))
    }

    /// What has a forwarder send a layer.
    pub(super) fn aim(&self, choice: Choice) -> Aim {
        if self.sources.len() > 1 { Aim::Only(choice.ssrc) } else { Aim::Any }
    }

    /// Somebody needs a keyframe of what comes from `ssrc`, or of whatever comes.
    pub(super) fn plead(&mut self, now: Instant, ssrc: Option<u32>) -> (Plea, Option<KeyframeRequest>) {
        if self.is_programme() {
            // Its keyframes come by the clock: one more would cost all destinations what it is made of.
            return (Plea::Coalesced, None);
        }
        let participant = self.info.participant;
        let is_video = self.encoding.codec != Codec::Opus;
        let found = self.sources.iter_mut().find(|source| ssrc.is_none_or(|ssrc| source.ssrc == ssrc));
        let Some(source) = found.filter(|_| is_video) else {
            self.owes_keyframe = true;
            return (Plea::Coalesced, None);
        };
        match source.plead(now) {
            Plea::Send => (Plea::Send, Some(KeyframeRequest { participant, ssrc: source.ssrc })),
            plea @ (Plea::Coalesced | Plea::Refused) => (plea, None),
        }
    }

    pub(super) fn requests_due(
        &mut self,
        now: Instant,
        is_open: impl Fn(Outlet) -> bool,
    ) -> impl Iterator<Item = KeyframeRequest> {
        let owes = !self.sources.is_empty() && std::mem::take(&mut self.owes_keyframe);
        let participant = self.info.participant;
        let is_video = self.encoding.codec != Codec::Opus;
        let (consumers, tap) = (&self.consumers, &self.tap);
        let is_tapped = self.is_layered() && self.is_in_programme();
        self.sources.iter_mut().filter(move |_| is_video).filter_map(move |source| {
            let unasked = matches!(source.throttle, Throttle::Idle | Throttle::Resting { .. });
            let waits = |c: &Consumer| !c.is_held() && c.forwarder.waits_for(source.ssrc) && is_open(c.outlet);
            let tap_waits = || is_tapped && tap.as_ref().is_some_and(|tap| tap.forwarder.waits_for(source.ssrc));
            let needed = owes || (unasked && (consumers.iter().any(waits) || tap_waits()));
            let asked = needed && source.plead(now) == Plea::Send;
            (asked || source.throttle.is_due(now)).then_some(KeyframeRequest { participant, ssrc: source.ssrc })
        })
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

    /// Lets the taps have it from now on, or not any more.
    pub(super) fn set_tapped(&mut self, tapped: bool) {
        if tapped != self.tap.is_some() {
            let mut forwarder = Forwarder::new(self.encoding.codec.clock_rate());
            if self.sources.len() > 1 {
                forwarder.aim(Aim::Only(self.sources[0].ssrc));
            }
            self.tap = tapped.then_some(Tapped { forwarder, tile: None });
        }
    }

    pub(super) fn add(&mut self, mut consumer: Consumer) {
        if self.sources.len() > 1 {
            consumer.forwarder.aim(Aim::Only(self.sources[0].ssrc));
        }
        self.consumers.push(consumer);
    }

    fn forwarders(&mut self) -> impl Iterator<Item = &mut Forwarder> {
        let tap = self.tap.iter_mut().map(|tap| &mut tap.forwarder);
        self.consumers.iter_mut().map(|consumer| &mut consumer.forwarder).chain(tap)
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
            tile: None,
            forwarder,
            pleas: pleas_of_one(),
        }
    }

    /// Whether the packet before went out, so that the next may carry it once more.
    pub fn flows(&self) -> bool {
        self.forwarder.flowing().is_some()
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
        forwarder.aim(Aim::Any);
        forwarder.want(Layers::ALL);
        Release { participant: self.participant, codec, outlet: self.outlet, forwarder }
    }
}
