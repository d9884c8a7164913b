//! The engine on the kernel's own machinery: clients' disks are device-mapper devices, made by ioctls.
//!
//! The stack, whose drawing and upkeep are in `docs/kernel-engine.md`: an image's file behind a read-only loop device,
//! whose pages all clients share; an overlay for each client and boot, in one space for all; the disk that the two make.
//!
//! The kernel holds all of it, and goes on when this process ends. So it is the record, too: the next process reads
//! from the tables who has which part of the space. Beside it there is only a file for each disk that says what it was
//! asked for with. That comes last and goes first: a disk without one is void, and removed.
//!
//! Disks are made side by side, each stage of one disk at a time (`overlay.rs`), and removed a few at once (`doomed.rs`).

mod cache;
mod clones;
mod dm;
mod doomed;
mod extents;
mod fault;
mod image;
mod inspect;
mod library;
mod lio;
mod loops;
mod needs;
mod overlay;
mod plan;
mod sessions;
mod space;
mod sysfs;
mod targets;
mod volume;
mod watch;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use block::{BlockCount, Bytes, Checked, Geometry};
use parking_lot::Mutex;

pub use self::clones::{
    Clones, ClonesConfig, ShownFile, can_clone, can_share, files, plan_clones, remove_files,
};
use self::dm::{Dm, Removal};
use self::doomed::Doomed;
use self::extents::Extent;
use self::image::Images;
pub use self::inspect::{Contents, Shown, contents, devices};
use self::library::Library;
use self::lio::{Backing, Lio};
pub use self::lio::{LioConfig, ROOT as LIO_ROOT, listener};
use self::needs::CONTROL;
pub use self::needs::{Needs, check, check_clones, missing};
use self::overlay::{Failed, Overlay, Owner, Stages};
pub use self::plan::{Hold, Image, Plan, Planned, differences, hold, plan, prepare};
use self::space::Space;
pub use self::space::{SpaceConfig, label};
pub use self::targets::{give_back, remove_target};
use self::volume::DeviceVolume;
use self::watch::Watch;
use crate::names::{self, DmPart, DmRole};
use crate::places::{self, Found, Places};
use crate::record::{self, Files, Record, Survey};
use crate::{
    Activity, Attached, CacheStatus, Detached, Disk, DiskActivity, DiskRequest, DiskStatus, Engine,
    EngineError, Export, Exporter, SpaceStatus,
};

/// How an overlay is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverlayKind {
    /// Thin volumes, with the image as their external origin. When one is full, writes to new blocks fail.
    Thin,
    /// Transient snapshots: half the devices, and no metadata on any medium. When one is full, the disk is dead.
    Transient,
}

/// What the kernel engine is made with.
#[derive(Debug, Clone)]
pub struct KernelConfig {
    /// The directory of the records of disks; made if it is not there.
    pub directory: PathBuf,
    /// Where overlays lie.
    pub space: SpaceConfig,
    /// The RAM for a cache of fixed size under all images; `None` for the page cache, which has none.
    pub cache: Option<Bytes>,
    /// The RAM for a cache of what clients write, over the space; `None` for none.
    pub write_cache: Option<Bytes>,
    /// How they are kept.
    pub overlays: OverlayKind,
    /// What the names of its devices begin with: a second bootd on the same machine has another.
    pub tag: String,
    /// How the kernel itself exports the disks; `None` where a target in this process does.
    pub lio: Option<LioConfig>,
}

impl KernelConfig {
    /// What of the kernel it takes.
    fn needs(&self) -> Needs {
        let cache = self.cache.is_some() || self.write_cache.is_some();
        Needs { overlays: self.overlays, lio: self.lio.is_some(), cache }
    }
}

/// The tag of a machine's only bootd.
pub const DEFAULT_TAG: &str = "bootd";

/// A disk that is attached.
struct Attachment {
    disk: Disk,
    overlay: Overlay,
    /// `None` where the kernel exports the disk.
    volume: Option<Arc<DeviceVolume>>,
    files: Files,
}

impl places::Attachment for Attachment {
    fn disk(&self) -> &Disk {
        &self.disk
    }
}

/// The kernel engine.
pub struct Kernel {
    shared: Arc<Shared>,
    watch: Watch,
    _directory: File,
}

/// What the engine and its watch share.
struct Shared {
    dm: Dm,
    stages: Stages,
    space: Space,
    lio: Option<Lio>,
    images: Images,
    kind: OverlayKind,
    directory: PathBuf,
    machine_boot: String,
    places: Places<Attachment>,
    /// Whose disks are being made: what there is of them is no stray.
    making: Mutex<Vec<Owner>>,
    doomed: Doomed,
}

