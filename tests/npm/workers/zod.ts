import { z } from "zod";
import { checks, equal, ok } from "../check";

const User = z.object({
  name: z.string().min(2),
  email: z.email(),
  age: z.coerce.number().int().positive().optional(),
  tags: z.array(z.enum(["a", "b"])).default([]),
});

export default checks({
  parses: () =>
    equal(User.parse({ name: "Ada", email: "ada@x.test", age: "36" }), { name: "Ada", email: "ada@x.test", age: 36, tags: [] }),
  refuses: () => {
    const result = User.safeParse({ name: "A", email: "no", tags: ["c"] });
    ok(!result.success, "refusal");
    equal(result.error.issues.map((issue) => issue.path.join(".")), ["name", "email", "tags.0"]);
  },
  "unions and transforms": async () => {
    const schema = z.discriminatedUnion("kind", [
      z.object({ kind: z.literal("a"), n: z.number() }),
      z.object({ kind: z.literal("b"), s: z.string().transform(async (s) => s.length) }),
    ]);
    equal(await schema.parseAsync({ kind: "b", s: "four" }), { kind: "b", s: 4 });
  },
  "json schema": () => equal((z.toJSONSchema(User) as { required: string[] }).required.includes("email"), true),
});
