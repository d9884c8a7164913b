//! One file on its way from an upstream: fetched once, whoever waits for it, and read by all of them while it comes.
//!
//! What arrives is written and summed up on a thread of its own, so that no other connection waits for a disk. Those who
//! read along are told how far it is; they may not have the end of it ([`HELD_BACK`]) before all of it is known to be
//! right. A file that turns out wrong is so one that broke off, which every client notices, and not a wrong one.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;

use super::ask::{self, Answer, Arriving, Version, Wish};
use super::error::MirrorError;
use super::store::{Files, Key, Known};
use super::sums::{Sum, show_sum};
use super::upstream::{Upstream, Url};
use crate::state::unix_millis;

/// How much of a file's end is kept from those who read along until it is known to be right, in bytes.
pub(crate) const HELD_BACK: u64 = 64 * 1024;

/// How many pieces may wait for the disk, each of what one read of the connection yields. Then the upstream waits.
const PIECES: usize = 32;

/// How often in a row a file is gone on with that broke off, and how long is waited before each time.
const RESUMES: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// After so many more bytes an upstream that broke off has as many tries again.
const PROGRESS: u64 = 1 << 20;

/// How far a file is.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    /// The upstream has not answered yet, or does not say how long the file is.
    Asked,
    /// So much is there.
    Arriving {
        /// The file, which can be read up to that.
        file: Arc<File>,
        /// How long it will be.
        len: u64,
        /// How much of it is there.
        written: u64,
    },
    /// It is stored. Those who read along go on with the file that they have.
    Stored,
    /// It can't be had.
    Failed(MirrorError),
}

/// What is to be fetched.
pub(super) struct Order {
    pub(super) key: Key,
    pub(super) upstream: Upstream,
    pub(super) url: Url,
    /// What it should be.
    pub(super) wanted: Option<Sum>,
    /// What is stored, which may still be current.
    pub(super) stored: Option<Known>,
}

/// How a fetch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Landed {
    /// It is what was stored.
    Unchanged,
    /// So many bytes came.
    New(u64),
}

/// Fetches a file. How far it is can be seen from `told`, which is left at [`Phase::Stored`] or [`Phase::Failed`].
pub(super) async fn fetch(
    order: &Order,
    files: &Arc<Files>,
    told: watch::Sender<Phase>,
) -> Result<Landed, MirrorError> {
    let told = Arc::new(told);
    let landed = run(order, files, &told).await;
    told.send_replace(match &landed {
        Ok(_) => Phase::Stored,
        Err(e) => Phase::Failed(e.clone()),
    });
    landed
}

async fn run(
    order: &Order,
    files: &Arc<Files>,
    told: &Arc<watch::Sender<Phase>>,
) -> Result<Landed, MirrorError> {
    let known = match &order.stored {
        Some(Known { etag, last_modified, .. }) => {
            Version { etag: etag.clone(), last_modified: last_modified.clone() }
        }
        None => Version::default(),
    };
    let arriving = match ask::ask(&order.upstream, &order.url, &Wish::Changed(&known)).await? {
        Answer::File(arriving) => arriving,
        Answer::Unchanged => {
            let known = order
                .stored
                .clone()
                .ok_or_else(|| MirrorError::Internal("unchanged, but not there".into()))?;
            let (files, key) = (Arc::clone(files), order.key.clone());
            let known = Known { checked: unix_millis(), ..known };
            return blocking(move || files.note(&key, known).map(|()| Landed::Unchanged)).await;
        }
    };
    receive(order, files, told, *arriving).await
}

async fn receive(
    order: &Order,
    files: &Arc<Files>,
    told: &Arc<watch::Sender<Phase>>,
    arriving: Arriving,
) -> Result<Landed, MirrorError> {
    let limit = files.limit();
    let too_large = || MirrorError::TooLarge { url: order.url.to_string(), limit };
    if arriving.len.is_some_and(|len| len > limit) {
        return Err(too_large());
    }
    let about = About { len: arriving.len, version: arriving.version.clone() };
    let (file, path) = {
        let (files, key) = (Arc::clone(files), order.key.clone());
        blocking(move || files.begin(&key)).await?
    };
    let file = Arc::new(file);
    if let Some(len) = about.len {
        told.send_replace(Phase::Arriving { file: Arc::clone(&file), len, written: 0 });
    }
    let (pieces, queue) = mpsc::channel(PIECES);
    let writer = {
        let (file, told, path) = (Arc::clone(&file), Arc::clone(told), path.clone());
        spawn_blocking(move || write(&file, &path, queue, &told))
    };
    let came = async {
        let mut length = 0;
        let mut coming = Coming { order, about: &about, arriving, behind: 0, resumed: 0, resumed_at: 0 };
        while let Some(piece) = coming.next(length).await? {
            length += piece.len() as u64;
            if length > limit {
                return Err(too_large());
            }
            if pieces.send(piece).await.is_err() {
                // The writer has failed, and says why.
                break;
            }
        }
        Ok(length)
    };
    let came: Result<u64, MirrorError> = came.await;
    drop(pieces);
    let written = writer.await.map_err(|e| MirrorError::Internal(e.to_string()))?;
    let landed = match (came, written) {
        (Ok(_), Ok((length, got))) => land(order, files, &about, &file, length, got).await,
        (Err(e), _) | (_, Err(e)) => Err(e),
    };
    if landed.is_err() {
        let _ = std::fs::remove_file(&path);
    }
    landed
}