fn kernel_error(what: &str) -> impl Fn(io::Error) -> EngineError + '_ {
    move |source| EngineError::Kernel { what: what.to_owned(), source }
}

impl Kernel {
    /// The engine, with no disk attached yet: those of an earlier process come with [`reap`](Engine::reap).
    ///
    /// # Errors
    /// When the kernel lacks what is needed, the directory can't be used, or another process uses it.
    pub fn open(config: KernelConfig) -> Result<Self, EngineError> {
        let needs = config.needs();
        let KernelConfig { directory, space, cache, write_cache, overlays, tag, lio } = config;
        let unusable = |source| EngineError::Directory { path: directory.clone(), source };
        check(needs)?;
        let dm = Dm::open(&tag).map_err(kernel_error("use device-mapper"))?;
        // Before it is known that nobody else is there: a process that was killed can't end, and lets the lock go, before
        // what it wrote to a device is there. One that lives is not disturbed: it would have done the same at once.
        dm.resume_all().map_err(kernel_error("let go on what was held back"))?;
        let lock = record::lock(&directory)?;
        let space =
            Space::open(&dm, &space, write_cache).map_err(kernel_error("open the overlays' space"))?;
        let library = Library::open(&dm, cache).map_err(kernel_error("open the images' cache"))?;
        let machine_boot = record::machine_boot().map_err(unusable)?;
        let lio = lio.map(|lio| Lio::open(lio, &tag)).transpose().map_err(kernel_error("use LIO"))?;
        let shared = Arc::new(Shared {
            dm,
            stages: Stages::default(),
            space,
            lio,
            images: Images::new(library),
            kind: overlays,
            directory: directory.clone(),
            machine_boot,
            places: Places::default(),
            making: Mutex::default(),
            doomed: Doomed::default(),
        });
        let watch = Watch::start(&shared).map_err(unusable)?;
        Ok(Self { shared, watch, _directory: lock })
    }
}

/// Removes every device of the bootd with that tag, from the top down, and says which are busy. For the operator who
/// wants the kernel as it was, and for tests.
///
/// # Errors
/// When the kernel says anything but that a device is busy.
pub fn remove_all(tag: &str) -> io::Result<Vec<String>> {
    if !Path::new(CONTROL).exists() {
        return Ok(Vec::new());
    }
    let dm = Dm::open(tag)?;
    let mut busy = Vec::new();
    for found in dm.ours()? {
        if dm.remove(&found.role)? == Removal::Busy {
            busy.push(names::dm_name(tag, &found.role).map_err(io::Error::other)?);
        }
    }
    Ok(busy)
}

impl Shared {
    fn make(&self, request: &DiskRequest) -> Result<Attachment, EngineError> {
        let files = Files::of(&self.directory, &request.client, request.epoch)?;
        let overlay_error = |source| EngineError::Overlay {
            client: request.client.clone(),
            path: files.overlay().with_extension(""),
            source,
        };
        files.remove().map_err(overlay_error)?;
        let owner = Owner { client: request.client.clone(), epoch: request.epoch };
        if self.doomed.contains(&owner) {
            // The devices' names are to be had only when the last disk of this boot is gone.
            self.bury();
        }
        let image = self.images.get(&self.dm, request)?;
        let (dm, space) = (&self.dm, &self.space);
        let made = Overlay::make(dm, space, &self.stages, owner, image, self.kind, request.overlay_limit);
        let overlay = made.map_err(|Failed { error, left }| {
            if let Some((owner, extents)) = left {
                self.doomed.push(owner, extents);
            }
            overlay_error(error)
        })?;
        let made = files
            .write(request, overlay.image.id, &self.machine_boot)
            .and_then(|()| self.disk(request.clone(), &overlay));
        fault::here("recorded");
        match made {
            Ok((disk, volume)) => Ok(Attachment { disk, overlay, volume, files }),
            Err(e) => {
                let _ = files.remove();
                self.doomed.push(overlay.owner.clone(), overlay.finish(dm));
                Err(overlay_error(e))
            }
        }
    }

    /// Ends a disk for all who hold it. Its devices are removed by another thread, so that the next disk need not wait.
    fn end(&self, attachment: &Attachment) -> io::Result<()> {
        let removed = attachment.files.remove();
        fault::here("record-removed");
        let extents = attachment.overlay.finish(&self.dm);
        if let Some(volume) = &attachment.volume {
            volume.retire();
        }
        self.doomed.push(attachment.overlay.owner.clone(), extents);
        removed
    }

