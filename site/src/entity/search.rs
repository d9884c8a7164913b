//! Search expressions: which entities a list, a batch edit or a choice is about.
//!
//! `type=client room=EN1018 (server=nermal or server~^m) not missing=kernel`: terms that stand side by side must all
//! hold. `=` and `!=` compare a variable's values with a text, `~` and `!~` look for a regular expression in them;
//! where a variable has several values, one that fits is enough, and for the `!` forms none may. `missing=VARIABLE`
//! holds where it has no value. `type` and `name` are the entity's own. A value with blanks or parentheses in it is
//! put in double quotes, in which `\"` and `\\` stand for themselves.

use std::fmt;
use std::str::FromStr;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::definition::{PatternError, compile};
use super::names::VariableName;
use crate::NameError;

/// The longest expression, in bytes. A longer one is refused.
pub const MAX_EXPRESSION: usize = 4096;

/// The deepest nesting of parentheses and `not`. A deeper one is refused.
pub const MAX_NESTING: usize = 32;

/// A search expression.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Expression {
    source: String,
    root: Term,
}

#[derive(Debug, Clone)]
enum Term {
    All(Vec<Term>),
    Any(Vec<Term>),
    Not(Box<Term>),
    Test { subject: Subject, test: Test },
}

#[derive(Debug, Clone)]
enum Subject {
    Kind,
    Name,
    Variable(VariableName),
}

#[derive(Debug, Clone)]
enum Test {
    Is(String),
    Matches(Regex),
    Missing,
}

/// An expression that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{expression}\", character {at}: {reason}")]
pub struct ExpressionError {
    expression: String,
    at: usize,
    reason: String,
}

/// What an expression asks of an entity.
pub trait Subjects {
    /// Its type.
    fn kind(&self) -> &str;
    /// Its name.
    fn name(&self) -> &str;
    /// A variable's values.
    fn values(&self, variable: &str) -> Vec<&str>;
}

impl Expression {
    /// Whether it holds for the entity.
    #[must_use]
    pub fn holds(&self, entity: &impl Subjects) -> bool {
        self.root.holds(entity)
    }
}

impl Term {
    fn holds(&self, entity: &impl Subjects) -> bool {
        match self {
            Self::All(terms) => terms.iter().all(|term| term.holds(entity)),
            Self::Any(terms) => terms.iter().any(|term| term.holds(entity)),
            Self::Not(term) => !term.holds(entity),
            Self::Test { subject, test } => match subject {
                Subject::Kind => test.holds(&[entity.kind()]),
                Subject::Name => test.holds(&[entity.name()]),
                Subject::Variable(name) => test.holds(&entity.values(name.as_str())),
            },
        }
    }
}

impl Test {
    fn holds(&self, values: &[&str]) -> bool {
        match self {
            Self::Is(text) => values.contains(&text.as_str()),
            Self::Matches(regex) => values.iter().any(|value| regex.is_match(value)),
            Self::Missing => values.is_empty(),
        }
    }
}

impl FromStr for Expression {
    type Err = ExpressionError;

    fn from_str(source: &str) -> Result<Self, ExpressionError> {
        let mut parser = Parser { source, at: 0 };
        if source.len() > MAX_EXPRESSION {
            return Err(parser.error(format!("an expression may have {MAX_EXPRESSION} bytes")));
        }
        let root = parser.any(0)?;
        parser.blanks();
        match parser.rest().chars().next() {
            None => Ok(Self { source: source.to_owned(), root }),
            Some(c) => Err(parser.error(format!("\"{c}\" is one too many"))),
        }
    }
}

struct Parser<'a> {
    source: &'a str,
    at: usize,
}

