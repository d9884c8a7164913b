//! The trait behind which the embedded, the kernel and the simulated engine are alike.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use block::{Bytes, Geometry, Volume};
use serde::{Deserialize, Serialize};

use crate::EngineError;

/// Which boot of which client a disk belongs to, and what it is made of.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRequest {
    /// The client's name, as in the site.
    pub client: String,
    /// The boot it is for. A larger epoch is a later boot.
    pub epoch: u64,
    /// The image's name, as in the site.
    pub image: String,
    /// The image's immutable version.
    pub version: String,
    /// The image's file.
    pub path: PathBuf,
    /// How much the client may write, in bytes of space taken; at the limit new blocks fail with `NoSpace`.
    pub overlay_limit: Bytes,
    /// What the shell wants to find again after a restart (target name, CHAP account), kept beside the overlay in
    /// a file that only its owner may read. Opaque to the engine.
    pub note: String,
}

impl fmt::Debug for DiskRequest {
    /// Without the note, which may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskRequest")
            .field("client", &self.client)
            .field("epoch", &self.epoch)
            .field("image", &self.image)
            .field("version", &self.version)
            .field("path", &self.path)
            .field("overlay_limit", &self.overlay_limit)
            .finish_non_exhaustive()
    }
}

/// A disk that is attached: made, and ready for a target to export.
#[derive(Clone)]
pub struct Disk {
    /// What was asked for.
    pub request: DiskRequest,
    /// How large it is.
    pub geometry: Geometry,
    /// The disk itself, checked. `None` where the kernel exports it by itself.
    pub volume: Option<Arc<dyn Volume>>,
}

/// Who may log in to a disk, and what the disk says of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Export {
    /// The target's name.
    pub target: String,
    /// The only initiator that may log in.
    pub initiator: String,
    /// The CHAP account's name.
    pub user: String,
    /// Its secret.
    pub secret: String,
    /// The vendor in INQUIRY data, 8 characters at most.
    pub vendor: String,
    /// The product in INQUIRY data, 16 characters at most.
    pub product: String,
    /// The revision in INQUIRY data, 4 characters at most.
    pub revision: String,
    /// The unit serial number, of which the NAA designator is made too.
    pub serial: String,
}

impl fmt::Debug for Export {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export").field("target", &self.target).finish_non_exhaustive()
    }
}

/// Who exports a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exporter {
    /// The engine has seen to it: the kernel serves the disk.
    Engine,
    /// The disk's volume is for a target of the caller's.
    Caller,
}

/// What [`Engine::attach`] changed.
#[derive(Clone)]
pub enum Attached {
    /// A fresh overlay was made for this epoch; overlays of this client's earlier epochs are gone.
    Made(Disk),
    /// This client's disk of this epoch existed already and is as it was.
    Already(Disk),
}

/// What [`Engine::detach`] changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detached {
    /// The disk is gone, and its space with it.
    Removed,
    /// There was none.
    Absent,
}

/// How full an attached disk's overlay is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStatus {
    /// What was asked for.
    pub request: DiskRequest,
    /// Space that the overlay takes, in bytes.
    pub overlay_used: Bytes,
}

/// How full the space is that all overlays share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceStatus {
    /// Space that overlays have, in bytes.
    pub used: Bytes,
    /// Space that there is.
    pub size: Bytes,
    /// The file that it lies in, if it does: what is written there takes room of its file system.
    pub file: Option<PathBuf>,
}

/// Hits and misses of one image's cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheStatus {
    /// The image's name.
    pub image: String,
    /// The image's version.
    pub version: String,
    /// Chunks that were in RAM when asked for.
    pub hits: u64,
    /// Chunks that had to be read.
    pub misses: u64,
}

/// What was last seen of the disks that an engine exports by itself: its target reports nothing to the caller's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Activity {
    /// Of each disk.
    pub disks: Vec<DiskActivity>,
    /// Of the log-ins that were refused.
    pub refusals: Refusals,
}

/// What was last seen of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskActivity {
    /// Whose it is.
    pub client: String,
    /// The boot that it is for.
    pub epoch: u64,
    /// The newest session; `None`: nobody is logged in.
    pub session: Option<Session>,
    /// Whether anything was ever written to it.
    pub written: bool,
    /// Whether it has refused a write for want of space.
    pub full: bool,
}

/// A session at a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// A number that no other session of the target has.
    pub id: u64,
    /// Where its initiator is.
    pub peer: Option<IpAddr>,
}

/// Log-ins that were refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusals {
    /// How many, since the target was made.
    pub count: u64,
    /// Who was refused last.
    pub initiator: String,
    /// From where.
    pub peer: Option<IpAddr>,
    /// How many of them could not prove who they are.
    pub chap: u64,
}

/// The maker and keeper of clients' disks. Calls may block for milliseconds and are safe from many threads;
/// calls for one client are serialised by the engine.
pub trait Engine: Send + Sync {
    /// What it is called in status and logs: `embedded`, `kernel`, `sim`.
    fn name(&self) -> &'static str;

    /// Sees to it that the client has exactly this disk. A new epoch gets a fresh overlay whatever the image's
    /// size, and ends the earlier epochs' disks: their volumes answer `Gone` from then on.
    ///
    /// # Errors
    /// When the image can't be read or the overlay can't be made; nothing has changed then, and an earlier
    /// epoch's disk goes on.
    fn attach(&self, request: DiskRequest) -> Result<Attached, EngineError>;

    /// Opens the disk to its client, where the engine does that itself. It ends with the disk. A disk that is exported
    /// as asked for stays as it is.
    ///
    /// # Errors
    /// When the kernel's target refuses. The disk is there all the same, and can be exported again.
    fn export(&self, disk: &Disk, export: &Export) -> Result<Exporter, EngineError> {
        let _ = (disk, export);
        Ok(Exporter::Caller)
    }

    /// Removes the client's disk of that epoch.
    ///
    /// # Errors
    /// When the overlay can't be removed; the disk no longer serves anyone even then.
    fn detach(&self, client: &str, epoch: u64) -> Result<Detached, EngineError>;

    /// All attached disks.
    fn list(&self) -> Vec<Disk>;

    /// How full they are.
    fn status(&self) -> Vec<DiskStatus>;

    /// What is seen of the disks that the engine exports by itself; nothing where it leaves that to the caller.
    fn activity(&self) -> Activity {
        Activity::default()
    }

    /// How full the space is that all overlays share, where there is one.
    fn space(&self) -> Option<SpaceStatus> {
        None
    }

    /// What whoever runs the site should know of how it was opened and what it found; each is said once.
    fn notices(&self) -> Vec<String> {
        Vec::new()
    }

    /// How the images' cache does.
    fn cache(&self) -> Vec<CacheStatus>;

    /// Finds what an earlier process left: adopts disks that are whole, removes what is not, and says which disks
    /// it adopted. Called once, before serving.
    ///
    /// # Errors
    /// When the place of the overlays can't be read.
    fn reap(&self) -> Result<Vec<Disk>, EngineError>;
}
