//! Batches, paused queues, problems that jobs share, and what attempts cost.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use windlass::server::kinds::sample::Samples;

use crate::harness::{Server, gate, read, unique, until};

/// Begins a batch and gives its id with those of its jobs.
async fn begin(s: &Server, name: &str, jobs: Value) -> (String, Vec<String>) {
    let (status, done) = s.post(&format!("/api/jobs/bulk?batch={name}"), jobs).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{done}");
    let ids = done["ids"].as_array().expect("ids").iter();
    let ids = ids.map(|id| id.as_str().expect("id").to_string()).collect();
    (done["batch"].as_str().expect("batch").to_string(), ids)
}

async fn finished(s: &Server, batch: &str) -> Value {
    until("the batch's end", async || {
        let batch = s.get(&format!("/api/batches/{batch}")).await;
        (batch["finished"] == batch["total"]).then_some(batch)
    })
    .await
}

#[tokio::test]
async fn a_batch_counts_its_jobs_and_is_followed_as_one() {
    let s = Server::start().await;
    let echo = |n: u32| json!({ "type": "echo", "args": { "value": n } });
    let bad = json!({ "type": "flaky", "args": { "times": 9, "permanent": true } });
    let (batch, ids) = begin(&s, "Nightly", json!([echo(1), echo(2), echo(3), bad])).await;
    // Another job is not in it; one that is added is.
    s.enqueue("echo", json!({ "value": 4 })).await;
    let (_, added) = s
        .post("/api/jobs", json!({ "type": "echo", "args": {}, "batch": batch }))
        .await;
    assert_eq!(added["batch"], batch.as_str());
    let detail = s.get(&format!("/api/jobs/{}/detail", ids[0])).await;
    assert_eq!(detail["batch_name"], "Nightly");
    let done = finished(&s, &batch).await;
    assert_eq!(
        (&done["name"], &done["owner"], &done["total"], &done["progress"]),
        (&json!("Nightly"), &json!("admin@example.org"), &json!(5), &json!(100.0))
    );
    assert_eq!(
        (&done["by_status"]["completed"], &done["by_status"]["failed"]),
        (&json!(4), &json!(1))
    );
    let listed = s.get(&format!("/api/jobs?batch={batch}&order=asc")).await;
    assert_eq!(listed["total"], 5);
    for (job, id) in listed["items"].as_array().expect("items").iter().zip(&ids) {
        assert_eq!((&job["id"], &job["batch"]), (&json!(id), &json!(batch)));
    }
    assert_eq!(
        s.get(&format!("/api/jobs?batch={batch}&status=failed")).await["total"],
        1
    );
    // The newest first, in parts.
    let (second, _) = begin(&s, "Second", json!([echo(1)])).await;
    let newest = s.get("/api/batches?limit=1").await;
    assert_eq!(newest[0]["id"], second.as_str());
    let next = s.get(&format!("/api/batches?limit=1&before={second}")).await;
    assert_eq!(next[0]["id"], batch.as_str());
    // A job that goes takes its count with it.
    let gone = s.ask(Method::DELETE, &format!("/api/jobs/{}", ids[0]));
    assert!(read(gone.send().await.expect("answer")).await.0.is_success());
    assert_eq!(s.get(&format!("/api/batches/{batch}")).await["total"], 4);
    s.stop().await;
}

#[tokio::test]
async fn cancelling_a_batch_stops_what_waits_and_asks_what_runs() {
    let s = Server::start().await;
    let name = unique();
    let held = json!({ "type": "gate", "args": { "name": name } });
    let later = json!({ "type": "echo", "args": {}, "delay": 3_600 });
    let (batch, ids) = begin(&s, "Long", json!([held, later, later])).await;
    let runs = ids[0].clone();
    s.until(&runs, "running").await;
    let (status, done) = s.post(&format!("/api/batches/{batch}/cancel"), json!({})).await;
    assert_eq!(
        (status, done),
        (StatusCode::OK, json!({ "cancelled": 2, "asked": 1, "left": 0 }))
    );
    let ended = finished(&s, &batch).await;
    assert_eq!(ended["by_status"]["cancelled"], 3);
    let unknown = format!("/api/batches/{}/cancel", uuid::Uuid::nil());
    assert_eq!(s.post(&unknown, json!({})).await.0, StatusCode::NOT_FOUND);
    s.stop().await;
}

#[tokio::test]
async fn a_batch_that_can_not_be_begun_leaves_nothing_behind() {
    let s = Server::with(|config| config.queue_max = 2).await;
    let later = json!({ "type": "echo", "args": {}, "delay": 3_600 });
    let (status, problem) = s.post("/api/jobs/bulk?batch=x", json!([later, later, later])).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{problem}");
    let (status, problem) = s.post("/api/jobs/bulk?batch=%20", json!([later])).await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("batch")));
    let nowhere = json!({ "type": "echo", "args": {}, "batch": uuid::Uuid::nil() });
    let (status, problem) = s.post("/api/jobs", nowhere.clone()).await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("batch")));
    let (status, _) = s.post("/api/jobs/bulk?batch=x", json!([nowhere])).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(s.get("/api/batches").await, json!([]));
    assert_eq!(s.get("/api/jobs").await["total"], 0);
    s.stop().await;
}

