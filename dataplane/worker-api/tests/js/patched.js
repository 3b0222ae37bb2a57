// A program that overwrites the built-ins harms itself and not the runtime: with every method of every built-in
// prototype replaced by one that throws, the Web APIs still do their work.

const { getOwnPropertyDescriptor, defineProperty, ownKeys, getPrototypeOf } = Reflect;

function patchAll() {
  const undo = [];
  let patched = 0;
  const thrower = () => {
    throw new Error("a patched built-in ran");
  };
  const typed = getPrototypeOf(Uint8Array);
  const generators = [function* () {}, async function* () {}].map((g) => getPrototypeOf(getPrototypeOf(g.prototype)));
  const targets = [
    Array.prototype, getPrototypeOf([][Symbol.iterator]()), getPrototypeOf(getPrototypeOf([][Symbol.iterator]())), Map.prototype, Set.prototype,
    getPrototypeOf(new Map().entries()), WeakMap.prototype, WeakRef.prototype, String.prototype, Number.prototype, RegExp.prototype,
    Promise.prototype, typed.prototype, Uint8Array.prototype, ArrayBuffer.prototype, DataView.prototype, Function.prototype, Date.prototype,
    Object, Reflect, JSON, Array, String, Number, ArrayBuffer, Math, Object.prototype, Symbol.prototype, ...generators,
  ];
  // From the first replacement on, this loop has only what no prototype gives: no `for…of`, no `push`.
  for (let t = 0; t < targets.length; t++) {
    const target = targets[t];
    const keys = ownKeys(target);
    for (let k = 0; k < keys.length; k++) {
      const key = keys[k];
      const desc = getOwnPropertyDescriptor(target, key);
      if (!desc.configurable || key === "constructor" || key === "__proto__") continue;
      // What the language itself calls: replacing these breaks any program's own code.
      if (key === Symbol.species || key === Symbol.hasInstance || key === Symbol.toPrimitive || key === "valueOf" || key === "toString") continue;
      if (typeof desc.value !== "function" && desc.get === undefined) continue;
      undo[undo.length] = [target, key, desc];
      defineProperty(target, key, typeof desc.value === "function" ? { ...desc, value: thrower } : { ...desc, get: thrower });
      patched++;
    }
  }
  return {
    patched,
    restore() {
      for (let i = undo.length - 1; i >= 0; i--) defineProperty(undo[i][0], undo[i][1], undo[i][2]);
    },
  };
}

// Runs `work` with everything patched; what it gives is looked at afterwards. No test code runs in between that needs
// a built-in, and `await` of a native promise needs none.
async function hostile(work) {
  const patch = patchAll();
  let result;
  let failed;
  try {
    result = await work();
  } catch (error) {
    failed = error;
  }
  patch.restore();
  if (failed !== undefined) throw failed;
  ok(patch.patched > 400, `${patch.patched} are patched`);
  return result;
}

test("responses", async () => {
  eq(await hostile(() => new Response("text", { headers: { "X-Odd-Name": "v" } }).text()), "text");
  eq(await hostile(() => Response.json({ a: [1, { b: 2 }] }).json()), { a: [1, { b: 2 }] });
  eq((await hostile(() => new Response(new Uint8Array(3)).arrayBuffer())).byteLength, 3);
  const form = await hostile(() => new Response("a=1&b=%C3%A4+c", { headers: { "content-type": "application/x-www-form-urlencoded" } }).formData());
  eq([...form], [["a", "1"], ["b", "ä c"]]);
  eq(await hostile(() => new Response("x").clone().text()), "x");
  eq(await hostile(() => new Response(new Blob(new FakeIterable("ab")).stream()).text()), "ab");
  const r = await hostile(() => Response.redirect("http://x/y?z"));
  eq(r.headers.get("location"), "http://x/y?z");
});

test("requests and headers", async () => {
  const r = await hostile(() => new Request("http://x/ä?q", { method: "post", body: "b", headers: { A: "1" } }));
  eq([r.url, r.method, r.headers.get("a"), await r.text()], ["http://x/%C3%A4?q", "POST", "1", "b"]);
  const entries = await hostile(() => {
    const h = new Headers();
    h.append("B", "1");
    h.append("a", "2");
    h.append("b", "3");
    return h.entries();
  });
  eq([...entries], [["a", "2"], ["b", "1, 3"]]);
  const multi = await hostile(() => {
    const f = new FormData();
    f.append("n", "v");
    f.append("f", new File(new FakeIterable("x"), "name"));
    return new Response(f).formData();
  });
  eq([multi.get("n"), multi.get("f").name], ["v", "name"]);
});

test("urls and encodings", async () => {
  eq(await hostile(() => {
    const u = new URL("../a?b=c", "http://h:81/x/y");
    u.searchParams.append("d", "e f");
    u.searchParams.sort();
    return u.href;
  }), "http://h:81/a?b=c&d=e+f");
  eq(await hostile(() => new TextDecoder("shift_jis").decode(new TextEncoder().encode("abc"))), "abc");
  eq(await hostile(() => atob(btoa("xyz"))), "xyz");
});

