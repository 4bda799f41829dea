//! The recording: a clean file after a clean end, a playable one after a murder, and never another's overwritten.

use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;

use jamcast::mixer;
use jamcast::model::media::Codec;
use jamcast::model::media::EncodedFrame;
use jamcast::model::scene::Scene;
use jamcast::proto::mixer::Report;

use crate::gateway::Gateway;
use crate::gateway::Heard;
use crate::gateway::PROGRAM;
use crate::gateway::scene;
use crate::gateway::source;
use crate::sender::RED;
use crate::sender::audio;
use crate::sender::play;
use crate::sender::play_on;
use crate::sender::tone;
use crate::sender::video;

/// Length of the picture in seconds as ffprobe tells it; decoding the whole file must give no word of complaint.
fn length_of(path: &Path) -> f64 {
    let check = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-fps_mode", "passthrough", "-enc_time_base", "-1", "-f", "null", "-"])
        .output()
        .expect("ffmpeg");
    assert!(check.status.success() && check.stderr.is_empty(), "{}", String::from_utf8_lossy(&check.stderr));
    packets_of(path, "v") / 30.0
}

/// Packets of the picture ("v") or the sound ("a").
fn packets_of(path: &Path, kind: &str) -> f64 {
    let probe = Command::new("ffprobe")
        .args(["-v", "error", "-count_packets", "-select_streams", kind])
        .args(["-show_entries", "stream=nb_read_packets", "-of", "csv=p=0"])
        .arg(path)
        .output()
        .expect("ffprobe");
    assert!(probe.stderr.is_empty(), "{}", String::from_utf8_lossy(&probe.stderr));
    String::from_utf8_lossy(&probe.stdout).trim().trim_end_matches(',').parse().expect("a number")
}

#[test]
fn a_recording_is_whole_after_its_end_and_a_changed_path_begins_another() {
    let mut gateway = Gateway::start();
    let folder = tempfile::tempdir().expect("a folder");
    let paths = ["first.mp4", "second.mp4"].map(|name| folder.path().join(name));
    let texts = paths.each_ref().map(|path| path.to_str().expect("text").to_owned());
    let mut wanted = scene(vec![]);
    wanted.recording = Some(texts[0].clone());
    gateway.show(&wanted);
    gateway.wait_ms(1500);
    wanted.recording = Some(texts[1].clone());
    gateway.show(&wanted);
    gateway.wait_ms(3000);
    let heard = gateway.finish();
    heard.assert_gapless();
    for (path, text) in paths.iter().zip(texts) {
        assert!(heard.reports.contains(&Report::RecordingFinished { path: text }), "{:?}", heard.reports);
        let length = length_of(path);
        assert!((1.2..1.9).contains(&length), "{length} s");
    }
    assert!(heard.reports.iter().any(|report| matches!(report, Report::Stats(stats) if stats.recorded_bytes > 1000)));
}

/// Times of all packets of the picture ("v") or the sound ("a"), microseconds, and which of them are keyframes.
pub(crate) fn times(path: &Path, kind: &str) -> Vec<(i64, bool)> {
    let probe = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", kind, "-show_entries", "packet=pts_time,flags", "-of", "csv=p=0"])
        .arg(path)
        .output()
        .expect("ffprobe");
    assert!(probe.stderr.is_empty(), "{}", String::from_utf8_lossy(&probe.stderr));
    let time = |line: &str| {
        let (seconds, flags) = line.split_once(',').expect("two columns");
        ((seconds.parse::<f64>().expect("a time") * 1e6).round() as i64, flags.starts_with('K'))
    };
    String::from_utf8_lossy(&probe.stdout).lines().map(time).collect()
}

/// How much earlier each of a track's packets is due in the file than it was in the programme.
fn shifts(frames: &[EncodedFrame], path: &Path, kind: &str) -> Vec<i64> {
    let copy = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-map", &format!("0:{kind}"), "-c", "copy", "-f", "data", "-"])
        .output()
        .expect("ffmpeg");
    let times = times(path, kind);
    let is_copied =
        |part: &&[EncodedFrame]| part.iter().flat_map(|frame| &frame.data).eq(&copy.stdout) && !part.is_empty();
    let part = frames.windows(times.len()).find(is_copied).expect("what is in the file was in the programme");
    part.iter().zip(times).map(|(frame, (time, _))| frame.pts_us as i64 - time).collect()
}