#[tokio::test]
async fn nothing_is_taken_from_a_paused_queue_and_others_go_on() {
    let s = Server::start().await;
    let into = async |queue: &str| {
        let (_, job) = s
            .post("/api/jobs", json!({ "type": "echo", "args": {}, "queue": queue }))
            .await;
        job["id"].as_str().expect("id").to_string()
    };
    let (status, paused) = s.post("/api/queues/mail/pause", json!({})).await;
    assert_eq!(
        (status, &paused["paused"]["by"]),
        (StatusCode::OK, &json!("admin@example.org"))
    );
    let waits = [into("mail").await, into("mail").await];
    // These come later, and are looked at in the same go.
    for _ in 0..3 {
        let goes = into("default").await;
        s.until(&goes, "completed").await;
    }
    for id in &waits {
        assert_eq!(s.job(id).await["status"], "pending");
    }
    let queues = s.get("/api/queues").await;
    let mail = queues.as_array().expect("queues").iter().find(|q| q["name"] == "mail");
    let mail = mail.expect("the queue");
    assert_eq!(mail["by_status"]["pending"], 2);
    assert!(mail["paused"]["at"].is_string());
    // It is paused for another server on the same data, too.
    let dir = s.stop().await;
    let s = Server::on(dir, true, |_| {}).await;
    let goes = s.enqueue("echo", json!({})).await;
    s.until(&goes, "completed").await;
    for id in &waits {
        assert_eq!(s.job(id).await["status"], "pending");
    }
    let (status, resumed) = s.post("/api/queues/mail/resume", json!({})).await;
    assert_eq!((status, &resumed["paused"]), (StatusCode::OK, &Value::Null));
    for id in &waits {
        s.until(id, "completed").await;
    }
    assert_eq!(
        s.post("/api/queues/Not%20one/pause", json!({})).await.0,
        StatusCode::NOT_FOUND
    );
    s.stop().await;
}

#[tokio::test]
async fn failures_with_the_same_cause_are_one_problem() {
    let s = Server::start().await;
    let bad = async |times: u32| {
        let id = s.enqueue("flaky", json!({ "times": times, "permanent": true })).await;
        s.until(&id, "failed").await;
        id
    };
    let same = [bad(5).await, bad(6).await];
    let other = s.enqueue("panics", json!({})).await;
    s.until(&other, "dead").await;
    let problems = s.get("/api/errors").await;
    let problems = problems.as_array().expect("problems");
    assert_eq!(problems.len(), 2, "{problems:?}");
    // The last seen first.
    assert_eq!(
        (&problems[0]["code"], &problems[0]["kinds"]),
        (&json!("PANIC"), &json!(["panics"]))
    );
    let problem = &problems[1];
    assert_eq!(
        (&problem["code"], &problem["count"], &problem["jobs"]),
        (&json!("AUTH_ERROR"), &json!(2), &json!(2))
    );
    let print = problem["fingerprint"].as_str().expect("fingerprint");
    let found = s.get(&format!("/api/jobs?error={print}&order=asc")).await;
    let found: Vec<&Value> = found["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|j| &j["id"])
        .collect();
    assert_eq!(found, [&json!(same[0]), &json!(same[1])]);
    // A job that works at last has the problem no more; the problem remembers.
    assert_eq!(s.job(&same[0]).await["fingerprint"], print);
    let (status, _) = s
        .post(
            &format!("/api/jobs/{}/retry", same[0]),
            json!({ "args": { "times": 0, "permanent": true } }),
        )
        .await;
    assert_eq!(status, StatusCode::OK);
    let done = s.until(&same[0], "completed").await;
    assert_eq!(
        (&done["fingerprint"], &done["error"], &done["error_code"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!(s.detail(&same[0]).await["error"], Value::Null);
    let left = &s.get("/api/errors").await[1];
    assert_eq!((&left["count"], &left["jobs"]), (&json!(2), &json!(1)));
    let refused = s
        .ask(Method::GET, "/api/jobs?error=nonsense")
        .send()
        .await
        .expect("answer");
    let (status, problem) = read(refused).await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("error")));
    s.stop().await;
}

#[tokio::test]
async fn an_attempt_says_what_cpu_time_it_took() {
    let s = Server::start().await;
    let name = unique();
    let held = s.enqueue("gate", json!({ "name": name })).await;
    s.until(&held, "running").await;
    assert_eq!(s.detail(&held).await["attempts"][0]["cpu_ms"], Value::Null);
    gate(&name).add_permits(1);
    s.until(&held, "completed").await;
    // It waited, and did next to nothing.
    let waited = s.detail(&held).await["attempts"][0]["cpu_ms"].as_u64().expect("a time");
    let rows = Samples::new(1, 20_000).map(|event| serde_json::to_string(&event).expect("json") + "\n");
    let file: String = rows.collect();
    let part = reqwest::multipart::Part::text(file).file_name("events.ndjson");
    let form = reqwest::multipart::Form::new().part("file", part);
    let sent = s.ask(Method::POST, "/api/events/import").multipart(form).send().await;
    let (status, started) = read(sent.expect("answer")).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{started}");
    let import = started["job_id"].as_str().expect("id");
    s.until(import, "completed").await;
    let worked = s.detail(import).await["attempts"][0]["cpu_ms"]
        .as_u64()
        .expect("a time");
    assert!(worked > waited, "{worked} ms to {waited} ms");
    let bad = s.enqueue("flaky", json!({ "times": 9, "permanent": true })).await;
    s.until(&bad, "failed").await;
    assert!(s.detail(&bad).await["attempts"][0]["cpu_ms"].is_u64());
    s.stop().await;
}
