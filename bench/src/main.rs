//! `selvage-bench`: wiring of the subcommands. Exit codes: 0 promises kept, 1 a promise missed, 2 could not measure.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use bench::command::{
    Verdict, activate, cold_start, h1, hello, hostile, idle_isolate, load_test, noisy_neighbour, push, soak, steer,
    streams, websocket,
};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "selvage-bench", version, about = "Load and benchmarks of Selvage, on loopback", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    LoadTest(load_test::Arguments),
    Hello(hello::Arguments),
    Activate(activate::Arguments),
    ColdStart(cold_start::Arguments),
    H1(h1::Arguments),
    Hostile(hostile::Arguments),
    NoisyNeighbour(noisy_neighbour::Arguments),
    IdleIsolate(idle_isolate::Arguments),
    Push(push::Arguments),
    #[command(hide = true)]
    PushFleet(push::fleet::Arguments),
    Soak(soak::Arguments),
    Steer(steer::Arguments),
    Streams(streams::Arguments),
    Websocket(websocket::Arguments),
}

fn main() -> ExitCode {
    let verdict = match &Cli::parse().command {
        Command::Hostile(arguments) => hostile::run(arguments),
        Command::LoadTest(arguments) => load_test::run(arguments),
        Command::Activate(arguments) => activate::run(arguments),
        Command::ColdStart(arguments) => cold_start::run(arguments),
        Command::H1(arguments) => h1::run(arguments),
        Command::NoisyNeighbour(arguments) => noisy_neighbour::run(arguments),
        Command::IdleIsolate(arguments) => idle_isolate::run(arguments),
        Command::Push(arguments) => push::run(arguments),
        Command::PushFleet(arguments) => push::fleet::run(arguments).map(|()| Verdict::Kept),
        Command::Soak(arguments) => soak::run(arguments),
        Command::Steer(arguments) => steer::run(arguments),
        Command::Streams(arguments) => streams::run(arguments),
        Command::Websocket(arguments) => websocket::run(arguments),
        Command::Hello(arguments) => hello::run(arguments),
    };
    match verdict {
        Ok(Verdict::Kept) => ExitCode::SUCCESS,
        Ok(Verdict::Missed) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
