// node:crypto: the common part, on the digests and HMACs of `crypto.subtle`.
(function (ops, lib) {
  "use strict";
  lib.load("subtle.js");
  lib.loadNode("node:buffer");
  const { Buffer } = lib.nodeModules["node:buffer"];
  const native = lib.subtleOps;

  const invalidArg = (name, wanted, value) =>
    Object.assign(new TypeError(`The "${name}" argument must be ${wanted}. Received ${value === null ? "null" : typeof value}`), { code: "ERR_INVALID_ARG_TYPE" });
  const outOfRange = (name, wanted, value) =>
    Object.assign(new RangeError(`The value of "${name}" is out of range. It must be ${wanted}. Received ${String(value)}`), { code: "ERR_OUT_OF_RANGE" });

  const HASHES = {
    __proto__: null, sha1: "SHA-1", "rsa-sha1": "SHA-1", sha256: "SHA-256", "rsa-sha256": "SHA-256", sha384: "SHA-384", "rsa-sha384": "SHA-384", sha512: "SHA-512", "rsa-sha512": "SHA-512",
    "sha-1": "SHA-1", "sha-256": "SHA-256", "sha-384": "SHA-384", "sha-512": "SHA-512",
  };
  function hashNamed(name) {
    if (typeof name !== "string") throw invalidArg("algorithm", "of type string", name);
    const found = HASHES[name.toLowerCase()];
    if (found === undefined) throw Object.assign(new Error("Digest method not supported"), { code: "ERR_CRYPTO_INVALID_DIGEST" });
    return found;
  }

  function bytesOf(data, encoding, name = "data") {
    if (typeof data === "string") return lib.nodeEncode(data, encoding === "buffer" ? "utf8" : encoding);
    if (lib.isBufferSource(data)) return lib.bytesOf(data);
    throw invalidArg(name, "of type string or an instance of Buffer, TypedArray, or DataView", data);
  }
  const shown = (bytes, encoding) => encoding === undefined || encoding === "buffer" ? Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength) : Buffer.from(bytes).toString(encoding);

  // What was given so far is kept: it is hashed when it is asked for.
  class Summed {
    #parts = [];
    #done = false;
    update(data, encoding = undefined) {
      if (this.#done) throw Object.assign(new Error("Digest already called"), { code: "ERR_CRYPTO_HASH_FINALIZED" });
      this.#parts.push(Uint8Array.from(bytesOf(data, encoding)));
      return this;
    }
    take() {
      if (this.#done) throw Object.assign(new Error("Digest already called"), { code: "ERR_CRYPTO_HASH_FINALIZED" });
      this.#done = true;
      return Buffer.concat(this.#parts);
    }
  }

  class Hash {
    #hash;
    #state;
    #done = false;
    constructor(hash) {
      this.#hash = hash;
      this.#state = native.digestNew(hash);
    }
    update(data, encoding = undefined) {
      if (this.#done) throw Object.assign(new Error("Digest already called"), { code: "ERR_CRYPTO_HASH_FINALIZED" });
      native.digestPush(this.#state, bytesOf(data, encoding));
      return this;
    }
    digest(encoding = undefined) {
      if (this.#done) throw Object.assign(new Error("Digest already called"), { code: "ERR_CRYPTO_HASH_FINALIZED" });
      this.#done = true;
      return shown(native.digestEnd(this.#state), encoding);
    }
    copy() {
      if (this.#done) throw Object.assign(new Error("Digest already called"), { code: "ERR_CRYPTO_HASH_FINALIZED" });
      const made = new Hash(this.#hash);
      made.#state = native.digestCopy(this.#state);
      return made;
    }
  }

  class Hmac {
    #hash;
    #key;
    #data = new Summed();
    constructor(hash, key) {
      this.#hash = hash;
      this.#key = key;
    }
    update(data, encoding = undefined) {
      this.#data.update(data, encoding);
      return this;
    }
    digest(encoding = undefined) {
      return shown(native.hmacSign(this.#hash, this.#key, this.#data.take()), encoding);
    }
  }

  function randomBytes(size, callback = undefined) {
    if (typeof size !== "number") throw invalidArg("size", "of type number", size);
    if (!(size >= 0 && size <= 2 ** 31 - 1)) throw outOfRange("size", ">= 0 && <= 2147483647", size);
    const bytes = Buffer.alloc(size);
    if (size > 0) ops.randomFill(bytes);
    if (callback === undefined) return bytes;
    queueMicrotask(() => callback(null, bytes));
    return undefined;
  }

  function randomFillSync(view, offset = 0, size = undefined) {
    const bytes = lib.bytesOf(view);
    const each = view.BYTES_PER_ELEMENT ?? 1;
    const from = offset * each;
    const length = size === undefined ? bytes.length - from : size * each;
    if (from < 0 || length < 0 || from + length > bytes.length) throw outOfRange("size + offset", `<= ${bytes.length}`, from + length);
    if (length > 0) ops.randomFill(bytes.subarray(from, from + length));
    return view;
  }

  // Evenly from low to below high: what would lean is drawn again.
  function randomInt(low, high = undefined, callback = undefined) {
    if (high === undefined || typeof high === "function") [low, high, callback] = [0, low, high];
    if (!Number.isSafeInteger(low)) throw invalidArg("min", "a safe integer", low);
    if (!Number.isSafeInteger(high)) throw invalidArg("max", "a safe integer", high);
    const range = high - low;
    if (!(range > 0 && range <= 2 ** 48 - 1)) throw outOfRange("max", `greater than ${low} and at most 2^48 - 1 above it`, high);
    const limit = 2 ** 48 - 2 ** 48 % range;
    let value;
    do value = randomBytes(6).readUIntBE(0, 6);
    while (value >= limit);
    const result = low + value % range;
    if (callback === undefined) return result;
    queueMicrotask(() => callback(null, result));
    return undefined;
  }

  function timingSafeEqual(a, b) {
    const [first, second] = [bytesOf(a, "utf8", "buf1"), bytesOf(b, "utf8", "buf2")];
    if (first.length !== second.length) {
      throw Object.assign(new RangeError("Input buffers must have the same byte length"), { code: "ERR_CRYPTO_TIMING_SAFE_EQUAL_LENGTH" });
    }
    return native.timingSafeEqual(first, second);
  }

  const SIZES = { __proto__: null, "SHA-1": 20, "SHA-256": 32, "SHA-384": 48, "SHA-512": 64 };
  function pbkdf2Sync(password, salt, iterations, length, digest) {
    const hash = hashNamed(digest);
    if (!(Number.isInteger(iterations) && iterations > 0)) throw outOfRange("iterations", ">= 1", iterations);
    if (!(Number.isInteger(length) && length >= 0)) throw outOfRange("keylen", ">= 0", length);
    const out = lib.pbkdf2({ __proto__: null, hash, iterations, salt: bytesOf(salt, "utf8", "salt") }, bytesOf(password, "utf8", "password"), length);
    return Buffer.from(out.buffer);
  }
  function hkdfSync(digest, key, salt, info, length) {
    const hash = hashNamed(digest);
    if (!(length >= 0 && length <= 255 * SIZES[hash])) throw Object.assign(new RangeError("Invalid key length"), { code: "ERR_CRYPTO_INVALID_KEYLEN" });
    return native.hkdf(hash, bytesOf(key, "utf8", "ikm"), bytesOf(salt, "utf8", "salt"), bytesOf(info, "utf8", "info"), length).buffer;
  }
  // The last argument of a function whose result is there at once.
  const later = (work) => (...args) => {
    const callback = args.pop();
    if (typeof callback !== "function") throw invalidArg("callback", "of type function", callback);
    const result = work(...args);
    queueMicrotask(() => callback(null, result));
  };

  const module = {
    createHash: (algorithm) => new Hash(hashNamed(algorithm)),
    createHmac: (algorithm, key) => new Hmac(hashNamed(algorithm), Uint8Array.from(bytesOf(key, "utf8", "key"))),
    hash: (algorithm, data, encoding = "hex") => new Hash(hashNamed(algorithm)).update(data).digest(encoding),
    Hash,
    Hmac,
    getHashes: () => ["RSA-SHA1", "RSA-SHA256", "RSA-SHA384", "RSA-SHA512", "sha1", "sha256", "sha384", "sha512"],
    getRandomValues: (array) => crypto.getRandomValues(array),
    randomBytes,
    pseudoRandomBytes: randomBytes,
    randomFillSync,
    randomFill: (view, ...rest) => later((...args) => randomFillSync(view, ...args))(...rest),
    randomInt,
    randomUUID: () => ops.randomUuid(),
    timingSafeEqual,
    pbkdf2Sync,
    pbkdf2: later(pbkdf2Sync),
    hkdfSync,
    hkdf: later(hkdfSync),
    subtle: lib.subtle,
    webcrypto: crypto,
    constants: {},
  };
  lib.nodeModules["node:crypto"] = { ...module, default: module };
})
