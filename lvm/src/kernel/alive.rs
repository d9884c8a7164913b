//! Has LIO ping those who answer, so that the session of a machine that was switched off ends: LIO would keep it until the
//! client boots again.
//!
//! iPXE does not answer, and must not be cut off while a menu waits for its user; so pings begin with the system, whose
//! log-in comes after one of the firmware's, and is not iPXE's. LIO takes a new value for the newest session of an
//! initiator at once, which is that one. The next boot has another entry, without pings.

use std::collections::HashMap;
use std::io;

use parking_lot::Mutex;

use super::lio::{Files, Lio};
use super::sessions;
use crate::Session;

/// How long LIO hears nothing before it pings, and how long it then waits for an answer, in seconds.
const PING: &str = "15";
const ANSWER: &str = "15";

/// The first session that was seen at each disk, and whether the system's is pinged.
#[derive(Debug, Default)]
pub(super) struct Alive(Mutex<HashMap<String, (u64, bool)>>);

impl Alive {
    /// Whether that session is to be pinged from now on.
    fn begins(&self, disk: &str, session: Session, of_ipxe: bool) -> bool {
        let mut seen = self.0.lock();
        let (first, pinged) = seen.entry(disk.to_owned()).or_insert((session.id, false));
        let begins = !*pinged && !of_ipxe && session.id != *first;
        *pinged |= begins;
        begins
    }

    /// Forgets all disks but these.
    pub(super) fn keep_only<'a>(&self, mut disks: impl Iterator<Item = &'a String>) {
        let kept: Vec<_> = disks.by_ref().collect();
        self.0.lock().retain(|disk, _| kept.contains(&disk));
    }
}

impl Lio {
    /// The newest session of that initiator at its disk.
    pub(super) fn look(&self, disk: &str, initiator: &str) -> Option<Session> {
        let entry = self.files.of_initiator(initiator)?.entry(initiator);
        let (session, of_ipxe) = sessions::session_of(&entry)?;
        if self.alive.begins(disk, session, of_ipxe) {
            let initiator = initiator.to_owned();
            // Without pings it ends with the boot.
            let _ = self.work(Box::new(move |files| files.ping(&initiator)));
        }
        Some(session)
    }
}

impl Files {
    /// Those of the target where the initiator has its entry. After a change of name its earlier boot's may still be at the
    /// old target.
    fn of_initiator(&self, initiator: &str) -> Option<&Self> {
        self.all().find(|files| files.entry(initiator).is_dir())
    }

    fn ping(&self, initiator: &str) -> io::Result<()> {
        let Some(files) = self.of_initiator(initiator) else { return Ok(()) };
        let attributes = files.entry(initiator).join("attrib");
        self.write(&attributes.join("nopin_response_timeout"), ANSWER)?;
        self.write(&attributes.join("nopin_timeout"), PING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_system_that_came_after_its_firmware_is_pinged() {
        let alive = Alive::default();
        let begins = |disk, id, of_ipxe| alive.begins(disk, Session { id, peer: None }, of_ipxe);
        assert!(!begins("pc1", 7, true) && !begins("pc1", 7, true));
        // iPXE has logged in anew.
        assert!(!begins("pc1", 8, true));
        assert!(begins("pc1", 9, false));
        assert!(!begins("pc1", 9, false) && !begins("pc1", 10, false), "LIO was told already");
        // Firmware of another kind, of which nobody knows whether it answers.
        assert!(!begins("pc2", 11, false));
        assert!(begins("pc2", 12, false));
        alive.keep_only([&"pc2".to_owned()].into_iter());
        assert!(!begins("pc1", 13, false));
    }
}
