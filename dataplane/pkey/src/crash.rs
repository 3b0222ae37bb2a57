//! The crash report: which tenant's turn ran where when the process died, and of what.
//!
//! A fault of a protection key, and any other fatal signal, is written to standard error and to `crash-<pid>-<tid>.txt` in
//! the folder given to [`install`]; then the process dies of that signal as it would have. It is not survived: whoever reached for
//! another tenant's memory may have reached key 0 before, where nothing would have stopped it
//! (`docs/decisions/2026-11-21-protection-keys.md`).
//!
//! *Invariants:* the handler calls nothing that is not async-signal-safe, runs on the thread's alternate stack with the
//! kernel's default rights (key 0), and touches no tenant's memory. A fault inside it ends the process.

use std::{
    ffi::{CString, c_int, c_void},
    mem::{MaybeUninit, zeroed},
    os::unix::ffi::OsStrExt as _,
    path::Path,
    ptr,
    sync::OnceLock,
};

use crate::domain;

/// `SEGV_PKUERR` of `asm-generic/siginfo.h`.
const SEGV_PKUERR: c_int = 4;
/// Where `si_pkey` lies in `siginfo_t` on 64-bit Linux.
const SI_PKEY_AT: usize = 32;
/// Signals that mean a crash.
const SIGNALS: [c_int; 6] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGABRT];

struct Installed {
    /// Path of the report up to its process id.
    path: Option<CString>,
    /// Where the program was loaded.
    base: usize,
    before: [libc::sigaction; SIGNALS.len()],
}

static INSTALLED: OnceLock<Installed> = OnceLock::new();

/// Installs the handlers, once for the process; later calls do nothing. Without a folder, reports go to standard error only.
pub fn install(folder: Option<&Path>) {
    let mut first = false;
    INSTALLED.get_or_init(|| {
        first = true;
        let path = folder.and_then(|folder| CString::new(folder.join("crash-").as_os_str().as_bytes()).ok());
        // SAFETY: all-zero is a valid `sigaction`, filled in below; the call only reads the current action.
        let before = SIGNALS.map(|signal| unsafe {
            let mut action: libc::sigaction = zeroed();
            libc::sigaction(signal, ptr::null(), &raw mut action);
            action
        });
        Installed { path, base: base(), before }
    });
    if !first {
        return;
    }
    for signal in SIGNALS {
        // SAFETY: a zeroed `sigaction` filled in; the handler is what this module says it is.
        unsafe {
            let mut action: libc::sigaction = zeroed();
            action.sa_sigaction = on_signal as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(signal, &raw const action, ptr::null_mut());
        }
    }
}

/// Where the program's first segment was loaded, so that addresses can be looked up in its symbols.
fn base() -> usize {
    unsafe extern "C" fn first(info: *mut libc::dl_phdr_info, _size: usize, found: *mut c_void) -> c_int {
        // SAFETY: `dl_iterate_phdr` passes valid information, and our own variable.
        unsafe { *found.cast::<usize>() = (*info).dlpi_addr as usize };
        1
    }
    let mut found = 0usize;
    // SAFETY: `first` has the signature that is wanted; `found` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut found).cast()) };
    found
}

extern "C" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let Some(installed) = INSTALLED.get() else { return };
    for (number, action) in SIGNALS.iter().zip(&installed.before) {
        // SAFETY: an action that was in force before. From here on a crash ends the process.
        unsafe { libc::sigaction(*number, action, ptr::null_mut()) };
    }
    let mut text = Text::new();
    // SAFETY: the kernel passes a signal's information and the interrupted context.
    let code = unsafe { describe(&mut text, installed, signal, info, context.cast()) };
    write_all(libc::STDERR_FILENO, text.bytes());
    if let Some(path) = &installed.path {
        let mut name = Text::new();
        name.text(path.as_bytes()).number(process()).text(b"-").number(thread()).text(b".txt\0");
        let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_APPEND | libc::O_CLOEXEC;
        // SAFETY: a string that ends with a zero byte, or was cut and then fails to be a string: `ended` says which.
        let file = if name.ended() { unsafe { libc::open(name.bytes().as_ptr().cast(), flags, 0o600) } } else { -1 };
        if file >= 0 {
            write_all(file, text.bytes());
            // SAFETY: the descriptor just opened.
            unsafe { libc::close(file) };
        }
    }
    if code <= 0 {
        // Sent, not caused by an instruction that will fault again; an older handler might return from it.
        // SAFETY: the default action, and a signal to ourselves, delivered when this handler returns.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::syscall(libc::SYS_tgkill, process(), thread(), signal)
        };
    }
}

