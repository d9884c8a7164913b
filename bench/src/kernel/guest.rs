//! What runs in the appserver: the kernel engine as the daemon opens it.

use std::error::Error;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use block::Bytes;
use clap::Subcommand;
use lvm::kernel::{self, DEFAULT_TAG, Kernel, KernelConfig, LIO_ROOT, LioConfig, OverlayKind, SpaceConfig};
use lvm::{Attached, DiskRequest, Engine, Export, names};

use super::{AttachTimes, INITIATOR, TARGET};
use crate::target;

/// What is done there.
#[derive(Debug, Subcommand)]
pub(crate) enum Inside {
    /// Attaches and exports disks, and tells how long it took.
    Attach {
        /// Where images and overlays are.
        folder: PathBuf,
        /// How many clients come at once.
        clients: usize,
    },
    /// Serves one disk until it is killed.
    Serve {
        /// Where images and overlays are.
        folder: PathBuf,
        /// Where it is found.
        listen: SocketAddr,
        /// By bootd's own target, instead of by LIO.
        #[arg(long)]
        embedded: bool,
        /// MiB of RAM for the cache of fixed size under images; without it the page cache is what there is.
        #[arg(long)]
        cache: Option<u64>,
    },
    /// Removes what the last one left in the kernel.
    Down {
        /// By bootd's own target.
        #[arg(long)]
        embedded: bool,
    },
}

/// Each server's devices have names of their own.
fn tag(embedded: bool) -> String {
    let own = if embedded { "e" } else { "l" };
    format!("{DEFAULT_TAG}{own}")
}

fn lio(listen: SocketAddr) -> LioConfig {
    LioConfig { root: LIO_ROOT.into(), portals: vec![listen], target: TARGET.to_owned() }
}

fn open(
    folder: &Path,
    listen: SocketAddr,
    embedded: bool,
    cache: Option<u64>,
) -> Result<Kernel, lvm::EngineError> {
    let tag = tag(embedded);
    let space = SpaceConfig::File { path: folder.join(format!("space-{tag}")), size: Bytes(100 << 30) };
    Kernel::open(KernelConfig {
        directory: folder.join(format!("overlays-{tag}")),
        space,
        cache: cache.map(|mib| Bytes(mib << 20)),
        write_cache: None,
        overlays: OverlayKind::Thin,
        lio: (!embedded).then(|| lio(listen)),
        tag,
    })
}

fn attach(engine: &Kernel, request: DiskRequest, initiator: &str) -> Result<(), lvm::EngineError> {
    let (Attached::Made(disk) | Attached::Already(disk)) = engine.attach(request)?;
    let export = Export {
        target: TARGET.to_owned(),
        initiator: initiator.to_owned(),
        user: disk.request.client.clone(),
        secret: "hunter2hunter2".to_owned(),
        vendor: "BOOTD".into(),
        product: "Virtual Disk".into(),
        revision: "1".into(),
        serial: names::disk_identity("bench", &disk.request.client).serial,
    };
    engine.export(&disk, &export).map(drop)
}

/// Does it.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn run(what: Inside) -> Result<(), Box<dyn Error>> {
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 3261));
    match what {
        Inside::Attach { folder, clients } => {
            let engine = open(&folder, anywhere, false, None)?;
            let one = |number: usize| {
                let initiator = format!("{INITIATOR}.client:c{number}");
                attach(&engine, target::request(number, &folder.join("image.img"), 1), &initiator)
            };
            let begin = Instant::now();
            one(0)?;
            let first = begin.elapsed().as_secs_f64();
            let begin = Instant::now();
            std::thread::scope(|scope| {
                let all: Vec<_> = (1..=clients).map(|number| scope.spawn(move || one(number))).collect();
                all.into_iter().try_for_each(|thread| {
                    thread.join().map_err(|_| "a thread of the load failed")?.map_err(|e| e.to_string())
                })
            })?;
            let times = AttachTimes { one: first, all: begin.elapsed().as_secs_f64() };
            println!("{}", serde_json::to_string(&times)?);
            drop(engine);
            down(false)
        }
        Inside::Serve { folder, listen, embedded, cache } => {
            let engine = open(&folder, listen, embedded, cache)?;
            let image = folder.join("image.img");
            if embedded {
                return target::serve_disks(&engine, &image, 1, listen);
            }
            attach(&engine, target::request(0, &image, 1), INITIATOR)?;
            println!("serving");
            std::io::stdout().flush()?;
            loop {
                std::thread::park();
            }
        }
        Inside::Down { embedded } => down(embedded),
    }
}

fn down(embedded: bool) -> Result<(), Box<dyn Error>> {
    if !embedded {
        kernel::remove_target(&lio(SocketAddr::from(([127, 0, 0, 1], 3261))), &tag(embedded))?;
    }
    let busy = kernel::remove_all(&tag(embedded))?;
    if busy.is_empty() { Ok(()) } else { Err(format!("still busy: {}", busy.join(", ")).into()) }
}
