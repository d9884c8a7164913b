//! The one place where the protocol's requests meet a volume, and a volume's errors become outcomes.

use block::{BlockError, BlockRange, ErrorKind, Lba, Segments, Volume};
use bytes::{Bytes, BytesMut};
use iscsi::{Io, IoOutcome};

use super::table::Export;

/// Pieces shorter than this are copied out of the buffer that they were received in if they have to wait.
const COPY_BELOW: usize = 64 << 10;

/// What came of trying without waiting.
pub(super) enum Attempt {
    /// It is done.
    Done(Result<IoOutcome, BlockError>),
    /// It would have to wait: to be run where that holds up nobody.
    MustWait(Io),
}

/// Does `io` if that is possible without waiting for storage or for other requests.
pub(super) fn try_now(export: &Export, io: Io) -> Attempt {
    let done = match &io {
        Io::Read { range } => {
            let mut data = Segments::new();
            match export.volume.try_read(*range, &mut data) {
                Ok(true) => Ok(IoOutcome::Data(data)),
                Ok(false) => return Attempt::MustWait(io),
                Err(error) => Err(error),
            }
        }
        Io::Write { start, data, fua } => {
            let Some(_writing) = export.writers.try_read() else { return Attempt::MustWait(io) };
            match export.volume.try_write(*start, data, *fua) {
                Ok(true) => Ok(IoOutcome::Done),
                Ok(false) => return Attempt::MustWait(io),
                Err(error) => Err(error),
            }
        }
        _ => return Attempt::MustWait(io),
    };
    Attempt::Done(done)
}

/// The same request, fit to wait: what it is to write no longer keeps large buffers alive for small pieces.
pub(super) fn detached(io: Io) -> Io {
    match io {
        Io::Write { start, mut data, fua } => {
            for piece in data.iter_mut().filter(|piece| piece.len() < COPY_BELOW) {
                *piece = Bytes::copy_from_slice(piece);
            }
            Io::Write { start, data, fua }
        }
        other => other,
    }
}

/// Does `io`, and waits for storage.
pub(super) fn run(export: &Export, io: Io) -> Result<IoOutcome, BlockError> {
    let volume = &*export.volume;
    match io {
        Io::Read { range } => {
            let mut data = Segments::new();
            volume.read(range, &mut data)?;
            return Ok(IoOutcome::Data(data));
        }
        Io::Write { start, data, fua } => {
            let _writing = export.writers.read();
            volume.write(start, &data, fua)?;
        }
        Io::Flush => volume.flush()?,
        Io::Discard(ranges) => {
            let _writing = export.writers.read();
            ranges.into_iter().try_for_each(|range| volume.discard(range))?;
        }
        Io::CompareAndWrite { start, expect, data, fua } => {
            let _alone = export.writers.write();
            let expect = joined(&expect);
            let found = read(volume, start, expect.len())?;
            if let Some(offset) = found.iter().zip(&expect).position(|(found, expected)| found != expected) {
                return Ok(IoOutcome::Mismatch { offset: offset as u64 });
            }
            volume.write(start, &data, fua)?;
        }
        Io::OrWrite { start, data, fua } => {
            let _alone = export.writers.write();
            let mut bits = joined(&data);
            let found = read(volume, start, bits.len())?;
            bits.iter_mut().zip(&found).for_each(|(bits, found)| *bits |= found);
            volume.write(start, &[bits.freeze()], fua)?;
        }
        Io::Provisioning(range) => return volume.provisioning(range).map(IoOutcome::Extent),
        Io::Prefetch(range) => volume.prefetch(range),
    }
    Ok(IoOutcome::Done)
}

fn joined(pieces: &[Bytes]) -> BytesMut {
    let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
    whole
}

fn read(volume: &dyn Volume, start: Lba, len: usize) -> Result<Bytes, BlockError> {
    let range =
        block::BlockCount::from_bytes(len as u64).and_then(|count| BlockRange::new(start, count)).map_err(
            |error| BlockError::new(ErrorKind::WrongLength, "a request of the target").caused_by(error),
        )?;
    let mut data = Segments::new();
    volume.read(range, &mut data)?;
    Ok(data.to_bytes())
}
