//! A picture that is the whole programme goes out as it came, and is composed as soon as it is not: without a gap, from keyframe to
//! keyframe, and never with a word of complaint from who decodes it, live, in the recording or over HLS.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use jamcast::model::id::SourceId;
use jamcast::model::id::TrackId;
use jamcast::model::media::Codec;
use jamcast::model::media::EncodedFrame;
use jamcast::model::scene::Scene;
use jamcast::model::scene::Source;
use jamcast::model::scene::Stem;
use jamcast::model::spec::Passthrough;
use jamcast::model::spec::ProgrammeSpec;
use jamcast::proto::flv;
use jamcast::proto::flv::Tag;
use jamcast::proto::flv::TagKind;
use jamcast::proto::h264::Depacketizer;
use jamcast::proto::hls::Packager;
use jamcast::proto::hls::Segment;
use jamcast::proto::hls::Window;
use jamcast::proto::mixer::Control;
use jamcast::proto::mixer::Report;
use jamcast::proto::mixer::TappedPacket;
use jamcast::proto::mixer::ToMixer;

use crate::eyes::Picture;
use crate::eyes::look_at;
use crate::gateway::Gateway;
use crate::gateway::Heard;
use crate::gateway::now_us;
use crate::gateway::scene;
use crate::gateway::source;
use crate::gateway::spec;
use crate::gateway::wait_until_us;
use crate::recording::lost;
use crate::recording::process_showing;
use crate::recording::times;
use crate::sender::BLACK;
use crate::sender::BLUE;
use crate::sender::RED;
use crate::sender::Track;
use crate::sender::play;
use crate::sender::video;

const FULL: [u32; 4] = [0, 0, 640, 360];
const CORNER: [u32; 4] = [480, 270, 160, 90];

/// Long enough for all that happens here, and for a machine that stands still some times: each time costs seven seconds.
const LENGTH_MS: u64 = 45_000;

/// Pictures one after the other that show that they pass: a second.
const ENOUGH: usize = 30;

/// A camera that goes on sending at its own pace, whatever is done with its pictures.
struct Camera {
    track: Track,
    began_us: u64,
    next: usize,
    /// As they should go out.
    pictures: Pictures,
}

type Pictures = BTreeSet<Bytes>;

impl Camera {
    /// Its pictures become brighter and begin anew, so that no two near each other are alike.
    fn start() -> Self {
        let track = video(1, Codec::H264, [640, 360], LENGTH_MS, |n| [40 + (n % 64) as u8 * 3, 240, 110]);
        let mut units = Depacketizer::default();
        let mut pictures = Vec::new();
        for (_, packet) in &track.packets {
            let timestamp = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
            let whole = units.push(&packet[12..], timestamp, packet[1] & 0x80 != 0, ());
            pictures.extend(whole.into_iter().map(|unit| unit.data));
        }
        assert_eq!(pictures.len() as u64, LENGTH_MS * 30 / 1000);
        Self { track, began_us: now_us(), next: 0, pictures: pictures.into_iter().collect() }
    }

    fn next_at(&self) -> u64 {
        let (at, _) = self.track.packets.get(self.next).expect("never so far");
        self.began_us + at / 1000 + self.track.network_us
    }

    /// Sends until `enough` of what was heard and of its own pictures.
    fn send_until(&mut self, what: &str, gateway: &mut Gateway, enough: impl Fn(&Heard, &Pictures) -> bool) {
        self.send_to_all_until(what, &mut [gateway], enough);
    }

    /// The same to several mixers at once, the first of which is heard.
    fn send_to_all_until(
        &mut self,
        what: &str,
        gateways: &mut [&mut Gateway],
        enough: impl Fn(&Heard, &Pictures) -> bool,
    ) {
        while !gateways[0].heard(|heard| enough(heard, &self.pictures)) {
            assert!(self.next < self.track.packets.len(), "never heard {what}");
            let arrival_us = self.next_at();
            wait_until_us(arrival_us);
            let packet = self.track.packets[self.next].1.clone();
            let mail = ToMixer::Rtp(TappedPacket { track: TrackId(1), arrival_us, packet });
            gateways.iter_mut().for_each(|gateway| gateway.send(&mail));
            self.next += 1;
        }
    }

