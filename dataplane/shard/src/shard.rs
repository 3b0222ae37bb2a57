//! What the tasks of one shard share: configuration, clock, Workers, numbers, outbound connections.

use crate::apart::Apart;
use crate::canned::Canned;
use crate::cell::WorkerCell;
use crate::clock::Clock;
use crate::config::{NodeConfig, TICK};
use crate::cron::{self, Runs};
use crate::handover::{Handover, WORKERS_MAX};
use crate::io::Scratch;
use crate::log::{LogSink, WorkerLog};
use crate::memory_budget::MemoryBudget;
use crate::metrics::ShardMetrics;
use crate::outbound::{Outbound, Shelf, Tls};
use crate::spares::{self, Spares};
use crate::split::{self, Asker, Counts, Lane};
use crate::turns::{self, Turns};
use crate::watch::Watches;
use crate::worker_timers::{self, WorkerTimers};
use crate::workers::{Unrouted, Workers, arrived};
use crate::{io, listener};
use base::id::DeploymentId;
use glommio::timer::Timer;
use h1::request::RequestHead;
use plane_abi::plane::{Plane, PlaneReader, Published};
use plane_abi::{DeploymentIx, Status};
use route::RouteCache;
use std::cell::{Cell, RefCell};
use std::net::TcpListener as StdListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use worker_api::event::LogLevel;
use worker_api::{Engine, shrink_stacks};

/// Routes looked up again in one tick after a new configuration, the last used first: a fifth of a millisecond at most.
const ROUTES_WARMED: usize = 256;

/// Period in which a shard in standby looks whether it may accept.
const STANDBY_TICK: Duration = Duration::from_millis(25);

/// What a shard is made from; shared by all shards of a node.
pub(crate) struct Common {
    pub(crate) config: NodeConfig,
    pub(crate) engine: Engine,
    pub(crate) plane: Plane,
    pub(crate) log: Arc<dyn LogSink>,
    pub(crate) tls: Tls,
    pub(crate) shelf: Arc<Shelf>,
    /// Shards of the node.
    pub(crate) shards: usize,
    pub(crate) origin: Instant,
    pub(crate) draining: AtomicBool,
    pub(crate) handover: Handover,
    /// By shard, Workers to have ready before the first connection; none but in standby.
    pub(crate) warm: Vec<Vec<DeploymentId>>,
    pub(crate) memory: Arc<MemoryBudget>,
}

/// One shard's state. Never leaves its thread.
pub(crate) struct Shard {
    pub(crate) index: usize,
    /// The core that it is pinned to.
    pub(crate) core: Option<usize>,
    pub(crate) common: Arc<Common>,
    pub(crate) engine: Engine,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<ShardMetrics>,
    pub(crate) log: Arc<dyn LogSink>,
    pub(crate) watches: Rc<Watches>,
    pub(crate) worker_timers: WorkerTimers,
    pub(crate) turns: Turns,
    pub(crate) apart: Apart,
    pub(crate) outbound: Outbound,
    pub(crate) scratch: Scratch,
    pub(crate) connections: Cell<usize>,
    /// Of `scheduled` handlers, by the clock.
    pub(crate) runs: Runs,
    plane: RefCell<PlaneReader>,
    routes: RefCell<RouteCache>,
    workers: RefCell<Workers>,
    pub(crate) spares: Spares,
    pub(crate) counts: Counts,
}

fn random<const N: usize>(common: &Common) -> [u8; N] {
    let mut bytes = [0; N];
    let filled = common.tls.h1.crypto_provider().secure_random.fill(&mut bytes);
    filled.expect("the system gives random bytes");
    bytes
}

impl Shard {
    pub(crate) fn new(index: usize, core: Option<usize>, common: Arc<Common>, metrics: Arc<ShardMetrics>) -> Rc<Shard> {
        Rc::new(Shard {
            index,
            core,
            engine: common.engine.clone(),
            clock: Clock::new(common.origin),
            metrics,
            log: common.log.clone(),
            watches: Rc::new(Watches::default()),
            worker_timers: WorkerTimers::new(),
            turns: Turns::new(),
            apart: Apart::new(core),
            outbound: Outbound::new(&common),
            scratch: io::scratch(),
            connections: Cell::new(0),
            runs: Runs::default(),
            plane: RefCell::new(common.plane.reader()),
            routes: RefCell::new(RouteCache::new(u64::from_ne_bytes(random(&common)))),
            workers: RefCell::new(Workers::new()),
            spares: Spares::new(&common.engine, common.config.spares),
            counts: Counts::default(),
            common,
        })
    }

    pub(crate) fn config(&self) -> &NodeConfig {
        &self.common.config
    }

    pub(crate) fn draining(&self) -> bool {
        self.common.draining.load(Ordering::Relaxed)
    }

    /// Whether connections end with their next response: the shard drains, or the operator has the node's clients go elsewhere.
    pub(crate) fn ends_connections(&self) -> bool {
        self.draining() || self.common.plane.ends_connections()
    }

