//! An overlay is a patched buffer: whatever is done to it, in whatever order, and whoever kills it in between.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, too, may fail a test

mod faults;
mod full;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use block::{
    BlockCount, BlockError, BlockRange, Checked, Durability, ErrorKind, Extent, FileVolume, Geometry, Lba,
    MemVolume, OpenError, Overlay, OverlayOptions, Provisioning, Segments, Volume,
};
use bytes::Bytes;
use proptest::prelude::*;

const SECTOR: usize = 512;

fn range(start: u64, count: u64) -> BlockRange {
    BlockRange::new(Lba::new(start), BlockCount::new(count)).unwrap()
}

fn options(limit: u64) -> OverlayOptions {
    OverlayOptions { limit: block::Bytes(limit), durability: Durability::Volatile }
}

/// An image no two of whose sectors are alike, and none zero.
fn image(sectors: u64) -> Vec<u8> {
    (1..=sectors).flat_map(|i| i.to_le_bytes().repeat(SECTOR / 8)).collect()
}

fn lower(bytes: &[u8]) -> Arc<dyn Volume> {
    Arc::new(MemVolume::from_bytes(bytes.to_vec()).unwrap())
}

/// A volume that answers every other attempt to read without waiting with a refusal.
struct Shy(Arc<dyn Volume>, AtomicBool);

impl Volume for Shy {
    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }
    fn read(&self, range: BlockRange, out: &mut Segments) -> Result<(), BlockError> {
        self.0.read(range, out)
    }
    fn try_read(&self, range: BlockRange, out: &mut Segments) -> Result<bool, BlockError> {
        if self.1.fetch_xor(true, Ordering::Relaxed) { Ok(false) } else { self.0.try_read(range, out) }
    }
    fn write(&self, _: Lba, _: &[Bytes], _: bool) -> Result<(), BlockError> {
        panic!("a client wrote to the image")
    }
    fn flush(&self) -> Result<(), BlockError> {
        panic!("a client flushed the image")
    }
    fn discard(&self, _: BlockRange) -> Result<(), BlockError> {
        panic!("a client discarded blocks of the image")
    }
}

fn read(disk: &dyn Volume, range: BlockRange) -> Vec<u8> {
    let mut out = Segments::new();
    disk.read(range, &mut out).unwrap();
    out.to_bytes().to_vec()
}

fn whole(disk: &dyn Volume) -> Vec<u8> {
    read(disk, disk.geometry().whole())
}

fn kind<T>(result: Result<T, BlockError>) -> Option<ErrorKind> {
    result.err().map(|e| e.kind())
}

/// Directories on a file system in memory and on one on a disk, as far as this machine has both.
fn places() -> Vec<tempfile::TempDir> {
    let shm = Path::new("/dev/shm");
    let mut all = vec![tempfile::tempdir().unwrap()];
    if shm.is_dir() {
        all.push(tempfile::tempdir_in(shm).unwrap());
    }
    all
}

#[derive(Debug, Clone)]
enum Op {
    Write { start: u64, sectors: u64, fill: u8, pieces: u64, try_first: bool },
    Discard { start: u64, sectors: u64 },
    Read { start: u64, sectors: u64 },
    Reopen,
}

fn op(disk: u64) -> impl Strategy<Value = Op> {
    let place = (0..disk, prop_oneof![1u64..9, 1u64..40, Just(disk)])
        .prop_map(move |(start, len)| if len == disk { (0, disk) } else { (start, len.min(disk - start)) });
    prop_oneof![
        6 => (place.clone(), any::<u8>(), 1u64..4, any::<bool>()).prop_map(
            |((start, sectors), fill, pieces, try_first)| Op::Write { start, sectors, fill, pieces, try_first }
        ),
        3 => place.clone().prop_map(|(start, sectors)| Op::Discard { start, sectors }),
        2 => place.prop_map(|(start, sectors)| Op::Read { start, sectors }),
        1 => Just(Op::Reopen),
    ]
}

