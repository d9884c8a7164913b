//! Boot programs: looked at on the way in, put where firmware finds them, listed and taken away.
//!
//! An EFI program goes to the directory of its architecture, beside what it loads next and what loads it; any other to the
//! root. See [`netboot::EFI_DIRECTORY`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use netboot::{EFI_DIRECTORY, Firmware, HEAD_LEN, NoProgram, Program, ProgramKind, efi_directory};
use serde::{Deserialize, Serialize};

use crate::serve::files::Files;

/// The largest boot program that is taken in, in bytes. A unified kernel image with its initrd is one of the largest that
/// there are; a larger file is more likely a mistake.
const MAX_LEN: u64 = 512 << 20;

/// The longest name of a program, in bytes, so that its whole path fits a DHCP answer.
const MAX_NAME_LEN: usize = 100;

/// A boot program that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProgramEntry {
    /// Its name, as clients ask for it and an entry may name it.
    pub(crate) name: String,
    /// What it is; `None`: nothing in it tells.
    pub(crate) program: Option<Program>,
    /// Its length in bytes.
    pub(crate) len: u64,
    /// Its file.
    pub(crate) path: PathBuf,
    /// Whether the admin put it there, and may remove it. Otherwise a package of the system installed it.
    pub(crate) own: bool,
    /// What is to be known of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
}

/// Why a program is not taken in or away.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    /// A file can't be read or written.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// It is no boot program.
    #[error("{0}: {1}")]
    NoProgram(PathBuf, NoProgram),
    /// It is larger than boot programs are.
    #[error("{0} has {1} bytes, and boot programs have {MAX_LEN} at most")]
    TooLarge(PathBuf, u64),
    /// It is for other machines than was said.
    #[error("{path} is for {is}, not for {wanted}")]
    OtherArchitecture {
        /// Which file.
        path: PathBuf,
        /// What it is for.
        is: String,
        /// What was said.
        wanted: String,
    },
    /// The name can't be one.
    #[error(
        "{0:?} can't be a boot program's name: 1 to {MAX_NAME_LEN} letters, digits, dots, dashes and underscores"
    )]
    Name(String),
    /// There is none of that name.
    #[error("there is no boot program {0:?}")]
    NotFound(String),
    /// A package installed it.
    #[error("{0:?} is a package's, {1}: remove it by its package, or put one of the same name before it")]
    NotOwn(String, PathBuf),
}

/// Takes in the program in `file`, under that name or its own, in place of one that is there.
///
/// # Errors
/// When it is none, is for another architecture than `arch`, or can't be copied. Nothing has changed then.
pub(crate) fn add(
    files: &Files,
    file: &Path,
    name: Option<&str>,
    arch: Option<Firmware>,
) -> Result<ProgramEntry, ProgramError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |e| ProgramError::Io(path, e)
    };
    let mut source = File::open(file).map_err(failed(file))?;
    let name = match name {
        Some(name) => name.to_owned(),
        None => file_name(file),
    };
    if !is_name(&name) {
        return Err(ProgramError::Name(name));
    }
    let (program, len) = look(&mut source, &name).map_err(failed(file))?;
    let program = program.map_err(|e| ProgramError::NoProgram(file.to_owned(), e))?;
    if len > MAX_LEN {
        return Err(ProgramError::TooLarge(file.to_owned(), len));
    }
    if let Some(wanted) = arch.filter(|arch| program.firmware != Some(*arch)) {
        let is = program.firmware.map_or_else(|| program.kind.to_string(), |is| is.to_string());
        let wanted = wanted.to_string();
        return Err(ProgramError::OtherArchitecture { path: file.to_owned(), is, wanted });
    }
    let name = match directory(&program) {
        Some(directory) => format!("{directory}/{name}"),
        None => name,
    };
    let path = files.root().join(&name);
    copy(&mut source, &path).map_err(failed(&path))?;
    files.look_again();
    Ok(entry(files, name, path, len, Some(program), true))
}

/// All that there are.
pub(crate) fn list(files: &Files) -> Vec<ProgramEntry> {
    files.look_again();
    let entry_of = |name: &String| {
        let own = files.root().join(name);
        let (path, is_own) = match own.is_file() {
            true => (own, true),
            false => (files.installed(name)?.to_owned(), false),
        };
        let (program, len) = look(&mut File::open(&path).ok()?, name).ok()?;
        Some(entry(files, name.clone(), path, len, program.ok(), is_own))
    };
    files.programs().all().iter().filter_map(entry_of).collect()
}

/// Takes away the admin's program of that name. Where a package has one of the same name, that is served from then on.
///
/// # Errors
/// When there is none, or it is a package's.
pub(crate) fn remove(files: &Files, name: &str) -> Result<ProgramEntry, ProgramError> {
    let found = list(files).into_iter().find(|entry| entry.name == name);
    let entry = found.ok_or_else(|| ProgramError::NotFound(name.to_owned()))?;
    if !entry.own {
        return Err(ProgramError::NotOwn(entry.name, entry.path));
    }
    fs::remove_file(&entry.path).map_err(|e| ProgramError::Io(entry.path.clone(), e))?;
    files.look_again();
    Ok(entry)
}

