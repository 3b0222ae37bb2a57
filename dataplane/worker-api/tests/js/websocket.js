// WebSocket, WebSocketPair and CloseEvent: what throws, states, and pairs of which both ends are here. What leads to a network is in the
// shard's tests.

const next = (target, type) => new Promise((resolve) => target.addEventListener(type, resolve, { once: true }));
const pair = () => Object.values(new WebSocketPair());
const accepted = () => {
  const [a, b] = pair();
  a.accept();
  b.accept();
  return [a, b];
};

test("a pair", () => {
  const made = new WebSocketPair();
  const { 0: a, 1: b } = made;
  ok(a instanceof WebSocket && b instanceof WebSocket && a instanceof EventTarget && a !== b);
  eq(Object.keys(made), ["0", "1"]);
  const [c, d] = made;
  ok(c === a && d === b);
  eq([a.readyState, a.url, a.protocol, a.extensions, a.binaryType], [1, null, "", "", "arraybuffer"]);
  eq([WebSocket.CONNECTING, WebSocket.OPEN, WebSocket.CLOSING, WebSocket.CLOSED, a.CLOSED, WebSocket.READY_STATE_OPEN], [0, 1, 2, 3, 3, 1]);
  eq([a.onopen, a.onmessage, a.onclose, a.onerror], [null, null, null, null]);
  throws(() => WebSocketPair(), TypeError);
  eq(Object.prototype.toString.call(a), "[object WebSocket]");
});

test("messages go both ways, in order, each in a turn of its own", async () => {
  const [a, b] = accepted();
  const seen = [];
  b.onmessage = (event) => {
    ok(event instanceof MessageEvent && event.isTrusted && event.target === b);
    seen.push(event.data);
    queueMicrotask(() => seen.push("micro"));
  };
  a.send("one");
  a.send("");
  eq(seen, []);
  const back = next(a, "message");
  b.send("\ud800x");
  await sleep(5);
  eq(seen, ["one", "micro", "", "micro"]);
  eq((await back).data, "\ufffdx");
});

test("what can be sent", async () => {
  const [a, b] = accepted();
  const seen = [];
  b.addEventListener("message", ({ data }) => seen.push(data instanceof ArrayBuffer ? [...new Uint8Array(data)] : data));
  const buffer = new Uint8Array([1, 2, 3, 4]).buffer;
  a.send(buffer);
  a.send(new Uint8Array(buffer, 1, 2));
  a.send(new DataView(buffer, 3));
  a.send(new Uint16Array([258]));
  a.send(new Blob(["b"]));
  a.send(5);
  a.send(null);
  a.send({ toString: () => "object" });
  new Uint8Array(buffer).fill(9);
  await sleep(15);
  eq(seen, [[1, 2, 3, 4], [2, 3], [4], [2, 1], [98], "5", "null", "object"]);
  throws(() => a.send(), TypeError);
  throws(() => a.send(Symbol()), TypeError);
  throws(() => WebSocket.prototype.send.call({}, "x"), TypeError);
});

test("binaryType", async () => {
  const [a, b] = accepted();
  b.binaryType = "nonsense";
  eq(b.binaryType, "arraybuffer");
  b.binaryType = "blob";
  eq(b.binaryType, "blob");
  const got = next(b, "message");
  a.send(bytes(104, 105));
  const { data } = await got;
  ok(data instanceof Blob);
  eq([await data.text(), data.type], ["hi", ""]);
});

test("nothing is sent before accept, and what came is kept until then", async () => {
  const [a, b] = pair();
  throws(() => a.send("x"), TypeError);
  throws(() => a.close(1000), TypeError);
  a.accept();
  a.accept();
  a.send("kept");
  a.close(3000, "over");
  const seen = [];
  b.onmessage = ({ data }) => seen.push(data);
  b.onclose = ({ code, reason, wasClean }) => seen.push(code, reason, wasClean);
  await sleep(3);
  eq(seen, []);
  b.accept();
  await sleep(5);
  eq(seen, ["kept", 3000, "over", true]);
  throws(() => b.accept(5), TypeError);
});

test("a close is answered by itself", async () => {
  const [a, b] = accepted();
  const told = next(b, "close");
  const back = next(a, "close");
  a.close(4000, "why");
  eq(a.readyState, WebSocket.CLOSING);
  const event = await told;
  ok(event instanceof CloseEvent && event.isTrusted);
  eq([event.code, event.reason, event.wasClean, b.readyState], [4000, "why", true, 3]);
  eq((await back).code, 4000);
  eq(a.readyState, WebSocket.CLOSED);
  a.close();
  b.close(1000, "late");
  throws(() => a.send("x"), TypeError);
  b.send("ignored");
});

test("a close without a code", async () => {
  const [a, b] = accepted();
  const told = next(b, "close");
  a.close();
  const { code, reason, wasClean } = await told;
  eq([code, reason, wasClean], [1005, "", true]);
});

test("messages after a close are dropped", async () => {
  const [a, b] = accepted();
  let seen = 0;
  a.onmessage = () => seen++;
  a.close(1000);
  b.send("late");
  await sleep(5);
  eq(seen, 0);
});

