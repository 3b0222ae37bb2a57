//! The commands, one module per subject. Each takes the [`crate::context::Context`] and its arguments, and prints its result
//! through `output`.

pub(crate) mod account;
pub(crate) mod deploy;
pub(crate) mod dev;
pub(crate) mod env;
pub(crate) mod init;
pub(crate) mod lifecycle;
pub(crate) mod node;
pub(crate) mod nodes;
pub(crate) mod operator;
pub(crate) mod rollout;
pub(crate) mod routes;
pub(crate) mod tail;
pub(crate) mod token;
