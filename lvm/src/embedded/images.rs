//! The images that clients' disks stand on: each opened once, whatever the number of its clients.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use block::FileVolume;
use flashcache::{CachedVolume, FlashCache};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::images::load_digests;
use crate::{CacheStatus, DiskRequest, EngineError};

/// Images that stay open, with what the cache holds of them, while no disk stands on them: a lab that is switched
/// off at night finds its cache warm in the morning. One more closes the one that was left first.
const MAX_IDLE: usize = 4;

/// Which file it is, in the state in which it was opened. An image that was written to is another image: the
/// cache and the overlays over it know nothing of the new bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
    size: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl FileId {
    pub(crate) fn of(meta: &std::fs::Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified_s: meta.mtime(),
            modified_ns: meta.mtime_nsec(),
        }
    }

    /// Whether it is the same file, in whatever state.
    #[cfg(feature = "kernel")]
    pub(crate) fn is_of(&self, meta: &std::fs::Metadata) -> bool {
        (self.device, self.inode) == (meta.dev(), meta.ino())
    }

    /// Whether that file was last written to when this one was.
    #[cfg(feature = "kernel")]
    pub(crate) fn is_as_old_as(&self, meta: &std::fs::Metadata) -> bool {
        (self.modified_s, self.modified_ns) == (meta.mtime(), meta.mtime_nsec())
    }

    /// The size of the file.
    #[cfg(feature = "kernel")]
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// A number that no other file has by chance, nor this one in another state.
    #[cfg(feature = "kernel")]
    pub(crate) fn number(&self) -> u64 {
        let mut hasher = blake3::Hasher::new_derive_key("bootd 2026 image device");
        for part in [self.device, self.inode, self.size, self.modified_s as u64, self.modified_ns as u64] {
            hasher.update(&part.to_be_bytes());
        }
        let mut number = [0; 8];
        hasher.finalize_xof().fill(&mut number);
        u64::from_be_bytes(number)
    }
}

/// One version of an image, open.
pub(crate) struct Image {
    name: String,
    version: String,
    path: PathBuf,
    id: FileId,
    volume: Arc<CachedVolume>,
}

impl Image {
    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    pub(crate) fn volume(&self) -> Arc<CachedVolume> {
        Arc::clone(&self.volume)
    }

    /// Whether its file is still there as it was opened.
    fn is_current(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|meta| FileId::of(&meta) == self.id)
    }
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    image: String,
    version: String,
    path: PathBuf,
}

/// One image's place. Its lock is held while the file is opened, so that a file system that hangs holds up the
/// clients of its images and no others.
#[derive(Default)]
struct Place {
    open: Mutex<Option<Arc<Image>>>,
}

#[derive(Default)]
struct Places {
    by_key: HashMap<Key, (Arc<Place>, u64)>,
    clock: u64,
}

/// The open images.
pub(crate) struct Images {
    cache: Arc<FlashCache>,
    places: Mutex<Places>,
}

fn unreadable(request: &DiskRequest) -> impl FnOnce(io::Error) -> EngineError {
    let (image, path) = (request.image.clone(), request.path.clone());
    move |source| EngineError::Image { image, path, source }
}

impl Images {
    pub(crate) fn new(limit: block::Bytes) -> Self {
        Self { cache: FlashCache::new(limit), places: Mutex::default() }
    }

    /// The image that the request names, opened if nobody has it open as it is now.
    pub(crate) fn get(&self, request: &DiskRequest) -> Result<Arc<Image>, EngineError> {
        let place = self.place(request);
        let mut open = place.open.lock();
        let meta = std::fs::metadata(&request.path).map_err(unreadable(request))?;
        let id = FileId::of(&meta);
        if let Some(image) = open.as_ref().filter(|image| image.id == id) {
            return Ok(Arc::clone(image));
        }
        let image = Arc::new(self.open(request)?);
        *open = Some(Arc::clone(&image));
        drop(open);
        self.close_idle();
        Ok(image)
    }

    fn place(&self, request: &DiskRequest) -> Arc<Place> {
        let key = Key {
            image: request.image.clone(),
            version: request.version.clone(),
            path: request.path.clone(),
        };
        let mut places = self.places.lock();
        places.clock += 1;
        let now = places.clock;
        let (place, used) = places.by_key.entry(key).or_default();
        *used = now;
        Arc::clone(place)
    }

    fn open(&self, request: &DiskRequest) -> Result<Image, EngineError> {
        let file = FileVolume::read_only(&request.path).map_err(|e| EngineError::of_image(request, e))?;
        // Of the file that was opened, not of what lies under its name by now.
        let meta = file.file().metadata().map_err(unreadable(request))?;
        let digests = load_digests(&request.path, meta.size(), &request.version);
        Ok(Image {
            name: request.image.clone(),
            version: request.version.clone(),
            path: request.path.clone(),
            id: FileId::of(&meta),
            volume: Arc::new(CachedVolume::new(&self.cache, file.for_a_cache().shared(), digests)),
        })
    }

    /// Closes images that no disk stands on: those whose files are gone or changed, then the longest unused.
    pub(crate) fn close_idle(&self) {
        // Files are looked at, and images freed, without the lock that all clients share.
        let mut idle = self.idle();
        idle.sort_unstable_by_key(|(used, _)| std::cmp::Reverse(*used));
        let mut kept = 0;
        for (_, place) in idle {
            let Some(mut open) = place.open.try_lock() else { continue };
            match &*open {
                Some(image) if Arc::strong_count(image) > 1 => {}
                Some(image) if kept < MAX_IDLE && image.is_current() => kept += 1,
                _ => *open = None,
            }
        }
    }

    /// The places of images that no disk stands on, each with the time of its last use. Empty ones are removed.
    fn idle(&self) -> Vec<(u64, Arc<Place>)> {
        let mut idle = Vec::new();
        self.places.lock().by_key.retain(|_, (place, used)| {
            // Whoever holds it too is about to open it.
            let unheld = Arc::strong_count(place) == 1;
            let Some(open) = place.open.try_lock().filter(|_| unheld) else { return true };
            let stands = open.as_ref().is_some_and(|image| Arc::strong_count(image) > 1);
            if open.is_some() && !stands {
                idle.push((*used, Arc::clone(place)));
            }
            open.is_some()
        });
        idle
    }

    /// How the cache does, image by image.
    pub(crate) fn status(&self) -> Vec<CacheStatus> {
        let places: Vec<_> = self.places.lock().by_key.values().map(|(place, _)| Arc::clone(place)).collect();
        let images = places.iter().filter_map(|place| place.open.try_lock()?.clone());
        let mut all: Vec<_> = images
            .map(|image| CacheStatus {
                image: image.name.clone(),
                version: image.version.clone(),
                hits: image.volume.hits(),
                misses: image.volume.misses(),
            })
            .collect();
        all.sort_by(|a, b| (&a.image, &a.version).cmp(&(&b.image, &b.version)));
        all
    }
}
