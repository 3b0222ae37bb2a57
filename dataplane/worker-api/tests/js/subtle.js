// crypto.subtle: against values that another implementation made (`VECTORS`, see webapi.rs), and by the specification's own steps.

const { subtle } = crypto;
const un64 = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const to64 = (data) => btoa(Array.from(new Uint8Array(data), (b) => String.fromCharCode(b)).join(""));
const DATA = un64(VECTORS.data);
// Parameters of a vector: bytes are `{ b64 }`.
const params = (shown) => Object.fromEntries(Object.entries(shown).map(([k, v]) => [k, v.b64 === undefined ? v : un64(v.b64)]));
const keyAlgorithm = ({ algorithm }) => algorithm.publicExponent ? { ...algorithm, publicExponent: Uint8Array.from(algorithm.publicExponent) } : algorithm;
const importPublic = (key) => subtle.importKey("spki", un64(key.spki), keyAlgorithm(key), true, key.publicUsages);
const importPrivate = (key) => subtle.importKey("pkcs8", un64(key.pkcs8), keyAlgorithm(key), true, key.privateUsages);

test("keys of another implementation come and go in every format", async () => {
  for (const key of VECTORS.keys) {
    const algorithm = keyAlgorithm(key);
    const forms = [["spki", un64(key.spki), key.publicUsages], ["pkcs8", un64(key.pkcs8), key.privateUsages], ["jwk", key.publicJwk, key.publicUsages], ["jwk", key.privateJwk, key.privateUsages]];
    if (key.raw) forms.push(["raw", un64(key.raw), key.publicUsages]);
    for (const [format, data, usages] of forms) {
      const imported = await subtle.importKey(format, data, algorithm, true, usages);
      const isPrivate = usages === key.privateUsages && (format === "pkcs8" || (format === "jwk" && data.d !== undefined));
      eq([imported.type, imported.extractable, imported.usages], [isPrivate ? "private" : "public", true, usages], `${key.name} ${format}`);
      const wanted = isPrivate ? key.privateJwk : key.publicJwk;
      const jwk = await subtle.exportKey("jwk", imported);
      delete wanted.alg;
      delete jwk.alg;
      eq(jwk, wanted, `${key.name} ${format} to jwk`);
      const encoded = isPrivate ? "pkcs8" : "spki";
      eq(to64(await subtle.exportKey(encoded, imported)), key[encoded], `${key.name} ${format} to ${encoded}`);
      if (key.raw && !isPrivate) eq(to64(await subtle.exportKey("raw", imported)), key.raw);
    }
  }
});

test("signatures of another implementation hold, and no others", async () => {
  for (const vector of VECTORS.signatures) {
    const key = VECTORS.keys[vector.key];
    const secret = vector.raw && await subtle.importKey("raw", un64(vector.raw), vector.params, false, ["sign", "verify"]);
    const verifying = secret ?? await importPublic(key);
    const signature = un64(vector.signature);
    const what = JSON.stringify(vector.params);
    ok(await subtle.verify(vector.params, verifying, signature, DATA), what);
    ok(!await subtle.verify(vector.params, verifying, signature, DATA.subarray(1)), what);
    ok(!await subtle.verify(vector.params, verifying, signature.subarray(1), DATA), what);
    signature[3] ^= 1;
    ok(!await subtle.verify(vector.params, verifying, signature, DATA), what);
    const own = await subtle.sign(vector.params, secret ?? await importPrivate(key), DATA);
    eq(own.byteLength, signature.length, what);
    ok(await subtle.verify(vector.params, verifying, own, DATA), what);
    if (secret || vector.params.name === "Ed25519" || vector.params.name === "RSASSA-PKCS1-v1_5" || vector.params.saltLength === 0) eq(to64(own), vector.signature, what);
  }
});

