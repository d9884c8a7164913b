//! What the parser asks of XML nodes, and how it says what is wrong with them.

use roxmltree::{Node as Xml, TextPos};

use super::ast::Op;
use super::{Fault, parse::Parsed};

/// Elements that are no values by themselves, and those that they are a part of.
const PARTS: &[(&str, &str)] = &[
    ("type", "setdefaults, varVal, OR_expr or AND_expr"),
    ("entity", "setdefaults, varVal or confVal"),
    ("var", "OR_expr or AND_expr"),
    ("val", "OR_expr or AND_expr"),
    ("iteratorList", "iterateOverLists"),
    ("index", "select"),
    ("pattern", "match or substitute"),
    ("then", "if or elseif"),
    ("elseif", "if"),
    ("else", "if"),
    ("ts", "line"),
];

/// Elements that are true or false, and so have no text.
pub(super) const CONDITIONS: &[&str] = &["equal", "noteq", "hasvalue", "match", "or", "and", "is_entity"];

pub(super) fn offset(source: &str, pos: TextPos) -> usize {
    let row = usize::try_from(pos.row).unwrap_or(1).saturating_sub(1);
    let column = usize::try_from(pos.col).unwrap_or(1).saturating_sub(1);
    let line_start: usize = source.split_inclusive('\n').take(row).map(str::len).sum();
    let line = source.get(line_start..).unwrap_or_default();
    line_start + line.char_indices().nth(column).map_or(line.len(), |(at, _)| at)
}

pub(super) fn fault(node: Xml<'_, '_>, reason: impl Into<String>) -> Fault {
    Fault::new(node.range().start, reason)
}

/// What counts: elements, and text that is not all blanks.
pub(super) fn children<'a, 'i>(node: Xml<'a, 'i>) -> Vec<Xml<'a, 'i>> {
    node.children()
        .filter(|child| {
            child.is_element()
                || (child.is_text() && !child.text().unwrap_or_default().trim_ascii().is_empty())
        })
        .collect()
}

pub(super) fn is(node: &Xml<'_, '_>, name: &str) -> bool {
    node.is_element() && node.tag_name().name() == name
}

/// How errors name a node.
pub(super) fn label(node: Xml<'_, '_>) -> String {
    if node.is_element() { format!("<{}>", node.tag_name().name()) } else { "text".to_owned() }
}

pub(super) fn literal(node: Xml<'_, '_>) -> Parsed<String> {
    match node.children().find(Xml::is_element) {
        Some(element) => Err(fault(element, format!("{} in literal, which holds text only", label(element)))),
        None => Ok(node.children().filter(Xml::is_text).filter_map(|text| text.text()).collect()),
    }
}

pub(super) fn empty(node: Xml<'_, '_>, op: Op) -> Parsed<Op> {
    match children(node).first() {
        Some(child) => Err(fault(*child, format!("{} takes nothing", label(node)))),
        None => Ok(op),
    }
}

pub(super) fn some<'s, 'a, 'i>(
    node: Xml<'a, 'i>,
    inner: &'s [Xml<'a, 'i>],
    what: &str,
) -> Parsed<&'s [Xml<'a, 'i>]> {
    if inner.is_empty() { Err(fault(node, format!("{} takes {what}", label(node)))) } else { Ok(inner) }
}

pub(super) fn pair<'a, 'i>(node: Xml<'a, 'i>, inner: &[Xml<'a, 'i>], what: &str) -> Parsed<[Xml<'a, 'i>; 2]> {
    match inner {
        [first, second] => Ok([*first, *second]),
        _ => Err(fault(node, format!("{} takes {what}; here are {} parts", label(node), inner.len()))),
    }
}

pub(super) fn check_attributes(node: Xml<'_, '_>) -> Parsed<()> {
    let known = |name: &str| name == "level" && is(&node, "item");
    match node.attributes().find(|attribute| !known(attribute.name())) {
        Some(attribute) => {
            Err(fault(node, format!("{} takes no attribute {}", label(node), attribute.name())))
        }
        None => Ok(()),
    }
}

pub(super) fn misplaced(node: Xml<'_, '_>) -> Fault {
    let name = node.tag_name().name();
    if let Some((_, whole)) = PARTS.iter().find(|(part, _)| *part == name) {
        return fault(node, format!("<{name}> stands within {whole} only"));
    }
    if CONDITIONS.contains(&name) {
        return fault(node, format!("<{name}> is true or false: it stands within if, elseif, and, or only"));
    }
    fault(node, format!("there is no element <{name}>"))
}
