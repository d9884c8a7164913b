//! The sessions on the disk, and what each of them has yet to be told.

use std::collections::{BTreeMap, VecDeque};

use super::command::{InitiatorPort, NexusId};
use super::limits::MAX_ATTENTIONS;
use super::sense::Condition;

#[derive(Debug)]
struct Nexus {
    port: InitiatorPort,
    attentions: VecDeque<Condition>,
}

impl Nexus {
    fn tell(&mut self, attention: Condition) {
        if !self.attentions.contains(&attention) && self.attentions.len() < MAX_ATTENTIONS {
            self.attentions.push_back(attention);
        }
    }
}

/// All sessions, by their nexus.
#[derive(Debug, Default)]
pub(super) struct Nexuses {
    all: BTreeMap<NexusId, Nexus>,
}

impl Nexuses {
    pub(super) fn join(&mut self, nexus: NexusId, port: InitiatorPort) {
        self.all.insert(nexus, Nexus { port, attentions: [Condition::POWER_ON].into() });
    }

    pub(super) fn leave(&mut self, nexus: NexusId) {
        self.all.remove(&nexus);
    }

    pub(super) fn port(&self, nexus: NexusId) -> Option<&InitiatorPort> {
        self.all.get(&nexus).map(|it| &it.port)
    }

    /// Establishes a unit attention for every session but one.
    pub(super) fn tell_others(&mut self, but: NexusId, attention: Condition) {
        self.all.iter_mut().filter(|(id, _)| **id != but).for_each(|(_, it)| it.tell(attention));
    }

    /// Establishes a unit attention for one session.
    pub(super) fn tell(&mut self, nexus: NexusId, attention: Condition) {
        if let Some(it) = self.all.get_mut(&nexus) {
            it.tell(attention);
        }
    }

    /// Establishes a unit attention for every session.
    pub(super) fn tell_all(&mut self, attention: Condition) {
        self.all.values_mut().for_each(|it| it.tell(attention));
    }

    /// Establishes a unit attention for the sessions of one initiator port.
    pub(super) fn tell_port(&mut self, port: &InitiatorPort, attention: Condition) {
        self.all.values_mut().filter(|it| it.port == *port).for_each(|it| it.tell(attention));
    }

    /// The oldest unit attention of that session, which clears it.
    pub(super) fn take_attention(&mut self, nexus: NexusId) -> Option<Condition> {
        self.all.get_mut(&nexus)?.attentions.pop_front()
    }

    pub(super) fn any_attention(&self) -> bool {
        self.all.values().any(|it| !it.attentions.is_empty())
    }
}
