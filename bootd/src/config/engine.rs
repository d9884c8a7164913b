//! `[engine]`: who makes the clients' disks, and who exports them.

use std::path::PathBuf;

use block::Bytes;

use super::load::Source;
use super::{ConfigError, Flags, amounts};
use crate::machine::Machine;

/// How much the overlays of all clients may take together when nothing is said, in bytes. The file has holes: it takes
/// what clients write.
const DEFAULT_SPACE: u64 = 100 << 30;

/// The least that is of use: an overlay begins with 64 MiB.
const LEAST_SPACE: u64 = 256 << 20;

/// How much of this machine's RAM overlays may take when they lie there and nothing is said, in percent.
const DEFAULT_RAM_PERCENT: u64 = 50;

/// The least RAM that is of use as a cache of fixed size.
pub(crate) const LEAST_CACHE: u64 = 64 << 20;

/// The words for how overlays are kept.
const THIN: (&str, Overlays) = ("thin", Overlays::Thin);
const OTHER_OVERLAYS: [(&str, Overlays); 2] =
    [("transient", Overlays::Transient), ("files", Overlays::Files)];

/// The word for RAM where the path of a file or a device can stand.
const RAM: &str = "ram";

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
    /// How overlays are kept.
    pub(crate) overlays: Overlays,
    /// Where overlays lie.
    pub(crate) space: SpacePlace,
    /// The most that they take together, where it is not a device.
    pub(crate) space_size: Bytes,
    /// The RAM that caches all images, and no more. `None`: the page cache does, with what RAM there is to spare.
    pub(crate) cache: Option<Bytes>,
    /// The RAM that caches what clients write before it goes to where overlays lie. `None`: the page cache does, if that
    /// is a file.
    pub(crate) write_cache: Option<Bytes>,
}

/// How the kernel keeps what clients write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overlays {
    /// In thin volumes.
    Thin,
    /// In transient snapshots.
    Transient,
    /// In files that share their blocks with the image's, without device-mapper.
    Files,
}

/// Where overlays lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SpacePlace {
    /// In a file in the overlays' directory.
    Default,
    /// In that file, or on that block device.
    At(PathBuf),
    /// In RAM alone.
    Ram,
}

impl KernelSettings {
    /// Whether the disks are files that share their blocks with the image's.
    pub(crate) fn is_files(&self) -> bool {
        self.overlays == Overlays::Files
    }
}

impl EngineKind {
    /// Whether the disks are files that share their blocks with the image's.
    pub(crate) fn is_files(&self) -> bool {
        matches!(self, Self::Kernel(settings) if settings.is_files())
    }

    /// Whether the disks are exported by the kernel, so that bootd listens for none.
    pub(crate) fn is_exported_by_kernel(&self) -> bool {
        matches!(self, Self::Kernel(settings) if settings.lio)
    }
}

/// A value that is one of these words, the first where nothing is said.
fn choice<T: Copy>(
    source: &Source,
    value: Option<&toml::Spanned<String>>,
    key: &str,
    default: (&str, T),
    others: &[(&str, T)],
) -> Result<T, ConfigError> {
    let Some(value) = value else { return Ok(default.1) };
    let words: Vec<_> = std::iter::once(&default).chain(others).collect();
    let text = value.get_ref().as_str();
    words.iter().find(|(word, _)| *word == text).map(|(_, chosen)| *chosen).ok_or_else(|| {
        let right: Vec<_> = words.iter().map(|(word, _)| format!("{key} = \"{word}\"")).collect();
        source.wrong(value, format!("{text:?} is not known here"), format!("write {}", right.join(" or ")))
    })
}

/// Where overlays lie, and the most that they take there.
fn space(source: &Source, machine: &Machine) -> Result<(SpacePlace, Bytes), ConfigError> {
    let wire = &source.wire.engine;
    let place = match &wire.space {
        None => SpacePlace::Default,
        Some(path) if path.get_ref().as_os_str() == RAM => SpacePlace::Ram,
        space => SpacePlace::At(source.absolute(space.as_ref(), PathBuf::new)?),
    };
    let in_ram = place == SpacePlace::Ram;
    let size = match &wire.space_size {
        Some(size) if in_ram => ram(source, size, machine, LEAST_SPACE, "space_size = \"8GiB\"")?,
        Some(size) => source.size(size, None, LEAST_SPACE, "space_size = \"100GiB\"")?,
        None if in_ram => (machine.memory / 100 * DEFAULT_RAM_PERCENT).max(LEAST_SPACE),
        None => DEFAULT_SPACE,
    };
    Ok((place, Bytes(size)))
}

