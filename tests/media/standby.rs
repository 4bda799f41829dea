//! A mixer that stands by for another.

use bytes::Bytes;
use jamcast::model::media::CanvasFormat;
use jamcast::model::media::CanvasFrame;
use jamcast::model::media::Codec;
use jamcast::model::scene::Continues;
use jamcast::model::scene::Scene;
use jamcast::proto::mixer::Report;

use crate::canvas::FPS;
use crate::canvas::canvas_scene;
use crate::canvas::send_to_all;
use crate::eyes::level;
use crate::eyes::listen;
use crate::eyes::look;
use crate::gateway::Gateway;
use crate::gateway::Heard;
use crate::gateway::now_us;
use crate::gateway::scene;
use crate::gateway::source;
use crate::gateway::stand_still;
use crate::sender::RED;
use crate::sender::audio;
use crate::sender::play;
use crate::sender::play_on;
use crate::sender::play_to_all;
use crate::sender::tone;
use crate::sender::video;

/// The programme goes on where it was. What a mixer was told of late, at `told_at`, it makes up for; on a machine that stood still that
/// goes back for 0.3 s.
fn assert_goes_on(newest: Continues, told_at: u64, after: &Heard) {
    after.assert_gapless();
    assert!(after.video[0].key && after.configs == 1);
    let gaps = [after.video[0].pts_us - newest.picture_us, after.audio[0].pts_us - newest.sound_us];
    let late = told_at.saturating_sub(newest.picture_us + 250_000);
    for (gap, of_each) in gaps.iter().zip([1e6 / 30.0, 1024e6 / 48e3]) {
        let beside = *gap as f64 - of_each * (*gap as f64 / of_each).round();
        assert!(*gap > 20_000 && beside.abs() < 5.0, "{gaps:?} us without picture and sound are no whole frames");
    }
    assert!(
        gaps[0] < 70_000 + late && gaps[1] < 50_000 + late,
        "{gaps:?} us without picture and sound, {late} us late"
    );
}

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

    let newest = first.die().newest();
    second.show(&Scene { continues: Some(newest), ..on_air });
    second.wait("a picture", |heard| !heard.video.is_empty() && !heard.audio.is_empty());
    let seen_at = now_us();
    play_on(&mut second, &mut rests, 1500);
    let after = second.finish();
    assert_goes_on(newest, seen_at, &after);
    look(&after)[..10].iter().for_each(|picture| picture.assert_colour(320, 180, RED));
    let sound = listen(&after);
    let quiet = sound.part(50, 850).chunks(960).filter(|part| level(part, 0, 440.0) < 0.2).count();
    assert_eq!(quiet, 0, "holes of 20 ms");
}

#[test]
fn what_stood_still_while_it_stood_by_cuts_time_where_it_did_before() {
    let (mut child, mut second) = Gateway::of_process();
    let mut first = second.beside();
    first.show(&scene(vec![]));
    second.show(&Scene { standby: true, ..scene(vec![]) });
    second.wait("it stands by", |heard| heard.reports.contains(&Report::Playing));
    first.wait_ms(1500);
    stand_still(&child);
    first.wait_ms(5500);
    let newest = first.die().newest();
    second.show(&Scene { continues: Some(newest), ..scene(vec![]) });
    second.wait("a picture", |heard| !heard.video.is_empty() && !heard.audio.is_empty());
    let seen_at = now_us();
    second.wait_ms(500);
    assert_goes_on(newest, seen_at, &second.finish());
    child.wait().expect("reaped");
}

/// A canvas that becomes brighter from frame to frame, and begins anew after 2.3 s.
struct Painter {
    began_us: u64,
    next: u64,
}

const SHADES: u64 = 70;

impl Painter {
    fn paint_ms(&mut self, gateways: &mut [&mut Gateway], ms: u64) {
        for _ in 0..ms * FPS / 1000 {
            let grey = (self.next % SHADES * 3) as u8;
            let data = Bytes::from([grey, grey, grey, 255].repeat(320 * 180));
            let format = CanvasFormat::Rgba;
            let frame = CanvasFrame { format, key: true, width: 320, height: 180, timestamp_us: 0, data };
            send_to_all(gateways, self.began_us + self.next * 1_000_000 / FPS, frame);
            self.next += 1;
        }
    }
}

/// Which of the painter's frames each picture shows.
fn shades(heard: &Heard) -> Vec<u64> {
    let shade = |luma: u8| (f64::from(luma.saturating_sub(16)) * 255.0 / 219.0 / 3.0).round() as u64;
    look(heard).iter().map(|picture| shade(picture.at(320, 180)[0])).collect()
}

#[test]
fn a_canvas_that_is_the_whole_programme_goes_on_with_the_mixer_that_stood_by() {
    let (mut child, mut first) = Gateway::of_process();
    let mut second = first.beside();
    let on_air = canvas_scene();
    first.show(&on_air);
    second.show(&Scene { standby: true, ..on_air.clone() });
    let mut painter = Painter { began_us: now_us(), next: 0 };
    painter.paint_ms(&mut [&mut first, &mut second], 3500);

    child.kill().expect("killed");
    child.wait().expect("reaped");
    let before = first.listen_to_the_end();
    let newest = before.newest();
    second.show(&Scene { continues: Some(newest), ..on_air });
    let told_at = now_us();
    painter.paint_ms(&mut [&mut second], 1500);
    let after = second.finish();
    assert_goes_on(newest, told_at, &after);
    let last_seen = *shades(&before).last().expect("seen");
    let seen = shades(&after);
    let step = |from: u64, to: u64| (SHADES + to - from % SHADES) % SHADES;
    assert!(step(last_seen, seen[0]) <= 3, "it goes on from {last_seen} with {}", seen[0]);
    // A second of them; the end is that of the painting.
    let stands_still = seen[..30].windows(3).filter(|three| step(three[0], three[2]) == 0).count();
    assert_eq!(stands_still, 0, "pictures of 100 ms: {:?}", &seen[..30]);
}

#[test]
fn what_stands_by_stays_where_it_is_told_that_the_programme_is_however_late_its_media_comes() {
    let mut gateway = Gateway::start();
    let mut camera = video(1, Codec::Vp8, [320, 180], 7000, |_| RED);
    camera.packets.iter_mut().skip(10).step_by(10).for_each(|(sent, _)| *sent += 350_000_000);
    let wanted = scene(vec![source(1, Some(&camera), None, [0, 0, 640, 360])]);
    gateway.show(&Scene { standby: true, playout_ms: Some(150), ..wanted });
    play(&mut gateway, &[&camera], 7000, |_, _| false);
    let delays = gateway.heard(|heard| {
        let playout = |report: &Report| if let Report::Stats(stats) = report { Some(stats.playout_ms) } else { None };
        heard.reports.iter().filter_map(playout).collect::<Vec<_>>()
    });
    assert!(delays.len() > 4 && delays.iter().all(|delay| *delay == 150), "{delays:?}");
}
