//! [`Worker`]: events in, effects out.
//!
//! *Owns:* the isolate, and what limits mean: a request that uses up its CPU time gets [`Failure::CpuLimit`] and condemns the
//! isolate (JavaScript was stopped in the middle of anything), whose other requests may finish; a full heap, a panic of ours
//! or a heap that V8 gave up ends all of its requests.
//! *Invariants:* every request gets exactly one `Finished`, last. *Bounds:* `REQUESTS_PER_ISOLATE_MAX` requests at a time.
//! *Fails:* per request, see [`Failure`].

mod collection;
mod start_error;

pub use start_error::StartError;

use std::{collections::VecDeque, sync::Arc};

use base::{
    id::AccountId,
    limits::{
        CPU_PER_REQUEST_NS, CPU_STARTUP_NS, ISOLATE_HEAP_BYTES_MAX, MODULE_BYTES_MAX, MS_NS, REQUESTS_PER_ISOLATE_MAX,
        S_NS, WAIT_UNTIL_NS,
    },
    package::{BrokenPackage, Package},
};
use bytes::Bytes;
use collection::Collection;
use isolate::{
    CallError, Ended, Isolate, MemoryGauge, ModuleState, PromiseState, Remains, Scope, Value, let_others_run,
};

use crate::{
    Engine,
    core_ops::header_array,
    event::{
        BodyEvent, Effect, Event, Failure, FetchId, IncomingBody, LogLevel, MonotonicNs, Now, RequestHead, RequestId,
        SocketId,
    },
    limits::RequestLimits,
    modules::{self, start_error},
    runtime::Entry,
    spares::Spare,
    state::{BodyIn, Caller, Reply, Request, State},
};

/// What a Worker is started from.
#[derive(Clone, Debug)]
pub struct WorkerSpec {
    /// Source of one ES module, UTF-8, or a package (`base::package`) of several.
    pub module: Bytes,
    /// V8's compiled code of that very module ([`compile_ahead`](crate::compile_ahead), [`Worker::code_cache`]). **Verified
    /// by the caller:** V8 believes every byte of it.
    pub code_cache: Option<Bytes>,
    /// What stacks call it.
    pub module_name: String,
    /// Variables of `env`.
    pub env: Vec<(String, String)>,
    /// Names in `env` of other Workers, which `Effect::Call` names by their place.
    pub services: Vec<String>,
    /// CPU time of one request, ns.
    pub cpu_ns: u64,
    /// Heap and array buffers, bytes.
    pub heap_bytes: usize,
    /// Limits of one request besides its CPU time.
    pub limits: RequestLimits,
    /// When it starts.
    pub now: Now,
    /// Whose it is.
    pub account: AccountId,
}

impl WorkerSpec {
    /// A module alone, nobody's, with the usual limits.
    pub fn new(module: Bytes, now: Now) -> WorkerSpec {
        WorkerSpec {
            module,
            code_cache: None,
            module_name: MODULE_NAME.to_owned(),
            env: Vec::new(),
            services: Vec::new(),
            cpu_ns: CPU_PER_REQUEST_NS,
            heap_bytes: ISOLATE_HEAP_BYTES_MAX,
            limits: RequestLimits::default(),
            now,
            account: AccountId::default(),
        }
    }
}

/// Where a Worker's compiled code came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeOrigin {
    /// No code cache was given: compiled from source.
    Source,
    /// The code cache.
    Cache,
    /// V8 refused the code cache that was given (another version, other flags, another source): compiled from source.
    Rejected,
}

/// What stacks call a tenant's module.
pub(crate) const MODULE_NAME: &str = "worker.js";

/// A running Worker: one isolate with one module.
pub struct Worker {
    pub(crate) isolate: Isolate<State>,
    entry: Entry,
    module: ModuleState,
    code_origin: CodeOrigin,
    handlers: Vec<String>,
    cpu_ns: u64,
    startup_ns: u64,
    condemned: bool,
    /// The most CPU time that a turn used after it was asked to be suspended, ns; since it was last read.
    held_ns: u64,
    /// Replied requests with `waitUntil` work, by when it must end. Sorted: all wait equally long.
    waiting: VecDeque<(MonotonicNs, RequestId)>,
    /// What [`Event::Collect`] goes on with.
    collection: Option<Collection>,
}

