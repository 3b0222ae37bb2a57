//! What a load run has seen: counts by class of error, and latencies.
//!
//! *Invariant:* every request whose due time (open loop) or end (closed loop) lies in the measured window is in
//! exactly one place: `ok`, or one class of error.
//! Timeouts and shed requests are in the latency histogram too, with the time they had waited when they were given
//! up: leaving them out would make a server look better the worse it is.

use hdrhistogram::Histogram;

/// Longest latency that is told apart, ns.
pub const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Texts kept to explain errors.
const SAMPLES_MAX: usize = 8;

/// Ways a request can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// No connection.
    Connect,
    /// No whole response in time.
    Timeout,
    /// A status other than the expected one.
    Status,
    /// The server closed or reset the connection before the response was whole.
    Reset,
    /// Not HTTP/1.1.
    Malformed,
    /// A body of another length than expected.
    Length,
    /// The generator's own backlog was full: the server was so far behind that the request was never sent.
    Shed,
}

impl ErrorClass {
    /// All of them, in the order of [`Errors`].
    pub const ALL: [ErrorClass; 7] = [
        ErrorClass::Connect,
        ErrorClass::Timeout,
        ErrorClass::Status,
        ErrorClass::Reset,
        ErrorClass::Malformed,
        ErrorClass::Length,
        ErrorClass::Shed,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            ErrorClass::Connect => "connect",
            ErrorClass::Timeout => "timeout",
            ErrorClass::Status => "status",
            ErrorClass::Reset => "reset",
            ErrorClass::Malformed => "malformed",
            ErrorClass::Length => "length",
            ErrorClass::Shed => "shed",
        }
    }
}

/// Counts by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errors([u64; ErrorClass::ALL.len()]);

impl Errors {
    /// Of one class.
    pub fn of(&self, class: ErrorClass) -> u64 {
        self.0[class as usize]
    }

    /// Of all classes.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Classes that occurred.
    pub fn iter(&self) -> impl Iterator<Item = (ErrorClass, u64)> + '_ {
        ErrorClass::ALL.into_iter().map(|class| (class, self.of(class))).filter(|(_, count)| *count > 0)
    }
}

/// One thread's record, and the sum of all threads'.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Good responses.
    pub ok: u64,
    /// Failures.
    pub errors: Errors,
    /// Open loop: requests due in the window. Closed loop: requests that ended in it.
    pub due: u64,
    /// Open loop: from the due time. Closed loop: from the first byte sent. Nanoseconds.
    pub latency: Histogram<u64>,
    /// From the first byte sent, whatever the mode. Nanoseconds.
    pub service: Histogram<u64>,
    /// Bytes of bodies of good responses.
    pub body_bytes: u64,
    /// Most requests that were due and not yet sent.
    pub backlog_max: usize,
    /// Connections made over the whole run.
    pub connects: u64,
    /// CPU time of the load threads in the window, ns, without what they spun for nothing.
    pub cpu_ns: u64,
    /// Some errors in words.
    pub samples: Vec<String>,
}

impl Default for Tally {
    fn default() -> Tally {
        let histogram =
            || Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("bounds are in HdrHistogram's range");
        Tally {
            ok: 0,
            errors: Errors::default(),
            due: 0,
            latency: histogram(),
            service: histogram(),
            body_bytes: 0,
            backlog_max: 0,
            connects: 0,
            cpu_ns: 0,
            samples: Vec::new(),
        }
    }
}

impl Tally {
    /// A good response.
    pub(crate) fn good(&mut self, latency_ns: u64, service_ns: u64, body_bytes: u64) {
        self.ok += 1;
        self.body_bytes += body_bytes;
        self.latency.saturating_record(latency_ns.max(1));
        self.service.saturating_record(service_ns.max(1));
    }

    /// A failure. `waited_ns` is set where the time waited is a lower bound of a latency.
    pub(crate) fn bad(&mut self, class: ErrorClass, waited_ns: Option<u64>, why: impl FnOnce() -> String) {
        self.errors.0[class as usize] += 1;
        if let Some(waited_ns) = waited_ns {
            self.latency.saturating_record(waited_ns.max(1));
        }
        if self.samples.len() < SAMPLES_MAX {
            let why = format!("{}: {}", class.name(), why());
            if !self.samples.contains(&why) {
                self.samples.push(why);
            }
        }
    }

    /// Adds another thread's record.
    pub(crate) fn merge(&mut self, other: Tally) {
        self.ok += other.ok;
        for (sum, more) in self.errors.0.iter_mut().zip(other.errors.0) {
            *sum += more;
        }
        self.due += other.due;
        self.latency.add(&other.latency).expect("same bounds");
        self.service.add(&other.service).expect("same bounds");
        self.body_bytes += other.body_bytes;
        self.backlog_max = self.backlog_max.max(other.backlog_max);
        self.connects += other.connects;
        self.cpu_ns += other.cpu_ns;
        for sample in other.samples {
            if self.samples.len() < SAMPLES_MAX && !self.samples.contains(&sample) {
                self.samples.push(sample);
            }
        }
    }
}
