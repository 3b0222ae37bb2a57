// Request, Response, Blob, File, FormData and bodies (Fetch §5, File API, XHR §4).

const stream = (...chunks) =>
  new ReadableStream({
    start(c) {
      for (const chunk of chunks) c.enqueue(typeof chunk === "string" ? utf8(chunk) : chunk);
      c.close();
    },
  });

test("Response construction", () => {
  const r = new Response();
  eq([r.status, r.statusText, r.ok, r.type, r.url, r.redirected, r.body, r.bodyUsed], [200, "", true, "default", "", false, null, false]);
  eq([...new Response("x").headers], [["content-type", "text/plain;charset=UTF-8"]]);
  eq([...new Response("x", { headers: { "Content-Type": "a/b" } }).headers], [["content-type", "a/b"]]);
  eq([...new Response("x", { headers: { a: "b" } }).headers], [["a", "b"], ["content-type", "text/plain;charset=UTF-8"]]);
  eq([...new Response(bytes(1)).headers], []);
  eq(new Response(new URLSearchParams("a=1")).headers.get("content-type"), "application/x-www-form-urlencoded;charset=UTF-8");
  eq(new Response(new Blob([], { type: "x/y" })).headers.get("content-type"), "x/y");
  ok(new Response(new FormData()).headers.get("content-type").startsWith("multipart/form-data; boundary="));
  eq(new Response(null, { status: 404, statusText: "Gone fishing" }).statusText, "Gone fishing");
  eq(new Response("", { status: 299 }).ok, true);
  eq(new Response("", { status: 300 }).ok, false);
  for (const status of [199, 600, 0, 101, 70000, -1]) throws(() => new Response("", { status }), RangeError, status);
  for (const status of [204, 205, 304]) {
    throws(() => new Response("", { status }), TypeError, status);
    eq(new Response(null, { status }).status, status);
  }
  throws(() => new Response("", { statusText: "a\nb" }), TypeError);
  throws(() => new Response("", { statusText: "€" }), TypeError);
  throws(() => new Response("", { headers: { "a b": "" } }), TypeError);
  throws(() => new Response("", 5), TypeError);
  eq(new Response("", undefined).status, 200);
  eq(new Response(undefined).body, null);
  eq(new Response("b", new Response("a", { status: 201, headers: { x: "y" } })).headers.get("x"), "y");
});

test("Response statics", async () => {
  const j = Response.json({ a: [1, "ü"] }, { status: 201, headers: { x: "y" } });
  eq([j.status, j.headers.get("content-type"), j.headers.get("x"), await j.text()], [201, "application/json", "y", '{"a":[1,"ü"]}']);
  eq(Response.json(1, { headers: { "content-type": "a/b" } }).headers.get("content-type"), "a/b");
  throws(() => Response.json(undefined), TypeError);
  throws(() => Response.json(Symbol()), TypeError);
  throws(() => Response.json(() => {}), TypeError);
  throws(() => Response.json(1n), TypeError);
  throws(() => Response.json({}, { status: 204 }), TypeError);
  const e = Response.error();
  eq([e.type, e.status, e.ok, e.body], ["error", 0, false, null]);
  const d = Response.redirect("http://a/b c", 307);
  eq([d.status, d.headers.get("location")], [307, "http://a/b%20c"]);
  eq(Response.redirect("http://a/").status, 302);
  throws(() => Response.redirect("http://a/", 200), RangeError);
  throws(() => Response.redirect("nonsense"), TypeError);
});

test("bodies are read once", async () => {
  const r = new Response("text");
  ok(!r.bodyUsed);
  eq(await r.text(), "text");
  ok(r.bodyUsed);
  await rejects(r.text(), TypeError);
  await rejects(r.arrayBuffer(), TypeError);
  throws(() => r.clone(), TypeError);
  const n = new Response(null);
  eq(await n.text(), "");
  eq(await n.text(), "");
  ok(!n.bodyUsed);
  const l = new Response("x");
  const reader = l.body.getReader();
  await rejects(l.text(), TypeError);
  reader.releaseLock();
  eq(await l.text(), "x");
  await rejects(Response.prototype.text.call({}), TypeError);
  const p = new Response("x");
  const both = [p.text(), p.text()];
  eq(await both[0], "x");
  await rejects(both[1], TypeError);
});

