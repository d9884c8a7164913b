//! The site's model as templates see it, what is inherited included.

use site::Site;
use site::entity::{Editing, Model, Values};

use crate::view::{ConfigView, Row, Variable};

impl ConfigView for Model {
    fn entities(&self, kind: &str) -> Vec<&str> {
        self.entities(kind).map(|entity| entity.id().name.as_str()).collect()
    }

    fn values(&self, kind: &str, entity: &str, variable: &str) -> Vec<&str> {
        self.effective(kind, entity, variable).map(|found| found.values.iter().collect()).unwrap_or_default()
    }

    fn rows(&self, kind: &str, entity: &str, table: &str) -> Vec<Row<'_>> {
        let rows = self.rows(kind, entity, table).into_iter();
        rows.map(|row| row.into_iter().map(|(column, value)| (column.as_str(), value)).collect()).collect()
    }

    fn variables(&self, kind: &str, entity: &str) -> Vec<Variable<'_>> {
        let definitions = self.definitions();
        let all = self.all_effective(kind, entity).into_iter();
        all.map(|(name, found)| {
            let definition = definitions.definition(kind, name.as_str());
            Variable {
                name: name.as_str(),
                values: found.values.iter().collect(),
                // Without a definition there may be any number.
                many: definition.map_or(Editing::Inputs, |definition| definition.edit).is_many(),
            }
        })
        .collect()
    }

    fn has_entity(&self, kind: &str, entity: &str) -> bool {
        self.get(kind, entity).is_some()
    }

    fn having(&self, kind: &str, variable: &str, value: &str) -> Vec<&str> {
        if self.definitions().definition(kind, variable).is_some_and(|definition| definition.unique) {
            let holder = self.holder(kind, variable, value);
            return holder.map(|entity| entity.id().name.as_str()).into_iter().collect();
        }
        let has = |values: &Values| values.iter().any(|found| found == value);
        let names = self.entities(kind).map(|entity| entity.id().name.as_str());
        names
            .filter(|name| self.effective(kind, name, variable).is_some_and(|found| has(found.values)))
            .collect()
    }
}

/// The snapshot's model, so that a rendering can hold on to the snapshot.
impl ConfigView for Site {
    fn entities(&self, kind: &str) -> Vec<&str> {
        ConfigView::entities(self.model(), kind)
    }

    fn values(&self, kind: &str, entity: &str, variable: &str) -> Vec<&str> {
        ConfigView::values(self.model(), kind, entity, variable)
    }

    fn rows(&self, kind: &str, entity: &str, table: &str) -> Vec<Row<'_>> {
        ConfigView::rows(self.model(), kind, entity, table)
    }

    fn variables(&self, kind: &str, entity: &str) -> Vec<Variable<'_>> {
        ConfigView::variables(self.model(), kind, entity)
    }

    fn has_entity(&self, kind: &str, entity: &str) -> bool {
        ConfigView::has_entity(self.model(), kind, entity)
    }

    fn having(&self, kind: &str, variable: &str, value: &str) -> Vec<&str> {
        ConfigView::having(self.model(), kind, variable, value)
    }
}
