//! What is to be deployed: a module, and what `wrangler.toml` or `wrangler.jsonc` says of it.
//!
//! Owns the reading of project files, with line and column for what is wrong in them. Reads `name`, `main`, `route`, `routes`,
//! `vars`, `compatibility_date`, `[build]` and `[env.NAME]`; other keys are named in a warning, never silently lost. Does
//! not bundle: the module is one file (`[build] command` may make it). Main thread.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model::CreateRoute;
use serde::Deserialize;
use serde_json::Value;

use crate::failure::{Failure, Outcome, Place, io};

/// Names of the project file, in the order they are looked for.
const PROJECT_FILES: [&str; 3] = ["wrangler.toml", "wrangler.jsonc", "wrangler.json"];
/// Modules to look for where no file says `main`.
const MAIN_FILES: [&str; 6] =
    ["worker.js", "worker.mjs", "src/worker.js", "src/index.js", "index.js", "dist/worker.js"];
/// Keys that mean something here.
const KEYS: [&str; 10] =
    ["name", "main", "route", "routes", "vars", "compatibility_date", "build", "env", "$schema", "workers_dev"];
/// A project file, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A Worker in a folder, or a module alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Project {
    /// Deployment's name; also its subdomain.
    pub(crate) name: String,
    /// The module's file.
    pub(crate) main: PathBuf,
    /// The project file, if there is one.
    pub(crate) file: Option<PathBuf>,
    /// Patterns it answers for.
    pub(crate) routes: Vec<CreateRoute>,
    /// Variables, not secret.
    pub(crate) vars: BTreeMap<String, String>,
    /// The day whose behaviour the code expects.
    pub(crate) compatibility_date: Option<String>,
    /// A shell command that makes `main`, and where to run it.
    pub(crate) build: Option<(String, PathBuf)>,
    /// Remarks for the user.
    pub(crate) warnings: Vec<String>,
}

/// The project file's shape.
#[derive(Debug, Default, Deserialize)]
struct Wrangler {
    name: Option<String>,
    main: Option<String>,
    compatibility_date: Option<String>,
    route: Option<RouteSpec>,
    #[serde(default)]
    routes: Vec<RouteSpec>,
    #[serde(default)]
    vars: BTreeMap<String, Value>,
    build: Option<Build>,
    #[serde(default)]
    env: BTreeMap<String, Environment>,
}

#[derive(Debug, Default, Deserialize)]
struct Environment {
    name: Option<String>,
    main: Option<String>,
    compatibility_date: Option<String>,
    route: Option<RouteSpec>,
    routes: Option<Vec<RouteSpec>>,
    vars: Option<BTreeMap<String, Value>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "a route must be a pattern, or a table with `pattern`")]
enum RouteSpec {
    Pattern(String),
    Table { pattern: String, zone_id: Option<String>, zone_name: Option<String>, custom_domain: Option<bool> },
}

#[derive(Debug, Deserialize)]
struct Build {
    command: Option<String>,
    cwd: Option<String>,
}

impl Project {
    /// Reads the project at `path`: a folder, a project file, or a module. `environment` is the NAME of `[env.NAME]`.
    pub(crate) fn read(path: &Path, environment: Option<&str>) -> Outcome<Project> {
        let meta = std::fs::metadata(path).map_err(|error| {
            Failure::usage(format!("cannot deploy {}: {error}", path.display()))
                .hint("name a module or a folder; `selvage init` makes one")
        })?;
        if meta.is_dir() {
            let file = PROJECT_FILES.map(|name| path.join(name)).into_iter().find(|file| file.is_file());
            return match file {
                Some(file) => Project::of_file(&file, environment),
                None => Project::of_folder(path, environment),
            };
        }
        match path.file_name().and_then(|name| name.to_str()) {
            Some(name) if PROJECT_FILES.contains(&name) => Project::of_file(path, environment),
            _ => Project::of_module(path, environment),
        }
    }

    fn of_folder(folder: &Path, environment: Option<&str>) -> Outcome<Project> {
        let main =
            MAIN_FILES.map(|name| folder.join(name)).into_iter().find(|file| file.is_file()).ok_or_else(|| {
                Failure::usage(format!("{} has neither {} nor a module", folder.display(), PROJECT_FILES.join(", ")))
                    .hint(format!("looked for {}; `selvage init` makes a project", MAIN_FILES.join(", ")))
            })?;
        let mut project = Project::of_module(&main, environment)?;
        project.name = name_from(&std::fs::canonicalize(folder).map_err(io("read", folder))?)?;
        Ok(project)
    }

    fn of_module(main: &Path, environment: Option<&str>) -> Outcome<Project> {
        if let Some(environment) = environment {
            return Err(Failure::usage(format!("there is no project file to take the environment {environment} from")));
        }
        Ok(Project {
            name: name_from(main)?,
            main: main.to_owned(),
            file: None,
            routes: Vec::new(),
            vars: BTreeMap::new(),
            compatibility_date: None,
            build: None,
            warnings: Vec::new(),
        })
    }

