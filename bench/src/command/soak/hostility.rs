//! What is hostile in the soak: Workers of the attackers' corpus in a few deployments that come and go, and hostile requests.
//!
//! Each of these runs on a thread of its own until it is told to stop; each wait is bounded by the corpus's own ([`hostile::ask`]).

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use e2e::hostile::{requests, workers};
use e2e::random::Random;
use serde_json::Value;

use super::super::hostile;
use crate::peers::HELLO_MODULE;
use crate::stack::{Deployment, PLATFORM_DOMAIN, Stack};

/// Deployments of hostile tenants at a time.
const SLOTS: usize = 8;
/// Workers that pass through a slot before its deployment is deleted and another tenant takes it.
const WORKERS_PER_TENANT: usize = 5;
/// Time for an activation to reach the node.
const ACTIVATION: Duration = Duration::from_millis(40);
/// Between two versions of the normal tenant that is redeployed.
const REDEPLOY: Duration = Duration::from_secs(10);
/// Names kept of what ran in a slice.
const NAMES_MAX: usize = 200;

/// What has happened so far; read by the report while it goes on.
#[derive(Default)]
pub(super) struct Done {
    pub(super) workers_ran: AtomicU64,
    pub(super) workers_refused: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) tenants: AtomicU64,
    pub(super) redeploys: AtomicU64,
    /// Uploads without a verdict, requests without an end, calls of the API that failed.
    pub(super) wrong: Mutex<Vec<String>>,
    /// Nothing hostile comes meanwhile, and none of it is deployed: a rest, in which memory shows what has remained.
    pub(super) resting: AtomicBool,
    /// Hostile Workers since the last look.
    names: Mutex<Vec<String>>,
}

impl Done {
    fn wrong(&self, what: String) {
        if let Ok(mut wrong) = self.wrong.lock() {
            wrong.push(what);
        }
    }

    /// What ran since the last call.
    pub(super) fn take_names(&self) -> Vec<String> {
        self.names.lock().map(|mut names| std::mem::take(&mut *names)).unwrap_or_default()
    }
}

/// Sleeps until `at`, calls `leave` where a rest begins before, and sits that out. False: told to stop.
fn sleep_until(at: Instant, stop: &AtomicBool, done: &Done, mut leave: impl FnMut()) -> bool {
    let (step, mut has_left) = (Duration::from_millis(50), false);
    while !stop.load(Ordering::Relaxed) {
        let left = at.saturating_duration_since(Instant::now());
        let resting = done.resting.load(Ordering::Relaxed);
        if resting && !std::mem::replace(&mut has_left, true) {
            leave();
        }
        if left.is_zero() && !resting {
            return true;
        }
        std::thread::sleep(if resting { step } else { left.min(step) });
    }
    false
}

/// Deploys and asks hostile Workers, `rate` a second.
pub(super) fn workers(stack: &Stack, done: &Done, stop: &AtomicBool, rate: f64, seed: u64) {
    let mut random = Random::new(seed);
    let mut slots: Vec<Option<Deployment>> = (0..SLOTS).map(|_| None).collect();
    let interval = Duration::from_secs_f64(1.0 / rate);
    let mut due = Instant::now();
    for number in 0.. {
        let mut leave = || {
            for old in slots.iter_mut().filter_map(Option::take) {
                if let Err(error) = stack.delete(&old) {
                    done.wrong(format!("deleting {}: {error:#}", old.subdomain));
                }
            }
        };
        if !sleep_until(due, stop, done, &mut leave) {
            return;
        }
        due = (due + interval).max(Instant::now());
        let slot = number % SLOTS;
        let leaves = (number / SLOTS).is_multiple_of(WORKERS_PER_TENANT);
        let worker = workers::nth(number, &mut random);
        if let Ok(mut names) = done.names.lock()
            && names.len() < NAMES_MAX
        {
            names.push(worker.what.clone());
        }
        if let Err(error) = one(stack, done, &mut slots[slot], leaves, number, &worker) {
            done.wrong(format!("{}: {error:#}", worker.what));
        }
    }
}

fn one(
    stack: &Stack,
    done: &Done,
    slot: &mut Option<Deployment>,
    leaves: bool,
    number: usize,
    worker: &workers::Hostile,
) -> anyhow::Result<()> {
    if leaves && let Some(old) = slot.take() {
        stack.delete(&old)?;
    }
    let deployment = match slot {
        Some(deployment) => deployment,
        None => {
            let name = format!("hostile-{number}");
            done.tenants.fetch_add(1, Ordering::Relaxed);
            slot.insert(stack.create_for(&stack.tenant(&name)?, &name)?)
        }
    };
    let answer = stack.try_upload(deployment, worker.module.as_bytes())?;
    match answer.status {
        400..500 => {
            done.workers_refused.fetch_add(1, Ordering::Relaxed);
        }
        201 => {
            let envelope: Value = serde_json::from_slice(&answer.body)?;
            let version = envelope["result"]["version_number"].as_u64().context("a version_number")?;
            stack.activate(deployment, version)?;
            std::thread::sleep(ACTIVATION);
            for _ in 0..2 {
                hostile::ask(stack.http(), &format!("{}.{PLATFORM_DOMAIN}", deployment.subdomain), worker.silent)?;
            }
            done.workers_ran.fetch_add(1, Ordering::Relaxed);
        }
        other => anyhow::bail!("upload answered {other} {}", answer.text()),
    }
    Ok(())
}

/// Sends hostile requests, `rate` a second.
pub(super) fn requests(stack: &Stack, done: &Done, stop: &AtomicBool, rate: f64, seed: u64) {
    let mut random = Random::new(seed);
    let interval = Duration::from_secs_f64(1.0 / rate);
    let mut due = Instant::now();
    while sleep_until(due, stop, done, || {}) {
        due = (due + interval).max(Instant::now());
        let bytes = requests::nth(&mut random);
        let patience = Duration::from_millis(if random.one_in(50) { 200 } else { 5 });
        match e2e::http::raw(stack.http(), &bytes, patience) {
            Ok(_) => {
                done.requests.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                let text: String = String::from_utf8_lossy(&bytes).chars().take(100).collect();
                done.wrong(format!("the node does not take {text:?}: {error}"));
            }
        }
    }
}

/// Gives a normal deployment a new version every so often.
pub(super) fn redeploys(stack: &Stack, done: &Done, stop: &AtomicBool, deployment: &Deployment) {
    let mut due = Instant::now();
    for number in 0u64.. {
        due = (due + REDEPLOY).max(Instant::now());
        if !sleep_until(due, stop, done, || {}) {
            return;
        }
        let module = format!("// {number}\n{HELLO_MODULE}");
        let activated = stack.upload(deployment, module.as_bytes()).and_then(|it| stack.activate(deployment, it));
        match activated {
            Ok(_) => {
                done.redeploys.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => done.wrong(format!("redeploy {number}: {error:#}")),
        }
    }
}
