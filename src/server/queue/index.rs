//! The order in which waiting jobs go: lanes with ageing, turns among owners, and cells that are held back. The scripts that
//! do the same within Redis (`redis/*.lua`) are written after this, and a test compares the two.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::order::{LANES, Order, SUSPECTS};
use super::places::{Place, Places};
use super::sorted::Sorted;
use super::{Cell, Entry, Hold};

/// By how much a job moves its owner's turn on. Lines that come back from behind a hold together stand closer to each other.
const STEP: u64 = 1_024;
/// Lines behind one hold that come back together at the most: fewer than a [`STEP`].
const THAW_MAX: usize = 512;
/// Owners whose turns are remembered, but for those that are ahead of all others.
const OWNERS_MAX: usize = 10_000;

/// A job on its way to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub entry: Entry,
    /// The turn that it went with, and how far that moved its owner's on.
    turn: u64,
    paid: u64,
}

/// The jobs of one cell in one lane.
#[derive(Default)]
struct Line {
    jobs: Sorted,
    state: LineState,
}

#[derive(Clone, Debug, Default, PartialEq)]
enum LineState {
    /// Has no jobs.
    #[default]
    Empty,
    /// Takes its turns, or waits for a hold to end: with this turn and this head.
    Waits { turn: u64, head: i64, behind: Option<Hold> },
}

/// What a limit has refused of late, or a key that a claimed job has.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Held {
    /// Until when this is known, in milliseconds of the caller's clock.
    until: i64,
    /// Nothing goes; or so many places of the limit were given up since, and not taken again. Somebody else may have taken or
    /// given up more: one job may always try.
    free: Option<u32>,
}

/// Lines by cell and lane, and who goes next.
#[derive(Default)]
pub struct Index {
    cells: Vec<Cell>,
    numbers: HashMap<Cell, usize>,
    lines: HashMap<(usize, usize), Line>,
    places: Places,
    /// The lines that nothing is known to hold back.
    active: Order,
    /// The turn that was served last.
    turn: u64,
    /// The next turn of each owner; who waits behind a hold may be behind the one that was served last.
    owners: HashMap<String, u64>,
    holds: HashMap<Hold, Held>,
    /// The same by their ends.
    ends: BTreeSet<(i64, Hold)>,
    /// The others, by the turns of their owners: for as long as a hold lasts, whoever had less goes first.
    parked: BTreeMap<Hold, Order>,
    /// Holds that have ended while lines are still parked behind them.
    thawing: BTreeSet<Hold>,
}

impl Index {
    pub fn insert(&mut self, entry: &Entry) {
        let lane = usize::from(entry.lane).min(LANES - 1);
        let cell = self.number(&entry.cell);
        if let Some(old) = self.places.get(entry.seq) {
            if usize::from(old.lane) == lane && old.since == entry.since && old.cell as usize == cell {
                return;
            }
            self.remove(entry.seq);
        }
        let since = entry.since;
        let place = Place {
            since,
            cell: u32::try_from(cell).unwrap_or(u32::MAX),
            lane: lane as u8,
        };
        self.places.insert(entry.seq, place);
        let line = self.lines.entry((lane, cell)).or_default();
        line.jobs.insert((since, entry.seq));
        self.refresh(lane, cell);
    }

    pub fn remove(&mut self, seq: i64) {
        let Some(place) = self.places.remove(seq) else { return };
        let (lane, cell) = (usize::from(place.lane), place.cell as usize);
        if let Some(line) = self.lines.get_mut(&(lane, cell)) {
            line.jobs.remove(&(place.since, seq));
        }
        self.refresh(lane, cell);
    }

