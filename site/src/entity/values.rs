//! A variable's values: one, or an ordered list.

use serde::{Deserialize, Serialize};

/// The longest value, in bytes. A longer one is refused.
pub const MAX_VALUE: usize = 64 << 10;

/// The most values that one variable may have. More are refused.
pub const MAX_VALUES: usize = 10_000;

/// The values of one variable, in their order; two words of memory beside the texts themselves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "OneOrMany", into = "OneOrMany")]
pub struct Values(Box<[Box<str>]>);

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
        Self(Box::new([value.into()]))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none; a variable without values is one that is not set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first one.
    #[must_use]
    pub fn first(&self) -> Option<&str> {
        self.0.first().map(AsRef::as_ref)
    }

    /// All in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + DoubleEndedIterator {
        self.0.iter().map(AsRef::as_ref)
    }
}

impl<S: Into<Box<str>>> FromIterator<S> for Values {
    fn from_iter<I: IntoIterator<Item = S>>(values: I) -> Self {
        Self(values.into_iter().map(Into::into).collect())
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
        match <Box<[Box<str>; 1]>>::try_from(values.0) {
            Ok(one) => {
                let [value] = *one;
                Self::One(value.into())
            }
            Err(many) => Self::Many(many.into_iter().map(Into::into).collect()),
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
