//! The debug form of a snapshot: the compact JSON of seed 000, "Edge Configuration Wire Format", one object a deployment.
//!
//! | field | meaning | | field | meaning |
//! |---|---|---|---|---|
//! | `d` | deployment id, hex | | `n` | name |
//! | `v` | version | | `s` | subdomain |
//! | `h` | `sha256:` and hex | | `a` | account id, hex |
//! | `u` | where the artifact lies | | `z` | artifact bytes |
//! | `e` | sealed env, base64 | | `p` | paused |
//! | `b` | bindings `kv`, `do`, `sv` | | `m` | CPU ms |
//! | `r` | routes | | `c` | compatibility date |
//! | `t` | Unix seconds | | `w` | weight |
//! | | | | `k` | schedules |
//! | | | | `o` | fetched on demand |
//!
//! The left half is the seed's; the right half is left out where it has nothing to say, so that the seed's own example
//! is a valid document. Environments stay sealed: this form can be shown.

use base::id::{AccountId, ArtifactHash, DeploymentId};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use model::Steering;
use plane_abi::{
    BindingKind, Deployment, Distribution, HostKind, Lineage, NewDeployment, NewRoute, PathKind, Snapshot,
    SnapshotWriter, Status,
};
use serde::{Deserialize, Serialize};

use crate::compile::{PlanError, platform_domain};
use crate::rules::{RouteError, check_pattern};

/// A whole snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeSnapshot {
    /// Lineage, hex.
    pub lineage: String,
    /// Generation.
    pub generation: u64,
    /// When it was compiled, milliseconds since the Unix epoch.
    pub created_unix_ms: u64,
    /// Id of the key of all `e`, hex.
    pub env_key: String,
    /// Platform domain.
    pub platform_domain: String,
    /// By ascending id.
    pub deployments: Vec<EdgeConfig>,
    /// What packets meet at a node, as in `PUT /v1/steering`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub steering: Steering,
}

/// One deployment; fields as in the module's table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct EdgeConfig {
    pub d: String,
    pub v: u32,
    pub h: String,
    pub u: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub e: String,
    #[serde(default, skip_serializing_if = "EdgeBindings::is_empty")]
    pub b: EdgeBindings,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub r: Vec<String>,
    pub t: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub n: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub s: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub a: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub z: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub p: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub o: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub m: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub w: Option<u16>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub c: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub k: Vec<String>,
}

/// Bindings by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeBindings {
    /// KV namespaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kv: Vec<EdgeKv>,
    /// Durable Object namespaces.
    #[serde(default, rename = "do", skip_serializing_if = "Vec::is_empty")]
    pub durable_objects: Vec<EdgeDurableObject>,
    /// Other Workers.
    #[serde(default, rename = "sv", skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<EdgeService>,
}

impl EdgeBindings {
    fn is_empty(&self) -> bool {
        self.kv.is_empty() && self.durable_objects.is_empty() && self.services.is_empty()
    }
}

/// A KV binding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeKv {
    /// Name.
    pub n: String,
    /// Namespace id.
    pub ns: String,
}

/// A Durable Object binding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeDurableObject {
    /// Name.
    pub n: String,
    /// Class.
    pub c: String,
}

