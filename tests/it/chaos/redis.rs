//! A Redis that is emptied, that hangs, that dies, and one of several nodes.

use std::time::{Duration, Instant};

use serde_json::json;
use windlass::domain::job::{ActOptions, NewJob};
use windlass::domain::stats::Grade;
use windlass::domain::status::{Action, Status};
use windlass::domain::user::Actor;
use windlass::server::config::RedisUrl;
use windlass::server::queue::redis::{Link, RedisQueue};
use windlass::server::queue::{Hold, Queue};
use windlass::server::service::Service;
use windlass::server::state;

use super::ledger::Times;
use super::servers::{Redis, RedisCluster};
use super::{Place, Worker, feed, fill, long, more, rounds, settle};
use crate::harness::{self, gate, unique, until};

/// More jobs than run at any moment: once so many have ended, all that was disturbed is behind.
const FULL: usize = 60;
/// How long the long run leaves Redis away.
const AWAY: Duration = Duration::from_secs(60);

/// Two workers and jobs that keep coming, on a Redis of the test's own.
struct Fleet {
    _workers: [Worker; 2],
    service: Service,
    place: Place,
    redis: Redis,
}

impl Fleet {
    async fn start() -> Self {
        let redis = Redis::start().await;
        let place = Place {
            redis: Some(redis.url()),
            ..Place::shared().await
        };
        let service = place.service().await;
        tokio::spawn(feed(service.clone(), place.enough()));
        let fleet = Self {
            _workers: [place.worker(), place.worker()],
            service,
            place,
            redis,
        };
        fleet.more().await;
        fleet
    }

    async fn more(&self) -> Duration {
        more(&self.place, FULL).await
    }

    /// Waits until the index is filled and used again, and says how long that took.
    async fn dispatched_again(&self) -> Duration {
        let began = Instant::now();
        let actor = Actor::machine();
        until("the index is used again", async || {
            let overview = self.service.overview(&actor).await.ok()?;
            let well = overview.health.checks.queue.grade == Grade::Healthy;
            let filled = self.redis.cli(&["KEYS", "*marker"]).contains("marker");
            (well && filled).then_some(())
        })
        .await;
        self.more().await;
        began.elapsed()
    }

    /// Work goes on for a minute without Redis.
    async fn a_minute_without(&self) {
        let (began, before) = (Instant::now(), self.place.ledger.ended());
        while began.elapsed() < AWAY {
            self.more().await;
        }
        let jobs = self.place.ledger.ended() - before;
        println!("{jobs} jobs ended while Redis was away for {AWAY:?}");
    }

    async fn settle(self, what: &str) {
        self.place.no_more_jobs();
        settle(&self.place, &self.service, what).await;
    }
}

#[tokio::test]
async fn an_emptied_redis_loses_nothing() {
    if harness::arrangement() != "redis" {
        return;
    }
    let fleet = Fleet::start().await;
    let mut again = Times::default();
    for _ in 0..rounds(3) {
        fleet.redis.cli(&["FLUSHALL"]);
        again.add(fleet.dispatched_again().await);
    }
    println!("full dispatch after FLUSHALL: {again}");
    fleet.settle("FLUSHALL").await;
}

/// It takes connections and answers nothing; what it knew is there when it comes back, and out of date.
#[tokio::test]
async fn a_hung_redis_loses_nothing() {
    if harness::arrangement() != "redis" {
        return;
    }
    let fleet = Fleet::start().await;
    let (mut without, mut again) = (Times::default(), Times::default());
    // Each takes as long as it takes to be sure that Redis hangs.
    let times = rounds(2).min(50);
    for round in 1..=times {
        fleet.redis.hang();
        without.add(fleet.more().await);
        if long() && round == times {
            fleet.a_minute_without().await;
        }
        fleet.redis.go_on();
        again.add(fleet.dispatched_again().await);
    }
    println!("full dispatch without Redis, from when it hung: {without}; with it, from when it went on: {again}");
    fleet.settle("a hung Redis").await;
}

