//! Who makes the disks: chosen by the configuration, and opened.

use std::path::Path;
use std::sync::Arc;

use caps::Capability;
use lvm::{Embedded, EmbeddedConfig, Engine, EngineError, Sim};
use site::Site;

mod settings;
#[cfg(feature = "kernel")]
pub(crate) mod storage;

pub(crate) use kernel::{give_back, listener, usable};
use settings::Row;
pub(crate) use settings::settle;

use crate::config::{Config, EngineKind, KernelSettings};

/// The configuration with an engine that this machine can run, and what the site says of this server's storage in it:
/// where the kernel lacks something, the embedded one takes the kernel engine's place if it may. Must come before
/// sockets are opened: which ones, depends on it.
///
/// # Errors
/// When it may not, or the site says what makes no sense; the text says what.
pub(crate) fn settled(mut config: Config, site: &Site) -> Result<Config, EngineError> {
    let EngineKind::Kernel(of_file) = &config.engine else { return Ok(config) };
    let settled = settle(of_file, &config.server, config.memory, site).map_err(|wrong| {
        let text = format!("{wrong}; {}", wrong.remedy);
        let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, text);
        EngineError::Kernel { what: "go by the settings".into(), source }
    })?;
    config.engine = match usable(&settled.kernel, &config.overlay_directory) {
        Ok(()) => {
            for apart in images_apart(&settled.kernel, &config.overlay_directory, site) {
                tracing::warn!("{apart}; its clients won't boot");
            }
            if let Some(others) = others_devices(&settled.kernel) {
                tracing::warn!("{others}");
            }
            for Row { setting, value, source } in settled.rows(&config.images(), &config.overlay_directory) {
                tracing::info!("{setting}: {value} ({source})");
            }
            EngineKind::Kernel(settled.kernel)
        }
        Err(e) if settled.kernel.fallback => {
            tracing::warn!("{e}; disks are made by the embedded engine instead");
            EngineKind::Embedded
        }
        Err(e) => return Err(e),
    };
    Ok(config)
}

/// What must be kept of a process's privileges.
pub(crate) fn privileges(config: &Config) -> &'static [Capability] {
    match &config.engine {
        EngineKind::Kernel(settings) if settings.is_files() && !settings.lio => &[],
        // Device-mapper asks for nothing less, each time, and LIO for each secret.
        EngineKind::Kernel(_) => &[Capability::CAP_SYS_ADMIN],
        EngineKind::Embedded | EngineKind::Sim => &[],
    }
}

/// The images whose blocks no disk in that directory can share, where disks are files: what is wrong with each.
pub(crate) fn images_apart(settings: &KernelSettings, directory: &Path, site: &Site) -> Vec<String> {
    // Where nothing can, that is said by itself.
    if !settings.is_files() || usable(settings, directory).is_err() {
        return Vec::new();
    }
    // What is not there is told of elsewhere.
    let images = site.images();
    let there = images.iter().filter(|image| image.path.exists());
    let apart = |image: &site::Image| {
        let e = kernel::can_clone(&image.path, directory).err()?;
        if e.kind() == std::io::ErrorKind::PermissionDenied {
            // That the one who checks may not read it says nothing of bootd.
            return None;
        }
        Some(format!("image {}: {e}", image.name))
    };
    there.filter_map(|image| apart(image)).collect()
}

/// What other overlays have left in the kernel, where disks are files, which looks after no devices.
pub(crate) fn others_devices(settings: &KernelSettings) -> Option<String> {
    let count = if settings.is_files() { kernel::devices() } else { 0 };
    (count > 0).then(|| {
        format!(
            "{count} devices of other overlays are still in the kernel; to remove them, stop bootd, and then: bootd storage \
             down"
        )
    })
}

/// Who makes the disks.
pub(crate) fn open(config: &Config) -> Result<Arc<dyn Engine>, EngineError> {
    Ok(match &config.engine {
        EngineKind::Embedded => Arc::new(Embedded::open(EmbeddedConfig {
            overlays: config.overlay_directory.clone(),
            cache: config.cache_size,
        })?),
        EngineKind::Kernel(settings) => kernel::open(config, settings)?,
        EngineKind::Sim => Arc::new(Sim::new()),
    })
}

#[cfg(not(feature = "kernel"))]
mod kernel {
    use std::io;
    use std::net::SocketAddrV4;
    use std::path::Path;
    use std::sync::Arc;

    use lvm::{Engine, EngineError};

    use crate::config::{Config, KernelSettings};

    fn not_built() -> EngineError {
        let source = io::Error::other("this bootd was built without it");
        EngineError::Kernel { what: "run".into(), source }
    }

    pub(crate) fn usable(_settings: &KernelSettings, _overlays: &Path) -> Result<(), EngineError> {
        Err(not_built())
    }

    pub(crate) fn listener(_address: SocketAddrV4) -> Option<String> {
        None
    }

    pub(crate) fn give_back(_config: &Config, _wanted: &[SocketAddrV4]) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn devices() -> usize {
        0
    }

    pub(super) fn can_clone(_image: &Path, _directory: &Path) -> io::Result<()> {
        Err(io::Error::other(not_built()))
    }

    pub(super) fn open(_config: &Config, _settings: &KernelSettings) -> Result<Arc<dyn Engine>, EngineError> {
        Err(not_built())
    }
}

