//! Files of other servers, fetched when the first client asks for them and kept: kernels, installers, packages.
//!
//! A mirror is an entity of the site, with the URL of a folder. `/mirror/NAME/PATH`, or the file `mirror/NAME/PATH`, is
//! the file PATH of that folder and nothing else: nobody can have bootd fetch from a server that the site does not name.
//!
//! - **Once.** However many ask for a file at the same time, the upstream is asked once ([`flight`]); all of them are
//!   sent what has come so far while the rest is coming.
//! - **Verified.** Where the site says a file's SHA-256 sum, or names a list of sums at the upstream, what came is compared
//!   with it before anybody has all of it. Else its length is, and its entity tag is recorded.
//! - **Current.** What has a sum is current as long as that is its sum. What has none is asked after again when it is
//!   older than the mirror says, by its entity tag and date.
//! - **There.** While the upstream is down, what is stored is served.
//! - **Gone on with.** An upstream that breaks off is asked for the rest, of the same version.
//! - **Bounded.** All mirrors together keep no more than `limit` in `[mirror]` of `bootd.toml`; what was not used for
//!   longest goes ([`store`]).

mod ask;
mod error;
mod flight;
mod store;
mod sums;
#[cfg(test)]
mod tests;
mod upstream;

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use netboot::FilePath;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

pub(crate) use self::error::MirrorError;
pub(crate) use self::flight::{HELD_BACK, Phase};
use self::flight::{Landed, Order};
pub(crate) use self::store::Known;
use self::store::{Files, Key};
use self::sums::{MAX_LIST, Sum, Sums};
pub(crate) use self::upstream::Upstream;
use crate::events::{Event, Events};
use crate::serve::files::OpenFile;
use crate::state::unix_millis;

/// The service's name in the log.
const SERVICE: &str = "mirror";

/// How many files may be on their way at once. Further ones are answered with 503, and `Retry-After`.
const MAX_FLIGHTS: usize = 32;

/// How long an upstream that failed is left alone, where what is stored is served in the meantime.
const PATIENCE: Duration = Duration::from_secs(60);

/// The mirrors' files, stored and on their way.
pub(crate) struct Mirrors {
    files: Arc<Files>,
    flights: Arc<Mutex<HashMap<Key, watch::Receiver<Phase>>>>,
    /// Lists of sums as they were read, by where they lie and their own sum.
    lists: Mutex<HashMap<Key, (String, Arc<Sums>)>>,
    events: Events,
}

/// A file that a client gets.
pub(crate) enum Got {
    /// It is stored.
    Stored(OpenFile),
    /// It is coming.
    Arriving {
        /// The file, which grows.
        file: Arc<File>,
        /// How long it will be.
        len: u64,
        /// How far it is.
        flight: watch::Receiver<Phase>,
    },
}

impl Mirrors {
    /// What lies in `directory`, which need not exist, of no more than `limit` bytes.
    pub(crate) fn open(directory: PathBuf, limit: u64, events: Events) -> Self {
        Self {
            files: Arc::new(Files::open(directory, limit)),
            flights: Arc::default(),
            lists: Mutex::default(),
            events,
        }
    }

    /// The file at `path` of a mirror, as soon as the first of it is there.
    ///
    /// # Errors
    /// When it can't be had.
    pub(crate) async fn get(&self, upstream: &Upstream, path: &FilePath) -> Result<Got, MirrorError> {
        let wanted = self.wanted(upstream, path).await?;
        self.get_wanted(upstream, path, wanted).await
    }

    /// The file at `path` of a mirror, when all of it is there, which is waited for so long. It goes on coming then.
    ///
    /// # Errors
    /// When it can't be had, or not in time.
    pub(crate) async fn whole(
        &self,
        upstream: &Upstream,
        path: &FilePath,
        patience: Duration,
    ) -> Result<OpenFile, MirrorError> {
        let whole = async { self.landed(&key(upstream, path), self.get(upstream, path).await?).await };
        let late = |_| MirrorError::OnItsWay { mirror: upstream.name.clone(), path: path.to_string() };
        tokio::time::timeout(patience, whole).await.map_err(late)?
    }

    /// What is stored, by mirror and path, with when it was used last.
    pub(crate) fn all(&self) -> Vec<(String, Known, u64)> {
        self.files.all().into_iter().map(|((mirror, _), known, used)| (mirror, known, used)).collect()
    }

