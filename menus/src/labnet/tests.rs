//! The elements one by one, the guide's examples, what is refused, and the bounds.

mod elements;
mod guide;
mod random;
mod refusals;

use std::collections::BTreeMap;

use super::*;
use crate::view::{Row, Variable};

/// A site in a map: (type, entity, variable) -> values.
#[derive(Default)]
struct Site {
    values: BTreeMap<(&'static str, &'static str), BTreeMap<&'static str, Vec<&'static str>>>,
}

impl Site {
    fn with(
        mut self,
        kind: &'static str,
        entity: &'static str,
        variables: &[(&'static str, &[&'static str])],
    ) -> Self {
        let entity = self.values.entry((kind, entity)).or_default();
        entity.extend(variables.iter().map(|(name, values)| (*name, values.to_vec())));
        self
    }
}

impl ConfigView for Site {
    fn entities(&self, kind: &str) -> Vec<&str> {
        self.values.keys().filter(|(of, _)| *of == kind).map(|(_, name)| *name).collect()
    }

    fn values(&self, kind: &str, entity: &str, variable: &str) -> Vec<&str> {
        let entity = self.values.iter().find(|((of, name), _)| *of == kind && *name == entity);
        entity.and_then(|(_, variables)| variables.get(variable)).cloned().unwrap_or_default()
    }

    fn rows(&self, _: &str, _: &str, _: &str) -> Vec<Row<'_>> {
        Vec::new()
    }

    fn variables(&self, _: &str, _: &str) -> Vec<Variable<'_>> {
        Vec::new()
    }
}

/// The clients, servers and settings that the tests ask for.
fn lab() -> Site {
    Site::default()
        .with(
            "client",
            "hogwarts",
            &[
                ("kernel", &["bzImage.P4-2.6.38-gentoo-r2"]),
                ("preinit_script", &["rc.preinit.moreminimal"]),
                ("run_level_name", &["ipsec"]),
                ("cname", &["mail", "www", "mail"]),
                ("room", &["EN1018"]),
                ("blank", &[""]),
            ],
        )
        .with("client", "hawk", &[("room", &["EN1018"]), ("cname", &["www"])])
        .with("client", "rook", &[("room", &["EN2000"]), ("cname", &["chess", "www"])])
        .with("server", "megatron", &[("domain", &["cs"]), ("functions", &["basic_services", "appserver"])])
        .with("server", "odie", &[("domain", &["cs"]), ("functions", &["basic_services"])])
        .with("server", "nermal", &[("domain", &["lib"]), ("functions", &["appserver", "dhcp"])])
        .with("lnappconf", "backup", &[("hosts", &["a", "b"]), ("on", &["yes"])])
        .with("lnappconf", "hogwarts", &[("on", &["own"])])
}

fn expand_for(site: &Site, kind: &str, name: &str, body: &str) -> Result<String, MenuError> {
    let template = Template::parse("t", &format!("<Template>{body}</Template>"))?;
    template.expand(Host { kind, name }, site, Language::Lines, &Stop::default())
}

/// What `body` becomes for client hogwarts.
fn text(body: &str) -> String {
    expand_for(&lab(), "client", "hogwarts", body).unwrap_or_else(|error| panic!("{body}: {error}"))
}

fn error(body: &str) -> String {
    expand_for(&lab(), "client", "hogwarts", body).unwrap_err().to_string()
}
