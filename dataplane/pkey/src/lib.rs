//! Memory protection keys: a fence between the memories of tenants, and around the node's long-lived secrets.
//!
//! *Owns:* all keys of the process but V8's own, the calling thread's rights (PKRU), which key a tenant has on a thread, the
//! tagging of memory, the crash report, and the process's fence against ways around keys ([`fence`]).
//! *Does not:* know V8 or what a request is.
//! *Invariants:* outside of [`Domain::enter`] a thread has no right to any tenant's memory; inside it has the right to
//! one tenant's, to key 0, and to read V8's code. Nobody has the right to secrets outside of [`Secret::with`].
//! *Twins:* `enabled` on x86-64, `disabled` elsewhere; where the processor or the kernel has no keys, `enabled` says so at
//! [`init`] and then does nothing but test one static flag.
//! *Bounds:* [`TENANT_KEYS_MAX`] keys for tenants; a domain has at most [`REGIONS_MAX`] regions.
//! *Not covered:* key 0 (stacks, V8's own structures, the Rust heap) is open to everybody: see `docs/SECURITY.md`.

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod disabled;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod enabled;
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
use disabled as twin;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use enabled as twin;

mod assign;
pub mod crash;
mod domain;
pub mod fence;
pub mod maps;
mod regions;
mod secret;

pub use assign::tenant_key;
pub use domain::{Domain, Previous, REGIONS_MAX, Suspended, abandoned, current, renew, resume, suspend};
pub use regions::Regions;
pub use secret::Secret;

/// Most keys that tenants share.
pub const TENANT_KEYS_MAX: usize = 12;

/// The variable that turns keys off where there are some: `SELVAGE_PKEYS=off`.
pub const VARIABLE: &str = "SELVAGE_PKEYS";

/// A protection key; 0 is every page's key until it is tagged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub(crate) u8);

impl Key {
    /// The key of memory that is not tagged.
    pub const NONE: Key = Key(0);

    /// Its number, as `ProtectionKey` of `/proc/self/smaps` shows it.
    pub fn number(self) -> u8 {
        self.0
    }
}

/// Whether keys are in use, or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// They are: this many for tenants.
    On {
        /// Keys that tenants share.
        tenants: usize,
    },
    /// They are not.
    Off(Reason),
}

/// Why keys are off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// [`init`] has not run.
    NotStarted,
    /// The program was built for a processor without keys.
    Architecture,
    /// `pkey_alloc` failed with this error: the processor or the kernel has none.
    Unavailable(i32),
    /// Others hold so many keys that no two tenants could be told apart.
    TooFew(usize),
    /// `SELVAGE_PKEYS=off`.
    Asked,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reason::NotStarted => f.write_str("not started"),
            Reason::Architecture => f.write_str("built for a processor without protection keys"),
            Reason::Unavailable(libc::ENOSPC | libc::EINVAL) => f.write_str("this CPU has no protection keys"),
            Reason::Unavailable(libc::ENOSYS) => f.write_str("this kernel has no protection keys"),
            Reason::Unavailable(error) => write!(f, "pkey_alloc failed with error {error}"),
            Reason::TooFew(found) => write!(f, "only {found} protection keys are free"),
            Reason::Asked => write!(f, "{VARIABLE}=off"),
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Status::On { tenants } => write!(f, "on, {tenants} for tenants"),
            Status::Off(reason) => write!(f, "off: {reason}"),
        }
    }
}

pub use twin::{init, is_on, jit_key, rights, secrets_key, set_key, spare_key, status, tenant_keys};
