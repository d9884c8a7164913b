//! Images' versions as read-only devices: a file behind a read-only loop device, through the page cache or through a
//! cache of fixed size.
//!
//! All clients' disks stand on the one device of their image's version, so what one of them has read, the next one gets
//! from RAM: that is the cache under all images. The page cache takes what RAM there is to spare and needs none set
//! aside; with a cache of fixed size ([`library`](super::library)) files are read past it.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use block::{FileVolume, SECTOR_SIZE, Volume};
use devicemapper::Device;
use parking_lot::Mutex;

use super::cache::{BLOCK, Counts};
use super::dm::{Dm, Line, Removal};
use super::library::Library;
use super::loops::Loop;
use super::{fault, sysfs};
use crate::embedded::images::FileId;
use crate::names::DmRole;
use crate::{DiskRequest, EngineError};

/// What an image's device is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Below {
    /// The file's loop device.
    file: Device,
    /// The cached device, and where the image begins there.
    cached: Option<(Device, u64)>,
}

impl Below {
    /// The table of an image of that many sectors, in that state.
    fn table(&self, sectors: u64, State { left, cached }: State) -> Vec<Line> {
        let line = |start, end, target: &str, parameters| Line {
            start,
            sectors: end - start,
            target: target.to_owned(),
            parameters,
        };
        let mut table = Vec::new();
        let mut at = 0;
        if let Some((cache, start)) = self.cached {
            let end = left.min(cached);
            table.extend((end > 0).then(|| line(0, end, "linear", format!("{cache} {start}"))));
            at = end;
        }
        if at < left {
            table.push(line(at, left, "linear", format!("{} {at}", self.file)));
        }
        if left < sectors {
            table.push(line(left, sectors, "error", String::new()));
        }
        table
    }

    /// Of a device that an earlier process made; `None` if it is not whole.
    fn of(table: &[Line], library: Option<&Library>) -> Option<Self> {
        let first = table.first().filter(|line| line.target == "linear")?;
        let (device, start) = first.parameters.split_once(' ')?;
        let (device, start) = (device.parse().ok()?, start.parse().ok()?);
        match library.filter(|library| library.device == device) {
            Some(library) => Some(Self { file: library.below(start)?, cached: Some((device, start)) }),
            None => Some(Self { file: device, cached: None }),
        }
    }

    /// What is now where the file was opened, as far as the kernel's name of it is good here.
    fn now_there(&self) -> Option<Metadata> {
        std::fs::metadata(sysfs::backing_file(self.file)?).ok()
    }
}

/// How much of an image is there, in sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    /// What the file still has. What is behind that fails, where the loop device would show zeros.
    left: u64,
    /// What may be read through the cache, if there is one, in whole blocks. Until it was noticed that the file had been cut off,
    /// the cache may have taken in zeros of what is behind the cut, and it has no way to forget.
    cached: u64,
}

impl State {
    /// Of an image of that many sectors that nothing has happened to.
    fn whole(sectors: u64) -> Self {
        Self { left: sectors, cached: sectors / BLOCK * BLOCK }
    }

    /// As it is in a table.
    fn of(table: &[Line], below: &Below) -> Self {
        let linear = table.iter().filter(|line| line.target == "linear");
        let left = linear.map(|line| line.start + line.sectors).max().unwrap_or(0);
        let first = table.first().filter(|_| below.cached.is_some());
        Self { left, cached: first.map_or(0, |line| line.sectors) / BLOCK * BLOCK }
    }

    /// With a file that has that many by now.
    fn with(self, left: u64) -> Self {
        Self { left, cached: self.cached.min(left / BLOCK * BLOCK) }
    }
}

/// A version of an image, as a device.
pub(super) struct ImageDevice {
    role: DmRole,
    pub(super) device: Device,
    pub(super) sectors: u64,
    pub(super) id: FileId,
    below: Below,
    /// Where a client's request found its file. The kernel's own name of it is good only as long as the service's view of the
    /// file system lasts, which systemd makes anew at each start.
    path: Mutex<Option<PathBuf>>,
    state: Mutex<State>,
}

impl ImageDevice {
    /// What is now where its file was opened.
    fn now_there(&self) -> Option<Metadata> {
        match self.path.lock().as_ref() {
            Some(path) => std::fs::metadata(path).ok(),
            None => self.below.now_there(),
        }
    }

