//! A template's text with a call put in wherever it may repeat itself or grow, so that no template runs for ever or
//! takes all memory.
//!
//! Tera bounds neither. It does bound how long one expression is and how deep tags nest, so what is left are loops,
//! branches that repeat (`include`, `block`), and variables that are made of themselves. Behind the tags of these comes
//! a call of [`STEP`], which counts, and which looks at the variable that was just set. Two things that could not be
//! followed so are refused: loops inside of expressions, and components.

use super::depth::Links;
use crate::error::Place;

/// The function that is called; its name is none that a template would use.
pub(super) const STEP: &str = "__step";

/// What one step costs, apart from the text that it may print where no output limit sees it.
const COST: usize = 64;

/// What one value costs that is printed into a variable. No variable is longer than
/// [`MAX_VARIABLE`](super::lookup::MAX_VARIABLE), and most are far shorter.
const PRINTED: usize = 16 << 10;

/// The tags behind which steps are counted, as they begin.
const STEP_TAGS: [&str; 9] = ["for", "el", "endif", "endfor", "include", "block", "set", "endset", "filter"];

/// A template that counts what it does.
pub(super) struct Guarded {
    pub(super) text: String,
    /// Whether the text made no sense; Tera then says why.
    pub(super) broken: bool,
    /// Which other templates it leads to.
    pub(super) links: Links,
    insertions: Vec<Insertion>,
}

/// Where text was put in: the line, the column from 1, both in the new text.
#[derive(Debug)]
struct Insertion {
    line: usize,
    column: usize,
    width: usize,
}

impl Guarded {
    /// Where that is in the template as it was written.
    pub(super) fn original(&self, place: Place) -> Place {
        let mut column = place.column;
        for inserted in self.insertions.iter().rev().filter(|inserted| inserted.line == place.line) {
            if inserted.column < place.column {
                column = column.saturating_sub(inserted.width).max(inserted.column);
            }
        }
        Place { column, ..place }
    }
}

/// Why a template can't be guarded, and at which byte.
pub(super) struct Unguarded {
    pub(super) at: usize,
    pub(super) reason: &'static str,
}

/// Puts the calls in.
pub(super) fn guard(source: &str) -> Result<Guarded, Unguarded> {
    let mut writer = Writer { source, ..Writer::default() };
    let mut scanner = Scanner { source, at: 0 };
    // Each open `set` and `filter` section, the former with its variable's name.
    let mut captures: Vec<Option<&str>> = Vec::new();
    let repeats_blocks = source.contains("super");
    let mut broken = false;
    let mut blocks: usize = 0;
    while let Some(piece) = scanner.next() {
        let piece = match piece {
            Ok(piece) => piece,
            Err(Broken) => {
                broken = true;
                break;
            }
        };
        let Piece::Tag { is_print, end, trims, tokens } = piece else { continue };
        let mut words = tokens.iter().map(|token| token.text(source));
        let keyword = if is_print { "" } else { words.next().unwrap_or_default() };
        let inner = if is_print { tokens.as_slice() } else { tokens.get(1..).unwrap_or_default() };
        if let Some(token) = inner.iter().find(|token| token.text(source) == "for") {
            let reason = "a loop inside of an expression is not available; use {% for %}";
            return Err(Unguarded { at: token.at, reason });
        }
        if matches!(keyword, "component" | "endcomponent") {
            let at = tokens.first().map_or(0, |token| token.at);
            return Err(Unguarded {
                at,
                reason: "components are not available; use {% include %} or {% block %}",
            });
        }
        match keyword {
            "include" | "extends" => {
                let name = inner.first().and_then(|token| token.string(source)).unwrap_or_default();
                if name.contains('\\') {
                    let at = inner.first().map_or(0, |token| token.at);
                    return Err(Unguarded { at, reason: "no template has a backslash in its name" });
                }
                writer.link(keyword == "include", name);
            }
            "block" => {
                blocks += 1;
                writer.links.nesting = writer.links.nesting.max(blocks);
            }
            "endblock" => blocks = blocks.saturating_sub(1),
            _ => {}
        }
        let captured = !captures.is_empty() || repeats_blocks;
        let literal = if captured { scanner.literal_until_step(end) } else { 0 };
        match keyword {
            "" if captured => writer.step(end, trims, PRINTED, None),
            "for" | "else" | "elif" | "endif" | "endfor" | "include" | "block" => {
                writer.step(end, trims, COST + literal, None);
            }
            "set" | "set_global" => {
                let name = words.next();
                if words.next() == Some("=") {
                    writer.step(end, trims, COST + literal, name);
                } else {
                    captures.push(name);
                    writer.step(end, trims, COST + scanner.literal_until_step(end), None);
                }
            }
            "endset" => writer.step(end, trims, COST + literal, captures.pop().flatten()),
            "filter" => {
                captures.push(None);
                writer.step(end, trims, COST + scanner.literal_until_step(end), None);
            }
            "endfilter" => {
                captures.pop();
                writer.step(end, trims, COST + literal, None);
            }
            _ => {}
        }
    }
    writer.finish(broken)
}