    /// Removes what is over. `false`: something is busy and must be tried again.
    fn bury(&self) -> bool {
        let buried = self.doomed.bury(|owner, extents| {
            // Sessions first: as long as there are any, the devices are busy.
            let ended = match &self.lio {
                Some(lio) => self.name_of(owner).and_then(|name| lio.unexport(&name)),
                None => Ok(()),
            };
            let removed = ended.and_then(|()| overlay::remove(&self.dm, owner, false));
            let gone = matches!(removed, Ok(Removal::Gone));
            if gone {
                self.space.give(extents);
            }
            gone
        });
        if buried.some {
            self.clear_images();
        }
        buried.all
    }

    /// Removes the devices of images that nobody uses, and that need not be kept.
    fn clear_images(&self) {
        self.images.close_idle(&self.dm);
        // What stays by an error here is found again the next time.
        let _ = self.images.clear(&self.dm);
    }

    /// The disk that a record speaks of, if the kernel has it as it was.
    fn adopt(&self, files: &Files, record: Record) -> io::Result<Option<Attachment>> {
        let Record { image: id, request, .. } = record;
        let Some(image) = self.images.adopt(&self.dm, &request.image, id)? else { return Ok(None) };
        let owner = Owner { client: request.client.clone(), epoch: request.epoch };
        let adopted = Overlay::adopt(&self.dm, &self.space, owner, image, request.overlay_limit)?;
        let Some(overlay) = adopted else { return Ok(None) };
        let (disk, volume) = self.disk(request, &overlay)?;
        let mut free = self.space.extents.lock();
        for extent in overlay.extents() {
            // Nobody else's: a kernel that gave two devices the same sectors was told so by no bootd.
            free.claim(extent);
        }
        drop(free);
        Ok(Some(Attachment { disk, overlay, volume, files: files.clone() }))
    }

    /// The disk of an overlay, and its volume.
    fn disk(&self, request: DiskRequest, overlay: &Overlay) -> io::Result<(Disk, Option<Arc<DeviceVolume>>)> {
        let geometry = Geometry::new(BlockCount::new(overlay.image.sectors)).map_err(io::Error::other)?;
        if self.lio.is_some() {
            return Ok((Disk { request, geometry, volume: None }, None));
        }
        let volume = Arc::new(DeviceVolume::open(&sysfs::node(overlay.disk), geometry)?);
        let checked = Checked::new(Arc::clone(&volume) as Arc<dyn block::Volume>);
        Ok((Disk { request, geometry, volume: Some(Arc::new(checked)) }, Some(volume)))
    }

    /// What LIO calls a client's disk: as device-mapper does.
    fn name_of(&self, owner: &Owner) -> io::Result<String> {
        names::dm_name(self.dm.tag(), &owner.role(DmPart::Disk)).map_err(io::Error::other)
    }

    /// Ends the export of all disks but those that are attached.
    fn reconcile_targets(&self, lio: &Lio) -> io::Result<()> {
        let owners: Vec<_> = self.places.all().iter().map(|a| a.overlay.owner.clone()).collect();
        lio.keep_only(&owners.iter().map(|owner| self.name_of(owner)).collect::<io::Result<Vec<_>>>()?)
    }

    /// Takes up or removes all that an earlier process left.
    fn reconcile(&self) -> io::Result<()> {
        self.lio.as_ref().map_or(Ok(()), |lio| lio.nobody_uses(lio::FILES))?;
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
            self.reconcile_targets(lio)?;
        }
        self.doom_strays()
    }

    /// Dooms the devices that belong to no disk, and takes what they have of the space until they are gone.
    fn doom_strays(&self) -> io::Result<()> {
        let found = self.dm.ours()?;
        // In that order: whoever had devices by then is in one of these lists, or belongs to nobody.
        let mut kept = self.making.lock().clone();
        kept.extend(self.places.all().iter().map(|a| a.overlay.owner.clone()));
        let mut strays: HashMap<Owner, Vec<Extent>> = HashMap::new();
        for found in found {
            match &found.role {
                DmRole::Disk { client, epoch, .. } => {
                    let owner = Owner { client: client.clone(), epoch: *epoch };
                    if kept.contains(&owner) || self.doomed.contains(&owner) {
                        continue;
                    }
                    let extents = self.space.extents_of(&self.dm.table(&found.role)?).unwrap_or_default();
                    strays.entry(owner).or_default().extend(extents);
                }
                DmRole::Image { .. } | DmRole::Cache | DmRole::Library | DmRole::Space => {}
            }
        }
        for (owner, extents) in strays {
            let mut free = self.space.extents.lock();
            let claimed: Vec<_> = extents.into_iter().filter(|extent| free.claim(*extent)).collect();
            drop(free);
            self.doomed.push(owner, claimed);
        }
        self.images.clear(&self.dm)
    }
}

