//! What a panic costs: its room, or the worker where it belongs to none.

use std::net::Ipv4Addr;
use std::net::UdpSocket;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::driver::rtc::Config;
use crate::driver::rtc::demux::Demux;
use crate::driver::rtc::engine::Candidates;
use crate::driver::rtc::engine::Engine;
use crate::driver::rtc::host::Host;
use crate::driver::rtc::spawn;
use crate::driver::rtc::tcp::streams::Streams;
use crate::driver::rtc::tests::SECOND;
use crate::driver::rtc::tests::Stage;
use crate::driver::rtc::worker::Worker;
use crate::live::rooms::Event;
use crate::live::rooms::Request;
use crate::live::rooms::Rooms;

#[test]
fn a_panic_costs_the_room_it_happens_in() {
    let mut stage = Stage::new();
    let (anna, ben, carla) = (stage.enter("cursed"), stage.enter("cursed"), stage.enter("blessed"));
    for client in [anna, ben, carla] {
        stage.publish(client, false);
    }
    stage.run(SECOND);
    let cursed = *stage.host.rooms.iter().find(|(_, hosted)| hosted.name.as_str() == "cursed").expect("open").0;
    let mut tap =
        stage.ask(&"cursed".parse().expect("a slug"), |reply| Request::Tap { reply }).expect("in").expect("a tap");
    for client in [anna, ben, carla] {
        stage.told(client);
    }
    stage.host.work.cursed = Some(cursed);
    stage.run(60 * SECOND);
    for client in [anna, ben] {
        assert!(matches!(stage.told(client)[..], [Event::Removed { .. }]));
    }
    assert_eq!(stage.host.counters.panics, 1);
    assert_eq!(stage.told(carla), []);
    assert!(stage.is_connected(carla), "her timers and her traffic go on");
    assert_eq!((stage.host.rooms.len(), stage.host.lines.len()), (1, 1));
    assert!(matches!(tap.media.try_recv(), Err(mpsc::error::TryRecvError::Disconnected)), "the mixer asks anew");
    let again = stage.enter("cursed");
    stage.publish(again, false);
    stage.run(SECOND);
    assert!(stage.is_connected(again), "the room can be opened again");
}

#[test]
#[should_panic(expected = "for nobody")]
fn a_panic_that_belongs_to_no_room_ends_the_worker() {
    let mut stage = Stage::new();
    stage.enter("jam");
    stage.host.contained(stage.now, |_| panic!("for nobody"));
}

#[test]
fn a_worker_that_ended_is_seen_as_dead() {
    // Without a candidate, the first datagram has no address to belong to.
    let host = Host::new(
        Config::default(),
        Engine::new(Candidates::default(), false).expect("a certificate"),
        Demux::default(),
    );
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    socket.set_nonblocking(true).expect("a socket");
    let address = socket.local_addr().expect("bound");
    let (sender, commands) = mpsc::channel(1);
    let rooms = Rooms::new(vec![sender]);
    let streams = Streams::new(mpsc::channel(1).1);
    let work = async move || Worker::new(host, socket, streams, commands)?.run(CancellationToken::new()).await;
    let worker = spawn("media".to_owned(), work).expect("a thread");
    assert_eq!(rooms.dead_workers(), 0);
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    client.send_to(&[0; 20], address).expect("sent");
    worker.join().expect("its panic is reported, not passed on");
    assert_eq!(rooms.dead_workers(), 1);
}