impl Worker {
    /// Starts a Worker: compiles and evaluates its module.
    pub fn start(engine: &Engine, spec: WorkerSpec) -> Result<Worker, StartError> {
        Worker::start_within(engine, spec, None, CPU_STARTUP_NS)
    }

    /// The same in a spare isolate, if there is one and it has the limits of `spec`.
    pub fn start_in(spare: Option<Spare>, engine: &Engine, spec: WorkerSpec) -> Result<Worker, StartError> {
        Worker::start_within(engine, spec, spare, CPU_STARTUP_NS)
    }

    pub(crate) fn start_within(
        engine: &Engine,
        spec: WorkerSpec,
        spare: Option<Spare>,
        startup_ns: u64,
    ) -> Result<Worker, StartError> {
        if spec.module.len() > MODULE_BYTES_MAX {
            return Err(StartError::TooLarge);
        }
        let package = Package::open(&spec.module).map_err(|BrokenPackage| StartError::Broken)?;
        if std::str::from_utf8(package.main).is_err() {
            return Err(StartError::NotUtf8);
        }
        let spare = match spare.filter(|spare| spare.fits(spec.heap_bytes)) {
            Some(spare) => spare,
            None => Spare::make(engine, spec.heap_bytes)?,
        };
        let (mut isolate, entry) = spare.claim(spec.now, spec.limits);
        isolate.state_mut().place = engine.place;
        isolate.assign_key(spec.account.0).map_err(|error| {
            tracing::error!(%error, "an isolate's memory could not get its tenant's protection key");
            StartError::Overloaded
        })?;
        let started = isolate.turn(startup_ns, |scope| evaluate(scope, &entry, &spec, &package));
        let (module, handlers) = match started.ended {
            None => started.value.unwrap_or(Err(StartError::MemoryLimit))?,
            Some(Ended::Cpu) => return Err(StartError::CpuLimit),
            Some(Ended::Memory) => return Err(StartError::MemoryLimit),
            Some(Ended::Stuck) => return Err(StartError::Stuck),
            Some(Ended::Abandoned) => return Err(StartError::Exhausted),
            Some(Ended::Panic(text)) => return Err(own_fault(text)),
        };
        if handlers.is_empty() {
            return Err(StartError::NoFetch);
        }
        let code_origin = match (&spec.code_cache, module.cache_rejected()) {
            (None, _) => CodeOrigin::Source,
            (Some(_), false) => CodeOrigin::Cache,
            (Some(_), true) => CodeOrigin::Rejected,
        };
        Ok(Worker {
            isolate,
            entry,
            module,
            code_origin,
            handlers,
            cpu_ns: spec.cpu_ns,
            startup_ns: started.cpu_ns,
            condemned: false,
            held_ns: started.held_ns,
            waiting: VecDeque::new(),
            collection: None,
        })
    }

    /// Names of the handlers of the default export.
    pub fn handlers(&self) -> &[String] {
        &self.handlers
    }

    /// CPU time of compiling and evaluating the module, ns.
    pub fn startup_ns(&self) -> u64 {
        self.startup_ns
    }

    /// Where its compiled code came from.
    pub fn code_origin(&self) -> CodeOrigin {
        self.code_origin
    }

    /// V8's compiled code of its module: of the functions that were called so far. Runs no JavaScript; takes a few
    /// microseconds a kilobyte. `None` if the isolate cannot run any more or V8 has none to give.
    pub fn code_cache(&mut self) -> Option<Vec<u8>> {
        let module = &self.module;
        self.isolate.turn(self.cpu_ns, |scope| scope.code_cache(module)).value.flatten()
    }

    /// Ends it, and gives what is left of its isolate for any thread to drop: of a full heap V8 takes a tenth of a second for that,
    /// in one piece. Nothing if the isolate was given up.
    pub fn into_remains(self) -> Option<Remains> {
        let Worker { isolate, entry, module, .. } = self;
        drop((entry, module));
        isolate.into_remains()
    }