impl Engine for Kernel {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn attach(&self, request: DiskRequest) -> Result<Attached, EngineError> {
        let owner = Owner { client: request.client.clone(), epoch: request.epoch };
        self.shared.making.lock().push(owner.clone());
        let attached = self.shared.places.attach(
            &request,
            || self.shared.make(&request),
            |earlier| {
                // What is left of it if its record can't be removed is removed by the next reap.
                let _ = self.shared.end(earlier);
            },
        );
        {
            // One of it: the same may be asked for twice.
            let mut making = self.shared.making.lock();
            let at = making.iter().position(|one| *one == owner);
            at.map(|at| making.swap_remove(at));
        }
        if !self.shared.doomed.is_empty() {
            self.watch.wake();
        }
        attached
    }

    fn export(&self, disk: &Disk, export: &Export) -> Result<Exporter, EngineError> {
        let Some(lio) = &self.shared.lio else { return Ok(Exporter::Caller) };
        let DiskRequest { client, epoch, .. } = &disk.request;
        let failed = kernel_error("export the client's disk");
        let attachment = self.shared.places.get(client, *epoch);
        let gone = || io::Error::new(io::ErrorKind::NotFound, "the client has booted again since");
        let attachment = attachment.ok_or_else(gone).map_err(&failed)?;
        let name = self.shared.name_of(&attachment.overlay.owner).map_err(&failed)?;
        if !lio.is_exported(&name, &export.initiator) {
            lio.unexport(&name).map_err(&failed)?;
            let device = Backing::Device(sysfs::node(attachment.overlay.disk));
            lio.export(&name, device, export).map_err(&failed)?;
        }
        Ok(Exporter::Engine)
    }

    fn detach(&self, client: &str, epoch: u64) -> Result<Detached, EngineError> {
        let detached = self.shared.places.detach(client, epoch, |attachment| {
            self.shared.end(attachment).map_err(|source| {
                let path = attachment.files.overlay().with_extension("json");
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
        let status = |a: &Arc<Attachment>| {
            let overlay_used = a.overlay.used(&self.shared.dm).ok()?;
            Some(DiskStatus { request: a.disk.request.clone(), overlay_used })
        };
        self.shared.places.all().iter().filter_map(status).collect()
    }

    fn activity(&self) -> Activity {
        let Some(lio) = &self.shared.lio else { return Activity::default() };
        let exported: HashMap<_, _> = lio.exported().into_iter().collect();
        let look = |attachment: Arc<Attachment>| {
            let overlay = &attachment.overlay;
            let name = self.shared.name_of(&overlay.owner).ok()?;
            Some(DiskActivity {
                client: overlay.owner.client.clone(),
                epoch: overlay.owner.epoch,
                session: exported.get(&name).and_then(|initiator| lio.session(initiator)),
                written: sysfs::has_written(overlay.disk),
                full: overlay.is_full(&self.shared.dm),
            })
        };
        let disks = self.shared.places.all().into_iter().filter_map(look).collect();
        Activity { disks, refusals: lio.refusals().unwrap_or_default() }
    }

    fn space(&self) -> Option<SpaceStatus> {
        Some(self.shared.space.status())
    }

    fn notices(&self) -> Vec<String> {
        self.shared.lio.as_ref().map(Lio::notices).unwrap_or_default()
    }

    /// The cache of fixed size, which does not count by images. The page cache counts nothing.
    fn cache(&self) -> Vec<CacheStatus> {
        let counts = self.shared.images.counts(&self.shared.dm);
        let status = |cache::Counts { hits, misses }| CacheStatus {
            image: "all images".to_owned(),
            version: "-".to_owned(),
            hits,
            misses,
        };
        counts.map(status).into_iter().collect()
    }

    fn reap(&self) -> Result<Vec<Disk>, EngineError> {
        self.shared.reconcile().map_err(kernel_error("put right what an earlier process left"))?;
        self.shared.bury();
        self.watch.wake();
        Ok(self.list())
    }
}
