//! One action on many jobs, and what a list of jobs is made of.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use windlass::domain::user::Role;
use windlass::server::config::Config;

use crate::harness::{Server, gate, read, unique, until};
use crate::members::send;

const ADMIN: &str = "admin@example.org";
const MEMBER: &str = "member@example.org";
const MANAGER: &str = "manager@example.org";

async fn get(s: &Server, by: &Client, path: &str) -> (StatusCode, Value) {
    read(by.get(format!("{}{path}", s.base)).send().await.expect("answer")).await
}

/// Jobs of this person's that wait for their time.
async fn later(s: &Server, by: &Client, n: usize) -> Vec<String> {
    let job = json!({ "type": "echo", "delay": 86_400 });
    let (status, done) = send(s, by, "/api/jobs/bulk", Value::Array(vec![job; n])).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{done}");
    let ids = done["ids"].as_array().expect("ids").iter();
    ids.map(|id| id.as_str().expect("id").to_string()).collect()
}

async fn failed(s: &Server) -> String {
    let id = s.enqueue("flaky", json!({ "times": 1, "permanent": true })).await;
    s.until(&id, "failed").await;
    id
}

async fn total(s: &Server, query: &str) -> u64 {
    s.get(&format!("/api/jobs?limit=1&{query}")).await["total"]
        .as_u64()
        .expect("total")
}

async fn audit(s: &Server, query: &str) -> Vec<Value> {
    let page = s.get(&format!("/api/admin/audit-logs?limit=1000&{query}")).await;
    page["items"].as_array().expect("items").clone()
}

/// For each job whether it was done, what it is now, and why not.
fn outcomes(done: &Value) -> Vec<(Value, Value, Value)> {
    let of = |o: &Value| (o["done"].clone(), o["status"].clone(), o["code"].clone());
    done["outcomes"].as_array().expect("outcomes").iter().map(of).collect()
}

#[tokio::test]
async fn each_job_is_answered_for_by_itself() {
    let s = Server::start().await;
    let name = unique();
    let (bad, runs) = (failed(&s).await, s.enqueue("gate", json!({ "name": name })).await);
    let done = s.enqueue("echo", json!({})).await;
    s.until(&done, "completed").await;
    s.until(&runs, "running").await;
    let waits = later(&s, &s.client, 1).await.remove(0);
    let absent = unique();
    let ids = json!([bad, runs, waits, done, absent, bad]);
    let no = |code: &str| (json!(false), Value::Null, json!(code));
    let yes = |status: &str| (json!(true), json!(status), Value::Null);

    let (status, retried) = s
        .post(
            "/api/jobs/bulk-retry",
            json!({ "ids": ids, "delay": 3_600, "reason": "the mail is back" }),
        )
        .await;
    assert_eq!(status, StatusCode::OK, "{retried}");
    assert_eq!(
        (&retried["total"], &retried["done"], &retried["refused"]),
        (&json!(5), &json!(1), &json!(4))
    );
    let wrong = || no("wrong_status");
    assert_eq!(
        outcomes(&retried),
        [yes("scheduled"), wrong(), wrong(), wrong(), no("not_found")],
        "{retried}"
    );
    assert!(
        retried["outcomes"][1]["detail"]
            .as_str()
            .is_some_and(|why| why.contains("running"))
    );

    let (_, cancelled) = s.post("/api/jobs/bulk-cancel", json!({ "ids": ids })).await;
    assert_eq!(
        outcomes(&cancelled),
        [
            yes("cancelled"),
            yes("running"),
            yes("cancelled"),
            wrong(),
            no("not_found")
        ]
    );
    gate(&name).add_permits(1);
    s.until(&runs, "cancelled").await;

    let (_, deleted) = s.post("/api/jobs/bulk-delete", json!({ "ids": ids, "count": 5 })).await;
    let gone = || (json!(true), Value::Null, Value::Null);
    assert_eq!(outcomes(&deleted), [gone(), gone(), gone(), gone(), no("not_found")]);
    assert_eq!(total(&s, "").await, 0);

    // Each is noted with what it belongs to, and the whole once.
    let each = audit(&s, &format!("action=job.retry&name={bad}")).await;
    assert_eq!(each[0]["reason"], "one of 5 jobs: the mail is back");
    let whole = audit(&s, "action=job.bulk_retry").await;
    assert_eq!(whole.len(), 1);
    assert_eq!(
        (&whole[0]["object"], &whole[0]["name"], &whole[0]["reason"]),
        (&json!("jobs"), &json!("5 jobs"), &json!("the mail is back"))
    );
    assert_eq!(whole[0]["after"], json!({ "total": 5, "done": 1, "refused": 4 }));
    // Nothing was done: there is nothing to note.
    let (_, nothing) = s.post("/api/jobs/bulk-retry", json!({ "ids": [absent] })).await;
    assert_eq!(nothing["done"], 0);
    assert_eq!(audit(&s, "action=job.bulk_retry").await.len(), 1);
    s.stop().await;
}

