//! What a site's log keeps of an edit, and how it is told.

use serde::{Deserialize, Serialize};

use super::definition::Definitions;
use super::edit::Effect;
use super::error::shown;
use super::names::{EntityId, VariableName};
use super::values::Values;

/// One set of edits that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// The site's revision with it.
    pub number: u64,
    /// When it was made.
    pub at: jiff::Timestamp,
    /// By whom.
    pub who: String,
    /// What it was made for, if they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What it changed.
    pub effects: Vec<Effect>,
}

impl Revision {
    /// Whether it changed anything of an entity.
    #[must_use]
    pub fn concerns(&self, entity: &EntityId) -> bool {
        self.effects.iter().any(|effect| match effect {
            Effect::Created { entity: of }
            | Effect::Removed { entity: of }
            | Effect::Set { entity: of, .. } => of == entity,
            Effect::DefinedType { .. } | Effect::Defined { .. } => false,
        })
    }
}

/// What effects changed, a line each: `+` came, `-` went, `~` is another. Secrets stay hidden.
#[must_use]
pub fn diff(effects: &[Effect], definitions: &Definitions) -> Vec<String> {
    effects.iter().map(|effect| line(effect, definitions)).collect()
}

fn line(effect: &Effect, definitions: &Definitions) -> String {
    match effect {
        Effect::Created { entity } => format!("+ {entity}"),
        Effect::Removed { entity } => format!("- {entity}"),
        Effect::Set { entity, variable, old, new } => {
            let text = |values: &Values| values_text(values, entity, variable, definitions);
            match (old.is_empty(), new.is_empty()) {
                (true, _) => format!("+ {entity} {variable} = {}", text(new)),
                (false, true) => format!("- {entity} {variable} = {}", text(old)),
                (false, false) => format!("~ {entity} {variable} = {} -> {}", text(old), text(new)),
            }
        }
        Effect::DefinedType { kind, old, new } => {
            format!("{} type {kind}", sign(old.is_some(), new.is_some()))
        }
        Effect::Defined { kind, variable, old, new } => {
            format!("{} variable {variable} of type {kind}", sign(old.is_some(), new.is_some()))
        }
    }
}

fn sign(was: bool, is: bool) -> char {
    match (was, is) {
        (false, _) => '+',
        (true, false) => '-',
        (true, true) => '~',
    }
}

fn values_text(
    values: &Values,
    entity: &EntityId,
    variable: &VariableName,
    definitions: &Definitions,
) -> String {
    let definition = definitions.definition(entity.kind.as_str(), variable.as_str());
    let mut texts = values.iter().map(|value| format!("\"{}\"", shown(definition, value)));
    match (values.len(), texts.next()) {
        (1, Some(one)) => one,
        (_, first) => format!("[{}]", first.into_iter().chain(texts).collect::<Vec<_>>().join(", ")),
    }
}
