//! `deploy`: from a file or folder to an active version.
//!
//! Order: the module is bundled; the project and the deployment are made if need be; the module is uploaded with its source map, which
//! validates it; variables and routes of the project file are brought in; the version is activated; variables and routes that the file named
//! at the last deployment and no longer names are removed. An upload that is refused changes nothing that serves. What came by `routes
//! add` or `env set` stays, as the file never named it. Main thread.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use model::{
    Activation, CreateDeployment, CreateProject, Declared, Deployment, EnvType, EnvVarSpec, Location, Version,
    VersionMetadata, VersionStatus, rules,
};
use serde_json::{Value, json};

use crate::args::DeployArgs;
use crate::bundle::assets::Assets;
use crate::bundle::{Bundle, Bundler, MODULE_NAME, Options, Part, additional, assets, plain};
use crate::client::{Client, Upload, failure_of_errors};
use crate::command::lifecycle::nodes;
use crate::context::{Context, find};
use crate::failure::{Failure, Kind, Outcome, Place, io};
use crate::output::{Ink, Output, bytes, duration, printable};
use crate::project::{Build, Project};
use crate::sourcemap::SourceMap;

/// What a deployment did.
#[derive(Debug)]
pub(crate) struct Deployed {
    pub(crate) deployment: Deployment,
    pub(crate) version: Version,
    pub(crate) activation: Option<Activation>,
    upload_time: Duration,
    activate_time: Duration,
    warnings: Vec<String>,
    /// Routes and variables that the project file no longer names.
    removed: Vec<String>,
}

/// The command.
pub(crate) fn deploy(context: &Context, args: &DeployArgs) -> Outcome {
    let mut bundler = Bundler::default();
    let (project, bundle) = prepare(context, args, &mut bundler, false)?;
    if let Some(dir) = &args.outdir {
        return write_out(context, dir, &bundle);
    }
    let client = context.client()?;
    let deployed = run(context, &client, args, &project, &bundle)?;
    context.output.result(&deployed.json(), |output| deployed.text(output));
    Ok(())
}

/// Does the work and says nothing on stdout.
pub(crate) fn run(
    context: &Context,
    client: &Client,
    args: &DeployArgs,
    project: &Project,
    bundle: &Bundle,
) -> Outcome<Deployed> {
    let mut warnings = project.warnings.clone();
    for warning in &warnings {
        context.output.warn(warning);
    }
    let (deployment, made) = ensure(context, client, args, project)?;
    let before = if made { None } else { declared_before(client, &deployment)? };
    let brings = |deployment: &Deployment| if made { Ok(Vec::new()) } else { bring_in(client, deployment, project) };
    let mut deployed = replace(context, client, deployment, args, project, bundle, brings)?;
    // Until now the version before may have needed them.
    if let Some(before) = before.filter(|_| deployed.activation.is_some()) {
        deployed.removed = remove_dropped(client, &deployed.deployment, project, &before)?;
    }
    warnings.append(&mut deployed.warnings);
    Ok(Deployed { warnings, ..deployed })
}

/// A new version of a deployment of which nothing but the code has changed.
pub(crate) fn update(
    context: &Context,
    client: &Client,
    deployment: &Deployment,
    args: &DeployArgs,
    project: &Project,
    bundle: &Bundle,
) -> Outcome<Deployed> {
    replace(context, client, deployment.clone(), args, project, bundle, |_| Ok(Vec::new()))
}

/// Uploads, does `between`, which gives warnings, and activates.
fn replace(
    context: &Context,
    client: &Client,
    deployment: Deployment,
    args: &DeployArgs,
    project: &Project,
    bundle: &Bundle,
    between: impl FnOnce(&Deployment) -> Outcome<Vec<String>>,
) -> Outcome<Deployed> {
    let mut warnings = Vec::new();
    let mut say = |warning: String| {
        context.output.warn(&warning);
        warnings.push(warning);
    };
    bundle.warnings.iter().cloned().for_each(&mut say);
    let begun = Instant::now();
    let map = bundle.map.as_deref().filter(|_| project.upload_map);
    if map.is_some_and(|map| map.len() > rules::MAP_BYTES_MAX) {
        say("the source map is too large to be kept: logs will show the bundle's lines".to_owned());
    }
    let map = map.filter(|map| map.len() <= rules::MAP_BYTES_MAX);
    let bar = context.output.bytes_bar(bundle.code.len() as u64, "uploading");
    let (done, total) = (|at| bar.set_position(at), |total| bar.set_length(total));
    let upload =
        client.upload(deployment.id, (&bundle.code, &bundle.parts, map), &metadata(project, args), done, total);
    bar.finish_and_clear();
    let version = accepted(upload?, project, bundle)?;
    let upload_time = begun.elapsed();
    between(&deployment)?.into_iter().for_each(&mut say);
    if args.no_activate && version.active {
        say("the first version that can run is activated by its upload".to_owned());
    }
    let begun = Instant::now();
    let activation = if args.no_activate {
        None
    } else {
        let spinner = context.output.spinner("activating");
        let activation = client.activate(deployment.id, version.version_number);
        spinner.finish_and_clear();
        Some(activation?)
    };
    let activate_time = begun.elapsed();
    let deployment = activation.as_ref().map_or(deployment, |activation| activation.deployment.clone());
    Ok(Deployed { deployment, version, activation, upload_time, activate_time, warnings, removed: Vec::new() })
}

