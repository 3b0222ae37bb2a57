// Primordials: the language's own functions as they were at isolate start, as free functions.
//
// Owns `lib.p`. The runtime's files use nothing else of the built-ins, so that a tenant who patches
// `Array.prototype` or `Promise.prototype` changes their own program and not the runtime.
// Naming: `Array.prototype.push` is `ArrayPrototypePush(array, value)`, a getter `Map.prototype.size` is
// `MapPrototypeGetSize(map)`, a static `Object.keys` is `ObjectKeys(object)`.
// The runtime also avoids what looks up a patchable method in passing: `for...of`, spread and array patterns on
// arrays, `instanceof`, and regular expression methods other than a captured `exec`.
(function (ops, lib) {
  "use strict";
  const { bind, call } = Function.prototype;
  const uncurryThis = bind.bind(call);
  const p = { __proto__: null };

  const keyName = (key) => typeof key === "symbol" ? `Symbol${key.description[7].toUpperCase()}${key.description.slice(8)}` : `${key[0].toUpperCase()}${key.slice(1)}`;

  function copyPrototype(source, prefix) {
    for (const key of Reflect.ownKeys(source)) {
      const desc = Reflect.getOwnPropertyDescriptor(source, key);
      const name = keyName(key);
      if (desc.get !== undefined) {
        p[`${prefix}Get${name}`] = uncurryThis(desc.get);
      } else if (typeof desc.value === "function") {
        p[`${prefix}${name}`] = uncurryThis(desc.value);
      }
    }
  }

  function copyStatics(source, prefix, receiver) {
    for (const key of Reflect.ownKeys(source)) {
      const desc = Reflect.getOwnPropertyDescriptor(source, key);
      if (typeof key === "string" && typeof desc.value === "function" && key !== "prototype") {
        p[`${prefix}${keyName(key)}`] = receiver === undefined ? desc.value : desc.value.bind(receiver);
      }
    }
  }

  for (const name of ["Object", "Reflect", "Math", "JSON", "Number", "ArrayBuffer", "Array", "String", "Symbol", "Atomics"]) {
    copyStatics(globalThis[name], name);
  }
  copyStatics(Promise, "Promise", Promise);
  for (const name of [
    "Object", "Function", "Array", "String", "Number", "BigInt", "Boolean", "Symbol", "RegExp", "Date", "Error", "Promise", "Map", "Set",
    "WeakMap", "WeakSet", "WeakRef", "ArrayBuffer", "DataView",
  ]) {
    copyPrototype(globalThis[name].prototype, `${name}Prototype`);
    p[name] = globalThis[name];
  }
  const TypedArray = Reflect.getPrototypeOf(Uint8Array);
  copyPrototype(TypedArray.prototype, "TypedArrayPrototype");
  for (const name of [
    "Uint8Array", "Uint8ClampedArray", "Int8Array", "Uint16Array", "Int16Array", "Uint32Array", "Int32Array",
    "Float32Array", "Float64Array", "BigInt64Array", "BigUint64Array", "TypeError", "RangeError", "SyntaxError", "Proxy",
  ]) {
    p[name] = globalThis[name];
  }
  p.uncurryThis = uncurryThis;
  p.SymbolIterator = Symbol.iterator;
  p.SymbolAsyncIterator = Symbol.asyncIterator;
  p.SymbolToStringTag = Symbol.toStringTag;
  p.SymbolHasInstance = Symbol.hasInstance;
  p.ArrayIteratorNext = uncurryThis(Reflect.getPrototypeOf([][Symbol.iterator]()).next);
  p.MapIteratorNext = uncurryThis(Reflect.getPrototypeOf(new Map().entries()).next);
  p.SetIteratorNext = uncurryThis(Reflect.getPrototypeOf(new Set().values()).next);
  p.IteratorPrototype = Reflect.getPrototypeOf(Reflect.getPrototypeOf([][Symbol.iterator]()));
  p.AsyncIteratorPrototype = Reflect.getPrototypeOf(Reflect.getPrototypeOf(async function* () {}).prototype);
  p.decodeURIComponent = decodeURIComponent;
  p.noop = () => {};

  // Appends, whatever setters a program has put at indices of `Array.prototype` or `Object.prototype`.
  const push = p.ArrayPrototypePush;
  const arrayPrototype = Array.prototype;
  const { defineProperty } = Reflect;
  p.ArrayPrototypePush = function (array, value) {
    const { length } = array;
    if (arguments.length === 2 && !(length in arrayPrototype)) return push(array, value);
    for (let i = 1; i < arguments.length; i++) {
      defineProperty(array, length + i - 1, { __proto__: null, value: arguments[i], writable: true, enumerable: true, configurable: true });
    }
    return array.length;
  };

  // A promise with its two ends. Own fields only, so that nothing is read through a prototype.
  p.newDeferred = () => {
    const d = { __proto__: null, promise: undefined, resolve: undefined, reject: undefined };
    d.promise = new Promise((resolve, reject) => {
      d.resolve = resolve;
      d.reject = reject;
    });
    return d;
  };

  // Marks a promise as handled: a rejection nobody waits for is no uncaught one.
  const then = p.PromisePrototypeThen;
  p.setHandled = (promise) => {
    then(promise, undefined, p.noop);
  };

  lib.p = p;

  // V8 adds some of the language to a context only when it makes it from a snapshot: `WebAssembly`, `Temporal`,
  // `SharedArrayBuffer`, `Float16Array`. What must be done about them waits here until then, before any program runs.
  lib.late = [];
})
