//! What keeps strangers, other sites and clients that dawdle from taking more than their share.

use std::time::Duration;

use futures::StreamExt;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, ORIGIN, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use windlass::domain::user::{Role, Scope};
use windlass::server::http::DOORS;

use crate::harness::{Server, read, unique, until};

async fn connect(s: &Server) -> TcpStream {
    let address = s.base.trim_start_matches("http://");
    TcpStream::connect(address).await.expect("a connection")
}

/// What a connection says until its end.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // A connection that is reset has said all that it will.
    let _ = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut text))
        .await
        .expect("the connection is closed");
    String::from_utf8_lossy(&text).into_owned()
}

/// Sends a byte now and then until the other end has had enough, and says what it said.
async fn drip(stream: TcpStream, bytes: impl Iterator<Item = u8>) -> String {
    let (mut from, mut to) = stream.into_split();
    let mut said = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let mut bytes = bytes;
    let all = async {
        let mut buffer = [0; 4_096];
        loop {
            tokio::select! {
                read = from.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(n) => said.extend_from_slice(&buffer[..n]),
                },
                _ = tick.tick() => {
                    // Once it is closed, reading says so.
                    let _ = to.write_all(&[bytes.next().expect("bytes without end")]).await;
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all)
        .await
        .expect("who drips is given up on");
    String::from_utf8_lossy(&said).into_owned()
}

fn header(headers: &HeaderMap, name: &str) -> String {
    headers
        .get(name)
        .map(|v| v.to_str().expect("text").to_string())
        .unwrap_or_default()
}

#[tokio::test]
async fn every_answer_tells_browsers_what_not_to_do() {
    let s = Server::start().await;
    let id = s.enqueue("echo", json!({})).await;
    let job = format!("/jobs/{id}");
    let cross = s
        .ask(Method::POST, "/api/jobs")
        .header(ORIGIN, "https://evil.example")
        .json(&json!({ "type": "echo" }));
    let unknown = s.nobody().get(format!("{}/api/jobs", s.base));
    let led_away = s.nobody().get(format!("{}/jobs", s.base));
    let mut answers: Vec<Response> = Vec::new();
    for request in [cross, unknown, led_away] {
        answers.push(request.send().await.expect("answer"));
    }
    for path in [
        "/jobs",
        &job,
        "/sign-in",
        "/account",
        "/api/jobs",
        "/api/docs",
        "/api/openapi.json",
        "/healthz",
        "/api/none",
        "/none",
    ] {
        answers.push(s.ask(Method::GET, path).send().await.expect("answer"));
    }
    for answer in answers {
        let (url, headers) = (answer.url().path().to_string(), answer.headers());
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(header(headers, name), value, "{name} of {url}");
        }
        assert!(header(headers, "permissions-policy").contains("camera=()"), "{url}");
        let policy = header(headers, "content-security-policy");
        for part in ["default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{url}: {policy}");
        }
        // Nobody is let in by CORS, and without TLS nothing is promised about it.
        for name in [
            "access-control-allow-origin",
            "access-control-allow-credentials",
            "strict-transport-security",
        ] {
            assert!(headers.get(name).is_none(), "{name} of {url}");
        }
    }
    s.stop().await;
    let s = Server::with(|c| c.public_url = "https://jobs.example.org".into()).await;
    let answer = s.ask(Method::GET, "/api/none").send().await.expect("answer");
    assert!(header(answer.headers(), "strict-transport-security").starts_with("max-age="));
    s.stop().await;
}

