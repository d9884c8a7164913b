//! Linux's own iSCSI target, told by configfs what to export. This and `sysfs.rs` are the only writes under `/sys`.
//!
//! ```text
//! core/iblock_20260/DISK                 a disk that is a device, with the identity that the embedded target gives it
//! core/fileio_20260/DISK                 a disk that is a file, likewise
//! iscsi/TARGET/tpgt_1/np/ADDRESS:PORT    the one target, where it is found
//! iscsi/TARGET/tpgt_1/lun/lun_N/DISK     -> the disk
//! iscsi/TARGET/tpgt_1/acls/INITIATOR     who may log in, with its secret
//!                     .../lun_0/disk     -> lun_N: what it sees, and nothing else
//! ```
//!
//! What LIO is known to do badly, and what is done about it:
//! - To take down a target, or only a portal of it, breaks off every log-in that is under way at that address, and after
//!   days it can hang (open-iscsi/targetcli-fb#178). So there is one target for all clients, and it is never taken down: a
//!   boot is an entry in its list of initiators. The secret, which is new at each boot, keeps out what is left of an
//!   earlier one, as the target's name does in the embedded engine.
//! - Its files don't take two writers well: all work is done by one thread, one disk after the other.
//! - A write can hang for ever, and then nothing ends the thread that made it: whoever waits gives up after
//!   [`STEP_LIMIT`], and from then on is told at once which step hangs.
//!
//! A target of another name that has disks of ours is ours, too, from before the name changed ([`targets`](super::targets)):
//! it serves the disks that it has until they end, and gets no other.

mod backing;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use block::SECTOR_SIZE;
use parking_lot::Mutex;

use self::backing::GROUPS;
pub(super) use self::backing::{Backing, DEVICES, FILES};
use super::targets::mark;
use super::{fault, sessions};
use crate::names::parse_dm_name;
use crate::{Export, Refusals, Session};

/// LIO's folder of configfs.
pub const ROOT: &str = "/sys/kernel/config/target";

/// What the link from an initiator's entry to its unit is called.
const MAPPED: &str = "disk";

/// Units that the target can have.
const MAX_LUNS: u32 = 65_535;

/// How long one step may take. A healthy one takes milliseconds, and the end of a session that has requests under way
/// as long as the slowest of them.
pub(super) const STEP_LIMIT: Duration = Duration::from_secs(20);

/// Disks that wait to be exported or ended, at most; more are refused.
const MAX_QUEUE: usize = 4096;

/// What is exported by LIO, and where.
#[derive(Debug, Clone)]
pub struct LioConfig {
    /// LIO's folder of configfs: [`ROOT`].
    pub root: PathBuf,
    /// The addresses at which the target is found.
    pub portals: Vec<SocketAddr>,
    /// The target's name. Targets of other names are somebody else's, if they have no disks of ours.
    pub target: String,
}

type Work = Box<dyn FnOnce(&Files) -> io::Result<()> + Send>;

/// The way to LIO.
pub(super) struct Lio {
    queue: Sender<(Work, Sender<io::Result<()>>)>,
    pub(super) files: Arc<Files>,
    step_limit: Duration,
    thread: JoinHandle<()>,
}

/// LIO's files, and which of them is being written.
pub(super) struct Files {
    pub(super) config: LioConfig,
    pub(super) tag: String,
    step: Arc<Mutex<Option<(String, Instant)>>>,
    waiting: Mutex<usize>,
    /// Those of the targets of earlier names.
    pub(super) earlier: OnceLock<Vec<Files>>,
    /// What whoever runs the site should know.
    pub(super) notices: Mutex<Vec<String>>,
}

impl Lio {
    /// Opens the target. What an earlier process exported is as it was.
    pub(super) fn open(config: LioConfig, tag: &str) -> io::Result<Self> {
        Self::open_within(config, tag, STEP_LIMIT)
    }

    fn open_within(config: LioConfig, tag: &str, step_limit: Duration) -> io::Result<Self> {
        check(&config.root)?;
        let lio = Self::start(config, tag, step_limit)?;
        lio.work(Box::new(|files| {
            files.directory(&files.config.root.join("iscsi"))?;
            files.keep_reservations();
            files.find_earlier();
            files.open_target()
        }))?;
        Ok(lio)
    }

