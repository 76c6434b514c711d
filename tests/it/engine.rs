//! The engine over HTTP: what users see when jobs fail, panic, are cancelled, aborted, retried, delayed, handed back.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;
use tempfile::TempDir;
use windlass::domain::job::JobId;
use windlass::domain::kind::Policy;
use windlass::domain::log::{Level, LogLine};
use windlass::domain::machine::Event;
use windlass::domain::retention::Rule;
use windlass::domain::status::Status;
use windlass::server::config::Config;
use windlass::server::store::claim::Claim;
use windlass::server::store::enqueue::{Batch, Enqueue, Enqueued};
use windlass::server::store::finish::Finish;
use windlass::server::store::limits::Limits;
use windlass::server::store::logs::Reported;
use windlass::server::store::ops::Lease;
use windlass::server::store::{Store, StoreError};

use crate::harness::{self, Server, gate, read, unique, until};
use crate::schedules::postgres_of;

/// So long that within a test no heartbeat and no end of a lease comes to help.
const LONG: Duration = Duration::from_secs(600);

/// The server's database, to do what only other processes or bad luck would.
async fn beside(s: &Server) -> Store {
    let mut config = harness::config(s.dir.path());
    harness::arrange(&mut config, s.dir.path()).await;
    Store::open_beside(&config).await.expect("the database")
}

async fn lease(store: &Store, id: &str) -> Lease {
    let id: JobId = id.parse().expect("id");
    let row = store.job(id).await.expect("read").expect("a job");
    let (seq, epoch) = (row.seq, row.state.epoch);
    Lease { id, seq, epoch }
}

async fn outcomes(s: &Server, id: &str) -> Vec<String> {
    let detail = s.detail(id).await;
    let attempts = detail["attempts"].as_array().expect("list");
    let outcome = |a: &serde_json::Value| a["outcome"].as_str().unwrap_or_default().to_string();
    attempts.iter().map(outcome).collect()
}

#[tokio::test]
async fn a_retryable_error_is_tried_again_until_it_works() {
    let s = Server::start().await;
    let id = s.enqueue("flaky", json!({ "times": 2, "permanent": false })).await;
    s.until(&id, "completed").await;
    let detail = s.detail(&id).await;
    assert_eq!(detail["result"]["attempt"], 3);
    let outcomes: Vec<_> = detail["attempts"]
        .as_array()
        .expect("list")
        .iter()
        .map(|a| a["outcome"].clone())
        .collect();
    assert_eq!(outcomes, ["failed", "failed", "completed"]);
    assert_eq!(detail["attempts"][1]["error"]["code"], "NETWORK_ERROR");
    let steps: Vec<_> = detail["transitions"]
        .as_array()
        .expect("list")
        .iter()
        .map(|t| t["to"].clone())
        .collect();
    let round = ["running", "retrying", "pending"];
    assert_eq!(
        steps,
        [
            "pending",
            round[0],
            round[1],
            round[2],
            round[0],
            round[1],
            round[2],
            "running",
            "completed"
        ]
    );
    assert!(
        detail["error"].is_null() && detail["job"]["error"].is_null(),
        "a success leaves no error behind"
    );
    s.stop().await;
}

#[tokio::test]
async fn attempts_run_out_and_a_person_grants_new_ones() {
    let s = Server::start().await;
    let id = s.enqueue("flaky", json!({ "times": 4, "permanent": false })).await;
    let job = s.until(&id, "dead").await;
    assert_eq!((&job["attempt"], &job["max_attempts"]), (&json!(3), &json!(3)));
    assert_eq!(job["message"], "failure 3");
    let (status, job) = s.act(&id, "retry").await;
    assert_eq!(
        (status, &job["max_attempts"], &job["completed_at"]),
        (StatusCode::OK, &json!(6), &json!(null))
    );
    s.until(&id, "completed").await;
    assert_eq!(s.detail(&id).await["result"]["attempt"], 5);
    s.stop().await;
}

#[tokio::test]
async fn an_error_that_no_retry_would_cure_fails_at_once() {
    let s = Server::start().await;
    let id = s.enqueue("flaky", json!({ "times": 9, "permanent": true })).await;
    let job = s.until(&id, "failed").await;
    assert_eq!(
        (&job["attempt"], &job["error_code"], &job["error"]),
        (&json!(1), &json!("AUTH_ERROR"), &json!("failure 1"))
    );
    let (status, problem) = s.act(&id, "cancel").await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::CONFLICT, &json!("wrong_status"))
    );
    assert!(problem["detail"].as_str().expect("text").contains("failed"));
    let (_, job) = s
        .post(&format!("/api/jobs/{id}/retry"), json!({ "delay": 3_600 }))
        .await;
    assert_eq!(job["status"], "scheduled");
    let (status, job) = s.act(&id, "run-now").await;
    assert_eq!((status, &job["status"]), (StatusCode::OK, &json!("pending")));
    s.until(&id, "failed").await;
    s.stop().await;
}

