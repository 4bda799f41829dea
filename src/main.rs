//! The `jamcast` binary.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

fn main() -> anyhow::Result<()> {
    if std::env::args().nth(1).as_deref() == Some("mixer") {
        jamcast::mixer::confine()?;
        let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
        jamcast::mixer::run(UnixStream::from(socket))?;
    }
    Ok(())
}
