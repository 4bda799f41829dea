//! What receivers and taps get of producers with several layers, decided anew ten times a second.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::domain::room::Room;
use crate::domain::room::downlink::Downlink;
use crate::domain::room::downlink::TRAIN;
use crate::domain::room::forwarder::Aim;
use crate::domain::room::forwarder::Outgoing;
use crate::domain::room::layers::Ladder;
use crate::domain::room::layers::MAX_RUNGS;
use crate::domain::room::layers::Wish;
use crate::domain::room::layers::share;
use crate::domain::room::picture::Size;
use crate::domain::room::producer::Choice;
use crate::domain::room::producer::Consumer;
use crate::domain::room::producer::Outlet;
use crate::domain::room::producer::Producer;
use crate::domain::room::producer::Tapped;
use crate::domain::room::transit::Passage;
use crate::domain::room::words::RoomError;
use crate::domain::room::words::TrackSource;
use crate::model::id::ConsumerId;
use crate::model::id::ParticipantId;
use crate::model::id::TrackId;
use crate::model::media::MediaKind;

/// What a screen has before a camera of the same priority: it is read, a face is only seen.
const SCREEN_FIRST: u8 = 64;

impl Room {
    /// Notes how large one's own consumer is shown, in device pixels.
    ///
    /// # Errors
    /// [`RoomError::UnknownConsumer`].
    pub fn set_tile(&mut self, participant: ParticipantId, id: ConsumerId, tile: Size) -> Result<(), RoomError> {
        let mut consumers = self.producers.iter_mut().flat_map(|p| &mut p.consumers);
        let own = consumers.find(|consumer| consumer.id == id && consumer.participant == participant);
        own.ok_or(RoomError::UnknownConsumer)?.tile = Some(tile);
        Ok(())
    }

    /// Notes how large a track stands in the programme.
    pub fn set_tap_tile(&mut self, track: TrackId, tile: Size) {
        let producer = self.producers.iter_mut().find(|p| p.track == track);
        if let Some(tap) = producer.and_then(|producer| producer.tap.as_mut()) {
            tap.tile = Some(tile);
        }
    }

    /// Notes whether anybody taps the room.
    pub fn set_tapped(&mut self, tapped: bool) {
        if self.is_tapped != tapped {
            self.is_tapped = tapped;
            self.producers.iter_mut().for_each(|producer| producer.set_tapped(tapped));
        }
    }

    /// What a receiving peer told of the packets of video that came through. `true` if its link is found full.
    pub fn passed(&mut self, now: Instant, peer: u64, passages: &[Passage]) -> bool {
        let is_full = self.downlinks.get_mut(&peer).is_some_and(|downlink| downlink.passed(now, passages));
        if is_full {
            self.choose(now, Some(peer));
        }
        is_full
    }

    /// A receiving peer's report that this share of the packets of an outlet of video is lost. `true` if its link is found full.
    pub fn lost(&mut self, now: Instant, peer: u64, share: f64) -> bool {
        let is_full = self.downlinks.get_mut(&peer).is_some_and(|downlink| downlink.lost(now, share));
        if is_full {
            self.choose(now, Some(peer));
        }
        is_full
    }

    /// A receiving peer is connected, for the first time or by another way: what was found out about its link is forgotten.
    pub fn link_is_new(&mut self, now: Instant, peer: u64) {
        if let Some(downlink) = self.downlinks.get_mut(&peer) {
            *downlink = Downlink::by_another_way(now);
        }
    }

    /// Whether the link of a receiving peer was found full a moment ago.
    pub fn is_full(&self, now: Instant, peer: u64) -> bool {
        self.downlinks.get(&peer).is_some_and(|downlink| downlink.is_full(now))
    }

    /// Aims every consumer's and tap's forwarder at the layer it is to get.
    pub fn choose_layers(&mut self, now: Instant) {
        self.choose(now, None);
    }

