//! Small files that were served lately, in memory: scripts, menus and answer files, which a room asks for all at once.
//! Whoever asks again is given one after a single look at whether it is still the same file, instead of having it
//! opened, looked at, read and closed.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rustix::fs::{AtFlags, Stat, fstat, statat};

use super::{OpenFile, Version};

/// A file of at most so many bytes is small.
pub(crate) const MAX_SMALL: u64 = 32 << 10;

/// How many bytes of them are held at most; then all are forgotten, and what is asked for is read again.
const MAX_HELD: u64 = 4 << 20;

/// What one costs beside its bytes, about: so many empty ones are not too many either.
const COST: u64 = 512;

/// How long a file must have been left alone before it is held. A change within the same tick of the file system's clock
/// as the one before shows in no time stamp, and a tick is 10 ms at most, or on old file systems a second.
const SETTLED: Duration = Duration::from_secs(2);

/// A small file.
#[derive(Debug)]
pub(crate) struct Small {
    /// All its bytes.
    pub(crate) bytes: Vec<u8>,
    /// What HTTP says of it.
    pub(crate) version: Version,
}

/// The files that are held, by the names that they were asked for.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    by_name: HashMap<Box<str>, (Identity, Arc<Small>)>,
    /// The sum of the costs.
    held: u64,
}

/// What changes when a name stands for another file, or the file for other bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    place: (u64, u64),
    len: i64,
    modified: (i64, u64),
    changed: (i64, u64),
}

impl Identity {
    fn of(about: &Stat) -> Self {
        Self {
            place: (about.st_dev, about.st_ino),
            len: about.st_size,
            modified: (about.st_mtime, about.st_mtime_nsec),
            changed: (about.st_ctime, about.st_ctime_nsec),
        }
    }

    /// Whether it has been left alone for long enough before `now`.
    fn settled(&self, now: SystemTime) -> bool {
        let changed = u64::try_from(self.changed.0).map(|s| SystemTime::UNIX_EPOCH + Duration::from_secs(s));
        changed.is_ok_and(|changed| now.duration_since(changed).is_ok_and(|age| age >= SETTLED))
    }
}

impl Held {
    /// The file `name` of `place`, if it is held and still the same. That the look follows links out of `place` does no
    /// harm: what is given is what was once opened inside, and only if it is still there under this name.
    pub(super) fn get(&self, place: impl AsFd, name: &str) -> Option<Arc<Small>> {
        let (identity, small) = self.0.lock().by_name.get(name).cloned()?;
        let about = statat(place, name, AtFlags::empty());
        if about.is_ok_and(|about| Identity::of(&about) == identity) {
            return Some(small);
        }
        self.0.lock().forget(name);
        None
    }

    /// The bytes of `opened`, if it is small, and holds them by that `name` if the file has been left alone lately.
    ///
    /// # Errors
    /// When it can't be read, or became shorter meanwhile.
    pub(super) fn read(
        &self,
        name: Option<&str>,
        opened: &OpenFile,
        now: SystemTime,
    ) -> io::Result<Option<Arc<Small>>> {
        if opened.len > MAX_SMALL {
            return Ok(None);
        }
        let about = fstat(&opened.file)?;
        let mut bytes = vec![0; usize::try_from(opened.len).unwrap_or_default()];
        opened.file.read_exact_at(&mut bytes, 0)?;
        let small = Arc::new(Small { bytes, version: opened.version() });
        let identity = Identity::of(&about);
        // Were it written to since, its time stamp would be another than the one it is held by.
        let same = u64::try_from(identity.len).is_ok_and(|len| len == opened.len);
        if let Some(name) = name.filter(|_| same && identity.settled(now)) {
            self.0.lock().hold(name, identity, Arc::clone(&small));
        }
        Ok(Some(small))
    }
}

impl Table {
    fn hold(&mut self, name: &str, identity: Identity, small: Arc<Small>) {
        self.forget(name);
        let cost = cost(&small);
        if self.held + cost > MAX_HELD {
            *self = Self::default();
        }
        self.held += cost;
        self.by_name.insert(name.into(), (identity, small));
    }

    fn forget(&mut self, name: &str) {
        if let Some((_, small)) = self.by_name.remove(name) {
            self.held -= cost(&small);
        }
    }
}

