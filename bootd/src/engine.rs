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

pub(crate) use kernel::{storage, usable};

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

    /// What disks lie on. The configuration has no kernel engine in such a build, so nobody comes here.
    pub(crate) mod storage {
        use std::io;
        use std::path::{Path, PathBuf};

        use crate::config::{Config, KernelSettings};

        #[allow(dead_code)]
        pub(crate) enum Space {
            File { path: PathBuf, size: String },
            Ram { size: String },
            Ready(PathBuf),
            Blank(PathBuf),
            Foreign(PathBuf, String),
        }

        fn not_built<T>() -> io::Result<T> {
            Err(io::Error::other("this bootd was built without the kernel engine"))
        }

        pub(crate) fn space(_config: &Config, _settings: &KernelSettings) -> io::Result<Space> {
            not_built()
        }

        pub(crate) fn label(_path: &Path) -> io::Result<()> {
            not_built()
        }

        pub(crate) fn status() -> io::Result<String> {
            not_built()
        }

        pub(crate) fn down(_config: &Config) -> io::Result<Vec<String>> {
            not_built()
        }
    }
}

#[cfg(feature = "kernel")]
mod kernel {
    use std::net::SocketAddr;
    use std::os::unix::fs::FileTypeExt;

    use lvm::kernel::{DEFAULT_TAG, KernelConfig, LIO_ROOT, LioConfig, Needs, OverlayKind, SpaceConfig};
    use lvm::{EngineError, names};

    use crate::config::{Config, KernelSettings, SpacePlace};

    fn overlays(settings: &KernelSettings) -> OverlayKind {
        if settings.transient { OverlayKind::Transient } else { OverlayKind::Thin }
    }

    pub(crate) fn usable(settings: &KernelSettings) -> Result<(), EngineError> {
        let cache = settings.cache.is_some() || settings.write_cache.is_some();
        lvm::kernel::check(Needs { overlays: overlays(settings), lio: settings.lio, cache })
    }

    fn space(config: &Config, settings: &KernelSettings) -> SpaceConfig {
        let size = settings.space_size;
        let path = match &settings.space {
            SpacePlace::Ram => return SpaceConfig::Ram { size },
            SpacePlace::At(path) => path.clone(),
            SpacePlace::Default => config.overlay_directory.join("space"),
        };
        if std::fs::metadata(&path).is_ok_and(|meta| meta.file_type().is_block_device()) {
            SpaceConfig::Device { path }
        } else {
            SpaceConfig::File { path, size }
        }
    }

    fn lio(config: &Config) -> LioConfig {
        let portals = config.interfaces.iter();
        let portals = portals.map(|link| SocketAddr::from((link.address, config.iscsi_port))).collect();
        LioConfig { root: LIO_ROOT.into(), portals, target: names::shared_target_iqn(&config.names) }
    }

    pub(super) fn config(config: &Config, settings: &KernelSettings) -> KernelConfig {
        KernelConfig {
            directory: config.overlay_directory.clone(),
            space: space(config, settings),
            cache: settings.cache,
            write_cache: settings.write_cache,
            overlays: overlays(settings),
            tag: DEFAULT_TAG.to_owned(),
            lio: settings.lio.then(|| lio(config)),
        }
    }

    /// What disks lie on.
    pub(crate) mod storage {
        use std::io;
        use std::path::PathBuf;

        pub(crate) use lvm::kernel::label;
        use lvm::kernel::{Contents, DEFAULT_TAG, SpaceConfig};

        use crate::config::{Config, KernelSettings, show_size};

        /// Where overlays lie, and in which state that is.
        pub(crate) enum Space {
            File { path: PathBuf, size: String },
            Ram { size: String },
            Ready(PathBuf),
            Blank(PathBuf),
            Foreign(PathBuf, String),
        }

        pub(crate) fn space(config: &Config, settings: &KernelSettings) -> io::Result<Space> {
            Ok(match super::space(config, settings) {
                SpaceConfig::Ram { size } => Space::Ram { size: show_size(size.0) },
                SpaceConfig::File { path, size } => Space::File { path, size: show_size(size.0) },
                SpaceConfig::Device { path } => match lvm::kernel::contents(&path)? {
                    Contents::Ours => Space::Ready(path),
                    Contents::Blank => Space::Blank(path),
                    Contents::Foreign(what) => Space::Foreign(path, what),
                },
            })
        }

        /// All that the kernel holds for bootd, for people.
        pub(crate) fn status() -> io::Result<String> {
            Ok(lvm::kernel::devices(DEFAULT_TAG)?.iter().map(ToString::to_string).collect())
        }

        /// Removes all of it; what is busy stays, and is named.
        pub(crate) fn down(config: &Config) -> io::Result<Vec<String>> {
            lvm::kernel::remove_target(&super::lio(config), DEFAULT_TAG)?;
            lvm::kernel::remove_all(DEFAULT_TAG)
        }
    }
}