    /// Sends for so long.
    fn send_ms(&mut self, gateway: &mut Gateway, ms: u64) {
        let until = now_us() + ms * 1000;
        self.send_until("the time pass", gateway, |_, _| now_us() >= until);
    }

    /// Sends nothing for so long.
    fn pause_ms(&mut self, ms: u64) {
        let until = now_us() + ms * 1000;
        while self.next_at() < until {
            self.next += 1;
        }
        wait_until_us(until);
    }

    fn is_passed(&self, frame: &EncodedFrame) -> bool {
        self.pictures.contains(picture_of(frame))
    }

    /// Sends until enough of its pictures have gone out as they came, beginning from now.
    fn send_until_passed(&mut self, gateway: &mut Gateway) {
        self.send_to_all_until_passed(&mut [gateway]);
    }

    fn send_to_all_until_passed(&mut self, gateways: &mut [&mut Gateway]) {
        let from = pictures_so_far(gateways[0]);
        self.send_to_all_until("its pictures pass", gateways, |heard, pictures| {
            heard.video[from..].iter().rev().take_while(|frame| pictures.contains(picture_of(frame))).count() > ENOUGH
        });
    }
}

/// A picture without the parameter sets that may stand before it.
fn picture_of(frame: &EncodedFrame) -> &[u8] {
    let mut data = &frame.data[..];
    while matches!(data[4] & 0x1f, 7 | 8) {
        data = &data[4 + u32::from_be_bytes([data[0], data[1], data[2], data[3]]) as usize..];
    }
    data
}

/// A scene of a programme that lets pictures pass.
fn passing(sources: Vec<Source>) -> Scene {
    let mut scene = scene(sources);
    scene.programme.passthrough = Passthrough::Auto;
    scene
}

fn alone(camera: &Camera) -> Scene {
    let sources = vec![source(1, Some(&camera.track), None, FULL)];
    Scene { passthrough: Some(SourceId(1)), ..passing(sources) }
}

/// With everything kept that can be.
fn kept(scene: Scene, camera: &Camera, folder: &Path) -> Scene {
    let path = folder.join("camera.mkv").to_str().expect("text").to_owned();
    let stem = Stem { source: SourceId(1), track: camera.track.wanted(), path, title: "Ann".to_owned() };
    Scene { stems: vec![stem], ..recorded(scene, &folder.join("jam.mp4")) }
}

fn recorded(scene: Scene, path: &Path) -> Scene {
    Scene { recording: Some(path.to_str().expect("text").to_owned()), ..scene }
}

fn pictures_so_far(gateway: &Gateway) -> usize {
    gateway.heard(|heard| heard.video.len())
}

/// The programme as a file, as it would be on its way to a platform.
fn write(heard: &Heard, path: &Path) {
    let begin = heard.video[0].dts_us;
    let mut tags = Vec::new();
    let mut tag = |at_us: u64, order: u8, kind, body| {
        let timestamp_ms = (at_us.saturating_sub(begin) / 1000) as u32;
        tags.push(((at_us, order), Tag { kind, timestamp_ms, body }));
    };
    let sound = heard.changes[0].1.aac.clone();
    tag(begin, 0, TagKind::Audio, flv::aac_config(&sound));
    for (from, config) in &heard.changes {
        tag(heard.video[*from].dts_us, 1, TagKind::Video, flv::avc_config(&config.avc));
    }
    for frame in &heard.video {
        tag(frame.dts_us, 2, TagKind::Video, flv::frame(frame));
    }
    for frame in heard.audio.iter().filter(|frame| frame.dts_us >= begin) {
        tag(frame.dts_us, 2, TagKind::Audio, flv::frame(frame));
    }
    tags.sort_by_key(|(at, _)| *at);
    let mut file = flv::FILE_HEADER.to_vec();
    tags.iter().for_each(|(_, tag)| tag.write(&mut file));
    std::fs::write(path, file).expect("written");
}

