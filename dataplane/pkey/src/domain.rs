//! [`Domain`]: the memory of one isolate, its key, and the right to use it.

use std::{
    cell::Cell,
    io,
    ops::Range,
    ptr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
};

use crate::{Key, Regions, is_on, maps, tenant_key, twin};

/// Most regions of one domain: a bound on what is remembered. A region past it is tagged and keeps its key for ever.
pub const REGIONS_MAX: usize = 65_536;

/// The memory of one isolate: regions of whole pages that carry one key.
///
/// Its address is the thread's current domain during a turn, so it must not move then: keep it in an `Arc`.
pub struct Domain {
    key: AtomicU8,
    /// Whose it is, in two halves; 0 until it is claimed.
    account: [AtomicU64; 2],
    regions: Mutex<Regions>,
}

thread_local! {
    static CURRENT: Cell<*const Domain> = const { Cell::new(ptr::null()) };
}

/// The domain in which the thread was before.
#[must_use = "give it back to `Domain::leave`"]
pub struct Previous(*const Domain);

/// What a thread's rights were when its turn was suspended.
#[must_use = "give it back to `resume`"]
pub struct Suspended {
    domain: *const Domain,
    rights: u32,
}

impl Default for Domain {
    fn default() -> Self {
        Domain::new()
    }
}

impl Domain {
    /// An empty domain that nobody has claimed.
    pub fn new() -> Domain {
        Domain {
            key: AtomicU8::new(twin::spare_key().0),
            account: [const { AtomicU64::new(0) }; 2],
            regions: Mutex::new(Regions::new()),
        }
    }

    /// Gives the thread the right to this domain, in place of the one it is in.
    #[inline(always)]
    pub fn enter(&self) -> Previous {
        let before = CURRENT.replace(self);
        if is_on() {
            twin::set_rights(twin::rights_of(self.key()));
        }
        Previous(before)
    }

    /// Undoes [`Domain::enter`].
    #[inline(always)]
    pub fn leave(previous: Previous) {
        CURRENT.set(previous.0);
        if is_on() {
            twin::set_rights(rights_in(previous.0));
        }
    }

    /// Runs `work` in this domain; does nothing more if the thread is in it.
    #[inline]
    pub fn within<R>(&self, work: impl FnOnce() -> R) -> R {
        if ptr::eq(CURRENT.get(), self) {
            return work();
        }
        let previous = self.enter();
        let result = work();
        Domain::leave(previous);
        result
    }

    /// Its key.
    #[inline(always)]
    pub fn key(&self) -> Key {
        Key(self.key.load(Relaxed))
    }

    /// Whose it is; 0 until it is claimed.
    pub fn account(&self) -> u128 {
        u128::from(self.account[1].load(Relaxed)) << 64 | u128::from(self.account[0].load(Relaxed))
    }

    /// Makes it a tenant's: its memory gets the tenant's key on this thread. Where pages cannot be tagged (the system's limit
    /// of mappings) it gives the error; the domain's memory is then of mixed keys and must not be entered again.
    pub fn claim(&self, account: u128) -> io::Result<()> {
        self.account[0].store(account as u64, Relaxed);
        self.account[1].store((account >> 64) as u64, Relaxed);
        let key = tenant_key(account);
        if !is_on() || key == self.key() {
            return Ok(());
        }
        self.key.store(key.0, Relaxed);
        for region in self.lock().as_slice() {
            retag(region.clone(), key)?;
        }
        if ptr::eq(CURRENT.get(), self) {
            renew();
        }
        Ok(())
    }

    /// Takes pages that were just mapped into the domain.
    ///
    /// # Safety
    /// The pages are the caller's alone, and are used only inside this domain until they are unmapped.
    pub unsafe fn add(&self, region: Range<usize>, protection: i32) -> io::Result<()> {
        if !is_on() || region.is_empty() {
            return Ok(());
        }
        // SAFETY: the caller's promise.
        unsafe { twin::set_key(region.clone(), protection, self.key()) }?;
        let mut regions = self.lock();
        if regions.as_slice().len() < REGIONS_MAX {
            regions.add(region);
        }
        Ok(())
    }

    /// Forgets pages that were unmapped or given another key.
    pub fn remove(&self, gone: Range<usize>) {
        if !is_on() {
            return;
        }
        self.lock().remove(gone);
    }

    /// The pages it knows to be its own.
    pub fn regions(&self) -> Vec<Range<usize>> {
        self.lock().as_slice().to_vec()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Regions> {
        self.regions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives every page of a region this key and leaves its protection. Executable pages are V8's code and keep their key.
fn retag(region: Range<usize>, key: Key) -> io::Result<()> {
    for area in maps::areas(region.clone())? {
        if area.protection & libc::PROT_EXEC != 0 {
            continue;
        }
        let range = area.range.start.max(region.start)..area.range.end.min(region.end);
        // SAFETY: pages of a domain, whose protection stays; they are used inside the domain, which gets the key too.
        unsafe { twin::set_key(range, area.protection, key) }?;
    }
    Ok(())
}

#[inline(always)]
fn rights_in(domain: *const Domain) -> u32 {
    if domain.is_null() {
        return twin::host_rights();
    }
    // SAFETY: a domain that the thread is in is borrowed by whoever entered it.
    twin::rights_of(unsafe { &*domain }.key())
}

/// The domain that the thread is in.
///
/// # Safety
/// The domain is valid until it is left: use it before anything that may leave it.
pub unsafe fn current<'d>() -> Option<&'d Domain> {
    // SAFETY: as in `rights_in`; the caller bounds the lifetime.
    unsafe { CURRENT.get().as_ref() }
}

/// Sets the thread's rights again, as its domain has them: for a signal handler, which starts with the kernel's default, before
/// it runs code of the domain.
pub fn renew() {
    if is_on() {
        twin::set_rights(rights_in(CURRENT.get()));
    }
}

/// Outside of any domain, whatever the thread was in: its frames were given up.
pub fn abandoned() {
    CURRENT.set(ptr::null());
    if is_on() {
        twin::set_rights(twin::host_rights());
    }
}

/// Outside of any domain until [`resume`]: the thread's turn is suspended and something else runs.
#[inline(always)]
pub fn suspend() -> Suspended {
    let suspended = Suspended { domain: CURRENT.replace(ptr::null()), rights: twin::rights() };
    if is_on() {
        twin::set_rights(twin::host_rights());
    }
    suspended
}

/// Undoes [`suspend`], on the same thread.
#[inline(always)]
pub fn resume(suspended: Suspended) {
    CURRENT.set(suspended.domain);
    if is_on() {
        twin::set_rights(suspended.rights);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_nest_and_suspend_whatever_the_processor() {
        let (one, two) = (Domain::new(), Domain::new());
        let here = || CURRENT.get();
        let first = one.enter();
        let second = two.enter();
        assert!(ptr::eq(here(), &two));
        let suspended = suspend();
        assert!(here().is_null());
        resume(suspended);
        assert!(ptr::eq(here(), &two));
        Domain::leave(second);
        assert!(ptr::eq(here(), &one));
        Domain::leave(first);
        assert!(here().is_null());
        two.within(|| assert!(ptr::eq(here(), &two)));
        let _left = one.enter();
        abandoned();
        assert!(here().is_null());
    }

    #[test]
    fn a_claim_names_the_tenant_with_keys_or_without() {
        let domain = Domain::new();
        assert_eq!(domain.account(), 0);
        domain.claim(u128::MAX - 5).expect("nothing to tag");
        assert_eq!(domain.account(), u128::MAX - 5);
    }
}
