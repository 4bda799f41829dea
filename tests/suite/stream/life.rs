//! A stream from its creation to its end.

use std::time::Duration;

use jamcast::live::port::Store;
use jamcast::live::registry::Config;
use jamcast::live::registry::NewStream;
use jamcast::live::registry::StreamError;
use jamcast::live::rooms::TapMedia;
use jamcast::live::snapshot::StreamState;
use jamcast::model::spec::ProgrammeSpec;
use jamcast::proto::mixer::Control;
use jamcast::proto::mixer::FromMixer;
use jamcast::proto::mixer::Report;

use crate::stream::anna;
use crate::stream::ask;
use crate::stream::band;
use crate::stream::mixers::MixerStart;
use crate::stream::packet;
use crate::stream::state;
use crate::stream::until;
use crate::stream::world;
use crate::stream::world_with;

#[tokio::test(start_paused = true)]
async fn a_stream_is_live_with_the_first_picture_and_nobody_in_the_room() {
    let mut world = world();
    let destination = world.destination("anna");
    let (id, mut watch) = world.start(NewStream { destinations: vec![destination], ..ask("jam") }).await;
    let mut mixer = world.mixer().await;
    let scene = mixer.scene(|_| true).await;
    assert_eq!((scene.sources, scene.recording, scene.programme), (Vec::new(), None, ProgrammeSpec::default()));
    mixer.begin(1000).await;
    let live = state(&mut watch, StreamState::Live).await;
    assert_eq!((live.destinations.len(), live.destinations[0].id), (1, destination));
    let seen = until(&mut watch, |seen| seen.stats.video_frames == 1).await;
    assert!(seen.started_at_ms.is_some());
    assert_eq!(world.row(id).state, StreamState::Live);
    assert_eq!(world.row(id).started_at_ms, seen.started_at_ms);
    assert_eq!(world.registry.active(), 1);
}

#[tokio::test(start_paused = true)]
async fn stopping_finishes_the_recording_and_the_destinations() {
    let mut world = world();
    let destination = world.destination("anna");
    let (id, mut watch) = world.start(NewStream { destinations: vec![destination], record: true, ..ask("jam") }).await;
    let mut mixer = world.mixer().await;
    let path = mixer.scene(|_| true).await.recording.expect("a recording");
    mixer.begin(1000).await;
    state(&mut watch, StreamState::Live).await;
    world.registry.stop(id).await.unwrap();
    mixer.control(&Control::Finish).await;
    assert_eq!(world.registry.get(id).await.unwrap().unwrap().state, StreamState::Stopping);
    std::fs::write(&path, [0; 4096]).unwrap();
    mixer.video(1033, false).await;
    mixer.say(FromMixer::Report(Report::RecordingFinished { path })).await;
    mixer.say(FromMixer::Report(Report::Finished)).await;
    let ended = state(&mut watch, StreamState::Ended).await;
    assert_eq!((&ended.reason, ended.stats.video_frames), (&None, 2));
    let recording = world.store.rows().recordings[0].clone();
    assert_eq!((recording.size_bytes, recording.failure), (Some(4096), None));
    assert_eq!(world.row(id).state, StreamState::Ended);
    assert_eq!(ended.destinations[0].state, jamcast::live::snapshot::DestinationState::Stopped);
    // The last numbers stay when the stream's task is gone, and when its destination is deleted.
    while world.registry.watch(id).is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.store.delete_destination(destination).await.unwrap();
    let kept = world.registry.get(id).await.unwrap().unwrap();
    assert_eq!((&kept.stats, &kept.destinations), (&ended.stats, &ended.destinations));
    // Stopping what has ended is no error, starting it again is one.
    assert_eq!(world.registry.stop(id).await.unwrap().state, StreamState::Ended);
    let again = world.registry.start(id).await;
    assert!(matches!(again, Err(StreamError::WrongState(StreamState::Ended))), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_stream_stops_by_itself() {
    let mut world = world_with(Config { stream_timeout_ms: 3_000, ..Config::default() }, 256, MixerStart::Works);
    let (_, mut watch) = world.start(ask("jam")).await;
    let mixer = world.mixer().await;
    let tap = world.tap().await;
    tap.roster.send_replace(band(&["Ann"]));
    mixer.begin(1).await;
    for second in 1..10 {
        tap.media.send(TapMedia::Packet(packet(1))).await.unwrap();
        mixer.video(second * 1000, true).await;
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(watch.borrow().state, StreamState::Live);
    drop(mixer);
    let ended = state(&mut watch, StreamState::Ended).await;
    assert!(ended.reason.is_some_and(|reason| reason.contains("nobody")), "a reason people understand");
}

#[tokio::test(start_paused = true)]
async fn draining_stops_every_stream_and_takes_no_new_one() {
    let mut world = world();
    let (_, mut watch) = world.start(ask("jam")).await;
    let waiting = world.registry.create(&anna(), ask("gig")).await.unwrap().id;
    let mut mixer = world.mixer().await;
    mixer.begin(1).await;
    state(&mut watch, StreamState::Live).await;
    let registry = world.registry.clone();
    let draining = tokio::spawn(async move { registry.drain(Duration::from_secs(30)).await });
    mixer.control(&Control::Finish).await;
    assert!(matches!(world.registry.start(waiting).await, Err(StreamError::ShuttingDown)));
    drop(mixer);
    assert_eq!(draining.await.unwrap(), 0);
    assert_eq!(watch.borrow().state, StreamState::Ended);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_a_stream_and_says_so() {
    let mut world = world();
    let (_, mut watch) = world.start(ask("jam")).await;
    let mixer = world.mixer().await;
    mixer.begin(1).await;
    state(&mut watch, StreamState::Live).await;
    world.shutdown.cancel();
    drop(mixer);
    let ended = state(&mut watch, StreamState::Ended).await;
    assert_eq!(ended.reason.as_deref(), Some("the gateway was shut down"));
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_one_stream_only() {
    let world = world_with(Config::default(), 16, MixerStart::Panics);
    let (id, mut watch) = world.start(ask("jam")).await;
    state(&mut watch, StreamState::Failed).await;
    assert_eq!(world.row(id).state, StreamState::Failed);
    assert_eq!(world.registry.active(), 0);
    world.start(ask("jam")).await;
}

#[tokio::test(start_paused = true)]
async fn snapshots_come_twice_a_second_at_most() {
    let mut world = world();
    let (_, mut watch) = world.start(ask("jam")).await;
    let mixer = world.mixer().await;
    mixer.begin(1).await;
    state(&mut watch, StreamState::Live).await;
    let mut seen = 0;
    for frame in 1..=150 {
        mixer.video(1 + frame * 33, frame % 60 == 0).await;
        tokio::time::sleep(Duration::from_millis(33)).await;
        seen += usize::from(watch.has_changed().expect("it is live"));
        watch.mark_unchanged();
    }
    assert!((8..=11).contains(&seen), "{seen} in five seconds");
    let fps = watch.borrow().stats.fps;
    assert!((29.0..=31.0).contains(&fps), "{fps}");
}
