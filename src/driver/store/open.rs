//! Opening a database: from its URL to connections whose tables are up to date.

use std::fs::DirBuilder;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::postgres::PgConnectOptions;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::sqlite::SqliteJournalMode;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::sqlite::SqliteSynchronous;

use crate::driver::store::Db;
use crate::driver::store::sql;
use crate::live::port::StoreError;

/// How long SQLite waits for another process's write, such as a backup's; our own writes queue in the pool.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// A request waits this long for a connection before it is told that the database does not answer.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Enough readers that a slow page does not hold up the others, few enough to cost nothing.
const SQLITE_READERS: u32 = 4;
/// A small part of the 100 connections that PostgreSQL allows by default.
const POSTGRES_CONNECTIONS: u32 = 10;

/// Why a database cannot be opened. The URL is not in the text, since it may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("a database URL begins with sqlite: and a file's path, or with postgres://")]
    Scheme,
    #[error("the database file {path} cannot be created; check that the folder exists and may be written to")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the database cannot be connected to; check that it runs and that its URL is right")]
    Connect(#[source] sqlx::Error),
    #[error(
        "the database's tables cannot be brought up to date; a newer version of this program may have changed them"
    )]
    Migrate(#[source] MigrateError),
}

impl From<OpenError> for StoreError {
    fn from(error: OpenError) -> Self {
        Self::Database(Box::new(error))
    }
}

impl Db {
    /// Opens `sqlite:path` (also `sqlite://path`), whose folder and file are created for this user only if they are missing, or
    /// `postgres://…`, and brings the tables up to date.
    ///
    /// # Errors
    /// `StoreError::Database` with an [`OpenError`] as its source.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            // Each connection would have a memory of its own.
            if path.is_empty() || path == ":memory:" {
                return Err(OpenError::Scheme.into());
            }
            Ok(open_sqlite(Path::new(path)).await?)
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Ok(open_postgres(url).await?)
        } else {
            Err(OpenError::Scheme.into())
        }
    }

    /// Closes every connection after its statement; SQLite then folds its write-ahead log into the file.
    pub async fn close(&self) {
        match self {
            Self::Sqlite { writer, reader } => {
                reader.close().await;
                writer.close().await;
            }
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

async fn open_sqlite(path: &Path) -> Result<Db, OpenError> {
    create_private(path).map_err(|source| OpenError::File { path: path.to_owned(), source })?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        // With a write-ahead log this survives a crash of the process; a power cut may lose the last moments, never the file.
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .optimize_on_close(true, None);
    let pool = || SqlitePoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT);
    let writer = pool().max_connections(1).connect_with(options.clone()).await.map_err(OpenError::Connect)?;
    sql::migrations().run(&writer).await.map_err(OpenError::Migrate)?;
    let reader = pool()
        .max_connections(SQLITE_READERS)
        .connect_with(options.read_only(true).optimize_on_close(false, None))
        .await
        .map_err(OpenError::Connect)?;
    Ok(Db::Sqlite { writer, reader })
}

/// SQLite gives its log files the permissions of the database file, so creating that one privately covers all three.
///
/// A file that exists is not even opened: closing it again would drop the locks that SQLite holds on it in this process, since POSIX
/// locks belong to the process and not to the descriptor.
fn create_private(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(there) if there.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop),
    }
}

async fn open_postgres(url: &str) -> Result<Db, OpenError> {
    let options: PgConnectOptions = url.parse().map_err(OpenError::Connect)?;
    let pool = PgPoolOptions::new()
        .max_connections(POSTGRES_CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // A statement here takes milliseconds; one that hangs on a lock must not hold its connection for ever.
        .connect_with(options.application_name("jamcast").options([("statement_timeout", "10s")]))
        .await
        .map_err(OpenError::Connect)?;
    sql::migrations().run(&pool).await.map_err(OpenError::Migrate)?;
    Ok(Db::Postgres(pool))
}
