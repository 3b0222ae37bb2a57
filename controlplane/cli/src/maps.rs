//! Records of logs with the author's places: the source map of each version, fetched from the control plane when it is first needed.
//!
//! Bounds: [`KEPT_MAX`] maps. A version without a map, or one that cannot be had, leaves its records as they are; nothing is asked twice.

use model::{DeploymentId, LogRecord};

use crate::bundle::MODULE_NAME;
use crate::client::Client;
use crate::sourcemap::SourceMap;

/// Maps that are kept: of versions that log at the same time.
const KEPT_MAX: usize = 8;

/// A deployment's maps.
pub(crate) struct Maps<'a> {
    client: &'a Client,
    deployment: DeploymentId,
    kept: Vec<(u32, Option<SourceMap>)>,
}

impl<'a> Maps<'a> {
    pub(crate) fn new(client: &'a Client, deployment: DeploymentId) -> Maps<'a> {
        Maps { client, deployment, kept: Vec::new() }
    }

    /// The record with the author's places in its message.
    pub(crate) fn mapped(&mut self, mut record: LogRecord) -> LogRecord {
        if !record.message.contains(MODULE_NAME) {
            return record;
        }
        if let Some(map) = self.of(record.version_number) {
            record.message = map.apply(&record.message, MODULE_NAME);
        }
        record
    }

    fn of(&mut self, version: u32) -> Option<&SourceMap> {
        if !self.kept.iter().any(|(number, _)| *number == version) {
            let bytes = self.client.source_map(self.deployment, version).ok().flatten();
            let map = bytes.and_then(|bytes| SourceMap::parse(&bytes).ok());
            if self.kept.len() == KEPT_MAX {
                self.kept.remove(0);
            }
            self.kept.push((version, map));
        }
        self.kept.iter().find(|(number, _)| *number == version)?.1.as_ref()
    }
}
