//! Each element of the guide's section 2.6. `<iterateOverLists>` with a "|" in its body shows where one string ends.

use super::*;

fn strings(body: &str) -> String {
    text(&format!("<iterateOverLists><iteratorList>{body}</iteratorList><item/>|</iterateOverLists>"))
}

#[test]
fn e01_text_stays_and_blanks_between_elements_go() {
    assert_eq!(text("a  b\n c "), "a  b\n c ");
    assert_eq!(text("\n  <self/>\n\t<self/>  \n"), "hogwartshogwarts");
    assert_eq!(text("<self/><literal> \n </literal><self/>"), "hogwarts \n hogwarts");
    assert_eq!(text("<literal/>"), "");
    assert_eq!(text("a &lt; b &amp;&amp; c<![CDATA[ <x> ]]>"), "a < b && c <x> ");
    assert_eq!(text("a<!-- a remark -->b<?remark?>"), "ab");
}

#[test]
fn e02_e03_self_and_its_type() {
    assert_eq!(text("<selftype/> <self/>"), "clienthogwarts");
    assert_eq!(text("is <selftype/> <literal/><self/>"), "is clienthogwarts");
}

#[test]
fn e04_setvalue_and_getvalue() {
    assert_eq!(text("<setvalue>x<literal>1</literal></setvalue><getvalue>x</getvalue>"), "1");
    assert_eq!(
        text("<setvalue>x<varVal>cname</varVal></setvalue><getvalue> x </getvalue>"),
        "mail",
        "first only"
    );
    assert_eq!(strings("<getvalue>unset</getvalue>"), "");
    assert_eq!(
        text(
            "<setvalue>x<literal>1</literal></setvalue><setvalue>x<varVal>none</varVal></setvalue><getvalue>x</getvalue>"
        ),
        ""
    );
    let count = "<setvalue>n<literal>0</literal></setvalue><iterateOverLists>
        <iteratorList><varVal>cname</varVal></iteratorList>
        <setvalue>n<plus><getvalue>n</getvalue><literal>1</literal></plus></setvalue>
        <getvalue>n</getvalue><literal>: </literal><item/><literal>; </literal></iterateOverLists>";
    assert_eq!(text(count), "1: mail; 2: www; 3: mail; ");
}

#[test]
fn e05_setdefaults_hold_inside_only() {
    let body = "<setdefaults><type>server</type><entity>megatron</entity><varVal>domain</varVal></setdefaults>/<varVal>room</varVal>";
    assert_eq!(text(body), "cs/EN1018");
    let body = "<setdefaults><entity>hawk</entity><varVal>room</varVal>, <def_entity/></setdefaults>";
    assert_eq!(text(body), "EN1018, hawk");
    let nested = "<setdefaults><type>server</type><setdefaults><entity>odie</entity><varVal>domain</varVal></setdefaults></setdefaults>";
    assert_eq!(text(nested), "cs");
}

#[test]
fn e06_varval_joins_variables_and_entities() {
    assert_eq!(strings("<varVal>cname</varVal>"), "mail|www|mail|");
    assert_eq!(strings("<varVal>room cname</varVal>"), "EN1018|mail|www|mail|");
    assert_eq!(strings("<varVal><entity>hawk rook</entity>\n room </varVal>"), "EN1018|EN2000|");
    assert_eq!(
        strings("<varVal><type>server</type><entity>megatron</entity>functions</varVal>"),
        "basic_services|appserver|"
    );
    assert_eq!(
        strings(
            "<varVal><type>server</type><entity><getentitylist>server</getentitylist></entity>domain</varVal>"
        ),
        "cs|lib|cs|"
    );
    assert_eq!(strings("<varVal>absent</varVal><varVal><entity>nobody</entity>room</varVal>"), "");
    assert_eq!(strings("<varVal>blank</varVal>"), "|", "an empty value is a value");
    assert_eq!(text("<varVal><literal>ro</literal>om</varVal>"), "", "two names, not one in two pieces");
    assert_eq!(text("<varVal><cat><literal>ro</literal>om</cat></varVal>"), "EN1018");
}

#[test]
fn e07_confval() {
    assert_eq!(strings("<confVal><entity>backup</entity>hosts</confVal>"), "a|b|");
    assert_eq!(text("<confVal>on</confVal>"), "own");
}

#[test]
fn e08_e09_defaults_can_be_read() {
    assert_eq!(text("<def_type/>/<def_entity/>"), "client/hogwarts");
    let body = "<setdefaults><type>server</type><entity>odie megatron</entity><def_type/>/<def_entity/></setdefaults>";
    assert_eq!(text(body), "server/odiemegatron");
}

#[test]
fn e10_is_entity() {
    for (condition, holds) in [
        ("<is_entity>hawk</is_entity>", true),
        ("<is_entity>megatron</is_entity>", false),
        ("<is_entity><literal>megatron</literal>server</is_entity>", true),
        ("<is_entity><self/></is_entity>", true),
        ("<is_entity><varVal>absent</varVal></is_entity>", false),
    ] {
        assert_eq!(holds_text(condition), holds, "{condition}");
    }
}

