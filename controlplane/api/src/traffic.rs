//! Which deployments' modules nodes have ahead, by the requests that nodes count (seed 000, code distribution: the top 1000).
//!
//! *Bounds:* ranks change at most once in [`RANK_EVERY`]. *Failures:* counts that could not be stored are lost: a rank is an
//! estimate, and what it decides is only when a module comes.

use std::pin::pin;
use std::time::{Duration, Instant};

use crate::{App, ops, serve};

/// Between two looks at what nodes have counted.
const LOOK: Duration = Duration::from_secs(15);
/// Between two changes of ranks, each a snapshot.
const RANK_EVERY: Duration = Duration::from_secs(300);

/// Stores what nodes count, and has the `pushed_max` deployments with the most requests pushed. Ends with the service.
pub(crate) async fn rank(app: App, pushed_max: u32) {
    let mut stop = pin!(serve::stopping(app.stopping()));
    let mut changed: Option<Instant> = None;
    // Ranks have changed that no node has been told.
    let mut owed = false;
    loop {
        if changed.is_none_or(|changed| changed.elapsed() >= RANK_EVERY) {
            match app.store.rank_by_traffic(pushed_max).await {
                Ok(Some(generation)) => {
                    tracing::info!(generation, pushed_max, "which modules nodes have ahead has changed");
                    (changed, owed) = (Some(Instant::now()), true);
                }
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "cannot rank deployments by their requests"),
            }
        }
        if owed {
            let published = ops::publish(&app).await;
            owed = published.is_err();
            if let Err(error) = published {
                tracing::error!(?error, "cannot publish which modules nodes have ahead; tried again");
            }
        }
        tokio::select! {
            () = stop.as_mut() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let counts = app.fleet.take_traffic();
        if counts.is_empty() {
            continue;
        }
        if let Err(error) = app.store.add_traffic(&counts).await {
            tracing::error!(%error, "cannot store how many requests deployments had");
        }
    }
}