test("ciphers of another implementation", async () => {
  for (const vector of VECTORS.ciphers) {
    const given = params(vector.params);
    if (given.label) given.label = un64(given.label);
    const what = JSON.stringify(vector.params);
    const cipher = un64(vector.cipher);
    if (vector.raw) {
      const key = await subtle.importKey("raw", un64(vector.raw), given.name, false, ["encrypt", "decrypt"]);
      eq(to64(await subtle.encrypt(given, key, DATA)), vector.cipher, what);
      eq(to64(await subtle.decrypt(given, key, cipher)), VECTORS.data, what);
      if (given.name === "AES-CTR") continue;
      for (const wrong of [cipher.subarray(0, cipher.length - 1), new Uint8Array(0), Uint8Array.from(cipher, (b, i) => i === cipher.length - 1 ? b ^ 0x55 : b)]) {
        await rejects(subtle.decrypt(given, key, wrong), "OperationError", what);
      }
    } else {
      const key = VECTORS.keys[vector.key];
      const decrypting = await importPrivate(key);
      eq(to64(await subtle.decrypt(given, decrypting, cipher)), VECTORS.data, what);
      const own = await subtle.encrypt(given, await importPublic(key), DATA);
      eq(to64(await subtle.decrypt(given, decrypting, own)), VECTORS.data, what);
      await rejects(subtle.decrypt({ ...given, label: utf8("other") }, decrypting, cipher), "OperationError");
      cipher[5] ^= 1;
      await rejects(subtle.decrypt(given, decrypting, cipher), "OperationError");
    }
  }
});

test("bits derived by another implementation", async () => {
  for (const vector of VECTORS.derived) {
    const what = JSON.stringify(vector.params);
    let key;
    const given = params(vector.params);
    if (vector.raw) {
      key = await subtle.importKey("raw", un64(vector.raw), given.name, false, ["deriveBits"]);
    } else {
      key = await importPrivate(VECTORS.keys[vector.key]);
      given.public = await importPublic(VECTORS.keys[vector.other]);
      const back = await subtle.deriveBits({ name: given.name, public: await importPublic(VECTORS.keys[vector.key]) }, await importPrivate(VECTORS.keys[vector.other]));
      eq(to64(back), vector.bits, what);
      eq((await subtle.deriveBits(given, key, 12)).byteLength, 2);
      eq(new Uint8Array(await subtle.deriveBits(given, key, 12))[1] & 0x0f, 0);
      await rejects(subtle.deriveBits(given, key, vector.length + 8), "OperationError");
    }
    eq(to64(await subtle.deriveBits(given, key, vector.length)), vector.bits, what);
  }
});

test("wrapping", async () => {
  for (const vector of VECTORS.wrapped) {
    const kek = await subtle.importKey("raw", un64(vector.raw), "AES-KW", false, ["wrapKey", "unwrapKey"]);
    const inner = await subtle.unwrapKey("raw", un64(vector.wrapped), kek, "AES-KW", { name: "HMAC", hash: "SHA-256" }, true, ["sign"]);
    eq(to64(await subtle.exportKey("raw", inner)), vector.inner);
    eq(to64(await subtle.wrapKey("raw", inner, kek, "AES-KW")), vector.wrapped);
    const broken = un64(vector.wrapped);
    broken[0] ^= 1;
    await rejects(subtle.unwrapKey("raw", broken, kek, "AES-KW", { name: "HMAC", hash: "SHA-256" }, true, ["sign"]), "OperationError");
  }
  const gcm = await subtle.generateKey({ name: "AES-GCM", length: 256 }, false, ["wrapKey", "unwrapKey"]);
  const iv = new Uint8Array(12);
  const { privateKey, publicKey } = await subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
  for (const format of ["pkcs8", "jwk"]) {
    const wrapped = await subtle.wrapKey(format, privateKey, gcm, { name: "AES-GCM", iv });
    const again = await subtle.unwrapKey(format, wrapped, gcm, { name: "AES-GCM", iv }, { name: "ECDSA", namedCurve: "P-256" }, false, ["sign"]);
    const signed = await subtle.sign({ name: "ECDSA", hash: "SHA-256" }, again, DATA);
    ok(await subtle.verify({ name: "ECDSA", hash: "SHA-256" }, publicKey, signed, DATA));
    await rejects(subtle.exportKey(format, again), "InvalidAccessError");
  }
  const oaep = VECTORS.keys.find((key) => key.name === "RSA-OAEP");
  const wrapping = await importPublic(oaep);
  const unwrapping = await importPrivate(oaep);
  const aes = await subtle.generateKey({ name: "AES-CBC", length: 128 }, true, ["encrypt"]);
  const wrapped = await subtle.wrapKey("raw", aes, wrapping, "RSA-OAEP");
  const again = await subtle.unwrapKey("raw", wrapped, unwrapping, "RSA-OAEP", "AES-CBC", true, ["encrypt"]);
  eq(to64(await subtle.exportKey("raw", again)), to64(await subtle.exportKey("raw", aes)));
  // What is unwrapped as a JWK must be one.
  const encrypting = await subtle.importKey("raw", new Uint8Array(16), "AES-GCM", false, ["encrypt", "unwrapKey", "wrapKey"]);
  for (const text of ["", "null", "1", "{}", "{", '{"kty":1}', '{"kty":"oct","k":"!"}']) {
    const sealed = await subtle.encrypt({ name: "AES-GCM", iv }, encrypting, utf8(text));
    await rejects(subtle.unwrapKey("jwk", sealed, encrypting, { name: "AES-GCM", iv }, "AES-GCM", true, ["encrypt"]), "DataError", text);
  }
  await rejects(subtle.wrapKey("raw", gcm, encrypting, { name: "AES-GCM", iv }), "InvalidAccessError");
  await rejects(subtle.wrapKey("raw", aes, aes, { name: "AES-CBC", iv: new Uint8Array(16) }), "InvalidAccessError");
});

