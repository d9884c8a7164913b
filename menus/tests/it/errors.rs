use menus::{MAX_OUTPUT, MAX_TEMPLATE, MenuError};

use super::*;

fn load_error(name: &str, text: &str) -> String {
    Menus::new(vec![(name.to_owned(), text.to_owned())]).unwrap_err().to_string()
}

fn render_error(text: &str, context: &Context) -> MenuError {
    one("lab.ipxe.tera", text).render("lab.ipxe", context).unwrap_err()
}

fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn wrong_syntax_is_told_with_its_place() {
    assert_has(&load_error("lab.ipxe.tera", "#!ipxe\necho {{ client.name }\n"), &["lab.ipxe.tera:2:"]);
    assert_has(&load_error("lab.ipxe.tera", "#!ipxe\n{% if %}\n"), &["lab.ipxe.tera:2:"]);
}

#[test]
fn what_a_template_names_must_exist_when_it_is_loaded() {
    assert_has(&load_error("a.tera", "x\n{{ client.name | shout }}"), &["shout", "a.tera:2:"]);
    assert_has(&load_error("a.tera", "{{ get_env(name='HOME') }}"), &["get_env", "a.tera:1:"]);
    assert_has(&load_error("a.tera", "{% include 'b.tera' %}"), &["b.tera", "a.tera:1:"]);
    assert_has(&load_error("a.tera", "{% include 'a.tera' %}"), &["Circular include", "a.tera"]);
    let long = "x".repeat(MAX_TEMPLATE + 1);
    assert_has(&load_error("a.tera", &long), &["a.tera", "262145", "262144"]);
}

#[test]
fn an_unknown_template_lists_those_that_exist() {
    let menus = one("lab.ipxe.tera", "");
    let error = menus.render("lob.ipxe", &rook()).unwrap_err().to_string();
    assert_has(&error, &["lob.ipxe;", " default.ipxe,", " lab.ipxe,", " menu.ipxe, nodisk.ipxe"]);
}

#[test]
fn what_is_not_defined_is_told_with_its_place_and_client() {
    let error = render_error("#!ipxe\n\necho {{ client.nmae }}\n", &rook()).to_string();
    assert_has(&error, &["lab.ipxe.tera:3:", "nmae", "name", "for client rook"]);
    let error = render_error("echo {{ clint.name }}", &rook()).to_string();
    assert_has(&error, &["lab.ipxe.tera:1:", "clint", "client", "server"]);
    let error = render_error("set password {{ boot.secret }}", &stranger()).to_string();
    assert_has(&error, &["lab.ipxe.tera:1:", "secret", "for client 52:54:00:77:00:01"]);
}

#[test]
fn a_value_that_breaks_out_is_told_with_its_place_variable_and_client() {
    let mut context = rook();
    context.server.name = "megatron\nshell".to_owned();
    let error =
        render_error("#!ipxe\necho {{ client.name }}\necho at {{ server.name }}\n", &context).to_string();
    assert_has(&error, &["lab.ipxe.tera:3:", "server.name", "line break", "for client rook"]);
    assert!(!error.contains("shell"), "a value is not echoed: {error}");

    context = rook();
    context.why = vec!["fine".to_owned(), "not ${fine}".to_owned()];
    let error = render_error("{% for reason in why %}\necho {{ reason }}\n{% endfor %}", &context);
    assert_has(&error.to_string(), &["lab.ipxe.tera:2:", "why.1", "${", "for client rook"]);

    let error = render_error("echo {{ client.name ~ ' && shell' }}", &rook()).to_string();
    assert_has(&error, &["lab.ipxe.tera: ", "an expression", "&&"]);
    assert!(matches!(render_error("{{ 'a\nb' | upper }}", &rook()), MenuError::Value { .. }));
}

