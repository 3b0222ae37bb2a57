//! A node that starts again takes over: the program in place of the old one's, the listening sockets in place of the old ones', and no
//! client notices.

use crate::net::*;
use plane_abi::steering::{Protocol, Rules};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use steer::xdp::Clock;
use steer::{Acceptor, Config, Steering};

const RESTARTS: usize = 20;

/// Two listening sockets and threads that serve them, until told to stop.
struct Generation {
    listeners: Vec<TcpListener>,
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Generation {
    fn start(server: &Namespace, address: SocketAddr) -> Generation {
        let listeners = server.within(move || vec![listener(address), listener(address)]).join().expect("they listen");
        let stop = Arc::new(AtomicBool::new(false));
        let threads = listeners.iter().enumerate().map(|(cpu, listener)| {
            let (listener, stop) = (listener.try_clone().expect("a copy"), stop.clone());
            std::thread::spawn(move || {
                pin(cpu);
                listener.set_nonblocking(true).expect("an option");
                loop {
                    match listener.accept() {
                        Ok((stream, _)) => {
                            stream.set_nonblocking(false).expect("an option");
                            stream.set_read_timeout(Some(Duration::from_secs(5))).expect("an option");
                            std::thread::spawn(move || serve(stream, b'!'));
                        }
                        // What waits is taken before the socket closes.
                        Err(_) if stop.load(Ordering::Relaxed) => return,
                        Err(_) => std::thread::sleep(Duration::from_micros(300)),
                    }
                }
            })
        });
        let threads = threads.collect();
        Generation { listeners, stop, threads }
    }

    fn attach(&self, server: &Namespace) -> Acceptor {
        let sockets = self.listeners.iter().map(|listener| listener.try_clone().expect("a copy"));
        let sockets: Vec<_> = sockets.zip([Some(0), Some(1)]).collect();
        server.within(move || Acceptor::attach(&sockets, None).expect("root may")).join().expect("attached")
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("an accept loop"));
    }
}

#[test]
fn twenty_restarts_under_load_fail_no_request() {
    if !ready() {
        return;
    }
    let (server, client, pins) = (Namespace::new("server"), Namespace::new("client"), Pins::new("restart"));
    veth(&server, "s0", &client, "c0");
    server.run("ip addr add 10.77.1.1/24 dev s0");
    client.run("ip addr add 10.77.1.2/24 dev c0");
    let address: SocketAddr = "10.77.1.1:8080".parse().expect("an address");
    let config = Config {
        interface: "s0".to_owned(),
        ports: vec![(8080, Protocol::Tcp)],
        cpus: vec![0, 1],
        pin: Some(pins.0.clone()),
        driver: false,
        mac: None,
    };
    let start = || {
        let config = config.clone();
        let started = server.within(move || Steering::start(config, &Rules::default(), 1, Clock::now()));
        started.join().expect("started").expect("root may")
    };
    let mut steering = start();
    steering.move_slot(5, 1).expect("a map of ours");
    let table = steering.table().expect("a map of ours");
    let mut generation = Generation::start(&server, address);
    let mut acceptor = generation.attach(&server);

    let (done, asked, failed) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let (done, asked, failed) = (done.clone(), asked.clone(), failed.clone());
            client.within(move || {
                while !done.load(Ordering::Relaxed) {
                    let answered =
                        TcpStream::connect_timeout(&address, Duration::from_secs(3)).and_then(|mut stream| {
                            stream.set_read_timeout(Some(Duration::from_secs(3)))?;
                            ask(&mut stream).and_then(|_| ask(&mut stream))
                        });
                    asked.fetch_add(1, Ordering::Relaxed);
                    if let Err(error) = answered {
                        eprintln!("a request failed: {error}");
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            })
        })
        .collect();
    for _ in 0..RESTARTS {
        std::thread::sleep(Duration::from_millis(100));
        // The new node: program, sockets, the group's program; then the old one drains.
        let new = start();
        assert!(new.report().pinned);
        drop(std::mem::replace(&mut steering, new));
        let next = Generation::start(&server, address);
        acceptor = {
            let new = next.attach(&server);
            drop(acceptor);
            new
        };
        std::mem::replace(&mut generation, next).end();
    }
    std::thread::sleep(Duration::from_millis(100));
    done.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|thread| thread.join().expect("a client"));
    generation.end();
    let (asked, failed) = (asked.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
    eprintln!("{asked} requests over {RESTARTS} restarts, {failed} failed");
    assert!(asked > 200 && failed == 0, "{failed} of {asked} failed");
    assert_eq!(steering.table().expect("a map of ours"), table, "the table is gone on with");
    assert!(steering.report().packets("steered") > 0);
    server.within(move || steering.detach()).join().expect("detached");
    let link = std::process::Command::new("ip").args(["-n", &server.name, "link", "show", "s0"]).output().expect("ip");
    assert!(!String::from_utf8_lossy(&link.stdout).contains("xdp"), "taken off, pins and all");
}
