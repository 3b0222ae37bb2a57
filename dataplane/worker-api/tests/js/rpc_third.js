// A Worker that the tests' caller passes on to their callee.
import { RpcTarget, WorkerEntrypoint } from "cloudflare:workers";

let told = 0;
class Item extends RpcTarget {
  #name;
  constructor(name) {
    super();
    this.#name = name;
  }
  name() {
    return this.#name;
  }
  [Symbol.dispose]() {
    told++;
  }
}

export default class extends WorkerEntrypoint {
  #own = "private";
  third(n) {
    return `third ${n}`;
  }
  item(name) {
    return new Item(name);
  }
  async told() {
    return told;
  }
  fails() {
    throw new RangeError("the third's own");
  }
  get own() {
    return this.#own;
  }
  async fetch(request) {
    const { pathname } = new URL(request.url);
    if (pathname === "/stream") {
      let left = 100;
      return new Response(new ReadableStream({ pull: (c) => (left-- > 0 ? c.enqueue(new Uint8Array(1000)) : c.close()) }));
    }
    if (pathname === "/redirect") return new Response(null, { status: 302, headers: { Location: "/after" } });
    if (pathname === "/never") await new Promise((done) => setTimeout(done, 60_000));
    if (pathname === "/throw") throw new RangeError("thrown by the third");
    return new Response(`${request.method} ${pathname} ${await request.text()}`, { status: 203, headers: { "x-third": "3" } });
  }
}
