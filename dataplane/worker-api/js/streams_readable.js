// ReadableStream with its default controller and default reader (Streams section 4).
//
// Each public object holds one private field, its state object; the algorithms work on state objects, which no tenant
// ever sees. A state refers to its public object only where a user's function must be given it.
// Owns: `lib.rs` (the algorithms), the public classes `ReadableStream`, `ReadableStreamDefaultReader`,
// `ReadableStreamDefaultController`. Byte controllers are in streams_byte.js, tee/from/iteration in streams_ops.js.
(function (ops, lib) {
  "use strict";
  const { PromiseReject, RangeError, TypeError } = lib.p;
  const { Fifo, LazyPromise, SizedQueue, defineInterface, dictionary, promiseCall, requireArgs, resolvedPromise, upon } = lib;
  const rs = { __proto__: null };
  lib.rs = rs;

  class StreamState {
    state = "readable";
    reader = undefined;
    storedError = undefined;
    disturbed = false;
    controller = undefined;
    object = undefined;
    // Bytes in all, where the maker promised them (FixedLengthStream); -1 if not.
    promisedLength = -1;
    // The feed of a body that native code holds.
    native = undefined;
    // The pipe into the transform whose readable side this is, where it does nothing but carry bytes and has not begun; or the
    // decoder of a content coding that has not begun.
    fused = undefined;
  }

  class DefaultController {
    isByte = false;
    stream = undefined;
    queue = new SizedQueue();
    started = false;
    closeRequested = false;
    pullAgain = false;
    pulling = false;
    highWaterMark = 1;
    size = undefined;
    pull = undefined;
    cancel = undefined;
    object = undefined;

    // [[CancelSteps]]
    cancelSteps(reason) {
      this.queue.clear();
      const { cancel } = this;
      clearAlgorithms(this);
      return cancel === undefined ? resolvedPromise() : cancel(reason);
    }

    // [[PullSteps]]
    pullSteps(request) {
      const { stream } = this;
      if (this.queue.length > 0) {
        const chunk = this.queue.shift();
        if (this.closeRequested && this.queue.length === 0) {
          clearAlgorithms(this);
          rs.close(stream);
        } else {
          callPullIfNeeded(this);
        }
        request.chunk(chunk);
      } else {
        stream.reader.requests.push(request);
        callPullIfNeeded(this);
      }
    }

    releaseSteps() {}
  }

  class DefaultReader {
    isByob = false;
    stream = undefined;
    closed = new LazyPromise();
    requests = new Fifo();
  }

  // A read request whose result is a promise of { value, done }.
  class PromiseRequest {
    deferred = lib.p.newDeferred();
    chunk(value) {
      this.deferred.resolve({ value, done: false });
    }
    close() {
      this.deferred.resolve({ value: undefined, done: true });
    }
    error(error) {
      this.deferred.reject(error);
    }
  }

  function clearAlgorithms(controller) {
    controller.pull = undefined;
    controller.cancel = undefined;
    controller.size = undefined;
  }

  rs.StreamState = StreamState;
  rs.isLocked = (stream) => stream.reader !== undefined;

  // ReadableStreamClose
  rs.close = (stream) => {
    stream.state = "closed";
    const { reader } = stream;
    if (reader === undefined) return;
    reader.closed.resolve();
    if (!reader.isByob) {
      const { requests } = reader;
      reader.requests = new Fifo();
      while (requests.length > 0) requests.shift().close();
    }
  };

  // ReadableStreamError
  rs.error = (stream, error) => {
    stream.state = "errored";
    stream.storedError = error;
    const { reader } = stream;
    if (reader === undefined) return;
    reader.closed.reject(error);
    const { requests } = reader;
    reader.requests = new Fifo();
    while (requests.length > 0) requests.shift().error(error);
  };

  // ReadableStreamCancel
  rs.cancel = (stream, reason) => {
    if (stream.fused !== undefined) unfuse(stream);
    stream.disturbed = true;
    if (stream.state === "closed") return resolvedPromise();
    if (stream.state === "errored") return PromiseReject(stream.storedError);
    rs.close(stream);
    const { reader } = stream;
    if (reader !== undefined && reader.isByob) {
      const { requests } = reader;
      reader.requests = new Fifo();
      while (requests.length > 0) requests.shift().close(undefined);
    }
    return lib.p.PromisePrototypeThen(stream.controller.cancelSteps(reason), lib.p.noop);
  };

  rs.fulfillReadRequest = (stream, chunk, done) => {
    const request = stream.reader.requests.shift();
    if (done) request.close();
    else request.chunk(chunk);
  };

  rs.hasDefaultReader = (stream) => stream.reader !== undefined && !stream.reader.isByob;

  // Somebody looks at what comes out of a pipe that has not begun: it begins.
  function unfuse(stream) {
    const pipe = stream.fused;
    stream.fused = undefined;
    pipe.run();
  }

  // Reader algorithms.
  rs.initReader = (reader, stream) => {
    if (stream.fused !== undefined) unfuse(stream);
    reader.stream = stream;
    stream.reader = reader;
    if (stream.state === "closed") reader.closed.resolve();
    else if (stream.state === "errored") reader.closed.reject(stream.storedError);
  };

  // AcquireReadableStreamDefaultReader, without its public object.
  rs.acquireReader = (stream) => {
    if (stream.reader !== undefined) throw new TypeError("The ReadableStream is locked to a reader");
    const reader = new DefaultReader();
    rs.initReader(reader, stream);
    return reader;
  };

  rs.readerCancel = (reader, reason) => rs.cancel(reader.stream, reason);

  rs.readerGenericRelease = (reader) => {
    const { stream } = reader;
    const error = new TypeError("The reader was released");
    if (stream.state === "readable") {
      reader.closed.reject(error);
    } else {
      reader.closed = new LazyPromise();
      reader.closed.reject(error);
    }
    stream.controller.releaseSteps();
    stream.reader = undefined;
    reader.stream = undefined;
  };

  // ReadableStreamDefaultReaderRelease, and the BYOB one.
  rs.readerRelease = (reader) => {
    rs.readerGenericRelease(reader);
    const error = new TypeError("The reader was released");
    const { requests } = reader;
    reader.requests = new Fifo();
    while (requests.length > 0) requests.shift().error(error);
  };

  // ReadableStreamDefaultReaderRead. A request has chunk(value), close() and error(error).
  rs.read = (reader, request) => {
    const { stream } = reader;
    stream.disturbed = true;
    if (stream.state === "closed") request.close();
    else if (stream.state === "errored") request.error(stream.storedError);
    else stream.controller.pullSteps(request);
  };

  rs.readPromise = (reader) => {
    if (reader.stream === undefined) return PromiseReject(new TypeError("The reader was released"));
    const request = new PromiseRequest();
    rs.read(reader, request);
    return request.deferred.promise;
  };

  // Default controller algorithms.
  function shouldCallPull(controller) {
    const { stream } = controller;
    if (!canCloseOrEnqueue(controller) || !controller.started) return false;
    if (rs.hasDefaultReader(stream) && stream.reader.requests.length > 0) return true;
    return rs.desiredSize(controller) > 0;
  }

  function callPullIfNeeded(controller) {
    if (!shouldCallPull(controller)) return;
    if (controller.pulling) {
      controller.pullAgain = true;
      return;
    }
    controller.pulling = true;
    const promise = controller.pull === undefined ? resolvedPromise() : controller.pull();
    upon(
      promise,
      () => {
        controller.pulling = false;
        if (controller.pullAgain) {
          controller.pullAgain = false;
          callPullIfNeeded(controller);
        }
      },
      (error) => rs.controllerError(controller, error),
    );
  }
  rs.callPullIfNeeded = callPullIfNeeded;

  function canCloseOrEnqueue(controller) {
    return !controller.closeRequested && controller.stream.state === "readable";
  }
  rs.canCloseOrEnqueue = canCloseOrEnqueue;

  rs.desiredSize = (controller) => {
    const { state } = controller.stream;
    if (state === "errored") return null;
    if (state === "closed") return 0;
    return controller.highWaterMark - controller.queue.total;
  };

  rs.hasBackpressure = (controller) => !shouldCallPull(controller);

  rs.controllerClose = (controller) => {
    if (!canCloseOrEnqueue(controller)) return;
    controller.closeRequested = true;
    if (controller.queue.length === 0) {
      clearAlgorithms(controller);
      rs.close(controller.stream);
    }
  };

  rs.enqueue = (controller, chunk) => {
    if (!canCloseOrEnqueue(controller)) return;
    const { stream } = controller;
    if (rs.hasDefaultReader(stream) && stream.reader.requests.length > 0) {
      rs.fulfillReadRequest(stream, chunk, false);
    } else {
      try {
        const size = controller.size === undefined ? 1 : (0, controller.size)(chunk);
        controller.queue.push(chunk, size);
      } catch (error) {
        rs.controllerError(controller, error);
        throw error;
      }
    }
    callPullIfNeeded(controller);
  };

  rs.controllerError = (controller, error) => {
    const { stream } = controller;
    if (stream.state !== "readable") return;
    controller.queue.clear();
    clearAlgorithms(controller);
    rs.error(stream, error);
  };

  // SetUpReadableStreamDefaultController. `start` may be undefined; `pull` and `cancel` give promises.
  rs.setUpDefault = (stream, start, pull, cancel, highWaterMark, size) => {
    const controller = new DefaultController();
    controller.stream = stream;
    controller.highWaterMark = highWaterMark;
    controller.size = size;
    controller.pull = pull;
    controller.cancel = cancel;
    stream.controller = controller;
    const started = start === undefined ? undefined : start(controller);
    upon(
      lib.toPromise(started),
      () => {
        controller.started = true;
        callPullIfNeeded(controller);
      },
      (error) => rs.controllerError(controller, error),
    );
    return controller;
  };

  // CreateReadableStream: for the runtime's own streams.
  rs.create = (start, pull, cancel, highWaterMark = 1, size = undefined) => {
    const stream = new StreamState();
    rs.setUpDefault(stream, start, pull, cancel, highWaterMark, size);
    return stream;
  };

  // A stream whose content has gone elsewhere: locked, disturbed, never readable again.
  rs.spent = () => {
    const stream = rs.create(undefined, undefined, undefined, 0);
    stream.disturbed = true;
    rs.acquireReader(stream);
    return stream;
  };

  // The public object of a state.
  rs.publicStream = (stream) => stream.object ??= new ReadableStream(lib.internal, stream);
  rs.publicController = (controller) => controller.object ??= controller.isByte
    ? rs.newByteControllerObject(controller)
    : new ReadableStreamDefaultController(lib.internal, controller);

  class ReadableStream {
    #state;

    constructor(source = undefined, strategy = undefined) {
      if (source === lib.internal) {
        this.#state = strategy;
        return;
      }
      const stream = new StreamState();
      stream.object = this;
      this.#state = stream;
      if (source === undefined) source = {};
      else if (!lib.isObject(source)) throw new TypeError("The underlying source is not an object");
      const options = dictionary(strategy, "The queuing strategy");
      // Members in the order in which Web IDL converts the two dictionaries: strategy, then source by name.
      const mark = options.highWaterMark;
      const sizer = options.size;
      const { autoAllocateChunkSize, cancel, pull, start, type } = source;
      lib.callback(cancel, "The source's cancel");
      lib.callback(pull, "The source's pull");
      lib.callback(start, "The source's start");
      const given = { __proto__: null, highWaterMark: mark, size: sizer };
      const startSteps = start === undefined ? undefined : (c) => lib.p.ReflectApply(start, source, [rs.publicController(c)]);
      const cancelSteps = cancel === undefined ? undefined : (reason) => promiseCall(cancel, source, [reason]);
      let controller;
      const pullSteps = pull === undefined ? undefined : () => promiseCall(pull, source, [rs.publicController(controller)]);
      const begin = (c) => {
        controller = c;
        return startSteps === undefined ? undefined : startSteps(c);
      };
      if (type !== undefined && lib.domString(type) === "bytes") {
        if (sizer !== undefined) throw new RangeError("A byte stream's strategy has no size");
        rs.setUpByte(stream, begin, pullSteps, cancelSteps, lib.highWaterMark(given, 0), autoAllocate(autoAllocateChunkSize));
      } else if (type !== undefined) {
        throw new TypeError("The source's type is not 'bytes'");
      } else {
        const size = lib.sizeAlgorithm(given);
        rs.setUpDefault(stream, begin, pullSteps, cancelSteps, lib.highWaterMark(given, 1), size);
      }
    }

    static from(asyncIterable) {
      requireArgs(arguments.length, 1, "ReadableStream.from");
      return rs.publicStream(rs.fromIterable(asyncIterable));
    }

    get locked() {
      return rs.isLocked(this.#state);
    }

    cancel(reason = undefined) {
      if (!lib.isReadableStream(this)) return PromiseReject(new TypeError("Not a ReadableStream"));
      if (rs.isLocked(this.#state)) return PromiseReject(new TypeError("The ReadableStream is locked to a reader"));
      return rs.cancel(this.#state, reason);
    }

    getReader(options = undefined) {
      const { mode } = dictionary(options, "The reader's options");
      if (mode === undefined) return new ReadableStreamDefaultReader(this);
      if (lib.domString(mode) !== "byob") throw new TypeError("The reader's mode is not 'byob'");
      this.#state;
      return rs.newByobReader(this);
    }

    pipeThrough(transform, options = undefined) {
      requireArgs(arguments.length, 1, "pipeThrough");
      const source = this.#state;
      const { readable, writable } = dictionary(transform, "The transform");
      if (!lib.isReadableStream(readable)) throw new TypeError("The transform's readable is not a ReadableStream");
      if (!lib.isWritableStream(writable)) throw new TypeError("The transform's writable is not a WritableStream");
      const pipe = rs.pipeOptions(options);
      const target = lib.ws.stateOf(writable);
      if (rs.isLocked(source)) throw new TypeError("The ReadableStream is locked to a reader");
      if (lib.ws.isLocked(target)) throw new TypeError("The WritableStream is locked to a writer");
      lib.p.setHandled(rs.pipeTo(source, target, pipe));
      return readable;
    }

    pipeTo(destination, options = undefined) {
      if (!lib.isReadableStream(this)) return PromiseReject(new TypeError("Not a ReadableStream"));
      let pipe;
      try {
        requireArgs(arguments.length, 1, "pipeTo");
        if (!lib.isWritableStream(destination)) throw new TypeError("The destination is not a WritableStream");
        pipe = rs.pipeOptions(options);
      } catch (error) {
        return PromiseReject(error);
      }
      const target = lib.ws.stateOf(destination);
      if (rs.isLocked(this.#state)) return PromiseReject(new TypeError("The ReadableStream is locked to a reader"));
      if (lib.ws.isLocked(target)) return PromiseReject(new TypeError("The WritableStream is locked to a writer"));
      return rs.pipeTo(this.#state, target, pipe);
    }

    tee() {
      const branches = rs.tee(this.#state, false);
      return [rs.publicStream(branches.first), rs.publicStream(branches.second)];
    }

    values(options = undefined) {
      const { preventCancel } = dictionary(options, "The iterator's options");
      return rs.newIterator(this.#state, !!preventCancel);
    }

    static {
      lib.isReadableStream = (value) => lib.isObject(value) && #state in value;
      rs.stateOf = (stream) => stream.#state;
      // Gives a stream to a new owner under a new object; the old object is locked and disturbed from now on.
      rs.moveStream = (stream) => {
        const state = stream.#state;
        stream.#state = rs.spent();
        stream.#state.object = stream;
        state.object = undefined;
        return rs.publicStream(state);
      };
    }
  }

  function autoAllocate(value) {
    if (value === undefined) return undefined;
    const size = lib.enforceRange(value, 0, 9007199254740991, "autoAllocateChunkSize");
    if (size === 0) throw new TypeError("autoAllocateChunkSize is 0");
    return size;
  }
  defineInterface(ReadableStream, "ReadableStream");
  lib.p.ObjectDefineProperty(ReadableStream.prototype, lib.p.SymbolAsyncIterator, {
    __proto__: null, value: ReadableStream.prototype.values, writable: true, configurable: true, enumerable: false,
  });
  lib.ReadableStream = ReadableStream;

  class ReadableStreamDefaultReader {
    #reader;
    constructor(stream) {
      requireArgs(arguments.length, 1, "ReadableStreamDefaultReader");
      if (!lib.isReadableStream(stream)) throw new TypeError("The argument is not a ReadableStream");
      this.#reader = rs.acquireReader(rs.stateOf(stream));
    }
    get closed() {
      if (!lib.isObject(this) || !(#reader in this)) return PromiseReject(new TypeError("Not a ReadableStreamDefaultReader"));
      return this.#reader.closed.promise;
    }
    cancel(reason = undefined) {
      if (!lib.isObject(this) || !(#reader in this)) return PromiseReject(new TypeError("Not a ReadableStreamDefaultReader"));
      if (this.#reader.stream === undefined) return PromiseReject(new TypeError("The reader was released"));
      return rs.readerCancel(this.#reader, reason);
    }
    read() {
      if (!lib.isObject(this) || !(#reader in this)) return PromiseReject(new TypeError("Not a ReadableStreamDefaultReader"));
      return rs.readPromise(this.#reader);
    }
    releaseLock() {
      if (this.#reader.stream !== undefined) rs.readerRelease(this.#reader);
    }
  }
  defineInterface(ReadableStreamDefaultReader, "ReadableStreamDefaultReader");

  class ReadableStreamDefaultController {
    #controller;
    constructor(token = undefined, controller = undefined) {
      if (token !== lib.internal) throw lib.illegalConstructor();
      this.#controller = controller;
    }
    get desiredSize() {
      return rs.desiredSize(this.#controller);
    }
    close() {
      if (!canCloseOrEnqueue(this.#controller)) throw new TypeError("The stream cannot be closed: it is closed, closing or errored");
      rs.controllerClose(this.#controller);
    }
    enqueue(chunk = undefined) {
      if (!canCloseOrEnqueue(this.#controller)) throw new TypeError("The stream takes no chunk: it is closed, closing or errored");
      rs.enqueue(this.#controller, chunk);
    }
    error(error = undefined) {
      rs.controllerError(this.#controller, error);
    }
  }
  defineInterface(ReadableStreamDefaultController, "ReadableStreamDefaultController");
})
