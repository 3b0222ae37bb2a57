//! `logs/tail`: what a deployment's Workers log, as it comes, over a WebSocket.
//!
//! *Bounds:* `TAILS_MAX` at a time. A tail that does not keep up loses the oldest records and is told how many.
//! A tail ends when its token does, when its deployment is deleted, or when the control plane stops.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::StatusCode;
use axum::response::Response;
use model::{DeploymentId, LogRecord, Timestamp, code};
use push::NodeLog;
use tokio::sync::broadcast::error::RecvError;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::Ids;
use crate::openapi::Problems;
use crate::{App, serve};

/// Tails at a time.
pub(crate) const TAILS_MAX: usize = 256;
/// How often a tail's peer, token and deployment are looked at.
const CHECK_EVERY: Duration = Duration::from_secs(15);
/// A message that the peer does not take ends the tail.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// What a peer may send: nothing of use.
const INCOMING_BYTES_MAX: usize = 4 * 1024;

/// Streams what the deployment's Workers log from now on: each WebSocket text message is one `LogRecord`.
#[utoipa::path(get, path = "/v1/deployments/{deployment_id}/logs/tail", operation_id = "tail_logs", tag = "logs",
    params(("deployment_id" = DeploymentId, Path)),
    responses((status = 101, description = "A WebSocket of `LogRecord`s"), Problems))]
pub(crate) async fn tail(
    State(app): State<App>,
    caller: Caller,
    Ids(id): Ids<DeploymentId>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    caller.deployment(&app, id).await?;
    let upgrade = upgrade.map_err(|_| {
        let message = "logs are a WebSocket: ask for it with `Connection: Upgrade` and `Upgrade: websocket`";
        ApiError::new(StatusCode::UPGRADE_REQUIRED, code::BAD_REQUEST, message)
    })?;
    let slot = Arc::clone(&app.tails).try_acquire_owned();
    let slot = slot.map_err(|_| ApiError::try_again("too many log tails are open"))?;
    // From this moment on: nothing that is logged once the answer is there is missed.
    let logs = app.fleet.logs();
    let upgrade = upgrade.max_message_size(INCOMING_BYTES_MAX).max_frame_size(INCOMING_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let _slot = slot;
        stream(app, caller, id, socket, logs).await;
    }))
}

async fn stream(
    app: App,
    caller: Caller,
    id: DeploymentId,
    mut socket: WebSocket,
    mut logs: tokio::sync::broadcast::Receiver<Arc<NodeLog>>,
) {
    let mut stop = pin!(serve::stopping(app.stopping()));
    let mut check = tokio::time::interval(CHECK_EVERY);
    check.tick().await;
    let mut dropped = 0;
    let end = loop {
        let message = tokio::select! {
            () = stop.as_mut() => break "the control plane is stopping",
            _ = check.tick() => match still_allowed(&app, &caller, id).await {
                true => Message::Ping(Default::default()),
                false => break "the token or the deployment is gone",
            },
            incoming = socket.recv() => match incoming {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
            record = logs.recv() => match record {
                Ok(log) if log.record.deployment == id.as_u128() => {
                    match serde_json::to_string(&to_api(&log, id, &mut dropped)) {
                        Ok(text) => Message::Text(text.into()),
                        Err(_) => continue,
                    }
                }
                Ok(_) => continue,
                Err(RecvError::Lagged(lost)) => {
                    dropped += lost;
                    continue;
                }
                Err(RecvError::Closed) => break "the control plane is stopping",
            },
        };
        match tokio::time::timeout(SEND_TIMEOUT, socket.send(message)).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    };
    let frame = CloseFrame { code: close_code::AWAY, reason: end.into() };
    let _ = tokio::time::timeout(SEND_TIMEOUT, socket.send(Message::Close(Some(frame)))).await;
}

async fn still_allowed(app: &App, caller: &Caller, id: DeploymentId) -> bool {
    let token = app.store.token_by_id(caller.token.id, Timestamp::now()).await;
    // The store being busy for a moment is no reason to end a tail.
    !matches!(token, Ok(None))
        && !matches!(caller.deployment(app, id).await, Err(error) if error.status.is_client_error())
}

fn to_api(log: &NodeLog, id: DeploymentId, dropped: &mut u64) -> LogRecord {
    let record = &log.record;
    LogRecord {
        timestamp: Timestamp::from_unix_ms(i64::try_from(record.unix_ms).unwrap_or(i64::MAX)),
        node: log.node.to_string(),
        deployment_id: id,
        version_number: record.version,
        level: record.level.label().to_owned(),
        message: record.text.clone(),
        request: record.request,
        dropped: std::mem::take(dropped) + log.dropped,
    }
}
