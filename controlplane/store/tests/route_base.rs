//! Base and changes together are always the routes in force.

use std::collections::{BTreeMap, BTreeSet};

mod support;

use model::{DeploymentId, PatchNode, RolloutStatus};
use store::{BaseRecord, NewDeployment, NewRoute, Page, Store, VersionRef};
use support::Home;

const DOMAIN: &str = "workers.localhost";

fn route(pattern: &str) -> NewRoute {
    NewRoute { pattern: pattern.to_owned(), zone_id: None, enabled: true }
}

struct Place {
    _home: Home,
    store: Store,
    project: model::ProjectId,
}

impl Place {
    async fn new(home: Home) -> Place {
        let store = home.store().await;
        let (account, _) = store.bootstrap("admin@example.com").await.unwrap().unwrap();
        let request = model::CreateProject { name: "p".to_owned(), slug: Some("p".to_owned()) };
        let project = store.create_project(account.id, &request).await.unwrap();
        Place { _home: home, store, project: project.id }
    }

    async fn deployment(&self, subdomain: &str, routes: &[&str]) -> DeploymentId {
        let new = NewDeployment {
            name: subdomain.to_owned(),
            subdomain: subdomain.to_owned(),
            routes: routes.iter().map(|pattern| route(pattern)).collect(),
            env_vars: BTreeMap::new(),
            bindings: model::Bindings::default(),
        };
        self.store.create_deployment(self.project, &new).await.unwrap().id
    }

    /// Notes a base of what is in force now.
    async fn base(&self, name: &str) -> BTreeMap<String, DeploymentId> {
        let mut routes = BTreeMap::new();
        let take = |deployment, pattern: &str| _ = routes.insert(pattern.to_owned(), deployment);
        let generation = self.store.each_route(take).await.unwrap();
        let record = BaseRecord { name: name.to_owned(), generation, platform_domain: DOMAIN.to_owned() };
        assert!(self.store.set_route_base(&record).await.unwrap());
        assert_eq!(self.store.route_base().await.unwrap(), Some(record));
        routes
    }

    async fn changes(&self, name: &str) -> Option<Vec<(String, Option<DeploymentId>)>> {
        let over = self.store.desired_over_base(&[], name, DOMAIN, 3).await.unwrap();
        over.map(|(_, changes)| changes.into_iter().map(|change| (change.pattern, change.deployment)).collect())
    }
}

#[tokio::test]
async fn every_way_to_change_a_route_is_noted() {
    for home in Home::both("changes of routes") {
        changes_are_noted(&Place::new(home).await).await;
    }
}

async fn changes_are_noted(place: &Place) {
    let one = place.deployment("one", &["a.example/*", "b.example/*"]).await;
    let base = place.base("first").await;
    assert_eq!(base.keys().collect::<Vec<_>>(), ["a.example/*", "b.example/*"], "those of drafts, too");
    assert_eq!(place.changes("first").await, Some(vec![]));
    let two = place.deployment("two", &["new.example/*"]).await;
    assert_eq!(place.changes("first").await, Some(vec![("new.example/*".to_owned(), Some(two))]));
    let routes = place.store.routes(one, &Page::default()).await.unwrap();
    let by = |pattern: &str| routes.iter().find(|route| route.pattern == pattern).unwrap().id;
    place.store.set_route_enabled(one, by("a.example/*"), false).await.unwrap();
    place.store.delete_route(one, by("b.example/*")).await.unwrap();
    let expected = [("a.example/*", None), ("b.example/*", None), ("new.example/*", Some(two))];
    let expected: Vec<_> = expected.iter().map(|(pattern, to)| (pattern.to_string(), *to)).collect();
    assert_eq!(place.changes("first").await, Some(expected));
    place.store.add_route(two, &route("b.example/*")).await.unwrap();
    place.store.set_route_enabled(one, by("a.example/*"), true).await.unwrap();
    let now: BTreeSet<_> = place.changes("first").await.unwrap().into_iter().collect();
    assert!(
        now.contains(&("b.example/*".to_owned(), Some(two))) && now.contains(&("a.example/*".to_owned(), Some(one)))
    );
    place.store.add_route(two, &route("c.example/*")).await.unwrap();
    assert_eq!(place.changes("first").await, None, "more than three");
    assert_eq!(place.changes("another").await, None);
    assert_eq!(place.base("second").await.len(), 4);
    assert_eq!((place.changes("first").await, place.changes("second").await), (None, Some(vec![])));
    let other_domain = place.store.desired_over_base(&[], "second", "elsewhere.example", 3).await.unwrap();
    assert!(other_domain.is_none(), "its patterns were checked against another domain");
}

#[tokio::test]
async fn after_many_routes_at_once_no_base_from_before_counts() {
    for home in Home::both("many routes at once") {
        bulk_raises_the_floor(&Place::new(home).await).await;
    }
}