const GENERATED = [
  [{ name: "AES-CTR", length: 128 }, ["encrypt", "decrypt", "wrapKey", "unwrapKey"]],
  [{ name: "aes-cbc", length: 192 }, ["encrypt", "decrypt", "wrapKey", "unwrapKey"]],
  [{ name: "AES-GCM", length: 256 }, ["encrypt", "decrypt", "wrapKey", "unwrapKey"]],
  [{ name: "AES-KW", length: 128 }, ["wrapKey", "unwrapKey"]],
  [{ name: "HMAC", hash: "SHA-384" }, ["sign", "verify"]],
  [{ name: "ECDSA", namedCurve: "P-256" }, ["sign"], ["verify"]],
  [{ name: "ECDSA", namedCurve: "P-384" }, ["sign"], ["verify"]],
  [{ name: "ECDSA", namedCurve: "P-521" }, ["sign"], ["verify"]],
  [{ name: "ECDH", namedCurve: "P-256" }, ["deriveKey", "deriveBits"], []],
  [{ name: "Ed25519" }, ["sign"], ["verify"]],
  [{ name: "X25519" }, ["deriveKey", "deriveBits"], []],
  [{ name: "RSASSA-PKCS1-v1_5", modulusLength: 2048, publicExponent: bytes(0, 1, 0, 1), hash: "SHA-256" }, ["sign"], ["verify"]],
  [{ name: "RSA-PSS", modulusLength: 1024, publicExponent: bytes(3), hash: "SHA-1" }, ["sign"], ["verify"]],
  [{ name: "RSA-OAEP", modulusLength: 1025, publicExponent: bytes(1, 0, 1), hash: { name: "sha-1" } }, ["decrypt", "unwrapKey"], ["encrypt", "wrapKey"]],
];

test("generated keys are what was asked for", async () => {
  for (const [algorithm, privateUsages, publicUsages = []] of GENERATED) {
    const made = await subtle.generateKey(algorithm, false, [...publicUsages, ...privateUsages, ...privateUsages].reverse());
    const what = JSON.stringify(algorithm);
    const main = made.privateKey ?? made;
    ok(main instanceof CryptoKey, what);
    eq([main.type, main.extractable, main.usages], [made.privateKey ? "private" : "secret", false, privateUsages], what);
    eq(main.algorithm, main.algorithm);
    ok(main.algorithm === main.algorithm && main.usages === main.usages, what);
    eq(main.algorithm.name.toLowerCase(), algorithm.name.toLowerCase());
    await rejects(subtle.exportKey("jwk", main), "InvalidAccessError");
    if (made.publicKey) {
      eq(Object.keys(made), ["publicKey", "privateKey"]);
      eq([made.publicKey.type, made.publicKey.extractable, made.publicKey.usages], ["public", true, publicUsages], what);
      const jwk = await subtle.exportKey("jwk", made.publicKey);
      const again = await subtle.importKey("jwk", jwk, made.publicKey.algorithm, true, publicUsages);
      eq(await subtle.exportKey("jwk", again), jwk);
    }
    if (algorithm.modulusLength) {
      eq(main.algorithm.modulusLength, algorithm.modulusLength);
      eq(main.algorithm.publicExponent, algorithm.publicExponent[0] === 0 ? bytes(1, 0, 1) : algorithm.publicExponent);
      const [signing, verifying] = [made.privateKey, made.publicKey];
      if (privateUsages[0] === "sign") {
        const p = { name: algorithm.name, saltLength: 8 };
        ok(await subtle.verify(p, verifying, await subtle.sign(p, signing, DATA), DATA));
      } else {
        const sealed = await subtle.encrypt("RSA-OAEP", verifying, DATA);
        eq(sealed.byteLength, 129);
        eq(to64(await subtle.decrypt("RSA-OAEP", signing, sealed)), VECTORS.data);
      }
    }
  }
  eq((await subtle.generateKey({ name: "HMAC", hash: "SHA-1" }, true, ["sign"])).algorithm, { name: "HMAC", hash: { name: "SHA-1" }, length: 512 });
  const odd = await subtle.generateKey({ name: "HMAC", hash: "SHA-1", length: 13 }, true, ["sign"]);
  const raw = new Uint8Array(await subtle.exportKey("raw", odd));
  eq([odd.algorithm.length, raw.length, raw[1] & 7], [13, 2, 0]);
});

