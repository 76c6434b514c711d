//! From an attempt's words to the database and the viewers. A kind may report as often as it likes: the latest progress and
//! all lines since are written together a few times a second, under the attempt's lease.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::{Backoff, Shared};
use crate::domain::error::truncate;
use crate::domain::job::{Job, percent};
use crate::domain::log::{Level, LogLine};
use crate::server::queue::Change;
use crate::server::secrets::Veil;
use crate::server::store::StoreError;
use crate::server::store::logs::Reported;
use crate::server::store::ops::Lease;

/// How often reports are written.
const EVERY: Duration = Duration::from_millis(150);
/// Lines of one attempt that may wait to be written; more than these are dropped, and the log says how many.
const WAITING_MAX: usize = 20_000;

/// What one attempt has said and what of it is not written yet.
pub struct Report {
    attempt: u32,
    state: Mutex<State>,
    wake: Arc<Notify>,
    /// One flush at a time, so that lines stay in order.
    flushing: tokio::sync::Mutex<()>,
    /// What it may not say.
    veil: Veil,
}

struct State {
    waiting: Reported,
    next_line: u64,
    dropped: u64,
    closed: bool,
}

impl Report {
    pub(super) fn new(attempt: u32, lines_before: u64, wake: Arc<Notify>) -> Self {
        Self {
            attempt,
            state: Mutex::new(State {
                waiting: Reported::default(),
                next_line: lines_before + 1,
                dropped: 0,
                closed: false,
            }),
            wake,
            flushing: tokio::sync::Mutex::default(),
            veil: Veil::default(),
        }
    }

    /// With the secrets that are left out of all that is said.
    #[must_use]
    pub(super) fn veiled(self, veil: Veil) -> Self {
        Self { veil, ..self }
    }

    pub(super) fn veil(&self) -> &Veil {
        &self.veil
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is taken any more: the lease is gone.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting = Reported::default();
    }

    pub(super) fn progress(&self, done: u64, total: u64) {
        let percent = percent(done, total);
        let mut state = self.lock();
        if !state.closed {
            state.waiting.progress = Some((percent, done, total));
            drop(state);
            self.wake.notify_one();
        }
    }

    pub(super) fn step(&self, text: String) {
        // Before it is cut: half a secret would not be known for one.
        let mut text = self.veil.text(text);
        truncate(&mut text, Job::MESSAGE_MAX);
        let mut state = self.lock();
        if !state.closed {
            state.waiting.message = Some(text);
            drop(state);
            self.wake.notify_one();
        }
    }

    pub(super) fn log(&self, level: Level, message: String) {
        let message = self.veil.text(message);
        let mut state = self.lock();
        if state.closed {
            return;
        }
        if state.waiting.lines.len() >= WAITING_MAX {
            state.dropped += 1;
            return;
        }
        if state.dropped > 0 {
            let text = format!(
                "{} lines came faster than they could be stored and were dropped",
                state.dropped
            );
            state.dropped = 0;
            state.push(self.attempt, Level::Warning, text);
        }
        state.push(self.attempt, level, message);
        drop(state);
        self.wake.notify_one();
    }

    fn take(&self) -> Option<Reported> {
        let mut state = self.lock();
        let waiting = std::mem::take(&mut state.waiting);
        let empty = waiting.progress.is_none() && waiting.message.is_none() && waiting.lines.is_empty();
        (!empty).then_some(waiting)
    }

    /// Puts back what could not be written; what was said since is newer.
    fn put_back(&self, mut old: Reported) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        let new = &mut state.waiting;
        old.lines.append(&mut new.lines);
        new.lines = old.lines;
        new.progress = new.progress.or(old.progress);
        new.message = new.message.take().or(old.message);
    }
}

impl State {
    fn push(&mut self, attempt: u32, level: Level, message: String) {
        if let Some(line) = LogLine::new(self.next_line, attempt, level, message) {
            self.next_line += 1;
            self.waiting.lines.push(line);
        }
    }
}

