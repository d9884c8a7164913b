//! The store against real files: rules, refusals, damage, other processes, and a model under random edits.

mod edits;
mod files;
mod general;
mod migrated;
mod random;

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::{Client, Image};

/// A store in a folder of its own, removed with it.
struct Lab {
    folder: TempDir,
    store: Store,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Location::Sqlite(folder.path().join("site.db"))).unwrap();
        Self { folder, store }
    }

    /// The same site as another process has it open.
    fn another(&self) -> Result<Store, StoreError> {
        Store::open(&Location::Sqlite(self.path()))
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("site.db")
    }

    /// As an admin with the `sqlite3` tool.
    fn by_hand(&self, statements: &str) {
        Connection::open(self.path()).unwrap().execute_batch(statements).unwrap();
    }
}

fn by() -> Author {
    Author::new("tests")
}

fn client(name: &str, last: u8) -> Client {
    Client {
        name: name.parse().unwrap(),
        mac: crate::MacAddr::new([0x52, 0x54, 0, 0x77, 0, last]),
        address: Some([10, 77, 0, last].into()),
        image: None,
        menu: None,
        boot_program: None,
        overlay_limit: None,
        enabled: true,
    }
}

fn image(name: &str, version: &str) -> Image {
    Image {
        name: name.parse().unwrap(),
        version: version.parse().unwrap(),
        path: format!("/var/lib/bootd/images/{name}/{version}.img").into(),
        size: 1 << 30,
    }
}
