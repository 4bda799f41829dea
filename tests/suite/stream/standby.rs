//! A second mixer that stands by while the first one is on air.

use std::time::Duration;

use bytes::Bytes;
use jamcast::domain::canvas::CREDITS;
use jamcast::live::registry::Config;
use jamcast::live::registry::NewStream;
use jamcast::live::rooms::Roster;
use jamcast::live::rooms::TapMedia;
use jamcast::live::snapshot::StreamSnapshot;
use jamcast::live::snapshot::StreamState;
use jamcast::model::id::TrackId;
use jamcast::model::media::CanvasFormat;
use jamcast::model::media::CanvasFrame;
use jamcast::model::media::EncodedFrame;
use jamcast::model::media::MediaKind;
use jamcast::model::scene::Continues;
use jamcast::model::scene::Scene;
use jamcast::proto::mixer::Control;
use jamcast::proto::mixer::FromMixer;
use jamcast::proto::mixer::MixerStats;
use jamcast::proto::mixer::Report;
use jamcast::proto::mixer::ToMixer;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::stream::FakeTap;
use crate::stream::World;
use crate::stream::ask;
use crate::stream::band;
use crate::stream::mixers::FakeMixer;
use crate::stream::mixers::MixerStart;
use crate::stream::packet;
use crate::stream::room;
use crate::stream::state;
use crate::stream::until;
use crate::stream::world_with;

/// A stream on air with a mixer that stands by, both of which have been told of Ann.
async fn in_pairs(world: &mut World) -> (watch::Receiver<StreamSnapshot>, FakeTap, [FakeMixer; 2], Scene) {
    let (_, mut watch) = world.start(NewStream { record: true, stems: true, ..ask("jam") }).await;
    let mut first = world.mixer().await;
    let tap = world.tap().await;
    tap.roster.send_replace(Roster { previewed: true, ..band(&["Ann"]) });
    let scene = first.scene(|scene| scene.sources.len() == 1).await;
    first.begin(1000).await;
    state(&mut watch, StreamState::Live).await;
    let mut second = world.mixer().await;
    let waits = second.scene(|_| true).await;
    let expected = Scene { standby: true, recording: None, stems: Vec::new(), preview: false, ..scene.clone() };
    assert_eq!(waits, expected, "it does what the other does, but for what only one can do");
    assert!(scene.recording.is_some() && scene.preview && !scene.standby);
    (watch, tap, [first, second], scene)
}

#[tokio::test(start_paused = true)]
async fn what_stands_by_gets_everything_and_goes_on_at_once_when_the_other_dies() {
    let mut world = world_with(Config::default(), 256, MixerStart::InPairs);
    let (mut watch, tap, [mut first, mut second], before) = in_pairs(&mut world).await;
    tap.media.send(TapMedia::SenderReport { track: TrackId(1), ntp: 7, rtp: 8 }).await.unwrap();
    tap.media.send(TapMedia::Packet(packet(1))).await.unwrap();
    for mixer in [&mut first, &mut second] {
        mixer.control(&Control::SenderReport { track: TrackId(1), ntp: 7, rtp: 8 }).await;
        assert_eq!(mixer.hear().await, ToMixer::Rtp(packet(1)));
    }
    first.video(1033, false).await;
    let (kind, data) = (MediaKind::Audio, Bytes::from_static(b"sound"));
    first.say(FromMixer::Frame(EncodedFrame { kind, pts_us: 1_000_000, dts_us: 1_000_000, key: true, data })).await;
    // Nothing of one that stands by is anybody's.
    second.begin(1050).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    while world.keyframes.try_recv().is_ok() {}
    drop(first);
    let died = Instant::now();
    let after = second.scene(|scene| !scene.standby).await;
    assert!(died.elapsed() < Duration::from_millis(5), "{:?}", died.elapsed());
    assert_eq!((&after.sources, after.preview), (&before.sources, true));
    assert_eq!(after.continues, Some(Continues { picture_us: 1_033_000, sound_us: 1_000_000 }));
    assert!(after.recording.is_some_and(|path| path.ends_with("-2.mp4")) && after.stems.len() == 2);
    assert!(world.keyframes.try_recv().is_err(), "its decoders have all they need");

    second.begin(1100).await;
    let seen = until(&mut watch, |seen| seen.stats.video_frames == 3).await;
    assert_eq!((seen.stats.mixer_restarts, seen.stats.mixer_takeovers, seen.reason), (1, 1, None));
    let mut third = world.mixer().await;
    assert!(third.scene(|_| true).await.standby, "and there is another to stand by");
}

