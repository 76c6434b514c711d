//! Workers outside of the binary: what they declare are kinds as any others, what they run is under the same leases, and none
//! speaks for another.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use windlass::domain::secret::MASK;
use windlass::domain::user::Role;

use crate::harness::{Server, arrangement, read, unique, until};
use crate::members::{send, token_of};

/// A worker of its own token.
struct Worker {
    client: Client,
    base: String,
    id: String,
}

/// A job as a worker was given it.
struct Job {
    id: String,
    epoch: u64,
    told: Value,
}

fn resize() -> Value {
    json!({
        "name": "images.resize", "description": "Makes an image smaller.", "checkpoints": true,
        "args_schema": {
            "type": "object", "additionalProperties": false, "required": ["url"],
            "properties": { "url": { "type": "string" }, "width": { "type": "integer", "minimum": 1 } }
        },
        "policy": { "max_attempts": 2, "backoff": "fixed", "base_ms": 10, "cap_ms": 10, "jitter_percent": 0 }
    })
}

fn with(mut kind: Value, changes: Value) -> Value {
    for (field, value) in changes.as_object().expect("fields") {
        kind[field] = value.clone();
    }
    kind
}

impl Worker {
    /// With a token for nothing else.
    async fn begin(s: &Server, kinds: Value) -> Self {
        let client = token_of(s, &s.client, "/api/tokens", &["worker"], &[]).await;
        Self::of(s, client, kinds).await
    }

    async fn of(s: &Server, client: Client, kinds: Value) -> Self {
        let body = json!({ "name": "py", "host": "box", "version": "1.0", "slots": 500, "kinds": kinds });
        let (status, begun) = send(s, &client, "/api/workers", body).await;
        assert_eq!(status, StatusCode::CREATED, "{begun}");
        Self {
            client,
            base: s.base.clone(),
            id: begun["id"].as_str().expect("id").to_string(),
        }
    }

    async fn call(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let url = format!("{}/api/workers/{}{path}", self.base, self.id);
        read(self.client.post(url).json(&body).send().await.expect("answer")).await
    }

    async fn fetch(&self, wish: Value) -> Vec<Job> {
        let (status, fetched) = self.call("/fetch", wish).await;
        assert_eq!(status, StatusCode::OK, "{fetched}");
        let jobs = fetched["jobs"].as_array().expect("jobs").iter();
        let job = |told: &Value| Job {
            id: told["id"].as_str().expect("id").to_string(),
            epoch: told["epoch"].as_u64().expect("epoch"),
            told: told.clone(),
        };
        jobs.map(job).collect()
    }

    /// The next job, which is on its way.
    async fn next(&self) -> Job {
        until("a job for the worker", async || {
            self.fetch(json!({ "wait": 20 })).await.into_iter().next()
        })
        .await
    }

    async fn say(&self, job: &Job, what: &str, mut body: Value) -> (StatusCode, Value) {
        body["epoch"] = job.epoch.into();
        self.call(&format!("/jobs/{}/{what}", job.id), body).await
    }

    /// Says something that is taken, and gives the answer.
    async fn tell(&self, job: &Job, what: &str, body: Value) -> Value {
        let (status, answer) = self.say(job, what, body).await;
        assert_eq!(status, StatusCode::OK, "{what}: {answer}");
        answer
    }

    async fn beat(&self, jobs: &[&Job], wait: u32) -> Value {
        let jobs: Vec<Value> = jobs
            .iter()
            .map(|job| json!({ "id": job.id, "epoch": job.epoch }))
            .collect();
        let (status, beaten) = self.call("/heartbeat", json!({ "jobs": jobs, "wait": wait })).await;
        assert_eq!(status, StatusCode::OK, "{beaten}");
        beaten
    }

    /// A heartbeat that waits until somebody wants something of the job.
    async fn hear(&self, job: &Job) -> Value {
        self.beat(&[job], 25).await
    }
}

async fn start(s: &Server, args: Value) -> String {
    s.enqueue("images.resize", args).await
}

fn url() -> Value {
    json!({ "url": "http://a.example/cat.png" })
}

