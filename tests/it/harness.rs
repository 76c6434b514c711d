//! A whole server in this process, kinds that do what a test tells them, and waiting for conditions.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue, SET_COOKIE};
use reqwest::redirect::Policy as Policies;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use windlass::domain::audit::Deed;
use windlass::domain::error::{ErrorCode, JobError};
use windlass::domain::job::NewJob;
use windlass::domain::kind::{Backoff, Policy};
use windlass::domain::user::{Actor, Role, Scope};
use windlass::server::config::{self, Config, Database, Edge};
use windlass::server::engine::Engine;
use windlass::server::engine::context::Context;
use windlass::server::engine::kind::{Halt, Kind, Registry};
use windlass::server::http::{self, AppState, Listening, Site};
use windlass::server::kinds::export::Export;
use windlass::server::secrets::{Redactor, SecretKey};
use windlass::server::service::Service;
use windlass::server::{kinds, state, store};

/// Whom every server has as its admin: e-mail and password.
pub const ADMIN: (&str, &str) = ("admin@example.org", "correct horse battery");

/// What every server encrypts secrets with.
pub const SECRET_KEY: &str = "b2d4a86f1c0e93577d3a51c8ee4069fb11f7c2935a4de8067c9d02b3f45a6e18";

/// Crashes after which a test's job ends dead.
pub const CRASHES_MAX: u32 = 5;

/// What a process is told so that it has that admin.
pub fn admin() -> [(&'static str, &'static str); 2] {
    [("ADMIN_EMAIL", ADMIN.0), ("ADMIN_PASSWORD", ADMIN.1)]
}

/// A client that follows no redirects.
fn client(headers: HeaderMap) -> Client {
    let builder = Client::builder().redirect(Policies::none()).default_headers(headers);
    builder.build().expect("client")
}

/// A client that is signed in as the admin of the server there.
pub async fn signed_in(base: &str) -> Client {
    sign_in(base, ADMIN.0, ADMIN.1).await
}

async fn sign_in(base: &str, email: &str, password: &str) -> Client {
    with_session(&begin_session(base, email, password).await)
}

/// The cookie of a session of the admin's, for what a client does not send.
pub async fn session(base: &str) -> HeaderValue {
    cookie(&begin_session(base, ADMIN.0, ADMIN.1).await)
}

async fn begin_session(base: &str, email: &str, password: &str) -> Response {
    let form = [("email", email), ("password", password)];
    let sent = client(HeaderMap::new())
        .post(format!("{base}/session"))
        .form(&form)
        .send();
    sent.await.expect("answer")
}

/// A client with the session that an answer begins.
fn with_session(answer: &Response) -> Client {
    client(HeaderMap::from_iter([(COOKIE, cookie(answer))]))
}

/// The cookie of that session, as it is sent.
fn cookie(answer: &Response) -> HeaderValue {
    let set = answer.headers()[SET_COOKIE].to_str().expect("cookie");
    HeaderValue::from_str(set.split(';').next().expect("pair")).expect("value")
}

pub struct Server {
    pub base: String,
    pub client: Client,
    pub dir: Arc<TempDir>,
    closing: CancellationToken,
    serving: JoinHandle<()>,
    engine: Option<Engine>,
    pub service: Service,
}

