//! Lines in the order that they go in: of each lane by their turns, and by their longest waiting jobs. Those that wait behind a
//! hold stand in such an order of their own.

use std::collections::BTreeSet;

use super::{FRONT, LANE_MS};

/// The lane of the suspects is the last one, behind those of the priorities.
pub(super) const SUSPECTS: usize = super::SUSPECTS as usize;
pub(super) const LANES: usize = SUSPECTS + 1;

/// Lines by lane and the number of their cell.
#[derive(Default)]
pub(super) struct Order {
    turns: [BTreeSet<(u64, usize)>; LANES],
    heads: [BTreeSet<(i64, usize)>; LANES],
}

impl Order {
    pub fn add(&mut self, lane: usize, cell: usize, turn: u64, head: i64) {
        self.turns[lane].insert((turn, cell));
        self.heads[lane].insert((head, cell));
    }

    pub fn remove(&mut self, lane: usize, cell: usize, turn: u64, head: i64) {
        self.turns[lane].remove(&(turn, cell));
        self.heads[lane].remove(&(head, cell));
    }

    pub fn is_empty(&self) -> bool {
        self.turns.iter().all(BTreeSet::is_empty)
    }

    /// The lane, of so many, whose longest waiting job has aged furthest.
    pub fn next_lane(&self, lanes: usize) -> Option<usize> {
        let waits = (0..lanes).filter(|lane| self.aged(*lane).is_some());
        waits.min_by_key(|lane| self.aged(*lane))
    }

    /// When a job of the highest lane would have come that goes together with the longest waiting one of this lane.
    pub fn aged(&self, lane: usize) -> Option<i64> {
        let (since, _) = self.heads[lane].first()?;
        Some(since + (lane % SUSPECTS) as i64 * LANE_MS)
    }

    /// The cell of the line in a lane whose longest waiting job shall go before all that waits, whosever turn it is.
    pub fn in_front(&self, lane: usize) -> Option<usize> {
        let (since, cell) = *self.heads[lane].first()?;
        (since <= FRONT.timestamp_millis()).then_some(cell)
    }

    /// The turn and the cell of the line that stands first in a lane.
    pub fn first(&self, lane: usize) -> Option<(u64, usize)> {
        self.turns[lane].first().copied()
    }
}
