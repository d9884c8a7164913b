//! Which of the three states each 4 KiB block of an overlay is in, in memory.
//!
//! Two bits a block, 32 blocks an atomic word, 2048 words a leaf (256 MiB of disk). A leaf whose blocks are all
//! alike is one byte, so an empty map of any disk is made at once, a whole disk is discarded without touching its
//! words, and memory follows what was written. Readers take no lock; each leaf's lock is for its writers.
//! A leaf, once allocated, stays: its memory is bounded by what was written before.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

/// Blocks in one atomic word.
pub(super) const WORD_BLOCKS: u64 = 32;
/// Words in a leaf.
pub(super) const LEAF_WORDS: usize = 2048;
/// Blocks in a leaf.
pub(super) const LEAF_BLOCKS: u64 = WORD_BLOCKS * LEAF_WORDS as u64;

/// The low bit of each block in a word.
const LOW_BITS: u64 = 0x5555_5555_5555_5555;

/// Where a block's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// In the volume beneath. Once left, a block never comes back to it.
    Lower = 0,
    /// In the overlay's file.
    Written = 1,
    /// Nowhere: the block was discarded and reads as zero.
    Zeroed = 2,
}

impl State {
    fn of(bits: u64) -> Self {
        match bits & 3 {
            0 => Self::Lower,
            1 => Self::Written,
            _ => Self::Zeroed,
        }
    }

    /// A word all of whose blocks are in this state.
    pub(super) fn word(self) -> u64 {
        LOW_BITS * self as u64
    }
}

/// The leaf's blocks differ: its words tell.
const MIXED: u8 = 3;

#[derive(Default)]
struct Leaf {
    /// A [`State`] that all blocks share, or [`MIXED`].
    kind: AtomicU8,
    lock: Mutex<()>,
    words: OnceLock<Box<[AtomicU64; LEAF_WORDS]>>,
}

/// The states of all blocks of a disk.
pub(super) struct Map {
    leaves: Box<[Leaf]>,
    blocks: u64,
}

/// The sole right to change the states of some leaves' blocks.
pub(super) struct Held<'a> {
    _first: MutexGuard<'a, ()>,
    // Almost no write spans leaves, and an empty Vec allocates nothing.
    _rest: Vec<MutexGuard<'a, ()>>,
}

/// The bits of the blocks `from..to` of a word.
fn mask(from: u64, to: u64) -> u64 {
    let upto = |n: u64| if n >= WORD_BLOCKS { u64::MAX } else { (1 << (2 * n)) - 1 };
    upto(to) & !upto(from)
}

impl Leaf {
    fn words(&self) -> &[AtomicU64; LEAF_WORDS] {
        self.words.get_or_init(|| Box::new([const { AtomicU64::new(0) }; LEAF_WORDS]))
    }

    /// The state that all blocks share, if they do.
    fn uniform(&self) -> Option<State> {
        match self.kind.load(Ordering::Acquire) {
            MIXED => None,
            kind => Some(State::of(kind.into())),
        }
    }

    fn word(&self, index: usize) -> u64 {
        match self.uniform() {
            Some(state) => state.word(),
            None => self.words()[index].load(Ordering::Acquire),
        }
    }

    /// The state of block `from`, and the first block behind it, up to `to`, that is in another.
    fn run(&self, from: u64, to: u64) -> (State, u64) {
        if let Some(state) = self.uniform() {
            return (state, to);
        }
        let words = self.words();
        let load = |block: u64| words[(block / WORD_BLOCKS) as usize].load(Ordering::Acquire);
        let state = State::of(load(from) >> (2 * (from % WORD_BLOCKS)));
        let mut at = from;
        while at < to {
            let skip = at % WORD_BLOCKS;
            let other = (load(at) ^ state.word()) >> (2 * skip);
            let alike = u64::from(other.trailing_zeros() / 2).min(WORD_BLOCKS - skip);
            at += alike;
            if alike < WORD_BLOCKS - skip {
                break;
            }
        }
        (state, at.min(to))
    }

    fn set(&self, from: u64, to: u64, state: State) {
        let words = self.words();
        if let Some(before) = self.uniform() {
            // Readers look at the words only after `kind` says so.
            words.iter().for_each(|w| w.store(before.word(), Ordering::Relaxed));
            self.kind.store(MIXED, Ordering::Release);
        }
        for index in from / WORD_BLOCKS..to.div_ceil(WORD_BLOCKS) {
            let word = &words[index as usize];
            let new = changed(word.load(Ordering::Relaxed), index, from, to, state);
            word.store(new, Ordering::Release);
        }
    }
}

