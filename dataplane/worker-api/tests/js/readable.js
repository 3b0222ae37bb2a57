// ReadableStream (Streams §4).

test("reading", async () => {
  const s = new ReadableStream({
    start(c) {
      c.enqueue("a");
      c.enqueue("b");
      c.close();
    },
  });
  ok(!s.locked);
  const r = s.getReader();
  ok(s.locked);
  eq(await r.read(), { value: "a", done: false });
  eq(await r.read(), { value: "b", done: false });
  eq(await r.read(), { value: undefined, done: true });
  eq(await r.closed, undefined);
  throws(() => s.getReader(), TypeError);
  r.releaseLock();
  ok(!s.locked);
  await rejects(r.read(), TypeError);
  await rejects(r.closed, TypeError);
  s.getReader();
});

test("construction", () => {
  for (const bad of [null, 5, "x"]) throws(() => new ReadableStream(bad), TypeError);
  throws(() => new ReadableStream({ start: 5 }), TypeError);
  throws(() => new ReadableStream({ pull: {} }), TypeError);
  throws(() => new ReadableStream({ type: "other" }), TypeError);
  throws(() => new ReadableStream({}, { highWaterMark: -1 }), RangeError);
  throws(() => new ReadableStream({}, { highWaterMark: NaN }), RangeError);
  throws(() => new ReadableStream({}, { size: 5 }), TypeError);
  throws(() => new ReadableStream({ type: "bytes" }, { size: () => 1 }), RangeError);
  throws(() => new ReadableStream({ type: "bytes", autoAllocateChunkSize: 0 }), TypeError);
  const boom = new Error("start");
  throws(() => new ReadableStream({ start() { throw boom; } }), boom);
  throws(() => new ReadableStreamDefaultController(), TypeError);
  throws(() => new ReadableStreamDefaultReader({}), TypeError);
  throws(() => new ReadableStream().getReader({ mode: "x" }), TypeError);
  throws(() => new ReadableStream().getReader({ mode: "byob" }), TypeError);
});

test("pull is called for room and for reads, one at a time", async () => {
  let pulls = 0;
  let release;
  const s = new ReadableStream({
    pull(c) {
      pulls++;
      return new Promise((resolve) => {
        release = () => {
          c.enqueue(pulls);
          resolve();
        };
      });
    },
  });
  await settle();
  eq(pulls, 1);
  const r = s.getReader();
  const first = r.read();
  await settle();
  eq(pulls, 1);
  release();
  eq((await first).value, 1);
  await settle();
  eq(pulls, 2);
  release();
  await settle();
  eq(pulls, 2, "the queue is full");
});

test("sizes and desiredSize", async () => {
  let controller;
  const s = new ReadableStream({ start(c) { controller = c; } }, { highWaterMark: 10, size: (chunk) => chunk.length });
  eq(controller.desiredSize, 10);
  controller.enqueue("abcd");
  eq(controller.desiredSize, 6);
  const r = s.getReader();
  await r.read();
  eq(controller.desiredSize, 10);
  controller.close();
  eq(controller.desiredSize, 0);
  throws(() => controller.enqueue("x"), TypeError);
  throws(() => controller.close(), TypeError);
  const bad = new ReadableStream({ start(c) { throws(() => c.enqueue("x"), RangeError); } }, { size: () => -1 });
  await rejects(bad.getReader().read(), RangeError);
  const strategy = new CountQueuingStrategy({ highWaterMark: 3 });
  eq([strategy.highWaterMark, strategy.size("anything")], [3, 1]);
  eq(new ByteLengthQueuingStrategy({ highWaterMark: 3 }).size(bytes(1, 2)), 2);
  throws(() => new CountQueuingStrategy(), TypeError);
  throws(() => new CountQueuingStrategy({}), TypeError);
});

