//! What needs no LIO: a folder stands for it, in which nothing happens by itself.

use rustix::fs::{CWD, FileType, Mode};

use super::*;
use crate::kernel::targets::{give_back, remove_within};

/// A step that does not hang takes less, however much else the machine has to do.
const LIMIT: Duration = Duration::from_secs(4);

const TARGET: &str = "iqn.2026-01.internal.lab.new:disks";
const EARLIER: &str = "iqn.2026-01.internal.lab.old:disks";
const INITIATOR: &str = "iqn.2026-01.internal.lab.pc1:system-disk";
const DISK: &str = "bootd-disk-pc1-0000000000000001-disk";

struct Fake(tempfile::TempDir);

impl Fake {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn config(&self) -> LioConfig {
        let portals = vec![([127, 0, 0, 1], 3260).into()];
        LioConfig { root: self.0.path().to_owned(), portals, target: TARGET.to_owned() }
    }

    fn group(&self, target: &str) -> PathBuf {
        self.0.path().join("iscsi").join(target).join("tpgt_1")
    }

    fn file(&self, target: &str, name: &str, text: &str) {
        let path = self.group(target).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A target as LIO makes it.
    fn target(&self, target: &str) {
        for name in ["authentication", "generate_node_acls", "demo_mode_discovery"] {
            self.file(target, &format!("attrib/{name}"), "");
        }
        self.file(target, "enable", "0");
        for folder in ["np", "lun", "acls"] {
            fs::create_dir_all(self.group(target).join(folder)).unwrap();
        }
    }

    /// A file of that target's whose writer hangs.
    fn hang(&self, target: &str, name: &str) -> PathBuf {
        let path = self.group(target).join(name);
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        path
    }

    /// A disk that is exported by that target.
    fn export(&self, target: &str) {
        let (disk, group) = (self.0.path().join("core/iblock_20260").join(DISK), self.group(target));
        let (lun, mapped) = (group.join("lun/lun_0"), group.join("acls").join(INITIATOR).join("lun_0"));
        for folder in [&disk, &lun, &mapped] {
            fs::create_dir_all(folder).unwrap();
        }
        symlink(&disk, lun.join(DISK)).unwrap();
        symlink(&lun, mapped.join(MAPPED)).unwrap();
    }
}

/// Lets go who writes there.
fn let_go(path: &Path) {
    drop(fs::File::open(path).unwrap());
}

fn is_told(error: Option<io::Error>, step: &str) {
    let error = error.expect("done although it hangs");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    assert!(error.to_string().contains(step), "{error}");
}

#[test]
fn nobody_waits_for_ever_for_the_target_to_open() {
    let fake = Fake::new();
    fake.target(TARGET);
    let path = fake.hang(TARGET, "attrib/generate_node_acls");
    is_told(Lio::open_within(fake.config(), "bootd", LIMIT).err(), "attrib/generate_node_acls");
    let_go(&path);
}

#[test]
fn nobody_waits_for_ever_for_the_target_to_be_removed() {
    let fake = Fake::new();
    fake.target(TARGET);
    fake.export(TARGET);
    let folder = fake.group(TARGET).join("enable");
    fs::write(&folder, "1").unwrap();
    // What it is read from first answers, and what it is written to does not.
    let path = fake.hang(TARGET, "enable");
    let (held, config) = (path.clone(), fake.config());
    let reader = std::thread::spawn(move || fs::write(held, "1").unwrap());
    is_told(remove_within(&config, "bootd", LIMIT).err(), "/tpgt_1/enable");
    reader.join().unwrap();
    let_go(&path);
}

#[test]
fn one_step_that_hangs_is_told_of_to_all_who_ask_afterwards() {
    let fake = Fake::new();
    fake.target(TARGET);
    let lio = Lio::open_within(fake.config(), "bootd", LIMIT).unwrap();
    let path = fake.hang(TARGET, "enable");
    let at = path.clone();
    is_told(lio.work(Box::new(move |files| files.write(&at, "0"))).err(), "/tpgt_1/enable");
    // The one that hangs is not the one that was asked for.
    is_told(lio.unexport(DISK).err(), "/tpgt_1/enable");
    let_go(&path);
    // And goes on where the kernel does.
    let end = Instant::now() + Duration::from_secs(60);
    while lio.unexport(DISK).is_err() {
        assert!(Instant::now() < end, "it does not go on");
    }
}

#[test]
fn clients_keep_their_disks_when_the_target_has_another_name() {
    let fake = Fake::new();
    fake.target(EARLIER);
    fake.export(EARLIER);
    fake.target(TARGET);
    let others = "iqn.2003-01.org.linux-iscsi.other:disks";
    fake.target(others);
    let lio = Lio::open(fake.config(), "bootd").unwrap();
    assert_eq!(lio.files.all().count(), 2);
    assert_eq!(lio.exported(), [(DISK.to_owned(), INITIATOR.to_owned())]);
    assert!(lio.is_exported(DISK, INITIATOR));
    lio.keep_only(&[DISK.to_owned()]).unwrap();
    let notices = lio.notices();
    assert!(notices.len() == 1 && notices[0].contains(EARLIER), "{notices:?}");
    assert!(fake.group(EARLIER).join("lun/lun_0").join(DISK).is_symlink());
    // Its end is its end there, too.
    lio.unexport(DISK).unwrap();
    assert!(lio.exported().is_empty() && !fake.group(EARLIER).join("lun/lun_0").exists());
    // One that has no disk is known, too.
    let mark = fake.group(TARGET).join("acls/iqn.2026-01.internal.bootd:mark");
    assert!(mark.is_dir());
    let config = LioConfig { target: "iqn.2026-01.internal.lab.newer:disks".into(), ..fake.config() };
    let files = Files::of(config, "bootd", Arc::default());
    files.find_earlier();
    assert_eq!(files.all().map(|files| files.config.target.as_str()).nth(1), Some(TARGET));
    // A folder's files are in the way of its removal, as LIO's are not.
    assert!(remove_within(&fake.config(), "bootd", LIMIT).is_err() && !mark.exists());
}

#[test]
fn a_target_is_taken_from_nobody_who_uses_it() {
    let fake = Fake::new();
    fake.target(TARGET);
    fake.export(TARGET);
    fs::create_dir_all(fake.group(TARGET).join("np/127.0.0.1:3260")).unwrap();
    let info = format!("acls/{INITIATOR}/info");
    fake.file(
        TARGET,
        &info,
        "LIO Session ID: 2   ISID: 0x80 1 TSIH: 2\nSession State: TARG_SESS_STATE_LOGGED_IN\n",
    );
    let at = |port: u16| LioConfig { portals: vec![([127, 0, 0, 1], port).into()], ..fake.config() };
    let refused = give_back(&at(3260), "bootd").unwrap_err().to_string();
    for part in [TARGET, INITIATOR, "bootd storage down"] {
        assert!(refused.contains(part), "{refused}");
    }
    // At another address it is in nobody's way.
    assert_eq!(give_back(&at(3261), "bootd").unwrap(), Vec::<String>::new());
    assert!(fake.group(TARGET).join("lun/lun_0").join(DISK).is_symlink());
    assert_eq!(listener(fake.0.path(), at(3260).portals[0]).as_deref(), Some(TARGET));
    assert_eq!(listener(fake.0.path(), at(3261).portals[0]), None);
    // Nor by an engine that knows nothing of devices.
    let lio = Lio::open(fake.config(), "bootd").unwrap();
    let refused = lio.nobody_uses(DEVICES).unwrap_err().to_string();
    assert!(refused.contains(INITIATOR) && refused.contains("put that back"), "{refused}");
    lio.nobody_uses(FILES).unwrap();
    drop(lio);
    // A portal that is no longer asked for stays as long as somebody uses the target, and that is said.
    let lio = Lio::open(at(3261), "bootd").unwrap();
    assert!(fake.group(TARGET).join("np/127.0.0.1:3260").is_dir());
    let notices = lio.notices();
    assert!(notices.len() == 1 && notices[0].contains("127.0.0.1:3260"), "{notices:?}");
    fs::remove_file(fake.group(TARGET).join(&info)).unwrap();
    Lio::open(at(3261), "bootd").unwrap();
    assert!(!fake.group(TARGET).join("np/127.0.0.1:3260").exists());
}
