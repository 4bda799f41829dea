//! Joining, leaving, stalling, switching and breaking, in any order: the programme has no gap.

use jamcast::model::media::Codec;
use jamcast::proto::mixer::Control;

use bytes::Bytes;

use crate::eyes::look;
use crate::gateway::Gateway;
use crate::gateway::scene;
use crate::gateway::source;
use crate::gateway::stand_still;
use crate::sender::BLUE;
use crate::sender::RED;
use crate::sender::Track;
use crate::sender::audio;
use crate::sender::interlaced_video;
use crate::sender::play;
use crate::sender::tone;
use crate::sender::video;

/// A small generator of chance (xorshift64), so that a failure repeats.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
fn what_a_machine_that_stood_still_leaves_out_of_the_sound_is_one_piece_of_whole_frames() {
    let (mut child, mut gateway) = Gateway::of_process();
    gateway.show(&scene(vec![]));
    gateway.wait_ms(1500);
    stand_still(&child);
    gateway.wait_ms(4500);
    let heard = gateway.finish();
    child.wait().expect("reaped");
    let steps = heard.audio.windows(2).map(|pair| (pair[1].pts_us - pair[0].pts_us) as f64 / 1024e6 * 48e3);
    let missed: Vec<_> = steps.filter(|frames| *frames > 1.5).collect();
    // What is less than a second late is made up for.
    assert!(missed.len() == 1 && (60.0..130.0).contains(&missed[0]), "{missed:?} frames");
    assert!((missed[0] - missed[0].round()).abs() < 0.001, "{} frames", missed[0]);
}

#[test]
fn sixty_random_changes_leave_no_gap() {
    let mut gateway = Gateway::start();
    let cameras = [
        video(1, Codec::Vp8, [320, 180], 1000, |_| RED),
        video(2, Codec::H264, [160, 90], 1000, |_| BLUE),
        video(3, Codec::Vp8, [192, 180], 1000, |n| if n % 2 == 0 { RED } else { BLUE }),
    ];
    let voices = [audio(11, 1000, tone(440.0, [0.2, 0.2])), audio(12, 1000, tone(660.0, [0.2, 0.2]))];
    let mut chance = Chance(88_172_645_463_325_252);
    gateway.show(&scene(vec![]));
    for _ in 0..60 {
        let mut sources = Vec::new();
        let mut sending: Vec<&Track> = Vec::new();
        for id in 0..3u32 {
            if chance.below(3) == 0 {
                continue;
            }
            let camera = (chance.below(4) > 0).then(|| &cameras[id as usize]);
            let voice = voices.get(id as usize).filter(|_| chance.below(4) > 0);
            let mut source = source(id, camera, voice, [id * 160, chance.below(4) as u32 * 40, 320, 180]);
            source.muted = chance.below(5) == 0;
            source.delay_ms = chance.below(3) as u32 * 50;
            // One in four wanted tracks sends nothing: a stall.
            sending.extend(camera.into_iter().chain(voice).filter(|_| chance.below(4) > 0));
            sources.push(source);
        }
        gateway.show(&scene(sources));
        if chance.below(6) == 0 {
            gateway.control(Control::ForceKeyframe);
        }
        let ms = 20 + chance.below(130);
        let losing = chance.below(20) + 10;
        play(&mut gateway, &sending, ms, |_, index| index as u64 % losing == 9);
    }
    let heard = gateway.finish();
    heard.assert_gapless();
    assert_eq!(look(&heard).len(), heard.video.len(), "every frame decodes");
}

#[test]
fn an_interlaced_picture_is_shown_and_the_programme_goes_on() {
    let mut gateway = Gateway::start();
    let progressive = video(1, Codec::Vp8, [320, 180], 1000, |_| RED);
    let interlaced = interlaced_video(2, [320, 192], 1000, |_| BLUE);
    let sources = vec![
        source(0, Some(&progressive), None, [0, 0, 320, 180]),
        source(1, Some(&interlaced), None, [320, 0, 320, 180]),
    ];
    gateway.show(&scene(sources));
    play(&mut gateway, &[&progressive, &interlaced], 1000, |_, _| false);
    let heard = gateway.finish();
    heard.assert_gapless();
    assert_eq!(look(&heard).len(), heard.video.len(), "every frame decodes");
}

#[test]
fn corrupt_packets_never_leave_a_gap() {
    let mut gateway = Gateway::start();
    let mut chance = Chance(362_436_069);
    let mut corrupt = |track: &Track| {
        let mut track = track.clone();
        for (_, packet) in &mut track.packets {
            if chance.below(8) == 0 {
                let mut bytes = packet.to_vec();
                for _ in 0..20 {
                    let at = 12 + chance.below(bytes.len() as u64 - 12) as usize;
                    bytes[at] = chance.below(256) as u8;
                }
                bytes.truncate(13 + chance.below(bytes.len() as u64) as usize);
                *packet = Bytes::from(bytes);
            }
        }
        track
    };
    let tracks = [
        corrupt(&video(1, Codec::Vp8, [320, 180], 2500, |n| if n % 7 == 0 { RED } else { BLUE })),
        corrupt(&video(2, Codec::H264, [320, 180], 2500, |n| if n % 7 == 0 { RED } else { BLUE })),
        corrupt(&audio(3, 2500, tone(440.0, [0.2, 0.2]))),
    ];
    gateway.show(&scene(vec![
        source(1, Some(&tracks[0]), Some(&tracks[2]), [0, 0, 320, 180]),
        source(2, Some(&tracks[1]), None, [320, 0, 320, 180]),
    ]));
    play(&mut gateway, &tracks.each_ref(), 2500, |_, _| false);
    let heard = gateway.finish();
    heard.assert_gapless();
    let pictures = look(&heard);
    for x in [160, 480] {
        assert!(pictures.iter().any(|picture| picture.at(x, 90)[1] > 200), "nothing was seen at {x}");
    }
}
