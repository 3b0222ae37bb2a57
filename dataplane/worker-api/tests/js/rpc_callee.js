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

export class Admin extends WorkerEntrypoint {
  who() {
    return "admin";
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
};

export const text = "no entrypoint";
void DurableObject;
