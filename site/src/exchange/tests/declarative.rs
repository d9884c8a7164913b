//! Files that say what the site is to be.

use super::*;

#[test]
fn the_same_lab_in_each_format_is_the_same_site() {
    let lab = toml(LAB);
    assert_eq!(value(&lab, "client", "rook", "mac"), ["52:54:00:77:00:0a"]);
    assert_eq!(value(&lab, "client", "rook", "enabled"), ["yes"]);
    assert_eq!(value(&lab, "client", "rook", "asset_tag"), ["0012"], "a text stays as it was written");
    assert_eq!(value(&lab, "client", "rook", "file_group"), ["mscluster", "staff"]);
    let yaml = r#"
definitions:
  client: {variables: {asset_tag: {about: "", pattern: '[0-9]{4}', example: 0815, mandatory: false, place: 5}}}
entities:
  group: {en1018: &shared {room: EN1018, dept: no}}
  client:
    rook:
      mac: 525400770001
      asset_tag: 0012
      groups: [en1018]
    pawn: *shared
"#;
    let (model, _) = applied(&Model::default(), yaml, TextFormat::Yaml, false).unwrap();
    assert_eq!(value(&model, "client", "rook", "mac"), ["52:54:00:77:00:01"]);
    assert_eq!(value(&model, "client", "rook", "asset_tag"), ["0012"]);
    assert_eq!(value(&model, "client", "pawn", "dept"), ["no"], "no country is false");
}

#[test]
fn what_is_not_mentioned_stays_and_goes_with_a_prune() {
    let lab = toml(LAB);
    let part = "[entities.client.rook]\nroom = 'EN2'\ntoken = 'neu'\nasset_tag = []\n";
    let (merged, effects) = applied(&lab, part, TextFormat::Toml, false).unwrap();
    assert_eq!(effects.len(), 3, "{effects:?}");
    assert_eq!(merged.len(), lab.len());
    assert!(value(&merged, "client", "rook", "asset_tag").is_empty(), "an empty list unsets");
    assert_eq!(value(&merged, "client", "rook", "groups"), ["en1018"]);

    let kept = "[entities.client.rook]\nmac = '52:54:00:77:00:0a'\n";
    let (pruned, _) = applied(&lab, kept, TextFormat::Toml, true).unwrap();
    assert_eq!(pruned.len(), 1);
    let variables: Vec<_> =
        pruned.all().flat_map(|entity| entity.variables()).map(|(name, _)| name.as_str()).collect();
    assert_eq!(variables, ["mac", "token"], "a secret is in no export, so its absence means nothing");
    assert!(pruned.definitions().get("printer").is_some(), "the file says nothing of definitions");

    let (bare, _) = applied(&pruned, "definitions = {}\nentities = {}\n", TextFormat::Toml, true).unwrap();
    assert!(bare.is_empty());
    assert_eq!(bare.definitions(), Model::default().definitions());
}

#[test]
fn a_table_without_rows_is_emptied() {
    let lab = toml(LAB);
    let (emptied, _) =
        applied(&lab, "[entities.client.rook]\nconfig_files = []\n", TextFormat::Toml, true).unwrap();
    assert!(value(&emptied, "client", "rook", "file_id").is_empty());
    assert!(value(&emptied, "client", "rook", "file_group").is_empty());
}

#[test]
fn what_was_changed_in_the_meantime_is_not_overwritten() {
    let lab = toml(LAB);
    let desired = read("[entities.client.rook]\nroom = 'EN2'\n", TextFormat::Toml, "lab.toml").unwrap();
    let edits = desired.edits(&lab, true).unwrap();
    for meanwhile in
        ["[entities.client.rook]\nroom = 'EN3'\n", "[entities.client.pawn]\nmac = '52:54:00:77:00:0f'\n"]
    {
        let (theirs, _) = applied(&lab, meanwhile, TextFormat::Toml, false).unwrap();
        let error = theirs.apply(&edits).unwrap_err().to_string();
        assert!(error.contains("changed in the meantime"), "{error}");
    }
}