/// The word `index` of a leaf, with the leaf's blocks `from..to` in `state`.
fn changed(word: u64, index: u64, from: u64, to: u64, state: State) -> u64 {
    let first = index * WORD_BLOCKS;
    let bits = mask(from.saturating_sub(first).min(WORD_BLOCKS), to.saturating_sub(first).min(WORD_BLOCKS));
    (word & !bits) | (state.word() & bits)
}

impl Map {
    /// A map in which every one of `blocks` blocks is [`State::Lower`].
    pub(super) fn new(blocks: u64) -> Self {
        let leaves = (0..blocks.div_ceil(LEAF_BLOCKS)).map(|_| Leaf::default()).collect();
        Self { leaves, blocks }
    }

    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }

    pub(super) fn leaves(&self) -> usize {
        self.leaves.len()
    }

    /// The leaves that the blocks `from..to` lie in, each with its share of them, counted within the leaf.
    pub(super) fn shares(&self, from: u64, to: u64) -> impl Iterator<Item = (usize, u64, u64)> + use<> {
        (from / LEAF_BLOCKS..to.div_ceil(LEAF_BLOCKS)).map(move |leaf| {
            let first = leaf * LEAF_BLOCKS;
            (leaf as usize, from.saturating_sub(first), (to - first).min(LEAF_BLOCKS))
        })
    }

    /// Whether `from..to` of a leaf are all its blocks that are on the disk.
    pub(super) fn is_whole(&self, leaf: usize, from: u64, to: u64) -> bool {
        from == 0 && leaf as u64 * LEAF_BLOCKS + to >= ((leaf as u64 + 1) * LEAF_BLOCKS).min(self.blocks)
    }

    /// Waits for the sole right to change the blocks `from..to`, of which there is at least one.
    pub(super) fn hold(&self, from: u64, to: u64) -> Held<'_> {
        // Always in rising order, so that no two holders wait for each other.
        let mut shares = self.shares(from, to).map(|(leaf, ..)| self.leaves[leaf].lock.lock());
        let first = shares.next().unwrap_or_else(|| self.leaves[0].lock.lock());
        Held { _first: first, _rest: shares.collect() }
    }

    /// As [`hold`](Self::hold), or `None` when another has it.
    pub(super) fn try_hold(&self, from: u64, to: u64) -> Option<Held<'_>> {
        let mut shares = self.shares(from, to).map(|(leaf, ..)| self.leaves[leaf].lock.try_lock());
        let first = shares.next()??;
        Some(Held { _first: first, _rest: shares.collect::<Option<_>>()? })
    }

    /// The state of block `from`, and the first block behind it, up to `to`, that is in another.
    pub(super) fn run(&self, from: u64, to: u64) -> (State, u64) {
        let mut found = None;
        let mut at = from;
        for (leaf, first, last) in self.shares(from, to) {
            let (state, upto) = self.leaves[leaf].run(first, last);
            if *found.get_or_insert(state) != state {
                break;
            }
            at = leaf as u64 * LEAF_BLOCKS + upto;
            if upto < last {
                break;
            }
        }
        (found.unwrap_or(State::Lower), at)
    }

    /// How many of the blocks `from..to` are [`State::Written`].
    pub(super) fn written(&self, from: u64, to: u64) -> u64 {
        let in_word = |word: u64| u64::from((word & !(word >> 1) & LOW_BITS).count_ones());
        self.shares(from, to)
            .filter(|(leaf, ..)| self.leaves[*leaf].uniform().is_none())
            .map(|(leaf, first, last)| {
                (first / WORD_BLOCKS..last.div_ceil(WORD_BLOCKS))
                    .map(|index| {
                        let all = self.leaves[leaf].word(index as usize);
                        let inside = changed(0, index, first, last, State::Written);
                        in_word(all & (inside | inside << 1))
                    })
                    .sum::<u64>()
            })
            .sum()
    }

    /// The state that all blocks of a leaf share, if it is known that they do.
    pub(super) fn uniform(&self, leaf: usize) -> Option<State> {
        self.leaves[leaf].uniform()
    }

    /// The words of a leaf that hold its blocks `from..to`, as they are now.
    pub(super) fn words(&self, leaf: usize, from: u64, to: u64) -> Vec<u64> {
        (from / WORD_BLOCKS..to.div_ceil(WORD_BLOCKS)).map(|i| self.leaves[leaf].word(i as usize)).collect()
    }

    /// The same words as they will be when the blocks are in `state`.
    pub(super) fn words_with(&self, leaf: usize, from: u64, to: u64, state: State) -> Vec<u64> {
        let first = from / WORD_BLOCKS;
        let mut words = self.words(leaf, from, to);
        for (index, word) in (first..).zip(&mut words) {
            *word = changed(*word, index, from, to, state);
        }
        words
    }

    /// Puts the blocks `from..to` into `state`. The caller holds them.
    pub(super) fn set(&self, from: u64, to: u64, state: State, _: &Held<'_>) {
        for (leaf, first, last) in self.shares(from, to) {
            if state == State::Zeroed && self.is_whole(leaf, first, last) {
                self.leaves[leaf].kind.store(State::Zeroed as u8, Ordering::Release);
            } else if self.leaves[leaf].uniform() != Some(state) {
                self.leaves[leaf].set(first, last, state);
            }
        }
    }

    /// Fills a leaf of a map that nobody uses yet: all zeroed, or as the words say.
    pub(super) fn load(&mut self, leaf: usize, words: Option<&[u64]>) {
        let Some(words) = words else {
            return self.leaves[leaf].kind.store(State::Zeroed as u8, Ordering::Release);
        };
        for (to, from) in self.leaves[leaf].words().iter().zip(words) {
            to.store(*from, Ordering::Relaxed);
        }
        self.leaves[leaf].kind.store(MIXED, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BLOCKS: u64 = 2 * LEAF_BLOCKS + 77;

    fn state() -> impl Strategy<Value = State> {
        prop_oneof![Just(State::Written), Just(State::Zeroed)]
    }

    fn range() -> impl Strategy<Value = (u64, u64)> {
        let place = prop_oneof![
            0..BLOCKS,
            (0u64..3).prop_map(|leaf| leaf * LEAF_BLOCKS),
            LEAF_BLOCKS - 40..LEAF_BLOCKS + 40,
            Just(BLOCKS),
        ];
        let length = prop_oneof![1u64..100, Just(LEAF_BLOCKS), Just(BLOCKS)];
        (place, length)
            .prop_map(|(from, len)| (from.min(BLOCKS - 1), (from.min(BLOCKS - 1) + len).min(BLOCKS)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn is_an_array_of_states(changes in prop::collection::vec((range(), state()), 1..20)) {
            let map = Map::new(BLOCKS);
            let mut model = vec![State::Lower; BLOCKS as usize];
            for ((from, to), state) in changes {
                map.set(from, to, state, &map.hold(from, to));
                model[from as usize..to as usize].fill(state);
                let written = model[from as usize / 2..to as usize].iter().filter(|s| **s == State::Written).count();
                prop_assert_eq!(map.written(from / 2, to), written as u64);
            }
            let mut at = 0;
            while at < BLOCKS {
                let (state, upto) = map.run(at, BLOCKS);
                let rest = &model[at as usize..];
                let alike = rest.iter().take_while(|s| **s == rest[0]).count() as u64;
                prop_assert_eq!((state, upto), (rest[0], at + alike));
                at = upto;
            }
        }
    }

    #[test]
    fn holders_of_one_leaf_exclude_each_other_and_no_one_else() {
        let map = Map::new(BLOCKS);
        let held = map.hold(LEAF_BLOCKS - 1, LEAF_BLOCKS);
        assert!(map.try_hold(0, 1).is_none());
        assert!(map.try_hold(0, BLOCKS).is_none());
        assert!(map.try_hold(LEAF_BLOCKS, BLOCKS).is_some());
        drop(held);
        assert!(map.try_hold(0, BLOCKS).is_some());
    }

    #[test]
    fn a_map_of_a_huge_disk_is_small() {
        // 1 TiB: the leaves' heads only.
        let map = Map::new(1 << 28);
        assert_eq!(map.leaves(), 4096);
        assert!(size_of::<Leaf>() <= 24);
        map.set(0, 1 << 28, State::Zeroed, &map.hold(0, 1 << 28));
        assert!(map.leaves.iter().all(|l| l.words.get().is_none()));
    }
}
