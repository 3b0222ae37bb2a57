//! Versions: upload, list, show, activate.

use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, Multipart, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use base::id::ArtifactHash;
use base::package::{Package, Part, PartKind};
use bytes::{Bytes, BytesMut};
use model::{
    Activation, DeploymentId, Envelope, Timestamp, UploadVersion, Version, VersionId, VersionMetadata, code,
    compatibility, rules,
};
use sha2::{Digest, Sha256};
use store::VersionRef;

use crate::auth::Caller;
use crate::error::{ApiError, ApiResult, Reply};
use crate::extract::{Ids, PageQuery, Paged, parse};
use crate::openapi::Problems;
use crate::ops::{self, Module, Upload};
use crate::{App, idempotency};

/// Uploads a version. It is compiled before this answers; one that cannot serve is answered with the place of its error.
/// The first version of a deployment that can serve is activated at once; later ones wait for their activation.
#[utoipa::path(post, path = "/v1/deployments/{deployment_id}/versions", operation_id = "upload_version",
    tag = "versions", params(("deployment_id" = DeploymentId, Path)),
    request_body(content = UploadVersion, content_type = "multipart/form-data"),
    responses((status = 201, description = "Valid", body = Envelope<Version>), Problems))]
pub(crate) async fn upload(
    State(app): State<App>,
    caller: Caller,
    Ids(id): Ids<DeploymentId>,
    request: Request,
) -> Result<Response, ApiError> {
    caller.deployment(&app, id).await?;
    let headers = request.headers().clone();
    let multipart = Multipart::from_request(request, &app).await.map_err(|_| {
        let message = "the body must be `Content-Type: multipart/form-data` with a boundary";
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, code::NOT_ALLOWED, message)
    })?;
    let upload = read_form(multipart).await?;
    check_crons(&upload.metadata.crons)?;
    let fingerprint = fingerprint(id, &upload);
    idempotency::once(&app, &caller, &headers, &fingerprint, store_version(&app, id, upload)).await
}

fn check_crons(crons: &[String]) -> Result<(), ApiError> {
    for (i, cron) in crons.iter().enumerate() {
        plan::check_cron(cron).map_err(|error| {
            ApiError::field(format!("metadata.crons[{i}]"), format!("{cron:?} is no schedule: {error}"))
        })?;
    }
    Ok(())
}

async fn store_version(app: &App, id: DeploymentId, upload: Upload) -> ApiResult<Version> {
    let (version, messages) = ops::run(app, id, move |app| ops::upload(app, id, upload)).await?;
    Ok(Reply::created(version.to_api()).with_messages(messages))
}

fn fingerprint(id: DeploymentId, upload: &Upload) -> String {
    let hash = match &upload.module {
        Module::Whole(bytes) => hex::encode(Sha256::digest(bytes)),
        Module::TooLarge { hash, .. } => hash.to_string(),
    };
    let metadata = serde_json::to_string(&upload.metadata).expect("metadata is plain data");
    let map = upload.map.as_ref().map(|map| hex::encode(Sha256::digest(map))).unwrap_or_default();
    hex::encode(Sha256::digest(format!("upload {id} {hash} {map} {metadata}")))
}

/// A module beside the main one.
struct Beside {
    kind: PartKind,
    name: String,
    bytes: Bytes,
}

/// Reads the parts `file`, `metadata` and `source_map`, each once, and the modules beside the main one.
async fn read_form(mut form: Multipart) -> Result<Upload, ApiError> {
    let (mut module, mut metadata, mut map) = (None, None, None);
    let mut beside: Vec<Beside> = Vec::new();
    while let Some(part) = form.next_field().await.map_err(bad_form)? {
        let name = part.name().unwrap_or("").to_owned();
        match name.as_str() {
            "file" if module.is_none() => module = Some(read_module(part).await?),
            "metadata" if metadata.is_none() => {
                let bytes = read_bounded(part, "metadata", rules::METADATA_BYTES_MAX).await?;
                metadata = Some(parse::<VersionMetadata>(&bytes).map_err(|mut error| {
                    let inner = error.item.field.take().filter(|field| field != "body");
                    error.item.field = Some(inner.map_or("metadata".to_owned(), |field| format!("metadata.{field}")));
                    error
                })?);
            }
            "source_map" if map.is_none() => {
                map = Some(read_bounded(part, "source_map", rules::MAP_BYTES_MAX).await?);
            }
            "file" | "metadata" | "source_map" => return Err(ApiError::field(name, "is there twice")),
            _ => beside.push(read_beside(part, &name, &beside).await?),
        }
    }
    let module = module.ok_or_else(|| ApiError::field("file", "is missing: the module goes into the part `file`"))?;
    let metadata = metadata.unwrap_or_default();
    metadata.validate()?;
    let features = compatibility::features(&metadata, Timestamp::now())?;
    Ok(Upload { module: pack(module, &beside, features), metadata, map })
}

