//! The RAM block cache that every client of an image shares.
//!
//! One [`FlashCache`] holds chunks of 64 KiB of all images within one bound of bytes; a [`CachedVolume`] is one
//! image seen through it. A hit takes no lock and copies nothing: it finds the chunk by two loads and hands out a
//! slice of it. Everything dearer happens on a miss.

mod ahead;
mod cache;
mod chunk;
mod fills;
mod pace;
mod queues;
mod striped;
mod table;
mod volume;

pub use cache::{CacheUse, FlashCache};
pub use chunk::CHUNK_LEN;
pub use volume::{CachedVolume, Digest};
