//! `wrangler.toml`, `wrangler.jsonc` and `wrangler.json` as they are: their shape, and what of it means nothing here.
//!
//! Owns parsing, with line and column for what is wrong, wrangler's rules of what an environment inherits, and the words for what this platform
//! does not have yet. *Invariant:* no key is lost silently: it is used, or harmless, or named in a warning. Pure but for reading the file.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::bundle::{assets, rules::Rule};
use crate::failure::{Failure, Outcome, Place, io};

/// Names of the project file, in the order that wrangler looks for them.
pub(crate) const FILES: [&str; 3] = ["wrangler.json", "wrangler.jsonc", "wrangler.toml"];
/// A project file, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// One section: the file itself, or an environment.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Section {
    pub(crate) name: Option<String>,
    pub(crate) main: Option<String>,
    pub(crate) compatibility_date: Option<String>,
    pub(crate) compatibility_flags: Option<Vec<String>>,
    pub(crate) route: Option<RouteSpec>,
    pub(crate) routes: Option<Vec<RouteSpec>>,
    pub(crate) workers_dev: Option<bool>,
    pub(crate) vars: Option<BTreeMap<String, Value>>,
    pub(crate) define: Option<BTreeMap<String, String>>,
    pub(crate) triggers: Option<Triggers>,
    pub(crate) services: Option<Vec<ServiceSpec>>,
    pub(crate) assets: Option<assets::Spec>,
    pub(crate) rules: Option<Vec<Rule>>,
    pub(crate) build: Option<Build>,
    pub(crate) no_bundle: Option<bool>,
    pub(crate) find_additional_modules: Option<bool>,
    pub(crate) base_dir: Option<String>,
    pub(crate) minify: Option<bool>,
    pub(crate) keep_names: Option<bool>,
    pub(crate) upload_source_maps: Option<bool>,
    pub(crate) tsconfig: Option<String>,
    pub(crate) jsx_factory: Option<String>,
    pub(crate) jsx_fragment: Option<String>,
    // Of the file alone.
    pub(crate) alias: Option<BTreeMap<String, String>>,
    pub(crate) keep_vars: Option<bool>,
    #[serde(default)]
    env: BTreeMap<String, Section>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "a route must be a pattern, or a table with `pattern`")]
pub(crate) enum RouteSpec {
    Pattern(String),
    Table { pattern: String, zone_id: Option<String>, zone_name: Option<String>, custom_domain: Option<bool> },
}

/// Another Worker. What else an entry may have says where wrangler finds it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ServiceSpec {
    pub(crate) binding: String,
    pub(crate) service: String,
    pub(crate) entrypoint: Option<String>,
    pub(crate) environment: Option<String>,
    pub(crate) props: Option<serde_json::Map<String, Value>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Triggers {
    #[serde(default)]
    pub(crate) crons: Option<Vec<String>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Build {
    pub(crate) command: Option<String>,
    pub(crate) cwd: Option<String>,
    pub(crate) watch_dir: Option<WatchDir>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "watch_dir must be a folder or a list of folders")]
pub(crate) enum WatchDir {
    One(String),
    Many(Vec<String>),
}

