//! A platform of its own: a control plane and a node from the real binaries, on free loopback ports with their data in a
//! temporary folder, and the deployment API as far as the benches need it.
//!
//! *Invariant:* nothing of a run outlives it: both processes stop with [`Stack`], and the folder goes with it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Answer, Client};
use crate::load::{Scope, Target};
use crate::process::Server;

/// Below it every deployment has its name.
pub const PLATFORM_DOMAIN: &str = "workers.localhost";
/// The tier of accounts that were given no other.
const FREE_TIER: &str = "free";
const START_TIMEOUT: Duration = Duration::from_secs(30);
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_GRACE: Duration = Duration::from_secs(10);

/// Where the project's binaries are.
#[derive(Clone, Debug)]
pub struct Binaries(PathBuf);

impl Binaries {
    /// `$SELVAGE_BIN_DIR`, else the folder of this executable.
    pub fn find() -> anyhow::Result<Binaries> {
        let dir = match std::env::var_os("SELVAGE_BIN_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => std::env::current_exe()?.parent().context("the executable is in a folder")?.to_path_buf(),
        };
        Ok(Binaries(dir))
    }

    /// One of them.
    pub fn path(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.0.join(name);
        ensure!(
            path.is_file(),
            "{} is missing: build it (cargo build --release), or set SELVAGE_BIN_DIR",
            path.display()
        );
        Ok(path)
    }
}

/// How to start.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Shards of the node.
    pub shards: usize,
    /// Cores of the node; empty: all.
    pub node_cores: Vec<usize>,
    /// Cores of the control plane; empty: all.
    pub control_cores: Vec<usize>,
    /// Where the node listens; a free loopback port unless given. Elsewhere than on loopback only in a namespace of its own.
    pub listen: Option<SocketAddr>,
    /// Where nodes connect to the control plane; a free loopback port unless given.
    pub push: Option<SocketAddr>,
    /// More arguments of `selvage-node serve`.
    pub node_arguments: Vec<String>,
    /// Variables of the node's environment, beside those of this process.
    pub node_env: Vec<(String, String)>,
}

/// A running platform with one account.
pub struct Stack {
    // Fields drop in this order: the servers before their data.
    node: Server,
    control: Server,
    api: Target,
    http: SocketAddr,
    admin: SocketAddr,
    account: String,
    token: String,
    project: String,
    push: String,
    dir: TempDir,
}

/// A deployment of the stack's account.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// Its id.
    pub id: String,
    /// Its name below the platform domain.
    pub subdomain: String,
}

/// An account of the stack with one project.
#[derive(Clone, Debug)]
pub struct Tenant {
    project: String,
}

impl Stack {
    /// Starts both processes, joins the node to the control plane, and makes an account and a project.
    pub fn start(binaries: &Binaries, options: &Options) -> anyhow::Result<Stack> {
        let dir = tempfile::Builder::new().prefix("selvage-bench-").tempdir()?;
        let (data, identity) = (dir.path().join("control"), dir.path().join("identity"));
        let control_binary = binaries.path("selvage-control")?;
        let node_binary = binaries.path("selvage-node")?;

        let mut command = Command::new(&control_binary);
        command.args(["serve", "--data"]).arg(&data);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let push = options.push.unwrap_or(any).to_string();
        command.args(["--listen", "127.0.0.1:0", "--push-listen", &push]);
        command.args(["--platform-domain", PLATFORM_DOMAIN, "--validator"]).arg(&node_binary);
        let mut control = Server::start("control", command, &options.control_cores, dir.path())?;
        let ready = control.wait_ready(START_TIMEOUT)?;
        let api = Target::parse(ready.get("api").context("no api= in the ready line")?, Scope::Loopback)?;
        let push = ready.get("push").context("no push= in the ready line")?.clone();

        let admin = bootstrap(&control_binary, &data)?;
        tool(
            Command::new(&control_binary)
                .args(["enroll", "--name", "bench", "--data"])
                .arg(&data)
                .arg("--out")
                .arg(&identity),
        )?;

        let mut command = Command::new(&node_binary);
        command.args(["serve", "--data"]).arg(dir.path().join("node"));
        let listen = options.listen.unwrap_or(any).to_string();
        command.args(["--listen", &listen, "--admin", "127.0.0.1:0", "--control", &push, "--identity"]).arg(&identity);
        command.args(["--shards", &options.shards.max(1).to_string()]).args(&options.node_arguments);
        command.envs(options.node_env.iter().cloned());
        let mut node = Server::start("node", command, &options.node_cores, dir.path())?;
        let ready = node.wait_ready(START_TIMEOUT)?;
        let address = |key: &str| -> anyhow::Result<SocketAddr> {
            let text = ready.get(key).with_context(|| format!("no {key}= in the ready line"))?;
            text.trim_start_matches("http://").parse().with_context(|| format!("{key}={text}"))
        };
        let (http, admin_addr) = (address("http")?, address("admin")?);
        let mut stack = Stack {
            node,
            control,
            api,
            http,
            admin: admin_addr,
            account: text(&admin, "account_id")?,
            token: text(&admin, "token")?,
            project: String::new(),
            push,
            dir,
        };
        let body = json!({"name": "bench", "slug": "bench"});
        let project = stack.call("POST", &format!("/v1/accounts/{}/projects", stack.account), &body)?;
        stack.project = text(&project, "id")?;
        Ok(stack)
    }

