//! What can be wrong with a template or with what it is given.

use std::fmt;

/// Where in which template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The template.
    pub template: String,
    /// The line, from 1; 0: it is not known.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
}

impl Place {
    pub(crate) fn whole(template: &str) -> Self {
        Self { template: template.to_owned(), line: 0, column: 0 }
    }

    /// The place of a byte of the template's text.
    pub(crate) fn at(template: &str, text: &str, at: usize) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            template: template.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
        }
    }

    pub(crate) fn of(report: &tera::ReportError) -> Self {
        let span = report.span();
        // Tera counts lines from 1 and columns from 0.
        Self { template: report.filename().to_owned(), line: span.start_line, column: span.start_col + 1 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { template, line: 0, .. } => f.write_str(template),
            Self { template, line, column } => write!(f, "{template}:{line}:{column}"),
        }
    }
}

/// Why there is no text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MenuError {
    /// A template's text is wrong.
    #[error("{place}: {reason}")]
    Syntax {
        /// Where.
        place: Place,
        /// What is wrong.
        reason: String,
    },
    /// Templates don't fit together: one includes, extends or calls what there is not.
    #[error("the templates don't fit together: {reason}")]
    Links {
        /// Which, where, and what is missing.
        reason: String,
    },
    /// A template's text is too long.
    #[error("{template}: {size} bytes is more than a template may have ({limit})")]
    TooLarge {
        /// The template.
        template: String,
        /// Its length in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// There is no such template.
    #[error("there is no template {name}; there are: {}", .known.join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// There are templates of that name, and none of them is for this client.
    #[error(
        "no instance of {name} is for client {client}; there are: {}. One named \"all\" would be for everyone",
        .there.join(", ")
    )]
    NoInstance {
        /// The name asked for.
        name: String,
        /// The instances that there are.
        there: Vec<String>,
        /// For whom.
        client: String,
    },
    /// A template can't be rendered for this client: it names what is not defined, or misuses a value.
    #[error("{place}: {reason} (for client {client})")]
    Render {
        /// Where.
        place: Place,
        /// What is wrong.
        reason: String,
        /// For whom.
        client: String,
    },
    /// A value would break out of its line.
    #[error("{place}: the value of {variable} can't be printed here: {reason} (for client {client})")]
    Value {
        /// Where.
        place: Place,
        /// The variable, or `an expression` where it is made of several.
        variable: String,
        /// What is wrong with its value.
        reason: String,
        /// For whom.
        client: String,
    },
    /// The text becomes too long.
    #[error("{place}: the text becomes longer than {limit} bytes (for client {client})")]
    TooLong {
        /// The template.
        place: Place,
        /// The limit in bytes.
        limit: usize,
        /// For whom.
        client: String,
    },
    /// It was told to end, since nobody waits for it any longer.
    #[error("{place}: it took too long and was ended (for client {client})")]
    Stopped {
        /// The template.
        place: Place,
        /// For whom.
        client: String,
    },
}
