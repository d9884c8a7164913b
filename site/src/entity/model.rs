//! The site's entities at one revision, and finding them.
//!
//! The maps are persistent: the model after an edit shares all that did not change with the model before it, so both
//! can be held, and making one takes as long as the edit is large, not the site.

use std::collections::BTreeMap;
use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

use super::definition::Definitions;
use super::names::{EntityId, EntityName, TypeName, VariableName};
use super::record::Entity;
use super::search::{Expression, Subjects};
use super::values::Values;
use crate::lookup::Lookup;

/// Everything known of the site at one revision. Never changed: [`apply`](Self::apply) makes another.
#[derive(Debug, Clone)]
pub struct Model {
    pub(super) revision: u64,
    pub(super) definitions: Arc<Definitions>,
    pub(super) shelves: BTreeMap<TypeName, Shelf>,
}

/// All entities of one type.
#[derive(Debug, Clone, Default)]
pub(super) struct Shelf {
    by_name: Lookup<EntityName, Arc<Entity>>,
    /// The same, for going through them in their order: finding one there takes a step for each time that their
    /// number is halved.
    in_order: RedBlackTreeMapSync<EntityName, Arc<Entity>>,
    /// For each unique variable who has which value.
    pub(super) holders: Lookup<VariableName, Lookup<Box<str>, EntityName>>,
}

impl Shelf {
    pub(super) fn get(&self, name: &str) -> Option<&Arc<Entity>> {
        self.by_name.get(name)
    }

    /// Puts an entity there, in the place of the one of its name.
    pub(super) fn put(&mut self, entity: Entity) {
        let (name, entity) = (entity.id().name.clone(), Arc::new(entity));
        self.by_name.insert_mut(name.clone(), Arc::clone(&entity));
        self.in_order.insert_mut(name, entity);
    }

    pub(super) fn remove(&mut self, name: &EntityName) {
        self.by_name.remove_mut(name);
        self.in_order.remove_mut(name);
    }

    pub(super) fn entities(&self) -> impl Iterator<Item = &Arc<Entity>> {
        self.in_order.values()
    }

    /// Makes the look-up of unique values anew.
    pub(super) fn collect_holders(&mut self, kind: &TypeName, definitions: &Definitions) {
        let definition = definitions.get(kind.as_str());
        let unique = definition.into_iter().flat_map(|definition| &definition.variables);
        let unique = unique.filter(|(_, definition)| definition.unique).map(|(variable, _)| variable);
        self.holders = unique
            .map(|variable| {
                let mut holders = Lookup::default();
                for (name, entity) in &self.in_order {
                    for value in entity.get(variable.as_str()).into_iter().flat_map(Values::iter) {
                        holders.insert_mut(value.into(), name.clone());
                    }
                }
                (variable.clone(), holders)
            })
            .collect();
    }
}

impl Default for Model {
    fn default() -> Self {
        Self::new(0, Definitions::shipped().clone())
    }
}

impl Model {
    /// A site without entities.
    #[must_use]
    pub fn new(revision: u64, definitions: Definitions) -> Self {
        Self { revision, definitions: Arc::new(definitions), shelves: BTreeMap::new() }
    }

    /// The model of entities that were checked when they were stored.
    #[must_use]
    pub fn restore(
        revision: u64,
        definitions: Definitions,
        entities: impl IntoIterator<Item = Entity>,
    ) -> Self {
        let mut model = Self::new(revision, definitions);
        for entity in entities {
            model.shelves.entry(entity.id().kind.clone()).or_default().put(entity);
        }
        for (kind, shelf) in &mut model.shelves {
            shelf.collect_holders(kind, &model.definitions);
        }
        model
    }

    /// Which edit it is as of; grows with every edit.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What is known of each type.
    #[must_use]
    pub fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    /// The entity of that type and name.
    #[must_use]
    pub fn get(&self, kind: &str, name: &str) -> Option<&Arc<Entity>> {
        self.shelves.get(kind)?.get(name)
    }

    /// All entities of a type, by name.
    pub fn entities(&self, kind: &str) -> impl Iterator<Item = &Arc<Entity>> {
        self.shelves.get(kind).into_iter().flat_map(Shelf::entities)
    }

    /// All entities, by type and name.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Entity>> {
        self.shelves.values().flat_map(Shelf::entities)
    }

    /// How many entities there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shelves.values().map(|shelf| shelf.in_order.size()).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entity of type `kind` whose unique variable has that value, in its canonical spelling.
    #[must_use]
    pub fn holder(&self, kind: &str, variable: &str, value: &str) -> Option<&Arc<Entity>> {
        let shelf = self.shelves.get(kind)?;
        shelf.get(shelf.holders.get(variable)?.get(value)?.as_str())
    }

    /// The entities that an expression holds for, by type and name. Variables count as inherited.
    #[must_use]
    pub fn search(&self, expression: &Expression) -> Vec<&Arc<Entity>> {
        self.all().filter(|entity| self.holds(expression, entity)).collect()
    }

    /// Whether an expression holds for one entity.
    #[must_use]
    pub fn holds(&self, expression: &Expression, entity: &Entity) -> bool {
        expression.holds(&Candidate { model: self, id: entity.id() })
    }
}

struct Candidate<'a> {
    model: &'a Model,
    id: &'a EntityId,
}

impl Subjects for Candidate<'_> {
    fn kind(&self) -> &str {
        self.id.kind.as_str()
    }

    fn name(&self) -> &str {
        self.id.name.as_str()
    }

    fn values(&self, variable: &str) -> Vec<&str> {
        let effective = self.model.effective(self.kind(), self.name(), variable);
        effective.map(|effective| effective.values.iter().collect()).unwrap_or_default()
    }
}
