//! Attacks across isolates, with keys on: a tenant that reads wherever it likes finds nothing of another's, and no page of a heap
//! ever carries a wrong key, memories of WebAssembly included. `cargo xtask keys` runs these where there are no keys, in an emulated machine.
#![cfg(target_arch = "x86_64")]

#[path = "../../pkey/tests/probe/mod.rs"]
mod probe;

use std::cell::{Cell, RefCell};

use isolate::{Args, Compile, Engine, Isolate, IsolateLimits, OpResult, OpTable, Progress, Scope, Source, Suspendable};
use pkey::{
    Domain, Key, Secret,
    maps::{KeyedArea, keyed_areas},
};
use probe::Access;

const LIMITS: IsolateLimits = IsolateLimits { heap_bytes: 64 << 20 };
const CAGE_BYTES: usize = 4 << 30;
const WASM_PAGE_BYTES: usize = 64 << 10;
const BUDGET_NS: u64 = 600_000_000_000;

/// Keys are on, or the test is skipped.
fn engine(test: &str) -> Option<Engine> {
    // Collections where the test wants them.
    v8::V8::set_flags_from_string("--expose-gc");
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
    let turn = isolate.turn(BUDGET_NS, |scope| scope.run_script("test.js", source, Compile::Eager).map(|_| ()));
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
    globalThis.memory = new WebAssembly.Memory({ initial: 20, maximum: 100 });
    memory.grow(10);
    new Uint8Array(memory.buffer).fill(7);
    globalThis.compiled = new RegExp('(a|b)*c[0-9]+', 'u').test('ababc12');
",
);

static LIST: Source = Source::new("[...buffers, resizable, new Uint8Array(memory.buffer)]");
static UNCHANGED: Source =
    Source::new("if (buffers[3][100] !== 7 || objects[19999].i !== 19999) throw new Error('changed')");

thread_local! {
    /// Where the attacker reads or writes, and what came of it.
    static ADDRESSES: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    static WRITES: Cell<bool> = const { Cell::new(false) };
    static FOUND: RefCell<Vec<Access>> = const { RefCell::new(Vec::new()) };
}

/// An arbitrary read or write, as somebody who has taken over an isolate has it: no product has this function.
fn attack<'s>(cx: &mut Scope<'s, '_>, _args: &Args<'s>) -> OpResult<'s> {
    let writes = WRITES.get();
    let access = |at: &usize| if writes { probe::store(*at, 0) } else { probe::load(*at) };
    let found = ADDRESSES.with_borrow(|addresses| addresses.iter().map(access).collect());
    FOUND.set(found);
    Ok(cx.undefined())
}

/// Calls an operation from JavaScript's side, in a turn.
fn call<F: isolate::Op>(isolate: &mut Isolate<()>, op: F) {
    let turn = isolate.turn(BUDGET_NS, |scope| {
        let mut ops = OpTable::new();
        ops.add("op", op);
        let ops = ops.object(scope);
        let op = scope.get(ops, "op").expect("an operation");
        scope.call(op, &[]).is_ok()
    });
    assert_eq!((turn.value, turn.ended), (Some(true), None));
}

/// Has the attacker reach for all these addresses, and expects the same of each.
fn expect_all(attacker: &mut Isolate<()>, addresses: Vec<usize>, writes: bool, expect: Access, what: &str) {
    let count = addresses.len();
    assert!(count > 0, "{what}: nothing to reach for");
    ADDRESSES.set(addresses);
    WRITES.set(writes);
    call(attacker, attack);
    let found = FOUND.take();
    assert_eq!(found.len(), count, "{what}");
    let wrong = found.iter().filter(|access| **access != expect).count();
    assert_eq!(wrong, 0, "{what}: of {count} pages, {wrong} are not {expect:?}");
}

/// Where each buffer of a list lies: its start and its bytes.
fn places(scope: &mut Scope<'_, '_>, list: &'static Source) -> Vec<(usize, usize)> {
    let list = scope.run_script("buffers.js", list, Compile::Eager).expect("a list");
    let each = (0..scope.array_len(list)).filter_map(|at| scope.element(list, at)).collect::<Vec<_>>();
    let places = each.into_iter().filter_map(|it| scope.with_bytes(it, |bytes| (bytes.as_ptr() as usize, bytes.len())));
    places.collect()
}

