// Blob and File (File API). A blob's bytes are one Uint8Array that nobody changes; slices share it.
(function (ops, lib) {
  "use strict";
  const {
    ArrayPrototypePush, MathMax, MathMin, PromiseReject, PromiseResolve, StringPrototypeCharCodeAt, StringPrototypeToLowerCase, TypeError,
    TypedArrayPrototypeGetByteLength, TypedArrayPrototypeSubarray, Uint8Array,
  } = lib.p;
  const { defineInterface, dictionary, requireArgs, rs } = lib;

  const STREAM_CHUNK_BYTES = 65536;

  // A type with characters outside U+0020-U+007E is none.
  function normalType(type) {
    for (let i = 0; i < type.length; i++) {
      const code = StringPrototypeCharCodeAt(type, i);
      if (code < 0x20 || code > 0x7e) return "";
    }
    return StringPrototypeToLowerCase(type);
  }

  class Blob {
    #bytes;
    #type;

    constructor(parts = undefined, options = undefined) {
      if (parts === lib.internal) {
        this.#bytes = options.bytes;
        this.#type = options.type;
        return;
      }
      const chunks = [];
      let total = 0;
      const collected = [];
      if (parts !== undefined) {
        lib.iterate(parts, "The blob's parts", (part) => {
          ArrayPrototypePush(collected, lib.isBufferSource(part) || lib.isBlob(part) ? part : lib.usvString(part));
        });
      }
      const { endings, type } = dictionary(options, "The blob's options");
      const native = endings !== undefined && checkEndings(lib.domString(endings)) === "native";
      this.#type = type === undefined ? "" : normalType(lib.domString(type));
      for (let i = 0; i < collected.length; i++) {
        const part = collected[i];
        let bytes;
        if (typeof part === "string") bytes = ops.utf8Encode(native ? nativeEndings(part) : part);
        else if (lib.isBlob(part)) bytes = part.#bytes;
        else bytes = lib.bytesOf(part);
        ArrayPrototypePush(chunks, bytes);
        total += TypedArrayPrototypeGetByteLength(bytes);
      }
      this.#bytes = lib.concatBytes(chunks, total);
    }

    get size() {
      return TypedArrayPrototypeGetByteLength(this.#bytes);
    }
    get type() {
      return this.#type;
    }
    slice(start = undefined, end = undefined, contentType = undefined) {
      const size = TypedArrayPrototypeGetByteLength(this.#bytes);
      const from = position(start, 0, size);
      const to = MathMax(position(end, size, size), from);
      const type = contentType === undefined ? "" : normalType(lib.domString(contentType));
      return new Blob(lib.internal, { __proto__: null, bytes: TypedArrayPrototypeSubarray(this.#bytes, from, to), type });
    }
    stream() {
      const bytes = this.#bytes;
      const size = TypedArrayPrototypeGetByteLength(bytes);
      let at = 0;
      const state = rs.createByte(
        undefined,
        () => {
          if (at >= size) {
            rs.byteClose(state.controller);
            if (state.controller.pendingPullIntos.length > 0) rs.byobRespond(state.controller, 0);
          } else {
            const end = MathMin(at + STREAM_CHUNK_BYTES, size);
            rs.byteEnqueue(state.controller, lib.copyBytes(TypedArrayPrototypeSubarray(bytes, at, end)));
            at = end;
          }
          return lib.resolvedPromise();
        },
        () => lib.resolvedPromise(),
      );
      return rs.publicStream(state);
    }
    text() {
      if (!lib.isBlob(this)) return PromiseReject(new TypeError("Not a Blob"));
      return PromiseResolve(lib.utf8Decode(this.#bytes));
    }
    arrayBuffer() {
      if (!lib.isBlob(this)) return PromiseReject(new TypeError("Not a Blob"));
      return PromiseResolve(lib.exactBuffer(new Uint8Array(this.#bytes)));
    }
    bytes() {
      if (!lib.isBlob(this)) return PromiseReject(new TypeError("Not a Blob"));
      return PromiseResolve(new Uint8Array(this.#bytes));
    }

    static {
      lib.isBlob = (value) => lib.isObject(value) && #bytes in value;
      // Shared; not to be changed or given away.
      lib.blobBytes = (blob) => blob.#bytes;
      lib.blobType = (blob) => blob.#type;
    }
  }
  defineInterface(Blob, "Blob");
  lib.Blob = Blob;
  lib.newBlob = (bytes, type) => lib.newBlobOfType(bytes, normalType(type));
  // The type is kept as it is.
  lib.newBlobOfType = (bytes, type) => new Blob(lib.internal, { __proto__: null, bytes, type });

  function checkEndings(value) {
    if (value !== "transparent" && value !== "native") throw new TypeError("endings is neither 'transparent' nor 'native'");
    return value;
  }

  function nativeEndings(text) {
    let out = "";
    for (let i = 0; i < text.length; i++) {
      if (text[i] === "\r") {
        out += "\n";
        if (text[i + 1] === "\n") i++;
      } else {
        out += text[i];
      }
    }
    return out;
  }

  function position(value, fallback, size) {
    if (value === undefined) return fallback;
    const at = lib.clampLongLong(value);
    return at < 0 ? MathMax(size + at, 0) : MathMin(at, size);
  }

  class File extends Blob {
    #name;
    #lastModified;
    constructor(bits, name, options = undefined) {
      if (bits === lib.internal) {
        super(lib.internal, name);
        this.#name = name.name;
        this.#lastModified = name.lastModified;
        return;
      }
      requireArgs(arguments.length, 2, "File");
      super(bits, options);
      this.#name = lib.usvString(name);
      const { lastModified } = dictionary(options, "The file's options");
      this.#lastModified = lastModified === undefined ? ops.now() : lib.clampLongLong(lastModified);
    }
    get name() {
      return this.#name;
    }
    get lastModified() {
      return this.#lastModified;
    }
    static {
      lib.isFile = (value) => lib.isObject(value) && #name in value;
      lib.newFile = (bytes, type, name, lastModified) =>
        new File(lib.internal, { __proto__: null, bytes, type: normalType(type), name, lastModified });
      lib.fileName = (file) => file.#name;
      lib.fileLastModified = (file) => file.#lastModified;
    }
  }
  defineInterface(File, "File");
  lib.File = File;
})
