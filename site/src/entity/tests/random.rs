//! After any edits, refused ones among them, a model equals a plain map, its look-ups equal a search through that map,
//! and its effects lead back.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

type Plain = BTreeMap<EntityId, BTreeMap<VariableName, Values>>;

fn plain(model: &Model) -> Plain {
    let variables =
        |entity: &Entity| entity.variables().map(|(name, values)| (name.clone(), values.clone())).collect();
    model.all().map(|entity| (entity.id().clone(), variables(entity))).collect()
}

/// What the edits come to when nothing is checked; `None`: one does not fit what is there.
fn naively(mut site: Plain, edits: &[Edit]) -> Option<Plain> {
    for edit in edits {
        match edit {
            Edit::Create { entity } => {
                if site.insert(entity.clone(), BTreeMap::new()).is_some() {
                    return None;
                }
            }
            Edit::Remove { entity } => drop(site.remove(entity)?),
            Edit::Set { entity, variable, values, .. } => {
                let variables = site.get_mut(entity)?;
                if values.is_empty() {
                    variables.remove(variable);
                } else {
                    variables.insert(variable.clone(), values.clone());
                }
            }
            Edit::DefineType { .. } | Edit::Define { .. } => return None,
        }
    }
    Some(site)
}

/// Whether the map keeps to the rules that the random edits can break.
fn fits(site: &Plain) -> bool {
    let values = |kind: &str, variable: &str| -> Vec<(&EntityId, &str)> {
        let of_kind = site.iter().filter(|(id, _)| id.kind.as_str() == kind);
        of_kind
            .flat_map(|(id, all)| {
                all.get(variable).into_iter().flat_map(move |v| v.iter().map(move |v| (id, v)))
            })
            .collect()
    };
    let unique = |variable| {
        let mut all: Vec<_> = values("client", variable).into_iter().map(|(_, value)| value).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        all.len() == count
    };
    let named = |kind: &str, variable: &str, target: &str| {
        values(kind, variable).iter().all(|(_, name)| site.contains_key(&id(&format!("{target}/{name}"))))
    };
    unique("mac")
        && unique("address")
        && named("client", "groups", "group")
        && named("client", "image", "image")
        && named("group", "image", "image")
}

fn any_edit() -> impl Strategy<Value = Edit> {
    let name = "[a-c]";
    let entity = prop_oneof![
        3 => name.prop_map(|name| format!("client/{name}")),
        1 => name.prop_map(|name| format!("group/{name}")),
        1 => name.prop_map(|name| format!("image/{name}")),
    ];
    let mac = (1..4_u8).prop_map(|last| format!("52:54:00:77:00:0{last}"));
    let address = (1..4_u8).prop_map(|last| format!("10.77.0.{last}"));
    prop_oneof![
        3 => entity.clone().prop_map(|entity| create(&entity)),
        1 => entity.prop_map(|entity| remove(&entity)),
        2 => (name, mac).prop_map(|(name, mac)| set(&format!("client/{name}"), "mac", &mac)),
        2 => (name, address).prop_map(|(name, address)| set(&format!("client/{name}"), "address", &address)),
        1 => (name, prop::sample::select(vec!["mac", "address", "groups", "image"]))
            .prop_map(|(name, variable)| set(&format!("client/{name}"), variable, "")),
        1 => (name, prop::collection::vec("[a-c]", 0..3))
            .prop_map(|(name, groups)| set(&format!("client/{name}"), "groups", &groups.join(" "))),
        2 => (prop::sample::select(vec!["client", "group"]), name, name)
            .prop_map(|(kind, name, image)| set(&format!("{kind}/{name}"), "image", &image)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_model_equals_a_plain_map(sets in prop::collection::vec(prop::collection::vec(any_edit(), 1..5), 1..25)) {
        let mut model = Model::default();
        for edits in &sets {
            let expected = naively(plain(&model), edits).filter(fits);
            match (model.apply(edits), expected) {
                (Ok((after, effects)), Some(expected)) => {
                    prop_assert_eq!(plain(&after), expected);
                    prop_assert_eq!(after.revision(), model.revision() + u64::from(!effects.is_empty()));
                    let (back, _) = after.apply(&revert(&effects)).unwrap();
                    prop_assert_eq!(plain(&back), plain(&model));
                    model = after;
                }
                (Err(_), None) => {}
                (outcome, expected) => {
                    let outcome = outcome.map(|(model, _)| plain(&model));
                    prop_assert!(false, "{edits:?} gave {outcome:?}, not {expected:?}");
                }
            }
            let entities = model.all().map(|entity| Entity::clone(entity));
            let restored = Model::restore(model.revision(), model.definitions().clone(), entities);
            prop_assert_eq!(plain(&restored), plain(&model));
            for variable in ["mac", "address"] {
                for entity in model.entities("client") {
                    for value in entity.get(variable).into_iter().flat_map(Values::iter) {
                        for model in [&model, &restored] {
                            let holder = model.holder("client", variable, value);
                            prop_assert_eq!(holder.map(|holder| holder.id()), Some(entity.id()));
                        }
                    }
                }
                let held = model.shelves.values().filter_map(|shelf| shelf.holders.get(variable)).map(crate::lookup::Lookup::size);
                let set = model.all().filter(|entity| entity.get(variable).is_some()).count();
                prop_assert_eq!(held.sum::<usize>(), set, "nothing is held by nobody");
            }
        }
    }
}
