//! `cloudflare:workers`: the classes that programs extend, as part of the bundle.
//!
//! Pure. The bases are what they are on Cloudflare, with `ctx` and `env`; the stubs of RPC between Workers are there to be asked for by
//! `instanceof`, and throw when made. Whether an entrypoint of them is called is the platform's. What is not
//! exported here (`env`, `waitUntil`) is refused at bundling with its place, not found missing at run time.

use super::node::NAMESPACE;
use super::packet::Value;

/// The module's name.
pub(super) const WORKERS: &str = "cloudflare:workers";
/// What [`resolve`] is asked for.
pub(super) const FILTER: &str = "^cloudflare:workers$";

const SOURCE: &str = "\
export class RpcTarget {}
export class WorkerEntrypoint { constructor(ctx, env) { this.ctx = ctx; this.env = env; } }
export class DurableObject { constructor(ctx, env) { this.ctx = ctx; this.env = env; } }
const no = () => { throw new TypeError('RPC between Workers is not on this platform yet'); };
export class RpcStub { constructor() { no(); } }
export class RpcPromise { constructor() { no(); } }
export class RpcProperty { constructor() { no(); } }
export class ServiceStub { constructor() { no(); } }
";

pub(super) fn resolve(path: &str) -> Option<Value> {
    let answer =
        || Value::map([("path", WORKERS.into()), ("namespace", NAMESPACE.into()), ("sideEffects", Value::Bool(false))]);
    (path == WORKERS).then(answer)
}

pub(super) fn load(path: &str) -> Option<Value> {
    let contents = || Value::Bytes(SOURCE.as_bytes().to_vec());
    (path == WORKERS).then(|| Value::map([("contents", contents()), ("loader", "js".into())]))
}
