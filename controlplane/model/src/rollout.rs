//! A version on trial: it gets a share of a deployment's requests beside the active one.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{DeploymentId, FieldError, Timestamp};

/// Errors that a version on trial may have, percent, unless it is said.
pub const ERROR_LIMIT_PERCENT: f64 = 5.0;
/// Requests that a version must have had before its errors count against it.
pub const JUDGED_REQUESTS_MIN: u64 = 20;

/// `PUT /v1/deployments/{deployment_id}/rollout`: begins a rollout, or changes its share.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetRollout {
    /// The version's number; not the active one's.
    pub version: u32,
    /// Percent of the clients whose requests it gets, 0.01 to 100. With 100 it becomes the active version.
    #[schema(minimum = 0.01, maximum = 100)]
    pub percent: f64,
    /// Percent of its requests that may fail; past it all requests go to the active version again. 5 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 100)]
    pub error_limit_percent: Option<f64>,
}

impl SetRollout {
    /// The share in hundredths of a percent, 1 to 10,000.
    pub fn share(&self) -> Result<u32, FieldError> {
        hundredths("percent", self.percent).and_then(|share| match share {
            0 => Err(FieldError::new("percent", "must be at least 0.01")),
            share => Ok(share),
        })
    }

    /// The limit in hundredths of a percent.
    pub fn error_limit(&self) -> Result<u32, FieldError> {
        hundredths("error_limit_percent", self.error_limit_percent.unwrap_or(ERROR_LIMIT_PERCENT))
    }
}

fn hundredths(field: &str, percent: f64) -> Result<u32, FieldError> {
    if !(0.0..=100.0).contains(&percent) {
        return Err(FieldError::new(field, "must be a percentage, at most 100"));
    }
    Ok((percent * 100.0).round() as u32)
}

/// What has become of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutStatus {
    /// The version gets its share.
    Running,
    /// It became the active version.
    Completed,
    /// Its owner stopped it, or activated another version.
    Stopped,
    /// Too many of its requests failed, or a node refused it.
    RolledBack,
}

impl RolloutStatus {
    const ALL: [RolloutStatus; 4] =
        [RolloutStatus::Running, RolloutStatus::Completed, RolloutStatus::Stopped, RolloutStatus::RolledBack];

    /// Its name in JSON and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            RolloutStatus::Running => "running",
            RolloutStatus::Completed => "completed",
            RolloutStatus::Stopped => "stopped",
            RolloutStatus::RolledBack => "rolled_back",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<RolloutStatus> {
        RolloutStatus::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// How a version's requests fare, on the nodes that are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fares {
    /// Requests.
    pub requests: u64,
    /// Those among them of status 500 and above, or whose response broke off.
    pub errors: u64,
}

impl Fares {
    /// Whether more than `limit` hundredths of a percent of enough requests failed.
    pub fn crosses(&self, limit: u32) -> bool {
        self.requests >= JUDGED_REQUESTS_MIN
            && u128::from(self.errors) * 10_000 > u128::from(limit) * u128::from(self.requests)
    }
}

/// The last rollout of a deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Rollout {
    /// Whose.
    pub deployment_id: DeploymentId,
    /// The version on trial.
    pub version_number: u32,
    /// Percent of the clients whose requests it gets, or got.
    pub percent: f64,
    /// Percent of its requests that may fail.
    pub error_limit_percent: f64,
    /// What has become of it.
    pub status: RolloutStatus,
    /// Why it ended, if not by its owner's doing.
    #[schema(required = true)]
    pub reason: Option<String>,
    /// How it fares; nothing once it has ended.
    pub candidate: Fares,
    /// How the active version fares meanwhile.
    pub active: Fares,
    /// When it began.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_hundredths_and_have_bounds() {
        let set = |percent, error_limit_percent| SetRollout { version: 2, percent, error_limit_percent };
        assert_eq!(set(12.34, None).share(), Ok(1234));
        assert_eq!((set(100.0, None).share(), set(0.01, Some(0.0)).error_limit()), (Ok(10_000), Ok(0)));
        assert_eq!(set(1.0, None).error_limit(), Ok(500));
        for wrong in [0.0, 0.004, -1.0, 100.1, f64::NAN, f64::INFINITY] {
            assert_eq!(set(wrong, None).share().unwrap_err().field, "percent", "{wrong}");
        }
        assert!(set(1.0, Some(101.0)).error_limit().is_err());
    }

    #[test]
    fn errors_count_once_there_are_enough_requests() {
        let crosses = |requests, errors, limit| Fares { requests, errors }.crosses(limit);
        assert!(!crosses(19, 19, 500) && crosses(20, 2, 500) && !crosses(20, 1, 500));
        assert!(crosses(1_000, 51, 500) && !crosses(1_000, 50, 500));
        assert!(crosses(20, 1, 0) && !crosses(20, 0, 0) && !crosses(100, 100, 10_000));
    }

    #[test]
    fn statuses_have_names() {
        for status in RolloutStatus::ALL {
            assert_eq!(RolloutStatus::from_name(status.as_str()), Some(status));
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
    }
}