type Parsed<T> = Result<T, ExpressionError>;

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn blanks(&mut self) {
        self.at = self.source.len() - self.rest().trim_start().len();
    }

    fn error(&self, reason: impl Into<String>) -> ExpressionError {
        let before = self.source.get(..self.at).unwrap_or_default();
        ExpressionError {
            expression: self.source.escape_debug().take(200).collect(),
            at: before.chars().count() + 1,
            reason: reason.into(),
        }
    }

    /// Takes `word` if it comes next as a word of its own, in any case.
    fn word(&mut self, word: &str) -> bool {
        self.blanks();
        let rest = self.rest();
        let is_word = rest.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word))
            && rest
                .get(word.len()..)
                .is_none_or(|after| after.is_empty() || after.starts_with([' ', '\t', '\n', '(']));
        self.at += if is_word { word.len() } else { 0 };
        is_word
    }

    fn any(&mut self, depth: usize) -> Parsed<Term> {
        let mut terms = vec![self.all(depth)?];
        while self.word("or") {
            terms.push(self.all(depth)?);
        }
        Ok(if terms.len() == 1 { terms.swap_remove(0) } else { Term::Any(terms) })
    }

    fn all(&mut self, depth: usize) -> Parsed<Term> {
        let mut terms = vec![self.term(depth)?];
        loop {
            let joined = self.word("and");
            let before = self.at;
            let at_end = self.rest().is_empty() || self.rest().starts_with(')') || self.word("or");
            self.at = before;
            if at_end && !joined {
                return Ok(if terms.len() == 1 { terms.swap_remove(0) } else { Term::All(terms) });
            }
            terms.push(self.term(depth)?);
        }
    }

    fn term(&mut self, depth: usize) -> Parsed<Term> {
        if depth > MAX_NESTING {
            return Err(self.error(format!("parentheses and \"not\" may be nested {MAX_NESTING} deep")));
        }
        if self.word("not") {
            return Ok(Term::Not(Box::new(self.term(depth + 1)?)));
        }
        if self.rest().starts_with('(') {
            self.at += 1;
            let inner = self.any(depth + 1)?;
            self.blanks();
            if !self.rest().starts_with(')') {
                return Err(self.error("a \")\" is missing"));
            }
            self.at += 1;
            return Ok(inner);
        }
        self.test()
    }

    fn test(&mut self) -> Parsed<Term> {
        let begin = self.at;
        let rest = self.rest();
        let end = rest.find(['=', '~', '!', ' ', '\t', '\n', '(', ')', '"']).unwrap_or(rest.len());
        let (variable, after) = rest.split_at(end);
        let operators = [("!=", true, false), ("=", false, false), ("!~", true, true), ("~", false, true)];
        let operator = operators.iter().find(|(sign, ..)| after.starts_with(sign));
        let Some((sign, negated, is_pattern)) = operator.filter(|_| !variable.is_empty()) else {
            return Err(self.error("expected VARIABLE=VALUE, VARIABLE~PATTERN or missing=VARIABLE"));
        };
        self.at += end + sign.len();
        let value_at = self.at;
        let value = self.value()?;
        let name = |parser: &mut Self, at: usize, text: &str| -> Parsed<VariableName> {
            text.parse().map_err(|error: NameError| {
                parser.at = at;
                parser.error(error.to_string())
            })
        };
        let (subject, test) = if variable == "missing" {
            if *is_pattern {
                return Err(self.error("missing=VARIABLE takes a variable's name"));
            }
            (Subject::Variable(name(self, value_at, &value)?), Test::Missing)
        } else {
            let subject = match variable {
                "type" => Subject::Kind,
                "name" => Subject::Name,
                _ => Subject::Variable(name(self, begin, variable)?),
            };
            let test = if *is_pattern {
                Test::Matches(compile(&value, false).map_err(|error: PatternError| {
                    self.at = value_at;
                    self.error(error.to_string())
                })?)
            } else {
                Test::Is(value)
            };
            (subject, test)
        };
        let test = Term::Test { subject, test };
        Ok(if *negated { Term::Not(Box::new(test)) } else { test })
    }

    /// A word up to a blank or parenthesis, or a text in quotes.
    fn value(&mut self) -> Parsed<String> {
        let rest = self.rest();
        let Some(quoted) = rest.strip_prefix('"') else {
            // Parentheses in a pattern belong to it as long as they match.
            let mut open = 0_usize;
            let end = rest.find(|c: char| match c {
                '(' => {
                    open += 1;
                    false
                }
                ')' if open > 0 => {
                    open -= 1;
                    false
                }
                c => c == ')' || c.is_whitespace(),
            });
            let end = end.unwrap_or(rest.len());
            self.at += end;
            return Ok(rest.get(..end).unwrap_or_default().to_owned());
        };
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += 1 + at + 1;
                    return Ok(value);
                }
                '\\' => match chars.next() {
                    Some((_, next @ ('"' | '\\'))) => value.push(next),
                    // A pattern's own escapes stay as they are.
                    Some((_, next)) => value.extend(['\\', next]),
                    None => break,
                },
                c => value.push(c),
            }
        }
        Err(self.error("a closing quote is missing"))
    }
}

