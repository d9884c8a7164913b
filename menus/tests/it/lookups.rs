//! Templates of both languages on a real site.

use std::collections::BTreeMap;
use std::sync::Arc;

use menus::ConfigView;
use site::entity::{Edit, Model};

use super::*;

fn edits(toml: &str) -> Vec<Edit> {
    #[derive(serde::Deserialize)]
    struct File {
        edit: Vec<Edit>,
    }
    toml::from_str::<File>(toml).unwrap().edit
}

/// Words `ENTITY VARIABLE VALUE...`, one edit a line; `ENTITY` alone makes it.
pub(super) fn site(lines: &str) -> Arc<dyn ConfigView> {
    let definitions = edits(
        "[[edit]]
         edit = 'define'
         type = 'client'
         variable = 'kernel'
         definition = { about = 'The kernel.' }
         [[edit]]
         edit = 'define'
         type = 'client'
         variable = 'cname'
         definition = { edit = 'inputs' }
         [[edit]]
         edit = 'define'
         type = 'client'
         variable = 'acc_perm'
         definition = { edit = 'column', table = 'access', place = 1 }
         [[edit]]
         edit = 'define'
         type = 'client'
         variable = 'acc_user'
         definition = { edit = 'column', table = 'access', place = 2 }",
    );
    let (model, _) = Model::default().apply(&definitions).unwrap();
    let (model, _) = model.apply(&words(lines)).unwrap();
    Arc::new(model)
}

/// The same on a site whose clients have these variables too, any text each.
pub(super) fn apply(variables: &[&str], lines: &str) -> Arc<dyn ConfigView> {
    let define = |variable: &&str| Edit::Define {
        kind: "client".parse().unwrap(),
        variable: variable.parse().unwrap(),
        definition: Some(Box::default()),
    };
    let (model, _) = Model::default().apply(&variables.iter().map(define).collect::<Vec<_>>()).unwrap();
    let (model, _) = model.apply(&words(lines)).unwrap();
    Arc::new(model)
}

/// A site with these entities, a variable's value a line, and client rook with these variables. A variable that comes
/// again has several values.
pub(super) fn made(entities: &[&str], rook: &[&str]) -> Arc<dyn ConfigView> {
    let mut all: BTreeMap<&str, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    let rook = rook.iter().map(|line| ("client/rook", *line));
    for (entity, line) in entities.iter().map(|line| line.split_once(' ').unwrap()).chain(rook) {
        let (variable, value) = line.split_once(' ').unwrap();
        all.entry(entity).or_default().entry(variable).or_default().push(value);
    }
    let created = all.keys().map(|name| Edit::Create { entity: name.parse().unwrap() });
    let set = all.iter().flat_map(|(entity, variables)| {
        variables.iter().map(|(variable, values)| Edit::Set {
            entity: entity.parse().unwrap(),
            variable: variable.parse().unwrap(),
            values: values.iter().copied().collect(),
            expect: None,
        })
    });
    let (model, _) = Model::default().apply(&created.chain(set).collect::<Vec<_>>()).unwrap();
    Arc::new(model)
}

fn words(lines: &str) -> Vec<Edit> {
    let own = lines.lines().filter(|line| !line.trim().is_empty()).map(|line| {
        let mut words = line.split_whitespace();
        let entity = words.next().unwrap().parse().unwrap();
        match words.next() {
            None => Edit::Create { entity },
            Some(variable) => Edit::Set {
                entity,
                variable: variable.parse().unwrap(),
                values: words.map(|word| word.replace('_', " ")).collect(),
                expect: None,
            },
        }
    });
    own.collect()
}

fn lab() -> Arc<dyn ConfigView> {
    site(
        "group/en1018
         group/en1018 kernel vmlinuz
         group/en1018 room EN1018
         server/megatron
         server/megatron domain cs
         server/megatron functions basic appserver
         server/nermal
         server/nermal domain lib
         server/nermal functions appserver
         app/backup
         app/backup hour 3
         client/rook
         client/rook mac 52:54:00:77:00:01
         client/rook groups en1018
         client/rook cname www
         client/rook acc_perm allow deny
         client/rook acc_user root ALL
         client/pawn
         client/pawn mac 52:54:00:77:00:02
         client/pawn room EN2000",
    )
}

fn tera(text: &str) -> String {
    one("t.tera", text).render_with("t", &rook(), &lab()).map_err(|error| format!("{text}: {error}")).unwrap()
}

fn error(text: &str) -> String {
    one("t.tera", text).render_with("t", &rook(), &lab()).unwrap_err().to_string()
}

