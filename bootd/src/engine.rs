//! Who makes the disks: chosen by the configuration, and opened.

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

use crate::config::{Config, EngineKind};

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
    config.engine = match usable(&settled.kernel) {
        Ok(()) => {
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
    match config.engine {
        // Device-mapper asks for nothing less, each time.
        EngineKind::Kernel(_) => &[Capability::CAP_SYS_ADMIN],
        EngineKind::Embedded | EngineKind::Sim => &[],
    }
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
    use std::sync::Arc;

    use lvm::{Engine, EngineError};

    use crate::config::{Config, KernelSettings};

    fn not_built() -> EngineError {
        let source = io::Error::other("this bootd was built without it");
        EngineError::Kernel { what: "run".into(), source }
    }

    pub(crate) fn usable(_settings: &KernelSettings) -> Result<(), EngineError> {
        Err(not_built())
    }

    pub(crate) fn listener(_address: SocketAddrV4) -> Option<String> {
        None
    }

    pub(crate) fn give_back(_config: &Config, _wanted: &[SocketAddrV4]) -> io::Result<()> {
        Ok(())
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
        DEFAULT_TAG, Kernel, KernelConfig, LIO_ROOT, LioConfig, Needs, OverlayKind, SpaceConfig,
    };
    use lvm::names::SiteNames;
    use lvm::{Engine, EngineError, names};

    use crate::config::{Config, EngineKind, KernelSettings, SpacePlace};

    fn overlays(settings: &KernelSettings) -> OverlayKind {
        if settings.transient { OverlayKind::Transient } else { OverlayKind::Thin }
    }

    pub(crate) fn usable(settings: &KernelSettings) -> Result<(), EngineError> {
        let cache = settings.cache.is_some() || settings.write_cache.is_some();
        lvm::kernel::check(Needs { overlays: overlays(settings), lio: settings.lio, cache })
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

    /// What the engine is opened with whose records are in that directory.
    pub(super) fn config(
        directory: &Path,
        names: &SiteNames,
        portals: Vec<SocketAddr>,
        settings: &KernelSettings,
    ) -> KernelConfig {
        KernelConfig {
            directory: directory.to_owned(),
            space: space(directory, settings),
            cache: settings.cache,
            write_cache: settings.write_cache,
            overlays: overlays(settings),
            tag: DEFAULT_TAG.to_owned(),
            lio: settings.lio.then(|| lio(names, portals)),
        }
    }

    /// The engine with these settings.
    pub(super) fn open(config: &Config, settings: &KernelSettings) -> Result<Arc<dyn Engine>, EngineError> {
        let portals = config.interfaces.iter();
        let portals = portals.map(|link| SocketAddr::from((link.address, config.iscsi_port))).collect();
        let config = self::config(&config.overlay_directory, &config.names, portals, settings);
        Ok(Arc::new(Kernel::open(config)?))
    }
}