/// Reads the project as the command line has it, and makes its module.
pub(crate) fn prepare(
    context: &Context,
    args: &DeployArgs,
    bundler: &mut Bundler,
    development: bool,
) -> Outcome<(Project, Bundle)> {
    let mut project = Project::read(&args.path, args.env.as_deref())?;
    if let Some(name) = &args.name {
        project.name.clone_from(name);
    }
    build(&project)?;
    if args.no_bundle {
        project.bundle = None;
    }
    let assets = match &project.assets {
        Some(spec) => Some(assets::read(spec, &project.folder, project.prefers_assets())?),
        None => None,
    };
    let is_program = !project.main.as_os_str().is_empty();
    if is_program && !project.main.is_file() {
        let failure = Failure::usage(format!("there is no module {}", project.main.display()));
        return Err(match &project.file {
            Some(file) if project.build.is_some() => {
                failure.hint(format!("`main` of {} is what the build command is to make", file.display()))
            }
            Some(file) => failure.hint(format!("`main` of {} names it", file.display())),
            None => failure,
        });
    }
    let mut bundle = match &project.bundle {
        _ if !is_program => Bundle::default(),
        Some(options) => {
            let options = Options { development, ..options.clone() };
            bundler.bundle(&project.main, &project.folder, &options, assets.as_ref(), &context.output)?
        }
        None => Bundle {
            code: read_module(&project.main)?,
            parts: match &project.beside {
                Some((folder, rules)) => additional::modules(&project.main, folder, rules)?,
                None => Vec::new(),
            },
            inputs: vec![project.main.clone()],
            ..Bundle::default()
        },
    };
    if let Some(assets) = assets {
        put_before(&mut bundle, assets, &project);
    }
    Ok((project, bundle))
}

/// Files answer before a Worker that is not bundled, or for one that is not there.
fn put_before(bundle: &mut Bundle, assets: Assets, project: &Project) {
    let name = project.main.file_name().map(|name| name.to_string_lossy().into_owned());
    if name.is_none() || project.bundle.is_none() {
        let program = name.as_ref().map(|name| format!("./{name}"));
        let code = std::mem::replace(&mut bundle.code, assets.module(program.as_deref()).into_bytes());
        bundle.parts.extend(name.map(|name| Part { name, content_type: "application/javascript+module", bytes: code }));
        bundle.parts.push(assets.part);
    }
    bundle.inputs.extend(assets.inputs);
    bundle.warnings.extend(assets.warnings);
}

fn metadata(project: &Project, args: &DeployArgs) -> VersionMetadata {
    let declared = project.file.as_ref().map(|_| Declared {
        routes: project.routes.iter().map(|route| route.pattern.clone()).collect(),
        vars: project.vars.keys().cloned().collect(),
    });
    VersionMetadata {
        compatibility_date: project.compatibility_date.clone(),
        compatibility_flags: project.compatibility_flags.clone(),
        crons: project.crons.clone(),
        services: project.services.clone(),
        declared,
        main_module: project.main.file_name().map(|name| name.to_string_lossy().into_owned()),
        message: args.message.clone(),
    }
}

