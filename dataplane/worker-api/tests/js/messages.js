// MessageChannel, structuredClone's transfers, and what happens to errors and rejections that nobody handles.

const next = (target, type) => new Promise((resolve) => target.addEventListener(type, resolve, { once: true }));

test("messages arrive, in order, each in a turn of its own", async () => {
  const { port1, port2 } = new MessageChannel();
  const seen = [];
  port2.onmessage = (event) => {
    seen.push(event.data);
    queueMicrotask(() => seen.push("micro"));
  };
  port1.postMessage({ a: [1, new Date(0)] });
  port1.postMessage("two");
  eq(seen, []);
  await sleep(5);
  eq(seen, [{ a: [1, new Date(0)] }, "micro", "two", "micro"]);
  const back = next(port1, "message");
  port1.start();
  port2.postMessage(3);
  const event = await back;
  ok(event instanceof MessageEvent && event.isTrusted && event.target === port1);
  eq([event.data, event.origin, event.source, event.ports], [3, "", null, []]);
});

test("a port that is not started keeps its messages", async () => {
  const { port1, port2 } = new MessageChannel();
  const seen = [];
  port2.addEventListener("message", (event) => seen.push(event.data));
  port1.postMessage(1);
  await sleep(3);
  eq(seen, []);
  port2.start();
  await sleep(3);
  eq(seen, [1]);
});

test("ports move, with what waits for them", async () => {
  const { port1, port2 } = new MessageChannel();
  port1.postMessage("early");
  const carrier = new MessageChannel();
  const arrived = next(carrier.port2, "message");
  carrier.port2.start();
  carrier.port1.postMessage({ port: port2, same: port2 }, [port2]);
  const { data, ports } = await arrived;
  ok(data.port instanceof MessagePort && data.port === data.same && ports.length === 1 && ports[0] === data.port && data.port !== port2);
  ok(Object.isFrozen(ports));
  const got = next(data.port, "message");
  data.port.start();
  eq((await got).data, "early");
  // The object that it was is no port any more.
  port2.postMessage("lost");
  port2.start();
  port2.close();
  throws(() => structuredClone(port2, { transfer: [port2] }), "DataCloneError");
  const copy = structuredClone(data.port, { transfer: [data.port] });
  const last = next(copy, "message");
  copy.start();
  port1.postMessage("last");
  eq((await last).data, "last");
});

test("what cannot be posted", () => {
  const { port1, port2 } = new MessageChannel();
  throws(() => port1.postMessage(), TypeError);
  throws(() => port1.postMessage(() => {}), "DataCloneError");
  throws(() => port1.postMessage(port2), "DataCloneError");
  throws(() => port1.postMessage(1, [port1]), "DataCloneError");
  throws(() => port1.postMessage(1, [port2, port2]), "DataCloneError");
  throws(() => port1.postMessage(1, [1]), TypeError);
  throws(() => port1.postMessage(1, { transfer: 1 }), TypeError);
  throws(() => port1.postMessage(1, 5), TypeError);
  throws(() => MessagePort.prototype.postMessage.call({}, 1), TypeError);
  throws(() => new MessagePort(), TypeError);
  throws(() => MessageChannel(), TypeError);
  throws(() => new MessageEvent("x", { ports: [1] }), TypeError);
  eq(new MessageEvent("x", { ports: [port1] }).ports, [port1]);
  const buffer = new ArrayBuffer(8);
  port1.postMessage(buffer, { transfer: [buffer] });
  ok(buffer.detached);
});

test("a closed port is told and takes nothing", async () => {
  const { port1, port2 } = new MessageChannel();
  let seen = 0;
  port2.onmessage = () => seen++;
  const closed = next(port2, "close");
  port1.close();
  await closed;
  port1.postMessage(1);
  port2.postMessage(1);
  await sleep(2);
  eq(seen, 0);
});

