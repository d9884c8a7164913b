//! The site at the size of Labnet's site (1,700 entities with 35 values each) and at a hundred times that.
//! `cargo bench -p bootd-site`

#![expect(clippy::unwrap_used, reason = "a measurement that can't go on has failed")]

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use site::entity::{Definition, Edit, Editing, Entity, EntityId, Model, Values, VariableName};
use site::{Author, ClientName, Location, MacAddr, Site, Store};

const ENTITIES: usize = 1700;
const VARIABLES: usize = 33; // beside MAC and address

/// How many clients share a group.
const MEMBERS: usize = 100;

fn main() {
    for times in [1, 100] {
        measure(ENTITIES * times);
    }
}

fn measure(count: usize) {
    println!("{count} entities, {} values", count * (VARIABLES + 4));
    let definitions = definitions();
    let names: Vec<VariableName> = (0..VARIABLES).map(|n| format!("v{n}").parse().unwrap()).collect();
    let before = resident();
    let groups = (0..count.div_ceil(MEMBERS)).map(|n| Entity::new(id("group", &format!("g{n}"))));
    let entities = (0..count).map(|n| entity(n, &names)).chain(groups);
    let started = Instant::now();
    let model = Model::restore(0, definitions.definitions().clone(), entities);
    tell("model from entities", started.elapsed());
    let started = Instant::now();
    let site = Site::of(model);
    tell("snapshot from model", started.elapsed());
    println!("  {:<28}{:>9} MiB", "memory", resident().saturating_sub(before) >> 20);

    look_ups(&site, count);
    let some = spread(count);
    let client = |n: usize| id("client", &name(some[n % some.len()]));
    tell(
        "edit of a client",
        per_call(1000, |n| {
            let edit = set(client(n), "v7", format!("other {n}"));
            black_box(site.edit(&[edit]).unwrap());
        }),
    );
    tell(
        &format!("edit of a group of {MEMBERS}"),
        per_call(200, |n| {
            let edit = set(id("group", "g0"), "enabled", if n % 2 == 0 { "yes" } else { "no" }.to_owned());
            black_box(site.edit(&[edit]).unwrap());
        }),
    );
    tell(
        "removal of a client",
        per_call(20, |n| {
            black_box(site.edit(&[Edit::Remove { entity: client(n) }]).unwrap());
        }),
    );
    let image = id("image", "unused");
    let (with_image, _) = site.edit(&[Edit::Create { entity: image.clone() }]).unwrap();
    tell(
        "removal of an image",
        per_call(20, |_| {
            black_box(with_image.edit(&[Edit::Remove { entity: image.clone() }]).unwrap());
        }),
    );

    let folder = tempfile::tempdir().unwrap();
    let location = Location::Sqlite(folder.path().join("site.db"));
    let store = Store::open(&location).unwrap();
    let defined: Vec<Edit> = definition_edits();
    store.edit(&defined, &Author::default()).unwrap();
    let all: Vec<_> = site.model().entities("group").chain(site.model().entities("client")).collect();
    let started = Instant::now();
    for entities in all.chunks(ENTITIES) {
        let edits: Vec<Edit> = entities.iter().flat_map(|entity| from_nothing(entity)).collect();
        store.edit(&edits, &Author::default()).unwrap();
    }
    tell("all into SQLite", started.elapsed());
    tell(
        "edit into SQLite",
        per_call(50, |n| {
            let edit = set(client(n), "v7", format!("other {n}"));
            store.edit(&[edit], &Author::default()).unwrap();
        }),
    );
    drop(store);
    let started = Instant::now();
    let site = Store::open(&location).unwrap().snapshot().unwrap();
    tell("start from SQLite", started.elapsed());
    assert_eq!(site.clients().len(), count);
}

