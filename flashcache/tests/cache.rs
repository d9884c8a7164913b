//! What the cache promises: it is never seen, but for its speed.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use block::{BlockCount, BlockError, BlockRange, Bytes as Limit, ErrorKind, Geometry, Lba, Segments, Volume};
use bytes::Bytes;
use flashcache::{CHUNK_LEN, CachedVolume, Digest, FlashCache};
use proptest::prelude::*;

/// A source that counts its reads, can be slow, and fails in one place.
struct Source {
    bytes: Bytes,
    reads: AtomicU64,
    /// Chunks that were read, by however many requests.
    chunks: AtomicU64,
    delay: Duration,
    bad: Option<u64>,
    at_hand: bool,
}

impl Source {
    fn new(len: usize, seed: u64) -> Self {
        let bytes: Vec<u8> = (0..len as u64)
            .map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(seed) >> 32) as u8)
            .collect();
        Self {
            bytes: bytes.into(),
            reads: AtomicU64::new(0),
            chunks: AtomicU64::new(0),
            delay: Duration::ZERO,
            bad: None,
            at_hand: false,
        }
    }
}

impl Volume for Source {
    fn geometry(&self) -> Geometry {
        Geometry::new(BlockCount::from_bytes(self.bytes.len() as u64).unwrap()).unwrap()
    }

    fn read(&self, range: BlockRange, out: &mut Segments) -> Result<(), BlockError> {
        self.reads.fetch_add(1, SeqCst);
        self.chunks.fetch_add(range.byte_len().div_ceil(CHUNK_LEN as u64), SeqCst);
        std::thread::sleep(self.delay);
        let (start, end) = (range.byte_start(), range.byte_start() + range.byte_len());
        if self.bad.is_some_and(|bad| start <= bad && bad < end) {
            return Err(BlockError::new(ErrorKind::ReadFailed, "bad block"));
        }
        out.push(Bytes::copy_from_slice(&self.bytes[start as usize..end as usize]));
        Ok(())
    }

    fn try_read(&self, range: BlockRange, out: &mut Segments) -> Result<bool, BlockError> {
        if self.at_hand { self.read(range, out).map(|()| true) } else { Ok(false) }
    }

    fn write(&self, _: Lba, _: &[Bytes], _: bool) -> Result<(), BlockError> {
        unreachable!("a cache never writes")
    }

    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn discard(&self, _: BlockRange) -> Result<(), BlockError> {
        unreachable!("a cache never discards")
    }
}

fn range(start: u64, count: u64) -> BlockRange {
    BlockRange::new(Lba::new(start), BlockCount::new(count)).unwrap()
}

fn read(volume: &dyn Volume, wanted: BlockRange) -> Vec<u8> {
    let mut out = Segments::new();
    volume.read(wanted, &mut out).unwrap();
    out.to_bytes().to_vec()
}

fn cache(chunks: u64) -> Arc<FlashCache> {
    FlashCache::new(Limit(chunks * CHUNK_LEN as u64))
}

/// Half a chunk more than nine, so that the last one is short.
const LEN: usize = 9 * CHUNK_LEN + CHUNK_LEN / 2;

proptest! {
    #[test]
    fn a_cached_disk_reads_as_the_disk(
        capacity in 1_u64..12,
        reads in prop::collection::vec((0_u64..(LEN / 512) as u64, 0_u64..300, any::<bool>()), 1..60),
        at_hand: bool,
    ) {
        let source = Source { at_hand, ..Source::new(LEN, 1) };
        let bytes = source.bytes.clone();
        let cache = cache(capacity);
        let volume = CachedVolume::new(&cache, Arc::new(source), None);
        for (start, count, trying) in reads {
            let wanted = range(start, count.min((LEN / 512) as u64 - start));
            let expected = &bytes[wanted.byte_start() as usize..][..wanted.byte_len() as usize];
            if trying {
                let mut out = Segments::from(Bytes::from_static(b"before"));
                let mut done = volume.try_read(wanted, &mut out).unwrap();
                // What is at hand may just be being read ahead, and is there in a moment.
                let until = Instant::now() + Duration::from_secs(60);
                while at_hand && !done && Instant::now() < until {
                    done = volume.try_read(wanted, &mut out).unwrap();
                }
                let all = out.to_bytes();
                prop_assert_eq!(&all[..6], b"before");
                prop_assert_eq!(&all[6..], if done { expected } else { &[] });
                prop_assert!(done || !at_hand);
            } else {
                prop_assert_eq!(read(&volume, wanted), expected);
            }
            prop_assert!(cache.usage().used <= cache.usage().capacity);
        }
    }
}

