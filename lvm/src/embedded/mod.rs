//! The engine that needs nothing of the kernel: image, cache and overlay in this process.
//!
//! Each client has a place with two locks: `work` is held while its disk is made or ended, so calls for one client
//! follow each other and no other client's wait; `disk` is held to look only, so that listings never wait for a
//! file system.
//!
//! A kill at any point leaves a disk that is whole or none: the record that makes an overlay a disk is written after
//! the overlay's files, and removed before them. Between the new boot's record and the end of the old one's there
//! may be both; the later epoch counts.

pub(crate) mod images;
pub(crate) mod record;
mod sweeper;

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;

use block::{Bytes, Checked, Durability, OpenError, Overlay, OverlayOptions, Volume};
use parking_lot::Mutex;
use rustix::fs::FlockOperation;

use self::images::{Image, Images};
use self::record::{Files, Record};
use self::sweeper::Sweeper;
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

#[derive(Default)]
struct Place {
    work: Mutex<()>,
    disk: Mutex<Option<Arc<Attachment>>>,
    /// What an earlier process left and this one could not take up. The next boot's disk ends it, too.
    stranded: Mutex<Option<Files>>,
}

/// The embedded engine.
pub struct Embedded {
    directory: PathBuf,
    machine_boot: String,
    images: Images,
    clients: Mutex<HashMap<String, Arc<Place>>>,
    sweeper: Sweeper,
    /// Held locked: two processes must not reap each other's overlays.
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
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(unusable)?;
        let lock = File::open(&directory).map_err(unusable)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(EngineError::InUse { path: directory }),
            Err(e) => return Err(unusable(e.into())),
        }
        Ok(Self {
            machine_boot: record::machine_boot().map_err(unusable)?,
            images: Images::new(cache),
            clients: Mutex::default(),
            sweeper: Sweeper::start().map_err(unusable)?,
            _directory: lock,
            directory,
        })
    }

    fn place(&self, client: &str) -> Arc<Place> {
        let mut clients = self.clients.lock();
        if let Some(place) = clients.get(client) {
            return Arc::clone(place);
        }
        Arc::clone(clients.entry(client.to_owned()).or_default())
    }

    /// Lets go of a client's place, and of the client if it has no disk any more.
    fn leave(&self, client: &str, place: &Arc<Place>) {
        let mut clients = self.clients.lock();
        // Ours and the table's: nobody else waits for it, and nobody can come as long as the table is locked.
        let idle = place.disk.lock().is_none() && place.stranded.lock().is_none();
        if idle && Arc::strong_count(place) == 2 {
            clients.remove(client);
        }
    }

    fn attachments(&self) -> Vec<Arc<Attachment>> {
        let clients = self.clients.lock();
        let mut all: Vec<_> = clients.values().filter_map(|place| place.disk.lock().clone()).collect();
        drop(clients);
        all.sort_by(|a, b| a.disk.request.client.cmp(&b.disk.request.client));
        all
    }

    fn attach_at(&self, place: &Place, request: DiskRequest) -> Result<Attached, EngineError> {
        let _work = place.work.lock();
        if let Some(current) = place.disk.lock().as_ref() {
            let epoch = current.disk.request.epoch;
            if epoch == request.epoch {
                return Ok(Attached::Already(current.disk.clone()));
            }
            if epoch > request.epoch {
                let DiskRequest { client, epoch: asked, .. } = request;
                return Err(EngineError::Superseded { client, epoch: asked, current: epoch });
            }
        }
        let image = self.images.get(&request)?;
        let attachment = Arc::new(self.make(request, image)?);
        let disk = attachment.disk.clone();
        let earlier = place.disk.lock().replace(attachment);
        if let Some(earlier) = earlier {
            // What is left of its files if they can't be removed is removed by the next reap.
            let _ = self.end(&earlier);
        }
        if let Some(files) = place.stranded.lock().take() {
            let _ = files.remove();
        }
        Ok(Attached::Made(disk))
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

    /// Takes a disk up, unless the client has one by now.
    fn adopt_at(&self, place: &Place, files: &Files, record: Record) -> io::Result<()> {
        let _work = place.work.lock();
        if place.disk.lock().is_some() {
            return Ok(());
        }
        match self.adopt(files, record) {
            Ok(Some(attachment)) => *place.disk.lock() = Some(Arc::new(attachment)),
            Ok(None) => files.remove()?,
            // An image that is away may come back, and with it the client's disk, at the next start.
            Err(_) => *place.stranded.lock() = Some(files.clone()),
        }
        Ok(())
    }

    /// Looks through what earlier processes left.
    fn survey(&self) -> io::Result<Survey> {
        let mut void: HashMap<String, Files> = HashMap::new();
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            let files = name.to_str().and_then(|name| Files::with_file(&self.directory, name));
            void.extend(files.map(|files| (files.name().to_owned(), files)));
        }
        let mut latest: HashMap<String, (Files, Record)> = HashMap::new();
        for files in void.values() {
            let Some(record) = files.read(&self.machine_boot)? else { continue };
            let client = record.request.client.clone();
            let later = latest.get(&client).is_some_and(|(_, it)| it.request.epoch > record.request.epoch);
            if !later {
                latest.insert(client, (files.clone(), record));
            }
        }
        for (files, _) in latest.values() {
            void.remove(files.name());
        }
        Ok(Survey { latest: latest.into_values().collect(), void: void.into_values().collect() })
    }
}

