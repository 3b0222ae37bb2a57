// Events that no client's request brings: `scheduled`, and calls by other Workers. A rare file.
//
// Owns the controller that `scheduled` gets, and what answers for an entrypoint: an instance of its class, a new one for each event, or
// the object that is exported.
(function (ops, lib) {
  "use strict";
  const { MapPrototypeDelete, MapPrototypeSet, ObjectGetOwnPropertyDescriptor, PromisePrototypeThen, PromiseResolve, TypeError } = lib.p;

  // Kinds of calls, as src/invoke.rs has them.
  const SCHEDULED = 0;
  const FETCH = 1;

  class ScheduledController {
    #rid;
    #cron;
    #time;
    constructor(token, rid, cron, time) {
      if (token !== lib.internal) throw lib.illegalConstructor();
      this.#rid = rid;
      this.#cron = cron;
      this.#time = time;
    }
    get cron() {
      return this.#cron;
    }
    get scheduledTime() {
      return this.#time;
    }
    get type() {
      this.#rid;
      return "scheduled";
    }
    noRetry() {
      ops.noRetry(this.#rid);
    }
  }

  // The object that answers for an entrypoint, and the arguments that follow an event's own: none where its constructor had them.
  lib.entrypoint = (name, rid, props) => {
    const value = lib.moduleExport(name === "" ? "default" : name);
    const context = lib.newContext(rid, props);
    if (lib.isEntrypointClass(value)) return { __proto__: null, object: new value(context, lib.env()), isClass: true, context };
    if (lib.isObject(value) && typeof value !== "function") return { __proto__: null, object: value, isClass: false, context };
    throw new TypeError(name === "" ? "The Worker has no default export that can be called" : `The Worker has no entrypoint named "${name}"`);
  };

  function call(entry, handler, event) {
    const { object } = entry;
    if (typeof object[handler] !== "function") throw new TypeError(`Handler does not export a ${handler}() function`);
    return entry.isClass ? object[handler](event) : object[handler](event, lib.env(), entry.context);
  }

  function scheduled(rid, cron, time) {
    const failed = (error) => ops.requestFailed(rid, lib.describeError(error));
    let result;
    try {
      result = PromiseResolve(call(lib.entrypoint("", rid, ""), "scheduled", new ScheduledController(lib.internal, rid, cron, time)));
    } catch (error) {
      failed(error);
      return;
    }
    PromisePrototypeThen(result, () => ops.invocationEnded(rid), failed);
  }

  // Name and message of what was thrown, with nothing of where: the Worker that called may be another's.
  lib.errorParts = (error) => {
    const parts = { __proto__: null, name: "Error", message: "" };
    try {
      if (!lib.isObject(error)) {
        parts.message = `${typeof error === "string" ? error : lib.inspect(error)}`;
      } else {
        const { name } = error;
        if (typeof name === "string" && name !== "") parts.name = name;
        const { message } = error;
        parts.message = typeof message === "string" ? message : "";
      }
    } catch {
      // It throws when it is looked at.
    }
    return parts;
  };

  function fetch(rid, entrypoint, props, method, url, bodyKind) {
    const request = lib.requestFromNative(rid, method, url, bodyKind);
    const failed = (error) => {
      MapPrototypeDelete(lib.openRequests, rid);
      const parts = lib.errorParts(error);
      ops.threw(rid, parts.name, parts.message);
      ops.requestFailed(rid, lib.describeError(error));
    };
    let result;
    try {
      result = PromiseResolve(call(lib.entrypoint(entrypoint, rid, props), "fetch", request));
    } catch (error) {
      failed(error);
      return;
    }
    MapPrototypeSet(lib.openRequests, rid, request);
    PromisePrototypeThen(result, (response) => lib.reply(rid, response), failed);
  }

  lib.invoke = (kind, rid, a, b, c, d, e) => {
    if (kind === SCHEDULED) {
      scheduled(rid, a, b);
    } else if (kind === FETCH) {
      fetch(rid, a, b, c, d, e);
    } else {
      lib.load("rpc.js");
      lib.serveCalls(rid, a, b);
    }
  };
})
