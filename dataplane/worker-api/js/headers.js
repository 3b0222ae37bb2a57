// Headers (Fetch section 5.1).
//
// Owns header lists: flat arrays [name, value, ...] with lower-case names, in the order in which they were added.
// A `Headers` object is made only where a program asks for one; requests and responses carry the bare list.
// Values are byte strings. Iteration sorts by name and combines with ", ", except set-cookie.
(function (ops, lib) {
  "use strict";
  // The content coding of a message, "" for none and for those that Workers do not decode.
  lib.contentCoding = (list) => {
    const value = lib.headerListGet(list, "content-encoding");
    if (value === null) return "";
    const coding = lib.p.StringPrototypeToLowerCase(value);
    return coding === "gzip" || coding === "br" ? coding : "";
  };

  const {
    ArrayPrototypePush, ArrayPrototypeSort, Map, MapPrototypeGet, MapPrototypeSet, ObjectDefineProperty, ReflectApply,
    StringPrototypeCharCodeAt, StringPrototypeSlice, StringPrototypeToLowerCase, SymbolIterator, TypeError, Uint8Array,
  } = lib.p;
  const { defineInterface, requireArgs } = lib;

  // Guards. Servers forbid no field name: a Worker is on the trusted side of the wire.
  const NONE = 0;
  const IMMUTABLE = 1;

  // RFC 9110 section 5.6.2: the characters of a token.
  const token = new Uint8Array(256);
  for (let i = 0; i < 128; i++) {
    const letter = (i >= 48 && i <= 57) || (i >= 65 && i <= 90) || (i >= 97 && i <= 122);
    token[i] = letter || "!#$%&'*+-.^_`|~".indexOf(String.fromCharCode(i)) >= 0 ? 1 : 0;
  }

  lib.isToken = (text) => {
    if (text.length === 0) return false;
    for (let i = 0; i < text.length; i++) {
      const code = StringPrototypeCharCodeAt(text, i);
      if (code > 255 || token[code] === 0) return false;
    }
    return true;
  };

  // Names that are valid and whose lower-case form is known; a fixed set, never added to at run time.
  const known = new Map();
  const knownNames = [
    "Accept", "Accept-Encoding", "Accept-Language", "Accept-Ranges", "Access-Control-Allow-Credentials", "Access-Control-Allow-Headers",
    "Access-Control-Allow-Methods", "Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Access-Control-Max-Age",
    "Access-Control-Request-Headers", "Access-Control-Request-Method", "Age", "Allow", "Authorization", "Cache-Control", "Connection",
    "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Length", "Content-Location", "Content-Range",
    "Content-Security-Policy", "Content-Type", "Cookie", "Date", "ETag", "Expires", "Host", "If-Match", "If-Modified-Since", "If-None-Match",
    "Last-Modified", "Link", "Location", "Origin", "Pragma", "Range", "Referer", "Referrer-Policy", "Retry-After", "Server", "Set-Cookie",
    "Strict-Transport-Security", "Transfer-Encoding", "User-Agent", "Vary", "WWW-Authenticate", "X-Content-Type-Options", "X-Forwarded-For",
    "X-Forwarded-Proto", "X-Frame-Options", "X-Powered-By", "X-Request-Id", "X-Response-Time",
  ];
  for (const name of knownNames) {
    known.set(name, name.toLowerCase());
    known.set(name.toLowerCase(), name.toLowerCase());
  }

  // A field name in lower case; TypeError if it is no token.
  function headerName(name) {
    const lower = MapPrototypeGet(known, name);
    if (lower !== undefined) return lower;
    const text = lib.domString(name);
    if (!lib.isToken(text)) throw new TypeError(`Invalid header name: ${text}`);
    return StringPrototypeToLowerCase(text);
  }
  lib.headerName = headerName;

  const isSpace = (code) => code === 32 || code === 9 || code === 10 || code === 13;

  // A value without leading and trailing whitespace; TypeError if it is no field value.
  function headerValue(value) {
    const text = typeof value === "string" ? value : lib.domString(value);
    let start = 0;
    let end = text.length;
    while (start < end && isSpace(StringPrototypeCharCodeAt(text, start))) start++;
    while (end > start && isSpace(StringPrototypeCharCodeAt(text, end - 1))) end--;
    for (let i = start; i < end; i++) {
      const code = StringPrototypeCharCodeAt(text, i);
      if (code > 255 || code === 0 || code === 10 || code === 13) throw new TypeError("Invalid header value");
    }
    return start === 0 && end === text.length ? text : StringPrototypeSlice(text, start, end);
  }

  function listGet(list, name) {
    let found = null;
    for (let i = 0; i < list.length; i += 2) {
      if (list[i] === name) found = found === null ? list[i + 1] : `${found}, ${list[i + 1]}`;
    }
    return found;
  }
  lib.headerListGet = listGet;

  function listHas(list, name) {
    for (let i = 0; i < list.length; i += 2) if (list[i] === name) return true;
    return false;
  }
  lib.headerListHas = listHas;

  function listDelete(list, name) {
    let count = 0;
    for (let i = 0; i < list.length; i += 2) {
      const n = list[i];
      if (n !== name) {
        const value = list[i + 1];
        list[count++] = n;
        list[count++] = value;
      }
    }
    list.length = count;
  }
  lib.headerListDelete = listDelete;

  function listSet(list, name, value) {
    let at = -1;
    let count = 0;
    for (let i = 0; i < list.length; i += 2) {
      if (list[i] === name) {
        if (at >= 0) continue;
        at = count;
      }
      list[count] = list[i];
      list[count + 1] = list[i + 1];
      count += 2;
    }
    list.length = count;
    if (at >= 0) list[at + 1] = value;
    else ArrayPrototypePush(list, name, value);
  }

  lib.headerListSet = listSet;

  lib.copyList = (list) => {
    const copy = [];
    for (let i = 0; i < list.length; i++) copy[i] = list[i];
    return copy;
  };

  // HeadersInit as a new header list.
  lib.headerListFrom = (init) => {
    if (lib.isHeaders(init) && init[SymbolIterator] === entriesMethod) return lib.copyList(lib.headersList(init));
    if (!lib.isObject(init)) throw new TypeError("The headers are neither an object nor a sequence of pairs");
    const list = [];
    const method = init[SymbolIterator];
    if (method !== undefined && method !== null) {
      lib.iterate(init, "The headers", (item) => {
        const pair = lib.pairOf(item, "A header");
        const name = headerName(lib.byteString(pair[0], "A header's name"));
        ArrayPrototypePush(list, name, headerValue(lib.byteString(pair[1], "A header's value")));
      });
      return list;
    }
    lib.eachOfRecord(init, lib.byteString, (key, value) => {
      ArrayPrototypePush(list, headerName(key), headerValue(lib.byteString(value, "A header's value")));
    });
    return list;
  };

  // "Sort and combine": a new flat list.
  function sortAndCombine(list) {
    const first = new Map();
    const order = [];
    for (let i = 0; i < list.length; i += 2) {
      const name = list[i];
      const value = list[i + 1];
      if (name === "set-cookie") {
        ArrayPrototypePush(order, { __proto__: null, name, value });
        continue;
      }
      const entry = MapPrototypeGet(first, name);
      if (entry !== undefined) {
        entry.value = `${entry.value}, ${value}`;
      } else {
        const made = { __proto__: null, name, value };
        MapPrototypeSet(first, name, made);
        ArrayPrototypePush(order, made);
      }
    }
    ArrayPrototypeSort(order, (a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
    const sorted = [];
    for (let i = 0; i < order.length; i++) ArrayPrototypePush(sorted, order[i].name, order[i].value);
    return sorted;
  }

  class Headers {
    #list;
    #guard;
    // The sorted list of an iteration, until the next change.
    #sorted = undefined;

    constructor(init = undefined, list = undefined, guard = NONE) {
      if (init === lib.internal) {
        this.#list = list;
        this.#guard = guard;
      } else {
        this.#list = init === undefined ? [] : lib.headerListFrom(init);
        this.#guard = NONE;
      }
    }

    #change() {
      if (this.#guard === IMMUTABLE) throw new TypeError("Can't modify immutable headers.");
      this.#sorted = undefined;
    }

    append(name, value) {
      this.#list;
      requireArgs(arguments.length, 2, "append");
      const key = headerName(name);
      const text = headerValue(value);
      this.#change();
      ArrayPrototypePush(this.#list, key, text);
    }
    delete(name) {
      this.#list;
      requireArgs(arguments.length, 1, "delete");
      const key = headerName(name);
      this.#change();
      listDelete(this.#list, key);
    }
    get(name) {
      const list = this.#list;
      requireArgs(arguments.length, 1, "get");
      return listGet(list, headerName(name));
    }
    has(name) {
      const list = this.#list;
      requireArgs(arguments.length, 1, "has");
      return listHas(list, headerName(name));
    }
    set(name, value) {
      this.#list;
      requireArgs(arguments.length, 2, "set");
      const key = headerName(name);
      const text = headerValue(value);
      this.#change();
      listSet(this.#list, key, text);
    }
    getSetCookie() {
      const list = this.#list;
      const values = [];
      for (let i = 0; i < list.length; i += 2) if (list[i] === "set-cookie") ArrayPrototypePush(values, list[i + 1]);
      return values;
    }
    // The form of early Workers: getAll("set-cookie").
    getAll(name) {
      this.#list;
      requireArgs(arguments.length, 1, "getAll");
      if (headerName(name) !== "set-cookie") throw new TypeError('getAll() can only be used with the header name "Set-Cookie".');
      return this.getSetCookie();
    }
    forEach(callback, thisArg = undefined) {
      this.#list;
      requireArgs(arguments.length, 1, "forEach");
      if (typeof callback !== "function") throw new TypeError("forEach: the argument is not a function");
      for (let i = 0; i < lib.headersSorted(this).length; i += 2) {
        const sorted = lib.headersSorted(this);
        ReflectApply(callback, thisArg, [sorted[i + 1], sorted[i], this]);
      }
    }
    entries() {
      this.#list;
      return newIterator(this, 2);
    }
    keys() {
      this.#list;
      return newIterator(this, 0);
    }
    values() {
      this.#list;
      return newIterator(this, 1);
    }

    static {
      lib.isHeaders = (value) => lib.isObject(value) && #list in value;
      lib.headersList = (headers) => headers.#list;
      lib.headersSorted = (headers) => headers.#sorted ??= sortAndCombine(headers.#list);
      // A Headers object over a list that its owner shares with it.
      lib.wrapHeaders = (list) => new Headers(lib.internal, list, NONE);
      lib.wrapImmutableHeaders = (list) => new Headers(lib.internal, list, IMMUTABLE);
    }
  }
  const newIterator = lib.pairIterator("Headers", lib.headersSorted);
  const entriesMethod = Headers.prototype.entries;
  defineInterface(Headers, "Headers");
  ObjectDefineProperty(Headers.prototype, SymbolIterator, {
    __proto__: null, value: entriesMethod, writable: true, configurable: true, enumerable: false,
  });
  ObjectDefineProperty(Headers, "length", { __proto__: null, value: 0, configurable: true });
  lib.Headers = Headers;
})
