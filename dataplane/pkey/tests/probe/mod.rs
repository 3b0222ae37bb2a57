//! Loads and stores that survive a fault and say which key it was of: the artificial read of somebody who has taken over
//! an isolate. For tests only.
#![allow(dead_code)]

use std::{
    arch::global_asm,
    ffi::{c_int, c_void},
    io::Write as _,
    sync::Once,
};

global_asm!(
    ".globl selvage_probe_load",
    "selvage_probe_load:",
    "mov al, [rdi]",
    "xor eax, eax",
    "ret",
    ".globl selvage_probe_store",
    "selvage_probe_store:",
    "mov [rdi], sil",
    "xor eax, eax",
    "ret",
    ".globl selvage_probe_faulted",
    "selvage_probe_faulted:",
    "ret",
);

unsafe extern "C" {
    /// 0, or what `on_fault` has put into the register of the answer: threads may fault at the same time.
    fn selvage_probe_load(address: usize) -> u64;
    fn selvage_probe_store(address: usize, byte: u8) -> u64;
    fn selvage_probe_faulted();
}

/// What an access did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Done,
    /// A fault of this protection key.
    Key(u32),
    /// Another fault: not mapped, or protected from everybody.
    Fault,
}

/// Bit of the answer: it faulted. The signal's code is in the 31 bits below, the key in the other 32.
const FAULTED: u64 = 1 << 63;

extern "C" fn on_fault(_signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes both.
    let (info, context) = unsafe { (&*info, &mut *context.cast::<libc::ucontext_t>()) };
    let registers = &mut context.uc_mcontext.gregs;
    let probes = [selvage_probe_load as *const () as i64, selvage_probe_store as *const () as i64];
    if !probes.contains(&registers[libc::REG_RIP as usize]) {
        // Not ours: the process dies of it when the instruction runs again.
        // SAFETY: restores the default action.
        unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
        return;
    }
    // SAFETY: `si_pkey` of a structure of 128 bytes.
    let key = unsafe { (&raw const *info).cast::<u32>().add(8).read() };
    let answer = FAULTED | u64::from(info.si_code.unsigned_abs()) << 32 | u64::from(key);
    registers[libc::REG_RAX as usize] = answer.cast_signed();
    registers[libc::REG_RIP as usize] = selvage_probe_faulted as *const () as i64;
}

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: a zeroed action filled in.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            assert_eq!(libc::sigaction(libc::SIGSEGV, &raw const action, std::ptr::null_mut()), 0);
        }
    });
}

fn told(answer: u64) -> Access {
    const SEGV_PKUERR: u64 = 4;
    match (answer & FAULTED, (answer & !FAULTED) >> 32) {
        (0, _) => Access::Done,
        (_, SEGV_PKUERR) => Access::Key(u32::try_from(answer & u64::from(u32::MAX)).expect("32 bits")),
        _ => Access::Fault,
    }
}

/// Reads the byte at an address, whatever is there.
pub(crate) fn load(address: usize) -> Access {
    install();
    // SAFETY: the one instruction that may fault is skipped by the handler.
    told(unsafe { selvage_probe_load(address) })
}

/// Writes a byte.
pub(crate) fn store(address: usize, byte: u8) -> Access {
    install();
    // SAFETY: as above; the tests pass memory of their own.
    told(unsafe { selvage_probe_store(address, byte) })
}

/// Says loudly that a test did not run.
pub(crate) fn skip(what: &str) {
    let line = format!("SKIPPED: {what}: this CPU has no protection keys; run `cargo xtask keys`\n");
    eprint!("{line}");
    if let Some(log) = std::env::var_os("SELVAGE_SKIP_LOG")
        && let Ok(mut log) = std::fs::OpenOptions::new().append(true).create(true).open(log)
    {
        let _ = log.write_all(line.as_bytes());
    }
    // Under `cargo xtask keys` a skipped test is a failed one.
    assert!(std::env::var_os("SELVAGE_KEYS_REQUIRED").is_none(), "keys are required here");
}
