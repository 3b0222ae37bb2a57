//! The one task that compiles and publishes: so that generations go out in order, and a burst of changes goes out as one.
//!
//! A change is committed to the store first; then its operation asks for a publication and waits. The task takes all that
//! ask at that moment, compiles the store's newest state once, hands it to the push server, and waits until every
//! connected node serves it, for at most `ACK_WAIT`: a node that is late or away gets it when it can.
//!
//! A configuration that a node refuses, or that does not compile, must not keep other tenants' changes from going out. If
//! activations are among those that asked, they are tried one by one, each with the others held back, and those at fault
//! become `Failed` with their previous version active again.
//!
//! *Invariants:* two publications never have the same generation; activations that were asked for are finished or
//! failed in the store before their operation hears of it.
//! *Bounds:* `BATCH_MAX` operations in one publication; as many again wait in the queue.
//! *Failures:* what does not compile without an activation at fault is logged and told as an internal error; nodes keep
//! what they have.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use model::DeploymentId;
use plane_abi::seal::Key;
use store::{DeploymentRow, Store, StoreError};
use tokio::sync::{mpsc, oneshot};

use crate::bases::Bases;
use crate::compile;
use crate::fleet::{Acks, Fleet};
use crate::places::{self, REACH_LOOK, REACH_WAIT};

/// How long an operation waits for connected nodes.
const ACK_WAIT: Duration = Duration::from_secs(5);
/// Operations in one publication.
const BATCH_MAX: usize = 1024;

/// What a publication came to.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) generation: u64,
    pub(crate) acks: Acks,
    /// The deployment, if its activation was finished or failed with it.
    pub(crate) deployment: Option<Box<DeploymentRow>>,
    /// Why the activation failed, in a node's words.
    pub(crate) refused: Option<String>,
}

impl Published {
    /// Why the configuration is at fault, if a node says so.
    pub(crate) fn refusal(&self) -> Option<String> {
        self.acks.refusal()
    }
}

/// Why nothing was published.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum PublishError {
    #[error("the store: {0}")]
    Store(Arc<StoreError>),
    #[error("the configuration does not compile: {0}")]
    Compile(String),
    #[error("the publisher has stopped")]
    Stopped,
    #[error("too many changes wait")]
    Busy,
}

impl From<StoreError> for PublishError {
    fn from(error: StoreError) -> PublishError {
        PublishError::Store(Arc::new(error))
    }
}

type Reply = oneshot::Sender<Result<Published, PublishError>>;

struct Job {
    /// The deployment whose activation or rollback is to be finished with it.
    activation: Option<DeploymentId>,
    reply: Reply,
}

/// Asks the task. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Publisher {
    jobs: mpsc::Sender<Job>,
    newest: Arc<AtomicU64>,
}

impl Publisher {
    /// Starts the task; it ends when the last `Publisher` is gone.
    pub(crate) fn start(
        store: Store,
        fleet: Fleet,
        env_key: Key,
        platform_domain: Arc<str>,
        bases: Bases,
    ) -> Publisher {
        let (sender, jobs) = mpsc::channel(BATCH_MAX);
        let newest = Arc::new(AtomicU64::new(0));
        let task = Task { store, fleet, env_key, platform_domain, bases, published: None, newest: Arc::clone(&newest) };
        tokio::spawn(task.run(jobs));
        Publisher { jobs: sender, newest }
    }

    /// The newest generation that this process has published; 0 before the first.
    pub(crate) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    /// Publishes the store's newest state, and finishes the activation of this deployment with it.
    pub(crate) async fn publish(&self, activation: Option<DeploymentId>) -> Result<Published, PublishError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job { activation, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => PublishError::Busy,
            mpsc::error::TrySendError::Closed(_) => PublishError::Stopped,
        })?;
        answer.await.map_err(|_| PublishError::Stopped)?
    }
}

struct Task {
    store: Store,
    fleet: Fleet,
    env_key: Key,
    platform_domain: Arc<str>,
    /// Has the base of routes, which many snapshots in a row share.
    bases: Bases,
    /// The newest generation that this process has published.
    published: Option<u64>,
    /// The same, for others to read.
    newest: Arc<AtomicU64>,
}

