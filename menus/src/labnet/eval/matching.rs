//! Conditions, and what regular expressions do.

use std::borrow::Cow;
use std::rc::Rc;

use regex::Regex;

use super::super::ast::{Condition, Node, Pattern};
use super::super::parse::compile;
use super::{Evaluated, Evaluator, Strings};

impl<'a> Evaluator<'a> {
    pub(super) fn holds(&mut self, condition: &'a Condition) -> Evaluated<bool> {
        match condition {
            Condition::Equal { left, right, negated } => {
                let left = self.first(left)?.unwrap_or_default();
                let right = self.first(right)?.unwrap_or_default();
                Ok((left == right) != *negated)
            }
            Condition::HasValue { strings, value } => {
                let strings = self.node(strings)?;
                let value = self.first(value)?;
                Ok(value.is_some_and(|value| strings.contains(&value)))
            }
            Condition::Match { pattern, subject } => {
                let pattern = self.pattern(pattern)?;
                let subject = self.string(subject)?;
                Ok(subject.is_some_and(|subject| pattern.is_match(&subject)))
            }
            Condition::Any(parts) => {
                for part in parts {
                    if self.holds(part)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Condition::All(parts) => {
                for part in parts {
                    if !self.holds(part)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Condition::IsEntity { name, kind } => {
                let kind = self.kind_of(kind.as_ref())?;
                let name = self.string(name)?;
                Ok(name.is_some_and(|name| self.view.has_entity(&kind, &name)))
            }
            Condition::Value(node) => Ok(!self.node(node)?.is_empty()),
        }
    }

    pub(super) fn pattern(&mut self, pattern: &'a Pattern) -> Evaluated<Cow<'a, Regex>> {
        match pattern {
            Pattern::Fixed(regex) => Ok(Cow::Borrowed(regex)),
            Pattern::Made { at, content } => {
                let text = self.string(content)?.unwrap_or_default();
                if let Some(regex) = self.patterns.get(&*text) {
                    return Ok(Cow::Owned(Regex::clone(regex)));
                }
                // Compiling is a thousand times the work of an element.
                self.step(*at, 1000)?;
                let regex = compile(&text, *at)?;
                self.patterns.insert(text.into_owned(), Rc::new(regex.clone()));
                Ok(Cow::Owned(regex))
            }
        }
    }

    pub(super) fn substitute(
        &mut self,
        at: usize,
        pattern: &'a Pattern,
        string: &'a Node,
        with: &'a Node,
    ) -> Evaluated<Strings<'a>> {
        let pattern = self.pattern(pattern)?;
        let Some(string) = self.first(string)? else { return Ok(Vec::new()) };
        let with = self.first(with)?.unwrap_or_default();
        let Some(groups) = pattern.captures(&string) else { return Ok(vec![string]) };
        let whole = groups.get(0).map_or(0..0, |whole| whole.range());
        let mut text = string.get(..whole.start).unwrap_or_default().to_owned();
        let mut rest = &*with;
        while let Some((before, after)) = rest.split_once('\\') {
            text.push_str(before);
            let digit = after.chars().next().and_then(|digit| digit.to_digit(10));
            match digit.and_then(|digit| usize::try_from(digit).ok()) {
                Some(group) => {
                    text.push_str(groups.get(group).map_or("", |group| group.as_str()));
                    rest = after.get(1..).unwrap_or_default();
                }
                None => {
                    text.push('\\');
                    rest = after;
                }
            }
        }
        text.push_str(rest);
        text.push_str(string.get(whole.end..).unwrap_or_default());
        Ok(vec![self.made(at, text)?])
    }
}
