// crypto: getRandomValues and randomUUID (Web Cryptography section 10), from ring's SystemRandom. `crypto.subtle` is in rare files.
(function (ops, lib) {
  "use strict";
  const { TypedArrayPrototypeGetSymbolToStringTag, TypeError } = lib.p;
  const { defineGlobal, requireArgs } = lib;

  const RANDOM_BYTES_MAX = 65536;
  const integerKinds = new Set([
    "Int8Array", "Uint8Array", "Uint8ClampedArray", "Int16Array", "Uint16Array", "Int32Array", "Uint32Array", "BigInt64Array", "BigUint64Array",
  ]);
  const { SetPrototypeHas } = lib.p;

  class Crypto {
    #brand = undefined;
    constructor(token = undefined) {
      if (token !== lib.internal) throw lib.illegalConstructor();
    }
    get subtle() {
      this.#brand;
      lib.load("subtle.js");
      return lib.subtle;
    }
    // Of the Workers platform.
    get DigestStream() {
      this.#brand;
      lib.load("subtle.js");
      return lib.DigestStream;
    }
    getRandomValues(array) {
      this.#brand;
      requireArgs(arguments.length, 1, "getRandomValues");
      const kind = TypedArrayPrototypeGetSymbolToStringTag(array);
      if (kind === undefined && !lib.isView(array)) throw new TypeError("getRandomValues: the argument is not an ArrayBufferView");
      if (!SetPrototypeHas(integerKinds, kind)) {
        throw new lib.DOMException("getRandomValues: the argument is not an integer-typed array", "TypeMismatchError");
      }
      const bytes = lib.bytesOf(array);
      if (lib.viewByteLength(bytes) > RANDOM_BYTES_MAX) {
        throw new lib.DOMException(`getRandomValues: more than ${RANDOM_BYTES_MAX} bytes were asked for`, "QuotaExceededError");
      }
      ops.randomFill(bytes);
      return array;
    }
    randomUUID() {
      this.#brand;
      return ops.randomUuid();
    }
  }
  lib.defineInterface(Crypto, "Crypto");
  defineGlobal("crypto", new Crypto(lib.internal));
})
