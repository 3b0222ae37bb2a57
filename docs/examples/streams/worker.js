// Bodies as streams, in both directions.
//   GET  /count/<n>   n lines, one chunk each, made as the client reads them
//   POST /upper       the request's body in upper case, chunk by chunk
//   POST /echo        the request's body as it comes
//   POST /length      how many bytes the body has, without holding it
//   GET  /fixed       a stream with a known length

export default {
  async fetch(request) {
    const { pathname } = new URL(request.url);
    const [, name, argument] = pathname.split("/");
    switch (name) {
      case "count":
        return new Response(counter(Math.min(Number(argument) || 0, 1_000_000)), { headers: { "content-type": "text/plain" } });
      case "upper":
        return new Response(request.body?.pipeThrough(new TextDecoderStream()).pipeThrough(upperCase()).pipeThrough(new TextEncoderStream()));
      case "echo":
        return new Response(request.body);
      case "length":
        return Response.json({ bytes: await measure(request.body) });
      case "fixed":
        return new Response(fixed("exactly 27 bytes of content"));
      default:
        return new Response("not found\n", { status: 404 });
    }
  },
};

function counter(lines) {
  const encoder = new TextEncoder();
  let line = 0;
  return new ReadableStream({
    pull(controller) {
      if (line === lines) controller.close();
      else controller.enqueue(encoder.encode(`${++line}\n`));
    },
  });
}

function upperCase() {
  return new TransformStream({
    transform(text, controller) {
      controller.enqueue(text.toUpperCase());
    },
  });
}

async function measure(body) {
  let bytes = 0;
  if (body !== null) for await (const chunk of body) bytes += chunk.byteLength;
  return bytes;
}

function fixed(text) {
  const bytes = new TextEncoder().encode(text);
  const { readable, writable } = new FixedLengthStream(bytes.byteLength);
  const writer = writable.getWriter();
  writer.write(bytes);
  writer.close();
  return readable;
}
