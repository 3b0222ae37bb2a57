//! The deployment API of seed 000: `/v1` over HTTP, and what happens behind it.
//!
//! Owns: the endpoints and the order of their checks, the OpenAPI document, the validator's processes, the artifact
//! store, the publisher task, and what a start finishes of what the last process left behind.
//! Does not: decide which transitions are legal (model), keep anything (store), compile (plan) or speak to nodes (push).
//!
//! *Invariants:*
//! - What is acknowledged is in the store, and on every node that was connected and answered in time.
//! - An operation that has begun is finished, whether its client waits or not; one that a kill cut short is finished by
//!   the next start, or by the process that leads next; one that an error cut short, by the next look at what is unfinished.
//! - No secret in an answer (but the one of a new token, once), an error, or a log.
//!
//! *Bounds:* bodies (2 MiB; 16 MiB for uploads), a request's time, connections, log tails, validators at a time, changes
//! that wait to be published.
//! Threads: tokio tasks; compiling runs on its blocking threads.

#![forbid(unsafe_code)]

mod access;
mod artifacts;
mod audit;
mod auth;
mod bases;
mod compile;
mod election;
mod error;
mod extract;
mod fleet;
mod front;
mod handlers;
mod idempotency;
mod locks;
mod member;
mod openapi;
mod ops;
mod places;
mod publisher;
mod rate;
mod rollouts;
mod serve;
mod traffic;
mod validator;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode};
use axum::middleware;
use axum::routing::{self, MethodRouter};
use model::{DeploymentId, code};
use plane_abi::seal::Key;
use push::PushServer;
use store::Store;
use tokio::sync::{Semaphore, watch};

pub use artifacts::{ArtifactError, Artifacts, S3Place, Source};
pub use error::ApiError;
pub use front::Front;
pub use member::{Member, Membership};
pub use openapi::openapi;
pub use rate::RateLimit;
pub use serve::{Shutdown, serve};
pub use validator::Validator;

use bases::Bases;
use fleet::Fleet;
use handlers::rollouts as rollout_handlers;
use handlers::{
    accounts, audit as audit_log, deployments, env, logs, operator, plans, projects, routes, steering, versions,
};
use locks::KeyedLocks;
use publisher::Publisher;

/// A JSON body, bytes.
const JSON_BYTES_MAX: usize = 2 << 20;
/// A multipart body, bytes: a module at its limit with its source map, and one somewhat over it, so that it can be refused by name.
const UPLOAD_BYTES_MAX: usize = 32 << 20;

const _: () = assert!(
    UPLOAD_BYTES_MAX > model::rules::MODULE_BYTES_MAX + model::rules::MAP_BYTES_MAX + model::rules::METADATA_BYTES_MAX
);
const _: () = assert!(model::rules::MODULE_BYTES_MAX == base::limits::MODULE_BYTES_MAX);
const _: () = assert!(model::rules::PATTERN_BYTES_MAX == base::limits::PATTERN_BYTES_MAX);
const _: () = assert!(model::rules::SUBDOMAIN_BYTES_MAX == base::limits::SUBDOMAIN_BYTES_MAX);
const _: () = assert!(model::rules::PLAN_CPU_MS as u64 * base::limits::MS_NS == base::limits::CPU_PER_REQUEST_NS);
const _: () =
    assert!(model::rules::PLAN_CPU_MS_MAX as u64 * base::limits::MS_NS == base::limits::CPU_PER_REQUEST_MAX_NS);
const _: () = assert!(model::rules::PLAN_WEIGHT == base::limits::WEIGHT);
const _: () = assert!(model::rules::PLAN_WEIGHT_MAX == base::limits::WEIGHT_MAX);

/// What the API is made of.
pub struct Parts {
    /// The store.
    pub store: Store,
    /// The artifact store; the push server's too.
    pub artifacts: Artifacts,
    /// The validator.
    pub validator: Validator,
    /// The push server.
    pub push: Arc<PushServer>,
    /// What variables in snapshots are sealed with; the push server's current key.
    pub env_key: Key,
    /// Domain of the subdomains, in normal form.
    pub platform_domain: String,
    /// Port at which nodes answer, if it is not the scheme's.
    pub platform_port: Option<u16>,
    /// Folder of the base of routes; made if missing.
    pub routes: PathBuf,
    /// What each token may ask.
    pub rate_limit: RateLimit,
    /// Deployments whose modules nodes have ahead: those with the most requests. At least 1.
    pub pushed_max: u32,
}

