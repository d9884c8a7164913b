//! What is looked at: entities, types, and what was changed.

use std::collections::BTreeMap;

use hyper::Method;
use site::entity::{
    Choice, Definition, Definitions, Editing, EntityId, Expression, Format, Origin, TypeName, Values,
    VariableName,
};

use super::super::args::Common;
use super::super::table::{facts, lines, table};
use super::super::when::moment;
use super::super::{Failure, print, show};
use super::args::Range;
use super::change::types as all_types;
use super::daemon;
use crate::control::entities::wire::{EntityView, LogEntry, Search, ValueView};

/// How much of a value a table shows, in characters.
const SHOWN: usize = 60;

/// How many revisions are asked for at once.
const PAGE: usize = 200;

async fn found(filter: Option<Expression>, common: &Common) -> Result<Vec<EntityView>, Failure> {
    daemon(common)?.call(Method::POST, "/site/search", Some(&Search { filter, secrets: false })).await
}

/// `site list`.
pub(super) async fn list(kind: Option<&TypeName>, common: &Common) -> Result<(), Failure> {
    let filter = kind.map(|kind| format!("type={kind}").parse()).transpose().map_err(Failure::new)?;
    let all = found(filter, common).await?;
    if let (Some(kind), true) = (kind, all.is_empty()) {
        let types = all_types(common).await?;
        if !types.contains_key(kind) {
            let known: Vec<_> = types.keys().map(TypeName::as_str).collect();
            return Err(Failure::new(format!("there is no type {kind}; there are: {}", known.join(", "))));
        }
    }
    show(common.json, &all, |all| {
        if all.is_empty() {
            return "no entities yet; make one with: bootd site create TYPE/NAME VARIABLE=VALUE\n".to_owned();
        }
        let row = |entity: &EntityView| {
            let own = entity.variables.values().filter(|value| value.from == Origin::Own).count();
            [
                format!("{}/{}", entity.kind, entity.name),
                own.to_string(),
                entity
                    .inactive
                    .as_ref()
                    .map_or_else(|| "active".to_owned(), |why| format!("inactive: {why}")),
            ]
        };
        table(["ENTITY", "VARIABLES", "STATE"], &all.iter().map(row).collect::<Vec<_>>())
    })
}

/// `site search`.
pub(super) async fn search(
    filter: Expression,
    mut variables: Vec<VariableName>,
    common: &Common,
) -> Result<(), Failure> {
    let text = filter.to_string();
    let mut all = found(Some(filter), common).await?;
    if variables.is_empty() {
        variables = named(&text);
    } else {
        // JSON has what was asked for, too.
        for entity in &mut all {
            entity.variables.retain(|variable, _| variables.contains(variable));
        }
    }
    show(common.json, &all, |all| {
        if all.is_empty() {
            return format!("no entity fits \"{text}\"\n");
        }
        let head: Vec<String> = ["ENTITY".to_owned()]
            .into_iter()
            .chain(variables.iter().map(|name| name.to_string().to_uppercase()))
            .collect();
        let row = |entity: &EntityView| {
            let cell = |name| {
                entity.variables.get(name).map_or_else(|| "-".to_owned(), |value| joined(&value.values))
            };
            let cells = variables.iter().map(cell);
            [format!("{}/{}", entity.kind, entity.name)].into_iter().chain(cells).collect::<Vec<_>>()
        };
        lines(&head, &all.iter().map(row).collect::<Vec<_>>())
    })
}

/// The variables that an expression names.
fn named(expression: &str) -> Vec<VariableName> {
    let mut names: Vec<VariableName> = Vec::new();
    let mut rest = expression;
    while let Some(at) = rest.find(['=', '~']) {
        let (before, after) = rest.split_at(at);
        let before = before.trim_end_matches('!');
        let begin = before.rfind([' ', '\t', '\n', '(', ')', '"', '=']).map_or(0, |at| at + 1);
        let word = before.get(begin..).unwrap_or_default();
        let after = after.get(1..).unwrap_or_default();
        let name =
            if word == "missing" { after.split([' ', ')', '\t']).next().unwrap_or_default() } else { word };
        if !matches!(name, "type" | "name" | "missing")
            && let Ok(name) = name.parse()
            && !names.contains(&name)
        {
            names.push(name);
        }
        // A value in quotes may hold anything.
        rest = match after.strip_prefix('"') {
            Some(quoted) => quoted.find('"').and_then(|end| quoted.get(end + 1..)).unwrap_or_default(),
            None => after,
        };
    }
    names
}

