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
use crate::model::media::MediaKind;

/// The media stream that all of the programme is in: browsers keep its sound together with its picture. No participant has this name.
pub const STREAM: &str = "programme";

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
    /// The producer that frames of the programme of this kind go out by. The first frame of any kind makes those of all kinds, for the
    /// sound is made only once somebody asks for it, and the hosts hear of them. Its only source is [`ssrc_of`] the kind.
    pub fn screen(&mut self, now: Instant, kind: MediaKind) -> &mut Producer {
        let owner = match &mut self.screening {
            Some(screening) => {
                screening.last_frame = now;
                screening.owner
            }
            None => self.begin_screening(now),
        };
        let is_it = |p: &&mut Producer| p.info.participant == owner && p.info.kind == kind;
        self.producers.iter_mut().find(is_it).expect("all kinds are there from the first frame to the last")
    }

    fn begin_screening(&mut self, now: Instant) -> ParticipantId {
        let owner = ParticipantId::generate();
        self.screening = Some(Screening { owner, last_frame: now });
        for kind in [MediaKind::Video, MediaKind::Audio] {
            let (id, source) = (ProducerId::generate(), TrackSource::Programme);
            let info = ProducerInfo { id, participant: owner, kind, source, paused: false };
            self.tell_hosts(&Notice::ProducerAdded(info.clone()));
            let encoding = Encoding { codec: codec_of(kind), payload_type: PAYLOAD_TYPE };
            let mut producer = Producer::new(info, kind.as_str().to_owned(), self.take_track(), encoding);
            producer.isolated = true;
            producer.bind(None, ssrc_of(kind));
            self.producers.push(producer);
        }
        owner
    }

    /// Whether somebody hears the programme here.
    pub(super) fn is_previewed(&self) -> bool {
        let sound = self.producers.iter().find(|p| p.is_programme() && p.info.kind == MediaKind::Audio);
        sound.is_some_and(|sound| sound.consumers.iter().any(|consumer| !consumer.is_held()))
    }

    /// Whether this is who the programme belongs to, who is nobody.
    pub fn is_screen(&self, owner: ParticipantId) -> bool {
        self.screening.as_ref().is_some_and(|screening| screening.owner == owner)
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

/// What a programme is shown in.
pub const fn codec_of(kind: MediaKind) -> Codec {
    match kind {
        MediaKind::Video => Codec::H264,
        MediaKind::Audio => Codec::Opus,
    }
}

/// The source of a programme's packets of this kind.
pub const fn ssrc_of(kind: MediaKind) -> u32 {
    match kind {
        MediaKind::Video => 1,
        MediaKind::Audio => 2,
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

    /// A room with a host, a musician and the programme: its picture and its sound.
    fn screening() -> (Room, Instant, [ParticipantId; 2], [ProducerInfo; 2]) {
        let mut room = Room::new(Limits { participants: 4, tracks_per_participant: 2, voices: 16 }, 0);
        let people = [enter(&mut room, "anna", RoomRole::Host), enter(&mut room, "ben", RoomRole::Musician)];
        notices(&mut room);
        room.poll_roster();
        let now = Instant::now();
        let shown = [MediaKind::Video, MediaKind::Audio].map(|kind| room.screen(now, kind).info.clone());
        (room, now, people, shown)
    }

    fn consume(room: &mut Room, participant: ParticipantId, producer: ProducerId) -> ConsumerId {
        let (id, outlet) = (ConsumerId::generate(), Outlet { peer: 1, lane: 0 });
        room.consume(producer, Consumer::new(id, participant, outlet, Forwarder::new(90_000))).expect("it is there");
        id
    }

    #[test]
    fn hosts_are_shown_the_programme_and_nobody_else_hears_of_it() {
        let (mut room, now, [anna, ben], shown) = screening();
        assert_eq!(shown.clone().map(|info| info.kind), [MediaKind::Video, MediaKind::Audio]);
        assert!(shown.iter().all(|info| info.source == TrackSource::Programme));
        assert_eq!(notices(&mut room), shown.clone().map(|info| (anna, Notice::ProducerAdded(info))));
        assert_eq!(room.screen(now, MediaKind::Video).info.id, shown[0].id, "the same for every frame");
        assert_eq!(notices(&mut room), []);
        for info in &shown {
            let (_, owner) = room.consumable(anna, info.id).expect("she may");
            assert!(room.is_screen(owner) && !room.is_screen(anna));
            assert_eq!(room.consumable(ben, info.id), Err(RoomError::UnknownProducer));
        }
        assert_eq!(room.look_around(anna).expect("in").producers, shown);
        assert_eq!(room.look_around(ben).expect("in").producers, []);
        // Neither what plays a room back nor the programme itself gets it: it would show itself.
        assert_eq!(room.codecs_for(anna), []);
        assert_eq!((room.roster().tracks, room.poll_roster()), (Vec::new(), None));
        assert_eq!(room.participants(), 2);
    }

    #[test]
    fn the_programme_goes_with_the_role_of_host() {
        let (mut room, _, [anna, ben], [info, sound]) = screening();
        let consumer = consume(&mut room, anna, info.id);
        notices(&mut room);
        room.order(Some(anna), Order::TransferHost(ben)).expect("she may");
        let told: Vec<_> =
            notices(&mut room).into_iter().filter(|(_, n)| !matches!(n, Notice::ParticipantUpdated(_))).collect();
        let expected = [
            (ben, Notice::ProducerAdded(info.clone())),
            (ben, Notice::ProducerAdded(sound.clone())),
            (anna, Notice::ConsumerClosed(consumer)),
            (anna, Notice::ProducerRemoved(info.id)),
            (anna, Notice::ProducerRemoved(sound.id)),
        ];
        assert_eq!(told, expected);
        assert!(room.poll_release().is_some_and(|release| release.participant == anna));
        assert!(room.consumable(ben, info.id).is_ok() && room.consumable(anna, info.id).is_err());
    }

    #[test]
    fn its_end_is_told_to_whom_it_was_shown() {
        let (mut room, now, [anna, ben], [info, sound]) = screening();
        let consumer = consume(&mut room, anna, info.id);
        notices(&mut room);
        room.end_stale_screening(now + PATIENCE / 2);
        assert_eq!(notices(&mut room), []);
        room.end_stale_screening(now + PATIENCE);
        let told = notices(&mut room);
        let gone = [info.id, sound.id].map(|id| (anna, Notice::ProducerRemoved(id)));
        assert_eq!(told, [&[(anna, Notice::ConsumerClosed(consumer))], &gone[..]].concat());
        assert!(told.iter().all(|(to, _)| *to != ben));
        assert_ne!(room.screen(now, MediaKind::Video).info.id, info.id, "the next broadcast is another");
    }

    /// Whether the programme is told that somebody hears it, where that is news.
    fn told(room: &mut Room) -> Option<bool> {
        room.poll_roster().map(|roster| roster.previewed)
    }

    #[test]
    fn the_programme_is_told_whether_somebody_hears_it() {
        let (mut room, now, [anna, ben], [picture, sound]) = screening();
        consume(&mut room, anna, picture.id);
        assert_eq!(told(&mut room), None, "a picture is there anyway");
        let consumer = consume(&mut room, anna, sound.id);
        assert_eq!(told(&mut room), Some(true));
        assert_eq!(told(&mut room), None);
        room.pause_consumer(anna, consumer, true).expect("her own");
        assert_eq!(told(&mut room), Some(false));
        room.pause_consumer(anna, consumer, false).expect("her own");
        assert_eq!(told(&mut room), Some(true));
        room.close_consumer(anna, consumer).expect("her own");
        assert_eq!(told(&mut room), Some(false));
        consume(&mut room, anna, sound.id);
        assert_eq!(told(&mut room), Some(true));
        room.order(Some(anna), Order::TransferHost(ben)).expect("she may");
        assert_eq!(told(&mut room), Some(false), "with the role of host");
        room.screen(now, MediaKind::Audio);
        consume(&mut room, ben, sound.id);
        assert_eq!(told(&mut room), Some(true));
        room.end_screening();
        assert_eq!(told(&mut room), Some(false));
    }

    #[test]
    fn nobody_can_have_the_broadcast_make_keyframes() {
        let (mut room, now, [anna, _], [info, _]) = screening();
        consume(&mut room, anna, info.id);
        assert_eq!(room.keyframes_due(now, |_| true), []);
        assert_eq!(room.plead_at_outlet(now, Outlet { peer: 1, lane: 0 }).1, None);
    }
}