#[cfg(feature = "kernel")]
mod kernel {
    use std::io;
    use std::net::{SocketAddr, SocketAddrV4};
    use std::os::unix::fs::FileTypeExt;
    use std::path::Path;
    use std::sync::Arc;

    use lvm::kernel::{
        Clones, ClonesConfig, DEFAULT_TAG, Kernel, KernelConfig, LIO_ROOT, LioConfig, Needs, OverlayKind,
        SpaceConfig,
    };
    use lvm::names::SiteNames;
    use lvm::{Engine, EngineError, names};

    pub(super) use lvm::kernel::can_clone;

    use crate::config::{Config, EngineKind, KernelSettings, Overlays, SpacePlace};

    /// How device-mapper keeps overlays; `None` where they are files.
    fn overlays(settings: &KernelSettings) -> Option<OverlayKind> {
        match settings.overlays {
            Overlays::Thin => Some(OverlayKind::Thin),
            Overlays::Transient => Some(OverlayKind::Transient),
            Overlays::Files => None,
        }
    }

    /// Whether the machine has what it takes, with the overlays in that directory.
    pub(crate) fn usable(settings: &KernelSettings, directory: &Path) -> Result<(), EngineError> {
        let cache = settings.cache.is_some() || settings.write_cache.is_some();
        match overlays(settings) {
            Some(overlays) => lvm::kernel::check(Needs { overlays, lio: settings.lio, cache }),
            None => {
                lvm::kernel::check_clones(settings.lio)?;
                lvm::kernel::can_share(directory).map_err(|source| {
                    let what = "keep clients' disks in files (overlays = \"files\" in [engine])";
                    EngineError::Kernel { what: what.into(), source }
                })
            }
        }
    }

    /// How many devices there are. Who may not ask has none.
    pub(super) fn devices() -> usize {
        lvm::kernel::devices(DEFAULT_TAG).map_or(0, |devices| devices.len())
    }

    fn space(directory: &Path, settings: &KernelSettings) -> SpaceConfig {
        let size = settings.space_size;
        let path = match &settings.space {
            SpacePlace::Ram => return SpaceConfig::Ram { size },
            SpacePlace::At(path) => path.clone(),
            SpacePlace::Default => directory.join("space"),
        };
        if std::fs::metadata(&path).is_ok_and(|meta| meta.file_type().is_block_device()) {
            SpaceConfig::Device { path }
        } else {
            SpaceConfig::File { path, size }
        }
    }

    /// The target that the kernel exports disks by, at these addresses.
    pub(super) fn lio(names: &SiteNames, portals: Vec<SocketAddr>) -> LioConfig {
        LioConfig { root: LIO_ROOT.into(), portals, target: names::shared_target_iqn(names) }
    }

    /// LIO's target that listens at that address.
    pub(crate) fn listener(address: SocketAddrV4) -> Option<String> {
        lvm::kernel::listener(Path::new(LIO_ROOT), address.into())
    }

    /// Takes from LIO what an earlier process with another engine, or another target, left there: what listens at the
    /// addresses that are wanted now, or all of it where clients' disks are the kernel's still.
    pub(crate) fn give_back(config: &Config, wanted: &[SocketAddrV4]) -> io::Result<()> {
        let wanted = match &config.engine {
            EngineKind::Kernel(settings) if !settings.lio => Vec::new(),
            EngineKind::Embedded => wanted.iter().copied().map(SocketAddr::from).collect(),
            EngineKind::Kernel(_) | EngineKind::Sim => return Ok(()),
        };
        let removed = lvm::kernel::give_back(&lio(&config.names, wanted), DEFAULT_TAG)?;
        removed.iter().for_each(|text| tracing::warn!("{text}"));
        Ok(())
    }

    /// What an engine is opened with.
    pub(super) enum Opened {
        /// The one on device-mapper.
        Devices(KernelConfig),
        /// The one whose disks are files.
        Files(ClonesConfig),
    }

    /// What the engine is opened with whose records are in that directory.
    pub(super) fn config(
        directory: &Path,
        names: &SiteNames,
        portals: Vec<SocketAddr>,
        settings: &KernelSettings,
    ) -> Opened {
        let (tag, directory) = (DEFAULT_TAG.to_owned(), directory.to_owned());
        let lio = settings.lio.then(|| lio(names, portals));
        match overlays(settings) {
            Some(overlays) => Opened::Devices(KernelConfig {
                space: space(&directory, settings),
                directory,
                cache: settings.cache,
                write_cache: settings.write_cache,
                overlays,
                tag,
                lio,
            }),
            None => Opened::Files(ClonesConfig { directory, tag, lio }),
        }
    }

    /// The engine with these settings.
    pub(super) fn open(config: &Config, settings: &KernelSettings) -> Result<Arc<dyn Engine>, EngineError> {
        let portals = config.interfaces.iter();
        let portals = portals.map(|link| SocketAddr::from((link.address, config.iscsi_port))).collect();
        Ok(match self::config(&config.overlay_directory, &config.names, portals, settings) {
            Opened::Devices(config) => Arc::new(Kernel::open(config)?),
            Opened::Files(config) => Arc::new(Clones::open(config)?),
        })
    }
}
