// AbortController and AbortSignal (DOM section 3).
//
// Owns signals, their abort algorithms and the links of `AbortSignal.any`.
// A source signal holds its dependents weakly until one of them has a listener or an algorithm: a signal that lives
// as long as the isolate does not collect one dependent per request.
(function (ops, lib) {
  "use strict";
  const { ArrayPrototypePush, SetPrototypeAdd, SetPrototypeDelete, Set, TypeError, WeakRef, WeakRefPrototypeDeref } = lib.p;
  const { defineInterface, requireArgs } = lib;

  const WEAK_SWEEP = 32;

  class AbortSignal extends lib.EventTarget {
    #aborted = false;
    #reason = undefined;
    #algorithms = undefined;
    // Signals this one follows, for signals made by `any`; and the signals that follow this one.
    #sources = undefined;
    #followersWeak = undefined;
    #followersKept = undefined;

    constructor(token = undefined) {
      if (token !== lib.internal) throw lib.illegalConstructor();
      super();
    }

    static abort(reason = undefined) {
      const signal = new AbortSignal(lib.internal);
      signal.#aborted = true;
      signal.#reason = reason === undefined ? new lib.DOMException("The operation was aborted", "AbortError") : reason;
      return signal;
    }

    static timeout(milliseconds) {
      requireArgs(arguments.length, 1, "AbortSignal.timeout");
      const ms = lib.enforceRange(milliseconds, 0, 9007199254740991, "The delay");
      const signal = new AbortSignal(lib.internal);
      lib.setTimer(() => lib.abortSignal(signal, new lib.DOMException("The operation timed out", "TimeoutError")), ms);
      return signal;
    }

    static any(signals) {
      requireArgs(arguments.length, 1, "AbortSignal.any");
      const list = [];
      lib.iterate(signals, "The list of signals", (signal) => {
        if (!lib.isAbortSignal(signal)) throw new TypeError("The list has a value that is not an AbortSignal");
        ArrayPrototypePush(list, signal);
      });
      return lib.anySignal(list);
    }

    get aborted() {
      return this.#aborted;
    }

    get reason() {
      return this.#reason;
    }

    throwIfAborted() {
      if (this.#aborted) throw this.#reason;
    }

    #run() {
      const algorithms = this.#algorithms;
      this.#algorithms = undefined;
      if (algorithms !== undefined) {
        for (let i = 0; i < algorithms.length; i++) algorithms[i](this.#reason);
      }
      lib.fire(this, new lib.Event("abort"));
    }

    static {
      lib.handlerAttributes(AbortSignal, ["abort"], (object) => object.#aborted);
      lib.newSignal = () => new AbortSignal(lib.internal);
      lib.isAbortSignal = (value) => lib.isObject(value) && #aborted in value;
      lib.signalAborted = (signal) => signal.#aborted;
      lib.signalReason = (signal) => signal.#reason;

      // Adds a function that runs with the reason, before the event. Not for a signal that is aborted already.
      lib.addAbortAlgorithm = (signal, algorithm) => {
        if (signal.#aborted) return;
        ArrayPrototypePush(signal.#algorithms ??= [], algorithm);
        lib.keepSignal(signal);
      };

      lib.removeAbortAlgorithm = (signal, algorithm) => {
        const list = signal.#algorithms;
        if (list === undefined) return;
        const kept = [];
        for (let i = 0; i < list.length; i++) {
          if (list[i] !== algorithm) ArrayPrototypePush(kept, list[i]);
        }
        signal.#algorithms = kept.length === 0 ? undefined : kept;
        if (kept.length === 0 && signal.#sources !== undefined && !lib.hasListeners(signal)) {
          const sources = signal.#sources;
          for (let i = 0; i < sources.length; i++) {
            if (sources[i].#followersKept !== undefined) SetPrototypeDelete(sources[i].#followersKept, signal);
          }
        }
      };

      // Called when something waits for this signal: its sources must keep it alive.
      lib.keepSignal = (signal) => {
        const sources = signal.#sources;
        if (sources === undefined) return;
        for (let i = 0; i < sources.length; i++) {
          SetPrototypeAdd(sources[i].#followersKept ??= new Set(), signal);
        }
      };

      lib.abortSignal = (signal, reason) => {
        if (signal.#aborted) return;
        signal.#aborted = true;
        signal.#reason = reason === undefined ? new lib.DOMException("The operation was aborted", "AbortError") : reason;
        const followers = signal.#followersWeak;
        const run = [signal];
        if (followers !== undefined) {
          for (let i = 0; i < followers.length; i++) {
            const follower = WeakRefPrototypeDeref(followers[i]);
            if (follower !== undefined && !follower.#aborted) {
              follower.#aborted = true;
              follower.#reason = signal.#reason;
              ArrayPrototypePush(run, follower);
            }
          }
          signal.#followersWeak = undefined;
          signal.#followersKept = undefined;
        }
        for (let i = 0; i < run.length; i++) run[i].#run();
      };

      lib.anySignal = (list) => {
        const result = new AbortSignal(lib.internal);
        for (let i = 0; i < list.length; i++) {
          if (list[i].#aborted) {
            result.#aborted = true;
            result.#reason = list[i].#reason;
            return result;
          }
        }
        result.#sources = [];
        const weak = new WeakRef(result);
        for (let i = 0; i < list.length; i++) {
          // A dependent signal's sources are followed in its place, so that chains stay one deep.
          const roots = list[i].#sources === undefined ? [list[i]] : list[i].#sources;
          for (let j = 0; j < roots.length; j++) follow(result, roots[j], weak);
        }
        return result;
      };

      const follow = (result, source, weak) => {
        for (let i = 0; i < result.#sources.length; i++) {
          if (result.#sources[i] === source) return;
        }
        ArrayPrototypePush(result.#sources, source);
        let followers = source.#followersWeak ??= [];
        if (followers.length >= WEAK_SWEEP && (followers.length & (followers.length - 1)) === 0) {
          const live = [];
          for (let i = 0; i < followers.length; i++) {
            if (WeakRefPrototypeDeref(followers[i]) !== undefined) ArrayPrototypePush(live, followers[i]);
          }
          source.#followersWeak = followers = live;
        }
        ArrayPrototypePush(followers, weak);
      };
    }
  }
  defineInterface(AbortSignal, "AbortSignal");
  lib.AbortSignal = AbortSignal;

  class AbortController {
    #signal = lib.newSignal();

    get signal() {
      return this.#signal;
    }

    abort(reason = undefined) {
      lib.abortSignal(this.#signal, reason);
    }
  }
  defineInterface(AbortController, "AbortController");
  lib.AbortController = AbortController;
})
