//! Compiled code comes with its module, is checked byte for byte, and is made anew where it is spoilt.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use e2e::eventually;
use e2e::http::{Connection, Request};
use e2e::platform::Platform;

const MODULE: &str =
    "function text() { return 'compiled'; }\nexport default { fetch() { return new Response(text()); } };";
/// What a node appends to an envelope: its mark.
const MARK_BYTES: usize = 32;
const SOON: Duration = Duration::from_secs(20);

fn files(folder: PathBuf) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn metric(platform: &Platform, name: &str) -> u64 {
    let mut admin = Connection::open(platform.admin).expect("the admin listener");
    let text = admin.exchange(&Request::new("GET", "localhost", "/metrics")).expect("answers").text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    line.unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[test]
fn code_comes_with_its_module_and_spoilt_code_is_made_anew() {
    let mut platform = Platform::start();
    let deployed = platform.deploy("code", MODULE);
    assert_eq!(platform.get(&deployed.host, "/").text(), "compiled");
    let envelopes: Vec<Vec<u8>> = files(platform.folder().join("control").join("artifacts"))
        .into_iter()
        .map(|path| fs::read(path).expect("read"))
        .filter(|bytes| bytes.starts_with(b"SLVGCODE"))
        .collect();
    let [envelope] = &envelopes[..] else { panic!("{} code caches in the artifact store", envelopes.len()) };
    let on_node = files(platform.node_data().join("code"));
    let [file] = &on_node[..] else { panic!("{on_node:?}") };
    let good = fs::read(file).expect("read");
    assert_eq!(&good[..good.len() - MARK_BYTES], &envelope[..], "the node has what the control plane made");
    assert!(metric(&platform, "selvage_code_cache_used_total") >= 1, "the Worker started from it");
    assert_eq!(metric(&platform, "selvage_code_cache_made_total"), 0);
    assert_eq!(metric(&platform, "selvage_code_cache_refused_total{reason=\"rejected\"}"), 0, "V8 took it");

    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    // As another key's node would have it: whole, but nobody's.
    let foreign = [&envelope[..], &[0; MARK_BYTES][..]].concat();
    for (spoilt, reason) in [
        (Some(&flipped[..]), "unmarked"),
        (Some(&good[..good.len() / 2]), "unmarked"),
        (Some(&foreign[..]), "unmarked"),
        (Some(&good[..7]), "length"),
        (None, "absent"),
    ] {
        platform.node.kill();
        match spoilt {
            Some(bytes) => fs::write(file, bytes).expect("written"),
            None => fs::remove_file(file).expect("removed"),
        }
        platform.restart_node(false);
        assert_eq!(platform.await_status(&deployed.host, "/", 200).text(), "compiled");
        let refused = format!("selvage_code_cache_refused_total{{reason=\"{reason}\"}}");
        assert!(metric(&platform, &refused) >= 1, "{reason}");
        eventually("the node has made its own", SOON, || {
            (metric(&platform, "selvage_code_cache_made_total") == 1).then_some(())
        });
        platform.node.kill();
        platform.restart_node(false);
        assert_eq!(platform.await_status(&deployed.host, "/", 200).text(), "compiled");
        assert!(metric(&platform, "selvage_code_cache_used_total") >= 1, "the next start is fast again");
        assert_eq!(metric(&platform, "selvage_code_cache_refused_total{reason=\"rejected\"}"), 0);
    }

    // With the control plane at hand, a spoilt one is replaced by its own.
    platform.node.kill();
    fs::write(file, &flipped).expect("written");
    platform.restart_node(true);
    platform.await_connected();
    assert_eq!(platform.await_status(&deployed.host, "/", 200).text(), "compiled");
    eventually("the code is whole again", SOON, || {
        let bytes = fs::read(file).ok()?;
        (bytes.len() > MARK_BYTES && bytes.starts_with(b"SLVGCODE") && bytes != flipped).then_some(())
    });
}
