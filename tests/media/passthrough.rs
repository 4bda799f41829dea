//! A picture that is the whole programme goes out as it came, and is composed as soon as it is not: without a gap, from keyframe to
//! keyframe, and never with a word of complaint from who decodes it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use jamcast::model::id::SourceId;
use jamcast::model::id::TrackId;
use jamcast::model::media::Codec;
use jamcast::model::media::EncodedFrame;
use jamcast::model::scene::Scene;
use jamcast::proto::flv;
use jamcast::proto::flv::Tag;
use jamcast::proto::flv::TagKind;
use jamcast::proto::h264::Depacketizer;
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
        while !gateway.heard(|heard| enough(heard, &self.pictures)) {
            assert!(self.next < self.track.packets.len(), "never heard {what}");
            let arrival_us = self.next_at();
            wait_until_us(arrival_us);
            let packet = self.track.packets[self.next].1.clone();
            gateway.send(&ToMixer::Rtp(TappedPacket { track: TrackId(1), arrival_us, packet }));
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
        let from = pictures_so_far(gateway);
        self.send_until("its pictures pass", gateway, |heard, pictures| {
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

fn alone(camera: &Camera) -> Scene {
    let mut scene = scene(vec![source(1, Some(&camera.track), None, FULL)]);
    scene.passthrough = Some(SourceId(1));
    scene
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

/// Everything follows what came before it in time, each change begins with a keyframe, and all of it decodes.
fn assert_whole(heard: &Heard, camera: &Camera) {
    let frame = 1_000_000 / u64::from(spec().fps);
    for (n, pair) in heard.video.windows(2).enumerate() {
        let step = pair[1].dts_us.checked_sub(pair[0].dts_us).expect("a step back in time");
        assert!((frame / 2 - 100..=frame * 3 / 2 + 100).contains(&step), "{step} us between {n} and the next");
        let [before, after] = [&pair[0], &pair[1]].map(|frame| camera.is_passed(frame));
        assert!(before == after || pair[1].key, "picture {} is another's and no keyframe", n + 1);
    }
    assert!(heard.video.iter().all(|frame| frame.pts_us == frame.dts_us));
    let apart = heard.audio.windows(2).map(|pair| pair[1].dts_us - pair[0].dts_us).max();
    assert!(apart <= Some(1024 * 1_000_000 / 48_000 + 2), "a gap in the sound: {apart:?} us");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("programme.flv");
    write(heard, &path);
    let decoded = Command::new("ffmpeg")
        .args(["-v", "warning", "-xerror", "-i"])
        .arg(&path)
        .args(["-map", "0:v", "-f", "framemd5", "-fps_mode", "passthrough", "-"])
        .output()
        .expect("ffmpeg");
    assert!(decoded.stderr.is_empty(), "{}", String::from_utf8_lossy(&decoded.stderr));
    let decoded = String::from_utf8_lossy(&decoded.stdout);
    let pictures = decoded.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(pictures, heard.video.len(), "pictures decoded of those sent");
}

/// What is seen from picture `first` on until one of another kind comes.
fn composed_from(heard: &Heard, camera: &Camera, first: usize) -> Vec<Picture> {
    let frames: Vec<_> = heard.video[first..].iter().take_while(|frame| !camera.is_passed(frame)).cloned().collect();
    let (_, config) = heard.changes.iter().rfind(|(from, _)| *from <= first).expect("a configuration");
    look_at(&frames, config)
}

#[test]
fn a_picture_passes_as_it_came_and_is_composed_with_another_and_passes_again() {
    let mut gateway = Gateway::start();
    let guest = video(2, Codec::Vp8, [160, 90], 3000, |_| RED);
    let mut camera = Camera::start();
    gateway.show(&alone(&camera));
    camera.send_until_passed(&mut gateway);
    let mut both = scene(vec![source(1, Some(&camera.track), None, FULL), source(2, Some(&guest), None, CORNER)]);
    both.sources[1].placement.as_mut().expect("a place").z = 1;
    let joined = pictures_so_far(&gateway);
    gateway.show(&both);
    for (_, packet) in &guest.packets {
        let mail = TappedPacket { track: TrackId(2), arrival_us: now_us(), packet: packet.clone() };
        gateway.send(&ToMixer::Rtp(mail));
    }
    camera.send_ms(&mut gateway, 1500);
    let left = pictures_so_far(&gateway);
    gateway.show(&alone(&camera));
    camera.send_until_passed(&mut gateway);
    let heard = gateway.finish();
    assert_whole(&heard, &camera);
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
    gateway.show(&scene(vec![]));
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
    let mut wanted = scene(vec![source(1, Some(&small), None, FULL)]);
    wanted.passthrough = Some(SourceId(1));
    gateway.show(&wanted);
    play(&mut gateway, &[&small], 4000, |_, _| false);
    let heard = gateway.finish();
    heard.assert_gapless();
}
