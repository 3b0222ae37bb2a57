//! What packets meet at every node: one document.

use model::Steering;
use sqlx::AnyConnection;

use crate::{Result, Store, StoreError, desired};

impl Store {
    /// The rules now; none if none were ever set.
    pub async fn steering(&self) -> Result<Steering> {
        let mut connection = self.reader.acquire().await?;
        read(&mut connection).await
    }

    /// Replaces the rules. `merge` makes what is stored from what was, in one transaction; gives it.
    pub async fn set_steering(&self, merge: impl FnOnce(&Steering) -> Steering) -> Result<Steering> {
        let mut tx = self.write().await?;
        let rules = merge(&read(&mut tx).await?);
        let text = serde_json::to_string(&rules).expect("strings and numbers serialise");
        let sql =
            "INSERT INTO steering (id, rules) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET rules = excluded.rules";
        sqlx::query(sql).bind(text).execute(&mut *tx).await?;
        desired::raise_generation(&mut tx).await?;
        tx.commit().await?;
        Ok(rules)
    }
}

pub(crate) async fn read(connection: &mut AnyConnection) -> Result<Steering> {
    let sql = "SELECT rules FROM steering WHERE id = 1";
    let text: Option<String> = sqlx::query_scalar(sql).fetch_optional(connection).await?;
    let Some(text) = text else { return Ok(Steering::default()) };
    serde_json::from_str(&text).map_err(|_| StoreError::Corrupt("steering".to_owned()))
}
