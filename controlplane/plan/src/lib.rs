//! The config compiler: desired state in, snapshot out. Pure: no clock, no input or output, the same input gives the
//! same bytes.
//!
//! Owns the rules of what may be published: route patterns ([`check_pattern`]), subdomains ([`check_subdomain`]),
//! variables ([`check_env`]), schedules ([`check_cron`]), and that no two deployments claim the same. The API uses the same functions to answer
//! 4xx before anything is stored; [`compile`] checks again, so that a bad state never becomes a snapshot.
//! [`edge`] is the debug form of a snapshot: the compact JSON of seed 000, "Edge Configuration Wire Format".
//!
//! Does not decide who owns a domain, nor number generations: the store does.

#![forbid(unsafe_code)]

mod compile;
mod compiler;
pub mod edge;
mod rules;
pub mod steering;

pub use compile::{DesiredBinding, DesiredCandidate, DesiredDeployment, DesiredState, PlanError, compile};
pub use compiler::{BaseBuilder, INLINE_MAX, RouteChange, changes_max, compile_over};
pub use plane_abi::cron::CronError;
pub use plane_abi::pattern::{Pattern, PatternError};
pub use rules::{EnvError, RouteError, SubdomainError, check_cron, check_env, check_pattern, check_subdomain};
