//! What a gateway allows: how many streams, whose destinations, and what it does with those that it finds.

use jamcast::live::port::Page;
use jamcast::live::port::RecordingRow;
use jamcast::live::registry::Config;
use jamcast::live::registry::NewStream;
use jamcast::live::registry::StreamError;
use jamcast::live::snapshot::StreamState;
use jamcast::model::id::RecordingId;

use crate::stream::anna;
use crate::stream::ask;
use crate::stream::mixers::MixerStart;
use crate::stream::room;
use crate::stream::state;
use crate::stream::world;
use crate::stream::world_with;

#[tokio::test(start_paused = true)]
async fn limits_hold() {
    let mut world = world_with(Config { max_concurrent_streams: 2, ..Config::default() }, 256, MixerStart::Works);
    let (first, mut watch) = world.start(ask("jam")).await;
    let registry = world.registry.clone();
    let create = |name: &'static str| {
        let registry = registry.clone();
        async move { registry.create(&anna(), ask(name)).await.unwrap().id }
    };
    let (same_room, other, third) = (create("jam").await, create("gig").await, create("den").await);
    assert!(matches!(registry.start(same_room).await, Err(StreamError::RoomBusy(busy)) if busy == first));
    assert!(matches!(registry.start(first).await, Err(StreamError::WrongState(_))));
    assert!(matches!(registry.delete(first).await, Err(StreamError::WrongState(_))));
    registry.start(other).await.unwrap();
    assert!(matches!(registry.start(third).await, Err(StreamError::TooMany(2))));

    registry.stop(first).await.unwrap();
    drop(world.mixer().await);
    state(&mut watch, StreamState::Ended).await;
    registry.start(same_room).await.expect("its room is free again");
    registry.delete(first).await.unwrap();
    assert!(matches!(registry.delete(first).await, Err(StreamError::NotFound)));
    assert_eq!(registry.get(first).await.unwrap(), None);

    assert!(matches!(registry.create(&anna(), ask("nowhere")).await, Err(StreamError::UnknownRoom(_))));
    let foreign = world.destination("bob");
    let theft = registry.create(&anna(), NewStream { destinations: vec![foreign], ..ask("den") }).await;
    assert!(matches!(theft, Err(StreamError::UnknownDestination(id)) if id == foreign));
    assert_eq!(registry.stop(third).await.unwrap().state, StreamState::Ended);
}

#[tokio::test(start_paused = true)]
async fn streaming_can_be_switched_off() {
    let world = world_with(Config { streaming_enabled: false, ..Config::default() }, 256, MixerStart::Works);
    let id = world.registry.create(&anna(), ask("jam")).await.unwrap().id;
    let refused = world.registry.start(id).await;
    assert!(matches!(&refused, Err(error) if error.code() == "streaming_disabled"), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn an_idempotency_key_creates_one_stream() {
    let world = world();
    let new = NewStream { idempotency_key: Some("k1".to_owned()), ..ask("jam") };
    let first = world.registry.create(&anna(), new.clone()).await.unwrap();
    let second = world.registry.create(&anna(), new.clone()).await.unwrap();
    assert_eq!(first, second);
    let other = world.registry.create(&anna(), NewStream { title: "Other".to_owned(), ..new.clone() }).await;
    assert!(matches!(other, Err(StreamError::KeyReused)));
    world.registry.create(&"bob".parse().unwrap(), new).await.expect("keys are per owner");
    assert_eq!(world.registry.list(None, Page { limit: 10, before: None }).await.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_gateway_left_open_is_closed() {
    let world = world();
    let created = world.registry.create(&anna(), ask("jam")).await.unwrap().id;
    let live = world.registry.create(&anna(), ask("gig")).await.unwrap().id;
    {
        let mut rows = world.store.rows();
        rows.streams.iter_mut().find(|row| row.id == live).unwrap().state = StreamState::Live;
        rows.recordings.push(RecordingRow {
            id: RecordingId::generate(),
            stream: live,
            owner: anna(),
            room: room("gig"),
            title: "Jam night".to_owned(),
            part: 1,
            file: "left.mp4".to_owned(),
            created_at_ms: 1,
            ended_at_ms: None,
            size_bytes: None,
            failure: None,
            stem: None,
            zero_at_ms: None,
            kept: false,
        });
    }
    std::fs::write(world.folder.path().join("left.mp4"), [0; 100]).unwrap();
    world.registry.recover().await.unwrap();
    assert_eq!(world.row(created).state, StreamState::Created);
    let row = world.row(live);
    assert_eq!((row.state, row.reason.as_deref()), (StreamState::Failed, Some("the gateway was restarted")));
    let recording = world.store.rows().recordings[0].clone();
    assert_eq!((recording.size_bytes, recording.failure.is_some()), (Some(100), true));
}
