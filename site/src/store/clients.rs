//! Edits of clients and images by their typed views, for those that know nothing else.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

use super::error::MAX_LISTED;
use super::{Author, Edited, Store, StoreError};
use crate::entity::{CLIENT_TYPE, Edit, EntityId, IMAGE_TYPE, Values, client_edits, image_edits};
use crate::{Client, ClientName, Image, ImageName, MacAddr, NameError, Site, Version, checks};

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
    pub fn add_client(&self, client: &Client, by: &Author) -> Result<Edited, StoreError> {
        let ((), edited, _) = self.edit_as(by, |site| match site.client(&client.name) {
            Some(old) if **old == *client => Ok(((), Vec::new())),
            Some(old) => Err(StoreError::ClientExists { name: old.name.clone(), mac: old.mac }),
            None => {
                check_client(site, client)?;
                Ok(((), client_edits(client)?))
            }
        })?;
        Ok(edited)
    }

    /// Changes some fields of a client, and returns it as it is now. A field that is emptied may be inherited then.
    ///
    /// # Errors
    /// When there is no such client, or the change would break a rule as in [`add_client`](Self::add_client).
    pub fn set_client(
        &self,
        name: &ClientName,
        change: &ClientChange,
        by: &Author,
    ) -> Result<(Client, Edited), StoreError> {
        let (new, edited, site) = self.edit_as(by, |site| {
            let old = expect_client(site, name)?;
            let new = change.apply(&old);
            check_client(site, &new)?;
            let edits = changed_fields(&old, &new)?;
            Ok((new, edits))
        })?;
        Ok((site.client(name).map_or(new, |client| Client::clone(client)), edited))
    }

    /// Removes a client, and returns what it was.
    ///
    /// # Errors
    /// When there is no such client.
    pub fn remove_client(&self, name: &ClientName, by: &Author) -> Result<(Client, Edited), StoreError> {
        let (old, edited, _) = self.edit_as(by, |site| {
            let old = expect_client(site, name)?;
            Ok((old, vec![Edit::Remove { entity: client_id(name)? }]))
        })?;
        Ok((old, edited))
    }

    /// Adds an image. One that is there already, at the same version, file and size, is left as it is.
    ///
    /// # Errors
    /// When its name is taken, or a field breaks its rule.
    pub fn add_image(&self, image: &Image, by: &Author) -> Result<Edited, StoreError> {
        checks::image(image)?;
        let ((), edited, _) = self.edit_as(by, |site| match site.image(&image.name) {
            Some(old) if **old == *image => Ok(((), Vec::new())),
            Some(old) => {
                Err(StoreError::ImageExists { name: old.name.clone(), version: old.version.clone() })
            }
            None => Ok(((), image_edits(image)?)),
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
        by: &Author,
    ) -> Result<(Image, Edited), StoreError> {
        let new = Image { name: name.clone(), version, path, size };
        checks::image(&new)?;
        let (old, edited, _) = self.edit_as(by, |site| {
            let old = expect_image(site, name)?;
            // All but the creation: it is there.
            Ok((old, image_edits(&new)?.split_off(1)))
        })?;
        Ok((old, edited))
    }

    /// Removes an image, though not its file, and returns what it was and which clients are left without one.
    ///
    /// # Errors
    /// When there is no such image; when clients name it, unless `force`.
    pub fn remove_image(
        &self,
        name: &ImageName,
        force: bool,
        by: &Author,
    ) -> Result<((Image, Vec<ClientName>), Edited), StoreError> {
        let (old, edited, _) = self.edit_as(by, |site| {
            let old = expect_image(site, name)?;
            let users = site.clients().into_iter().filter(|client| client.image.as_ref() == Some(name));
            let clients: Vec<_> = users.map(|client| client.name.clone()).collect();
            if !clients.is_empty() && !force {
                return Err(StoreError::InUse { image: name.clone(), clients });
            }
            let mut edits = Vec::new();
            if force {
                // Whoever names it, a group that lends it to its members included.
                let names_it = |values: &Values| values.len() == 1 && values.first() == Some(name.as_str());
                for entity in site.model().all().filter(|e| e.get(IMAGE_TYPE).is_some_and(names_it)) {
                    edits.push(set(entity.id(), IMAGE_TYPE, None)?);
                }
            }
            edits.push(Edit::Remove { entity: EntityId::new(IMAGE_TYPE.parse()?, name.as_str().parse()?) });
            Ok(((old, clients), edits))
        })?;
        Ok((old, edited))
    }
}

fn client_id(name: &ClientName) -> Result<EntityId, NameError> {
    Ok(EntityId::new(CLIENT_TYPE.parse()?, name.as_str().parse()?))
}

fn set(entity: &EntityId, variable: &str, value: Option<String>) -> Result<Edit, NameError> {
    let values = value.map(Values::one).unwrap_or_default();
    Ok(Edit::Set { entity: entity.clone(), variable: variable.parse()?, values, expect: None })
}

/// What makes one client's entity of the other's. What stays the same may be inherited, and stays so.
fn changed_fields(old: &Client, new: &Client) -> Result<Vec<Edit>, NameError> {
    let entity = client_id(&new.name)?;
    let mut edits = Vec::new();
    let mut field = |variable: &str, changed: bool, value: Option<String>| {
        if changed {
            edits.push(set(&entity, variable, value)?);
        }
        Ok::<_, NameError>(())
    };
    field("mac", old.mac != new.mac, Some(new.mac.to_string()))?;
    field("address", old.address != new.address, new.address.map(|address| address.to_string()))?;
    field("image", old.image != new.image, new.image.as_ref().map(ToString::to_string))?;
    field("menu", old.menu != new.menu, new.menu.clone())?;
    field("boot_program", old.boot_program != new.boot_program, new.boot_program.clone())?;
    let limit = new.overlay_limit.map(|limit| limit.to_string());
    field("overlay_limit", old.overlay_limit != new.overlay_limit, limit)?;
    let enabled = if new.enabled { "yes" } else { "no" };
    field("enabled", old.enabled != new.enabled, Some(enabled.to_owned()))?;
    Ok(edits)
}

fn expect_client(site: &Site, name: &ClientName) -> Result<Client, StoreError> {
    match site.client(name) {
        Some(client) => Ok(Client::clone(client)),
        None => {
            let known =
                site.clients().into_iter().take(MAX_LISTED).map(|client| client.name.clone()).collect();
            Err(StoreError::NoClient { name: name.clone(), known })
        }
    }
}

fn expect_image(site: &Site, name: &ImageName) -> Result<Image, StoreError> {
    match site.image(name) {
        Some(image) => Ok(Image::clone(image)),
        None => {
            let known = site.images().into_iter().take(MAX_LISTED).map(|image| image.name.clone()).collect();
            Err(StoreError::NoImage { name: name.clone(), known })
        }
    }
}

/// A client against its own rules and all other clients, in the words of those who know of clients only.
fn check_client(site: &Site, client: &Client) -> Result<(), StoreError> {
    checks::client(client)?;
    let mut unique = vec![("MAC", "mac", client.mac.to_string())];
    unique.extend(client.address.map(|address| ("address", "address", address.to_string())));
    for (what, variable, value) in unique {
        let holder = site.model().holder(CLIENT_TYPE, variable, &value).map(|holder| holder.id());
        if let Some(by) = holder.filter(|by| by.name.as_str() != client.name.as_str()) {
            return Err(StoreError::Taken { what, value, by: by.name.to_string() });
        }
    }
    match &client.image {
        Some(image) => expect_image(site, image).map(drop),
        None => Ok(()),
    }
}
