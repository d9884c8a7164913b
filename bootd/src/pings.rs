//! Asks by ICMP what is at an address: whether anybody is, where ARP does not reach, and how long the packets may be that get
//! there. The socket is opened at the start, when that is still allowed.

use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use netboot::{PathAnswer, PathReport, PathSearch};
use parking_lot::Mutex;
use tokio::sync::{Mutex as Turn, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::sys::{Heard, IcmpSocket};

/// How many echoes may be on their way at once. Beyond, nobody is asked.
const MOST: usize = 128;

/// The length of an echo that asks whether anybody is there, in bytes: what every network carries whole (RFC 791).
pub(crate) const SHORT: u16 = 68;

/// The longest packet that is asked for when a path is looked at: a frame of Ethernet's. What is served here sends none that are
/// longer, unless both ends are set up for it.
const LONG: u16 = 1500;

/// How long the answer to an echo may take that looks at a path. Whoever is further away is not booting.
const WAIT: Duration = Duration::from_millis(400);

/// How long to wait when the socket gives errors instead of packets, before trying again.
const PAUSE: Duration = Duration::from_millis(100);

/// Who is asked, and who waits for an answer.
#[derive(Debug)]
pub(crate) struct Pings {
    socket: Option<IcmpSocket>,
    asked: Mutex<Asked>,
    /// One path is looked at at a time.
    turn: Turn<()>,
}

#[derive(Debug, Default)]
struct Asked {
    next: u16,
    /// By the number of the echo: whom it was sent to, and who waits.
    waiting: HashMap<u16, (Ipv4Addr, oneshot::Sender<Heard>)>,
}

impl Pings {
    /// With a socket, if the system gives one. It is needed for nothing else.
    pub(crate) fn open() -> Self {
        let mut id = [0; 4];
        // Numbers that can be foreseen would be answered for others by whoever likes.
        let socket = getrandom::fill(&mut id).map_err(io::Error::from);
        let [a, b, c, d] = id;
        let socket = socket.and_then(|()| IcmpSocket::open(u16::from_be_bytes([a, b])));
        let socket = socket.inspect_err(|e| {
            tracing::warn!(
                "no ICMP: {e}; addresses behind relays are not tried before they are given, and bootd explain --probe finds \
                 nothing: run bootd as root, or with CAP_NET_RAW"
            );
        });
        let asked = Asked { next: u16::from_be_bytes([c, d]), waiting: HashMap::new() };
        Self { socket: socket.ok(), asked: Mutex::new(asked), turn: Turn::default() }
    }

    /// Without a socket: nothing is known of anybody.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self { socket: None, asked: Mutex::default(), turn: Turn::default() }
    }

    /// Hears the answers until `stop`.
    pub(crate) async fn listen(&self, stop: CancellationToken) {
        let hear = async {
            let Some(watched) = self.socket.as_ref().map(IcmpSocket::watch) else { return pending().await };
            let watched = match watched {
                Ok(watched) => watched,
                Err(e) => {
                    tracing::warn!("no answer by ICMP is heard: {e}");
                    return pending().await;
                }
            };
            loop {
                let Ok(answer) = watched.receive().await else {
                    sleep(PAUSE).await;
                    continue;
                };
                let mut asked = self.asked.lock();
                if asked.waiting.get(&answer.sequence).is_some_and(|(to, _)| *to == answer.to)
                    && let Some((_, asker)) = asked.waiting.remove(&answer.sequence)
                {
                    // Who asked may have given up.
                    let _ = asker.send(answer.heard);
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = hear => {}
        }
    }

    /// Sends `to` an echo of `len` bytes, the IP header counted, and waits that long for what comes back. `Ok(None)`: nothing.
    ///
    /// # Errors
    /// When it can't be asked: there is no socket, or too many are asked already.
    pub(crate) async fn ask(&self, to: Ipv4Addr, len: u16, wait: Duration) -> io::Result<Option<Heard>> {
        let socket = self.socket.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let (asker, answer) = oneshot::channel();
        let sequence = {
            let mut asked = self.asked.lock();
            if asked.waiting.len() >= MOST {
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
            // There are far more numbers than may wait.
            while asked.waiting.contains_key(&asked.next) {
                asked.next = asked.next.wrapping_add(1);
            }
            let sequence = asked.next;
            asked.next = sequence.wrapping_add(1);
            asked.waiting.insert(sequence, (to, asker));
            sequence
        };
        let asking = Asking { pings: self, sequence };
        match socket.send(to, sequence, len) {
            Ok(()) => {}
            Err(e) if e.raw_os_error() == Some(libc::EMSGSIZE) => return Ok(Some(Heard::TooLong(None))),
            // There is no way there, or not now: nobody answers.
            Err(e) => tracing::debug!("can't send an echo to {to}: {e}"),
        }
        let heard = timeout(wait, answer).await.ok().and_then(Result::ok);
        drop(asking);
        Ok(heard)
    }

    /// Finds out how long the packets may be that get to that address whole. Takes some seconds where long ones don't.
    ///
    /// # Errors
    /// When it can't be asked.
    pub(crate) async fn path(&self, to: Ipv4Addr) -> io::Result<PathReport> {
        let _turn = self.turn.lock().await;
        let mut search = PathSearch::new(SHORT, LONG);
        loop {
            let len = match search.poll() {
                Ok(len) => len,
                Err(report) => return Ok(report),
            };
            search.handle(match self.ask(to, len, WAIT).await? {
                Some(Heard::Reply) => PathAnswer::Reply,
                Some(Heard::TooLong(most)) => PathAnswer::TooLong(most),
                None => PathAnswer::Silence,
            });
        }
    }
}

/// An echo that is waited for; forgotten when nobody does any more.
struct Asking<'a> {
    pings: &'a Pings,
    sequence: u16,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.pings.asked.lock().waiting.remove(&self.sequence);
    }
}
