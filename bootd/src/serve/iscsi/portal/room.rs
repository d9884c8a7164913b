//! Room for what is read from a socket: little for who is idle or only asks, more for who writes much.

use std::time::Duration;

use bytes::BytesMut;

/// Least room: several hundred commands.
const LEAST: usize = 16 << 10;

/// Most room. A PDU that is longer gets the room that it needs.
const MOST: usize = 256 << 10;

/// After how many reads the room is fitted to what they brought.
const READS: u32 = 64;

/// How long nothing must have come until the room is given back.
const IDLE: Duration = Duration::from_secs(5);

/// A socket's input, and how much room for more it pays to have.
#[derive(Debug)]
pub(super) struct Room {
    input: BytesMut,
    size: usize,
    reads: u32,
    largest: usize,
    last_read: Duration,
}

impl Room {
    pub(super) fn new() -> Self {
        Self { input: BytesMut::new(), size: LEAST, reads: 0, largest: 0, last_read: Duration::ZERO }
    }

    /// The input, with room for more; at least so much that `needed` bytes fit in all.
    pub(super) fn for_reading(&mut self, needed: usize) -> &mut BytesMut {
        let least = needed.saturating_sub(self.input.len()).max(1);
        if self.input.capacity() - self.input.len() < least.max(LEAST / 4) {
            self.input.reserve(least.max(self.size));
        }
        &mut self.input
    }

    /// The input, to be taken from.
    pub(super) fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// `n` bytes were read.
    pub(super) fn on_read(&mut self, n: usize, now: Duration) {
        self.last_read = now;
        self.reads += 1;
        self.largest = self.largest.max(n);
        if n >= self.size {
            self.size = (self.size * 2).min(MOST);
        } else if self.reads >= READS {
            self.size = self.largest.next_power_of_two().clamp(LEAST, MOST);
        } else {
            return;
        }
        (self.reads, self.largest) = (0, 0);
    }

    /// When [`on_timeout`](Self::on_timeout) has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        (self.input.capacity() > 0).then_some(self.last_read + IDLE)
    }

    /// Gives the memory back if nothing came for a while.
    pub(super) fn on_timeout(&mut self, now: Duration) {
        if self.input.is_empty() && now >= self.last_read + IDLE {
            *self = Self { last_read: self.last_read, ..Self::new() };
        } else if now >= self.last_read + IDLE {
            // Part of a PDU must stay.
            self.last_read = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_with_what_comes_and_shrinks_again() {
        let mut room = Room::new();
        assert!(room.for_reading(48).capacity() >= LEAST);
        (0..10).for_each(|_| room.on_read(room.size, Duration::ZERO));
        assert_eq!(room.size, MOST);
        (0..READS).for_each(|_| room.on_read(48, Duration::ZERO));
        assert_eq!(room.size, LEAST);
    }

    #[test]
    fn a_long_pdu_gets_its_room_at_once() {
        let mut room = Room::new();
        room.for_reading(48).extend_from_slice(&[0; 1000]);
        let input = room.for_reading(300_000);
        assert!(input.capacity() >= 300_000 && input.len() == 1000);
    }

    #[test]
    fn who_is_idle_keeps_nothing() {
        let mut room = Room::new();
        assert_eq!(room.poll_timeout(), None);
        room.for_reading(48).extend_from_slice(b"x");
        room.on_read(1, Duration::from_secs(1));
        assert_eq!(room.poll_timeout(), Some(Duration::from_secs(6)));
        room.on_timeout(Duration::from_secs(6));
        assert_eq!(room.input().len(), 1, "part of a PDU");
        room.input().clear();
        room.on_timeout(Duration::from_secs(10));
        assert!(room.poll_timeout().is_some(), "not yet");
        room.on_timeout(Duration::from_secs(11));
        assert_eq!((room.input().capacity(), room.poll_timeout()), (0, None));
    }
}