#[tokio::test]
async fn a_filter_acts_on_what_the_caller_saw_or_on_nothing() {
    let s = Server::start().await;
    later(&s, &s.client, 3).await;
    let done = s.enqueue("echo", json!({})).await;
    s.until(&done, "completed").await;
    let ask = |count: u64| json!({ "filter": { "status": "scheduled", "type": "echo" }, "count": count });
    for seen in [0, 2, 4, 10_000] {
        let (status, problem) = s.post("/api/jobs/bulk-cancel", ask(seen)).await;
        assert_eq!(status, StatusCode::CONFLICT, "{seen}: {problem}");
        assert_eq!(
            (&problem["code"], &problem["field"]),
            (&json!("count_changed"), &json!("count"))
        );
        assert!(
            problem["detail"]
                .as_str()
                .is_some_and(|why| why.contains("matches 3 jobs")),
            "{problem}"
        );
    }
    assert_eq!(total(&s, "status=scheduled").await, 3);
    let (status, answer) = s.post("/api/jobs/bulk-cancel", ask(3)).await;
    assert_eq!((status, &answer["done"]), (StatusCode::OK, &json!(3)), "{answer}");
    assert_eq!(total(&s, "status=cancelled").await, 3);
    assert_eq!(s.job(&done).await["status"], "completed");
    let whole = audit(&s, "action=job.bulk_cancel").await;
    assert_eq!(whole[0]["name"], "status=scheduled&type=echo");

    // What is misspelt or left out might mean more than was meant.
    for (field, body) in [
        ("filter", json!({ "filter": { "statuses": "scheduled" }, "count": 0 })),
        ("filter", json!({ "filter": { "limit": "1" }, "count": 0 })),
        ("filter", json!({ "filter": { "status": [] }, "count": 0 })),
        ("count", json!({ "filter": {} })),
        ("ids", json!({})),
        ("ids", json!({ "ids": [] })),
        ("ids[0]", json!({ "ids": ["7"] })),
        ("filter", json!({ "ids": [done], "filter": {}, "count": 1 })),
        ("delay", json!({ "ids": [done], "delay": 1 })),
    ] {
        let (status, problem) = s.post("/api/jobs/bulk-cancel", body.clone()).await;
        assert_eq!(
            (status, &problem["field"]),
            (StatusCode::BAD_REQUEST, &json!(field)),
            "{body}: {problem}"
        );
    }
    let long = json!({ "ids": [done], "delay": 400_000_000_u64 });
    let (status, problem) = s.post("/api/jobs/bulk-retry", long).await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("delay")));
    s.stop().await;
}

