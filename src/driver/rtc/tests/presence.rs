//! Who comes, falls silent and comes back: transports that connect, fail, and are let go.

use std::time::Duration;

use crate::driver::rtc::path::Remote;
use crate::driver::rtc::tests::SECOND;
use crate::driver::rtc::tests::Stage;
use crate::live::rooms::Event;
use crate::live::rooms::Request;
use crate::live::rooms::Transport;

/// A room of so many who send, and are connected.
fn sending<const N: usize>() -> (Stage, [usize; N]) {
    let mut stage = Stage::new();
    let clients = std::array::from_fn(|_| stage.enter("jam"));
    for client in clients {
        stage.publish(client, false);
    }
    stage.run(SECOND);
    (stage, clients)
}

#[test]
fn a_network_that_comes_back_in_time_is_forgiven() {
    let (mut stage, [anna]) = sending();
    assert_eq!(stage.told(anna), [Event::TransportConnected(Transport::Send)]);
    for _ in 0..3 {
        stage.silent = true;
        stage.run(12 * SECOND);
        stage.silent = false;
        stage.run(10 * SECOND);
    }
    stage.run(60 * SECOND);
    let told = [Event::TransportFailed(Transport::Send), Event::TransportConnected(Transport::Send)];
    assert_eq!(
        stage.told(anna),
        [told.clone(), told.clone(), told].concat(),
        "each silence and each return is told; nobody is removed"
    );
    assert!(stage.is_connected(anna));
    assert_eq!(stage.host.participants(), 1);
}

#[test]
fn a_silent_participant_fails_and_is_let_go_after_its_grace() {
    let (mut stage, [anna, ben]) = sending();
    stage.told(anna);
    stage.clients[ben].address.set_port(9);
    stage.told(ben);
    stage.run(5 * SECOND);
    assert_eq!(stage.told(ben), [], "a few lost checks are nothing");
    stage.run(3 * SECOND);
    assert_eq!(stage.told(ben), [Event::TransportFailed(Transport::Send)], "time for a restart");
    stage.run(9 * SECOND);
    assert_eq!(stage.told(ben), [Event::TransportFailed(Transport::Send)], "ICE gave up");
    stage.run(27 * SECOND);
    assert_eq!(stage.host.participants(), 2, "there is a grace time of half a minute");
    stage.run(4 * SECOND);
    assert_eq!(stage.host.participants(), 1);
    assert!(matches!(stage.told(ben)[..], [Event::Removed { .. }]));
    let ben = stage.clients[ben].participant;
    assert!(stage.told(anna).contains(&Event::ParticipantLeft(ben)));
    assert!(stage.is_connected(anna), "nobody else is touched");
}

#[test]
fn a_failed_transport_comes_back_by_an_ice_restart() {
    let (mut stage, [anna]) = sending();
    stage.silent = true;
    stage.run(30 * SECOND);
    assert_eq!(
        stage.told(anna),
        [
            Event::TransportConnected(Transport::Send),
            Event::TransportFailed(Transport::Send),
            Event::TransportFailed(Transport::Send),
        ]
    );
    stage.silent = false;
    stage.publish(anna, true);
    stage.run(2 * SECOND);
    assert_eq!(stage.told(anna), [Event::TransportConnected(Transport::Send)]);
    stage.run(60 * SECOND);
    assert_eq!(stage.told(anna), []);
    assert_eq!(stage.host.participants(), 1);
}

#[test]
fn who_sends_without_trouble_loses_only_the_transport_that_did_not_connect() {
    let (mut stage, [anna, ben]) = sending();
    let producer = stage.produce(anna);
    stage.told(ben);
    // He asks, is offered a transport and never answers.
    let (room, participant) = (stage.clients[ben].room.clone(), stage.clients[ben].participant);
    stage.ask(&room, |reply| Request::Consume { participant, producer, reply }).expect("answered").expect("offered");
    stage.run(40 * SECOND);
    assert_eq!(stage.host.participants(), 2);
    assert_eq!(stage.host.lines.len(), 2, "the one he did not want is closed");
    assert!(stage.is_connected(ben));
    assert!(stage.told(ben).contains(&Event::TransportFailed(Transport::Recv)));
    let again = stage.ask(&room, |reply| Request::Consume { participant, producer, reply });
    assert!(again.expect("answered").is_ok(), "he may change his mind");
}

#[test]
fn udp_has_a_head_start_over_tcp() {
    let mut stage = Stage::new();
    stage.way = Remote::tcp;
    let anna = stage.enter("jam");
    stage.publish(anna, false);
    let a_while = Duration::from_millis(400);
    stage.run(a_while);
    assert_eq!(stage.sent_over_tcp, 0, "UDP may still come");
    stage.run(3 * SECOND);
    assert_eq!(stage.told(anna), [Event::TransportConnected(Transport::Send)], "it did not");
    assert!(stage.sent_over_tcp > 0);
    stage.sent_over_tcp = 0;
    stage.publish(anna, true);
    stage.run(a_while);
    assert_eq!(stage.sent_over_tcp, 0, "every restart is a new chance");
    stage.run(3 * SECOND);
    assert!(stage.is_connected(anna) && stage.sent_over_tcp > 0);
}
