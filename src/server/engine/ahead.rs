//! Jobs that were claimed and wait for a slot.

use std::collections::VecDeque;

use tokio::sync::OwnedSemaphorePermit;

use crate::server::store::claim::Claimed;

/// A job that was taken, and where it may kill its worker the right to run such a job.
pub(super) type Taken = (Claimed, Option<OwnedSemaphorePermit>);

/// Those that the worker took, and those that were claimed as they were written down, whose turn it was.
#[derive(Default)]
pub(super) struct Ahead {
    /// As the index gave them.
    taken: VecDeque<Taken>,
    late: VecDeque<Claimed>,
    /// The last slot went to a late one.
    was_late: bool,
}

impl Ahead {
    pub fn len(&self) -> usize {
        self.taken.len() + self.late.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn push(&mut self, job: Taken) {
        self.taken.push_back(job);
    }

    pub fn arrive(&mut self, job: Claimed) {
        self.late.push_back(job);
    }

    /// Who gets the next slot. Many were taken at once, and each of them has gone before whatever is late; so of two slots one is
    /// for the late ones, unless those that were taken are of a higher lane.
    pub fn pop(&mut self) -> Option<Taken> {
        let late = match (self.taken.front(), self.late.front()) {
            (Some((taken, _)), Some(late)) => !self.was_late && late.job.priority.rank() <= taken.job.priority.rank(),
            (None, late) => late.is_some(),
            (Some(_), None) => false,
        };
        self.was_late = late;
        match late {
            true => self.late.pop_front().map(|job| (job, None)),
            false => self.taken.pop_front(),
        }
    }

    /// All of them, and none is left.
    pub fn drain(&mut self) -> impl Iterator<Item = Taken> {
        let Self { taken, late, .. } = std::mem::take(self);
        taken.into_iter().chain(late.into_iter().map(|job| (job, None)))
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

    fn claimed(seq: i64, lane: &str) -> Claimed {
        let (id, at) = (Uuid::nil(), from_millis(0));
        let job = json!({
            "id": id, "type": "a", "queue": "default", "priority": lane, "status": "running", "owner": "", "message": "", "attempt": 1,
            "max_attempts": 3, "crashes": 0, "created_at": at, "run_at": at, "rev": 1, "cancel_requested": false, "pause_requested": false
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

    fn next(ahead: &mut Ahead, n: usize) -> Vec<i64> {
        let popped = std::iter::from_fn(|| ahead.pop()).take(n);
        popped.map(|(job, _)| job.lease.seq).collect()
    }

    #[test]
    fn of_two_slots_one_is_for_those_that_are_late() {
        let mut ahead = Ahead::default();
        (1..=4).for_each(|seq| ahead.push((claimed(seq, "normal"), None)));
        (11..=13).for_each(|seq| ahead.arrive(claimed(seq, "normal")));
        assert_eq!(next(&mut ahead, 3), [11, 1, 12]);
        ahead.arrive(claimed(14, "normal"));
        assert_eq!(next(&mut ahead, 9), [2, 13, 3, 14, 4]);
        assert!(ahead.is_empty());
    }

    #[test]
    fn a_higher_lane_goes_first_and_all_can_be_taken_out() {
        let mut ahead = Ahead::default();
        ahead.push((claimed(1, "critical"), None));
        ahead.push((claimed(2, "low"), None));
        ahead.arrive(claimed(11, "normal"));
        ahead.arrive(claimed(12, "normal"));
        assert_eq!(next(&mut ahead, 2), [1, 11]);
        assert_eq!(ahead.drain().map(|(job, _)| job.lease.seq).collect::<Vec<_>>(), [2, 12]);
        assert_eq!(ahead.len(), 0);
    }
}