/// Reads a module beside the main one: a part with a file name and the content type of a kind of modules.
async fn read_beside(part: Field<'_>, name: &str, before: &[Beside]) -> Result<Beside, ApiError> {
    let kind = part.file_name().and(part.content_type()).and_then(PartKind::of_content_type);
    let Some(kind) = kind else {
        let message = "is no part of an upload: the parts are `file`, `metadata`, `source_map`, and modules, which have a file name and one of the content types of modules";
        return Err(ApiError::field(name, message));
    };
    rules::part_name(name, name)?;
    if before.len() >= rules::PARTS_MAX {
        return Err(ApiError::field(
            name,
            format!("is one too many: {} modules may be beside the main one", rules::PARTS_MAX),
        ));
    }
    if before.iter().any(|other| other.name == name) {
        return Err(ApiError::field(name, "is there twice"));
    }
    // Over the limit of all together it is too large whatever else comes.
    let bytes = read_bounded(part, name, rules::MODULE_BYTES_MAX).await?;
    Ok(Beside { kind, name: name.to_owned(), bytes })
}

/// The artifact of an upload.
fn pack(main: Module, beside: &[Beside], features: Vec<&'static str>) -> Module {
    let Module::Whole(main) = main else { return main };
    let parts = beside.iter().map(|part| Part { kind: part.kind, name: &part.name, bytes: &part.bytes }).collect();
    let artifact = Package { main: &main, parts, features }.pack();
    if artifact.len() > rules::MODULE_BYTES_MAX {
        let hash = ArtifactHash(Sha256::digest(&artifact).into());
        return Module::TooLarge { hash, size_bytes: artifact.len() as u64 };
    }
    Module::Whole(artifact.into())
}

/// Reads the module. Past the limit its bytes are counted and hashed, and let go.
async fn read_module(mut part: Field<'_>) -> Result<Module, ApiError> {
    let mut kept = BytesMut::new();
    let (mut hash, mut size_bytes) = (Sha256::new(), 0u64);
    while let Some(chunk) = part.chunk().await.map_err(bad_form)? {
        hash.update(&chunk);
        size_bytes += chunk.len() as u64;
        if size_bytes <= rules::MODULE_BYTES_MAX as u64 {
            kept.extend_from_slice(&chunk);
        } else {
            kept = BytesMut::new();
        }
    }
    if size_bytes > rules::MODULE_BYTES_MAX as u64 {
        return Ok(Module::TooLarge { hash: ArtifactHash(hash.finalize().into()), size_bytes });
    }
    Ok(Module::Whole(kept.freeze()))
}

async fn read_bounded(mut part: Field<'_>, name: &str, most: usize) -> Result<Bytes, ApiError> {
    let mut kept = BytesMut::new();
    while let Some(chunk) = part.chunk().await.map_err(bad_form)? {
        if kept.len() + chunk.len() > most {
            return Err(ApiError::field(name, format!("must be at most {most} bytes")));
        }
        kept.extend_from_slice(&chunk);
    }
    Ok(kept.freeze())
}

fn bad_form(error: MultipartError) -> ApiError {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let message = "the upload is over 32 MiB; a module has at most 10 MiB";
        return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, code::BODY_TOO_LARGE, message);
    }
    ApiError::field("body", format!("is not a multipart form: {}", error.body_text()))
}