    /// What is known of a stored file.
    pub(crate) fn known(&self, mirror: &str, path: &str) -> Option<Known> {
        self.files.known(&(mirror.to_owned(), path.to_owned()))
    }

    /// The most bytes that all of it may have.
    pub(crate) fn limit(&self) -> u64 {
        self.files.limit()
    }

    /// Removes what a mirror has stored, or of that only the file at `path`, and says what that was. Blocks.
    ///
    /// # Errors
    /// When a file can't be removed.
    pub(crate) fn drop_stored(&self, mirror: &str, path: Option<&str>) -> Result<Vec<Known>, MirrorError> {
        let all = self.files.all().into_iter();
        let its = all.filter(|((name, at), ..)| name == mirror && path.is_none_or(|path| path == at));
        its.map(|(key, known, _)| self.files.forget(&key).map(|()| known)).collect()
    }

    async fn get_wanted(
        &self,
        upstream: &Upstream,
        path: &FilePath,
        wanted: Option<Sum>,
    ) -> Result<Got, MirrorError> {
        let key = key(upstream, path);
        let stored = self.files.known(&key);
        if stored.as_ref().is_some_and(|known| is_current(known, upstream, wanted))
            && let Some(file) = self.read(&key).await?
        {
            return Ok(Got::Stored(file));
        }
        // What has another sum than it should have is not the file; to ask whether it has changed makes no sense.
        let usable = stored.filter(|known| wanted.is_none() || known.sum() == wanted);
        let mut flight = self.board(upstream, path, &key, wanted, usable.clone())?;
        let phase = match flight.wait_for(|phase| !matches!(phase, Phase::Asked)).await {
            Ok(phase) => phase.clone(),
            Err(_) => Phase::Failed(MirrorError::Internal("the fetch ended without a word".into())),
        };
        match phase {
            Phase::Arriving { file, len, .. } => Ok(Got::Arriving { file, len, flight }),
            Phase::Failed(e) => match usable {
                Some(known) if e.is_upstreams() => self.stale(upstream, &key, known, e).await,
                _ => Err(e),
            },
            Phase::Asked | Phase::Stored => {
                let gone = || MirrorError::Internal("what was stored is gone".into());
                Ok(Got::Stored(self.read(&key).await?.ok_or_else(gone)?))
            }
        }
    }

    /// The flight that brings the file: the one that is under way, or a new one.
    fn board(
        &self,
        upstream: &Upstream,
        path: &FilePath,
        key: &Key,
        wanted: Option<Sum>,
        stored: Option<Known>,
    ) -> Result<watch::Receiver<Phase>, MirrorError> {
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(key) {
            return Ok(flight.clone());
        }
        // One that was under way a moment ago has landed before it gave up its place.
        if self.files.known(key).is_some_and(|known| is_current(&known, upstream, wanted)) {
            return Ok(watch::channel(Phase::Stored).1);
        }
        if flights.len() >= MAX_FLIGHTS {
            return Err(MirrorError::Busy);
        }
        let url = upstream.url_of(path)?;
        let (told, flight) = watch::channel(Phase::Asked);
        flights.insert(key.clone(), flight.clone());
        let order = Order { key: key.clone(), upstream: upstream.clone(), url: url.clone(), wanted, stored };
        let landing = Landing { flights: Arc::clone(&self.flights), key: key.clone() };
        let (files, events) = (Arc::clone(&self.files), self.events.clone());
        // Of its own: a client that goes away does not end what others wait for.
        tokio::spawn(async move {
            let _landing = landing;
            let started = tokio::time::Instant::now();
            match flight::fetch(&order, &files, told).await {
                Ok(Landed::Unchanged) => {}
                Ok(Landed::New(bytes)) => {
                    let verified = wanted.is_some();
                    events.emit(Event::Mirrored {
                        url: url.to_string(),
                        bytes,
                        took: started.elapsed(),
                        verified,
                    });
                }
                Err(e) => events.emit(Event::Trouble { service: SERVICE, what: e.to_string() }),
            }
        });
        Ok(flight)
    }

