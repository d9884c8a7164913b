//! What waits to be sent: headers made here and data shared with whoever read it, in order, for one vectored
//! write.

use std::collections::VecDeque;
use std::io::IoSlice;

use block::Segments;
use bytes::{Buf, Bytes};

use crate::pdu::{BHS_LEN, Bhs, Digests};

const DIGEST_LEN: usize = 4;
const INLINE: usize = BHS_LEN + DIGEST_LEN;

/// Bytes that wait to be sent. It is a [`Buf`]: [`chunks_vectored`](Buf::chunks_vectored) fills the slices of a
/// vectored write, [`advance`](Buf::advance) forgets what was written.
#[derive(Debug, Default)]
pub struct Output {
    pieces: VecDeque<Piece>,
    len: usize,
}

/// Headers live in the queue itself, so that a PDU costs no allocation.
#[derive(Debug)]
enum Piece {
    Inline { bytes: [u8; INLINE], start: u8, end: u8 },
    Shared(Bytes),
}

impl Piece {
    fn inline(from: &[u8]) -> Self {
        let mut bytes = [0; INLINE];
        let taken = bytes.iter_mut().zip(from).map(|(to, from)| *to = *from).count();
        Self::Inline { bytes, start: 0, end: taken as u8 }
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Inline { bytes, start, end } => {
                bytes.get(usize::from(*start)..usize::from(*end)).unwrap_or_default()
            }
            Self::Shared(bytes) => bytes,
        }
    }

    /// Forgets the first `n` bytes; there are more than that.
    fn advance(&mut self, n: usize) {
        match self {
            Self::Inline { start, .. } => *start += n as u8,
            Self::Shared(bytes) => bytes.advance(n),
        }
    }
}

impl Output {
    /// Adds a PDU: the header with its length field filled in, the data, padding, and digests where agreed.
    pub(crate) fn push_pdu(&mut self, mut bhs: Bhs, data: Segments, digests: Digests) {
        let data_len = data.len();
        let [_, high, middle, low] = (data_len as u32).to_be_bytes();
        [bhs[5], bhs[6], bhs[7]] = [high, middle, low];
        self.push_header(&bhs, digests.header);
        if data_len == 0 {
            return;
        }
        let padding = data_len.next_multiple_of(4) - data_len;
        let mut trailer = [0; 3 + DIGEST_LEN];
        let mut trailer_len = padding;
        if digests.data {
            let zeros = [0; 3];
            let crc = data.pieces().iter().fold(0, |crc, piece| crc32c::crc32c_append(crc, piece));
            let crc = crc32c::crc32c_append(crc, zeros.get(..padding).unwrap_or_default());
            trailer.iter_mut().skip(padding).zip(crc.to_le_bytes()).for_each(|(to, from)| *to = from);
            trailer_len += DIGEST_LEN;
        }
        self.len += data_len + trailer_len;
        self.pieces.extend(data.into_iter().map(Piece::Shared));
        if let Some(trailer) = trailer.get(..trailer_len).filter(|trailer| !trailer.is_empty()) {
            self.pieces.push_back(Piece::inline(trailer));
        }
    }

    fn push_header(&mut self, bhs: &Bhs, digest: bool) {
        let mut piece = Piece::inline(bhs);
        if digest && let Piece::Inline { bytes, end, .. } = &mut piece {
            let crc = crc32c::crc32c(bhs).to_le_bytes();
            bytes.iter_mut().skip(BHS_LEN).zip(crc).for_each(|(to, from)| *to = from);
            *end += DIGEST_LEN as u8;
        }
        self.len += piece.as_slice().len();
        self.pieces.push_back(piece);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Buf for Output {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map(Piece::as_slice).unwrap_or_default()
    }

    fn chunks_vectored<'a>(&'a self, to: &mut [IoSlice<'a>]) -> usize {
        to.iter_mut().zip(&self.pieces).map(|(to, piece)| *to = IoSlice::new(piece.as_slice())).count()
    }

    fn advance(&mut self, mut n: usize) {
        self.len = self.len.saturating_sub(n);
        while let Some(first) = self.pieces.front_mut() {
            let len = first.as_slice().len();
            if n < len {
                first.advance(n);
                return;
            }
            n -= len;
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(output: &mut Output) -> Vec<u8> {
        let n = output.remaining();
        output.copy_to_bytes(n).to_vec()
    }

    #[test]
    fn a_pdu_is_header_data_padding() {
        let mut output = Output::default();
        output.push_pdu([7; BHS_LEN], Bytes::from_static(b"hello").into(), Digests::default());
        assert_eq!(output.remaining(), 48 + 8);
        let bytes = all(&mut output);
        assert_eq!(bytes[4..8], [7, 0, 0, 5]);
        assert_eq!(bytes[48..], *b"hello\0\0\0");
    }

    #[test]
    fn digests_follow_header_and_padded_data() {
        let mut output = Output::default();
        let mut data = Segments::from(Bytes::from_static(b"he"));
        data.push(Bytes::from_static(b"llo"));
        output.push_pdu([0; BHS_LEN], data, Digests { header: true, data: true });
        let bytes = all(&mut output);
        assert_eq!(bytes[48..52], crc32c::crc32c(&bytes[..48]).to_le_bytes());
        assert_eq!(bytes[52..60], *b"hello\0\0\0");
        assert_eq!(bytes[60..], crc32c::crc32c(&bytes[52..60]).to_le_bytes());
    }

    #[test]
    fn a_write_may_end_anywhere() {
        let mut output = Output::default();
        for _ in 0..3 {
            output.push_pdu([9; BHS_LEN], Bytes::from_static(b"hello").into(), Digests::default());
        }
        let mut other = Output::default();
        for _ in 0..3 {
            other.push_pdu([9; BHS_LEN], Bytes::from_static(b"hello").into(), Digests::default());
        }
        let expected = all(&mut other);
        let mut got = Vec::new();
        while output.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 4];
            let n = output.chunks_vectored(&mut slices);
            let offered: Vec<u8> = slices[..n].iter().flat_map(|s| s.iter().copied()).take(31).collect();
            output.advance(offered.len());
            got.extend(offered);
        }
        assert_eq!(got, expected);
    }
}
