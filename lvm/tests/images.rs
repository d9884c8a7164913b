//! Taking images in: what comes out is the disk that went in, once, read-only, or nothing at all.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, too, may fail a test

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use lvm::images::{self, ImportError, Imported};

const CHUNK: usize = 64 << 10;

struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    fn images(&self) -> PathBuf {
        self.root.path().join("images")
    }

    fn source(&self, bytes: &[u8]) -> PathBuf {
        let path = self.root.path().join("source");
        fs::write(&path, bytes).unwrap();
        path
    }

    fn import(&self, source: &Path) -> Result<Imported, ImportError> {
        images::import(&self.images(), "debian", source, &mut |_, _| true)
    }

    /// The names in the directory of images.
    fn names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.images()) else { return Vec::new() };
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// A disk with data, zeros, a chunk twice, and a last chunk that is short.
fn disk() -> Vec<u8> {
    let chunk = |byte: u8| (0..CHUNK).map(|i| (i as u8).wrapping_mul(byte)).collect::<Vec<_>>();
    [chunk(3), vec![0; 40 * CHUNK], chunk(5), chunk(3), vec![9; 1536]].concat()
}

#[test]
fn a_version_is_the_disk_that_was_taken_in() {
    let place = Place::new();
    let source = place.source(&disk());
    let mut reports = Vec::new();
    let told = &mut |done, total| {
        reports.push((done, total));
        true
    };
    let version = images::import(&place.images(), "debian", &source, told).unwrap();
    assert!(version.made);
    assert_eq!(version.size, disk().len() as u64);
    assert!(fs::read(&version.path).unwrap() == disk());
    assert_eq!(version.path, place.images().join(format!("debian@{}.img", version.version)));
    let meta = version.path.metadata().unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o400);
    assert!(meta.blocks() * 512 < 8 * CHUNK as u64, "zeros take space: {}", meta.blocks() * 512);
    let total = disk().len() as u64;
    assert_eq!((reports[0], *reports.last().unwrap()), ((0, total), (total, total)));
    assert!(reports.is_sorted());
    assert!(fs::read(&source).unwrap() == disk());
}

#[test]
fn a_version_is_named_by_its_content() {
    let place = Place::new();
    let first = place.import(&place.source(&disk())).unwrap();
    let again = place.import(&place.source(&disk())).unwrap();
    assert_eq!(again, Imported { made: false, ..first.clone() });
    assert_eq!(place.names().len(), 2, "{:?}", place.names());
    let mut other = disk();
    other[CHUNK * 20] = 1;
    let other = place.import(&place.source(&other)).unwrap();
    assert_ne!(other.version, first.version);
    // Zeros at the end are content, too, in a file of data and in one of holes.
    let longer = place.import(&place.source(&[disk(), vec![0; 512]].concat())).unwrap();
    assert!(![first.version.clone(), other.version].contains(&longer.version));
    let source = place.source(&disk());
    File::options().write(true).open(&source).unwrap().set_len(longer.size).unwrap();
    assert_eq!(place.import(&source).unwrap().version, longer.version);
    let in_place = images::use_in_place(&place.source(&disk()), &mut |_, _| true).unwrap();
    assert_eq!((in_place.version, in_place.made), (first.version, false));
    assert_eq!(in_place.path, place.root.path().canonicalize().unwrap().join("source"));
}

#[test]
fn holes_are_passed_over() {
    let place = Place::new();
    let source = place.root.path().join("source");
    let file = File::create(&source).unwrap();
    file.set_len(20 << 30).unwrap();
    file.write_all_at(b"boot", 0).unwrap();
    file.write_all_at(b"end", (20 << 30) - 512).unwrap();
    let begin = std::time::Instant::now();
    let version = place.import(&source).unwrap();
    // Reading 20 GiB takes longer.
    assert!(begin.elapsed() < std::time::Duration::from_secs(5), "{:?}", begin.elapsed());
    let copy = File::open(&version.path).unwrap();
    assert_eq!(copy.metadata().unwrap().len(), 20 << 30);
    let mut end = [0; 3];
    copy.read_exact_at(&mut end, (20 << 30) - 512).unwrap();
    assert_eq!(&end, b"end");
    assert!(copy.metadata().unwrap().blocks() < 1024);
}