    /// The thread that does the work, with nothing done yet.
    pub(super) fn start(config: LioConfig, tag: &str, step_limit: Duration) -> io::Result<Self> {
        let files = Arc::new(Files::of(config, tag, Arc::default()));
        let (queue, work) = channel::<(Work, Sender<io::Result<()>>)>();
        let thread_files = Arc::clone(&files);
        let thread = std::thread::Builder::new().name("bootd-lio".into()).spawn(move || {
            for (work, done) in work {
                let result = work(&thread_files);
                *thread_files.step.lock() = None;
                *thread_files.waiting.lock() -= 1;
                // Whoever asked may have given up.
                let _ = done.send(result);
            }
        })?;
        Ok(Self { queue, files, step_limit, thread })
    }

    /// Exports `backing` as `export` says, under the name `disk` among LIO's disks.
    pub(super) fn export(&self, disk: &str, backing: Backing, export: &Export) -> io::Result<()> {
        let (disk, export) = (disk.to_owned(), export.clone());
        self.work(Box::new(move |files| {
            files.make(&disk, &backing, &export).inspect_err(|_| {
                // What is left of it is found by the next look.
                let _ = files.remove(&disk);
            })
        }))
    }

    /// Ends the export of that disk: its sessions are closed and nobody may log in to it.
    pub(super) fn unexport(&self, disk: &str) -> io::Result<()> {
        let disk = disk.to_owned();
        self.work(Box::new(move |files| files.remove(&disk)))
    }

    /// The disks that are exported as a whole, each with the initiator that may log in to it.
    pub(super) fn exported(&self) -> Vec<(String, String)> {
        let of = |files: &Files| {
            let luns = files.luns();
            let disk_of = |lun: &str| luns.iter().find(|(one, _)| one == lun).map(|(_, disk)| disk.clone());
            let entries = files.entries().into_iter();
            entries.filter_map(|(initiator, lun)| Some((disk_of(&lun?)?, initiator))).collect::<Vec<_>>()
        };
        self.files.all().flat_map(of).collect()
    }

    /// The newest session of that initiator: after a change of name, it may still be at the old target.
    pub(super) fn session(&self, initiator: &str) -> Option<Session> {
        self.files.all().find_map(|files| sessions::session(&files.entry(initiator)))
    }

    /// The log-ins that the target has refused.
    pub(super) fn refusals(&self) -> Option<Refusals> {
        sessions::refusals(self.files.group().parent()?)
    }

    /// Whether that disk is exported as a whole, to that initiator. Unlike [`exported`](Self::exported) it looks at
    /// nobody else's: when a room is switched on, that would be most of the work.
    pub(super) fn is_exported(&self, disk: &str, initiator: &str) -> bool {
        self.files.all().any(|files| {
            let shown = files.shown(initiator);
            shown.is_some_and(|lun| files.group().join("lun").join(lun).join(disk).is_symlink())
        })
    }

    /// Removes all of ours but the disks of these names that are exported as a whole.
    pub(super) fn keep_only(&self, disks: &[String]) -> io::Result<()> {
        let whole = self.exported().into_iter().map(|(disk, _)| disk);
        let keep: Vec<_> = whole.filter(|disk| disks.contains(disk)).collect();
        self.work(Box::new(move |files| {
            files.clear(&keep)?;
            files.end_earlier();
            Ok(())
        }))
    }

    /// Ends, with its thread, and says what whoever runs the site should know.
    pub(super) fn finish(self) -> Vec<String> {
        let notices = self.notices();
        drop(self.queue);
        let _ = self.thread.join();
        notices
    }

    /// What whoever runs the site should know, once.
    pub(super) fn notices(&self) -> Vec<String> {
        std::mem::take(&mut *self.files.notices.lock())
    }

