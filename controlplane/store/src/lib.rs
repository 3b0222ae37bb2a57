//! The control plane's memory: accounts, projects, deployments, versions, routes, variables and tokens, in SQLite or in
//! PostgreSQL.
//!
//! Owns: the database of a data directory, its migrations, the master key that seals variables, and every query. What a
//! caller sees is the model's types and whole operations ("begin this activation"), never SQL. Each query and each
//! migration has one text, which both databases understand (`$n` parameters, `RETURNING`, partial indexes); what they do
//! not share is in `db`.
//! Does not: talk to nodes, run validators, keep artifacts, or decide what is legal (the model's state machine does).
//!
//! *Invariants:*
//! - One writer: every change is one transaction of `Store::write`, which no other one overlaps, in this process or
//!   another, and is on the disk before it is acknowledged. Killed at any moment, the store is as after the last commit.
//! - A change that nodes must see raises the generation in its own transaction. The generation never goes back.
//! - Of processes that share a store one leads: a store that has taken a term writes, and reads what is desired, in it alone.
//! - No secret is stored in the clear: tokens as SHA-256, variables sealed. None is in an error or a log.
//!
//! *Bounds:* pages of lists (`model::rules::PAGE_MAX`), 4 readers, 10 s for a transaction of another process.
//! *Failures:* of a change whose commit was not answered it is not known whether it was made, but it was made whole or
//! not at all; what it began is in the rows ([`Store::unfinished`]).

#![forbid(unsafe_code)]

mod accounts;
mod audit;
mod db;
mod deployments;
mod desired;
mod env;
mod error;
mod fleet;
mod idempotency;
mod leadership;
mod lifecycle;
mod masterkey;
mod plans;
mod projects;
mod rollouts;
mod route_base;
mod routes;
mod row;
mod services;
mod steering;
mod tokens;
mod traffic;
mod versions;

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use sqlx::{Any, AnyConnection, AnyPool, Transaction};

pub use db::{Database, migrations};
pub use deployments::{DeploymentRow, NewDeployment, NewRoute};
pub use desired::{DesiredDeployment, DesiredState};
pub use error::{Result, StoreError};
pub use fleet::NodePlace;
pub use idempotency::Remembered;
pub use leadership::Leadership;
pub use lifecycle::{Begun, Kind, Recovery, Validated, VersionRef};
pub use rollouts::{DesiredCandidate, RolloutRow};
pub use route_base::{BaseRecord, RouteChange};
pub use services::DesiredService;
pub use tokens::NewToken;
pub use versions::{NewVersion, VersionRow};

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
    dialect: db::Dialect,
    writer: AnyPool,
    reader: AnyPool,
    pulse: AnyPool,
    master: masterkey::MasterKey,
    lineage: u128,
    /// The term in which this store writes; none: in any.
    term: Option<u64>,
}

impl Store {
    /// Opens the store of `dir` in SQLite.
    pub async fn open(dir: &Path) -> Result<Store> {
        Store::open_in(dir, &Database::Folder).await
    }

    /// Opens the store of `dir`, making the folder, the tables and the master key where they are missing and bringing the
    /// database to the newest migration. Processes that open at once wait for each other.
    ///
    /// Files: `control.db` (with `-wal` and `-shm`) if it is in SQLite, `master.key` (0600), `open.lock`.
    pub async fn open_in(dir: &Path, database: &Database) -> Result<Store> {
        make_private_dir(dir)?;
        let lock_path = dir.join("open.lock");
        let lock = tokio::task::spawn_blocking(move || lock_file(lock_path)).await.map_err(joined)??;
        let master = masterkey::MasterKey::load_or_create(&dir.join("master.key"))?;
        let db::Pools { dialect, writer, reader, pulse } = db::Pools::open(dir, database).await?;
        let lineage = desired::load_or_create_lineage(&writer).await?;
        let store = Store { dialect, writer, reader, pulse, master, lineage, term: None };
        store.check_key().await?;
        drop(lock);
        Ok(store)
    }

    /// Whether other processes may write to it too.
    pub fn is_shared(&self) -> bool {
        self.dialect == db::Dialect::Postgres
    }

    /// The term in which it writes; none: in any.
    pub fn term(&self) -> Option<u64> {
        self.term
    }

    /// Identifies this store for ever: generations of two stores cannot be compared.
    pub fn lineage(&self) -> u128 {
        self.lineage
    }

    /// Waits for running queries, then closes the database.
    pub async fn close(&self) {
        self.reader.close().await;
        self.pulse.close().await;
        self.writer.close().await;
    }

    /// A transaction that may write: while it lasts no other one does, of this process or another.
    async fn write(&self) -> Result<Transaction<'static, Any>> {
        let mut tx = self.writer.begin_with(self.dialect.begin_write()).await?;
        self.check_term(&mut tx, self.dialect.lock()).await?;
        Ok(tx)
    }

    /// A transaction whose reads are all of one moment.
    async fn read(&self) -> Result<Transaction<'static, Any>> {
        let mut tx = self.reader.begin_with(self.dialect.begin_read()).await?;
        self.check_term(&mut tx, "SELECT term FROM configuration WHERE id = 1").await?;
        Ok(tx)
    }

    /// Whether this store may act: always, unless it leads, and another has taken a later term.
    async fn check_term(&self, connection: &mut AnyConnection, sql: &'static str) -> Result<()> {
        let query = sqlx::query(sql).try_map(|r| row::unsigned::<u64>(&r, "term"));
        let term = query.fetch_one(connection).await?;
        if self.term.is_none_or(|own| own == term) { Ok(()) } else { Err(StoreError::Deposed) }
    }

    /// Whether the master key is the one that this database's values are sealed with. The first that opens it says which that is.
    async fn check_key(&self) -> Result<()> {
        const KNOWN: (&[u8], &[u8]) = (b"configuration/key_check", b"selvage");
        let mut tx = self.write().await?;
        let sql = "SELECT key_check FROM configuration WHERE id = 1";
        let check: Option<Vec<u8>> = sqlx::query_scalar(sql).fetch_one(&mut *tx).await?;
        match check {
            Some(sealed) if self.master.open(KNOWN.0, &sealed).as_deref() == Some(KNOWN.1) => Ok(()),
            Some(_) => {
                Err(StoreError::Corrupt("its values were sealed by another master.key than this directory's".into()))
            }
            None => {
                let sealed = self.master.seal(KNOWN.0, KNOWN.1)?;
                let sql = "UPDATE configuration SET key_check = $1 WHERE id = 1";
                sqlx::query(sql).bind(sealed).execute(&mut *tx).await?;
                Ok(tx.commit().await?)
            }
        }
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
