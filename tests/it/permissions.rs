//! Who may do what, at every door: each route of the router, for each role, for objects of one's own, of others, and for ones
//! that are not there, compared with the table that is written here.

use std::collections::BTreeSet;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use windlass::domain::user::{Role, Scope};
use windlass::server::http::{self, DOORS};

use crate::harness::{Server, unique};

/// Who asks, in the order of the letters below.
const WHO: [&str; 8] = [
    "nobody", "viewer", "member", "manager", "admin", "reader", "writer", "worker",
];

/// For each route a letter for each of [`WHO`], of what is answered about a job of another member's (or where there is no such
/// thing as an owner), and of one's own for the member in the second column.
/// `.` served; `u` sign in first (401); `s` led to the sign-in (303); `f` not allowed (403); `h` as if it were not there (404).
const TABLE: &[(&str, &str, &str, char)] = &[
    ("GET", "/", "s.....ff", '.'),
    ("GET", "/jobs", "s.....ff", '.'),
    ("GET", "/jobs/{id}", "s.h...ff", '.'),
    ("GET", "/admin/jobs", "s.....ff", '.'),
    ("GET", "/admin/jobs/{id}", "s.h...ff", '.'),
    ("GET", "/sign-in", "........", '.'),
    ("GET", "/welcome/{key}", "........", '.'),
    // Without a provider there is nothing behind them; with one, tests/it/oidc.rs walks through.
    ("GET", "/session/oidc", "hhhhhhhh", 'h'),
    ("GET", "/session/oidc/callback", "hhhhhhhh", 'h'),
    ("GET", "/account", "s....fff", '.'),
    ("GET", "/users", "sfff.fff", 'f'),
    ("GET", "/settings", "sfff.fff", 'f'),
    ("GET", "/audit-log", "sff..fff", 'f'),
    ("GET", "/admin/audit-logs", "sff..fff", 'f'),
    ("GET", "/healthz", "........", '.'),
    ("GET", "/readyz", "........", '.'),
    ("GET", "/metrics", "u.f...ff", 'f'),
    ("GET", "/api/openapi.json", "u.......", '.'),
    ("GET", "/api/docs", "u.......", '.'),
    ("GET", "/api/jobs", "u.....ff", '.'),
    ("POST", "/api/jobs", "uf...f.f", '.'),
    ("POST", "/api/jobs/bulk", "uf...f.f", '.'),
    ("POST", "/api/jobs/bulk-retry", "uf...f.f", '.'),
    ("POST", "/api/jobs/bulk-cancel", "uf...f.f", '.'),
    ("POST", "/api/jobs/bulk-delete", "uf.f.fff", '.'),
    ("GET", "/api/jobs/search", "u.....ff", '.'),
    ("GET", "/api/jobs/types", "u.......", '.'),
    ("GET", "/api/jobs/stats", "u.....ff", '.'),
    ("GET", "/api/jobs/stats/series", "u.f...ff", 'f'),
    ("GET", "/api/jobs/events", "u.....ff", '.'),
    ("GET", "/api/jobs/{id}", "u.h...ff", '.'),
    ("DELETE", "/api/jobs/{id}", "ufh..fhh", '.'),
    ("GET", "/api/jobs/{id}/detail", "u.h...ff", '.'),
    ("GET", "/api/jobs/{id}/history", "u.h...ff", '.'),
    ("GET", "/api/jobs/{id}/logs", "u.h...ff", '.'),
    ("GET", "/api/jobs/{id}/logs/ws", "u.h...ff", '.'),
    ("POST", "/api/jobs/{id}/cancel", "ufh..fhh", '.'),
    ("POST", "/api/jobs/{id}/abort", "ufh..fhh", '.'),
    ("POST", "/api/jobs/{id}/retry", "ufh..fhh", '.'),
    ("POST", "/api/jobs/{id}/pause", "ufh..fhh", '.'),
    ("POST", "/api/jobs/{id}/resume", "ufh..fhh", '.'),
    ("POST", "/api/jobs/{id}/run-now", "ufh..fhh", '.'),
    ("POST", "/api/jobs/{id}/run-again", "ufh..fhh", '.'),
    ("POST", "/api/events/export", "uf...f.f", '.'),
    ("POST", "/api/events/import", "uf...f.f", '.'),
    ("GET", "/api/schedules", "u.f...ff", 'f'),
    ("POST", "/api/schedules", "uff..f.f", 'f'),
    ("POST", "/api/queues/{name}/pause", "uff..f.f", 'f'),
    ("POST", "/api/queues/{name}/resume", "uff..f.f", 'f'),
    ("POST", "/api/workers", "uffffff.", 'f'),
    ("GET", "/api/batches", "u.....ff", '.'),
    ("GET", "/api/queues", "u.f...ff", 'f'),
    ("GET", "/api/errors", "u.f...ff", 'f'),
    ("GET", "/api/me", "u.......", '.'),
    ("POST", "/api/me/password", "u....fff", '.'),
    ("GET", "/api/me/sessions", "u....fff", '.'),
    ("GET", "/api/me/tokens", "u....fff", '.'),
    ("POST", "/api/me/tokens", "u....fff", '.'),
    ("GET", "/api/users", "ufff.fff", 'f'),
    ("POST", "/api/users", "ufff.fff", 'f'),
    ("GET", "/api/users/links", "ufff.fff", 'f'),
    ("GET", "/api/tokens", "ufff.fff", 'f'),
    ("POST", "/api/tokens", "ufff.fff", 'f'),
    ("GET", "/api/admin/jobs/health", "u.......", '.'),
    ("GET", "/api/settings", "ufff.fff", 'f'),
    ("GET", "/api/admin/audit-logs", "uff..fff", 'f'),
    ("GET", "/api/admin/audit-logs/head", "uff..fff", 'f'),
    ("GET", "/api/admin/audit-logs/export", "uff..fff", 'f'),
];

