using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "main", worker = .streams),
    (name = "internet", network = (allow = ["local", "private"])),
  ],
  sockets = [(name = "http", address = "127.0.0.1:@PORT@", http = (), service = "main")],
);

const streams :Workerd.Worker = (
  modules = [(name = "streams.js", esModule = embed "streams.js")],
  compatibilityDate = "2026-11-01",
);
