//! What is wrong with a template is told with its place, at loading wherever it can be seen then.

use super::*;

fn place_of(source: &str) -> String {
    Template::parse("menu", source).unwrap_err().to_string()
}

#[test]
fn wrong_xml_is_told_with_its_place() {
    for (source, place, reason) in [
        ("<Template>\n  <self>\n</Template>", "menu:3:1: ", "Template"),
        ("<Template>\n a & b</Template>", "menu:2:4: ", "entity"),
        ("<Template><self/>", "menu:1:1: ", "root node"),
        ("<Template/><Template/>", "menu:1:12: ", ""),
        ("<template/>", "menu:1:1: ", "<Template>"),
        ("<!DOCTYPE x [<!ENTITY a 'b'>]><Template>&a;</Template>", "menu:1:1", "DTD"),
        ("", "menu:1:1: ", "root node"),
    ] {
        let text = place_of(source);
        assert!(text.starts_with(place) && text.contains(reason), "{source}: {text}");
        assert!(!text.contains(" at "), "the place is said once: {text}");
    }
}

#[test]
fn what_stands_where_it_may_not_is_told_when_loading() {
    for (body, reason) in [
        ("<slef/>", "there is no element <slef>"),
        ("<Self/>", "there is no element <Self>"),
        ("<type>client</type>", "<type> stands within setdefaults, varVal"),
        ("<iteratorList/>", "stands within iterateOverLists only"),
        ("<equal>a<self/></equal>", "stands within if, elseif, and, or only"),
        ("<item/>", "item at level 0 stands within 0 iterateOverLists"),
        (
            "<iterateOverLists><iteratorList><item/></iteratorList></iterateOverLists>",
            "level 0 stands within 0",
        ),
        (
            "<iterateOverLists><iteratorList>a</iteratorList><item level='1'/></iterateOverLists>",
            "level 1 stands within 1",
        ),
        (
            "<iterateOverLists><iteratorList>a</iteratorList><item level='x'/></iterateOverLists>",
            "level is a whole number",
        ),
        ("<iterateOverLists>a</iterateOverLists>", "at least one <iteratorList>"),
        ("<self>x</self>", "<self> takes nothing"),
        ("<self level='1'/>", "takes no attribute level"),
        ("<literal><self/></literal>", "holds text only"),
        ("<varVal/>", "takes a variable's name"),
        ("<varVal><type>a</type><type>b</type>c</varVal>", "takes one <type>"),
        ("<setdefaults>x</setdefaults>", "<type>, <entity> or both"),
        ("<setdefaults><type>server</type></setdefaults>", "hold for what it contains"),
        ("<setvalue>x</setvalue>", "a name and a value; here are 1 parts"),
        ("<plus>1</plus>", "two numbers; here are 1 parts"),
        ("<plus>1<self/><self/></plus>", "two numbers; here are 3 parts"),
        ("<AND_expr><var>a</var></AND_expr>", "pairs of <var> and <val>"),
        ("<AND_expr><val>a</val><var>a</var></AND_expr>", "pairs of <var> and <val>"),
        ("<AND_expr/>", "at least one <var> and <val>"),
        ("<select>a</select>", "takes an <index>"),
        ("<indexof>a</indexof>", "then strings"),
        ("<if><then>a</then></if>", "one condition, then <then>"),
        ("<if><self/><self/><then>a</then></if>", "one condition, then <then>"),
        ("<if><self/></if>", "one condition, then <then>"),
        (
            "<if><self/><then>a</then><else>b</else><elseif><self/><then/></elseif></if>",
            "<elseif> where if takes",
        ),
        ("<if><self/><then>a</then>b</if>", "text where if takes"),
        (
            "<if><self/><then>a</then><elseif><self/><then/><then/></elseif></if>",
            "<then> after elseif's <then>",
        ),
        ("<if><or/><then/></if>", "at least one condition"),
        ("<if><match><self/></match><then/></if>", "takes one <pattern>"),
        ("<if><match><pattern>(</pattern><self/></match><then/></if>", "unclosed group"),
        ("<substitute><pattern>a</pattern>b c</substitute>", "a string and what to put there"),
    ] {
        let source = format!("<Template>\n<literal>x</literal>{body}</Template>");
        let text = place_of(&source);
        assert!(text.starts_with("menu:2:") && text.contains(reason), "{body}: {text}");
    }
}