/// Everything follows what came before it in time, each change begins with a keyframe, and all of it decodes: to these pictures.
fn assert_whole(heard: &Heard, camera: &Camera) -> Vec<String> {
    assert_sounds_follow(heard);
    assert_pictures_whole(heard, camera)
}

fn assert_sounds_follow(heard: &Heard) {
    let apart = heard.audio.windows(2).map(|pair| pair[1].dts_us - pair[0].dts_us).max();
    assert!(apart <= Some(1024 * 1_000_000 / 48_000 + 2), "a gap in the sound: {apart:?} us");
}

fn assert_pictures_whole(heard: &Heard, camera: &Camera) -> Vec<String> {
    let frame = 1_000_000 / u64::from(spec().fps);
    for (n, pair) in heard.video.windows(2).enumerate() {
        let step = pair[1].dts_us.checked_sub(pair[0].dts_us).expect("a step back in time");
        assert!((frame / 2 - 100..=frame * 3 / 2 + 100).contains(&step), "{step} us between {n} and the next");
        let [before, after] = [&pair[0], &pair[1]].map(|frame| camera.is_passed(frame));
        assert!(before == after || pair[1].key, "picture {} is another's and no keyframe", n + 1);
    }
    assert!(heard.video.iter().all(|frame| frame.pts_us == frame.dts_us));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("programme.flv");
    write(heard, &path);
    let decoded = decode(&path);
    assert_eq!(decoded.len(), heard.video.len(), "pictures decoded of those sent");
    decoded
}

/// What a strict decoder makes of each picture of a file: a sum of it.
fn decode(path: &Path) -> Vec<String> {
    decode_complaining(path, "warning")
}

/// The same, where what is less than a `complaint` is not heard.
fn decode_complaining(path: &Path, complaint: &str) -> Vec<String> {
    let decoded = Command::new("ffmpeg")
        .args(["-v", complaint, "-xerror", "-i"])
        .arg(path)
        .args(["-map", "0:v", "-f", "framemd5", "-fps_mode", "passthrough", "-"])
        .output()
        .expect("ffmpeg");
    assert!(decoded.stderr.is_empty(), "{}", String::from_utf8_lossy(&decoded.stderr));
    let decoded = String::from_utf8_lossy(&decoded.stdout);
    let sums = decoded.lines().filter(|line| !line.starts_with('#'));
    sums.map(|line| line.rsplit(", ").next().expect("a sum").to_owned()).collect()
}

/// The file is the programme from one of its keyframes on to its end: every picture, as it is seen live, at its time, but for the first,
/// which begins with a sound. Gives the picture of the programme that it begins with.
fn assert_recorded(path: &Path, heard: &Heard, live: &[String]) -> usize {
    let recorded = decode(path);
    let first = live.len().checked_sub(recorded.len()).expect("no more than was sent");
    assert!(recorded == live[first..], "other pictures than live, from {first} of {} on", live.len());
    let times = times(path, "v");
    let zero = heard.video[first + 1].pts_us as i64 - times[1].0;
    for (n, ((time, key), frame)) in times.iter().zip(&heard.video[first..]).enumerate() {
        let (off, most) = (zero + time - frame.pts_us as i64, if n == 0 { 14_000 } else { 1000 });
        assert!(off.abs() <= most && *key == frame.key, "picture {n}: {off} us off, keyframe {key}");
    }
    first
}

