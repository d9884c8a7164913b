//! bootd's own target as a process of its own: the disks that clients get (image, RAM cache, overlay), behind the
//! portal that the daemon uses, without DHCP, scripts or passwords.

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bootd::portal::{Fact, Portal, Report, Table};
use clap::Args;
use iscsi::{Credentials, Identity, Limits, Lun, LunOptions, Target};
use lvm::{Attached, DiskRequest, Embedded, EmbeddedConfig, Engine, names};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the target serves.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// The image that all disks are made of.
    #[arg(long)]
    image: PathBuf,
    /// The folder of the overlays.
    #[arg(long)]
    overlays: PathBuf,
    /// How many disks there are.
    #[arg(long, default_value_t = 1)]
    disks: usize,
    /// MiB of RAM for the cache.
    #[arg(long, default_value_t = 1024)]
    cache: u64,
}

/// The name of disk number `disk`'s target.
pub(crate) fn name(disk: usize) -> String {
    format!("iqn.2026-01.internal.lab.bench:d{disk}")
}

/// What the engine is asked for, for disk number `disk`.
pub(crate) fn request(disk: usize, image: &Path, epoch: u64) -> DiskRequest {
    DiskRequest {
        client: format!("client{disk}"),
        epoch,
        image: "bench".to_owned(),
        version: "1".to_owned(),
        path: image.to_owned(),
        overlay_limit: block::Bytes(1 << 40),
        note: String::new(),
    }
}

/// An engine as the daemon makes one.
///
/// # Errors
/// When the folder can't be used.
pub(crate) fn engine(overlays: &Path, cache_mib: u64) -> Result<Embedded, lvm::EngineError> {
    Embedded::open(EmbeddedConfig { overlays: overlays.to_owned(), cache: block::Bytes(cache_mib << 20) })
}

struct Silent;

impl Report for Silent {
    fn tell(&self, _: SocketAddr, _: Fact<'_>) {}

    fn trouble(&self, error: &std::io::Error) {
        eprintln!("can't take a connection: {error}");
    }
}

/// Serves until it is killed.
///
/// # Errors
/// When the disks can't be made or the port is taken.
pub(crate) fn serve(what: &Serve) -> Result<(), Box<dyn Error>> {
    serve_disks(&engine(&what.overlays, what.cache)?, &what.image, what.disks, what.listen)
}

/// Serves that many disks of any engine that leaves it to its caller, until it is killed.
///
/// # Errors
/// As [`serve`].
pub(crate) fn serve_disks(
    engine: &dyn Engine,
    image: &Path,
    disks: usize,
    listen: SocketAddr,
) -> Result<(), Box<dyn Error>> {
    let table = Arc::new(Table::default());
    for disk in 0..disks {
        let (Attached::Made(made) | Attached::Already(made)) = engine.attach(request(disk, image, 1))?;
        let volume = made.volume.ok_or("the engine exports disks by itself")?;
        let identity = names::disk_identity("bench", &made.request.client);
        let identity = Identity {
            vendor: "BOOTD".into(),
            product: "Virtual Disk".into(),
            revision: "1".into(),
            serial: identity.serial,
            naa: identity.naa,
            target_name: name(disk),
        };
        let lun = Arc::new(Lun::new(identity, made.geometry, LunOptions::default()));
        table.insert(Target::new(&name(disk), Credentials::default(), lun), volume);
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        Portal::new(table, Arc::new(Silent), Limits::default(), CancellationToken::new())
            .serve(listener)
            .await;
        Ok(())
    })
}
