using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "router", worker = .router),
@SERVICES@
  ],
  sockets = [(name = "http", address = "127.0.0.1:@PORT@", http = (), service = "router")],
);

const router :Workerd.Worker = (
  modules = [(name = "router.js", esModule = embed "router.js")],
  bindings = [
@BINDINGS@
  ],
  compatibilityDate = "2026-11-01",
);

const idle :Workerd.Worker = (
  modules = [(name = "worker.js", esModule = embed "worker.js")],
  compatibilityDate = "2026-11-01",
);
