//! Which crate may depend on which: the arrows of `docs/ARCHITECTURE.md` as a list.
//!
//! A new crate or arrow is a decision: it is written down in `docs/decisions/` and then here. Dependencies for a crate's own tests
//! are held to the same planes but not to the list, except for the crates that only one of ours may name.

use super::metadata::Metadata;

/// Crate, and all of ours that it may name.
const ARROWS: &[(&str, &[&str])] = &[
    // data plane
    ("base", &[]),
    ("pkey", &[]),
    ("plane-abi", &["base", "pkey"]),
    ("route", &["base", "plane-abi"]),
    ("h1", &["base"]),
    ("websocket", &["base"]),
    ("isolate", &["base", "pkey"]),
    ("worker-api", &["base", "isolate"]),
    ("shard", &["base", "plane-abi", "route", "h1", "websocket", "isolate", "worker-api"]),
    ("agent", &["base", "plane-abi", "pkey"]),
    ("node", &["base", "plane-abi", "pkey", "shard", "agent", "steer", "isolate", "worker-api"]),
    // eBPF
    ("programs", &[]),
    ("steer", &["programs", "plane-abi"]),
    // control plane
    ("model", &[]),
    ("plan", &["base", "plane-abi", "route", "model"]),
    ("store", &["plane-abi", "model"]),
    ("push", &["base", "plane-abi"]),
    ("api", &["base", "plane-abi", "model", "plan", "store", "push"]),
    ("control", &["base", "plane-abi", "model", "plan", "store", "push", "api"]),
    ("cli", &["model"]),
    // tools: they run the processes and look at formats, and nothing depends on them
    ("bench", &["base", "h1", "plane-abi", "route", "worker-api", "steer", "e2e"]),
    ("e2e", &["base", "model", "plane-abi"]),
    ("xtask", &[]),
];

/// A dependency from outside that one crate of ours alone may name.
const SOLE_OWNERS: &[(&str, &str)] = &[("glommio", "shard"), ("v8", "isolate"), ("aya", "steer")];

/// Executors and their sockets have no place in crates that promise to be sans-IO.
const SANS_IO: &[&str] = &["base", "route", "h1", "websocket", "worker-api", "plan", "model"];
const EXECUTORS: &[&str] = &["tokio", "glommio", "async-std", "smol", "mio", "hyper", "ureq"];

/// Everything that points where it must not.
pub(super) fn findings(metadata: &Metadata) -> Vec<String> {
    let mut findings = Vec::new();
    for package in &metadata.packages {
        let name = package.name.as_str();
        let Some((_, allowed)) = ARROWS.iter().find(|(it, _)| *it == name) else {
            findings.push(format!(
                "`{name}` is not in the list of crates (a decision, then a line in xtask/src/tidy/arrows.rs)"
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let to = dependency.name.as_str();
            if let Some((_, owner)) = SOLE_OWNERS.iter().find(|(it, _)| *it == to)
                && *owner != name
            {
                findings.push(format!("`{name}` names `{to}`, which only `{owner}` may"));
            }
            if SANS_IO.contains(&name) && EXECUTORS.contains(&to) && !dependency.is_dev() {
                findings.push(format!("`{name}` is sans-IO and names `{to}`"));
            }
            if dependency.path.is_none() {
                continue;
            }
            let target = metadata.packages.iter().find(|it| it.name == to).map(|it| it.plane(metadata));
            if package.plane(metadata) == "dataplane" && !matches!(target.as_deref(), Some("dataplane" | "ebpf")) {
                findings.push(format!("`{name}` of the data plane names `{to}`, which is not of the data plane"));
            } else if !dependency.is_dev() && !allowed.contains(&to) {
                findings.push(format!("`{name}` -> `{to}` is not among the promised arrows"));
            }
        }
    }
    for (name, _) in ARROWS {
        if !metadata.packages.iter().any(|it| it.name == *name) {
            findings.push(format!("`{name}` is in the list of crates but not in the workspace"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::metadata::testing::workspace;

    /// Findings about the given crates, without those about crates that the small workspace lacks.
    fn check(packages: &[(&str, &[&str])], expect: &[&str]) {
        let found = findings(&workspace(packages));
        let found: Vec<&String> = found.iter().filter(|it| !it.contains("not in the workspace")).collect();
        assert_eq!(found.len(), expect.len(), "{found:?}");
        for (found, expect) in found.iter().zip(expect) {
            assert!(found.contains(expect), "{found:?} should say {expect:?}");
        }
    }

    #[test]
    fn promised_arrows_pass() {
        let base: (&str, &[&str]) = ("dataplane/base", &[]);
        check(&[base, ("dataplane/h1", &["base", "bytes"])], &[]);
        check(&[base, ("dataplane/shard", &["base", "glommio"])], &[]);
        check(&[base, ("dataplane/route", &["base"]), ("dataplane/h1", &["base", "dev:route"])], &[]);
    }

    #[test]
    fn each_wrong_arrow_is_found() {
        let base: (&str, &[&str]) = ("dataplane/base", &[]);
        let route: (&str, &[&str]) = ("dataplane/route", &[]);
        check(&[base, route, ("dataplane/h1", &["route"])], &["`h1` -> `route` is not"]);
        check(&[("controlplane/model", &[]), ("dataplane/agent", &["model"])], &["not of the data plane"]);
        check(&[("controlplane/model", &[]), ("dataplane/agent", &["dev:model"])], &["not of the data plane"]);
        check(&[("dataplane/agent", &["glommio"])], &["only `shard` may"]);
        check(&[("dataplane/agent", &["dev:v8"])], &["only `isolate` may"]);
        check(&[("dataplane/h1", &["tokio"])], &["sans-IO and names `tokio`"]);
        check(&[("dataplane/novelty", &[])], &["`novelty` is not in the list"]);
    }

    #[test]
    fn a_crate_that_is_gone_is_found() {
        let found = findings(&workspace(&[("dataplane/base", &[])]));
        assert_eq!(found.len(), ARROWS.len() - 1);
    }
}
