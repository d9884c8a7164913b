//! How long one text takes: the shipped boot script, and Labnet's boot menu of its guide's section 2.8 on a site.
//! `cargo bench -p bootd-menus`

#![expect(clippy::unwrap_used, reason = "a measurement that can't go on has failed")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use menus::{BootFacts, ClientFacts, ConfigView, Context, DiskFacts, Menus, Secret, ServerFacts};
use site::entity::{Edit, Model, Values};

const LABNET: &str = "<Template>
DEFAULT <varVal>kernel</varVal>
APPEND root=/dev/nfs init=/etc/rc.d/<varVal>preinit_script</varVal> nfsroot=/diskless/rootfs,v3 ip=dhcp <if><varVal>bootOptions</varVal><then><varVal>bootOptions</varVal></then></if> softlevel=<varVal>run_level_name</varVal>
</Template>";

const TERA: &str = "DEFAULT {{ self.kernel }}
APPEND root=/dev/nfs init=/etc/rc.d/{{ var(name='preinit_script') }} nfsroot=/diskless/rootfs,v3 ip=dhcp softlevel={{ var(name='run_level_name') }}
";

fn main() {
    let menus =
        Menus::new(vec![("labnet".to_owned(), LABNET.to_owned()), ("tera.tera".to_owned(), TERA.to_owned())])
            .unwrap();
    let (view, context) = (site(), context());
    for name in ["default.ipxe", "tera", "labnet"] {
        let runs = 2000;
        let started = Instant::now();
        for _ in 0..runs {
            black_box(menus.render_with(name, &context, &view).unwrap());
        }
        println!("{name:>14} {:>10.2?}", started.elapsed() / runs);
    }
}

fn site() -> Arc<dyn ConfigView> {
    let variables = ["kernel", "preinit_script", "run_level_name", "bootOptions"];
    let entity = || "client/rook".parse().unwrap();
    let mut edits: Vec<Edit> = variables
        .iter()
        .map(|variable| Edit::Define {
            kind: "client".parse().unwrap(),
            variable: variable.parse().unwrap(),
            definition: Some(Box::default()),
        })
        .collect();
    edits.push(Edit::Create { entity: entity() });
    edits.extend(variables.iter().map(|variable| Edit::Set {
        entity: entity(),
        variable: variable.parse().unwrap(),
        values: Values::one("some-value"),
        expect: None,
    }));
    Arc::new(Model::default().apply(&edits).unwrap().0)
}

fn context() -> Context {
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
            script_url: None,
            disk: Some(DiskFacts {
                epoch: 1,
                portal: [10, 77, 0, 1].into(),
                port: 3260,
                target: "iqn.2026-01.internal.lab.megatron:cs-lab:rook:1".to_owned(),
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