test("body methods", async () => {
  const make = [() => "aé€", () => utf8("aé€"), () => utf8("aé€").buffer, () => new Blob(["aé€"]), () => stream("aé", "€"), () => new DataView(utf8("aé€").buffer)];
  for (const body of make) {
    eq(await new Response(body()).text(), "aé€");
    eq(new Uint8Array(await new Response(body()).arrayBuffer()), utf8("aé€"));
    eq(await new Response(body()).bytes(), utf8("aé€"));
    const blob = await new Response(body(), { headers: { "content-type": "Text/Plain; Charset=x" } }).blob();
    eq([blob.size, blob.type, await blob.text()], [6, "text/plain;charset=x", "aé€"]);
    eq((await readAll(new Response(body()).body)).reduce((n, c) => n + c.length, 0), 6);
  }
  eq(await new Response('{"a":[1,null]}').json(), { a: [1, null] });
  await rejects(new Response("{").json(), SyntaxError);
  await rejects(new Response("").json(), SyntaxError);
  await rejects(new Response(null).json(), SyntaxError);
  eq(await new Response("\ufeffx").text(), "x");
  eq(await new Response(bytes(0xef, 0xbb, 0xbf, 120)).text(), "x");
  eq(await new Response("\ufeff{}").json(), {});
  eq(await new Response("\ud800").text(), "\ufffd");
  eq(await new Response(bytes(0xff)).text(), "\ufffd");
  eq(await new Response(5).text(), "5");
  eq(await new Response({ toString: () => "obj" }).text(), "obj");
});

test("a body's bytes are its own", async () => {
  const b = bytes(1, 2, 3);
  const r = new Response(b);
  b[0] = 9;
  const got = await r.bytes();
  eq(got, bytes(1, 2, 3));
  const first = new Response("abc");
  const second = first.clone();
  const one = await first.bytes();
  one[0] = 0;
  eq(await second.text(), "abc");
  const shared = new Blob([bytes(1, 2)]);
  (await new Response(shared).bytes())[0] = 7;
  eq(await shared.bytes(), bytes(1, 2));
});

test("streams as bodies", async () => {
  const s = stream("ab");
  const r = new Response(s);
  eq(r.body, s);
  eq(await r.text(), "ab");
  throws(() => new Response(s), TypeError);
  const locked = stream("x");
  locked.getReader();
  throws(() => new Response(locked), TypeError);
  const strings = new ReadableStream({
    start(c) {
      c.enqueue("not bytes");
      c.close();
    },
  });
  await rejects(new Response(strings).text(), TypeError);
  const broken = new ReadableStream({
    pull() {
      throw new RangeError("broken");
    },
  });
  await rejects(new Response(broken).text(), RangeError);
  const part = new Response(stream("a", "b"));
  const reader = part.body.getReader();
  await reader.read();
  ok(part.bodyUsed);
  reader.releaseLock();
  await rejects(part.text(), TypeError);
});

test("clone", async () => {
  for (const body of ["text", utf8("text"), stream("te", "xt"), new Blob(["text"])]) {
    const r = new Response(body, { status: 202, headers: { a: "b" } });
    const c = r.clone();
    eq([c.status, c.headers.get("a")], [202, "b"]);
    c.headers.set("a", "c");
    eq(r.headers.get("a"), "b");
    eq(await Promise.all([r.text(), c.text()]), ["text", "text"]);
  }
  const touched = new Response("abc");
  const s = touched.body;
  const c = touched.clone();
  ok(s.locked);
  eq(await Promise.all([touched.text(), c.text()]), ["abc", "abc"]);
  const q = new Request("http://x/", { method: "POST", body: "q" });
  const q2 = q.clone();
  eq([await q.text(), await q2.text(), q2.method, q2.url], ["q", "q", "POST", "http://x/"]);
});

