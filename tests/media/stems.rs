//! Stems: what each musician sent is in a file of its own, untouched, and all files begin at the same moment.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use jamcast::model::id::SourceId;
use jamcast::model::media::Codec;
use jamcast::model::scene::Stem;
use jamcast::proto::mixer::Report;

use crate::gateway::Gateway;
use crate::gateway::scene;
use crate::gateway::source;
use crate::sender::BLUE;
use crate::sender::RED;
use crate::sender::Track;
use crate::sender::audio;
use crate::sender::play;
use crate::sender::tone;
use crate::sender::video;

/// A click of 5 ms at 250 ms, 750 ms and so on.
const CLICK_EVERY_MS: u64 = 500;

fn clicks(sample: u64) -> [f32; 2] {
    let into = (sample / 48 + CLICK_EVERY_MS / 2) % CLICK_EVERY_MS;
    if into < 5 { tone(2000.0, [0.5, 0.5])(sample) } else { [0.0, 0.0] }
}

fn stem(source: u32, track: &Track, folder: &Path, name: &str) -> Stem {
    let path = folder.join(name).to_str().expect("text").to_owned();
    Stem { source: SourceId(source), track: track.wanted(), path, title: format!("musician-{source}") }
}

/// What a program prints about a file, without a word of complaint.
fn told(program: &str, arguments: &[&str], path: &Path, rest: &[&str]) -> Vec<u8> {
    let output =
        Command::new(program).args(["-v", "error"]).args(arguments).arg(path).args(rest).output().expect(program);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{}: {complaints}", path.display());
    output.stdout
}

fn probed(path: &Path, entries: &str) -> String {
    let told = told("ffprobe", &["-count_packets", "-show_entries", entries, "-of", "csv=p=0"], path, &[]);
    String::from_utf8(told).expect("text").trim().to_owned()
}

/// Where clicks begin, in milliseconds since the first sample: by the times in the file, or by counting samples.
fn heard_at(path: &Path, by_time: bool) -> Vec<f64> {
    let filter: &[&str] = if by_time { &["-af", "aresample=async=1:first_pts=0"] } else { &[] };
    let rest = [&["-map", "0:a"], filter, &["-ac", "1", "-ar", "48000", "-f", "f32le", "-"]].concat();
    let bytes = told("ffmpeg", &["-i"], path, &rest);
    let (samples, _) = bytes.as_chunks::<4>();
    let mut quiet = 48_000;
    let mut at = Vec::new();
    for (n, sample) in samples.iter().enumerate() {
        if f32::from_le_bytes(*sample).abs() > 0.15 {
            if quiet > 4800 {
                at.push(n as f64 / 48.0);
            }
            quiet = 0;
        } else {
            quiet += 1;
        }
    }
    at
}

fn finished(reports: &[Report], path: &Path) -> bool {
    let text = path.to_str().expect("text");
    reports.iter().any(|report| matches!(report, Report::RecordingFinished { path } if path == text))
}

fn zero_of(reports: &[Report], wanted: &Path) -> i64 {
    let wanted = wanted.to_str().expect("text");
    let zero = |report: &Report| {
        let Report::RecordingBegun { path, zero_at_ms } = report else { return None };
        (path == wanted).then_some(*zero_at_ms)
    };
    reports.iter().find_map(zero).expect("it begins")
}

#[test]
fn clicks_of_one_moment_are_at_one_place_in_all_stems_and_in_the_programme() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| -> PathBuf { folder.path().join(name) };
    let mut gateway = Gateway::start();
    let mut ann = audio(1, 5000, clicks);
    let bob = audio(2, 5000, clicks);
    // One packet of Ann's is repeated after 400 ms, long after its turn in the programme.
    ann.packets[100].0 += 400_000_000;
    let mut wanted =
        scene(vec![source(1, None, Some(&ann), [0, 0, 64, 64]), source(2, None, Some(&bob), [64, 0, 64, 64])]);
    wanted.recording = Some(at("jam.mp4").to_str().expect("text").to_owned());
    wanted.stems = vec![stem(1, &ann, folder.path(), "ann.mkv"), stem(2, &bob, folder.path(), "bob.mkv")];
    gateway.show(&wanted);
    // Ann is there from the beginning and closes her microphone for a while; Bob comes later.
    play(&mut gateway, &[&ann, &bob], 5000, |track, index| {
        let pts = track.packets[index].0 / 1_000_000;
        // An encoder's first packet is shorter than it says.
        if track.number == 1 { index == 0 || (2900..3600).contains(&pts) } else { pts < 1600 }
    });
    let heard = gateway.finish();
    heard.assert_gapless();
    let files = ["jam.mp4", "ann.mkv", "bob.mkv"].map(at);
    for file in &files {
        assert!(finished(&heard.reports, file), "{:?}", heard.reports);
    }
    let zeros = files.each_ref().map(|file| zero_of(&heard.reports, file));
    assert!(zeros[1..].iter().all(|zero| (zero - zeros[0]).abs() <= 1), "{zeros:?}");

    let programme = heard_at(&files[0], true);
    let [ann_counted, bob_counted] = [1, 2].map(|n| heard_at(&files[n], false));
    let [ann_timed, bob_timed] = [1, 2].map(|n| heard_at(&files[n], true));
    assert!(ann_timed.len() >= 6 && bob_timed.len() >= 6, "{ann_timed:?} {bob_timed:?}");
    // Bob is heard alone while Ann's microphone is closed; every other click of his has one of Ann's beside it.
    let near = |clicks: &[f64], click: f64, ms: f64| clicks.iter().any(|other| (other - click).abs() <= ms);
    let together = bob_timed.iter().filter(|click| near(&ann_timed, **click, 5.0)).count();
    assert!(together >= bob_timed.len() - 2 && together >= 4, "{ann_timed:?} {bob_timed:?}");
    // The programme ends at once, the stems with the last packet that came.
    let last = programme.last().expect("clicks");
    for click in ann_timed.iter().chain(&bob_timed).filter(|click| **click < last + 100.0) {
        // The programme's own sound may stand half a frame beside its picture.
        assert!(near(&programme, *click, 13.0), "{click} is not in the programme: {programme:?}");
    }
    // Whoever only counts samples finds the same.
    for (counted, timed) in [(&ann_counted, &ann_timed), (&bob_counted, &bob_timed)] {
        assert_eq!(counted.len(), timed.len());
        assert!(counted.iter().zip(timed.iter()).all(|(a, b)| (a - b).abs() <= 5.0), "{counted:?} {timed:?}");
    }
    // What came is there as it came: 250 packets of 20 ms less the 35 of the pause, and silence in their place.
    assert_eq!(probed(&files[1], "stream=codec_name,sample_rate,channels"), "opus,48000,2");
    let dates = [1, 2].map(|n| probed(&files[n], "format_tags=creation_time"));
    assert_eq!(dates[0], dates[1]);
    assert_eq!(probed(&files[2], "format_tags=title"), "musician-2");
}

