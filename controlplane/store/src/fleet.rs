//! Where nodes stand and what they are to do with requests: regions, points of presence, nodes. Who is connected is the push server's to
//! know.

use model::{NodeState, PatchNode, Pop, Region, Timestamp};
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::{Result, Store, StoreError, desired, row, steering};

/// Regions, points of presence, and nodes that something was said of.
const ROWS_MAX: i64 = 10_000;

/// What was said of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlace {
    /// Its name.
    pub name: String,
    /// The point of presence that it stands in.
    pub pop: Option<String>,
    /// That one's region.
    pub region: Option<String>,
    /// What it is to do with requests.
    pub state: NodeState,
}

impl Store {
    /// Every region, by name.
    pub async fn regions(&self) -> Result<Vec<Region>> {
        let query = sqlx::query("SELECT name, created_at FROM regions ORDER BY name");
        let query = query
            .try_map(|r: AnyRow| Ok(Region { name: r.try_get("name")?, created_at: row::time(&r, "created_at")? }));
        Ok(query.fetch_all(&self.reader).await?)
    }

    /// Every point of presence, by name.
    pub async fn pops(&self) -> Result<Vec<Pop>> {
        let query = sqlx::query("SELECT name, region, created_at FROM pops ORDER BY name").try_map(|r: AnyRow| {
            let created_at = row::time(&r, "created_at")?;
            Ok(Pop { name: r.try_get("name")?, region: r.try_get("region")?, created_at })
        });
        Ok(query.fetch_all(&self.reader).await?)
    }

    /// Makes a point of presence, or moves it to another region, which is made if need be.
    pub async fn set_pop(&self, name: &str, region: &str) -> Result<Pop> {
        let mut tx = self.write().await?;
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM pops").fetch_one(&mut *tx).await?;
        if count >= ROWS_MAX {
            return Err(StoreError::Limit(format!("there are at most {ROWS_MAX} points of presence")));
        }
        let now = Timestamp::now();
        let sql = "INSERT INTO regions (name, created_at) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
        sqlx::query(sql).bind(region).bind(now.unix_ms()).execute(&mut *tx).await?;
        let sql = "INSERT INTO pops (name, region, created_at) VALUES ($1, $2, $3) \
                   ON CONFLICT (name) DO UPDATE SET region = excluded.region RETURNING created_at";
        let query = sqlx::query(sql).bind(name).bind(region).bind(now.unix_ms());
        let created_at = query.try_map(|r: AnyRow| row::time(&r, "created_at")).fetch_one(&mut *tx).await?;
        tx.commit().await?;
        Ok(Pop { name: name.to_owned(), region: region.to_owned(), created_at })
    }

    /// What was said of nodes, by name.
    pub async fn node_places(&self) -> Result<Vec<NodePlace>> {
        let sql =
            "SELECT n.name, n.pop, p.region, n.state FROM nodes n LEFT JOIN pops p ON p.name = n.pop ORDER BY n.name";
        let query = sqlx::query(sql).try_map(|r: AnyRow| {
            Ok(NodePlace {
                name: r.try_get("name")?,
                pop: r.try_get("pop")?,
                region: r.try_get("region")?,
                state: row::named(&r, "state", NodeState::from_name)?,
            })
        });
        Ok(query.fetch_all(&self.reader).await?)
    }

    /// Says where a node stands, and what it is to do with requests; gives whether nodes need a configuration for that, as it is
    /// behind a VIP.
    pub async fn set_node(&self, name: &str, patch: &PatchNode) -> Result<bool> {
        let mut tx = self.write().await?;
        let was_out = steering::out_of_service(&mut tx).await?;
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM nodes").fetch_one(&mut *tx).await?;
        if count >= ROWS_MAX {
            return Err(StoreError::Limit(format!("something is said of at most {ROWS_MAX} nodes")));
        }
        if let Some(pop) = &patch.pop {
            let sql = "SELECT COUNT(*) FROM pops WHERE name = $1";
            let known: i64 = sqlx::query_scalar(sql).bind(pop).fetch_one(&mut *tx).await?;
            if known == 0 {
                let message = "there is no point of presence of that name".to_owned();
                return Err(StoreError::Conflict { field: "pop".to_owned(), message });
            }
        }
        let now = Timestamp::now().unix_ms();
        let sql =
            "INSERT INTO nodes (name, state, updated_at) VALUES ($1, 'serving', $2) ON CONFLICT (name) DO NOTHING";
        sqlx::query(sql).bind(name).bind(now).execute(&mut *tx).await?;
        if let Some(pop) = &patch.pop {
            let sql = "UPDATE nodes SET pop = $1, updated_at = $2 WHERE name = $3";
            sqlx::query(sql).bind(pop).bind(now).bind(name).execute(&mut *tx).await?;
        }
        if let Some(state) = patch.state {
            let sql = "UPDATE nodes SET state = $1, updated_at = $2 WHERE name = $3";
            sqlx::query(sql).bind(state.as_str()).bind(now).bind(name).execute(&mut *tx).await?;
        }
        let behind_vip = match patch.state {
            Some(_) => steering::remember(&mut tx, name, &was_out).await?,
            None => false,
        };
        desired::raise_generation(&mut tx).await?;
        tx.commit().await?;
        Ok(behind_vip)
    }
}
