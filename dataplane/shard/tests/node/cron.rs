//! Scheduled handlers: by hand, and by the clock, once in a fleet.

use crate::common::{Deployed, PATIENCE, TestNode, active, get};
use plane_abi::plane::Fleet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const SAYS: &str = "export default {
    fetch() { return new Response('hello'); },
    async scheduled(controller, env, ctx) {
        if (controller.cron === 'fail') throw new Error('as asked');
        ctx.waitUntil(new Promise((done) => setTimeout(() => { console.log('after', controller.cron); done(); }, 5)));
    },
};";

#[test]
fn by_hand_as_wrangler_has_it_and_only_where_it_is_switched_on() {
    let deployments = [active("s", SAYS), active("none", "export default { fetch() { return new Response('f') } };")];
    let node = TestNode::start(&deployments, |config| config.test_scheduled = true);
    let mut client = node.connect();
    let answer = client.get("s", "/__scheduled?cron=*/5+*+*+*+*&time=1700000000000");
    assert_eq!((answer.status, answer.text()), (200, "Ran scheduled event\n"));
    let logs = node.logs.texts();
    assert!(logs.iter().any(|log| log == "after */5 * * * *"), "waitUntil has ended: {logs:?}");
    assert!(logs.iter().any(|log| log.starts_with("\"*/5 * * * *\" @ 2023-11-14T22:13Z - ok (")), "{logs:?}");
    assert_eq!(client.get("s", "/cdn-cgi/handler/scheduled?cron=fail").status, 500);
    assert_eq!(client.get("none", "/__scheduled").status, 500);
    assert_eq!(client.get("s", "/").text(), "hello");
    let logs = node.logs.texts();
    assert!(
        logs.iter().any(|log| log.contains("Error: as asked")) && logs.iter().any(|log| log.contains("- exception ("))
    );
    assert!(logs.iter().any(|log| log.contains("does not export a scheduled() function")), "{logs:?}");
    let metrics = &node.metrics.shards()[0];
    assert_eq!((metrics.cron_runs.get(), metrics.cron_failures.get()), (3, 2));
    let off = TestNode::start(&[active("s", SAYS)], |_| {});
    assert_eq!(off.connect().get("s", "/__scheduled").text(), "hello");
}

#[test]
fn the_clock_runs_each_schedule_once_in_the_fleet_and_on_one_shard() {
    let names: Vec<String> = (0..12).map(|n| format!("w{n}")).collect();
    let every = ["* * * * *"];
    let never = ["0 0 29 2 *"];
    let mut deployments: Vec<Deployed<'_>> =
        names.iter().map(|name| Deployed { crons: &every, ..active(name, SAYS) }).collect();
    deployments.push(Deployed { crons: &never, ..active("never", SAYS) });
    deployments.push(Deployed { crons: &every, status: plane_abi::Status::Paused, ..active("paused", SAYS) });
    let members = vec!["one".to_owned(), "two".to_owned()];
    let fleet: Vec<TestNode> = members
        .iter()
        .map(|name| {
            let node = TestNode::start(&deployments, |config| config.shards = 2);
            node.plane.set_fleet(Fleet::new(name.clone(), members.clone()));
            node
        })
        .collect();
    // What is due begins with the next minute; near its end the one after is looked at too.
    let second = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() % 60;
    let deadline = Instant::now() + Duration::from_secs(60) + PATIENCE;
    let runs = |node: &TestNode| node.metrics.shards().iter().map(|shard| shard.cron_runs.get()).sum::<u64>();
    while fleet.iter().map(runs).sum::<u64>() < 13 {
        assert!(Instant::now() < deadline, "{} runs", fleet.iter().map(runs).sum::<u64>());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(second() < 30, "they run at the minute's beginning");
    std::thread::sleep(Duration::from_millis(300));
    let each: Vec<u64> = fleet.iter().map(runs).collect();
    assert_eq!(each.iter().sum::<u64>(), 13, "each once: {each:?}");
    assert!(each.iter().all(|runs| *runs > 0), "spread over the nodes: {each:?}");
    let failed: u64 = fleet.iter().flat_map(|node| node.metrics.shards()).map(|shard| shard.cron_failures.get()).sum();
    assert_eq!(failed, 1, "the paused one");
    assert_eq!(fleet[0].status(&get("w0", "/")), 200);
}
