//! Which deployments' modules nodes have ahead.

mod support;

use model::DeploymentId;
use store::Store;
use support::{Home, active};

async fn on_demand(store: &Store) -> Vec<DeploymentId> {
    let state = store.desired_state(&[]).await.unwrap();
    state.deployments.into_iter().filter(|one| one.on_demand).map(|one| one.id).collect()
}

fn without(all: &[DeploymentId], pushed: &[usize]) -> Vec<DeploymentId> {
    let mut rest: Vec<_> = all.to_vec();
    rest.retain(|id| !pushed.iter().any(|place| all[*place] == *id));
    rest.sort_unstable();
    rest
}

#[tokio::test]
async fn those_with_the_most_requests_are_pushed_and_places_do_not_change_for_little() {
    for home in Home::both("traffic") {
        let store = home.store().await;
        let mut all = Vec::new();
        for name in ["a", "b", "c", "d", "e"] {
            all.push(active(&store, name).await);
        }
        assert_eq!(store.rank_by_traffic(5).await.unwrap(), None, "there is a place for each");
        assert!(on_demand(&store).await.is_empty());

        store.add_traffic(&[(all[0], 10), (all[1], 20), (all[4], 5), (DeploymentId::new(), 99)]).await.unwrap();
        store.add_traffic(&[(all[0], 15)]).await.unwrap();
        let before = store.generation().await.unwrap();
        assert_eq!(store.rank_by_traffic(2).await.unwrap(), Some(before + 1));
        assert_eq!(on_demand(&store).await, without(&all, &[0, 1]));
        assert_eq!(store.rank_by_traffic(2).await.unwrap(), None, "as it was");
        assert_eq!(store.generation().await.unwrap(), before + 1);

        // One place behind the last it stays; two, it goes.
        store.add_traffic(&[(all[4], 25)]).await.unwrap();
        assert_eq!(store.rank_by_traffic(2).await.unwrap(), None, "e, a, b: b is one behind");
        store.add_traffic(&[(all[3], 100)]).await.unwrap();
        assert!(store.rank_by_traffic(2).await.unwrap().is_some(), "d, e, a, b");
        assert_eq!(on_demand(&store).await, without(&all, &[0, 3]), "a keeps its place, d has the other");

        // More places than before, and then one for each.
        assert!(store.rank_by_traffic(4).await.unwrap().is_some());
        assert_eq!(on_demand(&store).await, without(&all, &[0, 1, 3, 4]));
        assert!(store.rank_by_traffic(5).await.unwrap().is_some());
        assert!(on_demand(&store).await.is_empty());
    }
}
