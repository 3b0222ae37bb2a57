import { customAlphabet, nanoid } from "nanoid";
import { decodeTime, monotonicFactory, ulid } from "ulid";
import { v1, v4, v5, v7, validate, version } from "uuid";
import { checks, equal, ok } from "../check";

export default checks({
  nanoid: () => {
    const ids = new Set(Array.from({ length: 200 }, () => nanoid()));
    ok(ids.size === 200 && [...ids].every((id) => /^[\w-]{21}$/.test(id)), "ids of their own");
    ok(/^[ab]{10}$/.test(customAlphabet("ab", 10)()), "the alphabet");
  },
  ulid: () => {
    equal(decodeTime(ulid(1_469_918_176_385)), 1_469_918_176_385);
    const next = monotonicFactory();
    ok(next(1) < next(1), "order");
  },
  uuid: () => {
    equal([v1(), v4(), v7()].map(version), [1, 4, 7]);
    equal(v5("hello.example.com", v5.DNS), "fdda765f-fc57-5604-a269-52a7df8164ec");
    ok(!validate("no"), "no id");
  },
});
