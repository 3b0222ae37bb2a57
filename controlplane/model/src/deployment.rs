//! Deployments, their routes, variables and bindings.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::rules::{self, FieldError};
use crate::{DeploymentId, KvNamespaceId, ProjectId, RouteId, State, Timestamp, VersionId};

/// One deployed Worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deployment {
    /// Its id.
    pub id: DeploymentId,
    /// The project it belongs to.
    pub project_id: ProjectId,
    /// For people.
    pub name: String,
    /// Answers for `<subdomain>.<platform domain>`; unique.
    pub subdomain: String,
    /// Where it answers.
    pub url: String,
    /// Where it is in its life.
    pub status: State,
    /// The version that serves; null if none.
    #[schema(required = true)]
    pub active_version: Option<ActiveVersion>,
    /// What bindings it has.
    pub bindings: Bindings,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// The version that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActiveVersion {
    /// Its id.
    pub id: VersionId,
    /// Its number; `X-Deployment-Version: v<number>`.
    pub version_number: u32,
}

/// `POST /v1/projects/{project_id}/deployments`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateDeployment {
    /// For people.
    pub name: String,
    /// One DNS label; unique on the platform.
    pub subdomain: String,
    /// Patterns it answers for beside its subdomain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<CreateRoute>,
    /// Variables of `env`, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env_vars: BTreeMap<String, EnvVarSpec>,
    /// Bindings of `env`.
    #[serde(default)]
    pub bindings: Bindings,
}

impl CreateDeployment {
    /// Whether every field is what it must be.
    pub fn validate(&self) -> Result<(), FieldError> {
        rules::name("name", &self.name)?;
        rules::subdomain("subdomain", &self.subdomain)?;
        if self.routes.len() > rules::ROUTES_MAX {
            return Err(FieldError::new("routes", format!("must be at most {}", rules::ROUTES_MAX)));
        }
        for (i, route) in self.routes.iter().enumerate() {
            route.validate().map_err(|e| FieldError::new(format!("routes[{i}].{}", e.field), e.message))?;
        }
        if self.env_vars.len() > rules::ENV_VARS_MAX {
            return Err(FieldError::new("env_vars", format!("must be at most {}", rules::ENV_VARS_MAX)));
        }
        for (key, var) in &self.env_vars {
            rules::env_key(&format!("env_vars.{key}"), key)?;
            rules::env_value(&format!("env_vars.{key}.value"), &var.value)?;
        }
        self.bindings.validate(&self.env_vars)
    }
}

/// A pattern that a deployment is to answer for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRoute {
    /// `example.com/*`, `*.example.com/api/*`, or an exact path.
    pub pattern: String,
    /// The zone it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_id: Option<String>,
    /// Whether it is in force; yes if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

impl CreateRoute {
    /// Whether the fields have the right size and alphabet. What a pattern means is checked by the compiler.
    pub fn validate(&self) -> Result<(), FieldError> {
        let pattern = &self.pattern;
        if pattern.is_empty() || pattern.len() > rules::PATTERN_BYTES_MAX || pattern.chars().any(char::is_control) {
            return Err(FieldError::new("pattern", "must be 1 to 500 bytes without control characters"));
        }
        match &self.zone_id {
            Some(zone) if zone.is_empty() || zone.len() > rules::ZONE_BYTES_MAX => {
                Err(FieldError::new("zone_id", "must be 1 to 100 bytes"))
            }
            Some(zone) if zone.chars().any(|c| c.is_control() || c.is_whitespace()) => {
                Err(FieldError::new("zone_id", "must not have spaces or control characters"))
            }
            _ => Ok(()),
        }
    }
}

/// A pattern that a deployment answers for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Route {
    /// Its id.
    pub id: RouteId,
    /// Whose it is.
    pub deployment_id: DeploymentId,
    /// In its normal form; unique on the platform.
    pub pattern: String,
    /// The zone it belongs to; null for none.
    #[schema(required = true)]
    pub zone_id: Option<String>,
    /// Whether it is in force.
    pub enabled: bool,
}

/// `PATCH /v1/deployments/{deployment_id}/routes/{route_id}`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchRoute {
    /// Whether it is in force.
    pub enabled: bool,
}

/// How a variable is shown: neither kind's value is given back by the API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EnvType {
    /// A setting.
    #[default]
    Plain,
    /// A secret.
    Secret,
}

impl EnvType {
    /// Its name in JSON and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            EnvType::Plain => "plain",
            EnvType::Secret => "secret",
        }
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<EnvType> {
        [EnvType::Plain, EnvType::Secret].into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A variable's value as it is set: in `env_vars` of a new deployment, and as the body of
/// `PUT /v1/deployments/{deployment_id}/env/{key}`. The value is kept encrypted.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvVarSpec {
    /// `plain` if absent.
    #[serde(rename = "type", default)]
    pub kind: EnvType,
    /// At most 5120 bytes.
    pub value: String,
}

