//! Reads and writes at an offset of a file, whole or not at all, with and without waiting for the device.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags};

use crate::Segments;

/// The most pieces that the kernel takes in one call (`UIO_MAXIOV`); more are written in several calls.
const MAX_PIECES: usize = 1024;

/// What is read at once lies in memory in pieces of at most this length, which end at multiples of it in the file. Who
/// keeps one piece keeps no more memory than that.
pub const PIECE_LEN: usize = 64 * 1024;

/// Reads exactly `len` bytes. The file's end before that is `UnexpectedEof`.
pub(crate) fn read_at(file: &File, offset: u64, len: usize) -> io::Result<Bytes> {
    // Capacity of exactly `len`, so that `Bytes` takes the allocation over as it is.
    let mut all = Vec::with_capacity(len);
    while all.len() < len {
        let at = offset + all.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut all), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(Bytes::from(all))
}

/// Where memory begins that a disk may write to by itself: what the kernel asks of it is no more than this.
const ALIGNMENT: usize = 512;

/// Memory of `len` bytes, zeroed, that begins where a disk may write, with what lies before it.
fn aligned(len: usize) -> (Vec<u8>, usize) {
    let buffer = vec![0; len + ALIGNMENT - 1];
    let start = buffer.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT - 1);
    (buffer, start)
}

