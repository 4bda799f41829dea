//! Two peers on a wire in memory, in virtual time.

use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use bytes::BytesMut;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::NackPair;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::rtp_transceiver::RTCRtpReceiverId;

use crate::domain::room::forwarder::Outgoing;
use crate::domain::room::picture::Shift;
use crate::domain::room::red::Repeater;
use crate::domain::room::selector::Part;
use crate::driver::rtc::engine::Candidates;
use crate::driver::rtc::engine::Engine;
use crate::driver::rtc::media::Media;
use crate::driver::rtc::path::Remote;
use crate::driver::rtc::peer::Form;
use crate::driver::rtc::peer::Heard;
use crate::driver::rtc::peer::MAX_HELD;
use crate::driver::rtc::peer::Peer;
use crate::driver::rtc::peer::Source;
use crate::driver::rtc::peer::round_trip::clock;
use crate::driver::rtc::sdp;
use crate::live::rooms::Transport;
use crate::model::media::Codec;

const STEP: Duration = Duration::from_millis(10);

fn peer(now: Instant, port: u16) -> (SocketAddr, Peer) {
    peer_with(now, port, false)
}

fn peer_with(now: Instant, port: u16, ice_lite: bool) -> (SocketAddr, Peer) {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let engine = Engine::new(Candidates { udp: vec![address], tcp: Vec::new() }, ice_lite).expect("a certificate");
    (address, Peer::new(now, &engine, Transport::Recv).expect("a peer"))
}

fn carry(now: Instant, from: &mut (SocketAddr, Peer), to: &mut (SocketAddr, Peer)) {
    while let Some((destination, datagram)) = from.1.poll_transmit() {
        if destination == Remote::udp(to.0) {
            to.1.receive(now, to.0, Remote::udp(from.0), datagram);
        }
    }
}

fn tend(now: Instant, peer: &mut Peer) -> Vec<Heard> {
    if peer.poll_timeout().is_some_and(|at| at <= now) {
        peer.handle_timeout(now);
    }
    let mut heard = Vec::new();
    peer.poll(now, &mut heard);
    heard
}

#[test]
fn dtls_that_comes_before_ice_is_kept_for_it_in_a_bounded_place() {
    let start = Instant::now();
    let (mut offerer, mut answerer) = (peer(start, 1), peer(start, 2));
    offerer.1.open_lane(Codec::Opus, "stream").expect("a lane");
    let offer = offerer.1.offer(start, false).expect("an offer");
    let answer = answerer.1.answer(start, &offer, |_| None).expect("an answer");
    offerer.1.accept(start, &answer).expect("acceptable");
    for _ in 0..2 * MAX_HELD {
        answerer.1.receive(start, answerer.0, Remote::udp(offerer.0), BytesMut::from(&[22, 254, 253, 0][..]));
    }
    assert_eq!(answerer.1.held.len(), MAX_HELD);
    for step in 0..50u32 {
        let now = start + STEP * step;
        tend(now, &mut offerer.1);
        tend(now, &mut answerer.1);
        carry(now, &mut offerer, &mut answerer);
        carry(now, &mut answerer, &mut offerer);
    }
    assert!(offerer.1.is_connected() && answerer.1.is_connected(), "half a second is enough");
    assert!(answerer.1.held.is_empty(), "what was kept has been handed on");
}

#[test]
fn what_comes_later_may_have_another_codec_than_what_came_first() {
    let start = Instant::now();
    let (mut near, mut far) = (peer(start, 1), peer(start, 2));
    let mut lanes = Vec::new();
    for (round, codec) in (0..).zip([Codec::Vp8, Codec::Opus, Codec::H264, Codec::Vp9, Codec::Vp8]) {
        lanes.push(near.1.open_lane(codec, "stream").expect("a lane"));
        let offer = near.1.offer(start, false).expect("an offer");
        let answer = far.1.answer(start, &offer, |_| None).expect("an answer");
        near.1.accept(start, &answer).expect("acceptable");
        for step in 0..50u32 {
            let now = start + STEP * (round * 50 + step);
            tend(now, &mut near.1);
            tend(now, &mut far.1);
            carry(now, &mut near, &mut far);
            carry(now, &mut far, &mut near);
        }
        assert!(lanes.iter().all(|lane| near.1.is_open(*lane)), "{codec:?} after others");
    }
}