/// The API's state. Cheap to clone.
#[derive(Clone)]
pub struct App {
    store: Store,
    artifacts: Artifacts,
    validator: Validator,
    fleet: Fleet,
    publisher: Publisher,
    env_key: Key,
    platform_domain: Arc<str>,
    /// The same with the port, for URLs.
    platform: Arc<str>,
    locks: KeyedLocks<DeploymentId>,
    keys: KeyedLocks<idempotency::Key>,
    tails: Arc<Semaphore>,
    rates: Arc<rate::Rates>,
    strangers: Arc<rate::Strangers>,
    shutdown: Shutdown,
}

impl App {
    /// Starts the publisher, finishes what the last process left behind, and publishes what is desired now.
    pub async fn start(parts: Parts) -> Result<App, ApiError> {
        let fleet = Fleet::new(parts.push);
        let platform_domain: Arc<str> = parts.platform_domain.into();
        let platform: Arc<str> = match parts.platform_port {
            Some(port) => format!("{platform_domain}:{port}").into(),
            None => Arc::clone(&platform_domain),
        };
        let bases = Bases::new(parts.store.clone(), parts.routes, Arc::clone(&platform_domain));
        let (store, env_key) = (parts.store.clone(), parts.env_key.clone());
        let publisher = Publisher::start(store, fleet.clone(), env_key, Arc::clone(&platform_domain), bases);
        let app = App {
            store: parts.store,
            artifacts: parts.artifacts,
            validator: parts.validator,
            fleet,
            publisher,
            env_key: parts.env_key,
            platform_domain,
            platform,
            locks: KeyedLocks::default(),
            keys: KeyedLocks::default(),
            tails: Arc::new(Semaphore::new(logs::TAILS_MAX)),
            rates: Arc::new(rate::Rates::new(parts.rate_limit)),
            strangers: Arc::new(rate::Strangers::new()),
            shutdown: Shutdown::new(),
        };
        places::refresh(&app).await?;
        ops::recover(&app).await?;
        tokio::spawn(ops::outnumber(app.clone()));
        tokio::spawn(rollouts::watch(app.clone()));
        tokio::spawn(traffic::rank(app.clone(), parts.pushed_max));
        tokio::spawn(ops::keep_settled(app.clone()));
        Ok(app)
    }

    /// Ends log tails and the service, gracefully, when told to.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    fn stopping(&self) -> watch::Receiver<bool> {
        self.shutdown.watch()
    }
}

/// One method of one path.
struct Endpoint {
    method: Method,
    path: &'static str,
    handler: MethodRouter<App>,
}

macro_rules! endpoints {
    ($($method:ident $path:literal => $handler:path;)*) => {
        vec![$(Endpoint { method: endpoints!(@ $method), path: $path, handler: routing::$method($handler) }),*]
    };
    (@ get) => { Method::GET };
    (@ post) => { Method::POST };
    (@ put) => { Method::PUT };
    (@ patch) => { Method::PATCH };
    (@ delete) => { Method::DELETE };
}

