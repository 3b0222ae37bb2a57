//! What can go wrong in the store, sorted by whose fault it is.

use model::IllegalTransition;

/// Why the store did not do as asked. In each case nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such thing. The text says of what kind.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// Something else has it.
    #[error("{field}: {message}")]
    Conflict {
        /// The field at fault.
        field: String,
        /// What is taken.
        message: String,
    },
    /// The deployment's state does not allow it.
    #[error(transparent)]
    IllegalState(#[from] IllegalTransition),
    /// The request cannot be done now, for a reason that the caller may read.
    #[error("{0}")]
    Precondition(String),
    /// A bound is reached.
    #[error("{0}")]
    Limit(String),
    /// What is stored is not what this program writes, or was sealed by another key.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// Files beside the database.
    #[error("{what}: {source}")]
    Io {
        /// Doing what.
        what: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The database.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// The database's migrations.
    #[error("migration: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
}

/// A result of the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// What a violated uniqueness means here; other errors stay what they are.
pub(crate) fn conflict(error: sqlx::Error, field: impl Into<String>, message: impl Into<String>) -> StoreError {
    match &error {
        sqlx::Error::Database(inner) if inner.is_unique_violation() => {
            StoreError::Conflict { field: field.into(), message: message.into() }
        }
        _ => StoreError::Database(error),
    }
}

impl StoreError {
    /// Whether nothing is wrong but that another process, or too many requests, were in the way for too long.
    pub fn is_busy(&self) -> bool {
        match self {
            StoreError::Database(sqlx::Error::PoolTimedOut) => true,
            // SQLITE_BUSY and its extended codes end in 5 (https://sqlite.org/rescode.html).
            StoreError::Database(sqlx::Error::Database(inner)) => {
                inner.code().and_then(|code| code.parse::<u32>().ok()).is_some_and(|code| code & 0xff == 5)
            }
            _ => false,
        }
    }
}
