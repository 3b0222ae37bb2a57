//! One load thread: a loop of due requests, ready sockets and timeouts.
//!
//! *Thread:* pinned to its core if the plan names one. A pinned loop spins instead of sleeping: neither the schedule nor
//! the time of a response waits for a wake-up, and the server does not pay for one with each response, as it would not
//! with its clients on other machines. An unpinned one sleeps until shortly before the next request is due.
//! *Bounds:* connections and backlog of the plan; one read of [`READ_BYTES`] per ready socket and turn.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::connection::{Connection, InFlight, Link};
use super::record::{ErrorClass, Tally};
use super::response::Response;
use super::schedule::Schedule;
use super::{Mode, Plan};
use crate::machine;

/// Read buffer of a thread, bytes.
const READ_BYTES: usize = 256 * 1024;
/// Events taken from epoll at a time.
const EVENTS_MAX: usize = 256;
/// Between two looks at timeouts and connections that are down, ns.
const SWEEP_NS: u64 = 5_000_000;
/// Before a failed connection is tried again, ns.
const RETRY_NS: u64 = 10_000_000;
/// An unpinned open loop wakes this long before a request is due, ns.
const WAKE_EARLY_NS: u64 = 60_000;

/// Runs thread `thread` of `threads`; returns its record and the length of its measured window.
pub(super) fn run(
    plan: &Plan,
    thread: usize,
    threads: usize,
    epoch: Instant,
    stop: &AtomicBool,
) -> anyhow::Result<(Tally, Duration)> {
    if let Some(core) = plan.cores.get(thread) {
        machine::pin_thread(&[*core]).with_context(|| format!("pin the load to core {core}"))?;
    }
    let mut generator = Generator::new(plan, thread, threads, epoch)?;
    generator.run(stop)?;
    let window_ns = generator.window_end_ns.saturating_sub(generator.window_start_ns);
    Ok((generator.tally, Duration::from_nanos(window_ns)))
}

struct Generator<'a> {
    plan: &'a Plan,
    addr: SocketAddr,
    epoch: Instant,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    /// The request, as often as the pipeline is deep.
    burst: Vec<u8>,
    /// Open connections with room for a request, longest idle first.
    free: VecDeque<usize>,
    /// Due times without a connection yet.
    backlog: VecDeque<u64>,
    schedule: Option<Schedule>,
    next_due_ns: u64,
    /// Requests of the window that have no outcome yet (open loop).
    open_in_window: u64,
    requests_left: u64,
    window_start_ns: u64,
    window_end_ns: u64,
    cpu_at_start_ns: Option<u64>,
    next_sweep_ns: u64,
    /// False while the connections open before the epoch.
    started: bool,
    spins: bool,
    /// Time of the window in turns that spun and found nothing, ns.
    idle_ns: u64,
    tally: Tally,
}

