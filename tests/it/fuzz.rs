//! Whatever reads what strangers send, tried with what nobody thought of: nothing panics or hangs, what is read is written again
//! as the same, and the server answers with words and never with a fault of its own. `script/fuzz` does it for longer; readers
//! that are not to be seen from here have the same tests beside them (`fuzz_tests.rs`).

pub mod mutate;

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, Method, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use windlass::domain::account::{NewToken, NewUser, UserChange};
use windlass::domain::error::{Problem, is_fingerprint};
use windlass::domain::filter::JobFilter;
use windlass::domain::job::{JobId, NewJob};
use windlass::domain::page::PageRequest;
use windlass::domain::schedule::NewSchedule;
use windlass::domain::user::{Role, Scope};
use windlass::domain::work::{
    CheckpointReport, Completion, Failure, FetchWish, Heartbeat, LogReport, ProgressReport, Release,
};
use windlass::domain::worker::NewWorker;
use windlass::server::http::DOORS;
use windlass::server::service::cron::Rule;

use self::mutate::Fuzz;
use crate::harness::{Server, unique};
use crate::members::{send, token_of};

const ID: &str = "0190b5c7-0000-7000-8000-00000000abcd";

#[test]
fn fuzz_query_strings() {
    let seeds = [
        "q=a%20b&status=failed,dead&type=export&queue=default&owner=me&sort=created_at&order=asc".to_string(),
        format!("parent={ID}&batch={ID}&error=0123456789abcdef&limit=50&cursor=7b7d"),
        "created_after=2026-03-01T14:05:09Z&created_before=2026-03-02T14%3A05%3A09.123%2B02%3A00&offset=10".into(),
        "status=all&status=&type=all&q=%E2%82%AC&x=1".into(),
    ];
    let words = [
        "q=",
        "&status=",
        "&type=",
        "&sort=progress",
        "&order=desc",
        "%20",
        "%C3",
        "+",
        "created_after=",
        "ALL",
        ",",
        "-00:00",
    ];
    for case in Fuzz::new("query strings", &seeds, &words) {
        let text = String::from_utf8_lossy(&case);
        let Ok(pairs) = serde_urlencoded::from_str::<Vec<(String, String)>>(&text) else {
            continue;
        };
        let borrowed = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        match JobFilter::from_pairs(borrowed) {
            Ok((filter, rest)) => {
                assert!(filter.error.as_deref().is_none_or(is_fingerprint));
                assert!(rest.iter().all(|(name, _)| *name != "status" && *name != "q"));
                // The address of a list leads to the same list.
                let written = filter.to_query();
                let read: Vec<(String, String)> = serde_urlencoded::from_str(&written).expect("a query");
                let read = read.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                assert_eq!(JobFilter::from_pairs(read), Ok((filter, Vec::new())), "{written}");
            }
            Err(problem) => assert!(problem.field.is_some() && !problem.detail.is_empty(), "{problem:?}"),
        }
    }
}

#[test]
fn fuzz_cron_and_time_zones() {
    let seeds = [
        "30 2 * * *\nEurope/Berlin",
        "*/5 0-12 1,15 * 1-5\nUTC",
        "0 0 12 L * ?\nAmerica/New_York",
        "0 0 29 2 *\nPacific/Apia",
        "15 10 * * 5#3\nAustralia/Lord_Howe",
        "0 0 * JAN-MAR MON\nAsia/Kathmandu",
        "@daily\nUTC",
        "* * * * * *\nAfrica/Monrovia",
    ];
    let words = [
        "*",
        "/",
        "-",
        ",",
        "L",
        "W",
        "#",
        "?",
        "59",
        "60",
        "31 2",
        "30 2 *",
        "JAN",
        "SUN",
        "7",
        "@yearly",
        "\nEurope/Dublin",
        "\n",
    ];
    let from = |text: &str| DateTime::parse_from_rfc3339(text).expect("a time").to_utc();
    let starts: [DateTime<Utc>; 4] = [
        from("2026-03-29T00:30:00Z"),
        from("2026-10-25T00:30:00.5Z"),
        from("2011-12-29T23:59:59Z"),
        from("2027-12-31T23:59:59Z"),
    ];
    for case in Fuzz::new("cron and time zones", &seeds, &words) {
        let text = String::from_utf8_lossy(&case);
        let (cron, zone) = text.split_once('\n').unwrap_or((&text, "UTC"));
        let rule = match Rule::parse(cron, zone) {
            Ok(rule) => rule,
            Err(problem) => {
                assert!(
                    matches!(problem.field.as_deref(), Some("cron" | "time_zone")),
                    "{problem:?}"
                );
                continue;
            }
        };
        assert!(!rule.describe().is_empty());
        for start in starts {
            let mut last = start;
            for _ in 0..3 {
                let Some(next) = rule.next(last) else { break };
                assert!(next > last, "{cron:?} in {zone:?}: {next} is not after {last}");
                last = next;
            }
        }
    }
}