test("half open", async () => {
  const [a, b] = pair();
  a.accept();
  b.accept({ allowHalfOpen: true });
  const seen = [];
  a.onmessage = ({ data }) => seen.push(data);
  const told = next(b, "close");
  const back = next(a, "close");
  a.close(1000);
  await told;
  eq(b.readyState, WebSocket.CLOSING);
  b.send("still");
  b.close(1001, "now");
  eq(b.readyState, WebSocket.CLOSED);
  const { code, reason } = await back;
  eq([code, reason, seen], [1001, "now", []]);
});

test("close codes and reasons", () => {
  for (const code of [0, 999, 1004, 1005, 1006, 1015, 5000, 65536 + 1, NaN, "x"]) {
    throws(() => accepted()[0].close(code), TypeError, String(code));
  }
  for (const code of [1000, 1001, 1011, 1014, 3000, 4999, "3001", 3000.9]) {
    const [a] = accepted();
    a.close(code, "ok");
    eq(a.readyState, 2);
  }
  throws(() => accepted()[0].close(undefined, "no code"), TypeError);
  accepted()[0].close(1000, "x".repeat(123));
  accepted()[0].close(1000, "\u00e9".repeat(61));
  throws(() => accepted()[0].close(1000, "x".repeat(124)), "SyntaxError");
  throws(() => accepted()[0].close(1000, "\u00e9".repeat(62)), "SyntaxError");
});

test("CloseEvent", () => {
  const empty = new CloseEvent("close");
  eq([empty.type, empty.code, empty.reason, empty.wasClean, empty.isTrusted], ["close", 0, "", false, false]);
  const full = new CloseEvent("x", { code: 65537, reason: "\ud800", wasClean: 1, cancelable: true });
  eq([full.code, full.reason, full.wasClean, full.cancelable], [1, "\ufffd", true, true]);
  ok(full instanceof Event);
  throws(() => new CloseEvent(), TypeError);
  throws(() => new CloseEvent("x", 5), TypeError);
});

test("responses", async () => {
  const [a, b] = pair();
  const response = new Response(null, { status: 101, webSocket: a, headers: { "x-a": "b" } });
  eq([response.status, response.body, response.headers.get("x-a")], [101, null, "b"]);
  ok(response.webSocket === a);
  throws(() => response.clone(), TypeError);
  eq([new Response().webSocket, new Response(null, { webSocket: null }).webSocket], [null, null]);
  throws(() => new Response(null, { status: 101 }), RangeError);
  throws(() => new Response(null, { status: 200, webSocket: a }), RangeError);
  throws(() => new Response(null, { webSocket: a }), RangeError);
  throws(() => new Response("body", { status: 101, webSocket: a }), TypeError);
  throws(() => new Response(null, { status: 101, webSocket: {} }), TypeError);
  b.accept();
});

test("an exception in a listener is reported and ends nothing", async () => {
  const [a, b] = accepted();
  const errors = [];
  const listener = (event) => {
    event.preventDefault();
    errors.push(event.message);
  };
  addEventListener("error", listener);
  let seen = 0;
  b.onmessage = ({ data }) => {
    seen++;
    if (data === "throw") throw new Error("thrown");
  };
  a.send("throw");
  a.send("on");
  await sleep(5);
  removeEventListener("error", listener);
  eq([seen, errors], [2, ["thrown"]]);
});

test("URLs and protocols that cannot be", () => {
  for (const url of ["", "/path", "ftp://a/", "ws://", "ws://a/#fragment", "wss://a b/", "data:x"]) {
    throws(() => new WebSocket(url), "SyntaxError", url);
  }
  for (const protocols of ["", "a b", ["a", "a"], ["a,b"], "\u00e9", ["a", ""], "a/b"]) {
    throws(() => new WebSocket("ws://origin.test/", protocols), "SyntaxError", JSON.stringify(protocols));
  }
  throws(() => new WebSocket(), TypeError);
  throws(() => WebSocket("ws://origin.test/"), TypeError);
  throws(() => new WebSocket("ws://origin.test/", Symbol()), TypeError);
});

test("an origin that does not switch", async () => {
  const ws = new WebSocket("WSS://Origin.test:443/refuses?q", ["chat", "other"]);
  eq([ws.readyState, ws.url, ws.protocol], [0, "wss://origin.test/refuses?q", ""]);
  throws(() => ws.send("x"), "InvalidStateError");
  throws(() => ws.accept(), TypeError);
  throws(() => new Response(null, { status: 200, webSocket: ws }), RangeError);
  const seen = [];
  ws.onerror = (event) => seen.push(event.type, event instanceof ErrorEvent, /101/.test(event.message));
  const { code, wasClean } = await next(ws, "close");
  eq([seen, code, wasClean, ws.readyState], [["error", true, true], 1006, false, 3]);
  ws.send("ignored");
  ws.close();
});

test("an origin that cannot be reached", async () => {
  const ws = new WebSocket(new URL("http://origin.test/gone"));
  eq(ws.url, "ws://origin.test/gone");
  const error = next(ws, "error");
  const { code } = await next(ws, "close");
  eq([(await error).message, code], ["no route", 1006]);
});

test("closed before it is open", async () => {
  const ws = new WebSocket("ws://origin.test/silent");
  const error = next(ws, "error");
  ws.close();
  eq(ws.readyState, WebSocket.CLOSING);
  const { code, wasClean } = await next(ws, "close");
  await error;
  eq([code, wasClean, ws.readyState], [1006, false, 3]);
  throws(() => ws.send("x"), TypeError);
});
