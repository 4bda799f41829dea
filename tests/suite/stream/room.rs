//! What the room says and sends reaches the mixer.

use std::time::Duration;

use bytes::Bytes;
use jamcast::domain::layout;
use jamcast::live::registry::Config;
use jamcast::live::rooms::ProgrammeFrame;
use jamcast::live::rooms::Roster;
use jamcast::live::rooms::TapMedia;
use jamcast::model::id::TrackId;
use jamcast::model::media::OpusPacket;
use jamcast::model::scene::Scene;
use jamcast::proto::mixer::Control;
use jamcast::proto::mixer::FromMixer;
use jamcast::proto::mixer::MixerStats;
use jamcast::proto::mixer::Report;
use jamcast::proto::mixer::ToMixer;
use tokio::time::timeout;

use crate::stream::ask;
use crate::stream::band;
use crate::stream::mixers::MixerStart;
use crate::stream::packet;
use crate::stream::until;
use crate::stream::world;
use crate::stream::world_with;

fn labels(scene: &Scene) -> Vec<&str> {
    scene.sources.iter().map(|source| source.label.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_scene_follows_the_room() {
    let mut world = world();
    let (_, mut watch) = world.start(ask("jam")).await;
    let mut mixer = world.mixer().await;
    let tap = world.tap().await;
    let mut roster = band(&["Ann", "Bob"]);
    tap.roster.send_replace(roster.clone());
    let scene = mixer.scene(|scene| scene.sources.len() == 2).await;
    assert_eq!(labels(&scene), ["Ann", "Bob"]);
    let placements: Vec<_> = scene.sources.iter().filter_map(|source| source.placement).collect();
    assert_eq!(placements, layout::place(2, 1280, 720));
    assert_eq!([world.keyframes.recv().await, world.keyframes.recv().await], [Some(TrackId(2)), Some(TrackId(4))]);

    tap.media.send(TapMedia::SenderReport { track: TrackId(1), ntp: 7, rtp: 8 }).await.unwrap();
    tap.media.send(TapMedia::Packet(packet(1))).await.unwrap();
    assert_eq!(mixer.hear().await, ToMixer::Control(Control::SenderReport { track: TrackId(1), ntp: 7, rtp: 8 }));
    assert_eq!(mixer.hear().await, ToMixer::Rtp(packet(1)));

    roster.tracks[3].paused = true;
    tap.roster.send_replace(roster.clone());
    let paused = mixer.scene(|_| true).await;
    assert_eq!(paused.sources[1].placement, None);
    assert_eq!(paused.sources[0].id, scene.sources[0].id);
    mixer.begin(1).await;
    until(&mut watch, |seen| seen.stats.musicians == 2).await;

    mixer.say(FromMixer::Report(Report::KeyframeWanted { track: TrackId(2) })).await;
    assert_eq!(world.keyframes.recv().await, Some(TrackId(2)));

    tap.roster.send_replace(Roster::default());
    assert_eq!(labels(&mixer.scene(|_| true).await), Vec::<&str>::new());
}

#[tokio::test(start_paused = true)]
async fn a_programme_begins_with_what_the_musicians_links_call_for_and_a_later_mixer_where_it_has_come_to() {
    let mut world = world();
    let _running = world.start(ask("jam")).await;
    let mut mixer = world.mixer().await;
    let tap = world.tap().await;
    tap.roster.send_replace(band(&["Ann"]));
    let scene = mixer.scene(|scene| scene.sources.len() == 1).await;
    assert_eq!((scene.repair_ms, scene.playout_ms), (340, None));
    mixer.begin(1).await;
    let stats = MixerStats { playout_ms: 430, ..MixerStats::default() };
    mixer.say(FromMixer::Report(Report::Stats(stats))).await;
    drop(mixer);
    let next = world.mixer().await.scene(|_| true).await;
    assert_eq!(next.playout_ms, Some(430));
}

#[tokio::test(start_paused = true)]
async fn the_programmes_sound_is_made_for_whoever_hears_it_in_the_room_and_never_steps_back() {
    let mut world = world();
    world.start(ask("jam")).await;
    let mut first = world.mixer().await;
    let tap = world.tap().await;
    assert!(!first.scene(|_| true).await.preview);
    tap.roster.send_replace(Roster { previewed: true, ..band(&["Ann"]) });
    first.scene(|scene| scene.preview).await;
    let sound = |ms: u64| OpusPacket { pts_us: ms * 1000, data: Bytes::from_static(b"sound") };
    for ms in [1000, 1020] {
        first.say(FromMixer::Preview(sound(ms))).await;
    }
    drop(first);
    let mut second = world.mixer().await;
    assert!(second.scene(|_| true).await.preview, "the next mixer makes it from its beginning");
    for ms in [1010, 1030] {
        second.say(FromMixer::Preview(sound(ms))).await;
    }
    for ms in [1000, 1020, 1030] {
        let frame = timeout(Duration::from_secs(1), world.screened.recv()).await.expect("in time").expect("a frame");
        assert!(matches!(&frame, ProgrammeFrame::Sound(heard) if *heard == sound(ms)), "{frame:?} for {ms} ms");
    }
    tap.roster.send_replace(band(&["Ann"]));
    second.scene(|scene| !scene.preview).await;
}

#[tokio::test(start_paused = true)]
async fn a_mixer_that_does_not_read_loses_packets_and_never_a_scene() {
    let mut world = world_with(Config::default(), 4, MixerStart::Works);
    let (_, _watch) = world.start(ask("jam")).await;
    let mut mixer = world.mixer().await;
    let tap = world.tap().await;
    tap.roster.send_replace(band(&["Ann"]));
    mixer.scene(|scene| scene.sources.len() == 1).await;
    let flood = async || {
        for _ in 0..500 {
            tap.media.send(TapMedia::Packet(packet(1))).await.unwrap();
        }
        while tap.media.capacity() < tap.media.max_capacity() {
            tokio::task::yield_now().await;
        }
    };
    flood().await;
    tap.roster.send_replace(band(&["Ann", "Bob", "Eve"]));
    flood().await;
    let mut packets = 0;
    let scene = loop {
        match mixer.hear().await {
            ToMixer::Rtp(_) => packets += 1,
            ToMixer::Control(Control::Scene { scene }) => break scene,
            other @ (ToMixer::Canvas(_) | ToMixer::Control(_)) => panic!("{other:?}"),
        }
    };
    assert_eq!((packets, scene.sources.len()), (4, 3));
}

#[tokio::test(start_paused = true)]
async fn a_lost_tap_is_asked_for_again() {
    let mut world = world();
    let (_, _watch) = world.start(ask("jam")).await;
    let mut mixer = world.mixer().await;
    let tap = world.tap().await;
    tap.roster.send_replace(band(&["Ann"]));
    mixer.scene(|scene| scene.sources.len() == 1).await;
    drop(tap);
    assert_eq!(mixer.scene(|_| true).await.sources, []);
    let tap = world.tap().await;
    tap.roster.send_replace(band(&["Ann", "Bob"]));
    mixer.scene(|scene| scene.sources.len() == 2).await;
}
