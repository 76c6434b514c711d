//! REST: lists, filters, problems, the document.

use chrono::{DateTime, Utc};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Server, read, unique, until};

fn ids(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().expect("items");
    items
        .iter()
        .map(|j| j["id"].as_str().expect("id").to_string())
        .collect()
}

fn only(id: &str) -> Vec<String> {
    vec![id.to_string()]
}

#[tokio::test]
async fn an_enqueued_job_is_answered_with_its_place_and_runs() {
    let s = Server::start().await;
    let body = json!({ "type": "echo", "args": { "value": 7 }, "priority": "high", "queue": "mail" });
    let answer = s
        .ask(Method::POST, "/api/jobs")
        .json(&body)
        .send()
        .await
        .expect("answer");
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let location = answer.headers()["location"].to_str().expect("text").to_string();
    let job: Value = answer.json().await.expect("json");
    let id = job["id"].as_str().expect("id");
    assert_eq!(location, format!("/api/jobs/{id}"));
    assert_eq!(
        (&job["queue"], &job["priority"], &job["owner"]),
        (&json!("mail"), &json!("high"), &json!("admin@example.org"))
    );
    s.until(id, "completed").await;
    let detail = s.detail(id).await;
    assert_eq!(detail["result"], 7);
    assert_eq!(detail["job"]["progress"], 100.0);
    assert_eq!(detail["attempts"][0]["outcome"], "completed");
    let steps: Vec<_> = detail["transitions"]
        .as_array()
        .expect("list")
        .iter()
        .map(|t| t["to"].clone())
        .collect();
    assert_eq!(steps, ["pending", "running", "completed"]);
    assert_eq!(detail["actions"], json!(["run-again", "delete"]));
    let history = s.get(&format!("/api/jobs/{id}/history")).await;
    assert_eq!(history["attempts"].as_array().expect("list").len(), 1);
    s.stop().await;
}

#[tokio::test]
async fn lists_filter_sort_and_page_without_gap_or_repeat() {
    let s = Server::with(|c| c.worker_concurrency = 1).await;
    let mut all = Vec::new();
    for n in 0..25 {
        all.push(s.enqueue("echo", json!({ "value": n })).await);
    }
    for id in &all {
        s.until(id, "completed").await;
    }
    // One worker slot: jobs begin in the order of enqueueing. Their ends are written behind, and may overtake each other.
    let mut by_end = Vec::new();
    for (n, id) in all.iter().enumerate() {
        // As moments, not as texts: a whole second has no fraction to write, and "…42Z" comes after "…42.001Z".
        let end: DateTime<Utc> = serde_json::from_value(s.job(id).await["completed_at"].clone()).expect("a moment");
        by_end.push((end, n));
    }
    by_end.sort();
    let by_end: Vec<String> = by_end.into_iter().map(|(_, n)| all[n].clone()).collect();
    for order in ["desc", "asc"] {
        for sort in [
            "created_at",
            "started_at",
            "completed_at",
            "progress",
            "job_type",
            "status",
        ] {
            let mut seen = Vec::new();
            let mut cursor = String::new();
            loop {
                let page = s
                    .get(&format!("/api/jobs?limit=7&sort={sort}&order={order}&cursor={cursor}"))
                    .await;
                assert_eq!(page["total"], 25);
                seen.extend(ids(&page));
                match page["next_cursor"].as_str() {
                    Some(next) => cursor = next.to_string(),
                    None => break,
                }
            }
            // The others are the order of enqueueing, or break their ties by it.
            let mut expected = if sort == "completed_at" {
                by_end.clone()
            } else {
                all.clone()
            };
            if order == "desc" {
                expected.reverse();
            }
            assert_eq!(seen, expected, "{sort} {order}");
        }
    }
    all.reverse();
    assert_eq!(ids(&s.get("/api/jobs?limit=3&offset=2").await), all[2..5]);
    s.stop().await;
}