#[test]
fn a_type_keeps_what_a_file_does_not_say_of_it() {
    let lab = toml(LAB);
    let part = "[definitions.printer.variables.colour]\nabout = 'Whether.'\nformat = 'boolean'\n";
    let (more, effects) = applied(&lab, part, TextFormat::Toml, false).unwrap();
    assert_eq!(effects.len(), 1, "{effects:?}");
    let printer = more.definitions().get("printer").unwrap();
    assert_eq!((printer.about.as_str(), printer.variables.len()), ("A printer.", 2));
    let shipped = "[definitions.client.variables.mac]\nabout = 'Mine.'\n";
    let error = applied(&lab, shipped, TextFormat::Toml, false).unwrap_err().to_string();
    assert_eq!(
        error,
        "lab.txt:1:31: the definition of variable mac of type client is bootd's own and can't be changed"
    );
}

/// A wrong text, and what is told of it: the place and what would be right.
fn told(format: TextFormat, text: &str) -> String {
    applied(&toml(LAB), text, format, false).expect_err(text).to_string()
}

#[test]
fn what_breaks_a_rule_is_told_with_file_line_entity_variable_value_rule_and_example() {
    use TextFormat::{Json, Toml, Yaml};
    for (format, text, wanted) in [
        (
            Toml,
            "[entities.client.rook]\nroom = 'x'\nmac = 'ff'\n",
            &["lab.txt:3:7: client/rook: mac: \"ff\"", "six pairs", "52:54:00:77:00:01"][..],
        ),
        (
            Yaml,
            "entities:\n  client:\n    rook:\n      asset_tag: abc\n",
            &["lab.txt:4:18: client/rook: asset_tag: \"abc\"", "[0-9]{4}", "0815"],
        ),
        (
            Json,
            "{\"entities\":\n{\"client\":{\"rook\":\n  {\"address\": 12}}}}",
            &["lab.txt:3:15: client/rook: address: \"12\"", "an IPv4 address"],
        ),
        (Toml, "[entities.client.Rook]\n", &["lab.txt:1:18:", "Rook", "en1018-07"]),
        (
            Toml,
            "[entities.client.rook]\nmac = ['52:54:00:77:00:01', '52:54:00:77:00:02']",
            &["lab.txt:2:7", "one value, not 2"],
        ),
        (Toml, "[entities.client.rook]\nimage = 'nothing'", &["lab.txt:2:9", "is no image", "debian12"]),
        (
            Toml,
            "[entities.client.rook]\nmac = '52:54:00:77:00:0b'",
            &["lab.txt:2:7", "belongs to client/pawn"],
        ),
        (
            Toml,
            "[entities.client.rook]\nasset_tga = '1'",
            &["lab.txt:2:13", "no variable asset_tga", "asset_tag"],
        ),
        (Toml, "[entities.robot.rook]\n", &["lab.txt:1:17", "no type robot", "client"]),
        (Toml, "[entities.group.en1018]\nmac = '52:54:00:77:00:01'", &["lab.txt:2:7", "unique"]),
        (
            Toml,
            "[entities.client.rook]\nfile_id = ['access.conf']",
            &["lab.txt:1:18", "config_files", "file_id 1, file_group 2"],
        ),
        (
            Toml,
            "[entities.client.pawn]\n[[entities.client.pawn.access]]\nuser = 'x'",
            &["lab.txt:2:24", "no table access"],
        ),
        (
            Toml,
            "[entities.client.pawn]\n[[entities.client.pawn.config_files]]\nuser = 'x'",
            &["no column user", "file_group, file_id"],
        ),
        (
            Toml,
            "[entities.client.rook]\ntoken = \"x\\u0007\"",
            &["lab.txt:2:9", "\"***\"", "control character"],
        ),
    ] {
        let error = told(format, text);
        for wanted in wanted {
            assert!(error.contains(wanted), "wants {wanted:?}: {error}");
        }
    }
}

