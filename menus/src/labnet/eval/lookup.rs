//! What comes from the site: values, names and searches, and the defaults that say of what.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::rc::Rc;

use super::super::Fault;
use super::super::ast::{Content, Scope, Term};
use super::{Evaluated, Evaluator, Strings};

impl<'a> Evaluator<'a> {
    pub(super) fn kind_of(&mut self, given: Option<&'a Content>) -> Evaluated<Cow<'a, str>> {
        match given {
            // No type at all matches nothing, rather than what was not meant.
            Some(content) => Ok(self.string(content)?.unwrap_or_default()),
            None => Ok(self.kind.clone()),
        }
    }

    pub(super) fn entities_of(&mut self, given: Option<&'a Content>) -> Evaluated<Rc<Strings<'a>>> {
        match given {
            Some(content) => Ok(Rc::new(self.content(content)?)),
            None => Ok(Rc::clone(&self.entities)),
        }
    }

    pub(super) fn with_defaults(&mut self, scope: &'a Scope, body: &'a Content) -> Evaluated<Strings<'a>> {
        let kind = self.kind_of(scope.kind.as_ref())?;
        let entities = self.entities_of(scope.entity.as_ref())?;
        let outer =
            (std::mem::replace(&mut self.kind, kind), std::mem::replace(&mut self.entities, entities));
        let strings = self.content(body);
        (self.kind, self.entities) = outer;
        strings
    }

    pub(super) fn values(
        &mut self,
        at: usize,
        kind: &str,
        entities: &Strings<'a>,
        names: &'a Content,
    ) -> Evaluated<Strings<'a>> {
        let names = self.content(names)?;
        let mut strings = Vec::new();
        for entity in entities {
            for name in &names {
                let values = self.view.values(kind, entity, name);
                self.step(at, values.len())?;
                for value in values {
                    if let Some(reason) = self.language.objection(value) {
                        return Err(Fault::new(
                            at,
                            format!("the value of {name} of {kind} {entity} can't be printed here: {reason}"),
                        ));
                    }
                    strings.push(Cow::Borrowed(value));
                }
            }
        }
        Ok(strings)
    }

    /// Entity names, which a text may print: held to the same rule as values.
    pub(super) fn names_found(&mut self, at: usize, names: Vec<&'a str>) -> Evaluated<Strings<'a>> {
        self.step(at, names.len())?;
        if let Some(reason) = names.iter().find_map(|name| self.language.objection(name)) {
            return Err(Fault::new(at, format!("an entity's name can't be printed here: {reason}")));
        }
        Ok(names.into_iter().map(Cow::Borrowed).collect())
    }

    pub(super) fn search(
        &mut self,
        at: usize,
        all: bool,
        kind: Option<&'a Content>,
        terms: &'a [Term],
    ) -> Evaluated<Strings<'a>> {
        let kind = self.kind_of(kind)?;
        let mut names: Option<BTreeSet<&'a str>> = None;
        for term in terms {
            let variable = self.name(at, &term.variable, "var")?;
            let value = self.string(&term.value)?.unwrap_or_default();
            let having = self.view.having(&kind, &variable, &value);
            self.step(at, having.len())?;
            let having: BTreeSet<&'a str> = having.into_iter().collect();
            names = Some(match names {
                None => having,
                Some(names) if all => &names & &having,
                Some(names) => &names | &having,
            });
        }
        self.names_found(at, names.unwrap_or_default().into_iter().collect())
    }
}