#[test]
fn fuzz_job_ids() {
    let seeds = [
        ID,
        "0190b5c70000700080000000000000ab",
        "{0190b5c7-0000-7000-8000-00000000abcd}",
        "urn:uuid:0190b5c7-0000-7000-8000-00000000abcd",
    ];
    for case in Fuzz::new("job ids", &seeds, &["-", "{", "}", "urn:uuid:", "g", "F"]) {
        if let Ok(id) = String::from_utf8_lossy(&case).parse::<JobId>() {
            assert_eq!(id.to_string().parse::<JobId>().ok(), Some(id));
            assert_eq!(id.to_string().len(), 36);
        }
    }
}

/// Whether a value that was read is written and read again as the same.
fn round<T: DeserializeOwned + Serialize>(case: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(case) {
        let written = serde_json::to_value(&value).expect("JSON");
        let again: T = serde_json::from_value(written.clone()).unwrap_or_else(|e| panic!("{e}: {written}"));
        assert_eq!(serde_json::to_value(&again).expect("JSON"), written);
    }
}

#[test]
fn fuzz_json_types() {
    let seeds: Vec<String> = bodies().into_values().flatten().map(|body| body.to_string()).collect();
    for case in Fuzz::new("JSON types", &seeds, WORDS) {
        round::<NewJob>(&case);
        round::<Vec<NewJob>>(&case);
        round::<NewSchedule>(&case);
        round::<NewToken>(&case);
        round::<NewUser>(&case);
        round::<UserChange>(&case);
        round::<JobFilter>(&case);
        round::<PageRequest>(&case);
        round::<Problem>(&case);
    }
}

#[test]
fn fuzz_what_workers_say() {
    let seeds: Vec<String> = said().into_iter().map(|(_, body)| body.to_string()).collect();
    for case in Fuzz::new("what workers say", &seeds, SAID) {
        round::<NewWorker>(&case);
        round::<FetchWish>(&case);
        round::<Heartbeat>(&case);
        round::<ProgressReport>(&case);
        round::<LogReport>(&case);
        round::<CheckpointReport>(&case);
        round::<Completion>(&case);
        round::<Failure>(&case);
        round::<Release>(&case);
    }
}

/// What a worker outside says, by where.
fn said() -> Vec<(&'static str, Value)> {
    let schema =
        json!({ "type": "object", "properties": { "value": {}, "key": { "type": "string", "x-secret": true } } });
    let policy = json!({ "max_attempts": 1000, "backoff": "fixed", "base_ms": 1, "cap_ms": 1, "timeout_s": 60, "max_running": 9,
        "rate": { "jobs": 1000000, "per_ms": 1 } });
    vec![
        (
            "",
            json!({ "name": "w", "host": "box", "version": "1", "slots": 5, "kinds": [
                { "name": "fuzz.a", "description": "d", "args_schema": schema, "policy": policy, "checkpoints": true }] }),
        ),
        ("/fetch", json!({ "max": 2, "kinds": ["fuzz.a"] })),
        ("/heartbeat", json!({ "jobs": [{ "id": ID, "epoch": 1 }] })),
        (
            "/jobs/{id}/progress",
            json!({ "epoch": 1, "done": 5, "total": 10, "message": "m" }),
        ),
        (
            "/jobs/{id}/logs",
            json!({ "epoch": 1, "lines": [{ "level": "warning", "message": "m" }] }),
        ),
        (
            "/jobs/{id}/checkpoint",
            json!({ "epoch": 1, "checkpoint": { "at": 3 } }),
        ),
        (
            "/jobs/{id}/complete",
            json!({ "epoch": 1, "result": [1, "x"], "cpu_ms": 7 }),
        ),
        (
            "/jobs/{id}/fail",
            json!({ "epoch": 1, "message": "m", "stack": "d", "retryable": true, "cpu_ms": 7 }),
        ),
        ("/jobs/{id}/release", json!({ "epoch": 1, "checkpoint": { "at": 3 } })),
    ]
}