/// Addresses of the first and last byte of each buffer in `LIST`, and one in each page between.
fn pages_of_buffers(isolate: &mut Isolate<()>) -> Vec<usize> {
    let buffers = isolate.turn(BUDGET_NS, |scope| places(scope, &LIST));
    let buffers = buffers.value.expect("places");
    assert_eq!(buffers.len(), 7);
    assert_eq!(buffers[6].1, 30 << 16, "WebAssembly's memory, grown");
    let within = |(start, len): (usize, usize)| (start..start + len).step_by(4096).chain([start + len - 1]);
    buffers.into_iter().flat_map(within).collect()
}

fn pages(it: &KeyedArea) -> impl Iterator<Item = usize> + use<> {
    it.area.range.clone().step_by(4096)
}

/// An account whose key on this thread is not account 1's.
fn another_account() -> u128 {
    (2..1000).find(|account| pkey::tenant_key(*account) != pkey::tenant_key(1)).expect("keys are spread")
}

#[test]
fn an_arbitrary_read_or_write_faults_on_every_page_of_another_tenants_memory() {
    let Some(engine) = engine("an arbitrary read faults on every page of another tenant's memory") else { return };
    let (mut attacker, mut victim) = (tenant(&engine, 1), tenant(&engine, another_account()));
    let mut spare = Isolate::new(&engine, LIMITS, ()).expect("isolate");
    for isolate in [&mut victim, &mut attacker, &mut spare] {
        run(isolate, &FILL);
    }
    let buffers = pages_of_buffers(&mut victim);
    let areas = keyed_areas().expect("smaps");
    check_cage(&areas, victim.cage(), victim.key());
    let heap_pages: Vec<usize> = heap(&areas, victim.cage()).flat_map(pages).collect();
    assert!(heap_pages.len() > 500, "{} pages of heap", heap_pages.len());
    // And whatever else carries the key: the arena's other pages, the compiler's.
    let others = areas.iter().filter(|it| it.key == victim.key().number() && it.area.protection & libc::PROT_READ != 0);
    let others = others.flat_map(pages).collect();

    let own: Vec<usize> = heap(&areas, attacker.cage()).map(|it| it.area.range.start).collect();
    expect_all(&mut attacker, own, false, Access::Done, "its own heap");
    let denied = |key: Key| Access::Key(key.number().into());
    for (what, addresses) in [("heap", heap_pages), ("buffers", buffers), ("all that carries the key", others)] {
        for writes in [false, true] {
            expect_all(&mut attacker, addresses.clone(), writes, denied(victim.key()), what);
        }
    }
    let unclaimed: Vec<usize> = heap(&areas, spare.cage()).flat_map(pages).collect();
    expect_all(&mut attacker, unclaimed, false, denied(pkey::spare_key()), "an isolate that nobody has claimed");
    // Code can be read by all tenants, and written by none.
    let jit = pkey::jit_key().expect("V8's key");
    let code: Vec<usize> = areas
        .iter()
        .filter(|it| it.key == jit.number() && it.area.protection & libc::PROT_EXEC != 0)
        .flat_map(pages)
        .collect();
    expect_all(&mut attacker, code.clone(), false, Access::Done, "code, to read");
    expect_all(&mut attacker, code, true, denied(jit), "code, to write");
    let secret = Secret::new(&[5u8; 32]).expect("pages");
    let address = secret.with(|bytes| bytes.as_ptr() as usize);
    for writes in [false, true] {
        expect_all(&mut attacker, vec![address], writes, denied(pkey::secrets_key()), "a secret of the host's");
    }
    assert_eq!(secret.with(|bytes| *bytes), [5; 32]);
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
    globalThis.round = (globalThis.round ?? 0) + 1;
    if (round % 20 === 2) globalThis.memory = new WebAssembly.Memory({ initial: 1, maximum: 8 });
    if (round % 20 === 12) globalThis.memory?.grow(2);
    // A collection every round, every tenth of all of the heap.
    gc({ type: round % 10 === 0 ? 'major' : 'minor' });
",
);

/// What `CHURN` keeps outside of the heap, where V8 has the bytes of small arrays; nothing before it has run.
static KEPT: Source = Source::new(
    "
    [
        ...(globalThis.kept ?? []).map((it) => it.bytes ?? it).filter((it) => it instanceof Uint8Array && it.length > 64),
        ...(globalThis.memory ? [new Uint8Array(memory.buffer)] : []),
    ]
",
);

/// Where buffers and WebAssembly's memory lie that an isolate keeps, for each: its start and its bytes.
fn kept(isolate: &mut Isolate<()>) -> Vec<(usize, usize)> {
    let places = isolate.turn(BUDGET_NS, |scope| places(scope, &KEPT));
    assert_eq!(places.ended, None);
    places.value.expect("places")
}

