// Timers, microtasks, structuredClone, crypto, console's neighbours on the global object.

test("setTimeout", async () => {
  const order = [];
  await new Promise((resolve) => {
    setTimeout(() => order.push("20"), 20);
    setTimeout((a, b) => order.push(a + b), 10, "1", "0");
    setTimeout(() => order.push("0"));
    clearTimeout(setTimeout(() => order.push("never"), 5));
    setTimeout(resolve, 30);
    queueMicrotask(() => order.push("micro"));
    order.push("sync");
  });
  eq(order, ["sync", "micro", "0", "10", "20"]);
  throws(() => setTimeout("code"), TypeError);
  throws(() => setTimeout(), TypeError);
  throws(() => setInterval({}), TypeError);
  clearTimeout();
  clearTimeout(undefined);
  clearTimeout(99999999);
  clearTimeout("x");
  ok(Number.isInteger(setTimeout(() => {}, 1)));
  await new Promise((resolve) => setTimeout(resolve, "5"));
  await new Promise((resolve) => setTimeout(resolve, -5));
  await new Promise((resolve) => setTimeout(resolve, NaN));
});

test("setInterval", async () => {
  let n = 0;
  await new Promise((resolve) => {
    const id = setInterval(() => {
      if (++n === 3) {
        clearInterval(id);
        resolve();
      }
    }, 2);
  });
  await sleep(10);
  eq(n, 3);
});

test("clocks stand still while a program computes", async () => {
  const start = [Date.now(), performance.now()];
  let x = 0;
  for (let i = 0; i < 200000; i++) x += i % 7;
  ok(x > 0);
  eq([Date.now(), performance.now()], start);
  await sleep(25);
  const later = performance.now();
  ok(later - start[1] >= 25, `${later} - ${start[1]}`);
  ok(Date.now() - start[0] >= 25);
  ok(Math.abs(performance.timeOrigin + performance.now() - Date.now()) < 1);
  eq(typeof performance.toJSON().timeOrigin, "number");
  eq(new Date().getTime(), Date.now());
});

test("Date is Date in every other way", () => {
  eq([Date.name, Date.length, Date.UTC(2000, 0), Date.parse("2000-01-01T00:00:00Z")], ["Date", 7, 946684800000, 946684800000]);
  eq(typeof Date(), "string");
  eq(Date(), new Date().toString());
  const d = new Date(2000, 1, 2, 3, 4, 5, 6);
  ok(d instanceof Date && d.constructor === Date);
  eq([d.getFullYear(), d.getMilliseconds()], [2000, 6]);
  eq(new Date(5).getTime(), 5);
  eq(new Date("1970-01-01").toJSON(), "1970-01-01T00:00:00.000Z");
  ok(Number.isNaN(new Date(undefined).getTime()));
  eq(Object.prototype.toString.call(d), "[object Date]");
  class Mine extends Date {}
  ok(new Mine() instanceof Mine);
  eq(new Mine(7).getTime(), 7);
  eq(new Date(d).getTime(), d.getTime());
});

test("no other clock tells more", () => {
  const f = new Intl.DateTimeFormat("en", { dateStyle: "short", timeStyle: "long", timeZone: "UTC" });
  eq(f.format(), f.format(Date.now()));
  eq(f.formatToParts(), f.formatToParts(Date.now()));
  eq(f.format(0), f.format(new Date(0)));
  if (globalThis.Temporal !== undefined) {
    eq(Temporal.Now.instant().epochMilliseconds, Date.now());
    eq(Temporal.Now.zonedDateTimeISO("UTC").epochMilliseconds, Date.now());
    eq(Temporal.Now.plainDateISO("UTC").toString(), new Date().toISOString().slice(0, 10));
  }
  throws(() => new Intl.DateTimeFormat("en").formatRange(), TypeError);
  throws(() => Atomics.wait(new Int32Array(4), 0, 0, 1), TypeError);
  throws(() => Atomics.waitAsync(new Int32Array(4), 0, 0, 1), TypeError);
  throws(() => Atomics.waitAsync(new BigInt64Array(4), 0, 0n, 1), TypeError);
});

