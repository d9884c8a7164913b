//! What a value must not hold, so that it stays inside the line that its template put it in.

/// The language of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    /// An iPXE script.
    Ipxe,
    /// Anything else that is read line by line.
    Lines,
}

impl Language {
    /// Told by the text's name, or by how it begins, which is how iPXE itself knows its scripts.
    pub(crate) fn of(output_name: &str, beginning: &str) -> Self {
        let script = ["#!ipxe", "#!gpxe"].iter().any(|magic| beginning.trim_start().starts_with(magic));
        if script || output_name.ends_with(".ipxe") { Self::Ipxe } else { Self::Lines }
    }

    /// Why `value` can't be printed; `None`: it can.
    pub(crate) fn objection(self, value: &str) -> Option<&'static str> {
        if value.contains(|c: char| c.is_control() && c != '\t') {
            return Some("it holds a line break or another control character");
        }
        match self {
            Self::Ipxe => ipxe_objection(value),
            Self::Lines => None,
        }
    }
}

/// iPXE splits a line at blanks, then looks for tokens that end a command and for settings to expand; there is no
/// quoting (ipxe, src/core/exec.c and src/image/script.c). What is at a value's edge may meet its neighbours.
fn ipxe_objection(value: &str) -> Option<&'static str> {
    if value.contains("${") || value.ends_with('$') {
        return Some("it holds \"${\" or ends in \"$\", which iPXE would expand as a setting");
    }
    if value.contains("&&") || value.contains("||") || value.ends_with(['&', '|']) {
        return Some(
            "it holds \"&&\" or \"||\" or ends in a half of one, which iPXE takes for the command's end",
        );
    }
    if value.ends_with('\\') {
        return Some("it ends in \"\\\", with which iPXE joins the next line to this one");
    }
    if value.split([' ', '\t']).any(|token| token == ";" || token.starts_with('#')) {
        return Some(
            "it holds a word \";\" or one that begins with \"#\", where iPXE takes the command to end",
        );
    }
    None
}

/// A value that was refused, on its way through Tera's errors.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(pub(crate) &'static str);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_values_pass() {
        for value in
            ["", "rook", "iqn.2026-01.internal.lab.rook:system-disk", "a b;c", "x#y", "${", "100 $ a & b"]
        {
            assert_eq!(Language::Lines.objection(value), None, "{value}");
        }
        for value in
            ["iscsi:10.0.0.1:::0:iqn.x:y", "root=/dev/sda1 quiet", "a;b c#d", "50 % {x}", "$5", "a & b"]
        {
            assert_eq!(Language::Ipxe.objection(value), None, "{value}");
        }
    }

    #[test]
    fn what_ends_a_line_is_refused_everywhere() {
        for value in ["a\nb", "a\rb", "a\0b", "\x1b[2J", "a\x0bb", "a\u{85}b"] {
            assert!(Language::Lines.objection(value).is_some(), "{value:?}");
            assert!(Language::Ipxe.objection(value).is_some(), "{value:?}");
        }
    }

    #[test]
    fn what_ends_a_command_is_refused_in_ipxe_scripts() {
        for value in
            ["${x}", "a$", "a && b", "a||b", "a &", "|", "a \\", ";", "a ; b", "\t;", "#x", "Room #3"]
        {
            assert!(Language::Ipxe.objection(value).is_some(), "{value:?}");
        }
    }
}