test("what cannot be generated", async () => {
  for (const [algorithm, privateUsages, publicUsages = []] of GENERATED) {
    const what = JSON.stringify(algorithm);
    await rejects(subtle.generateKey(algorithm, true, []), "SyntaxError", what);
    if (publicUsages.length > 0) await rejects(subtle.generateKey(algorithm, true, publicUsages), "SyntaxError", what);
    for (const usage of ["encrypt", "decrypt", "sign", "verify", "deriveKey", "deriveBits", "wrapKey", "unwrapKey"]) {
      if (!privateUsages.includes(usage) && !publicUsages.includes(usage)) await rejects(subtle.generateKey(algorithm, true, [...privateUsages, usage]), "SyntaxError", what);
    }
    await rejects(subtle.generateKey(algorithm, true, ["nothing"]), TypeError, what);
    await rejects(subtle.generateKey(algorithm, true, "sign"), TypeError, what);
    await rejects(subtle.generateKey(algorithm, true), TypeError, what);
  }
  const rsa = { name: "RSA-PSS", modulusLength: 2048, publicExponent: bytes(1, 0, 1), hash: "SHA-256" };
  for (const [algorithm, wanted] of [
    ["AES", "NotSupportedError"], ["HKDF", "NotSupportedError"], ["PBKDF2", "NotSupportedError"], ["SHA-256", "NotSupportedError"], [{}, TypeError], ["AES-CBC", TypeError],
    [{ name: "AES-CBC", length: 64 }, "OperationError"], [{ name: "AES-CBC", length: 65536 }, TypeError], [{ name: "AES-CBC", length: -1 }, TypeError], [{ name: "AES-CBC", length: NaN }, TypeError],
    [{ name: "HMAC" }, TypeError], [{ name: "HMAC", hash: "MD5" }, "NotSupportedError"], [{ name: "HMAC", hash: "SHA-256", length: 0 }, "OperationError"],
    [{ name: "ECDSA", namedCurve: "P-255" }, "NotSupportedError"], [{ name: "ECDSA" }, TypeError], [{ name: "ECDH", namedCurve: "p-256" }, "NotSupportedError"],
    [{ ...rsa, publicExponent: bytes(1) }, "OperationError"], [{ ...rsa, publicExponent: bytes(4) }, "OperationError"], [{ ...rsa, publicExponent: bytes() }, "OperationError"], [{ ...rsa, publicExponent: new Uint8Array(9).fill(255) }, "OperationError"],
    [{ ...rsa, modulusLength: 512 }, "OperationError"], [{ ...rsa, modulusLength: 4104 }, "OperationError"], [{ ...rsa, publicExponent: [1, 0, 1] }, TypeError], [{ ...rsa, hash: undefined }, TypeError],
  ]) {
    await rejects(subtle.generateKey(algorithm, true, [algorithm.name === "ECDH" ? "deriveBits" : /AES/.test(algorithm.name ?? algorithm) ? "encrypt" : "sign"]), wanted, JSON.stringify(algorithm));
  }
});

