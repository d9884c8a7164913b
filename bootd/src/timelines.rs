//! The timelines on disk, so that a restart forgets no boot.
//!
//! One file for each client, `DATA/boots/MAC.boots`: a line of JSON for each step, appended half a second after it happened
//! at the latest, by a thread that no packet waits for. Nothing is synced: what a power cut takes away is the end of a
//! timeline. A torn line is no JSON and is left out. When most of a file is of boots that are forgotten, it is written anew
//! beside itself and renamed. Machines that the site doesn't know have no files, so no stranger fills the disk.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use netboot::BootEntry;
use parking_lot::Mutex;
use site::MacAddr;
use tokio::task::spawn_blocking;

use crate::events::Event;
use crate::state::State;

/// How long a step waits to be written, at most.
const PERIOD: Duration = Duration::from_millis(500);

/// How many lines a file may have beyond twice what is remembered before it is written anew.
const HISTORY: usize = 64;

/// The largest file that is read, in bytes: ten times what a client's boots can take. A larger one is none of ours.
const MAX_LEN: u64 = 32 << 20;

const SUFFIX: &str = ".boots";

/// The folder of timelines.
pub(crate) struct Timelines {
    state: Arc<State>,
    folder: PathBuf,
    /// How many lines each file has.
    lines: Mutex<HashMap<MacAddr, usize>>,
}

impl Timelines {
    /// Reads back what an earlier process kept. What can't be read is told and left out: no boot waits for it.
    pub(crate) fn open(state: &Arc<State>) -> Arc<Self> {
        let folder = state.config.boots();
        let timelines = Self { state: Arc::clone(state), folder, lines: Mutex::default() };
        if let Err(e) = timelines.restore() {
            tracing::warn!("earlier boots are not remembered: {}: {e}", timelines.folder.display());
        }
        Arc::new(timelines)
    }

    /// Writes what happens, until it is dropped.
    pub(crate) async fn keep(self: Arc<Self>) {
        // Told once, however often it is tried.
        let mut trouble = None;
        loop {
            tokio::time::sleep(PERIOD).await;
            let timelines = Arc::clone(&self);
            let Ok(Err(e)) = spawn_blocking(move || timelines.save()).await else { continue };
            let what =
                format!("can't keep timelines in {}: {e}; make room on its disk", self.folder.display());
            if trouble.as_ref() != Some(&what) {
                self.state.events.emit(Event::Trouble { service: "boot", what: what.clone() });
            }
            trouble = Some(what);
        }
    }

    /// Writes what has happened since it was called last.
    ///
    /// # Errors
    /// The first failure. What could not be written is not tried again: the file is written anew some time.
    pub(crate) fn save(&self) -> io::Result<()> {
        let mut lines = self.lines.lock();
        let site = self.state.site.load_full();
        let unsaved = self.state.boots.lock().take_unsaved();
        let mut result = Ok(());
        for (mac, entries) in unsaved {
            if site.client_by_mac(mac).is_none() {
                continue;
            }
            let count = lines.entry(mac).or_default();
            let saved = append(&self.path(mac), &entries).and_then(|()| {
                *count += entries.len();
                if *count <= HISTORY {
                    return Ok(());
                }
                let all = self.state.boots.lock().entries(mac);
                if *count > HISTORY + 2 * all.len() {
                    replace(&self.path(mac), &all)?;
                    *count = all.len();
                }
                Ok(())
            });
            result = result.and(saved);
        }
        result
    }

    fn restore(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let site = self.state.site.load_full();
        for entry in self.folder.read_dir()? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(mac) = name.strip_suffix(SUFFIX).and_then(|mac| mac.parse::<MacAddr>().ok()) else {
                continue;
            };
            if site.client_by_mac(mac).is_none() {
                // A client that was removed, or has another card.
                fs::remove_file(&path)?;
                continue;
            }
            match read(&path) {
                Ok((entries, lines)) => {
                    self.lines.lock().insert(mac, lines);
                    self.state.boots.lock().restore(mac, entries);
                }
                Err(e) => {
                    tracing::warn!("earlier boots of {mac} are not remembered: {}: {e}", path.display());
                }
            }
        }
        Ok(())
    }

    fn path(&self, mac: MacAddr) -> PathBuf {
        self.folder.join(format!("{}{SUFFIX}", mac.to_string().replace(':', "-")))
    }
}

