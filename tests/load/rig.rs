//! A mixer on the bench: a child process that makes a programme of what it is fed, and what that costs it.

use std::collections::BTreeMap;
use std::io::Read;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use bytes::BytesMut;
use jamcast::model::encoder::Encoder;
use jamcast::model::media::MediaKind;
use jamcast::model::scene::Scene;
use jamcast::proto::mixer::Control;
use jamcast::proto::mixer::FromMixer;
use jamcast::proto::mixer::ToMixer;

/// The first seconds are start-up: plugins load, decoders wait for keyframes.
pub(crate) const WARM_UP: Duration = Duration::from_secs(4);

/// A running mixer. It is killed when the measurement ends, however it ends.
pub(crate) struct Rig {
    child: Child,
    socket: UnixStream,
    input: BytesMut,
    writer: Writer,
}

/// The way to a mixer; whoever feeds it holds one.
#[derive(Clone)]
pub(crate) struct Writer(Arc<Mutex<UnixStream>>);

/// What a mixer has done.
pub(crate) struct Effort {
    /// CPU seconds, user and system, for a minute of programme.
    pub(crate) cpu: f64,
    /// Pictures made in the time that was measured.
    pub(crate) frames: u64,
}

impl Rig {
    /// `own` are an operator's descriptions of pipelines, by the names of their files.
    pub(crate) fn start(mixer: &Path, own: BTreeMap<String, String>, scene: Scene) -> Result<Self> {
        let (socket, child_end) = UnixStream::pair()?;
        let child = Command::new(mixer)
            .arg("mixer")
            .stdin(Stdio::from(OwnedFd::from(child_end)))
            .stderr(Stdio::null())
            .spawn()?;
        let writer = Writer(Arc::new(Mutex::new(socket.try_clone()?)));
        writer.send(&ToMixer::Control(Control::Pipelines { encoder: Encoder::X264, own }));
        writer.send(&ToMixer::Control(Control::Scene { scene: Box::new(scene) }));
        Ok(Self { child, socket, input: BytesMut::new(), writer })
    }

    pub(crate) fn writer(&self) -> Writer {
        self.writer.clone()
    }

    /// Lets it warm up and then measures it for so long.
    pub(crate) fn measure(mut self, length: Duration) -> Result<Effort> {
        self.listen(WARM_UP, |_| {})?;
        let (at, before) = (Instant::now(), cpu_of(self.child.id())?);
        let mut frames = 0;
        self.listen(length, |message| {
            frames += u64::from(matches!(message, FromMixer::Frame(frame) if frame.kind == MediaKind::Video));
        })?;
        let used = cpu_of(self.child.id())? - before;
        Ok(Effort { cpu: used * 60.0 / at.elapsed().as_secs_f64(), frames })
    }

    /// Hears all that it says for so long, and a moment longer if it says nothing just then.
    pub(crate) fn listen(&mut self, length: Duration, mut hear: impl FnMut(FromMixer)) -> Result<()> {
        let mut chunk = vec![0; 1 << 16];
        let begun = Instant::now();
        while begun.elapsed() < length {
            let read = self.socket.read(&mut chunk)?;
            ensure!(read > 0, "the mixer ended");
            self.input.extend_from_slice(&chunk[..read]);
            while let Some(message) = FromMixer::decode(&mut self.input)? {
                hear(message);
            }
        }
        Ok(())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _gone_already = self.child.wait();
    }
}

impl Writer {
    pub(crate) fn send(&self, message: &ToMixer) {
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes);
        // A mixer that is gone is noticed by the reader.
        let _noticed_elsewhere = self.0.lock().expect("no sender panics").write_all(&bytes);
    }
}

/// CPU seconds a process has used: user and system, from the kernel's ticks of 10 ms.
pub(crate) fn cpu_of(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command's name may hold spaces; the numbers follow its closing bracket.
    let fields: Vec<&str> =
        stat.rsplit_once(')').context("a process's stat has its name in brackets")?.1.split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|f| f.parse::<f64>().ok()).context("a process's stat has its times");
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}
