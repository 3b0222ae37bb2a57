// Encoding: TextEncoder, TextDecoder, their streams, atob and btoa (WHATWG Encoding; HTML section 8.3).
//
// Owns no tables: every encoding is `encoding_rs`'s, behind the ops `encodingForLabel`, `decode`, `decoderNew` and
// `decoderPush`; UTF-8 without state is the core's `utf8Decode` and `utf8Encode`.
(function (ops, lib) {
  "use strict";
  const { RangeError, StringPrototypeCharCodeAt, StringPrototypeSlice, TypeError, TypedArrayPrototypeGetByteLength, TypedArrayPrototypeSubarray, Uint8Array } = lib.p;
  const { defineInterface, dictionary, domString, requireArgs } = lib;

  class TextEncoder {
    // Has no state; the field is the brand.
    #brand = undefined;
    get encoding() {
      this.#brand;
      return "utf-8";
    }
    encode(input = "") {
      this.#brand;
      return ops.utf8Encode(domString(input));
    }
    encodeInto(source, destination) {
      this.#brand;
      requireArgs(arguments.length, 2, "encodeInto");
      const text = domString(source);
      if (!lib.isUint8Array(destination)) throw new TypeError("encodeInto: the destination is not a Uint8Array");
      const room = TypedArrayPrototypeGetByteLength(destination);
      // Enough for every case: a code unit is at most 3 bytes, so `room` bytes never hold more than `room` units.
      const bytes = ops.utf8Encode(text.length > room ? StringPrototypeSlice(text, 0, unitsWithin(text, room)) : text);
      const written = wholeCharacters(bytes, room);
      lib.p.TypedArrayPrototypeSet(destination, TypedArrayPrototypeSubarray(bytes, 0, written));
      return { read: written === TypedArrayPrototypeGetByteLength(bytes) && text.length <= room ? text.length : unitsOf(bytes, written), written };
    }
  }
  defineInterface(TextEncoder, "TextEncoder");

  // `count` code units, or one less where that would split a surrogate pair.
  function unitsWithin(text, count) {
    return isHigh(text, count - 1) && isLow(text, count) ? count - 1 : count;
  }
  function isHigh(text, at) {
    return at >= 0 && (StringPrototypeCharCodeAt(text, at) & 0xfc00) === 0xd800;
  }
  function isLow(text, at) {
    return at < text.length && (StringPrototypeCharCodeAt(text, at) & 0xfc00) === 0xdc00;
  }
  // The longest prefix of whole UTF-8 sequences within `room` bytes.
  function wholeCharacters(bytes, room) {
    const length = TypedArrayPrototypeGetByteLength(bytes);
    if (length <= room) return length;
    let end = room;
    while (end > 0 && (bytes[end] & 0xc0) === 0x80) end--;
    return end;
  }
  // UTF-16 code units of `end` bytes of valid UTF-8.
  function unitsOf(bytes, end) {
    let units = 0;
    for (let i = 0; i < end; i++) {
      const byte = bytes[i];
      if ((byte & 0xc0) !== 0x80) units += byte >= 0xf0 ? 2 : 1;
    }
    return units;
  }

  const EMPTY = new Uint8Array(0);
  function inputBytes(input) {
    if (input === undefined) return EMPTY;
    if (!lib.isBufferSource(input)) throw new TypeError("The input is neither an ArrayBuffer nor a view of one");
    return lib.bytesOf(input);
  }

  function labelOf(label) {
    const name = ops.encodingForLabel(domString(label));
    if (name === null || name === undefined) throw new RangeError(`"${label}" is not the label of an encoding`);
    return name;
  }

  class TextDecoder {
    #name;
    #fatal;
    #ignoreBOM;
    // The native decoder of a stream that is not finished.
    #decoder = undefined;

    constructor(label = "utf-8", options = undefined) {
      this.#name = label === "utf-8" ? "utf-8" : labelOf(label);
      const { fatal, ignoreBOM } = dictionary(options, "The decoder's options");
      this.#fatal = !!fatal;
      this.#ignoreBOM = !!ignoreBOM;
    }
    get encoding() {
      return this.#name;
    }
    get fatal() {
      return this.#fatal;
    }
    get ignoreBOM() {
      return this.#ignoreBOM;
    }
    decode(input = undefined, options = undefined) {
      const name = this.#name;
      const bytes = inputBytes(input);
      const stream = !!dictionary(options, "decode's options").stream;
      if (this.#decoder === undefined && !stream) {
        if (name === "utf-8" && !this.#fatal) return lib.utf8Decode(bytes, this.#ignoreBOM);
        const text = ops.decode(name, bytes, this.#fatal, this.#ignoreBOM);
        if (text === null || text === undefined) throw invalidData(name);
        return text;
      }
      const decoder = this.#decoder ??= ops.decoderNew(name, this.#fatal, this.#ignoreBOM);
      const text = ops.decoderPush(decoder, bytes, !stream);
      if (!stream || text === null || text === undefined) this.#decoder = undefined;
      if (text === null || text === undefined) throw invalidData(name);
      return text;
    }
  }
  defineInterface(TextDecoder, "TextDecoder");

  const invalidData = (name) => new TypeError(`The data is not valid ${name}`);

  // UTF-8 decode (Encoding section 6): lossy; a byte order mark goes unless `keepMark`.
  lib.utf8Decode = (bytes, keepMark = false) => {
    const marked = !keepMark && bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf;
    return ops.utf8Decode(marked ? TypedArrayPrototypeSubarray(bytes, 3) : bytes);
  };

  class TextEncoderStream {
    #pair;
    constructor() {
      // A high surrogate at the end of a chunk waits for the next one.
      let high = "";
      this.#pair = lib.newTransform(
        (chunk, enqueue) => {
          let text = high + domString(chunk);
          high = "";
          if (isHigh(text, text.length - 1)) {
            high = text[text.length - 1];
            text = StringPrototypeSlice(text, 0, text.length - 1);
          }
          if (text.length > 0) enqueue(ops.utf8Encode(text));
        },
        (enqueue) => {
          if (high !== "") enqueue(new Uint8Array([0xef, 0xbf, 0xbd]));
        },
      );
    }
    get encoding() {
      this.#pair;
      return "utf-8";
    }
    get readable() {
      return this.#pair.readable;
    }
    get writable() {
      return this.#pair.writable;
    }
  }
  defineInterface(TextEncoderStream, "TextEncoderStream");

  class TextDecoderStream {
    #name;
    #fatal;
    #ignoreBOM;
    #pair;
    constructor(label = "utf-8", options = undefined) {
      this.#name = labelOf(label);
      const { fatal, ignoreBOM } = dictionary(options, "The decoder's options");
      this.#fatal = !!fatal;
      this.#ignoreBOM = !!ignoreBOM;
      const decoder = ops.decoderNew(this.#name, this.#fatal, this.#ignoreBOM);
      const step = (bytes, last, enqueue) => {
        const text = ops.decoderPush(decoder, bytes, last);
        if (text === null || text === undefined) throw invalidData(this.#name);
        if (text !== "") enqueue(text);
      };
      this.#pair = lib.newTransform(
        (chunk, enqueue) => {
          if (!lib.isBufferSource(chunk)) throw new TypeError("The chunk is neither an ArrayBuffer nor a view of one");
          step(lib.bytesOf(chunk), false, enqueue);
        },
        (enqueue) => step(EMPTY, true, enqueue),
      );
    }
    get encoding() {
      return this.#name;
    }
    get fatal() {
      return this.#fatal;
    }
    get ignoreBOM() {
      return this.#ignoreBOM;
    }
    get readable() {
      return this.#pair.readable;
    }
    get writable() {
      return this.#pair.writable;
    }
  }
  defineInterface(TextDecoderStream, "TextDecoderStream");

  lib.defineGlobal("atob", { atob(data) {
    requireArgs(arguments.length, 1, "atob");
    const text = ops.base64Decode(domString(data));
    if (text === null || text === undefined) {
      throw new lib.DOMException("The string to be decoded is not correctly encoded base64", "InvalidCharacterError");
    }
    return text;
  } }.atob);
  lib.defineGlobal("btoa", { btoa(data) {
    requireArgs(arguments.length, 1, "btoa");
    const text = domString(data);
    for (let i = 0; i < text.length; i++) {
      if (StringPrototypeCharCodeAt(text, i) > 255) {
        throw new lib.DOMException("The string to be encoded has a character above U+00FF", "InvalidCharacterError");
      }
    }
    return ops.base64Encode(text);
  } }.btoa);
})
