//! Colours and line lengths. Colour is for terminals only, and never where `NO_COLOR` is set (no-color.org).

use std::io::{self, IsTerminal as _};

/// How long lines of prose become, in characters.
const WIDTH: usize = 100;

/// Whether to colour.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(bool);

impl Paint {
    /// As the standard output can show it.
    pub(super) fn of_output() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(io::stdout().is_terminal() && !unwanted)
    }

    /// Without colours.
    #[cfg(test)]
    pub(super) const PLAIN: Self = Self(false);

    pub(super) fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    pub(super) fn warning(self, text: &str) -> String {
        self.with("33", text)
    }

    pub(super) fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(super) fn faint(self, text: &str) -> String {
        self.with("2", text)
    }

    pub(super) fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// `text` in lines of bounded length, each after the first behind `indent` spaces. Words that are longer are not cut:
/// they are names.
pub(super) fn wrap(text: &str, indent: usize) -> String {
    let mut out = String::new();
    let mut column = indent;
    for word in text.split_whitespace() {
        let len = word.chars().count();
        if column > indent {
            if column + 1 + len > WIDTH {
                out.push('\n');
                out.push_str(&" ".repeat(indent));
                column = indent;
            } else {
                out.push(' ');
                column += 1;
            }
        }
        out.push_str(word);
        column += len;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_names_whole() {
        let name = "n".repeat(WIDTH);
        let text = wrap(&format!("{} {name} end", "word ".repeat(30)), 4);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().all(|line| line.len() <= WIDTH || line.contains(&name)), "{text}");
        assert!(lines.iter().skip(1).all(|line| line.starts_with("    ")), "{text}");
        assert!(text.ends_with("    end"));
    }

    #[test]
    fn colour_is_only_where_it_is_wanted() {
        assert_eq!(Paint::PLAIN.bad("x"), "x");
        assert_eq!(Paint(true).bad("x"), "\x1b[31mx\x1b[0m");
    }
}
