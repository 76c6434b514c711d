//! The order in which waiting jobs go: lanes with ageing, turns among owners, and cells that are held back. The scripts that
//! do the same within Redis (`redis/*.lua`) are written after this, and a test compares the two.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::places::{Place, Places};
use super::{Cell, Entry, Hold, LANE_MS};

/// Those of the priorities, and that of the suspects.
const LANES: usize = 5;
const SUSPECTS: usize = super::SUSPECTS as usize;

/// The jobs of one cell in one lane.
#[derive(Default)]
struct Line {
    jobs: BTreeSet<(i64, i64)>,
    state: LineState,
}

#[derive(Clone, Debug, Default, PartialEq)]
enum LineState {
    /// Has no jobs.
    #[default]
    Empty,
    /// Takes its turns: with this turn and this head.
    Active { turn: u64, head: i64 },
    /// Waits for a hold to end.
    Parked(Hold),
}

/// Lines by cell and lane, and who goes next.
#[derive(Default)]
pub struct Index {
    cells: Vec<Cell>,
    numbers: HashMap<Cell, usize>,
    lines: HashMap<(usize, usize), Line>,
    places: Places,
    /// Of each lane the active lines by their turns, and by their longest waiting jobs.
    turns: [BTreeSet<(u64, usize)>; LANES],
    heads: [BTreeSet<(i64, usize)>; LANES],
    /// The turn that was served last, and those of owners that are ahead of it.
    turn: u64,
    owners: HashMap<String, u64>,
    /// Until when, in milliseconds of the caller's clock.
    holds: HashMap<Hold, i64>,
    /// The same by their ends.
    ends: BTreeSet<(i64, Hold)>,
    parked: BTreeMap<Hold, BTreeSet<(usize, usize)>>,
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

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Holds back whatever shares `hold`, until that moment.
    pub fn hold(&mut self, hold: &Hold, until: i64) {
        self.thawing.remove(hold);
        if let Some(before) = self.holds.insert(hold.clone(), until) {
            self.ends.remove(&(before, hold.clone()));
        }
        self.ends.insert((until, hold.clone()));
    }

    /// Whether anything was held back by it.
    pub fn release(&mut self, hold: &Hold) -> bool {
        let until = self.holds.remove(hold);
        if let Some(until) = until {
            self.ends.remove(&(until, hold.clone()));
        }
        if self.parked.contains_key(hold) {
            self.thawing.insert(hold.clone());
        }
        until.is_some()
    }

