//! The mixer child process: decodes, composes, mixes, encodes and records one programme. It holds all of GStreamer, no secret, no network.
//!
//! The way of a packet: [`conductor`] reads it from the socket and [`show`] hands it to its [`source`], which has what it holds in its
//! seat when its time comes. Once a frame the [`beat`] has the [`picture`] composed of what is in the seats and mixes the [`sound`], for
//! the encoders of the [`programme`]; [`feed`] and [`outbox`] carry the frames back, and a copy goes to the [`recording`]. [`pipelines`]
//! has the texts that all of it is built from, [`probe`] tries them, and [`sandbox`] takes from the process what it does not need.

#[cfg(any(test, fuzzing))]
pub(crate) mod bare;
mod beat;
mod conductor;
mod error;
mod feed;
mod outbox;
mod picture;
mod pipelines;
mod probe;
mod programme;
mod recording;
mod sandbox;
mod show;
mod sound;
mod source;
mod usage;

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::BytesMut;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::event::poll;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::net::recv;
use rustix::time::ClockId;
use rustix::time::clock_gettime;

pub use crate::mixer::error::Error;
pub use crate::mixer::sandbox::Unconfined;
pub use crate::mixer::sandbox::confine;
pub use crate::mixer::sandbox::settle;

use crate::mixer::conductor::Conductor;
use crate::mixer::conductor::Progress;
use crate::mixer::outbox::Outbox;
use crate::proto::mixer::Report;
use crate::proto::mixer::ToMixer;

/// One second in nanoseconds, the mixer's unit of time.
const SECOND: i64 = 1_000_000_000;
const MILLISECOND: i64 = SECOND / 1000;

/// A gateway that reads nothing for this long is gone: what it has missed by then is more than the outbox holds.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes read at once: a burst of packets of all sources.
const READ: usize = 64 << 10;

/// The widest and highest picture decoded; 16 bytes of RTP can ask for 16 383 x 16 383, which is 400 MB a frame.
const MOST_PIXELS: u32 = 4096;

/// The environment variable that names the folder a mixer process may write recordings to.
pub const FOLDER: &str = "JAMCAST_MIXER_FOLDER";

/// Runs a mixer over its socket to the gateway until the gateway closes it or says `Finish`. Blocks.
///
/// # Errors
/// When the programme cannot go on; the same has been sent as [`Report::Failed`] then.
pub fn run(socket: &UnixStream) -> Result<(), Error> {
    socket.set_nonblocking(false)?;
    socket.set_write_timeout(Some(WRITE_TIMEOUT))?;
    let (outbox, writer) = Outbox::open(socket.try_clone()?)?;
    let mut conductor = Conductor::new(outbox.clone());
    let result = gstreamer::init().map_err(Error::from).and_then(|()| conduct(socket, &mut conductor));
    if let Err(error) = &result {
        tracing::error!(%error, "the mixer ends");
        outbox.report(Report::Failed { reason: error.to_string() });
    }
    conductor.stop();
    writer.drain();
    result
}

fn conduct(socket: &UnixStream, conductor: &mut Conductor) -> Result<(), Error> {
    let mut input = BytesMut::new();
    let mut chunk = vec![0; READ];
    let mut due = monotonic();
    loop {
        // Only this thread must not wait here; the one that writes to the same socket does.
        let taken = match recv(socket, &mut chunk[..], RecvFlags::DONTWAIT) {
            Ok((_, 0)) | Err(Errno::CONNRESET) => return Ok(()),
            Ok((_, count)) => count,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(error) => return Err(io::Error::from(error).into()),
        };
        input.extend_from_slice(&chunk[..taken]);
        while let Some(message) = ToMixer::decode(&mut input)? {
            if conductor.handle(message)? == Progress::Finished {
                return Ok(());
            }
        }
        let now = monotonic();
        if now >= due {
            conductor.advance()?;
            due = now + conductor.tick();
        }
        if taken < READ {
            let pause = (due - monotonic()).max(0);
            if input.is_empty() {
                std::thread::park_timeout(Duration::from_nanos(pause.unsigned_abs()));
            } else {
                // A raw frame is larger than the socket's buffer: its rest is on its way, and there is no room for it yet.
                wait_for_more(socket, pause)?;
            }
        }
    }
}

/// Waits until the socket has something to be read, `most` nanoseconds at most.
fn wait_for_more(socket: &UnixStream, most: i64) -> Result<(), Error> {
    let timeout = Timespec { tv_sec: most / SECOND, tv_nsec: most % SECOND };
    match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(io::Error::from(error).into()),
    }
}

/// What the clock on the wall showed at a monotonic time in nanoseconds, in milliseconds since the Unix epoch.
fn unix_ms(at: i64) -> i64 {
    let wall = clock_gettime(ClockId::Realtime);
    (wall.tv_sec * SECOND + wall.tv_nsec - monotonic() + at) / (SECOND / 1000)
}

/// The machine's monotonic clock, nanoseconds: the same clock GStreamer and the gateway read.
fn monotonic() -> i64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec * SECOND + time.tv_nsec
}
