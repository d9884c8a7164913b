//! Spreadsheets.

use super::*;

fn read_csv(text: &str) -> Result<Desired, ExchangeError> {
    csv(text.as_bytes(), &CsvOptions::clients().unwrap(), "pcs.csv")
}

#[test]
fn lines_are_clients() {
    let lab = toml(LAB);
    let text = "\u{feff}name, mac ,groups,room,address\r\n\
        rook,,en1018,\"EN 1018, left\",10.0.0.7\r\n\
        ,,,,\r\n\
        knight,52:54:00:77:00:1c,en1018; en1018 ;,,\r\n";
    let desired = read_csv(text).unwrap();
    assert_eq!(desired.len(), 2);
    let (model, effects) = settled(&lab, &desired, false).unwrap();
    assert_eq!(value(&model, "client", "rook", "room"), ["EN 1018, left"]);
    assert_eq!(
        value(&model, "client", "rook", "mac"),
        ["52:54:00:77:00:0a"],
        "an empty cell changes nothing"
    );
    assert_eq!(value(&model, "client", "knight", "groups"), ["en1018", "en1018"]);
    assert_eq!(effects.len(), 5, "{effects:?}");
    assert!(settled(&model, &desired, false).unwrap().1.is_empty());
}

#[test]
fn other_signs_divide_other_tables() {
    let options = CsvOptions { delimiter: ';', separator: '|', kind: "server".parse().unwrap() };
    let desired = csv(b"name;functions\nmegatron;appserver|dns\n", &options, "s.csv").unwrap();
    let (model, _) = settled(&Model::default(), &desired, false).unwrap();
    assert_eq!(value(&model, "server", "megatron", "functions"), ["appserver", "dns"]);
}

#[test]
fn what_is_wrong_is_told_with_line_and_column() {
    let lab = toml(LAB);
    for (text, wanted) in [
        ("", "its first line names the columns"),
        ("mac,room\n", "pcs.csv:1:1: no column is called \"name\""),
        ("name;mac\n", "perhaps the columns are divided by ';', not by ','"),
        ("name,mac,mac\n", "pcs.csv:1:3: the column \"mac\" is there twice"),
        ("name,a b\n", "pcs.csv:1:2: "),
        ("name,room\nrook,a\n\nking,b,c\n", "pcs.csv:4:3: this line has 3 cells, the header has 2"),
        ("name,room\nrook,a\nrook,b\n", "pcs.csv:3: client/rook is there twice, first at pcs.csv:2"),
        ("name,room\r\nrook,a\r\n\r\n,b\r\n", "pcs.csv:4:1: "),
        ("name,room,mac\nrook,\"two\nlines\",\nking,x,52:54\n", "pcs.csv:4:3: client/king: mac: \"52:54\""),
        ("name,rom\nrook,x\n", "pcs.csv:2:2: client/rook: type client has no variable rom"),
        ("name,image\nrook,win\n", "pcs.csv:2:2: client/rook: image \"win\" is no image"),
        ("name,room\nKing,x\n", "pcs.csv:2: "),
    ] {
        let outcome = read_csv(text).and_then(|desired| settled(&lab, &desired, false));
        let error = outcome.expect_err(text).to_string();
        assert!(error.contains(wanted), "{text:?} wants {wanted:?}: {error}");
    }
    let error =
        csv(b"name,room\nrook,\xff\n", &CsvOptions::clients().unwrap(), "pcs.csv").unwrap_err().to_string();
    assert!(error.contains("pcs.csv:2:2") && error.contains("UTF-8"), "{error}");
    let many = format!("name{}", ",x".repeat(2000));
    assert!(read_csv(&many).unwrap_err().to_string().contains("2001 columns"));
}
