// node:stream, the first half: readable streams, and what both sides share. `stream.js` loads it.
(function (ops, lib) {
  "use strict";
  lib.loadNode("node:events");
  lib.loadNode("node:buffer");
  lib.loadNode("node:string_decoder");
  const { EventEmitter } = lib.nodeModules["node:events"];
  const { Buffer } = lib.nodeModules["node:buffer"];
  const { StringDecoder } = lib.nodeModules["node:string_decoder"];

  // What the files share.
  const N = lib.nodeStreams = { __proto__: null };
  const nextTick = (callback, ...args) => queueMicrotask(() => callback(...args));
  const coded = (error, code) => Object.assign(error, { code });
  const nop = () => {};

  let defaultBytes = 64 * 1024;
  let defaultObjects = 16;
  const addDefaults = (module) => Object.assign(module, {
    getDefaultHighWaterMark: (objectMode) => objectMode ? defaultObjects : defaultBytes,
    setDefaultHighWaterMark(objectMode, value) {
      if (objectMode) defaultObjects = value;
      else defaultBytes = value;
    },
  });
  function highWaterMark(options, side, objectMode) {
    const mark = options?.[`${side}HighWaterMark`] ?? options?.highWaterMark;
    if (mark === undefined || mark === null) return objectMode ? defaultObjects : defaultBytes;
    if (!Number.isInteger(mark) || mark < 0) throw coded(new TypeError(`The property 'options.highWaterMark' is invalid. Received ${String(mark)}`), "ERR_INVALID_ARG_VALUE");
    return mark;
  }

  function Stream(options) {
    EventEmitter.call(this, options);
  }
  Object.setPrototypeOf(Stream.prototype, EventEmitter.prototype);
  Object.setPrototypeOf(Stream, EventEmitter);

  // --- what both sides share: destroying ---

  function lifeOf(stream) {
    return stream._life ??= { destroyed: false, closed: false, errored: null, autoDestroy: true, emitClose: true };
  }

  const shared = {
    destroy(error, callback) {
      const life = lifeOf(this);
      if (life.destroyed) {
        callback?.(error ?? null);
        return this;
      }
      life.destroyed = true;
      if (error) life.errored = error;
      let done = false;
      const finish = (other) => {
        if (done) return;
        done = true;
        const failed = other ?? error ?? null;
        if (failed) life.errored = failed;
        life.closed = true;
        callback?.(failed);
        nextTick(() => {
          if (failed && !life.errorEmitted) {
            life.errorEmitted = true;
            this.emit("error", failed);
          }
          if (life.emitClose) this.emit("close");
        });
      };
      try {
        this._destroy(error ?? null, finish);
      } catch (thrown) {
        finish(thrown);
      }
      return this;
    },
    _destroy(error, callback) {
      callback(error);
    },
    [Symbol.asyncDispose]() {
      if (!this.destroyed) this.destroy(this.readableEnded || this.writableFinished ? null : abortError());
      return new Promise((resolve, reject) => N.finished(this, (error) => error && error.name !== "AbortError" ? reject(error) : resolve()));
    },
  };
  const sharedGetters = {
    get destroyed() {
      return lifeOf(this).destroyed;
    },
    get closed() {
      return lifeOf(this).closed;
    },
    get errored() {
      return lifeOf(this).errored;
    },
  };
  const define = (prototype, members) => Object.defineProperties(prototype, Object.fromEntries(
    Reflect.ownKeys(members).map((key) => [key, { ...Object.getOwnPropertyDescriptor(members, key), enumerable: false }]),
  ));

  const abortError = (reason = undefined) => Object.assign(new Error("The operation was aborted", reason === undefined ? undefined : { cause: reason }), { name: "AbortError", code: "ABORT_ERR" });

  function setUp(stream, options) {
    const life = lifeOf(stream);
    if (options?.autoDestroy === false) life.autoDestroy = false;
    if (options?.emitClose === false) life.emitClose = false;
    for (const name of ["destroy", "construct"]) if (typeof options?.[name] === "function") stream[`_${name}`] = options[name];
    if (options?.signal !== undefined) N.addAbortSignal(options.signal, stream);
    if (typeof stream._construct === "function") {
      life.constructing = true;
      nextTick(() => stream._construct((error) => {
        life.constructing = false;
        if (error) return void stream.destroy(error);
        stream.emit("_constructed");
      }));
    }
  }
  function whenConstructed(stream, work) {
    if (lifeOf(stream).constructing) stream.once("_constructed", work);
    else work();
  }

  // --- Readable ---

  function Readable(options) {
    if (!(this instanceof Readable)) return new Readable(options);
    Stream.call(this, options);
    initReadable(this, options);
    setUp(this, options);
  }
  Object.setPrototypeOf(Readable.prototype, Stream.prototype);
  Object.setPrototypeOf(Readable, Stream);

  function initReadable(stream, options) {
    const objectMode = Boolean(options?.objectMode || options?.readableObjectMode);
    stream._readableState = {
      objectMode,
      highWaterMark: highWaterMark(options, "readable", objectMode),
      buffer: [],
      length: 0,
      flowing: null,
      ended: false,
      endEmitted: false,
      reading: false,
      scheduled: false,
      flowScheduled: false,
      wantsReadable: false,
      decoder: options?.encoding ? new StringDecoder(options.encoding) : null,
      encoding: options?.encoding ?? null,
      pipes: [],
      aborted: false,
    };
    if (typeof options?.read === "function") stream._read = options.read;
  }

  const sizeOf = (state, chunk) => state.objectMode ? 1 : chunk.length;

  function addChunk(stream, chunk, first, encoding) {
    const state = stream._readableState;
    state.reading = false;
    if (chunk === null) {
      if (state.ended) return false;
      state.ended = true;
      const rest = state.decoder?.end();
      if (rest) {
        state.buffer.push(rest);
        state.length += sizeOf(state, rest);
      }
      signalReadable(stream);
      return false;
    }
    if (!state.objectMode) {
      if (typeof chunk === "string") {
        if (state.encoding === null || (encoding ?? "utf8") !== state.encoding) chunk = Buffer.from(chunk, encoding);
      } else if (chunk instanceof Uint8Array) {
        if (!Buffer.isBuffer(chunk)) chunk = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
      } else {
        stream.destroy(coded(new TypeError(`The "chunk" argument must be of type string or an instance of Buffer, TypedArray, or DataView. Received ${chunk === undefined ? "undefined" : typeof chunk}`), "ERR_INVALID_ARG_TYPE"));
        return false;
      }
      if (chunk.length === 0) return state.length < state.highWaterMark;
    }
    if (!first && state.ended) {
      stream.destroy(coded(new Error("stream.push() after EOF"), "ERR_STREAM_PUSH_AFTER_EOF"));
      return false;
    }
    if (first && state.endEmitted) {
      stream.destroy(coded(new Error("stream.unshift() after end event"), "ERR_STREAM_UNSHIFT_AFTER_END_EVENT"));
      return false;
    }
    if (state.decoder !== null && typeof chunk !== "string") {
      chunk = state.decoder.write(chunk);
      if (chunk === "") return true;
    }
    if (first) state.buffer.unshift(chunk);
    else state.buffer.push(chunk);
    state.length += sizeOf(state, chunk);
    signalReadable(stream);
    return state.length < state.highWaterMark;
  }

  // Somebody may be waiting: for events of "data", or for "readable".
  function signalReadable(stream) {
    const state = stream._readableState;
    if (state.flowing) scheduleFlow(stream);
    if (state.scheduled) return;
    state.scheduled = true;
    nextTick(() => {
      state.scheduled = false;
      if (lifeOf(stream).destroyed) return;
      if (stream.listenerCount("readable") > 0 && (state.length > 0 || state.ended) && !state.endEmitted) stream.emit("readable");
      if (state.ended && state.length === 0) endReadable(stream);
      else if (!state.ended && state.length < state.highWaterMark && (state.flowing || state.wantsReadable)) callRead(stream);
    });
  }

  function callRead(stream) {
    const state = stream._readableState;
    const life = lifeOf(stream);
    if (state.reading || state.ended || life.destroyed) return;
    state.reading = true;
    whenConstructed(stream, () => {
      try {
        stream._read(state.highWaterMark);
      } catch (error) {
        stream.destroy(error);
      }
    });
  }

  function endReadable(stream) {
    const state = stream._readableState;
    if (state.endEmitted || state.ending) return;
    // "end" waits until somebody has read, or asked.
    if (!state.flowing && !state.wantsReadable && stream.listenerCount("readable") === 0) return;
    state.ending = true;
    nextTick(() => {
      if (lifeOf(stream).errored || state.endEmitted || state.length > 0) {
        state.ending = false;
        return;
      }
      state.endEmitted = true;
      stream.emit("end");
      const { writable, _writableState: other } = stream;
      if (other !== undefined && writable && stream.allowHalfOpen === false) stream.end();
      if (lifeOf(stream).autoDestroy && (other === undefined || other.finished || !other.active)) stream.destroy();
    });
  }

  function scheduleFlow(stream) {
    const state = stream._readableState;
    if (state.flowScheduled) return;
    state.flowScheduled = true;
    nextTick(() => {
      state.flowScheduled = false;
      while (state.flowing && !lifeOf(stream).destroyed) {
        const chunk = stream.read();
        if (chunk === null) break;
      }
    });
  }

  define(Readable.prototype, {
    ...shared,
    _read() {
      throw coded(new Error("The _read() method is not implemented"), "ERR_METHOD_NOT_IMPLEMENTED");
    },
    push(chunk, encoding) {
      return addChunk(this, chunk, false, encoding);
    },
    unshift(chunk, encoding) {
      return addChunk(this, chunk, true, encoding);
    },
    read(count) {
      const state = this._readableState;
      const wanted = count === undefined || Number.isNaN(count) ? undefined : Math.trunc(count);
      if (wanted === 0) {
        state.wantsReadable = true;
        if (state.ended && state.length === 0) endReadable(this);
        else callRead(this);
        return null;
      }
      state.wantsReadable = true;
      let taken = null;
      if (state.length > 0 && (wanted === undefined || wanted <= state.length || state.ended)) taken = takeChunk(state, wanted, state.flowing);
      if (!state.ended && state.length < state.highWaterMark) callRead(this);
      if (state.ended && state.length === 0) endReadable(this);
      if (taken !== null && !lifeOf(this).errored) this.emit("data", taken);
      return taken;
    },
    setEncoding(encoding) {
      const state = this._readableState;
      state.decoder = new StringDecoder(encoding);
      state.encoding = state.decoder.encoding;
      const text = state.buffer.map((chunk) => state.decoder.write(chunk)).join("");
      state.buffer = text === "" ? [] : [text];
      state.length = text.length;
      return this;
    },
    resume() {
      const state = this._readableState;
      if (!state.flowing) {
        state.flowing = this.listenerCount("readable") === 0;
        state.wantsReadable = true;
        nextTick(() => {
          if (!state.reading && !lifeOf(this).destroyed) this.read(0);
          this.emit("resume");
          if (state.flowing) scheduleFlow(this);
        });
      }
      state.paused = false;
      return this;
    },
    pause() {
      const state = this._readableState;
      if (state.flowing !== false) {
        state.flowing = false;
        this.emit("pause");
      }
      state.paused = true;
      return this;
    },
    isPaused() {
      return this._readableState.paused === true || this._readableState.flowing === false;
    },
    on(type, listener) {
      EventEmitter.prototype.on.call(this, type, listener);
      const state = this._readableState;
      if (type === "data" && state.flowing !== false && this.listenerCount("readable") === 0) {
        this.resume();
      } else if (type === "readable" && !state.endEmitted) {
        state.flowing = false;
        state.wantsReadable = true;
        if (state.length > 0 || state.ended) signalReadable(this);
        else nextTick(() => callRead(this));
      }
      return this;
    },
    removeListener(type, listener) {
      EventEmitter.prototype.removeListener.call(this, type, listener);
      if (type === "readable" && this.listenerCount("readable") === 0 && this.listenerCount("data") > 0 && !this._readableState.paused) {
        nextTick(() => this.resume());
      }
      return this;
    },
    pipe(target, options = undefined) {
      const state = this._readableState;
      const onData = (chunk) => {
        if (target.write(chunk) === false && !lifeOf(this).destroyed) {
          this.pause();
          target.once("drain", resume);
        }
      };
      const resume = () => {
        if (state.pipes.includes(target)) this.resume();
      };
      const onEnd = () => target.end();
      const onClose = () => this.unpipe(target);
      const cleanUp = () => {
        this.removeListener("data", onData);
        this.removeListener("end", onEnd);
        target.removeListener("drain", resume);
        target.removeListener("close", onClose);
        target.removeListener("finish", onClose);
        target.removeListener("unpipe", onUnpipe);
      };
      const onUnpipe = (from) => {
        if (from === this) cleanUp();
      };
      state.pipes.push(target);
      this.on("data", onData);
      if (options?.end !== false) {
        if (state.endEmitted) nextTick(onEnd);
        else this.once("end", onEnd);
      }
      target.once("close", onClose);
      target.once("finish", onClose);
      target.on("unpipe", onUnpipe);
      target.emit("pipe", this);
      if (target.writableNeedDrain === true) {
        this.pause();
        target.once("drain", resume);
      } else if (!state.flowing) {
        this.resume();
      }
      return target;
    },
    unpipe(target = undefined) {
      const state = this._readableState;
      const gone = target === undefined ? state.pipes : state.pipes.filter((other) => other === target);
      state.pipes = target === undefined ? [] : state.pipes.filter((other) => other !== target);
      for (const other of gone) other.emit("unpipe", this, { hasUnpiped: false });
      if (gone.length > 0 && state.pipes.length === 0) this.pause();
      return this;
    },
    async* [Symbol.asyncIterator]() {
      let wake = nop;
      let failed;
      let over = this._readableState.endEmitted || lifeOf(this).closed;
      const onReadable = () => wake();
      const stop = N.finished(this, { writable: false }, (error) => {
        failed = error ?? null;
        over = true;
        wake();
      });
      this.on("readable", onReadable);
      try {
        for (;;) {
          const chunk = lifeOf(this).destroyed ? null : this.read();
          if (chunk !== null) {
            yield chunk;
          } else if (failed) {
            throw failed;
          } else if (over) {
            return;
          } else {
            await new Promise((resolve) => wake = resolve);
            wake = nop;
          }
        }
      } finally {
        stop();
        this.removeListener("readable", onReadable);
        if (!this._readableState.endEmitted) this.destroy();
      }
    },
    iterator() {
      return this[Symbol.asyncIterator]();
    },
    map(callback) {
      const source = this;
      return Readable.from((async function* () {
        for await (const chunk of source) yield callback(chunk);
      })());
    },
    filter(callback) {
      const source = this;
      return Readable.from((async function* () {
        for await (const chunk of source) if (await callback(chunk)) yield chunk;
      })());
    },
    async forEach(callback) {
      for await (const chunk of this) await callback(chunk);
    },
    async toArray() {
      const chunks = [];
      for await (const chunk of this) chunks.push(chunk);
      return chunks;
    },
    async reduce(callback, ...initial) {
      return initial.length > 0 ? (await this.toArray()).reduce(callback, initial[0]) : (await this.toArray()).reduce(callback);
    },
  });
  Readable.prototype.addListener = Readable.prototype.on;
  Readable.prototype.off = Readable.prototype.removeListener;

  function takeChunk(state, wanted, flowing) {
    if (state.objectMode) {
      state.length--;
      return state.buffer.shift();
    }
    if (wanted === undefined && flowing) {
      const chunk = state.buffer.shift();
      state.length -= chunk.length;
      return chunk;
    }
    const whole = state.decoder === null ? Buffer.concat(state.buffer) : state.buffer.join("");
    const taken = wanted === undefined || wanted >= whole.length ? whole : whole.slice(0, wanted);
    const rest = whole.slice(taken.length);
    state.buffer = rest.length === 0 ? [] : [rest];
    state.length = rest.length;
    return taken;
  }

  const readableGetters = {
    get readable() {
      return !this.destroyed && !this._readableState.endEmitted && lifeOf(this).errored === null;
    },
    get readableEnded() {
      return this._readableState.endEmitted;
    },
    get readableFlowing() {
      return this._readableState.flowing;
    },
    get readableLength() {
      return this._readableState.length;
    },
    get readableHighWaterMark() {
      return this._readableState.highWaterMark;
    },
    get readableObjectMode() {
      return this._readableState.objectMode;
    },
    get readableEncoding() {
      return this._readableState.encoding;
    },
    get readableAborted() {
      return this.destroyed && !this._readableState.endEmitted;
    },
    get readableDidRead() {
      return this._readableState.wantsReadable;
    },
  };
  const copyGetters = (prototype, getters) => {
    for (const [name, descriptor] of Object.entries(Object.getOwnPropertyDescriptors(getters))) Object.defineProperty(prototype, name, { ...descriptor, enumerable: false });
  };
  copyGetters(Readable.prototype, sharedGetters);
  copyGetters(Readable.prototype, readableGetters);

  Readable.from = (iterable, options = undefined) => {
    if (typeof iterable === "string" || iterable instanceof Uint8Array) {
      return new Readable({ objectMode: true, ...options, read() { this.push(iterable); this.push(null); } });
    }
    const isAsync = typeof iterable?.[Symbol.asyncIterator] === "function";
    if (!isAsync && typeof iterable?.[Symbol.iterator] !== "function") throw coded(new TypeError('The "iterable" argument must be an instance of Iterable'), "ERR_INVALID_ARG_TYPE");
    const iterator = isAsync ? iterable[Symbol.asyncIterator]() : iterable[Symbol.iterator]();
    return new Readable({
      objectMode: true,
      highWaterMark: 1,
      ...options,
      async read() {
        try {
          for (;;) {
            const { done, value } = await iterator.next();
            if (done) return void this.push(null);
            const chunk = await value;
            if (chunk === null) throw coded(new TypeError("May not write null values to stream"), "ERR_STREAM_NULL_VALUES");
            if (!this.push(chunk)) return;
            this._readableState.reading = true;
          }
        } catch (error) {
          this.destroy(error);
        }
      },
      destroy(error, callback) {
        Promise.resolve(this._readableState.endEmitted ? undefined : iterator.return?.()).then(() => callback(error), (other) => callback(error ?? other));
      },
    });
  };
  Readable.fromWeb = (stream, options = undefined) => {
    const reader = stream.getReader();
    return new Readable({
      ...options,
      read() {
        reader.read().then(({ done, value }) => this.push(done ? null : value), (error) => this.destroy(error));
      },
      destroy(error, callback) {
        reader.cancel(error ?? undefined).then(() => callback(error), () => callback(error));
      },
    });
  };
  Readable.toWeb = (stream) => {
    const iterator = stream[Symbol.asyncIterator]();
    return new ReadableStream({
      async pull(controller) {
        const { done, value } = await iterator.next();
        if (done) controller.close();
        else controller.enqueue(typeof value === "string" || !Buffer.isBuffer(value) ? value : new Uint8Array(value));
      },
      async cancel(reason) {
        stream.destroy(reason instanceof Error ? reason : undefined);
      },
    });
  };

  Object.assign(N, {
    Stream, Readable, abortError, addDefaults, coded, copyGetters, define, highWaterMark, initReadable, lifeOf, nextTick, setUp, shared, sharedGetters, whenConstructed,
  });
})
