//! Schedules: what people do with them, and that each run is enqueued once.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use windlass::domain::job::Lane;
use windlass::domain::kind::Policy;
use windlass::domain::schedule::Misfire;
use windlass::server::store::Store;
use windlass::server::store::enqueue::Enqueue;
use windlass::server::store::schedules::ScheduleDraft;

use crate::harness::{self, Server, unique, until};

async fn make(s: &Server, body: Value) -> Value {
    let (status, schedule) = s.post("/api/schedules", body).await;
    assert_eq!(status, StatusCode::CREATED, "{schedule}");
    schedule
}

#[tokio::test]
async fn a_schedule_runs_again_and_again_until_it_is_paused() {
    let s = Server::start().await;
    let name = unique();
    let made = make(
        &s,
        json!({ "name": name, "cron": "* * * * * *", "type": "echo", "args": { "value": 7 } }),
    )
    .await;
    assert_eq!((&made["time_zone"], &made["paused"]), (&json!("UTC"), &json!(false)));
    assert!(
        made["description"]
            .as_str()
            .expect("words")
            .to_lowercase()
            .contains("second"),
        "{made}"
    );
    let path = format!("/api/schedules/{}", made["id"].as_str().expect("id"));
    until("two runs", async || {
        (s.get("/api/jobs?type=echo&status=completed").await["total"].as_u64()? >= 2).then_some(())
    })
    .await;
    let now = s.get(&path).await;
    assert!(now["last_at"].is_string() && now["next_at"].is_string(), "{now}");
    let job = s.detail(now["last_job"].as_str().expect("job")).await;
    assert_eq!(job["args"]["value"], 7);
    assert!(
        job["transitions"][0]["reason"]
            .as_str()
            .expect("reason")
            .contains(&name)
    );
    let (_, paused) = s.post(&format!("{path}/pause"), json!({})).await;
    assert_eq!((&paused["paused"], &paused["next_at"]), (&json!(true), &Value::Null));
    let (status, job) = s.post(&format!("{path}/run-now"), json!({})).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    s.until(job["id"].as_str().expect("id"), "completed").await;
    let (_, resumed) = s.post(&format!("{path}/resume"), json!({})).await;
    assert!(resumed["next_at"].is_string());
    // Every run has another time.
    let jobs = s.get("/api/jobs?type=echo&limit=100").await;
    let starts: BTreeSet<String> = jobs["items"]
        .as_array()
        .expect("list")
        .iter()
        .map(|j| j["created_at"].to_string())
        .collect();
    assert_eq!(starts.len(), jobs["items"].as_array().expect("list").len());
    let gone = s.ask(Method::DELETE, &path).send().await.expect("answer");
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    assert_eq!(s.get("/api/schedules").await, json!([]));
    s.stop().await;
}

#[tokio::test]
async fn bad_schedules_are_refused_with_the_field_and_what_is_allowed() {
    let s = Server::start().await;
    let good = json!({ "name": "nightly", "cron": "30 2 * * *", "time_zone": "Europe/Berlin", "type": "echo" });
    let made = make(&s, good.clone()).await;
    for (field, value) in [
        ("cron", json!("61 * * * *")),
        ("cron", json!("0 0 30 2 *")),
        ("time_zone", json!("Mars/Base")),
        ("type", json!("nothing")),
        ("queue", json!("no queue")),
        ("name", json!("")),
        ("name", json!("nightly")),
    ] {
        let mut body = good.clone();
        body["name"] = json!("other");
        body[field] = value;
        let (status, problem) = s.post("/api/schedules", body).await;
        assert_eq!(
            (status, &problem["field"]),
            (StatusCode::BAD_REQUEST, &json!(field)),
            "{problem}"
        );
    }
    assert_eq!(s.get("/api/schedules").await.as_array().expect("list").len(), 1);
    let mut changed = good.clone();
    changed["cron"] = json!("0 5 * * *");
    let path = format!("/api/schedules/{}", made["id"].as_str().expect("id"));
    let answer = s.ask(Method::PUT, &path).json(&changed).send().await.expect("answer");
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(s.get(&path).await["cron"], "0 5 * * *");
    s.stop().await;
}

/// Three who all see the same runs fall due: each is enqueued once.
#[tokio::test]
async fn no_run_is_enqueued_twice_and_none_is_missed() {
    let dir = tempfile::TempDir::new().expect("folder");
    let mut config = harness::config(dir.path());
    harness::arrange(&mut config, dir.path()).await;
    let store = Store::open(&config).await.expect("store");
    let runs: Vec<i64> = (1..=400).map(|day| day * 86_400_000).collect();
    let draft = ScheduleDraft {
        name: "daily".into(),
        cron: "0 0 * * *".into(),
        time_zone: "UTC".into(),
        kind: "noop".into(),
        args: json!({}),
        queue: "default".into(),
        lane: Lane::Normal,
        misfire: Misfire::Once,
        owner: "test".into(),
        next_at: Some(runs[0]),
    };
    let id = uuid::Uuid::now_v7();
    store.put_schedule(id, draft).await.expect("written").expect("free");
    let job = || Enqueue::of("noop", "test", json!({}), &Policy::DEFAULT);
    let schedulers = (0..3).map(|_| async {
        let mut fired = 0;
        for pair in runs.windows(2) {
            if store
                .fire(id, pair[0], Some(pair[1]), Some(job()))
                .await
                .expect("fired")
                .is_some()
            {
                fired += 1;
            }
        }
        fired
    });
    let fired: usize = futures::future::join_all(schedulers).await.into_iter().sum();
    assert_eq!(fired, runs.len() - 1, "doubled or missed");
    assert_eq!(store.counts().await.expect("counts").total, fired as u64);
    store.close().await;
}