/// A service binding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeService {
    /// Name.
    pub n: String,
    /// Deployment id, 32 hex digits, and `#` with the entrypoint's name if it is not the default one.
    pub d: String,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Why a debug form is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// Not JSON of this shape.
    #[error("not an edge configuration: {0}")]
    Json(#[from] serde_json::Error),
    /// A field that does not say what it should.
    #[error("deployment {deployment:?}, field {field}: {problem}")]
    Field {
        /// `d` of the deployment; empty for the snapshot's own fields.
        deployment: String,
        /// Which field.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// What the compiler would refuse.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// The debug form of a snapshot. `artifact_base` is put before the hash to make `u`.
pub fn emit(snapshot: &Snapshot, artifact_base: &str) -> EdgeSnapshot {
    let mut routes: Vec<Vec<String>> = vec![Vec::new(); snapshot.deployments_len() as usize];
    let mut crons = routes.clone();
    for (deployment, expression) in snapshot.schedules() {
        if let Some(crons) = crons.get_mut(deployment.0 as usize) {
            crons.push(expression.to_owned());
        }
    }
    for (kind, host, paths) in snapshot.hosts() {
        let wildcard = if kind == HostKind::Wildcard { "*." } else { "" };
        for found in paths.routes() {
            let star = if found.kind == PathKind::Prefix { "*" } else { "" };
            let path = String::from_utf8_lossy(&found.path);
            if let Some(routes) = routes.get_mut(found.deployment.0 as usize) {
                routes.push(format!("{wildcard}{host}{path}{star}"));
            }
        }
    }
    let configs =
        snapshot.deployments().zip(routes.into_iter().zip(crons)).map(|((_, deployment), (mut routes, k))| {
            routes.sort_unstable();
            EdgeConfig { k, ..emit_deployment(&deployment, routes, artifact_base) }
        });
    EdgeSnapshot {
        lineage: snapshot.lineage().to_string(),
        generation: snapshot.generation(),
        created_unix_ms: snapshot.created_unix_ms(),
        env_key: format!("{:016x}", snapshot.env_key_id()),
        platform_domain: snapshot.platform_domain().to_owned(),
        deployments: configs.collect(),
        steering: crate::steering::emit(&snapshot.steering()),
    }
}

fn emit_deployment(deployment: &Deployment<'_>, routes: Vec<String>, artifact_base: &str) -> EdgeConfig {
    let mut bindings = EdgeBindings::default();
    for binding in deployment.bindings() {
        let (n, target) = (binding.name.to_owned(), binding.target.to_owned());
        match binding.kind {
            BindingKind::Kv => bindings.kv.push(EdgeKv { n, ns: target }),
            BindingKind::DurableObject => bindings.durable_objects.push(EdgeDurableObject { n, c: target }),
            BindingKind::Service => bindings.services.push(EdgeService { n, d: target }),
        }
    }
    EdgeConfig {
        d: format!("{:x}", deployment.id().0),
        v: deployment.version(),
        h: format!("sha256:{}", deployment.artifact()),
        u: format!("{}/{}", artifact_base.trim_end_matches('/'), deployment.artifact()),
        e: BASE64.encode(deployment.sealed_env()),
        b: bindings,
        r: routes,
        t: deployment.updated_unix_s(),
        n: deployment.name().to_owned(),
        s: deployment.subdomain().to_owned(),
        a: Some(deployment.account().0).filter(|id| *id != 0).map(|id| format!("{id:x}")).unwrap_or_default(),
        z: deployment.artifact_bytes(),
        p: deployment.status() == Status::Paused,
        o: deployment.distribution() == Distribution::Pull,
        m: Some(deployment.cpu_ms()).filter(|cpu_ms| *cpu_ms != base::limits::CPU_PER_REQUEST_MS),
        w: Some(deployment.weight()).filter(|weight| *weight != base::limits::WEIGHT),
        c: deployment.compatibility_date().to_owned(),
        k: Vec::new(),
    }
}

/// The snapshot of a debug form. What it makes is as good as what `compile` makes: the same rules hold for its routes,
/// and the writer checks the rest.
pub fn accept(json: &str) -> Result<Vec<u8>, EdgeError> {
    let form: EdgeSnapshot = serde_json::from_str(json)?;
    let top = |field, problem: &str| EdgeError::Field { deployment: String::new(), field, problem: problem.to_owned() };
    let lineage = u128::from_str_radix(&form.lineage, 16).map_err(|_| top("lineage", "not hexadecimal"))?;
    let env_key = u64::from_str_radix(&form.env_key, 16).map_err(|_| top("env_key", "not hexadecimal"))?;
    let platform = platform_domain(&form.platform_domain)?;
    let mut writer = SnapshotWriter::new(Lineage(lineage), form.generation, form.created_unix_ms, env_key, &platform);
    writer.steering(crate::steering::rules(&form.steering).map_err(PlanError::Steering)?);
    for config in form.deployments {
        let id = accept_deployment(&mut writer, &config)?;
        for written in &config.r {
            let refused = |error: RouteError| PlanError::Route { id, pattern: written.clone(), error };
            let pattern = check_pattern(written, &platform).map_err(refused)?;
            writer.route(NewRoute {
                host_kind: pattern.host_kind,
                host: pattern.host,
                path_kind: pattern.path_kind,
                path: pattern.path,
                deployment: id,
            });
        }
    }
    Ok(writer.finish().map_err(PlanError::from)?)
}

fn accept_deployment(writer: &mut SnapshotWriter, config: &EdgeConfig) -> Result<DeploymentId, EdgeError> {
    let wrong =
        |field, problem: &str| EdgeError::Field { deployment: config.d.clone(), field, problem: problem.to_owned() };
    let hex = |text: &str, field| u128::from_str_radix(text, 16).map_err(|_| wrong(field, "not hexadecimal"));
    let id = DeploymentId(hex(&config.d, "d")?);
    let account = AccountId(if config.a.is_empty() { 0 } else { hex(&config.a, "a")? });
    let digits = config.h.strip_prefix("sha256:").ok_or_else(|| wrong("h", "does not begin with sha256:"))?;
    let artifact = ArtifactHash::from_hex(digits).ok_or_else(|| wrong("h", "not 64 hexadecimal digits"))?;
    let sealed_env = BASE64.decode(&config.e).map_err(|_| wrong("e", "not base64"))?;
    let kv = config.b.kv.iter().map(|one| (BindingKind::Kv, one.n.clone(), one.ns.clone()));
    let objects = config.b.durable_objects.iter().map(|one| (BindingKind::DurableObject, one.n.clone(), one.c.clone()));
    let services = config.b.services.iter().map(|one| (BindingKind::Service, one.n.clone(), one.d.clone()));
    if !config.s.is_empty() {
        crate::check_subdomain(&config.s).map_err(|error| wrong("s", &error.to_string()))?;
    }
    writer.deployment(NewDeployment {
        id,
        account,
        version: config.v,
        status: if config.p { Status::Paused } else { Status::Active },
        distribution: if config.o { Distribution::Pull } else { Distribution::Push },
        artifact,
        artifact_bytes: config.z,
        name: config.n.clone(),
        subdomain: config.s.clone(),
        compatibility_date: config.c.clone(),
        cpu_ms: config.m.unwrap_or(base::limits::CPU_PER_REQUEST_MS),
        weight: config.w.unwrap_or(base::limits::WEIGHT),
        updated_unix_s: config.t,
        sealed_env,
        bindings: kv.chain(objects).chain(services).collect(),
        crons: config.k.clone(),
    });
    Ok(id)
}