test("streams", async () => {
  const text = await hostile(async () => {
    const s = new ReadableStream({
      start(c) {
        c.enqueue("a");
        c.enqueue("b");
        c.close();
      },
    });
    const t = new TransformStream({
      transform(chunk, c) {
        c.enqueue(`${chunk}!`);
      },
    });
    const r = s.pipeThrough(t).getReader();
    const first = await r.read();
    const second = await r.read();
    const third = await r.read();
    return `${first.value}${second.value}${third.done}`;
  });
  eq(text, "a!b!true");
  const joined = await hostile(async () => {
    const parts = new ReadableStream({
      type: "bytes",
      start(c) {
        c.enqueue(new Uint8Array(2));
        c.enqueue(new Uint8Array(3));
        c.close();
      },
    });
    const both = new Response(parts);
    const copy = both.clone();
    const first = await both.bytes();
    const second = await copy.bytes();
    return [first, second];
  });
  eq(joined.map((b) => b.length), [5, 5]);
});

test("events, clones and the rest", async () => {
  eq(await hostile(() => {
    let seen = "";
    const c = new AbortController();
    const any = AbortSignal.any(new FakeIterable(c.signal));
    any.onabort = () => {
      seen += "on";
    };
    any.addEventListener("abort", () => {
      seen += "listener";
    });
    c.abort("r");
    return `${seen}${any.reason}`;
  }), "onlistenerr");
  const cloned = await hostile(() => structuredClone({ a: 1, deep: { b: new Uint8Array(2) } }));
  eq([cloned.a, cloned.deep.b.length], [1, 2]);
  eq(await hostile(() => {
    console.log({ a: [1, new Map(), new Set(), new Error("e")] }, "%s", 5);
    console.table([{ a: 1 }]);
    return crypto.randomUUID().length;
  }), 36);
  eq(await hostile(async () => {
    let n = 0;
    await new Promise((resolve) => {
      setTimeout(() => {
        n++;
        resolve();
      }, 1);
    });
    return n;
  }), 1);
});

// An iterable that needs no built-in.
class FakeIterable {
  constructor(item) {
    this.item = item;
  }
  [Symbol.iterator]() {
    const { item } = this;
    let done = false;
    return {
      next() {
        const step = { value: done ? undefined : item, done };
        done = true;
        return step;
      },
    };
  }
}

test("setters on Object.prototype are not called", async () => {
  const names = ["value", "done", "state", "stream", "name", "type", "kind", "body", "status", "promise", "chunks", "items", "resolve", "callback"];
  let calls = "";
  for (const name of names) {
    defineProperty(Object.prototype, name, {
      __proto__: null,
      configurable: true,
      get: () => undefined,
      set() {
        calls += `${name} `;
      },
    });
  }
  let text;
  try {
    const r = new Response(new ReadableStream({ start(c) { c.enqueue(new TextEncoder().encode("fine")); c.close(); } }), { __proto__: null });
    text = await r.text();
    new URL("http://a/?b=c").searchParams.append("d", "e");
    new Headers({ __proto__: null, a: "b" }).append("c", "d");
  } finally {
    for (const name of names) delete Object.prototype[name];
  }
  eq([text, calls], ["fine", ""]);
});

// Rare files run for the first time here, when everything is patched.
test("rare files", async () => {
  const key = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const signed = await hostile(async () => {
    const { subtle } = crypto;
    const pair = await subtle.generateKey(key, true, new FakeIterable("sign"));
    const jwk = await subtle.exportKey("jwk", pair.privateKey);
    // An array is read as the program has arrays.
    delete jwk.key_ops;
    const again = await subtle.importKey("jwk", jwk, key, true, new FakeIterable("sign"));
    const signature = await subtle.sign(key, again, new Uint8Array(3));
    return [signature, jwk.kty, await subtle.digest("SHA-1", new Uint8Array(1)), again.usages.length, again.algorithm.name];
  });
  // Lengths are read where nothing is patched.
  eq([signed[0].byteLength, signed[1], signed[2].byteLength, signed[3], signed[4]], [64, "EC", 20, 1, "ECDSA"]);
  const found = await hostile(() => new URLPattern({ pathname: "/:a/(x.*)" }, { ignoreCase: true }).exec("https://h/1/X2").pathname.groups);
  eq(found, { a: "1", 0: "X2" });
  const size = await hostile(async () => {
    const small = new Response(new Uint8Array(100_000)).body.pipeThrough(new CompressionStream("gzip"));
    return await new Response(small.pipeThrough(new DecompressionStream("gzip"))).bytes();
  });
  eq(size.length, 100_000);
  const got = await hostile(async () => {
    const { port1, port2 } = new MessageChannel();
    let resolve;
    const message = new Promise((f) => resolve = f);
    port2.onmessage = (event) => resolve(event.data);
    port1.postMessage({ a: "b" });
    return await message;
  });
  eq(got, { a: "b" });
});