/// What was cancelled while it was away stands in it all the same, and what came meanwhile does not: as many are missing as are
/// too many, so that sizes tell nothing.
#[tokio::test]
async fn a_redis_that_was_away_is_told_of_all_that_waits() {
    if harness::arrangement() != "redis" {
        return;
    }
    let redis = Redis::start().await;
    let shared = Place::shared().await;
    let place = Place {
        redis: Some(redis.url()),
        ..shared
    };
    let config = place.config();
    let system = state::start(&config, harness::registry(&config), true)
        .await
        .expect("start");
    let (service, actor) = (&system.service, Actor::machine());
    let enqueue = async |job: NewJob| service.enqueue(&actor, job).await.expect("enqueued").job.id;
    let all = async |what: &str, ids: &[uuid::Uuid], status: Status| {
        until(what, async || {
            for id in ids {
                if service.job(&actor, *id).await.ok()?.status != status {
                    return None;
                }
            }
            Some(())
        })
        .await;
    };
    let graded = async |what: &str, well: bool| {
        until(what, async || {
            let health = service.overview(&actor).await.ok()?.health;
            ((health.checks.queue.grade == Grade::Healthy) == well).then_some(())
        })
        .await;
    };
    // The jobs that come wait behind these, or they would be found without Redis.
    let name = unique();
    let mut gated = Vec::new();
    for _ in 0..config.worker_concurrency {
        gated.push(enqueue(NewJob::of("gate", json!({ "name": name }))).await);
    }
    all("all slots are taken", &gated, Status::Running).await;
    let url = RedisUrl::parse(&redis.url()).expect("an address");
    let queue = RedisQueue::new(Link::connect(&url, &config.redis_prefix).await.expect("Redis"));
    queue.hold(&Hold::Queue("quiet".into()), 600_000).await;
    queue.close().await;
    let mut gone = Vec::new();
    for n in 0..3 {
        let quiet = NewJob {
            queue: Some("quiet".into()),
            ..NewJob::of("echo", json!({ "value": n }))
        };
        gone.push(enqueue(quiet).await);
    }
    redis.hang();
    graded("Redis is away", false).await;
    for id in &gone {
        let cancelled = service.act(&actor, *id, Action::Cancel, ActOptions::default()).await;
        assert_eq!(cancelled.expect("cancelled").status, Status::Cancelled);
    }
    let mut came = Vec::new();
    for n in 0..gone.len() {
        came.push(enqueue(NewJob::of("echo", json!({ "value": n }))).await);
    }
    redis.go_on();
    graded("Redis is back", true).await;
    gate(&name).add_permits(gated.len());
    all("what came meanwhile has run", &came, Status::Completed).await;
    system.engine.expect("a worker").shut_down().await;
    system.service.close().await;
}

#[tokio::test]
async fn a_dead_redis_loses_nothing() {
    if harness::arrangement() != "redis" {
        return;
    }
    let mut fleet = Fleet::start().await;
    let (mut without, mut again) = (Times::default(), Times::default());
    let times = rounds(2).min(50);
    for round in 1..=times {
        fleet.redis.stop();
        without.add(fleet.more().await);
        if long() && round == times {
            fleet.a_minute_without().await;
        }
        fleet.redis.restart().await;
        again.add(fleet.dispatched_again().await);
    }
    println!("full dispatch without Redis, from its death: {without}; with it, from when it was back: {again}");
    fleet.settle("a dead Redis").await;
}

/// All keys have one hash tag: of a cluster one node holds them all, and commands and scripts find it.
#[tokio::test]
async fn a_cluster_of_redis_is_as_good_as_one() {
    if harness::arrangement() != "redis" {
        return;
    }
    let cluster = RedisCluster::start().await;
    let shared = Place::shared().await;
    let place = Place {
        redis: Some(cluster.url()),
        ..shared
    };
    let service = place.service().await;
    let _workers = [place.worker(), place.worker()];
    fill(&service, 0, 200, 5).await;
    until("all jobs are done", async || {
        (place.ledger.ended() >= 200).then_some(())
    })
    .await;
    let overview = service.overview(&Actor::machine()).await.expect("an overview");
    assert_eq!(overview.health.checks.queue.grade, Grade::Healthy);
    let keys = cluster.keys();
    let holders = keys.iter().filter(|keys| !keys.is_empty()).count();
    assert_eq!(holders, 1, "keys on the nodes: {keys:?}");
    let whole = keys.iter().flatten().any(|key| key.ends_with(":marker"));
    assert!(whole, "no script has filled the index: {keys:?}");
    settle(&place, &service, "a cluster of three nodes").await;
}