#[derive(Clone, Copy, PartialEq)]
enum Is {
    Lower,
    Written,
    Zeroed,
}

/// What an overlay should be: the bytes, and how it keeps each 4 KiB block.
struct Model {
    bytes: Vec<u8>,
    blocks: Vec<Is>,
    limit: usize,
}

impl Model {
    fn taken(&self) -> usize {
        self.blocks.iter().filter(|b| **b == Is::Written).count()
    }

    /// Writes, or says that there is no space for it.
    fn write(&mut self, start: usize, bytes: &[u8]) -> bool {
        let blocks = start / 4096..(start + bytes.len()).div_ceil(4096);
        let more = self.blocks[blocks.clone()].iter().filter(|b| **b != Is::Written).count();
        if more > 0 && self.taken() + more > self.limit {
            return false;
        }
        self.blocks[blocks].fill(Is::Written);
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        true
    }

    /// Discards whole blocks, then writes zeros to what is left at both ends, as long as there is space.
    fn discard(&mut self, from: usize, to: usize) -> bool {
        let first = from.div_ceil(4096);
        let last = if to == self.bytes.len() { to.div_ceil(4096) } else { to / 4096 };
        if first < last {
            self.blocks[first..last].fill(Is::Zeroed);
            self.bytes[first * 4096..(last * 4096).min(to)].fill(0);
        }
        let parts =
            if first > last { [(from, to), (to, to)] } else { [(from, first * 4096), (last * 4096, to)] };
        parts.into_iter().all(|(from, to)| {
            let to = to.min(self.bytes.len());
            from >= to || self.blocks[from / 4096] == Is::Zeroed || self.write(from, &vec![0; to - from])
        })
    }

    /// How the sectors from `start` on are provisioned, and up to where.
    fn provisioning(&self, start: usize) -> (Provisioning, usize) {
        let zeroed = |block: &Is| *block == Is::Zeroed;
        let first = zeroed(&self.blocks[start / 8]);
        let alike = self.blocks[start / 8..].iter().take_while(|b| zeroed(b) == first).count();
        let state = if first { Provisioning::Deallocated } else { Provisioning::Mapped };
        (state, ((start / 8 + alike) * 8).min(self.bytes.len() / SECTOR))
    }
}

/// Data to write, cut into that many pieces.
fn data(sectors: u64, fill: u8, pieces: u64) -> Vec<Bytes> {
    let whole: Vec<u8> = (0..sectors).flat_map(|i| [fill.wrapping_add(i as u8); SECTOR]).collect();
    whole.chunks(whole.len().div_ceil(pieces as usize)).map(Bytes::copy_from_slice).collect()
}

