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
    /// Another process has taken the lead from this one.
    #[error("another control plane leads now")]
    Deposed,
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
    /// Whether nothing is wrong but that another process, or too many requests, were in the way for too long, that the
    /// database is away, or that another process leads: it may be asked again.
    pub fn is_busy(&self) -> bool {
        match self {
            StoreError::Deposed | StoreError::Database(sqlx::Error::PoolTimedOut | sqlx::Error::Io(_)) => true,
            StoreError::Database(sqlx::Error::Database(inner)) => inner.code().is_some_and(|code| is_busy_code(&code)),
            _ => false,
        }
    }
}

fn is_busy_code(code: &str) -> bool {
    // PostgreSQL's have five characters (https://www.postgresql.org/docs/15/errcodes-appendix.html).
    if code.len() == 5 {
        let starting_or_stopping = matches!(code, "57P01" | "57P02" | "57P03");
        let too_long = matches!(code, "55P03" | "57014" | "25P03" | "40001" | "40P01");
        return starting_or_stopping || too_long || code == "53300" || code.starts_with("08");
    }
    // SQLITE_BUSY and its extended codes end in 5 (https://sqlite.org/rescode.html).
    code.parse::<u32>().is_ok_and(|code| code & 0xff == 5)
}

#[cfg(test)]
mod tests {
    use super::is_busy_code;

    #[test]
    fn what_passes_is_told_from_what_does_not() {
        // 42501 (a missing privilege) ends in 5 as SQLite counts.
        for (code, busy) in [
            ("5", true),
            ("517", true),
            ("1", false),
            ("57P01", true),
            ("08006", true),
            ("42501", false),
            ("23505", false),
        ] {
            assert_eq!(is_busy_code(code), busy, "{code}");
        }
    }
}
