//! Changes: shown first, asked about where they are large, then made exactly as shown.

use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _, Write as _, stdin, stdout};

use hyper::Method;
use site::entity::{Definition, Format, Pattern, TypeDefinition, TypeName};

use super::super::args::Common;
use super::super::{Failure, print, show};
use super::args::{Changing, Define, EditWord, FormatWord};
use super::daemon;
use crate::control::entities::wire::{Ask, EditRequest, Outcome, Preview};

/// How much of a change is shown to people when nothing is asked, in lines. The log has the rest.
const LINES: usize = 200;

/// Shows what is asked for, and makes it unless it is only to be shown.
pub(super) async fn change(ask: &Ask, how: &Changing) -> Result<(), Failure> {
    let daemon = daemon(&how.common)?.why(how.why.as_deref());
    let preview: Preview = daemon.call(Method::POST, "/site/preview", Some(ask)).await?;
    let Preview { revision, edits, diff, entities, removes, notes } = preview;
    if let Some(wanted) = how.revision.filter(|wanted| *wanted != revision) {
        return Err(Failure {
            error: format!(
                "the site was changed in the meantime: it is at revision {revision}, not {wanted}"
            ),
            hint: Some(format!("see what changed with: bootd site diff {wanted}..")),
        });
    }
    if how.dry_run || diff.is_empty() {
        let outcome = Outcome { changed: !diff.is_empty(), made: false, revision, diff, notes };
        return show(how.common.json, &outcome, |outcome| shown(outcome, how.dry_run));
    }
    let is_prune = removes && matches!(ask, Ask::Apply { .. });
    if !how.yes && (entities > 1 || is_prune) {
        confirm(&diff, &notes, entities, how.common.json)?;
    }
    let request = EditRequest { edits, revision };
    let mut outcome: Outcome = daemon.call(Method::POST, "/site/edit", Some(&request)).await?;
    outcome.notes.extend(notes);
    show(how.common.json, &outcome, |outcome| shown(outcome, false))
}

fn shown(outcome: &Outcome, dry_run: bool) -> String {
    let mut out = listed(&outcome.diff, usize::MAX);
    for note in &outcome.notes {
        out.push_str(&format!("note: {note}\n"));
    }
    out.push_str(&match (outcome.changed, outcome.made, dry_run) {
        (false, ..) => format!("nothing to change: all is so already, at revision {}\n", outcome.revision),
        (true, true, _) => format!("done: revision {}\n", outcome.revision),
        (true, false, _) => format!(
            "nothing has changed yet: this is against revision {}, and made without --dry-run\n",
            outcome.revision
        ),
    });
    out
}

fn listed(diff: &[String], most: usize) -> String {
    let mut out: String = diff.iter().take(most).map(|line| format!("{line}\n")).collect();
    let more = diff.len().saturating_sub(most);
    if more > 0 {
        out.push_str(&format!("... and {more} lines more\n"));
    }
    out
}

/// Asks the person at the terminal. Without one, or with JSON, nobody can be asked.
fn confirm(diff: &[String], notes: &[String], entities: usize, json: bool) -> Result<(), Failure> {
    if json || !stdin().is_terminal() || !stdout().is_terminal() {
        return Err(Failure {
            error: format!(
                "this would change {entities} entities in {} ways, and nobody is here to be asked",
                diff.len()
            ),
            hint: Some("look at it with --dry-run, then say --yes".into()),
        });
    }
    print(&listed(diff, LINES))?;
    for note in notes {
        print(&format!("note: {note}\n"))?;
    }
    print(&format!("Change {entities} entities? [y/N] "))?;
    let _ = stdout().flush();
    let mut answer = String::new();
    stdin().lock().read_line(&mut answer).map_err(Failure::new)?;
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Failure::new("nothing has changed"))
}

