//! Edits of entities of any type, their log and the way back.

use super::*;
use crate::entity::{Edit, EntityId, Values};

suite!(
    what_is_changed_by_hand_is_in_force_and_followed_by_edits,
    types_lists_tables_and_values_of_any_text_are_kept_in_their_order,
    another_process_that_follows_sees_what_one_sees_that_reads_all,
    two_editors_at_once_lose_nothing,
    edits_from_many_threads_and_stores_are_each_a_revision,
    the_log_says_who_when_why_and_what_and_leads_back,
    a_preview_changes_nothing,
    bad_input_is_refused_with_what_would_pass_and_nothing_changes,
    too_much_at_once_is_refused,
);

pub(super) fn id(text: &str) -> EntityId {
    text.parse().unwrap()
}

pub(super) fn create(entity: &str) -> Edit {
    Edit::Create { entity: id(entity) }
}

pub(super) fn set(entity: &str, variable: &str, values: &[&str]) -> Edit {
    let variable = variable.parse().unwrap();
    Edit::Set { entity: id(entity), variable, values: values.iter().copied().collect(), expect: None }
}

pub(super) fn define(kind: &str, variable: &str, definition: &str) -> Edit {
    Edit::Define {
        kind: kind.parse().unwrap(),
        variable: variable.parse().unwrap(),
        definition: Some(Box::new(toml::from_str(definition).unwrap())),
    }
}

pub(super) fn define_type(kind: &str, definition: &str) -> Edit {
    let definition = Some(Box::new(toml::from_str(definition).unwrap()));
    Edit::DefineType { kind: kind.parse().unwrap(), definition }
}

/// What the snapshot holds, to compare.
pub(super) fn all(site: &Site) -> String {
    let entities: Vec<_> = site.model().all().map(|entity| format!("{entity:?}")).collect();
    format!("{} {:?} {}", site.revision(), site.model().definitions(), entities.join("\n"))
}

fn types_lists_tables_and_values_of_any_text_are_kept_in_their_order(lab: &Lab) {
    let long = "x".repeat(crate::entity::MAX_VALUE);
    let edits = [
        define_type("printer", "about = 'Prints.'\nopen = true\n[variables.tray]\nedit = 'inputs'"),
        define("printer", "ink", "mandatory = true"),
        define("client", "cname", "edit = 'inputs'"),
        create("printer/p1"),
        set("printer/p1", "tray", &["b", "a", "a", "'; DROP TABLE value; --"]),
        set("printer/p1", "anything", &["$1 ?1 :x \"q\" \\ % _ \t\n ä€𝄞", "", &long]),
        create("group/g"),
        set("group/g", "cname", &["www", "mail"]),
    ];
    let (edited, effects) = lab.store.edit(&edits, &by()).unwrap();
    assert_eq!((edited, effects.len()), (Edited::Changed { revision: 1 }, 8));
    let site = lab.store.snapshot().unwrap();
    assert_eq!(all(&lab.another().unwrap().snapshot().unwrap()), all(&site));
    assert_eq!(
        site.inactive().map(ToString::to_string).collect::<Vec<_>>(),
        ["printer/p1 is inactive: it lacks ink"]
    );
    let tray = site.model().get("printer", "p1").unwrap().get("tray").unwrap().iter().collect::<Vec<_>>();
    assert_eq!(tray, ["b", "a", "a", "'; DROP TABLE value; --"]);
}

fn another_process_that_follows_sees_what_one_sees_that_reads_all(lab: &Lab) {
    let other = lab.another().unwrap();
    for edits in [
        vec![define("client", "note", "about = 'x'"), create("client/a"), set("client/a", "note", &["1"])],
        vec![
            create("group/g"),
            set("client/a", "groups", &["g"]),
            set("client/a", "mac", &["52:54:00:77:00:01"]),
        ],
        vec![Edit::Remove { entity: id("client/a") }, create("client/a"), set("client/a", "note", &["2"])],
        vec![set("client/a", "note", &[]), set("group/g", "note", &["3"])],
        vec![Edit::Remove { entity: id("client/a") }, create("client/b"), set("client/b", "groups", &["g"])],
    ] {
        lab.store.edit(&edits, &by()).unwrap();
        assert!(other.wait_changed(Duration::from_secs(5)));
        let followed = other.snapshot().unwrap();
        assert_eq!(all(&followed), all(&lab.store.snapshot().unwrap()));
        assert_eq!(all(&followed), all(&lab.another().unwrap().snapshot().unwrap()));
        assert!(!other.changed());
    }
}

