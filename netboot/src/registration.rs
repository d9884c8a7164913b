//! Machines that the site doesn't know and that somebody sitting at one wants it to know: what was typed there, kept
//! until an admin says yes or no.
//!
//! Whoever reaches the wire may type anything, so all of it is checked and bounded here, and nothing of it has an effect
//! before an admin approves it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use site::entity::EntityName;
use site::{ClientName, MacAddr};

use crate::paths::percent_decode;

/// How many registrations are kept. Further machines are told that there are too many; rejected ones make room.
const MAX_REGISTRATIONS: usize = 512;

/// How much is kept of what a machine says of itself, in characters each.
const MAX_FACT_LEN: usize = 64;

/// What was typed at a machine, and what its firmware says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationForm {
    /// What the machine is to be called.
    pub name: ClientName,
    /// The group that it is to be in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<EntityName>,
    /// Its mainboard's UUID.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uuid: String,
    /// Its serial number.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub serial: String,
    /// Who made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub manufacturer: String,
    /// What its maker calls it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub product: String,
}

/// A machine that waits for an admin's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Its network card.
    pub mac: MacAddr,
    /// The address that it asked from.
    pub address: Ipv4Addr,
    /// When it asked last, in milliseconds since 1970.
    pub asked_ms: u64,
    /// What was typed.
    #[serde(flatten)]
    pub form: RegistrationForm,
    /// Why an admin said no; `None`: nobody has decided yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
}

/// Why a registration is not taken; a sentence for whoever typed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationError {
    /// The name is none.
    #[error("a name has letters a-z, digits and - only, at most 63, for example en1018-07")]
    Name,
    /// The group's name is none.
    #[error("a group has letters, digits and _ . - only, for example en1018")]
    Group,
    /// Another machine that waits has asked for that name.
    #[error("another machine that waits has the name {0}")]
    NameTaken(ClientName),
    /// Too many wait already.
    #[error("too many machines wait for an admin already")]
    TooMany,
}

impl RegistrationForm {
    /// What a query says: `name`, `group`, `uuid`, `serial`, `manufacturer`, `product`.
    ///
    /// # Errors
    /// When the name or the group is none.
    pub fn parse(query: &str) -> Result<Self, RegistrationError> {
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let (_, value) = pairs.find(|(key, _)| *key == name)?;
            Some(percent_decode(&value.replace('+', "%20")).unwrap_or_default().trim().to_owned())
        };
        let fact = |name: &str| -> String {
            let text = value(name).unwrap_or_default();
            text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(MAX_FACT_LEN).collect()
        };
        // People write names as they please; a host name has no upper case.
        let name = value("name").unwrap_or_default().to_ascii_lowercase();
        let group = value("group").filter(|group| !group.is_empty());
        Ok(Self {
            name: name.parse().map_err(|_| RegistrationError::Name)?,
            group: group.map(|group| group.parse().map_err(|_| RegistrationError::Group)).transpose()?,
            uuid: fact("uuid"),
            serial: fact("serial"),
            manufacturer: fact("manufacturer"),
            product: fact("product"),
        })
    }
}

/// All machines that wait, and those that were rejected.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Registrations(BTreeMap<MacAddr, Registration>);

impl Registrations {
    /// The one of that machine.
    #[must_use]
    pub fn get(&self, mac: MacAddr) -> Option<&Registration> {
        self.0.get(&mac)
    }

    /// All, by their network cards.
    pub fn iter(&self) -> impl Iterator<Item = &Registration> {
        self.0.values()
    }

    /// Takes one in, in place of what that machine said before. A machine that was rejected may ask again.
    ///
    /// # Errors
    /// When another has the name, or there are too many.
    pub fn submit(
        &mut self,
        mac: MacAddr,
        address: Ipv4Addr,
        form: RegistrationForm,
        now_ms: u64,
    ) -> Result<(), RegistrationError> {
        let taken = |other: &Registration| {
            other.mac != mac && other.rejected.is_none() && other.form.name == form.name
        };
        if self.0.values().any(taken) {
            return Err(RegistrationError::NameTaken(form.name));
        }
        if !self.0.contains_key(&mac) && self.0.len() >= MAX_REGISTRATIONS {
            let rejected = self.0.values().filter(|other| other.rejected.is_some());
            let oldest = rejected.min_by_key(|other| other.asked_ms).map(|other| other.mac);
            self.0.remove(&oldest.ok_or(RegistrationError::TooMany)?);
        }
        self.0.insert(mac, Registration { mac, address, asked_ms: now_ms, form, rejected: None });
        Ok(())
    }

    /// Notes that an admin said no, and why. `false`: no such machine waits.
    pub fn reject(&mut self, mac: MacAddr, why: &str) -> bool {
        let found = self.0.get_mut(&mac);
        found.map(|registration| registration.rejected = Some(why.to_owned())).is_some()
    }

    /// Forgets a machine, and says what it had asked.
    pub fn remove(&mut self, mac: MacAddr) -> Option<Registration> {
        self.0.remove(&mac)
    }
}
