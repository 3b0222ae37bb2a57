//! 10,000 hostile requests from a seed: the node's process is the same one afterwards, and others were served all the while.

use std::time::{Duration, Instant};

use e2e::full;
use e2e::hostile::requests::{self, HOST, WORKER};
use e2e::http::{get, raw};
use e2e::load::Load;
use e2e::platform::Platform;
use e2e::random::Random;

/// Threads that attack.
const ATTACKERS: u64 = 4;

#[test]
fn hostile_requests_harm_nobody() {
    let mut platform = Platform::start();
    platform.deploy("victim", WORKER);
    let total: u64 = if full() { 10_000 } else { 2_000 };
    let pid = platform.node.pid();
    let load = Load::start(platform.http, HOST, 100);
    let begun = Instant::now();
    let attackers: Vec<_> = (0..ATTACKERS)
        .map(|attacker| {
            let (address, mut random) = (platform.http, Random::new(0x5e1_7a6e + attacker));
            std::thread::spawn(move || {
                for _ in 0..total / ATTACKERS {
                    let bytes = requests::nth(&mut random);
                    // Whatever it says is fine; that it accepts at all is the point.
                    let patience = Duration::from_millis(if random.one_in(50) { 200 } else { 5 });
                    raw(address, &bytes, patience).unwrap_or_else(|error| {
                        panic!("the node does not accept: {error}, after {:?}", String::from_utf8_lossy(&bytes))
                    });
                }
            })
        })
        .collect();
    for attacker in attackers {
        attacker.join().expect("the node accepted every connection");
    }
    let seen = load.finish();
    println!("{total} hostile requests in {:?}; load: {}", begun.elapsed(), seen.summary());
    assert!(platform.node.is_running(), "{}", platform.node.log_tail());
    assert_eq!(platform.node.pid(), pid);
    assert_eq!(seen.failures, 0, "{:?}", seen.failure_texts);
    assert_eq!(get(platform.http, HOST, "/").text(), "fine");
}
