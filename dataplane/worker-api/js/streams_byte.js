// Byte streams: ReadableByteStreamController, ReadableStreamBYOBReader, ReadableStreamBYOBRequest (Streams section 4.5-4.8).
//
// Owns the pull-into descriptors and the byte queue. Buffers that come in through `enqueue` and `read(view)` are
// transferred, so that a tenant cannot change bytes that are queued.
(function (ops, lib) {
  "use strict";
  const {
    ArrayBuffer, ArrayBufferPrototypeGetByteLength, ArrayBufferPrototypeGetDetached, ArrayBufferPrototypeSlice, ArrayBufferPrototypeTransfer,
    BigInt64Array, BigUint64Array, DataView, Float32Array, Float64Array, Int16Array, Int32Array, Int8Array, PromiseReject, RangeError, TypeError,
    TypedArrayPrototypeGetLength, TypedArrayPrototypeGetSymbolToStringTag, TypedArrayPrototypeSet, Uint16Array, Uint32Array, Uint8Array,
    Uint8ClampedArray,
  } = lib.p;
  const { Fifo, LazyPromise, defineInterface, dictionary, requireArgs, resolvedPromise, rs, upon, viewBuffer, viewByteLength, viewByteOffset } = lib;

  const viewKinds = {
    __proto__: null, Uint8Array, Uint8ClampedArray, Int8Array, Uint16Array, Int16Array, Uint32Array, Int32Array, Float32Array, Float64Array,
    BigInt64Array, BigUint64Array,
    Float16Array: undefined,
  };
  lib.late.push(() => {
    viewKinds.Float16Array = globalThis.Float16Array;
  });

  const isDetached = (buffer) => lib.isArrayBuffer(buffer) && ArrayBufferPrototypeGetDetached(buffer);
  function transfer(buffer) {
    if (!lib.isArrayBuffer(buffer)) throw new TypeError("The view's buffer cannot be transferred");
    return ArrayBufferPrototypeTransfer(buffer);
  }

  class ByteController {
    isByte = true;
    stream = undefined;
    queue = new Fifo();
    total = 0;
    started = false;
    closeRequested = false;
    pullAgain = false;
    pulling = false;
    highWaterMark = 0;
    autoAllocateChunkSize = undefined;
    pull = undefined;
    cancel = undefined;
    pendingPullIntos = new Fifo();
    byobRequest = null;
    object = undefined;

    cancelSteps(reason) {
      invalidateByobRequest(this);
      this.pendingPullIntos.clear();
      resetQueue(this);
      const { cancel } = this;
      clearAlgorithms(this);
      return cancel === undefined ? resolvedPromise() : cancel(reason);
    }

    pullSteps(request) {
      const { stream } = this;
      if (this.total > 0) {
        fillReadRequestFromQueue(this, request);
        return;
      }
      const size = this.autoAllocateChunkSize;
      if (size !== undefined) {
        let buffer;
        try {
          buffer = new ArrayBuffer(size);
        } catch (error) {
          request.error(error);
          return;
        }
        this.pendingPullIntos.push(new PullInto(buffer, size, 0, size, 1, 1, Uint8Array, "default"));
      }
      stream.reader.requests.push(request);
      callPullIfNeeded(this);
    }

    releaseSteps() {
      if (this.pendingPullIntos.length > 0) {
        const first = this.pendingPullIntos.peek();
        first.readerType = "none";
        this.pendingPullIntos.clear();
        this.pendingPullIntos.push(first);
      }
    }
  }

  // A pull-into descriptor.
  class PullInto {
    bytesFilled = 0;
    buffer;
    bufferByteLength;
    byteOffset;
    byteLength;
    minimumFill;
    elementSize;
    ctor;
    readerType;
    constructor(buffer, bufferByteLength, byteOffset, byteLength, minimumFill, elementSize, ctor, readerType) {
      this.buffer = buffer;
      this.bufferByteLength = bufferByteLength;
      this.byteOffset = byteOffset;
      this.byteLength = byteLength;
      this.minimumFill = minimumFill;
      this.elementSize = elementSize;
      this.ctor = ctor;
      this.readerType = readerType;
    }
  }

  // An entry of the byte queue.
  class ByteEntry {
    buffer;
    byteOffset;
    byteLength;
    constructor(buffer, byteOffset, byteLength) {
      this.buffer = buffer;
      this.byteOffset = byteOffset;
      this.byteLength = byteLength;
    }
  }

  class ByobReader {
    isByob = true;
    stream = undefined;
    closed = new LazyPromise();
    requests = new Fifo();
  }

  function clearAlgorithms(controller) {
    controller.pull = undefined;
    controller.cancel = undefined;
  }

  function resetQueue(controller) {
    controller.queue.clear();
    controller.total = 0;
  }

  function invalidateByobRequest(controller) {
    if (controller.byobRequest === null) return;
    rs.invalidateRequestObject(controller.byobRequest);
    controller.byobRequest = null;
  }

  function desiredSize(controller) {
    const { state } = controller.stream;
    if (state === "errored") return null;
    if (state === "closed") return 0;
    return controller.highWaterMark - controller.total;
  }

  function shouldCallPull(controller) {
    const { stream } = controller;
    if (stream.state !== "readable" || controller.closeRequested || !controller.started) return false;
    if (stream.reader !== undefined && stream.reader.requests.length > 0) return true;
    return desiredSize(controller) > 0;
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
      (error) => rs.byteError(controller, error),
    );
  }

  function pullIntoView(descriptor) {
    const { ctor } = descriptor;
    return new ctor(descriptor.buffer, descriptor.byteOffset, descriptor.bytesFilled / descriptor.elementSize);
  }

  // ReadableByteStreamControllerConvertPullIntoDescriptor
  function convert(descriptor) {
    descriptor.buffer = transfer(descriptor.buffer);
    return pullIntoView(descriptor);
  }

  function commit(stream, descriptor) {
    const done = stream.state === "closed";
    const view = convert(descriptor);
    if (descriptor.readerType === "default") {
      rs.fulfillReadRequest(stream, view, done);
    } else {
      const request = stream.reader.requests.shift();
      if (done) request.close(view);
      else request.chunk(view);
    }
  }

  function enqueueChunkToQueue(controller, buffer, byteOffset, byteLength) {
    controller.queue.push(new ByteEntry(buffer, byteOffset, byteLength));
    controller.total += byteLength;
  }

  function enqueueClonedChunk(controller, buffer, byteOffset, byteLength) {
    let copy;
    try {
      copy = ArrayBufferPrototypeSlice(buffer, byteOffset, byteOffset + byteLength);
    } catch (error) {
      rs.byteError(controller, error);
      throw error;
    }
    enqueueChunkToQueue(controller, copy, 0, byteLength);
  }

  function enqueueDetachedPullInto(controller, descriptor) {
    if (descriptor.bytesFilled > 0) {
      enqueueClonedChunk(controller, descriptor.buffer, descriptor.byteOffset, descriptor.bytesFilled);
    }
    controller.pendingPullIntos.shift();
  }

  function fillFromQueue(controller, descriptor) {
    const maxFilled = descriptor.bytesFilled + lib.p.MathMin(controller.total, descriptor.byteLength - descriptor.bytesFilled);
    let remaining = maxFilled - descriptor.bytesFilled;
    let ready = false;
    const aligned = maxFilled - (maxFilled % descriptor.elementSize);
    if (aligned >= descriptor.minimumFill) {
      remaining = aligned - descriptor.bytesFilled;
      ready = true;
    }
    const { queue } = controller;
    while (remaining > 0) {
      const head = queue.peek();
      const count = lib.p.MathMin(remaining, head.byteLength);
      TypedArrayPrototypeSet(
        new Uint8Array(descriptor.buffer, descriptor.byteOffset + descriptor.bytesFilled, count),
        new Uint8Array(head.buffer, head.byteOffset, count),
      );
      if (head.byteLength === count) {
        queue.shift();
      } else {
        head.byteOffset += count;
        head.byteLength -= count;
      }
      controller.total -= count;
      descriptor.bytesFilled += count;
      remaining -= count;
    }
    return ready;
  }

  function fillReadRequestFromQueue(controller, request) {
    const entry = controller.queue.shift();
    controller.total -= entry.byteLength;
    handleQueueDrain(controller);
    request.chunk(new Uint8Array(entry.buffer, entry.byteOffset, entry.byteLength));
  }

  function handleQueueDrain(controller) {
    if (controller.total === 0 && controller.closeRequested) {
      clearAlgorithms(controller);
      rs.close(controller.stream);
    } else {
      callPullIfNeeded(controller);
    }
  }

  function processPullIntos(controller) {
    const filled = [];
    while (controller.pendingPullIntos.length > 0) {
      if (controller.total === 0) break;
      const descriptor = controller.pendingPullIntos.peek();
      if (fillFromQueue(controller, descriptor)) {
        controller.pendingPullIntos.shift();
        lib.p.ArrayPrototypePush(filled, descriptor);
      }
      else break;
    }
    return filled;
  }

  function commitAll(stream, filled) {
    for (let i = 0; i < filled.length; i++) commit(stream, filled[i]);
  }

  function processReadRequests(controller) {
    const { reader } = controller.stream;
    while (reader.requests.length > 0 && controller.total > 0) {
      fillReadRequestFromQueue(controller, reader.requests.shift());
    }
  }

  // ReadableByteStreamControllerClose
  rs.byteClose = (controller) => {
    const { stream } = controller;
    if (controller.closeRequested || stream.state !== "readable") return;
    if (controller.total > 0) {
      controller.closeRequested = true;
      return;
    }
    if (controller.pendingPullIntos.length > 0) {
      const first = controller.pendingPullIntos.peek();
      if (first.bytesFilled % first.elementSize !== 0) {
        const error = new TypeError("The stream was closed within an element of the view that was being filled");
        rs.byteError(controller, error);
        throw error;
      }
    }
    clearAlgorithms(controller);
    rs.close(stream);
  };

  // ReadableByteStreamControllerEnqueue
  // `owned`: nobody else has the chunk's buffer, so it need not be moved to a new one.
  rs.byteEnqueue = (controller, chunk, owned = false) => {
    const { stream } = controller;
    if (controller.closeRequested || stream.state !== "readable") return;
    const buffer = viewBuffer(chunk);
    const byteOffset = viewByteOffset(chunk);
    const byteLength = viewByteLength(chunk);
    if (isDetached(buffer)) throw new TypeError("The chunk's buffer is detached");
    const transferred = owned ? buffer : transfer(buffer);
    if (controller.pendingPullIntos.length > 0) {
      const first = controller.pendingPullIntos.peek();
      if (isDetached(first.buffer)) throw new TypeError("The BYOB request's buffer is detached");
      invalidateByobRequest(controller);
      first.buffer = transfer(first.buffer);
      if (first.readerType === "none") enqueueDetachedPullInto(controller, first);
    }
    if (rs.hasDefaultReader(stream)) {
      processReadRequests(controller);
      if (stream.reader.requests.length === 0) {
        enqueueChunkToQueue(controller, transferred, byteOffset, byteLength);
      } else {
        if (controller.pendingPullIntos.length > 0) controller.pendingPullIntos.shift();
        rs.fulfillReadRequest(stream, owned ? chunk : new Uint8Array(transferred, byteOffset, byteLength), false);
      }
    } else if (stream.reader !== undefined) {
      enqueueChunkToQueue(controller, transferred, byteOffset, byteLength);
      commitAll(stream, processPullIntos(controller));
    } else {
      enqueueChunkToQueue(controller, transferred, byteOffset, byteLength);
    }
    callPullIfNeeded(controller);
  };

  // ReadableByteStreamControllerError
  rs.byteError = (controller, error) => {
    const { stream } = controller;
    if (stream.state !== "readable") return;
    invalidateByobRequest(controller);
    controller.pendingPullIntos.clear();
    resetQueue(controller);
    clearAlgorithms(controller);
    rs.error(stream, error);
  };

  rs.getByobRequest = (controller) => {
    if (controller.byobRequest === null && controller.pendingPullIntos.length > 0) {
      const first = controller.pendingPullIntos.peek();
      const view = new Uint8Array(first.buffer, first.byteOffset + first.bytesFilled, first.byteLength - first.bytesFilled);
      controller.byobRequest = rs.newRequestObject(controller, view);
    }
    return controller.byobRequest;
  };

  // ReadableByteStreamControllerPullInto. A request has chunk(view), close(view) and error(error).
  rs.pullInto = (controller, view, min, request) => {
    const { stream } = controller;
    const tag = TypedArrayPrototypeGetSymbolToStringTag(view);
    const ctor = tag === undefined ? DataView : viewKinds[tag];
    const elementSize = tag === undefined ? 1 : ctor.BYTES_PER_ELEMENT;
    const byteOffset = viewByteOffset(view);
    const byteLength = viewByteLength(view);
    let buffer;
    try {
      buffer = transfer(viewBuffer(view));
    } catch (error) {
      request.error(error);
      return;
    }
    const descriptor = new PullInto(
      buffer, ArrayBufferPrototypeGetByteLength(buffer), byteOffset, byteLength, min * elementSize, elementSize, ctor, "byob",
    );
    if (controller.pendingPullIntos.length > 0) {
      controller.pendingPullIntos.push(descriptor);
      stream.reader.requests.push(request);
      return;
    }
    if (stream.state === "closed") {
      request.close(new ctor(descriptor.buffer, descriptor.byteOffset, 0));
      return;
    }
    if (controller.total > 0) {
      if (fillFromQueue(controller, descriptor)) {
        const filled = convert(descriptor);
        handleQueueDrain(controller);
        request.chunk(filled);
        return;
      }
      if (controller.closeRequested) {
        const error = new TypeError("The stream closed before the view's minimum was filled");
        rs.byteError(controller, error);
        request.error(error);
        return;
      }
    }
    controller.pendingPullIntos.push(descriptor);
    stream.reader.requests.push(request);
    callPullIfNeeded(controller);
  };

  function respondInternal(controller, bytesWritten) {
    const first = controller.pendingPullIntos.peek();
    invalidateByobRequest(controller);
    if (controller.stream.state === "closed") respondClosed(controller, first);
    else respondReadable(controller, bytesWritten, first);
    callPullIfNeeded(controller);
  }

  function respondClosed(controller, first) {
    if (first.readerType === "none") controller.pendingPullIntos.shift();
    const { stream } = controller;
    if (stream.reader !== undefined && stream.reader.isByob) {
      const filled = [];
      while (filled.length < stream.reader.requests.length) {
        lib.p.ArrayPrototypePush(filled, controller.pendingPullIntos.shift());
      }
      commitAll(stream, filled);
    }
  }

  function respondReadable(controller, bytesWritten, descriptor) {
    descriptor.bytesFilled += bytesWritten;
    const { stream } = controller;
    if (descriptor.readerType === "none") {
      enqueueDetachedPullInto(controller, descriptor);
      commitAll(stream, processPullIntos(controller));
      return;
    }
    if (descriptor.bytesFilled < descriptor.minimumFill) return;
    controller.pendingPullIntos.shift();
    const remainder = descriptor.bytesFilled % descriptor.elementSize;
    if (remainder > 0) {
      const end = descriptor.byteOffset + descriptor.bytesFilled;
      enqueueClonedChunk(controller, descriptor.buffer, end - remainder, remainder);
    }
    descriptor.bytesFilled -= remainder;
    const filled = processPullIntos(controller);
    commit(stream, descriptor);
    commitAll(stream, filled);
  }

  rs.byobRespond = (controller, bytesWritten) => {
    const first = controller.pendingPullIntos.peek();
    if (controller.stream.state === "closed") {
      if (bytesWritten !== 0) throw new TypeError("The stream is closed: only 0 bytes can be given");
    } else {
      if (bytesWritten === 0) throw new TypeError("0 bytes were given to a stream that is not closed");
      if (first.bytesFilled + bytesWritten > first.byteLength) throw new RangeError("More bytes were given than the view holds");
    }
    first.buffer = transfer(first.buffer);
    respondInternal(controller, bytesWritten);
  };

  rs.byobRespondWithNewView = (controller, view) => {
    const first = controller.pendingPullIntos.peek();
    const byteLength = viewByteLength(view);
    if (controller.stream.state === "closed") {
      if (byteLength !== 0) throw new TypeError("The stream is closed: only an empty view can be given");
    } else if (byteLength === 0) {
      throw new TypeError("An empty view was given to a stream that is not closed");
    }
    const buffer = viewBuffer(view);
    if (first.byteOffset + first.bytesFilled !== viewByteOffset(view)) throw new RangeError("The view starts at another place than the one asked for");
    if (first.bufferByteLength !== ArrayBufferPrototypeGetByteLength(buffer)) throw new RangeError("The view's buffer has another length");
    if (first.bytesFilled + byteLength > first.byteLength) throw new RangeError("The view is longer than the one asked for");
    first.buffer = transfer(buffer);
    respondInternal(controller, byteLength);
  };

  // SetUpReadableByteStreamController
  rs.setUpByte = (stream, start, pull, cancel, highWaterMark, autoAllocateChunkSize) => {
    const controller = new ByteController();
    controller.stream = stream;
    controller.highWaterMark = highWaterMark;
    controller.autoAllocateChunkSize = autoAllocateChunkSize;
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
      (error) => rs.byteError(controller, error),
    );
    return controller;
  };

  // CreateReadableByteStream: for the runtime's own streams.
  rs.createByte = (start, pull, cancel) => {
    const stream = new rs.StreamState();
    rs.setUpByte(stream, start, pull, cancel, 0, undefined);
    return stream;
  };

  class ReadableByteStreamController {
    #controller;
    constructor(token = undefined, controller = undefined) {
      if (token !== lib.internal) throw lib.illegalConstructor();
      this.#controller = controller;
    }
    get byobRequest() {
      return rs.getByobRequest(this.#controller);
    }
    get desiredSize() {
      return desiredSize(this.#controller);
    }
    close() {
      const controller = this.#controller;
      if (controller.closeRequested) throw new TypeError("The stream is closing already");
      if (controller.stream.state !== "readable") throw new TypeError("The stream cannot be closed: it is closed or errored");
      rs.byteClose(controller);
    }
    enqueue(chunk) {
      const controller = this.#controller;
      requireArgs(arguments.length, 1, "enqueue");
      if (!lib.isView(chunk)) throw new TypeError("The chunk is not an ArrayBufferView");
      if (viewByteLength(chunk) === 0) throw new TypeError("The chunk is empty");
      if (ArrayBufferPrototypeGetByteLength(requireArrayBuffer(viewBuffer(chunk))) === 0) throw new TypeError("The chunk's buffer is empty");
      if (controller.closeRequested) throw new TypeError("The stream is closing already");
      if (controller.stream.state !== "readable") throw new TypeError("The stream takes no chunk: it is closed or errored");
      rs.byteEnqueue(controller, chunk);
    }
    error(error = undefined) {
      rs.byteError(this.#controller, error);
    }
    static {
      rs.newByteControllerObject = (controller) => new ReadableByteStreamController(lib.internal, controller);
    }
  }
  defineInterface(ReadableByteStreamController, "ReadableByteStreamController");

  function requireArrayBuffer(buffer) {
    if (!lib.isArrayBuffer(buffer)) throw new TypeError("A view of a SharedArrayBuffer is not allowed here");
    return buffer;
  }

  class ReadableStreamBYOBRequest {
    #controller;
    #view;
    constructor(token = undefined, controller = undefined, view = undefined) {
      if (token !== lib.internal) throw lib.illegalConstructor();
      this.#controller = controller;
      this.#view = view;
    }
    get view() {
      return this.#view;
    }
    respond(bytesWritten) {
      this.#view;
      requireArgs(arguments.length, 1, "respond");
      const count = lib.enforceRange(bytesWritten, 0, 9007199254740991, "bytesWritten");
      if (this.#controller === undefined) throw new TypeError("The BYOB request is over");
      if (isDetached(viewBuffer(this.#view))) throw new TypeError("The BYOB request's buffer is detached");
      rs.byobRespond(this.#controller, count);
    }
    respondWithNewView(view) {
      this.#view;
      requireArgs(arguments.length, 1, "respondWithNewView");
      if (!lib.isView(view)) throw new TypeError("The argument is not an ArrayBufferView");
      requireArrayBuffer(viewBuffer(view));
      if (this.#controller === undefined) throw new TypeError("The BYOB request is over");
      if (isDetached(viewBuffer(view))) throw new TypeError("The view's buffer is detached");
      rs.byobRespondWithNewView(this.#controller, view);
    }
    static {
      rs.newRequestObject = (controller, view) => new ReadableStreamBYOBRequest(lib.internal, controller, view);
      rs.requestView = (request) => request.#view;
      rs.invalidateRequestObject = (request) => {
        request.#controller = undefined;
        request.#view = null;
      };
    }
  }
  defineInterface(ReadableStreamBYOBRequest, "ReadableStreamBYOBRequest");

  class ByobPromiseRequest {
    deferred = lib.p.newDeferred();
    chunk(value) {
      this.deferred.resolve({ value, done: false });
    }
    close(value) {
      this.deferred.resolve({ value, done: true });
    }
    error(error) {
      this.deferred.reject(error);
    }
  }

  rs.acquireByobReader = (stream) => {
    if (stream.reader !== undefined) throw new TypeError("The ReadableStream is locked to a reader");
    if (!stream.controller.isByte) throw new TypeError("The ReadableStream is not a byte stream");
    const reader = new ByobReader();
    rs.initReader(reader, stream);
    return reader;
  };

  // ReadableStreamBYOBReaderRead
  rs.readInto = (reader, view, min, request) => {
    const { stream } = reader;
    stream.disturbed = true;
    if (stream.state === "errored") request.error(stream.storedError);
    else rs.pullInto(stream.controller, view, min, request);
  };

  class ReadableStreamBYOBReader {
    #reader;
    constructor(stream) {
      requireArgs(arguments.length, 1, "ReadableStreamBYOBReader");
      if (!lib.isReadableStream(stream)) throw new TypeError("The argument is not a ReadableStream");
      this.#reader = rs.acquireByobReader(rs.stateOf(stream));
    }
    get closed() {
      if (!lib.isObject(this) || !(#reader in this)) return PromiseReject(new TypeError("Not a ReadableStreamBYOBReader"));
      return this.#reader.closed.promise;
    }
    cancel(reason = undefined) {
      if (!lib.isObject(this) || !(#reader in this)) return PromiseReject(new TypeError("Not a ReadableStreamBYOBReader"));
      if (this.#reader.stream === undefined) return PromiseReject(new TypeError("The reader was released"));
      return rs.readerCancel(this.#reader, reason);
    }
    read(view, options = undefined) {
      if (!lib.isObject(this) || !(#reader in this)) return PromiseReject(new TypeError("Not a ReadableStreamBYOBReader"));
      let min;
      try {
        requireArgs(arguments.length, 1, "read");
        min = readMinimum(view, options);
      } catch (error) {
        return PromiseReject(error);
      }
      if (this.#reader.stream === undefined) return PromiseReject(new TypeError("The reader was released"));
      const request = new ByobPromiseRequest();
      rs.readInto(this.#reader, view, min, request);
      return request.deferred.promise;
    }
    releaseLock() {
      if (this.#reader.stream !== undefined) rs.readerRelease(this.#reader);
    }
    static {
      rs.newByobReader = (stream) => new ReadableStreamBYOBReader(stream);
    }
  }
  defineInterface(ReadableStreamBYOBReader, "ReadableStreamBYOBReader");

  // Checks the arguments of BYOB read; gives `min`.
  function readMinimum(view, options) {
    if (!lib.isView(view)) throw new TypeError("The argument is not an ArrayBufferView");
    const given = dictionary(options, "The read's options").min;
    const min = given === undefined ? 1 : lib.enforceRange(given, 0, 9007199254740991, "min");
    const buffer = requireArrayBuffer(viewBuffer(view));
    if (isDetached(buffer)) throw new TypeError("The view's buffer is detached");
    if (viewByteLength(view) === 0) throw new TypeError("The view is empty");
    if (ArrayBufferPrototypeGetByteLength(buffer) === 0) throw new TypeError("The view's buffer is empty");
    if (min === 0) throw new TypeError("min is 0");
    const length = lib.isTypedArray(view) ? TypedArrayPrototypeGetLength(view) : viewByteLength(view);
    if (min > length) throw new RangeError("min is larger than the view");
    return min;
  }
})
