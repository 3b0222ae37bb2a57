//! Desired state → snapshot.

use std::fmt;

use base::id::{AccountId, ArtifactHash, DeploymentId};
use model::{FieldError, Steering};
use plane_abi::pattern::{Pattern, normalise_host};
use plane_abi::plane::seal_env;
use plane_abi::seal::Key;
use plane_abi::{
    BindingKind, Distribution, Lineage, NewCandidate, NewDeployment, NewRoute, SnapshotWriter, Status, WriteError,
};

use crate::rules::{EnvError, RouteError, SubdomainError, check_cron, check_env, check_pattern, check_subdomain};

/// Everything that nodes are to serve, of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredState {
    /// The store it comes from.
    pub lineage: Lineage,
    /// Numbers the moment within the lineage.
    pub generation: u64,
    /// When, milliseconds since the Unix epoch.
    pub created_unix_ms: u64,
    /// Domain of the subdomains; any spelling.
    pub platform_domain: String,
    /// In any order.
    pub deployments: Vec<DesiredDeployment>,
    /// What packets meet at a node.
    pub steering: Steering,
}

/// A deployment with its active version. Debug does not show variables' values.
#[derive(Clone, PartialEq, Eq)]
pub struct DesiredDeployment {
    /// Its id.
    pub id: DeploymentId,
    /// Its tenant.
    pub account: AccountId,
    /// Name.
    pub name: String,
    /// One DNS label, or empty for none.
    pub subdomain: String,
    /// Whether it answers.
    pub status: Status,
    /// How its modules come to nodes.
    pub distribution: Distribution,
    /// Number of the active version.
    pub version: u32,
    /// SHA-256 of its module.
    pub artifact: ArtifactHash,
    /// Size of its module, bytes.
    pub artifact_bytes: u64,
    /// `YYYY-MM-DD` or empty.
    pub compatibility_date: String,
    /// CPU time of one request, milliseconds.
    pub cpu_ms: u32,
    /// Its tenant's weight.
    pub weight: u16,
    /// When it last changed, seconds since the Unix epoch.
    pub updated_unix_s: u64,
    /// Enabled route patterns; any spelling.
    pub routes: Vec<String>,
    /// Variables, in the clear.
    pub env: Vec<(String, String)>,
    /// Bindings.
    pub bindings: Vec<DesiredBinding>,
    /// When it is to run by itself. One that is no schedule is left out: it was accepted before schedules were read.
    pub crons: Vec<String>,
    /// A version that gets a share of its requests.
    pub candidate: Option<DesiredCandidate>,
}

/// A version that gets a share of a deployment's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredCandidate {
    /// Its number.
    pub version: u32,
    /// SHA-256 of its module.
    pub artifact: ArtifactHash,
    /// Size of its module, bytes.
    pub artifact_bytes: u64,
    /// `YYYY-MM-DD` or empty.
    pub compatibility_date: String,
    /// Bindings.
    pub bindings: Vec<DesiredBinding>,
    /// Hundredths of a percent: 1 to 9,999.
    pub share: u32,
}

impl fmt::Debug for DesiredDeployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DesiredDeployment")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("version", &self.version)
            .field("status", &self.status)
            .field("routes", &self.routes)
            .field("env", &format_args!("{} variables", self.env.len()))
            .finish_non_exhaustive()
    }
}

/// A named link to something the Worker may use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DesiredBinding {
    /// To what.
    pub kind: BindingKind,
    /// Name in `env`.
    pub name: String,
    /// Namespace id or class name.
    pub target: String,
}

/// Why a state cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The platform domain is no host.
    #[error("platform domain {0:?} is no host name")]
    PlatformDomain(String),
    /// A deployment's pattern is refused.
    #[error("deployment {id}, route {pattern:?}: {error}")]
    Route {
        /// Whose.
        id: DeploymentId,
        /// As written.
        pattern: String,
        /// Why.
        error: RouteError,
    },
    /// Two deployments have the same pattern, in whatever spelling.
    #[error("route {pattern} is claimed by deployments {first} and {second}")]
    RouteConflict {
        /// In normal form.
        pattern: String,
        /// One.
        first: DeploymentId,
        /// The other.
        second: DeploymentId,
    },
    /// A deployment's subdomain is refused.
    #[error("deployment {id}, subdomain {subdomain:?}: {error}")]
    Subdomain {
        /// Whose.
        id: DeploymentId,
        /// As written.
        subdomain: String,
        /// Why.
        error: SubdomainError,
    },
    /// A deployment's variables are refused.
    #[error("deployment {id}: {error}")]
    Env {
        /// Whose.
        id: DeploymentId,
        /// Why.
        error: EnvError,
    },
    /// The rules for packets are refused.
    #[error("{field}: {message}", field = .0.field, message = .0.message)]
    Steering(FieldError),
    /// Doubles and limits that the writer sees.
    #[error(transparent)]
    Write(#[from] WriteErrorText),
}