fn follows_its_model(place: &Path, sectors: u64, ops: &[Op]) -> Result<(), TestCaseError> {
    let image = image(sectors);
    let path = place.join("disk");
    for file in Overlay::files(&path) {
        let _ = std::fs::remove_file(file);
    }
    let limit = 24;
    let open = |fresh: bool| -> (Arc<Overlay>, Checked) {
        let made = if fresh { Overlay::create } else { Overlay::open };
        let lower = Arc::new(Shy(lower(&image), AtomicBool::new(false)));
        let overlay = Arc::new(made(lower, &path, options(limit as u64 * 4096)).unwrap());
        (Arc::clone(&overlay), Checked::new(overlay))
    };
    let (mut overlay, mut disk) = open(true);
    let blocks = vec![Is::Lower; (sectors as usize).div_ceil(8)];
    let mut model = Model { bytes: image.clone(), blocks, limit };
    let bytes = |start: u64, sectors: u64| start as usize * SECTOR..(start + sectors) as usize * SECTOR;
    let failure = |fits: bool| (!fits).then_some(ErrorKind::NoSpace);
    for op in ops {
        match *op {
            Op::Write { start, sectors, fill, pieces, try_first } => {
                let data = data(sectors, fill, pieces);
                let fits = model.write(start as usize * SECTOR, &data.concat());
                let done = match try_first.then(|| disk.try_write(Lba::new(start), &data, false)) {
                    Some(Ok(true)) => Ok(()),
                    Some(Err(e)) => Err(e),
                    None | Some(Ok(false)) => disk.write(Lba::new(start), &data, false),
                };
                prop_assert_eq!(kind(done), failure(fits));
            }
            Op::Discard { start, sectors } => {
                let place = bytes(start, sectors);
                let fits = model.discard(place.start, place.end);
                prop_assert_eq!(kind(disk.discard(range(start, sectors))), failure(fits));
            }
            Op::Read { start, sectors: count } => {
                let mut out = Segments::from(Bytes::from_static(b"kept"));
                if disk.try_read(range(start, count), &mut out).unwrap() {
                    prop_assert_eq!(&out.to_bytes()[4..], &model.bytes[bytes(start, count)]);
                } else {
                    prop_assert_eq!(&out.to_bytes()[..], &b"kept"[..]);
                }
                let (state, end) = model.provisioning(start as usize);
                let run = range(start, end as u64 - start);
                prop_assert_eq!(
                    disk.provisioning(range(start, sectors - start)).unwrap(),
                    Extent { range: run, state }
                );
            }
            Op::Reopen => {
                // Nothing is written when an overlay is dropped, so this is what a killed process leaves.
                drop((overlay, disk));
                (overlay, disk) = open(false);
            }
        }
        prop_assert!(whole(&disk) == model.bytes, "bytes differ after {:?}", op);
        prop_assert_eq!(overlay.used().0 as usize, model.taken() * 4096);
        prop_assert!(model.taken() <= limit);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn is_a_patched_buffer(ops in prop::collection::vec(op(331), 1..40)) {
        for place in places() {
            follows_its_model(place.path(), 331, &ops)?;
        }
    }

    #[test]
    fn is_a_patched_buffer_of_whole_blocks(ops in prop::collection::vec(op(256), 1..40)) {
        for place in places() {
            follows_its_model(place.path(), 256, &ops)?;
        }
    }
}

#[test]
fn overlapping_calls_leave_each_sector_with_one_of_the_writes() {
    const SECTORS: u64 = 64;
    const THREADS: u8 = 4;
    for place in places() {
        let image = image(SECTORS);
        let disk =
            Arc::new(Overlay::create(lower(&image), &place.path().join("disk"), options(1 << 20)).unwrap());
        let stop = AtomicBool::new(false);
        // A sector is whole when it is the image's, zero, or all of one writer's byte.
        let sound = |sector: usize, bytes: &[u8]| {
            bytes == &image[sector * SECTOR..][..SECTOR] || bytes.iter().all(|b| *b == bytes[0])
        };
        std::thread::scope(|scope| {
            for id in 1..=THREADS {
                let (disk, stop) = (Arc::clone(&disk), &stop);
                scope.spawn(move || {
                    let mut random = u64::from(id);
                    while !stop.load(Ordering::Relaxed) {
                        random = random
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1_442_695_040_888_963_407);
                        let start = (random >> 33) % SECTORS;
                        let count = ((random >> 45) % 20).min(SECTORS - start).max(1);
                        if random >> 61 == 0 {
                            disk.discard(range(start, count)).unwrap();
                        } else {
                            let data = [Bytes::from(vec![id; count as usize * SECTOR])];
                            disk.write(Lba::new(start), &data, false).unwrap();
                        }
                    }
                });
            }
            std::thread::sleep(std::time::Duration::from_millis(300));
            stop.store(true, Ordering::Relaxed);
        });
        let after = whole(&*disk);
        for (sector, bytes) in after.chunks(SECTOR).enumerate() {
            assert!(sound(sector, bytes), "sector {sector} is a mixture");
        }
        let used = disk.used();
        drop(disk);
        let again = Overlay::open(lower(&image), &place.path().join("disk"), options(1 << 20)).unwrap();
        assert_eq!(again.used(), used);
        assert!(whole(&again) == after, "the record and the map differ");
    }
}

