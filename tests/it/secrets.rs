//! Secrets in args: whatever door they come in by, an attempt is given them and nobody else.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::StreamExt;
use reqwest::{Method, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use windlass::domain::error::{ErrorCode, JobError, Problem};
use windlass::domain::job::NewJob;
use windlass::domain::kind::Policy;
use windlass::domain::secret::MASK;
use windlass::domain::user::Scope;
use windlass::server::config::parse_database;
use windlass::server::engine::context::Context;
use windlass::server::engine::kind::{Halt, Kind};
use windlass::server::secrets::SecretKey;
use windlass::server::state::{self, StartError};

use crate::harness::{self, Server, arrangement, unique, until};

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginArgs {
    user: String,
    #[schemars(extend("x-secret" = true))]
    password: String,
    #[serde(default)]
    targets: Vec<Target>,
    #[serde(default)]
    how: How,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Target {
    host: String,
    #[serde(default)]
    #[schemars(extend("x-secret" = true))]
    token: Option<String>,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum How {
    #[default]
    Well,
    Fail,
    Panic,
    /// On a thread of its own.
    Block,
}

/// Tells its secrets wherever it can.
pub struct Login;

#[async_trait]
impl Kind for Login {
    type Args = LoginArgs;

    fn name(&self) -> &'static str {
        "login"
    }

    fn description(&self) -> &'static str {
        "Tells its secrets."
    }

    fn policy(&self, default: Policy) -> Policy {
        Policy {
            max_attempts: 2,
            ..default
        }
    }

    fn check(&self, args: &LoginArgs) -> Result<(), Problem> {
        if args.password.contains(' ') {
            let detail = format!("password \"{}\" has a space", args.password);
            return Err(Problem::invalid("password", detail));
        }
        Ok(())
    }

    async fn run(&self, ctx: &Context, args: LoginArgs) -> Result<Value, Halt> {
        let password = args.password;
        ctx.step(format!("{} signs in with {password}", args.user));
        ctx.info(format!("the word is {password}."));
        ctx.warn("Authorization: Basic dXNlcjpwYXNzd29yZA==");
        for target in &args.targets {
            ctx.debug(format!("{} gets {:?}", target.host, target.token));
        }
        let turned = |text: &str| text.chars().rev().collect::<String>();
        match args.how {
            How::Well => {
                let tokens: Vec<_> = args.targets.iter().map(|t| t.token.as_deref().map(turned)).collect();
                Ok(json!({ "backwards": turned(&password), "tokens": tokens, "said": password.clone(), password: [1] }))
            }
            How::Fail => {
                let error = JobError::new(ErrorCode::AuthError, format!("{password} was refused"));
                Err(error.with_stack(format!("0: {password}")).into())
            }
            How::Panic => panic!("nobody takes {password}"),
            How::Block => {
                let ended = ctx
                    .blocking(move || -> Value { panic!("nobody takes {password}") })
                    .await;
                ended.map_err(|e| JobError::new(ErrorCode::Panic, e.to_string()).into())
            }
        }
    }
}

/// Starts a [`Login`] of its own.
pub struct Chief;

#[async_trait]
impl Kind for Chief {
    type Args = LoginArgs;

    fn name(&self) -> &'static str {
        "chief"
    }

    fn description(&self) -> &'static str {
        "Starts a child with its secrets."
    }

    async fn run(&self, ctx: &Context, args: LoginArgs) -> Result<Value, Halt> {
        let args = serde_json::to_value(&args).map_err(|e| JobError::new(ErrorCode::Internal, e.to_string()))?;
        Ok(json!(ctx.child("one", NewJob::of("login", args)).await?))
    }
}

/// A word that nothing else has in it.
fn word() -> String {
    format!("w{}", unique().replace('-', ""))
}

fn backwards(text: &str) -> String {
    text.chars().rev().collect()
}

/// All that is in the folder, as bytes.
fn bytes_in(dir: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).expect("folder") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            all.extend(bytes_in(&path));
        } else {
            // A file may be removed at this moment.
            all.extend(std::fs::read(&path).unwrap_or_default());
        }
    }
    all
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

/// What the live stream tells, gathered while the test goes on.
struct Gathered {
    text: Arc<Mutex<String>>,
    task: tokio::task::JoinHandle<()>,
}

impl Gathered {
    async fn begin(s: &Server) -> Self {
        let answer = s.ask(Method::GET, "/api/jobs/events").send().await.expect("answer");
        assert_eq!(answer.status(), StatusCode::OK);
        let text: Arc<Mutex<String>> = Arc::default();
        let into = text.clone();
        let task = tokio::spawn(async move {
            let mut parts = answer.bytes_stream();
            while let Some(Ok(part)) = parts.next().await {
                into.lock().expect("text").push_str(&String::from_utf8_lossy(&part));
            }
        });
        Self { text, task }
    }