#[tokio::test]
async fn a_job_is_run_outside_as_one_within_is() {
    let s = Server::start().await;
    let worker = Worker::begin(&s, json!([resize()])).await;
    let types = s.get("/api/jobs/types").await;
    let kind = types
        .as_array()
        .expect("types")
        .iter()
        .find(|kind| kind["name"] == "images.resize");
    let kind = kind.expect("the kind");
    assert_eq!(
        (&kind["external"], &kind["label"]),
        (&json!(true), &json!("Images: resize"))
    );
    assert_eq!(kind["policy"]["max_attempts"], 2);
    assert_eq!(kind["policy"]["timeout_s"], 60, "as the settings have it");
    // Args are checked as those of kinds within are.
    for (args, field) in [
        (json!({}), "args.url"),
        (json!({ "url": "u", "width": 0 }), "args.width"),
        (json!({ "url": "u", "height": 1 }), "args"),
    ] {
        let (status, problem) = s
            .post("/api/jobs", json!({ "type": "images.resize", "args": args }))
            .await;
        assert_eq!(
            (status, &problem["field"]),
            (StatusCode::BAD_REQUEST, &json!(field)),
            "{problem}"
        );
    }
    assert!(worker.fetch(json!({})).await.is_empty());
    let id = start(&s, url()).await;
    // The workers within go on with what is theirs, and leave it alone.
    let echo = s.enqueue("echo", json!({})).await;
    s.until(&echo, "completed").await;
    assert_eq!(s.job(&id).await["status"], "pending");
    let job = worker.next().await;
    assert_eq!((&job.id, &job.told["args"]), (&id, &url()));
    assert_eq!(
        (&job.told["attempt"], &job.told["owner"], &job.told["timeout_s"]),
        (&json!(1), &json!("admin@example.org"), &json!(60))
    );
    let running = s.job(&id).await;
    assert_eq!(
        (&running["status"], &running["worker"]),
        (&json!("running"), &json!(worker.id))
    );
    assert!(worker.fetch(json!({})).await.is_empty(), "it is given once");
    let wishes = worker
        .tell(&job, "progress", json!({ "done": 1, "total": 3, "message": "Halving" }))
        .await;
    assert_eq!(wishes, json!({ "cancel": false, "pause": false }));
    let lines = json!({ "lines": [{ "message": "one" }, { "level": "warning", "message": "two" }] });
    worker.tell(&job, "logs", lines).await;
    worker
        .tell(&job, "logs", json!({ "lines": [{ "message": "three" }] }))
        .await;
    let seen = s.job(&id).await;
    assert_eq!(
        (&seen["progress"], &seen["done"], &seen["message"]),
        (&json!(33.3), &json!(1), &json!("Halving"))
    );
    let ended = worker
        .tell(&job, "complete", json!({ "result": { "bytes": 7 }, "cpu_ms": 12 }))
        .await;
    assert_eq!(ended, json!({ "id": id, "status": "completed" }));
    let detail = s.detail(&id).await;
    assert_eq!(detail["result"], json!({ "bytes": 7 }));
    let attempt = &detail["attempts"][0];
    assert_eq!(
        (&attempt["worker"], &attempt["outcome"], &attempt["cpu_ms"]),
        (&json!(worker.id), &json!("completed"), &json!(12))
    );
    let log = s.get(&format!("/api/jobs/{id}/logs")).await;
    let lines: Vec<(u64, &str, &str)> = log
        .as_array()
        .or_else(|| log["items"].as_array())
        .expect("lines")
        .iter()
        .map(|l| {
            (
                l["n"].as_u64().expect("n"),
                l["level"].as_str().expect("level"),
                l["message"].as_str().expect("text"),
            )
        })
        .collect();
    assert_eq!(lines, [(1, "info", "one"), (2, "warning", "two"), (3, "info", "three")]);
    // An answer may get lost: what is said again is answered again, and nothing else is taken.
    let again = worker.tell(&job, "complete", json!({ "result": "other" })).await;
    assert_eq!(again["status"], "completed");
    assert_eq!(s.detail(&id).await["result"], json!({ "bytes": 7 }));
    for (what, body) in [
        ("fail", json!({ "message": "no" })),
        ("release", json!({})),
        ("progress", json!({ "message": "on" })),
        ("logs", json!({ "lines": [{ "message": "x" }] })),
        ("checkpoint", json!({ "checkpoint": 1 })),
    ] {
        let (status, problem) = worker.say(&job, what, body).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::CONFLICT, &json!("lease_lost")),
            "{what}: {problem}"
        );
    }
    s.stop().await;
}

#[tokio::test]
async fn a_waiting_fetch_is_given_what_comes() {
    let s = Server::with(|c| c.worker_poll_interval = Duration::from_secs(60)).await;
    let worker = Worker::begin(&s, json!([resize()])).await;
    let (jobs, id) = tokio::join!(worker.fetch(json!({ "wait": 25 })), async {
        // By then it waits: it has told the database that it lives, or will find the job at once.
        start(&s, url()).await
    });
    assert_eq!(jobs[0].id, id);
    s.stop().await;
}

#[tokio::test]
async fn a_worker_that_goes_away_while_it_waits_takes_nothing_along() {
    let s = Server::start().await;
    let worker = Worker::begin(&s, json!([resize()])).await;
    for _ in 0..5 {
        let gone = tokio::time::timeout(Duration::from_millis(30), worker.fetch(json!({ "wait": 20 }))).await;
        assert!(gone.is_err());
    }
    let id = start(&s, url()).await;
    let job = until("the job", async || worker.fetch(json!({})).await.into_iter().next()).await;
    assert_eq!(job.id, id);
    worker.tell(&job, "complete", json!({})).await;
    assert_eq!(s.job(&id).await["crashes"], 0);
    s.stop().await;
}

#[tokio::test]
async fn failures_follow_the_policy_that_was_declared() {
    let s = Server::start().await;
    let worker = Worker::begin(&s, json!([resize()])).await;
    let id = start(&s, url()).await;
    let job = worker.next().await;
    let failure = json!({ "code": "NETWORK_ERROR", "message": "no way there", "stack": "at fetch" });
    let ended = worker.tell(&job, "fail", failure.clone()).await;
    assert_eq!(ended["status"], "retrying");
    assert!(ended["run_at"].is_string());
    let again = worker.tell(&job, "fail", failure.clone()).await;
    assert_eq!(again["id"], json!(id), "heard twice, it failed once");
    let second = worker.next().await;
    assert_eq!((&second.id, &second.told["attempt"]), (&id, &json!(2)));
    assert_eq!(worker.tell(&second, "fail", failure).await["status"], "dead");
    let detail = s.detail(&id).await;
    assert_eq!(detail["error"]["stack"], "at fetch");
    let attempts = detail["attempts"].as_array().expect("attempts");
    assert_eq!(attempts.len(), 2);
    let measured = attempts
        .iter()
        .filter(|attempt| attempt.get("cpu_ms").is_some())
        .count();
    assert_eq!(measured, 0, "nobody measured it: {detail}");
    // What no other try would cure.
    let id = start(&s, url()).await;
    let job = worker.next().await;
    let ended = worker
        .tell(&job, "fail", json!({ "code": "NOT_FOUND", "message": "gone" }))
        .await;
    assert_eq!(ended, json!({ "id": id, "status": "failed" }));
    for (body, field) in [
        (json!({ "code": "WORKER_LOST", "message": "x" }), "code"),
        (json!({ "code": "ODD", "message": "x" }), "code"),
        (json!({ "message": " " }), "message"),
    ] {
        let (status, problem) = worker.say(&job, "fail", body).await;
        assert_eq!(
            (status, &problem["field"]),
            (StatusCode::BAD_REQUEST, &json!(field)),
            "{problem}"
        );
    }
    s.stop().await;
}

