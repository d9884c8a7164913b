//! JSON. Each level is read as pieces of the text, whose places in it tell line and column.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{At, Budget, Entry, Kind, Lines, Node, Unread, entries};

pub(super) fn parse(text: &str) -> Result<Node, Unread> {
    let root: &RawValue = serde_json::from_str(text).map_err(|error| Unread {
        at: Some(At {
            line: u32::try_from(error.line()).unwrap_or(u32::MAX),
            column: u32::try_from(error.column().max(1)).unwrap_or(u32::MAX),
        }),
        reason: plain(&error),
    })?;
    let mut reader = Reader { lines: Lines::of(text), budget: Budget::new() };
    reader.value(root, 0)
}

/// The message without the place, which is told otherwise.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(message, _)| message.to_owned())
}

struct Reader<'t> {
    lines: Lines<'t>,
    budget: Budget,
}

impl<'t> Reader<'t> {
    fn value(&mut self, raw: &'t RawValue, depth: usize) -> Result<Node, Unread> {
        let piece = raw.get();
        // A piece of the text that the lines are of.
        let offset = (piece.as_ptr() as usize).saturating_sub(self.lines.text.as_ptr() as usize);
        let at = self.lines.at(offset);
        self.budget.take(1, depth, at)?;
        let wrong = |error: serde_json::Error| Unread::new(at, plain(&error));
        let kind = match piece.as_bytes().first() {
            Some(b'{') => {
                let Pairs(pairs) = serde_json::from_str(piece).map_err(wrong)?;
                let mut all = Vec::with_capacity(pairs.len());
                for (key, raw) in pairs {
                    let node = self.value(raw, depth + 1)?;
                    all.push(Entry { at: node.at, key: key.into_owned(), node });
                }
                entries(all)?
            }
            Some(b'[') => {
                let all: Vec<&RawValue> = serde_json::from_str(piece).map_err(wrong)?;
                Kind::List(all.into_iter().map(|raw| self.value(raw, depth + 1)).collect::<Result<_, _>>()?)
            }
            Some(b'"') => Kind::Text(serde_json::from_str(piece).map_err(wrong)?),
            Some(b'n') => Kind::Null,
            _ => Kind::Bare(piece.to_owned()),
        };
        Ok(Node { at, kind })
    }
}

/// An object with its keys as they come, also one that comes twice.
struct Pairs<'t>(Vec<(Cow<'t, str>, &'t RawValue)>);

impl<'de: 't, 't> Deserialize<'de> for Pairs<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut all = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
                    all.push((Cow::Owned(key), value));
                }
                Ok(Pairs(all))
            }
        }
        deserializer.deserialize_map(Each)
    }
}
