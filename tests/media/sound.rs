//! What is to be heard: tones on their sides, the hand on the mixing desk, and lips that fit.

use jamcast::model::media::Codec;

use crate::eyes::largest_step;
use crate::eyes::level;
use crate::eyes::listen;
use crate::eyes::look;
use crate::gateway::Gateway;
use crate::gateway::Heard;
use crate::gateway::now_us;
use crate::gateway::scene;
use crate::gateway::source;
use crate::gateway::wait_until_us;
use crate::sender::BLACK;
use crate::sender::Track;
use crate::sender::WHITE;
use crate::sender::audio;
use crate::sender::play;
use crate::sender::play_on;
use crate::sender::tone;
use crate::sender::video;

const NOWHERE: [u32; 4] = [0, 0, 64, 64];

#[test]
fn stereo_stays_stereo_and_all_sources_are_heard_together() {
    let mut gateway = Gateway::start();
    let left = audio(1, 2500, tone(440.0, [0.3, 0.0]));
    let right = audio(2, 2500, tone(1000.0, [0.0, 0.3]));
    gateway.show(&scene(vec![source(1, None, Some(&left), NOWHERE), source(2, None, Some(&right), NOWHERE)]));
    play(&mut gateway, &[&left, &right], 2500, |_, _| false);
    let heard = gateway.finish();
    heard.assert_gapless();
    let sound = listen(&heard);
    let part = sound.part(1000, 2000);
    for (channel, hertz, expected) in [(0, 440.0, 0.3), (1, 440.0, 0.0), (0, 1000.0, 0.0), (1, 1000.0, 0.3)] {
        let level = level(part, channel, hertz);
        assert!((level - expected).abs() < 0.02, "{hertz} Hz in channel {channel}: {level}");
    }
    // A 440 Hz sine of 0.3 steps by at most 0.018 by itself; a click or a hole would step by far more.
    assert!(largest_step(part) < 0.03, "{}", largest_step(part));
}

#[test]
fn gain_pan_mute_and_delay_are_heard_without_clicks() {
    let mut gateway = Gateway::start();
    let voice = audio(1, 5000, tone(440.0, [0.2, 0.2]));
    let mut desk = source(1, None, Some(&voice), NOWHERE);
    gateway.show(&scene(vec![desk.clone()]));
    let mut rest = voice;
    let mut play_to = |gateway: &mut Gateway, ms: u64| {
        let mut now = rest.clone();
        let (first, _) = now.packets[0];
        now.packets.retain(|(pts, _)| pts - first < ms * 1_000_000);
        rest.packets.drain(..now.packets.len());
        // Only the times of sending count: the packets carry their own RTP times.
        now.packets.iter_mut().for_each(|(pts, _)| *pts -= first);
        now.reports = false;
        play(gateway, &[&now], ms, |_, _| false);
    };
    play_to(&mut gateway, 1000);
    desk.gain = 0.5;
    gateway.show(&scene(vec![desk.clone()]));
    play_to(&mut gateway, 900);
    (desk.gain, desk.pan) = (1.0, 1.0);
    gateway.show(&scene(vec![desk.clone()]));
    play_to(&mut gateway, 900);
    (desk.pan, desk.delay_ms) = (0.0, 200);
    gateway.show(&scene(vec![desk.clone()]));
    play_to(&mut gateway, 1300);
    desk.muted = true;
    gateway.show(&scene(vec![desk]));
    play_to(&mut gateway, 900);
    let heard = gateway.finish();
    heard.assert_gapless();
    let sound = listen(&heard);
    let onset = sound.samples.iter().position(|sample| sample[0].abs() > 0.1).expect("heard") / 48;
    let levels: Vec<_> = (onset..sound.samples.len() / 48 - 50)
        .step_by(50)
        .map(|ms| [0, 1].map(|channel| level(sound.part(ms, ms + 50), channel, 440.0)))
        .collect();
    let times = |left: f64, right: f64| {
        levels.iter().filter(|[l, r]| (l - left).abs() < 0.02 && (r - right).abs() < 0.02).count()
    };
    assert!(times(0.1, 0.1) >= 8, "half gain: {levels:?}");
    assert!(times(0.0, 0.4) + times(0.0, 0.2) >= 8, "panned right: {levels:?}");
    assert!(times(0.2, 0.2) >= 20, "unchanged: {levels:?}");
    assert!(times(0.0, 0.0) >= 6, "muted: {levels:?}");
    assert!(largest_step(&sound.samples) < 0.04, "a click of {}", largest_step(&sound.samples));
}

