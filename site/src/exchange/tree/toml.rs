//! TOML.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{At, Budget, Entry, Kind, Lines, Node, Unread};

pub(super) fn parse(text: &str) -> Result<Node, Unread> {
    let lines = Lines::of(text);
    let document = DeTable::parse(text).map_err(|error| Unread {
        at: error.span().map(|span| lines.at(span.start)),
        reason: error.message().replace('\n', " "),
    })?;
    let mut reader = Reader { lines, budget: Budget::new() };
    reader.table(document.get_ref(), At { line: 1, column: 1 }, 0)
}

struct Reader<'t> {
    lines: Lines<'t>,
    budget: Budget,
}

impl Reader<'_> {
    fn table(&mut self, table: &DeTable<'_>, at: At, depth: usize) -> Result<Node, Unread> {
        self.budget.take(1, depth, at)?;
        let mut all = Vec::with_capacity(table.len());
        for (key, value) in table {
            let at = self.lines.at(key.span().start);
            all.push(Entry { at, key: key.get_ref().to_string(), node: self.value(value, depth + 1)? });
        }
        // By name as the reader keeps them: back to the order of the file, so that the first error is the first.
        all.sort_by_key(|entry| (entry.at.line, entry.at.column));
        Ok(Node { at, kind: Kind::Map(all) })
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, depth: usize) -> Result<Node, Unread> {
        let at = self.lines.at(value.span().start);
        let kind = match value.get_ref() {
            DeValue::Table(table) => return self.table(table, at, depth),
            DeValue::String(text) => Kind::Text(text.to_string()),
            DeValue::Integer(number) => Kind::Bare(number.to_string()),
            DeValue::Float(number) => Kind::Bare(number.to_string()),
            DeValue::Boolean(yes) => Kind::Bare(yes.to_string()),
            DeValue::Datetime(time) => Kind::Bare(time.to_string()),
            DeValue::Array(array) => {
                self.budget.take(0, depth, at)?;
                let nodes = array.iter().map(|value| self.value(value, depth + 1));
                Kind::List(nodes.collect::<Result<_, _>>()?)
            }
        };
        self.budget.take(1, depth, at)?;
        Ok(Node { at, kind })
    }
}
