//! Rust sources as far as the rules need them: code, strings and comments apart, tests cut off.

use std::fs;
use std::path::{Path, PathBuf};

use support::{Context, Result, workspace};

/// Directories that hold nothing of ours.
const FOREIGN: &[&str] = &["target", ".git"];

/// One source file.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// Its path from the workspace's root.
    pub(crate) path: String,
    /// How many lines it has.
    pub(crate) length: usize,
    /// The code without comments, the contents of strings, and tests; line for line.
    pub(crate) code: Vec<String>,
    /// The strings in that code, each with its line from 1.
    pub(crate) strings: Vec<(usize, String)>,
}

impl Source {
    /// Takes a file's text apart.
    pub(crate) fn new(path: String, text: &str) -> Self {
        let own = without_tests(&path, text);
        let (code, strings) = split(own);
        let code = code.lines().map(str::to_owned).collect();
        Self { path, length: text.lines().count(), code, strings }
    }

    /// Where `word` stands in the code, as `path:line`.
    pub(crate) fn uses(&self, word: &str) -> Vec<String> {
        let found = self.code.iter().enumerate().filter(|(_, line)| has_word(line, word));
        found.map(|(number, _)| format!("{}:{}: {word}", self.path, number + 1)).collect()
    }

    /// Whether it lies below one of these directories.
    pub(crate) fn is_below(&self, directories: &[&str]) -> bool {
        directories.iter().any(|directory| self.path.starts_with(&format!("{directory}/")))
    }
}

/// All Rust sources of the workspace.
pub(crate) fn sources() -> Result<Vec<Source>> {
    let all = files()?.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "rs"));
    all.map(|path| {
        let text = fs::read_to_string(workspace().join(&path)).context(path.display())?;
        Ok(Source::new(path.to_string_lossy().into_owned(), &text))
    })
    .collect()
}

/// All files of the workspace, by their paths from its root, without what is built.
pub(crate) fn files() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(workspace().join(&directory)).context(directory.display())? {
            let entry = entry?;
            let path = directory.join(entry.file_name());
            let foreign = FOREIGN.iter().any(|name| Path::new(name) == Path::new(&entry.file_name()));
            match entry.file_type()? {
                kind if kind.is_dir() && !foreign => open.push(path),
                kind if kind.is_file() => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The text up to the tests at its end; nothing of a file that is all tests.
fn without_tests<'t>(path: &str, text: &'t str) -> &'t str {
    if path.contains("/tests/") || path.ends_with("/tests.rs") || path.ends_with("_tests.rs") {
        return "";
    }
    let cut = text.find("#[cfg(test)]\nmod tests {").or_else(|| text.find("#[cfg(test)]\nmod test {"));
    cut.and_then(|cut| text.get(..cut)).unwrap_or(text)
}

/// Whether the word stands in that line with nothing of a name before or behind it.
fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let behind = line.get(at + word.len()..).and_then(|text| text.chars().next());
        let joined = before.is_some_and(part) || word.ends_with(part) && behind.is_some_and(part);
        !joined
    })
}

/// Code with comments and strings blanked, and the strings with their lines.
fn split(text: &str) -> (String, Vec<(usize, String)>) {
    let mut code = String::new();
    let mut strings = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (length, what) = token(rest, code.chars().next_back());
        let taken = rest.get(..length).unwrap_or(rest);
        match what {
            Token::Code => code.push(first),
            Token::Comment => code.extend(taken.chars().filter(|c| *c == '\n')),
            Token::Text => {
                strings.push((code.matches('\n').count() + 1, taken.to_owned()));
                code.push('"');
                code.extend(taken.chars().filter(|c| *c == '\n'));
                code.push('"');
            }
        }
        rest = rest.get(taken.len()..).unwrap_or_default();
    }
    (code, strings)
}

enum Token {
    Code,
    Comment,
    Text,
}

/// What begins here, and how many bytes it takes.
fn token(rest: &str, before: Option<char>) -> (usize, Token) {
    let first = rest.chars().next().map_or(0, char::len_utf8);
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), Token::Comment);
    }
    if rest.starts_with("/*") {
        return (block_comment(rest), Token::Comment);
    }
    let in_name = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if rest.starts_with('"') {
        return (quoted(rest, '"'), Token::Text);
    }
    // `br` comes here with its `b` already taken for code.
    if rest.starts_with('r') && (!in_name || before == Some('b')) {
        let hashes = rest.chars().skip(1).take_while(|c| *c == '#').count();
        if rest.get(1 + hashes..).is_some_and(|text| text.starts_with('"')) {
            let end = format!("\"{}", "#".repeat(hashes));
            let from = hashes + 2;
            let found = rest.get(from..).and_then(|text| text.find(&end));
            return (found.map_or(rest.len(), |at| from + at + end.len()), Token::Text);
        }
    }
    if rest.starts_with('\'') {
        // A character, unless it is a lifetime: `'a` without a second quote.
        let mut chars = rest.chars().skip(1);
        let escaped = chars.next() == Some('\\');
        if escaped || chars.next() == Some('\'') {
            return (quoted(rest, '\''), Token::Text);
        }
    }
    (first, Token::Code)
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if c == quote {
            return at + 1;
        }
    }
    rest.len()
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(text) = rest.get(at..).filter(|text| !text.is_empty()) {
        let step = match text {
            _ if text.starts_with("/*") => {
                depth += 1;
                2
            }
            _ if text.starts_with("*/") => {
                depth = depth.saturating_sub(1);
                2
            }
            _ => text.chars().next().map_or(1, char::len_utf8),
        };
        at += step;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

#[test]
fn code_strings_and_comments_are_told_apart() {
    let text = "// unsafe\nfn a<'x>() { \"std::fs \\\" x\"; '\"'; r#\"raw \" here\"#; /* unsafe /* */ */ b(); }\n\
                #[cfg(test)]\nmod tests {\n unsafe\n}\n";
    let source = Source::new("x/src/a.rs".to_owned(), text);
    assert_eq!(source.code.join("\n"), "\nfn a<'x>() { \"\"; \"\"; \"\";  b(); }");
    assert_eq!(source.uses("unsafe"), Vec::<String>::new());
    assert_eq!(source.uses("b"), ["x/src/a.rs:2: b"]);
    assert_eq!(source.strings.len(), 3);
    assert!(source.strings.iter().all(|(line, _)| *line == 2), "{:?}", source.strings);
    assert!(has_word("std::fs::read", "std::fs") && !has_word("std::fsx", "std::fs"));
}
