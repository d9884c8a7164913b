//! After any sequence of edits, refused ones among them, a snapshot equals a model that knows the rules only.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::{ClientName, ImageName};

#[derive(Debug, Clone)]
enum Edit {
    AddClient(Client),
    SetClient(ClientName, ClientChange),
    RemoveClient(ClientName),
    AddImage(Image),
    SetImage(ImageName, u8),
    RemoveImage(ImageName, bool),
    Reopen,
}

#[derive(Default)]
struct Model {
    revision: u64,
    clients: BTreeMap<ClientName, Client>,
    images: BTreeMap<ImageName, Image>,
}

impl Model {
    fn fits(&self, client: &Client) -> bool {
        let others = || self.clients.values().filter(|other| other.name != client.name);
        client.image.as_ref().is_none_or(|image| self.images.contains_key(image))
            && others().all(|other| other.mac != client.mac)
            && others().all(|other| client.address.is_none() || other.address != client.address)
    }

    fn put(&mut self, client: Client) -> bool {
        let fits = self.fits(&client);
        if fits && self.clients.get(&client.name) != Some(&client) {
            self.revision += 1;
            self.clients.insert(client.name.clone(), client);
        }
        fits
    }

    /// Whether the edit is to succeed.
    fn apply(&mut self, edit: &Edit) -> bool {
        match edit {
            Edit::AddClient(client) => match self.clients.get(&client.name) {
                Some(old) => old == client,
                None => self.put(client.clone()),
            },
            Edit::SetClient(name, change) => match self.clients.get(name) {
                Some(old) => {
                    let new = change.apply(old);
                    new == *old || self.put(new)
                }
                None => false,
            },
            Edit::RemoveClient(name) => {
                let found = self.clients.remove(name).is_some();
                self.revision += u64::from(found);
                found
            }
            Edit::AddImage(image) => match self.images.get(&image.name) {
                Some(old) => old == image,
                None => {
                    self.revision += 1;
                    self.images.insert(image.name.clone(), image.clone());
                    true
                }
            },
            Edit::SetImage(name, version) => match self.images.get_mut(name) {
                Some(old) => {
                    let new = image(name.as_str(), &version.to_string());
                    self.revision += u64::from(*old != new);
                    *old = new;
                    true
                }
                None => false,
            },
            Edit::RemoveImage(name, force) => {
                let used = self.clients.values().any(|client| client.image.as_ref() == Some(name));
                if !self.images.contains_key(name) || (used && !force) {
                    return false;
                }
                self.revision += 1;
                self.images.remove(name);
                for client in self.clients.values_mut().filter(|client| client.image.as_ref() == Some(name)) {
                    client.image = None;
                }
                true
            }
            Edit::Reopen => true,
        }
    }
}

/// Few names, so that edits meet.
fn any_client_name() -> impl Strategy<Value = ClientName> {
    "[a-d]".prop_map(|name| name.parse().unwrap())
}

fn any_image_name() -> impl Strategy<Value = ImageName> {
    "[x-z]".prop_map(|name| name.parse().unwrap())
}

fn any_client() -> impl Strategy<Value = Client> {
    (any_client_name(), 1..6u8, proptest::option::of(1..6u8), proptest::option::of(any_image_name()))
        .prop_map(|(name, mac, address, image)| Client {
            address: address.map(|last| [10, 77, 0, last].into()),
            image,
            ..client(name.as_str(), mac)
        })
}

fn any_change() -> impl Strategy<Value = ClientChange> {
    let optional = |strategy| proptest::option::of(strategy);
    (
        optional(1..6u8),
        proptest::option::of(proptest::option::of(1..6u8)),
        proptest::option::of(proptest::option::of(any_image_name())),
        proptest::option::of(any::<bool>()),
    )
        .prop_map(|(mac, address, image, enabled)| ClientChange {
            mac: mac.map(|last| client("x", last).mac),
            address: address.map(|address| address.map(|last| [10, 77, 0, last].into())),
            image,
            enabled,
            ..ClientChange::default()
        })
}

fn any_edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => any_client().prop_map(Edit::AddClient),
        4 => (any_client_name(), any_change()).prop_map(|(name, change)| Edit::SetClient(name, change)),
        1 => any_client_name().prop_map(Edit::RemoveClient),
        2 => (any_image_name(), 1..3u8).prop_map(|(name, v)| Edit::AddImage(image(name.as_str(), &v.to_string()))),
        1 => (any_image_name(), 1..3u8).prop_map(|(name, version)| Edit::SetImage(name, version)),
        1 => (any_image_name(), any::<bool>()).prop_map(|(name, force)| Edit::RemoveImage(name, force)),
        1 => Just(Edit::Reopen),
    ]
}

/// The property, for a lab and edits of it.
fn equals_the_model(mut lab: Lab, edits: &[Edit]) -> Result<(), TestCaseError> {
    lab.hurry();
    let mut model = Model::default();
    for edit in edits {
        let ok = match edit {
            Edit::AddClient(client) => lab.store.add_client(client, &by()).is_ok(),
            Edit::SetClient(name, change) => lab.store.set_client(name, change, &by()).is_ok(),
            Edit::RemoveClient(name) => lab.store.remove_client(name, &by()).is_ok(),
            Edit::AddImage(image) => lab.store.add_image(image, &by()).is_ok(),
            Edit::SetImage(name, version) => {
                let new = image(name.as_str(), &version.to_string());
                lab.store.set_image_version(name, new.version, new.path, new.size, &by()).is_ok()
            }
            Edit::RemoveImage(name, force) => lab.store.remove_image(name, *force, &by()).is_ok(),
            Edit::Reopen => {
                lab.store = lab.another().unwrap();
                lab.hurry();
                true
            }
        };
        prop_assert_eq!(ok, model.apply(edit), "{:?}", edit);
        let site = lab.store.snapshot().unwrap();
        prop_assert_eq!(site.revision(), model.revision);
        let clients: Vec<Client> = site.clients().iter().map(|client| Client::clone(client)).collect();
        let images: Vec<Image> = site.images().iter().map(|image| Image::clone(image)).collect();
        prop_assert_eq!(clients, model.clients.values().cloned().collect::<Vec<_>>());
        prop_assert_eq!(images, model.images.values().cloned().collect::<Vec<_>>());
    }
    Ok(())
}

/// Tries it on so many labs.
pub(super) fn try_on(lab: impl Fn() -> Lab, cases: u32) {
    let mut runner = TestRunner::new(ProptestConfig::with_cases(cases));
    let edits = proptest::collection::vec(any_edit(), 1..40);
    runner.run(&edits, |edits| equals_the_model(lab(), &edits)).unwrap();
}

#[test]
fn a_snapshot_equals_the_model() {
    try_on(Lab::new, 24);
}
