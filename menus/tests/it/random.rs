//! Whatever a Tera template holds, loading and rendering it ends in a text or an error.

use proptest::prelude::*;

use super::*;

fn any_template() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "-",
        " ",
        "\n",
        "x",
        "client",
        ".name",
        "boot",
        "self",
        "why",
        "[0]",
        "[",
        "]",
        "(",
        ")",
        "'a'",
        "\"",
        "1",
        "0",
        "~",
        "|",
        "+",
        "/",
        "==",
        "and",
        "not ",
        "in ",
        "if ",
        "endif",
        "else",
        "for x in ",
        "endfor",
        "set x = ",
        "set x",
        "endset",
        "include 'default.ipxe.tera'",
        "extends 'x'",
        "block a",
        "endblock",
        "range(end=3)",
        "var(name='x')",
        "find(type='client', x='y')",
        "upper",
        "replace(from='a', to='b')",
        "join(sep=',')",
        "loop.index",
        "raw",
        "endraw",
        "{% for x in why %}{{ x }}{% endfor %}",
        "{{ client.name }}",
        "{% if client.image %}",
        "{% endif %}",
        "é",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn any_template_ends(text in prop_oneof![any_template(), any::<String>()]) {
        if let Ok(menus) = Menus::new(vec![("t.tera".to_owned(), text)]) {
            let first = menus.render("t", &stranger());
            prop_assert_eq!(first, menus.render("t", &stranger()));
        }
    }
}
