//! Many routes: a base of them all, and what states change of it.
//!
//! Up to [`INLINE_MAX`] routes stand in the snapshot itself. Above that a base is made ([`BaseBuilder`]), and snapshots say what
//! they change of it ([`compile_over`]), until that is more than [`changes_max`]: then a new base is made, which every node has to
//! fetch. So a changed route costs a node [`CHANGED_SHARE`] routes of a base at most, over time, and a snapshot is never heavier by
//! more than that share.
//!
//! A base may have routes of deployments that the state has not: they are no routes until it has them.
//! *Cost:* of a base that of all routes; of a snapshot over it that of its deployments and of the changes.

use std::sync::Arc;

use base::id::DeploymentId;
use plane_abi::pattern::Pattern;
use plane_abi::seal::Key;
use plane_abi::{ChangedRoute, Lineage, NewRoute, RouteBase, SnapshotError, SnapshotWriter};

use crate::compile::{DesiredState, PlanError, WriteErrorText, platform_domain, writer};
use crate::rules::check_pattern;

/// Routes in a snapshot without a base, and changes that no base is made anew for: 100 KB or less.
pub const INLINE_MAX: usize = 4096;
/// One in so many of the base's routes may be changed.
const CHANGED_SHARE: usize = 64;

/// Changes that a snapshot may have of a base.
pub fn changes_max(base: &RouteBase) -> usize {
    INLINE_MAX.max(base.routes_len() / CHANGED_SHARE)
}

/// A pattern that was changed since a base was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteChange {
    /// Any spelling.
    pub pattern: String,
    /// Where it leads now.
    pub deployment: Option<DeploymentId>,
}

/// Compiles a state whose routes are those of a base but for these patterns; `routes` of its deployments are not looked at.
pub fn compile_over(
    state: &DesiredState,
    base: Arc<RouteBase>,
    changes: &[RouteChange],
    env_key: &Key,
) -> Result<Vec<u8>, PlanError> {
    let platform = platform_domain(&state.platform_domain)?;
    let changed = changes.iter().map(|change| {
        let Pattern { host_kind, host, path_kind, path } = match change.deployment {
            Some(id) => {
                let refused = |error| PlanError::Route { id, pattern: change.pattern.clone(), error };
                check_pattern(&change.pattern, &platform).map_err(refused)?
            }
            // What leads nowhere may be anybody's.
            None => Pattern::parse(&change.pattern).map_err(|error| unreadable(&change.pattern, &error))?,
        };
        Ok(ChangedRoute { host_kind, host, path_kind, path, deployment: change.deployment })
    });
    let changed = changed.collect::<Result<_, PlanError>>()?;
    Ok(writer(state, env_key)?.over_changes(base, changed).finish()?)
}

/// Takes all routes, and makes a base of them.
pub struct BaseBuilder {
    platform: String,
    writer: SnapshotWriter,
}

impl BaseBuilder {
    /// Of no routes as yet.
    pub fn new(lineage: Lineage, platform_domain: &str) -> Result<BaseBuilder, PlanError> {
        let platform = self::platform_domain(platform_domain)?;
        let writer = SnapshotWriter::new(lineage, 0, 0, 0, &platform);
        Ok(BaseBuilder { platform, writer })
    }

    /// Adds a route; any spelling.
    pub fn add(&mut self, id: DeploymentId, written: &str) -> Result<(), PlanError> {
        let refused = |error| PlanError::Route { id, pattern: written.to_owned(), error };
        let Pattern { host_kind, host, path_kind, path } = check_pattern(written, &self.platform).map_err(refused)?;
        self.writer.route(NewRoute { host_kind, host, path_kind, path, deployment: id });
        Ok(())
    }

    /// The base, every record of it checked as nodes will: a bad one never leaves.
    pub fn finish(mut self) -> Result<RouteBase, PlanError> {
        let bytes = self.writer.base()?;
        drop(self.writer);
        let checked = RouteBase::from_vec(bytes).and_then(|base| base.verify().map(|()| base));
        checked.map_err(|error: SnapshotError| unreadable("base of routes", &error))
    }
}

