// Other Workers in `env`. A rare file: it runs where a Worker has a service binding.
//
// A request to one goes like an outbound one, by the place of its binding, and reaches no socket. Any other property is a method or a
// property of the entrypoint there, see rpc.js.
(function (ops, lib) {
  "use strict";
  const { Error, ObjectDefineProperty, Proxy, Symbol, SymbolToStringTag, TypeError } = lib.p;
  const SymbolDispose = Symbol.dispose;

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

  const nothing = () => {};

  lib.service = (index) => {
    const fetch = function fetch(input, init = undefined) {
      if (arguments.length === 0) throw new TypeError("fetch: 1 argument required, but only 0 present");
      return lib.fetch(input, init, index);
    };
    const self = new Proxy({ __proto__: Fetcher.prototype }, {
      __proto__: null,
      get(target, key) {
        switch (key) {
          case "fetch":
            return fetch;
          case "constructor":
            return Fetcher;
          case "dup":
            return () => self;
          case SymbolDispose:
            return nothing;
          case SymbolToStringTag:
            return "Fetcher";
          // It is no promise: `await env.OTHER` gives itself.
          case "then":
            return undefined;
          default:
        }
        if (typeof key === "symbol") return undefined;
        lib.load("rpc.js");
        return lib.serviceProperty(index, key);
      },
      set: () => false,
      defineProperty: () => false,
      deleteProperty: () => false,
      setPrototypeOf: () => false,
      preventExtensions: () => false,
    });
    return self;
  };
})
