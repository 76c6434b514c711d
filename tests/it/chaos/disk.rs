//! A disk that takes no more, and a database file that somebody else holds.

use std::cell::Cell;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tempfile::TempDir;
use windlass::domain::error::ProblemCode;
use windlass::domain::job::{ActOptions, NewJob};
use windlass::domain::status::{Action, Status};
use windlass::domain::user::Actor;
use windlass::server::state;

use super::servers::{Postgres, Redis};
use super::{Place, long, truth};
use crate::harness::{self, Server, read, until};

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn open(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(Duration::from_secs(20))
        .connect()
        .await
        .expect("the database")
}

/// What SQLite itself finds wrong with the file.
async fn faults(path: &Path) -> String {
    let mut connection = open(path).await;
    let said = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_one(&mut connection)
        .await;
    connection.close().await.expect("closed");
    said.expect("an answer")
}

/// The one database file in the folder.
fn database(dir: &Path) -> std::path::PathBuf {
    let files = std::fs::read_dir(dir).expect("folder").map(|f| f.expect("file").path());
    let mut found = files.filter(|f| f.extension().is_some_and(|e| e == "db"));
    found.next().expect("a database")
}

/// The real binary, started by a shell's script that is given it as `$0`, once it answers; and where.
async fn serve(script: &str, dir: &Path, more: &[(&str, String)]) -> (Process, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
    let listen = listener.local_addr().expect("address").to_string();
    drop(listener);
    let child = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_windlass")])
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var("PATH").expect("PATH"))
        .env("DATA_DIR", dir)
        .envs(harness::admin())
        .env("LISTEN", &listen)
        .envs(more.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let server = Process(child.expect("spawn"));
    let base = format!("http://{listen}");
    until("the server", async || {
        let ready = Client::new().get(format!("{base}/readyz")).send().await.ok()?;
        ready.status().is_success().then_some(())
    })
    .await;
    (server, base)
}

/// Jobs of a kilobyte or so that nobody runs before the test is over.
fn part() -> Vec<Value> {
    let job = json!({ "type": "export", "args": { "format": "csv", "filter": { "camera_id": "x".repeat(60) } }, "delay": 3_600 });
    vec![job; 500]
}

