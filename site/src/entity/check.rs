//! Whether a model keeps to its definitions.

use std::collections::{BTreeMap, BTreeSet};

use super::definition::{Choice, Definition, Definitions, TypeDefinition};
use super::edit::Effect;
use super::error::{EditError, listed, shown, there_are};
use super::inherit::is_lent;
use super::model::Model;
use super::names::{EntityId, TypeName, VariableName};
use super::record::Entity;
use super::values::{MAX_VALUE, MAX_VALUES, Values};

/// An entity's name against its type's rule.
pub(super) fn name(definition: &TypeDefinition, id: &EntityId) -> Result<(), EditError> {
    match &definition.name {
        Some(pattern) if !pattern.matches(id.name.as_str()) => Err(EditError::Value {
            subject: format!("a {}'s name", id.kind),
            value: id.name.to_string(),
            rule: format!("it must match {}", pattern.as_str()),
            example: definition.name_example.clone().unwrap_or_default(),
        }),
        _ => Ok(()),
    }
}

/// Values in their canonical spelling, each by itself as its definition wants it.
pub(super) fn values(
    model: &Model,
    id: &EntityId,
    variable: &VariableName,
    values: &Values,
) -> Result<Values, EditError> {
    if values.is_empty() {
        return Ok(Values::default());
    }
    let definition = definition_of(model, id, variable)?;
    let limit = if definition.edit.is_many() { MAX_VALUES } else { 1 };
    if values.len() > limit {
        return Err(EditError::Count {
            entity: id.clone(),
            variable: variable.clone(),
            count: values.len(),
            limit: if limit == 1 { "one value".to_owned() } else { format!("at most {limit} values") },
        });
    }
    values.iter().map(|value| one(id, variable, &definition, value)).collect()
}

/// What is known of a variable; in an open type everything is text.
fn definition_of<'a>(
    model: &'a Model,
    id: &EntityId,
    variable: &VariableName,
) -> Result<std::borrow::Cow<'a, Definition>, EditError> {
    use std::borrow::Cow;
    let kind = model.definitions.get(id.kind.as_str());
    let kind = kind.ok_or_else(|| EditError::unknown_type(model, &id.kind))?;
    let Some(definition) = model.definitions.definition(id.kind.as_str(), variable.as_str()) else {
        if kind.open {
            let edit = super::definition::Editing::Inputs;
            return Ok(Cow::Owned(Definition { edit, ..Definition::default() }));
        }
        return Err(unknown_variable(model, id, kind, variable));
    };
    if !kind.variables.contains_key(variable) && !is_lent(definition, variable.as_str()) {
        return Err(EditError::NotLent {
            entity: id.clone(),
            kind: id.kind.clone(),
            variable: variable.clone(),
        });
    }
    Ok(Cow::Borrowed(definition))
}

fn unknown_variable(
    model: &Model,
    id: &EntityId,
    kind: &TypeDefinition,
    variable: &VariableName,
) -> EditError {
    let lent = kind.lends_to.iter().filter_map(|to| model.definitions.get(to.as_str()));
    let known: BTreeSet<_> =
        std::iter::once(kind).chain(lent).flat_map(|kind| kind.variables.keys()).collect();
    let alike = |name: &&&VariableName| {
        let bare = |name: &str| name.replace(['_', '-', '.'], "").to_ascii_lowercase();
        let (a, b) = (bare(name.as_str()), bare(variable.as_str()));
        a == b || (b.len() > 2 && (a.contains(&b) || b.contains(&a)))
    };
    let hint = known.iter().find(alike).map(|name| format!(", perhaps {name}")).unwrap_or_default();
    EditError::UnknownVariable {
        entity: id.clone(),
        kind: id.kind.clone(),
        variable: variable.clone(),
        hint,
        known: listed(known),
    }
}

fn one(
    id: &EntityId,
    variable: &VariableName,
    definition: &Definition,
    value: &str,
) -> Result<Box<str>, EditError> {
    let refuse = |rule: String| EditError::Value {
        subject: format!("{id}: {variable}"),
        value: shown(Some(definition), value),
        rule,
        example: example(definition),
    };
    permitted(value).map_err(refuse)?;
    let canonical =
        definition.format.canonical(value).map_err(|rule| refuse(format!("it must be {rule}")))?;
    match &definition.pattern {
        Some(pattern) if !pattern.matches(&canonical) => {
            Err(refuse(format!("it must match {}", pattern.as_str())))
        }
        _ => Ok(canonical),
    }
}

