//! Mixer children: starts `jamcast mixer` with its end of a socketpair as standard input, carries its messages, and reaps it.

mod socket;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use rustix::process::Pid;
use rustix::process::Signal;
use serde::Deserialize;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::BufReader;
use tokio::process::Child;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use tracing::Span;
use tracing::debug;
use tracing::error;
use tracing::info;
use tracing::warn;

use crate::driver::mixer::socket::CHUNK;
use crate::driver::mixer::socket::Reading;
use crate::driver::mixer::socket::Writing;
use crate::live::port::MixerError;
use crate::live::port::MixerLink;
use crate::live::port::Mixers;
use crate::model::encoder::Encoder;
use crate::model::id::StreamId;
use crate::proto::mixer::Control;
use crate::proto::mixer::FromMixer;
use crate::proto::mixer::Probe;
use crate::proto::mixer::Report;
use crate::proto::mixer::ToMixer;

/// Packets and control messages on their way to a mixer: about one second of four musicians' sound and picture.
const COMMANDS: usize = 2048;

/// Frames and reports on their way from a mixer: about three seconds of programme. When they are not taken the mixer waits.
const EVENTS: usize = 256;

/// The longest piece of a log line taken at once.
const LOG_LINE: u64 = 4096;

/// What a dead child wrote last is read within this time; its grandchildren (GStreamer's plugin scanner) may hold the socket open.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// All pipelines and encoders are tried well within this time, also where GStreamer looks at its plugins for the first time.
const PROBE: Duration = Duration::from_secs(30);

/// Bytes of a pipeline description: ours have 1 KB.
const MAX_DESCRIPTION: u64 = 16 << 10;

/// Tells a mixer where it may write; its confinement holds it to that.
const FOLDER: &str = "JAMCAST_MIXER_FOLDER";

/// Variables a mixer inherits beside `GST_*`: what GStreamer needs to find its plugins and its cache, and how much to log.
const INHERITED: [&str; 8] =
    ["PATH", "HOME", "XDG_CACHE_HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH", "LOG_LEVEL", "RUST_BACKTRACE"];

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The executable; this very one if not given.
    pub program: Option<PathBuf>,
    /// What it is called with.
    pub arguments: Vec<String>,
    pub encoder: Encoder,
    /// Folder of pipeline descriptions (`*.txt`) that are used instead of ours of the same names.
    pub pipelines: Option<PathBuf>,
    /// Whether each stream has a second mixer that stands by, for the price of its decoding.
    pub standby: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            program: None,
            arguments: vec!["mixer".to_owned()],
            encoder: Encoder::default(),
            pipelines: None,
            standby: false,
        }
    }
}

/// Starts mixers as child processes.
pub struct MixerProcesses {
    config: Config,
    /// The operator's descriptions as they were when the gateway started: a file that is being edited breaks no broadcast.
    own: BTreeMap<String, String>,
    recordings: PathBuf,
    tracker: TaskTracker,
}