#[tokio::test]
async fn what_is_anothers_is_left_alone_by_ids_and_by_filter() {
    let s = Server::start().await;
    let member = s.user(MEMBER, Role::Member).await;
    let theirs = later(&s, &s.client, 3).await;
    let own = later(&s, &member, 2).await;
    let ids: Vec<&String> = theirs.iter().chain(&own).collect();
    let (status, answer) = send(&s, &member, "/api/jobs/bulk-cancel", json!({ "ids": ids })).await;
    assert_eq!((status, &answer["done"]), (StatusCode::OK, &json!(2)));
    for outcome in answer["outcomes"].as_array().expect("outcomes").iter().take(3) {
        let id = outcome["id"].as_str().expect("id");
        assert_eq!(outcome["code"], "not_found");
        assert_eq!(outcome["detail"], format!("job {id} does not exist"));
    }
    // All jobs are those that they see, in the count as in the deed.
    let own = later(&s, &member, 2).await;
    let all = json!({ "filter": { "status": "scheduled" }, "count": 5 });
    let (status, problem) = send(&s, &member, "/api/jobs/bulk-delete", all).await;
    assert_eq!(status, StatusCode::CONFLICT, "{problem}");
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|why| why.contains("matches 2 jobs")),
        "{problem}"
    );
    let all = json!({ "filter": { "status": "scheduled" }, "count": 2 });
    let (_, answer) = send(&s, &member, "/api/jobs/bulk-delete", all).await;
    assert_eq!(answer["done"], 2);
    assert_eq!(
        get(&s, &member, &format!("/api/jobs/{}", own[0])).await.0,
        StatusCode::NOT_FOUND
    );
    let others = json!({ "filter": { "owner": ADMIN }, "count": 3 });
    assert_eq!(
        send(&s, &member, "/api/jobs/bulk-cancel", others).await.0,
        StatusCode::FORBIDDEN
    );
    assert_eq!(total(&s, "status=scheduled").await, 3);

    // A token for one kind leaves the others alone.
    let body = json!({ "name": unique(), "scopes": ["jobs:read", "jobs:write"], "kinds": ["flaky"] });
    let (_, made) = s.post("/api/tokens", body).await;
    let value = HeaderValue::from_str(&format!("Bearer {}", made["secret"].as_str().expect("secret"))).expect("value");
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
    let narrow = Client::builder().default_headers(headers).build().expect("client");
    let (status, answer) = send(&s, &narrow, "/api/jobs/bulk-cancel", json!({ "ids": theirs })).await;
    assert_eq!((status, &answer["done"]), (StatusCode::OK, &json!(0)), "{answer}");
    let all = json!({ "filter": {}, "count": 0 });
    let (_, answer) = send(&s, &narrow, "/api/jobs/bulk-cancel", all).await;
    assert_eq!(answer["total"], 0, "{answer}");
    let (status, _) = send(&s, &narrow, "/api/jobs/bulk-delete", json!({ "ids": theirs })).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    // It could not follow the batch that this would become.
    let many: Vec<String> = (0..1_001).map(|_| unique()).collect();
    let (status, problem) = send(&s, &narrow, "/api/jobs/bulk-cancel", json!({ "ids": many })).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{problem}");
    assert_eq!(s.get("/api/batches").await, json!([]));
    s.stop().await;
}

/// No attempt is taken for dead, however busy the machine is: what a part has done before it is run again would be told as
/// left as it is.
fn patient(config: &mut Config) {
    config.worker_lease = Duration::from_secs(60);
}

