//! The data directory: whose it is, and what is in it at the start.
//!
//! ```text
//! DATA/lock            held while the daemon lives; its process id is in it
//! DATA/bootd.sock      the command line's way in
//! DATA/site.db         clients and images
//! DATA/leases.journal  who has which address
//! DATA/images/         images that were taken in
//! DATA/overlays/       what clients have written
//! DATA/files/          the admin's boot files
//! DATA/menus/          the admin's templates
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};

use crate::config::Config;

/// The longest template that is read, in bytes; `menus` refuses what is longer, with its name.
const LONGEST_TEMPLATE: u64 = menus::MAX_TEMPLATE as u64 + 1;

/// How many files may lie in the folder of templates; more are an error.
const MOST_TEMPLATES: usize = 1000;

/// What is wrong with the data directory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataError {
    /// Another daemon serves from it.
    #[error("{}: bootd is running already{}; stop it, or give this one a directory of its own with --data", directory.display(), pid.map(|pid| format!(" as process {pid}")).unwrap_or_default())]
    Locked {
        /// The directory.
        directory: PathBuf,
        /// The other daemon.
        pid: Option<u32>,
    },
    /// It belongs to someone else.
    #[error("{}: belongs to user {owner}, and bootd runs as user {user}; give it away with: chown -R {user} {}", directory.display(), directory.display())]
    Owner {
        /// The directory.
        directory: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// A file or folder in it can't be used.
    #[error("{}: {what}: {source}; check who owns it, and that its disk is neither full nor read-only", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What was being done.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// There are too many files among the templates.
    #[error("{}: more than {MOST_TEMPLATES} files; is this the right directory?", .0.display())]
    TooManyTemplates(PathBuf),
}

impl DataError {
    pub(crate) fn file(path: &Path, what: &'static str, source: io::Error) -> Self {
        Self::File { path: path.to_owned(), what, source }
    }
}

/// The data directory, ours until this is dropped.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    _lock: File,
}

impl DataDirectory {
    /// Makes the directory and its folders where they are missing, and locks it.
    ///
    /// # Errors
    /// When it can't be made or belongs to someone else, or another daemon has it.
    pub(crate) fn take(config: &Config) -> Result<Self, DataError> {
        // Whatever is made from now on is for this user's eyes only.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        make(&config.data)?;
        let lock = lock(&config.data)?;
        for folder in [config.files(), config.menus(), config.images(), config.overlay_directory.clone()] {
            make(&folder)?;
        }
        Ok(Self { _lock: lock })
    }
}

/// The process that serves from the directory, if one does.
pub(crate) fn running(directory: &Path) -> Option<u32> {
    let file = File::open(directory.join("lock")).ok()?;
    // A shared lock is had exactly if nobody holds the exclusive one; it is gone again with `file`.
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => Some(pid_in(file).unwrap_or_default()),
        _ => None,
    }
}

fn make(directory: &Path) -> Result<(), DataError> {
    let wrong = |what, e| DataError::file(directory, what, e);
    let new = !directory.exists();
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|e| wrong("can't make it", e))?;
    let metadata = fs::metadata(directory).map_err(|e| wrong("can't look at it", e))?;
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        return Err(DataError::Owner { directory: directory.to_owned(), owner: metadata.uid(), user });
    }
    // Secrets of running boots lie below: no other user may look. A folder that the admin made keeps its mode,
    // if it lets no one write.
    if new || metadata.mode() & 0o022 != 0 {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
            .map_err(|e| wrong("can't close it to other users", e))?;
    }
    Ok(())
}

fn lock(directory: &Path) -> Result<File, DataError> {
    let path = directory.join("lock");
    let wrong = |e| DataError::file(&path, "can't lock it", e);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(wrong)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            return Err(DataError::Locked { directory: directory.to_owned(), pid: pid_in(file) });
        }
        Err(e) => return Err(wrong(e.into())),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(wrong)?;
    Ok(file)
}

