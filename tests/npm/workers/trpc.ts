import { initTRPC } from "@trpc/server";
import { fetchRequestHandler } from "@trpc/server/adapters/fetch";
import { z } from "zod";
import { checks, equal } from "../check";

const t = initTRPC.create();
const router = t.router({
  greet: t.procedure.input(z.object({ name: z.string() })).query(({ input }) => `Hi ${input.name}`),
});

async function ask(input: unknown) {
  const request = new Request(`https://x.test/trpc/greet?input=${encodeURIComponent(JSON.stringify(input))}`);
  const response = await fetchRequestHandler({ endpoint: "/trpc", req: request, router, createContext: () => ({}) });
  return { status: response.status, body: (await response.json()) as { result?: { data: unknown } } };
}

export default checks({
  queries: async () => equal((await ask({ name: "Ada" })).body.result?.data, "Hi Ada"),
  refuses: async () => equal((await ask({ name: 1 })).status, 400),
});