/// Writes the bundle instead of deploying it.
fn write_out(context: &Context, dir: &Path, bundle: &Bundle) -> Outcome {
    std::fs::create_dir_all(dir).map_err(io("create", dir))?;
    let mut files = vec![(dir.join(MODULE_NAME), &bundle.code)];
    files.extend(bundle.parts.iter().map(|part| (dir.join(&part.name), &part.bytes)));
    for folder in files.iter().filter_map(|(file, _)| file.parent()) {
        std::fs::create_dir_all(folder).map_err(io("create", folder))?;
    }
    files.extend(bundle.map.as_ref().map(|map| (dir.join(format!("{MODULE_NAME}.map")), map)));
    for (file, contents) in &files {
        std::fs::write(file, contents).map_err(io("write", file))?;
    }
    for warning in &bundle.warnings {
        context.output.warn(warning);
    }
    let names: Vec<&Path> = files.iter().map(|(file, _)| file.as_path()).collect();
    let value = json!({"files": names, "bytes": bundle.code.len(), "warnings": bundle.warnings});
    context.output.result(&value, |_| format!("{} ({})", names[0].display(), bytes(bundle.code.len() as u64)));
    Ok(())
}

impl Deployed {
    fn json(&self) -> Value {
        let ms = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        json!({
            "deployment": self.deployment,
            "version": self.version,
            "url": self.deployment.url,
            "activated": self.activation.is_some() || self.version.active,
            "generation": self.activation.as_ref().map(|activation| activation.generation),
            "nodes_acked": self.activation.as_ref().map(|activation| activation.nodes_acked),
            "nodes_connected": self.activation.as_ref().map(|activation| activation.nodes_connected),
            "timings_ms": {"upload": ms(self.upload_time), "activate": ms(self.activate_time)},
            "warnings": self.warnings,
            "removed": self.removed,
        })
    }

    /// For people: version, size, times, URL.
    pub(crate) fn text(&self, output: &Output) -> String {
        let number = output.ink(Ink::Bold, &format!("v{}", self.version.version_number));
        let name = printable(&self.deployment.name);
        let upload = format!(
            "{} {number} of {name} ({}, {})",
            output.ink(Ink::Green, "Uploaded"),
            bytes(self.version.size_bytes),
            duration(self.upload_time)
        );
        match &self.activation {
            Some(activation) => {
                let removed =
                    self.removed.iter().map(|it| format!("\nRemoved {it}: the project file no longer has it"));
                format!(
                    "{upload}\n{} {number} on {} ({}){}{}\n{}",
                    output.ink(Ink::Green, "Activated"),
                    nodes(activation),
                    duration(self.activate_time),
                    removed.collect::<String>(),
                    extras(&self.version.metadata),
                    self.deployment.url
                )
            }
            None if self.version.active => format!("{upload}\n{}", self.deployment.url),
            None => format!("{upload}\nNot activated: `selvage activate {}` does", self.version.version_number),
        }
    }
}

/// What a version has besides its code: other Workers, and when it runs by itself.
fn extras(metadata: &VersionMetadata) -> String {
    let services = metadata.services.iter().map(|it| {
        let entrypoint = it.entrypoint.as_ref().map(|name| format!("#{name}")).unwrap_or_default();
        format!("\nenv.{} is the Worker {}{}", printable(&it.binding), printable(&it.service), printable(&entrypoint))
    });
    let crons = metadata.crons.iter().map(|cron| format!("\nschedule: {}", printable(cron)));
    services.chain(crons).collect()
}

/// Runs the project's build command; its output goes to stderr.
fn build(project: &Project) -> Outcome {
    let Some(Build { command, cwd, .. }) = &project.build else { return Ok(()) };
    let status = Command::new("sh")
        .args(["-c", command])
        .current_dir(cwd)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .map_err(|error| Failure::failed(format!("cannot run the build command {command:?}: {error}")))?;
    match status.success() {
        true => Ok(()),
        false => Err(Failure::failed(format!("the build command {command:?} failed: {status}"))),
    }
}

/// A module that is deployed as it is.
fn read_module(main: &Path) -> Outcome<Vec<u8>> {
    let extension = main.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if matches!(extension, "ts" | "tsx" | "jsx" | "mts") {
        return Err(Failure::usage(format!("{} is no JavaScript, and bundling is switched off", main.display()))
            .hint("leave out `--no-bundle`, or `no_bundle` in the project file"));
    }
    let length = std::fs::metadata(main).map_err(io("read", main))?.len();
    if length > rules::MODULE_BYTES_MAX as u64 {
        let (length, limit) = (bytes(length), bytes(rules::MODULE_BYTES_MAX as u64));
        return Err(Failure::new(Kind::Invalid, format!("{} has {length}; the limit is {limit}", main.display())));
    }
    std::fs::read(main).map_err(io("read", main))
}

