//! A short programme as an encoder makes it, and the look at what a server received of it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jamcast::driver::publish;
use jamcast::driver::publish::Dialer;
use jamcast::live::destination::Config;
use jamcast::live::destination::Destination;
use jamcast::live::fanout::Fanout;
use jamcast::live::snapshot::DestinationState;
use jamcast::model::id::DestinationId;
use jamcast::model::media::CodecConfig;
use jamcast::model::media::EncodedFrame;
use jamcast::model::media::MediaKind;
use jamcast::model::secret::StreamKey;
use jamcast::model::spec::DestinationSpec;
use jamcast::model::spec::ProgrammeSpec;
use jamcast::model::spec::RtmpEndpoint;
use tokio_util::task::TaskTracker;

/// A key that must never be seen outside of the connection.
pub(crate) const CANARY: &str = "canary-7f3a-key";

pub(crate) const SOURCES: [&str; 8] =
    ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"];
pub(crate) const ENCODERS: [&str; 20] = [
    "-t",
    "4",
    "-c:v",
    "libx264",
    "-preset",
    "ultrafast",
    "-tune",
    "zerolatency",
    "-g",
    "30",
    "-pix_fmt",
    "yuv420p",
    "-c:a",
    "aac",
    "-ac",
    "2",
    "-b:a",
    "128k",
    "-f",
    "flv",
];

/// Four seconds of picture and sound.
pub(crate) struct Programme {
    pub(crate) config: CodecConfig,
    pub(crate) frames: Vec<EncodedFrame>,
}

impl Programme {
    pub(crate) fn encode() -> Self {
        let output = Command::new("ffmpeg")
            .args(["-v", "error"])
            .args(SOURCES)
            .args(ENCODERS)
            .arg("-")
            .output()
            .expect("ffmpeg is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self::read(&output.stdout)
    }

    /// Reads an FLV file (Adobe's specification 10.1, section E.4).
    pub(crate) fn read(file: &[u8]) -> Self {
        let mut rest = &file[13..];
        let (mut avc, mut aac, mut frames) = (Bytes::new(), Bytes::new(), Vec::new());
        while let Some(header) = rest.first_chunk::<11>() {
            let length = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
            let dts_us = 1000 * u64::from(u32::from_be_bytes([header[7], header[4], header[5], header[6]]));
            let body = &rest[11..11 + length];
            rest = &rest[11 + length + 4..];
            match (header[0], body) {
                (9, [_, 0, _, _, _, record @ ..]) => avc = Bytes::copy_from_slice(record),
                (8, [_, 0, record @ ..]) => aac = Bytes::copy_from_slice(record),
                (9, [first, 1, a, b, c, data @ ..]) => frames.push(EncodedFrame {
                    kind: MediaKind::Video,
                    pts_us: dts_us + 1000 * u64::from(u32::from_be_bytes([0, *a, *b, *c])),
                    dts_us,
                    key: first >> 4 == 1,
                    data: Bytes::copy_from_slice(data),
                }),
                (8, [_, 1, data @ ..]) => frames.push(EncodedFrame {
                    kind: MediaKind::Audio,
                    pts_us: dts_us,
                    dts_us,
                    key: true,
                    data: Bytes::copy_from_slice(data),
                }),
                _ => {}
            }
        }
        frames.sort_by_key(|frame| (frame.dts_us, frame.kind == MediaKind::Audio));
        // The encoder's priming sound lies before the first picture, where a broadcast cannot begin.
        let first = frames.iter().position(|frame| frame.kind == MediaKind::Video).expect("a picture");
        frames.drain(..first);
        Self { config: CodecConfig { avc, aac }, frames }
    }

    pub(crate) fn count(&self, kind: MediaKind) -> usize {
        self.frames.iter().filter(|frame| frame.kind == kind).count()
    }

    /// Sends all of it to a server by the real dialler, at twice its speed, and says goodbye.
    pub(crate) async fn publish_to(&self, endpoint: RtmpEndpoint, config: publish::Config) {
        let dialer = Dialer::new(config, Arc::new(|_, address| address.ip().is_loopback())).expect("a dialler");
        let fanout = Fanout::new();
        fanout.set_config(self.config.clone());
        let tracker = TaskTracker::new();
        let destination = Destination::start(
            spec(endpoint),
            StreamKey::new(CANARY.to_owned()).expect("well formed"),
            &Config::default(),
            ProgrammeSpec { width: 320, height: 180, ..ProgrammeSpec::default() },
            Arc::new(dialer),
            fanout.subscribe(),
            &tracker,
        );
        let mut snapshot = destination.snapshot();
        let accepted = snapshot.wait_for(|snapshot| snapshot.state == DestinationState::Publishing);
        let waited = tokio::time::timeout(Duration::from_secs(10), accepted).await.map(|state| state.is_ok());
        assert_eq!(waited, Ok(true), "{:?}", destination.snapshot().borrow());
        let begun = tokio::time::Instant::now();
        for frame in &self.frames {
            tokio::time::sleep_until(begun + Duration::from_micros(frame.dts_us / 2)).await;
            fanout.push(frame);
        }
        let all = self.frames.len() as u64;
        let sent = snapshot.wait_for(|snapshot| snapshot.frames_sent == all);
        let sent = tokio::time::timeout(Duration::from_secs(10), sent).await.is_ok();
        assert!(sent, "of {all}: {:?}", destination.snapshot().borrow());
        assert_eq!(destination.snapshot().borrow().dropped_frames, 0);
        destination.stop().await;
    }
}

pub(crate) fn spec(endpoint: RtmpEndpoint) -> DestinationSpec {
    DestinationSpec {
        id: DestinationId::generate(),
        name: "test".into(),
        platform: "custom".into(),
        endpoint,
        primary: false,
        backup: None,
    }
}

pub(crate) fn endpoint(tls: bool, host: &str, port: u16) -> RtmpEndpoint {
    RtmpEndpoint { tls, host: host.to_owned(), port, app: "live".to_owned() }
}

/// What `ffprobe` decodes of a file: pictures and sounds. Any complaint of it fails the test.
pub(crate) fn probe(file: &Path) -> (usize, usize) {
    let output = Command::new("ffprobe")
        .args([
            "-v",
            "warning",
            "-count_frames",
            "-show_entries",
            "stream=codec_name,nb_read_frames,width",
            "-of",
            "json",
        ])
        .arg(file)
        .output()
        .expect("ffprobe is installed");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{}", file.display());
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let frames = |codec: &str| {
        let streams = report["streams"].as_array().expect("streams");
        let stream = streams.iter().find(|stream| stream["codec_name"] == codec).expect(codec);
        stream["nb_read_frames"].as_str().and_then(|count| count.parse().ok()).expect("a count")
    };
    (frames("h264"), frames("aac"))
}

/// The files of a folder with this ending.
pub(crate) fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "flv"));
    files.sort();
    files
}
