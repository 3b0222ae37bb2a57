//! Keys as the processor enforces them. `cargo xtask keys` runs these where there are none, in an emulated machine.
#![cfg(target_arch = "x86_64")]

mod probe;

use std::{ops::Range, path::PathBuf, process::Command};

use pkey::{Domain, Secret, Status};
use probe::Access;

/// Keys are on, or the test is skipped.
fn keys(test: &str) -> bool {
    match pkey::init(|| {}) {
        Status::On { tenants } => {
            assert!((2..=pkey::TENANT_KEYS_MAX).contains(&tenants));
            true
        }
        Status::Off(_) => {
            assert!(!pkey::is_on() && pkey::tenant_keys().is_empty() && pkey::tenant_key(1).number() == 0);
            probe::skip(&format!("pkey: {test}"));
            false
        }
    }
}

const PAGE: usize = 4096;

/// Mapped pages, readable and writable.
fn pages(count: usize) -> Range<usize> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), count * PAGE, protection, flags, -1, 0) };
    assert_ne!(start, libc::MAP_FAILED);
    start as usize..start as usize + count * PAGE
}

fn domain_of(account: u128, memory: &Range<usize>) -> Domain {
    let domain = Domain::new();
    domain.claim(account).expect("nothing to tag yet");
    // SAFETY: pages of this test, used in the domain only.
    unsafe { domain.add(memory.clone(), libc::PROT_READ | libc::PROT_WRITE) }.expect("tagged");
    domain
}

/// Two accounts with different keys on this thread.
fn two_accounts() -> (u128, u128) {
    let other = (2..1000).find(|account| pkey::tenant_key(*account) != pkey::tenant_key(1));
    (1, other.expect("keys are spread"))
}

fn key_at(address: usize) -> u8 {
    let areas = pkey::maps::keyed_areas().expect("smaps");
    areas.iter().find(|keyed| keyed.area.range.contains(&address)).expect("mapped").key
}

#[test]
fn a_tenant_reaches_its_own_memory_and_nobody_elses() {
    if !keys("a tenant reaches its own memory and nobody else's") {
        return;
    }
    let (one, two) = two_accounts();
    let (mine, theirs) = (pages(2), pages(2));
    let (domain, other) = (domain_of(one, &mine), domain_of(two, &theirs));
    let denied = |domain: &Domain| Access::Key(domain.key().number().into());
    assert_eq!((probe::load(mine.start), probe::load(theirs.start)), (denied(&domain), denied(&other)), "outside");
    let outer = domain.enter();
    assert_eq!(probe::store(mine.start, 7), Access::Done);
    assert_eq!((probe::load(theirs.start), probe::store(theirs.start + PAGE, 1)), (denied(&other), denied(&other)));
    let inner = other.enter();
    assert_eq!((probe::load(theirs.start), probe::load(mine.start)), (Access::Done, denied(&domain)));
    Domain::leave(inner);
    let suspended = pkey::suspend();
    assert_eq!(probe::load(mine.start), denied(&domain), "suspended");
    pkey::resume(suspended);
    assert_eq!((probe::load(mine.start), probe::load(theirs.start)), (Access::Done, denied(&other)));
    Domain::leave(outer);
    assert_eq!(probe::load(mine.start), denied(&domain), "left");
    let _given_up = domain.enter();
    pkey::abandoned();
    assert_eq!(probe::load(mine.start), denied(&domain), "abandoned");
}

#[test]
fn keys_stay_through_mprotect_and_madvise_and_the_kernel_minds_them() {
    if !keys("keys stay through mprotect and madvise") {
        return;
    }
    let memory = pages(3);
    let domain = domain_of(1, &memory);
    let key = domain.key().number();
    // SAFETY: pages of this test.
    unsafe {
        let start = memory.start as *mut libc::c_void;
        assert_eq!(libc::mprotect(start, PAGE, libc::PROT_NONE), 0);
        assert_eq!(libc::mprotect(start, PAGE, libc::PROT_READ | libc::PROT_WRITE), 0);
        assert_eq!(libc::madvise(start, 3 * PAGE, libc::MADV_DONTNEED), 0);
        assert_eq!(key_at(memory.start), key);
        let mut pipe = [0; 2];
        assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        assert_eq!(libc::write(pipe[1], start, 1), -1, "a system call on denied memory fails");
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EFAULT));
        domain.within(|| assert_eq!(libc::write(pipe[1], start, 1), 1));
    }
}

#[test]
fn a_claim_tags_a_populated_range_and_leaves_protections_and_code() {
    if !keys("a claim tags a populated range") {
        return;
    }
    let memory = pages(8);
    let domain = Domain::new();
    let spare = pkey::spare_key().number();
    // SAFETY: pages of this test, used in the domain only.
    unsafe {
        domain.add(memory.clone(), libc::PROT_READ | libc::PROT_WRITE).expect("tagged");
        let page = |at: usize| (memory.start + at * PAGE) as *mut libc::c_void;
        assert_eq!(libc::mprotect(page(1), PAGE, libc::PROT_NONE), 0);
        assert_eq!(libc::mprotect(page(2), PAGE, libc::PROT_READ), 0);
        assert_eq!(libc::mprotect(page(4), PAGE, libc::PROT_READ | libc::PROT_EXEC), 0);
    }
    domain.within(|| assert_eq!(probe::store(memory.start, 9), Access::Done));
    let at = |page: usize| key_at(memory.start + page * PAGE);
    assert!((0..8).all(|page| at(page) == spare));
    domain.remove(memory.start + 6 * PAGE..memory.start + 7 * PAGE);
    domain.claim(77).expect("tagged again");
    let key = domain.key().number();
    assert_eq!(key, pkey::tenant_key(77).number());
    for page in 0..8 {
        assert_eq!(at(page), if page == 4 || page == 6 { spare } else { key }, "page {page}");
    }
    let protections: Vec<i32> = (0..8)
        .map(|page| {
            let address = memory.start + page * PAGE;
            pkey::maps::areas(address..address + PAGE).expect("areas")[0].protection
        })
        .collect();
    assert_eq!(protections, [3, 0, 1, 3, 5, 3, 3, 3]);
    domain.within(|| {
        assert_eq!((probe::load(memory.start), probe::load(memory.start + PAGE)), (Access::Done, Access::Fault))
    });
}

