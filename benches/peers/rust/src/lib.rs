//! What the peers in Rust share: the measures, the worker's process, the clock. It is `../lib.mjs` in Rust, measure for measure;
//! a peer's file says only how its system enqueues and how it works.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

const CHUNK: usize = 1_000;
const CALLERS: usize = 50;
const SLOTS: usize = 10;
const IDLE_SAMPLES: usize = 200;
const RATE: f64 = 1_000.0;
const RATE_SAMPLES: usize = 5_000;
/// Connections of all callers, as the other peers on Postgres have them.
pub const CONNECTIONS: u32 = 20;

pub type Failure = Box<dyn std::error::Error + Send + Sync>;
pub type Done<T> = Result<T, Failure>;

/// The args of every job.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Args {
    pub n: u64,
    /// When it was enqueued, where that is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub t: Option<f64>,
    /// Its pick-up is told at once.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ask: bool,
    /// It is no warm-up.
    #[serde(default, skip_serializing_if = "is_false")]
    pub counts: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// What a job does.
pub type Handle = Arc<dyn Fn(Args) + Send + Sync>;

/// One system.
#[allow(async_fn_in_trait)]
pub trait Peer: Clone + Send + Sync + Sized + 'static {
    /// Its package.
    const NAME: &'static str;
    /// The package whose version is told.
    const PACKAGE: &'static str;
    /// The settings that matter for speed, in words.
    const SETTINGS: &'static str;
    /// Ends when it is dropped or stopped.
    type Worker: Send;

    async fn connect(url: &str) -> Done<Self>;
    /// An empty queue.
    async fn reset(&mut self) -> Done<()>;
    fn one(&self, args: Args) -> impl Future<Output = Done<()>> + Send;
    async fn bulk(&self, jobs: &[Args]) -> Done<()>;
    /// What autovacuum does within a minute in a running system.
    async fn prepared(&self) -> Done<()>;
    /// Jobs that are not recorded as done.
    async fn left(&self) -> Done<i64>;
    /// Runs jobs, at most `slots` at the same time; `backlog`: many wait, and it is about how fast they go.
    async fn work(&self, slots: usize, backlog: bool, handle: Handle) -> Done<Self::Worker>;
    async fn stop(worker: Self::Worker);
}

/// Milliseconds of the system's monotonic clock, which all processes of one machine share.
fn now() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6
}

fn log(text: impl std::fmt::Display) {
    eprintln!("{text}");
}

fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (share * values.len() as f64).ceil() as usize;
    values[at.clamp(1, values.len()) - 1]
}

fn per_second(jobs: usize, ms: f64) -> f64 {
    (jobs as f64 / ms * 1e3).round()
}

fn millis(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn payloads(count: usize) -> Vec<Args> {
    let args = |n| Args {
        n: n as u64,
        ..Args::default()
    };
    (0..count).map(args).collect()
}

/// Fails where a wait would never end: a system that loses a job must not hang the comparison.
async fn within<T>(seconds: u64, what: &str, wait: impl Future<Output = Done<T>>) -> Done<T> {
    match timeout(Duration::from_secs(seconds), wait).await {
        Ok(done) => done,
        Err(_) => Err(format!("{what}: not done after {seconds} s").into()),
    }
}

#[derive(Clone, Copy)]
enum How {
    OneByOne,
    Concurrently,
    InChunks,
}

async fn enqueue<P: Peer>(peer: &P, how: How, jobs: Vec<Args>) -> Done<()> {
    match how {
        How::OneByOne => {
            for job in jobs {
                peer.one(job).await?;
            }
        }
        How::Concurrently => {
            let next = Arc::new(std::sync::Mutex::new(jobs.into_iter()));
            let callers: Vec<_> = (0..CALLERS)
                .map(|_| {
                    let (peer, next) = (peer.clone(), next.clone());
                    tokio::spawn(async move {
                        loop {
                            let job = next.lock().map_err(|e| e.to_string())?.next();
                            match job {
                                Some(job) => peer.one(job).await?,
                                None => return Ok::<(), Failure>(()),
                            }
                        }
                    })
                })
                .collect();
            for caller in callers {
                caller.await??;
            }
        }
        How::InChunks => {
            for part in jobs.chunks(CHUNK) {
                peer.bulk(part).await?;
            }
        }
    }
    Ok(())
}

/// Times an enqueue of `count` jobs into an empty queue, after a tenth as many to warm up.
async fn enqueue_rate<P: Peer>(peer: &mut P, how: How, count: usize) -> Done<f64> {
    peer.reset().await?;
    enqueue(peer, how, payloads(count.div_ceil(10))).await?;
    let jobs = payloads(count);
    let start = now();
    enqueue(peer, how, jobs).await?;
    Ok(per_second(count, now() - start))
}

/// What the worker's process is there for.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Order {
    Drain { warm_up: u64, jobs: u64 },
    Pickup { samples: usize },
}

