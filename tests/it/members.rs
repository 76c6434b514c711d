//! What a member sees and does is their own at every door, and a token does no more than whom it acts for.

use std::sync::Arc;

use futures::StreamExt;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use windlass::domain::account::TOKENS_MAX;
use windlass::domain::user::Role;

use crate::chaos::truth;
use crate::harness::{Server, arrange, config, gate, read, unique};

const OTHER: &str = "other@example.org";
const MEMBER: &str = "member@example.org";

async fn ask(s: &Server, by: &Client, method: Method, path: &str) -> (StatusCode, Value) {
    read(
        by.request(method, format!("{}{path}", s.base))
            .send()
            .await
            .expect("answer"),
    )
    .await
}

/// What a client is answered that posts this.
pub async fn send(s: &Server, by: &Client, path: &str, body: Value) -> (StatusCode, Value) {
    read(
        by.post(format!("{}{path}", s.base))
            .json(&body)
            .send()
            .await
            .expect("answer"),
    )
    .await
}

/// Starts a job and gives its id.
async fn start(s: &Server, by: &Client, body: Value) -> String {
    let (status, job) = send(s, by, "/api/jobs", body).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{job}");
    job["id"].as_str().expect("id").to_string()
}

/// A client with a token of this person's.
pub async fn token_of(s: &Server, by: &Client, path: &str, scopes: &[&str], kinds: &[&str]) -> Client {
    let body = json!({ "name": unique(), "scopes": scopes, "kinds": kinds });
    let (status, made) = send(s, by, path, body).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let value = format!("Bearer {}", made["secret"].as_str().expect("secret"));
    let value = reqwest::header::HeaderValue::from_str(&value).expect("value");
    let headers = reqwest::header::HeaderMap::from_iter([(reqwest::header::AUTHORIZATION, value)]);
    Client::builder().default_headers(headers).build().expect("client")
}

