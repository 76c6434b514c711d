//! Real processes, killed, stopped and cut off in the middle of their work, and what the ledger says afterwards: nothing lost,
//! no two leases at once, no stale write accepted, no count adrift. Short here; `script/chaos` runs them long.

mod clock;
mod disk;
mod ledger;
pub mod servers;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;
use windlass::domain::filter::{JobFilter, Order};
use windlass::domain::job::NewJob;
use windlass::domain::kind::{Backoff, Policy};
use windlass::domain::stats::Grade;
use windlass::domain::status::Status;
use windlass::domain::user::Actor;
use windlass::server::config::{Config, RedisUrl, parse_database};
use windlass::server::engine::kind::Registry;
use windlass::server::service::Service;
use windlass::server::state;
use windlass::server::store::Store;

use crate::harness::{self, until};
use ledger::{Ledger, Risky, Work};
use servers::{Postgres, Redis, RedisCluster};

/// How many times something bad happens: a handful here, hundreds in `script/chaos`.
fn rounds(few: usize) -> usize {
    match std::env::var("CHAOS_ROUNDS") {
        Ok(text) => text.parse().expect("CHAOS_ROUNDS is a number"),
        Err(_) => few,
    }
}

fn registry() -> Registry {
    let policy = Policy {
        max_attempts: 100_000,
        backoff: Backoff::Fixed,
        base_ms: 10,
        cap_ms: 10,
        jitter_percent: 0,
        timeout_s: 60,
        max_running: None,
        rate: None,
    };
    Registry::new(policy).with(Work).with(Risky)
}

/// Where a system keeps its things, and how its processes are told.
struct Place {
    dir: TempDir,
    ledger: Ledger,
    database: Option<String>,
    redis: Option<String>,
}

impl Place {
    fn new(database: Option<String>, redis: Option<String>) -> Self {
        let dir = TempDir::new().expect("folder");
        let ledger = Ledger::open(dir.path().join("ledger"));
        Self {
            dir,
            ledger,
            database,
            redis,
        }
    }

    /// On the servers that the whole suite runs on.
    async fn shared() -> Self {
        let mut place = Self::new(None, None);
        for (name, value) in harness::environment(place.dir.path()).await {
            match name {
                "DATABASE_URL" => place.database = Some(value),
                "REDIS_URL" => place.redis = Some(value),
                _ => {}
            }
        }
        place
    }

    fn config(&self) -> Config {
        config(self.dir.path(), self.database.as_deref(), self.redis.as_deref())
    }

    /// A worker in a process of its own: this test binary, told to be one.
    fn worker(&self, jobs: u32) -> Worker {
        self.worker_with(jobs, &[])
    }

