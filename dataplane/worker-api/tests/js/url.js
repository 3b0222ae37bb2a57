// URL and URLSearchParams (WHATWG URL).

test("parsing", () => {
  const cases = [
    ["http://example.com", undefined, "http://example.com/"],
    ["HTTP://EXAMPLE.com:80/a/../b/./c", undefined, "http://example.com/b/c"],
    ["https://user:pa%20ss@host:8080/p?q#f", undefined, "https://user:pa%20ss@host:8080/p?q#f"],
    ["//x/y", "https://a/b", "https://x/y"],
    ["../c?d", "http://h/a/b/x", "http://h/a/c?d"],
    ["?q", "http://h/a#f", "http://h/a?q"],
    ["#f", "http://h/a?q", "http://h/a?q#f"],
    ["", "http://h/a?q#f", "http://h/a?q"],
    ["http://bücher.de/ä?ö#ü", undefined, "http://xn--bcher-kva.de/%C3%A4?%C3%B6#%C3%BC"],
    ["http://1.2.3", undefined, "http://1.2.0.3/"],
    ["http://0x7f.1/", undefined, "http://127.0.0.1/"],
    ["http://[1:0::0]/", undefined, "http://[1::]/"],
    ["file:///C|/x", undefined, "file:///C:/x"],
    ["mailto:a@b", undefined, "mailto:a@b"],
    ["  http://a/ \t\n", undefined, "http://a/"],
    ["http://a\\b", undefined, "http://a/b"],
    ["http://h/%zz%41", undefined, "http://h/%zz%41"],
    ["data:text/plain,ä", undefined, "data:text/plain,%C3%A4"],
    ["http://h/\ud800", undefined, "http://h/%EF%BF%BD"],
    ["http://h:443", undefined, "http://h:443/"],
    ["https://h:443", undefined, "https://h/"],
  ];
  for (const [input, base, href] of cases) {
    eq(new URL(input, base).href, href, input);
    ok(URL.canParse(input, base), input);
    eq(URL.parse(input, base).href, href, input);
  }
  for (const [input, base] of [["", undefined], ["a", undefined], ["/a", undefined], ["http://", undefined], ["http://h:65536", undefined], ["http://a b", undefined], ["x", "y"], ["http://[::1", undefined], ["http://%", undefined]]) {
    throws(() => new URL(input, base), TypeError, input);
    ok(!URL.canParse(input, base), input);
    eq(URL.parse(input, base), null);
  }
  throws(() => new URL(), TypeError);
  throws(() => URL("http://a"), TypeError);
  eq(new URL({ toString: () => "http://obj/" }).host, "obj");
});

test("parts", () => {
  const u = new URL("https://user:pass@sub.example.com:8080/p/a/t/h?query=string#hash");
  eq(u.protocol, "https:");
  eq(u.origin, "https://sub.example.com:8080");
  eq(u.username, "user");
  eq(u.password, "pass");
  eq(u.host, "sub.example.com:8080");
  eq(u.hostname, "sub.example.com");
  eq(u.port, "8080");
  eq(u.pathname, "/p/a/t/h");
  eq(u.search, "?query=string");
  eq(u.hash, "#hash");
  eq(String(u), u.href);
  eq(JSON.stringify({ u }), `{"u":"${u.href}"}`);
  eq(new URL("http://h/?").search, "");
  eq(new URL("http://h/#").hash, "");
  eq(new URL("http://h/?").href, "http://h/?");
  eq(new URL("http://u@h/").username, "u");
  eq(new URL("http://u@h/").password, "");
  eq(new URL("http://:p@h/").password, "p");
  eq(new URL("http://:p@h/").username, "");
  eq(new URL("blob:https://a.b/c").origin, "https://a.b");
  eq(new URL("data:x").origin, "null");
  eq(new URL("file:///x").host, "");
  eq(new URL("mailto:x?y").pathname, "x");
});

test("setters", () => {
  const check = (href, part, value, wanted) => {
    const u = new URL(href);
    u[part] = value;
    eq(u.href, wanted, `${part}=${value}`);
  };
  check("http://h/", "protocol", "https", "https://h/");
  check("http://h/", "protocol", "mailto", "http://h/");
  check("http://h/", "username", "a b", "http://a%20b@h/");
  check("http://u@h/", "password", "p:", "http://u:p%3A@h/");
  check("http://h:81/", "host", "x:82", "http://x:82/");
  check("http://h:81/", "hostname", "x", "http://x:81/");
  check("http://h/", "hostname", "a b", "http://h/");
  check("http://h/", "port", "8080abc", "http://h:8080/");
  check("http://h:8080/", "port", "", "http://h/");
  check("http://h/", "port", "x", "http://h/");
  check("http://h/a", "pathname", "b c?d", "http://h/b%20c%3Fd");
  check("http://h/a?b", "search", "c d", "http://h/a?c%20d");
  check("http://h/a?b", "search", "?", "http://h/a?");
  check("http://h/a?b", "search", "", "http://h/a");
  check("http://h/a#b", "hash", "c d", "http://h/a#c%20d");
  check("http://h/a#b", "hash", "", "http://h/a");
  check("mailto:a", "host", "x", "mailto:a");
  const u = new URL("http://h/");
  u.href = "https://x/?a=1";
  eq(u.host, "x");
  throws(() => {
    u.href = "nonsense";
  }, TypeError);
  eq(u.href, "https://x/?a=1");
  throws(() => Object.getOwnPropertyDescriptor(URL.prototype, "href").get.call({}), TypeError);
});

