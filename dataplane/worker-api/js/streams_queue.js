// Streams section 8: queues with sizes, queuing strategies, and the promises of user-given algorithms.
//
// Owns `ByteLengthQueuingStrategy`, `CountQueuingStrategy` and what the stream files share.
(function (ops, lib) {
  "use strict";
  const {
    NumberIsNaN, Number, ObjectDefineProperty, PromisePrototypeThen, PromiseReject, PromiseResolve, RangeError, ReflectApply, TypeError,
  } = lib.p;
  const { defineInterface, dictionary, requireArgs } = lib;

  // A first-in first-out list; shift is O(1) amortised. Not in an array: a program may put setters at indices of `Array.prototype`.
  class Fifo {
    items = { __proto__: null };
    head = 0;
    tail = 0;
    get length() {
      return this.tail - this.head;
    }
    push(item) {
      this.items[this.tail++] = item;
    }
    peek() {
      return this.items[this.head];
    }
    shift() {
      const item = this.items[this.head];
      this.items[this.head++] = undefined;
      if (this.head === this.tail) {
        if (this.tail >= 512) this.items = { __proto__: null };
        this.head = 0;
        this.tail = 0;
      } else if (this.head >= 512 && this.head * 2 >= this.tail) {
        const kept = { __proto__: null };
        let count = 0;
        for (let i = this.head; i < this.tail; i++) kept[count++] = this.items[i];
        this.items = kept;
        this.head = 0;
        this.tail = count;
      }
      return item;
    }
    clear() {
      this.items = { __proto__: null };
      this.head = 0;
      this.tail = 0;
    }
  }
  lib.Fifo = Fifo;

  // Queue-with-sizes of a default controller.
  class SizedQueue {
    chunks = new Fifo();
    sizes = new Fifo();
    total = 0;
    push(chunk, size) {
      if (typeof size !== "number" || NumberIsNaN(size) || size < 0 || size === Infinity) {
        throw new RangeError("The size of a chunk is not a non-negative finite number");
      }
      this.chunks.push(chunk);
      this.sizes.push(size);
      this.total += size;
    }
    get length() {
      return this.chunks.length;
    }
    peek() {
      return this.chunks.peek();
    }
    shift() {
      this.total -= this.sizes.shift();
      if (this.total < 0) this.total = 0;
      return this.chunks.shift();
    }
    clear() {
      this.chunks.clear();
      this.sizes.clear();
      this.total = 0;
    }
  }
  lib.SizedQueue = SizedQueue;

  // A settled or pending promise that is only made when somebody asks for it.
  // State: 0 pending, 1 resolved, 2 rejected (and marked as handled).
  class LazyPromise {
    #state = 0;
    #reason = undefined;
    #deferred = undefined;
    resolve() {
      if (this.#state !== 0) return;
      this.#state = 1;
      if (this.#deferred !== undefined) this.#deferred.resolve(undefined);
    }
    reject(reason) {
      if (this.#state !== 0) return;
      this.#state = 2;
      this.#reason = reason;
      if (this.#deferred !== undefined) this.#deferred.reject(reason);
    }
    get pending() {
      return this.#state === 0;
    }
    get promise() {
      if (this.#deferred === undefined) {
        const deferred = this.#deferred = lib.p.newDeferred();
        lib.p.setHandled(deferred.promise);
        if (this.#state === 1) deferred.resolve(undefined);
        else if (this.#state === 2) deferred.reject(this.#reason);
      }
      return this.#deferred.promise;
    }
  }
  lib.LazyPromise = LazyPromise;

  // Calls a user's function and gives a promise of its result; an exception is a rejection.
  lib.promiseCall = (fn, receiver, args) => {
    try {
      return toPromise(ReflectApply(fn, receiver, args));
    } catch (error) {
      return PromiseReject(error);
    }
  };
  // "A promise resolved with" (Web IDL): a native promise is itself.
  const toPromise = PromiseResolve;
  lib.toPromise = toPromise;
  // Settles a deferred as a native promise settles. (`deferred.resolve(promise)` would call a `then` that a program can
  // overwrite; so would returning a promise from a reaction.)
  const settleWith = (deferred, promise) => {
    PromisePrototypeThen(promise, deferred.resolve, deferred.reject);
  };
  lib.settleWith = settleWith;
  // Like `then`, for reactions that give native promises.
  lib.chain = (promise, fulfilled, rejected) => {
    const deferred = lib.p.newDeferred();
    const react = (reaction) => (value) => {
      let next;
      try {
        next = reaction(value);
      } catch (error) {
        deferred.reject(error);
        return;
      }
      settleWith(deferred, next);
    };
    PromisePrototypeThen(promise, react(fulfilled), rejected === undefined ? deferred.reject : react(rejected));
    return deferred.promise;
  };
  // Like `then`, with nobody waiting for the result. An exception in a reaction is a fault of the runtime's.
  lib.upon = (promise, fulfilled, rejected) => {
    PromisePrototypeThen(promise, fulfilled, rejected);
  };
  lib.resolvedPromise = () => PromiseResolve(undefined);

  // ExtractHighWaterMark and ExtractSizeAlgorithm. `size` is undefined for "each chunk counts 1".
  lib.highWaterMark = (strategy, fallback) => {
    const { highWaterMark } = strategy;
    if (highWaterMark === undefined) return fallback;
    const mark = Number(highWaterMark);
    if (NumberIsNaN(mark) || mark < 0) throw new RangeError("highWaterMark is not a non-negative number");
    return mark;
  };
  lib.sizeAlgorithm = (strategy) => {
    const { size } = strategy;
    if (size === undefined) return undefined;
    if (typeof size !== "function") throw new TypeError("The strategy's size is not a function");
    return (chunk) => Number(ReflectApply(size, undefined, [chunk]));
  };

  // One function each for all instances, as the specification has it.
  const byteLengthSize = { size: (chunk) => chunk.byteLength }.size;
  const countSize = { size: () => 1 }.size;
  ObjectDefineProperty(countSize, "name", { __proto__: null, value: "size", configurable: true });

  class ByteLengthQueuingStrategy {
    #highWaterMark;
    constructor(init) {
      requireArgs(arguments.length, 1, "ByteLengthQueuingStrategy");
      const { highWaterMark } = dictionary(init, "The strategy's init");
      if (highWaterMark === undefined) throw new TypeError("highWaterMark is required");
      this.#highWaterMark = Number(highWaterMark);
    }
    get highWaterMark() {
      return this.#highWaterMark;
    }
    get size() {
      this.#highWaterMark;
      return byteLengthSize;
    }
  }
  defineInterface(ByteLengthQueuingStrategy, "ByteLengthQueuingStrategy");

  class CountQueuingStrategy {
    #highWaterMark;
    constructor(init) {
      requireArgs(arguments.length, 1, "CountQueuingStrategy");
      const { highWaterMark } = dictionary(init, "The strategy's init");
      if (highWaterMark === undefined) throw new TypeError("highWaterMark is required");
      this.#highWaterMark = Number(highWaterMark);
    }
    get highWaterMark() {
      return this.#highWaterMark;
    }
    get size() {
      this.#highWaterMark;
      return countSize;
    }
  }
  defineInterface(CountQueuingStrategy, "CountQueuingStrategy");
})
