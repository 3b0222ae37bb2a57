// MIME types (MIME Sniffing sections 4.4 and 4.5; Fetch section 3.6) and `data:` URLs (Fetch section 6). A rare file.
(function (ops, lib) {
  "use strict";
  const {
    ArrayPrototypePush, StringPrototypeCharCodeAt, StringPrototypeIndexOf, StringPrototypeLastIndexOf, StringPrototypeSlice, StringPrototypeToLowerCase,
    TypeError, TypedArrayPrototypeSubarray, Uint8Array,
  } = lib.p;

  const isSpace = (c) => c === " " || c === "\t" || c === "\n" || c === "\r";

  function trimmed(text, from, to) {
    while (from < to && isSpace(text[from])) from++;
    while (to > from && isSpace(text[to - 1])) to--;
    return StringPrototypeSlice(text, from, to);
  }

  // What may be in a parameter's value, quoted or not.
  function isValue(text) {
    for (let i = 0; i < text.length; i++) {
      const code = StringPrototypeCharCodeAt(text, i);
      if (code !== 9 && (code < 32 || code === 127 || code > 255)) return false;
    }
    return true;
  }

  // The place of a character from `at` on, or the end.
  function find(text, c, at) {
    const found = StringPrototypeIndexOf(text, c, at);
    return found === -1 ? text.length : found;
  }

  // `{ essence, names, values }`, or undefined.
  function parse(input) {
    const text = trimmed(input, 0, input.length);
    const slash = find(text, "/", 0);
    const end = find(text, ";", 0);
    const type = StringPrototypeSlice(text, 0, slash);
    let last = end;
    while (last > slash && isSpace(text[last - 1])) last--;
    const subtype = StringPrototypeSlice(text, slash + 1, last);
    if (slash >= end || !lib.isToken(type) || !lib.isToken(subtype)) return undefined;
    const parsed = { __proto__: null, essence: StringPrototypeToLowerCase(`${type}/${subtype}`), names: [], values: [] };
    let at = end;
    while (at < text.length) {
      at++;
      while (at < text.length && isSpace(text[at])) at++;
      const start = at;
      while (at < text.length && text[at] !== ";" && text[at] !== "=") at++;
      const name = StringPrototypeToLowerCase(StringPrototypeSlice(text, start, at));
      if (at >= text.length) break;
      if (text[at] === ";") continue;
      at++;
      let value = "";
      if (text[at] === '"') {
        at++;
        while (at < text.length && text[at] !== '"') {
          if (text[at] === "\\" && at + 1 < text.length) at++;
          value += text[at++];
        }
        at = find(text, ";", at);
      } else {
        const from = at;
        at = find(text, ";", at);
        let to = at;
        while (to > from && isSpace(text[to - 1])) to--;
        value = StringPrototypeSlice(text, from, to);
        if (value === "") continue;
      }
      if (lib.isToken(name) && isValue(value) && valueOf(parsed, name) === undefined) {
        ArrayPrototypePush(parsed.names, name);
        ArrayPrototypePush(parsed.values, value);
      }
    }
    return parsed;
  }

  function valueOf(parsed, name) {
    for (let i = 0; i < parsed.names.length; i++) if (parsed.names[i] === name) return parsed.values[i];
    return undefined;
  }

  function serialize(parsed) {
    let text = parsed.essence;
    for (let i = 0; i < parsed.names.length; i++) {
      const value = parsed.values[i];
      text += `;${parsed.names[i]}=${lib.isToken(value) ? value : quoted(value)}`;
    }
    return text;
  }

  function quoted(value) {
    let text = '"';
    for (let i = 0; i < value.length; i++) text += value[i] === '"' || value[i] === "\\" ? `\\${value[i]}` : value[i];
    return `${text}"`;
  }

  // "Get, decode, and split": at commas that are in no quoted string.
  function split(text) {
    const parts = [];
    let start = 0;
    let at = 0;
    while (at <= text.length) {
      if (at === text.length || text[at] === ",") {
        ArrayPrototypePush(parts, trimmed(text, start, at));
        start = ++at;
      } else if (text[at] === '"') {
        at++;
        while (at < text.length && text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
        if (at < text.length) at++;
        else at = text.length;
      } else {
        at++;
      }
    }
    return parts;
  }

  // A message's MIME type as text, "" if it has none that is valid.
  lib.mimeTypeOf = (list) => {
    const text = lib.headerListGet(list, "content-type");
    if (text === null) return "";
    const parts = split(text);
    let charset;
    let found;
    for (let i = 0; i < parts.length; i++) {
      const parsed = parse(parts[i]);
      if (parsed === undefined || parsed.essence === "*/*") continue;
      const own = valueOf(parsed, "charset");
      if (found === undefined || parsed.essence !== found.essence) {
        charset = own;
      } else if (own === undefined && charset !== undefined) {
        ArrayPrototypePush(parsed.names, "charset");
        ArrayPrototypePush(parsed.values, charset);
      }
      found = parsed;
    }
    return found === undefined ? "" : serialize(found);
  };

  function hexValue(code) {
    if (code >= 48 && code <= 57) return code - 48;
    if (code >= 65 && code <= 70) return code - 55;
    if (code >= 97 && code <= 102) return code - 87;
    return -1;
  }

  // The bytes of a URL's text, which is ASCII.
  function percentDecoded(text) {
    const bytes = new Uint8Array(text.length);
    let count = 0;
    for (let i = 0; i < text.length; i++) {
      let code = StringPrototypeCharCodeAt(text, i);
      if (code === 37 && i + 2 < text.length) {
        const high = hexValue(StringPrototypeCharCodeAt(text, i + 1));
        const low = hexValue(StringPrototypeCharCodeAt(text, i + 2));
        if (high >= 0 && low >= 0) {
          code = high * 16 + low;
          i += 2;
        }
      }
      bytes[count++] = code;
    }
    return TypedArrayPrototypeSubarray(bytes, 0, count);
  }

  function ofLatin1(text) {
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = StringPrototypeCharCodeAt(text, i);
    return bytes;
  }

  // The response that a `data:` URL, without its fragment, is.
  lib.responseOfData = (url, method) => {
    const comma = StringPrototypeIndexOf(url, ",");
    if (comma === -1) throw new TypeError("Fetch API cannot load a data URL without a comma");
    let type = trimmed(url, "data:".length, comma);
    let bytes = percentDecoded(StringPrototypeSlice(url, comma + 1));
    const semicolon = StringPrototypeLastIndexOf(type, ";");
    if (semicolon !== -1 && StringPrototypeToLowerCase(trimmed(type, semicolon + 1, type.length)) === "base64") {
      // Each byte is a character of the text that is decoded.
      let text = "";
      for (let i = 0; i < bytes.length; i++) text += lib.p.StringFromCharCode(bytes[i]);
      const decoded = ops.base64Decode(text);
      if (decoded === null || decoded === undefined) throw new TypeError("Fetch API cannot load a data URL that is not base64");
      bytes = ofLatin1(decoded);
      type = trimmed(type, 0, semicolon);
    }
    const parsed = parse(type[0] === ";" ? `text/plain${type}` : type);
    const list = ["content-type", parsed === undefined ? "text/plain;charset=US-ASCII" : serialize(parsed)];
    const body = method === "HEAD" ? null : lib.bodyOfBytes(bytes);
    return lib.responseFromNative(200, "OK", list, body, url, false);
  };
})
