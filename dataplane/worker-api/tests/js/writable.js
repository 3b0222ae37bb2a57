// WritableStream and TransformStream (Streams §5, §6), IdentityTransformStream, FixedLengthStream.

test("writing", async () => {
  const log = [];
  const s = new WritableStream({
    start: () => void log.push("start"),
    write: (chunk) => void log.push(chunk),
    close: () => void log.push("close"),
  });
  const w = s.getWriter();
  ok(s.locked);
  eq(w.desiredSize, 1);
  await w.ready;
  await w.write("a");
  await w.write("b");
  await w.close();
  await w.closed;
  eq(log, ["start", "a", "b", "close"]);
  eq(w.desiredSize, 0);
  await rejects(w.write("c"), TypeError);
  await rejects(w.close(), TypeError);
  w.releaseLock();
  await rejects(w.write("c"), TypeError);
  await rejects(w.closed, TypeError);
  throws(() => w.desiredSize, TypeError);
});

test("construction", () => {
  throws(() => new WritableStream(5), TypeError);
  throws(() => new WritableStream({ write: 5 }), TypeError);
  throws(() => new WritableStream({ type: "bytes" }), RangeError);
  throws(() => new WritableStream({}, { highWaterMark: -1 }), RangeError);
  throws(() => new WritableStreamDefaultController(), TypeError);
  throws(() => new WritableStreamDefaultWriter({}), TypeError);
  const s = new WritableStream();
  s.getWriter();
  throws(() => s.getWriter(), TypeError);
  throws(() => new WritableStream({ start() { throw new RangeError("s"); } }), RangeError);
});

test("writes wait for one another; ready is back-pressure", async () => {
  let release;
  const log = [];
  const s = new WritableStream({
    write(chunk) {
      log.push(chunk);
      return new Promise((resolve) => { release = resolve; });
    },
  }, { highWaterMark: 2 });
  const w = s.getWriter();
  await w.ready;
  const first = w.write(1);
  eq(w.desiredSize, 1);
  w.write(2);
  eq(w.desiredSize, 0);
  let ready = false;
  w.ready.then(() => { ready = true; });
  await settle();
  eq([log, ready], [[1], false]);
  release();
  await first;
  await settle();
  eq([log, ready, w.desiredSize], [[1, 2], true, 1]);
});

test("a failing sink errors the stream", async () => {
  const why = new Error("sink");
  const s = new WritableStream({ write() { throw why; } });
  const w = s.getWriter();
  await rejects(w.write(1), why);
  await rejects(w.write(2), why);
  await rejects(w.closed, why);
  await rejects(w.ready, why);
  eq(w.desiredSize, null);
  const c = new WritableStream({ close() { throw why; } });
  await rejects(c.close(), why);
  await rejects(c.getWriter().closed, why);
  let controller;
  const e = new WritableStream({ start(x) { controller = x; } });
  await settle();
  controller.error(why);
  await rejects(e.getWriter().closed, why);
});

test("abort", async () => {
  let reason;
  let controller;
  const s = new WritableStream({ start(c) { controller = c; }, abort(r) { reason = r; } });
  const w = s.getWriter();
  await rejects(s.abort(), TypeError);
  ok(!controller.signal.aborted);
  await w.abort("stop");
  eq(reason, "stop");
  eq([controller.signal.aborted, controller.signal.reason], [true, "stop"]);
  let closed;
  await w.closed.catch((e) => { closed = e; });
  eq(closed, "stop");
  await w.abort("again");
  let signalled;
  const hanging = new WritableStream({
    write: (chunk, c) => new Promise((resolve, reject) => {
      c.signal.addEventListener("abort", () => {
        signalled = c.signal.reason;
        reject(new Error("aborted write"));
      });
    }),
  });
  const hw = hanging.getWriter();
  const write = hw.write(1);
  await settle();
  await hw.abort("now").catch(() => {});
  await rejects(write, Error);
  eq(signalled, "now");
  await rejects(WritableStream.prototype.abort.call({}), TypeError);
});

test("close waits for writes", async () => {
  const log = [];
  const s = new WritableStream({ write: async (x) => { await sleep(1); log.push(x); }, close: () => void log.push("closed") });
  const w = s.getWriter();
  w.write(1);
  w.write(2);
  await w.close();
  eq(log, [1, 2, "closed"]);
  await rejects(s.close(), TypeError);
});

