//! Filters that make a value fit for where it is printed: between quotes, or among GRUB's words. Control characters are
//! refused when it is printed, as everywhere.

use tera::{Kwargs, State, TeraResult};

use super::lookup::within;

/// `quoted`: the text between double quotes, as YAML, kickstart files and GRUB take it; what would end the quotes or begin
/// an escape is escaped.
pub(super) fn quoted(value: &str, _: Kwargs, _: &State<'_>) -> TeraResult<String> {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('"');
    for c in value.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    within(quoted.len(), "quoted")?;
    Ok(quoted)
}

/// `grub_words`: the text as words of GRUB's script language, in which a semicolon ends a command and a dollar sign begins a
/// variable (GRUB manual, section "Writing full configuration files directly"). Blanks divide words, as they do here.
pub(super) fn grub_words(value: &str, _: Kwargs, _: &State<'_>) -> TeraResult<String> {
    let words = escape(value);
    within(words.len(), "grub_words")?;
    Ok(words)
}

/// `grub_path(device)`: a file among the boot files, or the file of a URL, as GRUB names it: `(http,10.0.0.1)/files/linux`.
/// Over TFTP boot files have no folder.
#[expect(clippy::needless_pass_by_value, reason = "Tera's signature for filters")]
pub(super) fn grub_path(value: &str, kwargs: Kwargs, _: &State<'_>) -> TeraResult<String> {
    let device = kwargs.must_get::<&str>("device")?;
    let path = match value.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            format!("({},{})/{}", escape(scheme), escape(host), escape(path))
        }
        None => {
            let folder = if device.starts_with("http") { "/files" } else { "" };
            format!("({device}){folder}/{}", escape(value))
        }
    };
    within(path.len(), "grub_path")?;
    Ok(path)
}

fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        if c.is_ascii() && !c.is_ascii_alphanumeric() && !" -_./:=,+@%^~".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_command_or_begins_a_variable() {
        assert_eq!(escape("ds=nocloud-net;s=http://10.0.0.1/x/"), r"ds=nocloud-net\;s=http://10.0.0.1/x/");
        assert_eq!(
            escape("a $b 'c' \"d\" {e} f&g|h <i> #j \\k"),
            r#"a \$b \'c\' \"d\" \{e\} f\&g\|h \<i\> \#j \\k"#
        );
    }
}
