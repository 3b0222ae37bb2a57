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
    /// Bytes of the module, with those of the modules beside it.
    pub size_bytes: u64,
    /// Whether it can be activated.
    pub status: VersionStatus,
    /// Why not, if not.
    #[schema(required = true)]
    pub error: Option<ModuleError>,
    /// Whether it is the one that serves.
    pub active: bool,
    /// Whether a source map came with it: `GET …/versions/{version}/source-map`.
    #[serde(default)]
    pub has_source_map: bool,
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
    /// Switches of behaviour, as `nodejs_compat`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compatibility_flags: Vec<String>,
    /// When its `scheduled` handler is to run, in UTC: `*/5 * * * *`. The days of the week are 1 (Sunday) to 7.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crons: Vec<String>,
    /// Other Workers of the account that it may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceBinding>,
    /// What its project file named, so that the next deployment knows what the file no longer has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub declared: Option<Declared>,
    /// The module's file name, for stack traces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub main_module: Option<String>,
    /// A line for the list of versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub message: Option<String>,
}

/// Another Worker in `env`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceBinding {
    /// Its name in `env`.
    pub binding: String,
    /// The Worker's name: a deployment's of the same account.
    pub service: String,
    /// One of its entrypoints, by the name of its export; the default one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub entrypoint: Option<String>,
    /// What it sees as `ctx.props`: an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object, nullable = false)]
    pub props: Option<serde_json::Map<String, serde_json::Value>>,
}

impl ServiceBinding {
    /// What is `ctx.props`, as JSON; empty for none.
    pub fn props_text(&self) -> String {
        self.props.as_ref().map(|props| serde_json::Value::Object(props.clone()).to_string()).unwrap_or_default()
    }
}

/// Names that a project file gave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// Patterns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// Names of variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vars: Vec<String>,
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
        let lists = [
            ("compatibility_flags", &self.compatibility_flags, rules::FLAGS_MAX),
            ("crons", &self.crons, rules::CRONS_MAX),
        ];
        for (field, texts, most) in lists {
            let bad = |text: &String| {
                text.is_empty() || text.len() > rules::FLAG_BYTES_MAX || text.contains(char::is_control)
            };
            if texts.len() > most || texts.iter().any(bad) {
                let message = format!("must be at most {most}, each of 1 to 100 bytes without control characters");
                return Err(FieldError::new(format!("metadata.{field}"), message));
            }
        }
        self.validate_services()?;
        if let Some(declared) = &self.declared
            && (declared.routes.len() > rules::ROUTES_MAX || declared.vars.len() > rules::ENV_VARS_MAX)
        {
            return Err(FieldError::new("metadata.declared", "must have at most 1000 routes and 128 variables"));
        }
        match &self.message {
            Some(text) if text.len() > rules::MESSAGE_BYTES_MAX || text.contains('\0') => {
                Err(FieldError::new("metadata.message", "must be at most 1000 bytes without NUL"))
            }
            _ => Ok(()),
        }
    }
}

impl VersionMetadata {
    fn validate_services(&self) -> Result<(), FieldError> {
        if self.services.len() > rules::BINDINGS_MAX {
            return Err(FieldError::new("metadata.services", "must be at most 100"));
        }
        for (i, service) in self.services.iter().enumerate() {
            rules::env_key(&format!("metadata.services[{i}].binding"), &service.binding)?;
            rules::name(&format!("metadata.services[{i}].service"), &service.service)?;
            let entrypoint = service.entrypoint.as_deref();
            let bad = |name: &str| {
                name.is_empty() || name.len() > rules::ENTRYPOINT_BYTES_MAX || name.contains(char::is_control)
            };
            if entrypoint.is_some_and(bad) {
                let field = format!("metadata.services[{i}].entrypoint");
                return Err(FieldError::new(field, "must be 1 to 200 bytes without control characters"));
            }
            if service.props_text().len() > rules::PROPS_BYTES_MAX {
                let field = format!("metadata.services[{i}].props");
                return Err(FieldError::new(field, "must be at most 4096 bytes as JSON"));
            }
            if self.services[..i].iter().any(|other| other.binding == service.binding) {
                return Err(FieldError::new(format!("metadata.services[{i}].binding"), "is there twice"));
            }
        }
        Ok(())
    }
}

/// The multipart body of an upload, for the OpenAPI document. Any other part with a file name is a module beside the main one: the part's
/// name is what imports call it (`./` in front), its content type says what it is: `application/wasm`, `text/plain`,
/// `application/octet-stream`, `application/json` or `application/javascript+module`.
#[derive(ToSchema)]
pub struct UploadVersion {
    /// One ES module, UTF-8; with the modules beside it at most 10 MiB.
    #[schema(value_type = String, format = Binary)]
    pub file: Vec<u8>,
    /// What comes with it, JSON.
    pub metadata: Option<VersionMetadata>,
    /// Its source map, at most 16 MiB. Kept as it is and shown to the deployment's owner alone.
    #[schema(value_type = Option<String>, format = Binary)]
    pub source_map: Option<Vec<u8>>,
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
        let bad = VersionMetadata { crons: vec![String::new()], ..Default::default() };
        assert_eq!(bad.validate().unwrap_err().field, "metadata.crons");
        let bad = VersionMetadata { compatibility_flags: vec!["x".to_owned(); 65], ..Default::default() };
        assert_eq!(bad.validate().unwrap_err().field, "metadata.compatibility_flags");
        let routes = vec!["a.example/*".to_owned(); 1001];
        let bad = VersionMetadata { declared: Some(Declared { routes, vars: vec![] }), ..Default::default() };
        assert_eq!(bad.validate().unwrap_err().field, "metadata.declared");
        let service = |binding: &str| ServiceBinding {
            binding: binding.into(),
            service: "b".into(),
            entrypoint: None,
            props: None,
        };
        let services = |all: Vec<ServiceBinding>| VersionMetadata { services: all, ..Default::default() }.validate();
        services(vec![service("A"), service("B")]).unwrap();
        assert_eq!(services(vec![service("A"), service("A")]).unwrap_err().field, "metadata.services[1].binding");
        assert_eq!(services(vec![service("")]).unwrap_err().field, "metadata.services[0].binding");
        assert_eq!(services(vec![service("A"); 101]).unwrap_err().field, "metadata.services");
        for name in ["", "a\nb", &"x".repeat(201)] {
            let wrong = ServiceBinding { entrypoint: Some(name.to_owned()), ..service("A") };
            assert_eq!(services(vec![wrong]).unwrap_err().field, "metadata.services[0].entrypoint", "{name:?}");
        }
        let props = |bytes: usize| {
            let props = serde_json::json!({ "a": "x".repeat(bytes - 8) }).as_object().cloned();
            services(vec![ServiceBinding { props, ..service("A") }])
        };
        props(4096).unwrap();
        assert_eq!(props(4097).unwrap_err().field, "metadata.services[0].props");
        let list = r#"{"services": [{"binding": "A", "service": "b", "props": [1]}]}"#;
        assert!(serde_json::from_str::<VersionMetadata>(list).is_err());
        assert!(serde_json::from_str::<VersionMetadata>(r#"{"compat_date": "2025-01-01"}"#).is_err());
    }
}