#[tokio::test]
async fn what_people_want_reaches_the_attempt() {
    let s = Server::start().await;
    let worker = Worker::begin(&s, json!([resize()])).await;
    // Cancel: told to a heartbeat that waits.
    let id = start(&s, url()).await;
    let job = worker.next().await;
    let (beaten, done) = tokio::join!(worker.hear(&job), s.act(&id, "cancel"));
    assert_eq!(done.0, StatusCode::OK, "{}", done.1);
    let held = json!([{ "id": id, "epoch": job.epoch, "cancel": true, "pause": false }]);
    assert_eq!(beaten, json!({ "held": held, "lost": [] }));
    assert_eq!(
        worker.tell(&job, "progress", json!({ "message": "x" })).await["cancel"],
        true
    );
    assert_eq!(worker.tell(&job, "release", json!({})).await["status"], "cancelled");
    // Pause: it goes on from its checkpoint.
    let id = start(&s, url()).await;
    let job = worker.next().await;
    worker
        .tell(&job, "checkpoint", json!({ "checkpoint": { "at": 1 } }))
        .await;
    assert_eq!(s.act(&id, "pause").await.0, StatusCode::OK);
    assert_eq!(worker.beat(&[&job], 0).await["held"][0]["pause"], true);
    let ended = worker.tell(&job, "release", json!({ "checkpoint": { "at": 2 } })).await;
    assert_eq!(ended["status"], "paused");
    assert_eq!(s.act(&id, "resume").await.0, StatusCode::OK);
    let job = worker.next().await;
    assert_eq!((&job.id, &job.told["checkpoint"]), (&id, &json!({ "at": 2 })));
    // Handed back, it costs no attempt.
    assert_eq!(worker.tell(&job, "release", json!({})).await["status"], "pending");
    let job = worker.next().await;
    let seen = s.job(&id).await;
    assert_eq!(
        (&seen["attempt"], &seen["max_attempts"], &seen["crashes"]),
        (&json!(3), &json!(4), &json!(0))
    );
    // Abort: the lease is gone at once.
    let (beaten, done) = tokio::join!(worker.hear(&job), s.act(&id, "abort"));
    assert_eq!(done.0, StatusCode::OK, "{}", done.1);
    let lost = json!([{ "id": id, "epoch": job.epoch }]);
    assert_eq!(beaten, json!({ "held": [], "lost": lost }));
    assert_eq!(worker.say(&job, "complete", json!({})).await.0, StatusCode::CONFLICT);
    assert_eq!(s.job(&id).await["status"], "cancelled");
    s.stop().await;
}

#[tokio::test]
async fn a_worker_that_falls_silent_loses_its_jobs_and_can_change_nothing_about_them() {
    let s = Server::start().await;
    let (silent, other) = (
        Worker::begin(&s, json!([resize()])).await,
        Worker::begin(&s, json!([resize()])).await,
    );
    let id = start(&s, url()).await;
    let lost = silent.next().await;
    let job = until("the job for another", async || {
        other.fetch(json!({ "wait": 1 })).await.into_iter().next()
    })
    .await;
    assert_eq!((&job.id, &job.told["attempt"]), (&id, &json!(2)));
    assert_eq!(s.job(&id).await["crashes"], 1);
    for (what, body) in [
        ("progress", json!({ "message": "still here" })),
        ("logs", json!({ "lines": [{ "message": "still here" }] })),
        ("checkpoint", json!({ "checkpoint": 1 })),
        ("complete", json!({ "result": "stale" })),
        ("fail", json!({ "message": "stale" })),
        ("release", json!({})),
    ] {
        let (status, problem) = silent.say(&lost, what, body).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::CONFLICT, &json!("lease_lost")),
            "{what}"
        );
    }
    assert_eq!(silent.beat(&[&lost], 0).await["lost"][0]["id"], json!(id));
    assert!(
        !s.get(&format!("/api/jobs/{id}/logs"))
            .await
            .to_string()
            .contains("still here")
    );
    other.tell(&job, "complete", json!({ "result": "fresh" })).await;
    assert_eq!(s.detail(&id).await["result"], "fresh");
    s.stop().await;
}

#[tokio::test]
async fn a_heartbeat_keeps_a_lease_and_ends_what_takes_too_long() {
    let s = Server::start().await;
    let quick = with(resize(), json!({ "policy": { "timeout_s": 4, "max_attempts": 1 } }));
    let worker = Worker::begin(&s, json!([quick])).await;
    let id = start(&s, url()).await;
    let job = worker.next().await;
    let kept = std::cell::Cell::new(0);
    // Longer than a lease lasts, which is three seconds here.
    let beaten = until("the time limit", async || {
        let beaten = worker.beat(&[&job], 0).await;
        kept.set(kept.get() + 1);
        (beaten["lost"] != json!([])).then_some(beaten)
    })
    .await;
    assert!(kept.get() > 1);
    assert_eq!(beaten["lost"][0]["id"], json!(id));
    let seen = s.job(&id).await;
    assert_eq!(
        (&seen["status"], &seen["error_code"], &seen["crashes"]),
        (&json!("dead"), &json!("TIMEOUT"), &json!(0))
    );
    s.stop().await;
}

