//! The servers of `noisy-neighbour`, each on one core with a victim and noisy tenants in one process.
//!
//! On this node each kind of noise is a tenant of its own: what the node remembers of one is not held against another. Those
//! that are to do their work whole have plans with more CPU time than it takes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::client::Client;
use crate::load::Target;
use crate::peers::{HELLO_BODY, HELLO_MODULE, Peer};
use crate::process::{Server, free_port, loopback};
use crate::stack::{Binaries, Metrics, Options, Stack};

/// What the noisy tenants do.
pub(super) const NOISY_MODULE: &str = include_str!("noisy.js");
/// Tier and CPU time of a request of tenants whose work is not to end by that limit: it takes a quarter, on a quiet core.
const ROOMY: (&str, u32) = ("roomy", 200);
/// The same of the one that fills a heap in each request: the collector's time is its own.
const HOARDER: (&str, u32) = ("hoarder", 10_000);
/// Steps of the first look at how fast a server computes.
const FIRST_STEPS: f64 = 2e6;
/// Requests of each look; the quickest counts.
const LOOKS: usize = 12;
const START_TIMEOUT: Duration = Duration::from_secs(30);
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// A server under measurement.
pub(super) struct Contender {
    pub(super) name: &'static str,
    pub(super) version: String,
    pub(super) victim: Target,
    /// Tenants that burn, each at `/` as all of these.
    pub(super) burners: [Target; 2],
    /// One that keeps its heap full and replaces what is in it.
    pub(super) allocator: Target,
    /// Those that their limits end; none at a peer without limits.
    pub(super) limited: Option<Limited>,
    /// Steps of `/burn` that take the time asked for; set by [`Contender::calibrate`].
    pub(super) steps: u64,
    pub(super) process: Process,
}

/// Tenants of this node that their limits end.
pub(super) struct Limited {
    /// One with the usual limit of CPU time.
    pub(super) burner: Target,
    /// One with the usual limit of memory, and time to reach it.
    pub(super) hoarder: Target,
}

pub(super) enum Process {
    Node(Box<Stack>),
    Peer(Server),
}

impl Contender {
    /// This node, a tenant for the victim and for each noise.
    pub(super) fn node(server_core: usize, load_core: usize, arguments: &[String]) -> anyhow::Result<Contender> {
        let options = Options {
            shards: 1,
            node_cores: vec![server_core],
            control_cores: vec![load_core],
            node_arguments: arguments.to_vec(),
            ..Options::default()
        };
        let mut stack = Stack::start(&Binaries::find()?, &options)?;
        for (tier, cpu_ms) in [ROOMY, HOARDER] {
            stack.set_cpu_ms_of(tier, cpu_ms)?;
        }
        let deployment = stack.deploy_for_new_tenant("victim", HELLO_MODULE.as_bytes())?;
        let victim = stack.target(&deployment.subdomain, "/")?;
        let limited = stack.deploy_for_new_tenant("limited", NOISY_MODULE.as_bytes())?;
        let limited = stack.target(&limited.subdomain, "/")?;
        let mut noisy = |(tier, _): (&str, u32), name: &str| {
            let deployment = stack.deploy_for_new_tenant_of(tier, name, NOISY_MODULE.as_bytes())?;
            stack.target(&deployment.subdomain, "/")
        };
        let burners = [noisy(ROOMY, "first")?, noisy(ROOMY, "second")?];
        let allocator = noisy(ROOMY, "allocator")?;
        let limited = Some(Limited { burner: limited, hoarder: noisy(HOARDER, "hoarder")? });
        let version = match arguments {
            [] => env!("CARGO_PKG_VERSION").to_owned(),
            some => format!("{} {}", env!("CARGO_PKG_VERSION"), some.join(" ")),
        };
        let process = Process::Node(Box::new(stack));
        Contender { name: "selvage", version, victim, burners, allocator, limited, steps: 0, process }.checked()
    }

    /// workerd with the victim and two noisy Workers, which have no limits there; the first is the allocator, too.
    pub(super) fn workerd(server_core: usize, dir: &Path) -> anyhow::Result<Contender> {
        let program = Peer::Workerd.find()?;
        let dir = dir.join("workerd");
        std::fs::create_dir_all(&dir)?;
        let ports = [free_port()?, free_port()?, free_port()?];
        let mut config = include_str!("workerd.capnp").to_owned();
        for (place, port) in ["@VICTIM@", "@FIRST@", "@SECOND@"].into_iter().zip(ports) {
            config = config.replace(place, &port.to_string());
        }
        for (file, text) in [("config.capnp", config.as_str()), ("hello.js", HELLO_MODULE), ("noisy.js", NOISY_MODULE)]
        {
            std::fs::write(dir.join(file), text).with_context(|| file.to_owned())?;
        }
        let mut server = program.serve_config(&[server_core], &dir)?;
        let target = |port: u16| loopback(port, &format!("127.0.0.1:{port}"), "/");
        let [victim, first, second] = [target(ports[0])?, target(ports[1])?, target(ports[2])?];
        server.wait_answers(&victim, START_TIMEOUT)?;
        let process = Process::Peer(server);
        let (version, allocator, burners) = (program.version, first.clone(), [first, second]);
        Contender { name: "workerd", version, victim, burners, allocator, limited: None, steps: 0, process }.checked()
    }

    fn checked(self) -> anyhow::Result<Contender> {
        let answer = Client::new(self.victim.clone(), CALL_TIMEOUT).get()?;
        ensure!(answer.body == HELLO_BODY.as_bytes(), "{} answers {:?}", self.name, answer.text());
        Ok(self)
    }

    /// Finds how many steps take `burn`. What was not compiled yet tells little, and a request that is much too long would meet
    /// the limit of CPU time, hence two looks.
    pub(super) fn calibrate(&mut self, burn: Duration) -> anyhow::Result<()> {
        let mut steps = FIRST_STEPS;
        for share in [0.5, 1.0] {
            let took = self.look(steps as u64)?;
            steps *= burn.as_secs_f64() * share / took.as_secs_f64();
        }
        self.steps = steps as u64;
        Ok(())
    }

    /// The quickest of some requests, compilation being over by then.
    fn look(&self, steps: u64) -> anyhow::Result<Duration> {
        let mut least = Duration::MAX;
        for noisy in &self.burners {
            let mut client = Client::new(at(noisy, &format!("/burn?steps={steps}")), CALL_TIMEOUT);
            for _ in 0..LOOKS {
                let begin = Instant::now();
                let answer = client.get()?;
                ensure!(answer.status == 200, "{} answers {steps} steps with {}", self.name, answer.status);
                least = least.min(begin.elapsed());
            }
        }
        Ok(least)
    }

    /// What the node counts; a peer counts nothing.
    pub(super) fn metrics(&self) -> anyhow::Result<Option<Metrics>> {
        match &self.process {
            Process::Node(stack) => stack.metrics().map(Some),
            Process::Peer(_) => Ok(None),
        }
    }

    pub(super) fn stop(self) -> anyhow::Result<()> {
        match self.process {
            Process::Node(stack) => stack.stop(),
            Process::Peer(server) => server.stop(Duration::from_secs(3)).map(|_| ()),
        }
    }
}

/// A target with another path.
pub(super) fn at(target: &Target, path: &str) -> Target {
    let mut target = target.clone();
    path.clone_into(&mut target.path);
    target
}
