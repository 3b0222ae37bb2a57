//! `assets` of a project file: a folder of files that answer before the Worker does, and `env.ASSETS`.
//!
//! The files go up with the Worker, as one part beside its code, and a few lines of JavaScript before the Worker's own (`assets.js`) answer
//! for them; which path leads to which file is decided here, by wrangler's rules of `html_handling`, so that at run time it is one lookup.
//! `_headers` and `_redirects` of the folder are [`asset_rules`].
//! *Bounds:* [`FILES_MAX`], folders [`DEPTH_MAX`] deep, and the bytes of a whole Worker. Decision: docs/decisions/2026-11-22-static-assets.md.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::rules::glob_matches;
use super::{Part, asset_rules};
use crate::failure::{Failure, Kind, Outcome, io};

/// Files of one Worker.
const FILES_MAX: usize = 2000;
/// Folders in folders.
const DEPTH_MAX: usize = 32;
/// Rules of `run_worker_first`, and characters of one (Cloudflare's limits).
const FIRST_RULES_MAX: usize = 100;
const FIRST_RULE_MAX: usize = 100;
/// `_headers` or `_redirects`, bytes: more than all lines that count.
const RULES_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// What answers for the files.
const SOURCE: &str = include_str!("assets.js");
/// Names that mean something other than a file to serve.
const NOT_SERVED: [&str; 3] = [".assetsignore", "_headers", "_redirects"];

/// The table of the project file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Spec {
    pub(crate) directory: Option<PathBuf>,
    binding: Option<String>,
    #[serde(default)]
    html_handling: HtmlHandling,
    #[serde(default)]
    not_found_handling: NotFoundHandling,
    run_worker_first: Option<First>,
}

/// Which paths lead to `page.html` and `folder/index.html`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum HtmlHandling {
    #[default]
    AutoTrailingSlash,
    ForceTrailingSlash,
    DropTrailingSlash,
    None,
}

/// What answers where there is no file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum NotFoundHandling {
    #[default]
    None,
    #[serde(rename = "404-page")]
    Page,
    SinglePageApplication,
}

/// Whether the Worker is asked before the files are: for all paths, or for some.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "run_worker_first must be true, false or a list of paths")]
enum First {
    All(bool),
    Some(Vec<String>),
}

/// The files, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Assets {
    /// What `assets.js` knows, as declarations.
    declarations: String,
    pub(crate) part: Part,
    /// Where they are, to be watched.
    pub(crate) inputs: Vec<PathBuf>,
    pub(crate) warnings: Vec<String>,
}

impl Assets {
    /// The module that answers for the files and calls the Worker's own, which `program` is the specifier of.
    pub(crate) fn module(&self, program: Option<&str>) -> String {
        let program = match program {
            Some(program) => {
                let program = Value::from(program);
                format!("import * as program from {program};\nexport * from {program};\n")
            }
            None => "const program = undefined;\n".to_owned(),
        };
        format!("import bytes from \"./{}\";\n{program}{}{SOURCE}", self.part.name, self.declarations)
    }
}

