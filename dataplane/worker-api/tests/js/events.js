// Event, EventTarget, CustomEvent, AbortController, AbortSignal, DOMException.

test("Event", () => {
  const e = new Event("x", { bubbles: true, cancelable: true, composed: true });
  eq([e.type, e.bubbles, e.cancelable, e.composed, e.defaultPrevented, e.isTrusted], ["x", true, true, true, false, false]);
  eq([e.target, e.currentTarget, e.eventPhase], [null, null, 0]);
  e.preventDefault();
  ok(e.defaultPrevented && !e.returnValue);
  const plain = new Event("y");
  plain.preventDefault();
  ok(!plain.defaultPrevented);
  eq(Event.AT_TARGET, 2);
  eq(e.BUBBLING_PHASE, 3);
  throws(() => new Event(), TypeError);
  throws(() => Event("x"), TypeError);
  eq(new CustomEvent("c", { detail: 5 }).detail, 5);
  eq(new CustomEvent("c").detail, null);
  ok(new CustomEvent("c") instanceof Event);
  eq(Object.prototype.toString.call(new CustomEvent("c")), "[object CustomEvent]");
});

test("EventTarget", () => {
  const t = new EventTarget();
  const seen = [];
  const f = (e) => seen.push(["f", e.target === t, e.eventPhase]);
  t.addEventListener("x", f);
  t.addEventListener("x", f);
  t.addEventListener("x", { handleEvent: (e) => seen.push(["object", e.type]) });
  t.addEventListener("x", () => seen.push(["capture"]), true);
  t.addEventListener("x", () => seen.push(["once"]), { once: true });
  ok(t.dispatchEvent(new Event("x")));
  eq(seen, [["capture"], ["f", true, 2], ["object", "x"], ["once"]]);
  seen.length = 0;
  t.removeEventListener("x", f);
  t.dispatchEvent(new Event("x"));
  eq(seen, [["capture"], ["object", "x"]]);
  t.addEventListener("y", (e) => e.preventDefault());
  ok(!t.dispatchEvent(new Event("y", { cancelable: true })));
  t.addEventListener("z", (e) => {
    e.stopImmediatePropagation();
    seen.push("first");
  });
  t.addEventListener("z", () => seen.push("second"));
  seen.length = 0;
  t.dispatchEvent(new Event("z"));
  eq(seen, ["first"]);
  t.addEventListener("p", (e) => e.preventDefault(), { passive: true });
  ok(t.dispatchEvent(new Event("p", { cancelable: true })));
  t.addEventListener("n", null);
  throws(() => t.addEventListener("n", 5), TypeError);
  throws(() => t.dispatchEvent({}), TypeError);
  const again = new Event("again");
  t.addEventListener("again", (e) => throws(() => t.dispatchEvent(e), "InvalidStateError"));
  t.dispatchEvent(again);
});

test("a listener's exception does not stop the others", () => {
  const t = new EventTarget();
  let ran = false;
  let reported;
  const listen = (e) => {
    reported = e.error;
    e.preventDefault();
  };
  addEventListener("error", listen);
  const boom = new Error("boom");
  t.addEventListener("x", () => {
    throw boom;
  });
  t.addEventListener("x", () => {
    ran = true;
  });
  t.dispatchEvent(new Event("x"));
  removeEventListener("error", listen);
  ok(ran);
  eq(reported, boom);
});

test("listeners removed and added while dispatching", () => {
  const t = new EventTarget();
  const seen = [];
  const late = () => seen.push("late");
  const gone = () => seen.push("gone");
  t.addEventListener("x", () => {
    t.removeEventListener("x", gone);
    t.addEventListener("x", late);
  });
  t.addEventListener("x", gone);
  t.dispatchEvent(new Event("x"));
  eq(seen, []);
  t.dispatchEvent(new Event("x"));
  eq(seen, ["late"]);
});

test("AbortController", () => {
  const c = new AbortController();
  const seen = [];
  c.signal.onabort = (e) => seen.push(["on", e.type, e.isTrusted, e.target === c.signal]);
  c.signal.addEventListener("abort", () => seen.push(["listener"]));
  ok(!c.signal.aborted);
  eq(c.signal.reason, undefined);
  c.signal.throwIfAborted();
  c.abort();
  c.abort("twice");
  eq(seen, [["on", "abort", true, true], ["listener"]]);
  ok(c.signal.aborted);
  eq(c.signal.reason.name, "AbortError");
  throws(() => c.signal.throwIfAborted(), "AbortError");
  const d = new AbortController();
  d.abort(5);
  eq(d.signal.reason, 5);
  eq(AbortSignal.abort("r").reason, "r");
  ok(AbortSignal.abort().aborted);
  throws(() => new AbortSignal(), TypeError);
  const e = new AbortController();
  let n = 0;
  e.signal.onabort = () => n++;
  e.signal.onabort = null;
  eq(e.signal.onabort, null);
  e.abort();
  eq(n, 0);
});

test("addEventListener with a signal", () => {
  const t = new EventTarget();
  const c = new AbortController();
  let n = 0;
  t.addEventListener("x", () => n++, { signal: c.signal });
  t.dispatchEvent(new Event("x"));
  c.abort();
  t.dispatchEvent(new Event("x"));
  eq(n, 1);
  t.addEventListener("x", () => n++, { signal: c.signal });
  t.dispatchEvent(new Event("x"));
  eq(n, 1);
});

test("AbortSignal.any and timeout", async () => {
  const a = new AbortController();
  const b = new AbortController();
  const any = AbortSignal.any([a.signal, b.signal]);
  const chain = AbortSignal.any([any]);
  const order = [];
  a.signal.onabort = () => order.push("source");
  any.onabort = () => order.push("any");
  chain.onabort = () => order.push("chain");
  ok(!any.aborted);
  a.abort("why");
  eq([any.aborted, any.reason, chain.aborted, chain.reason], [true, "why", true, "why"]);
  eq(order, ["source", "any", "chain"]);
  ok(AbortSignal.any([AbortSignal.abort(1)]).aborted);
  ok(!AbortSignal.any([]).aborted);
  throws(() => AbortSignal.any([{}]), TypeError);
  throws(() => AbortSignal.any(5), TypeError);
  const t = AbortSignal.timeout(5);
  ok(!t.aborted);
  await new Promise((resolve) => {
    t.onabort = resolve;
  });
  eq(t.reason.name, "TimeoutError");
  throws(() => AbortSignal.timeout(-1), TypeError);
  throws(() => AbortSignal.timeout("x"), TypeError);
});

test("DOMException", () => {
  const e = new DOMException("m", "NotFoundError");
  eq([e.name, e.message, e.code], ["NotFoundError", "m", 8]);
  ok(e instanceof Error);
  ok(typeof e.stack === "string" && e.stack.includes("NotFoundError: m"));
  eq(String(e), "NotFoundError: m");
  eq(new DOMException().name, "Error");
  eq(new DOMException("x", "Made").code, 0);
  eq(DOMException.ABORT_ERR, 20);
  eq(e.DATA_CLONE_ERR, 25);
  eq(Object.prototype.toString.call(e), "[object DOMException]");
  eq(new DOMException("m", { name: "N", cause: 5 }).cause, 5);
});

test("members of events have the brand", () => {
  for (const name of ["cancelBubble", "returnValue"]) {
    const { get, set } = Object.getOwnPropertyDescriptor(Event.prototype, name);
    throws(() => get.call({}), TypeError, name);
    for (const value of [true, false]) throws(() => set.call({}, value), TypeError, name);
  }
});