fn unreadable(what: &str, error: &dyn std::fmt::Display) -> PlanError {
    PlanError::Write(WriteErrorText(format!("{what}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::tests::{deployment, state};
    use plane_abi::{HostKind, Snapshot};

    fn base_of(routes: &[(u128, &str)]) -> Arc<RouteBase> {
        let mut builder = BaseBuilder::new(Lineage(1), "workers.localhost").expect("a domain");
        for (id, pattern) in routes {
            builder.add(DeploymentId(*id), pattern).expect("a route");
        }
        Arc::new(builder.finish().expect("a base"))
    }

    fn leads_to(snapshot: &Snapshot, host: &str) -> Option<u32> {
        snapshot.host(HostKind::Exact, host.as_bytes()).and_then(|routes| routes.best(b"/")).map(|ix| ix.0)
    }

    #[test]
    fn a_state_over_a_base_has_what_changed_and_what_comes_into_service() {
        let key = Key::from_bytes([5; 32]);
        let base = base_of(&[(1, "a.example/*"), (2, "b.example/*"), (3, "later.example/*")]);
        let change = |pattern: &str, to: Option<u128>| RouteChange {
            pattern: pattern.to_owned(),
            deployment: to.map(DeploymentId),
        };
        let compile = |deployments: &[u128], changes: &[RouteChange]| {
            let deployments = deployments.iter().map(|id| deployment(*id, &format!("d{id}"), &[])).collect();
            let bytes = compile_over(&state(deployments), base.clone(), changes, &key).expect("compiles");
            Snapshot::from_vec_over(bytes, &|_| Ok(base.clone())).expect("opens")
        };
        let changes = [change("A.example/*", Some(2)), change("b.example/*", None), change("new.example/*", Some(1))];
        let two = compile(&[1, 2], &changes);
        let hosts = ["a.example", "b.example", "new.example", "later.example"];
        assert_eq!(hosts.map(|host| leads_to(&two, host)), [Some(1), None, Some(0), None]);
        assert_eq!(two.own_routes_len(), 3);
        let three = compile(&[1, 2, 3], &changes[..1]);
        assert_eq!(hosts.map(|host| leads_to(&three, host)), [Some(1), Some(1), None, Some(2)]);
        let one = compile(&[1], &changes);
        assert_eq!(hosts.map(|host| leads_to(&one, host)), [None, None, Some(0), None]);
    }

    #[test]
    fn what_may_not_be_a_route_comes_into_no_base_and_over_none() {
        let mut builder = BaseBuilder::new(Lineage(1), "workers.localhost").expect("a domain");
        let refused = builder.add(DeploymentId(1), "other.workers.localhost/*");
        assert!(matches!(refused, Err(PlanError::Route { .. })), "{refused:?}");
        assert!(BaseBuilder::new(Lineage(1), "a b").is_err());
        let base = base_of(&[(1, "a.example/*")]);
        let key = Key::from_bytes([5; 32]);
        let over = |pattern: &str, to: Option<u128>| {
            let change = RouteChange { pattern: pattern.to_owned(), deployment: to.map(DeploymentId) };
            compile_over(&state(vec![deployment(1, "one", &[])]), base.clone(), &[change], &key)
        };
        assert!(matches!(over("x.workers.localhost/*", Some(1)), Err(PlanError::Route { .. })));
        assert!(over("x.workers.localhost/*", None).is_ok(), "what leads nowhere does no harm");
        assert!(matches!(over("no path", None), Err(PlanError::Write(_))));
    }

    #[test]
    fn a_base_is_kept_for_some_thousand_changes_or_a_64th() {
        assert_eq!(changes_max(&base_of(&[(1, "a.example/*")])), INLINE_MAX);
        let many: Vec<String> = (0..INLINE_MAX * 100).map(|host| format!("h{host}.example/*")).collect();
        let many: Vec<(u128, &str)> = many.iter().map(|pattern| (1, pattern.as_str())).collect();
        assert_eq!(changes_max(&base_of(&many)), INLINE_MAX * 100 / CHANGED_SHARE);
    }
}
