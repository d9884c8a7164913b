//! The files that mirrors have stored.
//!
//! ```text
//! DIR/MIRROR/KEY.file   what came
//! DIR/MIRROR/KEY.json   what is known of it: its path, sum, entity tag; its own date says when it was used last
//! DIR/MIRROR/KEY.part   what is still coming; removed at the start
//! ```
//!
//! KEY is the path's SHA-256 sum: no path is too long for it, and `a` and `a/b` do not get in each other's way. A file is
//! put in its place by renaming, before what is known of it: what has no `.json` does not count, and is removed.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::MirrorError;
use super::sums::{Sum, parse_sum, show_sum};
use crate::serve::files::OpenFile;
use crate::state::unix_millis;

/// The most files that are stored, all mirrors together. Those that were not used for longest go.
const MAX_FILES: usize = 200_000;

/// How often a file's last use is written down.
const USE_WRITTEN: u64 = 60_000;

/// How much is made room for at a time, in parts of a hundred of the limit: to look for what is oldest takes a look at
/// everything.
const ROOM_PERCENT: u64 = 5;

/// A file by its mirror and its path there.
pub(super) type Key = (String, String);

/// What is known of a stored file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    /// Its path below its mirror.
    pub(crate) path: String,
    /// Where it came from.
    pub(crate) url: String,
    /// Its length, in bytes.
    pub(crate) size: u64,
    /// Its SHA-256 sum, in hexadecimal digits.
    pub(crate) sha256: String,
    /// Whether that was compared with what it should be.
    pub(crate) verified: bool,
    /// What the upstream called this version of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) etag: Option<String>,
    /// When the upstream says that it was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_modified: Option<String>,
    /// When it came, in milliseconds since 1970.
    pub(crate) fetched: u64,
    /// When it was last known to be current, in milliseconds since 1970.
    pub(crate) checked: u64,
}

impl Known {
    pub(super) fn sum(&self) -> Option<Sum> {
        parse_sum(&self.sha256)
    }
}

#[derive(Debug, Clone)]
struct Entry {
    known: Known,
    used: u64,
    use_written: u64,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    /// The most bytes that they may have together.
    limit: u64,
    index: Mutex<HashMap<Key, Entry>>,
    /// The latest moment at which a file was used. No two uses are at the same one: their order counts.
    clock: AtomicU64,
}

impl Files {
    /// What lies in `directory`, which need not exist. What an earlier process left half done is removed.
    pub(super) fn open(directory: PathBuf, limit: u64) -> Self {
        let mut index = HashMap::new();
        for mirror in folders(&directory) {
            let Some(name) = mirror.file_name().and_then(|name| name.to_str()) else { continue };
            for (path, entry) in read_folder(&mirror) {
                index.insert((name.to_owned(), path), entry);
            }
        }
        let files = Self { directory, limit, index: Mutex::new(index), clock: AtomicU64::new(0) };
        files.make_room(0);
        files
    }

    /// The most bytes that they may have together.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// What is known of a file, if it is stored.
    pub(super) fn known(&self, key: &Key) -> Option<Known> {
        self.index.lock().get(key).map(|entry| entry.known.clone())
    }

    /// Opens a stored file; it counts as used. One that was removed behind our back is forgotten.
    ///
    /// # Errors
    /// When it is there and can't be read.
    pub(super) fn read(&self, key: &Key) -> Result<Option<OpenFile>, MirrorError> {
        let Some(known) = self.known(key) else { return Ok(None) };
        let path = self.path(key, "file");
        let open = || -> io::Result<OpenFile> {
            let file = File::open(&path)?;
            let about = file.metadata()?;
            Ok(OpenFile {
                file,
                len: about.len(),
                modified: about.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            })
        };
        match open() {
            Ok(file) if file.len == known.size => {
                self.used(key);
                Ok(Some(file))
            }
            Ok(_) => self.forget(key).map(|()| None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.forget(key).map(|()| None),
            Err(e) => Err(MirrorError::disk(path, e)),
        }
    }

    /// Now, in milliseconds since 1970, or a little later.
    fn now(&self) -> u64 {
        let after = |last: u64| Some(unix_millis().max(last.saturating_add(1)));
        let last = self.clock.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after);
        last.ok().and_then(after).unwrap_or_else(unix_millis)
    }

