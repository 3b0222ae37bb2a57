// WebAssembly: V8's own, with what a Worker cannot have taken out of it. A rare file.
//
// Modules come with the deployment; what a program compiles itself is refused with a `CompileError`, as on Cloudflare. Types of modules and
// tags go into a table of the process that only grows, so what a program can put there at run time has a budget.
(function (ops, lib) {
  "use strict";
  const { ObjectDefineProperty, PromisePrototypeThen, PromiseReject, PromiseResolve, RangeError, ReflectApply, ReflectConstruct, StringPrototypeToLowerCase, TypeError } = lib.p;
  const native = lib.nativeWebAssembly;
  const { compile, instantiate, validate, Memory, Tag } = native;

  const TYPES_MAX = 1000;
  let types = 0;
  function charge(count) {
    types += count;
    if (types > TYPES_MAX) throw new RangeError(`A Worker may make at most ${TYPES_MAX} types of WebAssembly`);
  }

  const hidden = (object, name, value) => ObjectDefineProperty(object, name, { __proto__: null, value, writable: true, configurable: true, enumerable: false });
  const shown = (name, value) => ObjectDefineProperty(native, name, { __proto__: null, value, writable: true, configurable: true, enumerable: true });

  shown("validate", { validate(bytes) {
    if (lib.isBufferSource(bytes)) charge(ops.wasmTypes(lib.bytesOf(bytes)));
    return ReflectApply(validate, native, [bytes]);
  } }.validate);

  function CountedTag(type) {
    if (new.target === undefined) throw new TypeError("WebAssembly.Tag must be invoked with 'new'");
    charge(1);
    return ReflectConstruct(Tag, [type], new.target);
  }
  // A memory that is shared would give a program `SharedArrayBuffer`.
  function OwnMemory(descriptor) {
    if (new.target === undefined) throw new TypeError("WebAssembly.Memory must be invoked with 'new'");
    if (!lib.isObject(descriptor)) throw new TypeError("WebAssembly.Memory(): the argument is not a memory descriptor");
    const plain = { __proto__: null };
    const { address, initial, maximum, minimum, shared } = descriptor;
    if (shared) throw new TypeError("A Worker's memory is shared with nobody");
    if (address !== undefined) plain.address = address;
    if (initial !== undefined) plain.initial = initial;
    if (maximum !== undefined) plain.maximum = maximum;
    if (minimum !== undefined) plain.minimum = minimum;
    return ReflectConstruct(Memory, [plain], new.target);
  }
  function takePlace(own, ctor, name) {
    ObjectDefineProperty(own, "name", { __proto__: null, value: name, configurable: true });
    ObjectDefineProperty(own, "prototype", { __proto__: null, value: ctor.prototype, writable: false, enumerable: false, configurable: false });
    hidden(ctor.prototype, "constructor", own);
    hidden(native, name, own);
  }
  takePlace(CountedTag, Tag, "Tag");
  takePlace(OwnMemory, Memory, "Memory");

  // Stacks that wasm switches between are not those that a Worker's turn runs on.
  delete native.promising;
  delete native.Suspending;
  delete native.SuspendError;

  // WebAssembly Web API, section 3: the bytes of a response, if it is one of WebAssembly.
  function bytesOfResponse(source) {
    return PromisePrototypeThen(PromiseResolve(source), (response) => {
      if (!lib.isResponse(response)) throw new TypeError("The source is not a Response");
      const type = lib.headerListGet(lib.responseList(response), "content-type");
      if (type === null || StringPrototypeToLowerCase(type) !== "application/wasm") throw new TypeError("The response's Content-Type is not application/wasm");
      const status = lib.responseStatus(response);
      if (status < 200 || status > 299) throw new TypeError("The response's status is not in the range 200 to 299");
      return lib.readBody(lib.responseBodyOf(response));
    });
  }
  function compileStreaming(source) {
    if (arguments.length === 0) return PromiseReject(new TypeError("compileStreaming needs 1 argument"));
    return PromisePrototypeThen(bytesOfResponse(source), (bytes) => ReflectApply(compile, native, [bytes]));
  }
  function instantiateStreaming(source, imports = undefined) {
    if (arguments.length === 0) return PromiseReject(new TypeError("instantiateStreaming needs 1 argument"));
    return PromisePrototypeThen(bytesOfResponse(source), (bytes) => ReflectApply(instantiate, native, [bytes, imports]));
  }
  shown("compileStreaming", { compileStreaming }.compileStreaming);
  shown("instantiateStreaming", { instantiateStreaming }.instantiateStreaming);

  lib.defineGlobal("WebAssembly", native);
})
