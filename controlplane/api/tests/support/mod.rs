//! A control plane in this process: real store, real listener, real push server, the real validator where it is built.
//! Every answer that the client gets is held against the OpenAPI document.
//!
//! The store is in SQLite; in the test binary `postgres`, which has all tests a second time, in a PostgreSQL that each test starts.

#![allow(dead_code)]

pub(crate) mod schema;

use std::path::PathBuf;
use std::sync::Arc;

use std::sync::Mutex;

use api::{App, Artifacts, Parts, RateLimit, Shutdown, Source, Validator};
use e2e::postgres::PostgresServer;
use plane_abi::Lineage;
use plane_abi::seal::Key;
use push::{ArtifactSource, Ca, PushConfig, PushServer};
use serde_json::{Value, json};
use store::{Database, Store};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A Worker that can serve.
pub(crate) const WORKER: &str = "export default { fetch() { return new Response('ok') } }";

/// The validator's program, or `None` after saying loudly that `what` is skipped.
pub(crate) fn validator(what: &str) -> Option<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.parent()?.join("selvage-node")));
    let given = std::env::var_os("SELVAGE_NODE").map(PathBuf::from);
    let found = given.or(beside).filter(|path| path.is_file());
    if found.is_none() {
        let line = format!("SKIPPED: {what}: no selvage-node beside the test's target folder, nor in SELVAGE_NODE");
        eprintln!("{line}");
        if let Some(log) = std::env::var_os("SELVAGE_SKIP_LOG") {
            use std::io::Write;
            let file = std::fs::OpenOptions::new().create(true).append(true).open(log);
            file.and_then(|mut file| writeln!(file, "{line}")).expect("SELVAGE_SKIP_LOG can be written");
        }
    }
    found
}

/// Where a control plane's store is.
pub(crate) struct Home {
    database: Database,
    server: Option<Mutex<PostgresServer>>,
    rate_limit: RateLimit,
    /// Where artifacts are, if not in the folder.
    artifacts: Option<Artifacts>,
    pub(crate) platform_port: Option<u16>,
}

impl Home {
    fn new(rate_limit: RateLimit) -> Home {
        // Without PostgreSQL, which says so: once more in SQLite.
        let postgres = env!("CARGO_CRATE_NAME") == "postgres";
        match postgres.then(|| PostgresServer::start("the API's tests on PostgreSQL")).flatten() {
            Some(server) => {
                let database = Database::postgres(&server.url()).unwrap();
                Home { database, server: Some(Mutex::new(server)), rate_limit, artifacts: None, platform_port: None }
            }
            None => Home { database: Database::Folder, server: None, rate_limit, artifacts: None, platform_port: None },
        }
    }
}

/// A running control plane.
pub(crate) struct Control {
    pub(crate) address: String,
    pub(crate) push: Arc<PushServer>,
    /// What nodes may have.
    pub(crate) source: Arc<Source>,
    pub(crate) ca: Ca,
    pub(crate) store: Store,
    pub(crate) account: String,
    pub(crate) admin: String,
    shutdown: Shutdown,
    pub(crate) dir: Arc<TempDir>,
    pub(crate) home: Arc<Home>,
}

impl Control {
    pub(crate) async fn new() -> Control {
        Control::with_validator("/nonexistent/selvage-node".into()).await
    }

    pub(crate) async fn with_validator(program: PathBuf) -> Control {
        Control::with(Home::new(RateLimit::default()), program).await
    }

    pub(crate) async fn with_rate_limit(rate_limit: RateLimit) -> Control {
        Control::with(Home::new(rate_limit), "/nonexistent/selvage-node".into()).await
    }

    pub(crate) async fn with_artifacts(artifacts: Artifacts, program: PathBuf) -> Control {
        Control::with(Home { artifacts: Some(artifacts), ..Home::new(RateLimit::default()) }, program).await
    }

    pub(crate) async fn with_platform_port(port: u16) -> Control {
        let home = Home { platform_port: Some(port), ..Home::new(RateLimit::default()) };
        Control::with(home, "/nonexistent/selvage-node".into()).await
    }

    async fn with(home: Home, program: PathBuf) -> Control {
        let (dir, home) = (Arc::new(tempfile::tempdir().unwrap()), Arc::new(home));
        let store = Store::open_in(dir.path(), &home.database).await.unwrap();
        let (account, token) = store.bootstrap("admin@example.com").await.unwrap().unwrap();
        Control::start(dir, home, store, program, account.id.to_string(), token.secret).await
    }

    /// Another process's life on the same data directory.
    pub(crate) async fn restart(self, program: PathBuf) -> Control {
        self.shutdown.stop();
        let store = Store::open_in(self.dir.path(), &self.home.database).await.unwrap();
        Control::start(self.dir, self.home, store, program, self.account, self.admin).await
    }