#[test]
fn a_hit_shares_the_memory_of_the_cache() {
    let volume = CachedVolume::new(&cache(4), Arc::new(Source::new(LEN, 1)), None);
    let pointer = |wanted| {
        let mut out = Segments::new();
        assert!(volume.try_read(wanted, &mut out).unwrap());
        out.pieces()[0].as_ptr() as usize
    };
    read(&volume, range(0, 64));
    assert_eq!(pointer(range(0, 8)) + 512, pointer(range(1, 1)));
    assert_eq!((volume.misses(), volume.hits()), (1, 2));
}

#[test]
fn many_who_want_one_chunk_read_it_once() {
    let source = Arc::new(Source { delay: Duration::from_millis(50), ..Source::new(LEN, 1) });
    let volume = CachedVolume::new(&cache(4), Arc::clone(&source) as Arc<dyn Volume>, None);
    std::thread::scope(|scope| {
        for block in 0..16 {
            let (volume, bytes) = (&volume, &source.bytes);
            scope.spawn(move || {
                let wanted = range(block, 64);
                assert_eq!(read(volume, wanted), bytes[block as usize * 512..][..64 * 512]);
            });
        }
    });
    assert_eq!(source.reads.load(SeqCst), 1);
    assert_eq!((volume.misses(), volume.hits()), (1, 15));
}

#[test]
fn an_error_is_told_to_those_who_asked_and_forgotten() {
    let source = Arc::new(Source { bad: Some(CHUNK_LEN as u64 + 5), ..Source::new(LEN, 1) });
    let volume = CachedVolume::new(&cache(4), Arc::clone(&source) as Arc<dyn Volume>, None);
    for _ in 0..2 {
        let failed = volume.read(range(128, 64), &mut Segments::new()).unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::ReadFailed);
    }
    assert_eq!(source.reads.load(SeqCst), 4, "each time the chunk, then the part alone");
    assert_eq!(read(&volume, range(129, 7)), source.bytes[129 * 512..136 * 512], "its neighbours are good");
    assert_eq!(read(&volume, range(0, 128)), source.bytes[..CHUNK_LEN]);
    assert_eq!(read(&volume, range(256, 128)), source.bytes[2 * CHUNK_LEN..3 * CHUNK_LEN]);
}

#[test]
fn equal_chunks_of_two_versions_are_held_once() {
    let (old, new) = (Arc::new(Source::new(LEN, 1)), Arc::new(Source::new(LEN, 1)));
    let digests: Arc<[Digest]> = (0..10).map(|chunk| [chunk; 32]).collect();
    let cache = cache(20);
    let volumes = [&old, &new].map(|source| {
        CachedVolume::new(&cache, Arc::clone(source) as Arc<dyn Volume>, Some(Arc::clone(&digests)))
    });
    for volume in &volumes {
        assert_eq!(read(volume, range(0, (LEN / 512) as u64)), old.bytes);
    }
    assert_eq!(cache.usage().used, LEN as u64);
    assert_eq!((old.chunks.load(SeqCst), new.chunks.load(SeqCst)), (10, 0));
    assert_eq!(old.reads.load(SeqCst), 1, "by one request");
}

#[test]
fn zeros_take_no_room() {
    let source = Source { bytes: Bytes::from(vec![0; LEN]), ..Source::new(512, 1) };
    let cache = cache(20);
    let volume = CachedVolume::new(&cache, Arc::new(source), None);
    assert_eq!(read(&volume, range(0, (LEN / 512) as u64)), vec![0; LEN]);
    assert_eq!(cache.usage().used, CHUNK_LEN as u64 / 2, "only the short chunk at the end");
}

#[test]
fn one_client_that_scans_does_not_ruin_it_for_the_others() {
    let image = |chunks: usize, seed| Arc::new(Source::new(chunks * CHUNK_LEN, seed));
    let (busy, scanned) = (image(40, 1), image(400, 2));
    let cache = cache(64);
    let mine = CachedVolume::new(&cache, Arc::clone(&busy) as Arc<dyn Volume>, None);
    let theirs = CachedVolume::new(&cache, Arc::clone(&scanned) as Arc<dyn Volume>, None);
    let work = || (0..40).for_each(|chunk| drop(read(&mine, range(chunk * 128 + 16, 8))));
    work();
    work();
    let before = mine.misses();
    for piece in 0..400 * 8 {
        read(&theirs, range(piece * 16, 16));
        if piece % 64 == 0 {
            work();
        }
    }
    assert_eq!(mine.misses() - before, 0, "the working set was pushed out");
}

