//! Machines that wait to be registered, kept in `DATA/registrations.json`: written anew beside it and renamed over it at
//! each change, so that what was typed at a machine outlives a crash.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use netboot::{RegistrationForm, Registrations};
use parking_lot::Mutex;
use site::MacAddr;
use tokio::task::spawn_blocking;

use crate::boot::{self, ScriptError};
use crate::events::{Event, Events};
use crate::scripts::Script;
use crate::serve::limit::Allowance;
use crate::state::{Link, State, unix_millis};

const SERVICE: &str = "register";

/// How often one machine may ask to be registered at once, and then each second.
const BURST: u32 = 5;
const PER_SECOND: u32 = 1;

/// The largest file that is read, in bytes: 512 of them take less than half of it.
const MAX_LEN: u64 = 1 << 20;

/// Why a registration is not taken, where the form can't say so.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    /// The machine asks too often.
    #[error("asked too often, try again in a few seconds")]
    TooOften,
    /// It can't be kept.
    #[error("it can't be kept: {0}")]
    Io(#[from] io::Error),
    /// The next script can't be made.
    #[error(transparent)]
    Script(#[from] ScriptError),
}

/// All of them, and their file.
#[derive(Debug)]
pub(crate) struct Waiting {
    path: PathBuf,
    all: Mutex<Registrations>,
    /// Held by whoever changes them, while that is being written down: who only looks does not wait for a disk.
    changing: Mutex<()>,
    allowance: Allowance,
}

impl Waiting {
    /// Reads them back. A file that can't be read is told and left alone until the first change.
    pub(crate) fn load(path: PathBuf, events: &Events) -> Self {
        let all = read(&path).unwrap_or_else(|e| {
            let what = format!("{} can't be read, nobody waits: {e}", path.display());
            events.emit(Event::Trouble { service: SERVICE, what });
            Registrations::default()
        });
        Self {
            path,
            all: Mutex::new(all),
            changing: Mutex::default(),
            allowance: Allowance::new(BURST, PER_SECOND),
        }
    }

    /// All as they are now.
    pub(crate) fn all(&self) -> Registrations {
        self.all.lock().clone()
    }

    /// What a machine is shown: the form, or that it has to wait.
    pub(crate) fn script(&self, mac: MacAddr) -> Script {
        match self.all.lock().get(mac) {
            None => Script::Register(Vec::new()),
            Some(registration) => match &registration.rejected {
                Some(why) => Script::Register(vec![format!("An admin said no: {why}")]),
                None => Script::Waiting(vec![format!("This machine is to be {}.", registration.form.name)]),
            },
        }
    }

    /// Changes them, and keeps them as they are then. What can't be kept does not change. Blocks.
    pub(crate) fn change<T, E: From<io::Error>>(
        &self,
        change: impl FnOnce(&mut Registrations) -> Result<T, E>,
    ) -> Result<T, E> {
        let _turn = self.changing.lock();
        let mut new = self.all();
        let done = change(&mut new)?;
        write(&self.path, &new)?;
        *self.all.lock() = new;
        Ok(done)
    }
}

/// Takes in what was typed at the machine `mac`, and gives it the script that it goes on with.
///
/// # Errors
/// When it is not taken and can't be told so by a form.
pub(crate) async fn submit(
    state: &Arc<State>,
    link: &Link,
    mac: MacAddr,
    peer: Ipv4Addr,
    query: &str,
) -> Result<String, NotTaken> {
    if !state.registrations.allowance.take(peer) {
        return Err(NotTaken::TooOften);
    }
    let form = match RegistrationForm::parse(query) {
        Ok(form) => form,
        Err(e) => return Ok(boot::form(state, link, mac, peer, e.to_string()).await?),
    };
    let name = form.name.clone();
    if state.site.load().client(&name).is_some() {
        let why = format!("there is a client {name} already");
        return Ok(boot::form(state, link, mac, peer, why).await?);
    }
    let kept = Arc::clone(state);
    let taken = spawn_blocking(move || {
        kept.registrations.change(|all| {
            // What is refused changes nothing; the rest is written down.
            Ok::<_, io::Error>(all.submit(mac, peer, form, unix_millis()))
        })
    });
    match taken.await.map_err(|e| io::Error::other(e.to_string()))?? {
        Ok(()) => {
            let what = format!("asks to be registered as {name}; decide with: bootd register list");
            state.tell(mac, what);
            Ok(boot::script(state, link, mac, peer).await?)
        }
        Err(e) => Ok(boot::form(state, link, mac, peer, e.to_string()).await?),
    }
}

fn read(path: &Path) -> io::Result<Registrations> {
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Registrations::default()),
        Ok(file) if file.len() > MAX_LEN => return Err(io::Error::other("it is too large to be ours")),
        _ => {}
    }
    serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other)
}

fn write(path: &Path, all: &Registrations) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    serde_json::to_writer_pretty(&mut file, all).map_err(io::Error::other)?;
    file.flush()?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn what_was_typed_outlives_the_process_and_a_damaged_file_stops_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let (state, _store, _told) = testing::state(directory.path());
        let form = RegistrationForm::parse("name=pc9&group=lab").unwrap();
        let taken = state.registrations.change(|all| {
            all.submit(testing::MAC, [10, 0, 0, 9].into(), form, 1).unwrap();
            Ok::<_, io::Error>(())
        });
        taken.unwrap();
        let path = state.config.registrations();
        let again = Waiting::load(path.clone(), &state.events);
        assert_eq!(again.all(), state.registrations.all());
        assert!(matches!(again.script(testing::MAC), Script::Waiting(_)));
        fs::write(&path, "{ torn").unwrap();
        assert_eq!(Waiting::load(path, &state.events).all(), Registrations::default());
    }
}
