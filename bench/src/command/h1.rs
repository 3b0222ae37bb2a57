//! `h1`: what our HTTP/1.1 machine costs beside hyper 1.x, on the same bytes, in one process, without sockets.
//!
//! Shows the number behind design.md's rule "an own machine only when a benchmark shows more than 20 %". Batches of both
//! sides alternate; the ratio is taken batch by batch. Instructions decide where the processor counts them; time
//! where not.

use std::time::Instant;

use anyhow::ensure;
use clap::Args;
use serde::Serialize;

use super::{Promise, Verdict, print_promises};
use crate::counter::Instructions;
use crate::http1::hyper_side::HyperSide;
use crate::http1::our_side::OurSide;
use crate::http1::{Case, Side, cases};
use crate::machine::{self, Machine};
use crate::report::{self, round, table};

/// Ours over hyper's: above it, hyper would have been good enough.
const COST_MAX: f64 = 0.8;

/// Measure our HTTP/1.1 machine beside hyper on the same bytes
#[derive(Args, Debug)]
pub struct Arguments {
    /// Batches of each side
    #[arg(long, default_value_t = 41)]
    batches: usize,
    /// Requests in a batch
    #[arg(long, default_value_t = 20_000)]
    requests: usize,
}

#[derive(Serialize)]
struct CaseReport {
    name: &'static str,
    request_bytes: usize,
    ours_ns: f64,
    hyper_ns: f64,
    ours_instructions: Option<f64>,
    hyper_instructions: Option<f64>,
    /// Ours over hyper's, median of the batches, by time.
    ratio_time: f64,
    /// The same by instructions.
    ratio_instructions: Option<f64>,
}

#[derive(Serialize)]
struct Report {
    bench: &'static str,
    machine: Machine,
    batches: usize,
    requests_per_batch: usize,
    no_instructions: Option<String>,
    cases: Vec<CaseReport>,
    promises: Vec<Promise>,
    ok: bool,
}

/// Cost of one batch, per request.
#[derive(Clone, Copy)]
struct Cost {
    ns: f64,
    instructions: Option<f64>,
}

/// Runs it.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    ensure!(arguments.batches > 0 && arguments.requests > 0, "nothing to measure");
    let machine = Machine::describe();
    if let Some(core) = machine::cores().last() {
        machine::pin_thread(&[*core])?;
    }
    let mut counter = Instructions::open();
    let cases = cases()
        .iter()
        .map(|case| measure(case, arguments, &mut counter))
        .collect::<anyhow::Result<Vec<CaseReport>>>()?;
    let worst = |ratio: &dyn Fn(&CaseReport) -> Option<f64>| cases.iter().filter_map(ratio).reduce(f64::max);
    let by_instructions = worst(&|case| case.ratio_instructions);
    let promise = match by_instructions {
        Some(ratio) => Promise::at_most("instructions a request over hyper's, worst case", Some(ratio), COST_MAX),
        None => {
            let ratio = worst(&|case| Some(case.ratio_time));
            Promise::at_most("time a request over hyper's, worst case (no instruction counter here)", ratio, COST_MAX)
        }
    };
    let promises = vec![promise];
    let verdict = Verdict::of(&promises);
    let report = Report {
        bench: "h1",
        machine,
        batches: arguments.batches,
        requests_per_batch: arguments.requests,
        no_instructions: counter.missing().map(str::to_owned),
        cases,
        promises,
        ok: verdict == Verdict::Kept,
    };
    print(&report);
    report::last_line(&report)?;
    Ok(verdict)
}

fn measure(case: &Case, arguments: &Arguments, counter: &mut Instructions) -> anyhow::Result<CaseReport> {
    let (mut ours, mut hypers) = (OurSide::new(), HyperSide::new());
    batch(&mut ours, case, arguments.requests, counter)?;
    batch(&mut hypers, case, arguments.requests, counter)?;
    let mut pairs = Vec::with_capacity(arguments.batches);
    for index in 0..arguments.batches {
        // Who goes first alternates too.
        let (mut our_cost, mut hyper_cost) = (None, None);
        for turn in 0..2 {
            if (index + turn) % 2 == 0 {
                our_cost = Some(batch(&mut ours, case, arguments.requests, counter)?);
            } else {
                hyper_cost = Some(batch(&mut hypers, case, arguments.requests, counter)?);
            }
        }
        pairs.extend(our_cost.zip(hyper_cost));
    }
    let expected = (case.body_bytes * arguments.requests * (arguments.batches + 1)) as u64;
    ensure!(
        (ours.body_bytes(), hypers.body_bytes()) == (expected, expected),
        "{}: both sides read all bodies",
        case.name
    );
    let of = |value: &dyn Fn(&(Cost, Cost)) -> Option<f64>| median(pairs.iter().filter_map(value).collect());
    Ok(CaseReport {
        name: case.name,
        request_bytes: case.request.len(),
        ours_ns: of(&|(one, _)| Some(one.ns)).unwrap_or(f64::NAN),
        hyper_ns: of(&|(_, other)| Some(other.ns)).unwrap_or(f64::NAN),
        ours_instructions: of(&|(one, _)| one.instructions),
        hyper_instructions: of(&|(_, other)| other.instructions),
        ratio_time: of(&|(one, other)| Some(one.ns / other.ns)).unwrap_or(f64::NAN),
        ratio_instructions: of(&|(one, other)| Some(one.instructions? / other.instructions?)),
    })
}

fn batch(side: &mut dyn Side, case: &Case, requests: usize, counter: &mut Instructions) -> anyhow::Result<Cost> {
    let before = counter.read();
    let begin = Instant::now();
    let mut bytes = 0;
    for _ in 0..requests {
        bytes += std::hint::black_box(side.serve(std::hint::black_box(&case.request))?).len();
    }
    let ns = begin.elapsed().as_nanos() as f64 / requests as f64;
    let instructions =
        before.zip(counter.read()).map(|(before, after)| (after.saturating_sub(before)) as f64 / requests as f64);
    ensure!(bytes > requests, "responses have bytes");
    Ok(Cost { ns, instructions })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().map(round)
}

fn print(report: &Report) {
    println!(
        "{}, load average {:.1}; {} alternating batches of {} requests",
        report.machine.cpu, report.machine.load_average, report.batches, report.requests_per_batch
    );
    let count = |value: Option<f64>| value.map_or("-".to_owned(), table::grouped);
    let rows: Vec<Vec<String>> = report
        .cases
        .iter()
        .map(|case| {
            vec![
                case.name.to_owned(),
                format!("{:.0}", case.ours_ns),
                format!("{:.0}", case.hyper_ns),
                format!("{:.2}", case.ratio_time),
                count(case.ours_instructions),
                count(case.hyper_instructions),
                case.ratio_instructions.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
            ]
        })
        .collect();
    let heading = ["request", "ours ns", "hyper ns", "ratio", "ours instr.", "hyper instr.", "ratio"];
    print!("{}", table::render(&heading, &rows));
    if let Some(why) = &report.no_instructions {
        println!("!!! SKIPPED instructions: {why}");
    }
    print_promises(&report.promises);
}