#[test]
fn sound_and_picture_are_as_far_apart_in_a_recording_as_in_the_programme() {
    let mut gateway = Gateway::start();
    let folder = tempfile::tempdir().expect("a folder");
    let colour = |n: u64| [40 + (n % 64) as u8 * 3, 128, 128];
    let mut tracks = [video(1, Codec::Vp8, [320, 180], 7000, colour), audio(2, 7000, tone(441.7, [0.3, 0.3]))];
    let mut wanted = scene(vec![source(1, Some(&tracks[0]), Some(&tracks[1]), [0, 0, 640, 360])]);
    let paths = ["1.mp4", "2.mp4", "3.mp4", "4.mp4"].map(|name| folder.path().join(name));
    gateway.show(&wanted);
    play_on(&mut gateway, &mut tracks, 1000);
    // They begin at different places of a sound.
    for path in &paths {
        wanted.recording = path.to_str().map(str::to_owned);
        gateway.show(&wanted);
        play_on(&mut gateway, &mut tracks, 1330);
    }
    let heard = gateway.finish();
    for path in &paths {
        let [pictures, sounds] =
            [(&heard.video, "v"), (&heard.audio, "a")].map(|(frames, kind)| shifts(frames, path, kind));
        let all = || pictures[1..].iter().chain(&sounds);
        let (least, most) = (all().min().expect("packets"), all().max().expect("packets"));
        assert!(most - least < 1000, "{path:?}: {least} to {most} us");
        assert!((pictures[0] - least).abs() < 14_000, "the first picture is {} us from its place", pictures[0] - least);
    }
}

#[test]
fn an_existing_file_is_never_overwritten_and_the_programme_goes_on() {
    let mut gateway = Gateway::start();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("jam.mp4");
    std::fs::write(&path, "yesterday").expect("written");
    let text = path.to_str().expect("text").to_owned();
    let mut wanted = scene(vec![]);
    wanted.recording = Some(text.clone());
    gateway.show(&wanted);
    gateway.wait_ms(600);
    let heard = gateway.finish();
    heard.assert_gapless();
    let failed = |report: &Report| matches!(report, Report::RecordingFailed { path, .. } if *path == text);
    assert!(heard.reports.iter().any(failed), "{:?}", heard.reports);
    assert_eq!(std::fs::read(&path).expect("still there"), b"yesterday");
}

/// A mixer in a process of its own that records to `path`, and the test's turn with it.
fn process(path: &Path) -> (Child, Gateway) {
    process_showing(scene(vec![]), path)
}

/// The same with something to show.
pub(crate) fn process_showing(wanted: Scene, path: &Path) -> (Child, Gateway) {
    let mut mixer = Command::new(PROGRAM);
    mixer.arg("mixer");
    recording_to(wanted, path, mixer)
}

fn recording_to(mut wanted: Scene, path: &Path, mut mixer: Command) -> (Child, Gateway) {
    mixer.env(mixer::FOLDER, path.parent().expect("a folder"));
    let (child, mut gateway) = Gateway::of(mixer);
    wanted.recording = Some(path.to_str().expect("text").to_owned());
    gateway.show(&wanted);
    (child, gateway)
}

#[test]
fn a_mixer_process_is_confined() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut child, gateway) = process(&folder.path().join("jam.mp4"));
    gateway.wait_ms(500);
    let process = PathBuf::from(format!("/proc/{}", child.id()));
    let status = std::fs::read_to_string(process.join("status")).expect("it runs");
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    let limits = std::fs::read_to_string(process.join("limits")).expect("it runs");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    assert!(core.split_whitespace().any(|word| word == "0"), "{core}");
    child.kill().expect("killed");
    child.wait().expect("reaped");
    gateway.listen_to_the_end().assert_gapless();
}