#[test]
fn what_can_only_be_seen_when_expanding_is_told_with_place_and_client() {
    for (body, reason) in [
        ("<plus><self/>1</plus>", "plus: \"hogwarts\" is no whole number"),
        ("<plus><varVal>absent</varVal>1</plus>", "plus: a number is missing"),
        ("<div>1<literal>0</literal></div>", "div of 1 and 0 has no result"),
        ("<mul>9223372036854775807<literal>2</literal></mul>", "has no result"),
        ("<select><index>x</index><self/></select>", "select's index: \"x\" is no whole number"),
        ("<line><ts>-1</ts></line>", "a column from 0 to 4096, not -1"),
        ("<line><ts>4097</ts></line>", "a column from 0 to 4096, not 4097"),
        ("<getvalue><varVal>absent</varVal></getvalue>", "the name has no value"),
        (
            "<iterateOverLists><iteratorList>a</iteratorList><iteratorList/><self/></iterateOverLists>",
            "iteratorList 1 has 0 strings, iteratorList 0 has 1",
        ),
        (
            "<iterateOverLists><iteratorList>a</iteratorList><item>1</item></iterateOverLists>",
            "item 1: there are 1 iteratorList",
        ),
        ("<if><match><pattern><cat>(</cat></pattern><self/></match><then/></if>", "unclosed group"),
    ] {
        let text = error(&format!("\n{body}"));
        assert!(text.starts_with("t:2:") && text.contains(reason), "{body}: {text}");
        assert!(text.ends_with("(for client hogwarts)"), "{text}");
    }
}

#[test]
fn values_stay_in_their_line() {
    let site = Site::default().with("client", "rook", &[("a", &["x\ny"]), ("b", &["x && shell"])]);
    let host = Host { kind: "client", name: "rook" };
    let show = |variable: &str, language| {
        let source = format!("<Template>\n<varVal>{variable}</varVal></Template>");
        Template::parse("menu", &source).unwrap().expand(host, &site, language, &Stop::default())
    };
    let text = show("a", Language::Lines).unwrap_err().to_string();
    assert!(text.starts_with("menu:2:1: the value of a of client rook can't be printed here"), "{text}");
    assert_eq!(show("b", Language::Lines).unwrap(), "x && shell");
    assert!(show("b", Language::Ipxe).unwrap_err().to_string().contains("&&"));
}

#[test]
fn nothing_grows_without_bound() {
    let deep = |depth: usize| format!("{}x{}", "<cat>".repeat(depth), "</cat>".repeat(depth));
    assert_eq!(text(&deep(MAX_DEPTH)), "x");
    assert!(error(&deep(MAX_DEPTH + 1)).contains("nested 64 deep"));
    assert!(error(&deep(20_000)).contains("nested 64 deep"), "no recursion before the check");
    let deep_or = format!("<if>{}<self/>{}<then/></if>", "<or>".repeat(20_000), "</or>".repeat(20_000));
    assert!(error(&deep_or).contains("nested 64 deep"));
    assert!(error(&"<self/>".repeat(60_000)).contains("50000 nodes"));
    assert!(
        error(&format!("<literal>{}</literal>", "x".repeat(MAX_OUTPUT_FOR_TEST + 1)))
            .contains("longer than 65536")
    );

    let ten = "<iteratorList>1<self/>1<self/>1<self/>1<self/>1<self/></iteratorList>";
    let loops = |body: &str, times: usize| {
        (0..times)
            .fold(body.to_owned(), |body, _| format!("<iterateOverLists>{ten}{body}</iterateOverLists>"))
    };
    assert!(error(&format!("<if>{}<then/></if>", loops("<getvalue>x</getvalue>", 9))).contains("steps"));
    let doubling = loops("<setvalue>x<cat><getvalue>x</getvalue><getvalue>x</getvalue></cat></setvalue>", 3);
    assert!(
        error(&format!("<setvalue>x<literal>xx</literal></setvalue>{doubling}")).contains("bytes of strings")
    );
    let pattern = "x".repeat(MAX_PATTERN + 1);
    assert!(
        error(&format!("<if><match><pattern>{pattern}</pattern>x</match><then/></if>"))
            .contains("4096 bytes")
    );
    assert!(
        error("<if><match><pattern>(x{1000}){1000}</pattern>x</match><then/></if>").contains("size limit")
    );
}

const MAX_OUTPUT_FOR_TEST: usize = crate::menus::MAX_OUTPUT;

#[test]
fn the_language_is_told_by_the_outermost_element() {
    for labnet in
        ["<Template/>", "<Template >", "\u{feff}<?xml version=\"1.0\"?>\n<!-- a > b -->\n <Template>\n"]
    {
        assert!(Template::recognises(labnet), "{labnet}");
    }
    for other in [
        "",
        "#!ipxe",
        "<Templates/>",
        "<template/>",
        "text <Template/>",
        "<!-- <Template/>",
        "<x><Template/>",
    ] {
        assert!(!Template::recognises(other), "{other}");
    }
}
