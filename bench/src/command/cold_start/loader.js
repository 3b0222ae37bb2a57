// A request for host hello-N.… or routes-N.… goes to the Worker of that name, which the runtime starts at
// its first request. Each has its own source text.
import hello from "hello.txt";
import routes from "routes.txt";

export default {
  fetch(request, env) {
    const name = request.headers.get("host").split(".")[0];
    if (name === "ready") return new Response("ready");
    const bundle = name.startsWith("hello-") ? hello : routes;
    const worker = env.LOADER.get(name, () => ({
      compatibilityDate: "2026-11-01",
      mainModule: "worker.js",
      modules: { "worker.js": `${bundle}\n// ${name}\n` },
    }));
    return worker.getEntrypoint().fetch(request);
  },
};