/// Reads the folder; `navigation`: requests of browsers for a page get one before the Worker is asked.
pub(crate) fn read(spec: &Spec, folder: &Path, navigation: bool) -> Outcome<Assets> {
    let directory = spec.directory.as_deref().unwrap_or(Path::new("."));
    if !folder.join(directory).is_dir() {
        return Err(Failure::usage(format!("there is no folder {}", folder.join(directory).display()))
            .hint("`assets.directory` of the project file names it"));
    }
    let root = folder.join(directory);
    let ignore = match std::fs::read_to_string(root.join(".assetsignore")) {
        Ok(text) => {
            text.lines().map(str::trim).filter(|it| !it.is_empty() && !it.starts_with('#')).map(str::to_owned).collect()
        }
        Err(_) => Vec::new(),
    };
    let mut files = BTreeMap::new();
    walk(&root, "", &ignore, &mut files)?;
    let mut inputs: Vec<PathBuf> = files.values().cloned().collect();
    let mut warnings = Vec::new();
    let mut rules = |name: &str, read: &dyn Fn(&str) -> asset_rules::Rules| -> Outcome<Value> {
        let path = root.join(name);
        let text = rules_text(&path)?;
        let rules = read(text.as_deref().unwrap_or_default());
        warnings.extend(rules.warnings(&path.display().to_string()));
        inputs.extend(text.map(|_| path));
        Ok(rules.value)
    };
    let html = spec.html_handling != HtmlHandling::None;
    let redirects = rules("_redirects", &|text| asset_rules::redirects(text, html))?;
    let headers = rules("_headers", &asset_rules::headers)?;
    let (mut bytes, mut rows) = (Vec::new(), Vec::new());
    for (name, path) in &files {
        let contents = std::fs::read(path).map_err(io("read", path))?;
        rows.push(json!([bytes.len(), bytes.len() + contents.len(), content_type(name), digest(&contents, 16)]));
        bytes.extend_from_slice(&contents);
        if bytes.len() > model::rules::MODULE_BYTES_MAX {
            let limit = crate::output::bytes(model::rules::MODULE_BYTES_MAX as u64);
            let text = format!("the files of {} are larger than {limit}, the limit of a whole Worker", root.display());
            return Err(Failure::new(Kind::Invalid, text).hint("`.assetsignore` there says what to leave out"));
        }
    }
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    let row = |wanted: &str| names.iter().position(|name| *name == wanted);
    let pages: serde_json::Map<String, Value> = names
        .iter()
        .enumerate()
        .filter(|(_, name)| name.ends_with("/404.html"))
        .map(|(at, name)| ((*name).to_owned(), json!(at)))
        .collect();
    let missing = match spec.not_found_handling {
        NotFoundHandling::None => "none",
        NotFoundHandling::Page => "404-page",
        NotFoundHandling::SinglePageApplication => "single-page-application",
    };
    let declarations = [
        ("binding", json!(spec.binding)),
        ("files", json!(rows)),
        ("paths", Value::Object(paths(&names, spec.html_handling))),
        ("pages", Value::Object(pages)),
        ("index", row("/index.html").map_or(Value::Null, |at| json!(at))),
        ("missing", json!(missing)),
        ("first", first(spec.run_worker_first.as_ref())?),
        ("redirects", redirects),
        ("headers", headers),
        ("navigation", json!(navigation)),
    ];
    let declarations = declarations.iter().map(|(name, value)| match value {
        Value::Object(map) if matches!(*name, "paths" | "pages") => {
            format!("const {name} = Object.assign(Object.create(null), {});\n", Value::Object(map.clone()))
        }
        Value::Null if *name == "index" => format!("const {name} = undefined;\n"),
        value => format!("const {name} = {value};\n"),
    });
    // All files, one after the other, under a name as imports of uploaded files have it.
    let name = format!("{}-assets.bin", digest(&bytes, 20));
    let part = Part { name, content_type: "application/octet-stream", bytes };
    Ok(Assets { declarations: declarations.collect(), part, inputs, warnings })
}

/// The text of `_headers` or `_redirects`, if there is one.
fn rules_text(path: &Path) -> Outcome<Option<String>> {
    if !path.is_file() {
        return Ok(None);
    }
    if std::fs::metadata(path).map_err(io("read", path))?.len() > RULES_BYTES_MAX {
        return Err(Failure::new(Kind::Invalid, format!("{} is larger than 4 MiB", path.display())));
    }
    let text = String::from_utf8(std::fs::read(path).map_err(io("read", path))?);
    text.map(Some).map_err(|_| Failure::new(Kind::Invalid, format!("{} is not UTF-8", path.display())))
}

fn digest(bytes: &[u8], length: usize) -> String {
    Sha256::digest(bytes).iter().take(length).map(|byte| format!("{byte:02x}")).collect()
}

fn walk(folder: &Path, within: &str, ignore: &[String], files: &mut BTreeMap<String, PathBuf>) -> Outcome {
    for entry in std::fs::read_dir(folder).map_err(io("read", folder))? {
        let entry = entry.map_err(io("read", folder))?;
        let (path, name) = (entry.path(), entry.file_name());
        let Some(name) = name.to_str() else { continue };
        let ignored = |glob: &String| {
            let glob = glob.trim_matches('/');
            glob_matches(glob, name) || glob_matches(glob, format!("{within}/{name}").trim_start_matches('/'))
        };
        if (within.is_empty() && NOT_SERVED.contains(&name)) || ignore.iter().any(ignored) {
            continue;
        }
        let place = format!("{within}/{name}");
        if std::fs::metadata(&path).map_err(io("read", &path))?.is_dir() {
            if place.split('/').count() <= DEPTH_MAX {
                walk(&path, &place, ignore, files)?;
            }
            continue;
        }
        files.insert(place, path);
        if files.len() > FILES_MAX {
            return Err(Failure::new(Kind::Invalid, format!("`assets` has more than {FILES_MAX} files")));
        }
    }
    Ok(())
}

