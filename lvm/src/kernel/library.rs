//! The one device that all images lie on, one behind the other, so that one cache of fixed size is under all of them.
//!
//! ```text
//!    image A     image B            slices of the cache, read-only
//!        \        /
//!         cache                     dm-cache, which writes nothing below
//!           |
//!         library                   | A's file | error | B's file | error up to 1 PiB |
//! ```
//!
//! An image's place is never used again: what the cache has of one that is gone is what nobody asks for, until other
//! blocks take its room. The last line of the library's table begins where the next image goes, so that another
//! process knows it, too.
//!
//! Only whole blocks of the cache are here. What of an image is behind its last whole block is read without it.

use std::io;

use block::Bytes;
use devicemapper::Device;
use parking_lot::Mutex;

use super::cache::{self, BLOCK, Counts, Mode};
use super::dm::{Dm, Found, Line};
use super::fault;
use crate::names::DmRole;

/// Sectors of the library: 1 PiB, which no server's images fill in its life.
const SECTORS: u64 = 1 << 41;

/// An image's place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    start: u64,
    sectors: u64,
    below: Device,
}

/// Which places are taken, by where they begin.
#[derive(Debug, Default, PartialEq, Eq)]
struct Segments {
    taken: Vec<Segment>,
    /// Where the next begins.
    next: u64,
}

impl Segments {
    fn of(table: &[Line]) -> Self {
        let segment = |line: &Line| {
            let (device, offset) = line.parameters.split_once(' ')?;
            let below = device.parse().ok().filter(|_| line.target == "linear" && offset == "0")?;
            Some(Segment { start: line.start, sectors: line.sectors, below })
        };
        let next = table.last().filter(|line| line.target == "error").map_or(SECTORS, |line| line.start);
        Self { taken: table.iter().filter_map(segment).collect(), next }
    }

    fn table(&self) -> Vec<Line> {
        let nothing = |start, end| Line {
            start,
            sectors: end - start,
            target: "error".into(),
            parameters: String::new(),
        };
        let (mut lines, mut at) = (Vec::new(), 0);
        for Segment { start, sectors, below } in &self.taken {
            lines.extend((at < *start).then(|| nothing(at, *start)));
            let (target, parameters) = ("linear".to_owned(), format!("{below} 0"));
            lines.push(Line { start: *start, sectors: *sectors, target, parameters });
            at = start + sectors;
        }
        lines.extend((at < self.next).then(|| nothing(at, self.next)));
        lines.push(nothing(self.next, SECTORS));
        lines
    }
}

/// What is made where images have a cache of that size, before there is any image; `below` is what the library is called.
pub(super) fn planned(below: &str, size: Bytes) -> [(DmRole, Vec<Line>); 2] {
    [
        (DmRole::Library, Segments::default().table()),
        (DmRole::Cache, cache::planned(below, SECTORS, size, Mode::Read)),
    ]
}

/// The library, and the cache over it.
pub(super) struct Library {
    /// What images are slices of.
    pub(super) device: Device,
    segments: Mutex<Segments>,
}

impl Library {
    /// The library as the kernel holds it, or a fresh one with a cache of `size`; `None` where there is to be none. One
    /// of another size stays as long as a client's disk stands on it.
    pub(super) fn open(dm: &Dm, size: Option<Bytes>) -> io::Result<Option<Self>> {
        if let Some((cache, held)) = held(dm)? {
            if Some(held) != size.map(cache::whole_blocks) {
                remove_idle_images(dm)?;
            }
            let in_use = dm.find(&DmRole::Cache)?.is_some_and(|cache| cache.open > 0);
            if in_use || Some(held) == size.map(cache::whole_blocks) {
                let segments = Mutex::new(Segments::of(&dm.table(&DmRole::Library)?));
                return Ok(Some(Self { device: cache.device, segments }));
            }
        }
        // What is there is of another size, or of a process that was killed while it made it.
        dm.remove(&DmRole::Cache)?;
        dm.remove(&DmRole::Library)?;
        let Some(size) = size else { return Ok(None) };
        let segments = Segments::default();
        let below = dm.create(&DmRole::Library, &segments.table(), false)?;
        fault::here("library");
        let device = cache::create(dm, &DmRole::Cache, below, SECTORS, size, Mode::Read)?;
        Ok(Some(Self { device, segments: Mutex::new(segments) }))
    }

