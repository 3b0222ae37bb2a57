// Small globals: timers, queueMicrotask, structuredClone, performance, navigator, self, reportError.
//
// Owns the table of armed timers. Clocks are the core's and stand still during a turn.
(function (ops, lib) {
  "use strict";
  const {
    Map, MapPrototypeDelete, MapPrototypeGet, MapPrototypeSet, MathTrunc, Number, NumberIsNaN, ObjectDefineProperty,
    ReflectApply, SymbolToStringTag, TypeError,
  } = lib.p;
  const { defineGlobal, requireArgs } = lib;

  // Timers (HTML section 8.7). A callback given as text is rejected: nothing is ever evaluated from a string.
  class Timer {
    callback;
    args;
    repeats;
    // The stores of `node:async_hooks` that were there; undefined where a program has none.
    flow = lib.captureFlow === undefined ? undefined : lib.captureFlow();
    constructor(callback, args, repeats) {
      this.callback = callback;
      this.args = args;
      this.repeats = repeats;
    }
  }
  const timers = new Map();
  const NO_ARGS = lib.p.ObjectFreeze([]);

  function delayOf(value) {
    let ms = Number(value);
    if (NumberIsNaN(ms) || ms < 0) ms = 0;
    // A delay past 2^31 - 1 ms is held there: no Worker lives that long.
    return ms > 2147483647 ? 2147483647 : MathTrunc(ms);
  }

  function arm(callback, delay, repeats, args) {
    if (typeof callback !== "function") throw new TypeError("The callback of a timer is not a function");
    const id = ops.timerStart(delayOf(delay), repeats);
    MapPrototypeSet(timers, id, new Timer(callback, args, repeats));
    return id;
  }

  function disarm(id) {
    const key = Number(id);
    if (MapPrototypeDelete(timers, key)) ops.timerStop(key);
  }

  lib.setTimer = (callback, ms) => arm(callback, ms, false, NO_ARGS);
  lib.dropTimer = (id) => {
    MapPrototypeDelete(timers, id);
  };
  lib.fireTimer = (id, repeats) => {
    const timer = MapPrototypeGet(timers, id);
    if (timer === undefined) return;
    if (!repeats) MapPrototypeDelete(timers, id);
    if (timer.flow === undefined) ReflectApply(timer.callback, globalThis, timer.args);
    else lib.withinFlow(timer.flow, timer.callback, timer.args);
  };

  defineGlobal("setTimeout", { setTimeout(callback, delay = 0, ...args) {
    requireArgs(arguments.length, 1, "setTimeout");
    return arm(callback, delay, false, args);
  } }.setTimeout);
  defineGlobal("setInterval", { setInterval(callback, delay = 0, ...args) {
    requireArgs(arguments.length, 1, "setInterval");
    return arm(callback, delay, true, args);
  } }.setInterval);
  defineGlobal("clearTimeout", { clearTimeout(id = 0) {
    disarm(id);
  } }.clearTimeout);
  defineGlobal("clearInterval", { clearInterval(id = 0) {
    disarm(id);
  } }.clearInterval);
  // Programs for other runtimes use it; here it is a timer of no delay.
  defineGlobal("setImmediate", { setImmediate(callback, ...args) {
    return arm(callback, 0, false, args);
  } }.setImmediate);
  defineGlobal("clearImmediate", { clearImmediate(id = 0) {
    disarm(id);
  } }.clearImmediate);

  defineGlobal("queueMicrotask", { queueMicrotask(callback) {
    requireArgs(arguments.length, 1, "queueMicrotask");
    if (typeof callback !== "function") throw new TypeError("queueMicrotask: the argument is not a function");
    lib.queueMicrotask(() => {
      try {
        ReflectApply(callback, undefined, []);
      } catch (error) {
        lib.reportException(error);
      }
    });
  } }.queueMicrotask);

  defineGlobal("reportError", { reportError(error) {
    requireArgs(arguments.length, 1, "reportError");
    lib.reportException(error);
  } }.reportError);

  // performance (High Resolution Time): the time origin is the isolate's start.
  class Performance extends lib.EventTarget {
    // Has no state; the field is the brand.
    #brand = undefined;
    constructor(token = undefined) {
      if (token !== lib.internal) throw lib.illegalConstructor();
      super();
    }
    now() {
      this.#brand;
      return ops.monotonicMs();
    }
    get timeOrigin() {
      this.#brand;
      return ops.now() - ops.monotonicMs();
    }
    toJSON() {
      this.#brand;
      return { timeOrigin: this.timeOrigin };
    }
  }
  lib.defineInterface(Performance, "Performance");
  defineGlobal("performance", new Performance(lib.internal));

  class Navigator {
    #brand = undefined;
    constructor(token = undefined) {
      if (token !== lib.internal) throw lib.illegalConstructor();
    }
    // Programs look for this string to see that they run on the Workers API.
    get userAgent() {
      this.#brand;
      return "Cloudflare-Workers";
    }
    get hardwareConcurrency() {
      this.#brand;
      return 1;
    }
    get language() {
      this.#brand;
      return "en";
    }
    get languages() {
      this.#brand;
      return ["en"];
    }
  }
  lib.defineInterface(Navigator, "Navigator");
  defineGlobal("navigator", new Navigator(lib.internal));
  defineGlobal("self", globalThis);
  // `WebAssembly` is what webassembly.js makes of V8's. Memory that is shared is a clock to whoever has two threads; nothing else makes any.
  lib.late.push(() => {
    lib.nativeWebAssembly = globalThis.WebAssembly;
    // What is made of an instance must not lead to V8's own before that file has run.
    delete lib.nativeWebAssembly.Tag.prototype.constructor;
    delete lib.nativeWebAssembly.Memory.prototype.constructor;
    lib.rareGlobals("webassembly.js", ["WebAssembly"]);
    delete globalThis.SharedArrayBuffer;
  });
  // Event handlers of the global object (HTML section 8.1.8.2.1).
  const handlers = ["error", "unhandledrejection", "rejectionhandled"];
  for (let i = 0; i < handlers.length; i++) {
    const type = handlers[i];
    ObjectDefineProperty(globalThis, `on${type}`, {
      __proto__: null,
      get: () => lib.getHandler(lib.globalTarget, type),
      set: (value) => lib.setHandler(lib.globalTarget, type, value),
      configurable: true,
      enumerable: false,
    });
  }
  lib.rareGlobals("messages.js", ["MessageChannel", "MessagePort"]);
  lib.rareGlobals("websocket.js", ["WebSocket", "WebSocketPair", "CloseEvent"]);
  lib.rareGlobals("subtle.js", ["CryptoKey"]);
  lib.rareGlobals("url_pattern.js", ["URLPattern"]);
  lib.rareGlobals("html_rewriter.js", ["HTMLRewriter"]);
  lib.rareGlobals("compression.js", ["CompressionStream", "DecompressionStream"]);
  ObjectDefineProperty(globalThis, SymbolToStringTag, { __proto__: null, value: "ServiceWorkerGlobalScope", configurable: true });
})