/// What earlier processes left.
struct Survey {
    /// Each client's latest disk that has a record.
    latest: Vec<(Files, Record)>,
    /// All the others.
    void: Vec<Files>,
}

impl Attachment {
    fn new(request: DiskRequest, overlay: Overlay, files: Files, image: Arc<Image>) -> Self {
        let overlay = Arc::new(overlay);
        let checked = Checked::new(Arc::clone(&overlay) as Arc<dyn Volume>);
        let disk = Disk { request, geometry: checked.geometry(), volume: Some(Arc::new(checked)) };
        Self { disk, overlay, files, _image: image }
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
        let client = request.client.clone();
        let place = self.place(&client);
        let attached = self.attach_at(&place, request);
        self.leave(&client, &place);
        attached
    }

    fn detach(&self, client: &str, epoch: u64) -> Result<Detached, EngineError> {
        let place = self.place(client);
        let work = place.work.lock();
        let mut disk = place.disk.lock();
        let taken =
            if disk.as_ref().is_some_and(|a| a.disk.request.epoch == epoch) { disk.take() } else { None };
        drop(disk);
        let detached = match &taken {
            None => Ok(Detached::Absent),
            Some(attachment) => self.end(attachment).map(|()| Detached::Removed).map_err(|source| {
                let path = attachment.files.overlay();
                EngineError::Overlay { client: client.to_owned(), path, source }
            }),
        };
        drop(work);
        self.leave(client, &place);
        if taken.is_some() {
            drop(taken);
            self.images.close_idle();
        }
        detached
    }

    fn list(&self) -> Vec<Disk> {
        self.attachments().iter().map(|attachment| attachment.disk.clone()).collect()
    }

    fn status(&self) -> Vec<DiskStatus> {
        let status = |a: &Arc<Attachment>| DiskStatus {
            request: a.disk.request.clone(),
            overlay_used: a.overlay.used(),
        };
        self.attachments().iter().map(status).collect()
    }

    fn cache(&self) -> Vec<CacheStatus> {
        self.images.status()
    }

    fn reap(&self) -> Result<Vec<Disk>, EngineError> {
        let unusable = |source| EngineError::Directory { path: self.directory.clone(), source };
        let Survey { latest, void } = self.survey().map_err(unusable)?;
        for files in void {
            files.remove().map_err(unusable)?;
        }
        for (files, record) in latest {
            let client = record.request.client.clone();
            let place = self.place(&client);
            self.adopt_at(&place, &files, record).map_err(unusable)?;
            self.leave(&client, &place);
        }
        Ok(self.list())
    }
}
