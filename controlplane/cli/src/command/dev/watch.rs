//! Whether the project's files have changed, by time and size: a look every tick at a few files costs nothing, and works on
//! every file system. Watched are the module and the project file; where a build command makes the module, the files of the
//! folder that it is run in instead of the module, [`SOURCES_MAX`] of them at most, without `node_modules` and hidden ones.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::project::Project;

/// Files watched for a build command.
const SOURCES_MAX: usize = 2_000;

/// What a file looked like; none if it was not there.
type Look = Option<(SystemTime, u64)>;

/// The module and the project file.
pub(crate) struct Watch {
    path: PathBuf,
    environment: Option<String>,
    seen: Vec<(PathBuf, Look)>,
}

impl Watch {
    /// Begins to watch the project at `path`.
    pub(crate) fn new(path: &Path, environment: Option<&str>) -> Watch {
        let mut watch = Watch { path: path.to_owned(), environment: environment.map(str::to_owned), seen: Vec::new() };
        watch.seen = watch.look();
        watch
    }

    /// Whether a file changed since the last call. A file that is away for a moment, as editors do when they save, does not count until
    /// it is back.
    pub(crate) fn changed(&mut self) -> bool {
        let now = self.look();
        if now == self.seen || now.iter().any(|(_, look)| look.is_none()) {
            return false;
        }
        self.seen = now;
        true
    }

    /// Takes what a build command made as seen.
    pub(crate) fn settle(&mut self) {
        if Project::read(&self.path, self.environment.as_deref()).is_ok_and(|project| project.build.is_some()) {
            self.seen = self.look();
        }
    }

    fn look(&self) -> Vec<(PathBuf, Look)> {
        // A project file that cannot be read now keeps the files of before in sight.
        let files = match Project::read(&self.path, self.environment.as_deref()) {
            Ok(Project { build: Some((_, cwd)), main, file, .. }) => {
                let mut files = sources(&cwd);
                files.retain(|source| *source != main);
                files.extend(file);
                files
            }
            Ok(project) => std::iter::once(project.main).chain(project.file).collect(),
            Err(_) => self.seen.iter().map(|(file, _)| file.clone()).collect::<Vec<_>>(),
        };
        let look = |file: &PathBuf| {
            let meta = std::fs::metadata(file).ok()?;
            Some((meta.modified().ok()?, meta.len()))
        };
        files.into_iter().map(|file| (file.clone(), look(&file))).collect()
    }
}

/// The files below `folder`, in a fixed order.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            if name == "node_modules" || name == "target" || name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
            if files.len() + folders.len() >= SOURCES_MAX {
                files.sort();
                return files;
            }
        }
    }
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_seen_once_and_absence_is_waited_out() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let main = dir.path().join("worker.js");
        std::fs::write(&main, "1").expect("a file");
        let mut watch = Watch::new(dir.path(), None);
        assert!(!watch.changed());
        std::fs::write(&main, "22").expect("a file");
        assert!(watch.changed());
        assert!(!watch.changed());
        std::fs::remove_file(&main).expect("removed");
        assert!(!watch.changed());
        std::fs::write(&main, "333").expect("a file");
        assert!(watch.changed());
        std::fs::write(dir.path().join("wrangler.toml"), "name = \"x\"\nmain = \"worker.js\"\n").expect("a file");
        assert!(watch.changed(), "a project file that comes is seen");
    }

    #[test]
    fn with_a_build_command_its_sources_are_watched_and_its_output_is_not() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(dir.path().join("src")).expect("a folder");
        let text = "main = \"out.js\"\n[build]\ncommand = \"true\"\n";
        for (file, text) in [("wrangler.toml", text), ("src/a.ts", "1"), ("out.js", "1")] {
            std::fs::write(dir.path().join(file), text).expect("a file");
        }
        let mut watch = Watch::new(dir.path(), None);
        std::fs::write(dir.path().join("out.js"), "22").expect("a file");
        assert!(!watch.changed());
        std::fs::write(dir.path().join("src/a.ts"), "22").expect("a file");
        assert!(watch.changed());
        std::fs::write(dir.path().join("src/made.ts"), "1").expect("a file");
        watch.settle();
        assert!(!watch.changed(), "what the build made is taken as seen");
    }
}
