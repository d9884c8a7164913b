//! One bounded stream of facts. Services emit, nobody reads another's internals; one consumer makes the log of
//! it and keeps the latest for the status page.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use site::MacAddr;
use tokio::sync::mpsc;

use crate::control::api::LoggedEvent;
use crate::state::{Counters, unix_millis};

/// How many events may wait for the log. Further ones are dropped and counted in `events_lost`: a flood of bad
/// packets must not hold up the service that drops them.
const QUEUE: usize = 4096;

/// How many events `bootd status` can show. The oldest goes first.
const RECENT: usize = 200;

/// How long the same complaint about the same peer is kept out of the log.
const QUIET: Duration = Duration::from_secs(60);

/// How many complaints are remembered to be kept quiet. When there are more within [`QUIET`], further ones are not
/// logged: a flood from forged addresses makes at most this many lines a minute.
const QUIET_KEYS: usize = 256;

/// How long the same step of the same client is kept out of the log: a machine whose address is forged asks as often
/// as the forger likes.
const STEP_QUIET: Duration = Duration::from_secs(1);

/// How many steps are remembered for that. Further ones within [`STEP_QUIET`] are not logged.
const STEP_KEYS: usize = 4096;

/// A fact that a service tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A client's boot took a step (its timeline has it too).
    Step {
        /// The client's name, or the machine's MAC address.
        who: String,
        /// Which step, and what of it.
        what: String,
    },
    /// A machine asked that is no client.
    UnknownClient {
        /// Its network card.
        mac: MacAddr,
        /// On which interface.
        interface: String,
    },
    /// A request was turned down: the peer's fault or the site's, told to whoever runs the site.
    Refused {
        /// Which service: `dhcp`, `tftp`, `http`, `iscsi`.
        service: &'static str,
        /// By whom it was made.
        peer: SocketAddr,
        /// Why, and what would help.
        why: String,
    },
    /// Something came that is no request at all.
    Malformed {
        /// Which service.
        service: &'static str,
        /// From whom.
        peer: SocketAddr,
        /// What was wrong with it.
        why: String,
    },
    /// Something of ours or of the machine's failed; the service goes on.
    Trouble {
        /// Which service.
        service: &'static str,
        /// What failed, why, and what to do.
        what: String,
    },
    /// The site was edited.
    SiteChanged {
        /// Its new revision.
        revision: u64,
    },
    /// A template was edited.
    MenusChanged,
    /// A mirror has fetched a file.
    Mirrored {
        /// From where.
        url: String,
        /// How long it is.
        bytes: u64,
        /// How long that took.
        took: Duration,
        /// Whether its sum was compared with what it should be.
        verified: bool,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step { who, what } => write!(f, "{who}: {what}"),
            Self::UnknownClient { mac, interface } => write!(
                f,
                "unknown client {mac} on {interface}: to let it boot, type: bootd client add NAME --mac {mac} --image IMAGE"
            ),
            Self::Refused { service, peer, why } => write!(f, "{service}: refused {peer}: {why}"),
            Self::Malformed { service, peer, why } => write!(f, "{service}: dropped what {peer} sent: {why}"),
            Self::Trouble { service, what } => write!(f, "{service}: {what}"),
            Self::SiteChanged { revision } => write!(f, "site changed, revision {revision} is in force"),
            Self::MenusChanged => f.write_str("templates changed, they are in force"),
            Self::Mirrored { url, bytes, took, verified } => {
                let sum = if *verified { "its sum is right" } else { "there is no sum for it" };
                write!(f, "mirror: {url} is stored, {bytes} bytes in {} ms, {sum}", took.as_millis())
            }
        }
    }
}

/// Where services tell their facts. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Events {
    queue: mpsc::Sender<Event>,
    counters: Arc<Counters>,
}

impl Events {
    /// The stream, and its end that [`consume`] reads.
    pub(crate) fn new(counters: Arc<Counters>) -> (Self, mpsc::Receiver<Event>) {
        let (queue, end) = mpsc::channel(QUEUE);
        (Self { queue, counters }, end)
    }

    /// Tells `event`. Never waits: when the stream is full, the event is dropped and counted.
    pub(crate) fn emit(&self, event: Event) {
        if self.queue.try_send(event).is_err() {
            self.counters.events_lost.inc();
        }
    }
}

/// The latest events that were logged.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<VecDeque<LoggedEvent>>);

impl Recent {
    /// All of them, oldest first.
    pub(crate) fn all(&self) -> Vec<LoggedEvent> {
        self.0.lock().iter().cloned().collect()
    }

    fn push(&self, text: String) {
        let mut all = self.0.lock();
        if all.len() == RECENT {
            all.pop_front();
        }
        all.push_back(LoggedEvent { at: unix_millis(), text });
    }
}

