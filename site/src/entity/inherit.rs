//! What an entity has by itself, and what it inherits: a client or server takes what it does not set from its groups
//! in their order, then from the site's defaults. Unique variables are its own alone; a table is inherited whole, or
//! not at all.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::definition::Definition;
use super::model::Model;
use super::names::{EntityName, VariableName};
use super::record::Entity;
use super::values::Values;

/// The type whose entities lend to those that name them in [`GROUPS`].
pub const GROUP_TYPE: &str = "group";

/// The variable that lists an entity's groups.
pub const GROUPS: &str = "groups";

/// The variable that says what a client boots the next time only: what is used up can't be shared.
pub const BOOT_ONCE: &str = "boot_once";

/// The type of the one entity that lends to all.
pub const SITE_TYPE: &str = "site";

/// The name of that entity.
pub const SITE_DEFAULTS: &str = "defaults";

/// Whether a variable can be inherited at all.
pub(super) fn is_lent(definition: &Definition, variable: &str) -> bool {
    !definition.unique && ![GROUPS, BOOT_ONCE].contains(&variable)
}

/// Where an effective value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The entity itself.
    Own,
    /// One of its groups.
    Group(EntityName),
    /// The site's defaults.
    Site,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("its own"),
            Self::Group(name) => write!(f, "group {name}"),
            Self::Site => f.write_str("the site's defaults"),
        }
    }
}

/// A variable's values as they count for an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective<'a> {
    /// The values; never none.
    pub values: &'a Values,
    /// Whose they are.
    pub origin: Origin,
}

impl Model {
    /// A variable's values as they count for an entity; `None` where neither it nor anyone it inherits from sets it.
    #[must_use]
    pub fn effective(&self, kind: &str, name: &str, variable: &str) -> Option<Effective<'_>> {
        let entity = self.get(kind, name)?;
        if let Some(values) = entity.get(variable) {
            return Some(Effective { values, origin: Origin::Own });
        }
        // What its type does not know is the lender's own affair.
        let definition = self.definitions.definition(kind, variable)?;
        if !is_lent(definition, variable) {
            return None;
        }
        let columns = definition.table.as_ref().map(|table| self.definitions.columns(kind, table.as_str()));
        for (origin, lender) in self.lenders(entity) {
            let Some(columns) = &columns else {
                if let Some(values) = lender.get(variable) {
                    return Some(Effective { values, origin });
                }
                continue;
            };
            // Whoever has any column of a table has the table.
            if columns.iter().any(|column| entity.get(column.as_str()).is_some()) {
                return None;
            }
            if columns.iter().any(|column| lender.get(column.as_str()).is_some()) {
                return lender.get(variable).map(|values| Effective { values, origin });
            }
        }
        None
    }

    /// All variables that count for an entity, by name.
    #[must_use]
    pub fn all_effective(&self, kind: &str, name: &str) -> BTreeMap<&VariableName, Effective<'_>> {
        let Some(entity) = self.get(kind, name) else { return BTreeMap::new() };
        let lent = self.lenders(entity).flat_map(|(_, lender)| lender.variables());
        let names = entity.variables().chain(lent).map(|(variable, _)| variable);
        names
            .filter_map(|variable| Some((variable, self.effective(kind, name, variable.as_str())?)))
            .collect()
    }

    /// Those that an entity inherits from, the first before the later ones.
    fn lenders<'a>(&'a self, entity: &'a Entity) -> impl Iterator<Item = (Origin, &'a Entity)> {
        let kind = entity.id().kind.as_str();
        let from_groups = self.definitions.lends(GROUP_TYPE, kind);
        let from_site = self.definitions.lends(SITE_TYPE, kind);
        let groups = entity.get(GROUPS).filter(|_| from_groups).into_iter().flat_map(Values::iter);
        let groups = groups.filter_map(|name| {
            let group = self.get(GROUP_TYPE, name)?;
            Some((Origin::Group(group.id().name.clone()), group.as_ref()))
        });
        let site = self.get(SITE_TYPE, SITE_DEFAULTS).filter(|_| from_site);
        groups.chain(site.map(|site| (Origin::Site, site.as_ref())))
    }

    /// The mandatory variables that an entity lacks, by their place: with any missing it is inactive, stored but not
    /// served. `None`: there is no such entity.
    #[must_use]
    pub fn missing(&self, kind: &str, name: &str) -> Option<Vec<&VariableName>> {
        self.get(kind, name)?;
        let Some(definition) = self.definitions.get(kind) else { return Some(Vec::new()) };
        let mut missing: Vec<_> = definition
            .variables
            .iter()
            .filter(|(variable, definition)| {
                definition.mandatory && self.effective(kind, name, variable.as_str()).is_none()
            })
            .collect();
        missing.sort_by_key(|(variable, definition)| (definition.place, *variable));
        Some(missing.into_iter().map(|(variable, _)| variable).collect())
    }

    /// A table's rows as they count for an entity: for each the values of its columns, in their order. A column that
    /// ends early has empty cells.
    #[must_use]
    pub fn rows(&self, kind: &str, name: &str, table: &str) -> Vec<Vec<(&VariableName, &str)>> {
        let columns: Vec<_> = self
            .definitions
            .columns(kind, table)
            .into_iter()
            .map(|column| (column, self.effective(kind, name, column.as_str()).map(|e| e.values.iter())))
            .collect();
        let length =
            columns.iter().filter_map(|(_, values)| values.as_ref().map(ExactSizeIterator::len)).max();
        let mut columns = columns;
        (0..length.unwrap_or(0))
            .map(|_| {
                columns
                    .iter_mut()
                    .map(|(column, values)| {
                        (*column, values.as_mut().and_then(Iterator::next).unwrap_or_default())
                    })
                    .collect()
            })
            .collect()
    }
}
