import ky, { HTTPError } from "ky";
import { checks, equal, ok } from "../check";

let tries = 0;
const api = ky.create({
  prefixUrl: "https://api.test/v1",
  headers: { "x-key": "k" },
  retry: { limit: 2, delay: () => 1 },
  // No network: the answers are made here.
  fetch: async (input) => {
    const request = input as Request;
    const url = new URL(request.url);
    if (url.pathname === "/v1/echo") return Response.json({ key: request.headers.get("x-key"), body: await request.json(), q: url.search });
    if (url.pathname === "/v1/flaky") return new Response("", { status: ++tries < 3 ? 503 : 200 });
    return new Response("no", { status: 404 });
  },
});

export default checks({
  "json and search": async () => equal(await api.post("echo", { json: { a: 1 }, searchParams: { q: "x y" } }).json(), { key: "k", body: { a: 1 }, q: "?q=x+y" }),
  retries: async () => equal([(await api.get("flaky")).status, tries], [200, 3]),
  errors: async () => {
    const error = await api.get("none").catch((error) => error);
    ok(error instanceof HTTPError && error.response.status === 404, "an HTTPError");
  },
});
