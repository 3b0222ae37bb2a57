//! Two isolates live in different cages. A build without the linker's `--wrap` flag fails here.

use isolate::{Engine, Isolate, IsolateLimits};

const LIMITS: IsolateLimits = IsolateLimits { heap_bytes: 64 << 20 };

#[test]
fn isolates_have_cages_of_their_own() {
    let engine = Engine::init().expect("engine");
    let isolates: Vec<_> = (0..40).map(|_| Isolate::new(&engine, LIMITS, ()).expect("isolate")).collect();
    let mut cages: Vec<usize> = isolates.iter().map(Isolate::cage).collect();
    assert!(cages.iter().all(|cage| *cage != 0 && cage % (4 << 30) == 0), "{cages:x?}");
    cages.sort_unstable();
    cages.dedup();
    assert_eq!(cages.len(), 40, "isolates share a cage: was the binary linked with --wrap=v8__Isolate__New?");
}
