//! Clients and images as the rest of bootd knows them: typed views of their entities, what is inherited included.

use std::fmt::Display;
use std::str::FromStr;

use super::edit::Edit;
use super::format::boolean;
use super::inherit::BOOT_ONCE;
use super::model::Model;
use super::names::{EntityId, VariableName};
use super::values::Values;
use crate::{Choice, Client, Image, Menu, NameError, checks};

/// The type of clients.
pub const CLIENT_TYPE: &str = "client";

/// The type of images.
pub const IMAGE_TYPE: &str = "image";

/// The type of what clients may be given to boot.
pub const CHOICE_TYPE: &str = "choice";

/// An entity that is stored but not served, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{entity} is inactive: {reason}")]
pub struct Inactive {
    /// Which.
    pub entity: EntityId,
    /// What it lacks, or what is wrong with it.
    pub reason: String,
}

impl Model {
    /// The client of that name; `None`: there is none.
    #[must_use]
    pub fn client(&self, name: &str) -> Option<Result<Client, Inactive>> {
        let view = View::of(self, CLIENT_TYPE, name)?;
        Some(view.and_then(|view| {
            let client = Client {
                name: view.parse(name)?,
                mac: view.required("mac")?,
                address: view.optional("address")?,
                image: view.optional("image")?,
                menu: view.optional("menu")?,
                boot_program: view.optional("boot_program")?,
                overlay_limit: view.optional("overlay_limit")?,
                enabled: view.text("enabled").and_then(boolean).unwrap_or(true),
            };
            view.checked(client, checks::client)
        }))
    }

    /// The image of that name; `None`: there is none.
    #[must_use]
    pub fn image(&self, name: &str) -> Option<Result<Image, Inactive>> {
        let view = View::of(self, IMAGE_TYPE, name)?;
        Some(view.and_then(|view| {
            let image = Image {
                name: view.parse(name)?,
                version: view.required("version")?,
                path: view.required("path")?,
                size: view.required("size")?,
            };
            view.checked(image, checks::image)
        }))
    }

    /// The choice of that name; `None`: there is none.
    #[must_use]
    pub fn choice(&self, name: &str) -> Option<Result<Choice, Inactive>> {
        let view = View::of(self, CHOICE_TYPE, name)?;
        Some(view.and_then(|view| {
            let firmware = view.list::<String>("firmware")?;
            let is_for = |wanted: &str| firmware.is_empty() || firmware.iter().any(|name| name == wanted);
            Ok(Choice {
                name: view.parse(name)?,
                title: view.text("title").unwrap_or(name).to_owned(),
                kind: view.required("kind")?,
                key: view.text("key").and_then(|key| key.chars().next()),
                hidden: view.text("hidden").and_then(boolean).unwrap_or(false),
                bios: is_for("bios"),
                uefi: is_for("uefi"),
                choices: view.list("choices")?,
                image: view.optional("image")?,
                keep_san: view.text("keep_san").and_then(boolean).unwrap_or(false),
                template: view.optional("template")?,
            })
        }))
    }

    /// What the client of that name may choose among. What makes no sense, which definitions keep out, is left out.
    #[must_use]
    pub fn menu(&self, client: &str) -> Menu {
        let values = |variable| self.effective(CLIENT_TYPE, client, variable).map(|found| found.values);
        let first = |variable| values(variable).and_then(Values::first);
        let name = |variable| first(variable).and_then(|name| name.parse().ok());
        let choices = values("choices").into_iter().flat_map(Values::iter);
        Menu {
            choices: choices.filter_map(|name| name.parse().ok()).collect(),
            default: name("default_choice"),
            timeout: first("menu_timeout").and_then(|seconds| seconds.parse().ok()),
            title: first("menu_title").map(str::to_owned),
            hidden: first("menu_hidden").and_then(boolean).unwrap_or(false),
            once: name(BOOT_ONCE),
        }
    }

    /// That an entity lacks what is mandatory, if it does.
    pub(crate) fn lacking(&self, id: &EntityId) -> Option<Inactive> {
        View::of(self, id.kind.as_str(), id.name.as_str())?.err()
    }
}

