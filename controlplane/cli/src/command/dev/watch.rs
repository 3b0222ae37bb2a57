//! Whether the project's files have changed, by time and size: a look every tick at some hundred files costs next to nothing, and works on
//! every file system. Watched are the files that went into the bundle, packages aside, the project file, `package.json` and `tsconfig.json`; where a build command
//! makes the module its folders; and where the last bundle failed, so that what it lacks may be any file, all of the project: [`SOURCES_MAX`] files at most, without
//! `node_modules` and hidden ones.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::project::{Build, Project};
use crate::wrangler::FILES;

/// Files watched for a build command.
const SOURCES_MAX: usize = 2_000;

/// What a file looked like; none if it was not there.
type Look = Option<(SystemTime, u64)>;

/// A file that is away for longer is gone; editors take it away for a moment when they save.
const GONE_AFTER: Duration = Duration::from_millis(300);

/// The project's files.
pub(crate) struct Watch {
    path: PathBuf,
    environment: Option<String>,
    /// What the last bundle was made of; none if it failed.
    inputs: Option<Vec<PathBuf>>,
    seen: Vec<(PathBuf, Look)>,
    /// Since when a file that was there is away.
    away: Option<Instant>,
}

impl Watch {
    /// Begins to watch the project at `path`.
    pub(crate) fn new(path: &Path, environment: Option<&str>) -> Watch {
        let environment = environment.map(str::to_owned);
        let mut watch = Watch { path: path.to_owned(), environment, inputs: None, seen: Vec::new(), away: None };
        watch.seen = watch.look();
        watch
    }

    /// Whether a file changed since the last call.
    pub(crate) fn changed(&mut self) -> bool {
        let now = self.look();
        if now == self.seen {
            self.away = None;
            return false;
        }
        let there = |file: &Path| self.seen.iter().any(|(seen, look)| seen == file && look.is_some());
        if now.iter().any(|(file, look)| look.is_none() && there(file)) {
            let since = *self.away.get_or_insert_with(Instant::now);
            if since.elapsed() < GONE_AFTER {
                return false;
            }
        }
        self.away = None;
        self.seen = now;
        true
    }

    /// From now on these are what the module is made of; none: it could not be made. What a build command made in the meantime is no change;
    /// what the author saved in the meantime is.
    pub(crate) fn settle(&mut self, inputs: Option<&[PathBuf]>) {
        self.inputs = inputs.map(<[PathBuf]>::to_vec);
        let built = Project::read(&self.path, self.environment.as_deref()).is_ok_and(|project| project.build.is_some());
        let before = std::mem::take(&mut self.seen);
        self.seen = self.look();
        if !built {
            for (file, look) in &mut self.seen {
                if let Some((_, old)) = before.iter().find(|(seen, _)| seen == file) {
                    *look = *old;
                }
            }
        }
    }

    fn look(&self) -> Vec<(PathBuf, Look)> {
        let look = |file: &PathBuf| {
            let meta = std::fs::metadata(file).ok()?;
            Some((meta.modified().ok()?, meta.len()))
        };
        let mut files = self.files();
        files.sort_unstable();
        files.dedup();
        files.into_iter().map(|file| (file.clone(), look(&file))).collect()
    }

    fn files(&self) -> Vec<PathBuf> {
        let folder = if self.path.is_dir() { self.path.as_path() } else { Path::new(".") };
        let (folder, mut files) = match Project::read(&self.path, self.environment.as_deref()) {
            Ok(Project { build: Some(Build { watch, cwd, .. }), main, folder, .. }) => {
                let mut files: Vec<PathBuf> =
                    watch.iter().filter(|dir| dir.is_dir()).flat_map(|dir| sources(dir)).collect();
                if files.is_empty() {
                    files = sources(&cwd);
                }
                files.retain(|source| *source != main);
                (folder, files)
            }
            Ok(project) => match &self.inputs {
                Some(inputs) => (project.folder, inputs.clone()),
                None if project.file.is_some() => (project.folder.clone(), sources(&project.folder)),
                None => (project.folder, vec![project.main]),
            },
            // What cannot be read now keeps the files of before in sight, and any other may be what mends it.
            Err(_) => {
                let mut files: Vec<PathBuf> = self.seen.iter().map(|(file, _)| file.clone()).collect();
                files.extend(if self.path.is_dir() { sources(folder) } else { Vec::new() });
                (folder.to_owned(), files)
            }
        };
        files.extend(FILES.iter().chain(&["package.json", "tsconfig.json"]).map(|name| folder.join(name)));
        files.extend(super::vars::file(&folder, self.environment.as_deref()));
        files
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
        watch.settle(Some(std::slice::from_ref(&main)));
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
        std::fs::remove_file(&main).expect("removed");
        assert!(!watch.changed());
        std::thread::sleep(GONE_AFTER);
        assert!(watch.changed(), "it is gone for good");
    }

    #[test]
    fn what_went_into_the_bundle_is_watched_and_after_a_failure_everything() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(dir.path().join("src")).expect("a folder");
        let file = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).expect("a file");
            dir.path().join(name)
        };
        file("wrangler.toml", "main = \"src/a.ts\"\n");
        let inputs = [file("src/a.ts", "1"), file("src/b.ts", "1")];
        file("src/c.ts", "1");
        let mut watch = Watch::new(dir.path(), None);
        watch.settle(Some(&inputs));
        file("src/c.ts", "22");
        assert!(!watch.changed(), "it is not part of the bundle");
        file("src/b.ts", "22");
        assert!(watch.changed());
        // Saved while it was being bundled.
        file("src/b.ts", "333");
        watch.settle(Some(&inputs));
        assert!(watch.changed());
        watch.settle(None);
        file("src/new.ts", "1");
        assert!(watch.changed(), "what was missing has come");
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
        watch.settle(None);
        assert!(!watch.changed(), "what the build made is taken as seen");
    }
}
