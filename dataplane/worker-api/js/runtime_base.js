// What the other files need before any of them: the clock, the microtask queue, and where exceptions go that no
// caller can catch.
(function (ops, lib) {
  "use strict";
  const { PromisePrototypeThen, PromiseResolve } = lib.p;

  lib.now = () => ops.monotonicMs();

  // A microtask of the runtime's own: `callback` must not throw.
  lib.queueMicrotask = (callback) => {
    PromisePrototypeThen(PromiseResolve(undefined), callback);
  };

  // An exception of a listener or a microtask: the program sees it as an "error" event on the global object, and if
  // it does not cancel that, the log has it.
  lib.reportException = (error) => {
    let handled = false;
    if (lib.hasListeners(lib.globalTarget)) {
      const event = new lib.ErrorEvent("error", { __proto__: null, cancelable: true, message: lib.errorMessage(error), error });
      handled = !lib.fire(lib.globalTarget, event);
    }
    if (!handled) ops.log(3, `Uncaught ${lib.describeError(error)}`);
  };

  lib.errorMessage = (error) => {
    try {
      return lib.isObject(error) && typeof error.message === "string" ? error.message : lib.describeError(error);
    } catch {
      return "";
    }
  };
})