const SAID: &[&str] = &[
    "\"epoch\":1",
    "\"kinds\":[",
    "\"name\":",
    "\"fuzz.a\"",
    "\"args_schema\":{\"type\":\"object\"}",
    "\"policy\":{",
    "\"max\":",
    "\"lines\":[",
    "\"level\":\"error\"",
    "\"total\":0",
    "\"result\":",
    ":",
    ",",
    "null",
    "{",
    "}",
    "\\u0000",
    "\\ud800",
    "1e400",
    "18446744073709551615",
];

const WORDS: &[&str] = &[
    "\"type\"",
    "\"args\"",
    "\"queue\"",
    "\"priority\"",
    "\"run_at\"",
    "\"delay\"",
    "\"unique_key\"",
    "\"depends_on\"",
    "\"batch\"",
    "\"upload\"",
    "\"timeout\"",
    "\"label\"",
    "\"scopes\"",
    "\"kinds\"",
    "\"days\"",
    "\"role\"",
    "\"cron\"",
    "\"time_zone\"",
    ":",
    "{",
    "}",
    "[",
    "]",
    "\\u0000",
    "\\ud800",
    "1e400",
    "\"@a\"",
    "\"echo\"",
    "\"export\"",
    "\"import\"",
];

/// A server that runs nothing, so that jobs do not pile up work; its admin's client makes no more sessions.
async fn server() -> Server {
    Server::on(Arc::new(TempDir::new().expect("folder")), false, |c| {
        c.queue_max = 1 << 40;
        c.edge.uploads_max_user = 1 << 40;
        c.edge.uploads_max_total = 1 << 40;
    })
    .await
}

/// Sound bodies by route.
fn bodies() -> BTreeMap<&'static str, Vec<Value>> {
    let job = json!({ "type": "echo", "args": { "value": [1, "x"] }, "queue": "default", "priority": "high", "delay": 3600, "label": "a" });
    let keyed = json!({ "type": "export", "args": { "format": "csv", "filter": { "camera_id": "c" } }, "unique_key": "k", "unique_for": 60,
        "timeout": 60, "concurrency_key": "c", "on_failure": "run" });
    let later = json!({ "type": "echo", "run_at": "2126-03-01T14:05:09Z", "depends_on": ["@a", ID] });
    let schedule = json!({ "name": "s", "cron": "0 0 1 1 *", "time_zone": "Europe/Berlin", "type": "echo", "args": {}, "misfire": "skip" });
    let token = json!({ "name": "t", "scopes": ["jobs:read"], "kinds": ["echo"], "days": 30 });
    let user = json!({ "email": "a@example.org", "role": "viewer", "kinds": [] });
    BTreeMap::from([
        ("/api/jobs", vec![job.clone(), keyed.clone(), later.clone()]),
        ("/api/jobs/bulk", vec![json!([job, later]), json!([])]),
        ("/api/jobs/{id}/cancel", vec![json!({}), json!({ "reason": "r" })]),
        (
            "/api/jobs/{id}/retry",
            vec![json!({}), json!({ "args": {}, "delay": 5 })],
        ),
        ("/api/jobs/{id}/run-again", vec![json!({}), json!({ "args": {} })]),
        (
            "/api/events/export",
            vec![json!({ "format": "csv", "from": "2026-03-01T14:05:09Z", "reviewed": true })],
        ),
        ("/api/schedules", vec![schedule.clone()]),
        ("/api/schedules/{id}", vec![schedule]),
        ("/api/queues/{name}/pause", vec![json!({})]),
        (
            "/api/me/password",
            vec![json!({ "current": "a", "new": "long enough" })],
        ),
        ("/api/me/tokens", vec![token.clone()]),
        ("/api/tokens", vec![token]),
        ("/api/users", vec![user]),
        (
            "/api/users/{id}",
            vec![json!({ "role": "viewer", "disabled": true, "kinds": ["echo"] })],
        ),
        (
            "/rpc/list_jobs",
            vec![json!({ "filter": { "status": ["failed"], "q": "a" }, "page": { "limit": 5 } })],
        ),
        ("/rpc/job_detail", vec![json!({ "id": ID })]),
        ("/rpc/enqueue", vec![json!({ "job": keyed })]),
        ("/rpc/act", vec![json!({ "id": ID, "action": "cancel", "options": {} })]),
        ("/rpc/link", vec![json!({ "key": "00ff" })]),
        ("/rpc/audit", vec![json!({ "filter": {} })]),
    ])
}

