//! Stems beside the programme: who gets a file, which row it has, and what becomes of both.

use jamcast::live::port::RecordingRow;
use jamcast::live::registry::NewStream;
use jamcast::live::snapshot::RecordingState;
use jamcast::live::snapshot::StreamState;
use jamcast::model::id::StreamId;
use jamcast::model::media::MediaKind;
use jamcast::model::scene::Stem;
use jamcast::proto::mixer::FromMixer;
use jamcast::proto::mixer::Report;

use crate::stream::World;
use crate::stream::ask;
use crate::stream::band;
use crate::stream::eventually;
use crate::stream::musician;
use crate::stream::state;
use crate::stream::until;
use crate::stream::world;

fn names(stems: &[Stem], id: StreamId) -> Vec<String> {
    let strip = |stem: &Stem| {
        let name = stem.path.rsplit('/').next().expect("a name").to_owned();
        name.strip_prefix(&format!("{id}-")).expect("the stream's").to_owned()
    };
    let mut names: Vec<_> = stems.iter().map(strip).collect();
    names.sort();
    names
}

fn begun(path: &str) -> FromMixer {
    FromMixer::Report(Report::RecordingBegun { path: path.to_owned(), zero_at_ms: 1_000 })
}

fn finished(path: &str) -> FromMixer {
    FromMixer::Report(Report::RecordingFinished { path: path.to_owned() })
}

async fn rows(world: &World, wanted: impl Fn(&[RecordingRow]) -> bool) -> Vec<RecordingRow> {
    eventually(|| Some(world.store.rows().recordings.clone()).filter(|rows| wanted(rows))).await
}

