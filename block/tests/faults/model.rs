//! What a disk may hold after faults: what was acknowledged, and of what was not, the old or the new, sector by sector.

use std::ops::Range;
use std::path::Path;

use block::{BlockCount, BlockRange, Lba, Segments, Volume};
use bytes::Bytes;

pub(crate) const SECTOR: usize = 512;

/// The disk's length in sectors: no whole number of the overlay's blocks.
pub(crate) const SECTORS: u64 = 203;

/// How often a sector is read that fails by chance.
const PATIENCE: usize = 1000;

/// How many runs there are, each by a seed of its own. `BOOTD_SEEDS` asks for more.
pub(crate) fn seeds(usual: u64) -> Range<u64> {
    let asked = std::env::var("BOOTD_SEEDS").ok().map(|text| text.parse().expect("BOOTD_SEEDS is a number"));
    0..asked.unwrap_or(usual)
}

/// A place in memory, where the machine has one: runs write much and keep nothing.
pub(crate) fn place() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.unwrap()
}

/// Numbers that look random and are the same for the same seed (Vigna's SplitMix64).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// A number below `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % sides
    }

    /// Whether it happens this time, as it does once in `sides`.
    pub(crate) fn once_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    /// Some sectors of the disk: mostly few, sometimes many.
    pub(crate) fn range(&mut self) -> Range<u64> {
        let start = self.roll(SECTORS);
        let most = if self.once_in(8) { SECTORS } else { 20 };
        start..(start + 1 + self.roll(most)).min(SECTORS)
    }
}

/// What one sector holds, again and again. Zero is a discarded sector.
pub(crate) type Stamp = u64;

/// The image's sectors are stamped with their numbers, from 1.
pub(crate) fn image() -> Vec<u8> {
    (1..=SECTORS).flat_map(|stamp: Stamp| stamp.to_le_bytes().repeat(SECTOR / 8)).collect()
}

/// The sectors of a write.
pub(crate) fn stamped(stamp: Stamp, sectors: &Range<u64>) -> Bytes {
    stamp.to_le_bytes().repeat((sectors.end - sectors.start) as usize * SECTOR / 8).into()
}

pub(crate) fn blocks(sectors: &Range<u64>) -> BlockRange {
    BlockRange::new(Lba::new(sectors.start), BlockCount::new(sectors.end - sectors.start)).unwrap()
}

/// What each sector may hold; the first is what was acknowledged last.
#[derive(Clone)]
pub(crate) struct Model {
    may: Vec<Vec<Stamp>>,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self { may: (1..=SECTORS).map(|stamp| vec![stamp]).collect() }
    }

    fn at(&mut self, sectors: &Range<u64>) -> &mut [Vec<Stamp>] {
        &mut self.may[sectors.start as usize..sectors.end as usize]
    }

    /// It is on its way: from now on it may be there.
    pub(crate) fn begin(&mut self, sectors: &Range<u64>, stamp: Stamp) {
        for may in self.at(sectors) {
            if !may.contains(&stamp) {
                may.push(stamp);
            }
        }
    }

    /// It is acknowledged: nothing else may be there.
    pub(crate) fn done(&mut self, sectors: &Range<u64>, stamp: Stamp) {
        self.at(sectors).fill(vec![stamp]);
    }

    /// It was refused: it may not be there.
    pub(crate) fn refused(&mut self, sectors: &Range<u64>, stamp: Stamp) {
        for may in self.at(sectors) {
            if may.first() != Some(&stamp) {
                may.retain(|it| *it != stamp);
            }
        }
    }

    /// Those sectors were read. `is_settled`: nothing is under way to them, so from now on they hold just that.
    pub(crate) fn saw(&mut self, sectors: &Range<u64>, bytes: &[u8], is_settled: impl Fn(u64) -> bool) {
        assert_eq!(bytes.len() as u64, (sectors.end - sectors.start) * SECTOR as u64, "bytes of {sectors:?}");
        for (sector, bytes) in sectors.clone().zip(bytes.chunks(SECTOR)) {
            let stamps: Vec<Stamp> =
                bytes.as_chunks().0.iter().map(|bytes| Stamp::from_le_bytes(*bytes)).collect();
            let stamp = stamps[0];
            assert!(stamps.iter().all(|it| *it == stamp), "sector {sector} is torn: {stamps:?}");
            let may = &mut self.may[sector as usize];
            assert!(may.contains(&stamp), "sector {sector} holds {stamp}, and may hold {may:?}");
            if is_settled(sector) {
                *may = vec![stamp];
            }
        }
    }

    /// All of the disk, on which nothing is under way.
    pub(crate) fn check(&mut self, disk: &dyn Volume) {
        for sector in 0..SECTORS {
            let sectors = sector..sector + 1;
            let bytes = patiently(disk, &sectors);
            self.saw(&sectors, &bytes, |_| true);
        }
    }
}

fn patiently(disk: &dyn Volume, sectors: &Range<u64>) -> Bytes {
    let read = |_| {
        let mut out = Segments::new();
        disk.read(blocks(sectors), &mut out).ok().map(|()| out.to_bytes())
    };
    (0..PATIENCE).find_map(read).expect("a sector that can be read at last")
}