    /// The node's process, for its CPU time.
    pub fn node_pid(&self) -> u32 {
        self.node.pid()
    }

    /// An error if one of the processes has ended.
    pub fn expect_alive(&mut self) -> anyhow::Result<()> {
        self.node.expect_alive()?;
        self.control.expect_alive()
    }

    /// A path of a deployment, as the node serves it.
    pub fn target(&self, subdomain: &str, path: &str) -> anyhow::Result<Target> {
        let host = format!("{subdomain}.{PLATFORM_DOMAIN}:{}", self.http.port());
        let scope = if self.http.ip().is_loopback() { Scope::Loopback } else { Scope::OwnNamespace };
        Ok(Target::new(self.http, &host, path, scope)?)
    }

    /// The folder of all data and logs.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The node's data folder.
    pub fn node_data(&self) -> PathBuf {
        self.dir.path().join("node")
    }

    /// Enrols one more node: where the control plane is for it, and the folder of its identity.
    pub fn enroll(&self, binaries: &Binaries, name: &str) -> anyhow::Result<(String, PathBuf)> {
        let identity = self.dir.path().join(format!("identity-{name}"));
        let mut command = Command::new(binaries.path("selvage-control")?);
        command.args(["enroll", "--name", name, "--data"]).arg(self.dir.path().join("control"));
        tool(command.arg("--out").arg(&identity))?;
        Ok((self.push.clone(), identity))
    }

    /// Gives all nodes these rules for packets; they are in force at connected ones when this returns.
    pub fn set_steering(&self, rules: &Value) -> anyhow::Result<()> {
        self.call("PUT", "/v1/steering", rules).map(drop)
    }

    /// The node's address for requests.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// The node's admin address.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Creates a deployment, uploads the module, activates it, and waits until the node serves it.
    pub fn deploy(&mut self, subdomain: &str, module: &[u8]) -> anyhow::Result<Deployment> {
        let deployment = self.create(subdomain)?;
        let version = self.upload(&deployment, module)?;
        self.activate(&deployment, version)?;
        self.wait_version(&deployment, version, Duration::from_secs(20))?;
        Ok(deployment)
    }

    /// Creates a deployment.
    pub fn create(&self, subdomain: &str) -> anyhow::Result<Deployment> {
        self.create_in(&self.project, subdomain)
    }

    /// Makes an account of that name with a project.
    pub fn tenant(&self, name: &str) -> anyhow::Result<Tenant> {
        self.tenant_of(name, FREE_TIER)
    }

    /// The same, of a tier.
    pub fn tenant_of(&self, name: &str, tier: &str) -> anyhow::Result<Tenant> {
        let body = json!({"email": format!("{name}@example.com"), "plan_tier": tier});
        let account = self.call("POST", "/v1/accounts", &body)?;
        let path = format!("/v1/accounts/{}/projects", text(&account, "id")?);
        let project = self.call("POST", &path, &json!({"name": name, "slug": name}))?;
        Ok(Tenant { project: text(&project, "id")? })
    }

