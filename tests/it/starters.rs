//! Jobs that begin in the commit that writes them down: what people see of it, and what must not begin so.

use futures::FutureExt;
use reqwest::StatusCode;
use serde_json::{Value, json};
use windlass::domain::job::NewJob;
use windlass::domain::status::Status;
use windlass::domain::user::{Actor, Role};

use crate::harness::{Server, gate, read, unique, until};

/// Enqueues until one begins at once: the worker has found by then that nothing waits. Gives that job.
async fn rested(s: &Server) -> Value {
    until("a job that begins as it is written down", async || {
        let (_, job) = s.post("/api/jobs", json!({ "type": "echo", "args": {} })).await;
        (job["status"] == "running").then_some(job)
    })
    .await
}

#[tokio::test]
async fn a_job_begins_as_it_is_written_down_where_a_worker_rests() {
    let s = Server::start().await;
    let begun = rested(&s).await;
    assert_eq!((&begun["attempt"], &begun["rev"]), (&json!(1), &json!(2)));
    let id = begun["id"].as_str().expect("id");
    s.until(id, "completed").await;
    let detail = s.detail(id).await;
    let steps: Vec<(&Value, &Value)> = detail["transitions"]
        .as_array()
        .expect("list")
        .iter()
        .map(|t| (&t["to"], &t["by"]))
        .collect();
    let (owner, worker) = (&begun["owner"], &begun["worker"]);
    assert_eq!(
        steps,
        [
            (&json!("pending"), owner),
            (&json!("running"), worker),
            (&json!("completed"), worker)
        ]
    );
    assert_eq!(detail["attempts"].as_array().map(Vec::len), Some(1));
    s.stop().await;
}

#[tokio::test]
async fn what_is_held_back_does_not_begin_with_its_commit() {
    let s = Server::start().await;
    let (status, _) = s.post("/api/queues/closed/pause", json!({})).await;
    assert!(status.is_success());
    let id = |job: &Value| job["id"].as_str().expect("id").to_string();
    let (mut paused, mut others) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        rested(&s).await;
        let (_, job) = s
            .post("/api/jobs", json!({ "type": "echo", "args": {}, "queue": "closed" }))
            .await;
        assert_eq!(job["status"], "pending", "its queue is paused");
        paused.push(id(&job));
        rested(&s).await;
        let (_, job) = s
            .post(
                "/api/jobs",
                json!({ "type": "echo", "args": {}, "concurrency_key": "one" }),
            )
            .await;
        assert_eq!(job["status"], "pending", "its key is looked at when it is claimed");
        others.push(id(&job));
        rested(&s).await;
        let (_, job) = s
            .post("/api/jobs", json!({ "type": "echo", "args": {}, "delay": 3_600 }))
            .await;
        assert_eq!(job["status"], "scheduled");
    }
    for id in &others {
        s.until(id, "completed").await;
    }
    for id in &paused {
        assert_eq!(s.job(id).await["status"], "pending");
    }
    let (status, _) = s.post("/api/queues/closed/resume", json!({})).await;
    assert!(status.is_success());
    for id in &paused {
        s.until(id, "completed").await;
    }
    s.stop().await;
}

/// A noisy owner's jobs keep every slot busy. One of somebody else, whose turn it is, is claimed as it is written down and goes before
/// them; but not before older ones of its own owner.
#[tokio::test]
async fn beside_short_jobs_one_whose_turn_it_is_does_not_wait_to_be_claimed() {
    let s = Server::with(|config| config.worker_concurrency = 2).await;
    let quiet = s.user("quiet@example.org", Role::Admin).await;
    let echo = json!({ "type": "echo", "args": { "value": 1 } });
    let ask = async |path: &str, body: &Value| {
        let sent = quiet.post(format!("{}{path}", s.base)).json(body).send().await;
        read(sent.expect("answer")).await
    };
    let waiting = async || s.get("/api/jobs?status=pending&limit=1").await["total"].as_u64();
    let begun = until(
        "a job that is claimed as it is written down, beside others that wait",
        async || {
            if waiting().await < Some(1_000) {
                let (status, _) = s.post("/api/jobs/bulk", json!(vec![echo.clone(); 2_000])).await;
                assert_eq!(status, StatusCode::ACCEPTED);
            }
            let (_, job) = ask("/api/jobs", &echo).await;
            let beside = waiting().await > Some(0);
            (job["status"] == "running" && beside).then_some(job)
        },
    )
    .await;
    let (status, _) = ask("/api/jobs/bulk", &json!(vec![echo.clone(); 4_000])).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let (_, behind) = ask("/api/jobs", &echo).await;
    assert_eq!(behind["status"], "pending", "its owner's older jobs go first");
    let id = begun["id"].as_str().expect("id");
    s.until(id, "completed").await;
    assert!(waiting().await > Some(0), "it went behind all others");
    let detail = s.detail(id).await;
    assert_eq!(detail["attempts"].as_array().map(Vec::len), Some(1));
    assert_eq!(detail["job"]["attempt"], 1, "it went back to nobody");
    s.stop().await;
}

/// More jobs than slots, all of them enqueued while the worker rests: none of them runs without a slot, and the others follow.
#[tokio::test]
async fn slots_are_never_given_twice() {
    let s = Server::with(|config| config.worker_concurrency = 2).await;
    rested(&s).await;
    let name = unique();
    let wish = json!({ "type": "gate", "args": { "name": name } });
    let enqueued = futures::future::join_all((0..6).map(|_| s.post("/api/jobs", wish.clone()))).await;
    let ids: Vec<String> = enqueued
        .iter()
        .map(|(_, job)| job["id"].as_str().expect("id").to_string())
        .collect();
    // The gate is closed: whatever has begun goes on.
    until("two at work and the others waiting", async || {
        let jobs = futures::future::join_all(ids.iter().map(|id| s.job(id))).await;
        // One that was claimed ahead of a slot has said nothing yet.
        let at_work = |job: &&Value| job["status"] == "running" && job["message"] == "Waiting at the gate";
        let running = jobs.iter().filter(at_work).count();
        assert!(running <= 2, "{running} at work");
        (running == 2).then_some(())
    })
    .await;
    gate(&name).add_permits(ids.len());
    for id in &ids {
        s.until(id, "completed").await;
    }
    s.stop().await;
}

/// Whoever asked goes away before the answer; the job is on its way all the same, and must not be left without anybody to run it.
#[tokio::test]
async fn a_job_whose_caller_has_gone_runs_all_the_same() {
    let s = Server::start().await;
    // Whoever goes away before anything was handed in leaves nothing.
    let list = until("forty jobs, all of them completed", async || {
        rested(&s).await;
        let wish = NewJob::of("echo", json!({ "value": 1 }));
        let asked = s.service.enqueue(&Actor::machine(), wish).now_or_never();
        assert!(asked.is_none(), "it waits for the disk: {asked:?}");
        let page = s.get("/api/jobs?type=echo&limit=200").await;
        let jobs = page["items"].as_array().expect("list").clone();
        let done = jobs.iter().all(|job| job["status"] == Status::Completed.as_str());
        (done && jobs.len() >= 40).then_some(jobs)
    })
    .await;
    assert!(list.iter().all(|job| job["attempt"] == 1 && job["crashes"] == 0));
    s.stop().await;
}
