// A small API with itty-router: AutoRouter, nested routers, cookies, CORS and errors.
import { AutoRouter, Router, cors, error, html, json, png, status, text, withContent, withCookies, withParams } from "itty-router";

const { preflight, corsify } = cors({
  origin: ["https://app.example"],
  credentials: true,
  allowMethods: ["GET", "POST", "PATCH", "DELETE"],
  maxAge: 600,
});

// A guard: what a middleware returns is the answer.
const withUser = (request) => {
  const [scheme, encoded] = (request.headers.get("authorization") ?? "").split(" ");
  if (scheme !== "Basic" || encoded === undefined) return unauthorized();
  const [name, password] = atob(encoded).split(":");
  if (password !== "lovelace") return unauthorized();
  request.user = { name };
};
const unauthorized = () => new Response("who are you?\n", { status: 401, headers: { "www-authenticate": 'Basic realm="itty"' } });

const todos = new Map([[1, { id: 1, title: "weave", done: false }], [2, { id: 2, title: "cut", done: true }]]);

const todoRouter = Router({ base: "/todos" });
todoRouter
  .all("*", withParams)
  .get("/", ({ query }) => {
    const all = [...todos.values()];
    return json(query.done === undefined ? all : all.filter((todo) => todo.done === (query.done === "true")));
  })
  .get("/:id", ({ id }) => {
    const todo = todos.get(Number(id));
    return todo === undefined ? error(404, "no such todo") : json(todo);
  })
  .post("/", withContent, ({ content }) => {
    if (typeof content?.title !== "string") return error(400, { error: "title is required", field: "title" });
    return json({ id: 3, done: false, title: content.title }, { status: 201, headers: { location: "/todos/3" } });
  })
  .patch("/:id", withContent, ({ id, content }) => {
    const todo = todos.get(Number(id));
    return todo === undefined ? error(404) : json({ ...todo, ...content });
  })
  .delete("/:id", () => status(204));

const router = AutoRouter({
  before: [preflight, withCookies],
  // corsify makes a new response of status 200: only for those.
  finally: [(response, request) => (response.status === 200 && request.headers.has("origin") ? corsify(response, request) : response)],
  catch: (fault) => {
    if (fault.status !== undefined) return error(fault);
    console.error(fault);
    return error(500, "internal");
  },
});

router
  .get("/", (request, env) => text(`${env.GREETING ?? "Hi"} from itty-router\n`))
  .get("/json", () => ({ plain: "objects", become: ["JSON"] }))
  .get("/page", ({ query }) => html(`<h1>${query.title ?? "none"}</h1>`))
  .get("/hello/:name", ({ name }) => `Hello, ${name}!`)
  .get("/optional/:name?", ({ params }) => ({ name: params.name ?? null }))
  .get("/files/:path+", ({ path }) => ({ path }))
  .get("/image.:format", ({ format }) => ({ format }))
  .get("/query", ({ query }) => query)
  .get("/cookies", ({ cookies }) => cookies)
  .get("/set-cookie", () => {
    const response = new Response("set");
    response.headers.append("set-cookie", "a=1; Path=/");
    response.headers.append("set-cookie", "b=2; HttpOnly");
    return response;
  })
  .get("/me", withUser, ({ user }) => user)
  .get("/pixel", () => png(Uint8Array.from(atob("iVBORw0KGgo="), (c) => c.charCodeAt(0))))
  .get("/throw", () => {
    throw new Error("a secret of the program");
  })
  .get("/gone", () => error(410, "it was here yesterday"))
  .get("/later", (request, env, ctx) => {
    ctx.waitUntil(Promise.resolve());
    return "queued";
  })
  .get("/slow", async () => {
    await new Promise((resolve) => setTimeout(resolve, 2));
    return { slept: true };
  })
  .get("/stream", () => {
    const words = ["warp", "weft", "selvage"];
    const body = new ReadableStream({
      pull(controller) {
        const word = words.shift();
        if (word === undefined) controller.close();
        else controller.enqueue(`${word}\n`);
      },
    });
    return new Response(body.pipeThrough(new TextEncoderStream()), { headers: { "content-type": "text/plain" } });
  })
  .get("/clone", async () => {
    const first = new Response("twice");
    const second = first.clone();
    return { first: await first.text(), second: await second.text() };
  })
  .post("/echo", withContent, ({ content }) => ({ content }))
  .post("/form", async (request) => {
    const form = await request.formData();
    const shown = {};
    for (const [name, value] of form) shown[name] = typeof value === "string" ? value : { file: value.name, size: value.size };
    return shown;
  })
  .post("/length", async (request) => ({ bytes: (await request.arrayBuffer()).byteLength }))
  .all("/todos/*", todoRouter.fetch)
  .all("/method", ({ method }) => ({ method }));

export default router;