    fn text(&self) -> String {
        self.text.lock().expect("text").clone()
    }
}

/// The whole log of a job that has ended, over the WebSocket.
async fn socket_log(s: &Server, token: &str, id: &str) -> String {
    let url = format!("{}/api/jobs/{id}/logs/ws", s.base.replace("http", "ws"));
    let mut request = url.into_client_request().expect("request");
    let value = format!("Bearer {token}").parse().expect("value");
    request.headers_mut().insert("authorization", value);
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.expect("socket");
    let mut told = String::new();
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Text(text) = message {
            told.push_str(&text);
            if text.contains("\"end\"") {
                break;
            }
        }
    }
    told
}

#[tokio::test]
async fn by_every_door_a_secret_reaches_its_attempt_and_nobody_else() {
    let s = Server::start().await;
    let live = Gathered::begin(&s).await;
    let (user, secret, token) = (word(), word(), word());
    let args = |how: &str| {
        json!({ "user": user, "password": secret, "how": how,
            "targets": [{ "host": "a", "token": token }, { "host": "b", "token": null }] })
    };
    let mut jobs = Vec::new();
    // One and many, by REST.
    jobs.push((s.enqueue("login", args("well")).await, "completed"));
    for how in ["fail", "panic", "block"] {
        let end = if how == "fail" { "failed" } else { "dead" };
        jobs.push((s.enqueue("login", args(how)).await, end));
    }
    let bulk = json!([{ "type": "login", "args": args("well") }, { "type": "login", "args": args("well") }]);
    let (status, made) = s.post("/api/jobs/bulk", bulk).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{made}");
    for id in made["ids"].as_array().expect("ids") {
        jobs.push((id.as_str().expect("id").into(), "completed"));
    }
    // The form's server function.
    let (status, made) = s
        .post(
            "/rpc/enqueue",
            json!({ "job": { "type": "login", "args": args("well") } }),
        )
        .await;
    assert_eq!(status, StatusCode::OK, "{made}");
    jobs.push((made["id"].as_str().expect("id").into(), "completed"));
    // A job's child.
    let chief = s.enqueue("chief", args("well")).await;
    s.until(&chief, "completed").await;
    let child = s.detail(&chief).await["result"].as_str().expect("child").to_string();
    jobs.push((chief.clone(), "completed"));
    jobs.push((child, "completed"));
    // A schedule, and a change of it that leaves the secrets as they are shown.
    let cron = |cron: &str, args: &Value| json!({ "name": user, "cron": cron, "type": "login", "args": args });
    let (status, made) = s.post("/api/schedules", cron("0 3 1 1 *", &args("well"))).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert_eq!(
        (&made["args"]["password"], &made["args"]["targets"][0]["token"]),
        (&json!(MASK), &json!(MASK))
    );
    assert_eq!(made["args"]["targets"][1]["token"], Value::Null);
    let schedule = format!("/api/schedules/{}", made["id"].as_str().expect("id"));
    let changed = s.ask(Method::PUT, &schedule).json(&cron("0 4 1 1 *", &made["args"]));
    let (status, changed) = harness::read(changed.send().await.expect("answer")).await;
    assert_eq!(
        (status, &changed["cron"]),
        (StatusCode::OK, &json!("0 4 1 1 *")),
        "{changed}"
    );
    let (status, run) = s.post(&format!("{schedule}/run-now"), json!({})).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{run}");
    jobs.push((run["id"].as_str().expect("id").into(), "completed"));

    for (id, end) in &jobs {
        s.until(id, end).await;
    }
    // Run again, and a retry with other args that keep the secrets as they are shown.
    let (status, again) = s.act(&jobs[0].0, "run-again").await;
    assert!(status.is_success(), "{again}");
    jobs.push((again["id"].as_str().expect("id").into(), "completed"));
    let failed = jobs[1].0.clone();
    let mut edited = s.detail(&failed).await["args"].clone();
    assert_eq!((&edited["password"], &edited["user"]), (&json!(MASK), &json!(user)));
    edited["how"] = "well".into();
    let (status, answer) = s
        .post(&format!("/api/jobs/{failed}/retry"), json!({ "args": edited }))
        .await;
    assert!(status.is_success(), "{answer}");
    jobs[1].1 = "completed";
    for (id, end) in &jobs {
        s.until(id, end).await;
    }

    // Every attempt was given them.
    for (id, end) in jobs.iter().filter(|(id, end)| *id != chief && *end == "completed") {
        let job = s.detail(id).await;
        assert_eq!(job["result"]["backwards"], backwards(&secret), "{id} {end}");
        assert_eq!(job["result"]["tokens"], json!([backwards(&token), null]), "{id}");
        assert_eq!(
            (&job["result"]["said"], &job["result"][MASK]),
            (&json!(MASK), &json!([1]))
        );
    }

    // And nobody is shown them.
    let mut paths: Vec<String> = [
        "/api/jobs?limit=100",
        "/api/jobs/types",
        "/api/jobs/stats",
        "/api/errors",
        "/api/schedules",
        "/api/batches",
        "/api/queues",
        "/api/admin/audit-logs?limit=1000",
        "/api/admin/audit-logs/export",
        "/metrics",
        "/jobs",
    ]
    .map(String::from)
    .into();
    paths.push(schedule.clone());
    for (id, _) in &jobs {
        for part in ["", "/detail", "/history", "/logs", "/logs?format=text"] {
            paths.push(format!("/api/jobs/{id}{part}"));
        }
        paths.push(format!("/jobs/{id}"));
    }
    let (_, made) = s
        .post("/api/tokens", json!({ "name": "reader", "scopes": [Scope::JobsRead] }))
        .await;
    let reader = made["secret"].as_str().expect("secret").to_string();
    let mut told = vec![("live".to_string(), live.text())];
    for path in paths {
        let answer = s.ask(Method::GET, &path).send().await.expect("answer");
        told.push((path, answer.text().await.expect("text")));
    }
    for (id, _) in &jobs {
        let (_, detail) = s.post("/rpc/job_detail", json!({ "id": id })).await;
        told.push((format!("rpc {id}"), detail.to_string()));
        told.push((format!("socket {id}"), socket_log(&s, &reader, id).await));
    }
    for (door, text) in &told {
        assert!(!text.contains(&secret) && !text.contains(&token), "{door}: {text}");
    }
    // They were asked for what they can tell.
    for needle in [&user, MASK] {
        let doors = told.iter().filter(|(_, text)| text.contains(needle)).count();
        assert!(doors > 20, "{needle} at {doors} doors");
    }
    assert!(told.iter().all(|(_, text)| !text.contains("dXNlcjpwYXNzd29yZA")));
    // Whoever knows the word learns nothing by looking for it.
    until("the index", async || {
        (s.get("/api/jobs?q=nobody%20takes").await["total"].as_u64()? > 0).then_some(())
    })
    .await;
    assert_eq!(s.get(&format!("/api/jobs?q={secret}")).await["total"], 0);
    let on_disk = bytes_in(s.dir.path());
    live.task.abort();
    let dir = s.stop().await;
    for bytes in [on_disk, bytes_in(dir.path())] {
        assert!(!has(&bytes, &secret) && !has(&bytes, &token), "it lies on the disk");
        assert!(
            arrangement() != "sqlite" || has(&bytes, &user),
            "what is no secret is found"
        );
    }
}