    /// Whether it takes no new requests. Drop it when [`Worker::in_flight`] is 0.
    pub fn condemned(&self) -> bool {
        self.condemned
    }

    /// Whether V8 could not go on with its isolate, which leaves memory behind for as long as the process runs.
    #[inline]
    pub fn given_up(&self) -> bool {
        self.isolate.given_up()
    }

    /// The most CPU time that a turn used after it was asked to be suspended, ns, since the last call of this: how long its thread
    /// could do nothing else.
    #[inline]
    pub fn take_held_ns(&mut self) -> u64 {
        std::mem::take(&mut self.held_ns)
    }

    /// Requests that are not finished.
    pub fn in_flight(&self) -> usize {
        self.isolate.state().requests.len()
    }

    /// Live bytes of heap and array buffers, as of the last full garbage collection.
    pub fn heap_bytes(&self) -> usize {
        self.isolate.memory_bytes()
    }

    /// A look at its memory for other threads, and for while a call into it is suspended.
    pub fn memory_gauge(&self) -> MemoryGauge {
        self.isolate.memory_gauge()
    }

    /// Counts the pages of its heap, for the gauge: microseconds.
    pub fn count_memory(&mut self) {
        self.isolate.heap_use();
    }

    /// The next effect; take all after each [`Worker::handle`].
    #[inline]
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.isolate.state_mut().effects.pop_front()
    }

    /// When to send [`Event::Timeout`].
    #[inline]
    pub fn poll_timeout(&self) -> Option<MonotonicNs> {
        let timer = self.isolate.state().timers.next();
        let waiting = self.waiting.front().map(|(at, _)| *at);
        [timer, waiting, self.isolate.state().wall_at_ns].into_iter().flatten().min()
    }

    pub(crate) fn state_mut(&mut self) -> &mut State {
        self.isolate.state_mut()
    }

    /// Takes an event. Stale ones (for a request that is finished) have no effect.
    pub fn handle(&mut self, now: Now, event: Event) {
        self.isolate.state_mut().now = now;
        match event {
            Event::Request { id, head } => self.request(id, head),
            Event::Invoke { id, invocation } => self.invoke(id, invocation),
            Event::RequestBody { id, body } => self.request_body(id, body),
            Event::PullResponse { id } => self.pull_response(id),
            Event::ClientGone { id } => self.client_gone(id),
            Event::FetchResponse { fetch, status, reason, headers, body } => {
                let request = self.fetch_answered(fetch, matches!(body, IncomingBody::Stream));
                if matches!(body, IncomingBody::Socket) {
                    let state = self.isolate.state_mut();
                    let socket = SocketId(fetch.0);
                    if !request.flatten().is_some_and(|id| state.add_socket(socket, id, false)) {
                        let (code, reason) = (Some(1001), String::new());
                        state.effects.push_back(Effect::SocketClose { socket, code, reason, why: None });
                    }
                }
                if let Some(request) = request {
                    self.turn(request, |scope, entry| {
                        let headers = header_array(scope, &headers);
                        let (kind, body) = incoming(scope, body);
                        let args = [
                            scope.id(fetch.0),
                            scope.integer(i32::from(status)),
                            scope.latin1(reason.as_bytes()),
                            headers,
                            kind,
                            body,
                        ];
                        let function = scope.open(&entry.fetch_response);
                        scope.call(function, &args)
                    });
                }
            }
            Event::FetchFailed { fetch, message } => {
                if let Some(request) = self.fetch_answered(fetch, false) {
                    self.turn(request, |scope, entry| {
                        let args = [scope.id(fetch.0), scope.string(&message)];
                        let function = scope.open(&entry.fetch_failed);
                        scope.call(function, &args)
                    });
                }
            }
            Event::CallThrew { fetch, name, message } => {
                if let Some(request) = self.fetch_answered(fetch, false) {
                    self.turn(request, |scope, entry| {
                        let args = [scope.id(fetch.0), scope.string(&message), scope.string(&name)];
                        let function = scope.open(&entry.fetch_failed);
                        scope.call(function, &args)
                    });
                }
            }
            Event::FetchBody { fetch, body } => {
                let more = matches!(body, BodyEvent::Chunk(_));
                if let Some(request) = self.fetch_answered(fetch, more) {
                    self.turn(request, |scope, entry| {
                        let (kind, data) = step(scope, body);
                        let args = [scope.id(fetch.0), kind, data];
                        let function = scope.open(&entry.fetch_body);
                        scope.call(function, &args)
                    });
                }
            }
            Event::PullFetchUpload { fetch } => {
                let request = self.isolate.state().fetches.get(&fetch).map(|open| open.request);
                if let Some(request) = request {
                    self.turn(request, |scope, entry| {
                        let args = [scope.id(fetch.0)];
                        let function = scope.open(&entry.pull_fetch_upload);
                        scope.call(function, &args)
                    });
                }
            }
            Event::ResponsePassed { id, end } => self.response_passed(id, end),
            Event::UploadPassed { fetch, end } => self.upload_passed(fetch, end),
            Event::SocketMessage { socket, message } => self.socket_message(socket, message),
            Event::SocketClosed { socket, code, reason, end } => self.socket_closed(socket, code, reason, end),
            Event::Timeout => self.timeout(now.monotonic_ns),
            Event::Collect => self.collect(),
        }
        self.settle();
    }

    /// Takes a new request, whose body is of the kind that is given; none: it is refused.
    #[inline]
    pub(crate) fn admit(&mut self, id: RequestId, head: &Arc<RequestHead>, caller: Caller) -> Option<i32> {
        let state = self.isolate.state_mut();
        debug_assert!(id.0 < 1 << 53, "an id is exact as a number of JavaScript");
        if self.condemned || state.requests.open_len() >= REQUESTS_PER_ISOLATE_MAX {
            let why = if self.condemned { Failure::NotBegun } else { Failure::Overloaded };
            state.effects.push_back(Effect::Fail { id, why });
            state.effects.push_back(Effect::Finished { id, cpu_ns: 0, failure: Some(why) });
            return None;
        }
        let (body, kind) = match &head.body {
            IncomingBody::Empty => (BodyIn::Done, 0),
            IncomingBody::Full(bytes) => (BodyIn::Full(bytes.clone()), 1),
            IncomingBody::Stream => (BodyIn::Idle, 2),
            IncomingBody::Socket => (BodyIn::Done, 0),
        };
        self.collection = None;
        let mut request = Request::new(Arc::clone(head), body, state.now.monotonic_ns);
        request.caller = caller;
        state.requests.insert(id, request);
        Some(kind)
    }

    fn request(&mut self, id: RequestId, head: Arc<RequestHead>) {
        let cpu_ns = self.cpu_ns;
        let Some(kind) = self.admit(id, &head, Caller::Client) else { return };
        self.turn_within(Some(id), cpu_ns, |scope, entry| {
            let args = [
                scope.id(id.0),
                entry.method(scope, &head.method),
                scope.latin1(head.url.as_bytes()),
                scope.integer(kind),
            ];
            let function = scope.open(&entry.request);
            scope.call(function, &args)
        });
        self.watch_wall(id);
    }

    fn request_body(&mut self, id: RequestId, body: BodyEvent) {
        let Some(request) = self.isolate.state_mut().requests.get_mut(&id) else { return };
        request.body = match (&request.body, &body) {
            (BodyIn::Pulled, BodyEvent::Chunk(_)) => BodyIn::Idle,
            (BodyIn::Pulled | BodyIn::Idle, BodyEvent::End | BodyEvent::Failed(_)) => BodyIn::Done,
            _ => return,
        };
        self.turn(Some(id), |scope, entry| {
            let (kind, data) = step(scope, body);
            let args = [scope.id(id.0), kind, data];
            let function = scope.open(&entry.request_body);
            scope.call(function, &args)
        });
    }

    fn pull_response(&mut self, id: RequestId) {
        let Some(request) = self.isolate.state_mut().requests.get_mut(&id) else { return };
        if request.reply != (Reply::Streaming { pulled: false }) {
            return;
        }
        request.reply = Reply::Streaming { pulled: true };
        self.turn(Some(id), |scope, entry| {
            let args = [scope.id(id.0)];
            let function = scope.open(&entry.pull_response);
            scope.call(function, &args)
        });
    }

    fn client_gone(&mut self, id: RequestId) {
        let state = self.isolate.state_mut();
        let Some(request) = state.requests.get_mut(&id) else { return };
        if request.reply == Reply::Done {
            return;
        }
        request.reply = Reply::Done;
        request.body = BodyIn::Done;
        state.ended.push(id);
        self.turn(Some(id), |scope, entry| {
            let args = [scope.id(id.0)];
            let function = scope.open(&entry.client_gone);
            scope.call(function, &args)
        });
    }

    /// The shard has answered for an outbound request; `more` may follow. For which request it is; `None` if it is over.
    fn fetch_answered(&mut self, fetch: FetchId, more: bool) -> Option<Option<RequestId>> {
        let state = self.isolate.state_mut();
        state.connected(fetch);
        let fetches = &mut state.fetches;
        let open = fetches.get_mut(&fetch)?;
        let request = open.request;
        open.awaited = false;
        if !more {
            fetches.remove(&fetch);
        }
        Some(request)
    }

    fn timeout(&mut self, now: MonotonicNs) {
        while let Some(due) = self.isolate.state_mut().timers.take_due(now) {
            let_others_run();
            self.turn(due.request, |scope, entry| {
                let args = [scope.id(due.id), scope.boolean(due.repeats)];
                let function = scope.open(&entry.timeout);
                scope.call(function, &args)
            });
            // A request that has ended by this has no timer any more that could be due.
            self.settle_ended();
        }
        while let Some(&(at, id)) = self.waiting.front().filter(|(at, _)| *at <= now) {
            debug_assert!(at <= now);
            let_others_run();
            self.waiting.pop_front();
            let state = self.isolate.state_mut();
            if state.requests.contains_key(&id) {
                let seconds = WAIT_UNTIL_NS / S_NS;
                state.say(Some(id), LogLevel::Warn, format!("waitUntil work was dropped {seconds} s after the reply"));
                self.finish(id);
            }
        }
        self.wall_limit(now);
    }

    /// A turn for a request (or none) with what is left of its CPU time.
    /// An event of a session has all of it.
    pub(crate) fn turn(
        &mut self,
        request: Option<RequestId>,
        call: impl for<'s> FnOnce(&mut Scope<'s, '_>, &Entry) -> Result<Value<'s>, CallError<'s>>,
    ) {
        let used = match request.and_then(|id| self.isolate.state_mut().requests.get_mut(&id)) {
            Some(request) if request.serving > 0 => {
                request.renew_cpu();
                0
            }
            Some(request) => request.cpu_ns,
            None => 0,
        };
        self.turn_within(request, self.cpu_ns.saturating_sub(used), call);
    }

    fn turn_within(
        &mut self,
        request: Option<RequestId>,
        budget_ns: u64,
        call: impl for<'s> FnOnce(&mut Scope<'s, '_>, &Entry) -> Result<Value<'s>, CallError<'s>>,
    ) {
        self.isolate.state_mut().start_turn();
        let entry = &self.entry;
        let turn = self.isolate.turn(budget_ns, |scope| {
            let flow = request.map_or_else(|| scope.undefined(), |id| scope.id(id.0));
            scope.set_flow(flow);
            match call(scope, entry) {
                Ok(_) => scope.run_microtasks(),
                Err(CallError::Thrown(error)) => log_thrown(scope, entry, request, "Uncaught", error),
                Err(CallError::Ended) => return,
            }
            if scope.run_tasks() {
                // Tasks are nobody's: what they throw is not the request's.
                for error in scope.thrown_by_tasks() {
                    log_thrown(scope, entry, None, "Uncaught", error);
                }
            }
            tell_rejections(scope, entry, request);
        });
        self.held_ns = self.held_ns.max(turn.held_ns);
        let used = match request.and_then(|id| self.isolate.state_mut().requests.get_mut(&id)) {
            Some(request) => {
                request.cpu_ns += turn.cpu_ns;
                request.cpu_ns
            }
            None => 0,
        };
        match turn.ended {
            None if used <= self.cpu_ns => {}
            // One that did not begin was not stopped in the middle.
            None | Some(Ended::Cpu) => self.cpu_limit(request, turn.ended.is_some() && turn.value.is_some()),
            Some(Ended::Stuck) => {
                self.cpu_limit(request, true);
                self.fail_all(request, Failure::CpuLimit);
            }
            Some(Ended::Memory | Ended::Abandoned) => self.fail_all(request, Failure::MemoryLimit),
            Some(Ended::Panic(text)) => {
                tracing::error!(panic = text, "a native function panicked; its isolate is dropped");
                self.fail_all(request, Failure::Exception);
            }
        }
    }

    /// A request has used up its CPU time. `stopped`: in the middle of JavaScript, so that the isolate's state is anything.
    #[cold]
    fn cpu_limit(&mut self, request: Option<RequestId>, stopped: bool) {
        self.condemned |= stopped;
        let limit_ms = self.cpu_ns / MS_NS;
        let state = self.isolate.state_mut();
        state.say(request, LogLevel::Error, format!("CPU time limit of {limit_ms} ms exceeded"));
        if let Some(id) = request {
            state.fail(id, Failure::CpuLimit);
            // Nothing more is done for it, what it has with waitUntil included.
            state.end_sockets_of(id, Some(Failure::CpuLimit));
            if let Some(request) = state.requests.get_mut(&id) {
                request.waiting = 0;
                state.ended.push(id);
            }
        }
    }

    /// The isolate cannot go on: `request` fails with `why`, the others because of it.
    #[cold]
    fn fail_all(&mut self, request: Option<RequestId>, why: Failure) {
        self.condemned = true;
        let state = self.isolate.state_mut();
        if why == Failure::MemoryLimit {
            state.say(request, LogLevel::Error, "memory limit exceeded".to_owned());
        }
        let mut ids: Vec<RequestId> = state.requests.ids().collect();
        ids.sort_unstable();
        for id in ids {
            let why = if request == Some(id) { why } else { state.displaced(id) };
            state.fail(id, why);
            if let Some(open) = state.requests.get_mut(&id) {
                open.failure.get_or_insert(why);
                open.waiting = 0;
                state.ended.push(id);
            }
        }
    }

    /// Finishes requests that are over, and fails those that nothing can move any more.
    fn settle(&mut self) {
        loop {
            self.settle_ended();
            let hung = self.isolate.state().hung();
            if hung.is_empty() {
                return;
            }
            for id in hung {
                self.hung(id);
            }
        }
    }

    /// Finishes requests that are over.
    #[inline]
    fn settle_ended(&mut self) {
        if self.condemned && !self.isolate.state().sockets.is_empty() {
            self.isolate.state_mut().end_sockets();
        }
        while let Some(id) = self.isolate.state_mut().ended.pop() {
            self.settle_one(id);
            if !self.isolate.state().ended.is_empty() {
                let_others_run();
            }
        }
    }

    #[inline]
    fn settle_one(&mut self, id: RequestId) {
        let state = self.isolate.state();
        let Some(request) = state.requests.get(&id).filter(|request| request.reply == Reply::Done) else { return };
        if request.serving > 0 {
            self.isolate.state_mut().requests.begin_session(id);
        } else if request.waiting == 0 && request.sockets == 0 {
            self.finish(id);
        } else if !self.waiting.iter().rev().any(|(_, waiting)| *waiting == id) {
            self.waiting.push_back((state.now.monotonic_ns.saturating_add(WAIT_UNTIL_NS), id));
        }
    }

    #[cold]
    fn hung(&mut self, id: RequestId) {
        let condemned = self.condemned;
        let state = self.isolate.state_mut();
        let Some(request) = state.requests.get_mut(&id) else { return };
        let replied = request.reply == Reply::Done;
        request.waiting = 0;
        if replied {
            state.say(Some(id), LogLevel::Warn, "a waitUntil promise can never settle".to_owned());
            state.ended.push(id);
        } else {
            let text =
                "the request can never be answered: its promise is pending and nothing is left that could settle it";
            state.say(Some(id), LogLevel::Error, text.to_owned());
            let why = if condemned { state.displaced(id) } else { Failure::Hung };
            state.fail(id, why);
        }
    }

    fn finish(&mut self, id: RequestId) {
        let state = self.isolate.state_mut();
        let sockets = state.end_sockets_of(id, None);
        let Some(mut request) = state.requests.remove(&id) else { return };
        if state.requests.open_len() == 0 {
            state.wall_at_ns = None;
        }
        let mut fetches: Vec<FetchId> = Vec::new();
        if !state.fetches.is_empty() {
            fetches
                .extend(state.fetches.iter().filter(|(_, fetch)| fetch.request == Some(id)).map(|(fetch, _)| *fetch));
            fetches.sort_unstable();
        }
        let timers = state.timers.stop_of(id);
        let body_open = matches!(request.body, BodyIn::Idle | BodyIn::Pulled);
        if body_open {
            state.effects.push_back(Effect::CancelRequestBody { id });
        }
        for fetch in &fetches {
            state.fetches.remove(fetch);
            state.effects.push_back(Effect::CancelFetch { fetch: *fetch });
        }
        let (cpu_ns, failure) = (request.take_cpu_ns(), request.failure);
        state.effects.push_back(Effect::Finished { id, cpu_ns, failure });
        if !self.waiting.is_empty() {
            self.waiting.retain(|(_, waiting)| *waiting != id);
        }
        if body_open || failure.is_some() || !fetches.is_empty() || !timers.is_empty() || !sockets.is_empty() {
            self.forget(id, &timers, &fetches, &sockets);
        }
    }

    /// Lets JavaScript drop what it keeps for a request. Runs nothing of the tenant's.
    pub(crate) fn forget(&mut self, id: RequestId, timers: &[u64], fetches: &[FetchId], sockets: &[SocketId]) {
        if !self.isolate.usable() {
            return;
        }
        self.turn_within(None, self.cpu_ns, |scope, entry| {
            let timers: Vec<Value<'_>> = timers.iter().map(|timer| scope.id(*timer)).collect();
            let fetches: Vec<Value<'_>> = fetches.iter().map(|fetch| scope.id(fetch.0)).collect();
            let sockets: Vec<Value<'_>> = sockets.iter().map(|socket| scope.id(socket.0)).collect();
            let args = [scope.id(id.0), scope.array(&timers), scope.array(&fetches), scope.array(&sockets)];
            let function = scope.open(&entry.forget);
            scope.call(function, &args)
        });
    }
}