impl TryFrom<String> for Expression {
    type Error = ExpressionError;

    fn try_from(source: String) -> Result<Self, ExpressionError> {
        source.parse()
    }
}

impl From<Expression> for String {
    fn from(expression: Expression) -> Self {
        expression.source
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.source, f)
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Expression {}

#[cfg(test)]
mod tests {
    use super::*;

    struct Rook;

    impl Subjects for Rook {
        fn kind(&self) -> &'static str {
            "client"
        }

        fn name(&self) -> &'static str {
            "rook"
        }

        fn values(&self, variable: &str) -> Vec<&str> {
            match variable {
                "room" => vec!["EN 1018"],
                "cname" => vec!["mail", "www"],
                "empty" => vec![""],
                "paren" => vec!["a)b"],
                _ => Vec::new(),
            }
        }
    }

    fn holds(expression: &str) -> bool {
        expression.parse::<Expression>().unwrap_or_else(|error| panic!("{error}")).holds(&Rook)
    }

    #[test]
    fn expressions_hold_or_not() {
        for yes in [
            "type=client",
            "name=rook",
            "name~^ro",
            r#"room="EN 1018""#,
            r#"room~"EN \d+""#,
            "room!=EN2000",
            "cname=www",
            "cname!~^x",
            "empty=",
            "empty=\"\"",
            "missing=kernel",
            "missing!=room",
            "not missing=room",
            "type=client cname=mail",
            "type=client and cname=mail",
            "type=server or name=rook",
            "type=server or type=client name=rook",
            "(type=server or type=client) name=rook",
            "not (type=server or name=pawn)",
            "NOT type=server AND name=rook OR type=x",
            "name~^(rook|pawn)$",
            "(name~^(rook|pawn)$)",
            r#"paren="a)b""#,
            r#"paren~"a\)b""#,
            "order=x or name=rook",
            "nothing!=x",
        ] {
            assert!(holds(yes), "{yes}");
        }
        for no in [
            "type=server",
            "cname=ww",
            "cname!=www",
            "missing=room",
            "missing=empty",
            "type=client name=pawn",
            "type=server or name=pawn",
            "type=client (name=pawn or name=king)",
            "not type=client",
            "not not type=server",
        ] {
            assert!(!holds(no), "{no}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (wrong, at, reason) in [
            ("", 1, "expected VARIABLE=VALUE"),
            ("room", 1, "expected VARIABLE=VALUE"),
            ("=x", 1, "expected VARIABLE=VALUE"),
            ("type=client room", 13, "expected VARIABLE=VALUE"),
            ("type=client and", 16, "expected VARIABLE=VALUE"),
            ("(type=client", 13, "\")\" is missing"),
            ("type=client)", 12, "one too many"),
            ("room=\"EN", 6, "closing quote"),
            ("room~[", 6, "regular expression"),
            ("9x=1", 1, "variable \"9x\""),
            ("missing=9x", 9, "variable \"9x\""),
            ("missing~x", 10, "takes a variable's name"),
        ] {
            let error = wrong.parse::<Expression>().unwrap_err();
            assert_eq!(error.at, at, "{error}");
            assert!(error.to_string().contains(reason), "{error}");
        }
        let deep = format!("{}a=b{}", "(".repeat(MAX_NESTING + 1), ")".repeat(MAX_NESTING + 1));
        assert!(deep.parse::<Expression>().unwrap_err().to_string().contains("nested"));
        let nots = format!("{}a=b", "not ".repeat(900));
        assert!(nots.parse::<Expression>().unwrap_err().to_string().contains("nested"));
        assert!("a=b ".repeat(2000).parse::<Expression>().unwrap_err().to_string().contains("4096"));
    }
}
