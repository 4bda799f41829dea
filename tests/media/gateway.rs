//! A gateway as small as can be: a mixer in a thread, and everything it says.

use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use bytes::BytesMut;
use jamcast::mixer;
use jamcast::model::id::SourceId;
use jamcast::model::media::CodecConfig;
use jamcast::model::media::EncodedFrame;
use jamcast::model::media::MediaKind;
use jamcast::model::media::OpusPacket;
use jamcast::model::scene::Continues;
use jamcast::model::scene::Placement;
use jamcast::model::scene::Rect;
use jamcast::model::scene::Scene;
use jamcast::model::scene::Source;
use jamcast::model::spec::ProgrammeSpec;
use jamcast::proto::mixer::Control;
use jamcast::proto::mixer::FromMixer;
use jamcast::proto::mixer::Report;
use jamcast::proto::mixer::ToMixer;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use rustix::time::ClockId;
use rustix::time::clock_gettime;

use crate::sender::Track;

/// The gateway's own program, which is the mixer as well.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_jamcast");

/// One mixer at a time: two cores cannot encode ten programmes in real time.
static TURN: Mutex<()> = Mutex::new(());

/// Everything a mixer said.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) config: Option<CodecConfig>,
    pub(crate) configs: usize,
    /// Each configuration, and from which picture on it holds.
    pub(crate) changes: Vec<(usize, CodecConfig)>,
    pub(crate) video: Vec<EncodedFrame>,
    /// How many frames of sound came before each of those.
    pub(crate) sounds_before: Vec<usize>,
    pub(crate) audio: Vec<EncodedFrame>,
    pub(crate) preview: Vec<OpusPacket>,
    pub(crate) reports: Vec<Report>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Ear {
    heard: Mutex<Heard>,
    news: Condvar,
}

pub(crate) struct Gateway {
    socket: UnixStream,
    ear: Arc<Ear>,
    reader: JoinHandle<()>,
    mixer: Option<JoinHandle<Result<(), mixer::Error>>>,
    /// `None` beside another whose turn it is.
    _turn: Option<MutexGuard<'static, ()>>,
}

/// Small enough for a loaded machine: 640 x 360 at 30 fps.
pub(crate) fn spec() -> ProgrammeSpec {
    ProgrammeSpec { width: 640, height: 360, video_kbps: 1000, ..ProgrammeSpec::default() }
}

pub(crate) fn scene(sources: Vec<Source>) -> Scene {
    Scene { programme: spec(), sources, ..Scene::default() }
}

/// A source with the given tracks; the picture fills `rect` as (x, y, width, height).
pub(crate) fn source(id: u32, video: Option<&Track>, audio: Option<&Track>, rect: [u32; 4]) -> Source {
    let [x, y, width, height] = rect;
    Source {
        video: video.map(Track::wanted),
        audio: audio.map(Track::wanted),
        placement: Some(Placement { rect: Rect { x, y, width, height }, z: 0 }),
        ..Source::new(SourceId(id), format!("source {id}"))
    }
}

pub(crate) fn now_us() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

pub(crate) fn wait_until_us(at: u64) {
    while let Some(left) = at.checked_sub(now_us()).filter(|left| *left > 0) {
        std::thread::park_timeout(Duration::from_micros(left));
    }
}

/// Stops a mixer's process for three seconds: longer than what is composed and mixed late.
pub(crate) fn stand_still(mixer: &Child) {
    let pid = Pid::from_child(mixer);
    kill_process(pid, Signal::STOP).expect("it runs");
    wait_until_us(now_us() + 3_000_000);
    kill_process(pid, Signal::CONT).expect("it is there");
}

