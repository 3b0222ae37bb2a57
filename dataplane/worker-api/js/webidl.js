// Web IDL: conversions of arguments, and how interfaces are put on the global object.
//
// Owns the `lib` functions below; every other file takes its argument checks from here.
// Fails with TypeError (or RangeError where the specification says so) for values that have no conversion.
(function (ops, lib) {
  "use strict";
  const {
    IteratorPrototype, ObjectSetPrototypeOf, ArrayBufferIsView, ArrayBufferPrototypeGetByteLength, ArrayBufferPrototypeSlice, MathTrunc, Number, NumberIsFinite, NumberIsNaN,
    ObjectDefineProperty, ObjectFreeze, ObjectGetOwnPropertyDescriptor, ObjectPrototypePropertyIsEnumerable, ReflectOwnKeys, String, StringPrototypeCharCodeAt, StringPrototypeIsWellFormed,
    StringPrototypeToWellFormed, SymbolIterator, SymbolToStringTag, TypeError, TypedArrayPrototypeGetBuffer, TypedArrayPrototypeGetByteLength,
    TypedArrayPrototypeGetByteOffset, TypedArrayPrototypeGetSymbolToStringTag, DataViewPrototypeGetBuffer, DataViewPrototypeGetByteLength,
    DataViewPrototypeGetByteOffset, Uint8Array, ReflectApply, ArrayPrototypePush, ArrayBufferPrototypeGetDetached,
  } = lib.p;

  // Raises TypeError for a call with too few arguments.
  lib.requireArgs = (count, wanted, what) => {
    if (count < wanted) {
      throw new TypeError(`${what}: ${wanted} argument${wanted === 1 ? "" : "s"} required, but only ${count} present`);
    }
  };

  // USVString: lone surrogates become U+FFFD.
  lib.usvString = (value) => {
    const text = typeof value === "string" ? value : toDOMString(value);
    return StringPrototypeIsWellFormed(text) ? text : StringPrototypeToWellFormed(text);
  };

  function toDOMString(value) {
    if (typeof value === "string") return value;
    if (typeof value === "symbol") throw new TypeError("Cannot convert a Symbol value to a string");
    return String(value);
  }
  lib.domString = toDOMString;

  // ByteString: every code unit is at most 255.
  lib.byteString = (value, what) => {
    const text = typeof value === "string" ? value : toDOMString(value);
    for (let i = 0; i < text.length; i++) {
      if (StringPrototypeCharCodeAt(text, i) > 255) {
        throw new TypeError(`${what} has a character that is no byte at index ${i}`);
      }
    }
    return text;
  };

  function toNumber(value) {
    if (typeof value === "bigint") throw new TypeError("Cannot convert a BigInt value to a number");
    return Number(value);
  }

  // unsigned short and friends: modulo 2^bits.
  lib.unsignedMod = (value, modulus) => {
    let x = toNumber(value);
    if (NumberIsNaN(x) || !NumberIsFinite(x)) return 0;
    x = MathTrunc(x) % modulus;
    return x < 0 ? x + modulus : x === 0 ? 0 : x;
  };

  // [EnforceRange] integer in low..=high.
  lib.enforceRange = (value, low, high, what) => {
    let x = toNumber(value);
    if (!NumberIsFinite(x)) throw new TypeError(`${what} is not a finite number`);
    x = MathTrunc(x);
    if (x < low || x > high) throw new TypeError(`${what} is outside the range [${low}, ${high}]`);
    return x === 0 ? 0 : x;
  };

  // unrestricted double
  lib.unrestrictedDouble = toNumber;

  // long long, clamped: the indices of Blob.slice.
  lib.clampLongLong = (value) => {
    const x = toNumber(value);
    if (NumberIsNaN(x)) return 0;
    const limit = 9007199254740991;
    return x > limit ? limit : x < -limit ? -limit : MathTrunc(x);
  };

  // A dictionary argument: undefined and null are the empty one.
  lib.dictionary = (value, what) => {
    if (value === undefined || value === null) return emptyDictionary;
    if (typeof value !== "object" && typeof value !== "function") throw new TypeError(`${what} is not an object`);
    return value;
  };
  const emptyDictionary = ObjectFreeze({ __proto__: null });

  lib.isObject = (value) => (typeof value === "object" && value !== null) || typeof value === "function";

  // A callback function member of a dictionary.
  lib.callback = (value, what) => {
    if (value !== undefined && typeof value !== "function") throw new TypeError(`${what} is not a function`);
    return value;
  };

  // Record<K, V> (Web IDL section 3.2.25): calls `each` for every own enumerable property. A key that is a symbol is refused by `toKey`.
  lib.eachOfRecord = (object, toKey, each) => {
    const keys = ReflectOwnKeys(object);
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i];
      if (ObjectPrototypePropertyIsEnumerable(object, key)) each(toKey(key, "A name"), object[key]);
    }
  };

  // Sequence<T>: calls `each` for every item of an iterable.
  lib.iterate = (iterable, what, each) => {
    if (!lib.isObject(iterable)) throw new TypeError(`${what} is not iterable`);
    const method = iterable[SymbolIterator];
    if (typeof method !== "function") throw new TypeError(`${what} is not iterable`);
    const iterator = ReflectApply(method, iterable, []);
    if (!lib.isObject(iterator)) throw new TypeError(`${what}'s iterator is not an object`);
    const next = iterator.next;
    for (;;) {
      const step = ReflectApply(next, iterator, []);
      if (!lib.isObject(step)) throw new TypeError(`${what}'s iterator gave no object`);
      if (step.done) return;
      each(step.value);
    }
  };

  // Calls `build` once: the shape that every pair list (Headers, URLSearchParams, FormData) takes as an argument.
  lib.pairOf = (item, what) => {
    const pair = [];
    lib.iterate(item, what, (part) => ArrayPrototypePush(pair, part));
    if (pair.length !== 2) throw new TypeError(`${what} is not a pair of name and value`);
    return pair;
  };

  // Buffers. A BufferSource is an ArrayBuffer or a view of one.
  lib.isArrayBuffer = (value) => {
    if (typeof value !== "object" || value === null) return false;
    try {
      ArrayBufferPrototypeGetByteLength(value);
      return true;
    } catch {
      return false;
    }
  };
  lib.isView = ArrayBufferIsView;
  lib.isUint8Array = (value) => TypedArrayPrototypeGetSymbolToStringTag(value) === "Uint8Array";
  lib.isTypedArray = (value) => TypedArrayPrototypeGetSymbolToStringTag(value) !== undefined;
  lib.viewBuffer = (view) => lib.isTypedArray(view) ? TypedArrayPrototypeGetBuffer(view) : DataViewPrototypeGetBuffer(view);
  lib.viewByteLength = (view) => lib.isTypedArray(view) ? TypedArrayPrototypeGetByteLength(view) : DataViewPrototypeGetByteLength(view);
  lib.viewByteOffset = (view) => lib.isTypedArray(view) ? TypedArrayPrototypeGetByteOffset(view) : DataViewPrototypeGetByteOffset(view);
  lib.isBufferSource = (value) => ArrayBufferIsView(value) || lib.isArrayBuffer(value);

  // A Uint8Array over the same bytes; no copy. A detached buffer is empty.
  lib.bytesOf = (source) => {
    if (ArrayBufferIsView(source)) {
      if (lib.isUint8Array(source)) return source;
      const buffer = lib.viewBuffer(source);
      if (lib.isArrayBuffer(buffer) && ArrayBufferPrototypeGetDetached(buffer)) return new Uint8Array(0);
      return new Uint8Array(buffer, lib.viewByteOffset(source), lib.viewByteLength(source));
    }
    if (lib.isArrayBuffer(source) && ArrayBufferPrototypeGetDetached(source)) return new Uint8Array(0);
    return new Uint8Array(source);
  };

  // A Uint8Array with its own copy of the bytes. (The constructor copies from a typed array without iterating it.)
  lib.copyBytes = (source) => new Uint8Array(lib.bytesOf(source));

  // The bytes as an ArrayBuffer that covers exactly them; copies only a part of a larger buffer.
  lib.exactBuffer = (bytes) => {
    const buffer = TypedArrayPrototypeGetBuffer(bytes);
    const start = TypedArrayPrototypeGetByteOffset(bytes);
    const length = TypedArrayPrototypeGetByteLength(bytes);
    if (start === 0 && length === ArrayBufferPrototypeGetByteLength(buffer)) return buffer;
    return ArrayBufferPrototypeSlice(buffer, start, start + length);
  };

  // Puts a value on the global object: writable, configurable, not enumerable.
  lib.defineGlobal = (name, value) => {
    const getter = rare[name];
    if (getter !== undefined) {
      // A rare file runs when a program is long at work, which may have put something else there.
      made[name] = value;
      if (ObjectGetOwnPropertyDescriptor(globalThis, name)?.get !== getter) return;
    }
    ObjectDefineProperty(globalThis, name, { __proto__: null, value, writable: true, configurable: true, enumerable: false });
  };

  // Files that only some programs need are no part of the start-up snapshot: they run when somebody asks for what they make.
  const rare = { __proto__: null };
  const made = { __proto__: null };
  const loaded = { __proto__: null };
  // `shared`: the native functions of the file that loads this one.
  lib.load = (file, shared = ops) => {
    if (loaded[file]) return;
    const parts = ops.runtimeFile(file);
    ObjectSetPrototypeOf(parts[1], shared);
    (0, parts[0])(parts[1], lib);
    loaded[file] = true;
  };
  // Globals that a rare file makes.
  lib.rareGlobals = (file, names) => {
    for (let i = 0; i < names.length; i++) {
      const name = names[i];
      const get = () => {
        lib.load(file);
        return made[name];
      };
      rare[name] = get;
      const set = (value) => {
        ObjectDefineProperty(globalThis, name, { __proto__: null, value, writable: true, configurable: true, enumerable: false });
      };
      ObjectDefineProperty(globalThis, name, { __proto__: null, get, set, configurable: true, enumerable: false });
    }
  };

  // Puts an interface on the global object. Its members are enumerable, as Web IDL has them.
  lib.defineInterface = (ctor, name, parent) => {
    const { prototype } = ctor;
    ObjectDefineProperty(ctor, "name", { __proto__: null, value: name, configurable: true });
    ObjectDefineProperty(prototype, SymbolToStringTag, { __proto__: null, value: name, configurable: true });
    makeEnumerable(prototype);
    makeEnumerable(ctor);
    lib.defineGlobal(name, ctor);
  };
  function makeEnumerable(object) {
    const keys = ReflectOwnKeys(object);
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i];
      if (typeof key !== "string" || key === "constructor") continue;
      // A class's own, not its interface's.
      if (typeof object === "function" && (key === "prototype" || key === "name" || key === "length")) continue;
      const desc = ObjectGetOwnPropertyDescriptor(object, key);
      desc.enumerable = true;
      desc.__proto__ = null;
      ObjectDefineProperty(object, key, desc);
    }
  }

  // Read-only constants, on the interface and on its prototype.
  lib.defineConstants = (ctor, constants) => {
    const keys = ReflectOwnKeys(constants);
    for (let i = 0; i < keys.length; i++) {
      const desc = { __proto__: null, value: constants[keys[i]], enumerable: true };
      ObjectDefineProperty(ctor, keys[i], desc);
      ObjectDefineProperty(ctor.prototype, keys[i], desc);
    }
  };

  // Iterators over a pair list (Web IDL section 3.7.9): `kind` 0 gives keys, 1 values, 2 entries; `listOf(target)` is the live
  // flat list [name, value, ...]. Gives the function that makes one.
  lib.pairIterator = (name, listOf) => {
    class PairIterator {
      #target;
      #kind;
      #at = 0;
      constructor(target, kind) {
        this.#target = target;
        this.#kind = kind;
      }
      next() {
        if (!lib.isObject(this) || !(#at in this)) throw new TypeError(`Not an iterator of ${name}`);
        const list = listOf(this.#target);
        const at = this.#at;
        if (at >= list.length) return { value: undefined, done: true };
        this.#at = at + 2;
        const value = this.#kind === 0 ? list[at] : this.#kind === 1 ? list[at + 1] : [list[at], list[at + 1]];
        return { value, done: false };
      }
    }
    const { prototype } = PairIterator;
    delete prototype.constructor;
    ObjectSetPrototypeOf(prototype, IteratorPrototype);
    ObjectDefineProperty(prototype, "next", { __proto__: null, enumerable: true });
    ObjectDefineProperty(prototype, SymbolToStringTag, { __proto__: null, value: `${name} Iterator`, configurable: true });
    return (target, kind) => new PairIterator(target, kind);
  };

  // The token that lets the runtime call a constructor tenants may not call.
  lib.internal = Symbol("internal");
  lib.illegalConstructor = () => new TypeError("Illegal constructor");
})
