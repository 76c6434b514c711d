//! Signing in: what lets in, what keeps out, and what ends it.

use std::time::Duration;

use reqwest::header::{COOKIE, LOCATION, RETRY_AFTER, SET_COOKIE};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use windlass::domain::user::{Role, Scope};

use crate::harness::{ADMIN, Server, read, until};

async fn sign_in(s: &Server, by: &Client, email: &str, password: &str) -> reqwest::Response {
    let form = [
        ("email", email),
        ("password", password),
        ("next", "/jobs?status=failed"),
    ];
    by.post(format!("{}/session", s.base))
        .form(&form)
        .send()
        .await
        .expect("answer")
}

fn cookie(answer: &reqwest::Response) -> Option<String> {
    let set = answer.headers().get(SET_COOKIE)?.to_str().ok()?;
    Some(set.split(';').next()?.to_string())
}

async fn with(s: &Server, cookie: &str, path: &str) -> StatusCode {
    let request = s.nobody().get(format!("{}{path}", s.base)).header(COOKIE, cookie);
    request.send().await.expect("answer").status()
}

#[tokio::test]
async fn the_right_password_lets_in_and_a_session_stolen_before_is_useless_after() {
    let s = Server::start().await;
    let nobody = s.nobody();
    let page = nobody.get(format!("{}/jobs?q=a", s.base)).send().await.expect("answer");
    assert_eq!(page.status(), StatusCode::SEE_OTHER);
    assert_eq!(page.headers()[LOCATION], "/sign-in?next=%2Fjobs%3Fq%3Da");
    let wrong = sign_in(&s, &nobody, ADMIN.0, "not the password").await;
    assert_eq!(wrong.status(), StatusCode::SEE_OTHER);
    assert!(
        wrong.headers()[LOCATION]
            .to_str()
            .expect("text")
            .contains("problem=wrong")
    );
    assert!(cookie(&wrong).is_none());
    let right = sign_in(&s, &nobody, &ADMIN.0.to_uppercase(), ADMIN.1).await;
    assert_eq!(right.headers()[LOCATION], "/jobs?status=failed");
    let set = right.headers()[SET_COOKIE].to_str().expect("text").to_string();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax"), "{set}");
    let first = cookie(&right).expect("cookie");
    assert_eq!(with(&s, &first, "/api/jobs").await, StatusCode::OK);
    // A cookie that somebody else planted or read before the sign-in is not the one after it.
    let again = s.nobody().post(format!("{}/session", s.base)).header(COOKIE, &first);
    let again = again
        .form(&[("email", ADMIN.0), ("password", ADMIN.1)])
        .send()
        .await
        .expect("answer");
    let second = cookie(&again).expect("cookie");
    assert_ne!(first, second);
    assert_eq!(with(&s, &first, "/api/jobs").await, StatusCode::UNAUTHORIZED);
    assert_eq!(with(&s, &second, "/api/jobs").await, StatusCode::OK);
    let out = s
        .nobody()
        .post(format!("{}/session/end", s.base))
        .header(COOKIE, &second);
    assert_eq!(out.send().await.expect("answer").status(), StatusCode::SEE_OTHER);
    assert_eq!(with(&s, &second, "/api/jobs").await, StatusCode::UNAUTHORIZED);
    s.stop().await;
}

#[tokio::test]
async fn guessing_has_to_wait_longer_and_longer_and_learns_of_nobody() {
    let s = Server::start().await;
    let nobody = s.nobody();
    let told = async |email: &str| {
        let mut answers = Vec::new();
        for _ in 0..8 {
            let answer = sign_in(&s, &nobody, email, "not the password").await;
            answers.push(answer.headers()[LOCATION].to_str().expect("text").to_string());
        }
        answers
    };
    let known = told(ADMIN.0).await;
    let unknown = told("nobody@example.org").await;
    let kinds = |answers: &[String]| -> Vec<bool> { answers.iter().map(|a| a.contains("problem=wait")).collect() };
    assert_eq!(kinds(&known), kinds(&unknown), "both are answered alike");
    assert!(
        known[4].contains("problem=wrong") && known[5].contains("problem=wait"),
        "{known:?}"
    );
    // Even the right password has to wait.
    let right = sign_in(&s, &nobody, ADMIN.0, ADMIN.1).await;
    assert!(
        right.headers()[LOCATION]
            .to_str()
            .expect("text")
            .contains("problem=wait")
    );
    assert!(
        right.headers().get(RETRY_AFTER).is_none(),
        "a page is led to, with the seconds in its address"
    );
    s.stop().await;
}

