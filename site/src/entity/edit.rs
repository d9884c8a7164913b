//! Edits of a model, and what they did.
//!
//! A set of edits is made whole or not at all, and its rules are checked on what comes out, so that edits which only
//! fit together (swapping two addresses) can be made in one. The effects say what changed, old and new: they are the
//! log, and turned around they are the way back.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::check;
use super::definition::{Definition, Definitions, TypeDefinition};
use super::error::EditError;
use super::model::Model;
use super::names::{EntityId, TypeName, VariableName};
use super::record::Entity;
use super::values::Values;

/// One thing to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "edit", rename_all = "snake_case")]
pub enum Edit {
    /// Makes an entity without variables.
    Create {
        /// Which.
        entity: EntityId,
    },
    /// Removes an entity and all its variables.
    Remove {
        /// Which.
        entity: EntityId,
    },
    /// Sets a variable.
    Set {
        /// Whose.
        entity: EntityId,
        /// Which.
        variable: VariableName,
        /// To what; none unset it.
        values: Values,
        /// What the editor saw there. If it is something else by now the edit is refused. `None`: whatever it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expect: Option<Values>,
    },
    /// Defines a type, or, without a definition, drops it.
    DefineType {
        /// Which.
        #[serde(rename = "type")]
        kind: TypeName,
        /// As what.
        definition: Option<Box<TypeDefinition>>,
    },
    /// Defines a variable of a type, or, without a definition, drops it.
    Define {
        /// The type.
        #[serde(rename = "type")]
        kind: TypeName,
        /// Which.
        variable: VariableName,
        /// As what.
        definition: Option<Box<Definition>>,
    },
}

/// One thing that changed, old and new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// An entity was made.
    Created {
        /// Which.
        entity: EntityId,
    },
    /// An entity was removed; its variables were unset before.
    Removed {
        /// Which.
        entity: EntityId,
    },
    /// A variable was set or unset.
    Set {
        /// Whose.
        entity: EntityId,
        /// Which.
        variable: VariableName,
        /// What it was; none: not set.
        old: Values,
        /// What it is; none: not set.
        new: Values,
    },
    /// A type's definition changed.
    DefinedType {
        /// Which.
        #[serde(rename = "type")]
        kind: TypeName,
        /// What it was.
        old: Option<Box<TypeDefinition>>,
        /// What it is.
        new: Option<Box<TypeDefinition>>,
    },
    /// A variable's definition changed.
    Defined {
        /// The type.
        #[serde(rename = "type")]
        kind: TypeName,
        /// Which.
        variable: VariableName,
        /// What it was.
        old: Option<Box<Definition>>,
        /// What it is.
        new: Option<Box<Definition>>,
    },
}

impl Effect {
    /// The edit that makes it again, refused where the same thing is not as it was.
    fn again(&self) -> Edit {
        match self.clone() {
            Self::Created { entity } => Edit::Create { entity },
            Self::Removed { entity } => Edit::Remove { entity },
            Self::Set { entity, variable, old, new } => {
                Edit::Set { entity, variable, values: new, expect: Some(old) }
            }
            Self::DefinedType { kind, new, .. } => Edit::DefineType { kind, definition: new },
            Self::Defined { kind, variable, new, .. } => Edit::Define { kind, variable, definition: new },
        }
    }

    /// The edit that undoes it, refused if something else changed the same thing since.
    #[must_use]
    pub fn inverse(&self) -> Edit {
        match self.clone() {
            Self::Created { entity } => Edit::Remove { entity },
            Self::Removed { entity } => Edit::Create { entity },
            Self::Set { entity, variable, old, new } => {
                Edit::Set { entity, variable, values: old, expect: Some(new) }
            }
            Self::DefinedType { kind, old, .. } => Edit::DefineType { kind, definition: old },
            Self::Defined { kind, variable, old, .. } => Edit::Define { kind, variable, definition: old },
        }
    }
}

/// The edits that undo a set of effects.
#[must_use]
pub fn revert(effects: &[Effect]) -> Vec<Edit> {
    effects.iter().rev().map(Effect::inverse).collect()
}

/// The edits that remove an entity as it is known: its values are unset first, so the removal is refused if any of them
/// has changed since.
pub fn removal(entity: &Entity) -> impl Iterator<Item = Edit> {
    let id = entity.id();
    let unset = entity.variables().map(|(variable, values)| Edit::Set {
        entity: id.clone(),
        variable: variable.clone(),
        values: Values::default(),
        expect: Some(values.clone()),
    });
    unset.chain(std::iter::once(Edit::Remove { entity: id.clone() }))
}

