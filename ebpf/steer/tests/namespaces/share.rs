//! Connections are accepted on the CPU of their packets, and evenly; without steering they are not.

use crate::net::*;
use plane_abi::steering::{Protocol, Rules};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use steer::xdp::Clock;
use steer::{Acceptor, Config, Mode, Steering};

const CONNECTIONS: u32 = 2_000;

/// Accepted connections of two pinned threads, and those of them whose packets came in on the thread's CPU.
#[derive(Default)]
struct Counts {
    accepted: [AtomicU32; 2],
    here: [AtomicU32; 2],
}

impl Counts {
    fn take(&self) -> ([u32; 2], u32) {
        let take = |numbers: &[AtomicU32; 2]| [0, 1].map(|cpu| numbers[cpu].swap(0, Ordering::Relaxed));
        (take(&self.accepted), take(&self.here).iter().sum())
    }
}

fn check(driver: bool, expect: Mode) {
    let (server, client) = (Namespace::new("server"), Namespace::new("client"));
    veth(&server, "s0", &client, "c0");
    server.run("ip addr add 10.77.0.1/24 dev s0");
    client.run("ip addr add 10.77.0.2/24 dev c0");
    if driver && std::process::Command::new("ethtool").arg("--version").output().is_err() {
        skipped("steering in the driver", "needs `ethtool`");
        return;
    }
    if driver {
        // A frame that another CPU takes up has lost the mark that its checksum is yet to be made.
        client.run("ethtool -K c0 tx off");
    }
    let address: SocketAddr = "10.77.0.1:8080".parse().expect("an address");
    let counts = Arc::new(Counts::default());
    let done = Arc::new(AtomicBool::new(false));
    let listeners = server.within(move || [listener(address), listener(address)]).join().expect("they listen");
    let acceptors: Vec<_> = listeners
        .iter()
        .enumerate()
        .map(|(cpu, listener)| {
            let (listener, counts, done) = (listener.try_clone().expect("a copy"), counts.clone(), done.clone());
            std::thread::spawn(move || {
                pin(cpu);
                listener.set_nonblocking(true).expect("an option");
                while !done.load(Ordering::Relaxed) {
                    match listener.accept() {
                        Ok((stream, _)) => {
                            counts.accepted[cpu].fetch_add(1, Ordering::Relaxed);
                            counts.here[cpu]
                                .fetch_add(u32::from(incoming_cpu(&stream) == cpu as u32), Ordering::Relaxed);
                        }
                        Err(_) => std::thread::sleep(Duration::from_micros(200)),
                    }
                }
            })
        })
        .collect();
    let load = |count: u32| {
        client.within(move || {
            for _ in 0..count {
                TcpStream::connect_timeout(&address, Duration::from_secs(2)).expect("it is served");
            }
            std::thread::sleep(Duration::from_millis(50));
        })
    };
    load(300).join().expect("served without steering");
    let (_, here_plain) = counts.take();
    let sockets: Vec<_> = listeners.iter().map(|listener| listener.try_clone().expect("a copy")).collect();
    let attached = server.within(move || {
        let config = Config {
            interface: "s0".to_owned(),
            ports: vec![(8080, Protocol::Tcp)],
            cpus: vec![0, 1],
            pin: None,
            driver,
            mac: None,
        };
        let steering = Steering::start(config, &Rules::default(), 1, Clock::now()).expect("root may");
        let sockets: Vec<_> = sockets.into_iter().zip([Some(0), Some(1)]).collect();
        (steering, Acceptor::attach(&sockets, None).expect("root may"))
    });
    let (steering, acceptor) = attached.join().expect("attached");
    load(CONNECTIONS).join().expect("served with steering");
    let (accepted, here) = counts.take();
    done.store(true, Ordering::Relaxed);
    acceptors.into_iter().for_each(|thread| thread.join().expect("an accept loop"));
    let report = steering.report();
    eprintln!(
        "plain: {here_plain} of 300 on their CPU; steered ({:?}): {here} of {CONNECTIONS}, {accepted:?}",
        report.mode
    );
    assert_eq!((report.mode, report.pinned, report.takers), (Some(expect), false, 2));
    assert_eq!(accepted.iter().sum::<u32>(), CONNECTIONS, "all of them");
    assert!(u64::from(here) * 1000 >= u64::from(CONNECTIONS) * 999, "{here}");
    assert!(accepted.iter().all(|count| count.abs_diff(CONNECTIONS / 2) * 10 <= CONNECTIONS / 2), "{accepted:?}");
    assert!(here_plain < 270, "without steering about half: {here_plain} of 300");
    let tallies = acceptor.tallies();
    assert!(tallies.iter().map(|tally| tally[0]).sum::<u64>() >= u64::from(CONNECTIONS), "{tallies:?}");
    assert!(report.packets("steered") > 0 && report.packets("here") > 0, "{report:?}");
}

#[test]
fn connections_are_accepted_on_their_packets_cpu_at_the_stacks_door() {
    if ready() {
        check(false, Mode::Skb);
    }
}

#[test]
fn connections_are_accepted_on_their_packets_cpu_in_the_driver() {
    if ready() {
        check(true, Mode::Driver);
    }
}

#[test]
fn an_interface_that_goes_is_noticed_and_nothing_else_breaks() {
    if !ready() {
        return;
    }
    let (server, client) = (Namespace::new("server"), Namespace::new("client"));
    veth(&server, "s0", &client, "c0");
    let config = Config {
        interface: "s0".to_owned(),
        ports: vec![(8080, Protocol::Tcp)],
        cpus: vec![0, 1],
        pin: None,
        driver: false,
        mac: None,
    };
    let namespace = server.name.clone();
    server
        .within(move || {
            let mut steering = Steering::start(config.clone(), &Rules::default(), 1, Clock::now()).expect("root may");
            assert!(steering.interface_is_there());
            run(&format!("ip -n {namespace} link del s0"));
            assert!(!steering.interface_is_there());
            assert!(steering.apply(&Rules::default(), 1, Clock::now()).is_ok(), "maps are still there");
            let gone = Steering::start(config.clone(), &Rules::default(), 1, Clock::now());
            assert!(gone.is_err_and(|error| error.to_string().contains("is no interface")));
            run(&format!("ip -n {namespace} link add s0 type veth peer name s1"));
            drop(steering);
            Steering::start(config.clone(), &Rules::default(), 1, Clock::now()).expect("it is back");
            let own = Config { interface: "lo".to_owned(), ..config };
            let refused = Steering::start(own, &Rules::default(), 1, Clock::now());
            assert!(
                refused
                    .is_err_and(|error| error.to_string().contains("lo takes no XDP program: packets of the loopback"))
            );
        })
        .join()
        .expect("nothing panicked");
    drop(client);
}
