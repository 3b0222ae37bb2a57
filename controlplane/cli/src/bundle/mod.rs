//! From an author's files to the module that is deployed, with the map back: TypeScript, JSX, npm packages, JSON; text, bytes and
//! WebAssembly are modules of their own beside it.
//!
//! The work is esbuild's, with the options that wrangler gives it ([`tool`] finds it, [`service`] speaks with it); what is decided here is what
//! imports mean on this platform: kinds of modules ([`rules`]), Node's modules ([`node`]). Bad input gives a failure with the author's file,
//! line and caret. Blocks. Decision: docs/decisions/2026-11-21-bundling.md.

pub(crate) mod additional;
mod asset_rules;
pub(crate) mod assets;
mod builtin;
mod messages;
mod node;
mod packet;
pub(crate) mod rules;
mod service;
mod tool;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::failure::{Failure, Kind, Outcome, io};
use crate::output::{Output, bytes};
use assets::Assets;
pub(crate) use messages::plain;
use node::Node;
use packet::Value;
use rules::{ModuleKind, Rule};
use service::{Host, Request, Service};

/// What stacks call the module on the platform; the map's sources are relative to the project's folder.
pub(crate) const MODULE_NAME: &str = "worker.js";
/// An imported text, bytes or WebAssembly file: more is over the limit of a whole module in any case.
const IMPORT_BYTES_MAX: u64 = model::rules::MODULE_BYTES_MAX as u64;

/// What of the project bundling has to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) rules: Vec<Rule>,
    /// Expressions in place of names.
    pub(crate) define: BTreeMap<String, String>,
    /// Packages in place of others.
    pub(crate) alias: BTreeMap<String, String>,
    pub(crate) minify: bool,
    /// Functions keep their `name` when two of one name meet; yes if absent.
    pub(crate) keep_names: Option<bool>,
    pub(crate) tsconfig: Option<PathBuf>,
    pub(crate) jsx_factory: Option<String>,
    pub(crate) jsx_fragment: Option<String>,
    /// `nodejs_compat`: Node's modules and globals are there.
    pub(crate) node: bool,
    /// `process.env.NODE_ENV` is "development".
    pub(crate) development: bool,
}

/// A module beside the main one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// What imports call it, without `./`.
    pub(crate) name: String,
    pub(crate) content_type: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// A module to deploy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bundle {
    pub(crate) code: Vec<u8>,
    pub(crate) parts: Vec<Part>,
    /// The source map; none for a module that is the author's file itself.
    pub(crate) map: Option<Vec<u8>>,
    /// The author's files, without packages: what to watch.
    pub(crate) inputs: Vec<PathBuf>,
    pub(crate) warnings: Vec<String>,
}

/// Makes bundles; keeps its esbuild between them.
#[derive(Default)]
pub(crate) struct Bundler {
    service: Option<Service>,
}