#[test]
fn the_check_on_values_cannot_be_switched_off() {
    let mut context = rook();
    context.server.name = "a && shell".to_owned();
    for text in [
        "{{ server.name }}",
        "{{ server.name | safe }}",
        "{{ server.name | escape }}",
        "{{ server }}",
        "{{ [server.name] | join(sep=' ') }}",
        "{{ 'x' | replace(from='x', to=server.name) }}",
        "{% set copy %}{{ server.name }}{% endset %}{{ copy }}",
        "{% set base %}x{% endset %}{{ base | replace(from='x', to=server.name) }}",
        "{% filter upper %}{{ server.name }}{% endfilter %}",
    ] {
        let error = render_error(text, &context);
        let by_name = text.contains("safe") && error.to_string().contains("not available");
        assert!(by_name || matches!(error, MenuError::Value { .. }), "{text} gave {error:?}");
    }
}

#[test]
fn other_texts_than_ipxes_allow_what_ends_an_ipxe_command() {
    let mut context = rook();
    context.server.name = "a && ${b} ; c".to_owned();
    let text = "APPEND {{ server.name }}\n";
    let menus = one("pxelinux.cfg/default.tera", text);
    assert_eq!(menus.render("pxelinux.cfg/default", &context).unwrap(), "APPEND a && ${b} ; c\n");
    context.server.name = "a\nb".to_owned();
    assert!(matches!(menus.render("pxelinux.cfg/default", &context), Err(MenuError::Value { .. })));
}

#[test]
fn no_text_grows_without_bound() {
    let long =
        "{% for i in range(end=1000) %}{% for j in range(end=1000) %}0123456789{% endfor %}{% endfor %}";
    assert!(matches!(render_error(long, &rook()), MenuError::TooLong { limit: MAX_OUTPUT, .. }));
    let exact = format!("{}{{{{ client.name }}}}", "x".repeat(MAX_OUTPUT - 4));
    assert_eq!(one("a.tera", &exact).render("a", &rook()).unwrap().len(), MAX_OUTPUT);
    let over = format!("x{exact}");
    assert!(matches!(one("a.tera", &over).render("a", &rook()), Err(MenuError::TooLong { .. })));
    for range in
        ["end=1001", "end=9000000000000000000", "start=5, end=1", "end=5, step_by=0", "end=5, step_by=-1"]
    {
        let error = render_error(&format!("\n{{{{ range({range}) | length }}}}"), &rook()).to_string();
        assert_has(&error, &["lab.ipxe.tera:2:", "range"]);
    }
    let loops = "{% for i in range(end=1000) %}{% for j in range(end=1000) %}{% endfor %}{% endfor %}";
    assert_has(&render_error(loops, &rook()).to_string(), &["lab.ipxe.tera:1:", "100000"]);
    let look_ups =
        "{% for i in range(end=400) %}{% for j in range(end=250) %}{% if vars(name='x') %}{% endif %}";
    let look_ups = format!("{look_ups}{{% endfor %}}{{% endfor %}}");
    assert_has(&render_error(&look_ups, &rook()).to_string(), &["lab.ipxe.tera:1:", "100000"]);
    let numbers = one("a.tera", "{% for i in range(start=2, end=9, step_by=3) %}{{ i }} {% endfor %}");
    assert_eq!(numbers.render("a", &rook()).unwrap(), "2 5 8 ");
}

#[test]
fn the_sites_own_template_shadows_the_shipped_one() {
    let menus = one("default.ipxe.tera", "#!ipxe\necho {{ client.name }} of our own\n");
    assert_eq!(menus.render("default.ipxe.tera", &rook()).unwrap(), "#!ipxe\necho rook of our own\n");
    assert_eq!(menus.names(), Menus::new(Vec::new()).unwrap().names());
}

#[test]
fn secrets_show_in_the_script_and_nowhere_else() {
    let context = rook();
    let debug = format!("{context:?}");
    assert!(debug.contains("***") && !debug.contains("s3cret"), "{debug}");
    let error = render_error("{{ boot.secret }}{{ boot.oops }}", &context);
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
    assert!(one("a.ipxe.tera", "{{ boot.secret }}").render("a.ipxe", &context).unwrap().contains("s3cret"));
}
