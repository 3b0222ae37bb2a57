import { decode, encode } from "cbor-x";
import { XMLBuilder, XMLParser } from "fast-xml-parser";
import { gunzipSync, gzipSync, strFromU8, strToU8, unzipSync, zipSync } from "fflate";
import jsonata from "jsonata";
import { pack, unpack } from "msgpackr";
import * as pako from "pako";
import qs from "qs";
import superjson from "superjson";
import { checks, equal, utf8 } from "../check";

const value = { a: [1, -2, 3.5, "ü"], b: { c: null, d: true } };

export default checks({
  "cbor-x": () => equal(decode(encode(value)), value),
  msgpackr: () => equal(unpack(pack(value)), value),
  superjson: () => {
    const rich = { when: new Date(0), set: new Set([1]), map: new Map([["k", 1n]]), none: undefined };
    equal(superjson.parse(superjson.stringify(rich)), rich);
  },
  "fast-xml-parser": () => {
    const xml = '<r a="1"><x>2</x><x>3</x></r>';
    const parsed = new XMLParser({ ignoreAttributes: false }).parse(xml);
    equal(parsed, { r: { "@_a": "1", x: [2, 3] } });
    equal(new XMLBuilder({ ignoreAttributes: false }).build(parsed), xml);
  },
  jsonata: async () => equal(await jsonata("$sum(order.(price * n))").evaluate({ order: [{ price: 2, n: 3 }, { price: 5, n: 1 }] }), 11),
  fflate: () => {
    equal(strFromU8(gunzipSync(gzipSync(strToU8("compress ".repeat(50))))), "compress ".repeat(50));
    equal(strFromU8(unzipSync(zipSync({ "a.txt": strToU8("zip") }))["a.txt"]!), "zip");
  },
  pako: () => equal(pako.inflate(pako.deflate(utf8("x".repeat(1000)))).length, 1000),
  qs: () => {
    equal(qs.parse("a[b][]=1&a[b][]=2&c=d"), { a: { b: ["1", "2"] }, c: "d" });
    equal(qs.stringify({ a: { b: [1, 2] } }, { encode: false }), "a[b][0]=1&a[b][1]=2");
  },
});
