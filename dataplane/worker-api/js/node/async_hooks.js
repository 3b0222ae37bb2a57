// node:async_hooks: AsyncLocalStorage and AsyncResource, on the value that V8 carries along the flow of control.
//
// The value is the number of the request that the flow belongs to (its own code reads that) or, where a program has stores, a
// frame: an array of that number and then storage and store by turns. Frames are never changed, and no program sees one.
(function (ops, lib) {
  "use strict";
  const { ArrayIsArray, ArrayPrototypePush, FunctionPrototypeBind, ReflectApply, TypeError } = lib.p;

  const frameOf = (flow) => ArrayIsArray(flow) ? flow : undefined;

  // The flow with `storage` at `store`; without it where `present` is false.
  function flowWith(flow, storage, store, present) {
    const frame = frameOf(flow);
    const made = [frame === undefined ? flow : frame[0]];
    if (frame !== undefined) {
      for (let i = 1; i < frame.length; i += 2) if (frame[i] !== storage) ArrayPrototypePush(made, frame[i], frame[i + 1]);
    }
    if (present) ArrayPrototypePush(made, storage, store);
    return made.length === 1 ? made[0] : made;
  }

  function within(flow, callback, receiver, args) {
    const before = ops.flow();
    ops.setFlow(flow);
    try {
      return ReflectApply(callback, receiver, args);
    } finally {
      ops.setFlow(before);
    }
  }

  // A captured flow's stores, in the request that is running now.
  function rebased(flow) {
    const frame = frameOf(flow);
    const now = ops.flow();
    const request = frameOf(now) === undefined ? now : now[0];
    if (frame === undefined) return request;
    const made = [request];
    for (let i = 1; i < frame.length; i++) ArrayPrototypePush(made, frame[i]);
    return made;
  }

  lib.captureFlow = () => frameOf(ops.flow());
  lib.withinFlow = (frame, callback, args) => within(rebased(frame), callback, globalThis, args);

  function checkCallback(value) {
    if (typeof value !== "function") throw new TypeError("The callback is not a function");
  }

  class AsyncLocalStorage {
    #default = undefined;
    #name = "";
    constructor(options = undefined) {
      if (options !== undefined) {
        this.#default = options.defaultValue;
        if (options.name !== undefined) this.#name = `${options.name}`;
      }
    }
    get name() {
      return this.#name;
    }
    static bind(callback) {
      checkCallback(callback);
      const flow = ops.flow();
      return function (...args) {
        return within(rebased(flow), callback, this, args);
      };
    }
    static snapshot() {
      const flow = ops.flow();
      return (callback, ...args) => within(rebased(flow), callback, undefined, args);
    }
    run(store, callback, ...args) {
      this.#name;
      return within(flowWith(ops.flow(), this, store, true), callback, undefined, args);
    }
    exit(callback, ...args) {
      this.#name;
      return within(flowWith(ops.flow(), this, undefined, false), callback, undefined, args);
    }
    enterWith(store) {
      this.#name;
      ops.setFlow(flowWith(ops.flow(), this, store, true));
    }
    disable() {
      this.#name;
      ops.setFlow(flowWith(ops.flow(), this, undefined, false));
    }
    getStore() {
      this.#name;
      const frame = frameOf(ops.flow());
      if (frame !== undefined) {
        for (let i = 1; i < frame.length; i += 2) if (frame[i] === this) return frame[i + 1];
      }
      return this.#default;
    }
  }

  let lastId = 1;
  class AsyncResource {
    #flow = ops.flow();
    #id = ++lastId;
    #type;
    constructor(type, _options = undefined) {
      if (typeof type !== "string") throw new TypeError('The "type" argument must be of type string');
      this.#type = type;
    }
    runInAsyncScope(callback, receiver = undefined, ...args) {
      checkCallback(callback);
      return within(rebased(this.#flow), callback, receiver, args);
    }
    bind(callback) {
      checkCallback(callback);
      const resource = this;
      return function (...args) {
        return resource.runInAsyncScope(callback, this, ...args);
      };
    }
    static bind(callback, type = undefined, receiver = undefined) {
      checkCallback(callback);
      const resource = new AsyncResource(type ?? (callback.name || "bound-anonymous-fn"));
      return resource.bind(receiver === undefined ? callback : FunctionPrototypeBind(callback, receiver));
    }
    emitDestroy() {
      this.#type;
      return this;
    }
    asyncId() {
      return this.#id;
    }
    triggerAsyncId() {
      this.#type;
      return 0;
    }
  }

  // There is nothing to hook into: as on Workers, hooks are taken and never called.
  const hook = { enable: () => hook, disable: () => hook };
  lib.nodeModules["node:async_hooks"] = {
    AsyncLocalStorage,
    AsyncResource,
    createHook: () => hook,
    executionAsyncId: () => 0,
    executionAsyncResource: () => ({}),
    triggerAsyncId: () => 0,
  };
})
