//! What is drawn over the pictures, stands behind them, and is done to them: looked for in the encoded programme.

use jamcast::model::media::Codec;
use jamcast::model::scene::Dressing;
use jamcast::model::scene::Look;
use jamcast::model::scene::Rgb;

use crate::eyes::Picture;
use crate::eyes::look;
use crate::gateway::Gateway;
use crate::gateway::scene;
use crate::gateway::source;
use crate::sender::BLUE;
use crate::sender::GREEN;
use crate::sender::RED;
use crate::sender::play_on;
use crate::sender::video;

/// A PNG of 32 x 32 pixels in the green of the programme.
const LOGO: &str = "iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2jAAAAJklEQVR42u3NsQkAAAjAsP7/tF7hIASyp6ZbAoFAIBAIBAKB4EuwNof8Lqbpz1cAAAAASUVORK5CYII=";

/// Bright points in a rectangle (x, y, width, height).
fn bright(picture: &Picture, [left, top, width, height]: [usize; 4]) -> usize {
    let points = (top..top + height).flat_map(|y| (left..left + width).map(move |x| (x, y)));
    points.filter(|(x, y)| picture.at(*x, *y)[0] > 200).count()
}

#[test]
fn names_title_and_background_are_seen_and_change_without_a_missing_frame() {
    let mut gateway = Gateway::start();
    let mut camera = [video(1, Codec::Vp8, [320, 180], 5000, |_| GREEN)];
    let mut shown = scene(vec![source(1, Some(&camera[0]), None, [160, 90, 320, 180])]);
    // Nothing of it may be taken for markup, and librsvg must not follow it.
    shown.sources[0].caption = Some("<b>Ann</b> & &amp; <image href=\"file:///etc/passwd\"/>".to_owned());
    shown.dressing = Dressing {
        title: Some("Jam".to_owned()),
        logo: Some(LOGO.to_owned()),
        background: Rgb([0, 0, 255]),
        backdrop: None,
    };
    gateway.show(&shown);
    play_on(&mut gateway, &mut camera, 2500);
    shown.sources[0].caption = None;
    shown.dressing = Dressing { background: Rgb([255, 0, 0]), ..Dressing::default() };
    gateway.show(&shown);
    play_on(&mut gateway, &mut camera, 1200);
    let heard = gateway.finish();
    heard.assert_gapless();
    let pictures = look(&heard);
    assert_eq!(pictures.len(), heard.video.len(), "every frame decodes");
    let (title, name) = ([10, 10, 200, 40], [165, 230, 310, 40]);
    let dressed = pictures.iter().filter(|p| bright(p, title) > 40 && bright(p, name) > 100).collect::<Vec<_>>();
    assert!(dressed.len() >= 30, "{} of {} frames", dressed.len(), pictures.len());
    let latest = dressed[dressed.len() - 1];
    latest.assert_colour(600, 320, BLUE);
    latest.assert_colour(620, 20, GREEN);
    latest.assert_colour(320, 150, GREEN);
    let last = &pictures[pictures.len() - 1];
    last.assert_colour(600, 320, RED);
    last.assert_colour(620, 20, RED);
    assert_eq!((bright(last, title), bright(last, name)), (0, 0), "nothing is left of it");
}

#[test]
fn a_picture_behind_everything_is_seen_around_the_cameras_and_goes_without_a_missing_frame() {
    let mut gateway = Gateway::start();
    let mut camera = [video(1, Codec::Vp8, [320, 180], 5000, |_| RED)];
    let mut shown = scene(vec![source(1, Some(&camera[0]), None, [160, 90, 320, 180])]);
    shown.dressing = Dressing { backdrop: Some(LOGO.to_owned()), background: Rgb([0, 0, 255]), ..Dressing::default() };
    gateway.show(&shown);
    play_on(&mut gateway, &mut camera, 2500);
    shown.dressing.backdrop = None;
    gateway.show(&shown);
    play_on(&mut gateway, &mut camera, 1200);
    let heard = gateway.finish();
    heard.assert_gapless();
    let pictures = look(&heard);
    let is_green = |p: &&Picture| p.at(20, 20)[0].abs_diff(GREEN[0]) < 16 && p.at(600, 340)[0].abs_diff(GREEN[0]) < 16;
    let green = pictures.iter().filter(is_green).count();
    assert!((45..=100).contains(&green), "{green} of {} frames have it", pictures.len());
    let last = &pictures[pictures.len() - 1];
    last.assert_colour(20, 20, BLUE);
    last.assert_colour(320, 180, RED);
}

#[test]
fn a_picture_is_retouched_and_back_again_without_a_missing_frame() {
    let mut gateway = Gateway::start();
    let mut camera = [video(1, Codec::H264, [320, 180], 6000, |_| RED)];
    let mut shown = scene(vec![source(1, Some(&camera[0]), None, [0, 0, 640, 360])]);
    gateway.show(&shown);
    play_on(&mut gateway, &mut camera, 1000);
    shown.sources[0].look = Look { crop: [0.25, 0.0, 0.25, 0.0], mirror: true, brightness: 0.25, monochrome: true };
    gateway.show(&shown);
    play_on(&mut gateway, &mut camera, 1500);
    shown.sources[0].look = Look::default();
    gateway.show(&shown);
    play_on(&mut gateway, &mut camera, 1500);
    let heard = gateway.finish();
    heard.assert_gapless();
    let pictures = look(&heard);
    let is = |seen: [u8; 3], wanted: [u8; 3]| seen.iter().zip(wanted).all(|(a, b)| a.abs_diff(b) < 16);
    let narrow = |p: &&Picture| is(p.at(320, 180), [136, 128, 128]) && is(p.at(80, 180), [16, 128, 128]);
    let retouched = pictures.iter().filter(narrow).count();
    assert!(retouched >= 20, "{retouched} frames");
    let last = &pictures[pictures.len() - 1];
    last.assert_colour(320, 180, RED);
    last.assert_colour(20, 180, RED);
}
