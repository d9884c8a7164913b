//! After any edits, the snapshot that was made from the one before equals one made from nothing.

use proptest::prelude::*;

use super::*;
use crate::entity::VariableName;

fn id(text: &str) -> EntityId {
    text.parse().unwrap()
}

fn create(entity: &str) -> Edit {
    Edit::Create { entity: id(entity) }
}

fn remove(entity: &str) -> Edit {
    Edit::Remove { entity: id(entity) }
}

fn set(entity: &str, variable: &str, values: &str) -> Edit {
    let variable: VariableName = variable.parse().unwrap();
    Edit::Set { entity: id(entity), variable, values: values.split_whitespace().collect(), expect: None }
}

fn define(kind: &str, variable: &str, definition: Option<&str>) -> Edit {
    Edit::Define {
        kind: kind.parse().unwrap(),
        variable: variable.parse().unwrap(),
        definition: definition.map(|definition| Box::new(toml::from_str(definition).unwrap())),
    }
}

/// All that a snapshot answers, in an order.
fn told(site: &Site) -> impl PartialEq + std::fmt::Debug + use<> {
    let client = |client: &Arc<Client>| Client::clone(client);
    let mut by_mac: Vec<_> = site.by_mac.iter().map(|(mac, of)| (*mac, of.name.clone())).collect();
    let mut by_address: Vec<_> = site.by_address.iter().map(|(at, of)| (*at, of.name.clone())).collect();
    let mut by_uuid: Vec<_> = site.by_uuid.iter().map(|(uuid, of)| (*uuid, of.name.clone())).collect();
    let mut members: Vec<_> = site
        .members
        .iter()
        .map(|(group, of)| (group.clone(), of.iter().cloned().collect::<Vec<_>>()))
        .collect();
    by_mac.sort();
    by_address.sort();
    by_uuid.sort();
    members.sort();
    (
        site.revision(),
        site.clients().into_iter().map(client).collect::<Vec<_>>(),
        site.images().into_iter().map(|image| Image::clone(image)).collect::<Vec<_>>(),
        site.inactive().cloned().collect::<Vec<_>>(),
        (by_mac, by_address, by_uuid, members),
    )
}

fn any_edit() -> impl Strategy<Value = Edit> {
    let name = "[a-c]";
    let entity = prop_oneof![
        4 => name.prop_map(|name| format!("client/{name}")),
        2 => name.prop_map(|name| format!("group/{name}")),
        1 => name.prop_map(|name| format!("image/{name}")),
        1 => name.prop_map(|name| format!("file/{name}")),
        1 => Just("site/defaults".to_owned()),
    ];
    let lender = prop_oneof![
        2 => name.prop_map(|name| format!("client/{name}")),
        2 => name.prop_map(|name| format!("group/{name}")),
        1 => Just("site/defaults".to_owned()),
    ];
    let own = prop_oneof![
        3 => (1..4_u8).prop_map(|last| ("mac", format!("52:54:00:77:00:0{last}"))),
        1 => (1..4_u8).prop_map(|last| ("address", format!("10.77.0.{last}"))),
        // Valid by its definition, and nothing that a client could be given.
        1 => Just(("address", "127.0.0.1".to_owned())),
        1 => (1..4_u8).prop_map(|last| ("uuid", format!("4c4c4544-0042-3510-8052-b4c04f4e373{last}"))),
        2 => prop::collection::vec(name, 0..3).prop_map(|groups| ("groups", groups.join(" "))),
        1 => prop::sample::select(vec!["mac", "address", "uuid"]).prop_map(|variable| (variable, String::new())),
    ];
    let lent = prop_oneof![
        2 => name.prop_map(|image| ("image", image)),
        1 => Just(("menu", "lab.ipxe".to_owned())),
        1 => prop::sample::select(vec!["1M", "4G", ""]).prop_map(|limit| ("overlay_limit", limit.to_owned())),
        2 => prop::sample::select(vec!["yes", "no", ""]).prop_map(|enabled| ("enabled", enabled.to_owned())),
        1 => prop::sample::select(vec!["k", ""]).prop_map(|kernel| ("kernel", kernel.to_owned())),
        1 => prop::sample::select(vec!["u", ""]).prop_map(|user| ("acc_user", user.to_owned())),
        1 => prop::sample::select(vec!["p", ""]).prop_map(|perm| ("acc_perm", perm.to_owned())),
    ];
    let column = "edit = 'column'\ntable = 'access'";
    let definition = prop::sample::select(vec![
        ("kernel", None),
        ("kernel", Some("about = 'x'")),
        ("kernel", Some("mandatory = true")),
        ("acc_user", Some("edit = 'column'\ntable = 'access'")),
        ("acc_user", Some("edit = 'column'\ntable = 'access'\nmandatory = true")),
        ("acc_perm", Some(column)),
    ]);
    let image =
        (name, prop::sample::select(vec![("version", "v1"), ("path", "/x"), ("size", "1G"), ("size", "")]));
    prop_oneof![
        3 => entity.clone().prop_map(|entity| create(&entity)),
        1 => entity.prop_map(|entity| remove(&entity)),
        6 => (name, own).prop_map(|(name, (variable, value))| set(&format!("client/{name}"), variable, &value)),
        6 => (lender, lent).prop_map(|(lender, (variable, value))| set(&lender, variable, &value)),
        2 => image.prop_map(|(name, (variable, value))| set(&format!("image/{name}"), variable, value)),
        1 => definition.prop_map(|(variable, definition)| define("client", variable, definition)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(384))]

    #[test]
    fn the_snapshot_after_an_edit_equals_one_made_anew(
        sets in prop::collection::vec(prop::collection::vec(any_edit(), 1..4), 1..60),
    ) {
        let start: Vec<_> = ["client/a", "client/b", "group/a", "group/b", "image/a", "site/defaults"].map(create).into();
        let mut site = Site::default().edit(&start).unwrap().0;
        for edits in &sets {
            let Ok((after, effects)) = site.edit(edits) else { continue };
            let entities: Vec<Entity> = after.model().all().map(|entity| Entity::clone(entity)).collect();
            let model = Model::restore(after.revision(), after.model().definitions().clone(), entities);
            prop_assert_eq!(told(&after), told(&Site::of(model)));
            if !effects.is_empty() {
                prop_assert_eq!(told(&site.follow(&effects).unwrap()), told(&after));
            }
            site = after;
        }
    }
}

