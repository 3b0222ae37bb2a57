//! What is to be deployed: a module, and what the project file beside or above it says of it.
//!
//! Owns finding both. The file's shape and what of it means nothing here is `wrangler`'s; what the module needs is `bundle`'s.
//! Main thread.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model::{CreateRoute, ServiceBinding};
use serde_json::Value;

use crate::bundle::rules::Rule;
use crate::bundle::{Options, assets};
use crate::failure::{Failure, Outcome, io};
use crate::wrangler::{self, FILES, RouteSpec, Section, ServiceSpec, WatchDir, Wrangler};

/// Modules to look for where no file says `main`.
const MAIN_FILES: [&str; 10] = [
    "worker.js",
    "worker.mjs",
    "worker.ts",
    "src/worker.js",
    "src/worker.ts",
    "src/index.js",
    "src/index.ts",
    "index.js",
    "index.ts",
    "dist/worker.js",
];

/// A Worker in a folder, or a module alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Project {
    /// Deployment's name; also its subdomain.
    pub(crate) name: String,
    /// The module's file; empty where there are only files to serve.
    pub(crate) main: PathBuf,
    /// The folder that paths in maps and messages begin at.
    pub(crate) folder: PathBuf,
    /// The project file, if there is one.
    pub(crate) file: Option<PathBuf>,
    /// Patterns it answers for.
    pub(crate) routes: Vec<CreateRoute>,
    /// Variables, not secret.
    pub(crate) vars: BTreeMap<String, String>,
    /// Variables that the file no longer has stay.
    pub(crate) keep_vars: bool,
    /// When it is to run by itself.
    pub(crate) crons: Vec<String>,
    /// Other Workers that it may call.
    pub(crate) services: Vec<ServiceBinding>,
    /// The day whose behaviour the code expects.
    pub(crate) compatibility_date: Option<String>,
    /// Switches of behaviour.
    pub(crate) compatibility_flags: Vec<String>,
    /// A shell command that makes `main`.
    pub(crate) build: Option<Build>,
    /// How to bundle; none: `main` is deployed as it is.
    pub(crate) bundle: Option<Options>,
    /// Files that answer before the module, or for it.
    pub(crate) assets: Option<assets::Spec>,
    /// Where modules beside the main one are looked for if it is deployed as it is, and what they are.
    pub(crate) beside: Option<(PathBuf, Vec<Rule>)>,
    /// Whether the map goes to the control plane, so that everybody's `tail` shows the author's lines.
    pub(crate) upload_map: bool,
    /// Remarks for the user.
    pub(crate) warnings: Vec<String>,
}

/// A shell command, where it runs, and the folders it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Build {
    pub(crate) command: String,
    pub(crate) cwd: PathBuf,
    pub(crate) watch: Vec<PathBuf>,
}

impl Project {
    /// Reads the project at `path`: a folder, a project file, or a module. `environment` is the NAME of `[env.NAME]`.
    pub(crate) fn read(path: &Path, environment: Option<&str>) -> Outcome<Project> {
        let meta = std::fs::metadata(path).map_err(|error| {
            Failure::usage(format!("cannot deploy {}: {error}", path.display()))
                .hint("name a module or a folder; `selvage init` makes one")
        })?;
        if meta.is_dir() {
            let file = FILES.map(|name| path.join(name)).into_iter().find(|file| file.is_file());
            return match file {
                Some(file) => Project::of_file(&file, None, environment),
                None => Project::of_folder(path, environment),
            };
        }
        match path.file_name().and_then(|name| name.to_str()) {
            Some(name) if FILES.contains(&name) => Project::of_file(path, None, environment),
            _ => match file_above(path) {
                Some(file) => Project::of_file(&file, Some(path), environment),
                None => Project::of_module(path, environment),
            },
        }
    }

    /// Whether the other one differs in nothing but what comes with a version.
    pub(crate) fn only_code_differs(&self, other: &Project) -> bool {
        self.name == other.name && self.routes == other.routes && self.vars == other.vars && self.file == other.file
    }

    /// Whether a browser's requests for a page get one before the Worker is asked.
    pub(crate) fn prefers_assets(&self) -> bool {
        let has = |flag: &str| self.compatibility_flags.iter().any(|it| it == flag);
        let since = self.compatibility_date.as_deref().is_some_and(|date| date >= "2025-04-01");
        has("assets_navigation_prefers_asset_serving") || (since && !has("assets_navigation_has_no_effect"))
    }

