//! `bootd site`.

use super::Failure;
use super::args::Common;
use super::daemon::Daemon;

mod args;
mod change;
mod files;
mod look;

pub(super) use args::SiteCommand;
use args::{Assignment, changes};
use change::change;
pub(super) use look::values;
use site::entity::{EntityId, Expression, Values, VariableName};

use crate::control::entities::wire::{Ask, Change, How, Which};

pub(super) async fn run(command: SiteCommand) -> Result<(), Failure> {
    match command {
        SiteCommand::List { kind, common } => look::list(kind.as_ref(), &common).await,
        SiteCommand::Search { filter, show, common } => look::search(filter, show, &common).await,
        SiteCommand::Show { entity, secrets, common } => look::show_one(&entity, secrets, &common).await,
        SiteCommand::Types { kind, common } => look::types(kind.as_ref(), &common).await,
        SiteCommand::Log { entity, before, limit, common } => {
            look::log(entity.as_ref(), before, limit, &common).await
        }
        SiteCommand::Diff { revisions, common } => look::diff(revisions, &common).await,
        SiteCommand::Create { entity, variables, change: how } => {
            let variables = changes(variables).map_err(Failure::new)?;
            if let Some(odd) = variables.iter().find(|change| change.how != How::Set) {
                return Err(Failure::new(format!(
                    "{}: a new entity has nothing to add to; use =",
                    odd.variable
                )));
            }
            change(&Ask::Create { entity, variables }, &how).await
        }
        SiteCommand::Set { words, filter, change: how } => {
            let (which, words) = subject(words, filter)?;
            let assignments = words.iter().map(|word| word.parse::<Assignment>());
            let assignments = assignments.collect::<Result<_, _>>().map_err(Failure::new)?;
            let variables = changes(assignments).map_err(Failure::new)?;
            if variables.is_empty() {
                return Err(Failure::new("nothing to set; write VARIABLE=VALUE, for example room=EN1018"));
            }
            change(&Ask::Set { which, variables }, &how).await
        }
        SiteCommand::Unset { words, filter, change: how } => {
            let (which, words) = subject(words, filter)?;
            let unset = |word: &String| {
                let variable: VariableName =
                    word.parse().map_err(|error: site::NameError| Failure::new(error))?;
                Ok(Change { variable, how: How::Set, values: Values::default() })
            };
            let variables = words.iter().map(unset).collect::<Result<Vec<_>, Failure>>()?;
            if variables.is_empty() {
                return Err(Failure::new("nothing to unset; write the variables, for example: room server"));
            }
            change(&Ask::Set { which, variables }, &how).await
        }
        SiteCommand::Remove { entity, filter, change: how } => {
            let which = match (entity, filter) {
                (Some(entity), _) => Which::One(entity),
                (None, Some(filter)) => Which::Where(filter),
                (None, None) => return Err(Failure::new("say which: TYPE/NAME, or --where EXPRESSION")),
            };
            change(&Ask::Remove { which }, &how).await
        }
        SiteCommand::Define(define) => change::define(*define).await,
        SiteCommand::Undefine { what, change: how } => {
            change(&Ask::Undefine { kind: what.kind, variable: what.variable }, &how).await
        }
        SiteCommand::Revert { revision, change: mut how } => {
            how.why.get_or_insert_with(|| format!("reverts {revision}"));
            change(&Ask::Revert { revision }, &how).await
        }
        SiteCommand::Apply { file, format, prune, change: how } => {
            change(&files::apply(&file, format, prune)?, &how).await
        }
        SiteCommand::Export { filter, format, secrets, output, common } => {
            files::export(filter, format, secrets, output.as_deref(), &common).await
        }
        SiteCommand::ImportCsv { file, kind, delimiter, separator, change: how } => {
            change(&files::csv(&file, kind, delimiter, separator)?, &how).await
        }
        SiteCommand::ImportLabnet { directory, kinds, rename_type, rename, change: how } => {
            change(&files::labnet(&directory, &kinds, rename_type, rename)?, &how).await
        }
    }
}

/// The entity before the other words, unless an expression stands for it.
fn subject(mut words: Vec<String>, filter: Option<Expression>) -> Result<(Which, Vec<String>), Failure> {
    if let Some(filter) = filter {
        return Ok((Which::Where(filter), words));
    }
    let first = words.remove(0);
    match first.parse::<EntityId>() {
        Ok(entity) => Ok((Which::One(entity), words)),
        Err(error) => Err(Failure {
            error: error.to_string(),
            hint: Some("write TYPE/NAME first, or say which entities with --where EXPRESSION".into()),
        }),
    }
}

fn daemon(common: &Common) -> Result<Daemon, Failure> {
    Daemon::of(&common.place.flags())
}
