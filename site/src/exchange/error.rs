//! What is wrong with a file, and where.

use std::fmt;
use std::sync::Arc;

use crate::entity::EditError;

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file's name, as it was given.
    pub file: Arc<str>,
    /// The line, from 1; 0: the file as a whole.
    pub line: usize,
    /// The column in characters, from 1; 0: the line as a whole.
    pub column: usize,
}

impl Place {
    /// The file as a whole.
    pub(super) fn whole(file: &Arc<str>) -> Self {
        Self { file: Arc::clone(file), line: 0, column: 0 }
    }

    /// That this is wrong here.
    pub(super) fn wrong(&self, reason: impl Into<String>) -> ExchangeError {
        ExchangeError::Text { place: self.clone(), reason: reason.into() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (0, _) => write!(f, "{}", self.file),
            (line, 0) => write!(f, "{}:{line}", self.file),
            (line, column) => write!(f, "{}:{line}:{column}", self.file),
        }
    }
}

/// Why a file can't be taken in; nothing of it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// Its text makes no sense.
    #[error("{place}: {reason}")]
    Text {
        /// Where.
        place: Place,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// What it asks for breaks a rule of the site.
    #[error("{place}: {reason}")]
    Rule {
        /// Where it asks for it.
        place: Place,
        /// The rule, with an example that would pass.
        reason: Box<EditError>,
    },
    /// What it asks for breaks a rule, but no line of it can be named for that.
    #[error(transparent)]
    Nowhere(Box<EditError>),
}