/// Compiles and evaluates the tenant's module and hands its default export to the runtime; gives it and its handlers' names.
fn evaluate(
    scope: &mut Scope<'_, '_>,
    entry: &Entry,
    spec: &WorkerSpec,
    package: &Package<'_>,
) -> Result<(ModuleState, Vec<String>), StartError> {
    let mut env = Vec::with_capacity(spec.env.len() * 2);
    for (name, value) in &spec.env {
        env.push(scope.interned(name));
        env.push(scope.string(value));
    }
    let env = scope.array(&env);
    let services = match spec.services.is_empty() {
        true => scope.undefined(),
        false => {
            let names: Vec<Value<'_>> = spec.services.iter().map(|name| scope.interned(name)).collect();
            scope.array(&names)
        }
    };
    let mut module = modules::load(scope, entry, spec, package, (env, services))?;
    scope.start_module(&mut module).map_err(start_error)?;
    scope.run_microtasks();
    match scope.module_progress(&module) {
        PromiseState::Fulfilled(_) => {}
        PromiseState::Rejected(reason) => return Err(threw(scope, entry, reason)),
        PromiseState::Pending => {
            return Err(StartError::Startup {
                message: "a top-level await never settles".to_owned(),
                stack: String::new(),
                place: None,
            });
        }
    }
    let args = [scope.module_exports(&module), env, services];
    let start = scope.open(&entry.start);
    let names = match scope.call(start, &args) {
        Ok(names) => names,
        Err(CallError::Thrown(reason)) => return Err(threw(scope, entry, reason)),
        Err(CallError::Ended) => return Err(StartError::CpuLimit),
    };
    let names = (0..scope.array_len(names)).filter_map(|index| scope.element(names, index)).collect::<Vec<_>>();
    Ok((module, names.into_iter().filter_map(|name| scope.text(name)).collect()))
}