#[tokio::test]
async fn many_jobs_become_a_batch_that_goes_on_by_itself() {
    let s = Server::with(patient).await;
    later(&s, &s.client, 2_050).await;
    let wish = json!({ "filter": { "status": "scheduled" }, "count": 2_050, "reason": "too many" });
    let answer = s
        .ask(Method::POST, "/api/jobs/bulk-cancel")
        .json(&wish)
        .send()
        .await
        .expect("answer");
    let place = answer.headers().get(LOCATION).cloned();
    let (status, begun) = read(answer).await;
    assert_eq!(
        (status, &begun["total"]),
        (StatusCode::ACCEPTED, &json!(2_050)),
        "{begun}"
    );
    assert_eq!(begun["outcomes"], json!([]));
    let batch = begun["batch"].as_str().expect("batch");
    assert_eq!(place.expect("location"), format!("/api/batches/{batch}"));
    let ended = until("the batch's end", async || {
        let batch = s.get(&format!("/api/batches/{batch}")).await;
        (batch["finished"] == batch["total"]).then_some(batch)
    })
    .await;
    assert_eq!(
        (&ended["name"], &ended["owner"], &ended["by_status"]["completed"]),
        (&json!("Cancel 2,050 jobs"), &json!(ADMIN), &json!(3))
    );
    assert_eq!(total(&s, "status=cancelled").await, 2_050);
    let parts = s.get(&format!("/api/jobs?batch={batch}&order=asc")).await;
    let mut done = 0;
    for part in parts["items"].as_array().expect("items") {
        assert_eq!(
            (&part["type"], &part["queue"], &part["owner"]),
            (&json!("bulk_action"), &json!("bulk"), &json!(ADMIN))
        );
        let detail = s.detail(part["id"].as_str().expect("id")).await;
        assert_eq!(detail["result"]["refused"], 0, "{}", detail["result"]);
        done += detail["result"]["done"].as_u64().expect("done");
    }
    assert_eq!(done, 2_050);
    // Each of them is noted as the deed of whoever asked for it, with the address that they asked from.
    let noted = audit(&s, "action=job.cancel").await;
    assert_eq!(noted.len(), 1_000);
    assert_eq!(noted[0]["actor"], ADMIN);
    assert_eq!(noted[0]["address"], "127.0.0.1");
    assert_eq!(noted[0]["reason"], format!("with batch {batch}: too many"));
    let whole = audit(&s, "action=job.bulk_cancel").await;
    assert_eq!(
        (&whole[0]["object"], &whole[0]["name"]),
        (&json!("batch"), &json!(batch))
    );

    // Nobody else starts such a job, nor makes one do something else.
    let part = parts["items"][0]["id"].as_str().expect("id");
    let args = json!({ "action": "delete", "ids": [part] });
    let (status, problem) = s
        .post(
            "/api/jobs",
            json!({ "type": "bulk_action", "args": args, "batch": batch }),
        )
        .await;
    assert_eq!(
        (status, &problem["field"]),
        (StatusCode::BAD_REQUEST, &json!("type")),
        "{problem}"
    );
    let schedule = json!({ "name": "x", "cron": "0 0 1 1 *", "time_zone": "UTC", "type": "bulk_action", "args": args });
    assert_eq!(s.post("/api/schedules", schedule).await.0, StatusCode::BAD_REQUEST);
    let (status, problem) = s.act(part, "run-again").await;
    assert_eq!(
        (status, &problem["field"]),
        (StatusCode::BAD_REQUEST, &json!("type")),
        "{problem}"
    );
    let token = json!({ "name": "x", "scopes": ["jobs:write"], "kinds": ["bulk_action"] });
    assert_eq!(s.post("/api/tokens", token).await.0, StatusCode::BAD_REQUEST);
    let kinds = s.get("/api/jobs/types").await;
    assert!(
        kinds
            .as_array()
            .expect("kinds")
            .iter()
            .all(|kind| kind["name"] != "bulk_action")
    );
    let detail = s.detail(part).await;
    assert_eq!(detail["actions"], json!(["delete"]));
    s.stop().await;
}

