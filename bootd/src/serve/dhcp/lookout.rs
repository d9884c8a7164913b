//! Looks out for other DHCP servers. Where bootd gives the addresses there should be none: a machine that takes another's
//! offer does not boot, and nobody knows why. Where bootd is a proxy there should be one.
//!
//! What other servers broadcast is heard, and once in a while they are made to show themselves by a DISCOVER of our own.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use netboot::{Mode, discover, other_answer};
use site::MacAddr;
use tokio::time::{Instant, sleep, sleep_until};

use super::{MAX_DATAGRAM, PAUSE, SERVICE};
use crate::events::Event;
use crate::state::{Link, State, unix_seconds};
use crate::sys::{Eavesdropper, PacketSender, WatchedEavesdropper};
use crate::whereabouts::Sign;

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// When servers are made to show themselves: first soon, as the network may just come up, then now and then.
const FIRST: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(15)];
const THEN: Duration = Duration::from_secs(600);

/// After how many questions without an answer there is no server.
const ENOUGH: u32 = 3;

/// A link that is looked out on.
#[derive(Debug)]
pub(super) struct Lookout {
    listener: Eavesdropper,
    sender: PacketSender,
}

impl Lookout {
    pub(super) fn open(link: &Link) -> io::Result<Self> {
        let listener = Eavesdropper::open(link.index, CLIENT_PORT)?;
        Ok(Self { listener, sender: PacketSender::open(link.index)? })
    }

    /// Looks out for ever.
    pub(super) async fn watch(self, state: Arc<State>, link: usize) {
        let Some(link) = state.links.get(link) else { return };
        let mac = self.listener.mac();
        let listener = match self.listener.watch() {
            Ok(listener) => listener,
            Err(e) => return tracing::warn!("dhcp: no lookout for other servers: {e}"),
        };
        tokio::join!(listen(&listener, &state, link), ask(&self.sender, mac, &state, link));
    }
}

async fn listen(listener: &WatchedEavesdropper, state: &State, link: &Link) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        match listener.receive(&mut buffer).await {
            Ok(datagram) => {
                let bytes = buffer.get(..datagram.len).unwrap_or_default();
                if let Some(answer) = other_answer(bytes) {
                    heard(state, link, answer.server);
                    if answer.given && link.settings.mode != Mode::Server {
                        state.whereabouts.saw(&state.site.load(), answer.mac, answer.address, Sign::Heard);
                    }
                }
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn ask(sender: &PacketSender, mac: [u8; 6], state: &State, link: &Link) {
    let mut next = FIRST.into_iter();
    let start = Instant::now();
    loop {
        match next.next() {
            Some(after) => sleep_until(start + after).await,
            None => sleep(THEN).await,
        }
        // What is the same each time can't be told from an earlier answer, and need not be.
        let message = discover(MacAddr::new(mac), link.index);
        let from = SocketAddrV4::new(link.interface.address, CLIENT_PORT);
        let everyone = SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT);
        if let Err(e) = sender.send([0xff; 6], from, everyone, &message) {
            tracing::debug!("dhcp: can't look for other servers on {}: {e}", link.interface.name);
            continue;
        }
        let name = &link.interface.name;
        let asked = state.others.lock().asked(name);
        if asked == ENOUGH
            && let Some(what) = missing(state, link)
        {
            state.events.emit(Event::Trouble { service: SERVICE, what });
        }
    }
}

/// Another server than us was heard, or a machine took its offer.
pub(super) fn heard(state: &State, link: &Link, server: Ipv4Addr) {
    if state.links.iter().any(|link| link.interface.address == server) {
        return;
    }
    let news = state.others.lock().heard(&link.interface.name, server, unix_seconds());
    if news && link.settings.mode == Mode::Server {
        state.events.emit(Event::Trouble { service: SERVICE, what: rival(&link.interface.name, server) });
    }
}

/// What there is to see to now, for the status.
pub(crate) fn warnings(state: &State) -> Vec<String> {
    let others = state.others.lock().all(unix_seconds());
    let mode_of = |name: &str| {
        state.links.iter().find(|link| link.interface.name == name).map(|link| link.settings.mode)
    };
    let rivals = others.iter().filter(|other| mode_of(&other.interface) == Some(Mode::Server));
    let rivals = rivals.map(|other| rival(&other.interface, other.address));
    rivals.chain(state.links.iter().filter_map(|link| missing(state, link))).collect()
}

fn rival(interface: &str, server: Ipv4Addr) -> String {
    format!(
        "another DHCP server, {server}, gives addresses on {interface}: a machine that takes its offer does not boot. Switch \
         it off, or let bootd be a proxy beside it: mode = \"proxy\" in [dhcp] of bootd.toml"
    )
}

fn missing(state: &State, link: &Link) -> Option<String> {
    let name = &link.interface.name;
    let is_missing =
        link.settings.mode == Mode::Proxy && state.others.lock().is_missing(name, ENOUGH, unix_seconds());
    is_missing.then(|| {
        format!(
            "no DHCP server answers on {name}, and as a proxy bootd gives no addresses: start one, or let bootd be it: \
             mode = \"server\" in [dhcp] of bootd.toml"
        )
    })
}
