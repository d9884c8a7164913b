//! Names that say who made a thing, so that what a killed run left is found and removed by the next one.
//!
//! `bootd-lab-<process id>-<its start time>-<number>[-<part>]`: process ids are used again, pairs of process id and
//! start time are not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::id;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Context, Result, sh};

const PREFIX: &str = "bootd-lab-";

/// Where `ip netns` keeps its names.
const NAMESPACES: &str = "/run/netns";

/// A name that nothing else has.
pub(crate) fn unique_name() -> Result<String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let start = start_time(id()).context("can't read /proc/self/stat")?;
    Ok(format!("{PREFIX}{}-{start}-{}", id(), COUNT.fetch_add(1, Ordering::Relaxed)))
}

/// Where scratch files of a lab lie.
pub(crate) fn scratch_dir(name: &str) -> PathBuf {
    std::env::temp_dir().join(name)
}

/// Removes what runs left that are no more. Once per process; what can't be removed is left for the next time.
pub fn sweep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for name in entries(Path::new(NAMESPACES)).filter(|name| is_orphan(name)) {
            remove_namespace(&name);
        }
        for name in entries(&std::env::temp_dir()).filter(|name| is_orphan(name)) {
            remove_scratch_dir(&scratch_dir(&name));
        }
    });
}

/// Ends what runs in the namespace, then removes it. Interfaces in it go with it.
pub(crate) fn remove_namespace(name: &str) {
    for pid in sh(&["ip", "netns", "pids", name]).unwrap_or_default().lines() {
        if let Ok(pid) = pid.trim().parse() {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    let _ = sh(&["ip", "netns", "del", name]);
}

/// Removes the directory with everything in it, after unmounting what is mounted there.
pub(crate) fn remove_scratch_dir(dir: &Path) {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for place in places.filter(|place| Path::new(place).starts_with(dir)) {
        let _ = sh(&["umount", "-l", place]);
    }
    let _ = fs::remove_dir_all(dir);
}

/// The names of every lab part that this process made and that is still there.
#[must_use]
pub fn mine() -> Vec<String> {
    let all = entries(Path::new(NAMESPACES)).chain(entries(&std::env::temp_dir()));
    all.filter(|name| maker(name).is_some_and(|(pid, _)| pid == id())).collect()
}

fn is_orphan(name: &str) -> bool {
    maker(name).is_some_and(|(pid, start)| start_time(pid) != Some(start))
}

fn maker(name: &str) -> Option<(u32, u64)> {
    let mut parts = name.strip_prefix(PREFIX)?.split('-');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// When that process started, in clock ticks since the machine's start; `None`: there is none.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets, which may hold blanks and brackets. Start time is field 22.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

fn entries(dir: &Path) -> impl Iterator<Item = String> + use<> {
    let found = fs::read_dir(dir).into_iter().flatten().flatten();
    found.filter_map(|entry| entry.file_name().as_os_str().to_str().map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_dead_processes_made_is_an_orphan() {
        let own = unique_name().unwrap();
        assert!(!is_orphan(&own), "{own}");
        assert!(!is_orphan(&format!("{own}-switch")));
        // The same process id with another start time is another process, long gone.
        assert!(is_orphan(&format!("{PREFIX}{}-1-0", id())));
        for foreign in ["bootd-lab-x-1-0", "lab", "bootd-lab-", ""] {
            assert!(!is_orphan(foreign), "{foreign}");
        }
    }
}
