//! The node's own answers: short text, nothing of the tenant's code in them.

use h1::Reject;
use worker_api::{StartError, event::Failure};

/// An answer that no Worker gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Canned {
    pub(crate) status: u16,
    /// Label in metrics.
    pub(crate) label: &'static str,
    pub(crate) text: &'static str,
    /// When to come again, seconds; empty: not said.
    pub(crate) retry_after: &'static str,
}

impl Canned {
    pub(crate) const NOT_FOUND: Canned = Canned {
        status: 404,
        label: "no_route",
        text: "404: no Worker is deployed at this address\n",
        retry_after: "",
    };
    pub(crate) const PAUSED: Canned =
        Canned { status: 503, label: "paused", text: "503: this deployment is paused\n", retry_after: "" };
    pub(crate) const NO_CONFIGURATION: Canned =
        Canned { status: 503, label: "no_configuration", text: "503: no configuration yet\n", retry_after: "" };
    pub(crate) const START_FAILED: Canned =
        Canned { status: 500, label: "start_failed", text: "500: the Worker failed to start\n", retry_after: "" };
    pub(crate) const START_LIMITED: Canned = Canned {
        status: 503,
        label: "start_limited",
        text: "503: the Worker exceeded a limit while starting\n",
        retry_after: "",
    };
    pub(crate) const UNAVAILABLE: Canned = Canned {
        status: 503,
        label: "unavailable",
        text: "503: the Worker is not available on this node\n",
        retry_after: "",
    };
    /// Its code did not come to this node in time.
    pub(crate) const CODE_LATE: Canned = Canned {
        status: 503,
        label: "unavailable",
        text: "503: the Worker's code is on its way to this node, try again\n",
        retry_after: "1",
    };
    pub(crate) const INVALID_RESPONSE: Canned = Canned {
        status: 500,
        label: "invalid_response",
        text: "500: the Worker gave an invalid response\n",
        retry_after: "",
    };

    /// A WebSocket is asked for in a version that is not spoken (RFC 6455 §4.4).
    pub(crate) const WEBSOCKET_VERSION: Canned = Canned {
        status: 426,
        label: "rejected",
        text: "426: only version 13 of WebSocket is spoken\n",
        retry_after: "",
    };

    /// The node has no memory for another isolate.
    pub(crate) const OVERLOADED: Canned =
        Canned { status: 503, label: "overloaded", text: "503: overloaded, try again later\n", retry_after: "1" };

    /// Its isolates had to be given up, see [`crate::crash_loop`].
    pub(crate) const CRASH_LOOP: Canned = Canned {
        status: 503,
        label: "crash_loop",
        text: "503: the Worker stopped too often in a way that costs its node memory, and is not started for a while\n",
        retry_after: "",
    };

    /// A run of a `scheduled` handler that a developer has asked for, as wrangler has it.
    pub(crate) const RAN_SCHEDULED: Canned =
        Canned { status: 200, label: "scheduled", text: "Ran scheduled event\n", retry_after: "" };

    /// The same, which failed.
    pub(crate) const SCHEDULED_FAILED: Canned =
        Canned { status: 500, label: "scheduled", text: "500: the scheduled event failed\n", retry_after: "" };

    /// The answer to `OPTIONS *`.
    pub(crate) const OPTIONS: Canned = Canned { status: 200, label: "options", text: "", retry_after: "" };

    /// Whether it says nothing of the version that was to answer: the node was short of something, another version of the owner's
    /// misbehaved, or the owner wants none served.
    pub(crate) fn is_shortage(self) -> bool {
        let shortages =
            [Canned::OVERLOADED, Canned::CODE_LATE, Canned::PAUSED, Canned::NO_CONFIGURATION, Canned::CRASH_LOOP];
        shortages.contains(&self)
    }

    /// The answer to every request of a Worker that did not start.
    pub(crate) fn of_start(error: &StartError) -> Canned {
        match error {
            StartError::CpuLimit | StartError::MemoryLimit | StartError::Stuck | StartError::Exhausted => {
                Canned::START_LIMITED
            }
            StartError::Overloaded => Canned::OVERLOADED,
            _ => Canned::START_FAILED,
        }
    }

    /// The answer to a request that the Worker failed.
    pub(crate) fn of_failure(why: Failure) -> Canned {
        let text = match why {
            Failure::Exception => "500: the Worker threw an exception\n",
            Failure::Hung => "500: the Worker would never have answered\n",
            Failure::NotAResponse => "500: the Worker gave no response\n",
            Failure::CpuLimit => "503: the Worker exceeded its CPU time limit\n",
            Failure::MemoryLimit => "503: the Worker exceeded its memory limit\n",
            Failure::WallLimit => "503: the Worker exceeded its time limit\n",
            Failure::ResponseLimit => "503: the Worker's response exceeded its size limit\n",
            Failure::NotBegun | Failure::Interrupted | Failure::Condemned => "503: the Worker was stopped\n",
            Failure::Overloaded => return Canned::OVERLOADED,
        };
        Canned { status: why.status(), label: why.label(), text, retry_after: "" }
    }

    /// The answer to a request that is refused.
    pub(crate) fn of_reject(reject: Reject) -> Canned {
        Canned { status: reject.status(), label: "rejected", text: reject.text(), retry_after: "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_node_is_short_of_is_not_the_versions_fault() {
        assert!(Canned::of_failure(Failure::Overloaded).is_shortage() && Canned::CODE_LATE.is_shortage());
        assert!(Canned::of_start(&StartError::Overloaded).is_shortage());
        for limit in [StartError::CpuLimit, StartError::MemoryLimit, StartError::Stuck, StartError::Exhausted] {
            assert_eq!(Canned::of_start(&limit), Canned::START_LIMITED);
        }
        assert_eq!(Canned::of_start(&StartError::NoFetch), Canned::START_FAILED);
        for fault in [Canned::START_FAILED, Canned::START_LIMITED, Canned::UNAVAILABLE, Canned::INVALID_RESPONSE] {
            assert!(!fault.is_shortage(), "{}", fault.label);
        }
        for why in [Failure::Exception, Failure::CpuLimit, Failure::Condemned, Failure::NotBegun] {
            assert!(!Canned::of_failure(why).is_shortage(), "{why:?}");
        }
    }
}
