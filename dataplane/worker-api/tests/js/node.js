// The built-in modules of Node.js that a Worker can import.

import assert, { AssertionError } from "node:assert";
import strictAssert from "assert/strict";
import { AsyncLocalStorage, AsyncResource } from "node:async_hooks";
import { Buffer as NodeBuffer } from "node:buffer";
import nodeCrypto, { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import EventEmitter, { once, on } from "events";
import path, { posix } from "node:path";
import nodeProcess from "node:process";
import querystring from "node:querystring";
import { StringDecoder } from "node:string_decoder";
import { setTimeout as nodeSetTimeout } from "node:timers";
import * as nodeUrl from "node:url";
import util, { promisify, inspect, types } from "node:util";

const AT_TOP = nodeProcess.env.GREETING;

test("AsyncLocalStorage follows the flow of control", async () => {
  const storage = new AsyncLocalStorage();
  const other = new AsyncLocalStorage();
  eq(storage.getStore(), undefined);
  const seen = [];
  await Promise.all([1, 2].map((n) => storage.run(n, async () => {
    await null;
    seen.push(storage.getStore());
    await sleep(3 - n);
    seen.push(storage.getStore());
    queueMicrotask(() => seen.push(storage.getStore()));
    setTimeout(() => seen.push(storage.getStore()), 1);
    await other.run("o", async () => {
      await sleep(1);
      eq([storage.getStore(), other.getStore()], [n, "o"]);
      await storage.exit(async () => {
        await null;
        eq([storage.getStore(), other.getStore()], [undefined, "o"]);
      });
    });
    eq(other.getStore(), undefined);
    await sleep(5);
  })));
  eq(seen.sort(), [1, 1, 1, 1, 2, 2, 2, 2]);
  eq(storage.getStore(), undefined);
  eq(storage.run("x", (a, b) => [storage.getStore(), a, b], 1, 2), ["x", 1, 2]);
  const why = new Error("why");
  throws(() => storage.run(1, () => { throw why; }), why);
  eq(storage.getStore(), undefined);
  const { bound, snapshot, resource } = storage.run("kept", () => ({
    bound: AsyncLocalStorage.bind((x) => [storage.getStore(), x]), snapshot: AsyncLocalStorage.snapshot(), resource: new AsyncResource("r"),
  }));
  eq(bound(5), ["kept", 5]);
  eq(snapshot((x) => [storage.getStore(), x], 6), ["kept", 6]);
  eq(resource.runInAsyncScope(function (x) { return [storage.getStore(), this, x]; }, "this", 7), ["kept", "this", 7]);
  eq(resource.bind(() => storage.getStore())(), "kept");
  storage.run(1, () => {
    storage.enterWith(2);
    eq(storage.getStore(), 2);
    storage.disable();
    eq(storage.getStore(), undefined);
  });
  eq(new AsyncLocalStorage({ defaultValue: 9, name: "n" }).getStore(), 9);
  throws(() => storage.getStore.call({}), TypeError);
  throws(() => AsyncLocalStorage.bind(1), TypeError);
  // The request that the flow belongs to stays what it was.
  await storage.run("in", () => sleep(1));
  const response = await storage.run("in", async () => new Response("body").text());
  eq(response, "body");
});

test("Buffer", () => {
  ok(globalThis.Buffer === NodeBuffer && global === globalThis && process === nodeProcess);
  const b = NodeBuffer.from("h\u00e9llo");
  ok(b instanceof Uint8Array && NodeBuffer.isBuffer(b) && !NodeBuffer.isBuffer(new Uint8Array(1)));
  eq([b.length, b.toString(), b.toString("hex"), b.toString("base64"), b.toString("latin1")], [6, "h\u00e9llo", "68c3a96c6c6f", "aMOpbGxv", "h\u00c3\u00a9llo"]);
  eq(NodeBuffer.from("fffe", "hex"), bytes(0xff, 0xfe));
  eq(NodeBuffer.from("ffzz", "hex"), bytes(0xff));
  eq(NodeBuffer.from("_-8=", "base64"), bytes(0xff, 0xef));
  eq(NodeBuffer.from([255, 239]).toString("base64url"), "_-8");
  eq(NodeBuffer.from("a\u20ac", "utf16le"), bytes(97, 0, 0xac, 0x20));
  eq(NodeBuffer.from("a\u20ac", "utf16le").toString("ucs2"), "a\u20ac");
  eq(NodeBuffer.concat([b, bytes(1)], 4), bytes(0x68, 0xc3, 0xa9, 0x6c));
  eq(NodeBuffer.alloc(5, "ab"), NodeBuffer.from("ababa"));
  eq([NodeBuffer.byteLength("\u20ac"), NodeBuffer.byteLength("ff", "hex"), NodeBuffer.compare(bytes(1), bytes(2))], [3, 1, -1]);
  eq([b.indexOf("l"), b.lastIndexOf("l"), b.indexOf("lo"), b.includes("x"), b.indexOf(0xa9), b.indexOf("")], [3, 4, 4, false, 2, 0]);
  const view = b.subarray(1, 3);
  ok(NodeBuffer.isBuffer(view) && view.buffer === b.buffer && b.slice(1, 3).buffer === b.buffer);
  const n = NodeBuffer.alloc(16);
  eq([n.writeUInt32BE(0xdeadbeef, 0), n.writeInt16LE(-2, 4), n.writeDoubleBE(1.5, 6), n.writeUIntBE(0x123456, 1, 3)], [4, 6, 14, 4]);
  eq([n.readUInt8(0), n.readInt16LE(4), n.readDoubleBE(6), n.readUIntBE(1, 3), n.readInt8(0), n.readUint32LE(0)], [0xde, -2, 1.5, 0x123456, -34, 0x563412de]);
  n.writeBigInt64LE(-5n, 8);
  eq([n.readBigInt64LE(8), n.readIntLE(8, 6)], [-5n, -5]);
  throws(() => n.readUInt8(16), RangeError);
  throws(() => n.writeUInt8(256, 0), RangeError);
  throws(() => n.readUInt8("0"), TypeError);
  throws(() => NodeBuffer.alloc(-1), RangeError);
  throws(() => NodeBuffer.alloc("1"), TypeError);
  throws(() => NodeBuffer.from(), TypeError);
  throws(() => NodeBuffer.from("a", "nonsense"), TypeError);
  eq(JSON.stringify(NodeBuffer.from("a")), '{"type":"Buffer","data":[97]}');
  eq(NodeBuffer.from(JSON.parse('{"type":"Buffer","data":[97]}')).toString(), "a");
  const w = NodeBuffer.alloc(4);
  eq([w.write("\u20ac\u20ac"), w.write("ab", 3), w.toString("hex")], [3, 1, "e282ac61"]);
  eq(NodeBuffer.from("abcd").swap16().toString(), "badc");
  ok(NodeBuffer.from("a").equals(bytes(97)) && NodeBuffer.isEncoding("UTF-8") && !NodeBuffer.isEncoding("x"));
  const copied = NodeBuffer.alloc(3);
  eq([NodeBuffer.from("abcdef").copy(copied, 1, 2), copied.toString()], [2, "\0cd"]);
});

test("events", async () => {
  const e = new EventEmitter();
  const seen = [];
  e.on("a", (x) => seen.push(x)).prependListener("a", (x) => seen.push(-x)).once("a", () => seen.push("once"));
  eq([e.emit("a", 1), e.emit("a", 2), e.emit("none")], [true, true, false]);
  eq(seen, [-1, 1, "once", -2, 2]);
  eq([e.listenerCount("a"), e.eventNames(), e.getMaxListeners()], [2, ["a"], 10]);
  e.removeAllListeners();
  eq(e.emit("a"), false);
  const why = new Error("why");
  throws(() => e.emit("error", why), why);
  throws(() => e.on("a", 1), TypeError);
  const promise = once(e, "b");
  e.emit("b", 1, 2);
  eq(await promise, [1, 2]);
  const failing = once(e, "b");
  e.emit("error", why);
  await rejects(failing, why);
  const iterator = on(e, "c");
  const first = iterator.next();
  e.emit("c", 5);
  eq(await first, { value: [5], done: false });
  await iterator.return();
  eq(e.listenerCount("c"), 0);
  class Mine extends EventEmitter {}
  ok(new Mine() instanceof EventEmitter && EventEmitter.EventEmitter === EventEmitter);
  function Old() {
    EventEmitter.call(this);
  }
  util.inherits(Old, EventEmitter);
  ok(new Old().on("x", () => {}).emit("x"));
});

test("path", () => {
  eq([path.join("/a", "..", "b", "./c/"), path.join(), path.normalize("a//b/../../.."), path.resolve("/a", "b", "../c"), path.resolve("x")], ["/b/c/", ".", "..", "/a/c", "/x"]);
  eq([path.basename("/a/b.js"), path.basename("/a/b.js", ".js"), path.extname("a.b.c"), path.extname(".a"), path.dirname("/a/b/c"), path.dirname("a"), path.dirname("/a")], ["b.js", "b", ".c", "", "/a/b", ".", "/"]);
  eq(path.relative("/a/b/c", "/a/d"), "../../d");
  eq(path.parse("/data/x.txt"), { root: "/", dir: "/data", base: "x.txt", ext: ".txt", name: "x" });
  eq(path.format({ dir: "/a", name: "b", ext: ".c" }), "/a/b.c");
  ok(path.isAbsolute("/a") && !path.isAbsolute("a") && posix === path.posix && path.sep === "/");
  throws(() => path.join(1), TypeError);
});

test("querystring and url", () => {
  eq({ ...querystring.parse("a=1&b=2&a=3&c&d=%zz+x") }, { a: ["1", "3"], b: "2", c: "", d: "%zz x" });
  eq(querystring.stringify({ a: [1, 2], b: "x y", c: true, d: null }), "a=1&a=2&b=x%20y&c=true&d=");
  const u = nodeUrl.parse("http://u:p@Host.com:80/p/a?x=1&y=2#h", true);
  eq([u.protocol, u.auth, u.host, u.port, u.hostname, u.pathname, u.search, u.query.y, u.hash, u.path], ["http:", "u:p", "host.com:80", "80", "host.com", "/p/a", "?x=1&y=2", "2", "#h", "/p/a?x=1&y=2"]);
  eq([nodeUrl.format({ protocol: "https", host: "h", pathname: "p", query: { a: 1 } }), nodeUrl.resolve("http://h/a/b", "../c"), nodeUrl.resolve("/a/b", "c")], ["https://h/p?a=1", "http://h/c", "/a/c"]);
  eq([nodeUrl.fileURLToPath("file:///a%20b"), nodeUrl.pathToFileURL("/a b").href, nodeUrl.URL === URL], ["/a b", "file:///a%20b", true]);
  throws(() => nodeUrl.fileURLToPath("http://h/"), TypeError);
});

test("util", async () => {
  eq(await promisify((a, callback) => callback(null, a + 1))(1), 2);
  const why = new Error("why");
  await rejects(promisify((callback) => callback(why))(), why);
  eq(await new Promise((resolve) => util.callbackify(async (x) => x)(5, (error, value) => resolve([error, value]))), [null, 5]);
  ok(util.isDeepStrictEqual({ a: [1, new Map([[{ k: 1 }, new Set([NaN])]])] }, { a: [1, new Map([[{ k: 1 }, new Set([NaN])]])] }));
  ok(!util.isDeepStrictEqual([1], ["1"]) && !util.isDeepStrictEqual({ a: undefined }, {}));
  ok(types.isDate(new Date()) && types.isProxy(new Proxy({}, {})) && types.isPromise(Promise.resolve()) && !types.isRegExp({}) && types.isUint8Array(bytes()));
  ok(types.isStringObject(Object("s")) && !types.isStringObject("s") && !types.isNumberObject(Object("s")));
  eq(util.format("%s %d %j", "a", 5, 1), "a 5 %j 1");
  ok(inspect({ a: 1 }).includes("a: 1"));
  eq(util.stripVTControlCharacters("\u001b[31mred\u001b[0m"), "red");
  eq(new util.TextEncoder().encode("a"), bytes(97));
});

test("assert", async () => {
  assert(true);
  assert.equal(1, "1");
  strictAssert.deepEqual({ a: [1] }, { a: [1] });
  for (const wrong of [
    () => assert(0), () => assert.ok(false), () => assert.equal(1, 2), () => strictAssert.equal(1, "1"), () => assert.deepStrictEqual({ a: 1 }, { a: "1" }), () => assert.notStrictEqual(1, 1),
    () => assert.throws(() => {}), () => assert.doesNotThrow(() => { throw new Error(); }), () => assert.match("a", /b/), () => assert.fail("f"), () => assert.ifError(1),
    () => assert.throws(() => { throw new Error("a"); }, /b/), () => assert.throws(() => { throw new Error("a"); }, { message: "b" }),
  ]) {
    throws(wrong, AssertionError);
  }
  assert.throws(() => { throw new TypeError("a"); }, TypeError);
  assert.throws(() => { throw new TypeError("abc"); }, { name: "TypeError", message: /b/ });
  await assert.rejects(Promise.reject(new Error("x")), /x/);
  await rejects(assert.rejects(Promise.resolve()), AssertionError);
  const own = new Error("own");
  throws(() => assert(0, own), own);
});

test("crypto", async () => {
  eq(createHash("sha256").update("a").update(NodeBuffer.from("bc")).digest("hex"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const half = createHash("SHA1").update("a");
  const copy = half.copy();
  eq([half.update("bc").digest("hex"), copy.update("bc").digest("base64")], ["a9993e364706816aba3e25717850c26c9cd0d89d", "qZk+NkcGgWq6PiVxeFDCbJzQ2J0="]);
  throws(() => half.update("x"), Error);
  eq(createHmac("sha256", "key").update("The quick brown fox jumps over the lazy dog").digest("hex"), "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8");
  throws(() => createHash("md4"), Error);
  ok(NodeBuffer.isBuffer(randomBytes(8)) && randomBytes(8).length === 8 && randomBytes(0).length === 0);
  eq((await promisify(randomBytes)(4)).length, 4);
  ok(timingSafeEqual(bytes(1), bytes(1)));
  throws(() => timingSafeEqual(bytes(1), bytes(1, 2)), RangeError);
  for (let i = 0; i < 50; i++) {
    const n = nodeCrypto.randomInt(3, 6);
    ok(n >= 3 && n < 6);
  }
  eq(nodeCrypto.pbkdf2Sync("password", "salt", 2, 20, "sha1").toString("hex"), "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957");
  eq(nodeCrypto.pbkdf2Sync("password", "salt", 1, 20, "sha1").toString("hex"), "0c60c80f961f0e71f3a9b524af6012062fe037a6");
  ok(nodeCrypto.webcrypto === crypto && nodeCrypto.subtle === crypto.subtle);
});

test("process, timers, string_decoder", async (request, env) => {
  eq([AT_TOP, nodeProcess.env.GREETING, env.GREETING], ["hello", "hello", "hello"]);
  nodeProcess.env.MORE = "x";
  eq(env.MORE, undefined);
  eq([nodeProcess.platform, nodeProcess.cwd(), typeof nodeProcess.hrtime.bigint()], ["linux", "/", "bigint"]);
  const order = [];
  await new Promise((resolve) => {
    nodeProcess.nextTick((x) => order.push(x), "tick");
    nodeSetTimeout(() => {
      order.push("timer");
      resolve();
    }, 1);
  });
  eq(order, ["tick", "timer"]);
  throws(() => nodeProcess.exit(), Error);
  const decoder = new StringDecoder("utf8");
  eq([decoder.write(bytes(0xe2, 0x82)), decoder.write(bytes(0xac)), decoder.end(bytes(0xe2))], ["", "\u20ac", "\ufffd"]);
  const base64 = new StringDecoder("base64");
  eq(base64.write(bytes(1)) + base64.write(bytes(2, 3, 4)) + base64.end(), "AQIDBA==");
});
