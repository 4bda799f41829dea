//! The programme of the room's broadcast as producers of nobody: seen and heard by hosts, and by no tap.

use std::time::Duration;
use std::time::Instant;

use crate::domain::room::Room;
use crate::domain::room::producer::Encoding;
use crate::domain::room::producer::Producer;
use crate::domain::room::words::Notice;
use crate::domain::room::words::ProducerInfo;
use crate::domain::room::words::TrackSource;
use crate::model::id::ParticipantId;
use crate::model::id::ProducerId;
use crate::model::media::Codec;

/// How long the producers stay without a frame: a mixer that died is replaced sooner, and whoever watches goes on watching.
const PATIENCE: Duration = Duration::from_secs(15);

/// Of a host's link the programme gets what the musicians leave.
pub(super) const PRIORITY: u8 = 0;

/// Payload type of packets that come from no peer; consumers have their own.
const PAYLOAD_TYPE: u8 = 96;

/// A programme that is shown in the room.
#[derive(Debug)]
pub(super) struct Screening {
    /// Stands for the gateway where others have a participant. Nobody in the room has it.
    owner: ParticipantId,
    last_frame: Instant,
}

impl Room {
    /// The producer that frames of the programme in this codec go out by; the first one makes it, and the hosts hear of it. Its only
    /// source is [`ssrc_of`] the codec.
    pub fn screen(&mut self, now: Instant, codec: Codec) -> &mut Producer {
        let screening = self.screening.get_or_insert(Screening { owner: ParticipantId::generate(), last_frame: now });
        screening.last_frame = now;
        let owner = screening.owner;
        let is_it = |p: &Producer| p.info.participant == owner && p.encoding.codec == codec;
        let index = match self.producers.iter().position(is_it) {
            Some(known) => known,
            None => {
                let info = ProducerInfo {
                    id: ProducerId::generate(),
                    participant: owner,
                    kind: codec.kind(),
                    source: TrackSource::Programme,
                    paused: false,
                };
                self.tell_hosts(&Notice::ProducerAdded(info.clone()));
                let encoding = Encoding { codec, payload_type: PAYLOAD_TYPE };
                let mut producer = Producer::new(info, codec.kind().as_str().to_owned(), self.take_track(), encoding);
                producer.isolated = true;
                producer.bind(None, ssrc_of(codec));
                self.producers.push(producer);
                self.producers.len() - 1
            }
        };
        &mut self.producers[index]
    }

    /// Takes the programme out of the room.
    pub fn end_screening(&mut self) {
        if let Some(screening) = self.screening.take() {
            self.close_producers(screening.owner);
        }
    }

    /// Takes a programme out of which nothing came for [`PATIENCE`]; to be called now and then.
    pub fn end_stale_screening(&mut self, now: Instant) {
        let is_stale = |screening: &Screening| now.saturating_duration_since(screening.last_frame) >= PATIENCE;
        if self.screening.as_ref().is_some_and(is_stale) {
            self.end_screening();
        }
    }

    /// Somebody has become host and sees the programme from now on.
    pub(super) fn show_programme_to(&mut self, participant: ParticipantId) {
        let shown = self.producers.iter().filter(|p| p.is_programme());
        self.notices.extend(shown.map(|p| (participant, Notice::ProducerAdded(p.info.clone()))));
    }

    /// Somebody is host no longer.
    pub(super) fn hide_programme_from(&mut self, participant: ParticipantId) {
        for producer in self.producers.iter_mut().filter(|p| p.is_programme()) {
            let codec = producer.encoding.codec;
            for consumer in producer.consumers.extract_if(.., |consumer| consumer.participant == participant) {
                self.notices.push_back((participant, Notice::ConsumerClosed(consumer.id)));
                self.released.push_back(consumer.release(codec));
            }
            self.notices.push_back((participant, Notice::ProducerRemoved(producer.info.id)));
        }
    }

    pub(super) fn tell_hosts(&mut self, notice: &Notice) {
        let hosts: Vec<_> = self.participants.iter().map(|p| p.id).filter(|id| self.is_host(*id)).collect();
        self.notices.extend(hosts.into_iter().map(|host| (host, notice.clone())));
    }
}

