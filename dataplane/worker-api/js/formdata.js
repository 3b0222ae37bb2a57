// FormData (XHR section 4), and multipart/form-data both ways (RFC 7578, with HTML's escaping of names).
//
// Bounds: the parser reads each byte a constant number of times. A malformed body is a TypeError.
(function (ops, lib) {
  "use strict";
  const {
    ArrayPrototypePush, ObjectDefineProperty, ReflectApply, StringPrototypeIndexOf, StringPrototypeSlice, StringPrototypeToLowerCase,
    StringPrototypeTrim, SymbolIterator, TypeError, TypedArrayPrototypeGetByteLength, TypedArrayPrototypeIndexOf, TypedArrayPrototypeSubarray, Uint8Array,
  } = lib.p;
  const { defineInterface, requireArgs, usvString } = lib;

  // A part's value as the entry list holds it: a string, or a File.
  function entryValue(value, filename) {
    if (lib.isBlob(value)) {
      if (lib.isFile(value) && filename === undefined) return value;
      const name = filename === undefined ? "blob" : usvString(filename);
      const modified = lib.isFile(value) ? lib.fileLastModified(value) : ops.now();
      return lib.newFile(lib.blobBytes(value), lib.blobType(value), name, modified);
    }
    if (filename !== undefined) throw new TypeError("A file name was given for a value that is not a Blob");
    return usvString(value);
  }

  class FormData {
    // Flat: [name, value, ...].
    #list = [];

    constructor(form = undefined) {
      if (form !== undefined) throw new TypeError("FormData takes no argument: there are no form elements here");
    }
    append(name, value, filename = undefined) {
      this.#list;
      requireArgs(arguments.length, 2, "append");
      const key = usvString(name);
      ArrayPrototypePush(this.#list, key, entryValue(value, filename));
    }
    delete(name) {
      const list = this.#list;
      requireArgs(arguments.length, 1, "delete");
      lib.headerListDelete(list, usvString(name));
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
    has(name) {
      const list = this.#list;
      requireArgs(arguments.length, 1, "has");
      return lib.headerListHas(list, usvString(name));
    }
    set(name, value, filename = undefined) {
      this.#list;
      requireArgs(arguments.length, 2, "set");
      const key = usvString(name);
      lib.headerListSet(this.#list, key, entryValue(value, filename));
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
    static {
      lib.isFormData = (value) => lib.isObject(value) && #list in value;
      lib.formList = (form) => form.#list;
    }
  }
  const newIterator = lib.pairIterator("FormData", lib.formList);
  defineInterface(FormData, "FormData");
  ObjectDefineProperty(FormData.prototype, SymbolIterator, {
    __proto__: null, value: FormData.prototype.entries, writable: true, configurable: true, enumerable: false,
  });
  lib.FormData = FormData;

  // Line breaks as CRLF (HTML, "constructing the entry list").
  function crlf(text) {
    let out = "";
    let start = 0;
    for (let i = 0; i < text.length; i++) {
      const c = text[i];
      if (c !== "\r" && c !== "\n") continue;
      out += `${StringPrototypeSlice(text, start, i)}\r\n`;
      if (c === "\r" && text[i + 1] === "\n") i++;
      start = i + 1;
    }
    return start === 0 ? text : out + StringPrototypeSlice(text, start);
  }

  function escapeName(text) {
    let out = "";
    for (let i = 0; i < text.length; i++) {
      const c = text[i];
      out += c === "\n" ? "%0A" : c === "\r" ? "%0D" : c === '"' ? "%22" : c;
    }
    return out;
  }

  // multipart/form-data: the bytes and their content type.
  lib.encodeMultipart = (form) => {
    const list = lib.formList(form);
    const boundary = `----SelvageFormBoundary${ops.randomToken()}`;
    const chunks = [];
    let total = 0;
    const add = (bytes) => {
      ArrayPrototypePush(chunks, bytes);
      total += TypedArrayPrototypeGetByteLength(bytes);
    };
    for (let i = 0; i < list.length; i += 2) {
      const value = list[i + 1];
      const head = `--${boundary}\r\nContent-Disposition: form-data; name="${escapeName(crlf(list[i]))}"`;
      if (typeof value === "string") {
        add(ops.utf8Encode(`${head}\r\n\r\n${crlf(value)}\r\n`));
      } else {
        const type = lib.blobType(value);
        add(ops.utf8Encode(`${head}; filename="${escapeName(lib.fileName(value))}"\r\nContent-Type: ${type === "" ? "application/octet-stream" : type}\r\n\r\n`));
        add(lib.blobBytes(value));
        add(ops.utf8Encode("\r\n"));
      }
    }
    add(ops.utf8Encode(`--${boundary}--\r\n`));
    return { __proto__: null, bytes: lib.concatBytes(chunks, total), contentType: `multipart/form-data; boundary=${boundary}` };
  };

  const malformed = () => new TypeError("The body is not valid multipart/form-data");

  // Index of `needle` in `bytes` from `from`, or -1. Jumps from one first byte to the next.
  function find(bytes, needle, from) {
    const size = TypedArrayPrototypeGetByteLength(needle);
    const last = TypedArrayPrototypeGetByteLength(bytes) - size;
    let at = from;
    while (at <= last) {
      at = TypedArrayPrototypeIndexOf(bytes, needle[0], at);
      if (at === -1 || at > last) return -1;
      let i = 1;
      while (i < size && bytes[at + i] === needle[i]) i++;
      if (i === size) return at;
      at++;
    }
    return -1;
  }

  // Parses a body with the boundary of its content type.
  lib.parseMultipart = (bytes, boundary) => {
    const form = new FormData();
    const list = lib.formList(form);
    const length = TypedArrayPrototypeGetByteLength(bytes);
    const delimiter = ops.utf8Encode(`\r\n--${boundary}`);
    const size = TypedArrayPrototypeGetByteLength(delimiter);
    // The first delimiter may stand without its CRLF at the very start.
    const opening = TypedArrayPrototypeSubarray(delimiter, 2);
    let at = find(bytes, opening, 0);
    if (at === -1 || (at > 0 && !(bytes[at - 2] === 13 && bytes[at - 1] === 10))) throw malformed();
    at += size - 2;
    for (;;) {
      if (bytes[at] === 45 && bytes[at + 1] === 45) return form;
      while (bytes[at] === 32 || bytes[at] === 9) at++;
      if (bytes[at] !== 13 || bytes[at + 1] !== 10) throw malformed();
      at += 2;
      const part = { __proto__: null, name: undefined, filename: undefined, type: undefined };
      for (;;) {
        const end = find(bytes, CRLF, at);
        if (end === -1) throw malformed();
        if (end === at) break;
        partHeader(part, ops.utf8Decode(TypedArrayPrototypeSubarray(bytes, at, end)));
        at = end + 2;
      }
      at += 2;
      if (part.name === undefined) throw malformed();
      // An empty part: its delimiter's CRLF is the one that ends the head.
      const end = find(bytes, delimiter, at - 2);
      if (end === -1 || at > length) throw malformed();
      const content = end < at ? TypedArrayPrototypeSubarray(bytes, at, at) : TypedArrayPrototypeSubarray(bytes, at, end);
      if (part.filename !== undefined) {
        ArrayPrototypePush(list, part.name, lib.newFile(lib.copyBytes(content), part.type ?? "text/plain", part.filename, ops.now()));
      } else {
        ArrayPrototypePush(list, part.name, lib.utf8Decode(content));
      }
      at = end + size;
    }
  };
  const CRLF = new Uint8Array([13, 10]);

  function partHeader(part, line) {
    const colon = StringPrototypeIndexOf(line, ":");
    if (colon === -1) throw malformed();
    const name = StringPrototypeToLowerCase(StringPrototypeTrim(StringPrototypeSlice(line, 0, colon)));
    const value = StringPrototypeTrim(StringPrototypeSlice(line, colon + 1));
    if (name === "content-type") {
      part.type = value;
    } else if (name === "content-disposition") {
      const parsed = lib.parseParameters(value, unescapeName);
      if (parsed.essence !== "form-data") throw malformed();
      part.name = parsed.get("name");
      part.filename = parsed.get("filename");
    }
  }

  // The three escapes of HTML; a backslash is literal, as browsers send it.
  function unescapeName(text) {
    if (StringPrototypeIndexOf(text, "%") === -1) return text;
    let out = "";
    for (let i = 0; i < text.length; i++) {
      const code = text[i] === "%" ? StringPrototypeSlice(text, i + 1, i + 3) : "";
      if (code === "0A" || code === "0D" || code === "22") {
        out += code === "0A" ? "\n" : code === "0D" ? "\r" : '"';
        i += 2;
      } else {
        out += text[i];
      }
    }
    return out;
  }

  class Parameters {
    essence = "";
    names = [];
    values = [];
    get(name) {
      for (let i = 0; i < this.names.length; i++) if (this.names[i] === name) return this.values[i];
      return undefined;
    }
  }

  // `essence; name=value; name="quoted"`: names in lower case, the first of a name counts. With `unescape`, quoted
  // values are read as HTML writes them; without, a backslash quotes the next character (MIME Sniffing section 4).
  lib.parseParameters = (text, unescape) => {
    const result = new Parameters();
    let end = StringPrototypeIndexOf(text, ";");
    if (end === -1) end = text.length;
    result.essence = StringPrototypeToLowerCase(StringPrototypeTrim(StringPrototypeSlice(text, 0, end)));
    let at = end + 1;
    while (at < text.length) {
      while (at < text.length && (text[at] === " " || text[at] === "\t" || text[at] === ";")) at++;
      const start = at;
      while (at < text.length && text[at] !== ";" && text[at] !== "=") at++;
      const name = StringPrototypeToLowerCase(StringPrototypeTrim(StringPrototypeSlice(text, start, at)));
      if (at >= text.length || text[at] === ";") continue;
      at++;
      let value = "";
      if (text[at] === '"') {
        at++;
        while (at < text.length && text[at] !== '"') {
          if (text[at] === "\\" && unescape === undefined && at + 1 < text.length) at++;
          value += text[at++];
        }
        while (at < text.length && text[at] !== ";") at++;
        if (unescape !== undefined) value = unescape(value);
      } else {
        const from = at;
        while (at < text.length && text[at] !== ";") at++;
        value = StringPrototypeTrim(StringPrototypeSlice(text, from, at));
      }
      if (name !== "" && result.get(name) === undefined) {
        ArrayPrototypePush(result.names, name);
        ArrayPrototypePush(result.values, value);
      }
    }
    return result;
  };
})
