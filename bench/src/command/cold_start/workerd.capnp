using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [(name = "main", worker = .main)],
  sockets = [(name = "http", address = "127.0.0.1:@PORT@", http = (), service = "main")],
);

const main :Workerd.Worker = (
  modules = [
    (name = "loader.js", esModule = embed "loader.js"),
    (name = "bundle.txt", text = embed "worker.js"),
  ],
  bindings = [(name = "LOADER", workerLoader = ())],
  compatibilityDate = "2026-11-01",
);