impl fmt::Debug for EnvVarSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvVarSpec").field("kind", &self.kind).field("value", &"…").finish()
    }
}

/// A variable as the API shows it: name and type, never the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnvVar {
    /// Its name: a property of `env`.
    pub key: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: EnvType,
}

/// Bindings of a deployment (seed 000, "Create Deployment").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Bindings {
    /// Key-value namespaces.
    #[serde(default)]
    pub kv: Vec<KvBinding>,
    /// Durable Object classes.
    #[serde(default)]
    pub durable_objects: Vec<DurableObjectBinding>,
}

/// A key-value namespace as a property of `env`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KvBinding {
    /// The property's name.
    pub name: String,
    /// A namespace of the same account.
    pub namespace_id: KvNamespaceId,
}

/// A Durable Object class as a property of `env`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DurableObjectBinding {
    /// The property's name.
    pub name: String,
    /// The exported class.
    pub class_name: String,
}

impl Bindings {
    /// Whether names are identifiers and no two properties of `env` have the same name.
    pub fn validate(&self, env_vars: &BTreeMap<String, EnvVarSpec>) -> Result<(), FieldError> {
        for (field, count) in [("bindings.kv", self.kv.len()), ("bindings.durable_objects", self.durable_objects.len())]
        {
            if count > rules::BINDINGS_MAX {
                return Err(FieldError::new(field, format!("must be at most {}", rules::BINDINGS_MAX)));
            }
        }
        let kv = self.kv.iter().enumerate().map(|(i, b)| (format!("bindings.kv[{i}].name"), &b.name));
        let objects = self.durable_objects.iter().enumerate();
        let objects = objects.map(|(i, b)| (format!("bindings.durable_objects[{i}].name"), &b.name));
        let mut seen: Vec<&str> = Vec::new();
        for (field, name) in kv.chain(objects) {
            rules::env_key(&field, name)?;
            if env_vars.contains_key(name) || seen.contains(&name.as_str()) {
                return Err(FieldError::new(field, "is the name of another variable or binding"));
            }
            seen.push(name);
        }
        for (i, binding) in self.durable_objects.iter().enumerate() {
            rules::env_key(&format!("bindings.durable_objects[{i}].class_name"), &binding.class_name)?;
        }
        Ok(())
    }
}

/// `POST /v1/deployments/{deployment_id}/rollback`; an empty body rolls back to the previous version.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The version's number; the one that was active before the present one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seed's own request (with an id of ours for the namespace).
    const SEED: &str = r#"{
        "name": "my-worker",
        "subdomain": "my-worker",
        "routes": [{"pattern": "example.com/*", "zone_id": "zone123"}],
        "env_vars": {"API_KEY": {"type": "secret", "value": "sk_live_xxx"}},
        "bindings": {
            "kv": [{"name": "CACHE", "namespace_id": "ns_01932c07a0f07c3e8d5b6a7f8e9d0c1b"}],
            "durable_objects": [{"name": "COUNTER", "class_name": "Counter"}]
        }
    }"#;

    fn check_refused(change: impl FnOnce(&mut CreateDeployment), field: &str) {
        let mut request: CreateDeployment = serde_json::from_str(SEED).unwrap();
        change(&mut request);
        assert_eq!(request.validate().unwrap_err().field, field);
    }

    #[test]
    fn takes_the_seeds_request() {
        let request: CreateDeployment = serde_json::from_str(SEED).unwrap();
        request.validate().unwrap();
        assert_eq!(request.env_vars["API_KEY"].kind, EnvType::Secret);
        assert!(!format!("{request:?}").contains("sk_live"), "a secret in debug output");
    }

    #[test]
    fn names_the_field_at_fault() {
        check_refused(|r| r.name.clear(), "name");
        check_refused(|r| r.subdomain = "A".to_owned(), "subdomain");
        check_refused(|r| r.routes[0].pattern.clear(), "routes[0].pattern");
        check_refused(|r| r.routes[0].zone_id = Some("a b".to_owned()), "routes[0].zone_id");
        check_refused(|r| r.bindings.kv[0].name = "COUNTER".to_owned(), "bindings.durable_objects[0].name");
        check_refused(|r| r.bindings.kv[0].name = "API_KEY".to_owned(), "bindings.kv[0].name");
        check_refused(
            |r| r.bindings.durable_objects[0].class_name = "1".to_owned(),
            "bindings.durable_objects[0].class_name",
        );
        check_refused(|r| r.env_vars.get_mut("API_KEY").unwrap().value = "x".repeat(5121), "env_vars.API_KEY.value");
    }

    #[test]
    fn refuses_unknown_fields() {
        let error = serde_json::from_str::<CreateRoute>(r#"{"pattern":"a/*","enable":true}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `enable`"), "{error}");
    }
}