#[test]
fn what_is_broken_off_leaves_nothing() {
    let place = Place::new();
    let source = place.source(&disk());
    for stop_at in 0..3 {
        let mut reports = 0;
        let result = images::import(&place.images(), "debian", &source, &mut |_, _| {
            reports += 1;
            reports <= stop_at
        });
        assert!(matches!(result, Err(ImportError::BrokenOff)), "{result:?}");
        assert!(place.names().is_empty(), "{:?}", place.names());
    }
}

#[test]
fn what_a_killed_import_left_is_cleaned_up() {
    let place = Place::new();
    assert_eq!(images::clean_up(&place.images()).unwrap(), 0);
    let version = place.import(&place.source(&disk())).unwrap();
    fs::write(place.images().join(".import-99-0.partial"), "half").unwrap();
    fs::write(place.images().join("notes.partial"), "the admin's").unwrap();
    assert_eq!(images::clean_up(&place.images()).unwrap(), 1);
    let left = place.names();
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(version.path.exists() && left.contains(&"notes.partial".to_owned()));
}

#[test]
fn other_formats_are_refused_with_the_command_that_helps() {
    let place = Place::new();
    let vhd = [vec![1; 4096], b"conectix".to_vec(), vec![0; 504]].concat();
    let vdi = [vec![b'<'; 64], b"\x7f\x10\xda\xbe".to_vec(), vec![0; 444]].concat();
    let cases: [(&[u8], &str); 6] = [
        (b"QFI\xfb\0\0\0\x03", "qemu-img convert -f qcow2 -O raw"),
        (b"vhdxfile", "-f vhdx"),
        (&vhd, "-f vpc"),
        (&vdi, "-f vdi"),
        (b"\x1f\x8b\x08\0", "gzip -dc"),
        (b"\x28\xb5\x2f\xfd", "zstd -dc"),
    ];
    for (bytes, remedy) in cases {
        let source = place.source(bytes);
        let error = place.import(&source).unwrap_err();
        assert!(matches!(error, ImportError::Foreign { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(remedy) && text.contains(source.to_str().unwrap()), "{text}");
    }
    assert!(place.names().is_empty());
}

#[test]
fn what_is_no_disk_is_refused() {
    let place = Place::new();
    for len in [0, 511, 513] {
        let error = place.import(&place.source(&vec![7; len])).unwrap_err();
        assert!(matches!(error, ImportError::NotADisk { size, .. } if size == len as u64), "{error}");
    }
    let missing = place.import(Path::new("/nowhere/disk.img")).unwrap_err();
    assert!(missing.to_string().contains("/nowhere/disk.img"), "{missing}");
    assert!(matches!(missing, ImportError::Source { .. }));
    assert!(matches!(place.import(place.root.path()).unwrap_err(), ImportError::Source { .. }));
    let named = images::import(&place.images(), "../debian", &place.source(&disk()), &mut |_, _| true);
    assert!(matches!(named, Err(ImportError::Name(_))));
}

#[test]
fn a_file_that_changes_meanwhile_is_refused() {
    let place = Place::new();
    let source = place.source(&disk());
    for change in [|file: &File| file.write_all_at(b"x", 5), |file: &File| file.set_len(512)] {
        fs::write(&source, disk()).unwrap();
        let file = File::options().write(true).open(&source).unwrap();
        let result = images::import(&place.images(), "debian", &source, &mut |done, _| {
            if done > 0 {
                change(&file).unwrap();
            }
            true
        });
        assert!(matches!(result, Err(ImportError::Changed { .. })), "{result:?}");
        assert!(place.names().is_empty());
    }
}

#[test]
fn a_version_that_can_not_be_written_is_an_error_that_names_the_place() {
    let place = Place::new();
    let source = place.source(&disk());
    fs::write(place.images(), "a file where the directory should be").unwrap();
    let error = place.import(&source).unwrap_err();
    assert!(matches!(&error, ImportError::Target { path, .. } if *path == place.images()), "{error}");
    assert!(error.to_string().contains(place.images().to_str().unwrap()));
}

#[test]
fn a_version_is_removed_with_all_its_files() {
    let place = Place::new();
    let version = place.import(&place.source(&disk())).unwrap();
    assert!(images::remove(&version.path).unwrap());
    assert!(place.names().is_empty(), "{:?}", place.names());
    assert!(!images::remove(&version.path).unwrap());
    let not_a_file = images::remove(place.root.path()).unwrap_err();
    assert_ne!(not_a_file.kind(), io::ErrorKind::NotFound);
}
