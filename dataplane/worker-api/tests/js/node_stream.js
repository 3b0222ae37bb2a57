// node:stream: scenarios, each with what Node.js gave for it.

import stream from "node:stream";
import streamPromises from "stream/promises";

const wait = sleep;
const scenarios = {
  async basicData({ Readable }) {
    const log = [];
    const r = new Readable({ read() {} });
    r.on("data", (d) => log.push(`${d}`));
    r.on("end", () => log.push("end"));
    r.on("close", () => log.push("close"));
    r.push("a");
    r.push("b");
    r.push(null);
    await wait(5);
    return log;
  },
  async readable({ Readable }) {
    const log = [];
    const r = new Readable({ read() {} });
    r.on("readable", () => { let c; while ((c = r.read()) !== null) log.push(`${c}`); });
    r.on("end", () => log.push("end"));
    r.push("abc");
    await wait(2);
    r.push("def");
    r.push(null);
    await wait(5);
    return log;
  },
  async iterate({ Readable }) {
    const log = [];
    for await (const c of Readable.from(["a", "b", { c: 1 }])) log.push(c);
    return log;
  },
  async iterateBytes({ Readable }) {
    let n = 0;
    const log = [];
    const r = new Readable({ read() { this.push(n++ < 3 ? "x".repeat(n) : null); } });
    for await (const c of r) log.push(`${c}`);
    return log.join("");
  },
  async iterateError({ Readable }) {
    const log = [];
    const r = new Readable({ read() { this.push("a"); this.destroy(new Error("bad")); } });
    r.on("error", (e) => log.push("E" + e.message));
    try { for await (const c of r) log.push(`${c}`); } catch (e) { log.push(e.message); }
    return log.filter((x) => x !== "a").sort();
  },
  async iterateBreak({ Readable }) {
    const log = [];
    const r = Readable.from([1, 2, 3]);
    r.on("close", () => log.push("close"));
    for await (const c of r) { log.push(c); break; }
    await wait(2);
    return [log, r.destroyed];
  },
  async write({ Writable }) {
    const log = [];
    const w = new Writable({ write(c, e, cb) { log.push(`${c}:${e}`); setTimeout(cb, 1); } });
    w.on("finish", () => log.push("finish"));
    w.on("close", () => log.push("close"));
    log.push(w.write("a"));
    log.push(w.write("b", () => log.push("cb b")));
    w.end("c", () => log.push("ended"));
    await wait(60);
    return log;
  },
  async hwm({ Writable }) {
    const log = [];
    const w = new Writable({ highWaterMark: 3, write(c, e, cb) { log.push(`${c}`); setTimeout(cb, 1); } });
    w.on("drain", () => log.push("drain"));
    log.push(w.write("ab"));
    log.push(w.write("cd"));
    log.push(w.writableNeedDrain, w.writableLength);
    await wait(10);
    log.push(w.writableLength);
    return log;
  },
  async writeAfterEnd({ Writable }) {
    const log = [];
    const w = new Writable({ write(c, e, cb) { cb(); } });
    w.on("error", (e) => log.push(e.code));
    w.end();
    w.write("x", (e) => log.push("cb " + e.code));
    await wait(5);
    return log.sort();
  },
  async writeError({ Writable }) {
    const log = [];
    const w = new Writable({ write(c, e, cb) { cb(new Error("bad")); } });
    w.on("error", (e) => log.push(e.message));
    w.on("close", () => log.push("close"));
    w.write("x", (e) => log.push("cb " + e?.message));
    await wait(5);
    return [log, w.destroyed];
  },
  async final({ Writable }) {
    const log = [];
    const w = new Writable({ write(c, e, cb) { cb(); }, final(cb) { log.push("final"); setTimeout(cb, 2); } });
    w.on("prefinish", () => log.push("prefinish"));
    w.on("finish", () => log.push("finish"));
    w.end("x");
    await wait(10);
    return log.filter((x) => x !== "prefinish");
  },
  async cork({ Writable }) {
    const log = [];
    const w = new Writable({ writev(list, cb) { log.push(list.map((x) => `${x.chunk}`)); cb(); } });
    w.cork();
    w.write("a");
    w.write("b");
    w.uncork();
    w.end();
    await wait(5);
    return log;
  },
  async objectWrite({ Writable }) {
    const log = [];
    const w = new Writable({ objectMode: true, write(c, e, cb) { log.push(c); cb(); } });
    w.write({ a: 1 });
    w.write(5);
    try { w.write(null); } catch (e) { log.push(e.code); }
    w.end();
    await wait(3);
    return log;
  },
  async syncMany({ Writable }) {
    let n = 0;
    const w = new Writable({ write(c, e, cb) { n++; cb(); } });
    w.cork();
    for (let i = 0; i < 20000; i++) w.write("x");
    w.uncork();
    await new Promise((r) => w.end(r));
    return n;
  },
  async pipeMany({ Readable, Writable }) {
    let n = 0;
    const w = new Writable({ objectMode: true, write(c, e, cb) { n += c; cb(); } });
    Readable.from(Array.from({ length: 5000 }, (_, i) => i)).pipe(w);
    await new Promise((r) => w.on("finish", r));
    return n;
  },
  async badChunk({ Writable }) {
    try { new Writable({ write() {} }).write(5); } catch (e) { return e.code; }
  },
  async pipe({ Readable, Writable }) {
    const log = [];
    const w = new Writable({ highWaterMark: 2, write(c, e, cb) { log.push(`${c}`); setTimeout(cb, 1); } });
    w.on("finish", () => log.push("finish"));
    w.on("pipe", () => log.push("pipe"));
    Readable.from(["aa", "bb", "cc"], { objectMode: false }).pipe(w);
    await wait(30);
    return [log[0], log.slice(1).join("")];
  },
  async transform({ Transform, Readable }) {
    const t = new Transform({ transform(c, e, cb) { cb(null, `${c}`.toUpperCase()); }, flush(cb) { cb(null, "!"); } });
    const log = [];
    t.on("data", (d) => log.push(`${d}`));
    t.on("end", () => log.push("end"));
    t.on("finish", () => log.push("finish"));
    t.write("a");
    t.write("b");
    t.end("c");
    await wait(10);
    return [log.filter((x) => x !== "finish"), log.includes("finish")];
  },
  async transformBack({ Transform }) {
    let n = 0;
    const t = new Transform({ readableHighWaterMark: 2, writableHighWaterMark: 2, transform(c, e, cb) { n++; cb(null, c); } });
    for (let i = 0; i < 10; i++) t.write("xx");
    await wait(5);
    const before = n;
    t.resume();
    t.end();
    await wait(10);
    return [before < 10, n];
  },
  async passthrough({ PassThrough }) {
    const p = new PassThrough();
    p.end("hello");
    let out = "";
    for await (const c of p) out += c;
    return out;
  },
  async transformError({ Transform }) {
    const log = [];
    const t = new Transform({ transform(c, e, cb) { cb(new Error("t")); } });
    t.on("error", (e) => log.push(e.message));
    t.on("close", () => log.push("close"));
    t.write("a");
    await wait(5);
    return log;
  },
  async duplex({ Duplex }) {
    const log = [];
    const d = new Duplex({ read() { this.push("r"); this.push(null); }, write(c, e, cb) { log.push(`${c}`); cb(); } });
    d.on("data", (c) => log.push(`${c}`));
    d.on("end", () => log.push("end"));
    d.on("finish", () => log.push("finish"));
    d.on("close", () => log.push("close"));
    d.end("w");
    await wait(10);
    return [log.slice().sort(), log.at(-1)];
  },
  async pipeline({ pipeline, Readable, Transform, Writable }) {
    const out = [];
    const err = await new Promise((r) => pipeline(Readable.from(["a", "b"]), new Transform({ transform(c, e, cb) { cb(null, c + "1"); } }), new Writable({ write(c, e, cb) { out.push(`${c}`); cb(); } }), r));
    return [out.join(""), err ?? null];
  },
  async pipelineError({ pipeline, Readable, Transform, Writable }) {
    const parts = [Readable.from(["a", "b"]), new Transform({ transform(c, e, cb) { cb(new Error("mid")); } }), new Writable({ write(c, e, cb) { cb(); } })];
    const err = await new Promise((r) => pipeline(...parts, r));
    await wait(2);
    return [err.message, parts.map((p) => p.destroyed)];
  },
  async pipelineGen({ promises, Readable }) {
    return promises.pipeline(Readable.from(["a", "b"]), async function* (s) { for await (const c of s) yield `${c}${c}`; }, async (s) => { let t = ""; for await (const c of s) t += c; return t; });
  },
  async pipelineWritable({ promises, Writable }) {
    const out = [];
    await promises.pipeline(async function* () { yield "x"; yield "y"; }, new Writable({ write(c, e, cb) { out.push(`${c}`); cb(); } }));
    return out.join("");
  },
  async premature({ finished, Readable }) {
    const r = new Readable({ read() {} });
    const p = new Promise((res) => finished(r, res));
    r.destroy();
    return (await p)?.code;
  },
  async finishedOk({ promises, Readable }) {
    const r = Readable.from(["a"]);
    r.resume();
    await promises.finished(r);
    return [r.readableEnded, r.destroyed || (await wait(2), r.destroyed)];
  },
  async abort({ addAbortSignal, Readable }) {
    const c = new AbortController();
    const r = addAbortSignal(c.signal, new Readable({ read() {} }));
    const p = new Promise((res) => r.on("error", res));
    c.abort();
    return (await p).name;
  },
  async encoding({ Readable }) {
    const r = new Readable({ read() {} });
    r.setEncoding("utf8");
    const log = [];
    r.on("data", (d) => log.push(d));
    r.push(Buffer.from([0xe2, 0x82]));
    r.push(Buffer.from([0xac]));
    r.push(null);
    await wait(5);
    return log;
  },
  async readN({ Readable }) {
    const r = new Readable({ read() {} });
    r.push("abcdef");
    r.push(null);
    await wait(1);
    r.on("end", () => 0);
    const out = [];
    await wait(1);
    out.push(`${r.read(2)}`, `${r.read(3)}`, `${r.read(10)}`, r.read());
    return out;
  },
  async pauseResume({ Readable }) {
    const log = [];
    const r = Readable.from([1, 2, 3, 4]);
    r.on("data", (d) => { log.push(d); if (d === 2) { r.pause(); setTimeout(() => { log.push("resume"); r.resume(); }, 3); } });
    await wait(15);
    return log;
  },
  async unshift({ Readable }) {
    const r = new Readable({ read() {} });
    r.push("b");
    r.unshift("a");
    r.push(null);
    let t = "";
    for await (const c of r) t += c;
    return t;
  },
  async pushEof({ Readable }) {
    const log = [];
    const r = new Readable({ read() {} });
    r.on("error", (e) => log.push(e.code));
    r.push(null);
    r.push("x");
    await wait(3);
    return log;
  },
  async destroyErr({ Readable }) {
    const log = [];
    const r = new Readable({ read() {}, destroy(e, cb) { log.push("destroy " + e?.message); cb(e); } });
    r.on("error", (e) => log.push(e.message));
    r.on("close", () => log.push("close"));
    r.destroy(new Error("d"));
    r.destroy(new Error("again"));
    await wait(3);
    return log;
  },
  async subclass({ Readable, Writable }) {
    class R extends Readable { constructor() { super(); this.n = 0; } _read() { this.push(this.n++ < 2 ? "z" : null); } }
    class W extends Writable { constructor() { super(); this.t = ""; } _write(c, e, cb) { this.t += c; cb(); } }
    const w = new W();
    await new Promise((r) => new R().pipe(w).on("finish", r));
    return w.t;
  },
  async oldStyle({ Transform }) {
    function T() { Transform.call(this); }
    Object.setPrototypeOf(T.prototype, Transform.prototype);
    T.prototype._transform = function (c, e, cb) { this.push(c); cb(); };
    const t = new T();
    t.end("old");
    let o = "";
    for await (const c of t) o += c;
    return [o, t instanceof Transform];
  },
  async toWeb({ Readable }) {
    const w = Readable.toWeb(Readable.from([Buffer.from("ab"), Buffer.from("cd")], { objectMode: false }));
    let t = "";
    for await (const c of w) t += Buffer.from(c);
    return t;
  },
  async fromWeb({ Readable }) {
    let t = "";
    for await (const c of Readable.fromWeb(new Blob(["hello"]).stream())) t += Buffer.from(c);
    return t;
  },
  async toArray({ Readable }) {
    return Readable.from([1, 2, 3]).map((x) => x * 2).filter((x) => x > 2).toArray();
  },
  async writableInstance({ Writable, Duplex, PassThrough, Readable }) {
    return [new PassThrough() instanceof Writable, new Duplex() instanceof Readable, new Readable() instanceof Writable, new Duplex() instanceof Writable];
  },
  async readError({ Readable }) {
    const log = [];
    const r = new Readable({ read() { throw new Error("thrown"); } });
    r.on("error", (e) => log.push(e.message));
    r.resume();
    await wait(3);
    return log;
  },
  async unpipe({ PassThrough }) {
    const a = new PassThrough(), b = new PassThrough();
    const log = [];
    b.on("unpipe", () => log.push("unpipe"));
    a.pipe(b);
    a.write("x");
    await wait(3);
    a.unpipe(b);
    a.write("y");
    await wait(3);
    return [log, `${b.read()}`];
  },
};

