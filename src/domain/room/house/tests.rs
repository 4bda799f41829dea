//! A host, two musicians, a viewer, and what the host decides about them.

use std::time::Instant;

use super::*;
use crate::domain::room::Limits;
use crate::domain::room::forwarder::Forwarder;
use crate::domain::room::forwarder::Incoming;
use crate::domain::room::producer::Consumer;
use crate::domain::room::producer::Encoding;
use crate::domain::room::producer::Outlet;
use crate::domain::room::words::TrackSource;
use crate::model::id::ConsumerId;
use crate::model::id::ProducerId;
use crate::model::media::Codec;

const OPUS: Encoding = Encoding { codec: Codec::Opus, payload_type: 111 };
const SSRC: u32 = 7;

struct Band {
    room: Room,
    host: ParticipantId,
    anna: ParticipantId,
    ben: ParticipantId,
    viewer: ParticipantId,
    /// Anna's microphone.
    sound: ProducerId,
}

fn newcomer(name: &str, role: RoomRole) -> Newcomer {
    let user = name.parse().expect("a user");
    Newcomer { participant: ParticipantId::generate(), user, name: name.to_owned(), role }
}

fn enter(room: &mut Room, name: &str, role: RoomRole) -> ParticipantId {
    let newcomer = newcomer(name, role);
    let id = newcomer.participant;
    room.join(newcomer).expect("there is room");
    id
}

/// Everybody but Anna consumes her microphone, each at the lane of their number.
fn band() -> Band {
    let mut room = Room::new(Limits { participants: 8, tracks_per_participant: 2, voices: 16 }, 0);
    let host = enter(&mut room, "Hilda", RoomRole::Host);
    let anna = enter(&mut room, "Anna", RoomRole::Musician);
    let ben = enter(&mut room, "Ben", RoomRole::Musician);
    let viewer = enter(&mut room, "Vera", RoomRole::Viewer);
    let sound = room.produce(anna, "0", TrackSource::Microphone, OPUS).expect("allowed");
    room.bind_source(anna, "0", None, SSRC);
    for (lane, participant) in [host, ben, viewer].into_iter().enumerate() {
        let outlet = Outlet { peer: 1, lane };
        let consumer = Consumer::new(ConsumerId::generate(), participant, outlet, Forwarder::new(48_000));
        room.consume(sound, consumer).expect("it is there");
    }
    let mut band = Band { room, host, anna, ben, viewer, sound };
    band.told();
    band
}

impl Band {
    fn order(&mut self, by: ParticipantId, order: Order) -> Result<(), RoomError> {
        self.room.order(Some(by), order)
    }

    fn told(&mut self) -> Vec<(ParticipantId, Notice)> {
        std::iter::from_fn(|| self.room.poll_notice()).collect()
    }

    /// Who hears Anna's next packet.
    fn hearers(&mut self, seq: u16) -> Vec<ParticipantId> {
        let timestamp = u32::from(seq) * 480;
        let packet =
            Incoming { ssrc: SSRC, seq, timestamp, key: true, numbers: None, frame: None, elsewhere: [None; 2] };
        let producer = self.room.source(self.anna, SSRC).expect("bound");
        if producer.is_held() {
            return Vec::new();
        }
        let consumers = producer.consumers.iter_mut();
        consumers.filter_map(|c| c.forward(Instant::now(), &packet).map(|_| c.participant)).collect()
    }

    fn is_in_programme(&self) -> bool {
        self.room.roster().tracks.iter().any(|track| !track.paused)
    }
}

#[test]
fn only_hosts_decide_and_only_about_those_below_them() {
    let mut band = band();
    let (host, anna, ben, viewer) = (band.host, band.anna, band.ben, band.viewer);
    let admin = enter(&mut band.room, "Ada", RoomRole::Admin);
    let rival = enter(&mut band.room, "Rita", RoomRole::Host);
    for by in [anna, viewer] {
        for order in [
            Order::Kick(ben),
            Order::Ban(ben),
            Order::Mute { participant: ben, kind: MediaKind::Audio, muted: true },
            Order::Isolate { participant: ben, isolated: true },
            Order::Spotlight(Some(ben)),
            Order::Lock(true),
            Order::TransferHost(ben),
        ] {
            assert_eq!(band.order(by, order), Err(RoomError::RoleTooLow), "{order:?}");
        }
    }
    assert_eq!(band.order(host, Order::Kick(admin)), Err(RoomError::RoleTooLow));
    assert_eq!(band.order(host, Order::Kick(rival)), Err(RoomError::RoleTooLow));
    assert_eq!(band.order(host, Order::Kick(host)), Err(RoomError::RoleTooLow), "leaving is not kicking");
    assert_eq!(band.order(admin, Order::Kick(rival)), Ok(()));
    assert_eq!(band.order(host, Order::Kick(ParticipantId::generate())), Err(RoomError::UnknownParticipant));
    assert_eq!(band.order(ParticipantId::generate(), Order::Lock(true)), Err(RoomError::NotJoined));
    assert_eq!(band.room.order(None, Order::Kick(host)), Ok(()), "the gateway may everything");
}