/// The programme as a player of HLS finds it: a playlist of everything, and what it names.
fn package(heard: &Heard, folder: &Path) -> Vec<Segment> {
    // Twice the interval that the programme has: this packager can ask nobody for a keyframe.
    let mut packager = Packager::new(&ProgrammeSpec { keyframe_interval_s: 4, ..spec() });
    let (mut segments, mut changes, mut sounds) = (Vec::new(), heard.changes.iter().peekable(), heard.audio.iter());
    let mut heard_so_far = 0;
    for (n, (picture, before)) in heard.video.iter().zip(&heard.sounds_before).enumerate() {
        for sound in sounds.by_ref().take(before - heard_so_far) {
            segments.extend(packager.take(sound, 0));
        }
        heard_so_far = *before;
        while let Some((_, config)) = changes.next_if(|(from, _)| *from <= n) {
            let (last, outcome) = packager.set_config(config);
            outcome.expect("fit");
            segments.extend(last);
        }
        segments.extend(packager.take(picture, 0));
    }
    segments.extend(packager.interrupt());
    let mut window = Window::new(60);
    for segment in &segments {
        window.push(segment.clone());
        std::fs::write(folder.join(format!("{}.m4s", segment.number)), &segment.data).expect("written");
        std::fs::write(folder.join(format!("init-{}.mp4", segment.init.number)), &segment.init.data).expect("written");
    }
    window.end();
    std::fs::write(folder.join("index.m3u8"), window.playlist().expect("segments")).expect("written");
    segments
}

/// What is seen from picture `first` on until one of another kind comes.
fn composed_from(heard: &Heard, camera: &Camera, first: usize) -> Vec<Picture> {
    let frames: Vec<_> = heard.video[first..].iter().take_while(|frame| !camera.is_passed(frame)).cloned().collect();
    let (_, config) = heard.changes.iter().rfind(|(from, _)| *from <= first).expect("a configuration");
    look_at(&frames, config)
}

#[test]
fn a_picture_passes_as_it_came_and_is_composed_with_another_and_passes_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut gateway = Gateway::start();
    let guest = video(2, Codec::Vp8, [160, 90], 3000, |_| RED);
    let mut camera = Camera::start();
    gateway.show(&kept(alone(&camera), &camera, folder.path()));
    camera.send_until_passed(&mut gateway);
    let mut both = passing(vec![source(1, Some(&camera.track), None, FULL), source(2, Some(&guest), None, CORNER)]);
    both.sources[1].placement.as_mut().expect("a place").z = 1;
    let joined = pictures_so_far(&gateway);
    gateway.show(&kept(both, &camera, folder.path()));
    for (_, packet) in &guest.packets {
        let mail = TappedPacket { track: TrackId(2), arrival_us: now_us(), packet: packet.clone() };
        gateway.send(&ToMixer::Rtp(mail));
    }
    camera.send_ms(&mut gateway, 1500);
    let left = pictures_so_far(&gateway);
    gateway.show(&kept(alone(&camera), &camera, folder.path()));
    camera.send_until_passed(&mut gateway);
    let heard = gateway.finish();
    let live = assert_whole(&heard, &camera);
    let begun = assert_recorded(&folder.path().join("jam.mp4"), &heard, &live);
    assert!(begun < joined, "recorded from {begun} on");
    let own: BTreeSet<_> = decode(&folder.path().join("camera.mkv")).into_iter().collect();
    let passed = live.iter().zip(&heard.video).filter(|(_, frame)| camera.is_passed(frame));
    assert!(passed.clone().count() > 2 * ENOUGH);
    assert!(
        passed.into_iter().all(|(seen, _)| own.contains(seen)),
        "what passed is not what the musician's own file has"
    );
    assert!(heard.changes.len() >= 4, "composed, passed, composed and passed: {}", heard.changes.len());
    let segments = package(&heard, folder.path());
    let inits: BTreeSet<_> = segments.iter().map(|segment| segment.init.number).collect();
    assert_eq!(inits.len(), heard.changes.len(), "each change has an initialisation of its own");
    let starts = segments.windows(2).filter(|pair| pair[0].init.number != pair[1].init.number);
    assert!(starts.clone().all(|pair| pair[1].discontinuity), "players have to be told");
    // It says that it skips the second initialisation. Keyframes bring their parameters for players like it.
    let seen = decode_complaining(&folder.path().join("index.m3u8"), "error");
    assert!(seen == live, "other pictures over HLS than live");
    let composed = (joined..left).find(|n| !camera.is_passed(&heard.video[*n])).expect("composed with another");
    let pictures = composed_from(&heard, &camera, composed);
    assert!(pictures.len() > 20);
    assert!(pictures.iter().all(|picture| picture.at(320, 180)[1] > 220), "the camera is seen from the first one on");
    let guest_seen = pictures.iter().filter(|picture| picture.at(560, 315)[2] > 220).count();
    assert!(guest_seen > 10, "the other was seen in {guest_seen} of {} pictures", pictures.len());
    assert!(heard.reports.contains(&Report::KeyframeWanted { track: TrackId(1) }));
}

