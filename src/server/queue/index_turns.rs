//! Turns that owners take, those of jobs that the index never has among them.

use super::{Cell, Hold, Index, OWNERS_MAX, STEP, SUSPECTS};
use crate::server::queue::LANE_MS;

impl Index {
    /// Moves an owner's turn on for a job that is not in the index, if it may go now, in the milliseconds since 1970 that jobs wait
    /// since: none of its cell waits in its lane; nobody in it has had less than its owner; and no job of another lane is to go
    /// before a fresh one of this lane. Not when any limit is known to have refused its like of late, or lines wait to come back.
    pub fn take_turn(&mut self, lane: u8, cell: &Cell, now: i64) -> bool {
        let lane = usize::from(lane);
        let waits = |number: &usize| self.lines.contains_key(&(lane, *number));
        let held = !self.holds.is_empty() && Hold::of(cell).any(|hold| self.holds.contains_key(&hold));
        if lane >= SUSPECTS || held || self.is_thawing() || self.numbers.get(cell).is_some_and(waits) {
            return false;
        }
        let own = self.owners.get(&cell.owner).copied();
        let turn = self.turn.max(own.unwrap_or(0));
        // Whoever may kill their worker wait for another right than a slot.
        let goes = match self.active.next_lane(SUSPECTS) {
            None => true,
            Some(next) if next == lane => {
                // Whatever is in front goes first.
                let first = match self.active.in_front(lane) {
                    Some(_) => None,
                    None => self.next(None, SUSPECTS),
                };
                first.is_some_and(|(_, _, first)| first >= turn)
            }
            Some(next) => {
                let fresh = now.saturating_add(lane as i64 * LANE_MS);
                self.active.first(lane).is_none() && self.active.aged(next).is_some_and(|aged| aged > fresh)
            }
        };
        if goes {
            self.serve(&cell.owner, turn);
        }
        goes
    }

    /// An owner had this turn. Answers with what their next one was.
    pub(super) fn serve(&mut self, owner: &str, turn: u64) -> Option<u64> {
        self.turn = self.turn.max(turn);
        let before = self.owners.insert(owner.to_owned(), turn + STEP);
        if self.owners.len() > OWNERS_MAX {
            let served = self.turn;
            self.owners.retain(|_, own| *own > served);
        }
        before
    }
}