#[test]
fn who_is_muted_by_the_host_cannot_unmute_itself() {
    let mut band = band();
    let (host, anna, sound) = (band.host, band.anna, band.sound);
    let mute = |muted| Order::Mute { participant: anna, kind: MediaKind::Audio, muted };
    assert_eq!(band.hearers(1).len(), 3);
    band.order(host, mute(true)).expect("she is the host");
    let told = band.told();
    assert_eq!(told.len(), 4, "everybody is told, Anna too");
    assert!(told.iter().all(|(_, notice)| matches!(notice, Notice::ParticipantUpdated(p) if p.audio_muted)));
    assert_eq!(band.hearers(2), []);
    assert!(!band.is_in_programme());

    band.room.pause_producer(anna, sound, true).expect("her own");
    band.room.pause_producer(anna, sound, false).expect("her own");
    assert_eq!(band.hearers(3), []);
    band.room.close_producer(anna, sound).expect("her own");
    band.room.produce(anna, "1", TrackSource::Microphone, OPUS).expect("allowed");
    assert!(!band.is_in_programme(), "a new track is muted like the old one");
    band.order(host, mute(false)).expect("she is the host");
    assert!(band.is_in_programme());
}

#[test]
fn unmuting_does_not_open_a_microphone_that_its_owner_has_closed() {
    let mut band = band();
    let (host, anna, sound) = (band.host, band.anna, band.sound);
    band.room.pause_producer(anna, sound, true).expect("her own");
    band.order(host, Order::Mute { participant: anna, kind: MediaKind::Audio, muted: false }).expect("allowed");
    assert_eq!(band.hearers(1), []);
}

#[test]
fn muting_sound_leaves_the_picture() {
    let mut band = band();
    let (host, anna) = (band.host, band.anna);
    band.order(host, Order::Mute { participant: anna, kind: MediaKind::Video, muted: true }).expect("allowed");
    assert_eq!(band.hearers(1).len(), 3);
}

#[test]
fn who_is_isolated_is_heard_by_the_host_alone_and_not_in_the_programme() {
    let mut band = band();
    let (host, anna, ben) = (band.host, band.anna, band.ben);
    band.order(host, Order::Isolate { participant: anna, isolated: true }).expect("allowed");
    assert_eq!(band.hearers(1), [host]);
    assert_eq!(band.room.roster().participants.iter().filter(|p| p.id == anna).count(), 0);
    assert!(!band.is_in_programme());
    assert_eq!(band.room.source(anna, SSRC).map(|producer| producer.is_in_programme()), Some(false));

    let second = enter(&mut band.room, "Vito", RoomRole::Viewer);
    assert_eq!(band.room.unconsumed(second, Codec::Opus), None, "no lane is spent on what is not heard");
    let late = Consumer::new(ConsumerId::generate(), ben, Outlet { peer: 2, lane: 0 }, Forwarder::new(48_000));
    band.room.consume(band.sound, late).expect("it is there");
    assert_eq!(band.hearers(2), [host], "consuming anew does not help");
    band.order(host, Order::TransferHost(ben)).expect("allowed");
    assert_eq!(band.hearers(3), [ben, ben], "the host is somebody else now");
    band.order(ben, Order::Isolate { participant: anna, isolated: false }).expect("allowed");
    assert_eq!(band.hearers(4).len(), 4);
    assert!(band.is_in_programme());
    assert_eq!(band.room.unconsumed(second, Codec::Opus), Some(band.sound));
}

