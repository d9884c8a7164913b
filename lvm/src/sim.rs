//! An engine that makes no files: for `--sim`, for tests, and as the measure that the others are held against. It
//! reads images as they do; what clients write is in memory and goes with the process.

mod disk;

use std::collections::BTreeMap;
use std::sync::Arc;

use block::{Checked, FileVolume, OpenError, Volume};
use parking_lot::Mutex;

use self::disk::SimDisk;
use crate::{Attached, CacheStatus, Detached, Disk, DiskRequest, DiskStatus, Engine, EngineError};

struct Attachment {
    disk: Disk,
    volume: Arc<SimDisk>,
}

/// The simulated engine.
#[derive(Default)]
pub struct Sim {
    clients: Mutex<BTreeMap<String, Attachment>>,
}

impl Sim {
    /// The engine, with no disk attached.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

fn open(request: &DiskRequest) -> Result<Arc<dyn Volume>, EngineError> {
    let image = request.image.clone();
    match FileVolume::read_only(&request.path) {
        Ok(file) => Ok(file.shared()),
        Err(OpenError::NotADisk { path, size }) => Err(EngineError::NotADisk { image, path, size }),
        Err(OpenError::Io { path, source }) => Err(EngineError::Image { image, path, source }),
        Err(e) => {
            let path = request.path.clone();
            Err(EngineError::Image { image, path, source: std::io::Error::other(e) })
        }
    }
}

impl Engine for Sim {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn attach(&self, request: DiskRequest) -> Result<Attached, EngineError> {
        // The other engines make a file's name of it.
        crate::names::overlay_name(&request.client, request.epoch)?;
        let mut clients = self.clients.lock();
        if let Some(current) = clients.get(&request.client) {
            let epoch = current.disk.request.epoch;
            if epoch == request.epoch {
                return Ok(Attached::Already(current.disk.clone()));
            }
            if epoch > request.epoch {
                let DiskRequest { client, epoch: asked, .. } = request;
                return Err(EngineError::Superseded { client, epoch: asked, current: epoch });
            }
        }
        let volume = Arc::new(SimDisk::new(open(&request)?, request.overlay_limit));
        let checked = Checked::new(Arc::clone(&volume) as Arc<dyn Volume>);
        let disk =
            Disk { geometry: checked.geometry(), volume: Some(Arc::new(checked)), request: request.clone() };
        let attachment = Attachment { disk: disk.clone(), volume };
        if let Some(earlier) = clients.insert(request.client, attachment) {
            earlier.volume.retire();
        }
        Ok(Attached::Made(disk))
    }

    fn detach(&self, client: &str, epoch: u64) -> Result<Detached, EngineError> {
        let mut clients = self.clients.lock();
        if clients.get(client).is_none_or(|a| a.disk.request.epoch != epoch) {
            return Ok(Detached::Absent);
        }
        if let Some(attachment) = clients.remove(client) {
            attachment.volume.retire();
        }
        Ok(Detached::Removed)
    }

    fn list(&self) -> Vec<Disk> {
        self.clients.lock().values().map(|a| a.disk.clone()).collect()
    }

    fn status(&self) -> Vec<DiskStatus> {
        let status =
            |a: &Attachment| DiskStatus { request: a.disk.request.clone(), overlay_used: a.volume.used() };
        self.clients.lock().values().map(status).collect()
    }

    fn cache(&self) -> Vec<CacheStatus> {
        Vec::new()
    }

    fn reap(&self) -> Result<Vec<Disk>, EngineError> {
        Ok(self.list())
    }
}
