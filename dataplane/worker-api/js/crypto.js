// crypto: getRandomValues and randomUUID (Web Cryptography section 10), from ring's SystemRandom; and crypto.subtle.digest.
//
// Digest is the one operation of `crypto.subtle` that is here. The others are absent, not stubs: a program that looks
// for them sees that.
(function (ops, lib) {
  "use strict";
  const { PromiseReject, PromiseResolve, TypedArrayPrototypeGetSymbolToStringTag, TypeError } = lib.p;
  const { defineGlobal, requireArgs } = lib;

  const RANDOM_BYTES_MAX = 65536;
  const integerKinds = new Set([
    "Int8Array", "Uint8Array", "Uint8ClampedArray", "Int16Array", "Uint16Array", "Int32Array", "Uint32Array", "BigInt64Array", "BigUint64Array",
  ]);
  const { SetPrototypeHas } = lib.p;

  class SubtleCrypto {
    #brand = undefined;
    constructor(token = undefined) {
      if (token !== lib.internal) throw lib.illegalConstructor();
    }
    digest(algorithm, data) {
      try {
        this.#brand;
        requireArgs(arguments.length, 2, "digest");
        const name = lib.domString(lib.isObject(algorithm) ? requiredName(algorithm) : algorithm);
        if (!lib.isBufferSource(data)) throw new TypeError("digest: the data is neither an ArrayBuffer nor a view of one");
        const hash = ops.digest(name, data);
        if (hash === null || hash === undefined) throw new lib.DOMException(`Unrecognized algorithm name: ${name}`, "NotSupportedError");
        return PromiseResolve(lib.exactBuffer(hash));
      } catch (error) {
        return PromiseReject(error);
      }
    }
  }
  lib.defineInterface(SubtleCrypto, "SubtleCrypto");

  function requiredName(algorithm) {
    const { name } = algorithm;
    if (name === undefined) throw new TypeError("The algorithm has no name");
    return name;
  }

  class Crypto {
    #subtle = new SubtleCrypto(lib.internal);
    constructor(token = undefined) {
      if (token !== lib.internal) throw lib.illegalConstructor();
    }
    get subtle() {
      return this.#subtle;
    }
    getRandomValues(array) {
      this.#subtle;
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
      this.#subtle;
      return ops.randomUuid();
    }
  }
  lib.defineInterface(Crypto, "Crypto");
  defineGlobal("crypto", new Crypto(lib.internal));
})