    fn of_folder(folder: &Path, environment: Option<&str>) -> Outcome<Project> {
        let main =
            MAIN_FILES.map(|name| folder.join(name)).into_iter().find(|file| file.is_file()).ok_or_else(|| {
                Failure::usage(format!("{} has neither {} nor a module", folder.display(), FILES.join(", ")))
                    .hint(format!("looked for {}; `selvage init` makes a project", MAIN_FILES.join(", ")))
            })?;
        let mut project = Project::of_module(&main, environment)?;
        project.name = name_from(&std::fs::canonicalize(folder).map_err(io("read", folder))?)?;
        folder.clone_into(&mut project.folder);
        Ok(project)
    }

    fn of_module(main: &Path, environment: Option<&str>) -> Outcome<Project> {
        if let Some(environment) = environment {
            return Err(Failure::usage(format!("there is no project file to take the environment {environment} from")));
        }
        Ok(Project {
            name: name_from(main)?,
            main: main.to_owned(),
            folder: folder_of(main).to_owned(),
            bundle: Some(Options::default()),
            upload_map: true,
            ..Project::default()
        })
    }

    /// `main` wins over the file's.
    fn of_file(file: &Path, main: Option<&Path>, environment: Option<&str>) -> Outcome<Project> {
        let Wrangler { section, mut warnings } = wrangler::read(file, environment)?;
        let folder = folder_of(file);
        let name = match &section.name {
            Some(name) => name.clone(),
            None => {
                let name = name_from(&std::fs::canonicalize(folder).map_err(io("read", folder))?)?;
                environment.map_or_else(|| name.clone(), |environment| format!("{name}-{environment}"))
            }
        };
        if section.workers_dev == Some(false) {
            warnings.push("`workers_dev = false`: it answers at its subdomain all the same".to_owned());
        }
        let routes = section.route.iter().chain(section.routes.iter().flatten()).cloned();
        let routes = routes.map(|route| route_of(route, &mut warnings)).collect();
        let vars = section.vars.clone().unwrap_or_default();
        let vars = vars.into_iter().map(|(key, value)| var_of(key, value, &mut warnings)).collect();
        let crons = section.triggers.as_ref().and_then(|triggers| triggers.crons.clone()).unwrap_or_default();
        let services = section.services.clone().unwrap_or_default();
        let services = services.into_iter().map(service_of).collect();
        let build = section.build.as_ref().and_then(|build| {
            let watch = match &build.watch_dir {
                None => vec![folder.join("src")],
                Some(WatchDir::One(dir)) => vec![folder.join(dir)],
                Some(WatchDir::Many(dirs)) => dirs.iter().map(|dir| folder.join(dir)).collect(),
            };
            let cwd = build.cwd.as_ref().map_or_else(|| folder.to_owned(), |cwd| folder.join(cwd));
            Some(Build { command: build.command.clone()?, cwd, watch })
        });
        let main = main_of(file, folder, main, &section)?;
        Ok(Project {
            name,
            beside: beside(&section, &main, folder),
            main,
            folder: folder.to_owned(),
            file: Some(file.to_owned()),
            routes,
            vars,
            keep_vars: section.keep_vars == Some(true),
            crons,
            services,
            compatibility_date: section.compatibility_date.clone(),
            compatibility_flags: section.compatibility_flags.clone().unwrap_or_default(),
            build,
            assets: section.assets.clone().filter(|assets| assets.directory.is_some()),
            bundle: (section.no_bundle != Some(true)).then(|| options(&section, folder)),
            upload_map: section.upload_source_maps != Some(false),
            warnings,
        })
    }
}

fn service_of(spec: ServiceSpec) -> ServiceBinding {
    let ServiceSpec { binding, service, entrypoint, environment, props } = spec;
    // Wrangler's name for a Worker of an environment.
    let service = environment.map_or(service.clone(), |environment| format!("{service}-{environment}"));
    ServiceBinding { binding, service, entrypoint, props }
}