    /// Makes reads fail where the file has been cut off.
    fn guard(&self, dm: &Dm) {
        // A file that was removed is whole behind the loop device, which has it open.
        let Some(meta) = self.now_there().filter(|meta| self.id.is_of(meta)) else { return };
        let now = (meta.len() / u64::from(SECTOR_SIZE)).min(self.sectors);
        let mut state = self.state.lock();
        let next = state.with(now);
        if *state != next && dm.change(&self.role, &self.below.table(self.sectors, next), true).is_ok() {
            *state = next;
        }
    }

    /// Whether its blocks in the cache are worth keeping while nobody uses it: the next client finds them there.
    fn is_kept(&self) -> bool {
        let same = || self.now_there().is_some_and(|meta| FileId::of(&meta) == self.id);
        self.below.cached.is_some() && same()
    }
}

/// The versions that are in use, or kept in the cache of fixed size.
pub(super) struct Images {
    open: Mutex<HashMap<DmRole, Arc<ImageDevice>>>,
    library: Option<Library>,
}

fn unreadable(request: &DiskRequest) -> impl Fn(io::Error) -> EngineError + '_ {
    |source| EngineError::Image { image: request.image.clone(), path: request.path.clone(), source }
}

/// What its device is there for.
pub(super) fn role_of(image: &str, id: &FileId) -> DmRole {
    DmRole::Image { image: image.to_owned(), id: id.number() }
}

impl Images {
    /// No image yet; with a library they are read through its cache.
    pub(super) fn new(library: Option<Library>) -> Self {
        Self { open: Mutex::default(), library }
    }

    /// The device of the image that is asked for, made if it is not there.
    pub(super) fn get(&self, dm: &Dm, request: &DiskRequest) -> Result<Arc<ImageDevice>, EngineError> {
        let file = FileVolume::read_only(&request.path).map_err(|e| EngineError::of_image(request, e))?;
        let meta = file.file().metadata().map_err(unreadable(request))?;
        let id = FileId::of(&meta);
        let mut open = self.open.lock();
        let role = role_of(&request.image, &id);
        if let Some(image) = open.get(&role) {
            *image.path.lock() = Some(request.path.clone());
            return Ok(Arc::clone(image));
        }
        let image = match self.take_up(dm, &role, id).map_err(unreadable(request))? {
            Some(image) => image,
            None => {
                let sectors = file.geometry().blocks().get();
                self.make(dm, &role, id, file.file(), sectors).map_err(unreadable(request))?
            }
        };
        *image.path.lock() = Some(request.path.clone());
        let image = Arc::new(image);
        open.insert(role, Arc::clone(&image));
        Ok(image)
    }

    /// The device of an image that an earlier process had, if the kernel still has it.
    pub(super) fn adopt(&self, dm: &Dm, image: &str, id: FileId) -> io::Result<Option<Arc<ImageDevice>>> {
        let role = role_of(image, &id);
        let mut open = self.open.lock();
        if let Some(image) = open.get(&role) {
            return Ok(Some(Arc::clone(image)));
        }
        let Some(image) = self.take_up(dm, &role, id)? else { return Ok(None) };
        let image = Arc::new(image);
        open.insert(role, Arc::clone(&image));
        Ok(Some(image))
    }

    fn take_up(&self, dm: &Dm, role: &DmRole, id: FileId) -> io::Result<Option<ImageDevice>> {
        let Some(found) = dm.find(role)? else { return Ok(None) };
        let sectors = sysfs::sectors(found.device)?;
        let table = dm.table(role)?;
        let Some(below) = Below::of(&table, self.library.as_ref()).filter(|_| sectors > 0) else {
            // A process was killed between making it and giving it a table.
            dm.remove(role)?;
            return Ok(None);
        };
        let (role, device, state) = (role.clone(), found.device, Mutex::new(State::of(&table, &below)));
        Ok(Some(ImageDevice { role, device, sectors, id, below, path: Mutex::default(), state }))
    }

    fn make(&self, dm: &Dm, role: &DmRole, id: FileId, file: &File, sectors: u64) -> io::Result<ImageDevice> {
        // Held open until something stands on it.
        let looped = Loop::attach(file)?;
        fault::here("image-loop");
        let file = looped.device();
        let below = match &self.library {
            None => Below { file, cached: None },
            Some(library) => {
                looped.past_the_page_cache();
                Below { file, cached: Some((library.device, library.add(dm, file, sectors)?)) }
            }
        };
        let state = State::whole(sectors);
        let device = dm.create(role, &below.table(sectors, state), true)?;
        fault::here("image");
        sysfs::check_sector_size(device, "the image")?;
        let (role, path, state) = (role.clone(), Mutex::default(), Mutex::new(state));
        Ok(ImageDevice { role, device, sectors, id, below, path, state })
    }

