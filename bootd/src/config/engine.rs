//! `[engine]`: who makes the clients' disks, and who exports them.

use std::path::PathBuf;

use block::Bytes;

use super::load::Source;
use super::{ConfigError, Flags};

/// How much the overlays of all clients may take together when nothing is said, in bytes. The file has holes: it takes
/// what clients write.
const DEFAULT_SPACE: u64 = 100 << 30;

/// The least that is of use: an overlay begins with 64 MiB.
const LEAST_SPACE: u64 = 256 << 20;

/// Who makes the disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EngineKind {
    /// In this process, from files.
    Embedded,
    /// The kernel's device-mapper.
    Kernel(KernelSettings),
    /// In memory, for trying things out: `--sim`.
    Sim,
}

/// The kernel engine's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KernelSettings {
    /// Whether the embedded engine takes its place where the kernel lacks something.
    pub(crate) fallback: bool,
    /// Whether LIO exports the disks, or bootd's own target.
    pub(crate) lio: bool,
    /// Whether overlays are transient snapshots instead of thin volumes.
    pub(crate) transient: bool,
    /// Where overlays lie: a file, or a block device. `None`: a file in the overlays' directory.
    pub(crate) space: Option<PathBuf>,
    /// The most that the file takes.
    pub(crate) space_size: Bytes,
}

impl EngineKind {
    /// Whether the disks are exported by the kernel, so that bootd listens for none.
    pub(crate) fn is_exported_by_kernel(&self) -> bool {
        matches!(self, Self::Kernel(settings) if settings.lio)
    }
}

/// A value that is one of two words.
fn choice(
    source: &Source,
    value: Option<&toml::Spanned<String>>,
    key: &str,
    [default, other]: [&str; 2],
) -> Result<bool, ConfigError> {
    let Some(value) = value else { return Ok(false) };
    match value.get_ref().as_str() {
        text if text == default => Ok(false),
        text if text == other => Ok(true),
        text => {
            let remedy = format!("write {key} = \"{default}\" or {key} = \"{other}\"");
            Err(source.wrong(value, format!("{text:?} is not known here"), remedy))
        }
    }
}

/// The engine that the file and the flags ask for.
pub(super) fn engine(source: &Source, flags: &Flags) -> Result<EngineKind, ConfigError> {
    let wire = &source.wire.engine;
    let kernel = choice(source, wire.kind.as_ref(), "kind", ["embedded", "kernel"])?;
    let fallback = match &wire.fallback {
        Some(value) if value.get_ref() != "embedded" => {
            let what = format!("{:?} can't take another engine's place", value.get_ref());
            return Err(source.wrong(value, what, "write fallback = \"embedded\", or leave it away"));
        }
        other => other.is_some(),
    };
    let settings = KernelSettings {
        fallback,
        lio: !choice(source, wire.target.as_ref(), "target", ["lio", "embedded"])?,
        transient: choice(source, wire.overlays.as_ref(), "overlays", ["thin", "transient"])?,
        space: wire.space.as_ref().map(|space| source.absolute(Some(space), PathBuf::new)).transpose()?,
        space_size: Bytes(match &wire.space_size {
            Some(size) => source.size(size, None, LEAST_SPACE, "space_size = \"100GiB\"")?,
            None => DEFAULT_SPACE,
        }),
    };
    if flags.sim {
        return Ok(EngineKind::Sim);
    }
    match &wire.kind {
        Some(kind) if kernel && cfg!(not(feature = "kernel")) => Err(source.wrong(
            kind,
            "this bootd was built without the kernel engine",
            "build it with the feature \"kernel\", or leave the line away",
        )),
        _ if kernel => Ok(EngineKind::Kernel(settings)),
        _ => Ok(EngineKind::Embedded),
    }
}
