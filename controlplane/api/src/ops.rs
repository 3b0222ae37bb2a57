//! The operations that change a deployment. Each runs in a task of its own, so that a client who goes away does not stop it
//! half-way, and holds the deployment's lock, so that one deployment's operations happen one after the other.
//!
//! A step is committed to the store, then acted on, then its result is committed: what a kill, or an error in between,
//! leaves behind is in the rows, and [`settle`] finishes it: at the next start for all deployments, and before the next
//! operation for the one it is about.

use std::collections::HashSet;
use std::pin::pin;
use std::time::Duration;

use axum::http::StatusCode;
use base::id::ArtifactHash;
use bytes::Bytes;
use model::{Activation, DeploymentId, EnvVarSpec, Message, ModuleError, RouteId, State, VersionMetadata, code};
use plane_abi::code::code_name;
use sha2::{Digest, Sha256};
use store::{Begun, DeploymentRow, NewRoute, NewVersion, StoreError, Validated, VersionRef, VersionRow};

use crate::artifacts::ArtifactError;
use crate::error::ApiError;
use crate::publisher::{PublishError, Published};
use crate::validator::ValidatorError;
use crate::{App, serve};

/// A module as it came in.
pub(crate) enum Module {
    /// Within the limit.
    Whole(Bytes),
    /// Over the limit: only what it was is known.
    TooLarge { hash: ArtifactHash, size_bytes: u64 },
}

/// What an upload brings.
pub(crate) struct Upload {
    pub(crate) module: Module,
    pub(crate) metadata: VersionMetadata,
    /// The source map: bytes that nothing here looks into.
    pub(crate) map: Option<Bytes>,
}

/// What came of a change: the thing changed, and remarks on nodes that do not have it yet.
pub(crate) struct Changed<T> {
    pub(crate) result: T,
    pub(crate) messages: Vec<Message>,
}

/// Runs an operation on a deployment to its end, whoever waits for it.
pub(crate) async fn run<T, F>(
    app: &App,
    deployment: DeploymentId,
    operation: impl FnOnce(App) -> F,
) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, ApiError>> + Send + 'static,
{
    let locks = app.locks.clone();
    let settling = app.clone();
    let operation = operation(app.clone());
    let task = async move {
        let _guard = locks.lock(deployment).await;
        settle(&settling, deployment).await?;
        operation.await
    };
    let span = tracing::Span::current();
    tokio::spawn(tracing::Instrument::instrument(task, span)).await.map_err(ApiError::internal)?
}

/// The same for an operation that is about no one deployment.
pub(crate) async fn detached<T, F>(app: &App, operation: impl FnOnce(App) -> F) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, ApiError>> + Send + 'static,
{
    let task = operation(app.clone());
    let span = tracing::Span::current();
    tokio::spawn(tracing::Instrument::instrument(task, span)).await.map_err(ApiError::internal)?
}