#[tokio::test]
async fn a_page_runs_the_scripts_that_it_marks_and_no_others() {
    let s = Server::start().await;
    let id = s.enqueue("echo", json!({})).await;
    let mut nonces = Vec::new();
    for path in [
        "/jobs".to_string(),
        format!("/jobs/{id}"),
        "/sign-in".into(),
        "/none".into(),
    ] {
        let answer = s.ask(Method::GET, &path).send().await.expect("answer");
        let policy = header(answer.headers(), "content-security-policy");
        let html = answer.text().await.expect("text");
        let scripts = policy
            .split(';')
            .map(str::trim)
            .find(|d| d.starts_with("script-src "))
            .expect("script-src");
        assert!(
            !policy.contains("unsafe-inline") && !policy.contains("'unsafe-eval'"),
            "{policy}"
        );
        // It would count for nothing, and the browser would complain.
        assert!(!html.contains(" style="), "{path}");
        let styles = policy
            .split(';')
            .map(str::trim)
            .find(|d| d.starts_with("style-src "))
            .expect("style-src");
        assert_eq!(styles, "style-src 'self'", "{path}");
        let nonce = scripts
            .split("'nonce-")
            .nth(1)
            .and_then(|n| n.split('\'').next())
            .expect("nonce")
            .to_string();
        let marked = format!("nonce=\"{nonce}\"");
        for tag in html.split("<script").skip(1) {
            let tag = tag.split('>').next().unwrap_or_default();
            assert!(tag.contains(&marked), "{path}: <script{tag}>");
        }
        assert!(html.contains("<script"), "{path} has scripts");
        assert!(!html.contains("<style"), "{path} has no styles of its own");
        for handler in [" onclick=", " onload=", " onerror=", " onsubmit=", "javascript:"] {
            assert!(!html.contains(handler), "{path}: {handler}");
        }
        nonces.push(nonce);
    }
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), 4, "each page has a mark of its own");
    let docs = s.ask(Method::GET, "/api/docs").send().await.expect("answer");
    assert!(header(docs.headers(), "content-security-policy").contains("style-src 'self'"));
    let docs = docs.text().await.expect("text");
    assert!(!docs.contains("<style") && !docs.contains("<script") && docs.contains("api-docs.css"));
    s.stop().await;
}

/// A real path for a route's.
fn real(path: &str) -> String {
    path.replace("{id}", &unique())
        .replace("{name}", "default")
        .replace("{key}", "none")
}

#[tokio::test]
async fn no_other_site_changes_anything_through_a_browser_that_is_signed_in() {
    let s = Server::start().await;
    let mut tried = 0;
    for (method, path, _) in DOORS.iter().filter(|(method, ..)| *method != "GET") {
        let method: Method = method.parse().expect("method");
        for (name, value) in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            let request = s.ask(method.clone(), &real(path)).header(name, value).json(&json!({}));
            let (status, problem) = read(request.send().await.expect("answer")).await;
            assert_eq!(
                (status, &problem["code"]),
                (StatusCode::FORBIDDEN, &json!("cross_site")),
                "{method} {path} with {name}: {value}"
            );
            tried += 1;
        }
    }
    println!("{tried} requests of other sites");
    assert!(tried > 150);
    s.stop().await;
}

#[tokio::test]
async fn no_other_site_reads_along() {
    let s = Server::start().await;
    let id = s.enqueue("echo", json!({})).await;
    let socket = |origin: &'static str| {
        s.ask(Method::GET, &format!("/api/jobs/{id}/logs/ws"))
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header(ORIGIN, origin)
            .send()
    };
    let stream = |origin: &'static str| {
        s.ask(Method::GET, "/api/jobs/events")
            .header(ACCEPT, "text/event-stream")
            .header(ORIGIN, origin)
            .send()
    };
    let own: &'static str = s.base.clone().leak();
    assert_eq!(
        socket(own).await.expect("answer").status(),
        StatusCode::SWITCHING_PROTOCOLS
    );
    assert_eq!(stream(own).await.expect("answer").status(), StatusCode::OK);
    for origin in ["https://evil.example", "null", "http://127.0.0.1:1"] {
        assert_eq!(
            socket(origin).await.expect("answer").status(),
            StatusCode::FORBIDDEN,
            "{origin}"
        );
        assert_eq!(
            stream(origin).await.expect("answer").status(),
            StatusCode::FORBIDDEN,
            "{origin}"
        );
    }
    // What another site's page loads to use it there, and what it asks leave for.
    let embedded = s
        .ask(Method::GET, "/api/jobs")
        .header("sec-fetch-site", "cross-site")
        .header("sec-fetch-mode", "no-cors");
    assert_eq!(embedded.send().await.expect("answer").status(), StatusCode::FORBIDDEN);
    let asked = s
        .ask(Method::OPTIONS, "/api/jobs")
        .header(ORIGIN, "https://evil.example")
        .header("access-control-request-method", "POST");
    let answer = asked.send().await.expect("answer");
    assert!(
        !answer
            .headers()
            .keys()
            .any(|name| name.as_str().starts_with("access-control-"))
    );
    // A link is followed.
    let link = s
        .ask(Method::GET, "/jobs")
        .header("sec-fetch-site", "cross-site")
        .header("sec-fetch-mode", "navigate")
        .header("sec-fetch-dest", "document");
    assert_eq!(link.send().await.expect("answer").status(), StatusCode::OK);
    s.stop().await;
}

