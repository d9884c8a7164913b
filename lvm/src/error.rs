//! What an engine may fail with. All of it is the operator's to mend, so each says what to do.

use std::path::PathBuf;

use block::OpenError;

use crate::DiskRequest;

/// An engine's failure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The image's file can't be used.
    #[error("image {image}: can't read {}: {source}; check that the file exists and that bootd may read it", path.display())]
    Image {
        /// The image's name.
        image: String,
        /// Its file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The image's file is no disk.
    #[error("image {image}: {} is {size} bytes long, which is not a whole number of 512-byte blocks; a raw disk image is needed (convert with: qemu-img convert -O raw)", path.display())]
    NotADisk {
        /// The image's name.
        image: String,
        /// Its file.
        path: PathBuf,
        /// Its length in bytes.
        size: u64,
    },
    /// The overlay can't be made, read or removed.
    #[error("client {client}: overlay {}: {source}; check free space and permissions there", path.display())]
    Overlay {
        /// The client's name.
        client: String,
        /// The overlay's file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The directory of the overlays can't be used.
    #[error("overlays' directory {}: {source}; check that it is a directory in which bootd may write", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process keeps its overlays there.
    #[error("overlays' directory {} is in use by another bootd; stop that one, or give this one a directory of its own", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The client has booted again since.
    #[error(
        "client {client}: boot {epoch:016x} is over, {current:016x} came after it; let the client boot again"
    )]
    Superseded {
        /// The client's name.
        client: String,
        /// The boot that a disk was asked for.
        epoch: u64,
        /// The boot whose disk the client has.
        current: u64,
    },
    /// The kernel refuses, or lacks, something. The cause says what to do where that is known.
    #[error("the kernel engine can't {what}: {source}")]
    Kernel {
        /// What.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// The client's name can't be part of a file's name.
    #[error(transparent)]
    Name(#[from] crate::names::NameError),
}

impl EngineError {
    /// Of the file of the image that is asked for.
    pub(crate) fn of_image(request: &DiskRequest, error: OpenError) -> Self {
        let (image, path) = (request.image.clone(), request.path.clone());
        match error {
            OpenError::Io { source, .. } => Self::Image { image, path, source },
            OpenError::NotADisk { path, size } => Self::NotADisk { image, path, size },
            other => Self::Image { image, path, source: std::io::Error::other(other) },
        }
    }
}
