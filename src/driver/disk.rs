//! How much room is left where recordings are written, looked at off the threads that carry media: a file system may hang.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::warn;

/// Between two looks: at 50 Mbit/s a second is 6 MB, far under what is kept free.
const EVERY: Duration = Duration::from_secs(1);

/// Bytes that this process may still write there; `None` if the file system does not say.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    match rustix::fs::statvfs(folder) {
        Ok(status) => Some(status.f_bavail.saturating_mul(status.f_frsize)),
        Err(error) => {
            warn!(%error, folder = %folder.display(), "the free space cannot be told");
            None
        }
    }
}

/// Keeps `free` and the metric up to date, until nobody asks any more.
pub async fn watch(folder: PathBuf, free: watch::Sender<Option<u64>>) {
    metrics::describe_gauge!("jamcast_recordings_free_bytes", metrics::Unit::Bytes, "Room left for recordings");
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !free.is_closed() {
        ticks.tick().await;
        let folder = folder.clone();
        let bytes = tokio::task::spawn_blocking(move || free_bytes(&folder)).await.unwrap_or_default();
        if let Some(bytes) = bytes {
            metrics::gauge!("jamcast_recordings_free_bytes").set(bytes as f64);
        }
        free.send_replace(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_there_says_how_much_is_free() {
        assert!(free_bytes(Path::new("/")).is_some_and(|bytes| bytes > 0));
        assert_eq!(free_bytes(Path::new("/there/is/no/such/folder")), None);
    }

    #[tokio::test]
    async fn the_watch_ends_with_its_listeners() {
        let (free, seen) = watch::channel(None);
        let watching = tokio::spawn(watch("/".into(), free));
        let mut seen = seen;
        assert!(seen.wait_for(Option::is_some).await.is_ok());
        drop(seen);
        tokio::time::timeout(Duration::from_secs(30), watching).await.expect("it ends").expect("no panic");
    }
}
