//! Plans: what an account's tier gives it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::rules::{self, FieldError};

/// The tier of accounts that were given no other, and what a tier without a plan behaves as.
pub const FREE_TIER: &str = "free";

/// What the accounts of a tier get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// The tier's name.
    pub tier: String,
    /// CPU time of one request, milliseconds.
    pub cpu_ms: u32,
    /// Share of a saturated core in relation to other tenants'.
    pub weight: u16,
    /// Deployments that an account may have; any number if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployments_max: Option<u32>,
    /// Routes that all of its deployments may have together; any number if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes_max: Option<u32>,
    /// Bytes of the modules of all of its versions, each module counted once; any number if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_bytes_max: Option<u64>,
}

/// `PUT /v1/plans/{tier}`: the whole plan; what is left out is as in the plan `free` at its beginning.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPlan {
    /// CPU time of one request, milliseconds, 1 to 30000; 50 if absent.
    #[serde(default = "cpu_ms")]
    #[schema(minimum = 1, maximum = 30000, default = 50)]
    pub cpu_ms: u32,
    /// Share of a saturated core in relation to other tenants', 1 to 1000; 100 if absent.
    #[serde(default = "weight")]
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    pub weight: u16,
    /// Deployments that an account may have; any number if absent. Those that it has beyond that stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployments_max: Option<u32>,
    /// Routes that all of an account's deployments may have together; any number if absent. Those beyond that stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes_max: Option<u32>,
    /// Bytes of the modules of all of an account's versions, each module counted once; any number if absent. What is stored beyond
    /// that stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 9007199254740991_i64)]
    pub artifact_bytes_max: Option<u64>,
}

fn cpu_ms() -> u32 {
    rules::PLAN_CPU_MS
}

fn weight() -> u16 {
    rules::PLAN_WEIGHT
}

impl SetPlan {
    /// Whether every field is what it must be.
    pub fn validate(&self) -> Result<(), FieldError> {
        if !(1..=rules::PLAN_CPU_MS_MAX).contains(&self.cpu_ms) {
            return Err(FieldError::new("cpu_ms", "must be 1 to 30000"));
        }
        if !(1..=rules::PLAN_WEIGHT_MAX).contains(&self.weight) {
            return Err(FieldError::new("weight", "must be 1 to 1000"));
        }
        if self.artifact_bytes_max.is_some_and(|most| most > rules::PLAN_ARTIFACT_BYTES_MAX) {
            return Err(FieldError::new("artifact_bytes_max", "must be at most 9007199254740991"));
        }
        Ok(())
    }
}