#[derive(Default)]
struct Writer<'a> {
    source: &'a str,
    /// How much of it has been copied.
    copied: usize,
    text: String,
    links: Links,
    insertions: Vec<Insertion>,
}

impl Writer<'_> {
    fn link(&mut self, includes: bool, name: &str) {
        let Links { includes: included, extends, .. } = &mut self.links;
        if !includes {
            *extends = Some(name.to_owned());
        } else if !included.iter().any(|known| known == name) {
            included.push(name.to_owned());
        }
    }

    fn step(&mut self, at: usize, trims: bool, cost: usize, variable: Option<&str>) {
        self.text.push_str(self.source.get(self.copied..at).unwrap_or_default());
        self.copied = at;
        // A tag that trims what is behind it must still do so.
        let end = if trims { "-%}" } else { "%}" };
        let value = variable.map_or(String::new(), |name| format!(", value={name}"));
        let inserted = format!("{{% if {STEP}(cost={cost}{value}) {end}{{% endif {end}");
        let line_start = self.text.rfind('\n').map_or(0, |newline| newline + 1);
        let before = self.text.get(line_start..).unwrap_or_default().chars().count();
        let line = self.text.matches('\n').count() + 1;
        self.insertions.push(Insertion { line, column: before + 1, width: inserted.chars().count() });
        self.text.push_str(&inserted);
    }

    fn finish(mut self, broken: bool) -> Result<Guarded, Unguarded> {
        self.text.push_str(self.source.get(self.copied..).unwrap_or_default());
        Ok(Guarded { text: self.text, broken, links: self.links, insertions: self.insertions })
    }
}

/// A piece of a template, as Tera's own lexer cuts it.
enum Piece {
    /// Text, a comment, or what stands between `raw` and `endraw`.
    Other,
    /// `{% ... %}` or `{{ ... }}`.
    Tag {
        is_print: bool,
        /// The byte behind it.
        end: usize,
        /// Whether it trims what is behind it.
        trims: bool,
        tokens: Vec<Token>,
    },
}

/// A word or a sign within a tag. Strings have no text: what is in them is no code.
struct Token {
    at: usize,
    end: usize,
}

impl Token {
    fn text<'a>(&self, source: &'a str) -> &'a str {
        source.get(self.at..self.end).unwrap_or_default()
    }

    /// What stands between its quotes, if it is a string.
    fn string<'a>(&self, source: &'a str) -> Option<&'a str> {
        let rest = source.get(self.at..)?;
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"' | '`'))?;
        rest.get(1..string(rest, quote)?.checked_sub(1)?)
    }
}

/// The text makes no sense.
#[derive(Debug)]
struct Broken;