/// What a definition says itself: it is shown wherever a value breaks it.
fn definition(kind: &TypeName, variable: &VariableName, definition: &Definition) -> Result<(), EditError> {
    let choices: &[String] = match &definition.choice {
        Some(Choice::Values(values)) => values,
        _ => &[],
    };
    let subject = format!("variable {variable} of type {kind}");
    if choices.len() > MAX_VALUES {
        return Err(EditError::Value {
            subject,
            value: listed(choices.iter().map(|choice| shown(None, choice))),
            rule: format!("it has {} choices, {MAX_VALUES} are allowed", choices.len()),
            example: "choices that are entities of a type".to_owned(),
        });
    }
    [&definition.about]
        .into_iter()
        .chain(&definition.example)
        .chain(choices)
        .try_for_each(|t| text(&subject, t))
}

fn type_definition(kind: &TypeName, of: &TypeDefinition) -> Result<(), EditError> {
    let subject = format!("type {kind}");
    [&of.about].into_iter().chain(&of.name_example).try_for_each(|shown| text(&subject, shown))?;
    of.variables.iter().try_for_each(|(variable, of)| definition(kind, variable, of))
}

fn text(subject: &str, text: &str) -> Result<(), EditError> {
    permitted(text).map_err(|rule| EditError::Value {
        subject: subject.to_owned(),
        value: shown(None, text),
        rule,
        example: "Its place in the building.".to_owned(),
    })
}

/// What holds for every text, whatever it means.
fn permitted(text: &str) -> Result<(), String> {
    if text.len() > MAX_VALUE {
        return Err(format!("it has {} bytes, {MAX_VALUE} are allowed", text.len()));
    }
    if text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t')) {
        return Err("it holds a control character other than a line break or a tab".to_owned());
    }
    Ok(())
}

fn example(definition: &Definition) -> String {
    match (&definition.example, &definition.choice) {
        (Some(example), _) => example.clone(),
        (None, Some(Choice::Values(values))) => values.first().cloned().unwrap_or_default(),
        _ => definition.format.example().to_owned(),
    }
}

/// What the edits come to: the entities that they touched, and those that name what they removed.
pub(super) fn all(model: &Model, touched: &BTreeSet<EntityId>, effects: &[Effect]) -> Result<(), EditError> {
    let mut gone = Gone::new();
    for effect in effects {
        match effect {
            Effect::Removed { entity } if model.get(entity.kind.as_str(), entity.name.as_str()).is_none() => {
                gone.entry(&entity.kind).or_default().insert(entity.name.as_str(), entity);
            }
            Effect::Defined { kind, variable, new: Some(new), .. } => definition(kind, variable, new)?,
            Effect::DefinedType { kind, new: Some(new), .. } => type_definition(kind, new)?,
            Effect::DefinedType { kind, new: None, .. } if model.entities(kind.as_str()).next().is_some() => {
                let entities = listed(model.entities(kind.as_str()).map(|entity| &entity.id().name));
                return Err(EditError::TypeInUse { kind: kind.clone(), entities });
            }
            _ => {}
        }
    }
    check_unused(model, &gone)?;
    for id in touched {
        if let Some(entity) = model.get(id.kind.as_str(), id.name.as_str()) {
            check_entity(model, entity)?;
        }
    }
    Ok(())
}

fn check_entity(model: &Model, entity: &Entity) -> Result<(), EditError> {
    let id = entity.id();
    for (variable, held) in entity.variables() {
        // Again, since the definition may be what has changed.
        let canonical = values(model, id, variable, held)?;
        let definition = definition_of(model, id, variable)?;
        if canonical != *held {
            return Err(EditError::Value {
                subject: format!("{id}: {variable}"),
                value: shown(Some(&definition), held.first().unwrap_or_default()),
                rule: format!("its canonical spelling is {}", canonical.first().unwrap_or_default()),
                example: example(&definition),
            });
        }
        if definition.unique {
            check_unique(model, id, variable, held)?;
        }
        if let Some(choice) = &definition.choice {
            for value in held.iter() {
                check_choice(model, id, variable, choice, value)?;
            }
        }
    }
    check_tables(model, entity)
}

fn check_unique(
    model: &Model,
    id: &EntityId,
    variable: &VariableName,
    held: &Values,
) -> Result<(), EditError> {
    let kind = id.kind.as_str();
    let taken = |value: &&str| {
        let holder = model.holder(kind, variable.as_str(), value);
        holder.is_none_or(|holder| holder.id() != id)
    };
    let Some(value) = held.iter().find(taken) else { return Ok(()) };
    let by =
        model.holder(kind, variable.as_str(), value).map_or_else(|| id.clone(), |holder| holder.id().clone());
    Err(EditError::Taken { entity: id.clone(), variable: variable.clone(), value: value.to_owned(), by })
}

