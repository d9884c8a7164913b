//! What the engine takes of the kernel, and whether a machine has it.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::Access;

use super::dm::Dm;
use super::lio::{self, ROOT};
use super::{DEFAULT_TAG, OverlayKind, kernel_error};
use crate::EngineError;

/// What of the kernel an engine uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// How overlays are kept.
    pub overlays: OverlayKind,
    /// Whether the kernel exports the disks.
    pub lio: bool,
    /// Whether there is a cache of fixed size.
    pub cache: bool,
}

/// What a machine needs for the engine, and lacks: modules that are not loaded, and their parts of the kernel.
///
/// # Errors
/// When device-mapper can't be asked.
pub fn missing(Needs { overlays, lio, cache }: Needs) -> io::Result<Vec<&'static str>> {
    let mut missing = Vec::new();
    if Path::new(CONTROL).exists() {
        // Only root may ask. To others the modules are shown all the same, if they are no part of the kernel itself.
        let there = if may_ask() { Some(Dm::open(DEFAULT_TAG)?.targets()?) } else { None };
        let of_overlays = match overlays {
            OverlayKind::Thin => ("thin-pool", "dm-thin-pool"),
            OverlayKind::Transient => ("snapshot", "dm-snapshot"),
        };
        let targets = [of_overlays].into_iter().chain(cache.then_some(("cache", "dm-cache")));
        let lacks = |target: &str, module: &str| match &there {
            Some(there) => !there.iter().any(|one| one == target),
            None => !is_loaded(module),
        };
        missing.extend(targets.filter(|(target, module)| lacks(target, module)).map(|(_, module)| module));
        // The cache's policy is a module of its own, which the kernel does not list; it loads it by itself, if it finds it.
        let policy = "dm-cache-smq";
        let built_in = !is_loaded("dm-cache") && !missing.contains(&"dm-cache");
        missing.extend((cache && !built_in && !is_loaded(policy) && !is_installed(policy)).then_some(policy));
    } else {
        missing.push("dm-mod");
    }
    missing.extend((!Path::new("/dev/loop-control").exists()).then_some("loop"));
    if lio {
        let modules = ["target_core_iblock", "iscsi_target_mod"];
        missing.extend(modules.into_iter().filter(|module| !is_loaded(module)));
    }
    Ok(missing)
}

fn is_loaded(module: &str) -> bool {
    Path::new("/sys/module").join(module.replace('-', "_")).is_dir()
}

/// Where device-mapper is asked.
pub(super) const CONTROL: &str = "/dev/mapper/control";

fn may_ask() -> bool {
    rustix::fs::access(CONTROL, Access::READ_OK | Access::WRITE_OK).is_ok()
}

/// Whether the running kernel's modules of device-mapper have that one.
fn is_installed(module: &str) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let folder = Path::new("/lib/modules").join(release.trim()).join("kernel/drivers/md");
    lio::names(&folder).iter().any(|file| file.starts_with(&format!("{module}.ko")))
}

/// Makes sure that the machine has what the engine needs.
///
/// # Errors
/// When it lacks something; the text says what, and how to have it.
pub fn check(needs: Needs) -> Result<(), EngineError> {
    let lacking = missing(needs).map_err(kernel_error("use device-mapper"))?;
    if lacking.is_empty() {
        if !may_ask() {
            let text = format!("{CONTROL}: only root may ask it");
            let source = io::Error::new(io::ErrorKind::PermissionDenied, text);
            return Err(kernel_error("use device-mapper")(source));
        }
        return if needs.lio {
            lio::check(Path::new(ROOT)).map_err(kernel_error("run here"))
        } else {
            Ok(())
        };
    }
    Err(not_loaded(&lacking))
}

/// What LIO needs to export files.
const OF_FILES: [&str; 2] = ["target_core_file", "iscsi_target_mod"];

/// Makes sure that the kernel has what exports disks that are files, where it is to do that.
///
/// # Errors
/// When it lacks something; the text says what, and how to have it.
pub fn check_clones(lio: bool) -> Result<(), EngineError> {
    if !lio {
        return Ok(());
    }
    let lacking: Vec<_> = OF_FILES.into_iter().filter(|module| !is_loaded(module)).collect();
    if lacking.is_empty() {
        return lio::check(Path::new(ROOT)).map_err(kernel_error("run here"));
    }
    Err(not_loaded(&lacking))
}

fn not_loaded(lacking: &[&str]) -> EngineError {
    let modules = lacking.join(" ");
    let text = format!(
        "modules that are not loaded: {modules}; load them as root (modprobe -a {modules}), on Debian with the package \
         linux-image-amd64"
    );
    kernel_error("run here")(io::Error::new(io::ErrorKind::Unsupported, text))
}
