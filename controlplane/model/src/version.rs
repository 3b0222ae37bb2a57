//! Versions of a deployment.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::rules::{self, FieldError};
use crate::{DeploymentId, Location, Timestamp, VersionId};

/// Where a version is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VersionStatus {
    /// Being compiled.
    Validating,
    /// Can be activated.
    Valid,
    /// Cannot; `error` says why.
    Invalid,
}

impl VersionStatus {
    /// Its name in JSON and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            VersionStatus::Validating => "validating",
            VersionStatus::Valid => "valid",
            VersionStatus::Invalid => "invalid",
        }
    }

    /// The status of that name.
    pub fn from_name(name: &str) -> Option<VersionStatus> {
        let all = [VersionStatus::Validating, VersionStatus::Valid, VersionStatus::Invalid];
        all.into_iter().find(|status| status.as_str() == name)
    }
}

/// One uploaded version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// Its id.
    pub id: VersionId,
    /// Whose it is.
    pub deployment_id: DeploymentId,
    /// From 1, without gaps in the order of uploads.
    pub version_number: u32,
    /// `sha256:` and 64 hex digits.
    pub artifact_hash: String,
    /// Bytes of the module.
    pub size_bytes: u64,
    /// Whether it can be activated.
    pub status: VersionStatus,
    /// Why not, if not.
    #[schema(required = true)]
    pub error: Option<ModuleError>,
    /// Whether it is the one that serves.
    pub active: bool,
    /// What came with it.
    pub metadata: VersionMetadata,
    /// When it was uploaded.
    pub created_at: Timestamp,
}

/// Why a module cannot run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModuleError {
    /// `syntax`, `no_fetch`, `not_utf8`, `too_large` or `startup`.
    pub kind: String,
    /// What the compiler or the module's top level said.
    pub message: String,
    /// Where, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub location: Option<Location>,
}

/// The part `metadata` of an upload, JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VersionMetadata {
    /// The day whose behaviour the code expects, `2025-01-31`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub compatibility_date: Option<String>,
    /// The module's file name, for stack traces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub main_module: Option<String>,
    /// A line for the list of versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub message: Option<String>,
}

impl VersionMetadata {
    /// Whether every field is what it must be.
    pub fn validate(&self) -> Result<(), FieldError> {
        if let Some(date) = &self.compatibility_date {
            rules::date("metadata.compatibility_date", date)?;
        }
        if let Some(module) = &self.main_module {
            rules::name("metadata.main_module", module)?;
        }
        match &self.message {
            Some(text) if text.len() > rules::MESSAGE_BYTES_MAX || text.contains('\0') => {
                Err(FieldError::new("metadata.message", "must be at most 1000 bytes without NUL"))
            }
            _ => Ok(()),
        }
    }
}

/// The multipart body of an upload, for the OpenAPI document.
#[derive(ToSchema)]
pub struct UploadVersion {
    /// One ES module, UTF-8, at most 10 MiB.
    #[schema(value_type = String, format = Binary)]
    pub file: Vec<u8>,
    /// What comes with it, JSON.
    pub metadata: Option<VersionMetadata>,
}

/// What an activation or a rollback did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Activation {
    /// The deployment, now.
    pub deployment: crate::Deployment,
    /// The version that serves.
    pub version: Version,
    /// The configuration's generation that carries it.
    pub generation: u64,
    /// Connected nodes that serve it already; the others catch up when they are back.
    pub nodes_acked: u32,
    /// Nodes connected at the time.
    pub nodes_connected: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_checked() {
        let seed: VersionMetadata = serde_json::from_str(r#"{"compatibility_date": "2025-01-01"}"#).unwrap();
        seed.validate().unwrap();
        let bad = VersionMetadata { compatibility_date: Some("soon".to_owned()), ..Default::default() };
        assert_eq!(bad.validate().unwrap_err().field, "metadata.compatibility_date");
        let bad = VersionMetadata { message: Some("x".repeat(1001)), ..Default::default() };
        assert_eq!(bad.validate().unwrap_err().field, "metadata.message");
        assert!(serde_json::from_str::<VersionMetadata>(r#"{"compat_date": "2025-01-01"}"#).is_err());
    }
}