test("errors", async () => {
  const why = new Error("why");
  let controller;
  const s = new ReadableStream({ start(c) { controller = c; } });
  const r = s.getReader();
  const pending = r.read();
  controller.error(why);
  await rejects(pending, why);
  await rejects(r.read(), why);
  await rejects(r.closed, why);
  await rejects(r.cancel(), why);
  eq(controller.desiredSize, null);
  const pulling = new ReadableStream({ pull() { throw why; } });
  await rejects(pulling.getReader().read(), why);
  const starting = new ReadableStream({ start: () => Promise.reject(why) });
  await rejects(starting.getReader().read(), why);
  await rejects(ReadableStream.prototype.cancel.call({}), TypeError);
  await rejects(ReadableStreamDefaultReader.prototype.read.call({}), TypeError);
});

test("cancel", async () => {
  let reason;
  const s = new ReadableStream({ cancel(r) { reason = r; } });
  await s.cancel("enough");
  eq(reason, "enough");
  eq(await s.getReader().read(), { value: undefined, done: true });
  const failing = new ReadableStream({ cancel() { throw new RangeError("no"); } });
  await rejects(failing.cancel(), RangeError);
  const locked = new ReadableStream();
  const r = locked.getReader();
  await rejects(locked.cancel(), TypeError);
  const pending = r.read();
  await r.cancel();
  eq(await pending, { value: undefined, done: true });
});

test("releaseLock with reads pending", async () => {
  let controller;
  const s = new ReadableStream({ start(c) { controller = c; } });
  const r = s.getReader();
  const pending = r.read();
  r.releaseLock();
  await rejects(pending, TypeError);
  controller.enqueue("kept");
  eq((await s.getReader().read()).value, "kept");
});

test("async iteration", async () => {
  let cancelled;
  const make = () => new ReadableStream({
    start(c) { for (const x of [1, 2, 3]) c.enqueue(x); },
    cancel(reason) { cancelled = reason ?? "cancelled"; },
  });
  const seen = [];
  const s = make();
  for await (const x of s) {
    seen.push(x);
    if (x === 2) break;
  }
  eq(seen, [1, 2]);
  eq(cancelled, "cancelled");
  ok(!s.locked);
  cancelled = undefined;
  const t = make();
  for await (const x of t.values({ preventCancel: true })) if (x === 1) break;
  eq(cancelled, undefined);
  eq((await t.getReader().read()).value, 2);
  const it = make()[Symbol.asyncIterator]();
  const both = await Promise.all([it.next(), it.next()]);
  eq(both.map((b) => b.value), [1, 2]);
  eq(await it.return("v"), { value: "v", done: true });
  eq(await it.next(), { value: undefined, done: true });
  eq(ReadableStream.prototype[Symbol.asyncIterator], ReadableStream.prototype.values);
  const failing = new ReadableStream({ start(c) { c.error(new RangeError("x")); } });
  await rejects(readAll(failing), RangeError);
});

test("from", async () => {
  eq(await readAll(ReadableStream.from([1, 2])), [1, 2]);
  eq(await readAll(ReadableStream.from("ab")), ["a", "b"]);
  eq(await readAll(ReadableStream.from([Promise.resolve(1)])), [1]);
  eq(await readAll(ReadableStream.from((async function* () { yield 1; yield 2; })())), [1, 2]);
  eq(await readAll(ReadableStream.from(new ReadableStream({ start(c) { c.enqueue(5); c.close(); } }))), [5]);
  throws(() => ReadableStream.from(5), TypeError);
  throws(() => ReadableStream.from({}), TypeError);
  throws(() => ReadableStream.from(null), TypeError);
  let returned = false;
  const s = ReadableStream.from((async function* () {
    try {
      yield 1;
      yield 2;
    } finally {
      returned = true;
    }
  })());
  const r = s.getReader();
  await r.read();
  await r.cancel();
  ok(returned);
  await rejects(readAll(ReadableStream.from((async function* () { throw new RangeError("g"); })())), RangeError);
});

test("tee", async () => {
  let cancelled;
  const s = new ReadableStream({
    start(c) { c.enqueue({ n: 1 }); c.enqueue({ n: 2 }); },
    cancel(reasons) { cancelled = reasons; },
  });
  const [a, b] = s.tee();
  ok(s.locked);
  const ra = a.getReader();
  const rb = b.getReader();
  const first = (await ra.read()).value;
  eq(first, (await rb.read()).value);
  eq((await ra.read()).value, { n: 2 });
  const done = ra.cancel("a");
  await settle();
  eq(cancelled, undefined);
  await rb.cancel("b");
  await done;
  eq(cancelled, ["a", "b"]);
  const why = new Error("e");
  const [c, d] = new ReadableStream({ pull(x) { x.error(why); } }).tee();
  await rejects(c.getReader().read(), why);
  await rejects(d.getReader().read(), why);
});

