//! The files that clients may fetch: one resolver for TFTP and HTTP, so that a name is the same file over both.
//!
//! There are two places, looked at in this order:
//! - The admin's directory. Every regular file in it is served, by its path below the directory. The kernel keeps
//!   names inside (`openat2` with `RESOLVE_BENEATH`): neither `..` nor a symbolic link leads out, even if the
//!   directory is changed while a name is being looked up. Links that stay inside work.
//! - Boot programs that the system's packages installed. They were found at the start, and only what was found is
//!   served, by its bare name and by the names of [`netboot::other_places`]. Links out of their directories are followed, since packages make such: Debian's
//!   `/usr/lib/ipxe/ipxe.efi` is one to `/boot`, and whoever may write there is root.

mod small;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use netboot::{FilePath, Programs};
use parking_lot::Mutex;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

use self::small::Held;
pub(crate) use self::small::{MAX_SMALL, Small};

/// What boot programs are called. Other files beside them are not offered.
const PROGRAM_SUFFIXES: [&str; 6] = [".efi", ".kpxe", ".kkpxe", ".pxe", ".lkrn", ".0"];

/// What the programs load that menus are made of, PXELINUX's for instance. They are offered, but are nothing to boot.
const MODULE_SUFFIX: &str = ".c32";

/// How many boot programs are known at most; those that come later in the order of names are not offered.
const MAX_PROGRAMS: usize = 1000;

/// How many entries of a folder are looked at for a name like one that was asked for in vain.
const MAX_BESIDE: usize = 1000;

/// How deep below the admin's directory boot programs are looked for.
const MAX_DEPTH: usize = 4;

/// Why a name gets no file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// There is none of that name, or it is nothing that is served: a directory, a pipe, a way out.
    #[error("there is no such file")]
    NotFound,
    /// There is one, and it can't be read.
    #[error("can't read {path}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// A regular file, open for reading.
#[derive(Debug)]
pub(crate) struct OpenFile {
    /// The file.
    pub(crate) file: File,
    /// How long it was when it was opened, in bytes.
    pub(crate) len: u64,
    /// When it was last written to.
    pub(crate) modified: SystemTime,
}

/// What tells a file's state now from its states at other times, as HTTP writes it.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    /// `ETag`.
    pub(crate) tag: Arc<str>,
    /// `Last-Modified`.
    pub(crate) date: Arc<str>,
}

impl OpenFile {
    /// Which version of the file it is.
    pub(crate) fn version(&self) -> Version {
        let Self { len, modified, .. } = self;
        let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Version {
            tag: format!("\"{:x}-{len:x}\"", since.as_nanos()).into(),
            date: httpdate::fmt_http_date((*modified).max(SystemTime::UNIX_EPOCH)).into(),
        }
    }
}

/// A file to be sent.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// A small one.
    Small(Arc<Small>),
    /// A large one.
    Open(OpenFile),
}

impl Fetched {
    /// How long it is, in bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Small(small) => small.bytes.len() as u64,
            Self::Open(file) => file.len,
        }
    }
}

/// The files that clients may fetch.
#[derive(Debug)]
pub(crate) struct Files {
    root: PathBuf,
    installed: BTreeMap<String, PathBuf>,
    programs: Programs,
    opened: Mutex<Option<Opened>>,
    held: Held,
}

/// The admin's directory, open since then.
#[derive(Debug)]
struct Opened {
    since: Instant,
    place: Arc<OwnedFd>,
}

/// For how long the admin's directory is kept open: one that was made or replaced is the one that is served a second later.
const KEEP: Duration = Duration::from_secs(1);

impl Files {
    /// The admin's directory `root`, and the boot programs that are now in the directories `installed`; where two
    /// have the same name, the earlier directory's. None of them has to exist.
    pub(crate) fn find(root: &Path, installed: &[PathBuf]) -> Self {
        let mut programs = BTreeMap::new();
        for directory in installed {
            for (name, path) in list(directory) {
                let wanted = is_program(&name) || name.ends_with(MODULE_SUFFIX);
                if wanted && path.is_file() && programs.len() < MAX_PROGRAMS {
                    programs.entry(name).or_insert(path);
                }
            }
        }
        let files = Self {
            root: root.to_owned(),
            installed: programs,
            programs: Programs::default(),
            opened: Mutex::default(),
            held: Held::default(),
        };
        files.look_again();
        files
    }