#[test]
fn functions_look_things_up() {
    for (text, expected) in [
        ("{{ var(name='kernel') }}", "vmlinuz"),
        ("{{ var(name='room', entity='pawn') }}", "EN2000"),
        ("{{ var(name='domain', type='server', entity='nermal') }}", "lib"),
        ("{{ var(name='kernel', entity='pawn', default='none') }}", "none"),
        ("{{ vars(name='functions', type='server', entity='megatron') | join(sep=',') }}", "basic,appserver"),
        ("{{ vars(name='cname', entity='pawn') | length }}", "0"),
        (
            "{% for row in table(name='access') %}{{ row.acc_perm }}:{{ row.acc_user }} {% endfor %}",
            "allow:root deny:ALL ",
        ),
        ("{{ entities(type='server') | join(sep=',') }}", "megatron,nermal"),
        ("{{ entities(type='printer') | length }}", "0"),
        ("{{ find(type='server', functions='appserver') | join(sep=',') }}", "megatron,nermal"),
        ("{{ find(type='server', functions='appserver', domain='cs') | join(sep=',') }}", "megatron"),
        ("{{ find(type='client', room='EN1018') | join(sep=',') }}", "rook"),
        ("{{ find(type='client', mac='52:54:00:77:00:02') | join(sep=',') }}", "pawn"),
        ("{{ conf(entity='backup', name='hour') }}", "3"),
        ("{{ conf(entity='backup', name='minute', default=30) }}", "30"),
    ] {
        assert_eq!(tera(text), expected, "{text}");
    }
}

#[test]
fn self_and_server_hold_what_counts_for_them() {
    assert_eq!(tera("{{ self.kernel }} {{ self.room }} {{ self.mac }}"), "vmlinuz EN1018 52:54:00:77:00:01");
    assert_eq!(tera("{% for name in self.cname %}{{ name }};{% endfor %}"), "www;", "a list, be it of one");
    assert_eq!(
        tera("{{ server.name }} {{ server.domain }} {{ server.functions | join(sep='+') }}"),
        "megatron cs basic+appserver"
    );
    let text = error("\n{{ self.kernal }}");
    assert!(text.starts_with("t.tera:2:") && text.contains("kernal") && text.contains("kernel"), "{text}");
    // An entity's variable never hides what is known of the server in this boot.
    let site = site("server/megatron\nserver/megatron address 10.9.9.9");
    let text = one("t.tera", "{{ server.address }}").render_with("t", &rook(), &site).unwrap();
    assert_eq!(text, "10.77.0.1");
}

#[test]
fn what_is_not_there_is_an_error_that_says_so() {
    for (text, reason) in [
        ("{{ var(name='kernel', entity='pawn') }}", "client pawn has no kernel"),
        ("{{ var(name='kernel', entity='king') }}", "there is no client king"),
        ("{{ var() }}", "name"),
        ("{{ vars(name='x', type='server') }}", "needs entity"),
        ("{{ conf(entity='backup', name='minute') }}", "app backup has no minute"),
        ("{{ find(type='server') }}", "needs VARIABLE"),
        ("{{ find(type='server', domain=1) }}", "compares with a text"),
    ] {
        let error = error(&format!("\n\n{text}"));
        assert!(error.starts_with("t.tera:3:") && error.contains(reason), "{text}: {error}");
        assert!(error.ends_with("(for client rook)"), "{error}");
    }
}

#[test]
fn a_value_from_the_site_stays_in_its_line() {
    let evil = "client/rook\nclient/rook mac 52:54:00:77:00:01\nclient/rook kernel x_&&_shell";
    let script = |text: &str| one("t.ipxe.tera", text).render_with("t.ipxe", &rook(), &site(evil));
    let text = script("#!ipxe\n\nkernel {{ var(name='kernel') }}\n").unwrap_err().to_string();
    assert!(text.starts_with("t.ipxe.tera:3:"), "{text}");
    assert!(
        text.contains("the value of kernel of client rook can't be printed here") && text.contains("&&"),
        "{text}"
    );
    let text = script("#!ipxe\n\nkernel {{ self.kernel }}\n").unwrap_err().to_string();
    assert!(text.starts_with("t.ipxe.tera:3:") && text.contains("the value of self.kernel"), "{text}");
    // To ask is not to print.
    assert_eq!(script("{% if var(name='kernel') == 'x && shell' %}evil{% endif %}").unwrap(), "evil");
}

#[test]
fn labnets_language_sees_the_same_site() {
    let text = "<Template>KERNEL <varVal>kernel</varVal> <varVal>room cname</varVal>\
        <iterateOverLists><iteratorList><varVal>acc_perm</varVal></iteratorList>\
        <iteratorList><varVal>acc_user</varVal></iteratorList><literal> </literal><item/>:<item>1</item></iterateOverLists> \
        <AND_expr><type>server</type><var>domain</var><val>cs</val></AND_expr> \
        <if><is_entity>pawn</is_entity><then>pawn is one</then></if> \
        <confVal><entity>backup</entity>hour</confVal></Template>";
    let text = one("menu", text).render_with("menu", &rook(), &lab()).unwrap();
    assert_eq!(
        text, "KERNEL vmlinuzEN1018www allow:root deny:ALLmegatronpawn is one3",
        "blanks between elements go"
    );
}
