//! A declarative text as a [`Desired`] state.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::desired::{Desired, DesiredEntity, DesiredType};
use super::error::{ExchangeError, Place};
use super::tree::{At, Entry, Kind, Node, TextFormat, parse, place};
use crate::entity::{Definition, EntityId, TableName, TypeDefinition, TypeName, Values, VariableName};

/// The two parts of a file.
pub(super) const DEFINITIONS: &str = "definitions";
pub(super) const ENTITIES: &str = "entities";

/// The fields of definitions that are no text.
const FLAGS: [&str; 4] = ["mandatory", "unique", "secret", "open"];
const NUMBER: &str = "place";

const EXAMPLE: &str = "for example, in TOML: [entities.client.rook] and below it mac = \"52:54:00:77:00:01\"";

/// Reads a declarative text; `file` is its name in errors.
///
/// # Errors
/// When it is not of that format, or says something that no site can be.
pub fn read(text: &str, format: TextFormat, file: &str) -> Result<Desired, ExchangeError> {
    let file: Arc<str> = file.into();
    let root = parse(text, format, &file)?;
    Reader { file }.root(root)
}

struct Reader {
    file: Arc<str>,
}

impl Reader {
    fn place(&self, at: At) -> Place {
        place(&self.file, at)
    }

    fn root(&self, root: Node) -> Result<Desired, ExchangeError> {
        let mut desired = Desired::default();
        for Entry { at, key, node } in self.map(root, "the file")? {
            match key.as_str() {
                DEFINITIONS => {
                    let mut types = BTreeMap::new();
                    for Entry { at, key, node } in self.map(node, DEFINITIONS)? {
                        types.insert(self.name::<TypeName>(at, &key)?, self.definition_of_type(at, node)?);
                    }
                    desired.types = Some(types);
                }
                ENTITIES => {
                    for Entry { at, key, node } in self.map(node, ENTITIES)? {
                        let kind: TypeName = self.name(at, &key)?;
                        self.entities(&kind, node, &mut desired)?;
                    }
                }
                other => {
                    let reason = format!(
                        "\"{}\" is none of the parts of a site file, which are \"{DEFINITIONS}\" and \"{ENTITIES}\": {EXAMPLE}",
                        other.escape_debug()
                    );
                    return Err(self.place(at).wrong(reason));
                }
            }
        }
        Ok(desired)
    }

    fn entities(&self, kind: &TypeName, node: Node, desired: &mut Desired) -> Result<(), ExchangeError> {
        for Entry { at, key, node } in self.map(node, &format!("{ENTITIES} of type {kind}"))? {
            let id = EntityId::new(kind.clone(), self.name(at, &key)?);
            let what = id.to_string();
            let entity = desired.entity(id, self.place(at))?;
            for Entry { at, key, node } in self.map(node, &what)? {
                self.variable(entity, &what, at, &key, node)?;
            }
        }
        Ok(())
    }

    fn variable(
        &self,
        entity: &mut DesiredEntity,
        what: &str,
        at: At,
        key: &str,
        node: Node,
    ) -> Result<(), ExchangeError> {
        let value_at = node.at;
        let values = match node.kind {
            Kind::Null => Values::default(),
            Kind::Text(text) | Kind::Bare(text) => Values::one(text),
            Kind::List(all) if all.first().is_some_and(|node| matches!(node.kind, Kind::Map(_))) => {
                return self.table(entity, what, at, key, all);
            }
            Kind::List(all) => {
                let all = all.into_iter().map(|node| self.scalar(what, key, node));
                all.collect::<Result<Values, _>>()?
            }
            Kind::Map(_) => {
                let reason = format!(
                    "{what}: {key} is a table of names and values; write a value, a list of values, or a list of rows"
                );
                return Err(self.place(value_at).wrong(reason));
            }
        };
        let name = self.name(at, key)?;
        entity.set(name, self.place(value_at), values)
    }

