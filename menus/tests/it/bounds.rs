//! Templates that would run for ever or take all memory end with an error that says where.

use std::sync::Arc;

use menus::{EmptyView, MenuError, Stop};

use super::*;

fn error(text: &str) -> String {
    one("a.tera", text).render("a", &rook()).unwrap_err().to_string()
}

fn assert_ends(text: &str, place: &str, reason: &str) {
    let shown: String = text.chars().take(120).collect();
    let error = error(text);
    assert!(error.starts_with(place) && error.contains(reason), "{shown}: {error}");
    assert!(error.contains("for client rook"), "{error}");
}

const ROUND: &str = "goes round in its loops too often";
const LARGER: &str = "becomes larger";

#[test]
fn loops_end() {
    let ten = "[0,1,2,3,4,5,6,7,8,9]";
    let nested: String = (0..12).map(|level| format!("{{% for a{level} in {ten} %}}")).collect();
    assert_ends(&format!("\n{nested}{}", "{% endfor %}".repeat(12)), "a.tera:2:", ROUND);
    let over_text = format!(
        "{{% for a in '{}' | split(pat='') %}}{{% for b in [1,2] %}}{{% endfor %}}",
        "x".repeat(60_000)
    );
    let nested = format!("{{% for z in {ten} %}}{over_text}{{% endfor %}}{{% endfor %}}");
    assert_ends(&nested, "a.tera:1:", ROUND);
}

#[test]
fn templates_that_include_each_other_twice_end() {
    let level = |n: usize| {
        (format!("l{n}.tera"), format!("{{% include 'l{m}.tera' %}}{{% include 'l{m}.tera' %}}", m = n + 1))
    };
    let mut templates: Vec<_> = (0..23).map(level).collect();
    templates.push(("l23.tera".to_owned(), String::new()));
    let error = Menus::new(templates).and_then(|menus| menus.render("l0", &rook())).unwrap_err().to_string();
    assert!(error.contains(ROUND), "{error}");
}

/// Each is rendered within the one before, so a chain of them that is too long would overflow the stack.
#[test]
fn templates_that_lead_deep_into_each_other_are_refused() {
    let load = |length: usize, text: &dyn Fn(usize) -> String| {
        let mut templates: Vec<_> = (0..length).map(|n| (format!("l{n}.tera"), text(n + 1))).collect();
        templates.push((format!("l{length}.tera"), "{% block a %}end{% endblock %}".to_owned()));
        Menus::new(templates).map_err(|e| e.to_string())
    };
    let includes = |next: usize| format!("{{% include 'l{next}.tera' %}}");
    let extends = |next: usize| {
        format!("{{% extends 'l{next}.tera' %}}{{% block a %}}{{{{ super() }}}}{{% endblock %}}")
    };
    // What is let pass is rendered, in a test's small stack and without optimisation too.
    let rendered = |length, text| load(length, text).unwrap().render("l0", &rook()).unwrap();
    assert_eq!(rendered(22, &includes), "end");
    assert_eq!(rendered(22, &extends), "end");
    for length in [24, 1000, 20_000] {
        for text in [&includes as &dyn Fn(usize) -> String, &extends] {
            let error = load(length, text).unwrap_err();
            assert!(error.contains("lead deeper: l"), "{error}");
        }
    }
    let nested: String = (0..30).map(|n| format!("{{% block a{n} %}}")).collect();
    let error = Menus::new(vec![("a.tera".to_owned(), nested + &"{% endblock %}".repeat(30))]).unwrap_err();
    assert!(error.to_string().contains("lead deeper: a.tera"), "{error}");
}

#[test]
fn variables_do_not_grow_without_bound() {
    let double = "{% set a = a ~ a %}\n".repeat(60);
    assert_ends(&format!("{{% set a = 'xxxxxxxx' %}}\n{double}"), "a.tera:15:", LARGER);
    let lists = "{% set a = [a, a] %}\n".repeat(60);
    assert_ends(&format!("{{% set a = 'x' %}}\n{lists}"), "a.tera:", LARGER);
    let deep = "{% set a = [a] %}".repeat(5000);
    assert_ends(&format!("{{% set a = 1 %}}{deep}"), "a.tera:1:", LARGER);
    let maps = "{% set a = {'x': a, 'y': a} %}".repeat(60);
    assert_ends(&format!("{{% set a = 1 %}}{maps}"), "a.tera:1:", LARGER);
    let captured = "{% set a %}{{ a }}{{ a }}{% endset %}".repeat(60);
    assert_ends(&format!("{{% set a = 'xxxxxxxx' %}}{captured}"), "a.tera:1:", LARGER);
    let global = "{% for i in range(end=60) %}{% set_global a = a ~ a %}{% endfor %}";
    assert_ends(&format!("{{% set a = 'xxxxxxxx' %}}{global}"), "a.tera:1:", LARGER);
}