struct Scanner<'a> {
    source: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        self.source.get(self.at..).unwrap_or_default()
    }

    /// How many bytes of text stand behind `at`, up to the next tag behind which a step is counted: at most so much is
    /// printed before it. What is printed between is counted by itself.
    fn literal_until_step(&self, at: usize) -> usize {
        let rest = self.source.get(at..).unwrap_or_default();
        let is_step = |offset: &usize| {
            let word =
                rest.get(offset + 2..).unwrap_or_default().trim_start_matches(['-', ' ', '\t', '\r', '\n']);
            STEP_TAGS.iter().any(|tag| word.starts_with(tag))
        };
        let mut tags = rest.match_indices("{%").map(|(offset, _)| offset);
        tags.find(is_step).unwrap_or(rest.len())
    }

    fn next(&mut self) -> Option<Result<Piece, Broken>> {
        let rest = self.rest();
        if rest.is_empty() {
            return None;
        }
        Some(match rest.get(..2) {
            Some("{{") => self.tag(true),
            Some("{%") => self.tag(false),
            Some("{#") => self.skip_behind("#}"),
            _ => {
                let starts = ["{{", "{%", "{#"].iter().filter_map(|start| rest.find(start));
                self.at += starts.min().unwrap_or(rest.len());
                Ok(Piece::Other)
            }
        })
    }

    fn skip_behind(&mut self, end: &str) -> Result<Piece, Broken> {
        // A comment's own `{#-` can't be its end.
        let from = if self.rest().as_bytes().get(2) == Some(&b'-') { 3 } else { 2 };
        let inner = self.rest().get(from..).unwrap_or_default();
        let found = inner.find(end).ok_or(Broken)?;
        self.at += from + found + end.len();
        Ok(Piece::Other)
    }

    fn tag(&mut self, is_print: bool) -> Result<Piece, Broken> {
        self.at += 2;
        if self.rest().starts_with('-') {
            self.at += 1;
        }
        if !is_print && let Some(offset) = raw_tag(self.rest(), "raw") {
            return self.raw(offset);
        }
        let (plain, trimming) = if is_print { ("}}", "-}}") } else { ("%}", "-%}") };
        let mut tokens = Vec::new();
        loop {
            let rest = self.rest();
            let blanks = rest.bytes().take_while(u8::is_ascii_whitespace).count();
            self.at += blanks;
            let rest = self.rest();
            let Some(first) = rest.chars().next() else { return Err(Broken) };
            for (end, trims) in [(trimming, true), (plain, false)] {
                if rest.starts_with(end) {
                    self.at += end.len();
                    return Ok(Piece::Tag { is_print, end: self.at, trims, tokens });
                }
            }
            let length = match first {
                '\'' | '"' | '`' => {
                    let length = string(rest, first).ok_or(Broken)?;
                    tokens.push(Token { at: self.at, end: self.at });
                    self.at += length;
                    continue;
                }
                'a'..='z' | 'A'..='Z' | '_' => {
                    rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count()
                }
                '=' if rest.starts_with("==") => 2,
                other => other.len_utf8(),
            };
            tokens.push(Token { at: self.at, end: self.at + length });
            self.at += length;
        }
    }

    /// What stands between `raw` and `endraw`, however the latter trims.
    fn raw(&mut self, offset: usize) -> Result<Piece, Broken> {
        self.at += offset;
        loop {
            let found = self.rest().find("{%").ok_or(Broken)?;
            self.at += found + 2;
            if let Some(end) = raw_tag(self.rest(), "endraw") {
                self.at += end;
                return Ok(Piece::Other);
            }
        }
    }
}

/// How long the rest of the tag `word` is behind its `{%`, if it is that tag.
fn raw_tag(rest: &str, word: &str) -> Option<usize> {
    let blank = |c: char| c.is_ascii_whitespace();
    let inner = rest.strip_prefix('-').unwrap_or(rest).trim_start_matches(blank);
    let inner = inner.strip_prefix(word)?.trim_start_matches(blank);
    let inner = inner.strip_prefix('-').unwrap_or(inner).strip_prefix("%}")?;
    Some(rest.len() - inner.len())
}

