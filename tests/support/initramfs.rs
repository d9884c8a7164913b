//! A first root file system that is a client's whole system: busybox, some programs of this machine with their
//! libraries, kernel modules, `/init`.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use crate::archive::Archive;
use crate::{Context, Result, find_program, sh};

/// Modules that a client needs, without those that they need.
pub(crate) const CLIENT: &[&str] = &[
    "virtio_pci",
    "virtio_net",
    "e1000",
    "sd_mod",
    "crc32c_generic",
    "crc32c_intel",
    "ext4",
    "vfat",
    "nls_ascii",
    "nls_cp437",
    "nls_utf8",
    "iscsi_tcp",
    "iscsi_ibft",
];

/// Modules that an appserver needs: the disks of the kernel engine, what exports them, and a network card.
pub(crate) const APPSERVER: &[&str] = &[
    "virtio_pci",
    "virtio_net",
    "virtio_blk",
    "crc32c_generic",
    "crc32c_intel",
    "ext4",
    "loop",
    "dm_mod",
    "dm_thin_pool",
    "dm_snapshot",
    "dm_cache",
    "dm_cache_smq",
    "configfs",
    "target_core_mod",
    "target_core_iblock",
    "target_core_file",
    "iscsi_target_mod",
];

/// Modules that it needs besides to see the files of this machine.
pub(crate) const SHARE: &[&str] = &["9pnet_virtio", "9p"];

/// The directories of it.
const DIRECTORIES: &[&str] = &[
    "/bin",
    "/sbin",
    "/dev",
    "/proc",
    "/sys",
    "/run",
    "/run/lock",
    "/tmp",
    "/etc",
    "/mnt",
    "/boot",
    "/lib",
    "/lib/mods",
    "/lib64",
    "/usr",
];

/// A kernel that is installed on this machine, with every module that is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    /// The kernel itself.
    pub(crate) image: PathBuf,
    /// Its modules, in an order in which they can be loaded.
    modules: Vec<PathBuf>,
}

impl Kernel {
    /// The newest that has all that is needed.
    pub(crate) fn find(modules: &[&str]) -> Result<Self> {
        let mut names: Vec<_> = fs::read_dir("/lib/modules")
            .context("no kernel is installed (/lib/modules): install linux-image-amd64")?
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort_by_key(|name| std::cmp::Reverse(version(name)));
        let found = names.iter().find_map(|name| Self::of(name, modules));
        found.context(format!(
            "none of the kernels {names:?} has all of the modules {modules:?}: install linux-image-amd64"
        ))
    }

    /// What it is called: the name of its directory of modules.
    pub(crate) fn name(&self) -> Result<&str> {
        let file = self.image.file_name().and_then(|name| name.to_str());
        file.and_then(|name| name.strip_prefix("vmlinuz-")).context("a kernel without a name")
    }

    /// Its modules, in an order in which they can be loaded.
    pub(crate) fn modules(&self) -> &[PathBuf] {
        &self.modules
    }

    /// The same kernel with other modules, if it has them.
    pub(crate) fn with(&self, modules: &[&str]) -> Option<Self> {
        Self::of(self.name().ok()?, modules)
    }

    fn of(name: &str, needed: &[&str]) -> Option<Self> {
        let image = PathBuf::from(format!("/boot/vmlinuz-{name}"));
        let dir = PathBuf::from(format!("/lib/modules/{name}"));
        let dependencies = fs::read_to_string(dir.join("modules.dep")).ok()?;
        let builtin = fs::read_to_string(dir.join("modules.builtin")).ok()?;
        let by_name: HashMap<_, _> = dependencies
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(path, needs)| (module_name(path), (path, needs)))
            .collect();
        let mut modules = Vec::new();
        for module in needed {
            match by_name.get(*module) {
                // The line has what must be loaded last in front.
                Some((path, needs)) => {
                    modules.extend(needs.split_whitespace().rev().chain([*path]).map(|path| dir.join(path)));
                }
                None if builtin.lines().any(|path| module_name(path) == *module) => {}
                None => return None,
            }
        }
        let mut seen = BTreeSet::new();
        modules.retain(|path| seen.insert(path.clone()));
        image.is_file().then_some(Self { image, modules })
    }
}

/// Every file that goes into it, beside `/init`: what it is called there, and where it lies here. `programs` come with
/// the package that has them, and go to `/sbin`.
pub(crate) fn files(kernel: &Kernel, programs: &[(&str, &str)]) -> Result<Vec<(String, PathBuf)>> {
    let busybox = find_program("busybox").context("no busybox: install busybox-static")?;
    let mut files = vec![("/bin/busybox".to_owned(), busybox)];
    let mut libraries = BTreeSet::new();
    for (name, package) in programs {
        let program = find_program(name).context(format!("no {name}: install {package}"))?;
        libraries.extend(libraries_of(&program)?);
        files.push((format!("/sbin/{name}"), program));
    }
    files.extend(libraries.into_iter().map(|path| (path.clone(), PathBuf::from(path))));
    for module in &kernel.modules {
        let name = module.file_name().context("a module without a name")?;
        files.push((format!("/lib/mods/{}", name.to_string_lossy()), module.clone()));
    }
    Ok(files)
}

/// The libraries that a program is loaded with.
pub(crate) fn libraries_of(program: &Path) -> Result<BTreeSet<String>> {
    // `ldd` prints a library's path before its address in brackets.
    let needed = sh(&["ldd", &program.to_string_lossy()])?;
    Ok(needed.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect())
}

/// Packs it all together, with `texts` by their names, of which one is `/init`.
pub(crate) fn pack(files: &[(String, PathBuf)], texts: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    let mut directories = BTreeSet::new();
    let names = files.iter().map(|(name, _)| name.as_str()).chain(texts.iter().map(|(name, _)| *name));
    let of_files = names.flat_map(|name| Path::new(name).ancestors().skip(1));
    directories.extend(DIRECTORIES.iter().map(Path::new).chain(of_files));
    // Sorted, so that a directory stands behind the one that it is in.
    for directory in directories.iter().filter(|path| **path != Path::new("/")) {
        archive.directory(&directory.to_string_lossy());
    }
    for (name, path) in files {
        archive.file(name, &fs::read(path).context(path.display())?);
    }
    for applet in sh(&["busybox", "--list"])?.lines().filter(|applet| *applet != "busybox") {
        archive.link(&format!("/bin/{applet}"), "busybox");
    }
    let order = files.iter().filter_map(|(name, _)| name.strip_prefix("/lib/mods/"));
    archive.file("/lib/mods/order", order.map(|name| format!("{name}\n")).collect::<String>().as_bytes());
    // The kernel opens it before `/dev` is mounted, for what `/init` prints.
    archive.device("/dev/console", 5, 1);
    for (name, text) in texts {
        archive.file(name, text.as_bytes());
    }
    Ok(archive.finish())
}

fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// The numbers in a version, for comparing: `6.1.0-56` is later than `6.1.0-9`.
fn version(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}
