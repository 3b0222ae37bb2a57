//! Packets through the XDP program in the kernel (BPF_PROG_TEST_RUN): what each is, its bytes, and what must become of it.
//! Needs root and two CPUs; without them every test says that it was skipped.

mod build;
mod cases;
mod floods;
mod layout;
mod vips;

use aya::TestRun;
use aya::programs::TestRunOptions;
use plane_abi::steering::Protocol;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::io::Write;
use steer::abi;
use steer::xdp::{Config, Steering};

/// The verdicts of `enum xdp_action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Drop = 1,
    Pass = 2,
    Tx = 3,
    Redirect = 4,
}

pub(crate) const TCP_PORT: u16 = 8080;
pub(crate) const UDP_PORT: u16 = 4433;

/// The program with its maps, and the thread pinned to CPU 0 while flows belong to CPU 1.
pub(crate) struct Bench(pub(crate) Steering);

/// Whether the programs cannot be run here; says why, loudly. To be asked before the thread is pinned.
pub(crate) fn skipped() -> bool {
    let why = if !rustix::process::geteuid().is_root() {
        "needs root"
    } else if std::thread::available_parallelism().map_or(1, |count| count.get()) < 2 {
        "needs two CPUs"
    } else if let Err(why) = programs::STEER {
        why
    } else {
        return false;
    };
    say_skipped(&format!("packets through the kernel: {why}"));
    true
}

/// Says what is skipped, here and to `cargo xtask test`.
pub(crate) fn say_skipped(what: &str) {
    let line = format!("SKIPPED: {what}\n");
    eprint!("{line}");
    if let Some(log) = std::env::var_os("SELVAGE_SKIP_LOG") {
        let log = std::fs::File::options().append(true).create(true).open(log);
        log.and_then(|mut log| log.write_all(line.as_bytes())).expect("the skip log can be written");
    }
}

impl Bench {
    /// None where it is skipped.
    pub(crate) fn new() -> Option<Bench> {
        if skipped() {
            return None;
        }
        let mut only = CpuSet::new();
        only.set(0);
        sched_setaffinity(None, &only).expect("CPU 0 is there");
        let config = Config {
            interface: "lo".to_owned(),
            ports: vec![(TCP_PORT, Protocol::Tcp), (UDP_PORT, Protocol::Udp)],
            cpus: vec![1],
            pin: None,
            driver: false,
            mac: Some(build::OUR_MAC),
        };
        let mut steering = Steering::load(config).expect("the kernel takes the programs");
        steering.configure(|cfg| cfg.flags |= abi::CFG_STEER | abi::CFG_QUIC).expect("a map of ours");
        Some(Bench(steering))
    }

    /// Runs a frame through; gives verdict, frame, and the outcomes that were counted.
    pub(crate) fn run(&mut self, frame: &[u8]) -> (u32, Vec<u8>, Vec<&'static str>) {
        let before = self.0.report();
        let (verdict, out) = self.verdict(frame);
        let after = self.0.report();
        let counted = steer::report::REASON_NAMES.iter().map(|(_, name)| *name);
        let counted = counted.filter(|name| after.packets(name) > before.packets(name)).collect();
        (verdict, out, counted)
    }

    /// Runs a frame through; gives verdict and frame.
    pub(crate) fn verdict(&mut self, frame: &[u8]) -> (u32, Vec<u8>) {
        let mut out = vec![0; 4096];
        let options = TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::new() };
        let program = self.0.program().expect("it is loaded");
        let result = program.test_run(options).expect("the kernel runs it");
        out.truncate(result.data_size_out as usize);
        (result.return_value, out)
    }

    /// Runs a frame through and holds verdict and outcome against what is expected.
    pub(crate) fn check(&mut self, description: &str, frame: &[u8], verdict: Verdict, outcome: &str) -> Vec<u8> {
        let (found, out, counted) = self.run(frame);
        assert_eq!((found, &counted[..]), (verdict as u32, &[outcome][..]), "{description}");
        out
    }
}
