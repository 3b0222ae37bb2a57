//! Projects.

use axum::extract::State;
use model::{AccountId, CreateProject, Envelope, Project, ProjectId, UpdateProject};

use crate::App;
use crate::auth::Caller;
use crate::error::{ApiResult, Reply};
use crate::extract::{Body, Ids, PageQuery, Paged};
use crate::openapi::Problems;

/// Makes a project.
#[utoipa::path(post, path = "/v1/accounts/{account_id}/projects", operation_id = "create_project", tag = "projects",
    params(("account_id" = AccountId, Path)), request_body = CreateProject,
    responses((status = 201, description = "Made", body = Envelope<Project>), Problems))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Ids(account): Ids<AccountId>,
    Body(request): Body<CreateProject>,
) -> ApiResult<Project> {
    caller.account(account)?;
    request.validate()?;
    Ok(Reply::created(app.store.create_project(account, &request).await?))
}

/// Lists an account's projects.
#[utoipa::path(get, path = "/v1/accounts/{account_id}/projects", operation_id = "list_projects", tag = "projects",
    params(("account_id" = AccountId, Path), PageQuery),
    responses((status = 200, description = "In the order they were made", body = Envelope<Vec<Project>>), Problems))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Ids(account): Ids<AccountId>,
    Paged(page): Paged,
) -> ApiResult<Vec<Project>> {
    caller.account(account)?;
    Ok(Reply::page(app.store.projects(account, &page).await?, page.limit, |project| project.id.to_string()))
}

/// Shows a project.
#[utoipa::path(get, path = "/v1/projects/{project_id}", operation_id = "get_project", tag = "projects",
    params(("project_id" = ProjectId, Path)),
    responses((status = 200, description = "The project", body = Envelope<Project>), Problems))]
pub(crate) async fn get(State(app): State<App>, caller: Caller, Ids(id): Ids<ProjectId>) -> ApiResult<Project> {
    Ok(Reply::ok(caller.project(&app, id).await?))
}

/// Gives a project another name.
#[utoipa::path(patch, path = "/v1/projects/{project_id}", operation_id = "update_project", tag = "projects",
    params(("project_id" = ProjectId, Path)), request_body = UpdateProject,
    responses((status = 200, description = "The project, renamed", body = Envelope<Project>), Problems))]
pub(crate) async fn update(
    State(app): State<App>,
    caller: Caller,
    Ids(id): Ids<ProjectId>,
    Body(request): Body<UpdateProject>,
) -> ApiResult<Project> {
    caller.project(&app, id).await?;
    request.validate()?;
    Ok(Reply::ok(app.store.rename_project(id, &request.name).await?))
}

/// Deletes a project that has no deployments.
#[utoipa::path(delete, path = "/v1/projects/{project_id}", operation_id = "delete_project", tag = "projects",
    params(("project_id" = ProjectId, Path)),
    responses((status = 200, description = "The project as it was", body = Envelope<Project>), Problems))]
pub(crate) async fn delete(State(app): State<App>, caller: Caller, Ids(id): Ids<ProjectId>) -> ApiResult<Project> {
    let project = caller.project(&app, id).await?;
    app.store.delete_project(id).await?;
    Ok(Reply::ok(project))
}
