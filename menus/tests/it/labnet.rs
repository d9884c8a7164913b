//! Labnet's templates beside Tera's.

use std::sync::Arc;

use menus::{ConfigView, MenuError, Row, Variable};

use super::*;

struct Rook;

impl ConfigView for Rook {
    fn entities(&self, kind: &str) -> Vec<&str> {
        if kind == "client" { vec!["rook"] } else { Vec::new() }
    }

    fn values(&self, kind: &str, entity: &str, variable: &str) -> Vec<&str> {
        match (kind, entity, variable) {
            ("client", "rook", "kernel") => vec!["vmlinuz"],
            ("client", "rook", "evil") => vec!["a && shell"],
            _ => Vec::new(),
        }
    }

    fn rows(&self, _: &str, _: &str, _: &str) -> Vec<Row<'_>> {
        Vec::new()
    }

    fn variables(&self, _: &str, _: &str) -> Vec<Variable<'_>> {
        Vec::new()
    }
}

fn rooks_site() -> Arc<dyn ConfigView> {
    Arc::new(Rook)
}

#[test]
fn a_template_of_labnets_is_told_by_its_outermost_element() {
    let menus = Menus::new(vec![
        ("lin_template".to_owned(), "<Template>DEFAULT <varVal>kernel</varVal></Template>".to_owned()),
        ("default.ipxe.tera".to_owned(), "<Template>{{ client.name }}</Template>".to_owned()),
        ("README".to_owned(), "about <Template>".to_owned()),
    ])
    .unwrap();
    let shipped = Menus::new(Vec::new()).unwrap();
    let mut own = menus.names();
    own.retain(|name| !shipped.names().contains(name));
    assert_eq!(own, ["lin_template"]);
    assert_eq!(menus.render_with("lin_template", &rook(), &rooks_site()).unwrap(), "DEFAULT vmlinuz");
    assert_eq!(menus.render("lin_template", &rook()).unwrap(), "DEFAULT ");
    assert_eq!(menus.render("default.ipxe", &rook()).unwrap(), "<Template>rook</Template>");
    assert!(matches!(menus.render("README", &rook()), Err(MenuError::Unknown { .. })));
}

#[test]
fn a_script_is_known_by_its_beginning_whatever_its_name() {
    for (name, text) in [
        ("ipxe_menu", "<Template>#!ipxe\nset x <varVal>evil</varVal></Template>"),
        ("ipxe_menu", "<Template><literal>\n#!gpxe\n</literal><varVal>evil</varVal></Template>"),
        ("menu.ipxe", "<Template><self/><varVal>evil</varVal></Template>"),
        ("menu.tera", "#!ipxe\n{{ 'a && shell' }}"),
    ] {
        let error = one(name, text).render_with(name, &rook(), &rooks_site()).unwrap_err().to_string();
        assert!(error.starts_with(name) && error.contains("&&"), "{text}: {error}");
    }
    let plain = one("menu", "<Template>#ipxe <varVal>evil</varVal></Template>");
    assert_eq!(plain.render_with("menu", &rook(), &rooks_site()).unwrap(), "#ipxe a && shell");
}

#[test]
fn one_wrong_template_is_told_and_none_is_taken() {
    let error =
        Menus::new(vec![("bad".to_owned(), "<Template>\n <oops/></Template>".to_owned())]).unwrap_err();
    assert_eq!(error.to_string(), "bad:2:2: there is no element <oops>");
}