/// Seconds of sound and of picture that are in what was heard and not in the file.
pub(crate) fn lost(heard: &Heard, path: &Path) -> [f64; 2] {
    let sound = heard.audio.len() as f64 * 1024.0 / 48_000.0;
    let picture = heard.video.len() as f64 / 30.0;
    [picture - length_of(path), sound - packets_of(path, "a") * 1024.0 / 48_000.0]
}

#[test]
fn a_killed_mixer_leaves_a_recording_that_lacks_less_than_a_second() {
    // At different places between two keyframes, which are 2 s apart, and between two fragments.
    for ms in [2300, 2650, 3900] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("jam.mp4");
        let (mut child, gateway) = process(&path);
        gateway.wait_ms(ms);
        child.kill().expect("killed");
        child.wait().expect("reaped");
        let heard = gateway.listen_to_the_end();
        heard.assert_gapless();
        let lost = lost(&heard, &path);
        assert!(lost.iter().all(|seconds| *seconds <= 1.0), "killed at {ms} ms: {lost:?} s were lost");
    }
}

#[test]
fn a_mixer_whose_gateway_is_killed_closes_its_recording() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("jam.mp4");
    let (mut child, gateway) = process(&path);
    gateway.wait_ms(2500);
    let heard = gateway.die();
    child.wait().expect("it ends by itself");
    let lost = lost(&heard, &path);
    assert!(lost.iter().all(|seconds| *seconds <= 0.2), "{lost:?} s were lost");
}

#[test]
fn a_disk_that_is_full_ends_the_recording_and_the_programme_misses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("jam.mp4");
    // A disk of 96 KiB in a world of its own; where that may not be made, files may not grow beyond as much.
    let small = "mount -t tmpfs -o size=96k none \"$1\" && exec \"$2\" mixer";
    let short = "trap '' XFSZ; ulimit -f 192; exec \"$2\" mixer";
    let may_mount = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    let mounts = may_mount.is_ok_and(|output| output.status.success());
    let mut mixer = if mounts {
        let mut mixer = Command::new("unshare");
        mixer.args(["-rm", "sh", "-c", small]);
        mixer
    } else {
        let mut mixer = Command::new("sh");
        mixer.args(["-c", short]);
        mixer
    };
    mixer.args(["mixer".as_ref(), folder.path().as_os_str(), PROGRAM.as_ref()]);
    let (mut child, gateway) = recording_to(scene(vec![]), &path, mixer);
    let failed = |report: &Report| matches!(report, Report::RecordingFailed { .. });
    gateway.wait("the end of the recording", |heard| heard.reports.iter().any(failed));
    let before = gateway.heard(|heard| heard.video.len());
    gateway.wait_ms(before as u64 * 1000 / 30 + 1500);
    let heard = gateway.finish();
    child.wait().expect("reaped");
    heard.assert_gapless();
    let reasons: Vec<_> = heard.reports.iter().filter(|report| failed(report)).collect();
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    let said =
        |report: &&Report| matches!(report, Report::RecordingFailed { reason, .. } if reason == "the disk is full");
    assert!(!mounts || reasons.iter().any(said), "{reasons:?}");
}

#[test]
fn a_recording_has_small_pictures_of_what_was_seen() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut gateway = Gateway::start();
    let camera = video(1, Codec::Vp8, [640, 360], 3000, |_| RED);
    let mut wanted = scene(vec![source(1, Some(&camera), None, [0, 0, 640, 360])]);
    wanted.recording = Some(folder.path().join("jam.mp4").to_str().expect("text").to_owned());
    gateway.show(&wanted);
    play(&mut gateway, &[&camera], 3000, |_, _| false);
    gateway.finish().assert_gapless();
    let picture = folder.path().join("jam-00000.jpg");
    let decoded = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(&picture)
        .args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
        .output()
        .expect("ffmpeg");
    assert_eq!(decoded.stdout.len(), 320 * 180 * 3, "{}", String::from_utf8_lossy(&decoded.stderr));
    let middle = &decoded.stdout[(90 * 320 + 160) * 3..][..3];
    assert!(middle[0] > 200 && middle[1] < 60 && middle[2] < 60, "{middle:?} is not red");
    assert!(!folder.path().join("jam-00001.jpg").exists(), "one each ten seconds");
}
