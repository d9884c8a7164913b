//! How much of a processor all requests together may take, whoever sends them.
//!
//! Each machine has an allowance of its own, which a flood from ever new addresses never uses up. So the time that
//! answering takes is counted as well, for all machines together: it may be so much of each second, and when it is used up,
//! requests are dropped before anything is done for them. First to go are those of machines that nobody has heard of, then
//! those of machines that have a lease and no entry, and at last those of clients. What costs a drop is to look at the
//! packet, which is little, so that the clients' requests in a flood are still reached.
//!
//! Time is counted rather than requests, for how many of these are too many depends on the machine.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How much of a second answering may take in the long run, in parts of a hundred of one processor.
const PERCENT: u32 = 75;

/// How much time may be owed before requests of each kind of machine are dropped. Who boots a room at once is a burst of
/// some hundred requests, which take some ten milliseconds.
const STRANGERS: Duration = Duration::from_millis(200);
const LESSEES: Duration = Duration::from_millis(400);
const CLIENTS: Duration = Duration::from_secs(1);

/// How long nothing more is said of it after it was told.
const QUIET: Duration = Duration::from_secs(60);

/// How well a machine is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rank {
    /// Not at all.
    Stranger,
    /// It has a lease.
    Lessee,
    /// The site has an entry of it.
    Client,
}

/// Whether a request is looked at further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is.
    Admitted,
    /// It is dropped. `news`: nobody was told of that lately.
    Dropped { news: bool },
}

/// The time that all of them take.
#[derive(Debug)]
pub(super) struct Crowd {
    start: Instant,
    owed: Mutex<Owed>,
}

#[derive(Debug, Default)]
struct Owed {
    time: Duration,
    /// As of when, since the start.
    at: Duration,
    told: Option<Duration>,
}

impl Crowd {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), owed: Mutex::default() }
    }

    /// Whether a request may be answered. How well its machine is known is asked only in a flood.
    pub(super) fn admit(&self, rank: impl FnOnce() -> Rank) -> Verdict {
        self.admit_at(self.start.elapsed(), rank)
    }

    /// To answer one took so long.
    pub(super) fn took(&self, time: Duration) {
        self.owed.lock().time += time;
    }

    fn admit_at(&self, now: Duration, rank: impl FnOnce() -> Rank) -> Verdict {
        let time = {
            let mut owed = self.owed.lock();
            let rested = now.saturating_sub(owed.at) * PERCENT / 100;
            owed.time = owed.time.saturating_sub(rested);
            owed.at = owed.at.max(now);
            owed.time
        };
        if time < STRANGERS {
            return Verdict::Admitted;
        }
        let most = match rank() {
            Rank::Stranger => STRANGERS,
            Rank::Lessee => LESSEES,
            Rank::Client => CLIENTS,
        };
        if time < most {
            return Verdict::Admitted;
        }
        let mut owed = self.owed.lock();
        let news = owed.told.is_none_or(|told| now.saturating_sub(told) >= QUIET);
        if news {
            owed.told = Some(now);
        }
        Verdict::Dropped { news }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Rank; 3] = [Rank::Stranger, Rank::Lessee, Rank::Client];

    fn admitted(crowd: &Crowd, ms: u64) -> Vec<Rank> {
        let now = Duration::from_millis(ms);
        ALL.into_iter().filter(|rank| crowd.admit_at(now, || *rank) == Verdict::Admitted).collect()
    }

    #[test]
    fn strangers_are_dropped_first_and_clients_last() {
        let crowd = Crowd::new();
        assert_eq!(admitted(&crowd, 0), ALL);
        crowd.took(STRANGERS);
        assert_eq!(admitted(&crowd, 0), [Rank::Lessee, Rank::Client]);
        crowd.took(LESSEES - STRANGERS);
        assert_eq!(admitted(&crowd, 0), [Rank::Client]);
        crowd.took(CLIENTS - LESSEES);
        assert_eq!(admitted(&crowd, 0), []);
        // Three quarters of the time that passes are paid back.
        assert_eq!(admitted(&crowd, 4), [Rank::Client]);
        assert_eq!(admitted(&crowd, 1060), [Rank::Lessee, Rank::Client], "205 ms are left");
        assert_eq!(admitted(&crowd, 1080), ALL);
    }

    #[test]
    fn a_flood_gets_its_share_of_the_time_and_no_more_and_clients_are_served_in_it() {
        let crowd = Crowd::new();
        let (mut spent, mut dropped) = (Duration::ZERO, 0);
        let cost = Duration::from_micros(100);
        // Ten thousand strangers a second for ten seconds, each of which would take a tenth of a millisecond.
        for n in 0..100_000_u32 {
            let now = cost * n;
            match crowd.admit_at(now, || Rank::Stranger) {
                Verdict::Admitted => {
                    spent += cost;
                    crowd.took(cost);
                }
                Verdict::Dropped { .. } => dropped += 1,
            }
            if n % 100 == 0 {
                assert_eq!(crowd.admit_at(now, || Rank::Client), Verdict::Admitted, "a client at {now:?}");
                crowd.took(cost);
            }
        }
        let most = Duration::from_secs(10) * PERCENT / 100 + STRANGERS;
        assert!(
            spent <= most && spent > most * 9 / 10,
            "{spent:?} were spent on strangers, {dropped} dropped"
        );
    }

    #[test]
    fn it_is_told_once_a_minute_and_asks_who_it_is_only_in_a_flood() {
        let crowd = Crowd::new();
        let unasked = || panic!("it was asked who that is");
        assert_eq!(crowd.admit_at(Duration::ZERO, unasked), Verdict::Admitted);
        crowd.took(Duration::from_secs(3600));
        let dropped = |ms| crowd.admit_at(Duration::from_millis(ms), || Rank::Client);
        assert_eq!(dropped(0), Verdict::Dropped { news: true });
        assert_eq!(dropped(1), Verdict::Dropped { news: false });
        assert_eq!(dropped(59_999), Verdict::Dropped { news: false });
        assert_eq!(dropped(60_000), Verdict::Dropped { news: true });
    }
}
