//! Files as block devices. Each frees itself when the last who has it open closes it, so a process that is killed in
//! the middle leaves none behind.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use block::{Bytes, SECTOR_SIZE};
use devicemapper::Device;
use loopdev::{LoopControl, LoopDevice};
use rustix::fs::MemfdFlags;

use super::sysfs;

/// How often another process may get ahead of us.
const ATTEMPTS: usize = 20;

const EBUSY: i32 = 16;

/// A file as a device, held open.
pub(super) struct Loop {
    device: Device,
    open: LoopDevice,
}

impl Loop {
    /// The file as a device; one that was opened for reading makes a read-only device. Reads and writes go through the
    /// page cache, which all who use the file share.
    pub(super) fn attach(file: &File) -> io::Result<Self> {
        let control = LoopControl::open().map_err(|e| {
            io::Error::new(e.kind(), format!("/dev/loop-control: {e}; load it: modprobe loop"))
        })?;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let open = control.next_free()?;
            match open.with().autoclear(true).attach_fd(file.as_raw_fd()) {
                Ok(()) => {
                    let device = Device { major: open.major()?, minor: open.minor()? };
                    sysfs::check_sector_size(device, "a loop device")?;
                    return Ok(Self { device, open });
                }
                Err(e) if e.raw_os_error() == Some(EBUSY) => last = Some(e),
                Err(e) => return Err(e),
            }
        }
        Err(last.unwrap_or_else(|| io::ErrorKind::ResourceBusy.into()))
    }

    /// A file in memory as a device: RAM that is taken as it is written to, at most that many bytes, and given back when
    /// the device is gone. The name is what the device's file is called.
    pub(super) fn of_ram(name: &str, size: Bytes) -> io::Result<Self> {
        let file = File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?);
        file.set_len(size.0 / u64::from(SECTOR_SIZE) * u64::from(SECTOR_SIZE))?;
        let looped = Self::attach(&file)?;
        sysfs::drop_flushes(looped.device)?;
        Ok(looped)
    }

    /// Has it read and write the file past the page cache, if the file can.
    pub(super) fn past_the_page_cache(&self) {
        // A file system that can't, such as one in memory, is read as before.
        let _ = self.open.set_direct_io(true);
    }

    pub(super) fn device(&self) -> Device {
        self.device
    }
}