/// What was looked at outside of cages.
#[derive(Default)]
struct Seen {
    pages: usize,
    memories: usize,
}

/// Every page of an isolate's cage, of the buffers that it keeps and of WebAssembly's memory carries its key.
fn check_all(isolates: &mut [Isolate<()>]) -> Vec<Seen> {
    // Before the areas are read: this runs JavaScript.
    let kept: Vec<_> = isolates.iter_mut().map(kept).collect();
    let areas = keyed_areas().expect("smaps");
    let check = |(isolate, kept): (&Isolate<()>, Vec<(usize, usize)>)| {
        let (cage, key) = (isolate.cage(), isolate.key().number());
        check_cage(&areas, cage, isolate.key());
        let mut seen = Seen::default();
        for (start, len) in kept {
            assert!(
                !(cage..cage + CAGE_BYTES).contains(&start),
                "{len} bytes at {start:x} lie in the cage at {cage:x}"
            );
            for page in (start & !4095..start + len).step_by(4096) {
                let at = areas.partition_point(|it| it.area.range.end <= page);
                let found = areas.get(at).filter(|it| it.area.range.contains(&page));
                assert_eq!(found.map(|it| it.key), Some(key), "page {page:x} of {len} bytes at {start:x}: {found:x?}");
                seen.pages += 1;
            }
            // No other buffer of `CHURN` has this many bytes.
            seen.memories += usize::from(len.is_multiple_of(WASM_PAGE_BYTES));
        }
        seen
    };
    isolates.iter().zip(kept).map(check).collect()
}

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
    // A processor has 15 to give; V8 takes one and the host two.
    assert_eq!(accounts.len(), pkey::TENANT_KEYS_MAX);
    let mut isolates: Vec<Isolate<()>> = accounts.iter().map(|account| tenant(&engine, *account)).collect();
    let mut replaced = vec![0; accounts.len()];
    for round in 0..rounds {
        let at = round % isolates.len();
        if round % 25 == 24 {
            // Drop first: the next cage may come to lie where this one was.
            let isolate = isolates.remove(at);
            if round / 25 % 2 == 0 {
                drop(isolate);
            } else {
                let remains = isolate.into_remains();
                std::thread::spawn(move || drop(remains)).join().expect("another thread disposes of it");
            }
            isolates.insert(at, tenant(&engine, accounts[at]));
            replaced[at] += 1;
        }
        run(&mut isolates[at], &CHURN);
        if round % (rounds / 10) == 0 {
            check_all(&mut isolates);
        } else if round % 25 == 24 || round % 25 == 12 {
            // The one that was just replaced, and one in the middle of its life.
            check_all(&mut isolates[at..=at]);
        }
    }
    let seen = check_all(&mut isolates);
    assert!(replaced.iter().all(|times| *times > 0), "of each account one was replaced: {replaced:?}");
    assert!(seen.iter().all(|seen| seen.pages > 100), "buffers of each lie outside of its cage");
    let memories: usize = seen.iter().map(|seen| seen.memories).sum();
    assert!(memories > isolates.len() / 2, "{memories} memories of WebAssembly");
    drop(isolates);
    let left = keyed_areas()
        .expect("smaps")
        .into_iter()
        .filter(|it| pkey::tenant_keys().iter().any(|key| key.number() == it.key));
    assert_eq!(left.count(), 0, "nothing keeps a tenant's key once its isolate is gone");
}

static HOT: Source = Source::new(
    "
    globalThis.kept = Array.from({ length: 100 }, (_, i) => ({ i, text: 'text ' + i }));
    globalThis.hot = (look) => {
        let sum = 0;
        for (let i = 0; ; i++) {
            const it = kept[i % kept.length];
            it.i = i;
            sum += it.text.length;
            if (i % 200 === 199 && look()) return sum;
        }
    };
",
);

thread_local! {
    static SUSPENSIONS: Cell<u32> = const { Cell::new(0) };
    /// First page of each tenant's heap, with its key; what a turn found wrong.
    static HEAPS: RefCell<Vec<(usize, Key)>> = const { RefCell::new(Vec::new()) };
    static LOOKS: Cell<u32> = const { Cell::new(0) };
    static WRONG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Looks which heaps are open, from within a turn. True once there were enough suspensions.
fn look<'s>(cx: &mut Scope<'s, '_>, _args: &Args<'s>) -> OpResult<'s> {
    // SAFETY: the domain of the turn that runs here.
    let own = unsafe { pkey::current() }.expect("in a turn").key();
    HEAPS.with_borrow(|heaps| {
        for (address, key) in heaps {
            let found = probe::load(*address);
            let expect = if *key == own { Access::Done } else { Access::Key(key.number().into()) };
            if found != expect {
                WRONG.with_borrow_mut(|wrong| wrong.push(format!("key {key:?} in a turn of {own:?}: {found:?}")));
            }
        }
    });
    LOOKS.set(LOOKS.get() + 1);
    Ok(cx.boolean(SUSPENSIONS.get() >= 30))
}