/// The settings of a test: a folder of its own, short waits.
pub fn config(dir: &Path) -> Config {
    Config {
        listen: "127.0.0.1:0".parse().expect("address"),
        data_dir: dir.to_path_buf(),
        database: Database::Sqlite(None),
        redis: None,
        redis_prefix: "windlass".into(),
        worker_concurrency: 4,
        worker_poll_interval: Duration::from_millis(100),
        worker_lease: Duration::from_secs(3),
        global_max_jobs: None,
        member_max_jobs: 3,
        kind_max_jobs: BTreeMap::new(),
        kind_rates: BTreeMap::new(),
        kind_timeouts: BTreeMap::new(),
        job_timeout: Duration::from_secs(60),
        job_max_retries: 2,
        job_max_crashes: CRASHES_MAX,
        shutdown_grace: Duration::from_millis(200),
        upload_max: 20_000_000,
        args_max: 10_000,
        import_unzipped_max: 20_000_000,
        import_dir: None,
        queue_max: 100_000,
        artifact_ttl: Duration::from_secs(3_600),
        retention: Vec::new(),
        sweep_every: Duration::from_secs(600),
        public_url: String::new(),
        admin: None,
        setup_anywhere: false,
        trusted_proxies: Vec::new(),
        openid: None,
        proxy: None,
        session_idle: Duration::from_secs(3_600),
        session_age: Duration::from_secs(7_200),
        secret_key: SecretKey::parse(SECRET_KEY),
        secret_key_old: Vec::new(),
        log_redact: Redactor::default(),
        edge: Edge {
            connections_max: 2_000,
            connections_per_address: 2_000,
            client_timeout: Duration::from_secs(20),
            requests_per_second: None,
            requests_burst: 1,
            streams_per_caller: 100,
            uploads_max_total: 100_000_000,
            uploads_max_user: 100_000_000,
            artifacts_max_total: 1_000_000_000,
            artifacts_max_job: 1_000_000_000,
        },
        log_json: false,
        log_level: "warn".into(),
        settings: Vec::new(),
    }
}

/// Which database and queue the suite runs on: TEST_ON is sqlite (the default), postgres or redis; the latter two
/// need what `script/with-servers` provides.
pub fn arrangement() -> &'static str {
    match std::env::var("TEST_ON").as_deref() {
        Ok("postgres") => "postgres",
        Ok("redis") => "redis",
        Ok("sqlite") | Err(_) => "sqlite",
        Ok(other) => panic!("TEST_ON is \"{other}\"; allowed: sqlite, postgres, redis"),
    }
}

fn server_url(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests under script/with-servers"))
}

/// What a process on `dir` is told so that it uses the same place as [`arrange`] gives.
pub async fn environment(dir: &Path) -> Vec<(&'static str, String)> {
    let mut config = config(dir);
    arrange(&mut config, dir).await;
    let mut told = Vec::new();
    if arrangement() != "sqlite" {
        let url = server_url("TEST_DATABASE_URL");
        told.push((
            "DATABASE_URL",
            format!("{url}?options[search_path]={},public", schema(dir)),
        ));
    }
    if arrangement() == "redis" {
        told.push(("REDIS_URL", server_url("TEST_REDIS_URL")));
        told.push(("REDIS_PREFIX", schema(dir)));
    }
    told
}

/// A deed of this machine's, for what tests do to a job past the service.
pub fn deed(action: &str, id: impl std::fmt::Display) -> Deed {
    Deed::of(&Actor::machine(), action, "job", id)
}

pub fn schema(dir: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    dir.hash(&mut hasher);
    format!("t{:016x}", hasher.finish())
}

/// Gives the system in `dir` a place of its own in the servers that the suite runs on: the same one for the same folder.
pub async fn arrange(config: &mut Config, dir: &Path) {
    let on = arrangement();
    if on == "sqlite" {
        return;
    }
    let name = schema(dir);
    let database = config::parse_database(&server_url("TEST_DATABASE_URL")).expect("TEST_DATABASE_URL");
    let Database::Postgres(url) = database else {
        panic!("TEST_DATABASE_URL leads to no Postgres")
    };
    let mark = dir.join("schema-made");
    if !mark.exists() {
        store::create_schema(&url, &name).await.expect("schema");
        std::fs::write(&mark, "").expect("mark");
    }
    config.database = Database::Postgres(url.in_schema(&name));
    if on == "redis" {
        config.redis = config::RedisUrl::parse(&server_url("TEST_REDIS_URL"));
        config.redis_prefix = name;
    }
}