    /// Makes reads fail where images' files have been cut off.
    pub(super) fn guard(&self, dm: &Dm) {
        // Held: none of them is removed meanwhile, and made anew with another table.
        self.open.lock().values().for_each(|image| image.guard(dm));
    }

    /// Removes the devices of images that no disk stands on, if they need not be kept. Pages of their files stay in RAM.
    pub(super) fn close_idle(&self, dm: &Dm) {
        let mut open = self.open.lock();
        let all = open.len();
        open.retain(|role, image| {
            let needed = Arc::strong_count(image) > 1 || image.is_kept();
            needed || !matches!(dm.remove(role), Ok(Removal::Gone))
        });
        if open.len() < all {
            // What stays by an error here is let go of with the next image, or by the next process.
            let _ = self.let_go(dm, &open.values().map(|image| image.below).collect::<Vec<_>>());
        }
    }

    /// Takes up or removes the devices of images that an earlier process had and no disk stands on any more.
    pub(super) fn clear(&self, dm: &Dm) -> io::Result<()> {
        let open = self.open.lock();
        let mut used: Vec<_> = open.values().map(|image| image.below).collect();
        for found in dm.ours()?.into_iter().filter(|found| !open.contains_key(&found.role)) {
            let DmRole::Image { id, .. } = &found.role else { continue };
            let below = Below::of(&dm.table(&found.role)?, self.library.as_ref());
            let same = |meta: Metadata| FileId::of(&meta).number() == *id;
            let kept = below.filter(|below| below.cached.is_some() && below.now_there().is_some_and(same));
            if found.open > 0 || kept.is_some() || dm.remove(&found.role)? == Removal::Busy {
                used.extend(below);
            }
        }
        self.let_go(dm, &used)
    }

    /// Frees the places of all images in the library but these.
    fn let_go(&self, dm: &Dm, used: &[Below]) -> io::Result<()> {
        let Some(library) = &self.library else { return Ok(()) };
        let starts: Vec<_> = used.iter().filter_map(|below| Some(below.cached?.1)).collect();
        library.keep_only(dm, &starts)
    }

    /// How the cache of fixed size did, if there is one.
    pub(super) fn counts(&self, dm: &Dm) -> Option<Counts> {
        self.library.as_ref()?.counts(dm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_images_table_ends_where_its_file_does() {
        let (file, cache) = (Device { major: 7, minor: 3 }, Device { major: 254, minor: 1 });
        let text = |table: Vec<Line>| -> Vec<_> {
            table.iter().map(|line| line.to_string().trim().to_owned()).collect()
        };
        let whole = State::whole(1000);
        let shown = |below: Below, left| text(below.table(1000, State { left, ..whole }));
        let plain = Below { file, cached: None };
        assert_eq!(shown(plain, 1000), ["0 1000 linear 7:3 0"]);
        assert_eq!(shown(plain, 10), ["0 10 linear 7:3 0", "10 990 error"]);
        assert_eq!(shown(plain, 0), ["0 1000 error"]);
        let cached = Below { file, cached: Some((cache, 4096)) };
        // The cache has whole blocks only.
        assert_eq!(shown(cached, 1000), ["0 896 linear 254:1 4096", "896 104 linear 7:3 896"]);
        assert_eq!(shown(cached, 900), ["0 896 linear 254:1 4096", "896 4 linear 7:3 896", "900 100 error"]);
        assert_eq!(shown(cached, 10), ["0 10 linear 254:1 4096", "10 990 error"]);
        assert_eq!(Below::of(&plain.table(1000, whole), None), Some(plain));
        assert_eq!(Below::of(&plain.table(1000, whole.with(0)), None), None);
        // What is there again is not what the cache may have of it.
        let again = whole.with(300).with(1000);
        assert_eq!(text(cached.table(1000, again)), ["0 256 linear 254:1 4096", "256 744 linear 7:3 256"]);
        for state in [whole, whole.with(300), again] {
            assert_eq!(State::of(&cached.table(1000, state), &cached), state);
        }
        assert_eq!(text(plain.table(1000, again)), ["0 1000 linear 7:3 0"]);
    }
}
