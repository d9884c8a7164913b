//! The engine that needs nothing of the kernel: image, cache and overlay in this process.
//!
//! A kill at any point leaves a disk that is whole or none: the record that makes an overlay a disk is written after
//! the overlay's files, and removed before them.

pub(crate) mod images;
mod sweeper;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use block::{Bytes, Checked, Durability, OpenError, Overlay, OverlayOptions, Volume};

use self::images::{Image, Images};
use self::sweeper::Sweeper;
use crate::places::{self, Found, Places};
use crate::record::{self, Files, Record, Survey};
use crate::{Attached, CacheStatus, Detached, Disk, DiskRequest, DiskStatus, Engine, EngineError};

/// What the embedded engine is made with.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// The directory of the overlays; made if it is not there. On a file system in memory they take RAM and writes
    /// never wait; on a disk they take RAM as long as there is some.
    pub overlays: PathBuf,
    /// The most RAM that the cache of all images takes.
    pub cache: Bytes,
}

/// A disk that is attached.
struct Attachment {
    disk: Disk,
    overlay: Arc<Overlay>,
    files: Files,
    // Keeps the image shared, and open.
    _image: Arc<Image>,
}

/// The embedded engine.
pub struct Embedded {
    directory: PathBuf,
    machine_boot: String,
    images: Images,
    places: Places<Attachment>,
    sweeper: Sweeper,
    /// Held locked.
    _directory: File,
}

impl Embedded {
    /// The engine, with no disk attached yet: those of an earlier process come with [`reap`](Engine::reap).
    ///
    /// # Errors
    /// When the directory can't be used, or another process uses it.
    pub fn open(config: EmbeddedConfig) -> Result<Self, EngineError> {
        let EmbeddedConfig { overlays: directory, cache } = config;
        let unusable = |source| EngineError::Directory { path: directory.clone(), source };
        let lock = record::lock(&directory)?;
        Ok(Self {
            machine_boot: record::machine_boot().map_err(unusable)?,
            images: Images::new(cache),
            places: Places::default(),
            sweeper: Sweeper::start().map_err(unusable)?,
            _directory: lock,
            directory,
        })
    }

    /// A fresh disk, with its record.
    fn make(&self, request: DiskRequest, image: Arc<Image>) -> Result<Attachment, EngineError> {
        let files = Files::of(&self.directory, &request.client, request.epoch)?;
        let path = files.overlay();
        let options = options(&request);
        let made = || -> Result<Overlay, OpenError> {
            let unusable = |source| OpenError::Io { path: path.clone(), source };
            // A boot of that epoch which was killed before it had a record.
            files.remove().map_err(unusable)?;
            let overlay = Overlay::create(image.volume(), &path, options)?;
            files.write(&request, image.id(), &self.machine_boot).map_err(unusable)?;
            Ok(overlay)
        };
        match made() {
            Ok(overlay) => Ok(Attachment::new(request, overlay, files, image)),
            Err(e) => {
                let _ = files.remove();
                let client = request.client;
                Err(EngineError::Overlay { client, path, source: io_error(e) })
            }
        }
    }

    /// Ends a disk for all who hold it, and removes its files.
    fn end(&self, attachment: &Attachment) -> io::Result<()> {
        attachment.overlay.retire();
        let removed = attachment.files.remove();
        self.sweeper.free(Arc::clone(&attachment.overlay));
        removed
    }

    /// The disk that a record speaks of; `None` when there can be none any more. An error only says that it can't be
    /// had now.
    fn adopt(&self, files: &Files, record: Record) -> Result<Option<Attachment>, EngineError> {
        let Record { image: id, request, .. } = record;
        let image = self.images.get(&request)?;
        if image.id() != id {
            // Over other bytes it would be another disk.
            return Ok(None);
        }
        let path = files.overlay();
        match Overlay::open(image.volume(), &path, options(&request)) {
            Ok(overlay) => Ok(Some(Attachment::new(request, overlay, files.clone(), image))),
            Err(OpenError::Io { source, .. }) if source.kind() != io::ErrorKind::NotFound => {
                Err(EngineError::Overlay { client: request.client, path, source })
            }
            Err(_) => Ok(None),
        }
    }
}

impl Attachment {
    fn new(request: DiskRequest, overlay: Overlay, files: Files, image: Arc<Image>) -> Self {
        let overlay = Arc::new(overlay);
        let checked = Checked::new(Arc::clone(&overlay) as Arc<dyn Volume>);
        let disk = Disk { request, geometry: checked.geometry(), volume: Some(Arc::new(checked)) };
        Self { disk, overlay, files, _image: image }
    }
}

impl places::Attachment for Attachment {
    fn disk(&self) -> &Disk {
        &self.disk
    }
}

fn options(request: &DiskRequest) -> OverlayOptions {
    OverlayOptions { limit: request.overlay_limit, durability: Durability::Volatile }
}

fn io_error(error: OpenError) -> io::Error {
    match error {
        OpenError::Io { source, .. } => source,
        other => io::Error::other(other),
    }
}

impl Engine for Embedded {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn attach(&self, request: DiskRequest) -> Result<Attached, EngineError> {
        let make = || self.make(request.clone(), self.images.get(&request)?);
        self.places.attach(&request, make, |earlier| {
            // What is left of its files if they can't be removed is removed by the next reap.
            let _ = self.end(earlier);
        })
    }

    fn detach(&self, client: &str, epoch: u64) -> Result<Detached, EngineError> {
        let detached = self.places.detach(client, epoch, |attachment| {
            self.end(attachment).map_err(|source| {
                let path = attachment.files.overlay();
                EngineError::Overlay { client: client.to_owned(), path, source }
            })
        });
        self.images.close_idle();
        detached
    }

    fn list(&self) -> Vec<Disk> {
        self.places.all().iter().map(|attachment| attachment.disk.clone()).collect()
    }

    fn status(&self) -> Vec<DiskStatus> {
        let status = |a: &Arc<Attachment>| DiskStatus {
            request: a.disk.request.clone(),
            overlay_used: a.overlay.used(),
        };
        self.places.all().iter().map(status).collect()
    }

    fn cache(&self) -> Vec<CacheStatus> {
        self.images.status()
    }

    fn reap(&self) -> Result<Vec<Disk>, EngineError> {
        let unusable = |source| EngineError::Directory { path: self.directory.clone(), source };
        let Survey { latest, void } =
            record::survey(&self.directory, &self.machine_boot).map_err(unusable)?;
        for files in void {
            files.remove().map_err(unusable)?;
        }
        for (files, record) in latest {
            let client = record.request.client.clone();
            let kept = self.places.adopt(&client, || {
                Ok(match self.adopt(&files, record) {
                    Ok(Some(attachment)) => Found::Whole(attachment),
                    Ok(None) => Found::Void,
                    // An image that is away may come back, and with it the client's disk, at the next start.
                    Err(_) => Found::Away(files.clone()),
                })
            });
            if !kept.map_err(unusable)? {
                files.remove().map_err(unusable)?;
            }
        }
        Ok(self.list())
    }
}
