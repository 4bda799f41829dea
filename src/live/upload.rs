//! Carries finished recordings to an object store, one after the other, in parts that survive a restart, and tries again for hours.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncSeekExt;
use tracing::error;
use tracing::info;
use tracing::warn;

use crate::domain::upload;
use crate::live::port::ObjectError;
use crate::live::port::Objects;
use crate::live::port::RecordingRow;
use crate::live::port::Store;
use crate::live::port::StoreError;
use crate::live::port::UploadRow;
use crate::live::port::UploadState;
use crate::live::recordings::place;
use crate::live::stream::now_ms;

/// Between two looks for something to do.
const EVERY: Duration = Duration::from_secs(5);

/// Recordings taken up at one look.
const AT_ONCE: u32 = 100;

/// Why one attempt ended.
#[derive(Debug)]
enum Stopped {
    Store(StoreError),
    Object(ObjectError),
    /// The file is not there or cannot be read.
    File(std::io::Error),
}

/// The carrier's tools.
pub struct Uploader {
    pub store: Arc<dyn Store>,
    pub objects: Arc<dyn Objects>,
    pub folder: Arc<Path>,
    /// What every object's name begins with.
    pub prefix: String,
}

impl Uploader {
    /// Carries for as long as it is polled.
    pub async fn run(self) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.round(now_ms()).await {
                Ok(()) => {}
                Err(failure) => error!(error = &failure as &dyn std::error::Error, "uploads cannot be looked after"),
            }
        }
    }

    /// Takes up what has ended since, and carries everything whose time has come at `now_ms`.
    ///
    /// # Errors
    /// When the store fails; the next round goes on from there.
    pub async fn round(&self, now_ms: i64) -> Result<(), StoreError> {
        for row in self.store.recordings_to_upload(AT_ONCE).await? {
            let key = format!("{}{}/{}", self.prefix, row.stream, row.file);
            self.store.set_upload(&UploadRow::waiting(row.id, key, now_ms)).await?;
        }
        while let Some(row) = self.store.next_upload(now_ms).await? {
            self.attempt(row, now_ms).await?;
        }
        Ok(())
    }

    async fn attempt(&self, mut row: UploadRow, now_ms: i64) -> Result<(), StoreError> {
        let Some(recording) = self.store.recording(row.recording).await? else {
            return self.store.delete_upload(row.recording).await;
        };
        row.attempts += 1;
        row.state = UploadState::Uploading;
        self.store.set_upload(&row).await?;
        match self.carry(&mut row, &recording).await {
            Ok(()) => {
                info!(recording = %recording.id, object = row.key, bytes = row.sent_bytes, "a recording is uploaded");
                metrics::counter!("jamcast_uploads_total", "result" => "done").increment(1);
                row.state = UploadState::Done;
                (row.error, row.upload, row.tags) = (None, None, Vec::new());
            }
            Err(Stopped::Store(failure)) => return Err(failure),
            Err(Stopped::File(failure)) => {
                self.give_up(&mut row, format!("the file cannot be read: {failure}")).await;
            }
            Err(Stopped::Object(failure)) => {
                if matches!(failure, ObjectError::UploadGone) {
                    (row.upload, row.sent_bytes) = (None, 0);
                    row.tags.clear();
                }
                match upload::wait_after(row.attempts) {
                    Some(wait) => {
                        warn!(recording = %recording.id, attempt = row.attempts, error = %failure, "an upload failed and is tried again");
                        metrics::counter!("jamcast_uploads_total", "result" => "retried").increment(1);
                        row.state = UploadState::Waiting;
                        row.next_at_ms = now_ms + i64::try_from(wait.as_millis()).unwrap_or(i64::MAX / 2);
                        row.error = Some(failure.to_string());
                    }
                    None => self.give_up(&mut row, failure.to_string()).await,
                }
            }
        }
        self.store.set_upload(&row).await
    }

    async fn give_up(&self, row: &mut UploadRow, reason: String) {
        error!(recording = %row.recording, attempts = row.attempts, reason, "an upload is given up");
        metrics::counter!("jamcast_uploads_total", "result" => "failed").increment(1);
        if let Some(upload) = row.upload.take()
            && let Err(failure) = self.objects.abort(&row.key, &upload).await
        {
            warn!(error = %failure, "the parts of an upload that was given up stay at the object store");
        }
        row.tags.clear();
        row.state = UploadState::Failed;
        row.error = Some(reason);
    }

    async fn carry(&self, row: &mut UploadRow, recording: &RecordingRow) -> Result<(), Stopped> {
        let path = place(&self.folder, &recording.file)
            .ok_or_else(|| Stopped::File(std::io::Error::other("it is not in the recordings folder")))?;
        let mut file = File::open(&path).await.map_err(Stopped::File)?;
        let length = file.metadata().await.map_err(Stopped::File)?.len();
        let part = upload::part_bytes(length);
        if length <= part {
            let bytes = read(&mut file, length).await?;
            self.objects.put(&row.key, bytes).await.map_err(Stopped::Object)?;
            row.sent_bytes = i64::try_from(length).unwrap_or(i64::MAX);
            return Ok(());
        }
        let name = match &row.upload {
            Some(name) => name.clone(),
            None => {
                let name = self.objects.begin(&row.key).await.map_err(Stopped::Object)?;
                row.upload = Some(name.clone());
                row.tags.clear();
                self.store.set_upload(row).await.map_err(Stopped::Store)?;
                name
            }
        };
        let mut at = part.saturating_mul(row.tags.len() as u64);
        file.seek(std::io::SeekFrom::Start(at)).await.map_err(Stopped::File)?;
        while at < length {
            let bytes = read(&mut file, part.min(length - at)).await?;
            at += bytes.len() as u64;
            let number = u32::try_from(row.tags.len() + 1).unwrap_or(u32::MAX);
            let tag = self.objects.part(&row.key, &name, number, bytes).await.map_err(Stopped::Object)?;
            row.tags.push(tag);
            row.sent_bytes = i64::try_from(at).unwrap_or(i64::MAX);
            self.store.set_upload(row).await.map_err(Stopped::Store)?;
        }
        self.objects.complete(&row.key, &name, &row.tags).await.map_err(Stopped::Object)
    }
}

async fn read(file: &mut File, length: u64) -> Result<Bytes, Stopped> {
    let mut bytes = BytesMut::zeroed(usize::try_from(length).unwrap_or(usize::MAX));
    file.read_exact(&mut bytes).await.map_err(Stopped::File)?;
    Ok(bytes.freeze())
}
