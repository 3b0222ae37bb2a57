import dayjs from "dayjs";
import utc from "dayjs/plugin/utc";
import EventEmitter from "eventemitter3";
import { enablePatches, produce, produceWithPatches } from "immer";
import { chunk, cloneDeep, debounce, groupBy, merge } from "lodash-es";
import { LRUCache } from "lru-cache";
import * as R from "ramda";
import { firstValueFrom, from, map, mergeMap, of, timer, toArray } from "rxjs";
import semver from "semver";
import { P, match } from "ts-pattern";
import { checks, equal, fails } from "../check";

dayjs.extend(utc);
enablePatches();

export default checks({
  "lodash-es": async () => {
    equal(groupBy([1, 2, 3], (n) => (n % 2 ? "odd" : "even")), { odd: [1, 3], even: [2] });
    equal([chunk([1, 2, 3], 2), merge({ a: { b: 1 } }, { a: { c: 2 } })], [[[1, 2], [3]], { a: { b: 1, c: 2 } }]);
    const deep = { when: new Date(0), re: /x/g, bytes: new Uint8Array([1]) };
    equal(cloneDeep(deep).when, deep.when);
    let calls = 0;
    const called = debounce(() => (calls += 1), 5);
    called();
    called();
    await new Promise((resolve) => setTimeout(resolve, 30));
    equal(calls, 1);
  },
  immer: async () => {
    const base = { list: [{ done: false }], other: {} };
    const [next, patches] = produceWithPatches(base, (draft) => { draft.list[0]!.done = true; });
    equal([next.other === base.other, base.list[0]!.done, patches], [true, false, [{ op: "replace", path: ["list", 0, "done"], value: true }]]);
    await fails(() => { produce(base, () => {}); (next as { list: unknown }).list = []; }, /read only/);
  },
  ramda: () => equal(R.pipe(R.filter((n: number) => n > 1), R.map(R.multiply(2)))([1, 2, 3]), [4, 6]),
  rxjs: async () => {
    const doubled = from([1, 2, 3]).pipe(mergeMap((n) => (n === 2 ? timer(1).pipe(map(() => 20)) : of(n))), toArray());
    equal(await firstValueFrom(doubled), [1, 3, 20]);
  },
  dayjs: () => equal(dayjs.utc("2024-02-28").add(2, "day").format("YYYY-MM-DD ddd"), "2024-03-01 Fri"),
  "lru-cache": () => {
    const cache = new LRUCache<string, number>({ max: 2 });
    cache.set("a", 1).set("b", 2).get("a");
    cache.set("c", 3);
    equal([...cache.keys()], ["c", "a"]);
  },
  eventemitter3: () => {
    const seen: number[] = [];
    const emitter = new EventEmitter<{ n: [number] }>();
    emitter.once("n", (n) => seen.push(n));
    emitter.emit("n", 1);
    emitter.emit("n", 2);
    equal(seen, [1]);
  },
  semver: () => equal([semver.satisfies("1.2.3", "^1.1"), semver.inc("1.2.3", "minor")], [true, "1.3.0"]),
  "ts-pattern": () => equal(match({ kind: "a", n: 3 }).with({ kind: "a", n: P.select(P.number) }, (n) => n * 2).otherwise(() => 0), 6),
});
