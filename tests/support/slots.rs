//! How many virtual machines run at once, over all test processes: with more, emulated ones starve each other.

use std::fs::{self, File};

use crate::{Context, Result, cache_dir, fail};

/// How many run at once. More wait.
const SLOTS: usize = 2;

/// The right to run that many virtual machines, given back when dropped (or when the process dies).
#[derive(Debug)]
pub struct VmSlots {
    _locks: Vec<File>,
}

impl VmSlots {
    /// Waits until `count` machines may run.
    ///
    /// # Errors
    /// When more are asked for than there will ever be, or the lock files can't be made.
    pub fn take(count: usize) -> Result<Self> {
        if count > SLOTS {
            fail!("no more than {SLOTS} virtual machines run at once");
        }
        let dir = cache_dir()?;
        // One taker at a time: two that hold one slot each and want two would wait for ever.
        let queue = open(&dir.join("slots.queue"))?;
        queue.lock()?;
        let files: Vec<_> =
            (0..SLOTS).map(|n| open(&dir.join(format!("slot.{n}")))).collect::<Result<_>>()?;
        let locks = crate::wait_for("a free slot for a virtual machine", crate::AGES, || {
            let mut locks = Vec::new();
            for file in &files {
                if locks.len() < count && file.try_lock().is_ok() {
                    locks.push(file.try_clone()?);
                }
            }
            if locks.len() == count {
                return Ok(Some(locks));
            }
            // Locks belong to the open file, which the clones share.
            locks.iter().try_for_each(File::unlock)?;
            Ok(None)
        })?;
        Ok(Self { _locks: locks })
    }
}

fn open(path: &std::path::Path) -> Result<File> {
    fs::OpenOptions::new().create(true).truncate(false).write(true).open(path).context(path.display())
}
