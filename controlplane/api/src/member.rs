//! One of the processes that share a store: it follows until nobody leads, leads until it is deposed, and follows again.
//!
//! Who leads does everything: it answers the API, keeps the nodes' connections, compiles, publishes, validates, and
//! finishes what was left behind. The others hand requests on (`front`), turn nodes away, so that these try the
//! next address, and look whether the leader is well (`election`).
//!
//! *Invariants:* what was acknowledged is in the store, whoever leads next; a process that was deposed changes nothing
//! and numbers nothing, whatever it is still about to do (`store`'s terms). With SQLite, whose data directory one process
//! serves, it leads from the start to the end.
//! *Failures:* without its database a leader goes on leading until it learns that another does; nodes stay connected and
//! serve. Thread: tokio tasks.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use plane_abi::Lineage;
use plane_abi::seal::Key;
use push::{Ca, PushConfig, PushServer};
use store::{Store, StoreError};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::election::{BEAT, LOOK, PATIENCE, Vigil};
use crate::error::ApiError;
use crate::front::{Front, Part};
use crate::serve::stopping;
use crate::{App, Artifacts, Parts, RateLimit, Shutdown, Source, Validator, router};

/// What a process brings.
pub struct Member {
    /// The store, of no term.
    pub store: Store,
    /// The artifact store, which all processes have.
    pub artifacts: Artifacts,
    /// The validator.
    pub validator: Validator,
    /// What variables in snapshots are sealed with; the same in all processes.
    pub env_key: Key,
    /// Domain of the subdomains, in normal form.
    pub platform_domain: String,
    /// Port at which nodes answer, if it is not the scheme's.
    pub platform_port: Option<u16>,
    /// Folder of the base of routes; made if missing.
    pub routes: std::path::PathBuf,
    /// What each token may ask.
    pub rate_limit: RateLimit,
    /// Deployments whose modules nodes have ahead: those with the most requests. At least 1.
    pub pushed_max: u32,
    /// The authority that nodes trust; the same in all processes.
    pub ca: Ca,
    /// Where nodes connect to.
    pub push_listener: std::net::TcpListener,
    /// Where the others reach this process's API, `HOST:PORT`.
    pub address: String,
}

/// A member that has begun.
pub struct Membership {
    /// What clients reach.
    pub front: Front,
    stop: Shutdown,
    task: JoinHandle<()>,
}

impl Membership {
    /// Gives the lead up, if this process has it. For when the service has ended.
    pub async fn leave(self) {
        self.stop.stop();
        if self.task.await.is_err() {
            tracing::error!("the member's task panicked");
        }
    }
}

impl Member {
    /// Begins, and returns when this process leads, all that was left behind being finished, or knows who does.
    /// `shutdown` is the service's: with it log tails end, and what else would hold it up.
    pub async fn start(self, shutdown: Shutdown) -> Result<Membership, ApiError> {
        let (front, stop) = (Front::new(self.env_key.clone()), Shutdown::new());
        let (begun, first) = oneshot::channel();
        let mut work = Work { member: self, front: front.clone(), shutdown, stop: stop.clone(), begun: Some(begun) };
        let task = tokio::spawn(async move { work.run().await });
        first.await.map_err(ApiError::internal)??;
        Ok(Membership { front, stop, task })
    }
}

/// Why a process does not lead any more.
enum Ended {
    Stopped,
    Deposed,
    Failed(ApiError),
}

struct Work {
    member: Member,
    front: Front,
    /// The service ends.
    shutdown: Shutdown,
    /// The process leaves.
    stop: Shutdown,
    /// Told of the first part that this process has, or of why it has none.
    begun: Option<oneshot::Sender<Result<(), ApiError>>>,
}

impl Work {
    async fn run(&mut self) {
        loop {
            let Some(store) = self.follow().await else { return };
            tracing::info!(term = store.term(), "this process leads");
            let ended = self.lead(&store).await;
            self.front.set(Part::Follows(None));
            match ended {
                Ended::Stopped => return,
                Ended::Deposed => tracing::warn!(term = store.term(), "another process leads now"),
                Ended::Failed(error) => {
                    tracing::error!(%error, "could not lead");
                    self.give_up(&store).await;
                    if self.begun.is_some() {
                        return self.begin(Err(error));
                    }
                    // Others have their turn first.
                    sleep(PATIENCE).await;
                }
            }
        }
    }

    fn begin(&mut self, result: Result<(), ApiError>) {
        if let Some(begun) = self.begun.take() {
            // An error: who started it has gone.
            let _ = begun.send(result);
        }
    }