#[test]
fn a_picture_that_stalls_or_leaves_while_it_passes_leaves_no_gap() {
    let mut gateway = Gateway::start();
    let mut camera = Camera::start();
    gateway.show(&alone(&camera));
    camera.send_until_passed(&mut gateway);
    // Frozen, as its last picture stays for two seconds.
    let stalled = pictures_so_far(&gateway);
    camera.pause_ms(1000);
    camera.send_until_passed(&mut gateway);
    let left = pictures_so_far(&gateway);
    gateway.show(&passing(vec![]));
    camera.pause_ms(1000);
    let heard = gateway.finish();
    assert_whole(&heard, &camera);
    let frozen = (stalled..left).find(|n| !camera.is_passed(&heard.video[*n])).expect("composed while it stalls");
    let pictures = composed_from(&heard, &camera, frozen);
    assert!(pictures[..20].iter().all(|picture| picture.at(320, 180)[1] > 220), "its last picture is seen");
    let dark = (left..heard.video.len()).find(|n| !camera.is_passed(&heard.video[*n])).expect("composed without it");
    composed_from(&heard, &camera, dark).last().expect("seen").assert_colour(320, 180, BLACK);
}

#[test]
fn packets_that_are_lost_while_pictures_pass_cost_none_and_a_keyframe_is_had_for_the_asking() {
    let mut gateway = Gateway::start();
    let mut camera = Camera::start();
    gateway.show(&alone(&camera));
    camera.send_until_passed(&mut gateway);
    let asked = |heard: &Heard| {
        heard.reports.iter().filter(|report| **report == Report::KeyframeWanted { track: TrackId(1) }).count()
    };
    let before = gateway.heard(asked);
    gateway.control(Control::ForceKeyframe);
    camera.send_until("the camera being asked", &mut gateway, |heard, _| asked(heard) > before);
    camera.send_ms(&mut gateway, 600);
    camera.next += 1;
    let lost = pictures_so_far(&gateway);
    camera.send_until("it being composed", &mut gateway, |heard, pictures| {
        heard.video[lost..].iter().any(|frame| !pictures.contains(picture_of(frame)))
    });
    camera.send_until_passed(&mut gateway);
    assert_whole(&gateway.finish(), &camera);
}

#[test]
fn a_picture_of_another_size_than_the_programmes_is_composed() {
    let mut gateway = Gateway::start();
    let small = video(1, Codec::H264, [320, 180], 4000, |_| BLUE);
    let wanted = passing(vec![source(1, Some(&small), None, FULL)]);
    gateway.show(&Scene { passthrough: Some(SourceId(1)), ..wanted });
    play(&mut gateway, &[&small], 4000, |_, _| false);
    let heard = gateway.finish();
    heard.assert_gapless();
}

