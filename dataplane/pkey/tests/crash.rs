//! A crash without keys gets the same report, and stays a crash.

use std::{os::unix::process::ExitStatusExt as _, path::PathBuf, process::Command};

const TEST: &str = "a_fault_is_reported_and_stays_a_crash";

#[test]
fn a_fault_is_reported_and_stays_a_crash() {
    if let Some(folder) = std::env::var_os("PKEY_CRASH") {
        let domain = pkey::Domain::new();
        domain.claim(0x1234).expect("nothing to tag");
        pkey::crash::install(Some(&PathBuf::from(folder)));
        let _in = domain.enter();
        if std::env::var_os("PKEY_CRASH_ABORT").is_some() {
            std::process::abort();
        }
        if std::env::var_os("PKEY_CRASH_SENT").is_some() {
            // SAFETY: a signal to this thread.
            unsafe { libc::raise(libc::SIGSEGV) };
            return;
        }
        // SAFETY: it is not: this must fault.
        let byte = unsafe { std::ptr::read_volatile(std::ptr::without_provenance::<u8>(8 << 12)) };
        unreachable!("read {byte}");
    }
    for (how, signal) in [("", libc::SIGSEGV), ("PKEY_CRASH_SENT", libc::SIGSEGV), ("PKEY_CRASH_ABORT", libc::SIGABRT)]
    {
        let folder = std::env::temp_dir().join(format!("selvage-crash-{}-{signal}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("folder");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", TEST, "--nocapture", "--test-threads=1"]).env("PKEY_CRASH", &folder);
        if !how.is_empty() {
            command.env(how, "1");
        }
        let output = command.output().expect("runs");
        assert_eq!(output.status.signal(), Some(signal), "{output:?}");
        let report = std::fs::read_dir(&folder).expect("folder").next().expect("a report").expect("its entry").path();
        let report = std::fs::read_to_string(report).expect("text");
        assert!(report.contains(&format!("signal {signal} code ")), "{report}");
        assert!(report.contains("in a turn of tenant 00000000000000000000000000001234 (key "), "{report}");
        assert_eq!(report.contains("at address 0x8000"), how.is_empty(), "{report}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(report.trim()), "on standard error too");
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