/// The operator's pipeline descriptions cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PipelinesError {
    #[error("the folder {0} cannot be read; set mixer.pipelines to a folder of descriptions, or leave it out")]
    Folder(PathBuf, #[source] io::Error),
    #[error("{0} is no text of at most {MAX_DESCRIPTION} bytes")]
    File(PathBuf, #[source] io::Error),
}

/// Nobody knows what mixers can do here.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error(transparent)]
    Start(#[from] MixerError),
    #[error("{0}")]
    Failed(String),
    #[error("the mixer does not answer")]
    Silent,
}

impl MixerProcesses {
    /// They may write to the folder `recordings` and to no other.
    ///
    /// # Errors
    /// When the operator's pipeline descriptions cannot be read.
    pub fn new(config: Config, recordings: PathBuf, tracker: TaskTracker) -> Result<Self, PipelinesError> {
        let own = config.pipelines.as_deref().map(read_descriptions).transpose()?.unwrap_or_default();
        Ok(Self { config, own, recordings, tracker })
    }

    /// Has a mixer try all its pipelines and encoders.
    ///
    /// # Errors
    /// When it cannot be started or does not answer in time.
    pub async fn probe(&self) -> Result<Probe, ProbeError> {
        let mut link = self.spawn(&tracing::info_span!("probe"))?;
        let asked = link.commands.send(ToMixer::Control(Control::Probe)).await;
        asked.map_err(|_| ProbeError::Silent)?;
        let answer = async {
            while let Some(said) = link.events.recv().await {
                match said {
                    FromMixer::Report(Report::Probed(probe)) => return Ok(probe),
                    FromMixer::Report(Report::Failed { reason }) => return Err(ProbeError::Failed(reason)),
                    FromMixer::Frame(_) | FromMixer::Config(_) | FromMixer::Preview(_) | FromMixer::Report(_) => {}
                }
            }
            Err(ProbeError::Silent)
        };
        tokio::time::timeout(PROBE, answer).await.unwrap_or(Err(ProbeError::Silent))
    }

    fn command(&self) -> io::Result<Command> {
        let program = match &self.config.program {
            Some(program) => program.clone(),
            None => std::env::current_exe()?,
        };
        let inherited = std::env::vars_os().filter(|(name, _)| is_inherited(name));
        let mut command = Command::new(program);
        command
            .args(&self.config.arguments)
            .env_clear()
            .envs(inherited)
            .env(FOLDER, &self.recordings)
            // A group of its own, so that Ctrl-C in a terminal does not reach it before the gateway has finished its stream.
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        Ok(command)
    }
}

fn is_inherited(name: &OsString) -> bool {
    name.to_str().is_some_and(|name| INHERITED.contains(&name) || name.starts_with("GST_"))
}

impl MixerProcesses {
    fn spawn(&self, parent: &Span) -> Result<MixerLink, MixerError> {
        let (ours, theirs) = UnixStream::pair().map_err(MixerError::Spawn)?;
        ours.set_nonblocking(true).map_err(MixerError::Spawn)?;
        let (read, write) = socket::split(ours).map_err(MixerError::Spawn)?;
        let mut command = self.command().map_err(MixerError::Spawn)?;
        let mut child = command.stdin(Stdio::from(OwnedFd::from(theirs))).spawn().map_err(MixerError::Spawn)?;
        // The command holds the child's end of the socket; only without it the socket closes when the child dies.
        drop(command);
        let pid = child.id().expect("a child that has not been waited for has an id");
        let (commands, to_child) = mpsc::channel(COMMANDS);
        let (from_child, events) = mpsc::channel(EVENTS);
        let span = tracing::info_span!(parent: parent, "mixer", pid);
        if let Some(stderr) = child.stderr.take() {
            self.tracker.spawn(log_lines(stderr).instrument(span.clone()));
        }
        let writer = self.tracker.spawn(write_messages(to_child, write).instrument(span.clone()));
        let reader = self.tracker.spawn(read_messages(read, from_child.clone()).instrument(span.clone()));
        metrics::gauge!("jamcast_mixers").increment(1);
        self.tracker.spawn(keep(child, pid, from_child, reader, writer).instrument(span));
        let pipelines = Control::Pipelines { encoder: self.config.encoder, own: self.own.clone() };
        let first = commands.try_send(ToMixer::Control(pipelines));
        first.expect("nothing waits in a new channel, whose other end has just been handed over");
        Ok(MixerLink { pid, commands, events })
    }
}

#[async_trait]
impl Mixers for MixerProcesses {
    async fn start(&self, stream: StreamId) -> Result<MixerLink, MixerError> {
        self.spawn(&tracing::info_span!("broadcast", %stream))
    }

    fn has_standby(&self) -> bool {
        self.config.standby
    }
}

fn read_descriptions(folder: &Path) -> Result<BTreeMap<String, String>, PipelinesError> {
    let unreadable = |error| PipelinesError::Folder(folder.to_owned(), error);
    let mut own = BTreeMap::new();
    for entry in folder.read_dir().map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| name.ends_with(".txt")) else {
            continue;
        };
        let text = read_description(&path).map_err(|error| PipelinesError::File(path.clone(), error))?;
        own.insert(name.to_owned(), text);
    }
    Ok(own)
}