/// One of several ways for a case to go: the same one each time.
fn way(case: &[u8], ways: usize) -> usize {
    case.iter().fold(7usize, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(usize::from(*byte))
    }) % ways
}

fn real(path: &str) -> String {
    path.replace("{id}", ID)
        .replace("{name}", "default")
        .replace("{key}", "none")
}

/// What an answer must be like, whatever was asked: no fault of the server's, and a refusal with words.
async fn judge(what: &str, answer: Response) {
    let status = answer.status().as_u16();
    let path = answer.url().path().to_string();
    let media = answer
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default()
        .to_string();
    let text = answer.text().await.expect("text");
    // More lines than a head may have are refused before there is a request to answer.
    if status == 431 && text.is_empty() {
        return;
    }
    assert!(status < 500, "{what}: {status} {text}");
    if path.starts_with("/api/") && status >= 400 {
        assert_eq!(media, "application/problem+json", "{what}: {status} {text}");
        let problem: Problem = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{what}: {e}: {text}"));
        assert_eq!(problem.status, status, "{what}: {text}");
        assert!(
            !problem.detail.is_empty() && problem.detail.len() < 20_000,
            "{what}: {text}"
        );
    }
}

#[tokio::test]
async fn fuzz_bodies() {
    let s = server().await;
    // What is tried would sign the admin out, or make a token's holder of them.
    let bodies = bodies();
    let routes: Vec<(Method, &str)> = DOORS
        .iter()
        .filter(|(method, path, _)| matches!(*method, "POST" | "PUT" | "PATCH") && bodies.contains_key(path))
        .map(|(method, path, _)| (method.parse().expect("method"), *path))
        .collect();
    assert!(routes.len() >= bodies.len(), "{} routes", routes.len());
    let seeds: Vec<String> = routes
        .iter()
        .flat_map(|(_, path)| &bodies[path])
        .map(ToString::to_string)
        .collect();
    for case in Fuzz::new("bodies", &seeds, WORDS) {
        let (method, path) = &routes[way(&case, routes.len())];
        let media = match way(&case, 8 * routes.len()) / routes.len() {
            0 => "text/plain",
            1 => "application/x-ndjson",
            _ => "application/json",
        };
        let request = s
            .ask(method.clone(), &real(path))
            .header(CONTENT_TYPE, media)
            .body(case);
        judge(
            &format!("{method} {path} as {media}"),
            request.send().await.expect("answer"),
        )
        .await;
    }
    s.stop().await;
}

#[tokio::test]
async fn fuzz_workers() {
    let s = server().await;
    let client = token_of(&s, &s.client, "/api/tokens", &["worker"], &[]).await;
    let said = said();
    // One kind for the jobs that it holds, which no case declares anew.
    let kinds = ["fuzz.a", "fuzz.own"]
        .map(|name| json!({ "name": name, "args_schema": { "type": "object" }, "checkpoints": true }));
    let new = json!({ "name": "w", "slots": 10_000, "kinds": kinds });
    let (status, begun) = send(&s, &client, "/api/workers", new).await;
    assert_eq!(status, 201, "{begun}");
    let worker = begun["id"].as_str().expect("id").to_string();
    let mut job = (String::new(), 0);
    let seeds: Vec<String> = said.iter().map(|(_, body)| body.to_string()).collect();
    for case in Fuzz::new("workers", &seeds, SAID) {
        // What it says is about a job that it holds: as soon as one has ended, or was given away, there is another.
        let path = said[way(&case, said.len())].0.replace("{id}", &job.0);
        let path = match path.as_str() {
            "" => "/api/workers".to_string(),
            _ => format!("/api/workers/{worker}{path}"),
        };
        let epoch = format!("\"epoch\":{}", job.1);
        let case = String::from_utf8_lossy(&case).replace("\"epoch\":1", &epoch);
        let request = client.post(format!("{}{path}", s.base));
        let request = request.header(CONTENT_TYPE, "application/json").body(case);
        judge(&path, request.send().await.expect("answer")).await;
        if job.0.is_empty() || s.job(&job.0).await["status"] != "running" {
            s.enqueue("fuzz.own", json!({})).await;
            let url = format!("/api/workers/{worker}/fetch");
            let (status, fetched) = send(&s, &client, &url, json!({ "wait": 20, "max": 1 })).await;
            assert_eq!(status, 200, "{fetched}");
            let given = &fetched["jobs"][0];
            job = (
                given["id"].as_str().unwrap_or_default().to_string(),
                given["epoch"].as_u64().unwrap_or_default(),
            );
        }
    }
    s.stop().await;
}