#[test]
fn cameras_are_recorded_as_they_were_encoded_and_stand_still_until_they_come() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| -> PathBuf { folder.path().join(name) };
    let mut gateway = Gateway::start();
    let vp8 = video(1, Codec::Vp8, [160, 90], 3000, |n| if n % 30 < 15 { RED } else { BLUE });
    let h264 = video(2, Codec::H264, [320, 180], 3000, |n| if n % 30 < 15 { RED } else { BLUE });
    // Only one of them has a place in the programme: a stem needs none.
    let mut unseen = source(2, Some(&h264), None, [0, 0, 64, 64]);
    unseen.placement = None;
    let mut wanted = scene(vec![source(1, Some(&vp8), None, [0, 0, 640, 360]), unseen]);
    wanted.recording = Some(at("jam.mp4").to_str().expect("text").to_owned());
    wanted.stems = vec![stem(1, &vp8, folder.path(), "vp8.mkv"), stem(2, &h264, folder.path(), "h264.mkv")];
    gateway.show(&wanted);
    gateway.wait_ms(1000);
    play(&mut gateway, &[&vp8, &h264], 3000, |_, _| false);
    let heard = gateway.finish();
    heard.assert_gapless();
    for (name, codec, size) in [("vp8.mkv", "vp8", "160,90"), ("h264.mkv", "h264", "320,180")] {
        let file = at(name);
        assert!(finished(&heard.reports, &file), "{:?}", heard.reports);
        // 90 pictures, and the first keyframe once more at zero.
        assert_eq!(probed(&file, "stream=codec_name,width,height,nb_read_packets"), format!("{codec},{size},91"));
        assert_eq!(probed(&file, "format=start_time"), "0.000000");
        let times = probed(&file, "packet=pts_time");
        let times: Vec<f64> = times.lines().map(|line| line.trim_end_matches(',').parse().expect("a time")).collect();
        assert!(times[1] > 0.5 && times[1] < 3.0, "{times:?}");
        assert!(times[1..].windows(2).all(|pair| (0.02..0.05).contains(&(pair[1] - pair[0]))), "{times:?}");
        told("ffmpeg", &["-i"], &file, &["-f", "null", "-"]);
    }
}

#[test]
fn a_stem_that_cannot_be_written_harms_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut gateway = Gateway::start();
    let [ann, bob] = [1, 2].map(|number| audio(number, 1500, clicks));
    let mut wanted =
        scene(vec![source(1, None, Some(&ann), [0, 0, 64, 64]), source(2, None, Some(&bob), [64, 0, 64, 64])]);
    std::fs::write(folder.path().join("ann.mkv"), "yesterday").expect("written");
    wanted.recording = Some(folder.path().join("jam.mp4").to_str().expect("text").to_owned());
    wanted.stems = vec![stem(1, &ann, folder.path(), "ann.mkv"), stem(2, &bob, folder.path(), "bob.mkv")];
    gateway.show(&wanted);
    play(&mut gateway, &[&ann, &bob], 1500, |_, _| false);
    // A stem that is not wanted any more is closed while the rest goes on.
    wanted.stems.truncate(1);
    gateway.show(&wanted);
    let bobs = folder.path().join("bob.mkv");
    gateway.wait("the end of Bob's file", |heard| finished(&heard.reports, &bobs));
    let heard = gateway.finish();
    heard.assert_gapless();
    let failures = heard.reports.iter().filter(|report| matches!(report, Report::RecordingFailed { .. })).count();
    assert_eq!(failures, 1, "{:?}", heard.reports);
    assert!(finished(&heard.reports, &folder.path().join("jam.mp4")));
    assert_eq!(heard_at(&bobs, false).len(), 3);
}