test("streams move", async () => {
  const source = new ReadableStream({
    start(c) {
      c.enqueue({ a: 1 });
      c.enqueue("b");
      c.close();
    },
  });
  const moved = structuredClone({ s: source }, { transfer: [source] }).s;
  ok(moved !== source && source.locked);
  eq(await readAll(moved), [{ a: 1 }, "b"]);
  const why = new Error("why");
  const broken = new ReadableStream({ start: (c) => c.error(why) });
  await rejects(structuredClone(broken, { transfer: [broken] }).getReader().read(), why);
  const written = [];
  const sink = new WritableStream({ write: (chunk) => void written.push(chunk) });
  const writable = structuredClone(sink, { transfer: [sink] });
  const writer = writable.getWriter();
  writer.write([1]);
  await writer.close();
  eq([written, sink.locked], [[[1]], true]);
  const locked = new ReadableStream();
  locked.getReader();
  throws(() => structuredClone(locked, { transfer: [locked] }), "DataCloneError");
  throws(() => structuredClone(new ReadableStream()), "DataCloneError");
  // Nothing moves if anything fails.
  const kept = new ReadableStream();
  throws(() => structuredClone([kept, () => {}], { transfer: [kept] }), "DataCloneError");
  ok(!kept.locked);
  throws(() => structuredClone(1, { transfer: [kept, kept] }), "DataCloneError");
  throws(() => structuredClone(1, { transfer: [new TransformStream()] }), "DataCloneError");
  throws(() => structuredClone(new TransformStream()), "DataCloneError");
});

test("keys are cloned", async () => {
  const key = await crypto.subtle.generateKey({ name: "HMAC", hash: "SHA-256" }, false, ["sign", "verify"]);
  const copy = structuredClone({ key }).key;
  ok(copy instanceof CryptoKey && copy !== key);
  eq([copy.extractable, copy.usages, copy.type, copy.algorithm], [false, ["sign", "verify"], "secret", key.algorithm]);
  ok(await crypto.subtle.verify("HMAC", copy, await crypto.subtle.sign("HMAC", key, bytes(1)), bytes(1)));
});

test("a rejection that nobody handles", async () => {
  const seen = [];
  const why = new Error("why");
  onunhandledrejection = (event) => {
    seen.push([event.type, event.reason === why, event.cancelable, event.isTrusted]);
    event.preventDefault();
  };
  ok(typeof onunhandledrejection === "function");
  let handled;
  onrejectionhandled = (event) => handled = event;
  const promise = Promise.reject(why);
  // Handled in the same turn: nobody is told.
  Promise.reject(new Error("soon")).catch(() => {});
  await sleep(2);
  eq(seen, [["unhandledrejection", true, true, true]]);
  promise.catch(() => {});
  await sleep(2);
  ok(handled.promise === promise && handled.reason === why && !handled.cancelable);
  // A rejection in the handler is told of too.
  const reasons = [];
  onunhandledrejection = (event) => {
    event.preventDefault();
    reasons.push(event.reason);
    if (reasons.length < 3) Promise.reject(reasons.length);
  };
  Promise.reject(0);
  await sleep(2);
  eq(reasons, [0, 1, 2]);
  onunhandledrejection = null;
  onrejectionhandled = 5;
  eq([onunhandledrejection, onrejectionhandled], [null, null]);
});

test("an error that nobody catches", async () => {
  const seen = [];
  onerror = function (message, filename, line, column, error) {
    seen.push([message, error.name, this === globalThis, arguments.length]);
    return true;
  };
  const listener = (event) => seen.push([event.message, event.defaultPrevented]);
  addEventListener("error", listener);
  reportError(new RangeError("reported"));
  queueMicrotask(() => {
    throw new TypeError("in a microtask");
  });
  setTimeout(() => {
    throw new SyntaxError("in a timer");
  }, 1);
  await sleep(4);
  eq(seen, [["reported", "RangeError", true, 5], ["reported", true], ["in a microtask", "TypeError", true, 5], ["in a microtask", true], ["in a timer", "SyntaxError", true, 5], ["in a timer", true]]);
  removeEventListener("error", listener);
  onerror = null;
  eq(onerror, null);
});
