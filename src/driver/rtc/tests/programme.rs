//! What hosts get of the programme: its pictures, its sound, and lanes of its own.

use bytes::Bytes;
use rtc::rtp::codec::h264::H264Packet;
use rtc::rtp::packetizer::Depacketizer;

use crate::driver::rtc::media::Media;
use crate::driver::rtc::peer::Heard;
use crate::driver::rtc::tests::Client;
use crate::driver::rtc::tests::SECOND;
use crate::driver::rtc::tests::STEP;
use crate::driver::rtc::tests::Stage;
use crate::live::rooms::Change;
use crate::live::rooms::Event;
use crate::live::rooms::ProgrammeFrame;
use crate::live::rooms::Request;
use crate::live::rooms::TrackSource;
use crate::model::media::EncodedFrame;
use crate::model::media::MediaKind;
use crate::model::media::OpusPacket;
use crate::model::role::RoomRole;

/// Of x264 at 1280x720: the configuration, and where in it the parameter sets are.
const AVC: &[u8] = b"\x01\x64\0\x1f\xff\xe1\0\x1d\x67\x64\0\x1f\xac\xb4\x02\x80\x2d\xd8\x0b\x50\x10\x10\x14\0\0\x03\0\x04\0\0\x03\0\xf2\x3c\x60\xca\x80\x01\0\x04\x68\xef\x3c\xb0";

/// Picture `n` of a programme with one each step and a keyframe each ten, and what a decoder is to get of it.
fn picture(n: u64) -> (ProgrammeFrame, Vec<u8>) {
    let key = n.is_multiple_of(10);
    let (kind_of_unit, length) = if key { (0x65, 9_000) } else { (0x41, 700) };
    let unit: Vec<u8> = std::iter::once(kind_of_unit).chain((1..length).map(|i| (i * 7 + n) as u8 | 1)).collect();
    let pts_us = n * 20_000;
    let data = Bytes::from([&(unit.len() as u32).to_be_bytes(), &unit[..]].concat());
    let frame = EncodedFrame { kind: MediaKind::Video, pts_us, dts_us: pts_us, key, data };
    let sets: &[&[u8]] = if key { &[&AVC[8..37], &AVC[40..]] } else { &[] };
    let units = sets.iter().copied().chain([&unit[..]]);
    let decoded = units.flat_map(|unit| [&[0, 0, 0, 1], unit].concat()).collect();
    (ProgrammeFrame::Picture { frame, avc: Bytes::from_static(AVC) }, decoded)
}

