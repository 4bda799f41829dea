//! The mixing desk and the layouts, carried out by a real mixer: as loud as its meters say, and switched without a gap.

use jamcast::domain::layout::Attention;
use jamcast::domain::layout::Kind;
use jamcast::domain::layout::Layout;
use jamcast::domain::layout::Pick;
use jamcast::model::id::ParticipantId;
use jamcast::model::media::Codec;
use jamcast::model::scene::Master;
use jamcast::proto::mixer::Meters;
use jamcast::proto::mixer::Report;

use crate::eyes::largest_step;
use crate::eyes::listen;
use crate::eyes::look;
use crate::gateway::Gateway;
use crate::gateway::Heard;
use crate::gateway::scene;
use crate::gateway::source;
use crate::gateway::spec;
use crate::sender::BLUE;
use crate::sender::GREEN;
use crate::sender::RED;
use crate::sender::audio;
use crate::sender::play_on;
use crate::sender::tone;
use crate::sender::video;

const NOWHERE: [u32; 4] = [0, 0, 64, 64];

fn meters(heard: &Heard) -> Vec<Meters> {
    let mut told = Vec::new();
    for report in &heard.reports {
        if let Report::Meters(meters) = report {
            told.push(meters.clone());
        }
    }
    told
}

#[test]
fn the_meters_tell_what_is_heard_and_the_master_gain_turns_it() {
    let mut gateway = Gateway::start();
    // -23 dBFS on both sides is -23 LUFS (EBU Tech 3341).
    let voice = audio(1, 6000, tone(1000.0, [0.0708, 0.0708]));
    let mut desk = scene(vec![source(1, None, Some(&voice), NOWHERE)]);
    gateway.show(&desk);
    let mut rest = [voice];
    play_on(&mut gateway, &mut rest, 2500);
    desk.master = Master { gain: 2.0, normalise: false };
    gateway.show(&desk);
    play_on(&mut gateway, &mut rest, 2000);
    desk.sources[0].muted = true;
    gateway.show(&desk);
    play_on(&mut gateway, &mut rest, 1500);
    let heard = gateway.finish();
    heard.assert_gapless();
    let meters = meters(&heard);
    let seconds = heard.video.len() as f64 / f64::from(spec().fps);
    assert!((meters.len() as f64 - seconds * 10.0).abs() < 8.0, "{} reports in {seconds} s", meters.len());
    let near = |value: Option<f64>, expected: f64| value.is_some_and(|value| (value - expected).abs() < 0.5);
    let times =
        |expected: f64| meters.iter().filter(|m| near(m.momentary, expected) && near(m.true_peak, expected)).count();
    assert!(times(-23.0) >= 10 && times(-17.0) >= 8, "{} and {}: {meters:?}", times(-23.0), times(-17.0));
    let source = |m: &Meters| m.sources.first().map(|level| (level.peak, level.rms));
    let loud =
        meters.iter().filter_map(source).filter(|(peak, rms)| near(Some(*peak), -23.0) && near(Some(*rms), -26.0));
    assert!(loud.count() >= 25, "{meters:?}");
    assert!(
        meters.last().is_some_and(|last| last.sources.is_empty() && last.momentary.is_none()),
        "{:?}",
        meters.last()
    );
    let sound = listen(&heard);
    assert!(largest_step(&sound.samples) < 0.03, "a click of {}", largest_step(&sound.samples));
}

#[test]
fn layouts_are_switched_live_without_a_missing_frame() {
    const COLOURS: [[u8; 3]; 3] = [RED, GREEN, BLUE];
    let mut gateway = Gateway::start();
    let mut cameras: Vec<_> = COLOURS
        .iter()
        .zip(1..)
        .map(|(colour, n)| video(n, if n == 2 { Codec::H264 } else { Codec::Vp8 }, [320, 180], 8000, |_| *colour))
        .collect();
    let picks: Vec<_> = (0..3).map(|_| Pick { participant: ParticipantId::generate(), screen: false }).collect();
    let mut seats: Vec<_> = cameras.iter().map(|camera| source(camera.number, Some(camera), None, NOWHERE)).collect();
    let kinds = [Kind::Grid, Kind::Speaker, Kind::PictureInPicture, Kind::Spotlight, Kind::Grid, Kind::Speaker];
    for (turn, kind) in kinds.into_iter().enumerate() {
        let loudest = Some(picks[turn % 3].participant);
        let layout = Layout { kind, ..Layout::default() };
        let at = Attention { spotlight: None, loudest };
        for (seat, placement) in seats.iter_mut().zip(layout.arrange(&picks, at, spec().width, spec().height)) {
            seat.placement = placement;
        }
        gateway.show(&scene(seats.clone()));
        play_on(&mut gateway, &mut cameras, 1200);
    }
    let heard = gateway.finish();
    heard.assert_gapless();
    let pictures = look(&heard);
    assert_eq!(pictures.len(), heard.video.len(), "every frame decodes");
    let is = |at: [u8; 3], colour: [u8; 3]| at.iter().zip(colour).all(|(seen, sent)| seen.abs_diff(sent) < 16);
    // At the points where two layouts differ most, the colours in the order of the turns.
    let frames = |seen: &dyn Fn(&crate::eyes::Picture) -> bool| pictures.iter().filter(|picture| seen(picture)).count();
    let grid = frames(&|p| is(p.at(160, 90), RED) && is(p.at(480, 90), GREEN) && is(p.at(320, 270), BLUE));
    let speaker = frames(&|p| is(p.at(200, 180), GREEN) && is(p.at(560, 135), RED) && is(p.at(560, 225), BLUE));
    let inset = frames(&|p| is(p.at(100, 100), BLUE) && is(p.at(545, 300), RED));
    let alone = frames(&|p| is(p.at(100, 100), RED) && is(p.at(545, 300), RED));
    // 36 frames each, less what a decoder that begins needs for its first picture.
    assert!(grid >= 30 && speaker >= 25 && inset >= 20 && alone >= 20, "{grid}, {speaker}, {inset}, {alone} frames");
}
