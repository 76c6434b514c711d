//! Who may do what, at every door: each route of the router, for each role, for objects of one's own, of others, and for ones
//! that are not there, compared with the table that is written here.

use std::collections::BTreeSet;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use windlass::domain::user::{Role, Scope};
use windlass::server::http::{self, DOORS};

use crate::harness::{Server, unique};

/// Who asks, in the order of the letters below.
const WHO: [&str; 7] = ["nobody", "viewer", "member", "manager", "admin", "reader", "writer"];

/// For each route a letter for each of [`WHO`], of what is answered about a job of another member's (or where there is no such
/// thing as an owner), and of one's own for the member in the second column.
/// `.` served; `u` sign in first (401); `s` led to the sign-in (303); `f` not allowed (403); `h` as if it were not there (404).
const TABLE: &[(&str, &str, &str, char)] = &[
    ("GET", "/", "s.....f", '.'),
    ("GET", "/jobs", "s.....f", '.'),
    ("GET", "/jobs/{id}", "s.h...f", '.'),
    ("GET", "/admin/jobs", "s.....f", '.'),
    ("GET", "/admin/jobs/{id}", "s.h...f", '.'),
    ("GET", "/sign-in", ".......", '.'),
    ("GET", "/welcome/{key}", ".......", '.'),
    // Without a provider there is nothing behind them; with one, tests/it/oidc.rs walks through.
    ("GET", "/session/oidc", "hhhhhhh", 'h'),
    ("GET", "/session/oidc/callback", "hhhhhhh", 'h'),
    ("GET", "/account", "s....ff", '.'),
    ("GET", "/users", "sfff.ff", 'f'),
    ("GET", "/settings", "sfff.ff", 'f'),
    ("GET", "/audit-log", "sff..ff", 'f'),
    ("GET", "/admin/audit-logs", "sff..ff", 'f'),
    ("GET", "/healthz", ".......", '.'),
    ("GET", "/readyz", ".......", '.'),
    ("GET", "/metrics", "u.f...f", 'f'),
    ("GET", "/api/openapi.json", "u......", '.'),
    ("GET", "/api/docs", "u......", '.'),
    ("GET", "/api/jobs", "u.....f", '.'),
    ("POST", "/api/jobs", "uf...f.", '.'),
    ("POST", "/api/jobs/bulk", "uf...f.", '.'),
    ("POST", "/api/jobs/bulk-retry", "uf...f.", '.'),
    ("POST", "/api/jobs/bulk-cancel", "uf...f.", '.'),
    ("POST", "/api/jobs/bulk-delete", "uf.f.ff", '.'),
    ("GET", "/api/jobs/search", "u.....f", '.'),
    ("GET", "/api/jobs/types", "u......", '.'),
    ("GET", "/api/jobs/stats", "u.....f", '.'),
    ("GET", "/api/jobs/stats/series", "u.f...f", 'f'),
    ("GET", "/api/jobs/events", "u.....f", '.'),
    ("GET", "/api/jobs/{id}", "u.h...f", '.'),
    ("DELETE", "/api/jobs/{id}", "ufh..fh", '.'),
    ("GET", "/api/jobs/{id}/detail", "u.h...f", '.'),
    ("GET", "/api/jobs/{id}/history", "u.h...f", '.'),
    ("GET", "/api/jobs/{id}/logs", "u.h...f", '.'),
    ("GET", "/api/jobs/{id}/logs/ws", "u.h...f", '.'),
    ("POST", "/api/jobs/{id}/cancel", "ufh..fh", '.'),
    ("POST", "/api/jobs/{id}/abort", "ufh..fh", '.'),
    ("POST", "/api/jobs/{id}/retry", "ufh..fh", '.'),
    ("POST", "/api/jobs/{id}/pause", "ufh..fh", '.'),
    ("POST", "/api/jobs/{id}/resume", "ufh..fh", '.'),
    ("POST", "/api/jobs/{id}/run-now", "ufh..fh", '.'),
    ("POST", "/api/jobs/{id}/run-again", "ufh..fh", '.'),
    ("POST", "/api/events/export", "uf...f.", '.'),
    ("POST", "/api/events/import", "uf...f.", '.'),
    ("GET", "/api/schedules", "u.f...f", 'f'),
    ("POST", "/api/schedules", "uff..f.", 'f'),
    ("POST", "/api/queues/{name}/pause", "uff..f.", 'f'),
    ("POST", "/api/queues/{name}/resume", "uff..f.", 'f'),
    ("GET", "/api/batches", "u.....f", '.'),
    ("GET", "/api/queues", "u.f...f", 'f'),
    ("GET", "/api/errors", "u.f...f", 'f'),
    ("GET", "/api/me", "u......", '.'),
    ("POST", "/api/me/password", "u....ff", '.'),
    ("GET", "/api/me/sessions", "u....ff", '.'),
    ("GET", "/api/me/tokens", "u....ff", '.'),
    ("POST", "/api/me/tokens", "u....ff", '.'),
    ("GET", "/api/users", "ufff.ff", 'f'),
    ("POST", "/api/users", "ufff.ff", 'f'),
    ("GET", "/api/users/links", "ufff.ff", 'f'),
    ("GET", "/api/tokens", "ufff.ff", 'f'),
    ("POST", "/api/tokens", "ufff.ff", 'f'),
    ("GET", "/api/admin/jobs/health", "u......", '.'),
    ("GET", "/api/settings", "ufff.ff", 'f'),
    ("GET", "/api/admin/audit-logs", "uff..ff", 'f'),
    ("GET", "/api/admin/audit-logs/head", "uff..ff", 'f'),
    ("GET", "/api/admin/audit-logs/export", "uff..ff", 'f'),
];

