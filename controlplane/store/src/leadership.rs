//! Which of the processes that share a store acts.
//!
//! A term belongs to one process. Whoever has it makes its counter go up; whoever has seen the counter stand for long enough takes the
//! next term, if nothing has changed since. No clock is compared with another machine's, and none has to be right: what keeps
//! two from acting at once is that every transaction of a store that leads looks at the term under the writers' lock, and a
//! term is taken under that lock.

use sqlx::Row;
use sqlx::any::AnyRow;

use crate::{Result, Store, StoreError, row};

/// Who leads, as of one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// Of the process that leads; 0 before the first.
    pub term: u64,
    /// Goes up while it is well.
    pub beat: u64,
    /// Where its API answers; none if it gave up.
    pub address: Option<String>,
}

fn from_row(row: &AnyRow) -> sqlx::Result<Leadership> {
    Ok(Leadership {
        term: row::unsigned(row, "term")?,
        beat: row::unsigned(row, "beat")?,
        address: row.try_get("address")?,
    })
}

const SELECT: &str = "SELECT term, beat, address FROM leadership WHERE id = 1";

fn signed(number: u64) -> i64 {
    // They count up from 0 in steps of 1 and are stored as they are here.
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Store {
    /// Who leads now.
    pub async fn leadership(&self) -> Result<Leadership> {
        Ok(sqlx::query(SELECT).try_map(|r| from_row(&r)).fetch_one(&self.pulse).await?)
    }

    /// Takes the next term, if all is as it was `seen`: a store whose transactions are refused as soon as another has taken a
    /// later one. Transactions of the term before are over when this returns.
    pub async fn take_over(&self, seen: &Leadership, address: &str) -> Result<Option<Store>> {
        let next = seen.term + 1;
        let everyone = Store { term: None, ..self.clone() };
        let mut tx = everyone.write().await?;
        let sql = "UPDATE leadership SET term = $1, beat = 0, address = $2 WHERE id = 1 AND term = $3 AND beat = $4";
        let query = sqlx::query(sql).bind(signed(next)).bind(address).bind(signed(seen.term)).bind(signed(seen.beat));
        if query.execute(&mut *tx).await?.rows_affected() == 0 {
            return Ok(None);
        }
        sqlx::query("UPDATE configuration SET term = $1 WHERE id = 1").bind(signed(next)).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(Some(Store { term: Some(next), ..everyone }))
    }

    /// Says that this process, which leads, is well. [`StoreError::Deposed`] if another has taken a later term.
    pub async fn beat(&self) -> Result<()> {
        self.lead("UPDATE leadership SET beat = beat + 1 WHERE id = 1 AND term = $1").await
    }

    /// Says that this process leads no more, so that another need not wait.
    pub async fn give_up(&self) -> Result<()> {
        self.lead("UPDATE leadership SET beat = beat + 1, address = NULL WHERE id = 1 AND term = $1").await
    }

    async fn lead(&self, sql: &'static str) -> Result<()> {
        let term = self.term.ok_or(StoreError::Deposed)?;
        match sqlx::query(sql).bind(signed(term)).execute(&self.pulse).await?.rows_affected() {
            0 => Err(StoreError::Deposed),
            _ => Ok(()),
        }
    }
}
