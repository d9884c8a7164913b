//! A wrong setting: where it stands, what is wrong, and what would be right.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::location::masked;
use super::wire::{EXAMPLES, SUCCEEDED};

/// A configuration that can't be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigError {
    place: Place,
    what: String,
    remedy: String,
}

/// Where a setting was made.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// In the file, at this line and column (from 1), with the line's text and how many columns the value takes.
    File { path: PathBuf, line: usize, column: usize, text: String, width: usize },
    /// The file as a whole.
    WholeFile(PathBuf),
    /// On the command line, or nowhere: a setting that is missing.
    Elsewhere(&'static str),
}

impl ConfigError {
    /// An error in the text at `span`, which is in bytes.
    pub(super) fn in_file(
        path: &Path,
        text: &str,
        span: Range<usize>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |n| n + 1);
        let of_line = text.get(start..).unwrap_or_default().lines().next().unwrap_or_default();
        let value = text.get(span).unwrap_or_default().lines().next().unwrap_or_default();
        let place = Place::File {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(start..).unwrap_or_default().chars().count() + 1,
            text: masked(of_line),
            width: masked(value).chars().count().max(1),
        };
        Self { place, what: masked(&what.into()), remedy: remedy.into() }
    }

    /// What the TOML reader found wrong: syntax, an unknown key, or a value of the wrong type.
    pub(super) fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let span = error.span().unwrap_or(0..0);
        let key = key_at(text, span.start);
        let of_key = |texts: &'static [(&str, &str)]| texts.iter().find(|(name, _)| *name == key);
        let remedy = match (of_key(SUCCEEDED), of_key(EXAMPLES)) {
            (Some((_, successor)), _) => (*successor).to_owned(),
            (None, Some((_, example))) => format!("write, for example: {example}"),
            (None, None) if error.message().starts_with("unknown field") => {
                "check the spelling, or remove the line".to_owned()
            }
            (None, None) => "the file is TOML: key = \"text\", key = 1, key = true, [section]".to_owned(),
        };
        Self::in_file(path, text, span, error.message().replace('\n', " "), remedy)
    }

    /// An error of the file as a whole.
    pub(super) fn whole_file(path: &Path, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { place: Place::WholeFile(path.to_owned()), what: what.into(), remedy: remedy.into() }
    }

    /// An error of a flag, or of a setting that nobody made.
    pub(super) fn elsewhere(place: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { place: Place::Elsewhere(place), what: what.into(), remedy: remedy.into() }
    }
}

/// The dotted name of the key on the line of byte `at`, as far as the line tells.
fn key_at(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |n| n + 1);
    let line = text.get(start..).unwrap_or_default().lines().next().unwrap_or_default();
    let key = line.split('=').next().unwrap_or_default().trim();
    let section = text.get(..start).unwrap_or_default().lines().rev().find_map(|line| {
        let inner = line.trim().strip_prefix('[')?;
        Some(inner.split(']').next().unwrap_or_default().trim())
    });
    // The keys of [dhcp.interface.NAME] are those of [dhcp].
    let section = section.map(|section| section.split('.').next().unwrap_or_default());
    section.map_or_else(|| key.to_owned(), |section| format!("{section}.{key}"))
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File { path, line, column, text, width } => {
                writeln!(f, "{}:{line}:{column}: {}", path.display(), self.what)?;
                let indent = " ".repeat(line.to_string().len());
                let marks = "^".repeat(*width);
                writeln!(f, "{indent} |\n{line} | {text}\n{indent} | {}{marks}", " ".repeat(column - 1))?;
            }
            Place::WholeFile(path) => writeln!(f, "{}: {}", path.display(), self.what)?,
            Place::Elsewhere(place) => writeln!(f, "{place}: {}", self.what)?,
        }
        write!(f, "{}", self.remedy)
    }
}

impl std::error::Error for ConfigError {}
