//! What is to be seen: an empty room, tiles at their places, stalls, keyframes.

use jamcast::model::id::SourceId;
use jamcast::model::id::TrackId;
use jamcast::model::media::Codec;
use jamcast::model::media::MediaKind;
use jamcast::proto::mixer::Control;
use jamcast::proto::mixer::Report;
use jamcast::proto::mixer::SourceState;

use crate::eyes::Picture;
use crate::eyes::listen;
use crate::eyes::look;
use crate::gateway::Gateway;
use crate::gateway::Heard;
use crate::gateway::scene;
use crate::gateway::source;
use crate::gateway::spec;
use crate::sender::BLACK;
use crate::sender::BLUE;
use crate::sender::GREEN;
use crate::sender::RED;
use crate::sender::Track;
use crate::sender::WHITE;
use crate::sender::layered_video;
use crate::sender::play;
use crate::sender::video;
use crate::sender::video_of_bt709;

/// The whole programme.
const FULL: [u32; 4] = [0, 0, 640, 360];

/// Plays tracks into their places for so many milliseconds; what was heard of it, and the last picture.
fn compose<const N: usize>(tracks: &[Track; N], places: [[u32; 4]; N], ms: u64) -> (Heard, Picture) {
    let mut gateway = Gateway::start();
    let sources = tracks.iter().zip(places).map(|(track, place)| source(track.number, Some(track), None, place));
    gateway.show(&scene(sources.collect()));
    play(&mut gateway, &tracks.each_ref(), ms, |_, _| false);
    let heard = gateway.finish();
    heard.assert_gapless();
    let last = look(&heard).pop().expect("seen");
    (heard, last)
}

#[test]
fn an_empty_room_is_dark_silent_and_gapless_with_keyframes_on_time_and_on_demand() {
    let mut gateway = Gateway::start();
    gateway.show(&scene(vec![]));
    gateway.wait_ms(800);
    gateway.control(Control::ForceKeyframe);
    gateway.wait_ms(3200);
    let heard = gateway.finish();
    heard.assert_gapless();
    let keys: Vec<_> = heard.video.iter().enumerate().filter(|(_, frame)| frame.key).map(|(n, _)| n).collect();
    assert_eq!(keys[0], 0);
    let asked = keys[1];
    assert!((20..40).contains(&asked), "no keyframe on demand: {keys:?}");
    assert_eq!(keys[2], asked + 60, "a keyframe each 2 s: {keys:?}");
    let pictures = look(&heard);
    assert_eq!(pictures.len(), heard.video.len());
    pictures.last().expect("seen").assert_colour(320, 180, BLACK);
    assert!(listen(&heard).samples.iter().all(|sample| sample[0].abs() < 0.001 && sample[1].abs() < 0.001));
    assert!(heard.reports.contains(&Report::Playing));
    assert!(heard.reports.iter().any(|report| matches!(report, Report::Stats(stats) if stats.video_frames > 20)));
}

#[test]
fn four_sources_of_four_codecs_stand_in_their_places() {
    let tracks = [
        video(1, Codec::Vp8, [320, 180], 2500, |_| RED),
        video(2, Codec::H264, [320, 180], 2500, |_| GREEN),
        video(3, Codec::Vp9, [160, 90], 2500, |_| BLUE),
        // Not as wide as its tile: the programme shows it whole and dark beside it.
        video(4, Codec::Av1, [192, 180], 2500, |_| WHITE),
    ];
    let places = [[0, 0, 320, 180], [320, 0, 320, 180], [0, 180, 320, 180], [320, 180, 320, 180]];
    let (heard, last) = compose(&tracks, places, 2500);
    last.assert_colour(160, 90, RED);
    last.assert_colour(480, 90, GREEN);
    last.assert_colour(160, 270, BLUE);
    last.assert_colour(480, 270, WHITE);
    last.assert_colour(340, 270, BLACK);
    last.assert_colour(318, 2, RED);
    last.assert_colour(322, 2, GREEN);
    for track in 1..=4 {
        let asked =
            heard.reports.iter().filter(|report| **report == Report::KeyframeWanted { track: TrackId(track) }).count();
        assert!((1..4).contains(&asked), "track {track} asked for {asked} keyframes");
    }
}

#[test]
fn of_a_stream_in_layers_the_largest_is_shown() {
    let tracks = [layered_video(1, [160, 90], 2500, RED, GREEN), video(2, Codec::Vp9, [320, 180], 2500, |_| BLUE)];
    let places = [[0, 0, 320, 180], [320, 180, 320, 180]];
    let (heard, last) = compose(&tracks, places, 2500);
    for (x, y) in [(2, 2), (160, 90), (318, 178)] {
        last.assert_colour(x, y, GREEN);
    }
    last.assert_colour(480, 270, BLUE);
    let failed = |report: &&Report| matches!(report, Report::Source { state: SourceState::Failed { .. }, .. });
    assert_eq!(heard.reports.iter().filter(failed).count(), 0);
}

#[test]
fn cameras_of_1080p_stand_in_small_tiles() {
    let mut gateway = Gateway::start();
    let tracks = [
        video(1, Codec::Vp8, [1920, 1080], 2000, |_| RED),
        video(2, Codec::H264, [1920, 1080], 2000, |_| GREEN),
        // A telephone held upright.
        video(3, Codec::H264, [1080, 1920], 2000, |_| BLUE),
    ];
    let places = [[0, 0, 320, 180], [320, 0, 320, 180], [160, 180, 320, 180]];
    let sources = tracks.iter().zip(places).map(|(track, place)| source(track.number, Some(track), None, place));
    gateway.show(&scene(sources.collect()));
    play(&mut gateway, &tracks.each_ref(), 2000, |_, _| false);
    let heard = gateway.finish();
    heard.assert_gapless();
    let pictures = look(&heard);
    let last = pictures.last().expect("seen");
    for (x, y, colour) in [(2, 2, RED), (318, 178, RED), (322, 2, GREEN), (638, 178, GREEN), (320, 270, BLUE)] {
        last.assert_colour(x, y, colour);
    }
    last.assert_colour(180, 270, BLACK);
}

