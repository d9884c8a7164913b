//! Labnet's template language: XML whose root is `<Template>`, expanded for one host.
//!
//! Every element yields an array of strings; the text is all of them, one after the other. No string at all is
//! Labnet's NULL. Text between elements is kept as it is unless it is all blanks, which are dropped: `<literal>` keeps
//! them. The elements are listed in the Labnet Administrators Guide, section 2.6; where it leaves a case open, the
//! choice made here stands at the variant in [`ast`] or at the function in [`eval`].
//!
//! A template is checked and compiled once when it is loaded, so that a misspelt element is found before any client
//! needs it, and expanded within [`MAX_STEPS`] and [`MAX_BYTES`].

mod ast;
mod eval;
mod parse;
mod xml;

use crate::error::{MenuError, Place};
use crate::escape::Language;
use crate::menus::made_by;
use crate::stop::Stop;
use crate::view::ConfigView;

/// The deepest nesting of elements. A deeper one is an error when the template is loaded.
pub const MAX_DEPTH: usize = 64;

/// The most nodes that a template may have. More is an error when the template is loaded.
pub const MAX_NODES: u32 = 50_000;

/// The most elements that are evaluated for one text, repetitions counted. More is an error.
pub const MAX_STEPS: usize = 500_000;

/// The most bytes that all strings made on the way to one text may have together. More is an error.
pub const MAX_BYTES: usize = 16 << 20;

/// The furthest tab stop of `<ts>`. A further one is an error.
pub const MAX_COLUMN: usize = 4096;

/// The longest regular expression, in bytes. A longer one is an error.
pub const MAX_PATTERN: usize = 4096;

/// The most bytes that a regular expression may take when compiled. One that takes more is an error.
pub const MAX_PROGRAM: usize = 1 << 20;

/// For which entity a template is expanded: what `<self/>` and `<selftype/>` are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Host<'a> {
    pub(crate) kind: &'a str,
    pub(crate) name: &'a str,
}

/// A template that was found to be sound.
#[derive(Debug)]
pub(crate) struct Template {
    name: String,
    /// Kept to tell lines and columns in errors.
    source: String,
    content: ast::Content,
}

/// What is wrong, and at which byte of the source.
#[derive(Debug)]
struct Fault {
    at: usize,
    reason: String,
}

impl Fault {
    fn new(at: usize, reason: impl Into<String>) -> Self {
        Self { at, reason: reason.into() }
    }
}

impl Template {
    /// Whether `source` is in this language: its first element is `<Template>`, whatever comment or declaration may
    /// stand before it.
    pub(crate) fn recognises(source: &str) -> bool {
        let mut rest = source.trim_start_matches('\u{feff}').trim_start();
        loop {
            let end = match rest {
                _ if rest.starts_with("<!--") => "-->",
                _ if rest.starts_with("<?") => "?>",
                _ => break,
            };
            let Some((_, after)) = rest.split_once(end) else { return false };
            rest = after.trim_start();
        }
        rest.strip_prefix("<Template")
            .is_some_and(|rest| rest.starts_with(|c: char| c == '>' || c == '/' || c.is_whitespace()))
    }

    pub(crate) fn parse(name: &str, source: &str) -> Result<Self, MenuError> {
        match parse::template(source) {
            Ok(content) => Ok(Self { name: name.to_owned(), source: source.to_owned(), content }),
            Err(Fault { at, reason }) => {
                Err(MenuError::Syntax { place: Place::at(name, source, at), reason })
            }
        }
    }

    /// The language of the texts that it makes.
    pub(crate) fn language(&self) -> Language {
        let beginning = match self.content.first().map(|node| &node.op) {
            Some(ast::Op::Text(text)) => text,
            _ => "",
        };
        Language::of(made_by(&self.name).0, beginning)
    }

    /// The text for `host`. Values that would break out of a line of `language` are errors.
    pub(crate) fn expand(
        &self,
        host: Host<'_>,
        view: &dyn ConfigView,
        language: Language,
        stop: &Stop,
    ) -> Result<String, MenuError> {
        eval::expand(&self.content, host, view, language, stop).map_err(|Fault { at, reason }| {
            let (place, client) = (Place::at(&self.name, &self.source, at), host.name.to_owned());
            match stop.is_stopped() {
                true => MenuError::Stopped { place, client },
                false => MenuError::Render { place, reason, client },
            }
        })
    }
}

#[cfg(test)]
mod tests;