test("byte streams: default reader", async () => {
  const s = new ReadableStream({
    type: "bytes",
    start(c) {
      throws(() => c.enqueue(new Uint8Array(0)), TypeError);
      throws(() => c.enqueue("x"), TypeError);
      c.enqueue(bytes(1, 2));
      c.enqueue(new Uint16Array([0x0403]));
      eq(c.desiredSize, -4);
      eq(c.byobRequest, null);
      c.close();
    },
  });
  eq(await readAll(s), [bytes(1, 2), bytes(3, 4)]);
  const given = bytes(1);
  new ReadableStream({ type: "bytes", start(c) { c.enqueue(given); } });
  eq(given.byteLength, 0, "transferred");
});

test("byte streams: BYOB reader", async () => {
  const s = new ReadableStream({
    type: "bytes",
    pull(c) {
      const { view } = c.byobRequest;
      view[0] = 7;
      view[1] = 8;
      c.byobRequest.respond(2);
    },
  });
  const r = s.getReader({ mode: "byob" });
  const mine = new Uint8Array(4);
  const { value, done } = await r.read(mine);
  eq([done, value], [false, bytes(7, 8)]);
  eq(value.buffer.byteLength, 4);
  eq(mine.byteLength, 0);
  await rejects(r.read(new Uint8Array(0)), TypeError);
  await rejects(r.read(), TypeError);
  await rejects(r.read([]), TypeError);
  await rejects(r.read(new Uint8Array(1), { min: 2 }), RangeError);
  await rejects(r.read(new Uint8Array(1), { min: 0 }), TypeError);
  eq((await r.read(new Uint8Array(6), { min: 5 })).value.length, 6);
});

test("byte streams: queued bytes fill a view", async () => {
  let controller;
  const s = new ReadableStream({ type: "bytes", start(c) { controller = c; c.enqueue(bytes(1, 2, 3)); c.enqueue(bytes(4, 5)); } });
  const r = s.getReader({ mode: "byob" });
  eq((await r.read(new Uint8Array(2))).value, bytes(1, 2));
  eq((await r.read(new Uint16Array(1))).value, new Uint16Array([0x0403]));
  const odd = r.read(new Uint16Array(2));
  controller.enqueue(bytes(6));
  const got = (await odd).value;
  ok(got instanceof Uint16Array);
  eq(got, new Uint16Array([0x0605]));
  const closing = r.read(new DataView(new ArrayBuffer(3)));
  controller.close();
  controller.byobRequest.respond(0);
  const end = await closing;
  eq([end.done, end.value instanceof DataView, end.value.byteLength], [true, true, 0]);
  eq(await r.closed, undefined);
});

test("byte streams: requests that are wrong", async () => {
  let controller;
  const s = new ReadableStream({ type: "bytes", start(c) { controller = c; } });
  const r = s.getReader({ mode: "byob" });
  const pending = r.read(new Uint8Array(2));
  const request = controller.byobRequest;
  throws(() => request.respond(3), RangeError);
  throws(() => request.respond(0), TypeError);
  throws(() => request.respond(-1), TypeError);
  throws(() => request.respondWithNewView(new Uint8Array(5)), RangeError);
  throws(() => request.respondWithNewView({}), TypeError);
  request.view[0] = 1;
  request.respond(1);
  eq((await pending).value, bytes(1));
  eq(request.view, null);
  throws(() => request.respond(1), TypeError);
  throws(() => new ReadableStreamBYOBRequest(), TypeError);
});

