// WritableStream, its controller and its writer (Streams section 5).
//
// Owns `lib.ws` (the algorithms on state objects) and the three public classes.
(function (ops, lib) {
  "use strict";
  const { PromiseReject, RangeError, ReflectApply, TypeError } = lib.p;
  const { Fifo, LazyPromise, SizedQueue, defineInterface, dictionary, promiseCall, requireArgs, resolvedPromise, upon } = lib;
  const ws = { __proto__: null };
  lib.ws = ws;

  const CLOSE = Symbol("close");

  class StreamState {
    state = "writable";
    storedError = undefined;
    writer = undefined;
    controller = undefined;
    writeRequests = new Fifo();
    inFlightWrite = undefined;
    closeRequest = undefined;
    inFlightClose = undefined;
    pendingAbort = undefined;
    backpressure = false;
    object = undefined;
    // The transform whose writable side this is, where it gives out what it takes in.
    identity = undefined;
  }

  class Controller {
    stream = undefined;
    queue = new SizedQueue();
    started = false;
    highWaterMark = 1;
    size = undefined;
    write = undefined;
    close = undefined;
    abort = undefined;
    abortController = undefined;
    abortReason = undefined;
    object = undefined;
  }

  class Writer {
    stream = undefined;
    ready = new LazyPromise();
    closed = new LazyPromise();
  }

  ws.StreamState = StreamState;
  ws.isLocked = (stream) => stream.writer !== undefined;

  // Stream algorithms.
  ws.abort = (stream, reason) => {
    if (stream.state === "closed" || stream.state === "errored") return resolvedPromise();
    if (stream.controller.abortController !== undefined) {
      lib.abortSignal(stream.controller.abortController.signal, reason);
    } else {
      stream.controller.abortReason = { __proto__: null, reason };
    }
    const { state } = stream;
    if (state === "closed" || state === "errored") return resolvedPromise();
    if (stream.pendingAbort !== undefined) return stream.pendingAbort.deferred.promise;
    let wasErroring = false;
    if (state === "erroring") {
      wasErroring = true;
      reason = undefined;
    }
    const deferred = lib.p.newDeferred();
    stream.pendingAbort = { __proto__: null, deferred, reason, wasErroring };
    if (!wasErroring) startErroring(stream, reason);
    return deferred.promise;
  };

  ws.close = (stream) => {
    const { state } = stream;
    if (state === "closed" || state === "errored") return PromiseReject(new TypeError("The stream is closed or errored"));
    const deferred = lib.p.newDeferred();
    stream.closeRequest = deferred;
    const { writer } = stream;
    if (writer !== undefined && stream.backpressure && state === "writable") writer.ready.resolve();
    const { controller } = stream;
    controller.queue.push(CLOSE, 0);
    advance(controller);
    return deferred.promise;
  };

  ws.closeQueuedOrInFlight = (stream) => stream.closeRequest !== undefined || stream.inFlightClose !== undefined;

  function dealWithRejection(stream, error) {
    if (stream.state === "writable") startErroring(stream, error);
    else finishErroring(stream);
  }

  function startErroring(stream, reason) {
    const { controller, writer } = stream;
    stream.state = "erroring";
    stream.storedError = reason;
    if (writer !== undefined) ensureReadyRejected(writer, reason);
    if (stream.inFlightWrite === undefined && stream.inFlightClose === undefined && controller.started) finishErroring(stream);
  }

  function finishErroring(stream) {
    stream.state = "errored";
    stream.controller.queue.clear();
    const error = stream.storedError;
    while (stream.writeRequests.length > 0) stream.writeRequests.shift().reject(error);
    const pending = stream.pendingAbort;
    if (pending === undefined) {
      rejectCloseAndClosed(stream);
      return;
    }
    stream.pendingAbort = undefined;
    if (pending.wasErroring) {
      pending.deferred.reject(error);
      rejectCloseAndClosed(stream);
      return;
    }
    const { controller } = stream;
    const { abort } = controller;
    clearAlgorithms(controller);
    upon(
      abort === undefined ? resolvedPromise() : abort(pending.reason),
      () => {
        pending.deferred.resolve(undefined);
        rejectCloseAndClosed(stream);
      },
      (reason) => {
        pending.deferred.reject(reason);
        rejectCloseAndClosed(stream);
      },
    );
  }

  function rejectCloseAndClosed(stream) {
    if (stream.closeRequest !== undefined) {
      stream.closeRequest.reject(stream.storedError);
      stream.closeRequest = undefined;
    }
    if (stream.writer !== undefined) stream.writer.closed.reject(stream.storedError);
  }

  function finishInFlightClose(stream) {
    stream.inFlightClose.resolve(undefined);
    stream.inFlightClose = undefined;
    if (stream.state === "erroring") {
      stream.storedError = undefined;
      if (stream.pendingAbort !== undefined) {
        stream.pendingAbort.deferred.resolve(undefined);
        stream.pendingAbort = undefined;
      }
    }
    stream.state = "closed";
    if (stream.writer !== undefined) stream.writer.closed.resolve();
  }

  function updateBackpressure(stream, backpressure) {
    const { writer } = stream;
    if (writer !== undefined && backpressure !== stream.backpressure) {
      if (backpressure) writer.ready = new LazyPromise();
      else writer.ready.resolve();
    }
    stream.backpressure = backpressure;
  }

  // Writer algorithms.
  ws.acquireWriter = (stream) => {
    if (stream.writer !== undefined) throw new TypeError("The WritableStream is locked to a writer");
    const writer = new Writer();
    writer.stream = stream;
    stream.writer = writer;
    const { state } = stream;
    if (state === "writable") {
      if (ws.closeQueuedOrInFlight(stream) || !stream.backpressure) writer.ready.resolve();
    } else if (state === "erroring") {
      writer.ready.reject(stream.storedError);
    } else if (state === "closed") {
      writer.ready.resolve();
      writer.closed.resolve();
    } else {
      writer.ready.reject(stream.storedError);
      writer.closed.reject(stream.storedError);
    }
    return writer;
  };

  function ensureReadyRejected(writer, error) {
    if (!writer.ready.pending) writer.ready = new LazyPromise();
    writer.ready.reject(error);
  }

  function ensureClosedRejected(writer, error) {
    if (!writer.closed.pending) writer.closed = new LazyPromise();
    writer.closed.reject(error);
  }

  ws.writerDesiredSize = (writer) => {
    const { stream } = writer;
    if (stream.state === "errored" || stream.state === "erroring") return null;
    if (stream.state === "closed") return 0;
    return desiredSize(stream.controller);
  };

  ws.writerRelease = (writer) => {
    const { stream } = writer;
    const error = new TypeError("The writer was released");
    ensureReadyRejected(writer, error);
    ensureClosedRejected(writer, error);
    stream.writer = undefined;
    writer.stream = undefined;
  };

  ws.writerWrite = (writer, chunk) => {
    const { stream } = writer;
    const { controller } = stream;
    const size = chunkSize(controller, chunk);
    if (stream !== writer.stream) return PromiseReject(new TypeError("The writer was released"));
    const { state } = stream;
    if (state === "errored") return PromiseReject(stream.storedError);
    if (ws.closeQueuedOrInFlight(stream) || state === "closed") return PromiseReject(new TypeError("The stream is closing or closed"));
    if (state === "erroring") return PromiseReject(stream.storedError);
    const deferred = lib.p.newDeferred();
    stream.writeRequests.push(deferred);
    controllerWrite(controller, chunk, size);
    return deferred.promise;
  };

  ws.writerCloseWithErrorPropagation = (writer) => {
    const { stream } = writer;
    const { state } = stream;
    if (ws.closeQueuedOrInFlight(stream) || state === "closed") return resolvedPromise();
    if (state === "errored") return PromiseReject(stream.storedError);
    return ws.close(stream);
  };

  // Controller algorithms.
  function clearAlgorithms(controller) {
    controller.write = undefined;
    controller.close = undefined;
    controller.abort = undefined;
    controller.size = undefined;
  }

  function desiredSize(controller) {
    return controller.highWaterMark - controller.queue.total;
  }

  function hasBackpressure(controller) {
    return desiredSize(controller) <= 0;
  }

  function chunkSize(controller, chunk) {
    if (controller.size === undefined) return 1;
    try {
      return (0, controller.size)(chunk);
    } catch (error) {
      errorIfNeeded(controller, error);
      return 1;
    }
  }

  function controllerWrite(controller, chunk, size) {
    try {
      controller.queue.push(chunk, size);
    } catch (error) {
      errorIfNeeded(controller, error);
      return;
    }
    const { stream } = controller;
    if (!ws.closeQueuedOrInFlight(stream) && stream.state === "writable") updateBackpressure(stream, hasBackpressure(controller));
    advance(controller);
  }

  function errorIfNeeded(controller, error) {
    if (controller.stream.state === "writable") ws.controllerError(controller, error);
  }
  ws.errorIfNeeded = errorIfNeeded;

  ws.controllerError = (controller, error) => {
    clearAlgorithms(controller);
    startErroring(controller.stream, error);
  };

  function advance(controller) {
    const { stream } = controller;
    if (!controller.started || stream.inFlightWrite !== undefined) return;
    if (stream.state === "erroring") {
      finishErroring(stream);
      return;
    }
    if (stream.state !== "writable" || controller.queue.length === 0) return;
    const chunk = controller.queue.peek();
    if (chunk === CLOSE) processClose(controller);
    else processWrite(controller, chunk);
  }

  function processClose(controller) {
    const { stream } = controller;
    stream.inFlightClose = stream.closeRequest;
    stream.closeRequest = undefined;
    controller.queue.shift();
    const { close } = controller;
    const promise = close === undefined ? resolvedPromise() : close();
    clearAlgorithms(controller);
    upon(
      promise,
      () => finishInFlightClose(stream),
      (reason) => {
        stream.inFlightClose.reject(reason);
        stream.inFlightClose = undefined;
        if (stream.pendingAbort !== undefined) {
          stream.pendingAbort.deferred.reject(reason);
          stream.pendingAbort = undefined;
        }
        dealWithRejection(stream, reason);
      },
    );
  }

  function processWrite(controller, chunk) {
    const { stream } = controller;
    stream.inFlightWrite = stream.writeRequests.shift();
    const promise = controller.write === undefined ? resolvedPromise() : controller.write(chunk);
    upon(
      promise,
      () => {
        stream.inFlightWrite.resolve(undefined);
        stream.inFlightWrite = undefined;
        controller.queue.shift();
        if (!ws.closeQueuedOrInFlight(stream) && stream.state === "writable") updateBackpressure(stream, hasBackpressure(controller));
        advance(controller);
      },
      (reason) => {
        if (stream.state === "writable") clearAlgorithms(controller);
        stream.inFlightWrite.reject(reason);
        stream.inFlightWrite = undefined;
        dealWithRejection(stream, reason);
      },
    );
  }

  // SetUpWritableStreamDefaultController. `write`, `close` and `abort` give promises; all may be undefined.
  ws.setUp = (stream, start, write, close, abort, highWaterMark, size) => {
    const controller = new Controller();
    controller.stream = stream;
    stream.controller = controller;
    controller.highWaterMark = highWaterMark;
    controller.size = size;
    controller.write = write;
    controller.close = close;
    controller.abort = abort;
    updateBackpressure(stream, hasBackpressure(controller));
    const started = start === undefined ? undefined : start(controller);
    upon(
      lib.toPromise(started),
      () => {
        controller.started = true;
        advance(controller);
      },
      (reason) => {
        controller.started = true;
        dealWithRejection(stream, reason);
      },
    );
    return controller;
  };

  // CreateWritableStream: for the runtime's own streams.
  ws.create = (start, write, close, abort, highWaterMark = 1, size = undefined) => {
    const stream = new StreamState();
    ws.setUp(stream, start, write, close, abort, highWaterMark, size);
    return stream;
  };

  ws.publicStream = (stream) => stream.object ??= new WritableStream(lib.internal, stream);
  const publicController = (controller) => controller.object ??= new WritableStreamDefaultController(lib.internal, controller);

  class WritableStream {
    #state;
    constructor(sink = undefined, strategy = undefined) {
      if (sink === lib.internal) {
        this.#state = strategy;
        return;
      }
      const stream = new StreamState();
      stream.object = this;
      this.#state = stream;
      if (sink === undefined) sink = {};
      else if (!lib.isObject(sink)) throw new TypeError("The underlying sink is not an object");
      const options = dictionary(strategy, "The queuing strategy");
      const given = { __proto__: null, highWaterMark: options.highWaterMark, size: options.size };
      const { abort, close, start, type, write } = sink;
      lib.callback(abort, "The sink's abort");
      lib.callback(close, "The sink's close");
      lib.callback(start, "The sink's start");
      lib.callback(write, "The sink's write");
      if (type !== undefined) throw new RangeError("The sink has a type");
      const size = lib.sizeAlgorithm(given);
      const highWaterMark = lib.highWaterMark(given, 1);
      let controller;
      ws.setUp(
        stream,
        (c) => {
          controller = c;
          return start === undefined ? undefined : ReflectApply(start, sink, [publicController(c)]);
        },
        write === undefined ? undefined : (chunk) => promiseCall(write, sink, [chunk, publicController(controller)]),
        close === undefined ? undefined : () => promiseCall(close, sink, []),
        abort === undefined ? undefined : (reason) => promiseCall(abort, sink, [reason]),
        highWaterMark,
        size,
      );
    }
    get locked() {
      return ws.isLocked(this.#state);
    }
    abort(reason = undefined) {
      if (!lib.isWritableStream(this)) return PromiseReject(new TypeError("Not a WritableStream"));
      if (ws.isLocked(this.#state)) return PromiseReject(new TypeError("The WritableStream is locked to a writer"));
      return ws.abort(this.#state, reason);
    }
    close() {
      if (!lib.isWritableStream(this)) return PromiseReject(new TypeError("Not a WritableStream"));
      if (ws.isLocked(this.#state)) return PromiseReject(new TypeError("The WritableStream is locked to a writer"));
      if (ws.closeQueuedOrInFlight(this.#state)) return PromiseReject(new TypeError("The WritableStream is closing already"));
      return ws.close(this.#state);
    }
    getWriter() {
      this.#state;
      return new WritableStreamDefaultWriter(this);
    }
    static {
      lib.isWritableStream = (value) => lib.isObject(value) && #state in value;
      ws.stateOf = (stream) => stream.#state;
    }
  }
  defineInterface(WritableStream, "WritableStream");
  lib.WritableStream = WritableStream;

  class WritableStreamDefaultWriter {
    #writer;
    constructor(stream) {
      requireArgs(arguments.length, 1, "WritableStreamDefaultWriter");
      if (!lib.isWritableStream(stream)) throw new TypeError("The argument is not a WritableStream");
      this.#writer = ws.acquireWriter(ws.stateOf(stream));
    }
    get closed() {
      if (!lib.isObject(this) || !(#writer in this)) return PromiseReject(new TypeError("Not a WritableStreamDefaultWriter"));
      return this.#writer.closed.promise;
    }
    get desiredSize() {
      const writer = this.#writer;
      if (writer.stream === undefined) throw new TypeError("The writer was released");
      return ws.writerDesiredSize(writer);
    }
    get ready() {
      if (!lib.isObject(this) || !(#writer in this)) return PromiseReject(new TypeError("Not a WritableStreamDefaultWriter"));
      return this.#writer.ready.promise;
    }
    abort(reason = undefined) {
      if (!lib.isObject(this) || !(#writer in this)) return PromiseReject(new TypeError("Not a WritableStreamDefaultWriter"));
      const { stream } = this.#writer;
      if (stream === undefined) return PromiseReject(new TypeError("The writer was released"));
      return ws.abort(stream, reason);
    }
    close() {
      if (!lib.isObject(this) || !(#writer in this)) return PromiseReject(new TypeError("Not a WritableStreamDefaultWriter"));
      const { stream } = this.#writer;
      if (stream === undefined) return PromiseReject(new TypeError("The writer was released"));
      if (ws.closeQueuedOrInFlight(stream)) return PromiseReject(new TypeError("The WritableStream is closing already"));
      return ws.close(stream);
    }
    releaseLock() {
      if (this.#writer.stream !== undefined) ws.writerRelease(this.#writer);
    }
    write(chunk = undefined) {
      if (!lib.isObject(this) || !(#writer in this)) return PromiseReject(new TypeError("Not a WritableStreamDefaultWriter"));
      if (this.#writer.stream === undefined) return PromiseReject(new TypeError("The writer was released"));
      return ws.writerWrite(this.#writer, chunk);
    }
  }
  defineInterface(WritableStreamDefaultWriter, "WritableStreamDefaultWriter");

  class WritableStreamDefaultController {
    #controller;
    constructor(token = undefined, controller = undefined) {
      if (token !== lib.internal) throw lib.illegalConstructor();
      this.#controller = controller;
    }
    get signal() {
      const controller = this.#controller;
      if (controller.abortController === undefined) {
        controller.abortController = new lib.AbortController();
        if (controller.abortReason !== undefined) lib.abortSignal(controller.abortController.signal, controller.abortReason.reason);
      }
      return controller.abortController.signal;
    }
    error(error = undefined) {
      const controller = this.#controller;
      if (controller.stream.state === "writable") ws.controllerError(controller, error);
    }
  }
  defineInterface(WritableStreamDefaultController, "WritableStreamDefaultController");
})
