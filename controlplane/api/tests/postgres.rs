//! Every test of the API once more, with the store in PostgreSQL: `support` knows this binary by its name.

#![allow(clippy::duplicate_mod, reason = "each file of tests is a whole one, with its support")]

#[path = "api.rs"]
mod api;
#[path = "plans.rs"]
mod plans;
#[path = "recovery.rs"]
mod recovery;
#[path = "services.rs"]
mod services;
#[path = "tokens.rs"]
mod tokens;
