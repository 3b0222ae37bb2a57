//! Isolates of one snapshot share V8's read-only heap, and nothing is different for what runs in them.

use std::fs;
use std::ops::Range;

use isolate::{Blank, Compile, Engine, Isolate, IsolateLimits, OpTable, Snapshot, Source};

const LIMITS: IsolateLimits = IsolateLimits { heap_bytes: 64 << 20 };
const BUDGET_NS: u64 = 2_000_000_000;

/// Uses what lies in the read-only heap: strings and maps of V8's own, errors, regular expressions, numbers' texts.
static WORK: Source = Source::new(
    "(() => {
    const keep = [];
    for (let i = 0; i < 20000; i++) keep.push({ i, text: 'constructor' + i, list: [undefined, null, true, i / 3] });
    let caught = '';
    try { null.length } catch (error) { caught = error.message; }
    const sum = keep.map((it) => it.text.length + it.list.length).reduce((a, b) => a + b, 0);
    return String([sum, caught, /(a+)b/u.exec('caab')[1], typeof Symbol.iterator, JSON.stringify({ toString: 1n < 2 }), 0.1 + 0.2]);
    })()",
);
const EXPECT: &str =
    "388890,Cannot read properties of null (reading 'length'),aa,symbol,{\"toString\":true},0.30000000000000004";

fn snapshot(engine: &Engine) -> &'static Snapshot {
    let made = Snapshot::make(engine, &OpTable::new(), std::iter::empty(), |scope| Ok(scope.object()));
    Box::leak(Box::new(made.map_err(|error| error.message).expect("a snapshot")))
}

fn isolate(engine: &Engine, snapshot: Option<&'static Snapshot>) -> Isolate<()> {
    Blank::new(snapshot, LIMITS).expect("a blank").into_isolate(engine, ()).expect("an isolate")
}

fn work(isolate: &mut Isolate<()>) {
    let text = isolate.turn(BUDGET_NS, |scope| {
        let value = scope.run_script("work.js", &WORK, Compile::Lazy).map_err(|error| error.message).expect("runs");
        scope.text(value).expect("a text")
    });
    assert_eq!((text.value.as_deref(), text.ended), (Some(EXPECT), None));
}

/// Anonymous memory of readable areas at the beginning of a cage, bytes.
fn own_read_only(cage: usize) -> usize {
    let smaps = fs::read_to_string("/proc/self/smaps").expect("smaps");
    let mut counted = false;
    let mut total = 0;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().expect("a word");
        if let Some((start, end)) = first.split_once('-') {
            let range: Range<usize> = hex(start)..hex(end);
            counted = range.start >= cage && range.end <= cage + (4 << 20) && words.next() == Some("r--p");
        } else if counted && first == "Anonymous:" {
            total += 1024 * words.next().and_then(|kib| kib.parse::<usize>().ok()).expect("kB");
        }
    }
    total
}

fn hex(text: &str) -> usize {
    usize::from_str_radix(text, 16).expect("an address")
}

#[test]
fn isolates_of_a_snapshot_share_their_read_only_heap_and_go_on_as_before() {
    let engine = Engine::init().expect("engine");
    let snapshot = snapshot(&engine);
    let mut isolates: Vec<_> = (0..3).map(|_| isolate(&engine, Some(snapshot))).collect();
    work(&mut isolates[0]);
    for isolate in &mut isolates {
        let before = own_read_only(isolate.cage());
        let shared = isolate.share_read_only();
        let after = own_read_only(isolate.cage());
        assert!(before > 300_000 && after < before / 5 && shared > before - after, "{before} {after} {shared}");
        work(isolate);
        assert_eq!(own_read_only(isolate.cage()), after, "nothing of it is written");
    }
    for isolate in &mut isolates {
        let since = isolate.collections();
        isolate.turn(BUDGET_NS, |scope| scope.start_collection());
        while isolate.collecting(since) {
            isolate.turn(BUDGET_NS, |scope| scope.run_tasks());
        }
        assert_eq!(isolate.collections(), since + 1);
        work(isolate);
    }
    drop(isolates.remove(0));
    isolates.iter_mut().for_each(work);
    let mut late = isolate(&engine, Some(snapshot));
    assert!(late.share_read_only() > 300_000);
    work(&mut late);
}

#[test]
fn isolates_of_other_origin_keep_their_own() {
    let engine = Engine::init().expect("engine");
    let mut none = isolate(&engine, None);
    assert_eq!(none.share_read_only(), 0);
    work(&mut none);
    let (one, other) = (snapshot(&engine), snapshot(&engine));
    for snapshot in [one, other, one] {
        let mut isolate = isolate(&engine, Some(snapshot));
        assert!(isolate.share_read_only() > 300_000);
        work(&mut isolate);
    }
}

#[test]
fn a_spare_shared_before_it_is_claimed_is_the_tenants_whole() {
    let engine = Engine::init().expect("engine");
    let mut isolate = isolate(&engine, Some(snapshot(&engine)));
    let (shared, after) = (isolate.share_read_only(), own_read_only(isolate.cage()));
    isolate.assign_key(7).expect("tagged");
    work(&mut isolate);
    assert_eq!(
        (isolate.share_read_only(), own_read_only(isolate.cage())),
        (shared, after),
        "with the tenant's key as before"
    );
}