    /// Until this process has a term: gives the store of it. None if it is to stop.
    async fn follow(&mut self) -> Option<Store> {
        let _turned_away = self.turn_away();
        let mut stop = pin!(stopping(self.stop.watch()));
        let mut vigil = Vigil::default();
        loop {
            let looked = tokio::select! {
                () = stop.as_mut() => return None,
                looked = self.look(&mut vigil) => looked,
            };
            match looked {
                Ok(Some(store)) => return Some(store),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot see who leads");
                    vigil.could_not_look();
                }
            }
            tokio::select! {
                () = stop.as_mut() => return None,
                () = sleep(LOOK) => {}
            }
        }
    }

    async fn look(&mut self, vigil: &mut Vigil) -> store::Result<Option<Store>> {
        let found = self.member.store.leadership().await?;
        // A data directory with SQLite is served by one process, which holds its lock.
        if vigil.look(Instant::now(), &found) || !self.member.store.is_shared() {
            return self.member.store.take_over(&found, &self.member.address).await;
        }
        self.front.set(Part::Follows(found.address.map(Arc::from)));
        self.begin(Ok(()));
        Ok(None)
    }

    /// Closes nodes' connections, so that they try another process. Ends when dropped.
    fn turn_away(&self) -> Option<AbortOnDrop> {
        let listener = self.listener().inspect_err(|error| tracing::error!(%error, "the nodes' listener")).ok()?;
        let task = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((connection, _)) => drop(connection),
                    Err(_) => sleep(LOOK).await,
                }
            }
        });
        Some(AbortOnDrop(task))
    }

    fn listener(&self) -> std::io::Result<TcpListener> {
        let listener = self.member.push_listener.try_clone()?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    }

    async fn lead(&mut self, store: &Store) -> Ended {
        let mut deposed = pin!(beats(store));
        let push = match self.push_server(store) {
            Ok(push) => Arc::new(push),
            Err(error) => return Ended::Failed(error),
        };
        let parts = Parts {
            store: store.clone(),
            artifacts: self.member.artifacts.clone(),
            validator: self.member.validator.clone(),
            push: Arc::clone(&push),
            env_key: self.member.env_key.clone(),
            platform_domain: self.member.platform_domain.clone(),
            platform_port: self.member.platform_port,
            routes: self.member.routes.clone(),
            rate_limit: self.member.rate_limit,
            pushed_max: self.member.pushed_max,
        };
        let started = tokio::select! {
            started = App::start(parts) => started,
            () = deposed.as_mut() => return Ended::Deposed,
        };
        let app = match started {
            Ok(app) => app,
            Err(error) => return Ended::Failed(error),
        };
        let shutdown = app.shutdown();
        self.front.set(Part::Leads(router(app)));
        self.begin(Ok(()));
        let tails = shutdown.clone();
        let service = stopping(self.shutdown.watch());
        let _with_service = AbortOnDrop(tokio::spawn(async move {
            service.await;
            tails.stop();
        }));
        let ended = tokio::select! {
            () = deposed => Ended::Deposed,
            () = stopping(self.stop.watch()) => Ended::Stopped,
        };
        // Operations that run still fail at the store; tails and nodes are to go elsewhere.
        shutdown.stop();
        push.stop();
        if matches!(ended, Ended::Stopped) {
            self.give_up(store).await;
        }
        ended
    }

    fn push_server(&self, store: &Store) -> Result<PushServer, ApiError> {
        let listener = self.listener().map_err(ApiError::internal)?;
        let source = Arc::new(Source::new(self.member.artifacts.clone(), store.clone()));
        let config = PushConfig::new(Lineage(store.lineage()), vec![self.member.env_key.clone()], source);
        PushServer::start(listener, &self.member.ca, config).map_err(ApiError::internal)
    }

    async fn give_up(&self, store: &Store) {
        match store.give_up().await {
            Ok(()) | Err(StoreError::Deposed) => {}
            Err(error) => {
                tracing::warn!(%error, "could not give the lead up; another takes it when its patience is over")
            }
        }
    }
}

/// Says that the leader is well, until another leads.
async fn beats(store: &Store) {
    if !store.is_shared() {
        return std::future::pending().await;
    }
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut away = false;
    loop {
        beat.tick().await;
        match store.beat().await {
            Ok(()) => away = false,
            Err(StoreError::Deposed) => return,
            Err(error) if !away => {
                away = true;
                tracing::warn!(%error, "the database does not answer");
            }
            Err(_) => {}
        }
    }
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
