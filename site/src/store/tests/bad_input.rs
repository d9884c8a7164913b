//! What comes in is text and nothing else, is bounded, and is in force for others soon.

use std::time::Instant;

use super::general::{all, create, define, define_type, id, set};
use super::*;
use crate::entity::{Definition, Edit, MAX_VALUE, MAX_VALUES, Values};

suite!(
    sql_in_every_field_is_text,
    what_is_too_large_is_refused_wherever_it_stands,
    what_no_type_knows_is_refused,
    an_edit_by_another_is_in_force_at_the_next_look,
);

/// Statements, and what would end a text or begin a parameter in either database.
const SQL: [&str; 5] = [
    "'; DROP TABLE value; --",
    "'); DELETE FROM entity; DELETE FROM revision; --",
    "\"; DROP SCHEMA bootd CASCADE; --",
    "$1 ?1 :who @who \\' E'\\x27' $$ %s %' _",
    "' OR '1'='1",
];

fn sql_in_every_field_is_text(lab: &Lab) {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let mut told = Vec::new();
    for (number, sql) in SQL.into_iter().enumerate() {
        for is_name in [
            sql.parse::<crate::entity::TypeName>().is_ok(),
            sql.parse::<crate::entity::EntityName>().is_ok(),
            sql.parse::<crate::entity::VariableName>().is_ok(),
            sql.parse::<crate::ClientName>().is_ok(),
        ] {
            assert!(!is_name, "{sql}");
        }
        let (kind, text) = (format!("k{number}"), quoted(sql));
        let entity = format!("{kind}/e");
        let edits = [
            define_type(&kind, &format!("about = {text}\nname_example = {text}\nopen = true")),
            define(
                &kind,
                "about",
                &format!("about = {text}\nexample = {text}\nchoice = [{text}, 'b']\nunique = true"),
            ),
            define(&kind, "matched", &format!("pattern = {}\nexample = {text}", quoted(&regex::escape(sql)))),
            create(&entity),
            set(&entity, "about", &[sql]),
            set(&entity, "matched", &[sql]),
            set(&entity, "any", &[sql, "", sql]),
        ];
        let author = Author::new(sql).because(format!("{sql}\n{sql}"));
        let (_, effects) = lab.store.edit(&edits, &author).unwrap();
        assert_eq!(effects.len(), edits.len());
        told.push((sql.to_owned(), Some(format!("{sql}\n{sql}")), effects));

        let expect = Some(Values::one(sql));
        let variable = "about".parse().unwrap();
        let edit = Edit::Set { entity: id(&entity), variable, values: Values::one("b"), expect };
        let (_, effects) = lab.store.edit(&[edit], &author).unwrap();
        told.push((sql.to_owned(), Some(format!("{sql}\n{sql}")), effects));
        lab.store.revert(u64::try_from(told.len()).unwrap(), &author).unwrap();
        told.push((sql.to_owned(), Some(format!("{sql}\n{sql}")), Vec::new()));
        let site = lab.store.snapshot().unwrap();
        assert_eq!(site.model().holder(&kind, "about", sql).unwrap().id(), &id(&entity));
        let found = format!("any=\"{}\"", sql.replace('\\', "\\\\").replace('"', "\\\""));
        assert_eq!(site.model().search(&found.parse().unwrap()).len(), 1, "{found}");
        assert_eq!(lab.store.log(Some(&id(&entity)), None, 10).unwrap().len(), 3);
    }
    let site = lab.store.snapshot().unwrap();
    assert_eq!(site.model().len(), SQL.len());
    assert_eq!(all(&lab.another().unwrap().snapshot().unwrap()), all(&site));
    let mut log = lab.store.log(None, None, 100).unwrap();
    log.reverse();
    assert_eq!(log.len(), told.len());
    for (revision, (who, why, effects)) in log.into_iter().zip(told) {
        assert_eq!((revision.who, revision.why), (who, why));
        assert!(effects.is_empty() || effects == revision.effects);
    }
}

