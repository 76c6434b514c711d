//! Signing in by somebody else's word: a real OpenID provider (`end2end/provider.mjs`), and a proxy in front.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::header::{COOKIE, HeaderName, LOCATION, ORIGIN, SET_COOKIE};
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde_json::{Value, json};
use sqlx::Connection;
use windlass::domain::groups::RoleMap;
use windlass::domain::user::{Role, Scope};
use windlass::server::config::{OpenidSettings, ProxySettings};
use windlass::server::service::vouched::Leaving;

use crate::harness::{ADMIN, Server, arrangement, read};

/// A provider that runs as long as this lives.
struct Provider {
    child: Child,
    issuer: String,
    client: Client,
}

impl Provider {
    async fn start(algorithm: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("end2end");
        let there = folder.join("node_modules/oidc-provider").exists();
        assert!(there, "the provider is not installed: run script/setup");
        // It ends when its standard input does: also when this process is killed.
        let mut child = Command::new("node")
            .arg(folder.join("provider.mjs"))
            .arg(algorithm)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node");
        let mut said = BufReader::new(child.stdout.take().expect("its output"));
        let (told, issuer) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let first = said.read_line(&mut line).map(|_| line);
            // The test may be over.
            let _ = told.send(first);
            // What it says later must go somewhere, or it ends.
            let _ = std::io::copy(&mut said, &mut std::io::sink());
        });
        let issuer = issuer.await.expect("reader").expect("a line").trim().to_string();
        assert!(
            issuer.starts_with("http://127.0.0.1:"),
            "the provider did not start: {issuer}"
        );
        Self {
            child,
            issuer,
            client: Client::new(),
        }
    }

    async fn put(&self, path: &str, what: &Value) {
        let sent = self
            .client
            .put(format!("{}/{path}", self.issuer))
            .json(what)
            .send()
            .await;
        assert_eq!(sent.expect("answer").status(), StatusCode::NO_CONTENT);
    }

    /// Says who somebody is from now on.
    async fn person(&self, name: &str, claims: Value) {
        self.put(&format!("people/{name}"), &claims).await;
    }

    /// Somebody whose address is NAME@example.org.
    async fn member_of(&self, name: &str, groups: &[&str]) {
        let email = format!("{name}@example.org");
        self.person(
            name,
            json!({ "email": email, "email_verified": true, "name": name, "groups": groups }),
        )
        .await;
    }

    fn settings(&self) -> OpenidSettings {
        settings(&self.issuer)
    }

    async fn server(&self) -> Server {
        let settings = self.settings();
        Server::with(|c| c.openid = Some(settings)).await
    }

    fn end(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.end();
    }
}

fn settings(issuer: &str) -> OpenidSettings {
    OpenidSettings {
        issuer: issuer.into(),
        client_id: "windlass".into(),
        client_secret: "a secret of 32 characters & more".into(),
        name: "the test's ID".into(),
        scopes: "openid email profile groups".into(),
        groups_claim: "groups".into(),
        roles: RoleMap::parse("ops=admin, dev=manager, staff=member").expect("map"),
    }
}

/// Keeps cookies, and goes where it is led to one step at a time.
struct Browser {
    client: Client,
    jar: BTreeMap<(String, String), String>,
}

impl Browser {
    fn new(s: &Server) -> Self {
        Self {
            client: s.nobody(),
            jar: BTreeMap::new(),
        }
    }

    fn host(url: &str) -> String {
        let url = Url::parse(url).expect("url");
        format!("{}:{}", url.host_str().expect("host"), url.port().expect("port"))
    }