    /// What is stored, since the upstream can't be asked. It is left alone for a while.
    async fn stale(
        &self,
        upstream: &Upstream,
        key: &Key,
        known: Known,
        error: MirrorError,
    ) -> Result<Got, MirrorError> {
        let fresh = u64::try_from(upstream.fresh.as_millis()).unwrap_or(u64::MAX);
        let patience = u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX);
        let checked = unix_millis().saturating_sub(fresh).saturating_add(patience.min(fresh));
        let (files, key_of) = (Arc::clone(&self.files), key.clone());
        let _ = spawn_blocking(move || files.note(&key_of, Known { checked, ..known })).await;
        self.read(key).await?.map(Got::Stored).ok_or(error)
    }

    /// A file when all of it is there.
    async fn landed(&self, key: &Key, got: Got) -> Result<OpenFile, MirrorError> {
        match got {
            Got::Stored(file) => Ok(file),
            Got::Arriving { mut flight, .. } => {
                if let Some(e) = failure(&mut flight).await {
                    return Err(e);
                }
                let gone = || MirrorError::Internal("what was stored is gone".into());
                self.read(key).await?.ok_or_else(gone)
            }
        }
    }

    async fn read(&self, key: &Key) -> Result<Option<OpenFile>, MirrorError> {
        let (files, key) = (Arc::clone(&self.files), key.clone());
        spawn_blocking(move || files.read(&key)).await.map_err(|e| MirrorError::Internal(e.to_string()))?
    }

    /// The sum that the file should have, if the site or a list says so.
    async fn wanted(&self, upstream: &Upstream, path: &FilePath) -> Result<Option<Sum>, MirrorError> {
        if let Some(sum) = upstream.pinned.get(path.as_str()) {
            return Ok(Some(*sum));
        }
        if upstream.lists.iter().any(|list| list == path.as_str()) {
            return Ok(None);
        }
        for list in &upstream.lists {
            // A list speaks of what lies beside and below it.
            let folder = list.rsplit_once('/').map_or("", |(folder, _)| folder);
            let below = folder.is_empty()
                || path.as_str().strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
            if below && let Some(sum) = self.list(upstream, list).await?.of(path.as_str()) {
                return Ok(Some(sum));
            }
        }
        if upstream.strict {
            return Err(MirrorError::NoSum { mirror: upstream.name.clone(), path: path.to_string() });
        }
        Ok(None)
    }

    /// A list of sums, fetched like any other file.
    async fn list(&self, upstream: &Upstream, list: &str) -> Result<Arc<Sums>, MirrorError> {
        let wrong = |what: &str| MirrorError::Site {
            mirror: upstream.name.clone(),
            what: format!("the list of sums {list}: {what}"),
        };
        let netboot::Asked::File(path) = netboot::parse_tftp_path(list) else {
            return Err(wrong("that is no path"));
        };
        let key = key(upstream, &path);
        let mut file = self.landed(&key, self.get_wanted(upstream, &path, None).await?).await?;
        let now = self.files.known(&key).map(|known| known.sha256).unwrap_or_default();
        if let Some((of, sums)) = self.lists.lock().get(&key)
            && *of == now
        {
            return Ok(Arc::clone(sums));
        }
        if file.len > MAX_LIST {
            return Err(wrong("it is too long for one"));
        }
        let read = spawn_blocking(move || {
            let mut text = Vec::new();
            file.file.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
        });
        let text = read.await.map_err(|e| MirrorError::Internal(e.to_string()))?;
        let text = text.map_err(|e| MirrorError::disk(list, e))?;
        let sums = Arc::new(Sums::parse(path.as_str(), &text));
        if sums.len() == 0 {
            return Err(wrong("there is no SHA-256 sum in it"));
        }
        self.lists.lock().insert(key, (now, Arc::clone(&sums)));
        Ok(sums)
    }
}

fn key(upstream: &Upstream, path: &FilePath) -> Key {
    (upstream.name.clone(), path.to_string())
}

/// Why a flight ended, if it did not land.
async fn failure(flight: &mut watch::Receiver<Phase>) -> Option<MirrorError> {
    match &*flight.wait_for(|phase| matches!(phase, Phase::Stored | Phase::Failed(_))).await.ok()? {
        Phase::Failed(e) => Some(e.clone()),
        _ => None,
    }
}

/// A flight's place among those that are under way; free again when dropped.
struct Landing {
    flights: Arc<Mutex<HashMap<Key, watch::Receiver<Phase>>>>,
    key: Key,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
    }
}

/// Whether what is stored is what the upstream has, as far as that is known without asking.
fn is_current(known: &Known, upstream: &Upstream, wanted: Option<Sum>) -> bool {
    let age = unix_millis().saturating_sub(known.checked);
    match wanted {
        Some(sum) => known.sum() == Some(sum),
        None => u128::from(age) < upstream.fresh.as_millis(),
    }
}
