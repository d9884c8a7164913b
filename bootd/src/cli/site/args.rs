//! What can be typed behind `bootd site`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};
use site::entity::{EntityId, Expression, TypeName, Values, VariableName};
use site::exchange::TextFormat;

use super::super::args::Common;
use crate::control::entities::wire::{Change, How};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum SiteCommand {
    /// List entities, all or of one type
    #[command(after_help = "Examples:\n  bootd site list\n  bootd site list client")]
    List {
        /// Only this type
        #[arg(value_name = "TYPE")]
        kind: Option<TypeName>,
        #[command(flatten)]
        common: Common,
    },
    /// Find entities, and show some of their variables
    #[command(
        after_help = "Terms side by side must all hold. = and != compare, ~ and !~ take a regular expression, \
        missing=VARIABLE\nfinds what lacks a value; there are \"or\", \"not\" and parentheses. Inherited values count.\n\n\
        Examples:\n  \
        bootd site search 'type=client room=EN1018'\n  \
        bootd site search '(room=EN1018 or room~^LIB) missing=image' --show room,image"
    )]
    Search {
        /// What must hold
        #[arg(value_name = "EXPRESSION")]
        filter: Expression,
        /// The variables to show [default: those that the expression names]
        #[arg(long, value_name = "VARIABLES", value_delimiter = ',')]
        show: Vec<VariableName>,
        #[command(flatten)]
        common: Common,
    },
    /// Show one entity: each value, and where it comes from
    #[command(after_help = "Examples:\n  bootd site show client/rook\n  bootd site show group/en1018 --json")]
    Show {
        /// Its type and name
        #[arg(value_name = "TYPE/NAME")]
        entity: EntityId,
        /// Show secrets too
        #[arg(long)]
        secrets: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Show the types, or one type's variables with their rules
    #[command(after_help = "Examples:\n  bootd site types\n  bootd site types client")]
    Types {
        /// This type's variables
        #[arg(value_name = "TYPE")]
        kind: Option<TypeName>,
        #[command(flatten)]
        common: Common,
    },
    /// Make an entity
    #[command(after_help = "Examples:\n  \
        bootd site create group/en1018 image=debian12 room=EN1018\n  \
        bootd site create client/rook mac=52:54:00:77:00:01 groups=en1018 groups=physics")]
    Create {
        /// Its type and name
        #[arg(value_name = "TYPE/NAME")]
        entity: EntityId,
        /// Its variables; one given several times is a list
        #[arg(value_name = "VARIABLE=VALUE")]
        variables: Vec<Assignment>,
        #[command(flatten)]
        change: Changing,
    },
    /// Set variables of one entity, or of all that an expression finds
    #[command(
        after_help = "VARIABLE=VALUE given several times makes a list, += adds to the list, -= takes from it.\n\n\
        Examples:\n  \
        bootd site set client/rook groups=en1018 groups=physics\n  \
        bootd site set client/rook groups+=chemistry\n  \
        bootd site set --where 'type=client room=EN1018' server=nermal --dry-run"
    )]
    Set {
        /// Its type and name, then VARIABLE=VALUE
        #[arg(value_name = "TYPE/NAME | VARIABLE=VALUE", required = true)]
        words: Vec<String>,
        /// Instead of one entity all that this finds
        #[arg(long = "where", value_name = "EXPRESSION")]
        filter: Option<Expression>,
        #[command(flatten)]
        change: Changing,
    },
    /// Unset variables of one entity, or of all that an expression finds
    #[command(after_help = "Examples:\n  \
        bootd site unset client/rook image\n  \
        bootd site unset --where room=EN1018 server --dry-run")]
    Unset {
        /// Its type and name, then variables
        #[arg(value_name = "TYPE/NAME | VARIABLE", required = true)]
        words: Vec<String>,
        /// Instead of one entity all that this finds
        #[arg(long = "where", value_name = "EXPRESSION")]
        filter: Option<Expression>,
        #[command(flatten)]
        change: Changing,
    },
    /// Remove one entity, or all that an expression finds
    #[command(after_help = "Examples:\n  \
        bootd site remove client/rook\n  \
        bootd site remove --where 'type=client room=EN1018' --dry-run")]
    Remove {
        /// Its type and name
        #[arg(value_name = "TYPE/NAME", required_unless_present = "filter", conflicts_with = "filter")]
        entity: Option<EntityId>,
        /// Instead of one entity all that this finds
        #[arg(long = "where", value_name = "EXPRESSION")]
        filter: Option<Expression>,
        #[command(flatten)]
        change: Changing,
    },
    /// Define a variable of a type, or a type
    #[command(after_help = "What is not said stays as it was.\n\nExamples:\n  \
        bootd site define client.asset_tag --about Sticker. --pattern '[0-9]{4}' --example 0815\n  \
        bootd site define client.splash --edit one_of --choice blue,green\n  \
        bootd site define printer --about Printers.\n  \
        bootd site define printer.queue --mandatory --about Queue.")]
    Define(Box<Define>),
    /// Drop the definition of a variable or a type
    #[command(
        after_help = "Examples:\n  bootd site undefine client.asset_tag\n  bootd site undefine printer"
    )]
    Undefine {
        /// TYPE.VARIABLE, or TYPE
        what: Defined,
        #[command(flatten)]
        change: Changing,
    },
    /// Show who changed what, the newest first
    #[command(after_help = "Examples:\n  bootd site log\n  bootd site log client/rook --limit 5")]
    Log {
        /// Only what concerned this entity
        #[arg(value_name = "TYPE/NAME")]
        entity: Option<EntityId>,
        /// Only revisions before this one
        #[arg(long, value_name = "REVISION")]
        before: Option<u64>,
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
        #[command(flatten)]
        common: Common,
    },
    /// Show what a revision changed, or all those after one up to another
    #[command(
        after_help = "Examples:\n  bootd site diff 12\n  bootd site diff 12..15\n  bootd site diff 12.."
    )]
    Diff {
        /// N, A..B for those after A up to B, or A..
        revisions: Range,
        #[command(flatten)]
        common: Common,
    },
    /// Undo what a revision changed, as a new revision
    #[command(after_help = "Examples:\n  bootd site revert 12 --dry-run")]
    Revert {
        /// Which
        #[arg(id = "reverted", value_name = "REVISION")]
        revision: u64,
        #[command(flatten)]
        change: Changing,
    },
    /// Make the site what a TOML, YAML or JSON file says
    #[command(
        after_help = "What the file does not mention stays as it is, unless you prune.\n\nExamples:\n  \
        bootd site apply lab.toml --dry-run\n  \
        bootd site apply lab.yaml --prune\n  \
        bootd site apply - --format json --yes"
    )]
    Apply {
        /// The file; - for standard input
        file: PathBuf,
        /// How it is written [default: by its name's ending]
        #[arg(long)]
        format: Option<TextFormat>,
        /// Remove what the file does not mention
        #[arg(long)]
        prune: bool,
        #[command(flatten)]
        change: Changing,
    },
    /// Write the site, or what an expression finds, as such a file
    #[command(after_help = "Secrets are left out unless asked for.\n\nExamples:\n  \
        bootd site export --output lab.toml\n  \
        bootd site export --where type=client --format yaml")]
    Export {
        /// Only what this finds
        #[arg(long = "where", value_name = "EXPRESSION")]
        filter: Option<Expression>,
        /// How it is written [default: by the file's ending, or toml]
        #[arg(long)]
        format: Option<TextFormat>,
        /// With secrets; a file of them is readable by its owner only
        #[arg(long)]
        secrets: bool,
        /// To this file, which must not exist [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
    /// Take in clients from a spreadsheet saved as CSV
    #[command(
        after_help = "The first line names the columns: name, and variables. An empty cell changes nothing.\n\n\
        Examples:\n  \
        bootd site import-csv clients.csv --dry-run\n  \
        bootd site import-csv servers.csv --type server --delimiter ';'"
    )]
    ImportCsv {
        /// The file; - for standard input
        file: PathBuf,
        /// What its lines are
        #[arg(long = "type", value_name = "TYPE", default_value = "client")]
        kind: TypeName,
        /// Between the columns; "tab" for a tab
        #[arg(long, default_value = ",", value_parser = sign)]
        delimiter: char,
        /// Between the values of a list in one cell
        #[arg(long, default_value = ";", value_parser = sign)]
        separator: char,
        #[command(flatten)]
        change: Changing,
    },
    /// Take in the XML files of a Labnet site, DIRECTORY/TYPE/NAME
    #[command(
        after_help = "Types and variables that bootd does not know are defined as well; see what it says it did.\n\n\
        Examples:\n  \
        bootd site import-labnet /usr/local/etc/labnet --dry-run\n  \
        bootd site import-labnet /usr/local/etc/labnet --type client --rename client.windowsImage=image"
    )]
    ImportLabnet {
        /// The directory of the types
        directory: PathBuf,
        /// Only these types, as Labnet calls them
        #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
        kinds: Vec<String>,
        /// Call a type otherwise
        #[arg(long, value_name = "OLD=NEW")]
        rename_type: Vec<Renamed>,
        /// Call a variable otherwise
        #[arg(long, value_name = "TYPE.OLD=NEW")]
        rename: Vec<RenamedVariable>,
        #[command(flatten)]
        change: Changing,
    },
}