// Every way to ask for the time, before and after some milliseconds of computing.
test("every clock stands still while a program computes", async () => {
  const long = { dateStyle: "short", timeStyle: "long", fractionalSecondDigits: undefined };
  const fine = { hour: "numeric", minute: "numeric", second: "numeric", fractionalSecondDigits: 3 };
  const { format } = new Intl.DateTimeFormat("en", fine);
  class Late extends Date {}
  const clocks = {
    now: () => Date.now(),
    date: () => new Date().getTime(),
    called: () => Date(),
    constructed: () => Reflect.construct(Date, []).getTime(),
    other: () => Reflect.construct(Date, [], Object).constructor === Object,
    derived: () => new Late().getTime(),
    prototypes: () => new (Object.getPrototypeOf(new Date()).constructor)().getTime(),
    clone: () => new (structuredClone(new Date(0)).constructor)().getTime(),
    performance: () => performance.now(),
    origin: () => performance.timeOrigin,
    event: () => new Event("x").timeStamp,
    file: () => new File([], "x").lastModified,
    form: () => {
      const form = new FormData();
      form.append("f", new Blob([]));
      return form.get("f").lastModified;
    },
    format: () => new Intl.DateTimeFormat("en", fine).format(),
    formatLong: () => new Intl.DateTimeFormat("en", long).format(),
    formatBound: () => format(),
    formatUndefined: () => format(undefined),
    parts: () => JSON.stringify(new Intl.DateTimeFormat("en", fine).formatToParts()),
    partsUndefined: () => JSON.stringify(new Intl.DateTimeFormat("en", fine).formatToParts(undefined)),
    text: () => new Date().toLocaleString("en", fine),
    time: () => new Date().toLocaleTimeString("en", fine),
  };
  if (globalThis.Temporal !== undefined) {
    clocks.instant = () => Temporal.Now.instant().epochNanoseconds;
    clocks.zoned = () => Temporal.Now.zonedDateTimeISO().epochNanoseconds;
    clocks.plain = () => Temporal.Now.plainDateTimeISO("UTC").toString();
    clocks.plainTime = () => Temporal.Now.plainTimeISO("UTC").toString();
    clocks.formatTemporal = () => new Intl.DateTimeFormat("en", fine).format();
  }
  const read = () => {
    const times = {};
    for (const name of Object.keys(clocks)) times[name] = clocks[name]();
    return times;
  };
  const before = read();
  let x = 0;
  // Tens of milliseconds: a clock of milliseconds that ran would show it.
  for (let i = 0; i < 20_000_000; i++) x += i % 7;
  for (let i = 0; i < 5; i++) await null;
  ok(x > 0);
  const after = read();
  for (const name of Object.keys(clocks)) eq(after[name], before[name], name);
  await sleep(25);
  const later = read();
  for (const name of ["now", "date", "constructed", "derived", "performance", "event", "format", "parts", "text"]) {
    ok(!Object.is(later[name], before[name]), `${name} goes on between turns`);
  }
});

test("no function of the language's own gives the native clock", () => {
  const seen = [];
  const before = Error.prepareStackTrace;
  Error.prepareStackTrace = (_error, sites) => sites;
  // Functions that call back, whose frames a program could ask for the function that runs.
  const look = () => {
    for (const site of new Error().stack) seen.push(site.getFunction?.(), site.getThis?.());
    return 1;
  };
  try {
    new Date({ valueOf: look });
    new Date(2000, { valueOf: look });
    Date.UTC({ valueOf: look });
    new Intl.DateTimeFormat("en").format({ valueOf: look });
    structuredClone({ get a() { return look(); } });
    new Headers(new Proxy({}, { ownKeys: () => (look(), []) }));
    new EventTarget().dispatchEvent(new Event({ toString: () => (look(), "x") }));
  } finally {
    Error.prepareStackTrace = before;
  }
  ok(seen.length > 20, `${seen.length} frames`);
  // `undefined` for every function in strict mode, which all of the runtime is.
  for (const it of seen) ok(it === undefined || it === null, `a frame gave ${typeof it}`);
});

test("memory is not shared", () => {
  eq([typeof SharedArrayBuffer, "SharedArrayBuffer" in globalThis, typeof WebAssembly], ["undefined", false, "object"]);
  // Nothing that is reachable from a built-in makes one either.
  const found = new Set();
  const queue = [globalThis];
  const tag = (value) => {
    try {
      return Object.prototype.toString.call(value);
    } catch {
      return "";
    }
  };
  while (queue.length > 0) {
    const object = queue.pop();
    if (found.has(object)) continue;
    found.add(object);
    ok(tag(object) !== "[object SharedArrayBuffer]" && (typeof object !== "function" || object.name !== "SharedArrayBuffer"));
    for (const key of Reflect.ownKeys(object)) {
      const desc = Reflect.getOwnPropertyDescriptor(object, key);
      for (const value of [desc.value, desc.get, desc.set]) {
        if ((typeof value === "object" && value !== null) || typeof value === "function") queue.push(value);
      }
    }
    const proto = Reflect.getPrototypeOf(object);
    if (proto !== null) queue.push(proto);
  }
  ok(found.size > 1000, `${found.size} objects are reachable`);
});

