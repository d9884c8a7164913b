//! Which sectors of the space are whose.
//!
//! Nothing of it is written down: the tables of the devices are the record, and the next process reads them back.

use std::collections::BTreeMap;

/// Everything is given in pieces of that many sectors: the block of a thin pool, 64 KiB.
pub(super) const GRAIN: u64 = 128;

/// A range of sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Extent {
    pub(super) start: u64,
    pub(super) sectors: u64,
}

/// The sectors that nobody has.
#[derive(Debug, Default)]
pub(super) struct Extents {
    /// Length by start; no two touch.
    free: BTreeMap<u64, u64>,
}

impl Extents {
    /// All of `start..end`, free.
    pub(super) fn new(start: u64, end: u64) -> Self {
        let start = start.next_multiple_of(GRAIN);
        let sectors = end.saturating_sub(start) / GRAIN * GRAIN;
        Self { free: (sectors > 0).then_some((start, sectors)).into_iter().collect() }
    }

    /// How many sectors are free.
    pub(super) fn left(&self) -> u64 {
        self.free.values().sum()
    }

    /// Takes that many sectors, rounded up to whole grains, in as few pieces as there can be found at once. `None`:
    /// there are not so many.
    pub(super) fn take(&mut self, sectors: u64) -> Option<Vec<Extent>> {
        let mut wanted = sectors.next_multiple_of(GRAIN);
        if wanted > self.left() {
            return None;
        }
        // One piece that is large enough, the smallest of these; else the largest pieces.
        let fitting = self.free.iter().filter(|(_, len)| **len >= wanted).min_by_key(|(_, len)| **len);
        if let Some((start, _)) = fitting {
            let extent = Extent { start: *start, sectors: wanted };
            self.claim(extent);
            return Some(vec![extent]);
        }
        let mut pieces: Vec<_> = self.free.iter().map(|(start, len)| (*start, *len)).collect();
        pieces.sort_by_key(|(_, len)| std::cmp::Reverse(*len));
        let mut taken = Vec::new();
        for (start, len) in pieces {
            if wanted == 0 {
                break;
            }
            let extent = Extent { start, sectors: len.min(wanted) };
            wanted -= extent.sectors;
            self.claim(extent);
            taken.push(extent);
        }
        Some(taken)
    }

    /// Takes just these sectors. `false`: some of them are not free, and nothing has changed.
    pub(super) fn claim(&mut self, extent: Extent) -> bool {
        let Some((start, len)) = self.free.range(..=extent.start).next_back().map(|(s, l)| (*s, *l)) else {
            return false;
        };
        let (end, wanted_end) = (start + len, extent.start + extent.sectors);
        if wanted_end > end {
            return false;
        }
        self.free.remove(&start);
        if extent.start > start {
            self.free.insert(start, extent.start - start);
        }
        if wanted_end < end {
            self.free.insert(wanted_end, end - wanted_end);
        }
        true
    }

    /// Gives sectors back.
    pub(super) fn give(&mut self, extent: Extent) {
        let Extent { mut start, mut sectors } = extent;
        if let Some((before, len)) = self.free.range(..start).next_back().map(|(s, l)| (*s, *l))
            && before + len == start
        {
            self.free.remove(&before);
            (start, sectors) = (before, len + sectors);
        }
        if let Some(behind) = self.free.remove(&(start + sectors)) {
            sectors += behind;
        }
        self.free.insert(start, sectors);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_range_is_given_in_grains() {
        let mut all = Extents::new(2000, 2048 + 10 * GRAIN + 5);
        assert_eq!(all.left(), 10 * GRAIN);
        assert_eq!(all.take(1), Some(vec![Extent { start: 2048, sectors: GRAIN }]));
        assert_eq!(all.take(10 * GRAIN), None);
        assert_eq!(all.left(), 9 * GRAIN);
        assert!(!all.claim(Extent { start: 2048, sectors: GRAIN }), "it is taken");
        assert!(!all.claim(Extent { start: 2048 + 9 * GRAIN, sectors: 2 * GRAIN }), "it is beyond the end");
    }

    proptest! {
        /// What is taken is never taken twice, and all of it can be given back.
        #[test]
        fn nobody_shares(steps in proptest::collection::vec((any::<bool>(), 1u64..2000), 1..60)) {
            let all = 100 * GRAIN;
            let mut free = Extents::new(0, all);
            let mut held: Vec<Vec<Extent>> = Vec::new();
            for (take, number) in steps {
                if take || held.is_empty() {
                    let left = free.left();
                    let taken = free.take(number);
                    prop_assert_eq!(taken.is_some(), number.next_multiple_of(GRAIN) <= left);
                    held.extend(taken);
                } else {
                    let one = held.swap_remove(number as usize % held.len());
                    one.into_iter().for_each(|extent| free.give(extent));
                }
                let mut used: Vec<_> = held.iter().flatten().copied().collect();
                used.sort();
                prop_assert!(used.windows(2).all(|w| w[0].start + w[0].sectors <= w[1].start));
                prop_assert_eq!(free.left() + used.iter().map(|e| e.sectors).sum::<u64>(), all);
            }
            held.into_iter().flatten().for_each(|extent| free.give(extent));
            prop_assert_eq!(free.take(all), Some(vec![Extent { start: 0, sectors: all }]));
        }
    }
}