impl Model {
    /// The model with the edits made, one revision later, and what changed. Edits that change nothing give the same
    /// revision and no effects.
    ///
    /// # Errors
    /// When an edit, or what they come to together, breaks a rule. Nothing has changed then.
    pub fn apply(&self, edits: &[Edit]) -> Result<(Self, Vec<Effect>), EditError> {
        let mut draft = Draft::of(self);
        for edit in edits {
            draft.make(edit)?;
        }
        draft.settle_claims();
        if draft.effects.is_empty() {
            return Ok((self.clone(), Vec::new()));
        }
        check::all(&draft.model, &draft.touched, &draft.effects)?;
        draft.model.revision += 1;
        Ok((draft.model, draft.effects))
    }

    /// The model one revision later, after effects that someone else's edits had on the same model: what they come to
    /// together was checked then.
    ///
    /// # Errors
    /// When they were not made on this model.
    pub fn follow(&self, effects: &[Effect]) -> Result<Self, EditError> {
        let mut draft = Draft::of(self);
        for effect in effects {
            draft.make(&effect.again())?;
        }
        draft.settle_claims();
        draft.model.revision += 1;
        Ok(draft.model)
    }

    /// Whether all entities keep to all definitions. Takes as long as the site is large.
    ///
    /// # Errors
    /// The first rule that one breaks.
    pub fn check(&self) -> Result<(), EditError> {
        check::all(self, &self.all().map(|entity| entity.id().clone()).collect(), &[])
    }
}

struct Draft {
    model: Model,
    effects: Vec<Effect>,
    /// Entities of which a variable was set.
    touched: BTreeSet<EntityId>,
    /// Unique values that were someone else's when they were set, who may have let go of them since.
    claims: Vec<(EntityId, VariableName, Box<str>)>,
}

impl Draft {
    fn of(model: &Model) -> Self {
        Self { model: model.clone(), effects: Vec::new(), touched: BTreeSet::new(), claims: Vec::new() }
    }

    fn make(&mut self, edit: &Edit) -> Result<(), EditError> {
        match edit {
            Edit::Create { entity } => self.create(entity),
            Edit::Remove { entity } => self.remove(entity),
            Edit::Set { entity, variable, values, expect } => {
                self.set(entity, variable, values, expect.as_ref())
            }
            Edit::DefineType { kind, definition } => self.define_type(kind, definition.as_deref()),
            Edit::Define { kind, variable, definition } => self.define(kind, variable, definition.as_deref()),
        }
    }

    fn create(&mut self, id: &EntityId) -> Result<(), EditError> {
        let definition = self.model.definitions.get(id.kind.as_str());
        let definition = definition.ok_or_else(|| EditError::unknown_type(&self.model, &id.kind))?;
        check::name(definition, id)?;
        let shelf = self.model.shelves.entry(id.kind.clone()).or_default();
        if shelf.get(id.name.as_str()).is_some() {
            return Err(EditError::Exists { entity: id.clone() });
        }
        shelf.put(Entity::new(id.clone()));
        self.effects.push(Effect::Created { entity: id.clone() });
        self.touched.insert(id.clone());
        Ok(())
    }

    fn remove(&mut self, id: &EntityId) -> Result<(), EditError> {
        let entity = Arc::clone(self.entity(id)?);
        for (variable, _) in entity.variables() {
            self.put(id, variable, Values::default())?;
        }
        if let Some(shelf) = self.model.shelves.get_mut(&id.kind) {
            shelf.remove(&id.name);
        }
        self.effects.push(Effect::Removed { entity: id.clone() });
        self.touched.remove(id);
        Ok(())
    }

    fn set(
        &mut self,
        id: &EntityId,
        variable: &VariableName,
        values: &Values,
        expect: Option<&Values>,
    ) -> Result<(), EditError> {
        let entity = self.entity(id)?;
        let found = entity.get(variable.as_str()).cloned().unwrap_or_default();
        if let Some(expected) = expect
            && *expected != found
        {
            let definition = self.model.definitions.definition(id.kind.as_str(), variable.as_str());
            return Err(EditError::conflict(id, variable, definition, expected, &found));
        }
        let values = check::values(&self.model, id, variable, values)?;
        if values == found {
            return Ok(());
        }
        self.touched.insert(id.clone());
        self.put(id, variable, values)
    }

