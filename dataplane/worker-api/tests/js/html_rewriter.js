// HTMLRewriter: a table of inputs, handlers and outputs, then what is about time, errors and streams.

const html = (text, headers = { "content-type": "text/html" }) => new Response(text, { headers });
const rewrite = (text, ...handlers) => {
  const rewriter = new HTMLRewriter();
  for (const [selector, on] of handlers) selector === null ? rewriter.onDocument(on) : rewriter.on(selector, on);
  return rewriter.transform(html(text)).text();
};
const element = (selector, element) => [selector, { element }];

// name, input, handlers, output
const TABLE = [
  ["nothing", "<p>a</p>", [], "<p>a</p>"],
  ["getAttribute, setAttribute", '<a href="x" CLASS=b>t</a>', [element("a", (e) => e.setAttribute("href", e.getAttribute("class") + e.getAttribute("none")))], '<a href="bnull" CLASS=b>t</a>'],
  ["hasAttribute, removeAttribute", "<a x y>t</a>", [element("a", (e) => e.hasAttribute("x") && !e.hasAttribute("z") && e.removeAttribute("x"))], "<a y>t</a>"],
  ["an attribute is escaped", "<a>t</a>", [element("a", (e) => e.setAttribute("t", 'a"b'))], '<a t="a&quot;b">t</a>'],
  ["tagName", "<b>t</b>", [element("b", (e) => { e.tagName = `${e.tagName}x`; })], "<bx>t</bx>"],
  ["before and after", "<b>t</b>", [element("b", (e) => { e.before("<1>"); e.before("<i>2</i>", { html: true }); e.after("3"); e.after("4"); })], "&lt;1&gt;<i>2</i><b>t</b>43"],
  ["prepend and append", "<b>t</b>", [element("b", (e) => { e.prepend("1").prepend("2").append("3").append("4"); })], "<b>21t34</b>"],
  ["setInnerContent", "<b>t<i>u</i></b>", [element("b", (e) => e.setInnerContent("<x>"))], "<b>&lt;x&gt;</b>"],
  ["setInnerContent with html", "<b>t</b>", [element("b", (e) => e.setInnerContent("<x>", { html: true }))], "<b><x></b>"],
  ["replace", "<b>t</b>u", [element("b", (e) => e.replace("<x>", { html: true }))], "<x>u"],
  ["remove", "<b>t</b>u", [element("b", (e) => eq([e.removed, e.remove().removed], [false, true]))], "u"],
  ["removeAndKeepContent", "<b>t<i>u</i></b>", [element("b", (e) => e.removeAndKeepContent())], "t<i>u</i>"],
  ["namespaceURI", "<svg><a/></svg>", [element("a", (e) => eq(e.namespaceURI, "http://www.w3.org/2000/svg"))], "<svg><a/></svg>"],
  ["attributes", '<a x="1" Y=2 z>t</a>', [element("a", (e) => e.setInnerContent(JSON.stringify([...e.attributes]), { html: true }))], '<a x="1" Y=2 z>[["x","1"],["y","2"],["z",""]]</a>'],
  ["onEndTag", "<b>t</b>", [element("b", (e) => e.onEndTag((end) => { end.before("1"); end.after(`<${end.name}>`, { html: true }); end.name = "u"; }))], "<b>t1</u><b>"],
  ["onEndTag removes", "<b>t</b>v", [element("b", (e) => e.onEndTag((end) => end.remove()))], "<b>tv"],
  ["onEndTag twice", "<b>t</b>", [element("b", (e) => { e.onEndTag((end) => end.before("1")); e.onEndTag((end) => end.before("2")); })], "<b>t12</b>"],
  ["comments", "<b><!-- x --></b>", [["b", { comments: (c) => { c.text = c.text.trim(); c.before("1").after("2"); } }]], "<b>1<!--x-->2</b>"],
  ["a comment is removed", "<b><!-- x --></b>", [["b", { comments: (c) => eq([c.removed, c.remove().removed], [false, true]) }]], "<b></b>"],
  ["a comment is replaced", "<!--x-->", [[null, { comments: (c) => c.replace("<y>", { html: true }) }]], "<y>"],
  ["text", "<b>one</b>two", [["b", { text: (t) => t.lastInTextNode ? t.after("!") : t.replace(t.text.toUpperCase()) }]], "<b>ONE!</b>two"],
  ["text is removed", "<b>one</b>two", [["b", { text: (t) => eq([t.removed, t.remove().removed], [false, true]) }]], "<b></b>two"],
  ["the document's text", "a<b>c</b>", [[null, { text: (t) => { if (!t.lastInTextNode) t.before("<").replace(t.text + t.text); } }]], "&lt;aa<b>&lt;cc</b>"],
  ["doctype", '<!DOCTYPE html PUBLIC "-//W3C//DTD" "http://x">', [[null, { doctype: (d) => eq([d.name, d.publicId, d.systemId], ["html", "-//W3C//DTD", "http://x"]) }]], '<!DOCTYPE html PUBLIC "-//W3C//DTD" "http://x">'],
  ["a doctype without ids", "<!doctype html>", [[null, { doctype: (d) => eq([d.name, d.publicId, d.systemId], ["html", null, null]) }]], "<!doctype html>"],
  ["the end", "a", [[null, { end: (end) => { end.append("<1>"); end.append("<2>", { html: true }); } }]], "a&lt;1&gt;<2>"],
  ["void elements", "<img><br>", [element("img", (e) => { e.after("1"); throws(() => e.onEndTag(() => {}), TypeError); })], "<img>1<br>"],
  ["selectors: child and class", '<div class="a b"><p>1</p><i><p>2</p></i></div>', [element("div.a > p", (e) => e.setAttribute("x", ""))], '<div class="a b"><p x="">1</p><i><p>2</p></i></div>'],
  ["selectors: attribute and not", "<a href='/x'>1</a><a href='y'>2</a>", [element('a[href^="/"]:not(.z)', (e) => e.remove())], "<a href='y'>2</a>"],
  ["selectors: nth-child", "<p>1</p><p>2</p><p>3</p>", [element("p:nth-child(2)", (e) => e.remove())], "<p>1</p><p>3</p>"],
  ["several handlers in order", "<b>t</b>", [element("b", (e) => e.append("1")), element("*", (e) => e.append("2"))], "<b>t12</b>"],
  ["other scripts and entities", "<p>\u00fc&amp;\u4e2d</p>", [["p", { text: (t) => { if (t.text !== "") t.replace(`${t.text}\u{1f600}`, { html: true }); } }]], "<p>\u00fc&amp;\u4e2d\u{1f600}</p>"],
];
for (const [name, input, handlers, output] of TABLE) {
  test(name, async () => {
    eq(await rewrite(input, ...handlers), output, name);
    // The same in pieces of a byte, for handlers that do not look at how text is cut.
    const raw = utf8(input);
    if (handlers.some(([, on]) => on.text)) return;
    const rewriter = new HTMLRewriter();
    for (const [selector, on] of handlers) selector === null ? rewriter.onDocument(on) : rewriter.on(selector, on);
    const stream = new ReadableStream({ start(c) { for (const byte of raw) c.enqueue(bytes(byte)); c.close(); } });
    eq(await rewriter.transform(new Response(stream)).text(), output, `${name}, byte by byte`);
  });
}

