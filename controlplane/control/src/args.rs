//! The command line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use api::{ArtifactError, S3Place};
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
    Serve(Box<Serve>),
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
    /// Adds many routes at once, from standard input: a line `DEPLOYMENT PATTERN` each. Those whose pattern is taken are left out.
    /// Prints how many were added. A control plane that serves takes them with the next change.
    ImportRoutes {
        /// Data directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        #[command(flatten)]
        database: Database,
        /// Domain under which each deployment's subdomain answers; no route may reach into it.
        #[arg(long, value_name = "DOMAIN", default_value = "workers.localhost")]
        platform_domain: String,
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

/// How to reach the S3-compatible store of artifacts.
#[derive(ClapArgs)]
pub(crate) struct S3 {
    /// The S3-compatible server of the artifacts (MinIO, Ceph, Garage, …), `https://HOST` or `http://HOST:PORT`. If absent,
    /// what AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL says, else Amazon's.
    #[arg(long = "s3-endpoint", value_name = "URL", env = "SELVAGE_S3_ENDPOINT")]
    endpoint: Option<String>,
    /// The bucket's region. If absent, what AWS_REGION or AWS_DEFAULT_REGION says, else `us-east-1`.
    #[arg(long = "s3-region", value_name = "NAME", env = "SELVAGE_S3_REGION")]
    region: Option<String>,
    /// Put the bucket before the host's name (`BUCKET.HOST`) instead of into the path.
    #[arg(long = "s3-virtual-host", env = "SELVAGE_S3_VIRTUAL_HOST")]
    virtual_host: bool,
}

impl S3 {
    /// The place that `url`, these options and the standard variables name.
    pub(crate) fn place(&self, url: &str) -> Result<S3Place, ArtifactError> {
        let variables = std::env::vars_os();
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        let mut place = S3Place::parse(url)?.with_variables(variables.filter_map(text));
        if let Some(endpoint) = &self.endpoint {
            place = place.with_endpoint(endpoint)?;
        }
        if let Some(region) = &self.region {
            place = place.with_region(region);
        }
        Ok(if self.virtual_host { place.with_virtual_host() } else { place })
    }

    /// Whether one of these options is given, which mean nothing without such a store.
    pub(crate) fn is_given(&self) -> bool {
        self.endpoint.is_some() || self.region.is_some() || self.virtual_host
    }
}

#[derive(ClapArgs)]
pub(crate) struct Serve {
    /// Data directory; made if missing.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    #[command(flatten)]
    pub(crate) database: Database,
    /// Where artifacts are: a folder, or `s3://BUCKET/PREFIX` in an S3-compatible store; the folder `artifacts` in the data
    /// directory if absent. Processes that share a database share them. S3's credentials are in the standard variables
    /// (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN), or the machine's.
    #[arg(long, value_name = "DIR|s3://BUCKET/PREFIX")]
    pub(crate) artifacts: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) s3: S3,
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
    /// Port at which clients reach the nodes, if it is not that of `https:` (`http:` for `localhost`): for the URLs of deployments.
    #[arg(long, value_name = "PORT")]
    pub(crate) platform_port: Option<u16>,
    /// Deployments whose modules nodes have ahead: those with the most requests of the last week. Those of others they fetch with
    /// the first request.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) push_top: u32,
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
