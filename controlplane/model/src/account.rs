//! Accounts, projects and tokens.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::rules::{self, FieldError};
use crate::{AccountId, ProjectId, Timestamp, TokenId};

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Whom to write to; unique.
    pub email: String,
    /// What it pays for; `free` by default. `GET /v1/plans` says what that gives.
    pub plan_tier: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// `POST /v1/accounts`; needs an operator's token.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAccount {
    /// Whom to write to; unique.
    #[schema(min_length = 3, max_length = 255, pattern = r"^[^@\s\x00-\x1f\x7f-\x9f]+@[^@\s\x00-\x1f\x7f-\x9f]+$")]
    pub email: String,
    /// `free` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 50, pattern = r"^(?=.*\S)[^\x00-\x1f\x7f-\x9f]+$")]
    pub plan_tier: Option<String>,
}

impl CreateAccount {
    /// Whether every field is what it must be.
    pub fn validate(&self) -> Result<(), FieldError> {
        rules::email("email", &self.email)?;
        match &self.plan_tier {
            Some(tier) => rules::tier("plan_tier", tier),
            None => Ok(()),
        }
    }
}

/// `PATCH /v1/accounts/{account_id}`; needs an operator's token.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateAccount {
    /// The new tier. One without a plan is as `free`.
    #[schema(min_length = 1, max_length = 50, pattern = r"^(?=.*\S)[^\x00-\x1f\x7f-\x9f]+$")]
    pub plan_tier: String,
}

impl UpdateAccount {
    /// Whether every field is what it must be.
    pub fn validate(&self) -> Result<(), FieldError> {
        rules::tier("plan_tier", &self.plan_tier)
    }
}

/// A group of deployments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Whose it is.
    pub account_id: AccountId,
    /// For people.
    pub name: String,
    /// Its short name; unique in the account.
    pub slug: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// `POST /v1/accounts/{account_id}/projects`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateProject {
    /// For people.
    #[schema(min_length = 1, max_length = 255, pattern = r"^(?=.*\S)[^\x00-\x1f\x7f-\x9f]+$")]
    pub name: String,
    /// Made from the name if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
}

impl CreateProject {
    /// Whether every field is what it must be.
    pub fn validate(&self) -> Result<(), FieldError> {
        rules::name("name", &self.name)?;
        match &self.slug {
            Some(slug) => rules::slug("slug", slug),
            None if self.slug_or_made().is_empty() => {
                Err(FieldError::new("slug", "is needed, as the name has no letter or digit to make one from"))
            }
            None => Ok(()),
        }
    }

    /// The slug given, or one made from the name: lower case, runs of anything else a single `-`.
    pub fn slug_or_made(&self) -> String {
        if let Some(slug) = &self.slug {
            return slug.clone();
        }
        let words = self.name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        let mut slug = words.collect::<Vec<_>>().join("-").to_ascii_lowercase();
        slug.truncate(rules::SLUG_BYTES_MAX);
        slug.trim_end_matches('-').to_owned()
    }
}

/// `PATCH /v1/projects/{project_id}`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateProject {
    /// The new name; the slug stays.
    #[schema(min_length = 1, max_length = 255, pattern = r"^(?=.*\S)[^\x00-\x1f\x7f-\x9f]+$")]
    pub name: String,
}

impl UpdateProject {
    /// Whether every field is what it must be.
    pub fn validate(&self) -> Result<(), FieldError> {
        rules::name("name", &self.name)
    }
}

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenScope {
    /// Everything of its own account.
    Account,
    /// Everything of every account, and the operator's views: accounts, nodes, the whole configuration.
    Admin,
}

impl TokenScope {
    /// Its name in JSON and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            TokenScope::Account => "account",
            TokenScope::Admin => "admin",
        }
    }

    /// The scope of that name.
    pub fn from_name(name: &str) -> Option<TokenScope> {
        [TokenScope::Account, TokenScope::Admin].into_iter().find(|scope| scope.as_str() == name)
    }
}

/// What of its scope a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenAccess {
    /// Everything.
    Full,
    /// Read, and make and change deployments: their versions, routes and variables. Not delete them, and nothing of accounts,
    /// projects, tokens, plans and steering.
    Deploy,
    /// Read.
    Read,
}

impl TokenAccess {
    /// Its name in JSON and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            TokenAccess::Full => "full",
            TokenAccess::Deploy => "deploy",
            TokenAccess::Read => "read",
        }
    }

    /// The access of that name.
    pub fn from_name(name: &str) -> Option<TokenAccess> {
        [TokenAccess::Full, TokenAccess::Deploy, TokenAccess::Read].into_iter().find(|access| access.as_str() == name)
    }

    /// Whether a request of this method on this path of the API may be tried.
    pub fn allows(self, method: &str, path: &str) -> bool {
        let reads = matches!(method, "GET" | "HEAD" | "OPTIONS");
        match self {
            TokenAccess::Full => true,
            TokenAccess::Read => reads,
            TokenAccess::Deploy if reads => true,
            TokenAccess::Deploy => {
                let steps: Vec<&str> = path.trim_matches('/').split('/').collect();
                match steps[..] {
                    ["v1", "projects", _, "deployments"] => true,
                    ["v1", "deployments", _] => method != "DELETE",
                    ["v1", "deployments", _, ..] => true,
                    _ => false,
                }
            }
        }
    }
}