#[test]
fn lost_sound_is_made_up() {
    let mut gateway = Gateway::start();
    let voice = audio(1, 2500, tone(440.0, [0.3, 0.3]));
    gateway.show(&scene(vec![source(1, None, Some(&voice), NOWHERE)]));
    play(&mut gateway, &[&voice], 2500, |_, index| index % 10 == 5);
    let heard = gateway.finish();
    heard.assert_gapless();
    let sound = listen(&heard);
    let quiet = sound.part(1000, 2000).chunks(240).filter(|part| level(part, 0, 440.0) < 0.05).count();
    assert_eq!(quiet, 0, "holes of 5 ms");
}

#[test]
fn who_leaves_or_is_cut_off_in_the_middle_of_a_note_makes_no_click() {
    let mut gateway = Gateway::start();
    let notes = [(1, 440.0), (2, 330.0), (3, 550.0)];
    let mut rests = notes.map(|(number, hertz)| audio(number, 3500, tone(hertz, [0.15, 0.15])));
    let sources = rests.each_ref().map(|voice| source(voice.number, None, Some(voice), NOWHERE));
    for present in [3, 2, 1] {
        gateway.show(&scene(sources[..present].to_vec()));
        play_on(&mut gateway, &mut rests[..present], if present == 3 { 1000 } else { 300 });
    }
    // The network of who is left fails for longer than anything is kept, and then goes on.
    let resumed_at = 2_300_000_000;
    rests[0].packets.retain(|(pts, _)| *pts >= resumed_at);
    wait_until_us(now_us() + 700_000);
    play_on(&mut gateway, &mut rests[..1], 900);
    let heard = gateway.finish();
    heard.assert_gapless();
    let sound = listen(&heard);
    let onset = sound.samples.iter().position(|sample| sample[0].abs() > 0.05).expect("heard") / 48;
    let after = |ms: usize, hertz: f64| level(sound.part(onset + ms, onset + ms + 100), 0, hertz);
    assert!(after(500, 440.0) > 0.1 && after(500, 330.0) > 0.1 && after(500, 550.0) > 0.1, "all three play");
    assert!(after(1450, 440.0) > 0.1 && after(1450, 330.0) < 0.02 && after(1450, 550.0) < 0.02, "two have left");
    assert!(after(2050, 440.0) < 0.02 && after(2800, 440.0) > 0.1, "there is a hole, and then it goes on");
    // Together the three step by at most 0.025 by themselves, one that is cut in the middle by up to 0.15.
    assert!(largest_step(&sound.samples) < 0.035, "a click of {}", largest_step(&sound.samples));
}

/// Five seconds of a voice and a camera: a beep and a flash once a second, at media times 500 ms, 1500 ms and so on.
fn beeps_and_flashes() -> [Track; 2] {
    let beep = tone(1000.0, [0.5, 0.5]);
    let flashes = |ms: u64| ms % 1000 >= 500 && ms % 1000 < 600;
    let voice = audio(1, 5000, |n| if flashes(n / 48) { beep(n) } else { [0.0, 0.0] });
    let camera = video(2, Codec::Vp8, [160, 90], 5000, |n| if flashes(n * 1000 / 30 + 1) { WHITE } else { BLACK });
    [voice, camera]
}