#[test]
fn e11_searches() {
    let pair = |var: &str, val: &str| format!("<var>{var}</var><val>{val}</val>");
    let (cs, app) = (pair("domain", "cs"), pair("functions", "appserver"));
    assert_eq!(strings(&format!("<AND_expr><type>server</type>{cs}{app}</AND_expr>")), "megatron|");
    assert_eq!(strings(&format!("<OR_expr><type>server</type>{cs}{app}</OR_expr>")), "megatron|nermal|odie|");
    assert_eq!(strings(&format!("<OR_expr>{}</OR_expr>", pair("room", "EN1018"))), "hawk|hogwarts|");
    assert_eq!(
        strings(&format!("<AND_expr>{}</AND_expr>", pair("room", "<varVal>room</varVal>"))),
        "hawk|hogwarts|"
    );
    assert_eq!(strings(&format!("<AND_expr>{}</AND_expr>", pair("room", "nowhere"))), "");
}

#[test]
fn e12_e13_iteration_and_items() {
    let table = "<iterateOverLists><iteratorList><literal>a</literal>b</iteratorList>
        <iteratorList>1<literal>2</literal></iteratorList>
        <item>0</item>=<item> 1 </item>,</iterateOverLists>";
    assert_eq!(text(table), "a=1,b=2,");
    let nested = "<iterateOverLists><iteratorList>a<literal>b</literal></iteratorList>
        <iteratorList>A<literal>B</literal></iteratorList>
        <iterateOverLists><iteratorList>1<literal>2</literal></iteratorList>
        <item level='1'/><item level='1'>1</item><item level=\"0\"/><literal> </literal>
        </iterateOverLists></iterateOverLists>";
    assert_eq!(text(nested), "aA1 aA2 bB1 bB2 ");
    let inner_list_sees_outer = "<iterateOverLists><iteratorList>hawk<literal>rook</literal></iteratorList>
        <iterateOverLists><iteratorList><varVal><entity><item/></entity>cname</varVal></iteratorList>
        <item level='1'/>:<item/><literal> </literal></iterateOverLists></iterateOverLists>";
    assert_eq!(text(inner_list_sees_outer), "hawk:www rook:chess rook:www ");
    assert_eq!(
        text("<iterateOverLists><iteratorList><varVal>absent</varVal></iteratorList>x</iterateOverLists>"),
        ""
    );
    let each_pass_is_one = "<numStrings><iterateOverLists><iteratorList><varVal>cname</varVal></iteratorList>
        <item/><item/></iterateOverLists></numStrings>";
    assert_eq!(text(each_pass_is_one), "3");
}

#[test]
fn e14_e15_select_and_indexof() {
    assert_eq!(text("<select><index>1</index><varVal>cname</varVal></select>"), "www");
    assert_eq!(strings("<select><index>3</index><varVal>cname</varVal></select>"), "");
    assert_eq!(strings("<select><index>-1</index><varVal>cname</varVal></select>"), "");
    assert_eq!(text("<indexof>www<varVal>cname</varVal></indexof>"), "1");
    assert_eq!(text("<indexof>mail<varVal>cname</varVal></indexof>"), "0");
    assert_eq!(strings("<indexof>ww<varVal>cname</varVal></indexof>"), "");
    let round =
        "<select><index><indexof>www<varVal>cname</varVal></indexof></index><varVal>cname</varVal></select>";
    assert_eq!(text(round), "www");
    let absent =
        "<select><index><indexof>x<varVal>cname</varVal></indexof></index><varVal>cname</varVal></select>";
    assert_eq!(strings(absent), "");
}

#[test]
fn e16_e17_numbers() {
    assert_eq!(text("<numStrings><varVal>cname</varVal></numStrings>"), "3");
    assert_eq!(text("<numStrings/>"), "0");
    assert_eq!(text("<plus>2<literal>3</literal></plus>"), "5");
    assert_eq!(text("<minus>2<literal> 3 </literal></minus>"), "-1");
    assert_eq!(text("<mul>-2<literal>3</literal></mul>"), "-6");
    assert_eq!(text("<div><numStrings><varVal>cname</varVal></numStrings>2</div>"), "1");
}

fn holds_text(condition: &str) -> bool {
    text(&format!("<if>{condition}<then>yes</then><else>no</else></if>")) == "yes"
}