const EXPECTED = {
  basicData: "[\"a\",\"b\",\"end\",\"close\"]",
  readable: "[\"abc\",\"def\",\"end\"]",
  iterate: "[\"a\",\"b\",{\"c\":1}]",
  iterateBytes: "\"xxxxxx\"",
  iterateError: "[\"Ebad\",\"bad\"]",
  iterateBreak: "[[1,\"close\"],true]",
  write: "[\"a:buffer\",true,true,\"b:buffer\",\"c:buffer\",\"cb b\",\"ended\",\"finish\",\"close\"]",
  hwm: "[\"ab\",true,false,true,4,\"cd\",\"drain\",0]",
  writeAfterEnd: "[\"ERR_STREAM_WRITE_AFTER_END\",\"cb ERR_STREAM_WRITE_AFTER_END\"]",
  writeError: "[[\"cb bad\",\"bad\",\"close\"],true]",
  final: "[\"final\",\"finish\"]",
  cork: "[[\"a\",\"b\"]]",
  objectWrite: "[{\"a\":1},5,\"ERR_STREAM_NULL_VALUES\"]",
  syncMany: "20000",
  pipeMany: "12497500",
  badChunk: "\"ERR_INVALID_ARG_TYPE\"",
  pipe: "[\"pipe\",\"aabbccfinish\"]",
  transform: "[[\"A\",\"B\",\"C\",\"!\",\"end\"],true]",
  transformBack: "[true,10]",
  passthrough: "\"hello\"",
  transformError: "[\"t\",\"close\"]",
  duplex: "[[\"close\",\"end\",\"finish\",\"r\",\"w\"],\"close\"]",
  pipeline: "[\"a1b1\",null]",
  pipelineError: "[\"mid\",[true,true,true]]",
  pipelineGen: "\"aabb\"",
  pipelineWritable: "\"xy\"",
  premature: "\"ERR_STREAM_PREMATURE_CLOSE\"",
  finishedOk: "[true,true]",
  abort: "\"AbortError\"",
  encoding: "[\"€\"]",
  readN: "[\"ab\",\"cde\",\"f\",null]",
  pauseResume: "[1,2,\"resume\",3,4]",
  unshift: "\"ab\"",
  pushEof: "[\"ERR_STREAM_PUSH_AFTER_EOF\"]",
  destroyErr: "[\"destroy d\",\"d\",\"close\"]",
  subclass: "\"zz\"",
  oldStyle: "[\"old\",true]",
  toWeb: "\"abcd\"",
  fromWeb: "\"hello\"",
  toArray: "[4,6]",
  writableInstance: "[true,true,false,true]",
  readError: "[\"thrown\"]",
  unpipe: "[[\"unpipe\"],\"x\"]",
};

for (const [name, run] of Object.entries(scenarios)) {
  test(name, async () => eq(JSON.stringify(await run({ ...stream, promises: streamPromises })), EXPECTED[name]));
}
