//! Reads and writes at an offset of a file, whole or not at all, with and without waiting for the device.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags};

/// The most pieces that the kernel takes in one call (`UIO_MAXIOV`); more are written in several calls.
const MAX_PIECES: usize = 1024;

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
    fn more_pieces_than_the_kernel_takes_at_once() {
        let file = tempfile::tempfile().unwrap();
        let pieces: Vec<Bytes> = (0..3000u32).map(|i| Bytes::copy_from_slice(&i.to_le_bytes())).collect();
        write_at(&file, 5, &mut slices(&pieces, 0, 12000)).unwrap();
        let back = read_at(&file, 5, 12000).unwrap();
        assert_eq!(back, pieces.concat());
        assert_eq!(read_at(&file, 6, 12000).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