/// Tenants with keys of their own, `count` of them.
fn tenants(engine: &Engine, count: usize) -> Vec<Isolate<()>> {
    let mut isolates: Vec<Isolate<()>> = Vec::new();
    for account in 1..10_000 {
        if isolates.len() < count && isolates.iter().all(|it| it.key() != pkey::tenant_key(account)) {
            isolates.push(tenant(engine, account));
        }
    }
    assert_eq!(isolates.len(), count);
    isolates
}

fn remember_heaps(isolates: &[Isolate<()>]) {
    let areas = keyed_areas().expect("smaps");
    let first = |isolate: &Isolate<()>| heap(&areas, isolate.cage()).next().expect("a heap").area.range.start;
    HEAPS.set(isolates.iter().map(|isolate| (first(isolate), isolate.key())).collect());
}

#[test]
fn a_suspended_turn_goes_on_with_its_own_key_and_the_host_has_none_meanwhile() {
    let Some(engine) = engine("a suspended turn goes on with its own key") else { return };
    let mut isolates = tenants(&engine, 3);
    isolates.iter_mut().for_each(|isolate| run(isolate, &HOT));
    remember_heaps(&isolates);
    let mut turns: Vec<Suspendable<Isolate<()>>> = isolates.into_iter().map(Suspendable::new).collect();
    let work = |isolate: &mut Isolate<()>| {
        let turn = isolate.turn(BUDGET_NS, |scope| {
            let mut ops = OpTable::new();
            ops.add("look", look);
            let ops = ops.object(scope);
            let look = scope.get(ops, "look").expect("an operation");
            let global = scope.global_object();
            let hot = scope.get(global, "hot").expect("a function");
            scope.call(hot, &[look]).is_ok()
        });
        assert_eq!((turn.value, turn.ended), (Some(true), None));
    };
    let mut suspended = 0;
    for turn in &mut turns {
        suspended += usize::from(turn.start(work) == Progress::Suspended);
    }
    assert_eq!(suspended, 3, "all wait before any goes on");
    let mut at = 0;
    while turns.iter().any(Suspendable::is_suspended) {
        HEAPS.with_borrow(|heaps| {
            for (address, key) in heaps {
                assert_eq!(probe::load(*address), Access::Key(key.number().into()), "between turns");
            }
        });
        // Not the order in which they were suspended.
        at = (at + 2) % turns.len();
        if turns[at].is_suspended() && turns[at].resume() == Progress::Suspended {
            SUSPENSIONS.set(SUSPENSIONS.get() + 1);
        }
    }
    assert_eq!(WRONG.take(), Vec::<String>::new());
    assert!(SUSPENSIONS.get() >= 30 && LOOKS.get() > 100, "{} looks", LOOKS.get());
}

#[test]
fn a_second_thread_has_rights_of_its_own() {
    let Some(engine) = engine("a second thread has rights of its own") else { return };
    let mut first = tenants(&engine, 2);
    first.iter_mut().for_each(|isolate| run(isolate, &HOT));
    remember_heaps(&first);
    let others = HEAPS.with_borrow(Clone::clone);
    // As the apart thread is: started by a shard, with isolates of the same tenants.
    let apart = std::thread::spawn(move || {
        for (address, key) in &others {
            assert_eq!(
                probe::load(*address),
                Access::Key(key.number().into()),
                "a new thread has no right to anything"
            );
        }
        let mut isolates = tenants(&engine, 2);
        isolates.iter_mut().for_each(|isolate| run(isolate, &HOT));
        remember_heaps(&isolates);
        SUSPENSIONS.set(30);
        isolates.iter_mut().for_each(|isolate| call(isolate, look));
        assert_eq!((LOOKS.get(), WRONG.take()), (2, Vec::new()));
        let own: Vec<Key> = isolates.iter().map(Isolate::key).collect();
        for (address, key) in others.iter().filter(|(_, key)| *key != own[0]) {
            expect_all(&mut isolates[0], vec![*address], false, Access::Key(key.number().into()), "the other thread's");
        }
    });
    SUSPENSIONS.set(30);
    for _ in 0..20 {
        first.iter_mut().for_each(|isolate| call(isolate, look));
    }
    apart.join().expect("the thread's own checks");
    assert_eq!((LOOKS.get(), WRONG.take()), (40, Vec::new()));
}

