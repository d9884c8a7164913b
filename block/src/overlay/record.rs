//! The states of an overlay's blocks on file, so that a killed process's disks live on.
//!
//! Beside the overlay's data lies a file of the same name with `.state` behind it:
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 8 | `BOOTDOVL` |
//! | 8 | 4 | format, 1 |
//! | 12 | 4 | bytes in a block, 4096 |
//! | 16 | 8 | bytes in the disk |
//! | 4096 | one a leaf | 0: the leaf's words tell; 1: all its blocks are zeroed and its words are void |
//! | next multiple of 4096 | 16384 a leaf | the leaf's words as [`Map`] has them |
//!
//! All numbers are little-endian; what was never written is a hole, reads as zero and means [`State::Lower`].
//!
//! Why not from `SEEK_DATA` and `SEEK_HOLE` of the data file alone: not every file system keeps holes to the 4 KiB
//! (tmpfs with huge pages, ZFS records), some turn written zeros into holes and some know no holes at all, and
//! each of these would show the client other bytes than it wrote. A record is exact anywhere, and costs one small
//! write when a block changes its state, a fifteenth of the first write to a block; none for a rewrite.
//!
//! Order makes it safe against a kill at any point. A write goes to the data file, then here, then it is
//! acknowledged: killed before the record, the block is as it was. A discard goes here first and its space is given
//! back after: killed between, the block is zero and only the space is late.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::map::{Held, LEAF_WORDS, Map, State, WORD_BLOCKS};
use super::{BLOCK, MODE};
use crate::{OpenError, fileio};

const MAGIC: &[u8; 8] = b"BOOTDOVL";
const FORMAT: u32 = 1;
const HEADER: u64 = 4096;
const LEAF_BYTES: usize = LEAF_WORDS * 8;

const WORDS_TELL: u8 = 0;
const ALL_ZEROED: u8 = 1;

/// The file of states.
pub(super) struct Record {
    file: File,
}

/// Where the record of the overlay at `data` is.
pub(super) fn path_of(data: &Path) -> PathBuf {
    let mut name = data.as_os_str().to_owned();
    name.push(".state");
    name.into()
}

fn words_at(map: &Map, leaf: usize) -> u64 {
    HEADER + (map.leaves() as u64).next_multiple_of(HEADER) + leaf as u64 * LEAF_BYTES as u64
}

fn header(disk_bytes: u64) -> [u8; 24] {
    let mut header = [0; 24];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    header[12..16].copy_from_slice(&(BLOCK as u32).to_le_bytes());
    header[16..].copy_from_slice(&disk_bytes.to_le_bytes());
    header
}

fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

