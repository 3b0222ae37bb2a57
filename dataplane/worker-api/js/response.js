// Response (Fetch section 5.5), and what a response becomes when it is sent.
//
// Cheap by design: a response to a string allocates itself and its body; its header list exists only where headers
// were given or asked for.
(function (ops, lib) {
  "use strict";
  const { ArrayPrototypePush, JSONStringify, RangeError, StringPrototypeCharCodeAt, TypeError } = lib.p;
  const { defineInterface, dictionary, mixinBody, requireArgs, usvString } = lib;

  // What `lib.takeResponse` gives to dispatch.js.
  class Taken {
    status;
    headerList;
    contentType;
    body;
    length;
    // The body is in the content coding that the fields name.
    manual;
    webSocket = null;
    constructor(status, headerList, contentType, body, length, manual) {
      this.status = status;
      this.headerList = headerList;
      this.contentType = contentType;
      this.body = body;
      this.length = length;
      this.manual = manual;
    }
  }

  const isNullBodyStatus = (status) => status === 101 || status === 103 || status === 204 || status === 205 || status === 304;

  function checkedStatusText(value) {
    const text = lib.byteString(value, "statusText");
    for (let i = 0; i < text.length; i++) {
      const code = StringPrototypeCharCodeAt(text, i);
      if (code !== 9 && (code < 32 || code === 127)) throw new TypeError("statusText is not a reason phrase");
    }
    return text;
  }

  class Response {
    #status = 200;
    #statusText = "";
    #type = "default";
    #url = "";
    #redirected = false;
    #immutable = false;
    // Flat list, or null while there are only the headers that the body implies.
    #list = null;
    #headers = undefined;
    #contentType = null;
    #body = null;
    #manual = false;
    #webSocket = null;

    constructor(body = null, init = undefined) {
      if (body === lib.internal) return;
      if (init !== undefined && init !== null) this.#readInit(dictionary(init, "Response init"));
      if (body !== null && body !== undefined) {
        if (isNullBodyStatus(this.#status)) throw new TypeError(`A response with status ${this.#status} cannot have a body`);
        const extracted = lib.extractBody(body);
        this.#body = extracted.body;
        if (extracted.type !== null) this.#implyType(extracted.type);
      }
    }

    #readInit(init) {
      const { encodeBody, headers, status, statusText, webSocket } = init;
      if (encodeBody !== undefined) {
        const text = lib.domString(encodeBody);
        if (text !== "automatic" && text !== "manual") throw new TypeError(`encodeBody: unexpected value: ${text}`);
        this.#manual = text === "manual";
      }
      if (webSocket !== undefined && webSocket !== null) {
        if (lib.isWebSocket === undefined || !lib.isWebSocket(webSocket)) throw new TypeError("webSocket is not a WebSocket");
        if (status === undefined || lib.unsignedMod(status, 65536) !== 101) throw new RangeError("Responses with a WebSocket must have status code 101.");
        this.#status = 101;
        this.#webSocket = webSocket;
      } else if (status !== undefined) {
        const code = lib.unsignedMod(status, 65536);
        if (code < 200 || code > 599) throw new RangeError(`Responses may only be constructed with status codes in the range 200 to 599, inclusive. (${code})`);
        this.#status = code;
      }
      if (statusText !== undefined) this.#statusText = checkedStatusText(statusText);
      if (headers !== undefined) this.#list = lib.headerListFrom(headers);
    }

    #implyType(type) {
      if (this.#list === null) this.#contentType = type;
      else if (!lib.headerListHas(this.#list, "content-type")) ArrayPrototypePush(this.#list, "content-type", type);
    }

    #headerList() {
      if (this.#list === null) this.#list = this.#contentType === null ? [] : ["content-type", this.#contentType];
      return this.#list;
    }

    static error() {
      const response = new Response(lib.internal);
      response.#type = "error";
      response.#status = 0;
      response.#immutable = true;
      return response;
    }

    static json(data, init = undefined) {
      requireArgs(arguments.length, 1, "Response.json");
      const text = JSONStringify(data);
      if (text === undefined) throw new TypeError("The data cannot be serialized as JSON");
      const response = new Response(lib.internal);
      if (init !== undefined && init !== null) response.#readInit(dictionary(init, "Response init"));
      if (isNullBodyStatus(response.#status)) throw new TypeError(`A response with status ${response.#status} cannot have a body`);
      response.#body = lib.extractBody(text).body;
      response.#implyType("application/json");
      return response;
    }

    static redirect(url, status = 302) {
      requireArgs(arguments.length, 1, "Response.redirect");
      const text = usvString(url);
      const record = lib.parseUrl(text, undefined);
      if (record === undefined) throw new TypeError(`Invalid URL: ${text}`);
      const code = lib.unsignedMod(status, 65536);
      if (code !== 301 && code !== 302 && code !== 303 && code !== 307 && code !== 308) {
        throw new RangeError(`${code} is not a redirect status`);
      }
      const response = new Response(lib.internal);
      response.#status = code;
      response.#list = ["location", record[0]];
      response.#immutable = true;
      return response;
    }

    get type() {
      return this.#type;
    }
    get url() {
      return this.#url;
    }
    get redirected() {
      return this.#redirected;
    }
    get status() {
      return this.#status;
    }
    get ok() {
      return this.#status >= 200 && this.#status <= 299;
    }
    get statusText() {
      return this.#statusText;
    }
    get headers() {
      return this.#headers ??= this.#immutable ? lib.wrapImmutableHeaders(this.#headerList()) : lib.wrapHeaders(this.#headerList());
    }

    get webSocket() {
      return this.#webSocket;
    }

    clone() {
      if (this.#webSocket !== null) throw new TypeError("Cannot clone a response to a WebSocket handshake.");
      if (lib.bodyUnusable(this.#body)) throw lib.bodyUsedError();
      const copy = new Response(lib.internal);
      copy.#status = this.#status;
      copy.#statusText = this.#statusText;
      copy.#type = this.#type;
      copy.#url = this.#url;
      copy.#redirected = this.#redirected;
      copy.#immutable = this.#immutable;
      copy.#manual = this.#manual;
      copy.#list = this.#list === null ? null : lib.copyList(this.#list);
      copy.#contentType = this.#contentType;
      copy.#body = this.#body === null ? null : lib.cloneBody(this.#body);
      return copy;
    }

    static {
      lib.isResponse = (value) => lib.isObject(value) && #status in value;
      lib.responseStatus = (response) => response.#status;
      lib.responseBodyOf = (response) => response.#body;
      lib.responseList = (response) => response.#headerList();
      // A response as another one, with another body, whose length is not known.
      lib.responseLike = (response, body) => {
        const made = new Response(lib.internal);
        made.#status = response.#status;
        made.#statusText = response.#statusText;
        made.#url = response.#url;
        made.#list = lib.copyList(response.#headerList());
        if (body !== null) lib.headerListDelete(made.#list, "content-length");
        made.#body = body;
        return made;
      };
      lib.takeResponse = (value) => {
        if (!lib.isResponse(value)) return undefined;
        if (value.#type === "error") throw new TypeError("Response.error() cannot be sent to a client");
        const body = value.#body;
        if (body === null) {
          const bare = new Taken(value.#status, value.#list, null, null, -1, false);
          bare.webSocket = value.#webSocket;
          return bare;
        }
        const taken = lib.takeBody(body);
        return new Taken(value.#status, value.#list, value.#contentType, taken, typeof taken === "string" ? -1 : lib.takenLength(taken), value.#manual);
      };
      lib.setResponseSocket = (response, webSocket) => {
        response.#webSocket = webSocket;
      };
      // A response from the network.
      lib.responseFromNative = (status, reason, list, body, url, redirected) => {
        const response = new Response(lib.internal);
        response.#status = status;
        response.#statusText = reason;
        response.#type = "basic";
        response.#list = list;
        response.#body = body;
        response.#url = url;
        response.#redirected = redirected;
        response.#immutable = true;
        return response;
      };
    }
  }
  mixinBody(Response, "Response", lib.isResponse, lib.responseBodyOf, lib.responseList);
  defineInterface(Response, "Response");
  lib.Response = Response;
  lib.isNullBodyStatus = isNullBodyStatus;
})
