// Bodies and the body mixin of Request and Response (Fetch section 5.2, section 5.3).
//
// Owns `lib.Body`: a body that stays what it was given as (text, bytes, a native body not yet opened) until somebody
// asks for its stream. Reading such a body whole never makes a stream.
(function (ops, lib) {
  "use strict";
  const {
    JSONParse, ObjectDefineProperty, PromiseReject, PromiseResolve, ReflectOwnKeys, ObjectGetOwnPropertyDescriptor,
    TypeError, TypedArrayPrototypeGetByteLength, Uint8Array,
  } = lib.p;
  const { rs } = lib;

  // Kinds of a body's value.
  const TEXT = 0; // a string, to be encoded as UTF-8
  const BYTES = 1; // a Uint8Array that nobody else changes
  const STREAM = 2; // a ReadableStream
  const REQUEST_BYTES = 3; // the id of a request whose body is all here
  const REQUEST_STREAM = 4; // the id of a request whose body comes in chunks
  const EMPTY = new Uint8Array(0);

  class Body {
    kind;
    value;
    stream = undefined;
    used = false;
    // The bytes belong to somebody else too (a Blob, a clone): give out copies.
    shared;
    constructor(kind, value, shared = false) {
      this.kind = kind;
      this.value = value;
      this.shared = shared;
      if (kind === STREAM) this.stream = value;
    }
  }
  lib.Body = Body;
  lib.bodyOfBytes = (bytes) => new Body(BYTES, bytes);
  lib.bodyOfStream = (stream) => new Body(STREAM, stream);
  lib.bodyOfRequest = (rid, kind) => new Body(kind === 1 ? REQUEST_BYTES : REQUEST_STREAM, rid);

  // What a BodyInit becomes; `type` is the content type it implies, or null. The pair is reused: read it at once.
  const extracted = { __proto__: null, body: null, type: null };
  lib.extractBody = (value) => {
    extracted.type = null;
    if (typeof value === "string") {
      extracted.body = new Body(TEXT, value);
      extracted.type = "text/plain;charset=UTF-8";
    } else if (!lib.isObject(value)) {
      extracted.body = new Body(TEXT, lib.usvString(value));
      extracted.type = "text/plain;charset=UTF-8";
    } else if (lib.isReadableStream(value)) {
      const stream = rs.stateOf(value);
      if (stream.disturbed || rs.isLocked(stream)) throw new TypeError("The stream of a body is disturbed or locked");
      extracted.body = new Body(STREAM, value);
    } else if (lib.isBufferSource(value)) {
      extracted.body = new Body(BYTES, lib.copyBytes(value));
    } else if (lib.isBlob(value)) {
      extracted.body = new Body(BYTES, lib.blobBytes(value), true);
      if (lib.blobType(value) !== "") extracted.type = lib.blobType(value);
    } else if (lib.isURLSearchParams(value)) {
      extracted.body = new Body(TEXT, lib.serializeForm(lib.paramsList(value)));
      extracted.type = "application/x-www-form-urlencoded;charset=UTF-8";
    } else if (lib.isFormData(value)) {
      const encoded = lib.encodeMultipart(value);
      extracted.body = new Body(BYTES, encoded.bytes);
      extracted.type = encoded.contentType;
    } else {
      extracted.body = new Body(TEXT, lib.usvString(value));
      extracted.type = "text/plain;charset=UTF-8";
    }
    return extracted;
  };

  const isUsed = (body) => body.used || (body.stream !== undefined && rs.stateOf(body.stream).disturbed);
  const isUnusable = (body) => body.used || (body.stream !== undefined && (rs.stateOf(body.stream).disturbed || rs.isLocked(rs.stateOf(body.stream))));
  lib.bodyUnusable = (body) => body !== null && isUnusable(body);

  const usedError = () => new TypeError("Body has already been used. It can only be used once. Use tee() first if you need to read it twice.");
  lib.bodyUsedError = usedError;

  // The bytes of a body that is no stream.
  function bytesOf(body) {
    if (body.kind === TEXT) return ops.utf8Encode(body.value);
    if (body.kind === BYTES) return body.shared ? new Uint8Array(body.value) : body.value;
    return ops.requestBody(body.value) ?? EMPTY;
  }

  // The stream of a body, made at the first call.
  lib.bodyStream = (body) => {
    if (body.stream !== undefined) return body.stream;
    let stream;
    if (body.used) {
      stream = rs.publicStream(rs.spent());
    } else if (body.kind === REQUEST_STREAM) {
      stream = lib.openRequestBody(body.value);
      body.kind = STREAM;
    } else {
      const bytes = bytesOf(body);
      body.kind = BYTES;
      body.value = bytes;
      stream = bytesStream(bytes);
    }
    body.stream = stream;
    return stream;
  };

  function bytesStream(bytes) {
    const length = TypedArrayPrototypeGetByteLength(bytes);
    const state = rs.createByte(
      (controller) => {
        // The stream gives its buffers away: the body keeps the bytes, for `lib.takeBody`.
        if (length > 0) rs.byteEnqueue(controller, new Uint8Array(bytes));
        rs.byteClose(controller);
      },
      undefined,
      undefined,
    );
    state.promisedLength = length;
    return rs.publicStream(state);
  }

  // Takes a body for sending: marks it used and gives null, a string, a Uint8Array or a ReadableStream.
  lib.takeBody = (body) => {
    if (body === null) return null;
    if (isUnusable(body)) throw usedError();
    if (body.kind === STREAM || body.kind === REQUEST_STREAM) return rs.moveStream(lib.bodyStream(body));
    body.used = true;
    // A stream that a program asked for and did not read: it is locked from now on.
    if (body.stream !== undefined) rs.acquireReader(rs.stateOf(body.stream)).stream.disturbed = true;
    if (body.kind === REQUEST_BYTES) return bytesOf(body);
    return body.value;
  };
  lib.takenLength = (taken) => lib.isReadableStream(taken) ? rs.stateOf(taken).promisedLength : -1;

  // A second body with the same content; the first stays usable.
  lib.cloneBody = (body) => {
    if (body.kind === TEXT && body.stream === undefined) return new Body(TEXT, body.value);
    if (body.stream === undefined && body.kind !== REQUEST_STREAM) {
      body.value = bytesOf(body);
      body.kind = BYTES;
      body.shared = true;
      return new Body(BYTES, body.value, true);
    }
    const length = rs.stateOf(lib.bodyStream(body)).promisedLength;
    const branches = rs.tee(rs.stateOf(body.stream), true);
    branches.first.promisedLength = length;
    branches.second.promisedLength = length;
    body.kind = STREAM;
    body.stream = body.value = rs.publicStream(branches.first);
    return new Body(STREAM, rs.publicStream(branches.second));
  };

  // Moves a body into another message; the first is used from now on (Fetch: "create a proxy").
  lib.moveBody = (body) => {
    if (isUnusable(body)) throw usedError();
    if (body.stream === undefined) {
      const moved = new Body(body.kind, body.value, body.shared);
      body.used = true;
      return moved;
    }
    body.used = true;
    return new Body(STREAM, rs.moveStream(body.stream));
  };

  // Reads a body whole and converts the bytes.
  function consume(body, convert, message) {
    if (body === null) return settle(convert, EMPTY, message);
    if (isUnusable(body)) return PromiseReject(usedError());
    if (body.kind !== STREAM && body.kind !== REQUEST_STREAM && body.stream === undefined) {
      body.used = true;
      return settle(convert, bytesOf(body), message);
    }
    const reader = rs.acquireReader(rs.stateOf(lib.bodyStream(body)));
    return lib.readAllBytes(reader, (bytes) => convert(bytes, message));
  }

  function settle(convert, bytes, message) {
    try {
      return PromiseResolve(convert(bytes, message));
    } catch (error) {
      return PromiseReject(error);
    }
  }

  // Text without a detour over bytes.
  function consumeText(body, convert) {
    if (body !== null && body.kind === TEXT && body.stream === undefined && !body.used) {
      body.used = true;
      try {
        return PromiseResolve(convert(lib.p.StringPrototypeToWellFormed(stripMark(body.value))));
      } catch (error) {
        return PromiseReject(error);
      }
    }
    return consume(body, (bytes) => convert(lib.utf8Decode(bytes)), undefined);
  }
  const stripMark = (text) => text[0] === "\ufeff" ? lib.p.StringPrototypeSlice(text, 1) : text;

  const identity = (value) => value;
  lib.readBody = (body) => consume(body, identity, undefined);
  const toBuffer = (bytes) => lib.exactBuffer(bytes);
  const parseJson = (text) => JSONParse(text);
  function toBlob(bytes, list) {
    if (!lib.headerListHas(list, "content-type")) return lib.newBlob(bytes, "");
    lib.load("mime.js");
    return lib.newBlobOfType(bytes, lib.mimeTypeOf(list));
  }

  function toFormData(bytes, list) {
    const value = lib.headerListGet(list, "content-type");
    const parsed = lib.parseParameters(value ?? "", undefined);
    if (parsed.essence === "multipart/form-data") {
      const boundary = parsed.get("boundary");
      if (boundary === undefined || boundary === "") throw new TypeError("The content type has no boundary");
      return lib.parseMultipart(bytes, boundary);
    }
    if (parsed.essence !== "application/x-www-form-urlencoded") {
      throw new TypeError("The content type is neither multipart/form-data nor application/x-www-form-urlencoded");
    }
    const form = new lib.FormData();
    const pairs = lib.parseForm(ops.utf8Decode(bytes));
    const entries = lib.formList(form);
    for (let i = 0; i < pairs.length; i++) entries[i] = pairs[i];
    return form;
  }

  const notA = (name) => PromiseReject(new TypeError(`Illegal invocation: not a ${name}`));

  // Adds the mixin to a class. `is(value)` is its brand, `bodyOf(value)` its Body or null, `listOf(value)` its headers.
  lib.mixinBody = (ctor, name, is, bodyOf, listOf) => {
    const members = {
      get body() {
        const body = bodyOf(this);
        return body === null ? null : lib.bodyStream(body);
      },
      get bodyUsed() {
        const body = bodyOf(this);
        return body !== null && isUsed(body);
      },
      text() {
        return is(this) ? consumeText(bodyOf(this), identity) : notA(name);
      },
      json() {
        return is(this) ? consumeText(bodyOf(this), parseJson) : notA(name);
      },
      arrayBuffer() {
        return is(this) ? consume(bodyOf(this), toBuffer, undefined) : notA(name);
      },
      bytes() {
        return is(this) ? consume(bodyOf(this), identity, undefined) : notA(name);
      },
      blob() {
        if (!is(this)) return notA(name);
        return consume(bodyOf(this), toBlob, listOf(this));
      },
      formData() {
        return is(this) ? consume(bodyOf(this), toFormData, listOf(this)) : notA(name);
      },
    };
    const keys = ReflectOwnKeys(members);
    for (let i = 0; i < keys.length; i++) {
      const desc = ObjectGetOwnPropertyDescriptor(members, keys[i]);
      desc.__proto__ = null;
      ObjectDefineProperty(ctor.prototype, keys[i], desc);
    }
  };
})
