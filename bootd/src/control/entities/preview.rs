//! From what a person asks for to the edits that do it, each with what it expects to find.

use std::collections::BTreeSet;

use site::Site;
use site::entity::{
    Definitions, Edit, EditError, Effect, Entity, EntityId, Expression, Model, Values, VariableName, diff,
    removal, revert,
};
use site::exchange::{Desired, csv, labnet, read};

use super::wire::{Ask, Change, How, Preview, Which};
use crate::control::answer::Wrong;

/// What is asked for as edits, before it is known whether they may be made.
pub(super) struct Plan {
    edits: Vec<Edit>,
    /// The file that asks for them, which knows the places of what is wrong.
    desired: Option<Desired>,
}

impl Plan {
    /// The plan for `ask`; `undone` are the effects of the revision that it reverts.
    pub(super) fn of(ask: &Ask, model: &Model, undone: &[Effect]) -> Result<Self, Wrong> {
        let edits = match ask {
            Ask::Create { entity, variables } => create(entity, variables),
            Ask::Set { which, variables } => set(model, &find(model, which)?, variables),
            Ask::Remove { which } => {
                let mut edits = Vec::new();
                find(model, which)?.into_iter().for_each(|entity| edits.extend(removal(entity)));
                edits
            }
            Ask::DefineType { kind, definition } => {
                let mut definition = definition.clone();
                if let Some(there) = model.definitions().get(kind.as_str()) {
                    definition.variables.clone_from(&there.variables);
                }
                vec![Edit::DefineType { kind: kind.clone(), definition: Some(definition) }]
            }
            Ask::Define { kind, variable, definition } => vec![Edit::Define {
                kind: kind.clone(),
                variable: variable.clone(),
                definition: Some(definition.clone()),
            }],
            Ask::Undefine { kind, variable } => vec![undefine(model, kind.as_str(), variable.as_ref())?],
            Ask::Apply { file, text, format, prune } => {
                return Self::desired(read(text, *format, file)?, model, *prune);
            }
            Ask::Csv { file, text, options } => {
                return Self::desired(csv(text.as_bytes(), options, file)?, model, false);
            }
            Ask::Labnet { files, options } => {
                return Self::desired(labnet(files, options, model.definitions())?, model, false);
            }
            Ask::Revert { .. } => revert(undone),
        };
        Ok(Self { edits, desired: None })
    }

    fn desired(desired: Desired, model: &Model, prune: bool) -> Result<Self, Wrong> {
        Ok(Self { edits: desired.edits(model, prune)?, desired: Some(desired) })
    }

    /// What it would do to the site.
    pub(super) fn preview(self, site: &Site) -> Result<Preview, Wrong> {
        let model = site.model();
        let (after, effects) = model.apply(&self.edits).map_err(|error| match &self.desired {
            Some(desired) => Wrong::from(desired.located(error)),
            None => Wrong::from(error),
        })?;
        let touched: BTreeSet<&EntityId> = effects.iter().filter_map(entity_of).collect();
        let mut notes = self.desired.map(|desired| desired.notes().to_vec()).unwrap_or_default();
        notes.extend(inactive(&after, &touched));
        Ok(Preview {
            revision: site.revision(),
            diff: shown(&effects, model, &after),
            entities: touched.len(),
            removes: effects.iter().any(is_removal),
            notes,
            edits: self.edits,
        })
    }
}

/// The effects line by line. What is secret before or after stays hidden.
pub(super) fn shown(effects: &[Effect], before: &Model, after: &Model) -> Vec<String> {
    let masked: Vec<Effect> = effects.iter().map(|effect| mask(effect, [before, after])).collect();
    diff(&masked, after.definitions())
}

/// An effect without what a definition, as it was or as it is, calls secret.
fn mask(effect: &Effect, models: [&Model; 2]) -> Effect {
    match effect {
        Effect::Set { entity, variable, old, new }
            if models.iter().any(|model| is_secret(model.definitions(), entity, variable)) =>
        {
            let hide = |values: &Values| values.iter().map(|_| "***").collect();
            Effect::Set { entity: entity.clone(), variable: variable.clone(), old: hide(old), new: hide(new) }
        }
        other => other.clone(),
    }
}

pub(super) fn is_secret(definitions: &Definitions, entity: &EntityId, variable: &VariableName) -> bool {
    let definition = definitions.definition(entity.kind.as_str(), variable.as_str());
    definition.is_some_and(|definition| definition.secret)
}

pub(super) fn entity_of(effect: &Effect) -> Option<&EntityId> {
    match effect {
        Effect::Created { entity } | Effect::Removed { entity } | Effect::Set { entity, .. } => Some(entity),
        Effect::DefinedType { .. } | Effect::Defined { .. } => None,
    }
}

fn is_removal(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::Removed { .. } | Effect::DefinedType { new: None, .. } | Effect::Defined { new: None, .. }
    )
}

/// Which of those that the edits touch will not be served for lack of something.
fn inactive(after: &Model, touched: &BTreeSet<&EntityId>) -> Vec<String> {
    const SHOWN: usize = 5;
    let lacking: Vec<_> = touched
        .iter()
        .filter_map(|id| {
            let missing =
                after.missing(id.kind.as_str(), id.name.as_str()).filter(|missing| !missing.is_empty())?;
            let missing: Vec<_> = missing.iter().map(|name| name.as_str()).collect();
            Some(format!("{id} lacks {}: it is kept, but not served", missing.join(", ")))
        })
        .collect();
    let more = lacking.len().saturating_sub(SHOWN);
    let more = (more > 0).then(|| format!("and {more} more lack something"));
    lacking.into_iter().take(SHOWN).chain(more).collect()
}