    /// Whether a successor has the listening sockets: connections that idle are left a while for the request that may be on its way.
    pub(crate) fn handed_over(&self) -> bool {
        self.common.handover.handed_over()
    }

    /// The Worker for a request, by the newest configuration. One that cannot start counts against its version.
    pub(crate) fn route(self: &Rc<Self>, head: &RequestHead, asker: &Asker<'_>) -> Result<Rc<WorkerCell>, Unrouted> {
        let mut plane = self.plane.borrow_mut();
        let Some(published) = plane.current() else { return Err(Canned::NO_CONFIGURATION.into()) };
        let snapshot = published.snapshot();
        let (host, path) = (head.authority().as_bytes(), head.path().as_bytes());
        let now_ns = self.clock.recent_ns();
        let place = self.routes.borrow_mut().lookup(snapshot, host, path, now_ns).ok_or(Canned::NOT_FOUND)?;
        let (lane, shares) = split::lane(snapshot, place, asker);
        let found = self.worker_at(published, place, lane);
        match &found {
            Ok(cell) => cell.counted.set(shares),
            Err(Unrouted::Answer(canned)) if shares && !canned.is_shortage() => {
                if let Some(version) = split::deployment_in(snapshot, place, lane) {
                    self.counts.ended(version.id(), version.version(), false);
                }
            }
            Err(_) => {}
        }
        found
    }

    /// The active Worker of a deployment, by the newest configuration. Waits for its code where that is on its way.
    pub(crate) async fn worker_of(self: &Rc<Self>, deployment: DeploymentId) -> Result<Rc<WorkerCell>, Canned> {
        match self.worker_of_now(deployment) {
            Err(Unrouted::Comes(pull)) => {
                Box::pin(arrived(pull)).await?;
                self.worker_of_now(deployment).map_err(Unrouted::answer)
            }
            found => found.map_err(Unrouted::answer),
        }
    }

    fn worker_of_now(self: &Rc<Self>, deployment: DeploymentId) -> Result<Rc<WorkerCell>, Unrouted> {
        let mut plane = self.plane.borrow_mut();
        let Some(published) = plane.current() else { return Err(Canned::NO_CONFIGURATION.into()) };
        let place = published.snapshot().find_deployment(deployment).ok_or(Canned::NOT_FOUND)?;
        self.worker_at(published, place, Lane::Active)
    }

    #[inline]
    fn worker_at(
        self: &Rc<Self>,
        published: &Published,
        place: DeploymentIx,
        lane: Lane,
    ) -> Result<Rc<WorkerCell>, Unrouted> {
        let deployment = split::deployment_in(published.snapshot(), place, lane).ok_or(Canned::NOT_FOUND)?;
        if deployment.status() == Status::Paused {
            return Err(Canned::PAUSED.into());
        }
        let mut workers = self.workers.borrow_mut();
        if let Some(cell) = workers.up(published, (place, lane), self.clock.recent_ns()) {
            return Ok(cell.clone());
        }
        workers.get(self, published, (place, lane), &deployment)
    }

    /// The newest configuration.
    pub(crate) fn published(&self) -> Option<Arc<Published>> {
        self.plane.borrow_mut().current().cloned()
    }

    /// Writes a line of the node's own into a deployment's log.
    pub(crate) fn log_of(&self, deployment: DeploymentId, level: LogLevel, text: String) {
        let Some(published) = self.published() else { return };
        let snapshot = published.snapshot();
        let found = snapshot.find_deployment(deployment).and_then(|place| snapshot.deployment(place));
        let Some(found) = found else { return };
        let unix_ms = self.clock.now().unix_ms;
        let (account, version) = (found.account(), found.version());
        self.log.log(WorkerLog { account, deployment, version, unix_ms, request: None, level, text });
    }