    pub(super) fn work(&self, work: Work) -> io::Result<()> {
        {
            let mut waiting = self.files.waiting.lock();
            if *waiting >= MAX_QUEUE {
                return Err(io::Error::other("too many disks wait for LIO"));
            }
            *waiting += 1;
        }
        let gone = || io::Error::other("the thread that tells LIO what to do has ended; start bootd again");
        let (done, result) = channel();
        self.queue.send((work, done)).map_err(|_| gone())?;
        loop {
            match result.recv_timeout(Duration::from_millis(200)) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Disconnected) => return Err(gone()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let step = self.files.step.lock().clone();
            if let Some((step, since)) = step.filter(|(_, since)| since.elapsed() > self.step_limit) {
                let text = format!(
                    "LIO has not finished \"{step}\" for {} s, and nothing but a restart of this machine ends that; \
                     clients that run go on. With kind = \"embedded\" in [engine] bootd does without LIO",
                    since.elapsed().as_secs()
                );
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
        }
    }
}

/// Makes sure that LIO can be told what to do, its modules being loaded.
pub(super) fn check(root: &Path) -> io::Result<()> {
    if root.is_dir() {
        return Ok(());
    }
    let text = format!(
        "{} is not there, by which LIO is told what to export; mount configfs: mount -t configfs configfs /sys/kernel/config",
        root.display()
    );
    Err(io::Error::new(io::ErrorKind::NotFound, text))
}

/// The target that listens at that address, of those below `root`. Changes nothing.
#[must_use]
pub fn listener(root: &Path, address: SocketAddr) -> Option<String> {
    let iscsi = root.join("iscsi");
    let listens = |target: &String| {
        let portals = names(&iscsi.join(target).join("tpgt_1/np"));
        portals.iter().filter_map(|portal| portal.parse::<SocketAddr>().ok()).any(|portal| {
            portal.port() == address.port() && (portal.ip() == address.ip() || portal.ip().is_unspecified())
        })
    };
    names(&iscsi).into_iter().find(listens)
}

impl Files {
    pub(super) fn of(config: LioConfig, tag: &str, step: Arc<Mutex<Option<(String, Instant)>>>) -> Self {
        let (waiting, earlier, notices) = (Mutex::default(), OnceLock::new(), Mutex::default());
        Self { config, tag: tag.to_owned(), step, waiting, earlier, notices }
    }

    /// Of a target of another name: its steps are steps of the same thread.
    pub(super) fn of_target(&self, target: String) -> Self {
        Self::of(LioConfig { target, ..self.config.clone() }, &self.tag, Arc::clone(&self.step))
    }

