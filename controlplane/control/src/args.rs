//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// Selvage's control plane: the deployment API, and the push of configurations to nodes.
#[derive(Parser)]
#[command(name = "selvage-control", version)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Serves the API and the nodes. Prints `ready api=ADDR push=ADDR` when it does.
    Serve(Serve),
    /// Makes an account with an operator's token, and prints both as JSON; fails if the email has an account. Works
    /// whether the control plane serves or not.
    Bootstrap {
        /// Data directory; made if missing.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        #[command(flatten)]
        database: Database,
        /// Email of the account.
        #[arg(long)]
        email: String,
    },
    /// Writes what a node needs to connect: `ca.pem`, `node.pem` and `node.key` (mode 0600).
    Enroll {
        /// Data directory; made if missing.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// The node's name: lower-case letters, digits and `-`.
        #[arg(long)]
        name: String,
        /// Folder to write to; made if missing.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// Where the store is.
#[derive(ClapArgs)]
pub(crate) struct Database {
    /// A PostgreSQL database, `postgres://USER:PASSWORD@HOST/NAME`; SQLite in the data directory if absent. Other processes see
    /// arguments: a password is better given in the variable, in PGPASSWORD or in ~/.pgpass.
    #[arg(long, value_name = "URL", env = "SELVAGE_DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
}

impl Database {
    pub(crate) fn get(&self) -> store::Result<store::Database> {
        match &self.database_url {
            Some(url) => store::Database::postgres(url),
            None => Ok(store::Database::Folder),
        }
    }
}

#[derive(ClapArgs)]
pub(crate) struct Serve {
    /// Data directory; made if missing.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    #[command(flatten)]
    pub(crate) database: Database,
    /// Folder of the artifacts; `artifacts` in the data directory if absent. Processes that share a database share it.
    #[arg(long, value_name = "DIR")]
    pub(crate) artifacts: Option<PathBuf>,
    /// Where other processes of the same database reach this one's API; where it listens if absent.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) advertise: Option<String>,
    /// Stop when the process of this id, which started this one, ends.
    #[arg(long, value_name = "PID", hide = true)]
    pub(crate) end_with: Option<i32>,
    /// Where the API listens; port 0 takes any.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7070")]
    pub(crate) listen: SocketAddr,
    /// Where nodes connect to; port 0 takes any.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7071")]
    pub(crate) push_listen: SocketAddr,
    /// Domain under which each deployment's subdomain answers.
    #[arg(long, value_name = "DOMAIN", default_value = "workers.localhost")]
    pub(crate) platform_domain: String,
    /// Requests a second that a token may make, in the long run.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate_limit: u32,
    /// Requests that a token may make at once, after a pause.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate_burst: u32,
    /// Program that validates modules (`PROGRAM validate`); `selvage-node` beside this program if absent.
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) validator: Option<PathBuf>,
    /// Form of the log on standard error.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}
