using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [(name = "main", worker = .main)],
  sockets = [(name = "http", address = "127.0.0.1:@PORT@", http = (), service = "main")],
);

const main :Workerd.Worker = (
  modules = [
    (name = "loader.js", esModule = embed "loader.js"),
    (name = "hello.txt", text = embed "hello.js"),
    (name = "routes.txt", text = embed "routes.js"),
  ],
  bindings = [(name = "LOADER", workerLoader = ())],
  compatibilityDate = "2026-11-01",
);
