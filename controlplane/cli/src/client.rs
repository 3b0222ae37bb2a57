//! The deployment API as this command calls it: one method per endpoint, typed by `model`, failures as exit codes.
//!
//! Owns the connection, the paths, the envelope and how an error of the API becomes a [`Failure`]. Prints nothing but the API's remarks on
//! what went right (a node that is away), as warnings; knows no project file. Blocking; each call is bounded by [`CALL_TIMEOUT`], an upload or activation by [`LONG_TIMEOUT`];
//! no call is retried, as only the user knows whether a second one is wanted. Redirects are not followed, so a token never leaves for
//! another host. Main thread, and the log thread of `dev` with a client of its own.

use std::fmt::Display;
use std::time::Duration;

use model::{
    Account, AccountId, Activation, AuditEntry, AuditId, CreateDeployment, CreateProject, CreateRoute, CreateToken,
    CreatedToken, Deployment, DeploymentId, EnvVar, EnvVarSpec, Envelope, ErrorItem, Node, PatchNode, PatchRoute, Plan,
    Pop, Project, ProjectId, Rollback, Rollout, RotateToken, Route, RouteId, SetPlan, SetPop, SetRollout, Steering,
    Token, TokenId, UpdateAccount, Version, VersionMetadata, WhoAmI, code,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::bundle::Part;
use crate::failure::{Failure, Kind, Outcome};
use crate::multipart::{Form, Reported};
use crate::output::{Output, printable};
use crate::settings::Settings;

/// A plain call.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A call that compiles a module or waits for nodes.
const LONG_TIMEOUT: Duration = Duration::from_secs(120);
/// TCP and TLS handshakes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A response's body, bytes: `config show` of a large platform is the longest.
const RESPONSE_BYTES_MAX: u64 = 256 << 20;
/// Pages of one list.
const PAGES_MAX: usize = 10_000;

/// A connection to one control plane.
pub(crate) struct Client {
    agent: Agent,
    base: String,
    token: Option<String>,
    output: Output,
}

/// What the API said of a module: the version it made of it, and why it is none that runs.
pub(crate) struct Upload {
    pub(crate) version: Option<Version>,
    pub(crate) errors: Vec<ErrorItem>,
    pub(crate) status: u16,
}

impl Client {
    /// A client for `settings.api_url`. Opens no connection.
    pub(crate) fn new(settings: &Settings, output: Output) -> Outcome<Client> {
        let base = settings.api_url.clone();
        if !(base.starts_with("http://") || base.starts_with("https://")) {
            return Err(Failure::usage(format!("the API URL must begin with http:// or https://, and is {base:?}")));
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("selvage/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_call(Some(CALL_TIMEOUT));
        if base.starts_with("https://") {
            config = config.tls_config(TlsConfig::builder().root_certs(system_roots()).build());
        }
        let agent = config.build().into();
        Ok(Client { agent, base, token: settings.token.clone(), output })
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    pub(crate) fn whoami(&self) -> Outcome<WhoAmI> {
        self.get("/v1/whoami")
    }

    pub(crate) fn tokens(&self, account: AccountId) -> Outcome<Vec<Token>> {
        self.list(&format!("/v1/accounts/{account}/tokens"))
    }

    pub(crate) fn create_token(&self, account: AccountId, body: &CreateToken) -> Outcome<CreatedToken> {
        self.send("POST", &format!("/v1/accounts/{account}/tokens"), Some(body))
    }

    pub(crate) fn rotate_token(&self, account: AccountId, id: TokenId, body: &RotateToken) -> Outcome<CreatedToken> {
        self.send("POST", &format!("/v1/accounts/{account}/tokens/{id}/rotate"), Some(body))
    }

    pub(crate) fn revoke_token(&self, account: AccountId, id: TokenId) -> Outcome<Token> {
        self.send("DELETE", &format!("/v1/accounts/{account}/tokens/{id}"), NONE)
    }

    /// The newest entries, or the newest before one.
    pub(crate) fn audit_log(&self, limit: u32, before: Option<AuditId>) -> Outcome<Vec<AuditEntry>> {
        let cursor = before.map(|id| format!("&cursor={id}")).unwrap_or_default();
        self.get(&format!("/v1/audit-log?limit={limit}{cursor}"))
    }

    pub(crate) fn projects(&self, account: AccountId) -> Outcome<Vec<Project>> {
        self.list(&format!("/v1/accounts/{account}/projects"))
    }

    pub(crate) fn create_project(&self, account: AccountId, body: &CreateProject) -> Outcome<Project> {
        self.send("POST", &format!("/v1/accounts/{account}/projects"), Some(body))
    }

    pub(crate) fn deployments(&self, project: ProjectId) -> Outcome<Vec<Deployment>> {
        self.list(&format!("/v1/projects/{project}/deployments"))
    }

    pub(crate) fn create_deployment(&self, project: ProjectId, body: &CreateDeployment) -> Outcome<Deployment> {
        self.send("POST", &format!("/v1/projects/{project}/deployments"), Some(body))
    }

    pub(crate) fn deployment(&self, id: DeploymentId) -> Outcome<Deployment> {
        self.get(&format!("/v1/deployments/{id}"))
    }

    pub(crate) fn delete_deployment(&self, id: DeploymentId) -> Outcome<Deployment> {
        self.send("DELETE", &format!("/v1/deployments/{id}"), NONE)
    }

    pub(crate) fn pause(&self, id: DeploymentId) -> Outcome<Deployment> {
        self.send("POST", &format!("/v1/deployments/{id}/pause"), NONE)
    }

    pub(crate) fn resume(&self, id: DeploymentId) -> Outcome<Deployment> {
        self.send("POST", &format!("/v1/deployments/{id}/resume"), NONE)
    }

    pub(crate) fn versions(&self, id: DeploymentId) -> Outcome<Vec<Version>> {
        self.list(&format!("/v1/deployments/{id}/versions"))
    }

    pub(crate) fn activate(&self, id: DeploymentId, version: u32) -> Outcome<Activation> {
        self.send("PUT", &format!("/v1/deployments/{id}/versions/{version}"), NONE)
    }

    pub(crate) fn rollback(&self, id: DeploymentId, version: Option<u32>) -> Outcome<Activation> {
        self.send("POST", &format!("/v1/deployments/{id}/rollback"), Some(&Rollback { version }))
    }

    pub(crate) fn rollout(&self, id: DeploymentId) -> Outcome<Rollout> {
        self.send("GET", &format!("/v1/deployments/{id}/rollout"), NONE)
    }

    pub(crate) fn set_rollout(&self, id: DeploymentId, body: &SetRollout) -> Outcome<Rollout> {
        self.send("PUT", &format!("/v1/deployments/{id}/rollout"), Some(body))
    }

    pub(crate) fn stop_rollout(&self, id: DeploymentId) -> Outcome<Rollout> {
        self.send("DELETE", &format!("/v1/deployments/{id}/rollout"), NONE)
    }

    pub(crate) fn routes(&self, id: DeploymentId) -> Outcome<Vec<Route>> {
        self.list(&format!("/v1/deployments/{id}/routes"))
    }

    pub(crate) fn create_route(&self, id: DeploymentId, body: &CreateRoute) -> Outcome<Route> {
        self.send("POST", &format!("/v1/deployments/{id}/routes"), Some(body))
    }

    pub(crate) fn delete_route(&self, id: DeploymentId, route: RouteId) -> Outcome<Value> {
        self.send("DELETE", &format!("/v1/deployments/{id}/routes/{route}"), NONE)
    }

    pub(crate) fn patch_route(&self, id: DeploymentId, route: RouteId, enabled: bool) -> Outcome<Route> {
        self.send("PATCH", &format!("/v1/deployments/{id}/routes/{route}"), Some(&PatchRoute { enabled }))
    }

    pub(crate) fn env(&self, id: DeploymentId) -> Outcome<Vec<EnvVar>> {
        self.list(&format!("/v1/deployments/{id}/env"))
    }

    pub(crate) fn set_env(&self, id: DeploymentId, key: &str, body: &EnvVarSpec) -> Outcome<EnvVar> {
        self.send("PUT", &format!("/v1/deployments/{id}/env/{}", segment(key)), Some(body))
    }

    pub(crate) fn delete_env(&self, id: DeploymentId, key: &str) -> Outcome<Value> {
        self.send("DELETE", &format!("/v1/deployments/{id}/env/{}", segment(key)), NONE)
    }

    pub(crate) fn config(&self, id: Option<DeploymentId>) -> Outcome<Value> {
        match id {
            Some(id) => self.get(&format!("/v1/deployments/{id}/config")),
            None => self.get("/v1/config"),
        }
    }

    pub(crate) fn nodes(&self) -> Outcome<Vec<Node>> {
        self.list("/v1/nodes")
    }

    pub(crate) fn update_node(&self, name: &str, body: &PatchNode) -> Outcome<Vec<Node>> {
        self.send("PATCH", &format!("/v1/nodes/{}", segment(name)), Some(body))
    }

    pub(crate) fn pops(&self) -> Outcome<Vec<Pop>> {
        self.list("/v1/pops")
    }

    pub(crate) fn set_pop(&self, name: &str, body: &SetPop) -> Outcome<Pop> {
        self.send("PUT", &format!("/v1/pops/{}", segment(name)), Some(body))
    }

    pub(crate) fn plans(&self) -> Outcome<Vec<Plan>> {
        self.list("/v1/plans")
    }

    pub(crate) fn set_plan(&self, tier: &str, body: &SetPlan) -> Outcome<Plan> {
        self.send("PUT", &format!("/v1/plans/{}", segment(tier)), Some(body))
    }

    pub(crate) fn steering(&self) -> Outcome<Steering> {
        self.get("/v1/steering")
    }

    pub(crate) fn set_steering(&self, body: &Steering) -> Outcome<Steering> {
        self.send("PUT", "/v1/steering", Some(body))
    }

    pub(crate) fn update_account(&self, id: AccountId, body: &UpdateAccount) -> Outcome<Account> {
        self.send("PATCH", &format!("/v1/accounts/{id}"), Some(body))
    }

    /// The source map of a version; none if it has none.
    pub(crate) fn source_map(&self, id: DeploymentId, version: u32) -> Outcome<Option<Vec<u8>>> {
        let request = self.request("GET", &format!("/v1/deployments/{id}/versions/{version}/source-map"));
        let request = request.body(()).map_err(|error| Failure::failed(error.to_string()))?;
        match self.exchange(self.agent.run(request))? {
            (200, map) => Ok(Some(map)),
            (404, _) => Ok(None),
            (status, bytes) => Err(failure_of(status, &bytes)),
        }
    }

    /// Uploads a module with its source map; `progress` is told how many bytes have been sent.
    pub(crate) fn upload(
        &self,
        id: DeploymentId,
        (module, parts, map): (&[u8], &[Part], Option<&[u8]>),
        metadata: &VersionMetadata,
        progress: impl FnMut(u64),
        total: impl FnOnce(u64),
    ) -> Outcome<Upload> {
        let metadata_json = serde_json::to_vec(metadata).expect("metadata is plain strings");
        let name = metadata.main_module.as_deref().unwrap_or("worker.js");
        let mut bodies = vec![module, &metadata_json, map.unwrap_or_default()];
        bodies.extend(parts.iter().map(|part| &part.bytes[..]));
        let mut form = Form::new(&bodies).part("metadata", None, "application/json", &metadata_json).part(
            "file",
            Some(name),
            "application/javascript+module",
            module,
        );
        if let Some(map) = map {
            form = form.part("source_map", Some("worker.js.map"), "application/json", map);
        }
        for part in parts {
            form = form.part(&part.name, Some(&part.name), part.content_type, &part.bytes);
        }
        let content_type = form.content_type();
        let body = form.finish();
        total(body.len() as u64);
        let mut reader = Reported::new(&body, progress);
        let request = self
            .request("POST", &format!("/v1/deployments/{id}/versions"))
            .header("Content-Type", content_type)
            .header("Content-Length", body.len().to_string())
            .body(ureq::SendBody::from_reader(&mut reader))
            .map_err(|error| Failure::failed(error.to_string()))?;
        let request = self.agent.configure_request(request).timeout_per_call(Some(LONG_TIMEOUT)).build();
        let (status, bytes) = self.exchange(self.agent.run(request))?;
        let envelope: Envelope<Version> = match serde_json::from_slice(&bytes) {
            Ok(envelope) => envelope,
            Err(_) => return Err(failure_of(status, &bytes)),
        };
        self.pass_on(&envelope);
        if envelope.success && envelope.result.is_none() {
            return Err(nonsense(&self.base, "success without a version"));
        }
        let version = envelope.result;
        if version.is_none() && !envelope.errors.iter().any(|e| e.code == code::INVALID_MODULE) {
            return Err(failure_of(status, &bytes));
        }
        Ok(Upload { version, errors: envelope.errors, status })
    }

    fn request(&self, method: &str, path: &str) -> ureq::http::request::Builder {
        let request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Outcome<T> {
        self.send("GET", path, NONE)
    }

    fn list<T: DeserializeOwned>(&self, path: &str) -> Outcome<Vec<T>> {
        let mut items: Vec<T> = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let page = match &cursor {
                Some(cursor) => format!("{path}?cursor={}", segment(cursor)),
                None => path.to_owned(),
            };
            let mut envelope: Envelope<Vec<T>> = self.call("GET", &page, NONE)?;
            items.append(&mut envelope.result.take().unwrap_or_default());
            cursor = envelope.result_info.and_then(|info| info.cursor);
            if cursor.is_none() {
                return Ok(items);
            }
        }
        Err(nonsense(&self.base, "a list without an end"))
    }

    fn send<T: DeserializeOwned>(&self, method: &str, path: &str, body: Option<&impl Serialize>) -> Outcome<T> {
        let envelope: Envelope<T> = self.call(method, path, body)?;
        match envelope.result {
            Some(result) => Ok(result),
            // A deletion may have nothing to show.
            None => serde_json::from_value(Value::Null).map_err(|_| nonsense(&self.base, "success without a result")),
        }
    }

    fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Outcome<Envelope<T>> {
        let timeout = if method == "GET" { CALL_TIMEOUT } else { LONG_TIMEOUT };
        let request = self.request(method, path);
        let bad = |error: ureq::http::Error| Failure::usage(format!("not a request that can be sent: {error}"));
        let answer = match body {
            Some(body) => {
                let json = serde_json::to_vec(body).expect("API types serialise to JSON");
                let request = request.header("Content-Type", "application/json").body(json).map_err(bad)?;
                let request = self.agent.configure_request(request).timeout_per_call(Some(timeout)).build();
                self.agent.run(request)
            }
            None => {
                let request = request.body(()).map_err(bad)?;
                let request = self.agent.configure_request(request).timeout_per_call(Some(timeout)).build();
                self.agent.run(request)
            }
        };
        let (status, bytes) = self.exchange(answer)?;
        if !(200..300).contains(&status) {
            return Err(failure_of(status, &bytes));
        }
        if bytes.is_empty() {
            return Ok(Envelope { success: true, result: None, errors: vec![], messages: vec![], result_info: None });
        }
        let envelope: Envelope<T> = serde_json::from_slice(&bytes).map_err(|error| nonsense(&self.base, error))?;
        if !envelope.success {
            return Err(failure_of(status, &bytes));
        }
        self.pass_on(&envelope);
        Ok(envelope)
    }

    fn pass_on<T>(&self, envelope: &Envelope<T>) {
        for remark in &envelope.messages {
            self.output.warn(&printable(&remark.message));
        }
    }

    fn exchange(&self, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Outcome<(u16, Vec<u8>)> {
        let mut response = answer.map_err(|error| transport(&self.base, error))?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(RESPONSE_BYTES_MAX).read_to_vec();
        Ok((status, body.map_err(|error| transport(&self.base, error))?))
    }
}

/// A body that is not there.
const NONE: Option<&()> = None;

/// Certificates that this machine trusts; those of Mozilla if it has none.
fn system_roots() -> RootCerts {
    let found = rustls_native_certs::load_native_certs().certs;
    if found.is_empty() {
        return RootCerts::WebPki;
    }
    let certs: Vec<Certificate<'static>> = found.iter().map(|cert| Certificate::from_der(cert).to_owned()).collect();
    RootCerts::new_with_certs(&certs)
}

/// Percent-encodes what may not stand in one segment of a path or in a query's value (RFC 3986 §2.3).
pub(crate) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// No answer, or half of one.
fn transport(base: &str, error: ureq::Error) -> Failure {
    let kind = match &error {
        ureq::Error::Io(_)
        | ureq::Error::Timeout(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::Tls(_)
        | ureq::Error::Rustls(_)
        | ureq::Error::Protocol(_) => Kind::Unreachable,
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => Kind::Usage,
        _ => Kind::Failed,
    };
    let message = match &error {
        ureq::Error::Io(io) => io.to_string(),
        error => error.to_string(),
    };
    let failure = Failure::new(kind, format!("cannot reach the control plane at {base}: {message}"));
    match kind {
        Kind::Unreachable => {
            failure.hint("is `selvage-control serve` running there? `--api-url` or SELVAGE_API_URL names another")
        }
        _ => failure,
    }
}

fn nonsense(base: &str, detail: impl Display) -> Failure {
    Failure::failed(format!("{base} does not answer like a Selvage control plane: {detail}"))
}

/// The failure that a response with that status and body means.
pub(crate) fn failure_of(status: u16, body: &[u8]) -> Failure {
    let errors = match serde_json::from_slice::<Envelope<Value>>(body) {
        Ok(envelope) if !envelope.errors.is_empty() => envelope.errors,
        _ => {
            let kind = if (300..400).contains(&status) { Kind::Failed } else { Kind::of_status(status) };
            return Failure::new(kind, format!("the control plane answered with status {status} and no reason"));
        }
    };
    failure_of_errors(status, &errors)
}

/// As [`failure_of`], from the envelope's errors; `errors` is not empty.
pub(crate) fn failure_of_errors(status: u16, errors: &[ErrorItem]) -> Failure {
    let kind = match errors.first().map(|error| error.code) {
        Some(code::INVALID_MODULE | code::MODULE_TOO_LARGE) => Kind::Invalid,
        Some(code::BAD_REQUEST) => Kind::Usage,
        // A used-up quota is 403 as well, and no token would help.
        Some(code::LIMIT | code::REFUSED_BY_NODE | code::INTERNAL) => Kind::Failed,
        _ => Kind::of_status(status),
    };
    let texts = errors.iter().map(|error| match &error.field {
        Some(field) => format!("{field}: {}", error.message),
        None => error.message.clone(),
    });
    let failure = Failure::new(kind, printable(&texts.collect::<Vec<_>>().join("; ")));
    match kind {
        Kind::NotAuthenticated if status == 401 => failure.hint("run `selvage login`, or set SELVAGE_TOKEN"),
        Kind::NotAuthenticated => failure.hint("the token does not reach this; `selvage whoami` says what it is"),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Colour;

    fn quiet() -> Output {
        Output::new(true, Colour::Never)
    }

    fn check(status: u16, body: &str, kind: Kind, message: &str) {
        let failure = failure_of(status, body.as_bytes());
        assert_eq!((failure.kind, failure.message.as_str()), (kind, message));
    }

    fn envelope(code: u32, message: &str, field: Option<&str>) -> String {
        let mut item = ErrorItem::new(code, message);
        item.field = field.map(str::to_owned);
        serde_json::to_string(&Envelope::<u8>::failed(vec![item])).expect("an envelope serialises")
    }

    #[test]
    fn errors_of_the_api_become_exit_codes() {
        check(401, &envelope(code::AUTHENTICATION, "no", None), Kind::NotAuthenticated, "no");
        check(403, &envelope(code::FORBIDDEN, "no", None), Kind::NotAuthenticated, "no");
        check(403, &envelope(code::LIMIT, "too many", None), Kind::Failed, "too many");
        check(404, &envelope(code::NOT_FOUND, "no such version", None), Kind::NotFound, "no such version");
        check(409, &envelope(code::CONFLICT, "taken", Some("subdomain")), Kind::Conflict, "subdomain: taken");
        check(422, &envelope(code::INVALID_MODULE, "bad", None), Kind::Invalid, "bad");
        check(413, &envelope(code::MODULE_TOO_LARGE, "big", None), Kind::Invalid, "big");
        check(400, &envelope(code::BAD_REQUEST, "bad", Some("name")), Kind::Usage, "name: bad");
        check(502, &envelope(code::REFUSED_BY_NODE, "refused", None), Kind::Failed, "refused");
        check(503, &envelope(code::TRY_AGAIN, "busy", None), Kind::Unreachable, "busy");
    }

    #[test]
    fn answers_of_something_else_keep_their_status() {
        let text = "the control plane answered with status 502 and no reason";
        check(502, "<html>Bad Gateway</html>", Kind::Unreachable, text);
        check(301, "", Kind::Failed, "the control plane answered with status 301 and no reason");
        check(404, r#"{"errors":[]}"#, Kind::NotFound, "the control plane answered with status 404 and no reason");
    }

    #[test]
    fn escape_sequences_of_a_server_are_not_printed() {
        check(404, &envelope(code::NOT_FOUND, "\x1b[2J", None), Kind::NotFound, "\u{fffd}[2J");
    }

    #[test]
    fn path_segments_are_encoded() {
        assert_eq!(segment("A_b-1"), "A_b-1");
        assert_eq!(segment("../x y?ü"), "..%2Fx%20y%3F%C3%BC");
    }

    #[test]
    fn nobody_there_is_unreachable() {
        // A port that was just free: bound, then given back.
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let settings = Settings { api_url: format!("http://127.0.0.1:{port}"), token: None, account: None };
        let failure = Client::new(&settings, quiet()).and_then(|client| client.whoami()).expect_err("nobody");
        assert_eq!(failure.kind, Kind::Unreachable);
    }

    #[test]
    fn urls_need_a_scheme() {
        let settings = Settings { api_url: "api.example".into(), token: None, account: None };
        assert_eq!(Client::new(&settings, quiet()).err().map(|failure| failure.kind), Some(Kind::Usage));
    }
}
