//! Jobs that wait for others, share limits, and are tried again with other args.

use std::collections::BTreeSet;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use windlass::domain::error::{ErrorCode, JobError};
use windlass::domain::job::JobId;
use windlass::domain::kind::Policy;
use windlass::domain::machine::Event;
use windlass::domain::status::Status;
use windlass::domain::time::from_millis;
use windlass::domain::user::Role;
use windlass::server::store::Store;
use windlass::server::store::claim::Claim;
use windlass::server::store::enqueue::{Batch, Enqueue, Enqueued, Written};
use windlass::server::store::finish::Finish;
use windlass::server::store::jobs::JobRow;
use windlass::server::store::ops::Lease;

use crate::harness::{self, Server, gate, unique, until};

async fn enqueue(s: &Server, body: Value) -> Value {
    let (status, job) = s.post("/api/jobs", body).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{job}");
    job
}

fn id(job: &Value) -> String {
    job["id"].as_str().expect("id").to_string()
}

#[tokio::test]
async fn a_job_starts_when_all_that_it_needs_have_completed() {
    let s = Server::start().await;
    let (one, two) = (unique(), unique());
    let first = s.enqueue("gate", json!({ "name": one })).await;
    let second = s.enqueue("gate", json!({ "name": two })).await;
    let last = enqueue(&s, json!({ "type": "echo", "depends_on": [first, second] })).await;
    assert_eq!(last["status"], "blocked");
    let after = enqueue(&s, json!({ "type": "echo", "depends_on": [last["id"]] })).await;
    let last = id(&last);
    gate(&one).add_permits(1);
    s.until(&first, "completed").await;
    assert_eq!(s.job(&last).await["status"], "blocked");
    gate(&two).add_permits(1);
    s.until(&last, "completed").await;
    s.until(&id(&after), "completed").await;
    let detail = s.detail(&last).await;
    let needs: Vec<&Value> = detail["depends_on"]
        .as_array()
        .expect("list")
        .iter()
        .map(|j| &j["id"])
        .collect();
    assert_eq!(needs, [&json!(first), &json!(second)]);
    assert_eq!(detail["dependents"][0]["id"], after["id"]);
    let steps: Vec<&Value> = detail["transitions"]
        .as_array()
        .expect("list")
        .iter()
        .map(|t| &t["to"])
        .collect();
    assert_eq!(steps, ["blocked", "pending", "running", "completed"]);
    s.stop().await;
}

#[tokio::test]
async fn what_depends_on_a_failed_job_is_cancelled_with_the_reason_or_runs_all_the_same() {
    let s = Server::start().await;
    let name = unique();
    let gated = s.enqueue("gate", json!({ "name": name })).await;
    let bad = enqueue(&s, json!({ "type": "panics", "depends_on": [gated] })).await;
    let cancelled = enqueue(&s, json!({ "type": "echo", "depends_on": [bad["id"]] })).await;
    let too = enqueue(&s, json!({ "type": "echo", "depends_on": [cancelled["id"]] })).await;
    let anyway = enqueue(
        &s,
        json!({ "type": "echo", "depends_on": [bad["id"]], "on_failure": "run" }),
    )
    .await;
    gate(&name).add_permits(1);
    s.until(&id(&bad), "dead").await;
    s.until(&id(&too), "cancelled").await;
    s.until(&id(&anyway), "completed").await;
    let history = s.get(&format!("/api/jobs/{}/history", id(&cancelled))).await;
    let reason = history["transitions"].as_array().expect("list").last().expect("some")["reason"].to_string();
    assert!(reason.contains("depends on") && reason.contains("dead"), "{reason}");
    // One that has failed before it is named.
    let late = enqueue(&s, json!({ "type": "echo", "depends_on": [bad["id"]] })).await;
    assert_eq!(late["status"], "cancelled");
    let fine = enqueue(&s, json!({ "type": "echo", "depends_on": [anyway["id"]] })).await;
    assert_eq!(fine["status"], "pending");
    // A blocked job whose dependency is removed can't ever start.
    let name = unique();
    let gone = s.enqueue("gate", json!({ "name": name })).await;
    let waits = enqueue(&s, json!({ "type": "echo", "depends_on": [gone] })).await;
    let removed = s
        .ask(Method::DELETE, &format!("/api/jobs/{gone}?purge=true"))
        .send()
        .await
        .expect("answer");
    assert!(removed.status().is_success());
    s.until(&id(&waits), "cancelled").await;
    s.stop().await;
}