#[test]
fn what_is_captured_does_not_grow_without_bound() {
    let text = "x".repeat(100_000);
    let looped = format!("{{% set a %}}{{% for i in range(end=1000) %}}{text}{{% endfor %}}{{% endset %}}");
    assert_ends(&looped, "a.tera:1:", ROUND);
    let printed = format!(
        "{{% set a = '{}' %}}{{% set b %}}{{% for i in range(end=1000) %}}{}{{% endfor %}}{{% endset %}}",
        "y".repeat(60_000),
        "{{ a }}".repeat(100)
    );
    assert_ends(&printed, "a.tera:1:", ROUND);
    let filtered =
        format!("{{% filter upper %}}{{% for i in range(end=1000) %}}{text}{{% endfor %}}{{% endfilter %}}");
    assert_ends(&filtered, "a.tera:1:", ROUND);
}

#[test]
fn filters_do_not_grow_texts_without_bound() {
    let long = format!("{{% set a = '{}' %}}", "x".repeat(60_000));
    assert_ends(
        &format!("{long}\n{{{{ a | replace(from='x', to=a) | length }}}}"),
        "a.tera:2:",
        "replace makes at most",
    );
    assert_ends(
        &format!("{long}\n{{{{ range(end=1000) | join(sep=a) | length }}}}"),
        "a.tera:2:",
        "join makes at most",
    );
    let text = |text: &str| one("a.tera", text).render("a", &rook()).unwrap();
    assert_eq!(text("{{ [1, 'b', 2] | join(sep='-') }}{{ ['a'] | join }}{{ [] | join(sep=',') }}"), "1-b-2a");
    assert_eq!(text("{{ 'a.b.c' | replace(from='.', to='--') }}"), "a--b--c");
}

#[test]
fn what_could_not_be_bounded_is_not_there() {
    let load = |text: &str| Menus::new(vec![("a.tera".to_owned(), text.to_owned())]).unwrap_err().to_string();
    let text = load("\n {{ [a for a in b] | length }}");
    assert!(text.starts_with("a.tera:2:8:") && text.contains("loop inside of an expression"), "{text}");
    let text = load("{% component a() %}x{% endcomponent a %}");
    assert!(text.starts_with("a.tera:1:4:") && text.contains("components"), "{text}");
}

#[test]
fn places_in_errors_are_those_of_the_template() {
    let text = "\n{% for a in [1] %}{% set b = 1 %}{{ a }}{% endfor %}{{ oops.oops }}";
    let column = text.trim_start().find("oops").unwrap() + 1;
    assert!(error(text).starts_with(&format!("a.tera:2:{column}: ")), "{}", error(text));
    let load = Menus::new(vec![("a.tera".to_owned(), text.replace("oops.oops", "a | oops"))]).unwrap_err();
    assert!(load.to_string().contains(&format!("a.tera:2:{}\n", column + 4)), "{load}");
}

#[test]
fn loops_trim_as_they_are_written() {
    let text = "a\n{%- for i in [1, 2] -%}\n  {{ i }}\n{%- endfor -%}\n b{% set c = 1 -%}\n c\n{% if c == 1 %} d {% else -%} e {% endif %}\nf";
    assert_eq!(one("a.tera", text).render("a", &rook()).unwrap(), "a12bc\n d \nf");
}

#[test]
fn a_rendering_that_nobody_waits_for_ends() {
    let menus = Menus::new(vec![
        ("a.tera".to_owned(), "{% for a in [1] %}{% endfor %}".to_owned()),
        ("b.tera".to_owned(), "{{ client.name }}".to_owned()),
        ("c".to_owned(), "<Template><self/></Template>".to_owned()),
    ])
    .unwrap();
    let view: Arc<dyn menus::ConfigView> = Arc::new(EmptyView);
    for name in ["a", "b", "c"] {
        let found = menus.find(name, &rook(), view.as_ref()).unwrap();
        let stop = Stop::default();
        assert!(menus.render_found(&found, &rook(), &view, &stop).is_ok());
        stop.stop();
        let error = menus.render_found(&found, &rook(), &view, &stop).unwrap_err();
        assert!(matches!(&error, MenuError::Stopped { .. }), "{name}: {error}");
        assert!(error.to_string().contains("for client rook"), "{error}");
    }
}