const ORDER: &str = "PEER_WORKER";

/// This same program once more, as the worker: users run workers in processes of their own.
struct WorkerProcess {
    child: Child,
    /// It ends when this does.
    stdin: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl WorkerProcess {
    fn start(order: Order) -> Done<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .env(ORDER, serde_json::to_string(&order)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().ok_or("the worker has no output")?;
        Ok(Self {
            stdin: child.stdin.take(),
            answers: BufReader::new(stdout).lines(),
            child,
        })
    }

    async fn answer(&mut self, seconds: u64, what: &str) -> Done<Value> {
        let line = within(seconds, what, async { Ok(self.answers.next_line().await?) }).await?;
        let line = line.ok_or_else(|| format!("{what}: the worker's process ended"))?;
        let answer: Value = serde_json::from_str(&line)?;
        match answer.get("error").and_then(Value::as_str) {
            Some(error) => Err(format!("{what}: {error}").into()),
            None => Ok(answer),
        }
    }

    async fn stop(mut self) {
        drop(self.stdin.take());
        if timeout(Duration::from_secs(20), self.child.wait()).await.is_err() {
            // It may have ended just now.
            let _ = self.child.kill().await;
        }
    }
}

fn say(answer: &Value) {
    println!("{answer}");
}

/// The worker's process.
async fn work<P: Peer>(url: &str, order: Order) -> Done<()> {
    let peer = P::connect(url).await?;
    let worker = match order {
        Order::Drain { warm_up, jobs } => {
            let handled = Arc::new(AtomicU64::new(0));
            let start = Arc::new(AtomicU64::new(0));
            let all = Arc::new(Notify::new());
            let handle: Handle = {
                let (handled, start, all) = (handled.clone(), start.clone(), all.clone());
                Arc::new(move |_| {
                    let before = handled.fetch_add(1, Ordering::SeqCst);
                    // The clock starts in full flow, so that neither start-up nor a cold runtime is charged to anyone.
                    if before == warm_up {
                        start.store(now().to_bits(), Ordering::SeqCst);
                    }
                    if before + 1 == warm_up + jobs {
                        all.notify_one();
                    }
                })
            };
            let worker = peer.work(SLOTS, true, handle).await?;
            all.notified().await;
            // Run is not recorded yet.
            while peer.left().await? > 0 {
                sleep(Duration::from_millis(2)).await;
            }
            let ms = now() - f64::from_bits(start.load(Ordering::SeqCst));
            say(&json!({ "ms": ms, "handled": handled.load(Ordering::SeqCst) }));
            worker
        }
        Order::Pickup { samples } => {
            let (sender, mut taken) = mpsc::unbounded_channel();
            let handle: Handle = Arc::new(move |args: Args| {
                let took = now() - args.t.unwrap_or(f64::NAN);
                if args.ask {
                    say(&json!({ "took": took }));
                } else if args.counts {
                    // The measure may have ended.
                    let _ = sender.send(took);
                }
            });
            let worker = peer.work(SLOTS, false, handle).await?;
            say(&json!({ "ready": true }));
            tokio::spawn(async move {
                let mut all = Vec::with_capacity(samples);
                while let Some(took) = taken.recv().await {
                    all.push(took);
                    if all.len() == samples {
                        say(&json!({ "taken": all }));
                    }
                }
            });
            worker
        }
    };
    // Until the measuring process wants it to end, or is gone.
    let _ = tokio::io::stdin().read(&mut [0]).await;
    P::stop(worker).await;
    Ok(())
}

async fn drain<P: Peer>(peer: &mut P, jobs: usize) -> Done<f64> {
    let warm_up = jobs.div_ceil(20);
    peer.reset().await?;
    enqueue(peer, How::InChunks, payloads(warm_up + jobs)).await?;
    peer.prepared().await?;
    let mut worker = WorkerProcess::start(Order::Drain {
        warm_up: warm_up as u64,
        jobs: jobs as u64,
    })?;
    let answer = worker.answer(600, "draining").await;
    let left = peer.left().await;
    worker.stop().await;
    let (answer, left) = (answer?, left?);
    let handled = answer["handled"].as_u64().unwrap_or(0);
    if handled != (warm_up + jobs) as u64 {
        return Err(format!("{} jobs enqueued, {handled} run", warm_up + jobs).into());
    }
    if left != 0 {
        return Err(format!("{left} jobs left after the drain").into());
    }
    let ms = answer["ms"].as_f64().ok_or("the worker told no time")?;
    Ok(per_second(jobs, ms))
}

type Figures = Vec<(&'static str, f64)>;

/// 20 to 40 ms: a pause of uneven length, so that the system is at rest again and no timer of its own falls into step.
fn pause() -> Duration {
    Duration::from_micros(20_000 + (now() * 1e6) as u64 % 20_000)
}

async fn pickup_idle<P: Peer>(peer: &mut P, samples: usize) -> Done<Figures> {
    peer.reset().await?;
    let mut worker = WorkerProcess::start(Order::Pickup { samples: 0 })?;
    worker.answer(60, "starting the worker").await?;
    let mut took = Vec::with_capacity(samples);
    for sample in 0..samples + 20 {
        sleep(pause()).await;
        let args = Args {
            t: Some(now()),
            ask: true,
            ..Args::default()
        };
        peer.one(args).await?;
        let answer = worker.answer(60, "waiting for a job to be picked up").await?;
        if sample >= 20 {
            took.push(answer["took"].as_f64().ok_or("the worker told no time")?);
        }
    }
    worker.stop().await;
    Ok(vec![
        ("pickup_idle_p50_ms", millis(quantile(&mut took, 0.5))),
        ("pickup_idle_p99_ms", millis(quantile(&mut took, 0.99))),
    ])
}

async fn pickup_at_rate<P: Peer>(peer: &mut P, samples: usize) -> Done<Figures> {
    peer.reset().await?;
    let mut worker = WorkerProcess::start(Order::Pickup { samples })?;
    worker.answer(60, "starting the worker").await?;
    sleep(Duration::from_millis(200)).await;
    // A fifth more at the front warms up and is not counted. Jobs leave when they are due, whether or not earlier ones were
    // acknowledged: a system that falls behind shows it in its figure instead of slowing its producer down.
    let warm_up = samples.div_ceil(5);
    let total = warm_up + samples;
    let mut calls = Vec::with_capacity(total);
    let start = now();
    while calls.len() < total {
        let due = total.min(((now() - start) / 1e3 * RATE) as usize);
        while calls.len() < due {
            let args = Args {
                t: Some(now()),
                counts: calls.len() >= warm_up,
                ..Args::default()
            };
            let peer = peer.clone();
            calls.push(tokio::spawn(async move { peer.one(args).await }));
        }
        sleep(Duration::from_millis(1)).await;
    }
    within(120, "enqueueing at a steady rate", async {
        for call in calls {
            call.await??;
        }
        Ok(())
    })
    .await?;
    let acknowledged = now() - start;
    let answer = worker.answer(120, "picking up at a steady rate").await?;
    let mut taken: Vec<f64> = serde_json::from_value(answer["taken"].clone())?;
    worker.stop().await;
    Ok(vec![
        ("pickup_1000_p99_ms", millis(quantile(&mut taken, 0.99))),
        ("pickup_1000_offered", per_second(total, acknowledged)),
    ])
}

/// The figures that there are, and what became of those that there are not.
#[derive(Default)]
struct Report {
    results: BTreeMap<&'static str, Option<f64>>,
    notes: Vec<String>,
}

impl Report {
    fn add(&mut self, peer: &str, name: &'static str, taken: Done<Figures>) {
        match taken {
            Ok(figures) => {
                for (name, value) in figures {
                    log(format_args!("{peer}: {name} {value}"));
                    self.results.insert(name, Some(value));
                }
            }
            // One figure that can't be had does not cost the others.
            Err(error) => {
                log(format_args!("{peer}: {name}: {error}"));
                self.results.insert(name, None);
                self.notes.push(format!("{name}: {error}"));
            }
        }
    }
}

fn version_of(package: &str) -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let entry = format!("name = \"{package}\"\nversion = \"");
    let found = lock.split_once(&entry).and_then(|(_, rest)| rest.split_once('"'));
    found.map_or("unknown", |(version, _)| version)
}

fn jobs_asked() -> Done<usize> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [] => Ok(20_000),
        ["--jobs", n] => match n.parse() {
            Ok(n) if n >= 100 => Ok(n),
            _ => Err(format!("--jobs {n}: a whole number from 100 up").into()),
        },
        _ => Err("the one option is --jobs N".into()),
    }
}

