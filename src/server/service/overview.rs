//! Counts and health.

use super::{Service, require};
use crate::domain::error::Problem;
use crate::domain::page::{COUNT_CAP, grouped};
use crate::domain::stats::{Check, Counts, Grade, Health, HealthChecks, Overview};
use crate::domain::status::Status;
use crate::domain::time::from_millis;
use crate::domain::user::{Actor, Want, may};
use crate::server::queue::Queue;
use crate::server::store::counts::Facts;
use crate::server::store::{Store, StoreError};

/// Beyond these, health is degraded or critical (SPEC §5).
const PENDING_MAX: u64 = 100;
const FAILED_MAX: u64 = 10;
const OLDEST_MAX_S: u64 = 1_800;
const PING_MAX_S: u64 = 60;

impl Service {
    /// Whether the database answers. Anybody may ask.
    pub async fn ready(&self) -> Result<(), Problem> {
        self.store.clock().await?;
        Ok(())
    }

    /// Jobs by status, kind and queue.
    pub async fn counts(&self, actor: &Actor) -> Result<Counts, Problem> {
        require(actor, Want::ReadOwn)?;
        match may(actor, Want::ReadAll) {
            true => Ok(self.store.counts().await?),
            false => Ok(own_counts(&self.store, actor).await?),
        }
    }

    /// Counts and health in one.
    pub async fn overview(&self, actor: &Actor) -> Result<Overview, Problem> {
        require(actor, Want::ReadOwn)?;
        let overview = overview(&self.store, &*self.queue).await?;
        match may(actor, Want::ReadAll) {
            true => Ok(overview),
            false => Ok(narrowed(overview, own_counts(&self.store, actor).await?)),
        }
    }

    /// How the system fares. A database that does not answer is what the answer says, not an error.
    pub async fn health(&self, actor: &Actor) -> Result<Health, Problem> {
        require(actor, Want::ReadSystem)?;
        match overview(&self.store, &*self.queue).await {
            Ok(overview) if may(actor, Want::ReadAll) => Ok(overview.health),
            Ok(overview) => Ok(narrowed(overview, Counts::default()).health),
            Err(error) => {
                tracing::warn!(%error, "health could not ask the database");
                Ok(unreachable(self.queue.health()))
            }
        }
    }
}

/// The counts of the jobs that the actor may see, of the newest [`COUNT_CAP`] of an owner.
pub(super) async fn own_counts(store: &Store, actor: &Actor) -> Result<Counts, StoreError> {
    let owner = actor.sees_own_only().then_some(actor.name.as_str());
    store.counts_of(owner, actor.sees_kinds(), COUNT_CAP).await
}

/// What is told of the whole to those who may not see all of it: whether it is well, and nothing that counts others' jobs.
pub(super) fn narrowed(overview: Overview, counts: Counts) -> Overview {
    let Overview { mut health, at, .. } = overview;
    let checks = &mut health.checks;
    let word = if checks.workers.grade == Grade::Critical {
        "none"
    } else {
        "ok"
    };
    checks.workers.text = word.into();
    checks.warnings = match health.status {
        Grade::Healthy => Vec::new(),
        _ => vec!["The system is not quite well; its operators see why.".into()],
    };
    (checks.pending_jobs, checks.failed_jobs) = (counts.of(Status::Pending), counts.of(Status::Failed));
    (
        checks.oldest_pending_seconds,
        checks.slots,
        checks.slots_in_use,
        checks.last_sweep,
    ) = (None, 0, 0, None);
    Overview { health, counts, at }
}

pub(super) async fn overview(store: &Store, queue: &dyn Queue) -> Result<Overview, StoreError> {
    let counts = store.counts().await?;
    let facts = store.facts().await?;
    let mut health = health(&counts, &facts, queue.health());
    health.checks.last_sweep = store.last_sweep().await?;
    Ok(Overview {
        health,
        counts,
        at: from_millis(facts.now),
    })
}

fn check(grade: Grade, text: impl Into<String>) -> Check {
    Check {
        grade,
        text: text.into(),
    }
}

/// Without its index jobs still run, in a rougher order.
fn queue_check(queue: Result<&str, &str>) -> Check {
    match queue {
        Ok(text) => check(Grade::Healthy, text),
        Err(text) => check(Grade::Degraded, text),
    }
}

fn unreachable(queue: Result<&str, &str>) -> Health {
    let away = || check(Grade::Critical, "the database does not answer");
    Health {
        status: Grade::Critical,
        checks: HealthChecks {
            database: away(),
            queue: queue_check(queue),
            workers: away(),
            api: check(Grade::Degraded, "without a database"),
            pending_jobs: 0,
            failed_jobs: 0,
            oldest_pending_seconds: None,
            worker_last_ping_seconds: None,
            slots: 0,
            slots_in_use: 0,
            warnings: vec!["The database does not answer.".into()],
            last_sweep: None,
        },
    }
}