    /// Creates a tenant's deployment.
    pub fn create_for(&self, tenant: &Tenant, subdomain: &str) -> anyhow::Result<Deployment> {
        self.create_in(&tenant.project, subdomain)
    }

    /// As [`Stack::deploy`], for a new tenant of the deployment's name.
    pub fn deploy_for_new_tenant(&mut self, subdomain: &str, module: &[u8]) -> anyhow::Result<Deployment> {
        self.deploy_for_new_tenant_of(FREE_TIER, subdomain, module)
    }

    /// The same, for a tenant of that tier.
    pub fn deploy_for_new_tenant_of(
        &mut self,
        tier: &str,
        subdomain: &str,
        module: &[u8],
    ) -> anyhow::Result<Deployment> {
        let deployment = self.create_for(&self.tenant_of(subdomain, tier)?, subdomain)?;
        let version = self.upload(&deployment, module)?;
        self.activate(&deployment, version)?;
        self.wait_version(&deployment, version, Duration::from_secs(20))?;
        Ok(deployment)
    }

    fn create_in(&self, project: &str, subdomain: &str) -> anyhow::Result<Deployment> {
        let body = json!({"name": subdomain, "subdomain": subdomain});
        let result = self.call("POST", &format!("/v1/projects/{project}/deployments"), &body)?;
        Ok(Deployment { id: text(&result, "id")?, subdomain: subdomain.to_owned() })
    }

    /// The node's metrics.
    pub fn metrics(&self) -> anyhow::Result<Metrics> {
        let host = self.admin.to_string();
        let answer = Client::new(Target::new(self.admin, &host, "/metrics", Scope::Loopback)?, CALL_TIMEOUT).get()?;
        ensure!(answer.status == 200, "/metrics answers {}", answer.status);
        Ok(Metrics(answer.text()))
    }

    /// The node's log, while the stack lives.
    pub fn node_log(&self) -> &Path {
        self.node.log()
    }

    /// Uploads a module as a new version and returns its number.
    pub fn upload(&self, deployment: &Deployment, module: &[u8]) -> anyhow::Result<u64> {
        let answer = self.try_upload(deployment, module)?;
        let result = envelope(&answer).with_context(|| format!("upload to {}", deployment.subdomain))?;
        result["version_number"].as_u64().context("a version_number")
    }

    /// Uploads a module; whatever the API says.
    pub fn try_upload(&self, deployment: &Deployment, module: &[u8]) -> anyhow::Result<Answer> {
        const BOUNDARY: &str = "----selvage-bench-7d1f0c3e5a";
        let mut body = Vec::with_capacity(module.len() + 512);
        let part = "Content-Disposition: form-data; name=\"file\"; filename=\"worker.js\"\r\nContent-Type: application/javascript+module";
        body.extend_from_slice(format!("--{BOUNDARY}\r\n{part}\r\n\r\n").as_bytes());
        body.extend_from_slice(module);
        let part = "Content-Disposition: form-data; name=\"metadata\"\r\nContent-Type: application/json";
        body.extend_from_slice(format!("\r\n--{BOUNDARY}\r\n{part}\r\n\r\n{{}}\r\n--{BOUNDARY}--\r\n").as_bytes());
        let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
        self.send("POST", &format!("/v1/deployments/{}/versions", deployment.id), &content_type, &body)
    }

    /// Activates a version; returns the moment before its request was sent.
    pub fn activate(&self, deployment: &Deployment, version: u64) -> anyhow::Result<Instant> {
        let begin = Instant::now();
        self.activate_as(deployment, version).map(|_| begin)
    }

    /// The same; returns the generation that has it.
    pub fn activate_as(&self, deployment: &Deployment, version: u64) -> anyhow::Result<u64> {
        let answer = self.send(
            "PUT",
            &format!("/v1/deployments/{}/versions/{version}", deployment.id),
            "application/json",
            b"",
        )?;
        let result = envelope(&answer).with_context(|| format!("activate v{version} of {}", deployment.subdomain))?;
        result["generation"].as_u64().context("a generation")
    }

