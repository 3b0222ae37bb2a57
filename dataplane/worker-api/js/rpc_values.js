// Values on their way between two Workers: into a message and out of it. A rare file.
//
// A message is JSON and byte strings beside it. Primitives are themselves; everything else is an array that begins with a tag, so that
// shared references, cycles and what JSON has not keep their shape. Functions, targets and streams go by reference: the message has a
// number of the session's (rpc.js). What a peer sent is believed in nothing: a message that is none is an error of the session.
// Bounds: nesting of DEPTH_MAX; the bytes of a message are rpc.js's to count.
(function (ops, lib) {
  "use strict";
  const {
    Array, ArrayBuffer, ArrayBufferPrototypeGetByteLength, ArrayBufferPrototypeGetDetached, ArrayBufferPrototypeSlice, ArrayIsArray, ArrayPrototypePush,
    BigInt, BigIntPrototypeToString, BigIntPrototypeValueOf, BooleanPrototypeValueOf, DataView, DataViewPrototypeGetBuffer, DataViewPrototypeGetByteLength,
    DataViewPrototypeGetByteOffset, Date, DatePrototypeGetTime, Error, Map, MapIteratorNext, MapPrototypeEntries, MapPrototypeGet, MapPrototypeSet,
    Number, NumberIsFinite, NumberIsInteger, NumberPrototypeValueOf, Object, ObjectDefineProperty, ObjectGetPrototypeOf, ObjectHasOwn, ObjectIs, ObjectKeys, RegExp,
    RegExpPrototypeGetFlags, RegExpPrototypeGetSource, Set, SetIteratorNext, SetPrototypeAdd, SetPrototypeValues, String, StringPrototypeValueOf,
    TypeError, TypedArrayPrototypeGetBuffer, TypedArrayPrototypeGetByteLength, TypedArrayPrototypeGetByteOffset, TypedArrayPrototypeGetLength,
    TypedArrayPrototypeGetSymbolToStringTag, TypedArrayPrototypeSlice, Uint8Array, PromisePrototypeThen, PromiseResolve,
    WeakMap, WeakMapPrototypeGet, WeakMapPrototypeSet, newDeferred, setHandled,
  } = lib.p;
  const { KIND } = lib;

  const DEPTH_MAX = 500;

  const refuse = (what) => new lib.DOMException(`${what} cannot be sent to another Worker.`, "DataCloneError");

  function define(object, key, value) {
    ObjectDefineProperty(object, key, { __proto__: null, value, writable: true, configurable: true, enumerable: true });
  }

  // Puts one message together. `session` gives numbers for what goes by reference, and takes them back when the message is not sent.
  class Encoder {
    session;
    parts = [];
    seen = new Map();
    count = 0;
    depth = 0;
    constructor(session) {
      this.session = session;
    }

    part(bytes) {
      ArrayPrototypePush(this.parts, bytes);
      return this.parts.length - 1;
    }

    value(value) {
      switch (typeof value) {
        case "string":
        case "boolean":
          return value;
        case "number":
          return NumberIsFinite(value) && !ObjectIs(value, -0) ? value : ["n", ObjectIs(value, -0) ? "-0" : String(value)];
        case "undefined":
          return ["u"];
        case "bigint":
          return ["b", BigIntPrototypeToString(value)];
        case "symbol":
          throw refuse("A symbol");
        default:
      }
      if (value === null) return null;
      const known = MapPrototypeGet(this.seen, value);
      if (known !== undefined) return ["r", known];
      if (++this.depth > DEPTH_MAX) throw refuse(`A value nested deeper than ${DEPTH_MAX}`);
      MapPrototypeSet(this.seen, value, this.count++);
      const node = this.object(value);
      this.depth--;
      return node;
    }

    object(value) {
      const reference = this.session.reference(value);
      if (reference !== undefined) return reference;
      switch (ops.valueKind(value)) {
        case KIND.ARRAY:
          return this.array(value);
        case KIND.DATE:
          return ["d", this.value(DatePrototypeGetTime(value))];
        case KIND.REGEXP:
          return ["x", RegExpPrototypeGetSource(value), RegExpPrototypeGetFlags(value)];
        case KIND.BOXED:
          return ["B", this.value(unbox(value))];
        case KIND.ARRAY_BUFFER:
          return ["ab", this.part(new Uint8Array(whole(value)))];
        case KIND.TYPED_ARRAY:
          return ["t", TypedArrayPrototypeGetSymbolToStringTag(value), this.part(viewBytes(
            TypedArrayPrototypeGetBuffer(value), TypedArrayPrototypeGetByteOffset(value), TypedArrayPrototypeGetByteLength(value)))];
        case KIND.DATA_VIEW:
          return ["t", "DataView", this.part(viewBytes(DataViewPrototypeGetBuffer(value), DataViewPrototypeGetByteOffset(value), DataViewPrototypeGetByteLength(value)))];
        case KIND.MAP: {
          const items = [];
          const entries = MapPrototypeEntries(value);
          for (let step = MapIteratorNext(entries); !step.done; step = MapIteratorNext(entries)) {
            ArrayPrototypePush(items, this.value(step.value[0]), this.value(step.value[1]));
          }
          return ["m", items];
        }
        case KIND.SET: {
          const items = [];
          const values = SetPrototypeValues(value);
          for (let step = SetIteratorNext(values); !step.done; step = SetIteratorNext(values)) ArrayPrototypePush(items, this.value(step.value));
          return ["s", items];
        }
        case KIND.ERROR: {
          const { name, message } = lib.errorParts(value);
          const { cause } = value;
          return cause === undefined ? ["e", name, message] : ["e", name, message, this.value(cause)];
        }
        case KIND.OTHER:
        case KIND.ARGUMENTS:
          return this.other(value);
        case KIND.PROMISE:
          return this.session.givePromise(value);
        case KIND.PROXY:
          throw refuse("A Proxy");
        default:
          throw refuse("An object of this kind");
      }
    }

    array(value) {
      const keys = ObjectKeys(value);
      const { length } = value;
      if (keys.length !== length) return ["A", length, this.entries(value, keys)];
      const items = [];
      for (let i = 0; i < length; i++) {
        if (!ObjectHasOwn(value, i)) return ["A", length, this.entries(value, keys)];
        ArrayPrototypePush(items, this.value(value[i]));
      }
      return ["a", items];
    }

    entries(value, keys) {
      const items = [];
      for (let i = 0; i < keys.length; i++) ArrayPrototypePush(items, keys[i], this.value(value[keys[i]]));
      return items;
    }

    other(value) {
      if (lib.isHeaders(value)) return ["hd", lib.copyList(lib.headersList(value))];
      if (lib.isReadableStream(value)) return ["rs", this.session.sendStream(value)];
      if (lib.isWritableStream(value)) return ["ws", this.session.giveSink(value)];
      if (lib.isRequest(value)) {
        const body = this.body(lib.takeBody(lib.requestBodyOf(value)));
        return ["rq", lib.requestMethod(value), lib.requestUrl(value), lib.copyList(lib.requestList(value)), lib.requestRedirect(value), body];
      }
      if (lib.isResponse(value)) return this.response(value);
      if (lib.isBlob(value)) return ["bl", this.part(lib.blobBytes(value)), lib.blobType(value)];
      if (lib.isDOMException(value)) return ["e", lib.domExceptionName(value), lib.domExceptionMessage(value)];
      const prototype = ObjectGetPrototypeOf(value);
      if (prototype !== null && prototype !== Object.prototype) throw refuse("An object of a class that does not extend RpcTarget");
      return ["o", this.entries(value, ObjectKeys(value))];
    }

    response(value) {
      const list = lib.copyList(lib.responseList(value));
      const taken = lib.takeResponse(value);
      if (taken.webSocket !== null) throw refuse("A Response with a WebSocket");
      return ["rp", taken.status, list, this.body(taken.body)];
    }

    // What was taken of a body: null, text, bytes, or a stream.
    body(taken) {
      if (taken === null) return null;
      if (typeof taken === "string") return ["p", this.part(ops.utf8Encode(taken))];
      if (lib.isReadableStream(taken)) return ["rs", this.session.sendStream(taken)];
      return ["p", this.part(TypedArrayPrototypeSlice(taken))];
    }
  }

  function unbox(value) {
    const all = [BooleanPrototypeValueOf, NumberPrototypeValueOf, StringPrototypeValueOf, BigIntPrototypeValueOf];
    for (let i = 0; i < all.length; i++) {
      try {
        return (0, all[i])(value);
      } catch {
        // Not of this kind.
      }
    }
    throw refuse("A Symbol object");
  }

  function whole(buffer) {
    if (ArrayBufferPrototypeGetDetached(buffer)) throw refuse("A detached ArrayBuffer");
    return ArrayBufferPrototypeSlice(buffer, 0, ArrayBufferPrototypeGetByteLength(buffer));
  }

  function viewBytes(buffer, offset, length) {
    let view;
    try {
      view = new Uint8Array(buffer, offset, length);
    } catch {
      throw refuse("A view of a detached ArrayBuffer");
    }
    return TypedArrayPrototypeSlice(view);
  }

  const broken = () => new TypeError("The other Worker sent a message that is none");

  function text(value) {
    if (typeof value !== "string") throw broken();
    return value;
  }

  function list(value) {
    if (!ArrayIsArray(value)) throw broken();
    return value;
  }

  // A flat list of header fields.
  function fields(value) {
    const from = list(value);
    if (from.length % 2 !== 0) throw broken();
    const init = [];
    for (let i = 0; i < from.length; i += 2) ArrayPrototypePush(init, [text(from[i]), text(from[i + 1])]);
    return init;
  }

  // In place of a promise's value until that has come; `puts` get it to where it belongs.
  class Later {
    promise;
    puts = [];
    constructor(promise) {
      this.promise = promise;
    }
  }

  // Takes one message apart. `handles` are the references to the peer's that came with it.
  class Decoder {
    session;
    parts;
    base;
    depth;
    seen = [];
    handles = [];
    laters = [];
    // What can be done only when the promises have come.
    finish = [];
    constructor(session, parts, base, depth) {
      this.session = session;
      this.parts = parts;
      this.base = base;
      this.depth = depth;
    }

    // Comes when all promises in the value have; undefined where there are none.
    waits() {
      const { laters, finish } = this;
      if (laters.length === 0) return undefined;
      const all = newDeferred();
      let left = laters.length;
      for (let i = 0; i < laters.length; i++) {
        const { promise, puts } = laters[i];
        if (puts.length === 0) throw broken();
        PromisePrototypeThen(promise, (value) => {
          for (let k = 0; k < puts.length; k++) puts[k](value);
          if (--left > 0) return;
          for (let k = 0; k < finish.length; k++) finish[k]();
          all.resolve(undefined);
        }, all.reject);
      }
      return all.promise;
    }

    // A value without promises.
    whole(node) {
      const value = this.value(node);
      if (this.laters.length !== 0) throw broken();
      return value;
    }

    // What is in a place, now or later.
    into(node, put) {
      const value = this.value(node);
      if (value instanceof Later) ArrayPrototypePush(value.puts, put);
      put(value instanceof Later ? undefined : value);
    }

    part(index) {
      const bytes = NumberIsInteger(index) && index >= 0 ? this.parts[this.base + index] : undefined;
      if (bytes === undefined) throw broken();
      return bytes;
    }

    keep(value) {
      ArrayPrototypePush(this.seen, value);
      return value;
    }

    value(node) {
      if (typeof node !== "object" || node === null) return node;
      if (!ArrayIsArray(node)) throw broken();
      switch (node[0]) {
        case "n":
          return Number(text(node[1]));
        case "u":
          return undefined;
        case "b":
          return BigInt(text(node[1]));
        case "r":
          if (!NumberIsInteger(node[1]) || node[1] < 0 || node[1] >= this.seen.length) throw broken();
          return this.seen[node[1]];
        case "a":
          return this.items(this.keep([]), list(node[1]));
        case "A": {
          if (!NumberIsInteger(node[1]) || node[1] < 0 || node[1] > 0xffffffff) throw broken();
          return this.fill(this.keep(new Array(node[1])), list(node[2]));
        }
        case "o":
          return this.fill(this.keep({}), list(node[1]));
        case "d":
          return this.keep(new Date(this.plain(node[1])));
        case "x":
          return this.keep(new RegExp(text(node[1]), text(node[2])));
        case "B":
          return this.keep(Object(this.plain(node[1])));
        case "ab":
          return this.keep(buffer(this.part(node[1])));
        case "t":
          return this.view(text(node[1]), this.part(node[2]));
        case "m":
          return this.map(this.keep(new Map()), list(node[1]));
        case "s":
          return this.set(this.keep(new Set()), list(node[1]));
        case "e":
          return this.error(node);
        case "bl":
          return this.keep(lib.newBlob(this.part(node[1]), text(node[2])));
        default:
          return this.platform(node);
      }
    }

    // A primitive.
    plain(node) {
      const value = this.value(node);
      if (lib.isObject(value)) throw broken();
      return value;
    }

    platform(node) {
      switch (node[0]) {
        case "p":
        case "P": {
          const later = new Later(this.session.takePromise(node, this));
          setHandled(later.promise);
          ArrayPrototypePush(this.laters, later);
          return this.keep(later);
        }
        case "f":
        case "sv":
        case "h":
          return this.keep(this.session.dereference(node, this.handles));
        case "rs":
          return this.keep(this.session.receiveStream(node[1]));
        case "ws":
          return this.keep(this.session.receiveSink(node[1]));
        case "hd":
          return this.keep(new lib.Headers(fields(node[1])));
        case "rq": {
          const place = this.seen.length;
          this.keep(undefined);
          const body = this.body(node[5]);
          const init = { __proto__: null, method: text(node[1]), headers: fields(node[3]), redirect: text(node[4]) };
          if (body !== null) init.body = body;
          return (this.seen[place] = new lib.Request(text(node[2]), init));
        }
        case "rp": {
          const place = this.seen.length;
          this.keep(undefined);
          const body = this.body(node[3]);
          return (this.seen[place] = new lib.Response(body, { __proto__: null, status: node[1], headers: fields(node[2]) }));
        }
        default:
          throw broken();
      }
    }

    body(node) {
      if (node === null) return null;
      const kind = list(node)[0];
      if (kind === "p") return this.part(node[1]);
      if (kind === "rs") return this.session.receiveStream(node[1]);
      throw broken();
    }

    items(array, nodes) {
      for (let i = 0; i < nodes.length; i++) this.into(nodes[i], (value) => define(array, i, value));
      return array;
    }

    fill(object, nodes) {
      if (nodes.length % 2 !== 0) throw broken();
      for (let i = 0; i < nodes.length; i += 2) {
        const key = text(nodes[i]);
        this.into(nodes[i + 1], (value) => define(object, key, value));
      }
      return object;
    }

    map(map, nodes) {
      return this.collect(map, nodes, (items) => {
        for (let i = 0; i + 1 < items.length; i += 2) MapPrototypeSet(map, items[i], items[i + 1]);
      });
    }

    set(set, nodes) {
      return this.collect(set, nodes, (items) => {
        for (let i = 0; i < items.length; i++) SetPrototypeAdd(set, items[i]);
      });
    }

    // What has no places to be filled later is filled at the end.
    collect(object, nodes, fill) {
      const before = this.laters.length;
      const items = this.items([], nodes);
      if (this.laters.length === before) fill(items);
      else ArrayPrototypePush(this.finish, () => fill(items));
      return object;
    }

    view(name, bytes) {
      const own = buffer(bytes);
      if (name === "DataView") return this.keep(new DataView(own));
      const make = lib.typedArrays[name];
      if (make === undefined) throw broken();
      return this.keep(new make(own));
    }

    error(node) {
      const error = this.keep(lib.errorOf(text(node[1]), text(node[2])));
      if (node.length > 3) {
        this.into(node[3], (value) => {
          ObjectDefineProperty(error, "cause", { __proto__: null, value, writable: true, configurable: true, enumerable: false });
        });
      }
      return error;
    }
  }

  function buffer(bytes) {
    return ArrayBufferPrototypeSlice(TypedArrayPrototypeGetBuffer(bytes), TypedArrayPrototypeGetByteOffset(bytes),
      TypedArrayPrototypeGetByteOffset(bytes) + TypedArrayPrototypeGetLength(bytes));
  }

  // A WritableStream goes as one function, which writes, closes and aborts as it is told.
  const writers = new WeakMap();
  const writing = {
    __proto__: null,
    // The stream is locked from now on.
    functionOf(stream) {
      const state = lib.ws.stateOf(stream);
      if (lib.ws.isLocked(state)) throw refuse("A locked WritableStream");
      const writer = lib.ws.acquireWriter(state);
      const sink = (what, value) => {
        if (what === "write") return lib.ws.writerWrite(writer, value);
        if (what === "abort") return lib.ws.abort(state, value);
        if (what !== "close" || lib.ws.closeQueuedOrInFlight(state)) throw broken();
        return lib.ws.close(state);
      };
      WeakMapPrototypeSet(writers, sink, writer);
      return sink;
    },
    // The stream over a reference to such a function, which it keeps until it is closed or aborted: longer than the call that it came with.
    streamOf(handle) {
      const tell = (what, value) => handle.ask([], [what, value]).deferred.promise;
      const last = (promise) => {
        const done = () => handle.dispose();
        PromisePrototypeThen(promise, done, done);
        return promise;
      };
      return lib.ws.publicStream(
        lib.ws.create(undefined, (chunk) => tell("write", chunk), () => last(tell("close")), (reason) => last(tell("abort", reason))),
      );
    },
    // What it was given for is not sent.
    unlock(value) {
      const writer = lib.isObject(value) ? WeakMapPrototypeGet(writers, value) : undefined;
      if (writer !== undefined) lib.ws.writerRelease(writer);
    },
    // Nobody has it any more. Whether it is such a function.
    letGo(value) {
      const writer = WeakMapPrototypeGet(writers, value);
      if (writer === undefined) return false;
      const { stream } = writer;
      if (stream.state === "writable" && !lib.ws.closeQueuedOrInFlight(stream)) {
        setHandled(lib.ws.abort(stream, new Error("The other Worker let the WritableStream go without closing it.")));
      }
      return true;
    },
  };

  // A value as it would come to another Worker, for one that gets it from itself: what goes by reference stays what it is.
  class Copy {
    kept = [];
    keep(value) {
      ArrayPrototypePush(this.kept, value);
      return this.kept.length - 1;
    }
    reference(value) {
      if (!lib.goesByReference(value)) return undefined;
      const promise = lib.promiseOf(value);
      return promise === undefined ? ["h", this.keep(value)] : this.givePromise(promise);
    }
    givePromise(promise) {
      return ["P", this.keep(promise)];
    }
    sendStream(stream) {
      if (lib.rs.isLocked(lib.rs.stateOf(stream))) throw refuse("A locked ReadableStream");
      return this.keep(stream);
    }
    giveSink(stream) {
      return this.keep(stream);
    }
    dereference(node) {
      return this.kept[node[1]];
    }
    takePromise(node) {
      return PromisePrototypeThen(PromiseResolve(this.kept[node[1]]), copy);
    }
    receiveStream(id) {
      return this.kept[id];
    }
    receiveSink(id) {
      return this.kept[id];
    }
  }

  // Gives a promise where there are promises in it.
  function copy(value) {
    if (!lib.isObject(value)) return value;
    const session = new Copy();
    const encoder = new Encoder(session);
    const node = encoder.value(value);
    const decoder = new Decoder(session, encoder.parts, 0, 0);
    const copied = decoder.value(node);
    const waits = decoder.waits();
    return waits === undefined ? copied : PromisePrototypeThen(waits, () => copied);
  }

  lib.rpcValues = { __proto__: null, Encoder, Decoder, copy, refuse, broken, writing };
})
