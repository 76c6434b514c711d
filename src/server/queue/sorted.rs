//! The waiting jobs of one line in their order. A million may wait in one, and most come in order: a tree leaves half of its
//! leaves empty then, and runs of neighbours that are filled one after the other none of theirs.

use std::collections::VecDeque;

/// Since when a job waits, in milliseconds since 1970, and its number.
pub type Key = (i64, i64);

/// Jobs of one run at the most.
const RUN: usize = 128;

/// A set of keys in their order.
#[derive(Default)]
pub struct Sorted {
    /// None of them empty; each behind the one before.
    runs: VecDeque<Vec<Key>>,
}

impl Sorted {
    pub fn first(&self) -> Option<Key> {
        self.runs.front()?.first().copied()
    }

    /// The run that a key belongs to: the last one that does not begin behind it.
    fn run_of(&self, key: &Key) -> usize {
        let behind = self
            .runs
            .partition_point(|run| run.first().is_some_and(|first| first <= key));
        behind.saturating_sub(1)
    }

    /// Inserting what is there changes nothing.
    pub fn insert(&mut self, key: Key) {
        let at = self.run_of(&key);
        let last = at + 1 >= self.runs.len();
        let Some(run) = self.runs.get_mut(at) else {
            self.runs.push_back(vec![key]);
            return;
        };
        let Err(place) = run.binary_search(&key) else { return };
        if run.len() < RUN {
            run.insert(place, key);
        } else if last && place == RUN {
            self.runs.push_back(vec![key]);
        } else {
            let mut rest = run.split_off(RUN / 2);
            match place.checked_sub(RUN / 2) {
                Some(place) => rest.insert(place, key),
                None => run.insert(place, key),
            }
            self.runs.insert(at + 1, rest);
        }
    }

    /// Removing what is not there changes nothing.
    pub fn remove(&mut self, key: &Key) {
        let at = self.run_of(key);
        let Some(run) = self.runs.get_mut(at) else { return };
        let Ok(place) = run.binary_search(key) else { return };
        run.remove(place);
        if run.is_empty() {
            self.runs.remove(at);
        } else if run.len() * 4 <= run.capacity() {
            run.shrink_to(run.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Mostly in order, as jobs come, and now and then before others, as retries do.
    fn key() -> impl Strategy<Value = Key> {
        prop_oneof![(0..40_i64, 0..40_i64), (0..4_i64, any::<i64>())]
    }

    proptest! {
        #[test]
        fn they_are_as_a_set_of_them(
            first in 0..700_i64,
            steps in prop::collection::vec((any::<bool>(), key()), 0..400),
        ) {
            let (mut sorted, mut set) = (Sorted::default(), BTreeSet::new());
            for n in 0..first {
                sorted.insert((n / 3, n));
                set.insert((n / 3, n));
            }
            for (add, key) in steps {
                if add {
                    sorted.insert(key);
                    set.insert(key);
                } else {
                    sorted.remove(&key);
                    set.remove(&key);
                }
                prop_assert_eq!(sorted.first(), set.first().copied());
            }
            while let Some(key) = set.pop_first() {
                prop_assert_eq!(sorted.first(), Some(key));
                sorted.remove(&key);
            }
            prop_assert_eq!(sorted.first(), None);
            prop_assert!(sorted.runs.is_empty());
        }
    }

    #[test]
    fn what_comes_in_order_leaves_no_gaps() {
        let mut sorted = Sorted::default();
        (0..10 * RUN as i64).for_each(|n| sorted.insert((n, n)));
        assert_eq!(sorted.runs.len(), 10);
        // And what was nearly emptied from its middle takes no more than it needs.
        (1..RUN as i64).for_each(|n| sorted.remove(&(n, n)));
        assert!(sorted.runs[0].capacity() <= 4, "{}", sorted.runs[0].capacity());
    }
}
