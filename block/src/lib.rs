//! What a disk is: volumes, their units, and the layers they are stacked from.
//!
//! Nothing here knows of tokio, of the network or of any other crate of bootd. A disk is a stack of
//! [`Volume`]s: a source at the bottom, layers above, `Checked` at each seam that outsiders reach.

mod checked;
mod direct;
mod error;
mod file;
mod fileio;
mod layer;
mod mem;
mod overlay;
mod segments;
mod spec;
mod units;
mod volume;

pub use checked::Checked;
pub use error::{BlockError, ErrorKind, OpenError};
pub use file::FileVolume;
pub use fileio::PIECE_LEN;
pub use layer::{Delay, DelayPlan, Fault, FaultPlan, ReadOnly, Stats, VolumeStats};
pub use mem::MemVolume;
pub use overlay::{Durability, Overlay, OverlayOptions};
pub use segments::Segments;
pub use spec::{Cacher, SpecError, VolumeSpec};
pub use units::{BlockCount, BlockRange, Bytes, Geometry, Lba, SECTOR_SIZE, UnitError};
pub use volume::{Extent, Provisioning, Volume};