    /// Adds routes from a file of lines `DEPLOYMENT PATTERN`, straight into the store; how many there were. The control plane takes them
    /// with the next change.
    pub fn import_routes(&self, binaries: &Binaries, lines: std::fs::File) -> anyhow::Result<u64> {
        let mut command = Command::new(binaries.path("selvage-control")?);
        command.args(["import-routes", "--platform-domain", PLATFORM_DOMAIN, "--data"]);
        let out = tool(command.arg(self.dir.path().join("control")).stdin(lines))?;
        let out: Value = serde_json::from_str(out.trim()).with_context(|| format!("import-routes said {out:?}"))?;
        out["added"].as_u64().context("how many were added")
    }

    /// The control plane's log, while the stack lives.
    pub fn control_log(&self) -> &Path {
        self.control.log()
    }

    /// Has requests for a pattern of host and path go to a deployment, too.
    pub fn route(&self, deployment: &Deployment, pattern: &str) -> anyhow::Result<()> {
        let path = format!("/v1/deployments/{}/routes", deployment.id);
        self.call("POST", &path, &json!({ "pattern": pattern })).map(drop)
    }

    /// Gives all accounts that have no tier of their own so much CPU time for a request.
    pub fn set_cpu_ms(&self, cpu_ms: u32) -> anyhow::Result<()> {
        self.set_cpu_ms_of(FREE_TIER, cpu_ms)
    }

    /// The same, to those of one tier.
    pub fn set_cpu_ms_of(&self, tier: &str, cpu_ms: u32) -> anyhow::Result<()> {
        self.call("PUT", &format!("/v1/plans/{tier}"), &json!({ "cpu_ms": cpu_ms })).map(drop)
    }

    /// Deletes a deployment.
    pub fn delete(&self, deployment: &Deployment) -> anyhow::Result<()> {
        let answer = self.send("DELETE", &format!("/v1/deployments/{}", deployment.id), "application/json", b"")?;
        envelope(&answer).with_context(|| format!("delete {}", deployment.subdomain)).map(|_| ())
    }

    /// Asks the node until it answers with that version.
    pub fn wait_version(&mut self, deployment: &Deployment, version: u64, timeout: Duration) -> anyhow::Result<Answer> {
        let wanted = format!("v{version}");
        let begin = Instant::now();
        let mut client = Client::new(self.target(&deployment.subdomain, "/")?, Duration::from_secs(5));
        loop {
            let got = client.get();
            match got {
                Ok(answer) if answer.field("x-deployment-version") == Some(&wanted) => return Ok(answer),
                other if begin.elapsed() > timeout => {
                    bail!("{} {wanted} is not served after {timeout:?}: {other:?}", deployment.subdomain)
                }
                _ => self.expect_alive()?,
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Stops both processes; an error if one does not end as it should.
    pub fn stop(self) -> anyhow::Result<()> {
        for server in [self.node, self.control] {
            let name = server.name.clone();
            let status = server.stop(STOP_GRACE)?;
            ensure!(status.success(), "{name} did not end cleanly on SIGTERM: {status}");
        }
        Ok(())
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
        let answer = self.send(method, path, "application/json", body.to_string().as_bytes())?;
        envelope(&answer).with_context(|| format!("{method} {path}"))
    }

    fn send(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> anyhow::Result<Answer> {
        let bearer = format!("Bearer {}", self.token);
        let mut fields = vec![("Authorization", bearer.as_str()), ("Connection", "close")];
        if !body.is_empty() {
            fields.push(("Content-Type", content_type));
        }
        Client::new(self.api.clone(), CALL_TIMEOUT).request(method, path, &fields, body)
    }
}

/// What a node's `/metrics` said: Prometheus text, version 0.0.4.
#[derive(Clone, Debug)]
pub struct Metrics(String);

impl Metrics {
    /// Every sample of that name: its labels as written, and its value.
    pub fn samples<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = rest.rsplit_once(' ')?;
            let labels = match labels {
                "" => "",
                labels => labels.strip_prefix('{')?.strip_suffix('}')?,
            };
            Some((labels, value.parse().ok()?))
        })
    }

    /// Samples of that name that grew since `before`: labels and by how much.
    pub fn grown<'a>(&'a self, before: &Metrics, name: &'a str) -> Vec<(&'a str, f64)> {
        let earlier = |labels: &str| before.samples(name).find(|(it, _)| *it == labels).map_or(0.0, |(_, value)| value);
        let grown = self.samples(name).map(|(labels, value)| (labels, value - earlier(labels)));
        grown.filter(|(_, more)| *more > 0.0).collect()
    }

