//! What is desired, in the form that suits it: with all routes while they are few, else over a base of them.
//!
//! Owns the base: its file in a folder of the data directory, by its name, and when there is a new one. The store says which
//! base was made last and what has changed since, so that a change costs what it changes; a start opens the file and goes on.
//!
//! *Bounds:* `TRIES` bases for one publication. *Failures:* a base that cannot be kept on disk is used all the same, and made
//! again by the next start; a file that is damaged counts as none.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use base::id::DeploymentId as PlainId;
use model::DeploymentId;
use plan::{BaseBuilder, INLINE_MAX, PlanError};
use plane_abi::{BaseId, Lineage, RouteBase};
use store::{BaseRecord, DesiredState, RouteChange, Store};

use crate::publisher::PublishError;

/// Routes may come in bulk while a base is being made; then it is made once more, so often.
const TRIES: usize = 3;

/// What is to be compiled.
pub(crate) enum Desired {
    /// With all routes.
    Whole(DesiredState),
    /// With the routes of the base but for these.
    Over(DesiredState, Arc<RouteBase>, Vec<RouteChange>),
}

impl Desired {
    pub(crate) fn generation(&self) -> u64 {
        match self {
            Desired::Whole(state) | Desired::Over(state, ..) => state.generation,
        }
    }
}

/// The base of routes. See the module's text.
pub(crate) struct Bases {
    store: Store,
    folder: PathBuf,
    platform_domain: Arc<str>,
    base: Option<Arc<RouteBase>>,
    /// The file of the last process was looked for.
    opened: bool,
}

impl Bases {
    pub(crate) fn new(store: Store, folder: PathBuf, platform_domain: Arc<str>) -> Bases {
        Bases { store, folder, platform_domain, base: None, opened: false }
    }

    /// What is desired now. Of the versions on their way, those of the deployments in `going`.
    pub(crate) async fn desired(&mut self, going: &[DeploymentId]) -> Result<Desired, PublishError> {
        if !std::mem::replace(&mut self.opened, true) {
            self.base = self.open().await?;
        }
        for _ in 0..TRIES {
            if let Some(base) = self.base.take() {
                let (name, most) = (base.id().to_string(), plan::changes_max(&base));
                let over = self.store.desired_over_base(going, &name, &self.platform_domain, most).await?;
                if let Some((state, changes)) = over {
                    self.base = Some(Arc::clone(&base));
                    return Ok(Desired::Over(state, base, changes));
                }
            }
            if !self.store.routes_exceed(INLINE_MAX).await? {
                self.store.forget_route_base().await?;
                return Ok(Desired::Whole(self.store.desired_state(going).await?));
            }
            self.base = self.make().await?;
        }
        Err(PublishError::Compile("routes come faster than they can be compiled".to_owned()))
    }

    /// The base that was made last, by this process or the one before it.
    async fn open(&self) -> Result<Option<Arc<RouteBase>>, PublishError> {
        let Some(record) = self.store.route_base().await? else { return Ok(None) };
        let (path, lineage) = (self.folder.join(&record.name), Lineage(self.store.lineage()));
        let opened = tokio::task::spawn_blocking(move || (RouteBase::open(&path), path)).await;
        let (opened, path) = opened.map_err(|error| PublishError::Compile(error.to_string()))?;
        match opened {
            Ok(base) if base.id().to_string() == record.name && base.lineage() == lineage => {
                tracing::info!(base = record.name, routes = base.routes_len(), "the base of routes is on disk");
                Ok(Some(Arc::new(base)))
            }
            Ok(_) => Ok(None),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "no base of routes on disk: it is made again");
                Ok(None)
            }
        }
    }

    /// Makes a base of all routes, keeps it on disk and has the store note it. None: routes have come meanwhile that it has not.
    async fn make(&self) -> Result<Option<Arc<RouteBase>>, PublishError> {
        let begin = Instant::now();
        let failed = |error: PlanError| PublishError::Compile(error.to_string());
        let mut builder = BaseBuilder::new(Lineage(self.store.lineage()), &self.platform_domain).map_err(failed)?;
        let mut refused = None;
        let each = self.store.each_route(|deployment, pattern| {
            if let Err(error) = builder.add(PlainId(deployment.as_u128()), pattern) {
                refused.get_or_insert(error);
            }
        });
        let generation = each.await?;
        if let Some(error) = refused {
            return Err(failed(error));
        }
        let read = begin.elapsed();
        let folder = self.folder.clone();
        let made = tokio::task::spawn_blocking(move || {
            let base = builder.finish()?;
            let kept = keep(&folder, &base);
            Ok((base, kept))
        });
        let made = made.await.map_err(|error| PublishError::Compile(error.to_string()))?;
        let (base, kept) = made.map_err(failed)?;
        let (read_ms, all_ms) = (read.as_millis() as u64, begin.elapsed().as_millis() as u64);
        tracing::info!(generation, base = %base.id(), routes = base.routes_len(), read_ms, all_ms, "made a base of routes");
        let base = match kept {
            Ok(mapped) => mapped,
            Err(error) => {
                tracing::error!(folder = %self.folder.display(), %error, "the base of routes cannot be kept on disk");
                base
            }
        };
        let name = base.id().to_string();
        let record = BaseRecord { name, generation, platform_domain: self.platform_domain.to_string() };
        Ok(self.store.set_route_base(&record).await?.then(|| Arc::new(base)))
    }
}

/// Writes a base to its file, durably, and opens it there, so that it is not in memory twice. Others go.
fn keep(folder: &Path, base: &RouteBase) -> io::Result<RouteBase> {
    fs::create_dir_all(folder)?;
    let path = folder.join(base.id().to_string());
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(base.bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, &path)?;
    File::open(folder)?.sync_all()?;
    for entry in fs::read_dir(folder)? {
        let other = entry?.path();
        let name = other.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_base = name.parse::<BaseId>().is_ok() || name.ends_with(".tmp");
        if is_base && other != path {
            fs::remove_file(other)?;
        }
    }
    RouteBase::open(&path).map_err(io::Error::other)
}