/// What a package's file is called is not always what boot loaders ask for: Debian's signed ones end in `.signed`.
fn file_name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(".signed").unwrap_or(&name).to_owned()
}

fn is_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !name.is_empty() && name.len() <= MAX_NAME_LEN && !name.starts_with('.') && name.chars().all(good)
}

/// Where a program of that kind lies, below the root.
fn directory(program: &Program) -> Option<String> {
    match program.kind {
        // Kernels are fetched by name by whoever was told to; they have no neighbours.
        ProgramKind::Kernel | ProgramKind::Pxe => None,
        ProgramKind::Efi => Some(format!("{EFI_DIRECTORY}/{}", efi_directory(program.firmware?)?)),
        ProgramKind::RaspberryPi => Some("raspberrypi".to_owned()),
    }
}

/// What an open file is, and how long.
fn look(file: &mut File, name: &str) -> io::Result<(Result<Program, NoProgram>, u64)> {
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut head = Vec::new();
    io::Read::take(&mut *file, HEAD_LEN as u64).read_to_end(&mut head)?;
    Ok((Program::inspect(name, &head, about.len()), about.len()))
}

/// Copies `source` to `path`, which is at every moment the old file or the whole new one.
fn copy(source: &mut File, path: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let copied = (|| {
        let mut to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&beside)?;
        source.rewind()?;
        // One byte more than is allowed shows a file that grew.
        if io::copy(&mut io::Read::take(&mut *source, MAX_LEN + 1), &mut to)? > MAX_LEN {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        to.flush()?;
        // Whoever the daemon runs as later must be able to read it, whatever the mask is now.
        to.set_permissions(fs::Permissions::from_mode(0o644))?;
        to.sync_all()?;
        fs::rename(&beside, path)
    })();
    if copied.is_err() {
        let _ = fs::remove_file(&beside);
    }
    copied
}

fn entry(
    files: &Files,
    name: String,
    path: PathBuf,
    len: u64,
    program: Option<Program>,
    own: bool,
) -> ProgramEntry {
    let notes = program.as_ref().map(|program| notes(files, &name, program)).unwrap_or_default();
    ProgramEntry { name, program, len, path, own, notes }
}