    /// These, and those of the targets of earlier names.
    pub(super) fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.earlier.get().into_iter().flatten())
    }

    /// The folders of our disks.
    fn groups(&self) -> [PathBuf; 2] {
        GROUPS.map(|group| self.config.root.join("core").join(group))
    }

    /// The disk of that name.
    fn disk(&self, name: &str) -> Option<PathBuf> {
        self.groups().map(|group| group.join(name)).into_iter().find(|disk| disk.is_dir())
    }

    /// The entry of that initiator.
    pub(super) fn entry(&self, initiator: &str) -> PathBuf {
        self.group().join("acls").join(initiator)
    }

    /// The one target's group.
    pub(super) fn group(&self) -> PathBuf {
        self.config.root.join("iscsi").join(&self.config.target).join("tpgt_1")
    }

    /// The target's units that have a disk: the unit's name, and the disk's.
    pub(super) fn luns(&self) -> Vec<(String, String)> {
        let luns = self.group().join("lun");
        let with_disk = |lun: String| {
            let mut links = names(&luns.join(&lun)).into_iter();
            let disk = links.find(|link| luns.join(&lun).join(link).is_symlink())?;
            Some((lun, disk))
        };
        names(&luns).into_iter().filter_map(with_disk).collect()
    }

    /// The unit that is shown to an initiator, if one is.
    fn shown(&self, initiator: &str) -> Option<String> {
        let unit = self.group().join("acls").join(initiator).join("lun_0").join(MAPPED);
        Some(fs::read_link(unit).ok()?.file_name()?.to_string_lossy().into_owned())
    }

    /// Who may log in, and which unit is shown to it if one is by now.
    pub(super) fn entries(&self) -> Vec<(String, Option<String>)> {
        let mark = mark(&self.tag);
        let initiators = names(&self.group().join("acls")).into_iter().filter(|name| *name != mark);
        initiators.map(|initiator| (initiator.clone(), self.shown(&initiator))).collect()
    }

    /// LIO writes persistent reservations to a folder, and fails them where it is not there.
    fn keep_reservations(&self) {
        let root = fs::read_to_string(self.config.root.join("dbroot")).unwrap_or_default();
        let root = if root.trim().is_empty() { "/var/target" } else { root.trim() };
        for folder in ["pr", "alua"] {
            // Without it there are no persistent reservations, which no client of one disk of its own needs.
            let _ = fs::create_dir_all(Path::new(root).join(folder));
        }
    }

    /// Makes the target, or leaves it as it is.
    fn open_target(&self) -> io::Result<()> {
        let group = self.group();
        if let Some(target) = group.parent() {
            self.directory(target)?;
        }
        self.directory(&group)?;
        for (attribute, value) in
            [("authentication", "1"), ("generate_node_acls", "0"), ("demo_mode_discovery", "0")]
        {
            self.write(&group.join("attrib").join(attribute), value)?;
        }
        self.directory(&self.entry(&mark(&self.tag)))?;
        self.close_portals();
        for portal in &self.config.portals {
            let hint =
                |e: io::Error| io::Error::new(e.kind(), format!("{e}; does another target listen there?"));
            self.directory(&group.join("np").join(portal.to_string())).map_err(hint)?;
        }
        if !fs::read_to_string(group.join("enable")).is_ok_and(|text| text.trim() == "1") {
            self.write(&group.join("enable"), "1")?;
        }
        Ok(())
    }

    fn begin(&self, what: &str, path: &Path) -> String {
        let shown = path.strip_prefix(&self.config.root).unwrap_or(path).display();
        let step = format!("{what} {shown}");
        *self.step.lock() = Some((step.clone(), Instant::now()));
        step
    }

    pub(super) fn step(
        &self,
        what: &str,
        path: &Path,
        work: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let step = self.begin(what, path);
        work().map_err(|e| io::Error::new(e.kind(), format!("LIO: {step}: {e}")))
    }

    fn directory(&self, path: &Path) -> io::Result<()> {
        self.step("make", path, || match fs::create_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        })
    }

    pub(super) fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        self.step("write", path, || {
            fs::OpenOptions::new().write(true).open(path).and_then(|mut file| {
                // In one piece: each write is a message of its own.
                io::Write::write_all(&mut file, text.as_bytes())
            })
        })
    }

    fn link(&self, to: &Path, path: &Path) -> io::Result<()> {
        self.step("link", path, || symlink(to, path))
    }

    pub(super) fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.step("remove", path, || gone_is_fine(fs::remove_dir(path)))
    }

    fn remove_link(&self, path: &Path) -> io::Result<()> {
        self.step("remove", path, || gone_is_fine(fs::remove_file(path)))
    }

    fn make(&self, name: &str, backing: &Backing, export: &Export) -> io::Result<()> {
        let disk = self.make_disk(name, backing, export)?;
        fault::here("lio-disk");
        let luns = self.group().join("lun");
        let taken = names(&luns);
        let free = (0..MAX_LUNS).map(|number| format!("lun_{number}")).find(|lun| !taken.contains(lun));
        let lun = luns.join(free.ok_or_else(|| io::Error::other("LIO has no unit left for another disk"))?);
        self.directory(&lun)?;
        self.link(&disk, &lun.join(name))?;
        fault::here("lio-lun");
        let acl = self.group().join("acls").join(&export.initiator);
        // The last boot's, if there is one: its sessions end here.
        self.remove_entry(&export.initiator)?;
        self.directory(&acl)?;
        fault::here("lio-acl");
        // iPXE answers no pings.
        self.write(&acl.join("attrib/nopin_timeout"), "0")?;
        self.write(&acl.join("auth/userid"), &export.user)?;
        self.write(&acl.join("auth/password"), &export.secret)?;
        fault::here("lio-secret");
        let mapped = acl.join("lun_0");
        self.directory(&mapped)?;
        // Last: an entry that shows a unit is whole.
        self.link(&lun, &mapped.join(MAPPED))?;
        fault::here("lio-mapped");
        Ok(())
    }

    /// The disk, with what INQUIRY says of it. All of that is told before the disk is exported: later LIO takes none.
    fn make_disk(&self, name: &str, backing: &Backing, export: &Export) -> io::Result<PathBuf> {
        let group = self.config.root.join("core").join(backing.group());
        self.directory(&group)?;
        let disk = group.join(name);
        self.directory(&disk)?;
        if let Backing::File(path, _) = backing
            && !path.is_file()
        {
            // LIO would make one, of zeros.
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("{}: it is gone", path.display())));
        }
        self.write(&disk.join("control"), &backing.control())?;
        self.write(&disk.join("udev_path"), &backing.path().display().to_string())?;
        self.write(&disk.join("enable"), "1")?;
        if let Backing::File(..) = backing {
            // With a cache for writing LIO has the client flush, and forces all of the file to the medium each time:
            // for a disk that a start of the machine ends, that is work for nothing.
            self.write(&disk.join("attrib/emulate_write_cache"), "0")?;
            // What is discarded becomes a hole.
            let _ = self.write(&disk.join("attrib/unmap_zeroes_data"), "1");
            self.check_sector_size(&disk)?;
        }
        for (file, value) in [
            ("vendor_id", &export.vendor),
            ("product_id", &export.product),
            ("revision", &export.revision),
            ("vpd_unit_serial", &export.serial),
        ] {
            self.write(&disk.join("wwn").join(file), value)?;
        }
        // As the embedded engine says: what lies on a disk that turns, systems defragment.
        self.write(&disk.join("attrib/is_nonrot"), "1")?;
        // Where the device can't discard, LIO refuses this, and clients are told so.
        let _ = self.write(&disk.join("attrib/emulate_tpu"), "1");
        Ok(disk)
    }

    fn check_sector_size(&self, disk: &Path) -> io::Result<()> {
        let path = disk.join("attrib/block_size");
        self.step("read", &path, || {
            let size = fs::read_to_string(&path)?;
            if size.trim() == SECTOR_SIZE.to_string() {
                return Ok(());
            }
            let size = size.trim();
            Err(io::Error::other(format!(
                "sectors of {size} bytes, and clients' disks must have {SECTOR_SIZE}"
            )))
        })
    }

    /// Ends the export of that disk, in whatever state it is: first its sessions, then what stands on others.
    fn remove(&self, name: &str) -> io::Result<()> {
        // What stands on it goes before it.
        let Some(disk) = self.disk(name) else { return Ok(()) };
        self.all().try_for_each(|files| files.remove_units(name))?;
        self.remove_directory(&disk)?;
        fault::here("lio-disk-removed");
        Ok(())
    }

    fn remove_units(&self, name: &str) -> io::Result<()> {
        for (lun, _) in self.luns().into_iter().filter(|(_, disk)| disk == name) {
            for (initiator, _) in self.entries().into_iter().filter(|(_, shown)| shown.as_ref() == Some(&lun))
            {
                self.remove_entry(&initiator)?;
            }
            fault::here("lio-acl-removed");
            self.remove_with_links(&self.group().join("lun").join(lun))?;
            fault::here("lio-lun-removed");
        }
        Ok(())
    }

    fn remove_entry(&self, initiator: &str) -> io::Result<()> {
        let acl = self.group().join("acls").join(initiator);
        for mapped in names(&acl).into_iter().filter(|name| name.starts_with("lun_")) {
            self.remove_with_links(&acl.join(mapped))?;
        }
        self.remove_directory(&acl)
    }

    /// Removes all entries, units and disks but those of the disks of these names.
    pub(super) fn clear(&self, keep: &[String]) -> io::Result<()> {
        self.all().try_for_each(|files| files.clear_units(keep))?;
        let ours = |disk: &String| parse_dm_name(&self.tag, disk).is_some();
        for group in self.groups() {
            for disk in names(&group).into_iter().filter(|disk| ours(disk) && !keep.contains(disk)) {
                self.remove_directory(&group.join(disk))?;
            }
        }
        Ok(())
    }

    pub(super) fn clear_units(&self, keep: &[String]) -> io::Result<()> {
        let luns = self.luns();
        let kept = |lun: &str| luns.iter().any(|(one, disk)| one == lun && keep.contains(disk));
        for (initiator, shown) in self.entries() {
            if !shown.is_some_and(|lun| kept(&lun)) {
                self.remove_entry(&initiator)?;
            }
        }
        for lun in names(&self.group().join("lun")).into_iter().filter(|lun| !kept(lun)) {
            self.remove_with_links(&self.group().join("lun").join(lun))?;
        }
        Ok(())
    }

    fn remove_with_links(&self, directory: &Path) -> io::Result<()> {
        for link in names(directory).into_iter().map(|name| directory.join(name)).filter(|p| p.is_symlink()) {
            self.remove_link(&link)?;
        }
        self.remove_directory(directory)
    }
}

fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The names in a directory; none where it can't be read.
pub(super) fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests;
