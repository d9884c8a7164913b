//! Why an edit is refused: what, the rule, and what would pass.

use super::definition::Definition;
use super::model::Model;
use super::names::{EntityId, TypeName, VariableName};
use super::values::Values;

/// How many names an error lists before it says "and N more".
const MAX_LISTED: usize = 12;

/// How much of a value an error shows, in characters.
const MAX_SHOWN: usize = 80;

/// Why a set of edits is refused; none of it was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// A value, or a name, breaks its definition.
    #[error("{subject}: \"{value}\" is not valid: {rule}, for example \"{example}\"")]
    Value {
        /// The entity and its variable.
        subject: String,
        /// The value, or stars in place of a secret one.
        value: String,
        /// The rule.
        rule: String,
        /// One that would pass.
        example: String,
    },
    /// There are more values than the variable may have.
    #[error("{entity}: {variable} takes {limit}, not {count} values")]
    Count {
        /// The entity.
        entity: EntityId,
        /// The variable.
        variable: VariableName,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: String,
    },
    /// Another entity has a unique value.
    #[error("{entity}: {variable} \"{value}\" belongs to {by} already; change or remove that one first")]
    Taken {
        /// The entity.
        entity: EntityId,
        /// The variable.
        variable: VariableName,
        /// The value.
        value: String,
        /// Who has it.
        by: EntityId,
    },
    /// A value names an entity that there is not, or that is not among the choices.
    #[error("{entity}: {variable} \"{value}\" {reason}; {known}")]
    Choice {
        /// The entity.
        entity: EntityId,
        /// The variable.
        variable: VariableName,
        /// The value.
        value: String,
        /// What is wrong with it.
        reason: String,
        /// What there is to choose from.
        known: String,
    },
    /// A table's columns have different lengths.
    #[error(
        "{entity}: the columns of table {table} differ in length: {lengths}; every row needs a value in each"
    )]
    Ragged {
        /// The entity.
        entity: EntityId,
        /// The table.
        table: String,
        /// Each column with its length.
        lengths: String,
    },
    /// A type has no such variable.
    #[error(
        "{entity}: type {kind} has no variable {variable}{hint}; define it first, or use one of: {known}"
    )]
    UnknownVariable {
        /// The entity.
        entity: EntityId,
        /// Its type.
        kind: TypeName,
        /// The variable.
        variable: VariableName,
        /// A name that may have been meant.
        hint: String,
        /// The variables that it has.
        known: String,
    },
    /// A unique variable can't be lent to many.
    #[error(
        "{entity}: {variable} is unique to each entity that has it, so a {kind} can't hold it for others"
    )]
    NotLent {
        /// The entity.
        entity: EntityId,
        /// Its type.
        kind: TypeName,
        /// The variable.
        variable: VariableName,
    },
    /// There is no such type.
    #[error("there is no type {kind}; there are: {known}")]
    UnknownType {
        /// The type.
        kind: TypeName,
        /// Those that there are.
        known: String,
    },
    /// There is no such entity.
    #[error("there is no {entity}; {known}")]
    UnknownEntity {
        /// The entity.
        entity: EntityId,
        /// Those that there are of its type.
        known: String,
    },
    /// The entity exists already.
    #[error("{entity} exists already")]
    Exists {
        /// Which.
        entity: EntityId,
    },
    /// Others name the entity that is to be removed.
    #[error("{entity} is named by {users}; change those first")]
    InUse {
        /// Which.
        entity: EntityId,
        /// By whom, with the variable.
        users: String,
    },
    /// The type still has entities.
    #[error("type {kind} still has entities: {entities}; remove those first")]
    TypeInUse {
        /// Which.
        kind: TypeName,
        /// Its entities.
        entities: String,
    },
    /// Someone else was faster.
    #[error(
        "{entity}: {variable} was changed in the meantime: it was \"{expected}\" and is \"{found}\" now; look at it again"
    )]
    Conflict {
        /// The entity.
        entity: EntityId,
        /// The variable.
        variable: VariableName,
        /// What the editor saw.
        expected: String,
        /// What is there.
        found: String,
    },
    /// It is bootd's own.
    #[error("the definition of {what} is bootd's own and can't be changed")]
    Shipped {
        /// What.
        what: String,
    },
}

impl EditError {
    pub(super) fn unknown_type(model: &Model, kind: &TypeName) -> Self {
        let known = listed(model.definitions().iter().map(|(name, _)| name));
        Self::UnknownType { kind: kind.clone(), known }
    }

    pub(super) fn unknown_entity(model: &Model, entity: &EntityId) -> Self {
        if model.definitions().get(entity.kind.as_str()).is_none() {
            return Self::unknown_type(model, &entity.kind);
        }
        let names = listed(model.entities(entity.kind.as_str()).map(|entity| &entity.id().name));
        Self::UnknownEntity {
            entity: entity.clone(),
            known: there_are(&format!("entities of type {}", entity.kind), &names),
        }
    }

    pub(super) fn conflict(
        entity: &EntityId,
        variable: &VariableName,
        definition: Option<&Definition>,
        expected: &Values,
        found: &Values,
    ) -> Self {
        let shown_all = |values: &Values| {
            values.iter().map(|value| shown(definition, value)).collect::<Vec<_>>().join("\", \"")
        };
        Self::Conflict {
            entity: entity.clone(),
            variable: variable.clone(),
            expected: shown_all(expected),
            found: shown_all(found),
        }
    }
}

/// A value as an error may show it.
pub(super) fn shown(definition: Option<&Definition>, value: &str) -> String {
    if definition.is_some_and(|definition| definition.secret) {
        return "***".to_owned();
    }
    let mut text: String = value.escape_debug().take(MAX_SHOWN).collect();
    if value.chars().nth(MAX_SHOWN).is_some() {
        text.push_str("...");
    }
    text
}

/// What there is, or that there is nothing.
pub(super) fn there_are(what: &str, names: &str) -> String {
    if names.is_empty() { format!("there are no {what} yet") } else { format!("{what}: {names}") }
}

/// The first few of `names`.
pub(super) fn listed<T: ToString>(names: impl IntoIterator<Item = T>) -> String {
    let mut names = names.into_iter();
    let first: Vec<_> = names.by_ref().take(MAX_LISTED).map(|name| name.to_string()).collect();
    match names.count() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