/// `site define`: what is said over what is there.
pub(super) async fn define(define: Define) -> Result<(), Failure> {
    let types = types(&define.change.common).await?;
    let there = types.get(&define.what.kind);
    let ask = match &define.what.variable {
        Some(variable) => {
            let there = there.and_then(|kind| kind.variables.get(variable)).cloned();
            let definition = Box::new(variable_definition(&define, there.unwrap_or_default())?);
            Ask::Define { kind: define.what.kind.clone(), variable: variable.clone(), definition }
        }
        None => {
            let definition = Box::new(type_definition(&define, there.cloned().unwrap_or_default())?);
            Ask::DefineType { kind: define.what.kind.clone(), definition }
        }
    };
    change(&ask, &define.change).await
}

/// All types of the site.
pub(super) async fn types(common: &Common) -> Result<BTreeMap<TypeName, TypeDefinition>, Failure> {
    daemon(common)?.get("/site/types").await
}

fn pattern(text: &str) -> Result<Pattern, Failure> {
    Pattern::try_from(text.to_owned()).map_err(Failure::new)
}

fn variable_definition(define: &Define, there: Definition) -> Result<Definition, Failure> {
    use site::entity::{Choice, Editing};
    if define.open.is_some() {
        return Err(Failure::new("--open is for types; a variable is defined or not"));
    }
    let choice = match (&define.choice_type, define.choice.as_slice()) {
        (Some(kind), _) => Some(Choice::Entities { kind: kind.clone(), filter: define.choice_where.clone() }),
        (None, []) => there.choice.clone(),
        (None, values) => Some(Choice::Values(values.to_vec())),
    };
    let edit = match define.edit {
        Some(EditWord::Input) => Editing::Input,
        Some(EditWord::Inputs) => Editing::Inputs,
        Some(EditWord::OneOf) => Editing::OneOf,
        Some(EditWord::ManyOf) => Editing::ManyOf,
        Some(EditWord::Column) => Editing::Column,
        None if define.table.is_some() => Editing::Column,
        None => there.edit,
    };
    Ok(Definition {
        about: define.about.clone().unwrap_or(there.about),
        mandatory: define.mandatory.unwrap_or(there.mandatory),
        unique: define.unique.unwrap_or(there.unique),
        secret: define.secret.unwrap_or(there.secret),
        edit,
        format: match define.format {
            Some(FormatWord::Text) => Format::Text,
            Some(FormatWord::Mac) => Format::Mac,
            Some(FormatWord::Address) => Format::Address,
            Some(FormatWord::Uuid) => Format::Uuid,
            Some(FormatWord::Number) => Format::Number,
            Some(FormatWord::Size) => Format::Size,
            Some(FormatWord::Boolean) => Format::Boolean,
            None => there.format,
        },
        pattern: define.pattern.as_deref().map(pattern).transpose()?.or(there.pattern),
        choice,
        example: define.example.clone().or(there.example),
        table: match &define.table {
            Some(table) => Some(table.parse().map_err(|error: site::NameError| Failure::new(error))?),
            None => there.table,
        },
        place: define.place.unwrap_or(there.place),
    })
}

fn type_definition(define: &Define, there: TypeDefinition) -> Result<TypeDefinition, Failure> {
    let of_variables = define.mandatory.is_some()
        || define.unique.is_some()
        || define.secret.is_some()
        || define.edit.is_some()
        || define.format.is_some()
        || define.table.is_some()
        || define.place.is_some()
        || define.choice_type.is_some()
        || !define.choice.is_empty();
    if of_variables {
        return Err(Failure {
            error: "a type has only --about, --open, --pattern and --example".into(),
            hint: Some(format!(
                "to define a variable of it, write: bootd site define {}.VARIABLE",
                define.what.kind
            )),
        });
    }
    Ok(TypeDefinition {
        about: define.about.clone().unwrap_or(there.about),
        name: define.pattern.as_deref().map(pattern).transpose()?.or(there.name),
        name_example: define.example.clone().or(there.name_example),
        open: define.open.unwrap_or(there.open),
        lends_to: there.lends_to,
        variables: there.variables,
    })
}
