//! Jobs that were claimed and wait for a slot.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use crate::domain::job::Lane;
use crate::server::store::claim::Claimed;

/// A job that was taken, and where it may kill its worker the right to run such a job.
pub(super) type Taken = (Claimed, Option<OwnedSemaphorePermit>);

/// Whoever finds no slot for this long goes back to the queue: long before leases end, which are renewed for what runs alone.
pub(super) const STRANDED: Duration = Duration::from_millis(500);

/// Those that the worker took, and those that were claimed as they were written down, whose turn it was.
#[derive(Default)]
pub(super) struct Ahead {
    /// As the index gave them.
    taken: VecDeque<Taken>,
    /// How many of those are in each lane.
    lanes: [usize; Lane::ALL.len()],
    /// Since when no slot has come free for them.
    since: Option<Instant>,
    /// With the moments at which they came.
    late: VecDeque<(Claimed, Instant)>,
    /// The last slot went to a late one.
    was_late: bool,
}

fn lane(job: &Claimed) -> usize {
    usize::try_from(job.job.priority.rank()).unwrap_or(Lane::ALL.len() - 1)
}

impl Ahead {
    /// Those that the worker took.
    pub fn taken(&self) -> usize {
        self.taken.len()
    }

    pub fn len(&self) -> usize {
        self.taken.len() + self.late.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn push(&mut self, job: Taken, now: Instant) {
        if self.taken.is_empty() {
            self.since = Some(now);
        }
        self.lanes[lane(&job.0)] += 1;
        self.taken.push_back(job);
    }

    /// One comes that was claimed as it was written down. Older jobs of its like go before it.
    pub fn arrive(&mut self, job: Claimed, now: Instant) {
        let like = |(one, _): &Taken| {
            let (one, job) = (&one.job, &job.job);
            one.owner == job.owner && one.kind == job.kind && one.queue == job.queue && one.priority == job.priority
        };
        match self.taken.iter().any(like) {
            true => self.push((job, None), now),
            false => self.late.push_back((job, now)),
        }
    }

    fn pop_taken(&mut self) -> Option<Taken> {
        let job = self.taken.pop_front()?;
        self.lanes[lane(&job.0)] -= 1;
        Some(job)
    }

    /// Who gets the next slot. Many were taken at once, and each of them has gone before whatever is late; so of two slots one is
    /// for the late ones, unless any that were taken are of a higher lane.
    pub fn pop(&mut self, now: Instant) -> Option<Taken> {
        let late = match self.late.front() {
            _ if self.taken.is_empty() => true,
            Some((job, _)) => !self.was_late && self.lanes[..lane(job)].iter().all(|jobs| *jobs == 0),
            None => false,
        };
        self.was_late = late;
        self.since = Some(now);
        match late {
            true => self.late.pop_front().map(|(job, _)| (job, None)),
            false => self.pop_taken(),
        }
    }

    /// When the first of them has waited for too long.
    pub fn deadline(&self) -> Option<Instant> {
        let taken = self.since.filter(|_| !self.taken.is_empty());
        let late = self.late.front().map(|(_, came)| *came);
        taken.into_iter().chain(late).min().map(|since| since + STRANDED)
    }

    /// Those that have waited for too long.
    pub fn stranded(&mut self, now: Instant) -> Vec<Taken> {
        let long = |since: Instant| now.saturating_duration_since(since) >= STRANDED;
        let mut stranded = Vec::new();
        if self.since.is_some_and(long) {
            stranded.extend(std::iter::from_fn(|| self.pop_taken()));
        }
        while let Some((job, _)) = self.late.pop_front_if(|(_, came)| long(*came)) {
            stranded.push((job, None));
        }
        stranded
    }

    /// All of them, and none is left.
    pub fn drain(&mut self) -> impl Iterator<Item = Taken> {
        let Self { taken, late, .. } = std::mem::take(self);
        taken.into_iter().chain(late.into_iter().map(|(job, _)| (job, None)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;
    use crate::domain::time::from_millis;
    use crate::server::store::ops::Lease;

    fn claimed(seq: i64, lane: &str, owner: &str) -> Claimed {
        let (id, at) = (Uuid::nil(), from_millis(0));
        let job = json!({
            "id": id, "type": "a", "queue": "default", "priority": lane, "status": "running", "owner": owner, "message": "",
            "attempt": 1, "max_attempts": 3, "crashes": 0, "created_at": at, "run_at": at, "rev": 1, "cancel_requested": false,
            "pause_requested": false
        });
        Claimed {
            lease: Lease { id, seq, epoch: 1 },
            job: Arc::new(serde_json::from_value(job).expect("a job")),
            args: Value::Null,
            timeout_s: 1,
            checkpoint: None,
            log_lines: 0,
            round: 1,
        }
    }

    fn taken(seq: i64, lane: &str) -> Taken {
        (claimed(seq, lane, "noisy"), None)
    }

    fn next(ahead: &mut Ahead, n: usize, now: Instant) -> Vec<i64> {
        let popped = std::iter::from_fn(|| ahead.pop(now)).take(n);
        popped.map(|(job, _)| job.lease.seq).collect()
    }

    #[test]
    fn of_two_slots_one_is_for_those_that_are_late() {
        let (mut ahead, now) = (Ahead::default(), Instant::now());
        (1..=4).for_each(|seq| ahead.push(taken(seq, "normal"), now));
        (11..=13).for_each(|seq| ahead.arrive(claimed(seq, "normal", "quiet"), now));
        assert_eq!(next(&mut ahead, 3, now), [11, 1, 12]);
        ahead.arrive(claimed(14, "normal", "quiet"), now);
        assert_eq!((ahead.taken(), ahead.len()), (3, 5));
        assert_eq!(next(&mut ahead, 9, now), [2, 13, 3, 14, 4]);
        assert!(ahead.is_empty());
    }

    #[test]
    fn older_jobs_of_its_like_and_those_of_a_higher_lane_go_before_a_late_one() {
        let (mut ahead, now) = (Ahead::default(), Instant::now());
        for (seq, lane) in [(1, "low"), (2, "high"), (3, "normal")] {
            ahead.push(taken(seq, lane), now);
        }
        ahead.arrive(claimed(11, "normal", "noisy"), now);
        ahead.arrive(claimed(12, "normal", "quiet"), now);
        ahead.arrive(claimed(13, "high", "other"), now);
        assert_eq!(next(&mut ahead, 2, now), [1, 2], "12 stands before 13");
        assert_eq!(next(&mut ahead, 9, now), [12, 3, 13, 11]);
    }

    #[test]
    fn whoever_finds_no_slot_goes_back() {
        let (mut ahead, start) = (Ahead::default(), Instant::now());
        assert_eq!(ahead.deadline(), None);
        ahead.push(taken(1, "critical"), start);
        ahead.push(taken(2, "critical"), start);
        ahead.push(taken(3, "critical"), start);
        ahead.arrive(claimed(11, "low", "quiet"), start + STRANDED / 2);
        assert_eq!(ahead.deadline(), Some(start + STRANDED));
        let now = start + STRANDED - Duration::from_millis(1);
        assert!(ahead.stranded(now).is_empty());
        assert_eq!(next(&mut ahead, 1, now), [1]);
        // A slot has come free, and none of them for the late one.
        assert_eq!(ahead.deadline(), Some(start + STRANDED / 2 + STRANDED));
        let back =
            |ahead: &mut Ahead, now| -> Vec<i64> { ahead.stranded(now).iter().map(|(job, _)| job.lease.seq).collect() };
        assert_eq!(back(&mut ahead, start + STRANDED / 2 + STRANDED), [11]);
        assert_eq!(back(&mut ahead, now + STRANDED), [2, 3]);
        assert_eq!((ahead.deadline(), ahead.len()), (None, 0));
        ahead.push(taken(4, "low"), now);
        ahead.arrive(claimed(12, "low", "quiet"), now);
        assert_eq!(ahead.drain().map(|(job, _)| job.lease.seq).collect::<Vec<_>>(), [4, 12]);
        assert_eq!((ahead.taken(), ahead.len()), (0, 0));
    }
}