#[tokio::test]
async fn an_invited_person_chooses_a_password_and_the_link_works_once() {
    let s = Server::start().await;
    let (status, link) = s
        .post("/api/users", json!({ "email": "Ada@Example.org", "role": "member" }))
        .await;
    assert_eq!(
        (status, &link["email"]),
        (StatusCode::CREATED, &json!("ada@example.org")),
        "{link}"
    );
    let key = link["path"]
        .as_str()
        .expect("path")
        .rsplit('/')
        .next()
        .expect("key")
        .to_string();
    let welcome = async |password: &str| {
        let form = [("key", key.as_str()), ("password", password)];
        s.nobody()
            .post(format!("{}/welcome", s.base))
            .form(&form)
            .send()
            .await
            .expect("answer")
    };
    let short = welcome("short").await;
    assert!(
        short.headers()[LOCATION]
            .to_str()
            .expect("text")
            .contains("problem=password")
    );
    let done = welcome("a long password").await;
    assert_eq!(done.headers()[LOCATION], "/jobs");
    let session = cookie(&done).expect("cookie");
    assert_eq!(with(&s, &session, "/api/jobs").await, StatusCode::OK);
    assert_eq!(with(&s, &session, "/api/users").await, StatusCode::FORBIDDEN);
    let twice = welcome("another password").await;
    assert!(cookie(&twice).is_none(), "{:?}", twice.headers());
    let (status, problem) = s
        .post("/api/users", json!({ "email": "ada@example.org", "role": "admin" }))
        .await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("email")));
    s.stop().await;
}

#[tokio::test]
async fn who_is_demoted_or_disabled_is_so_at_once_and_their_streams_end() {
    let s = Server::start().await;
    let viewer = s.user("viewer@example.org", Role::Viewer).await;
    let mut stream = viewer
        .get(format!("{}/api/jobs/events", s.base))
        .send()
        .await
        .expect("answer");
    assert_eq!(stream.status(), StatusCode::OK);
    let users = s.get("/api/users").await;
    let id = users
        .as_array()
        .expect("users")
        .iter()
        .find(|u| u["email"] == "viewer@example.org")
        .expect("user")["id"]
        .as_str()
        .expect("id")
        .to_string();
    let change = async |body: Value| {
        read(
            s.ask(Method::PATCH, &format!("/api/users/{id}"))
                .json(&body)
                .send()
                .await
                .expect("answer"),
        )
        .await
    };
    assert_eq!(change(json!({ "role": "member" })).await.0, StatusCode::OK);
    let ended = tokio::time::timeout(Duration::from_secs(20), async {
        while let Ok(Some(_)) = stream.chunk().await {}
    });
    ended.await.expect("the open stream ends");
    let errors = viewer
        .get(format!("{}/api/errors", s.base))
        .send()
        .await
        .expect("answer");
    assert_eq!(errors.status(), StatusCode::FORBIDDEN);
    assert_eq!(change(json!({ "disabled": true })).await.0, StatusCode::OK);
    let gone = viewer.get(format!("{}/api/jobs", s.base)).send().await.expect("answer");
    assert_eq!(gone.status(), StatusCode::UNAUTHORIZED);
    // The last admin stays one.
    let admin = users
        .as_array()
        .expect("users")
        .iter()
        .find(|u| u["email"] == ADMIN.0)
        .expect("admin")["id"]
        .clone();
    let path = format!("/api/users/{}", admin.as_str().expect("id"));
    for body in [json!({ "role": "viewer" }), json!({ "disabled": true })] {
        let (status, problem) = read(s.ask(Method::PATCH, &path).json(&body).send().await.expect("answer")).await;
        assert_eq!(status, StatusCode::CONFLICT, "{problem}");
    }
    s.stop().await;
}

