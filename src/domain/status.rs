//! The state machine of a job, defined here and nowhere else: the server asks [`apply`], the dashboard asks
//! [`Status::actions`], the tests ask both. See `docs/LIFECYCLE.md` for the picture.

use serde::{Deserialize, Serialize};

use super::error::JobError;
use super::time::Timestamp;

/// Where a job stands. The database enforces this set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its time has not come.
    Scheduled,
    /// Waits for the jobs that it depends on.
    Blocked,
    /// In its queue.
    Pending,
    /// A worker holds its lease.
    Running,
    /// Failed, will be tried again at a known time.
    Retrying,
    /// Taken aside by a person; keeps its checkpoint.
    Paused,
    /// Finished.
    Completed,
    /// Ended by an error that no retry would cure.
    Failed,
    /// Every attempt used up.
    Dead,
    /// Stopped by a person, or by a cancelled parent.
    Cancelled,
}

impl Status {
    pub const ALL: [Self; 10] = [
        Self::Scheduled,
        Self::Blocked,
        Self::Pending,
        Self::Running,
        Self::Retrying,
        Self::Paused,
        Self::Completed,
        Self::Failed,
        Self::Dead,
        Self::Cancelled,
    ];

    /// The name on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Blocked => "blocked",
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }

    /// The name that people read.
    pub fn label(self) -> &'static str {
        match self {
            Self::Scheduled => "Scheduled",
            Self::Blocked => "Blocked",
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Retrying => "Retrying",
            Self::Paused => "Paused",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Dead => "Dead",
            Self::Cancelled => "Cancelled",
        }
    }

    /// Understands the names above in any case, and those that other systems use.
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.trim().to_ascii_lowercase();
        if let Some(status) = Self::ALL.into_iter().find(|s| s.as_str() == name) {
            return Some(status);
        }
        Some(match name.as_str() {
            "queued" | "waiting" => Self::Pending,
            "active" | "processing" => Self::Running,
            "complete" => Self::Completed,
            "dead_letter" | "dead-letter" | "dead letter" => Self::Dead,
            "canceled" => Self::Cancelled,
            _ => return None,
        })
    }

    /// Nothing happens to the job any more unless a person asks for it.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Dead | Self::Cancelled)
    }

    /// Has not started, or will start again.
    pub fn is_waiting(self) -> bool {
        !self.is_finished() && self != Self::Running
    }

    /// What a person may ask of a job in this status. `checkpoints`: whether its kind can stop in the middle.
    pub fn actions(self, checkpoints: bool) -> &'static [Action] {
        use Action::*;
        match self {
            Self::Scheduled => &[RunNow, Cancel, Delete],
            Self::Blocked => &[Cancel, Delete],
            Self::Pending => &[RunNow, Pause, Cancel, Delete],
            Self::Running if checkpoints => &[Pause, Cancel, Abort],
            Self::Running => &[Cancel, Abort],
            Self::Retrying => &[RunNow, Cancel],
            Self::Paused => &[Resume, Cancel, Delete],
            Self::Completed => &[RunAgain, Delete],
            Self::Failed | Self::Dead => &[Retry, Delete],
            Self::Cancelled => &[Delete],
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a person can ask of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    RunNow,
    Pause,
    Resume,
    Cancel,
    Abort,
    Retry,
    RunAgain,
    Delete,
}

impl Action {
    pub const ALL: [Self; 8] = [
        Self::RunNow,
        Self::Pause,
        Self::Resume,
        Self::Cancel,
        Self::Abort,
        Self::Retry,
        Self::RunAgain,
        Self::Delete,
    ];

    /// The last part of the action's address, `run-now`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RunNow => "run-now",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
            Self::Abort => "abort",
            Self::Retry => "retry",
            Self::RunAgain => "run-again",
            Self::Delete => "delete",
        }
    }

    /// The words on its button.
    pub fn label(self) -> &'static str {
        match self {
            Self::RunNow => "Run now",
            Self::Pause => "Pause",
            Self::Resume => "Resume",
            Self::Cancel => "Cancel",
            Self::Abort => "Abort",
            Self::Retry => "Retry",
            Self::RunAgain => "Run again",
            Self::Delete => "Delete",
        }
    }
}