/// A test's turn, for those that start their mixer themselves.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gateway {
    /// A mixer in a thread of this process.
    pub(crate) fn start() -> Self {
        Self::with_mixer(Some(turn()))
    }

    /// A second mixer, in the turn of this one.
    pub(crate) fn beside(&self) -> Self {
        Self::with_mixer(None)
    }

    fn with_mixer(turn: Option<MutexGuard<'static, ()>>) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let mixer = std::thread::spawn(move || mixer::run(&theirs));
        Self::listening(ours, Some(mixer), turn)
    }

    /// A mixer in a process of its own, which can be killed.
    pub(crate) fn of_process() -> (Child, Self) {
        let mut mixer = Command::new(PROGRAM);
        mixer.arg("mixer");
        Self::of(mixer)
    }

    /// The same of another command.
    pub(crate) fn of(mut mixer: Command) -> (Child, Self) {
        let turn = turn();
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let child = mixer.stdin(Stdio::from(OwnedFd::from(theirs))).spawn().expect("the mixer starts");
        (child, Self::listening(ours, None, Some(turn)))
    }

    fn listening(
        socket: UnixStream,
        mixer: Option<JoinHandle<Result<(), mixer::Error>>>,
        turn: Option<MutexGuard<'static, ()>>,
    ) -> Self {
        let ear = Arc::new(Ear::default());
        let reading = socket.try_clone().expect("a second handle");
        let listening = Arc::clone(&ear);
        let reader = std::thread::spawn(move || listen(reading, &listening));
        Self { socket, ear, reader, mixer, _turn: turn }
    }

    pub(crate) fn send(&mut self, message: &ToMixer) {
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes);
        self.socket.write_all(&bytes).expect("the mixer reads");
    }

    pub(crate) fn control(&mut self, control: Control) {
        self.send(&ToMixer::Control(control));
    }

    pub(crate) fn show(&mut self, scene: &Scene) {
        self.control(Control::Scene { scene: Box::new(scene.clone()) });
    }

    /// Waits until what was heard satisfies `enough`.
    pub(crate) fn wait(&self, what: &str, enough: impl Fn(&Heard) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut heard = self.ear.heard.lock().expect("not poisoned");
        while !enough(&heard) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !heard.closed, "never heard {what}: {:?}", heard.reports);
            heard = self.ear.news.wait_timeout(heard, left).expect("not poisoned").0;
        }
    }

    /// What was heard so far.
    pub(crate) fn heard<T>(&self, look: impl Fn(&Heard) -> T) -> T {
        look(&self.ear.heard.lock().expect("not poisoned"))
    }

    /// Waits until so many milliseconds of programme were heard since it began.
    pub(crate) fn wait_ms(&self, ms: u64) {
        self.wait("enough pictures", |heard| heard.video.len() as u64 * 1000 >= ms * u64::from(spec().fps));
    }

    /// Ends the mixer properly and gives all that was heard.
    pub(crate) fn finish(mut self) -> Heard {
        self.control(Control::Finish);
        self.wait("Finished", |heard| heard.reports.contains(&Report::Finished));
        if let Some(mixer) = self.mixer.take() {
            mixer.join().expect("no panic").expect("no error");
        }
        self.listen_to_the_end()
    }

    /// Is gone from one moment to the next, as after `kill -9`.
    pub(crate) fn die(self) -> Heard {
        self.socket.shutdown(Shutdown::Both).expect("it was open");
        self.listen_to_the_end()
    }

    /// All that was heard by the time the other end is gone.
    pub(crate) fn listen_to_the_end(self) -> Heard {
        self.reader.join().expect("no panic");
        std::mem::take(&mut *self.ear.heard.lock().expect("not poisoned"))
    }

    /// The mixer's own end, for a mixer that is expected to fail.
    pub(crate) fn result(mut self) -> (Result<(), mixer::Error>, Heard) {
        let result = self.mixer.take().expect("in this process").join().expect("no panic");
        (result, self.listen_to_the_end())
    }
}

fn listen(mut socket: UnixStream, ear: &Ear) {
    let mut input = BytesMut::new();
    let mut chunk = vec![0; 65_536];
    loop {
        let count = socket.read(&mut chunk).unwrap_or(0);
        input.extend_from_slice(&chunk[..count]);
        let mut heard = ear.heard.lock().expect("not poisoned");
        while let Some(message) = FromMixer::decode(&mut input).expect("well formed") {
            match message {
                FromMixer::Config(config) => {
                    let from = heard.video.len();
                    heard.changes.push((from, config.clone()));
                    heard.config = Some(config);
                    heard.configs += 1;
                }
                FromMixer::Frame(frame) => {
                    assert!(heard.config.is_some(), "a frame before its configuration");
                    match frame.kind {
                        MediaKind::Video => {
                            let sounds = heard.audio.len();
                            heard.sounds_before.push(sounds);
                            heard.video.push(frame);
                        }
                        MediaKind::Audio => heard.audio.push(frame),
                    }
                }
                FromMixer::Preview(sound) => heard.preview.push(sound),
                FromMixer::Report(report) => heard.reports.push(report),
            }
        }
        heard.closed = count == 0;
        drop(heard);
        ear.news.notify_all();
        if count == 0 {
            return;
        }
    }
}

impl Heard {
    /// Where a mixer that stood by goes on behind this one.
    pub(crate) fn newest(&self) -> Continues {
        let newest = |frames: &[EncodedFrame]| frames.last().expect("it was on air").dts_us;
        Continues { picture_us: newest(&self.video), sound_us: newest(&self.audio) }
    }

    /// What two mixers made, one after the other, as one programme.
    pub(crate) fn and_then(mut self, next: Self) -> Self {
        let (pictures, sounds) = (self.video.len(), self.audio.len());
        self.changes.extend(next.changes.into_iter().map(|(from, config)| (pictures + from, config)));
        self.video.extend(next.video);
        self.sounds_before.extend(next.sounds_before.into_iter().map(|before| sounds + before));
        self.audio.extend(next.audio);
        Self { config: next.config, configs: self.configs + next.configs, ..self }
    }

    /// Every frame follows the last by exactly one frame's time, in picture and sound.
    pub(crate) fn assert_gapless(&self) {
        let frame = 1_000_000 / u64::from(spec().fps);
        let holes = |frames: &[EncodedFrame], length: u64| -> Vec<(usize, i64)> {
            frames
                .windows(2)
                .enumerate()
                .map(|(at, pair)| (at, pair[1].pts_us as i64 - pair[0].pts_us as i64))
                .filter(|(_, step)| (step - length as i64).abs() > 2)
                .collect()
        };
        assert_eq!(holes(&self.video, frame), [], "gaps between pictures");
        assert_eq!(holes(&self.audio, 1024 * 1_000_000 / 48_000), [], "gaps in the sound");
        assert!(self.video.iter().all(|frame| frame.pts_us == frame.dts_us), "no B-frames");
        let end = |frames: &[EncodedFrame]| frames.last().expect("frames").pts_us as i64;
        let apart = end(&self.video) - end(&self.audio);
        assert!(apart.abs() < 300_000, "the picture ends {apart} us after the sound");
        assert_eq!(self.configs, 1);
    }
}