    /// Whether a URL's host is one of the platform's own names, which have no origin.
    pub(crate) fn is_platform_host(&self, url: &str) -> bool {
        let host = url::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_ascii_lowercase));
        let mut plane = self.plane.borrow_mut();
        let (Some(host), Some(published)) = (host, plane.current()) else { return true };
        let above = host.strip_suffix(published.snapshot().platform_domain());
        above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
    }

    /// Does something for a Worker; a panic in it costs no more than that Worker.
    pub(crate) fn guarded(self: &Rc<Self>, run: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
            self.after_panic(panic.as_ref());
        }
    }

    /// After a panic was caught on this shard: counts it, and gives up the Worker it passed through, if any.
    pub(crate) fn after_panic(self: &Rc<Self>, payload: &(dyn std::any::Any + Send)) {
        self.metrics.panics.add(1);
        tracing::error!(shard = self.index, panic = panic_text(payload), "a panic was caught");
        if let Ok(mut workers) = self.workers.try_borrow_mut() {
            workers.abandon_broken(self);
        }
    }

    fn sweep(self: &Rc<Self>) {
        let mut plane = self.plane.borrow_mut();
        let published = plane.current().map(Arc::as_ref);
        if let Some(published) = published {
            self.counts.sweep(published);
        }
        self.workers.borrow_mut().sweep(self, published);
        self.outbound.sweep(self);
        self.turns.sweep(self.clock.now_ns());
        self.metrics.workers_waiting.set(self.turns.waiting());
        if self.requests_open() == 0 {
            shrink_stacks();
        }
        if self.index == 0 {
            self.memory().trim_if_changed(self.clock.now_ns(), self.requests_open() == 0);
        }
    }

    fn warm(self: &Rc<Self>) {
        let mut plane = self.plane.borrow_mut();
        if let Some(published) = plane.current() {
            self.routes.borrow_mut().warm(published.snapshot(), self.clock.recent_ns(), ROUTES_WARMED);
            self.workers.borrow_mut().warm(self, published);
        }
    }

    /// While this node waits for its turn: starts the Workers that its predecessor had, some a tick. Whether all are there.
    fn warm_up(self: &Rc<Self>, begun: &mut bool) -> bool {
        let mut plane = self.plane.borrow_mut();
        let (Some(published), mut workers) = (plane.current(), self.workers.borrow_mut()) else { return true };
        if !std::mem::replace(begun, true) {
            workers.prewarm(published, self.common.warm.get(self.index).map(Vec::as_slice).unwrap_or_default());
        }
        workers.warm(self, published);
        workers.is_warm()
    }

    /// Has an idle Worker collect a little of its garbage. Whether there is more to do.
    pub(crate) fn collect_some(self: &Rc<Self>) -> bool {
        let (next, more) = self.workers.try_borrow_mut().map_or((None, false), |mut workers| workers.next_collecting());
        if let Some(cell) = next {
            cell.collect(self);
        }
        more
    }

    /// Whether other isolates of the same Worker are up.
    pub(crate) fn is_up_beside(&self, cell: &WorkerCell) -> bool {
        self.workers.try_borrow().is_ok_and(|workers| workers.is_up_beside(cell))
    }

    /// Requests in all Workers.
    pub(crate) fn requests_open(&self) -> usize {
        self.workers.try_borrow().map_or(1, |workers| workers.in_flight())
    }

    /// Random bytes, of the quality of a key.
    pub(crate) fn random<const N: usize>(&self) -> [u8; N] {
        random(&self.common)
    }

    /// The node's memory.
    pub(crate) fn memory(&self) -> &MemoryBudget {
        &self.common.memory
    }

    /// Connections and requests that a drain waits for.
    fn busy(&self) -> bool {
        self.connections.get() > 0 || self.workers.borrow().in_flight() > 0
    }
}

/// What a panic said.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a text")
}

/// Runs a shard until it has drained. `listener` stays open in the caller's hands if the executor dies.
pub(crate) async fn run(shard: Rc<Shard>, listener: &StdListener) {
    let accepting = match listener.try_clone() {
        Ok(clone) => clone,
        Err(error) => {
            tracing::error!(shard = shard.index, %error, "cannot listen");
            return;
        }
    };
    // A panic in one of these is a panic of the shard: its supervisor sees it.
    glommio::spawn_local(worker_timers::run(shard.clone())).detach();
    glommio::spawn_local(turns::run(shard.clone())).detach();
    glommio::spawn_local(spares::collect(shard.clone())).detach();
    if shard.config().spares > 0 {
        glommio::spawn_local(spares::run(shard.clone())).detach();
    }
    stand_by(&shard).await;
    glommio::spawn_local(cron::run(shard.clone())).detach();
    glommio::spawn_local(listener::accept(shard.clone(), accepting)).detach();
    let mut ticks = 0u64;
    let mut drain_until_ns = None;
    loop {
        Timer::new(TICK).await;
        ticks += 1;
        shard.clock.follow_unix_time();
        let now_ns = shard.clock.now_ns();
        shard.watches.tick(now_ns);
        if shard.common.shards > 1 {
            shard.outbound.share(&shard, now_ns);
        }
        if ticks.is_multiple_of(shard.config().pool.sweep_ticks) {
            shard.sweep();
        }
        shard.counts.show(&shard);
        shard.workers.borrow_mut().relieve(&shard);
        if !shard.draining() {
            shard.warm();
            shard.common.handover.answer(shard.index, || shard.workers.borrow().latest(WORKERS_MAX));
            continue;
        }
        let until_ns = *drain_until_ns.get_or_insert_with(|| {
            // A successor goes on with the socket, and with the connections that wait there.
            if !shard.handed_over() {
                listener::close(&shard, listener);
            }
            shard.watches.wake_all();
            now_ns + shard.config().timeouts.drain_ns
        });
        if !shard.busy() || now_ns >= until_ns {
            tracing::info!(shard = shard.index, left = shard.connections.get(), "drained");
            return;
        }
    }
}

/// Waits, in a node that is to take another's place, until that is to be.
async fn stand_by(shard: &Rc<Shard>) {
    let (handover, mut begun, mut warm) = (&shard.common.handover, false, false);
    while handover.standby() && !shard.draining() {
        shard.clock.follow_unix_time();
        if !warm && shard.warm_up(&mut begun) {
            warm = true;
            handover.warmed();
        }
        Timer::new(STANDBY_TICK).await;
    }
}