/// Files may not grow beyond 8 MB: for the server that is a disk that is full. Then there is room again.
#[tokio::test]
async fn a_full_disk_refuses_clearly_and_harms_nothing() {
    if harness::arrangement() != "sqlite" {
        return;
    }
    let dir = TempDir::new().expect("folder");
    let (mut server, base) = serve("trap '' XFSZ; ulimit -S -f 16384; exec \"$0\" serve", dir.path(), &[]).await;
    let client = harness::signed_in(&base).await;
    let ask = async |path: &str| -> Option<Value> {
        let answer = client.get(format!("{base}{path}")).send().await.ok()?;
        answer.error_for_status().ok()?.json().await.ok()
    };
    until("the server", async || ask("/api/jobs/stats").await).await;
    let part = part();
    let enqueue = async || {
        let sent = client.post(format!("{base}/api/jobs/bulk")).json(&part).send().await;
        read(sent.expect("the server answers, whatever it says")).await
    };
    let mut taken = 0;
    let refused = loop {
        match enqueue().await {
            (StatusCode::ACCEPTED, _) => taken += part.len() as u64,
            (status, problem) => break (status, problem),
        }
        assert!(taken < 200_000, "the limit is not a limit");
    };
    assert_eq!(
        (refused.0, &refused.1["code"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("unavailable")),
        "{}",
        refused.1
    );
    let total = async || ask("/api/jobs/stats").await.map(|stats| stats["total"].as_u64());
    assert_eq!(total().await.flatten(), Some(taken), "all of a refused set, or nothing");
    let pid = server.0.id().to_string();
    let freed = Command::new("prlimit")
        .args(["--pid", &pid, "--fsize=unlimited:unlimited"])
        .status();
    assert!(freed.expect("prlimit").success());
    until("there is room again", async || {
        (enqueue().await.0 == StatusCode::ACCEPTED).then_some(())
    })
    .await;
    taken += part.len() as u64;
    assert_eq!(total().await.flatten(), Some(taken));
    println!("a full disk: {taken} jobs taken, none lost or half written, and on it went");
    server.0.kill().expect("kill -9");
    server.0.wait().expect("dead");
    assert_eq!(faults(&database(dir.path())).await, "ok");
}

/// A disk without room for what Postgres stores: that is refused. Then without room for its journal: that ends it, and somebody
/// has to make room and start it again.
#[tokio::test]
async fn a_postgres_without_room_refuses_clearly_and_loses_nothing() {
    if harness::arrangement() == "sqlite" {
        return;
    }
    let postgres = Postgres::start().await;
    let redis = match harness::arrangement() {
        "redis" => Some(Redis::start().await),
        _ => None,
    };
    let place = Place::new(Some(postgres.url()), redis.as_ref().map(Redis::url));
    let mut more = vec![("DATABASE_URL", postgres.url())];
    more.extend(redis.as_ref().map(|redis| ("REDIS_URL", redis.url())));
    let (mut server, base) = serve("exec \"$0\" serve", place.dir.path(), &more).await;
    let client = harness::signed_in(&base).await;
    let part = part();
    let enqueue = async |jobs: &[Value]| {
        let sent = client.post(format!("{base}/api/jobs/bulk")).json(&jobs).send().await;
        read(sent.expect("the server answers, whatever it says")).await
    };
    let refused = |(status, problem): (StatusCode, Value)| {
        let said = (status, &problem["code"]);
        assert_eq!(
            said,
            (StatusCode::SERVICE_UNAVAILABLE, &json!("unavailable")),
            "{problem}"
        );
    };
    let total = async |query: &str| -> Option<u64> {
        let answer = client
            .get(format!("{base}/api/jobs?limit=1{query}"))
            .send()
            .await
            .ok()?;
        let page: Value = answer.error_for_status().ok()?.json().await.ok()?;
        page["total"].as_u64()
    };
    let at_once = vec![json!({ "type": "export", "args": { "format": "csv" } }); 20];
    let (mut taken, mut run) = (0, 0);
    let rounds = super::rounds(1).min(20);
    for _ in 0..rounds {
        assert_eq!(enqueue(&at_once).await.0, StatusCode::ACCEPTED);
        run += at_once.len() as u64;
        postgres.fill_disk(true);
        let answer = loop {
            match enqueue(&part).await {
                (StatusCode::ACCEPTED, _) => taken += part.len() as u64,
                answer => break answer,
            }
            assert!(taken < 200_000, "the disk takes everything");
        };
        refused(answer);
        assert_eq!(total("").await, Some(taken + run), "all of a refused set, or nothing");
        // Of what was sent while it ended nobody knows the fate but the database; what was acknowledged is there.
        let (acknowledged, unsure) = (Cell::new(0), Cell::new(0));
        until("Postgres ends without a journal", async || {
            postgres.begin_journal();
            // Whoever writes next needs the file that can't be made.
            let fate = match enqueue(&part[..1]).await.0 {
                StatusCode::ACCEPTED => &acknowledged,
                _ => &unsure,
            };
            fate.set(fate.get() + 1);
            (!postgres.runs()).then_some(())
        })
        .await;
        refused(enqueue(&part).await);
        postgres.fill_disk(false);
        postgres.start_again();
        until("work goes on", async || {
            (enqueue(&part).await.0 == StatusCode::ACCEPTED).then_some(())
        })
        .await;
        let least = taken + acknowledged.get() + part.len() as u64;
        taken = total("&status=scheduled").await.expect("an answer");
        assert!(
            (least..=least + unsure.get()).contains(&taken),
            "{taken} are there; {least} were acknowledged, and {} may be",
            unsure.get()
        );
        until("what waited has run", async || {
            (total("&status=completed").await == Some(run)).then_some(())
        })
        .await;
    }
    println!("a Postgres without room, {rounds} times: {taken} jobs taken, {run} run");
    server.0.kill().expect("kill -9");
    server.0.wait().expect("dead");
    assert_eq!(truth::ask(&place.config(), truth::COUNTS).await, 0, "counts adrift");
}

/// Longer than a statement waits for another writer, twice: what is tried once and once more has failed by then.
const HELD: Duration = Duration::from_secs(12);
/// Longer than a commit is tried, and the one behind it: whoever asks then is told by now.
const GIVEN_UP: Duration = Duration::from_secs(100);

/// Takes the right to write, as a backup tool does.
async fn hold(path: &Path) -> SqliteConnection {
    let mut other = open(path).await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.expect("held");
    other
}

async fn let_go(mut other: SqliteConnection) {
    sqlx::query("COMMIT").execute(&mut other).await.expect("let go");
    other.close().await.expect("closed");
}

/// Another process writes for longer than a statement waits, and in the long run for longer than anything is tried again.
#[tokio::test]
async fn a_database_that_somebody_else_holds_is_waited_for_and_then_given_up() {
    if harness::arrangement() != "sqlite" {
        return;
    }
    // Without a worker nobody else writes: what is asked for is the first thing to be tried.
    let s = Server::on(Arc::new(TempDir::new().expect("folder")), false, |_| {}).await;
    let path = database(s.dir.path());
    let total = async || s.get("/api/jobs").await["total"].as_u64();
    let job = json!({ "type": "echo", "args": { "value": 1 } });
    let part = json!(vec![job; 50]);
    let other = hold(&path).await;
    {
        let mut asked = Box::pin(s.post("/api/jobs/bulk", part));
        let early = tokio::time::timeout(HELD, &mut asked).await;
        assert!(early.is_err(), "it was not waited for: {early:?}");
        assert_eq!(
            total().await,
            Some(0),
            "what only reads goes on, and nothing is acknowledged"
        );
        let_go(other).await;
        let (status, answer) = asked.await;
        assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    }
    assert_eq!(total().await, Some(50));
    let dir = s.stop().await;
    if long() {
        given_up(dir.path()).await;
    }
    assert_eq!(faults(&path).await, "ok");
}

/// Somebody holds the database for longer than a commit is tried. HTTP's callers are told that earlier, by the time limit of
/// their requests; here it is the store that says so.
async fn given_up(dir: &Path) {
    let config = harness::config(dir);
    let started = state::start(&config, state::registry(&config), false).await;
    let service = started.expect("the system starts").service;
    let actor = Actor::machine();
    let part = || {
        let job = NewJob::of("export", json!({ "format": "csv" }));
        service.enqueue_bulk(&actor, vec![job; 50], None)
    };
    let there = part().await.expect("taken in").ids[0];
    let total = async || service.counts(&actor).await.expect("counts").total;
    let before = total().await;
    let other = hold(&config.database_path()).await;
    let began = Instant::now();
    // A set, and an operation by itself.
    let cancel = service.act(&actor, there, Action::Cancel, ActOptions::default());
    let both = async { tokio::join!(part(), cancel) };
    let (set, single) = tokio::time::timeout(GIVEN_UP, both).await.expect("an answer");
    let (set, single) = (set.expect_err("held"), single.expect_err("held"));
    assert_eq!(
        (set.code, single.code),
        (ProblemCode::Unavailable, ProblemCode::Unavailable)
    );
    println!("a held database: \"{set}\" after {:?}", began.elapsed());
    let_go(other).await;
    // It goes on by itself, and nothing of what was refused comes after all.
    part().await.expect("taken in");
    assert_eq!(total().await, before + 50, "all of a refused set, or nothing");
    let job = service.job(&actor, there).await.expect("there");
    assert_eq!(job.status, Status::Pending, "the refused cancel");
    service.close().await;
}
