// node:string_decoder.
(function (ops, lib) {
  "use strict";
  lib.loadNode("node:buffer");
  const { Buffer } = lib.nodeModules["node:buffer"];

  class StringDecoder {
    #decoder = undefined;
    #held = new Uint8Array(0);
    // Bytes that a character, or a group of base64, may be short of.
    #group;
    constructor(encoding = "utf8") {
      if (!Buffer.isEncoding(encoding)) throw Object.assign(new TypeError(`Unknown encoding: ${encoding}`), { code: "ERR_UNKNOWN_ENCODING" });
      const name = encoding.toLowerCase().replace("-", "");
      this.encoding = name === "binary" ? "latin1" : name === "ucs2" ? "utf16le" : name;
      this.#group = this.encoding.startsWith("base64") ? 3 : 1;
      if (this.encoding === "utf8") this.#decoder = new TextDecoder("utf-8", { ignoreBOM: true });
      if (this.encoding === "utf16le") this.#decoder = new TextDecoder("utf-16le", { ignoreBOM: true });
    }
    write(data) {
      if (typeof data === "string") return data;
      if (!ArrayBuffer.isView(data)) throw Object.assign(new TypeError('The "buf" argument must be an instance of Buffer, TypedArray, or DataView'), { code: "ERR_INVALID_ARG_TYPE" });
      if (this.#decoder !== undefined) return this.#decoder.decode(data, { stream: true });
      const all = Buffer.concat([this.#held, lib.bytesOf(data)]);
      const whole = all.length - all.length % this.#group;
      this.#held = Uint8Array.from(all.subarray(whole));
      return all.toString(this.encoding, 0, whole);
    }
    end(data = undefined) {
      let text = data === undefined ? "" : this.write(data);
      if (this.#decoder !== undefined) return text + this.#decoder.decode();
      text += Buffer.from(this.#held).toString(this.encoding);
      this.#held = new Uint8Array(0);
      return text;
    }
  }
  lib.nodeModules["node:string_decoder"] = { StringDecoder };
})
