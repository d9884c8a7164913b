//! What a file wants the site to be: with each part its place, so that whatever turns out wrong can name it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::error::{ExchangeError, Place};
use crate::entity::{Definition, EntityId, TableName, TypeDefinition, TypeName, Values, VariableName};

/// A state of the site, or of a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Desired {
    /// `None`: it says nothing of definitions, so a prune leaves them alone.
    pub(super) types: Option<BTreeMap<TypeName, DesiredType>>,
    pub(super) entities: BTreeMap<EntityId, DesiredEntity>,
    /// What whoever applies it should know of how it was read.
    pub(super) notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DesiredType {
    pub(super) place: Place,
    /// What is said of the type itself, its `variables` left empty; `None`: nothing.
    pub(super) itself: Option<TypeDefinition>,
    pub(super) variables: BTreeMap<VariableName, (Place, Definition)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DesiredEntity {
    pub(super) place: Place,
    /// No values: it is to be unset.
    pub(super) variables: BTreeMap<VariableName, (Place, Values)>,
    /// Tables that were written row by row, with the columns that the rows have; their values are in `variables`.
    pub(super) tables: Vec<(Place, TableName, Vec<VariableName>)>,
}

impl Desired {
    /// How many entities it is about.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entities.len()
    }

    /// Whether it is about none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entities.is_empty()
    }

    /// What whoever applies it should know of how it was read: what was left out, renamed or defined.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Adds an entity.
    ///
    /// # Errors
    /// When it is there already.
    pub(super) fn entity(&mut self, id: EntityId, place: Place) -> Result<&mut DesiredEntity, ExchangeError> {
        match self.entities.entry(id) {
            Entry::Occupied(there) => {
                Err(place.wrong(format!("{} is there twice, first at {}", there.key(), there.get().place)))
            }
            Entry::Vacant(free) => {
                let entity = DesiredEntity { place, variables: BTreeMap::new(), tables: Vec::new() };
                Ok(free.insert(entity))
            }
        }
    }
}

impl DesiredEntity {
    /// Sets a variable.
    ///
    /// # Errors
    /// When it is set already.
    pub(super) fn set(
        &mut self,
        variable: VariableName,
        place: Place,
        values: Values,
    ) -> Result<(), ExchangeError> {
        match self.variables.entry(variable) {
            Entry::Occupied(there) => {
                let first = &there.get().0;
                Err(place.wrong(format!("{} is set twice, first at {first}", there.key())))
            }
            Entry::Vacant(free) => {
                free.insert((place, values));
                Ok(())
            }
        }
    }
}
