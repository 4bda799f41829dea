//! The recording: a clean file after a clean end, a playable one after a murder, and never another's overwritten.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use jamcast::mixer;
use jamcast::proto::mixer::Report;

use crate::gateway::Gateway;
use crate::gateway::scene;
use crate::gateway::turn;

/// Length in seconds as ffprobe tells it; decoding the whole file must give no word of complaint.
fn length_of(path: &Path) -> f64 {
    let check = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-f", "null", "-"])
        .output()
        .expect("ffmpeg");
    assert!(check.status.success() && check.stderr.is_empty(), "{}", String::from_utf8_lossy(&check.stderr));
    let probe = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-count_packets",
            "-select_streams",
            "v",
            "-show_entries",
            "stream=nb_read_packets",
            "-of",
            "csv=p=0",
        ])
        .arg(path)
        .output()
        .expect("ffprobe");
    assert!(probe.stderr.is_empty(), "{}", String::from_utf8_lossy(&probe.stderr));
    let packets = String::from_utf8_lossy(&probe.stdout).trim().trim_end_matches(',').parse::<f64>().expect("a number");
    packets / 30.0
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

#[test]
fn a_mixer_process_is_confined_and_leaves_a_playable_recording_when_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("jam.mp4");
    let turn = turn();
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    let mut child = Command::new(env!("CARGO_BIN_EXE_jamcast"))
        .arg("mixer")
        .env(mixer::FOLDER, folder.path())
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .expect("the mixer starts");
    let mut gateway = Gateway::over(ours, None, turn);
    let mut wanted = scene(vec![]);
    wanted.recording = Some(path.to_str().expect("text").to_owned());
    gateway.show(&wanted);
    gateway.wait_ms(3500);
    let process = PathBuf::from(format!("/proc/{}", child.id()));
    let status = std::fs::read_to_string(process.join("status")).expect("it runs");
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    let limits = std::fs::read_to_string(process.join("limits")).expect("it runs");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    assert!(core.split_whitespace().any(|word| word == "0"), "{core}");
    child.kill().expect("killed");
    child.wait().expect("reaped");
    let heard = gateway.listen_to_the_end();
    heard.assert_gapless();
    let length = length_of(&path);
    let programme = heard.video.len() as f64 / 30.0;
    assert!(programme - length <= 1.2, "{length} s of {programme} s were saved");
}
