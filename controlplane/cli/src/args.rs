//! The command line: every command, flag and environment variable, with the help text that users see.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use model::AccountId;

use crate::output::Colour;

/// Printed below `selvage --help`; the codes are `failure::Kind`.
const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  the command line or a project file is wrong
  3  not authenticated: no token, or one that is wrong, expired or of another account
  4  no such deployment, version, route or variable
  5  conflict: the name is taken, or the state does not allow it
  6  the module is not one that can run
  7  the control plane cannot be reached

Environment:
  SELVAGE_API_URL, SELVAGE_TOKEN, SELVAGE_ACCOUNT  win over what `selvage login` stored
  SELVAGE_CONFIG                                   the file of `login` (default ~/.config/selvage/config.toml)
  SELVAGE_ESBUILD                                  the esbuild to bundle with (default: the project's, else one fetched once with npm)
  NO_COLOR                                         no colours";

/// Deploy Workers to a Selvage platform.
#[derive(Debug, Parser)]
#[command(name = "selvage", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Print JSON on stdout, for scripts
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to colour
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Colour,
    /// The control plane's API
    #[arg(long, global = true, env = "SELVAGE_API_URL", value_name = "URL")]
    pub(crate) api_url: Option<String>,
    /// Account to work in (default: the token's)
    #[arg(long, global = true, env = "SELVAGE_ACCOUNT", value_name = "ID")]
    pub(crate) account: Option<String>,
    /// File of `login`
    #[arg(long, global = true, env = "SELVAGE_CONFIG", value_name = "FILE", hide = true)]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Store the API's URL and a token, after checking them
    Login(LoginArgs),
    /// Say whose token it is
    Whoami,
    /// Make a new Worker: worker.js and wrangler.toml
    Init(InitArgs),
    /// Upload a version and activate it
    Deploy(DeployArgs),
    /// List the deployments of a project
    #[command(visible_alias = "ls")]
    List {
        /// The project's slug
        #[arg(long, default_value = DEFAULT_PROJECT, value_name = "SLUG")]
        project: String,
    },
    /// List a deployment's versions
    Versions(Target),
    /// Make an uploaded version the active one
    Activate {
        /// The version's number
        #[arg(value_parser = version_number)]
        version: u32,
        #[command(flatten)]
        target: Target,
    },
    /// Go back to the version that was active before, or to the one named
    Rollback {
        /// The version's number
        #[arg(value_parser = version_number)]
        version: Option<u32>,
        #[command(flatten)]
        target: Target,
    },
    /// Patterns that a deployment answers for
    #[command(subcommand)]
    Routes(RoutesCommand),
    /// Variables and secrets of a deployment
    #[command(subcommand)]
    Env(EnvCommand),
    /// The configuration that nodes get
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Show live logs until Ctrl-C
    Tail {
        #[command(flatten)]
        target: Target,
        /// Stop after this many records
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
    },
    /// Stop serving: clients get 503
    Pause(Target),
    /// Serve again
    Resume(Target),
    /// Delete a deployment with all its versions
    Delete {
        #[command(flatten)]
        target: Target,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// List the platform's nodes (operators)
    Nodes,
    /// What accounts get for their tier (operators)
    #[command(subcommand)]
    Plan(PlanCommand),
    /// What packets meet at every node: deny list, limits, VIPs (operators)
    #[command(subcommand)]
    Steering(SteeringCommand),
    /// Upgrade the node on this machine, or show how its packets are steered (operators): `selvage-node`'s own commands
    Node {
        /// Such as `upgrade --data /var/lib/selvage-node`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "COMMAND")]
        words: Vec<OsString>,
    },
    /// Run a control plane, a node and a Worker on this machine; redeploy when a file changes
    Dev(DevArgs),
    /// Print a completion script
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

/// The project that is used unless one is named.
pub(crate) const DEFAULT_PROJECT: &str = "default";

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// The token; `-` reads it from stdin. Without it: SELVAGE_TOKEN, or a prompt. Other users of the machine can see a command's arguments
    #[arg(long, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Folder to make it in
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// The Worker's name (default: the folder's)
    #[arg(long)]
    pub(crate) name: Option<String>,
}

/// Which deployment is meant.
#[derive(Clone, Debug, Args)]
pub(crate) struct Target {
    /// The deployment's name or id (default: the one of the project file)
    #[arg(long, short, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The project's slug
    #[arg(long, default_value = DEFAULT_PROJECT, value_name = "SLUG")]
    pub(crate) project: String,
    /// Folder or project file to take the name from
    #[arg(long, short = 'C', default_value = ".", value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// The environment: [env.NAME] of the project file
    #[arg(long, short, value_name = "NAME")]
    pub(crate) env: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DeployArgs {
    /// A module (JavaScript, TypeScript), or a folder with a wrangler file or worker.js
    #[arg(default_value = ".")]
    pub(crate) path: PathBuf,
    /// The deployment's name (default: the project file's, or made from the path)
    #[arg(long, short)]
    pub(crate) name: Option<String>,
    /// The project's slug; made if there is none
    #[arg(long, default_value = DEFAULT_PROJECT, value_name = "SLUG")]
    pub(crate) project: String,
    /// Its subdomain, on first use (default: its name)
    #[arg(long, value_name = "LABEL")]
    pub(crate) subdomain: Option<String>,
    /// The environment: [env.NAME] of the project file
    #[arg(long, short, value_name = "NAME")]
    pub(crate) env: Option<String>,
    /// A line for the list of versions
    #[arg(long, short, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// Deploy the module as it is: no TypeScript, no imports
    #[arg(long)]
    pub(crate) no_bundle: bool,
    /// Bundle and write worker.js and its map here; deploy nothing
    #[arg(long, value_name = "DIR")]
    pub(crate) outdir: Option<PathBuf>,
    /// Upload only
    #[arg(long)]
    pub(crate) no_activate: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RoutesCommand {
    /// List them
    #[command(visible_alias = "ls")]
    List(Target),
    /// Add one: `example.com/*`, `*.example.com/api/*`
    Add {
        /// The pattern
        pattern: String,
        /// The zone it belongs to
        #[arg(long, value_name = "ID")]
        zone: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Remove one
    #[command(visible_alias = "rm")]
    Remove {
        /// Its pattern or id
        route: String,
        #[command(flatten)]
        target: Target,
    },
    /// Put one in force again
    Enable {
        /// Its pattern or id
        route: String,
        #[command(flatten)]
        target: Target,
    },
    /// Keep one, but not in force
    Disable {
        /// Its pattern or id
        route: String,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum EnvCommand {
    /// List names and types; values are never shown
    #[command(visible_alias = "ls")]
    List(Target),
    /// Set one
    Set {
        /// Its name
        key: String,
        /// Its value; a secret's, or one left out, is read from stdin or a prompt
        value: Option<String>,
        /// It is a secret
        #[arg(long)]
        secret: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Remove one
    Unset {
        /// Its name
        key: String,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print it in its compact JSON form
    Show {
        /// The whole platform's (operators)
        #[arg(long, conflicts_with = "name")]
        all: bool,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SteeringCommand {
    /// Print the rules as JSON
    Show,
    /// Replace the rules by those of a JSON file; what it leaves out is no rule
    Set {
        /// The file; `-` for standard input
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    /// List them
    #[command(visible_alias = "ls")]
    List,
    /// Make or change one, for every account of the tier
    Set {
        /// The tier
        tier: String,
        /// CPU time of one request, milliseconds, up to 30000
        #[arg(long, default_value_t = model::rules::PLAN_CPU_MS, value_name = "MS")]
        cpu_ms: u32,
        /// Share of a busy core in relation to other tenants', up to 1000
        #[arg(long, default_value_t = model::rules::PLAN_WEIGHT, value_name = "N")]
        weight: u16,
        /// Deployments that an account may have; any number if absent
        #[arg(long, value_name = "N")]
        deployments: Option<u32>,
    },
    /// Give an account another tier
    Assign {
        /// The tier; one without a plan is as `free`
        tier: String,
        /// The account's id
        account_id: AccountId,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// A module (JavaScript, TypeScript), or a folder with a wrangler file or worker.js
    #[arg(default_value = ".")]
    pub(crate) path: PathBuf,
    /// Where the Worker answers
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub(crate) listen: SocketAddr,
    /// Keep the platform's data here (default: a temporary folder, removed at the end)
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Where the API answers
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR")]
    pub(crate) api_listen: SocketAddr,
    /// Shards of the node
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) shards: u16,
    /// The environment: [env.NAME] of the project file
    #[arg(long, short, value_name = "NAME")]
    pub(crate) env: Option<String>,
    /// Show the control plane's and the node's own logs
    #[arg(long, short)]
    pub(crate) verbose: bool,
}

/// `5` or `v5`.
fn version_number(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix('v').unwrap_or(text);
    match digits.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("a version is a number, as in 5 or v5".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn versions_are_numbers_with_or_without_v() {
        assert_eq!(version_number("5"), Ok(5));
        assert_eq!(version_number("v12"), Ok(12));
        for text in ["", "v", "0", "-1", "5.0", "vv5"] {
            assert!(version_number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn wrong_usage_ends_with_the_documented_code() {
        for line in
            [&["selvage"][..], &["selvage", "nope"], &["selvage", "rollback", "x"], &["selvage", "routes", "add"]]
        {
            let error = Cli::try_parse_from(line).expect_err("wrong");
            assert_eq!(error.exit_code(), 2, "{line:?}");
        }
    }
}
