//! How deep templates lead into each other.
//!
//! Tera renders an included template, a block and the same block of a parent (`super()`) by calling itself, and looks for
//! circles in the same way, each time on the stack of whoever loads or renders. It bounds none of that, and a stack that
//! overflows ends the process. So templates that lead deeper than [`MAX_LEVELS`] are refused before Tera sees them.

use std::collections::{BTreeMap, HashMap};

/// How many calls of Tera's a template may lead to, one within the other. One of them takes up to 50 KiB of stack in a build
/// without optimisation, and threads have 2 MiB.
pub(super) const MAX_LEVELS: usize = 24;

/// What a template leads to.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// The templates that it includes.
    pub(super) includes: Vec<String>,
    /// The template that it extends.
    pub(super) extends: Option<String>,
    /// How deep its blocks are nested.
    pub(super) nesting: usize,
}

/// Templates that lead too deep: the way, as far as it was followed.
#[derive(Debug)]
pub(super) struct TooDeep(pub(super) Vec<String>);

/// Checks all templates. What leads nowhere, or round in a circle, is left to Tera, which says so.
pub(super) fn check(all: &BTreeMap<&str, &Links>) -> Result<(), TooDeep> {
    let mut walk = Walk { all, known: HashMap::new(), way: Vec::new() };
    all.keys().try_for_each(|name| walk.levels(name).map(drop))
}

struct Walk<'a> {
    all: &'a BTreeMap<&'a str, &'a Links>,
    known: HashMap<&'a str, usize>,
    way: Vec<&'a str>,
}

impl<'a> Walk<'a> {
    /// How many calls it takes to render that template.
    fn levels(&mut self, name: &'a str) -> Result<usize, TooDeep> {
        if let Some(levels) = self.known.get(name) {
            return Ok(*levels);
        }
        if self.way.contains(&name) || !self.all.contains_key(name) {
            return Ok(0);
        }
        self.way.push(name);
        // Each on the way is one call at least, so this is as deep as we get ourselves.
        let too_deep = |way: &[&str]| TooDeep(way.iter().map(|name| (*name).to_owned()).collect());
        if self.way.len() > MAX_LEVELS {
            return Err(too_deep(&self.way));
        }
        let family = self.family(name);
        let nesting = family.iter().map(|links| links.nesting).max().unwrap_or_default();
        let mut deepest = 0;
        for include in family.iter().flat_map(|links| &links.includes) {
            deepest = deepest.max(self.levels(include)?);
        }
        // Each block may be rendered within the block around it, and there once for each template that has it.
        let levels = 1 + nesting * family.len() + deepest;
        if levels > MAX_LEVELS {
            return Err(too_deep(&self.way));
        }
        self.way.pop();
        self.known.insert(name, levels);
        Ok(levels)
    }

    /// A template with all that it extends, as far as is needed to see that they are too many.
    fn family(&self, name: &str) -> Vec<&'a Links> {
        let first = self.all.get(name).copied();
        let parent = |links: &&'a Links| self.all.get(links.extends.as_deref()?).copied();
        std::iter::successors(first, parent).take(MAX_LEVELS + 1).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(length: usize, link: impl Fn(String) -> Links) -> Vec<(String, Links)> {
        let one = |n: usize| (format!("t{n}"), link(format!("t{}", n + 1)));
        (0..length).map(one).chain([(format!("t{length}"), Links::default())]).collect()
    }

    fn checked(all: &[(String, Links)]) -> Result<(), TooDeep> {
        check(&all.iter().map(|(name, links)| (name.as_str(), links)).collect())
    }

    #[test]
    fn chains_may_be_so_long_and_not_longer() {
        let includes = |to: String| Links { includes: vec![to.clone(), to], ..Links::default() };
        assert!(checked(&chain(MAX_LEVELS - 1, includes)).is_ok());
        let TooDeep(way) = checked(&chain(MAX_LEVELS, includes)).unwrap_err();
        assert!(way.len() <= MAX_LEVELS + 1 && !way.is_empty(), "{way:?}");
        assert!(checked(&chain(100_000, includes)).is_err());

        let extends = |to: String| Links { extends: Some(to), nesting: 1, ..Links::default() };
        assert!(checked(&chain(MAX_LEVELS - 2, extends)).is_ok());
        assert!(checked(&chain(MAX_LEVELS, extends)).is_err());
        assert!(checked(&chain(100_000, extends)).is_err());
    }

    #[test]
    fn circles_and_what_is_missing_are_left_to_tera() {
        let links = |to: &str| Links { includes: vec![to.to_owned()], ..Links::default() };
        let circle =
            [("a".to_owned(), links("b")), ("b".to_owned(), links("a")), ("c".to_owned(), links("x"))];
        assert!(checked(&circle).is_ok());
        let itself = [("a".to_owned(), Links { extends: Some("a".to_owned()), ..Links::default() })];
        assert!(checked(&itself).is_ok());
    }
}