#[tokio::test]
async fn a_link_of_another_site_leads_to_no_call_for_admins() {
    let s = Server::start().await;
    let follow = async |path: &str, from: &'static str| {
        let request = s
            .ask(Method::GET, path)
            .header("sec-fetch-site", from)
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-dest", "document");
        read(request.send().await.expect("answer")).await
    };
    let exports = async || {
        let log = s.get("/api/admin/audit-logs?action=audit.export").await;
        log["items"].as_array().expect("items").len()
    };
    let calls = DOORS
        .iter()
        .filter(|(method, path, _)| *method == "GET" && path.starts_with("/api/admin/"));
    let mut tried = 0;
    for (_, path, _) in calls {
        for from in ["cross-site", "same-site"] {
            let (status, problem) = follow(path, from).await;
            assert_eq!(
                (status, &problem["code"]),
                (StatusCode::FORBIDDEN, &json!("cross_site")),
                "{path} from {from}"
            );
            tried += 1;
        }
    }
    assert!(tried >= 8, "{tried}");
    assert_eq!(exports().await, 0, "nothing was noted in the admin's name");
    // From a page of its own it is what the admin wants, and so is an address that they typed.
    for from in ["same-origin", "none"] {
        assert_eq!(follow("/api/admin/audit-logs/export", from).await.0, StatusCode::OK);
    }
    assert_eq!(exports().await, 2);
    s.stop().await;
}

#[tokio::test]
async fn a_head_that_is_sent_byte_by_byte_loses_its_connection() {
    let s = Server::with(|c| c.edge.client_timeout = Duration::from_secs(1)).await;
    let head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: ".iter().copied();
    let said = drip(connect(&s).await, head.chain(std::iter::repeat(b'a'))).await;
    assert!(!said.contains(" 200 "), "{said}");
    // Nor does one that says nothing at all keep its own.
    assert!(!rest(&mut connect(&s).await).await.contains(" 200 "));
    s.stop().await;
}

async fn secret(s: &Server) -> String {
    let body = json!({ "name": unique(), "scopes": Scope::ALL });
    let (status, made) = s.post("/api/tokens", body).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    made["secret"].as_str().expect("secret").to_string()
}