fn read(path: &Path) -> io::Result<(Vec<BootEntry>, usize)> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_LEN + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_LEN {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large to be a client's boots"));
    }
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let count = lines.clone().count();
    Ok((lines.filter_map(|line| serde_json::from_slice(line).ok()).collect(), count))
}

fn append(path: &Path, entries: &[BootEntry]) -> io::Result<()> {
    // The line before may be torn. An empty line is nothing.
    let text = format!("\n{}", text(entries)?);
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

fn replace(path: &Path, entries: &[BootEntry]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text(entries)?.as_bytes())?;
    fs::rename(beside, path)
}

fn text(entries: &[BootEntry]) -> io::Result<String> {
    let mut text = String::new();
    for entry in entries {
        text.push_str(&serde_json::to_string(entry)?);
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use netboot::{Stage, StepKind};

    use super::*;
    use crate::testing::{self, MAC};

    /// A daemon's state on the data of the one before.
    fn again(directory: &Path) -> (Arc<State>, Arc<Timelines>) {
        let (state, _store, _told) = testing::state(directory);
        state.site.store(Arc::new(testing::site(directory)));
        let timelines = Timelines::open(&state);
        (state, timelines)
    }

    #[test]
    fn boots_outlive_the_daemon_also_with_a_torn_end() {
        let place = tempfile::tempdir().unwrap();
        let (state, timelines) = again(place.path());
        let stranger = MacAddr::new([2, 0, 0, 0, 0, 9]);
        for mac in [MAC, stranger] {
            state.boots.lock().on_script(mac, 1000);
            state.boots.lock().record(mac, StepKind::Login(1), "iPXE", 2000);
        }
        timelines.save().unwrap();
        let path = timelines.path(MAC);
        assert_eq!(timelines.folder.read_dir().unwrap().count(), 1, "strangers have no files");
        drop((state, timelines));

        let mut torn = fs::read(&path).unwrap();
        torn.extend_from_slice(b"{\"epoch\":10");
        fs::write(&path, torn).unwrap();
        let (state, timelines) = again(place.path());
        assert_eq!(state.boots.lock().entries(MAC).len(), 2);
        state.boots.lock().record(MAC, StepKind::Login(2), "Linux", 3000);
        timelines.save().unwrap();

        let (state, _) = again(place.path());
        let kinds: Vec<_> =
            state.boots.lock().entries(MAC).into_iter().map(|entry| entry.step.kind).collect();
        assert_eq!(kinds, [StepKind::Script, StepKind::Login(1), StepKind::Login(2)]);
        state.site.store(Arc::new(site::Site::new(2, vec![], vec![])));
        Timelines::open(&state);
        assert!(!path.exists(), "the boots of a client that was removed are still there");
    }

    #[test]
    fn a_file_stays_small_however_often_its_client_boots() {
        let place = tempfile::tempdir().unwrap();
        let (state, timelines) = again(place.path());
        let mut most = 0;
        for n in 0..300 {
            state.boots.lock().on_discover(MAC, Stage::Firmware, n * 500_000);
            state.boots.lock().on_script(MAC, n * 500_000 + 1);
            state.boots.lock().record(MAC, StepKind::Login(1), "", n * 500_000 + 2);
            timelines.save().unwrap();
            most = most.max(fs::metadata(timelines.path(MAC)).unwrap().len());
        }
        assert!(most < 64 << 10, "{most} bytes");
        let (after, _) = again(place.path());
        assert_eq!(after.boots.lock().entries(MAC), state.boots.lock().entries(MAC));
    }
}
