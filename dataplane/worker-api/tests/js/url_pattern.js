// URLPattern: what the table of cases does not say.

test("URLPattern's constructor", () => {
  eq(URLPattern.length, 0);
  const all = new URLPattern();
  for (const part of ["protocol", "username", "password", "hostname", "port", "pathname", "search", "hash"]) eq(all[part], "*", part);
  ok(!all.hasRegExpGroups);
  ok(all.test("https://h/p?q#f") && all.test() && all.test({}));
  eq(new URLPattern("/a/:b", "https://h/").pathname, "/a/:b");
  eq(new URLPattern("/A", "https://h", { ignoreCase: true }).test("https://h/a"), true);
  eq(new URLPattern({ pathname: "/A" }, { ignoreCase: true }).test("https://h/a"), true);
  eq(new URLPattern({ pathname: "/A" }, null).test("https://h/a"), false);
  eq(new URLPattern(undefined, undefined).pathname, "*");
  throws(() => new URLPattern("/a"), TypeError);
  throws(() => new URLPattern({ pathname: "/a" }, "https://h/"), TypeError);
  throws(() => new URLPattern({ pathname: "/:a/:a" }), TypeError);
  throws(() => new URLPattern({ pathname: "/(" }), TypeError);
  throws(() => new URLPattern({ pathname: "/([)" }), TypeError);
  throws(() => new URLPattern("https://h/", 5), TypeError);
  throws(() => new URLPattern({ baseURL: "nonsense" }), TypeError);
  throws(() => new URLPattern(Symbol()), TypeError);
  throws(() => URLPattern({}), TypeError);
});

test("URLPattern reads a dictionary in the order of the alphabet", () => {
  const read = [];
  new URLPattern(new Proxy({}, { get: (_, name) => void read.push(name) }));
  eq(read, ["baseURL", "hash", "hostname", "password", "pathname", "port", "protocol", "search", "username"]);
});

test("URLPattern.exec", () => {
  const pattern = new URLPattern({ pathname: "/books/:id(\\d+)/:rest*" });
  ok(pattern.hasRegExpGroups);
  const found = pattern.exec("https://h/books/12/a/b?q");
  eq(found.pathname, { input: "/books/12/a/b", groups: { id: "12", rest: "a/b" } });
  eq(found.inputs, ["https://h/books/12/a/b?q"]);
  eq(found.hostname, { input: "h", groups: { 0: "h" } });
  const none = pattern.exec({ pathname: "/books/7" });
  eq([none.pathname.groups.rest, "rest" in none.pathname.groups, none.inputs], [undefined, true, [{ pathname: "/books/7" }]]);
  eq(pattern.exec("/books/1", "https://h/").inputs, ["/books/1", "https://h/"]);
  eq([pattern.exec("no URL"), pattern.exec("/x", "no URL"), pattern.test("no URL")], [null, null, false]);
  throws(() => pattern.exec({}, "https://h/"), TypeError);
  throws(() => pattern.test({}, "https://h/"), TypeError);
  throws(() => URLPattern.prototype.test.call({}), TypeError);
  throws(() => Object.getOwnPropertyDescriptor(URLPattern.prototype, "hash").get.call({}), TypeError);
});

test("expressions of JavaScript, not of another language", () => {
  ok(new URLPattern({ pathname: "/((?!no).*)" }).test("https://h/yes"));
  ok(!new URLPattern({ pathname: "/((?!no).*)" }).test("https://h/no"));
  ok(new URLPattern({ pathname: "/([a-z]{2}--[[a-z]&&[bc]]+)" }).test("https://h/ab--bc"));
  ok(new URLPattern({ protocol: "http{s}?", hostname: "{:sub.}*example.com" }).test("http://a.b.example.com/"));
});

test("a pattern that a program has its prototypes changed under", () => {
  const { exec } = RegExp.prototype;
  RegExp.prototype.exec = () => { throw new Error("patched"); };
  try {
    ok(new URLPattern({ pathname: "/a" }).test("https://h/a"));
  } finally {
    RegExp.prototype.exec = exec;
  }
});