#[tokio::test]
async fn a_job_that_its_worker_does_not_know_of_goes_to_another() {
    let s = Server::start().await;
    let worker = Worker::begin(&s, json!([resize()])).await;
    let id = start(&s, url()).await;
    let lost = worker.next().await;
    // As if the answer that gave it had got lost; at first it may still be on its way.
    assert_eq!(worker.beat(&[], 0).await, json!({ "held": [], "lost": [] }));
    assert_eq!(s.job(&id).await["status"], "running");
    until("the job to wait again", async || {
        worker.beat(&[], 0).await;
        (s.job(&id).await["status"] == "pending").then_some(())
    })
    .await;
    let job = worker.next().await;
    assert!(job.epoch > lost.epoch);
    let seen = s.job(&id).await;
    assert_eq!(
        (&seen["crashes"], &seen["attempt"], &seen["max_attempts"]),
        (&json!(0), &json!(2), &json!(3))
    );
    s.stop().await;
}

#[tokio::test]
async fn nobody_speaks_for_anothers_worker_or_job() {
    let s = Server::start().await;
    let (one, other) = (
        Worker::begin(&s, json!([resize()])).await,
        Worker::begin(&s, json!([resize()])).await,
    );
    let id = start(&s, url()).await;
    let job = one.next().await;
    // Another's worker is not there.
    let stranger = Worker {
        client: other.client.clone(),
        base: s.base.clone(),
        id: one.id.clone(),
    };
    for (path, body) in [
        ("/fetch".to_string(), json!({})),
        (
            "/heartbeat".to_string(),
            json!({ "jobs": [{ "id": id, "epoch": job.epoch }] }),
        ),
        (format!("/jobs/{id}/complete"), json!({ "epoch": job.epoch })),
        (
            format!("/jobs/{id}/logs"),
            json!({ "epoch": job.epoch, "lines": [{ "message": "x" }] }),
        ),
    ] {
        let (status, problem) = stranger.call(&path, body).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}: {problem}");
    }
    let url_of = format!("{}/api/workers/{}", s.base, one.id);
    let gone = stranger.client.delete(&url_of).send().await.expect("answer").status();
    assert_eq!(gone, StatusCode::NOT_FOUND);
    // Another's job is answered as one that is not there.
    let absent = Job {
        id: unique(),
        epoch: job.epoch,
        told: Value::Null,
    };
    for (what, body) in [
        ("progress", json!({ "message": "x" })),
        ("logs", json!({ "lines": [{ "message": "x" }] })),
        ("checkpoint", json!({ "checkpoint": 1 })),
        ("complete", json!({})),
        ("fail", json!({ "message": "x" })),
        ("release", json!({})),
    ] {
        let (theirs, none) = (
            other.say(&job, what, body.clone()).await,
            other.say(&absent, what, body).await,
        );
        assert_eq!(theirs.0, StatusCode::CONFLICT, "{what}: {}", theirs.1);
        let said = theirs.1.to_string().replace(&id, &absent.id);
        assert_eq!((theirs.0, said), (none.0, none.1.to_string()), "{what}");
    }
    assert_eq!(other.beat(&[&job], 0).await["lost"][0]["id"], json!(id));
    assert_eq!(s.job(&id).await["status"], "running");
    one.tell(&job, "complete", json!({})).await;
    s.stop().await;
}

#[tokio::test]
async fn a_token_for_some_kinds_runs_no_others() {
    let s = Server::start().await;
    let client = token_of(&s, &s.client, "/api/tokens", &["worker"], &["images.resize"]).await;
    let crop = with(resize(), json!({ "name": "images.crop" }));
    let body = |kinds: Value| json!({ "name": "w", "kinds": kinds });
    let (status, problem) = send(&s, &client, "/api/workers", body(json!([resize(), crop]))).await;
    assert_eq!(
        (status, &problem["field"]),
        (StatusCode::FORBIDDEN, &json!("kinds[1].name")),
        "{problem}"
    );
    assert!(
        !s.get("/api/jobs/types").await.to_string().contains("images."),
        "none of them is declared"
    );
    let worker = Worker::of(&s, client, json!([resize()])).await;
    let all = Worker::begin(&s, json!([resize(), crop])).await;
    s.enqueue("images.crop", url()).await;
    assert!(worker.fetch(json!({})).await.is_empty());
    let (status, problem) = worker.call("/fetch", json!({ "kinds": ["images.crop"] })).await;
    assert_eq!(
        (status, &problem["field"]),
        (StatusCode::BAD_REQUEST, &json!("kinds")),
        "{problem}"
    );
    assert!(all.fetch(json!({ "kinds": ["images.resize"] })).await.is_empty());
    assert_eq!(all.fetch(json!({})).await.len(), 1);
    s.stop().await;
}

#[tokio::test]
async fn only_an_admins_token_works_and_it_does_nothing_else() {
    let s = Server::start().await;
    let manager = s.user("manager@example.org", Role::Manager).await;
    let (status, problem) = send(
        &s,
        &manager,
        "/api/me/tokens",
        json!({ "name": "w", "scopes": ["worker"] }),
    )
    .await;
    assert_eq!(
        (status, &problem["field"]),
        (StatusCode::BAD_REQUEST, &json!("scopes")),
        "{problem}"
    );
    let detail = problem["detail"].as_str().expect("detail");
    assert!(
        detail.contains("admins") && detail.contains("jobs:read, jobs:write, jobs:delete"),
        "{detail}"
    );
    let (status, _) = send(
        &s,
        &s.client,
        "/api/workers",
        json!({ "name": "w", "kinds": [resize()] }),
    )
    .await;
    assert_eq!(status, StatusCode::FORBIDDEN, "a person is no worker");
    let mine = token_of(&s, &s.client, "/api/me/tokens", &["worker"], &[]).await;
    let worker = Worker::of(&s, mine, json!([resize()])).await;
    let id = start(&s, url()).await;
    for path in [
        "/api/jobs".to_string(),
        format!("/api/jobs/{id}"),
        "/api/users".into(),
        "/api/jobs/events".into(),
    ] {
        let answer = worker
            .client
            .get(format!("{}{path}", s.base))
            .send()
            .await
            .expect("answer");
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path}");
    }
    let (status, _) = send(&s, &worker.client, "/api/jobs", json!({ "type": "echo" })).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    // With its token its rights end, though it waits for a job at the moment.
    let job = worker.next().await;
    let tokens = s.get("/api/tokens").await;
    let token = tokens[0]["id"].as_str().expect("id").to_string();
    let waits = worker
        .client
        .post(format!("{}/api/workers/{}/fetch", s.base, worker.id))
        .json(&json!({ "wait": 25 }));
    let revoked = async {
        let gone = s
            .ask(Method::DELETE, &format!("/api/tokens/{token}"))
            .send()
            .await
            .expect("answer");
        assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    };
    let (answer, ()) = tokio::join!(waits.send(), revoked);
    assert_eq!(answer.expect("answer").status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        worker.say(&job, "complete", json!({})).await.0,
        StatusCode::UNAUTHORIZED
    );
    s.stop().await;
}

