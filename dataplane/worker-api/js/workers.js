// The module `cloudflare:workers`. A rare file: it runs for a program that imports it.
(function (ops, lib) {
  "use strict";
  const { ObjectGetPrototypeOf, PromisePrototypeThen, PromiseResolve, TypeError } = lib.p;

  class RpcTarget {}
  class WorkerEntrypoint {
    constructor(ctx, env) {
      this.ctx = ctx;
      this.env = env;
    }
  }
  class DurableObject {
    constructor(ctx, env) {
      this.ctx = ctx;
      this.env = env;
    }
  }

  function inherits(object, base) {
    for (let at = object; at !== null && at !== undefined; at = ObjectGetPrototypeOf(at)) if (at === base) return true;
    return false;
  }

  lib.isEntrypointClass = (value) => typeof value === "function" && value !== WorkerEntrypoint && inherits(value.prototype, WorkerEntrypoint.prototype);
  lib.isRpcTarget = (value) => lib.isObject(value) && typeof value !== "function" && (inherits(value, RpcTarget.prototype) || inherits(value, WorkerEntrypoint.prototype));
  lib.isRpcBase = (prototype) => prototype === RpcTarget.prototype || prototype === WorkerEntrypoint.prototype;

  // `ctx.waitUntil` of the request that is being handled.
  function waitUntil(promise) {
    const rid = request();
    if (rid === undefined) throw new TypeError("waitUntil is for while a request is handled");
    if (!ops.waitUntilStarted(rid)) return;
    const settled = () => ops.waitUntilSettled(rid);
    PromisePrototypeThen(PromiseResolve(promise), settled, (error) => {
      ops.log(3, `Uncaught (in waitUntil) ${lib.describeError(error)}`);
      settled();
    });
  }

  lib.load("rpc.js");
  const { request } = lib.rpcStubs;
  const { RpcStub, RpcPromise, RpcProperty } = lib.rpcClasses;
  lib.load("services.js");

  lib.workersModule = {
    RpcTarget, WorkerEntrypoint, DurableObject, RpcStub, RpcPromise, RpcProperty, ServiceStub: lib.Fetcher, env: lib.env(), waitUntil,
  };
})
