import { marked } from "marked";
import Mustache from "mustache";
import Papa from "papaparse";
import YAML from "yaml";
import { checks, equal, fails } from "../check";

export default checks({
  marked: async () => equal(await marked.parse("# A *b*\n\n- [x](y)\n"), '<h1>A <em>b</em></h1>\n<ul>\n<li><a href="y">x</a></li>\n</ul>\n'),
  mustache: () => equal(Mustache.render("{{#items}}<{{name}}>{{/items}}{{^none}}-{{/none}}", { items: [{ name: "a&" }] }), "<a&amp;>-"),
  papaparse: () => {
    equal(Papa.parse("a,b\n1,\"x,y\"\n", { header: true, skipEmptyLines: true }).data, [{ a: "1", b: "x,y" }]);
    equal(Papa.unparse([["a", 'b"c']]), 'a,"b""c"');
  },
  yaml: () => {
    equal(YAML.parse("a: [1, {b: &x yes}]\nc: *x\n"), { a: [1, { b: "yes" }], c: "yes" });
    return fails(() => YAML.parse("a: [1"), /Flow sequence/);
  },
});
