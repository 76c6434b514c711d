//! The real binary, killed in the middle of its work.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::Client;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;
use windlass::server::config::Database;
use windlass::server::store::Store;

use crate::harness::{ADMIN, signed_in, until};

struct Process {
    child: Child,
    base: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The real binary, told to keep its things in `dir`.
pub fn windlass(dir: &Path, args: &[&str], listen: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
    command
        .args(args)
        .current_dir(dir)
        .env_clear()
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
        .envs(crate::harness::admin())
        .env("DATA_DIR", dir)
        .env("LISTEN", listen)
        .env("WORKER_LEASE", "3s")
        .env("SHUTDOWN_GRACE", "20s");
    command
}

async fn serve(dir: &Path, client: &Client) -> Process {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("port")
        .local_addr()
        .expect("address")
        .port();
    let listen = format!("127.0.0.1:{port}");
    let place = crate::harness::environment(dir).await;
    let mut command = windlass(dir, &["serve"], &listen);
    let child = command.envs(place).spawn().expect("spawn");
    let process = Process {
        child,
        base: format!("http://{listen}"),
    };
    until("the server", async || {
        let ready = client.get(format!("{}/readyz", process.base)).send().await.ok()?;
        ready.status().is_success().then_some(())
    })
    .await;
    process
}

async fn get(client: &Client, url: String) -> Value {
    client
        .get(url)
        .send()
        .await
        .expect("answer")
        .json()
        .await
        .expect("json")
}

/// An import that is killed in its middle goes on after the restart: acknowledged means on disk, nothing is doubled, and the
/// death is on record.
#[tokio::test]
async fn a_job_survives_kill_9_and_runs_again() {
    let dir = TempDir::new().expect("folder");
    let mut server = serve(dir.path(), &Client::new()).await;
    let client = signed_in(&server.base).await;
    let id = import_begun(&server, dir.path(), &client).await;
    server.child.kill().expect("kill -9");
    server.child.wait().expect("dead");
    let server = serve(dir.path(), &client).await;
    let client = signed_in(&server.base).await;
    let detail = imported(&server, &client, &id, "worker_lost").await;
    let (new, old) = (&detail["result"]["imported"], &detail["result"]["duplicates"]);
    assert_eq!(
        (new, old),
        (&json!(60_000), &json!(0)),
        "it went on where it was: the result is that of an undisturbed run"
    );
    let id = export(&server, &client).await;
    let expected = exported(&server, &client, &id).await;
    assert_eq!(expected["rows"], 60_000, "nothing lost, nothing doubled");
    an_export_that_is_killed_gives_the_same_file(server, dir.path(), &client, &expected).await;
}

/// An import of 60,000 rows that is in its middle.
async fn import_begun(server: &Process, dir: &Path, client: &Client) -> String {
    let file = dir.join("events.csv");
    let made = windlass(
        dir,
        &["demo", "--events", "60000", "--to", file.to_str().expect("path")],
        "127.0.0.1:0",
    );
    assert!({ made }.status().expect("demo").success());
    let form = Form::new().part(
        "file",
        Part::bytes(std::fs::read(&file).expect("file")).file_name("events.csv"),
    );
    let started = client
        .post(format!("{}/api/events/import", server.base))
        .multipart(form)
        .send()
        .await
        .expect("answer");
    let started: Value = started.json().await.expect("json");
    let id = started["job_id"].as_str().expect("id").to_string();
    until("some rows", async || {
        let job = get(client, format!("{}/api/jobs/{id}", server.base)).await;
        assert_ne!(job["status"], "completed", "it was to be killed in its middle");
        (job["message"].as_str()?.contains("Import") && job["done"].as_u64()? > 0).then_some(())
    })
    .await;
    id
}

/// All of that job once its second attempt has completed; `first`: how the first one ended.
async fn imported(server: &Process, client: &Client, id: &str, first: &str) -> Value {
    let detail = until("the second attempt", async || {
        let detail = get(client, format!("{}/api/jobs/{id}/detail", server.base)).await;
        (detail["job"]["status"] == "completed").then_some(detail)
    })
    .await;
    let attempts = detail["attempts"].as_array().expect("list").iter();
    let outcomes: Vec<_> = attempts.map(|a| a["outcome"].clone()).collect();
    assert_eq!(outcomes, [first, "completed"]);
    detail
}

async fn export(server: &Process, client: &Client) -> String {
    let export = client
        .post(format!("{}/api/events/export", server.base))
        .json(&json!({ "format": "ndjson" }));
    let export: Value = export.send().await.expect("answer").json().await.expect("json");
    export["job_id"].as_str().expect("id").to_string()
}

async fn exported(server: &Process, client: &Client, id: &str) -> Value {
    until("the export", async || {
        let detail = get(client, format!("{}/api/jobs/{id}/detail", server.base)).await;
        detail["result"].is_object().then(|| detail["result"].clone())
    })
    .await
}

/// Killed behind its checkpoint: it goes on from there. What brings it to a checkpoint at once, however fast the machine is, is a
/// pause.
async fn an_export_that_is_killed_gives_the_same_file(
    mut server: Process,
    dir: &Path,
    client: &Client,
    expected: &Value,
) {
    let mut resumed = false;
    for _ in 0..20 {
        let id = export(&server, client).await;
        let act = async |what: &str| {
            let url = format!("{}/api/jobs/{id}/{what}", server.base);
            client.post(url).send().await.expect("answer").status().is_success()
        };
        let one_of = async |statuses: [&str; 2]| {
            until("its next status", async || {
                let job = get(client, format!("{}/api/jobs/{id}", server.base)).await;
                statuses.contains(&job["status"].as_str()?).then_some(())
            })
            .await;
        };
        // It may have ended before either of them.
        act("pause").await;
        one_of(["paused", "completed"]).await;
        act("resume").await;
        one_of(["running", "completed"]).await;
        server.child.kill().expect("kill -9");
        server.child.wait().expect("dead");
        server = serve(dir, client).await;
        let result = exported(&server, client, &id).await;
        for what in ["rows", "bytes", "sha256"] {
            assert_eq!(result[what], expected[what]);
        }
        let detail = get(client, format!("{}/api/jobs/{id}/detail", server.base)).await;
        let attempts = detail["attempts"].as_array().expect("list");
        let killed = attempts.iter().any(|attempt| attempt["outcome"] == "worker_lost");
        let log = get(client, format!("{}/api/jobs/{id}/logs?q=going on behind", server.base)).await;
        let lines = log.as_array().expect("list").iter();
        let last = &detail["job"]["attempt"];
        resumed = killed && lines.filter(|line| line["attempt"] == *last).count() > 0;
        if resumed {
            break;
        }
    }
    assert!(
        resumed,
        "twenty exports were all too fast to be killed behind a checkpoint"
    );
}

/// What runs is handed back at its next checkpoint, and goes on from there in the next process.
#[tokio::test]
async fn a_term_signal_ends_the_server_well_and_hands_back_what_runs() {
    let dir = TempDir::new().expect("folder");
    let mut server = serve(dir.path(), &Client::new()).await;
    let client = signed_in(&server.base).await;
    let id = import_begun(&server, dir.path(), &client).await;
    let pid = server.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .expect("kill")
            .success()
    );
    let waiting = tokio::task::spawn_blocking(move || server.child.wait());
    let status = tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .expect("in time")
        .expect("join");
    assert!(status.expect("status").success());
    let server = serve(dir.path(), &client).await;
    let client = signed_in(&server.base).await;
    let detail = imported(&server, &client, &id, "handed_back").await;
    let steps = detail["transitions"].as_array().expect("list");
    let left = |step: &Value| {
        step["reason"]
            .as_str()
            .is_some_and(|why| why.contains("from its checkpoint"))
    };
    assert!(steps.iter().any(left), "not at a checkpoint: {steps:?}");
    assert_eq!(detail["job"]["attempt"], 2);
    let (new, old) = (&detail["result"]["imported"], &detail["result"]["duplicates"]);
    assert_eq!((new, old), (&json!(60_000), &json!(0)));
}

