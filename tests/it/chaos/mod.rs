//! Real processes, killed, stopped and cut off in the middle of their work, and what the ledger says afterwards: nothing lost,
//! no two leases at once, no stale write accepted, no count adrift. Short here; `script/chaos` runs them long.

mod clock;
mod disk;
mod kills;
mod kinds;
mod ledger;
mod redis;
pub mod servers;
pub mod truth;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;
use windlass::domain::job::NewJob;
use windlass::domain::status::Status;
use windlass::domain::user::{Actor, Role};
use windlass::server::config::{Config, RedisUrl, parse_database};
use windlass::server::service::Service;
use windlass::server::state;
use windlass::server::store::Store;

use crate::harness::{self, until};
use kinds::{Process, registry};
use ledger::{Ledger, Report, Times};
use servers::{Postgres, Redis};

/// How many times something bad happens: a handful here, hundreds in `script/chaos`.
fn rounds(few: usize) -> usize {
    match std::env::var("CHAOS_ROUNDS") {
        Ok(text) => text.parse().expect("CHAOS_ROUNDS is a number"),
        Err(_) => few,
    }
}

/// Whether what takes minutes is done as well.
fn long() -> bool {
    std::env::var("CHAOS_ROUNDS").is_ok()
}

/// How long leases hold, in the tests and their workers.
fn lease() -> Duration {
    let seconds =
        std::env::var("CHAOS_LEASE").map_or(2, |text| text.parse().expect("CHAOS_LEASE is a number of seconds"));
    Duration::from_secs(seconds)
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
    fn worker(&self) -> Worker {
        self.worker_with(&[])
    }

    /// With more in its environment.
    fn worker_with(&self, more: &[(&str, &str)]) -> Worker {
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
        Worker {
            child: command.spawn().expect("a worker"),
            ledger: self.ledger.clone(),
        }
    }

    /// The service of this process, without a worker. On what only one process may use: after the others have ended.
    async fn service(&self) -> Service {
        let started = state::start(&self.config(), registry(), false).await;
        started.expect("the system starts").service
    }

    /// The file whose coming ends that of jobs.
    fn enough(&self) -> PathBuf {
        enough(self.dir.path())
    }

    fn no_more_jobs(&self) {
        std::fs::write(self.enough(), "").expect("a file");
    }
}

fn enough(dir: &Path) -> PathBuf {
    dir.join("enough")
}

fn config(dir: &Path, database: Option<&str>, redis: Option<&str>) -> Config {
    let mut config = harness::config(dir);
    config.worker_lease = lease();
    config.queue_max = 10_000_000;
    // Workers are killed far more often than jobs could be blamed for.
    config.job_max_crashes = u32::MAX;
    if let Some(url) = database {
        config.database = parse_database(url).expect("a database");
    }
    if let Some(url) = redis {
        config.redis = RedisUrl::parse(url);
        config.redis_prefix = harness::schema(dir);
    }
    config
}

/// Dies with the test, and whoever is dead is in the ledger as such: what its attempts held was not taken from the living.
struct Worker {
    child: Child,
    ledger: Ledger,
}

impl Worker {
    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: &str) {
        signal_to(self.pid(), signal);
    }

    fn kill(&mut self) {
        self.child.kill().expect("kill -9");
        self.child.wait().expect("dead");
        self.ledger.killed(self.pid());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.kill();
        }
    }
}