fn health(counts: &Counts, facts: &Facts, queue: Result<&str, &str>) -> Health {
    let seconds = |since: i64| u64::try_from((facts.now - since) / 1_000).unwrap_or(0);
    let (oldest, ping) = (facts.oldest_pending.map(seconds), facts.last_ping.map(seconds));
    let pending = counts.of(Status::Pending);
    // Workers report every ten seconds; a running job holds a slot from the moment of its claim.
    let in_use = u32::try_from(counts.of(Status::Running)).unwrap_or(u32::MAX);
    let mut warnings = Vec::new();
    let mut status = Grade::Healthy;
    let mut warn = |grade: Grade, text: String| {
        warnings.push(text);
        status = status.max(grade);
    };
    if pending > PENDING_MAX {
        warn(
            Grade::Degraded,
            format!("{} jobs are pending, over {PENDING_MAX}.", grouped(pending)),
        );
    }
    if facts.failed_last_hour > FAILED_MAX {
        let failed = grouped(facts.failed_last_hour);
        warn(
            Grade::Degraded,
            format!("{failed} jobs failed within the last hour, over {FAILED_MAX}."),
        );
    }
    if let Some(wait) = oldest.filter(|s| *s > OLDEST_MAX_S) {
        warn(
            Grade::Degraded,
            format!("The oldest pending job has waited for {} minutes.", wait / 60),
        );
    }
    if let Err(text) = queue {
        warn(
            Grade::Degraded,
            format!("{text}: jobs are looked for in the database until it does."),
        );
    }
    let workers = match ping {
        None => check(Grade::Critical, "none"),
        Some(s) if s > PING_MAX_S => check(Grade::Critical, format!("silent for {s} s")),
        Some(_) => check(Grade::Healthy, format!("{in_use} of {} slots in use", facts.slots)),
    };
    if workers.grade == Grade::Critical {
        warn(
            Grade::Critical,
            format!("No worker has reported within {PING_MAX_S} s: nothing runs."),
        );
    }
    Health {
        status,
        checks: HealthChecks {
            database: check(Grade::Healthy, "ok"),
            queue: queue_check(queue),
            workers,
            api: check(Grade::Healthy, "ok"),
            pending_jobs: pending,
            failed_jobs: facts.failed_last_hour,
            oldest_pending_seconds: oldest,
            worker_last_ping_seconds: ping,
            slots: facts.slots,
            slots_in_use: in_use,
            warnings,
            last_sweep: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            now: 10_000_000,
            failed_last_hour: 0,
            oldest_pending: None,
            last_ping: Some(9_995_000),
            slots: 10,
        }
    }

    fn pending(n: u64) -> Counts {
        let mut counts = Counts::default();
        counts.by_status.insert("pending".into(), n);
        counts.by_status.insert("running".into(), 2);
        counts
    }

    #[test]
    fn each_threshold_is_seen_when_it_is_passed_and_not_before() {
        let quiet = health(&pending(100), &facts(), Ok("embedded"));
        assert_eq!((quiet.status, quiet.checks.warnings.len()), (Grade::Healthy, 0));
        assert_eq!(quiet.checks.workers.text, "2 of 10 slots in use");
        let grade = |counts: Counts, facts: Facts| health(&counts, &facts, Ok("embedded")).status;
        assert_eq!(grade(pending(101), facts()), Grade::Degraded);
        let failed = |n| Facts {
            failed_last_hour: n,
            ..facts()
        };
        assert_eq!(grade(pending(0), failed(10)), Grade::Healthy);
        assert_eq!(grade(pending(0), failed(11)), Grade::Degraded);
        let oldest = |ms: i64| Facts {
            oldest_pending: Some(10_000_000 - ms),
            ..facts()
        };
        assert_eq!(grade(pending(1), oldest(1_800_000)), Grade::Healthy);
        assert_eq!(grade(pending(1), oldest(1_801_000)), Grade::Degraded);
        let ping = |ms: Option<i64>| Facts {
            last_ping: ms.map(|ms| 10_000_000 - ms),
            ..facts()
        };
        assert_eq!(grade(pending(0), ping(Some(60_000))), Grade::Healthy);
        assert_eq!(grade(pending(0), ping(Some(61_000))), Grade::Critical);
        assert_eq!(grade(pending(0), ping(None)), Grade::Critical);
        let away = health(&pending(0), &facts(), Err("Redis does not answer"));
        assert_eq!(
            (away.status, away.checks.queue.grade),
            (Grade::Degraded, Grade::Degraded)
        );
    }
}
