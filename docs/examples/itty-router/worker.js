// node_modules/itty-router/index.mjs
var t = ({ base: e = "", routes: t2 = [], ...r2 } = {}) => ({ __proto__: new Proxy({}, { get: (r3, o2, a2, s2) => (r4, ...n2) => t2.push([o2.toUpperCase?.(), RegExp(`^${(s2 = (e + r4).replace(/\/+(\/|$)/g, "$1")).replace(/(\/?\.?):(\w+)\+/g, "($1(?<$2>*))").replace(/(\/?\.?):(\w+)/g, "($1(?<$2>[^$1/]+?))").replace(/\./g, "\\.").replace(/(\/?)\*/g, "($1.*)?")}/*$`), n2, s2]) && a2 }), routes: t2, ...r2, async fetch(e2, ...o2) {
  let a2, s2, n2 = new URL(e2.url), c2 = e2.query = { __proto__: null };
  for (let [e3, t3] of n2.searchParams) c2[e3] = c2[e3] ? [].concat(c2[e3], t3) : t3;
  e: try {
    for (let t3 of r2.before || []) if (null != (a2 = await t3(e2.proxy ?? e2, ...o2))) break e;
    t: for (let [r3, c3, l, i2] of t2) if ((r3 == e2.method || "ALL" == r3) && (s2 = n2.pathname.match(c3))) {
      e2.params = s2.groups || {}, e2.route = i2;
      for (let t3 of l) if (null != (a2 = await t3(e2.proxy ?? e2, ...o2))) break t;
    }
  } catch (t3) {
    if (!r2.catch) throw t3;
    a2 = await r2.catch(t3, e2.proxy ?? e2, ...o2);
  }
  try {
    for (let t3 of r2.finally || []) a2 = await t3(a2, e2.proxy ?? e2, ...o2) ?? a2;
  } catch (t3) {
    if (!r2.catch) throw t3;
    a2 = await r2.catch(t3, e2.proxy ?? e2, ...o2);
  }
  return a2;
} });
var r = (e = "text/plain; charset=utf-8", t2) => (r2, { ...o2 } = {}) => {
  if (void 0 === r2 || r2 instanceof Response) return r2;
  const a2 = new Response(t2?.(r2) ?? r2, o2);
  return a2.headers.set("content-type", e), a2;
};
var o = r("application/json; charset=utf-8", JSON.stringify);
var a = (e) => ({ 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 500: "Internal Server Error" })[e] || "Unknown Error";
var s = (e = 500, t2) => {
  if (e instanceof Error) {
    const { message: r2, ...o2 } = e;
    e = e.status || 500, t2 = { error: r2 || a(e), ...o2 };
  }
  return t2 = { status: e, ..."object" == typeof t2 ? t2 : { error: t2 || a(e) } }, o(t2, { status: e });
};
var n = (e) => {
  e.proxy = new Proxy(e.proxy || e, { get: (t2, r2) => void 0 !== t2[r2] ? t2[r2].bind?.(e) || t2[r2] : t2?.params?.[r2] });
};
var c = ({ format: e = o, missing: r2 = (() => s(404)), finally: a2 = [], before: c2 = [], ...l } = {}) => t({ before: [n, ...c2], catch: s, finally: [(e2, ...t2) => e2 ?? r2(e2, ...t2), e, ...a2], ...l });
var i = (e, t2) => new Response(null, { ...t2, status: e });
var p = r("text/plain; charset=utf-8", String);
var f = r("text/html");
var u = r("image/jpeg");
var h = r("image/png");
var g = r("image/webp");
var d = async (e) => {
  e.content = e.body ? await e.clone().json().catch((() => e.clone().formData())).catch((() => e.text())) : void 0;
};
var w = (e) => {
  e.cookies = (e.headers.get("Cookie") || "").split(/;\s*/).map(((e2) => e2.split(/=(.+)/))).reduce(((e2, [t2, r2]) => r2 ? (e2[t2] = r2, e2) : e2), {});
};
var y = (e = {}) => {
  const { origin: t2 = "*", credentials: r2 = false, allowMethods: o2 = "*", allowHeaders: a2, exposeHeaders: s2, maxAge: n2 } = e, c2 = { "access-control-allow-headers": a2?.join?.(",") ?? a2, "access-control-expose-headers": s2?.join?.(",") ?? s2, "access-control-allow-methods": o2?.join?.(",") ?? o2, "access-control-max-age": n2, "access-control-allow-credentials": r2 }, l = (e2) => {
    const o3 = e2?.headers.get("origin");
    return true === t2 ? o3 : t2 instanceof RegExp ? t2.test(o3) ? o3 : void 0 : Array.isArray(t2) ? t2.includes(o3) ? o3 : void 0 : t2 instanceof Function ? t2(o3) : "*" == t2 && r2 ? o3 : t2;
  };
  return { corsify: (e2, t3) => e2?.headers?.get("access-control-allow-origin") ? e2 : new Response(e2.body, { ...e2, headers: [...e2.headers, ["access-control-allow-origin", l(t3)], ...Object.entries(c2)].filter(((e3) => e3[1])) }), preflight: (e2) => {
    if ("OPTIONS" == e2.method) return new Response(null, { status: 204, headers: Object.entries({ "access-control-allow-origin": l(e2), ...c2 }).filter(((e3) => e3[1])) });
  } };
};

