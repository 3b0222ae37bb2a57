//! The normal tenants of the soak: what each is, and what its answers must be.

use std::net::SocketAddr;
use std::time::Duration;

use crate::checkout;
use crate::load::{Arrivals, Expect, Mode, Plan, Target};
use crate::origin;
use crate::peers::{HELLO_BODY, HELLO_MODULE};
use crate::stack::{Deployment, Stack};

/// Lines of the streamed answer.
const STREAM_LINES: usize = 200;
/// Requests that may be due and not sent.
const BACKLOG_MAX: usize = 100_000;
const CONNECTIONS: usize = 8;
/// Far above anything that a promise allows: a request without an answer by then has failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A tenant that does nothing wrong.
pub(super) struct Normal {
    pub(super) name: &'static str,
    pub(super) deployment: Deployment,
    target: Target,
    body_bytes: usize,
}

/// Deploys them, each for a tenant of its own.
pub(super) fn deploy(stack: &mut Stack, origin: SocketAddr) -> anyhow::Result<Vec<Normal>> {
    let fetching = format!("export default {{ fetch() {{ return fetch(\"http://{origin}/\"); }} }};\n");
    let streamed: usize = (1..=STREAM_LINES).map(|line| line.to_string().len() + 1).sum();
    let hello = HELLO_MODULE.as_bytes().to_vec();
    let count = format!("/count/{STREAM_LINES}");
    [
        ("hello", hello.clone(), "/", HELLO_BODY.len()),
        ("hono", checkout::example("hono")?, "/", checkout::HONO_BODY.len()),
        ("streams", checkout::example("streams")?, count.as_str(), streamed),
        ("fetches", fetching.into_bytes(), "/", origin::BODY.len()),
        // Gets a new version all the while.
        ("redeployed", hello, "/", HELLO_BODY.len()),
    ]
    .into_iter()
    .map(|(name, module, path, body_bytes)| {
        let deployment = stack.deploy_for_new_tenant(name, &module)?;
        let target = stack.target(&deployment.subdomain, path)?;
        Ok(Normal { name, deployment, target, body_bytes })
    })
    .collect()
}

impl Normal {
    /// Its load for one slice of the time.
    pub(super) fn plan(&self, rate: f64, duration: Duration, seed: u64) -> Plan {
        let mode = Mode::Open { rate, arrivals: Arrivals::Poisson, backlog_max: BACKLOG_MAX };
        Plan {
            connections: CONNECTIONS,
            warmup: Duration::ZERO,
            duration,
            timeout: REQUEST_TIMEOUT,
            seed,
            expect: Expect { status: Some(200), body_bytes: Some(self.body_bytes as u64) },
            ..Plan::get(self.target.clone(), mode)
        }
    }
}