#[tokio::test]
async fn secrets_reach_the_worker_and_nobody_else() {
    let s = Server::start().await;
    let login = json!({
        "name": "shop.login",
        "args_schema": {
            "type": "object", "required": ["password"],
            "properties": { "user": { "type": "string" }, "password": { "type": "string", "x-secret": true, "minLength": 8 } }
        }
    });
    let worker = Worker::begin(&s, json!([login])).await;
    let (status, problem) = s
        .post(
            "/api/jobs",
            json!({ "type": "shop.login", "args": { "password": "hunter2" } }),
        )
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(!problem.to_string().contains("hunter2"), "{problem}");
    let secret = "correct-horse-battery";
    let id = s
        .enqueue("shop.login", json!({ "user": "ada", "password": secret }))
        .await;
    assert_eq!(s.detail(&id).await["args"], json!({ "user": "ada", "password": MASK }));
    let job = worker.next().await;
    assert_eq!(job.told["args"]["password"], secret);
    let words = format!("signing in with {secret}");
    worker.tell(&job, "progress", json!({ "message": words })).await;
    worker
        .tell(&job, "logs", json!({ "lines": [{ "message": words }] }))
        .await;
    worker
        .tell(&job, "complete", json!({ "result": { "used": words } }))
        .await;
    let seen = format!(
        "{}{}",
        s.detail(&id).await,
        s.get(&format!("/api/jobs/{id}/logs")).await
    );
    assert!(!seen.contains(secret) && seen.matches(MASK).count() >= 4, "{seen}");
    let id = s.enqueue("shop.login", json!({ "password": secret })).await;
    let job = worker.next().await;
    worker
        .tell(
            &job,
            "fail",
            json!({ "code": "AUTH_ERROR", "message": words, "stack": words }),
        )
        .await;
    let seen = format!(
        "{}{}",
        s.detail(&id).await,
        s.get(&format!("/api/jobs/{id}/logs")).await
    );
    assert!(!seen.contains(secret), "{seen}");
    s.stop().await;
}

