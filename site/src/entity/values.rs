//! A variable's values: one, or an ordered list.

use serde::{Deserialize, Serialize};

/// The longest value, in bytes. A longer one is refused.
pub const MAX_VALUE: usize = 64 << 10;

/// The most values that one variable may have. More are refused.
pub const MAX_VALUES: usize = 10_000;

/// The values of one variable, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "OneOrMany", into = "OneOrMany")]
pub struct Values(Inner);

/// Nearly all variables have one value, and a large site has millions of them: that one lies here without a list.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Inner {
    One(Box<str>),
    /// Never one.
    Many(Box<[Box<str>]>),
}

impl Default for Inner {
    fn default() -> Self {
        Self::Many(Box::default())
    }
}

/// As files write it: a text, or a list of texts.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Values {
    /// One value.
    #[must_use]
    pub fn one(value: impl Into<Box<str>>) -> Self {
        Self(Inner::One(value.into()))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Whether there are none; a variable without values is one that is not set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    /// The first one.
    #[must_use]
    pub fn first(&self) -> Option<&str> {
        self.all().first().map(AsRef::as_ref)
    }

    /// All in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + DoubleEndedIterator {
        self.all().iter().map(AsRef::as_ref)
    }

    fn all(&self) -> &[Box<str>] {
        match &self.0 {
            Inner::One(value) => std::slice::from_ref(value),
            Inner::Many(values) => values,
        }
    }
}

impl<S: Into<Box<str>>> FromIterator<S> for Values {
    fn from_iter<I: IntoIterator<Item = S>>(values: I) -> Self {
        let mut values = values.into_iter();
        match (values.next(), values.next()) {
            (None, _) => Self::default(),
            (Some(one), None) => Self::one(one),
            (Some(first), Some(second)) => {
                let all = [first, second].into_iter().chain(values).map(Into::into);
                Self(Inner::Many(all.collect()))
            }
        }
    }
}

impl From<OneOrMany> for Values {
    fn from(values: OneOrMany) -> Self {
        match values {
            OneOrMany::One(value) => Self::one(value),
            OneOrMany::Many(values) => values.into_iter().collect(),
        }
    }
}

impl From<Values> for OneOrMany {
    fn from(values: Values) -> Self {
        match values.0 {
            Inner::One(value) => Self::One(value.into()),
            Inner::Many(values) => Self::Many(values.into_iter().map(Into::into).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_written_as_a_text_and_more_as_a_list() {
        for (values, json) in [
            (Values::one("a"), r#""a""#),
            (["a", "b"].into_iter().collect(), r#"["a","b"]"#),
            (Values::default(), "[]"),
        ] {
            assert_eq!(serde_json::to_string(&values).unwrap(), json);
            assert_eq!(serde_json::from_str::<Values>(json).unwrap(), values);
        }
        assert_eq!(serde_json::from_str::<Values>(r#"["a"]"#).unwrap(), Values::one("a"));
    }
}