/// The deployment, and whether it was made just now.
fn ensure(context: &Context, client: &Client, args: &DeployArgs, project: &Project) -> Outcome<(Deployment, bool)> {
    let record = match context.project(client, &args.project)? {
        Some(record) => record,
        None => {
            let body = CreateProject { name: args.project.clone(), slug: Some(args.project.clone()) };
            client.create_project(context.account(client)?, &body)?
        }
    };
    if let Some(deployment) = find(client.deployments(record.id)?, &project.name) {
        return Ok((deployment, false));
    }
    let var = |value: &String| EnvVarSpec { kind: EnvType::Plain, value: value.clone() };
    let body = CreateDeployment {
        name: project.name.clone(),
        subdomain: args.subdomain.clone().unwrap_or_else(|| project.name.clone()),
        routes: project.routes.clone(),
        env_vars: project.vars.iter().map(|(key, value)| (key.clone(), var(value))).collect(),
        bindings: Default::default(),
    };
    body.validate().map_err(|error| Failure::usage(error.to_string()))?;
    Ok((client.create_deployment(record.id, &body)?, true))
}

/// Brings variables and routes of the project file to a deployment that is there already; gives warnings.
fn bring_in(client: &Client, deployment: &Deployment, project: &Project) -> Outcome<Vec<String>> {
    let mut warnings = Vec::new();
    if !project.vars.is_empty() {
        let there = client.env(deployment.id)?;
        for (key, value) in &project.vars {
            if there.iter().any(|var| var.key == *key && var.kind == EnvType::Secret) {
                warnings.push(format!("vars.{key} is a secret on the platform and stays as it is"));
                continue;
            }
            client.set_env(deployment.id, key, &EnvVarSpec { kind: EnvType::Plain, value: value.clone() })?;
        }
    }
    if !project.routes.is_empty() {
        let there = client.routes(deployment.id)?;
        for route in &project.routes {
            let known = |r: &model::Route| r.pattern.eq_ignore_ascii_case(&route.pattern) && r.zone_id == route.zone_id;
            if !there.iter().any(known) {
                client.create_route(deployment.id, route)?;
            }
        }
    }
    Ok(warnings)
}

/// What the project file named at the version that serves and at those uploaded since.
fn declared_before(client: &Client, deployment: &Deployment) -> Outcome<Option<Declared>> {
    let Some(active) = deployment.active_version else { return Ok(None) };
    let versions = client.versions(deployment.id)?.into_iter();
    let since = versions.filter(|it| it.version_number >= active.version_number && it.status == VersionStatus::Valid);
    Ok(since.filter_map(|version| version.metadata.declared).reduce(|mut all, one| {
        all.routes.extend(one.routes);
        all.vars.extend(one.vars);
        all
    }))
}

/// Removes what the project file named before and does not name now; gives what was removed.
fn remove_dropped(
    client: &Client,
    deployment: &Deployment,
    project: &Project,
    before: &Declared,
) -> Outcome<Vec<String>> {
    let mut removed = Vec::new();
    if project.file.is_none() {
        return Ok(removed);
    }
    let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    let routes: Vec<&String> =
        before.routes.iter().filter(|old| !project.routes.iter().any(|route| same(&route.pattern, old))).collect();
    if !routes.is_empty() {
        for route in client.routes(deployment.id)? {
            if routes.iter().any(|old| same(old, &route.pattern)) {
                client.delete_route(deployment.id, route.id)?;
                removed.push(format!("route {}", route.pattern));
            }
        }
    }
    let vars: Vec<&String> = before.vars.iter().filter(|old| !project.vars.contains_key(*old)).collect();
    if !vars.is_empty() && !project.keep_vars {
        for var in client.env(deployment.id)? {
            // A secret of that name was set since by other means.
            if var.kind == EnvType::Plain && vars.contains(&&var.key) {
                client.delete_env(deployment.id, &var.key)?;
                removed.push(format!("variable {}", var.key));
            }
        }
    }
    Ok(removed)
}