/// The project file of a module: the nearest above it, but none from beyond its package.
fn file_above(module: &Path) -> Option<PathBuf> {
    let module = std::path::absolute(module).ok()?;
    for folder in module.parent()?.ancestors() {
        let file = FILES.map(|name| folder.join(name)).into_iter().find(|file| file.is_file());
        if file.is_some() {
            return file.map(|file| near(&file));
        }
        if folder.join("package.json").is_file() || folder.join(".git").exists() {
            return None;
        }
    }
    None
}

/// The path as seen from the current folder, if it is below.
fn near(path: &Path) -> PathBuf {
    let below = std::env::current_dir().ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    below.unwrap_or_else(|| path.to_owned())
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn main_of(file: &Path, folder: &Path, named: Option<&Path>, section: &Section) -> Outcome<PathBuf> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    if let Some(main) = &section.main {
        return Ok(folder.join(main));
    }
    if section.assets.as_ref().is_some_and(|assets| assets.directory.is_some()) {
        return Ok(PathBuf::new());
    }
    let found = MAIN_FILES.map(|name| folder.join(name)).into_iter().find(|file| file.is_file());
    found.ok_or_else(|| {
        Failure::usage(format!("{} has no `main`, and there is no worker.js beside it", file.display()))
            .hint("add `main = \"src/index.ts\"`, or whatever your module is")
    })
}

fn beside(section: &Section, main: &Path, folder: &Path) -> Option<(PathBuf, Vec<Rule>)> {
    let base = match &section.base_dir {
        Some(base) => folder.join(base),
        None => main.parent()?.to_owned(),
    };
    (section.find_additional_modules != Some(false)).then(|| (base, section.rules.clone().unwrap_or_default()))
}

fn options(section: &Section, folder: &Path) -> Options {
    let flags = section.compatibility_flags.iter().flatten();
    Options {
        rules: section.rules.clone().unwrap_or_default(),
        define: section.define.clone().unwrap_or_default(),
        alias: section.alias.clone().unwrap_or_default(),
        minify: section.minify == Some(true),
        keep_names: section.keep_names,
        tsconfig: section.tsconfig.as_ref().map(|tsconfig| folder.join(tsconfig)),
        jsx_factory: section.jsx_factory.clone(),
        jsx_fragment: section.jsx_fragment.clone(),
        node: flags.into_iter().any(|flag| flag == "nodejs_compat" || flag == "nodejs_compat_v2"),
        development: false,
    }
}

fn route_of(route: RouteSpec, warnings: &mut Vec<String>) -> CreateRoute {
    let (pattern, zone_id, zone_name, custom_domain) = match route {
        RouteSpec::Pattern(pattern) => (pattern, None, None, false),
        RouteSpec::Table { pattern, zone_id, zone_name, custom_domain } => {
            (pattern, zone_id, zone_name, custom_domain == Some(true))
        }
    };
    if zone_name.is_some() && zone_id.is_none() {
        warnings.push(format!("route {pattern}: `zone_name` is not used; its host alone decides"));
    }
    // Routes are of both schemes here.
    let pattern = ["https://", "http://"].iter().find_map(|scheme| pattern.strip_prefix(scheme)).unwrap_or(&pattern);
    // A custom domain stands for all of its paths.
    let all = custom_domain && !pattern.contains('/');
    CreateRoute { pattern: format!("{pattern}{}", if all { "/*" } else { "" }), zone_id, enabled: None }
}

fn var_of(key: String, value: Value, warnings: &mut Vec<String>) -> (String, String) {
    let text = match value {
        Value::String(text) => text,
        other => {
            warnings.push(format!("vars.{key} is no string: env.{key} is its JSON text"));
            other.to_string()
        }
    };
    (key, text)
}