    /// Rows: a list of maps, each with the same columns.
    fn table(
        &self,
        entity: &mut DesiredEntity,
        what: &str,
        at: At,
        key: &str,
        rows: Vec<Node>,
    ) -> Result<(), ExchangeError> {
        let table: TableName = self.name(at, key)?;
        let mut columns: BTreeMap<VariableName, (Place, Vec<String>)> = BTreeMap::new();
        for (number, row) in rows.into_iter().enumerate() {
            let row_at = row.at;
            for Entry { at, key, node } in self.map(row, &format!("{what}: a row of {table}"))? {
                let place = self.place(at);
                let (_, cells) = columns.entry(self.name(at, &key)?).or_insert((place.clone(), Vec::new()));
                if cells.len() != number {
                    let reason = format!(
                        "{what}: {table}: not all rows before this one have {key}; write one, perhaps \"\""
                    );
                    return Err(place.wrong(reason));
                }
                cells.push(self.scalar(what, &key, node)?);
            }
            if let Some((column, _)) = columns.iter().find(|(_, (_, cells))| cells.len() <= number) {
                let reason = format!(
                    "{what}: {table}: this row has no {column}, others have; write one, perhaps \"\""
                );
                return Err(self.place(row_at).wrong(reason));
            }
        }
        entity.tables.push((self.place(at), table, columns.keys().cloned().collect()));
        for (column, (place, cells)) in columns {
            entity.set(column, place, cells.into_iter().collect())?;
        }
        Ok(())
    }

    fn scalar(&self, what: &str, key: &str, node: Node) -> Result<String, ExchangeError> {
        match node.kind {
            Kind::Text(text) | Kind::Bare(text) => Ok(text),
            _ => {
                let reason = format!("{what}: {key}: {} stands where a value must", node.is());
                Err(self.place(node.at).wrong(reason))
            }
        }
    }

    fn definition_of_type(&self, at: At, node: Node) -> Result<DesiredType, ExchangeError> {
        let mut variables = BTreeMap::new();
        let mut itself = Vec::new();
        let start = node.at;
        for entry in self.map(node, "a type's definition")? {
            if entry.key != "variables" {
                itself.push(entry);
                continue;
            }
            for Entry { at, key, node } in self.map(entry.node, "a type's variables")? {
                let name = self.name(at, &key)?;
                let start = node.at;
                let entries = self.map(node, &format!("the definition of {key}"))?;
                let definition: Definition = self.typed(start, entries)?;
                variables.insert(name, (self.place(at), definition));
            }
        }
        let itself =
            if itself.is_empty() { None } else { Some(self.typed::<TypeDefinition>(start, itself)?) };
        Ok(DesiredType { place: self.place(at), itself, variables })
    }

    /// A definition from its fields; what is wrong is told at the field that it is wrong of.
    fn typed<T: DeserializeOwned>(&self, start: At, entries: Vec<Entry>) -> Result<T, ExchangeError> {
        let mut fields = Map::new();
        let mut places = Vec::new();
        for Entry { at, key, node } in entries {
            // Alone, so that a wrong value is told with the place of its own field.
            let value = field(&key, node);
            let alone = Map::from_iter([(key.clone(), value.clone())]);
            if let Err(error) = serde_json::from_value::<T>(Value::Object(alone)) {
                return Err(self.place(at).wrong(format!("{key}: {error}")));
            }
            places.push(at);
            fields.insert(key, value);
        }
        let at = places.first().copied().unwrap_or(start);
        serde_json::from_value(Value::Object(fields)).map_err(|error| self.place(at).wrong(error.to_string()))
    }

    fn map(&self, node: Node, what: &str) -> Result<Vec<Entry>, ExchangeError> {
        match node.kind {
            Kind::Map(all) => Ok(all),
            Kind::Null => Ok(Vec::new()),
            _ => {
                let reason =
                    format!("{what} must be a table of names and values, not {}; {EXAMPLE}", node.is());
                Err(self.place(node.at).wrong(reason))
            }
        }
    }

    fn name<T: FromStr<Err: Display>>(&self, at: At, key: &str) -> Result<T, ExchangeError> {
        key.parse().map_err(|error: T::Err| self.place(at).wrong(error.to_string()))
    }
}

/// A field of a definition as what it must be; what it can't be stays as it is, and is refused.
fn field(key: &str, node: Node) -> Value {
    match node.kind {
        Kind::Null => Value::Null,
        Kind::Bare(text) if FLAGS.contains(&key) => match text.as_str() {
            "true" | "True" | "TRUE" | "yes" => Value::Bool(true),
            "false" | "False" | "FALSE" | "no" => Value::Bool(false),
            _ => Value::String(text),
        },
        Kind::Bare(text) if key == NUMBER => {
            text.parse::<u32>().map_or(Value::String(text), |number| Value::Number(number.into()))
        }
        Kind::Text(text) | Kind::Bare(text) => Value::String(text),
        Kind::List(all) => Value::Array(all.into_iter().map(|node| field(key, node)).collect()),
        Kind::Map(all) => Value::Object(
            all.into_iter().map(|Entry { key, node, .. }| (key.clone(), field(&key, node))).collect(),
        ),
    }
}