#[test]
fn the_round_trip_is_that_of_the_checks_on_the_path_in_use() {
    let start = Instant::now();
    let (mut near, mut far) = (peer(start, 1), peer(start, 2));
    near.1.open_lane(Codec::Opus, "stream").expect("a lane");
    let offer = near.1.offer(start, false).expect("an offer");
    let answer = far.1.answer(start, &offer, |_| None).expect("an answer");
    near.1.accept(start, &answer).expect("acceptable");
    // 30 ms there, 50 ms back.
    let mut there: Vec<(Instant, BytesMut)> = Vec::new();
    let mut back: Vec<(Instant, BytesMut)> = Vec::new();
    let mut measured = Vec::new();
    for step in 0..700u32 {
        let now = start + STEP * step;
        for (_, datagram) in there.extract_if(.., |(at, _)| *at <= now) {
            far.1.receive(now, far.0, Remote::udp(near.0), datagram);
        }
        for (_, datagram) in back.extract_if(.., |(at, _)| *at <= now) {
            near.1.receive(now, near.0, Remote::udp(far.0), datagram);
        }
        for heard in tend(now, &mut near.1) {
            if let Heard::RoundTrip(took) = heard {
                measured.push(took);
            }
        }
        tend(now, &mut far.1);
        there.extend(std::iter::from_fn(|| near.1.poll_transmit()).map(|(_, datagram)| (now + 3 * STEP, datagram)));
        back.extend(std::iter::from_fn(|| far.1.poll_transmit()).map(|(_, datagram)| (now + 5 * STEP, datagram)));
    }
    assert!((2..=5).contains(&measured.len()), "one in two seconds: {measured:?}");
    assert!(measured.iter().all(|measured| *measured == 8 * STEP), "{measured:?}");
}

#[test]
fn the_reports_of_who_answers_no_checks_tell_the_round_trip_too() {
    let now = Instant::now();
    let (_, mut peer) = peer(now, 1);
    peer.open_lane(Codec::Opus, "stream").expect("a lane");
    // Our report was sent 250 ms ago, and kept for 100 ms.
    let block = ReceptionReport {
        ssrc: peer.lanes[0].ssrc,
        last_sender_report: clock(now).wrapping_sub(65_536 / 4),
        delay: 65_536 / 10,
        ..ReceptionReport::default()
    };
    let report = ReceiverReport { ssrc: 1, reports: vec![block], ..ReceiverReport::default() };
    let told = |peer: &mut Peer, at| {
        assert!(matches!(peer.feedback(at, &report), Some(Heard::Lost { .. })), "and of loss");
        peer.round_trips.take()
    };
    let first = told(&mut peer, now).expect("measured");
    assert!((150..400).contains(&first.as_millis()), "{first:?}");
    assert_eq!(told(&mut peer, now + STEP), None, "the others of the same second say the same");
    assert!(told(&mut peer, now + Duration::from_secs(1)).is_some());
}

/// STUN binding success response (RFC 8489 section 5).
const SUCCESS: [u8; 2] = [0x01, 0x01];
/// RFC 6347 section 4.3: handshake records, and the first message of all.
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;

#[test]
fn a_client_that_is_ready_first_does_not_wait_for_its_handshake_timer() {
    let start = Instant::now();
    // The lite end has its pair as soon as it is told to, and may speak before the other end knows that it was heard.
    let (mut client, mut server) = (peer_with(start, 1, true), peer(start, 2));
    client.1.open_lane(Codec::Opus, "stream").expect("a lane");
    let offer = client.1.offer(start, false).expect("an offer");
    let answer = server.1.answer(start, &offer, |_| None).expect("an answer");
    client.1.accept(start, &answer).expect("acceptable");
    // What the client answers to the server's checks takes another way, and longer.
    let mut late: Vec<(Instant, BytesMut)> = Vec::new();
    let (mut early_hellos, mut hellos) = (0, 0);
    let mut connected_after = None;
    for step in 0..300u32 {
        let now = start + STEP * step;
        tend(now, &mut client.1);
        tend(now, &mut server.1);
        while let Some((_, datagram)) = client.1.poll_transmit() {
            if datagram[0] == HANDSHAKE && datagram.get(13) == Some(&CLIENT_HELLO) {
                hellos += 1;
                early_hellos += u32::from(!server.1.ice_is_up);
            }
            let delay = if datagram[..2] == SUCCESS { 30 * STEP } else { Duration::ZERO };
            late.push((now + delay, datagram));
        }
        for (_, datagram) in late.extract_if(.., |(at, _)| *at <= now) {
            server.1.receive(now, server.0, Remote::udp(client.0), datagram);
        }
        carry(now, &mut server, &mut client);
        if connected_after.is_none() && client.1.is_connected() && server.1.is_connected() {
            connected_after = Some(now - start);
        }
    }
    assert!(early_hellos > 0, "the client was first");
    // One without and one with the server's cookie; the client's timer sends more after a second.
    assert_eq!(hellos, 2, "nothing was lost that had to be repeated");
    assert!(connected_after.is_some_and(|after| after < Duration::from_millis(1400)), "{connected_after:?}");
}

