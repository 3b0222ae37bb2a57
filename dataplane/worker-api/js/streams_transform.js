// TransformStream (Streams section 6), and the two of the Workers platform: IdentityTransformStream and FixedLengthStream.
//
// Owns `lib.ts`: transforms on state objects, and `lib.newTransform`, from which other files make their own.
(function (ops, lib) {
  "use strict";
  const { PromisePrototypeThen, PromiseReject, RangeError, ReflectApply, TypeError } = lib.p;
  const { defineInterface, dictionary, promiseCall, requireArgs, resolvedPromise, rs, upon, ws } = lib;

  class TransformState {
    readable = undefined;
    writable = undefined;
    backpressure = undefined;
    backpressureChange = undefined;
    controller = undefined;
  }

  class Controller {
    stream = undefined;
    transform = undefined;
    flush = undefined;
    cancel = undefined;
    finish = undefined;
    object = undefined;
  }

  function setBackpressure(stream, backpressure) {
    if (stream.backpressureChange !== undefined) stream.backpressureChange.resolve(undefined);
    stream.backpressureChange = lib.p.newDeferred();
    stream.backpressure = backpressure;
  }

  function clearAlgorithms(controller) {
    controller.transform = undefined;
    controller.flush = undefined;
    controller.cancel = undefined;
  }

  function errorStream(stream, error) {
    rs.controllerError(stream.readable.controller, error);
    errorWritableAndUnblock(stream, error);
  }

  function errorWritableAndUnblock(stream, error) {
    clearAlgorithms(stream.controller);
    ws.errorIfNeeded(stream.writable.controller, error);
    unblockWrite(stream);
  }

  function unblockWrite(stream) {
    if (stream.backpressure) setBackpressure(stream, false);
  }

  function enqueue(controller, chunk) {
    const { stream } = controller;
    const readable = stream.readable.controller;
    if (!rs.canCloseOrEnqueue(readable)) throw new TypeError("The readable side takes no chunk: it is closed or errored");
    try {
      rs.enqueue(readable, chunk);
    } catch (error) {
      errorWritableAndUnblock(stream, error);
      throw stream.readable.storedError;
    }
    const backpressure = rs.hasBackpressure(readable);
    if (backpressure !== stream.backpressure) setBackpressure(stream, true);
  }

  function terminate(controller) {
    const { stream } = controller;
    rs.controllerClose(stream.readable.controller);
    errorWritableAndUnblock(stream, new TypeError("The transform was terminated"));
  }

  function performTransform(controller, chunk) {
    return PromisePrototypeThen((0, controller.transform)(chunk), undefined, (error) => {
      errorStream(controller.stream, error);
      throw error;
    });
  }

  function sinkWrite(stream, chunk) {
    const { controller } = stream;
    if (stream.backpressure) {
      return lib.chain(stream.backpressureChange.promise, () => {
        const { writable } = stream;
        if (writable.state === "erroring") throw writable.storedError;
        return performTransform(controller, chunk);
      });
    }
    return performTransform(controller, chunk);
  }

  function sinkAbort(stream, reason) {
    const { controller, readable } = stream;
    if (controller.finish !== undefined) return controller.finish.promise;
    const finish = controller.finish = lib.p.newDeferred();
    const { cancel } = controller;
    const promise = cancel === undefined ? resolvedPromise() : cancel(reason);
    clearAlgorithms(controller);
    upon(
      promise,
      () => {
        if (readable.state === "errored") {
          finish.reject(readable.storedError);
        } else {
          rs.controllerError(readable.controller, reason);
          finish.resolve(undefined);
        }
      },
      (error) => {
        rs.controllerError(readable.controller, error);
        finish.reject(error);
      },
    );
    return finish.promise;
  }

  function sinkClose(stream) {
    const { controller, readable } = stream;
    if (controller.finish !== undefined) return controller.finish.promise;
    const finish = controller.finish = lib.p.newDeferred();
    const { flush } = controller;
    const promise = flush === undefined ? resolvedPromise() : flush();
    clearAlgorithms(controller);
    upon(
      promise,
      () => {
        if (readable.state === "errored") {
          finish.reject(readable.storedError);
        } else {
          rs.controllerClose(readable.controller);
          finish.resolve(undefined);
        }
      },
      (error) => {
        rs.controllerError(readable.controller, error);
        finish.reject(error);
      },
    );
    return finish.promise;
  }

  function sourceCancel(stream, reason) {
    const { controller, writable } = stream;
    if (controller.finish !== undefined) return controller.finish.promise;
    const finish = controller.finish = lib.p.newDeferred();
    const { cancel } = controller;
    const promise = cancel === undefined ? resolvedPromise() : cancel(reason);
    clearAlgorithms(controller);
    upon(
      promise,
      () => {
        if (writable.state === "errored") {
          finish.reject(writable.storedError);
        } else {
          ws.errorIfNeeded(writable.controller, reason);
          unblockWrite(stream);
          finish.resolve(undefined);
        }
      },
      (error) => {
        ws.errorIfNeeded(writable.controller, error);
        unblockWrite(stream);
        finish.reject(error);
      },
    );
    return finish.promise;
  }

  function sourcePull(stream) {
    setBackpressure(stream, false);
    return stream.backpressureChange.promise;
  }

  // InitializeTransformStream with its controller. `transform(chunk)`, `flush()`, `cancel(reason)` give promises.
  function initialize(stream, startPromise, marks, transform, flush, cancel) {
    const startSteps = () => startPromise;
    stream.writable = ws.create(
      startSteps, (chunk) => sinkWrite(stream, chunk), () => sinkClose(stream), (reason) => sinkAbort(stream, reason),
      marks.writableHighWaterMark, marks.writableSize,
    );
    stream.readable = rs.create(
      startSteps, () => sourcePull(stream), (reason) => sourceCancel(stream, reason), marks.readableHighWaterMark, marks.readableSize,
    );
    setBackpressure(stream, true);
    const controller = new Controller();
    controller.stream = stream;
    controller.transform = transform;
    controller.flush = flush;
    controller.cancel = cancel;
    stream.controller = controller;
  }

  const defaultMarks = { __proto__: null, writableHighWaterMark: 1, writableSize: undefined, readableHighWaterMark: 0, readableSize: undefined };

  // A transform of the runtime's own: `transform(chunk, enqueue, ready)` and `flush(enqueue, ready)`, which give a promise if they
  // are not done. What they throw errors both sides. `ready()` is undefined while somebody reads, else a promise of that.
  lib.newTransform = (transform, flush) => {
    const stream = new TransformState();
    const push = (chunk) => enqueue(stream.controller, chunk);
    const ready = () => stream.backpressure ? stream.backpressureChange.promise : undefined;
    const run = (fn, chunk) => {
      try {
        return fn(chunk, push, ready) ?? resolvedPromise();
      } catch (error) {
        return PromiseReject(error);
      }
    };
    initialize(
      stream, resolvedPromise(), defaultMarks, (chunk) => run(transform, chunk),
      flush === undefined ? undefined : () => run((_, out) => flush(out, ready), undefined), undefined,
    );
    return { __proto__: null, readable: rs.publicStream(stream.readable), writable: ws.publicStream(stream.writable) };
  };

  let markIdentity;

  class TransformStream {
    #state;
    constructor(transformer = undefined, writableStrategy = undefined, readableStrategy = undefined) {
      const stream = new TransformState();
      this.#state = stream;
      const plain = transformer === undefined && writableStrategy === undefined && readableStrategy === undefined;
      if (transformer === undefined) transformer = {};
      else if (!lib.isObject(transformer)) throw new TypeError("The transformer is not an object");
      const outer = dictionary(writableStrategy, "The writable strategy");
      const writableGiven = { __proto__: null, highWaterMark: outer.highWaterMark, size: outer.size };
      const inner = dictionary(readableStrategy, "The readable strategy");
      const readableGiven = { __proto__: null, highWaterMark: inner.highWaterMark, size: inner.size };
      const { cancel, flush, readableType, start, transform, writableType } = transformer;
      lib.callback(cancel, "The transformer's cancel");
      lib.callback(flush, "The transformer's flush");
      lib.callback(start, "The transformer's start");
      lib.callback(transform, "The transformer's transform");
      if (readableType !== undefined) throw new RangeError("The transformer has a readableType");
      if (writableType !== undefined) throw new RangeError("The transformer has a writableType");
      const readableHighWaterMark = lib.highWaterMark(readableGiven, 0);
      const readableSize = lib.sizeAlgorithm(readableGiven);
      const writableHighWaterMark = lib.highWaterMark(writableGiven, 1);
      const writableSize = lib.sizeAlgorithm(writableGiven);
      const started = lib.p.newDeferred();
      const object = () => stream.controller.object ??= new TransformStreamDefaultController(lib.internal, stream.controller);
      initialize(
        stream, started.promise, { __proto__: null, writableHighWaterMark, writableSize, readableHighWaterMark, readableSize },
        transform === undefined
          ? (chunk) => {
            try {
              enqueue(stream.controller, chunk);
              return resolvedPromise();
            } catch (error) {
              return PromiseReject(error);
            }
          }
          : (chunk) => promiseCall(transform, transformer, [chunk, object()]),
        flush === undefined ? undefined : () => promiseCall(flush, transformer, [object()]),
        cancel === undefined ? undefined : (reason) => promiseCall(cancel, transformer, [reason]),
      );
      started.resolve(start === undefined ? undefined : ReflectApply(start, transformer, [object()]));
      if (plain) stream.writable.identity = stream;
    }
    get readable() {
      return rs.publicStream(this.#state.readable);
    }
    get writable() {
      return ws.publicStream(this.#state.writable);
    }
    static {
      lib.isTransformStream = (value) => lib.isObject(value) && #state in value;
      markIdentity = (transform) => {
        const stream = transform.#state;
        stream.writable.identity = stream;
      };
    }
  }
  defineInterface(TransformStream, "TransformStream");

  class TransformStreamDefaultController {
    #controller;
    constructor(token = undefined, controller = undefined) {
      if (token !== lib.internal) throw lib.illegalConstructor();
      this.#controller = controller;
    }
    get desiredSize() {
      return rs.desiredSize(this.#controller.stream.readable.controller);
    }
    enqueue(chunk = undefined) {
      enqueue(this.#controller, chunk);
    }
    error(reason = undefined) {
      errorStream(this.#controller.stream, reason);
    }
    terminate() {
      terminate(this.#controller);
    }
  }
  defineInterface(TransformStreamDefaultController, "TransformStreamDefaultController");

  // Bytes in, the same bytes out. As on Workers, a chunk that is no buffer or string is a TypeError.
  class IdentityTransformStream extends TransformStream {
    constructor() {
      super({ transform: passBytes });
      markIdentity(this);
    }
  }
  defineInterface(IdentityTransformStream, "IdentityTransformStream");

  function passBytes(chunk, controller) {
    controller.enqueue(lib.chunkBytes(chunk));
  }

  // Like it, but exactly `length` bytes: a response made from its readable has a Content-Length.
  class FixedLengthStream extends TransformStream {
    constructor(expectedLength) {
      requireArgs(arguments.length, 1, "FixedLengthStream");
      const length = typeof expectedLength === "bigint"
        ? lib.enforceRange(lib.p.Number(expectedLength), 0, 9007199254740991, "The length")
        : lib.enforceRange(expectedLength, 0, 9007199254740991, "The length");
      let left = length;
      super({
        transform(chunk, controller) {
          const bytes = lib.chunkBytes(chunk);
          const size = lib.viewByteLength(bytes);
          if (size > left) throw new TypeError("More bytes were written to a FixedLengthStream than its length");
          left -= size;
          controller.enqueue(bytes);
        },
        flush() {
          if (left > 0) throw new TypeError("A FixedLengthStream was closed before all its bytes were written");
        },
      });
      markIdentity(this);
      rs.stateOf(this.readable).promisedLength = length;
    }
  }
  defineInterface(FixedLengthStream, "FixedLengthStream");

  // A chunk that goes to the network, as bytes.
  lib.chunkBytes = (chunk) => {
    if (lib.isView(chunk) || lib.isArrayBuffer(chunk)) return lib.bytesOf(chunk);
    if (typeof chunk === "string") return ops.utf8Encode(chunk);
    throw new TypeError("A chunk of a body is neither bytes nor a string");
  };
})