#[tokio::test]
async fn lanes_owners_and_limits_hold_outside_too() {
    let s = Server::with(|c| c.member_max_jobs = 2).await;
    let worker = Worker::begin(&s, json!([resize()])).await;
    let noisy = s.user("noisy@example.org", Role::Member).await;
    let quiet = s.user("quiet@example.org", Role::Member).await;
    let many: Vec<Value> = vec![json!({ "type": "images.resize", "args": url(), "priority": "low" }); 40];
    let (status, done) = send(&s, &noisy, "/api/jobs/bulk", json!(many)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{done}");
    let body = json!({ "type": "images.resize", "args": url(), "priority": "low" });
    let (_, theirs) = send(&s, &quiet, "/api/jobs", body.clone()).await;
    let owners = |jobs: &[Job]| -> Vec<String> {
        jobs.iter()
            .map(|job| job.told["owner"].as_str().expect("owner").to_string())
            .collect()
    };
    let first = worker.fetch(json!({ "max": 2 })).await;
    let mut seen = owners(&first);
    seen.sort();
    assert_eq!(seen, ["noisy@example.org", "quiet@example.org"]);
    // Two of a member's run at the same time, whatever else waits; an admin is under no such limit.
    let (_, urgent) = send(
        &s,
        &s.client,
        "/api/jobs",
        json!({ "type": "images.resize", "args": url(), "priority": "high" }),
    )
    .await;
    let more = worker.fetch(json!({ "max": 100 })).await;
    assert_eq!(more[0].told["id"], urgent["id"], "the higher lane goes first");
    assert_eq!(owners(&more), ["admin@example.org", "noisy@example.org"]);
    assert!(worker.fetch(json!({ "max": 100 })).await.is_empty());
    let held = first.iter().chain(&more);
    let of_noisy: Vec<&Job> = held.filter(|job| job.told["owner"] == "noisy@example.org").collect();
    worker.tell(of_noisy[0], "complete", json!({})).await;
    assert_eq!(
        owners(&worker.fetch(json!({ "max": 100 })).await),
        ["noisy@example.org"]
    );
    assert!(theirs["id"].is_string());
    // A paused queue's jobs, and those behind the same key, wait.
    for job in [
        json!({ "queue": "slow" }),
        json!({ "concurrency_key": "k" }),
        json!({ "concurrency_key": "k" }),
    ] {
        let mut body = json!({ "type": "images.resize", "args": url() });
        body.as_object_mut()
            .expect("fields")
            .extend(job.as_object().expect("fields").clone());
        let (status, job) = send(&s, &s.client, "/api/jobs", body).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{job}");
        if job["queue"] == "slow" {
            assert_eq!(s.post("/api/queues/slow/pause", json!({})).await.0, StatusCode::OK);
        }
    }
    let keyed = worker.fetch(json!({ "max": 100 })).await;
    assert_eq!(keyed.len(), 1);
    worker.tell(&keyed[0], "complete", json!({})).await;
    assert_eq!(worker.fetch(json!({ "max": 100 })).await.len(), 1);
    assert_eq!(s.post("/api/queues/slow/resume", json!({})).await.0, StatusCode::OK);
    assert_eq!(worker.fetch(json!({ "max": 100 })).await[0].told["queue"], "slow");
    s.stop().await;
}

#[tokio::test]
async fn a_declared_limit_and_run_now_hold() {
    let s = Server::start().await;
    let one = with(resize(), json!({ "policy": { "max_running": 1 } }));
    let worker = Worker::begin(&s, json!([one])).await;
    let ids = [start(&s, url()).await, start(&s, url()).await, start(&s, url()).await];
    assert_eq!(s.act(&ids[2], "run-now").await.0, StatusCode::OK);
    let first = worker.fetch(json!({ "max": 10 })).await;
    assert_eq!((first.len(), &first[0].id), (1, &ids[2]));
    assert!(worker.fetch(json!({ "max": 10 })).await.is_empty());
    worker.tell(&first[0], "release", json!({})).await;
    let next = worker.fetch(json!({ "max": 10 })).await;
    assert_eq!(
        (next.len(), &next[0].id),
        (1, &ids[0]),
        "what was put in front was so once"
    );
    s.stop().await;
}

#[tokio::test]
async fn a_kind_is_changed_by_declaring_it_anew_and_forgotten_when_nothing_needs_it() {
    let s = Server::start().await;
    let first = Worker::begin(&s, json!([resize()])).await;
    let wider = with(
        resize(),
        json!({ "description": "Makes an image fit.", "args_schema": { "type": "object" } }),
    );
    let second = Worker::begin(&s, json!([wider])).await;
    let id = start(&s, json!({ "anything": true })).await;
    let forget = async || {
        read(
            s.ask(Method::DELETE, "/api/jobs/types/images.resize")
                .send()
                .await
                .expect("answer"),
        )
        .await
    };
    let (status, problem) = forget().await;
    assert_eq!(status, StatusCode::CONFLICT, "{problem}");
    assert!(
        problem["detail"].as_str().expect("detail").contains("1 jobs"),
        "{problem}"
    );
    let job = first.next().await;
    first.tell(&job, "complete", json!({})).await;
    assert_eq!(
        s.detail(&id).await["attempts"][0].get("cpu_ms"),
        None,
        "nobody measured it"
    );
    assert_eq!(forget().await.0, StatusCode::NO_CONTENT);
    assert_eq!(forget().await.0, StatusCode::NOT_FOUND);
    let gone = s
        .ask(Method::DELETE, "/api/jobs/types/export")
        .send()
        .await
        .expect("answer");
    assert_eq!(gone.status(), StatusCode::CONFLICT, "it is built in");
    assert!(!s.get("/api/jobs/types").await.to_string().contains("images."));
    let (status, _) = s
        .post("/api/jobs", json!({ "type": "images.resize", "args": {} }))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(s.job(&id).await["status"], "completed", "what it has done stays");
    let log = s.get("/api/admin/audit-logs?limit=50").await;
    let entries: Vec<&Value> = log["items"].as_array().expect("entries").iter().collect();
    let of = |action: &str| entries.iter().filter(|e| e["action"] == action).count();
    assert_eq!(
        (of("worker.begin"), of("kind.declare"), of("kind.forget")),
        (2, 2, 1),
        "{log}"
    );
    let changed = entries
        .iter()
        .find(|e| e["action"] == "kind.declare")
        .expect("an entry");
    assert_eq!(
        (&changed["before"]["description"], &changed["after"]["description"]),
        (&json!("Makes an image smaller."), &json!("Makes an image fit."))
    );
    assert_ne!(
        changed["before"]["args_schema_sha256"],
        changed["after"]["args_schema_sha256"]
    );
    drop(second);
    s.stop().await;
}

#[tokio::test]
async fn what_can_not_be_a_kind_is_refused_and_nothing_is_kept() {
    let s = Server::start().await;
    let client = token_of(&s, &s.client, "/api/tokens", &["worker"], &[]).await;
    for (kind, field) in [
        (
            json!({ "name": "export", "args_schema": { "type": "object" } }),
            "kinds[1].name",
        ),
        (
            json!({ "name": "a.b", "args_schema": { "type": "string" } }),
            "kinds[1].args_schema",
        ),
        (
            json!({ "name": "a.b", "args_schema": { "type": "object", "properties": { "x": { "$ref": "http://a.example/" } } } }),
            "kinds[1].args_schema",
        ),
        (
            json!({ "name": "a.b", "args_schema": { "type": "object" }, "policy": { "timeout_s": 0 } }),
            "kinds[1].policy.timeout_s",
        ),
        (
            json!({ "name": "a.b", "args_schema": { "type": "object" }, "odd": 1 }),
            "kinds[1].odd",
        ),
    ] {
        let body = json!({ "name": "w", "kinds": [resize(), kind] });
        let (status, problem) = send(&s, &client, "/api/workers", body).await;
        assert_eq!(
            (status, &problem["field"]),
            (StatusCode::BAD_REQUEST, &json!(field)),
            "{problem}"
        );
    }
    assert!(!s.get("/api/jobs/types").await.to_string().contains("images."));
    let worker = Worker::of(&s, client, json!([resize()])).await;
    for (path, body, field) in [
        ("/fetch", json!({ "max": 0 }), "max"),
        ("/fetch", json!({ "wait": 26 }), "wait"),
        ("/heartbeat", json!({ "wait": 26 }), "wait"),
    ] {
        let (status, problem) = worker.call(path, body).await;
        assert_eq!(
            (status, &problem["field"]),
            (StatusCode::BAD_REQUEST, &json!(field)),
            "{problem}"
        );
    }
    start(&s, url()).await;
    let job = worker.next().await;
    for (what, body, field) in [
        ("progress", json!({}), "body"),
        ("progress", json!({ "done": 1 }), "total"),
        ("logs", json!({ "lines": [] }), "lines"),
        ("checkpoint", json!({ "checkpoint": "x".repeat(20_000) }), "checkpoint"),
    ] {
        let (status, problem) = worker.say(&job, what, body).await;
        assert!(status.is_client_error(), "{what}: {problem}");
        assert_eq!(problem["field"], json!(field), "{what}: {problem}");
    }
    s.stop().await;
}

#[tokio::test]
async fn a_worker_ends_and_what_it_held_waits_again() {
    let s = Server::start().await;
    let worker = Worker::begin(&s, json!([resize()])).await;
    let id = start(&s, url()).await;
    worker.next().await;
    let url = format!("{}/api/workers/{}", s.base, worker.id);
    assert_eq!(
        worker.client.delete(&url).send().await.expect("answer").status(),
        StatusCode::NO_CONTENT
    );
    let seen = s.job(&id).await;
    assert_eq!((&seen["status"], &seen["crashes"]), (&json!("pending"), &json!(0)));
    assert_eq!(
        worker.client.delete(&url).send().await.expect("answer").status(),
        StatusCode::NOT_FOUND
    );
    let log = s.get("/api/admin/audit-logs?limit=50").await;
    let entries = log["items"].as_array().expect("entries").iter();
    let ends: Vec<&Value> = entries.filter(|entry| entry["action"] == "worker.end").collect();
    let [end] = ends[..] else {
        panic!("not one entry of its end: {log}");
    };
    assert_eq!((&end["name"], &end["via"]), (&json!(worker.id), &json!("token")));
    assert_eq!(end["before"]["kinds"], json!(["images.resize"]));
    assert_eq!(worker.call("/fetch", json!({})).await.0, StatusCode::NOT_FOUND);
    s.stop().await;
}

#[tokio::test]
async fn a_worker_goes_on_when_the_server_was_started_anew() {
    let dir = Arc::new(TempDir::new().expect("folder"));
    let s = Server::on(dir.clone(), true, |_| {}).await;
    let mut worker = Worker::begin(&s, json!([resize()])).await;
    let id = start(&s, url()).await;
    let job = worker.next().await;
    s.stop().await;
    let s = Server::on(dir, true, |_| {}).await;
    worker.base = s.base.clone();
    assert_eq!(worker.beat(&[&job], 0).await["held"][0]["id"], json!(id));
    // The kind is known again, and the attempt is still the first one.
    let second = start(&s, url()).await;
    worker.tell(&job, "complete", json!({})).await;
    let seen = s.job(&id).await;
    assert_eq!(
        (&seen["status"], &seen["attempt"], &seen["crashes"]),
        (&json!("completed"), &json!(1), &json!(0))
    );
    assert_eq!(worker.next().await.id, second);
    s.stop().await;
}

#[tokio::test]
async fn of_several_servers_each_knows_the_kinds_and_hears_the_worker() {
    if arrangement() != "redis" {
        return;
    }
    let dir = Arc::new(TempDir::new().expect("folder"));
    let a = Server::on(dir.clone(), true, |_| {}).await;
    let b = Server::on(dir, true, |_| {}).await;
    let mut worker = Worker::begin(&a, json!([resize()])).await;
    let id = start(&b, url()).await;
    let job = worker.next().await;
    assert_eq!(job.id, id);
    worker.base = b.base.clone();
    worker.tell(&job, "progress", json!({ "done": 1, "total": 2 })).await;
    let (beaten, done) = tokio::join!(worker.hear(&job), a.act(&id, "cancel"));
    assert_eq!(done.0, StatusCode::OK);
    assert_eq!(beaten["held"][0]["cancel"], true);
    assert_eq!(worker.tell(&job, "release", json!({})).await["status"], "cancelled");
    until("the kind to be known there", async || {
        let types = b.get("/api/jobs/types").await.to_string();
        types.contains("images.resize").then_some(())
    })
    .await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn of_jobs_that_may_kill_their_worker_it_is_given_one_at_a_time() {
    let s = Server::start().await;
    let patient = with(resize(), json!({ "policy": { "max_attempts": 9 } }));
    let worker = Worker::begin(&s, json!([patient])).await;
    let ids = [start(&s, url()).await, start(&s, url()).await];
    for crashes in 1..=2 {
        let held = until("both jobs", async || {
            let held = worker.fetch(json!({ "max": 2, "wait": 1 })).await;
            (held.len() == 2).then_some(held)
        })
        .await;
        assert_eq!(held.len(), 2);
        // It dies with them.
        for id in &ids {
            until("the lease to run out", async || {
                let job = s.job(id).await;
                (job["status"] == "pending" && job["crashes"] == crashes).then_some(())
            })
            .await;
        }
    }
    let one = worker.fetch(json!({ "max": 2 })).await;
    assert_eq!(one.len(), 1);
    assert!(worker.fetch(json!({ "max": 2 })).await.is_empty());
    // Nor does the other one hide what is behind it.
    let healthy = start(&s, url()).await;
    let next = worker.fetch(json!({ "max": 1 })).await;
    assert_eq!(next[0].id, healthy);
    worker.tell(&one[0], "complete", json!({})).await;
    assert_eq!(worker.fetch(json!({ "max": 2 })).await.len(), 1);
    s.stop().await;
}

#[tokio::test]
async fn a_heartbeat_that_waits_speaks_for_the_moment_at_which_it_was_said() {
    let s = Server::start().await;
    let worker = Worker::begin(&s, json!([resize()])).await;
    let first = start(&s, url()).await;
    let job = worker.next().await;
    let later = async {
        let id = start(&s, url()).await;
        let second = worker.next().await;
        // By now it has been there for longer than the answer that gave it could have been on its way.
        let since = std::time::Instant::now();
        until("the job to have run for a while", async || {
            worker.tell(&second, "progress", json!({ "message": "On it" })).await;
            (since.elapsed() > Duration::from_millis(1_500)).then_some(())
        })
        .await;
        assert_eq!(s.act(&first, "cancel").await.0, StatusCode::OK);
        (id, second)
    };
    let (beaten, (id, second)) = tokio::join!(worker.hear(&job), later);
    assert_eq!(beaten["held"][0]["cancel"], true, "{beaten}");
    assert_eq!(s.job(&id).await["status"], "running");
    worker.tell(&second, "complete", json!({})).await;
    s.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_waits_for_no_fetch_and_gives_nothing_more() {
    let s = Server::start().await;
    let worker = Worker::begin(&s, json!([resize()])).await;
    start(&s, url()).await;
    let job = worker.next().await;
    let waits = async { tokio::join!(worker.fetch(json!({ "wait": 25 })), worker.hear(&job)) };
    let stops = async {
        until("the worker to wait", async || {
            let health = s.get("/api/admin/jobs/health").await;
            health.is_object().then_some(())
        })
        .await;
        s.stop().await
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(waits, stops) }).await;
    let ((jobs, beaten), _) = ended.expect("before the wait would have been over");
    assert!(jobs.is_empty());
    assert_eq!(beaten["lost"], json!([]));
}

#[tokio::test]
async fn a_kind_that_has_used_up_its_rate_hides_no_other() {
    let s = Server::start().await;
    let rated = with(
        resize(),
        json!({ "name": "a.rated", "policy": { "rate": { "jobs": 1, "per_ms": 86_400_000 } } }),
    );
    let worker = Worker::begin(&s, json!([rated, resize()])).await;
    for _ in 0..6 {
        s.enqueue("a.rated", url()).await;
    }
    let id = start(&s, url()).await;
    let first = worker.fetch(json!({ "max": 1 })).await;
    assert_eq!(first[0].told["type"], "a.rated");
    let next = worker.fetch(json!({ "max": 2 })).await;
    assert_eq!((next.len(), &next[0].id), (1, &id));
    s.stop().await;
}

#[tokio::test]
async fn a_worker_is_given_what_it_has_room_for_and_nothing_once_it_has_ended() {
    let s = Server::start().await;
    let client = token_of(&s, &s.client, "/api/tokens", &["worker"], &[]).await;
    let body = json!({ "name": "small", "slots": 2, "kinds": [resize()] });
    let (_, begun) = send(&s, &client, "/api/workers", body).await;
    let worker = Worker {
        client,
        base: s.base.clone(),
        id: begun["id"].as_str().expect("id").to_string(),
    };
    for _ in 0..3 {
        start(&s, url()).await;
    }
    let held = worker.fetch(json!({ "max": 100 })).await;
    assert_eq!(held.len(), 2);
    assert!(worker.fetch(json!({ "max": 100 })).await.is_empty());
    // A number that no clock can show spoils nothing.
    worker.tell(&held[0], "complete", json!({ "cpu_ms": u64::MAX })).await;
    assert_eq!(s.detail(&held[0].id).await["attempts"][0]["outcome"], "completed");
    worker.tell(&worker.next().await, "complete", json!({})).await;
    let gone = async {
        let url = format!("{}/api/workers/{}", s.base, worker.id);
        let status = worker.client.delete(&url).send().await.expect("answer").status();
        assert_eq!(status, StatusCode::NO_CONTENT);
        start(&s, self::url()).await
    };
    let ((status, problem), id) = tokio::join!(worker.call("/fetch", json!({ "wait": 25 })), gone);
    assert_eq!(status, StatusCode::NOT_FOUND, "{problem}");
    let seen = s.job(&id).await;
    assert_eq!((&seen["status"], &seen["attempt"]), (&json!("pending"), &json!(0)));
    s.stop().await;
}

#[tokio::test]
async fn that_a_worker_outside_lives_does_not_say_that_one_within_does() {
    let s = Server::on(Arc::new(TempDir::new().expect("folder")), false, |_| {}).await;
    Worker::begin(&s, json!([resize()])).await;
    let (_, health) = read(
        s.ask(Method::GET, "/api/admin/jobs/health")
            .send()
            .await
            .expect("answer"),
    )
    .await;
    assert_eq!(health["checks"]["workers"]["text"], "none", "{health}");
    s.stop().await;
}

#[tokio::test]
async fn owners_whose_jobs_are_held_back_hide_nobody() {
    let s = Server::start().await;
    let worker = Worker::begin(&s, json!([resize()])).await;
    assert_eq!(s.post("/api/queues/slow/pause", json!({})).await.0, StatusCode::OK);
    // More of them than one look is for, and before the last one by their names.
    for n in 0..40 {
        let actor = windlass::domain::user::Actor::named(&format!("held{n:02}@example.org"), Role::Admin);
        let new: windlass::domain::job::NewJob =
            serde_json::from_value(json!({ "type": "images.resize", "args": url(), "queue": "slow" })).expect("a job");
        s.service.enqueue(&actor, new).await.expect("taken in");
    }
    let actor = windlass::domain::user::Actor::named("zoe@example.org", Role::Admin);
    let new = windlass::domain::job::NewJob::of("images.resize", url());
    s.service.enqueue(&actor, new).await.expect("taken in");
    let jobs = worker.fetch(json!({ "max": 5 })).await;
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].told["owner"], "zoe@example.org");
    assert_eq!(s.post("/api/queues/slow/resume", json!({})).await.0, StatusCode::OK);
    assert_eq!(worker.fetch(json!({ "max": 100 })).await.len(), 40);
    s.stop().await;
}