/// A [`WriteError`] in text, so that errors can be compared and cloned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WriteErrorText(pub String);

impl From<WriteError> for PlanError {
    fn from(error: WriteError) -> PlanError {
        match error {
            WriteError::RouteConflict { route, first, second } => {
                PlanError::RouteConflict { pattern: route, first, second }
            }
            error => PlanError::Write(WriteErrorText(error.to_string())),
        }
    }
}

/// Compiles a state. Variables are sealed with `env_key`, whose id the snapshot names. A pattern that one deployment has
/// twice counts once.
pub fn compile(state: &DesiredState, env_key: &Key) -> Result<Vec<u8>, PlanError> {
    Ok(writer(state, env_key)?.finish()?)
}

/// A state, checked, ready to be written.
pub(crate) fn writer(state: &DesiredState, env_key: &Key) -> Result<SnapshotWriter, PlanError> {
    let platform = platform_domain(&state.platform_domain)?;
    let mut writer =
        SnapshotWriter::new(state.lineage, state.generation, state.created_unix_ms, env_key.id(), &platform);
    writer.steering(crate::steering::rules(&state.steering).map_err(PlanError::Steering)?);
    routes(state, &platform, &mut writer)?;
    for deployment in &state.deployments {
        let id = deployment.id;
        if !deployment.subdomain.is_empty() {
            let subdomain = deployment.subdomain.clone();
            check_subdomain(&subdomain).map_err(|error| PlanError::Subdomain { id, subdomain, error })?;
        }
        check_env(&deployment.env).map_err(|error| PlanError::Env { id, error })?;
        if let Some(candidate) = &deployment.candidate {
            writer.candidate(NewCandidate {
                deployment: id,
                version: candidate.version,
                artifact: candidate.artifact,
                artifact_bytes: candidate.artifact_bytes,
                compatibility_date: candidate.compatibility_date.clone(),
                bindings: written(&candidate.bindings),
                share: candidate.share,
            });
        }
        writer.deployment(NewDeployment {
            id,
            account: deployment.account,
            version: deployment.version,
            status: deployment.status,
            distribution: deployment.distribution,
            artifact: deployment.artifact,
            artifact_bytes: deployment.artifact_bytes,
            name: deployment.name.clone(),
            subdomain: deployment.subdomain.clone(),
            compatibility_date: deployment.compatibility_date.clone(),
            cpu_ms: deployment.cpu_ms,
            weight: deployment.weight,
            updated_unix_s: deployment.updated_unix_s,
            sealed_env: seal_env(env_key, id, &deployment.env),
            bindings: written(&deployment.bindings),
            crons: deployment.crons.iter().filter(|cron| check_cron(cron).is_ok()).cloned().collect(),
        });
    }
    Ok(writer)
}

fn written(bindings: &[DesiredBinding]) -> Vec<(BindingKind, String, String)> {
    bindings.iter().map(|one| (one.kind, one.name.clone(), one.target.clone())).collect()
}

pub(crate) fn platform_domain(written: &str) -> Result<String, PlanError> {
    let name = normalise_host(written.as_bytes()).filter(|name| !name.as_bytes().ends_with(b"."));
    let name = name.ok_or_else(|| PlanError::PlatformDomain(written.to_owned()))?;
    Ok(String::from_utf8_lossy(name.as_bytes()).into_owned())
}

