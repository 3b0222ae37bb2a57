// What SubtleCrypto does (Web Cryptography section 14), whole, and the two of the Workers platform: `timingSafeEqual` and `DigestStream`.
// A rare file: it runs when a program first calls a method of `crypto.subtle`. Many programs look at that object while they start.
//
// Everything is computed when a method is called; the promise it gives is already settled. A private RSA key's operation is
// the longest thing that cannot be interrupted.
(function (ops, lib) {
  "use strict";
  lib.load("subtle_algorithms.js");
  lib.load("subtle_keys.js", ops);
  const {
    JSONParse, MathMin, ObjectDefineProperty, TypeError, TypedArrayPrototypeGetByteLength, TypedArrayPrototypeSet, TypedArrayPrototypeSubarray, Uint8Array,
  } = lib.p;
  const { hasAlgorithm, keyBytes, keyInfo, keyType, normalizeAlgorithm, requireArgs } = lib;

  const fail = (name, message) => new lib.DOMException(message, name);
  const failed = (message) => fail("OperationError", message);
  const sizeOf = TypedArrayPrototypeGetByteLength;

  function bytesArgument(value, what) {
    if (!lib.isBufferSource(value)) throw new TypeError(`${what} is neither an ArrayBuffer nor a view of one`);
    return lib.bytesOf(value);
  }

  function keyArgument(value, what) {
    if (!lib.isCryptoKey(value)) throw new TypeError(`${what} is not a CryptoKey`);
    return value;
  }

  function formatArgument(value) {
    const format = lib.domString(value);
    if (format !== "raw" && format !== "pkcs8" && format !== "spki" && format !== "jwk") throw new TypeError(`"${format}" is not a format of keys`);
    return format;
  }

  // Algorithms are objects or names; anything else becomes a name when it is read.
  const algorithmArgument = (value) => lib.isObject(value) ? value : lib.domString(value);

  function checkKey(algorithm, key, usage) {
    if (keyInfo(key).name !== algorithm.name) throw fail("InvalidAccessError", `The key is not one of ${algorithm.name}`);
    if (!lib.keyMayBe(key, usage)) throw fail("InvalidAccessError", `The key is not for ${usage}`);
  }

  const done = (bytes, what) => {
    if (bytes === null) throw failed(what);
    return bytes;
  };

  const EMPTY = new Uint8Array(0);
  const isTagLength = (bits) => bits === 32 || bits === 64 || (bits >= 96 && bits <= 128 && bits % 8 === 0);

  function cipher(encrypt, algorithm, key, data) {
    const bytes = keyBytes(key);
    switch (algorithm.name) {
      case "AES-CBC":
        if (sizeOf(algorithm.iv) !== 16) throw failed("The iv of AES-CBC has 16 bytes");
        return done(ops.aesCbc(encrypt, bytes, algorithm.iv, data), "The data does not decrypt");
      case "AES-CTR":
        if (sizeOf(algorithm.counter) !== 16) throw failed("The counter of AES-CTR has 16 bytes");
        if (algorithm.length === 0 || algorithm.length > 128) throw failed("The counter's length is 1 to 128 bits");
        return done(ops.aesCtr(bytes, algorithm.counter, algorithm.length, data), "The data is too long for the counter");
      case "AES-GCM": {
        const tag = algorithm.tagLength ?? 128;
        if (!isTagLength(tag)) throw failed("The tag of AES-GCM has 32, 64, 96, 104, 112, 120 or 128 bits");
        if (sizeOf(algorithm.iv) === 0) throw failed("The iv of AES-GCM is not empty");
        return done(ops.aesGcm(encrypt, bytes, algorithm.iv, algorithm.additionalData ?? EMPTY, tag / 8, data), "The data does not decrypt");
      }
      case "AES-KW":
        return done(ops.aesKw(encrypt, bytes, data), encrypt ? "The key's length is no multiple of 8 bytes" : "The key does not unwrap");
      default: {
        const { hash } = keyInfo(key);
        if (keyType(key) !== (encrypt ? "public" : "private")) throw fail("InvalidAccessError", `The key is a ${keyType(key)} one`);
        const label = algorithm.label ?? EMPTY;
        if (encrypt) return done(ops.rsaEncrypt(hash, label, bytes, data), "The data is too long for the key");
        return done(ops.rsaDecrypt(hash, label, bytes, data), "The data does not decrypt");
      }
    }
  }

  function signature(algorithm, key, data) {
    const bytes = keyBytes(key);
    const info = keyInfo(key);
    switch (algorithm.name) {
      case "HMAC":
        return ops.hmacSign(info.hash, bytes, data);
      case "ECDSA":
        return done(ops.ecdsaSign(info.namedCurve, algorithm.hash, bytes, data), "Nothing was signed");
      case "Ed25519":
        return done(ops.ed25519Sign(bytes, data), "Nothing was signed");
      default:
        return done(ops.rsaSign(info.hash, algorithm.saltLength ?? -1, bytes, data), "The key is too short for the hash and the salt");
    }
  }

  function verifies(algorithm, key, given, data) {
    const bytes = keyBytes(key);
    const info = keyInfo(key);
    switch (algorithm.name) {
      case "HMAC":
        return ops.hmacVerify(info.hash, bytes, data, given);
      case "ECDSA":
        return ops.ecdsaVerify(info.namedCurve, algorithm.hash, bytes, data, given);
      case "Ed25519":
        return ops.ed25519Verify(bytes, data, given);
      default:
        return ops.rsaVerify(info.hash, algorithm.saltLength ?? -1, bytes, data, given);
    }
  }

  const hashBytes = (hash) => hash === "SHA-1" ? 20 : hash === "SHA-256" ? 32 : hash === "SHA-384" ? 48 : 64;

  function pbkdf2({ hash, iterations, salt }, password, length) {
    const size = hashBytes(hash);
    const out = new Uint8Array(length);
    for (let block = 1, at = 0; at < length; block++, at += size) {
      const state = ops.pbkdf2Begin(hash, password, salt, block);
      for (let left = iterations - 1; left > 0;) left -= ops.pbkdf2Steps(hash, password, state, left);
      TypedArrayPrototypeSet(out, TypedArrayPrototypeSubarray(state, size, size + MathMin(size, length - at)), at);
    }
    return out;
  }

  function agreement(algorithm, key, length) {
    const other = algorithm.public;
    const info = keyInfo(key);
    if (keyType(key) !== "private" || keyType(other) !== "public") throw fail("InvalidAccessError", "An agreement needs a private key and a public one");
    if (keyInfo(other).name !== info.name || keyInfo(other).namedCurve !== info.namedCurve) throw fail("InvalidAccessError", "The keys are not of one curve");
    const secret = info.name === "ECDH" ? ops.ecdhDerive(info.namedCurve, keyBytes(key), keyBytes(other)) : ops.x25519(keyBytes(key), keyBytes(other));
    done(secret, "The keys agree on nothing");
    if (length === null) return secret;
    if (length > sizeOf(secret) * 8) throw failed("The secret is not that long");
    const cut = lib.copyBytes(TypedArrayPrototypeSubarray(secret, 0, (length + 7) >>> 3));
    lib.cutBits(cut, length);
    return cut;
  }

  function derivedBits(algorithm, key, length) {
    if (algorithm.name === "ECDH" || algorithm.name === "X25519") return agreement(algorithm, key, length);
    if (length === null || length % 8 !== 0) throw failed("The length is no multiple of 8 bits");
    if (algorithm.name === "HKDF") {
      return done(ops.hkdf(algorithm.hash, keyBytes(key), algorithm.salt, algorithm.info, length / 8), "The length is more than HKDF gives");
    }
    if (algorithm.iterations === 0) throw failed("The iterations are not 0");
    return pbkdf2(algorithm, keyBytes(key), length / 8);
  }

  // A JWK for a program: an ordinary object.
  function shownJwk(jwk) {
    const shown = {};
    const names = lib.p.ObjectKeys(jwk);
    for (let i = 0; i < names.length; i++) {
      ObjectDefineProperty(shown, names[i], { __proto__: null, value: jwk[names[i]], writable: true, enumerable: true, configurable: true });
    }
    return shown;
  }

  function parsedJwk(bytes) {
    let value;
    try {
      value = JSONParse(lib.utf8Decode(bytes));
    } catch {
      value = undefined;
    }
    if (!lib.isObject(value)) throw fail("DataError", "What was unwrapped is no JWK");
    const jwk = lib.jwkOf(value);
    if (jwk.kty === undefined) throw fail("DataError", "The JWK has no kty");
    return jwk;
  }

  // What the methods of `SubtleCrypto` (crypto.js) do with as many arguments as they need.
  lib.subtleWork = {
    __proto__: null,
    encrypt(algorithm, key, data) {
      return this.crypt(true, "encrypt", algorithm, key, data);
    },
    decrypt(algorithm, key, data) {
      return this.crypt(false, "decrypt", algorithm, key, data);
    },
    crypt(encrypt, usage, algorithm, key, data) {
      algorithm = algorithmArgument(algorithm);
      keyArgument(key, "The key");
      const bytes = bytesArgument(data, "The data");
      const normal = normalizeAlgorithm(algorithm, usage);
      checkKey(normal, key, usage);
      return lib.exactBuffer(cipher(encrypt, normal, key, bytes));
    },
    sign(algorithm, key, data) {
      algorithm = algorithmArgument(algorithm);
      keyArgument(key, "The key");
      const bytes = bytesArgument(data, "The data");
      const normal = normalizeAlgorithm(algorithm, "sign");
      checkKey(normal, key, "sign");
      return lib.exactBuffer(signature(normal, key, bytes));
    },
    verify(algorithm, key, signature, data) {
      algorithm = algorithmArgument(algorithm);
      keyArgument(key, "The key");
      const given = bytesArgument(signature, "The signature");
      const bytes = bytesArgument(data, "The data");
      const normal = normalizeAlgorithm(algorithm, "verify");
      checkKey(normal, key, "verify");
      return verifies(normal, key, given, bytes);
    },
    digest(algorithm, data) {
      algorithm = algorithmArgument(algorithm);
      const bytes = bytesArgument(data, "The data");
      return lib.exactBuffer(ops.digest(normalizeAlgorithm(algorithm, "digest").name, bytes));
    },
    generateKey(algorithm, extractable, keyUsages) {
      algorithm = algorithmArgument(algorithm);
      const usages = lib.keyUsages(keyUsages);
      return lib.generateKey(normalizeAlgorithm(algorithm, "generateKey"), !!extractable, usages);
    },
    deriveKey(algorithm, baseKey, derivedKeyType, extractable, keyUsages) {
      algorithm = algorithmArgument(algorithm);
      keyArgument(baseKey, "The base key");
      derivedKeyType = algorithmArgument(derivedKeyType);
      const usages = lib.keyUsages(keyUsages);
      const normal = normalizeAlgorithm(algorithm, "deriveBits");
      const imported = normalizeAlgorithm(derivedKeyType, "importKey");
      const sized = normalizeAlgorithm(derivedKeyType, "getKeyLength");
      checkKey(normal, baseKey, "deriveKey");
      const bytes = derivedBits(normal, baseKey, lib.keyLength(sized));
      return lib.importKey("raw", bytes, imported, !!extractable, usages);
    },
    deriveBits(algorithm, baseKey, length = null) {
      algorithm = algorithmArgument(algorithm);
      keyArgument(baseKey, "The base key");
      const bits = length === null || length === undefined ? null : lib.unsignedMod(length, 4294967296);
      const normal = normalizeAlgorithm(algorithm, "deriveBits");
      checkKey(normal, baseKey, "deriveBits");
      return lib.exactBuffer(derivedBits(normal, baseKey, bits));
    },
    importKey(format, keyData, algorithm, extractable, keyUsages) {
      format = formatArgument(format);
      const isBytes = lib.isBufferSource(keyData);
      if (!isBytes && !lib.isObject(keyData)) throw new TypeError("The key's data is neither a buffer nor a JWK");
      let data = isBytes ? keyData : lib.jwkOf(keyData);
      algorithm = algorithmArgument(algorithm);
      const usages = lib.keyUsages(keyUsages);
      const normal = normalizeAlgorithm(algorithm, "importKey");
      if (isBytes === (format === "jwk")) throw new TypeError(format === "jwk" ? "The key's data is no JWK" : "The key's data is no buffer");
      if (isBytes) data = lib.copyBytes(data);
      return lib.importKey(format, data, normal, !!extractable, usages);
    },
    exportKey(format, key) {
      format = formatArgument(format);
      keyArgument(key, "The key");
      const data = exported(format, key);
      return format === "jwk" ? shownJwk(data) : lib.exactBuffer(data);
    },
    wrapKey(format, key, wrappingKey, wrapAlgorithm) {
      format = formatArgument(format);
      keyArgument(key, "The key");
      keyArgument(wrappingKey, "The wrapping key");
      wrapAlgorithm = algorithmArgument(wrapAlgorithm);
      const normal = normalizeAlgorithm(wrapAlgorithm, hasAlgorithm(wrapAlgorithm, "wrapKey") ? "wrapKey" : "encrypt");
      checkKey(normal, wrappingKey, "wrapKey");
      const data = exported(format, key);
      return lib.exactBuffer(cipher(true, normal, wrappingKey, format === "jwk" ? lib.jwkText(data) : data));
    },
    unwrapKey(format, wrappedKey, unwrappingKey, unwrapAlgorithm, unwrappedKeyAlgorithm, extractable, keyUsages) {
      format = formatArgument(format);
      const wrapped = bytesArgument(wrappedKey, "The wrapped key");
      keyArgument(unwrappingKey, "The unwrapping key");
      unwrapAlgorithm = algorithmArgument(unwrapAlgorithm);
      unwrappedKeyAlgorithm = algorithmArgument(unwrappedKeyAlgorithm);
      const usages = lib.keyUsages(keyUsages);
      const normal = normalizeAlgorithm(unwrapAlgorithm, hasAlgorithm(unwrapAlgorithm, "unwrapKey") ? "unwrapKey" : "decrypt");
      const imported = normalizeAlgorithm(unwrappedKeyAlgorithm, "importKey");
      checkKey(normal, unwrappingKey, "unwrapKey");
      const bytes = cipher(false, normal, unwrappingKey, wrapped);
      return lib.importKey(format, format === "jwk" ? parsedJwk(bytes) : bytes, imported, !!extractable, usages);
    },
    // Of the Workers platform: whether two buffers are the same, in a time that does not tell where they differ.
    timingSafeEqual(a, b) {
      const first = bytesArgument(a, "The first argument");
      const second = bytesArgument(b, "The second argument");
      if (lib.viewByteLength(first) !== lib.viewByteLength(second)) throw new TypeError("The arguments do not have the same length");
      return ops.timingSafeEqual(first, second);
    },
  };
  // For `node:crypto`.
  lib.subtleOps = ops;
  lib.pbkdf2 = pbkdf2;

  function exported(format, key) {
    if (!lib.exportable(key)) throw fail("NotSupportedError", `A key of ${keyInfo(key).name} has no form`);
    if (!lib.keyExtractable(key)) throw fail("InvalidAccessError", "The key is not extractable");
    return lib.exportKey(format, key);
  }

  // Of the Workers platform: a stream that keeps nothing of what is written to it but the digest.
  class DigestStream extends lib.WritableStream {
    #digest;
    #written = 0;
    constructor(algorithm) {
      requireArgs(arguments.length, 1, "DigestStream");
      const state = ops.digestNew(normalizeAlgorithm(algorithmArgument(algorithm), "digest").name);
      const deferred = lib.p.newDeferred();
      lib.p.setHandled(deferred.promise);
      super({
        __proto__: null,
        write: (chunk) => {
          const bytes = typeof chunk === "string" ? ops.utf8Encode(chunk) : bytesArgument(chunk, "The chunk");
          ops.digestPush(state, bytes);
          this.#written += sizeOf(bytes);
        },
        close: () => deferred.resolve(lib.exactBuffer(ops.digestEnd(state))),
        abort: (reason) => deferred.reject(reason),
      });
      this.#digest = deferred.promise;
    }
    get digest() {
      return this.#digest;
    }
    get bytesWritten() {
      return lib.p.BigInt(this.#written);
    }
  }
  ObjectDefineProperty(DigestStream.prototype, lib.p.SymbolToStringTag, { __proto__: null, value: "DigestStream", configurable: true });
  lib.DigestStream = DigestStream;
})
