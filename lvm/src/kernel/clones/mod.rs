//! Clients' disks as plain files that share their blocks with the image's: the kernel engine without device-mapper.
//!
//! ```text
//!     client's disk, exported as it is
//!          |
//!     N.disk     on XFS or Btrfs: made of the image's file by FICLONE, and its own where the client writes
//! ```
//!
//! The file system does what device-mapper does elsewhere, but for two things: each file has pages of its own, so what one
//! client has read the next one reads from the disk again; and nothing keeps a file below its limit. So what is used is
//! told, and a file system that is nearly full gets no more disks.
//!
//! A record comes last and goes first, as with the other engines. What LIO still serves of a disk that is over is an open
//! file without a name, which is ended by a thread of the engine's own.

mod inspect;
mod measure;
mod share;
mod volume;

use std::collections::HashMap;
use std::fs::{File, FileTimes};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use block::{BlockCount, Bytes, Checked, FileVolume, Geometry, Overlay, Volume};
use parking_lot::Mutex;

pub use self::inspect::{ShownFile, files, plan_clones, remove_files};
use self::measure::Measures;
pub use self::share::{can_clone, can_share};
use self::volume::FileDisk;
use super::lio::{Backing, Lio, LioConfig};
use super::watch::Watch;
use super::{check_clones, fault, kernel_error};
use crate::embedded::images::FileId;
use crate::names::{self, DmPart, DmRole, NameError};
use crate::places::{self, Found, Places};
use crate::record::{self, Files, Record, Survey};
use crate::{
    Activity, Attached, CacheStatus, Detached, Disk, DiskActivity, DiskRequest, DiskStatus, Engine,
    EngineError, Export, Exporter,
};

/// What the engine is made with.
#[derive(Debug, Clone)]
pub struct ClonesConfig {
    /// The directory of the disks and their records; made if it is not there.
    pub directory: PathBuf,
    /// What the names of its disks in LIO begin with: a second bootd on the same machine has another.
    pub tag: String,
    /// How the kernel itself exports the disks; `None` where a target in this process does.
    pub lio: Option<LioConfig>,
}

/// A disk that is attached.
struct Attachment {
    disk: Disk,
    /// What LIO calls it.
    name: String,
    /// The image's file as it was, whose time of its last change the disk has until its client writes.
    image: FileId,
    /// `None` where the kernel exports the disk.
    volume: Option<Arc<FileDisk>>,
    files: Files,
}

impl places::Attachment for Attachment {
    fn disk(&self) -> &Disk {
        &self.disk
    }
}

/// The engine whose disks are files that share the image's blocks.
pub struct Clones {
    shared: Arc<Shared>,
    watch: Watch,
    _directory: File,
}

/// What the engine and its watch share.
struct Shared {
    lio: Option<Lio>,
    directory: PathBuf,
    tag: String,
    machine_boot: String,
    places: Places<Attachment>,
    measures: Measures,
    /// What LIO calls the disks that are over and that it may still serve.
    doomed: Mutex<Vec<String>>,
    /// Held while they are ended.
    burial: Mutex<()>,
}

/// What LIO calls a client's disk: the same as where it is a device.
fn name_of(tag: &str, client: &str, epoch: u64) -> Result<String, NameError> {
    names::dm_name(tag, &DmRole::Disk { client: client.to_owned(), epoch, part: DmPart::Disk })
}

impl Clones {
    /// The engine, with no disk attached yet: those of an earlier process come with [`reap`](Engine::reap).
    ///
    /// # Errors
    /// When the kernel or the file system lacks what is needed, the directory can't be used, or another process uses it.
    pub fn open(config: ClonesConfig) -> Result<Self, EngineError> {
        let ClonesConfig { directory, tag, lio } = config;
        let unusable = |source| EngineError::Directory { path: directory.clone(), source };
        let lock = record::lock(&directory)?;
        check_clones(lio.is_some())?;
        can_share(&directory).map_err(kernel_error("keep disks in files"))?;
        if lio.is_some() {
            inspect::check_path(&directory).map_err(kernel_error("use LIO"))?;
        }
        let machine_boot = record::machine_boot().map_err(unusable)?;
        let lio = lio.map(|lio| Lio::open(lio, &tag)).transpose().map_err(kernel_error("use LIO"))?;
        let shared = Arc::new(Shared {
            lio,
            directory: directory.clone(),
            tag,
            machine_boot,
            places: Places::default(),
            measures: Measures::default(),
            doomed: Mutex::default(),
            burial: Mutex::default(),
        });
        let looked_at = Arc::clone(&shared);
        let watch = Watch::of_burials(move || looked_at.bury()).map_err(unusable)?;
        Ok(Self { shared, watch, _directory: lock })
    }
}

