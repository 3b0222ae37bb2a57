using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "victim", worker = .victim),
    (name = "first", worker = .noisy),
    (name = "second", worker = .noisy),
  ],
  sockets = [
    (name = "victim", address = "127.0.0.1:@VICTIM@", http = (), service = "victim"),
    (name = "first", address = "127.0.0.1:@FIRST@", http = (), service = "first"),
    (name = "second", address = "127.0.0.1:@SECOND@", http = (), service = "second"),
  ],
);

const victim :Workerd.Worker = (
  modules = [(name = "hello.js", esModule = embed "hello.js")],
  compatibilityDate = "2026-11-01",
);

const noisy :Workerd.Worker = (
  modules = [(name = "noisy.js", esModule = embed "noisy.js")],
  compatibilityDate = "2026-11-01",
);
