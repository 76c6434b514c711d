//! Where each waiting job stands, by its number. A million jobs may wait in an embedded system, and the numbers of those that do
//! lie close to each other: they are kept in blocks of neighbours, at a fifth of what a hash map of them takes.

use std::collections::HashMap;

/// Numbers of one block: one bit each in a word.
const BLOCK: i64 = 32;
/// Lanes are told in this many bits of a slot, cells in the others.
const LANE_BITS: u32 = 3;

/// Where a job is: its lane, since when it waits, and its cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// Milliseconds since 1970.
    pub since: i64,
    /// Below 2^29: cells of empty lines are numbered anew long before.
    pub cell: u32,
    /// Below 8.
    pub lane: u8,
}

/// `since` as two halves, so that a slot takes 12 bytes and not 16.
#[derive(Clone, Copy, Default)]
struct Slot {
    low: u32,
    high: u32,
    cell_and_lane: u32,
}

struct Block {
    /// Which of the slots are taken.
    taken: u32,
    slots: [Slot; BLOCK as usize],
}

/// A map from a job's number to its place.
#[derive(Default)]
pub struct Places {
    blocks: HashMap<i64, Box<Block>>,
    len: usize,
}

impl Slot {
    fn of(place: Place) -> Self {
        Self {
            low: place.since as u32,
            high: (place.since >> 32) as u32,
            cell_and_lane: place.cell << LANE_BITS | u32::from(place.lane),
        }
    }

    fn place(self) -> Place {
        Place {
            since: (i64::from(self.high as i32) << 32) | i64::from(self.low),
            cell: self.cell_and_lane >> LANE_BITS,
            lane: (self.cell_and_lane & ((1 << LANE_BITS) - 1)) as u8,
        }
    }
}

fn split(seq: i64) -> (i64, usize) {
    (seq.div_euclid(BLOCK), seq.rem_euclid(BLOCK) as usize)
}

impl Places {
    /// Puts a job there, wherever it was before.
    pub fn insert(&mut self, seq: i64, place: Place) {
        let (block, slot) = split(seq);
        let block = self.blocks.entry(block).or_insert_with(|| {
            Box::new(Block {
                taken: 0,
                slots: Default::default(),
            })
        });
        self.len += usize::from(block.taken & 1 << slot == 0);
        block.taken |= 1 << slot;
        block.slots[slot] = Slot::of(place);
    }

    pub fn get(&self, seq: i64) -> Option<Place> {
        let (block, slot) = split(seq);
        let block = self.blocks.get(&block)?;
        (block.taken & 1 << slot != 0).then(|| block.slots[slot].place())
    }

    pub fn remove(&mut self, seq: i64) -> Option<Place> {
        let (number, slot) = split(seq);
        let block = self.blocks.get_mut(&number)?;
        if block.taken & 1 << slot == 0 {
            return None;
        }
        block.taken &= !(1 << slot);
        self.len -= 1;
        let place = block.slots[slot].place();
        if block.taken == 0 {
            self.blocks.remove(&number);
        }
        Some(place)
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The numbers of all, in no order.
    pub fn seqs(&self) -> impl Iterator<Item = i64> {
        self.blocks.iter().flat_map(|(number, block)| {
            let taken = (0..BLOCK).filter(|slot| block.taken & 1 << slot != 0);
            taken.map(move |slot| number * BLOCK + slot)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place() -> impl Strategy<Value = Place> {
        (any::<i64>(), 0..1_u32 << 29, 0..8_u8).prop_map(|(since, cell, lane)| Place { since, cell, lane })
    }

    proptest! {
        #[test]
        fn they_are_as_a_map_of_them(steps in prop::collection::vec((-70..70_i64, prop::option::of(place())), 0..200)) {
            let (mut places, mut map) = (Places::default(), HashMap::new());
            for (seq, step) in steps {
                match step {
                    Some(place) => {
                        places.insert(seq, place);
                        map.insert(seq, place);
                    }
                    None => prop_assert_eq!(places.remove(seq), map.remove(&seq)),
                }
                prop_assert_eq!(places.get(seq), map.get(&seq).copied());
                prop_assert_eq!((places.len(), places.is_empty()), (map.len(), map.is_empty()));
            }
            let (mut seqs, mut keys): (Vec<_>, Vec<_>) = (places.seqs().collect(), map.into_keys().collect());
            seqs.sort_unstable();
            keys.sort_unstable();
            prop_assert_eq!(seqs, keys);
        }
    }
}
