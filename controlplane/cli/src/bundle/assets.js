// Files of a project's `assets` folder, before or behind its Worker. Above this text stand the import of their bytes, the Worker's module as
// `program` (undefined if there is none), and what is known of the files: `binding`, `paths` (to a row of `files`, or to the path that has
// its place), `files` (begin, end, type, tag), `missing`, `first`, `navigation`; and what `_redirects` and `_headers` say, `redirects` (`paths`, and
// `rules` of expression, destination and status) and `headers` (whether of a host too, expression, what is set, what is taken away).

const contents = new Uint8Array(bytes);
const entrypoint = program?.default;

const exact = new Map(Object.entries(redirects.paths));
const patterns = redirects.rules.map(([source, to, status]) => ({ expression: new RegExp(source), to, status }));
const additions = headers.map(([absolute, source, set, unset]) => ({ absolute, expression: new RegExp(source), set, unset }));

// What a rule says, with the parts of the path in their places.
const filled = (text, groups) => text.replace(/:([A-Za-z]\w*)/g, (whole, name) => groups?.[name] ?? whole);

// Where `_redirects` leads from a path: destination and status.
function redirected(pathname) {
  const found = exact.get(pathname);
  if (found !== undefined) return found;
  for (const { expression, to, status } of patterns) {
    const match = expression.exec(pathname);
    if (match === null) continue;
    const target = filled(to, match.groups);
    return [/^\w+:\/\//.test(target) ? target : target.replace(/\/+/g, "/"), status];
  }
  return undefined;
}

// The response with what `_headers` says of the request.
function withHeaders(request, response) {
  if (additions.length === 0) return response;
  const { hostname, pathname } = new URL(request.url);
  const set = new Set();
  for (const rule of additions) {
    const match = rule.expression.exec(rule.absolute ? `https://${hostname}${pathname}` : pathname);
    if (match === null) continue;
    for (const name of rule.unset) response.headers.delete(name);
    for (const [name, value] of rule.set) {
      // It takes the place of ours, and joins another rule's.
      if (set.has(name)) response.headers.append(name, filled(value, match.groups));
      else response.headers.set(name, filled(value, match.groups));
      set.add(name);
    }
  }
  return response;
}

// Whether a field of entity tags has this one (RFC 9110 section 8.8.3); `weak`: weak ones count too.
function hasTag(field, tag, weak) {
  if (field.trim() === "*") return true;
  const tags = field.match(/(?:W\/)?"[^"]*"/g) ?? [];
  return tags.some((one) => one === tag || (weak && one === `W/${tag}`));
}

// The part that a request wants (RFC 9110 section 14): begin and end; undefined: the whole, null: what is not there. One range at most is
// taken: of several the whole is the answer.
function partOf(request, tag, size) {
  const range = /^bytes=[ \t]*(\d*)-(\d*)[ \t]*$/i.exec(request.headers.get("Range") ?? "");
  if (range === null || request.method !== "GET") return undefined;
  const condition = request.headers.get("If-Range");
  if (condition !== null && condition.trim() !== tag) return undefined;
  const [, first, last] = range;
  if (first === "") {
    if (last === "" || size === 0) return undefined;
    return Number(last) === 0 ? null : [Math.max(0, size - Number(last)), size];
  }
  if (last !== "" && Number(last) < Number(first)) return undefined;
  if (Number(first) >= size) return null;
  return [Number(first), last === "" ? size : Math.min(Number(last) + 1, size)];
}

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

// A response with a file, as the request wants it.
function file(request, row, status) {
  const [begin, end, type, tag] = files[row];
  const quoted = `"${tag}"`;
  const size = end - begin;
  const fields = new Headers({ ETag: quoted });
  if (type !== null) fields.set("Content-Type", type);
  if (!request.headers.has("Authorization") && !request.headers.has("Range")) fields.set("Cache-Control", "public, max-age=0, must-revalidate");
  if (status === 200) {
    fields.set("Accept-Ranges", "bytes");
    const wanted = request.headers.get("If-Match");
    if (wanted !== null && !hasTag(wanted, quoted, false)) return new Response(null, { status: 412 });
  }
  const known = request.headers.get("If-None-Match");
  if (known !== null && hasTag(known, quoted, true)) return new Response(null, { status: 304, headers: fields });
  if (request.method === "HEAD") {
    fields.set("Content-Length", String(size));
    return new Response(null, { status, headers: fields });
  }
  const part = status === 200 ? partOf(request, quoted, size) : undefined;
  if (part === undefined) return new Response(contents.subarray(begin, end), { status, headers: fields });
  if (part === null) return new Response(null, { status: 416, headers: { "Content-Range": `bytes */${size}`, "Accept-Ranges": "bytes" } });
  fields.set("Content-Range", `bytes ${part[0]}-${part[1] - 1}/${size}`);
  return new Response(contents.subarray(begin + part[0], begin + part[1]), { status: 206, headers: fields });
}

// The redirect to another place of the site, or out of it; what the rule says of a query comes before the request's.
function redirection(url, destination, status) {
  const { origin, pathname, search, hash } = destination;
  const location = (origin === url.origin ? "" : origin) + pathname + (search || url.search) + hash;
  return new Response(null, { status, headers: { Location: location } });
}

// The answer of files and redirects; none: there is nothing for the request.
function answer(request, substitute) {
  const url = new URL(request.url);
  const rule = redirected(url.pathname);
  const destination = rule === undefined ? null : URL.parse(rule[0], url);
  if (destination !== null && rule[1] !== 200) return redirection(url, destination, rule[1]);
  const found = find((destination ?? url).pathname, substitute);
  if (found === undefined) return destination === null ? undefined : new Response(null, { status: 404 });
  if (request.method !== "GET" && request.method !== "HEAD") return new Response(null, { status: 405, headers: { Allow: "GET, HEAD" } });
  const [place, status] = found;
  if (typeof place !== "string") return file(request, place, status);
  const location = place.split("/").map(encodeURIComponent).join("/") + url.search;
  return new Response(null, { status: 307, headers: { Location: location } });
}

function serve(request, substitute) {
  const response = answer(request, substitute);
  return response === undefined ? undefined : withHeaders(request, response);
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
    const request = new Request(input, init);
    return serve(request, true) ?? withHeaders(request, new Response(null, { status: 404 }));
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