/// Says what happened; gives the signal's code.
///
/// # Safety
/// `info` and `context` are what the kernel passed to the handler.
unsafe fn describe(
    text: &mut Text,
    installed: &Installed,
    signal: c_int,
    info: *const libc::siginfo_t,
    context: *const libc::ucontext_t,
) -> c_int {
    // SAFETY: valid by this function's contract.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    let fault = matches!(signal, libc::SIGSEGV | libc::SIGBUS);
    text.text(b"selvage crash: ");
    if signal == libc::SIGSEGV && code == SEGV_PKUERR {
        // SAFETY: the structure is 128 bytes, of which the kernel fills this field for this code.
        let key = unsafe { info.cast::<u8>().add(SI_PKEY_AT).cast::<u32>().read() };
        text.text(b"protection key fault: access to a page of key ").number(u64::from(key));
    } else {
        text.text(b"signal ").number(signal as u64).text(b" code ").number(code as u32 as u64);
    }
    if fault {
        text.text(b" at address 0x").hex(address as u128, 1);
    }
    // SAFETY: the domain is that of the interrupted turn, which has not ended.
    match unsafe { domain::current() } {
        Some(domain) => {
            text.text(b", in a turn of tenant ").hex(domain.account(), 32);
            text.text(b" (key ").number(u64::from(domain.key().number())).text(b")");
        }
        None => {
            text.text(b", in no tenant's turn");
        }
    }
    let mut name = [0u8; 16];
    // SAFETY: a buffer of the size that this call writes.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    text.text(b", thread ").text(name).text(b" (").number(thread()).text(b")");
    // SAFETY: valid by this function's contract.
    let (instruction, stack) = unsafe { registers(&(*context).uc_mcontext) };
    text.text(b", instruction 0x").hex(instruction as u128, 1);
    text.text(b" = program + 0x").hex(instruction.wrapping_sub(installed.base) as u128, 1);
    text.text(b", stack 0x").hex(stack as u128, 1);
    let mut now = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the call fills the structure in; it cannot fail for this clock.
    let seconds = unsafe {
        libc::clock_gettime(libc::CLOCK_REALTIME, now.as_mut_ptr());
        now.assume_init().tv_sec
    };
    text.text(b", Unix time ").number(seconds as u64).text(b"\n");
    code
}

#[cfg(target_arch = "x86_64")]
fn registers(context: &libc::mcontext_t) -> (usize, usize) {
    (context.gregs[libc::REG_RIP as usize] as usize, context.gregs[libc::REG_RSP as usize] as usize)
}

#[cfg(target_arch = "aarch64")]
fn registers(context: &libc::mcontext_t) -> (usize, usize) {
    (context.pc as usize, context.sp as usize)
}

fn process() -> u64 {
    // SAFETY: a system call without arguments.
    (unsafe { libc::getpid() }) as u64
}

fn thread() -> u64 {
    // SAFETY: a system call without arguments.
    (unsafe { libc::syscall(libc::SYS_gettid) }) as u64
}

fn write_all(file: c_int, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: a live slice.
        let written = unsafe { libc::write(file, bytes.as_ptr().cast(), bytes.len()) };
        match usize::try_from(written) {
            Ok(written @ 1..) => bytes = &bytes[written..],
            _ => return,
        }
    }
}

/// Text in a fixed place; what does not fit is cut.
struct Text {
    bytes: [u8; 1024],
    len: usize,
}

impl Text {
    fn new() -> Text {
        Text { bytes: [0; 1024], len: 0 }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn ended(&self) -> bool {
        self.bytes().last() == Some(&0)
    }

    fn text(&mut self, text: &[u8]) -> &mut Text {
        let room = &mut self.bytes[self.len..];
        let len = text.len().min(room.len());
        room[..len].copy_from_slice(&text[..len]);
        self.len += len;
        self
    }

    fn number(&mut self, number: u64) -> &mut Text {
        self.digits(u128::from(number), 10, 1)
    }

    fn hex(&mut self, number: u128, digits_min: usize) -> &mut Text {
        self.digits(number, 16, digits_min)
    }

    fn digits(&mut self, mut number: u128, base: u128, digits_min: usize) -> &mut Text {
        let mut digits = [b'0'; 40];
        let mut at = digits.len();
        while number > 0 || digits.len() - at < digits_min {
            at -= 1;
            digits[at] = b"0123456789abcdef"[(number % base) as usize];
            number /= base;
        }
        self.text(&digits[at..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_cuts() {
        let mut text = Text::new();
        text.number(0).text(b" ").number(u64::MAX).text(b" ").hex(0xbeef, 1).text(b" ").hex(7, 32);
        assert_eq!(text.bytes(), b"0 18446744073709551615 beef 00000000000000000000000000000007");
        text.text(&[b'x'; 4096]);
        assert_eq!(text.bytes().len(), 1024);
        assert!(!text.ended());
    }
}
