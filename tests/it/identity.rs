//! Signing in: what lets in, what keeps out, and what ends it.

use std::time::Duration;

use reqwest::header::{COOKIE, LOCATION, RETRY_AFTER, SET_COOKIE};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use windlass::domain::account::Purpose;
use windlass::domain::user::{Role, Scope};
use windlass::server::service::identity::{Origin, hashed};
use windlass::server::store::Store;
use windlass::server::store::sessions::SessionDraft;
use windlass::server::store::users::{Link, NewPassword};
use windlass::server::{http, state};

use crate::chaos::truth::ask;
use crate::harness::{ADMIN, Server, arrange, config, deed, read, unique, until};

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
    let mut settings = config(s.dir.path());
    arrange(&mut settings, s.dir.path()).await;
    let told = async |email: &str| {
        let mut answers = Vec::new();
        for n in 0..8 {
            if n == 5 {
                // As if there had been more tries: a second is over soon, where the machine is busy.
                ask(
                    &settings,
                    "UPDATE sign_in_failures SET n = n + 9 RETURNING CAST(n AS BIGINT)",
                )
                .await;
            }
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
    let log = s.get(&format!("/api/admin/audit-logs?name={id}")).await;
    let noted = |i: usize| {
        let entry = &log["items"][i];
        (
            entry["action"].clone(),
            entry["before"]["name"].clone(),
            entry["after"]["name"].clone(),
        )
    };
    assert_eq!(noted(0), (json!("token.revoke"), json!("ci"), Value::Null));
    assert_eq!(noted(1), (json!("token.create"), Value::Null, json!("ci")));
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
        (&health["checks"]["slots"], &health["checks"]["pendingJobs"]),
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

#[tokio::test]
async fn many_guesses_at_the_same_moment_are_no_more_than_one_after_the_other() {
    let s = Server::start().await;
    let nobody = s.nobody();
    let guesses = (0..40).map(|_| sign_in(&s, &nobody, ADMIN.0, "not the password"));
    let answers = futures::future::join_all(guesses).await;
    let told = |what: &str| {
        let has = |a: &&reqwest::Response| a.headers()[LOCATION].to_str().expect("text").contains(what);
        answers.iter().filter(has).count()
    };
    let (wrong, wait) = (told("problem=wrong"), told("problem=wait"));
    assert_eq!(wrong + wait, 40);
    // Five are free; however slow this machine is, few more come after the waits that double.
    assert!((5..=10).contains(&wrong), "{wrong} passwords were looked at");
    s.stop().await;
}

#[tokio::test]
async fn signing_in_well_uses_up_nobodys_tries() {
    let s = Server::start().await;
    for _ in 0..25 {
        let answer = sign_in(&s, &s.nobody(), ADMIN.0, ADMIN.1).await;
        assert!(cookie(&answer).is_some(), "{:?}", answer.headers());
    }
    s.stop().await;
}

#[tokio::test]
async fn a_password_is_not_guessed_from_within_a_session_either() {
    let s = Server::start().await;
    let change = async |current: &str| {
        let body = json!({ "current": current, "new": "a password of today" });
        s.post("/api/me/password", body).await
    };
    let mut looked_at = 0;
    // Five are free; however slow this machine is, a wait that doubles comes soon.
    loop {
        match change("not the password").await.0 {
            StatusCode::BAD_REQUEST => looked_at += 1,
            StatusCode::TOO_MANY_REQUESTS => break,
            other => panic!("{other}"),
        }
        assert!(looked_at < 12, "a twelfth guess");
    }
    assert!(looked_at >= 5);
    s.stop().await;
}

#[tokio::test]
async fn links_are_listed_until_they_are_used_and_can_be_taken_back() {
    let s = Server::start().await;
    let key = |link: &Value| {
        let path = link["path"].as_str().expect("path");
        path.rsplit('/').next().expect("key").to_string()
    };
    let uses = async |key: &str| {
        let form = [("key", key), ("password", "a password of theirs")];
        let request = s.nobody().post(format!("{}/welcome", s.base)).form(&form);
        cookie(&request.send().await.expect("answer")).is_some()
    };
    let (_, invited) = s
        .post("/api/users", json!({ "email": "eve@example.org", "role": "admin" }))
        .await;
    let pending = s.get("/api/users/links").await;
    assert_eq!(
        (&pending[0]["email"], &pending[0]["purpose"], &pending[0]["made_by"]),
        (&json!("eve@example.org"), &json!("invite"), &json!(ADMIN.0)),
        "{pending}"
    );
    assert!(!pending.to_string().contains(&key(&invited)), "the list lets nobody in");
    let path = format!("/api/users/links/{}", pending[0]["id"].as_str().expect("id"));
    let revoke = async || s.ask(Method::DELETE, &path).send().await.expect("answer").status();
    assert_eq!(
        (revoke().await, revoke().await),
        (StatusCode::NO_CONTENT, StatusCode::NOT_FOUND)
    );
    assert!(!uses(&key(&invited)).await);
    assert_eq!(s.get("/api/users/links").await, json!([]));
    let log = s.get("/api/admin/audit-logs?action=user.revoke_link").await;
    assert_eq!(
        (&log["items"][0]["name"], &log["items"][0]["before"]["role"]),
        (&json!("eve@example.org"), &json!("admin"))
    );
    // One for a new password ends with the account, and with a password that was changed meanwhile.
    s.user("ada@example.org", Role::Member).await;
    let users = s.get("/api/users").await;
    let ada = users
        .as_array()
        .expect("users")
        .iter()
        .find(|u| u["email"] == "ada@example.org");
    let ada = ada.expect("user")["id"].as_str().expect("id").to_string();
    let (status, link) = s.post(&format!("/api/users/{ada}/reset"), json!({})).await;
    assert_eq!(status, StatusCode::CREATED, "{link}");
    assert_eq!(s.get("/api/users/links").await[0]["purpose"], "reset");
    for disabled in [true, false] {
        let change = s.ask(Method::PATCH, &format!("/api/users/{ada}"));
        let change = change.json(&json!({ "disabled": disabled })).send().await;
        assert_eq!(change.expect("answer").status(), StatusCode::OK);
    }
    assert!(!uses(&key(&link)).await);
    s.stop().await;
}

const ADA: &str = "ada@example.org";

/// What another process on the server's database has.
async fn beside(s: &Server) -> Store {
    let mut settings = config(s.dir.path());
    arrange(&mut settings, s.dir.path()).await;
    Store::open_beside(&settings).await.expect("store")
}

/// What is kept of somebody's password.
async fn kept(store: &Store, email: &str) -> String {
    let row = store.user_by_email(email).await.expect("answer").expect("user");
    row.password.expect("a password")
}

async fn id_of(s: &Server, email: &str) -> String {
    let users = s.get("/api/users").await;
    let mut users = users.as_array().expect("users").iter();
    let user = users.find(|user| user["email"] == email).expect("user");
    user["id"].as_str().expect("id").to_string()
}

async fn change(s: &Server, email: &str, body: Value) {
    let path = format!("/api/users/{}", id_of(s, email).await);
    let sent = s.ask(Method::PATCH, &path).json(&body).send().await;
    assert_eq!(sent.expect("answer").status(), StatusCode::OK);
}

/// Uses a link up, and gives the cookie that it brings.
async fn welcome(s: &Server, link: &Value, password: &str) -> Option<String> {
    let key = link["path"].as_str().expect("path").rsplit('/').next().expect("key");
    let form = [("key", key), ("password", password)];
    let sent = s.nobody().post(format!("{}/welcome", s.base)).form(&form).send().await;
    cookie(&sent.expect("answer"))
}

/// Somebody chooses a new password by an admin's link.
async fn reset(s: &Server, email: &str, password: &str) -> String {
    let path = format!("/api/users/{}/reset", id_of(s, email).await);
    let (status, link) = s.post(&path, json!({})).await;
    assert_eq!(status, StatusCode::CREATED, "{link}");
    welcome(s, &link, password).await.expect("cookie")
}

#[tokio::test]
async fn a_sign_in_that_a_new_password_overtakes_begins_no_session() {
    let s = Server::start().await;
    s.user(ADA, Role::Member).await;
    let store = beside(&s).await;
    let ada = store.user_by_email(ADA).await.expect("answer").expect("ada").user;
    let begin = async |password: Option<String>| {
        let draft = SessionDraft {
            hash: unique(),
            user: ada.id,
            password,
            address: String::new(),
            agent: String::new(),
            how: "password",
            instead_of: None,
        };
        let begun = store.begin_session(draft, deed("session.begin", ADA)).await;
        begun.expect("answer")
    };
    // The old password is compared; before there is a session, a new one ends all that there are.
    let old = kept(&store, ADA).await;
    let session = reset(&s, ADA, "a password of today").await;
    assert!(!begin(Some(old)).await);
    let sessions = s.nobody().get(format!("{}/api/me/sessions", s.base));
    let sessions = sessions.header(COOKIE, &session).send().await.expect("answer");
    let (_, sessions) = read(sessions).await;
    assert_eq!(sessions.as_array().map(Vec::len), Some(1), "{sessions}");
    let new = kept(&store, ADA).await;
    assert!(begin(Some(new.clone())).await);
    // The same of one who is disabled meanwhile, however they come in.
    change(&s, ADA, json!({ "disabled": true })).await;
    assert!(!begin(Some(new)).await && !begin(None).await);
    store.close().await;
    s.stop().await;
}

#[tokio::test]
async fn a_new_password_that_another_overtakes_is_not_taken() {
    let s = Server::start().await;
    let ada = s.user(ADA, Role::Member).await;
    let own = ada.post(format!("{}/api/me/password", s.base));
    let own = own.json(&json!({ "current": "a password of theirs", "new": "a password of mine" }));
    assert!(own.send().await.expect("answer").status().is_success());
    let store = beside(&s).await;
    let id = store.user_by_email(ADA).await.expect("answer").expect("ada").user.id;
    let set = async |was: String, session: Option<String>| {
        let chosen = NewPassword {
            was,
            is: "another".into(),
            session,
        };
        let set = store.set_password(id, chosen, deed("user.change_password", ADA)).await;
        set.expect("answer")
    };
    // The old password is compared; before the new one is kept, an admin's link has led to another.
    let old = kept(&store, ADA).await;
    let session = reset(&s, ADA, "a password of today").await;
    assert!(!set(old.clone(), None).await);
    let new = kept(&store, ADA).await;
    assert_ne!(old, new);
    // Nor does one count that a session asks for which has ended by now.
    assert!(!set(new.clone(), Some(unique())).await);
    assert_eq!(kept(&store, ADA).await, new);
    let answer = sign_in(&s, &s.nobody(), ADA, "a password of today").await;
    assert!(cookie(&answer).is_some(), "{:?}", answer.headers());
    let key = session.split_once('=').expect("pair").1;
    assert!(set(new, Some(hashed(key))).await);
    assert_eq!(with(&s, &session, "/api/me").await, StatusCode::OK);
    store.close().await;
    s.stop().await;
}

#[tokio::test]
async fn links_that_a_former_admin_made_let_nobody_in() {
    const EVE: &str = "eve@example.org";
    let s = Server::start().await;
    s.user(ADA, Role::Member).await;
    let eve = s.user(EVE, Role::Admin).await;
    let (_, others) = s
        .post("/api/users", json!({ "email": "bob@example.org", "role": "member" }))
        .await;
    let ends = [
        (json!({ "role": "member" }), "user.change"),
        (json!({ "disabled": true }), "user.disable"),
    ];
    for (end, action) in ends {
        change(&s, EVE, json!({ "role": "admin" })).await;
        let make = async |path: String, body: Value| {
            let sent = eve.post(format!("{}{path}", s.base)).json(&body).send().await;
            let (status, link) = read(sent.expect("answer")).await;
            assert_eq!(status, StatusCode::CREATED, "{link}");
            link
        };
        let friend = json!({ "email": "friend@example.org", "role": "admin" });
        let links = [
            make("/api/users".into(), friend).await,
            make(format!("/api/users/{}/reset", id_of(&s, ADA).await), json!({})).await,
        ];
        change(&s, EVE, end).await;
        for link in links {
            assert!(welcome(&s, &link, "a password of theirs").await.is_none(), "{link}");
        }
        let log = s
            .get(&format!("/api/admin/audit-logs?action={action}&name={EVE}"))
            .await;
        assert_eq!(log["items"][0]["after"]["links_ended"], 2, "{log}");
    }
    // Nor one that was on its way at that moment.
    let store = beside(&s).await;
    let link = Link {
        purpose: Purpose::Invite,
        email: "friend@example.org".into(),
        name: String::new(),
        role: Role::Admin,
        kinds: Vec::new(),
        made_by: EVE.into(),
        expires_at: i64::MAX,
    };
    let added = store.add_link(unique(), link, None).await;
    assert!(!added.expect("answer"));
    store.close().await;
    assert!(welcome(&s, &others, "a password of theirs").await.is_some());
    s.stop().await;
}

#[tokio::test]
async fn a_link_for_a_new_password_works_once() {
    const ADA: &str = "ada@example.org";
    let s = Server::start().await;
    s.user(ADA, Role::Member).await;
    let users = s.get("/api/users").await;
    let ada = users.as_array().expect("users").iter().find(|u| u["email"] == ADA);
    let id = ada.expect("user")["id"].as_str().expect("id");
    let (status, link) = s.post(&format!("/api/users/{id}/reset"), json!({})).await;
    assert_eq!(status, StatusCode::CREATED, "{link}");
    let key = link["path"].as_str().expect("path").rsplit('/').next().expect("key");
    let uses = async |password: &str| {
        let form = [("key", key), ("password", password)];
        let request = s.nobody().post(format!("{}/welcome", s.base)).form(&form);
        cookie(&request.send().await.expect("answer")).is_some()
    };
    // Two at the same moment: one of them is in.
    let (one, other) = tokio::join!(uses("the first password"), uses("the second password"));
    assert_ne!(one, other);
    assert!(!uses("the third password").await);
    let lets_in = async |password: &str| cookie(&sign_in(&s, &s.nobody(), ADA, password).await).is_some();
    assert_eq!(
        (
            lets_in("the first password").await,
            lets_in("the second password").await
        ),
        (one, other)
    );
    assert!(!lets_in("the third password").await);
    s.stop().await;
}

#[tokio::test]
async fn forms_are_answered_with_pages_and_programs_with_problems() {
    let s = Server::start().await;
    let send = async |path: &str, accept: &str, headers: &[(&str, &str)]| {
        let mut request = s.nobody().post(format!("{}{path}", s.base)).header("accept", accept);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.body("{}").send().await.expect("answer");
        let media = answer.headers()["content-type"].to_str().expect("text").to_string();
        let guarded = answer.headers().contains_key("x-content-type-options");
        (answer.status(), media, guarded, answer.text().await.expect("text"))
    };
    const PAGE: &str = "text/html,application/xhtml+xml,*/*;q=0.8";
    for path in ["/session", "/welcome"] {
        let json = [("content-type", "application/json")];
        let (status, media, guarded, text) = send(path, PAGE, &json).await;
        assert!(
            status.is_client_error() && media.starts_with("text/html"),
            "{status} {media}"
        );
        assert!(guarded && text.contains("<h1>") && text.contains("/sign-in"), "{text}");
        let (_, media, _, _) = send(path, "*/*", &json).await;
        assert_eq!(media, "application/problem+json");
        // What was sent is shown as text.
        let foreign = [("origin", "http://<script>alert(1)</script>")];
        let (status, media, guarded, text) = send(path, PAGE, &foreign).await;
        assert_eq!((status, guarded), (StatusCode::FORBIDDEN, true));
        assert!(media.starts_with("text/html") && !text.contains("<script"), "{text}");
    }
    // Whoever is signed out already is led to the sign-in.
    let out = s
        .nobody()
        .post(format!("{}/session/end", s.base))
        .send()
        .await
        .expect("answer");
    assert_eq!(
        (out.status(), &out.headers()[LOCATION]),
        (StatusCode::SEE_OTHER, &"/sign-in".parse().expect("value"))
    );
    s.stop().await;
}

#[tokio::test]
async fn oneself_is_told_whether_there_is_a_password_and_refusals_are_guarded_too() {
    let s = Server::start().await;
    assert_eq!(s.get("/api/me").await["has_password"], true);
    let token = s.token(&[Scope::JobsRead]).await;
    let me: Value = token
        .get(format!("{}/api/me", s.base))
        .send()
        .await
        .expect("answer")
        .json()
        .await
        .expect("json");
    assert_eq!(me["has_password"], false, "{me}");
    for path in ["/", "/api/jobs", "/nowhere"] {
        let refused = s
            .nobody()
            .get(format!("{}{path}", s.base))
            .send()
            .await
            .expect("answer");
        for name in [
            "x-content-type-options",
            "x-frame-options",
            "content-security-policy",
            "referrer-policy",
        ] {
            assert!(refused.headers().contains_key(name), "{path} has no {name}");
        }
    }
    // What is no credential of this server's is nobody's, however long.
    let long = "a".repeat(20_000);
    let request = s.nobody().get(format!("{}/api/jobs", s.base));
    let answer = request.bearer_auth(&long).send().await.expect("answer");
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    s.stop().await;
}

#[tokio::test]
async fn the_first_admin_comes_by_a_link_that_works_once() {
    let dir = tempfile::TempDir::new().expect("folder");
    let mut config = config(dir.path());
    arrange(&mut config, dir.path()).await;
    let system = state::start(&config, state::registry(&config), false)
        .await
        .expect("start");
    let service = system.service;
    let open = "0.0.0.0:3000".parse().expect("address");
    let local = "127.0.0.1:3000".parse().expect("address");
    let refused = |address, has_users| http::refuse_listen(address, has_users, &http::Site::default()).is_some();
    assert!(refused(open, false) && !refused(open, true) && !refused(local, false));
    let told = http::refuse_listen(open, false, &http::Site::default()).expect("a reason");
    assert!(
        told.contains("ADMIN_EMAIL") && !told.contains("user create"),
        "an invitation makes no user: {told}"
    );
    let key = async || {
        let link = service.first_link().await.expect("answer").expect("a link");
        link.path.rsplit('/').next().expect("key").to_string()
    };
    let (earlier, now) = (key().await, key().await);
    let come = async |key: &str, email: &'static str| {
        let password = "a long password".to_string();
        service.use_link(key, Some(email), password, Origin::default()).await
    };
    assert!(
        come(&earlier, "ada@example.org").await.is_err(),
        "the last start's link is the one"
    );
    let problem = come(&now, "no address").await.expect_err("refused");
    assert_eq!(problem.field.as_deref(), Some("email"), "and it works still");
    let signed = come(&now, "ada@example.org").await.expect("signed in");
    assert_eq!(signed.user.role, Role::Admin);
    assert!(come(&now, "eve@example.org").await.is_err(), "it was used");
    assert!(
        service.first_link().await.expect("answer").is_none(),
        "and there is no other"
    );
    service.close().await;
}
