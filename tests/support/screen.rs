//! What a virtual machine has on its screen, which its serial console shows of no graphics.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use crate::{AGES, Context, Lab, Result, fail};

/// The screen of a machine that was started with [`Screen::words`].
#[derive(Debug)]
pub struct Screen {
    socket: PathBuf,
    picture: PathBuf,
}

impl Screen {
    /// That of one machine in the lab.
    #[must_use]
    pub fn new(lab: &Lab) -> Self {
        Self { socket: lab.dir().join("qmp"), picture: lab.dir().join("screen.ppm") }
    }

    /// What QEMU has to be told.
    #[must_use]
    pub fn words(&self) -> [String; 2] {
        ["-qmp".to_owned(), format!("unix:{},server=on,wait=off", self.socket.display())]
    }

    /// How wide and high it is, and of how many colours; `None`: QEMU does not listen yet.
    ///
    /// # Errors
    /// When the machine is no more.
    pub fn look(&self) -> Result<Option<(u32, u32, usize)>> {
        let mut stream = match UnixStream::connect(&self.socket) {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            connected => connected.context(self.socket.display())?,
        };
        stream.set_read_timeout(Some(AGES))?;
        let file = serde_json::json!({ "filename": self.picture });
        for order in [
            serde_json::json!({ "execute": "qmp_capabilities" }),
            serde_json::json!({ "execute": "screendump", "arguments": file, "id": "picture" }),
        ] {
            writeln!(stream, "{order}")?;
        }
        let mut lines = BufReader::new(stream).lines();
        loop {
            let line = lines.next().context("QEMU hung up")??;
            let told: serde_json::Value = serde_json::from_str(&line)?;
            if told.get("error").is_some() {
                fail!("QEMU made no picture: {told}");
            }
            if told["id"] == "picture" {
                break;
            }
        }
        // P6, width and height, the largest value: a line each; then three bytes for each point.
        let picture = fs::read(&self.picture).context(self.picture.display())?;
        let mut parts = picture.splitn(4, |byte| *byte == b'\n');
        let mut next = || parts.next().context("half a picture");
        let (kind, size, _, points) = (next()?, next()?, next()?, next()?);
        let size = String::from_utf8_lossy(size);
        let Some((width, height)) = size.split_once(' ').filter(|_| kind == b"P6") else {
            fail!("no picture: {size:?}");
        };
        let colours: BTreeSet<&[u8]> = points.chunks(3).collect();
        Ok(Some((width.parse()?, height.parse()?, colours.len())))
    }
}