impl Server {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::on(Arc::new(TempDir::new().expect("folder")), true, change).await
    }

    /// On a folder that may hold an earlier server's data; `work`: whether it runs jobs.
    pub async fn on(dir: Arc<TempDir>, work: bool, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config(dir.path());
        change(&mut config);
        arrange(&mut config, dir.path()).await;
        let system = state::start(&config, registry(&config), work).await.expect("start");
        system.service.found(ADMIN.0, ADMIN.1.into()).await.expect("an admin");
        let listener = tokio::net::TcpListener::bind(config.listen).await.expect("port");
        let address = listener.local_addr().expect("address");
        let closing = CancellationToken::new();
        // A provider has to know where people come back to, and the port is only known now.
        if config.openid.is_some() {
            config.public_url = format!("http://{address}");
        }
        let app = http::router(AppState {
            service: system.service.clone(),
            leptos: http::leptos_options(address),
            site: Arc::new(Site::of(&config).expect("site")),
            closing: closing.clone(),
        });
        let stop = closing.clone();
        let serving = tokio::spawn(http::serve(listener, app, Listening::of(&config), stop));
        let base = format!("http://{address}");
        Self {
            client: signed_in(&base).await,
            base,
            dir,
            closing,
            serving,
            engine: system.engine,
            service: system.service,
        }
    }

    /// Stops as SIGTERM does and gives the folder back.
    pub async fn stop(self) -> Arc<TempDir> {
        self.closing.cancel();
        if let Some(engine) = self.engine {
            engine.shut_down().await;
        }
        drop(self.client);
        self.serving.await.expect("served");
        self.service.close().await;
        self.dir
    }

    /// A client of somebody who is not signed in.
    pub fn nobody(&self) -> Client {
        client(HeaderMap::new())
    }

    /// Invites somebody, and gives the client that they have then.
    pub async fn user(&self, email: &str, role: Role) -> Client {
        let (status, link) = self.post("/api/users", json!({ "email": email, "role": role })).await;
        assert_eq!(status, StatusCode::CREATED, "{link}");
        let key = link["path"]
            .as_str()
            .expect("path")
            .rsplit('/')
            .next()
            .expect("key")
            .to_string();
        let form = [("key", key.as_str()), ("password", "a password of theirs")];
        let answer = self
            .nobody()
            .post(format!("{}/welcome", self.base))
            .form(&form)
            .send()
            .await
            .expect("answer");
        with_session(&answer)
    }

    /// A client with a token of its own that has these scopes.
    pub async fn token(&self, scopes: &[Scope]) -> Client {
        let (status, made) = self
            .post("/api/tokens", json!({ "name": "test", "scopes": scopes }))
            .await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        let value = format!("Bearer {}", made["secret"].as_str().expect("secret"));
        client(HeaderMap::from_iter([(
            AUTHORIZATION,
            HeaderValue::from_str(&value).expect("value"),
        )]))
    }

    pub fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub async fn get(&self, path: &str) -> Value {
        let answer = self.ask(Method::GET, path).send().await.expect("answer");
        assert!(
            answer.status().is_success(),
            "GET {path}: {}",
            answer.text().await.expect("text")
        );
        answer.json().await.expect("json")
    }

    pub async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        read(self.ask(Method::POST, path).json(&body).send().await.expect("answer")).await
    }

    /// Enqueues and gives the id.
    pub async fn enqueue(&self, kind: &str, args: Value) -> String {
        let (status, job) = self.post("/api/jobs", json!({ "type": kind, "args": args })).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{job}");
        job["id"].as_str().expect("id").to_string()
    }

    pub async fn job(&self, id: &str) -> Value {
        self.get(&format!("/api/jobs/{id}")).await
    }

    pub async fn detail(&self, id: &str) -> Value {
        self.get(&format!("/api/jobs/{id}/detail")).await
    }

    /// Waits until the job has this status.
    pub async fn until(&self, id: &str, status: &str) -> Value {
        let what = format!("job {id} {status}");
        until(&what, async || {
            let job = self.job(id).await;
            (job["status"] == status).then_some(job)
        })
        .await
    }

    pub async fn act(&self, id: &str, action: &str) -> (StatusCode, Value) {
        self.post(&format!("/api/jobs/{id}/{action}"), json!({})).await
    }
}