    /// Gives an image of that many sectors its place, and says where it begins.
    pub(super) fn add(&self, dm: &Dm, below: Device, sectors: u64) -> io::Result<u64> {
        let mut segments = self.segments.lock();
        let start = segments.next;
        // At least one: a place that is never another's even for an image that is smaller than a block.
        let taken = (sectors / BLOCK).max(1) * BLOCK;
        let next = start.checked_add(taken).filter(|next| *next < SECTORS).ok_or_else(|| {
            io::Error::other(
                "no more images fit behind the cache; with no client running: bootd storage down",
            )
        })?;
        let mut changed = Segments { taken: segments.taken.clone(), next };
        changed.taken.extend((sectors >= BLOCK).then_some(Segment { start, sectors: taken, below }));
        dm.change(&DmRole::Library, &changed.table(), false)?;
        *segments = changed;
        fault::here("library-image");
        Ok(start)
    }

    /// The file's device of the image that begins there.
    pub(super) fn below(&self, start: u64) -> Option<Device> {
        let segments = self.segments.lock();
        segments.taken.iter().find(|one| one.start == start).map(|one| one.below)
    }

    /// Lets go of all images but those that begin there.
    pub(super) fn keep_only(&self, dm: &Dm, starts: &[u64]) -> io::Result<()> {
        let mut segments = self.segments.lock();
        let kept: Vec<_> = segments.taken.iter().filter(|one| starts.contains(&one.start)).copied().collect();
        if kept.len() == segments.taken.len() {
            return Ok(());
        }
        let changed = Segments { taken: kept, next: segments.next };
        dm.change(&DmRole::Library, &changed.table(), false)?;
        *segments = changed;
        Ok(())
    }

    /// How the cache did since it was made.
    pub(super) fn counts(&self, dm: &Dm) -> Option<Counts> {
        Counts::of(&dm.status(&DmRole::Cache).ok()?.first()?.parameters)
    }
}

/// The cache that the kernel holds, and its size.
fn held(dm: &Dm) -> io::Result<Option<(Found, Bytes)>> {
    let Some(cache) = dm.find(&DmRole::Cache)? else { return Ok(None) };
    let parts = dm.table(&DmRole::Cache)?.first().and_then(cache::Parts::of);
    parts.map(|parts| Ok((cache, parts.size()?))).transpose()
}

/// What is to be said of a cache that is not of that size.
pub(super) fn difference(dm: &Dm, size: Option<Bytes>) -> io::Result<Option<String>> {
    let held = held(dm)?.map(|(_, size)| size);
    let shown =
        |size: Option<Bytes>| size.map_or("none".to_owned(), |size| format!("one of {} bytes", size.0));
    let wanted = size.map(cache::whole_blocks);
    let text = || format!("there is {} under images, and {} is asked for", shown(held), shown(wanted));
    Ok((held != wanted).then(text))
}

/// Removes the devices of images that no client's disk stands on.
fn remove_idle_images(dm: &Dm) -> io::Result<()> {
    for found in
        dm.ours()?.into_iter().filter(|one| matches!(one.role, DmRole::Image { .. }) && one.open == 0)
    {
        dm.remove(&found.role)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_never_used_again() {
        let below = |minor| Device { major: 7, minor };
        let segment = |start, sectors, minor| Segment { start, sectors, below: below(minor) };
        let mut segments = Segments { taken: vec![segment(0, 128, 1), segment(128, 256, 2)], next: 384 };
        assert_eq!(Segments::of(&segments.table()), segments);
        let lines: Vec<_> = segments.table().iter().map(ToString::to_string).collect();
        assert_eq!(lines, ["0 128 linear 7:1 0", "128 256 linear 7:2 0", "384 2199023255168 error "]);
        // The last one is gone, and what is behind it begins no earlier.
        segments.taken.pop();
        assert_eq!(Segments::of(&segments.table()), segments);
        segments.taken.clear();
        assert_eq!(Segments::of(&segments.table()), segments);
        assert_eq!(Segments::of(&Segments::default().table()), Segments::default());
        // A table that nobody here made has no room.
        assert_eq!(Segments::of(&[]).next, SECTORS);
    }
}
