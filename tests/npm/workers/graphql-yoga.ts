import { createSchema, createYoga } from "graphql-yoga";
import { checks, equal } from "../check";

const yoga = createYoga({
  logging: false,
  schema: createSchema({
    typeDefs: "type Query { add(a: Int!, b: Int!): Int! } type Mutation { echo(text: String!): String! }",
    resolvers: {
      Query: { add: (_: unknown, { a, b }: { a: number; b: number }) => a + b },
      Mutation: { echo: (_: unknown, { text }: { text: string }) => text },
    },
  }),
});

async function ask(query: string) {
  const response = await yoga.fetch("https://x.test/graphql", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ query }),
  });
  return response.json();
}

export default checks({
  queries: async () => equal(await ask("{ add(a: 2, b: 3) }"), { data: { add: 5 } }),
  mutations: async () => equal(await ask('mutation { echo(text: "x") }'), { data: { echo: "x" } }),
  errors: async () => equal(((await ask("{ add }")) as { errors: unknown[] }).errors.length, 2),
});
