//! The database: SQLite in a data directory, or a PostgreSQL that several processes share. Everything in which the two differ
//! is here; queries and migrations have one text, in what both understand.
//!
//! | | SQLite | PostgreSQL |
//! |---|---|---|
//! | one writer at a time | `BEGIN IMMEDIATE` | the row of `configuration` is locked before anything else |
//! | a read of one moment | a transaction | a transaction, `REPEATABLE READ` |
//! | texts compare by bytes | they do | `COLLATE "C"` on every column |
//! | bytes | `BLOB` | `BYTEA` |
//!
//! *Bounds:* 10 s for another's write or for a connection; a PostgreSQL session that dies in the middle of a transaction
//! keeps others from writing for 10 s at most. *Failures:* what goes by itself is [`crate::StoreError::is_busy`].

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions, install_default_drivers};
use sqlx::migrate::{Migration, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AnyPool, AssertSqlSafe, Executor, SqlSafeStr};

use crate::{Result, StoreError};

/// How long a statement waits for a connection. As long as the database's own wait for another's lock.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that read.
const READERS: u32 = 4;
/// Connections that write. In SQLite one, so that writers of this process wait in the pool and not in the database.
const POSTGRES_WRITERS: u32 = 4;

/// Where a store is kept.
#[derive(Clone, Default)]
pub enum Database {
    /// SQLite, in the data directory.
    #[default]
    Folder,
    /// A PostgreSQL database.
    Postgres(PostgresUrl),
}

/// `postgres://…`, which may have a password in it: it is not shown.
#[derive(Clone)]
pub struct PostgresUrl(String);

impl Database {
    /// The PostgreSQL of this URL. What is wrong with it is told without quoting it.
    pub fn postgres(url: &str) -> Result<Database> {
        let scheme = url.split_once("://").map(|(scheme, _)| scheme);
        if !matches!(scheme, Some("postgres" | "postgresql")) {
            return Err(StoreError::Precondition("the database's URL must begin with postgres://".to_owned()));
        }
        url.parse::<PgConnectOptions>()?;
        Ok(Database::Postgres(PostgresUrl(url.to_owned())))
    }

    /// Whether other processes may write to it at the same time.
    pub fn is_shared(&self) -> bool {
        matches!(self, Database::Postgres(_))
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Database::Folder => "SQLite",
            Database::Postgres(_) => "PostgreSQL",
        })
    }
}

/// Which of the two it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// Begins a transaction that may write.
    pub(crate) fn begin_write(self) -> &'static str {
        match self {
            Dialect::Sqlite => "BEGIN IMMEDIATE",
            Dialect::Postgres => "BEGIN",
        }
    }

    /// The first statement of one: from it on no other transaction writes, and later statements see what was committed before.
    pub(crate) fn lock(self) -> &'static str {
        match self {
            Dialect::Sqlite => "SELECT term FROM configuration WHERE id = 1",
            Dialect::Postgres => "SELECT term FROM configuration WHERE id = 1 FOR UPDATE",
        }
    }

    /// Begins a transaction whose reads are all of one moment.
    pub(crate) fn begin_read(self) -> &'static str {
        match self {
            Dialect::Sqlite => "BEGIN",
            Dialect::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }

    /// What a new connection is told.
    fn session(self) -> &'static str {
        match self {
            // Written ahead, and on the disk before a commit is acknowledged.
            Dialect::Sqlite => {
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 10000"
            }
            Dialect::Postgres => {
                "SET lock_timeout = '10s'; SET statement_timeout = '60s'; \
                 SET idle_in_transaction_session_timeout = '10s'; SET application_name = 'selvage-control'"
            }
        }
    }

    /// One of the migrations in its words.
    fn migration(self, from: &Migration) -> Migration {
        match self {
            Dialect::Sqlite => from.clone(),
            Dialect::Postgres => {
                let sql = from.sql.as_str().replace("BLOB", "BYTEA").replace("TEXT", "TEXT COLLATE \"C\"");
                let sql = AssertSqlSafe(sql).into_sql_str();
                Migration::new(from.version, from.description.clone(), from.migration_type, sql, from.no_tx)
            }
        }
    }
}

/// Connections to the database of a data directory.
pub(crate) struct Pools {
    pub(crate) dialect: Dialect,
    pub(crate) writer: AnyPool,
    pub(crate) reader: AnyPool,
    /// For what must not wait behind operations.
    pub(crate) pulse: AnyPool,
}

impl Pools {
    /// Connects, and brings the database to the newest migration. Processes that do so at once wait for each other.
    pub(crate) async fn open(dir: &Path, database: &Database) -> Result<Pools> {
        let dialect = match database {
            Database::Folder => Dialect::Sqlite,
            Database::Postgres(_) => Dialect::Postgres,
        };
        let (write, read) = match database {
            Database::Folder => (sqlite_url(dir, "rwc")?, sqlite_url(dir, "ro")?),
            Database::Postgres(url) => (url.0.clone(), url.0.clone()),
        };
        let writer = pool(dialect, &write, if dialect == Dialect::Sqlite { 1 } else { POSTGRES_WRITERS }).await?;
        migrator(dialect).run(&writer).await?;
        let reader = pool(dialect, &read, READERS).await?;
        let pulse = match dialect {
            Dialect::Sqlite => writer.clone(),
            Dialect::Postgres => pool(dialect, &write, 1).await?,
        };
        Ok(Pools { dialect, writer, reader, pulse })
    }
}

async fn pool(dialect: Dialect, url: &str, connections_max: u32) -> Result<AnyPool> {
    install_default_drivers();
    let options = AnyPoolOptions::new().max_connections(connections_max).acquire_timeout(ACQUIRE_TIMEOUT);
    let options = options.after_connect(move |connection, _| {
        Box::pin(async move { connection.execute(dialect.session()).await.map(|_| ()) })
    });
    Ok(options.connect_with(url.parse::<AnyConnectOptions>()?).await?)
}

fn migrator(dialect: Dialect) -> Migrator {
    let all = sqlx::migrate!("./migrations");
    let migrations: Vec<Migration> = all.iter().map(|migration| dialect.migration(migration)).collect();
    Migrator { migrations: Cow::Owned(migrations), ..Migrator::DEFAULT }
}

/// The migrations as the database wants them, for tests of upgrades.
#[doc(hidden)]
pub fn migrations(database: &Database) -> Migrator {
    migrator(if database.is_shared() { Dialect::Postgres } else { Dialect::Sqlite })
}

fn sqlite_url(dir: &Path, mode: &str) -> Result<String> {
    let path = std::path::absolute(dir.join("control.db")).map_err(crate::io("the data directory"))?;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(byte);
    let bytes = path.as_os_str().as_encoded_bytes().iter();
    let encoded: String =
        bytes.map(|byte| if plain(byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") }).collect();
    Ok(format!("sqlite://{encoded}?mode={mode}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_told_of_without_its_password() {
        for url in
            ["postgres://u:hunter2@h:x/d", "mysql://u:hunter2@h/d", "hunter2", "postgres://u:hunter2@h/d?sslmode=y"]
        {
            let error = Database::postgres(url).expect_err(url).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let database = Database::postgres("postgres://u:hunter2@h/d").expect("a URL");
        assert_eq!(format!("{database:?}"), "PostgreSQL");
    }

    #[tokio::test]
    async fn a_folder_of_any_name_has_its_database_in_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let dir = dir.path().join("a%41?b#c d");
        std::fs::create_dir(&dir).expect("a folder");
        Pools::open(&dir, &Database::Folder).await.expect("opens");
        assert!(dir.join("control.db").is_file());
    }
}