fn find<'a>(model: &'a Model, which: &Which) -> Result<Vec<&'a Entity>, Wrong> {
    match which {
        Which::One(id) => match model.get(id.kind.as_str(), id.name.as_str()) {
            Some(entity) => Ok(vec![entity]),
            None => Err(unknown(model, id)),
        },
        Which::Where(expression) => {
            let found = search(model, Some(expression))?;
            if found.is_empty() {
                let hint = format!("see what there is with: bootd site search '{expression}'");
                return Err(Wrong::not_found(format!("no entity fits \"{expression}\""), hint));
            }
            Ok(found)
        }
    }
}

/// That there is no such entity, with those that there are.
pub(super) fn unknown(model: &Model, id: &EntityId) -> Wrong {
    match model.apply(&[Edit::Remove { entity: id.clone() }]) {
        Err(error) => Wrong::from(error),
        Ok(_) => Wrong::not_found(format!("there is no {id}"), "list what there is with: bootd site list"),
    }
}

/// The entities that an expression finds, by type and name.
pub(super) fn search<'a>(model: &'a Model, filter: Option<&Expression>) -> Result<Vec<&'a Entity>, Wrong> {
    let all = match filter {
        Some(expression) => model.search(expression),
        None => model.all().collect(),
    };
    Ok(all.into_iter().map(AsRef::as_ref).collect())
}

fn create(entity: &EntityId, variables: &[Change]) -> Vec<Edit> {
    let set = |change: &Change| Edit::Set {
        entity: entity.clone(),
        variable: change.variable.clone(),
        values: change.values.clone(),
        expect: Some(Values::default()),
    };
    std::iter::once(Edit::Create { entity: entity.clone() }).chain(variables.iter().map(set)).collect()
}

fn set(model: &Model, entities: &[&Entity], variables: &[Change]) -> Vec<Edit> {
    let mut edits = Vec::new();
    for entity in entities {
        for Change { variable, how, values } in variables {
            let old = entity.get(variable.as_str()).cloned().unwrap_or_default();
            // As the site spells them, or what is there already would be added again.
            let definition = model.definitions().definition(entity.id().kind.as_str(), variable.as_str());
            let canonical = |value: &str| {
                definition.and_then(|d| d.format.canonical(value).ok()).map_or(value.to_owned(), Into::into)
            };
            let given: Vec<String> = values.iter().map(canonical).collect();
            let values = match how {
                How::Set => values.clone(),
                How::Add => {
                    let new = given.into_iter().filter(|value| !old.iter().any(|old| old == value));
                    old.iter().map(str::to_owned).chain(new).collect()
                }
                How::Take => old.iter().filter(|old| !given.iter().any(|value| value == old)).collect(),
            };
            let (entity, variable) = (entity.id().clone(), variable.clone());
            edits.push(Edit::Set { entity, variable, values, expect: Some(old) });
        }
    }
    edits
}

fn undefine(model: &Model, kind: &str, variable: Option<&VariableName>) -> Result<Edit, Wrong> {
    let known: Vec<_> = model.definitions().iter().map(|(name, _)| name.as_str()).collect();
    let Some((name, definition)) = model.definitions().iter().find(|(name, _)| name.as_str() == kind) else {
        return Err(Wrong::not_found(
            format!("there is no type {kind}"),
            format!("there are: {}", known.join(", ")),
        ));
    };
    match variable {
        Some(variable) if !definition.variables.contains_key(variable) => {
            let known: Vec<_> = definition.variables.keys().map(VariableName::as_str).collect();
            Err(Wrong::not_found(
                format!("type {kind} has no variable {variable}"),
                format!("it has: {}", known.join(", ")),
            ))
        }
        Some(variable) => {
            Ok(Edit::Define { kind: name.clone(), variable: variable.clone(), definition: None })
        }
        None => Ok(Edit::DefineType { kind: name.clone(), definition: None }),
    }
}

/// Whether the edits by themselves notice that someone else was faster.
pub(super) fn expect_all(edits: &[Edit]) -> bool {
    edits.iter().all(|edit| match edit {
        Edit::Create { .. } => true,
        Edit::Set { expect, .. } => expect.is_some(),
        Edit::Remove { .. } | Edit::DefineType { .. } | Edit::Define { .. } => false,
    })
}

impl From<EditError> for Wrong {
    fn from(error: EditError) -> Self {
        use hyper::StatusCode;
        let status = match &error {
            EditError::UnknownEntity { .. } | EditError::UnknownType { .. } => StatusCode::NOT_FOUND,
            EditError::Taken { .. }
            | EditError::Exists { .. }
            | EditError::InUse { .. }
            | EditError::TypeInUse { .. }
            | EditError::Conflict { .. } => StatusCode::CONFLICT,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, error.to_string(), None)
    }
}

impl From<site::exchange::ExchangeError> for Wrong {
    fn from(error: site::exchange::ExchangeError) -> Self {
        Self::new(hyper::StatusCode::UNPROCESSABLE_ENTITY, error.to_string(), None)
    }
}
