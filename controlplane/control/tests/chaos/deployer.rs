//! A client that deploys, asks any process, and tries again until it is told that it is done.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use e2e::http::{Connection, Request};
use serde_json::{Value, json};

use crate::processes::World;

/// A deployment takes as long at most, whatever ends meanwhile.
const PATIENCE: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_millis(100);

/// What a client was told is active.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    pub(crate) id: String,
    pub(crate) version: u32,
    pub(crate) hash: String,
}

pub(crate) struct Deployer {
    apis: Vec<SocketAddr>,
    number: usize,
    token: String,
    project: String,
    tries: usize,
}

impl Deployer {
    pub(crate) fn new(world: &World, number: usize) -> Deployer {
        let mut deployer =
            Deployer { apis: world.apis(), number, token: world.token.clone(), project: String::new(), tries: 0 };
        let path = format!("/v1/accounts/{}/projects", world.account);
        let (status, body) = deployer.json("POST", &path, &json!({"name": format!("p{number}")}));
        assert_eq!(status, 201, "{body}");
        deployer.project = body["result"]["id"].as_str().expect("an id").to_owned();
        deployer
    }

    /// Requests so far.
    pub(crate) fn tries(&self) -> usize {
        self.tries
    }

    /// Deployment `i`: made, its first version active, every third with a second version after it.
    pub(crate) fn deploy(&mut self, i: usize) -> Acknowledged {
        let name = format!("d{i}");
        let id = self.create(&name);
        let mut done = self.activate(&id, &format!("{name} v1"));
        if i.is_multiple_of(3) {
            done = self.activate(&id, &format!("{name} v2"));
        }
        done
    }

    fn create(&mut self, name: &str) -> String {
        let path = format!("/v1/projects/{}/deployments", self.project);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, body) = self.json("POST", &path, &json!({"name": name, "subdomain": name}));
            if status == 201 {
                return body["result"]["id"].as_str().expect("an id").to_owned();
            }
            // A try that was not answered may have made it.
            if status == 409 {
                let (status, body) = self.json("GET", &format!("{path}?limit=1000"), &Value::Null);
                let made = body["result"].as_array().and_then(|all| all.iter().find(|it| it["subdomain"] == name));
                if let (200, Some(made)) = (status, made) {
                    return made["id"].as_str().expect("an id").to_owned();
                }
            }
            self.pause(status, &body, deadline);
        }
    }

    /// Uploads a module, and activates it unless that made it active.
    fn activate(&mut self, id: &str, module: &str) -> Acknowledged {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, body) = self.upload(id, module);
            if status != 201 {
                self.pause(status, &body, deadline);
                continue;
            }
            let version = &body["result"];
            let number = version["version_number"].as_u64().expect("a number");
            let hash = version["artifact_hash"].as_str().and_then(|hash| hash.strip_prefix("sha256:")).expect("a hash");
            let done = Acknowledged { id: id.to_owned(), version: number as u32, hash: hash.to_owned() };
            if version["active"] == true {
                return done;
            }
            loop {
                let (status, body) = self.json("PUT", &format!("/v1/deployments/{id}/versions/{number}"), &Value::Null);
                if status == 200 {
                    return done;
                }
                self.pause(status, &body, deadline);
            }
        }
    }

    fn upload(&mut self, id: &str, module: &str) -> (u16, Value) {
        let part = |name: &str, text: &str| {
            format!("--X\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
        };
        let body = format!("{}{}--X--\r\n", part("metadata", "{}"), part("file", module));
        let request = Request::new("POST", "api", &format!("/v1/deployments/{id}/versions"));
        self.send(request.header("content-type", "multipart/form-data; boundary=X").body(body))
    }

    fn json(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = Request::new(method, "api", path);
        match body {
            Value::Null => self.send(request),
            body => self.send(request.header("content-type", "application/json").body(body.to_string())),
        }
    }

    /// The next process's answer; 0 for none.
    fn send(&mut self, request: Request) -> (u16, Value) {
        let api = self.apis[(self.number + self.tries) % self.apis.len()];
        self.tries += 1;
        let request = request.header("authorization", &format!("Bearer {}", self.token));
        let reply = Connection::open(api).and_then(|mut connection| connection.exchange(&request));
        reply.map_or((0, Value::Null), |reply| (reply.status, serde_json::from_str(&reply.text()).unwrap_or_default()))
    }

    /// Waits after an answer that does not say that it is done, and fails if that answer will not pass.
    fn pause(&self, status: u16, body: &Value, deadline: Instant) {
        assert!(Instant::now() < deadline, "not done in {PATIENCE:?}: {status} {body}");
        // 409: what a try began that was not answered is not over yet. 502: a node did not take it, and it was undone.
        assert!(matches!(status, 0 | 409 | 502..=504), "{status} {body}");
        std::thread::sleep(PAUSE);
    }
}