test("byte streams: autoAllocateChunkSize and tee", async () => {
  let n = 0;
  const make = () => new ReadableStream({
    type: "bytes",
    autoAllocateChunkSize: 16,
    pull(c) {
      if (++n > 2) {
        c.close();
        c.byobRequest?.respond(0);
        return;
      }
      c.byobRequest.view[0] = n;
      c.byobRequest.respond(1);
    },
  });
  eq(await readAll(make()), [bytes(1), bytes(2)]);
  n = 0;
  const [a, b] = make().tee();
  const both = await Promise.all([readAll(a), readAll(b)]);
  eq(both, [[bytes(1), bytes(2)], [bytes(1), bytes(2)]]);
  const [c, d] = new ReadableStream({ type: "bytes", start(x) { x.enqueue(bytes(9, 8)); x.close(); } }).tee();
  const byob = c.getReader({ mode: "byob" });
  eq((await byob.read(new Uint8Array(1))).value, bytes(9));
  eq((await byob.read(new Uint8Array(1))).value, bytes(8));
  eq((await byob.read(new Uint8Array(1))).done, true);
  eq((await readAll(d)).flatMap((chunk) => [...chunk]), [9, 8]);
});

test("pipeTo", async () => {
  const out = [];
  const sink = () => new WritableStream({ write: (x) => void out.push(x), close: () => void out.push("closed"), abort: (r) => void out.push(["aborted", r]) });
  await ReadableStream.from([1, 2]).pipeTo(sink());
  eq(out.splice(0), [1, 2, "closed"]);
  const kept = sink();
  await ReadableStream.from([1]).pipeTo(kept, { preventClose: true });
  eq(out.splice(0), [1]);
  ok(!kept.locked);
  const why = new Error("source");
  await rejects(new ReadableStream({ pull(c) { c.error(why); } }).pipeTo(sink()), why);
  eq(out.splice(0), [["aborted", why]]);
  await rejects(new ReadableStream({ pull(c) { c.error(why); } }).pipeTo(sink(), { preventAbort: true }), why);
  eq(out.splice(0), []);
  let cancelled;
  const source = new ReadableStream({ pull(c) { c.enqueue(1); }, cancel(r) { cancelled = r; } });
  await rejects(source.pipeTo(new WritableStream({ write() { throw why; } })), why);
  eq(cancelled, why);
  await rejects(new ReadableStream().pipeTo({}), TypeError);
  const locked = new ReadableStream();
  locked.getReader();
  await rejects(locked.pipeTo(sink()), TypeError);
});

test("pipeTo with a signal", async () => {
  const c = new AbortController();
  let cancelled;
  let aborted;
  const source = new ReadableStream({ cancel(r) { cancelled = r; } });
  const piped = source.pipeTo(new WritableStream({ abort(r) { aborted = r; } }), { signal: c.signal });
  await settle();
  c.abort("stop");
  let stopped;
  await piped.catch((e) => { stopped = e; });
  eq(stopped, "stop");
  eq([cancelled, aborted], ["stop", "stop"]);
  ok(!source.locked);
  let reason;
  await new ReadableStream().pipeTo(new WritableStream(), { signal: AbortSignal.abort("early") }).catch((e) => { reason = e; });
  eq(reason, "early");
  await rejects(new ReadableStream().pipeTo(new WritableStream(), { signal: {} }), TypeError);
});

test("pipeThrough", async () => {
  const upper = new TransformStream({ transform(x, c) { c.enqueue(x.toUpperCase()); } });
  eq(await readAll(ReadableStream.from(["a", "b"]).pipeThrough(upper)), ["A", "B"]);
  throws(() => new ReadableStream().pipeThrough({}), TypeError);
  throws(() => new ReadableStream().pipeThrough({ readable: new ReadableStream() }), TypeError);
});

test("many chunks are read without recursion", async () => {
  const s = new ReadableStream({ start(c) { for (let i = 0; i < 50000; i++) c.enqueue(bytes(1)); c.close(); } });
  eq((await new Response(s).arrayBuffer()).byteLength, 50000);
});

test("methods that give promises reject where they have no reader", async () => {
  for (const C of [ReadableStreamDefaultReader, ReadableStreamBYOBReader]) {
    for (const receiver of [null, undefined, 1, {}, C.prototype]) {
      for (const method of ["read", "cancel"]) await rejects(C.prototype[method].call(receiver), TypeError, method);
      if (receiver !== null && receiver !== undefined) await rejects(Reflect.get(C.prototype, "closed", receiver), TypeError);
    }
  }
});
