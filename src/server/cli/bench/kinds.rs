//! What the measures run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

use crate::server::engine::context::Context;
use crate::server::engine::kind::{Halt, Kind};

/// Does nothing, as the jobs of other systems' benchmarks do.
pub struct Noop;

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