    /// The boot programs' names, as clients ask for them and a client's entry may name them.
    pub(crate) fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The admin's own directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where the system's packages put the program of that name.
    pub(crate) fn installed(&self, name: &str) -> Option<&Path> {
        self.installed.get(name).map(PathBuf::as_path)
    }

    /// Finds what the admin has put there or taken away.
    pub(crate) fn look_again(&self) {
        let mut all: Vec<String> = self.installed.keys().filter(|name| is_program(name)).cloned().collect();
        collect(&self.root, "", MAX_DEPTH, &mut all);
        all.sort();
        all.dedup();
        self.programs.replace(all);
    }

    /// Names that there are in the folder of a name that there is not, for people. Only some, if there are very many.
    pub(crate) fn beside(&self, name: &str) -> Vec<String> {
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        if prefix.split('/').any(|part| part == "..") {
            return Vec::new();
        }
        let entries =
            self.root.join(folder.trim_start_matches('/')).read_dir().into_iter().flatten().flatten();
        let names = entries.take(MAX_BESIDE).filter_map(|entry| entry.file_name().into_string().ok());
        names.map(|name| format!("{prefix}{name}")).collect()
    }

    /// Whether there is a file of that very name.
    pub(crate) fn has(&self, name: &FilePath) -> bool {
        self.open_named(name.as_str()).is_ok()
    }

    /// Opens the file of that name.
    ///
    /// # Errors
    /// When there is none, or it can't be read.
    pub(crate) fn open(&self, name: &FilePath) -> Result<OpenFile, FileError> {
        match self.open_named(name.as_str()) {
            Err(FileError::NotFound) => {}
            other => return other,
        }
        // Firmware and boot loaders were seen to write names in other capitals than the file's, FAT's for instance.
        let programs = self.programs.all();
        let alike = programs.iter().filter(|program| program.eq_ignore_ascii_case(name.as_str())).cloned();
        for other in alike.chain(name.other_places()) {
            match self.open_named(&other) {
                Err(FileError::NotFound) => {}
                other => return other,
            }
        }
        Err(FileError::NotFound)
    }

    /// The file of that name, to be sent as a whole: as [`Files::open`], but small ones from memory.
    ///
    /// # Errors
    /// When there is none, or it can't be read.
    pub(crate) fn fetch(&self, name: &FilePath) -> Result<Fetched, FileError> {
        let place = self.place().ok();
        if let Some(small) = place.as_ref().and_then(|place| self.held.get(place, name.as_str())) {
            return Ok(Fetched::Small(small));
        }
        // Only what is first of all that a name may stand for is held by it.
        let first = place.map(|place| open_inside(&*place, &self.root, name.as_str()));
        let (opened, held_by) = match first {
            Some(Ok(opened)) => (opened, Some(name.as_str())),
            _ => (self.open(name)?, None),
        };
        let small = self
            .held
            .read(held_by, &opened, SystemTime::now())
            .map_err(|source| FileError::Unreadable { path: PathBuf::from(name.as_str()), source })?;
        Ok(small.map_or(Fetched::Open(opened), Fetched::Small))
    }

    fn open_named(&self, name: &str) -> Result<OpenFile, FileError> {
        match self.place().and_then(|place| open_inside(&*place, &self.root, name)) {
            Err(FileError::NotFound) => {}
            other => return other,
        }
        let path = self.installed.get(name).ok_or(FileError::NotFound)?;
        regular(openat(CWD, path, READ, Mode::empty()), || path.to_owned())
    }
}

impl Files {
    /// The admin's directory, open. Firmware fetches a file in thousands of parts, and to open the directory for each
    /// of them would be a third of the work.
    fn place(&self) -> Result<Arc<OwnedFd>, FileError> {
        let mut opened = self.opened.lock();
        if let Some(opened) = opened.as_ref().filter(|opened| opened.since.elapsed() < KEEP) {
            return Ok(Arc::clone(&opened.place));
        }
        *opened = None;
        let place = Arc::new(open_directory(&self.root)?);
        *opened = Some(Opened { since: Instant::now(), place: Arc::clone(&place) });
        Ok(place)
    }
}

