//! What happened over time.

use super::{Service, require};
use crate::domain::error::Problem;
use crate::domain::stats::{Metric, Series, Step, Took};
use crate::domain::time::from_millis;
use crate::domain::user::{Actor, Want};

/// Steps that one answer holds at the most.
const STEPS_MAX: u32 = 1_500;
/// Minutes that are asked for at the most: a month.
const MINUTES_MAX: u32 = 31 * 24 * 60;

/// Which part of the past.
#[derive(Clone, Debug, Default)]
pub struct SeriesQuery {
    /// Up to now; 60 unless told otherwise.
    pub minutes: Option<u32>,
    /// Minutes of a step; 1 unless told otherwise.
    pub step: Option<u32>,
    pub kind: Option<String>,
    pub queue: Option<String>,
}

impl Service {
    /// What was enqueued and ended, and how long jobs waited and ran, in steps up to now.
    pub async fn series(&self, actor: &Actor, query: &SeriesQuery) -> Result<Series, Problem> {
        require(actor, Want::ReadAll)?;
        let (minutes, step) = (query.minutes.unwrap_or(60), query.step.unwrap_or(1));
        if !(1..=MINUTES_MAX).contains(&minutes) {
            let detail = format!("minutes {minutes} is not within 1 to {MINUTES_MAX}");
            return Err(Problem::invalid("minutes", detail));
        }
        if !(1..=minutes).contains(&step) || minutes.div_ceil(step) > STEPS_MAX {
            let detail = format!("step {step} is not within 1 to {minutes}, or makes more than {STEPS_MAX} steps");
            return Err(Problem::invalid("step", detail));
        }
        let width = i64::from(step);
        let until = self.store.clock().await? / 60_000 / width * width + width;
        let count = i64::from(minutes.div_ceil(step));
        let from = until - count * width;
        let happened = self
            .store
            .happened(from, until, query.kind.as_deref(), query.queue.as_deref())
            .await?;
        let mut steps = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        let mut rest = happened.as_slice();
        for start in (from..until).step_by(usize::try_from(width).unwrap_or(1)) {
            let end = rest.partition_point(|h| h.minute < start + width);
            let (own, later) = rest.split_at(end);
            rest = later;
            let sum = |metric| own.iter().filter(|h| h.metric == metric).map(|h| h.n).sum();
            let took = |metric| {
                let mut buckets = [0_u64; 64];
                for h in own.iter().filter(|h| h.metric == metric) {
                    buckets[(h.bucket as usize).min(63)] += h.n;
                }
                Took::of(&buckets)
            };
            steps.push(Step {
                at: from_millis(start * 60_000),
                enqueued: sum(Metric::Enqueued),
                completed: sum(Metric::Completed),
                failed: sum(Metric::Failed),
                dead: sum(Metric::Dead),
                cancelled: sum(Metric::Cancelled),
                retried: sum(Metric::Retried),
                wait: took(Metric::Wait),
                run: took(Metric::Run),
            });
        }
        Ok(Series {
            step_minutes: step,
            steps,
        })
    }
}
