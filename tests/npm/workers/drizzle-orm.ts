import { and, asc, eq, gt, inArray, sql } from "drizzle-orm";
import { QueryBuilder, SQLiteSyncDialect, integer, sqliteTable, text } from "drizzle-orm/sqlite-core";
import { checks, equal } from "../check";

const users = sqliteTable("users", { id: integer("id").primaryKey(), name: text("name").notNull(), age: integer("age") });
const query = new QueryBuilder();

export default checks({
  select: () => {
    const built = query.select({ name: users.name }).from(users).where(and(gt(users.age, 18), inArray(users.id, [1, 2]))).orderBy(asc(users.name)).limit(5).toSQL();
    equal(built.sql, 'select "name" from "users" where ("users"."age" > ? and "users"."id" in (?, ?)) order by "users"."name" asc limit ?');
    equal(built.params, [18, 1, 2, 5]);
  },
  templates: () => {
    const built = new SQLiteSyncDialect().sqlToQuery(sql`update ${users} set ${sql.identifier("name")} = ${"x"} where ${eq(users.id, 7)}`);
    equal([built.sql, built.params], ['update "users" set "name" = ? where "users"."id" = ?', ["x", 7]]);
  },
});