// src/index.js
var { preflight, corsify } = y({
  origin: ["https://app.example"],
  credentials: true,
  allowMethods: ["GET", "POST", "PATCH", "DELETE"],
  maxAge: 600
});
var withUser = (request) => {
  const [scheme, encoded] = (request.headers.get("authorization") ?? "").split(" ");
  if (scheme !== "Basic" || encoded === void 0) return unauthorized();
  const [name, password] = atob(encoded).split(":");
  if (password !== "lovelace") return unauthorized();
  request.user = { name };
};
var unauthorized = () => new Response("who are you?\n", { status: 401, headers: { "www-authenticate": 'Basic realm="itty"' } });
var todos = /* @__PURE__ */ new Map([[1, { id: 1, title: "weave", done: false }], [2, { id: 2, title: "cut", done: true }]]);
var todoRouter = t({ base: "/todos" });
todoRouter.all("*", n).get("/", ({ query }) => {
  const all = [...todos.values()];
  return o(query.done === void 0 ? all : all.filter((todo) => todo.done === (query.done === "true")));
}).get("/:id", ({ id }) => {
  const todo = todos.get(Number(id));
  return todo === void 0 ? s(404, "no such todo") : o(todo);
}).post("/", d, ({ content }) => {
  if (typeof content?.title !== "string") return s(400, { error: "title is required", field: "title" });
  return o({ id: 3, done: false, title: content.title }, { status: 201, headers: { location: "/todos/3" } });
}).patch("/:id", d, ({ id, content }) => {
  const todo = todos.get(Number(id));
  return todo === void 0 ? s(404) : o({ ...todo, ...content });
}).delete("/:id", () => i(204));
var router = c({
  before: [preflight, w],
  // corsify makes a new response of status 200: only for those.
  finally: [(response, request) => response.status === 200 && request.headers.has("origin") ? corsify(response, request) : response],
  catch: (fault) => {
    if (fault.status !== void 0) return s(fault);
    console.error(fault);
    return s(500, "internal");
  }
});
router.get("/", (request, env) => p(`${env.GREETING ?? "Hi"} from itty-router
`)).get("/json", () => ({ plain: "objects", become: ["JSON"] })).get("/page", ({ query }) => f(`<h1>${query.title ?? "none"}</h1>`)).get("/hello/:name", ({ name }) => `Hello, ${name}!`).get("/optional/:name?", ({ params }) => ({ name: params.name ?? null })).get("/files/:path+", ({ path }) => ({ path })).get("/image.:format", ({ format }) => ({ format })).get("/query", ({ query }) => query).get("/cookies", ({ cookies }) => cookies).get("/set-cookie", () => {
  const response = new Response("set");
  response.headers.append("set-cookie", "a=1; Path=/");
  response.headers.append("set-cookie", "b=2; HttpOnly");
  return response;
}).get("/me", withUser, ({ user }) => user).get("/pixel", () => h(Uint8Array.from(atob("iVBORw0KGgo="), (c2) => c2.charCodeAt(0)))).get("/throw", () => {
  throw new Error("a secret of the program");
}).get("/gone", () => s(410, "it was here yesterday")).get("/later", (request, env, ctx) => {
  ctx.waitUntil(Promise.resolve());
  return "queued";
}).get("/slow", async () => {
  await new Promise((resolve) => setTimeout(resolve, 2));
  return { slept: true };
}).get("/stream", () => {
  const words = ["warp", "weft", "selvage"];
  const body = new ReadableStream({
    pull(controller) {
      const word = words.shift();
      if (word === void 0) controller.close();
      else controller.enqueue(`${word}
`);
    }
  });
  return new Response(body.pipeThrough(new TextEncoderStream()), { headers: { "content-type": "text/plain" } });
}).get("/clone", async () => {
  const first = new Response("twice");
  const second = first.clone();
  return { first: await first.text(), second: await second.text() };
}).post("/echo", d, ({ content }) => ({ content })).post("/form", async (request) => {
  const form = await request.formData();
  const shown = {};
  for (const [name, value] of form) shown[name] = typeof value === "string" ? value : { file: value.name, size: value.size };
  return shown;
}).post("/length", async (request) => ({ bytes: (await request.arrayBuffer()).byteLength })).all("/todos/*", todoRouter.fetch).all("/method", ({ method }) => ({ method }));
var index_default = router;
export {
  index_default as default
};
