//! Who makes an edit.

use serde::{Deserialize, Serialize};

use crate::NameError;

/// The longest name of an author, in bytes. A longer one is refused.
pub const MAX_WHO: usize = 128;

/// The longest reason of an edit, in bytes. A longer one is refused.
pub const MAX_WHY: usize = 4096;

/// Who makes an edit, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// Who.
    pub who: String,
    /// What for, if they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Default for Author {
    fn default() -> Self {
        Self::new("bootd")
    }
}

impl Author {
    /// An author without a reason.
    #[must_use]
    pub fn new(who: impl Into<String>) -> Self {
        Self { who: who.into(), why: None }
    }

    /// The author with a reason.
    #[must_use]
    pub fn because(self, why: impl Into<String>) -> Self {
        Self { why: Some(why.into()), ..self }
    }

    pub(super) fn check(&self) -> Result<(), NameError> {
        if self.who.is_empty() || self.who.len() > MAX_WHO || self.who.contains(char::is_control) {
            let rule = "1 to 128 bytes of text without control characters";
            return Err(NameError::new("author", &self.who, rule, "alice"));
        }
        let is_wrong = |c: char| c.is_control() && c != '\n';
        match &self.why {
            Some(why) if why.len() > MAX_WHY || why.contains(is_wrong) => Err(NameError::new(
                "reason of an edit",
                why,
                "at most 4096 bytes of text without control characters",
                "room EN1018 has new machines",
            )),
            _ => Ok(()),
        }
    }
}