#[tokio::test]
async fn fuzz_queries() {
    let s = server().await;
    s.enqueue("echo", json!({ "value": "x" })).await;
    let paths = [
        "/api/jobs",
        "/api/jobs/stats",
        "/api/jobs/stats/series",
        "/api/batches",
        "/api/errors",
        "/api/schedules",
        "/api/admin/audit-logs",
        "/jobs",
        "/api/queues",
        "/api/jobs/types",
    ];
    let page = s.get("/api/jobs?limit=1&sort=job_type&order=asc").await;
    let cursor = page["next_cursor"].as_str().unwrap_or("7b7d").to_string();
    let seeds = [
        "q=a&status=failed&type=export&limit=10&offset=5".to_string(),
        format!("sort=job_type&order=asc&cursor={cursor}"),
        format!(
            "cursor=7b22736f7274223a22637265617465645f6174222c226f72646572223a2264657363222c2276616c7565223a352c22736571223a377d&parent={ID}"
        ),
        "from=2026-03-01T14:05:09Z&until=2026-03-02T14:05:09Z&step=3600&created_after=2026-03-01T14:05:09Z".into(),
        "action=job.enqueue&actor=admin@example.org&after=5&limit=2".into(),
    ];
    let words = [
        "limit=",
        "offset=",
        "cursor=",
        "7b",
        "7d",
        "sort=status",
        "q=%25",
        "q=_",
        "&step=1",
        "page=",
        "type=",
        "%00",
        "q=%00",
    ];
    for case in Fuzz::new("queries over HTTP", &seeds, &words) {
        let path = paths[way(&case, paths.len())];
        let query: String = case.iter().flat_map(|b| escaped(*b)).collect();
        let answer = s
            .ask(Method::GET, &format!("{path}?{query}"))
            .send()
            .await
            .expect("answer");
        judge(&format!("{path}?{query}"), answer).await;
    }
    s.stop().await;
}

/// A byte as it can stand in an address.
fn escaped(byte: u8) -> Vec<char> {
    match byte {
        b'#' | b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0..=0x20 | 0x7f..=0xff => {
            format!("%{byte:02X}").chars().collect()
        }
        plain => vec![plain as char],
    }
}

#[tokio::test]
async fn fuzz_paths() {
    let s = server().await;
    let id = s.enqueue("echo", json!({})).await;
    let seeds = [
        format!("/api/jobs/{id}"),
        format!("/api/jobs/{id}/artifacts/a.csv"),
        format!("/api/jobs/{id}/logs"),
        "/api/batches/x/../y".into(),
        "/api/queues/default".into(),
        "/pkg/windlass.js".into(),
        format!("/jobs/{id}"),
        "/welcome/00ff".into(),
    ];
    for case in Fuzz::new(
        "paths",
        &seeds,
        &[
            "/", "//", "/..", "/%2e%2e", "%2f", "%00", "%ff", "/api", "/rpc", "?", "*", "{id}",
        ],
    ) {
        let path: String = case.iter().flat_map(|b| escaped(*b)).collect();
        let path = format!("/{}", path.trim_start_matches('/'));
        let answer = s.ask(Method::GET, &path).send().await.expect("answer");
        assert!(answer.status().as_u16() < 500, "{path}: {}", answer.status());
    }
    s.stop().await;
}