    /// With more in its environment.
    fn worker_with(&self, jobs: u32, more: &[(&str, &str)]) -> Worker {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command
            .args([
                "--exact",
                "chaos::be_a_worker",
                "--ignored",
                "--nocapture",
                "--test-threads=1",
            ])
            .env("CHAOS_DIR", self.dir.path())
            .env("CHAOS_JOBS", jobs.to_string())
            .env_remove("CHAOS_DATABASE")
            .env_remove("CHAOS_REDIS")
            .envs(more.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(url) = &self.database {
            command.env("CHAOS_DATABASE", url);
        }
        if let Some(url) = &self.redis {
            command.env("CHAOS_REDIS", url);
        }
        Worker(command.spawn().expect("a worker"))
    }

    /// The service of this process, without a worker. On what only one process may use: after the others have ended.
    async fn service(&self) -> Service {
        let started = state::start(&self.config(), registry(), false).await;
        started.expect("the system starts").service
    }
}

fn config(dir: &Path, database: Option<&str>, redis: Option<&str>) -> Config {
    let mut config = harness::config(dir);
    config.worker_lease = Duration::from_secs(2);
    config.queue_max = 10_000_000;
    if let Some(url) = database {
        config.database = parse_database(url).expect("a database");
    }
    if let Some(url) = redis {
        config.redis = RedisUrl::parse(url);
        config.redis_prefix = harness::schema(dir);
    }
    config
}

struct Worker(Child);

impl Worker {
    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.pid().to_string()]).status();
        assert!(sent.expect("kill").success());
    }

    fn kill(&mut self, ledger: &Ledger) {
        self.0.kill().expect("kill -9");
        self.0.wait().expect("dead");
        ledger.killed(self.pid());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the other tests start as a process of its own.
#[tokio::test]
#[ignore = "a process that the other tests start"]
async fn be_a_worker() {
    let dir = PathBuf::from(std::env::var("CHAOS_DIR").expect("CHAOS_DIR"));
    let (database, redis) = (std::env::var("CHAOS_DATABASE").ok(), std::env::var("CHAOS_REDIS").ok());
    let jobs: u32 = std::env::var("CHAOS_JOBS")
        .expect("CHAOS_JOBS")
        .parse()
        .expect("a number");
    let config = config(&dir, database.as_deref(), redis.as_deref());
    Ledger::open(dir.join("ledger")).become_the_process();
    let system = state::start(&config, registry(), true).await.expect("start");
    // Whoever was killed in the middle of this is followed by one that goes on: the keys see to it that no job comes twice.
    fill(&system.service, 0, jobs, 60).await;
    std::future::pending::<()>().await;
}

/// Enqueues the jobs from one number up to another, of about `ms` each and those that are there already no second time; while
/// the database is away, again and again.
async fn fill(service: &Service, from: u32, until_number: u32, ms: u32) {
    let actor = Actor::local_admin();
    let job = |n: u32| NewJob {
        unique_key: Some(n.to_string()),
        unique_for: Some(86_400),
        ..NewJob::of("work", json!({ "n": n, "ms": ms }))
    };
    for from in (from..until_number).step_by(100) {
        let part = || (from..until_number.min(from + 100)).map(job).collect();
        until("the jobs are taken in", async || {
            service.enqueue_bulk(&actor, part(), None).await.ok()
        })
        .await;
    }
}

/// Waits for as long as work goes on.
async fn all_done(place: &Place, jobs: usize) {
    loop {
        let before = place.ledger.ended();
        if before >= jobs {
            return;
        }
        until("work goes on", async || (place.ledger.ended() > before).then_some(())).await;
    }
}

/// Waits until all jobs have ended, and checks what must hold whatever happened.
async fn settle(place: &Place, service: &Service, what: &str) {
    until("every job has completed", async || {
        let counts = service.counts(&Actor::local_admin()).await.ok()?;
        (counts.total > 0 && counts.of(Status::Completed) == counts.total).then_some(())
    })
    .await;
    let truth = ledger::truth(service).await;
    let report = place.ledger.check(&truth);
    println!("{} on {}: {report}", what, harness::arrangement());
    assert_eq!(report.lost, 0, "jobs without a completed attempt");
    assert_eq!(
        report.leases_at_once, 0,
        "two attempts at the same time, each with a lease"
    );
    assert_eq!(
        report.stale_accepted, 0,
        "what a worker without a lease wrote was taken"
    );
    assert_eq!(report.drift, 0, "the counts are not the truth");
}

/// Workers are killed again and again in the middle of their jobs.
#[tokio::test]
async fn kill_9_loses_nothing() {
    let place = Place::shared().await;
    let kills = rounds(5);
    let jobs = 60 + 12 * kills as u32;
    let fleet = place.redis.is_some();
    let service = match fleet {
        true => Some(place.service().await),
        false => None,
    };
    if let Some(service) = &service {
        fill(service, 0, jobs, 60).await;
    }
    let mut workers: Vec<Worker> = (0..if fleet { 3 } else { 1 })
        .map(|_| place.worker(if fleet { 0 } else { jobs }))
        .collect();
    for round in 0..kills {
        let victim = round % workers.len();
        let pid = workers[victim].pid();
        // In the middle of a job: one that it has begun and not ended.
        let done = until("the victim works", async || {
            let open = place.ledger.open_attempts(pid);
            let done = place.ledger.ended() as u32 >= jobs;
            (open > 0 || done).then_some(done)
        })
        .await;
        if done {
            break;
        }
        workers[victim].kill(&place.ledger);
        workers[victim] = place.worker(if fleet { 0 } else { jobs });
    }
    all_done(&place, jobs as usize).await;
    match service {
        Some(service) => settle(&place, &service, "kill -9").await,
        None => {
            until("every end is written", async || place.ledger.quiet().then_some(())).await;
            workers.clear();
            let service = place.service().await;
            settle_alone(&place, service).await;
        }
    }
}

/// A job kills its worker whenever it runs, in the midst of others that take longer than it.
#[tokio::test]
async fn a_job_that_kills_its_workers_ends_dead_and_takes_no_other_along() {
    let place = Place::shared().await;
    let service = place.service().await;
    let actor = Actor::local_admin();
    let risky = |ms: u32, kills: bool| NewJob::of("risky", json!({ "ms": ms, "kills": kills }));
    let mut jobs = vec![risky(400, false); 7];
    jobs.insert(3, risky(60, true));
    let ids = service.enqueue_bulk(&actor, jobs, None).await.expect("taken in").ids;
    service.close().await;
    drop(service);
    let beside = Store::open_beside(&place.config()).await.expect("the database");
    let first = JobFilter {
        order: Order::Asc,
        ..JobFilter::default()
    };
    let worker = Mutex::new((place.worker(0), 0));
    let told = until("every job has ended", async || {
        {
            let mut worker = worker.lock().expect("a worker");
            if worker.0.0.try_wait().expect("asked").is_some() {
                *worker = (place.worker(0), worker.1 + 1);
            }
        }
        let jobs = beside.list(&first, 100, 0, None).await.expect("jobs");
        let told: Vec<(Status, u32)> = jobs.into_iter().map(|row| (row.job.status, row.job.crashes)).collect();
        told.iter().all(|(status, _)| status.is_finished()).then_some(told)
    })
    .await;
    let deaths = worker.into_inner().expect("a worker").1;
    beside.close().await;
    println!(
        "a poison job on {}: {deaths} workers died, {told:?}",
        harness::arrangement()
    );
    assert_eq!((ids.len(), deaths), (told.len(), 5));
    for (n, (status, crashes)) in told.into_iter().enumerate() {
        match n {
            3 => assert_eq!((status, crashes), (Status::Dead, 5)),
            _ => assert!(
                status == Status::Completed && crashes <= 2,
                "{n}: {status} after {crashes} crashes"
            ),
        }
    }
}

/// What only one process may use is looked at after that one has ended: a worker here ends the rest.
async fn settle_alone(place: &Place, service: Service) {
    service.close().await;
    drop(service);
    let system = state::start(&place.config(), registry(), true).await.expect("start");
    settle(place, &system.service, "kill -9").await;
    system.engine.expect("a worker").shut_down().await;
    system.service.close().await;
}

/// A worker hangs for longer than its lease, and then comes back and wants to write.
#[tokio::test]
async fn a_worker_that_comes_back_from_the_dead_can_change_nothing() {
    if harness::arrangement() != "redis" {
        return;
    }
    let place = Place::shared().await;
    let service = place.service().await;
    let sleeper = place.worker(0);
    fill(&service, 0, 8, 900).await;
    for round in 1..=rounds(2) as u32 {
        until("the sleeper works", async || {
            (place.ledger.open_attempts(sleeper.pid()) > 0).then_some(())
        })
        .await;
        sleeper.signal("-STOP");
        let held = place.ledger.open_jobs(sleeper.pid());
        let other = place.worker(0);
        until("its jobs run elsewhere", async || {
            held.iter()
                .all(|job| place.ledger.began_elsewhere(*job, sleeper.pid()))
                .then_some(())
        })
        .await;
        sleeper.signal("-CONT");
        let ended = place.ledger.ended_by(sleeper.pid());
        // It goes on where it was: it ends attempts that are no longer its own, or is told that it lost them.
        until("the others' work is done", async || {
            (place.ledger.open_attempts(other.pid()) == 0).then_some(())
        })
        .await;
        println!(
            "the sleeper ended {} attempts after its leases were gone",
            place.ledger.ended_by(sleeper.pid()) - ended
        );
        fill(&service, round * 8, round * 8 + 8, 900).await;
    }
    settle(&place, &service, "SIGSTOP past the lease").await;
}

/// Redis is emptied, stopped and restarted in mid-run.
#[tokio::test]
async fn an_emptied_and_a_dead_redis_lose_nothing() {
    if harness::arrangement() != "redis" {
        return;
    }
    let mut redis = Redis::start().await;
    let shared = Place::shared().await;
    let place = Place {
        redis: Some(redis.url()),
        ..shared
    };
    let service = place.service().await;
    let _workers = [place.worker(0), place.worker(0)];
    let more = async |n: u32| {
        let before = place.ledger.ended();
        until("work goes on", async || {
            (place.ledger.ended() >= before + n as usize).then_some(())
        })
        .await;
    };
    let mut next = 0;
    for _ in 0..rounds(2) {
        fill(&service, next, next + 300, 40).await;
        next += 300;
        more(20).await;
        redis.cli(&["FLUSHALL"]);
        let began = Instant::now();
        // More than ran at that moment.
        more(60).await;
        println!("full dispatch {} ms after FLUSHALL", began.elapsed().as_millis());
        all_done(&place, next as usize).await;
    }
    redis.stop();
    let began = Instant::now();
    fill(&service, next, next + 100, 40).await;
    println!("100 jobs taken in {} ms after Redis died", began.elapsed().as_millis());
    more(60).await;
    // The long run leaves it dead for a minute, and work goes on all the while.
    let mut last = next + 100;
    while rounds(0) > 0 && began.elapsed() < Duration::from_secs(60) {
        fill(&service, last, last + 50, 40).await;
        last += 50;
        more(50).await;
    }
    println!(
        "Redis was dead for {} s, with {} jobs meanwhile",
        began.elapsed().as_secs(),
        last - next
    );
    next = last - 100;
    redis.restart().await;
    let began = Instant::now();
    fill(&service, next + 100, next + 300, 40).await;
    more(60).await;
    println!("full dispatch {} ms after Redis came back", began.elapsed().as_millis());
    settle(&place, &service, "FLUSHALL and a dead Redis").await;
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
    let _workers = [place.worker(0), place.worker(0)];
    fill(&service, 0, 200, 5).await;
    all_done(&place, 200).await;
    let overview = service.overview(&Actor::local_admin()).await.expect("an overview");
    assert_eq!(overview.health.checks.queue.grade, Grade::Healthy);
    let mut keys = cluster.keys();
    keys.sort_unstable();
    assert!(keys[1] == 0 && keys[2] > 0, "keys on the nodes: {keys:?}");
    settle(&place, &service, "a cluster of three nodes").await;
}

/// Postgres ends all connections, and is restarted in mid-run.
#[tokio::test]
async fn a_restarted_postgres_loses_nothing() {
    if harness::arrangement() == "sqlite" {
        return;
    }
    let mut postgres = Postgres::start().await;
    let redis = match harness::arrangement() {
        "redis" => Some(Redis::start().await),
        _ => None,
    };
    let place = Place::new(Some(postgres.url()), redis.as_ref().map(Redis::url));
    let times = rounds(2);
    let jobs = 100 + 150 * times as u32;
    let service = match redis {
        Some(_) => Some(place.service().await),
        None => None,
    };
    let mut workers = vec![place.worker(if redis.is_some() { 0 } else { jobs })];
    if let Some(service) = &service {
        workers.push(place.worker(0));
        fill(service, 0, jobs, 40).await;
    }
    let more = async |n: usize| {
        let before = place.ledger.ended();
        let done = || place.ledger.ended() >= (before + n).min(jobs as usize);
        until("work goes on", async || done().then_some(())).await;
    };
    more(20).await;
    for _ in 0..times {
        postgres.end_connections();
        more(20).await;
        postgres.restart();
        let began = Instant::now();
        more(20).await;
        println!(
            "work goes on {} ms after Postgres was restarted",
            began.elapsed().as_millis()
        );
    }
    match service {
        Some(service) => settle(&place, &service, "Postgres restarted").await,
        None => {
            all_done(&place, jobs as usize).await;
            until("every end is written", async || place.ledger.quiet().then_some(())).await;
            workers.clear();
            let service = place.service().await;
            settle_alone(&place, service).await;
        }
    }
}
