//! One entity: its variables and their values. A table is the columns that its type's definitions name, each a
//! variable with a value for every row, as Labnet kept it; so a template reads a column as any other variable.

use serde::{Deserialize, Serialize};

use super::names::{EntityId, VariableName};
use super::values::Values;

/// An entity as it is stored. Never changed: an edit makes another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    id: EntityId,
    /// By name, each once, none without values.
    variables: Vec<(VariableName, Values)>,
}

impl Entity {
    /// An entity without variables.
    #[must_use]
    pub fn new(id: EntityId) -> Self {
        Self { id, variables: Vec::new() }
    }

    /// An entity with these variables, each once.
    #[must_use]
    pub fn with(id: EntityId, variables: impl IntoIterator<Item = (VariableName, Values)>) -> Self {
        let mut entity = Self::new(id);
        for (variable, values) in variables {
            entity.set(variable, values);
        }
        entity
    }

    /// Its type and name.
    #[must_use]
    pub fn id(&self) -> &EntityId {
        &self.id
    }

    /// The values of one variable, if it is set.
    #[must_use]
    pub fn get(&self, variable: &str) -> Option<&Values> {
        let at = self.find(variable).ok()?;
        self.variables.get(at).map(|(_, values)| values)
    }

    /// All variables that are set, by name.
    pub fn variables(&self) -> impl ExactSizeIterator<Item = (&VariableName, &Values)> {
        self.variables.iter().map(|(name, values)| (name, values))
    }

    /// Sets a variable; no values unset it. Returns what it was.
    pub(super) fn set(&mut self, variable: VariableName, values: Values) -> Values {
        match (self.find(variable.as_str()), values.is_empty()) {
            (Ok(at), true) => self.variables.remove(at).1,
            (Ok(at), false) => match self.variables.get_mut(at) {
                Some((_, old)) => std::mem::replace(old, values),
                None => Values::default(),
            },
            (Err(_), true) => Values::default(),
            (Err(at), false) => {
                self.variables.insert(at, (variable, values));
                Values::default()
            }
        }
    }

    fn find(&self, variable: &str) -> Result<usize, usize> {
        self.variables.binary_search_by(|(name, _)| name.as_str().cmp(variable))
    }
}
