//! A real PostgreSQL server: the same suite as on a file, and outages.

use std::time::Instant;

use super::cluster::Cluster;
use super::*;
use crate::entity::{Edit, EntityId};

const PATIENCE: Duration = Duration::from_secs(60);

fn group(name: &str) -> Edit {
    Edit::Create { entity: EntityId::new("group".parse().unwrap(), name.parse().unwrap()) }
}

fn has(store: &Store, name: &str) -> bool {
    store.snapshot().unwrap().model().get("group", name).is_some()
}

/// Waits until `is`, as a daemon does.
fn until(store: &Store, what: &str, is: impl Fn() -> bool) {
    let started = Instant::now();
    while !is() {
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}; {:?}", store.state());
        let _ = store.wait_changed(Duration::from_millis(100));
    }
}

fn is_offline(store: &Store) -> bool {
    matches!(store.state(), StoreState::Offline { .. })
}

#[test]
fn the_suite() {
    let cluster = Arc::new(Cluster::start());
    for (name, test) in edits::SUITE.iter().chain(general::SUITE).chain(bad_input::SUITE) {
        println!("{name}");
        test(&Lab::on(&cluster));
    }
    random::try_on(|| Lab::on(&cluster), 6);
}

#[test]
fn a_server_that_is_killed_is_not_noticed_by_who_reads_and_is_caught_up_with() {
    let cluster = Arc::new(Cluster::start());
    let lab = Lab::on(&cluster);
    lab.store.edit(&[group("a")], &by()).unwrap();
    assert!(has(&lab.store, "a"));
    cluster.kill();
    until(&lab.store, "it is lost", || has(&lab.store, "a") && is_offline(&lab.store));
    let error = lab.store.edit(&[group("b")], &by()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("edits are refused"), "{error}");

    // Gone at the start: the copy is all there is, and it is verified.
    let Place::Server(_, database) = &lab.place else { panic!("a file") };
    let copy = lab.folder.path().join("copy.db");
    let location = cluster.location(database, &copy);
    let again = Store::open(&location).unwrap();
    assert!(has(&again, "a") && is_offline(&again));
    let elsewhere = cluster.location(database, &lab.folder.path().join("none.db"));
    let error = Store::open(&elsewhere).unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    let other_database = cluster.location("other", &lab.folder.path().join("none.db"));
    Store::open(&other_database).unwrap_err();
    drop(again);
    Connection::open(&copy).unwrap().execute_batch("UPDATE entity SET name = 'x'").unwrap();
    drop(lab.store);
    let error = Store::open(&location).unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "what was tampered with is not served: {error}");

    cluster.run();
    let first = Store::open(&location).unwrap();
    assert!(has(&first, "a"));
    let second = Store::open(&elsewhere).unwrap();
    second.edit(&[group("b")], &by()).unwrap();
    until(&first, "the other's edit", || has(&first, "b"));
    cluster.kill();
    until(&first, "it is lost again", || has(&first, "b") && is_offline(&first));
    cluster.run();
    until(&first, "it is back", || has(&first, "b") && !is_offline(&first));
    first.edit(&[group("c")], &by()).unwrap();
    until(&second, "the edit", || has(&second, "c") && !is_offline(&second));
    assert!(first.take_notices().iter().any(|notice| notice.contains("answers again")));
}