fn assert_lips_fit(heard: &Heard) {
    let pictures = look(heard);
    let seen: Vec<_> = pictures
        .windows(2)
        .filter(|pair| pair[0].at(320, 180)[0] < 100 && pair[1].at(320, 180)[0] > 150)
        .map(|pair| pair[1].pts_us as i64)
        .collect();
    let sound = listen(heard);
    let mut heard_at = Vec::new();
    let mut quiet = 48_000;
    for (n, sample) in sound.samples.iter().enumerate() {
        if sample[0].abs() > 0.2 {
            if quiet > 9_600 {
                heard_at.push((sound.pts_us + n as u64 * 1000 / 48) as i64);
            }
            quiet = 0;
        } else {
            quiet += 1;
        }
    }
    assert!(seen.len() >= 3 && heard_at.len() >= 3, "seen at {seen:?}, heard at {heard_at:?}");
    for (flash, beep) in seen.iter().rev().zip(heard_at.iter().rev()) {
        assert!((flash - beep).abs() < 40_000, "{} us apart: seen at {seen:?}, heard at {heard_at:?}", flash - beep);
    }
}

#[test]
fn a_picture_whose_network_is_slower_stays_with_its_sound() {
    let mut gateway = Gateway::start();
    let [mut voice, mut camera] = beeps_and_flashes();
    voice.network_us = 10_000;
    camera.network_us = 110_000;
    gateway.show(&scene(vec![source(1, Some(&camera), Some(&voice), [0, 0, 640, 360])]));
    play(&mut gateway, &[&voice, &camera], 5000, |_, _| false);
    let heard = gateway.finish();
    heard.assert_gapless();
    assert_lips_fit(&heard);
}

#[test]
fn a_picture_is_delayed_with_its_sound() {
    let mut gateway = Gateway::start();
    let mut tracks = beeps_and_flashes();
    let [voice, camera] = &tracks;
    let mut musician = source(1, Some(camera), Some(voice), [0, 0, 640, 360]);
    gateway.show(&scene(vec![musician.clone()]));
    play_on(&mut gateway, &mut tracks, 1200);
    musician.delay_ms = 300;
    gateway.show(&scene(vec![musician]));
    play_on(&mut gateway, &mut tracks, 3800);
    let heard = gateway.finish();
    heard.assert_gapless();
    assert_lips_fit(&heard);
}

/// Five notes that reach +10 dBFS together: no clipping, and still five notes.
#[test]
fn a_loud_band_does_not_clip() {
    const NOTES: [f32; 5] = [261.63, 329.63, 392.0, 523.25, 659.26];
    let mut gateway = Gateway::start();
    let voices: Vec<_> = NOTES.iter().zip(1..).map(|(hz, n)| audio(n, 4000, tone(*hz, [0.632, 0.632]))).collect();
    gateway.show(&scene(voices.iter().map(|voice| source(voice.number, None, Some(voice), NOWHERE)).collect()));
    play(&mut gateway, &voices.iter().collect::<Vec<_>>(), 4000, |_, _| false);
    let heard = gateway.finish();
    heard.assert_gapless();
    let sound = listen(&heard);
    let part = sound.part(2000, 3500);
    let peak = part.iter().map(|sample| sample[0].abs().max(sample[1].abs())).fold(0.0, f32::max);
    // AAC moves the peaks of what it is given by some tenths of a decibel; that is what the decibel under full scale is for.
    assert!((0.75..0.97).contains(&peak), "peak {peak}");
    let levels = NOTES.map(|hz| level(part, 0, f64::from(hz)));
    let (least, most) =
        levels.iter().fold((f64::MAX, 0.0), |(least, most): (f64, f64), l| (least.min(*l), most.max(*l)));
    assert!(least > 0.17 && most / least < 1.1, "{levels:?}");
    // Clipping would put the notes' differences and multiples where nobody plays.
    for hz in [130.0, 200.0, 457.0, 785.0, 915.0, 1047.0, 1570.0] {
        let strange = level(part, 0, hz);
        assert!(strange < least / 50.0, "{hz} Hz at {strange} beside notes of {levels:?}");
    }
}
