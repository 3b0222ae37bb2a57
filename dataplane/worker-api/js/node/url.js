// node:url: the WHATWG classes, and as much of the old interface as programs still use.
(function (ops, lib) {
  "use strict";
  lib.loadNode("node:querystring");
  const querystring = lib.nodeModules["node:querystring"];

  function Url() {
    this.protocol = null;
    this.slashes = null;
    this.auth = null;
    this.host = null;
    this.port = null;
    this.hostname = null;
    this.hash = null;
    this.search = null;
    this.query = null;
    this.pathname = null;
    this.path = null;
    this.href = null;
  }

  const SLASHED = ["http:", "https:", "ftp:", "file:", "ws:", "wss:", "gopher:"];

  function parse(text, parseQuery = false, slashesDenoteHost = false) {
    if (text instanceof Url) return text;
    if (typeof text !== "string") {
      throw Object.assign(new TypeError(`The "url" argument must be of type string. Received ${text === null ? "null" : typeof text}`), { code: "ERR_INVALID_ARG_TYPE" });
    }
    const url = new Url();
    let rest = text.trim();
    const cut = (at, field) => {
      if (at === -1) return;
      url[field] = rest.slice(at);
      rest = rest.slice(0, at);
    };
    cut(rest.indexOf("#"), "hash");
    cut(rest.indexOf("?"), "search");
    const scheme = /^[a-z0-9.+-]+:/i.exec(rest);
    if (scheme !== null) {
      url.protocol = scheme[0].toLowerCase();
      rest = rest.slice(scheme[0].length);
    }
    const slashes = rest.startsWith("//") && (scheme !== null || slashesDenoteHost || /^\/\/[^@/]+@[^@/]+/.test(rest));
    if (slashes && url.protocol !== "javascript:") {
      url.slashes = true;
      rest = rest.slice(2);
      const end = rest.search(/[/\\]/);
      let host = end === -1 ? rest : rest.slice(0, end);
      rest = end === -1 ? "" : rest.slice(end).replaceAll("\\", "/");
      const at = host.lastIndexOf("@");
      if (at !== -1) {
        url.auth = querystring.unescape(host.slice(0, at));
        host = host.slice(at + 1);
      }
      const port = /:([0-9]*)$/.exec(host);
      if (port !== null) {
        if (port[1] !== "") url.port = port[1];
        host = host.slice(0, port.index);
      }
      url.hostname = host.startsWith("[") ? host.slice(1, -1) : domainToASCII(host.toLowerCase()) || host.toLowerCase();
      url.host = (url.hostname.includes(":") ? `[${url.hostname}]` : url.hostname) + (url.port === null ? "" : `:${url.port}`);
    }
    if (rest !== "") url.pathname = rest;
    else if (url.slashes && SLASHED.includes(url.protocol)) url.pathname = "/";
    if (url.search !== null) url.query = parseQuery ? querystring.parse(url.search.slice(1)) : url.search.slice(1);
    else if (parseQuery) [url.search, url.query] = [null, { __proto__: null }];
    if (url.pathname !== null || url.search !== null) url.path = (url.pathname ?? "") + (url.search ?? "");
    url.href = format(url);
    return url;
  }

  function format(url, options = undefined) {
    if (typeof url === "string") return parse(url).href;
    if (url instanceof URL) {
      const copy = new URL(url);
      if (options?.fragment === false) copy.hash = "";
      if (options?.search === false) copy.search = "";
      if (options?.auth === false) copy.username = copy.password = "";
      return copy.href;
    }
    let protocol = url.protocol ?? "";
    if (protocol !== "" && !protocol.endsWith(":")) protocol += ":";
    const auth = url.auth ? `${encodeURIComponent(url.auth).replace(/%3A/i, ":")}@` : "";
    let host = "";
    if (url.host) host = auth + url.host;
    else if (url.hostname) host = auth + (url.hostname.includes(":") ? `[${url.hostname}]` : url.hostname) + (url.port ? `:${url.port}` : "");
    let pathname = (url.pathname ?? "").replaceAll("#", "%23").replaceAll("?", "%3F");
    if (url.slashes || ((protocol === "" || SLASHED.includes(protocol)) && host !== "")) {
      if (host !== "" || url.slashes) host = `//${host}`;
      if (pathname !== "" && !pathname.startsWith("/")) pathname = `/${pathname}`;
    }
    const query = typeof url.query === "object" && url.query !== null ? querystring.stringify(url.query) : "";
    let search = url.search ?? (query === "" ? "" : `?${query}`);
    if (search !== "" && !search.startsWith("?")) search = `?${search}`;
    let hash = url.hash ?? "";
    if (hash !== "" && !hash.startsWith("#")) hash = `#${hash}`;
    return protocol + host + pathname + search.replaceAll("#", "%23") + hash;
  }
  Url.prototype.format = function () {
    return format(this);
  };
  Url.prototype.resolve = function (to) {
    return resolve(this.href, to);
  };

  function resolve(from, to) {
    const base = new URL(from, "resolve://host/");
    const url = new URL(to, base);
    if (url.protocol !== "resolve:") return url.href;
    const path = url.pathname + url.search + url.hash;
    return from.startsWith("/") || to.startsWith("/") ? path : path.slice(1);
  }

  function domainToASCII(domain) {
    try {
      return new URL(`ws://${domain}`).hostname;
    } catch {
      return "";
    }
  }

  function fileURLToPath(value) {
    const url = new URL(value);
    if (url.protocol !== "file:") throw Object.assign(new TypeError("The URL must be of scheme file"), { code: "ERR_INVALID_URL_SCHEME" });
    if (/%2f/i.test(url.pathname)) throw Object.assign(new TypeError("File URL path must not include encoded / characters"), { code: "ERR_INVALID_FILE_URL_PATH" });
    return decodeURIComponent(url.pathname);
  }

  const module = {
    URL,
    URLSearchParams,
    Url,
    parse,
    format,
    resolve,
    resolveObject: (from, to) => parse(resolve(from, to)),
    domainToASCII,
    domainToUnicode: (domain) => domainToASCII(domain),
    fileURLToPath,
    pathToFileURL: (path) => new URL(`file://${encodeURI(path.startsWith("/") ? path : `/${path}`).replaceAll("#", "%23").replaceAll("?", "%3F")}`),
    urlToHttpOptions: (url) => ({
      protocol: url.protocol, hostname: url.hostname, hash: url.hash, search: url.search, pathname: url.pathname, path: url.pathname + url.search, href: url.href,
      ...(url.port === "" ? {} : { port: Number(url.port) }), ...(url.username === "" && url.password === "" ? {} : { auth: `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}` }),
    }),
  };
  lib.nodeModules["node:url"] = { ...module, default: module };
})
