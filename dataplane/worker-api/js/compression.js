// CompressionStream and DecompressionStream (WHATWG Compression). A rare file.
//
// Bounds: what a chunk decompresses to is made piece by piece, as it is read; the memory of a codec counts as the isolate's.
(function (ops, lib) {
  "use strict";
  const { ArrayBuffer, TypeError } = lib.p;

  // Memory of a codec of zlib: window, tables, buffers. No page of it is touched.
  const COMPRESS_BYTES = 400 * 1024;
  const DECOMPRESS_BYTES = 64 * 1024;
  // Pieces of output that are made before anybody reads one. (A program may write one chunk, close, and then read.)
  const PIECES_AHEAD = 16;
  const NOTHING = new lib.p.Uint8Array(0);

  function formatOf(value) {
    const format = lib.domString(value);
    if (format !== "gzip" && format !== "deflate" && format !== "deflate-raw") throw new TypeError(`"${format}" is not a format of compression`);
    return format;
  }

  function newCodec(format, compress) {
    const charge = new ArrayBuffer(compress ? COMPRESS_BYTES : DECOMPRESS_BYTES);
    const codec = ops.flateNew(format, compress);
    const pump = (enqueue, ready, ahead) => {
      for (let pieces = 0; ; pieces++) {
        const wait = pieces >= ahead ? ready() : undefined;
        if (wait !== undefined) return lib.chain(wait, () => pump(enqueue, ready, 0));
        const piece = ops.flatePull(codec);
        if (piece === null) return undefined;
        enqueue(piece);
      }
    };
    const pair = lib.newTransform(
      (chunk, enqueue, ready) => {
        if (!lib.isBufferSource(chunk)) throw new TypeError("The chunk is neither an ArrayBuffer nor a view of one");
        ops.flatePush(codec, lib.bytesOf(chunk), false);
        return pump(enqueue, ready, PIECES_AHEAD);
      },
      (enqueue, ready) => {
        // All input was read before; what is left is less than a window.
        ops.flatePush(codec, NOTHING, true);
        return pump(enqueue, ready, Infinity);
      },
    );
    pair.charge = charge;
    return pair;
  }

  class CompressionStream {
    #pair;
    constructor(format) {
      lib.requireArgs(arguments.length, 1, "CompressionStream");
      this.#pair = newCodec(formatOf(format), true);
    }
    get readable() {
      return this.#pair.readable;
    }
    get writable() {
      return this.#pair.writable;
    }
  }
  lib.defineInterface(CompressionStream, "CompressionStream");

  class DecompressionStream {
    #pair;
    constructor(format) {
      lib.requireArgs(arguments.length, 1, "DecompressionStream");
      this.#pair = newCodec(formatOf(format), false);
    }
    get readable() {
      return this.#pair.readable;
    }
    get writable() {
      return this.#pair.writable;
    }
  }
  lib.defineInterface(DecompressionStream, "DecompressionStream");
})