impl Shared {
    fn make(&self, request: &DiskRequest) -> Result<Attachment, EngineError> {
        let files = Files::of(&self.directory, &request.client, request.epoch)?;
        let name = name_of(&self.tag, &request.client, request.epoch)?;
        let image = FileVolume::read_only(&request.path).map_err(|e| EngineError::of_image(request, e))?;
        let made = || {
            self.free(&name)?;
            // A boot of that epoch which was killed before it had a record.
            files.remove()?;
            share::room(&self.directory, || self.own(&request.client))?;
            let meta = image.file().metadata()?;
            let id = FileId::of(&meta);
            let clone = share::make(image.file(), &request.path, &files.overlay())?;
            fault::here("cloned");
            clone.set_times(FileTimes::new().set_modified(meta.modified()?))?;
            files.write(request, id, &self.machine_boot)?;
            fault::here("recorded");
            self.attachment(request.clone(), name.clone(), id, files.clone())
        };
        made().map_err(|source| {
            let _ = files.remove();
            EngineError::Overlay { client: request.client.clone(), path: files.overlay(), source }
        })
    }

    /// What the client's disk has of its own, which it gives back when the next one takes its place.
    fn own(&self, client: &str) -> Bytes {
        let all = self.places.all();
        let earlier = all.iter().find(|attachment| attachment.disk.request.client == client);
        earlier.and_then(|attachment| share::own(&attachment.files.overlay()).ok()).unwrap_or(Bytes(0))
    }