/// Writes what an attempt has said so far and tells the viewers.
pub(super) async fn flush(shared: &Shared, lease: Lease, report: &Report) -> Result<(), StoreError> {
    let _one = report.flushing.lock().await;
    let Some(reported) = report.take() else {
        return Ok(());
    };
    let lines = reported.lines.clone();
    match shared.service.store.report(lease, reported.clone()).await {
        Ok(job) => {
            if !lines.is_empty() {
                shared.service.bus.lines(lease.id, lines);
            }
            shared.service.bus.change(Change::Job(Arc::new(job)));
            Ok(())
        }
        Err(error) => {
            if error.is_stale() || matches!(error, StoreError::NoJob(_)) {
                stale(shared, lease);
            } else {
                report.put_back(reported);
            }
            Err(error)
        }
    }
}

/// A write was refused because the lease is gone: it is counted, and the attempt ends.
pub(super) fn stale(shared: &Shared, lease: Lease) {
    metrics::counter!("windlass_stale_writes_total").increment(1);
    tracing::warn!(job = %lease.id, epoch = lease.epoch, "a write without a lease was refused");
    shared.running.abort(lease.key());
}

/// Flushes all attempts that have something to say, until the engine stops.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut backoff = Backoff::default();
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = shared.running.reported.notified() => {}
        }
        let mut wait = EVERY;
        for attempt in shared.running.all() {
            match flush(&shared, attempt.lease, &attempt.report).await {
                Ok(()) => backoff.reset(),
                Err(error) if error.is_stale() => {}
                Err(error) => {
                    let (pause, log) = backoff.fail();
                    if log {
                        tracing::warn!(%error, "reports could not be written");
                    }
                    wait = wait.max(pause);
                    shared.running.reported.notify_one();
                }
            }
        }
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::secret::MASK;
    use crate::server::secrets::Redactor;

    fn report() -> Report {
        Report::new(2, 10, Arc::default())
    }

    #[test]
    fn only_the_latest_progress_waits_and_every_line() {
        let report = report();
        report.progress(1, 3);
        report.progress(2, 3);
        report.step("a".into());
        report.step("b".into());
        report.log(Level::Info, "x".into());
        report.log(Level::Debug, "y".into());
        let waiting = report.take().expect("something");
        assert_eq!(waiting.progress, Some((66.6, 2, 3)));
        assert_eq!(waiting.message.as_deref(), Some("b"));
        let lines: Vec<_> = waiting
            .lines
            .iter()
            .map(|l| (l.n, l.attempt, l.message.as_str()))
            .collect();
        assert_eq!(lines, [(11, 2, "x"), (12, 2, "y")]);
        assert!(report.take().is_none());
    }

    #[test]
    fn what_could_not_be_written_goes_before_what_was_said_since() {
        let report = report();
        report.log(Level::Info, "old".into());
        report.progress(1, 2);
        let old = report.take().expect("something");
        report.log(Level::Info, "new".into());
        report.progress(2, 2);
        report.put_back(old);
        let waiting = report.take().expect("something");
        assert_eq!(waiting.progress, Some((100.0, 2, 2)));
        assert_eq!(waiting.lines.iter().map(|l| l.n).collect::<Vec<_>>(), [11, 12]);
    }

    #[test]
    fn secrets_are_left_out_before_a_text_is_cut() {
        let report = report().veiled(Veil::new(&Redactor::default(), [&json!("hunter2")]));
        let long = "x".repeat(Job::MESSAGE_MAX - 9);
        report.step(format!("{long}hunter2 and more"));
        report.log(Level::Info, "hunter2, password=other".into());
        let waiting = report.take().expect("something");
        let message = waiting.message.expect("a step");
        assert!(
            message.len() <= Job::MESSAGE_MAX && !message.contains("hunt"),
            "{message}"
        );
        assert_eq!(waiting.lines[0].message, format!("{MASK}, password={MASK}"));
    }

    #[test]
    fn a_closed_report_takes_nothing() {
        let report = report();
        report.close();
        report.log(Level::Info, "x".into());
        report.progress(1, 2);
        assert!(report.take().is_none());
    }

    #[test]
    fn a_log_ends_with_a_line_that_says_so() {
        let report = Report::new(1, LogLine::LINES_MAX - 2, Arc::default());
        for _ in 0..5 {
            report.log(Level::Info, "x".into());
        }
        let lines = report.take().expect("something").lines;
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1].n, LogLine::LINES_MAX);
        assert!(lines[1].message.contains("not kept"));
    }
}