#[tokio::test]
async fn a_body_that_is_sent_byte_by_byte_is_given_up_on_and_leaves_nothing() {
    let s = Server::with(|c| c.edge.client_timeout = Duration::from_secs(1)).await;
    let token = secret(&s).await;
    let parts = [
        (
            "/api/jobs",
            "application/json",
            "{\"type\": \"echo\", \"args\": {\"value\": \"",
            'a',
        ),
        (
            "/api/events/import",
            "multipart/form-data; boundary=x",
            "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.csv\"\r\n\r\nid\n",
            'a',
        ),
        ("/rpc/me", "application/json", "{", ' '),
        ("/session", "application/x-www-form-urlencoded", "email=", 'a'),
    ];
    for (path, media, begin, more) in parts {
        let mut stream = connect(&s).await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: {media}\r\n\
             Content-Length: 100000\r\n\r\n{begin}"
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        let said = drip(stream, std::iter::repeat(more as u8)).await;
        assert!(said.starts_with("HTTP/1.1 408 "), "{path}: {said}");
        assert!(said.contains("\"code\":\"too_slow\""), "{path}: {said}");
        assert!(said.to_lowercase().contains("connection: close"), "{path}: {said}");
    }
    until("nothing is left of the upload", async || {
        let left = std::fs::read_dir(s.dir.path().join("tmp")).expect("folder").count();
        (left == 0).then_some(())
    })
    .await;
    assert_eq!(s.get("/api/jobs").await["total"], 0);
    s.stop().await;
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let s = Server::start().await;
    let token = secret(&s).await;
    let mut stream = connect(&s).await;
    let head = format!(
        "POST /api/events/import HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 10000000\r\n\r\n\
         --x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.csv\"\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.write_all(&vec![b'a'; 1_000_000]).await.expect("sent");
    let tmp = s.dir.path().join("tmp");
    let files = || std::fs::read_dir(&tmp).expect("folder").count();
    until("the file is begun", async || (files() == 1).then_some(())).await;
    drop(stream);
    until("the file is gone", async || (files() == 0).then_some(())).await;
    s.stop().await;
}

#[tokio::test]
async fn heads_have_bounds() {
    let s = Server::start().await;
    let many: String = (0..200).map(|n| format!("X-{n}: a\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "a".repeat(200_000));
    let path = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(200_000));
    let with = |fields: &str| format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    for (what, request) in [
        ("many fields", with(&many)),
        ("a long one", with(&long)),
        ("a long path", path),
    ] {
        let mut stream = connect(&s).await;
        // The answer may come before all was sent.
        let _ = stream.write_all(request.as_bytes()).await;
        let said = rest(&mut stream).await;
        let refused = said.is_empty()
            || [" 431 ", " 414 ", " 400 "]
                .iter()
                .any(|status| said[..said.len().min(20)].contains(status));
        assert!(refused, "{what}: {said}");
    }
    let fine = with("X-Fine: yes\r\nConnection: close\r\n");
    let mut stream = connect(&s).await;
    stream.write_all(fine.as_bytes()).await.expect("sent");
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 200 "));
    s.stop().await;
}

/// Asks over a connection of its own, and keeps it.
async fn kept(s: &Server) -> (TcpStream, String) {
    let mut stream = connect(s).await;
    // A connection that is turned away may break while this is sent.
    let _ = stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    let mut said = Vec::new();
    let mut buffer = [0; 4_096];
    while !said.windows(4).any(|w| w == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(n) => said.extend_from_slice(&buffer[..n]),
        }
    }
    (stream, String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test]
async fn one_address_can_not_take_all_connections() {
    for both in [true, false] {
        let s = Server::with(|c| match both {
            true => c.edge.connections_per_address = 6,
            false => c.edge.connections_max = 6,
        })
        .await;
        let mut open = Vec::new();
        // Some are the test's own client's.
        let (mut stream, mut said) = kept(&s).await;
        while said.starts_with("HTTP/1.1 200 ") {
            open.push(stream);
            assert!(open.len() <= 6, "more than six connections");
            (stream, said) = kept(&s).await;
        }
        assert!(
            said.starts_with("HTTP/1.1 503 ") && said.contains("Retry-After: 5"),
            "{said}"
        );
        for guard in [
            "x-content-type-options: nosniff",
            "x-frame-options: DENY",
            "content-security-policy: default-src 'none'",
            "cache-control: no-store",
        ] {
            assert!(said.contains(guard), "{guard}: {said}");
        }
        assert!(open.len() >= 3, "{} connections", open.len());
        open.clear();
        drop(stream);
        until("there is room again", async || {
            let (_, said) = kept(&s).await;
            said.starts_with("HTTP/1.1 200 ").then_some(())
        })
        .await;
        s.stop().await;
    }
}

#[tokio::test]
async fn who_asks_too_often_has_to_wait_and_nobody_else() {
    let s = Server::with(|c| {
        c.edge.requests_per_second = Some(1);
        c.edge.requests_burst = 20;
    })
    .await;
    let viewer = s.user("viewer@example.org", Role::Viewer).await;
    let mut unused = Vec::new();
    for _ in 0..5 {
        unused.push(s.token(&[Scope::JobsRead]).await);
    }
    let mut refused = None;
    // A machine so slow that it never asks too often would go on for ever.
    for _ in 0..500 {
        let answer = s.ask(Method::GET, "/api/me").send().await.expect("answer");
        if answer.status() != StatusCode::OK {
            refused = Some(answer);
            break;
        }
    }
    let answer = refused.expect("somebody who asks without end is stopped");
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    let seconds: u64 = header(answer.headers(), "retry-after").parse().expect("seconds");
    assert!((1..=2).contains(&seconds), "{seconds}");
    assert_eq!(header(answer.headers(), "content-type"), "application/problem+json");
    let problem: Value = answer.json().await.expect("json");
    assert_eq!(problem["code"], "rate_limited");
    assert!(
        problem["detail"]
            .as_str()
            .expect("detail")
            .contains("REQUESTS_PER_SECOND")
    );
    let other = viewer.get(format!("{}/api/me", s.base)).send().await.expect("answer");
    assert_eq!(other.status(), StatusCode::OK, "another person is not meant");
    for _ in 0..50 {
        let well = s
            .nobody()
            .get(format!("{}/healthz", s.base))
            .send()
            .await
            .expect("answer");
        assert_eq!(
            well.status(),
            StatusCode::OK,
            "who watches the process is never refused"
        );
    }
    // Somebody unknown is counted by address, whatever they claim to be.
    let claims = async |n: usize| {
        let request = s
            .nobody()
            .get(format!("{}/api/me", s.base))
            .bearer_auth(format!("windlass_{n}"));
        request.send().await.expect("answer").status()
    };
    let claims_too_much = async || {
        let mut seen = StatusCode::UNAUTHORIZED;
        for n in 0..500 {
            seen = claims(n).await;
            if seen != StatusCode::UNAUTHORIZED {
                break;
            }
        }
        assert_eq!(seen, StatusCode::TOO_MANY_REQUESTS);
    };
    claims_too_much().await;
    let other = viewer.get(format!("{}/api/me", s.base)).send().await.expect("answer");
    assert_eq!(
        other.status(),
        StatusCode::OK,
        "nor are those of the same network who are known"
    );
    // From there the database is asked about no more credentials that nobody has come with yet. On a slow machine it may be the
    // network's turn again by the time of the first.
    let mut asked = 0;
    for token in &unused {
        claims_too_much().await;
        let answer = token.get(format!("{}/api/me", s.base)).send().await.expect("answer");
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            break;
        }
        asked += 1;
    }
    assert!(asked < unused.len(), "all of them were looked up");
    until("it is this caller's turn again", async || {
        let answer = s.ask(Method::GET, "/api/me").send().await.expect("answer");
        (answer.status() == StatusCode::OK).then_some(())
    })
    .await;
    s.stop().await;
}

async fn events(s: &Server, by: &Client) -> Response {
    by.get(format!("{}/api/jobs/events", s.base))
        .send()
        .await
        .expect("answer")
}

#[tokio::test]
async fn streams_of_one_caller_are_counted() {
    let s = Server::with(|c| c.edge.streams_per_caller = 2).await;
    let viewer = s.user("viewer@example.org", Role::Viewer).await;
    let id = s.enqueue("gate", json!({ "name": unique() })).await;
    let (one, two) = (events(&s, &s.client).await, events(&s, &s.client).await);
    assert_eq!((one.status(), two.status()), (StatusCode::OK, StatusCode::OK));
    let third = events(&s, &s.client).await;
    assert_eq!(third.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(third.headers().contains_key(RETRY_AFTER));
    let socket = async || {
        let request = s
            .ask(Method::GET, &format!("/api/jobs/{id}/logs/ws"))
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        request.send().await.expect("answer")
    };
    assert_eq!(socket().await.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        events(&s, &viewer).await.status(),
        StatusCode::OK,
        "another person is not meant"
    );
    drop(one);
    // Whoever has gone makes room, and a WebSocket takes it.
    let open = until("there is room for a WebSocket", async || {
        let answer = socket().await;
        (answer.status() == StatusCode::SWITCHING_PROTOCOLS).then_some(answer)
    })
    .await;
    let open = open.upgrade().await.expect("a WebSocket");
    assert_eq!(events(&s, &s.client).await.status(), StatusCode::TOO_MANY_REQUESTS);
    drop(open);
    until("there is room for a stream", async || {
        (events(&s, &s.client).await.status() == StatusCode::OK).then_some(())
    })
    .await;
    drop(two);
    s.act(&id, "cancel").await;
    s.stop().await;
}

/// A CSV file of a little more than 2,000 bytes, under a different id each time.
fn file() -> Vec<u8> {
    let mut text = String::from("id,camera_id,occurred_at,risk_level,label,summary\n");
    text.push_str(&format!(
        "{},c,2026-03-01T10:00:00Z,low,person,{}\n",
        unique(),
        "x".repeat(2_000)
    ));
    text.into_bytes()
}

async fn upload(s: &Server, by: &Client, chunked: bool) -> (StatusCode, Value) {
    let part = match chunked {
        false => reqwest::multipart::Part::bytes(file()),
        true => {
            let parts = futures::stream::iter([file()]).map(Ok::<_, std::io::Error>);
            reqwest::multipart::Part::stream(reqwest::Body::wrap_stream(parts))
        }
    };
    let form = reqwest::multipart::Form::new().part("file", part.file_name("a.csv"));
    let request = by.post(format!("{}/api/events/import", s.base)).multipart(form);
    read(request.send().await.expect("answer")).await
}

#[tokio::test]
async fn uploads_have_room_for_each_person_and_for_all() {
    let s = Server::with(|c| {
        c.edge.uploads_max_user = 4_000;
        c.edge.uploads_max_total = 6_000;
    })
    .await;
    let ada = s.user("ada@example.org", Role::Member).await;
    let bob = s.user("bob@example.org", Role::Member).await;
    let full = async |by: &Client, chunked, setting: &str| {
        let (status, problem) = upload(&s, by, chunked).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::INSUFFICIENT_STORAGE, &json!("storage_full")),
            "{problem}"
        );
        assert!(
            problem["detail"].as_str().expect("detail").contains(setting),
            "{problem}"
        );
    };
    let (status, started) = upload(&s, &ada, false).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{started}");
    full(&ada, false, "UPLOADS_MAX_USER").await;
    full(&ada, true, "UPLOADS_MAX_USER").await;
    let (status, other) = upload(&s, &bob, true).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{other}");
    full(&s.client, false, "UPLOADS_MAX_TOTAL").await;
    full(&s.client, true, "UPLOADS_MAX_TOTAL").await;
    let count = |folder: &str| std::fs::read_dir(s.dir.path().join(folder)).expect("folder").count();
    assert_eq!(count("uploads"), 2);
    // With its job an upload goes, and its room is free again.
    let id = started["job_id"].as_str().expect("id");
    s.until(id, "completed").await;
    let gone = s
        .ask(Method::DELETE, &format!("/api/jobs/{id}"))
        .send()
        .await
        .expect("answer");
    assert_eq!(gone.status(), StatusCode::OK);
    assert_eq!(upload(&s, &ada, true).await.0, StatusCode::ACCEPTED);
    s.stop().await;
}