    fn cookies(&self, host: &str) -> String {
        let own = self.jar.iter().filter(|((of, _), _)| of == host);
        own.map(|((_, name), value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join("; ")
    }

    async fn send(&mut self, method: Method, url: &str, form: &[(&str, &str)]) -> Response {
        let host = Self::host(url);
        let mut request = self.client.request(method, url).header(COOKIE, self.cookies(&host));
        if !form.is_empty() {
            request = request.form(form);
        }
        let answer = request.send().await.expect("answer");
        for set in answer.headers().get_all(SET_COOKIE) {
            let pair = set.to_str().expect("text").split(';').next().expect("pair");
            let (name, value) = pair.split_once('=').expect("name and value");
            let key = (host.clone(), name.to_string());
            match value {
                "" => self.jar.remove(&key),
                value => self.jar.insert(key, value.into()),
            };
        }
        answer
    }

    async fn get(&mut self, url: &str) -> Response {
        self.send(Method::GET, url, &[]).await
    }

    /// Begins a sign-in, and gives the address at the provider that it is led to.
    async fn leave(&mut self, s: &Server) -> String {
        let answer = self
            .get(&format!("{}/session/oidc?next=%2Fjobs%3Fstatus%3Dfailed", s.base))
            .await;
        location(&answer)
    }

    /// Signs in at the provider, and gives the address here that it is sent back to.
    async fn agree(&mut self, at: &str, account: &str) -> String {
        let mut at = at.to_string();
        loop {
            let answer = match at.contains("/login/") {
                true => self.send(Method::POST, &at, &[("account", account)]).await,
                false => self.get(&at).await,
            };
            let status = answer.status();
            assert!(
                status.is_redirection(),
                "{at}: {status} {}",
                answer.text().await.expect("text")
            );
            at = location(&answer);
            if at.contains("/session/oidc/callback") {
                return at;
            }
        }
    }

    /// All of a sign-in: what is answered to the browser that comes back.
    async fn sign_in(&mut self, s: &Server, account: &str) -> Response {
        let provider = self.leave(s).await;
        let back = self.agree(&provider, account).await;
        self.get(&back).await
    }

    /// What the one who has signed in here is told about themselves.
    async fn me(&mut self, s: &Server) -> (StatusCode, Value) {
        read(self.get(&format!("{}/api/me", s.base)).await).await
    }

    fn session(&self, s: &Server) -> Option<String> {
        self.jar.get(&(Self::host(&s.base), "windlass".into())).cloned()
    }
}

fn location(answer: &Response) -> String {
    let to = answer
        .headers()
        .get(LOCATION)
        .unwrap_or_else(|| panic!("{} leads nowhere", answer.url()));
    answer.url().join(to.to_str().expect("text")).expect("url").into()
}

/// What the page for signing in is told to say.
fn problem(answer: &Response) -> String {
    let to = Url::parse(&location(answer)).expect("url");
    assert_eq!(to.path(), "/sign-in", "{to}");
    let pairs: BTreeMap<_, _> = to.query_pairs().into_owned().collect();
    assert!(pairs.keys().all(|key| key == "next" || key == "problem"), "{to}");
    pairs["problem"].clone()
}

async fn users(s: &Server) -> BTreeMap<String, Value> {
    let users = s.get("/api/users").await;
    let users = users.as_array().expect("users").iter();
    users
        .map(|user| (user["email"].as_str().expect("email").to_string(), user.clone()))
        .collect()
}

async fn deeds(s: &Server, name: &str) -> Vec<Value> {
    let log = s.get(&format!("/api/admin/audit-logs?limit=1000&name={name}")).await;
    log["items"].as_array().expect("items").iter().rev().cloned().collect()
}

async fn change(s: &Server, email: &str, body: Value) {
    let id = users(s).await[email]["id"].as_str().expect("id").to_string();
    let sent = s
        .ask(Method::PATCH, &format!("/api/users/{id}"))
        .json(&body)
        .send()
        .await;
    assert_eq!(sent.expect("answer").status(), StatusCode::OK);
}

#[tokio::test]
async fn the_provider_says_who_somebody_is_and_their_groups_give_the_role() {
    for algorithm in ["RS256", "ES256"] {
        let provider = Provider::start(algorithm).await;
        let s = provider.server().await;
        let page = s
            .nobody()
            .get(format!("{}/sign-in?next=%2Fjobs", s.base))
            .send()
            .await
            .expect("answer");
        let page = page.text().await.expect("text");
        assert!(
            page.contains("Sign in with the test") && page.contains("/session/oidc?next=%2Fjobs"),
            "{page}"
        );
        provider.member_of("ada", &["staff", "dev"]).await;
        let mut browser = Browser::new(&s);
        let answer = browser.sign_in(&s, "ada").await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        assert_eq!(location(&answer), format!("{}/jobs?status=failed", s.base));
        let set = answer.headers()[SET_COOKIE].to_str().expect("text");
        assert!(
            set.starts_with("windlass=") && set.contains("HttpOnly") && set.contains("SameSite=Lax"),
            "{set}"
        );
        let (_, me) = browser.me(&s).await;
        assert_eq!(
            (&me["email"], &me["role"]),
            (&json!("ada@example.org"), &json!("manager")),
            "{me}"
        );
        let first = browser.session(&s).expect("session");
        let made = users(&s).await["ada@example.org"].clone();
        assert_eq!(
            (&made["has_openid"], &made["has_password"]),
            (&json!(true), &json!(false))
        );
        // The next time their groups are others. The session that the browser had is of no use any more.
        provider.member_of("ada", &["staff"]).await;
        browser.sign_in(&s, "ada").await;
        assert_eq!(browser.me(&s).await.1["role"], "member");
        let second = browser.session(&s).expect("session");
        assert_ne!(first, second);
        let old = s
            .nobody()
            .get(format!("{}/api/me", s.base))
            .header(COOKIE, format!("windlass={first}"));
        assert_eq!(old.send().await.expect("answer").status(), StatusCode::UNAUTHORIZED);
        let again = users(&s).await["ada@example.org"].clone();
        assert_eq!((&again["id"], &again["role"]), (&made["id"], &json!("member")));
        // What the address is called at the provider later does not make them somebody else here.
        provider
            .person(
                "ada",
                json!({ "email": "ada@new.example.org", "email_verified": true, "groups": "ops" }),
            )
            .await;
        browser.sign_in(&s, "ada").await;
        let (_, me) = browser.me(&s).await;
        assert_eq!(
            (&me["email"], &me["role"]),
            (&json!("ada@example.org"), &json!("admin")),
            "{me}"
        );
        let sessions = read(browser.get(&format!("{}/api/me/sessions", s.base)).await).await.1;
        assert_eq!(
            (sessions.as_array().map(Vec::len), &sessions[0]["how"]),
            (Some(1), &json!("openid"))
        );
        let deeds = deeds(&s, "ada@example.org").await;
        let seen: Vec<_> = deeds.iter().map(|d| d["action"].as_str().expect("action")).collect();
        let expected = [
            "user.join",
            "session.begin",
            "user.change",
            "session.begin",
            "user.change",
            "session.begin",
        ];
        assert_eq!(seen, expected);
        assert_eq!(deeds[1]["after"], json!({ "how": "openid" }));
        assert_eq!(
            (&deeds[2]["before"], &deeds[2]["after"]),
            (&json!({ "role": "manager" }), &json!({ "role": "member" }))
        );
        assert!(
            deeds
                .iter()
                .all(|d| d["actor"] == "ada@example.org" && d["address"] == "127.0.0.1"),
            "{deeds:?}"
        );
        // There is no password, and none can be had past the provider.
        let form = [("email", "ada@example.org"), ("password", "")];
        let by_password = s
            .nobody()
            .post(format!("{}/session", s.base))
            .form(&form)
            .send()
            .await
            .expect("answer");
        assert_eq!(problem(&by_password), "wrong");
        let reset = format!("/api/users/{}/reset", made["id"].as_str().expect("id"));
        assert_eq!(s.post(&reset, json!({})).await.0, StatusCode::CONFLICT);
        s.stop().await;
    }
}

#[tokio::test]
async fn a_sign_in_comes_back_once_and_by_the_browser_that_began_it() {
    let provider = Provider::start("RS256").await;
    let s = provider.server().await;
    provider.member_of("ada", &["staff"]).await;
    let mut browser = Browser::new(&s);
    let begin = async |browser: &mut Browser| {
        let at = browser.leave(&s).await;
        browser.agree(&at, "ada").await
    };
    // Another state than the one that it was begun with.
    let back = begin(&mut browser).await;
    let mut other = Url::parse(&back).expect("url");
    let pairs: Vec<(String, String)> = other.query_pairs().into_owned().collect();
    let wrong = pairs
        .iter()
        .map(|(k, v)| (k.as_str(), if k == "state" { "another" } else { v.as_str() }));
    other.query_pairs_mut().clear().extend_pairs(wrong);
    assert_eq!(problem(&browser.get(other.as_str()).await), "again");
    // Somebody else's browser, that was led to the end of it: they would sign in as another without knowing.
    let back = begin(&mut browser).await;
    let mut victim = Browser::new(&s);
    victim.leave(&s).await;
    assert_eq!(problem(&victim.get(&back).await), "again");
    assert!(victim.session(&s).is_none());
    // And even its own, after that.
    assert_eq!(problem(&browser.get(&back).await), "again");
    // The same address a second time, with the same cookie.
    let back = begin(&mut browser).await;
    let kept = browser.jar.clone();
    let answer = browser.get(&back).await;
    assert_eq!(location(&answer), format!("{}/jobs?status=failed", s.base));
    let code = pairs_of(&back)["code"].clone();
    let mut replay = Browser::new(&s);
    replay.jar = kept;
    assert_eq!(problem(&replay.get(&back).await), "again");
    // A code that was used already, in a sign-in that is new.
    let back = begin(&mut replay).await;
    let used = back.replace(&pairs_of(&back)["code"], &code);
    assert_eq!(problem(&replay.get(&used).await), "openid");
    // What says that it comes from another provider.
    let back = begin(&mut replay).await;
    let iss = pairs_of(&back)["iss"].clone();
    let mut other = Url::parse(&back).expect("url");
    let pairs: Vec<(String, String)> = other.query_pairs().into_owned().collect();
    let wrong = pairs.iter().map(|(k, v)| {
        (
            k.as_str(),
            if *v == iss {
                "https://id.example.org"
            } else {
                v.as_str()
            },
        )
    });
    other.query_pairs_mut().clear().extend_pairs(wrong);
    assert_eq!(problem(&replay.get(other.as_str()).await), "openid");
    // Nothing at all, and too much.
    for query in [
        "",
        "?state=a&code=b",
        "?state=a&state=b",
        "?error=%3Cb%3E&error_description=%3Cb%3E",
    ] {
        assert_eq!(
            problem(&replay.get(&format!("{}/session/oidc/callback{query}", s.base)).await),
            "again"
        );
    }
    // Nobody is led elsewhere afterwards.
    let at = location(
        &replay
            .get(&format!("{}/session/oidc?next=%2F%2Fevil.example", s.base))
            .await,
    );
    let back = replay.agree(&at, "ada").await;
    assert_eq!(location(&replay.get(&back).await), format!("{}/jobs", s.base));
    s.stop().await;
}

#[tokio::test]
async fn a_sign_in_that_takes_too_long_does_not_come_back() {
    if arrangement() != "sqlite" {
        return;
    }
    let provider = Provider::start("RS256").await;
    let s = provider.server().await;
    provider.member_of("ada", &["staff"]).await;
    let mut browser = Browser::new(&s);
    let at = browser.leave(&s).await;
    let back = browser.agree(&at, "ada").await;
    // As it is ten minutes later.
    let file = s.dir.path().join("windlass.db");
    let mut db = sqlx::SqliteConnection::connect(&format!("sqlite://{}", file.display()))
        .await
        .expect("database");
    let late = sqlx::query("UPDATE openid_sign_ins SET expires_at = expires_at - 600000")
        .execute(&mut db)
        .await;
    assert_eq!(late.expect("update").rows_affected(), 1);
    db.close().await.expect("close");
    assert_eq!(problem(&browser.get(&back).await), "again");
    s.stop().await;
}

#[tokio::test]
async fn who_begins_many_sign_ins_keeps_nobody_else_out() {
    let s = Server::start().await;
    let begin = async |state: &str, address: &str| {
        let leaving = Leaving {
            state: state.into(),
            browser: "browser".into(),
            nonce: "nonce".into(),
            verifier: "verifier".into(),
            next: "/jobs".into(),
            address: address.into(),
        };
        s.service.leave_for_openid(leaving).await.expect("it is kept");
    };
    let comes_back = async |state: &str| {
        let returned = s.service.return_from_openid(state, "browser").await;
        returned.expect("answer").is_some()
    };
    begin("first", "2001:db8::1").await;
    begin("elsewhere", "2001:db8:0:1::1").await;
    for n in 0..150 {
        begin(&n.to_string(), &format!("2001:db8::{n:x}")).await;
    }
    assert!(!comes_back("first").await, "one network has no more than its share");
    assert!(comes_back("149").await, "and the newest is not the one that gives way");
    assert!(comes_back("elsewhere").await);
    s.stop().await;
}

fn pairs_of(url: &str) -> BTreeMap<String, String> {
    Url::parse(url).expect("url").query_pairs().into_owned().collect()
}

#[tokio::test]
async fn an_id_token_that_does_not_hold_lets_nobody_in() {
    let provider = Provider::start("RS256").await;
    let s = provider.server().await;
    provider.member_of("ada", &["ops"]).await;
    let twists = [
        json!({ "claims": { "nonce": "another" } }),
        json!({ "claims": { "aud": "another" } }),
        json!({ "claims": { "aud": ["windlass", "another"] } }),
        json!({ "claims": { "iss": "https://id.example.org" } }),
        json!({ "claims": { "exp": 1_000 } }),
        json!({ "claims": { "iat": 100_000_000_000_u64 } }),
        json!({ "claims": { "sub": "eve" } }),
        json!({ "claims": { "sub": "" } }),
        json!({ "key": "other" }),
        json!({ "key": "none" }),
        json!({ "key": "shared" }),
    ];
    for twist in twists {
        provider.put("twist", &twist).await;
        let mut browser = Browser::new(&s);
        assert_eq!(problem(&browser.sign_in(&s, "ada").await), "openid", "{twist}");
        assert!(browser.session(&s).is_none(), "{twist}");
    }
    assert_eq!(users(&s).await.len(), 1, "only the admin is there");
    // Signed anew, but rightly: the twist itself is not what is refused.
    provider.put("twist", &json!({ "claims": { "name": "Ada" } })).await;
    let mut browser = Browser::new(&s);
    browser.sign_in(&s, "ada").await;
    assert_eq!(browser.me(&s).await.0, StatusCode::OK);
    // A code of another provider's, who has keys of its own, is of no use here.
    let other = Provider::start("RS256").await;
    other.member_of("ada", &["ops"]).await;
    let mut browser = Browser::new(&s);
    let at = browser.leave(&s).await;
    let elsewhere = at.replace(&provider.issuer, &other.issuer);
    let mut back = Url::parse(&browser.agree(&elsewhere, "ada").await).expect("url");
    let pairs: Vec<(String, String)> = back.query_pairs().into_owned().collect();
    let right = pairs.iter().map(|(k, v)| {
        (
            k.as_str(),
            if k == "iss" {
                provider.issuer.as_str()
            } else {
                v.as_str()
            },
        )
    });
    back.query_pairs_mut().clear().extend_pairs(right);
    assert_eq!(problem(&browser.get(back.as_str()).await), "openid");
    s.stop().await;
}

#[tokio::test]
async fn who_may_not_come_in_is_told_why() {
    let provider = Provider::start("RS256").await;
    let s = provider.server().await;
    let told = async |account: &str| {
        let mut browser = Browser::new(&s);
        let answer = browser.sign_in(&s, account).await;
        assert!(browser.session(&s).is_none(), "{account}");
        problem(&answer)
    };
    provider.member_of("guest", &["guests"]).await;
    assert_eq!(told("guest").await, "role");
    provider
        .person("alone", json!({ "email": "alone@example.org", "email_verified": true }))
        .await;
    assert_eq!(told("alone").await, "role");
    provider.person("nameless", json!({ "groups": ["ops"] })).await;
    assert_eq!(told("nameless").await, "email");
    // An address that is not known to be theirs, new or somebody's already: the admin has a password here.
    for (verified, email) in [
        (json!(false), "new@example.org"),
        (json!(false), ADMIN.0),
        (Value::Null, ADMIN.0),
    ] {
        let mut claims = json!({ "email": email, "groups": ["ops"] });
        if !verified.is_null() {
            claims["email_verified"] = verified;
        }
        provider.person("eve", claims.clone()).await;
        assert_eq!(told("eve").await, "email", "{claims}");
    }
    assert_eq!(told("deny").await, "denied");
    let page = s
        .nobody()
        .get(format!("{}/sign-in?problem=role", s.base))
        .send()
        .await
        .expect("answer");
    assert!(
        page.text()
            .await
            .expect("text")
            .contains("None of your groups may use Windlass")
    );
    assert_eq!(users(&s).await.len(), 1, "only the admin is there");
    // Disabled, after having been in; and somebody else who has the address at the provider now.
    provider.member_of("ada", &["staff"]).await;
    let mut browser = Browser::new(&s);
    browser.sign_in(&s, "ada").await;
    assert_eq!(browser.me(&s).await.0, StatusCode::OK);
    provider
        .person(
            "another",
            json!({ "email": "ada@example.org", "email_verified": true, "groups": ["ops"] }),
        )
        .await;
    assert_eq!(told("another").await, "taken");
    change(&s, "ada@example.org", json!({ "disabled": true })).await;
    assert_eq!(browser.me(&s).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(told("ada").await, "disabled");
    // One whose group is taken away does not come in again.
    change(&s, "ada@example.org", json!({ "disabled": false })).await;
    provider.member_of("ada", &["guests"]).await;
    assert_eq!(told("ada").await, "role");
    s.stop().await;
}

#[tokio::test]
async fn an_account_with_a_password_is_tied_by_a_verified_address() {
    let provider = Provider::start("RS256").await;
    let s = provider.server().await;
    s.user("ada@example.org", Role::Viewer).await;
    let before = users(&s).await["ada@example.org"].clone();
    provider.member_of("ada", &["dev"]).await;
    let mut browser = Browser::new(&s);
    browser.sign_in(&s, "ada").await;
    assert_eq!(browser.me(&s).await.1["role"], "manager");
    let after = users(&s).await["ada@example.org"].clone();
    assert_eq!(after["id"], before["id"]);
    assert_eq!(
        (&after["has_openid"], &after["has_password"]),
        (&json!(true), &json!(true))
    );
    let deeds = deeds(&s, "ada@example.org").await;
    let tied = deeds.iter().find(|d| d["action"] == "user.tie").expect("the deed");
    assert_eq!(tied["after"]["openid"], format!("{} ada", provider.issuer));
    let form = [("email", "ada@example.org"), ("password", "a password of theirs")];
    let by_password = s
        .nobody()
        .post(format!("{}/session", s.base))
        .form(&form)
        .send()
        .await
        .expect("answer");
    assert_eq!(by_password.headers()[LOCATION], "/jobs");
    s.stop().await;
}

#[tokio::test]
async fn a_provider_that_is_away_is_said_so() {
    let mut provider = Provider::start("RS256").await;
    let s = provider.server().await;
    provider.member_of("ada", &["ops"]).await;
    let mut browser = Browser::new(&s);
    let at = browser.leave(&s).await;
    let back = browser.agree(&at, "ada").await;
    provider.end();
    assert_eq!(problem(&browser.get(&back).await), "provider");
    s.stop().await;
    // One that takes the connection and says nothing, and one that calls itself otherwise.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
    let issuer = format!("http://{}", silent.local_addr().expect("address"));
    let s = Server::with(|c| c.openid = Some(settings(&issuer))).await;
    let answer = Browser::new(&s).get(&format!("{}/session/oidc", s.base)).await;
    assert_eq!(problem(&answer), "provider");
    s.stop().await;
    let provider = Provider::start("RS256").await;
    let issuer = format!("{}/", provider.issuer);
    let s = Server::with(|c| c.openid = Some(settings(&issuer))).await;
    let answer = Browser::new(&s).get(&format!("{}/session/oidc", s.base)).await;
    assert_eq!(problem(&answer), "provider");
    // Passwords go on working meanwhile: the tests' admin came in by one.
    assert_eq!(s.get("/api/me").await["email"], ADMIN.0);
    s.stop().await;
}

const USER: HeaderName = HeaderName::from_static("x-forwarded-email");
const GROUPS: HeaderName = HeaderName::from_static("x-forwarded-groups");

async fn behind_proxy(trusted: &str, groups: bool) -> Server {
    let trusted = trusted.parse().expect("address");
    Server::with(|c| {
        c.trusted_proxies = vec![trusted];
        c.proxy = Some(ProxySettings {
            user: USER,
            groups: groups.then_some(GROUPS),
            roles: RoleMap::parse(if groups { "ops=admin, dev=manager" } else { "*=member" }).expect("map"),
        });
    })
    .await
}

/// What a caller is told about themselves whom the proxy names so.
async fn me(s: &Server, user: &str, groups: &str) -> (StatusCode, Value) {
    let request = s
        .nobody()
        .get(format!("{}/api/me", s.base))
        .header(USER, user)
        .header(GROUPS, groups);
    read(request.send().await.expect("answer")).await
}

#[tokio::test]
async fn the_word_of_a_trusted_proxy_counts() {
    let s = behind_proxy("127.0.0.1", true).await;
    let (status, ada) = me(&s, "Ada@Example.org", "staff, dev").await;
    assert_eq!(status, StatusCode::OK, "{ada}");
    assert_eq!(
        (&ada["email"], &ada["role"]),
        (&json!("ada@example.org"), &json!("manager"))
    );
    assert_eq!(me(&s, "ada@example.org", "ops").await.1["role"], "admin");
    let seen: Vec<_> = deeds(&s, "ada@example.org").await;
    let seen: Vec<_> = seen
        .iter()
        .map(|d| (d["action"].as_str().expect("action"), d["via"].clone()))
        .collect();
    assert_eq!(seen, [("user.join", json!("proxy")), ("user.change", json!("proxy"))]);
    // No mapped group, no account; a page says so.
    let (status, problem_told) = me(&s, "bob@example.org", "staff").await;
    assert_eq!(
        (status, &problem_told["field"]),
        (StatusCode::FORBIDDEN, &json!("role"))
    );
    let page = s
        .nobody()
        .get(format!("{}/jobs", s.base))
        .header(USER, "bob@example.org")
        .send()
        .await
        .expect("answer");
    assert_eq!(problem(&page), "role");
    assert_eq!(me(&s, "nonsense", "ops").await.0, StatusCode::FORBIDDEN);
    let twice = s
        .nobody()
        .get(format!("{}/api/me", s.base))
        .header(USER, "ada@example.org")
        .header(USER, "bob@example.org");
    assert_eq!(twice.send().await.expect("answer").status(), StatusCode::FORBIDDEN);
    assert_eq!(users(&s).await.len(), 2, "the admin and ada");
    // Changes are still only taken from pages of this server's, and a token is still a token.
    let enqueue = |origin: String| {
        let request = s
            .nobody()
            .post(format!("{}/api/jobs", s.base))
            .json(&json!({ "type": "echo" }));
        request
            .header(USER, "ada@example.org")
            .header(GROUPS, "dev")
            .header(ORIGIN, origin)
            .send()
    };
    let (status, refused) = read(enqueue("https://evil.example".into()).await.expect("answer")).await;
    assert_eq!(
        (status, &refused["code"]),
        (StatusCode::FORBIDDEN, &json!("cross_site")),
        "{refused}"
    );
    let (status, job) = read(enqueue(s.base.clone()).await.expect("answer")).await;
    assert_eq!(
        (status, &job["owner"]),
        (StatusCode::ACCEPTED, &json!("ada@example.org"))
    );
    let token = s.token(&[Scope::JobsRead]).await;
    let by_token = token
        .get(format!("{}/api/me", s.base))
        .header(USER, "ada@example.org")
        .send()
        .await;
    assert_eq!(read(by_token.expect("answer")).await.1["email"], "token:test");
    change(&s, "ada@example.org", json!({ "disabled": true })).await;
    assert_eq!(me(&s, "ada@example.org", "ops").await.0, StatusCode::FORBIDDEN);
    s.stop().await;
}

/// Waits for a stream to be ended by the server.
async fn ended(mut stream: Response) {
    assert_eq!(stream.status(), StatusCode::OK);
    let rest = async { while let Ok(Some(_)) = stream.chunk().await {} };
    tokio::time::timeout(Duration::from_secs(20), rest)
        .await
        .expect("the open stream ends");
}

#[tokio::test]
async fn an_open_stream_does_not_give_back_the_role_that_the_proxy_has_taken() {
    let s = behind_proxy("127.0.0.1", true).await;
    let stream = async |groups: &str| {
        let request = s.nobody().get(format!("{}/api/jobs/events", s.base));
        let sent = request.header(USER, "ada@example.org").header(GROUPS, groups).send();
        sent.await.expect("answer")
    };
    let as_admin = stream("ops").await;
    let invited = s.nobody().post(format!("{}/api/users", s.base));
    let invited = invited
        .header(USER, "ada@example.org")
        .header(GROUPS, "ops")
        .json(&json!({ "email": "friend@example.org", "role": "admin" }));
    assert_eq!(invited.send().await.expect("answer").status(), StatusCode::CREATED);
    assert_eq!(me(&s, "ada@example.org", "dev").await.1["role"], "manager");
    ended(as_admin).await;
    assert_eq!(users(&s).await["ada@example.org"]["role"], "manager");
    let deeds = deeds(&s, "ada@example.org").await;
    let actions: Vec<_> = deeds.iter().map(|d| d["action"].as_str().expect("action")).collect();
    assert_eq!(actions, ["user.join", "user.change"]);
    // Whom an admin invited who is none any more, does not come in.
    assert_eq!(deeds[1]["after"], json!({ "role": "manager", "links_ended": 1 }));
    assert_eq!(s.get("/api/users/links").await, json!([]));
    let as_manager = stream("dev").await;
    change(&s, "ada@example.org", json!({ "disabled": true })).await;
    ended(as_manager).await;
    s.stop().await;
}

#[tokio::test]
async fn without_groups_an_admin_says_the_role_after_the_first_sight() {
    let s = behind_proxy("127.0.0.1", false).await;
    assert_eq!(me(&s, "ada@example.org", "ops").await.1["role"], "member");
    change(&s, "ada@example.org", json!({ "role": "manager" })).await;
    assert_eq!(me(&s, "ada@example.org", "ops").await.1["role"], "manager");
    s.stop().await;
}

#[tokio::test]
async fn the_header_from_anybody_else_means_nothing() {
    let s = behind_proxy("10.0.0.1", true).await;
    assert_eq!(me(&s, "ada@example.org", "ops").await.0, StatusCode::UNAUTHORIZED);
    // Nor does it help to claim to come from there.
    let claims = s
        .nobody()
        .get(format!("{}/api/me", s.base))
        .header("x-forwarded-for", "10.0.0.1");
    let claims = claims
        .header(USER, ADMIN.0)
        .header(GROUPS, "ops")
        .send()
        .await
        .expect("answer");
    assert_eq!(claims.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(users(&s).await.len(), 1, "only the admin is there");
    s.stop().await;
}
