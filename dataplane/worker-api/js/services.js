// Other Workers in `env`, and the Worker's own entrypoints in `ctx.exports`. A rare file: it runs where a Worker has one or asks for the other.
//
// A request to one goes like an outbound one, by the place of its binding, and reaches no socket. Any other property is a method or a
// property of the entrypoint there, see rpc.js; a stub that another Worker has passed on leads back to that Worker (rpc_stubs.js).
(function (ops, lib) {
  "use strict";
  const {
    Error, JSONStringify, ObjectDefineProperty, ObjectFreeze, ObjectKeys, ObjectSetPrototypeOf, Proxy, Symbol, SymbolToStringTag, TypeError, WeakMap,
    WeakMapPrototypeGet, WeakMapPrototypeSet,
  } = lib.p;
  const SymbolDispose = Symbol.dispose;

  // As for the bindings of a project file.
  const PROPS_MAX = 4096;

  // An error that another Worker threw, as this one sees it: its name and message, with a stack of this side.
  lib.errorOf = (name, message) => {
    const error = new (lib.errorClasses[name] ?? Error)(message);
    if (error.name !== name) ObjectDefineProperty(error, "name", { __proto__: null, value: name, writable: true, configurable: true, enumerable: false });
    return error;
  };

  class Fetcher {
    constructor() {
      throw lib.illegalConstructor();
    }
  }
  lib.defineInterface(Fetcher, "Fetcher");
  lib.Fetcher = Fetcher;

  // A Worker to call: the place of a binding, or name and props of an entrypoint of this Worker's.
  class Service {
    place;
    disposed = false;
    constructor(place) {
      this.place = place;
    }
    fetch(input, init) {
      return lib.fetch(input, init, this.place);
    }
    ask(path, args) {
      lib.load("rpc.js");
      return lib.callService(this.place, path, args);
    }
    dup() {
      return this;
    }
    dispose() {}
  }

  // What a stub stands for: of the proxy, and of what the traps are told.
  class Stub {
    target;
    self = undefined;
    fetch;
    constructor(target) {
      this.target = target;
      this.fetch = function fetch(input, init = undefined) {
        if (arguments.length === 0) throw new TypeError("fetch: 1 argument required, but only 0 present");
        return target.fetch(input, init);
      };
    }
    dup() {
      const copy = this.target.dup();
      return copy === this.target ? this.self : lib.serviceStub(copy);
    }
  }
  const stubs = new WeakMap();

  const traps = {
    __proto__: null,
    get(inner, key) {
      const stub = WeakMapPrototypeGet(stubs, inner);
      switch (key) {
        case "fetch":
          return stub.fetch;
        case "constructor":
          return Fetcher;
        case "dup":
          return () => stub.dup();
        case SymbolDispose:
          return () => stub.target.dispose();
        case SymbolToStringTag:
          return "Fetcher";
        // It is no promise: `await env.OTHER` gives itself.
        case "then":
          return undefined;
        default:
      }
      if (typeof key === "symbol") return undefined;
      lib.load("rpc.js");
      return lib.serviceProperty(stub.target, key);
    },
    // One of `ctx.exports`, with props.
    apply(inner, self, args) {
      const { target } = WeakMapPrototypeGet(stubs, inner);
      const { props } = lib.dictionary(args[0], "The options of an entrypoint");
      if (props === undefined) return ownService(target.place[0], "");
      if (!lib.isObject(props) || typeof props === "function") throw new TypeError("The props of an entrypoint are no object");
      const text = JSONStringify(props);
      if (typeof text !== "string" || text[0] !== "{") throw new TypeError("The props of an entrypoint are no object in JSON");
      if (text.length > PROPS_MAX) throw new TypeError(`The props of an entrypoint are limited to ${PROPS_MAX} characters of JSON`);
      return ownService(target.place[0], text);
    },
    set: () => false,
    defineProperty: () => false,
    deleteProperty: () => false,
    setPrototypeOf: () => false,
    preventExtensions: () => false,
  };

  function stubOf(target, inner) {
    const stub = new Stub(target);
    stub.self = new Proxy(inner, traps);
    WeakMapPrototypeSet(stubs, inner, stub);
    WeakMapPrototypeSet(stubs, stub.self, stub);
    return stub.self;
  }

  // `target`: what it does with requests and calls, as `Service` has it.
  lib.serviceStub = (target) => stubOf(target, { __proto__: Fetcher.prototype });
  lib.service = (index) => lib.serviceStub(new Service(index));
  // What such a stub stands for; undefined for any other value.
  lib.serviceOf = (value) => lib.isObject(value) ? WeakMapPrototypeGet(stubs, value)?.target : undefined;

  function ownService(name, props) {
    const inner = () => {};
    delete inner.name;
    delete inner.length;
    ObjectSetPrototypeOf(inner, Fetcher.prototype);
    return stubOf(new Service([name, props]), inner);
  }

  // `ctx.exports`: the program's entrypoints, the same for all requests.
  let own;
  lib.ownServices = (exported) => {
    if (own !== undefined) return own;
    own = {};
    const names = ObjectKeys(exported);
    for (let i = 0; i < names.length; i++) {
      const name = names[i];
      const value = exported[name];
      const handles = lib.isObject(value) && typeof value !== "function" && typeof value.fetch === "function";
      if (!handles && !lib.isEntrypointClass(value)) continue;
      const stub = ownService(name === "default" ? "" : name, "");
      ObjectDefineProperty(own, name, { __proto__: null, value: stub, writable: false, enumerable: true, configurable: false });
    }
    return ObjectFreeze(own);
  };
})
