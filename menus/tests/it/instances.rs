//! Which instance of a template a client gets, and what it is then rendered from.

use menus::{Found, MenuError};

use super::lookups::site;
use super::*;

/// Every instance of `menu` that could be meant for a client, each of which says which one it is.
const ALL: [&str; 10] = [
    "menu.for/lab.tera",
    "menu.for/rook@host_client.tera",
    "menu.for/odie@appserver_client.tera",
    "menu.for/odie@host.tera",
    "menu.for/cs@dept_client.tera",
    "menu.for/cs@dept.tera",
    "menu.for/mun@site_client.tera",
    "menu.for/mun@site.tera",
    "menu.for/all_client.tera",
    "menu.tera",
];

fn menus_of(files: &[&str]) -> Menus {
    Menus::new(files.iter().map(|file| ((*file).to_owned(), format!("{file} {{{{ self.mac }}}}"))).collect())
        .unwrap()
}

const ROOK: &str = "group/lab
    server/odie
    client/rook
    client/rook mac 52:54:00:77:00:01
    client/rook groups lab
    client/rook server odie
    client/rook dept cs
    client/rook site mun";

#[test]
fn the_most_specific_instance_is_rendered() {
    let site = site(ROOK);
    // As each is taken away, the next one in the order of the guide's table is what the client gets.
    for from in 0..ALL.len() {
        let others =
            ["menu.for/king@host_client.tera", "menu.for/rook@host_server.tera", "menu.for/all_server.tera"];
        let menus = menus_of(&[&ALL[from..], &others].concat());
        let text = menus.render_with("menu", &rook(), &site).unwrap();
        assert_eq!(text, format!("{} 52:54:00:77:00:01", ALL[from]));
        let found = menus.find("menu", &rook(), site.as_ref()).unwrap();
        let instance = ALL[from].strip_prefix("menu.for/").and_then(|name| name.strip_suffix(".tera"));
        let wanted = Found {
            file: ALL[from].to_owned(),
            instance: instance.unwrap_or("all").to_owned(),
            shipped: false,
        };
        assert_eq!(found, wanted);
    }
}

#[test]
fn a_site_without_the_variables_has_hosts_and_the_rest() {
    let site = site("client/rook\nclient/rook mac 52:54:00:77:00:01");
    let menus = menus_of(&ALL);
    let text = menus.render_with("menu", &rook(), &site).unwrap();
    assert!(text.starts_with("menu.for/rook@host_client.tera "), "{text}");
    // The server is the one that serves, where the client names none.
    let menus = menus_of(&["menu.for/megatron@appserver_client.tera", "menu.tera"]);
    let text = menus.render_with("menu", &rook(), &site).unwrap();
    assert!(text.starts_with("menu.for/megatron@appserver_client.tera "), "{text}");
}

#[test]
fn a_group_may_be_named_for_one_file_only() {
    let site = site(
        "group/lab
         file/menu
         file/menu path /etc/menu
         client/rook
         client/rook mac 52:54:00:77:00:01
         client/rook groups lab
         client/rook file_id menu
         client/rook file_group mscluster",
    );
    let menus =
        menus_of(&["menu.for/lab.tera", "menu.for/mscluster.tera", "other.for/mscluster.tera", "other.tera"]);
    let text = |name| menus.render_with(name, &rook(), &site).unwrap();
    assert!(text("menu").starts_with("menu.for/mscluster.tera "));
    assert!(text("other").starts_with("other.tera "));
}

#[test]
fn instances_are_of_either_language_and_know_what_they_make() {
    let menus = Menus::new(vec![
        (
            "lab.ipxe.for/rook@host_client".to_owned(),
            "<Template><self/> &amp;&amp; shell</Template>".to_owned(),
        ),
        ("lab.ipxe.tera".to_owned(), String::new()),
        ("default.ipxe.for/rook@host_client.tera".to_owned(), "{{ 'a && b' }}".to_owned()),
    ])
    .unwrap();
    // What an iPXE script's line may not hold is refused in its instances as well, and in the other language.
    let error = menus.render("default.ipxe", &rook()).unwrap_err();
    assert!(matches!(&error, MenuError::Value { .. }), "{error}");
    assert_eq!(
        menus.render("lab.ipxe", &rook()).unwrap(),
        "rook && shell",
        "a template's own text is its own"
    );
    // Another client has the shipped one.
    let mut other = rook();
    other.client.name = Some("king".parse().unwrap());
    let found = menus.find("default.ipxe", &other, &menus::EmptyView).unwrap();
    assert_eq!(found, Found { file: "default.ipxe.tera".into(), instance: "all".into(), shipped: true });
}

#[test]
fn where_none_fits_the_error_lists_those_that_there_are() {
    let menus = menus_of(&["menu.for/king@host_client.tera", "menu.for/mun@site.tera"]);
    let error = menus.render("menu", &rook()).unwrap_err().to_string();
    assert!(error.contains("menu") && error.contains("rook"), "{error}");
    assert!(error.contains("king@host_client, mun@site"), "{error}");
    assert!(menus.has("menu") && menus.has("menu.tera") && !menus.has("menu.for/mun@site"));
}
