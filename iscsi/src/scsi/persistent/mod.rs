//! Persistent reservations: who is registered, who has reserved, and what that lets others do (SPC-4,
//! persistent reservations). Here are the rules, in `commands` the commands around them.
//!
//! They belong to initiator ports, not to sessions, so they survive a logout and a reset. They don't survive the
//! target, and say so (PTPL_C is 0).

mod commands;
#[cfg(test)]
mod tests;

pub(super) use commands::{reserve_in, reserve_out};

use super::InitiatorPort;
use super::limits::MAX_REGISTRATIONS;
use super::sense::{Condition, Sense};
use super::table::Access;
use super::task::Failure;

/// The TYPE of a reservation (SPC-4, persistent reservations type): what others may not do, and who is no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    WriteExclusive = 1,
    ExclusiveAccess = 3,
    WriteExclusiveRegistrantsOnly = 5,
    ExclusiveAccessRegistrantsOnly = 6,
    WriteExclusiveAllRegistrants = 7,
    ExclusiveAccessAllRegistrants = 8,
}

impl Kind {
    /// From the SCOPE and TYPE byte; the only scope is the whole logical unit.
    pub(super) fn from_scope_and_type(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::WriteExclusive,
            3 => Self::ExclusiveAccess,
            5 => Self::WriteExclusiveRegistrantsOnly,
            6 => Self::ExclusiveAccessRegistrantsOnly,
            7 => Self::WriteExclusiveAllRegistrants,
            8 => Self::ExclusiveAccessAllRegistrants,
            _ => return None,
        })
    }

    /// Whether every registrant holds it.
    fn is_of_all(self) -> bool {
        matches!(self, Self::WriteExclusiveAllRegistrants | Self::ExclusiveAccessAllRegistrants)
    }

    /// Whether registrants are let in.
    fn admits_registrants(self) -> bool {
        !matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }

    /// Whether reading is free to all.
    fn admits_reading(self) -> bool {
        matches!(
            self,
            Self::WriteExclusive | Self::WriteExclusiveRegistrantsOnly | Self::WriteExclusiveAllRegistrants
        )
    }
}

/// A port that is registered, and the key by which it proves that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Registration {
    pub(super) port: InitiatorPort,
    pub(super) key: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Reservation {
    kind: Kind,
    /// The port that holds it; of a [kind](Kind::is_of_all) that all hold, none.
    holder: Option<InitiatorPort>,
}

/// A unit attention for the sessions of a port.
pub(super) type Notice = (InitiatorPort, Condition);

/// What a service action leads to.
pub(super) type Outcome = Result<Vec<Notice>, Failure>;

/// All registrations, and the reservation if there is one.
#[derive(Debug, Default)]
pub(super) struct Persistent {
    /// PRGENERATION: counts the changes of registrations.
    generation: u32,
    registrations: Vec<Registration>,
    reservation: Option<Reservation>,
}

impl Persistent {
    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    pub(super) fn registrations(&self) -> &[Registration] {
        &self.registrations
    }

    /// The reservation's kind, and the key of who holds it: 0 if all registrants do.
    pub(super) fn reservation(&self) -> Option<(Kind, u64)> {
        let reservation = self.reservation.as_ref()?;
        let key = reservation.holder.as_ref().and_then(|port| self.key_of(port));
        Some((reservation.kind, key.unwrap_or(0)))
    }

    /// Whether there is a reservation.
    pub(super) fn is_reserved(&self) -> bool {
        self.reservation.is_some()
    }

    /// Whether anyone is registered.
    pub(super) fn is_in_use(&self) -> bool {
        !self.registrations.is_empty()
    }

    pub(super) fn is_holder(&self, port: &InitiatorPort) -> bool {
        self.reservation.as_ref().is_some_and(|reservation| match &reservation.holder {
            Some(holder) => holder == port,
            None => self.key_of(port).is_some(),
        })
    }

    /// Whether the reservation keeps a port from such a command (SPC-4 and SBC-3, commands that are allowed in
    /// the presence of various reservations).
    pub(super) fn keeps_out(&self, port: Option<&InitiatorPort>, access: Access) -> bool {
        let Some(Reservation { kind, .. }) = self.reservation else {
            return false;
        };
        let is_registered = port.is_some_and(|port| self.key_of(port).is_some());
        if port.is_some_and(|port| self.is_holder(port)) || is_registered && kind.admits_registrants() {
            return false;
        }
        match access {
            Access::Always | Access::Free | Access::Status => false,
            Access::Read => !kind.admits_reading(),
            Access::Write => true,
        }
    }

    /// REGISTER, and REGISTER AND IGNORE EXISTING KEY where no `old` key is asked for. A new key
    /// of 0 ends the registration.
    pub(super) fn register(&mut self, port: &InitiatorPort, old: Option<u64>, new: u64) -> Outcome {
        let current = self.key_of(port);
        if old.is_some_and(|old| old != current.unwrap_or(0)) {
            return Err(Failure::Conflict);
        }
        if (current, new) == (None, 0) {
            return Ok(Vec::new());
        }
        if current.is_none() && self.registrations.len() >= MAX_REGISTRATIONS {
            return Err(Condition::INSUFFICIENT_REGISTRATION_RESOURCES.into());
        }
        self.generation = self.generation.wrapping_add(1);
        if new == 0 {
            return Ok(self.unregister(port));
        }
        match self.registrations.iter_mut().find(|it| it.port == *port) {
            Some(registration) => registration.key = new,
            None => self.registrations.push(Registration { port: port.clone(), key: new }),
        }
        Ok(Vec::new())
    }