/// How long the string is that `rest` begins with, its quotes counted.
fn string(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(source: &str) -> String {
        let Ok(guarded) = guard(source) else { panic!("{source} is refused") };
        assert!(!guarded.broken, "{source}");
        guarded.text
    }

    /// The same with what was put in shown as `@` with its cost, `!` where it trims.
    fn shown(source: &str) -> String {
        let mut text = text(source);
        while let Some(from) = text.find("{% if __step(") {
            let inner = text[from..].find(") ").unwrap();
            let end = from + text[from..].find("endif ").unwrap() + 6;
            let trims = text[end..].starts_with('-');
            let end = end + if trims { 3 } else { 2 };
            let call = text[from + 13..from + inner].replace("cost=", "");
            text.replace_range(from..end, &format!("@{call}{}", if trims { "!" } else { "" }));
        }
        text
    }

    #[test]
    fn steps_stand_behind_what_repeats() {
        for (source, expected) in [
            ("a {{ b }} c", "a {{ b }} c"),
            ("{% for a in b %}x{% endfor %}", "{% for a in b %}@64x{% endfor %}@64"),
            ("{%- for a in b -%} x {%- endfor -%} y", "{%- for a in b -%}@64! x {%- endfor -%}@64! y"),
            ("{% if a %}b{% else %}c{% endif %}", "{% if a %}b{% else %}@64c{% endif %}@64"),
            ("{% include 'a' %}", "{% include 'a' %}@64"),
            ("{% set a = b == c %}", "{% set a = b == c %}@64, value=a"),
            ("{% set a %}xyz{{ a }}{% endset %}", "{% set a %}@74xyz{{ a }}@16384{% endset %}@64, value=a"),
            ("{# {% for #}{{ '{% for %}' }}", "{# {% for #}{{ '{% for %}' }}"),
            ("{% raw %}{% for a in b %}{%- endraw -%}", "{% raw %}{% for a in b %}{%- endraw -%}"),
            (r#"{{ "\"}}" }}{% set a = '%}' %}"#, r#"{{ "\"}}" }}{% set a = '%}' %}@64, value=a"#),
        ] {
            assert_eq!(shown(source), expected, "{source}");
        }
    }

    #[test]
    fn what_could_not_be_followed_is_refused() {
        for (source, word) in [
            ("{{ [a for a in b] }}", "for"),
            ("x{% set a = [a for a in b] %}", "for"),
            ("{% for a in [c for c in b] %}{% endfor %}", "for c"),
            ("{% component a() %}{% endcomponent a %}", "component"),
        ] {
            let Err(Unguarded { at, .. }) = guard(source) else { panic!("{source} is not refused") };
            assert!(source[at..].starts_with(word), "{source}: {}", &source[at..]);
        }
    }

    #[test]
    fn what_makes_no_sense_is_left_to_tera() {
        for source in ["{{", "{% for", "{{ 'a }}", "{# a", "{% raw %}{{ a }}", "{{ ä"] {
            assert!(guard(source).is_ok_and(|guarded| guarded.broken), "{source}");
        }
    }

    #[test]
    fn places_are_those_of_the_template_as_it_was_written() {
        let source = "\n{% for a in b %}ä{{ c }}{% endfor %}{{ d }}\n{{ e }}";
        let Ok(guarded) = guard(source) else { panic!("refused") };
        for word in ["b %}", "c }}", "d }}", "e }}"] {
            let place = |text: &str| {
                let before = &text[..text.find(word).unwrap()];
                let line = before.matches('\n').count() + 1;
                Place {
                    template: String::new(),
                    line,
                    column: before.rsplit('\n').next().unwrap().chars().count() + 1,
                }
            };
            assert_eq!(guarded.original(place(&guarded.text)), place(source), "{word}");
        }
    }
}
