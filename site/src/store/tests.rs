//! The store against real files: rules, refusals, damage, other processes, and a model under random edits.

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::{Client, Image};

/// A store of its own, removed with it.
struct Lab {
    folder: TempDir,
    store: Store,
    place: Place,
}

enum Place {
    File,
    #[cfg(feature = "postgres")]
    Server(Arc<cluster::Cluster>, String),
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Location::Sqlite(folder.path().join("site.db"))).unwrap();
        Self { folder, store, place: Place::File }
    }

    /// In a new database of that server.
    #[cfg(feature = "postgres")]
    fn on(cluster: &Arc<cluster::Cluster>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = cluster.database();
        let store = Store::open(&cluster.location(&database, &folder.path().join("copy.db"))).unwrap();
        Self { folder, store, place: Place::Server(Arc::clone(cluster), database) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("site.db")
    }

    /// The same site as another process has it open.
    fn another(&self) -> Result<Store, StoreError> {
        match &self.place {
            Place::File => Store::open(&Location::Sqlite(self.path())),
            #[cfg(feature = "postgres")]
            Place::Server(cluster, database) => {
                let copy = tempfile::NamedTempFile::new_in(&self.folder).unwrap().into_temp_path();
                Store::open(&cluster.location(database, &copy.keep().unwrap()))
            }
        }
    }

    /// As an admin with the `sqlite3` or `psql` tool.
    fn by_hand(&self, statements: &str) {
        match &self.place {
            Place::File => Connection::open(self.path()).unwrap().execute_batch(statements).unwrap(),
            #[cfg(feature = "postgres")]
            Place::Server(cluster, database) => drop(cluster.psql(database, statements)),
        }
    }

    /// What is tested is what is kept, not when it reaches the disk.
    fn hurry(&self) {
        #[cfg_attr(not(feature = "postgres"), expect(irrefutable_let_patterns, reason = "there are others"))]
        if let Backend::File { sqlite, .. } = &self.store.lock().backend {
            sqlite.connection.pragma_update(None, "synchronous", "OFF").unwrap();
        }
    }

    /// The connection to the file.
    fn connection<T>(&self, work: impl FnOnce(&Connection) -> T) -> T {
        match &self.store.lock().backend {
            Backend::File { sqlite, .. } => work(&sqlite.connection),
            #[cfg(feature = "postgres")]
            Backend::Server(_) => panic!("a server"),
        }
    }
}

/// Tests that hold for every database: each is run on a file by itself, and all on a server by `server::the_suite`.
macro_rules! suite {
    ($($name:ident),* $(,)?) => {
        #[cfg(feature = "postgres")]
        pub(super) const SUITE: &[(&str, fn(&Lab))] = &[$((stringify!($name), $name)),*];

        mod on_a_file {
            $(#[test] fn $name() { super::$name(&super::Lab::new()); })*
        }
    };
}

mod bad_input;
#[cfg(feature = "postgres")]
mod cluster;
mod edits;
mod files;
mod general;
mod migrated;
mod random;
#[cfg(feature = "postgres")]
mod server;

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
