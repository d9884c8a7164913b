//! A stack of volumes as data: what a status page prints, and what tests and tools build.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    Checked, Delay, DelayPlan, Durability, Fault, FaultPlan, FileVolume, Geometry, MemVolume, OpenError,
    Overlay, OverlayOptions, ReadOnly, Volume,
};

/// The most layers that are built on one another. A deeper spec is a mistake, and is refused.
const MAX_DEPTH: usize = 16;

/// A volume, and those that it stands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "layer", rename_all = "snake_case")]
pub enum VolumeSpec {
    /// A disk in memory, all zero.
    Memory {
        /// How large it is.
        geometry: Geometry,
    },
    /// A raw file or block device.
    File {
        /// The file.
        path: PathBuf,
        /// Whether it takes writes.
        #[serde(default)]
        writable: bool,
    },
    /// What lies beneath, through the cache that the builder brings.
    Cached {
        /// The key under which chunks are shared: one for each content.
        key: String,
        /// What lies beneath.
        lower: Box<VolumeSpec>,
    },
    /// A layer of a client's own, in a file that must not be there yet.
    Overlay {
        /// The file.
        path: PathBuf,
        /// The most space that written blocks may take, in bytes.
        limit: crate::Bytes,
        /// How long what was written must last.
        durability: Durability,
        /// What lies beneath.
        lower: Box<VolumeSpec>,
    },
    /// What lies beneath, without writes.
    ReadOnly {
        /// What lies beneath.
        lower: Box<VolumeSpec>,
    },
    /// What lies beneath, failing as planned.
    Fault {
        /// How it fails.
        plan: FaultPlan,
        /// What lies beneath.
        lower: Box<VolumeSpec>,
    },
    /// What lies beneath, as slow as planned.
    Delay {
        /// How slow it is.
        plan: DelayPlan,
        /// What lies beneath.
        lower: Box<VolumeSpec>,
    },
}

/// Who puts a volume behind a cache. This crate has none itself.
pub trait Cacher {
    /// `source` behind the cache, under `key`, which stands for its content.
    fn cached(&self, key: &str, source: Arc<dyn Volume>) -> Arc<dyn Volume>;
}

/// Why a spec can't be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// A file can't be opened or made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It has a cached layer, and the builder brought no cache.
    #[error("there is no cache here for the layer \"{key}\"")]
    NoCache {
        /// The layer's key.
        key: String,
    },
    /// It has more layers than are built.
    #[error("more than {MAX_DEPTH} layers")]
    TooDeep,
}

impl VolumeSpec {
    /// Builds the stack, its contract checked at the top.
    ///
    /// # Errors
    /// When a layer can't be made. Overlays that were made before stay.
    pub fn build(&self, cache: Option<&dyn Cacher>) -> Result<Arc<dyn Volume>, SpecError> {
        Ok(Arc::new(Checked::new(self.layer(cache, MAX_DEPTH)?)))
    }

    fn layer(&self, cache: Option<&dyn Cacher>, depth: usize) -> Result<Arc<dyn Volume>, SpecError> {
        let depth = depth.checked_sub(1).ok_or(SpecError::TooDeep)?;
        Ok(match self {
            Self::Memory { geometry } => Arc::new(MemVolume::new(*geometry)),
            Self::File { path, writable: true } => Arc::new(FileVolume::read_write(path)?),
            Self::File { path, writable: false } => Arc::new(FileVolume::read_only(path)?),
            Self::Cached { key, lower } => {
                let cache = cache.ok_or_else(|| SpecError::NoCache { key: key.clone() })?;
                cache.cached(key, lower.layer(Some(cache), depth)?)
            }
            Self::Overlay { path, limit, durability, lower } => {
                let options = OverlayOptions { limit: *limit, durability: *durability };
                Arc::new(Overlay::create(lower.layer(cache, depth)?, path, options)?)
            }
            Self::ReadOnly { lower } => Arc::new(ReadOnly::new(lower.layer(cache, depth)?)),
            Self::Fault { plan, lower } => Arc::new(Fault::new(lower.layer(cache, depth)?, plan.clone())),
            Self::Delay { plan, lower } => Arc::new(Delay::new(lower.layer(cache, depth)?, plan.clone())),
        })
    }
}