test("microtasks", async () => {
  const order = [];
  queueMicrotask(() => order.push(1));
  Promise.resolve().then(() => order.push(2));
  queueMicrotask(() => order.push(3));
  await settle();
  eq(order, [1, 2, 3]);
  throws(() => queueMicrotask(), TypeError);
  throws(() => queueMicrotask("x"), TypeError);
  let reported;
  const listen = (e) => {
    reported = e.error;
    e.preventDefault();
  };
  addEventListener("error", listen);
  const boom = new Error("micro");
  queueMicrotask(() => {
    throw boom;
  });
  await settle();
  eq(reported, boom);
  reportError(5);
  eq(reported, 5);
  removeEventListener("error", listen);
});

test("structuredClone", async () => {
  for (const x of [1, "a", true, null, undefined, 10n, NaN, -0]) ok(Object.is(structuredClone(x), x));
  const o = { a: [1, , 3], d: new Date(5), r: /x/gi, m: new Map([[{ k: 1 }, new Set([1])]]), n: new Number(5), e: new TypeError("m", { cause: 1 }) };
  o.self = o;
  o.twice = o.a;
  const c = structuredClone(o);
  ok(c !== o && c.self === c && c.twice === c.a);
  eq([c.a.length, 1 in c.a, c.a[2]], [3, false, 3]);
  eq([c.d.getTime(), c.r.source, c.r.flags], [5, "x", "gi"]);
  eq([...c.m.keys()][0], { k: 1 });
  ok([...c.m.values()][0].has(1));
  eq([typeof c.n, c.n.valueOf()], ["object", 5]);
  ok(c.e instanceof TypeError);
  eq([c.e.message, c.e.cause], ["m", 1]);
  const view = bytes(1, 2, 3).subarray(1);
  eq(structuredClone(view), bytes(2, 3));
  const buffer = new ArrayBuffer(4);
  const both = structuredClone({ a: new Uint8Array(buffer), b: new DataView(buffer) });
  eq(both.a.buffer, both.b.buffer);
  eq(await structuredClone(new Blob(["x"], { type: "a/b" })).text(), "x");
  eq(structuredClone(new File(["x"], "n")).name, "n");
  eq(structuredClone(new DOMException("m", "DataError")).name, "DataError");
  class Mine { x = 1; get y() { return 2; } }
  eq(Object.getPrototypeOf(structuredClone(new Mine())), Object.prototype);
  eq(structuredClone({ get g() { return 5; } }), { g: 5 });
  for (const bad of [() => {}, Symbol("s"), Promise.resolve(), new WeakMap(), new Proxy({}, {}), new Headers(), new Response(), new EventTarget(), new ReadableStream(), Object(Symbol())]) {
    throws(() => structuredClone(bad), "DataCloneError");
    throws(() => structuredClone({ deep: [bad] }), "DataCloneError");
  }
  throws(() => structuredClone(), TypeError);
  const why = new Error("getter");
  throws(() => structuredClone({ get g() { throw why; } }), why);
});

test("structuredClone with transfer", () => {
  const buffer = bytes(1, 2).buffer;
  const c = structuredClone({ v: new Uint8Array(buffer) }, { transfer: [buffer] });
  eq([buffer.byteLength, buffer.detached], [0, true]);
  eq(c.v, bytes(1, 2));
  throws(() => structuredClone(1, { transfer: [buffer] }), "DataCloneError");
  const kept = new ArrayBuffer(1);
  throws(() => structuredClone(Symbol(), { transfer: [kept] }), "DataCloneError");
  ok(!kept.detached);
  throws(() => structuredClone(1, { transfer: [kept, kept] }), "DataCloneError");
  throws(() => structuredClone(1, { transfer: [{}] }), "DataCloneError");
  throws(() => structuredClone(1, { transfer: [5] }), TypeError);
});