#[test]
fn cameras_of_other_colours_than_the_programmes_show_the_right_ones() {
    // The same green as GREEN, which is written in the colours of BT.601.
    let green = |_| [173, 42, 26];
    let tracks = [video_of_bt709(1, [1280, 720], 1500, green), video_of_bt709(2, [320, 180], 1500, green)];
    let places = [[0, 0, 320, 180], [320, 0, 320, 180]];
    let (_, last) = compose(&tracks, places, 1500);
    last.assert_colour(160, 90, GREEN);
    last.assert_colour(480, 90, GREEN);
}

#[test]
fn a_picture_moves_and_one_that_stalls_leaves_after_two_seconds() {
    let mut gateway = Gateway::start();
    let camera = video(1, Codec::Vp8, [320, 180], 1500, |_| RED);
    gateway.show(&scene(vec![source(1, Some(&camera), None, [0, 0, 320, 180])]));
    play(&mut gateway, &[&camera], 1200, |_, _| false);
    gateway.show(&scene(vec![source(1, Some(&camera), None, [320, 180, 320, 180])]));
    gateway.wait("the stall", |heard| {
        let stalled = Report::Source { source: SourceId(1), kind: MediaKind::Video, state: SourceState::Stalled };
        heard.reports.contains(&stalled)
    });
    gateway.wait("the time after", |heard| heard.video.len() >= 130);
    let heard = gateway.finish();
    heard.assert_gapless();
    let pictures = look(&heard);
    let shows = |x: usize, y: usize| pictures.iter().filter(|picture| picture.at(x, y)[2] > 200).count();
    let (before, after) = (shows(160, 90), shows(480, 270));
    assert!(before > 15, "seen {before} pictures at the first place");
    assert!((50..75).contains(&after), "seen {after} pictures at the second place, of which 60 are its last repeated");
    pictures.last().expect("seen").assert_colour(480, 270, BLACK);
}

#[test]
fn a_picture_too_large_to_decode_is_refused_and_nothing_else_suffers() {
    let mut gateway = Gateway::start();
    let huge = video(1, Codec::Vp8, [4112, 32], 600, |_| RED);
    let small = video(2, Codec::Vp8, [320, 180], 2000, |_| GREEN);
    gateway.show(&scene(vec![source(1, Some(&huge), None, FULL), source(2, Some(&small), None, FULL)]));
    play(&mut gateway, &[&huge, &small], 1500, |_, _| false);
    let heard = gateway.finish();
    heard.assert_gapless();
    let refused = |report: &Report| {
        matches!(report, Report::Source { source: SourceId(1), state: SourceState::Failed { .. }, .. })
    };
    assert!(heard.reports.iter().any(refused), "{:?}", heard.reports);
    look(&heard).last().expect("seen").assert_colour(320, 180, GREEN);
}

#[test]
fn another_format_needs_another_mixer_and_another_bitrate_does_not() {
    let mut gateway = Gateway::start();
    let mut wanted = scene(vec![]);
    gateway.show(&wanted);
    wanted.programme.video_kbps = 400;
    gateway.show(&wanted);
    gateway.wait_ms(500);
    wanted.programme.width = spec().width * 2;
    gateway.show(&wanted);
    let (result, heard) = gateway.result();
    assert!(result.is_err());
    assert!(heard.reports.iter().any(|report| matches!(report, Report::Failed { .. })));
    heard.assert_gapless();
}

#[test]
fn the_seventeenth_source_is_refused() {
    let mut gateway = Gateway::start();
    gateway.show(&scene((1..=17).map(|id| source(id, None, None, FULL)).collect()));
    gateway.wait_ms(300);
    let heard = gateway.finish();
    let refused: Vec<_> = heard
        .reports
        .iter()
        .filter_map(|report| {
            let Report::Source { source, state: SourceState::Failed { .. }, .. } = report else { return None };
            Some(source.0)
        })
        .collect();
    assert_eq!(refused, [17, 17], "its sound and its picture");
}

#[test]
fn packets_that_only_see_how_much_fits_cost_no_picture() {
    for codec in [Codec::Vp8, Codec::Vp9, Codec::H264] {
        let mut gateway = Gateway::start();
        let track = video(1, codec, [320, 180], 2500, |n| if n % 2 == 0 { WHITE } else { BLACK }).with_probes();
        gateway.show(&scene(vec![source(1, Some(&track), None, FULL)]));
        play(&mut gateway, &[&track], 2500, |_, _| false);
        let heard = gateway.finish();
        heard.assert_gapless();
        let pictures = look(&heard);
        let is_new = |pair: &&[Picture]| pair[0].at(320, 180)[0].abs_diff(pair[1].at(320, 180)[0]) > 60;
        let changes = pictures[30..60].windows(2).filter(is_new).count();
        assert!(changes >= 20, "{codec:?}: {changes} of 29 pictures are new");
        let asked = |report: &&Report| matches!(report, Report::KeyframeWanted { .. });
        let asked = heard.reports.iter().filter(asked).count();
        assert!(asked <= 2, "{codec:?}: {asked} keyframes were asked for");
    }
}