#[tokio::test]
async fn anothers_job_is_not_there_for_a_member_whatever_they_ask() {
    let s = Server::start().await;
    let (member, other) = (s.user(MEMBER, Role::Member).await, s.user(OTHER, Role::Member).await);
    let word = unique();
    let theirs = start(&s, &other, json!({ "type": "echo", "args": { "value": word } })).await;
    s.until(&theirs, "completed").await;
    let absent = unique();
    let mut tried = 0;
    for (method, rest) in [
        (Method::GET, ""),
        (Method::GET, "/detail"),
        (Method::GET, "/history"),
        (Method::GET, "/logs"),
        (Method::GET, "/logs?format=text"),
        (Method::GET, "/artifacts/events.csv"),
        (Method::POST, "/cancel"),
        (Method::POST, "/abort"),
        (Method::POST, "/retry"),
        (Method::POST, "/pause"),
        (Method::POST, "/resume"),
        (Method::POST, "/run-now"),
        (Method::POST, "/run-again"),
        (Method::DELETE, ""),
        (Method::DELETE, "?purge=true"),
    ] {
        let path = |id: &str| format!("/api/jobs/{id}{rest}");
        let (status, answer) = ask(&s, &member, method.clone(), &path(&theirs)).await;
        let (none, nothing) = ask(&s, &member, method.clone(), &path(&absent)).await;
        assert_eq!(
            (status, none),
            (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND),
            "{method} {rest}"
        );
        // Nor does the text tell the two apart.
        assert_eq!(
            answer.to_string().replace(&theirs, "ID"),
            nothing.to_string().replace(&absent, "ID"),
            "{method} {rest}"
        );
        tried += 1;
    }
    println!("{tried} ways to ask for another's job");
    let socket = member
        .get(format!("{}/api/jobs/{theirs}/logs/ws", s.base))
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .send()
        .await
        .expect("answer");
    assert_eq!(socket.status(), StatusCode::NOT_FOUND);
    // Lists, searches and counts.
    let own = start(&s, &member, json!({ "type": "echo", "args": { "value": "mine" } })).await;
    s.until(&own, "completed").await;
    for query in ["", "?status=completed", "?type=echo", "?queue=default"] {
        let (_, page) = ask(&s, &member, Method::GET, &format!("/api/jobs{query}")).await;
        assert_eq!(page["total"], 1, "{query}: {page}");
        assert_eq!(page["items"][0]["id"], own.as_str(), "{query}");
    }
    for query in [
        format!("?q={theirs}"),
        format!("?parent={theirs}"),
        format!("?q={OTHER}"),
    ] {
        let (_, page) = ask(&s, &member, Method::GET, &format!("/api/jobs{query}")).await;
        assert_eq!(page["total"], 0, "{query}: {page}");
    }
    let (status, _) = ask(&s, &member, Method::GET, &format!("/api/jobs?owner={OTHER}")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (_, counts) = ask(&s, &member, Method::GET, "/api/jobs/stats").await;
    assert_eq!(
        (&counts["total"], &counts["by_type"]["echo"]["completed"]),
        (&json!(1), &json!(1)),
        "{counts}"
    );
    // What is there still tells nobody of the other: the job was not touched.
    assert_eq!(s.job(&theirs).await["status"], "completed");
    s.stop().await;
}

#[tokio::test]
async fn what_jobs_have_to_do_with_each_other_tells_a_member_of_none_but_their_own() {
    let s = Server::start().await;
    let (member, other) = (s.user(MEMBER, Role::Member).await, s.user(OTHER, Role::Member).await);
    let wait = json!({ "type": "echo", "delay": 3_600 });
    let theirs = start(&s, &other, wait.clone()).await;
    let own = start(&s, &member, wait).await;
    // The admin may tie a job to any.
    start(&s, &s.client, json!({ "type": "echo", "depends_on": [own, theirs] })).await;
    let (_, detail) = ask(&s, &member, Method::GET, &format!("/api/jobs/{own}/detail")).await;
    assert_eq!(detail["dependents"], json!([]), "{detail}");
    assert_eq!(s.detail(&own).await["dependents"].as_array().map(Vec::len), Some(1));
    // A member can't tie theirs to another's; it is as if that were not there.
    let absent = unique();
    let tie = async |id: &str| send(&s, &member, "/api/jobs", json!({ "type": "echo", "depends_on": [id] })).await;
    let (refused, none) = (tie(&theirs).await, tie(&absent).await);
    assert_eq!((refused.0, none.0), (StatusCode::BAD_REQUEST, StatusCode::BAD_REQUEST));
    assert_eq!(
        refused.1.to_string().replace(&theirs, "ID"),
        none.1.to_string().replace(&absent, "ID")
    );
    // The same key is another's and one's own, one by one and in bulk.
    let key = unique();
    let keyed = json!({ "type": "echo", "delay": 3_600, "unique_key": key });
    let first = start(&s, &other, keyed.clone()).await;
    let second = start(&s, &member, keyed.clone()).await;
    let third = start(&s, &s.client, keyed.clone()).await;
    assert!(first != second && second != third && first != third);
    let (_, bulk) = send(&s, &member, "/api/jobs/bulk", json!([keyed])).await;
    assert_eq!(bulk["ids"], json!([second]), "{bulk}");
    // Batches.
    let (_, begun) = send(&s, &other, "/api/jobs/bulk?batch=secret", json!([{ "type": "echo" }])).await;
    let batch = begun["batch"].as_str().expect("batch").to_string();
    assert_eq!(ask(&s, &member, Method::GET, "/api/batches").await.1, json!([]));
    for (method, path) in [
        (Method::GET, format!("/api/batches/{batch}")),
        (Method::POST, format!("/api/batches/{batch}/cancel")),
    ] {
        let (status, answer) = ask(&s, &member, method, &path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{answer}");
    }
    let (_, page) = ask(&s, &member, Method::GET, &format!("/api/jobs?batch={batch}")).await;
    assert_eq!(page["total"], 0);
    let (status, _) = send(&s, &member, "/api/jobs", json!({ "type": "echo", "batch": batch })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    s.stop().await;
}

#[tokio::test]
async fn the_stream_brings_a_member_their_own_jobs_alone() {
    let s = Server::start().await;
    let (member, other) = (s.user(MEMBER, Role::Member).await, s.user(OTHER, Role::Member).await);
    let stream = member
        .get(format!("{}/api/jobs/events", s.base))
        .send()
        .await
        .expect("answer");
    let mut bytes = stream.bytes_stream();
    let theirs = start(&s, &other, json!({ "type": "echo" })).await;
    s.until(&theirs, "completed").await;
    let own = start(&s, &member, json!({ "type": "echo" })).await;
    let reading = async {
        let mut text = String::new();
        while !(text.contains(&own) && text.contains("\"pendingJobs\"")) {
            let part = bytes.next().await.expect("the stream goes on").expect("bytes");
            text.push_str(&String::from_utf8_lossy(&part));
        }
        text
    };
    let text = tokio::time::timeout(std::time::Duration::from_secs(60), reading)
        .await
        .expect("their own job comes");
    assert!(!text.contains(&theirs) && !text.contains(OTHER), "{text}");
    s.stop().await;
}

#[tokio::test]
async fn a_full_queue_does_not_tell_how_many_wait() {
    let s = Server::with(|c| c.queue_max = 2).await;
    let member = s.user(MEMBER, Role::Member).await;
    let wait = json!({ "type": "echo", "delay": 3_600 });
    for _ in 0..2 {
        start(&s, &s.client, wait.clone()).await;
    }
    let (status, problem) = send(&s, &member, "/api/jobs", wait).await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::TOO_MANY_REQUESTS, &json!("queue_full"))
    );
    let detail = problem["detail"].as_str().expect("detail");
    assert!(!detail.contains(|c: char| c.is_ascii_digit()), "{detail}");
    s.stop().await;
}

#[tokio::test]
async fn a_search_does_not_tell_how_many_jobs_changed() {
    // It runs nothing, nor does it make the search know what it does not.
    let s = Server::on(Arc::new(TempDir::new().expect("folder")), false, |_| {}).await;
    let member = s.user(MEMBER, Role::Member).await;
    let echoes = token_of(&s, &s.client, "/api/tokens", &["jobs:read"], &["echo"]).await;
    let mut settings = config(s.dir.path());
    arrange(&mut settings, s.dir.path()).await;
    // More than a search looks at itself.
    let lag = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20005) \
        INSERT INTO search_stale (job_seq) SELECT -i FROM n RETURNING CAST(job_seq AS BIGINT)";
    truth::ask(&settings, lag).await;
    let search = async |by: &Client| ask(&s, by, Method::GET, "/api/jobs?q=abc").await.1;
    let all = search(&s.client).await;
    assert_eq!((&all["unsearched"], &all["total_capped"]), (&json!(5), &json!(true)));
    for by in [&member, &echoes] {
        let own = search(by).await;
        assert_eq!(
            (&own["unsearched"], &own["total_capped"]),
            (&json!(0), &json!(true)),
            "that some may be missing, and no number: {own}"
        );
    }
    s.stop().await;
}