/// Takes the measures and prints one JSON object; in the worker's process, works.
pub async fn run<P: Peer>() -> Done<()> {
    let url = std::env::var("DATABASE_URL")
        .map_err(|_| "DATABASE_URL is not set: benches/peers/run sets it, or give one of your own")?;
    if let Ok(order) = std::env::var(ORDER) {
        let done = work::<P>(&url, serde_json::from_str(&order)?).await;
        if let Err(error) = &done {
            say(&json!({ "error": error.to_string() }));
        }
        return done;
    }
    let jobs = jobs_asked()?;
    let mut peer = P::connect(&url).await?;
    let mut report = Report::default();
    let rate = |name, taken: Done<f64>| taken.map(|rate| vec![(name, rate)]);
    // One by one is slow where each waits for the disk: fewer are enough for a steady figure.
    for (name, how, count) in [
        ("enqueue_one", How::OneByOne, jobs.div_ceil(10)),
        ("enqueue_concurrent_50", How::Concurrently, jobs.div_ceil(2)),
        ("enqueue_bulk", How::InChunks, jobs),
    ] {
        let taken = enqueue_rate(&mut peer, how, count).await;
        report.add(P::NAME, name, rate(name, taken));
    }
    let taken = drain(&mut peer, jobs).await;
    report.add(P::NAME, "drain_10", rate("drain_10", taken));
    let taken = pickup_idle(&mut peer, jobs.min(IDLE_SAMPLES)).await;
    report.add(P::NAME, "pickup_idle_p99_ms", taken);
    let taken = pickup_at_rate(&mut peer, jobs.min(RATE_SAMPLES)).await;
    report.add(P::NAME, "pickup_1000_p99_ms", taken);
    peer.reset().await?;
    let Report { results, notes } = report;
    say(&json!({
        "peer": P::NAME, "version": version_of(P::PACKAGE), "settings": P::SETTINGS, "jobs": jobs, "results": results, "notes": notes,
    }));
    Ok(())
}
