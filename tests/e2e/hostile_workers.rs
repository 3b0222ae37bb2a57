//! 1,000 hostile Workers: loops, allocation bombs, deep recursion, exceptions in every phase. The node's process is the same one
//! afterwards, and another tenant was served all the while.
//!
//! Each Worker is uploaded (so that it is validated in its process), and where it is valid, activated and asked. It may fail, with 4xx at
//! the upload or 5xx at the request, or answer; it must do so in bounded time. The victim's requests may be delayed by a CPU limit's worth of
//! another's time, never refused.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use e2e::full;
use e2e::hostile::workers::{self, Hostile};
use e2e::http::{Connection, Request};
use e2e::load::Load;
use e2e::platform::{Platform, Setup};
use e2e::random::Random;

/// A request to a hostile Worker must have ended, somehow, within this.
const END_MAX: Duration = Duration::from_secs(20);

#[test]
fn hostile_workers_end_themselves_only() {
    // One shard, so that the victim shares it with every hostile Worker.
    let mut platform = Platform::with(Setup::default());
    let victim = platform.deploy("victim", "export default { fetch() { return new Response('fine'); } };");
    let pid = platform.node.pid();
    let total = if full() { 1_000 } else { 120 };
    let mut random = Random::new(0xbad_5eed);
    let api = platform.api();
    let project = api.project(&platform.account, "default");
    let hostile = api.create(&project, "hostile");
    let load = Load::start(platform.http, &victim.host, 50);
    let (mut refused, mut answered, mut slowest) = (0, 0, (Duration::ZERO, String::new()));
    let begun = Instant::now();
    for number in 0..total {
        let Hostile { what, module, silent } = workers::nth(number, &mut random);
        let (status, envelope) = api.upload(&hostile.id, module.as_bytes());
        if status != 201 {
            assert!((400..500).contains(&status), "{what}: upload answered {status} {envelope}");
            refused += 1;
            continue;
        }
        let version = e2e::api::number(&envelope["result"]["version_number"]);
        api.activate(&hostile.id, version);
        for _ in 0..2 {
            let asked = Instant::now();
            ask(&platform, &hostile.host, &what, silent);
            if asked.elapsed() > slowest.0 {
                slowest = (asked.elapsed(), what.clone());
            }
        }
        answered += 1;
        assert!(platform.node.is_running(), "{what} ended the node\n{}", platform.node.log_tail());
    }
    let seen = load.finish();
    println!(
        "{total} hostile Workers in {:?}: {refused} refused at upload, {answered} ran; slowest {slowest:?}; victim: {}",
        begun.elapsed(),
        seen.summary()
    );
    assert_eq!(platform.node.pid(), pid);
    assert!(platform.node.is_running());
    assert_eq!(seen.failures, 0, "{:?}", seen.failure_texts);
    assert!(answered > refused, "most hostile Workers get to run: {answered} of {total}");
    assert_eq!(platform.get(&victim.host, "/").text(), "fine");
}

/// Asks the hostile Worker for something; anything but silence will do, and what is served endlessly is left after a while.
fn ask(platform: &Platform, host: &str, what: &str, silent: bool) {
    let deadline = Instant::now() + END_MAX;
    let mut connection = Connection::open(platform.http).unwrap_or_else(|error| panic!("{what}: {error}"));
    let request = Request::new("GET", host, "/").header("Connection", "close");
    std::io::Write::write_all(connection.stream(), &request.bytes()).unwrap_or_else(|error| panic!("{what}: {error}"));
    connection.stream().set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    let mut bytes = [0; 64 * 1024];
    let mut total = 0usize;
    loop {
        match std::io::Read::read(connection.stream(), &mut bytes) {
            Ok(0) => return,
            Ok(count) => {
                total += count;
                if total > 4 << 20 {
                    return;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                // A reply has begun and goes on for ever, or a timer keeps the request open: leaving is the client's right.
                if total > 0 {
                    return;
                }
                assert!(Instant::now() < deadline, "{what}: no answer within {END_MAX:?}");
                if silent {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}