/// Keys that are used, as [`Section`] has them.
const USED: [&str; 26] = [
    "services",
    "assets",
    "name",
    "main",
    "compatibility_date",
    "compatibility_flags",
    "route",
    "routes",
    "workers_dev",
    "vars",
    "define",
    "triggers",
    "rules",
    "build",
    "no_bundle",
    "find_additional_modules",
    "base_dir",
    "minify",
    "keep_names",
    "upload_source_maps",
    "tsconfig",
    "jsx_factory",
    "jsx_fragment",
    "alias",
    "keep_vars",
    "env",
];
/// Keys without meaning here and without harm: what they ask for is so in any case, or is about Cloudflare's accounts and tools.
const HARMLESS: [&str; 11] = [
    "$schema",
    "account_id",
    "compliance_region",
    "dev",
    "first_party_worker",
    "legacy_env",
    "logpush",
    "observability",
    "placement",
    "preview_urls",
    "send_metrics",
];
/// Bindings that this platform does not have yet, and where their names are: `key.list.name`.
const BINDINGS: [(&str, &str, &str); 27] = [
    ("ai", "", "binding"),
    ("ai_search", "", "binding"),
    ("analytics_engine_datasets", "", "binding"),
    ("artifacts", "", "binding"),
    ("browser", "", "binding"),
    ("containers", "", "class_name"),
    ("d1_databases", "", "binding"),
    ("dispatch_namespaces", "", "binding"),
    ("durable_objects", "bindings", "name"),
    ("flagship", "", "binding"),
    ("hyperdrive", "", "binding"),
    ("images", "", "binding"),
    ("kv_namespaces", "", "binding"),
    ("media", "", "binding"),
    ("mtls_certificates", "", "binding"),
    ("pipelines", "", "binding"),
    ("queues", "producers", "binding"),
    ("r2_buckets", "", "binding"),
    ("ratelimits", "", "name"),
    ("secrets_store_secrets", "", "binding"),
    ("send_email", "", "name"),
    ("stream", "", "binding"),
    ("vectorize", "", "binding"),
    ("version_metadata", "", "binding"),
    ("vpc_services", "", "binding"),
    ("worker_loaders", "", "binding"),
    ("workflows", "", "binding"),
];

/// A file's section for an environment, what it inherits filled in, and what must be said about it.
pub(crate) struct Wrangler {
    pub(crate) section: Section,
    pub(crate) warnings: Vec<String>,
}

/// Reads a file. `environment` is the NAME of `[env.NAME]`.
pub(crate) fn read(file: &Path, environment: Option<&str>) -> Outcome<Wrangler> {
    let length = std::fs::metadata(file).map_err(io("read", file))?.len();
    if length > FILE_BYTES_MAX {
        return Err(Failure::usage(format!("{} is larger than {FILE_BYTES_MAX} bytes", file.display())));
    }
    let text = std::fs::read(file).map_err(io("read", file))?;
    let text = String::from_utf8(text).map_err(|_| Failure::usage(format!("{} is not UTF-8", file.display())))?;
    let (section, value) = parse(file, text.strip_prefix('\u{feff}').unwrap_or(&text))?;
    select(file, section, &value, environment)
}

/// The file's content, typed and as it is.
fn parse(file: &Path, text: &str) -> Outcome<(Section, Value)> {
    if file.extension().is_some_and(|extension| extension == "toml") {
        let fail = |error: toml::de::Error| toml_failure(file, text, &error);
        let table: toml::Table = toml::from_str(text).map_err(fail)?;
        let value =
            serde_json::to_value(table).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
        return Ok((toml::from_str(text).map_err(fail)?, value));
    }
    let json = crate::jsonc::to_json(text);
    let fail = |error: serde_json::Error| {
        let place = Place {
            file: file.display().to_string(),
            line: error.line().max(1) as u32,
            column: error.column().max(1) as u32,
        };
        // serde_json ends its text with the place, which is said already.
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        Failure::usage(format!("{place}: {message}")).at(place, text)
    };
    let map: serde_json::Map<String, Value> = serde_json::from_str(&json).map_err(fail)?;
    Ok((serde_json::from_str(&json).map_err(fail)?, Value::Object(map)))
}

