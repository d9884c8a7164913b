//! The general model of a site: entities of types, their variables and tables, and what is known of those. No I/O.

mod check;
mod definition;
mod edit;
mod error;
mod format;
mod inherit;
mod model;
mod names;
mod record;
mod revision;
mod search;
mod values;
mod views;

pub use definition::{
    Choice, Definition, Definitions, Editing, MAX_PATTERN, Pattern, PatternError, TypeDefinition,
};
pub use edit::{Edit, Effect, removal, revert};
pub use error::EditError;
pub use format::Format;
pub use inherit::{BOOT_ONCE, Effective, GROUP_TYPE, GROUPS, Origin, SITE_DEFAULTS, SITE_TYPE};
pub use model::Model;
pub use names::{EntityId, EntityName, TableName, TypeName, VariableName};
pub use record::Entity;
pub use revision::{Revision, diff};
pub use search::{Expression, ExpressionError, MAX_EXPRESSION, MAX_NESTING, Subjects};
pub use values::{MAX_VALUE, MAX_VALUES, Values};
pub use views::{CHOICE_TYPE, CLIENT_TYPE, IMAGE_TYPE, Inactive, client_edits, image_edits};

#[cfg(test)]
mod tests;
