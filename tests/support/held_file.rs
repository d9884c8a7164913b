//! A file that is slow to open, as one on storage that has much else to do.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::{Context, Result, ensure};

/// Takes a lease on the file as soon as nobody has it open (fcntl(2), "Leases"): from then on whoever opens it waits until
/// the lease is given back. The kernel takes it away 45 s after the first of them.
const HOLDER: &str = "
import fcntl, signal, sys, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = open(sys.argv[1], 'r+b')
for _ in range(1200):
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        break
    except BlockingIOError:
        time.sleep(0.1)
else:
    sys.exit('somebody has it open')
print('held', flush=True)
sys.stdin.read()
";

/// A file that nobody can open. Dropping it lets all who wait go on.
#[derive(Debug)]
pub struct HeldFile(Child);

impl HeldFile {
    /// Holds that file, which is no other test's, once nobody has it open.
    ///
    /// # Errors
    /// When its file system knows no leases.
    pub fn new(path: &Path) -> Result<Self> {
        let mut command = Command::new("python3");
        command.args(["-c", HOLDER]).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut held = Self(command.spawn().context("can't start python3")?);
        let told = held.0.stdout.take().context("python3 without an output")?;
        let mut line = String::new();
        BufReader::new(told).read_line(&mut line)?;
        ensure!(line.trim() == "held", "{} can't be held", path.display());
        Ok(held)
    }
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