struct View<'a> {
    model: &'a Model,
    id: &'a EntityId,
}

impl<'a> View<'a> {
    /// The entity if it has all that is mandatory.
    fn of(model: &'a Model, kind: &str, name: &str) -> Option<Result<Self, Inactive>> {
        let id = model.get(kind, name)?.id();
        let missing = model.missing(kind, name)?;
        let view = Self { model, id };
        if missing.is_empty() {
            return Some(Ok(view));
        }
        let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
        Some(Err(view.inactive(format!("it lacks {}", missing.join(", ")))))
    }

    fn inactive(&self, reason: impl Display) -> Inactive {
        Inactive { entity: self.id.clone(), reason: reason.to_string() }
    }

    fn text(&self, variable: &str) -> Option<&'a str> {
        self.model.effective(self.id.kind.as_str(), self.id.name.as_str(), variable)?.values.first()
    }

    fn parse<T: FromStr<Err: Display>>(&self, text: &str) -> Result<T, Inactive> {
        text.parse().map_err(|error| self.inactive(error))
    }

    fn optional<T: FromStr<Err: Display>>(&self, variable: &str) -> Result<Option<T>, Inactive> {
        self.text(variable).map(|text| self.parse(text)).transpose()
    }

    fn list<T: FromStr<Err: Display>>(&self, variable: &str) -> Result<Vec<T>, Inactive> {
        let values = self.model.effective(self.id.kind.as_str(), self.id.name.as_str(), variable);
        let values = values.into_iter().flat_map(|found| found.values.iter());
        values.map(|text| self.parse(text)).collect()
    }

    fn required<T: FromStr<Err: Display>>(&self, variable: &str) -> Result<T, Inactive> {
        self.optional(variable)?.ok_or_else(|| self.inactive(format!("it lacks {variable}")))
    }

    fn checked<T>(&self, view: T, check: impl Fn(&T) -> Result<(), NameError>) -> Result<T, Inactive> {
        check(&view).map(|()| view).map_err(|error| self.inactive(error))
    }
}

/// The edits that make a client's entity from nothing.
///
/// # Errors
/// Never for a valid client: its name is an entity's name too.
pub fn client_edits(client: &Client) -> Result<Vec<Edit>, NameError> {
    let text = |value: Option<String>| value.map(Values::one).unwrap_or_default();
    entity_edits(
        CLIENT_TYPE,
        client.name.as_str(),
        [
            ("mac", Values::one(client.mac.to_string())),
            ("address", text(client.address.map(|address| address.to_string()))),
            ("image", text(client.image.as_ref().map(ToString::to_string))),
            ("menu", text(client.menu.clone())),
            ("boot_program", text(client.boot_program.clone())),
            ("overlay_limit", text(client.overlay_limit.map(|limit| limit.to_string()))),
            // What is enabled is so without saying.
            ("enabled", text((!client.enabled).then(|| "no".to_owned()))),
        ],
    )
}

/// The edits that make an image's entity from nothing.
///
/// # Errors
/// Never for a valid image: its name is an entity's name too.
pub fn image_edits(image: &Image) -> Result<Vec<Edit>, NameError> {
    entity_edits(
        IMAGE_TYPE,
        image.name.as_str(),
        [
            ("version", Values::one(image.version.to_string())),
            ("path", Values::one(image.path.to_string_lossy())),
            ("size", Values::one(image.size.to_string())),
        ],
    )
}

fn entity_edits<const N: usize>(
    kind: &str,
    name: &str,
    variables: [(&str, Values); N],
) -> Result<Vec<Edit>, NameError> {
    let entity = EntityId::new(kind.parse()?, name.parse()?);
    let mut edits = vec![Edit::Create { entity: entity.clone() }];
    for (variable, values) in variables {
        let variable: VariableName = variable.parse()?;
        edits.push(Edit::Set { entity: entity.clone(), variable, values, expect: None });
    }
    Ok(edits)
}
