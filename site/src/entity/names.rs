//! The names of types, entities, variables and tables. All are part of file names, search expressions and templates,
//! so their alphabets hold nothing that those would have to quote.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::NameError;

macro_rules! token {
    ($(#[$doc:meta])* $type:ident, $what:literal, $max:literal, $first:pat, $inner:pat, $rule:literal, $example:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// The longest one, in bytes.
            pub const MAX_LEN: usize = $max;

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let good = text.len() <= Self::MAX_LEN
                    && text.bytes().all(|c| matches!(c, $first | $inner))
                    && text.bytes().next().is_some_and(|c| matches!(c, $first));
                if good { Ok(Self(text.into())) } else { Err(NameError::new($what, text, $rule, $example)) }
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.as_str().to_owned()
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

token!(
    /// What kind of thing an entity is: `client`, `server`, `image`, or a type that an admin added.
    TypeName, "type", 32, b'a'..=b'z' | b'A'..=b'Z', b'0'..=b'9' | b'_' | b'-',
    "1 to 32 of letters, digits, \"_\" and \"-\", beginning with a letter", "printer"
);
token!(
    /// An entity's name, unique within its type. Types narrow it further.
    EntityName, "entity name", 128, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_', b'.' | b'@' | b'+' | b'-',
    "1 to 128 of letters, digits, \"_\", \".\", \"@\", \"+\" and \"-\", beginning with a letter, digit or \"_\"",
    "access.conf"
);
token!(
    /// A variable's name, unique within its entity. A table's column is a variable too.
    VariableName, "variable", 64, b'a'..=b'z' | b'A'..=b'Z' | b'_', b'0'..=b'9' | b'.' | b'-',
    "1 to 64 of letters, digits, \"_\", \".\" and \"-\", beginning with a letter or \"_\"", "run_level_name"
);
token!(
    /// A table's name, unique within its type.
    TableName, "table", 64, b'a'..=b'z' | b'A'..=b'Z' | b'_', b'0'..=b'9' | b'.' | b'-',
    "1 to 64 of letters, digits, \"_\", \".\" and \"-\", beginning with a letter or \"_\"", "fstab"
);

/// Which entity: its type and its name, written `client/rook`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntityId {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: TypeName,
    /// Its name.
    pub name: EntityName,
}

impl EntityId {
    /// The entity of type `kind` named `name`.
    #[must_use]
    pub fn new(kind: TypeName, name: EntityName) -> Self {
        Self { kind, name }
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

impl FromStr for EntityId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (kind, name) = text
            .split_once('/')
            .ok_or_else(|| NameError::new("entity", text, "its type, a \"/\" and its name", "client/rook"))?;
        Ok(Self { kind: kind.parse()?, name: name.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_nothing_that_must_be_quoted() {
        for good in ["client", "rsyncImage", "rsync_filter"] {
            assert!(good.parse::<TypeName>().is_ok(), "{good}");
        }
        for bad in ["", "1x", "a/b", "a b", "a.b", "ä", &"x".repeat(33)] {
            assert!(bad.parse::<TypeName>().is_err(), "{bad}");
        }
        for good in ["rook", "access.conf", "mun@site_server", "dvars_dbgen32_test_1", "0"] {
            assert!(good.parse::<EntityName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "-x", "a b", "a\n", "a=b", "a'b", "a\0"] {
            assert!(bad.parse::<EntityName>().is_err(), "{bad:?}");
        }
        for bad in ["", "9", "a=b", "a~b", "a b", "(a)"] {
            assert!(bad.parse::<VariableName>().is_err(), "{bad}");
        }
        assert_eq!("client/rook".parse::<EntityId>().map(|id| id.to_string()), Ok("client/rook".to_owned()));
        assert!("rook".parse::<EntityId>().unwrap_err().to_string().contains("client/rook"));
    }
}