/// Values in one cell.
fn joined(values: &Values) -> String {
    let all: Vec<String> = values.iter().map(|value| value.escape_debug().to_string()).collect();
    let text = all.join(", ");
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// `site show`.
pub(super) async fn show_one(entity: &EntityId, secrets: bool, common: &Common) -> Result<(), Failure> {
    let path = format!("/site/entities/{}/{}?secrets={secrets}", entity.kind, entity.name);
    let view: EntityView = daemon(common)?.get(&path).await?;
    show(common.json, &view, describe)
}

fn describe(view: &EntityView) -> String {
    let state = view.inactive.as_ref().map_or_else(|| "active".to_owned(), |why| format!("inactive: {why}"));
    let mut out = facts(&[("entity", format!("{}/{}", view.kind, view.name)), ("state", state)]);
    out.push_str(&values(&view.variables));
    out
}

/// Variables with where their values come from, then each table by rows.
pub(in crate::cli) fn values(variables: &BTreeMap<VariableName, ValueView>) -> String {
    let mut out = String::new();
    let mut tables: BTreeMap<&str, Vec<(&VariableName, &ValueView)>> = BTreeMap::new();
    let mut rows = Vec::new();
    for (name, value) in variables {
        match &value.table {
            Some(table) => tables.entry(table).or_default().push((name, value)),
            None => rows.push([name.to_string(), joined(&value.values), value.from.to_string()]),
        }
    }
    if !rows.is_empty() {
        out.push('\n');
        out.push_str(&table(["VARIABLE", "VALUE", "FROM"], &rows));
    }
    for (name, columns) in tables {
        let from = columns.first().map(|(_, value)| value.from.to_string()).unwrap_or_default();
        let length = columns.iter().map(|(_, value)| value.values.len()).max().unwrap_or_default();
        let head: Vec<String> = columns.iter().map(|(column, _)| column.to_string().to_uppercase()).collect();
        let cell = |row| {
            move |(_, value): &(&VariableName, &ValueView)| {
                value.values.iter().nth(row).unwrap_or_default().escape_debug().to_string()
            }
        };
        let rows: Vec<Vec<String>> = (0..length).map(|row| columns.iter().map(cell(row)).collect()).collect();
        out.push_str(&format!("\nTable {name}, {from}:\n{}", lines(&head, &rows)));
    }
    out
}

/// `site types`.
pub(super) async fn types(kind: Option<&TypeName>, common: &Common) -> Result<(), Failure> {
    let types = all_types(common).await?;
    let Some(kind) = kind else {
        return show(common.json, &types, |types| {
            let rows: Vec<_> = types
                .iter()
                .map(|(name, kind)| {
                    let own = Definitions::shipped().get(name.as_str()).map_or("the site's", |_| "bootd's");
                    [name.to_string(), kind.variables.len().to_string(), own.to_owned(), kind.about.clone()]
                })
                .collect();
            table(["TYPE", "VARIABLES", "WHOSE", "ABOUT"], &rows)
        });
    };
    let Some(definition) = types.get(kind) else {
        let known: Vec<_> = types.keys().map(TypeName::as_str).collect();
        return Err(Failure::new(format!("there is no type {kind}; there are: {}", known.join(", "))));
    };
    show(common.json, definition, |definition| {
        let mut all: Vec<_> = definition.variables.iter().collect();
        all.sort_by_key(|(name, variable)| (variable.place, *name));
        let rows: Vec<_> = all
            .into_iter()
            .map(|(name, variable)| [name.to_string(), rule(variable), variable.about.clone()])
            .collect();
        let mut out = format!("{}\n", definition.about);
        if definition.open {
            out.push_str("Its entities may hold variables that are not defined, too.\n");
        }
        if !definition.lends_to.is_empty() {
            let to: Vec<_> = definition.lends_to.iter().map(TypeName::as_str).collect();
            out.push_str(&format!(
                "Its entities also hold values for those of type {} to inherit.\n",
                to.join(", ")
            ));
        }
        out + "\n" + &table(["VARIABLE", "RULE", "ABOUT"], &rows)
    })
}

/// What holds for a variable's values.
fn rule(definition: &Definition) -> String {
    let mut parts = Vec::new();
    let flags =
        [("mandatory", definition.mandatory), ("unique", definition.unique), ("secret", definition.secret)];
    parts.extend(flags.iter().filter(|(_, is)| *is).map(|(word, _)| (*word).to_owned()));
    match (&definition.table, definition.edit) {
        (Some(table), _) => parts.push(format!("column of {table}")),
        (None, Editing::Inputs | Editing::ManyOf) => parts.push("list".into()),
        _ => {}
    }
    if definition.format != Format::Text {
        parts.push(format!("{:?}", definition.format).to_lowercase());
    }
    parts.extend(definition.pattern.as_ref().map(|pattern| pattern.as_str().to_owned()));
    match &definition.choice {
        Some(Choice::Values(values)) => parts.push(format!("one of {}", values.join(", "))),
        Some(Choice::Entities { kind, filter: None }) => parts.push(format!("a {kind}")),
        Some(Choice::Entities { kind, filter: Some(filter) }) => {
            parts.push(format!("a {kind} with {filter}"));
        }
        None => {}
    }
    if parts.is_empty() { "text".to_owned() } else { parts.join(", ") }
}

async fn revisions(
    entity: Option<&EntityId>,
    before: Option<u64>,
    limit: Option<usize>,
    common: &Common,
) -> Result<Vec<LogEntry>, Failure> {
    let mut query = Vec::new();
    // Neither a type's nor an entity's name has a sign that a query would have to quote but "+".
    query.extend(entity.map(|entity| format!("entity={}", entity.to_string().replace('+', "%2B"))));
    query.extend(before.map(|before| format!("before={before}")));
    query.extend(limit.map(|limit| format!("limit={limit}")));
    daemon(common)?.get(&format!("/site/log?{}", query.join("&"))).await
}

/// `site log`.
pub(super) async fn log(
    entity: Option<&EntityId>,
    before: Option<u64>,
    limit: Option<usize>,
    common: &Common,
) -> Result<(), Failure> {
    let log = revisions(entity, before, limit, common).await?;
    show(common.json, &log, |log| {
        if log.is_empty() {
            return "nothing was changed yet\n".to_owned();
        }
        let row = |entry: &LogEntry| {
            let what = match entry.diff.as_slice() {
                [] => "?".to_owned(),
                [one] => one.clone(),
                [first, rest @ ..] => format!("{first} and {} more", rest.len()),
            };
            let short = match what.char_indices().nth(SHOWN * 2) {
                Some((end, _)) => format!("{}...", what.get(..end).unwrap_or_default()),
                None => what,
            };
            [
                entry.revision.to_string(),
                moment(entry.at),
                entry.who.clone(),
                entry.why.as_deref().map_or_else(|| "-".to_owned(), |why| why.replace('\n', " ")),
                short,
            ]
        };
        table(["REVISION", "WHEN", "WHO", "WHY", "WHAT"], &log.iter().map(row).collect::<Vec<_>>())
    })
}

/// `site diff`.
pub(super) async fn diff(range: Range, common: &Common) -> Result<(), Failure> {
    let mut all: Vec<LogEntry> = Vec::new();
    let mut before = range.to.and_then(|to| to.checked_add(1));
    loop {
        let page = revisions(None, before, Some(PAGE), common).await?;
        let last = page.last().map_or(0, |entry| entry.revision);
        all.extend(page.into_iter().filter(|entry| entry.revision > range.after));
        if last <= range.after + 1 {
            break;
        }
        before = Some(last);
    }
    all.reverse();
    if all.is_empty() {
        let what = match range.to {
            Some(to) if to == range.after + 1 => format!("there is no revision {to}"),
            _ => format!("nothing was changed after revision {}", range.after),
        };
        if common.json {
            return print("[]\n");
        }
        return Err(Failure { error: what, hint: Some("see what there is with: bootd site log".into()) });
    }
    show(common.json, &all, |all| {
        let one = |entry: &LogEntry| {
            let why = entry.why.as_ref().map_or(String::new(), |why| format!(": {why}"));
            let head = format!("revision {}, {}, {}{why}\n", entry.revision, moment(entry.at), entry.who);
            head + &entry.diff.iter().map(|line| format!("{line}\n")).collect::<String>()
        };
        all.iter().map(one).collect::<Vec<_>>().join("\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_shows_what_it_asks_for() {
        let names = |text: &str| named(text).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(
            names("type=client room=EN1018 (server!~^m or name=x) not missing=image"),
            "room server image"
        );
        assert_eq!(names("about=\"a=b c~d\" room!=x room=y"), "about room");
    }

    #[test]
    fn values_stand_beside_their_origin_and_tables_by_rows() {
        let value = |values: &[&str], from, table: Option<&str>| ValueView {
            values: values.iter().copied().collect(),
            from,
            table: table.map(str::to_owned),
        };
        let variables = BTreeMap::from([
            ("room".parse().unwrap(), value(&["EN1018"], Origin::Group("en1018".parse().unwrap()), None)),
            ("user".parse().unwrap(), value(&["a", "b"], Origin::Own, Some("access"))),
            ("perm".parse().unwrap(), value(&["x", "y"], Origin::Own, Some("access"))),
        ]);
        let text = values(&variables);
        assert!(text.contains("room      EN1018  group en1018\n"), "{text}");
        assert!(text.contains("Table access, its own:\nPERM  USER\nx     a\ny     b\n"), "{text}");
    }
}
