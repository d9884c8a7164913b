//! What a disk is: volumes, their units, and the layers they are stacked from.
//!
//! Nothing here knows of tokio, of the network or of any other crate of bootd. A disk is a stack of
//! [`Volume`]s: a source at the bottom, layers above, `Checked` at each seam that outsiders reach.

mod error;
mod segments;
mod units;
mod volume;

pub use error::{BlockError, ErrorKind};
pub use segments::Segments;
pub use units::{BlockCount, BlockRange, Bytes, Geometry, Lba, SECTOR_SIZE, UnitError};
pub use volume::{Extent, Provisioning, Volume};
