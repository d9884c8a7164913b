//! The model at the size of Labnet's site (1,700 entities with 35 values each) and at a hundred times that.
//! `cargo bench -p bootd-site`

#![expect(clippy::unwrap_used, reason = "a measurement that can't go on has failed")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use site::Site;
use site::entity::{Definition, Edit, Editing, Entity, EntityId, Model, Values, VariableName};

const ENTITIES: usize = 1700;
const VARIABLES: usize = 33; // beside MAC and address

fn main() {
    println!(
        "{:>9} {:>10} {:>12} {:>12} {:>12} {:>12} {:>9}",
        "entities", "restore", "by MAC", "effective", "one edit", "snapshot", "memory"
    );
    for times in [1, 100] {
        measure(ENTITIES * times);
    }
}

fn measure(count: usize) {
    let definitions = definitions();
    let before = resident();
    let started = Instant::now();
    let names: Vec<VariableName> = (0..VARIABLES).map(|n| format!("v{n}").parse().unwrap()).collect();
    let model = Model::restore(1, definitions.definitions().clone(), (0..count).map(|n| entity(n, &names)));
    let restore = started.elapsed();
    let memory = resident().saturating_sub(before);

    let macs: Vec<String> = (0..1000).map(|n| mac(n * (count / 1000).max(1) % count)).collect();
    let by_mac = per_call(100_000, |n| {
        black_box(model.holder("client", "mac", &macs[n % macs.len()]).unwrap());
    });
    let clients: Vec<String> = (0..1000).map(|n| name(n * (count / 1000).max(1) % count)).collect();
    let effective = per_call(100_000, |n| {
        black_box(model.effective("client", &clients[n % clients.len()], "v7").unwrap());
    });
    let edit = per_call(1000, |n| {
        let edit = Edit::Set {
            entity: EntityId::new("client".parse().unwrap(), clients[n % clients.len()].parse().unwrap()),
            variable: "v7".parse().unwrap(),
            values: Values::one(format!("other {n}")),
            expect: None,
        };
        black_box(model.apply(&[edit]).unwrap());
    });
    let started = Instant::now();
    black_box(Site::of(model));
    let served = started.elapsed();
    println!(
        "{count:>9} {restore:>10.0?} {by_mac:>12.2?} {effective:>12.2?} {edit:>12.2?} {served:>12.1?} {:>6} MiB",
        memory >> 20
    );
}

fn per_call(calls: u32, mut work: impl FnMut(usize)) -> Duration {
    let started = Instant::now();
    for n in 0..calls {
        work(usize::try_from(n).unwrap());
    }
    started.elapsed() / calls
}

fn definitions() -> Model {
    let edits: Vec<Edit> = (0..VARIABLES)
        .map(|n| Edit::Define {
            kind: "client".parse().unwrap(),
            variable: format!("v{n}").parse().unwrap(),
            definition: Some(Box::new(Definition { edit: Editing::Inputs, ..Definition::default() })),
        })
        .collect();
    Model::default().apply(&edits).unwrap().0
}

fn name(n: usize) -> String {
    format!("client-{n}")
}

fn mac(n: usize) -> String {
    let [.., a, b, c] = u64::try_from(n).unwrap().to_be_bytes();
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
}

fn entity(n: usize, names: &[VariableName]) -> Entity {
    let id = EntityId::new("client".parse().unwrap(), name(n).parse().unwrap());
    let own = [
        ("mac".parse().unwrap(), Values::one(mac(n))),
        ("address".parse().unwrap(), Values::one(format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255))),
    ];
    let others = names.iter().map(|name| (name.clone(), Values::one(format!("value {name} of {n}"))));
    Entity::with(id, own.into_iter().chain(others))
}

/// Bytes of memory in use.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