    /// Sets a variable, and keeps the look-up of unique values with it.
    fn put(&mut self, id: &EntityId, variable: &VariableName, values: Values) -> Result<(), EditError> {
        let mut entity = Entity::clone(self.entity(id)?);
        let old = entity.set(variable.clone(), values.clone());
        let definition = self.model.definitions.definition(id.kind.as_str(), variable.as_str());
        let is_unique = definition.is_some_and(|definition| definition.unique);
        let shelf = self.model.shelves.entry(id.kind.clone()).or_default();
        shelf.put(entity);
        if is_unique {
            let mut holders = shelf.holders.get(variable).cloned().unwrap_or_default();
            for value in old.iter() {
                if holders.get(value) == Some(&id.name) {
                    holders.remove_mut(value);
                }
            }
            for value in values.iter() {
                if holders.contains_key(value) {
                    self.claims.push((id.clone(), variable.clone(), value.into()));
                } else {
                    holders.insert_mut(value.into(), id.name.clone());
                }
            }
            shelf.holders.insert_mut(variable.clone(), holders);
        }
        self.effects.push(Effect::Set { entity: id.clone(), variable: variable.clone(), old, new: values });
        Ok(())
    }

    fn settle_claims(&mut self) {
        for (id, variable, value) in std::mem::take(&mut self.claims) {
            let entity = self.model.get(id.kind.as_str(), id.name.as_str());
            let held = entity.and_then(|entity| entity.get(variable.as_str()));
            let is_held = held.is_some_and(|values| values.iter().any(|held| *held == *value));
            let Some(shelf) = self.model.shelves.get_mut(&id.kind).filter(|_| is_held) else { continue };
            let mut holders = shelf.holders.get(&variable).cloned().unwrap_or_default();
            if !holders.contains_key(&value) {
                holders.insert_mut(value, id.name);
                shelf.holders.insert_mut(variable, holders);
            }
        }
    }

    fn define_type(&mut self, kind: &TypeName, definition: Option<&TypeDefinition>) -> Result<(), EditError> {
        let old = self.model.definitions.get(kind.as_str()).cloned();
        if old.as_ref() == definition {
            return Ok(());
        }
        if Definitions::shipped().get(kind.as_str()).is_some() {
            return Err(EditError::Shipped { what: format!("type {kind}") });
        }
        let types = Arc::make_mut(&mut self.model.definitions).types_mut();
        match definition {
            Some(definition) => types.insert(kind.clone(), definition.clone()),
            None => types.remove(kind),
        };
        self.effects.push(Effect::DefinedType {
            kind: kind.clone(),
            old: old.map(Box::new),
            new: definition.cloned().map(Box::new),
        });
        self.recheck(kind);
        Ok(())
    }

    fn define(
        &mut self,
        kind: &TypeName,
        variable: &VariableName,
        definition: Option<&Definition>,
    ) -> Result<(), EditError> {
        let shipped = Definitions::shipped().get(kind.as_str());
        let is_shipped = shipped.is_some_and(|kind| kind.variables.contains_key(variable));
        let unknown = EditError::unknown_type(&self.model, kind);
        let types = Arc::make_mut(&mut self.model.definitions).types_mut();
        let variables = &mut types.get_mut(kind).ok_or(unknown)?.variables;
        let old = variables.get(variable).cloned();
        if old.as_ref() == definition {
            return Ok(());
        }
        if is_shipped {
            return Err(EditError::Shipped { what: format!("variable {variable} of type {kind}") });
        }
        match definition {
            Some(definition) => variables.insert(variable.clone(), definition.clone()),
            None => variables.remove(variable),
        };
        self.effects.push(Effect::Defined {
            kind: kind.clone(),
            variable: variable.clone(),
            old: old.map(Box::new),
            new: definition.cloned().map(Box::new),
        });
        self.recheck(kind);
        Ok(())
    }

    /// A definition changed: all that it is about is looked at again, and unique values are collected anew.
    fn recheck(&mut self, kind: &TypeName) {
        let definitions = Arc::clone(&self.model.definitions);
        let lenders = definitions.iter().filter(|(_, definition)| definition.lends_to.contains(kind));
        for concerned in lenders.map(|(lender, _)| lender).chain([kind]) {
            let ids: Vec<_> =
                self.model.entities(concerned.as_str()).map(|entity| entity.id().clone()).collect();
            self.touched.extend(ids);
        }
        if let Some(shelf) = self.model.shelves.get_mut(kind) {
            shelf.collect_holders(kind, &definitions);
        }
    }

    fn entity(&self, id: &EntityId) -> Result<&Arc<Entity>, EditError> {
        self.model
            .get(id.kind.as_str(), id.name.as_str())
            .ok_or_else(|| EditError::unknown_entity(&self.model, id))
    }
}