    /// Where a link is `full`, what is too large for it stops at once: the sound cannot wait for the keyframe of what is smaller.
    fn choose(&mut self, now: Instant, full: Option<u64>) {
        let mut asked: Vec<Asked> = Vec::new();
        let sound = self.sound(now);
        for (index, producer) in self.producers.iter_mut().enumerate() {
            if producer.info.kind != MediaKind::Video {
                continue;
            }
            let (ladder, choices) = producer.ladder(now);
            if producer.is_layered()
                && let Some(layer) = producer.tap.as_ref().and_then(|tap| ladder.nearest(tap.tile))
            {
                let aim = producer.aim(choices[layer]);
                if let Some(Tapped { forwarder, .. }) = &mut producer.tap {
                    forwarder.aim(aim);
                    forwarder.want(choices[layer].layers);
                }
            }
            let first = if producer.info.source == TrackSource::Screen { SCREEN_FIRST } else { 0 };
            let is_held = producer.is_held();
            asked.extend(producer.consumers.iter().enumerate().map(|(place, consumer)| Asked {
                peer: consumer.outlet.peer,
                producer: index,
                consumer: place,
                choices,
                wish: wish(consumer, ladder, &choices, first, is_held),
            }));
        }
        asked.sort_by_key(|asked| asked.peer);
        self.downlinks.retain(|peer, _| asked.binary_search_by_key(peer, |asked| asked.peer).is_ok());
        let mut wishes = Vec::new();
        for receiver in asked.chunk_by(|a, b| a.peer == b.peer) {
            wishes.clear();
            wishes.extend(receiver.iter().enumerate().map(|(of, asked)| Wish { of, ..asked.wish }));
            let downlink = self.downlinks.entry(receiver[0].peer).or_insert_with(|| Downlink::new(now));
            fit(now, downlink, sound.get(&receiver[0].peer).copied().unwrap_or_default(), &mut wishes);
            for wish in wishes.iter().filter(|wish| wish.wanted.is_some()) {
                let asked = &receiver[wish.of];
                let producer = &mut self.producers[asked.producer];
                let choice = wish.granted.map(|layer| asked.choices[layer]);
                let aim = choice.map_or(Aim::Nothing, |choice| producer.aim(choice));
                let forwarder = &mut producer.consumers[asked.consumer].forwarder;
                forwarder.aim(aim);
                if let Some(choice) = choice {
                    forwarder.want(choice.layers);
                }
                if full == Some(asked.peer) && wish.granted < wish.current && !forwarder.can_step_down() {
                    forwarder.interrupt();
                }
            }
        }
    }

    /// Trains of empty packets that are to go out now where there is no room for any picture, to see whether there is again: the outlet
    /// of each, and the numbers of its packets.
    pub fn trains_due(&mut self, now: Instant) -> Vec<(Outlet, Vec<Outgoing>)> {
        let mut trains = Vec::new();
        for consumer in self.producers.iter_mut().flat_map(|producer| &mut producer.consumers) {
            let is_shut = consumer.forwarder.is_shut() && !consumer.is_held();
            if is_shut && self.downlinks.get_mut(&consumer.outlet.peer).is_some_and(|link| link.is_train_due(now)) {
                let train = std::iter::from_fn(|| consumer.forwarder.empty(now)).take(TRAIN).collect();
                trains.push((consumer.outlet, train));
            }
        }
        trains
    }

    /// Bits of sound per second that go out to each receiving peer now.
    fn sound(&self, now: Instant) -> BTreeMap<u64, u64> {
        let mut sound = BTreeMap::new();
        let audible =
            |producer: &&Producer| producer.info.kind == MediaKind::Audio && !producer.is_held() && !producer.rests();
        for producer in self.producers.iter().filter(audible) {
            let bits: u64 = producer.sources.iter().map(|source| source.meter.rate(now)).sum();
            for consumer in producer.consumers.iter().filter(|consumer| !consumer.is_held()) {
                *sound.entry(consumer.outlet.peer).or_default() += bits;
            }
        }
        sound
    }
}

/// A consumer, and what it is to be asked for.
struct Asked {
    peer: u64,
    producer: usize,
    consumer: usize,
    choices: [Choice; MAX_RUNGS],
    wish: Wish,
}

fn wish(consumer: &Consumer, ladder: Ladder, choices: &[Choice], first: u8, is_held: bool) -> Wish {
    let (flowing, layers) = (consumer.forwarder.flowing(), consumer.forwarder.layers());
    let is_of_it = |choice: &Choice| Some(choice.ssrc) == flowing;
    let choices = &choices[..ladder.layers().len()];
    // Who gets layers that are no step of their own, as everybody does until asked for less, gets the most there is.
    let exact = choices.iter().position(|choice| is_of_it(choice) && choice.layers == layers);
    let current = exact.or_else(|| choices.iter().rposition(is_of_it));
    let wanted = if consumer.is_held() || is_held { None } else { ladder.nearest(consumer.tile) };
    let priority = consumer.priority.saturating_add(first);
    Wish { of: 0, ladder, priority, wanted, current, granted: None }
}

/// Grants what fits, after a trial of more where one is due.
fn fit(now: Instant, downlink: &mut Downlink, sound: u64, wishes: &mut [Wish]) {
    let rate = |layer: fn(&Wish) -> Option<usize>, wishes: &[Wish]| -> u64 {
        wishes.iter().filter_map(|wish| layer(wish).map(|layer| wish.ladder.rate(layer))).sum()
    };
    downlink.sending(now, rate(|wish| wish.wanted.and(wish.current), wishes), sound);
    let least = rate(|wish| wish.wanted.map(|_| 0), wishes);
    if let Some(more) = share(downlink.room(least), wishes)
        && downlink.step(now, more)
    {
        share(downlink.room(least), wishes);
    }
}

#[cfg(test)]
mod tests;