#[tokio::test]
async fn a_token_for_some_kinds_learns_of_no_others() {
    let s = Server::start().await;
    let key = unique();
    let name = unique();
    let keyed = json!({ "type": "gate", "args": { "name": name }, "unique_key": key });
    let gated = start(&s, &s.client, keyed).await;
    let body = json!([{ "type": "gate", "args": { "name": name } }]);
    let (_, begun) = send(&s, &s.client, "/api/jobs/bulk?batch=gates", body).await;
    let batch = begun["batch"].as_str().expect("batch").to_string();
    // Of its own and of the admin's: neither is told of batches, of the key, or of the job.
    for path in ["/api/tokens", "/api/me/tokens"] {
        let echoes = token_of(&s, &s.client, path, &["jobs:read", "jobs:write"], &["echo"]).await;
        let echo = json!({ "type": "echo", "delay": 3_600, "unique_key": key });
        let mine = start(&s, &echoes, echo.clone()).await;
        assert_ne!(mine, gated, "{path}");
        let (status, again) = send(&s, &echoes, "/api/jobs", echo).await;
        assert_eq!((status, &again["id"]), (StatusCode::OK, &json!(mine)), "{path}");
        assert_eq!(ask(&s, &echoes, Method::GET, "/api/batches").await.1, json!([]));
        for path in [format!("/api/jobs/{gated}"), format!("/api/batches/{batch}")] {
            assert_eq!(ask(&s, &echoes, Method::GET, &path).await.0, StatusCode::NOT_FOUND);
        }
        let (_, counts) = ask(&s, &echoes, Method::GET, "/api/jobs/stats").await;
        assert!(counts["by_type"].get("gate").is_none(), "{counts}");
    }
    gate(&name).add_permits(2);
    s.stop().await;
}

