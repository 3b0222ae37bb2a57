// What is built from readable and writable streams: pipeTo, tee, async iteration, ReadableStream.from (Streams section 4.2, section 4.9),
// and the native side: `lib.nativeStream`, `lib.streamReader`.
(function (ops, lib) {
  "use strict";
  const {
    AsyncIteratorPrototype, ObjectDefineProperty, ObjectSetPrototypeOf, PromisePrototypeThen, PromiseReject, PromiseResolve, ReflectApply,
    SymbolAsyncIterator, SymbolIterator, TypeError, TypedArrayPrototypeGetByteLength, Uint8Array,
  } = lib.p;
  const { dictionary, promiseCall, resolvedPromise, rs, upon, ws } = lib;

  rs.pipeOptions = (value) => {
    const options = dictionary(value, "The pipe's options");
    const preventAbort = !!options.preventAbort;
    const preventCancel = !!options.preventCancel;
    const preventClose = !!options.preventClose;
    const { signal } = options;
    if (signal !== undefined && !lib.isAbortSignal(signal)) throw new TypeError("options.signal is not an AbortSignal");
    return { __proto__: null, preventAbort, preventCancel, preventClose, signal };
  };

  // One pipe: reads while the destination has room; the first of error, close or abort shuts it down once.
  class Pipe {
    // No content coding lies between the two, see `rs.passable`.
    coding = undefined;
    source;
    target;
    options;
    reader;
    writer;
    deferred = lib.p.newDeferred();
    shuttingDown = false;
    lastWrite = resolvedPromise();
    abortAlgorithm = undefined;

    constructor(source, target, options) {
      this.source = source;
      this.target = target;
      this.options = options;
      this.reader = rs.acquireReader(source);
      this.writer = ws.acquireWriter(target);
      source.disturbed = true;
    }

    run() {
      const { signal } = this.options;
      if (signal !== undefined) {
        this.abortAlgorithm = () => this.abort(lib.signalReason(signal));
        if (lib.signalAborted(signal)) {
          this.abortAlgorithm();
          return this.deferred.promise;
        }
        lib.addAbortAlgorithm(signal, this.abortAlgorithm);
      }
      this.watch();
      this.loop();
      return this.deferred.promise;
    }

    // The four conditions that end a pipe, in the specification's order, now and whenever they come true.
    watch() {
      const { options, source, target } = this;
      const sourceErrored = () => {
        const error = source.storedError;
        if (options.preventAbort) this.shutdown(undefined, true, error);
        else this.shutdown(() => ws.abort(target, error), true, error);
      };
      const targetErrored = () => {
        const error = target.storedError;
        if (options.preventCancel) this.shutdown(undefined, true, error);
        else this.shutdown(() => rs.cancel(source, error), true, error);
      };
      const sourceClosed = () => {
        if (options.preventClose) this.shutdown(undefined, false, undefined);
        else this.shutdown(() => ws.writerCloseWithErrorPropagation(this.writer), false, undefined);
      };
      if (source.state === "errored") sourceErrored();
      else upon(this.reader.closed.promise, lib.p.noop, sourceErrored);
      if (target.state === "errored") targetErrored();
      else upon(this.writer.closed.promise, lib.p.noop, targetErrored);
      if (source.state === "closed") sourceClosed();
      else upon(this.reader.closed.promise, sourceClosed, lib.p.noop);
      if (ws.closeQueuedOrInFlight(target) || target.state === "closed") {
        const error = new TypeError("The destination closed before all was piped to it");
        if (options.preventCancel) this.shutdown(undefined, true, error);
        else this.shutdown(() => rs.cancel(source, error), true, error);
      }
    }

    loop() {
      if (this.shuttingDown) return;
      const room = ws.writerDesiredSize(this.writer);
      if (room === null || room <= 0) {
        upon(this.writer.ready.promise, () => this.loop(), lib.p.noop);
        return;
      }
      rs.read(this.reader, this);
    }

    // The read request.
    chunk(value) {
      // A write may call the sink at once, and the sink may look at the source: let the read finish first.
      this.lastWrite = lib.chain(resolvedPromise(), () => {
        const written = this.writer.stream === undefined ? resolvedPromise() : ws.writerWrite(this.writer, value);
        lib.p.setHandled(written);
        this.loop();
        return written;
      });
      lib.p.setHandled(this.lastWrite);
    }
    close() {}
    error() {}

    abort(error) {
      const { options, source, target } = this;
      this.shutdown(
        () => {
          const first = options.preventAbort || target.state !== "writable" ? resolvedPromise() : ws.abort(target, error);
          const second = options.preventCancel || source.state !== "readable" ? resolvedPromise() : rs.cancel(source, error);
          lib.p.setHandled(second);
          const failed = (reason) => () => PromiseReject(reason);
          return lib.chain(first, () => second, (reason) => lib.chain(second, failed(reason), failed(reason)));
        },
        true,
        error,
      );
    }

    shutdown(action, failed, error) {
      if (this.shuttingDown) return;
      this.shuttingDown = true;
      const act = () => {
        if (action === undefined) {
          this.finalize(failed, error);
          return;
        }
        upon(action(), () => this.finalize(failed, error), (reason) => this.finalize(true, reason));
      };
      const { target } = this;
      if (target.state === "writable" && !ws.closeQueuedOrInFlight(target)) this.whenWritten(act);
      else act();
    }

    // Waits until every chunk that was read is written.
    whenWritten(then) {
      const last = this.lastWrite;
      const again = () => {
        if (last === this.lastWrite) then();
        else this.whenWritten(then);
      };
      upon(last, again, again);
    }

    finalize(failed, error) {
      ws.writerRelease(this.writer);
      rs.readerRelease(this.reader);
      const { signal } = this.options;
      if (signal !== undefined) lib.removeAbortAlgorithm(signal, this.abortAlgorithm);
      if (failed) this.deferred.reject(error);
      else this.deferred.resolve(undefined);
    }
  }

  // A body into a transform that only carries it: nothing is read before somebody looks at the other side. If that side is sent
  // as a body, native code moves it, see `rs.passable`.
  rs.pipeTo = (source, target, options) => {
    const fuses = carriesOnly(source, target, options);
    const pipe = new Pipe(source, target, options);
    if (!fuses) return pipe.run();
    target.identity.readable.fused = pipe;
    return pipe.deferred.promise;
  };

  function carriesOnly(source, target, { preventAbort, preventCancel, preventClose, signal }) {
    const { identity } = target;
    if (identity === undefined || source.native === undefined || source.disturbed || source.state !== "readable") return false;
    if (preventAbort || preventCancel || preventClose || signal !== undefined) return false;
    const { readable } = identity;
    return target.state === "writable" && target.inFlightWrite === undefined && target.writeRequests.length === 0 &&
      !ws.closeQueuedOrInFlight(target) && readable.state === "readable" && !readable.disturbed && readable.reader === undefined &&
      readable.fused === undefined;
  }

  // The feed behind a stream of which nothing was read, for a message of that content coding ("" for none); undefined if there is
  // none, or if it gives another coding.
  rs.passable = (stream, coding) => {
    const { fused } = stream;
    if (!untouched(stream) || (fused?.coding ?? "") !== coding) return undefined;
    return fused === undefined ? stream.native : fused.source?.native;
  };

  // The bytes behind it, likewise.
  rs.rawBytes = (stream, coding) => untouched(stream) && stream.fused?.coding === coding ? stream.fused.bytes : undefined;

  const untouched = (stream) => stream.state === "readable" && !stream.disturbed && stream.reader === undefined;

  // ReadableStreamTee. `clone` gives the second branch its own copy of every chunk, as a body's clone needs it.
  rs.tee = (stream, clone) => stream.controller.isByte ? teeBytes(stream) : teeDefault(stream, clone);

  function teeDefault(stream, clone) {
    const reader = rs.acquireReader(stream);
    let reading = false;
    let readAgain = false;
    const canceled = [false, false];
    const reasons = [undefined, undefined];
    const branches = [undefined, undefined];
    const cancelDeferred = lib.p.newDeferred();
    const request = {
      __proto__: null,
      chunk(value) {
        lib.queueMicrotask(() => {
          readAgain = false;
          let second = value;
          if (!canceled[1] && clone) {
            try {
              second = lib.cloneChunk(value);
            } catch (error) {
              rs.controllerError(branches[0].controller, error);
              rs.controllerError(branches[1].controller, error);
              lib.settleWith(cancelDeferred, rs.cancel(stream, error));
              return;
            }
          }
          if (!canceled[0]) rs.enqueue(branches[0].controller, value);
          if (!canceled[1]) rs.enqueue(branches[1].controller, second);
          reading = false;
          if (readAgain) pull();
        });
      },
      close() {
        reading = false;
        if (!canceled[0]) rs.controllerClose(branches[0].controller);
        if (!canceled[1]) rs.controllerClose(branches[1].controller);
        if (!canceled[0] || !canceled[1]) cancelDeferred.resolve(undefined);
      },
      error() {
        reading = false;
      },
    };
    const pull = () => {
      if (reading) {
        readAgain = true;
        return resolvedPromise();
      }
      reading = true;
      rs.read(reader, request);
      return resolvedPromise();
    };
    const cancelBranch = (i) => (reason) => {
      canceled[i] = true;
      reasons[i] = reason;
      if (canceled[1 - i]) lib.settleWith(cancelDeferred, rs.cancel(stream, [reasons[0], reasons[1]]));
      return cancelDeferred.promise;
    };
    branches[0] = rs.create(undefined, pull, cancelBranch(0));
    branches[1] = rs.create(undefined, pull, cancelBranch(1));
    upon(reader.closed.promise, lib.p.noop, (error) => {
      rs.controllerError(branches[0].controller, error);
      rs.controllerError(branches[1].controller, error);
      if (!canceled[0] || !canceled[1]) cancelDeferred.resolve(undefined);
    });
    return { __proto__: null, first: branches[0], second: branches[1] };
  }

  // ReadableByteStreamTee: reads with a default reader, or with a BYOB reader while a branch has a BYOB request.
  function teeBytes(stream) {
    let reader = rs.acquireReader(stream);
    let reading = false;
    const readAgain = [false, false];
    const canceled = [false, false];
    const reasons = [undefined, undefined];
    const branches = [undefined, undefined];
    const cancelDeferred = lib.p.newDeferred();

    const forwardError = (watched) => {
      upon(watched.closed.promise, lib.p.noop, (error) => {
        if (watched !== reader) return;
        rs.byteError(branches[0].controller, error);
        rs.byteError(branches[1].controller, error);
        if (!canceled[0] || !canceled[1]) cancelDeferred.resolve(undefined);
      });
    };
    const again = () => {
      reading = false;
      if (readAgain[0]) pull(0);
      else if (readAgain[1]) pull(1);
    };
    const copyFailed = (error) => {
      rs.byteError(branches[0].controller, error);
      rs.byteError(branches[1].controller, error);
      lib.settleWith(cancelDeferred, rs.cancel(stream, error));
    };
    const defaultRequest = {
      __proto__: null,
      chunk(value) {
        lib.queueMicrotask(() => {
          readAgain[0] = readAgain[1] = false;
          let second = value;
          if (!canceled[0] && !canceled[1]) {
            try {
              second = lib.copyBytes(value);
            } catch (error) {
              copyFailed(error);
              return;
            }
          }
          if (!canceled[0]) rs.byteEnqueue(branches[0].controller, value);
          if (!canceled[1]) rs.byteEnqueue(branches[1].controller, second);
          again();
        });
      },
      close() {
        reading = false;
        for (let i = 0; i < 2; i++) {
          if (!canceled[i]) rs.byteClose(branches[i].controller);
          if (branches[i].controller.pendingPullIntos.length > 0) rs.byobRespond(branches[i].controller, 0);
        }
        if (!canceled[0] || !canceled[1]) cancelDeferred.resolve(undefined);
      },
      error() {
        reading = false;
      },
    };
    const pullDefault = () => {
      if (reader.isByob) {
        rs.readerRelease(reader);
        reader = rs.acquireReader(stream);
        forwardError(reader);
      }
      rs.read(reader, defaultRequest);
    };
    const pullByob = (view, i) => {
      if (!reader.isByob) {
        rs.readerRelease(reader);
        reader = rs.acquireByobReader(stream);
        forwardError(reader);
      }
      const other = 1 - i;
      rs.readInto(reader, view, 1, {
        __proto__: null,
        chunk(chunk) {
          lib.queueMicrotask(() => {
            readAgain[0] = readAgain[1] = false;
            if (!canceled[other]) {
              let copy;
              try {
                copy = lib.copyBytes(chunk);
              } catch (error) {
                copyFailed(error);
                return;
              }
              if (!canceled[i]) rs.byobRespondWithNewView(branches[i].controller, chunk);
              rs.byteEnqueue(branches[other].controller, copy);
            } else if (!canceled[i]) {
              rs.byobRespondWithNewView(branches[i].controller, chunk);
            }
            again();
          });
        },
        close(chunk) {
          reading = false;
          if (!canceled[i]) rs.byteClose(branches[i].controller);
          if (!canceled[other]) rs.byteClose(branches[other].controller);
          if (chunk !== undefined) {
            if (!canceled[i]) rs.byobRespondWithNewView(branches[i].controller, chunk);
            if (!canceled[other] && branches[other].controller.pendingPullIntos.length > 0) rs.byobRespond(branches[other].controller, 0);
          }
          if (!canceled[0] || !canceled[1]) cancelDeferred.resolve(undefined);
        },
        error() {
          reading = false;
        },
      });
    };
    const pull = (i) => {
      if (reading) {
        readAgain[i] = true;
        return resolvedPromise();
      }
      reading = true;
      const request = rs.getByobRequest(branches[i].controller);
      if (request === null) pullDefault();
      else pullByob(rs.requestView(request), i);
      return resolvedPromise();
    };
    const cancelBranch = (i) => (reason) => {
      canceled[i] = true;
      reasons[i] = reason;
      if (canceled[1 - i]) lib.settleWith(cancelDeferred, rs.cancel(stream, [reasons[0], reasons[1]]));
      return cancelDeferred.promise;
    };
    branches[0] = rs.createByte(undefined, () => pull(0), cancelBranch(0));
    branches[1] = rs.createByte(undefined, () => pull(1), cancelBranch(1));
    forwardError(reader);
    return { __proto__: null, first: branches[0], second: branches[1] };
  }

  // ReadableStreamFromIterable
  rs.fromIterable = (iterable) => {
    if (iterable === null || iterable === undefined) throw new TypeError("The argument is not iterable");
    let method = iterable[SymbolAsyncIterator];
    let sync = false;
    if (method === undefined || method === null) {
      method = iterable[SymbolIterator];
      sync = true;
    }
    if (typeof method !== "function") throw new TypeError("The argument is not iterable");
    const iterator = ReflectApply(method, iterable, []);
    if (!lib.isObject(iterator)) throw new TypeError("The iterator is not an object");
    const { next } = iterator;
    const state = rs.create(
      undefined,
      () => lib.chain(promiseCall(next, iterator, []), (step) => {
        if (!lib.isObject(step)) throw new TypeError("The iterator gave something that is no object");
        if (step.done) {
          rs.controllerClose(state.controller);
          return resolvedPromise();
        }
        if (!sync) {
          rs.enqueue(state.controller, step.value);
          return resolvedPromise();
        }
        return PromisePrototypeThen(lib.toPromise(step.value), (value) => rs.enqueue(state.controller, value));
      }),
      (reason) => {
        let back;
        try {
          back = iterator.return;
        } catch (error) {
          return PromiseReject(error);
        }
        if (back === undefined || back === null) return resolvedPromise();
        return PromisePrototypeThen(promiseCall(back, iterator, [reason]), (step) => {
          if (!lib.isObject(step)) throw new TypeError("The iterator's return gave something that is no object");
        });
      },
      0,
    );
    return state;
  };

  // The async iterator of a stream: calls of next and return wait for one another.
  class StreamIterator {
    #reader;
    #preventCancel;
    #finished = false;
    #ongoing = undefined;

    constructor(reader, preventCancel) {
      this.#reader = reader;
      this.#preventCancel = preventCancel;
    }

    next() {
      if (!lib.isObject(this) || !(#reader in this)) return PromiseReject(new TypeError("Not a stream's iterator"));
      const step = () => this.#nextSteps();
      this.#ongoing = this.#ongoing === undefined ? step() : lib.chain(this.#ongoing, step, step);
      return this.#ongoing;
    }

    return(value = undefined) {
      if (!lib.isObject(this) || !(#reader in this)) return PromiseReject(new TypeError("Not a stream's iterator"));
      const step = () => this.#returnSteps(value);
      this.#ongoing = this.#ongoing === undefined ? step() : lib.chain(this.#ongoing, step, step);
      return PromisePrototypeThen(this.#ongoing, () => ({ value, done: true }));
    }

    #nextSteps() {
      if (this.#finished) return PromiseResolve({ value: undefined, done: true });
      const reader = this.#reader;
      const deferred = lib.p.newDeferred();
      rs.read(reader, {
        __proto__: null,
        chunk: (value) => deferred.resolve({ value, done: false }),
        close: () => {
          this.#finished = true;
          this.#ongoing = undefined;
          rs.readerRelease(reader);
          deferred.resolve({ value: undefined, done: true });
        },
        error: (error) => {
          this.#finished = true;
          this.#ongoing = undefined;
          rs.readerRelease(reader);
          deferred.reject(error);
        },
      });
      return deferred.promise;
    }

    #returnSteps(value) {
      if (this.#finished) return PromiseResolve({ value, done: true });
      this.#finished = true;
      const reader = this.#reader;
      if (this.#preventCancel) {
        rs.readerRelease(reader);
        return PromiseResolve({ value, done: true });
      }
      const done = rs.readerCancel(reader, value);
      rs.readerRelease(reader);
      return PromisePrototypeThen(done, () => ({ value, done: true }));
    }
  }
  const iteratorPrototype = StreamIterator.prototype;
  delete iteratorPrototype.constructor;
  ObjectSetPrototypeOf(iteratorPrototype, AsyncIteratorPrototype);
  for (const name of ["next", "return"]) {
    ObjectDefineProperty(iteratorPrototype, name, { __proto__: null, enumerable: true });
  }
  rs.newIterator = (stream, preventCancel) => new StreamIterator(rs.acquireReader(stream), preventCancel);

  // A byte stream fed by native code. `pull()` asks for one chunk; `push`, `end` or `fail` answers it.
  class NativeFeed {
    stream;
    #state;
    #pull;
    #cancel;
    #waiting = undefined;
    #over = false;
    // What native code calls it, see `rs.passable`.
    kind;
    id;

    constructor(pull, cancel, kind, id) {
      this.kind = kind;
      this.id = id;
      this.#pull = pull;
      this.#cancel = cancel;
      const state = this.#state = rs.createByte(
        undefined,
        () => {
          const deferred = this.#waiting = lib.p.newDeferred();
          (0, this.#pull)();
          return deferred.promise;
        },
        () => {
          if (!this.#over) {
            this.#over = true;
            (0, this.#cancel)();
          }
          return resolvedPromise();
        },
      );
      state.native = this;
      this.stream = rs.publicStream(state);
    }

    // Native code moves the body: nothing comes this way any more.
    give() {
      this.#over = true;
    }

    #answered() {
      const waiting = this.#waiting;
      this.#waiting = undefined;
      if (waiting !== undefined) waiting.resolve(undefined);
    }

    // A Uint8Array whose buffer is its alone.
    push(bytes) {
      if (this.#over) return;
      if (TypedArrayPrototypeGetByteLength(bytes) > 0) rs.byteEnqueue(this.#state.controller, bytes, true);
      this.#answered();
    }

    end() {
      if (this.#over) return;
      this.#over = true;
      const { controller } = this.#state;
      rs.byteClose(controller);
      if (controller.pendingPullIntos.length > 0) rs.byobRespond(controller, 0);
      this.#answered();
    }

    fail(error) {
      if (this.#over) return;
      this.#over = true;
      rs.byteError(this.#state.controller, error);
      this.#answered();
    }
  }
  lib.nativeStream = (pull, cancel, kind, id) => new NativeFeed(pull, cancel, kind, id);

  // A lock on a stream for the runtime's own reading.
  class InternalReader {
    #reader;
    constructor(stream) {
      this.#reader = rs.acquireReader(rs.stateOf(stream));
    }
    read() {
      return rs.readPromise(this.#reader);
    }
    cancel(reason) {
      return rs.readerCancel(this.#reader, reason);
    }
  }
  lib.streamReader = (stream) => new InternalReader(stream);

  // Reads all of a stream into one Uint8Array. Fails with TypeError on a chunk that is no Uint8Array.
  lib.readAllBytes = (reader, convert) => {
    const deferred = lib.p.newDeferred();
    const chunks = [];
    let total = 0;
    const request = {
      __proto__: null,
      chunk(value) {
        if (!lib.isUint8Array(value)) {
          const error = new TypeError("A chunk of the body is not a Uint8Array");
          lib.p.setHandled(rs.readerCancel(reader, error));
          deferred.reject(error);
          return;
        }
        lib.p.ArrayPrototypePush(chunks, value);
        total += TypedArrayPrototypeGetByteLength(value);
        next();
      },
      close() {
        // The bytes themselves fulfil no promise: a program's `Object.prototype.then` would be asked what they are.
        try {
          deferred.resolve(convert(concat(chunks, total)));
        } catch (error) {
          deferred.reject(error);
        }
      },
      error: deferred.reject,
    };
    // A stream that has its chunks at hand would recurse once per chunk: the loop takes those without recursion.
    let busy = false;
    let more = false;
    const next = () => {
      if (busy) {
        more = true;
        return;
      }
      busy = true;
      do {
        more = false;
        rs.read(reader, request);
      } while (more);
      busy = false;
    };
    next();
    return deferred.promise;
  };

  function concat(chunks, total) {
    const bytes = new Uint8Array(total);
    let at = 0;
    for (let i = 0; i < chunks.length; i++) {
      lib.p.TypedArrayPrototypeSet(bytes, chunks[i], at);
      at += TypedArrayPrototypeGetByteLength(chunks[i]);
    }
    return bytes;
  }
  lib.concatBytes = concat;
})