/// What was said of the file at its beginning.
struct About {
    len: Option<u64>,
    version: Version,
}

/// A file that comes, and is gone on with if it breaks off: the pieces are of one version, or there is a sum by which the whole
/// is known.
struct Coming<'a> {
    order: &'a Order,
    about: &'a About,
    arriving: Arriving,
    /// How much of what comes we have already: the upstream begins anew.
    behind: u64,
    resumed: usize,
    /// How much there was then.
    resumed_at: u64,
}

impl Coming<'_> {
    /// What comes behind the first `at` bytes; `None`: nothing more.
    async fn next(&mut self, at: u64) -> Result<Option<Bytes>, MirrorError> {
        loop {
            match self.arriving.next().await {
                Ok(Some(mut piece)) => {
                    let known = usize::try_from(self.behind).unwrap_or(usize::MAX).min(piece.len());
                    self.behind -= known as u64;
                    let piece = piece.split_off(known);
                    if !piece.is_empty() {
                        return Ok(Some(piece));
                    }
                }
                Ok(None) => return Ok(None),
                Err(e) => self.resume(at, e).await?,
            }
        }
    }

    /// Asks for what comes behind the first `at` bytes, after `error`.
    async fn resume(&mut self, at: u64, mut error: MirrorError) -> Result<(), MirrorError> {
        let version = self.about.version.unique();
        if version.is_none() && self.order.wanted.is_none() {
            return Err(error);
        }
        if at >= self.resumed_at.saturating_add(PROGRESS) {
            self.resumed = 0;
        }
        while let Some(wait) = RESUMES.get(self.resumed).filter(|_| error.is_upstreams()) {
            (self.resumed, self.resumed_at) = (self.resumed + 1, at);
            tokio::time::sleep(*wait).await;
            match ask::ask(&self.order.upstream, &self.order.url, &Wish::Rest(at, version)).await {
                Ok(Answer::File(arriving)) => {
                    let same = version.is_none() || arriving.version.unique() == version;
                    // A piece need not say its version again: it would not have been sent of another.
                    let same = same || arriving.from > 0 && arriving.version == Version::default();
                    if !same || arriving.len != self.about.len {
                        let what = "it broke off, and the upstream has another version of it now".to_owned();
                        return Err(MirrorError::Upstream { url: self.order.url.to_string(), what });
                    }
                    self.behind = at - arriving.from;
                    self.arriving = *arriving;
                    return Ok(());
                }
                Ok(Answer::Unchanged) => return Err(error),
                Err(e) => error = e,
            }
        }
        Err(error)
    }
}

/// Looks whether what came is what it should be, and puts it in its place.
async fn land(
    order: &Order,
    files: &Arc<Files>,
    about: &About,
    file: &Arc<File>,
    length: u64,
    got: Sum,
) -> Result<Landed, MirrorError> {
    let url = order.url.to_string();
    if about.len.is_some_and(|len| len != length) {
        let what = format!("{length} bytes came of {}", about.len.unwrap_or_default());
        return Err(MirrorError::Upstream { url, what });
    }
    if let Some(wanted) = order.wanted.filter(|wanted| *wanted != got) {
        return Err(MirrorError::Sum { url, wanted, got });
    }
    let now = unix_millis();
    let known = Known {
        path: order.key.1.clone(),
        url,
        size: length,
        sha256: show_sum(&got),
        verified: order.wanted.is_some(),
        etag: about.version.etag.clone(),
        last_modified: about.version.last_modified.clone(),
        fetched: now,
        checked: now,
    };
    let (files, key, file) = (Arc::clone(files), order.key.clone(), Arc::clone(file));
    let modified = about.version.modified();
    blocking(move || {
        // Clients ask again by the date that they were told.
        if let Some(modified) = modified {
            let _ = file.set_modified(modified);
        }
        files.put(&key, known).map(|()| Landed::New(length))
    })
    .await
}

/// Writes what comes, and returns how long it was and its sum.
fn write(
    file: &Arc<File>,
    path: &Path,
    mut queue: mpsc::Receiver<Bytes>,
    told: &watch::Sender<Phase>,
) -> Result<(u64, Sum), MirrorError> {
    let (mut sum, mut length) = (Sha256::new(), 0);
    while let Some(piece) = queue.blocking_recv() {
        (&**file).write_all(&piece).map_err(|e| MirrorError::disk(path, e))?;
        sum.update(&piece);
        length += piece.len() as u64;
        told.send_if_modified(|phase| match phase {
            Phase::Arriving { written, .. } => {
                *written = length;
                true
            }
            _ => false,
        });
    }
    Ok((length, sum.finalize().into()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MirrorError> + Send + 'static,
) -> Result<T, MirrorError> {
    spawn_blocking(work).await.map_err(|e| MirrorError::Internal(e.to_string()))?
}