/// From each path that has an answer to the file's row, or to the path that has it.
fn paths(names: &[&str], handling: HtmlHandling) -> serde_json::Map<String, Value> {
    let mut paths = serde_json::Map::new();
    let mut add = |path: String, value: Value| {
        paths.entry(path).or_insert(value);
    };
    let html = |name: &&str| handling != HtmlHandling::None && name.ends_with(".html");
    for (at, name) in names.iter().enumerate().filter(|(_, name)| !html(name)) {
        add((*name).to_owned(), json!(at));
    }
    // How strong a claim is: a page's own name, a folder's, another.
    let mut others: Vec<(u8, String, String)> = Vec::new();
    for (at, name) in names.iter().enumerate().filter(|(_, name)| html(name)) {
        let (place, from) = place(name, handling);
        // Of two pages of one place the later is still to be had by its own name.
        if paths.contains_key(&place) {
            paths.entry((*name).to_owned()).or_insert(json!(at));
            continue;
        }
        paths.insert(place.clone(), json!(at));
        let claim = |from: &String| if from == name { 0 } else { 2 - u8::from(name.ends_with("/index.html")) };
        others.extend(from.into_iter().map(|from| (claim(&from), from, place.clone())));
    }
    others.sort_by_key(|(strength, ..)| *strength);
    for (_, from, place) in others {
        paths.entry(from).or_insert(json!(place));
    }
    paths
}

/// Where a page is, and which paths lead there, the strongest first.
fn place(name: &str, handling: HtmlHandling) -> (String, Vec<String>) {
    let folder = name.strip_suffix("/index.html");
    let stem = folder.unwrap_or_else(|| name.strip_suffix(".html").unwrap_or(name));
    let slash = match handling {
        HtmlHandling::AutoTrailingSlash | HtmlHandling::None => folder.is_some(),
        HtmlHandling::ForceTrailingSlash => true,
        HtmlHandling::DropTrailingSlash => false,
    };
    let (with, without) = (format!("{stem}/"), stem.to_owned());
    // The root has no name without its slash.
    let (place, other) = if slash || stem.is_empty() { (with, without) } else { (without, with) };
    let mut from = vec![name.to_owned(), other, format!("{stem}/index")];
    if folder.is_none() {
        from.push(format!("{stem}/index.html"));
    } else if !stem.is_empty() {
        from.push(format!("{stem}.html"));
    }
    from.retain(|from| !from.is_empty());
    (place, from)
}

fn first(first: Option<&First>) -> Outcome<Value> {
    let rules = match first {
        None => return Ok(Value::Bool(false)),
        Some(First::All(all)) => return Ok(Value::Bool(*all)),
        Some(First::Some(rules)) => rules,
    };
    let wrong = |text: String| Err(Failure::usage(format!("`assets.run_worker_first`: {text}")));
    if rules.is_empty() || rules.len() > FIRST_RULES_MAX {
        return wrong(format!("it has {} rules, and must have 1 to {FIRST_RULES_MAX}", rules.len()));
    }
    let (mut worker, mut assets) = (Vec::new(), Vec::new());
    for rule in rules {
        let path = rule.strip_prefix('!').unwrap_or(rule);
        if !path.starts_with('/') {
            return wrong(format!("{rule:?} does not begin with / or !/"));
        }
        if rule.chars().count() > FIRST_RULE_MAX {
            return wrong(format!("{rule:?} has more than {FIRST_RULE_MAX} characters"));
        }
        let list = if path.len() == rule.len() { &mut worker } else { &mut assets };
        if list.contains(&path) {
            return wrong(format!("{rule:?} is there twice"));
        }
        list.push(path);
    }
    if worker.is_empty() {
        return wrong("all of its rules begin with !, and at least one must not".to_owned());
    }
    Ok(json!({"worker": worker, "assets": assets}))
}