/// Routes whose objects are not made here: for those who get through the door the object is not there; the letters say who does.
const ABSENT: &[(&str, &str, &str)] = &[
    ("GET", "/api/jobs/{id}/artifacts/{name}", "uhhhhhff"),
    ("GET", "/api/schedules/{id}", "uhfhhhff"),
    ("PUT", "/api/schedules/{id}", "uffhhfhf"),
    ("DELETE", "/api/schedules/{id}", "ufffhfff"),
    ("POST", "/api/schedules/{id}/pause", "uffhhfhf"),
    ("POST", "/api/schedules/{id}/resume", "uffhhfhf"),
    ("POST", "/api/schedules/{id}/run-now", "uffhhfhf"),
    ("GET", "/api/batches/{id}", "uhhhhhff"),
    ("POST", "/api/batches/{id}/cancel", "uhhhhhhh"),
    ("DELETE", "/api/jobs/types/{kind}", "ufffhffh"),
    ("DELETE", "/api/workers/{worker}", "uffffffh"),
    ("POST", "/api/workers/{worker}/fetch", "uffffffh"),
    ("POST", "/api/workers/{worker}/heartbeat", "uffffffh"),
    ("POST", "/api/workers/{worker}/jobs/{id}/progress", "uffffffh"),
    ("POST", "/api/workers/{worker}/jobs/{id}/logs", "uffffffh"),
    ("POST", "/api/workers/{worker}/jobs/{id}/checkpoint", "uffffffh"),
    ("POST", "/api/workers/{worker}/jobs/{id}/complete", "uffffffh"),
    ("POST", "/api/workers/{worker}/jobs/{id}/fail", "uffffffh"),
    ("POST", "/api/workers/{worker}/jobs/{id}/release", "uffffffh"),
    ("DELETE", "/api/me/sessions/{id}", "uhhhhfff"),
    ("DELETE", "/api/users/links/{id}", "ufffhfff"),
    ("PATCH", "/api/users/{id}", "ufffhfff"),
    ("POST", "/api/users/{id}/reset", "ufffhfff"),
    ("DELETE", "/api/users/{id}/sessions", "ufffhfff"),
    ("DELETE", "/api/tokens/{id}", "uhhhhfff"),
];

/// Doors that the walk does not try: signing in and out is tested by itself, and a call that ends the caller's own sessions
/// would end the walk.
const ELSEWHERE: [(&str, &str); 4] = [
    ("POST", "/session"),
    ("POST", "/session/end"),
    ("POST", "/welcome"),
    ("DELETE", "/api/me/sessions"),
];

fn letter(status: StatusCode) -> char {
    match status.as_u16() {
        401 => 'u',
        303 => 's',
        403 => 'f',
        404 => 'h',
        500..=599 => '!',
        _ => '.',
    }
}

struct Walk {
    server: Server,
    callers: Vec<Client>,
    member: Client,
    other: Client,
}

impl Walk {
    async fn start() -> Self {
        let server = Server::with(|c| c.member_max_jobs = 100).await;
        let mut callers = vec![server.nobody()];
        callers.push(server.user("viewer@example.org", Role::Viewer).await);
        let member = server.user("member@example.org", Role::Member).await;
        let other = server.user("other@example.org", Role::Member).await;
        callers.push(member.clone());
        callers.push(server.user("manager@example.org", Role::Manager).await);
        callers.push(server.client.clone());
        callers.push(server.token(&[Scope::JobsRead]).await);
        callers.push(server.token(&[Scope::JobsWrite]).await);
        callers.push(server.token(&[Scope::Worker]).await);
        Self {
            server,
            callers,
            member,
            other,
        }
    }