fn read_description(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_DESCRIPTION + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_DESCRIPTION { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(text) }
}

/// Waits for the child's end, or ends it when nobody listens to it any more, and reaps it.
async fn keep(
    mut child: Child,
    pid: u32,
    events: mpsc::Sender<FromMixer>,
    mut reader: JoinHandle<()>,
    writer: JoinHandle<()>,
) {
    let ended = tokio::select! {
        ended = child.wait() => Some(ended),
        () = events.closed() => None,
        // A child that closes its socket is about to exit; one that speaks nonsense is not, and of no use any more.
        _ = &mut reader => tokio::time::timeout(LAST_WORDS, child.wait()).await.ok(),
    };
    match ended {
        Some(Ok(status)) if status.success() => info!("the mixer has ended"),
        Some(Ok(status)) => warn!(%status, "the mixer has died"),
        Some(Err(error)) => warn!(%error, "the mixer cannot be waited for"),
        None => {
            kill_group(pid);
            match child.wait().await {
                Ok(_) => info!("the mixer was not needed any more and is gone"),
                Err(error) => warn!(%error, "the mixer cannot be waited for"),
            }
        }
    }
    metrics::gauge!("jamcast_mixers").decrement(1);
    writer.abort();
    if !reader.is_finished() && tokio::time::timeout(LAST_WORDS, &mut reader).await.is_err() {
        reader.abort();
    }
}

/// Kills the child and what it has started; it has not been waited for, so the number is still its own.
fn kill_group(pid: u32) {
    let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    if let Err(error) = rustix::process::kill_process_group(group, Signal::KILL) {
        warn!(%error, "the mixer cannot be killed");
    }
}

async fn write_messages(mut commands: mpsc::Receiver<ToMixer>, socket: Writing) {
    let mut out = BytesMut::with_capacity(CHUNK);
    while let Some(message) = commands.recv().await {
        message.encode(&mut out);
        // One system call for what has gathered meanwhile.
        while out.len() < CHUNK {
            let Ok(more) = commands.try_recv() else { break };
            more.encode(&mut out);
        }
        if let Err(error) = socket.write_all(&mut out).await {
            info!(%error, "the mixer takes no more messages");
            return;
        }
    }
}

async fn read_messages(mut socket: Reading, events: mpsc::Sender<FromMixer>) {
    let mut input = BytesMut::with_capacity(CHUNK);
    loop {
        loop {
            match FromMixer::decode(&mut input) {
                Ok(Some(message)) => {
                    if events.send(message).await.is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    warn!(%error, "the mixer says what cannot be understood");
                    return;
                }
            }
        }
        match socket.read(&mut input).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                info!(%error, "the mixer's socket is closed");
                return;
            }
        }
    }
}

/// The child's standard error as log lines of ours.
async fn log_lines(stderr: impl AsyncRead + Unpin) {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut stderr).take(LOG_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => pass_on(String::from_utf8_lossy(&line).trim_end()),
        }
    }
}

/// Logs a mixer's line at the level that the mixer gave it; what is not one of its own lines comes from a library and is news.
fn pass_on(line: &str) {
    #[derive(Deserialize)]
    struct Line {
        level: String,
    }
    match serde_json::from_str::<Line>(line).as_ref().map(|line| line.level.as_str()) {
        Ok("ERROR") => error!(target: "jamcast::mixer", "{line}"),
        Ok("WARN") => warn!(target: "jamcast::mixer", "{line}"),
        Ok("DEBUG" | "TRACE") => debug!(target: "jamcast::mixer", "{line}"),
        Ok(_) | Err(_) => info!(target: "jamcast::mixer", "{line}"),
    }
}
