//! The command line: every command, flag and environment variable, with the help text that users see.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use model::{AccountId, AuditId, TokenAccess, TokenScope};

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
    /// A version on trial: it gets a share of the requests
    #[command(subcommand)]
    Rollout(RolloutCommand),
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
    /// List the platform's nodes, or say where one stands and what it is to do with requests (operators)
    #[command(subcommand_required = false)]
    Nodes {
        #[command(subcommand)]
        command: Option<NodesCommand>,
    },
    /// Points of presence: where nodes stand (operators)
    #[command(subcommand)]
    Pops(PopsCommand),
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
    /// Tokens of the account
    #[command(subcommand)]
    Token(TokenCommand),
    /// Show which requests may have changed something, the newest first: the account's, or all (operators)
    Audit {
        /// Entries at most, up to 1000
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Go on before this entry
        #[arg(long, value_name = "ID")]
        before: Option<AuditId>,
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
pub(crate) enum RolloutCommand {
    /// Give a version a share of the requests beside the active one, or another share; 100 makes it the active one
    Set {
        /// The version's number
        #[arg(value_parser = version_number)]
        version: u32,
        /// Percent of the clients whose requests it gets
        #[arg(long, short, value_name = "PERCENT")]
        percent: f64,
        /// Percent of its requests that may fail before the rollout ends by itself (default: 5)
        #[arg(long, value_name = "PERCENT")]
        error_limit: Option<f64>,
        #[command(flatten)]
        target: Target,
    },
    /// Show the last one, and how the version on trial fares
    Show(Target),
    /// Send all requests to the active version again
    Stop(Target),
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
pub(crate) enum NodesCommand {
    /// Let a node get no more: it is not ready, and schedules run elsewhere
    Cordon {
        /// Its name
        node: String,
    },
    /// The same, and end each of its connections with the next response
    Drain {
        /// Its name
        node: String,
    },
    /// Let it serve again
    Uncordon {
        /// Its name
        node: String,
    },
    /// Say in which point of presence it stands
    Place {
        /// Its name
        node: String,
        /// The point of presence
        pop: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PopsCommand {
    /// List them
    #[command(visible_alias = "ls")]
    List,
    /// Make one, or move it to another region, which is made if need be
    Set {
        /// Its name
        pop: String,
        /// The region
        region: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// List them, those that ended too
    #[command(visible_alias = "ls")]
    List,
    /// Make one; its secret is printed now, and never again
    Create {
        /// What people know it by
        #[arg(long, short)]
        name: String,
        /// What it reaches: `account`, or `admin` for every account (operators)
        #[arg(long, default_value = "account", value_parser = token_scope)]
        scope: TokenScope,
        /// What of that it may do: `full`, `deploy` (no deletions, no tokens, no projects) or `read`
        #[arg(long, default_value = "full", value_parser = token_access)]
        access: TokenAccess,
        /// When it ends: `90d`, `12h`, `30m`, `45s` from now (default: never)
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        expires: Option<u64>,
    },
    /// Give one a successor, with a new secret that is printed now, and never again
    Rotate {
        /// Its id or name
        token: String,
        /// How long the old secret still counts: `1h`, at most `7d` (default: not at all)
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        overlap: Option<u64>,
    },
    /// Take one back
    Revoke {
        /// Its id or name
        token: String,
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
        /// Routes that all of them may have together; any number if absent
        #[arg(long, value_name = "N")]
        routes: Option<u32>,
        /// Bytes of the modules of all of its versions, each counted once; any number if absent
        #[arg(long, value_name = "BYTES")]
        artifact_bytes: Option<u64>,
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

fn token_scope(text: &str) -> Result<TokenScope, String> {
    TokenScope::from_name(text).ok_or_else(|| "a scope is `account` or `admin`".to_owned())
}

fn token_access(text: &str) -> Result<TokenAccess, String> {
    TokenAccess::from_name(text).ok_or_else(|| "an access is `full`, `deploy` or `read`".to_owned())
}

/// `90d`, `12h`, `30m`, `45s`.
fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || "a time is a number and a unit, as in 90d, 12h, 30m or 45s".to_owned();
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let unit_s = match unit {
        "d" => 24 * 3600,
        "h" => 3600,
        "m" => 60,
        "s" => 1,
        _ => return Err(wrong()),
    };
    let count = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let count: Option<u64> = count.and_then(|digits| digits.parse().ok());
    count.and_then(|count| count.checked_mul(unit_s)).ok_or_else(wrong)
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
    fn times_have_a_unit() {
        for (text, expect) in [("90d", 7_776_000), ("12h", 43_200), ("30m", 1_800), ("45s", 45), ("0s", 0)] {
            assert_eq!(seconds(text), Ok(expect));
        }
        for text in
            ["", "d", "90", "-1d", "+1d", "1.5h", "1w", "9d9", "99999999999999999999d", "999999999999999999d", "1ä"]
        {
            assert!(seconds(text).is_err(), "{text}");
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