test("Request construction", async () => {
  const r = new Request("http://EXAMPLE.com/a b#f", { method: "post", headers: { A: "b" }, body: "x" });
  eq([r.url, r.method, r.headers.get("a"), r.headers.get("content-type")], ["http://example.com/a%20b#f", "POST", "b", "text/plain;charset=UTF-8"]);
  eq([r.redirect, r.mode, r.credentials, r.cache, r.destination, r.duplex], ["follow", "cors", "same-origin", "default", "", "half"]);
  ok(r.signal instanceof AbortSignal);
  eq(new Request(new URL("http://u/")).url, "http://u/");
  eq(new Request("http://x/", { method: "patch" }).method, "patch");
  for (const method of ["get", "Head", "DELETE", "options", "put"]) eq(new Request("http://x/", { method }).method, method.toUpperCase());
  for (const url of ["", "/relative", "nonsense", "http://u:p@h/", "http://u@h/"]) throws(() => new Request(url), TypeError, url);
  for (const method of ["", "a b", "CONNECT", "trace", "TRACK", "é"]) throws(() => new Request("http://x/", { method }), TypeError, method);
  throws(() => new Request("http://x/", { body: "x" }), TypeError);
  throws(() => new Request("http://x/", { method: "HEAD", body: "" }), TypeError);
  throws(() => new Request("http://x/", { redirect: "nonsense" }), TypeError);
  throws(() => new Request("http://x/", { mode: "navigate" }), TypeError);
  throws(() => new Request("http://x/", { signal: {} }), TypeError);
  throws(() => new Request("http://x/", { duplex: "full" }), TypeError);
  throws(() => new Request(), TypeError);
  eq(new Request("http://x/", { cf: { a: 1 } }).cf, { a: 1 });
  eq(new Request("http://x/", { redirect: "manual", cache: "no-store" }).redirect, "manual");
  eq(new Request("http://x/").body, null);
});

test("Request from Request", async () => {
  const first = new Request("http://x/", { method: "POST", body: "abc", headers: { a: "1" } });
  const second = new Request(first);
  ok(first.bodyUsed);
  eq([second.method, second.headers.get("a"), await second.text()], ["POST", "1", "abc"]);
  throws(() => new Request(first), TypeError);
  const third = new Request(new Request("http://x/", { method: "PUT", body: "old" }), { body: "new", headers: { b: "2" } });
  eq([await third.text(), third.headers.get("a"), third.headers.get("b")], ["new", null, "2"]);
  const s = new Request("http://x/", { method: "POST", body: stream("s1", "s2"), duplex: "half" });
  const moved = new Request(s);
  ok(s.bodyUsed && s.body.locked);
  eq(await moved.text(), "s1s2");
  throws(() => new Request(new Request("http://x/", { method: "POST", body: "b" }), { method: "GET" }), TypeError);
  const c = new AbortController();
  const base = new Request("http://x/", { signal: c.signal });
  const derived = new Request(base);
  c.abort("gone");
  eq([base.signal.aborted, base.signal.reason, derived.signal.aborted], [true, "gone", true]);
  ok(!new Request(base, { signal: null }).signal.aborted);
});

test("the incoming request", async (request) => {
  eq([request.method, request.url], ["GET", "http://suite.test/path?query"]);
  eq(request.body, null);
  ok(request instanceof Request);
  ok(!request.signal.aborted);
  eq(request.signal, request.signal);
  eq(request.headers, request.headers);
  const place = { colo: "LOCAL", country: "XX", city: "", asn: 0, httpProtocol: "HTTP/1.1", tlsVersion: "", tlsCipher: "" };
  eq([request.cf, request.clone().cf, new Request(request).cf, new Request("http://x/", request).cf], [place, place, place, place]);
  eq(request.cf === request.cf, true);
  eq([new Request(request, { cf: { colo: "X" } }).cf, new Request("http://x/").cf, new Request("http://x/", { cf: { a: 1 } }).clone().cf], [{ colo: "X" }, undefined, { a: 1 }]);
  const copy = new Request(request, { headers: { x: "y" } });
  eq([copy.url, copy.headers.get("x")], [request.url, "y"]);
  const other = new Request("http://other/", request);
  eq([other.url, other.method], ["http://other/", "GET"]);
});