/// The source of a programme's packets in this codec.
pub const fn ssrc_of(codec: Codec) -> u32 {
    match codec {
        Codec::Opus => 2,
        Codec::Vp8 | Codec::Vp9 | Codec::H264 | Codec::Av1 => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::room::Limits;
    use crate::domain::room::forwarder::Forwarder;
    use crate::domain::room::producer::Consumer;
    use crate::domain::room::producer::Outlet;
    use crate::domain::room::words::Newcomer;
    use crate::domain::room::words::Order;
    use crate::domain::room::words::RoomError;
    use crate::model::id::ConsumerId;
    use crate::model::role::RoomRole;

    fn enter(room: &mut Room, name: &str, role: RoomRole) -> ParticipantId {
        let participant = ParticipantId::generate();
        let user = name.parse().expect("a user");
        room.join(Newcomer { participant, user, name: name.to_owned(), role }).expect("there is room");
        participant
    }

    fn notices(room: &mut Room) -> Vec<(ParticipantId, Notice)> {
        std::iter::from_fn(|| room.poll_notice()).collect()
    }

    /// A room with a host, a musician and the programme's picture.
    fn screening() -> (Room, Instant, [ParticipantId; 2], ProducerInfo) {
        let mut room = Room::new(Limits { participants: 4, tracks_per_participant: 2, voices: 16 }, 0);
        let people = [enter(&mut room, "anna", RoomRole::Host), enter(&mut room, "ben", RoomRole::Musician)];
        notices(&mut room);
        room.poll_roster();
        let now = Instant::now();
        let info = room.screen(now, Codec::H264).info.clone();
        (room, now, people, info)
    }

    fn consume(room: &mut Room, participant: ParticipantId, producer: ProducerId) -> ConsumerId {
        let (id, outlet) = (ConsumerId::generate(), Outlet { peer: 1, lane: 0 });
        room.consume(producer, Consumer::new(id, participant, outlet, Forwarder::new(90_000))).expect("it is there");
        id
    }

    #[test]
    fn hosts_are_shown_the_programme_and_nobody_else_hears_of_it() {
        let (mut room, now, [anna, ben], info) = screening();
        assert_eq!(info.source, TrackSource::Programme);
        assert_eq!(notices(&mut room), [(anna, Notice::ProducerAdded(info.clone()))]);
        assert_eq!(room.screen(now, Codec::H264).info.id, info.id, "the same for every frame");
        assert_eq!(notices(&mut room), []);
        assert!(room.consumable(anna, info.id).is_ok());
        assert_eq!(room.consumable(ben, info.id), Err(RoomError::UnknownProducer));
        assert_eq!(room.look_around(anna).expect("in").producers, [info]);
        assert_eq!(room.look_around(ben).expect("in").producers, []);
        // Neither what plays a room back nor the programme itself gets it: it would show itself.
        assert_eq!(room.codecs_for(anna), []);
        assert_eq!((room.roster().tracks, room.poll_roster()), (Vec::new(), None));
        assert_eq!(room.participants(), 2);
    }

    #[test]
    fn the_programme_goes_with_the_role_of_host() {
        let (mut room, _, [anna, ben], info) = screening();
        let consumer = consume(&mut room, anna, info.id);
        notices(&mut room);
        room.order(Some(anna), Order::TransferHost(ben)).expect("she may");
        let told: Vec<_> =
            notices(&mut room).into_iter().filter(|(_, n)| !matches!(n, Notice::ParticipantUpdated(_))).collect();
        let expected = [
            (ben, Notice::ProducerAdded(info.clone())),
            (anna, Notice::ConsumerClosed(consumer)),
            (anna, Notice::ProducerRemoved(info.id)),
        ];
        assert_eq!(told, expected);
        assert!(room.poll_release().is_some_and(|release| release.participant == anna));
        assert!(room.consumable(ben, info.id).is_ok() && room.consumable(anna, info.id).is_err());
    }

    #[test]
    fn its_end_is_told_to_whom_it_was_shown() {
        let (mut room, now, [anna, ben], info) = screening();
        let consumer = consume(&mut room, anna, info.id);
        notices(&mut room);
        room.end_stale_screening(now + PATIENCE / 2);
        assert_eq!(notices(&mut room), []);
        room.end_stale_screening(now + PATIENCE);
        let told = notices(&mut room);
        assert_eq!(told, [(anna, Notice::ConsumerClosed(consumer)), (anna, Notice::ProducerRemoved(info.id))]);
        assert!(told.iter().all(|(to, _)| *to != ben));
        assert_ne!(room.screen(now, Codec::H264).info.id, info.id, "the next broadcast is another");
    }

    #[test]
    fn nobody_can_have_the_broadcast_make_keyframes() {
        let (mut room, now, [anna, _], info) = screening();
        consume(&mut room, anna, info.id);
        assert_eq!(room.keyframes_due(now, |_| true), []);
        assert_eq!(room.plead_at_outlet(now, Outlet { peer: 1, lane: 0 }).1, None);
    }
}