fn check_choice(
    model: &Model,
    id: &EntityId,
    variable: &VariableName,
    choice: &Choice,
    value: &str,
) -> Result<(), EditError> {
    let refuse = |reason: String, known: String| EditError::Choice {
        entity: id.clone(),
        variable: variable.clone(),
        value: shown(None, value),
        reason,
        known,
    };
    match choice {
        Choice::Values(choices) if choices.iter().any(|choice| choice == value) => Ok(()),
        Choice::Values(choices) => {
            Err(refuse("is none of the choices".to_owned(), there_are("choices", &listed(choices))))
        }
        Choice::Entities { kind, filter } => {
            let fits = |entity: &Entity| filter.as_ref().is_none_or(|filter| model.holds(filter, entity));
            match model.get(kind.as_str(), value) {
                Some(entity) if fits(entity) => Ok(()),
                found => {
                    let names = model.entities(kind.as_str()).filter(|entity| fits(entity));
                    let known =
                        there_are(&format!("entities of type {kind}"), &listed(names.map(|e| &e.id().name)));
                    let reason = match (found, filter) {
                        (Some(_), Some(filter)) => format!("is a {kind} for which {filter} does not hold"),
                        _ => format!("is no {kind}"),
                    };
                    Err(refuse(reason, known))
                }
            }
        }
    }
}

fn check_tables(model: &Model, entity: &Entity) -> Result<(), EditError> {
    let id = entity.id();
    let kind = id.kind.as_str();
    let tables: BTreeSet<_> = entity
        .variables()
        .filter_map(|(variable, _)| model.definitions.definition(kind, variable.as_str())?.table.as_ref())
        .collect();
    for table in tables {
        let columns = model.definitions.columns(kind, table.as_str());
        let length = |column: &&VariableName| entity.get(column.as_str()).map_or(0, Values::len);
        let lengths: BTreeSet<_> = columns.iter().map(length).collect();
        if lengths.len() > 1 {
            let lengths = listed(columns.iter().map(|column| format!("{column} {}", length(column))));
            return Err(EditError::Ragged { entity: id.clone(), table: table.to_string(), lengths });
        }
    }
    Ok(())
}

/// What is gone: by type, then by name.
type Gone<'a> = BTreeMap<&'a TypeName, BTreeMap<&'a str, &'a EntityId>>;

/// That nobody names what is gone. All is looked through once for each type, and of that only the variables that can
/// name it.
fn check_unused(model: &Model, gone: &Gone<'_>) -> Result<(), EditError> {
    for (kind, names) in gone {
        let mut users: BTreeMap<&EntityId, Vec<_>> = BTreeMap::new();
        for (of, _) in model.definitions.iter() {
            let variables = naming(&model.definitions, of, kind);
            if variables.is_empty() {
                continue;
            }
            let all = model.entities(of.as_str());
            for (entity, variable) in all.flat_map(|entity| variables.iter().map(move |v| (entity, *v))) {
                for value in entity.get(variable.as_str()).into_iter().flat_map(Values::iter) {
                    if let Some(gone) = names.get(value) {
                        users.entry(gone).or_default().push((entity.id(), variable));
                    }
                }
            }
        }
        if let Some((entity, mut users)) = users.pop_first() {
            users.dedup();
            let users = listed(users.iter().map(|(id, variable)| format!("{id} ({variable})")));
            return Err(EditError::InUse { entity: entity.clone(), users });
        }
    }
    Ok(())
}

/// The variables by which entities of type `of` may name those of type `kind`.
fn naming<'a>(definitions: &'a Definitions, of: &TypeName, kind: &TypeName) -> BTreeSet<&'a VariableName> {
    let own = definitions.get(of.as_str());
    let lent = own.into_iter().flat_map(|own| &own.lends_to).filter_map(|to| definitions.get(to.as_str()));
    let can_name = |variable: &&VariableName| {
        let definition = definitions.definition(of.as_str(), variable.as_str());
        let choice = definition.and_then(|definition| definition.choice.as_ref());
        matches!(choice, Some(Choice::Entities { kind: named, .. }) if named == kind)
    };
    own.into_iter().chain(lent).flat_map(|kind| kind.variables.keys()).filter(can_name).collect()
}
