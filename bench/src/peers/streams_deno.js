// The Worker of the streams bench on one thread of Deno.
import worker from "./streams.js";
Deno.serve({ hostname: "127.0.0.1", port: Number(Deno.args[0]), onListen: () => {} }, (request) => worker.fetch(request));
