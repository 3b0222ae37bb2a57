// CompressionStream and DecompressionStream.

const FORMATS = ["gzip", "deflate", "deflate-raw"];
// What another implementation (zlib) made of "hello hello hello hello", by format.
const HELLO = "hello hello hello hello";
const THEIRS = {
  gzip: bytes(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x57, 0xc8, 0x40, 0x27, 1, 0xe3, 0x51, 0x3d, 0x8d, 0x17, 0, 0, 0),
  deflate: bytes(0x78, 0x9c, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x57, 0xc8, 0x40, 0x27, 1, 0x68, 3, 8, 0xb1),
  "deflate-raw": bytes(0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x57, 0xc8, 0x40, 0x27, 1),
};

function source(...chunks) {
  return new ReadableStream({
    start(c) {
      for (const chunk of chunks) c.enqueue(chunk);
      c.close();
    },
  });
}
const through = (transform, ...chunks) => new Response(source(...chunks).pipeThrough(transform)).bytes();
const compress = (format, ...chunks) => through(new CompressionStream(format), ...chunks);
const decompress = (format, ...chunks) => through(new DecompressionStream(format), ...chunks);
function noise(length) {
  const out = new Uint8Array(length);
  for (let i = 0; i < length; i += 65536) crypto.getRandomValues(out.subarray(i, i + 65536));
  return out;
}

test("what is compressed decompresses", async () => {
  for (const format of FORMATS) {
    for (const data of [new Uint8Array(0), utf8(HELLO), new Uint8Array(300_000), noise(200_000)]) {
      const small = await compress(format, data);
      ok(await same64(decompress(format, small), data), format);
      const parts = [];
      for (let i = 0; i < small.length; i += 1000) parts.push(small.subarray(i, i + 1000));
      ok(await same64(decompress(format, ...parts), data), format);
      ok(await same64(decompress(format, await compress(format, data.subarray(0, 5), data.subarray(5), new Uint8Array(0))), data), format);
    }
    eq(await decompress(format, THEIRS[format]), utf8(HELLO), format);
    eq(await decompress(format, ...Array.from(THEIRS[format], (b) => bytes(b))), utf8(HELLO), format);
    ok((await compress(format, new Uint8Array(1_000_000))).length < 2000);
  }
});

async function same64(promise, wanted) {
  const got = await promise;
  return got.length === wanted.length && got.every((b, i) => b === wanted[i]);
}

test("data that is no compressed data", async () => {
  for (const format of FORMATS) {
    const good = THEIRS[format];
    await rejects(decompress(format, good.subarray(0, good.length - 1)), TypeError, `${format} cut`);
    await rejects(decompress(format), TypeError, `${format} empty`);
    await rejects(decompress(format, new Uint8Array([...good, 0])), TypeError, `${format} and more`);
    await rejects(decompress(format, good, bytes(0)), TypeError, `${format} and another chunk`);
    await rejects(decompress(format, good, good), TypeError, `${format} twice`);
    eq(await decompress(format, good, bytes()), utf8(HELLO));
    await rejects(decompress(format, bytes(0xff, 0xff, 0xff, 0xff)), TypeError, format);
    await rejects(decompress(format, "text"), TypeError);
    await rejects(compress(format, "text"), TypeError);
    await rejects(compress(format, [1]), TypeError);
  }
  for (const at of [0, 1, 2, 20, 24]) {
    const wrong = new Uint8Array(THEIRS.gzip);
    wrong[at] ^= 0x41;
    await rejects(decompress("gzip", wrong), TypeError, `byte ${at}`);
  }
  const wrong = new Uint8Array(THEIRS.deflate);
  wrong[14] ^= 1;
  await rejects(decompress("deflate", wrong), TypeError);
});

test("formats", () => {
  for (const C of [CompressionStream, DecompressionStream]) {
    for (const format of ["", "GZIP", "br", "zlib", null]) throws(() => new C(format), TypeError, format);
    throws(() => new C(), TypeError);
    throws(() => C("gzip"), TypeError);
    const made = new C("gzip");
    ok(made.readable instanceof ReadableStream && made.writable instanceof WritableStream && made.readable === made.readable);
    throws(() => Object.getOwnPropertyDescriptor(C.prototype, "readable").get.call({}), TypeError);
  }
});

test("every buffer is bytes, and it is read when it is written", async () => {
  const data = utf8(HELLO);
  for (const chunk of [data.buffer, new DataView(data.buffer), new Uint8Array(data)]) eq(await decompress("gzip", await compress("gzip", chunk)), data);
  const stream = new CompressionStream("deflate");
  const writer = stream.writable.getWriter();
  const written = writer.write(data);
  const closed = writer.close();
  const small = await new Response(stream.readable).bytes();
  await written;
  await closed;
  eq(await decompress("deflate", small), utf8(HELLO));
});

test("what decompresses to much more is made as it is read", async () => {
  // 40 MB of zeros, 40 KB of gzip.
  const huge = new CompressionStream("gzip");
  const feeding = (async () => {
    const writer = huge.writable.getWriter();
    const zeros = new Uint8Array(1_000_000);
    for (let i = 0; i < 40; i++) await writer.write(zeros);
    await writer.close();
  })();
  const bomb = await new Response(huge.readable).bytes();
  await feeding;
  ok(bomb.length < 100_000);
  const { readable, writable } = new DecompressionStream("gzip");
  const writer = writable.getWriter();
  let written = false;
  writer.write(bomb).then(() => written = true, () => {});
  const reader = readable.getReader();
  let size = 0;
  for (let i = 0; i < 10; i++) {
    const { value } = await reader.read();
    ok(value.length <= 65536);
    size += value.length;
  }
  await settle();
  ok(!written && size < 1_000_000, "the rest waits");
  const enough = new Error("enough");
  await reader.cancel(enough);
  await settle();
  await rejects(writer.write(bomb), enough);
});