test("transform", async () => {
  const t = new TransformStream({
    start: (c) => c.enqueue("start"),
    transform(chunk, c) { c.enqueue(chunk * 2); },
    flush: (c) => c.enqueue("end"),
  });
  const w = t.writable.getWriter();
  w.write(1);
  w.write(2);
  w.close();
  eq(await readAll(t.readable), ["start", 2, 4, "end"]);
  const identity = new TransformStream();
  const iw = identity.writable.getWriter();
  iw.write("x");
  iw.close();
  eq(await readAll(identity.readable), ["x"]);
});

test("transform: construction", () => {
  throws(() => new TransformStream(5), TypeError);
  throws(() => new TransformStream({ transform: 5 }), TypeError);
  throws(() => new TransformStream({ readableType: "bytes" }), RangeError);
  throws(() => new TransformStream({ writableType: "bytes" }), RangeError);
  throws(() => new TransformStreamDefaultController(), TypeError);
  const why = new Error("start");
  throws(() => new TransformStream({ start() { throw why; } }), why);
});

test("transform: back-pressure", async () => {
  const t = new TransformStream();
  const w = t.writable.getWriter();
  eq(w.desiredSize, 1);
  let written = false;
  w.write(1).then(() => { written = true; });
  await settle();
  ok(!written, "nobody reads");
  eq(w.desiredSize, 0);
  eq((await t.readable.getReader().read()).value, 1);
  await settle();
  ok(written);
});

test("transform: errors go both ways", async () => {
  const why = new Error("transform");
  const t = new TransformStream({ transform() { throw why; } });
  const w = t.writable.getWriter();
  const r = t.readable.getReader();
  const write = w.write(1);
  await rejects(r.read(), why);
  await rejects(write, why);
  await rejects(w.closed, why);
  let reason;
  const c = new TransformStream({ cancel(x) { reason = x; } });
  await c.readable.cancel("enough");
  eq(reason, "enough");
  let closed;
  await c.writable.getWriter().closed.catch((e) => { closed = e; });
  eq(closed, "enough");
  const a = new TransformStream();
  const reading = a.readable.getReader().read();
  await a.writable.abort(why);
  await rejects(reading, why);
});

test("transform: terminate", async () => {
  const t = new TransformStream({
    transform(chunk, c) {
      c.enqueue(chunk);
      c.terminate();
    },
  });
  const w = t.writable.getWriter();
  const r = t.readable.getReader();
  const write = w.write("only");
  eq((await r.read()).value, "only");
  eq((await r.read()).done, true);
  await write;
  await rejects(w.write("more"), TypeError);
});

test("IdentityTransformStream and FixedLengthStream", async () => {
  const i = new IdentityTransformStream();
  const iw = i.writable.getWriter();
  iw.write(utf8("ab"));
  iw.write("cd");
  iw.close();
  eq(await new Response(i.readable).text(), "abcd");
  const f = new FixedLengthStream(3);
  const w = f.writable.getWriter();
  w.write(utf8("abc"));
  w.close();
  eq(await new Response(f.readable).text(), "abc");
  const long = new FixedLengthStream(1);
  const lw = long.writable.getWriter();
  const reading = long.readable.getReader().read();
  await rejects(lw.write(utf8("ab")), TypeError);
  await rejects(reading, TypeError);
  const short = new FixedLengthStream(2);
  const sw = short.writable.getWriter();
  const all = readAll(short.readable);
  sw.write(utf8("a")).catch(() => {});
  await rejects(sw.close(), TypeError);
  await rejects(all, TypeError);
  throws(() => new FixedLengthStream(), TypeError);
  throws(() => new FixedLengthStream(-1), TypeError);
  ok(new FixedLengthStream(5n) instanceof TransformStream);
});

test("methods that give promises reject where they have no writer", async () => {
  const { prototype } = WritableStreamDefaultWriter;
  for (const receiver of [null, undefined, 1, {}, prototype]) {
    for (const method of ["write", "close", "abort"]) await rejects(prototype[method].call(receiver), TypeError, method);
  }
});