    /// SPC-4, unregistering: the holder's reservation goes with its registration.
    fn unregister(&mut self, port: &InitiatorPort) -> Vec<Notice> {
        let held = self.is_holder(port);
        self.registrations.retain(|it| it.port != *port);
        match &self.reservation {
            Some(it) if held && (!it.kind.is_of_all() || self.registrations.is_empty()) => {
                self.release_from(port)
            }
            _ => Vec::new(),
        }
    }

    /// SPC-4, reserving.
    pub(super) fn reserve(&mut self, port: &InitiatorPort, key: u64, kind: Kind) -> Outcome {
        self.check_key(port, key)?;
        match &self.reservation {
            None => self.take(port, kind),
            Some(it) if self.is_holder(port) && it.kind == kind => {}
            Some(_) => return Err(Failure::Conflict),
        }
        Ok(Vec::new())
    }

    /// SPC-4, releasing.
    pub(super) fn release(&mut self, port: &InitiatorPort, key: u64, kind: Kind) -> Outcome {
        self.check_key(port, key)?;
        match &self.reservation {
            Some(it) if self.is_holder(port) && it.kind != kind => {
                Err(Condition::INVALID_RELEASE_OF_PERSISTENT_RESERVATION.into())
            }
            Some(_) if self.is_holder(port) => Ok(self.release_from(port)),
            _ => Ok(Vec::new()),
        }
    }

    /// SPC-4, clearing.
    pub(super) fn clear(&mut self, port: &InitiatorPort, key: u64) -> Outcome {
        self.check_key(port, key)?;
        let notices = self.others(port, Condition::RESERVATIONS_PREEMPTED);
        self.registrations.clear();
        self.reservation = None;
        self.generation = self.generation.wrapping_add(1);
        Ok(notices)
    }

    /// SPC-4, preempting a persistent reservation with the PREEMPT service action: ends the registrations with
    /// the `victim` key, and takes the reservation over if that key's port holds it.
    pub(super) fn preempt(&mut self, port: &InitiatorPort, key: u64, victim: u64, kind: Kind) -> Outcome {
        self.check_key(port, key)?;
        let takes_over = match self.reservation() {
            Some((held, _)) if held.is_of_all() => victim == 0,
            Some((_, holders_key)) => victim == holders_key,
            None => false,
        };
        if !takes_over {
            if victim == 0 {
                return Err(Sense::from(Condition::INVALID_FIELD_IN_PARAMETER_LIST).at_parameter(8).into());
            }
            if !self.registrations.iter().any(|it| it.key == victim) {
                return Err(Failure::Conflict);
            }
        }
        let is_victim = |it: &Registration| it.port != *port && (victim == 0 || it.key == victim);
        let preempted = self.registrations.iter().filter(|it| is_victim(it));
        let mut notices: Vec<_> =
            preempted.map(|it| (it.port.clone(), Condition::REGISTRATIONS_PREEMPTED)).collect();
        self.registrations.retain(|it| !is_victim(it));
        if takes_over {
            let released = self.reservation.take_if(|it| it.kind != kind && it.kind.admits_registrants());
            if released.is_some() {
                notices.extend(self.others(port, Condition::RESERVATIONS_RELEASED));
            }
            self.take(port, kind);
        }
        self.generation = self.generation.wrapping_add(1);
        Ok(notices)
    }

    /// Every action but registering proves by the key that it comes from a registrant.
    fn check_key(&self, port: &InitiatorPort, key: u64) -> Result<(), Failure> {
        if self.key_of(port) == Some(key) { Ok(()) } else { Err(Failure::Conflict) }
    }

    fn key_of(&self, port: &InitiatorPort) -> Option<u64> {
        self.registrations.iter().find(|it| it.port == *port).map(|it| it.key)
    }

    fn take(&mut self, port: &InitiatorPort, kind: Kind) {
        let holder = (!kind.is_of_all()).then(|| port.clone());
        self.reservation = Some(Reservation { kind, holder });
    }

    /// Ends the reservation; other registrants that it had let in are told.
    fn release_from(&mut self, port: &InitiatorPort) -> Vec<Notice> {
        match self.reservation.take() {
            Some(it) if it.kind.admits_registrants() => self.others(port, Condition::RESERVATIONS_RELEASED),
            _ => Vec::new(),
        }
    }

    /// A notice for all registrants but one.
    fn others(&self, but: &InitiatorPort, condition: Condition) -> Vec<Notice> {
        let others = self.registrations.iter().filter(|it| it.port != *but);
        others.map(|it| (it.port.clone(), condition)).collect()
    }
}