pub async fn read(answer: Response) -> (StatusCode, Value) {
    let status = answer.status();
    let text = answer.text().await.expect("text");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// Asks again and again until there is an answer; fails after a minute, which is longer than a dead worker's lease lasts.
pub async fn until<T, F>(what: &str, ask: impl Fn() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let asking = async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asking)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// The built-in kinds and the tests' own.
pub fn registry(config: &Config) -> Registry {
    let policy = Policy {
        max_attempts: config.job_max_retries + 1,
        backoff: Backoff::Fixed,
        base_ms: 20,
        cap_ms: 20,
        jitter_percent: 0,
        timeout_s: config.job_timeout.as_secs(),
        max_running: None,
        rate: None,
    };
    kinds::registry(policy, config.import_unzipped_max, config.import_dir.clone())
        // Small pages: an export can be stopped in hundreds of places, so that there is time to come between.
        .with(Export { page: 50 })
        .with(Echo)
        .with(Gate)
        .with(Stubborn)
        .with(Flaky)
        .with(Panics)
        .with(Quits)
        .with(Talk)
        .with(Slow)
        .with(Family)
        .with(crate::secrets::Login)
        .with(crate::secrets::Chief)
}

/// What a kind that waits at a gate waits for: tests open gates by name.
static GATES: LazyLock<Mutex<HashMap<String, Arc<Semaphore>>>> = LazyLock::new(Mutex::default);

pub fn gate(name: &str) -> Arc<Semaphore> {
    let mut gates = GATES.lock().expect("gates");
    gates
        .entry(name.into())
        .or_insert_with(|| Arc::new(Semaphore::new(0)))
        .clone()
}

/// A name that no other test uses.
pub fn unique() -> String {
    uuid::Uuid::new_v4().to_string()
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Anything {
    #[serde(default)]
    value: Value,
}

/// Gives back what it was given.
struct Echo;

#[async_trait]
impl Kind for Echo {
    type Args = Anything;

    fn name(&self) -> &'static str {
        "echo"
    }

    fn description(&self) -> &'static str {
        "Gives back what it was given."
    }

    async fn run(&self, ctx: &Context, args: Anything) -> Result<Value, Halt> {
        ctx.step("Echoing");
        Ok(args.value)
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
}

/// Waits at a gate, and stops when asked.
struct Gate;

#[async_trait]
impl Kind for Gate {
    type Args = Named;

    fn name(&self) -> &'static str {
        "gate"
    }

    fn description(&self) -> &'static str {
        "Waits at a gate."
    }

    async fn run(&self, ctx: &Context, args: Named) -> Result<Value, Halt> {
        ctx.step("Waiting at the gate");
        ctx.progress(1, 2);
        ctx.info("at the gate");
        let gate = gate(&args.name);
        tokio::select! {
            open = gate.acquire() => open.map_err(|e| JobError::new(ErrorCode::Internal, e.to_string()))?.forget(),
            () = ctx.until_cancelled() => return Err(Halt::Cancelled),
        }
        Ok(json!({ "passed": args.name, "attempt": ctx.attempt() }))
    }
}

/// Never looks up.
struct Stubborn;

#[async_trait]
impl Kind for Stubborn {
    type Args = Named;

    fn name(&self) -> &'static str {
        "stubborn"
    }

    fn description(&self) -> &'static str {
        "Never ends."
    }

    async fn run(&self, ctx: &Context, args: Named) -> Result<Value, Halt> {
        let _dropped = OnDrop(args.name);
        ctx.step("Not listening");
        std::future::pending().await
    }
}

/// Opens a gate when it is dropped: shows that a task is really gone.
struct OnDrop(String);

impl Drop for OnDrop {
    fn drop(&mut self) {
        gate(&self.0).add_permits(1);
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FlakyArgs {
    /// Attempts that fail before one succeeds.
    times: u32,
    permanent: bool,
}

struct Flaky;

#[async_trait]
impl Kind for Flaky {
    type Args = FlakyArgs;

    fn name(&self) -> &'static str {
        "flaky"
    }

    fn description(&self) -> &'static str {
        "Fails a few times."
    }

