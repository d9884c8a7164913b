//! The site, or a part of it, as a declarative text that makes the same again.

use serde_json::{Map, Value};

use super::read::{DEFINITIONS, ENTITIES};
use super::tree::TextFormat;
use crate::entity::{Definition, Definitions, Entity, Model, Values};

/// What is written, and how.
#[derive(Debug, Clone, Copy)]
pub struct Export {
    /// As what.
    pub format: TextFormat,
    /// Whether secrets are in it. Without them it is no whole copy.
    pub secrets: bool,
    /// Whether the admin's definitions are in it.
    pub definitions: bool,
}

/// Writes entities of `model`, each by its own values and not by what it inherits.
#[must_use]
pub fn export<'a>(model: &Model, entities: impl IntoIterator<Item = &'a Entity>, how: Export) -> String {
    let mut root = Map::new();
    if how.definitions {
        root.insert(DEFINITIONS.to_owned(), definitions(model.definitions()));
    }
    let mut types = Map::new();
    for entity in entities {
        let kind = types.entry(entity.id().kind.as_str()).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(kind) = kind {
            kind.insert(entity.id().name.to_string(), variables(model, entity, how.secrets));
        }
    }
    root.insert(ENTITIES.to_owned(), Value::Object(types));
    let root = Value::Object(root);
    match how.format {
        // Texts, lists and maps with texts for keys: nothing that a format could not hold.
        TextFormat::Toml => toml::to_string_pretty(&root).unwrap_or_default(),
        TextFormat::Json => serde_json::to_string_pretty(&root).unwrap_or_default() + "\n",
        TextFormat::Yaml => {
            let mut out = String::new();
            yaml(&root, 0, &mut out);
            out
        }
    }
}

/// What the admin defined beside bootd's own.
fn definitions(all: &Definitions) -> Value {
    let mut types = Map::new();
    for (kind, definition) in all.iter() {
        let shipped = Definitions::shipped().get(kind.as_str());
        let mut own = definition.clone();
        if let Some(shipped) = shipped {
            own.variables.retain(|variable, _| !shipped.variables.contains_key(variable));
            if own.variables.is_empty() {
                continue;
            }
        }
        let mut value = serde_json::to_value(&own).unwrap_or_default();
        if let (Some(_), Value::Object(fields)) = (shipped, &mut value) {
            fields.retain(|field, _| field == "variables");
        }
        types.insert(kind.to_string(), value);
    }
    Value::Object(types)
}

fn variables(model: &Model, entity: &Entity, secrets: bool) -> Value {
    let kind = entity.id().kind.as_str();
    let definition = |variable: &str| model.definitions().definition(kind, variable);
    let shown = |variable: &str| secrets || !definition(variable).is_some_and(|definition| definition.secret);
    let mut out = Map::new();
    for (variable, values) in entity.variables().filter(|(variable, _)| shown(variable.as_str())) {
        if let Some((table, rows)) = rows(model, entity, definition(variable.as_str()), &shown) {
            out.entry(table).or_insert(rows);
        } else {
            out.insert(variable.to_string(), serde_json::to_value(values).unwrap_or_default());
        }
    }
    Value::Object(out)
}

/// The whole table of a column; `None`: it is no column, or its table can't be written row by row.
fn rows(
    model: &Model,
    entity: &Entity,
    column: Option<&Definition>,
    shown: &impl Fn(&str) -> bool,
) -> Option<(String, Value)> {
    let kind = entity.id().kind.as_str();
    let table = column?.table.as_ref()?.as_str();
    // A variable of the table's name would stand in the same place.
    if entity.get(table).is_some() || model.definitions().definition(kind, table).is_some() {
        return None;
    }
    let columns = model.definitions().columns(kind, table);
    let held: Vec<_> = columns
        .iter()
        .map(|name| Some((name.as_str(), entity.get(name.as_str())?)))
        .collect::<Option<_>>()?;
    let length = held.first()?.1.len();
    if held.iter().any(|(name, values)| values.len() != length || !shown(name)) {
        return None;
    }
    let mut cells: Vec<_> = held.into_iter().map(|(name, values)| (name, Values::iter(values))).collect();
    let row = |_| {
        let row = cells.iter_mut().filter_map(|(name, cells)| Some((name.to_owned(), cells.next()?.into())));
        Value::Object(row.collect())
    };
    Some((table.to_owned(), Value::Array((0..length).map(row).collect())))
}

/// Block style for maps and lists, and quotes around all that any reader could take for something else.
fn yaml(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                out.push_str(&indent);
                yaml_text(key, out);
                out.push(':');
                yaml_value(value, depth + 1, out);
            }
        }
        Value::Array(all) => {
            for value in all {
                out.push_str(&indent);
                out.push('-');
                match value {
                    // The row's first column stands behind the dash.
                    Value::Object(map) if !map.is_empty() => {
                        let mut row = String::new();
                        yaml(value, depth + 1, &mut row);
                        out.push(' ');
                        out.push_str(row.trim_start());
                    }
                    _ => yaml_value(value, depth + 1, out),
                }
            }
        }
        _ => {}
    }
}

fn yaml_value(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(map) if map.is_empty() => out.push_str(" {}\n"),
        Value::Array(all) if all.is_empty() => out.push_str(" []\n"),
        Value::Object(_) | Value::Array(_) => {
            out.push('\n');
            yaml(value, depth, out);
        }
        Value::String(text) => {
            out.push(' ');
            yaml_text(text, out);
            out.push('\n');
        }
        other => {
            out.push_str(&format!(" {other}\n"));
        }
    }
}

fn yaml_text(text: &str, out: &mut String) {
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.' | b'/'))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if is_plain {
        out.push_str(text);
        return;
    }
    // JSON's quoting is YAML's too, but for what YAML takes for line breaks or does not print.
    for c in serde_json::to_string(text).unwrap_or_default().chars() {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
}