/// The content type by the name's extension, as wrangler's table has it.
fn content_type(name: &str) -> Option<&'static str> {
    let (_, extension) = name.rsplit('/').next()?.rsplit_once('.')?;
    Some(match extension.to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "txt" => "text/plain; charset=utf-8",
        "md" => "text/markdown; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "xml" => "text/xml; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "wasm" => "application/wasm",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "gz" => "application/gzip",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/vnd.microsoft.icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "otf" => "font/otf",
        "mp3" => "audio/mpeg",
        "wav" => "audio/wav",
        "ogg" => "audio/ogg",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `expect`: `path > path` for a path that leads to another, `path = file` for one that has a file.
    fn check(handling: HtmlHandling, names: &[&str], expect: &[&str]) {
        let mut found: Vec<String> = paths(names, handling)
            .into_iter()
            .map(|(path, value)| match value.as_str() {
                Some(place) => format!("{path} > {place}"),
                None => format!("{path} = {}", names[value.as_u64().expect("a row") as usize]),
            })
            .collect();
        found.sort();
        assert_eq!(found, expect, "{handling:?} {names:?}");
    }

    #[test]
    fn pages_are_where_wrangler_has_them() {
        use HtmlHandling::*;
        check(
            AutoTrailingSlash,
            &["/a.html", "/b/index.html", "/index.html", "/x.css"],
            &[
                "/ = /index.html",
                "/a = /a.html",
                "/a.html > /a",
                "/a/ > /a",
                "/a/index > /a",
                "/a/index.html > /a",
                "/b > /b/",
                "/b.html > /b/",
                "/b/ = /b/index.html",
                "/b/index > /b/",
                "/b/index.html > /b/",
                "/index > /",
                "/index.html > /",
                "/x.css = /x.css",
            ],
        );
        check(
            DropTrailingSlash,
            &["/b/index.html", "/index.html"],
            &[
                "/ = /index.html",
                "/b = /b/index.html",
                "/b.html > /b",
                "/b/ > /b",
                "/b/index > /b",
                "/b/index.html > /b",
                "/index > /",
                "/index.html > /",
            ],
        );
        check(
            ForceTrailingSlash,
            &["/a.html"],
            &["/a > /a/", "/a.html > /a/", "/a/ = /a.html", "/a/index > /a/", "/a/index.html > /a/"],
        );
        check(None, &["/a.html"], &["/a.html = /a.html"]);
        // A file of the very name comes before a page's.
        check(
            AutoTrailingSlash,
            &["/a", "/a.html", "/b.html", "/b/index.html"],
            &[
                "/a = /a",
                "/a.html = /a.html",
                "/b = /b.html",
                "/b.html > /b",
                "/b/ = /b/index.html",
                "/b/index > /b/",
                "/b/index.html > /b/",
            ],
        );
    }

    #[test]
    fn a_folder_is_read_whole_but_for_what_is_ignored() {
        let dir = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let file = dir.path().join("public").join(name);
            std::fs::create_dir_all(file.parent().expect("a parent")).expect("a folder");
            std::fs::write(file, text).expect("a file");
        };
        write("index.html", "<h1>");
        write("deep/er/a.js", "1");
        write("secret/key.txt", "no");
        write("_headers", "/*\n  X: y\n  bad");
        write("_redirects", "/old /new 301\n/worse");
        write(".assetsignore", "# not these\nsecret\n");
        let spec: Spec = serde_json::from_str(
            r#"{"directory":"./public","binding":"ASSETS","run_worker_first":["/api/*","!/api/docs"]}"#,
        )
        .expect("a table");
        let assets = read(&spec, dir.path(), false).expect("read");
        assert_eq!(assets.part.bytes, b"1<h1>");
        assert_eq!(assets.inputs.len(), 4);
        assert!(assets.warnings[0].contains("/_redirects:2: a redirect is a path"), "{:?}", assets.warnings);
        assert!(assets.warnings[1].contains("/_headers:3: no header"), "{:?}", assets.warnings);
        assert_eq!(assets.warnings.len(), 2);
        let module = assets.module(Some("/x/main.ts"));
        assert!(module.contains("export * from \"/x/main.ts\";"), "{module}");
        assert!(module.contains(r#"const first = {"assets":["/api/docs"],"worker":["/api/*"]};"#), "{module}");
        assert!(module.contains(r#"const redirects = {"paths":{"/old":["/new",301]},"rules":[]};"#), "{module}");
        assert!(module.contains(r#"const headers = [[false,"^\\/(?<splat>.*)$",[["x","y"]],[]]];"#), "{module}");
        assert!(!module.contains("secret"), "{module}");
        std::fs::write(dir.path().join("public/_headers"), [0xff]).expect("a file");
        assert_eq!(read(&spec, dir.path(), false).expect_err("no text").kind, Kind::Invalid);
        write("_headers", "");
        write("large.bin", &"x".repeat(model::rules::MODULE_BYTES_MAX));
        assert_eq!(read(&spec, dir.path(), false).expect_err("large").kind, Kind::Invalid);
        let none = Spec { directory: Some("none".into()), ..Spec::default() };
        assert_eq!(read(&none, dir.path(), false).expect_err("no folder").kind, Kind::Usage);
    }

    #[test]
    fn rules_for_the_worker_are_paths_and_few() {
        let of = |rules: &[&str]| first(Some(&First::Some(rules.iter().map(|rule| (*rule).to_owned()).collect())));
        assert_eq!(of(&["/a", "!/a/b"]).expect("good"), json!({"worker": ["/a"], "assets": ["/a/b"]}));
        let (many, long) = (vec!["/a"; 101], format!("/{}", "x".repeat(100)));
        for (rules, expect) in [
            (&[][..], "0 rules"),
            (&many, "101 rules"),
            (&["a"], "does not begin"),
            (&["!a"], "does not begin"),
            (&["!/a"], "at least one"),
            (&["/a", "/a"], "twice"),
            (&[&long], "more than 100"),
        ] {
            let failure = of(rules).expect_err(expect);
            assert!(failure.message.contains(expect), "{failure:?}");
        }
        assert_eq!(first(None).expect("good"), Value::Bool(false));
    }
}
