// A small API with Hono: routing, middleware, validation, cookies, streaming and errors.
import { Hono } from "hono";
import { basicAuth } from "hono/basic-auth";
import { bearerAuth } from "hono/bearer-auth";
import { bodyLimit } from "hono/body-limit";
import { deleteCookie, getCookie, setCookie } from "hono/cookie";
import { cors } from "hono/cors";
import { etag } from "hono/etag";
import { html } from "hono/html";
import { HTTPException } from "hono/http-exception";
import { poweredBy } from "hono/powered-by";
import { prettyJSON } from "hono/pretty-json";
import { requestId } from "hono/request-id";
import { secureHeaders } from "hono/secure-headers";
import { stream, streamSSE, streamText } from "hono/streaming";
import { validator } from "hono/validator";

const app = new Hono();

app.use(poweredBy());
app.use("/api/*", cors({ origin: ["https://app.example"], allowMethods: ["GET", "POST", "PUT", "DELETE"], maxAge: 600 }));
app.use("/api/*", prettyJSON());
app.use("/secure/*", secureHeaders());
app.use("/etag/*", etag());
app.use("/traced/*", requestId());

// Time of the handler, by a middleware of our own.
app.use("/timed", async (c, next) => {
  const start = performance.now();
  await next();
  c.header("Server-Timing", `app;dur=${(performance.now() - start).toFixed(1)}`);
});

app.get("/", (c) => c.text(`${c.env.GREETING ?? "Hi"} from Hono\n`));
app.get("/page", (c) => c.html(html`<!doctype html><h1>${c.req.query("title") ?? "<none>"}</h1>`));
app.get("/timed", (c) => c.text("timed"));
app.get("/traced/id", (c) => c.json({ id: c.get("requestId").length > 0 }));
app.get("/secure/page", (c) => c.text("secure"));
app.get("/etag/page", (c) => c.text("cacheable"));
app.get("/redirect", (c) => c.redirect("/", 301));
app.get("/empty", (c) => c.body(null, 204));
app.get("/agent", (c) => c.json({ runtime: navigator.userAgent, agent: c.req.header("user-agent") ?? null }));

// Parameters.
app.get("/hello/:name", (c) => c.json({ hello: c.req.param("name") }));
app.get("/posts/:year{[0-9]{4}}/:slug?", (c) => c.json(c.req.param()));
app.get("/files/*", (c) => c.text(c.req.path.slice("/files/".length)));
app.get("/search", (c) => c.json({ q: c.req.query("q") ?? null, tags: c.req.queries("tag") ?? [] }));

// A store for one request's life: items live in the code.
const items = new Map([["1", { id: "1", name: "selvage" }], ["2", { id: "2", name: "warp" }]]);
const api = new Hono();
api.get("/items", (c) => c.json([...items.values()]));
api.get("/items/:id", (c) => {
  const item = items.get(c.req.param("id"));
  if (item === undefined) throw new HTTPException(404, { message: "no such item" });
  return c.json(item);
});
api.post(
  "/items",
  bodyLimit({ maxSize: 1024, onError: (c) => c.json({ error: "too large" }, 413) }),
  validator("json", (value, c) => {
    if (typeof value.name !== "string" || value.name.length === 0) return c.json({ error: "name is required" }, 400);
    return { name: value.name };
  }),
  (c) => {
    const { name } = c.req.valid("json");
    return c.json({ id: "3", name }, 201, { Location: "/api/items/3" });
  },
);
api.put("/items/:id", async (c) => c.json({ id: c.req.param("id"), ...(await c.req.json()) }));
api.delete("/items/:id", (c) => c.body(null, 204));
app.route("/api", api);

// Forms, text and bytes.
app.post("/form", async (c) => {
  const form = await c.req.parseBody({ all: true });
  const shown = {};
  for (const [name, value] of Object.entries(form)) {
    shown[name] = value instanceof File ? { file: value.name, type: value.type, text: await value.text() } : value;
  }
  return c.json(shown);
});
app.post("/text", async (c) => c.text((await c.req.text()).toUpperCase()));
app.post("/bytes", async (c) => {
  const bytes = new Uint8Array(await c.req.arrayBuffer());
  return c.body(bytes.reverse(), 200, { "Content-Type": "application/octet-stream" });
});

// Authentication.
app.use("/admin/*", basicAuth({ username: "ada", password: "lovelace" }));
app.get("/admin/panel", (c) => c.text("welcome"));
app.use("/token/*", bearerAuth({ token: "s3cret" }));
app.get("/token/data", (c) => c.json({ data: 42 }));

// Cookies.
app.get("/cookie/set", (c) => {
  setCookie(c, "session", "abc 123", { path: "/", httpOnly: true, secure: true, sameSite: "Lax", maxAge: 3600 });
  setCookie(c, "theme", "dark");
  return c.text("set");
});
app.get("/cookie/get", (c) => c.json(getCookie(c)));
app.get("/cookie/delete", (c) => {
  deleteCookie(c, "session");
  return c.text("deleted");
});

// Streams.
app.get("/stream/text", (c) =>
  streamText(c, async (out) => {
    for (let i = 1; i <= 3; i++) {
      await out.writeln(`line ${i}`);
      await out.sleep(1);
    }
  }));
app.get("/stream/bytes", (c) =>
  stream(c, async (out) => {
    await out.write(new Uint8Array([115, 101, 108]));
    await out.pipe(new Blob(["vage"]).stream());
  }));
app.get("/stream/events", (c) =>
  streamSSE(c, async (out) => {
    for (let id = 0; id < 2; id++) await out.writeSSE({ id: String(id), event: "tick", data: `n=${id}` });
  }));

// Work after the reply.
app.get("/later", (c) => {
  c.executionCtx.waitUntil(new Promise((resolve) => setTimeout(resolve, 5)));
  return c.text("queued");
});

// Errors.
app.get("/throw", () => {
  throw new Error("a secret of the program");
});
app.get("/teapot", () => {
  throw new HTTPException(418, { message: "short and stout" });
});
app.notFound((c) => c.json({ error: "not found", path: c.req.path }, 404));
app.onError((error, c) => {
  if (error instanceof HTTPException) return error.getResponse();
  console.error(error);
  return c.json({ error: "internal" }, 500);
});

export default app;
