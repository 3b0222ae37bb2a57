// node:assert.
(function (ops, lib) {
  "use strict";
  lib.loadNode("node:util");
  const { deepEqual } = lib;
  const show = (value) => lib.inspect(value);

  class AssertionError extends Error {
    constructor(options) {
      const { message, actual, expected, operator = "fail", stackStartFn } = options;
      super(message ?? `${show(actual)} ${operator} ${show(expected)}`);
      this.name = "AssertionError";
      this.code = "ERR_ASSERTION";
      this.generatedMessage = message === undefined;
      this.actual = actual;
      this.expected = expected;
      this.operator = operator;
      if (stackStartFn !== undefined) Error.captureStackTrace(this, stackStartFn);
    }
  }

  function failure(message, actual, expected, operator, text, start) {
    if (message instanceof Error) throw message;
    const error = new AssertionError({ message: message ?? text, actual, expected, operator, stackStartFn: start });
    error.generatedMessage = message === undefined;
    throw error;
  }

  function ok(value, message) {
    if (!value) {
      failure(message, value, true, "==", arguments.length === 0 ? "No value argument passed to `assert.ok()`" : "The expression evaluated to a falsy value", ok);
    }
  }
  const assert = (value, message) => {
    if (!value) failure(message, value, true, "==", "The expression evaluated to a falsy value", assert);
  };

  // [name, what must hold, operator, text]
  const COMPARISONS = [
    ["equal", (a, b) => a == b || (a !== a && b !== b), "==", "Expected values to be loosely equal:"],
    ["notEqual", (a, b) => !(a == b || (a !== a && b !== b)), "!=", 'Expected "actual" to be loosely unequal to:'],
    ["strictEqual", Object.is, "strictEqual", "Expected values to be strictly equal:"],
    ["notStrictEqual", (a, b) => !Object.is(a, b), "notStrictEqual", 'Expected "actual" to be strictly unequal to:'],
    ["deepEqual", (a, b) => deepEqual(a, b, false), "deepEqual", "Expected values to be loosely deep-equal:"],
    ["notDeepEqual", (a, b) => !deepEqual(a, b, false), "notDeepEqual", 'Expected "actual" not to be loosely deep-equal to:'],
    ["deepStrictEqual", (a, b) => deepEqual(a, b, true), "deepStrictEqual", "Expected values to be strictly deep-equal:"],
    ["notDeepStrictEqual", (a, b) => !deepEqual(a, b, true), "notDeepStrictEqual", 'Expected "actual" not to be strictly deep-equal to:'],
  ];
  for (const [name, holds, operator, text] of COMPARISONS) {
    assert[name] = (actual, expected, message) => {
      if (!holds(actual, expected)) failure(message, actual, expected, operator, `${text}\n\n${show(actual)} !== ${show(expected)}\n`, assert[name]);
    };
  }

  // Whether an error is the one that was expected: a class, an expression, a predicate or an object of properties.
  function checkError(error, expected, message, start) {
    if (expected === undefined) return;
    if (typeof expected === "function") {
      if (expected.prototype !== undefined && error instanceof expected) return;
      if (Object.prototype.isPrototypeOf.call(Error, expected)) throw error;
      if (Reflect.apply(expected, {}, [error]) === true) return;
      failure(message, error, expected, "throws", "The validation function is expected to return \"true\"", start);
    }
    if (lib.nodeModules["node:util"].types.isRegExp(expected)) {
      if (RegExp.prototype.test.call(expected, String(error))) return;
      failure(message, error, expected, "throws", `The input did not match the regular expression ${show(expected)}. Input:\n\n${show(String(error))}\n`, start);
    }
    for (const key of [...Object.keys(expected), ...expected instanceof Error ? ["name", "message"] : []]) {
      const same = expected[key] instanceof RegExp && typeof error?.[key] === "string" ? expected[key].test(error[key]) : deepEqual(error?.[key], expected[key], true);
      if (!same) failure(message, error, expected, "throws", `The error's ${key} is ${show(error?.[key])}, not ${show(expected[key])}`, start);
    }
  }

  function expectation(expected, message) {
    return typeof expected === "string" ? [undefined, expected] : [expected, message];
  }

  Object.assign(assert, {
    ok,
    AssertionError,
    fail(message = "Failed") {
      if (message instanceof Error) throw message;
      throw new AssertionError({ message, operator: "fail", stackStartFn: assert.fail });
    },
    ifError(value) {
      if (value !== null && value !== undefined) {
        failure(undefined, value, null, "ifError", `ifError got unwanted exception: ${value instanceof Error ? value.message : show(value)}`, assert.ifError);
      }
    },
    match(text, expression, message) {
      if (typeof text !== "string" || !expression.test(text)) {
        failure(message, text, expression, "match", `The input did not match the regular expression ${show(expression)}. Input:\n\n${show(text)}\n`, assert.match);
      }
    },
    doesNotMatch(text, expression, message) {
      if (typeof text !== "string" || expression.test(text)) {
        failure(message, text, expression, "doesNotMatch", `The input was expected to not match the regular expression ${show(expression)}. Input:\n\n${show(text)}\n`, assert.doesNotMatch);
      }
    },
    throws(fn, expected, message) {
      [expected, message] = expectation(expected, message);
      let thrown;
      try {
        fn();
      } catch (error) {
        thrown = { error };
      }
      if (thrown === undefined) failure(message, undefined, expected, "throws", "Missing expected exception.", assert.throws);
      checkError(thrown.error, expected, message, assert.throws);
    },
    doesNotThrow(fn, expected, message) {
      [expected, message] = expectation(expected, message);
      try {
        fn();
      } catch (error) {
        failure(message, error, expected, "doesNotThrow", `Got unwanted exception.\nActual message: "${error?.message}"`, assert.doesNotThrow);
      }
    },
    async rejects(promise, expected, message) {
      [expected, message] = expectation(expected, message);
      let thrown;
      try {
        await (typeof promise === "function" ? promise() : promise);
      } catch (error) {
        thrown = { error };
      }
      if (thrown === undefined) failure(message, undefined, expected, "rejects", "Missing expected rejection.", assert.rejects);
      checkError(thrown.error, expected, message, assert.rejects);
    },
    async doesNotReject(promise, expected, message) {
      [expected, message] = expectation(expected, message);
      try {
        await (typeof promise === "function" ? promise() : promise);
      } catch (error) {
        failure(message, error, expected, "doesNotReject", `Got unwanted rejection.\nActual message: "${error?.message}"`, assert.doesNotReject);
      }
    },
  });
  const strict = Object.assign((value, message) => assert(value, message), assert, {
    equal: assert.strictEqual, notEqual: assert.notStrictEqual, deepEqual: assert.deepStrictEqual, notDeepEqual: assert.notDeepStrictEqual,
  });
  strict.strict = strict;
  assert.strict = strict;
  lib.nodeModules["node:assert"] = { ...assert, default: assert };
  lib.nodeModules["node:assert/strict"] = { ...strict, default: strict };
})
