//! The store of a service: an SQLite file, or PostgreSQL; one SQL text with `$1` for both.
//!
//! Instances may share a store, and may start on it at the same time. Writers wait for each other:
//! in one process for the single writing connection, between processes for the file's lock.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    Any, AnyConnection, AnyPool, Connection as _, Transaction,
    any::{AnyPoolOptions, install_default_drivers},
    migrate::{MigrateError, Migrator},
};
use tokio::time::{Instant, sleep};
use tonic::Status;

use crate::Database;

const READERS: u32 = 4;
/// How long a call waits for its turn, here or in SQLite, before it is told that the store is busy.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a start waits for another instance that prepares the same file.
const PREPARATION: Duration = Duration::from_secs(20);

/// An open store, its tables as the service's migrations leave them.
#[derive(Clone, Debug)]
pub struct Store {
    kind: Kind,
    readers: AnyPool,
    writers: AnyPool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sqlite,
    Postgres,
}

/// A store that cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The file's directory cannot be created.
    Directory(PathBuf, std::io::Error),
    /// It cannot be opened, or is no database.
    Open(Database, sqlx::Error),
    /// Its tables cannot be brought to the form that this version needs.
    Migrate(Database, Box<MigrateError>),
}

impl Store {
    /// Opens the store, creates what is missing of it and brings its tables up to date.
    pub async fn open(database: &Database, migrations: &Migrator) -> Result<Self, OpenError> {
        install_default_drivers();
        let (kind, url) = match database {
            Database::Sqlite(path) => {
                make_directory(path)?;
                (Kind::Sqlite, format!("sqlite:{}?mode=rwc", path.display()))
            }
            Database::Postgres(url) => (Kind::Postgres, url.clone()),
        };
        let began = Instant::now();
        while let Err(error) = prepare(database, kind, &url, migrations).await {
            // Where one of two instances on a new file would have to turn a read lock into a write
            // lock, as the change to WAL does, SQLite refuses it at once: its busy timeout could
            // only end in a deadlock there.
            if !error.is_busy() || began.elapsed() > PREPARATION {
                return Err(error);
            }
            sleep(Duration::from_millis(20)).await;
        }
        let pool = |size| {
            let options = AnyPoolOptions::new().max_connections(size).acquire_timeout(PATIENCE);
            let lazy = options.connect_lazy(&url);
            lazy.map_err(|error| OpenError::Open(database.clone(), error))
        };
        let readers = pool(READERS)?;
        let writers = match kind {
            Kind::Sqlite => pool(1)?,
            Kind::Postgres => readers.clone(),
        };
        Ok(Self { kind, readers, writers })
    }

    /// Where to read.
    pub fn read(&self) -> &AnyPool {
        &self.readers
    }

    /// Begins a change. It is undone unless it is committed.
    pub async fn write(&self) -> sqlx::Result<Transaction<'static, Any>> {
        match self.kind {
            // A transaction that begins by reading and then wants to write is refused at once where
            // another one wrote in between; one that takes the lock first waits for its turn.
            Kind::Sqlite => self.writers.begin_with("BEGIN IMMEDIATE").await,
            Kind::Postgres => self.writers.begin().await,
        }
    }
}

/// The next ID of this store: "1", "2", and so on, also among instances; never one given before.
///
/// It counts in a table of one row (`ids`, which the service's migrations make) and not in a
/// sequence of the database: IDs then become visible in their own order, so that no page passes
/// over one that is still being written, and a change that is undone leaves no gap.
pub async fn next_id(change: &mut AnyConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("UPDATE ids SET last = last + 1 RETURNING last").fetch_one(change).await
}

fn make_directory(file: &Path) -> Result<(), OpenError> {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => std::fs::create_dir_all(parent)
            .map_err(|error| OpenError::Directory(parent.to_owned(), error)),
        _ => Ok(()),
    }
}

async fn prepare(
    database: &Database,
    kind: Kind,
    url: &str,
    migrations: &Migrator,
) -> Result<(), OpenError> {
    let open = |error| OpenError::Open(database.clone(), error);
    let migrate = |error| OpenError::Migrate(database.clone(), Box::new(error));
    let mut connection = AnyConnection::connect(url).await.map_err(open)?;
    if kind == Kind::Sqlite {
        // The file remembers it. Busy timeout (5 s) and foreign keys are the driver's default.
        let wal = sqlx::query("PRAGMA journal_mode = WAL").execute(&mut connection).await;
        wal.map_err(open)?;
        // The driver locks PostgreSQL while it migrates, but not SQLite.
        let mut locked = connection.begin_with("BEGIN IMMEDIATE").await.map_err(open)?;
        migrations.run_direct(None, &mut *locked, false).await.map_err(migrate)?;
        locked.commit().await.map_err(open)?;
    } else {
        migrations.run_direct(None, &mut connection, false).await.map_err(migrate)?;
    }
    connection.close().await.map_err(open)
}

/// What a caller is told of a store that failed; the log gets the rest.
pub fn fault(error: sqlx::Error) -> Status {
    tracing::error!(%error, "the store failed");
    match error {
        sqlx::Error::PoolTimedOut => Status::unavailable("the store is busy"),
        _ if is_busy(&error) => Status::unavailable("the store is busy"),
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolClosed => {
            Status::unavailable("the store cannot be reached")
        }
        _ => Status::internal("the store failed"),
    }
}

/// SQLITE_BUSY and SQLITE_LOCKED, with what extends them (SQLite, "Result and Error Codes").
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
    code.is_some_and(|code| code < 0x1_0000 && matches!(code & 0xff, 5 | 6))
}

impl OpenError {
    fn is_busy(&self) -> bool {
        match self {
            Self::Directory(..) => false,
            Self::Open(_, error) => is_busy(error),
            Self::Migrate(_, error) => match error.as_ref() {
                MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                    is_busy(error)
                }
                _ => false,
            },
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path, error) => {
                write!(f, "cannot create the store's directory {}: {error}", path.display())
            }
            Self::Open(database, error) => write!(f, "cannot open the store {database}: {error}"),
            Self::Migrate(database, error) => {
                write!(f, "cannot bring the store {database} up to date: {error}")
            }
        }
    }
}

impl std::error::Error for OpenError {}

#[cfg(test)]
mod tests;