/// esbuild's report of what went in.
#[derive(Deserialize)]
struct Report {
    inputs: BTreeMap<String, serde::de::IgnoredAny>,
    outputs: BTreeMap<String, ReportOutput>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReportOutput {
    #[serde(default)]
    inputs: BTreeMap<String, ReportInput>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReportInput {
    bytes_in_output: u64,
}

impl Bundler {
    /// Bundles `main` of the project in `folder`, with the files that answer before it.
    pub(crate) fn bundle(
        &mut self,
        main: &Path,
        folder: &Path,
        options: &Options,
        assets: Option<&Assets>,
        output: &Output,
    ) -> Outcome<Bundle> {
        let source = std::fs::read(main).map_err(io("read", main))?;
        if assets.is_none()
            && stands_alone(main, &source)
            && *options == (Options { development: options.development, ..Options::default() })
        {
            return Ok(Bundle { code: source, inputs: vec![main.to_owned()], ..Bundle::default() });
        }
        let shown = folder;
        let main = std::fs::canonicalize(main).map_err(io("read", main))?;
        let folder = std::fs::canonicalize(folder).map_err(io("read", folder))?;
        let node = match options.node {
            true => Some(Node::new(tool::unenv(&folder, output)?)),
            false => None,
        };
        let parts = assets.map(|assets| assets.part.clone()).into_iter().collect();
        let mut host = Imports { filters: rules::filters(&options.rules), node, parts };
        let before = assets.map(|assets| assets.module(Some(&main.to_string_lossy())));
        let request = Request {
            entry: &main,
            before: before.as_deref(),
            folder: &folder,
            flags: flags(&folder, options, before.is_some()),
            resolve_filters: node::FILTERS
                .into_iter()
                .chain([builtin::FILTER, rules::UPLOADED])
                .map(str::to_owned)
                .collect(),
            load_filters: host.load_filters(),
        };
        let service = match self.service(&folder, output) {
            Ok(service) => service,
            // Whether it really imports something, the platform will say.
            Err(failure) if is_javascript(&main) && assets.is_none() => {
                let warning = format!("{} is deployed without bundling: {}", main.display(), failure.message);
                return Ok(Bundle { code: source, inputs: vec![main], warnings: vec![warning], ..Bundle::default() });
            }
            Err(failure) => return Err(failure),
        };
        let answer = match service.build(&request, &mut host) {
            // An esbuild that died is given up; the next build has a new one.
            Err(failure) => {
                self.service = None;
                return Err(failure);
            }
            Ok(answer) => answer,
        };
        if let Some(failure) = messages::failure(answer.list("errors"), shown, options.node) {
            return Err(failure);
        }
        let mut bundle = Bundle { warnings: messages::warnings(answer.list("warnings"), shown), ..Bundle::default() };
        for file in answer.list("outputFiles") {
            let Some(Value::Bytes(contents)) = file.get("contents") else { continue };
            match file.text("path").ends_with(".map") {
                true => bundle.map = Some(contents.clone()),
                false if file.text("path").ends_with(MODULE_NAME) => bundle.code.clone_from(contents),
                false => bundle.warnings.push(format!("{} is not deployed", file.text("path"))),
            }
        }
        let report = match answer.get("metafile") {
            Some(Value::Text(text)) => serde_json::from_str(text),
            Some(Value::Bytes(bytes)) => serde_json::from_slice(bytes),
            _ => serde_json::from_str(""),
        };
        let report: Report =
            report.map_err(|error| Failure::failed(format!("esbuild gave no report of its work: {error}")))?;
        bundle.parts = std::mem::take(&mut host.parts);
        check_size(&bundle, &report)?;
        let own = |path: &&String| !path.contains("node_modules/") && !path.starts_with(node::NAMESPACE);
        bundle.inputs = report.inputs.keys().filter(own).map(|path| shown.join(path)).collect();
        Ok(bundle)
    }

    fn service(&mut self, folder: &Path, output: &Output) -> Outcome<&mut Service> {
        match &mut self.service {
            Some(service) => Ok(service),
            none => {
                let tool = tool::esbuild(folder, output)?;
                Ok(none.insert(Service::start(&tool.program, &tool.version)?))
            }
        }
    }
}

fn is_javascript(main: &Path) -> bool {
    main.extension().is_some_and(|it| it == "js" || it == "mjs")
}

/// Whether a module needs nothing but itself, so that it is deployed byte for byte and its lines are the author's. Rather says no.
fn stands_alone(main: &Path, source: &[u8]) -> bool {
    let is_word = |c: &u8| c.is_ascii_alphanumeric() || b"_$".contains(c);
    // The word, and what must follow it to mean what it means.
    let has = |name: &str, then: &[u8]| {
        source.windows(name.len()).enumerate().any(|(at, window)| {
            let before = at.checked_sub(1).and_then(|at| source.get(at));
            let rest = &source[at + name.len()..];
            let next = rest.iter().find(|c| !c.is_ascii_whitespace());
            window == name.as_bytes()
                && !before.is_some_and(is_word)
                && !rest.first().is_some_and(is_word)
                && (then.is_empty() || next.is_some_and(|c| then.contains(c)))
        })
    };
    is_javascript(main) && !(has("import", b"") || has("require", b"(") || has("process", b".") || has("from", b"\"'"))
}

fn flags(folder: &Path, options: &Options, has_before: bool) -> Vec<String> {
    let mut flags: Vec<String> = [
        "--bundle",
        "--format=esm",
        "--target=es2024",
        "--sourcemap=external",
        "--sources-content=false",
        "--metafile",
        "--conditions=workerd,worker,browser",
        "--loader:.js=jsx",
        "--loader:.mjs=jsx",
        "--loader:.cjs=jsx",
        "--color=false",
        "--log-level=silent",
        "--log-limit=0",
    ]
    .map(str::to_owned)
    .to_vec();
    flags.push(format!("--outfile={}", folder.join(MODULE_NAME).display()));
    if has_before {
        flags.push("--sourcefile=selvage:assets".to_owned());
    }
    if options.minify {
        flags.push("--minify".to_owned());
    }
    if options.keep_names != Some(false) {
        flags.push("--keep-names".to_owned());
    }
    if let Some(tsconfig) = &options.tsconfig {
        flags.push(format!("--tsconfig={}", tsconfig.display()));
    }
    if let Some(factory) = &options.jsx_factory {
        flags.push(format!("--jsx-factory={factory}"));
    }
    if let Some(fragment) = &options.jsx_fragment {
        flags.push(format!("--jsx-fragment={fragment}"));
    }
    let mode = if options.development { "\"development\"" } else { "\"production\"" };
    for name in ["process.env.NODE_ENV", "global.process.env.NODE_ENV", "globalThis.process.env.NODE_ENV"] {
        flags.push(format!("--define:{name}={mode}"));
    }
    flags.push("--define:navigator.userAgent=\"Cloudflare-Workers\"".to_owned());
    flags.extend(options.define.iter().map(|(name, value)| format!("--define:{name}={value}")));
    flags.extend(options.alias.iter().map(|(name, value)| format!("--alias:{name}={value}")));
    if options.node {
        flags.push(format!("--inject:{}", node::GLOBALS));
    }
    flags
}

/// Refuses a bundle that the platform would refuse, naming what is large in it.
fn check_size(bundle: &Bundle, report: &Report) -> Outcome {
    let limit = model::rules::MODULE_BYTES_MAX;
    let length = bundle.code.len() + bundle.parts.iter().map(|part| part.bytes.len()).sum::<usize>();
    if length <= limit {
        return Ok(());
    }
    let inputs = report.outputs.values().flat_map(|output| &output.inputs);
    let mut inputs: Vec<(u64, &str)> = inputs.map(|(path, input)| (input.bytes_in_output, path.as_str())).collect();
    inputs.extend(bundle.parts.iter().map(|part| (part.bytes.len() as u64, part.name.as_str())));
    inputs.sort_unstable_by(|a, b| b.cmp(a));
    let largest: Vec<String> = inputs.iter().take(5).map(|(count, path)| format!("{path} {}", bytes(*count))).collect();
    let (length, limit) = (bytes(length as u64), bytes(limit as u64));
    Err(Failure::new(Kind::Invalid, format!("the bundle has {length}; the limit is {limit}"))
        .hint(format!("the largest in it: {}; `minify = true` may help", largest.join(", "))))
}

/// The project's answers to esbuild.
struct Imports {
    filters: Vec<(ModuleKind, String)>,
    node: Option<Node>,
    /// Files that are uploaded beside the bundle.
    parts: Vec<Part>,
}

impl Imports {
    fn load_filters(&self) -> Vec<String> {
        let kinds = self.filters.iter().map(|(_, filter)| filter.clone());
        kinds.chain([format!("^{}$", node::GLOBALS)]).collect()
    }
}

impl Host for Imports {
    fn resolve(&mut self, _filter: u32, request: &Value) -> Option<Value> {
        let path = request.text("path");
        if self.parts.iter().any(|part| path.strip_prefix("./") == Some(&part.name)) {
            return Some(Value::map([("path", path.into()), ("external", Value::Bool(true))]));
        }
        builtin::resolve(path).or_else(|| self.node.as_ref()?.resolve(path))
    }

    fn load(&mut self, filter: u32, request: &Value) -> Option<Value> {
        let path = request.text("path");
        let Some((kind, _)) = self.filters.get(filter as usize) else {
            return self.node.as_ref()?.load(path);
        };
        if request.text("namespace") != "file" {
            return None;
        }
        let read = match std::fs::metadata(path) {
            Ok(meta) if meta.len() > IMPORT_BYTES_MAX => {
                Err(format!("it has {}; a whole Worker may have {}", bytes(meta.len()), bytes(IMPORT_BYTES_MAX)))
            }
            Ok(_) => std::fs::read(path).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        Some(match read {
            Ok(contents) => {
                let (part, code) = rules::module(*kind, path, contents)?;
                if !self.parts.contains(&part) {
                    self.parts.push(part);
                }
                Value::map([("contents", Value::Bytes(code.into_bytes())), ("loader", "js".into())])
            }
            Err(error) => messages::refusal(&format!("{path} cannot be imported: {error}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_javascript_without_imports_stands_alone() {
        let check = |name: &str, source: &str| stands_alone(Path::new(name), source.as_bytes());
        assert!(check("a.js", "export default { fetch() { return new Response(importance + Array.of(1)); } };"));
        assert!(!check("a.ts", "export default {};"));
        assert!(check("a.js", "// from the start; the process requires it\nexport default 'x from y';"));
        for source in ["import './b.js'", "await import(x)", "export * from'./b.js'", "require('b')", "process.env.X"] {
            assert!(!check("a.js", source), "{source}");
        }
    }

    #[test]
    fn a_bundle_over_the_limit_names_what_is_large() {
        let report = r#"{"inputs":{},"outputs":{"worker.js":{"inputs":{"a.ts":{"bytesInOutput":3},"b.ts":{"bytesInOutput":2048}}}}}"#;
        let report: Report = serde_json::from_str(report).expect("a report");
        check_size(&Bundle { code: b"small".to_vec(), ..Bundle::default() }, &report).expect("small");
        let part = Part { name: "x.bin".to_owned(), content_type: "application/octet-stream", bytes: vec![0; 1 << 20] };
        let code = vec![0; model::rules::MODULE_BYTES_MAX - (1 << 20) + 1];
        let large = Bundle { code, parts: vec![part], ..Bundle::default() };
        let failure = check_size(&large, &report).expect_err("large");
        assert_eq!(failure.kind, Kind::Invalid);
        assert!(failure.hint.is_some_and(|hint| hint.contains("x.bin 1.0 MiB, b.ts 2.0 KiB, a.ts 3 B")));
    }
}
