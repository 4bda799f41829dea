//! What a host directs in a running programme reaches the mixer, is seen by all, and stays.

use std::time::Duration;

use jamcast::domain::desk::MasterChange;
use jamcast::domain::desk::StripChange;
use jamcast::domain::dressing::LookChange;
use jamcast::domain::layout::Kind;
use jamcast::domain::layout::Layout;
use jamcast::domain::layout::Pick;
use jamcast::live::registry::StreamError;
use jamcast::live::snapshot::AlignmentStanding;
use jamcast::live::snapshot::Meters;
use jamcast::live::snapshot::StreamSnapshot;
use jamcast::live::snapshot::StreamState;
use jamcast::live::stream::Direction;
use jamcast::model::id::ParticipantId;
use jamcast::model::id::StreamId;
use jamcast::model::id::TrackId;
use jamcast::model::scene::Master;
use jamcast::model::scene::Scene;
use jamcast::proto::mixer;
use jamcast::proto::mixer::FromMixer;
use jamcast::proto::mixer::Report;
use jamcast::proto::mixer::SourceLevel;

use crate::stream::anna;
use crate::stream::ask;
use crate::stream::band;
use crate::stream::musician;
use crate::stream::state;
use crate::stream::until;
use crate::stream::world;

fn solo(participant: ParticipantId) -> Direction {
    let change = StripChange { solo: Some(true), gain_db: Some(-6.0), ..StripChange::default() };
    Direction { strips: vec![(participant, change)], ..Direction::default() }
}

