//! Who makes the disks: chosen by the configuration, and opened.

use std::sync::Arc;

use caps::Capability;
use lvm::{Embedded, EmbeddedConfig, Engine, EngineError, Sim};

use crate::config::{Config, EngineKind};

/// The configuration with an engine that this machine can run: where the kernel lacks something, the embedded one takes
/// the kernel engine's place if it may. Must come before sockets are opened: which ones, depends on it.
///
/// # Errors
/// When it may not; the text says what is missing.
pub(crate) fn settled(mut config: Config) -> Result<Config, EngineError> {
    if let EngineKind::Kernel(settings) = &config.engine
        && let Err(e) = usable(settings)
    {
        if !settings.fallback {
            return Err(e);
        }
        tracing::warn!("{e}; disks are made by the embedded engine instead");
        config.engine = EngineKind::Embedded;
    }
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
        #[cfg(feature = "kernel")]
        EngineKind::Kernel(settings) => {
            Arc::new(lvm::kernel::Kernel::open(kernel::config(config, settings))?)
        }
        #[cfg(not(feature = "kernel"))]
        EngineKind::Kernel(_) => return Err(kernel::not_built()),
        EngineKind::Sim => Arc::new(Sim::new()),
    })
}

pub(crate) use kernel::usable;

#[cfg(not(feature = "kernel"))]
mod kernel {
    use lvm::EngineError;

    use crate::config::KernelSettings;

    pub(super) fn not_built() -> EngineError {
        let source = std::io::Error::other("this bootd was built without it");
        EngineError::Kernel { what: "run".into(), source }
    }

    pub(crate) fn usable(_settings: &KernelSettings) -> Result<(), EngineError> {
        Err(not_built())
    }
}

#[cfg(feature = "kernel")]
mod kernel {
    use std::net::SocketAddr;
    use std::os::unix::fs::FileTypeExt;

    use lvm::kernel::{DEFAULT_TAG, KernelConfig, LIO_ROOT, LioConfig, OverlayKind, SpaceConfig};
    use lvm::{EngineError, names};

    use crate::config::{Config, KernelSettings};

    fn overlays(settings: &KernelSettings) -> OverlayKind {
        if settings.transient { OverlayKind::Transient } else { OverlayKind::Thin }
    }

    pub(crate) fn usable(settings: &KernelSettings) -> Result<(), EngineError> {
        lvm::kernel::check(overlays(settings), settings.lio)
    }

    pub(super) fn config(config: &Config, settings: &KernelSettings) -> KernelConfig {
        let path = settings.space.clone().unwrap_or_else(|| config.overlay_directory.join("space"));
        let is_device = std::fs::metadata(&path).is_ok_and(|meta| meta.file_type().is_block_device());
        let space = if is_device {
            SpaceConfig::Device { path }
        } else {
            SpaceConfig::File { path, size: settings.space_size }
        };
        let portals = config.interfaces.iter();
        let portals = portals.map(|link| SocketAddr::from((link.address, config.iscsi_port))).collect();
        let lio = settings.lio.then(|| LioConfig {
            root: LIO_ROOT.into(),
            portals,
            target: names::shared_target_iqn(&config.names),
        });
        KernelConfig {
            directory: config.overlay_directory.clone(),
            space,
            overlays: overlays(settings),
            tag: DEFAULT_TAG.to_owned(),
            lio,
        }
    }
}
