import { DummyDriver, Kysely, SqliteAdapter, SqliteIntrospector, SqliteQueryCompiler } from "kysely";
import { checks, equal } from "../check";

interface Tables { person: { id: number; name: string } }
const db = new Kysely<Tables>({
  dialect: {
    createAdapter: () => new SqliteAdapter(),
    createDriver: () => new DummyDriver(),
    createIntrospector: (db) => new SqliteIntrospector(db),
    createQueryCompiler: () => new SqliteQueryCompiler(),
  },
});

export default checks({
  select: () => {
    const built = db.selectFrom("person").select(["id"]).where("name", "=", "Ada").compile();
    equal([built.sql, built.parameters], ['select "id" from "person" where "name" = ?', ["Ada"]]);
  },
  insert: () => equal(db.insertInto("person").values({ id: 1, name: "x" }).compile().parameters, [1, "x"]),
  executes: async () => equal(await db.selectFrom("person").selectAll().execute(), []),
});