    fn used(&self, key: &Key) {
        let now = self.now();
        let write = {
            let mut index = self.index.lock();
            let Some(entry) = index.get_mut(key) else { return };
            entry.used = now;
            let write = now.saturating_sub(entry.use_written) >= USE_WRITTEN;
            if write {
                entry.use_written = now;
            }
            write
        };
        if write && let Ok(file) = File::options().write(true).open(self.path(key, "json")) {
            // Only the order in which files go is at stake.
            let _ = file.set_modified(SystemTime::now());
        }
    }

    /// A new file for what is to come, and its path. There is one at a time for each key.
    pub(super) fn begin(&self, key: &Key) -> Result<(File, PathBuf), MirrorError> {
        let path = self.path(key, "part");
        let make = || -> io::Result<File> {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            File::options().read(true).write(true).create(true).truncate(true).open(&path)
        };
        make().map(|file| (file, path.clone())).map_err(|e| MirrorError::disk(&path, e))
    }

    /// Puts what has come in its place, in that of an earlier version, and makes room for it.
    pub(super) fn put(&self, key: &Key, known: Known) -> Result<(), MirrorError> {
        self.make_room(known.size);
        let (part, place) = (self.path(key, "part"), self.path(key, "file"));
        fs::rename(&part, &place).map_err(|e| MirrorError::disk(&place, e))?;
        self.note(key, known)
    }

