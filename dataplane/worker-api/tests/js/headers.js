// Headers (Fetch §5.1).

test("names and values are normalised", () => {
  const h = new Headers();
  h.append("X-Test", "  a b\t");
  eq(h.get("x-test"), "a b");
  eq(h.get("X-TEST"), "a b");
  h.append("x-test", "c");
  eq(h.get("x-test"), "a b, c");
  h.set("X-Test", "d");
  eq(h.get("x-test"), "d");
  ok(h.has("x-test"));
  h.delete("X-TEST");
  eq(h.get("x-test"), null);
  ok(!h.has("x-test"));
  h.set("empty", "");
  eq(h.get("empty"), "");
  h.set("n", 5);
  eq(h.get("n"), "5");
});

test("bad names and values throw TypeError", () => {
  const h = new Headers();
  for (const name of ["", " ", "a b", "a:b", "é", "a\n", "(", "a/b", "a\u0100"]) {
    throws(() => h.append(name, "x"), TypeError, `append ${name}`);
    throws(() => h.set(name, "x"), TypeError, `set ${name}`);
    throws(() => h.get(name), TypeError, `get ${name}`);
    throws(() => h.has(name), TypeError, `has ${name}`);
    throws(() => h.delete(name), TypeError, `delete ${name}`);
  }
  for (const value of ["a\nb", "a\rb", "a\0b", "\u0100"]) throws(() => h.append("x", value), TypeError, `value ${JSON.stringify(value)}`);
  h.set("x", "\xff");
  eq(h.get("x"), "\xff");
  h.set("y", "\r\n a \r\n");
  eq(h.get("y"), "a");
  throws(() => h.append("x"), TypeError);
  throws(() => h.append(Symbol(), "x"), TypeError);
});

test("construction", () => {
  eq([...new Headers([["b", "1"], ["A", "2"]])], [["a", "2"], ["b", "1"]]);
  eq([...new Headers({ b: "1", A: "2" })], [["a", "2"], ["b", "1"]]);
  eq([...new Headers(new Headers({ a: "1" }))], [["a", "1"]]);
  eq([...new Headers(new Map([["a", "1"]]))], [["a", "1"]]);
  eq([...new Headers()], []);
  eq([...new Headers(undefined)], []);
  eq([...new Headers({ __proto__: { inherited: "1" }, own: "2" })], [["own", "2"]]);
  throws(() => new Headers(null), TypeError);
  throws(() => new Headers("a"), TypeError);
  throws(() => new Headers(5), TypeError);
  throws(() => new Headers([["a"]]), TypeError);
  throws(() => new Headers([["a", "b", "c"]]), TypeError);
  throws(() => new Headers(["ab", 1]), TypeError);
  throws(() => Headers(), TypeError);
  function* pairs() {
    yield ["x", "1"];
    yield ["x", "2"];
  }
  eq(new Headers(pairs()).get("x"), "1, 2");
});

test("iteration is sorted and combined, set-cookie apart", () => {
  const h = new Headers([["Set-Cookie", "a=1"], ["b", "1"], ["set-cookie", "b=2"], ["B", "2"], ["a", "0"]]);
  eq([...h], [["a", "0"], ["b", "1, 2"], ["set-cookie", "a=1"], ["set-cookie", "b=2"]]);
  eq([...h.keys()], ["a", "b", "set-cookie", "set-cookie"]);
  eq([...h.values()], ["0", "1, 2", "a=1", "b=2"]);
  eq(h.getSetCookie(), ["a=1", "b=2"]);
  eq(new Headers().getSetCookie(), []);
  eq(h.get("set-cookie"), "a=1, b=2");
  eq(h.getAll("Set-Cookie"), ["a=1", "b=2"]);
  throws(() => h.getAll("b"), TypeError);
  const seen = [];
  h.forEach(function (value, name, whole) {
    seen.push([name, value, whole === h, this.tag]);
  }, { tag: 1 });
  eq(seen[0], ["a", "0", true, 1]);
  eq(seen.length, 4);
});

