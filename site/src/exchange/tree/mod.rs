//! A text in any of the formats as one kind of tree, of which each part knows its place. Scalars stay as they were
//! written: a serial number `0012` is no 12, and the country `no` is no `false`.

mod json;
mod toml;
mod yaml;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::error::{ExchangeError, Place};

/// The longest text that is read, in bytes. A longer one is refused.
pub const MAX_FILE: usize = 32 << 20;

/// The most values, lists and tables in a text, each repetition of a YAML alias counted. More are refused.
pub const MAX_NODES: usize = 1 << 21;

/// The deepest nesting. A declarative file needs 6.
pub(super) const MAX_DEPTH: usize = 16;

/// The last column that is told, in bytes: to count them on one endless line would take for ever.
const MAX_COLUMN: usize = 4096;

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextFormat {
    /// TOML 1.0.
    Toml,
    /// YAML 1.2.
    Yaml,
    /// JSON.
    Json,
}

impl TextFormat {
    /// By a file's ending.
    #[must_use]
    pub fn of_file(name: &str) -> Option<Self> {
        name.rsplit_once('.').and_then(|(_, ending)| ending.parse().ok())
    }
}

impl FromStr for TextFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name.to_ascii_lowercase().as_str() {
            "toml" => Ok(Self::Toml),
            "yaml" | "yml" => Ok(Self::Yaml),
            "json" => Ok(Self::Json),
            _ => Err("there are toml, yaml and json".to_owned()),
        }
    }
}

impl fmt::Display for TextFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Toml => "TOML",
            Self::Yaml => "YAML",
            Self::Json => "JSON",
        })
    }
}

/// A line and a column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    pub(super) line: u32,
    pub(super) column: u32,
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) at: At,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    /// A text that the format marks as one.
    Text(String),
    /// A number, a boolean, a date: as it was written.
    Bare(String),
    List(Vec<Node>),
    /// In the order of the file, each key once.
    Map(Vec<Entry>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) at: At,
    pub(super) key: String,
    pub(super) node: Node,
}

impl Node {
    /// What it is, for messages.
    pub(super) fn is(&self) -> &'static str {
        match &self.kind {
            Kind::Null => "nothing",
            Kind::Text(_) | Kind::Bare(_) => "a single value",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a table of names and values",
        }
    }
}

/// Why a text is none of its format.
#[derive(Debug)]
pub(super) struct Unread {
    at: Option<At>,
    reason: String,
}

impl Unread {
    fn new(at: At, reason: impl Into<String>) -> Self {
        Self { at: Some(at), reason: reason.into() }
    }
}

/// Reads a text.
pub(super) fn parse(text: &str, format: TextFormat, file: &Arc<str>) -> Result<Node, ExchangeError> {
    // What editors of another system put before it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > MAX_FILE {
        let reason = format!("it has {} bytes, {MAX_FILE} are allowed; apply it in parts", text.len());
        return Err(Place::whole(file).wrong(reason));
    }
    let parsed = match format {
        TextFormat::Toml => toml::parse(text),
        TextFormat::Yaml => yaml::parse(text),
        TextFormat::Json => json::parse(text),
    };
    parsed.map_err(|Unread { at, reason }| {
        let at = at.unwrap_or(At { line: 0, column: 0 });
        place(file, at).wrong(reason)
    })
}

/// A place in that file.
pub(super) fn place(file: &Arc<str>, at: At) -> Place {
    Place { file: Arc::clone(file), line: at.line as usize, column: at.column as usize }
}

/// Where the lines of a text begin, to tell a place by its offset.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Self {
        let after = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(after).collect() }
    }

    fn at(&self, offset: usize) -> At {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let before = self.text.get(start..offset).filter(|before| before.len() < MAX_COLUMN);
        let column = before.map_or(0, |before| before.chars().count() + 1);
        At {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
        }
    }
}

/// What of a tree may still come.
struct Budget {
    nodes: usize,
}

impl Budget {
    fn new() -> Self {
        Self { nodes: MAX_NODES }
    }

    /// Takes `count` nodes at `depth`, or says that they are too many or too deep.
    fn take(&mut self, count: usize, depth: usize, at: At) -> Result<(), Unread> {
        if depth > MAX_DEPTH {
            return Err(Unread::new(at, format!("it is nested deeper than {MAX_DEPTH} levels")));
        }
        self.nodes = self.nodes.checked_sub(count).ok_or_else(|| {
            Unread::new(at, format!("it holds more than {MAX_NODES} values; apply it in parts"))
        })?;
        Ok(())
    }
}

/// The entries of a map, each key once.
fn entries(all: Vec<Entry>) -> Result<Kind, Unread> {
    let mut seen = std::collections::HashSet::with_capacity(all.len());
    for entry in &all {
        if !seen.insert(entry.key.as_str()) {
            return Err(Unread::new(entry.at, format!("\"{}\" is there twice", entry.key.escape_debug())));
        }
    }
    Ok(Kind::Map(all))
}