#[tokio::test(start_paused = true)]
async fn the_desk_reaches_the_mixer_and_outlives_it_and_the_musician() {
    let mut world = world();
    let (id, _watch) = world.start(ask("jam")).await;
    let mut first = world.mixer().await;
    let tap = world.tap().await;
    let mut roster = band(&["Ann", "Bob"]);
    tap.roster.send_replace(roster.clone());
    first.scene(|scene| scene.sources.len() == 2).await;

    let [ann, bob] = [roster.participants[0].id, roster.participants[1].id];
    let mut direction = solo(bob);
    direction.strips.push((ParticipantId::generate(), StripChange::default()));
    direction.master = MasterChange { gain_db: Some(-60.0), normalise: Some(true) };
    let mirror = LookChange { mirror: Some(true), ..LookChange::default() };
    direction.dressing.looks.push((bob, mirror));
    direction.layout = Some(Layout {
        kind: Kind::Spotlight,
        large: Some(Pick { participant: bob, screen: false }),
        ..Layout::default()
    });
    let snapshot = world.registry.direct(id, direction).await.expect("it runs");
    let told: Vec<_> = snapshot.mix.musicians.iter().map(|m| (m.participant, m.gain_db, m.solo, m.heard)).collect();
    assert_eq!(told, [(ann, 0.0, false, false), (bob, -6.0, true, true)]);
    assert!(snapshot.mix.normalise);
    let scene = first.scene(|_| true).await;
    assert_eq!(scene.master, Master { gain: 0.0, normalise: true });
    assert_eq!(scene.sources.iter().map(|source| source.muted).collect::<Vec<_>>(), [true, false]);

    drop(first);
    let mut second = world.mixer().await;
    let again = second.scene(|scene| scene.sources.len() == 2).await;
    assert_eq!((again.master, &again.sources), (scene.master, &scene.sources), "the next mixer is told all of it");

    // Bob's browser is started anew: he is somebody else, of the same name.
    let (bob_again, tracks) = musician("Bob", 7);
    roster.participants[1] = bob_again.clone();
    roster.tracks.truncate(2);
    roster.tracks.extend(tracks);
    tap.roster.send_replace(roster);
    let scene = second.scene(|scene| scene.sources[1].audio.is_some_and(|audio| audio.track == TrackId(7))).await;
    assert!((scene.sources[1].gain - 0.501).abs() < 0.001 && scene.sources[1].look.mirror);
    assert_eq!(scene.sources.iter().map(|source| source.placement.is_some()).collect::<Vec<_>>(), [false, true]);
    assert_eq!(scene.sources.iter().map(|source| source.muted).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test(start_paused = true)]
async fn the_layout_is_switched_and_seen_and_follows_the_loudest() {
    let mut world = world();
    let (id, mut watch) = world.start(ask("jam")).await;
    let mut mixer = world.mixer().await;
    let tap = world.tap().await;
    let roster = band(&["Ann", "Bob", "Eve"]);
    tap.roster.send_replace(roster.clone());
    let ids: Vec<_> = mixer.scene(|scene| scene.sources.len() == 3).await.sources.iter().map(|s| s.id).collect();
    let layout = Layout { kind: Kind::Speaker, ..Layout::default() };
    let direction = Direction { layout: Some(layout), ..Direction::default() };
    let snapshot = world.registry.direct(id, direction).await.expect("it runs");
    let widths = |scene: &Scene| -> Vec<u32> {
        scene.sources.iter().filter_map(|source| source.placement.map(|p| p.rect.width)).collect()
    };
    assert_eq!(widths(&mixer.scene(|_| true).await), [960, 320, 320]);
    let seen: Vec<_> = snapshot.layout.pictures.iter().filter_map(|picture| picture.rect.map(|r| r.width)).collect();
    assert_eq!(seen, [960, 320, 320]);

    let mut meters = world.registry.meters(id).expect("it runs");
    let level = |index: usize| SourceLevel { source: ids[index], peak: -8.0, rms: -20.04 };
    let report = |sources| FromMixer::Report(Report::Meters(mixer::Meters { sources, ..mixer::Meters::default() }));
    mixer.say(report(vec![level(2)])).await;
    assert_eq!(widths(&mixer.scene(|_| true).await), [320, 320, 960]);
    let heard: Meters = meters.wait_for(|meters| !meters.musicians.is_empty()).await.expect("told").clone();
    let [eve] = heard.musicians.as_slice() else { panic!("{heard:?}") };
    assert_eq!((eve.participant, eve.peak_dbfs, eve.rms_dbfs), (roster.participants[2].id, -8.0, -20.0));
    for _ in 0..40 {
        tokio::time::advance(Duration::from_millis(100)).await;
        mixer.say(report(vec![level(0)])).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(widths(&mixer.scene(|_| true).await), [960, 320, 320], "and back when another one is louder for long");
    until(&mut watch, |seen| seen.layout.pictures.first().and_then(|p| p.rect).is_some_and(|r| r.width == 960)).await;
}

#[tokio::test(start_paused = true)]
async fn followers_are_aligned_to_the_leader_who_is_named_and_stay_so_when_it_comes_back() {
    let mut world = world();
    let (id, mut watch) = world.start(ask("jam")).await;
    let mut mixer = world.mixer().await;
    let tap = world.tap().await;
    let mut roster = band(&["Ann", "Bob", "Eve"]);
    tap.roster.send_replace(roster.clone());
    mixer.scene(|scene| scene.sources.len() == 3).await;
    let delays = |scene: &Scene| scene.sources.iter().map(|source| source.delay_ms).collect::<Vec<_>>();
    let [ann, bob, eve] = [0, 1, 2].map(|index| roster.participants[index].id);
    let late = |bobs: u64, eves: u64| vec![(bob, Duration::from_millis(bobs)), (eve, Duration::from_millis(eves))];
    world.lateness.send_replace((ann, late(60, 95)));
    let lead = |leader| Direction { leader: Some(leader), ..Direction::default() };
    let snapshot = world.registry.direct(id, lead(Some(ann))).await.expect("it runs");
    let leader = snapshot.mix.leader.as_ref().expect("named");
    assert_eq!((leader.participant, leader.name.as_str(), leader.present), (ann, "Ann", true));
    let standings = |snapshot: &StreamSnapshot| -> Vec<_> {
        let alignments = snapshot.mix.musicians.iter().filter_map(|musician| musician.alignment.as_ref());
        alignments.map(|alignment| (alignment.standing, alignment.late_ms, alignment.added_ms)).collect()
    };
    let unmeasured = (AlignmentStanding::Unmeasured, None, 0);
    assert_eq!(standings(&snapshot), [(AlignmentStanding::Leader, None, 0), unmeasured, unmeasured]);

    let aligned = |late_ms, added_ms| (AlignmentStanding::Aligned, Some(late_ms), added_ms);
    let expected = [(AlignmentStanding::Leader, None, 95), aligned(60, 35), aligned(95, 0)];
    until(&mut watch, |seen| standings(seen) == expected).await;
    mixer.scene(|scene| delays(scene) == [95, 35, 0]).await;
    let nudge = StripChange { delay_ms: Some(-10), ..StripChange::default() };
    let direction = Direction { strips: vec![(eve, nudge)], ..Direction::default() };
    world.registry.direct(id, direction).await.expect("it runs");
    mixer.scene(|scene| delays(scene) == [105, 45, 0]).await;

    // Ann's browser is started anew: she is somebody else, of the same name, and leads again.
    world.lateness.send_replace((ann, Vec::new()));
    roster.participants.remove(0);
    roster.tracks.retain(|track| track.participant != ann);
    tap.roster.send_replace(roster.clone());
    mixer.scene(|scene| delays(scene) == [45, 0]).await;
    until(&mut watch, |seen| seen.mix.leader.as_ref().is_some_and(|leader| !leader.present)).await;
    let (ann_again, tracks) = musician("Ann", 7);
    world.lateness.send_replace((ann_again.id, late(60, 120)));
    roster.participants.insert(0, ann_again.clone());
    roster.tracks.extend(tracks);
    tap.roster.send_replace(roster);
    mixer.scene(|scene| delays(scene) == [105, 45, 0]).await;
    let leads_again = |seen: &StreamSnapshot| {
        seen.mix.leader.as_ref().is_some_and(|leader| leader.participant == ann_again.id)
            && standings(seen).contains(&aligned(120, 0))
    };
    until(&mut watch, leads_again).await;
    mixer.scene(|scene| delays(scene) == [130, 70, 0]).await;
    let snapshot = world.registry.direct(id, lead(None)).await.expect("it runs");
    assert_eq!((snapshot.mix.leader.is_none(), standings(&snapshot)), (true, Vec::new()));
    mixer.scene(|scene| delays(scene) == [10, 10, 0]).await;
}

#[tokio::test(start_paused = true)]
async fn who_keeps_the_beat_is_proposed_until_somebody_leads() {
    let mut world = world();
    let (id, mut watch) = world.start(ask("jam")).await;
    let mut mixer = world.mixer().await;
    let tap = world.tap().await;
    let roster = band(&["Ann", "Bob"]);
    tap.roster.send_replace(roster.clone());
    let ids: Vec<_> = mixer.scene(|scene| scene.sources.len() == 2).await.sources.iter().map(|s| s.id).collect();
    for reading in 0..60_u8 {
        tokio::time::advance(Duration::from_millis(100)).await;
        let dying_away = f64::from(reading % 5) * 6.0;
        let level = |index: usize, rms| SourceLevel { source: ids[index], peak: -3.0, rms };
        let sources = vec![level(0, -12.0), level(1, -14.0 - dying_away)];
        mixer.say(FromMixer::Report(Report::Meters(mixer::Meters { sources, ..mixer::Meters::default() }))).await;
        tokio::task::yield_now().await;
    }
    let bob = roster.participants[1].id;
    until(&mut watch, |seen| seen.mix.proposed_leader == Some(bob)).await;
    let direction = Direction { leader: Some(Some(bob)), ..Direction::default() };
    let snapshot = world.registry.direct(id, direction).await.expect("it runs");
    assert_eq!(snapshot.mix.proposed_leader, None);
}

#[tokio::test(start_paused = true)]
async fn only_a_running_programme_is_directed() {
    let mut world = world();
    let created = world.registry.create(&anna(), ask("jam")).await.expect("created").id;
    let nobody = || solo(ParticipantId::generate());
    let refused = world.registry.direct(created, nobody()).await;
    assert!(matches!(refused, Err(StreamError::WrongState(StreamState::Created))));
    let unknown = world.registry.direct(StreamId::generate(), nobody()).await;
    assert!(matches!(unknown, Err(StreamError::NotFound)));
    let mut watch = world.registry.watch(created).expect("watched");
    world.registry.start(created).await.expect("starts");
    drop(world.mixer().await);
    world.registry.stop(created).await.expect("stops");
    state(&mut watch, StreamState::Ended).await;
    let refused = world.registry.direct(created, nobody()).await;
    assert!(matches!(refused, Err(StreamError::WrongState(StreamState::Ended))));
}
