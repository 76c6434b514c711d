//! What is kept no longer goes, and what is kept stays.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;
use windlass::domain::retention::Rule;
use windlass::domain::status::Status;

use crate::chaos::truth::ask;
use crate::harness::{self, Server, until};

#[tokio::test]
async fn the_minutes_add_up_to_what_happened() {
    let s = Server::start().await;
    let mut ids = Vec::new();
    for n in 0..12 {
        ids.push(s.enqueue("echo", json!({ "value": n })).await);
    }
    let bad = s.enqueue("panics", json!({})).await;
    let flaky = s.enqueue("flaky", json!({ "times": 1, "permanent": false })).await;
    let late = s.post("/api/jobs", json!({ "type": "echo", "delay": 3_600 })).await.1;
    s.act(late["id"].as_str().expect("id"), "cancel").await;
    for id in &ids {
        s.until(id, "completed").await;
    }
    s.until(&bad, "dead").await;
    s.until(&flaky, "completed").await;
    let series = s.get("/api/jobs/stats/series?minutes=10&step=5").await;
    let steps = series["steps"].as_array().expect("steps");
    assert_eq!((&series["step_minutes"], steps.len()), (&json!(5), 2));
    let sum = |steps: &[serde_json::Value], path: &str| -> u64 {
        steps
            .iter()
            .map(|step| step.pointer(path).and_then(|n| n.as_u64()).expect(path))
            .sum()
    };
    for (path, expected) in [
        ("/enqueued", 15),
        ("/completed", 13),
        ("/dead", 1),
        ("/cancelled", 1),
        ("/retried", 1),
        ("/failed", 0),
        ("/wait/count", 15),
        ("/run/count", 15),
    ] {
        assert_eq!(sum(steps, path), expected, "{path}: {series}");
    }
    let of_kind = s.get("/api/jobs/stats/series?minutes=10&step=10&type=panics").await;
    assert_eq!(sum(of_kind["steps"].as_array().expect("steps"), "/enqueued"), 1);
    let answer = s
        .ask(reqwest::Method::GET, "/api/jobs/stats/series?minutes=0")
        .send()
        .await
        .expect("answer");
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    s.stop().await;
}

#[tokio::test]
async fn old_jobs_go_by_status_and_kind_with_all_that_is_theirs() {
    let s = Server::with(|c| {
        let rule = |status, kind: Option<&str>, after_ms| Rule {
            status,
            kind: kind.map(str::to_string),
            after_ms,
        };
        c.retention = vec![
            rule(Status::Completed, None, Some(0)),
            rule(Status::Completed, Some("talk"), None),
            rule(Status::Dead, None, Some(3_600_000)),
        ];
        c.sweep_every = Duration::from_millis(200);
    })
    .await;
    let kept = s.enqueue("talk", json!({ "lines": 3 })).await;
    s.until(&kept, "completed").await;
    let dead = s.enqueue("panics", json!({})).await;
    s.until(&dead, "dead").await;
    // What a killed worker, and a sender who went away, leave behind; and an upload that still comes in.
    let tmp = s.dir.path().join("tmp");
    let (stale, stalled, coming) = (
        tmp.join(format!("{dead}-99")),
        tmp.join("upload-1"),
        tmp.join("upload-2"),
    );
    std::fs::create_dir(&stale).expect("folder");
    std::fs::write(stale.join("half"), "written").expect("file");
    std::fs::write(&coming, "some").expect("file");
    let file = std::fs::File::create(&stalled).expect("file");
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(7_200))
        .expect("its time");
    let (_, export) = s.post("/api/events/export", json!({ "format": "csv" })).await;
    let export = export["job_id"].as_str().expect("id").to_string();
    let echo = s.enqueue("echo", json!({})).await;
    for gone in [&export, &echo] {
        until("it is removed", async || {
            let answer = s
                .ask(reqwest::Method::GET, &format!("/api/jobs/{gone}"))
                .send()
                .await
                .expect("answer");
            (answer.status() == StatusCode::NOT_FOUND).then_some(())
        })
        .await;
    }
    until("its files are gone", async || {
        (!s.dir.path().join("artifacts").join(&export).exists()).then_some(())
    })
    .await;
    until("what was left behind is gone", async || {
        (!stale.exists() && !stalled.exists()).then_some(())
    })
    .await;
    assert!(coming.exists());
    for id in [&kept, &dead] {
        s.job(id).await;
    }
    let health = until("the sweep is on record", async || {
        let health = s.get("/api/admin/jobs/health").await;
        health["checks"]["lastSweep"]["jobs"].is_u64().then_some(health)
    })
    .await;
    assert!(health["checks"]["lastSweep"]["at"].is_string());
    let stats = s.get("/api/jobs/stats").await;
    assert_eq!(stats["total"], 2, "{stats}");
    let mut config = harness::config(s.dir.path());
    harness::arrange(&mut config, s.dir.path()).await;
    for left in [
        "SELECT CAST(COUNT(*) AS BIGINT) FROM job_data WHERE job_seq NOT IN (SELECT seq FROM jobs)",
        "SELECT CAST(COUNT(*) AS BIGINT) FROM attempts WHERE job_seq NOT IN (SELECT seq FROM jobs)",
        "SELECT CAST(COUNT(*) AS BIGINT) FROM transitions WHERE job_seq NOT IN (SELECT seq FROM jobs)",
        "SELECT CAST(COUNT(*) AS BIGINT) FROM job_logs WHERE job_seq NOT IN (SELECT seq FROM jobs)",
    ] {
        assert_eq!(ask(&config, left).await, 0, "{left}");
    }
    s.stop().await;
}
