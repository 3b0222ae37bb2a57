//! What may be published, one field at a time. The messages are for the person who wrote the field.

use base::limits::{KIB, SUBDOMAIN_BYTES_MAX};
use plane_abi::cron::{CronError, Schedule};
use plane_abi::limits::{ENV_BYTES_MAX, NAME_BYTES_MAX};
use plane_abi::pattern::{Pattern, PatternError};

/// Variables of one deployment; Workers allow as many.
pub(crate) const ENV_VARIABLES_MAX: usize = 128;
/// A variable's value, bytes; Workers allow as many.
pub(crate) const ENV_VALUE_BYTES_MAX: usize = 5 * KIB;

const _: () = assert!(ENV_VARIABLES_MAX * (ENV_VALUE_BYTES_MAX + NAME_BYTES_MAX) <= ENV_BYTES_MAX);

/// Why a pattern may not be a route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// It is no pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// It would catch requests to other deployments' subdomains.
    #[error("pattern reaches hosts under the platform's own domain {0}, which belong to the deployments' subdomains")]
    PlatformDomain(String),
}

/// Reads a route pattern; refuses one that reaches hosts of the platform domain, where it would shadow the subdomains of
/// other tenants.
pub fn check_pattern(text: &str, platform_domain: &str) -> Result<Pattern, RouteError> {
    let pattern = Pattern::parse(text)?;
    if pattern.touches_domain(platform_domain) {
        return Err(RouteError::PlatformDomain(platform_domain.to_owned()));
    }
    Ok(pattern)
}

/// Reads a schedule.
pub fn check_cron(text: &str) -> Result<Schedule, CronError> {
    text.parse()
}

/// Why a text is no subdomain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubdomainError {
    /// Length.
    #[error("a subdomain has 1 to {SUBDOMAIN_BYTES_MAX} characters")]
    Length,
    /// Characters.
    #[error("a subdomain has lower-case letters, digits and '-', and neither begins nor ends with '-'")]
    Characters,
}

/// Checks a subdomain: one DNS label in lower case.
pub fn check_subdomain(text: &str) -> Result<(), SubdomainError> {
    if text.is_empty() || text.len() > SUBDOMAIN_BYTES_MAX {
        return Err(SubdomainError::Length);
    }
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !text.bytes().all(allowed) || text.starts_with('-') || text.ends_with('-') {
        return Err(SubdomainError::Characters);
    }
    Ok(())
}

/// Why variables may not be published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// Too many.
    #[error("{0} variables; at most {ENV_VARIABLES_MAX} are allowed")]
    Count(usize),
    /// A name that is empty or too long.
    #[error("variable {0:?}: a name has 1 to {NAME_BYTES_MAX} bytes")]
    Name(String),
    /// A value that is too long. It is not shown.
    #[error("variable {name:?}: a value of {bytes} bytes; at most {ENV_VALUE_BYTES_MAX} are allowed")]
    Value {
        /// Whose.
        name: String,
        /// How long it is.
        bytes: usize,
    },
    /// One name twice, among variables and bindings.
    #[error("variable {0:?} is there twice")]
    Duplicate(String),
}

/// Checks a deployment's variables, names and values.
pub fn check_env(variables: &[(String, String)]) -> Result<(), EnvError> {
    if variables.len() > ENV_VARIABLES_MAX {
        return Err(EnvError::Count(variables.len()));
    }
    for (name, value) in variables {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(EnvError::Name(name.clone()));
        }
        if value.len() > ENV_VALUE_BYTES_MAX {
            return Err(EnvError::Value { name: name.clone(), bytes: value.len() });
        }
    }
    let mut names: Vec<&str> = variables.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(EnvError::Duplicate(pair[0].to_owned())),
        None => Ok(()),
    }
}
