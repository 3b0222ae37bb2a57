import * as v from "valibot";
import { checks, equal, fails } from "../check";

const Login = v.object({ email: v.pipe(v.string(), v.email()), password: v.pipe(v.string(), v.minLength(8)) });

export default checks({
  parses: () => equal(v.parse(Login, { email: "a@b.test", password: "12345678" }).email, "a@b.test"),
  refuses: () => fails(() => v.parse(Login, { email: "a", password: "" }), /Invalid email/),
  flattens: () => {
    const result = v.safeParse(Login, { email: "a@b.test", password: "1" });
    equal(Object.keys(v.flatten(result.issues!).nested!), ["password"]);
  },
});