#[tokio::test]
async fn what_cancels_a_backlog_waits_neither_behind_it_nor_in_a_paused_or_full_queue() {
    let s = Server::with(|config| {
        config.worker_concurrency = 1;
        config.queue_max = 1_100;
    })
    .await;
    let name = unique();
    let runs = s.enqueue("gate", json!({ "name": name })).await;
    s.until(&runs, "running").await;
    let jobs = Value::Array(vec![json!({ "type": "echo", "priority": "critical" }); 600]);
    let (status, done) = s.post("/api/jobs/bulk", jobs).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{done}");
    // Of the same owner, in lines that were there first.
    let jobs = Value::Array(vec![json!({ "type": "echo", "priority": "low", "queue": "a" }); 500]);
    let (status, done) = s.post("/api/jobs/bulk", jobs).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{done}");
    let (status, _) = s.post("/api/jobs", json!({ "type": "echo" })).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "the queue is full");
    let (_, begun) = s
        .post(
            "/api/jobs/bulk-cancel",
            json!({ "filter": { "type": "echo" }, "count": 1_100 }),
        )
        .await;
    let batch = begun["batch"].as_str().expect("batch").to_string();
    gate(&name).add_permits(1);
    let ended = until("the batch's end", async || {
        let batch = s.get(&format!("/api/batches/{batch}")).await;
        (batch["finished"] == batch["total"]).then_some(batch)
    })
    .await;
    assert_eq!(ended["by_status"]["completed"], 2);
    // None of them ran first.
    assert_eq!(total(&s, "type=echo&status=cancelled").await, 1_100);

    let (status, _) = s.post("/api/queues/default/pause", json!({})).await;
    assert_eq!(status, StatusCode::OK);
    let (_, done) = s
        .post("/api/jobs/bulk", Value::Array(vec![json!({ "type": "echo" }); 1_001]))
        .await;
    let ids = &done["ids"];
    let (_, begun) = s.post("/api/jobs/bulk-delete", json!({ "ids": ids })).await;
    let batch = begun["batch"].as_str().expect("batch").to_string();
    until("the batch's end", async || {
        let batch = s.get(&format!("/api/batches/{batch}")).await;
        (batch["by_status"]["completed"] == 2).then_some(())
    })
    .await;
    assert_eq!(total(&s, "status=pending").await, 0);
    s.stop().await;
}

#[tokio::test]
async fn what_was_begun_is_brought_to_its_end_when_whoever_asked_goes_away() {
    let s = Server::start().await;
    let ids = later(&s, &s.client, 1_000).await;
    let request = s
        .ask(Method::POST, "/api/jobs/bulk-cancel")
        .json(&json!({ "ids": ids }));
    let asking = tokio::spawn(request.send());
    until("the first of them", async || {
        (total(&s, "status=cancelled").await > 0).then_some(())
    })
    .await;
    asking.abort();
    until("the last of them", async || {
        (total(&s, "status=cancelled").await == 1_000).then_some(())
    })
    .await;
    let whole = until("the sum", async || audit(&s, "action=job.bulk_cancel").await.pop()).await;
    assert_eq!(whole["after"], json!({ "total": 1_000, "done": 1_000, "refused": 0 }));
    s.stop().await;
}

#[tokio::test]
async fn nobody_lets_go_on_what_they_may_not_do_themselves() {
    let s = Server::on(Arc::new(TempDir::new().expect("folder")), false, |_| {}).await;
    let manager = s.user(MANAGER, Role::Manager).await;
    let ids = later(&s, &s.client, 1_001).await;
    let (_, begun) = s.post("/api/jobs/bulk-delete", json!({ "ids": ids })).await;
    let batch = begun["batch"].as_str().expect("batch");
    let parts = s.get(&format!("/api/jobs?batch={batch}")).await;
    let part = parts["items"][0]["id"].as_str().expect("id");
    let (status, paused) = send(&s, &manager, &format!("/api/jobs/{part}/pause"), json!({})).await;
    assert_eq!(
        (status, &paused["status"]),
        (StatusCode::OK, &json!("paused")),
        "{paused}"
    );
    let (status, problem) = send(&s, &manager, &format!("/api/jobs/{part}/resume"), json!({})).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{problem}");
    assert_eq!(s.act(part, "resume").await.0, StatusCode::OK);
    assert_eq!(
        send(&s, &manager, &format!("/api/jobs/{part}/run-now"), json!({}))
            .await
            .0,
        StatusCode::FORBIDDEN
    );
    // What a manager may do they may let go on, whoever began it.
    let (_, begun) = s.post("/api/jobs/bulk-cancel", json!({ "ids": ids })).await;
    let batch = begun["batch"].as_str().expect("batch");
    let parts = s.get(&format!("/api/jobs?batch={batch}")).await;
    let part = parts["items"][0]["id"].as_str().expect("id");
    assert_eq!(
        send(&s, &manager, &format!("/api/jobs/{part}/pause"), json!({}))
            .await
            .0,
        StatusCode::OK
    );
    assert_eq!(
        send(&s, &manager, &format!("/api/jobs/{part}/resume"), json!({}))
            .await
            .0,
        StatusCode::OK
    );
    s.stop().await;
}