test("Blob", async () => {
  const b = new Blob(["a", bytes(98), new Blob(["c"]), bytes(100).buffer], { type: "Text/PLAIN" });
  eq([b.size, b.type, await b.text()], [4, "text/plain", "abcd"]);
  eq(await b.slice(1, 3).text(), "bc");
  eq(await b.slice(-2).text(), "cd");
  eq(await b.slice(-100, -1, "X/y").text(), "abc");
  eq(b.slice(0, 1, "X/y").type, "x/y");
  eq(await b.slice(3, 1).text(), "");
  eq(new Blob([], { type: "é" }).type, "");
  eq(await new Blob(["a\r\nb\nc\r"], { endings: "native" }).text(), "a\nb\nc\n");
  eq(new Uint8Array(await b.arrayBuffer()), utf8("abcd"));
  eq((await readAll(b.stream())).length, 1);
  eq((await readAll(new Blob(["x".repeat(200000)]).stream())).reduce((n, c) => n + c.length, 0), 200000);
  eq(await readAll(new Blob([]).stream()), []);
  eq(await new Blob([5, null]).text(), "5null");
  throws(() => new Blob("abc"), TypeError);
  throws(() => new Blob([], { endings: "x" }), TypeError);
  const f = new File(["x"], "n.txt", { type: "a/b", lastModified: 5 });
  eq([f.name, f.lastModified, f.size, f.type, f instanceof Blob], ["n.txt", 5, 1, "a/b", true]);
  throws(() => new File(["x"]), TypeError);
  eq(Object.prototype.toString.call(f), "[object File]");
  ok(new File([], "n").lastModified > 0);
});

test("FormData", async () => {
  const f = new FormData();
  f.append("a", "1");
  f.append("a", 2);
  f.append("b", new Blob(["x"], { type: "t/x" }));
  f.append("c", new Blob(["y"]), "named.txt");
  eq(f.getAll("a"), ["1", "2"]);
  eq([f.get("b").name, f.get("b").type, f.get("c").name], ["blob", "t/x", "named.txt"]);
  ok(f.get("b") instanceof File);
  f.set("a", "3");
  eq([...f.keys()], ["a", "b", "c"]);
  ok(f.has("a"));
  f.delete("a");
  eq(f.get("a"), null);
  throws(() => f.append("a", "b", "c"), TypeError);
  throws(() => f.append("a"), TypeError);
  throws(() => new FormData({}), TypeError);
});

test("multipart round trip", async () => {
  const f = new FormData();
  f.append('na"me\r\n', "line\nbreak");
  f.append("file", new File([bytes(0, 13, 10, 45, 45, 255)], 'a"b.bin', { type: "x/y" }));
  f.append("empty", "");
  f.append("ünï", "cödé");
  const back = await new Response(f).formData();
  eq([...back.keys()], ['na"me\r\n', "file", "empty", "ünï"]);
  eq(back.get('na"me\r\n'), "line\r\nbreak");
  eq([back.get("file").name, back.get("file").type], ['a"b.bin', "x/y"]);
  eq(await back.get("file").bytes(), bytes(0, 13, 10, 45, 45, 255));
  eq(back.get("empty"), "");
  eq(back.get("ünï"), "cödé");
  eq([...(await new Response(new FormData()).formData())], []);
});

test("multipart from others", async () => {
  const parse = (text, boundary = "B") => new Response(text, { headers: { "content-type": `multipart/form-data; boundary=${boundary}` } }).formData();
  eq([...(await parse('--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--B--\r\n'))], [["a", "1"]]);
  eq([...(await parse('preamble\r\n--B  \r\ncontent-disposition: form-data; name=a\r\n\r\n1\r\n--B--'))], [["a", "1"]]);
  eq([...(await parse('--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n--B--\r\n'))], [["a", ""]]);
  eq((await parse('--x y\r\nContent-Disposition: form-data; name="f"; filename=""\r\nContent-Type: a/b\r\n\r\nz\r\n--x y--', '"x y"')).get("f").name, "");
  eq([...(await parse("--B--\r\n"))], []);
  for (const bad of ["", "nothing", "--B", "--B\r\n", "--B\r\n\r\nx\r\n--B--", '--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n1', '--B\r\nContent-Disposition: attachment; name="a"\r\n\r\n1\r\n--B--', "--B\r\nno colon\r\n\r\n1\r\n--B--"]) {
    await rejects(parse(bad), TypeError, JSON.stringify(bad));
  }
  await rejects(new Response("x", { headers: { "content-type": "multipart/form-data" } }).formData(), TypeError);
});

test("urlencoded forms", async () => {
  const f = await new Response(new URLSearchParams([["a", "1 2"], ["ä", "&"]])).formData();
  eq([...f], [["a", "1 2"], ["ä", "&"]]);
  eq([...(await new Response("a=b", { headers: { "content-type": "application/x-www-form-urlencoded" } }).formData())], [["a", "b"]]);
  await rejects(new Response("a=b").formData(), TypeError);
  await rejects(new Response(null).formData(), TypeError);
});

