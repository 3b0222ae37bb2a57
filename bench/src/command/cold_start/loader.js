// A request for host N.… goes to Worker N, which the runtime starts at its first request. Each has its own source text.
import bundle from "bundle.txt";

export default {
  fetch(request, env) {
    const name = request.headers.get("host").split(".")[0];
    if (name === "ready") return new Response("ready");
    const worker = env.LOADER.get(name, () => ({
      compatibilityDate: "2026-11-01",
      mainModule: "worker.js",
      modules: { "worker.js": `${bundle}\n// ${name}\n` },
    }));
    return worker.getEntrypoint().fetch(request);
  },
};