    /// Sees to it that LIO has nothing of that name.
    fn free(&self, name: &str) -> io::Result<()> {
        let is_doomed = || self.doomed.lock().iter().any(|doomed| doomed == name);
        if is_doomed() {
            self.bury();
        }
        if is_doomed() {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "LIO still has the last disk of this very boot",
            ));
        }
        Ok(())
    }

    fn attachment(
        &self,
        request: DiskRequest,
        name: String,
        image: FileId,
        files: Files,
    ) -> io::Result<Attachment> {
        let geometry = BlockCount::from_bytes(image.size()).and_then(Geometry::new);
        let geometry = geometry.map_err(io::Error::other)?;
        let volume = match &self.lio {
            Some(_) => None,
            None => Some(Arc::new(FileDisk::open(&files.overlay())?)),
        };
        let checked = |volume: &Arc<FileDisk>| {
            Arc::new(Checked::new(Arc::clone(volume) as Arc<dyn Volume>)) as Arc<dyn Volume>
        };
        let disk = Disk { request, geometry, volume: volume.as_ref().map(checked) };
        Ok(Attachment { disk, name, image, volume, files })
    }

    /// Ends a disk for all who hold it. LIO's part is done by the watch, so that the next disk need not wait.
    fn end(&self, attachment: &Attachment) -> io::Result<()> {
        let recorded = attachment.files.remove_record();
        fault::here("record-removed");
        if let Some(volume) = &attachment.volume {
            volume.retire();
        }
        let removed = attachment.files.remove();
        fault::here("file-removed");
        if self.lio.is_some() {
            self.doomed.lock().push(attachment.name.clone());
        }
        recorded.and(removed)
    }

    /// Has LIO end what is over. `false`: some of it must be tried again.
    fn bury(&self) -> bool {
        let Some(lio) = &self.lio else { return true };
        let _burial = self.burial.lock();
        let doomed = self.doomed.lock().clone();
        for name in doomed {
            if lio.unexport(&name).is_ok() {
                self.doomed.lock().retain(|one| *one != name);
            }
        }
        self.doomed.lock().is_empty()
    }

    /// The disk that a record speaks of, if it is there as a whole.
    fn adopt(&self, files: &Files, record: Record) -> io::Result<Option<Attachment>> {
        let Record { image, request, .. } = record;
        let [disk, state] = Overlay::files(&files.overlay());
        // One that the embedded engine made holds what was written, and nothing else.
        let whole = match std::fs::metadata(&disk) {
            Ok(meta) => meta.is_file() && meta.len() == image.size() && !state.try_exists()?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            Err(e) => return Err(e),
        };
        if !whole {
            return Ok(None);
        }
        let name = name_of(&self.tag, &request.client, request.epoch).map_err(io::Error::other)?;
        self.attachment(request, name, image, files.clone()).map(Some)
    }

    /// Takes up or removes all that an earlier process left.
    fn reconcile(&self) -> io::Result<()> {
        self.lio.as_ref().map_or(Ok(()), |lio| lio.nobody_uses(super::lio::DEVICES))?;
        let Survey { latest, mut void } = record::survey(&self.directory, &self.machine_boot)?;
        for (files, record) in latest {
            let client = record.request.client.clone();
            let find = || Ok(self.adopt(&files, record)?.map_or(Found::Void, Found::Whole));
            if !self.places.adopt(&client, find)? {
                void.push(files);
            }
        }
        for files in void {
            files.remove()?;
        }
        if let Some(lio) = &self.lio {
            lio.keep_only(&self.places.all().iter().map(|a| a.name.clone()).collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

impl Engine for Clones {
    fn name(&self) -> &'static str {
        "kernel (files)"
    }

    fn attach(&self, request: DiskRequest) -> Result<Attached, EngineError> {
        let attached = self.shared.places.attach(
            &request,
            || self.shared.make(&request),
            |earlier| {
                // What is left of it if its record can't be removed is removed by the next reap.
                let _ = self.shared.end(earlier);
            },
        );
        self.watch.wake();
        attached
    }

    fn export(&self, disk: &Disk, export: &Export) -> Result<Exporter, EngineError> {
        let Some(lio) = &self.shared.lio else { return Ok(Exporter::Caller) };
        let DiskRequest { client, epoch, .. } = &disk.request;
        let failed = kernel_error("export the client's disk");
        let attachment = self.shared.places.get(client, *epoch);
        let gone = || io::Error::new(io::ErrorKind::NotFound, "the client has booted again since");
        let attachment = attachment.ok_or_else(gone).map_err(&failed)?;
        let name = &attachment.name;
        if !lio.is_exported(name, &export.initiator) {
            let file = Backing::File(attachment.files.overlay(), Bytes(disk.geometry.byte_len()));
            let exported = lio.unexport(name).and_then(|()| lio.export(name, file, export));
            exported.map_err(&failed)?;
            if self.shared.places.get(client, *epoch).is_none() {
                // The next boot came meanwhile, and may have had LIO end this one before.
                self.shared.doomed.lock().push(name.clone());
                self.watch.wake();
                return Err(failed(gone()));
            }
        }
        Ok(Exporter::Engine)
    }

    fn detach(&self, client: &str, epoch: u64) -> Result<Detached, EngineError> {
        let detached = self.shared.places.detach(client, epoch, |attachment| {
            self.shared.end(attachment).map_err(|source| {
                let path = attachment.files.overlay();
                EngineError::Overlay { client: client.to_owned(), path, source }
            })
        });
        self.watch.wake();
        detached
    }

    fn list(&self) -> Vec<Disk> {
        self.shared.places.all().iter().map(|attachment| attachment.disk.clone()).collect()
    }

    fn status(&self) -> Vec<DiskStatus> {
        let all = self.shared.places.all();
        let own = self.shared.measures.of(all.iter().map(|a| (a.name.as_str(), a.files.overlay())));
        let status = |a: &Arc<Attachment>| DiskStatus {
            request: a.disk.request.clone(),
            // One that nobody has looked at yet is new, and has nothing.
            overlay_used: own.get(&a.name).copied().unwrap_or(Bytes(0)),
        };
        all.iter().map(status).collect()
    }

    fn activity(&self) -> Activity {
        let Some(lio) = &self.shared.lio else { return Activity::default() };
        let exported: HashMap<_, _> = lio.exported().into_iter().collect();
        // LIO does not tell: it is as full for one as for all.
        let full = share::is_full(&self.shared.directory);
        let look = |attachment: Arc<Attachment>| DiskActivity {
            client: attachment.disk.request.client.clone(),
            epoch: attachment.disk.request.epoch,
            session: exported.get(&attachment.name).and_then(|initiator| lio.session(initiator)),
            written: is_written(&attachment.files.overlay(), &attachment.image),
            full,
        };
        let disks = self.shared.places.all().into_iter().map(look).collect();
        Activity { disks, refusals: lio.refusals().unwrap_or_default() }
    }

    fn notices(&self) -> Vec<String> {
        self.shared.lio.as_ref().map(Lio::notices).unwrap_or_default()
    }

    /// The page cache counts nothing.
    fn cache(&self) -> Vec<CacheStatus> {
        Vec::new()
    }

    fn reap(&self) -> Result<Vec<Disk>, EngineError> {
        self.shared.reconcile().map_err(kernel_error("put right what an earlier process left"))?;
        Ok(self.list())
    }
}

/// Whether a clone of that image was ever written to.
fn is_written(clone: &Path, image: &FileId) -> bool {
    std::fs::metadata(clone).is_ok_and(|meta| !image.is_as_old_as(&meta))
}