#[test]
fn neighbours_in_one_block_keep_their_own_sectors() {
    for place in places() {
        for round in 0..40u8 {
            let path = place.path().join(format!("disk{round}"));
            let disk = Overlay::create(lower(&image(64)), &path, options(1 << 20)).unwrap();
            // Eight threads own one sector each of every block; whoever is first, makes the block.
            std::thread::scope(|scope| {
                for sector in 0..8u8 {
                    let disk = &disk;
                    scope.spawn(move || {
                        for block in 0..8 {
                            let place = range(block * 8 + u64::from(sector), 1);
                            if sector == 7 {
                                disk.discard(place).unwrap();
                            } else {
                                let data = [Bytes::from(vec![sector + round; SECTOR])];
                                disk.write(place.start(), &data, false).unwrap();
                            }
                        }
                    });
                }
            });
            for (at, bytes) in whole(&disk).chunks(SECTOR).enumerate() {
                let want = if at % 8 == 7 { 0 } else { at as u8 % 8 + round };
                assert!(bytes.iter().all(|b| *b == want), "round {round}: sector {at} holds {}", bytes[0]);
            }
        }
    }
}

/// A sparse image of 1 TiB.
fn huge(place: &Path) -> Arc<dyn Volume> {
    let path = place.join("huge");
    std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    FileVolume::read_only(&path).unwrap().shared()
}

#[test]
fn a_huge_disk_is_made_and_discarded_at_once() {
    for place in places() {
        let lower = huge(place.path());
        let mut times: Vec<_> = (0..21)
            .map(|i| {
                let begin = std::time::Instant::now();
                let path = place.path().join(format!("disk{i}"));
                let _disk = Overlay::create(Arc::clone(&lower), &path, options(1 << 30)).unwrap();
                begin.elapsed()
            })
            .collect();
        times.sort();
        // A tenth of it is usual; other tests run beside this one.
        assert!(times[10] < std::time::Duration::from_millis(10), "{times:?}");

        let path = place.path().join("disk0");
        let disk = Overlay::open(Arc::clone(&lower), &path, options(1 << 30)).unwrap();
        let far = Lba::new((1 << 31) - 9);
        disk.write(far, &[Bytes::from(vec![5; SECTOR])], false).unwrap();
        assert_eq!(disk.used().0, 4096);
        let begin = std::time::Instant::now();
        disk.discard(disk.geometry().whole()).unwrap();
        assert!(begin.elapsed() < std::time::Duration::from_millis(500), "{:?}", begin.elapsed());
        assert_eq!(disk.used().0, 0);
        disk.write(Lba::new(1 << 30), &[Bytes::from(vec![6; SECTOR])], false).unwrap();
        let disk = Overlay::open(lower, &path, options(1 << 30)).unwrap();
        assert_eq!(read(&disk, BlockRange::new(far, BlockCount::new(1)).unwrap()), vec![0; SECTOR]);
        assert_eq!(read(&disk, range(1 << 30, 2)), [vec![6; SECTOR], vec![0; SECTOR]].concat());
        let all = disk.provisioning(range(0, 1 << 31)).unwrap();
        assert_eq!(all, Extent { range: range(0, 1 << 30), state: Provisioning::Deallocated });
    }
}

#[test]
fn space_follows_what_was_written() {
    use std::os::unix::fs::MetadataExt;
    for place in places() {
        let path = place.path().join("disk");
        let disk = Overlay::create(huge(place.path()), &path, options(1 << 30)).unwrap();
        let taken =
            || Overlay::files(&path).iter().map(|f| f.metadata().unwrap().blocks() * 512).sum::<u64>();
        assert!(taken() <= 64 << 10, "{} bytes for nothing", taken());
        disk.write(Lba::new(1 << 20), &[Bytes::from(vec![5; 1 << 20])], false).unwrap();
        disk.write(Lba::new(1 << 30), &[Bytes::from(vec![5; 1 << 20])], false).unwrap();
        assert!((2 << 20..3 << 20).contains(&taken()), "{} bytes for 2 MiB", taken());
        disk.discard(range(1 << 20, 2048)).unwrap();
        disk.discard(range(1 << 30, 2048)).unwrap();
        assert!(taken() < 256 << 10, "{} bytes after the discard", taken());
    }
}