#[test]
fn e18_conditions() {
    for (condition, holds) in [
        ("<equal><self/>hogwarts</equal>", true),
        ("<equal><self/>hawk</equal>", false),
        ("<equal><varVal>cname</varVal>mail</equal>", true), // the first value counts
        ("<equal><varVal>absent</varVal><literal/></equal>", true),
        ("<noteq><self/>hawk</noteq>", true),
        ("<noteq><self/>hogwarts</noteq>", false),
        ("<hasvalue><varVal>cname</varVal>www</hasvalue>", true),
        ("<hasvalue><varVal>cname</varVal>ww</hasvalue>", false),
        ("<hasvalue><varVal>cname</varVal><varVal>absent</varVal></hasvalue>", false),
        ("<match><pattern>^EN[0-9]+$</pattern><varVal>room</varVal></match>", true),
        ("<match><pattern>^[0-9]+$</pattern><varVal>room</varVal></match>", false),
        ("<match><varVal>room</varVal><pattern><cat>^<varVal>room</varVal>$</cat></pattern></match>", true),
        ("<match><pattern>x</pattern><varVal>absent</varVal></match>", false),
        ("<or><equal>a<self/></equal><equal><self/>hogwarts</equal></or>", true),
        ("<or><equal>a<self/></equal><varVal>absent</varVal></or>", false),
        ("<and><varVal>room</varVal><equal><self/>hogwarts</equal></and>", true),
        ("<and><varVal>room</varVal><varVal>absent</varVal></and>", false),
        ("<or><and><varVal>absent</varVal><self/></and><and><self/><selftype/></and></or>", true),
        ("<varVal>room</varVal>", true),
        ("<varVal>absent</varVal>", false),
        ("<varVal>blank</varVal>", true), // a value, though an empty one
        ("<getentitylist>printer</getentitylist>", false),
    ] {
        assert_eq!(holds_text(condition), holds, "{condition}");
    }
}

#[test]
fn e18_if_takes_the_first_branch_that_holds() {
    let body = |value: &str| {
        format!(
            "<if><equal>{value}<literal>1</literal></equal><then>one</then>
             <elseif><equal>{value}<literal>2</literal></equal> <then>two</then></elseif>
             <elseif><equal>{value}<literal>2</literal></equal> <then>never</then></elseif>
             <else>other</else></if>"
        )
    };
    assert_eq!([text(&body("1")), text(&body("2")), text(&body("3"))], ["one", "two", "other"]);
    assert_eq!(text("<if><varVal>absent</varVal><then>x</then></if>"), "");
    assert_eq!(strings("<if><self/><then>a<varVal>cname</varVal></then></if>"), "a|mail|www|mail|");
    // Only what is taken is evaluated: the other branch would be an error.
    assert_eq!(
        text("<if><self/><then>fine</then><else><div>1<literal>0</literal></div></else></if>"),
        "fine"
    );
}

#[test]
fn e19_substitute_replaces_the_leftmost_match() {
    let with = |pattern: &str, string: &str, with: &str| {
        text(&format!(
            "<substitute><pattern>{pattern}</pattern><literal>{string}</literal><literal>{with}</literal></substitute>"
        ))
    };
    assert_eq!(with("o", "foo boo", "0"), "f0o boo");
    assert_eq!(with("x", "foo", "0"), "foo");
    assert_eq!(with("(.)(.)(.)", "abcd", r"\3\2\1"), "cbad");
    assert_eq!(with("b+", "abbc", r"[\0\0]"), "a[bbbb]c");
    assert_eq!(with("(a)|(b)", "b", r"[\1|\2|\9]"), "[|b|]", "groups that took no part are empty");
    assert_eq!(with("a", "cat", r"\n\"), r"c\n\t", "only digits make a token");
    assert_eq!(with("é", "caféine", r"\0\0"), "cafééine");
    assert_eq!(text("<substitute><pattern>1018</pattern><varVal>room</varVal>2000</substitute>"), "EN2000");
    assert_eq!(strings("<substitute><pattern>x</pattern><varVal>absent</varVal>y</substitute>"), "");
}

#[test]
fn e20_to_e22_lists() {
    assert_eq!(strings("<getentitylist>server</getentitylist>"), "megatron|nermal|odie|");
    assert_eq!(strings("<getentitylist/>"), "hawk|hogwarts|rook|");
    assert_eq!(strings("<getentitylist>printer</getentitylist>"), "");
    assert_eq!(strings("<unique><varVal>cname</varVal></unique>"), "mail|www|");
    assert_eq!(strings("<sorted>b<literal>a</literal><literal>B</literal></sorted>"), "B|a|b|");
    assert_eq!(
        strings("<sorted><unique><varVal><entity>hogwarts rook</entity>cname</varVal></unique></sorted>"),
        "chess|mail|www|"
    );
}

#[test]
fn e23_cat_line_and_tab_stops() {
    assert_eq!(strings("<cat>a<varVal>cname</varVal></cat>"), "amailwwwmail|");
    assert_eq!(strings("<cat/>"), "|");
    assert_eq!(text("<line><self/> x</line><line/>"), "hogwarts x\n\n");
    assert_eq!(text("<line>a<ts>4</ts>b<ts>2</ts>c<ts>8</ts>d</line>"), "a   bc  d\n");
    assert_eq!(text("<line>é<ts><plus>1<literal>1</literal></plus></ts>x</line>"), "é x\n");
    assert_eq!(text("<line>ab\nc<ts>3</ts>d</line>"), "ab\nc  d\n", "columns are counted in the line");
}
