// node:buffer: Buffer, a Uint8Array with the methods of Node's.
(function (ops, lib) {
  "use strict";

  const MAX_LENGTH = 2 ** 30;
  const invalidArg = (name, wanted, value) =>
    Object.assign(new TypeError(`The "${name}" argument must be ${wanted}. Received ${value === null ? "null" : typeof value}`), { code: "ERR_INVALID_ARG_TYPE" });
  const outOfRange = (name, wanted, value) =>
    Object.assign(new RangeError(`The value of "${name}" is out of range. It must be ${wanted}. Received ${String(value)}`), { code: "ERR_OUT_OF_RANGE" });

  function normalEncoding(encoding) {
    if (encoding === undefined || encoding === null || encoding === "") return "utf8";
    switch (String(encoding).toLowerCase()) {
      case "utf8":
      case "utf-8":
        return "utf8";
      case "hex":
        return "hex";
      case "base64":
        return "base64";
      case "base64url":
        return "base64url";
      case "ascii":
        return "ascii";
      case "latin1":
      case "binary":
        return "latin1";
      case "ucs2":
      case "ucs-2":
      case "utf16le":
      case "utf-16le":
        return "utf16le";
      default:
        return undefined;
    }
  }
  function checkedEncoding(encoding) {
    const normal = normalEncoding(encoding);
    if (normal === undefined) throw Object.assign(new TypeError(`Unknown encoding: ${encoding}`), { code: "ERR_UNKNOWN_ENCODING" });
    return normal;
  }

  function latin1Bytes(text) {
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return bytes;
  }

  const hexDigit = (code) => code >= 48 && code <= 57 ? code - 48 : code >= 97 && code <= 102 ? code - 87 : code >= 65 && code <= 70 ? code - 55 : -1;

  // Node's base64: both alphabets, ends at the first "=", skips what is in neither.
  function base64Bytes(text) {
    const end = text.indexOf("=");
    let kept = "";
    for (const part of (end === -1 ? text : text.slice(0, end)).match(/[A-Za-z0-9+/_-]+/g) ?? []) kept += part;
    kept = kept.replaceAll("-", "+").replaceAll("_", "/");
    if (kept.length % 4 === 1) kept = kept.slice(0, -1);
    return latin1Bytes(ops.base64Decode(kept) ?? "");
  }

  function encode(text, encoding) {
    switch (encoding) {
      case "utf8":
        return ops.utf8Encode(text);
      case "ascii":
      case "latin1":
        return latin1Bytes(text);
      case "base64":
      case "base64url":
        return base64Bytes(text);
      case "hex": {
        const bytes = new Uint8Array(text.length >>> 1);
        for (let i = 0; i < bytes.length; i++) {
          const high = hexDigit(text.charCodeAt(2 * i));
          const low = hexDigit(text.charCodeAt(2 * i + 1));
          if (high < 0 || low < 0) return bytes.subarray(0, i);
          bytes[i] = high * 16 + low;
        }
        return bytes;
      }
      default: {
        const bytes = new Uint8Array(text.length * 2);
        for (let i = 0; i < text.length; i++) {
          const unit = text.charCodeAt(i);
          bytes[2 * i] = unit & 255;
          bytes[2 * i + 1] = unit >>> 8;
        }
        return bytes;
      }
    }
  }

  const CHUNK = 8192;
  function fromCodes(bytes, mask) {
    let text = "";
    for (let i = 0; i < bytes.length; i += CHUNK) {
      const part = bytes.subarray(i, i + CHUNK);
      text += String.fromCharCode.apply(null, mask === 255 ? part : part.map((byte) => byte & mask));
    }
    return text;
  }
  const HEX = Array.from({ length: 256 }, (_, byte) => (byte < 16 ? "0" : "") + byte.toString(16));

  function decode(bytes, encoding) {
    switch (encoding) {
      case "utf8":
        return ops.utf8Decode(bytes);
      case "ascii":
        return fromCodes(bytes, 127);
      case "latin1":
        return fromCodes(bytes, 255);
      case "base64":
        return ops.base64Encode(fromCodes(bytes, 255));
      case "base64url":
        return ops.base64Encode(fromCodes(bytes, 255)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
      case "hex": {
        let text = "";
        for (let i = 0; i < bytes.length; i++) text += HEX[bytes[i]];
        return text;
      }
      default: {
        let text = "";
        for (let i = 0; i + 1 < bytes.length; i += 2) text += String.fromCharCode(bytes[i] | bytes[i + 1] << 8);
        return text;
      }
    }
  }

  // A Uint8Array's memory as a Buffer.
  const wrap = (bytes) => Object.setPrototypeOf(bytes, Buffer.prototype);
  const plain = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

  function checkSize(size) {
    if (typeof size !== "number") throw invalidArg("size", "of type number", size);
    if (!(size >= 0 && size <= MAX_LENGTH)) throw outOfRange("size", `>= 0 && <= ${MAX_LENGTH}`, size);
  }

  function Buffer(value, encodingOrOffset, length) {
    if (typeof value === "number") return Buffer.alloc(value);
    return Buffer.from(value, encodingOrOffset, length);
  }
  Object.setPrototypeOf(Buffer, Uint8Array);
  Object.setPrototypeOf(Buffer.prototype, Uint8Array.prototype);

  Object.assign(Buffer, {
    poolSize: 8192,
    from(value, encodingOrOffset, length) {
      if (typeof value === "string") return wrap(encode(value, checkedEncoding(encodingOrOffset)));
      if (typeof value === "object" && value !== null) {
        if (value instanceof ArrayBuffer) return wrap(new Uint8Array(value, encodingOrOffset, length));
        if (ArrayBuffer.isView(value)) return wrap(Uint8Array.from(value));
        const inner = value.valueOf?.();
        if (inner !== null && inner !== undefined && inner !== value && (typeof inner === "object" || typeof inner === "string")) return Buffer.from(inner, encodingOrOffset, length);
        if (value.type === "Buffer" && Array.isArray(value.data)) return wrap(Uint8Array.from(value.data));
        if (typeof value.length === "number" || typeof value[Symbol.iterator] === "function") return wrap(Uint8Array.from(value));
        if (typeof value[Symbol.toPrimitive] === "function") return Buffer.from(value[Symbol.toPrimitive]("string"), encodingOrOffset);
      }
      throw invalidArg("value", "of type string or an instance of Buffer, ArrayBuffer, or Array or an Array-like Object", value);
    },
    alloc(size, fill = undefined, encoding = undefined) {
      checkSize(size);
      const made = wrap(new Uint8Array(size));
      return fill === undefined || fill === 0 || size === 0 ? made : made.fill(fill, encoding);
    },
    allocUnsafe: (size) => Buffer.alloc(size),
    allocUnsafeSlow: (size) => Buffer.alloc(size),
    isBuffer: (value) => value instanceof Buffer,
    isEncoding: (encoding) => typeof encoding === "string" && encoding !== "" && normalEncoding(encoding) !== undefined,
    byteLength(value, encoding = undefined) {
      if (typeof value !== "string") {
        if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return value.byteLength;
        throw invalidArg("string", "of type string or an instance of Buffer or ArrayBuffer", value);
      }
      // Of hex and base64 it is what the text's length promises.
      const normal = normalEncoding(encoding) ?? "utf8";
      if (normal === "hex") return value.length >>> 1;
      if (normal === "base64" || normal === "base64url") return ((value.length - /={0,2}$/.exec(value)[0].length) * 3) >>> 2;
      return encode(value, normal).length;
    },
    compare(a, b) {
      if (!(a instanceof Uint8Array)) throw invalidArg("buf1", "an instance of Buffer or Uint8Array", a);
      if (!(b instanceof Uint8Array)) throw invalidArg("buf2", "an instance of Buffer or Uint8Array", b);
      const shorter = Math.min(a.length, b.length);
      for (let i = 0; i < shorter; i++) if (a[i] !== b[i]) return a[i] < b[i] ? -1 : 1;
      return a.length === b.length ? 0 : a.length < b.length ? -1 : 1;
    },
    concat(list, total = undefined) {
      if (!Array.isArray(list)) throw invalidArg("list", "an instance of Array", list);
      for (const part of list) if (!(part instanceof Uint8Array)) throw invalidArg("list", "an Array of Buffers or Uint8Arrays", part);
      const length = total ?? list.reduce((sum, part) => sum + part.length, 0);
      const made = Buffer.alloc(length);
      let at = 0;
      for (const part of list) {
        if (at >= length) break;
        made.set(at + part.length > length ? part.subarray(0, length - at) : part, at);
        at += part.length;
      }
      return made;
    },
    copyBytesFrom: (view, offset = 0, length = view.length - offset) => Buffer.from(plain(view.slice(offset, offset + length))),
    of: (...items) => Buffer.from(items),
  });

  const clampIndex = (value, fallback, length) => {
    if (value === undefined) return fallback;
    const at = Math.trunc(Number(value)) || 0;
    return at < 0 ? Math.max(length + at, 0) : Math.min(at, length);
  };

  // A number, string or bytes to be looked for or filled with.
  function needle(value, encoding) {
    if (typeof value === "string") return encode(value, checkedEncoding(encoding));
    if (typeof value === "number") return new Uint8Array([value & 255]);
    if (value instanceof Uint8Array) return value;
    throw invalidArg("value", "one of type number or string or an instance of Buffer or Uint8Array", value);
  }

  const methods = {
    toString(encoding = undefined, start = 0, end = this.length) {
      const from = Math.max(0, Math.trunc(start) || 0);
      const to = Math.min(this.length, end === undefined ? this.length : Math.trunc(end) || 0);
      return to <= from ? "" : decode(plain(this).subarray(from, to), checkedEncoding(encoding));
    },
    toJSON() {
      return { type: "Buffer", data: Array.from(this) };
    },
    equals(other) {
      if (!(other instanceof Uint8Array)) throw invalidArg("otherBuffer", "an instance of Buffer or Uint8Array", other);
      return Buffer.compare(this, other) === 0;
    },
    compare(target, targetStart = 0, targetEnd = target.length, start = 0, end = this.length) {
      return Buffer.compare(plain(this).subarray(start, end), target.subarray(targetStart, targetEnd));
    },
    subarray(start, end) {
      return wrap(plain(this).subarray(start, end));
    },
    slice(start, end) {
      return this.subarray(start, end);
    },
    copy(target, targetStart = 0, start = 0, end = this.length) {
      const part = plain(this).subarray(start, Math.min(end, start + Math.max(0, target.length - targetStart)));
      target.set(part, targetStart);
      return part.length;
    },
    write(text, offset = undefined, length = undefined, encoding = undefined) {
      if (typeof text !== "string") throw invalidArg("string", "of type string", text);
      if (typeof offset === "string") [encoding, offset, length] = [offset, undefined, undefined];
      else if (typeof length === "string") [encoding, length] = [length, undefined];
      const from = offset ?? 0;
      if (from < 0 || from > this.length) throw outOfRange("offset", `>= 0 && <= ${this.length}`, from);
      const normal = checkedEncoding(encoding);
      if (length !== undefined && (length < 0 || length > this.length)) throw outOfRange("length", `>= 0 && <= ${this.length}`, length);
      const room = Math.min(length ?? this.length, this.length - from);
      let bytes = encode(text, normal);
      if (bytes.length > room) {
        let end = room;
        // Characters are written whole.
        if (normal === "utf8") while (end > 0 && (bytes[end] & 0xc0) === 0x80) end--;
        else if (normal === "utf16le") end -= end % 2;
        bytes = bytes.subarray(0, end);
      }
      this.set(bytes, from);
      return bytes.length;
    },
    fill(value, start = undefined, end = undefined, encoding = undefined) {
      if (typeof start === "string") [encoding, start, end] = [start, undefined, undefined];
      else if (typeof end === "string") [encoding, end] = [end, undefined];
      const from = start ?? 0;
      const to = end ?? this.length;
      if (from < 0 || from > this.length) throw outOfRange("offset", `>= 0 && <= ${this.length}`, from);
      if (to < 0 || to > this.length) throw outOfRange("end", `>= 0 && <= ${this.length}`, to);
      const bytes = needle(typeof value === "boolean" ? Number(value) : value, encoding);
      if (bytes.length === 0) {
        if (typeof value !== "string" || value === "") Uint8Array.prototype.fill.call(this, 0, from, to);
        else throw Object.assign(new TypeError(`The argument 'value' is invalid. Received '${value}'`), { code: "ERR_INVALID_ARG_VALUE" });
      } else if (bytes.length === 1) {
        Uint8Array.prototype.fill.call(this, bytes[0], from, to);
      } else {
        for (let i = from; i < to; i++) this[i] = bytes[(i - from) % bytes.length];
      }
      return this;
    },
    indexOf(value, offset = undefined, encoding = undefined) {
      if (typeof offset === "string") [encoding, offset] = [offset, undefined];
      const wanted = needle(value, encoding);
      const from = clampIndex(offset, 0, this.length);
      if (wanted.length === 0) return Math.min(from, this.length);
      for (let i = from; i + wanted.length <= this.length; i++) {
        i = Uint8Array.prototype.indexOf.call(this, wanted[0], i);
        if (i === -1 || i + wanted.length > this.length) return -1;
        let j = 1;
        while (j < wanted.length && this[i + j] === wanted[j]) j++;
        if (j === wanted.length) return i;
      }
      return -1;
    },
    lastIndexOf(value, offset = undefined, encoding = undefined) {
      if (typeof offset === "string") [encoding, offset] = [offset, undefined];
      const wanted = needle(value, encoding);
      for (let i = Math.min(clampIndex(offset, this.length, this.length), this.length - wanted.length); i >= 0; i--) {
        let j = 0;
        while (j < wanted.length && this[i + j] === wanted[j]) j++;
        if (j === wanted.length) return i;
      }
      return -1;
    },
    includes(value, offset = undefined, encoding = undefined) {
      return this.indexOf(value, offset, encoding) !== -1;
    },
    swap16() {
      return swap(this, 2);
    },
    swap32() {
      return swap(this, 4);
    },
    swap64() {
      return swap(this, 8);
    },
  };

  function swap(buffer, size) {
    if (buffer.length % size !== 0) throw Object.assign(new RangeError(`Buffer size must be a multiple of ${size * 8}-bits`), { code: "ERR_INVALID_BUFFER_SIZE" });
    for (let i = 0; i < buffer.length; i += size) plain(buffer).subarray(i, i + size).reverse();
    return buffer;
  }

  // Numbers of fixed size: a DataView has them all. [name, bytes, lowest, highest]
  const NUMBERS = [
    ["Int8", 1, -128, 127], ["Uint8", 1, 0, 255], ["Int16", 2, -32768, 32767], ["Uint16", 2, 0, 65535], ["Int32", 4, -2147483648, 2147483647],
    ["Uint32", 4, 0, 4294967295], ["BigInt64", 8, -(2n ** 63n), 2n ** 63n - 1n], ["BigUint64", 8, 0n, 2n ** 64n - 1n], ["Float32", 4], ["Float64", 8],
  ];
  const viewOf = (buffer) => new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  function checkOffset(buffer, offset, size) {
    if (typeof offset !== "number") throw invalidArg("offset", "of type number", offset);
    if (!Number.isInteger(offset)) throw outOfRange("offset", "an integer", offset);
    if (buffer.length < size) throw Object.assign(new RangeError("Attempt to access memory outside buffer bounds"), { code: "ERR_BUFFER_OUT_OF_BOUNDS" });
    if (offset < 0 || offset + size > buffer.length) throw outOfRange("offset", `>= 0 and <= ${buffer.length - size}`, offset);
  }
  function checkValue(value, low, high) {
    if (low !== undefined && (value < low || value > high)) throw outOfRange("value", `>= ${low} and <= ${high}`, value);
  }
  for (const [type, size, low, high] of NUMBERS) {
    const name = type.replace("Float32", "Float").replace("Float64", "Double");
    for (const [suffix, little] of size === 1 ? [["", true]] : [["LE", true], ["BE", false]]) {
      const read = function (offset = 0) {
        checkOffset(this, offset, size);
        return viewOf(this)[`get${type}`](offset, little);
      };
      const write = function (value, offset = 0) {
        checkValue(value, low, high);
        checkOffset(this, offset, size);
        viewOf(this)[`set${type}`](offset, value, little);
        return offset + size;
      };
      methods[`read${name}${suffix}`] = read;
      methods[`write${name}${suffix}`] = write;
      if (name.includes("Uint")) {
        methods[`read${name.replace("Uint", "UInt")}${suffix}`] = read;
        methods[`write${name.replace("Uint", "UInt")}${suffix}`] = write;
      }
    }
  }
  // Of one to six bytes.
  function readBytes(buffer, offset, size, little, signed) {
    if (!(size >= 1 && size <= 6)) throw outOfRange("byteLength", ">= 1 and <= 6", size);
    checkOffset(buffer, offset, size);
    let value = 0;
    for (let i = 0; i < size; i++) value = value * 256 + buffer[little ? offset + size - 1 - i : offset + i];
    return signed && value >= 2 ** (8 * size - 1) ? value - 2 ** (8 * size) : value;
  }
  function writeBytes(buffer, value, offset, size, little, signed) {
    if (!(size >= 1 && size <= 6)) throw outOfRange("byteLength", ">= 1 and <= 6", size);
    checkValue(value, signed ? -(2 ** (8 * size - 1)) : 0, signed ? 2 ** (8 * size - 1) - 1 : 2 ** (8 * size) - 1);
    checkOffset(buffer, offset, size);
    let rest = value < 0 ? value + 2 ** (8 * size) : value;
    for (let i = 0; i < size; i++) {
      buffer[little ? offset + i : offset + size - 1 - i] = rest % 256;
      rest = Math.floor(rest / 256);
    }
    return offset + size;
  }
  for (const [suffix, little] of [["LE", true], ["BE", false]]) {
    for (const name of ["UInt", "Uint", "Int"]) {
      methods[`read${name}${suffix}`] = function (offset, size) {
        return readBytes(this, offset, size, little, name === "Int");
      };
      methods[`write${name}${suffix}`] = function (value, offset, size) {
        return writeBytes(this, value, offset, size, little, name === "Int");
      };
    }
  }
  for (const [name, value] of Object.entries(methods)) Object.defineProperty(Buffer.prototype, name, { value, writable: true, configurable: true });
  Object.defineProperty(Buffer.prototype, "toLocaleString", { value: methods.toString, writable: true, configurable: true });
  Object.defineProperty(Buffer.prototype, "parent", { get() { return this.buffer; }, configurable: true });
  Object.defineProperty(Buffer.prototype, "offset", { get() { return this.byteOffset; }, configurable: true });

  lib.nodeEncode = (text, encoding) => encode(text, checkedEncoding(encoding));
  lib.nodeModules["node:buffer"] = {
    Buffer,
    SlowBuffer: Buffer,
    Blob: lib.Blob,
    File: lib.File,
    atob: globalThis.atob,
    btoa: globalThis.btoa,
    constants: { MAX_LENGTH, MAX_STRING_LENGTH: 2 ** 29 - 24 },
    kMaxLength: MAX_LENGTH,
    kStringMaxLength: 2 ** 29 - 24,
    INSPECT_MAX_BYTES: 50,
    isAscii: (view) => lib.bytesOf(view).every((byte) => byte < 128),
    isUtf8: (view) => ops.decode("utf-8", lib.bytesOf(view), true, true) !== null,
    transcode: (source, from, to) => Buffer.from(Buffer.from(source).toString(from), to),
  };
})