/// Routes whose objects are not made here: for those who get through the door the object is not there; the letters say who does.
const ABSENT: &[(&str, &str, &str)] = &[
    ("GET", "/api/jobs/{id}/artifacts/{name}", "uhhhhhf"),
    ("GET", "/api/schedules/{id}", "uhfhhhf"),
    ("PUT", "/api/schedules/{id}", "uffhhfh"),
    ("DELETE", "/api/schedules/{id}", "ufffhff"),
    ("POST", "/api/schedules/{id}/pause", "uffhhfh"),
    ("POST", "/api/schedules/{id}/resume", "uffhhfh"),
    ("POST", "/api/schedules/{id}/run-now", "uffhhfh"),
    ("GET", "/api/batches/{id}", "uhhhhhf"),
    ("POST", "/api/batches/{id}/cancel", "uhhhhhh"),
    ("DELETE", "/api/me/sessions/{id}", "uhhhhff"),
    ("DELETE", "/api/users/links/{id}", "ufffhff"),
    ("PATCH", "/api/users/{id}", "ufffhff"),
    ("POST", "/api/users/{id}/reset", "ufffhff"),
    ("DELETE", "/api/users/{id}/sessions", "ufffhff"),
    ("DELETE", "/api/tokens/{id}", "uhhhhff"),
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
            let real = path.replace("{id}", &unique()).replace("{name}", "a.csv");
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
        ("list_jobs", json!({ "filter": {}, "page": {} }), "u.....f"),
        ("job_detail", json!({ "id": id }), "u.h...f"),
        ("overview", json!({}), "u.....f"),
        ("kinds", json!({}), "u......"),
        ("kind_names", json!({}), "u......"),
        ("enqueue", json!({ "job": { "type": "echo", "args": {} } }), "uf...f."),
        ("act", json!({ "id": id, "action": "cancel", "options": {} }), "ufh..fh"),
        (
            "act_on_many",
            json!({ "action": "cancel", "wish": { "ids": [id] } }),
            "uf...f.",
        ),
        ("matched", json!({ "action": "cancel", "filter": {} }), "uf...ff"),
        ("batch", json!({ "id": unique() }), "uhhhhhf"),
        ("cancel_batch", json!({ "id": unique() }), "uhhhhhh"),
        ("me", json!({}), "u......"),
        ("link", json!({ "key": "none" }), "......."),
        ("sign_in_with", json!({}), "......."),
        ("my_sessions", json!({}), "u....ff"),
        ("my_tokens", json!({}), "u....ff"),
        (
            "make_my_token",
            json!({ "new": { "name": "walk", "scopes": ["jobs:read"] } }),
            "u....ff",
        ),
        ("revoke_token", json!({ "id": unique() }), "uhhhhff"),
        ("end_my_sessions", json!({ "one": unique() }), "uhhhhff"),
        (
            "change_password",
            json!({ "change": { "current": "no", "new": "long enough" } }),
            "u....ff",
        ),
        ("users", json!({}), "ufff.ff"),
        (
            "invite",
            json!({ "new": { "email": "x", "role": "viewer" } }),
            "ufff.ff",
        ),
        ("change_user", json!({ "id": unique(), "change": {} }), "ufffhff"),
        ("reset_password", json!({ "id": unique() }), "ufffhff"),
        ("links", json!({}), "ufff.ff"),
        ("revoke_link", json!({ "id": "none" }), "ufffhff"),
        ("settings", json!({}), "ufff.ff"),
        ("audit", json!({ "filter": {} }), "uff..ff"),
        ("audit_actions", json!({}), "uff..ff"),
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
