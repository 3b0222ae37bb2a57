// Web Cryptography section 18.4: which algorithms there are for which operation, and how a program's description of one becomes
// a normal one. A rare file.
//
// Owns `lib.normalizeAlgorithm(algorithm, operation)`: an object without prototype with the canonical `name` and the converted
// members. Fails with NotSupportedError for a name that the operation does not have, TypeError for a member that is missing
// or has no conversion.
(function (ops, lib) {
  "use strict";
  const { ObjectKeys, StringPrototypeToLowerCase, TypeError } = lib.p;

  const buffer = (value, what) => {
    if (!lib.isBufferSource(value)) throw new TypeError(`${what} is neither an ArrayBuffer nor a view of one`);
    return lib.copyBytes(value);
  };
  const bigInteger = (value, what) => {
    if (!lib.isUint8Array(value)) throw new TypeError(`${what} is not a Uint8Array`);
    return lib.copyBytes(value);
  };
  const key = (value, what) => {
    if (!lib.isCryptoKey(value)) throw new TypeError(`${what} is not a CryptoKey`);
    return value;
  };
  const octet = (value, what) => lib.enforceRange(value, 0, 255, what);
  const short = (value, what) => lib.enforceRange(value, 0, 65535, what);
  const long = (value, what) => lib.enforceRange(value, 0, 4294967295, what);
  const text = (value) => lib.domString(value);
  const hash = (value) => lib.normalizeAlgorithm(value, "digest").name;

  // Members as Web IDL reads them: those of a parent dictionary first, each in the order of the alphabet. The third field: required.
  const NONE = [];
  const HASH = [["hash", hash, true]];
  const LENGTH = [["length", short, true]];
  const HMAC = [["hash", hash, true], ["length", long, false]];
  const RSA_GENERATE = [["modulusLength", long, true], ["publicExponent", bigInteger, true], ["hash", hash, true]];
  const CURVE = [["namedCurve", text, true]];
  const AGREEMENT = [["public", key, true]];

  const encrypt = {
    __proto__: null,
    "RSA-OAEP": [["label", buffer, false]],
    "AES-CTR": [["counter", buffer, true], ["length", octet, true]],
    "AES-CBC": [["iv", buffer, true]],
    "AES-GCM": [["additionalData", buffer, false], ["iv", buffer, true], ["tagLength", octet, false]],
  };
  const sign = {
    __proto__: null,
    "RSASSA-PKCS1-v1_5": NONE,
    "RSA-PSS": [["saltLength", long, true]],
    ECDSA: HASH,
    Ed25519: NONE,
    HMAC: NONE,
  };
  const operations = {
    __proto__: null,
    encrypt,
    decrypt: encrypt,
    sign,
    verify: sign,
    digest: { __proto__: null, "SHA-1": NONE, "SHA-256": NONE, "SHA-384": NONE, "SHA-512": NONE },
    wrapKey: { __proto__: null, "AES-KW": NONE },
    unwrapKey: { __proto__: null, "AES-KW": NONE },
    deriveBits: {
      __proto__: null,
      ECDH: AGREEMENT,
      X25519: AGREEMENT,
      HKDF: [["hash", hash, true], ["info", buffer, true], ["salt", buffer, true]],
      PBKDF2: [["hash", hash, true], ["iterations", long, true], ["salt", buffer, true]],
    },
    generateKey: {
      __proto__: null,
      "RSASSA-PKCS1-v1_5": RSA_GENERATE, "RSA-PSS": RSA_GENERATE, "RSA-OAEP": RSA_GENERATE,
      ECDSA: CURVE, ECDH: CURVE, Ed25519: NONE, X25519: NONE,
      "AES-CTR": LENGTH, "AES-CBC": LENGTH, "AES-GCM": LENGTH, "AES-KW": LENGTH, HMAC,
    },
    importKey: {
      __proto__: null,
      "RSASSA-PKCS1-v1_5": HASH, "RSA-PSS": HASH, "RSA-OAEP": HASH,
      ECDSA: CURVE, ECDH: CURVE, Ed25519: NONE, X25519: NONE,
      "AES-CTR": NONE, "AES-CBC": NONE, "AES-GCM": NONE, "AES-KW": NONE, HMAC, HKDF: NONE, PBKDF2: NONE,
    },
    getKeyLength: {
      __proto__: null,
      "AES-CTR": LENGTH, "AES-CBC": LENGTH, "AES-GCM": LENGTH, "AES-KW": LENGTH, HMAC, HKDF: NONE, PBKDF2: NONE,
    },
  };

  const namesOf = { __proto__: null };
  const operationNames = ObjectKeys(operations);
  for (let i = 0; i < operationNames.length; i++) {
    const names = ObjectKeys(operations[operationNames[i]]);
    const byLower = namesOf[operationNames[i]] = { __proto__: null };
    for (let j = 0; j < names.length; j++) byLower[StringPrototypeToLowerCase(names[j])] = names[j];
  }

  // The name that is asked for, and the object with the members, if it is one.
  function nameOf(algorithm) {
    if (!lib.isObject(algorithm)) return lib.domString(algorithm);
    const { name } = algorithm;
    if (name === undefined) throw new TypeError("The algorithm has no name");
    return lib.domString(name);
  }

  lib.hasAlgorithm = (algorithm, operation) => namesOf[operation][StringPrototypeToLowerCase(nameOf(algorithm))] !== undefined;

  lib.normalizeAlgorithm = (algorithm, operation) => {
    const asked = nameOf(algorithm);
    const name = namesOf[operation][StringPrototypeToLowerCase(asked)];
    if (name === undefined) throw new lib.DOMException(`Unrecognized algorithm name: ${asked}`, "NotSupportedError");
    const normal = { __proto__: null, name };
    const members = operations[operation][name];
    for (let i = 0; i < members.length; i++) {
      const member = members[i][0];
      const value = lib.isObject(algorithm) ? algorithm[member] : undefined;
      if (value !== undefined) normal[member] = (0, members[i][1])(value, `${name}'s ${member}`);
      else if (members[i][2]) throw new TypeError(`The algorithm ${name} has no ${member}`);
    }
    return normal;
  };
})
