// Text for values, as `console` shows them: in the manner of util.inspect.
//
// Invariants: calls no getter and no method of the value (a Proxy is shown as its kind, its traps are not run); never
// throws. Bounds: depth, entries of a collection, length of a string and of the whole text.
(function (ops, lib) {
  "use strict";
  const {
    ArrayBufferPrototypeGetByteLength, ArrayPrototypeIndexOf, ArrayPrototypePop, ArrayPrototypePush, BigIntPrototypeToString, BooleanPrototypeValueOf,
    DatePrototypeGetTime, DatePrototypeToISOString, FunctionPrototypeToString, MapIteratorNext, MapPrototypeEntries, MapPrototypeGetSize,
    NumberPrototypeToString, NumberIsNaN, NumberPrototypeValueOf, ObjectGetOwnPropertyDescriptor, ObjectGetPrototypeOf, ObjectIs,
    ReflectApply, ReflectOwnKeys, RegExpPrototypeToString, SetIteratorNext, SetPrototypeGetSize, SetPrototypeValues, StringPrototypeCharCodeAt,
    StringPrototypeIndexOf, StringPrototypePadStart, StringPrototypeSlice, StringPrototypeStartsWith, StringPrototypeValueOf, SymbolPrototypeToString,
    SymbolPrototypeValueOf, BigIntPrototypeValueOf, SymbolToStringTag, TypedArrayPrototypeGetLength, TypedArrayPrototypeGetSymbolToStringTag, Uint8Array,
  } = lib.p;

  const ENTRIES_MAX = 100;
  const STRING_MAX = 10000;
  const TEXT_MAX = 16384;
  const LINE_MAX = 76;
  const DEPTH_MAX = 100;

  // What `ops.valueKind` gives (src/ops/value.rs).
  const KIND = {
    __proto__: null, OTHER: 0, ARRAY: 1, DATE: 2, REGEXP: 3, MAP: 4, SET: 5, WEAK_MAP: 6, WEAK_SET: 7, PROMISE: 8, PROXY: 9, ERROR: 10,
    ARRAY_BUFFER: 11, TYPED_ARRAY: 12, DATA_VIEW: 13, SHARED_ARRAY_BUFFER: 14, BOXED: 15, ARGUMENTS: 16, MODULE: 17, FUNCTION: 18, GENERATOR: 19,
    ITERATOR: 20,
  };
  lib.KIND = KIND;

  class Inspection {
    depth;
    seen = [];
    circular = undefined;
    // Characters left; when none is, everything becomes "...".
    budget = TEXT_MAX;
    constructor(depth) {
      this.depth = depth < DEPTH_MAX ? depth : DEPTH_MAX;
    }
  }

  function quote(text) {
    const mark = StringPrototypeIndexOf(text, "'") === -1 ? "'" : StringPrototypeIndexOf(text, '"') === -1 ? '"' : StringPrototypeIndexOf(text, "`") === -1 ? "`" : "'";
    let out = mark;
    let start = 0;
    const shown = text.length > STRING_MAX ? STRING_MAX : text.length;
    for (let i = 0; i < shown; i++) {
      const code = StringPrototypeCharCodeAt(text, i);
      let escape;
      if (text[i] === mark) escape = `\\${mark}`;
      else if (code === 92) escape = "\\\\";
      else if (code === 10) escape = "\\n";
      else if (code === 13) escape = "\\r";
      else if (code === 9) escape = "\\t";
      else if (code === 8) escape = "\\b";
      else if (code < 32 || code === 127) escape = `\\x${StringPrototypePadStart(NumberPrototypeToString(code, 16), 2, "0")}`;
      else continue;
      out += StringPrototypeSlice(text, start, i) + escape;
      start = i + 1;
    }
    out += StringPrototypeSlice(text, start, shown) + mark;
    return shown < text.length ? `${out}... ${text.length - shown} more characters` : out;
  }

  function isIdentifier(text) {
    if (text.length === 0) return false;
    for (let i = 0; i < text.length; i++) {
      const c = StringPrototypeCharCodeAt(text, i);
      const letter = (c >= 65 && c <= 90) || (c >= 97 && c <= 122) || c === 95 || c === 36;
      if (!letter && !(i > 0 && c >= 48 && c <= 57)) return false;
    }
    return true;
  }

  function keyText(key) {
    if (typeof key === "symbol") return `[${SymbolPrototypeToString(key)}]`;
    return isIdentifier(key) ? key : quote(key);
  }

  function primitive(value) {
    switch (typeof value) {
      case "string":
        return quote(value);
      case "number":
        return ObjectIs(value, -0) ? "-0" : `${value}`;
      case "bigint":
        return `${BigIntPrototypeToString(value)}n`;
      case "symbol":
        return SymbolPrototypeToString(value);
      default:
        return `${value}`;
    }
  }

  // Data property of an object or its prototypes, without running a getter.
  function dataProperty(object, key) {
    let at = object;
    for (let i = 0; i < 64 && at !== null && at !== undefined; i++) {
      if (ops.valueKind(at) === KIND.PROXY) return undefined;
      const desc = ObjectGetOwnPropertyDescriptor(at, key);
      if (desc !== undefined) return desc.value;
      at = ObjectGetPrototypeOf(at);
    }
    return undefined;
  }

  // Name of the constructor; null for an object without a prototype.
  function constructorName(object) {
    const ctor = dataProperty(object, "constructor");
    if (typeof ctor === "function" && ops.valueKind(ctor) !== KIND.PROXY) {
      const name = ObjectGetOwnPropertyDescriptor(ctor, "name")?.value;
      if (typeof name === "string" && name !== "") return name;
    }
    return ObjectGetPrototypeOf(object) === null ? null : "Object";
  }

  function tagOf(object, name) {
    const tag = dataProperty(object, SymbolToStringTag);
    return typeof tag === "string" && tag !== "" && tag !== name ? ` [${tag}]` : "";
  }

  function prefix(object, plain) {
    const name = constructorName(object);
    const tag = tagOf(object, name);
    if (name === null) return `[${plain}: null prototype]${tag} `;
    return name === plain && tag === "" && plain === "Object" ? "" : `${name}${tag} `;
  }

  function sized(object, plain, size) {
    const name = constructorName(object);
    return `${name === null ? `[${plain}(${size}): null prototype]` : `${name}(${size})`}${tagOf(object, name)} `;
  }

  // Lays out entries between two brackets: on one line if it fits, else one a line.
  function layOut(open, entries, close, before) {
    if (entries.length === 0) return `${before}${open}${close}`;
    let total = before.length + entries.length * 2;
    let broken = false;
    for (let i = 0; i < entries.length; i++) {
      total += entries[i].length;
      if (StringPrototypeIndexOf(entries[i], "\n") !== -1) broken = true;
    }
    if (!broken && total <= LINE_MAX) {
      let line = `${before}${open} ${entries[0]}`;
      for (let i = 1; i < entries.length; i++) line += `, ${entries[i]}`;
      return `${line} ${close}`;
    }
    let text = `${before}${open}`;
    for (let i = 0; i < entries.length; i++) text += `${i === 0 ? "" : ","}\n  ${indent(entries[i])}`;
    return `${text}\n${close}`;
  }

  function indent(text) {
    if (StringPrototypeIndexOf(text, "\n") === -1) return text;
    let out = "";
    let start = 0;
    for (let i = 0; i < text.length; i++) {
      if (text[i] === "\n") {
        out += `${StringPrototypeSlice(text, start, i)}\n  `;
        start = i + 1;
      }
    }
    return out + StringPrototypeSlice(text, start);
  }

  function propertyText(state, object, key, desc) {
    if (desc.get !== undefined) return desc.set === undefined ? "[Getter]" : "[Getter/Setter]";
    if (desc.set !== undefined) return "[Setter]";
    return format(state, desc.value);
  }

  // Entries for own enumerable properties; those that are indices are left out where `skipIndices`.
  function properties(state, object, entries, skipIndices) {
    const keys = ReflectOwnKeys(object);
    let shown = 0;
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i];
      if (skipIndices && typeof key === "string" && isIndex(key)) continue;
      const desc = ObjectGetOwnPropertyDescriptor(object, key);
      if (desc === undefined || !desc.enumerable) continue;
      if (shown++ >= ENTRIES_MAX || state.budget <= 0) {
        ArrayPrototypePush(entries, "... more properties");
        return;
      }
      ArrayPrototypePush(entries, `${keyText(key)}: ${propertyText(state, object, key, desc)}`);
    }
  }

  function isIndex(key) {
    if (key.length === 0 || key.length > 10) return false;
    for (let i = 0; i < key.length; i++) {
      const c = StringPrototypeCharCodeAt(key, i);
      if (c < 48 || c > 57) return false;
    }
    return true;
  }

  const more = (count) => `... ${count} more item${count === 1 ? "" : "s"}`;

  function arrayEntries(state, array, length, entries) {
    let holes = 0;
    let shown = 0;
    let i = 0;
    const flushHoles = () => {
      if (holes > 0) ArrayPrototypePush(entries, `<${holes} empty item${holes === 1 ? "" : "s"}>`);
      holes = 0;
    };
    // A sparse array of a billion holes must not be walked: the holes past the bound count as "more".
    for (; i < length && shown < ENTRIES_MAX && i < 10 * ENTRIES_MAX && state.budget > 0; i++) {
      const desc = ObjectGetOwnPropertyDescriptor(array, i);
      if (desc === undefined) {
        holes++;
        continue;
      }
      flushHoles();
      shown++;
      ArrayPrototypePush(entries, propertyText(state, array, i, desc));
    }
    flushHoles();
    if (i < length) ArrayPrototypePush(entries, more(length - i));
  }

  function mapEntries(state, map, entries) {
    const iterator = MapPrototypeEntries(map);
    const size = MapPrototypeGetSize(map);
    for (let i = 0; i < size && i < ENTRIES_MAX; i++) {
      const pair = MapIteratorNext(iterator).value;
      ArrayPrototypePush(entries, `${format(state, pair[0])} => ${format(state, pair[1])}`);
    }
    if (size > ENTRIES_MAX) ArrayPrototypePush(entries, more(size - ENTRIES_MAX));
  }

  function setEntries(state, set, entries) {
    const iterator = SetPrototypeValues(set);
    const size = SetPrototypeGetSize(set);
    for (let i = 0; i < size && i < ENTRIES_MAX; i++) ArrayPrototypePush(entries, format(state, SetIteratorNext(iterator).value));
    if (size > ENTRIES_MAX) ArrayPrototypePush(entries, more(size - ENTRIES_MAX));
  }

  function typedArrayEntries(array, entries) {
    const length = TypedArrayPrototypeGetLength(array);
    for (let i = 0; i < length && i < ENTRIES_MAX; i++) ArrayPrototypePush(entries, primitive(array[i]));
    if (length > ENTRIES_MAX) ArrayPrototypePush(entries, more(length - ENTRIES_MAX));
  }

  function bufferText(buffer, length) {
    const bytes = new Uint8Array(buffer, 0, length > 50 ? 50 : length);
    let text = "<";
    for (let i = 0; i < bytes.length; i++) text += `${i === 0 ? "" : " "}${StringPrototypePadStart(NumberPrototypeToString(bytes[i], 16), 2, "0")}`;
    return `${text}${length > 50 ? ` ... ${length - 50} more bytes` : ""}>`;
  }

  function boxedText(value) {
    const unbox = [["String", StringPrototypeValueOf], ["Number", NumberPrototypeValueOf], ["Boolean", BooleanPrototypeValueOf], ["BigInt", BigIntPrototypeValueOf], ["Symbol", SymbolPrototypeValueOf]];
    for (let i = 0; i < unbox.length; i++) {
      try {
        return `[${unbox[i][0]}: ${primitive((0, unbox[i][1])(value))}]`;
      } catch {
        // Not this kind.
      }
    }
    return "[Object]";
  }

  function functionText(fn) {
    const source = FunctionPrototypeToString(fn);
    const name = ObjectGetOwnPropertyDescriptor(fn, "name")?.value;
    const shown = typeof name === "string" && name !== "" ? name : "(anonymous)";
    if (StringPrototypeStartsWith(source, "class") && !isIdentifier(source[5] ?? "")) {
      const parent = ObjectGetPrototypeOf(fn);
      const parentName = typeof parent === "function" ? ObjectGetOwnPropertyDescriptor(parent, "name")?.value : undefined;
      return `[class ${shown}${typeof parentName === "string" && parentName !== "" ? ` extends ${parentName}` : ""}]`;
    }
    const kind = constructorName(fn) ?? "Function";
    return shown === "(anonymous)" ? `[${kind} (anonymous)]` : `[${kind}: ${shown}]`;
  }

  // In V8 the stack is an own accessor whose getter is the same for all errors: the one getter that is run.
  const stackGetter = ObjectGetOwnPropertyDescriptor(new lib.p.Error(), "stack")?.get;

  function stackOf(error) {
    const desc = ObjectGetOwnPropertyDescriptor(error, "stack");
    if (desc === undefined) return undefined;
    return desc.get !== undefined && desc.get === stackGetter ? ReflectApply(stackGetter, error, []) : desc.value;
  }

  // Stack, or "name: message" where there is none; then own properties and causes.
  function errorHead(error) {
    const stack = stackOf(error);
    if (typeof stack === "string" && stack !== "") return stack;
    const name = lib.isDOMException(error) ? lib.domExceptionName(error) : dataProperty(error, "name");
    const message = lib.isDOMException(error) ? lib.domExceptionMessage(error) : dataProperty(error, "message");
    const head = typeof name === "string" ? name : "Error";
    return typeof message === "string" && message !== "" ? `${head}: ${message}` : head;
  }

  function errorText(state, error) {
    const head = errorHead(error);
    const entries = [];
    const keys = ReflectOwnKeys(error);
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i];
      if (key === "stack" || key === "message" || key === "name") continue;
      const desc = ObjectGetOwnPropertyDescriptor(error, key);
      if (key === "cause" || key === "errors") {
        ArrayPrototypePush(entries, `[${key}]: ${propertyText(state, error, key, desc)}`);
      } else if (desc.enumerable) {
        ArrayPrototypePush(entries, `${keyText(key)}: ${propertyText(state, error, key, desc)}`);
      }
    }
    const shown = StringPrototypeIndexOf(head, "\n    at ") === -1 ? `[${head}]` : head;
    if (entries.length === 0) return shown;
    let text = `${shown} {`;
    for (let i = 0; i < entries.length; i++) text += `${i === 0 ? "" : ","}\n  ${indent(entries[i])}`;
    return `${text}\n}`;
  }

  function format(state, value) {
    if ((typeof value !== "object" || value === null) && typeof value !== "function") {
      const text = primitive(value);
      state.budget -= text.length;
      return text;
    }
    if (state.budget <= 0) return "...";
    state.budget -= 2;
    const kind = ops.valueKind(value);
    if (kind === KIND.PROXY) return "[Proxy]";
    if (ArrayPrototypeIndexOf(state.seen, value) !== -1) {
      const circular = state.circular ??= [];
      let index = ArrayPrototypeIndexOf(circular, value);
      if (index === -1) {
        ArrayPrototypePush(circular, value);
        index = circular.length - 1;
      }
      return `[Circular *${index + 1}]`;
    }
    if (state.seen.length > state.depth && kind !== KIND.ERROR && kind !== KIND.DATE && kind !== KIND.REGEXP && kind !== KIND.FUNCTION) {
      return kind === KIND.ARRAY ? "[Array]" : `[${constructorName(value) ?? "Object: null prototype"}]`;
    }
    ArrayPrototypePush(state.seen, value);
    const text = formatObject(state, value, kind);
    ArrayPrototypePop(state.seen);
    const index = state.circular === undefined ? -1 : ArrayPrototypeIndexOf(state.circular, value);
    return index === -1 ? text : `<ref *${index + 1}> ${text}`;
  }

  function formatObject(state, value, kind) {
    const entries = [];
    switch (kind) {
      case KIND.ARRAY: {
        const { length } = value;
        const name = constructorName(value);
        arrayEntries(state, value, length, entries);
        properties(state, value, entries, true);
        return layOut("[", entries, "]", name === "Array" ? "" : sized(value, "Array", length));
      }
      case KIND.TYPED_ARRAY:
        typedArrayEntries(value, entries);
        return layOut("[", entries, "]", `${TypedArrayPrototypeGetSymbolToStringTag(value)}(${TypedArrayPrototypeGetLength(value)}) `);
      case KIND.MAP:
        mapEntries(state, value, entries);
        properties(state, value, entries, false);
        return layOut("{", entries, "}", sized(value, "Map", MapPrototypeGetSize(value)));
      case KIND.SET:
        setEntries(state, value, entries);
        properties(state, value, entries, false);
        return layOut("{", entries, "}", sized(value, "Set", SetPrototypeGetSize(value)));
      case KIND.ERROR:
        return errorText(state, value);
      case KIND.DATE: {
        const text = NumberIsNaN(DatePrototypeGetTime(value)) ? "Invalid Date" : DatePrototypeToISOString(value);
        properties(state, value, entries, false);
        return entries.length === 0 ? text : layOut("{", entries, "}", `${text} `);
      }
      case KIND.REGEXP: {
        const text = RegExpPrototypeToString(value);
        properties(state, value, entries, false);
        return entries.length === 0 ? text : layOut("{", entries, "}", `${text} `);
      }
      case KIND.FUNCTION: {
        const text = functionText(value);
        properties(state, value, entries, false);
        return entries.length === 0 ? text : layOut("{", entries, "}", `${text} `);
      }
      case KIND.PROMISE: {
        const settled = ops.promiseState(value);
        ArrayPrototypePush(entries, settled[0] === 0 ? "<pending>" : settled[0] === 1 ? format(state, settled[1]) : `<rejected> ${format(state, settled[1])}`);
        properties(state, value, entries, false);
        return layOut("{", entries, "}", prefix(value, "Promise"));
      }
      case KIND.WEAK_MAP:
      case KIND.WEAK_SET:
        return `${prefix(value, kind === KIND.WEAK_MAP ? "WeakMap" : "WeakSet")}{ <items unknown> }`;
      case KIND.BOXED: {
        const text = boxedText(value);
        properties(state, value, entries, true);
        return entries.length === 0 ? text : layOut("{", entries, "}", `${text} `);
      }
      case KIND.ARRAY_BUFFER: {
        const length = ArrayBufferPrototypeGetByteLength(value);
        ArrayPrototypePush(entries, `[Uint8Contents]: ${bufferText(value, length)}`, `byteLength: ${length}`);
        return layOut("{", entries, "}", "ArrayBuffer ");
      }
      case KIND.DATA_VIEW:
        ArrayPrototypePush(entries, `byteLength: ${lib.viewByteLength(value)}`, `byteOffset: ${lib.viewByteOffset(value)}`);
        return layOut("{", entries, "}", "DataView ");
      case KIND.ARGUMENTS:
        arrayEntries(state, value, ObjectGetOwnPropertyDescriptor(value, "length")?.value ?? 0, entries);
        return layOut("[", entries, "]", "[Arguments] ");
      case KIND.GENERATOR:
        return "Object [Generator] {}";
      default:
        return objectText(state, value, entries);
    }
  }

  // Plain objects and the runtime's own interfaces.
  function objectText(state, value, entries) {
    if (lib.isDOMException(value)) return errorText(state, value);
    const view = lib.inspectPlatform?.(value);
    if (view !== undefined) {
      for (let i = 0; i < view.length; i += 2) ArrayPrototypePush(entries, `${keyText(view[i])}: ${format(state, view[i + 1])}`);
    }
    properties(state, value, entries, false);
    return layOut("{", entries, "}", prefix(value, "Object"));
  }

  // What our own classes show: a flat list of name and value.
  lib.inspectPlatform = (value) => {
    if (lib.isHeaders(value)) return lib.headersSorted(value);
    if (lib.isURL(value)) {
      return [
        "href", value.href, "origin", value.origin, "protocol", value.protocol, "username", value.username, "password", value.password, "host", value.host,
        "hostname", value.hostname, "port", value.port, "pathname", value.pathname, "search", value.search, "hash", value.hash,
      ];
    }
    if (lib.isURLSearchParams(value)) return lib.paramsList(value);
    if (lib.isFormData(value)) return lib.formList(value);
    if (lib.isRequest(value)) return ["method", lib.requestMethod(value), "url", lib.requestUrl(value)];
    if (lib.isResponse(value)) return ["status", lib.responseStatus(value)];
    if (lib.isFile(value)) return ["name", lib.fileName(value), "size", lib.viewByteLength(lib.blobBytes(value)), "type", lib.blobType(value)];
    if (lib.isBlob(value)) return ["size", lib.viewByteLength(lib.blobBytes(value)), "type", lib.blobType(value)];
    if (lib.isAbortSignal(value)) return ["aborted", lib.signalAborted(value)];
    return undefined;
  };

  lib.inspect = (value, depth = 2) => {
    try {
      return format(new Inspection(depth), value);
    } catch {
      // The stack ran out, or the heap did: say what can be said without either.
      return "[object that cannot be shown]";
    }
  };

  lib.describeError = (value) => {
    try {
      if (!lib.isObject(value)) return typeof value === "string" ? value : primitive(value);
      return format(new Inspection(4), value);
    } catch {
      return "[error that cannot be shown]";
    }
  };
})
