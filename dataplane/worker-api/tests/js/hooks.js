// A program that listens where the language itself asks: at setters and getters of `Object.prototype`, at indices of
// `Array.prototype`, at `Promise`'s constructor and species, at the Web API's own prototypes. The runtime must do its work
// all the same, and hand out nothing of its own there. `NAMES` (every property that the runtime's files name) comes before this text.

const { apply, defineProperty, deleteProperty, ownKeys, getPrototypeOf, getOwnPropertyDescriptor, setPrototypeOf } = Reflect;

// What a Worker does all day. No test looks at anything in here: hooks are set.
async function aDay(request) {
  const out = [];
  const headers = new Headers({ "x-a": "1", b: "2" });
  headers.append("b", "3");
  out[out.length] = headers.get("b");
  const url = new URL("http://h/p?q=1#f");
  url.searchParams.append("r", "s t");
  out[out.length] = url.href;
  const first = await fetch("http://origin.test/echo", { method: "POST", body: "sent", headers });
  out[out.length] = first.status;
  out[out.length] = await first.text();
  const second = await fetch(new Request("http://origin.test/stream", { headers: { c: "d" } }));
  const reader = second.body.getReader();
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.byteLength;
  }
  out[out.length] = size;
  const made = new Response(new ReadableStream({
    pull(c) {
      c.enqueue(new TextEncoder().encode("chunk"));
      c.close();
    },
  }), { headers: { "content-type": "text/x" } });
  const copy = made.clone();
  out[out.length] = (await made.text()) + (await copy.arrayBuffer()).byteLength + copy.headers.get("content-type");
  const { readable, writable } = new TransformStream();
  const writer = writable.getWriter();
  const written = writer.write(new Uint8Array(3));
  writer.close();
  out[out.length] = (await new Response(readable).bytes()).length;
  await written;
  const controller = new AbortController();
  let aborted = 0;
  controller.signal.addEventListener("abort", () => aborted++);
  controller.abort();
  out[out.length] = aborted;
  await new Promise((resolve) => setTimeout(resolve, 1));
  out[out.length] = structuredClone({ a: [1, { b: 2 }] }).a[1].b;
  const form = new FormData();
  form.append("k", "v");
  out[out.length] = (await new Response(form).formData()).get("k");
  out[out.length] = await new Blob(["a", "b"]).text();
  out[out.length] = (await crypto.subtle.digest("SHA-256", new Uint8Array(1))).byteLength;
  queueMicrotask(() => out[out.length] = "micro");
  await null;
  await null;
  console.log("line", { a: [1] });
  out[out.length] = request.headers.get("x-none");
  return out;
}

const EXPECTED = ["2, 3", "http://h/p?q=1&r=s+t#f", 200, "POST sent", 60000, "chunk5text/x", 3, 1, 2, "v", "ab", 32, "micro", null];

// Objects that only the runtime has: without a prototype, or of a class that the global object does not show.
function isInternal(value) {
  if (typeof value === "function") return Function.prototype.toString.call(value).includes("lib.");
  if (typeof value !== "object" || value === null) return false;
  const proto = Object.getPrototypeOf(value);
  if (proto === null) return true;
  const { name } = proto.constructor ?? {};
  const known = ["Object", "Array", "Promise", "Uint8Array", "ArrayBuffer", "Function", "String", "Number"];
  return !known.includes(name) && globalThis[name]?.prototype !== proto;
}

const { then } = Promise.prototype;

// A day with hooks in place; gives what came of it, "no end" if nothing did. Waits without a promise, which hooks may spoil.
function hooked(set, request) {
  return new Promise((resolve) => {
    const undo = [];
    let over = false;
    const finish = (result) => {
      if (over) return;
      over = true;
      for (let i = undo.length - 1; i >= 0; i--) undo[i]();
      resolve(result);
    };
    setTimeout(() => finish("no end"), 500);
    set((target, key, desc) => {
      const before = getOwnPropertyDescriptor(target, key);
      if (before !== undefined) setPrototypeOf(before, null);
      undo[undo.length] = () => before === undefined ? deleteProperty(target, key) : defineProperty(target, key, before);
      defineProperty(target, key, { __proto__: null, configurable: true, ...desc });
    });
    try {
      apply(then, aDay(request), [finish, finish]);
    } catch (error) {
      finish(error);
    }
  });
}

test("nothing is hooked", async (request) => {
  eq(await aDay(request), EXPECTED);
});

test("setters of Object.prototype", async (request) => {
  ok(NAMES.length > 300, `${NAMES.length} names`);
  const calls = [];
  const hooks = (replace) => {
    for (let i = 0; i < NAMES.length; i++) {
      const name = NAMES[i];
      if (name in {}) continue;
      replace(Object.prototype, name, { get: () => undefined, set(value) { calls[calls.length] = [name, this, value]; } });
    }
  };
  eq(await hooked(hooks, request), EXPECTED);
  eq(calls.map(([name]) => name), []);
});

