//! What touches the world: sockets, processes, disks and databases.

pub mod disk;
pub mod identity;
pub mod ingest;
pub mod mixer;
pub mod objects;
pub mod publish;
pub mod rtc;
pub mod secret_file;
pub mod store;
pub mod vault;
mod watch;