test("searchParams and the URL follow each other", () => {
  const u = new URL("http://h/?a=1&b=2");
  const p = u.searchParams;
  eq(p, u.searchParams);
  p.append("c", "3 4");
  eq(u.href, "http://h/?a=1&b=2&c=3+4");
  p.delete("a");
  p.delete("b");
  p.delete("c");
  eq(u.href, "http://h/");
  u.search = "?x=y";
  eq(p.get("x"), "y");
  u.href = "http://h/?z=1";
  eq([...p], [["z", "1"]]);
  p.set("z", "ä&=");
  eq(u.search, "?z=%C3%A4%26%3D");
  p.sort();
  eq(u.search, "?z=%C3%A4%26%3D");
});

test("URLSearchParams construction and text", () => {
  eq(new URLSearchParams("?a=1&b=2").toString(), "a=1&b=2");
  eq(new URLSearchParams("??a=1").get("?a"), "1");
  eq([...new URLSearchParams("a&b=&=c&&d=1=2")], [["a", ""], ["b", ""], ["", "c"], ["d", "1=2"]]);
  eq(new URLSearchParams("a+b=c%20d%2B").get("a b"), "c d+");
  eq(new URLSearchParams("a=%").get("a"), "%");
  eq(new URLSearchParams("a=%zz%4").get("a"), "%zz%4");
  eq(new URLSearchParams("a=%C3%A4%FF").get("a"), "ä\ufffd");
  eq(new URLSearchParams("a=%EF%BB%BFx").get("a"), "\ufeffx");
  eq(new URLSearchParams([["a", "1"], ["a", "2"]]).getAll("a"), ["1", "2"]);
  eq(new URLSearchParams({ a: 1, b: "x y" }).toString(), "a=1&b=x+y");
  eq(new URLSearchParams(new URLSearchParams("a=1")).toString(), "a=1");
  eq(new URLSearchParams(new Map([["k", "v"]])).toString(), "k=v");
  eq(new URLSearchParams().toString(), "");
  eq(new URLSearchParams("a=*-._~!'()").toString(), "a=*-._%7E%21%27%28%29");
  eq(new URLSearchParams([["\ud800", "😀"]]).toString(), "%EF%BF%BD=%F0%9F%98%80");
  throws(() => new URLSearchParams([["a"]]), TypeError);
  throws(() => new URLSearchParams([["a", "b", "c"]]), TypeError);
  const form = new FormData();
  form.append("a", "1");
  eq(new URLSearchParams(form).toString(), "a=1");
});

test("URLSearchParams operations", () => {
  const p = new URLSearchParams("b=2&a=1&b=3&c=4");
  eq(p.size, 4);
  eq(p.get("b"), "2");
  eq(p.get("x"), null);
  eq(p.getAll("b"), ["2", "3"]);
  ok(p.has("b", "3"));
  ok(!p.has("b", "4"));
  p.set("b", "9");
  eq(p.toString(), "b=9&a=1&c=4");
  p.append("b", "8");
  p.delete("b", "9");
  eq(p.toString(), "a=1&c=4&b=8");
  p.sort();
  eq([...p.keys()], ["a", "b", "c"]);
  eq([...p.values()], ["1", "8", "4"]);
  const s = new URLSearchParams("ﬃ=1&🌈=2");
  s.sort();
  eq([...s.keys()], ["🌈", "ﬃ"]);
  const seen = [];
  for (const [name] of p) {
    seen.push(name);
    p.delete(name);
  }
  eq(seen, ["a", "c"]);
  eq(Object.prototype.toString.call(p.entries()), "[object URLSearchParams Iterator]");
  eq(URLSearchParams.prototype[Symbol.iterator], URLSearchParams.prototype.entries);
  throws(() => p.get(), TypeError);
  throws(() => p.append("a"), TypeError);
});

test("a URL of more than 2 MiB is none", () => {
  const fits = `http://x/${"a".repeat(2097152 - 9)}`;
  eq(new URL(fits).href.length, 2097152);
  throws(() => new URL(`${fits}a`), TypeError);
  throws(() => new URL("/", `${fits}a`), TypeError);
  throws(() => new URL(`file:///${fits}`), TypeError);
  const url = new URL("file:////a//b");
  url.pathname = "//c|/../d";
  eq([url.href, url.origin, url.host, url.searchParams.size], ["file:////d", "null", "", 0]);
  url.search = "q";
  eq(url.search, "?q");
});

test("a record of params is taken as Web IDL says", () => {
  throws(() => new URLSearchParams({ [Symbol("s")]: "1" }), TypeError);
  throws(() => new URLSearchParams({ a: Symbol("s") }), TypeError);
  eq(new URLSearchParams(Object.defineProperty({ a: 1, b: null }, "c", { value: 1, enumerable: false })).toString(), "a=1&b=null");
});

test("paths of two slashes where there is no host", () => {
  const url = new URL("web+demo:/x?q");
  url.pathname = "//y";
  eq([url.href, url.pathname, url.host], ["web+demo:/.//y?q", "//y", ""]);
  url.hostname = "h";
  eq([url.href, url.pathname, url.host], ["web+demo://h//y?q", "//y", "h"]);
  url.pathname = "";
  eq([url.href, url.pathname], ["web+demo://h?q", ""]);
});