/// Each by keys of the whole site, so that the smallest memories of a processor do not hold what is found.
fn look_ups(site: &Site, count: usize) {
    let some = spread(count);
    let macs: Vec<MacAddr> = some.iter().map(|n| mac(*n).parse().unwrap()).collect();
    tell("client by MAC", per_look_up(&macs, |mac| _ = black_box(site.client_by_mac(*mac).unwrap())));
    let addresses: Vec<Ipv4Addr> = some.iter().map(|n| address(*n).parse().unwrap()).collect();
    tell(
        "client by address",
        per_look_up(&addresses, |address| _ = black_box(site.client_by_address(*address).unwrap())),
    );
    let uuids: Vec<[u8; 16]> = some.iter().map(|n| uuid(*n).to_be_bytes()).collect();
    tell("client by UUID", per_look_up(&uuids, |uuid| _ = black_box(site.client_by_uuid(*uuid).unwrap())));
    let clients: Vec<ClientName> = some.iter().map(|n| name(*n).parse().unwrap()).collect();
    tell("client by name", per_look_up(&clients, |name| _ = black_box(site.client(name).unwrap())));
    let model = site.model();
    tell(
        "entity by name",
        per_look_up(&clients, |name| _ = black_box(model.get("client", name.as_str()).unwrap())),
    );
    tell(
        "effective value",
        per_look_up(&clients, |name| {
            black_box(model.effective("client", name.as_str(), "v7").unwrap());
        }),
    );
    let strangers: Vec<MacAddr> = some.iter().map(|n| mac(n + count).parse().unwrap()).collect();
    tell(
        "stranger by MAC",
        per_look_up(&strangers, |mac| assert!(black_box(site.inactive_client_by_mac(*mac)).is_none())),
    );
}

/// Numbers of up to 100,000 entities, all over the site.
fn spread(count: usize) -> Vec<usize> {
    const STRIDE: usize = 7919; // a prime that divides no count
    (0..count.min(100_000)).map(|n| n * STRIDE % count).collect()
}

/// The median of a few rounds: on a busy machine another program's turn falls into some.
fn per_look_up<T>(keys: &[T], mut work: impl FnMut(&T)) -> Duration {
    let mut rounds: Vec<Duration> = (0..9)
        .map(|_| {
            let started = Instant::now();
            (0..100_000 / keys.len()).for_each(|_| keys.iter().for_each(&mut work));
            started.elapsed() / u32::try_from(100_000 / keys.len() * keys.len()).unwrap()
        })
        .collect();
    rounds.sort();
    rounds[rounds.len() / 2]
}

fn tell(what: &str, took: Duration) {
    println!("  {what:<28}{took:>13.2?}");
}

fn id(kind: &str, name: &str) -> EntityId {
    EntityId::new(kind.parse().unwrap(), name.parse().unwrap())
}

fn set(entity: EntityId, variable: &str, value: String) -> Edit {
    Edit::Set { entity, variable: variable.parse().unwrap(), values: Values::one(value), expect: None }
}

fn from_nothing(entity: &Entity) -> Vec<Edit> {
    let sets = entity.variables().map(|(variable, values)| Edit::Set {
        entity: entity.id().clone(),
        variable: variable.clone(),
        values: values.clone(),
        expect: None,
    });
    std::iter::once(Edit::Create { entity: entity.id().clone() }).chain(sets).collect()
}

fn per_call(calls: u32, mut work: impl FnMut(usize)) -> Duration {
    let started = Instant::now();
    for n in 0..calls {
        work(usize::try_from(n).unwrap());
    }
    started.elapsed() / calls
}

fn definitions() -> Model {
    Model::default().apply(&definition_edits()).unwrap().0
}

fn definition_edits() -> Vec<Edit> {
    (0..VARIABLES)
        .map(|n| Edit::Define {
            kind: "client".parse().unwrap(),
            variable: format!("v{n}").parse().unwrap(),
            definition: Some(Box::new(Definition { edit: Editing::Inputs, ..Definition::default() })),
        })
        .collect()
}

fn name(n: usize) -> String {
    format!("client-{n}")
}

fn mac(n: usize) -> String {
    let [.., a, b, c] = u64::try_from(n).unwrap().to_be_bytes();
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
}

fn address(n: usize) -> String {
    format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255)
}

fn uuid(n: usize) -> u128 {
    0x4c4c_4544_0042_3510_8052_0000_0000_0000 + u128::try_from(n).unwrap()
}

fn hyphenated(uuid: u128) -> String {
    let digits = format!("{uuid:032x}");
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

fn entity(n: usize, names: &[VariableName]) -> Entity {
    let id = EntityId::new("client".parse().unwrap(), name(n).parse().unwrap());
    let own = [
        ("mac".parse().unwrap(), Values::one(mac(n))),
        ("address".parse().unwrap(), Values::one(address(n))),
        ("uuid".parse().unwrap(), Values::one(hyphenated(uuid(n)))),
        ("groups".parse().unwrap(), Values::one(format!("g{}", n / MEMBERS))),
    ];
    let others = names.iter().map(|name| (name.clone(), Values::one(format!("value {name} of {n}"))));
    Entity::with(id, own.into_iter().chain(others))
}

/// Bytes of memory in use.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