    /// A job of this person's that has ended.
    async fn job(&self, of: &Client) -> String {
        let url = format!("{}/api/jobs", self.server.base);
        let answer = of
            .post(url)
            .json(&json!({ "type": "echo", "delay": 3_600 }))
            .send()
            .await
            .expect("answer");
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        let job: Value = answer.json().await.expect("json");
        job["id"].as_str().expect("id").to_string()
    }

    async fn ask(&self, by: &Client, method: &str, path: &str) -> char {
        let method: Method = method.parse().expect("method");
        let mut request = by.request(method.clone(), format!("{}{path}", self.server.base));
        request = match path {
            "/api/jobs" if method == Method::POST => request.json(&json!({ "type": "echo" })),
            path if path.starts_with("/api/jobs/bulk-") => request.json(&json!({ "ids": [unique()] })),
            "/api/workers" => request.json(&json!({
                "name": "walk", "kinds": [{ "name": "a.b", "args_schema": { "type": "object" } }]
            })),
            path if path.starts_with("/api/workers/") && path.contains("/jobs/") => {
                let more = match path.rsplit('/').next() {
                    Some("progress" | "fail") => json!({ "message": "x" }),
                    Some("logs") => json!({ "lines": [{ "message": "x" }] }),
                    Some("checkpoint") => json!({ "checkpoint": 1 }),
                    _ => json!({}),
                };
                let mut body = json!({ "epoch": 1 });
                body.as_object_mut()
                    .expect("fields")
                    .extend(more.as_object().expect("fields").clone());
                request.json(&body)
            }
            "/api/jobs/bulk" => request.json(&json!([{ "type": "echo" }])),
            "/api/events/import" => {
                let part = reqwest::multipart::Part::bytes(b"id\n".as_slice()).file_name("events.csv");
                request.multipart(reqwest::multipart::Form::new().part("file", part))
            }
            path if path.starts_with("/api/schedules") && matches!(method, Method::POST | Method::PUT) => {
                request.json(&json!({ "name": unique(), "cron": "0 0 1 1 *", "time_zone": "UTC", "type": "echo" }))
            }
            "/api/users" if method == Method::POST => {
                request.json(&json!({ "email": format!("{}@example.org", unique()), "role": "viewer" }))
            }
            "/api/tokens" | "/api/me/tokens" if method == Method::POST => {
                request.json(&json!({ "name": "walk", "scopes": ["jobs:read"] }))
            }
            "/api/me/password" => request.json(&json!({ "current": "not this one", "new": "long enough" })),
            path if path.ends_with("/import") || method == Method::GET || method == Method::DELETE => request,
            _ => request.json(&json!({})),
        };
        letter(request.send().await.expect("answer").status())
    }
}

#[tokio::test]
async fn every_door_lets_in_whom_the_table_says() {
    let walk = Walk::start().await;
    let mut wrong: Vec<String> = Vec::new();
    let mut tried = 0;
    for (method, path, letters, own) in TABLE {
        let letters: Vec<char> = letters.chars().collect();
        assert_eq!(letters.len(), WHO.len(), "{path}");
        for (i, by) in walk.callers.iter().enumerate() {
            let mut cases = vec![("another's", letters[i], &walk.other)];
            if WHO[i] == "member" {
                cases.push(("own", *own, &walk.member));
            }
            for (whose, expected, of) in cases {
                // Each case has a job of its own: some of them change it.
                let id = if path.contains("/jobs/{id}") {
                    walk.job(of).await
                } else {
                    unique()
                };
                let real = path
                    .replace("{id}", &id)
                    .replace("{name}", "default")
                    .replace("{key}", "none");
                let seen = walk.ask(by, method, &real).await;
                tried += 1;
                if seen != expected {
                    wrong.push(format!(
                        "{method} {path} as {} on {whose}: {seen}, not {expected}",
                        WHO[i]
                    ));
                }
                if path.contains("/jobs/{id}") {
                    // One that is not there answers those who get through the door as another's does a member.
                    let absent = walk.ask(by, method, &real.replace(&id, &unique())).await;
                    tried += 1;
                    if !matches!(
                        (expected, absent),
                        ('.' | 'h', 'h') | ('f', 'h' | 'f') | ('u', 'u') | ('s', 's')
                    ) {
                        wrong.push(format!(
                            "{method} {path} as {} on none: {absent} beside {expected}",
                            WHO[i]
                        ));
                    }
                }
            }
        }
    }
    for (method, path, letters) in ABSENT {
        for (i, expected) in letters.chars().enumerate() {
            let real = path
                .replace("{id}", &unique())
                .replace("{name}", "a.csv")
                .replace("{worker}", "nobody:1")
                .replace("{kind}", "nobodys.kind");
            let seen = walk.ask(&walk.callers[i], method, &real).await;
            tried += 1;
            if seen != expected {
                wrong.push(format!("{method} {path} as {} on none: {seen}, not {expected}", WHO[i]));
            }
        }
    }
    println!("{} routes, {tried} cases", TABLE.len() + ABSENT.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    walk.server.stop().await;
}

#[test]
fn no_route_is_missing_from_the_tables() {
    let known: BTreeSet<(String, String)> = TABLE
        .iter()
        .map(|(m, p, ..)| (m.to_string(), p.to_string()))
        .chain(ABSENT.iter().map(|(m, p, _)| (m.to_string(), p.to_string())))
        .chain(ELSEWHERE.iter().map(|(m, p)| (m.to_string(), p.to_string())))
        .collect();
    // What the API's document describes, which is made from the router.
    let document = serde_json::to_value(http::openapi()).expect("document");
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            let route = (method.to_uppercase(), path.clone());
            assert!(known.contains(&route), "{route:?} is in no table of permissions");
        }
    }
    // What the router lets through at all; everything else is closed.
    for (method, path, _) in DOORS.iter().filter(|(_, path, _)| !path.starts_with("/rpc/")) {
        let route = (method.to_string(), path.to_string());
        assert!(known.contains(&route), "{route:?} is in no table of permissions");
    }
}

