// The modules of Node.js that a Worker can import. A rare file: it runs for the first such import, and loads a module's file when that
// module is asked for.
//
// The files of this folder are programs like a bundled polyfill: they use the language as the tenant's program has it, and hand out nothing
// of the runtime. A Worker that imports one of them, or has `nodejs_compat`, also has the globals `Buffer`, `process` and `global`, made when they are used.
(function (ops, lib) {
  "use strict";
  const { ObjectKeys } = lib.p;

  const FILES = {
    __proto__: null,
    "node:assert": "node/assert.js", "node:assert/strict": "node/assert.js", "node:async_hooks": "node/async_hooks.js", "node:buffer": "node/buffer.js",
    "node:crypto": "node/crypto.js", "node:events": "node/events.js", "node:path": "node/path.js", "node:path/posix": "node/path.js",
    "node:process": "node/process.js", "node:querystring": "node/querystring.js", "node:stream": "node/stream.js", "node:stream/promises": "node/stream.js",
    "node:string_decoder": "node/string_decoder.js",
    "node:url": "node/url.js", "node:util": "node/util_module.js", "node:util/types": "node/util_module.js",
  };

  lib.nodeModules = { __proto__: null };
  lib.nodeModules["node:timers"] = {
    setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout, setInterval: globalThis.setInterval, clearInterval: globalThis.clearInterval,
    setImmediate: globalThis.setImmediate, clearImmediate: globalThis.clearImmediate,
  };

  lib.loadNode = (name) => lib.load(FILES[name]);

  // The module's exports: an object whose properties they are, `default` among them.
  lib.nodeModule = (specifier) => {
    const name = lib.p.StringPrototypeStartsWith(specifier, "node:") ? specifier : `node:${specifier}`;
    if (FILES[name] !== undefined) lib.loadNode(name);
    if (name !== "node:async_hooks") defineGlobals();
    const module = lib.nodeModules[name];
    if (module === undefined) return undefined;
    if (!lib.p.ObjectHasOwn(module, "default")) {
      const all = {};
      const keys = ObjectKeys(module);
      for (let i = 0; i < keys.length; i++) lib.p.ObjectDefineProperty(all, keys[i], { __proto__: null, value: module[keys[i]], writable: true, enumerable: true, configurable: true });
      module.default = all;
    }
    return module;
  };

  let env = [];
  lib.nodeEnv = (flat) => {
    env = flat;
  };
  lib.envStrings = () => {
    const object = {};
    for (let i = 0; i < env.length; i += 2) object[env[i]] = env[i + 1];
    return object;
  };

  function global(name, make) {
    if (name in globalThis) return;
    const set = (value) => lib.defineGlobal(name, value);
    const get = () => {
      const value = make();
      set(value);
      return value;
    };
    lib.p.ObjectDefineProperty(globalThis, name, { __proto__: null, get, set, configurable: true, enumerable: false });
  }
  // `nodejs_als` gives `node:async_hooks` alone.
  let defined = false;
  function defineGlobals() {
    if (defined) return;
    defined = true;
    global("Buffer", () => lib.nodeModule("node:buffer").Buffer);
    global("process", () => lib.nodeModule("node:process").default);
    global("global", () => globalThis);
  }
})
