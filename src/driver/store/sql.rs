//! The SQL that both databases read, and nothing but it.

use sqlx::SqlSafeStr;
use sqlx::migrate::Migration;
use sqlx::migrate::MigrationType;
use sqlx::migrate::Migrator;

/// Every migration, in order. One that was released never changes: its checksum is stored with it.
pub(super) fn migrations() -> Migrator {
    let migration = |version, name: &'static str, sql: &'static str| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(vec![
        migration(1, "first rows", include_str!("../../../migrations/0001_first_rows.sql")),
        migration(2, "rooms and outcomes", include_str!("../../../migrations/0002_rooms_and_outcomes.sql")),
        migration(3, "primary destinations", include_str!("../../../migrations/0003_primary_destinations.sql")),
        migration(4, "backup ingest", include_str!("../../../migrations/0004_backup_ingest.sql")),
        migration(5, "stems", include_str!("../../../migrations/0005_stems.sql")),
        migration(6, "markers", include_str!("../../../migrations/0006_markers.sql")),
        migration(7, "uploads", include_str!("../../../migrations/0007_uploads.sql")),
        migration(8, "hls", include_str!("../../../migrations/0008_hls.sql")),
    ])
}

/// The texts of one table that differ only in their columns. Lists are keyset pages: newest first, older than ($1, $2), at most $3;
/// of the owner $4 in a text of its own, since an `OR` would keep both databases from using the index.
macro_rules! table {
    ($module:ident, $table:literal, $columns:literal, $values:literal $(, $name:ident where $condition:literal)*) => {
        pub(super) mod $module {
            pub(in crate::driver::store) const INSERT: &str =
                concat!("INSERT INTO ", $table, " (", $columns, ") VALUES (", $values, ")");
            pub(in crate::driver::store) const BY_ID: &str =
                concat!("SELECT ", $columns, " FROM ", $table, " WHERE id = $1");
            pub(in crate::driver::store) const NEWEST: &str = concat!(
                "SELECT ",
                $columns,
                " FROM ",
                $table,
                " WHERE (created_at_ms, id) < ($1, $2) ORDER BY created_at_ms DESC, id DESC LIMIT $3"
            );
            pub(in crate::driver::store) const NEWEST_OF_OWNER: &str = concat!(
                "SELECT ",
                $columns,
                " FROM ",
                $table,
                " WHERE owner = $4 AND (created_at_ms, id) < ($1, $2) ORDER BY created_at_ms DESC, id DESC LIMIT $3"
            );
            $(
                pub(in crate::driver::store) const $name: &str =
                    concat!("SELECT ", $columns, " FROM ", $table, " WHERE ", $condition);
            )*
        }
    };
}

table!(rooms, "rooms", "id, owner, title, created_at_ms", "$1, $2, $3, $4");
table!(
    destinations,
    "destinations",
    "id, owner, room, name, platform, tls, host, port, app, is_primary, sealed_key, key_hint, backup, backup_sealed_key, created_at_ms",
    "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15"
);
table!(
    streams,
    "streams",
    "id, owner, room, title, programme, destinations, record, stems, hls, idempotency_key, state, reason, created_at_ms, started_at_ms, ended_at_ms, outcome",
    "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16",
    BY_IDEMPOTENCY_KEY where "owner = $1 AND idempotency_key = $2"
);
table!(
    recordings,
    "recordings",
    "id, stream, owner, room, title, part, file, musician, media, created_at_ms, zero_at_ms, ended_at_ms, size_bytes, failure, kept",
    "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15",
    TO_UPLOAD where "ended_at_ms IS NOT NULL AND size_bytes > 0 AND NOT EXISTS (SELECT 1 FROM uploads WHERE uploads.recording = recordings.id) ORDER BY ended_at_ms, id LIMIT $1"
);

pub(super) const ROTATE_KEY: &str = "UPDATE destinations SET sealed_key = $2, key_hint = $3 WHERE id = $1";
pub(super) const SET_PRIMARY: &str = "UPDATE destinations SET is_primary = $2 WHERE id = $1";
pub(super) const DELETE_DESTINATION: &str = "DELETE FROM destinations WHERE id = $1";

pub(super) const SET_STREAM_STATE: &str = "UPDATE streams SET state = $2, reason = $3, \
     started_at_ms = COALESCE($4, started_at_ms), ended_at_ms = COALESCE($5, ended_at_ms) WHERE id = $1";
pub(super) const SET_STREAM_OUTCOME: &str = "UPDATE streams SET outcome = $2 WHERE id = $1";
pub(super) const SET_STREAM_DESTINATIONS: &str = "UPDATE streams SET destinations = $2 WHERE id = $1";
pub(super) const DELETE_STREAM: &str = "DELETE FROM streams WHERE id = $1";

pub(super) const SET_RECORDING_ZERO: &str = "UPDATE recordings SET zero_at_ms = $2 WHERE id = $1";
pub(super) const FINISH_RECORDING: &str =
    "UPDATE recordings SET ended_at_ms = $2, size_bytes = $3, failure = $4 WHERE id = $1";

pub(super) const KEEP_RECORDING: &str = "UPDATE recordings SET kept = $2 WHERE id = $1";
pub(super) const DELETE_RECORDING: &str = "DELETE FROM recordings WHERE id = $1";

pub(super) const INSERT_MARKER: &str = "INSERT INTO markers (id, stream, label, at_ms) VALUES ($1, $2, $3, $4)";
pub(super) const MARKERS_OF_STREAM: &str =
    "SELECT id, stream, label, at_ms FROM markers WHERE stream = $1 ORDER BY at_ms, id LIMIT $2";
pub(super) const DELETE_MARKER: &str = "DELETE FROM markers WHERE id = $1 AND stream = $2";

pub(super) const SET_UPLOAD: &str = "INSERT INTO uploads (recording, object_key, state, attempts, next_at_ms, upload, tags, sent_bytes, error) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (recording) DO UPDATE SET state = excluded.state, \
     attempts = excluded.attempts, next_at_ms = excluded.next_at_ms, upload = excluded.upload, tags = excluded.tags, \
     sent_bytes = excluded.sent_bytes, error = excluded.error";
pub(super) const UPLOAD_OF: &str = "SELECT recording, object_key, state, attempts, next_at_ms, upload, tags, sent_bytes, error \
     FROM uploads WHERE recording = $1";
pub(super) const NEXT_UPLOAD: &str = "SELECT recording, object_key, state, attempts, next_at_ms, upload, tags, sent_bytes, error \
     FROM uploads WHERE state IN ('waiting', 'uploading') AND next_at_ms <= $1 ORDER BY next_at_ms, recording LIMIT 1";
pub(super) const UNFINISHED_UPLOADS: &str = "SELECT recording FROM uploads WHERE state IN ('waiting', 'uploading')";
pub(super) const DELETE_UPLOAD: &str = "DELETE FROM uploads WHERE recording = $1";

pub(super) const PING: &str = "SELECT 1";
