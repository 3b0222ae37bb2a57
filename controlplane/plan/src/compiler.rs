//! `Compiler`: states one after the other, over a base of routes once there are many.
//!
//! Up to [`INLINE_MAX`] routes stand in the snapshot itself. Above that a base is made, and snapshots say what they change
//! of it, until that is more than one route in [`CHANGED_SHARE`] of the base's and more than [`INLINE_MAX`]: then a new base
//! is made, which every node has to fetch. So a changed route costs a node [`CHANGED_SHARE`] routes of a base at most, over
//! time, and a snapshot is never heavier by more than that share.
//!
//! Pure but for its state, which is the base: lost, it is made again, at the price of a fetch for each node.

use std::sync::Arc;

use plane_abi::seal::Key;
use plane_abi::{RouteBase, Snapshot, SnapshotError};

use crate::compile::{DesiredState, PlanError, WriteErrorText, writer};

/// Routes in a snapshot without a base, and changes that no base is made anew for: 100 KB or less.
const INLINE_MAX: usize = 4096;
/// One in so many of the base's routes may be changed.
const CHANGED_SHARE: usize = 64;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Compiler {
    base: Option<Arc<RouteBase>>,
}

/// A compiled state.
#[derive(Debug)]
pub struct Compiled {
    /// The snapshot.
    pub bytes: Vec<u8>,
    /// The base of routes that it names.
    pub base: Option<Arc<RouteBase>>,
}

impl Compiler {
    /// Compiles a state, as [`crate::compile`] does, in the form that suits what was compiled before.
    pub fn compile(&mut self, state: &DesiredState, env_key: &Key) -> Result<Compiled, PlanError> {
        let routes: usize = state.deployments.iter().map(|deployment| deployment.routes.len()).sum();
        self.base.take_if(|base| routes <= INLINE_MAX || base.lineage() != state.lineage);
        if routes > INLINE_MAX && self.base.is_none() {
            self.base = Some(make_base(state, env_key)?);
        }
        let bytes = writer(state, env_key)?.over(self.base.clone()).finish()?;
        let Some(base) = self.base.clone() else { return Ok(Compiled { bytes, base: None }) };
        let find = |_| Ok(Arc::clone(&base));
        let snapshot = Snapshot::from_vec_over(bytes, &find).map_err(unreadable)?;
        if snapshot.own_routes_len() <= INLINE_MAX.max(base.routes_len() / CHANGED_SHARE) {
            return Ok(Compiled { bytes: snapshot.into_bytes(), base: Some(base) });
        }
        self.base = Some(make_base(state, env_key)?);
        let bytes = writer(state, env_key)?.over(self.base.clone()).finish()?;
        Ok(Compiled { bytes, base: self.base.clone() })
    }
}

fn make_base(state: &DesiredState, env_key: &Key) -> Result<Arc<RouteBase>, PlanError> {
    let bytes = writer(state, env_key)?.base()?;
    let base = RouteBase::from_vec(bytes).map_err(unreadable)?;
    // As nodes will: a bad one never leaves.
    base.verify().map_err(unreadable)?;
    Ok(Arc::new(base))
}

fn unreadable(error: SnapshotError) -> PlanError {
    PlanError::Write(WriteErrorText(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::tests::{deployment, state};

    fn routes(count: usize, moved: usize) -> DesiredState {
        let hosts = |from: usize, to: usize| (from..to).map(|host| format!("h{host}.example.com/*")).collect();
        let (mut one, mut two) = (deployment(1, "one", &[]), deployment(2, "two", &[]));
        (one.routes, two.routes) = (hosts(moved, count), hosts(0, moved));
        state(vec![one, two])
    }

    #[test]
    fn few_routes_stand_in_the_snapshot_many_in_a_base_that_stays_until_much_has_changed() {
        let (mut compiler, key) = (Compiler::default(), Key::from_bytes([5; 32]));
        let mut compile = |count, moved| {
            let state = routes(count, moved);
            let Compiled { bytes, base } = compiler.compile(&state, &key).expect("compiles");
            let find = |id| base.clone().ok_or(SnapshotError::NoBase(id));
            let snapshot = Snapshot::from_vec_over(bytes, &find).expect("opens");
            // Whatever the form: every route leads where the state says.
            for host in [0, 1, moved.saturating_sub(1), moved, count - 1] {
                let found = snapshot.host(plane_abi::HostKind::Exact, format!("h{host}.example.com").as_bytes());
                let place = found.and_then(|routes| routes.best(b"/")).map(|ix| ix.0);
                assert_eq!(place, Some(u32::from(host < moved)), "host {host}");
            }
            (base.map(|base| base.id()), snapshot.own_routes_len())
        };
        assert_eq!(compile(INLINE_MAX, 0), (None, INLINE_MAX));
        let (first, own) = compile(2 * INLINE_MAX, 0);
        assert!(first.is_some() && own == 0);
        assert_eq!(compile(2 * INLINE_MAX, 10), (first, 10));
        assert_eq!(compile(2 * INLINE_MAX + 5, 10), (first, 15));
        assert_eq!(compile(2 * INLINE_MAX, INLINE_MAX), (first, INLINE_MAX));
        let (second, own) = compile(2 * INLINE_MAX, INLINE_MAX + 1);
        assert!(second.is_some() && second != first && own == 0);
        assert_eq!(compile(100, 0), (None, 100));
    }
}