test("what cannot be imported", async () => {
  const hmac = { name: "HMAC", hash: "SHA-256" };
  const secret = { kty: "oct", k: "AAAAAAAAAAAAAAAAAAAAAA" };
  const ec = VECTORS.keys.find((key) => key.name === "ECDSA");
  const rsa = VECTORS.keys.find((key) => key.name === "RSA-PSS");
  const ed = VECTORS.keys.find((key) => key.name === "Ed25519");
  const p256 = { name: "ECDSA", namedCurve: "P-256" };
  const flipped = (text, at) => {
    const data = un64(text);
    data[at] ^= 1;
    return data;
  };
  for (const [format, data, algorithm, usages, wanted, extractable = true] of [
    ["text", bytes(), hmac, ["sign"], TypeError],
    ["raw", "text", hmac, ["sign"], TypeError],
    ["raw", secret, hmac, ["sign"], TypeError],
    ["jwk", bytes(1), hmac, ["sign"], TypeError],
    ["raw", bytes(), hmac, ["sign"], "DataError"],
    ["raw", bytes(1), hmac, [], "SyntaxError"],
    ["raw", bytes(1), hmac, ["encrypt"], "SyntaxError"],
    ["raw", bytes(1), { ...hmac, length: 9 }, ["sign"], "DataError"],
    ["raw", bytes(1, 2), { ...hmac, length: 8 }, ["sign"], "DataError"],
    ["spki", bytes(1), hmac, ["sign"], "NotSupportedError"],
    ["raw", bytes(1), "AES-CBC", ["encrypt"], "DataError"],
    ["raw", new Uint8Array(16), "AES-CBC", ["sign"], "SyntaxError"],
    ["raw", new Uint8Array(16), "AES-KW", ["encrypt"], "SyntaxError"],
    ["raw", new Uint8Array(16), "RSA-PSS", ["verify"], TypeError],
    ["raw", new Uint8Array(16), { name: "RSA-PSS", hash: "SHA-1" }, ["verify"], "NotSupportedError"],
    ["raw", bytes(1), "HKDF", ["deriveBits"], "SyntaxError"],
    ["raw", bytes(1), "PBKDF2", ["sign"], "SyntaxError", false],
    ["jwk", secret, "HKDF", ["deriveBits"], "NotSupportedError", false],
    ["jwk", { ...secret, kty: "RSA" }, hmac, ["sign"], "DataError"],
    ["jwk", { ...secret, k: undefined }, hmac, ["sign"], "DataError"],
    ["jwk", { ...secret, k: "A=" }, hmac, ["sign"], "DataError"],
    ["jwk", { ...secret, k: "+/" }, hmac, ["sign"], "DataError"],
    ["jwk", { ...secret, alg: "HS1" }, hmac, ["sign"], "DataError"],
    ["jwk", { ...secret, use: "enc" }, hmac, ["sign"], "DataError"],
    ["jwk", { ...secret, ext: false }, hmac, ["sign"], "DataError"],
    ["jwk", { ...secret, key_ops: ["verify"] }, hmac, ["sign"], "DataError"],
    ["jwk", { ...secret, key_ops: ["sign", "sign"] }, hmac, ["sign"], "DataError"],
    ["jwk", { ...secret, key_ops: 5 }, hmac, ["sign"], TypeError],
    ["jwk", { ...secret, alg: "A128GCM" }, "AES-CBC", ["encrypt"], "DataError"],
    ["raw", un64(ec.raw).subarray(1), p256, ["verify"], "DataError"],
    ["raw", flipped(ec.raw, 40), p256, ["verify"], "DataError"],
    ["raw", un64(ec.raw), { name: "ECDSA", namedCurve: "P-384" }, ["verify"], "DataError"],
    ["raw", un64(ec.raw), p256, ["sign"], "SyntaxError"],
    ["spki", un64(ec.spki), { name: "ECDSA", namedCurve: "P-384" }, ["verify"], "DataError"],
    ["spki", un64(ec.spki).subarray(0, 80), p256, ["verify"], "DataError"],
    ["spki", un64(rsa.spki), p256, ["verify"], "DataError"],
    ["spki", un64(ec.pkcs8), p256, ["verify"], "DataError"],
    ["pkcs8", un64(ec.pkcs8), p256, ["verify"], "SyntaxError"],
    ["pkcs8", un64(ec.pkcs8), p256, [], "SyntaxError"],
    ["jwk", { ...ec.publicJwk, crv: "P-384" }, p256, ["verify"], "DataError"],
    ["jwk", { ...ec.publicJwk, alg: "ES384" }, p256, ["verify"], "DataError"],
    ["jwk", { ...ec.publicJwk, y: ec.publicJwk.x }, p256, ["verify"], "DataError"],
    ["jwk", { ...ec.publicJwk, x: "AA" }, p256, ["verify"], "DataError"],
    ["jwk", { ...ec.privateJwk, d: "AA" }, p256, ["sign"], "DataError"],
    ["jwk", { ...ec.privateJwk, d: ec.privateJwk.x }, p256, ["sign"], "DataError"],
    ["spki", bytes(0x30, 0x80), { name: "RSA-PSS", hash: "SHA-1" }, ["verify"], "DataError"],
    ["pkcs8", un64(rsa.spki), { name: "RSA-PSS", hash: "SHA-1" }, ["sign"], "DataError"],
    ["jwk", { ...rsa.privateJwk, q: rsa.privateJwk.p }, { name: "RSA-PSS", hash: "SHA-1" }, ["sign"], "DataError"],
    ["jwk", { ...rsa.privateJwk, qi: rsa.privateJwk.dp }, { name: "RSA-PSS", hash: "SHA-1" }, ["sign"], "DataError"],
    ["jwk", { ...rsa.privateJwk, dp: undefined }, { name: "RSA-PSS", hash: "SHA-1" }, ["sign"], "DataError"],
    ["jwk", { ...rsa.privateJwk, oth: [] }, { name: "RSA-PSS", hash: "SHA-1" }, ["sign"], "NotSupportedError"],
    ["jwk", { ...rsa.publicJwk, alg: "PS512" }, { name: "RSA-PSS", hash: "SHA-1" }, ["verify"], "DataError"],
    ["jwk", { ...rsa.publicJwk, e: "AA" }, { name: "RSA-PSS", hash: "SHA-1" }, ["verify"], "DataError"],
    ["raw", bytes(1), "Ed25519", ["verify"], "DataError"],
    ["jwk", { ...ed.publicJwk, crv: "X25519" }, "Ed25519", ["verify"], "DataError"],
    ["jwk", { ...ed.privateJwk, d: ed.publicJwk.x }, "Ed25519", ["sign"], "DataError"],
    ["spki", un64(ed.spki), "X25519", [], "DataError"],
  ]) {
    await rejects(subtle.importKey(format, data, algorithm, extractable, usages), wanted, `${format} ${JSON.stringify(algorithm)} ${JSON.stringify(data)}`);
  }
  // A private key without its primes.
  const { p, q, dp, dq, qi, ...rest } = rsa.privateJwk;
  const found = await subtle.importKey("jwk", rest, { name: "RSA-PSS", hash: "SHA-1" }, true, ["sign"]);
  ok([p, q].includes((await subtle.exportKey("jwk", found)).p));
});

