// What Rust calls: one entry for each event, and the bookkeeping of bodies and outbound requests between them.
//
// Owns the tenant's default export, `env` and `ctx`; the tables from ids to streams. Every entry is one turn, followed by
// the microtasks. An entry does not throw unless a limit ends the turn.
// Bounds: a table has at most one row for each request or outbound request that is open.
(function (ops, lib) {
  "use strict";
  const {
    ArrayBufferIsView, ArrayPrototypePush, JSONParse, Map, MapPrototypeDelete, MapPrototypeGet, MapPrototypeGetSize, MapPrototypeSet, ObjectDefineProperty, ObjectKeys,
    Promise, PromisePrototypeThen, PromiseResolve, StringPrototypeIndexOf, StringPrototypeSlice, TypeError, TypedArrayPrototypeGetByteLength, WeakMap, WeakMapPrototypeDelete, WeakMapPrototypeGet, WeakMapPrototypeSet,
  } = lib.p;

  const { captureStackTrace } = globalThis.Error;
  const FRAME = "\n    at ";
  const BODY_NONE = 0;
  const BODY_FULL = 1;
  const BODY_STREAM = 2;
  const BODY_PASSED_REQUEST = 3;
  const BODY_PASSED_FETCH = 4;
  const STEP_CHUNK = 0;
  const STEP_END = 1;
  const LEVEL_ERROR = 3;
  const HANDLERS = ["fetch", "scheduled", "queue", "email", "tail", "trace", "alarm"];

  let handler;
  let env;
  // What the program's module exports.
  let exported;

  // Requests whose reply is not complete at the end of their first turn.
  const open = new Map();
  // Bodies that native code feeds.
  const requestBodies = new Map();
  const fetchBodies = new Map();
  // Bodies that native code pulls.
  const replies = new Map();
  const uploads = new Map();
  // Bodies of outbound requests' responses that native code moves.
  const passing = new Map();
  // Outbound requests without a response yet.
  const fetches = new Map();

  // For the files that feed and pull these themselves.
  lib.tables = { __proto__: null, requestBodies, fetchBodies, replies, uploads };

  class ExecutionContext {
    #rid;
    // JSON until somebody looks.
    #props;
    constructor(token, rid, props) {
      if (token !== lib.internal) throw lib.illegalConstructor();
      this.#rid = rid;
      this.#props = props;
    }
    // What the caller's service binding gives.
    get props() {
      if (typeof this.#props === "string") this.#props = this.#props === "" ? {} : JSONParse(this.#props);
      return this.#props;
    }
    // The program's own entrypoints, as service bindings.
    get exports() {
      this.#rid;
      lib.load("services.js");
      return lib.ownServices(exported);
    }
    waitUntil(promise) {
      const rid = this.#rid;
      if (!ops.waitUntilStarted(rid)) return;
      const settled = () => ops.waitUntilSettled(rid);
      PromisePrototypeThen(PromiseResolve(promise), settled, (error) => {
        ops.log(LEVEL_ERROR, `Uncaught (in waitUntil) ${lib.describeError(error)}`);
        settled();
      });
    }
    passThroughOnException() {
      ops.passThrough(this.#rid);
    }
  }

  // Once, and before the program's module runs where that imports it.
  function makeEnv(envFlat, services) {
    if (env !== undefined) return;
    env = {};
    const put = (name, value) => ObjectDefineProperty(env, name, { __proto__: null, value, writable: true, enumerable: true, configurable: true });
    for (let i = 0; i < envFlat.length; i += 2) put(envFlat[i], envFlat[i + 1]);
    if (services === undefined) return;
    lib.load("services.js");
    for (let i = 0; i < services.length; i++) put(services[i], lib.service(i));
  }

  // Whether an export is a class that the module `cloudflare:workers` has given the base of. Where nobody has imported that, none is.
  lib.isEntrypointClass = () => false;

  function start(exports, envFlat, services) {
    makeEnv(envFlat, services);
    exported = exports;
    handler = exports.default;
    const names = [];
    const isClass = lib.isEntrypointClass(handler);
    if (lib.isObject(handler)) {
      const has = isClass ? handler.prototype : handler;
      for (let i = 0; i < HANDLERS.length; i++) {
        if (typeof has[HANDLERS[i]] === "function") ArrayPrototypePush(names, HANDLERS[i]);
      }
    }
    const keys = ObjectKeys(exports);
    for (let i = 0; i < keys.length; i++) {
      if (lib.isEntrypointClass(exports[keys[i]])) ArrayPrototypePush(names, "entrypoint");
    }
    if (isClass || names[0] !== "fetch") handler = { __proto__: null, fetch: (request, env, context) => fetchOf(exports.default, isClass, request, context) };
    return names;
  }

  // A request to a Worker that has a class, or no handler for it.
  function fetchOf(entrypoint, isClass, request, context) {
    const object = isClass ? new entrypoint(context, env) : undefined;
    if (typeof object?.fetch !== "function") throw new TypeError("Handler does not export a fetch() function");
    return object.fetch(request);
  }

  lib.env = () => env;
  lib.moduleExport = (name) => exported[name];
  lib.newContext = (rid, props) => new ExecutionContext(lib.internal, rid, props);
  lib.openRequests = open;
  lib.reply = (rid, response) => reply(rid, response);

  function invoke(kind, rid, a, b, c, d, e) {
    lib.load("invoke.js");
    lib.invoke(kind, rid, a, b, c, d, e);
  }

  function request(rid, method, url, bodyKind) {
    const request = lib.requestFromNative(rid, method, url, bodyKind);
    let result;
    try {
      result = handler.fetch(request, env, new ExecutionContext(lib.internal, rid, ""));
    } catch (error) {
      ops.requestFailed(rid, lib.describeError(error));
      return;
    }
    if (lib.isResponse(result)) {
      reply(rid, result);
      return;
    }
    MapPrototypeSet(open, rid, request);
    PromisePrototypeThen(PromiseResolve(result), (response) => reply(rid, response), (error) => {
      MapPrototypeDelete(open, rid);
      ops.requestFailed(rid, lib.describeError(error));
    });
  }

  // Sends a response; what is wrong with it is the handler's exception.
  function reply(rid, response) {
    let streams = false;
    try {
      const taken = lib.takeResponse(response);
      if (taken === undefined) {
        ops.notAResponse(rid);
      } else {
        if (taken.body !== null && taken.headerList !== null) applyCoding(taken);
        const { body } = taken;
        if (taken.webSocket !== null) {
          lib.answerWithSocket(rid, taken.webSocket, taken.headerList);
        } else if (body === null) {
          ops.respond(rid, taken.status, taken.headerList, taken.contentType, BODY_NONE, body, -1);
        } else if (typeof body === "string" || ArrayBufferIsView(body)) {
          ops.respond(rid, taken.status, taken.headerList, taken.contentType, BODY_FULL, body, -1);
        } else {
          streams = replyStream(rid, taken);
        }
      }
    } catch (error) {
      ops.requestFailed(rid, lib.describeError(error));
    }
    if (!streams && MapPrototypeGetSize(open) !== 0) MapPrototypeDelete(open, rid);
  }

  // A response that says that it is encoded: what came so is sent as it came, what is not is encoded (js/content_coding.js).
  function applyCoding(taken) {
    const { body, headerList } = taken;
    const coding = lib.contentCoding(headerList);
    if (lib.isReadableStream(body)) {
      const state = lib.rs.stateOf(body);
      const raw = lib.rs.rawBytes(state, coding);
      if (raw !== undefined) {
        taken.body = raw;
        return;
      }
      if (coding === "" || taken.manual || lib.rs.passable(state, coding) !== undefined) return;
    } else if (coding === "" || taken.manual) {
      return;
    }
    if (coding !== "gzip") {
      lib.headerListDelete(headerList, "content-encoding");
      return;
    }
    lib.load("content_coding.js");
    taken.length = -1;
    taken.body = lib.isReadableStream(body) ? lib.encodedStream(body, coding) : lib.encodedBytes(body, coding);
  }

  // Whether the stream will be pulled.
  function replyStream(rid, taken) {
    // What another Worker called has no socket to answer on.
    const passing = ops.mayPass(BODY_PASSED_REQUEST, rid) ? Passing.of(taken.body, taken.headerList) : undefined;
    if (passing !== undefined) {
      const { kind, id } = passing;
      const length = passing.length ?? taken.length;
      const wanted = ops.respond(rid, taken.status, taken.headerList, taken.contentType, kind, id, length);
      if (wanted) MapPrototypeSet(replies, rid, passing.begin());
      else cancelQuietly(lib.streamReader(taken.body), undefined);
      return wanted;
    }
    const reader = lib.streamReader(taken.body);
    const wanted = ops.respond(rid, taken.status, taken.headerList, taken.contentType, BODY_STREAM, undefined, taken.length);
    if (wanted) MapPrototypeSet(replies, rid, new Outgoing(rid, reader, replySteps));
    else cancelQuietly(reader, undefined);
    return wanted;
  }

  function cancelQuietly(reader, reason) {
    PromisePrototypeThen(reader.cancel(reason), undefined, () => {});
  }

  // A body that native code moves from where it came to where it goes.
  class Passing {
    kind;
    id;
    length = undefined;
    reader = this;
    #feed;
    #pipe;
    constructor(feed, pipe) {
      this.kind = feed.kind;
      this.id = feed.id;
      this.#feed = feed;
      this.#pipe = pipe;
    }
    // For a stream of which nothing was read and that native code feeds; else undefined.
    static of(stream, list) {
      const state = lib.rs.stateOf(stream);
      const coding = state.fused === undefined || state.fused.coding === undefined || list === null ? "" : lib.contentCoding(list);
      const feed = lib.rs.passable(state, coding);
      if (feed?.kind === undefined || !ops.mayPass(feed.kind, feed.id)) return undefined;
      const passing = new Passing(feed, state.fused);
      // As it came, and so with the length that it came with.
      if (coding !== "") passing.length = state.fused.source.promisedLength;
      return passing;
    }
    begin() {
      this.#feed.give();
      MapPrototypeDelete(this.kind === BODY_PASSED_FETCH ? fetchBodies : requestBodies, this.id);
      if (this.kind === BODY_PASSED_FETCH) MapPrototypeSet(passing, this.id, this);
      return this;
    }
    end(message) {
      if (this.kind === BODY_PASSED_FETCH) MapPrototypeDelete(passing, this.id);
      if (this.#pipe === undefined) return;
      if (message === undefined) this.#pipe.deferred.resolve(undefined);
      else this.#pipe.deferred.reject(new TypeError(message));
    }
    // As a reader: it is not wanted any more. Native code knows.
    cancel(reason) {
      this.end("The body is not wanted any more");
      return PromiseResolve(undefined);
    }
    pull() {}
  }

  // A body that native code pulls, chunk by chunk.
  class Outgoing {
    id;
    reader;
    steps;
    onRead;
    onError;
    constructor(id, reader, steps) {
      this.id = id;
      this.reader = reader;
      this.steps = steps;
      this.onRead = (result) => this.read(result);
      this.onError = (error) => this.steps.failed(this.id, error);
    }
    pull() {
      PromisePrototypeThen(this.reader.read(), this.onRead, this.onError);
    }
    read({ done, value }) {
      if (done) {
        this.steps.end(this.id);
      } else if (lib.isUint8Array(value)) {
        if (TypedArrayPrototypeGetByteLength(value) === 0) this.pull();
        else if (this.steps.chunk(this.id, value) === false) cancelQuietly(this.reader, new TypeError("The response is too large"));
      } else {
        const error = new TypeError("A body's stream gave a chunk that is not a Uint8Array");
        cancelQuietly(this.reader, error);
        this.steps.failed(this.id, error);
      }
    }
  }

  const replySteps = {
    __proto__: null,
    chunk(rid, chunk) {
      const taken = ops.responseChunk(rid, chunk);
      if (!taken) closeReply(rid);
      return taken;
    },
    end(rid) {
      closeReply(rid);
      ops.responseEnd(rid);
    },
    failed(rid, error) {
      closeReply(rid);
      ops.responseFailed(rid, lib.describeError(error));
    },
  };

  function closeReply(rid) {
    MapPrototypeDelete(replies, rid);
    MapPrototypeDelete(open, rid);
  }

  const uploadSteps = {
    __proto__: null,
    chunk: (fid, chunk) => ops.fetchUploadChunk(fid, chunk),
    end(fid) {
      MapPrototypeDelete(uploads, fid);
      ops.fetchUploadEnd(fid);
    },
    failed(fid, error) {
      MapPrototypeDelete(uploads, fid);
      ops.fetchUploadFailed(fid, lib.describeError(error));
    },
  };

  function pullResponse(rid) {
    MapPrototypeGet(replies, rid)?.pull();
  }

  function pullFetchUpload(fid) {
    MapPrototypeGet(uploads, fid)?.pull();
  }

  function responsePassed(rid, message) {
    const moved = MapPrototypeGet(replies, rid);
    closeReply(rid);
    if (moved !== undefined) moved.end(message);
  }

  function uploadPassed(fid, message) {
    const moved = MapPrototypeGet(uploads, fid);
    MapPrototypeDelete(uploads, fid);
    if (moved !== undefined) moved.end(message);
  }

  function clientGone(rid) {
    const reason = new lib.DOMException("The client is gone", "AbortError");
    const outgoing = MapPrototypeGet(replies, rid);
    const request = MapPrototypeGet(open, rid);
    closeReply(rid);
    failStep(requestBodies, rid, reason);
    if (request !== undefined) lib.abortRequest(request, reason);
    if (outgoing !== undefined) cancelQuietly(outgoing.reader, reason);
  }

  function failStep(bodies, id, error) {
    const native = MapPrototypeGet(bodies, id);
    if (native === undefined) return;
    MapPrototypeDelete(bodies, id);
    native.fail(error);
  }

  // One step of a body that native code feeds.
  function step(bodies, id, kind, data) {
    const native = MapPrototypeGet(bodies, id);
    if (native === undefined) return;
    if (kind === STEP_CHUNK) {
      native.push(data);
      return;
    }
    MapPrototypeDelete(bodies, id);
    if (kind === STEP_END) native.end();
    else native.fail(new TypeError(data));
  }

  function requestBody(rid, kind, data) {
    step(requestBodies, rid, kind, data);
  }

  function fetchBody(fid, kind, data) {
    step(fetchBodies, fid, kind, data);
  }

  lib.openRequestBody = (rid) => {
    const native = lib.nativeStream(
      () => {
        if (!ops.requestBodyPull(rid)) failStep(requestBodies, rid, new TypeError("The request is over, its body cannot be read"));
      },
      () => {
        MapPrototypeDelete(requestBodies, rid);
        ops.requestBodyCancel(rid);
      },
      BODY_PASSED_REQUEST, rid,
    );
    MapPrototypeSet(requestBodies, rid, native);
    return native.stream;
  };

  function openFetchBody(fid) {
    const native = lib.nativeStream(
      () => {
        if (!ops.fetchBodyPull(fid)) failStep(fetchBodies, fid, new TypeError("The request that made this fetch is over, the body cannot be read"));
      },
      () => {
        MapPrototypeDelete(fetchBodies, fid);
        ops.fetchCancel(fid);
      },
      BODY_PASSED_FETCH, fid,
    );
    MapPrototypeSet(fetchBodies, fid, native);
    return native.stream;
  }

  // The promise tells that the head is there and does not carry it: a program that replaces `Promise.prototype.constructor` sees
  // the promises that the runtime waits for.
  class Pending {
    // Where the program was.
    trace = { __proto__: null };
    promise;
    resolve;
    reject;
    head = undefined;
    // Takes the place of the response's head: a session of calls begins.
    opened;
    constructor(opened) {
      this.opened = opened;
    }
  }

  // `service`: the place of a service binding, or name and props of an entrypoint of this Worker's; none: the world outside.
  lib.startFetch = (method, url, headerList, body, length, service, opened) => {
    const pending = new Pending(opened);
    captureStackTrace(pending.trace, lib.startFetch);
    pending.promise = new Promise((resolve, reject) => {
      pending.resolve = resolve;
      pending.reject = reject;
    });
    let fid;
    if (opened !== undefined) {
      fid = ops.fetchStart(method, url, headerList, BODY_STREAM, undefined, -1, service, true);
      MapPrototypeSet(uploads, fid, body);
    } else if (body === null) {
      fid = ops.fetchStart(method, url, headerList, BODY_NONE, undefined, -1, service);
    } else if (typeof body === "string" || ArrayBufferIsView(body)) {
      fid = ops.fetchStart(method, url, headerList, BODY_FULL, body, -1, service);
    } else {
      const moved = service === undefined ? Passing.of(body, headerList) : undefined;
      if (moved !== undefined) {
        fid = ops.fetchStart(method, url, headerList, moved.kind, moved.id, moved.length ?? length);
        MapPrototypeSet(uploads, fid, moved.begin());
      } else {
        const reader = lib.streamReader(body);
        fid = ops.fetchStart(method, url, headerList, BODY_STREAM, undefined, length, service);
        MapPrototypeSet(uploads, fid, new Outgoing(fid, reader, uploadSteps));
      }
    }
    MapPrototypeSet(fetches, fid, pending);
    return { fid, pending };
  };

  function fetchResponse(fid, status, reason, headerList, bodyKind, body) {
    const pending = MapPrototypeGet(fetches, fid);
    if (pending === undefined) return;
    MapPrototypeDelete(fetches, fid);
    if (pending.opened !== undefined) {
      pending.opened();
      pending.resolve(undefined);
      return;
    }
    const opened = bodyKind === BODY_STREAM ? openFetchBody(fid) : bodyKind === BODY_FULL ? body : null;
    pending.head = { __proto__: null, status, reason, headerList, bodyKind, body: opened };
    pending.resolve(undefined);
  }

  // `name`: of the error that the Worker threw which was called; none where the request did not get there.
  function fetchFailed(fid, message, name) {
    const error = name === undefined ? new TypeError(message) : lib.errorOf(name, message);
    endFetch(fid, lib.showProgram(error, name ?? "TypeError", message, MapPrototypeGet(fetches, fid)?.trace));
  }

  // A failure comes with the frames of the program that asked, and with none of ours.
  lib.showProgram = (error, name, message, trace) => {
    let stack = message === "" ? name : `${name}: ${message}`;
    let lines;
    try {
      lines = trace?.stack;
    } catch {
      // A program's own `Error.prepareStackTrace` throws, or gives what it likes.
    }
    let at = typeof lines === "string" ? StringPrototypeIndexOf(lines, FRAME) : -1;
    while (at !== -1) {
      const next = StringPrototypeIndexOf(lines, FRAME, at + 1);
      const line = StringPrototypeSlice(lines, at, next === -1 ? lines.length : next);
      if (StringPrototypeIndexOf(line, "selvage:") === -1) stack += line;
      at = next;
    }
    ObjectDefineProperty(error, "stack", { __proto__: null, value: stack, writable: true, configurable: true, enumerable: false });
    return error;
  };

  // Ends what is left of an outbound request; whether anything was.
  function endFetch(fid, reason) {
    const upload = MapPrototypeGet(uploads, fid);
    if (upload !== undefined) {
      MapPrototypeDelete(uploads, fid);
      cancelQuietly(upload.reader, reason);
    }
    const pending = MapPrototypeGet(fetches, fid);
    if (pending !== undefined) {
      MapPrototypeDelete(fetches, fid);
      pending.reject(reason);
      return true;
    }
    const reading = MapPrototypeGet(fetchBodies, fid) !== undefined || MapPrototypeGet(passing, fid) !== undefined;
    failStep(fetchBodies, fid, reason);
    return reading || upload !== undefined;
  }

  lib.cancelFetch = (fid, reason) => {
    if (endFetch(fid, reason)) ops.fetchCancel(fid);
  };

  function timeout(timerId, repeats) {
    try {
      lib.fireTimer(timerId, repeats);
    } catch (error) {
      lib.reportException(error);
    }
  }

  // Drops what is kept for a request that is over; `timers`, `fids` and `sids` are what native code dropped for it. Runs nothing of
  // the tenant's: promises that only this request could settle stay pending.
  function forget(rid, timers, fids, sids) {
    if (sids.length > 0) lib.forgetSockets?.(sids);
    lib.forgetSessions?.(rid, fids);
    closeReply(rid);
    MapPrototypeDelete(requestBodies, rid);
    for (let i = 0; i < timers.length; i++) lib.dropTimer(timers[i]);
    for (let i = 0; i < fids.length; i++) {
      MapPrototypeDelete(uploads, fids[i]);
      MapPrototypeDelete(fetches, fids[i]);
      MapPrototypeDelete(fetchBodies, fids[i]);
      MapPrototypeDelete(passing, fids[i]);
    }
  }

  // Events of WebSockets, for the rare file that made them.
  const socketMessage = (sid, data) => lib.socketMessage?.(sid, data);
  const socketClosed = (sid, code, reason, wasClean, failure) => lib.socketClosed?.(sid, code, reason, wasClean, failure);

  const describe = (error) => lib.describeError(error);

  // Promises that the program was told of as rejected and without a handler, with their reasons.
  const unhandled = new WeakMap();

  // A promise was rejected and has no handler, or (`handled`) got one after the program was told so.
  function rejected(promise, reason, handled) {
    if (!handled) {
      let cancelled = false;
      if (lib.hasListeners(lib.globalTarget)) {
        WeakMapPrototypeSet(unhandled, promise, { __proto__: null, reason });
        const event = new lib.PromiseRejectionEvent("unhandledrejection", { __proto__: null, cancelable: true, promise, reason });
        cancelled = !lib.fire(lib.globalTarget, event);
      }
      if (!cancelled) ops.log(LEVEL_ERROR, `Uncaught (in promise) ${lib.describeError(reason)}`);
      return;
    }
    const told = WeakMapPrototypeGet(unhandled, promise);
    if (told === undefined) return;
    WeakMapPrototypeDelete(unhandled, promise);
    lib.fire(lib.globalTarget, new lib.PromiseRejectionEvent("rejectionhandled", { __proto__: null, promise, reason: told.reason }));
  }

  // The object that is a built-in module.
  function builtin(specifier, envFlat, services) {
    if (specifier === "cloudflare:workers") {
      makeEnv(envFlat, services);
      lib.load("workers.js");
      return lib.workersModule;
    }
    lib.load("node/modules.js");
    lib.nodeEnv(envFlat);
    return lib.nodeModule(specifier);
  }

  // Once per isolate, before the tenant's module.
  function late() {
    for (let i = 0; i < lib.late.length; i++) lib.late[i]();
    lib.late = undefined;
  }

  lib.entry = {
    __proto__: null,
    late, start, request, requestBody, pullResponse, clientGone, fetchResponse, fetchBody, fetchFailed, pullFetchUpload, responsePassed, uploadPassed, socketMessage, socketClosed, timeout, forget, describe, rejected, builtin, invoke,
    DOMException: lib.DOMException,
  };
})