    fn of_file(file: &Path, environment: Option<&str>) -> Outcome<Project> {
        let length = std::fs::metadata(file).map_err(io("read", file))?.len();
        if length > FILE_BYTES_MAX {
            return Err(Failure::usage(format!("{} is larger than {FILE_BYTES_MAX} bytes", file.display())));
        }
        let text = std::fs::read(file).map_err(io("read", file))?;
        let text = String::from_utf8(text).map_err(|_| Failure::usage(format!("{} is not UTF-8", file.display())))?;
        let (wrangler, keys) = parse(file, &text)?;
        assemble(file, wrangler, &keys, environment)
    }
}

/// The file's content, and the names of its top-level keys.
fn parse(file: &Path, text: &str) -> Outcome<(Wrangler, Vec<String>)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if file.extension().is_some_and(|extension| extension == "toml") {
        let fail = |error: toml::de::Error| toml_failure(file, text, &error);
        let table: toml::Table = toml::from_str(text).map_err(fail)?;
        return Ok((toml::from_str(text).map_err(fail)?, table.keys().cloned().collect()));
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
    let table: BTreeMap<String, Value> = serde_json::from_str(&json).map_err(fail)?;
    Ok((serde_json::from_str(&json).map_err(fail)?, table.keys().cloned().collect()))
}

fn assemble(file: &Path, wrangler: Wrangler, keys: &[String], environment: Option<&str>) -> Outcome<Project> {
    let folder = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut warnings: Vec<String> = Vec::new();
    let lost: Vec<&str> = keys.iter().map(String::as_str).filter(|key| !KEYS.contains(key)).collect();
    if !lost.is_empty() {
        warnings.push(format!("{}: not used by this version of Selvage: {}", file.display(), lost.join(", ")));
    }
    let Wrangler { name, main, compatibility_date, route, routes, vars, build, env } = wrangler;
    let base_name = match name {
        Some(name) => name,
        None => name_from(&std::fs::canonicalize(folder).map_err(io("read", folder))?)?,
    };
    let mut project = Project {
        name: base_name,
        main: PathBuf::new(),
        file: Some(file.to_owned()),
        routes: Vec::new(),
        vars: BTreeMap::new(),
        compatibility_date,
        build: None,
        warnings,
    };
    let (mut main, mut routes, mut vars) = (main, route.into_iter().chain(routes).collect::<Vec<_>>(), vars);
    if let Some(environment) = environment {
        let mut env = env;
        let Some(overlay) = env.remove(environment) else {
            let known = env.keys().cloned().collect::<Vec<_>>().join(", ");
            let failure = Failure::usage(format!("{} has no [env.{environment}]", file.display()));
            return Err(if known.is_empty() { failure } else { failure.hint(format!("it has {known}")) });
        };
        // As wrangler does: name-environment unless it says a name; routes and vars are not inherited.
        project.name = overlay.name.unwrap_or_else(|| format!("{}-{environment}", project.name));
        main = overlay.main.or(main);
        project.compatibility_date = overlay.compatibility_date.or(project.compatibility_date);
        routes = overlay.route.into_iter().chain(overlay.routes.unwrap_or_default()).collect();
        vars = overlay.vars.unwrap_or_default();
    }
    project.build = build.and_then(|build| {
        let cwd = build.cwd.map_or_else(|| folder.to_owned(), |cwd| folder.join(cwd));
        build.command.map(|command| (command, cwd))
    });
    project.main = match main {
        Some(main) => folder.join(main),
        None => {
            let found = MAIN_FILES.map(|name| folder.join(name)).into_iter().find(|file| file.is_file());
            found.ok_or_else(|| {
                Failure::usage(format!("{} has no `main`, and there is no worker.js beside it", file.display()))
                    .hint("add `main = \"worker.js\"`")
            })?
        }
    };
    project.routes = routes.into_iter().map(|route| route_of(route, &mut project.warnings)).collect();
    project.vars = vars.into_iter().map(|(key, value)| var_of(key, value, &mut project.warnings)).collect();
    Ok(project)
}

fn route_of(route: RouteSpec, warnings: &mut Vec<String>) -> CreateRoute {
    match route {
        RouteSpec::Pattern(pattern) => CreateRoute { pattern, zone_id: None, enabled: None },
        RouteSpec::Table { pattern, zone_id, zone_name, custom_domain } => {
            if zone_name.is_some() {
                warnings.push(format!("route {pattern}: `zone_name` is not used; `zone_id` is"));
            }
            // A custom domain stands for all of its paths.
            let pattern =
                if custom_domain == Some(true) && !pattern.contains('/') { format!("{pattern}/*") } else { pattern };
            CreateRoute { pattern, zone_id, enabled: None }
        }
    }
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
kv_namespaces = []
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
        assert_eq!(project.build, Some(("npm run build".into(), dir.path().join("web"))));
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
    fn environments_do_not_inherit_routes_and_vars() {
        let text = "name = \"a\"\nroutes = [\"x/*\"]\n[vars]\nA = \"1\"\n[env.staging]\nroute = \"y/*\"\n";
        let dir = write(&[("wrangler.toml", text), ("worker.js", "")]);
        let project = Project::read(dir.path(), Some("staging")).expect("good");
        assert_eq!((project.name.as_str(), project.routes[0].pattern.as_str()), ("a-staging", "y/*"));
        assert!(project.vars.is_empty());
        let failure = Project::read(dir.path(), Some("live")).expect_err("no such environment");
        assert_eq!(failure.hint.as_deref(), Some("it has staging"));
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