fn pid_in(file: File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// The admin's templates and whatever lies beside them that is text: their names, folders included, and texts. Which
/// of the others are templates too, `menus` knows.
///
/// # Errors
/// When one can't be read.
pub(crate) fn templates(directory: &Path) -> Result<Vec<(String, String)>, DataError> {
    let mut all = Vec::new();
    for (name, path) in template_files(directory)? {
        match read_template(&path) {
            Ok(text) => all.push((name, text)),
            Err(e) if e.kind() == io::ErrorKind::InvalidData && !name.ends_with(menus::TEMPLATE_SUFFIX) => {}
            Err(e) => return Err(DataError::file(&path, "can't read the template", e)),
        }
    }
    Ok(all)
}

/// What tells whether a template was added, changed or removed: each one's file, age and length.
pub(crate) type Stamp = Vec<(PathBuf, Option<SystemTime>, u64)>;

/// The templates' stamp as it is now; `None` while they can't be listed.
pub(crate) fn templates_stamp(directory: &Path) -> Option<Stamp> {
    let of = |(_, path): (String, PathBuf)| {
        let metadata = fs::metadata(&path).ok();
        let modified = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
        (path, modified, metadata.map_or(0, |metadata| metadata.len()))
    };
    Some(template_files(directory).ok()?.into_iter().map(of).collect())
}

/// The templates' names and files, sorted.
fn template_files(directory: &Path) -> Result<Vec<(String, PathBuf)>, DataError> {
    let mut all = Vec::new();
    let mut folders = vec![(directory.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(|e| DataError::file(&folder, "can't read the templates", e))?,
        };
        for entry in entries {
            let entry = entry.map_err(|e| DataError::file(&folder, "can't read the templates", e))?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
            let (name, path) = (format!("{prefix}{name}"), entry.path());
            let kind = entry.file_type().map_err(|e| DataError::file(&path, "can't look at it", e))?;
            if kind.is_dir() {
                folders.push((path, format!("{name}/")));
            } else if path.is_file() {
                if all.len() == MOST_TEMPLATES {
                    return Err(DataError::TooManyTemplates(directory.to_owned()));
                }
                all.push((name, path));
            }
        }
    }
    all.sort();
    Ok(all)
}

fn read_template(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LONGEST_TEMPLATE).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_daemons_never_share_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(running(directory.path()), None);
        let first = lock(directory.path()).unwrap();
        assert_eq!(running(directory.path()), Some(std::process::id()));
        let message = lock(directory.path()).unwrap_err().to_string();
        assert!(message.contains(&std::process::id().to_string()) && message.contains("--data"), "{message}");
        drop(first);
        lock(directory.path()).unwrap();
    }

    #[test]
    fn directories_are_closed_to_others() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("a/b");
        make(&inner).unwrap();
        assert_eq!(fs::metadata(&inner).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o777)).unwrap();
        make(&inner).unwrap();
        assert_eq!(fs::metadata(&inner).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn templates_are_found_in_folders_and_what_is_no_text_left_out() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("rooms")).unwrap();
        for name in ["a.ipxe.tera", "rooms/b.ipxe.tera", ".hidden.ipxe.tera"] {
            fs::write(directory.path().join(name), name).unwrap();
        }
        fs::write(directory.path().join("logo.png"), [0x89, 0xff]).unwrap();
        let mut names: Vec<_> =
            templates(directory.path()).unwrap().into_iter().map(|(name, _)| name).collect();
        names.sort();
        assert_eq!(names, ["a.ipxe.tera", "rooms/b.ipxe.tera"]);
        assert_eq!(templates(&directory.path().join("none")).unwrap(), []);
        let stamp = templates_stamp(directory.path());
        assert_eq!(templates_stamp(directory.path()), stamp);
        fs::write(directory.path().join("a.ipxe.tera"), "changed").unwrap();
        assert_ne!(templates_stamp(directory.path()), stamp);
    }
}
