//! `selvage`: the command that developers deploy with and operators look at their platform with.
//!
//! Wiring only: reads the command line, makes a [`context::Context`], runs one command of [`command`], prints its failure and
//! ends with its exit code (`failure::Kind`). One thread, except in `dev`. Talks to the control plane over its public API alone:
//! it can do nothing that a script with the same token cannot.

#![forbid(unsafe_code)]

mod args;
mod bundle;
mod client;
mod command;
mod context;
mod excerpt;
mod failure;
mod jsonc;
mod logs;
mod maps;
mod multipart;
mod output;
mod project;
mod prompt;
mod settings;
mod sourcemap;
mod wrangler;

use std::process::ExitCode;

use args::{
    Cli, Command, ConfigCommand, EnvCommand, PlanCommand, PopsCommand, RolloutCommand, RoutesCommand, SteeringCommand,
    TokenCommand,
};
use clap::{CommandFactory, Parser};
use context::Context;
use failure::Outcome;
use model::{CreateToken, RotateToken, SetPlan, SetRollout};
use output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.json, cli.color);
    match run(cli, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.kind as u8)
        }
    }
}

fn run(cli: Cli, output: Output) -> Outcome {
    let context = Context::new(output, cli.api_url, cli.account, cli.config)?;
    match cli.command {
        Command::Login(args) => command::account::login(&context, &args),
        Command::Whoami => command::account::whoami(&context),
        Command::Init(args) => command::init::init(&context, &args),
        Command::Deploy(args) => command::deploy::deploy(&context, &args),
        Command::List { project } => command::lifecycle::list(&context, &project),
        Command::Versions(target) => command::lifecycle::versions(&context, &target),
        Command::Activate { version, target } => command::lifecycle::activate(&context, &target, version),
        Command::Rollback { version, target } => command::lifecycle::rollback(&context, &target, version),
        Command::Pause(target) => command::lifecycle::pause(&context, &target),
        Command::Resume(target) => command::lifecycle::resume(&context, &target),
        Command::Delete { target, yes } => command::lifecycle::delete(&context, &target, yes),
        Command::Rollout(RolloutCommand::Set { version, percent, error_limit, target }) => {
            let error_limit_percent = error_limit;
            command::rollout::set(&context, &target, &SetRollout { version, percent, error_limit_percent })
        }
        Command::Rollout(RolloutCommand::Show(target)) => command::rollout::show(&context, &target),
        Command::Rollout(RolloutCommand::Stop(target)) => command::rollout::stop(&context, &target),
        Command::Routes(RoutesCommand::List(target)) => command::routes::list(&context, &target),
        Command::Routes(RoutesCommand::Add { pattern, zone, target }) => {
            command::routes::add(&context, &target, pattern, zone)
        }
        Command::Routes(RoutesCommand::Remove { route, target }) => command::routes::remove(&context, &target, &route),
        Command::Routes(RoutesCommand::Enable { route, target }) => {
            command::routes::enable(&context, &target, &route, true)
        }
        Command::Routes(RoutesCommand::Disable { route, target }) => {
            command::routes::enable(&context, &target, &route, false)
        }
        Command::Env(EnvCommand::List(target)) => command::env::list(&context, &target),
        Command::Env(EnvCommand::Set { key, value, secret, target }) => {
            command::env::set(&context, &target, &key, value, secret)
        }
        Command::Env(EnvCommand::Unset { key, target }) => command::env::unset(&context, &target, &key),
        Command::Config(ConfigCommand::Show { all, target }) => command::operator::config(&context, &target, all),
        Command::Node { words } => command::node::run(&words),
        Command::Nodes { command } => command::nodes::run(&context, command),
        Command::Pops(PopsCommand::List) => command::nodes::pops(&context),
        Command::Pops(PopsCommand::Set { pop, region }) => command::nodes::set_pop(&context, &pop, region),
        Command::Plan(PlanCommand::List) => command::operator::plans(&context),
        Command::Plan(PlanCommand::Set { tier, cpu_ms, weight, deployments, routes, artifact_bytes }) => {
            let (deployments_max, routes_max, artifact_bytes_max) = (deployments, routes, artifact_bytes);
            let plan = SetPlan { cpu_ms, weight, deployments_max, routes_max, artifact_bytes_max };
            command::operator::set_plan(&context, &tier, &plan)
        }
        Command::Plan(PlanCommand::Assign { tier, account_id }) => {
            command::operator::assign_plan(&context, account_id, tier)
        }
        Command::Steering(SteeringCommand::Show) => command::operator::steering(&context),
        Command::Steering(SteeringCommand::Set { file }) => command::operator::set_steering(&context, &file),
        Command::Token(TokenCommand::List) => command::token::list(&context),
        Command::Token(TokenCommand::Create { name, scope, access, expires }) => {
            let (scope, access, expires_in_s) = (Some(scope), Some(access), expires);
            command::token::create(&context, &CreateToken { name, scope, access, expires_in_s })
        }
        Command::Token(TokenCommand::Rotate { token, overlap }) => {
            command::token::rotate(&context, &token, &RotateToken { overlap_s: overlap })
        }
        Command::Token(TokenCommand::Revoke { token }) => command::token::revoke(&context, &token),
        Command::Audit { limit, before } => command::token::audit(&context, limit, before),
        Command::Tail { target, limit } => command::tail::tail(&context, &target, limit),
        Command::Dev(args) => command::dev::dev(&context, &args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "selvage", &mut std::io::stdout());
            Ok(())
        }
    }
}
