//! The deployment API as JSON, without the project's own types: what a stranger's client would see.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::http::{Connection, Reply, Request, send};

/// The API with a token.
#[derive(Clone, Debug)]
pub struct Api {
    /// Where it listens.
    pub address: SocketAddr,
    /// Bearer token; empty for none.
    pub token: String,
}

/// A deployment that a test made.
#[derive(Clone, Debug)]
pub struct Deployed {
    /// Its id.
    pub id: String,
    /// Its host on the platform's domain.
    pub host: String,
}

impl Api {
    /// One call: status and body.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let reply = send(self.address, &self.request(method, path, body));
        (reply.status, json_of(&reply))
    }

    /// One call that may fail to get through, as when the control plane is killed in the middle of it.
    pub fn try_call(&self, method: &str, path: &str, body: Option<&Value>) -> std::io::Result<(u16, Value)> {
        let reply = Connection::open(self.address)?.exchange(&self.request(method, path, body))?;
        Ok((reply.status, json_of(&reply)))
    }

    /// A call that must succeed: its `result`.
    pub fn ok(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (status, envelope) = self.call(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {envelope}");
        envelope["result"].clone()
    }

    /// The request of a call.
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Request {
        let mut request = Request::new(method, "api.test", path).header("Connection", "close");
        if !self.token.is_empty() {
            request = request.header("Authorization", &format!("Bearer {}", self.token));
        }
        match body {
            Some(body) => request.header("Content-Type", "application/json").body(body.to_string()),
            None if method == "GET" => request,
            None => request.header("Content-Length", "0"),
        }
    }

    /// The project of that slug, made if need be: its id.
    pub fn project(&self, account: &str, slug: &str) -> String {
        let path = format!("/v1/accounts/{account}/projects");
        let list = self.ok("GET", &path, None);
        let found = list.as_array().and_then(|list| list.iter().find(|project| project["slug"] == slug).cloned());
        let project = found.unwrap_or_else(|| self.ok("POST", &path, Some(&json!({"name": slug, "slug": slug}))));
        text(&project["id"])
    }

    /// A new deployment without code.
    pub fn create(&self, project: &str, name: &str) -> Deployed {
        let body = json!({"name": name, "subdomain": name});
        let created = self.ok("POST", &format!("/v1/projects/{project}/deployments"), Some(&body));
        Deployed { id: text(&created["id"]), host: format!("{name}.workers.localhost") }
    }

    /// Uploads a module: status and envelope.
    pub fn upload(&self, id: &str, module: &[u8]) -> (u16, Value) {
        let reply = send(self.address, &self.upload_request(id, module));
        (reply.status, json_of(&reply))
    }

    /// The request that uploads a module.
    pub fn upload_request(&self, id: &str, module: &[u8]) -> Request {
        let boundary = "e2e-boundary-7f3a91c05d";
        let mut body = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"metadata\"\r\nContent-Type: application/json\r\n\r\n\
             {{\"main_module\":\"worker.js\"}}\r\n--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; \
             filename=\"worker.js\"\r\nContent-Type: application/javascript+module\r\n\r\n"
        )
        .into_bytes();
        body.extend_from_slice(module);
        body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        let content_type = format!("multipart/form-data; boundary={boundary}");
        let request = Request::new("POST", "api.test", &format!("/v1/deployments/{id}/versions"));
        let request = request.header("Connection", "close").header("Content-Type", &content_type);
        request.header("Authorization", &format!("Bearer {}", self.token)).body(body)
    }

    /// Uploads a module that must be valid: its version's number.
    pub fn upload_ok(&self, id: &str, module: &str) -> u32 {
        let (status, envelope) = self.upload(id, module.as_bytes());
        assert_eq!(status, 201, "{envelope}");
        number(&envelope["result"]["version_number"])
    }

    /// Activates a version.
    pub fn activate(&self, id: &str, version: u32) -> Value {
        self.ok("PUT", &format!("/v1/deployments/{id}/versions/{version}"), None)
    }
}

fn json_of(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap_or_else(|_| Value::String(reply.text()))
}

/// A JSON string's text.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// A JSON number that fits.
pub fn number(value: &Value) -> u32 {
    value.as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or_else(|| panic!("no number: {value}"))
}