#[test]
fn levels_are_told_loudest_first_and_silence_once() {
    let mut band = band();
    let (host, anna, ben, sound) = (band.host, band.anna, band.ben, band.sound);
    let guitar = band.room.produce(ben, "0", TrackSource::Microphone, OPUS).expect("allowed");
    band.room.bind_source(ben, "0", None, 8);
    let play = |band: &mut Band, who, ssrc, levels: &[u8]| {
        let producer = band.room.source(who, ssrc).expect("bound");
        levels.iter().for_each(|level| producer.note_loudness(*level));
    };
    assert_eq!(band.room.levels(), [], "nobody has played yet");
    play(&mut band, anna, SSRC, &[30, 20, 127]);
    play(&mut band, ben, 8, &[10]);
    let told = band.room.levels();
    let levels: Vec<_> = told[0].1.iter().map(|level| (level.producer, level.level)).collect();
    assert_eq!((told.len(), levels), (4, vec![(guitar, -10), (sound, -20)]));
    play(&mut band, ben, 8, &[127]);
    assert!(band.room.levels().iter().all(|(_, levels)| levels.is_empty()), "silence is told");
    assert_eq!(band.room.levels(), [], "but not again");

    band.order(host, Order::Isolate { participant: anna, isolated: true }).expect("allowed");
    play(&mut band, anna, SSRC, &[0]);
    let heard: Vec<_> = band.room.levels().into_iter().filter(|(_, l)| !l.is_empty()).map(|(to, _)| to).collect();
    assert_eq!(heard, [host], "nobody sees the level of whom nobody hears");
}

#[test]
fn a_locked_room_lets_hosts_in_and_nobody_else() {
    let mut band = band();
    let host = band.host;
    band.order(host, Order::Lock(true)).expect("allowed");
    assert!(matches!(band.told()[..], [(_, Notice::RoomUpdated(RoomState { locked: true, .. })), ..]));
    let late = newcomer("Late", RoomRole::Musician);
    assert_eq!(band.room.join(late).err(), Some(RoomError::RoomLocked));
    assert!(band.room.join(newcomer("Second", RoomRole::Host)).is_ok());
    band.order(host, Order::Lock(true)).expect("allowed");
    assert_eq!(band.told().iter().filter(|(_, n)| matches!(n, Notice::RoomUpdated(_))).count(), 0, "nothing changed");
    band.order(host, Order::Lock(false)).expect("allowed");
    assert!(band.room.join(newcomer("Late", RoomRole::Musician)).is_ok());
}

#[test]
fn who_is_kicked_may_come_back_and_who_is_banned_may_not() {
    let mut band = band();
    let (host, anna, ben) = (band.host, band.anna, band.ben);
    band.order(host, Order::Kick(anna)).expect("allowed");
    assert_eq!(band.room.poll_expelled(), Some((anna, "the host removed you")));
    band.room.leave(anna);
    assert!(band.room.join(newcomer("Anna", RoomRole::Musician)).is_ok());

    let phone = enter(&mut band.room, "Ben", RoomRole::Musician);
    band.order(host, Order::Ban(ben)).expect("allowed");
    let mut expelled: Vec<_> = std::iter::from_fn(|| band.room.poll_expelled()).map(|(id, _)| id).collect();
    expelled.sort_unstable_by_key(|id| *id == phone);
    assert_eq!(expelled, [ben, phone], "all devices of the user");
    band.room.leave(ben);
    band.room.leave(phone);
    assert_eq!(band.room.join(newcomer("Ben", RoomRole::Musician)).err(), Some(RoomError::Banned));
}

#[test]
fn the_spotlight_goes_out_with_who_stands_in_it() {
    let mut band = band();
    let (host, anna, ben) = (band.host, band.anna, band.ben);
    assert_eq!(band.order(host, Order::Spotlight(Some(ParticipantId::generate()))), Err(RoomError::UnknownParticipant));
    band.order(host, Order::Spotlight(Some(anna))).expect("allowed");
    assert_eq!(band.room.roster().spotlight, Some(anna));
    assert_eq!(band.room.look_around(ben).expect("he is in").state.spotlight, Some(anna));
    band.order(host, Order::Isolate { participant: anna, isolated: true }).expect("allowed");
    assert_eq!(band.room.roster().spotlight, None, "who is not in the programme does not stand out in it");
    band.told();
    band.room.leave(anna);
    assert!(band.told().contains(&(ben, Notice::RoomUpdated(RoomState::default()))));
}

#[test]
fn a_host_gives_the_role_to_a_musician() {
    let mut band = band();
    let (host, anna, viewer) = (band.host, band.anna, band.viewer);
    assert_eq!(band.order(host, Order::TransferHost(viewer)), Err(RoomError::NotAMusician));
    band.order(host, Order::TransferHost(anna)).expect("allowed");
    assert_eq!(band.order(host, Order::Lock(true)), Err(RoomError::RoleTooLow), "a musician now");
    assert_eq!(band.order(anna, Order::Kick(host)), Ok(()));
}
