// The Worker of the streams bench. `@ORIGIN@` sends as many bytes as the query asks for.
export default {
  async fetch(request, env, ctx) {
    const { pathname, search } = new URL(request.url);
    if (pathname === "/") return new Response("ready\n");
    if (pathname === "/proxy") {
      ctx.passThroughOnException();
      throw new Error("the origin answers");
    }
    const upstream = await fetch("http://@ORIGIN@/" + search);
    if (pathname === "/pass") return upstream;
    const through = new TransformStream({
      transform(chunk, controller) {
        controller.enqueue(chunk);
      },
    });
    return new Response(upstream.body.pipeThrough(through));
  },
};
