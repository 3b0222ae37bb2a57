// structuredClone (HTML section 2.7): serialise and deserialise in one pass.
//
// Owns the copy of a value and of everything it refers to; cycles and shared references keep their shape. What cannot
// be cloned (functions, symbols, proxies, promises, weak collections, most objects of the platform) is a DataCloneError.
// A transferred buffer is detached only when everything was cloned.
(function (ops, lib) {
  "use strict";
  const {
    Array, ArrayBuffer, ArrayBufferPrototypeGetByteLength, ArrayBufferPrototypeGetDetached, ArrayBufferPrototypeGetMaxByteLength,
    ArrayBufferPrototypeGetResizable, ArrayBufferPrototypeSlice, ArrayBufferPrototypeTransfer, ArrayPrototypeIndexOf, ArrayPrototypePush,
    BigIntPrototypeValueOf, BooleanPrototypeValueOf, DataView, Date, DatePrototypeGetTime, Error, Map, MapIteratorNext, MapPrototypeEntries,
    MapPrototypeGet, MapPrototypeGetSize, MapPrototypeHas, MapPrototypeSet, NumberPrototypeValueOf, Object, ObjectDefineProperty,
    ObjectGetOwnPropertyDescriptor, ObjectHasOwn, ObjectKeys, RangeError, RegExp, RegExpPrototypeGetFlags, RegExpPrototypeGetSource,
    Set, SetIteratorNext, SetPrototypeAdd, SetPrototypeGetSize, SetPrototypeValues, StringPrototypeValueOf, SyntaxError, TypeError,
    TypedArrayPrototypeGetByteOffset, TypedArrayPrototypeGetLength, TypedArrayPrototypeGetSymbolToStringTag, Uint8Array, TypedArrayPrototypeSet,
  } = lib.p;
  const { KIND } = lib;

  const typedArrays = { __proto__: null };
  for (const name of [
    "Int8Array", "Uint8Array", "Uint8ClampedArray", "Int16Array", "Uint16Array", "Int32Array", "Uint32Array", "Float16Array", "Float32Array",
    "Float64Array", "BigInt64Array", "BigUint64Array",
  ]) {
    typedArrays[name] = globalThis[name];
  }
  lib.late.push(() => {
    typedArrays.Float16Array = globalThis.Float16Array;
  });
  const errors = {
    __proto__: null, Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError,
  };

  lib.errorClasses = errors;
  lib.typedArrays = typedArrays;

  const refuse = (what) => new lib.DOMException(`${what} could not be cloned.`, "DataCloneError");

  // Objects of the platform that have no serialisation of their own.
  const isPlatform = (value) =>
    lib.isHeaders(value) || lib.isRequest(value) || lib.isResponse(value) || lib.isReadableStream(value) || lib.isWritableStream(value) ||
    lib.isTransformStream(value) || lib.isURL(value) || lib.isURLSearchParams(value) || lib.isFormData(value) || lib.isEvent(value) || lib.isEventTarget(value);

  function define(object, key, value) {
    ObjectDefineProperty(object, key, { __proto__: null, value, writable: true, configurable: true, enumerable: true });
  }

  function clone(memory, value) {
    if (typeof value === "symbol") throw refuse("A symbol");
    if (typeof value === "function") throw refuse("A function");
    if (typeof value !== "object" || value === null) return value;
    if (MapPrototypeHas(memory, value)) return MapPrototypeGet(memory, value);
    return cloneObject(memory, value);
  }

  function cloneObject(memory, value) {
    const keep = (copy) => {
      MapPrototypeSet(memory, value, copy);
      return copy;
    };
    switch (ops.valueKind(value)) {
      case KIND.ARRAY: {
        const copy = keep(new Array(value.length));
        return copyProperties(memory, value, copy);
      }
      case KIND.DATE:
        return keep(new Date(DatePrototypeGetTime(value)));
      case KIND.REGEXP:
        return keep(new RegExp(RegExpPrototypeGetSource(value), RegExpPrototypeGetFlags(value)));
      case KIND.BOXED:
        return keep(cloneBoxed(value));
      case KIND.ARRAY_BUFFER:
        return keep(cloneBuffer(value));
      case KIND.TYPED_ARRAY:
      case KIND.DATA_VIEW:
        return keep(cloneView(memory, value));
      case KIND.MAP:
        return cloneMap(memory, value, keep(new Map()));
      case KIND.SET:
        return cloneSet(memory, value, keep(new Set()));
      case KIND.ERROR:
        return cloneError(memory, value, keep);
      case KIND.OTHER:
      case KIND.ARGUMENTS:
        return cloneOther(memory, value, keep);
      case KIND.PROXY:
        throw refuse("A Proxy");
      case KIND.PROMISE:
        throw refuse("A Promise");
      case KIND.FUNCTION:
        throw refuse("A function");
      default:
        throw refuse("An object of this kind");
    }
  }

  function cloneOther(memory, value, keep) {
    if (lib.isFile(value)) {
      return keep(lib.newFile(lib.blobBytes(value), lib.blobType(value), lib.fileName(value), lib.fileLastModified(value)));
    }
    if (lib.isCryptoKey?.(value)) return keep(lib.cloneKey(value));
    if (lib.isBlob(value)) return keep(lib.newBlob(lib.blobBytes(value), lib.blobType(value)));
    if (lib.isDOMException(value)) {
      const copy = keep(new lib.DOMException(lib.domExceptionMessage(value), lib.domExceptionName(value)));
      const stack = ObjectGetOwnPropertyDescriptor(value, "stack")?.value;
      if (typeof stack === "string") {
        ObjectDefineProperty(copy, "stack", { __proto__: null, value: stack, writable: true, configurable: true, enumerable: false });
      }
      return copy;
    }
    if (isPlatform(value)) throw refuse("An object of the platform");
    return copyProperties(memory, value, keep({}));
  }

  // Own enumerable properties with string keys. Getters run, as the standard has it.
  function copyProperties(memory, from, to) {
    const keys = ObjectKeys(from);
    for (let i = 0; i < keys.length; i++) {
      if (ObjectHasOwn(from, keys[i])) define(to, keys[i], clone(memory, from[keys[i]]));
    }
    return to;
  }

  function cloneBoxed(value) {
    const unbox = [BooleanPrototypeValueOf, NumberPrototypeValueOf, StringPrototypeValueOf, BigIntPrototypeValueOf];
    for (let i = 0; i < unbox.length; i++) {
      let inner;
      try {
        inner = (0, unbox[i])(value);
      } catch {
        continue;
      }
      return Object(inner);
    }
    throw refuse("A Symbol object");
  }

  function cloneBuffer(buffer) {
    if (ArrayBufferPrototypeGetDetached(buffer)) throw refuse("A detached ArrayBuffer");
    if (!ArrayBufferPrototypeGetResizable(buffer)) return ArrayBufferPrototypeSlice(buffer, 0, ArrayBufferPrototypeGetByteLength(buffer));
    const copy = new ArrayBuffer(ArrayBufferPrototypeGetByteLength(buffer), { __proto__: null, maxByteLength: ArrayBufferPrototypeGetMaxByteLength(buffer) });
    TypedArrayPrototypeSet(new Uint8Array(copy), new Uint8Array(buffer));
    return copy;
  }

  function cloneView(memory, view) {
    const source = lib.viewBuffer(view);
    if (!lib.isArrayBuffer(source)) throw refuse("A view of a SharedArrayBuffer");
    const tag = TypedArrayPrototypeGetSymbolToStringTag(view);
    // A view that has fallen out of its resizable buffer throws here or has no bytes.
    const length = tag === undefined ? lib.viewByteLength(view) : TypedArrayPrototypeGetLength(view);
    const offset = tag === undefined ? lib.viewByteOffset(view) : TypedArrayPrototypeGetByteOffset(view);
    const buffer = clone(memory, source);
    return tag === undefined ? new DataView(buffer, offset, length) : new typedArrays[tag](buffer, offset, length);
  }

  function cloneMap(memory, map, copy) {
    const entries = [];
    const iterator = MapPrototypeEntries(map);
    const size = MapPrototypeGetSize(map);
    for (let i = 0; i < size; i++) {
      const pair = MapIteratorNext(iterator).value;
      ArrayPrototypePush(entries, pair[0], pair[1]);
    }
    for (let i = 0; i < entries.length; i += 2) MapPrototypeSet(copy, clone(memory, entries[i]), clone(memory, entries[i + 1]));
    return copy;
  }

  function cloneSet(memory, set, copy) {
    const entries = [];
    const iterator = SetPrototypeValues(set);
    const size = SetPrototypeGetSize(set);
    for (let i = 0; i < size; i++) ArrayPrototypePush(entries, SetIteratorNext(iterator).value);
    for (let i = 0; i < entries.length; i++) SetPrototypeAdd(copy, clone(memory, entries[i]));
    return copy;
  }

  function cloneError(memory, error, keep) {
    const name = error.name === undefined ? "Error" : lib.domString(error.name);
    const message = ObjectGetOwnPropertyDescriptor(error, "message");
    const make = errors[name] ?? Error;
    const copy = keep(message !== undefined && "value" in message ? new make(lib.domString(message.value)) : new make());
    const { stack } = error;
    ObjectDefineProperty(copy, "stack", {
      __proto__: null, value: typeof stack === "string" ? stack : "", writable: true, configurable: true, enumerable: false,
    });
    const cause = ObjectGetOwnPropertyDescriptor(error, "cause");
    if (cause !== undefined && "value" in cause) {
      ObjectDefineProperty(copy, "cause", { __proto__: null, value: clone(memory, cause.value), writable: true, configurable: true, enumerable: false });
    }
    return copy;
  }

  // A chunk of a stream for its second branch (Streams, "tee" with cloning).
  lib.cloneChunk = (chunk) => clone(new Map(), chunk);

  // StructuredSerializeWithTransfer and its reverse: the copy, and the message ports that moved. Nothing moves if anything fails.
  lib.cloneWithTransfer = (value, transfer, forbidden) => {
    const memory = new Map();
    const moves = [];
    const buffers = [];
    const ports = [];
    for (let i = 0; i < transfer.length; i++) {
      const item = transfer[i];
      if (item === forbidden || MapPrototypeHas(memory, item) || ArrayPrototypeIndexOf(buffers, item) !== -1) throw refuse("A value of the transfer list");
      if (lib.isArrayBuffer(item)) {
        if (ArrayBufferPrototypeGetDetached(item)) throw refuse("A value of the transfer list");
        ArrayPrototypePush(buffers, item);
        continue;
      }
      lib.load("messages.js");
      const move = lib.isMessagePort(item) ? lib.movePort(item) : lib.moveStream(item);
      if (move === undefined) throw refuse("A value of the transfer list");
      MapPrototypeSet(memory, item, move.made);
      ArrayPrototypePush(moves, move);
      if (lib.isMessagePort(item)) ArrayPrototypePush(ports, move.made);
    }
    const copy = clone(memory, value);
    for (let i = 0; i < buffers.length; i++) if (ArrayBufferPrototypeGetDetached(buffers[i])) throw refuse("A value of the transfer list");
    for (let i = 0; i < moves.length; i++) if (!moves[i].possible()) throw refuse("A value of the transfer list");
    for (let i = 0; i < buffers.length; i++) ArrayBufferPrototypeTransfer(buffers[i], 0);
    for (let i = 0; i < moves.length; i++) moves[i].commit();
    return { __proto__: null, copy, ports };
  };

  lib.transferList = (transfer) => {
    const list = [];
    if (transfer !== undefined) {
      lib.iterate(transfer, "The transfer list", (item) => {
        if (!lib.isObject(item)) throw new TypeError("The transfer list has a value that is no object");
        ArrayPrototypePush(list, item);
      });
    }
    return list;
  };

  lib.defineGlobal("structuredClone", { structuredClone(value, options = undefined) {
    lib.requireArgs(arguments.length, 1, "structuredClone");
    const transfer = lib.transferList(lib.dictionary(options, "structuredClone's options").transfer);
    return lib.cloneWithTransfer(value, transfer, undefined).copy;
  } }.structuredClone);
})
