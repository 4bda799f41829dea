//! Destinations that join and leave while the programme runs.

use std::sync::Arc;
use std::time::Duration;

use jamcast::live::registry::Config;
use jamcast::live::registry::NewStream;
use jamcast::live::registry::StreamError;
use jamcast::live::snapshot::StreamSnapshot;
use jamcast::live::snapshot::StreamState;
use jamcast::model::id::DestinationId;

use crate::stream::World;
use crate::stream::anna;
use crate::stream::ask;
use crate::stream::mixers::FakeMixer;
use crate::stream::mixers::MixerStart;
use crate::stream::servers::Hosts;
use crate::stream::state;
use crate::stream::world;
use crate::stream::world_before;

fn destination_at(world: &World, host: &str) -> DestinationId {
    let id = world.destination("anna");
    world.store.rows().destinations.get_mut(&id).expect("just stored").endpoint.host = host.to_owned();
    id
}

/// Plays this many pictures from the given one on, with a keyframe each second.
async fn play(mixer: &FakeMixer, from: u64, count: u64) {
    for n in from..from + count {
        tokio::time::sleep(Duration::from_millis(40)).await;
        mixer.video(n * 40, n.is_multiple_of(25)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
}

fn steps(pictures: &[u32]) -> Vec<u32> {
    pictures.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[tokio::test(start_paused = true)]
async fn destinations_join_and_leave_on_air_and_the_others_miss_nothing() {
    let hosts = Arc::new(Hosts::default());
    let mut world = world_before(hosts.clone(), Config::default(), 256, MixerStart::Works);
    let (first, second) = (destination_at(&world, "one.example"), destination_at(&world, "two.example"));
    let (id, watch) = world.start(NewStream { destinations: vec![first], ..ask("jam") }).await;
    let mixer = world.mixer().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    mixer.begin(0).await;
    play(&mixer, 1, 49).await;
    assert_eq!(hosts.seen("one.example").pictures.len(), 50);

    let joined = world.registry.add_destination(id, second).await.expect("joins");
    assert_eq!(joined.destinations.iter().map(|view| view.id).collect::<Vec<_>>(), [first, second]);
    play(&mixer, 50, 50).await;
    assert_eq!(steps(&hosts.seen("one.example").pictures), [40; 99], "the first one missed pictures");
    let two = hosts.seen("two.example").pictures;
    assert!(two.len() >= 25 && two[0] == 0, "{two:?}");

    let left = world.registry.remove_destination(id, first).await.expect("leaves");
    assert_eq!(left.destinations.iter().map(|view| view.id).collect::<Vec<_>>(), [second]);
    play(&mixer, 100, 50).await;
    assert!(!hosts.seen("one.example").open, "it was told goodbye");
    assert_eq!(hosts.seen("one.example").pictures.len(), 100, "nothing after it");
    let two = hosts.seen("two.example").pictures;
    assert!(two.len() >= 75 && steps(&two).iter().all(|step| *step == 40), "{two:?}");
    assert_eq!(watch.borrow().destinations.len(), 1);
    let stored = world.store.rows().streams.iter().find(|row| row.id == id).cloned().expect("stored");
    assert_eq!(stored.destinations, [second]);
    assert_eq!(world.registry.sending_to(first), None, "it may be deleted now");

    // Twice is once, and a stranger's is not there.
    let again = world.registry.add_destination(id, second).await.expect("is there");
    assert_eq!(again.destinations.len(), 1);
    let bobs = world.destination("bob");
    let refused = world.registry.add_destination(id, bobs).await.expect_err("not Anna's");
    assert!(matches!(refused, StreamError::UnknownDestination(_)), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_over_takes_no_more_destinations_and_one_to_come_does() {
    let mut world = world();
    let (first, second) = (world.destination("anna"), world.destination("anna"));
    let created = world.registry.create(&anna(), NewStream { destinations: vec![first], ..ask("jam") }).await;
    let id = created.expect("created").id;
    let mut watch = world.registry.watch(id).expect("can be watched");
    let ids = |seen: &StreamSnapshot| seen.destinations.iter().map(|view| view.id).collect::<Vec<_>>();
    world.registry.add_destination(id, second).await.expect("added");
    world.registry.remove_destination(id, first).await.expect("removed");
    assert_eq!(ids(&watch.borrow_and_update()), [second], "who watches sees it");
    let started = world.registry.start(id).await.expect("starts");
    assert_eq!(ids(&started), [second]);
    let _mixer = world.mixer().await;
    world.registry.stop(id).await.expect("stops");
    state(&mut watch, StreamState::Ended).await;
    let refused = world.registry.add_destination(id, first).await.expect_err("too late");
    assert!(matches!(refused, StreamError::WrongState(_)), "{refused:?}");
}
