//! Cutting a stream of bytes into PDUs.

use bytes::{Buf, Bytes, BytesMut};

use super::header::{BHS_LEN, Bhs, Header};

/// Which digests are in force (RFC 7143 13.1). None in the login phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Digests {
    pub(crate) header: bool,
    pub(crate) data: bool,
}

/// A whole PDU.
#[derive(Debug)]
pub(crate) struct Frame {
    /// The basic header segment.
    pub(crate) bhs: Bhs,
    /// All additional header segments.
    pub(crate) ahs: Bytes,
    /// The data segment without its padding, sharing the memory that it was received in.
    pub(crate) data: Bytes,
    /// Whether the data digest, where there is one, is that of the data.
    pub(crate) data_intact: bool,
}

/// Why a stream can't be cut any further. At error recovery level 0 each of them ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("header digest error")]
    HeaderDigest,
    #[error("a data segment of {0} bytes is longer than was agreed")]
    DataTooLong(usize),
}

/// Takes the first whole PDU off `input`. `Ok(Err(n))`: it is not all there; the PDU, as far as can be seen, is
/// `n` bytes long.
pub(crate) fn next_frame(
    input: &mut BytesMut,
    digests: Digests,
    max_data: usize,
) -> Result<Result<Frame, usize>, FrameError> {
    const DIGEST_LEN: usize = 4;
    let Some(&bhs) = input.first_chunk::<BHS_LEN>() else { return Ok(Err(BHS_LEN)) };
    let header = Header(&bhs);
    let (ahs_len, data_len) = (header.ahs_len(), header.data_len());
    if data_len > max_data {
        return Err(FrameError::DataTooLong(data_len));
    }
    let header_len = BHS_LEN + ahs_len;
    let header_digest_len = if digests.header { DIGEST_LEN } else { 0 };
    let data_digest_len = if digests.data && data_len > 0 { DIGEST_LEN } else { 0 };
    let padded_len = data_len.next_multiple_of(4);
    let whole = header_len + header_digest_len + padded_len + data_digest_len;
    if input.len() < whole {
        return Ok(Err(whole));
    }

    if digests.header && !is_digest_of(input.get(..header_len), input.get(header_len..)) {
        return Err(FrameError::HeaderDigest);
    }
    input.advance(BHS_LEN);
    let ahs = if ahs_len > 0 { input.split_to(ahs_len).freeze() } else { Bytes::new() };
    input.advance(header_digest_len);
    if data_len == 0 {
        return Ok(Ok(Frame { bhs, ahs, data: Bytes::new(), data_intact: true }));
    }
    let data_intact = data_digest_len == 0 || is_digest_of(input.get(..padded_len), input.get(padded_len..));
    let mut data = input.split_to(padded_len).freeze();
    data.truncate(data_len);
    input.advance(data_digest_len);
    Ok(Ok(Frame { bhs, ahs, data, data_intact }))
}

/// Whether `after` begins with the CRC32C of `bytes`. The digest is little-endian on the wire (RFC 7143 13.1).
fn is_digest_of(bytes: Option<&[u8]>, after: Option<&[u8]>) -> bool {
    let digest = after.and_then(|after| after.first_chunk());
    matches!((bytes, digest), (Some(bytes), Some(digest)) if crc32c::crc32c(bytes) == u32::from_le_bytes(*digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nop_out(data: &[u8]) -> BytesMut {
        let mut pdu = BytesMut::zeroed(BHS_LEN);
        pdu[7] = u8::try_from(data.len()).unwrap();
        pdu.extend_from_slice(data);
        pdu.resize(pdu.len().next_multiple_of(4), 0);
        pdu
    }

    #[test]
    fn waits_for_the_whole_and_takes_no_more() {
        let whole = nop_out(b"hello");
        let mut input = BytesMut::new();
        for n in 0..whole.len() {
            input = BytesMut::from(&whole[..n]);
            let expected = if n < BHS_LEN { BHS_LEN } else { whole.len() };
            assert_eq!(next_frame(&mut input, Digests::default(), 64).unwrap().unwrap_err(), expected);
            assert_eq!(input.len(), n);
        }
        input.clear();
        input.extend_from_slice(&whole);
        input.extend_from_slice(b"next");
        let frame = next_frame(&mut input, Digests::default(), 64).unwrap().unwrap();
        assert_eq!(frame.data, b"hello"[..]);
        assert_eq!(input, b"next"[..]);
    }

    #[test]
    fn digests_cover_header_and_padded_data() {
        let digests = Digests { header: true, data: true };
        let plain = nop_out(b"hello");
        let mut whole = BytesMut::from(&plain[..BHS_LEN]);
        whole.extend_from_slice(&crc32c::crc32c(&plain[..BHS_LEN]).to_le_bytes());
        whole.extend_from_slice(&plain[BHS_LEN..]);
        whole.extend_from_slice(&crc32c::crc32c(b"hello\0\0\0").to_le_bytes());

        let frame = next_frame(&mut whole.clone(), digests, 64).unwrap().unwrap();
        assert!(frame.data_intact);
        assert_eq!(frame.data, b"hello"[..]);

        let mut bad_data = whole.clone();
        bad_data[53] ^= 1;
        assert!(!next_frame(&mut bad_data, digests, 64).unwrap().unwrap().data_intact);
        let mut bad_header = whole.clone();
        bad_header[20] ^= 1;
        assert_eq!(next_frame(&mut bad_header, digests, 64).unwrap_err(), FrameError::HeaderDigest);
    }

    #[test]
    fn a_length_that_lies_is_refused_before_it_is_waited_for() {
        let mut input = BytesMut::zeroed(BHS_LEN);
        input[5..8].fill(0xff);
        assert_eq!(
            next_frame(&mut input, Digests::default(), 1 << 18).unwrap_err(),
            FrameError::DataTooLong(0x00ff_ffff)
        );
    }
}
