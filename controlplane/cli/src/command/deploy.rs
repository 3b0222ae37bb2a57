//! `deploy`: from a file or folder to an active version.
//!
//! Order: the project and the deployment are made if need be; variables and routes of the project file are brought in; the module is
//! uploaded, which validates it; the version is activated. An upload that is refused changes nothing that serves.
//! Variables belong to the deployment, so they take effect before the new version does. What the project file no longer names
//! stays on the platform: `routes remove` and `env unset` take it away. Main thread.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use model::{
    Activation, CreateDeployment, CreateProject, Deployment, EnvType, EnvVarSpec, Location, Version, VersionMetadata,
    rules,
};
use serde_json::{Value, json};

use crate::args::DeployArgs;
use crate::client::{Client, Upload, failure_of_errors};
use crate::command::lifecycle::nodes;
use crate::context::{Context, find};
use crate::failure::{Failure, Kind, Outcome, Place, io};
use crate::output::{Ink, Output, bytes, duration, printable};
use crate::project::Project;

/// What a deployment did.
#[derive(Debug)]
pub(crate) struct Deployed {
    pub(crate) deployment: Deployment,
    pub(crate) version: Version,
    pub(crate) activation: Option<Activation>,
    upload_time: Duration,
    activate_time: Duration,
    warnings: Vec<String>,
}

/// The command.
pub(crate) fn deploy(context: &Context, args: &DeployArgs) -> Outcome {
    let client = context.client()?;
    let deployed = run(context, &client, args)?;
    context.output.result(&deployed.json(), |output| deployed.text(output));
    Ok(())
}

/// Does the work and says nothing on stdout.
pub(crate) fn run(context: &Context, client: &Client, args: &DeployArgs) -> Outcome<Deployed> {
    let mut project = Project::read(&args.path, args.env.as_deref())?;
    if let Some(name) = &args.name {
        project.name.clone_from(name);
    }
    for warning in &project.warnings {
        context.output.warn(warning);
    }
    build(&project)?;
    let module = read_module(&project.main)?;
    let metadata = VersionMetadata {
        compatibility_date: project.compatibility_date.clone(),
        main_module: project.main.file_name().map(|name| name.to_string_lossy().into_owned()),
        message: args.message.clone(),
    };
    let (deployment, made) = ensure(context, client, args, &project)?;
    let mut warnings = project.warnings.clone();
    if !made {
        warnings.extend(bring_in(context, client, &deployment, &project)?);
    }
    let begun = Instant::now();
    let bar = context.output.bytes_bar(module.len() as u64, "uploading");
    let upload =
        client.upload(deployment.id, &module, &metadata, |at| bar.set_position(at), |total| bar.set_length(total));
    bar.finish_and_clear();
    let version = accepted(upload?, &project.main, &module)?;
    let upload_time = begun.elapsed();
    if args.no_activate && version.active {
        let warning = "the first version that can run is activated by its upload".to_owned();
        context.output.warn(&warning);
        warnings.push(warning);
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
    Ok(Deployed { deployment, version, activation, upload_time, activate_time, warnings })
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
            Some(activation) => format!(
                "{upload}\n{} {number} on {} ({})\n{}",
                output.ink(Ink::Green, "Activated"),
                nodes(activation),
                duration(self.activate_time),
                self.deployment.url
            ),
            None if self.version.active => format!("{upload}\n{}", self.deployment.url),
            None => format!("{upload}\nNot activated: `selvage activate {}` does", self.version.version_number),
        }
    }
}

/// Runs the project's build command; its output goes to stderr.
fn build(project: &Project) -> Outcome {
    let Some((command, cwd)) = &project.build else { return Ok(()) };
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

fn read_module(main: &Path) -> Outcome<Vec<u8>> {
    let extension = main.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if matches!(extension, "ts" | "tsx" | "jsx" | "mts") {
        return Err(Failure::usage(format!("{} must be made JavaScript first", main.display())).hint(
            "`npx esbuild src/index.ts --bundle --format=esm --outfile=dist/worker.js`, as `[build] command` in wrangler.toml",
        ));
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

/// Brings variables and routes of the project file to a deployment that is there already.
fn bring_in(context: &Context, client: &Client, deployment: &Deployment, project: &Project) -> Outcome<Vec<String>> {
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
    for warning in &warnings {
        context.output.warn(warning);
    }
    Ok(warnings)
}

/// The version, or why the module is none that can run, with the place in the file.
fn accepted(upload: Upload, main: &Path, module: &[u8]) -> Outcome<Version> {
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
    let source = String::from_utf8_lossy(module);
    Err(match location {
        Some(Location { line, column }) => {
            let place = Place { file: main.display().to_string(), line, column: column.unwrap_or(1) };
            failure.message = format!("{place}: {}", failure.message);
            failure.at(place, &source)
        }
        None => {
            failure.message = format!("{}: {}", main.display(), failure.message);
            failure
        }
    })
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
        let failure = accepted(upload, Path::new("worker.js"), b"let a;\n  }\n").expect_err("refused");
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
        let failure = accepted(upload, Path::new("worker.js"), b"\xff").expect_err("refused");
        assert_eq!((failure.message.as_str(), failure.excerpt), ("worker.js: no fetch handler", None));
    }

    #[test]
    fn typescript_is_told_how_to_become_javascript() {
        let failure = read_module(Path::new("src/index.ts")).expect_err("not JavaScript");
        assert_eq!(failure.kind, Kind::Usage);
        assert!(failure.hint.is_some_and(|hint| hint.contains("esbuild")));
    }
}
