import iconv from "iconv-lite";
import { checks, equal } from "../check";

export default checks({
  encodes: () => equal([...iconv.encode("ü€", "windows-1252")], [0xfc, 0x80]),
  decodes: () => equal(iconv.decode(Buffer.from([0x93, 0xfa, 0x96, 0x7b]), "shift_jis"), "日本"),
});