#[tokio::test]
async fn filters_and_searches_find_what_they_name() {
    let s = Server::start().await;
    let good = s.enqueue("echo", json!({ "value": "needle" })).await;
    let bad = s.enqueue("flaky", json!({ "times": 9, "permanent": true })).await;
    let name = unique();
    let waiting = s.enqueue("gate", json!({ "name": name })).await;
    s.until(&good, "completed").await;
    s.until(&bad, "failed").await;
    until("the step", async || {
        (s.job(&waiting).await["message"] == "Waiting at the gate").then_some(())
    })
    .await;
    let found = async |query: &str| ids(&s.get(&format!("/api/jobs?{query}")).await);
    assert_eq!(found("status=failed").await, only(&bad));
    assert_eq!(
        found("status=processing,complete&order=asc").await,
        [good.clone(), waiting.clone()]
    );
    assert_eq!(found("type=gate").await, only(&waiting));
    assert_eq!(found("queue=default&owner=admin@example.org").await.len(), 3);
    assert_eq!(found("q=failure%201").await, only(&bad));
    assert_eq!(found("q=AUTH_ERR").await, only(&bad));
    // A running job's message changes too often to be indexed; it is found all the same.
    assert_eq!(found("q=at%20the%20gate").await, only(&waiting));
    assert_eq!(found(&format!("q={}", &good[good.len() - 6..])).await, only(&good));
    assert_eq!(found(&format!("q={good}")).await, only(&good));
    // Two characters are too few for the index. (Neither occurs in an id.)
    assert_eq!(found("q=ho").await, only(&good));
    assert_eq!(found("q=%22%25_*%27").await, Vec::<String>::new());
    assert_eq!(found("created_after=2001-01-01T00:00:00Z").await.len(), 3);
    assert_eq!(found("created_before=2001-01-01T00:00:00Z").await.len(), 0);
    let stats = s.get("/api/jobs/stats").await;
    assert_eq!((&stats["total"], &stats["by_status"]["failed"]), (&json!(3), &json!(1)));
    assert_eq!(stats["by_type"]["gate"]["running"], 1);
    s.act(&waiting, "abort").await;
    s.stop().await;
}

#[tokio::test]
async fn bad_input_gets_a_problem_that_names_the_field() {
    let s = Server::start().await;
    let cases = [
        ("/api/jobs?limit=0", "limit"),
        ("/api/jobs?limit=1001", "limit"),
        ("/api/jobs?limit=many", "limit"),
        ("/api/jobs?offset=-1", "offset"),
        ("/api/jobs?cursor=zz", "cursor"),
        ("/api/jobs?status=runing", "status"),
        ("/api/jobs?sort=size", "sort"),
        ("/api/jobs?order=up", "order"),
        ("/api/jobs?stauts=failed", "stauts"),
        ("/api/jobs?created_after=yesterday", "created_after"),
        ("/api/jobs/events?since=1", "since"),
    ];
    for (path, field) in cases {
        let answer = s.ask(Method::GET, path).send().await.expect("answer");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{path}");
        let (status, problem) = read(answer).await;
        assert_eq!(
            (status, &problem["field"]),
            (StatusCode::BAD_REQUEST, &json!(field)),
            "{path}: {problem}"
        );
        assert_eq!(problem["code"], "invalid_input");
    }
    let bodies = [
        (json!({}), "type"),
        (json!({ "type": "nope" }), "type"),
        (json!({ "type": "echo", "args": { "valeu": 1 } }), "args"),
        (json!({ "type": "gate", "args": { "name": 1 } }), "args.name"),
        (json!({ "type": "echo", "queue": "Not Good" }), "queue"),
        (
            json!({ "type": "echo", "delay": 1, "run_at": "2030-01-01T00:00:00Z" }),
            "delay",
        ),
        (json!({ "type": "echo", "delay": 999_999_999_999u64 }), "delay"),
        (json!({ "type": "echo", "unique_key": "" }), "unique_key"),
        (json!({ "type": "echo", "priority": "urgent" }), "priority"),
    ];
    for (body, field) in bodies {
        let (status, problem) = s.post("/api/jobs", body.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}: {problem}");
        let named = problem["field"].as_str().unwrap_or_default().starts_with(field);
        assert!(
            named || problem["detail"].as_str().unwrap_or_default().contains(field),
            "{body}: {problem}"
        );
    }
    let (status, problem) = s
        .post(
            "/api/jobs",
            json!({ "type": "echo", "args": { "value": "x".repeat(20_000) } }),
        )
        .await;
    assert_eq!(
        (status, &problem["field"]),
        (StatusCode::PAYLOAD_TOO_LARGE, &json!("args"))
    );
    assert_eq!(s.get("/api/jobs").await["total"], 0, "nothing was half done");
    s.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_too() {
    let s = Server::start().await;
    let gone = uuid::Uuid::now_v7();
    for path in [
        format!("/api/jobs/{gone}"),
        "/api/jobs/17".into(),
        format!("/api/jobs/{gone}/detail"),
        "/api/nothing".into(),
    ] {
        let (status, problem) = read(s.ask(Method::GET, &path).send().await.expect("answer")).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::NOT_FOUND, &json!("not_found")),
            "{path}: {problem}"
        );
    }
    let call = s.ask(Method::POST, "/rpc/job_detail").json(&json!({ "id": gone }));
    let (status, problem) = read(call.send().await.expect("answer")).await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::NOT_FOUND, &json!("not_found")),
        "a server function refuses with the same status as the API: {problem}"
    );
    let (status, problem) = read(s.ask(Method::PUT, "/api/jobs").send().await.expect("answer")).await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::METHOD_NOT_ALLOWED, &json!("method_not_allowed"))
    );
    let answer = s
        .ask(Method::POST, "/api/jobs")
        .body("type=echo")
        .send()
        .await
        .expect("answer");
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    s.stop().await;
}