/// What every command has that changes the site.
#[derive(Debug, Args)]
pub(in crate::cli) struct Changing {
    /// Only show what would change
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not ask, even where many entities change
    #[arg(short, long)]
    pub(super) yes: bool,
    /// What it is for, kept in the log
    #[arg(long, value_name = "TEXT")]
    pub(super) why: Option<String>,
    /// Refuse unless the site is at this revision still, as a dry run said it
    #[arg(long, value_name = "N")]
    pub(super) revision: Option<u64>,
    #[command(flatten)]
    pub(super) common: Common,
}

/// `site define`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Define {
    /// TYPE.VARIABLE, or TYPE
    pub(super) what: Defined,
    /// What it is for, in a sentence
    #[arg(long, value_name = "TEXT")]
    pub(super) about: Option<String>,
    /// An entity without it is not served
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "true|false")]
    pub(super) mandatory: Option<bool>,
    /// No two entities may have the same value
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "true|false")]
    pub(super) unique: Option<bool>,
    /// Its values are hidden
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "true|false")]
    pub(super) secret: Option<bool>,
    /// How it is edited, and so how many values it has
    #[arg(long)]
    pub(super) edit: Option<EditWord>,
    /// What each value is
    #[arg(long)]
    pub(super) format: Option<FormatWord>,
    /// The regular expression that each value, or a type's names, must match whole
    #[arg(long, value_name = "REGEX")]
    pub(super) pattern: Option<String>,
    /// What each value must be one of
    #[arg(long, value_name = "VALUES", value_delimiter = ',', conflicts_with = "choice_type")]
    pub(super) choice: Vec<String>,
    /// The type of which each value must name an entity
    #[arg(long, value_name = "TYPE")]
    pub(super) choice_type: Option<TypeName>,
    /// Which entities of that type
    #[arg(long, value_name = "EXPRESSION", requires = "choice_type")]
    pub(super) choice_where: Option<Expression>,
    /// A value, or a name, that would pass
    #[arg(long, value_name = "VALUE")]
    pub(super) example: Option<String>,
    /// The table that it is a column of
    #[arg(long, value_name = "TABLE")]
    pub(super) table: Option<String>,
    /// Its place among others
    #[arg(long, value_name = "N")]
    pub(super) place: Option<u32>,
    /// A type's entities may hold any variables
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "true|false")]
    pub(super) open: Option<bool>,
    #[command(flatten)]
    pub(super) change: Changing,
}