#[tokio::test]
async fn a_call_can_be_sent_again_with_a_token_that_only_writes() {
    let s = Server::start().await;
    let writer = token_of(&s, &s.client, "/api/tokens", &["jobs:write"], &[]).await;
    let key = unique();
    let post = async || {
        let body = json!({ "type": "echo", "delay": 3_600 });
        let request = writer
            .post(format!("{}/api/jobs", s.base))
            .header("idempotency-key", &key);
        read(request.json(&body).send().await.expect("answer")).await
    };
    let (first, again) = (post().await, post().await);
    assert_eq!(
        (first.0, again.0),
        (StatusCode::ACCEPTED, StatusCode::OK),
        "{}",
        again.1
    );
    assert_eq!(first.1["id"], again.1["id"]);
    // The job of somebody else behind a key stays theirs.
    let taken = unique();
    let theirs = start(
        &s,
        &s.client,
        json!({ "type": "echo", "delay": 3_600, "unique_key": taken }),
    )
    .await;
    let (status, problem) = send(&s, &writer, "/api/jobs", json!({ "type": "echo", "unique_key": taken })).await;
    assert_eq!(
        (status, &problem["field"]),
        (StatusCode::BAD_REQUEST, &json!("unique_key"))
    );
    assert!(!problem.to_string().contains(&theirs), "{problem}");
    s.stop().await;
}

#[tokio::test]
async fn a_token_does_not_lead_out_of_a_members_limit() {
    let s = Server::with(|c| c.member_max_jobs = 1).await;
    let member = s.user(MEMBER, Role::Member).await;
    let token = token_of(&s, &member, "/api/me/tokens", &["jobs:read", "jobs:write"], &[]).await;
    let name = unique();
    let body = json!({ "type": "gate", "args": { "name": name } });
    let first = start(&s, &token, body.clone()).await;
    s.until(&first, "running").await;
    let second = start(&s, &token, body).await;
    // There are slots for it: what comes later runs.
    for _ in 0..3 {
        let later = s.enqueue("echo", json!({})).await;
        s.until(&later, "completed").await;
    }
    assert_ne!(s.job(&second).await["status"], "running");
    gate(&name).add_permits(2);
    s.until(&second, "completed").await;
    s.stop().await;
}

#[tokio::test]
async fn other_args_take_the_right_to_start_that_kind() {
    let s = Server::start().await;
    let member = s.user(MEMBER, Role::Member).await;
    let args = json!({ "times": 1, "permanent": true });
    let id = start(&s, &member, json!({ "type": "flaky", "args": args })).await;
    s.until(&id, "failed").await;
    let users = s.get("/api/users").await;
    let user = users.as_array().expect("users").iter().find(|u| u["email"] == MEMBER);
    let path = format!("/api/users/{}", user.expect("user")["id"].as_str().expect("id"));
    let change = s.ask(Method::PATCH, &path).json(&json!({ "kinds": ["echo"] }));
    assert_eq!(change.send().await.expect("answer").status(), StatusCode::OK);
    let retry = format!("/api/jobs/{id}/retry");
    let (status, problem) = send(
        &s,
        &member,
        &retry,
        json!({ "args": { "times": 9, "permanent": true } }),
    )
    .await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{problem}");
    assert_eq!(send(&s, &member, &retry, json!({})).await.0, StatusCode::OK);
    s.until(&id, "completed").await;
    s.stop().await;
}

#[tokio::test]
async fn a_viewer_cancels_no_batch_even_one_that_has_ended() {
    let s = Server::start().await;
    let viewer = s.user("viewer@example.org", Role::Viewer).await;
    let (_, begun) = send(&s, &s.client, "/api/jobs/bulk?batch=done", json!([{ "type": "echo" }])).await;
    s.until(begun["ids"][0].as_str().expect("id"), "completed").await;
    let path = format!("/api/batches/{}", begun["batch"].as_str().expect("batch"));
    assert_eq!(ask(&s, &viewer, Method::GET, &path).await.0, StatusCode::OK);
    let cancel = format!("{path}/cancel");
    assert_eq!(ask(&s, &viewer, Method::POST, &cancel).await.0, StatusCode::FORBIDDEN);
    assert_eq!(ask(&s, &s.client, Method::POST, &cancel).await.0, StatusCode::OK);
    let log = s.get("/api/admin/audit-logs?action=batch.cancel").await;
    assert_eq!(
        log["items"],
        json!([]),
        "what was refused is no deed, nor is what cancelled nothing"
    );
    s.stop().await;
}

