//! What packets meet at every node: one document. A VIP in it has all of its nodes; those that get no more are left out where it is
//! compiled, and its lists of who served it before are of those that did.

use std::collections::BTreeSet;

use model::Steering;
use sqlx::AnyConnection;

use crate::{Result, Store, StoreError, desired};

impl Store {
    /// The rules now; none if none were ever set.
    pub async fn steering(&self) -> Result<Steering> {
        let mut connection = self.reader.acquire().await?;
        read(&mut connection).await
    }

    /// Replaces the rules; gives them as they are stored, with what they remember of those before.
    pub async fn set_steering(&self, rules: Steering) -> Result<Steering> {
        let mut tx = self.write().await?;
        let before = read(&mut tx).await?;
        let out = out_of_service(&mut tx).await?;
        let rules = rules.after(&before, &out, &out);
        put(&mut tx, &rules).await?;
        desired::raise_generation(&mut tx).await?;
        tx.commit().await?;
        Ok(rules)
    }
}

async fn put(connection: &mut AnyConnection, rules: &Steering) -> Result<()> {
    let text = serde_json::to_string(rules).expect("strings and numbers serialise");
    let sql = "INSERT INTO steering (id, rules) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET rules = excluded.rules";
    sqlx::query(sql).bind(text).execute(connection).await?;
    Ok(())
}

/// Nodes that are to get no more: cordoned or draining.
pub(crate) async fn out_of_service(connection: &mut AnyConnection) -> Result<BTreeSet<String>> {
    let sql = "SELECT name FROM nodes WHERE state <> 'serving'";
    let names: Vec<String> = sqlx::query_scalar(sql).fetch_all(connection).await?;
    Ok(names.into_iter().collect())
}

/// Has the VIPs of a node remember who served them before it was put in or out of service, when those of `was_out` were out; says
/// whether there are any.
pub(crate) async fn remember(connection: &mut AnyConnection, node: &str, was_out: &BTreeSet<String>) -> Result<bool> {
    let before = read(&mut *connection).await?;
    if !before.vips.iter().any(|vip| vip.nodes.iter().any(|member| member.name == node)) {
        return Ok(false);
    }
    let out = out_of_service(&mut *connection).await?;
    let rules = before.clone().after(&before, was_out, &out);
    put(connection, &rules).await?;
    Ok(true)
}

pub(crate) async fn read(connection: &mut AnyConnection) -> Result<Steering> {
    let sql = "SELECT rules FROM steering WHERE id = 1";
    let text: Option<String> = sqlx::query_scalar(sql).fetch_optional(connection).await?;
    let Some(text) = text else { return Ok(Steering::default()) };
    serde_json::from_str(&text).map_err(|_| StoreError::Corrupt("steering".to_owned()))
}