fn select(file: &Path, mut top: Section, value: &Value, environment: Option<&str>) -> Outcome<Wrangler> {
    let mut envs = std::mem::take(&mut top.env);
    let mut warnings = Vec::new();
    unused(&file.display().to_string(), value, &mut warnings);
    let Some(environment) = environment else {
        unsupported(value, &mut warnings);
        return Ok(Wrangler { section: top, warnings });
    };
    let Some(own) = envs.remove(environment) else {
        let known = envs.keys().cloned().collect::<Vec<_>>().join(", ");
        let failure = Failure::usage(format!("{} has no [env.{environment}]", file.display()));
        return Err(if known.is_empty() { failure } else { failure.hint(format!("it has {known}")) });
    };
    let own_value = &value["env"][environment];
    unused(&format!("{}: env.{environment}", file.display()), own_value, &mut warnings);
    unsupported(own_value, &mut warnings);
    let lost = |key: &str| !value[key].is_null() && own_value[key].is_null();
    for key in ["vars", "define", "services"].into_iter().filter(|key| lost(key)) {
        warnings.push(format!("env.{environment} does not inherit `{key}`: what it needs must be in its own section"));
    }
    Ok(Wrangler { section: inherit(top, own, environment), warnings })
}

/// An environment's section over the file's, by wrangler's rules.
fn inherit(top: Section, own: Section, environment: &str) -> Section {
    // `route` and `routes` are one: an environment that has either has no other's.
    let has_routes = own.route.is_some() || own.routes.is_some();
    Section {
        name: own.name.or_else(|| top.name.map(|name| format!("{name}-{environment}"))),
        main: own.main.or(top.main),
        compatibility_date: own.compatibility_date.or(top.compatibility_date),
        compatibility_flags: own.compatibility_flags.or(top.compatibility_flags),
        route: if has_routes { own.route } else { top.route },
        routes: if has_routes { own.routes } else { top.routes },
        workers_dev: own.workers_dev.or(top.workers_dev),
        vars: own.vars,
        define: own.define,
        triggers: own.triggers.or(top.triggers),
        services: own.services,
        assets: own.assets.or(top.assets),
        rules: own.rules.or(top.rules),
        build: own.build.or(top.build),
        no_bundle: own.no_bundle.or(top.no_bundle),
        find_additional_modules: own.find_additional_modules.or(top.find_additional_modules),
        base_dir: own.base_dir.or(top.base_dir),
        minify: own.minify.or(top.minify),
        keep_names: own.keep_names.or(top.keep_names),
        upload_source_maps: own.upload_source_maps.or(top.upload_source_maps),
        tsconfig: own.tsconfig.or(top.tsconfig),
        jsx_factory: own.jsx_factory.or(top.jsx_factory),
        jsx_fragment: own.jsx_fragment.or(top.jsx_fragment),
        alias: top.alias,
        keep_vars: top.keep_vars,
        env: BTreeMap::new(),
    }
}

/// Names keys that nothing here uses.
fn unused(section: &str, value: &Value, warnings: &mut Vec<String>) {
    let binding = |key: &str| BINDINGS.iter().any(|(binding, ..)| *binding == key);
    let lost = |key: &&str| !USED.contains(key) && !HARMLESS.contains(key) && !binding(key);
    let keys = value.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
    let lost: Vec<&str> = keys.filter(lost).collect();
    if !lost.is_empty() {
        warnings.push(format!("{section}: not used by this version of Selvage: {}", lost.join(", ")));
    }
}

/// Names bindings that will not be there.
fn unsupported(own: &Value, warnings: &mut Vec<String>) {
    for (key, list, name) in BINDINGS {
        let value = if list.is_empty() { &own[key] } else { &own[key][list] };
        let entries = match value {
            Value::Array(entries) => entries.iter().collect(),
            Value::Object(_) => vec![value],
            _ => Vec::new(),
        };
        let names: Vec<String> =
            entries.iter().filter_map(|entry| entry[name].as_str()).map(|name| format!("env.{name}")).collect();
        match names.as_slice() {
            _ if entries.is_empty() => {}
            [] => warnings.push(format!("`{key}` is not on this platform yet and is left out")),
            names => {
                warnings.push(format!("`{key}` is not on this platform yet: {} will be undefined", names.join(", ")))
            }
        }
    }
}