#[tokio::test]
async fn what_stands_for_a_secret_is_not_taken_for_one() {
    let s = Server::start().await;
    let refused = async |args: Value| {
        let (status, problem) = s.post("/api/jobs", json!({ "type": "login", "args": args })).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
        let text = |name: &str| problem[name].as_str().unwrap_or_default().to_string();
        (text("field"), text("detail"))
    };
    let sealed = json!({ "$secret": "v1.00000000.AAAA" });
    let (field, detail) = refused(json!({ "user": "u", "password": sealed })).await;
    assert!(
        field == "args.password" && detail.contains("$secret"),
        "{field}: {detail}"
    );
    let (field, detail) = refused(json!({ "user": "u", "password": MASK })).await;
    assert!(field == "args.password" && detail.contains("mask"), "{field}: {detail}");
    let masked = json!([{ "host": "a", "token": MASK }]);
    let (field, _) = refused(json!({ "user": "u", "password": "x", "targets": masked })).await;
    assert_eq!(field, "args.targets[0].token");
    // Of whatever kind: what looks encrypted would be shown as a secret.
    let (status, problem) = s
        .post("/api/jobs", json!({ "type": "echo", "args": { "value": [sealed] } }))
        .await;
    assert_eq!(
        (status, &problem["field"]),
        (StatusCode::BAD_REQUEST, &json!("args.value[0]"))
    );
    // What is wrong with a secret is said without it.
    for value in [json!(47_114_711), json!("4711 4711")] {
        let (field, detail) = refused(json!({ "user": "u", "password": value })).await;
        assert!(field == "args.password" && !detail.contains("4711"), "{detail}");
        assert!(!detail.is_empty());
    }
    assert_eq!(s.get("/api/jobs").await["total"], 0, "nothing was written");

    // A key stands for a job, whatever its args.
    let ask = json!({ "type": "login", "args": { "user": "u", "password": "abcdef" }, "unique_key": unique(), "delay": 3_600 });
    let (_, first) = s.post("/api/jobs", ask.clone()).await;
    let (status, second) = s.post("/api/jobs", ask).await;
    assert_eq!((status, &second["id"]), (StatusCode::OK, &first["id"]), "{second}");
    s.stop().await;
}

