//! The words of the deployment API: ids, request and response types, the envelope, and the deployment state machine.
//!
//! Owns: the JSON shapes of `/v1` (shared by the server and the `selvage` command), the rules a field must keep, and
//! the state machine of seed 000 ("Deployment Lifecycle") as a pure function.
//! Does not: touch a socket, a database or a clock, except that a new id takes the system's time and randomness.
//!
//! **Conventions of `/v1`, said once:**
//! - Every response body is an [`Envelope`]: `{success, result, errors, messages, result_info?}`. `result` has the shape
//!   that seed 000 shows bare. `errors[].code` are Cloudflare's where one of theirs fits (see [`code`]).
//! - Names are snake_case, times RFC 3339 in UTC with milliseconds, ids a prefix and 32 hex digits of a UUIDv7.
//! - An unknown field of a request is refused (400), so that a misspelt option is never silently lost. Clients ignore
//!   unknown fields of a response.
//! - A token reaches its own account. Any id outside of it is answered 403 with one fixed body, whether it exists or
//!   not; 404 is only said of things inside the token's reach.

#![forbid(unsafe_code)]

pub mod account;
pub mod audit;
pub mod compatibility;
pub mod deployment;
pub mod envelope;
pub mod id;
pub mod node;
pub mod plan;
pub mod rollout;
pub mod rules;
pub mod state;
pub mod steering;
pub mod timestamp;
pub mod version;

pub use account::*;
pub use audit::*;
pub use deployment::*;
pub use envelope::*;
pub use id::*;
pub use node::*;
pub use plan::*;
pub use rollout::*;
pub use rules::FieldError;
pub use state::{Event, IllegalTransition, State, transition};
pub use steering::*;
pub use timestamp::Timestamp;
pub use version::*;