    /// These were taken and wait again as if they had not been: a job that did not run was no turn of its owner's, or whoever
    /// is refused behind a limit would stand no better than those that ran.
    pub fn give_back(&mut self, back: &[Taken]) {
        for one in back {
            if let Some(own) = self.owners.get_mut(&one.entry.cell.owner) {
                *own = own.saturating_sub(one.paid);
            }
        }
        for one in back {
            self.insert(&one.entry);
        }
        for one in back {
            let Some(place) = self.places.get(one.entry.seq) else {
                continue;
            };
            let (lane, cell) = (usize::from(place.lane), place.cell as usize);
            let own = self.owners.get(&one.entry.cell.owner).copied();
            if let Some(LineState::Waits { turn, behind, .. }) = self.lines.get(&(lane, cell)).map(|line| &line.state) {
                let was = match behind {
                    Some(_) => own.unwrap_or(one.turn),
                    None => one.turn,
                };
                if was < *turn {
                    self.set_turn(lane, cell, was);
                }
            }
        }
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Holds back whatever shares `hold`, until that moment.
    pub fn hold(&mut self, hold: &Hold, until: i64) {
        self.thawing.remove(hold);
        if let Some(before) = self.holds.insert(hold.clone(), Held { until, free: None }) {
            self.ends.remove(&(before.until, hold.clone()));
        }
        self.ends.insert((until, hold.clone()));
    }

    /// So many places of a limit were given up, or a queue goes again. Whether anything was held back by it.
    pub fn release(&mut self, hold: &Hold, places: u32) -> bool {
        match self.holds.get_mut(hold) {
            Some(held) if hold.has_places() => held.free = Some(held.free.unwrap_or(0).saturating_add(places)),
            Some(_) => return self.lift(hold),
            None => {}
        }
        self.let_go(hold)
    }

    /// Nothing is known to be in the way any more.
    fn lift(&mut self, hold: &Hold) -> bool {
        if let Some(held) = self.holds.remove(hold) {
            self.ends.remove(&(held.until, hold.clone()));
        }
        self.let_go(hold)
    }

    /// Whoever is parked behind it comes back with the next looks.
    fn let_go(&mut self, hold: &Hold) -> bool {
        let any = self.parked.contains_key(hold);
        if any {
            self.thawing.insert(hold.clone());
        }
        any
    }

    /// What keeps a cell's jobs where they are, when those that share the `tried` ones had their try.
    fn stopped(&self, cell: usize, tried: &HashSet<Hold>) -> Option<Hold> {
        let cell = &self.cells[cell];
        if self.holds.is_empty() && tried.is_empty() {
            return None;
        }
        Hold::of(cell).find(|hold| match self.holds.get(hold) {
            Some(Held { free: None, .. }) => true,
            Some(Held { free: Some(free), .. }) => *free == 0 && tried.contains(hold),
            None => tried.contains(hold),
        })
    }

    /// One of the cell's jobs goes, which may take a place of the limits that it is under.
    fn try_place(&mut self, cell: usize, tried: &mut HashSet<Hold>) {
        let cell = &self.cells[cell];
        if self.holds.is_empty() && cell.key.is_none() {
            return;
        }
        for hold in Hold::of(cell) {
            match self.holds.get_mut(&hold) {
                Some(Held { free: Some(free), .. }) => *free = free.saturating_sub(1),
                // Of a key there is one place, and whoever is refused would be so again and again.
                None if matches!(hold, Hold::Key(_)) => {}
                _ => continue,
            }
            tried.insert(hold);
        }
    }

    /// The first jobs, at most `max`, at the moment `now`; at most one suspect, and none unless `suspect`. Of those that share a
    /// key there is at most one, and of those that share a limit that refused some of late as many as places came free, or one:
    /// the others would be looked up only to be refused.
    pub fn take(&mut self, max: usize, now: i64, suspect: bool) -> Vec<Taken> {
        let mut lanes = if suspect { LANES } else { SUSPECTS };
        let mut taken = Vec::new();
        let mut tried = HashSet::new();
        // Whatever thawed and was stopped by something else makes room for those behind it.
        let mut thawed = self.thaw(max, now, lanes);
        while taken.len() < max {
            let Some((lane, cell, turn)) = self.next(None, lanes) else {
                if taken.is_empty() && thawed {
                    thawed = self.thaw(max, now, lanes);
                    continue;
                }
                break;
            };
            if let Some(hold) = self.stopped(cell, &tried) {
                let own = self.owners.get(&self.cells[cell].owner).copied();
                let tries_again = self.holds.get(&hold).is_none_or(|held| held.free.is_some());
                self.put(lane, cell, own.unwrap_or(turn), Some(hold.clone()));
                if tries_again {
                    self.thawing.insert(hold);
                }
                continue;
            }
            self.try_place(cell, &mut tried);
            taken.extend(self.pop(lane, cell, turn));
            if lane == SUSPECTS {
                lanes = SUSPECTS;
            }
        }
        taken
    }

    fn number(&mut self, cell: &Cell) -> usize {
        if let Some(number) = self.numbers.get(cell) {
            return *number;
        }
        self.forget_empty_cells();
        self.cells.push(cell.clone());
        self.numbers.insert(cell.clone(), self.cells.len() - 1);
        self.cells.len() - 1
    }

    /// Cells are numbered anew when most of them are empty, so that keys that come and go don't pile up.
    fn forget_empty_cells(&mut self) {
        if self.cells.len() < 1_024 || self.lines.len() * 2 > self.cells.len() {
            return;
        }
        let entries: Vec<Entry> = self.places.seqs().filter_map(|seq| self.entry(seq)).collect();
        let fresh = Self {
            turn: self.turn,
            owners: std::mem::take(&mut self.owners),
            holds: std::mem::take(&mut self.holds),
            ends: std::mem::take(&mut self.ends),
            ..Self::default()
        };
        *self = fresh;
        for cell in entries.iter().map(|e| &e.cell) {
            if !self.numbers.contains_key(cell) {
                self.numbers.insert(cell.clone(), self.cells.len());
                self.cells.push(cell.clone());
            }
        }
        for entry in &entries {
            self.insert(entry);
        }
    }

    fn entry(&self, seq: i64) -> Option<Entry> {
        let place = self.places.get(seq)?;
        Some(Entry {
            seq,
            lane: place.lane,
            since: place.since,
            cell: self.cells[place.cell as usize].clone(),
        })
    }

    /// The turn that a line begins with. Who had none to wait gains nothing by it, and owes nothing.
    fn enter(&mut self, cell: usize) -> u64 {
        let owner = &self.cells[cell].owner;
        match self.owners.get(owner) {
            Some(own) => self.turn.max(*own),
            None => {
                if self.owners.len() < OWNERS_MAX {
                    self.owners.insert(owner.clone(), self.turn);
                }
                self.turn
            }
        }
    }

    /// Brings a line's place among the others up to date with its jobs.
    fn refresh(&mut self, lane: usize, cell: usize) {
        let Some(line) = self.lines.get(&(lane, cell)) else {
            return;
        };
        let head = line.jobs.first().map(|(since, _)| since);
        let before = line.state.clone();
        let after = match (&before, head) {
            (_, None) => LineState::Empty,
            (LineState::Empty, Some(head)) => LineState::Waits {
                turn: self.enter(cell),
                head,
                behind: None,
            },
            (LineState::Waits { turn, behind, .. }, Some(head)) => LineState::Waits {
                turn: *turn,
                head,
                behind: behind.clone(),
            },
        };
        if after == LineState::Empty {
            self.lines.remove(&(lane, cell));
        } else if let Some(line) = self.lines.get_mut(&(lane, cell)) {
            line.state = after.clone();
        }
        self.moved(lane, cell, &before, &after);
    }

    fn moved(&mut self, lane: usize, cell: usize, before: &LineState, after: &LineState) {
        if before == after {
            return;
        }
        if let LineState::Waits { turn, head, behind } = before {
            let order = match behind {
                None => Some(&mut self.active),
                Some(hold) => self.parked.get_mut(hold),
            };
            if let Some(order) = order {
                order.remove(lane, cell, *turn, *head);
            }
        }
        if let LineState::Waits { turn, head, behind } = after {
            let order = match behind {
                None => &mut self.active,
                Some(hold) => self.parked.entry(hold.clone()).or_default(),
            };
            order.add(lane, cell, *turn, *head);
        }
        // Only now: a line that stays behind its hold may be the only one there.
        if let LineState::Waits { behind: Some(hold), .. } = before
            && self.parked.get(hold).is_some_and(Order::is_empty)
        {
            self.parked.remove(hold);
            self.thawing.remove(hold);
        }
    }

    fn set(&mut self, lane: usize, cell: usize, after: LineState) {
        let Some(line) = self.lines.get_mut(&(lane, cell)) else {
            return;
        };
        let before = std::mem::replace(&mut line.state, after.clone());
        self.moved(lane, cell, &before, &after);
    }

    fn set_turn(&mut self, lane: usize, cell: usize, turn: u64) {
        if let Some(LineState::Waits { head, behind, .. }) = self.lines.get(&(lane, cell)).map(|line| &line.state) {
            let (head, behind) = (*head, behind.clone());
            self.set(lane, cell, LineState::Waits { turn, head, behind });
        }
    }

    /// Puts a line behind a hold, or back among those that go.
    fn put(&mut self, lane: usize, cell: usize, turn: u64, behind: Option<Hold>) {
        if let Some(LineState::Waits { head, .. }) = self.lines.get(&(lane, cell)).map(|line| &line.state) {
            let head = *head;
            self.set(lane, cell, LineState::Waits { turn, head, behind });
        }
    }

    /// The line that is next in one of the first `lanes`, with its turn: among those behind a hold, or among those that go. A
    /// line whose owner was served elsewhere in the meantime has a later turn than it stands with.
    fn next(&mut self, behind: Option<&Hold>, lanes: usize) -> Option<(usize, usize, u64)> {
        let lane = self.order(behind)?.next_lane(lanes)?;
        if let Some(cell) = self.order(behind)?.in_front(lane) {
            let stands = match self.lines.get(&(lane, cell)).map(|line| &line.state) {
                Some(LineState::Waits { turn, .. }) => *turn,
                _ => return None,
            };
            // It takes its owner's next turn early, and does not get one for nothing.
            let own = self.owners.get(&self.cells[cell].owner).copied().unwrap_or(0);
            if own > stands {
                self.set_turn(lane, cell, own);
            }
            return Some((lane, cell, own.max(stands)));
        }
        loop {
            let (turn, cell) = self.order(behind)?.first(lane)?;
            let own = self.owners.get(&self.cells[cell].owner).copied().unwrap_or(0);
            if own <= turn {
                return Some((lane, cell, turn));
            }
            self.set_turn(lane, cell, own);
        }
    }

    fn order(&self, behind: Option<&Hold>) -> Option<&Order> {
        match behind {
            None => Some(&self.active),
            Some(hold) => self.parked.get(hold),
        }
    }

    fn pop(&mut self, lane: usize, cell: usize, turn: u64) -> Option<Taken> {
        let (_, seq) = self.lines.get(&(lane, cell))?.jobs.first()?;
        let entry = self.entry(seq)?;
        let before = self.serve(&entry.cell.owner, turn);
        self.set_turn(lane, cell, turn + STEP);
        self.remove(seq);
        let paid = (turn + STEP).saturating_sub(before.unwrap_or(turn));
        Some(Taken { entry, turn, paid })
    }

    /// Lets lines go again whose hold has ended: no more than may go, and a few for those that something else stops. Those
    /// that would go first without the hold come back first, and stay in that order. None comes with a turn that has passed,
    /// which would be a claim to all that others had meanwhile: each stands a little behind the one before, and the first
    /// behind the one that was served last, so that of two who had as much the one goes whose last turn is longer ago.
    /// Says whether there were any.
    fn thaw(&mut self, max: usize, now: i64, lanes: usize) -> bool {
        let mut any = false;
        while let Some((_, hold)) = self.ends.first().filter(|(until, _)| *until <= now).cloned() {
            self.lift(&hold);
        }
        for hold in self.thawing.clone() {
            let places = match self.holds.get(&hold) {
                Some(held) => held.free.unwrap_or(0).max(1) as usize,
                None if matches!(hold, Hold::Key(_)) => 1,
                None => max,
            };
            for place in 1..=(places.min(max) + 8).min(THAW_MAX) {
                let Some((lane, cell, turn)) = self.next(Some(&hold), lanes) else {
                    break;
                };
                self.put(lane, cell, turn.max(self.turn + place as u64), None);
                any = true;
            }
        }
        any
    }

    /// Whether lines wait to come back from behind a hold: they may go, and stand in no order yet.
    pub fn is_thawing(&self) -> bool {
        !self.thawing.is_empty()
    }
}

#[path = "index_turns.rs"]
mod turns;

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
