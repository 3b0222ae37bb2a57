// node:events: EventEmitter, once, on.
(function (ops, lib) {
  "use strict";

  const kCapture = Symbol("kCapture");
  const errorMonitor = Symbol("events.errorMonitor");
  const captureRejectionSymbol = Symbol.for("nodejs.rejection");
  let defaultMaxListeners = 10;

  function checkListener(listener) {
    if (typeof listener !== "function") {
      const error = new TypeError(`The "listener" argument must be of type function. Received ${listener === null ? "null" : typeof listener}`);
      error.code = "ERR_INVALID_ARG_TYPE";
      throw error;
    }
  }

  // A constructor that can be called without `new` on an object that inherits from it, as old programs do.
  function EventEmitter(options) {
    EventEmitter.init.call(this, options);
  }
  EventEmitter.prototype._events = undefined;
  EventEmitter.prototype._eventsCount = 0;
  EventEmitter.prototype._maxListeners = undefined;
  EventEmitter.init = function (options) {
    if (this._events === undefined || this._events === Object.getPrototypeOf(this)._events) {
      this._events = { __proto__: null };
      this._eventsCount = 0;
    }
    this._maxListeners = this._maxListeners || undefined;
    this[kCapture] = Boolean(options?.captureRejections);
  };

  function listOf(emitter, type) {
    const found = emitter._events?.[type];
    return found === undefined ? [] : typeof found === "function" ? [found] : found;
  }

  function add(emitter, type, listener, first) {
    checkListener(listener);
    const events = emitter._events ??= { __proto__: null };
    if (events.newListener !== undefined) emitter.emit("newListener", type, listener.listener ?? listener);
    const found = emitter._events[type];
    if (found === undefined) {
      emitter._events[type] = listener;
      emitter._eventsCount++;
    } else if (typeof found === "function") {
      emitter._events[type] = first ? [listener, found] : [found, listener];
    } else if (first) {
      found.unshift(listener);
    } else {
      found.push(listener);
    }
    const max = emitter.getMaxListeners();
    const list = emitter._events[type];
    if (max > 0 && typeof list !== "function" && list.length > max && !list.warned) {
      list.warned = true;
      console.warn(`MaxListenersExceededWarning: Possible EventEmitter memory leak detected. ${list.length} ${String(type)} listeners added.`);
    }
    return emitter;
  }

  function onceWrapper(emitter, type, listener) {
    checkListener(listener);
    let fired = false;
    const wrapper = function (...args) {
      if (fired) return undefined;
      fired = true;
      emitter.removeListener(type, wrapper);
      return listener.apply(emitter, args);
    };
    wrapper.listener = listener;
    return wrapper;
  }

  Object.assign(EventEmitter.prototype, {
    setMaxListeners(count) {
      if (typeof count !== "number" || count < 0 || Number.isNaN(count)) {
        throw Object.assign(new RangeError(`The value of "n" is out of range. It must be a non-negative number. Received ${String(count)}`), { code: "ERR_OUT_OF_RANGE" });
      }
      this._maxListeners = count;
      return this;
    },
    getMaxListeners() {
      return this._maxListeners ?? defaultMaxListeners;
    },
    emit(type, ...args) {
      if (type === "error") {
        if (this._events?.[errorMonitor] !== undefined) this.emit(errorMonitor, ...args);
        if (this._events?.error === undefined) {
          if (args[0] instanceof Error) throw args[0];
          const error = new Error(`Unhandled error. (${String(args[0])})`);
          error.code = "ERR_UNHANDLED_ERROR";
          error.context = args[0];
          throw error;
        }
      }
      const listeners = [...listOf(this, type)];
      for (const listener of listeners) {
        const result = listener.apply(this, args);
        if (this[kCapture] && result !== null && typeof result?.then === "function") {
          result.then(undefined, (error) => {
            if (typeof this[captureRejectionSymbol] === "function") this[captureRejectionSymbol](error, type, ...args);
            else this.emit("error", error);
          });
        }
      }
      return listeners.length > 0;
    },
    addListener(type, listener) {
      return add(this, type, listener, false);
    },
    prependListener(type, listener) {
      return add(this, type, listener, true);
    },
    once(type, listener) {
      return this.on(type, onceWrapper(this, type, listener));
    },
    prependOnceListener(type, listener) {
      return this.prependListener(type, onceWrapper(this, type, listener));
    },
    removeListener(type, listener) {
      checkListener(listener);
      const list = listOf(this, type);
      const at = list.findLastIndex((other) => other === listener || other.listener === listener);
      if (at === -1) return this;
      const left = list.toSpliced(at, 1);
      if (left.length === 0) {
        delete this._events[type];
        this._eventsCount--;
      } else {
        this._events[type] = left.length === 1 ? left[0] : left;
      }
      if (this._events.removeListener !== undefined) this.emit("removeListener", type, listener);
      return this;
    },
    removeAllListeners(type) {
      if (this._events === undefined) return this;
      if (this._events.removeListener !== undefined) {
        if (type === undefined) {
          for (const key of Reflect.ownKeys(this._events)) if (key !== "removeListener") this.removeAllListeners(key);
          this.removeAllListeners("removeListener");
        } else {
          for (const listener of [...listOf(this, type)].reverse()) this.removeListener(type, listener);
        }
        return this;
      }
      if (type === undefined) {
        this._events = { __proto__: null };
        this._eventsCount = 0;
      } else if (this._events[type] !== undefined) {
        delete this._events[type];
        this._eventsCount--;
      }
      return this;
    },
    listeners(type) {
      return listOf(this, type).map((listener) => listener.listener ?? listener);
    },
    rawListeners(type) {
      return [...listOf(this, type)];
    },
    listenerCount(type, listener) {
      const list = listOf(this, type);
      return listener === undefined ? list.length : list.filter((other) => other === listener || other.listener === listener).length;
    },
    eventNames() {
      return this._eventsCount > 0 ? Reflect.ownKeys(this._events) : [];
    },
  });
  EventEmitter.prototype.on = EventEmitter.prototype.addListener;
  EventEmitter.prototype.off = EventEmitter.prototype.removeListener;
  for (const key of Object.keys(EventEmitter.prototype)) {
    if (typeof EventEmitter.prototype[key] === "function") Object.defineProperty(EventEmitter.prototype, key, { enumerable: true, writable: true, configurable: true });
  }

  const abortError = (signal) => Object.assign(new Error("The operation was aborted", { cause: signal.reason }), { name: "AbortError", code: "ABORT_ERR" });

  const isTarget = (emitter) => typeof emitter.addEventListener === "function" && typeof emitter.on !== "function";
  function listen(emitter, type, listener, options) {
    if (isTarget(emitter)) emitter.addEventListener(type, listener, options);
    else if (options?.once) emitter.once(type, listener);
    else emitter.on(type, listener);
  }
  function unlisten(emitter, type, listener) {
    if (isTarget(emitter)) emitter.removeEventListener(type, listener);
    else emitter.removeListener(type, listener);
  }

  function once(emitter, type, options = undefined) {
    const signal = options?.signal;
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(abortError(signal));
        return;
      }
      const done = () => {
        unlisten(emitter, type, onEvent);
        if (type !== "error") unlisten(emitter, "error", onError);
        signal?.removeEventListener("abort", onAbort);
      };
      const onEvent = (...args) => {
        done();
        resolve(args);
      };
      const onError = (error) => {
        done();
        reject(error);
      };
      const onAbort = () => {
        done();
        reject(abortError(signal));
      };
      listen(emitter, type, onEvent, { once: true });
      if (type !== "error" && !isTarget(emitter)) listen(emitter, "error", onError, { once: true });
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  }

  // Events as they come; at most what is emitted while nobody asks waits here.
  async function* on(emitter, type, options = undefined) {
    const signal = options?.signal;
    const waiting = [];
    let failed;
    let wake = () => {};
    const onEvent = (...args) => {
      waiting.push(args);
      wake();
    };
    const onError = (error) => {
      failed = { error };
      wake();
    };
    const onAbort = () => onError(abortError(signal));
    if (signal?.aborted) throw abortError(signal);
    listen(emitter, type, onEvent);
    if (type !== "error") listen(emitter, "error", onError);
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      for (;;) {
        while (waiting.length > 0) yield waiting.shift();
        if (failed !== undefined) throw failed.error;
        await new Promise((resolve) => wake = resolve);
      }
    } finally {
      unlisten(emitter, type, onEvent);
      unlisten(emitter, "error", onError);
      signal?.removeEventListener("abort", onAbort);
    }
  }

  Object.defineProperty(EventEmitter, "defaultMaxListeners", {
    enumerable: true,
    get: () => defaultMaxListeners,
    set(count) {
      defaultMaxListeners = count;
    },
  });
  const statics = {
    EventEmitter,
    once,
    on,
    errorMonitor,
    captureRejectionSymbol,
    usingDomains: false,
    getEventListeners: (emitter, type) => typeof emitter.listeners === "function" ? emitter.listeners(type) : [],
    getMaxListeners: (emitter) => typeof emitter.getMaxListeners === "function" ? emitter.getMaxListeners() : defaultMaxListeners,
    setMaxListeners(count = defaultMaxListeners, ...emitters) {
      if (emitters.length === 0) defaultMaxListeners = count;
      for (const emitter of emitters) emitter.setMaxListeners?.(count);
    },
    listenerCount: (emitter, type) => emitter.listenerCount(type),
    addAbortListener(signal, listener) {
      signal.addEventListener("abort", listener, { once: true });
      return { [Symbol.dispose]: () => signal.removeEventListener("abort", listener) };
    },
  };
  Object.assign(EventEmitter, statics);
  lib.nodeModules["node:events"] = { default: EventEmitter, ...statics, defaultMaxListeners: 10 };
})
