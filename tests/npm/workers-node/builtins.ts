import assert from "node:assert";
import { AsyncLocalStorage } from "node:async_hooks";
import { Buffer as NodeBuffer } from "node:buffer";
import { EventEmitter } from "node:events";
import path from "node:path";
import querystring from "node:querystring";
import { format, promisify } from "node:util";
import { checks, equal } from "../check";

export default checks({
  buffer: () => {
    equal(Buffer.from("héllo").toString("base64"), "aMOpbGxv");
    equal(NodeBuffer.concat([Buffer.from("6869", "hex"), Buffer.alloc(1, 33)]).toString(), "hi!");
    equal(globalThis.Buffer === NodeBuffer, true, "one Buffer");
  },
  events: () => {
    const seen: unknown[] = [];
    const emitter = new EventEmitter();
    emitter.on("x", (value) => seen.push(value)).emit("x", 1);
    equal([seen, emitter.listenerCount("x")], [[1], 1]);
  },
  path: () => equal([path.join("/a", "../b", "c.txt"), path.extname("x.tar.gz"), path.posix.basename("/a/b")], ["/b/c.txt", ".gz", "b"]),
  querystring: () => equal(querystring.stringify({ a: "1", b: "x y" }), "a=1&b=x%20y"),
  util: async () => {
    equal(format("%s is %d", "x", 1), "x is 1");
    equal(await promisify((n: number, done: (error: null, n: number) => void) => done(null, n + 1))(1), 2);
  },
  assert: async () => {
    assert.deepStrictEqual({ a: [1] }, { a: [1] });
    const error = await Promise.resolve().then(() => assert.strictEqual(1, 2)).catch((error) => error);
    equal([error.code, error.actual, error.expected], ["ERR_ASSERTION", 1, 2]);
  },
  process: () => equal([typeof process.nextTick, process.env.NODE_ENV, typeof global.setTimeout], ["function", "production", "function"]),
  "async storage in one turn": () => equal(new AsyncLocalStorage<number>().run(7, () => 7), 7),
});