/// `site define --edit`.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(in crate::cli) enum EditWord {
    Input,
    Inputs,
    OneOf,
    ManyOf,
    Column,
}

/// `site define --format`.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(in crate::cli) enum FormatWord {
    Text,
    Mac,
    Address,
    Uuid,
    Number,
    Size,
    Boolean,
}

/// A type, or a variable of one: `client.asset_tag`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Defined {
    pub(super) kind: TypeName,
    pub(super) variable: Option<VariableName>,
}

impl FromStr for Defined {
    type Err = site::NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A type's name has no dots.
        match text.split_once('.') {
            Some((kind, variable)) => Ok(Self { kind: kind.parse()?, variable: Some(variable.parse()?) }),
            None => Ok(Self { kind: text.parse()?, variable: None }),
        }
    }
}

/// `VARIABLE=VALUE`, `VARIABLE+=VALUE` or `VARIABLE-=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Assignment {
    variable: VariableName,
    how: How,
    value: String,
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((variable, value)) = text.split_once('=') else {
            return Err(format!("\"{text}\" is no VARIABLE=VALUE, for example room=EN1018"));
        };
        let (variable, how) = match (variable.strip_suffix('+'), variable.strip_suffix('-')) {
            (Some(variable), _) => (variable, How::Add),
            (_, Some(variable)) => (variable, How::Take),
            _ => (variable, How::Set),
        };
        let variable = variable.parse().map_err(|error: site::NameError| error.to_string())?;
        Ok(Self { variable, how, value: value.to_owned() })
    }
}

