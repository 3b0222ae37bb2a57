import { GraphQLList, GraphQLObjectType, GraphQLSchema, GraphQLString, buildSchema, graphql, parse, print, validate } from "graphql";
import { checks, equal } from "../check";

const schema = new GraphQLSchema({
  query: new GraphQLObjectType({
    name: "Query",
    fields: {
      greet: { type: GraphQLString, args: { name: { type: GraphQLString } }, resolve: async (_, { name }) => `Hi ${name}` },
      list: { type: new GraphQLList(GraphQLString), resolve: () => ["a", "b"] },
    },
  }),
});

export default checks({
  executes: async () => {
    const result = await graphql({ schema, source: 'query($n: String) { greet(name: $n) list }', variableValues: { n: "Ada" } });
    equal(JSON.parse(JSON.stringify(result)), { data: { greet: "Hi Ada", list: ["a", "b"] } });
  },
  validates: () => equal(validate(schema, parse("{ nothing }")).map((error) => error.message), ['Cannot query field "nothing" on type "Query".']),
  prints: () => equal(print(parse("{a{b}}")), "{\n  a {\n    b\n  }\n}"),
  "schema language": () => equal(Object.keys(buildSchema("type Query { x: Int! }").getQueryType()!.getFields()), ["x"]),
});
