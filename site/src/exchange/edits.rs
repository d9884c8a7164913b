//! From what is wanted to the edits that make it so.

use std::collections::BTreeMap;

use super::desired::{Desired, DesiredEntity, DesiredType};
use super::error::{ExchangeError, Place};
use crate::entity::{
    Definition, Definitions, Edit, EditError, Entity, EntityId, Model, TableName, TypeDefinition, TypeName,
    Values, VariableName, removal,
};

impl Desired {
    /// The edits that make `model` what is wanted; none where it is. Each expects the values that the model has, so
    /// that it is refused where someone else was faster.
    ///
    /// What is not mentioned stays. With `prune` it goes: variables of the entities that are mentioned, all other
    /// entities, and, where the file has definitions, all other definitions of the admin's. Only secrets stay with
    /// their entity, since an export leaves them out.
    ///
    /// # Errors
    /// When a table is written row by row that its type does not have.
    pub fn edits(&self, model: &Model, prune: bool) -> Result<Vec<Edit>, ExchangeError> {
        let known = Known { own: self.types.as_ref(), model };
        let mut edits = Vec::new();
        for (kind, wanted) in self.types.iter().flatten() {
            define(model, kind, wanted, &mut edits);
        }
        for id in self.entities.keys() {
            if model.get(id.kind.as_str(), id.name.as_str()).is_none() {
                edits.push(Edit::Create { entity: id.clone() });
            }
        }
        for (id, wanted) in &self.entities {
            let there = model.get(id.kind.as_str(), id.name.as_str()).map(AsRef::as_ref);
            set(&known, id, wanted, there, prune, &mut edits)?;
        }
        if prune {
            for entity in model.all().filter(|entity| !self.entities.contains_key(entity.id())) {
                edits.extend(removal(entity));
            }
            if let Some(types) = &self.types {
                undefine(model, types, &mut edits);
            }
        }
        Ok(edits)
    }

    /// A refusal of those edits with the place that asks for it.
    #[must_use]
    pub fn located(&self, error: EditError) -> ExchangeError {
        match self.place_of(&error) {
            Some(place) => ExchangeError::Rule { place: place.clone(), reason: Box::new(error) },
            None => ExchangeError::Nowhere(Box::new(error)),
        }
    }

    fn place_of(&self, error: &EditError) -> Option<&Place> {
        let of_variable = |entity: &EntityId, variable: &VariableName| {
            let wanted = self.entities.get(entity)?;
            Some(wanted.variables.get(variable).map_or(&wanted.place, |(place, _)| place))
        };
        let of_entity = |id: &EntityId| self.entities.get(id).map(|wanted| &wanted.place);
        match error {
            EditError::Value { subject, value, .. } => {
                if let Some((entity, variable)) = subject.split_once(": ") {
                    return of_variable(&entity.parse().ok()?, &variable.parse().ok()?);
                }
                let kind = subject.strip_prefix("a ")?.strip_suffix("'s name")?;
                of_entity(&EntityId::new(kind.parse().ok()?, value.parse().ok()?))
            }
            EditError::Count { entity, variable, .. }
            | EditError::Taken { entity, variable, .. }
            | EditError::Choice { entity, variable, .. }
            | EditError::UnknownVariable { entity, variable, .. }
            | EditError::NotLent { entity, variable, .. }
            | EditError::Conflict { entity, variable, .. } => of_variable(entity, variable),
            EditError::Ragged { entity, table, .. } => {
                let wanted = self.entities.get(entity)?;
                let rows = wanted.tables.iter().find(|(_, name, _)| name.as_str() == table);
                Some(rows.map_or(&wanted.place, |(place, ..)| place))
            }
            EditError::UnknownEntity { entity, .. }
            | EditError::Exists { entity }
            | EditError::InUse { entity, .. } => of_entity(entity),
            EditError::UnknownType { kind, .. } | EditError::TypeInUse { kind, .. } => {
                let defined =
                    self.types.as_ref().and_then(|types| types.get(kind)).map(|wanted| &wanted.place);
                let used = || self.entities.iter().find(|(id, _)| id.kind == *kind).map(|(_, e)| &e.place);
                defined.or_else(used)
            }
            EditError::Shipped { what } => self.types.iter().flatten().find_map(|(kind, wanted)| {
                if *what == format!("type {kind}") {
                    return Some(&wanted.place);
                }
                let mut variables = wanted.variables.iter();
                variables
                    .find(|(name, _)| *what == format!("variable {name} of type {kind}"))
                    .map(|(_, (place, _))| place)
            }),
        }
    }
}

fn define(model: &Model, kind: &TypeName, wanted: &DesiredType, edits: &mut Vec<Edit>) {
    let there = model.definitions().get(kind.as_str());
    let changed = match (there, &wanted.itself) {
        (None, itself) => Some(itself.clone().unwrap_or_default()),
        (Some(there), Some(itself)) => {
            let variables = there.variables.clone();
            Some(TypeDefinition { variables, ..itself.clone() }).filter(|changed| changed != there)
        }
        (Some(_), None) => None,
    };
    if let Some(definition) = changed {
        edits.push(Edit::DefineType { kind: kind.clone(), definition: Some(Box::new(definition)) });
    }
    for (variable, (_, definition)) in &wanted.variables {
        if there.and_then(|there| there.variables.get(variable)) != Some(definition) {
            let definition = Some(Box::new(definition.clone()));
            edits.push(Edit::Define { kind: kind.clone(), variable: variable.clone(), definition });
        }
    }
}