#[tokio::test]
async fn fuzz_headers() {
    let s = server().await;
    let token = s.token(&[Scope::JobsRead]).await;
    let viewer = s.user("viewer@example.org", Role::Viewer).await;
    let callers: [&Client; 4] = [&s.client, &token, &viewer, &s.nobody()];
    let seeds = [
        "cookie: windlass=abc; theme=dark\naccept: text/html",
        "authorization: Bearer windlass_00\naccept: application/json",
        "last-event-id: 0badcafe-12\naccept: text/event-stream",
        "x-forwarded-for: 203.0.113.9, ::1\nforwarded: for=203.0.113.9;host=evil.example\nx-forwarded-host: evil.example",
        "origin: http://localhost\nsec-fetch-site: same-origin\nsec-fetch-mode: cors",
        "idempotency-key: k\ncontent-type: application/json",
        "range: bytes=0-10, 5-, -1\nif-none-match: \"x\", W/\"y\"\nif-modified-since: Sun, 06 Nov 1994 08:49:37 GMT",
        "accept-encoding: gzip;q=0.5, br;q=0, *\naccept-language: de, en;q=0.5",
        "upgrade: websocket\nsec-websocket-key: AA==\nsec-websocket-version: 13",
    ];
    let words = [
        "cookie:",
        "authorization:",
        "last-event-id:",
        "origin:",
        "range:",
        "\n",
        ";",
        "bytes=",
        "Bearer ",
        "windlass=",
        "q=",
        "W/",
        "-",
    ];
    let paths = [
        "/api/jobs",
        "/api/jobs/events",
        "/jobs",
        "/api/me",
        "/sign-in",
        "/api/jobs/types",
    ];
    for case in Fuzz::new("headers over HTTP", &seeds, &words) {
        let by = callers[way(&case, callers.len() * paths.len()) / paths.len()];
        let mut request = by.get(format!("{}{}", s.base, paths[way(&case, paths.len())]));
        for line in case.split(|b| *b == b'\n') {
            let Some(colon) = line.iter().position(|b| *b == b':') else {
                continue;
            };
            let name = HeaderName::from_bytes(line[..colon].trim_ascii());
            let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
            let (Ok(name), Ok(value)) = (name, value) else { continue };
            // These say how the request itself is sent.
            if [
                "content-length",
                "transfer-encoding",
                "connection",
                "expect",
                "te",
                "trailer",
                "upgrade",
                "host",
            ]
            .contains(&name.as_str())
            {
                continue;
            }
            request = request.header(name, value);
        }
        let answer = request.send().await.expect("answer");
        let stream = answer
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|v| v == "text/event-stream");
        // A stream has no end to wait for.
        match stream {
            true => assert!(answer.status().is_success()),
            false => judge("headers", answer).await,
        }
    }
    s.stop().await;
}

#[tokio::test]
async fn fuzz_forms() {
    let s = server().await;
    let seeds = [
        "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.csv\"\r\nContent-Type: text/csv\r\n\r\nid\n\r\n--x--\r\n",
        "--x\r\nContent-Disposition: form-data; name=\"format\"\r\n\r\ncsv\r\n--x\r\nContent-Disposition: form-data; name=\"file\"; filename*=UTF-8''a\r\n\r\nid\n\r\n--x--\r\n",
    ];
    let words = [
        "--x",
        "--x--",
        "\r\n",
        "\r\n\r\n",
        "name=",
        "filename=",
        "\"",
        ";",
        "Content-Disposition:",
        "form-data",
        "--y",
    ];
    for case in Fuzz::new("forms", &seeds, &words) {
        let request = s
            .ask(Method::POST, "/api/events/import")
            .header(CONTENT_TYPE, "multipart/form-data; boundary=x");
        judge("a form", request.body(case).send().await.expect("answer")).await;
    }
    let left = std::fs::read_dir(s.dir.path().join("tmp")).expect("folder").count();
    assert_eq!(left, 0, "nothing half written is left");
    s.stop().await;
}

#[tokio::test]
async fn fuzz_sign_in() {
    let s = server().await;
    let nobody = s.nobody();
    let seeds = [
        "email=a%40example.org&password=x&next=%2Fjobs".to_string(),
        format!("key={}&password=long+enough&email=", unique().replace('-', "")),
    ];
    for case in Fuzz::new(
        "sign-in",
        &seeds,
        &[
            "email=",
            "password=",
            "next=",
            "key=",
            "%00",
            "&",
            "//evil.example",
            "%0d%0a",
        ],
    ) {
        let path = ["/session", "/welcome"][way(&case, 2)];
        let request = nobody
            .post(format!("{}{path}", s.base))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let answer = request.body(case).send().await.expect("answer");
        assert!(answer.status().as_u16() < 500, "{path}: {}", answer.status());
        if let Some(to) = answer.headers().get("location") {
            let to = to.to_str().expect("text");
            assert!(to.starts_with('/') && !to.starts_with("//"), "led to {to}");
        }
    }
    s.stop().await;
}