/// One of the libraries beside this file, for processes that are started with it preloaded.
fn library(dir: &Path, name: &str) -> PathBuf {
    let library = dir.join(format!("{name}.so"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/chaos/{name}.c"));
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status();
    assert!(built.expect("a C compiler").success());
    library
}

fn signal_to(pid: u32, signal: &str) {
    let sent = Command::new("kill").args([signal, &pid.to_string()]).status();
    assert!(sent.expect("kill").success());
}

/// What the other tests start as a process of its own. CHAOS_FEEDS: has jobs come itself; CHAOS_INTRUDES: attempts that were
/// stopped for longer than their lease write all the same.
#[tokio::test]
#[ignore = "a process that the other tests start"]
async fn be_a_worker() {
    let dir = PathBuf::from(std::env::var("CHAOS_DIR").expect("CHAOS_DIR"));
    let (database, redis) = (std::env::var("CHAOS_DATABASE").ok(), std::env::var("CHAOS_REDIS").ok());
    let config = config(&dir, database.as_deref(), redis.as_deref());
    let beside = match std::env::var("CHAOS_INTRUDES") {
        Ok(_) => Some(Store::open_beside(&config).await.expect("the database")),
        Err(_) => None,
    };
    let process = Process {
        ledger: Ledger::open(dir.join("ledger")),
        dir: dir.clone(),
        lease: lease(),
        beside,
    };
    process.become_it();
    let system = state::start(&config, registry(), true).await.expect("start");
    if std::env::var("CHAOS_FEEDS").is_ok() {
        feed(system.service.clone(), enough(&dir)).await;
    }
    std::future::pending::<()>().await;
}

/// Jobs that are enqueued together.
const PART: u32 = 100;

/// Enqueues the jobs from one number up to another, of about `ms` each and those that are there already no second time; while
/// the database is away, again and again. Some are a member's, some share a key of which one runs at a time, some are in another
/// queue, and some in batches.
async fn fill(service: &Service, from: u32, until_number: u32, ms: u32) {
    let member = Actor::named("ada", Role::Member);
    let job = |n: u32| NewJob {
        unique_key: Some(n.to_string()),
        unique_for: Some(86_400),
        concurrency_key: n.is_multiple_of(10).then(|| format!("key{}", n / 10 % 4)),
        queue: n.is_multiple_of(7).then(|| "other".into()),
        ..NewJob::of("work", json!({ "n": n, "ms": ms }))
    };
    for from in (from..until_number).step_by(PART as usize) {
        let numbers = from..until_number.min(from + PART);
        let batch = (from / PART).is_multiple_of(2).then_some("chaos");
        let (theirs, others): (Vec<u32>, Vec<u32>) = numbers.partition(|n| n % 5 == 1);
        for (actor, numbers) in [(&member, theirs), (&Actor::machine(), others)] {
            if numbers.is_empty() {
                continue;
            }
            until("the jobs are taken in", async || {
                let part = numbers.iter().copied().map(job).collect();
                service.enqueue_bulk(actor, part, batch).await.ok()
            })
            .await;
        }
    }
}

/// Has jobs come, as many as are worked on, until there is a file that says that it is enough.
async fn feed(service: Service, enough: PathBuf) {
    let actor = Actor::machine();
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    while !enough.exists() {
        tick.tick().await;
        // While the database is away nobody works, either.
        let Ok(counts) = service.counts(&actor).await else {
            continue;
        };
        if counts.of(Status::Pending) < u64::from(PART) {
            // Whoever was killed in the middle of a part is followed by one that completes it: the keys see to it that no job
            // comes twice.
            let next = u32::try_from(counts.total).expect("a number") / PART * PART;
            fill(&service, next, next + PART, 50).await;
        }
    }
}

/// Workers on jobs that keep coming. On a Redis there are several, and the test's own process has the jobs come; otherwise only
/// one process may use the database, and that does so itself.
struct Busy {
    workers: Vec<Worker>,
    service: Option<Service>,
}

impl Busy {
    async fn start(place: &Place, many: usize) -> Self {
        let mut busy = Self {
            workers: Vec::new(),
            service: None,
        };
        let mut many = many;
        if place.redis.is_some() {
            let service = place.service().await;
            tokio::spawn(feed(service.clone(), place.enough()));
            busy.service = Some(service);
        } else {
            many = 1;
        }
        for _ in 0..many {
            let worker = busy.worker(place);
            busy.workers.push(worker);
        }
        busy
    }

    fn worker(&self, place: &Place) -> Worker {
        match self.service {
            Some(_) => place.worker(),
            None => place.worker_with(&[("CHAOS_FEEDS", "1")]),
        }
    }

    /// Has no more jobs come, waits until all have ended, and checks what must hold whatever happened.
    async fn settle(mut self, place: &Place, what: &str) -> Report {
        place.no_more_jobs();
        if let Some(service) = self.service {
            return settle(place, &service, what).await;
        }
        let beside = Store::open_beside(&place.config()).await.expect("the database");
        until("every job has completed", async || {
            let counts = beside.counts().await.ok()?;
            (counts.total > 0 && counts.of(Status::Completed) == counts.total).then_some(())
        })
        .await;
        beside.close().await;
        // What only one process may use is looked at after that one has ended: a worker here ends the rest.
        self.workers.clear();
        let system = state::start(&place.config(), registry(), true).await.expect("start");
        let report = settle(place, &system.service, what).await;
        system.engine.expect("a worker").shut_down().await;
        system.service.close().await;
        report
    }
}

/// Waits for so many more jobs to end than have by now, and says how long that took.
async fn more(place: &Place, jobs: usize) -> Duration {
    let (began, before) = (Instant::now(), place.ledger.ended());
    until("work goes on", async || {
        (place.ledger.ended() >= before + jobs).then_some(())
    })
    .await;
    began.elapsed()
}

/// Waits until all jobs have ended, and checks what must hold whatever happened.
async fn settle(place: &Place, service: &Service, what: &str) -> Report {
    until("every job has completed", async || {
        let counts = service.counts(&Actor::machine()).await.ok()?;
        (counts.total > 0 && counts.of(Status::Completed) == counts.total).then_some(())
    })
    .await;
    let truth = truth::truth(service, &place.config()).await;
    let report = place.ledger.check(&truth);
    println!(
        "{what} on {}, leases of {:?}: {report}",
        harness::arrangement(),
        lease()
    );
    assert_eq!(report.lost, 0, "jobs without a completed attempt");
    assert_eq!(
        report.leases_at_once, 0,
        "two attempts at the same time, each with a lease"
    );
    assert_eq!(
        report.stale_accepted, 0,
        "what a worker without a lease wrote was taken"
    );
    assert_eq!(
        report.drift,
        ledger::Drift::default(),
        "what is kept about the jobs is not the truth"
    );
    assert!(truth.limited > 0, "jobs under limits were to be among them");
    report
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
    let busy = Busy::start(&place, 2).await;
    let (mut ended, mut restarted) = (Times::default(), Times::default());
    more(&place, 20).await;
    for _ in 0..rounds(2) {
        postgres.end_connections();
        ended.add(more(&place, 20).await);
        postgres.restart();
        restarted.add(more(&place, 20).await);
    }
    println!("work goes on after all connections ended: {ended}; after Postgres was restarted: {restarted}");
    busy.settle(&place, "Postgres restarted").await;
}