#[test]
fn a_host_watches_the_programme_picture_by_picture_and_within_a_second() {
    let mut stage = Stage::new();
    let (anna, ben) = (stage.enter_as("jam", RoomRole::Host), stage.enter("jam"));
    stage.publish(anna, false);
    stage.run(SECOND);
    stage.told(anna);
    stage.told(ben);
    stage.tell("jam", Request::Screen { frame: picture(0).0 });
    let told = stage.told(anna);
    let [Event::ProducerAdded(programme), Event::ProducerAdded(_)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(programme.source, TrackSource::Programme);
    let viewer = stage.consume(anna, programme.id);
    let mut shown = None;
    for n in 1..100 {
        stage.tell("jam", Request::Screen { frame: picture(n).0 });
        stage.run(STEP);
        let is_there = stage.clients[viewer].heard.iter().any(|heard| matches!(heard, Heard::Media(_)));
        shown = shown.or(is_there.then_some(n));
    }
    stage.run(STEP);
    let shown = shown.expect("a picture");
    assert!(shown < 50, "{shown} pictures of 20 ms passed before the first");
    // It begins with a keyframe, and from there on every picture comes whole, in order and with its time.
    let (mut depacketiser, mut pictures, mut decoded) = (H264Packet::default(), Vec::new(), Vec::new());
    for heard in &stage.clients[viewer].heard {
        let Heard::Media(media) = heard else { continue };
        decoded.extend(depacketiser.depacketize(media.payload()).expect("H.264"));
        if media.marker() {
            pictures.push((media.timestamp(), std::mem::take(&mut decoded)));
        }
    }
    let first = (0..100).find(|n| picture(*n).1 == pictures[0].1).expect("one of them");
    assert!(first.is_multiple_of(10) && first <= shown, "{first} was the first");
    let expected: Vec<Vec<u8>> = (first..100).map(|n| picture(n).1).collect();
    assert_eq!(
        pictures.iter().map(|(_, picture)| picture.len()).collect::<Vec<_>>(),
        expected.iter().map(Vec::len).collect::<Vec<_>>()
    );
    assert!(pictures.iter().map(|(_, picture)| picture).eq(&expected));
    assert!(pictures.windows(2).all(|pair| pair[1].0.wrapping_sub(pair[0].0) == 1800), "20 ms of 90 kHz");
    assert_eq!(stage.told(ben), [], "a musician hears nothing of it");

    stage.tell("jam", Request::EndScreening);
    let told = stage.told(anna);
    assert!(told.contains(&Event::ProducerRemoved(programme.id)), "{told:?}");
}

/// Packet `n` of a programme's sound.
fn opus(n: u64) -> OpusPacket {
    OpusPacket { pts_us: 1_000_000 + n * 20_000, data: Bytes::copy_from_slice(&[0xfc, n as u8, 7, 7]) }
}

#[test]
fn the_programmes_sound_is_asked_for_and_comes_packet_by_packet_in_the_stream_of_its_picture() {
    let mut stage = Stage::new();
    let anna = stage.enter_as("jam", RoomRole::Host);
    stage.publish(anna, false);
    stage.run(SECOND);
    let room = stage.clients[anna].room.clone();
    let tap = stage.ask(&room, |reply| Request::Tap { reply }).expect("in").expect("a tap");
    stage.told(anna);
    stage.tell("jam", Request::Screen { frame: picture(0).0 });
    let told = stage.told(anna);
    let [Event::ProducerAdded(picture), Event::ProducerAdded(sound)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((picture.kind, sound.kind), (MediaKind::Video, MediaKind::Audio));
    let viewer = stage.consume(anna, picture.id);
    stage.run(SECOND);
    assert!(!tap.roster.borrow().previewed);
    let (_, offer) = stage.consume_with(anna, viewer, sound.id);
    assert_eq!(offer.matches("a=msid:programme ").count(), 2, "{offer}");
    stage.run(SECOND);
    assert!(tap.roster.borrow().previewed, "now it has to be made");
    for n in 0..50 {
        stage.tell("jam", Request::Screen { frame: ProgrammeFrame::Sound(opus(n)) });
        stage.run(STEP);
    }
    stage.run(STEP);
    let heard: Vec<_> = stage.clients[viewer]
        .heard
        .iter()
        .filter_map(|heard| if let Heard::Media(media) = heard { Some(media) } else { None })
        .collect();
    let expected: Vec<_> = (0..50).map(|n| opus(n).data).collect();
    assert_eq!(heard.iter().map(|media| media.payload().clone()).collect::<Vec<_>>(), expected);
    let steps = |pair: &[&Media]| {
        (pair[1].seq().wrapping_sub(pair[0].seq()), pair[1].timestamp().wrapping_sub(pair[0].timestamp()))
    };
    assert!(heard.windows(2).all(|pair| steps(pair) == (1, 960)), "20 ms of 48 kHz each");
}

#[test]
fn a_lane_of_a_musician_is_never_one_of_the_programme() {
    let mut stage = Stage::new();
    let (anna, ben) = (stage.enter_as("jam", RoomRole::Host), stage.enter("jam"));
    for client in [anna, ben] {
        stage.publish(client, false);
    }
    stage.run(SECOND);
    let Client { room, participant, .. } = &stage.clients[anna];
    let (room, participant) = (room.clone(), *participant);
    let voice = stage.produce(ben);
    stage.told(anna);
    stage.tell("jam", Request::Screen { frame: picture(0).0 });
    let told = stage.told(anna);
    let [Event::ProducerAdded(_), Event::ProducerAdded(sound)] = &told[..] else { panic!("{told:?}") };
    let sound = sound.id;
    let receiver = stage.consume(anna, voice);
    stage.run(SECOND);
    let lines = |offer: &str| offer.matches("m=audio").count();
    for (producer, audio_lines, streams) in [(voice, 2, 0), (sound, 3, 1), (voice, 3, 1), (sound, 3, 1)] {
        let (consumer, offer) = stage.consume_with(anna, receiver, producer);
        let of_programme = offer.matches("a=msid:programme ").count();
        assert_eq!((lines(&offer), of_programme), (audio_lines, streams), "{offer}");
        let close = |reply| Request::SetConsumer { participant, consumer, change: Change::Close, reply };
        stage.ask(&room, close).expect("answered").expect("it was there");
        stage.accept_offer(anna, receiver);
        stage.run(STEP);
    }
}