/// Hands every pattern to the writer, which finds those that two deployments claim.
fn routes(state: &DesiredState, platform: &str, writer: &mut SnapshotWriter) -> Result<(), PlanError> {
    for deployment in &state.deployments {
        let id = deployment.id;
        for written in &deployment.routes {
            let refused = |error| PlanError::Route { id, pattern: written.clone(), error };
            let Pattern { host_kind, host, path_kind, path } = check_pattern(written, platform).map_err(refused)?;
            writer.route(NewRoute { host_kind, host, path_kind, path, deployment: id });
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use plane_abi::{DeploymentIx, Snapshot, plane};

    pub(crate) fn deployment(id: u128, subdomain: &str, routes: &[&str]) -> DesiredDeployment {
        DesiredDeployment {
            id: DeploymentId(id),
            account: AccountId(1),
            name: subdomain.to_owned(),
            subdomain: subdomain.to_owned(),
            status: Status::Active,
            distribution: Distribution::Push,
            version: 5,
            artifact: ArtifactHash([id as u8; 32]),
            artifact_bytes: 10,
            compatibility_date: "2025-01-01".to_owned(),
            cpu_ms: 50,
            weight: 100,
            updated_unix_s: 1_705_312_800,
            routes: routes.iter().map(|route| (*route).to_owned()).collect(),
            env: vec![("API_KEY".to_owned(), "sk_live_xxx".to_owned())],
            bindings: Vec::new(),
            crons: vec!["0 0 * * *".to_owned(), "whenever".to_owned()],
            candidate: None,
        }
    }

    pub(crate) fn state(deployments: Vec<DesiredDeployment>) -> DesiredState {
        DesiredState {
            lineage: Lineage(1),
            generation: 9,
            created_unix_ms: 0,
            platform_domain: "Workers.LocalHost.".to_owned(),
            deployments,
            steering: Steering::default(),
        }
    }

    fn key() -> Key {
        Key::from_bytes([5; 32])
    }

    fn refused(deployments: Vec<DesiredDeployment>) -> String {
        compile(&state(deployments), &key()).expect_err("refused").to_string()
    }

    #[test]
    fn compiles_routes_subdomains_and_sealed_variables() {
        let deployments =
            vec![deployment(2, "two", &["Example.com/*"]), deployment(1, "one", &["*.example.com/api/*"])];
        let bytes = compile(&state(deployments.clone()), &key()).expect("compiles");
        let reversed = deployments.into_iter().rev().collect();
        assert_eq!(compile(&state(reversed), &key()).as_ref(), Ok(&bytes), "order does not matter");
        assert!(!bytes.windows(7).any(|window| window == b"sk_live"), "no variable in the clear");
        let snapshot = Snapshot::from_vec(bytes).expect("opens");
        assert_eq!((snapshot.generation(), snapshot.platform_domain()), (9, "workers.localhost"));
        let one = snapshot.deployment(DeploymentIx(0)).expect("there");
        let env = plane::open_env(&key(), one.id(), one.sealed_env());
        assert_eq!(env, Ok(vec![("API_KEY".to_owned(), "sk_live_xxx".to_owned())]));
        assert_eq!(snapshot.hosts().count(), 2);
        let schedules: Vec<_> = snapshot.schedules().map(|(of, text)| (of.0, text)).collect();
        assert_eq!(schedules, [(0, "0 0 * * *"), (1, "0 0 * * *")], "what is none is left out");
    }

    #[test]
    fn conflicts_are_found_in_any_spelling_and_own_repeats_are_not_conflicts() {
        let spellings = ["example.com/api/*", "EXAMPLE.com./%61pi/*"];
        assert!(compile(&state(vec![deployment(1, "one", &spellings)]), &key()).is_ok());
        let both = |first, second| {
            refused(vec![deployment(first, "a", &spellings[..1]), deployment(second, "b", &spellings[1..])])
        };
        assert!(both(1, 2).contains("example.com/api/* is claimed"), "{}", both(1, 2));
        assert_eq!(both(1, 2), both(2, 1).replace("\"a\"", "\"b\""));
        assert!(refused(vec![deployment(1, "same", &[]), deployment(2, "same", &[])]).contains("twice"));
        assert!(refused(vec![deployment(1, "a", &[]), deployment(1, "b", &[])]).contains("twice"));
    }

    #[test]
    fn what_may_not_be_published_is_refused_with_its_reason() {
        let says = |change: fn(&mut DesiredDeployment), text: &str| {
            let mut changed = deployment(1, "one", &[]);
            change(&mut changed);
            let message = refused(vec![changed]);
            assert!(message.contains(text), "{message}");
        };
        says(|d| d.routes = vec!["other.workers.localhost/*".into()], "platform's own domain");
        says(|d| d.routes = vec!["*.localhost/*".into()], "platform's own domain");
        says(|d| d.routes = vec!["no path".into()], "no path");
        says(|d| d.subdomain = "Upper".into(), "lower-case");
        says(|d| d.subdomain = "a.b".into(), "lower-case");
        says(|d| d.subdomain = "x".repeat(64), "characters");
        says(|d| d.weight = 0, "weight");
        says(|d| d.weight = 1001, "weight");
        says(|d| d.env = vec![("A".into(), "x".repeat(5121))], "5121 bytes");
        says(|d| d.env = vec![("A".into(), "1".into()), ("A".into(), "2".into())], "twice");
        says(|d| d.env = vec![(String::new(), "1".into())], "name");
        says(|d| d.env = (0..129).map(|n| (format!("V{n}"), String::new())).collect(), "129 variables");
        let nowhere = DesiredState { platform_domain: "a b".into(), ..state(vec![]) };
        assert_eq!(compile(&nowhere, &key()), Err(PlanError::PlatformDomain("a b".into())));
    }

    #[test]
    fn debug_hides_values() {
        assert!(!format!("{:?}", deployment(1, "one", &[])).contains("sk_live"));
    }
}
