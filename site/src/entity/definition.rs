//! What is known of each type's variables: a definition says what a variable is for, what its values must be, and
//! how an editor shows it. bootd's own types come with theirs; an admin adds variables and types as data.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use super::format::Format;
use super::names::{TableName, TypeName, VariableName};
use super::search::Expression;

/// The longest regular expression of a definition, in bytes. A longer one is refused.
pub const MAX_PATTERN: usize = 1024;

/// The most bytes that one may take when compiled. One that takes more is refused.
const MAX_PROGRAM: usize = 1 << 20;

/// What is known of one variable of one type.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Definition {
    /// What it is for, in a sentence.
    pub about: String,
    /// Whether an entity without it is inactive.
    #[serde(skip_serializing_if = "is_default")]
    pub mandatory: bool,
    /// Whether no two entities of the type may have the same value; such a variable is never inherited.
    #[serde(skip_serializing_if = "is_default")]
    pub unique: bool,
    /// Whether its values are hidden in logs and lists.
    #[serde(skip_serializing_if = "is_default")]
    pub secret: bool,
    /// How it is edited, and so how many values it has.
    #[serde(skip_serializing_if = "is_default")]
    pub edit: Editing,
    /// What each value is by itself.
    #[serde(skip_serializing_if = "is_default")]
    pub format: Format,
    /// What each value must match, whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Pattern>,
    /// What each value must be one of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choice: Option<Choice>,
    /// A value that would pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub example: Option<String>,
    /// The table that it is a column of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<TableName>,
    /// Where it stands: on a page among others, in a table among the columns.
    #[serde(skip_serializing_if = "is_default")]
    pub place: u32,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How a variable is edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Editing {
    /// One value, typed in.
    #[default]
    Input,
    /// An ordered list, typed in.
    Inputs,
    /// One of the choices.
    OneOf,
    /// Any of the choices, in an order.
    ManyOf,
    /// A cell in each row of a table.
    Column,
}

impl Editing {
    /// Whether there may be more than one value.
    #[must_use]
    pub fn is_many(self) -> bool {
        matches!(self, Self::Inputs | Self::ManyOf | Self::Column)
    }
}

/// What a value must be one of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Choice {
    /// These.
    Values(Vec<String>),
    /// The names of the entities of a type, all or those that an expression finds.
    Entities {
        /// The type.
        #[serde(rename = "type")]
        kind: TypeName,
        /// Which of them.
        #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
        filter: Option<Expression>,
    },
}

/// A regular expression that the whole of a value must match. Matching is linear in the value's length, whatever the
/// expression.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    source: Arc<str>,
    regex: Regex,
}

impl Pattern {
    /// Whether the whole of `value` matches.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        self.regex.is_match(value)
    }

    /// The expression as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }
}

/// A regular expression that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the regular expression \"{pattern}\" can't be used: {reason}")]
pub struct PatternError {
    pattern: String,
    reason: String,
}

/// The expression, within bounds; `whole`: anchored at both ends.
pub(crate) fn compile(source: &str, whole: bool) -> Result<Regex, PatternError> {
    let error = |reason: String| PatternError { pattern: source.chars().take(80).collect(), reason };
    if source.len() > MAX_PATTERN {
        return Err(error(format!("it has {} bytes, {MAX_PATTERN} are allowed", source.len())));
    }
    let build = |text: &str| {
        RegexBuilder::new(text)
            .size_limit(MAX_PROGRAM)
            .dfa_size_limit(MAX_PROGRAM)
            .build()
            .map_err(|inner| error(inner.to_string()))
    };
    // Alone first: with the anchors around it, ")(" would be an expression too.
    let plain = build(source)?;
    if whole { build(&format!("^(?:{source})$")) } else { Ok(plain) }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(source: String) -> Result<Self, PatternError> {
        Ok(Self { regex: compile(&source, true)?, source: source.into() })
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.source.as_ref().to_owned()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.source, f)
    }
}

/// What is known of one type.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TypeDefinition {
    /// What its entities are, in a sentence.
    pub about: String,
    /// What an entity's name must match, whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Pattern>,
    /// A name that would pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name_example: Option<String>,
    /// Whether its entities may hold variables that no definition names, as lists of any text.
    #[serde(skip_serializing_if = "is_default")]
    pub open: bool,
    /// Types whose variables its entities hold for others to inherit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lends_to: Vec<TypeName>,
    /// Its variables.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<VariableName, Definition>,
}

/// All types.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Definitions {
    types: BTreeMap<TypeName, TypeDefinition>,
}

static SHIPPED: LazyLock<Definitions> = LazyLock::new(|| {
    // A test holds the file to its form, so nothing is ever missing here.
    toml::from_str(include_str!("../../definitions/shipped.toml")).unwrap_or_default()
});

