//! From the store's desired state to the compiler's: the same facts in the data plane's terms.

use std::sync::Arc;

use base::id::{AccountId, ArtifactHash, DeploymentId};
use model::ServiceBinding;
use plan::{DesiredBinding, PlanError};
use plane_abi::seal::Key;
use plane_abi::{BindingKind, Distribution, Lineage, RouteBase, ServiceTarget, Status};
use store::{DesiredCandidate, DesiredDeployment, DesiredService, DesiredState, RouteChange};

use crate::bases::Desired;

/// A compiled state.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// The snapshot.
    pub(crate) bytes: Arc<[u8]>,
    /// The base of routes that it names.
    pub(crate) base: Option<Arc<RouteBase>>,
}

/// Why a state was not compiled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    #[error("version {version} of {deployment} has no valid artifact hash")]
    Hash { deployment: model::DeploymentId, version: u32 },
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// Compiles the desired state into the bytes of a snapshot that has all routes itself.
pub(crate) fn compile(state: DesiredState, platform_domain: &str, env_key: &Key) -> Result<Vec<u8>, CompileError> {
    Ok(plan::compile(&desired(state, platform_domain)?, env_key)?)
}

/// Compiles it for nodes, over a base of routes where there is one.
pub(crate) fn compile_for_nodes(
    desired_now: Desired,
    platform_domain: &str,
    env_key: &Key,
) -> Result<Compiled, CompileError> {
    let (state, base, changes) = match desired_now {
        Desired::Whole(state) => {
            return Ok(Compiled { bytes: compile(state, platform_domain, env_key)?.into(), base: None });
        }
        Desired::Over(state, base, changes) => (state, base, changes),
    };
    let changes: Vec<plan::RouteChange> = changes.into_iter().map(change).collect();
    let state = desired(state, platform_domain)?;
    let bytes = plan::compile_over(&state, Arc::clone(&base), &changes, env_key)?;
    Ok(Compiled { bytes: bytes.into(), base: Some(base) })
}

fn change(RouteChange { pattern, deployment }: RouteChange) -> plan::RouteChange {
    plan::RouteChange { pattern, deployment: deployment.map(|id| DeploymentId(id.as_u128())) }
}

fn desired(state: DesiredState, platform_domain: &str) -> Result<plan::DesiredState, CompileError> {
    Ok(plan::DesiredState {
        lineage: Lineage(state.lineage),
        generation: state.generation,
        created_unix_ms: u64::try_from(model::Timestamp::now().unix_ms()).unwrap_or(0),
        platform_domain: platform_domain.to_owned(),
        steering: state.steering,
        deployments: state.deployments.into_iter().map(deployment).collect::<Result<_, _>>()?,
    })
}

fn deployment(from: DesiredDeployment) -> Result<plan::DesiredDeployment, CompileError> {
    let hash = CompileError::Hash { deployment: from.id, version: from.version_number };
    let candidate = from.candidate.map(|candidate| candidate_of(candidate, &from.bindings, from.id)).transpose()?;
    Ok(plan::DesiredDeployment {
        id: DeploymentId(from.id.as_u128()),
        account: AccountId(from.account_id.as_u128()),
        name: from.name,
        subdomain: from.subdomain,
        status: if from.paused { Status::Paused } else { Status::Active },
        distribution: if from.on_demand { Distribution::Pull } else { Distribution::Push },
        version: from.version_number,
        artifact: ArtifactHash::from_hex(&from.artifact_hash).ok_or(hash)?,
        artifact_bytes: from.size_bytes,
        compatibility_date: from.metadata.compatibility_date.unwrap_or_default(),
        cpu_ms: from.cpu_ms,
        weight: from.weight,
        updated_unix_s: u64::try_from(from.updated_at.unix_ms() / 1000).unwrap_or(0),
        routes: from.routes,
        env: from.env,
        bindings: bindings(&from.bindings, from.services, &from.metadata.services),
        crons: from.metadata.crons,
        candidate,
    })
}

fn candidate_of(
    from: DesiredCandidate,
    of_deployment: &model::Bindings,
    deployment: model::DeploymentId,
) -> Result<plan::DesiredCandidate, CompileError> {
    let hash = CompileError::Hash { deployment, version: from.version_number };
    Ok(plan::DesiredCandidate {
        version: from.version_number,
        artifact: ArtifactHash::from_hex(&from.artifact_hash).ok_or(hash)?,
        artifact_bytes: from.size_bytes,
        bindings: bindings(of_deployment, from.services, &from.metadata.services),
        compatibility_date: from.metadata.compatibility_date.unwrap_or_default(),
        share: from.share,
    })
}

/// A deployment's bindings, and those to services, which are a version's, with the props that it declares.
fn bindings(
    of_deployment: &model::Bindings,
    services: Vec<DesiredService>,
    declared: &[ServiceBinding],
) -> Vec<DesiredBinding> {
    let kv = of_deployment.kv.iter().map(|binding| DesiredBinding {
        kind: BindingKind::Kv,
        name: binding.name.clone(),
        target: binding.namespace_id.to_string(),
    });
    let objects = of_deployment.durable_objects.iter().map(|binding| DesiredBinding {
        kind: BindingKind::DurableObject,
        name: binding.name.clone(),
        target: binding.class_name.clone(),
    });
    let services = services.into_iter().map(|service| {
        let deployment = DeploymentId(service.target.as_u128());
        let own = declared.iter().find(|declared| declared.binding == service.binding);
        let props = own.map(ServiceBinding::props_text).unwrap_or_default();
        let target = ServiceTarget { deployment, entrypoint: service.entrypoint, props };
        DesiredBinding { kind: BindingKind::Service, name: service.binding, target: target.to_string() }
    });
    kv.chain(objects).chain(services).collect()
}