/// A part of this machine's RAM.
fn ram(
    source: &Source,
    size: &toml::Spanned<String>,
    machine: &Machine,
    least: u64,
    example: &str,
) -> Result<u64, ConfigError> {
    let bytes = source.size(size, Some(machine.memory), least, example)?;
    if machine.memory != 0 && bytes > machine.memory {
        let whole = amounts::show_size(machine.memory);
        let what = format!("{:?} is more than this machine's {whole}", size.get_ref());
        return Err(source.wrong(size, what, format!("write, for example: {example}")));
    }
    Ok(bytes)
}

/// What the file says of the kernel engine, in use or not.
pub(super) fn kernel(source: &Source, machine: &Machine) -> Result<KernelSettings, ConfigError> {
    let wire = &source.wire.engine;
    let fallback = match &wire.fallback {
        Some(value) if value.get_ref() != "embedded" => {
            let what = format!("{:?} can't take another engine's place", value.get_ref());
            return Err(source.wrong(value, what, "write fallback = \"embedded\", or leave it away"));
        }
        other => other.is_some(),
    };
    let (space, space_size) = space(source, machine)?;
    let cache = |value: Option<&toml::Spanned<String>>, example| {
        value.map(|size| ram(source, size, machine, LEAST_CACHE, example).map(Bytes)).transpose()
    };
    let settings = KernelSettings {
        fallback,
        lio: choice(source, wire.target.as_ref(), "target", ("lio", true), &[("embedded", false)])?,
        overlays: choice(source, wire.overlays.as_ref(), "overlays", THIN, &OTHER_OVERLAYS)?,
        cache: cache(wire.cache.as_ref(), "cache = \"4GiB\"")?,
        write_cache: cache(wire.write_cache.as_ref(), "write_cache = \"4GiB\"")?,
        space,
        space_size,
    };
    check_files(source, &settings)?;
    check_ram(source, &settings, machine)?;
    Ok(settings)
}

/// The engine that the file and the flags ask for.
pub(super) fn engine(source: &Source, flags: &Flags, machine: &Machine) -> Result<EngineKind, ConfigError> {
    let wire = &source.wire.engine;
    let is_kernel = choice(source, wire.kind.as_ref(), "kind", ("embedded", false), &[("kernel", true)])?;
    let settings = kernel(source, machine)?;
    if flags.sim {
        return Ok(EngineKind::Sim);
    }
    match &wire.kind {
        Some(kind) if is_kernel && cfg!(not(feature = "kernel")) => Err(source.wrong(
            kind,
            "this bootd was built without the kernel engine",
            "build it with the feature \"kernel\", or leave the line away",
        )),
        _ if is_kernel => Ok(EngineKind::Kernel(settings)),
        _ => Ok(EngineKind::Embedded),
    }
}

/// Makes sure that nothing is said of a space or a cache where disks are files, which have neither.
fn check_files(source: &Source, settings: &KernelSettings) -> Result<(), ConfigError> {
    if !settings.is_files() {
        return Ok(());
    }
    let wire = &source.wire.engine;
    let what = "disks that are files lie in the overlays' directory, and the page cache is their only one";
    let remedy = "leave it away (directory in [overlay] says where files lie), or write overlays = \"thin\"";
    if let Some(space) = &wire.space {
        return Err(source.wrong(space, what, remedy));
    }
    match [&wire.space_size, &wire.cache, &wire.write_cache].into_iter().flatten().next() {
        Some(size) => Err(source.wrong(size, what, remedy)),
        None => Ok(()),
    }
}

/// Makes sure that what is to be in RAM fits there together, and that nothing in RAM is cached in RAM.
fn check_ram(source: &Source, settings: &KernelSettings, machine: &Machine) -> Result<(), ConfigError> {
    let wire = &source.wire.engine;
    let in_ram = settings.space == SpacePlace::Ram;
    if let Some(write_cache) = wire.write_cache.as_ref().filter(|_| in_ram) {
        let what = "overlays that lie in RAM need no cache in RAM";
        return Err(source.wrong(write_cache, what, "leave it away, or let space be a file or a device"));
    }
    let space = if in_ram { settings.space_size.0 } else { 0 };
    let parts =
        [settings.cache.map_or(0, |size| size.0), settings.write_cache.map_or(0, |size| size.0), space];
    let sum = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(*part));
    let last = [wire.space_size.as_ref().filter(|_| in_ram), wire.write_cache.as_ref(), wire.cache.as_ref()];
    let last = last.into_iter().flatten().next();
    match last {
        Some(last) if machine.memory != 0 && sum > machine.memory => {
            let (sum, whole) = (amounts::show_size(sum), amounts::show_size(machine.memory));
            let what = format!("images' cache and overlays would take {sum}, and this machine has {whole}");
            Err(source.wrong(last, what, "make one of cache, write_cache and space_size smaller"))
        }
        _ => Ok(()),
    }
}