/// Reads as much of `into` as the file has; the rest is zero, as holes are.
fn read_sparse(file: &File, into: &mut [u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while let Some(rest) = into.get_mut(done..).filter(|r| !r.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => return Ok(()),
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

impl Record {
    /// Makes the record of an overlay in which nothing was written yet. After an error there is none.
    pub(super) fn create(data: &Path, disk_bytes: u64) -> Result<Self, OpenError> {
        let path = path_of(data);
        let mut how = OpenOptions::new();
        let file = how.read(true).write(true).create_new(true).mode(MODE).open(&path);
        let file = file.map_err(OpenError::io(path.clone()))?;
        if let Err(e) = file.write_all_at(&header(disk_bytes), 0) {
            let _ = std::fs::remove_file(&path);
            return Err(OpenError::io(path)(e));
        }
        Ok(Self { file })
    }

    /// Takes up the record that an earlier process left.
    pub(super) fn open(data: &Path, disk_bytes: u64) -> Result<(Self, Map), OpenError> {
        let path = path_of(data);
        let io = || OpenError::io(path.clone());
        let damaged = |why| OpenError::Damaged { path: path.clone(), why };
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(io())?;
        let mut found = [0; 24];
        read_sparse(&file, &mut found, 0).map_err(io())?;
        let ours = header(disk_bytes);
        if found[..8] != ours[..8] {
            return Err(damaged("not a record of an overlay"));
        } else if found[..16] != ours[..16] {
            return Err(damaged("a record in the format of another version"));
        } else if found != ours {
            return Err(damaged("the overlay was made over a disk of another size"));
        }
        let mut map = Map::new(disk_bytes.div_ceil(BLOCK));
        let loaded = load(&file, &mut map).map_err(io())?;
        if !loaded {
            return Err(damaged("a block is in no state that exists"));
        }
        Ok((Self { file }, map))
    }

    /// Records that the blocks `from..to` are in `state`, which `map` doesn't know yet. After an error the record
    /// is as it was before, as far as the file system lets it be.
    pub(super) fn put(&self, map: &Map, from: u64, to: u64, state: State, held: &Held<'_>) -> io::Result<()> {
        self.try_put(map, from, to, state).inspect_err(|_| self.restore(map, from, to, state, held))
    }

    fn try_put(&self, map: &Map, from: u64, to: u64, state: State) -> io::Result<()> {
        // Leaves that become zeroed as a whole lie side by side, so one call tells it of all.
        let mut whole = None;
        for (leaf, first, last) in map.shares(from, to) {
            if state == State::Zeroed && map.is_whole(leaf, first, last) {
                whole.get_or_insert((leaf, leaf)).1 = leaf + 1;
            } else if map.uniform(leaf) == Some(State::Zeroed) {
                if state != State::Zeroed {
                    // The words are void: all of them are written before they count.
                    let mut words = [State::Zeroed.word(); LEAF_WORDS];
                    let part = map.words_with(leaf, first, last, state);
                    let at = (first / WORD_BLOCKS) as usize;
                    words[at..at + part.len()].copy_from_slice(&part);
                    self.write_words(map, leaf, 0, &words)?;
                    self.write_kinds(leaf, leaf + 1, WORDS_TELL)?;
                }
            } else {
                self.write_words(map, leaf, first / WORD_BLOCKS, &map.words_with(leaf, first, last, state))?;
            }
        }
        match whole {
            Some((first, last)) => self.write_kinds(first, last, ALL_ZEROED),
            None => Ok(()),
        }
    }

    /// Puts the record of the blocks `from..to` back to what `map` says. It rewrites bytes that were there before,
    /// for which a full file system has room; where it fails all the same, the disk in memory is right and only a
    /// process that takes it over would see a write that was refused.
    fn restore(&self, map: &Map, from: u64, to: u64, refused: State, _: &Held<'_>) {
        for (leaf, first, last) in map.shares(from, to) {
            if map.uniform(leaf) == Some(State::Zeroed) {
                let _ = self.write_kinds(leaf, leaf + 1, ALL_ZEROED);
            } else {
                if refused != State::Zeroed || !map.is_whole(leaf, first, last) {
                    let _ = self.write_words(map, leaf, first / WORD_BLOCKS, &map.words(leaf, first, last));
                }
                let _ = self.write_kinds(leaf, leaf + 1, WORDS_TELL);
            }
        }
    }

    fn write_words(&self, map: &Map, leaf: usize, first: u64, words: &[u64]) -> io::Result<()> {
        self.file.write_all_at(&bytes_of(words), words_at(map, leaf) + first * 8)
    }

    fn write_kinds(&self, first: usize, last: usize, kind: u8) -> io::Result<()> {
        self.file.write_all_at(&vec![kind; last - first], HEADER + first as u64)
    }

    /// Waits until all that was put is on the medium.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Gives the file's space back.
    pub(super) fn release(&self) -> io::Result<()> {
        self.file.set_len(0)
    }
}

/// Fills `map` from the file; `false` when a block is in no state that exists.
fn load(file: &File, map: &mut Map) -> io::Result<bool> {
    let mut kinds = vec![WORDS_TELL; map.leaves()];
    read_sparse(file, &mut kinds, HEADER)?;
    let mut bytes = vec![0; LEAF_BYTES];
    // Holes are only skipped, never believed: a leaf that reads as zero is no different from one in a hole.
    let mut data_from = 0;
    for (leaf, kind) in kinds.into_iter().enumerate() {
        if kind == ALL_ZEROED {
            map.load(leaf, None);
            continue;
        }
        let at = words_at(map, leaf);
        if data_from <= at {
            data_from = fileio::next_data(file, at)?.unwrap_or(u64::MAX);
        }
        if data_from >= at + LEAF_BYTES as u64 {
            continue;
        }
        bytes.fill(0);
        read_sparse(file, &mut bytes, at)?;
        let words: Vec<u64> = bytes
            .chunks_exact(8)
            .map(|c| c.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)))
            .collect();
        if words.iter().any(|w| w & (w >> 1) & State::Written.word() != 0) {
            return Ok(false);
        }
        if words.iter().any(|w| *w != 0) {
            map.load(leaf, Some(&words));
        }
    }
    Ok(true)
}