#[tokio::test]
async fn tokens_do_what_their_scopes_say_until_they_are_revoked() {
    let s = Server::start().await;
    let body = json!({ "name": "ci", "scopes": ["jobs:read", "jobs:write"], "kinds": ["echo"], "days": 30 });
    let (status, made) = s.post("/api/tokens", body).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let secret = made["secret"].as_str().expect("secret").to_string();
    let by = |path: &str| s.nobody().get(format!("{}{path}", s.base)).bearer_auth(&secret).send();
    assert_eq!(by("/api/jobs").await.expect("answer").status(), StatusCode::OK);
    assert_eq!(
        by("/api/jobs?type=gate").await.expect("answer").status(),
        StatusCode::FORBIDDEN
    );
    let enqueue = async |kind: &str| {
        let body = json!({ "type": kind, "args": if kind == "gate" { json!({ "name": "x" }) } else { json!({}) } });
        let sent = s
            .nobody()
            .post(format!("{}/api/jobs", s.base))
            .bearer_auth(&secret)
            .json(&body)
            .send()
            .await;
        read(sent.expect("answer")).await
    };
    let (status, job) = enqueue("echo").await;
    assert_eq!((status, &job["owner"]), (StatusCode::ACCEPTED, &json!("token:ci")));
    assert_eq!(enqueue("gate").await.0, StatusCode::FORBIDDEN);
    let tokens = until("the token's use is noted", async || {
        let tokens = s.get("/api/tokens").await;
        (!tokens[0]["used_at"].is_null()).then_some(tokens)
    })
    .await;
    assert!(!tokens.to_string().contains(&secret), "a secret is told once");
    assert_eq!(tokens[0]["used_from"], "127.0.0.1");
    let id = made["token"]["id"].as_str().expect("id");
    let revoked = s
        .ask(Method::DELETE, &format!("/api/tokens/{id}"))
        .send()
        .await
        .expect("answer");
    assert_eq!(revoked.status(), StatusCode::NO_CONTENT);
    assert_eq!(
        by("/api/jobs").await.expect("answer").status(),
        StatusCode::UNAUTHORIZED
    );
    s.stop().await;
}

#[tokio::test]
async fn what_a_member_sees_is_their_own_at_every_door() {
    let s = Server::start().await;
    let member = s.user("member@example.org", Role::Member).await;
    s.enqueue("echo", json!({ "value": "others" })).await;
    let get = async |path: &str| -> Value {
        member
            .get(format!("{}{path}", s.base))
            .send()
            .await
            .expect("answer")
            .json()
            .await
            .expect("json")
    };
    assert_eq!(get("/api/jobs").await["total"], 0);
    assert_eq!(get("/api/jobs?q=others").await["total"], 0);
    assert_eq!(get("/api/jobs/stats").await["total"], 0);
    let health = get("/api/admin/jobs/health").await;
    assert_eq!(
        (&health["checks"]["slots"], &health["checks"]["pending_jobs"]),
        (&json!(0), &json!(0))
    );
    let sent = member
        .post(format!("{}/api/jobs", s.base))
        .json(&json!({ "type": "echo" }))
        .send()
        .await;
    let (status, job) = read(sent.expect("answer")).await;
    assert_eq!(
        (status, &job["owner"]),
        (StatusCode::ACCEPTED, &json!("member@example.org"))
    );
    assert_eq!(get("/api/jobs").await["total"], 1);
    assert_eq!(get("/api/jobs/stats").await["total"], 1);
    s.token(&[Scope::JobsRead]).await;
    s.stop().await;
}