pub(crate) fn threw<'s>(scope: &mut Scope<'s, '_>, entry: &Entry, reason: Value<'s>) -> StartError {
    let place = scope.place_of(reason);
    let stack = describe(scope, entry, reason);
    let message = stack.lines().next().unwrap_or_default().to_owned();
    StartError::Startup { message, stack, place }
}

/// A defect of this program that shows when it starts any Worker.
pub(crate) fn own_fault(text: String) -> StartError {
    tracing::error!(error = text, "the runtime does not start");
    StartError::Startup { message: "the runtime does not start".to_owned(), stack: text, place: None }
}

/// Text for a thrown value, by the runtime's own function, which does not throw.
fn describe<'s>(scope: &mut Scope<'s, '_>, entry: &Entry, value: Value<'s>) -> String {
    let function = scope.open(&entry.describe);
    let text = scope.call(function, &[value]).ok();
    text.and_then(|text| scope.text(text)).unwrap_or_else(|| "an exception without text".to_owned())
}

#[cold]
fn log_thrown<'s>(scope: &mut Scope<'s, '_>, entry: &Entry, request: Option<RequestId>, what: &str, value: Value<'s>) {
    let text = describe(scope, entry, value);
    scope.state::<State>().log(request, LogLevel::Error, format!("{what} {text}"));
}

