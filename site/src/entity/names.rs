//! The names of types, entities, variables and tables. All are part of file names, search expressions and templates,
//! so their alphabets hold nothing that those would have to quote.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::NameError;
use crate::names::name;

name!(
    /// What kind of thing an entity is: `client`, `server`, `image`, or a type that an admin added.
    TypeName, "type", 32, first 'a'..='z' | 'A'..='Z', '0'..='9' | '_' | '-',
    "1 to 32 of letters, digits, \"_\" and \"-\", beginning with a letter", "printer"
);
name!(
    /// An entity's name, unique within its type. Types narrow it further.
    EntityName, "entity name", 128, first 'a'..='z' | 'A'..='Z' | '0'..='9' | '_', '.' | '@' | '+' | '-',
    "1 to 128 of letters, digits, \"_\", \".\", \"@\", \"+\" and \"-\", beginning with a letter, digit or \"_\"",
    "access.conf"
);
name!(
    /// A variable's name, unique within its entity. A table's column is a variable too.
    VariableName, "variable", 64, first 'a'..='z' | 'A'..='Z' | '_', '0'..='9' | '.' | '-',
    "1 to 64 of letters, digits, \"_\", \".\" and \"-\", beginning with a letter or \"_\"", "run_level_name"
);
name!(
    /// A table's name, unique within its type.
    TableName, "table", 64, first 'a'..='z' | 'A'..='Z' | '_', '0'..='9' | '.' | '-',
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