    async fn run(&self, ctx: &Context, args: FlakyArgs) -> Result<Value, Halt> {
        if ctx.attempt() > args.times {
            return Ok(json!({ "attempt": ctx.attempt() }));
        }
        let code = if args.permanent {
            ErrorCode::AuthError
        } else {
            ErrorCode::NetworkError
        };
        Err(JobError::new(code, format!("failure {}", ctx.attempt())).into())
    }
}

struct Panics;

#[async_trait]
impl Kind for Panics {
    type Args = Anything;

    fn name(&self) -> &'static str {
        "panics"
    }

    fn description(&self) -> &'static str {
        "Panics."
    }

    fn policy(&self, default: Policy) -> Policy {
        Policy {
            max_attempts: 1,
            ..default
        }
    }

    async fn run(&self, _: &Context, _: Anything) -> Result<Value, Halt> {
        panic!("the floor is lava")
    }
}

/// Stops as if it had been asked to.
struct Quits;

#[async_trait]
impl Kind for Quits {
    type Args = Anything;

    fn name(&self) -> &'static str {
        "quits"
    }

    fn description(&self) -> &'static str {
        "Stops unasked."
    }

    async fn run(&self, _: &Context, _: Anything) -> Result<Value, Halt> {
        Err(Halt::Cancelled)
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TalkArgs {
    lines: u32,
    /// Waits here between the two halves.
    gate: Option<String>,
}

/// Logs lines, half of them before its gate.
struct Talk;

#[async_trait]
impl Kind for Talk {
    type Args = TalkArgs;

    fn name(&self) -> &'static str {
        "talk"
    }

    fn description(&self) -> &'static str {
        "Logs lines."
    }

    async fn run(&self, ctx: &Context, args: TalkArgs) -> Result<Value, Halt> {
        for n in 1..=args.lines {
            if n == args.lines / 2 + 1
                && let Some(name) = &args.gate
            {
                let open = gate(name);
                open.acquire()
                    .await
                    .map_err(|e| JobError::new(ErrorCode::Internal, e.to_string()))?
                    .forget();
            }
            match n % 4 {
                0 => ctx.debug(format!("line {n}")),
                1 => ctx.info(format!("line {n}")),
                2 => ctx.warn(format!("line {n}")),
                _ => ctx.error(format!("line {n}")),
            }
        }
        Ok(Value::Null)
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FamilyArgs {
    /// The gate at which the children wait.
    name: String,
    children: u32,
    /// Whether the first attempt fails when it has started them.
    again: bool,
}

/// Starts children that wait at a gate, and waits until it is asked to stop.
struct Family;

#[async_trait]
impl Kind for Family {
    type Args = FamilyArgs;

    fn name(&self) -> &'static str {
        "family"
    }

    fn description(&self) -> &'static str {
        "Starts children."
    }

    async fn run(&self, ctx: &Context, args: FamilyArgs) -> Result<Value, Halt> {
        let mut ids = Vec::new();
        for n in 0..args.children {
            let child = NewJob::of("gate", json!({ "name": args.name }));
            ids.push(ctx.child(&n.to_string(), child).await?);
        }
        if args.again && ctx.attempt() == 1 {
            return Err(JobError::new(ErrorCode::NetworkError, "once more").into());
        }
        if args.again {
            return Ok(json!(ids));
        }
        ctx.until_cancelled().await;
        Err(Halt::Cancelled)
    }
}

/// Takes longer than it may.
struct Slow;

#[async_trait]
impl Kind for Slow {
    type Args = Named;

    fn name(&self) -> &'static str {
        "slow"
    }

    fn description(&self) -> &'static str {
        "Takes longer than it may."
    }

    fn policy(&self, default: Policy) -> Policy {
        Policy {
            max_attempts: 1,
            timeout_s: 1,
            ..default
        }
    }

    async fn run(&self, _: &Context, args: Named) -> Result<Value, Halt> {
        let _dropped = OnDrop(args.name);
        std::future::pending().await
    }
}
