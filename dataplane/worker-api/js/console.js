// console (WHATWG Console): to the Worker's log stream.
//
// Owns counters, timers and groups of the console; they belong to the isolate. Text past the log's limit is cut by
// `ops.log`.
(function (ops, lib) {
  "use strict";
  const {
    ArrayIsArray, ArrayPrototypePush, Map, MapPrototypeDelete, MapPrototypeGet, MapPrototypeHas, MapPrototypeSet,
    MathRound, Number, ObjectDefineProperty, ObjectGetOwnPropertyDescriptor, ObjectKeys, StringPrototypeIndexOf, StringPrototypePadEnd,
    StringPrototypeRepeat, StringPrototypeSlice, SymbolToStringTag, Error,
  } = lib.p;
  const ParseFloat = parseFloat;
  const captureStackTrace = Error.captureStackTrace;
  const parseInteger = parseInt;

  const DEBUG = 0;
  const INFO = 1;
  const WARN = 2;
  const ERROR = 3;
  // Labels of count and time that are held; further ones are not.
  const LABELS_MAX = 1000;
  const GROUPS_MAX = 32;

  let groups = 0;

  // Formatter: %s %d %i %f %o %O %c %% in the first argument, the rest after a space.
  lib.formatLog = (args) => formatArgs(args);
  function formatArgs(args) {
    let text = "";
    let next = 0;
    if (typeof args[0] === "string") {
      next = 1;
      text = args.length === 1 ? args[0] : substitute(args);
      next = args.length === 1 ? 1 : taken;
    }
    for (let i = next; i < args.length; i++) {
      const shown = typeof args[i] === "string" ? args[i] : lib.inspect(args[i]);
      text = i === 0 ? shown : `${text} ${shown}`;
    }
    return text;
  }

  // How many arguments the last call of `substitute` used.
  let taken = 0;
  function substitute(args) {
    const format = args[0];
    let out = "";
    let start = 0;
    taken = 1;
    let at = StringPrototypeIndexOf(format, "%");
    while (at !== -1 && at + 1 < format.length) {
      const c = format[at + 1];
      let shown;
      if (c === "%") {
        shown = "%";
      } else if (taken < args.length) {
        const arg = args[taken];
        if (c === "s") shown = typeof arg === "string" ? arg : typeof arg === "object" && arg !== null ? lib.inspect(arg, 0) : lib.inspect(arg);
        else if (c === "d" || c === "i") shown = numberText(arg, c === "i");
        else if (c === "f") shown = typeof arg === "symbol" || typeof arg === "object" ? "NaN" : `${ParseFloat(arg)}`;
        else if (c === "o" || c === "O") shown = lib.inspect(arg, 4);
        else if (c === "c") shown = "";
        if (shown !== undefined) taken++;
      }
      if (shown !== undefined) {
        out += StringPrototypeSlice(format, start, at) + shown;
        start = at + 2;
      }
      at = StringPrototypeIndexOf(format, "%", at + 2);
    }
    return out + StringPrototypeSlice(format, start);
  }

  function numberText(value, integer) {
    if (typeof value === "bigint") return `${value}n`;
    if (typeof value === "symbol" || (typeof value === "object" && value !== null)) return "NaN";
    return `${integer ? parseInteger(value, 10) : Number(value)}`;
  }

  function write(level, text) {
    if (groups === 0) {
      ops.log(level, text);
      return;
    }
    const margin = StringPrototypeRepeat("  ", groups);
    let out = "";
    let start = 0;
    for (let at = StringPrototypeIndexOf(text, "\n"); at !== -1; at = StringPrototypeIndexOf(text, "\n", start)) {
      out += `${margin}${StringPrototypeSlice(text, start, at + 1)}`;
      start = at + 1;
    }
    ops.log(level, `${out}${margin}${StringPrototypeSlice(text, start)}`);
  }

  const log = (level, args) => {
    if (args.length > 0) write(level, formatArgs(args));
  };

  const counts = new Map();
  const times = new Map();
  const labelOf = (label) => label === undefined ? "default" : lib.domString(label);

  function duration(label) {
    const ms = ops.monotonicMs() - MapPrototypeGet(times, label);
    return `${label}: ${MathRound(ms * 1000) / 1000}ms`;
  }

  // Rows and columns of console.table; undefined where the data is no table.
  function tableText(data, only) {
    if (!lib.isObject(data) || typeof data === "function" || ops.valueKind(data) === lib.KIND.PROXY) return undefined;
    const rows = [];
    const columns = [];
    let hasValues = false;
    const keys = ObjectKeys(data);
    for (let i = 0; i < keys.length && i < 100; i++) {
      const value = ObjectGetOwnPropertyDescriptor(data, keys[i])?.value;
      const row = { __proto__: null, index: keys[i], cells: new Map(), value: undefined };
      if (lib.isObject(value) && typeof value !== "function" && ops.valueKind(value) !== lib.KIND.PROXY) {
        const fields = only ?? ObjectKeys(value);
        for (let j = 0; j < fields.length && j < 100; j++) {
          const field = lib.domString(fields[j]);
          if (!includes(columns, field)) ArrayPrototypePush(columns, field);
          const desc = ObjectGetOwnPropertyDescriptor(value, field);
          if (desc !== undefined) MapPrototypeSet(row.cells, field, desc.get === undefined ? lib.inspect(desc.value, 0) : "[Getter]");
        }
      } else {
        row.value = lib.inspect(value, 0);
        hasValues = true;
      }
      ArrayPrototypePush(rows, row);
    }
    return drawTable(rows, columns, hasValues);
  }

  function includes(list, text) {
    for (let i = 0; i < list.length; i++) if (list[i] === text) return true;
    return false;
  }

  function drawTable(rows, columns, hasValues) {
    const head = ["(index)"];
    for (let i = 0; i < columns.length; i++) ArrayPrototypePush(head, columns[i]);
    if (hasValues) ArrayPrototypePush(head, "Values");
    const lines = [head];
    for (let i = 0; i < rows.length; i++) {
      const line = [rows[i].index];
      for (let j = 0; j < columns.length; j++) ArrayPrototypePush(line, MapPrototypeGet(rows[i].cells, columns[j]) ?? "");
      if (hasValues) ArrayPrototypePush(line, rows[i].value ?? "");
      ArrayPrototypePush(lines, line);
    }
    const widths = [];
    for (let j = 0; j < head.length; j++) {
      let width = 0;
      for (let i = 0; i < lines.length; i++) if (lines[i][j].length > width) width = lines[i][j].length;
      ArrayPrototypePush(widths, width);
    }
    const rule = (left, middle, right) => {
      let text = left;
      for (let j = 0; j < widths.length; j++) text += `${j === 0 ? "" : middle}${StringPrototypeRepeat("\u2500", widths[j] + 2)}`;
      return text + right;
    };
    let text = rule("\u250c", "\u252c", "\u2510");
    for (let i = 0; i < lines.length; i++) {
      text += "\n\u2502";
      for (let j = 0; j < widths.length; j++) text += ` ${StringPrototypePadEnd(lines[i][j], widths[j])} \u2502`;
      if (i === 0) text += `\n${rule("\u251c", "\u253c", "\u2524")}`;
    }
    return `${text}\n${rule("\u2514", "\u2534", "\u2518")}`;
  }

  const methods = {
    log(...data) {
      log(INFO, data);
    },
    info(...data) {
      log(INFO, data);
    },
    debug(...data) {
      log(DEBUG, data);
    },
    warn(...data) {
      log(WARN, data);
    },
    error(...data) {
      log(ERROR, data);
    },
    trace(...data) {
      const here = { __proto__: null, stack: "" };
      captureStackTrace(here, methods.trace);
      const at = StringPrototypeIndexOf(here.stack, "\n");
      write(DEBUG, `Trace${data.length > 0 ? `: ${formatArgs(data)}` : ""}${at === -1 ? "" : StringPrototypeSlice(here.stack, at)}`);
    },
    assert(condition = false, ...data) {
      if (condition) return;
      if (data.length === 0) write(ERROR, "Assertion failed");
      else if (typeof data[0] === "string") {
        data[0] = `Assertion failed: ${data[0]}`;
        write(ERROR, formatArgs(data));
      } else write(ERROR, `Assertion failed: ${formatArgs(data)}`);
    },
    clear() {
      groups = 0;
    },
    count(label = "default") {
      const name = labelOf(label);
      if (!MapPrototypeHas(counts, name) && lib.p.MapPrototypeGetSize(counts) >= LABELS_MAX) return;
      const count = (MapPrototypeGet(counts, name) ?? 0) + 1;
      MapPrototypeSet(counts, name, count);
      write(INFO, `${name}: ${count}`);
    },
    countReset(label = "default") {
      const name = labelOf(label);
      if (!MapPrototypeDelete(counts, name)) write(WARN, `Count for '${name}' does not exist`);
    },
    time(label = "default") {
      const name = labelOf(label);
      if (MapPrototypeHas(times, name)) write(WARN, `Timer '${name}' already exists`);
      else if (lib.p.MapPrototypeGetSize(times) < LABELS_MAX) MapPrototypeSet(times, name, ops.monotonicMs());
    },
    timeLog(label = "default", ...data) {
      const name = labelOf(label);
      if (!MapPrototypeHas(times, name)) write(WARN, `Timer '${name}' does not exist`);
      else write(INFO, data.length === 0 ? duration(name) : `${duration(name)} ${formatArgs(data)}`);
    },
    timeEnd(label = "default") {
      const name = labelOf(label);
      if (!MapPrototypeHas(times, name)) write(WARN, `Timer '${name}' does not exist`);
      else {
        write(INFO, duration(name));
        MapPrototypeDelete(times, name);
      }
    },
    timeStamp() {},
    profile() {},
    profileEnd() {},
    table(data = undefined, columns = undefined) {
      const text = tableText(data, ArrayIsArray(columns) ? columns : undefined);
      write(INFO, text ?? formatArgs([data]));
    },
    dir(item = undefined, options = undefined) {
      const depth = lib.isObject(options) && typeof options.depth === "number" ? options.depth : 2;
      write(INFO, lib.inspect(item, depth));
    },
    dirxml(...data) {
      log(INFO, data);
    },
    group(...data) {
      log(INFO, data);
      if (groups < GROUPS_MAX) groups++;
    },
    groupCollapsed(...data) {
      log(INFO, data);
      if (groups < GROUPS_MAX) groups++;
    },
    groupEnd() {
      if (groups > 0) groups--;
    },
  };

  // A namespace object: its prototype is an empty object of its own.
  const console = lib.p.ObjectCreate({});
  const names = ObjectKeys(methods);
  for (let i = 0; i < names.length; i++) {
    ObjectDefineProperty(console, names[i], { __proto__: null, value: methods[names[i]], writable: true, configurable: true, enumerable: true });
  }
  ObjectDefineProperty(console, SymbolToStringTag, { __proto__: null, value: "console", configurable: true });
  lib.defineGlobal("console", console);
})