#[tokio::test]
async fn a_panic_is_that_jobs_error_and_nothing_else() {
    let s = Server::start().await;
    let (bad, good) = (s.enqueue("panics", json!({})).await, s.enqueue("echo", json!({})).await);
    let job = s.until(&bad, "dead").await;
    assert_eq!(
        (&job["error_code"], &job["error"]),
        (&json!("PANIC"), &json!("the floor is lava"))
    );
    let stack = s.detail(&bad).await["error"]["stack"]
        .as_str()
        .expect("stack")
        .to_string();
    assert!(stack.contains("harness.rs"), "{stack}");
    s.until(&good, "completed").await;
    s.stop().await;
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_ends() {
    let s = Server::start().await;
    let name = unique();
    let id = s.enqueue("slow", json!({ "name": name })).await;
    let job = s.until(&id, "dead").await;
    assert_eq!(job["error_code"], "TIMEOUT");
    gate(&name).acquire().await.expect("dropped").forget();
    s.stop().await;
}

#[tokio::test]
async fn a_job_and_a_kind_may_have_time_limits_of_their_own() {
    let gate_of = |timeout: Option<u64>| {
        let mut body = json!({ "type": "gate", "args": { "name": unique() } });
        if let Some(seconds) = timeout {
            body["timeout"] = seconds.into();
        }
        body
    };
    let one_second = |c: &mut Config| {
        c.kind_timeouts.insert("gate".into(), Duration::from_secs(1));
    };
    let none = |_: &mut Config| ();
    // The limit of the one that is to end, and of the one beside it that is to go on.
    type Setting<'a> = &'a dyn Fn(&mut Config);
    let cases: [(Setting<'_>, _, _); 2] = [(&none, Some(1), None), (&one_second, None, Some(600))];
    for (setting, short, long) in cases {
        let s = Server::with(|c| {
            c.job_max_retries = 0;
            setting(c);
        })
        .await;
        let mut ids = Vec::new();
        for timeout in [long, short] {
            let (status, job) = s.post("/api/jobs", gate_of(timeout)).await;
            assert_eq!(status, StatusCode::ACCEPTED, "{job}");
            ids.push(job["id"].as_str().expect("id").to_string());
            s.until(&ids[ids.len() - 1], "running").await;
        }
        assert_eq!(s.until(&ids[1], "dead").await["error_code"], "TIMEOUT");
        assert_eq!(s.job(&ids[0]).await["status"], "running");
        s.stop().await;
    }
}

#[tokio::test]
async fn cancel_lets_a_running_job_stop_and_ends_a_waiting_one() {
    let s = Server::start().await;
    let running = s.enqueue("gate", json!({ "name": unique() })).await;
    s.until(&running, "running").await;
    let (status, job) = s.act(&running, "cancel").await;
    assert_eq!((status, &job["cancel_requested"]), (StatusCode::OK, &json!(true)));
    let job = s.until(&running, "cancelled").await;
    assert_eq!(job["cancel_requested"], false);
    assert_eq!(s.detail(&running).await["attempts"][0]["outcome"], "cancelled");
    let (_, later) = s.post("/api/jobs", json!({ "type": "echo", "delay": 3_600 })).await;
    assert_eq!(later["status"], "scheduled");
    let (_, job) = s.act(later["id"].as_str().expect("id"), "cancel").await;
    assert_eq!(
        (&job["status"], &job["message"]),
        (&json!("cancelled"), &json!("Cancelled by admin@example.org"))
    );
    s.stop().await;
}

#[tokio::test]
async fn abort_ends_a_task_that_does_not_listen() {
    let s = Server::start().await;
    let name = unique();
    let id = s.enqueue("stubborn", json!({ "name": name })).await;
    s.until(&id, "running").await;
    s.act(&id, "cancel").await;
    assert_eq!(s.job(&id).await["status"], "running", "cancel only asks");
    let (status, job) = s.act(&id, "abort").await;
    assert_eq!(
        (status, &job["status"], &job["message"]),
        (
            StatusCode::OK,
            &json!("cancelled"),
            &json!("Aborted by admin@example.org")
        )
    );
    gate(&name).acquire().await.expect("the task was dropped").forget();
    assert_eq!(s.detail(&id).await["attempts"][0]["outcome"], "aborted");
    s.stop().await;
}

#[tokio::test]
async fn delete_means_what_the_status_makes_of_it() {
    let s = Server::start().await;
    let running = s.enqueue("stubborn", json!({ "name": unique() })).await;
    s.until(&running, "running").await;
    let delete = async |id: &str, query: &str| {
        read(
            s.ask(Method::DELETE, &format!("/api/jobs/{id}{query}"))
                .send()
                .await
                .expect("answer"),
        )
        .await
    };
    assert_eq!(delete(&running, "").await.1["status"], "cancelled", "running: aborted");
    assert_eq!(delete(&running, "").await.0, StatusCode::OK);
    let (status, _) = read(
        s.ask(Method::GET, &format!("/api/jobs/{running}"))
            .send()
            .await
            .expect("answer"),
    )
    .await;
    assert_eq!(status, StatusCode::NOT_FOUND, "finished: removed");
    let name = unique();
    let other = s.enqueue("stubborn", json!({ "name": name })).await;
    s.until(&other, "running").await;
    assert_eq!(delete(&other, "?purge=true").await.0, StatusCode::OK);
    gate(&name).acquire().await.expect("the task was dropped").forget();
    assert_eq!(delete(&other, "?purge=maybe").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(s.get("/api/jobs/stats").await["total"], 0, "the counts follow");
    s.stop().await;
}

#[tokio::test]
async fn pause_takes_a_waiting_job_aside() {
    let s = Server::with(|c| c.worker_concurrency = 1).await;
    let name = unique();
    let first = s.enqueue("gate", json!({ "name": name })).await;
    s.until(&first, "running").await;
    let id = s.enqueue("echo", json!({})).await;
    assert_eq!(s.act(&id, "pause").await.1["status"], "paused");
    let (status, problem) = s.act(&first, "pause").await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(problem["detail"].as_str().expect("text").contains("checkpoints"));
    gate(&name).add_permits(1);
    s.until(&first, "completed").await;
    assert_eq!(s.job(&id).await["status"], "paused");
    assert_eq!(s.act(&id, "resume").await.0, StatusCode::OK);
    s.until(&id, "completed").await;
    let (_, copy) = s.act(&id, "run-again").await;
    assert_ne!(copy["id"].as_str(), Some(id.as_str()));
    s.until(copy["id"].as_str().expect("id"), "completed").await;
    s.stop().await;
}

#[tokio::test]
async fn lanes_go_in_order_and_a_due_job_starts() {
    let s = Server::with(|c| c.worker_concurrency = 1).await;
    let name = unique();
    let first = s.enqueue("gate", json!({ "name": name })).await;
    s.until(&first, "running").await;
    // Each holds its slot until it is let go, so that which one runs is seen and not read off times.
    let mut waiting = Vec::new();
    for lane in ["low", "normal", "high", "critical"] {
        let body = json!({ "type": "gate", "priority": lane, "args": { "name": format!("{name} {lane}") } });
        let (_, job) = s.post("/api/jobs", body).await;
        waiting.push((lane, job["id"].as_str().expect("id").to_string()));
    }
    let (_, delayed) = s.post("/api/jobs", json!({ "type": "echo", "delay": 1 })).await;
    assert_eq!(delayed["status"], "scheduled");
    gate(&name).add_permits(1);
    while let Some((lane, id)) = waiting.pop() {
        s.until(&id, "running").await;
        for (lower, id) in &waiting {
            assert_eq!(s.job(id).await["status"], "pending", "{lower} beside {lane}");
        }
        gate(&format!("{name} {lane}")).add_permits(1);
        s.until(&id, "completed").await;
    }
    let job = s.until(delayed["id"].as_str().expect("id"), "completed").await;
    assert!(
        job["started_at"].as_str() >= job["run_at"].as_str(),
        "not before its time: {job}"
    );
    s.stop().await;
}

#[tokio::test]
async fn a_shutdown_hands_back_what_runs_and_costs_it_no_attempt() {
    let s = Server::start().await;
    let name = unique();
    let id = s.enqueue("gate", json!({ "name": name })).await;
    s.until(&id, "running").await;
    let dir = s.stop().await;
    let s = Server::on(dir, false, |_| {}).await;
    let detail = s.detail(&id).await;
    assert_eq!(
        (&detail["job"]["status"], &detail["attempts"][0]["outcome"]),
        (&json!("pending"), &json!("handed_back"))
    );
    assert_eq!(
        (&detail["job"]["attempt"], &detail["job"]["max_attempts"]),
        (&json!(1), &json!(4))
    );
    let s = Server::on(s.stop().await, true, |_| {}).await;
    gate(&name).add_permits(1);
    s.until(&id, "completed").await;
    assert_eq!(s.detail(&id).await["result"]["attempt"], 2);
    s.stop().await;
}

#[tokio::test]
async fn a_second_server_on_the_same_data_is_refused_unless_they_share_a_redis() {
    let s = Server::start().await;
    let mut config = crate::harness::config(s.dir.path());
    crate::harness::arrange(&mut config, s.dir.path()).await;
    let second = windlass::server::state::start(&config, windlass::server::state::registry(&config), true).await;
    if crate::harness::arrangement() == "redis" {
        let second = second.expect("it shares");
        second.engine.expect("it works").shut_down().await;
        second.service.close().await;
        // But not with one that thinks itself alone.
        config.redis = None;
    }
    let alone = windlass::server::state::start(&config, windlass::server::state::registry(&config), true).await;
    let error = alone.err().expect("refused").to_string();
    assert!(error.contains("another Windlass process"), "{error}");
    s.stop().await;
}

#[tokio::test]
async fn what_an_attempt_writes_after_its_lease_does_not_end_the_next_one() {
    let s = Server::with(|c| (c.worker_lease, c.worker_concurrency) = (LONG, 2)).await;
    let store = beside(&s).await;
    let name = unique();
    let id = s.enqueue("talk", json!({ "lines": 8, "gate": name })).await;
    let lines = async |n: usize| {
        until("its lines", async || {
            let log = s.get(&format!("/api/jobs/{id}/logs")).await;
            (log.as_array().expect("lines").len() >= n).then_some(())
        })
        .await;
    };
    lines(4).await;
    // As a rescuer elsewhere would.
    let lost = store.change(
        lease(&store, &id).await.id,
        Event::LeaseLost {
            crashes_max: harness::CRASHES_MAX,
        },
        "test".into(),
        "test".into(),
    );
    lost.await.expect("lost");
    assert_eq!(s.act(&id, "run-now").await.0, StatusCode::OK);
    // The word of the second attempt, and its half.
    lines(4 + 5).await;
    gate(&name).add_permits(1);
    // A slot comes free when the first attempt, which stood at the gate before the second, has ended.
    let third = s.enqueue("echo", json!({})).await;
    s.until(&third, "completed").await;
    gate(&name).add_permits(1);
    s.until(&id, "completed").await;
    assert_eq!(outcomes(&s, &id).await, ["worker_lost", "completed"]);
    store.close().await;
    s.stop().await;
}

#[tokio::test]
async fn a_kind_that_stops_unasked_fails() {
    let s = Server::start().await;
    let id = s.enqueue("quits", json!({})).await;
    let job = s.until(&id, "dead").await;
    assert_eq!((&job["error_code"], &job["attempt"]), (&json!("INTERNAL"), &json!(3)));
    s.stop().await;
}

/// The embedded database's clock is this machine's, which may be set at any time.
#[tokio::test]
async fn a_clock_that_jumps_ends_no_lease_of_what_still_runs_here() {
    if harness::arrangement() == "redis" {
        // There others may have taken it over.
        return;
    }
    let s = Server::with(|c| (c.worker_lease, c.worker_concurrency) = (LONG, 1)).await;
    let store = beside(&s).await;
    let names = [unique(), unique()];
    let here = s.enqueue("gate", json!({ "name": names[0] })).await;
    s.until(&here, "running").await;
    let elsewhere = s.enqueue("gate", json!({ "name": names[1] })).await;
    let claim = Claim {
        seqs: vec![lease(&store, &elsewhere).await.seq],
        worker: "nobody".into(),
        lease_ms: LONG.as_millis() as i64,
        limited: Vec::new(),
        external: false,
    };
    assert_eq!(store.claim(claim).await.expect("claimed").len(), 1);
    let leases = vec![lease(&store, &here).await, lease(&store, &elsewhere).await];
    let jumped = store.heartbeat(leases, -3_600_000).await;
    assert_eq!(jumped.expect("written").len(), 2);
    // Both are looked at in one go.
    until("leases that ran out are ended", async || {
        (outcomes(&s, &elsewhere).await.first()? == "worker_lost").then_some(())
    })
    .await;
    let job = s.job(&here).await;
    assert_eq!(
        (&job["status"], &job["attempt"], &job["crashes"]),
        (&json!("running"), &json!(1), &json!(0))
    );
    names.iter().for_each(|name| gate(name).add_permits(1));
    for id in [&here, &elsewhere] {
        s.until(id, "completed").await;
    }
    store.close().await;
    s.stop().await;
}

#[tokio::test]
async fn a_process_sweeps_soon_after_its_start() {
    let s = Server::with(|c| {
        c.sweep_every = LONG;
        c.retention = vec![Rule {
            status: Status::Completed,
            kind: None,
            after_ms: Some(1),
        }];
    })
    .await;
    let id = s.enqueue("echo", json!({})).await;
    until("it is swept away", async || {
        let answer = s
            .ask(Method::GET, &format!("/api/jobs/{id}"))
            .send()
            .await
            .expect("answer");
        (answer.status() == StatusCode::NOT_FOUND).then_some(())
    })
    .await;
    s.stop().await;
}

#[tokio::test]
async fn counts_agree_with_the_jobs_after_a_storm() {
    let s = Arc::new(Server::start().await);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..120 {
        let s = s.clone();
        tasks.spawn(async move {
            let id = match n % 4 {
                0 => s.enqueue("echo", json!({ "value": n })).await,
                1 => s.enqueue("flaky", json!({ "times": 1, "permanent": n % 8 == 1 })).await,
                2 => s.enqueue("panics", json!({})).await,
                _ => s.enqueue("talk", json!({ "lines": 5, "gate": null })).await,
            };
            if n % 3 == 0 {
                // Whether it comes in time does not matter.
                s.act(&id, "cancel").await;
            }
            if n % 5 == 0 {
                s.ask(Method::DELETE, &format!("/api/jobs/{id}?purge=true"))
                    .send()
                    .await
                    .expect("answer");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("task");
    }
    until("quiet", async || {
        let counts = s.get("/api/jobs/stats").await;
        let open = ["pending", "running", "retrying", "scheduled"]
            .iter()
            .map(|k| counts["by_status"][*k].as_u64());
        (open.flatten().sum::<u64>() == 0).then_some(())
    })
    .await;
    let counts = s.get("/api/jobs/stats").await;
    let page = s.get("/api/jobs?limit=1000").await;
    let items = page["items"].as_array().expect("items");
    assert_eq!(counts["total"], items.len());
    for status in ["completed", "failed", "dead", "cancelled"] {
        let listed = items.iter().filter(|j| j["status"] == status).count();
        assert_eq!(counts["by_status"][status], listed, "{status}");
    }
}

/// Jobs that wait, in a database without an engine.
async fn waiting(store: &Store, n: usize) -> Vec<i64> {
    let jobs = (0..n).map(|_| Enqueue::of("noop", "test", json!({}), &Policy::DEFAULT));
    let enqueued = store.enqueue(Batch::of(jobs.collect(), 10_000)).await.expect("written");
    let Enqueued::Written(written) = enqueued else {
        panic!("there is room");
    };
    written.into_iter().map(|one| one.into_row().seq).collect()
}

fn claim(seqs: &[i64]) -> Claim {
    Claim {
        seqs: seqs.to_vec(),
        worker: "worker".into(),
        lease_ms: LONG.as_millis() as i64,
        limited: Vec::new(),
        external: false,
    }
}

/// Two processes, where the database is one that several can use, want the same jobs by both ways that there are.
#[tokio::test]
async fn jobs_that_several_want_at_the_same_moment_are_taken_once() {
    let dir = TempDir::new().expect("folder");
    let mut config = harness::config(dir.path());
    harness::arrange(&mut config, dir.path()).await;
    let one = Store::open(&config).await.expect("store");
    let other = match harness::arrangement() {
        "sqlite" => one.clone(),
        _ => Store::open_beside(&config).await.expect("store"),
    };
    for round in 0..5 {
        let seqs = waiting(&one, 40).await;
        let all = || claim(&seqs);
        let (a, b, c, d) = tokio::join!(
            one.claim(all()),
            other.claim(all()),
            one.claim_limited(all(), Limits::default()),
            other.claim_limited(all(), Limits::default()),
        );
        let mut taken = vec![a.expect("claimed"), b.expect("claimed")];
        taken.extend([c, d].map(|claimed| claimed.expect("claimed").0));
        let mut taken: Vec<i64> = taken.iter().flatten().map(|job| job.lease.seq).collect();
        taken.sort_unstable();
        assert_eq!(taken, seqs, "in round {round}");
    }
    other.close().await;
    one.close().await;
}

/// All that an attempt can write, with the lease that a rescuer has ended and then with the one that holds.
#[tokio::test]
async fn what_is_written_with_a_lease_that_was_lost_is_refused() {
    let dir = TempDir::new().expect("folder");
    let mut config = harness::config(dir.path());
    harness::arrange(&mut config, dir.path()).await;
    let store = Store::open(&config).await.expect("store");
    let seqs = waiting(&store, 1).await;
    let lease = async || {
        let mut claimed = store.claim(claim(&seqs)).await.expect("claimed");
        claimed.pop().expect("a job").lease
    };
    let lost = lease().await;
    for event in [Event::LeaseLost { crashes_max: 5 }, Event::RunNow] {
        let changed = store.change(lost.id, event, "test".into(), "test".into());
        changed.await.expect("changed");
    }
    let held = lease().await;
    assert_ne!(lost.epoch, held.epoch);
    for lease in [lost, held] {
        let judge = |what: &str, written: Result<(), StoreError>| match written {
            Ok(()) => assert_eq!(lease, held, "{what} was taken"),
            Err(error) => assert!(lease == lost && error.is_stale(), "{what}: {error}"),
        };
        let progress = Reported {
            progress: Some((50.0, 1, 2)),
            ..Reported::default()
        };
        judge("progress", store.report(lease, progress).await.map(drop));
        let line = LogLine {
            n: 1,
            at: chrono::Utc::now(),
            attempt: 1,
            level: Level::Info,
            message: "a line".into(),
        };
        let said = Reported {
            lines: vec![line],
            ..Reported::default()
        };
        judge("a line", store.report(lease, said).await.map(drop));
        judge("a checkpoint", store.save_checkpoint(lease, "1".into()).await);
        let file = dir.path().join(format!("file-{}", lease.epoch));
        std::fs::write(&file, "a file").expect("a file");
        let kept = store.files().keep(lease, "a.txt", "text/plain", &file).await;
        let recorded = store.record_artifact(lease, kept.expect("kept")).await;
        judge("an artifact", recorded.map(drop));
        let beats = store.heartbeat(vec![lease], 60_000).await.expect("written");
        assert_eq!(beats.len(), usize::from(lease == held));
        let end = Finish {
            lease,
            result: None,
            again: true,
            cpu_ms: None,
        };
        judge("an end", store.finish(end).await.map(drop));
    }
    let files = std::fs::read_dir(dir.path().join("artifacts").join(held.id.to_string()));
    assert_eq!(files.expect("folder").count(), 1, "what was refused leaves no file");
    assert_eq!(store.artifacts(held.seq).await.expect("read").len(), 1);
    store.close().await;
}

/// On Postgres claims don't wait for ends. Ends that can't be written hold them back all the same.
#[tokio::test]
async fn ends_that_can_not_be_written_do_not_pile_up() {
    if harness::arrangement() == "sqlite" {
        return;
    }
    let s = Server::with(|c| c.worker_lease = LONG).await;
    let mut locks = postgres_of(s.dir.path()).await;
    let lock = sqlx::raw_sql("BEGIN; LOCK TABLE attempts IN EXCLUSIVE MODE");
    lock.execute(&mut locks).await.expect("locked");
    let jobs = 3_000;
    let (status, _) = s
        .post("/api/jobs/bulk", json!(vec![json!({ "type": "echo" }); jobs]))
        .await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let count = async |status: &str| {
        s.get("/api/jobs/stats").await["by_status"][status]
            .as_u64()
            .expect("a number")
    };
    // As many as may wait for the database.
    let room = 512;
    until("the room for ends is taken", async || {
        (count("running").await >= room).then_some(())
    })
    .await;
    for _ in 0..60 {
        // And those in slots, and those that were claimed ahead.
        let running = count("running").await;
        assert!(running <= room + 4 + 256, "{running} running");
    }
    sqlx::raw_sql("COMMIT").execute(&mut locks).await.expect("let go");
    until("all have ended", async || {
        (count("completed").await == jobs as u64).then_some(())
    })
    .await;
    s.stop().await;
}
