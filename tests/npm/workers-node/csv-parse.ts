import { parse } from "csv-parse/sync";
import { checks, equal, fails } from "../check";

export default checks({
  parses: () => equal(parse('a;b\n1;"x\ny"\n', { columns: true, delimiter: ";" }), [{ a: "1", b: "x\ny" }]),
  refuses: () => fails(() => parse('a,"b\n'), /Quote Not Closed/),
});