test("handlers that give promises are waited for, in order", async () => {
  const order = [];
  const wait = (label, ms) => async (it) => {
    order.push(`${label} begins`);
    await sleep(ms);
    it.before(label);
    order.push(`${label} ends`);
  };
  const out = await rewrite("<a></a><b></b><!--c-->", element("a", wait("a", 5)), element("b", wait("b", 1)), [null, { comments: wait("c", 1), end: async (end) => { await sleep(1); end.append("z"); } }]);
  eq(out, "a<a></a>b<b></b>c<!--c-->z");
  eq(order, ["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]);
  const end = await rewrite("<a>1</a>", element("a", (e) => e.onEndTag(async (tag) => { await sleep(1); tag.before("2"); })));
  eq(end, "<a>12</a>");
});

test("handlers are called as methods of their object", async () => {
  class Counter {
    count = 0;
    element(e) {
      this.count++;
      e.setAttribute("n", this.count);
    }
  }
  const counter = new Counter();
  eq(await rewrite("<p></p><p></p>", ["p", counter]), '<p n="1"></p><p n="2"></p>');
  eq(counter.count, 2);
});

test("content that is a stream or a Response is read and inserted in the order of the calls", async () => {
  const stream = () => new ReadableStream({ async start(c) { await sleep(1); c.enqueue(utf8("<s>")); c.enqueue(utf8("\u00fc")); c.close(); } });
  eq(await rewrite("<b>t</b>", element("b", (e) => { e.append(stream(), { html: true }); e.append(new Response("<r>")); e.append("x"); })), "<b>t<s>\u00fc&lt;r&gt;x</b>");
  await rejects(rewrite("<b>t</b>", element("b", (e) => e.append(new ReadableStream({ start(c) { c.error(new RangeError("no")); } })))), RangeError);
});

test("what a handler throws or rejects with errors the body", async () => {
  const error = new Error("thrown");
  await rejects(rewrite("<b></b>", element("b", () => { throw error; })), error);
  await rejects(rewrite("<b></b>", element("b", () => Promise.reject(error))), error);
  await rejects(rewrite("<b></b>", [null, { end() { throw error; } }]), error);
  await rejects(rewrite("<b></b>", element("b", (e) => e.onEndTag(() => { throw error; }))), error);
  let cancelled;
  const source = new ReadableStream({ pull(c) { c.enqueue(utf8("<b></b>")); }, cancel(reason) { cancelled = reason; } });
  await rejects(new HTMLRewriter().on("b", { element() { throw error; } }).transform(new Response(source)).text(), error);
  await settle();
  eq(cancelled === error, true, "the source is cancelled");
});

test("tokens live as long as their handler", async () => {
  let kept, end, tag;
  await rewrite("<b>t</b>", element("b", (e) => { kept = e; e.onEndTag((it) => { tag = it; }); }), [null, { end(it) { end = it; } }]);
  throws(() => kept.tagName, TypeError);
  throws(() => kept.append("x"), TypeError);
  throws(() => kept.setAttribute("a", "b"), TypeError);
  throws(() => kept.onEndTag(() => {}), TypeError);
  throws(() => end.append("x"), TypeError);
  throws(() => tag.name, TypeError);
  let early;
  await rewrite("<b>t</b>", element("b", async (e) => { early = e; await sleep(1); eq(e.tagName, "b", "as long as its promise"); }));
  throws(() => early.removed, TypeError);
});

test("wrong arguments", async () => {
  throws(() => HTMLRewriter(), TypeError);
  const rewriter = new HTMLRewriter();
  for (const args of [[], ["b"], ["b", null], ["b", 1], ["b", { element: 1 }], ["b", { text: "x" }]]) throws(() => rewriter.on(...args), TypeError, args.length);
  for (const selector of ["", "b:", "b + c", "b ~ c", "::before", "a:hover", "[", "b >"]) throws(() => rewriter.on(selector, {}), TypeError, selector);
  for (const args of [[], [null], [1], [{ end: 1 }]]) throws(() => rewriter.onDocument(...args), TypeError);
  for (const args of [[], [null], ["<p>"], [new Request("http://x.test")]]) throws(() => rewriter.transform(...args), TypeError);
  throws(() => HTMLRewriter.prototype.on.call({}, "b", {}), TypeError);
  const used = new Response("x");
  await used.text();
  throws(() => rewriter.transform(used), TypeError);
  const check = (run) => rewrite("<b><!--c-->t</b>", element("b", run), ["b", { comments(c) { throws(() => { c.text = "-->"; }, TypeError); } }]);
  await check((e) => {
    throws(() => e.setAttribute("a b", "c"), TypeError);
    throws(() => e.setAttribute("", "c"), TypeError);
    throws(() => e.setAttribute("a"), TypeError);
    throws(() => e.getAttribute(), TypeError);
    throws(() => { e.tagName = ""; }, TypeError);
    throws(() => { e.tagName = "a b"; }, TypeError);
    throws(() => e.append(), TypeError);
    throws(() => e.append("x", 1), TypeError);
    throws(() => e.append(Symbol()), TypeError);
    throws(() => e.onEndTag({}), TypeError);
    throws(() => new e.constructor(), TypeError);
  });
});

test("the response that comes out", async () => {
  const before = new Response("<p>", { status: 404, statusText: "Gone", headers: { "content-type": "text/html", "content-length": "3", "x-a": "b" } });
  const after = new HTMLRewriter().transform(before);
  eq([after.status, after.statusText, after.headers.get("x-a"), after.headers.get("content-length"), before.bodyUsed], [404, "Gone", "b", null, true]);
  eq(await after.text(), "<p>");
  const empty = new HTMLRewriter().transform(new Response(null, { status: 204 }));
  eq([empty.status, empty.body], [204, null]);
  const rewriter = new HTMLRewriter().on("p", { element(e) { e.append("1"); } });
  eq([await rewriter.transform(html("<p></p>")).text(), await rewriter.transform(html("<p></p>")).text()], ["<p>1</p>", "<p>1</p>"], "a rewriter is used again");
});

test("other encodings", async () => {
  const latin = new Response(bytes(0x3c, 0x70, 0x3e, 0xfc), { headers: { "content-type": "text/html; charset=ISO-8859-1" } });
  let seen = "";
  const out = new HTMLRewriter().on("p", { text(t) { seen += t.text; if (t.lastInTextNode) t.after("\u00e4"); } }).transform(latin);
  eq(await out.bytes(), bytes(0x3c, 0x70, 0x3e, 0xfc, 0xe4));
  eq(seen, "\u00fc");
  const none = new Response("<p>", { headers: { "content-type": "text/html; charset=nonsense" } });
  throws(() => new HTMLRewriter().transform(none), TypeError);
  throws(() => new HTMLRewriter().transform(new Response("x", { headers: { "content-type": "text/html; charset=utf-16" } })), TypeError);
});

test("the body streams: what is done is given on before more comes", async () => {
  let controller;
  const source = new ReadableStream({ start(c) { controller = c; } });
  const reader = new HTMLRewriter().on("b", { element(e) { e.setAttribute("x", "1"); } }).transform(new Response(source)).body.getReader();
  controller.enqueue(utf8("<b>one</b>"));
  eq(new TextDecoder().decode((await reader.read()).value), '<b x="1">one</b>');
  controller.enqueue(utf8("<b"));
  controller.enqueue(utf8(">two"));
  controller.close();
  let rest = "";
  for (let read; !(read = await reader.read()).done;) rest += new TextDecoder().decode(read.value);
  eq(rest, '<b x="1">two');
});

test("a tag that is too long ends the rewriting, a long text does not", async () => {
  const long = "x".repeat(4 << 20);
  const parts = new ReadableStream({ start(c) { c.enqueue(utf8('<a href="')); for (let i = 0; i < 64; i++) c.enqueue(utf8(long.slice(0, 1 << 16))); c.enqueue(utf8('">')); c.close(); } });
  await rejects(new HTMLRewriter().on("a", { element() {} }).transform(new Response(parts)).text(), TypeError);
  eq((await rewrite(`<p>${long}</p>`, element("p", (e) => e.append("1")))).length, long.length + 8);
});

test("what a program leaves standing is no leak", async () => {
  for (let i = 0; i < 300; i++) {
    const out = new HTMLRewriter().on("b", { element: () => new Promise(() => {}) }).transform(html("<b></b>"));
    const reader = out.body.getReader();
    reader.read().catch(() => {});
    if (i % 2) await reader.cancel();
  }
  eq(await rewrite("<b></b>", element("b", (e) => e.append("1"))), "<b>1</b>");
});
