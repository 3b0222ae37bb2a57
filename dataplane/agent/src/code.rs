//! The maker of code caches: compiles, on a thread of its own, what a Worker had to start without.
//!
//! The control plane sends a module's compiled code with it as a rule. Where it has none, where what it has is of another V8,
//! and where a file on disk is damaged, the Worker compiles from source and asks for the code ([`CodeStore::want`]); it is
//! made here once, so that the next start is fast again. Nothing of the module runs for that.
//!
//! *Bounds:* a queue of [`QUEUE_MAX`]; [`TRIES_MAX`] times for one module in the life of the process, so that code that V8 keeps
//! refusing is not made for ever. *Thread:* its own, because a large module takes a second; ended and joined with the agent.

use std::{
    collections::HashMap,
    fmt, fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use base::id::ArtifactHash;
use plane_abi::code::{CodeEngine, CodeStore, pack};
use plane_abi::plane::{artifact_hash, artifact_path};

/// Modules whose code is to be made.
pub(crate) const QUEUE_MAX: usize = 1024;
const TRIES_MAX: u32 = 3;
/// Modules whose tries are remembered; past it all are forgotten.
const TRIED_MAX: usize = 16 * 1024;
/// How soon the thread notices that it is to end.
const STOP_POLL: Duration = Duration::from_millis(100);

/// Compiles every function of a module: V8's code cache, if it can be had.
pub type Compile = Arc<dyn Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync>;

/// How code caches are made and which V8 they are for.
#[derive(Clone)]
pub struct CodeConfig {
    /// The V8 of this process.
    pub engine: CodeEngine,
    /// Called on a thread of the agent's.
    pub compile: Compile,
}

impl fmt::Debug for CodeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeConfig").field("engine", &self.engine).finish_non_exhaustive()
    }
}

/// Makes code caches until it is dropped.
pub(crate) struct Maker {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Maker {
    pub(crate) fn start(
        store: Arc<CodeStore>,
        artifacts: PathBuf,
        compile: Compile,
        wanted: Receiver<ArtifactHash>,
        made: Arc<AtomicU64>,
    ) -> std::io::Result<Maker> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = move || {
            let mut tried = HashMap::new();
            while !stopped.load(Relaxed) {
                match wanted.recv_timeout(STOP_POLL) {
                    Ok(artifact) => {
                        let made_one = make(&store, &artifacts, &compile, &mut tried, artifact);
                        made.fetch_add(u64::from(made_one), Relaxed);
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        let thread = thread::Builder::new().name("code".to_owned()).spawn(work)?;
        Ok(Maker { stop, thread: Some(thread) })
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the maker of code caches panicked");
        }
    }
}

/// Makes the code of one module; false: it is there, cannot be had, or was tried often enough.
fn make(
    store: &CodeStore,
    artifacts: &Path,
    compile: &Compile,
    tried: &mut HashMap<ArtifactHash, u32>,
    artifact: ArtifactHash,
) -> bool {
    // Asked for by several shards, or the control plane's has come meanwhile.
    if store.load(artifact).is_ok() {
        return false;
    }
    if tried.len() >= TRIED_MAX {
        tried.clear();
    }
    let tries = tried.entry(artifact).or_default();
    *tries += 1;
    if *tries > TRIES_MAX {
        return false;
    }
    let module = fs::read(artifact_path(artifacts, artifact)).ok().filter(|bytes| artifact_hash(bytes) == artifact);
    let Some(code) = module.and_then(|module| compile(&module)) else { return false };
    match pack(store.engine(), artifact, &code).and_then(|envelope| store.store(artifact, &envelope)) {
        Ok(()) => {
            tracing::info!(%artifact, bytes = code.len(), "code cache made");
            true
        }
        Err(error) => {
            tracing::warn!(%artifact, %error, "cannot keep a code cache");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plane_abi::seal::Key;
    use std::sync::mpsc::sync_channel;
    use std::time::Instant;

    const MODULE: &[u8] = b"export default {}";

    fn soon(what: &str, done: impl Fn() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < Duration::from_secs(10), "{what}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn what_is_wanted_is_made_once_and_not_for_ever() {
        let folder = tempfile::tempdir().expect("folder");
        let artifact = artifact_hash(MODULE);
        fs::write(artifact_path(folder.path(), artifact), MODULE).expect("written");
        let code = folder.path().join("code");
        fs::create_dir(&code).expect("made");
        let engine = CodeEngine { version: "1".to_owned(), tag: 1 };
        let (wanted, receiver) = sync_channel(QUEUE_MAX);
        let store = Arc::new(CodeStore::new(code, engine, &Key::from_bytes([1; 32]), wanted).expect("a page"));
        let made = Arc::new(AtomicU64::new(0));
        let calls = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&calls);
        let compile: Compile = Arc::new(move |module| {
            counted.fetch_add(1, Relaxed);
            Some([b"code of ", module].concat())
        });
        let maker = Maker::start(Arc::clone(&store), folder.path().to_owned(), compile, receiver, Arc::clone(&made));
        let maker = maker.expect("starts");
        assert_eq!(store.take(artifact), None);
        soon("it is made", || store.load(artifact).is_ok());
        assert_eq!(store.take(artifact).as_deref(), Some(&b"code of export default {}"[..]));
        // Asked for again while it is there: nothing to do. Rejected for ever: given up after some.
        store.want(artifact);
        for round in 1..=5 {
            store.rejected(artifact);
            if round < TRIES_MAX {
                soon("it is made again", || store.load(artifact).is_ok());
                assert!(store.take(artifact).is_some());
            }
        }
        // A module that is not on disk, then the end.
        store.want(ArtifactHash([9; 32]));
        thread::sleep(STOP_POLL);
        drop(maker);
        assert_eq!((calls.load(Relaxed), made.load(Relaxed)), (TRIES_MAX.into(), TRIES_MAX.into()));
    }
}
