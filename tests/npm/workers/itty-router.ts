import { AutoRouter, error, json, withContent } from "itty-router";
import { checks, equal } from "../check";

const router = AutoRouter();
router
  .get("/hello/:name", ({ params }) => `Hello ${params.name}`)
  .post("/sum", withContent, ({ content }) => json({ sum: content.reduce((a: number, b: number) => a + b, 0) }))
  .get("/fail", () => error(418, "teapot"));

const fetch = (path: string, init?: RequestInit) => router.fetch(new Request(`https://x.test${path}`, init));

export default checks({
  routes: async () => equal(await (await fetch("/hello/Ada")).json(), "Hello Ada"),
  content: async () => {
    const init = { method: "POST", body: "[1,2,3]", headers: { "content-type": "application/json" } };
    equal(await (await fetch("/sum", init)).json(), { sum: 6 });
  },
  errors: async () => {
    equal((await fetch("/fail")).status, 418);
    equal((await fetch("/none")).status, 404);
  },
});
