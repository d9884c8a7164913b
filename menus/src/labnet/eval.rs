//! Expanding a checked template for one host.

mod lookup;
mod matching;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use regex::Regex;

use super::ast::{Content, LinePart, Node, Op};
use super::{Fault, Host, MAX_BYTES, MAX_COLUMN, MAX_STEPS};
use crate::escape::Language;
use crate::menus::MAX_OUTPUT;
use crate::stop::Stop;
use crate::view::ConfigView;

/// The types that `<confVal>` looks in: Labnet's own, where a site was moved over with it, else bootd's.
const CONF_TYPES: [&str; 2] = ["lnappconf", "app"];

/// What every element yields. None at all is NULL.
type Strings<'a> = Vec<Cow<'a, str>>;
type Evaluated<T> = Result<T, Fault>;

pub(super) fn expand(
    content: &Content,
    host: Host<'_>,
    view: &dyn ConfigView,
    language: Language,
    stop: &Stop,
) -> Evaluated<String> {
    let mut evaluator = Evaluator {
        view,
        host,
        language,
        kind: Cow::Borrowed(host.kind),
        entities: Rc::new(vec![Cow::Borrowed(host.name)]),
        loops: Vec::new(),
        variables: HashMap::new(),
        patterns: HashMap::new(),
        steps: 0,
        bytes: 0,
        stop,
    };
    let strings = evaluator.content(content)?;
    let length: usize = strings.iter().map(|string| string.len()).sum();
    if length > MAX_OUTPUT {
        return Err(Fault::new(0, format!("the text becomes longer than {MAX_OUTPUT} bytes")));
    }
    Ok(strings.concat())
}

struct Evaluator<'a> {
    view: &'a dyn ConfigView,
    host: Host<'a>,
    language: Language,
    /// What `<setdefaults>` sets.
    kind: Cow<'a, str>,
    entities: Rc<Strings<'a>>,
    /// The `<iterateOverLists>` around, the innermost last.
    loops: Vec<Pass<'a>>,
    /// What `<setvalue>` sets.
    variables: HashMap<String, Cow<'a, str>>,
    /// Regular expressions made while evaluating; a loop makes the same one again.
    patterns: HashMap<String, Rc<Regex>>,
    steps: usize,
    bytes: usize,
    stop: &'a Stop,
}

struct Pass<'a> {
    lists: Rc<Vec<Strings<'a>>>,
    index: usize,
}