/// Finishes what an operation on this deployment left behind. The caller holds its lock.
async fn settle(app: &App, deployment: DeploymentId) -> Result<(), ApiError> {
    let Some(row) = app.store.deployment(deployment).await? else {
        return Ok(());
    };
    match row.status {
        State::Deploying | State::RollingBack => {
            app.publisher.publish(Some(deployment)).await.map_err(publish_failed)?;
        }
        State::Deleting => {
            app.publisher.publish(None).await.map_err(publish_failed)?;
            app.store.finish_delete(deployment).await?;
        }
        State::Validating => {
            let left = app.store.unfinished().await?;
            for version in left.validating.into_iter().filter(|version| version.deployment_id == deployment) {
                settle_validation(app, version).await?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// An artifact of a shared store that no version has is deleted only if it is as old as this.
const SWEEP_GRACE: Duration = Duration::from_secs(3600);

/// Finishes everything that the process before this one left behind, then sweeps artifacts that no version has. Publishes
/// once in any case, so that nodes get what is desired now.
pub(crate) async fn recover(app: &App) -> Result<(), ApiError> {
    let left = app.store.unfinished().await?;
    if !left.is_empty() {
        let (validating, publishing, deleting) = (left.validating.len(), left.publishing.len(), left.deleting.len());
        tracing::warn!(validating, publishing, deleting, "finishing what was going on when the last process ended");
    }
    let mut named: HashSet<String> = app.store.artifact_hashes().await?.into_iter().collect();
    named.extend(app.store.map_hashes().await?);
    let with_code = app.store.artifacts_with_code().await?;
    let with_code = with_code.iter().filter_map(|hash| ArtifactHash::from_hex(hash));
    named.extend(with_code.map(|artifact| code_name(artifact).to_string()));
    // Another process that shares the store may have stored an artifact whose version it has not recorded yet.
    let grace = if app.store.is_shared() { SWEEP_GRACE } else { Duration::ZERO };
    match app.artifacts.sweep(&named, grace).await {
        Ok(0) => {}
        Ok(swept) => tracing::info!(swept, "deleted artifacts that no version has"),
        // They only take up room, and what is to be published needs no artifact store here.
        Err(error) => tracing::warn!(%error, "artifacts that no version has stay until the next start"),
    }
    for row in left.publishing.iter().chain(&left.deleting) {
        settle(app, row.id).await?;
        tracing::info!(deployment = %row.id, was = %row.status, "finished");
    }
    app.publisher.publish(None).await.map_err(publish_failed)?;
    // Validators take their time: the service is up meanwhile, and each deployment is locked until its turn is over.
    for version in left.validating {
        let app = app.clone();
        tokio::spawn(async move {
            let _guard = app.locks.lock(version.deployment_id).await;
            let (deployment, number) = (version.deployment_id, version.version_number);
            match settle_validation(&app, version).await {
                Ok(()) => tracing::info!(%deployment, number, "finished the validation"),
                Err(error) => tracing::error!(%deployment, number, ?error, "could not finish the validation"),
            }
        });
    }
    Ok(())
}

/// How often unfinished operations are looked for.
const SETTLE_PERIOD: Duration = Duration::from_secs(5);

/// Finishes what operations left behind that an error cut short (the store was away), without waiting for the next
/// operation on that deployment. What is unfinished in two looks, and locked by nobody, is not going on. Ends with the service.
pub(crate) async fn keep_settled(app: App) {
    let mut stop = pin!(serve::stopping(app.stopping()));
    let mut before: HashSet<DeploymentId> = HashSet::new();
    loop {
        tokio::select! {
            () = stop.as_mut() => return,
            () = tokio::time::sleep(SETTLE_PERIOD) => {}
        }
        // An error: it is looked for again.
        let Ok(left) = app.store.unfinished().await else { continue };
        let rows = left.publishing.iter().chain(&left.deleting).map(|row| row.id);
        let found: HashSet<DeploymentId> = rows.chain(left.validating.iter().map(|it| it.deployment_id)).collect();
        for &deployment in found.intersection(&before) {
            let Some(_guard) = app.locks.try_lock(deployment) else { continue };
            let settled = async {
                settle(&app, deployment).await?;
                for version in left.validating.iter().filter(|version| version.deployment_id == deployment) {
                    settle_validation(&app, version.clone()).await?;
                }
                Ok::<_, ApiError>(())
            };
            match settled.await {
                Ok(()) => tracing::info!(%deployment, "finished what an error had cut short"),
                Err(error) => tracing::warn!(%deployment, %error, "could not finish what an error had cut short"),
            }
        }
        before = found;
    }
}

/// Publishes again when a node comes that has served a later generation than the one that is published: it takes none
/// that is not newer. Ends with the service.
pub(crate) async fn outnumber(app: App) {
    let mut nodes = app.fleet.watch();
    let mut stop = pin!(serve::stopping(app.stopping()));
    loop {
        tokio::select! {
            () = stop.as_mut() => return,
            changed = nodes.changed() => if changed.is_err() { return },
        }
        let (seen, published) = (app.fleet.highest_generation(), app.publisher.newest());
        if seen > published {
            tracing::warn!(seen, published, "a node has served a later generation than this store knows of");
            if let Err(error) = app.publisher.publish(None).await {
                tracing::error!(%error, "could not publish a later generation");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Validates again a version whose validation has no result.
async fn settle_validation(app: &App, version: VersionRow) -> Result<(), ApiError> {
    let row = app.store.version(version.deployment_id, VersionRef::Id(version.id)).await?;
    if row.is_none_or(|row| row.status != model::VersionStatus::Validating) {
        return Ok(());
    }
    let hash = ArtifactHash::from_hex(&version.artifact_hash);
    let hash = hash.ok_or_else(|| ApiError::internal("a version without artifact hash"))?;
    let verdict = match app.artifacts.get(hash).await {
        Ok(module) => validate(app, hash, module).await.0,
        // It is looked for again.
        Err(error @ ArtifactError::Store(_)) => return Err(error.into()),
        Err(error) => {
            tracing::error!(%error, "a version to be validated has no module");
            Err(module_error("startup", "the module was lost before it could be validated; upload it again"))
        }
    };
    let validated = app.store.finish_validation(version.deployment_id, version.id, verdict).await?;
    if validated.deploying.is_some() {
        app.publisher.publish(Some(version.deployment_id)).await.map_err(publish_failed)?;
    }
    Ok(())
}

/// Stores, records and validates a module, its source map with it. The first of a deployment that runs is put into service at once.
pub(crate) async fn upload(
    app: App,
    deployment: DeploymentId,
    upload: Upload,
) -> Result<(VersionRow, Vec<Message>), ApiError> {
    let Upload { module, metadata, map } = upload;
    if let Module::Whole(bytes) = &module {
        let hash = ArtifactHash(Sha256::digest(bytes).into());
        app.store.check_artifact(deployment, &hash.to_string(), bytes.len() as u64).await?;
    }
    let map_hash = match map {
        Some(map) => Some(app.artifacts.put(map).await?.to_string()),
        None => None,
    };
    let (new, module) = match module {
        Module::TooLarge { hash, size_bytes } => {
            let artifact_hash = hash.to_string();
            (NewVersion { artifact_hash, artifact_url: String::new(), size_bytes, metadata, map_hash }, None)
        }
        Module::Whole(bytes) => {
            // The bytes come first: a version never names what is not there.
            let hash = app.artifacts.put(bytes.clone()).await?;
            let (artifact_hash, artifact_url) = (hash.to_string(), format!("artifacts/{hash}"));
            let size_bytes = bytes.len() as u64;
            (NewVersion { artifact_hash, artifact_url, size_bytes, metadata, map_hash }, Some((hash, bytes)))
        }
    };
    let version = app.store.begin_upload(deployment, &new).await?;
    let (verdict, fault) = match module {
        Some((hash, bytes)) => validate(&app, hash, bytes).await,
        None => {
            let message = format!("the module has {} bytes; at most 10 MiB are allowed", new.size_bytes);
            (Err(module_error("too_large", message)), None)
        }
    };
    let Validated { version, deploying } = app.store.finish_validation(deployment, version.id, verdict).await?;
    if let Some(fault) = fault {
        return Err(fault);
    }
    if let Some(error) = &version.error {
        return Err(refused_module(&version, error));
    }
    let mut messages = Vec::new();
    if deploying.is_some() {
        let published = app.publisher.publish(Some(deployment)).await.map_err(publish_failed)?;
        if let Some(reason) = &published.refused {
            return Err(refused_by_node(reason));
        }
        messages = remarks(&published);
    }
    let version = app.store.version(deployment, VersionRef::Id(version.id)).await?;
    Ok((version.ok_or_else(|| ApiError::not_found("version"))?, messages))
}

/// The verdict, with the SHA-256 of the module's code cache if one was stored; and, if the validator is at fault, what to tell the caller: the version is then invalid for want of a
/// verdict, so that nothing hangs, and the upload is to be tried again.
async fn validate(
    app: &App,
    artifact: ArtifactHash,
    module: Bytes,
) -> (Result<Option<String>, ModuleError>, Option<ApiError>) {
    match app.validator.validate(module).await {
        Ok(Ok(code)) => (Ok(store_code(app, artifact, code).await), None),
        Ok(Err(error)) => (Err(error), None),
        Err(error) => {
            tracing::error!(%error, "no verdict");
            let message = match error {
                ValidatorError::Busy => "too many modules are being validated; upload again",
                _ => "the validator is not available; upload again",
            };
            (Err(module_error("startup", message)), Some(ApiError::try_again(message)))
        }
    }
}

/// Keeps a module's compiled code. Without it nodes compile it themselves, so nothing here is an error.
async fn store_code(app: &App, artifact: ArtifactHash, code: Option<Bytes>) -> Option<String> {
    match app.artifacts.put_code(artifact, code?).await {
        Ok(hash) => Some(hash.to_string()),
        Err(error) => {
            tracing::error!(%artifact, %error, "a code cache was not kept");
            None
        }
    }
}

fn module_error(kind: &str, message: impl Into<String>) -> ModuleError {
    ModuleError { kind: kind.to_owned(), message: message.into(), location: None }
}

fn refused_module(version: &VersionRow, error: &ModuleError) -> ApiError {
    let (status, code) = match error.kind.as_str() {
        "too_large" => (StatusCode::PAYLOAD_TOO_LARGE, code::MODULE_TOO_LARGE),
        _ => (StatusCode::UNPROCESSABLE_ENTITY, code::INVALID_MODULE),
    };
    let message = match error.location {
        Some(model::Location { line, column: Some(column) }) => {
            format!("line {line}, column {column}: {}", error.message)
        }
        Some(model::Location { line, column: None }) => format!("line {line}: {}", error.message),
        None => error.message.clone(),
    };
    let mut refused = ApiError::new(status, code, message);
    refused.item.location = error.location;
    refused.version = Some(Box::new(version.to_api()));
    refused
}

/// Makes a version the active one.
pub(crate) async fn activate(app: App, id: DeploymentId, which: VersionRef) -> Result<Changed<Activation>, ApiError> {
    let begun = app.store.begin_activation(id, which).await?;
    go(&app, id, begun).await
}

/// Makes an earlier version the active one.
pub(crate) async fn rollback(app: App, id: DeploymentId, number: Option<u32>) -> Result<Changed<Activation>, ApiError> {
    let begun = app.store.begin_rollback(id, number).await?;
    go(&app, id, begun).await
}

async fn go(app: &App, id: DeploymentId, begun: Begun) -> Result<Changed<Activation>, ApiError> {
    let (version, published) = match begun {
        Begun::AlreadyActive(version) => (version, None),
        Begun::Started { version, .. } => {
            (version, Some(app.publisher.publish(Some(id)).await.map_err(publish_failed)?))
        }
    };
    if let Some(reason) = published.as_ref().and_then(|published| published.refused.as_ref()) {
        return Err(refused_by_node(reason));
    }
    let row = app.store.deployment(id).await?.ok_or_else(|| ApiError::not_found("deployment"))?;
    let version = app.store.version(id, VersionRef::Id(version.id)).await?;
    let (generation, acks) = match &published {
        Some(published) => (published.generation, published.acks.clone()),
        None => {
            let generation = app.publisher.newest();
            (generation, app.fleet.wait_acked(generation, Duration::ZERO).await)
        }
    };
    let result = Activation {
        deployment: row.to_api(&app.platform),
        version: version.ok_or_else(|| ApiError::not_found("version"))?.to_api(),
        generation,
        nodes_acked: acks.acked,
        nodes_connected: acks.connected,
    };
    Ok(Changed { result, messages: published.as_ref().map(remarks).unwrap_or_default() })
}

/// Stops or starts serving.
pub(crate) async fn set_paused(app: App, id: DeploymentId, paused: bool) -> Result<Changed<DeploymentRow>, ApiError> {
    let (row, generation) = app.store.set_paused(id, paused).await?;
    let messages = publish_change(&app, generation.is_some()).await?;
    Ok(Changed { result: row, messages })
}

/// Takes a deployment away.
pub(crate) async fn delete(app: App, id: DeploymentId) -> Result<Changed<DeploymentRow>, ApiError> {
    match app.store.begin_delete(id).await {
        Ok(_) => {}
        Err(StoreError::NotFound(_)) => return Err(ApiError::not_found("deployment")),
        Err(error) => return Err(error.into()),
    }
    let messages = publish_change(&app, true).await?;
    let row = app.store.finish_delete(id).await?;
    Ok(Changed { result: row, messages })
}

/// Adds a route.
pub(crate) async fn add_route(app: App, id: DeploymentId, new: NewRoute) -> Result<Changed<model::Route>, ApiError> {
    let (result, _) = app.store.add_route(id, &new).await?;
    Ok(Changed { result, messages: publish_change(&app, true).await? })
}

/// Puts a route in or out of force.
pub(crate) async fn patch_route(
    app: App,
    id: DeploymentId,
    route: RouteId,
    enabled: bool,
) -> Result<Changed<model::Route>, ApiError> {
    let (result, _) = app.store.set_route_enabled(id, route, enabled).await?;
    Ok(Changed { result, messages: publish_change(&app, true).await? })
}

/// Takes a route away.
pub(crate) async fn delete_route(
    app: App,
    id: DeploymentId,
    route: RouteId,
) -> Result<Changed<model::Route>, ApiError> {
    let (result, _) = app.store.delete_route(id, route).await?;
    Ok(Changed { result, messages: publish_change(&app, true).await? })
}

/// Sets a variable.
pub(crate) async fn set_env(
    app: App,
    id: DeploymentId,
    key: String,
    var: EnvVarSpec,
) -> Result<Changed<model::EnvVar>, ApiError> {
    let (result, _) = app.store.set_env(id, &key, &var).await?;
    Ok(Changed { result, messages: publish_change(&app, true).await? })
}

/// Takes a variable away.
pub(crate) async fn delete_env(app: App, id: DeploymentId, key: String) -> Result<Changed<model::EnvVar>, ApiError> {
    let (result, _) = app.store.delete_env(id, &key).await?;
    Ok(Changed { result, messages: publish_change(&app, true).await? })
}

/// Makes or changes a tier's plan.
pub(crate) async fn set_plan(app: App, tier: String, plan: model::SetPlan) -> Result<Changed<model::Plan>, ApiError> {
    let (result, _) = app.store.set_plan(&tier, &plan).await?;
    Ok(Changed { result, messages: publish_change(&app, true).await? })
}

/// Replaces the rules for packets.
pub(crate) async fn set_steering(app: App, rules: model::Steering) -> Result<Changed<model::Steering>, ApiError> {
    let result = app.store.set_steering(rules).await?;
    Ok(Changed { result, messages: publish_change(&app, true).await? })
}

/// Gives an account another tier.
pub(crate) async fn set_account_tier(
    app: App,
    id: model::AccountId,
    tier: String,
) -> Result<Changed<model::Account>, ApiError> {
    let (result, _) = app.store.set_account_tier(id, &tier).await?;
    Ok(Changed { result, messages: publish_change(&app, true).await? })
}

/// Publishes a change that is committed. A node that refuses the configuration is told of, and does not undo the change.
async fn publish_change(app: &App, changed: bool) -> Result<Vec<Message>, ApiError> {
    if !changed {
        return Ok(Vec::new());
    }
    Ok(remarks(&publish(app).await?))
}

/// Publishes what is committed.
pub(crate) async fn publish(app: &App) -> Result<Published, ApiError> {
    app.publisher.publish(None).await.map_err(publish_failed)
}

/// What the caller should know of nodes that do not serve it yet.
pub(crate) fn remarks(published: &Published) -> Vec<Message> {
    let mut messages = Vec::new();
    if let Some(reason) = published.acks.refusal() {
        messages.push(Message { code: code::REFUSED_BY_NODE, message: reason });
    }
    let late = published.acks.connected.saturating_sub(published.acks.acked);
    if late > 0 && messages.is_empty() {
        let message = format!("{late} of {} connected nodes do not serve it yet", published.acks.connected);
        messages.push(Message { code: 0, message });
    }
    messages
}

pub(crate) fn refused_by_node(reason: &str) -> ApiError {
    let message = format!("it did not come into service, and the version before it is active again: {reason}");
    ApiError::new(StatusCode::BAD_GATEWAY, code::REFUSED_BY_NODE, message)
}

/// The change is in the store and goes out with the next publication.
fn publish_failed(error: PublishError) -> ApiError {
    match error {
        PublishError::Busy => ApiError::try_again("too many changes are being published"),
        PublishError::Stopped => ApiError::try_again("the control plane is stopping"),
        PublishError::Store(error) if error.is_busy() => ApiError::try_again("the store is busy"),
        error => ApiError::internal(error),
    }
}