/// Started with a setting from each place: what it says of them.
#[tokio::test]
async fn the_settings_are_shown_with_where_they_come_from_and_without_secrets() {
    let dir = TempDir::new().expect("folder");
    let file = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("file");
    file(
        "Leptos.toml",
        "[windlass]\nworker_concurrency = 3\njob_timeout = \"90s\"\n",
    );
    file(
        ".env",
        "JOB_TIMEOUT=80s\nSECRET_KEY_OLD=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n",
    );
    let server = serve(dir.path(), &Client::new()).await;
    let client = signed_in(&server.base).await;
    let settings = get(&client, format!("{}/api/settings", server.base)).await;
    let all = settings.as_array().expect("settings");
    let of = |name: &str| all.iter().find(|s| s["name"] == name).expect("setting");
    for (name, value, origin) in [
        ("WORKER_CONCURRENCY", json!("3"), "file"),
        ("JOB_TIMEOUT", json!("80s"), "dot_env"),
        ("SHUTDOWN_GRACE", json!("20s"), "environment"),
        ("JOB_MAX_RETRIES", json!("4"), "default"),
        ("ADMIN_PASSWORD", Value::Null, "environment"),
        ("SECRET_KEY_OLD", Value::Null, "dot_env"),
        ("OIDC_CLIENT_SECRET", Value::Null, "default"),
    ] {
        let setting = of(name);
        assert_eq!(
            (&setting["value"], &setting["origin"]),
            (&value, &json!(origin)),
            "{setting}"
        );
    }
    let page = client
        .get(format!("{}/settings", server.base))
        .send()
        .await
        .expect("answer");
    let page = page.text().await.expect("text");
    assert!(
        page.contains("WORKER_CONCURRENCY") && page.contains("Secret, set"),
        "{page}"
    );
    for text in [page, settings.to_string()] {
        assert!(!text.contains("00112233") && !text.contains(ADMIN.1));
    }
}

