//! Whatever a template holds, loading and expanding it ends in a text or an error, the same each time.

use proptest::prelude::*;

use super::*;

const ELEMENTS: &[&str] = &[
    "literal",
    "self",
    "selftype",
    "setvalue",
    "getvalue",
    "setdefaults",
    "type",
    "entity",
    "varVal",
    "confVal",
    "def_entity",
    "def_type",
    "is_entity",
    "OR_expr",
    "AND_expr",
    "var",
    "val",
    "iterateOverLists",
    "iteratorList",
    "item",
    "select",
    "index",
    "indexof",
    "numStrings",
    "plus",
    "minus",
    "mul",
    "div",
    "if",
    "then",
    "elseif",
    "else",
    "equal",
    "noteq",
    "hasvalue",
    "match",
    "pattern",
    "or",
    "and",
    "substitute",
    "getentitylist",
    "unique",
    "sorted",
    "line",
    "cat",
    "ts",
];

/// Trees of elements, mostly in the shapes that are allowed.
fn any_tree() -> impl Strategy<Value = String> {
    let text =
        prop::sample::select(vec!["a", "1", " ", "\n", "room", "cname", "server", "(.)", "\\1", "-5", "é"]);
    let leaf = prop_oneof![
        text.prop_map(str::to_owned),
        Just("<self/>".to_owned()),
        Just("<item/>".to_owned()),
        Just("<varVal>cname</varVal>".to_owned()),
    ];
    leaf.prop_recursive(6, 64, 4, |inner| {
        let parts = prop::collection::vec(inner, 0..4);
        prop_oneof![
            2 => (prop::sample::select(ELEMENTS), parts.clone())
                .prop_map(|(name, parts)| format!("<{name}>{}</{name}>", parts.concat())),
            1 => parts.clone().prop_map(|parts| format!(
                "<if><or><self/>{}</or><then>{}</then></if>", parts.concat(), parts.concat())),
            1 => parts.clone().prop_map(|parts| format!(
                "<iterateOverLists><iteratorList>{}</iteratorList>{}<item/></iterateOverLists>",
                parts.concat(), parts.concat())),
            1 => parts.prop_map(|parts| format!(
                "<substitute><pattern>(.)</pattern><cat>{}</cat><cat>\\1{}</cat></substitute>",
                parts.concat(), parts.concat())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_tree_of_elements_ends(tree in any_tree()) {
        let site = lab();
        let first = expand_for(&site, "client", "hogwarts", &tree);
        prop_assert_eq!(&first, &expand_for(&site, "client", "hogwarts", &tree));
    }

    #[test]
    fn any_text_ends(source in any::<String>(), body in "[<>/a-zI_ ]{0,60}") {
        let _ = Template::parse("t", &source);
        let _ = expand_for(&lab(), "client", "hogwarts", &body);
    }
}