impl Definitions {
    /// bootd's own types.
    #[must_use]
    pub fn shipped() -> &'static Self {
        &SHIPPED
    }

    /// bootd's own types, and what an admin added to them. Where both define the same, bootd's holds: a release may
    /// have come to know what the admin had to define before.
    #[must_use]
    pub fn shipped_and(
        types: impl IntoIterator<Item = (TypeName, TypeDefinition)>,
        variables: impl IntoIterator<Item = (TypeName, VariableName, Definition)>,
    ) -> Self {
        let mut all = Self::shipped().clone();
        for (kind, definition) in types {
            all.types.entry(kind).or_insert(definition);
        }
        for (kind, variable, definition) in variables {
            if let Some(kind) = all.types.get_mut(&kind) {
                kind.variables.entry(variable).or_insert(definition);
            }
        }
        all
    }

    /// The type of that name.
    #[must_use]
    pub fn get(&self, kind: &str) -> Option<&TypeDefinition> {
        self.types.get(kind)
    }

    /// All types, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&TypeName, &TypeDefinition)> {
        self.types.iter()
    }

    /// What is known of `variable` in an entity of type `kind`: by its own type, else by one that it lends to.
    #[must_use]
    pub fn definition(&self, kind: &str, variable: &str) -> Option<&Definition> {
        let own = self.types.get(kind)?;
        let lent = || own.lends_to.iter().find_map(|to| self.types.get(to)?.variables.get(variable));
        own.variables.get(variable).or_else(lent)
    }

    /// Whether entities of type `from` lend values to those of type `to`.
    #[must_use]
    pub fn lends(&self, from: &str, to: &str) -> bool {
        self.types.get(from).is_some_and(|from| from.lends_to.iter().any(|kind| kind.as_str() == to))
    }

    /// The columns of a table, in their order.
    #[must_use]
    pub fn columns(&self, kind: &str, table: &str) -> Vec<&VariableName> {
        let Some(own) = self.types.get(kind) else { return Vec::new() };
        let is_column =
            |definition: &Definition| definition.table.as_ref().is_some_and(|t| t.as_str() == table);
        let mut columns: Vec<_> =
            own.variables.iter().filter(|(_, definition)| is_column(definition)).collect();
        if columns.is_empty() {
            return own
                .lends_to
                .iter()
                .map(|to| self.columns(to.as_str(), table))
                .find(|c| !c.is_empty())
                .unwrap_or_default();
        }
        columns.sort_by_key(|(name, definition)| (definition.place, *name));
        columns.into_iter().map(|(name, _)| name).collect()
    }

    pub(super) fn types_mut(&mut self) -> &mut BTreeMap<TypeName, TypeDefinition> {
        &mut self.types
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_definitions_are_whole() {
        let text = include_str!("../../definitions/shipped.toml");
        let shipped: Definitions = toml::from_str(text).unwrap();
        assert_eq!(&shipped, Definitions::shipped());
        let names: Vec<_> = shipped.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "app", "choice", "client", "file", "group", "image", "mirror", "monitor", "server", "site",
                "user"
            ]
        );
        for (kind, definition) in shipped.iter() {
            assert!(definition.about.ends_with('.'), "{kind}");
            for to in &definition.lends_to {
                assert!(shipped.get(to.as_str()).is_some(), "{kind} lends to {to}");
            }
            if let (Some(pattern), Some(example)) = (&definition.name, &definition.name_example) {
                assert!(pattern.matches(example), "{kind}: {example}");
            }
            for (variable, definition) in &definition.variables {
                let place = format!("{kind}.{variable}");
                assert!(definition.about.ends_with('.'), "{place}");
                let example = definition.example.as_deref().unwrap_or(definition.format.example());
                let example = definition.format.canonical(example).unwrap();
                assert!(
                    definition.pattern.as_ref().is_none_or(|p| p.matches(&example)),
                    "{place}: {example}"
                );
                assert_eq!(definition.table.is_some(), definition.edit == Editing::Column, "{place}");
                if let Some(Choice::Entities { kind, .. }) = &definition.choice {
                    assert!(shipped.get(kind.as_str()).is_some(), "{place}");
                }
            }
        }
    }

    #[test]
    fn a_pattern_must_match_the_whole_value() {
        let pattern = Pattern::try_from("a|b+".to_owned()).unwrap();
        assert!(pattern.matches("a") && pattern.matches("bbb"));
        assert!(!pattern.matches("ab") && !pattern.matches("xa") && !pattern.matches("a\n"));
        for bad in ["(", ")(", "(x{1000}){1000}", &"x".repeat(MAX_PATTERN + 1)] {
            let error = Pattern::try_from(bad.to_owned()).unwrap_err().to_string();
            assert!(error.contains("can't be used"), "{error}");
        }
    }

    #[test]
    fn no_expression_takes_for_ever_to_read_or_to_match() {
        let long = format!("{}!", "a".repeat(crate::entity::MAX_VALUE - 1));
        for (source, is_refused) in [
            ("(a+)+", false),
            ("(a|aa)+b", false),
            ("(.*)*x", false),
            ("(a?){300}a{300}", false),
            ("[ab]*a[ab]{900}", false),
            ("(.*a){40}", false),
            ("((a{0,50}){0,50}){0,50}", true),
            (r"\w{500}", true),
            (&"(".repeat(MAX_PATTERN), true),
            (&format!("{}a{}", "(".repeat(500), ")".repeat(500)), true),
            (&"x".repeat(10 << 20), true),
        ] {
            let started = std::time::Instant::now();
            let pattern = Pattern::try_from(source.to_owned());
            assert_eq!(pattern.is_err(), is_refused, "{source:.40}");
            let read = started.elapsed();
            if let Ok(pattern) = pattern {
                assert!(!pattern.matches(&long), "{source}");
            }
            println!("{source:.40}: read in {read:?}, both in {:?}", started.elapsed());
            assert!(started.elapsed() < std::time::Duration::from_secs(30), "{source:.40}");
        }
    }

    #[test]
    fn a_lender_knows_the_variables_of_those_it_lends_to() {
        let shipped = Definitions::shipped();
        assert_eq!(shipped.definition("group", "image"), shipped.definition("client", "image"));
        assert!(shipped.definition("group", "nonsense").is_none());
        assert!(shipped.lends("group", "client") && !shipped.lends("client", "group"));
    }

    #[test]
    fn a_misspelt_field_of_a_definition_is_an_error() {
        let error = toml::from_str::<Definitions>("[client.variables.x]\nmandatroy = true\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("mandatroy") && error.contains("mandatory"), "{error}");
    }
}
