//! What is exported makes the same site again, exactly, whatever is in it.

use proptest::prelude::*;

use super::*;
use crate::entity::{Definition, Definitions, Entity, TypeDefinition, Values};

/// The entities and the definitions.
fn contents(model: &Model) -> (Vec<Entity>, Definitions) {
    (model.all().map(|entity| Entity::clone(entity)).collect(), model.definitions().clone())
}

#[test]
fn a_lab_survives_each_format() {
    let lab = toml(LAB);
    for format in FORMATS {
        let text = whole(&lab, format);
        let (again, _) =
            applied(&Model::default(), &text, format, false).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(contents(&again), contents(&lab), "{text}");
        assert!(applied(&lab, &text, format, true).unwrap().1.is_empty(), "{text}");
        assert_eq!(whole(&again, format), text);
    }
    let text = whole(&lab, TextFormat::Toml);
    assert!(text.contains("[[entities.client.rook.config_files]]"), "a table is written by rows: {text}");
}

#[test]
fn secrets_are_written_only_if_asked() {
    let lab = toml(LAB);
    for format in FORMATS {
        let how = Export { format, secrets: false, definitions: true };
        let text = export(&lab, lab.all().map(AsRef::as_ref), how);
        assert!(!text.contains("geheim"), "{text}");
        assert!(applied(&lab, &text, format, true).unwrap().1.is_empty(), "and a prune leaves them: {text}");
        assert!(whole(&lab, format).contains("geheim"));
    }
}

/// Any text that a value may be, with much of what a format could take for something else.
fn any_text() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(vec![
        "",
        " ",
        "~",
        "null",
        "yes",
        "No",
        "true",
        "0x1F",
        "1e3",
        "0012",
        "12:30:45",
        "1979-05-27",
        "- a",
        "a: b",
        "a #b",
        "#",
        "'",
        "''''",
        "\"",
        "\"\"\"",
        "\\",
        "\\n",
        "\n",
        "\n\n",
        "a\n",
        "\na",
        " a ",
        "\t",
        "*a",
        "&a",
        "!a",
        "%a",
        "@a",
        "`a",
        "{}",
        "[]",
        "[a",
        "? a",
        "...",
        "---",
        "<<",
        "=",
        "\u{2028}",
        "\u{feff}",
        "\u{ffff}",
        "\u{e000}",
        "\u{1f600}",
        "ä",
    ]);
    prop_oneof![
        2 => odd.clone().prop_map(str::to_owned),
        1 => "[a-zA-Z0-9 ./:-]{0,20}",
        1 => prop::collection::vec(prop_oneof![odd.prop_map(str::to_owned), "\\PC"], 0..6).prop_map(|parts| parts.concat()),
    ]
    .prop_map(|text| text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect())
}

fn any_values() -> impl Strategy<Value = Values> {
    prop::collection::vec(any_text(), 1..4).prop_map(|all| all.into_iter().collect())
}

/// Definitions of an admin's own type and of variables of bootd's.
fn any_definitions() -> impl Strategy<Value = Vec<Edit>> {
    let definition = (any_text(), any::<[bool; 3]>(), 0..9_u32, prop::option::of(any_text())).prop_map(
        |(about, [secret, mandatory, is_choice], place, example)| Definition {
            about,
            secret,
            mandatory,
            place,
            choice: is_choice.then(|| {
                serde_json::from_str(r#"{"type":"client","where":"name=a or name=\"b c\""}"#).unwrap()
            }),
            example,
            ..Definition::default()
        },
    );
    let defined = (prop::sample::select(vec!["client", "place"]), "[xyz][.]?[0-9]?", definition);
    (any_text(), prop::collection::vec(defined, 0..4)).prop_map(|(about, all)| {
        let place = TypeDefinition { about, open: true, ..TypeDefinition::default() };
        let place = Edit::DefineType { kind: "place".parse().unwrap(), definition: Some(Box::new(place)) };
        let variables = all.into_iter().map(|(kind, variable, definition)| Edit::Define {
            kind: kind.parse().unwrap(),
            variable: variable.parse().unwrap(),
            definition: Some(Box::new(definition)),
        });
        std::iter::once(place).chain(variables).collect()
    })
}

/// Entities of open types, whose variables may be called and be anything, and a table of each shape.
fn any_entities() -> impl Strategy<Value = Vec<Edit>> {
    let variables = prop::collection::vec(("[abc_][a-z.-]{0,3}", any_values()), 0..5);
    let entity = (prop::sample::select(vec!["app", "monitor", "place"]), "[a-e0_][a-e.@+-]{0,3}", variables);
    let rows =
        prop::collection::vec((any_text(), prop::sample::select(vec!["mun@site", "all", "rook@host"])), 0..4);
    (prop::collection::vec(entity, 0..6), rows).prop_map(|(all, rows)| {
        let mut edits = Vec::new();
        let set = |entity: &crate::entity::EntityId, variable: &str, values| Edit::Set {
            entity: entity.clone(),
            variable: variable.parse().unwrap(),
            values,
            expect: None,
        };
        for (kind, name, variables) in all {
            let id: crate::entity::EntityId = format!("{kind}/{name}").parse().unwrap();
            if edits.contains(&Edit::Create { entity: id.clone() }) {
                continue;
            }
            edits.push(Edit::Create { entity: id.clone() });
            edits.extend(variables.into_iter().map(|(variable, values)| set(&id, &variable, values)));
        }
        let file: crate::entity::EntityId = "file/f".parse().unwrap();
        edits.push(Edit::Create { entity: file.clone() });
        edits.push(set(&file, "instance", rows.iter().map(|(_, instance)| *instance).collect()));
        edits.push(set(&file, "source", rows.iter().map(|_| "x").collect()));
        edits
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn an_export_makes_the_same_site_again(definitions in any_definitions(), entities in any_entities()) {
        let Ok((model, _)) = Model::default().apply(&definitions) else { return Ok(()) };
        // What clashes with a definition is left out, one after the other.
        let model = entities.iter().fold(model, |model, edit| match model.apply(std::slice::from_ref(edit)) {
            Ok((next, _)) => next,
            Err(_) => model,
        });
        for format in FORMATS {
            let text = whole(&model, format);
            let again = applied(&Model::default(), &text, format, false);
            let (again, _) = again.map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
            prop_assert_eq!(contents(&again), contents(&model), "{}", text);
            let (_, effects) = applied(&again, &text, format, true).unwrap();
            prop_assert!(effects.is_empty(), "{effects:?}\n{text}");
            prop_assert!(read(&text, format, "x").unwrap().edits(&again, true).unwrap().is_empty());
        }
    }
}
