//! The harness of the end-to-end tests: real processes, real sockets, nothing of Selvage linked in.
//!
//! Owns: starting and ending a control plane and nodes on ports of the system's choice and in folders of their own
//! ([`platform`]), the API ([`api`]) and HTTP as a client speaks it ([`http`]), an open-loop load ([`load`]), network namespaces ([`netns`]), a database server ([`postgres`]), deterministic randomness
//! ([`random`]), and the attackers' corpus ([`hostile`]). *Invariants:* every process that a test starts is gone when its value is
//! dropped, also when the test panics; every wait has a deadline; nothing leaves loopback. A failed test shows the last lines of its processes' logs.
//!
//! Binaries are taken from `$SELVAGE_BIN_DIR`, else from the folder above the test executable's (`target/release`). Some tests have a short form for
//! every day and a long one: `SELVAGE_E2E_FULL=1`.

#![forbid(unsafe_code)]

pub mod api;
pub mod browser;
pub mod hostile;
pub mod http;
pub mod load;
pub mod netns;
pub mod npm;
pub mod platform;
pub mod postgres;
pub mod process;
pub mod random;

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The path of one of Selvage's programs. Panics with what to do if it is not there.
pub fn binary(name: &str) -> PathBuf {
    let folder = match std::env::var_os("SELVAGE_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let own = std::env::current_exe().expect("a test knows its own path");
            own.parent().and_then(|deps| deps.parent()).expect("target/release/deps/e2e-…").to_owned()
        }
    };
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is not there: `cargo build --release -p control -p node -p cli` makes it, or set SELVAGE_BIN_DIR",
        path.display()
    );
    path
}

/// A file or folder of the checkout.
pub fn checkout(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Whether the long forms are wanted.
pub fn full() -> bool {
    std::env::var_os("SELVAGE_E2E_FULL").is_some_and(|value| value != "0" && !value.is_empty())
}

/// Says that something was not tested, where `cargo xtask test` finds it.
pub fn skipped(what: &str) {
    let line = format!("SKIPPED: {what}\n");
    eprint!("{line}");
    if let Some(log) = std::env::var_os("SELVAGE_SKIP_LOG")
        && let Ok(mut log) = std::fs::OpenOptions::new().append(true).create(true).open(log)
    {
        // The line is on stderr in any case.
        let _ = std::io::Write::write_all(&mut log, line.as_bytes());
    }
}

/// Tries every 5 ms until `probe` gives something, or panics with `what` after `limit`.
pub fn eventually<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