#[tokio::test]
async fn a_batch_stops_acting_for_whoever_lost_their_rights() {
    let s = Server::on(Arc::new(TempDir::new().expect("folder")), false, |_| {}).await;
    let manager = s.user(MANAGER, Role::Manager).await;
    let body = json!({ "name": unique(), "scopes": ["jobs:read", "jobs:write"] });
    let (_, made) = s.post("/api/tokens", body).await;
    let value = HeaderValue::from_str(&format!("Bearer {}", made["secret"].as_str().expect("secret"))).expect("value");
    let token = Client::builder()
        .default_headers(HeaderMap::from_iter([(AUTHORIZATION, value)]))
        .build()
        .expect("client");
    let standing = s.user("standing@example.org", Role::Manager).await;
    later(&s, &s.client, 1_001).await;
    let wish = json!({ "filter": { "status": "scheduled" }, "count": 1_001 });
    let mut batches = Vec::new();
    for by in [&manager, &token] {
        let (status, begun) = send(&s, by, "/api/jobs/bulk-cancel", wish.clone()).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{begun}");
        batches.push(begun["batch"].as_str().expect("batch").to_string());
    }
    let users = s.get("/api/users").await;
    let of = |email: &str| {
        let found = users
            .as_array()
            .expect("users")
            .iter()
            .find(|user| user["email"] == email);
        found.expect("user")["id"].as_str().expect("id").to_string()
    };
    let demoted = s.ask(Method::PATCH, &format!("/api/users/{}", of(MANAGER)));
    let demoted = read(demoted.json(&json!({ "role": "viewer" })).send().await.expect("answer")).await;
    assert!(demoted.0.is_success(), "{demoted:?}");
    let revoked = s.ask(
        Method::DELETE,
        &format!("/api/tokens/{}", made["token"]["id"].as_str().expect("id")),
    );
    assert!(read(revoked.send().await.expect("answer")).await.0.is_success());

    let s = Server::on(s.stop().await, true, patient).await;
    for batch in &batches {
        let parts = until("the batch's end", async || {
            let page = s.get(&format!("/api/jobs?batch={batch}")).await;
            let parts = page["items"].as_array().expect("items").clone();
            (parts.iter().all(|part| part["status"] == "failed")).then_some(parts)
        })
        .await;
        assert_eq!(parts.len(), 2);
        let why = parts[0]["error"].as_str().expect("error");
        assert!(why.contains("may do has changed"), "{why}");
        assert_eq!(parts[0]["error_code"], "AUTH_ERROR");
    }
    assert_eq!(total(&s, "status=scheduled").await, 1_001);
    // Whoever kept theirs sees it done, though their session is over.
    let (_, begun) = send(&s, &standing, "/api/jobs/bulk-cancel", wish).await;
    let batch = begun["batch"].as_str().expect("batch");
    send(&s, &standing, "/session/end", json!({})).await;
    until("the batch's end", async || {
        let batch = s.get(&format!("/api/batches/{batch}")).await;
        (batch["by_status"]["completed"] == 2).then_some(())
    })
    .await;
    assert_eq!(total(&s, "status=cancelled").await, 1_001);
    s.stop().await;
}