fn what_is_too_large_is_refused_wherever_it_stands(lab: &Lab) {
    lab.store.edit(&[define("client", "cname", "edit = 'inputs'"), create("client/a")], &by()).unwrap();
    let huge = "x".repeat(10 << 20);
    let defined = |definition| Edit::Define {
        kind: "client".parse().unwrap(),
        variable: "new".parse().unwrap(),
        definition: Some(Box::new(definition)),
    };
    let usual = Definition::default();
    let many = vec!["a"; MAX_VALUES + 1];
    let bytes = "has 10485760 bytes, 65536 are allowed";
    for (edit, words) in [
        (set("client/a", "room", &[&huge]), ["client/a: room", bytes]),
        (set("client/a", "cname", &["a", &huge, "b"]), ["client/a: cname", bytes]),
        (set("client/a", "mac", &[&huge]), ["client/a: mac", bytes]),
        (set("client/a", "cname", &many), ["at most 10000 values", "not 10001"]),
        (
            defined(Definition { about: huge.clone(), ..usual.clone() }),
            ["variable new of type client", bytes],
        ),
        (defined(Definition { example: Some(huge.clone()), ..usual.clone() }), ["variable new", bytes]),
        (defined(Definition { about: "a\0b".to_owned(), ..usual }), ["variable new", "control character"]),
        (define("client", "new", &format!("choice = ['a', '{huge}']")), ["variable new", bytes]),
        (define("client", "new", &format!("choice = {many:?}")), ["10001 choices", "10000 are allowed"]),
        (define_type("huge", &format!("about = '{huge}'")), ["type huge", bytes]),
    ] {
        let error = lab.store.edit(&[edit], &by()).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "wants {words:?}: {text}");
        assert!(text.len() < 2000, "{} bytes of an error", text.len());
    }
    for author in [Author::new(huge.clone()), by().because(huge.clone())] {
        let text = lab.store.edit(&[create("client/b")], &author).unwrap_err().to_string();
        assert!(text.contains("not valid") && text.len() < 1000, "{text}");
    }
    let pattern = toml::from_str::<Definition>(&format!("pattern = '{huge}'")).unwrap_err().to_string();
    assert!(pattern.contains("10485760 bytes, 1024 are allowed"), "{pattern:.300}");
    // The longest that is allowed comes back whole.
    let longest = "ä".repeat(MAX_VALUE / 2);
    lab.store.edit(&[set("client/a", "cname", &[&longest, &longest])], &by()).unwrap();
    let site = lab.another().unwrap().snapshot().unwrap();
    assert_eq!(
        site.model().get("client", "a").unwrap().get("cname"),
        Some(&[&*longest; 2].into_iter().collect())
    );
    assert_eq!(site.revision(), 2);
}

fn what_no_type_knows_is_refused(lab: &Lab) {
    lab.store
        .edit(&[define("client", "rack", "choice = { type = 'rack' }"), create("client/a")], &by())
        .unwrap();
    for (edit, words) in [
        (create("printer/p"), ["no type printer", "client"]),
        (Edit::Remove { entity: id("printer/p") }, ["no type printer", "client"]),
        (set("printer/p", "room", &["x"]), ["no type printer", "client"]),
        (define("printer", "room", "about = 'x'"), ["no type printer", "client"]),
        (set("client/a", "colour", &["x"]), ["no variable colour", "define it first"]),
        (set("client/a", "rack", &["x"]), ["is no rack", "no entities of type rack"]),
    ] {
        let text = lab.store.edit(&[edit], &by()).unwrap_err().to_string();
        assert!(words.iter().all(|word| text.contains(word)), "wants {words:?}: {text}");
    }
    assert_eq!(lab.store.snapshot().unwrap().revision(), 1);
}

/// As the daemon does it: it looks every 100 ms, and what it finds then is in force.
fn an_edit_by_another_is_in_force_at_the_next_look(lab: &Lab) {
    const EDITS: u64 = 15;
    let look = Duration::from_millis(100);
    let other = lab.another().unwrap();
    let (made, found) = std::thread::scope(|scope| {
        let follower = scope.spawn(|| {
            let mut found = Vec::new();
            let started = Instant::now();
            while lab.store.snapshot().unwrap().revision() < EDITS {
                std::thread::sleep(look);
                assert!(started.elapsed() < Duration::from_secs(60), "after 60 s only {found:?}");
                if lab.store.changed() {
                    let revision = lab.store.snapshot().unwrap().revision();
                    found.push((revision, Instant::now()));
                }
            }
            found
        });
        let made: Vec<_> = (1..=EDITS)
            .map(|number| {
                other.edit(&[create(&format!("group/g{number}"))], &by()).unwrap();
                let made = Instant::now();
                // So that they fall anywhere between two looks.
                std::thread::sleep(Duration::from_millis(37 + 13 * number));
                made
            })
            .collect();
        (made, follower.join().unwrap())
    });
    let mut took: Vec<_> = (1..)
        .zip(&made)
        .map(|(number, made)| {
            let (_, at) = found.iter().find(|(revision, _)| *revision >= number).unwrap();
            at.saturating_duration_since(*made)
        })
        .collect();
    took.sort();
    let median = took[took.len() / 2];
    println!("in force after {median:?} (median of {EDITS}), {:?} at most", took.last().unwrap());
    assert!(median < Duration::from_secs(1), "{took:?}");
}
