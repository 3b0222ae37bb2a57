//! One function an endpoint: who may, what was sent, which operation, what to answer. Nothing is decided here.
//!
//! In each, the order is: token (401), reach (403, 404), body (400), operation.

pub(crate) mod accounts;
pub(crate) mod audit;
pub(crate) mod deployments;
pub(crate) mod env;
pub(crate) mod logs;
pub(crate) mod operator;
pub(crate) mod plans;
pub(crate) mod projects;
pub(crate) mod rollouts;
pub(crate) mod routes;
pub(crate) mod steering;
pub(crate) mod versions;
