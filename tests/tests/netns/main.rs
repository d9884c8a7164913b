//! bootd and the tools that everyone has, on a network of their own: no machine is emulated, so these take seconds.

mod boots;
mod crafted;
mod database;
mod dhcp;
mod disks;
mod files;
mod guides;
mod links;
mod menus;
mod neighbours;
mod programs;
mod proxy;
mod tftp;

use std::fs;
use std::path::PathBuf;

use support::{Daemon, DaemonOptions, Lab, Result};

const IMAGE: &str = "pattern";

/// How large the test image is, in bytes.
const IMAGE_SIZE: usize = 64 << 20;

/// A lab with a daemon and one image, of which every block is different.
struct Site {
    daemon: Daemon,
    image: PathBuf,
    lab: Lab,
}

impl Site {
    fn new() -> Result<Option<Self>> {
        Self::with(&DaemonOptions::default())
    }

    fn with(options: &DaemonOptions) -> Result<Option<Self>> {
        let Some(lab) = Lab::for_test()? else { return Ok(None) };
        Self::in_lab(lab, options).map(Some)
    }

    fn in_lab(lab: Lab, options: &DaemonOptions) -> Result<Self> {
        let image = lab.dir().join("pattern.raw");
        // Each block of 8 bytes is its own number.
        let pattern: Vec<u8> = (0..IMAGE_SIZE as u64 / 8).flat_map(u64::to_le_bytes).collect();
        fs::write(&image, pattern)?;
        let daemon = Daemon::start_with(&lab, options)?;
        daemon.add_image(IMAGE, &image)?;
        Ok(Self { daemon, image, lab })
    }
}