impl<'a> Generator<'a> {
    fn new(plan: &'a Plan, thread: usize, threads: usize, epoch: Instant) -> anyhow::Result<Generator<'a>> {
        let share = |all: u64| all / threads as u64 + u64::from((thread as u64) < all % threads as u64);
        let mut schedule = match plan.mode {
            Mode::Open { rate, arrivals, .. } => Some(Schedule::new(arrivals, rate, thread, threads, plan.seed)),
            Mode::Closed => None,
        };
        let window_start_ns = plan.warmup.as_nanos() as u64;
        Ok(Generator {
            plan,
            addr: plan.target.addr(),
            epoch,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            connections: (0..share(plan.connections as u64)).map(|_| Connection::new()).collect(),
            burst: plan.request.repeat(plan.pipeline),
            free: VecDeque::new(),
            backlog: VecDeque::new(),
            next_due_ns: schedule.as_mut().and_then(Iterator::next).unwrap_or(u64::MAX),
            schedule,
            open_in_window: 0,
            requests_left: plan.requests_max.map_or(u64::MAX, share),
            window_start_ns,
            window_end_ns: window_start_ns + plan.duration.as_nanos() as u64,
            cpu_at_start_ns: None,
            next_sweep_ns: 0,
            started: false,
            spins: !plan.cores.is_empty(),
            idle_ns: 0,
            tally: Tally::default(),
        })
    }

    /// Nanoseconds since the epoch; zero before it.
    fn now(&self) -> u64 {
        Instant::now().saturating_duration_since(self.epoch).as_nanos() as u64
    }

    fn run(&mut self, stop: &AtomicBool) -> anyhow::Result<()> {
        self.sweep(0)?;
        std::thread::sleep(self.epoch.saturating_duration_since(Instant::now()));
        self.started = true;
        if self.schedule.is_none() {
            for index in 0..self.connections.len() {
                if self.connections[index].link == Link::Up {
                    self.refill(index)?;
                }
            }
        }
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let mut buffer = vec![0u8; READ_BYTES];
        let mut cpu_at_end_ns = None;
        let mut idle_since_ns = None;
        loop {
            let now = self.now();
            if let Some(since) = idle_since_ns.take()
                && (self.window_start_ns..self.window_end_ns).contains(&since)
            {
                self.idle_ns += now - since;
            }
            if self.cpu_at_start_ns.is_none() && now >= self.window_start_ns {
                self.cpu_at_start_ns = Some(machine::thread_cpu_ns());
            }
            if stop.load(Ordering::Relaxed) {
                self.window_end_ns = self.window_end_ns.min(now);
                self.window_start_ns = self.window_start_ns.min(self.window_end_ns);
            }
            if now >= self.window_end_ns {
                cpu_at_end_ns.get_or_insert_with(machine::thread_cpu_ns);
                let drained = self.open_in_window == 0 && self.backlog.is_empty();
                if self.schedule.is_none() || drained {
                    break;
                }
            }
            if now >= self.next_sweep_ns {
                self.sweep(now)?;
            }
            if self.schedule.is_some() {
                self.take_due(now);
                self.send_due(now)?;
            }
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&self.wait_for())) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll"),
            }
            idle_since_ns = (self.spins && events.is_empty()).then_some(now);
            for event in events.drain(..) {
                self.ready(event.data.u64() as usize, event.flags, &mut buffer)?;
            }
        }
        let end = cpu_at_end_ns.unwrap_or_default();
        let cpu_ns = end.saturating_sub(self.cpu_at_start_ns.unwrap_or(end));
        self.tally.cpu_ns = cpu_ns.saturating_sub(self.idle_ns);
        Ok(())
    }

    /// How long epoll may wait.
    fn wait_for(&self) -> Timespec {
        let now = self.now();
        let sweep = self.next_sweep_ns.saturating_sub(now);
        let wait_ns = match (&self.schedule, self.spins) {
            (_, true) => 0,
            (None, false) => sweep,
            (Some(_), false) => sweep.min(self.next_due_ns.saturating_sub(now + WAKE_EARLY_NS)),
        };
        Timespec { tv_sec: (wait_ns / 1_000_000_000) as i64, tv_nsec: (wait_ns % 1_000_000_000) as i64 }
    }

    /// Moves what is due into the backlog.
    fn take_due(&mut self, now: u64) {
        let Mode::Open { backlog_max, .. } = self.plan.mode else { return };
        while self.next_due_ns <= now && self.next_due_ns < self.window_end_ns {
            let due = self.next_due_ns;
            let counted = self.in_window(due);
            if counted {
                if self.requests_left == 0 {
                    self.window_end_ns = due.max(self.window_start_ns + 1);
                    return;
                }
                self.requests_left -= 1;
                self.tally.due += 1;
            }
            if self.backlog.len() >= backlog_max {
                if counted {
                    self.tally.bad(ErrorClass::Shed, Some(now - due), || format!("backlog of {backlog_max} is full"));
                }
            } else {
                self.open_in_window += u64::from(counted);
                self.backlog.push_back(due);
            }
            self.next_due_ns = self.schedule.as_mut().and_then(Iterator::next).unwrap_or(u64::MAX);
        }
        self.tally.backlog_max = self.tally.backlog_max.max(self.backlog.len());
    }

    /// Gives the backlog to connections that have room.
    fn send_due(&mut self, now: u64) -> anyhow::Result<()> {
        while !self.backlog.is_empty() {
            let Some(index) = self.free.pop_front() else { break };
            let sent_ns = self.now().max(now);
            let connection = &mut self.connections[index];
            connection.listed = false;
            if connection.link != Link::Up || connection.in_flight.len() >= self.plan.pipeline {
                continue;
            }
            let Some(due_ns) = self.backlog.pop_front() else { break };
            connection.queue(InFlight { due_ns, sent_ns }, self.plan.request.len());
            self.flush(index)?;
            self.list(index);
        }
        Ok(())
    }

    /// Closed loop: fills the connection's pipeline.
    fn refill(&mut self, index: usize) -> anyhow::Result<()> {
        let now = self.now();
        if !self.started || now >= self.window_end_ns {
            return Ok(());
        }
        let length = self.plan.request.len();
        let connection = &mut self.connections[index];
        while connection.in_flight.len() < self.plan.pipeline {
            connection.queue(InFlight { due_ns: now, sent_ns: now }, length);
        }
        self.flush(index)
    }

    /// A connection may have room now.
    fn list(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if !connection.listed && connection.link == Link::Up && connection.in_flight.len() < self.plan.pipeline {
            connection.listed = true;
            self.free.push_back(index);
        }
    }

    fn flush(&mut self, index: usize) -> anyhow::Result<()> {
        let connection = &mut self.connections[index];
        match connection.flush(&self.burst, self.plan.request.len()) {
            Ok(all) => {
                if connection.watches_write == all {
                    connection.watches_write = !all;
                    self.watch(index, false)?;
                }
                Ok(())
            }
            Err(error) => self.fail(index, ErrorClass::Reset, &error.to_string()),
        }
    }

    /// Tells epoll what the connection waits for.
    fn watch(&mut self, index: usize, fresh: bool) -> anyhow::Result<()> {
        let connection = &self.connections[index];
        let Some(socket) = &connection.socket else { return Ok(()) };
        let mut flags = epoll::EventFlags::IN;
        if connection.watches_write {
            flags |= epoll::EventFlags::OUT;
        }
        let data = epoll::EventData::new_u64(index as u64);
        if fresh {
            epoll::add(&self.epoll, socket, data, flags)
        } else {
            epoll::modify(&self.epoll, socket, data, flags)
        }
        .context("epoll")
    }

    fn connect(&mut self, index: usize, now: u64) -> anyhow::Result<()> {
        let connection = &mut self.connections[index];
        match connection.connect(self.addr) {
            Ok(open) => {
                connection.link = if open { Link::Up } else { Link::Connecting { since_ns: now } };
                connection.watches_write = !open;
                self.watch(index, true)?;
                if open { self.opened(index) } else { Ok(()) }
            }
            Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                Err(error).context("the generator has no room for a connection")
            }
            Err(error) => self.fail(index, ErrorClass::Connect, &error.to_string()),
        }
    }

    fn opened(&mut self, index: usize) -> anyhow::Result<()> {
        self.tally.connects += 1;
        self.connections[index].link = Link::Up;
        if self.schedule.is_some() {
            self.list(index);
            return Ok(());
        }
        self.refill(index)
    }

    fn ready(&mut self, index: usize, flags: epoll::EventFlags, buffer: &mut [u8]) -> anyhow::Result<()> {
        match self.connections[index].link {
            Link::Down { .. } => return Ok(()),
            Link::Connecting { .. } => {
                if let Err(error) = self.connections[index].connected() {
                    return self.fail(index, ErrorClass::Connect, &error.to_string());
                }
                self.connections[index].watches_write = false;
                self.watch(index, false)?;
                return self.opened(index);
            }
            Link::Up => {}
        }
        if flags.contains(epoll::EventFlags::OUT) {
            self.flush(index)?;
        }
        if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
            self.readable(index, buffer)?;
        }
        Ok(())
    }

    fn readable(&mut self, index: usize, buffer: &mut [u8]) -> anyhow::Result<()> {
        let length = match self.connections[index].read(buffer) {
            Ok(Some(0)) => return self.closed(index),
            Ok(Some(length)) => length,
            Ok(None) => return Ok(()),
            Err(error) => return self.fail(index, ErrorClass::Reset, &error.to_string()),
        };
        let now = self.now();
        let mut input = &buffer[..length];
        while !input.is_empty() {
            let connection = &mut self.connections[index];
            if connection.in_flight.is_empty() {
                return self.fail(index, ErrorClass::Malformed, "bytes without a request");
            }
            match connection.reader.feed(input, false, &mut ()) {
                Ok((used, Some(response))) => {
                    input = &input[used..];
                    if !self.done(index, response, now)? {
                        return Ok(());
                    }
                }
                Ok((_, None)) => break,
                Err(error) => return self.fail(index, ErrorClass::Malformed, error.0),
            }
        }
        if self.schedule.is_some() {
            self.list(index);
            return Ok(());
        }
        self.refill(index)
    }

    /// Accounts for a whole response; says whether the connection lives on.
    fn done(&mut self, index: usize, response: Response, now: u64) -> anyhow::Result<bool> {
        let Some(request) = self.connections[index].in_flight.pop_front() else { return Ok(true) };
        self.connections[index].served = true;
        if self.account(request.due_ns, now) {
            let expect = self.plan.expect;
            let status_good =
                expect.status.map_or((200..300).contains(&response.status), |want| want == response.status);
            let length_good = expect.body_bytes.is_none_or(|want| want == response.body_bytes);
            if !status_good {
                self.tally.bad(ErrorClass::Status, None, || response.status.to_string());
            } else if !length_good {
                self.tally.bad(ErrorClass::Length, None, || format!("{} bytes", response.body_bytes));
            } else {
                self.tally.good(now - request.due_ns, now - request.sent_ns, response.body_bytes);
            }
        }
        if response.keep_alive {
            return Ok(true);
        }
        // The server announced the end. Requests pipelined behind it were not acted on (RFC 9112 §9.6) but did not
        // get their response either.
        self.lose(index, ErrorClass::Reset, "closed with requests behind", now);
        self.connections[index].close(now);
        self.connect(index, now)?;
        Ok(false)
    }

    /// Whether a request that ends now belongs to the window, and takes it off what the window waits for.
    fn account(&mut self, due_ns: u64, now: u64) -> bool {
        if self.schedule.is_some() {
            let counted = self.in_window(due_ns);
            self.open_in_window -= u64::from(counted);
            return counted;
        }
        let counted = self.in_window(now) && self.requests_left > 0;
        if counted {
            self.tally.due += 1;
            self.requests_left -= 1;
            if self.requests_left == 0 {
                self.window_end_ns = now + 1;
            }
        }
        counted
    }

    fn in_window(&self, at_ns: u64) -> bool {
        (self.window_start_ns..self.window_end_ns).contains(&at_ns)
    }

    /// The server closed its side.
    fn closed(&mut self, index: usize) -> anyhow::Result<()> {
        let now = self.now();
        match self.connections[index].reader.end() {
            Ok(Some(response)) => self.done(index, response, now).map(|_| ()),
            Ok(None) if self.connections[index].in_flight.is_empty() => {
                // A server may close an idle connection. One that closes before it has served anything gets a pause.
                let served = self.connections[index].served;
                self.connections[index].close(if served { now } else { now + RETRY_NS });
                if served { self.connect(index, now) } else { Ok(()) }
            }
            Ok(None) => self.fail(index, ErrorClass::Reset, "closed before the response"),
            Err(_) => self.fail(index, ErrorClass::Reset, "closed inside the response"),
        }
    }

    /// The connection is of no use: accounts for what was under way on it and closes it.
    fn fail(&mut self, index: usize, class: ErrorClass, why: &str) -> anyhow::Result<()> {
        let now = self.now();
        if self.connections[index].in_flight.is_empty() && self.in_window(now) && class == ErrorClass::Connect {
            // No request was given to it: an open loop's requests wait in the backlog and time out there, but a closed
            // loop would see nothing.
            if self.schedule.is_none() {
                self.tally.due += 1;
                self.tally.bad(class, None, || why.to_owned());
            } else if self.tally.samples.is_empty() {
                self.tally.samples.push(format!("connect: {why}"));
            }
        }
        self.lose(index, class, why, now);
        self.connections[index].close(now + RETRY_NS);
        Ok(())
    }

    /// Accounts for everything under way on a connection.
    fn lose(&mut self, index: usize, class: ErrorClass, why: &str, now: u64) {
        while let Some(request) = self.connections[index].in_flight.pop_front() {
            if self.account(request.due_ns, now) {
                let waited = (class == ErrorClass::Timeout).then(|| now - request.due_ns);
                self.tally.bad(class, waited, || why.to_owned());
            }
        }
    }

    /// Looks at everything that may have waited too long, and connects what is down.
    fn sweep(&mut self, now: u64) -> anyhow::Result<()> {
        self.next_sweep_ns = now + SWEEP_NS;
        let timeout_ns = self.plan.timeout.as_nanos() as u64;
        for index in 0..self.connections.len() {
            let connection = &self.connections[index];
            match connection.link {
                Link::Down { retry_ns } if retry_ns <= now => self.connect(index, now)?,
                Link::Down { .. } => {}
                Link::Connecting { since_ns } if now - since_ns > timeout_ns => {
                    self.fail(index, ErrorClass::Connect, "no answer to a connect")?;
                }
                Link::Connecting { .. } => {}
                Link::Up => {
                    let late = connection.in_flight.front().is_some_and(|first| now - first.sent_ns > timeout_ns);
                    if late {
                        self.fail(index, ErrorClass::Timeout, "no response in time")?;
                    }
                }
            }
        }
        while let Some(&due_ns) = self.backlog.front() {
            if now.saturating_sub(due_ns) <= timeout_ns {
                break;
            }
            self.backlog.pop_front();
            if self.account(due_ns, now) {
                self.tally.bad(ErrorClass::Timeout, Some(now - due_ns), || "no free connection in time".to_owned());
            }
        }
        Ok(())
    }
}
