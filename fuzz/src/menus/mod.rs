//! Templates of either language, whatever an admin may write, for a client whose site holds whatever it may hold.

use std::sync::Arc;

use menus::{
    BootFacts, ClientFacts, ConfigView, Context, DiskFacts, MAX_OUTPUT, MAX_TEMPLATE, MenuError, Menus, Row,
    Secret, ServerFacts, Variable,
};

/// What no error may tell.
const SECRET: &str = "s3cretS3cretS3cr";

/// A site with values that don't belong into any line, and with long ones.
struct View {
    long: String,
}

impl View {
    fn all(&self) -> [(&'static str, Vec<&str>); 6] {
        [
            ("kernel", vec!["vmlinuz"]),
            ("cname", vec!["www", "ftp", "www"]),
            ("evil", vec!["a\n&& shell ${x}"]),
            ("long", vec![&self.long]),
            ("perm", vec!["allow", "deny"]),
            ("user", vec!["root", "ALL"]),
        ]
    }
}

impl ConfigView for View {
    fn entities(&self, kind: &str) -> Vec<&str> {
        match kind {
            "client" => vec!["pawn", "rook"],
            "server" => vec!["megatron"],
            _ => Vec::new(),
        }
    }

    fn values(&self, kind: &str, entity: &str, variable: &str) -> Vec<&str> {
        let there = self.entities(kind).contains(&entity);
        let found = self.all().into_iter().find(|(name, _)| there && *name == variable);
        found.map(|(_, values)| values).unwrap_or_default()
    }

    fn rows(&self, kind: &str, entity: &str, table: &str) -> Vec<Row<'_>> {
        if !self.entities(kind).contains(&entity) || table != "access" {
            return Vec::new();
        }
        vec![vec![("perm", "allow"), ("user", "root")], vec![("perm", "deny"), ("user", "ALL")]]
    }

    fn variables(&self, kind: &str, entity: &str) -> Vec<Variable<'_>> {
        if !self.entities(kind).contains(&entity) {
            return Vec::new();
        }
        let variable =
            |(name, values): (&'static str, Vec<_>)| Variable { name, many: values.len() > 1, values };
        self.all().into_iter().map(variable).collect()
    }
}

fn context() -> Context {
    Context {
        client: ClientFacts {
            name: "rook".parse().ok(),
            mac: "52:54:00:77:00:01".parse().expect("a MAC address"),
            address: Some([10, 77, 0, 21].into()),
            image: "cs-lab".parse().ok(),
        },
        server: ServerFacts { name: "megatron".into(), address: [10, 77, 0, 1].into(), http_port: 80 },
        boot: BootFacts {
            address: Some([10, 77, 0, 21].into()),
            firmware: "bios".into(),
            arch: "x86_64".into(),
            script_url: None,
            disk: Some(DiskFacts {
                epoch: 1,
                portal: [10, 77, 0, 1].into(),
                port: 3260,
                target: "iqn.2026-01.internal.lab.megatron:cs-lab:rook:1".into(),
                initiator: "iqn.2026-01.internal.lab.rook:system-disk".into(),
                user: "iqn.2026-01.internal.lab.rook:system-disk".into(),
                secret: Some(Secret::new(SECRET)),
                lun: 0,
                on_link: true,
            }),
        },
        why: vec!["Because.".into()],
        menu: None,
        choice: None,
    }
}

/// The first byte says what the template makes; the rest is the template in Tera's language.
pub fn tera(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let name = if first % 2 == 0 { "t.ipxe" } else { "t" };
    run(name, &format!("{name}.tera"), &String::from_utf8_lossy(rest));
}

/// The same for Labnet's language.
pub fn labnet(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let name = if first % 2 == 0 { "t.ipxe" } else { "t" };
    run(name, name, &String::from_utf8_lossy(rest));
}

fn run(name: &str, file: &str, text: &str) {
    // What makes it past the loader is rendered; what the loader says is for people.
    let menus = match Menus::new(vec![(file.to_owned(), text.to_owned())]) {
        Ok(menus) => menus,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(text.len() <= MAX_TEMPLATE || matches!(error, MenuError::TooLarge { .. }));
            return;
        }
    };
    if !menus.has(name) {
        return;
    }
    let view: Arc<dyn ConfigView> = Arc::new(View { long: "x".repeat(5000) });
    let once = menus.render_with(name, &context(), &view);
    match &once {
        Ok(made) => assert!(made.len() <= MAX_OUTPUT, "{} bytes", made.len()),
        Err(error) => {
            let said = error.to_string();
            assert!(said.contains(file), "no template in: {said}");
            assert!(said.contains("rook"), "no client in: {said}");
            assert!(text.contains(SECRET) || !said.contains(SECRET), "the secret in: {said}");
        }
    }
    assert_eq!(once, menus.render_with(name, &context(), &view), "the same twice");
}
