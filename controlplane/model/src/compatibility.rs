//! Compatibility dates and flags: which are known, and which features of the node they come to.
//!
//! The policy, in short: a Worker runs with the newest behaviour of the platform whatever its date; a flag that names that behaviour is
//! taken, one that asks for an older behaviour or is not known is refused at the upload, and so is a date that has not come. What
//! changes a Worker's behaviour is a [feature](features), which travels with its code. Pure: today is an argument.
//! Decision: docs/decisions/2026-11-22-compatibility.md.

use crate::rules::FieldError;
use crate::{Timestamp, VersionMetadata};

/// Modules of Node.js.
const NODE: &str = "nodejs_compat";
/// Of them `node:async_hooks` alone.
const HOOKS: &str = "nodejs_als";
/// `process.env` has the variables of `env`.
const ENV: &str = "nodejs_compat_populate_process_env";
const NO_ENV: &str = "nodejs_compat_do_not_populate_process_env";
/// From this day on [`ENV`] comes with [`NODE`].
const ENV_FROM: &str = "2025-04-01";

/// Flags of Cloudflare's that name what Workers do here at any date.
const AS_HERE: [&str; 22] = [
    "nodejs_compat_v2",
    "formdata_parser_supports_files",
    "fetch_refuses_unknown_protocols",
    "fetch_standard_url",
    "url_standard",
    "urlpattern_standard",
    "urlsearchparams_delete_has_value_arg",
    "streams_enable_constructors",
    "transformstream_enable_standard_constructor",
    "streams_byob_reader_detaches_buffer",
    "strict_compression_checks",
    "strict_crypto_checks",
    "global_navigator",
    "http_headers_getsetcookie",
    "response_redirect_url_standard",
    "enable_request_signal",
    "set_tostring_tag",
    "set_event_target_this",
    "rpc",
    "global_fetch_strictly_public",
    // Of the command line, which puts a project's files before its Worker.
    "assets_navigation_prefers_asset_serving",
    "assets_navigation_has_no_effect",
];

/// Flags of Cloudflare's that ask for what Workers once did there and never did here.
const OLDER: [&str; 17] = [
    "no_nodejs_compat_v2",
    "formdata_parser_converts_files_to_strings",
    "fetch_treats_unknown_protocols_as_http",
    "fetch_legacy_url",
    "url_original",
    "urlpattern_original",
    "no_urlsearchparams_delete_has_value_arg",
    "streams_disable_constructors",
    "transformstream_disable_standard_constructor",
    "streams_byob_reader_does_not_detach_buffer",
    "no_strict_compression_checks",
    "no_strict_crypto_checks",
    "no_global_navigator",
    "no_http_headers_getsetcookie",
    "response_redirect_url_original",
    "no_set_tostring_tag",
    "no_set_event_target_this",
];

/// The features of the node that this metadata asks for, in a fixed order. Refuses what is not known.
pub fn features(metadata: &VersionMetadata, today: Timestamp) -> Result<Vec<&'static str>, FieldError> {
    let date = metadata.compatibility_date.as_deref().unwrap_or_default();
    let today = today.to_string();
    let today = today.split('T').next().unwrap_or_default();
    if date > today {
        let message = format!("is in the future: today is {today} (UTC)");
        return Err(FieldError::new("metadata.compatibility_date", message));
    }
    let flags = &metadata.compatibility_flags;
    let has = |name: &str| flags.iter().any(|flag| flag == name);
    for (index, flag) in flags.iter().enumerate() {
        let flag = flag.as_str();
        let bad = |why: &str| {
            Err(FieldError::new(format!("metadata.compatibility_flags[{index}]"), format!("{flag:?} {why}")))
        };
        if OLDER.contains(&flag) {
            return bad("asks for a behaviour that Workers have not had here at any date");
        }
        if ![NODE, HOOKS, ENV, NO_ENV].contains(&flag) && !AS_HERE.contains(&flag) {
            return bad("is not known here");
        }
    }
    if has(ENV) && has(NO_ENV) {
        let message = format!("has both {ENV:?} and {NO_ENV:?}");
        return Err(FieldError::new("metadata.compatibility_flags", message));
    }
    let node = has(NODE) || has("nodejs_compat_v2");
    let env = node && (has(ENV) || (date >= ENV_FROM && !has(NO_ENV)));
    let asked = [(NODE, node), (HOOKS, has(HOOKS)), (ENV, env)];
    Ok(asked.into_iter().filter(|(_, asked)| *asked).map(|(name, _)| name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Today is 2025-06-15.
    fn of(date: &str, flags: &[&str]) -> Result<Vec<&'static str>, FieldError> {
        let date = (!date.is_empty()).then(|| date.to_owned());
        let compatibility_flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        let metadata = VersionMetadata { compatibility_date: date, compatibility_flags, ..VersionMetadata::default() };
        features(&metadata, Timestamp::from_unix_ms(1_749_945_600_000 + 5))
    }

    #[test]
    fn flags_and_dates_become_features() {
        let check =
            |date, flags: &[&str], expect: &[&str]| assert_eq!(of(date, flags).unwrap(), expect, "{date} {flags:?}");
        check("", &[], &[]);
        check("2025-06-15", &[], &[]);
        check("2025-06-15", &["url_standard"], &[]);
        check("", &["nodejs_compat"], &["nodejs_compat"]);
        check("2025-03-31", &["nodejs_compat"], &["nodejs_compat"]);
        check("2025-04-01", &["nodejs_compat"], &["nodejs_compat", "nodejs_compat_populate_process_env"]);
        check("2025-04-01", &["nodejs_compat_do_not_populate_process_env", "nodejs_compat"], &["nodejs_compat"]);
        check("2024-01-01", &["nodejs_compat", ENV], &["nodejs_compat", ENV]);
        check("2025-06-01", &["nodejs_als"], &["nodejs_als"]);
        check("2025-06-01", &[ENV], &[]);
    }

    #[test]
    fn what_is_not_known_or_has_not_come_is_refused() {
        let check = |date, flags: &[&str], field: &str, says: &str| {
            let error = of(date, flags).unwrap_err();
            assert_eq!(error.field, field);
            assert!(error.message.contains(says), "{}", error.message);
        };
        check("2025-06-16", &[], "metadata.compatibility_date", "in the future: today is 2025-06-15");
        check("", &["rpc", "nodejs_compt"], "metadata.compatibility_flags[1]", "\"nodejs_compt\" is not known");
        check("", &["url_original"], "metadata.compatibility_flags[0]", "have not had here");
        check("", &[ENV, NO_ENV], "metadata.compatibility_flags", "has both");
    }

    #[test]
    fn no_flag_is_in_two_lists() {
        let all: Vec<&str> = AS_HERE.into_iter().chain(OLDER).chain([NODE, HOOKS, ENV, NO_ENV]).collect();
        let different: std::collections::HashSet<&str> = all.iter().copied().collect();
        assert_eq!(different.len(), all.len());
    }
}
