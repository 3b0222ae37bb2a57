//! Nodes: the real agent, without what serves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use agent::{Agent, AgentHandle, Config, Control, Hooks};
use plane_abi::Status;
use plane_abi::plane::artifact_hash;

use crate::deployer::Acknowledged;
use crate::processes::World;

/// A running agent.
pub(crate) struct Node {
    handle: AgentHandle,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    pub(crate) fn start(world: &World, i: usize) -> Node {
        let name = format!("node-{i}");
        let identity = world.enroll(&name);
        let config = Config {
            data_dir: world.folder().join(&name).join("data"),
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            control: Some(Control { address: world.push(), identity }),
            software: "chaos".to_owned(),
            pulled_bytes_max: u64::MAX,
            code: None,
        };
        let agent = Agent::open(config).expect("opens");
        let handle = agent.handle();
        let hooks = Hooks {
            ready: Arc::new(|| Ok(())),
            metrics: Arc::new(String::new),
            load: Arc::new(Default::default),
            traffic: Arc::new(Vec::new),
        };
        let thread = std::thread::spawn(move || agent.run(hooks).expect("runs"));
        Node { handle, thread: Some(thread) }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.handle.plane().current().map_or(0, |published| published.snapshot().generation())
    }

    /// The node serves what was acknowledged, and has its module.
    pub(crate) fn check(&self, wanted: &Acknowledged) {
        let published = self.handle.plane().current().expect("a configuration");
        let snapshot = published.snapshot();
        let id = wanted.id.parse::<model::DeploymentId>().expect("an id").as_u128();
        let ix = snapshot.find_deployment(base::id::DeploymentId(id)).expect("acknowledged and not on the node");
        let deployment = snapshot.deployment(ix).expect("found");
        assert_eq!((deployment.version(), deployment.status()), (wanted.version, Status::Active), "{}", wanted.id);
        assert_eq!(deployment.artifact().to_string(), wanted.hash);
        let module = published.artifact(deployment.artifact()).expect("its module is on the node's disk");
        assert_eq!(artifact_hash(&module), deployment.artifact());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.handle.shutdown();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the agent's thread panicked");
        }
    }
}
