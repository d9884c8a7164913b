//! Files of earlier releases.

use super::*;

#[test]
fn a_site_of_clients_and_images_becomes_one_of_entities_and_keeps_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.db");
    Connection::open(&path).unwrap().execute_batch(include_str!("format-1.sql")).unwrap();
    let location = Location::Sqlite(path.clone());
    let store = Store::open(&location).unwrap();
    let site = store.snapshot().unwrap();
    assert_eq!(site.revision(), 5);
    assert_eq!(site.inactive().count(), 0);
    let rook = Client {
        image: Some("lab".parse().unwrap()),
        menu: Some("rooms/lab.ipxe".to_owned()),
        boot_program: Some("snponly.efi".to_owned()),
        overlay_limit: Some(4 << 30),
        enabled: false,
        ..client("rook", 1)
    };
    let pawn = Client { address: None, ..client("pawn", 2) };
    assert_eq!(
        site.clients().into_iter().map(|client| Client::clone(client)).collect::<Vec<_>>(),
        [pawn, rook]
    );
    assert_eq!(**site.image(&"lab".parse().unwrap()).unwrap(), image("lab", "v1"));
    site.model().check().unwrap();

    let log = store.log(None, None, 100).unwrap();
    let told: Vec<_> = log.iter().map(|r| (r.number, r.at.to_string(), r.why.as_deref())).collect();
    assert_eq!(told[0], (5, "2026-11-02T09:30:00Z".to_owned(), Some("add client pawn")));
    assert_eq!(told[4], (1, "2026-11-01T08:00:00.123456789Z".to_owned(), Some("add image lab at v1")));
    let error = store.revert(5, &by()).unwrap_err();
    assert!(matches!(error, StoreError::Bare { number: 5 }), "{error}");

    // And goes on from there, also for one who opens it again.
    assert_eq!(store.add_client(&client("king", 3), &by()).unwrap(), Edited::Changed { revision: 6 });
    assert_eq!(Store::open(&location).unwrap().snapshot().unwrap().clients().len(), 3);
    let left: i64 = Connection::open(&path)
        .unwrap()
        .query_row(
            "SELECT count(*) FROM sqlite_schema WHERE name IN ('client', 'image', 'old_revision')",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(left, 0);
}

#[test]
fn a_migration_that_fails_leaves_the_file_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.db");
    let spoilt = Connection::open(&path).unwrap();
    spoilt.execute_batch(include_str!("format-1.sql")).unwrap();
    // In the way of what the migration makes.
    spoilt.execute_batch("CREATE TABLE concern (other TEXT)").unwrap();
    Store::open(&Location::Sqlite(path)).unwrap_err();
    let (format, clients): (i64, i64) = spoilt
        .query_row(
            "SELECT (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM client)",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    assert_eq!((format, clients), (1, 2));
}
