//! The live stream and the log's WebSocket.

use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use reqwest::Method;
use reqwest::header::COOKIE;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use windlass::domain::event::ExportFormat;
use windlass::domain::job::NewJob;
use windlass::domain::live::LiveEvent;
use windlass::domain::user::Actor;
use windlass::server::config::RedisUrl;
use windlass::server::kinds::event_writer::to_file;
use windlass::server::kinds::sample::Samples;
use windlass::server::state;

use crate::chaos::servers::Redis;
use crate::harness::{self, Server, gate, unique, until};

/// One event of a stream.
struct Event {
    id: String,
    name: String,
    data: Value,
}

/// Reads Server-Sent Events of `/api/jobs/events`.
struct Stream {
    bytes: std::pin::Pin<Box<dyn futures::Stream<Item = reqwest::Result<Vec<u8>>> + Send>>,
    text: String,
}

impl Stream {
    async fn open(s: &Server, after: Option<&str>) -> Self {
        let mut ask = s.ask(Method::GET, "/api/jobs/events");
        if let Some(after) = after {
            ask = ask.header("Last-Event-ID", after);
        }
        let answer = ask.send().await.expect("answer");
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self {
            bytes: Box::pin(answer.bytes_stream().map(|b| b.map(|b| b.to_vec()))),
            text: String::new(),
        }
    }

    async fn next(&mut self) -> Event {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let prefix = format!("{name}: ");
                    block
                        .lines()
                        .find_map(|l| l.strip_prefix(&prefix))
                        .unwrap_or_default()
                        .to_string()
                };
                let event = Event {
                    id: field("id"),
                    name: field("event"),
                    data: serde_json::from_str(&field("data")).unwrap_or(Value::Null),
                };
                self.text = rest.to_string();
                if !event.name.is_empty() {
                    return event;
                }
                continue;
            }
            let next = tokio::time::timeout(std::time::Duration::from_secs(30), self.bytes.next()).await;
            let chunk = next.expect("an event in time").expect("an open stream").expect("bytes");
            self.text.push_str(&String::from_utf8(chunk).expect("text"));
        }
    }

    /// Reads on until a job is told in the middle of its work (`true`) or at its end.
    async fn at_work(&mut self, id: &str) -> bool {
        loop {
            let event = self.next().await;
            let jobs = event.data.as_array().cloned().unwrap_or_default();
            let Some(job) = jobs.iter().find(|j| j["id"] == id) else {
                continue;
            };
            match job["status"].as_str() {
                Some("running") if job["done"].as_u64().is_some_and(|n| n > 0) => return true,
                Some("completed") => return false,
                _ => {}
            }
        }
    }

    /// Reads on until a job is told with this status; gives the cursor.
    async fn until(&mut self, id: &str, status: &str) -> String {
        loop {
            let event = self.next().await;
            let jobs = event.data.as_array().cloned().unwrap_or_default();
            if event.name == "jobs" && jobs.iter().any(|j| j["id"] == id && j["status"] == status) {
                return event.id;
            }
        }
    }
}

#[tokio::test]
async fn every_change_is_told_and_a_cursor_resumes() {
    let s = Server::start().await;
    let mut stream = Stream::open(&s, None).await;
    let name = unique();
    let id = s.enqueue("gate", json!({ "name": name })).await;
    let cursor = stream.until(&id, "running").await;
    drop(stream);
    gate(&name).add_permits(1);
    s.until(&id, "completed").await;
    let mut stream = Stream::open(&s, Some(&cursor)).await;
    stream.until(&id, "completed").await;
    s.ask(Method::DELETE, &format!("/api/jobs/{id}"))
        .send()
        .await
        .expect("answer");
    loop {
        let event = stream.next().await;
        if event.name == "removed" {
            assert_eq!(event.data, json!([id]));
            break;
        }
    }
    loop {
        let event = stream.next().await;
        if event.name == "overview" && event.data["counts"]["total"] == 0 {
            break;
        }
    }
    drop(stream);
    s.stop().await;
}