test("crypto", async () => {
  ok(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(crypto.randomUUID()));
  ok(crypto.randomUUID() !== crypto.randomUUID());
  const a = new Uint8Array(32);
  eq(crypto.getRandomValues(a), a);
  ok(a.some((x) => x !== 0));
  for (const T of [Int8Array, Uint8ClampedArray, Uint16Array, Int32Array, BigUint64Array]) crypto.getRandomValues(new T(4));
  crypto.getRandomValues(new Uint8Array(0));
  const window = new Uint8Array(64);
  crypto.getRandomValues(window.subarray(16, 32));
  ok(window.subarray(0, 16).every((x) => x === 0) && window.subarray(32).every((x) => x === 0));
  crypto.getRandomValues(new Uint8Array(65536));
  throws(() => crypto.getRandomValues(new Uint8Array(65537)), "QuotaExceededError");
  throws(() => crypto.getRandomValues(new Float64Array(1)), "TypeMismatchError");
  throws(() => crypto.getRandomValues(new DataView(new ArrayBuffer(1))), "TypeMismatchError");
  throws(() => crypto.getRandomValues([]), TypeError);
  throws(() => crypto.getRandomValues(), TypeError);
  throws(() => new Crypto(), TypeError);
  const hex = (b) => [...new Uint8Array(b)].map((x) => x.toString(16).padStart(2, "0")).join("");
  eq(hex(await crypto.subtle.digest("SHA-256", utf8("abc"))), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  eq(hex(await crypto.subtle.digest({ name: "sha-1" }, utf8("abc").buffer)), "a9993e364706816aba3e25717850c26c9cd0d89d");
  eq((await crypto.subtle.digest("SHA-512", new Uint8Array(0))).byteLength, 64);
  await rejects(crypto.subtle.digest("MD5", utf8("")), "NotSupportedError");
  await rejects(crypto.subtle.digest("SHA-256", "text"), TypeError);
  await rejects(crypto.subtle.digest("SHA-256"), TypeError);
});

test("the global object", () => {
  eq(self, globalThis);
  eq(navigator.userAgent, "Cloudflare-Workers");
  for (const name of ["fetch", "Request", "setTimeout", "console", "crypto", "structuredClone", "URL", "self", "performance", "navigator", "AbortSignal"]) {
    const d = Object.getOwnPropertyDescriptor(globalThis, name);
    eq([d.enumerable, d.configurable, d.writable], [false, true, true], name);
  }
  eq(Object.keys(globalThis), []);
  eq([setTimeout.name, setTimeout.length, fetch.name, fetch.length, queueMicrotask.length, structuredClone.length, atob.length], ["setTimeout", 1, "fetch", 1, 1, 1, 1]);
  throws(() => new Performance(), TypeError);
  throws(() => new Navigator(), TypeError);
  eq(Object.prototype.toString.call(performance), "[object Performance]");
  eq(Object.prototype.toString.call(console), "[object console]");
  eq(typeof ops, "undefined");
  eq(typeof lib, "undefined");
});

test("ctx and env", (request, env, ctx) => {
  eq(env.GREETING, "hello");
  eq(ctx.waitUntil(Promise.resolve()), undefined);
  eq(ctx.passThroughOnException(), undefined);
  ctx.waitUntil(Promise.reject(new Error("rejected in waitUntil")));
  throws(() => ctx.waitUntil.call({}), TypeError);
});

test("console never throws", () => {
  const evil = {
    get getter() {
      throw new Error("getter ran");
    },
    toString() {
      throw new Error("toString ran");
    },
    [Symbol.toPrimitive]() {
      throw new Error("toPrimitive ran");
    },
  };
  evil.self = evil;
  const proxy = new Proxy({}, { get() { throw new Error("trap"); }, ownKeys() { throw new Error("trap"); }, getPrototypeOf() { throw new Error("trap"); } });
  const broken = new Error("x");
  Object.defineProperty(broken, "stack", { get() { throw new Error("stack ran"); } });
  let deep = {};
  for (let i = 0; i < 10000; i++) deep = { deep };
  for (const value of [evil, proxy, broken, deep, Object.create(null), Object.create(proxy), Symbol("s"), new Array(1e9), "x".repeat(1e6), () => {}, class {}, new Map([[evil, proxy]]), new (class extends Array {})(), Object.create(Map.prototype), 0n]) {
    console.log(value);
    console.error("%s %d %i %f %o %O %c %%", value, value, value, value, value, value);
    console.table(value);
    console.dir(value, { depth: 100 });
  }
  console.assert(true, "silent");
  console.assert(false, "said");
  console.count();
  console.countReset("none");
  console.time();
  console.timeEnd();
  console.timeEnd();
  console.group("g");
  console.groupEnd();
  console.trace("t");
  console.log();
  ok(true);
});

test("performance has a brand", () => {
  const { prototype } = Performance;
  throws(() => prototype.now.call(null), TypeError);
  throws(() => prototype.now.call({}), TypeError);
  throws(() => prototype.toJSON.call({}), TypeError);
  throws(() => prototype.timeOrigin, TypeError);
  ok(performance.now() >= 0 && performance.toJSON().timeOrigin === performance.timeOrigin);
});
