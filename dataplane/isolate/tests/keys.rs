//! Attacks across isolates, with keys on: a tenant that reads wherever it likes finds nothing of another's, and no page of a heap
//! ever carries a wrong key. `cargo xtask keys` runs these where there are no keys, in an emulated machine.
//!
//! WebAssembly is off in Workers, so there are no memories of it to look at.
#![cfg(target_arch = "x86_64")]

#[path = "../../pkey/tests/probe/mod.rs"]
mod probe;

use std::cell::RefCell;

use isolate::{Args, Engine, Isolate, IsolateLimits, OpResult, OpTable, Scope, Source};
use pkey::{
    Key,
    maps::{KeyedArea, keyed_areas},
};
use probe::Access;

const LIMITS: IsolateLimits = IsolateLimits { heap_bytes: 64 << 20 };
const CAGE_BYTES: usize = 4 << 30;
const BUDGET_NS: u64 = 600_000_000_000;

/// Keys are on, or the test is skipped.
fn engine(test: &str) -> Option<Engine> {
    let engine = Engine::init().expect("engine");
    if let pkey::Status::Off(_) = engine.protection_keys() {
        probe::skip(&format!("isolate: {test}"));
        return None;
    }
    assert!(pkey::jit_key().is_some(), "V8 protects its code with a key of its own");
    Some(engine)
}

fn tenant(engine: &Engine, account: u128) -> Isolate<()> {
    let mut isolate = Isolate::new(engine, LIMITS, ()).expect("isolate");
    assert_eq!(isolate.key(), pkey::spare_key());
    isolate.assign_key(account).expect("tagged");
    assert_eq!(isolate.key(), pkey::tenant_key(account));
    isolate
}

fn run(isolate: &mut Isolate<()>, source: &'static Source) {
    let turn = isolate.turn(BUDGET_NS, |scope| scope.run_script("test.js", source).map(|_| ()));
    assert_eq!(turn.ended, None);
    turn.value.expect("ran").expect("no error");
}

/// Areas of an isolate's cage that can be read.
fn heap(areas: &[KeyedArea], cage: usize) -> impl Iterator<Item = &KeyedArea> {
    let within = cage..cage + CAGE_BYTES;
    areas.iter().filter(move |it| within.contains(&it.area.range.start) && it.area.protection & libc::PROT_READ != 0)
}

/// Every area of a cage carries its isolate's key, those that nobody can read included.
fn check_cage(areas: &[KeyedArea], cage: usize, key: Key) {
    let within = cage..cage + CAGE_BYTES;
    let mut seen = 0;
    for it in areas.iter().filter(|it| within.contains(&it.area.range.start)) {
        assert_eq!(it.key, key.number(), "{it:x?} of cage {cage:x}");
        seen += 1;
    }
    assert!(seen > 3, "a cage of {seen} areas is none");
}

static FILL: Source = Source::new(
    "
    globalThis.objects = Array.from({ length: 20000 }, (_, i) => ({ i, text: 'text ' + i }));
    globalThis.large = new Array(300000).fill(1.5);
    globalThis.buffers = [10, 1000, 5000, 200000, 3000000].map((n) => new Uint8Array(n).fill(7));
    globalThis.resizable = new Uint8Array(new ArrayBuffer(100000, { maxByteLength: 1000000 })).fill(7);
    globalThis.compiled = new RegExp('(a|b)*c[0-9]+', 'u').test('ababc12');
",
);

static LIST: Source = Source::new("[...buffers, resizable]");
static UNCHANGED: Source =
    Source::new("if (buffers[3][100] !== 7 || objects[19999].i !== 19999) throw new Error('changed')");

thread_local! {
    /// What the attacker found at the addresses that the test gave it.
    static ADDRESSES: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    static FOUND: RefCell<Vec<Access>> = const { RefCell::new(Vec::new()) };
}

/// An arbitrary read, as somebody who has taken over an isolate has it: no product has this function.
fn attack<'s>(cx: &mut Scope<'s, '_>, _args: &Args<'s>) -> OpResult<'s> {
    let found = ADDRESSES.with_borrow(|addresses| addresses.iter().map(|at| probe::load(*at)).collect());
    FOUND.set(found);
    Ok(cx.undefined())
}