#[test]
fn settings_that_can_not_be_taken_stop_the_start() {
    let dir = TempDir::new().expect("folder");
    for (name, value, says) in [
        ("ADMIN_EMAIL", "no address", "e-mail"),
        ("WORKER_CONCURRENCY", "none", "whole number"),
    ] {
        let mut command = windlass(dir.path(), &["serve"], "127.0.0.1:0");
        let output = command
            .env(name, value)
            .stderr(Stdio::piped())
            .output()
            .expect("output");
        let text = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(
            text.contains(name) && text.contains(value) && text.contains(says),
            "{text}"
        );
    }
}

/// A schema of a version that this build does not know, and one that is not what this build made of it.
#[tokio::test]
async fn a_database_of_another_windlass_is_refused() {
    let dir = TempDir::new().expect("folder");
    let mut config = crate::harness::config(dir.path());
    crate::harness::arrange(&mut config, dir.path()).await;
    let store = Store::open(&config).await.expect("a new database");
    store.close().await;
    drop(store);
    let run = async |text: &'static str| match &config.database {
        Database::Sqlite(_) => {
            let options = SqliteConnectOptions::new().filename(config.database_path());
            let mut connection = options.connect().await.expect("the database");
            sqlx::query(text).execute(&mut connection).await.expect(text);
            connection.close().await.expect("closed");
        }
        Database::Postgres(url) => {
            let mut connection = url.options().connect().await.expect("the database");
            sqlx::query(text).execute(&mut connection).await.expect(text);
            connection.close().await.expect("closed");
        }
    };
    let refused = async || match Store::open(&config).await {
        Ok(_) => panic!("it was opened"),
        Err(error) => error.to_string(),
    };
    run(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         SELECT 9999, 'later', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1",
    )
    .await;
    let text = refused().await;
    assert!(text.contains("newer Windlass") && text.contains("9999"), "{text}");
    run("DELETE FROM _sqlx_migrations WHERE version = 9999").await;
    run("UPDATE _sqlx_migrations SET checksum = 'x' WHERE version = 1").await;
    let text = refused().await;
    assert!(text.contains("another schema 1"), "{text}");
}