/// The version, or why the module is none that can run, with the author's place.
fn accepted(upload: Upload, project: &Project, bundle: &Bundle) -> Outcome<Version> {
    let refused = upload.version.as_ref().and_then(|version| version.error.as_ref());
    if upload.errors.is_empty()
        && refused.is_none()
        && let Some(version) = upload.version
    {
        return Ok(version);
    }
    let location = upload.errors.iter().find_map(|error| error.location).or(refused.and_then(|error| error.location));
    // The version's error is the compiler's own text; the response's says the place once more.
    let mut failure = match (refused, upload.errors.is_empty()) {
        (Some(error), _) => Failure::new(Kind::Invalid, printable(&error.message)),
        (None, false) => Failure { kind: Kind::Invalid, ..failure_of_errors(upload.status, &upload.errors) },
        (None, true) => Failure::failed("the control plane made no version and gave no reason"),
    };
    let map = bundle.map.as_deref().and_then(|map| SourceMap::parse(map).ok());
    if let Some(map) = &map {
        failure.message = map.apply(&failure.message, MODULE_NAME);
    }
    let main = project.main.display();
    let Some(Location { line, column }) = location else {
        failure.message = format!("{main}: {}", failure.message);
        return Err(failure);
    };
    let column = column.unwrap_or(1);
    let authored = map.as_ref().and_then(|map| map.place(line, column)).map(|place| {
        let file = plain(&project.folder.join(&place.file));
        let source = std::fs::read_to_string(&file).unwrap_or_default();
        (Place { file: file.display().to_string(), ..place }, source)
    });
    let (place, source) = authored.unwrap_or_else(|| {
        let file = if map.is_some() { format!("{MODULE_NAME} (the bundle)") } else { main.to_string() };
        (Place { file, line, column }, String::from_utf8_lossy(&bundle.code).into_owned())
    });
    failure.message = format!("{place}: {}", failure.message);
    Err(failure.at(place, &source))
}

#[cfg(test)]
mod tests {
    use model::{ErrorItem, code};

    use super::*;

    #[test]
    fn a_refused_module_is_shown_where_it_is_wrong() {
        let mut error = ErrorItem::new(code::INVALID_MODULE, "SyntaxError: Unexpected token '}'");
        error.location = Some(Location { line: 2, column: Some(3) });
        let upload = Upload { version: None, errors: vec![error], status: 422 };
        let failure = accepted(upload, &project(), &code(b"let a;\n  }\n")).expect_err("refused");
        assert_eq!(failure.kind, Kind::Invalid);
        assert_eq!(failure.message, "worker.js:2:3: SyntaxError: Unexpected token '}'");
        assert!(failure.excerpt.expect("an excerpt").contains("2 │   }\n  │   ^"));
    }

    #[test]
    fn a_module_without_a_place_names_its_file() {
        let upload = Upload {
            version: None,
            errors: vec![ErrorItem::new(code::INVALID_MODULE, "no fetch handler")],
            status: 422,
        };
        let failure = accepted(upload, &project(), &code(b"\xff")).expect_err("refused");
        assert_eq!((failure.message.as_str(), failure.excerpt), ("worker.js: no fetch handler", None));
    }

    #[test]
    fn a_refused_bundle_is_shown_where_its_author_wrote_it() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("a.ts"), "type X = 1;\nthrow new Error('x');\n").expect("a file");
        let map = br#"{"version":3,"sources":["a.ts"],"mappings":";AACA"}"#;
        let mut error = ErrorItem::new(code::INVALID_MODULE, "Error: x at worker.js:2:1");
        error.location = Some(Location { line: 2, column: Some(1) });
        let project = Project { folder: dir.path().to_owned(), ..project() };
        let bundle = Bundle { map: Some(map.to_vec()), ..code(b"// a.ts\nthrow new Error('x');\n") };
        let upload = |error: &ErrorItem| Upload { version: None, errors: vec![error.clone()], status: 422 };
        let failure = accepted(upload(&error), &project, &bundle).expect_err("refused");
        assert!(failure.message.ends_with("a.ts:2:1: Error: x at a.ts:2:1"), "{failure:?}");
        assert!(failure.excerpt.expect("an excerpt").contains("2 │ throw new Error"));
        error.location = Some(Location { line: 1, column: Some(1) });
        let failure = accepted(upload(&error), &project, &bundle).expect_err("refused");
        assert!(failure.message.starts_with("worker.js (the bundle):1:1"), "{failure:?}");
    }

    #[test]
    fn typescript_as_it_is_cannot_be_deployed() {
        let failure = read_module(Path::new("src/index.ts")).expect_err("not JavaScript");
        assert_eq!(failure.kind, Kind::Usage);
        assert!(failure.hint.is_some_and(|hint| hint.contains("no-bundle")));
    }

    fn project() -> Project {
        Project { main: "worker.js".into(), ..Project::default() }
    }

    fn code(code: &[u8]) -> Bundle {
        Bundle { code: code.to_vec(), ..Bundle::default() }
    }
}
