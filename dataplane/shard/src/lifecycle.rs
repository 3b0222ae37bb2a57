//! The life of an isolate, as one state machine (seed 000, "Isolate Lifecycle"), counted by transition.
//!
//! ```text
//! Cold → Loading → Compiling → Initializing → Ready ⇄ Executing → Error → Ready | Evicted
//!                                             Ready ⇄ Idle → Evicted        Ready → Evicted
//! ```
//! `Executing` has requests, `Ready` had one a moment ago, `Idle` is what the seed calls the warm pool. An exception in a handler
//! is `Executing → Error → Ready`; an isolate that a limit has condemned stays in `Error` until its last request is over.
//!
//! *Invariant:* a transition that is not in [`EDGES`] is a defect of ours.

use crate::metrics::Number;
use std::cell::Cell;

/// State of an isolate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IsolateState {
    /// Nothing is there yet.
    Cold,
    /// Its code is read.
    Loading,
    /// An isolate gets it.
    Compiling,
    /// Its top level runs.
    Initializing,
    /// It can take requests.
    Ready,
    /// It has requests.
    Executing,
    /// It has had none for a while.
    Idle,
    /// It did not start, or a limit condemned it.
    Error,
    /// It is gone.
    Evicted,
}

use IsolateState::{Cold, Compiling, Error, Evicted, Executing, Idle, Initializing, Loading, Ready};

/// Every transition there is.
const EDGES: [(IsolateState, IsolateState); 17] = [
    (Cold, Loading),
    (Loading, Compiling),
    (Loading, Error),
    (Compiling, Initializing),
    (Compiling, Error),
    (Initializing, Ready),
    (Initializing, Error),
    (Ready, Executing),
    (Executing, Ready),
    (Executing, Error),
    (Ready, Idle),
    (Idle, Ready),
    (Ready, Error),
    (Error, Ready),
    (Ready, Evicted),
    (Idle, Evicted),
    (Error, Evicted),
];

impl IsolateState {
    fn label(self) -> &'static str {
        match self {
            Cold => "cold",
            Loading => "loading",
            Compiling => "compiling",
            Initializing => "initializing",
            Ready => "ready",
            Executing => "executing",
            Idle => "idle",
            Error => "error",
            Evicted => "evicted",
        }
    }
}

/// Counts of transitions.
#[derive(Default)]
pub(crate) struct Transitions([Number; EDGES.len()]);

impl Transitions {
    /// Labels and counts: from, to, how often.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        EDGES.iter().zip(&self.0).map(|((from, to), number)| (from.label(), to.label(), number.get()))
    }
}

/// Place of a transition in [`EDGES`].
const fn edge(from: IsolateState, to: IsolateState) -> usize {
    let mut at = 0;
    while at < EDGES.len() {
        if EDGES[at].0 as u8 == from as u8 && EDGES[at].1 as u8 == to as u8 {
            return at;
        }
        at += 1;
    }
    panic!("there is no such transition")
}

/// Where one isolate is.
pub(crate) struct Lifecycle(Cell<IsolateState>);

impl Lifecycle {
    pub(crate) fn new() -> Lifecycle {
        Lifecycle(Cell::new(Cold))
    }

    pub(crate) fn state(&self) -> IsolateState {
        self.0.get()
    }

    /// Goes to another state, and counts it.
    pub(crate) fn to(&self, transitions: &Transitions, to: IsolateState) {
        let from = self.0.replace(to);
        let at = EDGES.iter().position(|known| *known == (from, to));
        debug_assert!(at.is_some(), "an isolate went from {from:?} to {to:?}");
        if let Some(at) = at {
            transitions.0[at].add(1);
        }
    }

    /// The first of its requests has come.
    #[inline]
    pub(crate) fn begin(&self, transitions: &Transitions) {
        if self.0.get() == Idle {
            self.to(transitions, Ready);
        }
        if self.0.get() == Ready {
            self.0.set(Executing);
            transitions.0[const { edge(Ready, Executing) }].add(1);
        }
    }

    /// The last of its requests is over.
    #[inline]
    pub(crate) fn end(&self, transitions: &Transitions) {
        if self.0.get() == Executing {
            self.0.set(Ready);
            transitions.0[const { edge(Executing, Ready) }].add(1);
        }
    }

    /// A handler failed, and the isolate goes on.
    pub(crate) fn failed(&self, transitions: &Transitions) {
        if self.0.get() == Executing {
            self.to(transitions, Error);
            self.to(transitions, Ready);
        }
    }

    /// It is dropped.
    pub(crate) fn evict(&self, transitions: &Transitions) {
        self.end(transitions);
        if matches!(self.0.get(), Ready | Idle | Error) {
            self.to(transitions, Evicted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(walk: impl FnOnce(&Lifecycle, &Transitions), state: IsolateState, expect: &[(&str, &str, u64)]) {
        let (lifecycle, transitions) = (Lifecycle::new(), Transitions::default());
        for to in [Loading, Compiling, Initializing, Ready] {
            lifecycle.to(&transitions, to);
        }
        walk(&lifecycle, &transitions);
        assert_eq!(lifecycle.state(), state);
        let counted: Vec<_> = transitions.each().filter(|(.., count)| *count > 0).skip(4).collect();
        assert_eq!(counted, expect);
    }

    #[test]
    fn requests_come_and_go() {
        check(
            |lifecycle, transitions| {
                for _ in 0..3 {
                    lifecycle.begin(transitions);
                    lifecycle.begin(transitions);
                    lifecycle.end(transitions);
                }
            },
            Ready,
            &[("ready", "executing", 3), ("executing", "ready", 3)],
        );
    }

    #[test]
    fn a_failed_handler_is_an_error_that_passes() {
        check(
            |lifecycle, transitions| {
                lifecycle.begin(transitions);
                lifecycle.failed(transitions);
                lifecycle.end(transitions);
            },
            Ready,
            &[("ready", "executing", 1), ("executing", "error", 1), ("error", "ready", 1)],
        );
    }

    #[test]
    fn an_idle_isolate_is_used_again_and_evicted() {
        check(
            |lifecycle, transitions| {
                lifecycle.to(transitions, Idle);
                lifecycle.begin(transitions);
                lifecycle.evict(transitions);
                lifecycle.evict(transitions);
            },
            Evicted,
            &[
                ("ready", "executing", 1),
                ("executing", "ready", 1),
                ("ready", "idle", 1),
                ("idle", "ready", 1),
                ("ready", "evicted", 1),
            ],
        );
    }
}
