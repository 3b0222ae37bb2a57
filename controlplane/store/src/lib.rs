//! The control plane's memory: accounts, projects, deployments, versions, routes, variables and tokens in SQLite.
//!
//! Owns: the database of a data directory, its migrations, the master key that seals variables, and every query. What a
//! caller sees is the model's types and whole operations ("begin this activation"), never SQL; the queries keep to what
//! SQLite and PostgreSQL share (`$n` parameters, `RETURNING`, partial indexes), apart from how a transaction begins.
//! Does not: talk to nodes, run validators, keep artifacts, or decide what is legal (the model's state machine does).
//!
//! *Invariants:*
//! - One writer: every change is one `BEGIN IMMEDIATE` transaction on a pool of one connection, and is on the disk
//!   (`synchronous=FULL`) before it is acknowledged. Killed at any moment, the store is as after the last commit.
//! - A change that nodes must see raises the generation in its own transaction. The generation never goes back.
//! - No secret is stored in the clear: tokens as SHA-256, variables sealed. None is in an error or a log.
//!
//! *Bounds:* pages of lists (`model::rules::PAGE_MAX`), 4 readers, 10 s for a lock of another process.

#![forbid(unsafe_code)]

mod accounts;
mod deployments;
mod desired;
mod env;
mod error;
mod idempotency;
mod lifecycle;
mod masterkey;
mod plans;
mod projects;
mod routes;
mod row;
mod services;
mod steering;
mod tokens;
mod versions;

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, Transaction};

pub use deployments::{DeploymentRow, NewDeployment, NewRoute};
pub use desired::{DesiredDeployment, DesiredState};
pub use error::{Result, StoreError};
pub use idempotency::Remembered;
pub use lifecycle::{Begun, Kind, Recovery, Validated, VersionRef};
pub use services::DesiredService;
pub use versions::{NewVersion, VersionRow};

/// How long a transaction waits for another process's (`bootstrap` beside `serve`).
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that read.
const READERS: u32 = 4;

/// Where a list is to go on, and how much of it is wanted.
#[derive(Clone, Debug)]
pub struct Page {
    /// The last item of the page before; nothing for the first page.
    pub after: Option<String>,
    /// Items at most.
    pub limit: u32,
}

impl Default for Page {
    fn default() -> Page {
        Page { after: None, limit: model::rules::PAGE_MAX }
    }
}

/// The store of one data directory. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    writer: SqlitePool,
    reader: SqlitePool,
    master: masterkey::MasterKey,
    lineage: u128,
}

impl Store {
    /// Opens the store of `dir`, making the folder, the database and the master key where they are missing and
    /// bringing the database to the newest migration. Two processes that open at once wait for each other.
    ///
    /// Files: `control.db` (with `-wal` and `-shm`), `master.key` (0600), `open.lock`.
    pub async fn open(dir: &Path) -> Result<Store> {
        make_private_dir(dir)?;
        let lock_path = dir.join("open.lock");
        let lock = tokio::task::spawn_blocking(move || lock_file(lock_path)).await.map_err(joined)??;
        let master = masterkey::MasterKey::load_or_create(&dir.join("master.key"))?;
        let options = SqliteConnectOptions::new()
            .filename(dir.join("control.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        sqlx::migrate!("./migrations/sqlite").run(&writer).await?;
        let reader = SqlitePoolOptions::new().max_connections(READERS).connect_with(options.read_only(true)).await?;
        let lineage = desired::load_or_create_lineage(&writer).await?;
        drop(lock);
        Ok(Store { writer, reader, master, lineage })
    }

    /// Identifies this store for ever: generations of two stores cannot be compared.
    pub fn lineage(&self) -> u128 {
        self.lineage
    }

    /// Waits for running queries, then closes the database.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    /// A transaction that may write: it has the database's one write lock from its first statement on.
    async fn write(&self) -> Result<Transaction<'static, Sqlite>> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }
}

fn joined(error: tokio::task::JoinError) -> StoreError {
    StoreError::Io { what: "opening the store".to_owned(), source: std::io::Error::other(error) }
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> StoreError {
    let what = what.into();
    move |source| StoreError::Io { what, source }
}

/// Makes a data directory, readable by its owner alone, if it is new.
pub fn make_private_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(dir).map_err(io(format!("making {}", dir.display())))
}

fn lock_file(path: PathBuf) -> Result<File> {
    let what = || format!("locking {}", path.display());
    let file = OpenOptions::new().create(true).append(true).open(&path).map_err(io(what()))?;
    file.lock().map_err(io(what()))?;
    Ok(file)
}
