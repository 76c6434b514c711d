use super::super::{FRONT, LANE_MS};
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

fn seqs(taken: Vec<Taken>) -> Vec<i64> {
    taken.into_iter().map(|one| one.entry.seq).collect()
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
    assert!(index.active.is_empty());
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
            if let Some(wait) = waits.get_mut(taken.entry.seq as usize) {
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

/// Who takes turns without a job in the index has as many as one who has.
#[test]
fn a_turn_is_taken_by_whoever_would_be_next() {
    let quiet = entry(0, 2, 0, "quiet").cell;
    let noisy = entry(0, 2, 0, "noisy").cell;
    let mut index = Index::default();
    assert!(index.take_turn(2, &quiet, 200), "nothing waits");
    for n in 0..100 {
        index.insert(&entry(n, 2, n + 1, "noisy"));
    }
    assert!(!index.take_turn(2, &noisy, 200), "its own jobs go first");
    assert_eq!(index.take(3, 0, false).len(), 3);
    assert!(index.take_turn(2, &quiet, 200));
    assert!(
        index.take_turn(2, &quiet, 200),
        "of two who have had as much it may be either"
    );
    assert!(!index.take_turn(2, &quiet, 200), "it has had its turn");
    assert!(!index.take_turn(3, &quiet, 200), "another lane has the older jobs");
    assert!(index.take_turn(1, &quiet, 200), "of a higher lane");
    assert!(
        !index.take_turn(1, &quiet, LANE_MS + 200),
        "the others have waited for too long"
    );
    let mut turns = 0;
    for _ in 0..50 {
        assert_eq!(index.take(1, 0, false).len(), 1);
        turns += usize::from(index.take_turn(2, &quiet, 200));
    }
    assert!((48..=50).contains(&turns), "{turns} of 50");
    // What goes before all that waits is not overtaken.
    assert_eq!(index.take(1, 0, false).len(), 1);
    index.insert(&entry(900, 2, FRONT.timestamp_millis(), "first"));
    assert!(!index.take_turn(2, &quiet, 200));
    assert_eq!(seqs(index.take(1, 0, false)), [900]);
    assert!(index.take_turn(2, &quiet, 200));
    // Nor does anything go that a limit is known to refuse.
    assert_eq!(index.take(2, 0, false).len(), 2);
    index.hold(&Hold::Owner("quiet".into()), 1_000);
    assert!(!index.take_turn(2, &quiet, 200));
    index.release(&Hold::Owner("quiet".into()), 1);
    assert!(!index.take_turn(2, &quiet, 200), "a place may not be free any more");
    assert!(index.take_turn(2, &entry(0, 2, 0, "another").cell, 200));
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
    assert!(index.release(&hold, 1));
    assert_eq!(seqs(index.take(2, 2_000, false)), [2], "one place came free");
    assert_eq!(
        seqs(index.take(2, 2_000, false)),
        [3],
        "somebody may have given one up who was not heard"
    );
    index.hold(&hold, 9_000);
    assert!(index.take(5, 2_000, false).is_empty());
    assert_eq!([0; 3].map(|_| index.release(&hold, 1)), [true; 3]);
    assert_eq!(seqs(index.take(9, 2_000, false)), [4, 5, 6], "three did");
    assert_eq!(
        seqs(index.take(2, 9_000, false)),
        [7, 8],
        "and what was refused long ago says nothing"
    );
    assert!(!index.release(&hold, 1));
    // The later end counts, and an earlier one that was said before is none any more.
    index.hold(&hold, 3_000);
    index.hold(&hold, 5_000);
    assert!(index.take(5, 4_000, false).is_empty());
    assert_eq!(seqs(index.take(1, 5_000, false)), [9]);
    assert!(index.ends.is_empty() && index.holds.is_empty());
}

/// Whoever shares a key would be refused while the first of them runs.
#[test]
fn of_a_key_one_goes_at_a_time_and_what_shares_it_is_in_nobodys_way() {
    let mut index = Index::default();
    let keyed = |seq: i64, owner: &str| {
        let mut keyed = entry(seq, 0, seq, owner);
        keyed.cell.key = Some("one".into());
        keyed
    };
    for n in 0..100 {
        index.insert(&keyed(n, "ada"));
        index.insert(&keyed(1_000 + n, &format!("other{n}")));
        index.insert(&entry(5_000 + n, 3, n, "free"));
    }
    for n in 0..10 {
        let taken = seqs(index.take(10, 0, false));
        assert_eq!(
            taken.iter().filter(|seq| **seq < 5_000).count(),
            1,
            "look {n}: {taken:?}"
        );
        assert_eq!(taken.len(), 10);
    }
    // Refused: none goes until the place is given up, and one then, though others are told the same.
    let key = Hold::Key("one".into());
    index.hold(&key, 1_000);
    assert!(seqs(index.take(10, 0, false)).iter().all(|seq| *seq >= 5_000));
    assert!(index.release(&key, 1));
    assert_eq!(
        index.take(10, 0, false).iter().filter(|t| t.entry.seq < 5_000).count(),
        1
    );
    assert_eq!(index.len(), 300 - 100 - 10 - 1);
}

/// More lines than come back at once are stopped by something else, and the one that may go stands behind them.
#[test]
fn what_two_limits_hold_back_hides_nothing_that_one_has_let_go() {
    let mut index = Index::default();
    let (kind, owner) = (Hold::Kind("echo".into()), Hold::Owner("full".into()));
    index.hold(&kind, 60_000);
    for n in 0..30 {
        let mut critical = entry(n, 0, n, "full");
        critical.cell.queue = format!("queue{n}");
        index.insert(&critical);
    }
    index.insert(&entry(100, 3, 0, "free"));
    assert!(index.take(1, 0, false).is_empty());
    index.hold(&owner, 60_000);
    assert!(index.release(&kind, 1));
    assert_eq!(seqs(index.take(1, 0, false)), [100]);
    assert!(!index.is_thawing());
}

/// The line of a paused queue comes back whole: nobody gives places up there.
#[test]
fn a_queue_that_goes_again_goes_at_once() {
    let mut index = Index::default();
    let paused = Hold::Queue("default".into());
    index.hold(&paused, 60_000);
    (0..9).for_each(|n| index.insert(&entry(n, 2, n, "a")));
    assert!(index.take(9, 0, false).is_empty());
    assert!(index.release(&paused, 1));
    assert_eq!(index.take(9, 0, false).len(), 9);
    assert!(index.holds.is_empty() && index.ends.is_empty());
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

/// A limit of so many jobs of the kind `echo`, and a worker with nine free slots: whoever does not fit goes back.
struct Limited {
    index: Index,
    running: usize,
    max: usize,
}

impl Limited {
    const HOLD: &str = "echo";

    fn new(max: usize) -> Self {
        let index = Index::default();
        Self { index, running: 0, max }
    }

    /// Those that begin now.
    fn claim(&mut self) -> Vec<Entry> {
        let hold = Hold::Kind(Self::HOLD.into());
        let mut begun = Vec::new();
        loop {
            let taken = self.index.take(9, 0, false);
            if taken.is_empty() {
                return begun;
            }
            let (mut fit, mut back) = (Vec::new(), Vec::new());
            for one in taken {
                let limited = one.entry.cell.kind == Self::HOLD;
                match limited && self.running == self.max {
                    true => back.push(one),
                    false => {
                        self.running += usize::from(limited);
                        fit.push(one.entry);
                    }
                }
            }
            if !back.is_empty() {
                self.index.hold(&hold, 1_000_000);
                self.index.give_back(&back);
            }
            begun.extend(fit);
        }
    }

    /// One of them ends.
    fn end(&mut self) {
        self.running -= 1;
        self.index.release(&Hold::Kind(Self::HOLD.into()), 1);
    }
}

/// So many releases, and how often each owner was served by them.
fn served(limited: &mut Limited, releases: usize) -> BTreeMap<String, usize> {
    let mut served = BTreeMap::new();
    for _ in 0..releases {
        for entry in limited.claim() {
            *served.entry(entry.cell.owner).or_default() += 1;
        }
        limited.end();
    }
    served
}

#[test]
fn behind_a_limit_owners_take_turns_however_many_there_are() {
    for (owners, max) in [(3, 1), (18, 2), (40, 2), (200, 2)] {
        let mut limited = Limited::new(max);
        let mut seq = 0;
        for owner in 0..owners {
            // The last one has a single job, and the others more than they will see done.
            for _ in 0..if owner == owners - 1 { 1 } else { 20 } {
                seq += 1;
                limited.index.insert(&entry(seq, 2, seq, &format!("owner{owner:03}")));
            }
        }
        let served = served(&mut limited, 3 * owners);
        assert_eq!(served.len(), owners, "of {owners} owners all are served: {served:?}");
        let backlog: Vec<usize> = served.into_values().take(owners - 1).collect();
        let (least, most) = (backlog.iter().min(), backlog.iter().max());
        assert!(least >= Some(&2) && most <= Some(&4), "{backlog:?}");
    }
}

/// What others get done meanwhile moves the turns on, and must not make those who wait forget who had less.
#[test]
fn behind_a_limit_owners_take_turns_beside_others_who_pass_by() {
    let mut limited = Limited::new(2);
    let mut seq = 0;
    for owner in 0..18 {
        for _ in 0..20 {
            seq += 1;
            limited.index.insert(&entry(seq, 2, seq, &format!("owner{owner:03}")));
        }
    }
    let mut first = BTreeMap::new();
    for release in 0..40 {
        for _ in 0..6 {
            seq += 1;
            let mut free = entry(seq, 2, seq, "passer-by");
            free.cell.kind = "free".into();
            limited.index.insert(&free);
        }
        for begun in limited.claim() {
            first.entry(begun.cell.owner).or_insert(release);
        }
        limited.end();
    }
    assert_eq!(first.len(), 19, "{first:?}");
    assert!(first.values().all(|release| *release < 20), "{first:?}");
}

#[test]
fn behind_a_limit_high_lanes_go_before_low_ones_and_waiting_raises_a_job() {
    let mut limited = Limited::new(1);
    for owner in 0..40 {
        for n in 0..3 {
            limited
                .index
                .insert(&entry(owner * 10 + n, 3, owner, &format!("low{owner}")));
        }
    }
    assert_eq!(limited.claim().len(), 1);
    for n in 0..5 {
        limited.index.insert(&entry(1_000 + n, 0, 100, &format!("high{n}")));
    }
    // One that has waited for so long that it goes before the low ones, though its owner's turn comes last.
    limited.index.insert(&entry(2_000, 2, -3 * LANE_MS, "patient"));
    let mut order = Vec::new();
    for _ in 0..7 {
        limited.end();
        order.extend(limited.claim().into_iter().map(|entry| entry.seq));
    }
    assert_eq!(order[0], 2_000, "{order:?}");
    assert_eq!(order[1..6], [1_000, 1_001, 1_002, 1_003, 1_004], "{order:?}");
    assert!(order[6] < 1_000, "{order:?}");
}

#[test]
fn a_job_that_goes_back_costs_its_owner_no_turn() {
    let mut index = Index::default();
    for n in 0..3 {
        index.insert(&entry(n, 2, n, "a"));
        index.insert(&entry(10 + n, 2, n, "b"));
    }
    let taken = index.take(4, 0, false);
    assert_eq!(seqs(taken.clone()), [0, 10, 1, 11]);
    index.give_back(&taken);
    assert_eq!(seqs(index.take(6, 0, false)), [0, 10, 1, 11, 2, 12]);
    assert!(index.is_empty() && index.active.is_empty());
}
