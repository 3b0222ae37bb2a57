//! What may be asked of an account and by whom: `token list|create|rotate|revoke`, and what was asked: `audit`.
//!
//! A new secret is on stdout, alone on its line, and what is said of it on stderr: `TOKEN=$(selvage token create --name ci)`.

use model::{AuditEntry, AuditId, CreateToken, CreatedToken, RotateToken, Timestamp, Token};

use crate::context::Context;
use crate::failure::{Failure, Kind, Outcome};
use crate::output::{Output, printable};

/// Lists the account's tokens.
pub(crate) fn list(context: &Context) -> Outcome {
    let client = context.client()?;
    let tokens = client.tokens(context.account(&client)?)?;
    context.output.result(&tokens, |output| table(output, &tokens, Timestamp::now()));
    Ok(())
}

fn table(output: &Output, tokens: &[Token], now: Timestamp) -> String {
    let rows = tokens.iter().map(|token| {
        let (scope, access) = (token.scope.as_str().to_owned(), token.access.as_str().to_owned());
        vec![printable(&token.name), state(token, now), scope, access, ends(token), token.id.to_string()]
    });
    output.table(&["name", "state", "scope", "access", "ends", "id"], rows.collect(), "No tokens.")
}

fn state(token: &Token, now: Timestamp) -> String {
    let state = match (token.revoked_at, token.expires_at) {
        (Some(_), _) => "revoked",
        (None, Some(at)) if at <= now => "expired",
        (None, _) => "valid",
    };
    state.to_owned()
}

fn ends(token: &Token) -> String {
    token.expires_at.map_or_else(|| "never".to_owned(), |at| at.to_string())
}

/// Makes a token.
pub(crate) fn create(context: &Context, request: &CreateToken) -> Outcome {
    request.validate().map_err(|error| Failure::usage(error.to_string()))?;
    let client = context.client()?;
    let created = client.create_token(context.account(&client)?, request)?;
    show(&context.output, "Made", &created);
    Ok(())
}

/// Makes a token's successor.
pub(crate) fn rotate(context: &Context, which: &str, request: &RotateToken) -> Outcome {
    request.validate().map_err(|error| Failure::usage(error.to_string()))?;
    let client = context.client()?;
    let account = context.account(&client)?;
    let token = pick(client.tokens(account)?, which, Timestamp::now())?;
    let created = client.rotate_token(account, token.id, request)?;
    show(&context.output, "Rotated", &created);
    Ok(())
}

/// Takes a token back.
pub(crate) fn revoke(context: &Context, which: &str) -> Outcome {
    let client = context.client()?;
    let account = context.account(&client)?;
    let token = pick(client.tokens(account)?, which, Timestamp::now())?;
    let token = client.revoke_token(account, token.id)?;
    context.output.result(&token, |_| format!("Revoked {} ({})", printable(&token.name), token.id));
    Ok(())
}

fn show(output: &Output, what: &str, created: &CreatedToken) {
    let token = &created.token;
    if !output.json {
        let (name, access, ends) = (printable(&token.name), token.access.as_str(), ends(token));
        output.note(&format!("{what} {name} ({}): access {access}, ends {ends}. It is not shown again:", token.id));
    }
    output.result(created, |_| printable(&created.secret));
}

/// The token of that id, or the one of that name that has not ended.
fn pick(tokens: Vec<Token>, which: &str, now: Timestamp) -> Outcome<Token> {
    let named = |token: &&Token| token.name == which && state(token, now) == "valid";
    let by_id: Vec<&Token> = tokens.iter().filter(|token| token.id.to_string() == which).collect();
    let fits = if by_id.is_empty() { tokens.iter().filter(named).collect() } else { by_id };
    match fits.as_slice() {
        [token] => Ok((*token).clone()),
        [] => Err(Failure::new(Kind::NotFound, format!("no valid token {which:?}"))
            .hint("`selvage token list` shows those there are")),
        _ => Err(Failure::usage(format!("{which:?} is the name of {} tokens", fits.len())).hint("give its id")),
    }
}

/// Prints the audit log, the newest entry first.
pub(crate) fn audit(context: &Context, limit: u32, before: Option<AuditId>) -> Outcome {
    let entries = context.client()?.audit_log(limit, before)?;
    context.output.result(&entries, |output| {
        let titles = ["at", "status", "method", "path", "token", "account", "id"];
        output.table(&titles, entries.iter().map(row).collect(), "Nothing was asked that may change something.")
    });
    Ok(())
}

fn row(entry: &AuditEntry) -> Vec<String> {
    vec![
        entry.at.to_string(),
        entry.status.map_or_else(|| "-".to_owned(), |status| status.to_string()),
        printable(&entry.method),
        printable(&entry.path),
        entry.token_id.to_string(),
        entry.account_id.to_string(),
        entry.id.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use model::{AccountId, TokenAccess, TokenId, TokenScope};

    use super::*;
    use crate::output::Colour;

    fn token(name: &str, expires_at: Option<i64>, revoked_at: Option<i64>) -> Token {
        Token {
            id: TokenId::new(),
            account_id: AccountId::new(),
            name: name.to_owned(),
            scope: TokenScope::Account,
            access: TokenAccess::Deploy,
            created_at: Timestamp::from_unix_ms(0),
            expires_at: expires_at.map(Timestamp::from_unix_ms),
            revoked_at: revoked_at.map(Timestamp::from_unix_ms),
        }
    }

    #[test]
    fn tokens_are_picked_by_id_or_by_the_name_of_one_that_counts() {
        let now = Timestamp::from_unix_ms(1_000);
        let tokens = vec![
            token("ci", Some(999), None),
            token("ci", Some(2_000), None),
            token("old", None, Some(1)),
            token("twice", None, None),
            token("twice", None, None),
        ];
        let pick = |which: &str| pick(tokens.clone(), which, now).map(|token| token.id).map_err(|failure| failure.kind);
        assert_eq!(pick("ci"), Ok(tokens[1].id));
        assert_eq!(pick(&tokens[0].id.to_string()), Ok(tokens[0].id));
        assert_eq!(pick("old"), Err(Kind::NotFound));
        assert_eq!(pick("twice"), Err(Kind::Usage));
        assert_eq!(pick("CI"), Err(Kind::NotFound));
    }

    #[test]
    fn a_list_says_which_count() {
        let output = Output::new(false, Colour::Never);
        let tokens = [token("a\u{1b}", None, None), token("b", Some(5), None), token("c", Some(5), Some(1))];
        let text = table(&output, &tokens, Timestamp::from_unix_ms(5));
        for (line, state) in text.lines().skip(1).zip(["valid", "expired", "revoked"]) {
            assert!(line.contains(state) && line.contains("deploy") && !line.contains('\u{1b}'), "{text}");
        }
    }
}