/// Waits for what other threads do.
fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_reader_that_goes_on_finds_what_comes_next() {
    let source = Arc::new(Source::new(200 * CHUNK_LEN, 1));
    let cache = cache(400);
    let volume = CachedVolume::new(&cache, Arc::clone(&source) as Arc<dyn Volume>, None);
    let chunk = |index: u64| range(index * 128, 128);
    read(&volume, chunk(0));
    read(&volume, chunk(1));
    // The whole image comes before it is asked for, if the reader leaves time for that.
    for index in 2..200 {
        eventually("chunk was not read ahead", || cache.usage().used > index * CHUNK_LEN as u64);
        let expected = &source.bytes[index as usize * CHUNK_LEN..][..CHUNK_LEN];
        assert_eq!(read(&volume, chunk(index)), expected);
    }
    assert_eq!(source.chunks.load(SeqCst), 200, "each chunk once");
    assert!(volume.hits() > 100, "of 198; the rest was on its way");
}

#[test]
fn readers_side_by_side_read_each_chunk_once() {
    let source = Arc::new(Source::new(400 * CHUNK_LEN, 1));
    let volume = CachedVolume::new(&cache(1000), Arc::clone(&source) as Arc<dyn Volume>, None);
    std::thread::scope(|scope| {
        for reader in 0..8_u64 {
            let (volume, bytes) = (&volume, &source.bytes);
            scope.spawn(move || {
                for index in reader * 50..(reader + 1) * 50 {
                    let expected = &bytes[index as usize * CHUNK_LEN..][..CHUNK_LEN];
                    assert_eq!(read(volume, range(index * 128, 128)), expected);
                }
            });
        }
    });
    eventually("more or fewer", || source.chunks.load(SeqCst) == 400);
}

#[test]
fn a_source_that_fails_fails_the_reader_and_not_the_threads_that_read_ahead() {
    let source = Arc::new(Source { bad: Some(20 * CHUNK_LEN as u64), ..Source::new(64 * CHUNK_LEN, 1) });
    let volume = CachedVolume::new(&cache(100), Arc::clone(&source) as Arc<dyn Volume>, None);
    for index in 0..64_u64 {
        let got = volume.read(range(index * 128, 128), &mut Segments::new());
        assert_eq!(got.is_err(), index == 20, "{index}");
    }
}

/// On a source that is quick to find a place, the first small read of a chunk costs no more than it wants.
#[test]
fn a_first_small_read_brings_what_it_wants_and_the_second_the_chunk() {
    for at_hand in [false, true] {
        let source = Arc::new(Source { at_hand, ..Source::new(LEN, 1) });
        let cache = cache(20);
        let volume = CachedVolume::new(&cache, Arc::clone(&source) as Arc<dyn Volume>, None);
        let get = |wanted: BlockRange| {
            let mut out = Segments::new();
            if !volume.try_read(wanted, &mut out).unwrap() {
                volume.read(wanted, &mut out).unwrap();
            }
            let expected = &source.bytes[wanted.byte_start() as usize..][..wanted.byte_len() as usize];
            assert_eq!(out.to_bytes(), expected);
        };
        let used = || cache.usage().used / CHUNK_LEN as u64;
        let before = 0;
        get(range(0, 8));
        get(range(2 * 128 + 16, 8));
        assert_eq!(used(), before, "parts only");
        get(range(64, 8));
        assert_eq!(used(), before + 1, "asked for again");
        get(range(32, 8));
        assert_eq!(used(), before + 1, "it is there");
        get(range(5 * 128, 64));
        assert_eq!(used(), before + 2, "half a chunk and more is the chunk");
    }
}

#[test]
fn a_source_that_is_slow_to_find_a_place_gives_whole_chunks() {
    let source = Arc::new(Source { delay: Duration::from_millis(5), ..Source::new(LEN, 1) });
    let cache = cache(20);
    let volume = CachedVolume::new(&cache, Arc::clone(&source) as Arc<dyn Volume>, None);
    // What kind of source it is, the first read tells.
    read(&volume, range(8 * 128 + 8, 8));
    for (read_so_far, index) in [0, 2, 4, 6].into_iter().enumerate() {
        assert_eq!(cache.usage().used, (read_so_far * CHUNK_LEN) as u64);
        read(&volume, range(index * 128 + 8, 8));
    }
}