#[test]
fn an_arbitrary_read_faults_on_every_page_of_another_tenants_memory() {
    let Some(engine) = engine("an arbitrary read faults on every page of another tenant's memory") else { return };
    let other = (2..1000).find(|account| pkey::tenant_key(*account) != pkey::tenant_key(1)).expect("keys are spread");
    let (mut attacker, mut victim) = (tenant(&engine, 1), tenant(&engine, other));
    run(&mut victim, &FILL);
    run(&mut attacker, &FILL);
    let buffers = victim.turn(BUDGET_NS, |scope| {
        let list = scope.run_script("buffers.js", &LIST).expect("a list");
        let each = (0..scope.array_len(list)).filter_map(|at| scope.element(list, at)).collect::<Vec<_>>();
        let places =
            each.into_iter().filter_map(|it| scope.with_bytes(it, |bytes| (bytes.as_ptr() as usize, bytes.len())));
        places.collect::<Vec<_>>()
    });
    let buffers = buffers.value.expect("places");
    assert_eq!(buffers.len(), 6);

    let areas = keyed_areas().expect("smaps");
    check_cage(&areas, victim.cage(), victim.key());
    let pages = |it: &KeyedArea| it.area.range.clone().step_by(4096);
    let mut victims: Vec<usize> = heap(&areas, victim.cage()).flat_map(pages).collect();
    let in_heap = victims.len();
    for (start, len) in buffers {
        // One of 10 bytes may lie on the heap itself.
        victims.extend((start..start + len).step_by(4096));
        victims.push(start + len - 1);
    }
    // And whatever else carries the key: the arena's other pages, the compiler's.
    let others = areas.iter().filter(|it| it.key == victim.key().number() && it.area.protection & libc::PROT_READ != 0);
    victims.extend(others.flat_map(pages));
    assert!(in_heap > 500, "{in_heap} pages of heap");

    let own: Vec<usize> = heap(&areas, attacker.cage()).map(|it| it.area.range.start).collect();
    let expected = Access::Key(victim.key().number().into());
    for (addresses, expect) in [(own, Access::Done), (victims, expected)] {
        let count = addresses.len();
        ADDRESSES.set(addresses);
        let turn = attacker.turn(BUDGET_NS, |scope| {
            let mut ops = OpTable::new();
            ops.add("attack", attack);
            let ops = ops.object(scope);
            let attack = scope.get(ops, "attack").expect("an operation");
            scope.call(attack, &[]).is_ok()
        });
        assert_eq!((turn.value, turn.ended), (Some(true), None));
        let found = FOUND.take();
        assert_eq!(found.len(), count);
        let wrong = found.iter().filter(|access| **access != expect).count();
        assert_eq!(wrong, 0, "of {count} pages, {wrong} are not {expect:?}");
    }
    run(&mut victim, &UNCHANGED);
}

static CHURN: Source = Source::new(
    "
    globalThis.kept ??= [];
    for (let i = 0; i < 300; i++) {
        kept.push({ i, text: String(i).repeat(20), bytes: new Uint8Array(i * 37) });
        if (kept.length > 1000) kept.splice(0, 700);
    }
    if (Math.random() < 0.1) kept.push(new Uint8Array(300000), new Array(40000).fill(0.5));
",
);

#[test]
fn no_page_carries_a_wrong_key_after_churn_and_collections() {
    let Some(engine) = engine("no page carries a wrong key after churn and collections") else { return };
    let rounds = if std::env::var_os("SELVAGE_E2E_FULL").is_some() { 10_000 } else { 300 };
    // A tenant for every key, and one more.
    let mut accounts: Vec<u128> = Vec::new();
    for account in 1..10_000 {
        if accounts.iter().all(|it| pkey::tenant_key(*it) != pkey::tenant_key(account)) {
            accounts.push(account);
        }
    }
    assert_eq!(accounts.len(), pkey::tenant_keys().len());
    let mut isolates: Vec<Isolate<()>> = accounts.iter().map(|account| tenant(&engine, *account)).collect();
    let check = |isolates: &[Isolate<()>]| {
        let areas = keyed_areas().expect("smaps");
        for isolate in isolates {
            check_cage(&areas, isolate.cage(), isolate.key());
        }
    };
    for round in 0..rounds {
        let at = round * 7 % isolates.len();
        if round % 25 == 24 {
            // Drop first: the next cage may come to lie where this one was.
            drop(isolates.swap_remove(at));
            isolates.insert(at, tenant(&engine, accounts[round % accounts.len()]));
        }
        run(&mut isolates[at], &CHURN);
        if round % (rounds / 10) == 0 {
            check(&isolates);
        }
    }
    check(&isolates);
    drop(isolates);
    let left = keyed_areas()
        .expect("smaps")
        .into_iter()
        .filter(|it| pkey::tenant_keys().iter().any(|key| key.number() == it.key));
    assert_eq!(left.count(), 0, "nothing keeps a tenant's key once its isolate is gone");
}