#[tokio::test]
async fn server_functions_ask_the_same_permissions() {
    let walk = Walk::start().await;
    let mut wrong = Vec::new();
    let id = walk.job(&walk.other).await;
    // By name: its arguments, and a letter for each of WHO.
    let table = [
        ("list_jobs", json!({ "filter": {}, "page": {} }), "u.....ff"),
        ("job_detail", json!({ "id": id }), "u.h...ff"),
        ("overview", json!({}), "u.....ff"),
        ("kinds", json!({}), "u......."),
        ("kind_names", json!({}), "u......."),
        ("enqueue", json!({ "job": { "type": "echo", "args": {} } }), "uf...f.f"),
        (
            "act",
            json!({ "id": id, "action": "cancel", "options": {} }),
            "ufh..fhh",
        ),
        (
            "act_on_many",
            json!({ "action": "cancel", "wish": { "ids": [id] } }),
            "uf...f.f",
        ),
        ("matched", json!({ "action": "cancel", "filter": {} }), "uf...fff"),
        ("batch", json!({ "id": unique() }), "uhhhhhff"),
        ("cancel_batch", json!({ "id": unique() }), "uhhhhhhh"),
        ("me", json!({}), "u......."),
        ("link", json!({ "key": "none" }), "........"),
        ("sign_in_with", json!({}), "........"),
        ("my_sessions", json!({}), "u....fff"),
        ("my_tokens", json!({}), "u....fff"),
        (
            "make_my_token",
            json!({ "new": { "name": "walk", "scopes": ["jobs:read"] } }),
            "u....fff",
        ),
        ("revoke_token", json!({ "id": unique() }), "uhhhhfff"),
        ("end_my_sessions", json!({ "one": unique() }), "uhhhhfff"),
        (
            "change_password",
            json!({ "change": { "current": "no", "new": "long enough" } }),
            "u....fff",
        ),
        ("users", json!({}), "ufff.fff"),
        (
            "invite",
            json!({ "new": { "email": "x", "role": "viewer" } }),
            "ufff.fff",
        ),
        ("change_user", json!({ "id": unique(), "change": {} }), "ufffhfff"),
        ("reset_password", json!({ "id": unique() }), "ufffhfff"),
        ("links", json!({}), "ufff.fff"),
        ("revoke_link", json!({ "id": "none" }), "ufffhfff"),
        ("settings", json!({}), "ufff.fff"),
        ("audit", json!({ "filter": {} }), "uff..fff"),
        ("audit_actions", json!({}), "uff..fff"),
    ];
    let named: BTreeSet<&str> = table.iter().map(|(name, ..)| *name).collect();
    for (_, path, _) in DOORS.iter().filter(|(_, path, _)| path.starts_with("/rpc/")) {
        assert!(named.contains(&path[5..]), "{path} is in no table of permissions");
    }
    for (name, body, letters) in &table {
        for (i, expected) in letters.chars().enumerate() {
            let url = format!("{}/rpc/{name}", walk.server.base);
            let answer = walk.callers[i].post(url).json(body).send().await.expect("answer");
            let seen = letter(answer.status());
            if seen != expected {
                wrong.push(format!("{name} as {}: {seen}, not {expected}", WHO[i]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    walk.server.stop().await;
}
