//! What the workers run.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use windlass::domain::error::{ErrorCode, JobError};
use windlass::domain::kind::{Backoff, Policy};
use windlass::domain::log::{Level, LogLine};
use windlass::server::engine::context::Context;
use windlass::server::engine::kind::{Halt, Kind, Registry};
use windlass::server::store::Store;
use windlass::server::store::finish::Finish;
use windlass::server::store::logs::Reported;
use windlass::server::store::ops::Lease;

use super::ledger::{Ledger, What, Write};

/// What the jobs of this process know of it.
static PROCESS: OnceLock<Process> = OnceLock::new();

pub struct Process {
    pub dir: PathBuf,
    pub ledger: Ledger,
    pub lease: Duration,
    /// Given where attempts that have lost their lease shall write all the same.
    pub beside: Option<Store>,
}

impl Process {
    pub fn become_it(self) {
        assert!(PROCESS.set(self).is_ok(), "once");
    }
}

pub fn registry() -> Registry {
    let policy = Policy {
        max_attempts: 100_000,
        backoff: Backoff::Fixed,
        base_ms: 10,
        cap_ms: 10,
        jitter_percent: 0,
        timeout_s: 60,
        max_running: None,
        rate: None,
    };
    Registry::new(policy).with(Work).with(Risky)
}

async fn take(ms: u32) {
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    while began.elapsed() < Duration::from_millis(ms.into()) {
        tick.tick().await;
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkArgs {
    n: u32,
    ms: u32,
}

/// Takes its time, and says in the ledger when it began and ended.
pub struct Work;

#[async_trait]
impl Kind for Work {
    type Args = WorkArgs;

    fn name(&self) -> &'static str {
        "work"
    }

    fn description(&self) -> &'static str {
        "Takes its time."
    }

    async fn run(&self, ctx: &Context, args: WorkArgs) -> Result<Value, Halt> {
        let process = PROCESS.get();
        let say = |what| {
            if let Some(process) = process {
                let attempt = (ctx.job_id(), ctx.epoch());
                process.ledger.write(what, attempt, std::process::id());
            }
        };
        let running = Arc::new(());
        if let Some((process, store)) = process.and_then(|p| Some((p, p.beside.as_ref()?))) {
            let stopped = until_stopped(process.lease, Instant::now(), Arc::downgrade(&running));
            let ctx = ctx.clone();
            // A task of its own: the engine ends the attempt's as soon as it hears that the lease is gone.
            tokio::spawn(async move {
                if stopped.await {
                    intrude(process, store, &ctx).await;
                }
            });
        }
        say(What::Began);
        take(args.ms).await;
        say(What::Ended);
        drop(running);
        Ok(json!({ "n": args.n, "epoch": ctx.epoch(), "pid": std::process::id() }))
    }
}

/// Whether the process stood still for longer than a lease while the attempt ran.
async fn until_stopped(lease: Duration, mut seen: Instant, running: Weak<()>) -> bool {
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    loop {
        tick.tick().await;
        if seen.elapsed() > lease {
            return true;
        }
        if running.strong_count() == 0 {
            return false;
        }
        seen = Instant::now();
    }
}

/// Writes whatever an attempt can write, as if its lease had not run out: by the ways that a kind has, and by those that the
/// engine takes for it.
async fn intrude(process: &Process, store: &Store, ctx: &Context) {
    let attempt = (ctx.job_id(), ctx.epoch());
    let say = |write, refused: Result<(), ErrorCode>| {
        let taken = match refused {
            Ok(()) => true,
            Err(ErrorCode::WorkerLost) => false,
            Err(code) => panic!("{write:?}: {code:?} is no refusal"),
        };
        let pid = std::process::id();
        process.ledger.write(What::Wrote(write, taken), attempt, pid);
    };
    ctx.progress(99, 100);
    ctx.info("said by an attempt without a lease");
    let saved = ctx.save(&json!({ "stale": ctx.epoch() })).await;
    let code = |halt| match halt {
        Halt::Failed(error) => error.code,
        _ => ErrorCode::Internal,
    };
    say(Write::Checkpoint, saved.map_err(code));
    let file = process.dir.join(format!("stale-{}-{}", ctx.job_id(), ctx.epoch()));
    std::fs::write(&file, "stale").expect("a file");
    let published = ctx.publish_artifact("stale", "text/plain", &file).await;
    say(Write::Artifact, published.map(drop).map_err(|error| error.code));
    let row = store.job(ctx.job_id()).await.expect("read").expect("there");
    let lease = Lease {
        id: ctx.job_id(),
        seq: row.seq,
        epoch: ctx.epoch(),
    };
    let line = LogLine {
        n: LogLine::LINES_MAX + ctx.epoch(),
        at: chrono::Utc::now(),
        attempt: ctx.attempt(),
        level: Level::Info,
        message: "said by an attempt without a lease".into(),
    };
    let said = Reported {
        lines: vec![line],
        ..Reported::default()
    };
    let progress = Reported {
        progress: Some((99.0, 99, 100)),
        ..Reported::default()
    };
    let code = |error| JobError::from(error).code;
    say(Write::Lines, store.report(lease, said).await.map(drop).map_err(code));
    say(
        Write::Progress,
        store.report(lease, progress).await.map(drop).map_err(code),
    );
    let end = Finish {
        lease,
        result: Some(json!({ "stale": true }).to_string()),
        again: true,
        cpu_ms: None,
    };
    say(Write::End, store.finish(end).await.map(drop).map_err(code));
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub struct RiskyArgs {
    ms: u32,
    kills: bool,
}

/// A kind of few attempts, some of whose jobs are the death of their workers.
pub struct Risky;

#[async_trait]
impl Kind for Risky {
    type Args = RiskyArgs;

    fn name(&self) -> &'static str {
        "risky"
    }

    fn description(&self) -> &'static str {
        "Takes its time, or kills its worker."
    }

    fn policy(&self, default: Policy) -> Policy {
        Policy {
            max_attempts: 5,
            ..default
        }
    }

    async fn run(&self, _ctx: &Context, args: RiskyArgs) -> Result<Value, Halt> {
        take(args.ms).await;
        if args.kills {
            std::process::abort();
        }
        Ok(Value::Null)
    }
}
