//! Accounts and their tokens.

use axum::extract::State;
use model::{
    Account, AccountId, CreateAccount, CreateToken, CreatedToken, Envelope, RotateToken, Timestamp, Token, TokenAccess,
    TokenId, TokenScope, UpdateAccount, WhoAmI,
};
use store::NewToken;

use crate::auth::Caller;
use crate::error::{ApiError, ApiResult, Reply};
use crate::extract::{Body, Ids, MaybeBody, PageQuery, Paged};
use crate::openapi::Problems;
use crate::{App, ops};

/// What the token is.
#[utoipa::path(get, path = "/v1/whoami", operation_id = "whoami", tag = "accounts",
    responses((status = 200, description = "The token and its account", body = Envelope<WhoAmI>), Problems))]
pub(crate) async fn whoami(State(app): State<App>, caller: Caller) -> ApiResult<WhoAmI> {
    let account = app.store.account(caller.token.account_id).await?;
    let account = account.ok_or_else(|| ApiError::internal("a token without account"))?;
    Ok(Reply::ok(WhoAmI { token: caller.token, account }))
}

/// Makes an account. For operators.
#[utoipa::path(post, path = "/v1/accounts", operation_id = "create_account", tag = "accounts",
    request_body = CreateAccount,
    responses((status = 201, description = "Made", body = Envelope<Account>), Problems))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(request): Body<CreateAccount>,
) -> ApiResult<Account> {
    caller.admin()?;
    request.validate()?;
    Ok(Reply::created(app.store.create_account(&request).await?))
}

/// Lists accounts: for operators all, else the token's own.
#[utoipa::path(get, path = "/v1/accounts", operation_id = "list_accounts", tag = "accounts", params(PageQuery),
    responses((status = 200, description = "In the order they were made", body = Envelope<Vec<Account>>), Problems))]
pub(crate) async fn list(State(app): State<App>, caller: Caller, Paged(page): Paged) -> ApiResult<Vec<Account>> {
    let items = if caller.is_admin() {
        app.store.accounts(&page).await?
    } else {
        let own = app.store.account(caller.token.account_id).await?;
        own.into_iter().filter(|own| page.after.as_ref().is_none_or(|after| own.id.to_string() > *after)).collect()
    };
    Ok(Reply::page(items, page.limit, |account| account.id.to_string()))
}

/// Shows an account.
#[utoipa::path(get, path = "/v1/accounts/{account_id}", operation_id = "get_account", tag = "accounts",
    params(("account_id" = AccountId, Path)),
    responses((status = 200, description = "The account", body = Envelope<Account>), Problems))]
pub(crate) async fn get(State(app): State<App>, caller: Caller, Ids(id): Ids<AccountId>) -> ApiResult<Account> {
    caller.account(id)?;
    Ok(Reply::ok(app.store.account(id).await?.ok_or_else(|| ApiError::not_found("account"))?))
}

/// Gives an account another plan. For operators.
#[utoipa::path(patch, path = "/v1/accounts/{account_id}", operation_id = "update_account", tag = "accounts",
    params(("account_id" = AccountId, Path)), request_body = UpdateAccount,
    responses((status = 200, description = "The account; nodes have its plan", body = Envelope<Account>), Problems))]
pub(crate) async fn update(
    State(app): State<App>,
    caller: Caller,
    Ids(id): Ids<AccountId>,
    Body(request): Body<UpdateAccount>,
) -> ApiResult<Account> {
    caller.admin()?;
    request.validate()?;
    let done = ops::detached(&app, move |app| ops::set_account_tier(app, id, request.plan_tier)).await?;
    Ok(Reply::ok(done.result).with_messages(done.messages))
}

/// Makes a token. Its secret is in this answer and never again.
#[utoipa::path(post, path = "/v1/accounts/{account_id}/tokens", operation_id = "create_token", tag = "tokens",
    params(("account_id" = AccountId, Path)), request_body = CreateToken,
    responses((status = 201, description = "Made", body = Envelope<CreatedToken>), Problems))]
