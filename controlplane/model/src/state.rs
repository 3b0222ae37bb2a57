//! The life of a deployment: seed 000's "Deployment Lifecycle" as a pure function.
//!
//! The states are those of the *deployment*. A version has its own short life ([`crate::VersionStatus`]): a version that
//! is uploaded to a deployment that already serves is validated beside it, and the deployment stays `Active`.
//!
//! Edges of the seed, and five more that it leaves out and users need, marked so in [`transition`]:
//! a deployment that never got to serve, or failed to, can be deleted; a rollback that a node refuses ends as `Failed`.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a deployment is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Created; no code yet.
    Draft,
    /// Its first code is being compiled.
    Validating,
    /// Its first code does not run; upload again.
    Invalid,
    /// A version is on its way to the nodes.
    Deploying,
    /// Serving traffic.
    Active,
    /// The last activation did not get through. The version that was active before, if any, still serves.
    Failed,
    /// An earlier version is on its way to the nodes.
    RollingBack,
    /// Not serving: 503 to its clients.
    Paused,
    /// On its way out of the nodes.
    Deleting,
    /// Gone. Its id is not used again.
    Deleted,
}

impl State {
    /// All of them, in the order of the life.
    pub const ALL: [State; 10] = [
        State::Draft,
        State::Validating,
        State::Invalid,
        State::Deploying,
        State::Active,
        State::Failed,
        State::RollingBack,
        State::Paused,
        State::Deleting,
        State::Deleted,
    ];

    /// Its name in JSON and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Draft => "draft",
            State::Validating => "validating",
            State::Invalid => "invalid",
            State::Deploying => "deploying",
            State::Active => "active",
            State::Failed => "failed",
            State::RollingBack => "rolling_back",
            State::Paused => "paused",
            State::Deleting => "deleting",
            State::Deleted => "deleted",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What may happen to a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Code is uploaded to a deployment that has none that runs.
    UploadCode,
    /// The code compiles and has a handler.
    ValidationPassed,
    /// It does not.
    ValidationFailed,
    /// Every connected node serves it.
    DeployComplete,
    /// A node refused it.
    DeployFailed,
    /// A version is to become the active one.
    Activate,
    /// An earlier version is to become the active one.
    Rollback,
    /// Every connected node serves the earlier version.
    RollbackComplete,
    /// A node refused the earlier version.
    RollbackFailed,
    /// Stop serving.
    Pause,
    /// Serve again.
    Resume,
    /// Take it away.
    Delete,
    /// No connected node serves it any more.
    DeleteComplete,
}

impl Event {
    /// All of them.
    pub const ALL: [Event; 13] = [
        Event::UploadCode,
        Event::ValidationPassed,
        Event::ValidationFailed,
        Event::DeployComplete,
        Event::DeployFailed,
        Event::Activate,
        Event::Rollback,
        Event::RollbackComplete,
        Event::RollbackFailed,
        Event::Pause,
        Event::Resume,
        Event::Delete,
        Event::DeleteComplete,
    ];

    /// What it is called in a message: "cannot … a deployment that is …".
    const fn verb(self) -> &'static str {
        match self {
            Event::UploadCode => "upload code to",
            Event::ValidationPassed | Event::ValidationFailed => "finish the validation of",
            Event::DeployComplete | Event::DeployFailed => "finish the deployment of",
            Event::Activate => "activate a version of",
            Event::Rollback => "roll back",
            Event::RollbackComplete | Event::RollbackFailed => "finish the rollback of",
            Event::Pause => "pause",
            Event::Resume => "resume",
            Event::Delete => "delete",
            Event::DeleteComplete => "finish the deletion of",
        }
    }
}

/// An event that the state does not allow; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {} a deployment that is {from}", .event.verb())]
pub struct IllegalTransition {
    /// The state.
    pub from: State,
    /// The event.
    pub event: Event,
}

