//! The journal of leases: what survives a restart of who has which address.
//!
//! A text file, one JSON value a line, each an edit of the table that does no harm when applied again. A line is
//! appended before the answer that it stands for is sent, so no client can know of a lease that a restarted bootd
//! does not. It is not synced to the disk then: a lease that a power cut takes away is taken up again when its
//! client renews it, and a sync would cost each boot more than that is worth.
//!
//! A crash or a full disk can leave a line torn. It is then no JSON, or JSON without its line end, and is dropped;
//! the line after it begins on a line of its own. When most lines are history, the table as it is now
//! replaces the file: written beside it on another thread, synced, and renamed over it once it is whole, so that
//! at every moment one of the two is there. Lines that come meanwhile go to both.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use netboot::{Lease, LeaseChange, Leases};

/// How many lines of history a journal may have beyond twice the table before it is written anew.
const HISTORY: usize = 4096;

/// The largest journal that is read, in bytes. It holds some 2 million lines, ten times what compaction lets come
/// together; a larger one is none of ours.
const MAX_LEN: u64 = 256 << 20;

/// What was read back.
#[derive(Debug)]
pub(crate) struct Replayed {
    /// The table.
    pub(crate) leases: Leases,
    /// How many lines could not be understood. One is a crash's; more are a damaged file's.
    pub(crate) unreadable: usize,
}

/// The journal, open for appending.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    /// How many lines the file has.
    lines: usize,
    /// An append failed: the file lacks edits, and only the whole table can mend it.
    behind: bool,
    /// With more lines than that it is looked whether most of them are history.
    enough: usize,
    compaction: Option<Compaction>,
}

/// A new file in the making.
#[derive(Debug)]
struct Compaction {
    writer: JoinHandle<io::Result<(File, usize)>>,
    /// The lines that came since the table was copied.
    since: String,
    since_lines: usize,
}