test("interfaces", () => {
  eq(Object.prototype.toString.call(new Response()), "[object Response]");
  eq(Object.prototype.toString.call(new Request("http://x/")), "[object Request]");
  eq([Request.length, Response.length, Blob.length, FormData.length], [1, 0, 0, 0]);
  eq([Response.name, Response.json.name, Response.prototype.text.length], ["Response", "json", 0]);
  throws(() => Object.getOwnPropertyDescriptor(Response.prototype, "status").get.call({}), TypeError);
  class Mine extends Response {}
  ok(new Mine("x") instanceof Response);
  eq(new Mine("x", { status: 201 }).status, 201);
});

test("a blob has the message's MIME type", async () => {
  const types = [
    ["Text/HTML;Charset=GBK", "text/html;charset=GBK"],
    [" text/html ;charset=gbk", "text/html;charset=gbk"],
    ["text/html;charset =gbk", "text/html"],
    ["text/html;charset= gbk", 'text/html;charset=" gbk"'],
    ['text/html;charset="\\g\\b\\k"x;y=1', "text/html;charset=gbk;y=1"],
    ['text/html;charset="gbk', "text/html;charset=gbk"],
    ['text/html;charset="";charset=GBK', 'text/html;charset=""'],
    ["text/html;x=;;y;z=1;Z=2", "text/html;z=1"],
    ["x/x;a=\u00e4", 'x/x;a="\u00e4"'],
    ["x/x;\u00e4=b;c=d", "x/x;c=d"],
    ["text", ""],
    ["text/", ""],
    ["/html", ""],
    ["text /html", ""],
    ["text/ html", ""],
    ["t/h t", ""],
    ["", ""],
    ["text/plain;charset=utf-8, text/html", "text/html"],
    ["text/html;charset=gbk, text/html;a=b", "text/html;a=b;charset=gbk"],
    ["text/html;charset=gbk, */*", "text/html;charset=gbk"],
    ['text/html;a="b,c", no type', 'text/html;a="b,c"'],
  ];
  for (const [value, type] of types) {
    eq((await new Response("", { headers: { "content-type": value } }).blob()).type, type, value);
    eq((await new Request("http://x/", { headers: { "content-type": value } }).blob()).type, type, value);
  }
});

test("data: URLs are fetched without the network", async () => {
  const check = async (url, type, text, init) => {
    const response = await fetch(url, init);
    eq([response.status, response.statusText, response.type, response.headers.get("content-type")], [200, "OK", "basic", type], url);
    eq(await response.text(), text, url);
  };
  await check("data:,a%20b#c", "text/plain;charset=US-ASCII", "a b");
  await check("data:,%zz%4", "text/plain;charset=US-ASCII", "%zz%4");
  await check("data:;charset=utf-8,%C3%A4", "text/plain;charset=utf-8", "\u00e4");
  await check("data:text/html,<p>", "text/html", "<p>");
  await check("data:text/plain; Base64 ,YSBi", "text/plain", "a b");
  await check("data:x;base64,YQ%3D%3D", "text/plain;charset=US-ASCII", "a");
  await check("data:text/plain,x", "text/plain", "x", { method: "POST", body: "y" });
  await check("data:text/plain,x", "text/plain", "", { method: "HEAD" });
  eq((await (await fetch("data:application/octet-stream;base64,/wCA")).bytes()).join(), "255,0,128");
  for (const url of ["data:nothing", "data:;base64,a", "data:;base64,a*"]) await rejects(fetch(url), TypeError, url);
  const reason = new Error("enough");
  await rejects(fetch("data:,a", { signal: AbortSignal.abort(reason) }), reason);
});

test("a body's bytes are shown to no `then` of the program's", async () => {
  for (const injected of [{ done: false, value: utf8("bye") }, undefined, 8.2]) {
    const stream = new ReadableStream({
      start(c) {
        c.enqueue(utf8("hello"));
        c.close();
      },
    });
    const response = new Response(stream);
    let asked = 0;
    Object.prototype.then = (fulfilled) => {
      asked++;
      delete Object.prototype.then;
      fulfilled(injected);
    };
    try {
      eq(await response.text(), "hello");
    } finally {
      delete Object.prototype.then;
    }
    eq(asked, 0);
  }
});
