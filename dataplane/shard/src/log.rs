//! Where the log records of Workers go: out of the shard, without waiting.

use base::id::{AccountId, DeploymentId};
use worker_api::event::LogLevel;

/// One record of a Worker's log stream, with where it comes from.
#[derive(Clone, Debug)]
pub struct WorkerLog {
    /// The tenant.
    pub account: AccountId,
    /// The deployment.
    pub deployment: DeploymentId,
    /// Its version.
    pub version: u32,
    /// When, milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// The request it belongs to; its number means nothing outside its Worker.
    pub request: Option<u64>,
    /// Severity.
    pub level: LogLevel,
    /// Text, at most `limits::LOG_BYTES_MAX` bytes.
    pub text: String,
}

/// Takes the log records of all shards.
///
/// Called on shard threads: must not block; drops records it has no room for, and counts them itself.
pub trait LogSink: Send + Sync + 'static {
    /// One record.
    fn log(&self, record: WorkerLog);
}