#[test]
fn a_broken_description_breaks_nothing() {
    let now = Instant::now();
    let (_, mut fresh) = peer(now, 1);
    for offer in ["", "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n", &"m=audio 9 x 0\r\n".repeat(65), &"x".repeat(300_000)] {
        assert!(fresh.answer(now, offer, |_| None).is_err());
    }
}

#[test]
fn a_flood_of_nacks_brings_as_much_again_as_was_sent() {
    let start = Instant::now();
    let (mut sender, mut receiver) = (peer(start, 1), peer(start, 2));
    let lane = sender.1.open_lane(Codec::Vp8, "stream").expect("a lane");
    let offer = sender.1.offer(start, false).expect("an offer");
    let answer = receiver.1.answer(start, &offer, |_| None).expect("an answer");
    sender.1.accept(start, &answer).expect("acceptable");
    let mut now = start;
    let mut go_on = |sender: &mut (SocketAddr, Peer), receiver: &mut (SocketAddr, Peer)| {
        now += STEP;
        tend(now, &mut sender.1);
        tend(now, &mut receiver.1);
        carry(now, sender, receiver);
        carry(now, receiver, sender);
        now
    };
    for seq in 0..200 {
        let now = go_on(&mut sender, &mut receiver);
        let payload = vec![0x10, 0, 7, 7].into();
        let media = Media::new(rtc::rtp::Packet { payload, ..rtc::rtp::Packet::default() }, sdp::Extensions::default());
        let out = Outgoing { seq, timestamp: 7, shift: Shift::default(), part: Part::Whole };
        sender.1.write(now, lane, out, &media, Form::Plain(media.payload()));
    }
    let &Source { ssrc: media_ssrc, transceiver, .. } = receiver.1.sources.first().expect("packets came");
    let pair = |index: u16| NackPair { packet_id: index * 17, lost_packets: 0xffff };
    for _ in 0..100 {
        let nack = TransportLayerNack { sender_ssrc: 1, media_ssrc, nacks: (0..11).map(pair).collect() };
        let mut asks = receiver.1.pc.rtp_receiver(RTCRtpReceiverId::from(transceiver)).expect("a receiver");
        asks.write_rtcp(now, vec![Box::new(nack)]).expect("sent");
    }
    carry(now, &mut receiver, &mut sender);
    let repeated = std::iter::from_fn(|| sender.1.poll_transmit()).count();
    assert!((100..=1024 + 200).contains(&repeated), "{repeated} packets were sent again");
    assert!(sender.1.take_refused() > 10_000, "18 700 were asked for");
}

#[test]
fn sound_goes_twice_where_it_is_lost_and_comes_out_once_each() {
    let start = Instant::now();
    let (mut sender, mut receiver) = (peer(start, 1), peer(start, 2));
    let lane = sender.1.open_lane(Codec::Opus, "stream").expect("a lane");
    let offer = sender.1.offer(start, false).expect("an offer");
    let answer = receiver.1.answer(start, &offer, |_| None).expect("an answer");
    sender.1.accept(start, &answer).expect("acceptable");
    assert_eq!(sender.1.redundancy(lane), None, "a good link gets it once");
    sender.1.sound_lost(start, lane, 0.2, false);
    let (form, plain) = sender.1.redundancy(lane).expect("it was agreed on");
    assert_eq!((form, plain), (63, 111));
    let mut repeater = Repeater::default();
    let mut got = Vec::new();
    for seq in 0..200u8 {
        let now = start + STEP * u32::from(seq);
        tend(now, &mut sender.1);
        let heard = tend(now, &mut receiver.1);
        let media = heard.iter().filter_map(|heard| if let Heard::Media(media) = heard { Some(media) } else { None });
        for media in media.filter(|media| Some(media.payload_type()) == receiver.1.red()) {
            got.push(media.unwrapped().map(|m| (m.payload_type(), m.seq(), m.payload()[0], m.is_repeat())).collect());
        }
        let payload = Bytes::from(vec![seq; 40]);
        let (number, timestamp) = (u16::from(seq), u32::from(seq) * 480);
        if let Some(twice) = repeater.repeat(plain, number, timestamp, &payload) {
            let media = Media::new(rtc::rtp::Packet::default(), sdp::Extensions::default());
            let out = Outgoing { seq: number, timestamp, shift: Shift::default(), part: Part::Whole };
            sender.1.write(now, lane, out, &media, Form::Twice(form, &twice));
        }
        repeater.remember(number, timestamp, &payload);
        carry(now, &mut sender, &mut receiver);
        carry(now, &mut receiver, &mut sender);
    }
    let last: &Vec<_> = got.last().expect("packets came");
    let [(111, old, was, true), (111, new, is, false)] = last[..] else { panic!("{last:?}") };
    assert_eq!((old + 1, old, new), (new, u16::from(was), u16::from(is)));
}

