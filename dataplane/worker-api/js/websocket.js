// WebSocket, WebSocketPair and CloseEvent (WHATWG WebSockets; Cloudflare's accept() and pairs). A rare file.
//
// Owns the ends that JavaScript sees: their states, the queue of an end that nobody has accepted yet, and the table of those that lead
// to the network. The protocol, the bounds and the close of what a request leaves behind are native. Between the two ends of a pair
// that both are here, a message is a timer of no delay: it belongs to the request that sends it.
(function (ops, lib) {
  "use strict";
  const {
    ArrayPrototypePush, ArrayPrototypeShift, Map, MapPrototypeDelete, MapPrototypeGet, MapPrototypeSet, ObjectDefineProperty, PromisePrototypeThen,
    StringPrototypeCharCodeAt, StringPrototypeIndexOf, StringPrototypeSlice, SymbolIterator, TypeError,
  } = lib.p;

  const CONNECTING = 0;
  const OPEN = 1;
  const CLOSING = 2;
  const CLOSED = 3;
  const NO_CODE = 1005;
  const LOST = 1006;
  const TOO_LARGE = 1009;
  const REASON_BYTES_MAX = 123;
  const BODY_SOCKET = 5;
  // Of a URL record, see url.js.
  const SCHEME_END = 1;
  const QUERY_END = 8;

  // One end.
  class Socket {
    object = undefined;
    // The number of its connection; 0 while there is none.
    sid = 0;
    // The other end of a pair, while that is in JavaScript.
    peer = undefined;
    // What has come before it was accepted, or before the other end had a connection; undefined once nothing is kept.
    queue = undefined;
    accepted = false;
    halfOpen = false;
    // It was used in a response: what comes is the connection's.
    used = false;
    connecting = false;
    fid = undefined;
    // close() was called.
    closeCalled = false;
    closedOut = false;
    closedIn = false;
    scheduled = false;
    blob = false;
    url = null;
    protocol = "";
    extensions = "";
  }

  // Ends with a connection, until it is closed.
  const connected = new Map();

  class CloseEvent extends lib.Event {
    #code;
    #reason;
    #wasClean;
    constructor(type, init = undefined) {
      lib.requireArgs(arguments.length, 1, "CloseEvent");
      super(type, init);
      const { code, reason, wasClean } = lib.dictionary(init, "CloseEvent init");
      this.#code = lib.unsignedMod(code ?? 0, 65536);
      this.#reason = reason === undefined ? "" : lib.usvString(reason);
      this.#wasClean = !!wasClean;
    }
    get wasClean() {
      return this.#wasClean;
    }
    get code() {
      return this.#code;
    }
    get reason() {
      return this.#reason;
    }
  }
  lib.defineInterface(CloseEvent, "CloseEvent");

  class WebSocket extends lib.EventTarget {
    #socket;
    constructor(url, protocols = undefined) {
      if (url === lib.internal) {
        super();
        this.#socket = protocols;
        protocols.object = this;
        return;
      }
      lib.requireArgs(arguments.length, 1, "WebSocket");
      const record = socketRecord(lib.usvString(url));
      const list = ["upgrade", "websocket"];
      const offered = protocolList(protocols);
      if (offered !== "") ArrayPrototypePush(list, "sec-websocket-protocol", offered);
      super();
      const socket = new Socket();
      socket.object = this;
      socket.url = record[0];
      this.#socket = socket;
      connect(socket, record, list);
    }
    get url() {
      return this.#socket.url;
    }
    get readyState() {
      return stateOf(this.#socket);
    }
    get protocol() {
      return this.#socket.protocol;
    }
    get extensions() {
      return this.#socket.extensions;
    }
    get binaryType() {
      return this.#socket.blob ? "blob" : "arraybuffer";
    }
    set binaryType(value) {
      const socket = this.#socket;
      const type = lib.domString(value);
      if (type === "blob" || type === "arraybuffer") socket.blob = type === "blob";
    }
    accept(options = undefined) {
      const socket = this.#socket;
      const { allowHalfOpen } = lib.dictionary(options, "accept's options");
      if (socket.url !== null && !socket.accepted) throw new TypeError("Websockets obtained from the 'new WebSocket()' constructor cannot call accept");
      if (socket.used) throw new TypeError("Can't accept() WebSocket that was already used in a response.");
      if (socket.accepted) return;
      socket.halfOpen = !!allowHalfOpen;
      accept(socket);
    }
    send(message) {
      const socket = this.#socket;
      lib.requireArgs(arguments.length, 1, "send");
      if (socket.connecting) throw new lib.DOMException("The WebSocket is not connected yet", "InvalidStateError");
      const data = typeof message === "string" ? message
        : lib.isBufferSource(message) ? message
        : lib.isBlob(message) ? lib.blobBytes(message)
        : lib.usvString(message);
      if (socket.closeCalled) throw new TypeError("Can't call WebSocket send() after close().");
      if (socket.closedOut) return;
      if (socket.used) throw new TypeError("Can't send(): this WebSocket was used in a response.");
      if (!socket.accepted) throw new TypeError("You must call accept() on this WebSocket before sending messages.");
      if (socket.sid !== 0) ops.socketSend(socket.sid, data);
      else if (socket.peer !== undefined) give(socket.peer, { __proto__: null, data: typeof data === "string" ? lib.usvString(data) : lib.exactBuffer(lib.copyBytes(data)) });
    }
    close(code = undefined, reason = undefined) {
      const socket = this.#socket;
      const status = code === undefined || code === null ? undefined : lib.unsignedMod(code, 65536);
      if (status !== undefined && (status < 1000 || status >= 5000 || status === 1004 || status === NO_CODE || status === LOST || status === 1015)) {
        throw new TypeError(`Invalid WebSocket close code: ${status}.`);
      }
      const text = reason === undefined ? "" : lib.usvString(reason);
      if (reason !== undefined && status === undefined) throw new TypeError("If you specify a WebSocket close reason, you must also specify a code.");
      if (text.length * 3 > REASON_BYTES_MAX && ops.utf8Encode(text).length > REASON_BYTES_MAX) {
        throw new lib.DOMException(`A close reason is longer than ${REASON_BYTES_MAX} bytes`, "SyntaxError");
      }
      close(socket, status, text);
    }
    static {
      lib.handlerAttributes(WebSocket, ["open", "message", "close", "error"], (object) => object.#socket);
      lib.isWebSocket = (value) => lib.isObject(value) && #socket in value;
      lib.socketOf = (object) => object.#socket;
    }
  }
  lib.defineInterface(WebSocket, "WebSocket");
  lib.defineConstants(WebSocket, {
    CONNECTING, OPEN, CLOSING, CLOSED, READY_STATE_CONNECTING: CONNECTING, READY_STATE_OPEN: OPEN, READY_STATE_CLOSING: CLOSING, READY_STATE_CLOSED: CLOSED,
  });

  class WebSocketPair {
    constructor() {
      const first = new Socket();
      const second = new Socket();
      first.peer = second;
      second.peer = first;
      first.queue = [];
      second.queue = [];
      own(this, "0", new WebSocket(lib.internal, first));
      own(this, "1", new WebSocket(lib.internal, second));
    }
    *[SymbolIterator]() {
      yield this[0];
      yield this[1];
    }
  }
  lib.defineInterface(WebSocketPair, "WebSocketPair");

  function own(pair, name, value) {
    ObjectDefineProperty(pair, name, { __proto__: null, value, writable: true, enumerable: true, configurable: true });
  }

  function stateOf(socket) {
    if (socket.closedIn && socket.closedOut) return CLOSED;
    if (socket.closedIn || socket.closedOut) return CLOSING;
    return socket.connecting ? CONNECTING : OPEN;
  }

  // Parses what a WebSocket may lead to, as the URL of the request that opens it.
  function socketRecord(text) {
    const record = lib.parseUrl(text, undefined);
    if (record === undefined) throw syntaxError("The url is invalid.");
    const scheme = StringPrototypeSlice(record[0], 0, record[SCHEME_END]);
    const secure = scheme === "wss:" || scheme === "https:";
    if (!secure && scheme !== "ws:" && scheme !== "http:") throw syntaxError("The url scheme must be ws or wss.");
    if (StringPrototypeIndexOf(record[0], "#") !== -1) throw syntaxError("The url fragment must be empty.");
    return scheme === "ws:" || scheme === "wss:" ? record : lib.parseUrl((secure ? "wss:" : "ws:") + StringPrototypeSlice(record[0], record[SCHEME_END]), undefined);
  }

  const syntaxError = (text) => new lib.DOMException(`WebSocket Constructor: ${text}`, "SyntaxError");

  // `Sec-WebSocket-Protocol` of what a program offers.
  function protocolList(protocols) {
    if (protocols === undefined) return "";
    const list = [];
    if (typeof protocols !== "string" && lib.isObject(protocols) && protocols[SymbolIterator] !== undefined) {
      lib.iterate(protocols, "protocols", (one) => ArrayPrototypePush(list, lib.domString(one)));
    } else {
      ArrayPrototypePush(list, lib.domString(protocols));
    }
    let text = "";
    for (let i = 0; i < list.length; i++) {
      if (!isToken(list[i])) throw syntaxError("The protocol header token is invalid.");
      for (let k = 0; k < i; k++) if (list[k] === list[i]) throw syntaxError("The protocols header cannot have repeating values.");
      text += i === 0 ? list[i] : `, ${list[i]}`;
    }
    return text;
  }

  const SEPARATORS = "()<>@,;:\\\"/[]?={}";
  function isToken(text) {
    for (let i = 0; i < text.length; i++) {
      const code = StringPrototypeCharCodeAt(text, i);
      if (code <= 32 || code >= 127 || StringPrototypeIndexOf(SEPARATORS, text[i]) !== -1) return false;
    }
    return text !== "";
  }

  // The request that opens a connection.
  function connect(socket, record, list) {
    socket.connecting = true;
    const url = (StringPrototypeSlice(record[0], 0, 4) === "wss:" ? "https" : "http") + StringPrototypeSlice(record[0], record[SCHEME_END] - 1, record[QUERY_END]);
    const { fid, pending } = lib.startFetch("GET", url, list, null, -1);
    socket.fid = fid;
    PromisePrototypeThen(
      pending.promise,
      () => {
        const { head } = pending;
        if (!socket.connecting) return;
        if (head.bodyKind !== BODY_SOCKET) {
          if (head.bodyKind === 2) lib.cancelFetch(fid, new TypeError("The response is no WebSocket"));
          fail(socket, new TypeError(`Failed to establish the WebSocket connection: expected server to reply with HTTP status code 101 (switching protocols), but received ${head.status} instead.`));
          return;
        }
        socket.connecting = false;
        socket.protocol = lib.headerListGet(head.headerList, "sec-websocket-protocol") ?? "";
        bind(socket, fid);
        socket.accepted = true;
        ops.socketAccept(fid, false);
        lib.fire(socket.object, new lib.Event("open"));
      },
      (error) => {
        if (socket.connecting) fail(socket, error);
      },
    );
  }

  // No connection came to be.
  function fail(socket, error) {
    socket.connecting = false;
    ended(socket, LOST, "Failed to establish websocket connection", false, error);
  }

  function bind(socket, sid) {
    socket.sid = sid;
    MapPrototypeSet(connected, sid, socket);
  }

  function accept(socket) {
    socket.accepted = true;
    if (socket.sid !== 0) ops.socketAccept(socket.sid, socket.halfOpen);
    else deliverSoon(socket);
  }

  function close(socket, code, reason) {
    if (socket.connecting) {
      const error = new TypeError("Called close before connection was established.");
      socket.closeCalled = true;
      socket.closedOut = true;
      socket.connecting = false;
      lib.cancelFetch(socket.fid, error);
      later(() => ended(socket, LOST, "Failed to establish websocket connection", false, error));
      return;
    }
    if (socket.closeCalled || socket.closedOut) return;
    if (socket.used) return;
    if (!socket.accepted) throw new TypeError("You must call accept() on this WebSocket before sending messages.");
    socket.closeCalled = true;
    socket.closedOut = true;
    if (socket.sid !== 0) {
      if (socket.closedIn) MapPrototypeDelete(connected, socket.sid);
      ops.socketClose(socket.sid, code ?? -1, reason);
    } else if (socket.peer !== undefined) {
      give(socket.peer, { __proto__: null, code: code ?? NO_CODE, reason });
    }
  }

  // What the other end of a pair has said.
  function give(socket, item) {
    ArrayPrototypePush(socket.queue, item);
    if (socket.accepted) deliverSoon(socket);
  }

  function deliverSoon(socket) {
    if (socket.scheduled || socket.queue === undefined || socket.queue.length === 0) return;
    socket.scheduled = true;
    later(() => {
      socket.scheduled = false;
      if (socket.queue === undefined || socket.queue.length === 0) return;
      const item = ArrayPrototypeShift(socket.queue);
      deliverSoon(socket);
      if (item.code === undefined) {
        if (!socket.closedIn && !socket.closeCalled) message(socket, item.data);
        return;
      }
      socket.closedIn = true;
      if (!socket.closedOut && !socket.halfOpen) {
        socket.closedOut = true;
        if (socket.peer !== undefined) give(socket.peer, { __proto__: null, code: item.code, reason: item.reason });
      }
      lib.fire(socket.object, closeEvent(item.code, item.reason, true));
    });
  }

  // Outside of a request there are no timers: then it is a microtask.
  function later(callback) {
    try {
      lib.setTimer(callback, 0);
    } catch {
      lib.queueMicrotask(() => {
        try {
          callback();
        } catch (error) {
          lib.reportException(error);
        }
      });
    }
  }

  function message(socket, data) {
    const given = socket.blob && typeof data !== "string" ? lib.newBlob(new lib.p.Uint8Array(data), "") : data;
    lib.fire(socket.object, new lib.MessageEvent("message", { __proto__: null, data: given }));
  }

  const closeEvent = (code, reason, wasClean) => new CloseEvent("close", { __proto__: null, code, reason, wasClean });

  function ended(socket, code, reason, wasClean, error) {
    socket.closedIn = true;
    if (!wasClean || !socket.halfOpen) socket.closedOut = true;
    if (socket.closedOut && socket.sid !== 0) MapPrototypeDelete(connected, socket.sid);
    if (error !== undefined) {
      lib.fire(socket.object, new lib.ErrorEvent("error", { __proto__: null, message: lib.errorMessage(error), error }));
    }
    lib.fire(socket.object, closeEvent(code, reason, wasClean));
  }

  lib.socketMessage = (sid, data) => {
    const socket = MapPrototypeGet(connected, sid);
    if (socket === undefined || socket.closeCalled) return;
    if (data !== null) message(socket, data);
    else close(socket, TOO_LARGE, "out of memory");
  };

  lib.socketClosed = (sid, code, reason, wasClean, failure) => {
    const socket = MapPrototypeGet(connected, sid);
    if (socket === undefined) return;
    const why = code === LOST && reason === "" ? "WebSocket disconnected without sending Close frame." : reason;
    ended(socket, code, why, wasClean, failure === undefined ? undefined : new TypeError(failure));
  };

  // The requests that these belong to are over.
  lib.forgetSockets = (sids) => {
    for (let i = 0; i < sids.length; i++) {
      const socket = MapPrototypeGet(connected, sids[i]);
      MapPrototypeDelete(connected, sids[i]);
      if (socket === undefined) continue;
      socket.closedIn = true;
      socket.closedOut = true;
    }
  };

  // `response.webSocket` of a fetch.
  lib.socketFromNative = (fid, list) => {
    const socket = new Socket();
    bind(socket, fid);
    socket.protocol = lib.headerListGet(list, "sec-websocket-protocol") ?? "";
    return new WebSocket(lib.internal, socket);
  };

  // Answers a request with an end: the other end of its pair has the client's connection from here on, or the connection that it leads
  // to is joined with the client's.
  lib.answerWithSocket = (rid, object, headerList) => {
    const socket = lib.socketOf(object);
    const other = socket.peer;
    if (socket.url !== null) throw new TypeError("Can't return WebSocket in a Response if it was created with `new WebSocket()`");
    if (socket.used) throw new TypeError("Can't return WebSocket that was already used in a response.");
    if (socket.accepted) throw new TypeError("Can't return WebSocket in a Response after calling accept().");
    if (other !== undefined && other.used) throw new TypeError("Both ends of a WebSocketPair are used in responses.");
    const sid = ops.respond(rid, 101, headerList, null, BODY_SOCKET, socket.sid, -1);
    socket.used = true;
    if (sid === false) {
      if (other !== undefined) later(() => ended(other, LOST, "", false, undefined));
      return;
    }
    if (other === undefined) {
      MapPrototypeDelete(connected, socket.sid);
      return;
    }
    bind(other, sid);
    const { queue } = socket;
    other.peer = undefined;
    socket.peer = undefined;
    socket.queue = undefined;
    for (let i = 0; i < queue.length; i++) {
      const { data, code, reason } = queue[i];
      if (code === undefined) ops.socketSend(sid, data);
      else ops.socketClose(sid, code === NO_CODE ? -1 : code, reason);
    }
    if (other.accepted) ops.socketAccept(sid, other.halfOpen);
  };
})
