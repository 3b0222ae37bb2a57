//! The routes of a snapshot itself: all of them, or what they differ by from a base.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use base::id::DeploymentId;

use super::base::RouteBase;
use super::build::{self, RouteSet, TableWriter};
use super::trie::{self, Leaf};
use super::{Host, Table};
use crate::layout::name_hash;
use crate::snapshot::{HostKind, PathKind};
use crate::writer::{ChangedRoute, WriteError};

/// A pattern of the base that leads nowhere: taken away.
pub(crate) const REMOVED: u32 = 0;

/// One host's pattern with its owner's target, whichever table it comes from.
type Owned = (Vec<u8>, PathKind, u32);

/// Writes the table of a sorted set, `targets` by owner's number; with a base, of what differs from it. `deployments` are
/// those of the snapshot, ascending: a target is a place among them plus one, and a base's route to none of them is none.
pub(crate) fn write(
    set: &RouteSet,
    targets: &[u32],
    base: Option<&RouteBase>,
    deployments: &[DeploymentId],
) -> Result<Vec<u8>, WriteError> {
    let Some(base) = base else {
        let mut table = TableWriter::new(targets.iter().copied().max().unwrap_or(0));
        let mut leaves: Vec<Leaf<'_>> = Vec::new();
        for run in set.runs() {
            leaves.clear();
            leaves.extend(set.leaves(run).map(|leaf| Leaf { target: targets[leaf.target as usize], ..leaf }));
            let (kind, hash, host) = set.host_of(run);
            table.host(kind, hash, host, &leaves);
        }
        return table.finish();
    };
    let place = |id: DeploymentId| deployments.binary_search(&id).map_or(REMOVED, |place| place as u32 + 1);
    let places: Vec<u32> = base.targets().map(place).collect();
    let mut changes = Changes { base, places, hosts: Vec::new() };
    changes.collect(set, targets);
    changes.write()
}

/// Writes the table of what a base's routes become by these changes alone: the same bytes as [`write()`] over all routes. Reads of
/// the base what the changes are about.
pub(crate) fn write_changes(
    changes: &[ChangedRoute],
    base: &RouteBase,
    deployments: &[DeploymentId],
) -> Result<Vec<u8>, WriteError> {
    let place = |id: DeploymentId| deployments.binary_search(&id).map_or(REMOVED, |place| place as u32 + 1);
    let (table, bytes) = base.table();
    let lineage = base.lineage().0;
    let mut hosts: BTreeMap<HostKey, BTreeMap<(&[u8], PathKind), &ChangedRoute>> = BTreeMap::new();
    for change in changes {
        build::check((change.host_kind, &change.host), (change.path_kind, &change.path))?;
        let hash = name_hash(lineage, change.host_kind.code(), change.host.as_bytes());
        let host = hosts.entry((change.host_kind, hash, change.host.clone().into_bytes())).or_default();
        if let Some(other) = host.insert((change.path.as_bytes(), change.path_kind), change)
            && other.deployment != change.deployment
        {
            return Err(contradiction(other, change));
        }
    }
    let targets: Vec<DeploymentId> = base.targets().collect();
    let mut changed = Changes { base, places: Vec::new(), hosts: Vec::new() };
    for ((kind, hash, host), routes) in hosts {
        let tree = table.find(bytes, kind, hash, &host);
        let led_to = |path: &[u8], kind| {
            let at = trie::matches(tree?, table.width(), path).find(|(rank, _)| *rank == (path.len(), kind));
            at.and_then(|(_, target)| targets.get(target as usize)).copied()
        };
        let differ = routes.into_iter().filter_map(|((path, kind), change)| {
            let leads_to = change.deployment.map_or(REMOVED, place);
            (leads_to != led_to(path, kind).map_or(REMOVED, place)).then(|| (path.to_vec(), kind, leads_to))
        });
        let differ: Vec<Owned> = differ.collect();
        if !differ.is_empty() {
            changed.hosts.push(((kind, hash, host), differ));
        }
    }
    changed.write()
}