#[tokio::test]
async fn an_unknown_cursor_is_told_to_fetch_again() {
    let s = Server::start().await;
    let mut stream = Stream::open(&s, Some("00000000-17")).await;
    assert_eq!(stream.next().await.name, "stale");
    drop(stream);
    s.stop().await;
}

/// Reads a log's socket until it says that the job has ended, or `stop` lines were read.
async fn read_log(s: &Server, id: &str, after: u64, stop: usize) -> (Vec<u64>, bool) {
    let url = format!("{}/api/jobs/{id}/logs/ws?after={after}", s.base.replace("http", "ws"));
    let mut request = url.into_client_request().expect("request");
    let session = harness::session(&s.base).await;
    request.headers_mut().insert(COOKIE, session);
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.expect("socket");
    let mut seen = Vec::new();
    while let Some(message) = socket.next().await {
        let Message::Text(text) = message.expect("message") else {
            continue;
        };
        let message: Value = serde_json::from_str(&text).expect("json");
        match message["type"].as_str() {
            Some("lines") => {
                let lines = message["lines"].as_array().expect("lines");
                seen.extend(lines.iter().map(|l| l["n"].as_u64().expect("number")));
            }
            Some("end") => return (seen, true),
            other => panic!("{other:?}"),
        }
        if seen.len() >= stop {
            break;
        }
    }
    (seen, false)
}

#[tokio::test]
async fn a_log_has_no_gap_and_no_repeat_across_reconnects() {
    let s = Server::start().await;
    let name = unique();
    let id = s.enqueue("talk", json!({ "lines": 5_000, "gate": name })).await;
    let (first, ended) = read_log(&s, &id, 0, 2_500).await;
    assert!(!ended);
    assert_eq!(first, (1..=first.len() as u64).collect::<Vec<_>>());
    gate(&name).add_permits(1);
    let last = *first.last().expect("lines");
    let (second, ended) = read_log(&s, &id, last, usize::MAX).await;
    assert!(ended, "the server says when the job has ended");
    assert_eq!(second, (last + 1..=5_000).collect::<Vec<_>>());
    // A log that is stored already.
    let (all, ended) = read_log(&s, &id, 0, usize::MAX).await;
    assert_eq!((all.len(), ended), (5_000, true));
    s.stop().await;
}

#[tokio::test]
async fn log_lines_are_filtered_and_downloadable() {
    let s = Server::start().await;
    let id = s.enqueue("talk", json!({ "lines": 40, "gate": null })).await;
    s.until(&id, "completed").await;
    let count = async |query: &str| {
        s.get(&format!("/api/jobs/{id}/logs?{query}"))
            .await
            .as_array()
            .expect("list")
            .len()
    };
    assert_eq!(count("").await, 40);
    assert_eq!(count("level=warn").await, 20);
    assert_eq!(count("level=error").await, 10);
    assert_eq!(count("after=30").await, 10);
    assert_eq!(count("q=LINE%2012").await, 1);
    assert_eq!(count("limit=3").await, 3);
    assert_eq!(count("until=2001-01-01T00:00:00Z").await, 0);
    let text = s
        .ask(Method::GET, &format!("/api/jobs/{id}/logs?format=text"))
        .send()
        .await
        .expect("answer");
    assert!(
        text.headers()["content-type"]
            .to_str()
            .expect("text")
            .starts_with("text/plain")
    );
    let text = text.text().await.expect("text");
    assert_eq!(text.lines().count(), 40);
    assert!(text.contains(" WARNING line 2\n"));
    s.stop().await;
}

