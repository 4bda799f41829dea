//! The programme's sound for those who watch it in the room.

use crate::eyes::Sound;
use crate::eyes::level;
use crate::eyes::listen;
use crate::eyes::listen_to_preview;
use crate::gateway::Gateway;
use crate::gateway::scene;
use crate::gateway::source;
use crate::sender::audio;
use crate::sender::play_on;
use crate::sender::tone;

const NOWHERE: [u32; 4] = [0, 0, 64, 64];

/// The first moment of a sound that is silent at first, microseconds.
fn onset(sound: &Sound) -> i64 {
    let first = sound.samples.iter().position(|sample| sample[0].abs() > 0.15).expect("it is heard");
    (sound.pts_us + first as u64 * 1000 / 48) as i64
}

#[test]
fn the_preview_sounds_like_the_programme_at_the_same_time_while_it_is_wanted() {
    let mut gateway = Gateway::start();
    let (left, right) = (tone(440.0, [0.3, 0.0]), tone(1000.0, [0.0, 0.3]));
    let voice = audio(1, 5000, |n| if n < 96_000 { [0.0, 0.0] } else { [left(n)[0], right(n)[1]] });
    let mut wanted = scene(vec![source(1, None, Some(&voice), NOWHERE)]);
    gateway.show(&wanted);
    let mut rests = [voice];
    play_on(&mut gateway, &mut rests, 1000);
    assert!(gateway.heard(|heard| heard.preview.is_empty()), "nobody has asked for it");
    wanted.preview = true;
    gateway.show(&wanted);
    play_on(&mut gateway, &mut rests, 2500);
    wanted.preview = false;
    gateway.show(&wanted);
    play_on(&mut gateway, &mut rests, 1000);
    let heard = gateway.finish();
    heard.assert_gapless();

    let steps: Vec<_> = heard.preview.windows(2).map(|pair| pair[1].pts_us - pair[0].pts_us).collect();
    assert!(steps.len() > 90 && steps.iter().all(|step| step.abs_diff(20_000) <= 1), "{steps:?}");
    let ends = [heard.preview.last().expect("sound").pts_us, heard.audio.last().expect("sound").pts_us];
    assert!(ends[0] + 300_000 < ends[1], "it went on until {ends:?}");

    let (preview, programme) = (listen_to_preview(&heard), listen(&heard));
    let onsets = [&preview, &programme].map(onset);
    assert!((onsets[0] - onsets[1]).abs() < 5_000, "it begins at {onsets:?}");
    let from = (onsets[0] - preview.pts_us as i64) as usize / 1000 + 100;
    let part = preview.part(from, from + 500);
    for (channel, hertz, expected) in [(0, 440.0, 0.3), (1, 440.0, 0.0), (0, 1000.0, 0.0), (1, 1000.0, 0.3)] {
        let level = level(part, channel, hertz);
        assert!((level - expected).abs() < 0.02, "{hertz} Hz in channel {channel}: {level}");
    }
}
