//! From XML to a checked template: which element may stand where, with which arguments.

use regex::{Regex, RegexBuilder};
use roxmltree::{Document, Node as Xml, ParsingOptions};

use super::ast::{Condition, Content, LinePart, Node, Op, Operator, Pattern, Scope, Term};
use super::xml::{
    CONDITIONS, check_attributes, children, empty, fault, is, label, literal, misplaced, offset, pair, some,
};
use super::{Fault, MAX_DEPTH, MAX_NODES, MAX_PATTERN, MAX_PROGRAM};

pub(super) type Parsed<T> = Result<T, Fault>;

/// The content of `<Template>`.
pub(super) fn template(source: &str) -> Parsed<Content> {
    let options = ParsingOptions { nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(source, options).map_err(|error| {
        let reason = match error {
            roxmltree::Error::NodesLimitReached => {
                format!("a template may have {MAX_NODES} nodes, this has more")
            }
            ref error => error.to_string(),
        };
        // Ends in " at LINE:COLUMN", which the place says already.
        let reason = reason.rsplit_once(" at ").map_or(reason.as_str(), |(reason, _)| reason).to_owned();
        Fault::new(offset(source, error.pos()), reason)
    })?;
    let root = document.root_element();
    if root.tag_name().name() != "Template" {
        return Err(fault(root, "a template's outermost element is <Template>"));
    }
    Parser { depth: 0, loops: 0 }.content(&children(root))
}

struct Parser {
    depth: usize,
    /// How many `<iterateOverLists>` there are around.
    loops: usize,
}

impl Parser {
    fn content(&mut self, nodes: &[Xml<'_, '_>]) -> Parsed<Content> {
        nodes.iter().map(|node| self.node(*node)).collect()
    }

    /// The content of an element that holds names: words, blanks between them meaning nothing.
    fn names(&mut self, nodes: &[Xml<'_, '_>]) -> Parsed<Content> {
        let mut content = Vec::new();
        for node in nodes {
            if node.is_element() {
                content.push(self.node(*node)?);
                continue;
            }
            let words = node.text().unwrap_or_default().split_ascii_whitespace();
            let at = node.range().start;
            content.extend(words.map(|word| Node { at, op: Op::Text(word.to_owned()) }));
        }
        Ok(content)
    }

    fn node(&mut self, node: Xml<'_, '_>) -> Parsed<Node> {
        let at = node.range().start;
        if !node.is_element() {
            return Ok(Node { at, op: Op::Text(node.text().unwrap_or_default().to_owned()) });
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(fault(node, format!("elements may be nested {MAX_DEPTH} deep, this is deeper")));
        }
        let op = self.element(node)?;
        self.depth -= 1;
        Ok(Node { at, op })
    }

    fn element(&mut self, node: Xml<'_, '_>) -> Parsed<Op> {
        let name = node.tag_name().name();
        check_attributes(node)?;
        let inner = children(node);
        let op = match name {
            "literal" => Op::Text(literal(node)?),
            "self" => empty(node, Op::SelfName)?,
            "selftype" => empty(node, Op::SelfType)?,
            "def_entity" => empty(node, Op::DefEntity)?,
            "def_type" => empty(node, Op::DefType)?,
            "setvalue" => {
                let [name, value] = pair(node, &inner, "a name and a value")?;
                Op::SetValue { name: self.names(&[name])?, value: Box::new(self.node(value)?) }
            }
            "getvalue" => Op::GetValue(self.names(some(node, &inner, "a name")?)?),
            "setdefaults" => {
                let (scope, rest) = self.scope(node, &inner)?;
                if scope.kind.is_none() && scope.entity.is_none() {
                    return Err(fault(node, "setdefaults takes <type>, <entity> or both"));
                }
                let what = "content: its defaults hold for what it contains";
                Op::SetDefaults { scope, body: self.content(some(node, &rest, what)?)? }
            }
            "varVal" => {
                let (scope, rest) = self.scope(node, &inner)?;
                Op::VarVal { scope, names: self.names(some(node, &rest, "a variable's name")?)? }
            }
            "confVal" => {
                let (entity, rest) = self.optional(node, &inner, "entity")?;
                Op::ConfVal { entity, names: self.names(some(node, &rest, "a variable's name")?)? }
            }
            "OR_expr" | "AND_expr" => self.search(node, &inner, name == "AND_expr")?,
            "iterateOverLists" => self.iterate(node, &inner)?,
            "item" => self.item(node, &inner)?,
            "select" => {
                let (index, rest) = self.optional(node, &inner, "index")?;
                let index = index.ok_or_else(|| fault(node, "select takes an <index>"))?;
                Op::Select { index, strings: self.content(&rest)? }
            }
            "indexof" => match inner.as_slice() {
                [wanted, strings @ ..] if !strings.is_empty() => {
                    Op::IndexOf { wanted: Box::new(self.node(*wanted)?), strings: self.content(strings)? }
                }
                _ => return Err(fault(node, "indexof takes a string to look for, then strings")),
            },
            "numStrings" => Op::NumStrings(self.content(&inner)?),
            "plus" => self.arithmetic(node, &inner, Operator::Plus)?,
            "minus" => self.arithmetic(node, &inner, Operator::Minus)?,
            "mul" => self.arithmetic(node, &inner, Operator::Mul)?,
            "div" => self.arithmetic(node, &inner, Operator::Div)?,
            "if" => self.conditional(node, &inner)?,
            "substitute" => {
                let (pattern, rest) = self.pattern(node, &inner)?;
                let [string, with] = pair(node, &rest, "<pattern>, a string and what to put there")?;
                Op::Substitute {
                    pattern,
                    string: Box::new(self.node(string)?),
                    with: Box::new(self.node(with)?),
                }
            }
            "getentitylist" => Op::EntityList(self.names(&inner)?),
            "unique" => Op::Unique(self.content(&inner)?),
            "sorted" => Op::Sorted(self.content(&inner)?),
            "cat" => Op::Cat(self.content(&inner)?),
            "line" => Op::Line(self.line(&inner)?),
            _ => return Err(misplaced(node)),
        };
        Ok(op)
    }

    /// `<type>` and `<entity>`, and what is left.
    fn scope<'a, 'i>(
        &mut self,
        node: Xml<'a, 'i>,
        inner: &[Xml<'a, 'i>],
    ) -> Parsed<(Scope, Vec<Xml<'a, 'i>>)> {
        let (kind, rest) = self.optional(node, inner, "type")?;
        let (entity, rest) = self.optional(node, &rest, "entity")?;
        Ok((Scope { kind, entity }, rest))
    }

    /// The one child element of that name, if any, and what is left.
    fn optional<'a, 'i>(
        &mut self,
        node: Xml<'a, 'i>,
        inner: &[Xml<'a, 'i>],
        name: &str,
    ) -> Parsed<(Option<Content>, Vec<Xml<'a, 'i>>)> {
        let (found, rest): (Vec<_>, Vec<_>) = inner.iter().partition(|child| is(child, name));
        match found.as_slice() {
            [] => Ok((None, rest)),
            [one] => {
                check_attributes(*one)?;
                Ok((Some(self.names(&children(*one))?), rest))
            }
            [_, second, ..] => Err(fault(*second, format!("{} takes one <{name}>", label(node)))),
        }
    }

    fn search(&mut self, node: Xml<'_, '_>, inner: &[Xml<'_, '_>], all: bool) -> Parsed<Op> {
        let (kind, rest) = self.optional(node, inner, "type")?;
        let mut terms = Vec::new();
        for term in rest.chunks(2) {
            match term {
                [var, val] if is(var, "var") && is(val, "val") => terms.push(Term {
                    variable: self.names(&children(*var))?,
                    value: self.content(&children(*val))?,
                }),
                [child, ..] => {
                    return Err(fault(*child, format!("{} takes pairs of <var> and <val>", label(node))));
                }
                [] => {}
            }
        }
        if terms.is_empty() {
            return Err(fault(node, format!("{} takes at least one <var> and <val>", label(node))));
        }
        Ok(Op::Search { all, kind, terms })
    }

    fn iterate(&mut self, node: Xml<'_, '_>, inner: &[Xml<'_, '_>]) -> Parsed<Op> {
        let (lists, body): (Vec<_>, Vec<_>) = inner.iter().partition(|child| is(child, "iteratorList"));
        if lists.is_empty() {
            return Err(fault(node, "iterateOverLists takes at least one <iteratorList>"));
        }
        let lists =
            lists.iter().map(|list| self.content(&children(*list))).collect::<Parsed<Vec<Content>>>()?;
        self.loops += 1;
        let body = self.content(&body)?;
        self.loops -= 1;
        Ok(Op::Iterate { lists, body })
    }

    fn item(&mut self, node: Xml<'_, '_>, inner: &[Xml<'_, '_>]) -> Parsed<Op> {
        let level = match node.attribute("level") {
            None => 0,
            Some(text) => text.trim().parse().map_err(|_| {
                fault(
                    node,
                    format!("item's level is a whole number from 0, not \"{}\"", text.escape_default()),
                )
            })?,
        };
        if level >= self.loops {
            return Err(fault(
                node,
                format!("item at level {level} stands within {} iterateOverLists", self.loops),
            ));
        }
        let index = if inner.is_empty() { None } else { Some(self.names(inner)?) };
        Ok(Op::Item { level, index })
    }

    fn arithmetic(&mut self, node: Xml<'_, '_>, inner: &[Xml<'_, '_>], operator: Operator) -> Parsed<Op> {
        let [left, right] = pair(node, inner, "two numbers")?;
        Ok(Op::Arithmetic { operator, left: Box::new(self.node(left)?), right: Box::new(self.node(right)?) })
    }

    fn line(&mut self, inner: &[Xml<'_, '_>]) -> Parsed<Vec<LinePart>> {
        inner
            .iter()
            .map(|child| {
                if !is(child, "ts") {
                    return Ok(LinePart::Content(self.node(*child)?));
                }
                let column = self.names(&children(*child))?;
                Ok(LinePart::TabStop(child.range().start, column))
            })
            .collect()
    }

    /// `condition <then> [<elseif> condition <then> </elseif>]... [<else>]`
    fn conditional(&mut self, node: Xml<'_, '_>, inner: &[Xml<'_, '_>]) -> Parsed<Op> {
        let (mut branches, mut rest) = (Vec::new(), inner);
        branches.push(self.branch(node, &mut rest)?);
        while let [elseif, after @ ..] = rest
            && is(elseif, "elseif")
        {
            let own = children(*elseif);
            let mut own_rest = own.as_slice();
            branches.push(self.branch(*elseif, &mut own_rest)?);
            if let [extra, ..] = own_rest {
                return Err(fault(*extra, format!("{} after elseif's <then>", label(*extra))));
            }
            rest = after;
        }
        let mut otherwise = Content::new();
        if let [last, after @ ..] = rest
            && is(last, "else")
        {
            otherwise = self.content(&children(*last))?;
            rest = after;
        }
        match rest {
            [] => Ok(Op::If { branches, otherwise }),
            [extra, ..] => {
                Err(fault(*extra, format!("{} where if takes <elseif>, <else> or its end", label(*extra))))
            }
        }
    }

    fn branch(&mut self, node: Xml<'_, '_>, rest: &mut &[Xml<'_, '_>]) -> Parsed<(Condition, Content)> {
        match *rest {
            [condition, then, after @ ..] if is(then, "then") && !is(condition, "then") => {
                *rest = after;
                Ok((self.condition(*condition)?, self.content(&children(*then))?))
            }
            _ => Err(fault(node, format!("{} takes one condition, then <then>", label(node)))),
        }
    }

    fn condition(&mut self, node: Xml<'_, '_>) -> Parsed<Condition> {
        if !node.is_element() || !CONDITIONS.contains(&node.tag_name().name()) {
            return Ok(Condition::Value(self.node(node)?));
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(fault(node, format!("elements may be nested {MAX_DEPTH} deep, this is deeper")));
        }
        check_attributes(node)?;
        let inner = children(node);
        let condition = match node.tag_name().name() {
            name @ ("equal" | "noteq") => {
                let [left, right] = pair(node, &inner, "two values")?;
                Condition::Equal {
                    left: self.node(left)?,
                    right: self.node(right)?,
                    negated: name == "noteq",
                }
            }
            "hasvalue" => {
                let [strings, value] = pair(node, &inner, "strings and a value")?;
                Condition::HasValue { strings: self.node(strings)?, value: self.node(value)? }
            }
            "match" => {
                let (pattern, subject) = self.pattern(node, &inner)?;
                let subject = self.content(some(node, &subject, "<pattern> and a string to search")?)?;
                Condition::Match { pattern, subject }
            }
            "is_entity" => match inner.as_slice() {
                [name] => Condition::IsEntity { name: self.names(&[*name])?, kind: None },
                [name, kind] => {
                    Condition::IsEntity { name: self.names(&[*name])?, kind: Some(self.names(&[*kind])?) }
                }
                _ => return Err(fault(node, "is_entity takes an entity's name and perhaps a type")),
            },
            name => {
                let inner = some(node, &inner, "at least one condition")?;
                let parts = inner.iter().map(|part| self.condition(*part)).collect::<Parsed<_>>()?;
                if name == "or" { Condition::Any(parts) } else { Condition::All(parts) }
            }
        };
        self.depth -= 1;
        Ok(condition)
    }

    /// The `<pattern>`, and what is left.
    fn pattern<'a, 'i>(
        &mut self,
        node: Xml<'a, 'i>,
        inner: &[Xml<'a, 'i>],
    ) -> Parsed<(Pattern, Vec<Xml<'a, 'i>>)> {
        let (found, rest): (Vec<_>, Vec<_>) = inner.iter().partition(|child| is(child, "pattern"));
        let [pattern] = found.as_slice() else {
            return Err(fault(node, format!("{} takes one <pattern>", label(node))));
        };
        let inner = children(*pattern);
        let fixed = match inner.as_slice() {
            [text] if text.is_text() => Some(text.text().unwrap_or_default().to_owned()),
            [one] if is(one, "literal") => Some(literal(*one)?),
            _ => None,
        };
        let at = pattern.range().start;
        let pattern = match fixed {
            Some(text) => Pattern::Fixed(compile(&text, at)?),
            None => Pattern::Made { at, content: self.content(&inner)? },
        };
        Ok((pattern, rest))
    }
}

/// The expression, which can't take long to match: `regex` is linear in the text.
pub(super) fn compile(pattern: &str, at: usize) -> Parsed<Regex> {
    if pattern.len() > MAX_PATTERN {
        return Err(Fault::new(
            at,
            format!("a pattern may have {MAX_PATTERN} bytes, this has {}", pattern.len()),
        ));
    }
    RegexBuilder::new(pattern)
        .size_limit(MAX_PROGRAM)
        .dfa_size_limit(MAX_PROGRAM)
        .build()
        .map_err(|error| Fault::new(at, error.to_string()))
}
