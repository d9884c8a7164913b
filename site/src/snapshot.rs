//! The site as bootd serves from it: one immutable snapshot with its look-up tables. No I/O here.
//!
//! All is made of the model. The maps are persistent as the model's are, so the snapshot after an edit is made from
//! the one before: what the edit touched is looked at again, and of a group or the site's defaults those that inherit
//! from it. Only a type that changes makes all be looked at again.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

use crate::entity::{
    CHOICE_TYPE, CLIENT_TYPE, Definition, Definitions, Edit, EditError, Effect, Entity, EntityId, EntityName,
    GROUP_TYPE, GROUPS, IMAGE_TYPE, Inactive, Model, SITE_DEFAULTS, SITE_TYPE, Values, client_edits,
    image_edits,
};
use crate::lookup::Lookup;
use crate::names::ascii;
use crate::{Choice, Client, ClientName, Image, ImageName, MacAddr, Menu};

/// The variables that a typed view is made of and that may be inherited. Others concern it only if it can't do
/// without them.
const VIEWED: &[&str] = &["image", "menu", "boot_program", "overlay_limit", "enabled"];

/// Everything known of the site at one revision. Never changed: an edit makes another.
#[derive(Debug, Clone, Default)]
pub struct Site {
    model: Model,
    clients: Lookup<ClientName, Arc<Client>>,
    images: Lookup<ImageName, Arc<Image>>,
    choices: Lookup<EntityName, Arc<Choice>>,
    by_mac: Lookup<MacAddr, Arc<Client>>,
    by_address: Lookup<Ipv4Addr, Arc<Client>>,
    by_uuid: Lookup<[u8; 16], Arc<Client>>,
    inactive: RedBlackTreeMapSync<EntityId, Arc<Inactive>>,
    /// Who names which group.
    members: Lookup<EntityName, RedBlackTreeSetSync<EntityId>>,
}

impl Site {
    /// The snapshot of a model.
    #[must_use]
    pub fn of(model: Model) -> Self {
        let mut site = Self { model, ..Self::default() };
        let all: Vec<Arc<Entity>> = site.model.all().cloned().collect();
        for entity in all {
            if let Some(groups) = entity.get(GROUPS) {
                site.regroup(entity.id(), &Values::default(), groups);
            }
            site.show(entity.id());
        }
        site
    }

    /// The snapshot of these clients and images at `revision`, as they are: nothing of them is checked.
    #[must_use]
    pub fn new(revision: u64, clients: Vec<Client>, images: Vec<Image>) -> Self {
        let edits = clients.iter().map(client_edits).chain(images.iter().map(image_edits));
        let entities = edits.filter_map(|edits| entity(&edits.ok()?));
        let mut site = Self {
            model: Model::restore(revision, Definitions::shipped().clone(), entities),
            ..Self::default()
        };
        clients.into_iter().for_each(|client| site.show_client(client));
        for image in images.into_iter().map(Arc::new) {
            site.images.insert_mut(image.name.clone(), image);
        }
        site
    }

    /// The snapshot with the edits made, one revision later, and what changed. Edits that change nothing give the
    /// same revision and no effects.
    ///
    /// # Errors
    /// When an edit, or what they come to together, breaks a rule.
    pub fn edit(&self, edits: &[Edit]) -> Result<(Self, Vec<Effect>), EditError> {
        let (model, effects) = self.model.apply(edits)?;
        Ok((self.after(model, &effects), effects))
    }

    /// The snapshot one revision later, after effects that edits elsewhere had on the same site.
    ///
    /// # Errors
    /// When they were not made on this site.
    pub fn follow(&self, effects: &[Effect]) -> Result<Self, EditError> {
        Ok(self.after(self.model.follow(effects)?, effects))
    }

    /// Everything as it is stored.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Which edit it is as of; grows with every edit.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.model.revision()
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

    /// How many clients' entries name no address.
    #[must_use]
    pub fn clients_without_address(&self) -> usize {
        self.clients.size().saturating_sub(self.by_address.size())
    }

