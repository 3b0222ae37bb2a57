//! From the store's desired state to the compiler's: the same facts in the data plane's terms.

use base::id::{AccountId, ArtifactHash, DeploymentId};
use model::ServiceBinding;
use plan::{Compiled, Compiler, DesiredBinding, PlanError};
use plane_abi::seal::Key;
use plane_abi::{BindingKind, Lineage, ServiceTarget, Status};
use store::{DesiredDeployment, DesiredState};

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

/// Compiles it for nodes, over a base of routes once there are many.
pub(crate) fn compile_over(
    compiler: &mut Compiler,
    state: DesiredState,
    platform_domain: &str,
    env_key: &Key,
) -> Result<Compiled, CompileError> {
    Ok(compiler.compile(&desired(state, platform_domain)?, env_key)?)
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
    let kv = from.bindings.kv.into_iter().map(|binding| DesiredBinding {
        kind: BindingKind::Kv,
        name: binding.name,
        target: binding.namespace_id.to_string(),
    });
    let objects = from.bindings.durable_objects.into_iter().map(|binding| DesiredBinding {
        kind: BindingKind::DurableObject,
        name: binding.name,
        target: binding.class_name,
    });
    let declared = &from.metadata.services;
    let services = from.services.into_iter().map(|service| {
        let deployment = DeploymentId(service.target.as_u128());
        let own = declared.iter().find(|declared| declared.binding == service.binding);
        let props = own.map(ServiceBinding::props_text).unwrap_or_default();
        let target = ServiceTarget { deployment, entrypoint: service.entrypoint, props };
        DesiredBinding { kind: BindingKind::Service, name: service.binding, target: target.to_string() }
    });
    Ok(plan::DesiredDeployment {
        id: DeploymentId(from.id.as_u128()),
        account: AccountId(from.account_id.as_u128()),
        name: from.name,
        subdomain: from.subdomain,
        status: if from.paused { Status::Paused } else { Status::Active },
        version: from.version_number,
        artifact: ArtifactHash::from_hex(&from.artifact_hash).ok_or(hash)?,
        artifact_bytes: from.size_bytes,
        compatibility_date: from.metadata.compatibility_date.unwrap_or_default(),
        cpu_ms: from.cpu_ms,
        weight: from.weight,
        updated_unix_s: u64::try_from(from.updated_at.unix_ms() / 1000).unwrap_or(0),
        routes: from.routes,
        env: from.env,
        bindings: kv.chain(objects).chain(services).collect(),
        crons: from.metadata.crons,
    })
}
