//! Two peers on a wire in memory, in virtual time.

use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use bytes::BytesMut;

use crate::driver::rtc::engine::Engine;
use crate::driver::rtc::peer::Heard;
use crate::driver::rtc::peer::MAX_HELD;
use crate::driver::rtc::peer::Peer;
use crate::model::media::Codec;

const STEP: Duration = Duration::from_millis(10);

fn peer(now: Instant, port: u16) -> (SocketAddr, Peer) {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let engine = Engine::new(vec![address], false).expect("a certificate");
    (address, Peer::new(now, &engine).expect("a peer"))
}

fn carry(now: Instant, from: &mut (SocketAddr, Peer), to: &mut (SocketAddr, Peer)) {
    while let Some((destination, datagram)) = from.1.poll_transmit() {
        if destination == to.0 {
            to.1.receive(now, to.0, from.0, datagram);
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
        answerer.1.receive(start, answerer.0, offerer.0, BytesMut::from(&[22, 254, 253, 0][..]));
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
fn a_broken_description_breaks_nothing() {
    let now = Instant::now();
    let (_, mut fresh) = peer(now, 1);
    for offer in ["", "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n", &"m=audio 9 x 0\r\n".repeat(65), &"x".repeat(300_000)] {
        assert!(fresh.answer(now, offer, |_| None).is_err());
    }
}
