//! A job's life as people read it. What an attempt's row tells is not stored a second time as a transition: that a job was
//! enqueued and waits is in its row, that an attempt began and how a completed one ended is in the attempt.

use crate::domain::job::{Attempt, JobHistory, Transition};
use crate::domain::status::{Outcome, Status};

use super::jobs::JobRow;

/// Puts together what is stored (`attempts` that have ended; `stored` transitions, each with the number of the attempt that
/// ran then or ran last; both in order) and what the row tells.
pub(super) fn whole(row: &JobRow, mut attempts: Vec<Attempt>, stored: Vec<(u32, Transition)>) -> JobHistory {
    let job = &row.job;
    if let (Status::Running, Some(started_at)) = (job.status, job.started_at) {
        attempts.push(Attempt {
            cpu_ms: None,
            number: job.attempt,
            worker: job.worker.clone().unwrap_or_default(),
            started_at,
            ended_at: None,
            outcome: None,
            error: None,
        });
    }
    // In the order of the attempts: the beginning of one, then what was done to it or after it, and a good end last.
    let mut steps: Vec<(u32, u8, Transition)> = Vec::with_capacity(stored.len() + 2 * attempts.len() + 1);
    if stored.first().is_none_or(|(_, first)| first.from.is_some()) {
        let told = Transition {
            at: job.created_at,
            from: None,
            to: Status::Pending,
            by: job.owner.clone(),
            reason: "enqueued".into(),
        };
        steps.push((0, 0, told));
    }
    for attempt in &attempts {
        let told = |at, from, to, reason: String| Transition {
            at,
            from: Some(from),
            to,
            by: attempt.worker.clone(),
            reason,
        };
        let reason = format!("attempt {}", attempt.number);
        let began = told(attempt.started_at, Status::Pending, Status::Running, reason);
        steps.push((attempt.number, 0, began));
        if let (Some(Outcome::Completed), Some(at)) = (attempt.outcome, attempt.ended_at) {
            let ended = told(at, Status::Running, Status::Completed, String::new());
            steps.push((attempt.number, 2, ended));
        }
    }
    steps.extend(stored.into_iter().map(|(attempt, step)| (attempt, 1, step)));
    // Stable: stored ones keep their order.
    steps.sort_by_key(|(attempt, part, _)| (*attempt, *part));
    JobHistory {
        attempts,
        transitions: steps.into_iter().map(|(_, _, step)| step).collect(),
    }
}
