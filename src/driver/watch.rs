//! Sockets that are watched for one direction.
//!
//! `tokio`'s own sockets are watched for both, and of UDP and Unix sockets the kernel says that there is room again each time something
//! has left: a wake for each datagram and each message, of a thread that nearly never waits for room.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A socket that does not block, and wakes who waits for this direction only.
///
/// # Errors
/// The runtime takes no more sockets.
#[expect(deprecated, reason = "its successor is unsafe, for who is not `AsFd` could change its file meanwhile")]
pub(super) fn watch<T: AsFd + AsRawFd>(socket: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(socket, interest)
}