    /// Why requests failed since `before`, as the node counted it, in words.
    pub fn failures_since(&self, before: &Metrics) -> Vec<String> {
        let grown = self.grown(before, "selvage_failures_total");
        grown.into_iter().map(|(labels, more)| format!("{labels} {more}")).collect()
    }

    /// How many failed of that cause since `before`.
    pub fn failed_by(&self, before: &Metrics, cause: &str) -> u64 {
        let label = format!("cause=\"{cause}\"");
        let grown = self.grown(before, "selvage_failures_total");
        grown
            .into_iter()
            .filter(|(labels, _)| labels.split(',').any(|it| it == label))
            .map(|(_, more)| more as u64)
            .sum()
    }

    /// The sum of all samples of that name; `None` if there is none.
    pub fn sum(&self, name: &str) -> Option<f64> {
        self.samples(name).map(|(_, value)| value).reduce(|sum, value| sum + value)
    }
}

/// The `result` of a good answer of the API; its errors otherwise.
fn envelope(answer: &Answer) -> anyhow::Result<Value> {
    ensure!((200..300).contains(&answer.status), "the API answered {}: {}", answer.status, answer.text());
    let mut value: Value = serde_json::from_slice(&answer.body).context("the API's answer is not JSON")?;
    ensure!(value["success"] == json!(true), "the API answered {value}");
    Ok(value["result"].take())
}

fn text(value: &Value, key: &str) -> anyhow::Result<String> {
    value[key].as_str().map(str::to_owned).with_context(|| format!("no {key} in {value}"))
}

fn bootstrap(control: &Path, data: &Path) -> anyhow::Result<Value> {
    let out = tool(Command::new(control).args(["bootstrap", "--email", "bench@example.com", "--data"]).arg(data))?;
    serde_json::from_str(out.trim()).with_context(|| format!("bootstrap said {out:?}"))
}

fn tool(command: &mut Command) -> anyhow::Result<String> {
    let out = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(out.status.success(), "{command:?}: {}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim());
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn metrics_are_summed_by_their_whole_name() {
        let text = "# HELP selvage_workers Workers that are up.\nselvage_workers{shard=\"0\"} 2\nselvage_workers{shard=\"1\"} 3\n\
                    selvage_workers_total{shard=\"0\"} 50\nselvage_plain 7\nselvage_bad x\n";
        let metrics = Metrics(text.to_owned());
        assert_eq!((metrics.sum("selvage_workers"), metrics.sum("selvage_plain")), (Some(5.0), Some(7.0)));
        assert_eq!((metrics.sum("selvage_bad"), metrics.sum("selvage_work")), (None, None));
        assert_eq!(metrics.samples("selvage_workers").nth(1), Some(("shard=\"1\"", 3.0)));
        let later = Metrics(text.replace("{shard=\"1\"} 3", "{shard=\"1\"} 5"));
        assert_eq!(later.grown(&metrics, "selvage_workers"), [("shard=\"1\"", 2.0)]);
    }

    #[test]
    fn failures_are_counted_by_their_whole_cause() {
        let text = |cpu: u64, other: u64| {
            let line = |shard: u64, cause: &str, count: u64| {
                format!("selvage_failures_total{{shard=\"{shard}\",cause=\"{cause}\"}} {count}\n")
            };
            Metrics([line(0, "cpu_limit", cpu), line(1, "cpu_limit", 1), line(0, "no_cpu_limit", other)].concat())
        };
        assert_eq!(text(9, 50).failed_by(&text(2, 3), "cpu_limit"), 7);
        assert_eq!(text(9, 50).failed_by(&text(2, 3), "memory_limit"), 0);
    }
}
