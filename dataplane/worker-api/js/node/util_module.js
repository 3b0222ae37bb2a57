// node:util.
(function (ops, lib) {
  "use strict";
  const { KIND } = lib;
  const kind = (value) => lib.isObject(value) ? ops.valueKind(value) : -1;
  const tag = (value) => lib.p.TypedArrayPrototypeGetSymbolToStringTag(value);

  const invalidArg = (name, wanted, value) =>
    Object.assign(new TypeError(`The "${name}" argument must be ${wanted}. Received ${value === null ? "null" : typeof value}`), { code: "ERR_INVALID_ARG_TYPE" });

  const boxed = (test) => (value) => {
    if (kind(value) !== KIND.BOXED) return false;
    try {
      test(value);
      return true;
    } catch {
      return false;
    }
  };
  const types = {
    isAnyArrayBuffer: (value) => kind(value) === KIND.ARRAY_BUFFER,
    isArgumentsObject: (value) => kind(value) === KIND.ARGUMENTS,
    isArrayBuffer: (value) => kind(value) === KIND.ARRAY_BUFFER,
    isArrayBufferView: ArrayBuffer.isView,
    isAsyncFunction: (value) => typeof value === "function" && Object.prototype.toString.call(value) === "[object AsyncFunction]",
    isBigInt64Array: (value) => tag(value) === "BigInt64Array",
    isBigIntObject: boxed(BigInt.prototype.valueOf.call.bind(BigInt.prototype.valueOf)),
    isBigUint64Array: (value) => tag(value) === "BigUint64Array",
    isBooleanObject: boxed(Boolean.prototype.valueOf.call.bind(Boolean.prototype.valueOf)),
    isBoxedPrimitive: (value) => kind(value) === KIND.BOXED,
    isCryptoKey: (value) => lib.isCryptoKey?.(value) ?? false,
    isDataView: (value) => kind(value) === KIND.DATA_VIEW,
    isDate: (value) => kind(value) === KIND.DATE,
    isExternal: () => false,
    isFloat32Array: (value) => tag(value) === "Float32Array",
    isFloat64Array: (value) => tag(value) === "Float64Array",
    isGeneratorFunction: (value) => typeof value === "function" && /GeneratorFunction\]$/.test(Object.prototype.toString.call(value)),
    isGeneratorObject: (value) => kind(value) === KIND.GENERATOR,
    isInt8Array: (value) => tag(value) === "Int8Array",
    isInt16Array: (value) => tag(value) === "Int16Array",
    isInt32Array: (value) => tag(value) === "Int32Array",
    isMap: (value) => kind(value) === KIND.MAP,
    isMapIterator: (value) => kind(value) === KIND.ITERATOR && Object.prototype.toString.call(value) === "[object Map Iterator]",
    isModuleNamespaceObject: (value) => kind(value) === KIND.MODULE,
    isNativeError: (value) => kind(value) === KIND.ERROR,
    isNumberObject: boxed(Number.prototype.valueOf.call.bind(Number.prototype.valueOf)),
    isPromise: (value) => kind(value) === KIND.PROMISE,
    isProxy: (value) => kind(value) === KIND.PROXY,
    isRegExp: (value) => kind(value) === KIND.REGEXP,
    isSet: (value) => kind(value) === KIND.SET,
    isSetIterator: (value) => kind(value) === KIND.ITERATOR && Object.prototype.toString.call(value) === "[object Set Iterator]",
    isSharedArrayBuffer: () => false,
    isStringObject: boxed(String.prototype.valueOf.call.bind(String.prototype.valueOf)),
    isSymbolObject: boxed(Symbol.prototype.valueOf.call.bind(Symbol.prototype.valueOf)),
    isTypedArray: (value) => tag(value) !== undefined,
    isUint8Array: (value) => tag(value) === "Uint8Array",
    isUint8ClampedArray: (value) => tag(value) === "Uint8ClampedArray",
    isUint16Array: (value) => tag(value) === "Uint16Array",
    isUint32Array: (value) => tag(value) === "Uint32Array",
    isWeakMap: (value) => kind(value) === KIND.WEAK_MAP,
    isWeakSet: (value) => kind(value) === KIND.WEAK_SET,
  };

  const customInspect = Symbol.for("nodejs.util.inspect.custom");
  const inspect = (value, options = undefined) => {
    const depth = typeof options === "object" && options !== null ? options.depth : undefined;
    return lib.inspect(value, depth === null ? Infinity : depth);
  };
  inspect.custom = customInspect;
  inspect.defaultOptions = {};

  const customPromisify = Symbol.for("nodejs.util.promisify.custom");
  function promisify(original) {
    if (typeof original !== "function") throw invalidArg("original", "of type function", original);
    if (original[customPromisify] !== undefined) {
      if (typeof original[customPromisify] !== "function") throw invalidArg("util.promisify.custom", "of type function", original[customPromisify]);
      return Object.defineProperty(original[customPromisify], customPromisify, { value: original[customPromisify], configurable: true });
    }
    const made = function (...args) {
      return new Promise((resolve, reject) => {
        Reflect.apply(original, this, [...args, (error, value) => error ? reject(error) : resolve(value)]);
      });
    };
    Object.setPrototypeOf(made, Object.getPrototypeOf(original));
    Object.defineProperty(made, customPromisify, { value: made, configurable: true });
    return Object.defineProperties(made, Object.getOwnPropertyDescriptors(original));
  }
  promisify.custom = customPromisify;

  function callbackify(original) {
    if (typeof original !== "function") throw invalidArg("original", "of type function", original);
    return function (...args) {
      const callback = args.pop();
      if (typeof callback !== "function") throw invalidArg("last argument", "of type function", callback);
      Reflect.apply(original, this, args).then(
        (value) => queueMicrotask(() => callback.call(this, null, value)),
        (reason) => queueMicrotask(() => callback.call(this, reason || Object.assign(new Error("Promise was rejected with a falsy value"), { code: "ERR_FALSY_VALUE_REJECTION", reason }))),
      );
    };
  }

  function inherits(child, parent) {
    if (typeof child !== "function") throw invalidArg("ctor", "of type function", child);
    if (typeof parent !== "function" || parent.prototype === undefined) throw invalidArg("superCtor", "of type function", parent);
    Object.defineProperty(child, "super_", { value: parent, writable: true, configurable: true });
    Object.setPrototypeOf(child.prototype, parent.prototype);
  }

  const warned = new Set();
  function deprecate(fn, message, code = undefined) {
    return Object.setPrototypeOf(function (...args) {
      if (!warned.has(code ?? message)) {
        warned.add(code ?? message);
        console.warn(`DeprecationWarning: ${message}`);
      }
      return new.target ? Reflect.construct(fn, args, new.target) : Reflect.apply(fn, this, args);
    }, fn);
  }

  // --- deep equality, as node:assert and util.isDeepStrictEqual have it ---

  const keysOf = (value) => [...Object.keys(value), ...Object.getOwnPropertySymbols(value).filter((key) => Object.prototype.propertyIsEnumerable.call(value, key))];

  function deepEqual(a, b, strict, seen = new Map()) {
    if (strict ? Object.is(a, b) : a == b || (a !== a && b !== b)) return true;
    if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
    if (strict && Object.getPrototypeOf(a) !== Object.getPrototypeOf(b)) return false;
    const [ka, kb] = [kind(a), kind(b)];
    if (ka !== kb || (strict && Object.prototype.toString.call(a) !== Object.prototype.toString.call(b))) return false;
    if (seen.get(a) === b) return true;
    seen.set(a, b);
    try {
      return sameInside(ka, a, b, strict, seen) && sameKeys(ka, a, b, strict, seen);
    } finally {
      seen.delete(a);
    }
  }

  function sameInside(kind, a, b, strict, seen) {
    switch (kind) {
      case KIND.DATE:
        return Object.is(Date.prototype.getTime.call(a), Date.prototype.getTime.call(b));
      case KIND.REGEXP:
        return a.source === b.source && a.flags === b.flags && a.lastIndex === b.lastIndex;
      case KIND.ERROR:
        return a.message === b.message && a.name === b.name && deepEqual(a.cause, b.cause, strict, seen);
      case KIND.BOXED:
        return Object.is(a.valueOf(), b.valueOf());
      case KIND.ARRAY:
        return a.length === b.length;
      case KIND.ARRAY_BUFFER:
        return deepEqual(new Uint8Array(a), new Uint8Array(b), strict, seen);
      case KIND.TYPED_ARRAY:
        if (tag(a) !== tag(b) || a.length !== b.length) return false;
        for (let i = 0; i < a.length; i++) if (strict ? !Object.is(a[i], b[i]) : a[i] !== b[i]) return false;
        return true;
      case KIND.DATA_VIEW:
        return deepEqual(new Uint8Array(a.buffer, a.byteOffset, a.byteLength), new Uint8Array(b.buffer, b.byteOffset, b.byteLength), strict, seen);
      case KIND.SET: {
        if (a.size !== b.size) return false;
        const left = [...b].filter((item) => !a.has(item));
        for (const item of a) {
          if (b.has(item)) continue;
          const at = left.findIndex((other) => deepEqual(item, other, strict, seen));
          if (at === -1) return false;
          left.splice(at, 1);
        }
        return true;
      }
      case KIND.MAP: {
        if (a.size !== b.size) return false;
        const left = [...b].filter(([key]) => !a.has(key));
        for (const [key, value] of a) {
          if (b.has(key)) {
            if (!deepEqual(value, b.get(key), strict, seen)) return false;
            continue;
          }
          const at = left.findIndex(([other, found]) => deepEqual(key, other, strict, seen) && deepEqual(value, found, strict, seen));
          if (at === -1) return false;
          left.splice(at, 1);
        }
        return true;
      }
      case KIND.WEAK_MAP:
      case KIND.WEAK_SET:
      case KIND.PROMISE:
        return false;
      default:
        return !(a instanceof URL) || a.href === b.href;
    }
  }

  function sameKeys(kind, a, b, strict, seen) {
    if (kind === KIND.TYPED_ARRAY) return true;
    const keys = strict ? keysOf(a) : Object.keys(a);
    if (keys.length !== (strict ? keysOf(b) : Object.keys(b)).length) return false;
    return keys.every((key) => Object.prototype.propertyIsEnumerable.call(b, key) && deepEqual(a[key], b[key], strict, seen));
  }
  lib.deepEqual = deepEqual;

  function stripVTControlCharacters(text) {
    if (typeof text !== "string") throw invalidArg("str", "of type string", text);
    return text.replace(/[\u001b\u009b][[\]()#;?]*(?:\d{1,4}(?:;\d{0,4})*)?[\dA-PR-TZcf-nq-uy=><~]/g, "");
  }

  const module = {
    types,
    inspect,
    format: (...args) => lib.formatLog(args),
    formatWithOptions: (_options, ...args) => lib.formatLog(args),
    promisify,
    callbackify,
    inherits,
    deprecate,
    debuglog: () => Object.assign(() => {}, { enabled: false }),
    debug: () => Object.assign(() => {}, { enabled: false }),
    isDeepStrictEqual: (a, b) => deepEqual(a, b, true),
    stripVTControlCharacters,
    toUSVString: (value) => `${value}`.toWellFormed(),
    TextEncoder,
    TextDecoder,
    aborted: (signal) => new Promise((resolve) => signal.aborted ? resolve() : signal.addEventListener("abort", () => resolve(), { once: true })),
    isArray: Array.isArray,
    isBoolean: (value) => typeof value === "boolean",
    isBuffer: (value) => lib.nodeModules["node:buffer"]?.Buffer.isBuffer(value) ?? false,
    isDate: types.isDate,
    isError: (value) => value instanceof Error,
    isFunction: (value) => typeof value === "function",
    isNull: (value) => value === null,
    isNullOrUndefined: (value) => value === null || value === undefined,
    isNumber: (value) => typeof value === "number",
    isObject: (value) => typeof value === "object" && value !== null,
    isPrimitive: (value) => !lib.isObject(value),
    isRegExp: types.isRegExp,
    isString: (value) => typeof value === "string",
    isSymbol: (value) => typeof value === "symbol",
    isUndefined: (value) => value === undefined,
  };
  lib.nodeModules["node:util"] = { ...module, default: module };
  lib.nodeModules["node:util/types"] = { ...types, default: types };
})
