//! Hosts and paths as they are measured with: ten paths a host, one host in twenty a wildcard, common paths and paths of the host's own.

use plane_abi::{HostKind, PathKind};

/// Paths of one host.
pub(crate) const ROUTES_PER_HOST: u64 = 10;
/// What hosts and paths are made of.
pub(crate) const WORDS: [&str; 16] = [
    "amber", "birch", "cobalt", "delta", "ember", "fjord", "garnet", "harbor", "indigo", "juniper", "kestrel", "lumen",
    "maple", "nimbus", "onyx", "prairie",
];
const TOP: [&str; 5] = ["com", "org", "net", "example", "co.uk"];
const PATHS: [(&str, PathKind); 7] = [
    ("/", PathKind::Prefix),
    ("/api/", PathKind::Prefix),
    ("/api/v1/users/", PathKind::Prefix),
    ("/api/v2/", PathKind::Prefix),
    ("/assets/", PathKind::Prefix),
    ("/login", PathKind::Exact),
    ("/shop/checkout", PathKind::Exact),
];

/// SplitMix64.
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One of them, by a number.
pub(crate) fn pick<'a>(words: &[&'a str], number: u64) -> &'a str {
    words[(number % words.len() as u64) as usize]
}

/// The `index`th host, without `*.`.
pub(crate) fn host(index: u64) -> (HostKind, String) {
    let bits = mix(index);
    let (word, other, top) = (pick(&WORDS, bits), pick(&WORDS, bits >> 8), pick(&TOP, bits >> 16));
    match index % 20 {
        0 => (HostKind::Wildcard, format!("{word}-{index}.{top}")),
        odd if odd % 2 == 1 => (HostKind::Exact, format!("www.{word}{other}-{index}.{top}")),
        _ => (HostKind::Exact, format!("{word}-{index}.{top}")),
    }
}

/// A host's `route`th path, without the final `*`.
pub(crate) fn path(index: u64, route: u64) -> (PathKind, String) {
    match PATHS.get(route as usize) {
        Some((path, kind)) => (*kind, (*path).to_owned()),
        None => {
            let bits = mix(index ^ route << 40);
            let (word, other) = (pick(&WORDS, bits), pick(&WORDS, bits >> 8));
            (PathKind::Prefix, format!("/{word}/{other}{}/", bits >> 16 & 0x3ff))
        }
    }
}
