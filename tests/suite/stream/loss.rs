//! Mixers that die, wedge or never come, and what destinations notice of it.

use std::sync::Arc;
use std::time::Duration;

use jamcast::live::registry::Config;
use jamcast::live::registry::NewStream;
use jamcast::live::rooms::TapMedia;
use jamcast::live::snapshot::StreamState;
use jamcast::model::id::TrackId;
use jamcast::proto::mixer::Control;
use jamcast::proto::mixer::FromMixer;
use jamcast::proto::mixer::MixerStats;
use jamcast::proto::mixer::Report;
use tokio::time::Instant;

use crate::stream::ask;
use crate::stream::band;
use crate::stream::eventually;
use crate::stream::mixers::MixerStart;
use crate::stream::servers::Hosts;
use crate::stream::state;
use crate::stream::until;
use crate::stream::world;
use crate::stream::world_before;
use crate::stream::world_with;

#[tokio::test(start_paused = true)]
async fn a_dead_mixer_is_replaced_within_a_second_and_destinations_do_not_notice() {
    let mut world = world();
    let destination = world.destination("anna");
    let (id, mut watch) = world.start(NewStream { destinations: vec![destination], record: true, ..ask("jam") }).await;
    let mut first = world.mixer().await;
    let tap = world.tap().await;
    tap.roster.send_replace(band(&["Ann", "Bob"]));
    let before = first.scene(|scene| scene.sources.len() == 2).await;
    tap.media.send(TapMedia::SenderReport { track: TrackId(3), ntp: 7, rtp: 8 }).await.unwrap();
    first.begin(1000).await;
    first.video(1033, false).await;
    until(&mut watch, |seen| seen.stats.video_frames == 2).await;
    while world.keyframes.try_recv().is_ok() {}
    let dials = world.server.calls();

    drop(first);
    let died = Instant::now();
    let mut second = world.mixer().await;
    let after = second.scene(|_| true).await;
    assert!(died.elapsed() < Duration::from_secs(1), "{:?}", died.elapsed());
    assert_eq!(after.sources, before.sources);
    assert_eq!(before.recording, Some(world.folder.path().join(format!("{id}-1.mp4")).display().to_string()));
    assert_eq!(after.recording, Some(world.folder.path().join(format!("{id}-2.mp4")).display().to_string()));
    second.control(&Control::SenderReport { track: TrackId(3), ntp: 7, rtp: 8 }).await;
    assert_eq!([world.keyframes.recv().await, world.keyframes.recv().await], [Some(TrackId(2)), Some(TrackId(4))]);

    // The past and pictures that cannot be decoded yet do not reach anybody.
    second.video(1066, false).await;
    second.begin(1033).await;
    second.begin(1100).await;
    second.video(1133, false).await;
    let seen = until(&mut watch, |seen| seen.stats.video_frames == 4).await;
    assert_eq!((seen.state, seen.stats.mixer_restarts, seen.stats.dropped_frames), (StreamState::Live, 1, 2));
    assert_eq!(seen.reason, None);
    assert_eq!(world.server.calls(), dials);
    assert_eq!(seen.destinations[0].reconnects, 0);
    let recordings = world.store.rows().recordings.clone();
    assert_eq!(recordings.iter().map(|row| row.part).collect::<Vec<_>>(), [1, 2]);
    assert!(recordings[0].failure.is_some() && recordings[1].ended_at_ms.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_destination_gets_the_programme_on_one_connection_whatever_happens_to_the_mixer() {
    let hosts = Arc::new(Hosts::default());
    let mut world = world_before(hosts.clone(), Config::default(), 256, MixerStart::Works);
    let destination = world.destination("anna");
    let pictures = async |count| {
        eventually(|| Some(hosts.seen("x.example").pictures).filter(|pictures| pictures.len() >= count)).await
    };
    let (id, mut watch) = world.start(NewStream { destinations: vec![destination], ..ask("jam") }).await;
    let mut mixer = world.mixer().await;
    // The destination begins at a keyframe, which it asks for.
    mixer.control(&Control::ForceKeyframe).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    mixer.begin(1000).await;
    mixer.video(1033, false).await;
    pictures(2).await;
    drop(mixer);
    let mixer = world.mixer().await;
    mixer.begin(1500).await;
    mixer.video(1533, false).await;
    let times = pictures(4).await;
    let after: Vec<u32> = times.iter().map(|time| time - times[0]).collect();
    assert_eq!(after, [0, 33, 500, 533], "a gap as long as the real one");
    let seen = until(&mut watch, |seen| seen.stats.mixer_restarts == 1).await;
    let first = seen.stats.first_video_ms.expect("it was sent");
    assert!((700..1000).contains(&first), "{first} ms, of which the mixer took 700");
    assert_eq!((seen.destinations[0].reconnects, hosts.seen("x.example").dials), (0, 1));
    world.registry.stop(id).await.expect("it stops");
    drop(mixer);
    state(&mut watch, StreamState::Ended).await;
}

#[tokio::test(start_paused = true)]
async fn it_is_told_whether_the_picture_passes_through_and_how_many_did() {
    let mut world = world();
    let (_, mut watch) = world.start(ask("jam")).await;
    let mixer = world.mixer().await;
    mixer.begin(1000).await;
    let seen = state(&mut watch, StreamState::Live).await;
    assert_eq!((seen.stats.passed_through, seen.stats.passed_frames), (false, 0));
    let stats = |passes, passed_frames| MixerStats { passes, passed_frames, ..MixerStats::default() };
    mixer.say(FromMixer::Report(Report::Stats(stats(true, 30)))).await;
    let seen = until(&mut watch, |seen| seen.stats.passed_through).await;
    assert_eq!(seen.stats.passed_frames, 30);
    drop(mixer);
    // The next one composes until it knows better, and what the first one did stays.
    let seen = until(&mut watch, |seen| !seen.stats.passed_through).await;
    assert_eq!(seen.stats.passed_frames, 30);
    let next = world.mixer().await;
    next.begin(2000).await;
    next.say(FromMixer::Report(Report::Stats(stats(true, 12)))).await;
    let seen = until(&mut watch, |seen| seen.stats.passed_through).await;
    assert_eq!(seen.stats.passed_frames, 42);
}

#[tokio::test(start_paused = true)]
async fn a_mixer_that_dies_again_and_again_fails_the_stream() {
    let mut world = world();
    let (id, mut watch) = world.start(NewStream { record: true, ..ask("jam") }).await;
    for generation in 0..6 {
        let mixer = world.mixer().await;
        mixer.begin(1000 + generation * 100).await;
        mixer.say(FromMixer::Report(Report::Failed { reason: "the encoder is on fire".to_owned() })).await;
    }
    let failed = state(&mut watch, StreamState::Failed).await;
    let reason = failed.reason.expect("a reason");
    assert!(reason.contains("6 times") && reason.contains("the encoder is on fire"), "{reason}");
    let row = world.row(id);
    assert_eq!((row.state, row.reason), (StreamState::Failed, Some(reason)));
    let recordings = world.store.rows().recordings.clone();
    assert_eq!(recordings.len(), 6);
    assert!(recordings.iter().all(|part| part.ended_at_ms.is_some() && part.failure.is_some()));
    assert!(watch.changed().await.is_err(), "nothing follows the end");
    assert_eq!(world.registry.active(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_mixer_that_cannot_be_started_fails_the_stream_with_the_cause() {
    let world = world_with(Config::default(), 16, MixerStart::Fails);
    let (_, mut watch) = world.start(ask("jam")).await;
    let failed = state(&mut watch, StreamState::Failed).await;
    assert!(failed.reason.is_some_and(|reason| reason.contains("no such executable")));
}

#[tokio::test(start_paused = true)]
async fn a_mixer_that_encodes_nothing_is_replaced() {
    let mut world = world();
    let (_, mut watch) = world.start(ask("jam")).await;
    let wedged = world.mixer().await;
    wedged.begin(1000).await;
    let second = world.mixer().await;
    assert!(wedged.says.is_closed(), "the wedged mixer is dropped, that is killed");
    second.begin(9000).await;
    until(&mut watch, |seen| seen.stats.video_frames == 2 && seen.stats.mixer_restarts == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_mixer_that_does_not_finish_is_not_waited_for_for_ever() {
    let mut world = world();
    let (id, mut watch) = world.start(NewStream { record: true, ..ask("jam") }).await;
    let mixer = world.mixer().await;
    mixer.begin(1000).await;
    state(&mut watch, StreamState::Live).await;
    world.registry.stop(id).await.unwrap();
    let asked = Instant::now();
    state(&mut watch, StreamState::Ended).await;
    assert!(asked.elapsed() <= Duration::from_secs(11), "{:?}", asked.elapsed());
    assert!(world.store.rows().recordings[0].failure.is_some());
}
