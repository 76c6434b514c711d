//! How long attempts and claims take of late, which says how many jobs are worth claiming ahead of free slots.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Jobs that are claimed ahead of free slots at the most.
pub(super) const AHEAD_MAX: usize = 768;
/// Attempts longer than this are not short: while there are such, nothing is claimed ahead.
const SHORT: Duration = Duration::from_millis(10);
/// When none has ended for this long, those that run are not short, whatever the last ones were.
const RECENT: Duration = Duration::from_millis(50);
/// The share of the newest value in an average.
const NEWEST: f64 = 1.0 / 16.0;
/// What starting and ending an attempt costs at the least, in seconds.
const LEAST: f64 = 10e-6;

#[derive(Default)]
pub(super) struct Pace(Mutex<Times>);

#[derive(Default)]
struct Times {
    /// Seconds, as averages that forget: of an attempt; and of a claim, which falls faster than it rises.
    attempt: Option<f64>,
    claim: Option<f64>,
    /// A claim was done before: the first one finds everything cold.
    warm: bool,
    /// When an attempt last ended.
    ended: Option<Instant>,
    /// When one last took longer than [`SHORT`], or was seen to do so.
    long: Option<Instant>,
}

fn average(before: Option<f64>, newest: f64) -> Option<f64> {
    Some(before.map_or(newest, |before| before + (newest - before) * NEWEST))
}

impl Pace {
    fn times(&self) -> MutexGuard<'_, Times> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt ended after so long.
    pub fn ended(&self, took: Duration) {
        let mut times = self.times();
        times.attempt = average(times.attempt, took.as_secs_f64());
        times.ended = Some(Instant::now());
        if took > SHORT {
            times.long = times.ended;
        }
    }

    /// Attempts that have not ended take longer than was thought.
    pub fn long(&self) {
        self.times().long = Some(Instant::now());
    }

    pub fn claimed(&self, took: Duration) {
        let mut times = self.times();
        if !std::mem::replace(&mut times.warm, true) {
            return;
        }
        let took = took.as_secs_f64();
        // Whoever comes behind what was claimed ahead would wait for as long as one slow claim took.
        times.claim = match times.claim {
            Some(before) if took < before => Some((before + took) / 2.0),
            before => average(before, took),
        };
    }

    /// How many jobs so many slots get done while one claim is under way: so many are claimed ahead, so that no slot waits for a
    /// claim. A job that comes later waits behind them for about as long as a claim takes.
    pub fn ahead(&self, slots: u32) -> usize {
        let times = self.times();
        let (Some(attempt), Some(claim)) = (times.attempt, times.claim) else {
            return 0;
        };
        let none_ends = times.ended.is_none_or(|at| at.elapsed() > RECENT);
        if none_ends || times.long.is_some_and(|at| at.elapsed() < Duration::from_secs(1)) {
            return 0;
        }
        let jobs = f64::from(slots) * claim / attempt.max(LEAST);
        match jobs < 1.0 {
            true => 0,
            false => (jobs.ceil() as usize).min(AHEAD_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_claimed_ahead_as_run_meanwhile() {
        let pace = Pace::default();
        assert_eq!(pace.ahead(10), 0);
        pace.claimed(Duration::from_secs(1));
        for _ in 0..100 {
            pace.ended(Duration::from_micros(100));
            pace.claimed(Duration::from_millis(2));
        }
        assert!((200..=201).contains(&pace.ahead(10)));
        assert_eq!(pace.ahead(100), AHEAD_MAX);
        for _ in 0..200 {
            pace.ended(Duration::from_millis(5));
        }
        assert!((4..=5).contains(&pace.ahead(10)), "they take longer than a claim");
        assert_eq!(pace.ahead(2), 0, "no slot comes free while a claim is under way");
        pace.times().ended = Instant::now().checked_sub(2 * RECENT);
        assert_eq!(pace.ahead(10), 0, "none has ended for long");
        pace.ended(Duration::from_millis(11));
        assert_eq!(pace.ahead(1_000), 0, "a long one is among them");
    }
}
