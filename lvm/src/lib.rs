//! Which disk a client gets, and its whole life: images, versions, overlays.

mod embedded;
mod engine;
mod error;
pub mod images;
#[cfg(feature = "kernel")]
pub mod kernel;
pub mod names;
mod places;
mod record;
mod sim;

pub use embedded::{Embedded, EmbeddedConfig};
pub use engine::{
    Activity, Attached, CacheStatus, Detached, Disk, DiskActivity, DiskRequest, DiskStatus, Engine, Export,
    Exporter, Refusals, Session, SpaceStatus,
};
pub use error::EngineError;
pub use sim::Sim;