/// Not to be held up by a pipe's missing writer (`NONBLOCK`), nor made a terminal's child (`NOCTTY`).
const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Opens `name` in `root`, with no way out.
pub(crate) fn open_beneath(root: &Path, name: &str) -> Result<OpenFile, FileError> {
    open_inside(open_directory(root)?, root, name)
}

fn open_directory(root: &Path) -> Result<OwnedFd, FileError> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(CWD, root, directory, Mode::empty()) {
        Ok(place) => Ok(place),
        Err(rustix::io::Errno::NOENT) => Err(FileError::NotFound),
        Err(e) => Err(FileError::Unreadable { path: root.to_owned(), source: e.into() }),
    }
}

fn open_inside(place: impl AsFd, root: &Path, name: &str) -> Result<OpenFile, FileError> {
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    regular(openat2(place, name, READ, Mode::empty(), inside), || root.join(name))
}

/// What was opened, if it is a regular file.
fn regular(opened: rustix::io::Result<OwnedFd>, path: impl Fn() -> PathBuf) -> Result<OpenFile, FileError> {
    use rustix::io::Errno;
    let unreadable = |source| FileError::Unreadable { path: path(), source };
    let file = match opened {
        Ok(file) => File::from(file),
        // A way out is XDEV, a circle of links LOOP, a name below a file NOTDIR, a socket NXIO.
        Err(Errno::NOENT | Errno::XDEV | Errno::LOOP | Errno::NOTDIR | Errno::NXIO | Errno::NAMETOOLONG) => {
            return Err(FileError::NotFound);
        }
        Err(e) => return Err(unreadable(e.into())),
    };
    let about = file.metadata().map_err(unreadable)?;
    if !about.is_file() {
        return Err(FileError::NotFound);
    }
    let modified = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Ok(OpenFile { file, len: about.len(), modified })
}

fn is_program(name: &str) -> bool {
    PROGRAM_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// What a Raspberry Pi fetches first, in the directory that is for all of them.
fn is_raspberry_pi(name: &str) -> bool {
    matches!(name, "raspberrypi/bootcode.bin" | "raspberrypi/start4.elf" | "raspberrypi/start.elf")
}

/// The entries of a directory whose names are text, in the order of names; none if it can't be read.
fn list(directory: &Path) -> BTreeMap<String, PathBuf> {
    let entries = directory.read_dir().into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path()))).collect()
}