    /// The first jobs, at most `max`, at the moment `now`; at most one suspect, and none unless `suspect`.
    pub fn take(&mut self, max: usize, now: i64, suspect: bool) -> Vec<Entry> {
        self.thaw(max, now);
        let mut lanes = if suspect { LANES } else { SUSPECTS };
        let mut taken = Vec::new();
        while taken.len() < max {
            let Some(lane) = self.next_lane(lanes) else { break };
            let Some(cell) = self.next_cell(lane) else { break };
            let held = Hold::of(&self.cells[cell]).find(|hold| self.holds.contains_key(hold));
            if let Some(hold) = held {
                self.park(lane, cell, hold);
                continue;
            }
            taken.extend(self.pop(lane, cell));
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

    /// The turn that an owner's next job has.
    fn turn_of(&self, cell: usize) -> u64 {
        let owner = &self.cells[cell].owner;
        self.owners.get(owner).map_or(self.turn, |own| (*own).max(self.turn))
    }

    /// Brings a line's place among the others up to date with its jobs.
    fn refresh(&mut self, lane: usize, cell: usize) {
        let fresh_turn = self.turn_of(cell);
        let Some(line) = self.lines.get_mut(&(lane, cell)) else {
            return;
        };
        let head = line.jobs.first().map(|(since, _)| *since);
        let before = line.state.clone();
        let after = match (&before, head) {
            (LineState::Parked(hold), Some(_)) => LineState::Parked(hold.clone()),
            (LineState::Active { turn, .. }, Some(head)) => LineState::Active { turn: *turn, head },
            (LineState::Empty, Some(head)) => LineState::Active { turn: fresh_turn, head },
            (_, None) => LineState::Empty,
        };
        line.state = after.clone();
        if after == LineState::Empty {
            self.lines.remove(&(lane, cell));
        }
        self.moved(lane, cell, &before, &after);
    }

    fn moved(&mut self, lane: usize, cell: usize, before: &LineState, after: &LineState) {
        if before == after {
            return;
        }
        match before {
            LineState::Active { turn, head } => {
                self.turns[lane].remove(&(*turn, cell));
                self.heads[lane].remove(&(*head, cell));
            }
            LineState::Parked(hold) => {
                if let Some(lines) = self.parked.get_mut(hold) {
                    lines.remove(&(lane, cell));
                    if lines.is_empty() {
                        self.parked.remove(hold);
                        self.thawing.remove(hold);
                    }
                }
            }
            LineState::Empty => {}
        }
        match after {
            LineState::Active { turn, head } => {
                self.turns[lane].insert((*turn, cell));
                self.heads[lane].insert((*head, cell));
            }
            LineState::Parked(hold) => {
                self.parked.entry(hold.clone()).or_default().insert((lane, cell));
            }
            LineState::Empty => {}
        }
    }

    fn set(&mut self, lane: usize, cell: usize, after: LineState) {
        let Some(line) = self.lines.get_mut(&(lane, cell)) else {
            return;
        };
        let before = std::mem::replace(&mut line.state, after.clone());
        self.moved(lane, cell, &before, &after);
    }

    /// The lane whose longest waiting job has aged furthest.
    fn next_lane(&self, lanes: usize) -> Option<usize> {
        let aged = |lane: &usize| {
            let (since, _) = self.heads[*lane].first()?;
            Some(since + (*lane % SUSPECTS) as i64 * LANE_MS)
        };
        (0..lanes).filter(|lane| aged(lane).is_some()).min_by_key(aged)
    }

    /// The line whose turn it is. A line whose owner was served elsewhere in the meantime has a later turn than it stands with.
    fn next_cell(&mut self, lane: usize) -> Option<usize> {
        loop {
            let (turn, cell) = *self.turns[lane].first()?;
            let owner = self.owners.get(&self.cells[cell].owner).copied().unwrap_or(0);
            if owner <= turn {
                return Some(cell);
            }
            if let Some(LineState::Active { head, .. }) = self.lines.get(&(lane, cell)).map(|l| l.state.clone()) {
                self.set(lane, cell, LineState::Active { turn: owner, head });
            }
        }
    }

    fn park(&mut self, lane: usize, cell: usize, hold: Hold) {
        self.set(lane, cell, LineState::Parked(hold));
    }

    fn pop(&mut self, lane: usize, cell: usize) -> Option<Entry> {
        let line = self.lines.get(&(lane, cell))?;
        let (_, seq) = *line.jobs.first()?;
        let LineState::Active { turn, head } = line.state else {
            return None;
        };
        let entry = self.entry(seq);
        self.turn = self.turn.max(turn);
        self.owners.insert(self.cells[cell].owner.clone(), turn + 1);
        if self.owners.len() > 10_000 {
            let served = self.turn;
            self.owners.retain(|_, own| *own > served);
        }
        self.set(lane, cell, LineState::Active { turn: turn + 1, head });
        self.remove(seq);
        entry
    }

    /// Lets lines go again whose hold has ended: a few at a time, since most often one job ended and one more may run.
    fn thaw(&mut self, max: usize, now: i64) {
        while let Some((_, hold)) = self.ends.first().filter(|(until, _)| *until <= now).cloned() {
            self.release(&hold);
        }
        for hold in self.thawing.clone() {
            let lines: Vec<_> = self
                .parked
                .get(&hold)
                .into_iter()
                .flatten()
                .take(max + 8)
                .copied()
                .collect();
            for (lane, cell) in lines {
                let turn = self.turn_of(cell);
                let head = self
                    .lines
                    .get(&(lane, cell))
                    .and_then(|l| l.jobs.first())
                    .map(|(since, _)| *since);
                if let Some(head) = head {
                    self.set(lane, cell, LineState::Active { turn, head });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn entry(seq: i64, lane: u8, since: i64, owner: &str) -> Entry {
        let cell = Cell {
            queue: "default".into(),
            kind: "echo".into(),
            owner: owner.into(),
            key: None,
        };
        Entry { seq, lane, since, cell }
    }

    fn seqs(taken: Vec<Entry>) -> Vec<i64> {
        taken.into_iter().map(|e| e.seq).collect()
    }

    #[test]
    fn jobs_leave_by_lane_then_time_and_once() {
        let mut index = Index::default();
        for e in [
            entry(3, 2, 10, "a"),
            entry(1, 2, 20, "a"),
            entry(2, 2, 10, "a"),
            entry(4, 0, 99, "a"),
        ] {
            index.insert(&e);
        }
        index.insert(&entry(1, 2, 5, "a"));
        index.insert(&entry(3, 2, 10, "a"));
        assert_eq!(index.len(), 4);
        assert_eq!(seqs(index.take(3, 0, false)), [4, 1, 2]);
        index.remove(2);
        assert_eq!(seqs(index.take(9, 0, false)), [3]);
        assert!(index.is_empty() && index.lines.is_empty() && index.take(1, 0, false).is_empty());
    }

    #[test]
    fn waiting_raises_a_job_past_the_lane_above() {
        let mut index = Index::default();
        index.insert(&entry(1, 3, 0, "a"));
        index.insert(&entry(2, 2, LANE_MS - 1, "a"));
        index.insert(&entry(3, 2, LANE_MS + 1, "a"));
        assert_eq!(seqs(index.take(3, 0, false)), [2, 1, 3]);
    }

    /// Ten jobs a second are run and ten critical ones come, so that without ageing nothing else would ever start. A job of
    /// each lane waits as long as ten minutes a lane, and not longer.
    #[test]
    fn a_flood_of_critical_jobs_starves_no_lane() {
        let mut index = Index::default();
        for lane in 0..4 {
            index.insert(&entry(i64::from(lane), lane, 0, "a"));
        }
        let mut waits = [None; 4];
        let mut seq = 10;
        for second in 0..3_600_i64 {
            for _ in 0..10 {
                index.insert(&entry(seq, 0, second * 1_000, "a"));
                seq += 1;
            }
            for taken in index.take(10, second * 1_000, false) {
                if let Some(wait) = waits.get_mut(taken.seq as usize) {
                    *wait = Some(second);
                }
            }
        }
        let minutes = waits.map(|seconds| seconds.expect("it started") as f64 / 60.0);
        println!("waits in minutes from critical to low beside a flood of critical jobs: {minutes:.1?}");
        for (lane, minutes) in minutes.into_iter().enumerate() {
            assert!((minutes - 10.0 * lane as f64).abs() < 0.1, "lane {lane}: {minutes} min");
        }
    }

    #[test]
    fn owners_take_turns_and_a_newcomer_owes_nothing() {
        let mut index = Index::default();
        for n in 0..100 {
            index.insert(&entry(n, 2, n, "noisy"));
        }
        assert_eq!(seqs(index.take(10, 0, false)), (0..10).collect::<Vec<_>>());
        for n in 0..3 {
            index.insert(&entry(1_000 + n, 2, 1_000 + n, "quiet"));
        }
        let next = seqs(index.take(6, 0, false));
        assert_eq!(next.iter().filter(|n| **n >= 1_000).count(), 3, "{next:?}");
    }

    #[test]
    fn an_owner_gains_nothing_by_many_kinds() {
        let mut index = Index::default();
        for n in 0..40 {
            let mut e = entry(n, 2, n, "noisy");
            e.cell.kind = format!("kind{}", n % 4);
            index.insert(&e);
            index.insert(&entry(1_000 + n, 2, n, "quiet"));
        }
        let next = seqs(index.take(20, 0, false));
        let quiet = next.iter().filter(|n| **n >= 1_000).count();
        assert!((9..=11).contains(&quiet), "{next:?}");
    }

    #[test]
    fn what_is_held_is_in_nobodys_way_and_comes_back() {
        let mut index = Index::default();
        let hold = Hold::Owner("held".into());
        index.hold(&hold, 1_000);
        for n in 0..1_000 {
            index.insert(&entry(n, 0, n, "held"));
        }
        index.insert(&entry(5_000, 3, 0, "free"));
        assert_eq!(seqs(index.take(5, 10, false)), [5_000]);
        assert_eq!(index.len(), 1_000);
        assert!(index.take(5, 999, false).is_empty());
        assert_eq!(seqs(index.take(2, 1_000, false)), [0, 1], "a hold ends by itself");
        index.hold(&hold, 9_000);
        assert!(index.take(5, 2_000, false).is_empty());
        assert!(index.release(&hold));
        assert_eq!(seqs(index.take(2, 2_000, false)), [2, 3]);
        assert!(!index.release(&hold));
        // The later end counts, and an earlier one that was said before is none any more.
        index.hold(&hold, 3_000);
        index.hold(&hold, 5_000);
        assert!(index.take(5, 4_000, false).is_empty());
        assert_eq!(seqs(index.take(1, 5_000, false)), [4]);
        assert!(index.ends.is_empty() && index.holds.is_empty());
    }

    #[test]
    fn suspects_are_taken_one_at_a_time_and_only_when_wanted() {
        let mut index = Index::default();
        for n in 0..3 {
            index.insert(&entry(n, super::super::SUSPECTS, n, "a"));
            index.insert(&entry(10 + n, 2, n, "a"));
        }
        assert_eq!(seqs(index.take(2, 0, false)), [10, 11]);
        assert_eq!(seqs(index.take(5, 0, true)), [0, 12]);
        assert!(index.take(5, 0, false).is_empty());
        assert_eq!(seqs(index.take(5, 0, true)), [1]);
        assert_eq!(index.len(), 1);
    }

    #[test]
    fn cells_that_come_and_go_do_not_pile_up() {
        let mut index = Index::default();
        for n in 0..10_000 {
            index.insert(&entry(n, 2, n, &format!("owner{n}")));
            if n > 10 {
                assert_eq!(index.take(1, 0, false).len(), 1);
            }
        }
        assert!(index.cells.len() < 3_000, "{}", index.cells.len());
        assert_eq!(index.len(), 11);
    }
}