#[tokio::test]
async fn a_jobs_files_have_room_up_to_a_limit() {
    for (setting, small) in [("ARTIFACTS_MAX_JOB", true), ("ARTIFACTS_MAX_TOTAL", false)] {
        let s = Server::with(|c| match small {
            true => c.edge.artifacts_max_job = 10,
            false => c.edge.artifacts_max_total = 10,
        })
        .await;
        let (status, started) = s.post("/api/events/export", json!({ "format": "csv" })).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{started}");
        let id = started["job_id"].as_str().expect("id");
        s.until(id, "failed").await;
        let error = &s.detail(id).await["error"];
        assert!(error["message"].as_str().expect("message").contains(setting), "{error}");
        let kept = std::fs::read_dir(s.dir.path().join("artifacts").join(id)).map(Iterator::count);
        assert_eq!(kept.unwrap_or_default(), 0, "nothing half kept");
        s.stop().await;
    }
}

#[tokio::test]
async fn a_download_is_a_file_and_never_a_page() {
    let s = Server::start().await;
    let (_, started) = s.post("/api/events/export", json!({ "format": "csv" })).await;
    let id = started["job_id"].as_str().expect("id");
    s.until(id, "completed").await;
    let name = s.detail(id).await["artifacts"][0]["name"]
        .as_str()
        .expect("artifact")
        .to_string();
    let path = format!("/api/jobs/{id}/artifacts/{name}");
    let answer = s.ask(Method::GET, &path).send().await.expect("answer");
    assert!(header(answer.headers(), "content-disposition").starts_with("attachment;"));
    assert_eq!(header(answer.headers(), "x-content-type-options"), "nosniff");
    let policy = header(answer.headers(), "content-security-policy");
    assert!(
        policy.ends_with("sandbox") && policy.contains("default-src 'none'"),
        "{policy}"
    );
    assert!(!header(answer.headers(), CONTENT_TYPE.as_str()).contains("html"));
    // A link in the place of the file leads nowhere.
    let folder = s.dir.path().join("artifacts").join(id);
    let file = std::fs::read_dir(&folder)
        .expect("folder")
        .next()
        .expect("a file")
        .expect("entry")
        .path();
    let outside = s.dir.path().join("secret.txt");
    std::fs::write(&outside, "secret").expect("file");
    std::fs::remove_file(&file).expect("removed");
    std::os::unix::fs::symlink(&outside, &file).expect("link");
    let answer = s.ask(Method::GET, &path).send().await.expect("answer");
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert!(!answer.text().await.expect("text").contains("secret"));
    s.stop().await;
}
