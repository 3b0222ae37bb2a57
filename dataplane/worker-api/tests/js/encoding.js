// Encoding: TextEncoder, TextDecoder and their streams; atob and btoa.

test("TextEncoder", () => {
  const e = new TextEncoder();
  eq(e.encoding, "utf-8");
  eq(e.encode(), bytes());
  eq(e.encode(undefined), bytes());
  eq(e.encode("aé€😀"), bytes(97, 0xc3, 0xa9, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x98, 0x80));
  eq(e.encode("\ud800a\udc00"), bytes(0xef, 0xbf, 0xbd, 97, 0xef, 0xbf, 0xbd));
  eq(e.encode(null), utf8("null"));
});

test("encodeInto", () => {
  const e = new TextEncoder();
  const check = (text, room, read, written) => {
    const out = new Uint8Array(room);
    eq(e.encodeInto(text, out), { read, written }, `${text} into ${room}`);
    ok(out.subarray(written).every((b) => b === 0));
  };
  check("abc", 5, 3, 3);
  check("abc", 2, 2, 2);
  check("é", 1, 0, 0);
  check("aé", 2, 1, 1);
  check("€x", 3, 1, 3);
  check("😀", 3, 0, 0);
  check("😀", 4, 2, 4);
  check("a😀b", 5, 3, 5);
  check("a😀b", 6, 4, 6);
  check("\ud800x", 3, 1, 3);
  check("", 0, 0, 0);
  throws(() => e.encodeInto("a", new ArrayBuffer(1)), TypeError);
  throws(() => e.encodeInto("a", new Uint16Array(1)), TypeError);
});

test("TextDecoder labels", () => {
  for (const [label, name] of [["utf8", "utf-8"], [" UTF-8\n", "utf-8"], ["latin1", "windows-1252"], ["ascii", "windows-1252"], ["sjis", "shift_jis"], ["gb2312", "gbk"], ["utf-16", "utf-16le"], ["x-user-defined", "x-user-defined"], ["iso-8859-8-i", "iso-8859-8-i"]]) {
    eq(new TextDecoder(label).encoding, name, label);
  }
  for (const label of ["", "nonsense", "replacement", "utf-7", "utf8\0"]) throws(() => new TextDecoder(label), RangeError, label);
  const d = new TextDecoder(undefined, { fatal: true, ignoreBOM: true });
  eq([d.encoding, d.fatal, d.ignoreBOM], ["utf-8", true, true]);
});

test("TextDecoder", () => {
  const d = new TextDecoder();
  eq(d.decode(), "");
  eq(d.decode(bytes(0xef, 0xbb, 0xbf, 97)), "a");
  eq(d.decode(bytes(0xef, 0xbb, 0xbf, 97)), "a");
  eq(new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes(0xef, 0xbb, 0xbf, 97)), "\ufeffa");
  eq(d.decode(bytes(97, 0xff, 98)), "a\ufffdb");
  eq(d.decode(bytes(0xe2, 0x82)), "\ufffd");
  eq(d.decode(bytes(0xed, 0xa0, 0x80)), "\ufffd\ufffd\ufffd");
  throws(() => new TextDecoder("utf-8", { fatal: true }).decode(bytes(0xff)), TypeError);
  eq(d.decode(new DataView(utf8("xyz").buffer, 1)), "yz");
  eq(d.decode(utf8("xyz").buffer), "xyz");
  eq(d.decode(new Uint16Array(utf8("abcd").buffer)), "abcd");
  throws(() => d.decode("text"), TypeError);
  throws(() => d.decode([1]), TypeError);
  eq(new TextDecoder("windows-1252").decode(bytes(0x80, 0xe9)), "€é");
  eq(new TextDecoder("shift_jis").decode(bytes(0x82, 0xa0)), "あ");
  eq(new TextDecoder("utf-16le").decode(bytes(0x3d, 0xd8, 0, 0xde)), "😀");
  eq(new TextDecoder("utf-16be").decode(bytes(0xfe, 0xff, 0, 97)), "a");
  eq(new TextDecoder("gbk").decode(bytes(0xc4, 0xe3)), "你");
});

test("TextDecoder in parts", () => {
  const d = new TextDecoder();
  const all = utf8("aé€😀");
  let text = "";
  for (const byte of all) text += d.decode(bytes(byte), { stream: true });
  text += d.decode();
  eq(text, "aé€😀");
  eq(d.decode(bytes(0xe2), { stream: true }), "");
  eq(d.decode(), "\ufffd");
  eq(d.decode(utf8("new")), "new");
  const f = new TextDecoder("utf-8", { fatal: true });
  eq(f.decode(bytes(0xe2, 0x82), { stream: true }), "");
  throws(() => f.decode(), TypeError);
  eq(f.decode(utf8("fresh")), "fresh");
});

test("streams", async () => {
  const texts = new ReadableStream({
    start(c) {
      c.enqueue("a\ud83d");
      c.enqueue("\ude00b");
      c.enqueue("\ud800");
      c.close();
    },
  });
  const encoded = await readAll(texts.pipeThrough(new TextEncoderStream()));
  eq(encoded.map((c) => [...c]), [[97], [0xf0, 0x9f, 0x98, 0x80, 98], [0xef, 0xbf, 0xbd]]);
  const parts = new ReadableStream({
    start(c) {
      for (const byte of utf8("é€")) c.enqueue(bytes(byte));
      c.close();
    },
  });
  eq((await readAll(parts.pipeThrough(new TextDecoderStream()))).join(""), "é€");
  const bad = new ReadableStream({
    start(c) {
      c.enqueue(bytes(0xff));
      c.close();
    },
  });
  await rejects(readAll(bad.pipeThrough(new TextDecoderStream("utf-8", { fatal: true }))), TypeError);
  eq(new TextDecoderStream("latin1").encoding, "windows-1252");
  eq(new TextEncoderStream().encoding, "utf-8");
  throws(() => new TextDecoderStream("nonsense"), RangeError);
});

test("atob and btoa", () => {
  eq(btoa(""), "");
  eq(btoa("abc"), "YWJj");
  eq(btoa("\xff\0"), "/wA=");
  eq(btoa(null), "bnVsbA==");
  throws(() => btoa("€"), "InvalidCharacterError");
  throws(() => btoa(), TypeError);
  eq(atob(" YW Jj\n"), "abc");
  eq(atob("YQ"), "a");
  eq(atob("YQ=="), "a");
  eq(atob("/wA="), "\xff\0");
  for (const text of ["Y", "YQ=", "=", "YW-_", "YQ===", "€"]) throws(() => atob(text), "InvalidCharacterError", text);
});
