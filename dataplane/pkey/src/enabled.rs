//! Keys of x86-64 (PKU): allocation, the rights register PKRU, `pkey_mprotect`. Linux: `pkeys(7)`.
//!
//! PKRU has two bits a key: bit 0 denies any access, bit 1 denies writes. A thread is born with its parent's; a signal
//! handler starts with the kernel's default, key 0 alone.

use std::{
    arch::asm,
    io,
    ops::Range,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
};

use crate::{Key, Reason, Status, TENANT_KEYS_MAX, VARIABLE};

/// `PKEY_DISABLE_ACCESS`.
const DENY: u32 = 1;
/// `PKEY_DISABLE_WRITE`.
const READ_ONLY: u32 = 2;
/// Fewest keys for tenants with which keys are worth their price.
const TENANT_KEYS_MIN: usize = 2;

static ON: AtomicBool = AtomicBool::new(false);
/// PKRU of a thread outside of any domain.
static HOST: AtomicU32 = AtomicU32::new(0);
static KEYS: OnceLock<Result<Keys, Reason>> = OnceLock::new();

struct Keys {
    jit: Option<Key>,
    secrets: Key,
    spare: Key,
    tenants: Vec<Key>,
}

/// Takes the process's keys. `start_v8` creates V8's platform, which takes one of its own, here found out and left alone.
/// Once, before there are other threads; a second call only gives the status, without running `start_v8`.
pub fn init(start_v8: impl FnOnce()) -> Status {
    KEYS.get_or_init(|| {
        let first = probe();
        start_v8();
        if std::env::var_os(VARIABLE).is_some_and(|value| value == "off") {
            return Err(Reason::Asked);
        }
        let first = first.map_err(Reason::Unavailable)?;
        // V8 asked for "no writing"; whoever else might have taken the key did not.
        let jit = (read_rights() >> (2 * first.0) & 3 == READ_ONLY).then_some(first);
        let mut free: Vec<Key> = std::iter::from_fn(|| allocate().ok()).take(15).collect();
        if free.len() < TENANT_KEYS_MIN + 2 {
            let found = free.len();
            free.into_iter().for_each(release);
            return Err(Reason::TooFew(found));
        }
        let secrets = free.remove(0);
        let spare = free.remove(0);
        while free.len() > TENANT_KEYS_MAX {
            free.pop().into_iter().for_each(release);
        }
        let keys = Keys { jit, secrets, spare, tenants: free };
        HOST.store(host_rights_for(&keys, read_rights()), Relaxed);
        ON.store(true, Relaxed);
        set_rights(host_rights());
        Ok(keys)
    });
    status()
}

/// Rights outside of any domain: what the thread had to keys that nobody here knows, none to ours, reading V8's code.
fn host_rights_for(keys: &Keys, now: u32) -> u32 {
    let ours = keys.tenants.iter().chain([&keys.secrets, &keys.spare]);
    let denied = ours.fold(now, |rights, key| with(rights, *key, DENY));
    keys.jit.map_or(denied, |key| with(denied, key, READ_ONLY))
}

fn with(rights: u32, key: Key, bits: u32) -> u32 {
    rights & !(3 << (2 * key.0)) | bits << (2 * key.0)
}

/// The key that the next `pkey_alloc` will give: the lowest free one.
fn probe() -> Result<Key, i32> {
    let key = allocate()?;
    release(key);
    Ok(key)
}

fn allocate() -> Result<Key, i32> {
    // SAFETY: a system call with numbers only.
    let key = unsafe { libc::syscall(libc::SYS_pkey_alloc, 0, DENY) };
    u8::try_from(key).map(Key).map_err(|_| io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

fn release(key: Key) {
    // SAFETY: a key that was just taken, and that no page carries.
    unsafe { libc::syscall(libc::SYS_pkey_free, i32::from(key.0)) };
}

fn keys() -> Option<&'static Keys> {
    KEYS.get().and_then(|keys| keys.as_ref().ok())
}

/// Whether keys are in use, or why not.
pub fn status() -> Status {
    match KEYS.get() {
        None => Status::Off(Reason::NotStarted),
        Some(Err(reason)) => Status::Off(*reason),
        Some(Ok(keys)) => Status::On { tenants: keys.tenants.len() },
    }
}

/// Whether keys are in use.
#[inline(always)]
pub fn is_on() -> bool {
    ON.load(Relaxed)
}

/// The keys that tenants share; empty while keys are off.
pub fn tenant_keys() -> &'static [Key] {
    keys().map_or(&[], |keys| &keys.tenants)
}

/// The key of isolates that nobody has claimed; key 0 while keys are off.
pub fn spare_key() -> Key {
    keys().map_or(Key::NONE, |keys| keys.spare)
}

/// The key of [`Secret`](crate::Secret)s; key 0 while keys are off.
pub fn secrets_key() -> Key {
    keys().map_or(Key::NONE, |keys| keys.secrets)
}

/// V8's own key, on its code.
pub fn jit_key() -> Option<Key> {
    keys().and_then(|keys| keys.jit)
}

#[inline(always)]
pub(crate) fn host_rights() -> u32 {
    HOST.load(Relaxed)
}

/// Rights inside a domain with this key.
#[inline(always)]
pub(crate) fn rights_of(key: Key) -> u32 {
    host_rights() & !(3 << (2 * key.0))
}

/// The calling thread's PKRU; 0 while keys are off.
#[inline(always)]
pub fn rights() -> u32 {
    if is_on() { read_rights() } else { 0 }
}

/// PKRU. Only where the processor and the kernel have keys.
#[inline(always)]
fn read_rights() -> u32 {
    let rights: u32;
    // SAFETY: RDPKRU reads a register. It is there: keys are on, or `init` has got a key from the kernel.
    unsafe { asm!("rdpkru", in("ecx") 0, out("eax") rights, out("edx") _, options(nomem, nostack, preserves_flags)) };
    rights
}

/// Sets the calling thread's PKRU. Only while keys are on.
#[inline(always)]
pub(crate) fn set_rights(rights: u32) {
    debug_assert!(is_on());
    // SAFETY: WRPKRU exists where keys are on. Not `nomem`: no access to memory may be moved across it by the compiler, and the
    // processor moves none (Intel SDM, WRPKRU). Rights are only ever taken away from memory whose accesses are confined to
    // domains.
    unsafe { asm!("wrpkru", in("eax") rights, in("ecx") 0, in("edx") 0, options(nostack, preserves_flags)) };
}

/// Sets protection and key of whole pages. Nothing to do while keys are off.
///
/// # Safety
/// As for `mprotect`: nothing that this program relies on reaches the pages in a way that is denied after.
pub unsafe fn set_key(range: Range<usize>, protection: i32, key: Key) -> io::Result<()> {
    if !is_on() {
        return Ok(());
    }
    // SAFETY: the caller's promise; the kernel checks the range.
    let failed = unsafe {
        libc::syscall(libc::SYS_pkey_mprotect, range.start, range.end - range.start, protection, i32::from(key.0))
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
