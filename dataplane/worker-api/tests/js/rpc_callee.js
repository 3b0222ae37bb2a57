// What the tests of calls between Workers call.
import { DurableObject, RpcTarget, WorkerEntrypoint, env, waitUntil } from "cloudflare:workers";

class Counter extends RpcTarget {
  #count;
  secret = "not to be seen";
  constructor(count) {
    super();
    this.#count = count;
  }
  increment(by = 1) {
    return (this.#count += by);
  }
  self() {
    return this;
  }
  get value() {
    return this.#count;
  }
}

let told = 0;
class Told extends RpcTarget {
  hello() {
    return "hello";
  }
  [Symbol.dispose]() {
    told++;
  }
}

class Base extends WorkerEntrypoint {
  inherited() {
    return "from the base";
  }
}

class MyError extends Error {
  name = "MyError";
  secret = 1;
}

export default class extends Base {
  secret = "instance";
  add(a, b) {
    return a + b;
  }
  echo(value) {
    return value;
  }
  echoAll(...values) {
    return values;
  }
  nothing() {}
  _private() {
    return "not private";
  }
  get getter() {
    return "got";
  }
  envAndContext() {
    waitUntil(Promise.resolve());
    return [this.env === env && this.env.GREETING, typeof this.ctx.waitUntil];
  }
  fetch(request) {
    return new Response(`b ${new URL(request.url).pathname} ${this.env.GREETING}`);
  }
  getCounter(from) {
    return new Counter(from);
  }
  manyCounters(count) {
    return Array.from({ length: count }, (_, i) => new Counter(i));
  }
  nested() {
    return { deep: { counter: new Counter(100) } };
  }
  functions() {
    return { add: (a, b) => a + b };
  }
  async callBack(call, value) {
    return await call(value);
  }
  async useTarget(target) {
    let refused;
    try {
      await target.hidden;
    } catch (error) {
      refused = error.message;
    }
    return [await target.twice(7), refused];
  }
  getTold() {
    return new Told();
  }
  async toldDisposed() {
    return told;
  }
  keep(call) {
    const kept = call.dup();
    class Kept extends RpcTarget {
      use(value) {
        return kept(value);
      }
    }
    return new Kept();
  }
  async useLater(call) {
    const { promise, resolve } = Promise.withResolvers();
    later = async () => resolve(await call(1).then(String, (error) => { throw error }));
    return call(1).then(() => {
      call[Symbol.dispose]();
      return call(2);
    });
  }
  give(what) {
    if (what === "class") return new (class Other {})();
  }
  fails() {
    const error = new RangeError("b's own");
    error.secret = 1;
    throw error;
  }
  failsOwn() {
    throw new MyError("mine");
  }
  throwsText() {
    throw "just text";
  }
  async writeAll(stream, ...chunks) {
    const writer = stream.getWriter();
    for (const chunk of chunks) await writer.write(chunk);
    await writer.close();
    return "written";
  }
  async abortStream(stream) {
    await stream.abort(new RangeError("not wanted"));
  }
  async pipeTo(stream) {
    await new Response("piped").body.pipeTo(stream);
  }
  collector() {
    return new WritableStream({
      write(chunk) {
        if (chunk === "bad") throw new RangeError("a bad chunk");
        told += chunk;
      },
    });
  }
  async readAll(stream) {
    return await new Response(stream).text();
  }
  giveStream(count) {
    let given = 0;
    return new ReadableStream({
      type: "bytes",
      pull(controller) {
        if (given++ === count) controller.close();
        else controller.enqueue(new Uint8Array(1000));
      },
    });
  }
  giveStreams() {
    return [this.giveStream(50), this.giveStream(50)];
  }
  breakingStream() {
    return new ReadableStream({
      pull(controller) {
        controller.error(new Error("broken off"));
      },
    });
  }
  makeResponse() {
    return new Response("made", { status: 201, headers: { x: "y" } });
  }
  async readRequest(request) {
    return [request.method, request.url, request.headers.get("h"), await request.text()];
  }
  readHeaders(headers) {
    return headers.get("a");
  }
  // Of a service that the caller passed on.
  async useService(service) {
    const response = await service.fetch("https://third.invalid/x", { method: "POST", body: "sent" });
    return [await service.third(1), typeof service, service instanceof Fetcher, response.status, response.headers.get("x-third"), await response.text()];
  }
  async withService(service, what, argument) {
    if (what === "stream") return (await (await service.fetch("https://third.invalid/stream")).arrayBuffer()).byteLength;
    if (what === "redirect") return await (await service.fetch("https://third.invalid/redirect")).text();
    if (what === "manual") return (await service.fetch("https://third.invalid/redirect", { redirect: "manual" })).status;
    if (what === "throw") return await service.fetch("https://third.invalid/throw").catch((error) => `${error.name}: ${error.message}`);
    if (what === "wrong") return await service.fetch("not a url").catch((error) => error.name);
    if (what === "abort") return await service.fetch("https://third.invalid/never", { signal: AbortSignal.timeout(5) }).catch((error) => error.name);
    if (what === "item") return await service.item("pipelined").name();
    if (what === "missing") return await service[argument]().catch((error) => error.message);
    if (what === "property") return await service.own;
    if (what === "disposed") {
      service[Symbol.dispose]();
      return await service.third(1).catch((error) => error.message);
    }
    if (what === "onward") return await this.env.A.third(await service.third(2));
  }
  keepService(service) {
    kept = service.dup();
    class Kept extends RpcTarget {
      use(n) {
        return kept.third(n);
      }
    }
    return new Kept();
  }
  passBack(value) {
    return { value };
  }
  keepStub(stub) {
    kept = stub.dup();
  }
  async useKept() {
    return await kept(1);
  }
  own() {
    return this.ctx.exports.Admin;
  }
  props() {
    return [this.ctx.props, this.ctx.props === this.ctx.props];
  }
  // Of promises.
  describe(value) {
    return JSON.stringify(value, (key, value) => (value instanceof Map ? { map: [...value] } : value instanceof Set ? { set: [...value] } : value));
  }
  state() {
    return shared;
  }
  promised() {
    return { now: 1, later: Promise.resolve({ deep: Promise.resolve("value") }), counter: Promise.resolve(new Counter(7)) };
  }
  async sum(...values) {
    return values.reduce((a, b) => a + b);
  }
  order() {
    const seen = [];
    return Object.assign(new (class extends RpcTarget {
      add(value) {
        seen.push(value);
      }
      change(object) {
        object.changed = true;
        return object;
      }
      get seen() {
        return seen;
      }
      get shared() {
        return shared;
      }
      wait(ms) {
        return new Promise((done) => setTimeout(() => done(ms), ms));
      }
    })());
  }
  burn() {
    for (;;);
  }
  never() {
    return new Promise(() => {});
  }
  async pong(n) {
    return n <= 0 ? "end" : await this.env.A.ping(n - 1);
  }
}
let later;
let kept;
const shared = { count: 1 };

export class Admin extends WorkerEntrypoint {
  who() {
    return "admin";
  }
  props() {
    return this.ctx.props;
  }
}

export class Throws extends WorkerEntrypoint {
  constructor(ctx, env) {
    super(ctx, env);
    throw new Error("in the constructor");
  }
  who() {}
}

export const plain = {
  double: (value, env, ctx) => [value * 2, env.GREETING, typeof ctx.waitUntil],
  props: (value, env, ctx) => ctx.props,
  fetch: (request, env, ctx) => Response.json(ctx.props),
};

export const text = "no entrypoint";
void DurableObject;