/// The part of a job that the machine decides over. Times are by the database's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub status: Status,
    /// Attempts started so far, over all retries; the running or last attempt bears this number.
    pub attempt: u32,
    /// No attempt with a number above this starts by itself.
    pub max_attempts: u32,
    /// How many attempts a person's Retry grants anew (the policy's maximum).
    pub attempts_per_round: u32,
    /// Attempts that ended because the worker died.
    pub crashes: u32,
    /// Raised whenever the right to write about the job changes hands: at each claim, and when a running attempt
    /// is taken from its worker. A write that carries an older epoch is refused.
    pub epoch: u64,
    /// Not to be started before this.
    pub run_at: Timestamp,
    /// A person asked the running attempt to stop.
    pub cancel_requested: bool,
    /// A person asked the running attempt to stop at its next checkpoint.
    pub pause_requested: bool,
}

/// What happens to a job. The first group comes from workers and carries the epoch of their lease.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The attempt ended well.
    Complete { epoch: u64 },
    /// The attempt ended with an error; `delay_ms` is the policy's wait before the next one.
    Fail {
        epoch: u64,
        error: JobError,
        delay_ms: i64,
    },
    /// The attempt saw the wish to cancel and stopped.
    Stopped { epoch: u64 },
    /// The attempt reached a checkpoint and stopped there.
    Checkpointed { epoch: u64 },
    /// The worker shuts down and gives the job back; this costs no attempt.
    HandBack { epoch: u64 },

    /// The engine: its time has come.
    Due,
    /// The engine: all that it depends on has completed.
    Unblock,
    /// The engine: a worker takes it.
    Claim,
    /// The engine: its worker's lease ran out.
    LeaseLost,

    /// A person.
    RunNow,
    Pause { checkpoints: bool },
    Resume,
    Cancel,
    Abort,
    Retry { at: Timestamp },
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Completed,
    Failed,
    Cancelled,
    Aborted,
    Paused,
    HandedBack,
    WorkerLost,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Aborted => "aborted",
            Self::Paused => "paused",
            Self::HandedBack => "handed_back",
            Self::WorkerLost => "worker_lost",
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
            Self::Aborted => "Aborted",
            Self::Paused => "Paused",
            Self::HandedBack => "Handed back",
            Self::WorkerLost => "Worker lost",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [
            Self::Completed,
            Self::Failed,
            Self::Cancelled,
            Self::Aborted,
            Self::Paused,
            Self::HandedBack,
            Self::WorkerLost,
        ]
        .into_iter()
        .find(|o| o.as_str() == name)
    }
}

/// What has to be done besides writing the new state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// A new attempt began; it bears the new state's number.
    pub started: bool,
    /// The running attempt ended so.
    pub ended: Option<Outcome>,
    /// Tell the queue that the job waits there.
    pub announce: bool,
    /// Take the job out of the queue.
    pub withdraw: bool,
    /// Tell the attempt to stop when it can.
    pub signal_cancel: bool,
    /// Tell the attempt to stop at its next checkpoint.
    pub signal_pause: bool,
    /// End the attempt's task now.
    pub signal_abort: bool,
    /// Put it before all that waits in its queue.
    pub to_front: bool,
}

/// A change that the machine does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The event does not fit the status.
    #[error("{reason}")]
    WrongStatus { reason: String },
    /// The write carries a lease that is no longer the job's.
    #[error("the lease with epoch {epoch} has ended; the job's epoch is {current}")]
    Stale { epoch: u64, current: u64 },
}

fn refuse<T>(status: Status, event: &str) -> Result<T, Refused> {
    Err(Refused::WrongStatus {
        reason: format!("{event} is not possible: the job is {}", status.label().to_lowercase()),
    })
}

