use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn refusal(path: &Path) -> (StoreError, String) {
    let error = Store::open_within(path, Duration::ZERO).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&path.display().to_string()), "{text}");
    (error, text)
}

#[test]
fn the_file_is_its_owners_alone() {
    let lab = Lab::new();
    assert_eq!(fs::metadata(lab.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_file_of_others_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    let content = "this is no database\n".repeat(100);
    fs::write(&text, &content).unwrap();
    let (error, message) = refusal(&text);
    assert!(matches!(error, StoreError::NotOurs { .. }), "{message}");
    assert_eq!(fs::read_to_string(&text).unwrap(), content);

    let foreign = folder.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE bookmark (url TEXT)").unwrap();
    let before = fs::read(&foreign).unwrap();
    let (error, message) = refusal(&foreign);
    assert!(matches!(error, StoreError::NotOurs { .. }), "{message}");
    assert_eq!(fs::read(&foreign).unwrap(), before);
}

#[test]
fn a_place_where_no_file_can_be_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (error, message) = refusal(&folder.path().join("absent/site.db"));
    assert!(matches!(error, StoreError::Open { .. }) && message.contains("No such file"), "{message}");
    let (error, message) = refusal(folder.path());
    assert!(matches!(error, StoreError::Open { .. }) && message.contains("it is a folder"), "{message}");
}

#[test]
fn damage_is_found_when_opening() {
    let lab = Lab::new();
    for last in 1..=200 {
        lab.store.add_client(&client(&format!("client-{last}"), last), &by()).unwrap();
    }
    let (path, Lab { folder, store, .. }) = (lab.path(), lab);
    drop(store); // writes the journal back into the file
    let mut bytes = fs::read(&path).unwrap();
    assert!(bytes.len() > 5 * 4096, "{}", bytes.len());
    for page in bytes.chunks_mut(4096).skip(2) {
        page[..64].fill(0x5a);
    }
    fs::write(&path, bytes).unwrap();
    let (error, message) = refusal(&path);
    assert!(matches!(error, StoreError::Damaged { .. }), "{message}");
    assert!(message.contains("restore it"), "{message}");
    drop(folder);
}

#[test]
fn a_later_format_is_refused_and_an_empty_file_is_a_new_site() {
    let lab = Lab::new();
    lab.by_hand("PRAGMA user_version = 4711");
    let (error, message) = refusal(&lab.path());
    assert!(matches!(error, StoreError::Newer { found: 4711, .. }), "{message}");
    let empty = lab.folder.path().join("empty.db");
    fs::write(&empty, "").unwrap();
    assert_eq!(Store::open(&Location::Sqlite(empty)).unwrap().snapshot().unwrap().revision(), 0);
}

#[test]
fn a_lock_held_too_long_is_an_error_and_not_a_wait_for_ever() {
    let lab = Lab::new();
    let hasty = Store::open_within(&lab.path(), Duration::from_millis(20)).unwrap();
    let other = Connection::open(lab.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = hasty.add_client(&client("rook", 1), &by()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert_eq!(hasty.snapshot().unwrap().revision(), 0, "reading goes on");
    other.execute_batch("ROLLBACK").unwrap();
    hasty.add_client(&client("rook", 1), &by()).unwrap();
}

#[test]
fn a_store_that_can_only_be_read_still_gives_snapshots() {
    let lab = Lab::new();
    lab.store.add_client(&client("rook", 1), &by()).unwrap();
    lab.connection(|connection| connection.execute_batch("PRAGMA query_only = on").unwrap());
    let error = lab.store.add_client(&client("pawn", 2), &by()).unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
    assert_eq!(lab.store.snapshot().unwrap().clients().len(), 1);
}

#[test]
fn a_full_file_system_is_named_and_nothing_is_half_written() {
    let lab = Lab::new();
    let pages: i64 = lab.connection(|connection| {
        connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap()
    });
    lab.connection(|connection| connection.pragma_update(None, "max_page_count", pages).unwrap());
    let error = (1..=255)
        .find_map(|last| {
            lab.store.add_client(&client(&format!("{}-{last}", "x".repeat(50)), last), &by()).err()
        })
        .unwrap();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    let site = lab.store.snapshot().unwrap();
    assert_eq!(u64::try_from(site.clients().len()).unwrap(), site.revision());
}

#[test]
fn edits_of_this_and_of_other_processes_are_noticed() {
    let lab = Lab::new();
    assert!(lab.store.changed(), "nothing has been read yet");
    lab.store.snapshot().unwrap();
    assert!(!lab.store.changed());
    lab.store.add_client(&client("rook", 1), &by()).unwrap();
    assert!(lab.store.changed());
    lab.store.snapshot().unwrap();
    assert!(!lab.store.changed());
    lab.another().unwrap().add_client(&client("pawn", 2), &by()).unwrap();
    assert!(lab.store.changed());
    assert_eq!(lab.store.snapshot().unwrap().clients().len(), 2);
    assert!(!lab.store.changed());
}

#[test]
fn a_row_spoilt_by_hand_is_named_and_mending_it_is_enough() {
    let lab = Lab::new();
    lab.store.add_client(&client("rook", 1), &by()).unwrap();
    let site = lab.store.snapshot().unwrap();
    let spoilt = |variable: &str, value: &str| {
        format!("INSERT OR REPLACE INTO value VALUES ('client', 'rook', '{variable}', 0, '{value}')")
    };
    for (spoil, hint) in [
        (spoilt("mac", "ff:ff:ff:ff:ff:ff"), "one machine"),
        (spoilt("address", "10.77.0.999"), "an IPv4 address"),
        (spoilt("menu", "a b"), "must match"),
        (spoilt("overlay_limit", "-1"), "a number of bytes"),
        (spoilt("image", "absent"), "is no image"),
        (spoilt("nonsense", "1"), "has no variable nonsense"),
        (
            "INSERT INTO entity VALUES ('client', 'pawn');
          INSERT INTO value VALUES ('client', 'pawn', 'mac', 0, '52:54:00:77:00:01')"
                .to_owned(),
            "belongs to",
        ),
    ] {
        lab.by_hand(&spoil);
        assert!(lab.store.changed());
        let error = lab.store.snapshot().unwrap_err();
        assert!(matches!(error, StoreError::BadRow { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("client/") && text.contains(hint), "{text}");
        let error = lab.store.add_client(&client("bishop", 3), &by()).unwrap_err();
        assert!(matches!(error, StoreError::BadRow { .. }), "no edit is made on top: {error}");
        lab.by_hand(
            "DELETE FROM value WHERE name = 'pawn' OR variable NOT IN ('mac', 'address');
             DELETE FROM entity WHERE name = 'pawn'",
        );
        lab.by_hand(&spoilt("mac", "52:54:00:77:00:01"));
        lab.by_hand(&spoilt("address", "10.77.0.1"));
        assert_eq!(lab.store.snapshot().unwrap().clients(), site.clients());
    }
}

#[test]
fn a_file_that_was_taken_away_is_not_written_to() {
    let lab = Lab::new();
    lab.store.add_client(&client("rook", 1), &by()).unwrap();
    lab.store.snapshot().unwrap();
    fs::rename(lab.path(), lab.folder.path().join("old.db")).unwrap();
    for replaced in [false, true] {
        if replaced {
            lab.another().unwrap();
        }
        assert!(lab.store.changed());
        let error = lab.store.add_client(&client("pawn", 2), &by()).unwrap_err();
        assert!(matches!(error, StoreError::Gone { .. }), "{error}");
        assert!(matches!(lab.store.snapshot(), Err(StoreError::Gone { .. })));
    }
}
