//! The site as bootd serves from it: one immutable snapshot with its look-up tables. No I/O here.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{ClientName, ImageName, MacAddr, Version};

/// A machine that may boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Its name; also its host name, and part of its IQN.
    pub name: ClientName,
    /// Its network card.
    pub mac: MacAddr,
    /// Its address; `None`: one from the pool.
    pub address: Option<Ipv4Addr>,
    /// The image that it boots; `None`: none, it is given an address only.
    pub image: Option<ImageName>,
    /// The template of its boot script; `None`: the site's default.
    pub menu: Option<String>,
    /// The boot program for its firmware, where the usual choice does not suit it.
    pub boot_program: Option<String>,
    /// How much it may write, in bytes; `None`: the site's default.
    pub overlay_limit: Option<u64>,
    /// Whether it may boot at all.
    pub enabled: bool,
}

/// A master image: a name that points at one immutable version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its name; part of target names.
    pub name: ImageName,
    /// The version that the next boot gets.
    pub version: Version,
    /// The version's file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
}

/// Everything known of the site at one revision. Never changed: an edit makes another.
#[derive(Debug, Clone, Default)]
pub struct Site {
    revision: u64,
    clients: HashMap<ClientName, Arc<Client>>,
    images: HashMap<ImageName, Arc<Image>>,
    by_mac: HashMap<MacAddr, Arc<Client>>,
    by_address: HashMap<Ipv4Addr, Arc<Client>>,
}

impl Site {
    /// The snapshot of these clients and images at `revision`.
    #[must_use]
    pub fn new(revision: u64, clients: Vec<Client>, images: Vec<Image>) -> Self {
        let mut site = Self { revision, ..Self::default() };
        for client in clients.into_iter().map(Arc::new) {
            site.by_mac.insert(client.mac, Arc::clone(&client));
            if let Some(address) = client.address {
                site.by_address.insert(address, Arc::clone(&client));
            }
            site.clients.insert(client.name.clone(), client);
        }
        site.images = images.into_iter().map(|i| (i.name.clone(), Arc::new(i))).collect();
        site
    }

    /// Which edit it is as of; grows with every edit.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The client of that name.
    #[must_use]
    pub fn client(&self, name: &ClientName) -> Option<&Arc<Client>> {
        self.clients.get(name)
    }

    /// The client with that network card.
    #[must_use]
    pub fn client_by_mac(&self, mac: MacAddr) -> Option<&Arc<Client>> {
        self.by_mac.get(&mac)
    }

    /// The client whose entry names that address.
    #[must_use]
    pub fn client_by_address(&self, address: Ipv4Addr) -> Option<&Arc<Client>> {
        self.by_address.get(&address)
    }

    /// The image of that name.
    #[must_use]
    pub fn image(&self, name: &ImageName) -> Option<&Arc<Image>> {
        self.images.get(name)
    }

    /// All clients, by name.
    #[must_use]
    pub fn clients(&self) -> Vec<&Arc<Client>> {
        let mut all: Vec<_> = self.clients.values().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// All images, by name.
    #[must_use]
    pub fn images(&self) -> Vec<&Arc<Image>> {
        let mut all: Vec<_> = self.images.values().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}
