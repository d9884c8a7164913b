//! Templates at their boundary: what goes in, and which text or error comes out.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod bounds;
mod errors;
mod golden;
mod guide;
mod installers;
mod instances;
mod labnet;
mod lines;
mod loaders;
mod lookups;
mod random;

use menus::{BootFacts, ClientFacts, Context, DiskFacts, Menus, Secret, ServerFacts};

/// A client that boots from its disk.
fn rook() -> Context {
    Context {
        client: ClientFacts {
            name: Some("rook".parse().unwrap()),
            mac: "52:54:00:77:00:01".parse().unwrap(),
            address: Some([10, 77, 0, 21].into()),
            image: Some("cs-lab".parse().unwrap()),
        },
        server: ServerFacts { name: "megatron".to_owned(), address: [10, 77, 0, 1].into(), http_port: 80 },
        boot: BootFacts {
            address: Some([10, 77, 0, 21].into()),
            firmware: "bios".to_owned(),
            arch: "x86_64".to_owned(),
            script_url: Some("http://10.77.0.1/boot/52-54-00-77-00-01/script.ipxe".to_owned()),
            disk: Some(DiskFacts {
                epoch: 0x19a_bcde_f012,
                portal: [10, 77, 0, 1].into(),
                port: 3260,
                target: "iqn.2026-01.internal.lab.megatron:cs-lab:rook:19abcdef012".to_owned(),
                initiator: "iqn.2026-01.internal.lab.rook:system-disk".to_owned(),
                user: "iqn.2026-01.internal.lab.rook:system-disk".to_owned(),
                secret: Some(Secret::new("s3cretS3cretS3cr")),
                lun: 0,
                on_link: true,
            }),
        },
        why: Vec::new(),
        menu: None,
        choice: None,
    }
}

/// A machine that the site does not know.
fn stranger() -> Context {
    let mut context = rook();
    context.client.name = None;
    context.client.image = None;
    context.boot.disk = None;
    context.why = vec![
        "No client has the MAC address 52:54:00:77:00:01.".to_owned(),
        "To let it boot, type on megatron: bootd client add NAME --mac 52:54:00:77:00:01 --image IMAGE"
            .to_owned(),
    ];
    context
}

fn one(name: &str, text: &str) -> Menus {
    Menus::new(vec![(name.to_owned(), text.to_owned())]).unwrap()
}