/// Reads up to `len` bytes, fewer at the file's end, in pieces of their own memory that end at multiples of
/// [`PIECE_LEN`] in the file, by one call where the kernel takes it.
pub(crate) fn read_pieces(file: &File, offset: u64, len: usize) -> io::Result<Segments> {
    let (mut at, end) = (offset, offset + len as u64);
    let mut buffers = Vec::new();
    while at < end {
        let stop = (at / PIECE_LEN as u64 + 1) * PIECE_LEN as u64;
        let now = (stop.min(end) - at) as usize;
        buffers.push((aligned(now), now));
        at += now as u64;
    }
    let mut into: Vec<_> = buffers
        .iter_mut()
        .filter_map(|((buffer, start), now)| buffer.get_mut(*start..*start + *now))
        .map(IoSliceMut::new)
        .collect();
    let mut into = into.as_mut_slice();
    let mut got = 0;
    while !into.is_empty() {
        let most = into.len().min(MAX_PIECES);
        let now = into.get_mut(..most).unwrap_or_default();
        let wanted: usize = now.iter().map(|piece| piece.len()).sum();
        match rustix::io::preadv(file, now, offset + got as u64) {
            Ok(n) => {
                got += n;
                if n < wanted {
                    // The file's end. To ask behind it is refused where only whole blocks may be asked for.
                    break;
                }
                IoSliceMut::advance_slices(&mut into, n);
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let mut found = Segments::new();
    for ((buffer, start), now) in buffers {
        let now = now.min(got);
        got -= now;
        found.push(Bytes::from(buffer).slice(start..start + now));
    }
    Ok(found)
}

/// As [`read_at`], but `None` when the bytes are not all in the page cache.
pub(crate) fn try_read_at(file: &File, offset: u64, len: usize) -> io::Result<Option<Bytes>> {
    let mut all = vec![0; len];
    loop {
        let mut into = [IoSliceMut::new(&mut all)];
        return match rustix::io::preadv2(file, &mut into, offset, ReadWriteFlags::NOWAIT) {
            Ok(n) if n == len => Ok(Some(Bytes::from(all))),
            // What is short may be the file's end; the caller's waiting read finds out.
            Ok(_) | Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(None),
            Err(Errno::INTR) => continue,
            Err(e) => Err(e.into()),
        };
    }
}

/// Writes all pieces, one behind the other. After an error any part of them may be written.
pub(crate) fn write_at(file: &File, mut offset: u64, mut pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !pieces.is_empty() {
        let now = pieces.get(..MAX_PIECES).unwrap_or(pieces);
        match rustix::io::pwritev(file, now, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                offset += n as u64;
                IoSlice::advance_slices(&mut pieces, n);
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// What came of a write that must not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// All is written.
    Done,
    /// Nothing is written: the file system would have to wait.
    WouldWait,
    /// Nothing is written: the file system doesn't know how not to wait, and never will.
    Unsupported,
}

/// As [`write_at`], if that takes no waiting.
///
/// When the file system begins without waiting and then can't go on so, the rest is written with waiting: a
/// half-written range would be worse than a late answer.
pub(crate) fn try_write_at(file: &File, offset: u64, mut pieces: &mut [IoSlice<'_>]) -> io::Result<Attempt> {
    let now = pieces.get(..MAX_PIECES).unwrap_or(pieces);
    match rustix::io::pwritev2(file, now, offset, ReadWriteFlags::NOWAIT) {
        Ok(0) | Err(Errno::INTR | Errno::AGAIN) => Ok(Attempt::WouldWait),
        Ok(n) => {
            IoSlice::advance_slices(&mut pieces, n);
            write_at(file, offset + n as u64, pieces)?;
            Ok(Attempt::Done)
        }
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(Attempt::Unsupported),
        Err(e) => Err(e.into()),
    }
}

/// The bytes `from..to` of `pieces`, taken one behind the other.
pub(crate) fn slices(pieces: &[Bytes], from: usize, to: usize) -> Vec<IoSlice<'_>> {
    let mut at = 0;
    let mut out = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let (begin, end) = (at, at + piece.len());
        at = end;
        let cut = piece.get(from.max(begin).saturating_sub(begin)..to.min(end).saturating_sub(begin));
        if let Some(cut) = cut.filter(|c| !c.is_empty()) {
            out.push(IoSlice::new(cut));
        }
    }
    out
}

/// Gives the range's space back to the file system; it reads as zero from then on.
pub(crate) fn punch(file: &File, offset: u64, len: u64) -> io::Result<()> {
    if len > 0 {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::io::retry_on_intr(|| rustix::fs::fallocate(file, flags, offset, len))?;
    }
    Ok(())
}

/// The first byte at or behind `offset` that the file system keeps as data; `None` where only a hole follows.
/// A file system without holes has data everywhere.
pub(crate) fn next_data(file: &File, offset: u64) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(at) => Ok(Some(at)),
        Err(Errno::NXIO) => Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some(offset)),
        Err(e) => Err(e.into()),
    }
}

/// The first byte at or behind `offset` that is in a hole; the file's end counts as one.
pub(crate) fn next_hole(file: &File, offset: u64) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, SeekFrom::Hole(offset)) {
        Ok(at) => Ok(Some(at)),
        Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Writes one buffer.
pub(crate) fn write_bytes_at(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_cut_across_pieces() {
        let pieces = [Bytes::from_static(b"abc"), Bytes::new(), Bytes::from_static(b"defgh")];
        let cut = |from, to| slices(&pieces, from, to).iter().flat_map(|s| s.to_vec()).collect::<Vec<u8>>();
        assert_eq!(cut(0, 8), b"abcdefgh");
        assert_eq!(cut(2, 5), b"cde");
        assert_eq!(cut(3, 8), b"defgh");
        assert_eq!(cut(4, 4), b"");
        assert_eq!(cut(7, 99), b"h");
    }

    #[test]
    fn what_is_read_at_once_lies_in_pieces_of_their_own() {
        let file = tempfile::tempfile().unwrap();
        let all: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
        write_bytes_at(&file, 0, &all).unwrap();
        let found = read_pieces(&file, 60_000, 200_000).unwrap();
        let lens: Vec<_> = found.pieces().iter().map(Bytes::len).collect();
        assert_eq!(lens, [5536, 65536, 65536, 63392]);
        assert_eq!(found.to_bytes(), all[60_000..260_000]);
        assert!(found.pieces().iter().all(|piece| (piece.as_ptr() as usize).is_multiple_of(ALIGNMENT)));
        let tail = read_pieces(&file, 250_000, 100_000).unwrap();
        assert_eq!(tail.to_bytes(), all[250_000..], "the file's end");
        assert!(read_pieces(&file, 300_000, 4096).unwrap().is_empty());
    }

    #[test]
    fn more_pieces_than_the_kernel_takes_at_once() {
        let file = tempfile::tempfile().unwrap();
        let pieces: Vec<Bytes> = (0..3000u32).map(|i| Bytes::copy_from_slice(&i.to_le_bytes())).collect();
        write_at(&file, 5, &mut slices(&pieces, 0, 12000)).unwrap();
        let back = read_at(&file, 5, 12000).unwrap();
        assert_eq!(back, pieces.concat());
        assert_eq!(read_at(&file, 6, 12000).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
