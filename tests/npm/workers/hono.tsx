/** @jsxRuntime automatic @jsxImportSource hono/jsx */
import { Hono } from "hono";
import { getCookie, setCookie } from "hono/cookie";
import { cors } from "hono/cors";
import { etag } from "hono/etag";
import { HTTPException } from "hono/http-exception";
import { logger } from "hono/logger";
import { secureHeaders } from "hono/secure-headers";
import { streamSSE } from "hono/streaming";
import { validator } from "hono/validator";
import { checks, equal, ok } from "../check";

const app = new Hono();
app.use("*", logger(() => {}));
app.use("/api/*", cors({ origin: "https://a.example" }), secureHeaders());
app.use("/etag", etag());
app.get("/hello/:name", (c) => c.text(`Hello ${c.req.param("name")}`));
app.get("/api/list", (c) => c.json({ items: [1, 2], page: c.req.query("page") }));
app.post("/form", validator("form", (form, c) => (form.n ? form : c.text("n is missing", 400))), (c) =>
  c.json(c.req.valid("form")),
);
app.get("/cookie", (c) => {
  setCookie(c, "seen", "yes", { path: "/", httpOnly: true });
  return c.text(getCookie(c, "before") ?? "none");
});
app.get("/etag", (c) => c.text("tagged"));
app.get("/page", (c) => c.html(<ul>{["a", "<b>"].map((item) => <li>{item}</li>)}</ul>));
app.get("/sse", (c) => streamSSE(c, async (stream) => { await stream.writeSSE({ data: "1", event: "n" }); }));
app.get("/refuse", () => { throw new HTTPException(403, { message: "no" }); });
app.notFound((c) => c.text("nothing here", 404));

const get = async (path: string, init?: RequestInit) => app.request(path, init);

export default checks({
  routes: async () => equal(await (await get("/hello/Ada%20L")).text(), "Hello Ada L"),
  json: async () => equal(await (await get("/api/list?page=2")).json(), { items: [1, 2], page: "2" }),
  middleware: async () => {
    const headers = (await get("/api/list", { headers: { origin: "https://a.example" } })).headers;
    equal(headers.get("access-control-allow-origin"), "https://a.example");
    equal(headers.get("x-frame-options"), "SAMEORIGIN");
  },
  forms: async () => {
    const body = new FormData();
    body.append("n", "1");
    equal(await (await get("/form", { method: "POST", body })).json(), { n: "1" });
    equal((await get("/form", { method: "POST", body: new FormData() })).status, 400);
  },
  cookies: async () => {
    const response = await get("/cookie", { headers: { cookie: "before=1" } });
    equal(await response.text(), "1");
    ok(response.headers.get("set-cookie")?.startsWith("seen=yes; Path=/; HttpOnly"), "the cookie");
  },
  etags: async () => {
    const tag = (await get("/etag")).headers.get("etag");
    ok(tag, "a tag");
    equal((await get("/etag", { headers: { "if-none-match": tag } })).status, 304);
  },
  jsx: async () => equal(await (await get("/page")).text(), "<ul><li>a</li><li>&lt;b&gt;</li></ul>"),
  streams: async () => equal(await (await get("/sse")).text(), "event: n\ndata: 1\n\n"),
  errors: async () => {
    equal((await get("/refuse")).status, 403);
    equal(await (await get("/none")).text(), "nothing here");
  },
});
