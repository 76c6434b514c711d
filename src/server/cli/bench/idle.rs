//! What a server costs that has nothing to do.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::json;
use sqlx::ConnectOptions;

use super::setup::{Bench, Fresh, broken, token};
use crate::domain::job::NewJob;
use crate::server::cli::CliError;
use crate::server::config::Database;

/// What Linux counts CPU time in, a second, whatever the machine.
const TICKS: f64 = 100.0;
/// From the start to the first look at it: what it has to do at its start is done.
const SETTLE: Duration = Duration::from_secs(5);
/// How long its memory may take to stay the same.
const STEADY_WITHIN: Duration = Duration::from_secs(180);
const START_WITHIN: Duration = Duration::from_secs(120);
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// The paused queue, and jobs that go into it at once.
const QUEUE: &str = "idle";
const AT_ONCE: u32 = 10_000;

/// The CPU time of an idle server, and its memory: empty; and with waiting jobs, before and after a restart.
pub async fn measure(bench: &mut Bench) -> Result<(), CliError> {
    if !cfg!(target_os = "linux") {
        eprintln!("bench: idle is left out: it reads /proc, which only Linux has");
        return Ok(());
    }
    // Makes the database.
    let system = bench.fresh().await?;
    let token = token(&system.service).await?;
    system.service.close().await;
    let server = Server::start(&system, &token).await?;
    tokio::time::sleep(SETTLE).await;
    let (before, began) = (server.cpu()?, Instant::now());
    tokio::time::sleep(Duration::from_secs(bench.idle_seconds.into())).await;
    let used = server.cpu()? - before;
    bench.record("idle_cpu_percent", used / began.elapsed().as_secs_f64() * 100.0);
    bench.record("idle_rss_mb", server.memory("VmRSS")?);
    if bench.pending > 0 {
        server.fill(bench.pending).await?;
        bench.record("idle_pending_rss_mb", server.steady_memory().await?);
        server.stop().await?;
        let server = Server::start(&system, &token).await?;
        bench.record("idle_pending_restarted_rss_mb", server.steady_memory().await?);
        bench.record("idle_pending_restarted_peak_rss_mb", server.memory("VmHWM")?);
        server.stop().await?;
    } else {
        server.stop().await?;
    }
    Ok(())
}

/// A `windlass serve`. It ends when this is dropped.
struct Server {
    child: Child,
    url: String,
    token: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    async fn start(system: &Fresh, token: &str) -> Result<Self, CliError> {
        let program = std::env::current_exe().map_err(broken)?;
        let config = &system.config;
        let (database, redis) = match &config.database {
            Database::Sqlite(_) => (String::new(), String::new()),
            Database::Postgres(url) => {
                // What leads to the schema is not part of what is given back.
                let options = url.options().to_url_lossy();
                let redis = config.redis.as_ref().map_or("", |url| url.as_str());
                (
                    format!("{options}&options[search_path]={},public", system.name),
                    redis.into(),
                )
            }
        };
        let mut child = Command::new(program)
            .arg("serve")
            .env("LISTEN", "127.0.0.1:0")
            .env("DATA_DIR", &config.data_dir)
            .env("DATABASE_URL", database)
            .env("REDIS_URL", redis)
            .env("REDIS_PREFIX", &config.redis_prefix)
            .env("QUEUE_MAX", config.queue_max.to_string())
            .env("LOG_LEVEL", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(broken)?;
        let out = child.stdout.take().ok_or_else(|| broken("the server has no output"))?;
        let mut server = Self {
            child,
            url: String::new(),
            token: token.into(),
        };
        let first = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(out).read_line(&mut line).map(|_| line)
        });
        let line = match tokio::time::timeout(START_WITHIN, first).await {
            Ok(read) => read.map_err(broken)?.map_err(broken)?,
            Err(_) => return Err(broken(format_args!("the server was not ready within {START_WITHIN:?}"))),
        };
        let url = line
            .split_whitespace()
            .find_map(|word| word.strip_suffix("/jobs").filter(|url| url.starts_with("http://")));
        server.url = url
            .ok_or_else(|| broken(format_args!("the server did not start: {line}")))?
            .to_string();
        Ok(server)
    }

    fn proc(&self, file: &str) -> Result<String, CliError> {
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::read_to_string(&path).map_err(|source| CliError::Io {
            what: format!("{path} can't be read"),
            source,
        })
    }

    /// Seconds of CPU time so far, all threads and the kernel's work for them.
    fn cpu(&self) -> Result<f64, CliError> {
        let stat = self.proc("stat")?;
        // The name before the last bracket may hold blanks. After it come the status and, as the 12th and 13th, the ticks.
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace());
        let ticks: Vec<f64> = fields
            .into_iter()
            .flatten()
            .skip(11)
            .take(2)
            .filter_map(|t| t.parse().ok())
            .collect();
        match ticks[..] {
            [user, system] => Ok((user + system) / TICKS),
            _ => Err(broken(format_args!("/proc/PID/stat can't be read: {stat}"))),
        }
    }

    /// Megabytes (2^20 bytes) of resident memory: `VmRSS` now, `VmHWM` at the most.
    fn memory(&self, what: &str) -> Result<f64, CliError> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(what));
        let kib = line.and_then(|line| line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<f64>().ok());
        kib.map(|kib| kib / 1_024.0)
            .ok_or_else(|| broken(format_args!("/proc/PID/status says nothing of {what}")))
    }

    /// Its memory when that has stayed within a hundredth for five seconds.
    async fn steady_memory(&self) -> Result<f64, CliError> {
        let began = Instant::now();
        let mut last = self.memory("VmRSS")?;
        let mut steady = 0;
        while steady < 5 && began.elapsed() < STEADY_WITHIN {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = self.memory("VmRSS")?;
            steady = if (now - last).abs() <= last / 100.0 {
                steady + 1
            } else {
                0
            };
            last = now;
        }
        Ok(last)
    }

    /// Enqueues jobs that must wait.
    async fn fill(&self, jobs: u32) -> Result<(), CliError> {
        let client = client(&self.token)?;
        let pause = client.post(format!("{}/api/queues/{QUEUE}/pause", self.url));
        let paused = pause.send().await.and_then(reqwest::Response::error_for_status);
        paused.map_err(broken)?;
        let job = NewJob {
            queue: Some(QUEUE.into()),
            ..NewJob::of("export", json!({ "format": "csv" }))
        };
        let url = format!("{}/api/jobs/bulk", self.url);
        for from in (0..jobs).step_by(AT_ONCE as usize) {
            let part = vec![&job; AT_ONCE.min(jobs - from) as usize];
            let answer = client.post(&url).json(&part).send().await;
            let answer = answer.and_then(reqwest::Response::error_for_status).map_err(broken)?;
            answer.bytes().await.map_err(broken)?;
        }
        Ok(())
    }

    /// As an operator stops it.
    async fn stop(mut self) -> Result<(), CliError> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().map_err(broken)?;
        let began = Instant::now();
        while began.elapsed() < STOP_WITHIN {
            if self.child.try_wait().map_err(broken)?.is_some() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(broken(format_args!("the server did not stop within {STOP_WITHIN:?}")))
    }
}

/// A client that sends the token.
fn client(token: &str) -> Result<reqwest::Client, CliError> {
    let value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(broken)?;
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
    reqwest::Client::builder()
        .default_headers(headers)
        .build()
        .map_err(broken)
}