#[test]
fn two_clients_swap_their_cards_in_one_edit() {
    let edits = [
        create("client/a"),
        set("client/a", "mac", "52:54:00:77:00:01"),
        create("client/b"),
        set("client/b", "mac", "52:54:00:77:00:02"),
    ];
    let (site, _) = Site::default().edit(&edits).unwrap();
    let swap = [set("client/a", "mac", "52:54:00:77:00:02"), set("client/b", "mac", "52:54:00:77:00:01")];
    let (site, _) = site.edit(&swap).unwrap();
    let name =
        |last| site.client_by_mac(MacAddr::new([0x52, 0x54, 0, 0x77, 0, last])).map(|c| c.name.to_string());
    assert_eq!((name(1).as_deref(), name(2).as_deref()), (Some("b"), Some("a")));
}

#[test]
fn a_client_is_found_by_all_that_it_is_known_by_or_told_to_be_inactive() {
    let uuid = "4c4c4544-0042-3510-8052-b4c04f4e3732";
    let edits = [
        define("client", "kernel", Some("mandatory = true")),
        create("client/a"),
        set("client/a", "mac", "52:54:00:77:00:01"),
        set("client/a", "address", "10.77.0.1"),
        set("client/a", "uuid", uuid),
    ];
    let (site, _) = Site::default().edit(&edits).unwrap();
    let mac = MacAddr::new([0x52, 0x54, 0, 0x77, 0, 1]);
    assert!(site.client_by_mac(mac).is_none() && site.clients().is_empty());
    let inactive = site.inactive_client_by_mac(mac).unwrap().to_string();
    assert_eq!(inactive, "client/a is inactive: it lacks kernel");
    assert!(site.inactive_client_by_mac(MacAddr::new([2, 0, 0, 0, 0, 1])).is_none());

    let (site, _) = site.edit(&[create("site/defaults"), set("site/defaults", "kernel", "k")]).unwrap();
    let bytes = u128::from_str_radix(&uuid.replace('-', ""), 16).unwrap().to_be_bytes();
    let by_uuid = site.client_by_uuid(bytes).unwrap();
    assert_eq!(Some(by_uuid), site.client_by_mac(mac));
    assert_eq!(Some(by_uuid), site.client_by_address([10, 77, 0, 1].into()));
    assert!(site.inactive_client_by_mac(mac).is_none() && site.inactive().next().is_none());
}