/// What acts on many asks about each: a batch has jobs of others in it, and a list names kinds that are not theirs to start.
#[tokio::test]
async fn what_acts_on_many_jobs_asks_about_each_of_them() {
    let s = Server::start().await;
    let member = s.user(MEMBER, Role::Member).await;
    let later = json!({ "type": "echo", "delay": 3_600 });
    let (status, begun) = send(&s, &member, "/api/jobs/bulk?batch=mine", json!([later])).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{begun}");
    let (own, batch) = (begun["ids"][0].as_str().expect("id"), &begun["batch"]);
    let theirs = json!({ "type": "echo", "delay": 3_600, "batch": batch });
    let theirs = start(&s, &s.client, theirs).await;
    let cancel = format!("/api/batches/{}/cancel", batch.as_str().expect("batch"));
    let (status, done) = send(&s, &member, &cancel, json!({})).await;
    assert_eq!((status, &done["cancelled"]), (StatusCode::OK, &json!(1)), "{done}");
    assert_eq!(s.job(own).await["status"], "cancelled");
    assert_eq!(s.job(&theirs).await["status"], "scheduled");
    let users = s.get("/api/users").await;
    let user = users.as_array().expect("users").iter().find(|u| u["email"] == MEMBER);
    let path = format!("/api/users/{}", user.expect("user")["id"].as_str().expect("id"));
    let change = s.ask(Method::PATCH, &path).json(&json!({ "kinds": ["echo"] }));
    assert_eq!(change.send().await.expect("answer").status(), StatusCode::OK);
    let before = s.get("/api/jobs").await["total"].clone();
    let mixed = json!([later, { "type": "gate", "args": { "name": unique() }, "delay": 3_600 }]);
    let (status, problem) = send(&s, &member, "/api/jobs/bulk", mixed).await;
    assert_eq!(
        (status, &problem["field"]),
        (StatusCode::FORBIDDEN, &json!("jobs[1]")),
        "{problem}"
    );
    assert_eq!(s.get("/api/jobs").await["total"], before, "all or none");
    s.stop().await;
}

#[tokio::test]
async fn tokens_have_a_limit_and_no_dead_one_stands_before_one_that_works() {
    let s = Server::start().await;
    let member = s.user(MEMBER, Role::Member).await;
    let make = async |by: &Client, path: &str| {
        let body = json!({ "name": unique(), "scopes": ["jobs:read"] });
        send(&s, by, path, body).await
    };
    let fill = async |by: &Client, path: &str| {
        for _ in 0..TOKENS_MAX {
            let (status, made) = make(by, path).await;
            assert_eq!(status, StatusCode::CREATED, "{made}");
        }
        let (status, problem) = make(by, path).await;
        assert_eq!(status, StatusCode::CONFLICT, "{problem}");
        let detail = problem["detail"].as_str().expect("detail");
        assert!(detail.contains(&TOKENS_MAX.to_string()), "{detail}");
    };
    fill(&member, "/api/me/tokens").await;
    let list = async || ask(&s, &member, Method::GET, "/api/me/tokens").await.1;
    // The newest one is revoked: that makes room, and it stands behind those that are older and work.
    let newest = list().await[0]["id"].clone();
    let path = format!("/api/tokens/{}", newest.as_str().expect("id"));
    assert_eq!(ask(&s, &member, Method::DELETE, &path).await.0, StatusCode::NO_CONTENT);
    let tokens = list().await;
    let tokens = tokens.as_array().expect("tokens");
    assert_eq!(tokens.len() as u64, TOKENS_MAX);
    let (last, others) = tokens.split_last().expect("tokens");
    assert_eq!(last["id"], newest);
    assert!(others.iter().all(|token| token["revoked_at"].is_null()));
    assert_eq!(make(&member, "/api/me/tokens").await.0, StatusCode::CREATED);
    // Those that act for themselves are counted by who makes them.
    fill(&s.client, "/api/tokens").await;
    s.stop().await;
}
