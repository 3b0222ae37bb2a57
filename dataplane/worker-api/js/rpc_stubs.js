// What programs hold of other Workers: stubs, promises of answers, and services that were passed on; and what others may reach here. A rare file.
//
// A proxy of ours stands for a *target*, which can be asked: `ask(path, args)` calls what is at a path, or gets it where there are no `args`,
// and gives a `Question`. Targets: `Question`, an answer of which more is asked before it has come; `Handle`, what a session's peer exports;
// `Local`, something here; `Service`, another Worker (services.js).
(function (ops, lib) {
  "use strict";
  const {
    ArrayIsArray, ArrayPrototypePush, Error, Map, MapPrototypeGet, MapPrototypeSet, Object, ObjectDefineProperty, ObjectGetOwnPropertyDescriptor,
    ObjectGetPrototypeOf, ObjectHasOwn, PromisePrototypeFinally, PromisePrototypeThen, PromiseReject, PromiseResolve, Proxy, ReflectApply, ReflectGet,
    Symbol, TypeError, WeakMap, WeakMapPrototypeGet, WeakMapPrototypeSet, newDeferred, setHandled,
  } = lib.p;
  const SymbolDispose = Symbol.dispose;
  const PATH_MAX = 64;

  const OVER = "The RPC stub was used after it was disposed.";
  const FOREIGN = "Cannot perform I/O on behalf of a different request: the RPC stub belongs to the request that got it.";

  // The request that the running flow of control belongs to.
  function request() {
    const flow = ops.flow();
    return typeof flow === "number" ? flow : flow?.[0];
  }

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
        : PromisePrototypeFinally(promise, first);
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
    // How many promises this one is in.
    depth = 0;
    constructor(session, id) {
      this.session = session;
      this.id = id;
      setHandled(this.deferred.promise);
    }
    ask(path, args) {
      if (!this.settled && this.session !== undefined) {
        return this.session.request === request() ? this.session.call(["q", this.id], path, args) : failed(new Error(FOREIGN));
      }
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
    if (!lib.isObject(value) || stateOf(value) !== undefined || lib.serviceOf(value) !== undefined || ObjectHasOwn(value, SymbolDispose)) return;
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
      if (this.disposed) return failed(new Error(OVER));
      return this.session.request === request() ? this.session.call(["i", this.id], path, args) : failed(new Error(FOREIGN));
    }
    dup() {
      if (this.disposed) throw new Error(OVER);
      return new Handle(this.session, this.id);
    }
    dispose() {
      if (this.disposed) return;
      this.disposed = true;
      this.session.release(this.id);
    }
  }

  // A service that another Worker has passed on: it is that Worker which calls it.
  class RemoteService {
    handle;
    constructor(handle) {
      this.handle = handle;
    }
    get disposed() {
      return this.handle.disposed;
    }
    fetch(input, init) {
      try {
        const request = lib.isRequest(input) && init === undefined ? input : new lib.Request(input, init);
        const signal = lib.requestSignal(request);
        if (signal !== undefined && lib.signalAborted(signal)) return PromiseReject(lib.signalReason(signal));
        return this.send(request, signal);
      } catch (error) {
        return PromiseReject(error);
      }
    }
    send(request, signal) {
      const answer = newDeferred();
      const question = this.handle.ask(["fetch"], [request]);
      const abort = (reason) => {
        question.dispose();
        answer.reject(reason);
      };
      const ended = (response) => {
        if (signal !== undefined) lib.removeAbortAlgorithm(signal, abort);
        if (lib.isResponse(response)) answer.resolve(response);
        else answer.reject(new TypeError("The service gave no Response"));
      };
      if (signal !== undefined) lib.addAbortAlgorithm(signal, abort);
      PromisePrototypeThen(question.deferred.promise, ended, (error) => {
        if (signal !== undefined) lib.removeAbortAlgorithm(signal, abort);
        answer.reject(error);
      });
      return answer.promise;
    }
    ask(path, args) {
      return this.handle.ask(path, args);
    }
    dup() {
      return new RemoteService(this.handle.dup());
    }
    dispose() {
      this.handle.dispose();
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
      if (this.disposed) return failed(new Error(OVER));
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
    if (stateOf(object) !== undefined) {
      if (RESERVED[key] === true && key !== "fetch" || CHAINS[key] === true) throw missing(key);
      return object[key];
    }
    if (lib.serviceOf(object) !== undefined) {
      if (RESERVED[key] === true && key !== "fetch") throw missing(key);
      return object[key];
    }
    if (isTarget(object)) return targetMember(object, key);
    if (lib.isObject(object) && typeof object !== "function") {
      const prototype = ObjectGetPrototypeOf(object);
      const plain = prototype === null || prototype === Object.prototype || ArrayIsArray(object);
      if (plain && ObjectHasOwn(object, key)) return object[key];
    }
    throw missing(key);
  }

  const RESERVED = { __proto__: null, constructor: true, fetch: true, connect: true, dup: true, alarm: true, webSocketMessage: true, webSocketClose: true, webSocketError: true };

  // Of stubs themselves.
  const CHAINS = { __proto__: null, then: true, catch: true, finally: true };

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

  lib.rpcStubs = {
    __proto__: null,
    STUB, PROMISE, PATH_MAX, Question, Handle, Main, RemoteService, disposeAll, failed, isTarget, makeProxy, perform, request, stateOf,
  };
  lib.rpcClasses = { __proto__: null, RpcStub, RpcPromise, RpcProperty };
  lib.goesByReference = (value) => typeof value === "function" || isTarget(value) || lib.serviceOf(value) !== undefined;
  // The promise that a stub of an answer, or of a property, is.
  lib.promiseOf = (value) => {
    const state = stateOf(value);
    return state === undefined || state.kind === STUB ? undefined : state.get();
  };
  lib.serviceProperty = (target, key) => makeProxy(PROPERTY, target, [key]);
})