/// The boot programs below the admin's directory, by their paths relative to it.
fn collect(directory: &Path, prefix: &str, depth: usize, found: &mut Vec<String>) {
    for (name, path) in list(directory) {
        let Ok(about) = path.symlink_metadata() else { continue };
        let name = format!("{prefix}{name}");
        if about.is_dir() && depth > 1 {
            collect(&path, &format!("{name}/"), depth - 1, found);
        } else if (is_program(&name) || is_raspberry_pi(&name))
            && path.is_file()
            && found.len() < MAX_PROGRAMS
        {
            found.push(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use netboot::{Asked, parse_http_path, parse_tftp_path};
    use proptest::prelude::*;
    use rustix::fs::mknodat;
    use tempfile::TempDir;

    use super::*;

    /// A directory with `files/` in it, a secret beside that, and every kind of way to it.
    fn place() -> TempDir {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::write(at("secret"), "secret").unwrap();
        fs::create_dir_all(at("files/linux")).unwrap();
        fs::write(at("files/linux/vmlinuz-6.1"), "kernel").unwrap();
        fs::write(at("files/own.efi"), "own").unwrap();
        symlink("vmlinuz-6.1", at("files/linux/vmlinuz")).unwrap();
        symlink("linux/../own.efi", at("files/inside")).unwrap();
        symlink("../secret", at("files/out")).unwrap();
        symlink(at("secret"), at("files/absolute")).unwrap();
        symlink("..", at("files/up")).unwrap();
        symlink("circle", at("files/circle")).unwrap();
        symlink("/proc/self/root", at("files/magic")).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        mknodat(CWD, at("files/pipe"), fifo, Mode::from_raw_mode(0o644), 0).unwrap();
        drop(UnixListener::bind(at("files/socket")).unwrap());
        place
    }

    fn content(opened: Result<OpenFile, FileError>) -> Option<String> {
        let mut opened = match opened {
            Err(FileError::NotFound) => return None,
            other => other.unwrap(),
        };
        let mut text = String::new();
        opened.file.read_to_string(&mut text).unwrap();
        assert_eq!(opened.len, text.len() as u64);
        Some(text)
    }

    fn fetch(files: &Files, asked: Asked) -> Option<String> {
        let Asked::File(path) = asked else { return None };
        content(files.open(&path))
    }

    #[test]
    fn files_and_links_inside_are_served() {
        let place = place();
        let files = Files::find(&place.path().join("files"), &[]);
        for (name, text) in [
            ("own.efi", "own"),
            ("linux/vmlinuz-6.1", "kernel"),
            ("linux/vmlinuz", "kernel"),
            ("inside", "own"),
            ("//linux//vmlinuz", "kernel"),
            ("\\linux\\vmlinuz", "kernel"),
        ] {
            assert_eq!(fetch(&files, parse_tftp_path(name)).as_deref(), Some(text), "{name}");
        }
        assert_eq!(
            fetch(&files, parse_http_path("/files//linux/vmlinuz%2d6.1?x")).as_deref(),
            Some("kernel")
        );
    }

    #[test]
    fn nothing_leads_out() {
        let place = place();
        let files = Files::find(&place.path().join("files"), &[]);
        let absolute = place.path().join("secret");
        for name in [
            "../secret",
            "linux/../../secret",
            "..\\secret",
            "linux\\..\\..\\secret",
            "/../secret",
            "out",
            "absolute",
            "up/secret",
            "magic/etc/passwd",
            "circle",
            "pipe",
            "socket",
            "linux",
            "own.efi/x",
            "",
            ".",
            "..",
            "own.efi\0",
            absolute.to_str().unwrap(),
        ] {
            assert_eq!(fetch(&files, parse_tftp_path(name)), None, "TFTP {name:?}");
            assert_eq!(fetch(&files, parse_http_path(&format!("/files/{name}"))), None, "HTTP {name:?}");
        }
        for name in [
            "%2e%2e/secret",
            "%2e%2e%2fsecret",
            "..%5csecret",
            "linux/%2E%2e/..%2fsecret",
            "%252e%252e/secret",
        ] {
            assert_eq!(fetch(&files, parse_http_path(&format!("/files/{name}"))), None, "HTTP {name:?}");
        }
    }

    #[test]
    fn the_kernel_keeps_names_inside_even_if_our_parser_would_not() {
        let place = place();
        let root = place.path().join("files");
        let absolute = place.path().join("secret");
        for name in
            ["../secret", "linux/../../secret", absolute.to_str().unwrap(), "out", "absolute", "up/secret"]
        {
            assert!(matches!(open_beneath(&root, name), Err(FileError::NotFound)), "{name}");
        }
        assert_eq!(content(open_beneath(&root, "linux/vmlinuz")).as_deref(), Some("kernel"));
    }

    #[test]
    fn programs_are_found_and_the_admins_come_first() {
        let place = place();
        let installed = place.path().join("installed");
        fs::create_dir(&installed).unwrap();
        fs::write(place.path().join("real"), "linked").unwrap();
        symlink(place.path().join("real"), installed.join("ipxe.efi")).unwrap();
        fs::write(installed.join("own.efi"), "the package's").unwrap();
        fs::write(installed.join("undionly.kpxe"), "undionly").unwrap();
        fs::write(installed.join("README"), "not a program").unwrap();
        fs::write(installed.join("menu.c32"), "a program's part").unwrap();
        symlink("nowhere", installed.join("dangling.efi")).unwrap();
        fs::write(place.path().join("files/linux/grub.efi"), "grub").unwrap();

        let root = place.path().join("files");
        let files = Files::find(&root, &[place.path().join("absent"), installed]);
        assert_eq!(*files.programs().all(), ["ipxe.efi", "linux/grub.efi", "own.efi", "undionly.kpxe"]);
        assert_eq!(content(files.open_named("own.efi")).as_deref(), Some("own"));
        assert_eq!(content(files.open_named("ipxe.efi")).as_deref(), Some("linked"), "a package's link out");
        assert_eq!(content(files.open_named("README")), None);
        assert_eq!(content(files.open_named("menu.c32")).as_deref(), Some("a program's part"));
        assert_eq!(content(files.open_named("./undionly.kpxe")), None, "programs go by their bare names");
    }

    #[test]
    fn names_lie_side_by_side_where_boot_loaders_look_for_them() {
        let place = place();
        let (root, installed) = (place.path().join("files"), place.path().join("installed"));
        fs::create_dir_all(root.join("efi/x64")).unwrap();
        fs::create_dir_all(root.join("raspberrypi/overlays")).unwrap();
        fs::create_dir(&installed).unwrap();
        for (path, text) in [
            (root.join("efi/x64/shimx64.efi"), "shim"),
            (root.join("efi/x64/snponly.efi"), "signed"),
            (root.join("raspberrypi/start4.elf"), "pi"),
            (root.join("raspberrypi/overlays/x.dtbo"), "overlay"),
            (installed.join("snponly.efi"), "unsigned"),
            (installed.join("ipxe.efi"), "all drivers"),
            (installed.join("ipxe-arm64.efi"), "arm"),
        ] {
            fs::write(path, text).unwrap();
        }
        let files = Files::find(&root, &[installed]);
        for (name, text) in [
            ("efi/x64/snponly.efi", Some("signed")),
            ("efi/x64//snponly.efi", Some("signed")),
            ("/efi\\x64\\SNPONLY.EFI", Some("signed")),
            ("efi/x64/ipxe.efi", Some("all drivers")),
            ("efi/arm64/ipxe.efi", Some("arm")),
            ("efi/ia32/ipxe.efi", None),
            ("EFI/X64/SHIMX64.EFI", Some("shim")),
            ("snponly.efi", Some("unsigned")),
            ("9ffefdef/start4.elf", Some("pi")),
            ("9ffefdef/overlays/x.dtbo", Some("overlay")),
            ("dc-a6-32-00-00-01/start4.elf", Some("pi")),
            ("9ffefdef/absent", None),
            ("not-a-pi/start4.elf", None),
        ] {
            assert_eq!(fetch(&files, parse_tftp_path(name)).as_deref(), text, "TFTP {name}");
            let url = format!("/files/{}", name.replace('\\', "%5c"));
            assert_eq!(fetch(&files, parse_http_path(&url)).as_deref(), text, "HTTP {url}");
        }
        assert!(matches!(parse_tftp_path("efi/x64//autoexec.ipxe"), Asked::Autoexec));
        fs::write(root.join("efi/x64/new.efi"), "new").unwrap();
        let known = |name: &str| files.programs().all().iter().any(|program| program == name);
        assert!(!known("efi/x64/new.efi"));
        files.look_again();
        assert!(known("efi/x64/new.efi") && known("raspberrypi/start4.elf"));
    }

    #[test]
    fn a_missing_directory_is_no_trouble_and_an_unreadable_file_is() {
        let place = place();
        let files = Files::find(&place.path().join("absent"), &[]);
        assert!(matches!(files.open_named("own.efi"), Err(FileError::NotFound)));
        let files = Files::find(&place.path().join("secret"), &[]);
        let error = files.open_named("own.efi").unwrap_err();
        assert!(error.to_string().contains("secret"), "{error}");
    }

    proptest! {
        #[test]
        fn no_name_yields_the_secret(parts in prop::collection::vec("(\\.\\.|\\.|secret|linux|up|out|files|)", 0..6), slash in "[/\\\\]") {
            let place = place();
            let files = Files::find(&place.path().join("files"), &[]);
            let name = parts.join(&slash);
            let secret = Some("secret".to_owned());
            prop_assert_ne!(fetch(&files, parse_tftp_path(&name)), secret.clone());
            prop_assert_ne!(fetch(&files, parse_http_path(&format!("/files/{name}"))), secret.clone());
            let opened = open_beneath(&place.path().join("files"), &name);
            prop_assert_ne!(opened.ok().and_then(|file| content(Ok(file))), secret);
        }
    }
}