/// Every endpoint there is: the router is made of this list, and a test holds the document against it.
fn endpoints() -> Vec<Endpoint> {
    endpoints! {
        get "/healthz" => operator::healthz;
        get "/v1/openapi.json" => openapi::document;
        get "/v1/whoami" => accounts::whoami;
        get "/v1/accounts" => accounts::list;
        post "/v1/accounts" => accounts::create;
        get "/v1/accounts/{account_id}" => accounts::get;
        patch "/v1/accounts/{account_id}" => accounts::update;
        get "/v1/accounts/{account_id}/tokens" => accounts::list_tokens;
        post "/v1/accounts/{account_id}/tokens" => accounts::create_token;
        delete "/v1/accounts/{account_id}/tokens/{token_id}" => accounts::revoke_token;
        post "/v1/accounts/{account_id}/tokens/{token_id}/rotate" => accounts::rotate_token;
        get "/v1/audit-log" => audit_log::list;
        get "/v1/accounts/{account_id}/projects" => projects::list;
        post "/v1/accounts/{account_id}/projects" => projects::create;
        get "/v1/projects/{project_id}" => projects::get;
        patch "/v1/projects/{project_id}" => projects::update;
        delete "/v1/projects/{project_id}" => projects::delete;
        get "/v1/projects/{project_id}/deployments" => deployments::list;
        post "/v1/projects/{project_id}/deployments" => deployments::create;
        get "/v1/deployments/{deployment_id}" => deployments::get;
        delete "/v1/deployments/{deployment_id}" => deployments::delete;
        post "/v1/deployments/{deployment_id}/rollback" => deployments::rollback;
        post "/v1/deployments/{deployment_id}/pause" => deployments::pause;
        post "/v1/deployments/{deployment_id}/resume" => deployments::resume;
        get "/v1/deployments/{deployment_id}/rollout" => rollout_handlers::get;
        put "/v1/deployments/{deployment_id}/rollout" => rollout_handlers::set;
        delete "/v1/deployments/{deployment_id}/rollout" => rollout_handlers::stop;
        get "/v1/deployments/{deployment_id}/versions" => versions::list;
        post "/v1/deployments/{deployment_id}/versions" => versions::upload;
        get "/v1/deployments/{deployment_id}/versions/{version}" => versions::get;
        put "/v1/deployments/{deployment_id}/versions/{version}" => versions::activate;
        get "/v1/deployments/{deployment_id}/versions/{version}/source-map" => versions::source_map;
        get "/v1/deployments/{deployment_id}/routes" => routes::list;
        post "/v1/deployments/{deployment_id}/routes" => routes::create;
        patch "/v1/deployments/{deployment_id}/routes/{route_id}" => routes::update;
        delete "/v1/deployments/{deployment_id}/routes/{route_id}" => routes::delete;
        get "/v1/deployments/{deployment_id}/env" => env::list;
        put "/v1/deployments/{deployment_id}/env/{key}" => env::set;
        delete "/v1/deployments/{deployment_id}/env/{key}" => env::delete;
        get "/v1/deployments/{deployment_id}/config" => operator::deployment_config;
        get "/v1/deployments/{deployment_id}/logs/tail" => logs::tail;
        get "/v1/config" => operator::config;
        get "/v1/nodes" => operator::nodes;
        patch "/v1/nodes/{node}" => operator::update_node;
        get "/v1/pops" => operator::pops;
        put "/v1/pops/{pop}" => operator::set_pop;
        get "/v1/regions" => operator::regions;
        get "/v1/plans" => plans::list;
        put "/v1/plans/{tier}" => plans::set;
        get "/v1/steering" => steering::get;
        put "/v1/steering" => steering::set;
    }
}

/// The router of the whole API.
pub fn router(app: App) -> Router {
    let mut router = Router::new();
    for endpoint in endpoints() {
        let upload = endpoint.method == Method::POST && endpoint.path.ends_with("/versions");
        let limit = if upload { UPLOAD_BYTES_MAX } else { JSON_BYTES_MAX };
        let handler = endpoint.handler.layer(DefaultBodyLimit::max(limit));
        router = router.route(endpoint.path, handler);
    }
    router
        .method_not_allowed_fallback(async || {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, code::NOT_ALLOWED, "not a method of this path")
        })
        .fallback(async || ApiError::not_found("endpoint; `/v1/openapi.json` lists them"))
        .layer(middleware::from_fn_with_state(app.clone(), idempotency::layer))
        .layer(middleware::from_fn_with_state(app.clone(), audit::layer))
        .layer(middleware::from_fn(access::layer))
        .with_state(app)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_document_has_every_endpoint_and_no_other() {
        let routed: BTreeSet<String> =
            endpoints().iter().map(|endpoint| format!("{} {}", endpoint.method, endpoint.path)).collect();
        let document = serde_json::to_value(openapi()).unwrap();
        let paths = document["paths"].as_object().unwrap().iter();
        let documented: BTreeSet<String> = paths
            .flat_map(|(path, item)| {
                item.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase()))
            })
            .collect();
        assert_eq!(routed, documented);
        assert_eq!(routed.len(), endpoints().len(), "an endpoint is listed twice");
    }
}
