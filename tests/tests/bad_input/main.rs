//! What nobody should send and nothing should be like: bootd lives, says what is wrong, and loses nothing.

mod flood;
mod trouble;

use std::fs;
use std::path::PathBuf;

use support::{Daemon, DaemonOptions, Lab, Result};

const IMAGE: &str = "image";
/// How large the test image is, in bytes.
const IMAGE_SIZE: u64 = 32 << 20;

/// A lab with a daemon and one image.
struct Site {
    daemon: Daemon,
    image: PathBuf,
    lab: Lab,
}

impl Site {
    fn new() -> Result<Option<Self>> {
        match Lab::for_test()? {
            Some(lab) => Self::with(lab, &DaemonOptions::default()).map(Some),
            None => Ok(None),
        }
    }

    fn with(lab: Lab, options: &DaemonOptions) -> Result<Self> {
        let image = lab.dir().join("image.raw");
        fs::File::create(&image)?.set_len(IMAGE_SIZE)?;
        let daemon = Daemon::start_with(&lab, options)?;
        daemon.add_image(IMAGE, &image)?;
        Ok(Self { daemon, image, lab })
    }
}