/// Lists a deployment's versions.
#[utoipa::path(get, path = "/v1/deployments/{deployment_id}/versions", operation_id = "list_versions",
    tag = "versions", params(("deployment_id" = DeploymentId, Path), PageQuery),
    responses((status = 200, description = "Newest first", body = Envelope<Vec<Version>>), Problems))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Ids(id): Ids<DeploymentId>,
    Paged(page): Paged,
) -> ApiResult<Vec<Version>> {
    caller.deployment(&app, id).await?;
    if page.after.as_ref().is_some_and(|after| after.parse::<u32>().is_err()) {
        return Err(ApiError::field("cursor", "is not one that a list gave"));
    }
    let items = app.store.versions(id, &page).await?.iter().map(|row| row.to_api()).collect();
    Ok(Reply::page(items, page.limit, |version: &Version| version.version_number.to_string()))
}

/// Shows a version, by number or id.
#[utoipa::path(get, path = "/v1/deployments/{deployment_id}/versions/{version}", operation_id = "get_version",
    tag = "versions", params(("deployment_id" = DeploymentId, Path), ("version" = String, Path)),
    responses((status = 200, description = "The version", body = Envelope<Version>), Problems))]
pub(crate) async fn get(
    State(app): State<App>,
    caller: Caller,
    Ids((id, version)): Ids<(DeploymentId, String)>,
) -> ApiResult<Version> {
    caller.deployment(&app, id).await?;
    let row = app.store.version(id, version_ref(&version)?).await?;
    Ok(Reply::ok(row.ok_or_else(|| ApiError::not_found("version"))?.to_api()))
}

/// Gives the source map that came with a version, byte for byte.
#[utoipa::path(get, path = "/v1/deployments/{deployment_id}/versions/{version}/source-map",
    operation_id = "get_source_map", tag = "versions",
    params(("deployment_id" = DeploymentId, Path), ("version" = String, Path)),
    responses((status = 200, description = "The map", body = serde_json::Value), Problems))]
pub(crate) async fn source_map(
    State(app): State<App>,
    caller: Caller,
    Ids((id, version)): Ids<(DeploymentId, String)>,
) -> Result<Response, ApiError> {
    caller.deployment(&app, id).await?;
    let row = app.store.version(id, version_ref(&version)?).await?;
    let row = row.ok_or_else(|| ApiError::not_found("version"))?;
    let hash = row.map_hash.as_deref().and_then(ArtifactHash::from_hex);
    let map = app.artifacts.get(hash.ok_or_else(|| ApiError::not_found("source map"))?).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], map).into_response())
}

/// Activates a version, by number or id. It serves on every connected node when this answers, unless a message says
/// otherwise. Activating the active version changes nothing.
#[utoipa::path(put, path = "/v1/deployments/{deployment_id}/versions/{version}", operation_id = "activate_version",
    tag = "versions", params(("deployment_id" = DeploymentId, Path), ("version" = String, Path)),
    responses((status = 200, description = "It serves", body = Envelope<Activation>), Problems))]
pub(crate) async fn activate(
    State(app): State<App>,
    caller: Caller,
    Ids((id, version)): Ids<(DeploymentId, String)>,
) -> ApiResult<Activation> {
    caller.deployment(&app, id).await?;
    let which = version_ref(&version)?;
    let done = ops::run(&app, id, move |app| ops::activate(app, id, which)).await?;
    Ok(Reply::ok(done.result).with_messages(done.messages))
}

/// `5`, `v5` or `ver_…`.
fn version_ref(text: &str) -> Result<VersionRef, ApiError> {
    if text.starts_with(VersionId::PREFIX) {
        return match text.parse() {
            Ok(id) => Ok(VersionRef::Id(id)),
            Err(error) => Err(ApiError::field("version", format!("{error}"))),
        };
    }
    let digits = text.strip_prefix('v').unwrap_or(text);
    match digits.parse::<u32>() {
        Ok(number) if digits.bytes().all(|b| b.is_ascii_digit()) => Ok(VersionRef::Number(number)),
        _ => Err(ApiError::field("version", "must be a version's number or id")),
    }
}