    async fn start(
        dir: Arc<TempDir>,
        home: Arc<Home>,
        store: Store,
        program: PathBuf,
        account: String,
        admin: String,
    ) -> Control {
        let folder = || Artifacts::local(&dir.path().join("artifacts")).unwrap();
        let artifacts = home.artifacts.clone().unwrap_or_else(folder);
        let env_key = Key::load_or_create(&dir.path().join("env.key")).unwrap();
        let ca = Ca::load_or_create(&dir.path().join("ca.pem")).unwrap();
        let push_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let source = Arc::new(Source::new(artifacts.clone(), store.clone()));
        let served: Arc<dyn ArtifactSource> = Arc::<Source>::clone(&source);
        let config = PushConfig::new(Lineage(store.lineage()), vec![env_key.clone()], served);
        let push = Arc::new(PushServer::start(push_listener, &ca, config).unwrap());
        let app = App::start(Parts {
            store: store.clone(),
            artifacts,
            validator: Validator::new(program),
            push: Arc::clone(&push),
            env_key,
            platform_domain: "workers.localhost".to_owned(),
            platform_port: home.platform_port,
            routes: dir.path().join("routes"),
            rate_limit: home.rate_limit,
            pushed_max: 1000,
        });
        let app = app.await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shutdown = app.shutdown();
        tokio::spawn(api::serve(listener, api::router(app), shutdown.clone()));
        Control { address, push, source, ca, store, account, admin, shutdown, dir, home }
    }

    /// Everything that the database has of variables and tokens.
    pub(crate) fn stored(&self) -> Vec<u8> {
        match &self.home.server {
            Some(server) => {
                let server = server.lock().unwrap();
                let tables = ["tokens", "env_variables", "idempotency_keys"];
                tables.map(|table| server.query(&format!("SELECT t::text FROM {table} t"))).join("\n").into_bytes()
            }
            None => {
                let read = |name: &str| std::fs::read(self.dir.path().join(name)).unwrap();
                [read("control.db"), read("control.db-wal")].concat()
            }
        }
    }

    /// A request with the admin's token.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.call_as(Some(&self.admin), method, path, body).await
    }

    pub(crate) async fn call_as(&self, token: Option<&str>, method: &str, path: &str, body: Option<Value>) -> Answer {
        let body = body.map(|body| body.to_string().into_bytes());
        let mut headers = Vec::new();
        if body.is_some() {
            headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
        }
        if let Some(token) = token {
            headers.push(("Authorization".to_owned(), format!("Bearer {token}")));
        }
        self.send(method, path, &headers, &body.unwrap_or_default()).await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(String, String)], body: &[u8]) -> Answer {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        let answer = exchange(stream, method, path, headers, body).await;
        schema::check(method, path, &answer);
        answer
    }

    /// Uploads a module; `headers` beside the usual.
    pub(crate) async fn upload(
        &self,
        deployment: &str,
        module: &[u8],
        metadata: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut body = Vec::new();
        let part = |name: &str| format!("--X\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        body.extend(part("metadata").bytes().chain(metadata.bytes()).chain(*b"\r\n"));
        body.extend(part("file").bytes().chain(module.iter().copied()).chain(*b"\r\n--X--\r\n"));
        let mut all = vec![
            ("Content-Type".to_owned(), "multipart/form-data; boundary=X".to_owned()),
            ("Authorization".to_owned(), format!("Bearer {}", self.admin)),
        ];
        all.extend(headers.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        self.send("POST", &format!("/v1/deployments/{deployment}/versions"), &all, &body).await
    }

    pub(crate) async fn project(&self, name: &str) -> String {
        let path = format!("/v1/accounts/{}/projects", self.account);
        self.call("POST", &path, Some(json!({"name": name}))).await.expect(201).id()
    }

    /// A deployment of that subdomain in a project of its own.
    pub(crate) async fn deployment(&self, subdomain: &str) -> String {
        let project = self.project(&format!("of {subdomain}")).await;
        let body = json!({"name": subdomain, "subdomain": subdomain});
        self.call("POST", &format!("/v1/projects/{project}/deployments"), Some(body)).await.expect(201).id()
    }

    pub(crate) async fn status(&self, deployment: &str) -> String {
        let answer = self.call("GET", &format!("/v1/deployments/{deployment}"), None).await.expect(200);
        answer.result()["status"].as_str().unwrap().to_owned()
    }

    /// Makes another account; gives its id and a token that reaches it alone.
    pub(crate) async fn other_account(&self, email: &str) -> (String, String) {
        let other = self.call("POST", "/v1/accounts", Some(json!({"email": email}))).await.expect(201).id();
        let body = json!({"name": "ci"});
        let made = self.call("POST", &format!("/v1/accounts/{other}/tokens"), Some(body)).await.expect(201);
        (other, made.result()["secret"].as_str().unwrap().to_owned())
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Answer {
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }

    pub(crate) fn result(&self) -> &Value {
        &self.body["result"]
    }

    pub(crate) fn id(&self) -> String {
        self.result()["id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn error(&self) -> &Value {
        &self.body["errors"][0]
    }
}

/// One request and its answer, on a connection of their own.
pub(crate) async fn exchange(
    mut stream: TcpStream,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: &[u8],
) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: api\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(request.as_bytes()).await.unwrap();
    // The server may answer and close before it has read a body that is too large.
    let _ = stream.write_all(body).await;
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a response with a head");
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let text = String::from_utf8(bytes[end + 4..].to_vec()).unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { status, head, body }
}