#[tokio::test]
async fn an_address_or_arguments_that_can_not_be_read_are_the_callers_fault() {
    let s = Server::start().await;
    for path in ["/api/queues/%ff/pause", "/api/jobs/%ff/cancel"] {
        let (status, problem) = s.post(path, json!({})).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::BAD_REQUEST, &json!("invalid_input")),
            "{path}"
        );
    }
    // Server functions: no JSON, and JSON of another shape.
    for (path, body) in [("list_jobs", "{"), ("act", "{\"id\": 7}"), ("link", "\u{fffd}")] {
        let sent = s.ask(Method::POST, &format!("/rpc/{path}")).body(body);
        let (status, problem) = read(
            sent.header("content-type", "application/json")
                .send()
                .await
                .expect("answer"),
        )
        .await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::BAD_REQUEST, &json!("invalid_input")),
            "{path}: {problem}"
        );
        assert!(
            problem["detail"]
                .as_str()
                .expect("text")
                .starts_with("What was sent can't be read: "),
            "{problem}"
        );
    }
    s.stop().await;
}

#[tokio::test]
async fn filters_are_checked_by_whichever_door_they_come() {
    let s = Server::start().await;
    let id = s.enqueue("echo", json!({})).await;
    s.until(&id, "completed").await;
    let call = async |name: &str, filter: Value| {
        let body = match name {
            "list_jobs" => json!({ "filter": filter, "page": {} }),
            _ => json!({ "filter": filter }),
        };
        s.post(&format!("/rpc/{name}"), body).await
    };
    // More than any database takes as values of one statement.
    let many = ["completed", "failed"].repeat(40_000);
    let (status, page) = call("list_jobs", json!({ "status": many })).await;
    assert_eq!((status, ids(&page)), (StatusCode::OK, only(&id)), "{page}");
    let zero = "a\0b".to_string();
    let long = "x".repeat(1_000);
    for (name, given, field) in [
        ("list_jobs", "q", "q"),
        ("list_jobs", "kind", "type"),
        ("list_jobs", "queue", "queue"),
        ("list_jobs", "owner", "owner"),
        ("list_jobs", "error", "error"),
        ("audit", "actor", "actor"),
        ("audit", "action", "action"),
        ("audit", "object", "object"),
        ("audit", "name", "name"),
    ] {
        for text in [&zero, &long] {
            let (status, problem) = call(name, json!({ given: text })).await;
            assert_eq!(
                (status, &problem["code"], &problem["field"]),
                (StatusCode::BAD_REQUEST, &json!("invalid_input"), &json!(field)),
                "{name} {given}: {problem}"
            );
        }
    }
    let order = json!({ "created_after": "2026-03-02T00:00:00Z", "created_before": "2026-03-01T00:00:00Z" });
    let (status, problem) = call("list_jobs", order).await;
    assert_eq!(
        (status, &problem["field"]),
        (StatusCode::BAD_REQUEST, &json!("created_after")),
        "{problem}"
    );
    for path in [
        format!("/api/jobs?owner={long}"),
        format!("/api/admin/audit-logs?name={long}"),
        format!("/api/admin/audit-logs/export?name={long}"),
    ] {
        let (status, problem) = read(s.ask(Method::GET, &path).send().await.expect("answer")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}: {problem}");
    }
    let none = s.ask(Method::GET, &format!("/api/jobs/{id}/artifacts/a%00b"));
    assert_eq!(none.send().await.expect("answer").status(), StatusCode::NOT_FOUND);
    s.stop().await;
}