async fn bulk_raises_the_floor(place: &Place) {
    let one = place.deployment("one", &["a.example/*"]).await;
    place.base("first").await;
    // One that was begun before and is done after.
    let begun = place.store.each_route(|_, _| ()).await.unwrap();
    let many: Vec<_> = ["a.example/*", "b.example/*", "c.example/*"].map(|pattern| (one, route(pattern))).into();
    assert_eq!(place.store.import_routes(many).await.unwrap(), 2, "one was taken");
    assert_eq!((place.store.route_base().await.unwrap(), place.changes("first").await), (None, None));
    let late = BaseRecord { name: "late".to_owned(), generation: begun, platform_domain: DOMAIN.to_owned() };
    assert!(!place.store.set_route_base(&late).await.unwrap());
    assert_eq!(place.base("second").await.len(), 3);
    assert_eq!(place.changes("second").await, Some(vec![]));
    assert!(place.store.routes_exceed(2).await.unwrap() && !place.store.routes_exceed(3).await.unwrap());
    place.store.forget_route_base().await.unwrap();
    assert_eq!(place.changes("second").await, None);
}

#[tokio::test]
async fn more_routes_than_a_statement_has_go_in_and_come_out_once_each() {
    for home in Home::both("a great many routes") {
        let place = Place::new(home).await;
        let one = place.deployment("one", &["h7.example/*"]).await;
        // Each second one twice, in no order; 20,000 are read at once.
        let numbers = (0..30_150u64).map(|number| number.wrapping_mul(7_919) % 20_100);
        let many = numbers.map(|number| (one, route(&format!("h{number}.example/*")))).collect();
        assert_eq!(place.store.import_routes(many).await.unwrap(), 20_099, "one was there");
        let mut routes = Vec::new();
        place.store.each_route(|_, pattern| routes.push(pattern.to_owned())).await.unwrap();
        let different: BTreeSet<&String> = routes.iter().collect();
        assert_eq!((routes.len(), different.len()), (20_100, 20_100));
    }
}

#[tokio::test]
async fn a_rollout_is_a_candidate_until_it_ends_and_an_activation_ends_it() {
    for home in Home::both("rollouts") {
        let place = Place::new(home).await;
        let (store, one) = (&place.store, place.deployment("one", &[]).await);
        for _ in 0..3 {
            let version = store.begin_upload(one, &support::module()).await.unwrap();
            store.finish_validation(one, version.id, Ok(None)).await.unwrap();
        }
        store.finish_activation(one).await.unwrap();
        assert!(store.set_rollout(one, 1, 500, 500).await.is_err(), "it is the active one");
        assert!(store.set_rollout(one, 9, 500, 500).await.is_err(), "there is none");
        let candidate = async || {
            let state = store.desired_state(&[]).await.unwrap();
            state.deployments[0].candidate.as_ref().map(|candidate| (candidate.version_number, candidate.share))
        };
        let (first, _) = store.set_rollout(one, 2, 500, 100).await.unwrap();
        assert_eq!((candidate().await, store.running_rollouts().await.unwrap()), (Some((2, 500)), vec![first.clone()]));
        let (more, _) = store.set_rollout(one, 2, 900, 100).await.unwrap();
        assert_eq!((candidate().await, more.created_at), (Some((2, 900)), first.created_at));
        let ended = store.end_rollout(one, RolloutStatus::RolledBack, Some("too bad")).await.unwrap().unwrap().0;
        assert_eq!((ended.status, ended.reason.as_deref()), (RolloutStatus::RolledBack, Some("too bad")));
        assert_eq!((candidate().await, store.running_rollouts().await.unwrap()), (None, vec![]));
        assert!(store.end_rollout(one, RolloutStatus::Stopped, None).await.unwrap().is_none(), "nothing runs");
        for (activated, status) in [(3, RolloutStatus::Stopped), (2, RolloutStatus::Completed)] {
            store.set_rollout(one, 2, 500, 100).await.unwrap();
            store.begin_activation(one, VersionRef::Number(activated)).await.unwrap();
            store.finish_activation(one).await.unwrap();
            assert_eq!(store.rollout(one).await.unwrap().map(|row| row.status), Some(status));
            assert_eq!(candidate().await, None);
        }
    }
}

#[tokio::test]
async fn nodes_stand_where_they_were_said_to() {
    for home in Home::both("places") {
        let store = home.store().await;
        assert!(store.set_node("a", &PatchNode { pop: Some("fra1".to_owned()), state: None }).await.is_err());
        store.set_pop("fra1", "eu").await.unwrap();
        assert_eq!(store.set_pop("fra1", "eu-central").await.unwrap().region, "eu-central");
        store.set_node("a", &PatchNode { pop: Some("fra1".to_owned()), state: None }).await.unwrap();
        let cordoned = PatchNode { pop: None, state: Some(model::NodeState::Cordoned) };
        store.set_node("a", &cordoned).await.unwrap();
        store.set_node("b", &cordoned).await.unwrap();
        let places = store.node_places().await.unwrap();
        let shown: Vec<_> =
            places.iter().map(|it| (it.name.as_str(), it.region.as_deref(), it.state.as_str())).collect();
        assert_eq!(shown, [("a", Some("eu-central"), "cordoned"), ("b", None, "cordoned")]);
        assert_eq!((store.pops().await.unwrap().len(), store.regions().await.unwrap().len()), (1, 2));
    }
}
