// node:querystring.
(function (ops, lib) {
  "use strict";

  function escape(value) {
    const text = typeof value === "string" ? value : typeof value === "object" ? String(value) : `${value}`;
    try {
      return encodeURIComponent(text);
    } catch {
      throw Object.assign(new URIError("URI malformed"), { code: "ERR_INVALID_URI" });
    }
  }

  function unescape(text) {
    try {
      return decodeURIComponent(text);
    } catch {
      // What is no UTF-8 becomes U+FFFD; what is no escape stays.
      const bytes = [];
      const source = ops.utf8Encode(text);
      for (let i = 0; i < source.length; i++) {
        const hex = source[i] === 37 ? String.fromCharCode(source[i + 1] ?? 0, source[i + 2] ?? 0) : "";
        if (/^[0-9a-fA-F]{2}$/.test(hex)) {
          bytes.push(parseInt(hex, 16));
          i += 2;
        } else {
          bytes.push(source[i]);
        }
      }
      return ops.utf8Decode(Uint8Array.from(bytes));
    }
  }

  const primitive = (value) =>
    typeof value === "string" ? value : (typeof value === "number" && Number.isFinite(value)) || typeof value === "bigint" || typeof value === "boolean" ? `${value}` : "";

  function stringify(object, separator = "&", equals = "=", options = undefined) {
    if (typeof object !== "object" || object === null) return "";
    const encode = typeof options?.encodeURIComponent === "function" ? options.encodeURIComponent : module.escape;
    const pairs = [];
    for (const [key, value] of Object.entries(object)) {
      for (const item of Array.isArray(value) ? value : [value]) pairs.push(`${encode(primitive(key))}${equals || "="}${encode(primitive(item))}`);
    }
    return pairs.join(separator || "&");
  }

  function parse(text, separator = "&", equals = "=", options = undefined) {
    const object = { __proto__: null };
    if (typeof text !== "string" || text === "") return object;
    const decode = typeof options?.decodeURIComponent === "function" ? options.decodeURIComponent : module.unescape;
    const most = typeof options?.maxKeys === "number" ? options.maxKeys : 1000;
    let pairs = text.split(separator || "&");
    if (most > 0 && pairs.length > most) pairs = pairs.slice(0, most);
    const decoded = (part) => {
      const spaced = part.replaceAll("+", " ");
      if (!spaced.includes("%")) return spaced;
      try {
        return decode(spaced);
      } catch {
        return unescape(spaced);
      }
    };
    for (const pair of pairs) {
      if (pair === "") continue;
      const at = pair.indexOf(equals || "=");
      const key = decoded(at === -1 ? pair : pair.slice(0, at));
      const value = at === -1 ? "" : decoded(pair.slice(at + (equals || "=").length));
      if (!(key in object)) object[key] = value;
      else if (Array.isArray(object[key])) object[key].push(value);
      else object[key] = [object[key], value];
    }
    return object;
  }

  const module = { stringify, encode: stringify, parse, decode: parse, escape, unescape, unescapeBuffer: (text) => ops.utf8Encode(unescape(String(text))) };
  lib.nodeModules["node:querystring"] = { ...module, default: module };
})
