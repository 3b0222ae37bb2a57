//! `cloudflare:workers`: a module of the platform's own, which stays an import of the bundle.
//!
//! Pure. What it exports is `worker-api`'s; a name that it has not is told of when the module is validated.

use super::packet::Value;

/// The module's name.
const WORKERS: &str = "cloudflare:workers";
/// What [`resolve`] is asked for.
pub(super) const FILTER: &str = "^cloudflare:workers$";

pub(super) fn resolve(path: &str) -> Option<Value> {
    (path == WORKERS).then(|| Value::map([("path", WORKERS.into()), ("external", Value::Bool(true))]))
}