/// The assignments by variable: those that come several times are a list.
///
/// # Errors
/// When a variable is both set and added to.
pub(super) fn changes(assignments: Vec<Assignment>) -> Result<Vec<Change>, String> {
    let mut all: Vec<(VariableName, How, Vec<String>)> = Vec::new();
    for Assignment { variable, how, value } in assignments {
        match all.iter_mut().find(|(other, ..)| *other == variable) {
            Some((_, other, _)) if *other != how => {
                return Err(format!("{variable} is given with different signs; use one of =, += and -="));
            }
            Some((_, _, values)) => values.push(value),
            None => all.push((variable, how, vec![value])),
        }
    }
    let change = |(variable, how, values): (_, _, Vec<String>)| Change {
        variable,
        how,
        values: values.into_iter().collect::<Values>(),
    };
    Ok(all.into_iter().map(change).collect())
}

/// Some revisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Range {
    /// Those after this one.
    pub(super) after: u64,
    /// Up to this one; `None`: the newest.
    pub(super) to: Option<u64>,
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number =
            |text: &str| text.parse::<u64>().map_err(|_| "write a revision, 12, or two, 12..15".to_owned());
        match text.split_once("..") {
            Some((after, "")) => Ok(Self { after: number(after)?, to: None }),
            Some((after, to)) => Ok(Self { after: number(after)?, to: Some(number(to)?) }),
            None => number(text).map(|n| Self { after: n.saturating_sub(1), to: Some(n) }),
        }
    }
}

/// `OLD=NEW`.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Renamed {
    pub(super) old: String,
    pub(super) new: TypeName,
}

impl FromStr for Renamed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (old, new) = text.split_once('=').ok_or("write OLD=NEW, for example fileMgr=file")?;
        Ok(Self { old: old.into(), new: new.parse().map_err(|error: site::NameError| error.to_string())? })
    }
}

/// `TYPE.OLD=NEW`.
#[derive(Debug, Clone)]
pub(in crate::cli) struct RenamedVariable {
    pub(super) kind: String,
    pub(super) old: String,
    pub(super) new: VariableName,
}

impl FromStr for RenamedVariable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(old, new)| Some((old.split_once('.')?, new)));
        let ((kind, old), new) = parts.ok_or("write TYPE.OLD=NEW, for example client.windowsImage=image")?;
        let new = new.parse().map_err(|error: site::NameError| error.to_string())?;
        Ok(Self { kind: kind.into(), old: old.into(), new })
    }
}

fn sign(text: &str) -> Result<char, String> {
    let mut chars = text.chars();
    match (text, chars.next(), chars.next()) {
        ("tab" | "\\t", ..) => Ok('\t'),
        (_, Some(one), None) => Ok(one),
        _ => Err("write one sign, for example ; or \"tab\"".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_of_one_variable_are_a_list() {
        let read = |words: &[&str]| changes(words.iter().map(|word| word.parse().unwrap()).collect());
        let all = read(&["a=1", "b+=2", "a=3=4", "c="]).unwrap();
        let lists: Vec<_> = all.iter().map(|c| (c.how, c.values.iter().collect::<Vec<_>>())).collect();
        assert_eq!(lists, [(How::Set, vec!["1", "3=4"]), (How::Add, vec!["2"]), (How::Set, vec![""])]);
        assert!(read(&["a=1", "a+=2"]).unwrap_err().contains("different signs"));
        assert!("room".parse::<Assignment>().unwrap_err().contains("room=EN1018"));
        assert!("9=x".parse::<Assignment>().unwrap_err().contains("beginning with a letter"));
    }

    #[test]
    fn ranges_and_signs() {
        assert_eq!("12".parse(), Ok(Range { after: 11, to: Some(12) }));
        assert_eq!("12..15".parse(), Ok(Range { after: 12, to: Some(15) }));
        assert_eq!("12..".parse(), Ok(Range { after: 12, to: None }));
        assert!("..".parse::<Range>().is_err() && "x".parse::<Range>().is_err());
        assert_eq!((sign(";"), sign("tab"), sign(";;").is_err()), (Ok(';'), Ok('\t'), true));
        assert!("client.mac".parse::<Defined>().unwrap().variable.is_some());
    }
}
