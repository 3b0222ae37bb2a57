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
// A value may hold promises; the program gets it when they have come. `["p", target, path]` is what the receiver has at a path, or will have;
// `["P", export]` a promise of the sender's, asked for like a property.
//
// Bounds: MESSAGE_BYTES_MAX; promises in promises PROMISES_MAX deep; what a session holds is the isolates' memory, and each side's CPU time is its own request's.
(function (ops, lib) {
  "use strict";
  const {
    ArrayIsArray, ArrayPrototypePush, Error, JSONParse, JSONStringify, Map, MapIteratorNext, MapPrototypeClear, MapPrototypeDelete, MapPrototypeEntries,
    MapPrototypeGet, MapPrototypeGetSize, MapPrototypeSet, MathFloor, NumberIsInteger, PromisePrototypeThen, PromiseReject, PromiseResolve, Symbol, TypeError,
    TypedArrayPrototypeGetLength, TypedArrayPrototypeSet, TypedArrayPrototypeSlice, TypedArrayPrototypeSubarray, Uint8Array, noop, setHandled,
  } = lib.p;
  const SymbolDispose = Symbol.dispose;
  lib.load("rpc_values.js");
  lib.load("invoke.js");
  lib.load("services.js");
  lib.load("rpc_stubs.js");
  const { Decoder, Encoder, broken, copy, refuse, writing } = lib.rpcValues;
  const { Handle, Main, PATH_MAX, Question, RemoteService, STUB, disposeAll, failed, isTarget, makeProxy, perform, request, stateOf } = lib.rpcStubs;
  const { tables } = lib;

  // What Cloudflare's runtime allows.
  const MESSAGE_BYTES_MAX = 32 * 1024 * 1024;
  // Messages are put into one frame up to this.
  const FRAME_BYTES_MAX = 256 * 1024;
  const BODY_STREAM = 2;
  const PROMISES_MAX = 32;

  // An export that is a promise.
  class Promised {
    promise;
    constructor(promise) {
      this.promise = promise;
    }
  }

  // ---- Sessions.

  class Session {
    link = undefined;
    // Whose it is; nobody else may use its stubs.
    request;
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
    constructor(request) {
      this.request = request;
    }

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
        const value = MapPrototypeGet(this.exports, made[i]);
        writing.unlock(value);
        MapPrototypeDelete(this.exports, made[i]);
        // A copy that was made for the message.
        if (stateOf(value) !== undefined || lib.serviceOf(value) !== undefined) letGo(value);
        const source = MapPrototypeGet(this.sources, made[i]);
        if (source === undefined) continue;
        MapPrototypeDelete(this.sources, made[i]);
        setHandled(source.cancel(undefined));
      }
    }

    // How a value goes that goes by reference; none for any other.
    reference(value) {
      const service = lib.serviceOf(value);
      if (service !== undefined) {
        if (service.disposed) throw new Error("The RPC stub was used after it was disposed.");
        if (service instanceof RemoteService && service.handle.session === this) return ["h", service.handle.id];
        return ["sv", this.give(lib.serviceStub(service.dup()))];
      }
      const state = stateOf(value);
      if (state !== undefined) {
        const { target } = state;
        if (target.disposed) throw new Error("The RPC stub was used after it was disposed.");
        if (state.kind !== STUB) return this.promised(state);
        if (target instanceof Handle && target.session === this && state.path.length === 0) return ["h", target.id];
        return ["f", this.give(makeProxy(STUB, target.dup(), state.path))];
      }
      return typeof value === "function" || isTarget(value) ? ["f", this.give(value)] : undefined;
    }

    // An answer of another Worker's that has not come, or a property there. The peer has its own by itself.
    promised(state) {
      const { target } = state;
      if (target.session === this && target instanceof Handle) return ["p", ["i", target.id], state.path];
      if (target.session === this && target instanceof Question) return ["p", ["q", target.id], state.path];
      return this.givePromise(state.get());
    }

    givePromise(promise) {
      setHandled(promise);
      return ["P", this.give(new Promised(promise))];
    }

    // What a promise of the peer's comes to.
    takePromise(node, decoder) {
      if (node[0] === "p") {
        const { root, path } = this.place(node[1], node[2]);
        return settle(PromisePrototypeThen(reach(root, path, undefined), copy));
      }
      if (!NumberIsInteger(node[1])) throw broken();
      if (decoder.depth >= PROMISES_MAX) return PromiseReject(refuse(`A promise that is in more than ${PROMISES_MAX} others`));
      const handle = new Handle(this, node[1]);
      const question = this.call(["i", node[1]], [], undefined);
      question.depth = decoder.depth + 1;
      handle.dispose();
      ArrayPrototypePush(decoder.handles, question);
      return question.deferred.promise;
    }

    // Where a message of the peer's points to.
    place(target, path) {
      if (!ArrayIsArray(target) || !ArrayIsArray(path) || path.length > PATH_MAX) throw broken();
      for (let i = 0; i < path.length; i++) if (typeof path[i] !== "string") throw broken();
      const root = target[0] === "i" ? MapPrototypeGet(this.exports, target[1]) : MapPrototypeGet(this.answers, target[1]);
      if (root === undefined) throw broken();
      if (target[0] !== "i") return { __proto__: null, root: new Promised(root), path };
      return { __proto__: null, root, path };
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
        if (value === undefined || Main.is(value) || value instanceof Promised) throw broken();
        return this.home(value, handles);
      }
      const handle = new Handle(this, id);
      ArrayPrototypePush(handles, handle);
      return node[0] === "sv" ? lib.serviceStub(new RemoteService(handle)) : makeProxy(STUB, handle, []);
    }

    // What comes back here. A stub is one of its own, as what was sent is let go by the peer.
    home(value, handles) {
      const service = lib.serviceOf(value);
      const state = stateOf(value);
      if (service === undefined && state === undefined) return value;
      const target = (service ?? state.target).dup();
      ArrayPrototypePush(handles, target);
      return service === undefined ? makeProxy(STUB, target, state.path) : lib.serviceStub(target);
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
          // Its own, out of a frame that others are in.
          MapPrototypeGet(this.sinks, id)?.push(TypedArrayPrototypeSlice(parts[base]));
          return;
        case "close":
          return this.endSink(id, (sink) => sink.end());
        case "fail":
          return this.endSink(id, (sink) => sink.fail(new Decoder(this, parts, base, 0).whole(body[2])));
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
          this.send(["chunk", id], [result.value]);
        }
      };
      PromisePrototypeThen(source.read(), read, error);
    }

    // A call of the peer's.
    called(id, body, parts, base) {
      if (MapPrototypeGet(this.answers, id) !== undefined) throw broken();
      const { root, path } = this.place(body[2], body[3]);
      const decoder = new Decoder(this, parts, base, 0);
      const args = body.length > 4 ? decoder.value(body[4]) : undefined;
      if (args !== undefined && !ArrayIsArray(args)) throw broken();
      this.running++;
      const waits = decoder.waits();
      const result = settle(waits === undefined ? reach(root, path, args) : PromisePrototypeThen(waits, () => reach(root, path, args)));
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
      const decoder = new Decoder(this, parts, base, question.depth);
      const value = body[0] === "ret" ? decoder.value(body[2]) : decoder.whole(body[2]);
      MapPrototypeDelete(this.questions, id);
      // All that was asked of its result is on the way before this.
      this.send(["fin", id], []);
      question.session = undefined;
      const waits = decoder.waits();
      if (body[0] !== "ret") question.reject(value);
      else if (waits === undefined) question.resolve(value, decoder.handles);
      else PromisePrototypeThen(waits, () => question.resolve(value, decoder.handles), (error) => {
        disposeAll(decoder.handles);
        question.reject(error);
      });
    }
  }

  // Calls what is at a path, or gets it, as a promise.
  function reach(root, path, args) {
    if (root instanceof Promised) return PromisePrototypeThen(root.promise, (value) => perform(value, path, args));
    try {
      return PromiseResolve(perform(root, path, args));
    } catch (error) {
      return PromiseReject(error);
    }
  }

  // The value that a promise, or what behaves like one, comes to.
  function settle(promise) {
    return PromisePrototypeThen(promise, (value) => value);
  }

  // The peer has let go of something of ours.
  function letGo(value) {
    if (value === undefined || Main.is(value) || value instanceof Promised) return;
    const state = stateOf(value);
    if (writing.letGo(value)) return;
    try {
      const service = lib.serviceOf(value);
      if (service !== undefined) service.dispose();
      else if (state !== undefined) state.target.dispose();
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
    const session = new Session(request());
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

  lib.callService = (service, path, args) => {
    try {
      return open(service).call(["i", 0], path, args);
    } catch (error) {
      return failed(error);
    }
  };

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

  lib.serveCalls = (rid, entrypoint, props) => {
    const session = new Session(rid);
    session.link = new CalleeLink(rid, session);
    try {
      MapPrototypeSet(session.exports, 0, new Main(lib.entrypoint(entrypoint, rid, props)));
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

  // A request is over: its sessions are, and whoever has kept a stub of theirs is told so.
  lib.forgetSessions = (rid, fids) => {
    forget(MapPrototypeGet(tables.replies, rid));
    for (let i = 0; i < fids.length; i++) forget(MapPrototypeGet(tables.uploads, fids[i]));
  };
  function forget(link) {
    if (!(link instanceof CalleeLink) && !(link instanceof CallerLink)) return;
    link.session.over = true;
    link.session.error = new Error("The RPC stub belongs to a request that has ended.");
  }
})