impl Journal {
    /// Reads the journal at `path` back, and replaces it by one without history.
    ///
    /// # Errors
    /// When the file can't be read or replaced; it is then as it was.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Replayed)> {
        let (leases, unreadable) = match read(path) {
            Ok(text) => replay(&text),
            Err(e) if e.kind() == io::ErrorKind::NotFound => (Leases::new(), 0),
            Err(e) => return Err(e),
        };
        let (file, lines) = write_new(path, &leases.entries())?;
        fs::rename(beside(path), path)?;
        sync_directory(path)?;
        let journal =
            Self { path: path.to_owned(), file, lines, behind: false, enough: HISTORY, compaction: None };
        Ok((journal, Replayed { leases, unreadable }))
    }

    /// Appends `changes`. `table` is asked for the leases as they are with these changes when the file is to be
    /// written anew.
    ///
    /// # Errors
    /// When the file can't be written: the changes are in memory only, until the next call succeeds.
    pub(crate) fn append(
        &mut self,
        changes: &[LeaseChange],
        table: impl Fn() -> Vec<Lease>,
    ) -> io::Result<()> {
        // After a failure the last line may be torn. An empty line is nothing.
        let mut text = if self.behind { "\n".to_owned() } else { String::new() };
        for change in changes {
            text.push_str(&serde_json::to_string(change)?);
            text.push('\n');
        }
        if let Some(compaction) = &mut self.compaction {
            compaction.since.push_str(&text);
            compaction.since_lines += changes.len();
        }
        // One write: lines of two calls are never mixed, and a torn line is only ever the last.
        let appended = self.file.write_all(text.as_bytes());
        match &appended {
            Ok(()) => self.lines += changes.len(),
            Err(_) => self.behind = true,
        }
        let compacted = self.compact(table);
        if self.behind { appended.and(compacted) } else { compacted }
    }

    /// Goes on with the compaction if there is one, and begins one if it is time.
    fn compact(&mut self, table: impl Fn() -> Vec<Lease>) -> io::Result<()> {
        if let Some(compaction) = self.compaction.take_if(|c| c.writer.is_finished()) {
            return self.finish(compaction);
        }
        if self.compaction.is_some() || !(self.behind || self.lines > self.enough) {
            return Ok(());
        }
        let entries = table();
        // To gather all leases for every line that is appended would be most of the work of a lease.
        self.enough = HISTORY + 2 * entries.len();
        if !self.behind && self.lines <= self.enough {
            return Ok(());
        }
        let path = self.path.clone();
        let writer =
            thread::Builder::new().name("leases".into()).spawn(move || write_new(&path, &entries))?;
        self.compaction = Some(Compaction { writer, since: String::new(), since_lines: 0 });
        Ok(())
    }

    fn finish(&mut self, compaction: Compaction) -> io::Result<()> {
        let Compaction { writer, since, since_lines } = compaction;
        let (mut file, lines) = writer.join().map_err(|_| io::Error::other("its writer broke down"))??;
        file.write_all(since.as_bytes())?;
        fs::rename(beside(&self.path), &self.path)?;
        self.file = file;
        self.lines = lines + since_lines;
        self.behind = false;
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if file.metadata()?.len() > MAX_LEN {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large to be a journal of leases"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_LEN).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The table that the lines make, and how many of them make no sense.
fn replay(bytes: &[u8]) -> (Leases, usize) {
    let mut unreadable = 0;
    let mut changes = Vec::new();
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let whole = line.strip_suffix(b"\n");
        match whole.and_then(|line| serde_json::from_slice::<LeaseChange>(line).ok()) {
            Some(change) => changes.push(change),
            None => unreadable += usize::from(whole != Some(b"")),
        }
    }
    (Leases::restore(changes), unreadable)
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Writes a journal of just these entries beside the one at `path`.
fn write_new(path: &Path, entries: &[Lease]) -> io::Result<(File, usize)> {
    let mut text = String::new();
    for lease in entries {
        text.push_str(&serde_json::to_string(&LeaseChange::Set(*lease))?);
        text.push('\n');
    }
    let mut file = OpenOptions::new().append(true).create(true).mode(0o640).open(beside(path))?;
    // Not `truncate(true)`, which the standard library does not allow together with `append`.
    file.set_len(0)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok((file, entries.len()))
}

/// Makes the renaming last.
fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => File::open(directory)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::net::Ipv4Addr;

    use netboot::LeaseState;
    use site::MacAddr;

    use super::*;

    fn lease(last: u8, expires: u64) -> Lease {
        let address = Ipv4Addr::new(10, 0, 0, last);
        Lease { address, mac: MacAddr::new([2, 0, 0, 0, 0, last]), state: LeaseState::Bound, expires }
    }

    fn open(path: &Path) -> (Journal, Vec<Lease>, usize) {
        let (journal, replayed) = Journal::open(path).unwrap();
        (journal, replayed.leases.entries(), replayed.unreadable)
    }

    impl Journal {
        /// One that can write nothing, neither to its end nor anew if `path` is in no directory.
        pub(crate) fn on_a_full_disk(path: &Path) -> Self {
            let file = OpenOptions::new().append(true).open("/dev/full").unwrap();
            Self { path: path.to_owned(), file, lines: 0, behind: false, enough: HISTORY, compaction: None }
        }
    }

    fn unasked() -> Vec<Lease> {
        panic!("the table was asked for although nothing was to be compacted")
    }

    #[test]
    fn what_was_appended_is_there_after_a_restart() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("leases.journal");
        let (mut journal, leases, _) = open(&path);
        assert_eq!(leases, []);
        journal.append(&[LeaseChange::Set(lease(1, 100)), LeaseChange::Set(lease(2, 100))], unasked).unwrap();
        journal.append(&[LeaseChange::Set(lease(1, 200))], unasked).unwrap();
        journal.append(&[LeaseChange::Removed(Ipv4Addr::new(10, 0, 0, 2))], unasked).unwrap();
        drop(journal);
        let (journal, leases, unreadable) = open(&path);
        assert_eq!((leases, unreadable), (vec![lease(1, 200)], 0));
        assert_eq!(journal.lines, 1, "history is gone");
    }

    #[test]
    fn a_line_torn_anywhere_costs_itself_only() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("leases.journal");
        let (mut journal, ..) = open(&path);
        journal.append(&[LeaseChange::Set(lease(1, 100)), LeaseChange::Set(lease(2, 100))], unasked).unwrap();
        drop(journal);
        let whole = fs::read(&path).unwrap();
        let first = whole.iter().position(|&b| b == b'\n').unwrap() + 1;
        for cut in first..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let (mut journal, leases, unreadable) = open(&path);
            assert_eq!(leases, [lease(1, 100)], "cut at {cut}");
            assert_eq!(unreadable, usize::from(cut > first));
            journal.append(&[LeaseChange::Set(lease(3, 100))], unasked).unwrap();
            let (_, leases, unreadable) = open(&path);
            assert_eq!((leases, unreadable), (vec![lease(1, 100), lease(3, 100)], 0), "cut at {cut}");
        }
    }

    #[test]
    fn damage_in_the_middle_hides_nothing_after_it() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("leases.journal");
        let line = serde_json::to_string(&LeaseChange::Set(lease(1, 100))).unwrap();
        fs::write(&path, format!("{{\"set\":\n\0\0\0\u{fffd}\n{line}\n")).unwrap();
        let (_, leases, unreadable) = open(&path);
        assert_eq!((leases, unreadable), (vec![lease(1, 100)], 2));
    }

    #[test]
    fn a_line_torn_while_running_does_not_take_the_next_one_with_it() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("leases.journal");
        let (mut journal, ..) = open(&path);
        journal.file.write_all(b"{\"set\":{\"addr").unwrap();
        journal.behind = true;
        journal.append(&[LeaseChange::Set(lease(2, 100))], Vec::new).unwrap();
        let (leases, unreadable) = replay(&fs::read(&path).unwrap());
        assert_eq!((leases.entries(), unreadable), (vec![lease(2, 100)], 1));
    }

    #[test]
    fn history_is_compacted_while_lines_keep_coming() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("leases.journal");
        let (mut journal, ..) = open(&path);
        let mut expires = 0;
        let mut most = 0;
        while expires < 10 * HISTORY as u64 {
            expires += 1;
            journal.append(&[LeaseChange::Set(lease(1, expires))], || vec![lease(1, expires)]).unwrap();
            most = most.max(journal.lines);
            if journal.compaction.is_some() && expires.is_multiple_of(64) {
                thread::sleep(std::time::Duration::from_millis(1));
            }
        }
        assert!(most < 4 * HISTORY, "{most} lines");
        drop(journal);
        assert_eq!(open(&path).1, [lease(1, expires)]);
    }

    #[test]
    fn the_table_is_gathered_seldom_while_it_grows() {
        let place = tempfile::tempdir().unwrap();
        let (mut journal, ..) = open(&place.path().join("leases.journal"));
        let (mut all, gathered) = (Vec::new(), Cell::new(0));
        for number in 0..8 * HISTORY as u64 {
            all.push(lease(1, number));
            let table = || {
                gathered.set(gathered.get() + 1);
                all.clone()
            };
            journal.append(&[LeaseChange::Set(lease(1, number))], table).unwrap();
        }
        assert!((1..=3).contains(&gathered.get()), "{} times", gathered.get());
    }

    #[test]
    fn a_failed_append_is_told_and_mended_from_the_table() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("leases.journal");
        let mut journal = Journal::on_a_full_disk(&path);
        let table = || vec![lease(1, 100), lease(2, 100), lease(3, 100)];
        assert!(journal.append(&[LeaseChange::Set(lease(1, 100))], table).is_err());
        for _ in 0..1000 {
            thread::sleep(std::time::Duration::from_millis(2));
            if journal.append(&[LeaseChange::Set(lease(2, 100))], table).is_ok() {
                break;
            }
        }
        assert!(!journal.behind);
        journal.append(&[LeaseChange::Set(lease(3, 100))], unasked).unwrap();
        drop(journal);
        assert_eq!(open(&path).1, table());
    }
}
