// node:stream: writable, duplex and transform streams, pipeline and finished; readable ones are in `stream_readable.js`. node:stream/promises too.
(function (ops, lib) {
  "use strict";
  lib.load("node/stream_readable.js");
  const { EventEmitter } = lib.nodeModules["node:events"];
  const { Buffer } = lib.nodeModules["node:buffer"];
  const N = lib.nodeStreams;
  const { Stream, Readable, abortError, addDefaults, coded, copyGetters, define, highWaterMark, initReadable, lifeOf, nextTick, setUp, shared, sharedGetters, whenConstructed } = N;

  // --- Writable ---

  function Writable(options) {
    if (!(this instanceof Writable) && !(this instanceof Duplex)) return new Writable(options);
    Stream.call(this, options);
    initWritable(this, options);
    setUp(this, options);
  }
  Object.setPrototypeOf(Writable.prototype, Stream.prototype);
  Object.setPrototypeOf(Writable, Stream);
  Object.defineProperty(Writable, Symbol.hasInstance, {
    value(object) {
      return Function.prototype[Symbol.hasInstance].call(this, object) || (this === Writable && object?._writableState !== undefined);
    },
  });

  function initWritable(stream, options) {
    const objectMode = Boolean(options?.objectMode || options?.writableObjectMode);
    stream._writableState = {
      objectMode,
      highWaterMark: highWaterMark(options, "writable", objectMode),
      decodeStrings: options?.decodeStrings !== false,
      defaultEncoding: options?.defaultEncoding ?? "utf8",
      queue: [],
      length: 0,
      writing: false,
      corked: 0,
      waitingCallbacks: 0,
      needDrain: false,
      ending: false,
      finishing: false,
      finished: false,
      active: options?.writable !== false,
      onFinish: [],
    };
    for (const name of ["write", "writev", "final"]) if (typeof options?.[name] === "function") stream[`_${name}`] = options[name];
  }

  function failWrite(stream, error, callback) {
    nextTick(() => callback?.(error));
    stream.destroy(error);
  }

  function process(stream) {
    const state = stream._writableState;
    const life = lifeOf(stream);
    while (!state.writing && state.corked === 0 && !life.destroyed && !life.constructing && state.queue.length > 0) writeNext(stream);
    if (state.queue.length === 0) finishMaybe(stream);
  }

  function writeNext(stream) {
    const state = stream._writableState;
    const many = state.queue.length > 1 && typeof stream._writev === "function";
    const batch = many ? state.queue.splice(0) : [state.queue.shift()];
    let sync = true;
    let called = false;
    state.writing = true;
    const done = (error = undefined) => {
      if (called) return void stream.destroy(coded(new Error("Callback called multiple times"), "ERR_MULTIPLE_CALLBACK"));
      called = true;
      state.writing = false;
      for (const item of batch) state.length -= item.size;
      state.waitingCallbacks++;
      // What is done at once is told of later, so that who writes has what `write` gives first.
      if (sync) {
        nextTick(told, error);
      } else {
        if (!error) process(stream);
        told(error);
      }
    };
    const told = (error) => {
      state.waitingCallbacks--;
      if (error) {
        for (const item of batch) item.callback?.(error);
        stream.destroy(error);
        return;
      }
      if (state.needDrain && !state.ending && state.length === 0 && !lifeOf(stream).destroyed) {
        state.needDrain = false;
        stream.emit("drain");
      }
      for (const item of batch) item.callback?.(null);
      process(stream);
    };
    try {
      if (many) stream._writev(batch.map(({ chunk, encoding }) => ({ chunk, encoding })), done);
      else stream._write(batch[0].chunk, batch[0].encoding, done);
    } catch (error) {
      stream.destroy(error);
    }
    sync = false;
  }

  function finishMaybe(stream) {
    const state = stream._writableState;
    const life = lifeOf(stream);
    if (!state.ending || state.finishing || state.length > 0 || state.writing || state.waitingCallbacks > 0 || life.destroyed) return;
    state.finishing = true;
    const done = (error = undefined) => {
      if (error) return void stream.destroy(error);
      nextTick(() => {
        if (life.errored) return;
        state.finished = true;
        for (const callback of state.onFinish.splice(0)) callback(null);
        stream.emit("finish");
        const other = stream._readableState;
        if (life.autoDestroy && (other === undefined || other.endEmitted)) stream.destroy();
      });
    };
    stream.emit("prefinish");
    if (typeof stream._final === "function") {
      try {
        stream._final(done);
      } catch (error) {
        done(error);
      }
    } else {
      done();
    }
  }

  const writableMethods = {
    _write(chunk, encoding, callback) {
      if (typeof this._writev === "function") this._writev([{ chunk, encoding }], callback);
      else throw coded(new Error("The _write() method is not implemented"), "ERR_METHOD_NOT_IMPLEMENTED");
    },
    write(chunk, encoding = undefined, callback = undefined) {
      if (typeof encoding === "function") [encoding, callback] = [undefined, encoding];
      const state = this._writableState;
      encoding ??= state.defaultEncoding;
      if (chunk === null) throw coded(new TypeError("May not write null values to stream"), "ERR_STREAM_NULL_VALUES");
      if (!state.objectMode) {
        if (typeof chunk === "string") {
          if (state.decodeStrings && encoding !== "buffer") [chunk, encoding] = [Buffer.from(chunk, encoding), "buffer"];
        } else if (chunk instanceof Uint8Array) {
          if (!Buffer.isBuffer(chunk)) chunk = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
          encoding = "buffer";
        } else {
          throw coded(new TypeError(`The "chunk" argument must be of type string or an instance of Buffer, TypedArray, or DataView. Received ${chunk === undefined ? "undefined" : typeof chunk}`), "ERR_INVALID_ARG_TYPE");
        }
      }
      if (state.ending) {
        failWrite(this, coded(new Error("write after end"), "ERR_STREAM_WRITE_AFTER_END"), callback);
        return false;
      }
      if (lifeOf(this).destroyed) {
        nextTick(() => callback?.(coded(new Error("Cannot call write after a stream was destroyed"), "ERR_STREAM_DESTROYED")));
        return false;
      }
      const size = state.objectMode ? 1 : chunk.length;
      state.length += size;
      state.queue.push({ chunk, encoding, callback, size });
      const room = state.length < state.highWaterMark;
      if (!room) state.needDrain = true;
      whenConstructed(this, () => process(this));
      return room && !lifeOf(this).errored;
    },
    end(chunk = undefined, encoding = undefined, callback = undefined) {
      if (typeof chunk === "function") [chunk, callback] = [undefined, chunk];
      else if (typeof encoding === "function") [encoding, callback] = [undefined, encoding];
      const state = this._writableState;
      if (chunk !== undefined && chunk !== null) this.write(chunk, encoding);
      state.corked = 0;
      if (typeof callback === "function") {
        if (state.finished) nextTick(() => callback(coded(new Error("Cannot call end after a stream was finished"), "ERR_STREAM_ALREADY_FINISHED")));
        else if (lifeOf(this).destroyed) nextTick(() => callback(coded(new Error("Cannot call end after a stream was destroyed"), "ERR_STREAM_DESTROYED")));
        else state.onFinish.push(callback);
      }
      state.ending = true;
      whenConstructed(this, () => process(this));
      return this;
    },
    cork() {
      this._writableState.corked++;
    },
    uncork() {
      const state = this._writableState;
      if (state.corked > 0 && --state.corked === 0) process(this);
    },
    setDefaultEncoding(encoding) {
      this._writableState.defaultEncoding = encoding;
      return this;
    },
  };
  define(Writable.prototype, { ...shared, ...writableMethods });
  Writable.prototype.pipe = function () {
    this.emit("error", coded(new Error("Cannot pipe, not readable"), "ERR_STREAM_CANNOT_PIPE"));
  };
  const writableGetters = {
    get writable() {
      const state = this._writableState;
      return state.active && !this.destroyed && !state.ending && lifeOf(this).errored === null;
    },
    get writableEnded() {
      return this._writableState.ending;
    },
    get writableFinished() {
      return this._writableState.finished;
    },
    get writableLength() {
      return this._writableState.length;
    },
    get writableHighWaterMark() {
      return this._writableState.highWaterMark;
    },
    get writableObjectMode() {
      return this._writableState.objectMode;
    },
    get writableCorked() {
      return this._writableState.corked;
    },
    get writableNeedDrain() {
      return this._writableState.needDrain && !this.destroyed && !this._writableState.ending;
    },
    get writableAborted() {
      return this.destroyed && !this._writableState.finished;
    },
  };
  copyGetters(Writable.prototype, sharedGetters);
  copyGetters(Writable.prototype, writableGetters);
  Writable.fromWeb = (stream, options = undefined) => {
    const writer = stream.getWriter();
    return new Writable({
      ...options,
      write: (chunk, _encoding, callback) => void writer.write(chunk).then(() => callback(), callback),
      final: (callback) => void writer.close().then(() => callback(), callback),
      destroy: (error, callback) => void (error ? writer.abort(error) : Promise.resolve()).then(() => callback(error), () => callback(error)),
    });
  };
  Writable.toWeb = (stream) => new WritableStream({
    write: (chunk) => new Promise((resolve, reject) => stream.write(chunk, (error) => error ? reject(error) : resolve())),
    close: () => new Promise((resolve, reject) => stream.end((error) => error ? reject(error) : resolve())),
    abort: (reason) => void stream.destroy(reason instanceof Error ? reason : abortError(reason)),
  });

  // --- Duplex, Transform, PassThrough ---

  function Duplex(options) {
    if (!(this instanceof Duplex)) return new Duplex(options);
    Stream.call(this, options);
    initReadable(this, options);
    initWritable(this, options);
    this.allowHalfOpen = options?.allowHalfOpen !== false;
    if (options?.readable === false) Object.assign(this._readableState, { ended: true, endEmitted: true });
    if (options?.writable === false) Object.assign(this._writableState, { ending: true, finished: true });
    setUp(this, options);
  }
  Object.setPrototypeOf(Duplex.prototype, Readable.prototype);
  Object.setPrototypeOf(Duplex, Readable);
  define(Duplex.prototype, writableMethods);
  copyGetters(Duplex.prototype, writableGetters);
  Duplex.from = (source) => {
    if (source instanceof Duplex) return source;
    return Readable.from(source);
  };

  function Transform(options) {
    if (!(this instanceof Transform)) return new Transform(options);
    Duplex.call(this, options);
    this._pendingWrite = null;
    for (const name of ["transform", "flush"]) if (typeof options?.[name] === "function") this[`_${name}`] = options[name];
  }
  Object.setPrototypeOf(Transform.prototype, Duplex.prototype);
  Object.setPrototypeOf(Transform, Duplex);
  define(Transform.prototype, {
    _transform() {
      throw coded(new Error("The _transform() method is not implemented"), "ERR_METHOD_NOT_IMPLEMENTED");
    },
    _write(chunk, encoding, callback) {
      const state = this._readableState;
      this._transform(chunk, encoding, (error, value) => {
        if (error) return void callback(error);
        if (value !== null && value !== undefined) this.push(value);
        // The next chunk waits while what was made is not read.
        if (state.ended || state.length < state.highWaterMark) callback();
        else this._pendingWrite = callback;
      });
    },
    _read() {
      const callback = this._pendingWrite;
      this._readableState.reading = false;
      this._pendingWrite = null;
      callback?.();
    },
    _final(callback) {
      if (typeof this._flush !== "function") {
        this.push(null);
        callback();
        return;
      }
      this._flush((error, value) => {
        if (error) return void callback(error);
        if (value !== null && value !== undefined) this.push(value);
        this.push(null);
        callback();
      });
    },
  });

  function PassThrough(options) {
    if (!(this instanceof PassThrough)) return new PassThrough(options);
    Transform.call(this, options);
  }
  Object.setPrototypeOf(PassThrough.prototype, Transform.prototype);
  Object.setPrototypeOf(PassThrough, Transform);
  define(PassThrough.prototype, {
    _transform(chunk, _encoding, callback) {
      callback(null, chunk);
    },
  });

  // --- finished, pipeline, signals ---

  function finished(stream, options, callback = undefined) {
    if (typeof options === "function") [options, callback] = [undefined, options];
    const waitsRead = options?.readable !== false && stream._readableState !== undefined;
    const waitsWrite = options?.writable !== false && stream._writableState !== undefined && stream._writableState.active;
    const life = lifeOf(stream);
    let called = false;
    const call = (error) => {
      if (called) return;
      called = true;
      cleanUp();
      callback(error);
    };
    const check = () => {
      if ((!waitsRead || stream._readableState.endEmitted) && (!waitsWrite || stream._writableState.finished)) call(undefined);
    };
    const onError = (error) => call(error);
    const onClose = () => {
      check();
      call(life.errored ?? coded(new Error("Premature close"), "ERR_STREAM_PREMATURE_CLOSE"));
    };
    const cleanUp = () => {
      stream.removeListener("end", check);
      stream.removeListener("finish", check);
      stream.removeListener("error", onError);
      stream.removeListener("close", onClose);
    };
    EventEmitter.prototype.on.call(stream, "end", check);
    stream.on("finish", check);
    stream.on("error", onError);
    stream.on("close", onClose);
    if (life.closed) nextTick(onClose);
    else if (life.errored) nextTick(onError, life.errored);
    else nextTick(check);
    if (options?.signal !== undefined) {
      const abort = () => call(abortError(options.signal.reason));
      if (options.signal.aborted) nextTick(abort);
      else options.signal.addEventListener("abort", abort, { once: true });
    }
    return () => {
      called = true;
      cleanUp();
    };
  }

  const isStream = (value) => typeof value?.on === "function" && (value._readableState !== undefined || value._writableState !== undefined);

  function pipeline(...parts) {
    const callback = parts.pop();
    if (typeof callback !== "function") throw coded(new TypeError('The "callback" argument must be of type function'), "ERR_INVALID_ARG_TYPE");
    return connect(Array.isArray(parts[0]) && parts.length === 1 ? parts[0] : parts, undefined, callback);
  }

  // Ends with the first error of any, or when the last is finished; then all are destroyed that are not over.
  function connect(parts, options, callback) {
    if (parts.length < 2) throw coded(new TypeError('The "streams" argument must be specified'), "ERR_MISSING_ARGS");
    let current = parts[0];
    const streams = [];
    let left = 0;
    let failed;
    let value;
    const settle = (error) => {
      if (error && (failed === undefined || failed.code === "ERR_STREAM_PREMATURE_CLOSE")) failed = error;
      if (error) for (const stream of streams) if (!lifeOf(stream).destroyed) stream.destroy(error);
      if (--left === 0) nextTick(() => callback(failed, value));
    };
    const watch = (stream, reads, writes) => {
      left++;
      streams.push(stream);
      finished(stream, { readable: reads, writable: writes }, settle);
    };
    if (typeof current === "function") current = current({});
    if (!isStream(current)) current = Readable.from(current);
    watch(current, true, false);
    for (let i = 1; i < parts.length; i++) {
      const last = i === parts.length - 1;
      let next = parts[i];
      if (typeof next === "function") {
        const made = next(current, {});
        if (last && typeof made?.then === "function") {
          left++;
          made.then((result) => {
            value = result;
            settle(undefined);
          }, settle);
          return current;
        }
        current = isStream(made) ? made : Readable.from(made);
        watch(current, !last, false);
        if (last) current.resume();
        continue;
      }
      if (typeof next?.getWriter === "function") next = Writable.fromWeb(next);
      current.pipe(next, { end: last ? options?.end !== false : true });
      watch(next, !last, true);
      current = next;
    }
    if (options?.signal !== undefined) {
      const abort = () => {
        const error = abortError(options.signal.reason);
        for (const stream of streams) stream.destroy(error);
      };
      if (options.signal.aborted) abort();
      else options.signal.addEventListener("abort", abort, { once: true });
    }
    return current;
  }

  function addAbortSignal(signal, stream) {
    const abort = () => stream.destroy(abortError(signal.reason));
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
    return stream;
  }

  const promises = {
    finished: (stream, options = undefined) => new Promise((resolve, reject) => finished(stream, options ?? {}, (error) => error ? reject(error) : resolve())),
    pipeline: (...parts) => new Promise((resolve, reject) => {
      const last = parts.at(-1);
      const options = typeof last === "object" && last !== null && !isStream(last) && typeof last[Symbol.asyncIterator] !== "function" && typeof last[Symbol.iterator] !== "function" && typeof last.getWriter !== "function" ? parts.pop() : undefined;
      connect(parts, options, (error, value) => error ? reject(error) : resolve(value));
    }),
  };

  Object.assign(N, { finished, addAbortSignal });
  addDefaults(Stream);
  Object.assign(Stream, {
    Stream, Readable, Writable, Duplex, Transform, PassThrough, finished, pipeline, addAbortSignal, promises,
    isReadable: (stream) => stream?.readable === true,
    isErrored: (stream) => Boolean(stream?.errored),
    isDisturbed: (stream) => Boolean(stream?._readableState?.wantsReadable),
  });
  lib.nodeModules["node:stream"] = { ...Stream, default: Stream };
  lib.nodeModules["node:stream/promises"] = { ...promises, default: promises };
})
