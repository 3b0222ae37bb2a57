// The minimum common API (ECMA-429), name by name: each is there, as its specification's Web IDL has it.

const INTERFACES = [
  "AbortController", "AbortSignal", "Blob", "ByteLengthQueuingStrategy", "CompressionStream", "CountQueuingStrategy", "Crypto", "CryptoKey", "CustomEvent",
  "DOMException", "DecompressionStream", "ErrorEvent", "Event", "EventTarget", "File", "FormData", "Headers", "MessageChannel", "MessageEvent", "MessagePort",
  "Performance", "PromiseRejectionEvent", "ReadableByteStreamController", "ReadableStream", "ReadableStreamBYOBReader", "ReadableStreamBYOBRequest",
  "ReadableStreamDefaultController", "ReadableStreamDefaultReader", "Request", "Response", "SubtleCrypto", "TextDecoder", "TextDecoderStream", "TextEncoder",
  "TextEncoderStream", "TransformStream", "TransformStreamDefaultController", "URL", "URLPattern", "URLSearchParams", "WritableStream",
  "WritableStreamDefaultController", "WritableStreamDefaultWriter",
];
// And of the Workers platform.
const OURS = ["FixedLengthStream", "HTMLRewriter", "IdentityTransformStream", "Navigator"];

for (const name of [...INTERFACES, ...OURS]) {
  test(name, () => {
    const ctor = globalThis[name];
    eq(typeof ctor, "function");
    const { value, writable, enumerable, configurable } = Object.getOwnPropertyDescriptor(globalThis, name);
    eq([value === ctor, writable, enumerable, configurable], [true, true, false, true], "the global");
    eq(ctor.name, name);
    eq(Object.getOwnPropertyDescriptor(ctor, "prototype").writable, false);
    eq(ctor.prototype[Symbol.toStringTag], name);
    eq(ctor.prototype.constructor === ctor, true);
    throws(() => ctor(), TypeError, "without new");
    for (const key of Reflect.ownKeys(ctor.prototype)) {
      if (typeof key !== "string" || key === "constructor") continue;
      const member = Object.getOwnPropertyDescriptor(ctor.prototype, key);
      ok(member.enumerable, `${key} is enumerable`);
      if (member.get) eq(member.get.name, `get ${key}`);
    }
  });
}

const FUNCTIONS = {
  atob: 1, btoa: 1, clearInterval: 0, clearTimeout: 0, fetch: 1, queueMicrotask: 1, reportError: 1, setInterval: 1, setTimeout: 1, structuredClone: 1,
};
for (const [name, length] of Object.entries(FUNCTIONS)) {
  test(name, () => {
    const { value, writable, configurable } = Object.getOwnPropertyDescriptor(globalThis, name);
    eq([typeof value, writable, configurable], ["function", true, true]);
    eq([value.name, value.length], [name, length]);
    throws(() => new value(), TypeError, "as a constructor");
  });
}

test("objects", () => {
  eq(self === globalThis, true);
  for (const name of ["console", "crypto", "navigator", "performance"]) eq(typeof globalThis[name], "object", name);
  eq([crypto instanceof Crypto, performance instanceof Performance, navigator instanceof Navigator, performance instanceof EventTarget], [true, true, true, true]);
  eq(crypto.subtle instanceof SubtleCrypto, true);
  eq(navigator.userAgent, "Cloudflare-Workers");
  for (const name of ["onerror", "onunhandledrejection", "onrejectionhandled"]) {
    eq(globalThis[name], null, name);
    const handler = () => {};
    globalThis[name] = handler;
    eq(globalThis[name] === handler, true, name);
    globalThis[name] = 1;
    eq(globalThis[name], null, name);
  }
  const methods = ["assert", "clear", "count", "countReset", "debug", "dir", "dirxml", "error", "group", "groupCollapsed", "groupEnd", "info", "log", "table", "time", "timeEnd", "timeLog", "trace", "warn"];
  for (const name of methods) eq(typeof console[name], "function", `console.${name}`);
});

test("reportError", () => {
  const seen = [];
  const listen = (event) => {
    event.preventDefault();
    seen.push(event);
  };
  addEventListener("error", listen);
  const error = new RangeError("reported");
  reportError(error);
  reportError(7);
  removeEventListener("error", listen);
  eq([seen[0].error === error, seen[0].message, seen[0] instanceof ErrorEvent, seen[1].error], [true, "reported", true, 7]);
  throws(() => reportError(), TypeError);
});

test("WebAssembly", async () => {
  eq(Object.getOwnPropertyDescriptor(globalThis, "WebAssembly").enumerable, false);
  eq(WebAssembly[Symbol.toStringTag], "WebAssembly");
  for (const name of ["compile", "compileStreaming", "instantiate", "instantiateStreaming", "validate"]) {
    const { value, writable, enumerable, configurable } = Object.getOwnPropertyDescriptor(WebAssembly, name);
    eq([typeof value, value.name, value.length, writable, enumerable, configurable], ["function", name, 1, true, true, true]);
  }
  for (const name of ["CompileError", "Exception", "Global", "Instance", "LinkError", "Memory", "Module", "RuntimeError", "Table", "Tag"]) {
    eq([typeof WebAssembly[name], WebAssembly[name].name], ["function", name]);
    if (!name.endsWith("Error")) throws(() => WebAssembly[name](), TypeError, name);
  }
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 2 });
  new Uint8Array(memory.buffer)[5] = 7;
  eq([memory.grow(1), memory.buffer.byteLength, new Uint8Array(memory.buffer)[5]], [1, 131072, 7]);
  throws(() => memory.grow(1), RangeError);
  throws(() => new WebAssembly.Memory({ initial: 70000 }), RangeError);
  throws(() => new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }), TypeError);
  throws(() => new memory.constructor({ initial: 1, maximum: 1, shared: true }), TypeError);
  const global = new WebAssembly.Global({ value: "i32", mutable: true }, 42);
  global.value++;
  eq(global.value, 43);
  const table = new WebAssembly.Table({ element: "anyfunc", initial: 2 });
  eq([table.length, table.get(0), table.grow(1), table.length], [2, null, 2, 3]);
  await rejects(WebAssembly.compileStreaming(fetch), TypeError);
});