test("indices of Array.prototype and Object.prototype", async (request) => {
  for (const target of [Array.prototype, Object.prototype]) {
    const calls = [];
    const hooks = (replace) => {
      for (let i = 0; i < 8; i++) {
        replace(target, i, {
          get: () => undefined,
          set(value) {
            calls[calls.length + 100] = value;
            calls.count = (calls.count ?? 0) + 1;
            // The program's own arrays go on as if nothing were there.
            defineProperty(this, i, { __proto__: null, value, writable: true, enumerable: true, configurable: true });
          },
        });
      }
    };
    eq(await hooked(hooks, request), EXPECTED);
    const leaked = Object.keys(calls).filter((key) => key !== "count").map((key) => calls[key]).filter(isInternal);
    eq(leaked.length, 0, `internal objects: ${leaked.map((it) => Object.keys(it))}`);
  }
});

test("Object.prototype.then", async (request) => {
  const seen = [];
  const hooks = (replace) => replace(Object.prototype, "then", { get() { seen[seen.length] = this; } });
  eq(await hooked(hooks, request), EXPECTED);
  const leaked = seen.filter(isInternal);
  eq(leaked.length, 0, `internal objects: ${leaked.map((it) => Object.keys(it))}`);
});

test("constructor and species of promises", async (request) => {
  const promises = [];
  const values = [];
  class Evil extends Promise {
    constructor(run) {
      super((resolve, reject) => run((value) => {
        values[values.length] = value;
        resolve(value);
      }, reject));
    }
  }
  const ways = [
    (replace) => replace(Promise.prototype, "constructor", { get() { promises[promises.length] = this; return Promise; } }),
    (replace) => replace(Promise, Symbol.species, { get: () => Evil }),
    (replace) => replace(Promise.prototype, "constructor", { value: { [Symbol.species]: Evil } }),
    (replace) => replace(Promise.prototype, "then", { value() { promises[promises.length] = this; return new Promise(() => {}); } }),
    (replace) => replace(Promise.prototype, "constructor", { get() { throw new Error("asked for the constructor"); } }),
    (replace) => replace(Promise, Symbol.species, { get() { throw new Error("asked for the species"); } }),
    (replace) => replace(Promise.prototype, "constructor", { value: 5 }),
  ];
  for (let i = 0; i < ways.length; i++) {
    const result = await hooked(ways[i], request);
    // The program's own `await` asks too, and fails with what the last three give it.
    if (i < 4) eq(result, EXPECTED, `way ${i}`);
  }
  ok(promises.length > 0);
  for (const promise of promises) values.push(await Promise.race([promise, sleep(0)]).catch((error) => error));
  const leaked = values.filter(isInternal);
  eq(leaked.length, 0, `internal values: ${leaked.map((it) => Object.keys(it))}`);
});

test("methods of the Web API's prototypes", async (request) => {
  const classes = [
    "Headers", "Request", "Response", "ReadableStreamDefaultController", "ReadableByteStreamController", "ReadableStreamBYOBRequest",
    "WritableStream", "WritableStreamDefaultController", "TransformStreamDefaultController", "TransformStream", "ReadableStream",
    "ReadableStreamDefaultReader", "ReadableStreamBYOBReader", "WritableStreamDefaultWriter",
    "AbortSignal", "AbortController", "Event", "EventTarget", "URL", "URLSearchParams", "TextEncoder", "TextDecoder", "Blob", "File", "FormData", "DOMException",
    "CountQueuingStrategy", "ByteLengthQueuingStrategy",
  ];
  const undo = [];
  const thrower = () => {
    throw new Error("a patched method ran");
  };
  const headers = new Headers({ a: "b" });
  const request2 = new Request("http://origin.test/stream", { headers, signal: new AbortController().signal });
  const stream = new ReadableStream({ start(c) { c.enqueue(new TextEncoder().encode("left")); c.close(); } });
  const response = new Response(stream, { headers });
  const text = Response.prototype.text;
  const { pipeThrough } = ReadableStream.prototype;
  const transform = new TransformStream();
  const ends = { readable: transform.readable, writable: transform.writable };
  const other = new ReadableStream({ start(c) { c.enqueue(new Uint8Array(4)); c.close(); } });
  for (const name of classes) {
    ok(typeof globalThis[name] === "function", name);
    for (const key of ownKeys(globalThis[name].prototype)) {
      const desc = getOwnPropertyDescriptor(globalThis[name].prototype, key);
      if (key === "constructor" || !desc.configurable || (typeof desc.value !== "function" && desc.get === undefined)) continue;
      undo.push([globalThis[name].prototype, key, desc]);
      defineProperty(globalThis[name].prototype, key, typeof desc.value === "function" ? { ...desc, value: thrower } : { ...desc, get: thrower });
    }
  }
  let results;
  let failed;
  try {
    const fetched = await fetch(request2);
    const piped = Reflect.apply(pipeThrough, other, [ends]);
    results = [
      await Reflect.apply(text, response, []),
      (await Reflect.apply(text, fetched, [])).length,
      (await Reflect.apply(text, new Response(piped), [])).length,
    ];
  } catch (error) {
    failed = error;
  }
  for (const [target, key, desc] of undo) defineProperty(target, key, desc);
  if (failed !== undefined) throw failed;
  ok(undo.length > 150, `${undo.length} are patched`);
  eq(results, ["left", 60000, 4]);
});

// The answer itself goes out with hooks in place: see `a_worker_that_hooks_everything_answers` in `webapi.rs`.
