// CryptoKey (Web Cryptography section 13), and how keys are made, come and go. A rare file.
//
// Owns the bytes of keys, in one form an algorithm: secret keys as they are; RSA in PKCS #1 DER; a curve's public key as its point,
// a private one as its scalar with the point behind it. No program sees them but by `exportKey`.
// Fails as the specification says: SyntaxError for usages, DataError for key data, OperationError for what cannot be made.
(function (ops, lib) {
  "use strict";
  const {
    ArrayPrototypeIncludes, ArrayPrototypePush, ObjectSetPrototypeOf, StringPrototypeSlice, TypeError, TypedArrayPrototypeGetByteLength,
    TypedArrayPrototypeSet, TypedArrayPrototypeSubarray, Uint8Array,
  } = lib.p;

  const fail = (name, message) => new lib.DOMException(message, name);
  const dataError = (message) => fail("DataError", message);
  const sizeOf = TypedArrayPrototypeGetByteLength;

  const USAGES = ["encrypt", "decrypt", "sign", "verify", "deriveKey", "deriveBits", "wrapKey", "unwrapKey"];
  const CIPHER = ["encrypt", "decrypt", "wrapKey", "unwrapKey"];
  const SIGN = ["sign"];
  const VERIFY = ["verify"];
  const DERIVE = ["deriveKey", "deriveBits"];
  const NOTHING = [];

  // What keys of an algorithm are and may be for. `secret` or `public` and `private`.
  const kinds = {
    __proto__: null,
    "AES-CTR": { __proto__: null, kind: "aes", secret: CIPHER, use: "enc" },
    "AES-CBC": { __proto__: null, kind: "aes", secret: CIPHER, use: "enc" },
    "AES-GCM": { __proto__: null, kind: "aes", secret: CIPHER, use: "enc" },
    "AES-KW": { __proto__: null, kind: "aes", secret: ["wrapKey", "unwrapKey"], use: "enc" },
    HMAC: { __proto__: null, kind: "hmac", secret: ["sign", "verify"], use: "sig" },
    "RSASSA-PKCS1-v1_5": { __proto__: null, kind: "rsa", public: VERIFY, private: SIGN, use: "sig", jwk: "RS" },
    "RSA-PSS": { __proto__: null, kind: "rsa", public: VERIFY, private: SIGN, use: "sig", jwk: "PS" },
    "RSA-OAEP": { __proto__: null, kind: "rsa", public: ["encrypt", "wrapKey"], private: ["decrypt", "unwrapKey"], use: "enc", jwk: "RSA-OAEP" },
    ECDSA: { __proto__: null, kind: "ec", public: VERIFY, private: SIGN, use: "sig" },
    ECDH: { __proto__: null, kind: "ec", public: NOTHING, private: DERIVE, use: "enc" },
    Ed25519: { __proto__: null, kind: "okp", public: VERIFY, private: SIGN, use: "sig" },
    X25519: { __proto__: null, kind: "okp", public: NOTHING, private: DERIVE, use: "enc" },
    HKDF: { __proto__: null, kind: "kdf", secret: DERIVE },
    PBKDF2: { __proto__: null, kind: "kdf", secret: DERIVE },
  };

  // What a key is, as the runtime has it: `name`, and by algorithm `length`, `hash`, `namedCurve`, `modulusLength`, `publicExponent`.
  function publicAlgorithm(info) {
    switch (kinds[info.name].kind) {
      case "aes":
        return { name: info.name, length: info.length };
      case "hmac":
        return { name: info.name, hash: { name: info.hash }, length: info.length };
      case "rsa":
        return { name: info.name, modulusLength: info.modulusLength, publicExponent: lib.copyBytes(info.publicExponent), hash: { name: info.hash } };
      case "ec":
        return { name: info.name, namedCurve: info.namedCurve };
      default:
        return { name: info.name };
    }
  }

  class CryptoKey {
    #type;
    #extractable;
    #info;
    #usages;
    #bytes;
    // Made when a program looks.
    #algorithm = undefined;
    #shownUsages = undefined;
    constructor(token = undefined, type = undefined, info = undefined, extractable = undefined, usages = undefined, bytes = undefined) {
      if (token !== lib.internal) throw lib.illegalConstructor();
      this.#type = type;
      this.#info = info;
      this.#extractable = extractable;
      this.#usages = usages;
      this.#bytes = bytes;
    }
    get type() {
      return this.#type;
    }
    get extractable() {
      return this.#extractable;
    }
    get algorithm() {
      return this.#algorithm ??= publicAlgorithm(this.#info);
    }
    get usages() {
      if (this.#shownUsages === undefined) {
        const shown = this.#shownUsages = [];
        for (let i = 0; i < this.#usages.length; i++) ArrayPrototypePush(shown, this.#usages[i]);
      }
      return this.#shownUsages;
    }
    static {
      lib.isCryptoKey = (value) => lib.isObject(value) && #bytes in value;
      lib.keyBytes = (key) => key.#bytes;
      lib.keyInfo = (key) => key.#info;
      lib.keyType = (key) => key.#type;
      lib.keyExtractable = (key) => key.#extractable;
      lib.keyMayBe = (key, usage) => ArrayPrototypeIncludes(key.#usages, usage);
      lib.cloneKey = (key) => new CryptoKey(lib.internal, key.#type, key.#info, key.#extractable, key.#usages, key.#bytes);
    }
  }
  lib.defineInterface(CryptoKey, "CryptoKey");

  const newKey = (type, info, extractable, usages, bytes) => new CryptoKey(lib.internal, type, info, extractable, usages, bytes);

  // sequence<KeyUsage>: without repetitions, in the specification's order.
  lib.keyUsages = (value) => {
    const given = [];
    lib.iterate(value, "The key's usages", (item) => {
      const usage = lib.domString(item);
      if (!ArrayPrototypeIncludes(USAGES, usage)) throw new TypeError(`"${usage}" is not a usage of keys`);
      ArrayPrototypePush(given, usage);
    });
    return only(given, USAGES);
  };

  function only(usages, allowed) {
    const kept = [];
    for (let i = 0; i < USAGES.length; i++) {
      if (ArrayPrototypeIncludes(usages, USAGES[i]) && ArrayPrototypeIncludes(allowed, USAGES[i])) ArrayPrototypePush(kept, USAGES[i]);
    }
    return kept;
  }

  function checkUsages(usages, allowed, more) {
    for (let i = 0; i < usages.length; i++) {
      if (!ArrayPrototypeIncludes(allowed, usages[i]) && (more === undefined || !ArrayPrototypeIncludes(more, usages[i]))) {
        throw fail("SyntaxError", `A key of this kind cannot be for ${usages[i]}`);
      }
    }
  }

  function needUsages(usages) {
    if (usages.length === 0) throw fail("SyntaxError", "A key that is for nothing is of no use");
  }

  const checkCurve = (name) => {
    if (name !== "P-256" && name !== "P-384" && name !== "P-521") throw fail("NotSupportedError", `There is no curve ${name}`);
  };
  const coordinateBytes = (curve) => curve === "P-256" ? 32 : curve === "P-384" ? 48 : 66;
  const blockBits = (hash) => hash === "SHA-1" || hash === "SHA-256" ? 512 : 1024;

  // --- generateKey ---

  function randomKey(bits) {
    const bytes = new Uint8Array((bits + 7) >>> 3);
    ops.randomFill(bytes);
    cutBits(bytes, bits);
    return bytes;
  }

  // Zeros the bits of the last byte that are past `bits`.
  function cutBits(bytes, bits) {
    if (bits % 8 !== 0) bytes[sizeOf(bytes) - 1] &= 0xff << (8 - bits % 8);
  }
  lib.cutBits = cutBits;

  const isAesLength = (length) => length === 128 || length === 192 || length === 256;

  const RSA_BITS_MIN = 1024;
  const RSA_BITS_MAX = 4096;
  const EXPONENT_MAX = 0x1ffffffff;

  function exponentOf(bytes) {
    let value = 0;
    for (let i = 0; i < sizeOf(bytes); i++) {
      value = value * 256 + bytes[i];
      if (value > EXPONENT_MAX) return 0;
    }
    return value % 2 === 1 && value > 1 ? value : 0;
  }

  function trimmed(bytes) {
    let zeros = 0;
    while (zeros < sizeOf(bytes) - 1 && bytes[zeros] === 0) zeros++;
    return zeros === 0 ? bytes : lib.copyBytes(TypedArrayPrototypeSubarray(bytes, zeros));
  }

  // Each number that is tried is one native call: a limit on CPU time ends the search like any other loop.
  function findPrime(bits) {
    for (;;) {
      const prime = ops.rsaPrime(bits);
      if (prime !== null) return prime;
    }
  }

  function generateRsa(algorithm) {
    const { modulusLength } = algorithm;
    if (modulusLength < RSA_BITS_MIN || modulusLength > RSA_BITS_MAX) {
      throw fail("OperationError", `A modulus has ${RSA_BITS_MIN} to ${RSA_BITS_MAX} bits`);
    }
    if (exponentOf(algorithm.publicExponent) === 0) throw fail("OperationError", "The public exponent is not odd, or too small or too large");
    return () => {
      const half = modulusLength >>> 1;
      for (;;) {
        const bytes = ops.rsaFromPrimes(findPrime(modulusLength - half), findPrime(half), algorithm.publicExponent);
        if (bytes !== null) return bytes;
      }
    };
  }

  // The work, to be done when everything was checked.
  function generator(kind, algorithm) {
    switch (kind) {
      case "aes":
        if (!isAesLength(algorithm.length)) throw fail("OperationError", "The length of an AES key is 128, 192 or 256");
        return () => randomKey(algorithm.length);
      case "hmac":
        if (algorithm.length === 0) throw fail("OperationError", "The length of an HMAC key is not 0");
        algorithm.length ??= blockBits(algorithm.hash);
        return () => randomKey(algorithm.length);
      case "rsa":
        return generateRsa(algorithm);
      case "ec":
        checkCurve(algorithm.namedCurve);
        return () => ops.ecGenerate(algorithm.namedCurve);
      default:
        return () => ops.okpGenerate(algorithm.name);
    }
  }

  lib.generateKey = (algorithm, extractable, usages) => {
    const { kind, secret, public: forPublic, private: forPrivate } = kinds[algorithm.name];
    checkUsages(usages, secret ?? forPublic, forPrivate);
    const generate = generator(kind, algorithm);
    needUsages(secret === undefined ? only(usages, forPrivate) : usages);
    const bytes = generate();
    if (secret !== undefined) return newKey("secret", algorithm, extractable, usages, bytes);
    if (kind === "rsa") algorithm.publicExponent = trimmed(algorithm.publicExponent);
    return {
      publicKey: newKey("public", algorithm, true, only(usages, forPublic), publicOf(kind, algorithm, bytes)),
      privateKey: newKey("private", algorithm, extractable, only(usages, forPrivate), bytes),
    };
  };

  function publicOf(kind, info, bytes) {
    if (kind === "rsa") return ops.rsaPublic(bytes);
    return lib.copyBytes(TypedArrayPrototypeSubarray(bytes, kind === "okp" ? 32 : coordinateBytes(info.namedCurve)));
  }

  // --- importKey ---

  // `data`: bytes, or a converted JWK.
  lib.importKey = (format, data, algorithm, extractable, usages) => {
    const key = importers[kinds[algorithm.name].kind](format, data, algorithm, extractable, usages);
    if (lib.keyType(key) !== "public") needUsages(usages);
    return key;
  };

  const unsupported = (format, name) => fail("NotSupportedError", `${name} has no key format "${format}"`);

  const importers = {
    __proto__: null,
    aes(format, data, algorithm, extractable, usages) {
      checkUsages(usages, kinds[algorithm.name].secret);
      if (format !== "raw" && format !== "jwk") throw unsupported(format, algorithm.name);
      const bytes = format === "raw" ? data : jwkSecret(data);
      const length = sizeOf(bytes) * 8;
      if (!isAesLength(length)) throw dataError("The length of an AES key is 128, 192 or 256");
      if (format === "jwk") {
        if (data.alg !== undefined && data.alg !== `A${length}${StringPrototypeSlice(algorithm.name, 4)}`) throw dataError("The JWK is for another algorithm");
        checkJwk(data, "enc", extractable, usages);
      }
      return newKey("secret", { __proto__: null, name: algorithm.name, length }, extractable, usages, bytes);
    },
    hmac(format, data, algorithm, extractable, usages) {
      checkUsages(usages, kinds.HMAC.secret);
      if (format !== "raw" && format !== "jwk") throw unsupported(format, "HMAC");
      const bytes = format === "raw" ? data : jwkSecret(data);
      if (format === "jwk") {
        if (data.alg !== undefined && data.alg !== `HS${hashBits(algorithm.hash)}`) throw dataError("The JWK is for another algorithm");
        checkJwk(data, "sig", extractable, usages);
      }
      let length = sizeOf(bytes) * 8;
      if (length === 0) throw dataError("The key is empty");
      if (algorithm.length !== undefined) {
        if (algorithm.length > length || algorithm.length <= length - 8) throw dataError("The key's length is not the one that was said");
        length = algorithm.length;
        cutBits(bytes, length);
      }
      return newKey("secret", { __proto__: null, name: "HMAC", hash: algorithm.hash, length }, extractable, usages, bytes);
    },
    kdf(format, data, algorithm, extractable, usages) {
      if (format !== "raw") throw unsupported(format, algorithm.name);
      checkUsages(usages, DERIVE);
      if (extractable) throw fail("SyntaxError", `A key of ${algorithm.name} cannot be extractable`);
      return newKey("secret", { __proto__: null, name: algorithm.name }, false, usages, data);
    },
    rsa(format, data, algorithm, extractable, usages) {
      const kind = kinds[algorithm.name];
      if (format === "raw") throw unsupported(format, algorithm.name);
      const type = format === "pkcs8" || (format === "jwk" && data.d !== undefined) ? "private" : "public";
      checkUsages(usages, kind[type]);
      let bytes;
      if (format === "jwk") {
        if (data.kty !== "RSA") throw dataError("The JWK is no RSA key");
        checkJwk(data, kind.use, extractable, usages);
        if (data.alg !== undefined && data.alg !== jwkOfRsa(kind, algorithm.hash)) throw dataError("The JWK is for another algorithm");
        bytes = rsaOfJwk(data);
      } else {
        bytes = ops.rsaImport(format, data);
      }
      if (bytes === null) throw dataError("The data is no RSA key that can be used");
      const parts = ops.rsaParts(type === "private", bytes);
      const info = {
        __proto__: null, name: algorithm.name, hash: algorithm.hash, modulusLength: bitsOf(parts[0]), publicExponent: parts[1],
      };
      return newKey(type, info, extractable, usages, bytes);
    },
    ec(format, data, algorithm, extractable, usages) {
      const kind = kinds[algorithm.name];
      const curve = algorithm.namedCurve;
      const type = format === "pkcs8" || (format === "jwk" && data.d !== undefined) ? "private" : "public";
      checkUsages(usages, kind[type]);
      if (format !== "jwk" || data.kty === "EC") checkCurveName(format, curve);
      const bytes = format === "jwk" ? ecOfJwk(data, kind, algorithm, extractable, usages) : ops.ecImport(curve, format, data);
      if (bytes === null) throw dataError(`The data is no key on ${curve}`);
      return newKey(type, { __proto__: null, name: algorithm.name, namedCurve: curve }, extractable, usages, bytes);
    },
    okp(format, data, algorithm, extractable, usages) {
      const { name } = algorithm;
      const type = format === "pkcs8" || (format === "jwk" && data.d !== undefined) ? "private" : "public";
      checkUsages(usages, kinds[name][type]);
      const bytes = format === "jwk" ? okpOfJwk(data, name, extractable, usages) : ops.okpImport(name, format, data);
      if (bytes === null) throw dataError(`The data is no key of ${name}`);
      return newKey(type, { __proto__: null, name }, extractable, usages, bytes);
    },
  };

  // An unknown curve is the data's fault in a format that names its curve, the algorithm's in the others.
  function checkCurveName(format, curve) {
    try {
      checkCurve(curve);
    } catch (error) {
      throw format === "raw" || format === "jwk" ? dataError(`There is no curve ${curve}`) : error;
    }
  }

  function bitsOf(bytes) {
    const length = sizeOf(bytes);
    return length === 0 ? 0 : length * 8 - (lib.p.MathClz32(bytes[0]) - 24);
  }

  const hashBits = (hash) => StringPrototypeSlice(hash, 4);
  const jwkOfRsa = (kind, hash) => {
    if (kind.jwk !== "RSA-OAEP") return `${kind.jwk}${hashBits(hash)}`;
    return hash === "SHA-1" ? "RSA-OAEP" : `RSA-OAEP-${hashBits(hash)}`;
  };

  // --- JSON Web Keys (RFC 7517) ---

  const JWK_MEMBERS = ["alg", "crv", "d", "dp", "dq", "e", "ext", "k", "key_ops", "kty", "n", "oth", "p", "q", "qi", "use", "x", "y"];

  // The dictionary JsonWebKey.
  lib.jwkOf = (value) => {
    const jwk = { __proto__: null };
    for (let i = 0; i < JWK_MEMBERS.length; i++) {
      const name = JWK_MEMBERS[i];
      const member = value[name];
      if (member === undefined) continue;
      if (name === "ext") {
        jwk.ext = !!member;
      } else if (name === "key_ops") {
        const list = jwk.key_ops = [];
        lib.iterate(member, "The JWK's key_ops", (item) => ArrayPrototypePush(list, lib.domString(item)));
      } else if (name === "oth") {
        jwk.oth = true;
      } else {
        jwk[name] = lib.domString(member);
      }
    }
    return jwk;
  };

  function checkJwk(jwk, use, extractable, usages) {
    if (usages.length > 0 && jwk.use !== undefined && jwk.use !== use) throw dataError("The JWK is for another use");
    if (jwk.key_ops !== undefined) {
      for (let i = 0; i < jwk.key_ops.length; i++) {
        for (let j = 0; j < i; j++) if (jwk.key_ops[i] === jwk.key_ops[j]) throw dataError("The JWK's key_ops repeat themselves");
      }
      for (let i = 0; i < usages.length; i++) {
        if (!ArrayPrototypeIncludes(jwk.key_ops, usages[i])) throw dataError(`The JWK is not for ${usages[i]}`);
      }
    }
    if (jwk.ext === false && extractable) throw dataError("The JWK is not extractable");
  }

  function decoded(text, what) {
    const bytes = text === undefined ? null : ops.base64UrlDecode(text);
    if (bytes === null) throw dataError(`The JWK's ${what} is missing or not base64url`);
    return bytes;
  }

  function jwkSecret(jwk) {
    if (jwk.kty !== "oct") throw dataError("The JWK is no secret key");
    return decoded(jwk.k, "k");
  }

  function rsaOfJwk(jwk) {
    const n = decoded(jwk.n, "n");
    const e = decoded(jwk.e, "e");
    if (jwk.d === undefined) return ops.rsaFromParts(n, e);
    const d = decoded(jwk.d, "d");
    if (jwk.oth !== undefined) throw fail("NotSupportedError", "A key with more than two primes cannot be used");
    const rest = ["p", "q", "dp", "dq", "qi"];
    let found = 0;
    for (let i = 0; i < rest.length; i++) if (jwk[rest[i]] !== undefined) found++;
    if (found === 0) return ops.rsaFromParts(n, e, d);
    if (found !== 5) throw dataError("The JWK has some of p, q, dp, dq and qi, but not all");
    const key = ops.rsaFromParts(n, e, d, decoded(jwk.p, "p"), decoded(jwk.q, "q"));
    if (key === null) return null;
    // The others are what these give, or the key is none.
    const parts = ops.rsaParts(true, key);
    for (let i = 2; i < 5; i++) {
      const said = trimmed(decoded(jwk[rest[i]], rest[i]));
      const made = parts[3 + i];
      if (sizeOf(said) !== sizeOf(made) || !ops.timingSafeEqual(said, made)) return null;
    }
    return key;
  }

  function ecOfJwk(jwk, kind, algorithm, extractable, usages) {
    const curve = algorithm.namedCurve;
    if (jwk.kty !== "EC") throw dataError("The JWK is no key on a curve");
    checkJwk(jwk, kind.use, extractable, usages);
    if (jwk.crv !== curve) throw dataError("The JWK's curve is not the algorithm's");
    if (algorithm.name === "ECDSA" && jwk.alg !== undefined) {
      const alg = curve === "P-521" ? "ES512" : curve === "P-384" ? "ES384" : "ES256";
      if (jwk.alg !== alg) throw dataError("The JWK is for another algorithm");
    }
    const size = coordinateBytes(curve);
    const point = new Uint8Array(1 + 2 * size);
    point[0] = 4;
    const x = decoded(jwk.x, "x");
    const y = decoded(jwk.y, "y");
    if (sizeOf(x) !== size || sizeOf(y) !== size) return null;
    TypedArrayPrototypeSet(point, x, 1);
    TypedArrayPrototypeSet(point, y, 1 + size);
    const checked = ops.ecImport(curve, "raw", point);
    if (jwk.d === undefined || checked === null) return checked;
    const pair = ops.ecPair(curve, decoded(jwk.d, "d"));
    return pair !== null && ops.timingSafeEqual(TypedArrayPrototypeSubarray(pair, size), checked) ? pair : null;
  }

  function okpOfJwk(jwk, name, extractable, usages) {
    if (jwk.kty !== "OKP" || jwk.crv !== name) throw dataError(`The JWK is no key of ${name}`);
    if (name === "Ed25519" && jwk.alg !== undefined && jwk.alg !== "Ed25519" && jwk.alg !== "EdDSA") throw dataError("The JWK is for another algorithm");
    checkJwk(jwk, kinds[name].use, extractable, usages);
    const x = decoded(jwk.x, "x");
    if (sizeOf(x) !== 32) return null;
    if (jwk.d === undefined) return x;
    const pair = ops.okpPair(name, decoded(jwk.d, "d"));
    return pair !== null && ops.timingSafeEqual(TypedArrayPrototypeSubarray(pair, 32), x) ? pair : null;
  }

  // --- exportKey ---

  lib.exportable = (key) => kinds[lib.keyInfo(key).name].kind !== "kdf";

  // Bytes, or a JWK without prototype.
  lib.exportKey = (format, key) => {
    const info = lib.keyInfo(key);
    const type = lib.keyType(key);
    const bytes = lib.keyBytes(key);
    const { kind } = kinds[info.name];
    if (format === "jwk") return jwkOfKey(key, kind, info, type, bytes);
    if (type === "secret" ? format !== "raw" : format === "raw" && kind === "rsa") throw unsupported(format, info.name);
    const wanted = type === "secret" ? "secret" : format === "pkcs8" ? "private" : "public";
    if (type !== wanted) throw fail("InvalidAccessError", `A ${type} key has no form "${format}"`);
    if (type === "secret") return lib.copyBytes(bytes);
    if (kind === "rsa") return ops.rsaExport(format, bytes);
    return kind === "ec" ? ops.ecExport(info.namedCurve, format, bytes) : ops.okpExport(info.name, format, bytes);
  };

  function jwkOfKey(key, kind, info, type, bytes) {
    const part = (from, to) => ops.base64UrlEncode(TypedArrayPrototypeSubarray(bytes, from, to));
    const jwk = { __proto__: null };
    switch (kind) {
      case "aes":
        jwk.kty = "oct";
        jwk.k = part(0);
        jwk.alg = `A${info.length}${StringPrototypeSlice(info.name, 4)}`;
        break;
      case "hmac":
        jwk.kty = "oct";
        jwk.k = part(0);
        jwk.alg = `HS${hashBits(info.hash)}`;
        break;
      case "rsa": {
        jwk.kty = "RSA";
        jwk.alg = jwkOfRsa(kinds[info.name], info.hash);
        const names = ["n", "e", "d", "p", "q", "dp", "dq", "qi"];
        const parts = ops.rsaParts(type === "private", bytes);
        for (let i = 0; i < parts.length; i++) jwk[names[i]] = ops.base64UrlEncode(parts[i]);
        break;
      }
      case "ec": {
        const size = coordinateBytes(info.namedCurve);
        const point = type === "private" ? size : 0;
        jwk.kty = "EC";
        jwk.crv = info.namedCurve;
        jwk.x = part(point + 1, point + 1 + size);
        jwk.y = part(point + 1 + size, point + 1 + 2 * size);
        if (type === "private") jwk.d = part(0, size);
        break;
      }
      default:
        jwk.kty = "OKP";
        jwk.crv = info.name;
        if (info.name === "Ed25519") jwk.alg = "Ed25519";
        jwk.x = type === "private" ? part(32, 64) : part(0, 32);
        if (type === "private") jwk.d = part(0, 32);
    }
    jwk.key_ops = [];
    for (let i = 0; i < USAGES.length; i++) if (lib.keyMayBe(key, USAGES[i])) ArrayPrototypePush(jwk.key_ops, USAGES[i]);
    jwk.ext = lib.keyExtractable(key);
    return jwk;
  }

  // The text of a JWK, without asking any prototype for `toJSON`.
  lib.jwkText = (jwk) => {
    ObjectSetPrototypeOf(jwk.key_ops, null);
    return ops.utf8Encode(lib.p.JSONStringify(jwk));
  };

  // Bits of the key that an algorithm wants; null if it has no length of its own.
  lib.keyLength = (algorithm) => {
    const { kind } = kinds[algorithm.name];
    if (kind === "aes") {
      if (!isAesLength(algorithm.length)) throw fail("OperationError", "The length of an AES key is 128, 192 or 256");
      return algorithm.length;
    }
    if (kind !== "hmac") return null;
    if (algorithm.length === 0) throw new TypeError("The length of an HMAC key is not 0");
    return algorithm.length ?? blockBits(algorithm.hash);
  };
})
