// node:process: what programs look at to learn where they run. Nothing of the host is in it.
(function (ops, lib) {
  "use strict";
  lib.loadNode("node:events");
  const { EventEmitter } = lib.nodeModules["node:events"];

  const started = ops.monotonicMs();
  const hrtime = (before = undefined) => {
    const ms = ops.monotonicMs();
    let [seconds, nanos] = [Math.floor(ms / 1000), Math.round(ms % 1000 * 1e6)];
    if (before !== undefined) {
      seconds -= before[0];
      nanos -= before[1];
      if (nanos < 0) [seconds, nanos] = [seconds - 1, nanos + 1e9];
    }
    return [seconds, nanos];
  };
  hrtime.bigint = () => BigInt(Math.round(ops.monotonicMs() * 1e6));

  const process = new EventEmitter();
  // The Worker's variables that are strings, as its handlers find them in `env`.
  const env = lib.envStrings();
  Object.assign(process, {
    env,
    argv: ["workerd"],
    argv0: "workerd",
    execArgv: [],
    arch: "x64",
    platform: "linux",
    pid: 1,
    ppid: 0,
    title: "workerd",
    version: "v22.0.0",
    versions: { node: "22.0.0" },
    release: { name: "node" },
    config: {},
    features: {},
    exitCode: undefined,
    cwd: () => "/",
    uptime: () => (ops.monotonicMs() - started) / 1000,
    hrtime,
    nextTick(callback, ...args) {
      if (typeof callback !== "function") {
        throw Object.assign(new TypeError(`The "callback" argument must be of type function. Received ${callback === null ? "null" : typeof callback}`), { code: "ERR_INVALID_ARG_TYPE" });
      }
      queueMicrotask(() => callback(...args));
    },
    emitWarning(warning) {
      console.warn(warning instanceof Error ? `${warning.name}: ${warning.message}` : `Warning: ${warning}`);
    },
    getBuiltinModule: (name) => lib.nodeModule(name)?.default,
    exit() {
      throw new Error("A Worker cannot end its process");
    },
    umask: () => 0o22,
  });
  lib.nodeModules["node:process"] = { ...process, default: process };
})
