// Calls between Workers: sessions, and the stubs that programs hold. A rare file.
//
// A session is one call of an entrypoint and all that comes of it: calls pipelined on its result, of the stubs in it, and of what was passed
// along. It lasts until neither side holds anything of the other's, or a request of it ends. Both sides are the same: what one exports
// (functions, targets) the other imports, by numbers. Messages go in frames, one chunk of the upload or the response each; native code pulls them.
//
// | message | meaning |
// |---|---|
// | call q target path args | call what is at `path` from `target`; without `args`: get it. `target`: `["i", export]` or `["q", earlier call]` |
// | ret q value, err q value | the answer |
// | fin q | nothing more will be asked of that call's result |
// | drop id | an import is let go |
// | pull s, chunk s bytes, close s, fail s error, stop s | a stream's: the reader's `pull` and `stop`, the source's others |
//
// Bounds: MESSAGE_BYTES_MAX; what a session holds is the isolates' memory, and each side's CPU time is its own request's.
(function (ops, lib) {
  "use strict";
  const {
    ArrayIsArray, ArrayPrototypePush, Error, JSONParse, JSONStringify, Map, MapIteratorNext, MapPrototypeClear, MapPrototypeDelete, MapPrototypeEntries,
    MapPrototypeGet, MapPrototypeGetSize, MapPrototypeSet, MathFloor, NumberIsInteger, ObjectDefineProperty, ObjectGetOwnPropertyDescriptor, ObjectGetPrototypeOf,
    ObjectHasOwn, Object, PromisePrototypeThen, PromiseResolve, Proxy, ReflectApply, ReflectGet, Symbol, TypeError, TypedArrayPrototypeGetLength,
    TypedArrayPrototypeSet, TypedArrayPrototypeSubarray, Uint8Array, WeakMap, WeakMapPrototypeGet, WeakMapPrototypeSet, newDeferred, noop, setHandled,
  } = lib.p;
  const SymbolDispose = Symbol.dispose;
  lib.load("rpc_values.js");
  lib.load("invoke.js");
  lib.load("services.js");
  const { Decoder, Encoder, broken, refuse, writing } = lib.rpcValues;
  const { tables } = lib;

  // What Cloudflare's runtime allows.
  const MESSAGE_BYTES_MAX = 32 * 1024 * 1024;
  // Messages are put into one frame up to this.
  const FRAME_BYTES_MAX = 256 * 1024;
  const PATH_MAX = 64;
  const BODY_STREAM = 2;

  // ---- Stubs.

  const STUB = 0;
  const PROMISE = 1;
  const PROPERTY = 2;

  // What a proxy of ours stands for: something that can be called, and a path from there.
  class StubState {
    kind;
    target;
    path;
    fetched = undefined;
    constructor(kind, target, path) {
      this.kind = kind;
      this.target = target;
      this.path = path;
    }
    get() {
      if (this.kind === PROMISE) return this.target.deferred.promise;
      if (this.fetched === undefined) this.fetched = this.target.ask(this.path, undefined).deferred.promise;
      return this.fetched;
    }
  }

  const states = new WeakMap();
  const stateOf = (value) => typeof value === "function" ? WeakMapPrototypeGet(states, value) : undefined;

  class RpcStub {
    constructor(value) {
      if (stateOf(value) === undefined && !isTarget(value) && typeof value !== "function") throw new TypeError("RpcStub: the value is neither an RpcTarget nor a function");
      return makeProxy(STUB, new Local(value), []);
    }
  }
  class RpcPromise {
    constructor() {
      throw lib.illegalConstructor();
    }
  }
  class RpcProperty {
    constructor() {
      throw lib.illegalConstructor();
    }
  }
  const classes = [RpcStub, RpcPromise, RpcProperty];

  const traps = {
    __proto__: null,
    get(proxy, key) {
      const state = WeakMapPrototypeGet(states, proxy);
      if (typeof key === "symbol") {
        return key === SymbolDispose && state.kind !== PROPERTY ? () => state.target.dispose() : undefined;
      }
      if (key === "then" || key === "catch" || key === "finally") return state.kind === STUB ? undefined : chain(state, key);
      if (state.kind === STUB && key === "dup") return () => makeProxy(STUB, state.target.dup(), state.path);
      if (key === "constructor") return classes[state.kind];
      if (state.path.length >= PATH_MAX) throw new TypeError(`A path of more than ${PATH_MAX} properties cannot be asked of another Worker`);
      return makeProxy(PROPERTY, state.target, add(state.path, key));
    },
    apply(proxy, self, args) {
      const state = WeakMapPrototypeGet(states, proxy);
      return makeProxy(PROMISE, state.target.ask(state.path, args), []);
    },
    getPrototypeOf: (proxy) => classes[WeakMapPrototypeGet(states, proxy).kind].prototype,
    has: () => false,
    set: () => false,
    defineProperty: () => false,
    deleteProperty: () => false,
    setPrototypeOf: () => false,
    preventExtensions: () => false,
    ownKeys: () => [],
    getOwnPropertyDescriptor: () => undefined,
  };

  // The inner function is what the traps are told of; the proxy is what programs have.
  function makeProxy(kind, target, path) {
    const inner = () => {};
    delete inner.name;
    delete inner.length;
    const state = new StubState(kind, target, path);
    WeakMapPrototypeSet(states, inner, state);
    const proxy = new Proxy(inner, traps);
    WeakMapPrototypeSet(states, proxy, state);
    return proxy;
  }

  function add(path, key) {
    const longer = [];
    for (let i = 0; i < path.length; i++) ArrayPrototypePush(longer, path[i]);
    ArrayPrototypePush(longer, key);
    return longer;
  }

  function chain(state, key) {
    return (first, second) => {
      const promise = state.get();
      return key === "then" ? PromisePrototypeThen(promise, first, second)
        : key === "catch" ? PromisePrototypeThen(promise, undefined, first)
        : lib.p.PromisePrototypeFinally(promise, first);
    };
  }

  // A call whose answer is awaited, or has come.
  class Question {
    session;
    id;
    deferred = newDeferred();
    settled = false;
    failed = false;
    value = undefined;
    handles = undefined;
    disposed = false;
    constructor(session, id) {
      this.session = session;
      this.id = id;
      setHandled(this.deferred.promise);
    }
    ask(path, args) {
      if (!this.settled && this.session !== undefined) return this.session.call(["q", this.id], path, args);
      return answerOf(PromisePrototypeThen(this.deferred.promise, (value) => perform(value, path, args)));
    }
    resolve(value, handles) {
      this.settled = true;
      this.value = value;
      this.handles = handles;
      if (this.disposed) disposeAll(handles);
      else attachDispose(value, handles);
      this.deferred.resolve(value);
    }
    reject(error) {
      this.settled = true;
      this.failed = true;
      this.deferred.reject(error);
    }
    dispose() {
      if (this.disposed) return;
      this.disposed = true;
      if (this.handles !== undefined) disposeAll(this.handles);
    }
  }

  // The answer of something here, as if it were another Worker's.
  function answerOf(promise) {
    const question = new Question(undefined, 0);
    PromisePrototypeThen(promise, (value) => question.resolve(value, []), (error) => question.reject(error));
    return question;
  }

  function disposeAll(handles) {
    for (let i = 0; i < handles.length; i++) handles[i].dispose();
  }

  // `using` takes every object that a call gave.
  function attachDispose(value, handles) {
    if (!lib.isObject(value) || stateOf(value) !== undefined || ObjectHasOwn(value, SymbolDispose)) return;
    ObjectDefineProperty(value, SymbolDispose, {
      __proto__: null, value: () => disposeAll(handles), writable: true, configurable: true, enumerable: false,
    });
  }

  // One reference to what the peer exports; an export is let go when all of them are disposed.
  class Handle {
    session;
    id;
    disposed = false;
    constructor(session, id) {
      this.session = session;
      this.id = id;
      MapPrototypeSet(session.imports, id, (MapPrototypeGet(session.imports, id) ?? 0) + 1);
    }
    ask(path, args) {
      if (this.disposed) return failed(new Error("The RPC stub was used after it was disposed."));
      return this.session.call(["i", this.id], path, args);
    }
    dup() {
      if (this.disposed) throw new Error("The RPC stub was used after it was disposed.");
      return new Handle(this.session, this.id);
    }
    dispose() {
      if (this.disposed) return;
      this.disposed = true;
      this.session.release(this.id);
    }
  }

  function failed(error) {
    const question = new Question(undefined, 0);
    question.reject(error);
    return question;
  }

  // A stub of something here.
  class Local {
    value;
    disposed = false;
    constructor(value) {
      this.value = value;
    }
    ask(path, args) {
      if (this.disposed) return failed(new Error("The RPC stub was used after it was disposed."));
      return answerOf(PromisePrototypeThen(PromiseResolve(undefined), () => perform(this.value, path, args)));
    }
    dup() {
      return new Local(this.value);
    }
    dispose() {
      this.disposed = true;
    }
  }

  // ---- What may be reached.

  const isTarget = (value) => lib.isRpcTarget !== undefined && lib.isRpcTarget(value);

  const missing = (name) => new TypeError(`The RPC receiver does not implement the method "${name}".`);

  // The entrypoint of a session.
  class Main {
    #entry;
    constructor(entry) {
      this.#entry = entry;
    }
    static is(value) {
      return lib.isObject(value) && #entry in value;
    }
    static entryOf(main) {
      return main.#entry;
    }
  }

  // A property that another Worker may see: of a target what its classes define, of a plain object its own.
  function member(object, key) {
    if (Main.is(object)) return entryMember(Main.entryOf(object), key);
    if (stateOf(object) !== undefined) return object[key];
    if (isTarget(object)) return targetMember(object, key);
    if (lib.isObject(object) && typeof object !== "function") {
      const prototype = ObjectGetPrototypeOf(object);
      const plain = prototype === null || prototype === Object.prototype || ArrayIsArray(object);
      if (plain && ObjectHasOwn(object, key)) return object[key];
    }
    throw missing(key);
  }

  const RESERVED = { __proto__: null, constructor: true, fetch: true, connect: true, dup: true, alarm: true, webSocketMessage: true, webSocketClose: true, webSocketError: true };

  function targetMember(object, key) {
    if (RESERVED[key] === true || ObjectGetOwnPropertyDescriptor(object, key) !== undefined) throw missing(key);
    for (let at = ObjectGetPrototypeOf(object); at !== null && !lib.isRpcBase(at) && at !== Object.prototype; at = ObjectGetPrototypeOf(at)) {
      if (ObjectGetOwnPropertyDescriptor(at, key) !== undefined) return ReflectGet(at, key, object);
    }
    throw missing(key);
  }

  function entryMember(entry, key) {
    const { object } = entry;
    if (entry.isClass) return targetMember(object, key);
    if (RESERVED[key] === true || !(key in object) || key in Object.prototype) throw missing(key);
    const found = object[key];
    if (typeof found !== "function") return found;
    // As Cloudflare has it: such a function has one argument of the caller's.
    return (...args) => {
      if (args.length > 1) {
        throw new TypeError(`Cannot call handler function "${key}" over RPC with ${args.length} arguments: it gets (arg, env, ctx), of which only the first comes from the caller. A class that extends WorkerEntrypoint has methods of any number of arguments.`);
      }
      return ReflectApply(found, object, [args[0], lib.env(), entry.context]);
    };
  }

  // Walks a path and calls what is there, or gives it.
  function perform(root, path, args) {
    let receiver = undefined;
    let at = root;
    for (let i = 0; i < path.length; i++) {
      receiver = at;
      at = member(at, path[i]);
    }
    if (args === undefined) {
      if (typeof at !== "function" || stateOf(at) !== undefined || receiver === undefined) return at;
      const owner = Main.is(receiver) ? Main.entryOf(receiver).object : receiver;
      return (...rest) => ReflectApply(at, owner, rest);
    }
    if (typeof at !== "function") throw path.length === 0 ? new TypeError("The RPC receiver is not a function.") : new TypeError(`"${path[path.length - 1]}" is not a function.`);
    return ReflectApply(at, Main.is(receiver) ? Main.entryOf(receiver).object : receiver, args);
  }

  // ---- Sessions.

  class Session {
    link = undefined;
    outbox = [];
    pulled = false;
    flushing = false;
    // What the peer exports, with how many handles there are.
    imports = new Map();
    // What we export: number to value.
    exports = new Map();
    // Our calls, and the peer's.
    questions = new Map();
    answers = new Map();
    // Streams that we read from for the peer, and those that the peer reads for us.
    sources = new Map();
    sinks = new Map();
    next = 1;
    running = 0;
    peerEnded = false;
    over = false;
    error = undefined;
    // Numbers given to what the message that is put together refers to.
    made = [];

    // Calls what is at a path from a target of the peer's.
    call(target, path, args) {
      if (this.over) return failed(this.error ?? new Error("The RPC session is over."));
      const id = this.next++;
      const question = new Question(this, id);
      let encoded;
      try {
        encoded = args === undefined ? undefined : this.encode(args);
      } catch (error) {
        return failed(error);
      }
      MapPrototypeSet(this.questions, id, question);
      const body = encoded === undefined ? ["call", id, target, path] : ["call", id, target, path, encoded.node];
      try {
        this.send(body, encoded === undefined ? [] : encoded.parts);
      } catch (error) {
        MapPrototypeDelete(this.questions, id);
        this.unmake(encoded.made);
        question.reject(error);
      }
      return question;
    }

    encode(value) {
      const encoder = new Encoder(this);
      this.made = [];
      try {
        const node = encoder.value(value);
        return { __proto__: null, node, parts: encoder.parts, made: this.made };
      } catch (error) {
        this.unmake(this.made);
        throw error;
      }
    }

    unmake(made) {
      for (let i = 0; i < made.length; i++) {
        writing.unlock(MapPrototypeGet(this.exports, made[i]));
        MapPrototypeDelete(this.exports, made[i]);
        const source = MapPrototypeGet(this.sources, made[i]);
        if (source === undefined) continue;
        MapPrototypeDelete(this.sources, made[i]);
        setHandled(source.cancel(undefined));
      }
    }

    // How a value goes that goes by reference; none for any other.
    reference(value) {
      const state = stateOf(value);
      if (state !== undefined) {
        if (state.kind !== STUB) throw refuse("A promise of another Worker's, which is to be awaited first,");
        const { target } = state;
        if (target.disposed) throw new Error("The RPC stub was used after it was disposed.");
        if (target instanceof Handle && target.session === this && state.path.length === 0) return ["h", target.id];
        return ["f", this.give(makeProxy(STUB, target.dup(), state.path))];
      }
      return typeof value === "function" || isTarget(value) ? ["f", this.give(value)] : undefined;
    }

    give(value) {
      const id = this.next++;
      MapPrototypeSet(this.exports, id, value);
      ArrayPrototypePush(this.made, id);
      return id;
    }

    dereference(node, handles) {
      const id = node[1];
      if (!NumberIsInteger(id)) throw broken();
      if (node[0] === "h") {
        const value = MapPrototypeGet(this.exports, id);
        if (value === undefined || Main.is(value)) throw broken();
        return value;
      }
      const handle = new Handle(this, id);
      ArrayPrototypePush(handles, handle);
      return makeProxy(STUB, handle, []);
    }

    release(id) {
      const left = (MapPrototypeGet(this.imports, id) ?? 1) - 1;
      if (left > 0) {
        MapPrototypeSet(this.imports, id, left);
        return;
      }
      MapPrototypeDelete(this.imports, id);
      if (!this.over) this.send(["drop", id], []);
    }

    sendStream(stream) {
      const reader = lib.streamReader(stream);
      const id = this.next++;
      MapPrototypeSet(this.sources, id, reader);
      ArrayPrototypePush(this.made, id);
      return id;
    }

    receiveStream(id) {
      if (!NumberIsInteger(id) || MapPrototypeGet(this.sinks, id) !== undefined) throw broken();
      const sink = lib.nativeStream(
        () => {
          if (this.over) this.endSink(id, (native) => native.fail(this.error ?? new TypeError("The RPC session is over.")));
          else this.send(["pull", id], []);
        },
        () => {
          MapPrototypeDelete(this.sinks, id);
          if (!this.over) this.send(["stop", id], []);
        },
      );
      MapPrototypeSet(this.sinks, id, sink);
      return sink.stream;
    }

    // A stream that the peer writes to.
    giveSink(stream) {
      return this.give(writing.functionOf(stream));
    }

    receiveSink(id) {
      if (!NumberIsInteger(id)) throw broken();
      return writing.streamOf(new Handle(this, id));
    }

    endSink(id, end) {
      const sink = MapPrototypeGet(this.sinks, id);
      if (sink === undefined) return;
      MapPrototypeDelete(this.sinks, id);
      end(sink);
    }

    // ---- Frames.

    send(body, parts) {
      const text = JSONStringify(body);
      let bytes = text.length;
      for (let i = 0; i < parts.length; i++) bytes += TypedArrayPrototypeGetLength(parts[i]);
      if (bytes > MESSAGE_BYTES_MAX) {
        throw new TypeError(`Serialized RPC arguments or return values are limited to 32MiB, but the size of this value was: ${bytes} bytes.`);
      }
      ArrayPrototypePush(this.outbox, { __proto__: null, text, parts, bytes, quiet: body[0] === "fin" || body[0] === "drop" });
      if (this.flushing) return;
      this.flushing = true;
      // What is sent in one turn goes together.
      lib.queueMicrotask(() => {
        this.flushing = false;
        this.flush();
      });
    }

    flush() {
      if (this.over) return;
      if (this.mayEnd()) {
        this.over = true;
        this.link.end();
        this.dropExports();
        return;
      }
      if (!this.pulled || this.outbox.length === 0) return;
      let header = "[[";
      const parts = [];
      let bytes = 0;
      let taken = 0;
      for (; taken < this.outbox.length && (taken === 0 || bytes + this.outbox[taken].bytes <= FRAME_BYTES_MAX); taken++) {
        const message = this.outbox[taken];
        header += `${taken === 0 ? "" : ","}[${parts.length},${message.text}]`;
        for (let i = 0; i < message.parts.length; i++) ArrayPrototypePush(parts, message.parts[i]);
        bytes += message.bytes;
      }
      header += "],[";
      for (let i = 0; i < parts.length; i++) header += `${i === 0 ? "" : ","}${TypedArrayPrototypeGetLength(parts[i])}`;
      const rest = [];
      for (let i = taken; i < this.outbox.length; i++) ArrayPrototypePush(rest, this.outbox[i]);
      this.outbox = rest;
      this.pulled = false;
      this.link.chunk(frame(`${header}]]`, parts));
    }

    // Whether nothing more can come of it. What only lets go of something need not be said then.
    mayEnd() {
      if (this.running !== 0 || MapPrototypeGetSize(this.questions) !== 0 || MapPrototypeGetSize(this.sources) !== 0 || MapPrototypeGetSize(this.sinks) !== 0) return false;
      for (let i = 0; i < this.outbox.length; i++) if (!this.outbox[i].quiet) return false;
      return this.link.served ? this.peerEnded : MapPrototypeGetSize(this.imports) === 0 && MapPrototypeGetSize(this.exports) === 0;
    }

    // The peer, or the way to it, is gone.
    fail(error) {
      if (this.over) return;
      this.over = true;
      this.error = error;
      this.outbox = [];
      const questions = MapPrototypeEntries(this.questions);
      for (let step = MapIteratorNext(questions); !step.done; step = MapIteratorNext(questions)) step.value[1].reject(error);
      MapPrototypeClear(this.questions);
      const sinks = MapPrototypeEntries(this.sinks);
      for (let step = MapIteratorNext(sinks); !step.done; step = MapIteratorNext(sinks)) step.value[1].fail(error);
      MapPrototypeClear(this.sinks);
      const sources = MapPrototypeEntries(this.sources);
      for (let step = MapIteratorNext(sources); !step.done; step = MapIteratorNext(sources)) setHandled(step.value[1].cancel(error));
      MapPrototypeClear(this.sources);
      this.dropExports();
    }

    dropExports() {
      const all = MapPrototypeEntries(this.exports);
      const values = [];
      for (let step = MapIteratorNext(all); !step.done; step = MapIteratorNext(all)) ArrayPrototypePush(values, step.value[1]);
      MapPrototypeClear(this.exports);
      for (let i = 0; i < values.length; i++) letGo(values[i]);
    }

    // A frame of the peer's.
    receive(bytes) {
      if (this.over) return;
      try {
        const { messages, parts } = unframe(bytes);
        for (let i = 0; i < messages.length && !this.over; i++) {
          if (!ArrayIsArray(messages[i]) || !NumberIsInteger(messages[i][0]) || !ArrayIsArray(messages[i][1])) throw broken();
          this.message(messages[i][1], parts, messages[i][0]);
        }
      } catch (error) {
        const { link } = this;
        this.fail(error);
        link.abort(error);
        return;
      }
      // Microtasks first: what this has brought about may be sent along.
      lib.queueMicrotask(() => this.flush());
    }

    message(body, parts, base) {
      const id = body[1];
      if (!NumberIsInteger(id)) throw broken();
      switch (body[0]) {
        case "call":
          return this.called(id, body, parts, base);
        case "ret":
        case "err":
          return this.answered(id, body, parts, base);
        case "fin":
          MapPrototypeDelete(this.answers, id);
          return;
        case "drop": {
          const value = MapPrototypeGet(this.exports, id);
          if (!MapPrototypeDelete(this.exports, id)) throw broken();
          letGo(value);
          return;
        }
        case "pull":
          return this.pullSource(id);
        case "stop": {
          const source = MapPrototypeGet(this.sources, id);
          if (source === undefined) return;
          MapPrototypeDelete(this.sources, id);
          setHandled(source.cancel(new TypeError("The other Worker does not want the rest of the stream")));
          return;
        }
        case "chunk":
          if (parts[base] === undefined) throw broken();
          MapPrototypeGet(this.sinks, id)?.push(parts[base]);
          return;
        case "close":
          return this.endSink(id, (sink) => sink.end());
        case "fail":
          return this.endSink(id, (sink) => sink.fail(new Decoder(this, parts, base).value(body[2])));
        default:
          throw broken();
      }
    }

    pullSource(id) {
      const source = MapPrototypeGet(this.sources, id);
      if (source === undefined) return;
      const error = (error) => {
        if (!MapPrototypeDelete(this.sources, id)) return;
        const parts = lib.errorParts(error);
        this.send(["fail", id, ["e", parts.name, parts.message]], []);
      };
      const read = (result) => {
        if (this.over || MapPrototypeGet(this.sources, id) !== source) return;
        if (result.done) {
          MapPrototypeDelete(this.sources, id);
          this.send(["close", id], []);
        } else if (!lib.isUint8Array(result.value)) {
          setHandled(source.cancel(undefined));
          error(new TypeError("A stream that is sent to another Worker gave a chunk that is not a Uint8Array"));
        } else if (TypedArrayPrototypeGetLength(result.value) === 0) {
          this.pullSource(id);
        } else {
          this.send(["chunk", id], [lib.p.TypedArrayPrototypeSlice(result.value)]);
        }
      };
      PromisePrototypeThen(source.read(), read, error);
    }

    // A call of the peer's.
    called(id, body, parts, base) {
      const target = body[2];
      const path = body[3];
      if (!ArrayIsArray(target) || !ArrayIsArray(path) || path.length > PATH_MAX || MapPrototypeGet(this.answers, id) !== undefined) throw broken();
      for (let i = 0; i < path.length; i++) if (typeof path[i] !== "string") throw broken();
      const root = target[0] === "i" ? MapPrototypeGet(this.exports, target[1]) : MapPrototypeGet(this.answers, target[1]);
      if (root === undefined) throw broken();
      const decoder = new Decoder(this, parts, base);
      const args = body.length > 4 ? decoder.value(body[4]) : undefined;
      if (args !== undefined && !ArrayIsArray(args)) throw broken();
      this.running++;
      let result;
      try {
        if (target[0] === "i") result = PromiseResolve(perform(root, path, args));
        else result = PromisePrototypeThen(root, (value) => perform(value, path, args));
      } catch (error) {
        result = lib.p.PromiseReject(error);
      }
      result = settle(result);
      setHandled(result);
      MapPrototypeSet(this.answers, id, result);
      PromisePrototypeThen(result, (value) => this.reply(id, value, decoder.handles), (error) => this.replyError(id, error, decoder.handles));
    }

    reply(id, value, handles) {
      if (this.over) return;
      let encoded;
      try {
        encoded = this.encode(value);
        this.send(["ret", id, encoded.node], encoded.parts);
      } catch (error) {
        if (encoded !== undefined) this.unmake(encoded.made);
        this.replyError(id, error, handles);
        return;
      }
      this.replied(handles);
    }

    replyError(id, error, handles) {
      if (this.over) return;
      if (this.link.served) ops.log(3, `Uncaught (in a call of another Worker) ${lib.describeError(error)}`);
      const parts = lib.errorParts(error);
      this.send(["err", id, ["e", parts.name, parts.message]], []);
      this.replied(handles);
    }

    // What came with a call is the callee's until it has answered; it keeps a `dup()`.
    replied(handles) {
      this.running--;
      disposeAll(handles);
    }

    answered(id, body, parts, base) {
      const question = MapPrototypeGet(this.questions, id);
      if (question === undefined) throw broken();
      const decoder = new Decoder(this, parts, base);
      const value = decoder.value(body[2]);
      MapPrototypeDelete(this.questions, id);
      // All that was asked of its result is on the way before this.
      this.send(["fin", id], []);
      if (body[0] === "ret") question.resolve(value, decoder.handles);
      else question.reject(value);
    }
  }

  // The value that a promise, or what behaves like one, comes to.
  function settle(promise) {
    return PromisePrototypeThen(promise, (value) => value);
  }

  // The peer has let go of something of ours.
  function letGo(value) {
    if (value === undefined || Main.is(value)) return;
    const state = stateOf(value);
    if (writing.letGo(value)) return;
    try {
      if (state !== undefined) state.target.dispose();
      else if (typeof value[SymbolDispose] === "function") value[SymbolDispose]();
    } catch (error) {
      lib.reportException(error);
    }
  }

  function frame(header, parts) {
    const head = ops.utf8Encode(header);
    const length = TypedArrayPrototypeGetLength(head);
    let total = 4 + length;
    for (let i = 0; i < parts.length; i++) total += TypedArrayPrototypeGetLength(parts[i]);
    const bytes = new Uint8Array(total);
    for (let i = 0, left = length; i < 4; i++, left = MathFloor(left / 256)) bytes[i] = left % 256;
    TypedArrayPrototypeSet(bytes, head, 4);
    let at = 4 + length;
    for (let i = 0; i < parts.length; i++) {
      TypedArrayPrototypeSet(bytes, parts[i], at);
      at += TypedArrayPrototypeGetLength(parts[i]);
    }
    return bytes;
  }

  function unframe(bytes) {
    const total = TypedArrayPrototypeGetLength(bytes);
    const length = bytes[0] + bytes[1] * 256 + bytes[2] * 65536 + bytes[3] * 16777216;
    if (!(4 + length <= total)) throw broken();
    let header;
    try {
      header = JSONParse(ops.utf8Decode(TypedArrayPrototypeSubarray(bytes, 4, 4 + length)));
    } catch {
      throw broken();
    }
    if (!ArrayIsArray(header) || !ArrayIsArray(header[0]) || !ArrayIsArray(header[1])) throw broken();
    const parts = [];
    let at = 4 + length;
    for (let i = 0; i < header[1].length; i++) {
      const size = header[1][i];
      if (!NumberIsInteger(size) || size < 0 || at + size > total) throw broken();
      ArrayPrototypePush(parts, TypedArrayPrototypeSubarray(bytes, at, at + size));
      at += size;
    }
    return { __proto__: null, messages: header[0], parts };
  }

  // What dispatch.js has in place of a stream's reader.
  const noReader = { __proto__: null, cancel: () => PromiseResolve(undefined) };

  // ---- The caller's end.

  class CallerLink {
    served = false;
    fid;
    session;
    reader = noReader;
    constructor(session) {
      this.session = session;
    }
    // Of `tables.uploads`.
    pull() {
      this.session.pulled = true;
      this.session.flush();
    }
    chunk(bytes) {
      ops.fetchUploadChunk(this.fid, bytes);
    }
    end() {
      MapPrototypeDelete(tables.uploads, this.fid);
      MapPrototypeDelete(tables.fetchBodies, this.fid);
      ops.fetchCancel(this.fid);
    }
    abort(error) {
      lib.cancelFetch(this.fid, error);
    }
  }

  // A session with another Worker, whose entrypoint is its import 0.
  function open(service) {
    const session = new Session();
    const link = new CallerLink(session);
    session.link = link;
    const incoming = {
      __proto__: null,
      push(bytes) {
        session.receive(bytes);
        if (!session.over) ops.fetchBodyPull(link.fid);
      },
      end: () => session.fail(new Error("The Worker that was called has ended the RPC session.")),
      fail: (error) => session.fail(error),
    };
    const pending = lib.startFetch("POST", "https://rpc.invalid/", [], link, -1, service, () => {
      MapPrototypeSet(tables.fetchBodies, link.fid, incoming);
      if (session.over) return;
      ops.fetchBodyPull(link.fid);
    });
    link.fid = pending.fid;
    PromisePrototypeThen(pending.pending.promise, noop, (error) => session.fail(error));
    return session;
  }

  class Service {
    index;
    constructor(index) {
      this.index = index;
    }
    ask(path, args) {
      let session;
      try {
        session = open(this.index);
      } catch (error) {
        return failed(error);
      }
      return session.call(["i", 0], path, args);
    }
    dup() {
      return this;
    }
    dispose() {}
  }

  lib.serviceProperty = (index, key) => makeProxy(PROPERTY, new Service(index), [key]);

  // ---- The callee's end.

  class CalleeLink {
    served = true;
    rid;
    session;
    reader = noReader;
    constructor(rid, session) {
      this.rid = rid;
      this.session = session;
    }
    // Of `tables.replies`.
    pull() {
      this.session.pulled = true;
      this.session.flush();
    }
    chunk(bytes) {
      if (!ops.responseChunk(this.rid, bytes)) this.session.fail(new TypeError("The session has sent too much"));
    }
    end() {
      MapPrototypeDelete(tables.replies, this.rid);
      ops.responseEnd(this.rid);
    }
    abort(error) {
      MapPrototypeDelete(tables.replies, this.rid);
      ops.responseFailed(this.rid, lib.describeError(error));
    }
  }

  lib.serveCalls = (rid, entrypoint) => {
    const session = new Session();
    session.link = new CalleeLink(rid, session);
    try {
      MapPrototypeSet(session.exports, 0, new Main(lib.entrypoint(entrypoint, rid)));
    } catch (error) {
      const parts = lib.errorParts(error);
      ops.threw(rid, parts.name, parts.message);
      ops.requestFailed(rid, lib.describeError(error));
      return;
    }
    MapPrototypeSet(tables.requestBodies, rid, {
      __proto__: null,
      push(bytes) {
        session.receive(bytes);
        if (!session.over) ops.requestBodyPull(rid);
      },
      end() {
        session.peerEnded = true;
        session.flush();
      },
      fail: (error) => session.fail(error),
    });
    if (!ops.respond(rid, 200, [], null, BODY_STREAM, undefined, -1)) return;
    MapPrototypeSet(tables.replies, rid, session.link);
    ops.requestBodyPull(rid);
  };

  lib.rpcClasses = { __proto__: null, RpcStub, RpcPromise, RpcProperty };
  lib.isRpcStub = (value) => stateOf(value) !== undefined;
})