/// One pattern, changed to two things.
fn contradiction(one: &ChangedRoute, other: &ChangedRoute) -> WriteError {
    let route = build::text(one.host_kind, one.host.as_bytes(), one.path_kind, one.path.as_bytes());
    match (one.deployment.min(other.deployment), one.deployment.max(other.deployment)) {
        (Some(first), Some(second)) => WriteError::RouteConflict { route, first, second },
        _ => WriteError::Route(route),
    }
}

/// A host in the table's order: its kind, the hash of its name, its name.
type HostKey = (HostKind, u64, Vec<u8>);

/// What differs, host by host in the order of a table.
struct Changes<'a> {
    base: &'a RouteBase,
    /// By the base's target: the snapshot's.
    places: Vec<u32>,
    hosts: Vec<(HostKey, Vec<Owned>)>,
}

impl Changes<'_> {
    fn collect(&mut self, set: &RouteSet, targets: &[u32]) {
        let (table, bytes) = self.base.table();
        let lineage = self.base.lineage().0;
        let of_base = [HostKind::Exact, HostKind::Wildcard].into_iter().flat_map(|kind| {
            table.hosts(bytes, kind).map(move |Host { host, tree }| {
                let hash = name_hash(lineage, kind.code(), host);
                ((kind, hash, host), tree)
            })
        });
        let mut of_base = of_base.peekable();
        let mut new = Vec::new();
        for run in set.runs() {
            let key = set.host_of(run);
            while let Some((gone, tree)) = of_base.next_if(|(other, _)| *other < key) {
                self.host(table, gone, Some(tree), &[]);
            }
            let tree = of_base.next_if(|(other, _)| *other == key).map(|(_, tree)| tree);
            new.clear();
            new.extend(set.leaves(run).map(|leaf| Leaf { target: targets[leaf.target as usize], ..leaf }));
            self.host(table, key, tree, &new);
        }
        for (gone, tree) in of_base {
            self.host(table, gone, Some(tree), &[]);
        }
    }

    fn host(&mut self, table: &Table, key: (HostKind, u64, &[u8]), tree: Option<&[u8]>, new: &[Leaf<'_>]) {
        let mut changed: Vec<Owned> = Vec::new();
        let mut new = new.iter().peekable();
        let mut add = |leaf: &Leaf<'_>, target| changed.push((leaf.path.to_vec(), leaf.kind, target));
        if let Some(tree) = tree {
            trie::visit(tree, table.width(), &mut |old| {
                let order = |leaf: &&&Leaf<'_>| (leaf.path, leaf.kind).cmp(&(old.path, old.kind));
                while let Some(leaf) = new.next_if(|leaf| order(&leaf) == Ordering::Less) {
                    add(leaf, leaf.target);
                }
                let led_to = self.places.get(old.target as usize).copied().unwrap_or(REMOVED);
                let leads_to = new.next_if(|leaf| order(&leaf) == Ordering::Equal).map_or(REMOVED, |leaf| leaf.target);
                if leads_to != led_to {
                    add(&old, leads_to);
                }
            });
        }
        for leaf in new {
            add(leaf, leaf.target);
        }
        if !changed.is_empty() {
            let (kind, hash, host) = key;
            self.hosts.push(((kind, hash, host.to_vec()), changed));
        }
    }

    fn write(&self) -> Result<Vec<u8>, WriteError> {
        let targets = self.hosts.iter().flat_map(|(_, changed)| changed.iter().map(|(_, _, target)| *target));
        let mut table = TableWriter::new(targets.max().unwrap_or(0));
        for ((kind, hash, host), changed) in &self.hosts {
            let leaves: Vec<Leaf<'_>> =
                changed.iter().map(|(path, kind, target)| Leaf { path, kind: *kind, target: *target }).collect();
            table.host(*kind, *hash, host, &leaves);
        }
        table.finish()
    }
}
