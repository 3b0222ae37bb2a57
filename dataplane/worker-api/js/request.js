// Request (Fetch section 5.4), and the requests that come to a Worker.
//
// A request from the network holds its id and parses nothing: headers, body and signal are made at the first access.
(function (ops, lib) {
  "use strict";
  const { StringPrototypeToUpperCase, TypeError } = lib.p;
  const { defineInterface, dictionary, domString, mixinBody, requireArgs, usvString } = lib;

  const normalMethods = new Map([["delete", "DELETE"], ["get", "GET"], ["head", "HEAD"], ["options", "OPTIONS"], ["post", "POST"], ["put", "PUT"]]);
  const { MapPrototypeGet, StringPrototypeToLowerCase } = lib.p;

  function checkedMethod(value) {
    const method = domString(value);
    if (!lib.isToken(method)) throw new TypeError(`Invalid HTTP method string: ${method}`);
    const upper = StringPrototypeToUpperCase(method);
    if (upper === "CONNECT" || upper === "TRACE" || upper === "TRACK") throw new TypeError(`The method ${method} is not allowed`);
    return MapPrototypeGet(normalMethods, StringPrototypeToLowerCase(method)) ?? method;
  }

  // Record offsets of url.js: credentials lie between these two.
  const USERNAME_START = 2;
  const HOST_START = 4;

  function checkedUrl(text) {
    const record = lib.parseUrl(text, undefined);
    if (record === undefined) throw new TypeError(`Invalid URL: ${text}`);
    if (record[HOST_START] > record[USERNAME_START]) throw new TypeError("A request's URL has no credentials");
    return record[0];
  }
  lib.checkedUrl = checkedUrl;

  function oneOf(value, name, allowed) {
    const text = domString(value);
    for (let i = 0; i < allowed.length; i++) if (allowed[i] === text) return text;
    throw new TypeError(`Request: '${text}' is not a value of ${name}`);
  }
  const REDIRECTS = ["follow", "error", "manual"];
  const MODES = ["cors", "no-cors", "same-origin", "navigate"];
  const CREDENTIALS = ["omit", "same-origin", "include"];
  const CACHES = ["default", "no-store", "reload", "no-cache", "force-cache", "only-if-cached"];
  const POLICIES = [
    "", "no-referrer", "no-referrer-when-downgrade", "same-origin", "origin", "strict-origin", "origin-when-cross-origin",
    "strict-origin-when-cross-origin", "unsafe-url",
  ];

  // Settings that a server only carries along; one frozen object for all requests that set none.
  class Settings {
    mode = "cors";
    credentials = "same-origin";
    cache = "default";
    referrer = "about:client";
    referrerPolicy = "";
    integrity = "";
    keepalive = false;
  }
  const defaultSettings = lib.p.ObjectFreeze(new Settings());

  function readSettings(init, from) {
    const { cache, credentials, integrity, keepalive, mode, referrer, referrerPolicy } = init;
    if (
      cache === undefined && credentials === undefined && integrity === undefined && keepalive === undefined && mode === undefined &&
      referrer === undefined && referrerPolicy === undefined
    ) return from;
    const settings = new Settings();
    settings.cache = cache === undefined ? from.cache : oneOf(cache, "cache", CACHES);
    settings.credentials = credentials === undefined ? from.credentials : oneOf(credentials, "credentials", CREDENTIALS);
    settings.integrity = integrity === undefined ? from.integrity : domString(integrity);
    settings.keepalive = keepalive === undefined ? from.keepalive : !!keepalive;
    settings.mode = mode === undefined ? from.mode : oneOf(mode, "mode", MODES);
    if (settings.mode === "navigate" && mode !== undefined) throw new TypeError("Request: the mode 'navigate' is not allowed");
    settings.referrer = referrer === undefined ? from.referrer : usvString(referrer);
    settings.referrerPolicy = referrerPolicy === undefined ? from.referrerPolicy : oneOf(referrerPolicy, "referrerPolicy", POLICIES);
    return settings;
  }

  class Request {
    #method = "GET";
    #url;
    // Flat list, or undefined until it is fetched for a request from the network.
    #list = undefined;
    #headers = undefined;
    // Body or null; undefined until it is opened for a request from the network.
    #body = null;
    #redirect = "follow";
    #settings = defaultSettings;
    #cf = undefined;
    #signal = undefined;
    // The signal this request's own will follow, if a program gave one.
    #follows = undefined;
    #gone = undefined;
    #rid = -1;
    #bodyKind = 0;

    constructor(input, init = undefined) {
      if (input === lib.internal) {
        this.#method = init.method;
        return;
      }
      requireArgs(arguments.length, 1, "Request");
      if (lib.isRequest(input)) this.#fromRequest(input, dictionary(init, "Request init"));
      else this.#fromUrl(lib.isURL(input) ? input.href : usvString(input), dictionary(init, "Request init"));
    }

    #fromUrl(url, init) {
      this.#url = checkedUrl(url);
      this.#readInit(init);
      if (init.headers !== undefined) this.#list = lib.headerListFrom(init.headers);
      else this.#list = [];
      this.#readBody(init);
    }

    #fromRequest(input, init) {
      this.#url = input.#url;
      this.#method = input.#method;
      this.#redirect = input.#redirect;
      this.#settings = input.#settings;
      this.#cf = input.cf;
      if (init.signal === undefined) this.#follows = input.#signalToFollow();
      this.#readInit(init);
      this.#list = init.headers === undefined ? lib.copyList(input.#headerList()) : lib.headerListFrom(init.headers);
      const { body } = init;
      if (body !== undefined && body !== null) {
        this.#readBody(init);
        return;
      }
      const inherited = input.#openBody();
      if (inherited === null) return;
      if (this.#method === "GET" || this.#method === "HEAD") throw new TypeError("Request with a GET or HEAD method cannot have a body.");
      this.#body = lib.moveBody(inherited);
    }

    #readInit(init) {
      const { cf, duplex, method, redirect, signal, window } = init;
      if (window !== undefined && window !== null) throw new TypeError("Request: window can only be null");
      if (duplex !== undefined && domString(duplex) !== "half") throw new TypeError("Request: duplex can only be 'half'");
      if (method !== undefined) this.#method = checkedMethod(method);
      if (redirect !== undefined) this.#redirect = oneOf(redirect, "redirect", REDIRECTS);
      if (cf !== undefined) this.#cf = cf;
      if (signal !== undefined) {
        if (signal !== null && !lib.isAbortSignal(signal)) throw new TypeError("Request: signal is not an AbortSignal");
        this.#follows = signal === null ? undefined : signal;
      }
      this.#settings = readSettings(init, this.#settings);
    }

    #readBody(init) {
      const { body } = init;
      if (body === undefined || body === null) return;
      if (this.#method === "GET" || this.#method === "HEAD") throw new TypeError("Request with a GET or HEAD method cannot have a body.");
      const extracted = lib.extractBody(body);
      this.#body = extracted.body;
      if (extracted.type !== null && !lib.headerListHas(this.#list, "content-type")) {
        lib.p.ArrayPrototypePush(this.#list, "content-type", extracted.type);
      }
    }

    #headerList() {
      return this.#list ??= ops.requestHeaders(this.#rid);
    }

    #openBody() {
      if (this.#body === undefined) this.#body = this.#bodyKind === 0 ? null : lib.bodyOfRequest(this.#rid, this.#bodyKind);
      return this.#body;
    }

    // A request without a signal of its own and that nobody can abort has none to follow.
    #signalToFollow() {
      if (this.#signal !== undefined) return this.#signal;
      return this.#rid >= 0 ? this.signal : this.#follows;
    }

    get method() {
      return this.#method;
    }
    get url() {
      return this.#url;
    }
    get headers() {
      return this.#headers ??= this.#rid >= 0 ? lib.wrapImmutableHeaders(this.#headerList()) : lib.wrapHeaders(this.#list);
    }
    get destination() {
      this.#method;
      return "";
    }
    get referrer() {
      return this.#settings.referrer;
    }
    get referrerPolicy() {
      return this.#settings.referrerPolicy;
    }
    get mode() {
      return this.#settings.mode;
    }
    get credentials() {
      return this.#settings.credentials;
    }
    get cache() {
      return this.#settings.cache;
    }
    get redirect() {
      return this.#redirect;
    }
    get integrity() {
      return this.#settings.integrity;
    }
    get keepalive() {
      return this.#settings.keepalive;
    }
    get duplex() {
      this.#method;
      return "half";
    }
    get signal() {
      if (this.#signal === undefined) {
        this.#signal = this.#follows === undefined ? lib.newSignal() : lib.anySignal([this.#follows]);
        if (this.#gone !== undefined) lib.abortSignal(this.#signal, this.#gone.reason);
      }
      return this.#signal;
    }
    // Where the request came in; empty until there is something to say.
    get cf() {
      return this.#cf === undefined && this.#rid >= 0 ? (this.#cf = lib.p.JSONParse(ops.place())) : this.#cf;
    }

    clone() {
      const body = this.#openBody();
      if (lib.bodyUnusable(body)) throw lib.bodyUsedError();
      const copy = new Request(lib.internal, this);
      copy.#url = this.#url;
      copy.#method = this.#method;
      copy.#list = lib.copyList(this.#headerList());
      copy.#redirect = this.#redirect;
      copy.#settings = this.#settings;
      copy.#cf = this.cf;
      copy.#follows = this.#signalToFollow();
      copy.#body = body === null ? null : lib.cloneBody(body);
      return copy;
    }

    static {
      lib.isRequest = (value) => lib.isObject(value) && #method in value;
      lib.requestMethod = (request) => request.#method;
      lib.requestUrl = (request) => request.#url;
      lib.requestRedirect = (request) => request.#redirect;
      lib.requestBodyOf = (request) => request.#openBody();
      lib.requestList = (request) => request.#headerList();
      lib.requestSignal = (request) => request.#signal ?? request.#follows;
      const seed = { __proto__: null, method: "GET" };
      lib.requestFromNative = (rid, method, url, bodyKind) => {
        const request = new Request(lib.internal, seed);
        request.#method = method;
        request.#url = url;
        request.#rid = rid;
        request.#bodyKind = bodyKind;
        request.#body = bodyKind === 0 ? null : undefined;
        return request;
      };
      lib.abortRequest = (request, reason) => {
        if (request.#signal !== undefined) lib.abortSignal(request.#signal, reason);
        else request.#gone = { __proto__: null, reason };
      };
    }
  }
  mixinBody(Request, "Request", lib.isRequest, lib.requestBodyOf, lib.requestList);
  defineInterface(Request, "Request");
  lib.Request = Request;
})