/// A viewer's process loses the connection over which it hears of the others, and nothing else.
#[tokio::test]
async fn who_was_deaf_for_a_while_is_told_to_look_again() {
    if harness::arrangement() != "redis" {
        return;
    }
    let (redis, dir) = (Redis::start().await, TempDir::new().expect("folder"));
    let mut config = harness::config(dir.path());
    harness::arrange(&mut config, dir.path()).await;
    config.redis = RedisUrl::parse(&redis.url());
    let start = async || {
        let system = state::start(&config, state::registry(&config), false).await;
        system.expect("start").service
    };
    let (viewer, other, actor) = (start().await, start().await, Actor::machine());
    let mut live = Box::pin(viewer.live(&actor, None).expect("a stream"));
    let mut told = async |what: &str, wanted: &dyn Fn(&LiveEvent) -> bool| {
        let telling = async {
            while let Some((_, event)) = live.next().await {
                if wanted(&event) {
                    return;
                }
            }
        };
        let telling = tokio::time::timeout(Duration::from_secs(30), telling);
        telling.await.unwrap_or_else(|_| panic!("waited in vain for {what}"));
    };
    assert_eq!(redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).trim(), "2");
    told("the word to look again", &|event| matches!(event, LiveEvent::Stale)).await;
    let job = NewJob::of("export", json!({}));
    let id = other.enqueue(&actor, job).await.expect("taken in").job.id;
    told(
        "what another process does",
        &|event| matches!(event, LiveEvent::Jobs(jobs) if jobs.iter().any(|job| job.id == id)),
    )
    .await;
    for service in [viewer, other] {
        service.close().await;
    }
}

struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A file of events, and among them rows that each make a line in the log.
fn sample(dir: &std::path::Path) -> Vec<u8> {
    let path = dir.join("sample.csv");
    let mut writer = to_file(ExportFormat::Csv, &path, dir).expect("writer");
    for event in Samples::new(5, 60_000) {
        writer.write(&event).expect("row");
    }
    writer.finish().expect("file");
    let text = std::fs::read_to_string(&path).expect("file");
    let mut lines: Vec<&str> = text.lines().collect();
    for n in 1..200 {
        lines.insert(n * 250, "bad,cam-1,yesterday,low,vehicle,,false,");
    }
    (lines.join("\n") + "\n").into_bytes()
}

/// The web in one process and the work in another: what is told of the job comes over Redis, and so does what is asked of it, since
/// the next heartbeat is minutes away.
#[tokio::test]
async fn a_worker_in_another_process_is_seen_at_work_and_hears_what_is_asked() {
    if harness::arrangement() != "redis" {
        return;
    }
    let s = Server::on(Arc::new(TempDir::new().expect("folder")), false, |_| {}).await;
    let mut command = crate::crash::windlass(s.dir.path(), &["worker"], "127.0.0.1:0");
    command
        .envs(harness::environment(s.dir.path()).await)
        .env("WORKER_LEASE", "600s");
    let _worker = Worker(command.spawn().expect("a worker"));
    let file = sample(s.dir.path());
    let import = async || {
        let form = Form::new().part("file", Part::bytes(file.clone()).file_name("events.csv"));
        let ask = s.ask(Method::POST, "/api/events/import").multipart(form);
        let started: Value = ask.send().await.expect("answer").json().await.expect("json");
        started["job_id"].as_str().expect("id").to_string()
    };
    let mut stream = Stream::open(&s, None).await;
    let id = import().await;
    let (log, cursor) = tokio::join!(read_log(&s, &id, 0, usize::MAX), stream.at_work(&id));
    assert!(cursor, "its progress is told");
    let lines = s.detail(&id).await["log_lines"].as_u64().expect("number");
    assert!(lines > 100, "{lines}");
    assert_eq!(log, ((1..=lines).collect(), true));
    // One that ends before the wish arrives is followed by another.
    let mut cancelled = false;
    for _ in 0..10 {
        let id = import().await;
        if !stream.at_work(&id).await {
            continue;
        }
        s.act(&id, "cancel").await;
        let ended = until("it has ended", async || {
            let status = s.job(&id).await["status"].clone();
            (status == "cancelled" || status == "completed").then_some(status)
        });
        cancelled = ended.await == "cancelled";
        if cancelled {
            break;
        }
    }
    assert!(cancelled, "ten imports in another process heard nothing");
    drop(stream);
    s.stop().await;
}