#[tokio::test]
async fn a_unique_key_answers_with_the_first_job_while_that_is_unfinished() {
    let s = Server::start().await;
    let name = unique();
    let body = json!({ "type": "gate", "args": { "name": name }, "unique_key": "k" });
    let (status, first) = s.post("/api/jobs", body.clone()).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let (status, second) = s.post("/api/jobs", body.clone()).await;
    assert_eq!((status, &second["id"]), (StatusCode::OK, &first["id"]));
    let again = s.ask(Method::POST, "/api/jobs").header("Idempotency-Key", "k");
    let body_without = json!({ "type": "echo" });
    let (status, third) = read(again.json(&body_without).send().await.expect("answer")).await;
    assert_eq!((status, &third["id"]), (StatusCode::OK, &first["id"]));
    crate::harness::gate(&name).add_permits(1);
    s.until(first["id"].as_str().expect("id"), "completed").await;
    crate::harness::gate(&name).add_permits(1);
    let (status, fresh) = s.post("/api/jobs", body).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_ne!(fresh["id"], first["id"]);
    s.stop().await;
}

/// Calls that come together are written together: all but one of those with the same key are told of the one that is new.
#[tokio::test]
async fn of_calls_with_one_unique_key_that_come_together_one_is_new() {
    let s = Server::start().await;
    for round in 0..10 {
        let call = |n: u32| {
            let body = json!({ "type": "echo", "delay": 3_600, "unique_key": format!("{round}-{}", n % 3) });
            s.post("/api/jobs", body)
        };
        let answers = futures::future::join_all((0..30).map(call)).await;
        for key in 0..3_usize {
            let told: Vec<_> = answers.iter().skip(key).step_by(3).collect();
            let new: Vec<_> = told
                .iter()
                .filter(|(status, _)| *status == StatusCode::ACCEPTED)
                .collect();
            assert_eq!(new.len(), 1, "as if each had written one: {told:?}");
            let id = new[0].1["id"].as_str().expect("id");
            assert!(
                told.iter().all(|(status, job)| status.is_success() && job["id"] == id),
                "{told:?}"
            );
            assert_eq!(s.job(id).await["status"], "scheduled");
        }
    }
    assert_eq!(s.get("/api/jobs?limit=1").await["total"], 30);
    s.stop().await;
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_back() {
    let s = Server::on(
        std::sync::Arc::new(tempfile::TempDir::new().expect("folder")),
        false,
        |c| c.queue_max = 2,
    )
    .await;
    s.enqueue("echo", json!({})).await;
    s.enqueue("echo", json!({})).await;
    let answer = s
        .ask(Method::POST, "/api/jobs")
        .json(&json!({ "type": "echo" }))
        .send()
        .await
        .expect("answer");
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(answer.headers().contains_key("retry-after"));
    s.stop().await;
}

#[tokio::test]
async fn a_bulk_is_enqueued_whole_or_not_at_all() {
    let s = Server::with(|c| c.queue_max = 500).await;
    let jobs = |n: u32| {
        (0..n)
            .map(|i| json!({ "type": "echo", "args": { "value": i } }))
            .collect::<Vec<_>>()
    };
    let (status, done) = s.post("/api/jobs/bulk", json!(jobs(300))).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{done}");
    let ids = done["ids"].as_array().expect("ids");
    assert_eq!((&done["enqueued"], ids.len()), (&json!(300), 300));
    for (i, id) in ids.iter().enumerate().step_by(100) {
        let id = id.as_str().expect("id");
        s.until(id, "completed").await;
        assert_eq!(
            s.detail(id).await["args"],
            json!({ "value": i }),
            "the ids come in the order of the jobs"
        );
    }

    let lines = "{\"type\":\"echo\",\"unique_key\":\"a\",\"delay\":60}\n\n{\"type\":\"echo\",\"unique_key\":\"a\",\"delay\":60}\n";
    let ndjson = |body: String| {
        let call = s
            .ask(Method::POST, "/api/jobs/bulk")
            .header("Content-Type", "application/x-ndjson");
        call.body(body).send()
    };
    let (status, done) = read(ndjson(lines.into()).await.expect("answer")).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{done}");
    assert_eq!((&done["enqueued"], &done["existing"]), (&json!(1), &json!(1)));
    assert_eq!(done["ids"][0], done["ids"][1], "the second has the key of the first");

    let before = s.get("/api/jobs/stats").await["total"].clone();
    let mut bad = jobs(3);
    bad[1]["type"] = json!("no-such-kind");
    let (status, problem) = s.post("/api/jobs/bulk", json!(bad)).await;
    assert_eq!(
        (status, &problem["field"]),
        (StatusCode::BAD_REQUEST, &json!("jobs[1].type"))
    );
    let (status, problem) = read(ndjson("{\"type\":\"echo\"}\n{]\n".into()).await.expect("answer")).await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("line 2")));
    let (status, problem) = s.post("/api/jobs/bulk", json!([])).await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("jobs")));
    let (status, _) = s.post("/api/jobs/bulk", json!(jobs(501))).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        s.get("/api/jobs/stats").await["total"],
        before,
        "nothing of what was refused is there"
    );
    s.stop().await;
}

