//! Jobs that are paused, handed back or killed in their middle, and go on from there: what comes of them is what an undisturbed
//! run gives.

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use windlass::domain::event::ExportFormat;
use windlass::server::kinds::event_writer::to_file;
use windlass::server::kinds::sample::Samples;

use crate::harness::{Server, until};

/// So many rows that there is time to come between.
const ROWS: u64 = 16_000;

fn sample(dir: &std::path::Path) -> Vec<u8> {
    let path = dir.join("sample.csv");
    let mut writer = to_file(ExportFormat::Csv, &path, dir).expect("writer");
    for event in Samples::new(5, ROWS) {
        writer.write(&event).expect("row");
    }
    writer.finish().expect("file");
    let mut bytes = std::fs::read(&path).expect("file");
    // Bad rows, spread over the file, which every run must report alike.
    let text = String::from_utf8(std::mem::take(&mut bytes)).expect("text");
    let mut lines: Vec<&str> = text.lines().collect();
    for at in [15_600, 8_000, 2_000] {
        lines.insert(at, "bad,cam-1,yesterday,low,vehicle,,false,");
    }
    (lines.join("\n") + "\n").into_bytes()
}

async fn import(s: &Server, file: &[u8]) -> String {
    let form = Form::new().part("file", Part::bytes(file.to_vec()).file_name("events.csv"));
    let answer = s
        .client
        .post(format!("{}/api/events/import", s.base))
        .multipart(form)
        .send()
        .await
        .expect("answer");
    let started: Value = answer.json().await.expect("json");
    started["job_id"].as_str().expect("id").to_string()
}

async fn export(s: &Server, format: &str) -> String {
    let (_, started) = s.post("/api/events/export", json!({ "format": format })).await;
    started["job_id"].as_str().expect("id").to_string()
}

/// Whether the job came into the middle of its rows; `false` when it was too fast and has ended.
async fn in_the_middle(s: &Server, id: &str) -> bool {
    until("the job is in its middle", async || {
        let job = s.job(id).await;
        match job["status"].as_str() {
            Some("completed") => Some(false),
            // What an earlier attempt had done is on the job while the next one has yet to begin.
            Some("running") => (job["done"].as_u64()? > 2_000).then_some(true),
            _ => None,
        }
    })
    .await
}

/// A job that was paused in its middle: one that was too fast for that is let go, and another one started.
async fn paused(s: &Server, start: impl AsyncFn() -> String) -> String {
    for _ in 0..50 {
        let id = start().await;
        if !in_the_middle(s, &id).await || s.act(&id, "pause").await.0 != StatusCode::OK {
            continue;
        }
        let ended = until("it is paused, or was faster", async || {
            let status = s.job(&id).await["status"].clone();
            (status == "completed" || status == "paused").then_some(status)
        })
        .await;
        if ended == "paused" {
            return id;
        }
    }
    panic!("fifty jobs were all too fast to be paused")
}

async fn result(s: &Server, id: &str) -> Value {
    s.until(id, "completed").await;
    s.detail(id).await["result"].clone()
}

#[tokio::test]
async fn an_import_goes_on_after_a_pause_and_a_handing_back() {
    let plain = Server::start().await;
    let file = sample(plain.dir.path());
    let undisturbed = import(&plain, &file).await;
    let expected = result(&plain, &undisturbed).await;
    plain.stop().await;
    assert_eq!(
        (&expected["imported"], &expected["rejected"]),
        (&json!(ROWS), &json!(3))
    );

    // A job may end before what disturbs it arrives; then another one is tried.
    let mut s = Server::start().await;
    let mut disturbed = None;
    for _ in 0..20 {
        let id = paused(&s, async || import(&s, &file).await).await;
        let (status, _) = s.act(&id, "resume").await;
        assert_eq!(status, StatusCode::OK);
        if !in_the_middle(&s, &id).await {
            continue;
        }
        // A shutdown hands it back at its next checkpoint.
        let dir = s.stop().await;
        s = Server::on(dir, true, |_| {}).await;
        assert_eq!(result(&s, &id).await, expected);
        let outcomes: Vec<Value> = s.detail(&id).await["attempts"]
            .as_array()
            .expect("list")
            .iter()
            .map(|a| a["outcome"].clone())
            .collect();
        if outcomes == ["paused", "completed"] {
            continue;
        }
        assert_eq!(outcomes, ["paused", "handed_back", "completed"]);
        disturbed = Some(id);
        break;
    }
    let id = disturbed.expect("twenty jobs were all too fast to be disturbed twice");
    let log = s.get(&format!("/api/jobs/{id}/logs?q=going on behind")).await;
    assert_eq!(
        log.as_array().or_else(|| log["items"].as_array()).map_or(0, Vec::len),
        2,
        "{log}"
    );
    s.stop().await;
}

#[tokio::test]
async fn an_export_goes_on_after_a_pause_and_gives_the_same_file() {
    let s = Arc::new(Server::start().await);
    let file = sample(s.dir.path());
    let imported = import(&s, &file).await;
    s.until(&imported, "completed").await;
    for format in ["csv", "json", "ndjson", "zip", "xlsx"] {
        let start = async || export(&s, format).await;
        let undisturbed = start().await;
        let expected = result(&s, &undisturbed).await;
        let id = paused(&s, start).await;
        assert!(s.dir.path().join("work").join(&id).exists());
        s.act(&id, "resume").await;
        let done = result(&s, &id).await;
        for what in ["rows", "bytes", "sha256"] {
            assert_eq!(done[what], expected[what], "{format}");
        }
        assert_eq!(
            s.detail(&id).await["attempts"].as_array().expect("list").len(),
            2,
            "{format}"
        );
        let folder = s.dir.path().join("work").join(&id);
        until("its folder is gone", async || (!folder.exists()).then_some(())).await;
    }
    Arc::try_unwrap(s).ok().expect("alone").stop().await;
}

#[tokio::test]
async fn an_export_goes_on_after_a_handing_back_and_gives_the_same_file() {
    let mut s = Server::start().await;
    let file = sample(s.dir.path());
    let imported = import(&s, &file).await;
    s.until(&imported, "completed").await;
    // With no grace it is cut short wherever it is; otherwise it leaves at a checkpoint.
    let grace = Duration::from_millis(200);
    let cases = [
        ("json", grace),
        ("zip", grace),
        ("csv", Duration::ZERO),
        ("xlsx", Duration::ZERO),
    ];
    for (format, grace) in cases {
        s = Server::on(s.stop().await, true, |c| c.shutdown_grace = grace).await;
        let undisturbed = export(&s, format).await;
        let expected = result(&s, &undisturbed).await;
        let mut disturbed = false;
        for _ in 0..20 {
            let id = export(&s, format).await;
            if !in_the_middle(&s, &id).await {
                continue;
            }
            s = Server::on(s.stop().await, true, |c| c.shutdown_grace = grace).await;
            let done = result(&s, &id).await;
            for what in ["rows", "bytes", "sha256"] {
                assert_eq!(done[what], expected[what], "{format}");
            }
            let attempts = s.detail(&id).await["attempts"].clone();
            let first = &attempts[0]["outcome"];
            if attempts.as_array().map(Vec::len) == Some(2) {
                assert_eq!(*first, "handed_back", "{format}");
                disturbed = true;
                break;
            }
        }
        assert!(
            disturbed,
            "twenty exports to {format} were all too fast to be disturbed"
        );
    }
    s.stop().await;
}
