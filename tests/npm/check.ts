// A Worker that is a list of checks: `GET /` gives their names, `GET /<name>` runs one: 200 "ok", or 500 with the reason.

type Check = (request: Request) => unknown;

export function checks(list: Record<string, Check>) {
  return {
    async fetch(request: Request): Promise<Response> {
      const name = decodeURIComponent(new URL(request.url).pathname.slice(1));
      if (name === "") return Response.json(Object.keys(list));
      const check = list[name];
      if (check === undefined) return new Response("no such check", { status: 404 });
      try {
        await check(request);
        return new Response("ok");
      } catch (error) {
        return new Response(error instanceof Error ? `${error}\n${error.stack}` : String(error), { status: 500 });
      }
    },
  };
}

export function equal(actual: unknown, expected: unknown, what = "value"): void {
  if (!same(actual, expected)) throw new Error(`${what}: ${show(expected)} expected, got ${show(actual)}`);
}

export function ok(condition: unknown, what: string): asserts condition {
  if (!condition) throw new Error(`${what} does not hold`);
}

export async function fails(work: () => unknown, pattern: RegExp): Promise<void> {
  try {
    await work();
  } catch (error) {
    ok(pattern.test(String(error)), `${pattern} in ${error}`);
    return;
  }
  throw new Error(`no failure with ${pattern}`);
}

export const utf8 = (text: string) => new TextEncoder().encode(text);

function show(value: unknown): string {
  return value instanceof Uint8Array ? `bytes ${[...value]}` : (JSON.stringify(value) ?? String(value));
}

function same(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (a instanceof Date && b instanceof Date) return a.getTime() === b.getTime();
  if (a instanceof Map && b instanceof Map) return same([...a], [...b]);
  if (a instanceof Set && b instanceof Set) return same([...a], [...b]);
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const keys = Object.keys(a).sort();
  if (!Object.keys(b).sort().every((key, i) => key === keys[i]) || keys.length !== Object.keys(b).length) return false;
  return keys.every((key) => same((a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key]));
}