/// A deployment's name made from a file's or folder's: one DNS label.
pub(crate) fn name_from(path: &Path) -> Outcome<String> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let words: Vec<&str> = stem.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let mut name = words.join("-");
    name.truncate(model::rules::SUBDOMAIN_BYTES_MAX);
    let name = name.trim_end_matches('-').to_owned();
    if name.is_empty() {
        return Err(Failure::usage(format!("no name can be made from {}", path.display()))
            .hint("give one with `--name`, or as `name` in wrangler.toml"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Kind;

    /// A folder named `my-app`, away again when dropped.
    struct Folder {
        path: PathBuf,
        _dir: tempfile::TempDir,
    }

    impl Folder {
        fn path(&self) -> &Path {
            &self.path
        }
    }

    fn write(files: &[(&str, &str)]) -> Folder {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("my-app");
        for (name, text) in files {
            let file = path.join(name);
            std::fs::create_dir_all(file.parent().expect("a parent")).expect("a folder");
            std::fs::write(file, text).expect("a file");
        }
        Folder { path, _dir: dir }
    }

    fn read(name: &str, text: &str) -> Outcome<Project> {
        let dir = write(&[(name, text), ("worker.js", "")]);
        Project::read(dir.path(), None)
    }

    fn check_bad(name: &str, text: &str, place: Option<(u32, u32)>, message: &str) {
        let failure = read(name, text).expect_err("bad");
        assert_eq!(failure.kind, Kind::Usage);
        assert_eq!(failure.place.as_ref().map(|p| (p.line, p.column)), place, "{failure:?}");
        assert!(failure.message.contains(message), "{failure:?}");
    }

    #[test]
    fn a_whole_wrangler_toml() {
        let text = r#"
name = "shop"
main = "src/app.js"
compatibility_date = "2025-01-31"
routes = ["example.com/*", { pattern = "shop.example", custom_domain = true }]
kv_namespaces = [{ binding = "CACHE", id = "1" }]
[vars]
GREETING = "hi"
LIMIT = 3
[build]
command = "npm run build"
cwd = "web"
"#;
        let dir = write(&[("wrangler.toml", text)]);
        let project = Project::read(dir.path(), None).expect("good");
        assert_eq!(project.name, "shop");
        assert_eq!(project.main, dir.path().join("src/app.js"));
        assert_eq!(project.compatibility_date.as_deref(), Some("2025-01-31"));
        let patterns: Vec<&str> = project.routes.iter().map(|route| route.pattern.as_str()).collect();
        assert_eq!(patterns, ["example.com/*", "shop.example/*"]);
        assert_eq!(project.vars, BTreeMap::from([("GREETING".into(), "hi".into()), ("LIMIT".into(), "3".into())]));
        let build = project.build.expect("a build");
        assert_eq!((build.command.as_str(), build.cwd), ("npm run build", dir.path().join("web")));
        assert_eq!(build.watch, [dir.path().join("src")]);
        assert_eq!(project.warnings.len(), 2, "{:?}", project.warnings);
        assert!(project.warnings[0].contains("kv_namespaces"));
    }

    #[test]
    fn jsonc_with_comments_and_trailing_commas() {
        let text = "// a Worker\n{ \"name\": \"shop\", /* where */ \"main\": \"worker.js\", \"vars\": {\"U\": \"http://x//y\",}, }";
        let project = read("wrangler.jsonc", text).expect("good");
        assert_eq!((project.name.as_str(), project.vars["U"].as_str()), ("shop", "http://x//y"));
    }

    #[test]
    fn bad_files_say_where() {
        check_bad("wrangler.toml", "name = \"a\"\nmain = \n", Some((2, 8)), "");
        check_bad("wrangler.toml", "name = \"a\"\n\n[vars\n", Some((3, 6)), "");
        check_bad(
            "wrangler.toml",
            "main = \"worker.js\"\nname = 7\n",
            Some((2, 8)),
            "invalid type: integer `7`, expected a string",
        );
        check_bad("wrangler.toml", "name = \"ä\" x", Some((1, 12)), "");
        check_bad("wrangler.toml", "a = 1\na = 2\n", Some((2, 1)), "duplicate key");
        check_bad("wrangler.toml", "route = 5\n", Some((1, 9)), "a route must be a pattern");
        check_bad("wrangler.jsonc", "{\n  \"name\": 7\n}", Some((2, 11)), "expected a string");
        check_bad("wrangler.jsonc", "{ /* \n", Some((1, 3)), "");
        check_bad("wrangler.jsonc", "[]", Some((1, 1)), "");
    }

    #[test]
    fn a_file_that_is_not_utf8() {
        let dir = write(&[("worker.js", "")]);
        std::fs::write(dir.path().join("wrangler.toml"), b"name = \"\xff\"").expect("a file");
        let failure = Project::read(dir.path(), None).expect_err("bad");
        assert!(failure.message.ends_with("is not UTF-8"), "{failure:?}");
    }

    #[test]
    fn a_module_belongs_to_the_project_above_it() {
        let text = "name = \"shop\"\nmain = \"src/index.ts\"\n[env.live]\n";
        let dir = write(&[("wrangler.toml", text), ("src/other.ts", ""), ("lib/package.json", "{}"), ("lib/a.ts", "")]);
        let project = Project::read(&dir.path().join("src/other.ts"), Some("live")).expect("good");
        assert_eq!((project.name.as_str(), project.main), ("shop-live", dir.path().join("src/other.ts")));
        assert_eq!(Project::read(&dir.path().join("lib/a.ts"), None).expect("good").name, "a", "another package's");
    }

    #[test]
    fn patterns_lose_their_scheme_and_schedules_and_services_are_read() {
        let project = read(
            "wrangler.toml",
            "routes = [\"https://a.example/*\", { pattern = \"b.example/x\", zone_name = \"b.example\" }]\n[triggers]\ncrons = [\"0 * * * *\"]\n\
             [[services]]\nbinding = \"B\"\nservice = \"b\"\nentrypoint = \"Admin\"\n[[services]]\nbinding = \"C\"\nservice = \"c\"\nenvironment = \"live\"\nprops = { a = 1 }\n",
        )
        .expect("good");
        let patterns: Vec<&str> = project.routes.iter().map(|route| route.pattern.as_str()).collect();
        assert_eq!(patterns, ["a.example/*", "b.example/x"]);
        assert_eq!(project.crons, ["0 * * * *"]);
        let services: Vec<_> = project
            .services
            .iter()
            .map(|it| (it.binding.as_str(), it.service.as_str(), it.entrypoint.as_deref()))
            .collect();
        assert_eq!(services, [("B", "b", Some("Admin")), ("C", "c-live", None)]);
        assert_eq!(project.services[1].props_text(), r#"{"a":1}"#);
        assert!(project.warnings.len() == 1 && project.warnings[0].contains("zone_name"), "{:?}", project.warnings);
    }

    #[test]
    fn what_bundling_needs_is_read() {
        let text = "compatibility_flags = [\"nodejs_compat\"]\nminify = true\ntsconfig = \"tsconfig.worker.json\"\nrules = [{ type = \"Text\", globs = [\"**/*.md\"] }]\n[define]\nX = \"1\"\n";
        let dir = write(&[("wrangler.toml", text), ("worker.js", "")]);
        let options = Project::read(dir.path(), None).expect("good").bundle.expect("it is bundled");
        assert!(options.node && options.minify && options.rules.len() == 1 && options.define.contains_key("X"));
        assert_eq!(options.tsconfig, Some(dir.path().join("tsconfig.worker.json")));
        assert_eq!(read("wrangler.toml", "no_bundle = true").expect("good").bundle, None);
        check_bad("wrangler.toml", "rules = [{ type = \"Python\", globs = [] }]\n", Some((1, 19)), "unknown variant");
    }

    #[test]
    fn without_a_file_the_folder_gives_the_name() {
        let dir = write(&[("src/index.js", "")]);
        let project = Project::read(dir.path(), None).expect("good");
        assert_eq!(project.name, "my-app");
        assert_eq!(project.main, dir.path().join("src/index.js"));
        assert_eq!(Project::read(&project.main, None).expect("good").name, "index");
    }

    #[test]
    fn an_empty_toml_takes_the_defaults() {
        let project = read("wrangler.toml", "").expect("good");
        assert_eq!(project.name, "my-app");
        assert!(project.main.ends_with("worker.js"));
    }

    #[test]
    fn nothing_to_deploy() {
        let dir = write(&[("readme.md", "")]);
        assert_eq!(Project::read(dir.path(), None).expect_err("nothing").kind, Kind::Usage);
        assert_eq!(Project::read(&dir.path().join("none.js"), None).expect_err("nothing").kind, Kind::Usage);
    }

    #[test]
    fn names_become_labels() {
        let name = |path: &str| name_from(Path::new(path)).map_err(|failure| failure.kind);
        assert_eq!(name("My App_2.js"), Ok("my-app-2".into()));
        assert_eq!(name("--a--.mjs"), Ok("a".into()));
        assert_eq!(name("日本.js"), Err(Kind::Usage));
        assert_eq!(name(&format!("{}.js", "a".repeat(80))).map(|name| name.len()), Ok(63));
    }
}
