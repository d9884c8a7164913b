//! The hashes of an image's chunks, and the version that they make.
//!
//! `F.digests` is nothing but the hashes, 32 bytes for each 64 KiB of the image `F`, in order. It is believed only
//! if it makes the version that the image is said to be.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flashcache::{CHUNK_LEN, Digest};

/// Bytes of digests beyond which an image has none: 32 MiB, for 64 GiB of image. They are kept in RAM as long as the
/// image is open, to share chunks between versions; a larger image is cached for itself.
pub(super) const MAX_DIGESTS: u64 = 32 << 20;

/// Keeps an image's hash apart from all other hashes of bootd.
const CONTEXT: &str = "bootd 2026 image version";

/// Hex digits of a version: 128 bits, which no two images share by chance.
const VERSION_LEN: usize = 32;

/// The version in the making.
pub(super) struct Version(blake3::Hasher);

impl Version {
    pub(super) fn of_size(size: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(&size.to_le_bytes());
        Self(hasher)
    }

    pub(super) fn add(&mut self, digests: &[u8]) {
        self.0.update(digests);
    }

    pub(super) fn finish(&self) -> String {
        self.0.finalize().to_hex().chars().take(VERSION_LEN).collect()
    }
}

/// Where the digests of the image at `path` are.
pub(super) fn path_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".digests");
    name.into()
}

/// Bytes that the digests of an image of `size` bytes have.
pub(super) fn length(size: u64) -> u64 {
    size.div_ceil(CHUNK_LEN as u64) * size_of::<Digest>() as u64
}

/// The digests of the version of an image, if it has some and they are its. An image without any is as good, only
/// cached for itself.
pub(crate) fn load(path: &Path, size: u64, version: &str) -> Option<Arc<[Digest]>> {
    let path = path_of(path);
    let expected = length(size);
    if expected > MAX_DIGESTS || fs::metadata(&path).ok()?.len() != expected {
        return None;
    }
    let bytes = fs::read(path).ok()?;
    let mut sum = Version::of_size(size);
    sum.add(&bytes);
    if sum.finish() != version {
        return None;
    }
    let (digests, _) = bytes.as_chunks();
    Some(digests.into())
}