fn undefine(model: &Model, types: &BTreeMap<TypeName, DesiredType>, edits: &mut Vec<Edit>) {
    for (kind, there) in model.definitions().iter() {
        let shipped = Definitions::shipped().get(kind.as_str());
        let Some(wanted) = types.get(kind) else {
            if shipped.is_none() {
                edits.push(Edit::DefineType { kind: kind.clone(), definition: None });
                continue;
            }
            undefine_variables(kind, there, |_| false, edits);
            continue;
        };
        undefine_variables(kind, there, |variable| wanted.variables.contains_key(variable), edits);
    }
}

fn undefine_variables(
    kind: &TypeName,
    there: &TypeDefinition,
    stays: impl Fn(&VariableName) -> bool,
    edits: &mut Vec<Edit>,
) {
    let shipped = Definitions::shipped().get(kind.as_str());
    for variable in there.variables.keys() {
        let is_shipped = shipped.is_some_and(|shipped| shipped.variables.contains_key(variable));
        if !is_shipped && !stays(variable) {
            edits.push(Edit::Define { kind: kind.clone(), variable: variable.clone(), definition: None });
        }
    }
}

fn set(
    known: &Known<'_>,
    id: &EntityId,
    wanted: &DesiredEntity,
    there: Option<&Entity>,
    prune: bool,
    edits: &mut Vec<Edit>,
) -> Result<(), ExchangeError> {
    for (place, table, columns) in &wanted.tables {
        known.check_table(id, place, table, columns)?;
    }
    let none = Values::default();
    let mut put = |variable: &VariableName, values: Values| {
        let old = there.and_then(|there| there.get(variable.as_str())).unwrap_or(&none);
        if values != *old {
            let (entity, variable) = (id.clone(), variable.clone());
            edits.push(Edit::Set { entity, variable, values, expect: Some(old.clone()) });
        }
    };
    let mut emptied = Vec::new();
    for (variable, (_, values)) in &wanted.variables {
        let definition = known.definition(id.kind.as_str(), variable.as_str());
        // A table without rows.
        if values.is_empty() && definition.is_none() {
            let columns = known.columns(id.kind.as_str(), variable.as_str());
            if !columns.is_empty() {
                columns.iter().for_each(|column| put(column, Values::default()));
                emptied.extend(columns);
                continue;
            }
        }
        put(variable, canonical(definition, values));
    }
    if prune && let Some(there) = there {
        for (variable, _) in there.variables() {
            let definition = known.definition(id.kind.as_str(), variable.as_str());
            let is_secret = definition.is_some_and(|definition| definition.secret);
            if !wanted.variables.contains_key(variable) && !emptied.contains(&variable) && !is_secret {
                put(variable, Values::default());
            }
        }
    }
    Ok(())
}

/// Values as the site keeps them; ones that break their rule as they are, to be refused with it.
fn canonical(definition: Option<&Definition>, values: &Values) -> Values {
    let Some(definition) = definition else { return values.clone() };
    values.iter().map(|value| definition.format.canonical(value).unwrap_or_else(|_| value.into())).collect()
}

/// The definitions that there will be: the file's own before those that are there.
struct Known<'a> {
    own: Option<&'a BTreeMap<TypeName, DesiredType>>,
    model: &'a Model,
}

impl<'a> Known<'a> {
    fn definition(&self, kind: &str, variable: &str) -> Option<&'a Definition> {
        let own = |kind: &str| Some(&self.own?.get(kind)?.variables.get(variable)?.1);
        let lent = || self.lends_to(kind).find_map(|to| own(to.as_str()));
        own(kind).or_else(|| self.model.definitions().definition(kind, variable)).or_else(lent)
    }

    /// The types that it lends to.
    fn lends_to(&self, kind: &str) -> impl Iterator<Item = &'a TypeName> {
        let own = self.own.and_then(|types| types.get(kind)).and_then(|wanted| wanted.itself.as_ref());
        own.or_else(|| self.model.definitions().get(kind)).into_iter().flat_map(|kind| &kind.lends_to)
    }

    /// A table's columns, by name.
    fn columns(&self, kind: &str, table: &str) -> Vec<&'a VariableName> {
        let is_column =
            |definition: &Definition| definition.table.as_ref().is_some_and(|t| t.as_str() == table);
        let of_type = |kind: &str| {
            let own =
                self.own.and_then(|types| types.get(kind)).into_iter().flat_map(|wanted| &wanted.variables);
            let own = own.map(|(name, (_, definition))| (name, definition));
            let there = self.model.definitions().get(kind).into_iter().flat_map(|there| &there.variables);
            let mut columns: Vec<_> = own
                .chain(there)
                .filter(|(_, definition)| is_column(definition))
                .map(|(name, _)| name)
                .collect();
            columns.sort_unstable();
            columns.dedup();
            columns
        };
        let columns = of_type(kind);
        if !columns.is_empty() {
            return columns;
        }
        self.lends_to(kind).map(|to| of_type(to.as_str())).find(|c| !c.is_empty()).unwrap_or_default()
    }

    fn check_table(
        &self,
        id: &EntityId,
        place: &Place,
        table: &TableName,
        columns: &[VariableName],
    ) -> Result<(), ExchangeError> {
        let there = self.columns(id.kind.as_str(), table.as_str());
        let strange: Vec<_> =
            columns.iter().filter(|column| !there.contains(column)).map(VariableName::as_str).collect();
        if strange.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = there.iter().map(|name| name.as_str()).collect();
        let reason = if there.is_empty() {
            format!(
                "{id}: type {} has no table {table}; define its columns first, or write a value or a list",
                id.kind
            )
        } else {
            format!(
                "{id}: table {table} has no column {}; its columns are: {}",
                strange.join(", "),
                names.join(", ")
            )
        };
        Err(place.wrong(reason))
    }
}
