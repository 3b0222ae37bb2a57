//! What it costs to change between tenants on a thread: `cargo run --release -p isolate --example switch`.
//!
//! Two isolates take turns: entering and leaving their domains alone (with protection keys two WRPKRU, without them two tests of a flag),
//! an empty turn, and a turn that calls a function of JavaScript. Median and best of 20 batches, ns each. Says whether keys are on:
//! without them it shows the price of the twin that does nothing.

use std::{hint::black_box, time::Instant};

use isolate::{Compile, Engine, Isolate, IsolateLimits, Source};

const BATCHES: usize = 20;
const ROUNDS: u32 = 20_000;
const LIMITS: IsolateLimits = IsolateLimits { heap_bytes: 64 << 20 };
const BUDGET_NS: u64 = 50_000_000;

static SOURCE: Source = Source::new("let n = 0; (() => { n = (n + 1) | 0; return n; })");

fn time(what: &str, mut round: impl FnMut()) {
    let mut batches: Vec<f64> = (0..=BATCHES)
        .map(|_| {
            let begun = Instant::now();
            for _ in 0..ROUNDS {
                round();
            }
            begun.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
        })
        .skip(1)
        .collect();
    batches.sort_by(f64::total_cmp);
    println!("{what:<44} {:>8.1} {:>8.1}", batches[BATCHES / 2], batches[0]);
}

fn main() {
    let engine = Engine::init().expect("engine");
    println!("protection keys: {}", engine.protection_keys());
    println!("{:<44} {:>8} {:>8}", "ns", "median", "best");
    let domains = [pkey::Domain::new(), pkey::Domain::new()];
    domains.iter().zip([1, 2]).for_each(|(domain, account)| domain.claim(account).expect("nothing to tag"));
    time("a loop that does nothing", || {
        black_box(&domains);
    });
    time("enter and leave a domain", || {
        pkey::Domain::leave(black_box(&domains[0]).enter());
    });
    time("the same for two domains in turn", || {
        for domain in &domains {
            pkey::Domain::leave(black_box(domain).enter());
        }
    });
    let mut isolates = [1, 2].map(|account| {
        let mut isolate = Isolate::new(&engine, LIMITS, ()).expect("isolate");
        isolate.assign_key(account).expect("tagged");
        let function = isolate.turn(BUDGET_NS, |scope| {
            let function = scope.run_script("switch.js", &SOURCE, Compile::Eager).expect("a function");
            scope.keep(function)
        });
        (isolate, function.value.expect("ran"))
    });
    let mut at = 0;
    time("an empty turn, another isolate each time", || {
        at ^= 1;
        let turn = isolates[at].0.turn(BUDGET_NS, |_| ());
        black_box(turn.value);
    });
    time("a turn that calls a function, likewise", || {
        at ^= 1;
        let (isolate, function) = &mut isolates[at];
        let turn = isolate.turn(BUDGET_NS, |scope| {
            let function = scope.open(function);
            scope.call(function, &[]).is_ok()
        });
        assert_eq!(black_box(turn.value), Some(true));
    });
    // Handles go before their isolates.
    for (isolate, function) in isolates {
        drop(function);
        drop(isolate);
    }
}
