//! Texts at their boundary: what is written makes the same site again, and what is wrong is told with its place.

mod declarative;
mod labnet_trees;
mod round_trip;
mod tables;

use super::*;
use crate::entity::{Edit, Effect, Model};

const FORMATS: [TextFormat; 3] = [TextFormat::Toml, TextFormat::Yaml, TextFormat::Json];

/// The model with the text applied to it, and what changed.
fn applied(
    model: &Model,
    text: &str,
    format: TextFormat,
    prune: bool,
) -> Result<(Model, Vec<Effect>), ExchangeError> {
    let desired = read(text, format, "lab.txt")?;
    settled(model, &desired, prune)
}

fn settled(model: &Model, desired: &Desired, prune: bool) -> Result<(Model, Vec<Effect>), ExchangeError> {
    let edits = desired.edits(model, prune)?;
    model.apply(&edits).map_err(|error| desired.located(error))
}

fn toml(text: &str) -> Model {
    applied(&Model::default(), text, TextFormat::Toml, false).unwrap_or_else(|error| panic!("{error}")).0
}

/// All that there is, with secrets.
fn whole(model: &Model, format: TextFormat) -> String {
    export(model, model.all().map(AsRef::as_ref), Export { format, secrets: true, definitions: true })
}

fn value<'a>(model: &'a Model, kind: &str, name: &str, variable: &str) -> Vec<&'a str> {
    let values = model.get(kind, name).and_then(|entity| entity.get(variable));
    values.map(|values| values.iter().collect()).unwrap_or_default()
}

/// A small lab that has some of everything.
const LAB: &str = r#"
[definitions.printer]
about = "A printer."

[definitions.printer.variables.queue]
about = "Its queue."
mandatory = true
place = 10

[definitions.client.variables.asset_tag]
about = "The number on its sticker."
pattern = "[0-9]{4}"
example = "0815"

[definitions.client.variables.token]
about = "What it shows to the door."
secret = true

[entities.group.en1018]
image = "debian12"
room = "EN1018"

[entities.image.debian12]
version = "v1"
path = "/images/debian12.img"
size = 1073741824

[entities.file."access.conf"]
path = "/etc/security/access.conf"

[entities.client.rook]
mac = "52-54-00-77-00-0A"
groups = ["en1018"]
enabled = true
asset_tag = "0012"
token = "geheim"

[[entities.client.rook.config_files]]
file_id = "access.conf"
file_group = "mscluster"

[[entities.client.rook.config_files]]
file_id = "access.conf"
file_group = "staff"

[entities.client.pawn]
mac = "52:54:00:77:00:0b"

[entities.printer.lp1]
queue = "lab"
"#;
