//! The WebSocket that brings a job's log lines: connected while there is more to come, reconnected after a break
//! from the last line on, so that nothing is missing and nothing comes twice.

use leptos::prelude::*;

use super::book::LogBook;
use crate::browser;
use crate::browser::socket::Socket;
use crate::domain::job::{Job, JobId};
use crate::domain::log::LogMessage;

/// Tries in a row before the viewer gives up.
const TRIES_MAX: u32 = 10;

/// A connection that lived this long, in milliseconds, was a good one: the next break starts counting anew.
const GOOD_AFTER_MS: i64 = 5_000;

/// After the end of a job that the page still believes unfinished, the time until that is looked at again.
const DOUBT_MS: u32 = 2_000;

/// How the viewer stands with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The first try.
    Connecting,
    Live,
    /// Broken; this is the number of the try that comes next.
    Reconnecting(u32),
    /// The job has ended and all its lines are here.
    Ended,
    /// Given up; a person can ask for another try.
    Failed,
}

/// One job's stream of lines into `book`. Lives as long as the component that made it.
#[derive(Clone, Copy)]
pub struct Feed {
    id: JobId,
    job: Signal<Job>,
    book: RwSignal<LogBook>,
    pub link: RwSignal<Link>,
    tries: StoredValue<u32>,
    opened: StoredValue<Option<i64>>,
    socket: StoredValue<Option<Socket>>,
    timer: StoredValue<Option<browser::Timer>>,
}

impl Feed {
    /// Connects in the browser as soon as the page lives, and again when an ended job goes on.
    pub fn new(job: Signal<Job>, book: RwSignal<LogBook>) -> Self {
        let feed = Self {
            id: job.with_untracked(|j| j.id),
            job,
            book,
            link: RwSignal::new(Link::Connecting),
            tries: StoredValue::new(0),
            opened: StoredValue::new(None),
            socket: StoredValue::new(None),
            timer: StoredValue::new(None),
        };
        let stage = Memo::new(move |_| job.with(|j| (j.status.is_finished(), j.attempt)));
        Effect::new(move |before: Option<(bool, u32)>| {
            let now = stage.get();
            match before {
                None => feed.connect(),
                Some(before) if !now.0 || before.1 != now.1 => {
                    if feed.link.get_untracked() == Link::Ended {
                        feed.connect();
                    }
                }
                Some(_) => {}
            }
            now
        });
        feed
    }

    /// Tries again after having given up.
    pub fn retry(self) {
        self.tries.set_value(0);
        self.link.set(Link::Reconnecting(1));
        self.connect();
    }

    fn connect(self) {
        let Some(after) = self.book.try_with_untracked(LogBook::last) else {
            return;
        };
        self.timer.try_update_value(|t| *t = None);
        self.opened.try_update_value(|o| *o = None);
        let socket = browser::socket::open(
            &format!("/api/jobs/{}/logs/ws?after={after}", self.id),
            move || {
                self.opened
                    .try_update_value(|o| *o = Some(browser::now().timestamp_millis()));
                self.link.try_set(Link::Live);
            },
            move |text| self.receive(&text),
            move |_| self.closed(),
        );
        let refused = socket.is_none();
        self.socket.try_update_value(|s| *s = socket);
        if refused {
            self.closed();
        }
    }

    fn receive(self, text: &str) {
        match serde_json::from_str::<LogMessage>(text) {
            Ok(LogMessage::Lines { lines }) => {
                self.tries.try_update_value(|t| *t = 0);
                if !lines.is_empty() {
                    self.book.try_update(|book| book.add(lines));
                }
            }
            Ok(LogMessage::End) => {
                self.link.try_set(Link::Ended);
                // The job may have been started again while the word of its end was on the way.
                self.wait(DOUBT_MS, move || {
                    let unfinished = self.job.try_with_untracked(|j| !j.status.is_finished()) == Some(true);
                    if unfinished && self.link.try_get_untracked() == Some(Link::Ended) {
                        self.connect();
                    }
                });
            }
            Err(e) => leptos::logging::warn!("a log message can't be read: {e}"),
        }
    }

    fn closed(self) {
        if self.link.try_get_untracked().is_none_or(|l| l == Link::Ended) {
            return;
        }
        let lived = self
            .opened
            .try_get_value()
            .flatten()
            .map(|at| browser::now().timestamp_millis() - at);
        let good = lived.is_some_and(|ms| ms >= GOOD_AFTER_MS);
        let tries = self.tries.try_get_value().map_or(1, |t| if good { 1 } else { t + 1 });
        self.tries.try_update_value(|t| *t = tries);
        if tries > TRIES_MAX {
            self.link.try_set(Link::Failed);
            return;
        }
        self.link.try_set(Link::Reconnecting(tries));
        self.wait(delay_ms(tries, browser::random()), move || self.connect());
    }

    fn wait(self, ms: u32, then: impl FnOnce() + 'static) {
        let timer = browser::after(ms, then);
        self.timer.try_update_value(|t| *t = Some(timer));
    }
}

/// 0.5, 1, 2, 4, 8, 8 … s before try number `n` (from 1), and up to a fifth more: `random` in 0..1 says how much.
fn delay_ms(n: u32, random: f64) -> u32 {
    let base = 500 * 2u32.pow(n.saturating_sub(1).min(4));
    base + (f64::from(base) / 5.0 * random) as u32
}

#[cfg(test)]
mod tests {
    use super::delay_ms;

    #[test]
    fn waits_double_up_to_eight_seconds() {
        let waits: Vec<_> = (1..=7).map(|n| delay_ms(n, 0.0)).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000]);
        assert_eq!(delay_ms(1, 1.0), 600);
        assert_eq!(delay_ms(0, 0.0), 500);
    }
}
