//! A disk that takes no more, and a database file that somebody else holds.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tempfile::TempDir;

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

/// Files may not grow beyond 8 MB: for the server that is a disk that is full. Then there is room again.
#[tokio::test]
async fn a_full_disk_refuses_clearly_and_harms_nothing() {
    if harness::arrangement() != "sqlite" {
        return;
    }
    let dir = TempDir::new().expect("folder");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
    let listen = listener.local_addr().expect("address").to_string();
    drop(listener);
    let script = "trap '' XFSZ; ulimit -S -f 16384; exec \"$0\" serve";
    let child = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_windlass")])
        .current_dir(dir.path())
        .env_clear()
        .env("PATH", std::env::var("PATH").expect("PATH"))
        .env("DATA_DIR", dir.path())
        .env("LISTEN", &listen)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut server = Process(child.expect("spawn"));
    let (client, base) = (Client::new(), format!("http://{listen}"));
    let ask = async |path: &str| -> Option<Value> {
        let answer = client.get(format!("{base}{path}")).send().await.ok()?;
        answer.error_for_status().ok()?.json().await.ok()
    };
    until("the server", async || ask("/api/jobs/stats").await).await;
    let job = json!({ "type": "export", "args": { "format": "csv", "filter": { "camera_id": "x".repeat(60) } }, "delay": 3_600 });
    let part = vec![job; 500];
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

/// Another process writes for longer than a caller waits.
#[tokio::test]
async fn a_database_that_somebody_else_holds_is_waited_for() {
    if harness::arrangement() != "sqlite" {
        return;
    }
    let s = Server::start().await;
    let path = database(s.dir.path());
    let mut other = open(&path).await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.expect("held");
    let waits = tokio::time::timeout(Duration::from_secs(1), s.enqueue("echo", json!({ "value": 1 })));
    assert!(waits.await.is_err(), "nothing is acknowledged that can't be written");
    // What only reads goes on.
    assert_eq!(s.get("/api/jobs").await["total"], 0);
    sqlx::query("COMMIT").execute(&mut other).await.expect("let go");
    other.close().await.expect("closed");
    let id = s.enqueue("echo", json!({ "value": 2 })).await;
    s.until(&id, "completed").await;
    // The first one's caller has gone; what it asked for was written once, or not at all.
    let total = s.get("/api/jobs").await["total"].as_u64();
    assert!(matches!(total, Some(1 | 2)), "{total:?}");
    let dir = s.stop().await;
    assert_eq!(faults(&database(dir.path())).await, "ok");
}