/// Times that a program's handlers of rejections may cause others, which are looked at in the same turn.
const REJECTION_ROUNDS: usize = 8;

/// Tells the program of promises that were rejected and have no handler, and of those that have one now; what it does not cancel
/// is logged.
#[inline]
fn tell_rejections(scope: &mut Scope<'_, '_>, entry: &Entry, request: Option<RequestId>) {
    for _ in 0..REJECTION_ROUNDS {
        let unhandled = scope.unhandled_rejections();
        let handled = scope.handled_rejections();
        if unhandled.is_empty() && handled.is_empty() {
            break;
        }
        let rejected = scope.open(&entry.rejected);
        for (promise, reason) in unhandled {
            let told = scope.call(rejected, &[promise, reason, scope.boolean(false)]);
            if matches!(told, Err(CallError::Ended)) {
                return;
            }
        }
        for promise in handled {
            let args = [promise, scope.undefined(), scope.boolean(true)];
            if matches!(scope.call(rejected, &args), Err(CallError::Ended)) {
                return;
            }
        }
        scope.run_microtasks();
    }
    let dropped = scope.dropped_rejections();
    if dropped > 0 {
        let text = format!("{dropped} more promises were rejected in this turn, too many to look at");
        scope.state::<State>().log(request, LogLevel::Error, text);
    }
}

/// A step of a body, for `dispatch.js`: its kind and its data.
fn step<'s>(scope: &mut Scope<'s, '_>, body: BodyEvent) -> (Value<'s>, Value<'s>) {
    match body {
        BodyEvent::Chunk(bytes) => match scope.uint8_array(Vec::from(bytes)) {
            Some(chunk) => (scope.integer(0), chunk),
            None => (scope.integer(2), scope.string("out of memory")),
        },
        BodyEvent::End => (scope.integer(1), scope.undefined()),
        BodyEvent::Failed(_) => (scope.integer(2), scope.string("the body ended early")),
    }
}

/// A whole body, for `dispatch.js`: its kind and its data.
fn incoming<'s>(scope: &mut Scope<'s, '_>, body: IncomingBody) -> (Value<'s>, Value<'s>) {
    match body {
        IncomingBody::Empty => (scope.integer(0), scope.null()),
        IncomingBody::Full(bytes) => match scope.uint8_array(Vec::from(bytes)) {
            Some(array) => (scope.integer(1), array),
            None => (scope.integer(0), scope.null()),
        },
        IncomingBody::Stream => (scope.integer(2), scope.null()),
        IncomingBody::Socket => (scope.integer(5), scope.null()),
    }
}