    /// Writes down what is known of a stored file.
    pub(super) fn note(&self, key: &Key, known: Known) -> Result<(), MirrorError> {
        let path = self.path(key, "json");
        let text = serde_json::to_vec(&known).map_err(|e| MirrorError::Internal(e.to_string()))?;
        let new = self.path(key, "json.new");
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|e| MirrorError::disk(&path, e))?;
        let now = self.now();
        self.index.lock().insert(key.clone(), Entry { known, used: now, use_written: now });
        Ok(())
    }

    /// Removes a file.
    ///
    /// # Errors
    /// When it can't be removed.
    pub(super) fn forget(&self, key: &Key) -> Result<(), MirrorError> {
        self.index.lock().remove(key);
        for ending in ["json", "file"] {
            let path = self.path(key, ending);
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(MirrorError::disk(path, e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// What is stored, with when it was used last, by mirror and path.
    pub(super) fn all(&self) -> Vec<(Key, Known, u64)> {
        let index = self.index.lock();
        let mut all: Vec<_> =
            index.iter().map(|(key, entry)| (key.clone(), entry.known.clone(), entry.used)).collect();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        all
    }

    /// Removes what was not used for longest until `more` bytes fit in.
    fn make_room(&self, more: u64) {
        let too_many: Vec<Key> = {
            let index = self.index.lock();
            let sum: u64 = index.values().map(|entry| entry.known.size).sum();
            if sum.saturating_add(more) <= self.limit && index.len() < MAX_FILES {
                return;
            }
            let wanted = self.limit - self.limit / 100 * ROOM_PERCENT;
            let mut by_use: Vec<_> = index.iter().collect();
            by_use.sort_by_key(|(_, entry)| entry.used);
            let (mut left, mut files) = (sum, index.len());
            let goes = by_use.into_iter().take_while(|(_, entry)| {
                let go = left.saturating_add(more) > wanted || files >= MAX_FILES;
                left -= entry.known.size;
                files -= 1;
                go
            });
            goes.map(|(key, _)| key.clone()).collect()
        };
        for key in too_many {
            // What can't be removed is found again at the next start.
            let _ = self.forget(&key);
        }
    }

    fn path(&self, (mirror, path): &Key, ending: &str) -> PathBuf {
        self.directory.join(mirror).join(format!("{}.{ending}", name_of(path)))
    }
}

fn name_of(path: &str) -> String {
    show_sum(&Sha256::digest(path).into())
}

fn folders(directory: &Path) -> Vec<PathBuf> {
    let entries = directory.read_dir().into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// The files of one mirror. What is half there is removed.
fn read_folder(folder: &Path) -> Vec<(String, Entry)> {
    let mut found = Vec::new();
    for path in folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path()) {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let is_whole = match ending {
            "json" => read_entry(&path).map(|entry| found.push((entry.known.path.clone(), entry))).is_some(),
            "file" => path.with_extension("json").is_file(),
            _ => false,
        };
        if !is_whole {
            let _ = fs::remove_file(&path);
        }
    }
    found
}

fn read_entry(path: &Path) -> Option<Entry> {
    let known: Known = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let file = fs::metadata(path.with_extension("file")).ok()?;
    let is_its = path.file_stem().is_some_and(|stem| stem == name_of(&known.path).as_str());
    let used = fs::metadata(path).ok()?.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok();
    let used = used.as_ref().map(Duration::as_millis).and_then(|millis| u64::try_from(millis).ok())?;
    (file.len() == known.size && is_its).then_some(Entry { known, used, use_written: used })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    fn key(path: &str) -> Key {
        ("debian".into(), path.into())
    }

    fn put(files: &Files, path: &str, content: &str) {
        let key = key(path);
        let (mut file, _) = files.begin(&key).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        let known = Known {
            path: path.into(),
            url: format!("http://h/{path}"),
            size: content.len() as u64,
            sha256: show_sum(&Sha256::digest(content).into()),
            verified: false,
            etag: None,
            last_modified: None,
            fetched: 1,
            checked: 1,
        };
        files.put(&key, known).unwrap();
    }

    fn content(files: &Files, path: &str) -> Option<String> {
        let mut text = String::new();
        files.read(&key(path)).unwrap()?.file.read_to_string(&mut text).unwrap();
        Some(text)
    }

    fn names(files: &Files) -> Vec<String> {
        files.all().into_iter().map(|((_, path), ..)| path).collect()
    }

    #[test]
    fn what_was_stored_is_there_after_a_restart_and_halves_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("mirror");
        let files = Files::open(place.clone(), 1 << 20);
        put(&files, "a", "one");
        put(&files, "a/b", "two");
        put(&files, "a", "newer");
        files.begin(&key("coming")).unwrap();
        drop(files);
        let folder = place.join("debian");
        fs::write(folder.join("stray.file"), "x").unwrap();
        fs::write(folder.join("broken.json"), "{").unwrap();
        let files = Files::open(place.clone(), 1 << 20);
        assert_eq!(names(&files), ["a", "a/b"]);
        assert_eq!(content(&files, "a").as_deref(), Some("newer"));
        assert_eq!(content(&files, "a/b").as_deref(), Some("two"));
        assert_eq!(content(&files, "b"), None);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 4, "two files with what is known of them");
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::open(directory.path().into(), 100);
        for path in ["a", "b", "c"] {
            put(&files, path, &"x".repeat(30));
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(content(&files, "a").is_some());
        std::thread::sleep(Duration::from_millis(5));
        put(&files, "d", &"x".repeat(30));
        assert_eq!(names(&files), ["a", "c", "d"]);
    }

    #[test]
    fn what_is_gone_or_changed_behind_our_back_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::open(directory.path().into(), 1 << 20);
        put(&files, "a", "one");
        put(&files, "b", "two");
        fs::remove_file(files.path(&key("a"), "file")).unwrap();
        fs::write(files.path(&key("b"), "file"), "longer").unwrap();
        assert_eq!((content(&files, "a"), content(&files, "b")), (None, None));
        assert_eq!(names(&files), Vec::<String>::new());
    }
}
