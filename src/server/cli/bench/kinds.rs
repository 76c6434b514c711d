//! What the measures run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

use crate::domain::error::{ErrorCode, JobError};
use crate::domain::kind::{Backoff, Policy};
use crate::server::engine::context::Context;
use crate::server::engine::kind::{Halt, Kind, Registry};

/// What jobs that do nothing have done.
#[derive(Default)]
pub struct Tally {
    /// Jobs that warm up. Set before the first one runs.
    warm_up: OnceLock<u64>,
    ran: AtomicU64,
    /// When the first one after those began.
    began: OnceLock<Instant>,
}

impl Tally {
    pub fn warm_up(&self, jobs: u64) {
        // A system is measured once.
        let _ = self.warm_up.set(jobs);
    }

    pub fn ran(&self) -> u64 {
        self.ran.load(Ordering::SeqCst)
    }

    pub fn began(&self) -> Option<Instant> {
        self.began.get().copied()
    }
}

/// Does nothing, as the jobs of other systems' benchmarks do.
pub struct Noop(pub Arc<Tally>);

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoopArgs {
    n: u32,
}

#[async_trait]
impl Kind for Noop {
    type Args = NoopArgs;

    fn name(&self) -> &'static str {
        "noop"
    }

    fn description(&self) -> &'static str {
        "Does nothing; running twice does it twice."
    }

    async fn run(&self, _: &Context, _: NoopArgs) -> Result<Value, Halt> {
        let before = self.0.ran.fetch_add(1, Ordering::SeqCst);
        if self.0.warm_up.get() == Some(&before) {
            // Only one is the first.
            let _ = self.0.began.set(Instant::now());
        }
        Ok(Value::Null)
    }
}

/// What a job says of its run.
pub struct Seen {
    /// The number in its args.
    pub n: u32,
    pub started: Instant,
    pub ended: Instant,
}

/// Says when it started.
pub struct Probe(pub Arc<UnboundedSender<Seen>>);

#[async_trait]
impl Kind for Probe {
    type Args = NoopArgs;

    fn name(&self) -> &'static str {
        "probe"
    }

    fn description(&self) -> &'static str {
        "Says when it started; running twice says it twice."
    }

    async fn run(&self, _: &Context, args: NoopArgs) -> Result<Value, Halt> {
        let now = Instant::now();
        // The measure may have ended.
        let _ = self.0.send(Seen {
            n: args.n,
            started: now,
            ended: now,
        });
        Ok(Value::Null)
    }
}

/// Keeps its slot for five milliseconds, and says when it started and ended.
pub struct Busy(pub Arc<UnboundedSender<Seen>>);

#[async_trait]
impl Kind for Busy {
    type Args = NoopArgs;

    fn name(&self) -> &'static str {
        "busy"
    }

    fn description(&self) -> &'static str {
        "Takes five milliseconds and says when it started and ended; running twice does so twice."
    }

    async fn run(&self, _: &Context, args: NoopArgs) -> Result<Value, Halt> {
        let started = Instant::now();
        tokio::time::sleep(Duration::from_millis(5)).await;
        // The measure may have ended.
        let _ = self.0.send(Seen {
            n: args.n,
            started,
            ended: Instant::now(),
        });
        Ok(Value::Null)
    }
}

/// Logs a hundred thousand lines a second.
pub struct Chatter;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatterArgs {
    lines: u32,
}

#[async_trait]
impl Kind for Chatter {
    type Args = ChatterArgs;

    fn name(&self) -> &'static str {
        "chatter"
    }

    fn description(&self) -> &'static str {
        "Logs lines; running twice logs them twice."
    }

    async fn run(&self, ctx: &Context, args: ChatterArgs) -> Result<Value, Halt> {
        for n in 0..args.lines {
            ctx.info(format!("line {n}: the quick brown fox jumps over the lazy dog"));
            // Lines that wait to be stored are bounded; a real job does something between them.
            if n % 1_000 == 999 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(Value::Null)
    }
}

/// How the jobs of a kind end that fill a database to be read.
#[derive(Clone, Copy)]
enum End {
    Completed,
    /// By an error that no retry cures.
    Failed,
    /// By one that would be worth a retry, but there is none.
    Dead,
    /// It is to be tried again in a day.
    Retrying,
    /// Not before it is told to.
    Never,
}

/// One of them.
struct Sample {
    name: &'static str,
    end: End,
}

/// Kinds whose jobs complete, how many of a hundred such jobs each has, and those whose jobs end otherwise.
pub const COMPLETE: [(&str, u32); 4] = [("mail", 60), ("thumbnail", 25), ("report", 10), ("invoice", 5)];
pub const FAILS: &str = "refused";
pub const DIES: &str = "unlucky";
pub const RETRIES: &str = "patient";
pub const STAYS: &str = "endless";

/// Adds them.
pub fn for_reading(registry: Registry) -> Registry {
    let ends = [
        (FAILS, End::Failed),
        (DIES, End::Dead),
        (RETRIES, End::Retrying),
        (STAYS, End::Never),
    ];
    let complete = COMPLETE.map(|(name, _)| (name, End::Completed));
    let all = complete.into_iter().chain(ends);
    all.fold(registry, |registry, (name, end)| registry.with(Sample { name, end }))
}

#[async_trait]
impl Kind for Sample {
    type Args = NoopArgs;

    fn name(&self) -> &'static str {
        self.name
    }

    fn description(&self) -> &'static str {
        "Ends as others of its kind; running twice ends so twice."
    }

    fn policy(&self, default: Policy) -> Policy {
        const DAY_MS: u64 = 86_400_000;
        match self.end {
            End::Dead => Policy {
                max_attempts: 1,
                ..default
            },
            End::Retrying => Policy {
                backoff: Backoff::Fixed,
                base_ms: DAY_MS,
                cap_ms: DAY_MS,
                ..default
            },
            End::Never => Policy {
                timeout_s: DAY_MS / 1_000,
                ..default
            },
            End::Completed | End::Failed => default,
        }
    }

    async fn run(&self, ctx: &Context, args: NoopArgs) -> Result<Value, Halt> {
        let n = args.n;
        match self.end {
            End::Completed => Ok(Value::Null),
            End::Failed => Err(JobError::new(ErrorCode::Validation, format!("row {n} has no amount")).into()),
            End::Dead | End::Retrying => {
                let host = n % 50;
                let text = format!("the connection to backend-{host} was refused");
                Err(JobError::new(ErrorCode::NetworkError, text).into())
            }
            End::Never => loop {
                if ctx.cancelled() {
                    return Err(Halt::Cancelled);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            },
        }
    }
}
