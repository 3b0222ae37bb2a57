// One thread: `Deno.serve` without `deno serve --parallel`.
Deno.serve(
  { hostname: "127.0.0.1", port: Number(Deno.args[0]), onListen: () => {} },
  () => new Response("Hello, World!\n"),
);