#[tokio::test]
async fn the_document_describes_every_route_and_health_answers() {
    let s = Server::start().await;
    let document = s.get("/api/openapi.json").await;
    for path in [
        "/api/jobs",
        "/api/jobs/types",
        "/api/jobs/stats",
        "/api/jobs/{id}",
        "/api/jobs/{id}/detail",
        "/api/jobs/{id}/history",
        "/api/jobs/{id}/logs",
        "/api/jobs/{id}/logs/ws",
        "/api/jobs/events",
        "/api/jobs/{id}/cancel",
        "/api/jobs/{id}/abort",
        "/api/jobs/{id}/retry",
        "/api/events/export",
        "/api/events/import",
        "/api/jobs/{id}/artifacts/{name}",
        "/api/admin/jobs/health",
    ] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    let health = s.get("/api/admin/jobs/health").await;
    assert_eq!(health["status"], "healthy", "{health}");
    assert_eq!(health["checks"]["slots"], 4);
    for path in ["/healthz", "/readyz", "/metrics", "/api/docs"] {
        assert_eq!(
            s.ask(Method::GET, path).send().await.expect("answer").status(),
            StatusCode::OK,
            "{path}"
        );
    }
    let types = s.get("/api/jobs/types").await;
    let export = types
        .as_array()
        .expect("list")
        .iter()
        .find(|t| t["name"] == "export")
        .expect("export");
    assert!(export["args_schema"]["properties"].is_object() && export["policy"]["max_attempts"] == 3);
    s.stop().await;
}

