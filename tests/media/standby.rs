//! A mixer that stands by for another.

use jamcast::model::media::Codec;
use jamcast::model::scene::Continues;
use jamcast::model::scene::Scene;

use crate::eyes::level;
use crate::eyes::listen;
use crate::eyes::look;
use crate::gateway::Gateway;
use crate::gateway::now_us;
use crate::gateway::scene;
use crate::gateway::source;
use crate::sender::RED;
use crate::sender::audio;
use crate::sender::play_on;
use crate::sender::play_to_all;
use crate::sender::tone;
use crate::sender::video;

#[test]
fn what_stood_by_goes_on_with_a_keyframe_that_shows_and_sounds_as_the_one_that_died() {
    let mut first = Gateway::start();
    let mut second = first.beside();
    let voice = audio(1, 5000, tone(440.0, [0.3, 0.3]));
    let camera = video(2, Codec::Vp8, [320, 180], 5000, |_| RED);
    let on_air = scene(vec![source(1, Some(&camera), Some(&voice), [0, 0, 640, 360])]);
    first.show(&on_air);
    second.show(&Scene { standby: true, ..on_air.clone() });
    play_to_all(&mut [&mut first, &mut second], &[&voice, &camera], 3000, |_, _| false);
    assert_eq!(second.heard(|heard| (heard.video.len(), heard.audio.len(), heard.configs)), (0, 0, 0));
    let mut rests = [voice, camera];
    rests.iter_mut().for_each(|track| track.packets.retain(|(pts, _)| *pts >= 3_000_000_000));

    let before = first.die();
    let picture_us = before.video.last().expect("it was on air").pts_us;
    let sound_us = before.audio.last().expect("it was on air").pts_us;
    second.show(&Scene { continues: Some(Continues { picture_us, sound_us }), ..on_air });
    second.wait("a picture", |heard| !heard.video.is_empty() && !heard.audio.is_empty());
    let seen_at = now_us();
    play_on(&mut second, &mut rests, 1500);
    let after = second.finish();
    after.assert_gapless();
    assert!(after.video[0].key && after.configs == 1);
    // What it was told of late it has made up for; on a machine that stood still that goes back for 0.3 s.
    let gaps = [after.video[0].pts_us - picture_us, after.audio[0].pts_us - sound_us];
    let late = seen_at.saturating_sub(picture_us + 250_000);
    assert!(
        gaps[0] < 70_000 + late && gaps[1] < 50_000 + late,
        "{gaps:?} us without picture and sound, {late} us late"
    );
    look(&after)[..10].iter().for_each(|picture| picture.assert_colour(320, 180, RED));
    let sound = listen(&after);
    let quiet = sound.part(50, 850).chunks(960).filter(|part| level(part, 0, 440.0) < 0.2).count();
    assert_eq!(quiet, 0, "holes of 20 ms");
}
