// crypto: getRandomValues and randomUUID (Web Cryptography section 10), from ring's SystemRandom, and the face of `crypto.subtle`.
(function (ops, lib) {
  "use strict";
  const { PromiseReject, PromiseResolve, ReflectApply, TypedArrayPrototypeGetSymbolToStringTag, TypeError } = lib.p;
  const { defineGlobal, requireArgs } = lib;

  const RANDOM_BYTES_MAX = 65536;
  const integerKinds = new Set([
    "Int8Array", "Uint8Array", "Uint8ClampedArray", "Int16Array", "Uint16Array", "Int32Array", "Uint32Array", "BigInt64Array", "BigUint64Array",
  ]);
  const { SetPrototypeHas } = lib.p;

  // A settled promise of what a method gives or throws. `check` throws for a receiver that is not ours.
  function settled(name, given, required, check, args) {
    try {
      check();
      requireArgs(given, required, name);
      lib.load("subtle.js");
      return PromiseResolve(ReflectApply(lib.subtleWork[name], lib.subtleWork, args));
    } catch (error) {
      return PromiseReject(error);
    }
  }

  // What it does is in a rare file: many programs look at `crypto.subtle` while they start, and few call it there.
  class SubtleCrypto {
    #brand = undefined;
    constructor(token = undefined) {
      if (token !== lib.internal) throw lib.illegalConstructor();
    }
    encrypt(algorithm, key, data) {
      return settled("encrypt", arguments.length, 3, () => this.#brand, [algorithm, key, data]);
    }
    decrypt(algorithm, key, data) {
      return settled("decrypt", arguments.length, 3, () => this.#brand, [algorithm, key, data]);
    }
    sign(algorithm, key, data) {
      return settled("sign", arguments.length, 3, () => this.#brand, [algorithm, key, data]);
    }
    verify(algorithm, key, signature, data) {
      return settled("verify", arguments.length, 4, () => this.#brand, [algorithm, key, signature, data]);
    }
    digest(algorithm, data) {
      return settled("digest", arguments.length, 2, () => this.#brand, [algorithm, data]);
    }
    generateKey(algorithm, extractable, keyUsages) {
      return settled("generateKey", arguments.length, 3, () => this.#brand, [algorithm, extractable, keyUsages]);
    }
    deriveKey(algorithm, baseKey, derivedKeyType, extractable, keyUsages) {
      return settled("deriveKey", arguments.length, 5, () => this.#brand, [algorithm, baseKey, derivedKeyType, extractable, keyUsages]);
    }
    deriveBits(algorithm, baseKey, length = null) {
      return settled("deriveBits", arguments.length, 2, () => this.#brand, [algorithm, baseKey, length]);
    }
    importKey(format, keyData, algorithm, extractable, keyUsages) {
      return settled("importKey", arguments.length, 5, () => this.#brand, [format, keyData, algorithm, extractable, keyUsages]);
    }
    exportKey(format, key) {
      return settled("exportKey", arguments.length, 2, () => this.#brand, [format, key]);
    }
    wrapKey(format, key, wrappingKey, wrapAlgorithm) {
      return settled("wrapKey", arguments.length, 4, () => this.#brand, [format, key, wrappingKey, wrapAlgorithm]);
    }
    unwrapKey(format, wrappedKey, unwrappingKey, unwrapAlgorithm, unwrappedKeyAlgorithm, extractable, keyUsages) {
      return settled("unwrapKey", arguments.length, 7, () => this.#brand, [format, wrappedKey, unwrappingKey, unwrapAlgorithm, unwrappedKeyAlgorithm, extractable, keyUsages]);
    }
    // Of the Workers platform.
    timingSafeEqual(a, b) {
      this.#brand;
      requireArgs(arguments.length, 2, "timingSafeEqual");
      lib.load("subtle.js");
      return lib.subtleWork.timingSafeEqual(a, b);
    }
  }
  lib.defineInterface(SubtleCrypto, "SubtleCrypto");
  lib.subtle = new SubtleCrypto(lib.internal);

  class Crypto {
    #brand = undefined;
    constructor(token = undefined) {
      if (token !== lib.internal) throw lib.illegalConstructor();
    }
    get subtle() {
      this.#brand;
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