#[test]
fn of_more_tenants_than_keys_some_share_and_no_others_meet() {
    let Some(engine) = engine("of more tenants than keys some share") else { return };
    let mut isolates: Vec<Isolate<()>> = (1..=40).map(|account| tenant(&engine, account)).collect();
    remember_heaps(&isolates);
    let heaps = HEAPS.with_borrow(Clone::clone);
    let mut shared = 0;
    for isolate in &mut isolates {
        let own = isolate.key();
        ADDRESSES.set(heaps.iter().map(|(address, _)| *address).collect());
        call(isolate, attack);
        for ((_, key), found) in heaps.iter().zip(FOUND.take()) {
            // Two tenants with one key are open to one another: 12 keys is all that there is (`docs/SECURITY.md`).
            assert_eq!(found, if *key == own { Access::Done } else { Access::Key(key.number().into()) });
        }
        shared += heaps.iter().filter(|(_, key)| *key == own).count() - 1;
    }
    assert!(shared > 0, "40 tenants cannot have 12 keys to themselves");
    assert!(shared < 40 * 39 / 4, "{shared} of 1560 pairs share: keys are not spread");
}

/// The thread gets another tenant's rights while code of this one runs: what a bug in the switching of keys would do.
fn forget_to_switch<'s>(cx: &mut Scope<'s, '_>, _args: &Args<'s>) -> OpResult<'s> {
    let other: &'static Domain = Box::leak(Box::new(Domain::new()));
    other.claim(another_account()).expect("nothing to tag");
    let _never_left = other.enter();
    Ok(cx.boolean(false))
}

#[test]
fn compiled_code_that_runs_with_another_tenants_key_faults_and_the_report_names_it() {
    const TEST: &str = "compiled_code_that_runs_with_another_tenants_key_faults_and_the_report_names_it";
    let folder = std::env::var_os("ISOLATE_CRASH").map(std::path::PathBuf::from);
    let Some(engine) = engine("compiled code that runs with another tenant's key faults") else { return };
    if let Some(folder) = folder {
        let mut isolate = tenant(&engine, 1);
        run(&mut isolate, &HOT);
        // Compiled by being hot.
        SUSPENSIONS.set(30);
        for _ in 0..3_000 {
            let turn = isolate.turn(BUDGET_NS, |scope| {
                let mut ops = OpTable::new();
                ops.add("look", |cx: &mut Scope<'_, '_>, _: &Args<'_>| Ok(cx.boolean(true)));
                let ops = ops.object(scope);
                let (look, global) = (scope.get(ops, "look").expect("an operation"), scope.global_object());
                let hot = scope.get(global, "hot").expect("a function");
                scope.call(hot, &[look]).is_ok()
            });
            assert_eq!(turn.value, Some(true));
        }
        pkey::crash::install(Some(&folder));
        println!("own key {}", isolate.key().number());
        isolate.turn(BUDGET_NS, |scope| {
            let mut ops = OpTable::new();
            ops.add("switch", forget_to_switch);
            let ops = ops.object(scope);
            let (switch, global) = (scope.get(ops, "switch").expect("an operation"), scope.global_object());
            let hot = scope.get(global, "hot").expect("a function");
            scope.call(hot, &[switch]).is_ok()
        });
        unreachable!("it ran with another tenant's key");
    }
    use std::os::unix::process::ExitStatusExt as _;
    let folder = std::env::temp_dir().join(format!("selvage-isolate-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("folder");
    let this = std::env::current_exe().expect("this program");
    let mut again = std::process::Command::new(this);
    again.args(["--exact", TEST, "--nocapture", "--test-threads=1"]).env("ISOLATE_CRASH", &folder);
    let output = again.output().expect("runs");
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{output:?}");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let key = told.split("own key ").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("its key");
    let report = std::fs::read_dir(&folder).expect("folder").next().expect("a report").expect("its entry").path();
    let report = std::fs::read_to_string(report).expect("text");
    assert!(report.contains(&format!("protection key fault: access to a page of key {key} at address 0x")), "{report}");
    assert!(!report.contains("in no tenant's turn") && report.contains("in a turn of tenant "), "{report}");
    std::fs::remove_dir_all(folder).expect("removed");
}