#[test]
fn what_is_no_site_file_is_told_with_its_place() {
    use TextFormat::{Json, Toml, Yaml};
    for (format, text, wanted) in [
        (Toml, "[entities.client.rook\n", "lab.txt:1:22"),
        (Toml, "x = 1\n", "none of the parts"),
        (Toml, "[entities]\nclient = 3\n", "lab.txt:2:10: entities of type client must be a table"),
        (Toml, "[entities.client.rook]\nmac.x = 1\n", "mac is a table of names"),
        (Toml, "[entities.client.rook]\nroom = [['a']]\n", "a list stands where a value must"),
        (Toml, "[entities.client.\"a b\"]\n", "lab.txt:1:18"),
        (Toml, "[entities.client.rook]\nroom = 1\nroom = 2\n", "lab.txt:3:1"),
        (Toml, "[entities.client.rook]\nroom = [{a = 1}, {b = 2}]\n", "not all rows before this one have b"),
        (Toml, "[entities.client.rook]\nroom = [{a = 1, b = 1}, {b = 2}]\n", "this row has no a"),
        (
            Toml,
            "[entities.client.rook]\nfile_id = 'x'\n[[entities.client.rook.config_files]]\nfile_id = 'y'",
            "set twice, first at lab.txt:2:11",
        ),
        (
            Toml,
            "[definitions.client.variables.x]\nabout = 'x'\nmandatroy = true\n",
            "lab.txt:3:1: mandatroy: unknown field `mandatroy`",
        ),
        (Toml, "[definitions.client.variables.x]\nabout = 'x'\npattern = '('\n", "lab.txt:3:1: pattern"),
        (Toml, "[definitions.client.variables.x]\nmandatory = 'perhaps'\n", "lab.txt:2:1: mandatory"),
        (
            Toml,
            "[definitions.client.variables.x]\nchoice = {type = 'image', where = '('}\n",
            "lab.txt:2:1: choice",
        ),
        (Yaml, "entities:\n  client:\n\trook: 1\n", "lab.txt:3:"),
        (Yaml, "entities: {}\nentities: {}\n", "lab.txt:2:1: \"entities\" is there twice"),
        (Yaml, "entities: {}\n---\nentities: {}\n", "second document"),
        (Yaml, "entities: !!python/object:os.system x\n", "must be a table"),
        (Yaml, "entities: !run x\n", "lab.txt:1:11: the tag !run means nothing here"),
        (Yaml, "? [a]\n: 1\n", "lab.txt:1:3: a list is no name"),
        (Yaml, "- a\n", "the file must be a table"),
        (Yaml, "entities: *none\n", "lab.txt:1:"),
        (Yaml, "entities: &a {client: *a}\n", "an alias within what it stands for"),
        (Json, "{\"entities\": {}", "lab.txt:1:15: EOF"),
        (Json, "{\"entities\": {}, \"entities\": {}}", "there twice"),
        (Json, "[1]", "the file must be a table"),
        (Json, "{\"entities\": {\"client\": {\"r\": {\"room\": \"\\ud800\"}}}}", "lab.txt:1:40"),
    ] {
        let error = told(format, text);
        assert!(error.contains(wanted), "{text:?} wants {wanted:?}: {error}");
    }
    for format in FORMATS {
        let empty = if format == Json { "{}" } else { "" };
        assert!(applied(&Model::default(), empty, format, false).unwrap().1.is_empty(), "{format}");
    }
}

#[test]
fn a_text_that_would_blow_up_is_refused() {
    use TextFormat::{Json, Toml, Yaml};
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let alias = vec![format!("*a{}", n - 1); 10].join(", ");
        bomb.push_str(&format!("a{n}: &a{n} [{alias}]\n"));
    }
    let mut tower = "a0: &a0 [[[[[[[[[[x]]]]]]]]]]\n".to_owned();
    for n in 1..3000 {
        tower.push_str(&format!("a{n}: &a{n} [[[[[[[[[[*a{}]]]]]]]]]]\n", n - 1));
    }
    let deep = 100_000;
    for (format, text, wanted) in [
        (Yaml, bomb, "more than 2097152 values"),
        (Yaml, tower, "nested deeper"),
        (Yaml, "[".repeat(deep), "recursion limit"),
        (Yaml, "- ".repeat(deep), "nested deeper"),
        (Json, "[".repeat(deep), "lab.txt:1:"),
        (Json, format!("{}{}", "[".repeat(deep), "]".repeat(deep)), "nested deeper"),
        (Json, format!("[{}0]", "0,".repeat(MAX_NODES)), "more than 2097152 values"),
        (Toml, format!("x = {}", "[".repeat(deep)), "lab.txt:1:"),
        (Toml, format!("a{} = 1", ".a".repeat(deep)), "recursion limit"),
        (Toml, format!("[a{}]", ".a".repeat(deep)), "recursion limit"),
        (Toml, format!("a{} = 1", ".a".repeat(50)), "nested deeper"),
        (Toml, format!("x = \"{}\"", "x".repeat(MAX_FILE)), "33554432 are allowed"),
    ] {
        let error = read(&text, format, "lab.txt").expect_err(wanted).to_string();
        assert!(error.contains(wanted), "wants {wanted:?}: {}", error.chars().take(300).collect::<String>());
    }
}