#[tokio::test]
async fn pages_are_rendered_on_the_server_under_a_strict_policy() {
    let s = Server::start().await;
    let id = s.enqueue("echo", json!({ "value": "<script>alert(1)</script>" })).await;
    s.until(&id, "completed").await;
    let answer = s.ask(Method::GET, &format!("/jobs/{id}")).send().await.expect("answer");
    assert_eq!(answer.status(), StatusCode::OK);
    let policy = answer.headers()["content-security-policy"]
        .to_str()
        .expect("text")
        .to_string();
    assert!(
        policy.contains("default-src 'none'") && policy.contains("'nonce-"),
        "{policy}"
    );
    let html = answer.text().await.expect("text");
    assert!(html.contains("Monitor background jobs and their progress") && html.contains(&id));
    assert!(!html.contains("<script>alert(1)"), "texts of jobs are escaped");
    let gone = format!("/jobs/{}", uuid::Uuid::now_v7());
    for path in ["/no-such-page", "/jobs/17", &gone] {
        let missing = s.ask(Method::GET, path).send().await.expect("answer");
        assert_eq!(missing.status(), StatusCode::NOT_FOUND, "{path}");
        assert!(missing.text().await.expect("text").contains("</html>"), "{path}");
    }
    s.stop().await;
}

#[tokio::test]
async fn other_sites_can_neither_act_nor_read() {
    let s = Server::start().await;
    let post = |name: &'static str, value: &'static str| {
        s.ask(Method::POST, "/api/jobs")
            .header(name, value)
            .json(&json!({ "type": "echo" }))
    };
    for (name, value) in [
        ("Origin", "https://evil.example"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Host", "evil.example"),
    ] {
        let (status, problem) = read(post(name, value).send().await.expect("answer")).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::FORBIDDEN, &json!("cross_site")),
            "{name}"
        );
    }
    assert_eq!(s.get("/api/jobs").await["total"], 0);
    s.stop().await;
}

#[tokio::test]
async fn any_call_that_starts_jobs_may_be_sent_again() {
    let s = Server::start().await;
    let again = async |path: &str, body: Value| {
        let mut answers = Vec::new();
        for _ in 0..2 {
            let sent = s
                .ask(Method::POST, path)
                .header("idempotency-key", unique_of(path))
                .json(&body);
            answers.push(read(sent.send().await.expect("answer")).await.1);
        }
        answers
    };
    let bulk = again(
        "/api/jobs/bulk",
        json!([{ "type": "gate", "args": { "name": "x" } }, { "type": "gate", "args": { "name": "x" } }]),
    )
    .await;
    assert_eq!(
        (&bulk[0]["enqueued"], &bulk[1]["existing"]),
        (&json!(2), &json!(2)),
        "{bulk:?}"
    );
    assert_eq!(bulk[0]["ids"], bulk[1]["ids"]);
    let pause = s.post("/api/queues/default/pause", json!({})).await;
    assert_eq!(pause.0, StatusCode::OK);
    let export = again("/api/events/export", json!({ "format": "csv" })).await;
    assert_eq!(export[0]["job_id"], export[1]["job_id"]);
    let mut imports = Vec::new();
    for _ in 0..2 {
        let part = reqwest::multipart::Part::bytes(b"id\n".as_slice()).file_name("events.csv");
        let form = reqwest::multipart::Form::new().part("file", part);
        let sent = s
            .ask(Method::POST, "/api/events/import")
            .header("idempotency-key", "import once");
        imports.push(read(sent.multipart(form).send().await.expect("answer")).await.1["job_id"].clone());
    }
    assert_eq!(imports[0], imports[1]);
    assert_eq!(
        std::fs::read_dir(s.dir.path().join("uploads"))
            .expect("uploads")
            .count(),
        1,
        "the second file went again"
    );
    let long = s
        .ask(Method::POST, "/api/jobs")
        .body("x".repeat(2_000_000))
        .header("content-type", "application/json");
    let (status, problem) = read(long.send().await.expect("answer")).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(
        problem["detail"].as_str().expect("text").contains("larger than 1.0 MB"),
        "{problem}"
    );
    s.stop().await;
}

fn unique_of(path: &str) -> String {
    format!("once {path}")
}
