//! `cargo xtask`: everything that is done to this checkout, from system packages to a running edge.
//!
//! One module per subcommand. This binary is built in the dev profile before anything else, so it stays small and
//! leans on tools that Debian already has (`sha256sum`, `zstd`, `tar`, `apt-get`). It holds no part of the product:
//! nothing that runs in production may depend on it. Errors are `anyhow` chains; the exit code is 1 for a failure and
//! that of the program it stands for where it stands for one (`bench`, `load-test`).

#![forbid(unsafe_code)]

mod artifacts;
mod bench;
mod chaos;
mod checkout;
mod dev;
mod fuzz_api;
mod keys;
mod npm;
mod packages;
mod progress;
mod run;
mod test;
mod tidy;
mod v8;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::checkout::Checkout;

/// What can be done to this checkout.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Start a control plane and a node on this machine and deploy a Worker to them
    Dev(dev::Arguments),
    /// Run every test that can run on this machine, and say what was skipped
    Test(test::Arguments),
    /// Run the tests that need memory protection keys, in an emulated machine where this one has none
    Keys(keys::Arguments),
    /// End control-plane processes and PostgreSQL at random under a stream of deployments, and see that none is lost
    Chaos(chaos::Arguments),
    /// Fuzz the API by its own document, with schemathesis
    FuzzApi(fuzz_api::Arguments),
    /// Run npm packages on a platform of its own, bundled and deployed by `selvage deploy`
    NpmPackages(npm::Arguments),
    /// Hold the code against what the documents promise about it; rustfmt; clippy
    Tidy(tidy::Arguments),
    /// Find V8's archive, or build it from source, and put it where cargo looks for it
    V8(v8::Arguments),
    /// Install the system packages that building needs (as root), or print the line that does
    Setup,
    /// Run one benchmark against its promise: `bench hello`
    #[command(disable_help_flag = true)]
    Bench(bench::Arguments),
    /// Put load on a node of its own and report latencies
    #[command(disable_help_flag = true)]
    LoadTest(bench::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match perform(arguments.task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> anyhow::Result<ExitCode> {
    let checkout = Checkout::find()?;
    match task {
        Task::Dev(arguments) => dev::run(&checkout, &arguments),
        Task::Test(arguments) => test::run(&checkout, &arguments),
        Task::Keys(arguments) => keys::run(&checkout, &arguments),
        Task::Chaos(arguments) => chaos::run(&checkout, &arguments),
        Task::FuzzApi(arguments) => fuzz_api::run(&checkout, &arguments),
        Task::NpmPackages(arguments) => npm::run(&checkout, &arguments),
        Task::Tidy(arguments) => tidy::run(&checkout, &arguments).map(|()| ExitCode::SUCCESS),
        Task::V8(arguments) => v8::run(&checkout, &arguments).map(|_| ExitCode::SUCCESS),
        Task::Setup => packages::ensure("building", packages::BUILD).map(|()| ExitCode::SUCCESS),
        Task::Bench(arguments) => bench::run(&checkout, &[], &arguments),
        Task::LoadTest(arguments) => bench::run(&checkout, &["load-test"], &arguments),
    }
}