/// The state after `event`, or that it may not happen.
pub const fn transition(from: State, event: Event) -> Result<State, IllegalTransition> {
    use Event as E;
    use State as S;
    Ok(match (from, event) {
        (S::Draft | S::Invalid, E::UploadCode) => S::Validating,
        (S::Validating, E::ValidationFailed) => S::Invalid,
        (S::Validating, E::ValidationPassed) => S::Deploying,
        (S::Deploying, E::DeployComplete) => S::Active,
        (S::Deploying, E::DeployFailed) => S::Failed,
        // "Retry deployment" and "New version uploaded" of the seed: both are the activation of a valid version.
        (S::Failed | S::Active, E::Activate) => S::Deploying,
        (S::Active, E::Rollback) => S::RollingBack,
        (S::RollingBack, E::RollbackComplete) => S::Active,
        (S::Active, E::Pause) => S::Paused,
        (S::Paused, E::Resume) => S::Active,
        (S::Active | S::Paused, E::Delete) => S::Deleting,
        (S::Deleting, E::DeleteComplete) => S::Deleted,
        // Beyond the seed's diagram.
        (S::Draft | S::Invalid | S::Failed, E::Delete) => S::Deleting,
        (S::RollingBack, E::RollbackFailed) => S::Failed,
        // A node that refuses to take a version away, or to stop serving it, is not a reason to keep it.
        _ => return Err(IllegalTransition { from, event }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every edge there is: (from, event, to, whether seed 000's diagram has it).
    const EDGES: [(State, Event, State, bool); 19] = [
        (State::Draft, Event::UploadCode, State::Validating, true),
        (State::Validating, Event::ValidationFailed, State::Invalid, true),
        (State::Invalid, Event::UploadCode, State::Validating, true),
        (State::Validating, Event::ValidationPassed, State::Deploying, true),
        (State::Deploying, Event::DeployComplete, State::Active, true),
        (State::Deploying, Event::DeployFailed, State::Failed, true),
        (State::Failed, Event::Activate, State::Deploying, true),
        (State::Active, Event::Activate, State::Deploying, true),
        (State::Active, Event::Rollback, State::RollingBack, true),
        (State::RollingBack, Event::RollbackComplete, State::Active, true),
        (State::Active, Event::Pause, State::Paused, true),
        (State::Paused, Event::Resume, State::Active, true),
        (State::Active, Event::Delete, State::Deleting, true),
        (State::Paused, Event::Delete, State::Deleting, true),
        (State::Deleting, Event::DeleteComplete, State::Deleted, true),
        (State::Draft, Event::Delete, State::Deleting, false),
        (State::Invalid, Event::Delete, State::Deleting, false),
        (State::Failed, Event::Delete, State::Deleting, false),
        (State::RollingBack, Event::RollbackFailed, State::Failed, false),
    ];

    #[test]
    fn every_pair_of_state_and_event_does_what_the_table_says() {
        let mut legal = 0;
        for from in State::ALL {
            for event in Event::ALL {
                let edge = EDGES.iter().find(|edge| edge.0 == from && edge.1 == event);
                match edge {
                    Some(edge) => {
                        assert_eq!(transition(from, event), Ok(edge.2), "{from} {event:?}");
                        legal += 1;
                    }
                    None => assert_eq!(transition(from, event), Err(IllegalTransition { from, event })),
                }
            }
        }
        assert_eq!(legal, EDGES.len(), "no edge is listed twice");
        // The diagram has 15 arrows between states and to the end (the arrow from the start is creation).
        assert_eq!(EDGES.iter().filter(|edge| edge.3).count(), 15);
    }

    #[test]
    fn every_state_is_reached_from_draft_and_can_reach_the_end() {
        let reach = |start: State| {
            let mut seen = vec![start];
            let mut next = 0;
            while let Some(&from) = seen.get(next) {
                next += 1;
                for event in Event::ALL {
                    if let Ok(to) = transition(from, event)
                        && !seen.contains(&to)
                    {
                        seen.push(to);
                    }
                }
            }
            seen
        };
        assert_eq!(reach(State::Draft).len(), State::ALL.len());
        for state in State::ALL {
            assert!(reach(state).contains(&State::Deleted), "{state} cannot end");
        }
    }

    #[test]
    fn names_round_trip_and_match_json() {
        for state in State::ALL {
            assert_eq!(State::from_name(state.as_str()), Some(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        assert_eq!(State::from_name("pending"), None);
    }

    #[test]
    fn the_message_reads_well() {
        let error = transition(State::Paused, Event::Activate).unwrap_err();
        assert_eq!(error.to_string(), "cannot activate a version of a deployment that is paused");
    }
}