#[tokio::test]
async fn facets_say_what_a_list_is_made_of() {
    let s = Server::start().await;
    let member = s.user(MEMBER, Role::Member).await;
    let bad = [failed(&s).await, failed(&s).await];
    let dies = s.enqueue("panics", json!({})).await;
    s.until(&dies, "dead").await;
    let job = json!({ "type": "echo", "queue": "mail", "delay": 86_400 });
    let (_, _) = s.post("/api/jobs/bulk", json!([job, job])).await;
    later(&s, &member, 3).await;
    let (status, _) = send(
        &s,
        &member,
        "/api/jobs",
        json!({ "type": "flaky", "args": { "times": 1, "permanent": true } }),
    )
    .await;
    assert_eq!(status, StatusCode::ACCEPTED);
    until("the member's failure", async || {
        (total(&s, &format!("status=failed&owner={MEMBER}")).await == 1).then_some(())
    })
    .await;

    // By the table of counts, and by the jobs themselves: the same.
    let since = "created_after=2020-01-01T00:00:00Z";
    for query in ["", since] {
        let found = s.get(&format!("/api/jobs/search?limit=2&{query}")).await;
        assert_eq!(
            (&found["total"], found["items"].as_array().map(Vec::len)),
            (&json!(9), Some(2))
        );
        let facets = &found["facets"];
        assert_eq!(
            facets["status"],
            json!({ "failed": 3, "dead": 1, "scheduled": 5 }),
            "{query}"
        );
        assert_eq!(facets["type"], json!({ "flaky": 3, "panics": 1, "echo": 5 }));
        assert_eq!(facets["queue"], json!({ "default": 7, "mail": 2 }));
        assert_eq!(
            (&facets["capped"], &facets["error_capped"]),
            (&json!(false), &json!(false))
        );
        let errors = facets["error"].as_array().expect("errors");
        assert_eq!(errors.len(), 2);
        assert_eq!(
            (&errors[0]["count"], &errors[0]["code"], &errors[0]["message"]),
            (&json!(3), &json!("AUTH_ERROR"), &json!("failure 1"))
        );
        // What they name is what the list takes.
        let print = errors[0]["fingerprint"].as_str().expect("fingerprint");
        assert_eq!(total(&s, &format!("error={print}")).await, 3);
        assert_eq!(errors[1]["count"], 1);
    }
    // For the same filter, whatever it asks for.
    for (query, expected) in [
        ("status=failed,dead", json!({ "failed": 3, "dead": 1 })),
        ("type=echo&queue=mail", json!({ "scheduled": 2 })),
        ("q=failure", json!({ "failed": 3 })),
        ("queue=none", json!({})),
        ("type=echo&q=failure", json!({})),
    ] {
        let found = s.get(&format!("/api/jobs/search?{query}")).await;
        assert_eq!(found["facets"]["status"], expected, "{query}");
    }
    let (status, problem) = read(
        s.ask(Method::GET, "/api/jobs/search?statuses=dead")
            .send()
            .await
            .expect("answer"),
    )
    .await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");

    // Members count their own, in every facet.
    let (_, found) = get(&s, &member, "/api/jobs/search").await;
    let facets = &found["facets"];
    assert_eq!(facets["status"], json!({ "failed": 1, "scheduled": 3 }));
    assert_eq!(facets["type"], json!({ "flaky": 1, "echo": 3 }));
    assert_eq!(facets["queue"], json!({ "default": 4 }));
    assert_eq!(
        (facets["error"].as_array().map(Vec::len), &facets["error"][0]["count"]),
        (Some(1), &json!(1))
    );
    let (status, _) = get(&s, &member, &format!("/api/jobs/search?owner={ADMIN}")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(bad.len(), 2);
    s.stop().await;
}
