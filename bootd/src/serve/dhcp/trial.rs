//! Finds out whether an address is in use before a machine is offered it for the first time.
//!
//! Whoever has the address says so by ARP within milliseconds. Behind a relay ARP asks nobody; there whoever answers a ping has it
//! (RFC 2131 §2.2), and who does not answer any may have it all the same. Only the offer to that machine waits for it, and only the
//! first: nobody else is held up, and a machine that comes back is not.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use parking_lot::Mutex;
use site::MacAddr;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::{PAUSE, SERVICE};
use crate::events::Event;
use crate::pings::{Pings, SHORT};
use crate::state::State;
use crate::sys::{Heard, WatchedArp};

/// How long an offer waits for the address's user to speak up. Firmware asks again after 4 s, iPXE after 1 s.
const WAIT: Duration = Duration::from_millis(300);

/// How many addresses are asked for at once. Beyond, in a flood of new machines, addresses are offered untried, if nobody has
/// them leased.
const MOST: usize = 64;

/// What became of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nobody says that it has the address.
    Nobody,
    /// It can't be found out.
    Unknown,
    /// Somebody else has it.
    User(MacAddr),
    /// Somebody has it, and it can't be told who.
    Somebody,
    /// It is being tried for an earlier request, whose answer is the answer to this one, too.
    Pending,
}

/// Asks by ICMP for addresses behind relays.
#[derive(Debug, Default)]
pub(super) struct FarTrials {
    asked: Mutex<HashSet<Ipv4Addr>>,
}

impl FarTrials {
    /// Whether anybody uses that address, as far as they say so: silence proves nothing.
    pub(super) async fn user_of(&self, address: Ipv4Addr, pings: &Pings) -> Found {
        {
            let mut asked = self.asked.lock();
            if asked.contains(&address) {
                return Found::Pending;
            }
            if asked.len() >= MOST {
                return Found::Unknown;
            }
            asked.insert(address);
        }
        let asking = Asking { trials: self, address };
        let heard = pings.ask(address, SHORT, WAIT).await;
        drop(asking);
        match heard {
            Ok(Some(Heard::Reply)) => Found::Somebody,
            Ok(_) | Err(_) => Found::Unknown,
        }
    }
}

/// An address that is asked for; it may be again when this is dropped.
struct Asking<'a> {
    trials: &'a FarTrials,
    address: Ipv4Addr,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.trials.asked.lock().remove(&self.address);
    }
}

/// Asks for addresses on one link.
#[derive(Debug)]
pub(super) struct Trials {
    socket: WatchedArp,
    asked: Mutex<HashMap<Ipv4Addr, oneshot::Sender<MacAddr>>>,
}

impl Trials {
    pub(super) fn new(socket: WatchedArp) -> Self {
        Self { socket, asked: Mutex::default() }
    }

    /// Hears the answers, for ever.
    pub(super) async fn listen(&self, state: &State) {
        loop {
            match self.socket.receive().await {
                Ok((address, mac)) => {
                    if let Some(asker) = self.asked.lock().remove(&address) {
                        // Who asked may have given up.
                        let _ = asker.send(MacAddr::new(mac));
                    }
                }
                Err(e) => {
                    state
                        .events
                        .emit(Event::Trouble { service: SERVICE, what: format!("can't hear ARP: {e}") });
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Who uses that address, other than the machine that it is for.
    pub(super) async fn user_of(&self, address: Ipv4Addr, for_machine: MacAddr) -> Found {
        let (asker, answer) = oneshot::channel();
        {
            let mut asked = self.asked.lock();
            if asked.contains_key(&address) {
                return Found::Pending;
            }
            if asked.len() >= MOST {
                return Found::Unknown;
            }
            asked.insert(address, asker);
        }
        if let Err(e) = self.socket.ask(address) {
            tracing::debug!("dhcp: can't ask for {address} by ARP: {e}");
        }
        let user = timeout(WAIT, answer).await;
        self.asked.lock().remove(&address);
        match user {
            Ok(Ok(user)) if user != for_machine => Found::User(user),
            _ => Found::Nobody,
        }
    }
}
