// Content codings (RFC 9110 section 8.4.1) of messages, as Workers have them. A rare file: only messages that have one need it.
//
// A response of fetch() that came with gzip or br is decoded when the program reads it, and passed on as it came where nobody looks
// (`rs.passable`, `rs.rawBytes`). A response that says gzip and is not what came so is encoded, unless it was made with
// `encodeBody: "manual"`; br, which this runtime does not write, is taken out of its fields.
// Bounds: what is decoded is made piece by piece, as it is read; the memory of a codec counts as the isolate's.
(function (ops, lib) {
  "use strict";
  const { ArrayBuffer, PromiseReject, TypedArrayPrototypeGetByteLength, TypedArrayPrototypeSet, Uint8Array } = lib.p;
  const { resolvedPromise, rs } = lib;

  // Memory of a codec: window, tables, buffers.
  const GZIP_BYTES = 64 * 1024;
  const BROTLI_BYTES = (16 << 20) + GZIP_BYTES;
  const DEFLATE_BYTES = 400 * 1024;
  const NOTHING = new Uint8Array(0);

  // A byte stream that runs another one, or bytes, through a codec.
  class Coder {
    // For `rs.passable`: what is behind a stream of which nothing was read.
    source;
    bytes;
    coding;
    deferred = { __proto__: null, resolve() {}, reject() {} };
    state;
    #compress;
    #codec = undefined;
    #charge = undefined;
    #reader = undefined;
    #last = false;

    constructor(source, bytes, coding, compress) {
      this.source = source;
      this.bytes = bytes;
      this.coding = coding;
      this.#compress = compress;
      this.state = rs.createByte(undefined, () => this.#pull(), (reason) => this.#cancel(reason));
      if (!compress) this.state.fused = this;
    }

    // As a pipe that has not begun: it begins with the first pull.
    run() {}

    #begin() {
      this.#charge = new ArrayBuffer(this.#compress ? DEFLATE_BYTES : this.coding === "br" ? BROTLI_BYTES : GZIP_BYTES);
      this.#codec = ops.flateNew(this.coding, this.#compress);
      if (this.bytes !== undefined) {
        ops.flatePush(this.#codec, this.bytes, true);
        this.bytes = undefined;
        this.#last = true;
      } else {
        this.#reader = rs.acquireReader(this.source);
      }
    }

    #pull() {
      if (this.#codec === undefined) this.#begin();
      const deferred = lib.p.newDeferred();
      this.#step(deferred);
      return deferred.promise;
    }

    #step(deferred) {
      const { controller } = this.state;
      let piece;
      try {
        piece = ops.flatePull(this.#codec);
      } catch (error) {
        this.#fail(error, deferred);
        return;
      }
      if (piece !== null) {
        rs.byteEnqueue(controller, piece);
        deferred.resolve(undefined);
      } else if (this.#last) {
        rs.byteClose(controller);
        if (controller.pendingPullIntos.length > 0) rs.byobRespond(controller, 0);
        deferred.resolve(undefined);
      } else {
        rs.read(this.#reader, {
          __proto__: null,
          chunk: (chunk) => this.#push(chunk, false, deferred),
          close: () => this.#push(NOTHING, true, deferred),
          error: (error) => this.#fail(error, deferred),
        });
      }
    }

    #push(chunk, last, deferred) {
      this.#last = last;
      try {
        ops.flatePush(this.#codec, lib.chunkBytes(chunk), last);
      } catch (error) {
        this.#fail(error, deferred);
        return;
      }
      this.#step(deferred);
    }

    #fail(error, deferred) {
      if (this.#reader !== undefined) lib.p.setHandled(rs.readerCancel(this.#reader, error));
      rs.byteError(this.state.controller, error);
      deferred.resolve(undefined);
    }

    #cancel(reason) {
      if (this.#reader !== undefined) return rs.readerCancel(this.#reader, reason);
      return this.source === undefined ? resolvedPromise() : rs.cancel(this.source, reason);
    }
  }

  lib.decodedStream = (stream, coding) => rs.publicStream(new Coder(rs.stateOf(stream), undefined, coding, false).state);
  lib.decodedBytes = (bytes, coding) => rs.publicStream(new Coder(undefined, bytes, coding, false).state);
  lib.encodedStream = (stream, coding) => rs.publicStream(new Coder(rs.stateOf(stream), undefined, coding, true).state);

  lib.encodedBytes = (body, coding) => {
    const bytes = typeof body === "string" ? ops.utf8Encode(body) : body;
    const codec = ops.flateNew(coding, true);
    ops.flatePush(codec, bytes, true);
    const pieces = [];
    let total = 0;
    for (let piece = ops.flatePull(codec); piece !== null; piece = ops.flatePull(codec)) {
      lib.p.ArrayPrototypePush(pieces, piece);
      total += TypedArrayPrototypeGetByteLength(piece);
    }
    const out = new Uint8Array(total);
    let at = 0;
    for (let i = 0; i < pieces.length; i++) {
      TypedArrayPrototypeSet(out, pieces[i], at);
      at += TypedArrayPrototypeGetByteLength(pieces[i]);
    }
    return out;
  };
})