fn two_editors_at_once_lose_nothing(lab: &Lab) {
    lab.store.edit(&[create("group/g"), set("group/g", "about", &["old"])], &by()).unwrap();
    let other = lab.another().unwrap();
    other.snapshot().unwrap();
    let expecting = |new: &str| Edit::Set {
        entity: id("group/g"),
        variable: "about".parse().unwrap(),
        values: Values::one(new),
        expect: Some(Values::one("old")),
    };
    lab.store.edit(&[expecting("first")], &by()).unwrap();
    let error = other.edit(&[expecting("second")], &by()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Conflict);
    let text = error.to_string();
    assert!(text.contains("\"old\"") && text.contains("\"first\""), "{text}");
    // What only goes without the other's edit is refused though the other's was never seen here.
    other.edit(&[Edit::Remove { entity: id("group/g") }], &by()).unwrap();
    let error = lab.store.edit(&[create("client/a"), set("client/a", "groups", &["g"])], &by()).unwrap_err();
    assert!(error.to_string().contains("is no group"), "{error}");
}

fn edits_from_many_threads_and_stores_are_each_a_revision(lab: &Lab) {
    let stores: Vec<Store> = (0..3).map(|_| lab.another().unwrap()).collect();
    std::thread::scope(|scope| {
        for (number, store) in stores.iter().enumerate() {
            scope.spawn(move || {
                for at in 0..10 {
                    store.edit(&[create(&format!("group/g{number}-{at}"))], &by()).unwrap();
                }
            });
        }
    });
    for store in stores.iter().chain([&lab.store]) {
        let site = store.snapshot().unwrap();
        assert_eq!((site.revision(), site.model().len()), (30, 30));
    }
    let numbers: Vec<_> = lab.store.log(None, None, 1000).unwrap().iter().map(|r| r.number).collect();
    assert_eq!(numbers, (1..=30).rev().collect::<Vec<_>>());
}

