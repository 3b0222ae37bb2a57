//! Ten thousand connections that say something wrong; one that says something right is served throughout.

use crate::common::{Client, TestNode, active};
use std::time::Duration;

const HOSTILE_CONNECTIONS: u64 = 10_000;
const THREADS: u64 = 4;

const SEEDS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a.workers.localhost\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.workers.localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.workers.localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"POST / HTTP/1.1\r\nHost: a.workers.localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\nGET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
];

/// A small generator (SplitMix64), so that a failure comes again.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn message(&mut self) -> Vec<u8> {
        let mut bytes = SEEDS[self.below(SEEDS.len())].to_vec();
        for _ in 0..self.below(6) {
            let at = self.below(bytes.len());
            match self.below(4) {
                0 => bytes[at] = self.next() as u8,
                1 => bytes.insert(at, self.next() as u8),
                2 => bytes.truncate(at.max(1)),
                _ => bytes.extend_from_slice(SEEDS[self.below(SEEDS.len())]),
            }
        }
        bytes
    }
}

#[test]
fn hostile_connections_hurt_nobody_else() {
    let node = TestNode::start(&[active("a", "export default { fetch() { return new Response('ok') } }")], |_| {});
    let mut honest = node.connect();
    let address = node.address;
    std::thread::scope(|scope| {
        let attackers: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let mut noise = Noise(thread);
                    for _ in 0..HOSTILE_CONNECTIONS / THREADS {
                        let mut client = Client::connect(address);
                        client.send(&noise.message());
                        if noise.below(4) > 0 {
                            let _ = client.stream.shutdown(std::net::Shutdown::Write);
                            client.rest();
                        }
                    }
                })
            })
            .collect();
        while attackers.iter().any(|attacker| !attacker.is_finished()) {
            assert_eq!(honest.get("a", "/").text(), "ok");
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    assert_eq!(honest.get("a", "/").text(), "ok");
    assert_eq!((node.metrics.shards()[0].panics.get(), node.metrics.shards()[0].restarts.get()), (0, 0));
    assert!(node.metrics.shards()[0].requests[3].get() > HOSTILE_CONNECTIONS / 10, "most were answered 4xx");
}
