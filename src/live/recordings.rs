//! Where recordings are written, and when there is too little room for them.

use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use tokio::sync::watch;

use crate::domain::retention::Rule;
use crate::live::port::RecordingRow;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A recording is not begun, and stops, when less than this is free. 0 writes until the disk is full.
    pub min_free_bytes: u64,
    /// Recordings are deleted so many days after they ended; 0 keeps them.
    pub retain_days: u32,
    /// The oldest are deleted when all together have more bytes; 0 knows no limit.
    pub max_total_bytes: u64,
}

impl Config {
    /// What is kept.
    pub fn rule(&self) -> Rule {
        Rule {
            max_age_ms: (self.retain_days > 0).then(|| i64::from(self.retain_days) * 86_400_000),
            max_bytes: (self.max_total_bytes > 0).then_some(self.max_total_bytes),
        }
    }
}

/// Where a file is: directly in the folder, whatever the store says.
pub fn place(folder: &Path, file: &str) -> Option<PathBuf> {
    let name = Path::new(file).file_name()?;
    (name == file).then(|| folder.join(name))
}

impl Default for Config {
    fn default() -> Self {
        // Ten minutes of a 720p broadcast, for the database, the log and the end of every file.
        Self { min_free_bytes: 512 << 20, retain_days: 0, max_total_bytes: 0 }
    }
}

/// The folder of the recordings.
#[derive(Clone, Debug)]
pub struct Folder {
    pub path: PathBuf,
    /// What is free there; `None` while that is not known.
    pub free_bytes: watch::Receiver<Option<u64>>,
    pub min_free_bytes: u64,
}

impl Folder {
    /// A folder that is never found full.
    pub fn without_limit(path: PathBuf) -> Self {
        Self { path, free_bytes: watch::Sender::new(None).subscribe(), min_free_bytes: 0 }
    }

    /// Why nothing may be recorded now.
    pub(crate) fn lack(&self) -> Option<String> {
        let free = (*self.free_bytes.borrow()).filter(|free| *free < self.min_free_bytes)?;
        let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
        Some(format!(
            "the disk is full: {} MB are left, and {} MB are to stay free (recordings.min_free_bytes)",
            megabytes(free),
            megabytes(self.min_free_bytes)
        ))
    }
}

/// The file of a programme's n-th thumbnail, which the mixer writes beside its recording: the first after two seconds, then one each ten.
pub fn thumbnail(folder: &Path, row: &RecordingRow, number: u32) -> Option<PathBuf> {
    let recording = place(folder, &row.file).filter(|_| row.stem.is_none())?;
    Some(folder.join(format!("{}-{number:05}.jpg", recording.file_stem()?.to_str()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_always_in_the_folder() {
        let folder = Path::new("/recordings");
        assert_eq!(place(folder, "a.mp4"), Some("/recordings/a.mp4".into()));
        for bad in ["../a.mp4", "/etc/passwd", "b/a.mp4", "..", ".", ""] {
            assert_eq!(place(folder, bad), None, "{bad:?}");
        }
    }

    #[test]
    fn too_little_room_is_told_in_megabytes() {
        let (free, free_bytes) = watch::channel(None);
        let folder = Folder { path: "/".into(), free_bytes, min_free_bytes: 5_000_000 };
        assert_eq!(folder.lack(), None, "what is not known stops nothing");
        free.send_replace(Some(5_000_000));
        assert_eq!(folder.lack(), None);
        free.send_replace(Some(4_200_001));
        assert!(folder.lack().is_some_and(|reason| reason.contains("5 MB are left")));
    }
}
