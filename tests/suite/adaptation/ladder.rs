//! An encoder for tests: the same pictures encoded at ten rates beforehand, and a mixer that changes between them at keyframes.

use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use jamcast::model::media::CodecConfig;
use jamcast::model::media::EncodedFrame;
use jamcast::model::media::MediaKind;
use jamcast::proto::mixer::Control;
use jamcast::proto::mixer::FromMixer;
use jamcast::proto::mixer::Report;
use jamcast::proto::mixer::ToMixer;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::publish::fixture::Programme;

/// Video kbit/s between two rungs.
const RUNG: u32 = 125;
const RUNGS: u32 = 20;
const FPS: u64 = 30;
/// Frames between two keyframes: the rate changes at them, within half a second, as that of a real encoder does.
const GROUP: u64 = 15;
/// Sounds of 1024 samples at 48 kHz.
const SOUND_US: u64 = 1024 * 1_000_000 / 48_000;

/// What was played at each rate, and what decoders must know for all of them.
pub(crate) struct Ladder {
    config: CodecConfig,
    /// From the lowest rate; each a list of pictures that loops.
    pictures: Vec<Vec<EncodedFrame>>,
    sounds: Vec<EncodedFrame>,
}

impl Ladder {
    pub(crate) fn encode() -> Self {
        let rungs: Vec<Programme> = (1..=RUNGS).map(|rung| encode(rung * RUNG)).collect();
        let config = rungs[0].config.clone();
        assert!(rungs.iter().all(|rung| rung.config == config), "the rungs need one decoder");
        let of = |programme: &Programme, kind| -> Vec<EncodedFrame> {
            programme.frames.iter().filter(|frame| frame.kind == kind).cloned().collect()
        };
        let sounds = of(&rungs[0], MediaKind::Audio);
        Self { config, pictures: rungs.iter().map(|rung| of(rung, MediaKind::Video)).collect(), sounds }
    }

    fn rung(&self, kbps: u32) -> &[EncodedFrame] {
        &self.pictures[(kbps / RUNG).clamp(1, RUNGS) as usize - 1]
    }
}

fn encode(kbps: u32) -> Programme {
    let rate = format!("{kbps}k");
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30,noise=alls=60:allf=t"])
        .args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", "2"])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p"])
        .args(["-g", &GROUP.to_string(), "-b:v", &rate, "-maxrate", &rate, "-bufsize", &format!("{}k", kbps / 4)])
        .args(["-level", "3.1", "-x264-params", "stitchable=1:scenecut=0:qpmin=1"])
        .args(["-c:a", "aac", "-ac", "2", "-b:a", "128k", "-f", "flv", "-"])
        .output()
        .expect("ffmpeg is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Programme::read(&output.stdout)
}

/// A mixer's life in real time.
pub(crate) async fn play(
    ladder: Arc<Ladder>,
    mut heard: mpsc::Receiver<ToMixer>,
    says: mpsc::Sender<FromMixer>,
    told: Arc<Mutex<Vec<(Instant, u32)>>>,
) -> Option<()> {
    let begun = Instant::now();
    let mut kbps = 0;
    let (mut pictures, mut sounds) = (0_u64, 0_u64);
    let mut rung: &[EncodedFrame] = &[];
    loop {
        let picture_us = pictures * 1_000_000 / FPS;
        let sound_us = sounds * SOUND_US;
        let due = begun + Duration::from_micros(picture_us.min(sound_us));
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(due), if kbps > 0 => {
                let (source, at) = if picture_us <= sound_us {
                    if pictures.is_multiple_of(GROUP) {
                        rung = ladder.rung(kbps);
                    }
                    pictures += 1;
                    (&rung[(pictures - 1) as usize % rung.len()], picture_us)
                } else {
                    sounds += 1;
                    (&ladder.sounds[(sounds - 1) as usize % ladder.sounds.len()], sound_us)
                };
                let frame = EncodedFrame { pts_us: at, dts_us: at, ..source.clone() };
                says.send(FromMixer::Frame(frame)).await.ok()?;
            }
            message = heard.recv() => match message? {
                ToMixer::Control(Control::Scene { scene }) => {
                    if kbps == 0 {
                        says.send(FromMixer::Report(Report::Playing)).await.ok()?;
                        says.send(FromMixer::Config(ladder.config.clone())).await.ok()?;
                    }
                    if kbps != scene.programme.video_kbps {
                        kbps = scene.programme.video_kbps;
                        told.lock().expect("no panic").push((Instant::now(), kbps));
                    }
                }
                ToMixer::Control(Control::SetBitrate { video_kbps }) => {
                    kbps = video_kbps;
                    told.lock().expect("no panic").push((Instant::now(), kbps));
                }
                ToMixer::Control(Control::Finish) => {
                    says.send(FromMixer::Report(Report::Finished)).await.ok()?;
                    return None;
                }
                ToMixer::Control(_) | ToMixer::Rtp(_) | ToMixer::Canvas(_) => {}
            },
        }
    }
}
