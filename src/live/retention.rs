//! Deletes recordings that the rule does not keep: once a minute, the file first and then its row.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tracing::error;
use tracing::info;
use tracing::warn;

use crate::domain::retention::Held;
use crate::domain::retention::Rule;
use crate::domain::retention::condemned;
use crate::live::port::Page;
use crate::live::port::RecordingRow;
use crate::live::port::Store;
use crate::live::port::StoreError;
use crate::live::recordings::place;
use crate::live::recordings::thumbnail;
use crate::live::stream::now_ms;
use crate::live::stream::size_of;
use crate::model::id::RecordingId;

/// Between two looks: a minute of 50 Mbit/s is 375 MB, which the free space has to hold anyway.
const EVERY: Duration = Duration::from_secs(60);

/// An upload is taken up within seconds of a recording's end.
const FRESH_MS: i64 = 60_000;

/// Rows read at once.
const PAGE: u32 = 200;

/// Keeps to the rule for as long as it is polled.
pub async fn keep(store: Arc<dyn Store>, folder: Arc<Path>, rule: Rule) {
    metrics::describe_counter!(
        "jamcast_recordings_deleted_total",
        "Recordings deleted, by reason: age, space or asked"
    );
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(failure) = sweep(store.as_ref(), &folder, rule, now_ms()).await {
            error!(error = &failure as &dyn std::error::Error, "recordings that are to be deleted cannot be found out");
        }
    }
}

/// Looks once and deletes what is not to be kept.
///
/// # Errors
/// When the store fails; what was not deleted is found the next time.
pub async fn sweep(store: &dyn Store, folder: &Path, rule: Rule, now_ms: i64) -> Result<(), StoreError> {
    if rule == Rule::default() {
        return Ok(());
    }
    let mut rows: Vec<RecordingRow> = Vec::new();
    let mut page = Page { limit: PAGE, before: None };
    loop {
        let next = store.recordings(None, page.clone()).await?;
        let Some(last) = next.last() else { break };
        page.before = Some((last.created_at_ms, last.id.to_string()));
        rows.extend(next);
    }
    let uploading: HashSet<RecordingId> = store.unfinished_uploads().await?.into_iter().collect();
    let mut all = Vec::with_capacity(rows.len());
    for (key, row) in rows.iter().enumerate() {
        let bytes = match (row.size_bytes, place(folder, &row.file)) {
            (Some(bytes), _) => bytes,
            (None, Some(path)) => size_of(&path).await,
            (None, None) => 0,
        };
        let bytes = u64::try_from(bytes).unwrap_or(0);
        // One that has just ended may be about to be uploaded.
        let fresh = row.ended_at_ms.is_some_and(|ended| now_ms - ended < FRESH_MS);
        let needed = row.kept || fresh || uploading.contains(&row.id);
        all.push(Held { key, ended_at_ms: row.ended_at_ms, bytes, needed });
    }
    for (key, why) in condemned(&all, rule, now_ms) {
        let row = &rows[key];
        if delete(store, folder, row).await? {
            info!(recording = %row.id, file = row.file, why = why.as_str(), "a recording is deleted, as the retention says");
            metrics::counter!("jamcast_recordings_deleted_total", "reason" => why.as_str()).increment(1);
        }
    }
    Ok(())
}

/// Deletes a recording's file and then its row; `false` if the file cannot be deleted, which then keeps its row.
///
/// # Errors
/// When the store fails.
pub async fn delete(store: &dyn Store, folder: &Path, row: &RecordingRow) -> Result<bool, StoreError> {
    if let Some(path) = place(folder, &row.file) {
        match tokio::fs::remove_file(&path).await {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                warn!(recording = %row.id, %error, "a recording's file cannot be deleted");
                return Ok(false);
            }
        }
    }
    for number in 0.. {
        let Some(thumbnail) = thumbnail(folder, row, number) else { break };
        if tokio::fs::remove_file(thumbnail).await.is_err() {
            break;
        }
    }
    store.delete_upload(row.id).await?;
    store.delete_recording(row.id).await
}