impl<'a> Evaluator<'a> {
    fn content(&mut self, content: &'a [Node]) -> Evaluated<Strings<'a>> {
        match content {
            [one] => self.node(one),
            _ => {
                let mut strings = Vec::with_capacity(content.len());
                for node in content {
                    strings.append(&mut self.node(node)?);
                }
                Ok(strings)
            }
        }
    }

    /// One string of content that may be in pieces: of each piece its first, as one value is all that is used.
    fn string(&mut self, content: &'a [Node]) -> Evaluated<Option<Cow<'a, str>>> {
        let mut whole: Option<Cow<'a, str>> = None;
        for node in content {
            if let Some(piece) = self.first(node)? {
                whole = Some(match whole {
                    None => piece,
                    Some(begun) => self.made(node.at, begun.into_owned() + &piece)?,
                });
            }
        }
        Ok(whole)
    }

    fn first(&mut self, node: &'a Node) -> Evaluated<Option<Cow<'a, str>>> {
        Ok(self.node(node)?.into_iter().next())
    }

    /// A string that this evaluation made; all of them together are bounded.
    fn made(&mut self, at: usize, string: String) -> Evaluated<Cow<'a, str>> {
        self.bytes += string.len();
        if self.bytes > MAX_BYTES {
            return Err(Fault::new(at, format!("the template makes more than {MAX_BYTES} bytes of strings")));
        }
        Ok(Cow::Owned(string))
    }

    fn step(&mut self, at: usize, count: usize) -> Evaluated<()> {
        self.steps = self.steps.saturating_add(count);
        if self.steps > MAX_STEPS {
            return Err(Fault::new(at, format!("the template takes more than {MAX_STEPS} steps")));
        }
        if self.stop.is_stopped() {
            return Err(Fault::new(at, "it was told to end"));
        }
        Ok(())
    }

    fn node(&mut self, node: &'a Node) -> Evaluated<Strings<'a>> {
        let at = node.at;
        self.step(at, 1)?;
        match &node.op {
            Op::Text(text) => Ok(vec![Cow::Borrowed(text.as_str())]),
            Op::SelfName => Ok(vec![Cow::Borrowed(self.host.name)]),
            Op::SelfType => Ok(vec![Cow::Borrowed(self.host.kind)]),
            Op::DefEntity => Ok(self.entities.to_vec()),
            Op::DefType => Ok(vec![self.kind.clone()]),
            Op::SetValue { name, value } => {
                let name = self.name(at, name, "setvalue")?.into_owned();
                match self.first(value)? {
                    Some(value) => self.variables.insert(name, value),
                    None => self.variables.remove(&name),
                };
                Ok(Vec::new())
            }
            Op::GetValue(name) => {
                let name = self.name(at, name, "getvalue")?;
                Ok(self.variables.get(&*name).cloned().into_iter().collect())
            }
            Op::SetDefaults { scope, body } => self.with_defaults(scope, body),
            Op::VarVal { scope, names } => {
                let kind = self.kind_of(scope.kind.as_ref())?;
                let entities = self.entities_of(scope.entity.as_ref())?;
                self.values(at, &kind, &entities, names)
            }
            Op::ConfVal { entity, names } => {
                let entities = self.entities_of(entity.as_ref())?;
                for kind in CONF_TYPES {
                    let values = self.values(at, kind, &entities, names)?;
                    if !values.is_empty() {
                        return Ok(values);
                    }
                }
                Ok(Vec::new())
            }
            Op::Search { all, kind, terms } => self.search(at, *all, kind.as_ref(), terms),
            Op::Iterate { lists, body } => self.iterate(at, lists, body),
            Op::Item { level, index } => self.item(at, *level, index.as_ref()),
            Op::Select { index, strings } => {
                let Some(index) = self.string(index)? else { return Ok(Vec::new()) };
                let index = number(at, "select's index", &index)?;
                let mut strings = self.content(strings)?;
                let index = usize::try_from(index).ok().filter(|index| *index < strings.len());
                Ok(index.map(|index| strings.swap_remove(index)).into_iter().collect())
            }
            Op::IndexOf { wanted, strings } => {
                let wanted = self.first(wanted)?;
                let strings = self.content(strings)?;
                let found = wanted.and_then(|wanted| strings.iter().position(|string| *string == wanted));
                Ok(found.map(|index| Cow::Owned(index.to_string())).into_iter().collect())
            }
            Op::NumStrings(content) => Ok(vec![Cow::Owned(self.content(content)?.len().to_string())]),
            Op::Arithmetic { operator, left, right } => {
                let name = operator.name();
                let mut operand = |node| -> Evaluated<i64> {
                    match self.first(node)? {
                        Some(text) => number(node.at, name, &text),
                        None => Err(Fault::new(node.at, format!("{name}: a number is missing"))),
                    }
                };
                let (left, right) = (operand(left)?, operand(right)?);
                match operator.apply(left, right) {
                    Some(result) => Ok(vec![Cow::Owned(result.to_string())]),
                    None => Err(Fault::new(at, format!("{name} of {left} and {right} has no result"))),
                }
            }
            Op::If { branches, otherwise } => {
                for (condition, then) in branches {
                    if self.holds(condition)? {
                        return self.content(then);
                    }
                }
                self.content(otherwise)
            }
            Op::Substitute { pattern, string, with } => self.substitute(at, pattern, string, with),
            Op::EntityList(kind) => {
                let kind = self.kind_of(Some(kind).filter(|kind| !kind.is_empty()))?;
                let names = self.view.entities(&kind);
                self.names_found(at, names)
            }
            Op::Unique(content) => {
                let mut strings = self.content(content)?;
                let mut seen = HashSet::new();
                strings.retain(|string| seen.insert(string.clone()));
                Ok(strings)
            }
            Op::Sorted(content) => {
                let mut strings = self.content(content)?;
                strings.sort();
                Ok(strings)
            }
            Op::Cat(content) => {
                let strings = self.content(content)?;
                Ok(vec![self.made(at, strings.concat())?])
            }
            Op::Line(parts) => self.line(at, parts),
        }
    }

    /// The one name that an element takes.
    fn name(&mut self, at: usize, content: &'a [Node], element: &str) -> Evaluated<Cow<'a, str>> {
        let name = self.string(content)?;
        name.ok_or_else(|| Fault::new(at, format!("{element}: the name has no value")))
    }

    fn iterate(&mut self, at: usize, lists: &'a [Content], body: &'a Content) -> Evaluated<Strings<'a>> {
        let lists = lists.iter().map(|list| self.content(list)).collect::<Evaluated<Vec<_>>>()?;
        let passes = lists.first().map_or(0, Vec::len);
        if let Some((index, list)) = lists.iter().enumerate().find(|(_, list)| list.len() != passes) {
            return Err(Fault::new(
                at,
                format!("iteratorList {index} has {} strings, iteratorList 0 has {passes}", list.len()),
            ));
        }
        let lists = Rc::new(lists);
        let mut strings = Vec::with_capacity(passes);
        for index in 0..passes {
            self.step(at, 1)?;
            self.loops.push(Pass { lists: Rc::clone(&lists), index });
            let pass = self.content(body);
            self.loops.pop();
            strings.push(match <[_; 1]>::try_from(pass?) {
                Ok([one]) => one,
                Err(pieces) => self.made(at, pieces.concat())?,
            });
        }
        Ok(strings)
    }

    fn item(&mut self, at: usize, level: usize, index: Option<&'a Content>) -> Evaluated<Strings<'a>> {
        let list = match index {
            None => 0,
            Some(content) => {
                let text = self.name(at, content, "item")?;
                number(at, "item", &text)?
            }
        };
        let pass = self.loops.iter().rev().nth(level);
        let found = pass.and_then(|pass| pass.lists.get(usize::try_from(list).ok()?)?.get(pass.index));
        match found {
            Some(string) => Ok(vec![string.clone()]),
            None => {
                let lists = pass.map_or(0, |pass| pass.lists.len());
                Err(Fault::new(at, format!("item {list}: there are {lists} iteratorList, counted from 0")))
            }
        }
    }

    fn line(&mut self, at: usize, parts: &'a [LinePart]) -> Evaluated<Strings<'a>> {
        let mut line = String::new();
        for part in parts {
            match part {
                LinePart::Content(node) => self.node(node)?.iter().for_each(|string| line.push_str(string)),
                LinePart::TabStop(at, column) => {
                    let text = self.name(*at, column, "ts")?;
                    let column = number(*at, "ts", &text)?;
                    let column = usize::try_from(column).ok().filter(|column| *column <= MAX_COLUMN);
                    let column = column.ok_or_else(|| {
                        Fault::new(*at, format!("ts: a column from 0 to {MAX_COLUMN}, not {text}"))
                    })?;
                    let begun = line.rsplit('\n').next().unwrap_or_default().chars().count();
                    line.extend(std::iter::repeat_n(' ', column.saturating_sub(begun)));
                }
            }
        }
        line.push('\n');
        Ok(vec![self.made(at, line)?])
    }
}

fn number(at: usize, what: &str, text: &str) -> Evaluated<i64> {
    text.trim().parse().map_err(|_| {
        let shown: String = text.escape_default().take(40).collect();
        Fault::new(at, format!("{what}: \"{shown}\" is no whole number"))
    })
}
