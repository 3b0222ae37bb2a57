// What the suites share: named tests, assertions that are counted, and a Worker that runs them all for one request and
// answers with what failed. A suite's text follows this one in the same module; `tests/webapi.rs` puts them together.

const tests = [];
let assertions = 0;

function test(name, run) {
  tests.push({ name, run });
}

function show(value) {
  if (typeof value === "string") return JSON.stringify(value);
  if (value instanceof Error || value instanceof DOMException) return `${value.name}: ${value.message}`;
  if (ArrayBuffer.isView(value)) return `${value.constructor.name}[${Array.from(value)}]`;
  if (typeof value === "object" && value !== null) {
    try {
      return JSON.stringify(value) ?? String(value);
    } catch {
      return Object.prototype.toString.call(value);
    }
  }
  return String(value);
}

function same(a, b) {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Object.getPrototypeOf(a) !== Object.getPrototypeOf(b) && (Array.isArray(a) || Array.isArray(b))) return false;
  if (ArrayBuffer.isView(a) && ArrayBuffer.isView(b)) return a.length === b.length && Array.prototype.every.call(a, (x, i) => Object.is(x, b[i]));
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && same(a[key], b[key]));
}

function ok(value, message = "") {
  assertions++;
  if (!value) throw new Error(`not true: ${message}`);
}

function eq(actual, expected, message = "") {
  assertions++;
  if (!same(actual, expected)) throw new Error(`${message} got ${show(actual)}, wanted ${show(expected)}`);
}

// `wanted` is a constructor, or the name of a DOMException.
function isError(error, wanted, message) {
  if (typeof wanted === "string") {
    if (!(error instanceof DOMException) || error.name !== wanted) throw new Error(`${message} threw ${show(error)}, wanted DOMException ${wanted}`);
  } else if (typeof wanted === "function") {
    if (Object.getPrototypeOf(error) !== wanted.prototype) throw new Error(`${message} threw ${show(error)}, wanted ${wanted.name}`);
  } else if (error !== wanted) {
    throw new Error(`${message} threw ${show(error)}, wanted the very ${show(wanted)}`);
  }
}

function throws(run, wanted, message = "") {
  assertions++;
  let result;
  try {
    result = run();
  } catch (error) {
    isError(error, wanted, message);
    return;
  }
  throw new Error(`${message} gave ${show(result)}, should have thrown ${wanted?.name ?? wanted}`);
}

async function rejects(promise, wanted, message = "") {
  assertions++;
  let result;
  try {
    result = await promise;
  } catch (error) {
    isError(error, wanted, message);
    return;
  }
  throw new Error(`${message} gave ${show(result)}, should have rejected with ${wanted?.name ?? wanted}`);
}

const bytes = (...values) => new Uint8Array(values);
const utf8 = (text) => new TextEncoder().encode(text);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
// Lets every reaction that is due run.
const settle = async () => {
  for (let i = 0; i < 20; i++) await null;
};
async function readAll(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

export default {
  async fetch(request, env, ctx) {
    const failures = [];
    for (const { name, run } of tests) {
      try {
        await run(request, env, ctx);
      } catch (error) {
        failures.push(`${name}: ${error?.stack ?? error}`);
      }
    }
    return Response.json({ tests: tests.length, assertions, failures });
  },
};