/// A token's record; the token itself is shown once, when it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// Whose it is.
    pub account_id: AccountId,
    /// For people.
    pub name: String,
    /// What it may do.
    pub scope: TokenScope,
    /// What of that.
    pub access: TokenAccess,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; null for never.
    #[schema(required = true)]
    pub expires_at: Option<Timestamp>,
    /// When it was taken back; null if it was not.
    #[schema(required = true)]
    pub revoked_at: Option<Timestamp>,
}

/// `POST /v1/accounts/{account_id}/tokens`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// For people.
    #[schema(min_length = 1, max_length = 255, pattern = r"^(?=.*\S)[^\x00-\x1f\x7f-\x9f]+$")]
    pub name: String,
    /// `account` if absent; `admin` only from an admin's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<TokenScope>,
    /// `full` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<TokenAccess>,
    /// Seconds until it ends, ten years at most; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 316224000)]
    pub expires_in_s: Option<u64>,
}

impl CreateToken {
    /// Whether every field is what it must be.
    pub fn validate(&self) -> Result<(), FieldError> {
        rules::name("name", &self.name)?;
        match self.expires_in_s {
            Some(seconds) if seconds == 0 || seconds > rules::TOKEN_LIFE_S_MAX => {
                Err(FieldError::new("expires_in_s", "must be at least 1 and at most ten years"))
            }
            _ => Ok(()),
        }
    }
}

/// `POST /v1/accounts/{account_id}/tokens/{token_id}/rotate`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateToken {
    /// Seconds for which the old secret still counts, a week at most; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 604800)]
    pub overlap_s: Option<u64>,
}

impl RotateToken {
    /// Whether every field is what it must be.
    pub fn validate(&self) -> Result<(), FieldError> {
        match self.overlap_s {
            Some(seconds) if seconds > rules::TOKEN_OVERLAP_S_MAX => {
                Err(FieldError::new("overlap_s", "must be at most a week"))
            }
            _ => Ok(()),
        }
    }
}

/// A new token.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// Its record.
    #[serde(flatten)]
    pub token: Token,
    /// What to send as `Authorization: Bearer …`. Not stored: it cannot be shown again.
    pub secret: String,
}

impl std::fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedToken").field("token", &self.token).field("secret", &"…").finish()
    }
}

/// `GET /v1/whoami`: what a token is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    /// The token's record.
    pub token: Token,
    /// Its account.
    pub account: Account,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_slug(name: &str, slug: &str) {
        assert_eq!(CreateProject { name: name.to_owned(), slug: None }.slug_or_made(), slug);
    }

    #[test]
    fn slugs_are_made_from_names() {
        check_slug("My Shop", "my-shop");
        check_slug("  a  --  b! ", "a-b");
        check_slug("日本", "");
        check_slug(&"ab ".repeat(60), "ab-".repeat(34)[..100].trim_end_matches('-'));
    }

    #[test]
    fn access_allows_what_it_says() {
        for (method, path, deploy, read) in [
            ("GET", "/v1/accounts/acc_1/tokens", true, true),
            ("POST", "/v1/accounts/acc_1/tokens", false, false),
            ("POST", "/v1/accounts/acc_1/projects", false, false),
            ("POST", "/v1/projects/prj_1/deployments", true, false),
            ("DELETE", "/v1/projects/prj_1", false, false),
            ("POST", "/v1/deployments/deploy_1/versions", true, false),
            ("PUT", "/v1/deployments/deploy_1/env/KEY", true, false),
            ("DELETE", "/v1/deployments/deploy_1/routes/route_1", true, false),
            ("DELETE", "/v1/deployments/deploy_1", false, false),
            ("DELETE", "//v1/deployments/deploy_1/", false, false),
            ("PUT", "/v1/plans/free", false, false),
            ("POST", "", false, false),
        ] {
            assert!(TokenAccess::Full.allows(method, path));
            assert_eq!(TokenAccess::Deploy.allows(method, path), deploy, "{method} {path}");
            assert_eq!(TokenAccess::Read.allows(method, path), read, "{method} {path}");
        }
    }

    #[test]
    fn a_token_is_not_in_debug_output() {
        let token = Token {
            id: TokenId::new(),
            account_id: AccountId::new(),
            name: "ci".to_owned(),
            scope: TokenScope::Account,
            access: TokenAccess::Full,
            created_at: Timestamp::now(),
            expires_at: None,
            revoked_at: None,
        };
        let created = CreatedToken { token, secret: "hunter2".to_owned() };
        assert!(!format!("{created:?}").contains("hunter2"));
    }
}