#[tokio::test]
async fn a_dependency_that_is_not_there_is_refused_and_nothing_is_written() {
    let s = Server::start().await;
    let nobody = unique();
    let there = s.enqueue("echo", json!({})).await;
    let body = json!([{ "type": "echo" }, { "type": "echo", "depends_on": [there, nobody] }]);
    let (status, problem) = s.post("/api/jobs/bulk", body).await;
    assert_eq!(
        (status, &problem["field"]),
        (StatusCode::BAD_REQUEST, &json!("jobs[1].depends_on")),
        "{problem}"
    );
    assert!(problem["detail"].as_str().expect("text").contains(&nobody));
    assert_eq!(s.get("/api/jobs").await["total"], 1);
    let (status, problem) = s
        .post("/api/jobs", json!({ "type": "echo", "run_at": "2020-01-01T00:00:00Z" }))
        .await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("run_at")));
    s.stop().await;
}

/// Waits until so many of these jobs run, and says which.
async fn running(s: &Server, ids: &[String], n: usize) -> Vec<String> {
    until("jobs run", async || {
        let mut running = Vec::new();
        for id in ids {
            if s.job(id).await["status"] == "running" {
                running.push(id.clone());
            }
        }
        (running.len() == n).then_some(running)
    })
    .await
}

#[tokio::test]
async fn limits_hold_per_kind_and_key_and_are_in_nobodys_way() {
    let s = Server::with(|c| {
        c.worker_concurrency = 8;
        c.kind_max_jobs.insert("gate".into(), 2);
    })
    .await;
    let name = unique();
    let mut gated = Vec::new();
    for _ in 0..6 {
        gated.push(s.enqueue("gate", json!({ "name": name })).await);
    }
    running(&s, &gated, 2).await;
    // Others pass by, though those came first.
    let echo = s.enqueue("echo", json!({})).await;
    s.until(&echo, "completed").await;
    assert_eq!(running(&s, &gated, 2).await, gated[..2]);
    gate(&name).add_permits(1);
    s.until(&gated[0], "completed").await;
    running(&s, &gated, 2).await;
    gate(&name).add_permits(5);
    for id in &gated {
        s.until(id, "completed").await;
    }
    // One at a time of each key, and a crash of one does not keep its place for ever.
    let mut keyed = Vec::new();
    for _ in 0..3 {
        keyed.push(id(
            &enqueue(&s, json!({ "type": "panics", "concurrency_key": "k" })).await
        ));
    }
    for id in &keyed {
        s.until(id, "dead").await;
    }
    let mut starts = Vec::new();
    for id in &keyed {
        let detail = s.detail(id).await;
        let attempt = &detail["attempts"][0];
        starts.push((attempt["started_at"].to_string(), attempt["ended_at"].to_string()));
    }
    starts.sort();
    assert!(starts.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{starts:?}");
    s.stop().await;
}

#[tokio::test]
async fn a_rate_lets_so_many_begin_in_a_time() {
    let s = Server::with(|c| {
        let rate = windlass::domain::kind::Rate { jobs: 3, per_ms: 1_000 };
        c.kind_rates.insert("echo".into(), rate);
    })
    .await;
    let mut ids = Vec::new();
    for n in 0..7 {
        ids.push(s.enqueue("echo", json!({ "value": n })).await);
    }
    let mut windows = std::collections::BTreeMap::<i64, u32>::new();
    for id in &ids {
        let job = s.until(id, "completed").await;
        let at = chrono::DateTime::parse_from_rfc3339(job["started_at"].as_str().expect("time")).expect("time");
        *windows.entry(at.timestamp()).or_default() += 1;
    }
    assert!(windows.values().all(|n| *n <= 3) && windows.len() >= 3, "{windows:?}");
    s.stop().await;
}

#[tokio::test]
async fn a_retry_may_bring_other_args() {
    let s = Server::start().await;
    let id = s.enqueue("flaky", json!({ "times": 9, "permanent": true })).await;
    s.until(&id, "failed").await;
    let path = format!("/api/jobs/{id}/retry");
    let (status, problem) = s.post(&path, json!({ "args": { "times": "many" } })).await;
    assert_eq!(
        (status, &problem["field"]),
        (StatusCode::BAD_REQUEST, &json!("args.times")),
        "{problem}"
    );
    assert_eq!(s.job(&id).await["status"], "failed");
    let (status, job) = s
        .post(&path, json!({ "args": { "times": 1, "permanent": true }, "delay": 1 }))
        .await;
    assert_eq!((status, &job["status"]), (StatusCode::OK, &json!("scheduled")), "{job}");
    s.until(&id, "completed").await;
    assert_eq!(s.detail(&id).await["args"]["times"], 1);
    s.stop().await;
}

#[tokio::test]
async fn a_key_may_count_for_a_time_after_the_end() {
    let s = Server::start().await;
    let key = unique();
    let body = json!({ "type": "echo", "unique_key": key, "unique_for": 3_600 });
    let first = enqueue(&s, body.clone()).await;
    s.until(&id(&first), "completed").await;
    let (status, again) = s.post("/api/jobs", body).await;
    assert_eq!((status, &again["id"]), (StatusCode::OK, &first["id"]));
    let other = enqueue(&s, json!({ "type": "echo", "unique_key": key })).await;
    assert_ne!(other["id"], first["id"]);
    s.stop().await;
}

#[tokio::test]
async fn a_members_keys_are_their_own() {
    let s = Server::start().await;
    let key = unique();
    let body = json!({ "type": "gate", "args": { "name": unique() }, "unique_key": key });
    let people = [
        s.user("one@example.org", Role::Member).await,
        s.user("two@example.org", Role::Member).await,
    ];
    let mut ids = BTreeSet::from([id(&enqueue(&s, body.clone()).await)]);
    let begin = async |by: &Client, body: &Value, header: Option<&str>| {
        let mut request = by.post(format!("{}/api/jobs", s.base)).json(body);
        if let Some(key) = header {
            request = request.header("Idempotency-Key", key);
        }
        harness::read(request.send().await.expect("answer")).await
    };
    for person in &people {
        let (status, job) = begin(person, &body, None).await;
        assert_eq!(
            status,
            StatusCode::ACCEPTED,
            "nobody learns that another has this key: {job}"
        );
        assert!(ids.insert(id(&job)), "{job}");
        let (status, again) = begin(person, &body, None).await;
        assert_eq!((status, &again["id"]), (StatusCode::OK, &job["id"]));
    }
    let mut body = body;
    body["unique_key"] = Value::Null;
    for person in &people {
        let (first, again) = (
            begin(person, &body, Some("tonight")).await,
            begin(person, &body, Some("tonight")).await,
        );
        assert_eq!(id(&first.1), id(&again.1));
        assert!(ids.insert(id(&first.1)), "{}", first.1);
    }
    s.stop().await;
}

/// A store without an engine.
pub async fn store(dir: &TempDir) -> Store {
    let mut config = harness::config(dir.path());
    harness::arrange(&mut config, dir.path()).await;
    Store::open(&config).await.expect("store")
}

pub async fn written(store: &Store, jobs: Vec<Enqueue>) -> Vec<JobRow> {
    match store.enqueue(Batch::of(jobs, 100_000)).await.expect("written") {
        Enqueued::Written(written) => written.into_iter().map(Written::into_row).collect(),
        Enqueued::Full { waiting } => panic!("{waiting} wait"),
    }
}

pub fn noop(depends_on: &[JobId]) -> Enqueue {
    Enqueue {
        depends_on: depends_on.to_vec(),
        ..Enqueue::of("noop", "test", json!({}), &Policy::DEFAULT)
    }
}

pub async fn begin(store: &Store, seqs: &[i64]) -> Vec<Lease> {
    let claim = Claim {
        seqs: seqs.to_vec(),
        worker: "worker".into(),
        lease_ms: 60_000,
        limited: Vec::new(),
        external: false,
    };
    let mut claimed = store.claim(claim).await.expect("claimed");
    assert_eq!(claimed.len(), seqs.len());
    claimed.sort_by_key(|c| c.lease.seq);
    claimed.into_iter().map(|c| c.lease).collect()
}

pub fn finish(lease: Lease) -> Finish {
    Finish {
        lease,
        result: None,
        again: false,
        cpu_ms: None,
    }
}

#[tokio::test]
async fn thousands_that_wait_for_one_job_start_a_few_hundred_at_a_time() {
    let dir = TempDir::new().expect("folder");
    let store = store(&dir).await;
    let first = written(&store, vec![noop(&[]), noop(&[]), noop(&[])]).await;
    let [one, little, open] = [0, 1, 2].map(|n| (first[n].job.id, first[n].seq));
    // The first of them wait for another one too, and are more than one step looks at.
    let both = Store::DEPENDENTS_STEP + 50;
    let mut jobs: Vec<Enqueue> = (0..both).map(|_| noop(&[one.0, open.0])).collect();
    jobs.extend((0..2_000).map(|_| noop(&[one.0])));
    written(&store, jobs).await;
    let beside = written(&store, vec![noop(&[little.0])]).await;
    let leases = begin(&store, &[one.1, little.1, open.1]).await;
    for lease in &leases[..2] {
        store.finish(finish(*lease)).await.expect("finished");
    }
    let (mut started, mut steps) = (BTreeSet::new(), 0);
    while store.dependents_due().await.expect("read") {
        let changed = store.resolve_dependents().await.expect("resolved").changed;
        assert!(changed.len() <= Store::DEPENDENTS_STEP, "{} at once", changed.len());
        started.extend(changed.iter().map(|c| c.row.seq));
        steps += 1;
        // Whoever waits for another job is not kept waiting by so many.
        assert!(started.contains(&beside[0].seq), "after {steps} steps");
        assert!(steps < 30, "those that still wait are looked at again and again");
    }
    assert_eq!(started.len(), 2_001);
    let counts = store.counts().await.expect("counts");
    assert_eq!(
        (counts.of(Status::Pending), counts.of(Status::Blocked)),
        (2_001, both as u64)
    );
    store.finish(finish(leases[2])).await.expect("finished");
    while store.dependents_due().await.expect("read") {
        store.resolve_dependents().await.expect("resolved");
    }
    assert_eq!(store.counts().await.expect("counts").of(Status::Blocked), 0);
    store.close().await;
}

#[tokio::test]
async fn an_end_while_an_earlier_one_is_looked_at_is_not_overlooked() {
    let dir = TempDir::new().expect("folder");
    let store = store(&dir).await;
    let fail = |lease: Lease| {
        let event = Event::Fail {
            epoch: lease.epoch,
            error: JobError::new(ErrorCode::AuthError, "no"),
            delay_ms: 0,
        };
        store.change(lease.id, event, "test".into(), "test".into())
    };
    for round in 0..120 {
        let needed = written(&store, vec![noop(&[])]).await.remove(0);
        let waits = Enqueue {
            run_anyway: true,
            ..noop(&[needed.job.id])
        };
        let waits = written(&store, vec![waits]).await.remove(0);
        // It fails, and is tried again before anybody looks at what waits for it.
        let lease = begin(&store, &[needed.seq]).await[0];
        fail(lease).await.expect("failed");
        let retry = Event::Retry { at: from_millis(0) };
        store
            .retry(lease.id, retry, None, harness::deed("job.retry", lease.id))
            .await
            .expect("retried");
        let lease = begin(&store, &[needed.seq]).await[0];
        // It fails again, and somebody looks a little earlier or later.
        let look = async {
            for _ in 0..round % 12 {
                store.clock().await.expect("clock");
            }
            store.resolve_dependents().await
        };
        let (failed, looked) = futures::join!(fail(lease), look);
        assert_eq!(failed.expect("failed").row.job.status, Status::Failed);
        looked.expect("resolved");
        while store.dependents_due().await.expect("read") {
            store.resolve_dependents().await.expect("resolved");
        }
        let waits = store.job(waits.job.id).await.expect("read").expect("there");
        assert_eq!(waits.job.status, Status::Pending, "in round {round}");
    }
    store.close().await;
}

#[tokio::test]
async fn a_job_starts_children_once_and_they_do_not_outlive_its_cancelling() {
    let s = Server::with(|c| c.worker_concurrency = 2).await;
    let name = unique();
    let parent = s
        .enqueue("family", json!({ "name": name, "children": 3, "again": true }))
        .await;
    gate(&name).add_permits(3);
    let done = s.until(&parent, "completed").await;
    assert_eq!(done["attempt"], 2);
    let detail = s.detail(&parent).await;
    let children = detail["children"].as_array().expect("children").clone();
    let ids: Vec<&Value> = children.iter().map(|child| &child["id"]).collect();
    assert_eq!(
        json!(ids),
        detail["result"],
        "the second attempt was given the first one's children"
    );
    for child in &children {
        s.until(child["id"].as_str().expect("id"), "completed").await;
    }
    let child = s.detail(children[0]["id"].as_str().expect("id")).await;
    assert_eq!(child["parent"]["id"], json!(parent));
    assert_eq!(child["job"]["owner"], done["owner"]);
    let found = s.get(&format!("/api/jobs?parent={parent}")).await;
    assert_eq!(found["total"], 3);

    let name = unique();
    let parent = s
        .enqueue("family", json!({ "name": name, "children": 3, "again": false }))
        .await;
    let children = until("three children", async || {
        let found = s.get(&format!("/api/jobs?parent={parent}")).await;
        (found["total"] == 3).then(|| found["items"].clone())
    })
    .await;
    assert_eq!(s.act(&parent, "cancel").await.0, StatusCode::OK);
    s.until(&parent, "cancelled").await;
    for child in children.as_array().expect("children") {
        s.until(child["id"].as_str().expect("id"), "cancelled").await;
    }
    s.stop().await;
}

#[tokio::test]
async fn jobs_of_one_call_may_wait_for_each_other_but_not_in_a_ring() {
    let s = Server::start().await;
    let call = json!([
        { "type": "echo", "label": "last", "depends_on": ["@middle", "@first"] },
        { "type": "echo", "label": "middle", "depends_on": ["@first"] },
        { "type": "echo", "label": "first" },
    ]);
    let (status, done) = s.post("/api/jobs/bulk", call).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{done}");
    let ids: Vec<String> = done["ids"]
        .as_array()
        .expect("ids")
        .iter()
        .map(|i| i.as_str().expect("id").into())
        .collect();
    for id in &ids {
        s.until(id, "completed").await;
    }
    let needs = s.detail(&ids[0]).await["depends_on"].clone();
    let mut needs: Vec<String> = needs
        .as_array()
        .expect("needs")
        .iter()
        .map(|n| n["id"].as_str().expect("id").into())
        .collect();
    needs.sort();
    let mut expected = ids[1..].to_vec();
    expected.sort();
    assert_eq!(needs, expected);
    let total = s.get("/api/jobs").await["total"].clone();
    let ring = json!([
        { "type": "echo" },
        { "type": "echo", "label": "a", "depends_on": ["@b"] },
        { "type": "echo", "label": "b", "depends_on": ["@a"] },
    ]);
    for (body, field, word) in [
        (ring, "jobs[1].depends_on", "@a waits for @b waits for @a"),
        (
            json!([{ "type": "echo", "depends_on": ["@nobody"] }]),
            "jobs[0].depends_on",
            "@nobody",
        ),
        (
            json!([{ "type": "echo" }, { "type": "echo", "depends_on": [unique()] }]),
            "jobs[1].depends_on",
            "no such job",
        ),
        (json!([{ "type": "echo", "timeout": 0 }]), "jobs[0].timeout", "72 hours"),
        (
            json!([{ "type": "echo", "timeout": 259_201 }]),
            "jobs[0].timeout",
            "72 hours",
        ),
    ] {
        let (status, problem) = s.post("/api/jobs/bulk", body).await;
        assert_eq!(
            (status, &problem["field"]),
            (StatusCode::BAD_REQUEST, &json!(field)),
            "{problem}"
        );
        assert!(problem["detail"].as_str().expect("text").contains(word), "{problem}");
    }
    assert_eq!(s.get("/api/jobs").await["total"], total, "nothing was written");
    s.stop().await;
}

#[tokio::test]
async fn a_key_that_another_job_has_by_now_keeps_a_retry_back() {
    let s = Server::start().await;
    let (key, name) = (unique(), unique());
    let failed = enqueue(&s, json!({ "type": "panics", "unique_key": key })).await;
    s.until(&id(&failed), "dead").await;
    let open = enqueue(
        &s,
        json!({ "type": "gate", "args": { "name": name }, "unique_key": key }),
    )
    .await;
    assert_ne!(id(&open), id(&failed));
    let (status, problem) = s.act(&id(&failed), "retry").await;
    assert_eq!(status, StatusCode::CONFLICT, "{problem}");
    assert!(
        problem["detail"].as_str().expect("text").contains(&id(&open)),
        "{problem}"
    );
    assert_eq!(s.job(&id(&failed)).await["status"], "dead");
    gate(&name).add_permits(1);
    s.until(&id(&open), "completed").await;
    // The older one has the key again, though the newer one is the newest.
    assert_eq!(s.act(&id(&failed), "retry").await.0, StatusCode::OK);
    s.until(&id(&failed), "dead").await;
    s.stop().await;
}

#[tokio::test]
async fn run_now_goes_before_all_that_waits_and_leaves_the_priority() {
    let s = Server::with(|c| c.worker_concurrency = 1).await;
    let (name, after) = (unique(), unique());
    let first = s.enqueue("gate", json!({ "name": name })).await;
    s.until(&first, "running").await;
    let critical = enqueue(
        &s,
        json!({ "type": "gate", "args": { "name": after }, "priority": "critical" }),
    )
    .await;
    let low = enqueue(
        &s,
        json!({ "type": "gate", "args": { "name": after }, "priority": "low" }),
    )
    .await;
    let (status, job) = s.act(&id(&low), "run-now").await;
    assert_eq!(
        (status, &job["priority"], &job["front"]),
        (StatusCode::OK, &json!("low"), &json!(true))
    );
    gate(&name).add_permits(1);
    let low = s.until(&id(&low), "running").await;
    assert_eq!(low["front"], Value::Null, "only until it has begun");
    assert_eq!(s.job(&id(&critical)).await["status"], "pending");
    gate(&after).add_permits(2);
    s.until(&id(&critical), "completed").await;
    s.stop().await;
}
