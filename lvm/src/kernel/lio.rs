//! Linux's own iSCSI target, told by configfs what to export. This and `sysfs.rs` are the only writes under `/sys`.
//!
//! ```text
//! core/iblock_20260/NAME                 a disk, with the identity that the embedded target gives it
//! iscsi/IQN/tpgt_1/np/ADDRESS:PORT       where its target is found: the one portal that all targets share
//! iscsi/IQN/tpgt_1/lun/lun_0/NAME        -> the disk
//! iscsi/IQN/tpgt_1/acls/INITIATOR        the one initiator that may log in, with its secret
//! ```
//!
//! What LIO is known to do badly, and what is done about it:
//! - It can hang when a portal is taken down while others use it (open-iscsi/targetcli-fb#178): a target without disks
//!   holds the portal from the start to the end, so that taking down a client's target never closes it.
//! - Its files don't take two writers well: all work is done by one thread, one target after the other.
//! - A write can hang for ever, and then nothing ends the thread that made it: whoever waits gives up after
//!   [`STEP_LIMIT`], and from then on is told at once which step hangs.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::fault;
use crate::Export;
use crate::names::parse_dm_name;

/// LIO's folder of configfs.
pub const ROOT: &str = "/sys/kernel/config/target";

/// The number of our group of disks. `targetcli` counts its own from 0 up.
const GROUP: &str = "iblock_20260";

/// How long one step may take. A healthy one takes milliseconds, and the end of a session that has requests under way
/// as long as the slowest of them.
const STEP_LIMIT: Duration = Duration::from_secs(20);

/// Targets that wait to be made or ended, at most; more are refused.
const MAX_QUEUE: usize = 4096;

/// What is exported by LIO, and where.
#[derive(Debug, Clone)]
pub struct LioConfig {
    /// LIO's folder of configfs: [`ROOT`].
    pub root: PathBuf,
    /// The addresses at which all targets are found.
    pub portals: Vec<SocketAddr>,
    /// What the names of all our targets begin with. Targets with other names are somebody else's.
    pub prefix: String,
}

type Work = Box<dyn FnOnce(&Files) -> io::Result<()> + Send>;

/// The way to LIO.
pub(super) struct Lio {
    queue: Sender<(Work, Sender<io::Result<()>>)>,
    files: Arc<Files>,
}

/// LIO's files, and which of them is being written.
struct Files {
    config: LioConfig,
    tag: String,
    step: Mutex<Option<(String, Instant)>>,
    waiting: Mutex<usize>,
}

