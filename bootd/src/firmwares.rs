//! Which firmware machines last said that they have: what may boot on one may not on another, and who fetches a file says
//! nothing of its own.

use std::collections::{HashMap, VecDeque};

use netboot::Firmware;
use parking_lot::Mutex;
use site::MacAddr;

/// Strangers that are remembered. Beyond, the one that was heard first is forgotten, and taken to have any firmware.
const MAX_STRANGERS: usize = 1024;

/// The latest word of each machine.
#[derive(Debug, Default)]
pub(crate) struct Firmwares(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// Of clients only, so it can't outgrow the site.
    clients: HashMap<MacAddr, Firmware>,
    strangers: HashMap<MacAddr, Firmware>,
    /// The strangers in the order in which they came.
    order: VecDeque<MacAddr>,
}

impl Firmwares {
    /// A machine said that it has `firmware`.
    pub(crate) fn said(&self, mac: MacAddr, firmware: Firmware, is_client: bool) {
        let mut table = self.0.lock();
        let Table { clients, strangers, order } = &mut *table;
        if is_client {
            clients.insert(mac, firmware);
        } else if strangers.insert(mac, firmware).is_none() {
            order.push_back(mac);
            if order.len() > MAX_STRANGERS
                && let Some(first) = order.pop_front()
            {
                strangers.remove(&first);
            }
        }
    }

    /// What a machine last said; `None`: nothing that is remembered.
    pub(crate) fn of(&self, mac: MacAddr) -> Option<Firmware> {
        let table = self.0.lock();
        table.clients.get(&mac).or_else(|| table.strangers.get(&mac)).copied()
    }

    /// It is no client any more.
    pub(crate) fn forget(&self, mac: MacAddr) {
        self.0.lock().clients.remove(&mac);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_remembered_and_of_strangers_the_latest() {
        let all = Firmwares::default();
        let client = MacAddr::new([2, 1, 0, 0, 0, 0]);
        all.said(client, Firmware::Bios, true);
        let mac = |n: usize| MacAddr::new([2, 0, 0, 0, (n >> 8) as u8, n as u8]);
        for n in 0..MAX_STRANGERS + 9 {
            all.said(mac(n), Firmware::Bios, false);
            all.said(mac(n), Firmware::UefiX64, false);
        }
        assert_eq!(
            (all.of(client), all.of(mac(8)), all.of(mac(9))),
            (Some(Firmware::Bios), None, Some(Firmware::UefiX64),)
        );
        let table = all.0.lock();
        assert_eq!((table.strangers.len(), table.order.len()), (MAX_STRANGERS, MAX_STRANGERS));
        drop(table);
        all.forget(client);
        assert_eq!(all.of(client), None);
    }
}
