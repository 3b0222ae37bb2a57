//! End-to-end tests: each starts a control plane and a node of its own and asks of them what a user, an operator or an
//! attacker would. One binary, so that it links once. See the crate `e2e` for the harness.

mod activation;
mod api_fuzz;
mod assets;
mod browser;
mod bundling;
mod code_cache;
mod crash;
mod distribution;
mod examples;
mod fleet;
mod hostile_requests;
mod hostile_workers;
mod hosts;
mod keys;
mod lifecycle;
mod limits;
mod logs;
mod main_job;
mod malformed_http;
mod many_routes;
mod modules;
mod npm_packages;
mod rollout;
mod steering;
mod streaming;
mod templates;
mod tokens;
mod upgrade;
mod websockets;
mod workers_together;