#[tokio::test(start_paused = true)]
async fn every_track_has_a_stem_from_its_first_media_until_it_is_gone() {
    let mut world = world();
    let (id, mut watch) = world.start(NewStream { record: true, stems: true, ..ask("jam") }).await;
    let mut mixer = world.mixer().await;
    let tap = world.tap().await;
    let both = band(&["Ann O'Hara", "Bob"]);
    tap.roster.send_replace(both.clone());
    let scene = mixer.scene(|scene| scene.stems.len() == 4).await;
    let expected =
        ["1-001-Ann-O-Hara-audio.mkv", "1-002-Ann-O-Hara-video.mkv", "1-003-Bob-audio.mkv", "1-004-Bob-video.mkv"];
    assert_eq!(names(&scene.stems, id), expected);
    assert!(scene.sources.iter().all(|source| scene.stems.iter().filter(|stem| stem.source == source.id).count() == 2));
    assert_eq!(world.store.rows().recordings.len(), 1, "a stem without media has no row");

    // Ann's sound comes; she leaves, and her file is closed; she comes back with new tracks and gets new files.
    let programme = scene.recording.clone().expect("a recording");
    let anns = scene.stems.iter().find(|stem| stem.path.contains("Ann-O-Hara-audio")).expect("there").clone();
    mixer.say(begun(&programme)).await;
    mixer.say(begun(&anns.path)).await;
    let seen = rows(&world, |rows| rows.len() == 2 && rows[0].zero_at_ms.is_some()).await;
    let stem = seen[1].stem.clone().expect("a stem");
    assert_eq!((stem.musician.as_str(), stem.media, seen[1].part), ("Ann O'Hara", MediaKind::Audio, 1));
    assert_eq!([seen[0].zero_at_ms, seen[1].zero_at_ms], [Some(1_000); 2]);
    let mut alone = both.clone();
    alone.participants.remove(0);
    alone.tracks.drain(..2);
    tap.roster.send_replace(alone.clone());
    let scene = mixer.scene(|scene| scene.stems.len() == 2).await;
    assert_eq!(names(&scene.stems, id), expected[2..]);
    mixer.say(finished(&anns.path)).await;
    let seen = rows(&world, |rows| rows[1].ended_at_ms.is_some()).await;
    assert_eq!(seen[1].failure, None);
    let (again, tracks) = musician("Ann O'Hara", 11);
    alone.participants.push(again);
    alone.tracks.extend(tracks);
    tap.roster.send_replace(alone);
    let scene = mixer.scene(|scene| scene.stems.len() == 4).await;
    assert_eq!(names(&scene.stems, id)[2..], ["1-005-Ann-O-Hara-audio.mkv", "1-006-Ann-O-Hara-video.mkv"]);

    // A stem that fails leaves everything else as it was, and is not begun again.
    let bobs = scene.stems.iter().find(|stem| stem.path.contains("Bob-audio")).expect("there").path.clone();
    mixer.say(begun(&bobs)).await;
    mixer
        .say(FromMixer::Report(Report::RecordingFailed { path: bobs.clone(), reason: "the disk is full".into() }))
        .await;
    let seen = rows(&world, |rows| rows.len() == 3 && rows[2].ended_at_ms.is_some()).await;
    assert_eq!(seen[2].failure.as_deref(), Some("the disk is full"));
    assert_eq!(seen[0].ended_at_ms, None);

    // The next mixer writes a part of its own.
    mixer.begin(1000).await;
    state(&mut watch, StreamState::Live).await;
    drop(mixer);
    let mut second = world.mixer().await;
    let scene = second.scene(|scene| scene.stems.len() == 4).await;
    assert!(names(&scene.stems, id).iter().all(|name| name.starts_with("2-0")), "{:?}", scene.stems);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_recorded_alone_unless_asked_for() {
    let mut world = world();
    world.start(NewStream { record: true, ..ask("jam") }).await;
    let mut mixer = world.mixer().await;
    let tap = world.tap().await;
    tap.roster.send_replace(band(&["Ann", "Bob"]));
    let scene = mixer.scene(|scene| scene.sources.len() == 2).await;
    assert_eq!((scene.stems.len(), scene.recording.is_some()), (0, true));
}

#[tokio::test(start_paused = true)]
async fn a_recording_that_fails_is_told_and_the_programme_goes_on() {
    let mut world = world();
    let (_, mut watch) = world.start(NewStream { record: true, stems: true, ..ask("jam") }).await;
    let mut mixer = world.mixer().await;
    let tap = world.tap().await;
    tap.roster.send_replace(band(&["Ann"]));
    let path = mixer.scene(|scene| scene.stems.len() == 2).await.recording.expect("a recording");
    mixer.begin(1000).await;
    until(&mut watch, |seen| seen.recording.state == RecordingState::Waiting).await;
    mixer.say(begun(&path)).await;
    until(&mut watch, |seen| seen.recording.state == RecordingState::Recording).await;
    mixer.say(FromMixer::Report(Report::RecordingFailed { path, reason: "the disk is full".to_owned() })).await;
    let scene = mixer.scene(|scene| scene.recording.is_none()).await;
    assert_eq!(scene.stems, [], "stems end with their programme");
    let seen = until(&mut watch, |seen| seen.reason.is_some()).await;
    assert_eq!((seen.state, seen.recording.state), (StreamState::Live, RecordingState::Stopped));
    assert_eq!(seen.recording.reason.as_deref(), Some("the disk is full"));
    assert!(seen.reason.is_some_and(|reason| reason.contains("the disk is full")));
    assert_eq!(world.store.rows().recordings[0].failure.as_deref(), Some("the disk is full"));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_runs_full_ends_the_recording_in_time_and_nothing_else() {
    let mut world = world();
    world.free.send_replace(Some(50_000_000));
    let (id, mut watch) = world.start(NewStream { record: true, stems: true, ..ask("jam") }).await;
    let mut mixer = world.mixer().await;
    let tap = world.tap().await;
    tap.roster.send_replace(band(&["Ann"]));
    let scene = mixer.scene(|scene| scene.stems.len() == 2).await;
    let path = scene.recording.expect("a recording");
    mixer.begin(1000).await;
    mixer.say(begun(&path)).await;
    mixer.say(begun(&scene.stems[0].path)).await;
    let seen = until(&mut watch, |seen| seen.recording.state == RecordingState::Recording).await;
    assert_eq!(seen.recording.stems, 1);

    world.free.send_replace(Some(999_999));
    let scene = mixer.scene(|scene| scene.recording.is_none()).await;
    assert_eq!(scene.stems, []);
    let seen = until(&mut watch, |seen| seen.recording.state == RecordingState::Stopped).await;
    assert!(seen.recording.reason.is_some_and(|reason| reason.contains("1 MB are left")));
    // The mixer closes the file properly; its row says why it is short.
    mixer.say(finished(&path)).await;
    let seen = rows(&world, |rows| rows[0].ended_at_ms.is_some()).await;
    assert!(seen[0].failure.as_deref().is_some_and(|failure| failure.contains("the disk is full")));
    mixer.video(1033, false).await;
    until(&mut watch, |seen| seen.stats.video_frames == 2 && seen.state == StreamState::Live).await;

    // A mixer that is replaced records again if there is room by then.
    drop(mixer);
    let mut second = world.mixer().await;
    assert_eq!(second.scene(|_| true).await.recording, None);
    world.free.send_replace(Some(2_000_000));
    drop(second);
    let path = world.mixer().await.scene(|_| true).await.recording.expect("a recording");
    assert!(path.ends_with(&format!("{id}-3.mp4")), "{path}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_recorded_to_a_disk_that_is_full_from_the_start() {
    let mut world = world();
    world.free.send_replace(Some(0));
    let (_, mut watch) = world.start(NewStream { record: true, ..ask("jam") }).await;
    let mut mixer = world.mixer().await;
    assert_eq!(mixer.scene(|_| true).await.recording, None);
    mixer.begin(1000).await;
    let seen = until(&mut watch, |seen| seen.state == StreamState::Live && seen.reason.is_some()).await;
    assert_eq!(seen.recording.state, RecordingState::Stopped);
    assert_eq!(world.store.rows().recordings.len(), 0);
}
