//! The delays between musicians, measured by the checks of their connections.

use crate::domain::room::delay::Leg;
use crate::domain::room::producer::Encoding;
use crate::domain::room::repair::repair;
use crate::driver::rtc::tests::SECOND;
use crate::driver::rtc::tests::STEP;
use crate::driver::rtc::tests::Stage;
use crate::live::rooms::Event;
use crate::live::rooms::Request;
use crate::live::rooms::TrackSource;
use crate::model::media::Codec;

#[test]
fn the_delay_table_is_fed_by_the_checks_of_connected_peers_and_told_to_everybody() {
    let mut stage = Stage::new();
    let (anna, ben) = (stage.enter("jam"), stage.enter("jam"));
    for client in [anna, ben] {
        stage.publish(client, false);
        stage.produce(client);
    }
    let [from, to] = [anna, ben].map(|client| stage.clients[client].participant);
    let room = stage.clients[anna].room.clone();
    // Nobody receives here; and what comes to the worker within a step is answered with the next one.
    let key = stage.host.key_of(&room).expect("it is open");
    stage.host.room(key).note_round_trip(to, Leg::Recv, 3 * STEP);
    stage.run(5 * SECOND);
    let tables = |events: Vec<Event>| -> Vec<_> {
        events
            .into_iter()
            .filter_map(|event| if let Event::Delays(paths) = event { Some(paths) } else { None })
            .collect()
    };
    let told = tables(stage.told(ben));
    // A worker ticks ten times a second, and this stage with every step: a table is due with every twentieth.
    assert!((5..=13).contains(&told.len()), "{told:?}");
    let last = told.last().expect("there is one");
    let [path] = &last[..] else { panic!("nobody else receives: {last:?}") };
    assert_eq!((path.from, path.to, path.delay, path.buffer), (from, to, STEP / 2 + 3 * STEP / 2, None));
    let table = stage.ask(&room, |reply| Request::Delays { reply }).expect("answered at once").expect("a table");
    assert_eq!((table.participants.len(), &table.for_all[..]), (2, &last[..]));

    // Who does not listen misses tables, and nothing else.
    stage.run(60 * SECOND);
    assert_eq!(stage.host.participants(), 2);
    let kept = stage.told(anna).len();
    assert!(kept <= 33, "{kept} of 64 places are full");
    assert!(!tables(stage.told(ben)).is_empty());
}

#[test]
fn a_tap_says_how_long_what_a_link_loses_takes_to_come_again() {
    let mut stage = Stage::new();
    let anna = stage.enter("jam");
    stage.publish(anna, false);
    let (room, participant) = (stage.clients[anna].room.clone(), stage.clients[anna].participant);
    let key = stage.host.key_of(&room).expect("it is open");
    let camera = Encoding { codec: Codec::Vp8, payload_type: 96 };
    stage.host.room(key).produce(participant, "1", TrackSource::Camera, camera).expect("allowed");
    stage.host.room(key).bind_source(participant, "1", None, 7);
    stage.host.room(key).note_round_trip(participant, Leg::Send, 20 * STEP);
    let tap = stage.ask(&room, |reply| Request::Tap { reply }).expect("in").expect("a tap");
    assert_eq!(tap.repair, repair(20 * STEP, 0.01));
}