#[test]
fn a_secret_is_readable_only_while_it_is_looked_at() {
    if !keys("a secret is readable only while it is looked at") {
        return;
    }
    let secret = Secret::new(&[5u8; 32]).expect("pages");
    let address = secret.with(|bytes| bytes.as_ptr() as usize);
    let denied = Access::Key(pkey::secrets_key().number().into());
    assert_eq!(probe::load(address), denied);
    let memory = pages(1);
    let domain = domain_of(3, &memory);
    domain.within(|| {
        assert_eq!(probe::load(address), denied, "in a turn");
        secret.with(|bytes| assert_eq!((bytes[31], probe::load(memory.start)), (5, Access::Done)));
        assert_eq!(probe::load(address), denied, "after a look within a turn");
    });
    let unwound = std::panic::catch_unwind(|| secret.with(|_| panic!("on purpose")));
    assert!(unwound.is_err());
    assert_eq!(probe::load(address), denied, "after a panic");
}

#[test]
fn threads_are_born_outside_of_any_domain() {
    if !keys("threads are born outside of any domain") {
        return;
    }
    let memory = pages(1);
    let domain = domain_of(4, &memory);
    let denied = Access::Key(domain.key().number().into());
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(probe::load(memory.start), denied)).join().expect("denied");
        scope.spawn(|| domain.within(|| assert_eq!(probe::load(memory.start), Access::Done))).join().expect("allowed");
    });
}

#[test]
fn tenants_are_spread_over_all_keys_and_differently_on_each_thread() {
    if !keys("tenants are spread over all keys") {
        return;
    }
    let on_a_thread = || -> Vec<u8> {
        std::thread::spawn(|| {
            let keys: Vec<u8> = (0..12_000).map(|account| pkey::tenant_key(account).number()).collect();
            let again = (0..12_000).map(|account| pkey::tenant_key(account).number());
            assert!(again.eq(keys.iter().copied()), "a tenant keeps its key on a thread");
            keys
        })
        .join()
        .expect("the thread's own check")
    };
    let (one, two) = (on_a_thread(), on_a_thread());
    let expected = one.len() / pkey::tenant_keys().len();
    for key in pkey::tenant_keys() {
        let count = one.iter().filter(|it| **it == key.number()).count();
        // 1,000 of 12,000 each, with a standard deviation of 30.
        assert!(count.abs_diff(expected) < expected / 5, "{count} of {} tenants have key {key:?}", one.len());
    }
    let same = one.iter().zip(&two).filter(|(one, two)| one == two).count();
    assert!(same.abs_diff(expected) < expected / 5, "{same} tenants have the same key on both threads");
}

#[test]
fn a_key_fault_is_reported_with_its_tenant_and_ends_the_process() {
    const TEST: &str = "a_key_fault_is_reported_with_its_tenant_and_ends_the_process";
    if let Some(folder) = std::env::var_os("PKEY_CRASH") {
        crash(&PathBuf::from(folder));
    }
    if !keys("a key fault is reported") {
        return;
    }
    let folder = std::env::temp_dir().join(format!("selvage-pkey-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("folder");
    let this = std::env::current_exe().expect("this program");
    let output = Command::new(this)
        .args(["--exact", TEST, "--nocapture", "--test-threads=1"])
        .env("PKEY_CRASH", &folder)
        .output()
        .expect("runs");
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{output:?}");
    let report = std::fs::read_dir(&folder).expect("folder").next().expect("a report").expect("its entry").path();
    let report = std::fs::read_to_string(report).expect("text");
    assert!(report.contains("protection key fault: access to a page of key "), "{report}");
    assert!(report.contains("in a turn of tenant 0000000000000000000000000000abcd"), "{report}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(report.trim()), "on standard error too");
    std::fs::remove_dir_all(folder).expect("removed");
}

/// Reads another tenant's memory, without anything that catches it.
fn crash(folder: &std::path::Path) -> ! {
    pkey::init(|| {});
    pkey::crash::install(Some(folder));
    let other = (1..1000).find(|account| pkey::tenant_key(*account) != pkey::tenant_key(0xabcd));
    let (mine, theirs) = (pages(1), pages(1));
    let (domain, _other) = (domain_of(0xabcd, &mine), domain_of(other.expect("spread"), &theirs));
    let _in = domain.enter();
    // SAFETY: it is not: this must fault.
    let byte = unsafe { std::ptr::read_volatile(theirs.start as *const u8) };
    unreachable!("read {byte} of another tenant");
}
