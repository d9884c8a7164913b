//! An engine, an image, and a place for both.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use block::{BlockCount, BlockError, BlockRange, Bytes, ErrorKind, Lba, Segments, Volume};
use lvm::{Attached, Disk, DiskRequest, Embedded, EmbeddedConfig, Engine, EngineError, Sim};

/// Bytes in the lab's images: more than one chunk of the cache, the last one short.
pub(crate) const SIZE: usize = (3 << 20) + 4608;

pub(crate) struct Lab {
    engine: Option<Arc<dyn Engine>>,
    make: fn(&Path) -> Arc<dyn Engine>,
    pub(crate) traits: Traits,
    pub(crate) root: tempfile::TempDir,
}

/// In what the engines may differ.
pub(crate) struct Traits {
    /// Bytes in a block of an overlay.
    pub(crate) block: u64,
    /// Whether discarded blocks give their space back. They always read as zeros.
    pub(crate) discards_free: bool,
    /// Whether a write that does not fit leaves all blocks as they were, or only those that there was no room for.
    pub(crate) writes_whole: bool,
    /// How often each of many threads attaches: in the kernel it takes longer.
    pub(crate) boots: u64,
}

const IN_PROCESS: Traits = Traits { block: 4096, discards_free: true, writes_whole: true, boots: 30 };

#[cfg(feature = "kernel")]
const IN_KERNEL: Traits = Traits { block: 65536, discards_free: false, writes_whole: false, boots: 4 };

/// An image none of whose sectors are alike, and different for each `seed`.
pub(crate) fn image(seed: u64) -> Vec<u8> {
    (1..=SIZE as u64 / 512).flat_map(|i| (i ^ seed << 32).to_le_bytes().repeat(64)).collect()
}

pub(crate) fn range(start: u64, count: u64) -> BlockRange {
    BlockRange::new(Lba::new(start), BlockCount::new(count)).unwrap()
}

pub(crate) fn kind<T>(result: Result<T, BlockError>) -> Option<ErrorKind> {
    result.err().map(|e| e.kind())
}

pub(crate) fn open(root: &Path) -> Result<Embedded, EngineError> {
    Embedded::open(EmbeddedConfig { overlays: root.join("overlays"), cache: Bytes(16 << 20) })
}

impl Lab {
    fn new(make: fn(&Path) -> Arc<dyn Engine>, traits: Traits) -> Self {
        Self::within(&std::env::temp_dir(), make, traits)
    }

    /// A lab in that directory.
    fn within(directory: &Path, make: fn(&Path) -> Arc<dyn Engine>, traits: Traits) -> Self {
        let root = tempfile::tempdir_in(directory).unwrap();
        let engine = Some(make(root.path()));
        let lab = Self { engine, make, traits, root };
        fs::write(lab.image_path("one"), image(1)).unwrap();
        lab
    }

    pub(crate) fn embedded() -> Self {
        Self::new(|root| Arc::new(open(root).unwrap()), IN_PROCESS)
    }

    pub(crate) fn sim() -> Self {
        Self::new(|_| Arc::new(Sim::new()), IN_PROCESS)
    }

    #[cfg(feature = "kernel")]
    pub(crate) fn kernel() -> Self {
        Self::new(|root| Arc::new(crate::only_kernel::open(root).unwrap()), IN_KERNEL)
    }

    /// The kernel's engine with images and writes behind caches of fixed size.
    #[cfg(feature = "kernel")]
    pub(crate) fn kernel_cached() -> Self {
        Self::new(|root| Arc::new(crate::kernel_cache::open(root).unwrap()), IN_KERNEL)
    }

    #[cfg(feature = "kernel")]
    pub(crate) fn transient() -> Self {
        let traits = Traits { block: 4096, discards_free: false, writes_whole: false, boots: 4 };
        Self::new(|root| Arc::new(crate::only_transient::open(root).unwrap()), traits)
    }

    /// The kernel's engine whose disks are files.
    #[cfg(feature = "kernel")]
    pub(crate) fn in_files() -> Self {
        let make: fn(&Path) -> Arc<dyn Engine> = |root| Arc::new(crate::only_files::open(root).unwrap());
        let traits = Traits { block: 4096, discards_free: true, writes_whole: true, boots: 4 };
        Self::within(&crate::only_files::place(), make, traits)
    }

    /// A lab whose files can share their blocks, and whose engine has nothing there.
    #[cfg(feature = "kernel")]
    pub(crate) fn sim_that_shares() -> Self {
        Self::within(&crate::only_files::place(), |_| Arc::new(Sim::new()), IN_PROCESS)
    }

    pub(crate) fn engine(&self) -> &dyn Engine {
        &**self.engine.as_ref().unwrap()
    }

    /// Ends the engine as a kill would: nothing is done at its end that another process relies on. Then starts
    /// another in its place.
    pub(crate) fn restart(&mut self) {
        self.engine = None;
        self.engine = Some((self.make)(self.root.path()));
    }

    pub(crate) fn image_path(&self, version: &str) -> PathBuf {
        self.root.path().join(format!("debian@{version}.img"))
    }

    pub(crate) fn request(&self, client: &str, epoch: u64) -> DiskRequest {
        DiskRequest {
            client: client.to_owned(),
            epoch,
            image: "debian".to_owned(),
            version: "one".to_owned(),
            path: self.image_path("one"),
            overlay_limit: Bytes(1 << 20),
            note: format!("what the shell knows of {client}"),
        }
    }

    /// Attaches a disk that is not attached yet.
    pub(crate) fn made(&self, client: &str, epoch: u64) -> Disk {
        match self.engine().attach(self.request(client, epoch)).unwrap() {
            Attached::Made(disk) => disk,
            Attached::Already(_) => panic!("{client} had a disk of boot {epoch}"),
        }
    }

    /// The overlays' files.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root.path().join("overlays")).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[cfg(feature = "kernel")]
impl Drop for Lab {
    fn drop(&mut self) {
        self.engine = None;
        crate::only_kernel::clean_up(self.root.path());
    }
}

pub(crate) fn volume(disk: &Disk) -> &dyn Volume {
    &**disk.volume.as_ref().unwrap()
}

pub(crate) fn read(disk: &Disk, range: BlockRange) -> Vec<u8> {
    let mut out = Segments::new();
    volume(disk).read(range, &mut out).unwrap();
    out.to_bytes().to_vec()
}

pub(crate) fn whole(disk: &Disk) -> Vec<u8> {
    read(disk, disk.geometry.whole())
}

pub(crate) fn write(disk: &Disk, start: u64, bytes: Vec<u8>) -> Result<(), BlockError> {
    volume(disk).write(Lba::new(start), &[bytes.into()], false)
}
