//! Labnet's files, with whatever is around their values.

use super::*;
use crate::entity::Definitions;

fn file(kind: &str, name: &str, text: &str) -> LabnetFile {
    let path = format!("labnet/{kind}/{name}");
    LabnetFile { kind: kind.into(), name: name.into(), path, text: text.into() }
}

fn imported(files: &[LabnetFile]) -> Result<(Model, Desired), ExchangeError> {
    let desired = labnet(files, &LabnetOptions::default(), Definitions::shipped())?;
    Ok((settled(&Model::default(), &desired, false)?.0, desired))
}

/// The same variables as different elements may surround them.
const SHAPES: [&str; 4] = [
    r#"<?xml version="1.0"?>
<entity><type>standalone</type>
  <room><value indx="1">EN1018</value></room>
  <cname><value indx="2">www</value><value indx="1">mail</value></cname>
  <nothing><value indx="1"></value></nothing>
</entity>"#,
    r#"<config><variable name="room"><value indx="1">EN1018</value></variable>
  <variable name="cname"><value indx="1">mail</value><value indx="2">www</value></variable>
  <variable name="nothing"><value indx="1"/><value indx="2"/></variable></config>"#,
    r#"<l:e xmlns:l="urn:labnet"><l:table name="names"><l:cname><value>mail</value><value>www</value></l:cname></l:table>
  <var id="room"><value indx="1"><![CDATA[EN1018]]></value></var><note>of 2009</note></l:e>"#,
    r#"<vars><value var="room" indx="1">EN1018</value><value var="cname" indx="1">mail</value><value var="cname"
  indx="9">www</value></vars>"#,
];

#[test]
fn whatever_is_around_the_values_they_are_the_same() {
    for shape in SHAPES {
        let (model, _) =
            imported(&[file("standalone", "discovery", shape)]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(value(&model, "standalone", "discovery", "room"), ["EN1018"], "{shape}");
        assert_eq!(value(&model, "standalone", "discovery", "cname"), ["mail", "www"], "{shape}");
        let entity = model.get("standalone", "discovery").unwrap();
        assert_eq!(entity.variables().len(), 2, "empty values are none: {shape}");
    }
}

#[test]
fn a_site_moves_over_with_its_clients_served() {
    let files = [
        file(
            "client",
            "rook",
            "<e><mac_address><value indx=\"1\">00:1A:2B:3C:4D:5E</value></mac_address>\
            <server><value indx=\"1\">megatron</value></server><acc_user><value indx=\"1\">a</value><value indx=\"2\">\
            </value></acc_user><menu_template><value indx=\"1\">winlin</value></menu_template></e>",
        ),
        file("server", "megatron", "<e><address><value indx=\"1\">10.0.0.1</value></address></e>"),
        file("services", "dns", "<e><port><value indx=\"1\">53</value></port></e>"),
    ];
    let (model, desired) = imported(&files).unwrap();
    assert!(model.client("rook").unwrap().is_ok(), "{:?}", model.client("rook"));
    assert_eq!(value(&model, "client", "rook", "acc_user"), ["a", ""], "a column keeps its rows");
    let notes = desired.notes().join("\n");
    for wanted in
        ["mac_address of type client is called mac", "type services is new", "acc_user, menu_template"]
    {
        assert!(notes.contains(wanted), "wants {wanted:?}: {notes}");
    }
    // Again, into the site that it made: nothing is new.
    let again = labnet(&files, &LabnetOptions::default(), model.definitions()).unwrap();
    assert!(settled(&model, &again, false).unwrap().1.is_empty());

    let options = LabnetOptions {
        types: [("services".to_owned(), "app".parse().unwrap())].into(),
        variables: vec![("client".into(), "menu_template".into(), "menu".parse().unwrap())],
    };
    let desired = labnet(&files, &options, Definitions::shipped()).unwrap();
    let (model, _) = settled(&Model::default(), &desired, false).unwrap();
    assert_eq!(value(&model, "app", "dns", "port"), ["53"]);
    assert_eq!(value(&model, "client", "rook", "menu"), ["winlin"]);
}

#[test]
fn what_is_wrong_is_told_with_file_and_line() {
    let entities =
        "<!DOCTYPE e [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;\">]><e><x><value>&b;</value></x></e>";
    for (kind, name, text, wanted) in [
        ("client", "rook", "<e><mac></e>", "labnet/client/rook:1:"),
        ("client", "rook", "", "labnet/client/rook:"),
        ("client", "rook", "<e>\n<value indx=\"1\">x</value></e>", "rook:2:1: this value is of no variable"),
        (
            "client",
            "rook",
            "<e>\n<room><value indx=\"one\">x</value></room></e>",
            "rook:2:7: indx=\"one\" is no place",
        ),
        (
            "client",
            "rook",
            "<e><room><value indx=\"1\">x</value><value indx=\"1\">y</value></room></e>",
            "two values have indx=\"1\"",
        ),
        (
            "client",
            "rook",
            "<e>\n<mac_address><value indx=\"1\">x</value></mac_address></e>",
            "rook:2:14: client/rook: mac: \"x\"",
        ),
        ("client", "Rook", "<e/>", "labnet/client/Rook: "),
        ("client", "a b", "<e/>", "labnet/client/a b: "),
        ("cli ent", "rook", "<e/>", "labnet/cli ent/rook: "),
        ("client", "rook", entities, "labnet/client/rook:1:"),
    ] {
        let error = imported(&[file(kind, name, text)]).expect_err(wanted).to_string();
        assert!(error.contains(wanted), "wants {wanted:?}: {error}");
    }
    let deep = format!("{}{}", "<x>".repeat(100_000), "</x>".repeat(100_000));
    assert!(imported(&[file("client", "rook", &deep)]).is_ok(), "depth alone is no harm");
    let many = "<x/>".repeat(1 << 20);
    let error = imported(&[file("client", "rook", &format!("<e>{many}</e>"))]).unwrap_err().to_string();
    assert!(error.contains("nodes limit"), "{error}");
}
