//! Which disk a client gets, and its whole life: images, versions, overlays.
//!
//! (Being written right now by the project lead: embedded/ and sim.rs. Storage engineer: write images.rs, the
//! import of immutable versions incl. the chunk digests file that `flashcache::CachedVolume` takes, then
//! tests/engine.rs, the behavioural suite that both engines pass.)

mod engine;
mod error;
pub mod names;

pub use engine::{Attached, CacheStatus, Detached, Disk, DiskRequest, DiskStatus, Engine};
pub use error::EngineError;
