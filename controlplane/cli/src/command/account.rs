//! `login` and `whoami`.

use model::{TokenScope, WhoAmI};

use crate::args::LoginArgs;
use crate::client::Client;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::{Ink, Output, printable};
use crate::prompt;
use crate::settings::{self, Settings, Stored};

/// Checks the token with the API, then stores both. A token that does not work is not stored.
pub(crate) fn login(context: &Context, args: &LoginArgs) -> Outcome {
    let api_url = context.settings.api_url.clone();
    let token = match args.token.as_deref() {
        Some("-") => prompt::secret("token")?,
        Some(token) => token.to_owned(),
        None => match std::env::var("SELVAGE_TOKEN") {
            Ok(token) if !token.is_empty() => token,
            _ => prompt::secret(&format!("Token for {api_url}"))?,
        },
    };
    let token = token.trim().to_owned();
    // It becomes a header field's value.
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::usage("a token is one word of printable ASCII characters"));
    }
    let mut settings = Settings { api_url: api_url.clone(), token: Some(token.clone()), account: None };
    let client = Client::new(&settings, context.output)?;
    let who = client.whoami()?;
    settings.account = Some(who.account.id.to_string());
    let file = context.settings_file()?;
    let stored = Stored { api_url: Some(api_url.clone()), token: Some(token), account: settings.account };
    settings::save(&file, &stored)?;
    context.output.result(&who, |output| {
        format!(
            "{} to {api_url} as {}; stored in {}",
            output.ink(Ink::Green, "Logged in"),
            printable(&who.account.email),
            file.display()
        )
    });
    Ok(())
}

/// Says what the token is.
pub(crate) fn whoami(context: &Context) -> Outcome {
    let client = context.client()?;
    let who = client.whoami()?;
    context.output.result(&who, |output| describe(output, client.base(), &who));
    Ok(())
}

fn describe(output: &Output, base: &str, who: &WhoAmI) -> String {
    let scope = match who.token.scope {
        TokenScope::Account => "its account",
        TokenScope::Admin => "every account (operator)",
    };
    let expires = who.token.expires_at.map_or_else(|| "never".to_owned(), |at| at.to_string());
    let rows = [
        ("API", base.to_owned()),
        ("Account", format!("{} {}", printable(&who.account.email), who.account.id)),
        ("Plan", printable(&who.account.plan_tier)),
        ("Token", printable(&who.token.name)),
        ("Reaches", scope.to_owned()),
        ("Expires", expires),
    ];
    let lines = rows.map(|(key, value)| format!("{} {value}", output.ink(Ink::Bold, &format!("{key:<8}"))));
    lines.join("\n")
}
