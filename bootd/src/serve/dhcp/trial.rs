//! Finds out whether an address is in use before a machine is offered it for the first time.
//!
//! Whoever has the address says so by ARP within milliseconds. Only the offer to that machine waits for it, and only the
//! first: nobody else is held up, and a machine that comes back is not.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use parking_lot::Mutex;
use site::MacAddr;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::{PAUSE, SERVICE};
use crate::events::Event;
use crate::state::State;
use crate::sys::WatchedArp;

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
    /// It is being tried for an earlier request, whose answer is the answer to this one, too.
    Pending,
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
