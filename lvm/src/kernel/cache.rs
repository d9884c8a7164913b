//! Caches of fixed size in RAM: dm-cache, with a RAM disk of ours over what is slower.
//!
//! ```text
//!         cached device
//!        /      |      \
//!    blocks   their    what is cached
//!    (RAM)   map (RAM)
//! ```
//!
//! A RAM disk is a file in memory behind a loop device. Unlike those of the module `brd`, it has any size, takes RAM
//! as it fills, and gives it back when the cache is gone.
//!
//! What is dirty is in RAM only, so a cache for writing is for what is worth nothing after a power cut. A cache for
//! reading never holds anything that is not below it, too.

use std::fmt::Display;
use std::io;

use block::{Bytes, SECTOR_SIZE};
use devicemapper::Device;

use super::dm::{Dm, Line};
use super::fault;
use super::loops::Loop;
use super::sysfs;
use crate::names::DmRole;

/// Sectors of a cached block: that of the overlays, so that a client's first write to one is a whole one here.
pub(super) const BLOCK: u64 = 128;

/// Sectors that may be on their way into the cache or out of it at once. The default of 1 MiB fills a cache so slowly
/// that the first clients find little in it.
const MIGRATION: u64 = 8 << 11;

/// What the files in memory are called.
const BLOCKS_FILE: &str = "bootd-cache";
const MAP_FILE: &str = "bootd-cache-map";

/// What a cache is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Below it is what is in it, always.
    Read,
    /// What is written goes below when the cache needs the room, or is idle.
    Write,
}

/// The size of a cache in whole blocks.
pub(super) fn whole_blocks(size: Bytes) -> Bytes {
    let block = BLOCK * u64::from(SECTOR_SIZE);
    Bytes((size.0 / block).max(1) * block)
}

/// Makes a device that is `origin` behind a cache.
pub(super) fn create(
    dm: &Dm,
    role: &DmRole,
    origin: Device,
    sectors: u64,
    size: Bytes,
    mode: Mode,
) -> io::Result<Device> {
    let size = whole_blocks(size);
    let blocks = size.0 / u64::from(SECTOR_SIZE) / BLOCK;
    let data = Loop::of_ram(BLOCKS_FILE, size)?;
    // 16 bytes for each block, 4 MiB and as much again to have it twice while it changes.
    let map = Loop::of_ram(MAP_FILE, Bytes((16 << 20) + 64 * blocks))?;
    fault::here("cache-ram");
    let device = dm.create(role, &table(map.device(), data.device(), origin, sectors, mode), false)?;
    fault::here("cache");
    sysfs::check_sector_size(device, "the cache in RAM")?;
    Ok(device)
}

fn table(map: impl Display, data: impl Display, origin: impl Display, sectors: u64, mode: Mode) -> Vec<Line> {
    let features = match mode {
        Mode::Read => "2 writethrough no_discard_passdown",
        Mode::Write => "1 writeback",
    };
    let parameters =
        format!("{map} {data} {origin} {BLOCK} {features} smq 2 migration_threshold {MIGRATION}");
    Line::only(sectors, "cache", parameters)
}

/// The table of a device that is to be `origin` behind a cache.
pub(super) fn planned(origin: &str, sectors: u64, size: Bytes, mode: Mode) -> Vec<Line> {
    let mib = whole_blocks(size).0 >> 20;
    table("<RAM for the map>", format!("<{mib} MiB of RAM>"), origin, sectors, mode)
}

/// What a cached device is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts {
    data: Device,
    pub(super) origin: Device,
}

impl Parts {
    /// Of the only line of its table; `None` if that is no cache.
    pub(super) fn of(line: &Line) -> Option<Self> {
        let mut words = line.parameters.split(' ').skip(1);
        let mut next = || words.next()?.parse().ok();
        (line.target == "cache").then(|| Some(Self { data: next()?, origin: next()? }))?
    }

    /// How much RAM it has for blocks.
    pub(super) fn size(&self) -> io::Result<Bytes> {
        Ok(Bytes(sysfs::sectors(self.data)? * u64::from(SECTOR_SIZE)))
    }
}

/// How a cache did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) hits: u64,
    pub(super) misses: u64,
}

impl Counts {
    /// `8 27/4096 128 512/512 90 36 0 0 0 512 0 ...`: behind the map's blocks and the cache's, reads and writes that hit
    /// and that missed.
    pub(super) fn of(status: &str) -> Option<Self> {
        let number = |at: usize| status.split(' ').nth(at)?.parse::<u64>().ok();
        Some(Self { hits: number(4)? + number(6)?, misses: number(5)? + number(7)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_and_a_status_are_read() {
        let parameters = "7:2 7:1 254:0 128 2 writethrough no_discard_passdown smq 0";
        let line = &Line::only(8, "cache", parameters)[0];
        let (data, origin) = (Device { major: 7, minor: 1 }, Device { major: 254, minor: 0 });
        assert_eq!(Parts::of(line), Some(Parts { data, origin }));
        assert_eq!(Parts::of(&Line::only(8, "linear", "7:0 0")[0]), None);
        assert_eq!(Parts::of(&Line::only(8, "cache", "7:0")[0]), None);
        let status =
            "8 27/4096 128 512/512 90 36 5 1 0 512 0 1 writethrough 2 migration_threshold 2048 smq 0 rw -";
        assert_eq!(Counts::of(status), Some(Counts { hits: 95, misses: 37 }));
        assert_eq!(Counts::of("Fail"), None);
    }

    #[test]
    fn a_cache_has_whole_blocks() {
        assert_eq!(whole_blocks(Bytes(0)), Bytes(65536));
        assert_eq!(whole_blocks(Bytes(3 * 65536 + 512)), Bytes(3 * 65536));
    }
}
