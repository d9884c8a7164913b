//! The edits: each one transaction, each refusing what would break a rule of the whole site.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

use super::rows::Rows;
use super::{Store, StoreError};
use crate::{Client, ClientName, Image, ImageName, MacAddr, Version, checks};

/// What an edit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "edited", rename_all = "snake_case")]
pub enum Edited {
    /// It is in force, as of this revision.
    Changed {
        /// The site's revision with it.
        revision: u64,
    },
    /// All was so already: no new revision.
    Already {
        /// The site's revision, as it was.
        revision: u64,
    },
}

/// What to change of a client. `None` leaves a field as it is; `Some(None)` empties it. As JSON: a field that is
/// absent, and one that is `null`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientChange {
    /// Another network card.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Another address; none: one from the pool.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub address: Option<Option<Ipv4Addr>>,
    /// Another image; none: it is given an address only.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub image: Option<Option<ImageName>>,
    /// Another template; none: the site's default.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub menu: Option<Option<String>>,
    /// Another boot program; none: the usual one for its firmware.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub boot_program: Option<Option<String>>,
    /// Another limit to what it may write, in bytes; none: the site's default.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub overlay_limit: Option<Option<u64>>,
    /// Whether it may boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// Tells a field that is `null` from one that is absent.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl ClientChange {
    /// The client with the change made.
    #[must_use]
    pub fn apply(&self, client: &Client) -> Client {
        let new = self.clone();
        let old = client.clone();
        Client {
            name: old.name,
            mac: new.mac.unwrap_or(old.mac),
            address: new.address.unwrap_or(old.address),
            image: new.image.unwrap_or(old.image),
            menu: new.menu.unwrap_or(old.menu),
            boot_program: new.boot_program.unwrap_or(old.boot_program),
            overlay_limit: new.overlay_limit.unwrap_or(old.overlay_limit),
            enabled: new.enabled.unwrap_or(old.enabled),
        }
    }
}

impl Store {
    /// Adds a client. One that is there already, in every field alike, is left as it is.
    ///
    /// # Errors
    /// When its name, MAC or address is taken, its image is unknown, or a field breaks its rule.
    pub fn add_client(&self, client: &Client) -> Result<Edited, StoreError> {
        let ((), edited) = self.edit(|rows| match rows.client(&client.name)? {
            Some(old) if old == *client => Ok(((), None)),
            Some(old) => Err(StoreError::ClientExists { name: old.name, mac: old.mac }),
            None => {
                put_client(rows, client)?;
                Ok(((), Some(format!("add client {}", client.name))))
            }
        })?;
        Ok(edited)
    }

    /// Changes some fields of a client, and returns it as it is now.
    ///
    /// # Errors
    /// When there is no such client, or the change would break a rule as in [`add_client`](Self::add_client).
    pub fn set_client(
        &self,
        name: &ClientName,
        change: &ClientChange,
    ) -> Result<(Client, Edited), StoreError> {
        self.edit(|rows| {
            let old = expect_client(rows, name)?;
            let new = change.apply(&old);
            if new == old {
                return Ok((new, None));
            }
            put_client(rows, &new)?;
            Ok((new, Some(format!("set client {name}"))))
        })
    }

    /// Removes a client, and returns what it was.
    ///
    /// # Errors
    /// When there is no such client.
    pub fn remove_client(&self, name: &ClientName) -> Result<(Client, Edited), StoreError> {
        self.edit(|rows| {
            let old = expect_client(rows, name)?;
            rows.connection
                .execute("DELETE FROM client WHERE name = ?1", [name.as_str()])
                .map_err(rows.sql())?;
            Ok((old, Some(format!("remove client {name}"))))
        })
    }

    /// Adds an image. One that is there already, at the same version, file and size, is left as it is.
    ///
    /// # Errors
    /// When its name is taken, or a field breaks its rule.
    pub fn add_image(&self, image: &Image) -> Result<Edited, StoreError> {
        checks::image(image)?;
        let ((), edited) = self.edit(|rows| match rows.image(&image.name)? {
            Some(old) if old == *image => Ok(((), None)),
            Some(old) => Err(StoreError::ImageExists { name: old.name, version: old.version }),
            None => {
                rows.put_image(image)?;
                Ok(((), Some(format!("add image {} at {}", image.name, image.version))))
            }
        })?;
        Ok(edited)
    }

    /// Points an image at another version, which clients get from their next boot on; returns the image as it was.
    ///
    /// # Errors
    /// When there is no such image, or a field breaks its rule.
    pub fn set_image_version(
        &self,
        name: &ImageName,
        version: Version,
        path: PathBuf,
        size: u64,
    ) -> Result<(Image, Edited), StoreError> {
        let new = Image { name: name.clone(), version, path, size };
        checks::image(&new)?;
        self.edit(|rows| {
            let old = expect_image(rows, name)?;
            if old == new {
                return Ok((old, None));
            }
            rows.put_image(&new)?;
            Ok((old, Some(format!("set image {name} to {}", new.version))))
        })
    }

    /// Removes an image, though not its file, and returns what it was and which clients are left without one.
    ///
    /// # Errors
    /// When there is no such image; when clients name it, unless `force`.
    pub fn remove_image(
        &self,
        name: &ImageName,
        force: bool,
    ) -> Result<((Image, Vec<ClientName>), Edited), StoreError> {
        self.edit(|rows| {
            let old = expect_image(rows, name)?;
            let clients = rows.clients_of_image(name)?;
            if !clients.is_empty() && !force {
                return Err(StoreError::InUse { image: name.clone(), clients });
            }
            rows.connection
                .execute("UPDATE client SET image = NULL WHERE image = ?1", [name.as_str()])
                .and_then(|_| rows.connection.execute("DELETE FROM image WHERE name = ?1", [name.as_str()]))
                .map_err(rows.sql())?;
            Ok(((old, clients), Some(format!("remove image {name}"))))
        })
    }
}

fn expect_client(rows: Rows<'_>, name: &ClientName) -> Result<Client, StoreError> {
    match rows.client(name)? {
        Some(client) => Ok(client),
        None => Err(StoreError::NoClient { name: name.clone(), known: rows.some_clients()? }),
    }
}

fn expect_image(rows: Rows<'_>, name: &ImageName) -> Result<Image, StoreError> {
    match rows.image(name)? {
        Some(image) => Ok(image),
        None => Err(StoreError::NoImage { name: name.clone(), known: rows.some_images()? }),
    }
}

/// Writes a client after checking it against its own rules and all other clients.
fn put_client(rows: Rows<'_>, client: &Client) -> Result<(), StoreError> {
    checks::client(client)?;
    let mut unique = vec![("MAC", "mac", client.mac.to_string())];
    unique.extend(client.address.map(|address| ("address", "address", address.to_string())));
    for (what, column, value) in unique {
        if let Some(by) = rows.holder(column, &value, &client.name)? {
            return Err(StoreError::Taken { what, value, by });
        }
    }
    if let Some(image) = &client.image {
        expect_image(rows, image)?;
    }
    rows.put_client(client)
}