test("iterators are live", () => {
  const h = new Headers([["a", "1"], ["b", "2"]]);
  const it = h.entries();
  eq(it.next(), { value: ["a", "1"], done: false });
  h.delete("b");
  h.set("c", "3");
  eq(it.next(), { value: ["c", "3"], done: false });
  eq(it.next(), { value: undefined, done: true });
  eq(Object.prototype.toString.call(it), "[object Headers Iterator]");
  throws(() => it.next.call({}), TypeError);
});

test("immutable headers", async (request) => {
  throws(() => request.headers.set("a", "b"), TypeError);
  throws(() => request.headers.append("a", "b"), TypeError);
  throws(() => request.headers.delete("a"), TypeError);
  throws(() => Response.redirect("http://x/").headers.set("a", "b"), TypeError);
  throws(() => Response.error().headers.append("a", "b"), TypeError);
  const copy = new Headers(request.headers);
  copy.set("a", "b");
  eq(copy.get("a"), "b");
});

test("interface", () => {
  eq(Object.prototype.toString.call(new Headers()), "[object Headers]");
  eq(Headers.length, 0);
  eq(Headers.prototype.append.length, 2);
  eq(Headers.prototype[Symbol.iterator], Headers.prototype.entries);
  throws(() => Headers.prototype.get.call({}, "a"), TypeError);
  throws(() => Headers.prototype.get.call(new Map(), "a"), TypeError);
  ok(Object.getOwnPropertyDescriptor(Headers.prototype, "get").enumerable);
  ok(!Object.getOwnPropertyDescriptor(globalThis, "Headers").enumerable);
});

test("a patched prototype of a program does not reach the runtime", () => {
  const push = Array.prototype.push;
  const iterator = Array.prototype[Symbol.iterator];
  const lower = String.prototype.toLowerCase;
  Array.prototype.push = () => {
    throw new Error("patched");
  };
  Array.prototype[Symbol.iterator] = () => {
    throw new Error("patched");
  };
  String.prototype.toLowerCase = () => "patched";
  let got;
  try {
    const h = new Headers({ "X-Unusual": "1" });
    h.append("Y-Unusual", "2");
    got = `${h.get("x-unusual")}${h.get("y-unusual")}${new URL("http://a/?b=1").searchParams.get("b")}`;
  } finally {
    Array.prototype.push = push;
    Array.prototype[Symbol.iterator] = iterator;
    String.prototype.toLowerCase = lower;
  }
  eq(got, "121");
});

test("a record's properties are taken as Web IDL says", () => {
  const log = [];
  const note = (name) => (...args) => {
    log.push(`${name} ${String(args[1] ?? "")}`.trim());
    return Reflect[name](...args);
  };
  const handler = { get: note("get"), ownKeys: note("ownKeys"), getOwnPropertyDescriptor: note("getOwnPropertyDescriptor") };
  const source = Object.defineProperty({ a: "1", c: "2" }, "hidden", { value: "no", enumerable: false });
  eq([...new Headers(new Proxy(source, handler))], [["a", "1"], ["c", "2"]]);
  eq(log, [
    "get Symbol(Symbol.iterator)", "ownKeys", "getOwnPropertyDescriptor a", "get a", "getOwnPropertyDescriptor c", "get c",
    "getOwnPropertyDescriptor hidden",
  ]);
  throws(() => new Headers({ [Symbol("s")]: "1" }), TypeError);
  throws(() => new Headers({ a: Symbol("s") }), TypeError);
  throws(() => new Headers({ "\u0100": "1" }), TypeError);
  throws(() => new Headers({ a: "\u0100" }), TypeError);
  eq([...new Headers(Object.defineProperty({}, Symbol("s"), { value: 1, enumerable: false }))], []);
});