/// Logs events until the last sender is gone.
pub(crate) async fn consume(mut events: mpsc::Receiver<Event>, recent: Arc<Recent>) {
    let mut quiet = Quiet::default();
    while let Some(event) = events.recv().await {
        let Some(unsaid) = quiet.admit(&event, Instant::now()) else { continue };
        let text = if unsaid == 0 { event.to_string() } else { format!("{event} ({unsaid} more like it)") };
        match &event {
            Event::Step { .. } | Event::SiteChanged { .. } | Event::MenusChanged | Event::Mirrored { .. } => {
                tracing::info!("{text}");
            }
            _ => tracing::warn!("{text}"),
        }
        recent.push(text);
    }
}

/// What was just logged and is not to be logged again so soon. What strangers can cause has a table of its own, so
/// that no flood of theirs keeps our own troubles out of the log.
struct Quiet {
    steps: Said,
    strangers: Said,
    troubles: Said,
}

impl Default for Quiet {
    fn default() -> Self {
        Self {
            steps: Said::new(STEP_QUIET, STEP_KEYS),
            strangers: Said::new(QUIET, QUIET_KEYS),
            troubles: Said::new(QUIET, QUIET_KEYS),
        }
    }
}

impl Quiet {
    /// Whether to log it: `Some` with how many of the same were kept quiet since the last line.
    fn admit(&mut self, event: &Event, now: Instant) -> Option<u64> {
        match event {
            Event::SiteChanged { .. } | Event::MenusChanged | Event::Mirrored { .. } => Some(0),
            Event::Step { who, what } => self.steps.admit(format!("{who}: {what}"), now),
            Event::UnknownClient { mac, .. } => self.strangers.admit(format!("unknown {mac}"), now),
            Event::Refused { service, peer, .. } => {
                self.strangers.admit(format!("refused {service} {}", peer.ip()), now)
            }
            Event::Malformed { service, peer, .. } => {
                self.strangers.admit(format!("malformed {service} {}", peer.ip()), now)
            }
            Event::Trouble { service, what } => self.troubles.admit(format!("{service} {what}"), now),
        }
    }
}

/// When each of a bounded number of things was said last, and how often it was kept quiet since.
struct Said {
    period: Duration,
    most: usize,
    at: HashMap<String, (Instant, u64)>,
}

impl Said {
    fn new(period: Duration, most: usize) -> Self {
        Self { period, most, at: HashMap::new() }
    }

    fn admit(&mut self, key: String, now: Instant) -> Option<u64> {
        if let Some((said, unsaid)) = self.at.get_mut(&key) {
            if now.saturating_duration_since(*said) < self.period {
                *unsaid += 1;
                return None;
            }
            *said = now;
            return Some(std::mem::take(unsaid));
        }
        if self.at.len() >= self.most {
            self.at.retain(|_, (said, _)| now.saturating_duration_since(*said) < self.period);
            if self.at.len() >= self.most {
                return None;
            }
        }
        self.at.insert(key, (now, 0));
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(last: u8) -> Event {
        Event::UnknownClient { mac: MacAddr::new([2, 0, 0, 0, 0, last]), interface: "eth1".into() }
    }

    #[test]
    fn the_same_complaint_is_logged_once_a_minute_and_then_counted() {
        let mut quiet = Quiet::default();
        let start = Instant::now();
        assert_eq!(quiet.admit(&unknown(1), start), Some(0));
        assert_eq!(quiet.admit(&unknown(1), start + QUIET / 2), None);
        assert_eq!(
            quiet.admit(&unknown(2), start + QUIET / 2),
            Some(0),
            "another machine is another complaint"
        );
        assert_eq!(quiet.admit(&unknown(1), start + QUIET), Some(1));
    }

    #[test]
    fn a_flood_of_different_complaints_is_bounded() {
        let mut quiet = Quiet::default();
        let start = Instant::now();
        let flood = |quiet: &mut Quiet, now| {
            (0..10_000u32)
                .filter(|n| {
                    let why = String::new();
                    let peer = SocketAddr::from((n.to_be_bytes(), 1));
                    quiet.admit(&Event::Malformed { service: "dhcp", peer, why }, now).is_some()
                })
                .count()
        };
        assert_eq!(flood(&mut quiet, start), QUIET_KEYS);
        assert_eq!(flood(&mut quiet, start + QUIET * 2), QUIET_KEYS, "a new minute, a new allowance");
        let trouble = Event::Trouble { service: "http", what: "no more files".into() };
        assert_eq!(quiet.admit(&trouble, start + QUIET * 2), Some(0), "ours is heard through the flood");
    }

    #[test]
    fn a_step_that_is_forged_a_thousand_times_is_logged_once_a_second() {
        let mut quiet = Quiet::default();
        let start = Instant::now();
        let step = Event::Step { who: "pc1".into(), what: "DHCP from firmware".into() };
        let logged = (0..1000).filter(|_| quiet.admit(&step, start).is_some()).count();
        assert_eq!(logged, 1);
        assert_eq!(quiet.admit(&step, start + STEP_QUIET), Some(999));
    }

    #[test]
    fn a_full_stream_drops_and_counts() {
        let counters = Arc::new(Counters::default());
        let (events, _end) = Events::new(Arc::clone(&counters));
        (0..QUEUE + 3).for_each(|_| events.emit(unknown(1)));
        assert_eq!(counters.events_lost.get(), 3);
    }
}
