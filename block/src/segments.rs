//! What a read returns: shared pieces of memory, in disk order, so that a cached block reaches the socket
//! without being copied.

use bytes::{Bytes, BytesMut};

/// Pieces of memory that together hold the blocks of one read, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Segments {
    pieces: Vec<Bytes>,
    len: usize,
}

impl Segments {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a piece behind the others. An empty piece is dropped.
    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.len += piece.len();
            self.pieces.push(piece);
        }
    }

    /// Bytes in all pieces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces, in order; none is empty.
    #[must_use]
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// Removes the first `n` bytes (all of them if there are fewer) and returns them, sharing their memory.
    #[must_use]
    pub fn split_to(&mut self, n: usize) -> Self {
        let mut head = Self::new();
        let mut taken = 0;
        while let Some(piece) = self.pieces.get_mut(taken) {
            let want = n - head.len;
            if want == 0 {
                break;
            }
            if piece.len() <= want {
                head.push(std::mem::take(piece));
                taken += 1;
            } else {
                head.push(piece.split_to(want));
            }
        }
        self.pieces.drain(..taken);
        self.len -= head.len;
        head
    }

    /// Keeps the first `n` bytes.
    pub fn truncate(&mut self, n: usize) {
        let head = self.split_to(n);
        *self = head;
    }

    /// One piece with all the bytes: the only piece itself where there is one, else a copy.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match self.pieces.as_slice() {
            [] => Bytes::new(),
            [only] => only.clone(),
            many => {
                let mut all = BytesMut::with_capacity(self.len);
                many.iter().for_each(|p| all.extend_from_slice(p));
                all.freeze()
            }
        }
    }
}

impl From<Bytes> for Segments {
    fn from(piece: Bytes) -> Self {
        let mut all = Self::new();
        all.push(piece);
        all
    }
}

impl IntoIterator for Segments {
    type Item = Bytes;
    type IntoIter = std::vec::IntoIter<Bytes>;

    fn into_iter(self) -> Self::IntoIter {
        self.pieces.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_across_pieces_without_copying() {
        let whole = Bytes::from_static(b"abcdefgh");
        let mut all = Segments::new();
        all.push(whole.slice(0..3));
        all.push(whole.slice(3..8));
        let head = all.split_to(5);
        assert_eq!((head.len(), all.len()), (5, 3));
        assert_eq!(head.to_bytes(), b"abcde"[..]);
        assert_eq!(all.to_bytes(), b"fgh"[..]);
        assert_eq!(all.pieces()[0].as_ptr(), whole[5..].as_ptr());
        assert_eq!(all.split_to(99).len(), 3);
        assert!(all.is_empty());
    }
}