impl Task {
    async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.recv().await {
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX
                && let Ok(job) = jobs.try_recv()
            {
                batch.push(job);
            }
            self.publish_batch(batch).await;
        }
    }

    async fn publish_batch(&mut self, batch: Vec<Job>) {
        let activations: Vec<DeploymentId> = batch.iter().filter_map(|job| job.activation).collect();
        let together = self.publish_once(&activations).await;
        let at_fault = match &together {
            Ok(published) => published.acks.refusal().is_some(),
            Err(PublishError::Compile(_)) => true,
            Err(_) => false,
        };
        if at_fault && !activations.is_empty() {
            return self.publish_one_by_one(batch, &activations, together).await;
        }
        if let (Ok(published), false) = (&together, activations.is_empty())
            && let Some(reason) = self.shortage(published.generation).await
        {
            return self.fail_all(batch, published.clone(), &reason).await;
        }
        for job in batch {
            let answer = match (&together, job.activation) {
                (Ok(published), Some(deployment)) => self.finish(published.clone(), deployment).await,
                (answer, _) => answer.clone(),
            };
            // An error here: nobody listens any more, as the operation was given up. What it asked for is done.
            let _ = job.reply.send(answer);
        }
    }

    /// Finds out which activations are at fault. Those that are not go out.
    async fn publish_one_by_one(
        &mut self,
        batch: Vec<Job>,
        activations: &[DeploymentId],
        together: Result<Published, PublishError>,
    ) {
        let mut answers = Vec::new();
        for &deployment in activations {
            // Alone in its batch, it has been tried already.
            let alone = if activations.len() == 1 { together.clone() } else { self.publish_once(&[deployment]).await };
            let answer = match alone {
                Ok(published) => match published.acks.refusal() {
                    Some(reason) => self.fail(deployment, published.clone(), reason).await,
                    None => self.finish(published, deployment).await,
                },
                Err(PublishError::Compile(reason)) => {
                    let generation = self.published.unwrap_or(0);
                    let published = Published { generation, acks: Acks::default(), deployment: None, refused: None };
                    self.fail(deployment, published, reason).await
                }
                Err(error) => Err(error),
            };
            answers.push((deployment, answer));
        }
        // The previous versions of those that failed, and the changes that nobody was at fault for.
        let rest = self.publish_once(&[]).await;
        for job in batch {
            let own = job.activation.and_then(|id| answers.iter().find(|(deployment, _)| *deployment == id));
            let _ = job.reply.send(own.map_or_else(|| rest.clone(), |(_, answer)| answer.clone()));
        }
    }

    /// Which points of presence a generation has not reached, if too many.
    async fn shortage(&self, generation: u64) -> Option<String> {
        let begin = Instant::now();
        loop {
            let places =
                self.store.node_places().await.inspect_err(|error| tracing::error!(%error, "where nodes stand"));
            let short = places::shortage(&places.ok()?, &self.fleet.nodes(), generation)?;
            if begin.elapsed() >= REACH_WAIT {
                return Some(short);
            }
            tokio::time::sleep(REACH_LOOK).await;
        }
    }

    /// Fails the activations of a batch, and publishes the versions before.
    async fn fail_all(&mut self, batch: Vec<Job>, published: Published, reason: &str) {
        let mut answers = Vec::new();
        for deployment in batch.iter().filter_map(|job| job.activation) {
            answers.push((deployment, self.fail(deployment, published.clone(), reason.to_owned()).await));
        }
        let rest = self.publish_once(&[]).await;
        for job in batch {
            let own = job.activation.and_then(|id| answers.iter().find(|(deployment, _)| *deployment == id));
            let _ = job.reply.send(own.map_or_else(|| rest.clone(), |(_, answer)| answer.clone()));
        }
    }

    async fn finish(&self, mut published: Published, deployment: DeploymentId) -> Result<Published, PublishError> {
        published.deployment = Some(Box::new(self.store.finish_activation(deployment).await?));
        Ok(published)
    }

    async fn fail(
        &self,
        deployment: DeploymentId,
        mut published: Published,
        reason: String,
    ) -> Result<Published, PublishError> {
        tracing::warn!(%deployment, reason, "activation refused; the previous version is restored");
        let (row, _) = self.store.fail_activation(deployment).await?;
        published.deployment = Some(Box::new(row));
        published.refused = Some(reason);
        Ok(published)
    }

    /// Compiles and hands out the store's state; of the versions on their way, those of the deployments in `going`.
    async fn publish_once(&mut self, going: &[DeploymentId]) -> Result<Published, PublishError> {
        let begin = Instant::now();
        let mut desired = self.bases.desired(going).await?;
        // The same generation may have been published with other bytes: by the process before this one, or without a
        // version that was on its way then.
        let seen = self.fleet.highest_generation();
        if self.published.is_none_or(|published| published >= desired.generation()) || seen >= desired.generation() {
            // A node that has served a later generation knew a newer store than this one, restored from a backup.
            self.store.raise_generation_to(seen).await?;
            self.store.raise_generation().await?;
            desired = self.bases.desired(going).await?;
        }
        let (generation, read) = (desired.generation(), begin.elapsed());
        let (env_key, platform_domain) = (self.env_key.clone(), self.platform_domain.clone());
        let compiled = tokio::task::spawn_blocking(move || {
            compile::compile_for_nodes(desired, &platform_domain, &env_key).map_err(|error| error.to_string())
        });
        let compiled = compiled.await.map_err(|error| PublishError::Compile(error.to_string()))?;
        let compiled = compiled.map_err(PublishError::Compile)?;
        let compiled_us = (begin.elapsed() - read).as_micros() as u64;
        let length = compiled.bytes.len();
        let refused = |error: push::PublishError| PublishError::Compile(error.to_string());
        // Numbered past it is the next one in any case.
        self.published = Some(generation);
        if let Some(acks) = self.fleet.try_on_canary(generation, &compiled).await.map_err(refused)? {
            tracing::error!(generation, "the nodes that try configurations first refused it; no other node gets it");
            return Ok(Published { generation, acks, deployment: None, refused: None });
        }
        // It checks the snapshot as nodes will: a bad one never leaves.
        self.fleet.publish(generation, compiled).map_err(refused)?;
        self.newest.store(generation, Ordering::Release);
        let acks = self.fleet.wait_acked(generation, ACK_WAIT).await;
        let (read_us, us) = (read.as_micros() as u64, begin.elapsed().as_micros() as u64);
        let Acks { acked, connected, .. } = acks;
        tracing::info!(generation, bytes = length, read_us, compiled_us, us, acked, connected, "published");
        Ok(Published { generation, acks, deployment: None, refused: None })
    }
}