#[test]
fn the_answer_has_the_offers_order_of_plain_and_redundant_sound_whatever_else_the_offer_asks_for() {
    let start = Instant::now();
    for opus in
        ["minptime=10", "minptime=10;useinbandfec=1", "stereo=0;usedtx=1;useinbandfec=1;maxaveragebitrate=20000"]
    {
        let (mut near, mut far) = (peer(start, 1), peer(start, 2));
        near.1.open_lane(Codec::Opus, "stream").expect("a lane");
        let offer = near.1.offer(start, false).expect("an offer");
        let offer = offer.replace(&format!("a=fmtp:111 {}\r\n", sdp::MUSIC), &format!("a=fmtp:111 {opus}\r\n"));
        assert!(offer.contains(" 111 63\r\n") && offer.contains(&format!("a=fmtp:111 {opus}\r\n")), "{offer}");
        // Browsers send redundant sound if it comes first in the answer.
        for formats in ["111 63", "63 111", "111 63"] {
            let answer = far.1.answer(start, &offer.replace(" 111 63\r\n", &format!(" {formats}\r\n")), |_| None);
            let answer = answer.expect("an answer");
            let media = answer.lines().find(|line| line.starts_with("m=audio")).expect("an m-line");
            assert!(media.ends_with(&format!(" {formats}")), "{media} to {formats} with {opus}");
            assert!(answer.contains("a=fmtp:63 111/111\r\n"), "{answer}");
            assert!(answer.contains(&format!("a=fmtp:111 {}\r\n", sdp::MUSIC)), "{answer}");
            assert!(far.1.red() == Some(63) && far.1.encoding(111).is_some());
        }
    }
}

#[test]
fn what_a_frame_of_av1_builds_on_goes_along_with_its_number_moved() {
    let start = Instant::now();
    let (mut sender, mut receiver) = (peer(start, 1), peer(start, 2));
    let lane = sender.1.open_lane(Codec::Av1, "stream").expect("a lane");
    let offer = sender.1.offer(start, false).expect("an offer");
    let answer = receiver.1.answer(start, &offer, |_| None).expect("an answer");
    sender.1.accept(start, &answer).expect("acceptable");
    let mut got = Vec::new();
    for seq in 0..200u8 {
        let now = start + STEP * u32::from(seq);
        tend(now, &mut sender.1);
        for heard in tend(now, &mut receiver.1) {
            let Heard::Media(media) = heard else { continue };
            let as_it_came = Outgoing { seq: 0, timestamp: 0, shift: Shift::default(), part: Part::Whole };
            got.push((media.payload()[1], media.frame_number(), media.dependencies(as_it_came)));
        }
        // That of a keyframe says how all frames belong together, and is longer than the short form of an extension may be.
        let is_key = seq % 20 == 0;
        let descriptor: Vec<u8> = if is_key { [0x80, 0xff, seq, 0x80, 7].repeat(8) } else { [0xc1, 0xff, seq].into() };
        let mut packet = rtc::rtp::Packet { payload: vec![0x10, seq].into(), ..rtc::rtp::Packet::default() };
        packet.header.set_extension(13, Bytes::from(descriptor)).expect("it fits");
        let media = Media::new(packet, sdp::Extensions { dependencies: Some(13), ..sdp::Extensions::default() });
        let shift = Shift { frame: 0x0100, ..Shift::default() };
        let out = Outgoing { seq: seq.into(), timestamp: 7, shift, part: Part::Whole };
        sender.1.write(now, lane, out, &media, Form::Plain(media.payload()));
        carry(now, &mut sender, &mut receiver);
        carry(now, &mut receiver, &mut sender);
    }
    assert!(got.len() > 100, "{} packets came", got.len());
    for (seq, number, descriptor) in got {
        assert_eq!(number, Some(u16::from(seq)), "0xff00 and 0x0100 on");
        assert_eq!(descriptor.map(|bytes| bytes.len()), Some(if seq % 20 == 0 { 40 } else { 3 }));
    }
}