fn the_log_says_who_when_why_and_what_and_leads_back(lab: &Lab) {
    let alice = Author::new("alice").because("a new room");
    let before = jiff::Timestamp::now();
    lab.store.edit(&[create("group/g"), set("group/g", "about", &["1"])], &alice).unwrap();
    lab.store.edit(&[create("group/h")], &by()).unwrap();
    let (_, effects) = lab.store.edit(&[set("group/g", "about", &["2"])], &by()).unwrap();
    let log = lab.store.log(None, None, 10).unwrap();
    assert_eq!(log.iter().map(|r| r.number).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!(log[0].effects, effects);
    assert_eq!((log[2].who.as_str(), log[2].why.as_deref()), ("alice", Some("a new room")));
    assert!(log.iter().all(|r| r.at >= before && r.at <= jiff::Timestamp::now()));
    let of_g = lab.store.log(Some(&id("group/g")), None, 10).unwrap();
    assert_eq!(of_g.iter().map(|r| r.number).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(lab.store.log(Some(&id("group/g")), Some(3), 10).unwrap().len(), 1);
    assert_eq!(lab.store.log(None, Some(3), 1).unwrap()[0].number, 2);

    let error = lab.store.revert(1, &by()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Conflict, "{error}");
    let (edited, _) = lab.store.revert(3, &by()).unwrap();
    assert_eq!(edited, Edited::Changed { revision: 4 });
    let log = lab.store.log(None, None, 1).unwrap();
    assert_eq!(log[0].why.as_deref(), Some("reverts 3"));
    let value = lab.store.snapshot().unwrap();
    assert_eq!(value.model().get("group", "g").unwrap().get("about"), Some(&Values::one("1")));
    let error = lab.store.revert(99, &by()).unwrap_err();
    assert!(error.to_string().contains("no revision 99; the newest is 4"), "{error}");
}

fn a_preview_changes_nothing(lab: &Lab) {
    let edits = [create("group/g"), set("group/g", "about", &["1"])];
    let effects = lab.store.preview(&edits).unwrap();
    assert_eq!(lab.store.snapshot().unwrap().revision(), 0);
    assert_eq!(lab.store.edit(&edits, &by()).unwrap().1, effects);
    assert_eq!(
        lab.store.edit(&[set("group/g", "about", &["1"])], &by()).unwrap().0,
        Edited::Already { revision: 1 }
    );
}

fn bad_input_is_refused_with_what_would_pass_and_nothing_changes(lab: &Lab) {
    lab.store
        .edit(&[create("client/a"), create("group/g"), set("client/a", "groups", &["g"])], &by())
        .unwrap();
    let huge = "x".repeat(10 << 20);
    for (edit, words) in [
        (set("client/a", "mac", &["'; DROP TABLE client; --"]), ["DROP TABLE", "52:54:00:77:00:01"]),
        (set("client/a", "mac", &["a", "b"]), ["one value", "not 2"]),
        (set("client/a", "room", &[&huge]), ["10485760 bytes", "65536 are allowed"]),
        (set("client/a", "room", &["a\0b"]), ["control character", "EN1018"]),
        (set("client/a", "rooms", &["x"]), ["no variable rooms", "perhaps room"]),
        (set("client/b", "room", &["x"]), ["no client/b", "entities of type client: a"]),
        (create("printer/p"), ["no type printer", "client"]),
        (set("group/g", "groups", &["g"]), ["groups", "group/g"]),
        (define("client", "room", "about = 'mine'"), ["room", "bootd's own"]),
        (Edit::Remove { entity: id("group/g") }, ["named by", "client/a (groups)"]),
    ] {
        let error = lab.store.edit(&[edit], &by()).unwrap_err();
        assert_ne!(error.kind(), StoreErrorKind::Unavailable, "{error}");
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "wants {words:?}: {text}");
        assert!(text.len() < 1000, "{} bytes of an error", text.len());
    }
    // A definition that existing values break.
    lab.store
        .edit(&[define("client", "shelf", "about = 'x'"), set("client/a", "shelf", &["x"])], &by())
        .unwrap();
    let error =
        lab.store.edit(&[define("client", "shelf", "format = 'number'\nexample = '3'")], &by()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("client/a: shelf") && text.contains("whole number") && text.contains("\"3\""),
        "{text}"
    );
    for author in [Author::new(""), Author::new("a\nb"), Author::new("x".repeat(200)), by().because("a\0b")] {
        let error = lab.store.edit(&[create("group/h")], &author).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
    }
    assert_eq!(lab.store.snapshot().unwrap().revision(), 2);
}

fn too_much_at_once_is_refused(lab: &Lab) {
    let edits: Vec<_> = (0..=MAX_EFFECTS).map(|number| create(&format!("group/g{number}"))).collect();
    let error = lab.store.edit(&edits, &by()).unwrap_err();
    assert!(error.to_string().contains("make them in parts"), "{error}");
    assert_eq!(lab.store.snapshot().unwrap().revision(), 0);
}

fn what_is_changed_by_hand_is_in_force_and_followed_by_edits(lab: &Lab) {
    let name = "rook".parse().unwrap();
    lab.store.add_client(&client("rook", 1), &by()).unwrap();
    let other = lab.another().unwrap();
    other.snapshot().unwrap();
    lab.by_hand("UPDATE value SET value = '10.77.0.9' WHERE variable = 'address'");
    assert_eq!(lab.store.snapshot().unwrap().client(&name).unwrap().address, Some([10, 77, 0, 9].into()));
    // The other one sees the edit only, and must find what was done by hand before it.
    lab.store.add_client(&client("pawn", 2), &by()).unwrap();
    let site = other.snapshot().unwrap();
    assert_eq!(site.client(&name).unwrap().address, Some([10, 77, 0, 9].into()));
    assert_eq!((site.clients().len(), site.revision()), (2, 2));
}