#[test]
fn a_database_that_is_restored_from_a_dump_is_served_as_it_is_and_never_mixed() {
    let cluster = Arc::new(Cluster::start());
    let lab = Lab::on(&cluster);
    let Place::Server(_, database) = &lab.place else { panic!("a file") };
    lab.store.edit(&[group("kept")], &by()).unwrap();
    let dump = cluster.tool("pg_dump").args(["-d", database]).output().unwrap();
    assert!(dump.status.success());
    let dump = String::from_utf8(dump.stdout).unwrap();
    lab.store.edit(&[group("lost")], &by()).unwrap();
    lab.store.edit(&[group("lost2")], &by()).unwrap();
    let follower = lab.another().unwrap();
    assert!(has(&lab.store, "lost2") && has(&follower, "lost2"));
    let _ = lab.store.take_notices();

    let file = lab.folder.path().join("dump.sql");
    std::fs::write(&file, format!("DROP SCHEMA bootd CASCADE;\n{dump}")).unwrap();
    let input = std::fs::File::open(&file).unwrap();
    let restored = cluster
        .tool("psql")
        .args(["-v", "ON_ERROR_STOP=1", "-q", "-1", "-d", database])
        .stdin(input)
        .output()
        .unwrap();
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    // The other history grows past the number that the follower knows.
    for name in ["new1", "new2", "new3"] {
        until(&lab.store, "an edit", || lab.store.edit(&[group(name)], &by()).is_ok());
    }
    for store in [&lab.store, &follower] {
        until(store, "the other history", || has(store, "new3"));
        let site = store.snapshot().unwrap();
        let names: Vec<_> = site.model().all().map(|entity| entity.id().name.to_string()).collect();
        assert_eq!(
            (site.revision(), names),
            (4, ["kept", "new1", "new2", "new3"].map(String::from).to_vec())
        );
        let notices = store.take_notices();
        assert!(notices.iter().any(|notice| notice.contains("was restored")), "{notices:?}");
    }
}

#[test]
fn connections_that_are_dropped_or_hang_are_replaced() {
    let cluster = Arc::new(Cluster::start());
    let lab = Lab::on(&cluster);
    let Place::Server(_, database) = &lab.place else { panic!("a file") };
    lab.store.edit(&[group("a")], &by()).unwrap();
    let others = format!("FROM pg_stat_activity WHERE datname = '{database}' AND pid <> pg_backend_pid()");
    for round in 0..3 {
        cluster.psql(database, &format!("SELECT pg_terminate_backend(pid) {others}"));
        assert!(has(&lab.store, "a"));
        let name = format!("b{round}");
        until(&lab.store, "an edit", || {
            lab.store.edit(&[group(&name)], &by()).is_ok() || has(&lab.store, &name)
        });
    }
    until(&lab.store, "a connection", || has(&lab.store, "b2") && !is_offline(&lab.store));

    // A server that takes what is sent to it, and says nothing.
    let pid = cluster.psql(database, &format!("SELECT min(pid) {others}"));
    let signal = |signal: &str| {
        let sent = std::process::Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
    };
    signal("-STOP");
    let started = Instant::now();
    let error = lab.store.edit(&[group("c")], &by()).unwrap_err();
    assert!(error.to_string().contains("no answer within 10 s"), "{error}");
    assert!(started.elapsed() < PATIENCE);
    assert!(has(&lab.store, "b2"));
    until(&lab.store, "a new connection", || has(&lab.store, "a") && !is_offline(&lab.store));
    lab.store.edit(&[group("d")], &by()).unwrap();
    signal("-CONT");
    assert!(!has(&lab.store, "c") && has(&lab.store, "d"));
}

#[test]
fn an_edit_by_another_wakes_at_once_and_a_later_format_is_refused() {
    let cluster = Arc::new(Cluster::start());
    let lab = Lab::on(&cluster);
    let Place::Server(_, database) = &lab.place else { panic!("a file") };
    let other = lab.another().unwrap();
    lab.store.snapshot().unwrap();
    other.edit(&[group("a")], &by()).unwrap();
    assert!(lab.store.wait_changed(PATIENCE) && has(&lab.store, "a"));

    cluster.psql(database, "UPDATE format SET number = 4711");
    let error = lab.another().unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 4711, .. }), "{error}");
    let copy = lab.folder.path().join("x.db");
    for (url, words) in [
        ("postgres://bootd:secret@db/bootd?sslmode=require", "TLS"),
        ("nonsense", "postgres://bootd@db.example.net/bootd"),
        ("postgres://bootd:secret@db/bootd?nonsense=1", "postgres://bootd@"),
    ] {
        let error = Store::open(&Location::Postgres { url: url.to_owned(), copy: copy.clone() }).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(words) && !text.contains("secret"), "{text}");
    }
}