#[test]
fn a_retired_overlay_answers_gone_and_gives_its_space_back() {
    use std::os::unix::fs::MetadataExt;
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("disk");
    let disk = Overlay::create(lower(&image(4096)), &path, options(1 << 30)).unwrap();
    let data = [Bytes::from(vec![5; 1 << 20])];
    disk.write(Lba::ZERO, &data, false).unwrap();
    disk.retire();
    let mut out = Segments::new();
    let gone = Some(ErrorKind::Gone);
    assert_eq!(kind(disk.read(range(0, 1), &mut out)), gone);
    assert_eq!(kind(disk.read(range(4000, 1), &mut out)), gone);
    assert_eq!(kind(disk.try_read(range(0, 1), &mut out)), gone);
    assert_eq!(kind(disk.write(Lba::ZERO, &data, false)), gone);
    assert_eq!(kind(disk.try_write(Lba::ZERO, &data, false)), gone);
    assert_eq!(kind(disk.discard(range(0, 8))), gone);
    assert_eq!(kind(disk.flush()), gone);
    assert_eq!(kind(disk.provisioning(range(0, 8))), gone);
    disk.release();
    assert!(path.metadata().unwrap().blocks() < 8);
}

#[test]
fn files_that_are_not_this_disks_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("disk");
    let small = lower(&image(4096));
    drop(Overlay::create(Arc::clone(&small), &path, options(1 << 30)).unwrap());
    let open = |lower: &Arc<dyn Volume>| match Overlay::open(Arc::clone(lower), &path, options(1 << 30)) {
        Err(OpenError::Damaged { why, .. }) => why,
        other => panic!("{:?}", other.err()),
    };
    let twice = Overlay::create(Arc::clone(&small), &path, options(1 << 30));
    assert!(
        matches!(twice.err(), Some(OpenError::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists)
    );
    assert!(path.exists(), "a refused overlay took another's file with it");
    assert!(open(&lower(&image(4104))).contains("another size"));
    let [_, state]: [PathBuf; 2] = Overlay::files(&path);
    let good = std::fs::read(&state).unwrap();
    std::fs::write(&state, [&good[..], &vec![0; 8192 - good.len()], &[0xff; 64]].concat()).unwrap();
    assert!(open(&small).contains("no state"));
    std::fs::write(&state, b"BOOTDOVL\x02").unwrap();
    assert!(open(&small).contains("format"));
    std::fs::write(&state, b"").unwrap();
    assert!(open(&small).contains("not a record"));
}

#[test]
fn persistent_overlays_flush() {
    let place = tempfile::tempdir().unwrap();
    let options = OverlayOptions { limit: block::Bytes(1 << 20), durability: Durability::Persistent };
    let disk = Overlay::create(lower(&image(64)), &place.path().join("disk"), options).unwrap();
    let data = [Bytes::from(vec![5; 4096])];
    assert!(!disk.try_write(Lba::ZERO, &data, true).unwrap(), "forced unit access waits for the medium");
    disk.write(Lba::ZERO, &data, true).unwrap();
    disk.flush().unwrap();
}

/// A geometry is whatever lies beneath, to the sector.
#[test]
fn geometry_is_the_images() {
    let place = tempfile::tempdir().unwrap();
    let disk = Overlay::create(lower(&image(77)), &place.path().join("disk"), options(1 << 20)).unwrap();
    assert_eq!(disk.geometry(), Geometry::new(BlockCount::new(77)).unwrap());
}
