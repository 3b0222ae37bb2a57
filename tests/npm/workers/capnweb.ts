import { RpcTarget, newHttpBatchRpcSession, newHttpBatchRpcResponse, newMessagePortRpcSession } from "capnweb";
import { checks, equal, fails } from "../check";

class Api extends RpcTarget {
  hello(name: string) { return `Hello ${name}`; }
  user() { return new User(); }
  fail() { throw new TypeError("as asked"); }
}
class User extends RpcTarget {
  id() { return 7; }
}

/** A session whose batch is one request to a server in this Worker. */
function batch() {
  const original = globalThis.fetch;
  globalThis.fetch = (async (input: RequestInfo, init?: RequestInit) =>
    newHttpBatchRpcResponse(new Request(input, init), new Api())) as typeof fetch;
  const session = newHttpBatchRpcSession<Api>("https://rpc.test/");
  return { session, end: () => { globalThis.fetch = original; } };
}

export default checks({
  "batch with pipelining": async () => {
    const { session, end } = batch();
    try {
      equal(await Promise.all([session.hello("Ada"), session.user().id()]), ["Hello Ada", 7]);
    } finally {
      end();
    }
  },
  errors: async () => {
    const { session, end } = batch();
    try {
      await fails(() => session.fail(), /as asked/);
    } finally {
      end();
    }
  },
  "message ports": async () => {
    const { port1, port2 } = new MessageChannel();
    newMessagePortRpcSession(port2, new Api());
    const session = newMessagePortRpcSession<Api>(port1);
    equal(await session.hello("port"), "Hello port");
    port1.close();
  },
});