fn other_key() -> Option<SecretKey> {
    SecretKey::parse(&harness::SECRET_KEY.chars().rev().collect::<String>())
}

#[tokio::test]
async fn without_its_key_a_job_fails_for_good_and_an_old_key_reads_on() {
    let s = Server::start().await;
    let secret = word();
    let args = json!({ "user": "u", "password": secret });
    let done = s.enqueue("login", args.clone()).await;
    s.until(&done, "completed").await;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let wish = json!({ "type": "login", "args": args, "delay": 3_600 });
        let (_, job) = s.post("/api/jobs", wish).await;
        waiting.push(job["id"].as_str().expect("id").to_string());
    }
    let [first, later] = &waiting[..] else {
        panic!("two jobs");
    };
    let dir = s.stop().await;

    let s = Server::on(dir, true, |config| config.secret_key = other_key()).await;
    assert_eq!(s.act(first, "run-now").await.0, StatusCode::OK);
    let job = s.until(first, "failed").await;
    assert_eq!(
        (&job["error_code"], &job["attempt"]),
        (&json!("SECRET_UNREADABLE"), &json!(1))
    );
    let why = job["error"].as_str().expect("why");
    assert!(why.contains("args.password") && why.contains("SECRET_KEY_OLD"), "{why}");
    let (status, problem) = s.act(&done, "run-again").await;
    assert!(status.is_server_error(), "{problem}");
    let why = problem["detail"].as_str().expect("why");
    assert!(why.contains("args.password") && why.contains("SECRET_KEY_OLD"), "{why}");
    // Given anew, it works.
    let given = json!({ "args": { "user": "u", "password": secret } });
    let (status, answer) = s.post(&format!("/api/jobs/{first}/retry"), given).await;
    assert!(status.is_success(), "{answer}");
    s.until(first, "completed").await;
    let dir = s.stop().await;

    let s = Server::on(dir, true, |config| {
        config.secret_key_old = config.secret_key.take().into_iter().collect();
        config.secret_key = other_key();
    })
    .await;
    assert_eq!(s.act(later, "run-now").await.0, StatusCode::OK);
    s.until(later, "completed").await;
    assert_eq!(s.detail(later).await["result"]["backwards"], backwards(&secret));
    s.stop().await;
}

#[tokio::test]
async fn alone_with_its_database_a_server_makes_its_key_when_it_needs_one() {
    if arrangement() != "sqlite" {
        return;
    }
    let s = Server::with(|config| config.secret_key = None).await;
    let file = s.dir.path().join("secret.key");
    let echo = s.enqueue("echo", json!({ "value": 1 })).await;
    s.until(&echo, "completed").await;
    assert!(!file.exists(), "nothing asked for a key");
    let secret = word();
    let args = json!({ "user": "u", "password": secret });
    let id = s.enqueue("login", args).await;
    s.until(&id, "completed").await;
    let mode = std::fs::metadata(&file).expect("a key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // The next process finds it.
    let s = Server::on(s.stop().await, true, |config| config.secret_key = None).await;
    let (status, again) = s.act(&id, "run-again").await;
    assert!(status.is_success(), "{again}");
    let again = again["id"].as_str().expect("id");
    s.until(again, "completed").await;
    assert_eq!(s.detail(again).await["result"]["backwards"], backwards(&secret));
    s.stop().await;
}

#[tokio::test]
async fn processes_that_share_a_database_do_not_start_without_a_key() {
    let dir = TempDir::new().expect("folder");
    let mut config = harness::config(dir.path());
    config.secret_key = None;
    // It is not even asked: no port has this number's server.
    config.database = parse_database("postgres://nobody@127.0.0.1:1/none").expect("address");
    let refused = state::start(&config, harness::registry(&config), false).await;
    let Err(StartError::NoSecretKey { kinds }) = &refused else {
        panic!("it started, or failed for another reason");
    };
    assert_eq!(kinds, "chief, login");
    let text = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(text.contains("SECRET_KEY_FILE") && text.contains("login"), "{text}");
}
