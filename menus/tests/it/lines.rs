//! No value changes which commands a script has: iPXE's own way of reading it (ipxe, src/image/script.c and
//! src/core/exec.c), written again here, sees the same commands whatever the value.

use proptest::prelude::*;

use super::*;

/// A script as iPXE reads it: per logical line, the first word of each command and what joins it to the next.
fn commands(script: &str) -> Vec<Vec<String>> {
    let mut lines = Vec::new();
    let mut joined = String::new();
    for piece in script.split('\n') {
        joined.push_str(piece.strip_suffix('\r').unwrap_or(piece));
        if let Some(continued) = joined.strip_suffix('\\') {
            joined = continued.to_owned();
            continue;
        }
        lines.push(shape(&std::mem::take(&mut joined)));
    }
    lines
}

fn shape(line: &str) -> Vec<String> {
    let mut shape = Vec::new();
    let mut first = true;
    for token in line.split([' ', '\t', '\n', '\x0b', '\x0c', '\r']).filter(|token| !token.is_empty()) {
        if token.starts_with('#') {
            shape.push("comment".to_owned());
            break;
        }
        let joins = matches!(token, "||" | "&&" | ";");
        if first || joins {
            shape.push(token.to_owned());
        }
        first = joins;
        shape.extend(token.match_indices("${").map(|_| "expansion".to_owned()));
    }
    shape
}

/// Values made of what iPXE finds special, and of anything at all.
fn any_value() -> impl Strategy<Value = String> {
    let special = prop::sample::select(vec![
        "\n", "\r", "\\", "$", "{", "}", "${", "&", "|", "&&", "||", ";", "#", ":", " ", "\t", "a", "x y",
        "\0", "é",
    ]);
    prop_oneof![
        prop::collection::vec(special, 0..6).prop_map(|parts| parts.concat()),
        any::<String>(),
        "[ -~]{0,12}"
    ]
}

const TEMPLATE: &str = "#!ipxe
echo {{ server.name }}
echo a{{ server.name }}b
set x {{ server.name }}{{ server.name }}
set y {{ server.name }} {{ server.name }} || goto end
item key {{ server.name }}
:end
echo end
";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_value_changes_the_commands(value in any_value()) {
        let menus = one("lab.ipxe.tera", TEMPLATE);
        let mut context = rook();
        context.server.name = "plain".to_owned();
        let plain = menus.render("lab.ipxe", &context).unwrap();
        context.server.name = value;
        if let Ok(text) = menus.render("lab.ipxe", &context) {
            prop_assert_eq!(commands(&text), commands(&plain), "{:?}", context.server.name);
        }
    }
}

#[test]
fn the_oracle_sees_what_it_is_to_see() {
    let plain = commands("set x a\necho b\n");
    for evil in [
        "set x a\nshell\necho b\n",
        "set x a\\\necho b\n",
        "set x a && shell\necho b\n",
        "set x ${a}\necho b\n",
    ] {
        assert_ne!(commands(evil), plain, "{evil:?}");
    }
}