#[test]
fn a_recording_that_begins_while_pictures_pass_begins_with_one_of_them_and_has_its_small_picture() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("jam.mp4");
    let mut gateway = Gateway::start();
    let mut camera = Camera::start();
    gateway.show(&alone(&camera));
    camera.send_until_passed(&mut gateway);
    gateway.show(&recorded(alone(&camera), &path));
    let thumbnail = folder.path().join("jam-00000.jpg");
    let is_written = || std::fs::metadata(&thumbnail).is_ok_and(|file| file.len() > 0);
    camera.send_until("a small picture being written", &mut gateway, |_, _| is_written());
    let heard = gateway.finish();
    let live = assert_whole(&heard, &camera);
    let begun = assert_recorded(&path, &heard, &live);
    assert!(camera.is_passed(&heard.video[begun]), "it begins with a picture of the encoder's");
    let seen = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(&thumbnail)
        .args(["-f", "rawvideo", "-pix_fmt", "yuv420p", "-"])
        .output()
        .expect("ffmpeg");
    assert_eq!(seen.stdout.len(), 320 * 180 * 3 / 2, "{}", String::from_utf8_lossy(&seen.stderr));
    let blue = seen.stdout[320 * 180 + 45 * 160 + 80];
    assert!(blue > 220, "the camera is not what is seen: {blue}");
}

#[test]
fn a_mixer_that_is_killed_while_pictures_pass_leaves_a_recording_of_all_but_the_last_second() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("jam.mp4");
    let mut camera = Camera::start();
    let (mut child, mut gateway) = process_showing(alone(&camera), &path);
    camera.send_until_passed(&mut gateway);
    child.kill().expect("killed");
    child.wait().expect("reaped");
    let heard = gateway.listen_to_the_end();
    let live = assert_whole(&heard, &camera);
    let recorded = decode(&path);
    let first = (0..live.len()).find(|first| live[*first..].starts_with(&recorded)).expect("a part of the programme");
    assert!(camera.is_passed(&heard.video[first + recorded.len() - 1]), "it does not reach where pictures pass");
    let lost = lost(&heard, &path);
    assert!(lost.iter().all(|seconds| *seconds <= 1.0), "{lost:?} s were lost");
}

/// What the gateway tells a mixer that stands by: it decodes, whatever passes.
fn standing_by(scene: &Scene) -> Scene {
    Scene { standby: true, passthrough: None, ..scene.clone() }
}

#[test]
fn what_stood_by_while_pictures_passed_goes_on_behind_the_last_of_them_and_lets_them_pass_again() {
    let mut camera = Camera::start();
    let (mut child, mut first) = Gateway::of_process();
    let mut second = first.beside();
    let on_air = alone(&camera);
    first.show(&on_air);
    second.show(&standing_by(&on_air));
    camera.send_to_all_until_passed(&mut [&mut first, &mut second]);
    assert_eq!(second.heard(|heard| (heard.video.len(), heard.configs)), (0, 0));

    child.kill().expect("killed");
    child.wait().expect("reaped");
    let before = first.listen_to_the_end();
    second.show(&Scene { continues: Some(before.newest()), ..on_air });
    let told_at = now_us();
    camera.send_until_passed(&mut second);
    let after = second.finish();
    let taken_over = before.video.len();
    assert!(camera.is_passed(&before.video[taken_over - 1]), "it was killed while pictures passed");
    let composed = after.video.iter().take_while(|frame| !camera.is_passed(frame)).count();
    assert!(after.video[0].key && composed > 0, "pictures are composed until one may pass");
    let last_heard = before.newest().sound_us;
    let (apart, late) = (after.audio[0].dts_us - last_heard, told_at.saturating_sub(last_heard + 250_000));
    assert!(apart < 50_000 + late, "{apart} us without sound, {late} us late");
    assert_sounds_follow(&before);
    assert_sounds_follow(&after);
    let heard = before.and_then(after);
    assert_pictures_whole(&heard, &camera);
    let seen = composed_from(&heard, &camera, taken_over);
    assert!(seen.iter().all(|picture| picture.at(320, 180)[1] > 220), "the camera is seen from the first one on");
}