/// The state after `event` at `now`, and what has to be done besides; or why the change is not allowed. Pure: the
/// caller writes the result with a comparison on the old epoch and status.
pub fn apply(state: &State, event: &Event, now: Timestamp) -> Result<(State, Effects), Refused> {
    use Status::*;
    let mut next = state.clone();
    let mut fx = Effects::default();
    let held = |epoch: &u64| {
        if *epoch != state.epoch || state.status != Running {
            Err(Refused::Stale {
                epoch: *epoch,
                current: state.epoch,
            })
        } else {
            Ok(())
        }
    };
    match event {
        Event::Complete { epoch } => {
            held(epoch)?;
            next.status = Completed;
            fx.ended = Some(Outcome::Completed);
        }
        Event::Fail { epoch, error, delay_ms } => {
            held(epoch)?;
            fx.ended = Some(Outcome::Failed);
            next.status = if state.cancel_requested {
                Cancelled
            } else if !error.retryable {
                Failed
            } else if state.attempt >= state.max_attempts {
                Dead
            } else {
                next.run_at = now + chrono::TimeDelta::milliseconds((*delay_ms).max(0));
                fx.announce = true;
                Retrying
            };
        }
        Event::Stopped { epoch } => {
            held(epoch)?;
            if !state.cancel_requested {
                return refuse(state.status, "Stopping without having been asked");
            }
            next.status = Cancelled;
            fx.ended = Some(Outcome::Cancelled);
        }
        Event::Checkpointed { epoch } => {
            held(epoch)?;
            if !state.pause_requested {
                return refuse(state.status, "Pausing without having been asked");
            }
            next.status = Paused;
            next.max_attempts += 1;
            fx.ended = Some(Outcome::Paused);
        }
        Event::HandBack { epoch } => {
            held(epoch)?;
            fx.ended = Some(Outcome::HandedBack);
            next.max_attempts += 1;
            next.run_at = now;
            next.status = after_interruption(state, &mut fx);
        }
        Event::Due => match state.status {
            Scheduled | Retrying if state.run_at <= now => {
                next.status = Pending;
                fx.announce = true;
            }
            _ => return refuse(state.status, "Falling due"),
        },
        Event::Unblock => match state.status {
            Blocked => {
                next.status = if state.run_at > now { Scheduled } else { Pending };
                fx.announce = true;
            }
            _ => return refuse(state.status, "Unblocking"),
        },
        Event::Claim => match state.status {
            Pending if state.run_at <= now => {
                next.status = Running;
                next.epoch += 1;
                next.attempt += 1;
                fx.started = true;
            }
            _ => return refuse(state.status, "Claiming"),
        },
        Event::LeaseLost => match state.status {
            Running => {
                next.crashes += 1;
                next.run_at = now;
                fx.ended = Some(Outcome::WorkerLost);
                fx.signal_abort = true;
                next.status = if state.attempt >= state.max_attempts && !state.cancel_requested {
                    Dead
                } else {
                    after_interruption(state, &mut fx)
                };
            }
            _ => return refuse(state.status, "Losing its lease"),
        },
        Event::RunNow => match state.status {
            Scheduled | Retrying | Pending => {
                next.status = Pending;
                next.run_at = now;
                fx.announce = true;
                fx.to_front = true;
            }
            _ => return refuse(state.status, "Run now"),
        },
        Event::Pause { checkpoints } => match state.status {
            Pending => {
                next.status = Paused;
                fx.withdraw = true;
            }
            Running if *checkpoints => {
                next.pause_requested = true;
                fx.signal_pause = true;
            }
            Running => {
                return Err(Refused::WrongStatus {
                    reason: "Pause is not possible: the job runs and its kind has no checkpoints".into(),
                });
            }
            _ => return refuse(state.status, "Pause"),
        },
        Event::Resume => match state.status {
            Paused => {
                next.status = Pending;
                next.run_at = now;
                fx.announce = true;
            }
            _ => return refuse(state.status, "Resume"),
        },
        Event::Cancel => match state.status {
            Running => {
                next.cancel_requested = true;
                fx.signal_cancel = true;
            }
            Scheduled | Blocked | Pending | Retrying | Paused => {
                next.status = Cancelled;
                fx.withdraw = true;
            }
            _ => return refuse(state.status, "Cancel"),
        },
        Event::Abort => match state.status {
            Running => {
                next.status = Cancelled;
                fx.ended = Some(Outcome::Aborted);
                fx.signal_abort = true;
            }
            _ => return refuse(state.status, "Abort"),
        },
        Event::Retry { at } => match state.status {
            Failed | Dead => {
                next.run_at = (*at).max(now);
                next.status = if next.run_at > now { Scheduled } else { Pending };
                next.max_attempts = state.attempt + state.attempts_per_round.max(1);
                fx.announce = true;
            }
            _ => return refuse(state.status, "Retry"),
        },
    }
    if state.status == Running && next.status != Running {
        // Whoever held the lease can write nothing any more.
        next.epoch += 1;
        next.cancel_requested = false;
        next.pause_requested = false;
    }
    Ok((next, fx))
}

/// Where a running job goes whose attempt was cut short through no fault of its own.
fn after_interruption(state: &State, fx: &mut Effects) -> Status {
    if state.cancel_requested {
        Status::Cancelled
    } else if state.pause_requested {
        Status::Paused
    } else {
        fx.announce = true;
        Status::Pending
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
