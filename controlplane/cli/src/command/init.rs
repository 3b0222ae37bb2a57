//! `init`: a Worker to begin with.

use std::io::Write;
use std::path::Path;

use serde_json::json;

use crate::args::InitArgs;
use crate::context::Context;
use crate::failure::{Failure, Kind, Outcome, io};
use crate::output::Ink;

const WORKER: &str = r#"export default {
  /**
   * Answers one request.
   * @param {Request} request
   * @param {Record<string, string>} env  variables of wrangler.toml and secrets of `selvage env set`
   * @param {{ waitUntil(promise: Promise<unknown>): void }} ctx
   */
  async fetch(request, env, ctx) {
    const url = new URL(request.url);
    console.log(request.method, url.pathname);
    if (url.pathname !== "/") {
      return new Response("Not found\n", { status: 404 });
    }
    return new Response(`${env.GREETING}\n`);
  },
};
"#;

/// Writes worker.js and wrangler.toml; touches no file that is there.
pub(crate) fn init(context: &Context, args: &InitArgs) -> Outcome {
    std::fs::create_dir_all(&args.dir).map_err(io("create", &args.dir))?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => crate::project::name_from(&std::fs::canonicalize(&args.dir).map_err(io("read", &args.dir))?)?,
    };
    model::rules::subdomain("name", &name).map_err(|error| Failure::usage(error.to_string()))?;
    let wrangler = format!(
        "name = \"{name}\"\nmain = \"worker.js\"\ncompatibility_date = \"2025-01-01\"\n\
         # routes = [\"example.com/*\"]\n\n[vars]\nGREETING = \"Hello from {name}\"\n"
    );
    let files = [("worker.js", WORKER), ("wrangler.toml", wrangler.as_str())];
    for (file, _) in files {
        let path = args.dir.join(file);
        if path.exists() {
            return Err(Failure::new(Kind::Conflict, format!("{} is there already", path.display())));
        }
    }
    for (file, text) in files {
        create(&args.dir.join(file), text)?;
    }
    let value = json!({"name": name, "dir": args.dir, "files": files.map(|(file, _)| file)});
    context.output.result(&value, |output| {
        let dir = args.dir.display();
        format!(
            "{} {dir}/worker.js and {dir}/wrangler.toml\nNext: selvage dev {dir}, then selvage deploy {dir}",
            output.ink(Ink::Green, "Made")
        )
    });
    Ok(())
}

fn create(path: &Path, text: &str) -> Outcome {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(io("write", path))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::output::{Colour, Output};
    use crate::project::Project;

    fn context(dir: &Path) -> Context {
        Context::new(Output::new(true, Colour::Never), None, None, Some(dir.join("config.toml"))).expect("a context")
    }

    #[test]
    fn what_it_makes_can_be_deployed_and_is_not_overwritten() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let args = InitArgs { dir: dir.path().join("shop"), name: None };
        init(&context(dir.path()), &args).expect("made");
        let project = Project::read(&args.dir, None).expect("a project");
        assert_eq!((project.name.as_str(), project.warnings), ("shop", Vec::new()));
        assert_eq!(project.vars["GREETING"], "Hello from shop");
        std::fs::write(args.dir.join("worker.js"), "mine").expect("a file");
        assert_eq!(init(&context(dir.path()), &args).expect_err("there").kind, Kind::Conflict);
        assert_eq!(std::fs::read_to_string(args.dir.join("worker.js")).expect("a file"), "mine");
    }

    #[test]
    fn names_must_be_labels() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let args = InitArgs { dir: PathBuf::from(dir.path()), name: Some("a\"\nb".into()) };
        assert_eq!(init(&context(dir.path()), &args).expect_err("bad").kind, Kind::Usage);
    }
}
