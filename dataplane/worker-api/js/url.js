// URL and URLSearchParams (WHATWG URL).
//
// Owns the two classes and the parser and serialiser of application/x-www-form-urlencoded. Parsing and setting parts
// of a URL is the `url` crate's, behind `ops.urlParse` and `ops.urlSet`: a record is `[href, offset x 8]` where the
// offsets cut the href into its parts (see src/ops/url.rs). A href is ASCII.
(function (ops, lib) {
  "use strict";
  const {
    ArrayPrototypePush, ArrayPrototypeSort, NumberPrototypeToString, ObjectDefineProperty, ReflectApply,
    StringPrototypeCharCodeAt, StringPrototypeIndexOf, StringPrototypeSlice, StringPrototypeToUpperCase, SymbolIterator,
    TypeError, TypedArrayPrototypeGetByteLength, Uint8Array,
  } = lib.p;
  const { defineInterface, requireArgs, usvString } = lib;

  // Offsets in a record.
  const SCHEME_END = 1; // after the ':'
  const USERNAME_START = 2;
  const USERNAME_END = 3;
  const HOST_START = 4;
  const HOST_END = 5;
  const PATH_START = 6;
  const PATH_END = 7; // '?' or what follows
  const QUERY_END = 8; // '#' or the end

  // Between the host and the path: ":port", "/." of a path that starts with "//", or nothing.
  function portOf(record) {
    const at = record[HOST_END];
    return record[0][at] === ":" ? StringPrototypeSlice(record[0], at + 1, record[PATH_START]) : "";
  }

  function originOf(record) {
    const scheme = StringPrototypeSlice(record[0], 0, record[SCHEME_END]);
    if (scheme === "https:" || scheme === "http:" || scheme === "wss:" || scheme === "ws:" || scheme === "ftp:") {
      return `${scheme}//${StringPrototypeSlice(record[0], record[HOST_START], record[PATH_START])}`;
    }
    return scheme === "blob:" ? ops.urlOrigin(record[0]) : "null";
  }
  lib.urlOrigin = originOf;

  // What `ops.urlSet` sets.
  const SET = { __proto__: null, protocol: 0, username: 1, password: 2, host: 3, hostname: 4, port: 5, pathname: 6, search: 7, hash: 8 };

  function parse(input, base) {
    return ops.urlParse(input, base) ?? undefined;
  }
  lib.parseUrl = parse;

  class URL {
    #record;
    #searchParams = undefined;

    constructor(url, base = undefined) {
      requireArgs(arguments.length, 1, "URL");
      const input = usvString(url);
      const record = base === undefined ? parse(input, undefined) : parse(input, usvString(base));
      if (record === undefined) {
        const error = new TypeError("Invalid URL string.");
        ObjectDefineProperty(error, "code", { __proto__: null, value: "ERR_INVALID_URL", writable: true, configurable: true, enumerable: false });
        throw error;
      }
      this.#record = record;
    }

    static parse(url, base = undefined) {
      requireArgs(arguments.length, 1, "URL.parse");
      const input = usvString(url);
      if (parse(input, base === undefined ? undefined : usvString(base)) === undefined) return null;
      return new URL(input, base);
    }

    static canParse(url, base = undefined) {
      requireArgs(arguments.length, 1, "URL.canParse");
      return parse(usvString(url), base === undefined ? undefined : usvString(base)) !== undefined;
    }

    #set(part, value) {
      const record = ops.urlSet(this.#record[0], part, usvString(value));
      if (record !== null && record !== undefined) this.#record = record;
    }

    #slice(from, to) {
      const record = this.#record;
      return StringPrototypeSlice(record[0], record[from], record[to]);
    }

    get href() {
      return this.#record[0];
    }
    set href(value) {
      const record = parse(usvString(value), undefined);
      if (record === undefined) throw new TypeError("Invalid URL string.");
      this.#record = record;
      this.#refreshParams();
    }
    get origin() {
      return originOf(this.#record);
    }
    get protocol() {
      return StringPrototypeSlice(this.#record[0], 0, this.#record[SCHEME_END]);
    }
    set protocol(value) {
      this.#set(SET.protocol, value);
    }
    get username() {
      return this.#slice(USERNAME_START, USERNAME_END);
    }
    set username(value) {
      this.#set(SET.username, value);
    }
    get password() {
      const record = this.#record;
      const end = record[HOST_START];
      // Between the username and the host: ":password@", "@" or nothing.
      const between = StringPrototypeSlice(record[0], record[USERNAME_END], end);
      return between.length > 1 && between[0] === ":" ? StringPrototypeSlice(between, 1, between.length - 1) : "";
    }
    set password(value) {
      this.#set(SET.password, value);
    }
    get host() {
      const record = this.#record;
      return this.#slice(HOST_START, record[0][record[HOST_END]] === ":" ? PATH_START : HOST_END);
    }
    set host(value) {
      this.#set(SET.host, value);
    }
    get hostname() {
      return this.#slice(HOST_START, HOST_END);
    }
    set hostname(value) {
      this.#set(SET.hostname, value);
    }
    get port() {
      return portOf(this.#record);
    }
    set port(value) {
      this.#set(SET.port, value);
    }
    get pathname() {
      return this.#slice(PATH_START, PATH_END);
    }
    set pathname(value) {
      this.#set(SET.pathname, value);
    }
    get search() {
      const text = this.#slice(PATH_END, QUERY_END);
      return text.length > 1 ? text : "";
    }
    set search(value) {
      this.#set(SET.search, value);
      this.#refreshParams();
    }
    get searchParams() {
      if (this.#searchParams === undefined) {
        const params = this.#searchParams = new URLSearchParams();
        lib.paramsAttach(params, this, parseForm(this.#query()));
      }
      return this.#searchParams;
    }
    get hash() {
      const record = this.#record;
      const text = StringPrototypeSlice(record[0], record[QUERY_END]);
      return text.length > 1 ? text : "";
    }
    set hash(value) {
      this.#set(SET.hash, value);
    }
    toString() {
      return this.#record[0];
    }
    toJSON() {
      return this.#record[0];
    }

    #query() {
      return StringPrototypeSlice(this.#record[0], this.#record[PATH_END] + 1, this.#record[QUERY_END]);
    }

    #refreshParams() {
      if (this.#searchParams !== undefined) lib.paramsAttach(this.#searchParams, this, parseForm(this.#query()));
    }

    static {
      lib.isURL = (value) => lib.isObject(value) && #record in value;
      // The params of this URL changed: its query follows, and does not parse them back.
      lib.urlSetQuery = (url, query) => {
        const record = ops.urlSet(url.#record[0], SET.search, query);
        if (record !== null && record !== undefined) url.#record = record;
      };
    }
  }
  defineInterface(URL, "URL");
  lib.URL = URL;

  // application/x-www-form-urlencoded: text to a flat list [name, value, ...].
  function parseForm(text) {
    const list = [];
    let start = 0;
    while (start <= text.length) {
      let end = StringPrototypeIndexOf(text, "&", start);
      if (end === -1) end = text.length;
      if (end > start) {
        const equals = StringPrototypeIndexOf(text, "=", start);
        if (equals === -1 || equals >= end) {
          ArrayPrototypePush(list, decodeForm(StringPrototypeSlice(text, start, end)), "");
        } else {
          ArrayPrototypePush(list, decodeForm(StringPrototypeSlice(text, start, equals)), decodeForm(StringPrototypeSlice(text, equals + 1, end)));
        }
      }
      start = end + 1;
    }
    return list;
  }
  lib.parseForm = parseForm;

  function hexValue(code) {
    if (code >= 48 && code <= 57) return code - 48;
    if (code >= 65 && code <= 70) return code - 55;
    if (code >= 97 && code <= 102) return code - 87;
    return -1;
  }

  // '+' to space, percent-decoding, UTF-8 decoding without BOM handling.
  function decodeForm(text) {
    if (StringPrototypeIndexOf(text, "%") === -1) {
      if (StringPrototypeIndexOf(text, "+") === -1) return text;
      let out = "";
      for (let i = 0; i < text.length; i++) out += text[i] === "+" ? " " : text[i];
      return out;
    }
    const bytes = ops.utf8Encode(text);
    const length = TypedArrayPrototypeGetByteLength(bytes);
    let count = 0;
    for (let i = 0; i < length; i++) {
      let byte = bytes[i];
      if (byte === 43) {
        byte = 32;
      } else if (byte === 37 && i + 2 < length) {
        const high = hexValue(bytes[i + 1]);
        const low = hexValue(bytes[i + 2]);
        if (high >= 0 && low >= 0) {
          byte = high * 16 + low;
          i += 2;
        }
      }
      bytes[count++] = byte;
    }
    return ops.utf8Decode(lib.p.TypedArrayPrototypeSubarray(bytes, 0, count));
  }

  // Which ASCII bytes the form encoding leaves as they are: * - . _ 0-9 A-Z a-z.
  const plain = new Uint8Array(128);
  for (let i = 0; i < 128; i++) {
    const letter = (i >= 48 && i <= 57) || (i >= 65 && i <= 90) || (i >= 97 && i <= 122);
    plain[i] = letter || i === 42 || i === 45 || i === 46 || i === 95 ? 1 : 0;
  }

  function encodeForm(text) {
    let i = 0;
    while (i < text.length) {
      const code = StringPrototypeCharCodeAt(text, i);
      if (code > 127 || plain[code] === 0) break;
      i++;
    }
    if (i === text.length) return text;
    let out = StringPrototypeSlice(text, 0, i);
    const bytes = ops.utf8Encode(StringPrototypeSlice(text, i));
    const length = TypedArrayPrototypeGetByteLength(bytes);
    for (let j = 0; j < length; j++) {
      const byte = bytes[j];
      if (byte === 32) out += "+";
      else if (byte < 128 && plain[byte] === 1) out += lib.p.StringFromCharCode(byte);
      else out += (byte < 16 ? "%0" : "%") + StringPrototypeToUpperCase(NumberPrototypeToString(byte, 16));
    }
    return out;
  }

  function serializeForm(list) {
    let out = "";
    for (let i = 0; i < list.length; i += 2) {
      out += `${i === 0 ? "" : "&"}${encodeForm(list[i])}=${encodeForm(list[i + 1])}`;
    }
    return out;
  }

  lib.serializeForm = serializeForm;

  class URLSearchParams {
    // Flat: [name, value, ...].
    #list = [];
    #url = undefined;

    constructor(init = "") {
      if (typeof init === "string") {
        if (init !== "") this.#list = fromText(usvString(init));
      } else if (lib.isObject(init)) {
        this.#fill(init);
      } else {
        this.#list = fromText(usvString(init));
      }
    }

    #fill(init) {
      const list = this.#list;
      const method = init[SymbolIterator];
      if (method !== undefined && method !== null) {
        lib.iterate(init, "The argument of URLSearchParams", (item) => {
          const pair = lib.pairOf(item, "An item of the argument of URLSearchParams");
          ArrayPrototypePush(list, usvString(pair[0]), usvString(pair[1]));
        });
        return;
      }
      lib.eachOfRecord(init, usvString, (name, text) => {
        const value = usvString(text);
        let at = 0;
        // Two keys can become one name when lone surrogates are replaced: the later wins.
        while (at < list.length && list[at] !== name) at += 2;
        if (at < list.length) list[at + 1] = value;
        else ArrayPrototypePush(list, name, value);
      });
    }

    #changed() {
      if (this.#url !== undefined) lib.urlSetQuery(this.#url, serializeForm(this.#list));
    }

    get size() {
      return this.#list.length / 2;
    }
    append(name, value) {
      this.#list;
      requireArgs(arguments.length, 2, "append");
      ArrayPrototypePush(this.#list, usvString(name), usvString(value));
      this.#changed();
    }
    delete(name, value = undefined) {
      this.#list;
      requireArgs(arguments.length, 1, "delete");
      const key = usvString(name);
      const wanted = value === undefined ? undefined : usvString(value);
      this.#keep((n, v) => n !== key || (wanted !== undefined && v !== wanted));
      this.#changed();
    }
    #keep(test) {
      const list = this.#list;
      let count = 0;
      for (let i = 0; i < list.length; i += 2) {
        const name = list[i];
        const value = list[i + 1];
        if (test(name, value)) {
          list[count++] = name;
          list[count++] = value;
        }
      }
      list.length = count;
    }
    get(name) {
      const list = this.#list;
      requireArgs(arguments.length, 1, "get");
      const key = usvString(name);
      for (let i = 0; i < list.length; i += 2) if (list[i] === key) return list[i + 1];
      return null;
    }
    getAll(name) {
      const list = this.#list;
      requireArgs(arguments.length, 1, "getAll");
      const key = usvString(name);
      const values = [];
      for (let i = 0; i < list.length; i += 2) if (list[i] === key) ArrayPrototypePush(values, list[i + 1]);
      return values;
    }
    has(name, value = undefined) {
      const list = this.#list;
      requireArgs(arguments.length, 1, "has");
      const key = usvString(name);
      const wanted = value === undefined ? undefined : usvString(value);
      for (let i = 0; i < list.length; i += 2) {
        if (list[i] === key && (wanted === undefined || list[i + 1] === wanted)) return true;
      }
      return false;
    }
    set(name, value) {
      const list = this.#list;
      requireArgs(arguments.length, 2, "set");
      const key = usvString(name);
      const text = usvString(value);
      let found = false;
      this.#keep((n) => {
        if (n !== key) return true;
        if (found) return false;
        found = true;
        return true;
      });
      if (found) {
        let at = 0;
        while (list[at] !== key) at += 2;
        list[at + 1] = text;
      } else {
        ArrayPrototypePush(list, key, text);
      }
      this.#changed();
    }
    sort() {
      const list = this.#list;
      const order = [];
      for (let i = 0; i < list.length; i += 2) ArrayPrototypePush(order, { __proto__: null, name: list[i], value: list[i + 1] });
      // By code units, stable.
      ArrayPrototypeSort(order, (a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
      for (let i = 0; i < order.length; i++) {
        list[2 * i] = order[i].name;
        list[2 * i + 1] = order[i].value;
      }
      this.#changed();
    }
    forEach(callback, thisArg = undefined) {
      const list = this.#list;
      requireArgs(arguments.length, 1, "forEach");
      if (typeof callback !== "function") throw new TypeError("forEach: the argument is not a function");
      for (let i = 0; i < list.length; i += 2) ReflectApply(callback, thisArg, [list[i + 1], list[i], this]);
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
    toString() {
      return serializeForm(this.#list);
    }

    static {
      lib.isURLSearchParams = (value) => lib.isObject(value) && #list in value;
      lib.paramsAttach = (params, url, list) => {
        params.#url = url;
        params.#list = list;
      };
      lib.paramsList = (params) => params.#list;
    }
  }
  const fromText = (text) => parseForm(text[0] === "?" ? StringPrototypeSlice(text, 1) : text);
  const newIterator = lib.pairIterator("URLSearchParams", lib.paramsList);
  defineInterface(URLSearchParams, "URLSearchParams");
  ObjectDefineProperty(URLSearchParams.prototype, SymbolIterator, {
    __proto__: null, value: URLSearchParams.prototype.entries, writable: true, configurable: true, enumerable: false,
  });
  lib.URLSearchParams = URLSearchParams;
})
