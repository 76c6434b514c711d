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
