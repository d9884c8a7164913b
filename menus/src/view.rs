//! How templates of either language look things up in the site.

/// One row of a table: the values of its columns, in the table's order.
pub type Row<'a> = Vec<(&'a str, &'a str)>;

/// One variable of an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its values, in order.
    pub values: Vec<&'a str>,
    /// Whether it may have several: a template then gets a list, be there only one just now.
    pub many: bool,
}

/// The site as templates see it: entities of a type, and their variables' values in order. A type, entity, variable
/// or table that does not exist is an empty answer: definitions say what must exist, not templates.
///
/// "Type" is the site's word; Rust keeps it for itself, hence `kind`.
pub trait ConfigView: Send + Sync {
    /// The names of all entities of that type, sorted.
    fn entities(&self, kind: &str) -> Vec<&str>;

    /// The variable's values, of which most have one or none. A column of a table is a variable too, with a value
    /// for each row.
    fn values(&self, kind: &str, entity: &str, variable: &str) -> Vec<&str>;

    /// The rows of a table.
    fn rows(&self, kind: &str, entity: &str, table: &str) -> Vec<Row<'_>>;

    /// All variables that count for the entity.
    fn variables(&self, kind: &str, entity: &str) -> Vec<Variable<'_>>;

    /// Whether there is such an entity.
    fn has_entity(&self, kind: &str, entity: &str) -> bool {
        self.entities(kind).binary_search(&entity).is_ok()
    }

    /// The names of the entities of that type of whose variable's values one is `value`, sorted.
    fn having(&self, kind: &str, variable: &str, value: &str) -> Vec<&str> {
        let mut names = self.entities(kind);
        names.retain(|entity| self.values(kind, entity, variable).contains(&value));
        names
    }
}

/// A site without entities.
#[derive(Debug, Clone, Copy, Default)]
pub struct EmptyView;

impl ConfigView for EmptyView {
    fn entities(&self, _: &str) -> Vec<&str> {
        Vec::new()
    }

    fn values(&self, _: &str, _: &str, _: &str) -> Vec<&str> {
        Vec::new()
    }

    fn rows(&self, _: &str, _: &str, _: &str) -> Vec<Row<'_>> {
        Vec::new()
    }

    fn variables(&self, _: &str, _: &str) -> Vec<Variable<'_>> {
        Vec::new()
    }
}
