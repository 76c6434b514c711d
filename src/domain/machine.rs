//! The state machine of a job, defined here and nowhere else: the server asks [`apply`], the dashboard asks
//! [`Status::actions`], the tests ask both. See `docs/LIFECYCLE.md` for the picture.

use super::error::JobError;
use super::status::{Outcome, Status};
use super::time::Timestamp;

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
    Complete {
        epoch: u64,
    },
    /// The attempt ended with an error; `delay_ms` is the policy's wait before the next one.
    Fail {
        epoch: u64,
        error: JobError,
        delay_ms: i64,
    },
    /// The attempt saw the wish to cancel and stopped.
    Stopped {
        epoch: u64,
    },
    /// The attempt reached a checkpoint and stopped there.
    Checkpointed {
        epoch: u64,
    },
    /// The worker shuts down and gives the job back; this costs no attempt.
    HandBack {
        epoch: u64,
    },

    /// The engine: its time has come.
    Due,
    /// The engine: all that it depends on has completed.
    Unblock,
    /// The engine: a worker takes it.
    Claim,
    /// The engine: its worker's lease ran out. `crashes_max`: so many crashes end a job, whatever attempts are left.
    LeaseLost {
        crashes_max: u32,
    },

    /// A person.
    RunNow,
    Pause {
        checkpoints: bool,
    },
    Resume,
    Cancel,
    Abort,
    Retry {
        at: Timestamp,
    },
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
            if state.cancel_requested {
                // Whoever is to stop anyway need not go on from there.
                next.status = Cancelled;
                fx.ended = Some(Outcome::Cancelled);
            } else if state.pause_requested {
                next.status = Paused;
                next.max_attempts += 1;
                fx.ended = Some(Outcome::Paused);
            } else {
                return refuse(state.status, "Pausing without having been asked");
            }
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
        Event::LeaseLost { crashes_max } => match state.status {
            Running => {
                next.crashes += 1;
                next.run_at = now;
                fx.ended = Some(Outcome::WorkerLost);
                fx.signal_abort = true;
                let ends = state.attempt >= state.max_attempts || crashed_out(next.crashes, *crashes_max);
                next.status = if ends && !state.cancel_requested {
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

/// Whether the last of so many crashes is one too many. They are counted for all of a job's life, so that it stays known for what
/// it is; a person's Retry grants as many again.
pub fn crashed_out(crashes: u32, max: u32) -> bool {
    crashes > 0 && crashes.is_multiple_of(max)
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
#[path = "machine_tests.rs"]
mod tests;
