// A handler, not a static route: the JavaScript is what is compared.
Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.argv[2]),
  development: false,
  fetch: () => new Response("Hello, World!\n"),
});