pub(crate) async fn create_token(
    State(app): State<App>,
    caller: Caller,
    Ids(id): Ids<AccountId>,
    Body(request): Body<CreateToken>,
) -> ApiResult<CreatedToken> {
    caller.account(id)?;
    request.validate()?;
    let scope = request.scope.unwrap_or(TokenScope::Account);
    if scope == TokenScope::Admin && !caller.is_admin() {
        return Err(ApiError::forbidden());
    }
    let access = request.access.unwrap_or(TokenAccess::Full);
    let life_ms = request.expires_in_s.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000));
    let mut expires_at = life_ms.map(|ms| Timestamp::from_unix_ms(Timestamp::now().unix_ms().saturating_add(ms)));
    // A token that ends does not beget one that does not.
    if let Some(own) = caller.token.expires_at {
        expires_at = Some(expires_at.map_or(own, |at| at.min(own)));
    }
    let new = NewToken { name: request.name, scope, access, expires_at };
    Ok(Reply::created(app.store.create_token(id, new).await?))
}

/// Lists tokens, without their secrets; those that ended too.
#[utoipa::path(get, path = "/v1/accounts/{account_id}/tokens", operation_id = "list_tokens", tag = "tokens",
    params(("account_id" = AccountId, Path), PageQuery),
    responses((status = 200, description = "In the order they were made", body = Envelope<Vec<Token>>), Problems))]
pub(crate) async fn list_tokens(
    State(app): State<App>,
    caller: Caller,
    Ids(id): Ids<AccountId>,
    Paged(page): Paged,
) -> ApiResult<Vec<Token>> {
    caller.account(id)?;
    Ok(Reply::page(app.store.tokens(id, &page).await?, page.limit, |token| token.id.to_string()))
}

/// Makes a token's successor: the same name, scope, access and length of life, and a new secret, in this answer and never
/// again. The old one ends after `overlap_s`.
#[utoipa::path(post, path = "/v1/accounts/{account_id}/tokens/{token_id}/rotate", operation_id = "rotate_token",
    tag = "tokens", params(("account_id" = AccountId, Path), ("token_id" = TokenId, Path)), request_body = Option<RotateToken>,
    responses((status = 201, description = "Made", body = Envelope<CreatedToken>), Problems))]
pub(crate) async fn rotate_token(
    State(app): State<App>,
    caller: Caller,
    Ids((account, id)): Ids<(AccountId, TokenId)>,
    MaybeBody(request): MaybeBody<RotateToken>,
) -> ApiResult<CreatedToken> {
    caller.account(account)?;
    request.validate()?;
    let token = app.store.token_by_id(id, Timestamp::now()).await?.filter(|token| token.account_id == account);
    let token = token.ok_or_else(|| ApiError::not_found("token, or it has ended"))?;
    if token.scope == TokenScope::Admin && !caller.is_admin() {
        return Err(ApiError::forbidden());
    }
    // A token that ends does not beget one that does not, but for its own successor.
    let until = caller.token.expires_at.filter(|_| caller.token.id != id);
    let overlap_ms = i64::try_from(request.overlap_s.unwrap_or(0) * 1000).unwrap_or(i64::MAX);
    Ok(Reply::created(app.store.rotate_token(&token, overlap_ms, until).await?))
}

/// Takes a token back; once more changes nothing.
#[utoipa::path(delete, path = "/v1/accounts/{account_id}/tokens/{token_id}", operation_id = "revoke_token",
    tag = "tokens", params(("account_id" = AccountId, Path), ("token_id" = TokenId, Path)),
    responses((status = 200, description = "It is not valid any more", body = Envelope<Token>), Problems))]
pub(crate) async fn revoke_token(
    State(app): State<App>,
    caller: Caller,
    Ids((account, token)): Ids<(AccountId, TokenId)>,
) -> ApiResult<Token> {
    caller.account(account)?;
    Ok(Reply::ok(app.store.revoke_token(account, token).await?))
}
