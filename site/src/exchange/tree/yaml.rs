//! YAML, from the parser's events: nothing is resolved that is not needed, and an alias costs what it stands for.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::{At, Budget, Entry, Kind, Node, Unread, entries};

pub(super) fn parse(text: &str) -> Result<Node, Unread> {
    let mut reader =
        Reader { events: Parser::new_from_str(text), budget: Budget::new(), anchors: HashMap::new() };
    let mut root = None;
    loop {
        match reader.next()? {
            (Event::StreamStart | Event::DocumentEnd | Event::Nothing, _) => {}
            (Event::DocumentStart(_), span) if root.is_some() => {
                return Err(Unread::new(at(span.start), "a second document; put all into one"));
            }
            (Event::DocumentStart(_), _) => {
                let (event, span) = reader.next()?;
                root = Some(reader.node(event, span, 0)?.node);
            }
            (Event::StreamEnd, _) => break,
            (_, span) => return Err(Unread::new(at(span.start), "something outside of the document")),
        }
    }
    Ok(root.unwrap_or(Node { at: At { line: 1, column: 1 }, kind: Kind::Null }))
}

struct Reader<'t> {
    events: Parser<'t, StrInput<'t>>,
    budget: Budget,
    /// What each anchor stands for.
    anchors: HashMap<usize, Measured>,
}

#[derive(Clone)]
struct Measured {
    node: Node,
    /// Of how many nodes it is.
    size: usize,
    /// How deep they are nested.
    height: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Unread> {
        match self.events.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(wrong(&error)),
            None => Err(Unread { at: None, reason: "it ends too early".to_owned() }),
        }
    }

    /// The node that begins with `event`.
    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Measured, Unread> {
        let at = at(span.start);
        if let Event::Alias(anchor) = event {
            let Some(node) = self.anchors.get(&anchor) else {
                return Err(Unread::new(at, "an alias within what it stands for"));
            };
            self.budget.take(node.size, depth + node.height, at)?;
            return Ok(node.clone());
        }
        self.budget.take(1, depth, at)?;
        let tag = match &event {
            Event::Scalar(_, _, _, tag) | Event::SequenceStart(_, tag) | Event::MappingStart(_, tag) => tag,
            _ => &None,
        };
        if let Some(tag) = tag.as_ref().filter(|tag| !tag.is_yaml_core_schema()) {
            return Err(Unread::new(at, format!("the tag {tag} means nothing here; remove it")));
        }
        let (mut size, mut height) = (1, 0);
        let mut count = |inner: &Measured| {
            size += inner.size;
            height = height.max(inner.height + 1);
        };
        let (kind, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = tag.is_some_and(|tag| tag.suffix == "str");
                (scalar(&text, style == ScalarStyle::Plain && !is_text), anchor)
            }
            Event::SequenceStart(anchor, _) => {
                let mut all = Vec::new();
                loop {
                    let (event, span) = self.next()?;
                    if matches!(event, Event::SequenceEnd) {
                        break (Kind::List(all), anchor);
                    }
                    let inner = self.node(event, span, depth + 1)?;
                    count(&inner);
                    all.push(inner.node);
                }
            }
            Event::MappingStart(anchor, _) => {
                let mut all = Vec::new();
                loop {
                    let (event, span) = self.next()?;
                    if matches!(event, Event::MappingEnd) {
                        break (entries(all)?, anchor);
                    }
                    let key = self.node(event, span, depth + 1)?;
                    count(&key);
                    let Node { at, kind: Kind::Text(name) | Kind::Bare(name) } = key.node else {
                        return Err(Unread::new(key.node.at, format!("{} is no name", key.node.is())));
                    };
                    let (event, span) = self.next()?;
                    let inner = self.node(event, span, depth + 1)?;
                    count(&inner);
                    all.push(Entry { at, key: name, node: inner.node });
                }
            }
            _ => return Err(Unread::new(at, "it ends too early")),
        };
        let measured = Measured { node: Node { at, kind }, size, height };
        // 0: it has no anchor.
        if anchor != 0 {
            self.budget.take(size, depth, at)?;
            self.anchors.insert(anchor, measured.clone());
        }
        Ok(measured)
    }
}

fn scalar(text: &str, is_plain: bool) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" if is_plain => Kind::Null,
        text if is_plain => Kind::Bare(text.to_owned()),
        text => Kind::Text(text.to_owned()),
    }
}

fn at(marker: Marker) -> At {
    At {
        line: u32::try_from(marker.line()).unwrap_or(u32::MAX),
        column: u32::try_from(marker.col() + 1).unwrap_or(u32::MAX),
    }
}

fn wrong(error: &ScanError) -> Unread {
    Unread::new(at(*error.marker()), error.info())
}