/// A TOML error as file:line:column with its excerpt.
pub(crate) fn toml_failure(file: &Path, text: &str, error: &toml::de::Error) -> Failure {
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    let Some(span) = error.span() else {
        return Failure::usage(format!("{}: {message}", file.display()));
    };
    let before = &text[..text.floor_char_boundary(span.start)];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let place = Place {
        file: file.display().to_string(),
        line: before.matches('\n').count() as u32 + 1,
        column: before[line_start..].chars().count() as u32 + 1,
    };
    Failure::usage(format!("{place}: {message}")).at(place, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_toml(text: &str, environment: Option<&str>) -> Outcome<Wrangler> {
        let file = Path::new("wrangler.toml");
        let (section, value) = parse(file, text)?;
        select(file, section, &value, environment)
    }

    #[test]
    fn every_key_is_used_harmless_or_said() {
        let text = "name = \"a\"\naccount_id = \"x\"\nnode_compat = true\nkv_namespaces = [{ binding = \"CACHE\", id = \"1\" }, { binding = \"B\" }]\n\
                    queues.producers = [{ binding = \"Q\", queue = \"q\" }]\nqueues.consumers = []\n\
                    [durable_objects]\nbindings = [{ name = \"ROOM\", class_name = \"Room\" }]\n[observability]\nenabled = true\n";
        let warnings = read_toml(text, None).map(|wrangler| wrangler.warnings).expect("good");
        let expect = [
            "wrangler.toml: not used by this version of Selvage: node_compat",
            "`durable_objects` is not on this platform yet: env.ROOM will be undefined",
            "`kv_namespaces` is not on this platform yet: env.CACHE, env.B will be undefined",
            "`queues` is not on this platform yet: env.Q will be undefined",
        ];
        assert_eq!(warnings, expect);
    }

    #[test]
    fn environments_inherit_as_wrangler_says() {
        let text = "name = \"a\"\nmain = \"m.ts\"\nroutes = [\"x/*\"]\ncompatibility_flags = [\"nodejs_compat\"]\nkv_namespaces = [{ binding = \"K\" }]\n\
                    [triggers]\ncrons = [\"* * * * *\"]\n[vars]\nA = \"1\"\n[env.staging]\nunknown = 1\n[env.live]\nname = \"b\"\nroute = \"y/*\"\n\
                    compatibility_flags = []\n[env.live.vars]\nA = \"2\"\n";
        let staging = read_toml(text, Some("staging")).expect("good");
        let section = staging.section;
        assert_eq!((section.name.as_deref(), section.main.as_deref()), (Some("a-staging"), Some("m.ts")));
        assert_eq!(section.routes.map(|routes| routes.len()), Some(1));
        assert_eq!(section.compatibility_flags, Some(vec!["nodejs_compat".to_owned()]));
        assert_eq!(section.triggers.and_then(|it| it.crons).map(|crons| crons.len()), Some(1));
        assert!(section.vars.is_none());
        let expect = [
            "wrangler.toml: env.staging: not used by this version of Selvage: unknown",
            "env.staging does not inherit `vars`: what it needs must be in its own section",
        ];
        assert_eq!(staging.warnings, expect, "bindings are not inherited either, so none is missed");
        let live = read_toml(text, Some("live")).expect("good").section;
        assert_eq!((live.name.as_deref(), live.compatibility_flags), (Some("b"), Some(Vec::new())));
        assert!(live.route.is_some() && live.routes.is_none());
        let failure = read_toml(text, Some("none")).err().expect("no such environment");
        assert_eq!(failure.hint.as_deref(), Some("it has live, staging"));
    }

    #[test]
    fn lists_of_keys_do_not_overlap() {
        let mut all: Vec<&str> = USED.into_iter().chain(HARMLESS).chain(BINDINGS.map(|(key, ..)| key)).collect();
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "{all:?}");
    }
}
