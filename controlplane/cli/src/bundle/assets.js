// Files of a project's `assets` folder, before or behind its Worker. Above this text stand the import of their bytes, the Worker's module as
// `program` (undefined if there is none), and what is known of the files: `binding`, `paths` (to a row of `files`, or to the path that has
// its place), `files` (begin, end, type, tag), `missing`, `first`, `navigation`.

const contents = new Uint8Array(bytes);
const entrypoint = program?.default;

function decoded(pathname) {
  try {
    return decodeURIComponent(pathname);
  } catch {
    return pathname;
  }
}

// What is at a path, or instead of it: a row, or a path; with its status.
function find(pathname, substitute) {
  const found = paths[decoded(pathname)];
  if (found !== undefined) return [found, 200];
  if (!substitute || missing === "none") return undefined;
  if (missing === "single-page-application") return index === undefined ? undefined : [index, 200];
  for (let at = pathname; at !== ""; ) {
    at = at.slice(0, at.lastIndexOf("/"));
    const page = pages[`${decoded(at)}/404.html`];
    if (page !== undefined) return [page, 404];
  }
  return undefined;
}

// The answer, if there is a file for the request.
function serve(request, substitute) {
  const url = new URL(request.url);
  const found = find(url.pathname, substitute);
  if (found === undefined) return undefined;
  if (request.method !== "GET" && request.method !== "HEAD") return new Response(null, { status: 405 });
  const [place, status] = found;
  if (typeof place === "string") {
    const location = place.split("/").map(encodeURIComponent).join("/") + url.search;
    return new Response(null, { status: 307, headers: { Location: location } });
  }
  const [begin, end, type, tag] = files[place];
  const headers = new Headers({ ETag: `"${tag}"` });
  if (type !== null) headers.set("Content-Type", type);
  if (!request.headers.has("Authorization") && !request.headers.has("Range")) headers.set("Cache-Control", "public, max-age=0, must-revalidate");
  const known = request.headers.get("If-None-Match");
  if (known === `"${tag}"` || known === `W/"${tag}"`) return new Response(null, { status: 304, headers });
  return new Response(request.method === "HEAD" ? null : contents.subarray(begin, end), { status, headers });
}

function matches(rule, pathname) {
  const parts = rule.split("*");
  if (parts.length === 1) return pathname === rule;
  const last = parts.pop();
  if (!pathname.startsWith(parts[0])) return false;
  let at = parts[0].length;
  for (const part of parts.slice(1)) {
    const next = pathname.indexOf(part, at);
    if (next < 0) return false;
    at = next + part.length;
  }
  return pathname.length >= at + last.length && pathname.endsWith(last);
}

// The file that answers before the Worker is asked; none: the Worker is.
function before(request) {
  let substitute = navigation && request.headers.get("Sec-Fetch-Mode") === "navigate";
  if (first === true) return undefined;
  if (first !== false) {
    const { pathname } = new URL(request.url);
    const any = (rules) => rules.some((rule) => matches(rule, pathname));
    if (!any(first.assets) && any(first.worker)) return undefined;
    substitute = true;
  }
  return serve(request, substitute);
}

const assets = {
  async fetch(input, init) {
    return serve(new Request(input, init), true) ?? new Response(null, { status: 404 });
  },
};

function withAssets(env) {
  if (binding !== null && !Object.hasOwn(env, binding)) {
    Object.defineProperty(env, binding, { value: assets, writable: true, enumerable: true, configurable: true });
  }
  return env;
}

function around(own) {
  if (own === undefined) return { fetch: (request) => assets.fetch(request) };
  if (typeof own === "function") {
    return class extends own {
      constructor(ctx, env) {
        super(ctx, withAssets(env));
      }
      fetch(request) {
        return before(request) ?? super.fetch(request);
      }
    };
  }
  const worker = {};
  for (const name of ["scheduled", "queue", "email", "tail", "trace"]) {
    if (typeof own[name] === "function") worker[name] = (event, env, ctx) => own[name](event, withAssets(env), ctx);
  }
  worker.fetch = (request, env, ctx) => before(request) ?? own.fetch(request, withAssets(env), ctx);
  return worker;
}

export default around(entrypoint);
