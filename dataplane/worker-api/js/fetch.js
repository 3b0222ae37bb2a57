// Outbound `fetch` (Fetch section 4): redirects, credentials, abort.
//
// Connections, framing and the limit of outbound requests are native, behind `lib.startFetch` of dispatch.js.
// Every hop of a redirect is an outbound request of its own.
(function (ops, lib) {
  "use strict";
  const { Promise, PromiseReject, PromiseResolve, PromisePrototypeThen, StringPrototypeIndexOf, StringPrototypeSlice, TypeError } = lib.p;
  const { rs } = lib;

  const REDIRECTS_MAX = 20;
  // Of a URL record, see url.js.
  const SCHEME_END = 1;
  const USERNAME_START = 2;
  const HOST_START = 4;
  const QUERY_END = 8;

  // Fields that describe a request's body, and those a foreign origin must not see.
  const BODY_FIELDS = ["content-encoding", "content-language", "content-location", "content-type", "content-length"];
  const SECRET_FIELDS = ["authorization", "proxy-authorization", "cookie"];

  const isRedirect = (status) => status === 301 || status === 302 || status === 303 || status === 307 || status === 308;

  class Fetch {
    request;
    record;
    method;
    list;
    body;
    length;
    signal;
    hops = 0;
    service;
    fid = undefined;
    // Where the program called it.
    trace = undefined;
    abortAlgorithm = undefined;
    deferred = lib.p.newDeferred();

    constructor(request, service) {
      this.request = request;
      this.service = service;
      this.record = httpRecord(lib.requestUrl(request), undefined);
      this.method = lib.requestMethod(request);
      this.list = lib.copyList(lib.requestList(request));
      this.signal = lib.requestSignal(request);
    }

    start() {
      const { signal } = this;
      const body = lib.requestBodyOf(this.request);
      if (signal !== undefined && lib.signalAborted(signal)) {
        const reason = lib.signalReason(signal);
        if (body !== null && !lib.bodyUnusable(body)) lib.p.setHandled(rs.cancel(rs.stateOf(lib.bodyStream(body)), reason));
        return PromiseReject(reason);
      }
      this.body = lib.takeBody(body);
      this.length = lib.takenLength(this.body);
      if (signal !== undefined) {
        this.abortAlgorithm = (reason) => {
          this.deferred.reject(reason);
          if (this.fid !== undefined) lib.cancelFetch(this.fid, reason);
        };
        lib.addAbortAlgorithm(signal, this.abortAlgorithm);
      }
      this.hop();
      return this.deferred.promise;
    }

    // One outbound request.
    hop() {
      const { record } = this;
      let started;
      try {
        started = lib.startFetch(this.method, StringPrototypeSlice(record[0], 0, record[QUERY_END]), this.list, this.body, this.length, this.service);
      } catch (error) {
        this.fail(error);
        return;
      }
      this.fid = started.fid;
      const { pending } = started;
      if (this.trace === undefined) this.trace = pending.trace;
      else pending.trace = this.trace;
      PromisePrototypeThen(
        pending.promise,
        () => {
          try {
            this.answered(pending.head);
          } catch (error) {
            this.fail(lib.showProgram(error, "TypeError", error.message, this.trace));
          }
        },
        (error) => this.fail(error),
      );
    }

    answered(head) {
      if (this.signal !== undefined && lib.signalAborted(this.signal)) return;
      if (isRedirect(head.status) && lib.requestRedirect(this.request) !== "manual") {
        const location = lib.headerListGet(head.headerList, "location");
        if (lib.requestRedirect(this.request) === "error") {
          this.drop(head);
          throw new TypeError("The response is a redirect, and the request's redirect mode is 'error'");
        }
        if (location !== null) {
          this.drop(head);
          this.follow(head.status, location);
          return;
        }
      }
      this.finish(head);
    }

    drop(head) {
      if (head.bodyKind === 2) lib.cancelFetch(this.fid, new TypeError("The response was a redirect"));
    }

    // HTTP-redirect fetch (section 4.4).
    follow(status, location) {
      if (++this.hops > REDIRECTS_MAX) throw new TypeError("Too many redirects");
      const previous = this.record;
      const next = httpRecord(ops.utf8Decode(latin1(location)), previous[0]);
      if (StringPrototypeIndexOf(next[0], "#") === -1) {
        const fragment = StringPrototypeSlice(previous[0], previous[QUERY_END]);
        this.record = fragment === "" ? next : lib.parseUrl(next[0] + fragment, undefined);
      } else {
        this.record = next;
      }
      if (status !== 303 && lib.isReadableStream(this.body)) throw new TypeError("A redirect cannot be followed: the request's body is a stream");
      if (((status === 301 || status === 302) && this.method === "POST") || (status === 303 && this.method !== "GET" && this.method !== "HEAD")) {
        this.method = "GET";
        this.body = null;
        this.length = -1;
        for (let i = 0; i < BODY_FIELDS.length; i++) lib.headerListDelete(this.list, BODY_FIELDS[i]);
      }
      if (lib.urlOrigin(next) !== lib.urlOrigin(previous)) {
        for (let i = 0; i < SECRET_FIELDS.length; i++) lib.headerListDelete(this.list, SECRET_FIELDS[i]);
      }
      this.hop();
    }

    finish(head) {
      const { status, headerList } = head;
      let body = null;
      if (head.bodyKind === 2) {
        const length = contentLength(headerList);
        const coding = lib.contentCoding(headerList);
        if (coding !== "") {
          lib.load("content_coding.js");
          body = lib.bodyOfStream(lib.decodedStream(head.body, coding));
        } else {
          body = lib.bodyOfStream(head.body);
        }
        if (length >= 0) rs.stateOf(head.body).promisedLength = length;
      } else {
        this.release();
        if (head.bodyKind === 1) body = lib.contentCoding(headerList) === "" ? lib.bodyOfBytes(head.body) : decodedBody(head);
        else if (this.method !== "HEAD" && !lib.isNullBodyStatus(status)) body = lib.bodyOfBytes(new lib.p.Uint8Array(0));
      }
      const response = lib.responseFromNative(status, head.reason, headerList, body, this.record[0], this.hops > 0);
      if (head.bodyKind === 5) {
        lib.load("websocket.js");
        lib.setResponseSocket(response, lib.socketFromNative(this.fid, headerList));
      }
      this.deferred.resolve(response);
    }

    fail(error) {
      this.release();
      this.deferred.reject(error);
    }

    release() {
      if (this.abortAlgorithm !== undefined) lib.removeAbortAlgorithm(this.signal, this.abortAlgorithm);
      this.abortAlgorithm = undefined;
    }
  }

  function decodedBody({ body, headerList }) {
    lib.load("content_coding.js");
    return lib.bodyOfStream(lib.decodedBytes(body, lib.contentCoding(headerList)));
  }

  // Parses a URL that an outbound request may have.
  function httpRecord(text, base) {
    const record = lib.parseUrl(text, base);
    if (record === undefined) throw new TypeError(`Invalid URL: ${text}`);
    const scheme = StringPrototypeSlice(record[0], 0, record[SCHEME_END]);
    if (scheme !== "http:" && scheme !== "https:") throw new TypeError(`Fetch API cannot load: ${record[0]}`);
    if (record[HOST_START] > record[USERNAME_START]) throw new TypeError("A request's URL has no credentials");
    return record;
  }

  // A byte string's bytes.
  function latin1(text) {
    const bytes = new lib.p.Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = lib.p.StringPrototypeCharCodeAt(text, i);
    return bytes;
  }

  // The length that a message without a content coding of ours promises; -1 if it has none that is sound.
  function contentLength(list) {
    const text = lib.headerListGet(list, "content-length");
    if (text === null || text.length === 0 || text.length > 15) return -1;
    let value = 0;
    for (let i = 0; i < text.length; i++) {
      const digit = lib.p.StringPrototypeCharCodeAt(text, i) - 48;
      if (digit < 0 || digit > 9) return -1;
      value = value * 10 + digit;
    }
    return value;
  }

  function fetchData(request) {
    const signal = lib.requestSignal(request);
    if (signal !== undefined && lib.signalAborted(signal)) return PromiseReject(lib.signalReason(signal));
    lib.load("mime.js");
    const url = lib.requestUrl(request);
    const end = StringPrototypeIndexOf(url, "#");
    return PromiseResolve(lib.responseOfData(end === -1 ? url : StringPrototypeSlice(url, 0, end), lib.requestMethod(request)));
  }

  // `service`: the place of a service binding; none: the world outside.
  lib.fetch = (input, init, service) => {
    try {
      const request = lib.isRequest(input) && init === undefined ? input : new lib.Request(input, init);
      if (StringPrototypeSlice(lib.requestUrl(request), 0, 5) === "data:") return fetchData(request);
      return new Fetch(request, service).start();
    } catch (error) {
      return new Promise((resolve, reject) => reject(error));
    }
  };

  lib.defineGlobal("fetch", { fetch(input, init = undefined) {
    if (arguments.length === 0) return PromiseReject(new TypeError("fetch: 1 argument required, but only 0 present"));
    return lib.fetch(input, init, undefined);
  } }.fetch);
})