test("what a key is not for", async () => {
  const hmac = await subtle.importKey("raw", bytes(1), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  await rejects(subtle.verify("HMAC", hmac, bytes(), DATA), "InvalidAccessError");
  await rejects(subtle.sign("Ed25519", hmac, DATA), "InvalidAccessError");
  await rejects(subtle.sign("AES-GCM", hmac, DATA), "NotSupportedError");
  await rejects(subtle.encrypt("HMAC", hmac, DATA), "NotSupportedError");
  await rejects(subtle.sign("HMAC", {}, DATA), TypeError);
  await rejects(subtle.sign("HMAC", hmac, "text"), TypeError);
  await rejects(subtle.sign("HMAC", hmac), TypeError);
  await rejects(subtle.sign.call({}, "HMAC", hmac, DATA), TypeError);
  await rejects(subtle.exportKey("raw", hmac), "InvalidAccessError");
  await rejects(subtle.exportKey("other", hmac), TypeError);
  const kdf = await subtle.importKey("raw", bytes(1), "HKDF", false, ["deriveBits"]);
  await rejects(subtle.exportKey("raw", kdf), "NotSupportedError");
  const hkdf = { name: "HKDF", hash: "SHA-256", salt: bytes(), info: bytes() };
  await rejects(subtle.deriveBits(hkdf, kdf), "OperationError");
  await rejects(subtle.deriveBits(hkdf, kdf, 7), "OperationError");
  await rejects(subtle.deriveBits(hkdf, kdf, 255 * 256 + 8), "OperationError");
  eq((await subtle.deriveBits(hkdf, kdf, 0)).byteLength, 0);
  eq((await subtle.deriveBits(hkdf, kdf, 255 * 256)).byteLength, 8160);
  await rejects(subtle.deriveBits({ ...hkdf, salt: undefined }, kdf, 8), TypeError);
  await rejects(subtle.deriveKey(hkdf, kdf, { name: "AES-GCM", length: 128 }, true, ["encrypt"]), "InvalidAccessError");
  const password = await subtle.importKey("raw", utf8("password"), "PBKDF2", false, ["deriveBits", "deriveKey"]);
  await rejects(subtle.deriveBits({ name: "PBKDF2", hash: "SHA-256", salt: bytes(), iterations: 0 }, password, 8), "OperationError");
  const aes = await subtle.deriveKey({ name: "PBKDF2", hash: "SHA-256", salt: bytes(), iterations: 2 }, password, { name: "AES-GCM", length: 192 }, true, ["encrypt"]);
  eq([aes.algorithm, aes.usages], [{ name: "AES-GCM", length: 192 }, ["encrypt"]]);
  await rejects(subtle.deriveKey({ name: "PBKDF2", hash: "SHA-256", salt: bytes(), iterations: 2 }, password, { name: "AES-GCM", length: 100 }, true, ["encrypt"]), "OperationError");
  await rejects(subtle.deriveKey({ name: "PBKDF2", hash: "SHA-256", salt: bytes(), iterations: 2 }, password, { name: "HMAC", hash: "SHA-1", length: 0 }, true, ["sign"]), TypeError);
  const made = await subtle.deriveKey({ name: "PBKDF2", hash: "SHA-256", salt: bytes(), iterations: 2 }, password, { name: "HMAC", hash: "SHA-512" }, true, ["sign"]);
  eq(made.algorithm.length, 1024);
  for (const [given, wanted] of [
    [{ name: "AES-GCM", iv: bytes() }, "OperationError"], [{ name: "AES-GCM", iv: new Uint8Array(12), tagLength: 33 }, "OperationError"], [{ name: "AES-GCM" }, TypeError],
    [{ name: "AES-GCM", iv: "text" }, TypeError], [{ name: "AES-CBC", iv: new Uint8Array(16) }, "InvalidAccessError"], ["AES-KW", "NotSupportedError"],
  ]) {
    await rejects(subtle.encrypt(given, aes, DATA), wanted, JSON.stringify(given));
  }
  const cbc = await subtle.generateKey({ name: "AES-CBC", length: 128 }, true, ["encrypt", "decrypt"]);
  await rejects(subtle.encrypt({ name: "AES-CBC", iv: new Uint8Array(15) }, cbc, DATA), "OperationError");
  const ctr = await subtle.generateKey({ name: "AES-CTR", length: 128 }, true, ["encrypt", "decrypt"]);
  await rejects(subtle.encrypt({ name: "AES-CTR", counter: new Uint8Array(15), length: 8 }, ctr, DATA), "OperationError");
  await rejects(subtle.encrypt({ name: "AES-CTR", counter: new Uint8Array(16), length: 0 }, ctr, DATA), "OperationError");
  await rejects(subtle.encrypt({ name: "AES-CTR", counter: new Uint8Array(16), length: 129 }, ctr, DATA), "OperationError");
  await rejects(subtle.encrypt({ name: "AES-CTR", counter: new Uint8Array(16), length: 1 }, ctr, DATA), "OperationError");
  const x = await subtle.generateKey("X25519", true, ["deriveBits"]);
  const p256 = await subtle.generateKey({ name: "ECDH", namedCurve: "P-256" }, true, ["deriveBits"]);
  const p384 = await subtle.generateKey({ name: "ECDH", namedCurve: "P-384" }, true, ["deriveBits"]);
  await rejects(subtle.deriveBits({ name: "ECDH", public: p384.publicKey }, p256.privateKey, 8), "InvalidAccessError");
  await rejects(subtle.deriveBits({ name: "ECDH", public: x.publicKey }, p256.privateKey, 8), "InvalidAccessError");
  await rejects(subtle.deriveBits({ name: "ECDH", public: p256.privateKey }, p256.privateKey, 8), "InvalidAccessError");
  await rejects(subtle.deriveBits({ name: "ECDH" }, p256.privateKey, 8), TypeError);
  const zero = await subtle.importKey("raw", new Uint8Array(32), "X25519", true, []);
  await rejects(subtle.deriveBits({ name: "X25519", public: zero }, x.privateKey), "OperationError");
  // A public key of small order signs whatever one likes: not here.
  const weak = await subtle.importKey("raw", Uint8Array.from({ length: 32 }, (_, i) => i === 0 ? 1 : 0), "Ed25519", true, ["verify"]);
  ok(!await subtle.verify("Ed25519", weak, Uint8Array.from({ length: 64 }, (_, i) => i === 0 ? 1 : 0), DATA));
});

test("the objects", async () => {
  throws(() => new SubtleCrypto(), TypeError);
  throws(() => new CryptoKey(), TypeError);
  ok(subtle === crypto.subtle && subtle instanceof SubtleCrypto);
  eq(Object.prototype.toString.call(subtle), "[object SubtleCrypto]");
  for (const name of ["SubtleCrypto", "CryptoKey"]) {
    const d = Object.getOwnPropertyDescriptor(globalThis, name);
    eq([d.enumerable, d.configurable, d.writable], [false, true, true], name);
  }
  const key = await subtle.generateKey({ name: "HMAC", hash: "SHA-256" }, true, ["verify", "sign"]);
  eq(key.usages, ["sign", "verify"]);
  // What a program does to what it is shown changes no key.
  key.usages.length = 0;
  key.algorithm.hash.name = "SHA-1";
  eq((await subtle.sign("HMAC", key, DATA)).byteLength, 32);
  throws(() => Object.getOwnPropertyDescriptor(CryptoKey.prototype, "type").get.call({}), TypeError);
  eq(Object.keys(key), []);
  eq(JSON.stringify(key), "{}");
  // The data is read when the method is called.
  const data = new Uint8Array(DATA);
  const promise = subtle.sign("HMAC", key, data);
  data.fill(0);
  ok(await subtle.verify("HMAC", key, await promise, DATA));
});

test("of the Workers platform", async () => {
  ok(subtle.timingSafeEqual(bytes(1, 2), bytes(1, 2)));
  ok(!subtle.timingSafeEqual(bytes(1, 2), bytes(1, 3).buffer));
  throws(() => subtle.timingSafeEqual(bytes(1), bytes(1, 2)), TypeError);
  throws(() => subtle.timingSafeEqual(bytes(1), "1"), TypeError);
  const digest = new crypto.DigestStream("SHA-256");
  const writer = digest.getWriter();
  writer.write(utf8("a"));
  writer.write("bc");
  await writer.close();
  eq(to64(await digest.digest), to64(await subtle.digest("SHA-256", utf8("abc"))));
  eq(digest.bytesWritten, 3n);
  const gone = new crypto.DigestStream({ name: "sha-1" });
  const why = new Error("why");
  await gone.abort(why);
  await rejects(gone.digest, why);
  throws(() => new crypto.DigestStream("MD4"), "NotSupportedError");
  await rejects(new crypto.DigestStream("SHA-1").getWriter().write(5), TypeError);
});

test("prototypes that a program has changed see no key", async () => {
  const seen = [];
  const names = ["toJSON", "kind", "secret", "public", "private", "use", "jwk", "hash", "length", "name", "iv", "d", "k", "p", "alg", "ext", "get", "set"];
  const key = await subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
  const kek = await subtle.generateKey({ name: "AES-GCM", length: 128 }, true, ["wrapKey"]);
  for (const name of names) {
    Object.defineProperty(Object.prototype, name, { __proto__: null, configurable: true, get() { seen.push(name); }, set() { seen.push(name); } });
  }
  Object.defineProperty(Array.prototype, "toJSON", { __proto__: null, configurable: true, value() { seen.push("array"); } });
  try {
    const jwk = await subtle.exportKey("jwk", key.privateKey);
    await subtle.wrapKey("jwk", key.privateKey, kek, { __proto__: null, name: "AES-GCM", iv: new Uint8Array(12) });
    await subtle.sign({ __proto__: null, name: "ECDSA", hash: "SHA-256" }, key.privateKey, DATA);
    await subtle.importKey("jwk", { __proto__: null, ...jwk }, { __proto__: null, name: "ECDSA", namedCurve: "P-256" }, true, ["sign"]);
  } finally {
    for (const name of names) delete Object.prototype[name];
    delete Array.prototype.toJSON;
  }
  eq(seen, []);
});
