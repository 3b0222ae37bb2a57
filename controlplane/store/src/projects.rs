//! Projects.

use model::{AccountId, CreateProject, Project, ProjectId, Timestamp};
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::error::conflict;
use crate::{Page, Result, Store, StoreError, row};

fn from_row(row: &AnyRow) -> sqlx::Result<Project> {
    Ok(Project {
        id: row::parsed(row, "id")?,
        account_id: row::parsed(row, "account_id")?,
        name: row.try_get("name")?,
        slug: row.try_get("slug")?,
        created_at: row::time(row, "created_at")?,
    })
}

impl Store {
    /// Makes a project. A slug that the account has already is a conflict.
    pub async fn create_project(&self, account: AccountId, request: &CreateProject) -> Result<Project> {
        let project = Project {
            id: ProjectId::new(),
            account_id: account,
            name: request.name.clone(),
            slug: request.slug_or_made(),
            created_at: Timestamp::now(),
        };
        let mut tx = self.write().await?;
        let known = sqlx::query("SELECT 1 FROM accounts WHERE id = $1").bind(account.to_string());
        if known.fetch_optional(&mut *tx).await?.is_none() {
            return Err(StoreError::NotFound("account"));
        }
        sqlx::query("INSERT INTO projects (id, account_id, name, slug, created_at) VALUES ($1, $2, $3, $4, $5)")
            .bind(project.id.to_string())
            .bind(account.to_string())
            .bind(&project.name)
            .bind(&project.slug)
            .bind(project.created_at.unix_ms())
            .execute(&mut *tx)
            .await
            .map_err(|e| conflict(e, "slug", "another project of the account has it"))?;
        tx.commit().await?;
        Ok(project)
    }

    /// The project of that id.
    pub async fn project(&self, id: ProjectId) -> Result<Option<Project>> {
        let sql = "SELECT id, account_id, name, slug, created_at FROM projects WHERE id = $1";
        Ok(sqlx::query(sql).bind(id.to_string()).try_map(|r| from_row(&r)).fetch_optional(&self.reader).await?)
    }

    /// An account's projects in the order they were made.
    pub async fn projects(&self, account: AccountId, page: &Page) -> Result<Vec<Project>> {
        let sql = "SELECT id, account_id, name, slug, created_at FROM projects \
                   WHERE account_id = $1 AND id > $2 ORDER BY id LIMIT $3";
        let after = page.after.as_deref().unwrap_or("");
        let query = sqlx::query(sql).bind(account.to_string()).bind(after).bind(i64::from(page.limit));
        Ok(query.try_map(|r| from_row(&r)).fetch_all(&self.reader).await?)
    }

    /// Gives a project another name.
    pub async fn rename_project(&self, id: ProjectId, name: &str) -> Result<Project> {
        let sql = "UPDATE projects SET name = $1 WHERE id = $2 RETURNING id, account_id, name, slug, created_at";
        let mut tx = self.write().await?;
        let query = sqlx::query(sql).bind(name).bind(id.to_string());
        let project = query.try_map(|r| from_row(&r)).fetch_optional(&mut *tx).await?;
        tx.commit().await?;
        project.ok_or(StoreError::NotFound("project"))
    }

    /// Deletes a project that has no deployment left, with the rows of its deleted deployments.
    pub async fn delete_project(&self, id: ProjectId) -> Result<()> {
        let mut tx = self.write().await?;
        let left = "SELECT 1 FROM deployments WHERE project_id = $1 AND status <> 'deleted' LIMIT 1";
        if sqlx::query(left).bind(id.to_string()).fetch_optional(&mut *tx).await?.is_some() {
            return Err(StoreError::Conflict {
                field: "project_id".to_owned(),
                message: "the project still has deployments; delete them first".to_owned(),
            });
        }
        let deleted = sqlx::query("DELETE FROM projects WHERE id = $1").bind(id.to_string()).execute(&mut *tx).await?;
        if deleted.rows_affected() == 0 {
            return Err(StoreError::NotFound("project"));
        }
        tx.commit().await?;
        Ok(())
    }
}
