//! The node's own log on standard error, and the way of Workers' log records: to that log and to the agent.

use crate::LogFormat;
use agent::AgentHandle;
use plane_abi::wire;
use shard::{LogSink, WorkerLog};
use std::io::IsTerminal;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;
use worker_api::LogLevel;

/// What is logged unless `RUST_LOG` says otherwise: a tenant's chatter goes to its own log stream alone.
const DEFAULT_FILTER: &str = "info,worker=warn";

/// Starts logging. Lines are written by a thread of their own, so that a slow reader never stops a shard: lines that find
/// the queue full are dropped. The guard writes what is left when it is dropped.
pub(crate) fn start(format: LogFormat) -> WorkerGuard {
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    guard
}

/// Takes Workers' log records.
pub(crate) struct Sink(pub(crate) AgentHandle);

impl LogSink for Sink {
    fn log(&self, record: WorkerLog) {
        let WorkerLog { account, deployment, version, unix_ms, request, level, text } = record;
        macro_rules! emit {
            ($level:ident) => {
                tracing::$level!(target: "worker", %account, %deployment, version, request, "{text}")
            };
        }
        let level = match level {
            LogLevel::Debug => {
                emit!(debug);
                wire::LogLevel::Debug
            }
            LogLevel::Info => {
                emit!(info);
                wire::LogLevel::Info
            }
            LogLevel::Warn => {
                emit!(warn);
                wire::LogLevel::Warn
            }
            LogLevel::Error => {
                emit!(error);
                wire::LogLevel::Error
            }
        };
        // A full queue drops the record; the agent counts that and tells the control plane.
        let _ = self.0.log(wire::LogRecord { deployment: deployment.0, version, level, text, unix_ms, request });
    }
}