#[tokio::test(start_paused = true)]
async fn it_stays_where_the_playout_delay_of_the_programme_is() {
    let mut world = world_with(Config::default(), 256, MixerStart::InPairs);
    let (_watch, _tap, [first, mut second], _) = in_pairs(&mut world).await;
    let stats = |playout_ms| FromMixer::Report(Report::Stats(MixerStats { playout_ms, ..MixerStats::default() }));
    first.say(stats(200)).await;
    second.scene(|scene| scene.standby && scene.playout_ms == Some(200)).await;
    first.say(stats(195)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(second.heard.try_recv().is_err(), "a few milliseconds are no matter");
    first.say(stats(188)).await;
    assert_eq!(second.scene(|_| true).await.playout_ms, Some(188));
}

#[tokio::test(start_paused = true)]
async fn one_that_dies_standing_by_is_replaced_with_patience_and_nobody_notices() {
    let mut world = world_with(Config::default(), 256, MixerStart::InPairs);
    let (mut watch, _tap, [first, second], _) = in_pairs(&mut world).await;
    let mut dies = second;
    for seconds in [1, 2, 4] {
        drop(dies);
        let died = Instant::now();
        // The first one goes on, or it would be taken for wedged.
        let next = async {
            for frame in 0.. {
                first.video(2000 + seconds * 10_000 + frame * 33, true).await;
                tokio::time::sleep(Duration::from_millis(33)).await;
            }
        };
        dies = tokio::select! {
            () = next => unreachable!("it goes on for ever"),
            mixer = world.mixer() => mixer,
        };
        let pause = died.elapsed().as_millis() as u64;
        assert!((seconds * 1000..seconds * 1000 + 600).contains(&pause), "{pause} ms for {seconds} s");
        dies.scene(|scene| scene.standby).await;
    }
    assert_eq!(until(&mut watch, |_| true).await.stats.mixer_restarts, 0);
}

#[tokio::test(start_paused = true)]
async fn it_goes_with_its_stream() {
    let mut world = world_with(Config::default(), 256, MixerStart::InPairs);
    let (mut watch, _tap, [mut first, second], _) = in_pairs(&mut world).await;
    world.registry.stop(watch.borrow().id).await.expect("it stops");
    first.control(&Control::Finish).await;
    assert!(second.says.is_closed(), "it is not needed any more");
    first.say(FromMixer::Report(Report::Finished)).await;
    state(&mut watch, StreamState::Ended).await;
}

#[tokio::test(start_paused = true)]
async fn what_one_cost_that_died_standing_by_is_not_forgotten() {
    let mut world = world_with(Config::default(), 256, MixerStart::InPairs);
    let (mut watch, _tap, [first, second], _) = in_pairs(&mut world).await;
    let spent = |cpu_ms| FromMixer::Report(Report::Stats(MixerStats { cpu_ms, ..MixerStats::default() }));
    first.say(spent(1000)).await;
    second.say(spent(700)).await;
    until(&mut watch, |seen| seen.stats.mixer_cpu_ms == 1700).await;
    drop(second);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(watch.borrow().stats.mixer_cpu_ms, 1700);
}

#[tokio::test(start_paused = true)]
async fn frames_are_lost_from_when_a_mixer_is_on_air() {
    let mut world = world_with(Config::default(), 256, MixerStart::InPairs);
    let (mut watch, _tap, [first, mut second], _) = in_pairs(&mut world).await;
    let stats = |dropped_frames, cpu_ms| {
        FromMixer::Report(Report::Stats(MixerStats { dropped_frames, cpu_ms, ..MixerStats::default() }))
    };
    first.say(stats(2, 10)).await;
    second.say(stats(30, 20)).await;
    until(&mut watch, |seen| seen.stats.mixer_cpu_ms == 30).await;
    drop(first);
    second.scene(|scene| !scene.standby).await;
    let taken_over = until(&mut watch, |seen| seen.stats.mixer_takeovers == 1).await;
    assert_eq!(taken_over.stats.dropped_frames, 2, "what the other dropped while it stood by is nobody's loss");
    second.say(stats(33, 40)).await;
    let after = until(&mut watch, |seen| seen.stats.mixer_cpu_ms == 50).await;
    assert_eq!(after.stats.dropped_frames, 5);
}

#[tokio::test(start_paused = true)]
async fn a_canvas_is_painted_at_the_pace_of_the_mixer_on_air_however_far_behind_the_other_is() {
    let mut world = world_with(Config::default(), 256, MixerStart::InPairs);
    let (_watch, _tap, [mut first, mut second], _) = in_pairs(&mut world).await;
    let brush = world.canvases.open(&room("jam"), "Ann").expect("free");
    first.scene(|scene| scene.sources.iter().any(|source| source.canvas)).await;
    let data = Bytes::from(vec![3; 16 * 16 * 4]);
    let frame = CanvasFrame { format: CanvasFormat::Rgba, key: true, width: 16, height: 16, timestamp_us: 9, data };
    for n in 0..30 {
        brush.paint(n, &frame);
        let stroke = timeout(Duration::from_secs(5), first.stroke()).await.expect("it is painted");
        assert_eq!(stroke.arrival_us, n);
        drop(stroke);
        assert_eq!(brush.wishes().take().returned, 1, "the painter may go on");
    }
    // As a machine that starts: what it has not taken is bounded, and once it has it goes on with the newest.
    let mut late = Vec::new();
    while let Ok(message) = second.heard.try_recv() {
        late.extend(matches!(message, ToMixer::Canvas(_)).then_some(message));
    }
    assert_eq!(late.len(), CREDITS as usize);
    drop(late);
    brush.paint(30, &frame);
    let stroke = timeout(Duration::from_secs(5), second.stroke()).await.expect("it goes on");
    assert_eq!((stroke.arrival_us, stroke.frame), (30, frame));
}
