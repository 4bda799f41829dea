//! The gateway's end of a mixer's socket, which is watched for room only while it is full.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use bytes::Buf;
use bytes::BytesMut;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::driver::watch::watch;

/// Bytes read or written at one go; a keyframe of 720p is about this large.
pub(super) const CHUNK: usize = 128 << 10;

/// What a mixer says.
pub(super) struct Reading {
    socket: AsyncFd<Arc<UnixStream>>,
    chunk: Box<[u8]>,
}

/// What a mixer is told. It ends when this is dropped.
pub(super) struct Writing {
    socket: Arc<UnixStream>,
    /// The same socket, to be watched for room: one file cannot be watched twice.
    twin: Arc<UnixStream>,
}

/// Both directions of a socket that does not block.
///
/// # Errors
/// The process may not open more files.
pub(super) fn split(socket: UnixStream) -> io::Result<(Reading, Writing)> {
    let socket = Arc::new(socket);
    let twin = Arc::new(socket.try_clone()?);
    let watched = watch(Arc::clone(&socket), Interest::READABLE)?;
    Ok((Reading { socket: watched, chunk: vec![0; CHUNK].into() }, Writing { socket, twin }))
}

impl Reading {
    /// Appends what comes next to `input`; says how many bytes, none at the end. Safe to cancel.
    ///
    /// # Errors
    /// The socket is broken.
    pub(super) async fn read(&mut self, input: &mut BytesMut) -> io::Result<usize> {
        loop {
            let mut ready = self.socket.readable().await?;
            if let Ok(read) = ready.try_io(|socket| socket.get_ref().as_ref().read(&mut self.chunk)) {
                let length = read?;
                input.extend_from_slice(&self.chunk[..length]);
                if length < CHUNK {
                    // There was no more, so that asking again would be a call for nothing.
                    ready.clear_ready();
                }
                return Ok(length);
            }
        }
    }
}

impl Writing {
    /// Writes and empties `out`.
    ///
    /// # Errors
    /// The mixer has closed the socket.
    pub(super) async fn write_all(&self, out: &mut BytesMut) -> io::Result<()> {
        while !out.is_empty() {
            match self.socket.as_ref().write(out) {
                Ok(length) => out.advance(length),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.room().await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn room(&self) -> io::Result<()> {
        watch(Arc::clone(&self.twin), Interest::WRITABLE)?.writable().await.map(drop)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // Who has closed the other end already knows.
        let _already_closed = self.socket.shutdown(Shutdown::Write);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn more_than_the_socket_holds_comes_whole_and_in_order_and_then_the_end() {
        // It would wait for ever for what is lost.
        tokio::time::timeout(Duration::from_secs(20), carry()).await.expect("all of it comes");
    }

    async fn carry() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        [&ours, &theirs].iter().for_each(|socket| socket.set_nonblocking(true).expect("settable"));
        let (mut near, told) = split(ours).expect("registered");
        let (far, writing) = split(theirs).expect("registered");
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let mut out = BytesMut::from(sent.as_slice());
        let writer = tokio::spawn(async move { writing.write_all(&mut out).await.map(|()| out.len()) });
        let mut input = BytesMut::new();
        while input.len() < sent.len() {
            assert_ne!(near.read(&mut input).await.expect("readable"), 0);
        }
        assert_eq!(writer.await.expect("no panic").expect("written"), 0);
        assert!(input == sent);
        assert_eq!(near.read(&mut input).await.expect("readable"), 0, "nothing more is written");
        drop(far);
        let refused = told.write_all(&mut BytesMut::from("late")).await;
        assert_eq!(refused.map_err(|error| error.kind()), Err(io::ErrorKind::BrokenPipe));
    }
}