    /// The client with that mainboard: the bytes in the order in which its UUID is written.
    #[must_use]
    pub fn client_by_uuid(&self, uuid: [u8; 16]) -> Option<&Arc<Client>> {
        self.by_uuid.get(&uuid)
    }

    /// The image of that name.
    #[must_use]
    pub fn image(&self, name: &ImageName) -> Option<&Arc<Image>> {
        self.images.get(name)
    }

    /// The choice of that name.
    #[must_use]
    pub fn choice(&self, name: &EntityName) -> Option<&Arc<Choice>> {
        self.choices.get(name)
    }

    /// What the client of that name may choose among.
    #[must_use]
    pub fn menu(&self, client: &ClientName) -> Menu {
        self.model.menu(client.as_str())
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

    /// What is stored but not served, by type and name, and why.
    pub fn inactive(&self) -> impl Iterator<Item = &Inactive> {
        self.inactive.values().map(AsRef::as_ref)
    }

    /// Why an entity is not served; `None`: it is, or there is none.
    #[must_use]
    pub fn inactive_entity(&self, id: &EntityId) -> Option<&Inactive> {
        self.inactive.get(id).map(AsRef::as_ref)
    }

    /// Why the client with that network card is not served; `None`: it is, or there is none.
    #[must_use]
    pub fn inactive_client_by_mac(&self, mac: MacAddr) -> Option<&Inactive> {
        let text = mac.text();
        self.inactive_entity(self.model.holder(CLIENT_TYPE, "mac", ascii(&text))?.id())
    }

    /// Those that name a group as theirs, by type and name.
    pub fn members(&self, group: &str) -> impl Iterator<Item = &EntityId> {
        self.members.get(group).into_iter().flat_map(RedBlackTreeSetSync::iter)
    }

    /// The snapshot of `model`, which is this one's after `effects`.
    fn after(&self, model: Model, effects: &[Effect]) -> Self {
        if effects.iter().any(|effect| matches!(effect, Effect::DefinedType { .. })) {
            return Self::of(model);
        }
        let mut site = self.clone();
        // First who belongs to whom, so that nobody is forgotten who joins a group that changes, too.
        for effect in effects {
            if let Effect::Set { entity, variable, old, new } = effect
                && variable.as_str() == GROUPS
            {
                site.regroup(entity, old, new);
            }
        }
        let mut stale = BTreeSet::new();
        for effect in effects {
            match effect {
                Effect::Created { entity } | Effect::Removed { entity } => drop(stale.insert(entity.clone())),
                Effect::Set { entity, variable, .. } => {
                    if is_viewed(model.definitions(), entity, variable.as_str()) {
                        site.inheritors(entity, &mut stale);
                    }
                    stale.insert(entity.clone());
                }
                Effect::Defined { kind, .. } => {
                    stale.extend(model.entities(kind.as_str()).map(|entity| entity.id().clone()));
                }
                Effect::DefinedType { .. } => {}
            }
        }
        // All are taken out before the first is put in again: what one lets go of another may have taken.
        for id in &stale {
            site.hide(id);
        }
        site.model = model;
        for id in &stale {
            site.show(id);
        }
        site
    }

    /// Those that inherit from an entity.
    fn inheritors(&self, lender: &EntityId, into: &mut BTreeSet<EntityId>) {
        if lender.kind.as_str() == GROUP_TYPE {
            into.extend(self.members(lender.name.as_str()).cloned());
        } else if lender.kind.as_str() == SITE_TYPE && lender.name.as_str() == SITE_DEFAULTS {
            let definition = self.model.definitions().get(SITE_TYPE);
            for kind in definition.into_iter().flat_map(|definition| &definition.lends_to) {
                into.extend(self.model.entities(kind.as_str()).map(|entity| entity.id().clone()));
            }
        }
    }

    fn regroup(&mut self, id: &EntityId, old: &Values, new: &Values) {
        for group in old.iter() {
            let Some(members) = self.members.get(group) else { continue };
            let members = members.remove(id);
            if members.is_empty() {
                self.members.remove_mut(group);
            } else if let Ok(group) = group.parse() {
                self.members.insert_mut(group, members);
            }
        }
        for group in new.iter() {
            let mut members = self.members.get(group).cloned().unwrap_or_default();
            members.insert_mut(id.clone());
            if let Ok(group) = group.parse() {
                self.members.insert_mut(group, members);
            }
        }
    }

    /// Takes an entity out of all look-ups, as the model that still has it says.
    fn hide(&mut self, id: &EntityId) {
        let name = id.name.as_str();
        self.inactive.remove_mut(id);
        if id.kind.as_str() == IMAGE_TYPE {
            self.images.remove_mut(name);
        }
        if id.kind.as_str() == CHOICE_TYPE {
            self.choices.remove_mut(name);
        }
        if id.kind.as_str() != CLIENT_TYPE {
            return;
        }
        let Some(client) = self.clients.get(name).cloned() else { return };
        self.by_mac.remove_mut(&client.mac);
        if let Some(address) = client.address {
            self.by_address.remove_mut(&address);
        }
        if let Some(uuid) = uuid(&self.model, name) {
            self.by_uuid.remove_mut(&uuid);
        }
        self.clients.remove_mut(name);
    }

    /// Puts an entity into the look-ups, or among what is inactive, as the model says.
    fn show(&mut self, id: &EntityId) {
        let name = id.name.as_str();
        let inactive = match id.kind.as_str() {
            CLIENT_TYPE => match self.model.client(name) {
                Some(Ok(client)) => return self.show_client(client),
                Some(Err(inactive)) => Some(inactive),
                None => None,
            },
            IMAGE_TYPE => match self.model.image(name) {
                Some(Ok(image)) => {
                    let image = Arc::new(image);
                    return self.images.insert_mut(image.name.clone(), image);
                }
                Some(Err(inactive)) => Some(inactive),
                None => None,
            },
            CHOICE_TYPE => match self.model.choice(name) {
                Some(Ok(choice)) => {
                    return self.choices.insert_mut(choice.name.clone(), Arc::new(choice));
                }
                Some(Err(inactive)) => Some(inactive),
                None => None,
            },
            _ => self.model.lacking(id),
        };
        if let Some(inactive) = inactive {
            self.inactive.insert_mut(id.clone(), Arc::new(inactive));
        }
    }

    fn show_client(&mut self, client: Client) {
        let client = Arc::new(client);
        self.by_mac.insert_mut(client.mac, Arc::clone(&client));
        if let Some(address) = client.address {
            self.by_address.insert_mut(address, Arc::clone(&client));
        }
        if let Some(uuid) = uuid(&self.model, client.name.as_str()) {
            self.by_uuid.insert_mut(uuid, Arc::clone(&client));
        }
        self.clients.insert_mut(client.name.clone(), client);
    }
}

/// Whether what inherits from `lender` may be seen otherwise after `variable` of it was set.
fn is_viewed(definitions: &Definitions, lender: &EntityId, variable: &str) -> bool {
    if VIEWED.contains(&variable) {
        return true;
    }
    let Some(kind) = definitions.get(lender.kind.as_str()) else { return false };
    kind.lends_to.iter().filter_map(|to| definitions.get(to.as_str())).any(|to| {
        let is_column_of = |table| {
            to.variables
                .values()
                .any(|other: &Definition| other.mandatory && other.table.as_ref() == Some(table))
        };
        to.variables.get(variable).is_some_and(|definition| {
            // A table is inherited whole: any column of it decides whose the others are.
            definition.mandatory || definition.table.as_ref().is_some_and(is_column_of)
        })
    })
}

fn uuid(model: &Model, client: &str) -> Option<[u8; 16]> {
    let digits = model.get(CLIENT_TYPE, client)?.get("uuid")?.first()?.replace('-', "");
    u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)
}

/// The entity that edits make from nothing.
fn entity(edits: &[Edit]) -> Option<Entity> {
    let [Edit::Create { entity }, sets @ ..] = edits else { return None };
    let variables = sets.iter().filter_map(|edit| match edit {
        Edit::Set { variable, values, .. } => Some((variable.clone(), values.clone())),
        _ => None,
    });
    Some(Entity::with(entity.clone(), variables))
}

#[cfg(test)]
mod tests;