impl Lio {
    /// Opens the portal. Targets of an earlier process are as they were.
    pub(super) fn open(config: LioConfig, tag: &str) -> io::Result<Self> {
        let iscsi = config.root.join("iscsi");
        if !config.root.is_dir() {
            let text = format!(
                "{} is not there; load LIO: modprobe -a target_core_iblock iscsi_target_mod, and mount configfs at \
                 /sys/kernel/config",
                config.root.display()
            );
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        make_directory(&iscsi)?;
        let tag = tag.to_owned();
        let files = Arc::new(Files { config, tag, step: Mutex::default(), waiting: Mutex::default() });
        files.keep_reservations();
        files.open_portals()?;
        let (queue, work) = channel::<(Work, Sender<io::Result<()>>)>();
        let thread_files = Arc::clone(&files);
        std::thread::Builder::new().name("bootd-lio".into()).spawn(move || {
            for (work, done) in work {
                let result = work(&thread_files);
                *thread_files.step.lock() = None;
                *thread_files.waiting.lock() -= 1;
                // Whoever asked may have given up.
                let _ = done.send(result);
            }
        })?;
        Ok(Self { queue, files })
    }

    /// Exports the device `node` as `export` says, under the name `disk` among LIO's disks.
    pub(super) fn export(&self, disk: &str, node: &Path, export: &Export) -> io::Result<()> {
        let (disk, node, export) = (disk.to_owned(), node.to_owned(), export.clone());
        self.work(Box::new(move |files| {
            files.make(&disk, &node, &export).inspect_err(|_| {
                // What is left of it is found by the next look.
                let _ = files.remove(&disk);
            })
        }))
    }

    /// Ends the export of that disk: its sessions are closed and its target is gone.
    pub(super) fn unexport(&self, disk: &str) -> io::Result<()> {
        let disk = disk.to_owned();
        self.work(Box::new(move |files| files.remove(&disk)))
    }

    /// The disks that are exported as a whole, each with its target's name.
    pub(super) fn exported(&self) -> Vec<(String, String)> {
        let targets = self.files.targets();
        let whole = |(target, disk): &(String, Option<String>)| {
            let on = fs::read_to_string(self.files.group(target).join("enable"));
            disk.clone().filter(|_| on.is_ok_and(|text| text.trim() == "1"))
        };
        targets.iter().filter_map(|one| Some((whole(one)?, one.0.clone()))).collect()
    }

    /// Removes all of ours but the disks of these names.
    pub(super) fn keep_only(&self, disks: &[String]) -> io::Result<()> {
        let keep = disks.to_vec();
        self.work(Box::new(move |files| {
            for (target, disk) in files.targets() {
                if !disk.is_some_and(|disk| keep.contains(&disk)) {
                    files.remove_target(&target)?;
                }
            }
            for disk in names(&files.disks()) {
                if !keep.contains(&disk) && parse_dm_name(&files.tag, &disk).is_some() {
                    files.remove_directory(&files.disks().join(&disk))?;
                }
            }
            Ok(())
        }))
    }

    fn work(&self, work: Work) -> io::Result<()> {
        {
            let mut waiting = self.files.waiting.lock();
            if *waiting >= MAX_QUEUE {
                return Err(io::Error::other("too many targets wait for LIO"));
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
            if let Some((step, since)) = step.filter(|(_, since)| since.elapsed() > STEP_LIMIT) {
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

impl Files {
    fn disks(&self) -> PathBuf {
        self.config.root.join("core").join(GROUP)
    }

    fn group(&self, target: &str) -> PathBuf {
        self.config.root.join("iscsi").join(target).join("tpgt_1")
    }

    /// The target without disks that holds the portal. No client's is called so: its name has no boot.
    fn anchor(&self) -> String {
        format!("{}portal", self.config.prefix)
    }

    /// Our targets, each with its disk if it has one; without the portal's.
    fn targets(&self) -> Vec<(String, Option<String>)> {
        let ours = names(&self.config.root.join("iscsi")).into_iter();
        let ours = ours.filter(|name| name.starts_with(&self.config.prefix) && *name != self.anchor());
        let with_disk = |target: String| {
            let lun = self.group(&target).join("lun/lun_0");
            let link = names(&lun).into_iter().find(|name| lun.join(name).is_symlink());
            (target, link)
        };
        ours.map(with_disk).collect()
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

    fn open_portals(&self) -> io::Result<()> {
        let group = self.group(&self.anchor());
        if let Some(target) = group.parent() {
            make_directory(target)?;
        }
        make_directory(&group)?;
        for portal in &self.config.portals {
            make_directory(&group.join("np").join(portal.to_string())).map_err(|e| {
                let hint = "is another iSCSI target listening there?";
                io::Error::new(e.kind(), format!("{e}; {hint}"))
            })?;
        }
        Ok(())
    }

    fn begin(&self, what: &str, path: &Path) -> String {
        let shown = path.strip_prefix(&self.config.root).unwrap_or(path).display();
        let step = format!("{what} {shown}");
        *self.step.lock() = Some((step.clone(), Instant::now()));
        step
    }

    fn step(&self, what: &str, path: &Path, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let step = self.begin(what, path);
        work().map_err(|e| io::Error::new(e.kind(), format!("LIO: {step}: {e}")))
    }

    fn directory(&self, path: &Path) -> io::Result<()> {
        self.step("make", path, || match fs::create_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        })
    }

    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
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

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.step("remove", path, || gone_is_fine(fs::remove_dir(path)))
    }

    fn remove_link(&self, path: &Path) -> io::Result<()> {
        self.step("remove", path, || gone_is_fine(fs::remove_file(path)))
    }

    fn make(&self, name: &str, node: &Path, export: &Export) -> io::Result<()> {
        self.make_disk(name, node, export)?;
        fault::here("lio-disk");
        let group = self.group(&export.target);
        if let Some(target) = group.parent() {
            self.directory(target)?;
        }
        self.directory(&group)?;
        fault::here("lio-group");
        for (attribute, value) in
            [("authentication", "1"), ("generate_node_acls", "0"), ("demo_mode_discovery", "0")]
        {
            self.write(&group.join("attrib").join(attribute), value)?;
        }
        let lun = group.join("lun/lun_0");
        self.directory(&lun)?;
        self.link(&self.disks().join(name), &lun.join(name))?;
        fault::here("lio-lun");
        let acl = group.join("acls").join(&export.initiator);
        self.directory(&acl)?;
        // iPXE answers no pings, and must not be cut off while a menu waits for its user. What a client leaves behind
        // ends with its boot.
        self.write(&acl.join("attrib/nopin_timeout"), "0")?;
        let mapped = acl.join("lun_0");
        self.directory(&mapped)?;
        self.link(&lun, &mapped.join("disk"))?;
        self.write(&mapped.join("write_protect"), "0")?;
        self.write(&acl.join("auth/userid"), &export.user)?;
        self.write(&acl.join("auth/password"), &export.secret)?;
        fault::here("lio-acl");
        for portal in &self.config.portals {
            self.directory(&group.join("np").join(portal.to_string()))?;
        }
        fault::here("lio-portal");
        self.write(&group.join("enable"), "1")?;
        fault::here("lio-enabled");
        Ok(())
    }

    /// The disk, with what INQUIRY says of it. All of that is told before the disk is exported: later LIO takes none.
    fn make_disk(&self, name: &str, node: &Path, export: &Export) -> io::Result<()> {
        self.directory(&self.disks())?;
        let disk = self.disks().join(name);
        self.directory(&disk)?;
        self.write(&disk.join("control"), &format!("udev_path={}", node.display()))?;
        self.write(&disk.join("udev_path"), &node.display().to_string())?;
        self.write(&disk.join("enable"), "1")?;
        for (file, value) in [
            ("vendor_id", &export.vendor),
            ("product_id", &export.product),
            ("revision", &export.revision),
            ("vpd_unit_serial", &export.serial),
        ] {
            self.write(&disk.join("wwn").join(file), value)?;
        }
        // Where the device can't discard, LIO refuses this, and clients are told so.
        let _ = self.write(&disk.join("attrib/emulate_tpu"), "1");
        Ok(())
    }

    /// Ends the target of that disk, if there is one, and the disk.
    fn remove(&self, name: &str) -> io::Result<()> {
        for (target, disk) in self.targets() {
            if disk.as_deref() == Some(name) {
                self.remove_target(&target)?;
            }
        }
        self.remove_directory(&self.disks().join(name))
    }

    /// Takes down a target in whatever state it is: first its sessions, then what stands on others.
    fn remove_target(&self, target: &str) -> io::Result<()> {
        let group = self.group(target);
        if group.is_dir() {
            if fs::read_to_string(group.join("enable")).is_ok_and(|text| text.trim() == "1") {
                self.write(&group.join("enable"), "0")?;
            }
            fault::here("lio-disabled");
            for acl in names(&group.join("acls")).into_iter().map(|name| group.join("acls").join(name)) {
                for mapped in names(&acl).into_iter().filter(|name| name.starts_with("lun_")) {
                    self.remove_with_links(&acl.join(mapped))?;
                }
                self.remove_directory(&acl)?;
            }
            fault::here("lio-acl-removed");
            for portal in names(&group.join("np")) {
                self.remove_directory(&group.join("np").join(portal))?;
            }
            for lun in names(&group.join("lun")) {
                self.remove_with_links(&group.join("lun").join(lun))?;
            }
            fault::here("lio-lun-removed");
            self.remove_directory(&group)?;
        }
        self.remove_directory(&self.config.root.join("iscsi").join(target))?;
        fault::here("lio-target-removed");
        Ok(())
    }

    fn remove_with_links(&self, directory: &Path) -> io::Result<()> {
        for link in names(directory).into_iter().map(|name| directory.join(name)).filter(|p| p.is_symlink()) {
            self.remove_link(&link)?;
        }
        self.remove_directory(directory)
    }
}

/// Removes all targets and disks of ours under `prefix`, the portal's too. For the operator who wants LIO as it was, and
/// for tests.
///
/// # Errors
/// When LIO refuses.
pub fn remove_all(config: &LioConfig, tag: &str) -> io::Result<()> {
    if !config.root.join("iscsi").is_dir() {
        return Ok(());
    }
    let (config, tag) = (config.clone(), tag.to_owned());
    let files = Files { config, tag, step: Mutex::default(), waiting: Mutex::default() };
    for (target, _) in files.targets() {
        files.remove_target(&target)?;
    }
    for disk in names(&files.disks()).into_iter().filter(|name| parse_dm_name(&files.tag, name).is_some()) {
        files.remove_directory(&files.disks().join(disk))?;
    }
    files.remove_target(&files.anchor())
}

fn make_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            Err(io::Error::new(e.kind(), format!("LIO: make {}: {e}", path.display())))
        }
        _ => Ok(()),
    }
}

fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The names in a directory; none where it can't be read.
fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}