/// What an admin would want to know before a machine shows it.
fn notes(files: &Files, name: &str, program: &Program) -> Vec<String> {
    let mut notes = Vec::new();
    if program.kind != ProgramKind::Efi {
        return notes;
    }
    let Some((directory, file)) = name.rsplit_once('/') else { return notes };
    let beside = |other: &str| {
        let programs = files.programs().all();
        programs.iter().any(|program| *program == format!("{directory}/{other}"))
    };
    if !program.signed {
        notes.push("not signed: machines with Secure Boot refuse it".to_owned());
    } else if !program.sbat && !file.contains("shim") {
        notes.push("it has no section .sbat: shim refuses it under Secure Boot".to_owned());
    }
    let next = match file {
        "snponly-shim.efi" => Some("snponly.efi"),
        "ipxe-shim.efi" => Some("ipxe.efi"),
        "shimx64.efi" => Some("grubx64.efi"),
        "shimaa64.efi" => Some("grubaa64.efi"),
        "shimia32.efi" => Some("grubia32.efi"),
        _ => None,
    };
    if let Some(next) = next.filter(|next| !beside(next)) {
        notes.push(format!("it loads {next} from beside itself, which is not there yet"));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The head of a PE file for that machine, with a certificate table and `.sbat` if it is said to be signed.
    fn efi(machine: u16, signed: bool) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        bytes[..2].copy_from_slice(b"MZ");
        bytes[0x3c] = 0x80;
        bytes[0x80..0x84].copy_from_slice(b"PE\0\0");
        bytes[0x84..0x86].copy_from_slice(&machine.to_le_bytes());
        bytes[0x86] = 1;
        bytes[0x94] = 240;
        bytes[0x98..0x9a].copy_from_slice(&0x20b_u16.to_le_bytes());
        bytes[0x98 + 68] = 10;
        bytes[0x98 + 108] = 16;
        if signed {
            bytes[0x98 + 112 + 32..0x98 + 112 + 36].copy_from_slice(&2048_u32.to_le_bytes());
            bytes[0x98 + 112 + 36..0x98 + 112 + 40].copy_from_slice(&2048_u32.to_le_bytes());
            bytes[0x98 + 240..0x98 + 245].copy_from_slice(b".sbat");
        }
        bytes
    }

    struct Place {
        directory: tempfile::TempDir,
        files: Files,
    }

    fn place() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let installed = directory.path().join("installed");
        fs::create_dir(&installed).unwrap();
        fs::write(installed.join("ipxe.efi"), efi(0x8664, false)).unwrap();
        let files = Files::find(&directory.path().join("files"), &[installed]);
        Place { directory, files }
    }

    impl Place {
        fn add(&self, file: &str, bytes: &[u8], arch: Option<Firmware>) -> Result<ProgramEntry, String> {
            let path = self.directory.path().join(file);
            fs::write(&path, bytes).unwrap();
            add(&self.files, &path, None, arch).map_err(|e| e.to_string())
        }
    }

    #[test]
    fn programs_go_to_their_architecture_and_are_listed_with_what_they_are() {
        let place = place();
        let shim = place.add("snponly-shim.efi", &efi(0x8664, true), Some(Firmware::UefiX64)).unwrap();
        assert_eq!(shim.name, "efi/x64/snponly-shim.efi");
        assert!(shim.program.as_ref().is_some_and(|program| program.signed && program.sbat));
        assert!(shim.notes[0].contains("loads snponly.efi from beside itself"), "{:?}", shim.notes);
        place.add("snponly.efi.signed", &efi(0x8664, true), None).unwrap();
        let arm = place.add("snponly.efi", &efi(0xaa64, false), None).unwrap();
        assert_eq!(arm.name, "efi/arm64/snponly.efi");
        assert!(arm.notes[0].contains("not signed"), "{:?}", arm.notes);

        let all = list(&place.files);
        let names: Vec<_> = all.iter().map(|entry| (entry.name.as_str(), entry.own)).collect();
        let own = ["efi/arm64/snponly.efi", "efi/x64/snponly-shim.efi", "efi/x64/snponly.efi"];
        assert_eq!(names[..3], own.map(|name| (name, true)));
        assert_eq!(names[3], ("ipxe.efi", false));
        assert!(all[1].notes.is_empty(), "what it loads is there: {:?}", all[1].notes);

        let refused = remove(&place.files, "ipxe.efi").unwrap_err().to_string();
        assert!(refused.contains("a package's"), "{refused}");
        remove(&place.files, "efi/arm64/snponly.efi").unwrap();
        let refused = remove(&place.files, "efi/arm64/snponly.efi").unwrap_err().to_string();
        assert!(refused.contains("there is no boot program"), "{refused}");
        assert_eq!(list(&place.files).len(), 3);
    }

    #[test]
    fn what_is_no_program_is_refused_and_nothing_is_left() {
        let place = place();
        let mut driver = efi(0x8664, false);
        driver[0x98 + 68] = 11;
        let mut cut = efi(0x8664, true);
        cut.truncate(3000);
        for (file, bytes, word) in [
            ("a.efi", b"<html>404</html>".repeat(9), "a web page"),
            ("b.efi", b"\x1f\x8b".repeat(99), "unpack it first"),
            ("c.efi", driver, "EFI driver"),
            ("d.efi", cut, "behind its end"),
            ("e.efi", efi(0x5064, false), "0x5064"),
            ("f.efi", b"MZ".repeat(50), "not where it says"),
            ("g.efi", vec![7; 500], "nothing in it tells"),
            ("h.efi", Vec::new(), "too short"),
            ("i j.efi", efi(0x8664, false), "can't be a boot program's name"),
        ] {
            let why = place.add(file, &bytes, None).unwrap_err();
            assert!(why.contains(word), "{file}: {why}");
        }
        let why = place.add("x.efi", &efi(0xaa64, false), Some(Firmware::UefiX64)).unwrap_err();
        assert!(why.contains("is for UEFI arm64, not for UEFI x64"), "{why}");
        assert!(!place.directory.path().join("files").exists());
        let gone = add(&place.files, Path::new("/absent.efi"), None, None).unwrap_err().to_string();
        assert!(gone.contains("/absent.efi"), "{gone}");
    }

    #[test]
    fn debians_programs_are_what_they_are() {
        for (path, kind, firmware, known_as) in [
            ("/usr/lib/ipxe/undionly.kpxe", ProgramKind::Pxe, None, Some("iPXE")),
            ("/usr/lib/PXELINUX/pxelinux.0", ProgramKind::Pxe, None, Some("PXELINUX")),
            ("/usr/lib/ipxe/ipxe.lkrn", ProgramKind::Kernel, None, None),
            ("/usr/lib/ipxe/snponly.efi", ProgramKind::Efi, Some(Firmware::UefiX64), None),
        ] {
            // Tests of this package run without Debian's boot programs, too.
            let Ok(mut file) = File::open(path) else { continue };
            let program = look(&mut file, path).unwrap().0.unwrap();
            assert_eq!((program.kind, program.firmware, program.signed), (kind, firmware, false), "{path}");
            if known_as.is_some() {
                assert_eq!(program.known_as.as_deref(), known_as, "{path}");
            }
        }
    }
}
