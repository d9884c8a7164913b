//! How long to wait before sending again, learnt from how long answers take (RFC 6298).
//!
//! A fixed wait of a second makes a lossy link useless: at 1 % loss and small windows, transfers of every server that
//! was measured come to nothing.

use std::time::Duration;

/// The wait before anything was measured.
const START: Duration = Duration::from_secs(1);

/// The shortest wait. A client that is merely slow gets a block twice then, which it ignores.
const MIN: Duration = Duration::from_millis(10);

/// The longest wait.
const MAX: Duration = Duration::from_secs(8);

#[derive(Debug, Clone)]
pub(super) struct Rto {
    /// The smoothed round trip and its mean deviation; `None` before the first was measured.
    measured: Option<(Duration, Duration)>,
    backoff: u32,
    max: Duration,
}

impl Rto {
    /// `ceiling`: what the client says is the longest wait.
    pub(super) fn new(ceiling: Option<Duration>) -> Self {
        Self { measured: None, backoff: 0, max: ceiling.map_or(MAX, |ceiling| ceiling.min(MAX)) }
    }

    /// How long to wait now.
    pub(super) fn wait(&self) -> Duration {
        let base = self.measured.map_or(START, |(mean, deviation)| (mean + deviation * 4).max(MIN));
        base.saturating_mul(1 << self.backoff.min(16)).min(self.max)
    }

    /// An answer came `round_trip` after what it answers was sent, once.
    pub(super) fn measure(&mut self, round_trip: Duration) {
        self.measured = Some(match self.measured {
            None => (round_trip, round_trip / 2),
            Some((mean, deviation)) => {
                ((mean * 7 + round_trip) / 8, (deviation * 3 + mean.abs_diff(round_trip)) / 4)
            }
        });
    }

    /// No answer came in time.
    pub(super) fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// The client has come further.
    pub(super) fn progress(&mut self) {
        self.backoff = 0;
    }

    /// The usual round trip.
    pub(super) fn round_trip(&self) -> Duration {
        self.measured.map_or(START, |(mean, _)| mean)
    }
}