fn cost(small: &Small) -> u64 {
    small.bytes.len() as u64 + COST
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::super::{open_beneath, open_directory};
    use super::*;

    /// Reads `name` in `root` as of a time when no file there has been changed lately.
    fn read(held: &Held, root: &Path, name: &str) -> Option<Arc<Small>> {
        let opened = open_beneath(root, name).unwrap();
        held.read(Some(name), &opened, SystemTime::now() + 2 * SETTLED).unwrap()
    }

    fn get(held: &Held, root: &Path, name: &str) -> Option<Vec<u8>> {
        held.get(open_directory(root).unwrap(), name).map(|small| small.bytes.clone())
    }

    /// Waits until the file system's clock has gone on.
    fn tick(root: &Path) {
        let path = root.join("tick");
        let now = || {
            fs::write(&path, "").unwrap();
            fs::metadata(&path).unwrap().modified().unwrap()
        };
        let before = now();
        while now() == before {}
    }

    #[test]
    fn a_file_is_given_from_memory_until_it_is_another() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("files");
        fs::create_dir(&root).unwrap();
        let path = root.join("menu");
        type Change = fn(&Path);
        let changes: [(&str, Change, Option<&str>); 6] = [
            ("written to", |path| fs::write(path, "new!").unwrap(), Some("new!")),
            ("made longer", |path| fs::write(path, "longer").unwrap(), Some("longer")),
            (
                "given its old date back",
                |path| {
                    let date = fs::metadata(path).unwrap().modified().unwrap();
                    fs::write(path, "sly!").unwrap();
                    OpenOptions::new().write(true).open(path).unwrap().set_modified(date).unwrap();
                },
                Some("sly!"),
            ),
            (
                "replaced",
                |path| {
                    fs::write(path.with_extension("new"), "else").unwrap();
                    fs::rename(path.with_extension("new"), path).unwrap();
                },
                Some("else"),
            ),
            ("removed", |path| fs::remove_file(path).unwrap(), None),
            (
                "now a link out",
                |path| {
                    let out = path.parent().unwrap().parent().unwrap().join("secret");
                    fs::write(&out, "hush").unwrap();
                    fs::remove_file(path).unwrap();
                    symlink(out, path).unwrap();
                },
                None,
            ),
        ];
        for (what, change, then) in changes {
            let held = Held::default();
            fs::write(&path, "text").unwrap();
            assert_eq!(read(&held, &root, "menu").unwrap().bytes, b"text");
            assert_eq!(get(&held, &root, "menu").as_deref(), Some(b"text".as_slice()), "{what}");
            tick(&root);
            change(&path);
            assert_eq!(get(&held, &root, "menu"), None, "{what}");
            let again = open_beneath(&root, "menu").ok().map(|_| read(&held, &root, "menu").unwrap());
            assert_eq!(again.map(|small| small.bytes.clone()).as_deref(), then.map(str::as_bytes), "{what}");
        }
    }

    #[test]
    fn what_was_changed_just_now_is_not_held_and_what_is_large_is_not_read() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("new"), "new").unwrap();
        fs::write(place.path().join("large"), vec![0; MAX_SMALL as usize + 1]).unwrap();
        let held = Held::default();
        let opened = open_beneath(place.path(), "new").unwrap();
        let small = held.read(Some("new"), &opened, SystemTime::now()).unwrap();
        assert_eq!(small.unwrap().bytes, b"new");
        assert_eq!(get(&held, place.path(), "new"), None);
        assert!(read(&held, place.path(), "large").is_none());
        assert_eq!(get(&held, place.path(), "large"), None);
    }

    #[test]
    fn what_is_held_is_bounded() {
        let place = tempfile::tempdir().unwrap();
        let held = Held::default();
        for number in 0..300 {
            let name = format!("{number}");
            fs::write(place.path().join(&name), vec![0; MAX_SMALL as usize]).unwrap();
            read(&held, place.path(), &name).unwrap();
            let table = held.0.lock();
            let sum = table.by_name.values().map(|(_, small)| cost(small)).sum::<u64>();
            assert_eq!(sum, table.held);
            assert!(sum <= MAX_HELD && !table.by_name.is_empty());
        }
    }
}
